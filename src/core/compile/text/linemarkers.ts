// Linemarkers (`# 12 "file.c" 1 3 4`), and the resolution of the file names in them. Pure; knows no directive.
// UNTRUSTED: the names come from a checkout's file names and `#line` directives.
import type { ByteString } from "../../../base/byte-string.ts";

export interface Linemarker {
  readonly line: number;
  /** The name, escapes undone. */
  readonly file: ByteString;
  /** 1 when an included file begins, 2 when its includer goes on, 0 otherwise. */
  readonly change: 0 | 1 | 2;
}

/** GCC keeps the white space before an `#include` in front of the marker that takes its place. */
const PATTERN = /^[ \t\f\v]*# ?(\d+) "((?:[^"\\]|\\.)*)"((?: \d)*) *\r?$/s;
const LINE_MAX = 0x7fffffff;
const ESCAPES: Readonly<Record<string, string>> = { n: "\n", t: "\t", r: "\r", a: "\x07", b: "\b", f: "\f", v: "\v" };

/** Parses a line of preprocessed text, without its line end; null when it is no linemarker. */
export function parseLinemarker(line: string): Linemarker | null {
  const match = PATTERN.exec(line);
  if (match === null) return null;
  const number = Number(match[1]);
  if (number > LINE_MAX) return null;
  const flags = match[3]!;
  const change = flags.startsWith(" 1") ? 1 : flags.startsWith(" 2") ? 2 : 0;
  return { line: number, file: unescapeName(match[2]!), change };
}

function unescapeName(quoted: string): ByteString {
  if (!quoted.includes("\\")) return quoted as ByteString;
  return quoted.replace(/\\([0-7]{1,3}|.)/gs, (_, escape: string) =>
    /^[0-7]/.test(escape) ? String.fromCharCode(Number.parseInt(escape, 8) & 0xff) : (ESCAPES[escape] ?? escape),
  ) as ByteString;
}

/** True for the names that stand for no file: `<built-in>`, `<command-line>`, `<stdin>`. */
export function isPseudoFile(file: ByteString): boolean {
  return file === "" || (file.startsWith("<") && file.endsWith(">"));
}

export interface ResolvedPath {
  /** Absolute, no `.` or `..` or empty component. */
  readonly path: ByteString;
  /** Folders left again through `..`: opening the path as spelled needs them. */
  readonly passed: readonly ByteString[];
}

/** Makes a name absolute against an absolute folder, by its text alone. */
export function resolvePath(cwd: ByteString, name: ByteString): ResolvedPath {
  const parts: string[] = [];
  const passed: ByteString[] = [];
  for (const part of (name.startsWith("/") ? name : `${cwd}/${name}`).split("/")) {
    if (part === "" || part === ".") continue;
    if (part !== "..") {
      parts.push(part);
      continue;
    }
    if (parts.length > 0) passed.push(`/${parts.join("/")}` as ByteString);
    parts.pop();
  }
  return { path: `/${parts.join("/")}` as ByteString, passed };
}
