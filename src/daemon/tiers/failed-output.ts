// What becomes of a file that stands at the output of a compile which failed in a guest: the compiler here would have left it or removed
// it. UNTRUSTED: the words are the worker's.
import { accessSync, constants, lstatSync } from "node:fs";
import { type ByteString, bytesOf } from "../../base/byte-string.ts";
import { grammarOf } from "../../core/compile/grammar/gnu-grammar.ts";
import type { PreparedCall } from "../call/prepared-call.ts";

/** Files that the failing compile removes; null when only the compiler can tell. */
export function removalsOf(
  { request, compiler }: Pick<PreparedCall, "request" | "compiler">,
  stderr: ByteString,
): readonly ByteString[] | null {
  const { invocation, hostCwd } = request;
  const { output } = invocation;
  const path = output.startsWith("/") ? output : (`${hostCwd}/${output}` as ByteString);
  const stat = lstatSync(bytesOf(path), { throwIfNoEntry: false });
  const what = grammarOf(compiler).failedOutput({ invocation, program: compiler.path, stderr });
  if (what === "stays") return [];
  const folder = (path.slice(0, path.lastIndexOf("/")) || "/") as ByteString;
  if (stat === undefined) return invocation.sideOutputs.length === 0 && mayWrite(folder) ? [] : null;
  // A compiler that may not write it says so, and one that truncates it changes its other names.
  const isPlain = stat.isFile() && stat.nlink === 1 && mayWrite(path) && mayWrite(folder);
  return what === "removed" && isPlain ? [output] : null;
}

function mayWrite(path: ByteString): boolean {
  try {
    accessSync(bytesOf(path), constants.W_OK);
    return true;
  } catch {
    return false;
  }
}
