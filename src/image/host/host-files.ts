// Which files of the host go into an image: a package list's paths as they really stand on disk. Lists name paths through
// links (/lib/x86_64-linux-gnu/libc.so.6 where /lib -> usr/lib); each link on the way is kept, and the file goes to its real place.
import { lstatSync, readdirSync, readFileSync, readlinkSync, type Stats } from "node:fs";
import { join } from "node:path";
import { type ByteString, byteStringOf, bytesOf } from "../../base/byte-string.ts";
import { HpccError } from "../../base/errors.ts";
import { alternativeLinks, parseAlternativeGroup } from "./alternatives.ts";

export type HostEntry =
  | { readonly t: "directory"; readonly mode: number }
  | { readonly t: "symlink"; readonly target: ByteString }
  | { readonly t: "file"; readonly mode: number; readonly sizeBytes: number; readonly from: ByteString }
  | { readonly t: "text"; readonly mode: number; readonly text: string };

const LINKS_MAX = 40;
const MODE_MASK = 0o1777;
const ALTERNATIVES = "/var/lib/dpkg/alternatives";
/** Aliases of merged-/usr systems; no package of the closure need list them. */
const ROOT_ALIASES = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/** Documentation and translations: a compile in locale C opens none of it. Copyright files stay. */
const SKIPPED = /^\/usr\/share\/(?:man|info|locale|lintian|bug|menu|doc-base|gdb|zoneinfo)(?:\/|$)/;
const DOCUMENTS = /^\/usr\/share\/doc\/[^/]+\/(?!copyright$)/;

/** Whether an image leaves out a path that a package lists. */
export function isSkipped(path: string): boolean {
  return SKIPPED.test(path) || DOCUMENTS.test(path);
}

/** Collects entries of an image from the host below `root` ("" for the machine's own). */
export class HostFiles {
  /** By absolute path in the image. */
  readonly entries = new Map<ByteString, HostEntry>();
  /** Listed by a package, absent from the disk. */
  readonly missing: ByteString[] = [];
  /** Neither file, folder nor link. */
  readonly refused: ByteString[] = [];
  readonly #root: string;

  constructor(root = "") {
    this.#root = root;
  }

  /** Adds a listed path; a missing one is noted. */
  add(path: ByteString): void {
    if (isSkipped(path)) return;
    const real = this.#resolveFolder(path);
    const found = real === null ? null : this.#lstat(real);
    if (real === null || found === null) {
      this.missing.push(path);
      return;
    }
    this.#record(real, found);
  }

  /** Adds a folder that the image needs whether the host has it or not. */
  addFolder(path: string, mode = 0o755): void {
    if (!this.entries.has(path as ByteString)) this.entries.set(path as ByteString, { t: "directory", mode });
  }

  addText(path: string, text: string): void {
    this.entries.set(path as ByteString, { t: "text", mode: 0o644, text });
  }

  /** Adds /bin, /lib ... where the host has them as links. */
  addRootAliases(): void {
    for (const path of ROOT_ALIASES as ByteString[]) {
      const found = this.#lstat(path);
      if (found?.isSymbolicLink()) this.#record(path, found);
    }
  }

