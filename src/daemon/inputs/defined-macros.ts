// What a command line says of its texts: macros, which count as much as those of the texts, and how their bytes are to be read.
import { type ByteString, bytesOf, displayText } from "../../base/byte-string.ts";
import type { GnuInvocation } from "../../core/compile/grammar/invocation.ts";
import { type SourceScan, scanSource } from "../../core/compile/view/source-scan.ts";
import type { TestMacro } from "../../core/compile/view/test-macros.ts";

/** Options that define macros, or may hand a definition on. */
const DEFINES = /^-(?:D|Wp,|Xpreprocessor|Xclang)$/;

/** Character sets in which a byte of ASCII is never anything else. */
const LIKE_ASCII =
  /^(?:utf-?8|(?:us-?)?ascii|iso[-_]?8859-?\d{1,2}|latin-?\d{1,2}|(?:cp|windows-)125\d|cp8\d\d|koi8-\w{1,2}|euc-?\w{2}|gb2312)$/i;

type Words = Pick<GnuInvocation, "arguments">;

/** What a scan of the definitions finds. */
export function definedMacros(call: Words): SourceScan {
  return scanSource(definitionsOf(call), "c");
}

/** Whether a definition uses a macro that stands for `__has_include`, or may be a part of its name. */
export function isUsedBy(macro: TestMacro, call: Words): boolean {
  return macro.read(definitionsOf(call))?.length !== 0;
}

function definitionsOf({ arguments: words }: Words): Buffer {
  const macros = words.flatMap(({ option, words: own }) => (DEFINES.test(option) ? own : []));
  return bytesOf(`#define ${macros.join("\n#define ")}` as ByteString);
}

/** Whether the texts are written in signs that a scan of their bytes does not see. */
export function hidesText({ arguments: words }: Words): boolean {
  return words.some(
    ({ option, value }) => option === "-finput-charset=" && value !== null && !LIKE_ASCII.test(displayText(value)),
  );
}

/** Words to the assembler that ask for a listing with the lines of the source: `-ah`, and `-a` alone. */
const LISTS_SOURCES = /(?:^|,)-a(?:[cdgilmns]*h|$|[,=])/;
/** Directives that name a source to an assembler, as texts or literals hold them; members of structures are called so, too. */
const NAMES_SOURCE = /\.(?:file(?:[ \t]["\d\\ \t]|["\\])|stab[dns]|linefile)/;

/** Whether an assembler quotes the files that texts name to it. */
export function listsSources({ arguments: words }: Words): boolean {
  return words.some(
    ({ option, value }) =>
      (option === "-Wa," || option === "-Xassembler") && value !== null && LISTS_SOURCES.test(value),
  );
}

/** Whether a text may name a source to an assembler. */
export function namesSource(text: Buffer): boolean {
  const may = [".file", ".stab", ".linefile"].some((directive) => text.includes(directive));
  return may && NAMES_SOURCE.test(text.toString("latin1"));
}
