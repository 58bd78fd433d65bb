// Second compiles of a real worker whose "VMs" are processes of this machine: what is shared after them, and what is not.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { LocalPool } from "../../../test/support/local-pool.ts";
import { TestWorker } from "../../../test/support/test-worker.ts";
import { HpccError } from "../../base/errors.ts";
import { printInspection } from "../../cli/inspect.ts";
import type { BuildId } from "../../core/identity/build-id.ts";
import { fixedPolicies, type Sharing } from "../../core/tenant-policy.ts";
import type { ExecuteOptions, ExecutionRequest } from "../../vm/execution.ts";
import type { VmEventSink } from "../../vm/pool.ts";
import { makePoolKey, type PoolKey } from "../../vm/pool-key.ts";
import { inspectState } from "../inspect/inspection.ts";
import { stateFolders } from "../state-folders.ts";
import type { WorkerDeps } from "../worker.ts";

const NEVER = { signal: new AbortController().signal };
const ANN = "tenant/acme/user/ann";
const BOB = "tenant/acme/user/bob";
const source = (name: string) => ({ files: [{ path: `/hpcc/project/${name}.c`, content: `int ${name};\n` }] });
/** What it gives depends on the VM: no two are equal. */
const UNEQUAL = {
  ...source("u"),
  argv: ["/bin/sh", "-c", "date +%N%s > /hpcc/out/object.o; echo $$ >> /hpcc/out/object.o"],
};

function policies(sharing: Sharing) {
  return fixedPolicies(new Map([["acme", { life: "session", sharing }]]));
}

function start(t: TestContext, deps: Partial<WorkerDeps> = {}, sharing: Sharing = "confirm") {
  return TestWorker.start(t, { confirmationsMax: 2 }, { policies: policies(sharing), ...deps });
}

async function compile(at: TestWorker, job: Parameters<TestWorker["job"]>[0], user = ANN) {
  return (await at.client(user)).compile(await at.job(job), NEVER);
}

/** Resolves when so many second compiles came to an end, whatever it was. */
async function ended(at: TestWorker, count = 1): Promise<void> {
  for (;;) {
    const { equal, different, failed, forgotten } = at.worker.stats().confirmed;
    if (equal + different + failed + forgotten >= count) return;
    await new Promise((turn) => setImmediate(turn));
  }
}

test("what a clean VM made again, with the same bytes, serves the whole tenant, and the row comes before", async (t) => {
  const at = await start(t);
  const first = { ...(await at.job(source("a"))), build: "nightly" as BuildId };
  assert.equal((await (await at.client(ANN)).compile(first, NEVER)).outcome, "compiled");
  await ended(at);
  assert.equal((await compile(at, source("a"), BOB)).outcome, "hit");
  assert.deepEqual(
    at.pool.keys.map(({ trust }) => trust),
    ["session", "clean"],
  );
  await at.stop();
  const rows = await at.rows();
  const confirm = rows.find(({ envelope }) => envelope.kind === "confirm")!;
  assert.deepEqual([confirm.envelope.note, confirm.row.vm, confirm.envelope.build], ["equal", "vm-2", "nightly"]);
  const hit = rows.find(({ envelope }) => envelope.kind === "hit")!;
  assert.ok(confirm.envelope.sequence < hit.envelope.sequence);
  assert.equal(hit.row.vm, "vm-1");
});

/** A worker whose user ann has a quota for a day. */
function startWithQuota(t: TestContext, cpuUsPerDayMax: number) {
  const fixed = policies("confirm");
  const of: typeof fixed.of = (principal) => {
    const policy = fixed.of(principal);
    const quotas = { jobsMax: null, bytesPerDayMax: null, cpuUsPerDayMax };
    return policy && { ...policy, quotas: { ...policy.quotas, principal: quotas } };
  };
  return start(t, { policies: { ...fixed, of } });
}

test("what a second compile takes is charged to the user who had the first", async (t) => {
  const at = await startWithQuota(t, 1e12);
  await compile(at, { ...source("a"), argv: ["/bin/sh", "-c", "sleep 0.3; echo a > /hpcc/out/object.o"] });
  await ended(at);
  await at.stop();
  assert.equal(at.worker.stats().confirmed.equal, 1);
  const { used } = JSON.parse(
    await readFile(join(stateFolders(join(at.folder, "state")).policy, "usage.json"), "utf8"),
  );
  assert.ok(used["acme/user/ann"][1] >= 600_000, JSON.stringify(used));
});

test("none is made for a user whose day's quota is used up", async (t) => {
  const at = await startWithQuota(t, 1);
  assert.equal((await compile(at, source("a"))).outcome, "compiled");
  await ended(at);
  assert.equal(at.worker.stats().confirmed.failed, 1);
  assert.deepEqual(
    at.pool.keys.map(({ trust }) => trust),
    ["session"],
  );
});

