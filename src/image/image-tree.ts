// The file tree that an image's layers make: whiteouts, links and replacements are worked out here, in memory, and never
// on a disk. UNTRUSTED: registry. Content stays in the layers; a file is known by layer and ordinal. Pure.
import type { ByteString } from "../base/byte-string.ts";
import { HpccError } from "../base/errors.ts";
import { parseEntryPath, parseSymlinkTarget, quoteName } from "./entry-path.ts";
import { IMAGE_LIMITS, type ImageLimits } from "./image-limits.ts";
import type { TarMember } from "./tar-encode.ts";

/** What a layer says about one path. Names are bytes as found. */
export interface LayerEntryHeader {
  readonly type: "file" | "link" | "symlink" | "directory";
  readonly name: string;
  readonly mode: number;
  readonly sizeBytes: number;
  /** Target of a link or symlink. */
  readonly link: string | null;
}

/** One file's content, which several names may share. */
interface Content {
  readonly layer: number;
  readonly ordinal: number;
  readonly mode: number;
  readonly sizeBytes: number;
}

interface DirectoryNode {
  readonly t: "directory";
  mode: number;
  layer: number;
  /** Layer whose whiteout emptied it last of what lower layers put there; -1 for none. */
  clearedBy: number;
  readonly children: Map<ByteString, TreeNode>;
}

type TreeNode =
  | DirectoryNode
  | { readonly t: "file"; readonly layer: number; readonly content: Content }
  | { readonly t: "symlink"; readonly layer: number; readonly target: ByteString };

/** What a flattened archive holds, in the order in which it is written. */
export interface Emission {
  /** Directories (parents first) and symbolic links. */
  readonly first: readonly TarMember[];
  /** By layer: the member to write for the content of an ordinal. */
  readonly files: readonly ReadonlyMap<number, TarMember>[];
  /** Further names of files, as hard links. */
  readonly last: readonly TarMember[];
}

const WHITEOUT = ".wh.";
const WHITEOUT_META = ".wh..wh.";
const OPAQUE = ".wh..wh..opq";
const IMPLICIT_MODE = 0o755;
/** Permission bits that are kept: never set-user-id or set-group-id. */
const MODE_MASK = 0o1777;

function refuse(name: string, why: string): never {
  throw new HpccError("image.invalid", `layer entry ${quoteName(name)} ${why}`);
}

export class ImageTree {
  readonly #root: DirectoryNode = { t: "directory", mode: IMPLICIT_MODE, layer: 0, clearedBy: -1, children: new Map() };
  readonly #limits: ImageLimits;
  #entries = 0;
  #nodes = 0;
  #nameBytes = 0;

  constructor(limits: ImageLimits = IMAGE_LIMITS) {
    this.#limits = limits;
  }

  /** Applies one entry; entries of a layer in their order, layers from the lowest. UNTRUSTED: registry. */
  apply(layer: number, ordinal: number, entry: LayerEntryHeader): void {
    this.#entries += 1;
    this.#checkLimit(this.#entries, this.#limits.entriesMax, "entries");
    if (!Number.isInteger(entry.mode) || entry.mode < 0) refuse(entry.name, "has no valid mode");
    if (entry.type !== "file" && entry.sizeBytes !== 0) refuse(entry.name, `is a ${entry.type} with content`);
    const components = parseEntryPath(entry.name);
    const last = components.at(-1);
    if (last === undefined) {
      if (entry.type !== "directory") refuse(entry.name, "replaces the root");
      return;
    }
    const parents = components.slice(0, -1);
    for (const parent of parents) if (parent.startsWith(WHITEOUT)) refuse(entry.name, "is below a whiteout");
    if (last.startsWith(WHITEOUT)) {
      this.#whiteout(layer, entry, { parents, last });
      return;
    }
    const folder = this.#folder(layer, parents, entry.name);
    this.#put(folder, last, { layer, ordinal, entry });
  }

  /** The flattened archive's members, sorted by the bytes of their paths. */
  emission(layerCount: number): Emission {
    const first: TarMember[] = [];
    const files = Array.from({ length: layerCount }, () => new Map<number, TarMember>());
    const last: TarMember[] = [];
    const written = new Map<Content, ByteString>();
    const walk = (folder: DirectoryNode, prefix: string) => {
      for (const name of [...folder.children.keys()].sort()) {
        const node = folder.children.get(name)!;
        const path = (prefix + name) as ByteString;
        if (node.t === "directory") {
          first.push({ path, type: "directory", mode: node.mode, sizeBytes: 0, link: null });
          walk(node, `${path}/`);
        } else if (node.t === "symlink") {
          first.push({ path, type: "symlink", mode: 0o777, sizeBytes: 0, link: node.target });
        } else {
          const { content } = node;
          const before = written.get(content);
          if (before === undefined) {
            written.set(content, path);
            const member = {
              path,
              type: "file",
              mode: content.mode,
              sizeBytes: content.sizeBytes,
              link: null,
            } as const;
            files[content.layer]!.set(content.ordinal, member);
          } else last.push({ path, type: "link", mode: content.mode, sizeBytes: 0, link: before });
        }
      }
    };
    walk(this.#root, "");
    return { first, files, last };
  }

  #checkLimit(value: number, max: number, what: string): void {
    if (value > max) throw new HpccError("limit.exceeded", `the image has more than ${max} ${what}`);
  }

