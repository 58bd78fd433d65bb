// Collects which lines of which files a compiler may quote in diagnostics, and makes files that hold just those, each at its
// number. Pure. Must not know how the lines were found.
import { type ByteString, bytesOf } from "../../../base/byte-string.ts";
import type { GuestFile } from "../view/guest-file.ts";
import type { SourceLines } from "./source-lines.ts";

const NEWLINE = 0x0a;

interface Quoted {
  readonly lines: SourceLines;
  /** One byte per line; non-zero when the line is quotable. */
  readonly active: Uint8Array;
}

export class QuoteFiles {
  readonly #files = new Map<ByteString, Quoted>();

  /** Makes lines `from` to `to` (inclusive) of a file quotable; lines that the file lacks are ignored. */
  add(path: ByteString, lines: SourceLines, from: number, to = from): void {
    let file = this.#files.get(path);
    if (file === undefined) {
      file = { lines, active: new Uint8Array(lines.count + 1) };
      this.#files.set(path, file);
    }
    file.active.fill(1, Math.max(from, 1), Math.min(to, lines.count) + 1);
  }

  /** The files, sorted by path. A line that is not quotable is empty; lines after the last quotable one are left out. */
  files(): GuestFile[] {
    return [...this.#files]
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([path, file]) => ({ path, bytes: rebuild(file) }));
  }
}

function rebuild({ lines, active }: Quoted): Uint8Array {
  const last = active.lastIndexOf(1);
  if (last <= 0) return new Uint8Array(0);
  const pieces: string[] = [];
  let line = 1;
  while (line <= last) {
    let to = line;
    const on = active[line] === 1;
    while (to < last && (active[to + 1] === 1) === on) to += 1;
    pieces.push(on ? lines.text.slice(lines.start(line), lines.end(to)) : "\n".repeat(to - line), "\n");
    line = to + 1;
  }
  // The original's missing last line end is quoted alike, but kept for equality with a file that was read whole.
  if (last === lines.count && lines.text.charCodeAt(lines.text.length - 1) !== NEWLINE) pieces.pop();
  return bytesOf(pieces.join("") as ByteString);
}
