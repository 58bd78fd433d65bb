// Follows names of files through the view and gathers what a guest needs to follow them likewise: files, the links on their way, folders
// that must exist. Reads links and kinds from disk, no contents. UNTRUSTED: the checkout's links.
import { lstatSync, readlinkSync } from "node:fs";
import { type ByteString, byteStringOf, bytesOf } from "../../base/byte-string.ts";
import { toHostPath, type View } from "../../core/compile/view/view.ts";

/** Links followed in one name, as in Linux. */
const LINKS_MAX = 40;

export interface TreePlaces {
  readonly view: View;
  /** Working directory in the view, links resolved. */
  readonly cwd: ByteString;
  /** Host path of the unpacked image. */
  readonly imageRoot: ByteString;
  /** Names of top-level entries that are the image's on both sides. */
  readonly imageEntries: ReadonlySet<string>;
  /** What is known of paths of the image, by their paths on the host: it never changes. Those of one tree alone where it is left out. */
  readonly imageKinds?: EntryKinds;
}

export type EntryKind = "link" | "folder" | "file" | "other";
/** Null for what is not there. */
export type EntryKinds = Map<ByteString, EntryKind | null>;

export type Followed =
  /** A file or folder of a root, by its own path in the view and on the host. */
  | { readonly kind: "file" | "folder"; readonly guest: ByteString; readonly host: ByteString }
  /** In the image, which the guest has; `path` with links resolved. */
  | { readonly kind: "image"; readonly path: ByteString }
  | { readonly kind: "absent" }
  /** It leads to neither; or to a device, or through too many links. */
  | { readonly kind: "outside" };

interface Walk {
  /** Resolved path in the view; "" is the root folder. */
  position: string;
  links: number;
  end: "absent" | "outside" | null;
  last: "file" | "folder";
}

export class SourceTree {
  readonly #places: TreePlaces;
  readonly #files = new Set<ByteString>();
  readonly #links = new Map<ByteString, ByteString>();
  readonly #folders = new Set<ByteString>();
  /** Where folders lead that were taken, or looked at, through no link. */
  readonly #taken = new Map<string, Walk>();
  readonly #looked = new Map<string, Walk>();
  readonly #kinds: EntryKinds = new Map();
  readonly #imageKinds: EntryKinds;

  constructor(places: TreePlaces) {
    this.#places = places;
    this.#folders.add(places.cwd);
    this.#imageKinds = places.imageKinds ?? new Map();
  }

  get links(): { readonly path: ByteString; readonly target: ByteString }[] {
    return [...this.#links].map(([path, target]) => ({ path, target }));
  }

  get folders(): ByteString[] {
    return [...this.#folders];
  }

  /** Whether a file was taken. */
  has(guest: ByteString): boolean {
    return this.#files.has(guest);
  }

  /** Takes a file or folder, as the compiler names it, into the tree, and what leads to it. */
  add(name: ByteString): Followed {
    const walk = this.#follow(name, true);
    const found = this.#ended(walk);
    if (found.kind === "file") this.#files.add(found.guest);
    if (found.kind === "folder") this.#folders.add(found.guest);
    return found;
  }

  /** Where a name leads, without taking it. */
  look(name: ByteString): Followed {
    return this.#ended(this.#follow(name, false));
  }

  #ended(walk: Walk): Followed {
    if (walk.end !== null) return { kind: walk.end };
    const guest = walk.position as ByteString;
    const host = toHostPath(this.#places.view, guest);
    if (host !== null) return { kind: walk.last, guest, host };
    return this.#isImage(walk.position) ? { kind: "image", path: guest } : { kind: "outside" };
  }

  #follow(name: ByteString, take: boolean): Walk {
    const slash = name.lastIndexOf("/");
    const walk = slash <= 0 ? this.#start(name) : this.#toFolder(name.slice(0, slash), take);
    this.#steps(walk, name.slice(slash + 1), take);
    return walk;
  }

  /** Many names are sought in the same few folders. */
  #toFolder(path: string, take: boolean): Walk {
    const known = take ? this.#taken : this.#looked;
    const before = known.get(path);
    if (before !== undefined) return { ...before };
    const walk = this.#start(path);
    this.#steps(walk, path, take);
    if (walk.links === 0) known.set(path, { ...walk });
    return walk;
  }

  #start(name: string): Walk {
    return { position: name.startsWith("/") ? "" : this.#places.cwd, links: 0, end: null, last: "folder" };
  }

  #steps(walk: Walk, path: string, take: boolean): void {
    for (const component of path.split("/")) {
      if (walk.end !== null) return;
      if (component === "" || component === ".") continue;
      if (walk.last === "file") {
        walk.end = "absent";
        return;
      }
      if (component === "..") walk.position = walk.position.slice(0, Math.max(0, walk.position.lastIndexOf("/")));
      else this.#enter(walk, `${walk.position}/${component}`, take);
    }
  }

  #enter(walk: Walk, path: string, take: boolean): void {
    const inRoot = toHostPath(this.#places.view, path as ByteString);
    const host = inRoot ?? this.#inImage(path);
    if (host === null) {
      // Folders above a root are no links: roots are known by their resolved paths.
      if (this.#isAboveRoot(path)) walk.position = path;
      else walk.end = "outside";
      return;
    }
    const kind = kindOf(host, inRoot === null ? this.#imageKinds : this.#kinds);
    if (kind === null) walk.end = "absent";
    else if (kind === "link") this.#throughLink(walk, path, host, take);
    else if (kind === "other") walk.end = "outside";
    else {
      walk.position = path;
      walk.last = kind;
      if (take && kind === "folder" && inRoot !== null) this.#folders.add(path as ByteString);
    }
  }

  #throughLink(walk: Walk, path: string, host: ByteString, take: boolean): void {
    walk.links += 1;
    if (walk.links > LINKS_MAX) {
      walk.end = "outside";
      return;
    }
    const target = byteStringOf(readlinkSync(bytesOf(host), { encoding: "buffer" }));
    if (take && toHostPath(this.#places.view, path as ByteString) !== null) this.#links.set(path as ByteString, target);
    if (target.startsWith("/")) walk.position = "";
    this.#steps(walk, target, take);
  }

  #inImage(path: string): ByteString | null {
    return this.#isImage(path) ? ((this.#places.imageRoot + path) as ByteString) : null;
  }

  #isImage(path: string): boolean {
    return this.#places.imageEntries.has(path.split("/", 2)[1] ?? "");
  }

  #isAboveRoot(path: string): boolean {
    return this.#places.view.roots.some(({ guest }) => guest.startsWith(`${path}/`));
  }
}

function kindOf(host: ByteString, kinds: EntryKinds): EntryKind | null {
  const known = kinds.get(host);
  if (known !== undefined) return known;
  let kind: EntryKind | null = null;
  try {
    const stat = lstatSync(bytesOf(host), { throwIfNoEntry: false });
    if (stat !== undefined)
      kind = stat.isSymbolicLink() ? "link" : stat.isDirectory() ? "folder" : stat.isFile() ? "file" : "other";
  } catch {
    // A folder that may not be searched is none to the compiler either.
  }
  kinds.set(host, kind);
  return kind;
}
