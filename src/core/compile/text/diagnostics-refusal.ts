// What the second step says that one step would have said otherwise. Pure. UNTRUSTED: the text comes from a guest.
import type { ByteString } from "../../../base/byte-string.ts";
import type { BypassReason } from "../bypass-reasons.ts";
import type { GnuInvocation } from "../grammar/invocation.ts";

/** Why the second step's words must not be shown, so that the local compiler has the last word; null when they may. */
export function diagnosticsRefusal(invocation: GnuInvocation, stderr: ByteString): BypassReason | null {
  if (stderr === "") return null;
  // Clang has no line for an empty translation unit.
  if (invocation.family === "clang") return /:0:\d+: /.test(stderr) ? "unfaithful_diagnostics" : null;
  // GCC points into a format string only in a file without linemarkers; without option names any warning may be of that kind.
  const named = !invocation.arguments.some(({ words }) => words[0] === "-fno-diagnostics-show-option");
  if (/\[-W(?:error=)?format/.test(stderr) || (!named && /format|directive/.test(stderr)))
    return "unfaithful_diagnostics";
  // In one step a predefined macro has no place of its own, so that GCC names the place where it is used.
  const placed = (line: string) => line.lastIndexOf("<built-in>") > line.lastIndexOf("declared here");
  if (stderr.split("\n").some(placed)) return "unfaithful_diagnostics";
  return null;
}
