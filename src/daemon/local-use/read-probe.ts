// Reads what a GNU-style driver says of itself under `-v`: which programs it runs, which folders it searches, which files set it up. Pure.
// UNTRUSTED: any program may have written it; what is not understood is missing, and never guessed.
import type { ByteString } from "../../base/byte-string.ts";
import type { CompilerFamily } from "../../core/compile/grammar/invocation.ts";

export interface CompilerReport {
  readonly family: CompilerFamily;
  /** Programs that it runs for a compile, by path or by a name on PATH, each once. */
  readonly programs: readonly ByteString[];
  /** Folders of `#include`, those that do not exist too; as spelled, in the order of the report. */
  readonly folders: readonly ByteString[];
  /** Spec and configuration files that it read. */
  readonly setUpBy: readonly ByteString[];
  /** Lists of what not to check, which Clang's sanitizers have of their own. */
  readonly checkLists: readonly ByteString[];
  /** GCC's own word for how it was called; null for Clang. */
  readonly calledAs: ByteString | null;
  /** What it compiles for, as it spells it. */
  readonly target: string | null;
  /** Root and folder of its own files, of which Clang tells its compiler; null when it does not. */
  readonly sysroot: ByteString | null;
  readonly resources: ByteString | null;
}

const LINES_MAX = 10_000;
const IGNORED = /^ignoring nonexistent directory "(.*)"$/;
const READS = /^(?:Reading specs from |Configuration file: )(.*)$/;
const TARGET = /^Target: (.*)$/;
const CALLED = /^COLLECT_GCC=(.*)$/;
const LIST_BEGINS = /^#include [<"]\.\.\.[>"] search starts here:$/;
const LIST_ENDS = "End of search list.";
const LIST = /^-fsanitize-system-(?:ignore|black)list=(.+)$/;
/** Clang says so where it needs no further process. */
const IN_PROCESS = "(in-process)";

/** Clang seeks names beside the includers of their includers then, as its own name may ask it to. */
const SEEKS_ABOVE = / "?-fms-compatibility"? /;

/** Null when the words are those of neither GCC nor Clang, or of one that seeks names where no other does. */
export function readReport(text: ByteString): CompilerReport | null {
  const programs = new Set<ByteString>();
  const folders = new Set<ByteString>();
  const setUpBy = new Set<ByteString>();
  const checkLists = new Set<ByteString>();
  let calledAs: ByteString | null = null;
  let target: string | null = null;
  let family: CompilerFamily | null = null;
  let sysroot: ByteString | null = null;
  let resources: ByteString | null = null;
  let inList = false;
  for (const line of text.split("\n", LINES_MAX)) {
    if (LIST_BEGINS.test(line)) inList = true;
    else if (line === LIST_ENDS) inList = false;
    else if (inList && line.startsWith(" ")) folders.add(line.slice(1) as ByteString);
    else if (line.startsWith(" ")) {
      if (SEEKS_ABOVE.test(line)) return null;
      const program = programOf(line.slice(1));
      if (program !== null) programs.add(program);
      const words = wordsOf(line);
      sysroot ??= after(words, "-isysroot");
      resources ??= after(words, "-resource-dir");
      for (const list of words.flatMap((word) => LIST.exec(word)?.[1] ?? [])) checkLists.add(list as ByteString);
    } else if (line.startsWith("gcc version ")) family ??= "gcc";
    else if (/^(?:[A-Za-z]+ )?clang version /.test(line)) family ??= "clang";
    else {
      const ignored = IGNORED.exec(line)?.[1];
      const reads = READS.exec(line)?.[1];
      if (ignored !== undefined) folders.add(ignored as ByteString);
      if (reads !== undefined) setUpBy.add(reads as ByteString);
      target ??= TARGET.exec(line)?.[1] ?? null;
      calledAs ??= (CALLED.exec(line)?.[1] as ByteString | undefined) ?? null;
    }
  }
  if (family === null || programs.size === 0) return null;
  const lists = { programs: [...programs], folders: [...folders], setUpBy: [...setUpBy], checkLists: [...checkLists] };
  return { family, ...lists, calledAs, target, sysroot, resources };
}

/** The words of a command, with their quotes undone. */
function wordsOf(line: string): string[] {
  return Array.from(line.matchAll(/ (?:"((?:[^"\\]|\\.)*)"|([^ "]+))(?= |$)/g), ([, quoted, plain]) =>
    quoted === undefined ? plain! : quoted.replace(/\\(.)/g, "$1"),
  );
}

function after(words: readonly string[], option: string): ByteString | null {
  const at = words.indexOf(option);
  return at < 0 ? null : ((words[at + 1] ?? null) as ByteString | null);
}

/** The first word of a command, with its quotes undone. */
function programOf(command: string): ByteString | null {
  if (command === IN_PROCESS || command === "") return null;
  const quoted = /^"((?:[^"\\]|\\.)*)"(?: |$)/.exec(command)?.[1];
  if (quoted !== undefined) return quoted.replace(/\\(.)/g, "$1") as ByteString;
  const plain = /^[^ "]+/.exec(command)?.[0];
  return plain === undefined ? null : (plain as ByteString);
}

const LOADED = /^\t(?:[^ ]+ => )?(\/[^ ]+(?: [^ (][^ ]*)*) \(0x[0-9a-f]+\)$/;

/** Libraries that the system's loader says it loads for a program. */
export function readLoaded(text: ByteString): ByteString[] {
  return text.split("\n", LINES_MAX).flatMap((line) => (LOADED.exec(line)?.[1] as ByteString | undefined) ?? []);
}
