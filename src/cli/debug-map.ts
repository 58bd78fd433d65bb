// `hpcc debug-map`: what tells debuggers where the sources are of objects that name them relative to the project's root. Pure but for links.
import { realpathSync } from "node:fs";
import { type ByteString, byteStringOf, byteStringOfText, bytesOf, displayText } from "../base/byte-string.ts";
import { HpccError } from "../base/errors.ts";
import type { ClientConfig } from "../config/client.ts";
import { EXTRA_ROOTS, toGuestPath, type View } from "../core/compile/view/view.ts";
import { json } from "./output.ts";

export const DEBUG_MAP_FORMATS = ["gdb", "lldb", "vscode", "json"] as const;
export type DebugMapFormat = (typeof DEBUG_MAP_FORMATS)[number];

/** One prefix of the names in an object, and what stands there on this machine. */
export interface MappedPath {
  readonly from: string;
  readonly to: string;
}

export interface DebugMap {
  /** Why no map is needed; null when one is. */
  readonly unneeded: string | null;
  /** Absolute path of the project's root. */
  readonly root: string | null;
  readonly gdb: readonly string[];
  readonly lldb: readonly string[];
}

export interface DebugMapInput {
  /** The project's root, links resolved; null outside of any project. */
  readonly root: ByteString | null;
  readonly config: Pick<ClientConfig, "extraRoots" | "image" | "paths" | "sourceForm">;
  /** Folders in which the compiler was started, as the user gives them. */
  readonly folders: readonly string[];
}

/** Where the project's root stands in what an object says. */
const ROOT_IN_OBJECT = ".";

export function debugMap({ root, config, folders }: DebugMapInput): DebugMap {
  const rootText = root === null ? null : pathText(root);
  const none = (unneeded: string): DebugMap => ({ unneeded, root: rootText, gdb: [], lldb: [] });
  if (root === null || rootText === null) return none("this folder is in no project");
  if (config.image.kind === "none")
    return none("the project is bound to no image, and the host's compiler names sources as it always does");
  // Preprocessed text is compiled at the shared place, whatever `paths` says.
  if (config.paths === "own" && config.sourceForm === "files")
    return none('with paths = "own" objects name sources by their own paths');
  const roots = config.extraRoots.map(({ name, host }) => ({
    host: realPath(host),
    guest: byteStringOfText(`${EXTRA_ROOTS}/${name}`),
  }));
  const view: View = { roots: [{ host: root, guest: ROOT_IN_OBJECT as ByteString }, ...roots] };
  const places = view.roots.map(({ guest, host }) => ({ from: pathText(guest), to: pathText(host) }));
  const started = [...new Set(folders.map((folder) => folderInObject(folder, view)))].filter(
    (folder) => folder !== ROOT_IN_OBJECT,
  );
  return {
    unneeded: null,
    root: rootText,
    gdb: gdbLines(started, rootText, places),
    lldb: lldbLines(started, rootText, places),
  };
}

/**
 * gdb takes the first rule whose prefix is there. Clang names a source that was given by its absolute path as `<folder>/./<path>`, and
 * one above its folder as `./../<path>`, which is relative to that folder.
 */
function gdbLines(started: readonly string[], root: string, places: readonly MappedPath[]): string[] {
  const rules = [
    ...started.map((folder) => ({ from: `${folder}/.`, to: root })),
    { from: "./..", to: ".." },
    ...places,
  ];
  return rules.map(({ from, to }) => `set substitute-path ${quoted(from)} ${quoted(to)}`);
}

/** lldb takes the first prefix that leads to a file. It puts the folder before names that are relative to the root already, once or twice. */
function lldbLines(started: readonly string[], root: string, places: readonly MappedPath[]): string[] {
  const behind = started.flatMap((folder) => [
    { from: folder, to: root },
    ...(folder.startsWith("./") ? [{ from: `${folder}${folder.slice(1)}`, to: root }] : []),
  ]);
  const words = [...places, ...behind].flatMap(({ from, to }) => [quoted(from), quoted(to)]);
  return [`settings set target.source-map ${words.join(" ")}`];
}

/** A folder as objects name it that were compiled in it. */
function folderInObject(folder: string, view: View): string {
  const host = realPath(byteStringOfText(folder));
  const guest = toGuestPath(view, host);
  if (guest === null)
    throw new HpccError("argument.invalid", `${displayText(host)} is neither in the project nor in an extra root`);
  return pathText(guest);
}

function realPath(path: ByteString): ByteString {
  try {
    return byteStringOf(realpathSync.native(bytesOf(path), { encoding: "buffer" }));
  } catch {
    throw new HpccError("argument.invalid", `there is no folder ${displayText(path)}`);
  }
}

/** A path as text that can stand on a debugger's line. */
function pathText(path: ByteString): string {
  const text = displayText(path);
  if (/[\u0000-\u001f\u007f\ufffd]/.test(text))
    throw new HpccError("argument.invalid", `no debugger can be told the path ${JSON.stringify(text)}`);
  return text;
}

/** A word of a gdb's or lldb's line. */
function quoted(word: string): string {
  return /^[A-Za-z0-9_./+-]+$/.test(word) ? word : `"${word.replace(/["\\]/g, "\\$&")}"`;
}

const HEADINGS: Readonly<Record<Exclude<DebugMapFormat, "json">, string>> = {
  gdb: "# For ~/.gdbinit, or: gdb -x FILE",
  lldb: "# For ~/.lldbinit, or: lldb -s FILE",
  vscode: "// For a configuration in .vscode/launch.json: the first with MIMode gdb, the second with CodeLLDB",
};

export function printDebugMap(map: DebugMap, format: DebugMapFormat): string {
  if (format === "json") return json(map);
  if (map.unneeded !== null) return `${format === "vscode" ? "//" : "#"} No map is needed: ${map.unneeded}.\n`;
  const lines = [HEADINGS[format], ...(format === "vscode" ? vscodeLines(map) : map[format])];
  return lines.map((line) => `${line}\n`).join("");
}

/** The debuggers' own lines: what they resolve, the editor need not. */
function vscodeLines({ gdb, lldb }: DebugMap): string[] {
  const commands = gdb.map((text) => ({ text }));
  return [`"setupCommands": ${JSON.stringify(commands)}`, `"initCommands": ${JSON.stringify(lldb)}`];
}