  /** One node more. Its whole path counts: the member that is made of it holds that. */
  #count(pathBytes: number, target: string): void {
    this.#nodes += 1;
    this.#nameBytes += pathBytes + target.length;
    this.#checkLimit(this.#nodes, this.#limits.entriesMax, "files and folders");
    this.#checkLimit(this.#nameBytes, this.#limits.nameBytesMax, "bytes of names");
  }

  /** The folder of a path, made when it is absent; never through a link. */
  #folder(layer: number, components: readonly ByteString[], name: string): DirectoryNode {
    let folder = this.#root;
    let pathBytes = 0;
    for (const component of components) {
      pathBytes += component.length + 1;
      let next = folder.children.get(component);
      if (next === undefined) {
        this.#count(pathBytes, "");
        next = { t: "directory", mode: IMPLICIT_MODE, layer, clearedBy: -1, children: new Map() };
        folder.children.set(component, next);
      } else if (next.t === "symlink") refuse(name, "goes through a symbolic link");
      else if (next.t === "file") refuse(name, "goes through a file");
      folder = next;
    }
    return folder;
  }

  /** The folder of a path, null when it is absent; never through a link. */
  #existingFolder(components: readonly ByteString[], name: string): DirectoryNode | null {
    let folder = this.#root;
    for (const component of components) {
      const next = folder.children.get(component);
      if (next === undefined || next.t === "file") return null;
      if (next.t === "symlink") refuse(name, "goes through a symbolic link");
      folder = next;
    }
    return folder;
  }

  #put(
    folder: DirectoryNode,
    last: ByteString,
    from: { readonly layer: number; readonly ordinal: number; readonly entry: LayerEntryHeader },
  ): void {
    const { layer, ordinal, entry } = from;
    const mode = entry.mode & MODE_MASK;
    const existing = folder.children.get(last);
    if (entry.type === "directory" && existing?.t === "directory") {
      existing.mode = mode;
      existing.layer = layer;
      return;
    }
    let node: TreeNode;
    switch (entry.type) {
      case "directory":
        node = { t: "directory", mode, layer, clearedBy: -1, children: new Map() };
        break;
      case "file":
        node = { t: "file", layer, content: { layer, ordinal, mode, sizeBytes: entry.sizeBytes } };
        break;
      case "symlink":
        node = { t: "symlink", layer, target: parseSymlinkTarget(entry.name, entry.link ?? "") };
        break;
      case "link":
        node = this.#linked(layer, entry);
        break;
    }
    this.#count(entry.name.length, node.t === "symlink" ? node.target : "");
    folder.children.set(last, node);
  }

  #linked(layer: number, entry: LayerEntryHeader): TreeNode {
    const target = parseEntryPath(entry.link ?? "");
    const last = target.at(-1);
    const node =
      last === undefined ? this.#root : this.#existingFolder(target.slice(0, -1), entry.name)?.children.get(last);
    if (node === undefined) refuse(entry.name, "is a hard link to what is not there");
    if (node.t === "directory") refuse(entry.name, "is a hard link to a folder");
    return { ...node, layer };
  }

  #whiteout(
    layer: number,
    entry: LayerEntryHeader,
    path: { readonly parents: readonly ByteString[]; readonly last: ByteString },
  ): void {
    if (entry.type !== "file") refuse(entry.name, "is a whiteout that is no file");
    const folder = this.#existingFolder(path.parents, entry.name);
    if (path.last === OPAQUE) {
      if (folder !== null) removeLower(folder, layer);
      return;
    }
    // Book-keeping of aufs, which says nothing about files.
    if (path.last.startsWith(WHITEOUT_META)) return;
    const hidden = path.last.slice(WHITEOUT.length) as ByteString;
    if (hidden === "" || hidden === "." || hidden === "..") refuse(entry.name, "hides no name");
    const node = folder?.children.get(hidden);
    if (folder === null || node === undefined) return;
    if (node.t === "directory") removeLower(node, layer);
    if (node.layer < layer && !(node.t === "directory" && node.children.size > 0)) folder.children.delete(hidden);
  }
}

/**
 * Removes from a folder what lower layers put there; folders that hold something of this layer stay. Once for a layer: nothing of
 * a lower one appears later, and a layer of whiteouts alone must not walk everything for each of them.
 */
function removeLower(folder: DirectoryNode, layer: number): void {
  if (folder.clearedBy === layer) return;
  folder.clearedBy = layer;
  for (const [name, node] of folder.children) {
    if (node.t === "directory") removeLower(node, layer);
    if (node.layer < layer && !(node.t === "directory" && node.children.size > 0)) folder.children.delete(name);
  }
}