  /** Adds the links of alternatives whose targets are in the image. */
  addAlternatives(): void {
    let names: string[];
    try {
      names = readdirSync(join(this.#root, ALTERNATIVES)).sort();
    } catch {
      return;
    }
    for (const name of names) {
      const group = parseAlternativeGroup(name, readFileSync(join(this.#root, ALTERNATIVES, name), "latin1"));
      if (group === null) continue;
      const current = this.#readlink(`/etc/alternatives/${name}` as ByteString);
      for (const link of alternativeLinks(group, current, (path) => this.has(path as ByteString))) {
        const place = this.#resolveFolder(link.path as ByteString) ?? (link.path as ByteString);
        this.entries.set(place, { t: "symlink", target: link.target as ByteString });
      }
    }
  }

  /** Adds links and folders that no package lists, where the machine has them, and alternatives that listed links lead through. */
  addUnlisted(paths: readonly string[]): void {
    const through = [...this.entries.values()].flatMap((entry) =>
      entry.t === "symlink" && entry.target.startsWith("/etc/alternatives/") ? [entry.target] : [],
    );
    for (const path of [...(paths as readonly ByteString[]), ...through]) {
      const real = this.#resolveFolder(path);
      const found = real === null ? null : this.#lstat(real);
      if (real !== null && found !== null && !this.entries.has(real)) this.#record(real, found);
    }
  }

  /** Whether a path leads to something in the image, links followed inside it. */
  has(path: ByteString): boolean {
    let links = 0;
    const walk = (from: ByteString): boolean => {
      let at = "" as ByteString;
      const components = from.split("/").filter((component) => component !== "" && component !== ".");
      for (const [index, component] of components.entries()) {
        at =
          component === ".."
            ? (at.slice(0, Math.max(0, at.lastIndexOf("/"))) as ByteString)
            : (`${at}/${component}` as ByteString);
        const entry = at === "" ? undefined : this.entries.get(at);
        if (entry?.t !== "symlink") continue;
        links += 1;
        if (links > LINKS_MAX) return false;
        const rest = components.slice(index + 1).join("/");
        const base = entry.target.startsWith("/") ? "" : at.slice(0, at.lastIndexOf("/"));
        return walk(`${base}/${entry.target}/${rest}` as ByteString);
      }
      return at === "" || this.entries.has(at);
    };
    return walk(path);
  }

  /** Adds the folders above each entry that no list named. */
  addParents(): void {
    for (const path of this.entries.keys())
      for (let at = path.lastIndexOf("/"); at > 0; at = path.lastIndexOf("/", at - 1)) {
        const parent = path.slice(0, at) as ByteString;
        if (this.entries.has(parent)) continue;
        const found = this.#lstat(parent);
        this.entries.set(parent, { t: "directory", mode: found?.isDirectory() ? found.mode & MODE_MASK : 0o755 });
      }
  }

  /** The path with links above its last component resolved, each recorded on the way; null when something is not there. */
  #resolveFolder(path: ByteString): ByteString | null {
    let links = 0;
    const pending = path.split("/").filter((component) => component !== "" && component !== ".") as ByteString[];
    let at = "" as ByteString;
    for (let component = pending.shift(); component !== undefined; component = pending.shift()) {
      if (component === "..") {
        at = at.slice(0, Math.max(0, at.lastIndexOf("/"))) as ByteString;
        continue;
      }
      const next = `${at}/${component}` as ByteString;
      if (pending.length === 0) return next;
      const found = this.#lstat(next);
      if (found === null) return null;
      if (found.isSymbolicLink()) {
        links += 1;
        if (links > LINKS_MAX) throw new HpccError("image.invalid", `too many links in ${path} of this machine`);
        this.#record(next, found);
        const target = this.#readlink(next) ?? ("" as ByteString);
        if (target.startsWith("/")) at = "" as ByteString;
        pending.unshift(...(target.split("/").filter((part) => part !== "" && part !== ".") as ByteString[]));
      } else at = next;
    }
    return at;
  }

  #record(path: ByteString, found: Stats): void {
    if (found.isDirectory()) this.entries.set(path, { t: "directory", mode: found.mode & MODE_MASK });
    else if (found.isSymbolicLink()) {
      const target = this.#readlink(path);
      if (target !== null) this.entries.set(path, { t: "symlink", target });
    } else if (found.isFile()) {
      const from = byteStringOf(this.#host(path));
      this.entries.set(path, { t: "file", mode: found.mode & MODE_MASK, sizeBytes: found.size, from });
    } else this.refused.push(path);
  }

  #host(path: ByteString): Buffer {
    return Buffer.concat([Buffer.from(this.#root), bytesOf(path)]);
  }

  #lstat(path: ByteString): Stats | null {
    return lstatSync(this.#host(path), { throwIfNoEntry: false }) ?? null;
  }

  #readlink(path: ByteString): ByteString | null {
    try {
      return byteStringOf(readlinkSync(this.#host(path), { encoding: "buffer" }));
    } catch {
      return null;
    }
  }
}
