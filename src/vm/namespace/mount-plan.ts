// What the client's two namespaces show, as arguments of bubblewrap. `strict` holds the image and the declared roots and
// nothing else; `local` adds the host's other folders at their own paths. Pure: folders are listed by the caller.
import { ascii, type ByteString, displayText } from "../../base/byte-string.ts";
import { HpccError } from "../../base/errors.ts";
import { CALL_FILES, EXTRA_ROOTS, PROJECT_ROOT } from "../../core/compile/view/view.ts";

export type FolderEntry =
  | { readonly name: ByteString; readonly t: "directory" | "file" }
  | { readonly name: ByteString; readonly t: "symlink"; readonly target: ByteString };

/** What the plan is made from. */
export interface MountSources {
  /** Host path of the unpacked image. */
  readonly rootfs: ByteString;
  /** Entries of a folder of the image, sorted; `path` is absolute in the image, "" is its root. Null when it is no folder. */
  readonly listImage: (path: ByteString) => readonly FolderEntry[] | null;
  /** Entries of the host's root folder, sorted. */
  readonly hostTop: readonly FolderEntry[];
  /** Names of the host's folders below /usr/share, sorted. */
  readonly hostShare: readonly ByteString[];
  /** Names in the host's /etc. */
  readonly hostEtc: readonly ByteString[];
}

export interface ExtraRoot {
  /** One path component. */
  readonly name: ByteString;
  /** Absolute host path, links resolved. */
  readonly host: ByteString;
}

export interface MountRoots {
  /** Absolute host path of the project's root, links resolved. */
  readonly project: ByteString;
  readonly extraRoots: readonly ExtraRoot[];
  /** Host folder with the daemon's files of calls. */
  readonly callFiles: ByteString;
}

/** Folders that are shown in the image's place. */
export interface ShownFolders {
  /** Host path of what they lie below. */
  readonly root: string;
  /** Absolute in the image. */
  readonly folders: readonly ByteString[];
  /** Tells folders apart that stood at the same path one after another. */
  readonly stamp: string;
}

/** What the namespace of `hpcc run` has beside the image. */
export interface RunMounts {
  /** Host path of the launcher, which stands in the compilers' places. */
  readonly launcher: ByteString;
  /** The image's compilers, absolute in it, links resolved. */
  readonly compilers: readonly ByteString[];
  /** Host folders of hpcc's own that are seen at their paths. */
  readonly folders: readonly ByteString[];
}

/** Where the namespace of `hpcc run` keeps the image's compilers, each under its own path. The launcher knows it. */
const REAL_COMPILERS = "/hpcc/real";
/** On that namespace's PATH. */
export const RUN_PROGRAMS = ascii("/hpcc/bin");
/** Who the user is and where the network's names are, as on the host; and hpcc's configuration. */
const MACHINE_FILES = new Set(["/etc/group", "/etc/hosts", "/etc/hpcc", "/etc/passwd", "/etc/resolv.conf"]);

/** Top-level names that never come from the image. */
const NEVER_IMAGE: ReadonlySet<string> = new Set(["dev", "hpcc", "proc", "run", "sys", "tmp"]);
/** In `local`, top-level names that come from the host even when the image has them. */
const HOST_FIRST: ReadonlySet<string> = new Set(["boot", "home", "media", "mnt", "root", "srv", "var"]);
/** Top-level names that a compiler searches: in `local` they come from the image or are absent. */
const NEVER_HOST = /^(?:bin|etc|hpcc|lib.*|sbin|usr)$/;
/** Sources by convention; no tool searches it, so a project below it sees all of it. */
const SOURCES_FOLDER = ascii("/usr/src");

const SHARE = "/usr/share/";
/** Of the host's /usr/share, what `local` shows: CMake compiles sources that stand there to learn about the compiler. */
const SHARED_SOURCES = /^cmake(?:-[0-9.]+)?$/;

const DEVICES = ["full", "null", "random", "urandom", "zero"];
const DEVICE_LINKS = [
  ["fd", "/proc/self/fd"],
  ["stdin", "/proc/self/fd/0"],
  ["stdout", "/proc/self/fd/1"],
  ["stderr", "/proc/self/fd/2"],
] as const;

