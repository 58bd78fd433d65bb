// What a user who owns his guest can make of results that are shared: over trust tiers, and by the second compile that is to confirm
// what a warm VM made.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, type TestContext, test } from "node:test";
import { fixedPolicies, type PolicySource } from "../../src/core/tenant-policy.ts";
import type { WorkerClient } from "../../src/daemon/remote/worker-client.ts";
import type { WorkerDeps } from "../../src/worker/worker.ts";
import { exited } from "../support/fake-agent.ts";
import { TestWorker } from "../support/test-worker.ts";
import {
  type Attack,
  asyncOf,
  callingAllClean,
  confirmingItself,
  EXPLOIT,
  type GuestJob,
  guestPool,
  lies,
  objectOf,
  TROJAN,
} from "./taken-over-guest.ts";
import { sharingAll } from "./weak-layers.ts";

const NEVER = { signal: new AbortController().signal };
const SOURCE = "int source;\n";

/** The user `release` is of the higher tier, everybody else's jobs are those of pull requests. */
function tiers(): PolicySource {
  const base = fixedPolicies(new Map([["acme", { life: "clean", sharing: "clean" }]]));
  const tierOf = (user: string) =>
    user === "release"
      ? { tier: "release", readableTiers: ["release"] }
      : { tier: "pull-request", readableTiers: ["pull-request", "release"] };
  return {
    ...base,
    of: (principal) => {
      const policy = base.of(principal);
      return policy && { ...policy, ...tierOf(principal.user) };
    },
  };
}

async function compile(at: TestWorker, client: WorkerClient, content: string, path = "/hpcc/project/a.c") {
  const { outcome, outputs } = await client.compile(await at.job({ files: [{ path, content }] }), NEVER);
  return { outcome, object: String(await readFile(outputs[0]!.file)) };
}

describe("a pull request whose guest is taken over, on a worker that wrongly calls its VM clean", () => {
  const { createPool } = guestPool({ attack: lies });

  async function released(t: TestContext, deps: Parameters<typeof TestWorker.start>[2]) {
    const at = await TestWorker.start(t, {}, { policies: tiers(), createPool: callingAllClean(createPool), ...deps });
    const contributor = await at.client("tenant/acme/user/contributor");
    await compile(at, contributor, "int exploit;\n", EXPLOIT);
    assert.equal((await compile(at, contributor, SOURCE)).object, String(TROJAN), "the attack works");
    const release = await compile(at, await at.client("tenant/acme/user/release"), SOURCE);
    return release;
  }

  test("does not reach the release build", async (t) => {
    const release = await released(t, {});
    assert.deepEqual(release, { outcome: "compiled", object: String(objectOf(SOURCE)) });
  });

  test("control: without tiers in the keys the release build gets the trojan", async (t) => {
    const release = await released(t, { interceptors: { admitted: [sharingAll] } });
    assert.deepEqual(release, { outcome: "hit", object: String(TROJAN) });
  });

  test("while what a release build had compiled serves pull requests", async (t) => {
    const at = await TestWorker.start(t, {}, { policies: tiers(), createPool });
    await compile(at, await at.client("tenant/acme/user/release"), SOURCE);
    const contributor = await compile(at, await at.client("tenant/acme/user/contributor"), SOURCE);
    assert.deepEqual(contributor, { outcome: "hit", object: String(objectOf(SOURCE)) });
  });
});

/** Resolves when so many second compiles came to an end, whatever it was. */
async function confirmed(at: TestWorker, count: number): Promise<void> {
  for (;;) {
    const { equal, different, failed, forgotten } = at.worker.stats().confirmed;
    if (equal + different + failed + forgotten >= count) return;
    await new Promise((turn) => setImmediate(turn));
  }
}

interface ConfirmOptions {
  readonly attack?: Attack;
  /** A source whose second compile waits. */
  readonly held?: { readonly source: string; readonly until: Promise<void>; readonly reached: () => void };
  readonly pool?: (createPool: WorkerDeps["createPool"]) => WorkerDeps["createPool"];
}

