// Three workers of one site, each a process with a certificate and a configuration of its own, whose results go round by themselves.
// What is revoked at one of them, by a person or because a guest broke its contract while builds ran on all three, is served by none of
// them, and who asks again has it compiled. Guests are sandboxes (test/support/guest-worker.ts), all else is real.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { RevokeKind, RevokeOutcome } from "../../src/cli/revoke-command.ts";
import type { Digest } from "../../src/core/digest/digest.ts";
import { ImageStore } from "../../src/image/image-store.ts";
import {
  CHECKOUT,
  Farm,
  HPCC,
  IMAGE_FOLDER,
  type RunningWorker,
  runCommand,
  type User,
  until,
} from "../support/farm.ts";
import { BREACH, EXPLOIT, TOLD } from "../support/guest-words.ts";
import { confirmRows, type JobRow, jobRows, revokeRows } from "../support/job-rows.ts";
import { readLoose } from "../support/loose-envelope.ts";
import { SmallProject } from "../support/small-project.ts";

const NAMES = ["w1", "w2", "w3"] as const;
const USERS = ["ann", "bob", "carol"] as const;
const FILES = 3;
/** Functions of a file that takes a while to compile. */
const SLOW = 100;
const CLEAN = '[tenants.acme]\nsharing = "clean"\nlife = "clean"\n';
const WARM = '[tenants.acme]\nsharing = "confirm"\nlife = "session"\n';
const TABLES =
  "[vms]\nmax = 16\nexecutions_per_vm_max = 1\nspares_max = 0\nparked_max = 0\nvm_memory_mib = 128\n[execution]\nmemory_mib = 96\n";
const GUEST_WORKER = [process.execPath, join(CHECKOUT, "test/support/guest-worker.ts")];

/** A user, and the one worker that his scheduler knows. */
interface Place {
  readonly user: User;
  readonly worker: RunningWorker;
}

interface Site {
  readonly image: string;
  /** Of ann at w1, bob at w2, carol at w3. */
  readonly places: readonly [Place, Place, Place];
}

/** `deaf` workers hear of no revocation of their peers. */
async function startSite(t: TestContext, policy: string, deaf: readonly string[] = []): Promise<Site> {
  const farm = new Farm();
  t.after(() => farm.close());
  await farm.init();
  const { digest: image, layout } = await farm.image("e2e");
  const rootfs = await new ImageStore(IMAGE_FOLDER).rootfs(image as Digest);
  await farm.startScheduler("site");
  const site = farm.schedulerAddress;
  const places: Place[] = [];
  for (const [at, name] of NAMES.entries()) {
    await farm.startScheduler(`only-${name}`);
    const scheduler = farm.schedulerAddress;
    const worker = await farm.startWorker(name, {
      layouts: [layout],
      policy,
      schedulers: [site, scheduler],
      extraConfig: 'log_level = "debug"',
      tables: TABLES,
      env: { GUEST_ROOTFS: rootfs, ...(deaf.includes(name) && { GUEST_WORKER_DEAF: "1" }) },
      starter: { argv: GUEST_WORKER, uid: 0 },
    });
    const user = await farm.addUser(USERS[at]!, { images: [image], fallback: "image", scheduler });
    places.push({ user, worker });
  }
  for (const { worker } of places)
    await until("all workers know each other", () => logOf(worker).some((line) => line["peers"] === NAMES.length - 1));
  return { image, places: places as [Place, Place, Place] };
}

function logOf({ service }: RunningWorker): Record<string, unknown>[] {
  const lines = readFileSync(service.log, "utf8").split("\n").slice(0, -1);
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
}

/** Resolves when a worker's peers have been told of all that it has for the tenant: what it compiled, or confirmed. */
async function told({ worker }: Place, rowsOfResults: typeof jobRows | typeof confirmRows): Promise<void> {
  const results = (await rowsOfResults(worker)).filter(({ kind }) => kind === "compile" || kind === "confirm").length;
  await until(`${results} results are told`, () =>
    logOf(worker).some((line) => line["event"] === TOLD && Number(line["results"]) >= results),
  );
}

/** A project of everybody's own that has the same sources for all. */
function projects({ image, places }: Site, name: string, slow = 0): SmallProject[] {
  return places.map(({ user }) => new SmallProject(user, { name, imageDigest: image, quick: FILES, slow }));
}