/** bubblewrap arguments of the namespace for preprocessing: image, roots, a minimal /dev, /proc, an empty /tmp. */
export function planStrict(sources: MountSources, roots: MountRoots): ByteString[] {
  checkRoots(roots);
  const plan: string[] = [];
  for (const entry of sources.listImage(ascii("")) ?? [])
    if (!NEVER_IMAGE.has(entry.name)) plan.push(...imageMount(sources, `/${entry.name}`, entry));
  plan.push("--perms", "1777", "--tmpfs", "/tmp");
  // A fresh procfs would need a process namespace, which kept namespaces cannot have; --dev makes a second user namespace.
  plan.push("--dev-bind", "/proc", "/proc", "--dir", "/dev");
  for (const name of DEVICES) plan.push("--dev-bind", `/dev/${name}`, `/dev/${name}`);
  for (const [name, target] of DEVICE_LINKS) plan.push("--symlink", target, `/dev/${name}`);
  plan.push(...viewMounts(roots), "--bind", roots.callFiles, CALL_FILES);
  return [...(plan as ByteString[]), ...sealed()];
}

/**
 * bubblewrap arguments of the namespace for local compiles: the image's toolchain, everything else as on the host. They outlive
 * the daemon, in a plan, so they need nothing of its own, and no folder that the host may have lost meanwhile.
 */
export function planLocal(sources: MountSources, roots: MountRoots): ByteString[] {
  const shared = isInImage(sources, "usr") ? sources.hostShare.filter((name) => SHARED_SOURCES.test(name)) : [];
  const shown = shared.map((name) => `/usr/share/${name}` as ByteString);
  return [...localMounts(sources, roots, shown), ...sealed()];
}

/**
 * bubblewrap arguments of the namespace of `hpcc run`: what `local` shows, the launcher in the place of each compiler, and the few files
 * that say who and where the user is.
 */
export function planRun(sources: MountSources, roots: MountRoots, run: RunMounts): ByteString[] {
  const machine = sources.hostEtc.map((name) => `/etc/${name}` as ByteString);
  const shown = [...machine.filter((path) => MACHINE_FILES.has(path)), ...run.folders];
  const plan: string[] = localMounts(sources, roots, shown);
  plan.push("--dir", REAL_COMPILERS, "--ro-bind", run.launcher, `${RUN_PROGRAMS}/hpcc`);
  for (const path of run.compilers) {
    if (!isInImage(sources, topName(path))) continue;
    plan.push("--ro-bind", sources.rootfs + path, REAL_COMPILERS + path, "--ro-bind", run.launcher, path);
  }
  return [...(plan as ByteString[]), ...sealed()];
}

/** A plan with some folders of the image replaced, for a namespace in which files are listed. */
export function planListing(plan: readonly ByteString[], { root, folders }: Omit<ShownFolders, "stamp">): ByteString[] {
  const shown = folders.flatMap((folder) => ["--ro-bind", root + folder, folder]);
  const end = sealed();
  return [...plan.slice(0, -end.length), ...(shown as ByteString[]), ...end];
}

function sealed(): ByteString[] {
  return [ascii("--remount-ro"), ascii("/")];
}

function isInImage(sources: MountSources, name: string): boolean {
  return (sources.listImage(ascii("")) ?? []).some((entry) => entry.name === name && isImageOwned(sources, entry));
}

/** The image's toolchain, everything else as on the host; `shown` are host paths that are seen although the image has their top folder. */
function localMounts(sources: MountSources, roots: MountRoots, shown: readonly ByteString[]): ByteString[] {
  checkRoots(roots);
  const plan: string[] = [];
  const hostPaths = [...new Set([roots.project, ...roots.extraRoots.map((root) => root.host), ...shown])];
  const imageTop = (sources.listImage(ascii("")) ?? []).filter((entry) => isImageOwned(sources, entry));
  const imageNames = new Set<string>(imageTop.map((entry) => entry.name));
  for (const entry of sources.hostTop) {
    if (imageNames.has(entry.name) || NEVER_HOST.test(entry.name)) continue;
    if (entry.t === "symlink") plan.push("--symlink", entry.target, `/${entry.name}`);
    else plan.push("--dev-bind-try", `/${entry.name}`, `/${entry.name}`);
  }
  const hidden = hostPaths.filter((path) => isHidden(path, imageNames));
  for (const entry of imageTop) plan.push(...splitMount(sources, { path: `/${entry.name}`, entry, roots: hidden }));
  for (const path of hidden) if (!imageNames.has(topName(path))) plan.push(...hostMount(path));
  plan.push(...viewMounts(roots));
  return plan as ByteString[];
}

