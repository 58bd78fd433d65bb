// GCC's directives-only text made faithful: GCC writes directives anew, which moves columns, so the original spelling is put
// back where it means the same; and what the compiler may quote is collected, line by line. Pure.
// Must not know the command line. UNTRUSTED: text and files are a checkout's.
import { type ByteString, bytesOf } from "../../../base/byte-string.ts";
import type { BypassReason } from "../bypass-reasons.ts";
import type { GuestFile } from "../view/guest-file.ts";
import { isSent } from "../view/view.ts";
import { readDirective, sameTokens, skipByteOrderMark } from "./directive-spelling.ts";
import { isPseudoFile, type Linemarker, parseLinemarker, type ResolvedPath, resolvePath } from "./linemarkers.ts";
import { QuoteFiles } from "./quote-files.ts";
import { SourceLines } from "./source-lines.ts";
import { TextScanner } from "./text-scanner.ts";

/** Includes nested deeper than this are refused; compilers stop at 200. */
const INCLUDE_DEPTH_MAX = 1024;

export interface DirectivesOnlyRequest {
  /** Working directory of both steps, absolute in the view. */
  readonly cwd: ByteString;
  /** The source as the first step's argv names it. */
  readonly source: ByteString;
  /** Folders that stand at other paths in the view: a `#line` that names a file below one means a file that is not there. */
  readonly hostRoots?: readonly ByteString[];
  readFile(path: ByteString): Uint8Array | null;
}

export type DirectivesOnlyResult =
  | {
      readonly kind: "restored";
      readonly text: Uint8Array;
      readonly quotes: readonly GuestFile[];
      readonly folders: readonly ByteString[];
      readonly reads: readonly ByteString[];
    }
  | { readonly kind: "refused"; readonly reason: BypassReason; readonly detail: ByteString };

/** A file that the text came from. */
interface Origin {
  readonly path: ByteString;
  /** Null when there is no such file, as for `<built-in>` or a name that only a `#line` gave. */
  readonly lines: SourceLines | null;
  /** True below the project's root or an extra root: sent for quoting, and checked line by line. */
  readonly sent: boolean;
}

/** Where the text stands in one file of the include stack. */
interface Place {
  readonly origin: Origin;
  /** Line of `origin` that the next line of text stands for. */
  line: number;
  /** Name and line that a diagnostic would give it: others after a `#line`. */
  saidName: ByteString;
  said: Origin;
  saidLine: number;
}

class Refusal {
  readonly reason: BypassReason;
  readonly detail: ByteString;
  constructor(reason: BypassReason, detail: string) {
    this.reason = reason;
    this.detail = detail as ByteString;
  }
}

/** Puts original directives back and collects what can be quoted, or refuses with a counted reason. */
export function restoreDirectives(text: ByteString, request: DirectivesOnlyRequest): DirectivesOnlyResult {
  const walk = new Walk(text, request);
  const refusal = walk.run();
  if (refusal !== null) return { kind: "refused", reason: refusal.reason, detail: refusal.detail };
  return { kind: "restored", ...walk.result() };
}

