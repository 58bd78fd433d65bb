// A user who owns his guest: what it says to his own jobs never reaches anybody else, and each of its answers has a row.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, type TestContext, test } from "node:test";
import type { DescMessage } from "@bufbuild/protobuf";
import type { HpccError } from "../../src/base/errors.ts";
import { sha256 } from "../../src/core/digest/digest.ts";
import type { Life } from "../../src/core/life.ts";
import { fixedPolicies, SHARINGS, type Sharing } from "../../src/core/tenant-policy.ts";
import type { WorkerClient } from "../../src/daemon/remote/worker-client.ts";
import { SessionResponseSchema } from "../../src/gen/hpcc/agent/v1/agent_pb.js";
import type { WorkerDeps } from "../../src/worker/worker.ts";
import { exited } from "../support/fake-agent.ts";
import { TestWorker } from "../support/test-worker.ts";
import {
  type Attack,
  answerWith,
  asyncOf,
  callingAllClean,
  EXPLOIT,
  guestPool,
  lies,
  objectOf,
  TROJAN,
} from "./taken-over-guest.ts";
import { sharingAll, takingNothingBack } from "./weak-layers.ts";

const NEVER = { signal: new AbortController().signal };
const BOB = "tenant/acme/user/bob";

/** Answers an earlier job once more before the one that it was given. */
const replays: Attack = (job, [first]) => asyncOf([...answerWith(first!, TROJAN), ...answerWith(job, job.object)]);

/** Takes back an answer that it has given, and gives another. */
const givesTwoAnswers: Attack = (job) => asyncOf([...answerWith(job, job.object), ...answerWith(job, TROJAN)]);

/** Answers a job that it was never given. */
const answersForOthers: Attack = (job) => asyncOf([exited(job.id + 1n, { outputs: [1] })]);

interface World {
  readonly at: TestWorker;
  /** Owns his guest. */
  readonly ann: WorkerClient;
  readonly bob: WorkerClient;
  /** The object that a user gets for a source. */
  readonly object: (user: WorkerClient, source: string) => Promise<Buffer>;
}

interface WorldOptions {
  readonly attack: Attack;
  readonly life: Life;
  readonly sharing: Sharing;
  /** A source of which the first guest to compile it waits, and what for. */
  readonly held?: { readonly source: string; readonly until: Promise<void>; readonly reached: () => void };
  readonly deps?: (createPool: WorkerDeps["createPool"]) => Partial<WorkerDeps>;
}

/** A worker whose guests ann's first job has taken over. */
async function worldOf(t: TestContext, { attack, life, sharing, held, deps }: WorldOptions): Promise<World> {
  let free = held === undefined;
  const beforeAnswer = async ({ object }: { readonly object: Buffer }) => {
    if (free || !object.equals(objectOf(held!.source))) return;
    free = true;
    held!.reached();
    await held!.until;
  };
  const { createPool } = guestPool({ attack, beforeAnswer });
  const policies = fixedPolicies(new Map([["acme", { life, sharing }]]));
  const at = await TestWorker.start(t, {}, { policies, createPool, ...deps?.(createPool) });
  const [ann, bob] = [await at.client(), await at.client(BOB)];
  const compile = async (user: WorkerClient, path: string, content: string) =>
    user.compile(await at.job({ files: [{ path, content }] }), NEVER);
  await compile(ann, EXPLOIT, "int exploit;\n");
  const object = async (user: WorkerClient, source: string) =>
    readFile((await compile(user, "/hpcc/project/clean.c", source)).outputs[0]!.file);
  return { at, ann, bob, object };
}

/** The objects that bob gets for sources that he asks for before, while and after ann does; and what ann got at the last step. */
async function bobsObjects(t: TestContext, options: Omit<WorldOptions, "held">) {
  const [before, during, after] = ["int before;\n", "int during;\n", "int after;\n"];
  const annIsAt = Promise.withResolvers<void>();
  const bobHasAsked = Promise.withResolvers<void>();
  const held = { source: during, until: bobHasAsked.promise, reached: () => annIsAt.resolve() };
  const world = await worldOf(t, { ...options, held });
  const { ann, bob, object } = world;
  const got: Buffer[] = [await object(bob, before)];
  await object(ann, before);
  got.push(await object(bob, before));
  const annWaits = object(ann, during);
  await annIsAt.promise;
  const asked = object(bob, during);
  bobHasAsked.resolve();
  got.push(await asked);
  await annWaits;
  got.push(await object(bob, during));
  const anns = await object(ann, after);
  got.push(await object(bob, after));
  const honest = [before, before, during, during, after].map(objectOf);
  return { world, anns, got: got.map(String), honest: honest.map(String) };
}

