// How VMs live, through the installed programs: a session that is idle is parked and comes back for its principal alone, a clean
// tenant's jobs have VMs of their own, and the audit rows tell it.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Farm, type RunningWorker, type User, until } from "../support/farm.ts";
import { type JobRow, jobRows, vmLives } from "../support/job-rows.ts";
import { readLoose } from "../support/loose-envelope.ts";
import { childrenOf } from "../support/processes.ts";
import { SmallProject } from "../support/small-project.ts";

const TABLES = `
[vms]
idle_ms = 3000
spares_max = 1
`;
const POLICY = '[tenants.careful]\nlife = "clean"\n';

const LOUD = 'log_level = "debug"\n';
const PARKED = "parked: stopped, in memory";

let farm: Farm;
let worker: RunningWorker;
let image: { digest: string; layout: string };

before(async () => {
  farm = new Farm();
  await farm.init();
  image = await farm.image("e2e");
  await farm.startScheduler();
  worker = await farm.startWorker("w", { layouts: [image.layout], tables: TABLES, policy: POLICY, extraConfig: LOUD });
});

after(async () => {
  await farm?.close();
});

const addUser = (name: string, tenant?: string): Promise<User> =>
  farm.addUser(name, {
    images: [image.digest],
    fallback: "none",
    tables: `[daemon]\n${LOUD}`,
    ...(tenant !== undefined && { tenant }),
  });

/** Builds a project that nobody built before; gives its rows. */
async function build(user: User, name: string, files: number): Promise<JobRow[]> {
  const before = (await jobRows(worker)).length;
  const project = new SmallProject(user, { name, imageDigest: image.digest, quick: files });
  const made = await project.make();
  assert.equal(made.code, 0, made.stderr);
  project.assertRight();
  const rows = (await jobRows(worker)).slice(before);
  assert.deepEqual(
    rows.map(({ kind }) => kind),
    Array.from({ length: files }, () => "compile"),
  );
  return rows;
}

const vmsOf = (rows: readonly JobRow[]): string[] => [...new Set(rows.map(({ vm }) => vm ?? "-"))];

async function notesOf(vm: string): Promise<string[]> {
  return (await vmLives(worker)).filter((row) => row.vm === vm).map(({ note }) => note);
}

test("a session that is idle is parked, and restored for its principal alone", async () => {
  const [alice, bob] = [await addUser("alice"), await addUser("bob")];
  const [vm, ...others] = vmsOf(await build(alice, "first", 2));
  assert.ok(vm !== undefined);
  assert.deepEqual(others, []);
  const isParked = async () => (await notesOf(vm)).at(-1) === PARKED;
  await until("the VM is parked", isParked);
  assert.notEqual(childrenOf(worker.service.pid, "qemu").length, 0, "it stands still");

  const [bobs] = vmsOf(await build(bob, "bobs", 1));
  assert.notEqual(bobs, vm, "another user of the tenant has another VM");
  const told = await notesOf(vm);
  assert.equal(told.at(-1), PARKED, "and the parked one stays so");

  assert.deepEqual(vmsOf(await build(alice, "second", 2)), [vm]);
  assert.equal((await notesOf(vm))[told.length], "restored");
  await until("it is parked again", isParked);
  assert.deepEqual(vmsOf(await build(alice, "third", 1)), [vm]);
});

test("each job of a clean tenant has a VM that has run nothing, and its row says so", async () => {
  const carol = await addUser("carol", "careful");
  const rows = await build(carol, "clean", 3);
  assert.equal(vmsOf(rows).length, 3);
  for (const row of rows) {
    assert.equal(readLoose(row.envelope).life, "clean");
    const vm = row.vm ?? "-";
    await until("the VM is destroyed", async () => (await notesOf(vm)).length === 2);
    assert.deepEqual(await notesOf(vm), ["booted", "destroyed: one-job after 1 executions"]);
  }
  const inspected = await carol.hpcc(["inspect", "--worker", worker.address, rows[0]!.digest]);
  assert.equal(inspected.code, 0, inspected.stderr);
  assert.match(inspected.stdout, /^life +clean$/m);
});

test("what a tenant sends is in no log of any program, at the level that says most", async () => {
  const dave = await addUser("dave", "canary");
  const draw = () => randomBytes(16).toString("hex");
  const sent = { source: draw(), macro: draw(), path: draw(), environment: draw(), stderr: draw(), failed: draw() };
  const project = join(dave.folder, `p-${sent.path}`);
  mkdirSync(project);
  writeFileSync(join(project, "hpcc.toml"), `image = "${image.digest}"\n`);
  writeFileSync(join(project, "a.c"), `const char a[] = "${sent.source}" X;\nint f_${sent.stderr}(void) {}\n`);
  writeFileSync(join(project, "b.c"), `int b = unknown_${sent.failed};\n`);
  const call = (source: string) =>
    dave.hpcc(
      ["gcc", "-Wall", `-DX="${sent.macro}"`, "-c", join(project, source), "-o", join(project, `${source}.o`)],
      {
        cwd: project,
        env: { CANARY: sent.environment, C_INCLUDE_PATH: join(project, sent.environment) },
      },
    );
  const compiled = await call("a.c");
  assert.equal(compiled.code, 0, compiled.stderr);
  assert.ok(compiled.stderr.includes(sent.stderr));
  const failed = await call("b.c");
  assert.equal(failed.code, 1);
  assert.ok(failed.stderr.includes(sent.failed));
  assert.equal((await jobRows(worker)).filter(({ tenant }) => tenant === "canary").length, 2, "both were remote");
  await dave.hpcc(["daemon", "stop"]);
  const logs = readdirSync(farm.folder, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".log"));
  assert.ok(logs.length >= 3, `only ${logs.join(" ")}`);
  for (const name of logs) {
    const text = readFileSync(join(farm.folder, name), "latin1");
    // A row's command makes the object again: it holds the call's own words and include paths.
    const command = name.includes("/audit/") ? ["macro", "environment"] : [];
    for (const [what, canary] of Object.entries(sent))
      assert.equal(text.includes(canary), command.includes(what), `${what} in ${name}`);
  }
});

test("when the worker ends, parked, warm and clean ones are destroyed, and each has all of its rows", async () => {
  await worker.service.stop();
  const lives = new Map<string, string[]>();
  for (const { vm, note } of await vmLives(worker))
    lives.set(vm, [...(lives.get(vm) ?? []), note.replace(/[: ].*/, "")]);
  assert.ok(lives.size >= 5, `only ${lives.size} VMs`);
  for (const [vm, life] of lives)
    assert.match(life.join(" "), /^booted( parked restored)*( parked)? destroyed$/, `the rows of ${vm}`);
  const reasons = (await vmLives(worker)).map(({ note }) => note);
  assert.ok(reasons.some((note) => note.startsWith("destroyed: closed")));
});
