// A header of an image without what no list of files can depend on: its directives alone, each on its own line. Whoever lists the files of a
// call by such headers must look afterwards whether code could have mattered (`src/daemon/files-form/listing-basis.ts`). Errs towards
// keeping: a header in which anything is in doubt is not stripped. Pure. UNTRUSTED: the text is an image's, and the time is linear in its size.
import { numberedDirectives } from "./directive-lines.ts";
import { BACKSLASH, isBlank, NEWLINE } from "./source-bytes.ts";

/** Changes whenever another text is made of some header. */
export const STRIPPED_VERSION = 1;

/** Characters that compilers do not agree on, and trigraphs. */
const ODD = ["\0", "\r", "\x1a", "??"];
/** What a line of code begins with that names a module, in whatever state it stands: each is a directive of its own kind. */
const MODULE_LINE = /^[ \t\v\f]*(?:import|export|module)\b/m;

/**
 * `mark` tells contents apart: headers of the same directives must not become the same, as GCC takes equal files for one under `#pragma once`
 * and `#import`. A text of letters and digits. Null for a header that must stay as it is.
 */
export function strippedHeader(bytes: Buffer, mark: string): Buffer | null {
  if (bytes.length === 0 || ODD.some((word) => bytes.includes(word))) return null;
  const lastEnd = bytes.at(-1) === NEWLINE ? bytes.length - 1 : bytes.length;
  if (isContinued(bytes, lastEnd)) return null;
  // Where `//` were no comment, as in C90, the directives would have to be the same.
  const directives = numberedDirectives(bytes, { lineComments: false });
  if (directives === null || MODULE_LINE.test(bytes.toString("latin1"))) return null;
  return linesKept(
    bytes,
    directives.map(({ before }) => before),
    Buffer.from(lastEnd < bytes.length ? `/*${mark}*/\n` : `\n/*${mark}*/\n`),
  );
}

/** Some lines of a text as they stand, the others empty, and an end. `kept` are places among lines of which each is counted with its continuation. */
function linesKept(bytes: Buffer, kept: readonly number[], end: Buffer): Buffer {
  const out = Buffer.allocUnsafe(bytes.length + end.length);
  let to = 0;
  let line = 0;
  let next = 0;
  for (let start = 0; start < bytes.length; ) {
    const newline = bytes.indexOf(NEWLINE, start);
    const stop = newline < 0 ? bytes.length : newline + 1;
    if (kept[next] === line) to += bytes.copy(out, to, start, stop);
    else if (newline >= 0) to = out.writeUInt8(NEWLINE, to);
    start = stop;
    if (newline < 0 || isContinued(bytes, newline)) continue;
    if (kept[next] === line) next += 1;
    line += 1;
  }
  return Buffer.concat([out.subarray(0, to), end]);
}

/** Whether the line that ends at a line feed goes on in the next one. */
function isContinued(bytes: Buffer, newline: number): boolean {
  let at = newline - 1;
  while (at >= 0 && bytes[at] !== NEWLINE && isBlank(bytes[at]!)) at -= 1;
  return bytes[at] === BACKSLASH;
}