/** Builds all anew; gives the rows of it. Each object is right, and the worker gave it. */
async function build({ worker }: Place, project: SmallProject, jobs = 1): Promise<JobRow[]> {
  const before = (await jobRows(worker)).length;
  project.clean();
  const made = await project.make(jobs);
  assert.equal(made.code, 0, made.stderr);
  project.assertRight();
  const rows = (await jobRows(worker)).slice(before);
  assert.equal(rows.length, project.objects.length);
  return rows;
}

const kindsOf = (rows: readonly JobRow[]) => rows.map(({ kind }) => kind);
const vmsOf = (rows: readonly JobRow[]) => rows.map(({ vm }) => vm!);

/** Has a user compile the project, by default ann, and the others be given what his VMs made. Gives the rows of each place. */
async function goneRound({ places }: Site, made: readonly SmallProject[], by = 0): Promise<JobRow[][]> {
  const first = await build(places[by]!, made[by]!);
  assert.deepEqual(new Set(kindsOf(first)), new Set(["compile"]));
  await told(places[by]!, jobRows);
  const all: JobRow[][] = [];
  for (const [at, place] of places.entries()) {
    const rows = at === by ? first : await build(place, made[at]!);
    assert.deepEqual(new Set(kindsOf(rows)), new Set([at === by ? "compile" : "hit"]), place.user.name);
    assert.deepEqual(vmsOf(rows), vmsOf(first), "the very results of the first one's");
    all.push(rows);
  }
  return all;
}

async function revoke({ worker }: Place, kind: RevokeKind, value: string): Promise<RevokeOutcome> {
  const said = await runCommand([HPCC, "worker", "revoke", "--config", worker.config, `--${kind}`, value, "--json"]);
  assert.equal(said.code, 0, said.stderr);
  return JSON.parse(said.stdout) as RevokeOutcome;
}

/** The row of a revocation, as soon as the worker has it. */
async function revokedAt({ worker, user }: Place, kind: RevokeKind, value: string) {
  const rowOf = async () => (await revokeRows(worker)).find((row) => row.what === kind && row.value === value);
  await until(`${kind} ${value} is revoked where ${user.name} compiles`, async () => (await rowOf()) !== undefined);
  return (await rowOf())!;
}

/** What is revoked in turn, of whose results and at which place, and which of the build's files that reaches. */
const REVOKED: readonly {
  readonly kind: RevokeKind;
  readonly of: 0 | 1 | 2;
  readonly at: 0 | 1 | 2;
  readonly files: number;
  readonly value: (row: JobRow, image: string) => string;
}[] = [
  { kind: "vm", of: 0, at: 0, files: 1, value: ({ vm }) => vm! },
  { kind: "key", of: 0, at: 1, files: 1, value: ({ envelope }) => readLoose(envelope).actionKey! },
  { kind: "principal", of: 0, at: 2, files: FILES, value: ({ envelope }) => readLoose(envelope).principal! },
  // Of ann's nothing goes round for a while: the clocks of the others may differ from hers.
  { kind: "image", of: 1, at: 1, files: FILES, value: (_, image) => image },
];

test("what is revoked at one of three workers is served by none of them, and compiled for who asks again", async (t) => {
  const site = await startSite(t, CLEAN);
  const { image, places } = site;
  for (const { kind, of, at, files, value } of REVOKED) {
    const made = projects(site, `of-${kind}`);
    const rows = await goneRound(site, made, of);
    const revoked = value(rows[of]![0]!, image);
    const outcome = await revoke(places[at], kind, revoked);
    const digests = (place: number) => rows[place]!.slice(0, files).map(({ digest }) => digest);
    const served = new Set(outcome.served.rows.map(({ row }) => row));
    assert.ok(
      digests(at).every((digest) => served.has(digest)),
      `${kind}: the command lists who was served`,
    );
    for (const [nth, place] of places.entries()) {
      const { cause, servedRows } = await revokedAt(place, kind, revoked);
      assert.equal(cause, nth === at ? "operator" : "peer");
      const listed = new Set<string>(servedRows);
      assert.ok(
        digests(nth).every((digest) => listed.has(digest)),
        `${kind}: the row lists ${place.user.name}`,
      );
    }
    const gone = new Set(vmsOf(rows[of]!).slice(0, files));
    const order = [of, ...[0, 1, 2].filter((nth) => nth !== of)];
    for (const nth of order) {
      const again = await build(places[nth]!, made[nth]!);
      assert.ok(!vmsOf(again).some((vm) => gone.has(vm)), `${kind}: ${places[nth]!.user.name} is given nothing of it`);
      const ends = Array.from({ length: FILES }, (_, file) => (file < files ? "compile" : "hit"));
      if (nth === of) assert.deepEqual(kindsOf(again), ends, kind);
    }
  }
});

