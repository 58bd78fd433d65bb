// What an image's root file system holds, as one text and its digest: every path with type, mode and content. The same image gives the
// same text on every machine, whatever packed or unpacked it, so client and worker can tell that they run the same. Docs: docs/images.md.
import { createHash } from "node:crypto";
import { createReadStream, lstatSync, readdirSync } from "node:fs";
import { lstat, readdir, readlink } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import { setImmediate } from "node:timers/promises";
import { type ByteString, byteStringOf, bytesOf } from "../base/byte-string.ts";
import { type Digest, sha256 } from "../core/digest/digest.ts";

/** One path of a root; `content` is a file's digest, a link's target, and empty for a folder. */
export interface RootEntry {
  readonly path: ByteString;
  readonly type: "file" | "symlink" | "directory";
  readonly mode: number;
  readonly content: string;
}

/** Bits that a user's own copy keeps. */
const MODE_MASK = 0o777;
const LINK_MODE = 0o777;
/** Owner's permission to read: without it a user cannot read his own copy. */
const READABLE = 0o400;
const SLASH = Buffer.from("/");
const TYPE_MASK = 0o170000n;
const FOLDER = 0o040000n;
const LOOKS_AT_ONCE = 500;
const UNREADABLE = "unreadable";

/** A line for each path, sorted by its bytes. */
export function rootContents(entries: readonly RootEntry[]): string {
  const lines = entries.map(({ path, type, mode, content }) => {
    const shown = type === "file" && (mode & READABLE) === 0 ? UNREADABLE : content;
    return [JSON.stringify(path), type, (mode & MODE_MASK).toString(8), JSON.stringify(shown)].join(" ");
  });
  return lines
    .sort()
    .map((line) => `${line}\n`)
    .join("");
}

export function contentsDigest(contents: string): Digest {
  return sha256(Buffer.from(contents, "latin1"));
}

/** What a folder holds that an image was unpacked to. */
export async function readRootContents(root: string): Promise<string> {
  const entries: RootEntry[] = [];
  await walk(Buffer.from(root), "" as ByteString, async (path, host) => {
    const found = await lstat(host);
    const common = { path, mode: found.mode };
    if (found.isDirectory()) entries.push({ ...common, type: "directory", content: "" });
    else if (found.isSymbolicLink()) {
      const target = byteStringOf(await readlink(host, { encoding: "buffer" }));
      entries.push({ ...common, type: "symlink", mode: LINK_MODE, content: target });
    } else {
      const readable = found.isFile() && (found.mode & READABLE) !== 0;
      entries.push({ ...common, type: "file", content: readable ? await digestOfFile(host) : UNREADABLE });
    }
  });
  return rootContents(entries);
}

/**
 * What a look at a folder shows without reading files: it differs when anything in it was written, replaced or removed since, as nobody but
 * the kernel sets a file's change time.
 */
export async function readRootStamp(root: string): Promise<Digest> {
  const hash = createHash("sha256");
  const top = Buffer.from(root);
  const pending: Buffer[] = [top];
  for (let looked = 0; ; ) {
    const folder = pending.pop();
    if (folder === undefined) break;
    for (const name of readdirSync(folder, { encoding: "buffer" }).sort((a, b) => Buffer.compare(a, b))) {
      const host = Buffer.concat([folder, SLASH, name]);
      const { ino, size, mode, mtimeNs, ctimeNs } = lstatSync(host, { bigint: true });
      // Below the root: a folder of images may be known by several paths.
      hash.update(host.subarray(top.length)).update(`\0${ino} ${size} ${mode} ${mtimeNs} ${ctimeNs}\n`);
      if ((mode & TYPE_MASK) === FOLDER) pending.push(host);
      // Calls go on being answered meanwhile.
      if ((looked += 1) % LOOKS_AT_ONCE === 0) await setImmediate();
    }
  }
  return `sha256:${hash.digest("hex")}` as Digest;
}

/** The first path in which two roots differ; null when they do not. */
export function firstDifference(wanted: string, found: string): string | null {
  const pathOf = (line: string) => (JSON.parse(/^"(?:[^"\\]|\\.)*"/.exec(line)?.[0] ?? '""') as string) || "/";
  const [a, b] = [new Set(wanted.split("\n")), new Set(found.split("\n"))];
  const differing = [...[...a].filter((line) => !b.has(line)), ...[...b].filter((line) => !a.has(line))];
  return differing.map(pathOf).sort()[0] ?? null;
}

type Visit = (path: ByteString, host: Buffer) => Promise<void>;

async function walk(root: Buffer, folder: ByteString, visit: Visit): Promise<void> {
  const at = folder === "" ? root : Buffer.concat([root, Buffer.from("/"), bytesOf(folder)]);
  const names = await readdir(at, { encoding: "buffer", withFileTypes: true });
  for (const entry of names.sort((a, b) => Buffer.compare(a.name, b.name))) {
    const name = byteStringOf(entry.name);
    const path = (folder === "" ? name : `${folder}/${name}`) as ByteString;
    await visit(path, Buffer.concat([root, Buffer.from("/"), bytesOf(path)]));
    if (entry.isDirectory()) await walk(root, path, visit);
  }
}

async function digestOfFile(path: Buffer): Promise<Digest> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path, { highWaterMark: 1024 * 1024 }), hash);
  return `sha256:${hash.digest("hex")}` as Digest;
}