function topName(path: string): string {
  return path.split("/", 2)[1] ?? "";
}

/** Whether the host's file tree does not show a host path in `local` by itself. */
function isHidden(path: ByteString, imageNames: ReadonlySet<string>): boolean {
  return imageNames.has(topName(path)) || NEVER_HOST.test(topName(path));
}

/** Names of the image's top-level entries that both namespaces take from it: a path below them means the same in each. */
export function imageOwnedNames(sources: Pick<MountSources, "listImage">): ByteString[] {
  const top = sources.listImage(ascii("")) ?? [];
  return top.filter((entry) => isImageOwned(sources, entry)).map(({ name }) => name);
}

/** Whether `local` takes a top-level entry from the image: not an empty mount point, not what the host has to show. */
function isImageOwned(sources: Pick<MountSources, "listImage">, entry: FolderEntry): boolean {
  if (NEVER_IMAGE.has(entry.name) || HOST_FIRST.has(entry.name)) return false;
  if (entry.t !== "directory" || NEVER_HOST.test(entry.name)) return true;
  return (sources.listImage(`/${entry.name}` as ByteString) ?? []).length > 0;
}

function checkRoots(roots: MountRoots): void {
  for (const path of [roots.project, roots.callFiles, ...roots.extraRoots.map((root) => root.host)])
    if (!/^(?:\/[^/]+)+$/s.test(path) || path.includes("\0"))
      throw new HpccError("argument.invalid", `${displayText(path)} cannot be a root of a namespace`);
  for (const { name } of roots.extraRoots)
    if (name === "" || name === "." || name === ".." || /[/\0]/.test(name))
      throw new HpccError("argument.invalid", `${displayText(name)} cannot be the name of an extra root`);
}

function viewMounts(roots: MountRoots): string[] {
  const plan: string[] = ["--bind", roots.project, PROJECT_ROOT];
  for (const { name, host } of roots.extraRoots) plan.push("--bind", host, `${EXTRA_ROOTS}/${name}`);
  return plan;
}

function imageMount(sources: MountSources, path: string, entry: FolderEntry): string[] {
  return entry.t === "symlink" ? ["--symlink", entry.target, path] : ["--ro-bind", sources.rootfs + path, path];
}

interface Split {
  readonly path: string;
  readonly entry: FolderEntry;
  /** Host paths that have to stand at their own place. */
  readonly roots: readonly ByteString[];
}

/**
 * Mounts of one image folder. Mount points cannot be made in it, as it is read-only: where a root lies below it, the
 * folder is made anew and its entries are mounted one by one, down to the root.
 */
function splitMount(sources: MountSources, { path, entry, roots }: Split): string[] {
  const below = roots.filter((root) => root === path || root.startsWith(`${path}/`));
  if (below.length === 0) return imageMount(sources, path, entry);
  const whole = below.find((root) => root === path);
  if (whole !== undefined) {
    if (NEVER_HOST.test(topName(path)) && path.indexOf("/", 1) === -1)
      throw new HpccError("argument.invalid", `a project at ${displayText(whole)} would hide the image's toolchain`);
    return hostMount(whole);
  }
  const children = entry.t === "directory" ? sources.listImage(path as ByteString) : null;
  if (children === null)
    throw new HpccError("argument.invalid", `${path} is no folder in the image, so no project can stand below it`);
  const plan = ["--dir", path];
  for (const child of children)
    plan.push(...splitMount(sources, { path: `${path}/${child.name}`, entry: child, roots }));
  const names = new Set<string>(children.map((child) => child.name));
  const absent = below.filter((root) => !names.has(root.slice(path.length + 1).split("/", 1)[0] ?? ""));
  const shown = new Set(
    absent.map((root) => (root.startsWith(`${SOURCES_FOLDER}/`) && path === "/usr" ? SOURCES_FOLDER : root)),
  );
  for (const root of shown) plan.push(...hostMount(root));
  return plan;
}

function hostMount(path: ByteString): string[] {
  if (MACHINE_FILES.has(path)) return ["--ro-bind", path, path];
  // A plan outlives what the host has in its /usr/share; a project is there.
  const isShared = path.startsWith(SHARE) && SHARED_SOURCES.test(path.slice(SHARE.length));
  return [isShared ? "--bind-try" : "--bind", path, path];
}
