// What a microVM costs: boot to the agent's answer, restore to the first compile's result, what is added to a compile that runs in a warm
// machine, memory. Prints a Markdown table. `bench/vm.ts [module]`: the module exports a driver of the contract suite as
// `driverUnderTest`; without one it is test/support/qemu-driver.ts, whose accelerator HPCC_TEST_ACCELERATOR names.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { cpus, loadavg, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { performance } from "node:perf_hooks";
import type { BootSpec, Machine } from "../src/vm/runtime.ts";
import { driverUnderTest as qemu } from "../test/support/qemu-driver.ts";
import { makeToolchain } from "../test/support/vm-toolchain.ts";
import type { DriverUnderTest, OpenedDriver } from "../test/vm/contract/driver.ts";
import { compile } from "../test/vm/contract/executions.ts";

/** Fewer where each takes long, as in the KVM lab. */
const BOOTS = Number(process.env["HPCC_BENCH_BOOTS"] ?? 5);
const RESTORES = Number(process.env["HPCC_BENCH_RESTORES"] ?? 20);
const COMPILES = Number(process.env["HPCC_BENCH_COMPILES"] ?? 50);
const SOURCE = "int twice(int x) { return 2 * x; }\n";

const signal = new AbortController().signal;

interface Row {
  readonly what: string;
  readonly values: readonly number[];
  readonly unit: "ms" | "MiB";
}

async function main(modulePath: string | undefined): Promise<void> {
  const driver = modulePath === undefined ? qemu() : await load(modulePath);
  const folder = mkdtempSync(join(tmpdir(), "hpcc-bench-"));
  try {
    await using opened = await driver.open();
    const { memoryBytes, vcpus } = driver;
    const spec: BootSpec = { rootfs: makeToolchain(folder), memoryBytes, vcpus, goldenOwner: null };
    const load_ = loadavg()[0] ?? 0;
    const boots = await measureBoots(opened, spec);
    const machine = await opened.runtime.boot(spec, signal);
    const rows = [...boots, ...(await measureLife(opened, machine))];
    print(driver, machine, rows, load_);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function load(path: string): Promise<DriverUnderTest> {
  const module: unknown = await import(resolve(path));
  if (typeof module !== "object" || module === null || !("driverUnderTest" in module))
    throw new Error(`${path} exports no driverUnderTest`);
  return (module.driverUnderTest as () => DriverUnderTest)();
}

async function measureBoots(opened: OpenedDriver, spec: BootSpec): Promise<Row[]> {
  const bootMs: number[] = [];
  const firstMs: number[] = [];
  const aheadMs: number[] = [];
  for (let count = 0; count < BOOTS; count += 1) {
    const startMs = performance.now();
    const machine = await opened.runtime.boot(spec, signal);
    bootMs.push(performance.now() - startMs);
    const { elapsedMs } = await compileOn(machine);
    firstMs.push(performance.now() - startMs);
    aheadMs.push(elapsedMs);
    await machine.destroy();
  }
  return [
    { what: "new machine to agent ready", values: bootMs, unit: "ms" },
    { what: "`clean`, a machine made on demand: to its job's result", values: firstMs, unit: "ms" },
    { what: "`clean`, a machine made ahead: to its job's result", values: aheadMs, unit: "ms" },
  ];
}

/** Ends the machine. */
async function measureLife(opened: OpenedDriver, first: Machine): Promise<Row[]> {
  let machine = first;
  const row = (what: string, unit: Row["unit"]) => ({ what, unit, values: [] as number[] });
  const session = row("`session`, a warm machine: to a job's result", "ms");
  const inGuest = row("compile, within the guest", "ms");
  const added = row("added to it by stream and sandbox", "ms");
  const scrub = row("scrub", "ms");
  const park = row("park, its scrub included", "ms");
  const restore = row("restore to agent ready", "ms");
  const restoreFirst = row("restore to first compile's result", "ms");
  const warm = row("resident, warm machine", "MiB");
  const warmShare = row("its proportional share (PSS)", "MiB");
  const parkedResident = row("resident, parked machine", "MiB");
  const parkedDisk = row("disk, parked machine", "MiB");
  for (let count = 0; count < COMPILES; count += 1) {
    const { elapsedMs, guestMs } = await compileOn(machine);
    session.values.push(elapsedMs);
    inGuest.values.push(guestMs);
    added.values.push(elapsedMs - guestMs);
  }
  for (let count = 0; count < RESTORES; count += 1) {
    const memory = memoryOf(await opened.vmmPid(machine.id));
    warm.values.push(memory.residentMib);
    warmShare.values.push(memory.shareMib);
    scrub.values.push(await timed(() => machine.scrub(signal)));
    const startMs = performance.now();
    const parked = await machine.park(signal);
    park.values.push(performance.now() - startMs);
    parkedDisk.values.push(parked.diskBytes / 2 ** 20);
    parkedResident.values.push(parked.parking === "stopped" ? memoryOf(await opened.vmmPid(parked.id)).residentMib : 0);
    const restoreMs = performance.now();
    machine = await parked.restore(signal);
    restore.values.push(performance.now() - restoreMs);
    await compileOn(machine);
    restoreFirst.values.push(performance.now() - restoreMs);
  }
  await machine.destroy();
  return [session, inGuest, added, scrub, park, restore, restoreFirst, warm, warmShare, parkedResident, parkedDisk];
}

async function compileOn(machine: Machine): Promise<{ elapsedMs: number; guestMs: number }> {
  const startMs = performance.now();
  await using result = await machine.session.execute(compile(SOURCE), { signal });
  const elapsedMs = performance.now() - startMs;
  if (result.exit.kind !== "code" || result.exit.code !== 0) throw new Error("the compile failed");
  return { elapsedMs, guestMs: result.wallUs / 1000 };
}

async function timed(run: () => Promise<void>): Promise<number> {
  const startMs = performance.now();
  await run();
  return performance.now() - startMs;
}

function memoryOf(pid: number): { residentMib: number; shareMib: number } {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "latin1");
  const mib = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(rollup)?.[1] ?? 0) / 1024;
  return { residentMib: mib("Rss"), shareMib: mib("Pss") };
}

function print(driver: DriverUnderTest, machine: Machine, rows: readonly Row[], load: number): void {
  const { versions } = machine;
  console.log(
    `Driver and accelerator: **${driver.name}** (\`${machine.isolation}\`, new machines from ${machine.origin === "golden" ? "a golden snapshot" : "a boot"}); ` +
      `${versions.vmm}; guest ${versions.kernelRelease}, ${driver.memoryBytes / 2 ** 20} MiB, ${driver.vcpus} processors; ` +
      `host ${cpus()[0]?.model.trim()}, ${cpus().length} processors, load ${load.toFixed(1)}.\n`,
  );
  console.log("| what | median | least | most | of |\n|---|---|---|---|---|");
  for (const { what, values, unit } of rows) {
    const sorted = [...values].sort((a, b) => a - b);
    const shown = [sorted[Math.floor(sorted.length / 2)] ?? 0, sorted[0] ?? 0, sorted.at(-1) ?? 0];
    console.log(`| ${what} | ${shown.map((value) => `${figure(value)} ${unit}`).join(" | ")} | ${sorted.length} |`);
  }
}

function figure(value: number): string {
  return value < 10 ? value.toFixed(1) : value.toFixed(0);
}

await main(process.argv[2]);
