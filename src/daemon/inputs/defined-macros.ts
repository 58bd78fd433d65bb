// The macros that a command line defines: what they stand for counts as much as what the texts say.
import { type ByteString, bytesOf } from "../../base/byte-string.ts";
import type { GnuInvocation } from "../../core/compile/grammar/invocation.ts";
import { type SourceScan, scanSource } from "../../core/compile/view/source-scan.ts";
import type { TestMacro } from "../../core/compile/view/test-macros.ts";

/** Options that define macros, or may hand a definition on. */
const DEFINES = /^-(?:D|Wp,|Xpreprocessor|Xclang)$/;

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
