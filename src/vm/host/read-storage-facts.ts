// Finds what a folder lies on: its mount, the block device beneath it, and the devices beneath that.
import { readdir, readFile, readlink, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { type BlockLayer, FACT_DEPTH_MAX, type StorageFacts } from "./host-facts.ts";

export interface Mount {
  /** "major:minor"; of no block device where major is 0. */
  readonly device: string;
  readonly mountPoint: string;
  readonly fileSystem: string;
  readonly source: string;
}

const MEMORY_DEVICE = /^(zram|ram)\d+$/;
const MEMORY_FILE_SYSTEM = /^(tmpfs|ramfs)$/;
const DEVICES_MAX = 64;

/** The mounts that this process sees, oldest first; none when they cannot be read. */
export async function readMounts(root: string): Promise<Mount[]> {
  const text = await readFile(join(root, "/proc/self/mountinfo"), "utf8").catch(() => "");
  return text.split("\n").flatMap((line) => {
    const [before = "", after = ""] = line.split(" - ");
    const [, , device, , mountPoint] = before.split(" ");
    const [fileSystem, source] = after.split(" ");
    if (device === undefined || mountPoint === undefined || fileSystem === undefined || source === undefined) return [];
    return [{ device, mountPoint: unescaped(mountPoint), fileSystem, source: unescaped(source) }];
  });
}

/** The kernel writes spaces and the like as three octal digits. */
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_all, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}

/** What a folder lies on, whether it is there yet or not; null when no mount holds it. */
export async function readStorageFacts(root: string, folder: string): Promise<StorageFacts | null> {
  return storageOf(root, await readMounts(root), folder, 0);
}

async function storageOf(
  root: string,
  mounts: readonly Mount[],
  path: string,
  depth: number,
): Promise<StorageFacts | null> {
  const mount = mountOf(mounts, resolve("/", path));
  if (mount === null) return null;
  const { fileSystem, source } = mount;
  const name = await deviceName(root, mount);
  return { fileSystem, source, device: name === null ? null : await layerOf(root, mounts, name, depth) };
}

/** The newest of the deepest mounts that hold a path. */
function mountOf(mounts: readonly Mount[], path: string): Mount | null {
  let best: Mount | null = null;
  for (const mount of mounts) {
    const { mountPoint } = mount;
    const holds = path === mountPoint || path.startsWith(mountPoint === "/" ? "/" : `${mountPoint}/`);
    if (holds && (best === null || mountPoint.length >= best.mountPoint.length)) best = mount;
  }
  return best;
}

/** The kernel's name of a mount's block device; some file systems show a number of their own, but name their device. */
async function deviceName(root: string, { device, source }: Mount): Promise<string | null> {
  const link = await readlink(join(root, "/sys/dev/block", device)).catch(() => null);
  if (link !== null) return basename(link);
  if (!source.startsWith("/dev/")) return null;
  const blocks = join(root, "/sys/class/block");
  if (!source.startsWith("/dev/mapper/"))
    return (await isThere(join(blocks, basename(source)))) ? basename(source) : null;
  for (const name of await readdir(blocks).catch(() => []))
    if ((await textOf(join(blocks, name, "dm/name"))) === basename(source)) return name;
  return null;
}

async function layerOf(root: string, mounts: readonly Mount[], name: string, depth: number): Promise<BlockLayer> {
  const folder = join(root, "/sys/class/block", name);
  const memory = MEMORY_DEVICE.test(name);
  const dmUuid = await textOf(join(folder, "dm/uuid"));
  if (memory || depth >= FACT_DEPTH_MAX) return { name, dmUuid, memory, below: [] };
  const next = depth + 1;
  const listed: string[] = await readdir(join(folder, "slaves")).catch(() => []);
  const slaves = listed.sort().slice(0, DEVICES_MAX);
  if (slaves.length > 0)
    return {
      name,
      dmUuid,
      memory,
      below: await Promise.all(slaves.map((slave) => layerOf(root, mounts, slave, next))),
    };
  const backing = await textOf(join(folder, "loop/backing_file"));
  if (backing !== null) {
    const storage = await storageOf(root, mounts, backing, next);
    const inMemory = storage !== null && MEMORY_FILE_SYSTEM.test(storage.fileSystem);
    return { name, dmUuid, memory: inMemory, below: storage?.device ? [storage.device] : [] };
  }
  // A partition stands in the folder of its disk.
  const disk = (await isThere(join(folder, "partition"))) ? await readlink(folder).catch(() => null) : null;
  return {
    name,
    dmUuid,
    memory,
    below: disk === null ? [] : [await layerOf(root, mounts, basename(dirname(disk)), next)],
  };
}

async function textOf(path: string): Promise<string | null> {
  return readFile(path, "utf8").then(
    (text) => text.trim(),
    () => null,
  );
}

async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