test("control: a worker that hears nothing of its peers goes on serving what was revoked at another", async (t) => {
  const site = await startSite(t, CLEAN, ["w3"]);
  const [ann, bob, carol] = site.places;
  const made = projects(site, "of-vm");
  const [[row]] = (await goneRound(site, made)) as [[JobRow]];
  await revoke(ann, "vm", row.vm!);
  await revokedAt(bob, "vm", row.vm!);
  assert.ok(!vmsOf(await build(bob, made[1]!)).includes(row.vm!));
  assert.ok(vmsOf(await build(carol, made[2]!)).includes(row.vm!));
});

/** Ann's warm VM makes what clean ones confirm and all are given. Then it breaks its contract while all build. */
async function afterBreach(t: TestContext, deaf: readonly string[] = []) {
  const site = await startSite(t, WARM, deaf);
  const { image, places } = site;
  const [ann, ...others] = places;
  const made = projects(site, "shared", SLOW);
  const first = await build(ann, made[0]!);
  assert.equal(new Set(vmsOf(first)).size, 1, "one VM of ann's");
  const vm = first[0]!.vm!;
  await until("all is confirmed", async () => (await confirmRows(ann.worker)).length === first.length);
  await told(ann, confirmRows);
  const rows = [first];
  for (const [at, place] of others.entries()) rows.push(await build(place, made[at + 1]!));
  for (const given of rows) assert.deepEqual(new Set(vmsOf(given)), new Set([vm]));

  const own = new SmallProject(ann.user, { name: "own", imageDigest: image, quick: FILES });
  for (const source of [EXPLOIT, BREACH]) writeFileSync(join(own.root, source), `int of_${source.length};\n`);
  const compile = (source: string) => ann.user.run([HPCC, "gcc", "-c", source], { cwd: own.root });
  assert.equal((await compile(EXPLOIT)).code, 0);
  assert.deepEqual(new Set(vmsOf(await build(ann, own))), new Set([vm]), "made by the guest that is taken over");
  const building = { goesOn: true };
  const builds = others.map(async (_, at) => {
    for (let times = 0; times === 0 || building.goesOn; times++) {
      made[at + 1]!.clean();
      assert.equal((await made[at + 1]!.make(2)).code, 0);
      made[at + 1]!.assertRight();
    }
  });
  own.clean();
  await compile(BREACH);
  const heard = places.filter((_, at) => !deaf.includes(NAMES[at]!));
  const revokes = await Promise.all(heard.map((place) => revokedAt(place, "vm", vm)));
  building.goesOn = false;
  await Promise.all(builds);
  const again: JobRow[][] = [];
  for (const [at, place] of places.entries()) again.push(await build(place, made[at]!));
  again.push(await build(ann, own));
  return { vm, rows, revokes, again };
}

test("what a guest made that breaks its contract in mid-build is served by none of three workers", async (t) => {
  const { vm, rows, revokes, again } = await afterBreach(t);
  assert.deepEqual(
    revokes.map(({ cause }) => cause),
    ["breach", "peer", "peer"],
  );
  for (const [at, { servedRows }] of revokes.entries()) {
    const listed = new Set<string>(servedRows);
    assert.ok(
      rows[at]!.every(({ digest }) => listed.has(digest)),
      `who was served at ${NAMES[at]!} is listed`,
    );
  }
  assert.ok(again.flatMap(vmsOf).every((other) => other !== vm));
  // What all have may have been compiled, confirmed and told by another's builds meanwhile; nobody else has ann's own.
  assert.ok(kindsOf(again[3]!).includes("compile"));
});

test("control: a worker that hears nothing of its peers goes on serving what that guest made", async (t) => {
  const { vm, again } = await afterBreach(t, ["w3"]);
  assert.deepEqual(
    again.slice(0, 3).map((rows) => vmsOf(rows).includes(vm)),
    [false, false, true],
  );
});
