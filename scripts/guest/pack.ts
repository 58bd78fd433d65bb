// Packs the guest from an unpacked kernel package and the agent: `pack.ts <kept> <agent> <out>`. Writes vmlinux (the ELF image
// inside Debian's vmlinuz, which both QEMU and Firecracker start without the real-mode loader), initramfs.img and guest.json.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { type CpioEntry, packCpio } from "./newc.ts";

/** What the agent loads; modules.dep adds what these need. A kernel may have some of them built in. */
const MODULES = ["virtio_pci", "virtio_mmio", "virtio_blk", "virtio_rng", "squashfs", "vmw_vsock_virtio_transport"];
/** A compressed kernel is about 15 MB, the ELF image 55. */
const DECOMPRESSED_BYTES_MAX = 256 * 2 ** 20;

function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

/** Decompresses by magic number: kernel packages of different Debian releases use different programs. */
function decompressed(bytes: Buffer, what: string): Buffer {
  const magic = bytes.subarray(0, 6).toString("hex");
  const programs: readonly (readonly [string, string])[] = [
    ["02214c18", "lz4"],
    ["04224d18", "lz4"],
    ["28b52ffd", "zstd"],
    ["fd377a585a00", "xz"],
    ["1f8b", "gzip"],
  ];
  if (magic.startsWith("7f454c46")) return bytes;
  const program = programs.find(([start]) => magic.startsWith(start));
  if (!program) throw new Error(`${what}: unknown compression, magic ${magic}`);
  return execFileSync(program[1], ["-dc"], { input: bytes, maxBuffer: DECOMPRESSED_BYTES_MAX });
}

/** The ELF image at the payload offset of a bzImage's boot header (Documentation/arch/x86/boot.rst). */
function elfOf(bzImage: Buffer): Buffer {
  if (bzImage.toString("latin1", 0x202, 0x206) !== "HdrS") throw new Error("vmlinuz has no boot header");
  const setupSectors = bzImage.readUInt8(0x1f1) || 4;
  const start = (setupSectors + 1) * 512 + bzImage.readUInt32LE(0x248);
  const payload = bzImage.subarray(start, start + bzImage.readUInt32LE(0x24c));
  // Compressors that do not record the size get it appended, four bytes.
  const sized = payload.readUInt32LE(0) === 0x184c2102 ? payload.subarray(0, -4) : payload;
  const elf = decompressed(sized, "vmlinuz");
  if (elf.toString("hex", 0, 4) !== "7f454c46") throw new Error("vmlinuz holds no ELF image");
  return elf;
}

function moduleName(path: string): string {
  return basename(path)
    .replace(/\.ko(\..*)?$/, "")
    .replaceAll("-", "_");
}

/** Paths of the modules in load order: each after what it depends on. */
function loadOrder(folder: string): string[] {
  const dependencies = new Map<string, readonly string[]>();
  const paths = new Map<string, string>();
  for (const line of readFileSync(join(folder, "modules.dep"), "utf8").split("\n").filter(Boolean)) {
    const [path = "", rest = ""] = line.split(":");
    paths.set(moduleName(path), path);
    dependencies.set(moduleName(path), rest.split(" ").filter(Boolean).map(moduleName));
  }
  const builtIn = new Set(readFileSync(join(folder, "modules.builtin"), "utf8").split("\n").map(moduleName));
  const order: string[] = [];
  const visit = (name: string): void => {
    const path = paths.get(name);
    if (!path) {
      if (!builtIn.has(name)) throw new Error(`the kernel package has no module ${name}`);
      return;
    }
    if (order.includes(path)) return;
    for (const needed of [...(dependencies.get(name) ?? [])].sort()) visit(needed);
    order.push(path);
  };
  for (const name of MODULES) visit(name);
  return order;
}

function writeAtomically(path: string, content: Uint8Array | string): void {
  writeFileSync(`${path}.new`, content);
  renameSync(`${path}.new`, path);
}

function main(kept: string, agentPath: string, out: string): void {
  const packageFolder = join(kept, "package");
  // Packages of merged-/usr releases name the folder below /usr.
  const base = ["lib/modules", "usr/lib/modules"]
    .map((name) => join(packageFolder, name))
    .find((name) => existsSync(name));
  if (!base) throw new Error(`${packageFolder} holds no kernel modules`);
  const [release = ""] = readdirSync(base);
  const modules = join(base, release);
  const order = loadOrder(modules);

  const kernel = elfOf(readFileSync(join(packageFolder, `boot/vmlinuz-${release}`)));
  const agent = readFileSync(agentPath);
  const files = order.map((path) => ({
    path: `lib/modules/${moduleName(path)}.ko`,
    content: decompressed(readFileSync(join(modules, path)), path),
  }));
  const entries: CpioEntry[] = [
    ...["dev", "lib", "lib/modules", "proc", "sys"].map((path): CpioEntry => ({ kind: "folder", path })),
    // The kernel opens it as the agent's standard streams before anything could mount devtmpfs.
    { kind: "device", path: "dev/console", mode: 0o600, major: 5, minor: 1 },
    { kind: "file", path: "init", mode: 0o755, content: agent },
    ...files.map(({ path, content }): CpioEntry => ({ kind: "file", path, mode: 0o644, content })),
    {
      kind: "file",
      path: "modules.list",
      mode: 0o644,
      content: Buffer.from(files.map(({ path }) => `/${path}\n`).join("")),
    },
  ];
  const initramfs = packCpio(entries);

  const control = readFileSync(join(kept, "control"), "utf8");
  const field = (name: string): string => {
    const value = new RegExp(`^${name}: (.*)$`, "m").exec(control)?.[1];
    if (value === undefined) throw new Error(`${kept}/control has no ${name}; remove ${kept} and build again`);
    return value;
  };
  const description = {
    format: 1,
    kernel: {
      file: "vmlinux",
      digest: digestOf(kernel),
      release,
      package: `${field("Package")} ${field("Version")}`,
      packageDigest: `sha256:${field("SHA256")}`,
      /** Whether it is the package that kernel.lock pins. */
      locked: field("Locked") === "yes",
    },
    agent: { digest: digestOf(agent) },
    initramfs: { file: "initramfs.img", digest: digestOf(initramfs) },
  };
  mkdirSync(out, { recursive: true });
  writeAtomically(join(out, "vmlinux"), kernel);
  writeAtomically(join(out, "initramfs.img"), initramfs);
  writeAtomically(join(out, "guest.json"), `${JSON.stringify(description, null, 2)}\n`);
  console.log(`guest: kernel ${release}, ${files.length} modules, initramfs ${Math.ceil(initramfs.length / 1024)} KiB`);
}

const [kept, agentPath, out] = process.argv.slice(2);
if (!kept || !agentPath || !out) throw new Error("usage: pack.ts <kept> <agent> <out>");
main(kept, agentPath, out);