test("what differs is an alarm: nothing is shared, the first one is taken back, and each user's is tried once", async (t) => {
  const at = await start(t);
  const first = await compile(at, UNEQUAL);
  await ended(at);
  assert.equal((await compile(at, UNEQUAL, BOB)).outcome, "compiled");
  // What differed for one user, who may have made it differ, is tried for the next one.
  await ended(at, 2);
  assert.equal((await compile(at, UNEQUAL)).outcome, "compiled", "ann's was taken back");
  assert.equal((await compile(at, UNEQUAL)).outcome, "hit", "now it is hers alone");
  assert.equal(at.worker.stats().confirmed.different, 2);
  assert.equal(at.pool.keys.filter(({ trust }) => trust === "clean").length, 2);
  await at.stop();
  const notes = (await at.rows()).map(({ envelope }) => `${envelope.kind} ${envelope.note.split(" of ")[0]}`);
  assert.ok(notes.includes("confirm different"), notes.join());
  assert.ok(notes.includes("revoke results taken back: 1"), notes.join());
  assert.equal(first.outcome, "compiled");
  const { envelope } = (await at.rows()).find((row) => row.envelope.kind === "confirm")!;
  const state = join(at.folder, "state");
  const printed = printInspection(await inspectState(state, envelope.resultDigest!));
  assert.match(printed, /two compiles gave different results/);
  assert.match(printed, /object 0: the file: \d+ bytes at 0 against \d+ bytes at 0, from byte \d+ on/);
  assert.match(printed, /object 0: sha256:[0-9a-f]{64} against sha256:/);
});

for (const sharing of ["clean", "private"] as const)
  test(`with ${sharing} nothing is compiled a second time`, async (t) => {
    const at = await start(t, {}, sharing);
    await compile(at, source("a"));
    assert.equal(at.worker.stats().confirmed.waiting, 0);
    assert.equal((await compile(at, source("a"), BOB)).outcome, "compiled");
    assert.equal(at.pool.executions, 2);
  });

/** Whatever is asked of it, it runs in warm VMs; some pools would also say that they were clean. */
class WarmPool extends LocalPool {
  readonly #says: "session" | "clean";

  constructor(events: VmEventSink, says: "session" | "clean") {
    super(events);
    this.#says = says;
  }

  override async execute(key: PoolKey, rootfs: string, request: ExecutionRequest, options: ExecuteOptions) {
    const { tenant, user, image } = key;
    const principal = { kind: "user", trustDomain: "test.example", tenant, user } as Parameters<
      typeof makePoolKey
    >[0]["principal"];
    const warm = makePoolKey({ principal, image, trust: "session" });
    const done = await super.execute(warm, rootfs, request, options);
    return { ...done, life: key.trust === "clean" ? this.#says : done.life };
  }
}

for (const says of ["session", "clean"] as const)
  test(`a warm VM confirms nothing, also when the pool says that it is ${says}`, async (t) => {
    const at = await start(t, { createPool: (events) => new WarmPool(events, says) });
    await compile(at, source("a"));
    await ended(at);
    assert.deepEqual([at.worker.stats().confirmed.failed, at.worker.stats().confirmed.equal], [1, 0]);
    assert.equal((await compile(at, source("a"), BOB)).outcome, "compiled");
  });

/** Calls back before a clean VM gives what it made. */
class SlowCleanPool extends LocalPool {
  readonly #before: (vm: string) => Promise<void>;

  constructor(events: VmEventSink, before: (vm: string) => Promise<void>) {
    super(events);
    this.#before = before;
  }

  override async execute(key: PoolKey, rootfs: string, request: ExecutionRequest, options: ExecuteOptions) {
    const done = await super.execute(key, rootfs, request, options);
    if (key.trust === "clean") await this.#before(done.vm.id);
    return done;
  }
}

for (const which of ["first", "second"] as const)
  test(`a result whose ${which} VM is revoked while the second compile runs is shared with nobody`, async (t) => {
    let at: TestWorker | null = null;
    const before = async (second: string) => {
      const vm = which === "first" ? "vm-1" : second;
      const revocation = { kind: "vm", value: vm, atMs: Date.now() } as const;
      await at!.worker.revocations.apply({ tenant: null, revocation }, "w2");
    };
    at = await start(t, { createPool: (events) => new SlowCleanPool(events, before) });
    await compile(at, source("a"));
    await ended(at);
    assert.equal(at.worker.stats().confirmed.forgotten, 1);
    assert.equal((await compile(at, source("a"), BOB)).outcome, "compiled");
  });

test("a clean VM that breaks its contract takes nothing with it but its own; after three of them it is given up", async (t) => {
  const breach = async (vm: string) => {
    throw new HpccError("vm.breach", "it lied", { details: { vm } });
  };
  const at = await start(t, { createPool: (events) => new SlowCleanPool(events, breach) });
  await compile(at, source("a"));
  await ended(at);
  assert.equal(at.worker.stats().confirmed.failed, 1);
  assert.equal((await compile(at, source("a"))).outcome, "hit");
  assert.equal((await compile(at, source("a"), BOB)).outcome, "compiled");
});

test("a second compile gives way to a job, and comes again", async (t) => {
  const gate = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  let cleans = 0;
  class Gated extends LocalPool {
    override async execute(key: PoolKey, rootfs: string, request: ExecutionRequest, options: ExecuteOptions) {
      if (key.trust !== "clean" || ++cleans > 1) return super.execute(key, rootfs, request, options);
      begun.resolve();
      const left = Promise.withResolvers<never>();
      options.signal.addEventListener("abort", () => left.reject(options.signal.reason));
      return Promise.race([left.promise, gate.promise.then(() => super.execute(key, rootfs, request, options))]);
    }
  }
  const at = await TestWorker.start(
    t,
    { confirmationsMax: 1, slots: 1 },
    { policies: policies("confirm"), createPool: (events) => new Gated(events) },
  );
  await compile(at, source("a"));
  await begun.promise;
  assert.equal((await compile(at, source("b"), BOB)).outcome, "compiled");
  await ended(at, 2);
  assert.equal(at.worker.stats().confirmed.equal, 2);
  assert.equal((await compile(at, source("a"), BOB)).outcome, "hit");
});
