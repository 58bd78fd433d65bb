// How deterministic real compilers are under the flags that hpcc gives them: each compile of LevelDB, zstd and Redis, with gcc and clang,
// runs twice from the same files in two fresh sandboxes, and a sample of them (`--vms N` of each project) in two fresh microVMs too. All
// outputs and all words are compared. Prints a Markdown table and, for what differs, the sections. `bench/determinism.ts [--vms N]
// [TEXT]`: TEXT selects rows by name.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { parseDigest, sha256 } from "../src/core/digest/digest.ts";
import { ImageStore } from "../src/image/image-store.ts";
import type { ExecuteOptions, ExecutionRequest, ExecutionResult } from "../src/vm/execution.ts";
import type { PooledExecution, VmEventSink, VmPool } from "../src/vm/pool.ts";
import type { PoolKey } from "../src/vm/pool-key.ts";
import { type CallStats, CHECKOUT, HPCC, IMAGE_FOLDER, runCommand } from "../test/support/farm.ts";
import { ProjectBuild, type ProjectRecipe } from "../test/support/project-build.ts";
import { driverUnderTest } from "../test/support/qemu-driver.ts";
import { QuickFarm } from "../test/support/quick-farm.ts";
import { runInSandbox, SandboxPool } from "../test/support/sandbox-pool.ts";

const SOURCES = join(CHECKOUT, ".cache/sources");
/** A guest's memory; clang on C++ needs more than the contract suite's machines have. */
const VM_BYTES = 1024 * 2 ** 20;
/** An emulated machine is slow. */
const VM_WALL_MS = 1_800_000;
const PROJECTS: readonly ProjectRecipe[] = [
  {
    name: "leveldb",
    source: "leveldb",
    language: "c++",
    configure: `cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE= -DCMAKE_C_COMPILER=$COMPILER -DCMAKE_CXX_COMPILER=$COMPILER_CXX \
-DCMAKE_C_COMPILER_LAUNCHER=$RECORDER -DCMAKE_CXX_COMPILER_LAUNCHER=$RECORDER -DLEVELDB_BUILD_TESTS=OFF -DLEVELDB_BUILD_BENCHMARKS=OFF`,
    build: "ninja -C build -j2",
    nothing: /^ninja: no work to do\.$/m,
    callsMin: 38,
  },
  {
    name: "zstd",
    source: "libzstd",
    language: "c",
    build: "make -C lib -j2 libzstd.a V=1",
    nothing: /./,
    callsMin: 30,
  },
  {
    name: "redis",
    source: "redis",
    language: "c",
    build: "SOURCE_DATE_EPOCH=1 make -C src -j2 redis-server MALLOC=libc V=1 OPTIMIZATION=-O1",
    nothing: /./,
    callsMin: 75,
  },
];

interface Difference {
  readonly source: string;
  readonly what: string;
}

/** What two runs of one request left, compared: exit, words, and each output byte for byte. */
async function compare(request: ExecutionRequest, one: ExecutionResult, other: ExecutionResult): Promise<Difference[]> {
  const source = request.argv.findLast((word) => /\.(?:c|cc|cpp|S|s)$/.test(word)) ?? request.argv.join(" ");
  const found: Difference[] = [];
  const note = (what: string) => void found.push({ source, what });
  if (JSON.stringify(one.exit) !== JSON.stringify(other.exit)) note("exit");
  for (const stream of ["stdout", "stderr"] as const) await compareWords(stream, one, other, note);
  for (const [index, path] of request.outputs.entries()) {
    const both = [one, other].map(async ({ outputs }) => outputs[index]?.content.bytes() ?? new Uint8Array());
    const [a, b] = (await Promise.all(both)) as [Uint8Array, Uint8Array];
    if (Buffer.compare(a, b) !== 0) note(`${path}: ${sectionsThatDiffer(a, b)}`);
  }
  return found;
}

async function compareWords(
  stream: "stdout" | "stderr",
  one: ExecutionResult,
  other: ExecutionResult,
  note: (what: string) => void,
): Promise<void> {
  const [a, b] = [await one[stream].bytes(), await other[stream].bytes()].map((bytes) => Buffer.from(bytes).toString());
  if (a !== b) note(`${stream}: ${JSON.stringify([a, b].map((text) => text?.slice(0, 600)))}`);
}