/** A worker that confirms what warm VMs make. */
async function confirming(t: TestContext, { attack = lies, held, pool = (same) => same }: ConfirmOptions) {
  let seen = 0;
  const beforeAnswer = async ({ object }: GuestJob) => {
    if (held === undefined || !object.equals(objectOf(held.source)) || ++seen !== 2) return;
    held.reached();
    await held.until;
  };
  const { createPool } = guestPool({ attack, beforeAnswer });
  const policies = fixedPolicies(new Map([["acme", { life: "session", sharing: "confirm" }]]));
  const at = await TestWorker.start(t, { confirmationsMax: 1 }, { policies, createPool: pool(createPool) });
  const [ann, bob] = [await at.client(), await at.client("tenant/acme/user/bob")];
  const exploit = async () => compile(at, ann, "int exploit;\n", EXPLOIT);
  return { at, ann, bob, exploit };
}

/** What a test waits for, and what waits for it. */
function gate(source: string) {
  const reached = Promise.withResolvers<void>();
  const opened = Promise.withResolvers<void>();
  const held = { source, until: opened.promise, reached: reached.resolve };
  return { held, reached: reached.promise, open: opened.resolve };
}

describe("a taken-over guest whose trojan a clean VM is to confirm", () => {
  const honest = String(objectOf(SOURCE));

  test("is found out: the row says so, the trojan is taken back, and bob never gets it", async (t) => {
    const { held, reached, open } = gate(SOURCE);
    const { at, ann, bob, exploit } = await confirming(t, { held });
    await exploit();
    assert.equal((await compile(at, ann, SOURCE)).object, String(TROJAN), "the attack works");
    await reached;
    const during = await compile(at, bob, SOURCE);
    open();
    await confirmed(at, 2);
    const after = await compile(at, await at.client("tenant/acme/user/carol"), SOURCE);
    assert.deepEqual([during.object, after.object], [honest, honest]);
    const rows = await at.rows();
    const notes = rows.map(({ envelope }) => `${envelope.kind} ${envelope.note}`);
    assert.ok(
      notes.some((note) => note.startsWith("confirm different")),
      notes.join("\n"),
    );
    assert.ok(
      notes.some((note) => note.startsWith("revoke ")),
      notes.join("\n"),
    );
  });

  test("control: a second compile in the same VM, called another and clean, brings it to bob", async (t) => {
    const { at, ann, bob, exploit } = await confirming(t, { pool: confirmingItself });
    await exploit();
    await compile(at, ann, SOURCE);
    await confirmed(at, 2);
    assert.deepEqual(await compile(at, bob, SOURCE), { outcome: "hit", object: String(TROJAN) });
  });

  for (const breaks of [true, false])
    test(`${breaks ? "" : "control: only "}what a VM made that breaks its contract meanwhile is not shared`, async (t) => {
      const { held, reached, open } = gate(SOURCE);
      const attack: Attack = (job) => asyncOf([exited(job.id + 1n, { outputs: [1] })]);
      const { at, ann, bob, exploit } = await confirming(t, { held, attack });
      await compile(at, ann, SOURCE);
      await reached;
      await exploit();
      if (breaks) await assert.rejects(compile(at, ann, "int breach;\n"), { code: "vm.breach" });
      open();
      await confirmed(at, breaks ? 1 : 2);
      assert.deepEqual(await compile(at, bob, SOURCE), { outcome: breaks ? "compiled" : "hit", object: honest });
    });

  test("what was confirmed once stays what it was, whatever the guest says later", async (t) => {
    const { at, ann, bob, exploit } = await confirming(t, {});
    await compile(at, ann, SOURCE);
    await confirmed(at, 1);
    await exploit();
    assert.deepEqual(await compile(at, ann, SOURCE), { outcome: "hit", object: honest });
    assert.deepEqual(await compile(at, bob, SOURCE), { outcome: "hit", object: honest });
  });
});
