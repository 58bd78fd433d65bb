// What a user who owns his guest can make of results that are shared: over trust tiers, and by the second compile that is to confirm
// what a warm VM made.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, type TestContext, test } from "node:test";
import { fixedPolicies, type PolicySource } from "../../src/core/tenant-policy.ts";
import type { WorkerClient } from "../../src/daemon/remote/worker-client.ts";
import { DiskActionCache } from "../../src/store/disk/disk-action-cache.ts";
import type { Interceptor } from "../../src/worker/layers/layer.ts";
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
import { findingNothingFor, sharingAll } from "./weak-layers.ts";

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
  /** Defences that are switched off. */
  readonly weak?: readonly Interceptor[];
}

/** A worker that confirms what warm VMs make. */
async function confirming(t: TestContext, { attack = lies, held, pool = (same) => same, weak = [] }: ConfirmOptions) {
  let seen = 0;
  const beforeAnswer = async ({ object }: GuestJob) => {
    if (held === undefined || !object.equals(objectOf(held.source)) || ++seen !== 2) return;
    held.reached();
    await held.until;
  };
  const { createPool } = guestPool({ attack, beforeAnswer });
  const policies = fixedPolicies(new Map([["acme", { life: "session", sharing: "confirm" }]]));
  const deps = { policies, createPool: pool(createPool), interceptors: { admitted: weak } };
  const at = await TestWorker.start(t, { confirmationsMax: 1 }, deps);
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

  /** What bob gets of a VM that breaks its contract, or does not, while its honest result is being confirmed. */
  async function afterBreach(t: TestContext, breaks: boolean) {
    const { held, reached, open } = gate(SOURCE);
    const attack: Attack = (job) => asyncOf([exited(job.id + 1n, { outputs: [1] })]);
    const { at, ann, bob, exploit } = await confirming(t, { held, attack });
    await compile(at, ann, SOURCE);
    await reached;
    await exploit();
    if (breaks) await assert.rejects(compile(at, ann, "int breach;\n"), { code: "vm.breach" });
    open();
    // Of a VM that broke its contract, what the exploit's own job gave is not confirmed either.
    await confirmed(at, 1);
    return compile(at, bob, SOURCE);
  }

  test("what a VM made that breaks its contract meanwhile is not shared", async (t) => {
    assert.deepEqual(await afterBreach(t, true), { outcome: "compiled", object: honest });
  });

  test("control: without the breach it is shared", async (t) => {
    assert.deepEqual(await afterBreach(t, false), { outcome: "hit", object: honest });
  });

  test("control: a store that revokes nothing shares what the VM made that broke its contract", async (t) => {
    t.mock.method(DiskActionCache.prototype, "revoke", async () => undefined);
    t.mock.method(DiskActionCache.prototype, "revoked", async () => false);
    assert.deepEqual(await afterBreach(t, true), { outcome: "hit", object: honest });
  });

  /** What is confirmed, and asked for again by its owner, whose guest lies by now, and by bob. */
  async function askedAgain(t: TestContext, weak: readonly Interceptor[] = []) {
    const { at, ann, bob, exploit } = await confirming(t, { weak });
    await compile(at, ann, SOURCE);
    if (weak.length === 0) await confirmed(at, 1);
    await exploit();
    return [await compile(at, ann, SOURCE), await compile(at, bob, SOURCE)];
  }

  test("what was confirmed once stays what it was, whatever the guest says later", async (t) => {
    const hit = { outcome: "hit", object: honest };
    assert.deepEqual(await askedAgain(t), [hit, hit]);
  });

  test("control: where the guest is asked again, and its word replaces what was found, bob gets the trojan", async (t) => {
    const [anns, bobs] = await askedAgain(t, [sharingAll, findingNothingFor("ann")]);
    assert.deepEqual(anns, { outcome: "compiled", object: String(TROJAN) });
    assert.deepEqual(bobs, { outcome: "hit", object: String(TROJAN) });
  });
});
