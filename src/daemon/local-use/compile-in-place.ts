// Runs the caller's own command as the launcher's child, where and as the caller would: the compiler writes its outputs itself. Asks it for the
// list of files that it reads, where the call does not. UNTRUSTED: the lists name a checkout's files.
import { readFile } from "node:fs/promises";
import { ascii, type ByteString, byteStringOf, bytesOf } from "../../base/byte-string.ts";
import { grammarOf } from "../../core/compile/grammar/gnu-grammar.ts";
import type { DependencyRequest, GnuInvocation } from "../../core/compile/grammar/invocation.ts";
import { readDependencies } from "../../core/compile/view/dependency-file.ts";
import type { RunMessage } from "../../wire/launcher/messages.ts";
import { bypass, next, type Stage } from "../call/stage.ts";
import type { LauncherCall } from "../control/launcher-connection.ts";

export interface CompiledInPlace {
  readonly exitCode: number;
  readonly stdout: Uint8Array;
  readonly stderr: Uint8Array;
}

/** The caller's command as it is run. */
export type Command = Pick<RunMessage, "program" | "argv" | "environment" | "namespace">;

interface Compile {
  readonly invocation: GnuInvocation;
  /** An empty folder of the call's own. */
  readonly folder: ByteString;
  readonly command: Command;
}

const LIST_BYTES_MAX = 16 * 1024 * 1024;
const LISTED = ascii("listed");
const UNASKED: DependencyRequest = {
  kind: "MD",
  file: LISTED,
  targets: [{ text: LISTED, quoted: false }],
  phony: false,
};

/** Whether the compiler can list what it reads: it does so as it preprocesses. */
function lists({ language }: GnuInvocation): boolean {
  return language === "c" || language === "c++" || language === "assembler-with-cpp";
}

function ownList(folder: ByteString): ByteString {
  return `${folder}/listed.d` as ByteString;
}

function assemblersList(folder: ByteString): ByteString {
  return `${folder}/assembled.d` as ByteString;
}

/** Objects for link-time optimization, and what is to run on another device, hold the options, those for the assembler, too. */
const RECORDS = /^-f(?:lto|openmp$|openacc)/;

/** Whether an assembler of its own makes the object: it lists what it reads, which no text need show. */
function isAssembled({ family, produce, arguments: words }: GnuInvocation): boolean {
  const isRecorded = words.some(({ words: [word = ""] }) => RECORDS.test(word));
  return produce === "object" && !isRecorded && grammarOf({ family }).habits.assemblerLists;
}

/**
 * Compiles; speaks to a terminal of its own where the caller's standard error is one. A bypass when the
 * compiler did not end by itself, so that nothing can be told of it.
 */
export async function compileInPlace(
  call: LauncherCall,
  { invocation, folder, command }: Compile,
): Promise<Stage<CompiledInPlace>> {
  const { program, argv, environment, namespace } = command;
  const asks = lists(invocation) && invocation.dependencies === null;
  const added = asks ? [ascii("-MD"), ascii("-MF"), ownList(folder), ascii("-MT"), LISTED] : [];
  if (isAssembled(invocation))
    for (const word of [ascii("--MD"), assemblersList(folder)]) added.push(ascii("-Xassembler"), word);
  const words = { stdout: `${folder}/stdout` as ByteString, stderr: `${folder}/stderr` as ByteString };
  const { outcome } = await call.run({
    program,
    argv: [argv[0]!, ...added, ...argv.slice(1)],
    environment,
    cwd: call.message.cwd,
    namespace,
    stdin: "inherit",
    stdout: { kind: "file", path: words.stdout },
    stderr: { kind: call.message.terminal.stderr ? "terminal" : "file", path: words.stderr },
    timeLimitMs: null,
  });
  if (outcome.kind !== "exited") {
    const noTerminal = call.message.terminal.stderr && outcome.kind === "failed" && outcome.failure === "capture";
    return bypass(noTerminal ? "terminal_diagnostics" : "compile_failed");
  }
  const [stdout, stderr] = await Promise.all([words.stdout, words.stderr].map((file) => readFile(bytesOf(file))));
  return next({ exitCode: outcome.code, stdout: stdout!, stderr: stderr! });
}

/** Names of the files that a compile in place has read, the source first. */
export async function listedNames(
  { cwd }: { readonly cwd: ByteString },
  invocation: GnuInvocation,
  folder: ByteString,
): Promise<Stage<readonly ByteString[]>> {
  if (!lists(invocation)) return next([invocation.source]);
  const asked = invocation.dependencies;
  const file = asked === null ? ownList(folder) : asked.file.startsWith("/") ? asked.file : `${cwd}/${asked.file}`;
  const bytes = await readFile(bytesOf(file as ByteString));
  const listed =
    bytes.length > LIST_BYTES_MAX ? null : readDependencies(byteStringOf(bytes), asked ?? UNASKED, invocation.family);
  return listed === null ? bypass("unsupported_dependency_file") : next([invocation.source, ...listed.names]);
}

/** Names of files that an assembler of its own has read; none where the compiler assembles by itself. */
export async function assembledNames(invocation: GnuInvocation, folder: ByteString): Promise<readonly ByteString[]> {
  if (!isAssembled(invocation)) return [];
  const bytes = await readFile(bytesOf(assemblersList(folder)));
  const listed = bytes.length > LIST_BYTES_MAX ? null : byteStringOf(bytes);
  // The list of one file is the rule's target alone, and one of many goes on over lines.
  const names = listed?.replaceAll("\\\n", " ").split(/(?<!\\)\s+/) ?? [];
  return names.slice(1).flatMap((name) => (name === "" ? [] : [name.replaceAll("\\ ", " ") as ByteString]));
}
