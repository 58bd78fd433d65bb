// The lines of an original file, indexed once per file object. Pure.
// UNTRUSTED: the file is a checkout's.
import { byteStringOf } from "../../base/byte-string.ts";

/** A `#line 12 "file"` (or `# 12 "file"`) found in a file, whether it is active or not. */
export interface LineDirective {
  /** Number of the physical line that holds it. */
  readonly at: number;
}

/** A pragma that GCC 12 loses, or worse, when it writes directives-only text. */
export interface FragilePragma {
  readonly at: number;
  /** True when it is one only under OpenMP. */
  readonly openMp: boolean;
}

const LINE_DIRECTIVE = /^[ \t\f\v]*(?:#|%:|\?\?=)[ \t]*(?:line\b|\d)/gm;
const FRAGILE_PRAGMA = /^[ \t\f\v]*#[ \t]*pragma[ \t]+(message|redefine_extname|scalar_storage_order|omp)\b/gm;

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
    this.#lineDirectives ??= this.#find(LINE_DIRECTIVE).map(({ at }) => ({ at }));
    return this.#lineDirectives;
  }

  /** The file's fragile pragmas, in order, inactive ones among them. */
  get fragilePragmas(): readonly FragilePragma[] {
    this.#fragilePragmas ??= this.#find(FRAGILE_PRAGMA).map(({ at, word }) => ({ at, openMp: word === "omp" }));
    return this.#fragilePragmas;
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
