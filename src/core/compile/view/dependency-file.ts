// Reads and rewrites the make dependency files of GCC and Clang: names of the view become names that the host's make can find.
// A file whose names all stay is returned byte for byte; one whose names change is wrapped again as its compiler would have
// wrapped it, provided that this module, given the unchanged names, writes exactly what the compiler wrote; else names are replaced
// where they stand. UNTRUSTED: names are a checkout's.
import type { ByteString } from "../../../base/byte-string.ts";
import type { CompilerFamily, DependencyRequest } from "../grammar/invocation.ts";
import { type Spelling, toSpelledPath } from "./path-map.ts";
import type { View } from "./view.ts";

/** GCC breaks a line before a name that would end beyond this column. */
const GCC_COLUMNS = 72;
/** Clang keeps room for the space and backslash of a broken line within these. */
const CLANG_COLUMNS = 75;

/** What a dependency file says. */
export interface Dependencies {
  /** Names of files, the source first. */
  readonly names: readonly ByteString[];
  /** Names with an empty rule of their own (`-MP`). */
  readonly phony: readonly ByteString[];
  /** Whether an empty line stands before each of those rules, as Clang up to 14 writes them. */
  readonly spaced: boolean;
}

interface Layout {
  /** Where the names begin, after the targets' colon. */
  readonly start: number;
  readonly tokens: readonly Token[];
  readonly spaced: boolean;
}

interface Token {
  readonly name: ByteString;
  readonly start: number;
  readonly end: number;
  readonly phony: boolean;
}

/** Quotes a name for make as both compilers do; GCC also quotes tabs. */
export function quoteForMake(name: ByteString, family: CompilerFamily): ByteString {
  let out = "";
  let slashes = "";
  for (const char of name.replaceAll("$", "$$$$")) {
    const space = char === " " || (char === "\t" && family === "gcc");
    out += space ? `${slashes}\\${char}` : char;
    slashes = char === "\\" ? `${slashes}\\` : "";
  }
  return out.replaceAll("#", "\\#") as ByteString;
}

function withoutLeadingDots(name: string): string {
  return name.replace(/^(?:\.\/+)+/, "");
}

/** GCC's front end takes quoted targets first, then lets each unquoted one take the first quoted one's place. */
function gccTargets(request: DependencyRequest): string[] {
  const write = (text: ByteString): string => withoutLeadingDots(text);
  const targets = request.targets
    .filter(({ quoted }) => quoted)
    .map(({ text }) => quoteForMake(write(text) as ByteString, "gcc") as string);
  let unquoted = 0;
  for (const { text } of request.targets.filter(({ quoted }) => !quoted)) {
    const replaced = targets[unquoted];
    targets[unquoted++] = write(text);
    if (replaced !== undefined) targets.push(replaced);
  }
  return targets;
}

function clangTargets(request: DependencyRequest): string[] {
  // The driver quotes tabs in targets, the front end does not in names.
  return request.targets.map(({ text, quoted }) => (quoted ? quoteForMake(text, "gcc") : text));
}

/** The targets and their colon as the compiler writes them, and the column after it. */
function writeTargets(request: DependencyRequest, family: CompilerFamily): { text: string; column: number } {
  let text = "";
  let column = 0;
  for (const target of family === "gcc" ? gccTargets(request) : clangTargets(request)) {
    if (family === "gcc") {
      if (column > 0 && column + target.length > GCC_COLUMNS) {
        text += " \\\n";
        column = 0;
      }
      if (text !== "") {
        text += " ";
        column++;
      }
      column += target.length;
    } else if (column === 0) column = target.length;
    else if (column + target.length + 2 > CLANG_COLUMNS) {
      text += " \\\n  ";
      column = target.length + 2;
    } else {
      text += " ";
      column += target.length + 1;
    }
    text += target;
  }
  return { text: `${text}:`, column: column + 1 };
}

/** Writes a dependency file as the compiler would. */
export function writeDependencies(
  request: DependencyRequest,
  family: CompilerFamily,
  dependencies: Dependencies,
): ByteString {
  const targets = writeTargets(request, family);
  let { text, column } = targets;
  for (const name of dependencies.names) {
    const quoted = quoteForMake(name, family);
    if (family === "gcc") {
      if (column > 0 && column + quoted.length > GCC_COLUMNS) {
        text += " \\\n";
        column = 0;
      }
      column += quoted.length + 1;
    } else {
      // Clang counts the name as it is, not as it is quoted.
      if (column + name.length + 3 > CLANG_COLUMNS) {
        text += " \\\n ";
        column = 2;
      }
      column += name.length + 1;
    }
    text += ` ${quoted}`;
  }
  text += "\n";
  const space = dependencies.spaced ? "\n" : "";
  for (const name of dependencies.phony) text += `${space}${quoteForMake(name, family)}:\n`;
  return text as ByteString;
}