describe("a guest that gives a trojan for a clean source", () => {
  for (const sharing of ["confirm", "private"] as const)
    test(`in a session, shared as ${sharing}: to its owner alone, and the rows say that it was his guest`, async (t) => {
      const { world, anns, got, honest } = await bobsObjects(t, { attack: lies, life: "session", sharing });
      assert.deepEqual(anns, TROJAN, "the attack works");
      assert.deepEqual(got, honest);
      const rows = await world.at.jobRows();
      const vmsOf = (user: string) =>
        new Set(rows.filter(({ envelope }) => envelope.principal?.endsWith(`/${user}`)).map(({ row }) => row.vm));
      const trojans = rows.filter(({ row }) => row.outputDigest === sha256(TROJAN));
      assert.ok(trojans.length >= 3);
      assert.ok(trojans.every(({ row }) => vmsOf("ann").has(row.vm) && !vmsOf("bob").has(row.vm)));
    });

  for (const sharing of SHARINGS)
    test(`in a clean VM, shared as ${sharing}: to nobody, since what the exploit took over is destroyed`, async (t) => {
      const { world, anns, got, honest } = await bobsObjects(t, { attack: lies, life: "clean", sharing });
      assert.deepEqual(anns, objectOf("int after;\n"));
      assert.deepEqual(got, honest);
      const rows = (await world.at.jobRows()).filter(({ envelope }) => envelope.kind === "compile");
      assert.equal(new Set(rows.map(({ row }) => row.vm)).size, rows.length, "no two compiles name one VM");
    });

  for (const sharing of ["confirm", "private"] as const)
    test(`control: in a session, shared as ${sharing}, with one key for all users of the tenant it comes to bob`, async (t) => {
      const deps = () => ({ interceptors: { admitted: [sharingAll] } });
      const { got } = await bobsObjects(t, { attack: lies, life: "session", sharing, deps });
      assert.ok(got.includes(String(TROJAN)), got.join());
    });

  for (const sharing of SHARINGS)
    test(`control: a pool that calls a VM clean which has run the exploit brings it to bob, shared as ${sharing}`, async (t) => {
      // With private the key of its principal stands in the way, too.
      const admitted = sharing === "private" ? [sharingAll] : [];
      const deps = (createPool: WorkerDeps["createPool"]) => ({
        createPool: callingAllClean(createPool),
        interceptors: { admitted },
      });
      const { got } = await bobsObjects(t, { attack: lies, life: "clean", sharing, deps });
      assert.ok(got.includes(String(TROJAN)), got.join());
    });
});

const BREACHES: Readonly<Record<string, Attack>> = {
  "answers an earlier job again": replays,
  "gives two answers": givesTwoAnswers,
  "answers a job that it was never given": answersForOthers,
};
/** What the guest's owner is told, by when the worker noticed. */
const REFUSED: ReadonlySet<string> = new Set(["vm.breach", "result.revoked"]);
const A = "int a;\n";

/** Lets ann's guest break its contract; gives what happens to its results then. */
async function afterBreach(t: TestContext, attack: Attack, deps?: WorldOptions["deps"]) {
  const world = await worldOf(t, { attack, life: "session", sharing: "confirm", ...(deps && { deps }) });
  const { at, ann, object } = world;
  const breached = async () =>
    (await at.rows()).some(({ envelope }) => envelope.kind === "vm" && envelope.note.startsWith("destroyed: breach"));
  await object(ann, A).catch((error: HpccError) => assert.ok(REFUSED.has(error.code), error.code));
  while (!(await breached())) await new Promise((turn) => setImmediate(turn));
  const job = await at.job({ files: [{ path: EXPLOIT, content: "int exploit;\n" }] });
  return { ...world, outcome: (await ann.compile(job, NEVER)).outcome };
}

describe("a guest that breaks its contract after it has made results", () => {
  for (const [what, attack] of Object.entries(BREACHES))
    test(`${what}: what it had made is compiled again, and bob never meets it`, async (t) => {
      const { at, bob, object, outcome } = await afterBreach(t, attack);
      assert.equal(outcome, "compiled");
      assert.deepEqual(await object(bob, A), objectOf(A));
      const rows = await at.rows();
      const first = rows.find(({ envelope }) => envelope.kind === "vm")?.row.vm;
      assert.ok(rows.some(({ row, envelope }) => row.vm === first && envelope.kind === "revoke"));
    });

  for (const [what, attack] of Object.entries(BREACHES))
    test(`control: ${what}, and a store that takes nothing back goes on giving what it had made`, async (t) => {
      const deps = () => ({ interceptors: { admitted: [takingNothingBack()] } });
      assert.equal((await afterBreach(t, attack, deps)).outcome, "hit");
    });
});

test("a guest has no message in which it could name a tenant, a life, a key or a digest", () => {
  const says = (message: DescMessage): string[] =>
    message.fields.flatMap((field) => [field.name, ...(field.message ? says(field.message) : [])]);
  assert.deepEqual(says(SessionResponseSchema).sort(), GUEST_FIELDS.toSorted());
});

/** All that a guest can say. */
const GUEST_FIELDS = `
  ready protocol_version nonce agent_version kernel_release uptime_ms initial_credit_bytes
  last_scrub processes_left mounts_left ipc_left duration_us sequence exited execution_id
  exit_code signal wall_us cpu_us memory_peak_bytes stdout_size stderr_size outputs present size
  executable output execution_id stream_index data error execution_id code message clock
  wall_time_ns
`
  .trim()
  .split(/\s+/);
