// `make -j64` of one user against a worker of eight places, and a second one who comes when all are taken. The pool is a worker's own;
// its machines are sandboxes that hold each compile until the test lets it go, so that what is shown does not hang on speed.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { SYSTEM_CLOCK } from "../../src/base/system/clock.ts";
import { loadWorkerConfig } from "../../src/config/worker.ts";
import type { VmEventSink } from "../../src/vm/pool.ts";
import { WarmVmPool } from "../../src/vm/warm-vm-pool.ts";
import { type CommandResult, Farm, HPCC, IMAGE_FOLDER, runCommand, until } from "../support/farm.ts";
import { type JobRow, jobRows } from "../support/job-rows.ts";
import { readLoose } from "../support/loose-envelope.ts";
import { QuickFarm } from "../support/quick-farm.ts";
import { SandboxRuntime } from "../support/sandbox-runtime.ts";

const FILES = 64;
const PLACES = 8;
/** What a worker of this size has when its configuration says nothing of places and room. */
const MACHINE = { processors: PLACES, memoryBytes: 16 * 2 ** 30 };

let image: string;
let farm: QuickFarm;
const runtime = new SandboxRuntime();
/** Users of VMs, by name. */
const owners = new Map<string, string | null>();

before(async () => {
  const maker = new Farm();
  await maker.init();
  image = (await maker.image("e2e")).digest;
  const file = join(maker.folder, "worker.toml");
  writeFileSync(file, 'state_dir = "s"\n[identity]\ncertificate = "c"\nkey = "k"\nca = "a"\n');
  const limits = loadWorkerConfig({}, file, {}, { machine: MACHINE }).config.vms;
  assert.equal(limits.placesMax, PLACES);
  await maker.close();
  const createPool = (events: VmEventSink) =>
    new WarmVmPool({
      runtime,
      limits,
      events: (event) => {
        if (event.t === "booted") owners.set(event.vm.id, event.owner.user);
        return events(event);
      },
      clock: SYSTEM_CLOCK,
      logger: SILENT_LOGGER,
    });
  farm = await QuickFarm.start({
    imageFolder: IMAGE_FOLDER,
    images: [image],
    fallback: "none",
    slots: PLACES,
    createPool,
  });
});

after(async () => {
  runtime.held = false;
  runtime.letGo();
  await farm?.close();
});

function makeAll(user: string, env: Readonly<Record<string, string>>): Promise<CommandResult> {
  const folder = join(farm.folder, `project-${user}`);
  mkdirSync(folder);
  writeFileSync(join(folder, "hpcc.toml"), `image = "${image}"\n`);
  const names = Array.from({ length: FILES }, (_, at) => `f${at}`);
  for (const name of names) writeFileSync(join(folder, `${name}.c`), `int ${name}(void) { return ${name.length}; }\n`);
  const rule = `%.o: %.c\n\t${HPCC} gcc -O1 -c $< -o $@\n`;
  writeFileSync(join(folder, "Makefile"), `all: ${names.map((name) => `${name}.o`).join(" ")}\n${rule}`);
  return runCommand(["make", `-j${FILES}`, "-C", folder], { env: { ...env } });
}

const runningOf = (user: string): number => [...runtime.running].filter(({ vm }) => owners.get(vm) === user).length;

/** How many compiles ran at the same time at most, by their rows: each ran for its time in the compiler before its end. */
function mostAtATime(rows: readonly JobRow[]): number {
  const edges = rows.flatMap(({ envelope }) => {
    const { endMs, compileUs } = readLoose(envelope);
    return [
      { atMs: endMs - (compileUs ?? 0) / 1000, change: 1 },
      { atMs: endMs, change: -1 },
    ];
  });
  let now = 0;
  let most = 0;
  for (const { change } of edges.sort((a, b) => a.atMs - b.atMs)) most = Math.max(most, (now += change));
  return most;
}

test("one user's make -j64 has all eight places, and a second one's half of them one compile later", async () => {
  const first = makeAll("ann", farm.env);
  await until("all of ann's compiles are with the worker", () => farm.load.queued === FILES - PLACES);
  assert.equal(runningOf("ann"), PLACES);
  assert.equal(runtime.booted, PLACES / 2, "two compiles in each VM");
  const second = makeAll("bob", await farm.addUser("bob"));
  await until("all of bob's compiles are with the worker", () => farm.load.queued === 2 * FILES - PLACES);
  await until(
    "VMs for his share have booted",
    () => [...owners.values()].filter((user) => user === "bob").length === 2,
  );
  assert.deepEqual([runningOf("ann"), runningOf("bob")], [PLACES, 0], "no compile is cut off");
  // One compile's time goes by: each that ran when he came ends.
  runtime.letGo();
  const others = 2 * FILES - 2 * PLACES;
  await until("other compiles have the places", () => farm.load.queued === others && runtime.running.size === PLACES);
  assert.deepEqual([runningOf("ann"), runningOf("bob")], [PLACES / 2, PLACES / 2]);
  runtime.held = false;
  runtime.letGo();
  for (const { code, stderr } of await Promise.all([first, second])) assert.equal(code, 0, stderr);
  assert.equal(runtime.runningMax, PLACES);
  const rows = (await jobRows({ state: join(farm.folder, "worker") })).filter(({ kind }) => kind === "compile");
  assert.equal(rows.length, 2 * FILES, "all were compiled by the worker");
  assert.ok(mostAtATime(rows) >= PLACES, `${mostAtATime(rows)} at a time`);
  assert.equal(readFileSync(join(farm.folder, "project-bob/f1.o")).subarray(1, 4).toString(), "ELF");
});
