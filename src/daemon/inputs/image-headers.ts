// Which headers of an image a name may mean, wherever the compiler seeks it: an index of the folders that its search path is made of.
// Made once for an image, and only where a call needs it.
import { readdirSync } from "node:fs";
import { dirname } from "node:path";
import { ascii, type ByteString, byteStringOf, bytesOf } from "../../base/byte-string.ts";
import type { ImageCompiler, Project } from "../project.ts";

/** Below a compiler's prefix and `/usr`. */
const FOLDERS = ["include", "local/include", "lib/gcc", "lib64/gcc", "lib/gcc-cross", "libexec/gcc"];
const FILES_MAX = 200_000;
const IMAGES_MAX = 8;

type Image = Pick<Project, "imageRoot" | "imageFile">;

interface Index {
  readonly folders: readonly ByteString[];
  /** Paths in the image by their last component. */
  readonly byName: ReadonlyMap<string, readonly ByteString[]>;
}

export class ImageHeaders {
  readonly #known = new Map<string, Index | null>();

  /**
   * Paths in the image that end in `/NAME`; null when this cannot be told: the image is too large, or a file that the call reads lies in
   * none of the folders that the index knows.
   */
  find(
    project: Image & Pick<Project, "imageDigest">,
    compiler: Pick<ImageCompiler, "path">,
    { name, read }: { readonly name: ByteString; readonly read: Iterable<ByteString> },
  ): readonly ByteString[] | null {
    const prefix = dirname(dirname(compiler.path));
    const key = `${project.imageDigest}${prefix}`;
    let index = this.#known.get(key);
    if (index === undefined) {
      if (this.#known.size >= IMAGES_MAX) this.#known.clear();
      index = indexOf(project, [...new Set([prefix, "/usr"])]);
      this.#known.set(key, index);
    }
    if (index === null || name.split("/").includes("..")) return null;
    for (const path of read) if (!index.folders.some((folder) => path.startsWith(`${folder}/`))) return null;
    const last = name.slice(name.lastIndexOf("/") + 1);
    return (index.byName.get(last) ?? []).filter((path) => path.endsWith(`/${name}`));
  }
}

function indexOf({ imageRoot, imageFile }: Image, prefixes: readonly string[]): Index | null {
  const folders = prefixes.flatMap((prefix) => FOLDERS.map((folder) => ascii(`${prefix}/${folder}`)));
  const byName = new Map<string, ByteString[]>();
  let files = 0;
  const waiting = folders.map((path) => ({ path, host: (imageRoot + path) as ByteString | null }));
  for (let folder = waiting.pop(); folder !== undefined; folder = waiting.pop()) {
    for (const entry of folder.host === null ? [] : entriesOf(folder.host)) {
      const name = byteStringOf(entry.name);
      const path = `${folder.path}/${name}` as ByteString;
      if (entry.isDirectory()) waiting.push({ path, host: `${folder.host}/${name}` as ByteString });
      // A link may lead to a folder; one that leads around is ended by the bound.
      else if (entry.isSymbolicLink()) waiting.push({ path, host: imageFile(path) });
      if (entry.isDirectory()) continue;
      files += 1;
      const same = byName.get(name);
      if (same === undefined) byName.set(name, [path]);
      else same.push(path);
    }
    if (files > FILES_MAX) return null;
  }
  return { folders, byName };
}

function entriesOf(host: ByteString) {
  try {
    return readdirSync(bytesOf(host), { withFileTypes: true, encoding: "buffer" });
  } catch {
    return [];
  }
}