/** Takes a name off the text: the name, and where it ends; null at the end of the rule. Clang quotes no tabs. */
function takeName(text: string, from: number, family: CompilerFamily): { name: string; end: number } | null {
  const isBlank = (char: string): boolean => char === " " || (char === "\t" && family === "gcc");
  let name = "";
  let index = from;
  while (index < text.length) {
    const char = text.charAt(index);
    if (isBlank(char) || char === "\n") break;
    if (char === "$" && text.charAt(index + 1) === "$") index++;
    if (char !== "\\") {
      name += char;
      index++;
      continue;
    }
    let run = 1;
    while (text.charAt(index + run) === "\\") run++;
    const after = text.charAt(index + run);
    index += run;
    if (isBlank(after)) {
      name += "\\".repeat(Math.floor(run / 2));
      if (run % 2 === 0) break;
      name += after;
      index++;
    } else if (after === "#") {
      name += `${"\\".repeat(run - 1)}#`;
      index++;
    } else name += "\\".repeat(run);
  }
  return index === from ? null : { name, end: index };
}

/** Skips blanks and broken lines. */
function skipBlanks(text: string, from: number, family: CompilerFamily): number {
  let index = from;
  for (;;) {
    const char = text.charAt(index);
    if (char === " " || (char === "\t" && family === "gcc")) index++;
    else if (text.startsWith("\\\n", index)) index += 2;
    else return index;
  }
}

/** Where the names begin: after the targets as they must be, else after the first colon when no target holds one. */
function startOfNames(text: string, request: DependencyRequest, family: CompilerFamily): number | null {
  const expected = writeTargets(request, family).text;
  if (text.startsWith(expected)) return expected.length;
  if (request.targets.some((target) => /[:\n]/.test(target.text))) return null;
  const colon = text.indexOf(":");
  return colon < 0 ? null : colon + 1;
}

function readLayout(text: string, request: DependencyRequest, family: CompilerFamily): Layout | null {
  const start = startOfNames(text, request, family);
  if (start === null) return null;
  const tokens: Token[] = [];
  let index = skipBlanks(text, start, family);
  for (let taken = takeName(text, index, family); taken !== null; taken = takeName(text, index, family)) {
    tokens.push({ name: taken.name as ByteString, start: index, end: taken.end, phony: false });
    index = skipBlanks(text, taken.end, family);
  }
  // Empty rules: a quoted name, a colon, the end of the line.
  const spaced = text.startsWith("\n\n", index);
  while (index < text.length) {
    if (text.charAt(index) === "\n") {
      index++;
      continue;
    }
    const taken = takeName(text, index, family);
    if (taken === null || !taken.name.endsWith(":") || text.charAt(taken.end) !== "\n") return null;
    tokens.push({ name: taken.name.slice(0, -1) as ByteString, start: index, end: taken.end - 1, phony: true });
    index = taken.end;
  }
  return { start, tokens, spaced };
}

/** Reads what the compiler wrote for a request; null when it cannot be understood. */
export function readDependencies(
  text: ByteString,
  request: DependencyRequest,
  family: CompilerFamily,
): Dependencies | null {
  const layout = readLayout(text, request, family);
  if (layout === null) return null;
  return {
    names: layout.tokens.filter(({ phony }) => !phony).map(({ name }) => name),
    phony: layout.tokens.filter(({ phony }) => phony).map(({ name }) => name),
    spaced: layout.spaced,
  };
}

/**
 * The dependency file with its names mapped: what a one-step compile would have written. Null when the file cannot be understood
 * (a line end in a name): then the call is compiled locally.
 */
export function rewriteDependencies(
  text: ByteString,
  request: DependencyRequest,
  family: CompilerFamily,
  map: (name: ByteString) => ByteString,
): ByteString | null {
  const layout = readLayout(text, request, family);
  if (layout === null) return null;
  const mapped = layout.tokens.map((token) => ({ ...token, to: map(token.name) }));
  if (mapped.every(({ name, to }) => name === to)) return text;
  const rules = (pick: (token: (typeof mapped)[number]) => ByteString): Dependencies => ({
    names: mapped.filter(({ phony }) => !phony).map(pick),
    phony: mapped.filter(({ phony }) => phony).map(pick),
    spaced: layout.spaced,
  });
  if (
    writeDependencies(
      request,
      family,
      rules(({ name }) => name),
    ) === text
  )
    return writeDependencies(
      request,
      family,
      rules(({ to }) => to),
    );
  let result = text.slice(0, layout.start);
  let copied = layout.start;
  for (const { start, end, name, to } of mapped) {
    result += text.slice(copied, start) + (name === to ? text.slice(start, end) : quoteForMake(to, family));
    copied = end;
  }
  return (result + text.slice(copied)) as ByteString;
}

export interface DependencyNames {
  readonly view: View;
  readonly spellings: readonly Spelling[];
  /** Where the image is unpacked on the host, without a slash at its end. */
  readonly imageRoot: ByteString;
  /** Whether the host has a file at an absolute path. */
  hostHas(path: ByteString): boolean;
}

/**
 * The name that the host's make can find: relative ones as they are, those of roots as the user spelled them, the image's as
 * they are when the host has them too, else by their path in the unpacked image.
 */
export function dependencyName(name: ByteString, host: DependencyNames): ByteString {
  if (!name.startsWith("/")) return name;
  const spelled = toSpelledPath(host.view, host.spellings, name);
  if (spelled !== null) return spelled;
  return host.hostHas(name) ? name : ((host.imageRoot + name) as ByteString);
}
