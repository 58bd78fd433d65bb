// Folders and links on the way to files: what was moved there meanwhile leads to other files that look old. UNTRUSTED: a checkout's links.
import { lstatSync, readlinkSync } from "node:fs";
import { type ByteString, byteStringOf, bytesOf } from "../../base/byte-string.ts";
import type { FolderNames, FolderNamesCache } from "../inputs/folder-names.ts";

export interface Ways {
  /** Without links on the way. */
  readonly folders: ReadonlySet<ByteString>;
  readonly links: ReadonlySet<ByteString>;
}

const LINKS_MAX = 40;

/** Paths are absolute; one that ends in `/.` is a folder that leads there itself. Names that are known are not looked at one by one. */
export function waysTo(paths: readonly ByteString[], names?: Pick<FolderNamesCache, "known">): Ways {
  const folders = new Set<ByteString>();
  const links = new Set<ByteString>();
  const known = new Map<string, string>();
  const listings = new Map<string, FolderNames | null>();
  const isNoLink = (folder: string, name: string): boolean => {
    let listing = listings.get(folder);
    if (listing === undefined)
      listings.set(folder, (listing = names?.known((folder === "" ? "/" : folder) as ByteString) ?? null));
    const kind = listing?.kinds.get(name);
    return listing !== null && kind !== "link" && kind !== "other";
  };
  const follow = (path: string, linksLeft: number): string => {
    if (path === "" || linksLeft === 0) return path;
    const before = known.get(path);
    if (before !== undefined) return before;
    const slash = path.lastIndexOf("/");
    const parent = follow(path.slice(0, slash), linksLeft);
    const name = path.slice(slash + 1);
    let real =
      name === "" || name === "."
        ? parent
        : name === ".."
          ? parent.slice(0, parent.lastIndexOf("/"))
          : `${parent}/${name}`;
    const target = real === parent || isNoLink(parent, name) ? null : linkTarget(real as ByteString);
    if (target !== null) {
      links.add(real as ByteString);
      real = follow(target.startsWith("/") ? target : `${parent}/${target}`, linksLeft - 1);
    }
    known.set(path, real);
    return real;
  };
  for (const path of paths) {
    const real = follow(path, LINKS_MAX);
    const folder = path.endsWith("/.") ? real : real.slice(0, real.lastIndexOf("/"));
    if (folder !== "") folders.add(folder as ByteString);
  }
  return { folders, links };
}

const PROCESSES = /^\/proc(?:\/|$)/;

/**
 * The first way to one of the paths, which are absolute, that the kernel makes anew for each process, as /dev/fd and /proc/self are; null for
 * none. It leads the daemon elsewhere than the caller.
 */
export function processWay(paths: readonly ByteString[]): ByteString | null {
  return processWayOf(waysTo(paths));
}

export function processWayOf({ folders, links }: Ways): ByteString | null {
  return [...links, ...folders].find((way) => PROCESSES.test(way)) ?? null;
}

function linkTarget(path: ByteString): ByteString | null {
  try {
    if (lstatSync(bytesOf(path), { throwIfNoEntry: false })?.isSymbolicLink() !== true) return null;
    return byteStringOf(readlinkSync(bytesOf(path), { encoding: "buffer" }));
  } catch {
    return null;
  }
}