/** Names of the sections whose bytes differ, as objdump shows them. */
function sectionsThatDiffer(a: Uint8Array, b: Uint8Array): string {
  const folder = mkdtempSync(join(tmpdir(), "hpcc-sections-"));
  try {
    const [one, other] = [sectionsOf(a, join(folder, "a.o")), sectionsOf(b, join(folder, "b.o"))];
    const names = new Set([...one.keys(), ...other.keys()]);
    const differ = [...names].filter((name) => one.get(name) !== other.get(name));
    return differ.length === 0 ? "outside of sections" : differ.join(" ");
  } catch {
    return `${a.length} and ${b.length} bytes, no object`;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function sectionsOf(bytes: Uint8Array, file: string): Map<string, string> {
  writeFileSync(file, bytes);
  const dump = execFileSync("objdump", ["-s", file], { maxBuffer: 2 ** 30 }).toString("latin1");
  const parts = dump.split("Contents of section ").slice(1);
  return new Map(parts.map((part) => [part.slice(0, part.indexOf(":")), sha256(Buffer.from(part))]));
}

/** Runs each request in two fresh sandboxes, answers with the first result, and keeps the requests. */
class TwicePool implements VmPool {
  readonly requests: ExecutionRequest[] = [];
  readonly differences: Difference[] = [];
  readonly #first: SandboxPool;

  constructor(events: VmEventSink) {
    this.#first = new SandboxPool(events);
  }

  async execute(
    key: PoolKey,
    rootfs: string,
    request: ExecutionRequest,
    options: ExecuteOptions,
  ): Promise<PooledExecution> {
    const first = await this.#first.execute(key, rootfs, request, options);
    const second = await runInSandbox(rootfs, request, options.signal);
    this.requests.push(request);
    this.differences.push(...(await compare(request, first.result, second)));
    return first;
  }

  retire(): void {}

  async close(): Promise<void> {}

  async [Symbol.asyncDispose](): Promise<void> {}
}

/** Runs a request in two machines, each of which runs nothing else. */
async function inTwoMachines(rootfs: string, request: ExecutionRequest): Promise<Difference[]> {
  const driver = driverUnderTest();
  await using opened = await driver.open();
  const { signal } = new AbortController();
  const spec = { rootfs, memoryBytes: VM_BYTES, vcpus: driver.vcpus, goldenOwner: null };
  const results: ExecutionResult[] = [];
  const machines = [];
  try {
    for (let count = 0; count < 2; count++) {
      const machine = await opened.runtime.boot(spec, signal);
      machines.push(machine);
      results.push(
        await machine.session.execute({ ...request, limits: { ...request.limits, wallMs: VM_WALL_MS } }, { signal }),
      );
    }
    return await compare(request, results[0]!, results[1]!);
  } finally {
    for (const result of results) await result[Symbol.asyncDispose]();
    for (const machine of machines) await machine.destroy();
  }
}

async function measure(recipe: ProjectRecipe, compiler: "gcc" | "clang", image: string, vms: number): Promise<void> {
  let pool: TwicePool | null = null;
  const farm = await QuickFarm.start({
    imageFolder: IMAGE_FOLDER,
    images: [image],
    createPool: (events) => {
      pool = new TwicePool(events);
      return pool;
    },
  });
  try {
    const folder = join(farm.folder, "build");
    mkdirSync(folder);
    const project = new ProjectBuild(recipe, { folder, sources: SOURCES, env: farm.env, compiler, flags: "-O2 -g" });
    await project.configure(`image = "${image}"\n`);
    await project.build("hpcc");
    const { requests, differences } = pool!;
    const stats = await runCommand([HPCC, "stats", "--json"], { env: farm.env });
    const { reasons } = JSON.parse(stats.stdout) as CallStats;
    assert.ok(requests.length >= recipe.callsMin, `${requests.length} compiles of ${recipe.name}; ${stats.stdout}`);
    const { path } = await new ImageStore(IMAGE_FOLDER).squashfs(parseDigest(image, "image"));
    const sample = requests.filter((_, at) => vms > 0 && at % Math.ceil(requests.length / vms) === 0);
    const inVms: Difference[] = [];
    for (const request of sample) inVms.push(...(await inTwoMachines(path, request)));
    const cells = [recipe.name, compiler, requests.length, differences.length, sample.length, inVms.length];
    console.log(`| ${cells.join(" | ")} |`);
    console.log(`<!-- compiled by the client: ${JSON.stringify(reasons)} -->`);
    for (const { source, what } of [...differences, ...inVms]) console.log(`<!-- ${source}: ${what} -->`);
  } finally {
    await farm.close();
  }
}

const { values, positionals } = parseArgs({
  options: { vms: { type: "string", default: "0" } },
  allowPositionals: true,
});
const env = { PATH: process.env["PATH"], HOME: IMAGE_FOLDER, HPCC_IMAGE_DIR: IMAGE_FOLDER };
const compilers = ["--compiler", "gcc", "--compiler", "clang"];
const built = await runCommand([HPCC, "image", "build", "--from-host", "--tag", "e2e-both", "--quiet", ...compilers], {
  env,
});
assert.equal(built.code, 0, built.stderr);
console.log(
  "| project | compiler | compiles, twice each | differ | of these in two microVMs | differ |\n|---|---|---|---|---|---|",
);
for (const recipe of PROJECTS)
  for (const compiler of ["gcc", "clang"] as const) {
    if (!`${recipe.name} ${compiler}`.includes(positionals[0] ?? "")) continue;
    await runCommand([join(CHECKOUT, "scripts/fetch-debian-source.sh"), recipe.source, SOURCES]);
    await measure(recipe, compiler, built.stdout.trim(), Number(values.vms));
  }
