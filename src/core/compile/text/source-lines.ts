// The lines of an original file, indexed once per file object. Pure.
// UNTRUSTED: the file is a checkout's.
import { byteStringOf } from "../../../base/byte-string.ts";
import { readDirective } from "./directive-spelling.ts";

/** A `#line 12 "file"` (or `# 12 "file"`) found in a file, whether it is active or not. */
export interface LineDirective {
  /** Number of the physical line that holds it. */
  readonly at: number;
  /** The line that it gives to the next one; null when a macro says. */
  readonly line: number | null;
  /** The name that it gives; null when it leaves the name, "?" when a macro or an escape says. */
  readonly file: string | null;
}

/** A pragma that GCC 12 loses, or worse, when it writes directives-only text. */
export interface FragilePragma {
  readonly at: number;
  /** True when it is one only under OpenMP. */
  readonly openMp: boolean;
}

const LINE_DIRECTIVE = /^[ \t\f\v]*(?:#|%:|\?\?=)[ \t]*(?:line\b|\d)/gm;
const FRAGILE_PRAGMA = /^[ \t\f\v]*#[ \t]*pragma[ \t]+(message|redefine_extname|scalar_storage_order|omp)\b/gm;

const LINE_OPERANDS = /^\s*#\s*(?:line\s+)?(\d+)(?:\s+"((?:[^"\\]|\\.)*)")?/s;
const UNKNOWN_FILE = "?";

/** Index of the first element whose line is `line` or a later one. */
function firstFrom(found: readonly { readonly at: number }[], line: number): number {
  let low = 0;
  let high = found.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (found[middle]!.at < line) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** A file's text by line number, the first line being 1. */
export class SourceLines {
  readonly text: string;
  /** Offset of each line's first byte, and one past the end for the last. */
  readonly #starts: Uint32Array;
  readonly count: number;
  #lineDirectives: readonly LineDirective[] | undefined;
  #fragilePragmas: readonly FragilePragma[] | undefined;

  private constructor(bytes: Uint8Array) {
    this.text = byteStringOf(bytes);
    const starts: number[] = [0];
    for (let at = this.text.indexOf("\n"); at >= 0; at = this.text.indexOf("\n", at + 1)) starts.push(at + 1);
    if (starts.at(-1) === this.text.length) starts.pop();
    this.count = starts.length;
    this.#starts = Uint32Array.from(starts);
  }

  static readonly #known = new WeakMap<Uint8Array, SourceLines>();

  /** The index of a file; the same object gives the same index. */
  static of(bytes: Uint8Array): SourceLines {
    let lines = SourceLines.#known.get(bytes);
    if (lines === undefined) {
      lines = new SourceLines(bytes);
      SourceLines.#known.set(bytes, lines);
    }
    return lines;
  }

  /** Offset of the line's first byte; -1 when there is no such line. */
  start(line: number): number {
    return line >= 1 && line <= this.count ? this.#starts[line - 1]! : -1;
  }

  /** Offset just after the line's last byte, its line end not counted. */
  end(line: number): number {
    if (line < this.count) return this.#starts[line]! - 1;
    return this.text.endsWith("\n") ? this.text.length - 1 : this.text.length;
  }

  /** The line without its line end; null when there is no such line. */
  line(line: number): string | null {
    const start = this.start(line);
    return start < 0 ? null : this.text.slice(start, this.end(line));
  }

  /** The file's line directives, in order, inactive ones among them. */
  get lineDirectives(): readonly LineDirective[] {
    this.#lineDirectives ??= this.#find(LINE_DIRECTIVE).map(({ at }) => this.#lineDirective(at));
    return this.#lineDirectives;
  }

  #lineDirective(at: number): LineDirective {
    const spelled = readDirective(this.text, this.start(at))?.spelled ?? "";
    const operands = LINE_OPERANDS.exec(spelled);
    if (operands === null) return { at, line: null, file: UNKNOWN_FILE };
    const file = operands[2] ?? null;
    return { at, line: Number(operands[1]), file: file?.includes("\\") === true ? UNKNOWN_FILE : file };
  }

  /** The file's fragile pragmas, in order, inactive ones among them. */
  get fragilePragmas(): readonly FragilePragma[] {
    this.#fragilePragmas ??= this.#find(FRAGILE_PRAGMA).map(({ at, word }) => ({ at, openMp: word === "omp" }));
    return this.#fragilePragmas;
  }

  /** The first line directive at `line` or later that may have made a marker of this line and name; null when none is. */
  lineDirectiveFrom(
    line: number,
    made: { readonly line: number; readonly file: string },
    current: string,
  ): LineDirective | null {
    const all = this.lineDirectives;
    for (let index = firstFrom(all, line); index < all.length; index += 1) {
      const directive = all[index]!;
      if (directive.line !== null && directive.line !== made.line) continue;
      if (directive.file === UNKNOWN_FILE || (directive.file ?? current) === made.file) return directive;
    }
    return null;
  }

  /** True when a pragma that the text may lack stands on lines `from` to before `to`. */
  hasFragilePragma(from: number, to: number, openMp: boolean): boolean {
    const all = this.fragilePragmas;
    for (let index = firstFrom(all, from); index < all.length && all[index]!.at < to; index += 1)
      if (openMp || !all[index]!.openMp) return true;
    return false;
  }

  #find(pattern: RegExp): { at: number; word: string | undefined }[] {
    const found: { at: number; word: string | undefined }[] = [];
    let line = 1;
    for (const match of this.text.matchAll(pattern)) {
      while (line < this.count && this.#starts[line]! <= match.index) line += 1;
      found.push({ at: line, word: match[1] });
    }
    return found;
  }
}
