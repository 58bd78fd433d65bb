// A guest is taken over, and breaks its contract, after its results have gone round three workers: none of them serves any of it from
// then on, and who asks again has it compiled.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { type TestContext, test } from "node:test";
import type { BodyOfKind } from "../../src/audit/rows/bodies.ts";
import type { WorkerClient } from "../../src/daemon/remote/worker-client.ts";
import { exited } from "../support/fake-agent.ts";
import type { TestWorker } from "../support/test-worker.ts";
import { WorkerSite } from "../support/worker-site.ts";
import { type Attack, asyncOf, EXPLOIT, guestPool, objectOf } from "./taken-over-guest.ts";
import { takingNothingBack } from "./weak-layers.ts";

const NEVER = { signal: new AbortController().signal };
const NAMES = ["w1", "w2", "w3"] as const;
/** Jobs of a build that is under way on each worker when the guest breaks its contract. */
const JOBS = 4;
const VM_COLUMN = 6;

/** Answers a job that it was never given. */
const breaks: Attack = (job) => asyncOf([exited(job.id + 1n, { outputs: [1] })]);

interface User {
  readonly at: TestWorker;
  readonly client: WorkerClient;
}

async function userOf(at: TestWorker, name: string): Promise<User> {
  return { at, client: await at.client(`tenant/acme/user/${name}`) };
}

/** What a user gets, and which VM made it. */
async function compile({ at, client }: User, content: string, path = "/hpcc/project/a.c") {
  const { outcome, outputs, auditRow } = await client.compile(await at.job({ files: [{ path, content }] }), NEVER);
  return { outcome, vm: auditRow.split("\t")[VM_COLUMN]!, object: String(await readFile(outputs[0]!.file)) };
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((turn) => setImmediate(turn));
}

const sourceOf = (number: number) => `int source${number};\n`;

/**
 * Ann's guest on w1 makes results that are confirmed and go to all workers. Then it breaks its contract while bob, carol and dora ask for
 * them. Gives its VM, and what each of them gets once his worker has heard.
 */
async function afterBreach(t: TestContext, weak: readonly string[] = []) {
  const { createPool } = guestPool({ attack: breaks });
  const site = await WorkerSite.open(t, NAMES, {
    settings: { life: "session", sharing: "confirm" },
    confirmationsMax: 1,
    deps: (name) => ({
      createPool,
      interceptors: { admitted: weak.includes(name) ? [takingNothingBack()] : [] },
    }),
  });
  const [w1, w2, w3] = site.workers as [TestWorker, TestWorker, TestWorker];
  const ann = await userOf(w1, "ann");
  const others = [await userOf(w1, "bob"), await userOf(w2, "carol"), await userOf(w3, "dora")];
  await site.acquainted();
  const { vm } = await compile(ann, sourceOf(0));
  for (let number = 1; number < JOBS; number++) await compile(ann, sourceOf(number));
  await until(() => w1.worker.stats().peers!.signed === JOBS);
  for (const user of others)
    for (let number = 0; number < JOBS; number++) {
      const got = await compile(user, sourceOf(number));
      assert.deepEqual([got.outcome, got.vm], ["hit", vm], `${user.at.folder} ${number}`);
    }
  await compile(ann, "int exploit;\n", EXPLOIT);
  const building = others.map(async (user) => {
    for (let number = 0; number < JOBS; number++)
      await compile(user, sourceOf(number)).catch((error: { code: string }) =>
        assert.equal(error.code, "result.revoked"),
      );
  });
  await assert.rejects(compile(ann, "int breach;\n"), { code: "vm.breach" });
  await until(() => [w2, w3].every(({ worker }) => worker.stats().peers!.revocations >= 1));
  // The guests here take one job at a time.
  await Promise.all(building);
  const after = others.map(async (user) => {
    const got = [];
    for (let number = 0; number < JOBS; number++) got.push(await compile(user, sourceOf(number)));
    return got;
  });
  const all = (await Promise.all(after)).flat();
  return { vm, all, site };
}

test("what a VM made that breaks its contract is served by none of three workers, and compiled again", async (t) => {
  const { vm, all, site } = await afterBreach(t);
  assert.equal(all.length, NAMES.length * JOBS);
  assert.ok(all.every((got) => got.vm !== vm));
  const honest = Array.from({ length: JOBS }, (_, number) => String(objectOf(sourceOf(number))));
  assert.ok(all.every(({ object }) => honest.includes(object)));
  const revoked = async (worker: (typeof site.workers)[number]) =>
    (await worker.rows()).flatMap(({ envelope }) =>
      envelope.kind === "revoke" ? [envelope as unknown as BodyOfKind<"revoke">] : [],
    );
  for (const worker of site.workers) {
    // It is read out of the log who had been served, which takes a moment.
    await until(async () => (await revoked(worker)).length > 0);
    const [row] = await revoked(worker);
    assert.ok(row!.served! >= JOBS, `served ${row!.served}`);
    assert.equal(row!.servedRows.length, row!.served);
  }
});

test("control: a worker that takes nothing back goes on serving it", async (t) => {
  const { vm, all } = await afterBreach(t, ["w3"]);
  assert.ok(all.some((got) => got.vm === vm));
});