/** Pragmas whose effect is in the text once the first step carried them out. */
const DONE_PRAGMAS: ReadonlySet<string> = new Set(["once", "GCC system_header", "GCC dependency"]);
/** Pragmas that the first step carries out and takes away, and that the second must carry out as well. */
const AGAIN_PRAGMAS: ReadonlySet<string> = new Set(["push_macro", "pop_macro", "GCC poison"]);
/** In one step these change predefined macros (`__AVX2__`, `__OPTIMIZE__`) for the conditions below them; the first step does not know. */
const MACRO_PRAGMA = /^\s*#\s*pragma\s+GCC\s+(?:target|optimize|push_options|pop_options|reset_options)\b/;
const MACRO_PRAGMA_OPERATOR = /_Pragma\s*\(\s*L?"\s*GCC\s+(?:target|optimize|push_options|pop_options|reset_options)\b/;
const MACRO_PRAGMA_FOUND = "a pragma that changes predefined macros";
const FRAGILE = "a pragma that the compiler may lose in this mode";

const NOWHERE: Origin = { path: "" as ByteString, lines: null, sent: false };

class Walk {
  readonly #request: DirectivesOnlyRequest;
  readonly #text: string;
  readonly #scanner: TextScanner;
  readonly #quotes = new QuoteFiles();
  readonly #origins = new Map<ByteString, Origin>();
  readonly #passed = new Set<ByteString>();
  readonly #pieces: string[] = [];
  #copied = 0;
  readonly #stack: Place[];
  #place: Place;
  /** False in the preamble: predefined macros and those of the command line. */
  #started = false;
  #seenCommandLine = false;
  readonly #openMp: boolean;
  /** Line of the last restored `pop_macro`, after which GCC writes its effect once more, wrongly. */
  #popped = -1;
  #undoing = false;
  /** Blank lines of the text that restored continuation lines have taken the place of. */
  #spare = 0;

  constructor(text: ByteString, request: DirectivesOnlyRequest) {
    this.#request = request;
    this.#text = text;
    const preamble = preambleOf(this.#text);
    this.#openMp = /^#define _OPENMP /m.test(preamble);
    this.#scanner = new TextScanner(this.#text, dialectOf(preamble));
    this.#place = { origin: NOWHERE, line: 1, saidName: "" as ByteString, said: NOWHERE, saidLine: 1 };
    this.#stack = [this.#place];
  }

  run(): Refusal | null {
    const scanner = this.#scanner;
    if (this.#text.includes("_Pragma") && MACRO_PRAGMA_OPERATOR.test(this.#text))
      return new Refusal("unfaithful_preprocessing", MACRO_PRAGMA_FOUND);
    while (scanner.advance()) {
      const refusal = scanner.blank ? this.#blankLine() : scanner.hash ? this.#hashLine() : this.#codeLine();
      if (refusal !== null) return refusal;
    }
    if (!this.#started) return new Refusal("unfaithful_preprocessing", "no linemarker names the source");
    if (this.#stack.length !== 1) return this.#refuse("unfaithful_preprocessing", "linemarkers do not nest");
    if (this.#isFragile(this.#place.line, Number.POSITIVE_INFINITY))
      return this.#refuse("unfaithful_preprocessing", FRAGILE);
    return null;
  }

  result(): {
    text: Uint8Array;
    quotes: readonly GuestFile[];
    folders: readonly ByteString[];
    reads: readonly ByteString[];
  } {
    this.#pieces.push(this.#text.slice(this.#copied));
    const reads = [...this.#origins.values()].filter((origin) => origin.sent && origin.lines !== null);
    return {
      text: bytesOf(this.#pieces.join("") as ByteString),
      quotes: this.#quotes.files(),
      folders: [...this.#passed].sort(),
      reads: reads.map((origin) => origin.path).sort(),
    };
  }

  #step(): void {
    this.#place.line += 1;
    this.#place.saidLine += 1;
  }

  #blankLine(): Refusal | null {
    const scanner = this.#scanner;
    const place = this.#place;
    scanner.skip();
    if (this.#spare > 0) {
      this.#spare -= 1;
      this.#replace("", 1);
    } else {
      if (scanner.end > scanner.start) {
        const refusal = this.#executedPragma();
        if (refusal !== null) return refusal;
      }
      if (this.#isFragile(place.line, place.line + 1)) return this.#refuse("unfaithful_preprocessing", FRAGILE);
      if (place.origin.sent && scanner.open) this.#quote(place, place.line);
    }
    this.#step();
    return null;
  }

  /** A line of spaces: so GCC leaves a pragma that it carried out, though some must be carried out again. */
  #executedPragma(): Refusal | null {
    const { origin, line } = this.#place;
    if (origin === NOWHERE) return null;
    const start = origin.lines?.start(line) ?? -1;
    if (origin.lines === null || start < 0)
      return this.#refuse("modified_input_file", "it has fewer lines than the text");
    const directive = readDirective(origin.lines.text, skipByteOrderMark(origin.lines.text, start));
    if (directive === null) return null;
    const pragma = /^\s*#\s*pragma\s+((?:GCC\s+)?\w+)/.exec(directive.spelled)?.[1]?.replace(/\s+/, " ");
    if (pragma === undefined || DONE_PRAGMAS.has(pragma)) return null;
    if (!AGAIN_PRAGMAS.has(pragma))
      return this.#refuse("unfaithful_preprocessing", "an unknown pragma was carried out");
    this.#putBack(origin.lines, directive.end);
    if (pragma === "pop_macro") this.#popped = line;
    return null;
  }

  /** True when the text lacks a pragma, of lines `from` to before `to`, that GCC loses in this mode. */
  #isFragile(from: number, to: number): boolean {
    return this.#place.origin.lines?.hasFragilePragma(from, to, this.#openMp) === true;
  }

  #codeLine(): Refusal | null {
    const scanner = this.#scanner;
    scanner.scan();
    const place = this.#place;
    const { origin } = place;
    if (this.#spare > 0) return this.#refuse("unfaithful_preprocessing", "text follows a directive's continuation");
    if (origin.sent) {
      if (origin.lines === null || !sameLine(this.#text, scanner, origin.lines, place.line)) {
        if (this.#isFragile(0, Number.POSITIVE_INFINITY)) return this.#refuse("unfaithful_preprocessing", FRAGILE);
        const own = origin.lines?.line(place.line) ?? "";
        const comment = own.indexOf("*/");
        if (comment >= 0 && own.includes("#", comment))
          return this.#refuse("unfaithful_preprocessing", "a directive after a comment");
        return this.#refuse("modified_input_file", "the text and the file differ");
      }
      this.#quote(place, place.line);
    }
    this.#step();
    return null;
  }

  #hashLine(): Refusal | null {
    const scanner = this.#scanner;
    scanner.skip();
    const line = this.#text.slice(scanner.start, scanner.end);
    const marker = parseLinemarker(line);
    if (marker !== null) {
      this.#spare = 0;
      return this.#marker(marker);
    }
    if (this.#spare > 0) return this.#refuse("unfaithful_preprocessing", "text follows a directive's continuation");
    return this.#directive(line);
  }

  #directive(line: string): Refusal | null {
    const place = this.#place;
    const { lines, sent } = place.origin;
    if (this.#undoing) {
      this.#undoing = false;
      if (!/^\s*#undef /.test(line)) return this.#refuse("unfaithful_preprocessing", "pop_macro of an unknown form");
      this.#replace("", 1);
      return null;
    }
    if (lines === null) {
      if (sent) return this.#refuse("modified_input_file", "it can no longer be read");
      this.#step();
      return null;
    }
    // The image's own headers know of it, and test no such macro below.
    if (sent && MACRO_PRAGMA.test(line)) return this.#refuse("unfaithful_preprocessing", MACRO_PRAGMA_FOUND);
    const start = lines.start(place.line);
    if (start < 0) return this.#refuse("modified_input_file", "it has fewer lines than the text");
    let last = place.line;
    if (lines.text.slice(start, lines.end(place.line)) !== line || line.endsWith("\\")) {
      const directive = readDirective(lines.text, skipByteOrderMark(lines.text, start));
      if (directive === null || !sameTokens(directive.spelled, line))
        return this.#refuse("unfaithful_preprocessing", "a directive that differs from its original");
      last = this.#putBack(lines, directive.end);
    }
    if (sent) this.#quote(place, place.line, last);
    this.#step();
    return null;
  }

  /** Writes the original from the current line's start to `end` in place of the text's line; gives its last line's number. */
  #putBack(lines: SourceLines, end: number): number {
    const from = skipByteOrderMark(lines.text, lines.start(this.#place.line));
    const original = lines.text.slice(from, end);
    let extra = 0;
    for (let at = original.indexOf("\n"); at >= 0; at = original.indexOf("\n", at + 1)) extra += 1;
    this.#replace(original, 0);
    this.#spare = extra;
    return this.#place.line + extra;
  }

  /** Replaces the scanner's current line, and `ends` of its line end. */
  #replace(text: string, ends: 0 | 1): void {
    this.#pieces.push(this.#text.slice(this.#copied, this.#scanner.start), text);
    this.#copied = this.#scanner.end + ends;
  }

  #marker(marker: Linemarker): Refusal | null {
    if (!this.#started) return this.#preambleMarker(marker);
    const place = this.#place;
    if (marker.change === 1) return this.#enter(marker);
    if (marker.change === 2) {
      if (this.#stack.length < 2) return this.#refuse("unfaithful_preprocessing", "linemarkers do not nest");
      if (this.#isFragile(place.line, Number.POSITIVE_INFINITY))
        return this.#refuse("unfaithful_preprocessing", FRAGILE);
      this.#stack.pop();
      this.#place = this.#stack.at(-1)!;
      const resumed = this.#place;
      if (resumed.saidName !== marker.file || marker.line < resumed.saidLine)
        return this.#refuse("unfaithful_preprocessing", "an include ends where it did not begin");
      const refusal = this.#goOn(marker.line - resumed.saidLine);
      if (refusal !== null) return refusal;
      // The compiler proposes a new `#include` after the last one, and quotes both neighbours.
      if (resumed.origin.sent) this.#quote(resumed, resumed.line - 1, resumed.line);
      return null;
    }
    return this.#sameDepth(marker);
  }

  /** A marker within a file: lines were left out, or the file has a `#line`. */
  #sameDepth(marker: Linemarker): Refusal | null {
    const place = this.#place;
    const found = place.origin.lines?.lineDirectiveFrom(place.line, marker, place.saidName) ?? null;
    const ahead = marker.line - place.saidLine;
    if (marker.file === place.saidName && ahead === -1 && this.#popped === place.line - 1) {
      this.#undoing = true;
      this.#replace("", 1);
      return null;
    }
    if (marker.file === place.saidName && ahead >= 0 && (found === null || found.at > place.line + ahead))
      return this.#goOn(ahead);
    if (found === null) return this.#refuse("unfaithful_preprocessing", "a linemarker that no line directive explains");
    if (this.#isFragile(place.line, found.at)) return this.#refuse("unfaithful_preprocessing", FRAGILE);
    if (this.#request.hostRoots?.some((root) => marker.file.startsWith(`${root}/`)) === true)
      return this.#refuse("unfaithful_preprocessing", "a line directive with a path of the host");
    place.line = found.at + 1;
    place.saidName = marker.file;
    place.saidLine = marker.line;
    place.said = this.#open(marker.file);
    return null;
  }

  /** Skips lines that the text left out. */
  #goOn(count: number): Refusal | null {
    const place = this.#place;
    if (this.#isFragile(place.line, place.line + count)) return this.#refuse("unfaithful_preprocessing", FRAGILE);
    if (count > 0 && place.origin.sent && this.#scanner.open) this.#quote(place, place.line, place.line + count - 1);
    place.line += count;
    place.saidLine += count;
    return null;
  }

  #enter(marker: Linemarker): Refusal | null {
    if (this.#stack.length >= INCLUDE_DEPTH_MAX) return this.#refuse("unfaithful_preprocessing", "includes too deep");
    const origin = this.#open(marker.file);
    this.#place = { origin, line: marker.line, saidName: marker.file, said: origin, saidLine: marker.line };
    this.#stack.push(this.#place);
    if (origin.sent) this.#quote(this.#place, 1);
    return null;
  }

  #preambleMarker(marker: Linemarker): Refusal | null {
    if (marker.change === 1) return this.#enter(marker);
    if (marker.change === 2) {
      if (this.#stack.length < 2) return this.#refuse("unfaithful_preprocessing", "linemarkers do not nest");
      this.#stack.pop();
      this.#place = this.#stack.at(-1)!;
      return null;
    }
    if (this.#stack.length > 1) return this.#sameDepth(marker);
    if (marker.file === "<command-line>") this.#seenCommandLine = true;
    if (marker.file === this.#request.source && this.#seenCommandLine) {
      const origin = this.#open(marker.file);
      this.#place = { origin, line: marker.line, saidName: marker.file, said: origin, saidLine: marker.line };
      this.#stack[0] = this.#place;
      this.#started = true;
      if (origin.sent) this.#quote(this.#place, 1);
    }
    return null;
  }

  #open(name: ByteString): Origin {
    if (isPseudoFile(name)) return NOWHERE;
    const resolved: ResolvedPath = resolvePath(this.#request.cwd, name);
    const sent = isSent(resolved.path);
    if (sent) for (const folder of resolved.passed) if (isSent(folder)) this.#passed.add(folder);
    let origin = this.#origins.get(resolved.path);
    if (origin === undefined) {
      const bytes = this.#request.readFile(resolved.path);
      origin = { path: resolved.path, lines: bytes === null ? null : SourceLines.of(bytes), sent };
      this.#origins.set(resolved.path, origin);
    }
    return origin;
  }

  /** Lets the compiler quote lines of a place, by the name and numbers under which it knows them. */
  #quote(place: Place, from: number, to = from): void {
    const { said } = place;
    if (!said.sent || said.lines === null) return;
    const shift = place.saidLine - place.line;
    this.#quotes.add(said.path, said.lines, from + shift, to + shift);
  }

  #refuse(reason: BypassReason, what: string): Refusal {
    return new Refusal(reason, `${this.#place.origin.path}:${this.#place.line}: ${what}`);
  }
}

/** The part of the text that holds the predefined macros. */
function preambleOf(text: string): string {
  return text.slice(0, Math.max(0, text.indexOf('"<command-line>"')));
}

function dialectOf(preamble: string): { rawStrings: boolean; digitSeparators: boolean } {
  const cxx = Number(/^#define __cplusplus (\d+)/m.exec(preamble)?.[1] ?? 0);
  const c = Number(/^#define __STDC_VERSION__ (\d+)/m.exec(preamble)?.[1] ?? 0);
  if (cxx > 0) return { rawStrings: cxx >= 201103, digitSeparators: cxx >= 201402 };
  return { rawStrings: c >= 199901 && !/^#define __STRICT_ANSI__ /m.test(preamble), digitSeparators: c > 201710 };
}

function sameLine(text: string, scanner: TextScanner, lines: SourceLines, line: number): boolean {
  if (lines.start(line) < 0) return false;
  const start = skipByteOrderMark(lines.text, lines.start(line));
  const length = scanner.end - scanner.start;
  return (
    lines.end(line) - start === length &&
    text.slice(scanner.start, scanner.end) === lines.text.slice(start, start + length)
  );
}
