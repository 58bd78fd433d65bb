// Three users of one tenant, each with a certificate and a checkout of his own, and real microVMs that each run one job: the first
// one's build is all that the others need, and rows and `hpcc inspect` say whose result it was.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { Farm, type RunningWorker, type User } from "../support/farm.ts";
import { confirmRows, type JobRow, jobRows } from "../support/job-rows.ts";
import { readLoose } from "../support/loose-envelope.ts";
import { SmallProject } from "../support/small-project.ts";

const POLICY = `[tenants.acme]
sharing = "clean"

[tenants.warm]
sharing = "confirm"
life = "session"

[tenants.alone]
sharing = "private"
`;
const FILES = 2;
const ASKED_EACH_MS = 500;

let farm: Farm;
let worker: RunningWorker;
let image: { digest: string; layout: string };

before(async () => {
  farm = new Farm();
  await farm.init();
  image = await farm.image("e2e");
  await farm.startScheduler();
  worker = await farm.startWorker("w", { layouts: [image.layout], policy: POLICY });
});

after(async () => {
  await farm?.close();
});

async function userOf(name: string, tenant: string): Promise<User> {
  return farm.addUser(name, { images: [image.digest], fallback: "none", tenant });
}

/** Builds the same project in a folder of the user's; gives the rows of the build. */
async function build(user: User, folder: string): Promise<JobRow[]> {
  const before = (await jobRows(worker)).length;
  const options = { name: "shared", imageDigest: image.digest, quick: FILES, folder: join(user.folder, folder) };
  const project = new SmallProject(user, options);
  const made = await project.make();
  assert.equal(made.code, 0, made.stderr);
  project.assertRight();
  return (await jobRows(worker)).slice(before);
}

const ends = (rows: readonly JobRow[]) =>
  rows.map(({ kind, envelope }) => `${kind} ${readLoose(envelope).life} ${readLoose(envelope).scope}`);

test("users two and three are given what the first one's clean VMs made", { timeout: 300_000 }, async () => {
  const first = await build(await userOf("alice", "acme"), "one");
  assert.deepEqual(ends(first), Array(FILES).fill("compile clean tenant"));
  assert.equal(new Set(first.map(({ vm }) => vm)).size, FILES, "each file had a VM of its own");
  for (const [name, folder] of [
    ["bob", "at/another path"],
    ["carol", "a/third/one"],
  ] as const) {
    const user = await userOf(name, "acme");
    const rows = await build(user, folder);
    assert.deepEqual(ends(rows), Array(FILES).fill("hit clean tenant"));
    const made = (all: readonly JobRow[]) => all.map(({ outputDigest, vm }) => `${outputDigest} ${vm}`).toSorted();
    assert.deepEqual(made(rows), made(first), "the very objects, by the VMs that made them");
    const inspected = await user.hpcc(["inspect", rows[0]!.digest], { cwd: join(user.folder, folder, "shared") });
    assert.match(inspected.stdout, /^scope +tenant$/m, inspected.stderr);
  }
});

test("what a warm VM made serves users two and three once a clean one has made it again", {
  timeout: 300_000,
}, async () => {
  const first = await build(await userOf("frank", "warm"), "warm");
  assert.deepEqual(ends(first), Array(FILES).fill("compile session principal"));
  while ((await confirmRows(worker)).length < FILES) await setTimeout(ASKED_EACH_MS);
  for (const { note, envelope } of await confirmRows(worker))
    assert.deepEqual([note, readLoose(envelope).life], ["equal", "clean"]);
  for (const name of ["grace", "heidi"]) {
    const rows = await build(await userOf(name, "warm"), `another ${name}`);
    assert.deepEqual(ends(rows), Array(FILES).fill("hit session tenant"), name);
  }
});

test("where nobody shares, users two and three compile", { timeout: 300_000 }, async () => {
  for (const name of ["dan", "eve", "ivan"])
    assert.deepEqual(
      ends(await build(await userOf(name, "alone"), name)),
      Array(FILES).fill("compile session principal"),
    );
});
