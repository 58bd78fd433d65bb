// From a worker's first job with an image to its first compile, by the image's size: packing its root file system, booting a microVM of it,
// and compiling there, with the packed file in the page cache and out of it. Beside it, the same files in squashfs and in erofs, mounted
// here and read. Prints Markdown tables. HPCC_TEST_ACCELERATOR names QEMU's accelerator; HPCC_BENCH_FILLER_MIB the larger image's filler.
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { ImageStore } from "../src/image/image-store.ts";
import { openImage } from "../src/image/layout.ts";
import { ensureSquashfs } from "../src/image/squashfs.ts";
import { rawTar, writeLayout } from "../test/support/oci-layout.ts";
import { driverUnderTest } from "../test/support/qemu-driver.ts";
import { compile } from "../test/vm/contract/executions.ts";

const TURNS = Number(process.env["HPCC_BENCH_TURNS"] ?? 3);
const FILLER_MIB = Number(process.env["HPCC_BENCH_FILLER_MIB"] ?? 800);
const FILES_PER_MIB = 16;
const FILE_BYTES = 2 ** 20 / FILES_PER_MIB;
const SOURCE = "int twice(int x) { return 2 * x; }\n";
const signal = new AbortController().signal;
const work = mkdtempSync(join(tmpdir(), "hpcc-image-start-"));

function run(program: string, ...argv: string[]): Buffer {
  return execFileSync(program, argv, { maxBuffer: 2 ** 31 - 1, stdio: ["ignore", "pipe", "pipe"] });
}

/** Files as libraries are: half of each can be compressed. */
function filler(): Buffer {
  const names = Array.from({ length: FILLER_MIB * FILES_PER_MIB }, (_, at) => `usr/lib/filler/${at >> 8}/${at}.so`);
  const text = Buffer.alloc(FILE_BYTES / 2, "a library's tables and names\n");
  return rawTar(
    names.map((name) => ({ name, mode: 0o644, content: Buffer.concat([randomBytes(FILE_BYTES / 2), text]) })),
  );
}

interface Packed {
  readonly name: string;
  readonly path: string;
  readonly rootMib: number;
  readonly packedMib: number;
  readonly packMs: number;
}

async function packed(name: string, layers: readonly Buffer[]): Promise<Packed> {
  const layout = join(work, name);
  const digest = await writeLayout(layout, { layers: layers.map((tar) => ({ tar })) });
  const image = await openImage(layout, digest);
  const startMs = performance.now();
  const { path, sizeBytes } = await ensureSquashfs(image, join(work, "images"));
  const packMs = performance.now() - startMs;
  const rootMib = layers.reduce((sum, { length }) => sum + length, 0) / 2 ** 20;
  return { name, path, rootMib, packedMib: sizeBytes / 2 ** 20, packMs };
}

/** Puts a file out of the page cache, or into it. */
function setCached(path: string, cached: boolean): void {
  if (cached) run("dd", `if=${path}`, "of=/dev/null", "bs=1M", "status=none");
  else run("dd", `if=${path}`, "iflag=nocache", "count=0", "status=none");
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

async function measureStarts(images: readonly Packed[]): Promise<void> {
  const driver = driverUnderTest();
  await using opened = await driver.open();
  const { memoryBytes, vcpus } = driver;
  console.log(
    `${driver.name}, ${memoryBytes / 2 ** 20} MiB, ${vcpus} processors; host ${cpus().length} processors, load ${loadavg()[0]!.toFixed(1)}; medians of ${TURNS}.\n`,
  );
  console.log(
    "| image, unpacked | packed | packing it | page cache | boot to agent ready | to the first compile | to the second |",
  );
  console.log("|---|---|---|---|---|---|---|");
  for (const image of images)
    for (const cached of [false, true]) {
      const times: number[][] = [[], [], []];
      for (let turn = 0; turn < TURNS; turn += 1) {
        setCached(image.path, cached);
        const startMs = performance.now();
        const machine = await opened.runtime.boot(
          { rootfs: image.path, memoryBytes, vcpus, goldenOwner: null },
          signal,
        );
        times[0]!.push(performance.now() - startMs);
        for (const at of [1, 2]) {
          await using result = await machine.session.execute(compile(SOURCE), { signal });
          if (result.exit.kind !== "code" || result.exit.code !== 0) throw new Error("the compile failed");
          times[at]!.push(performance.now() - startMs);
        }
        await machine.destroy();
      }
      const sizes = `${image.name}, ${image.rootMib.toFixed(0)} MiB | ${image.packedMib.toFixed(0)} MiB | ${(image.packMs / 1000).toFixed(1)} s`;
      const shown = times.map((values) => `${(median(values) / 1000).toFixed(2)} s`).join(" | ");
      console.log(`| ${sizes} | ${cached ? "warm" : "cold"} | ${shown} |`);
    }
}

/** Mounts a file system, reads the compiler in it, and ends; milliseconds of both. */
function mountAndRead(type: string, path: string): [number, number] {
  const at = join(work, "mnt");
  mkdirSync(at, { recursive: true });
  setCached(path, false);
  const startMs = performance.now();
  run("mount", "-t", type, "-o", "loop,ro", path, at);
  const mountMs = performance.now() - startMs;
  try {
    const driver = run("find", join(at, "usr/lib"), "-name", "cc1").toString().trim().split("\n")[0]!;
    const readMs = performance.now();
    readFileSync(driver);
    return [mountMs, performance.now() - readMs];
  } finally {
    run("umount", at);
  }
}

function measureFileSystems({ path }: Packed): void {
  const root = join(work, "root");
  run("unsquashfs", "-d", root, "-no-xattrs", "-no-progress", "-quiet", path);
  const made: [string, string][] = [["squashfs", path]];
  const maker = process.env["HPCC_BENCH_MKFS_EROFS"] ?? "mkfs.erofs";
  for (const compression of ["lz4", "lz4hc"]) {
    const file = join(work, `${compression}.erofs`);
    run(maker, `-z${compression}`, file, root);
    made.push(["erofs", file]);
  }
  console.log("\n| file system | size | mount, cold | then read `cc1` |\n|---|---|---|---|");
  for (const [type, file] of made) {
    const times = Array.from({ length: TURNS }, () => mountAndRead(type, file));
    const [mountMs, readMs] = [0, 1].map((at) => median(times.map((one) => one[at]!)));
    const name =
      type === "erofs" ? `erofs, ${file.split("/").at(-1)!.split(".")[0]}` : "squashfs, zstd, as hpcc packs it";
    console.log(
      `| ${name} | ${(statSync(file).size / 2 ** 20).toFixed(0)} MiB | ${mountMs!.toFixed(0)} ms | ${readMs!.toFixed(0)} ms |`,
    );
  }
}

try {
  const store = new ImageStore(join(work, "host"));
  const { digest } = await store.build({ compilers: ["gcc"], packages: [], tag: null });
  const toolchain = run("tar", "--directory", await store.rootfs(digest), "-cf", "-", ".");
  writeFileSync(join(work, "filler.tar"), filler());
  const small = await packed("toolchain", [toolchain]);
  const large = await packed("with-filler", [toolchain, readFileSync(join(work, "filler.tar"))]);
  await measureStarts([small, large]);
  measureFileSystems(large);
} finally {
  rmSync(work, { recursive: true, force: true });
}
