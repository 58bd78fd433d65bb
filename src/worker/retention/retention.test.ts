// Retention of a worker: what goes with rows and what stays for others, while the worker runs and while it does not; and what it does by
// itself. A result whose source went is no answer until the source is here again.
import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { TestWorker } from "../../../test/support/test-worker.ts";
import { AuditLog } from "../../audit/audit-log.ts";
import { makeLogKey, readLogSigner } from "../../audit/log-key-file.ts";
import { PRUNE_DISK } from "../../audit/prune/stub-files.ts";
import { readLog } from "../../audit/read-log.ts";
import { emptyRow } from "../../audit/row.ts";
import { verifyLog } from "../../audit/verify/verify-log.ts";
import { evidenceOfFolder } from "../../audit/verify-folder.ts";
import { ManualClock } from "../../base/clock.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { SYSTEM_CLOCK } from "../../base/system/clock.ts";
import { parsePolicy } from "../../config/policy-file.ts";
import { sha256 } from "../../core/digest/digest.ts";
import { parseTenantId } from "../../core/identity/spiffe.ts";
import { DiskStore } from "../../store/disk/disk-store.ts";
import { askRetention, type HoldAsk, type PruneAsk, type RetentionAsk } from "../control/retention-request.ts";
import { inspectState } from "../inspect/inspection.ts";
import { ageText, LogRetention, type PruneReport } from "./log-retention.ts";
import { FIRST_RUN_MS, openRetention, RUN_EVERY_MS } from "./open-retention.ts";

type Row = Awaited<ReturnType<TestWorker["jobRows"]>>[number];
const NEVER = { signal: new AbortController().signal };
const ON = { clock: SYSTEM_CLOCK, logger: SILENT_LOGGER };
const HOUR = 3_600_000;
const state = (at: TestWorker) => join(at.folder, "state");
const SHARED = { path: "/hpcc/project/shared.h", content: "extern int shared;\n" };
const source = (name: string) => ({
  files: [{ path: `/hpcc/project/${name}.c`, content: `#include "shared.h"\nint ${name};\n` }, SHARED],
});
const blobOf = (name: string) => sha256(Buffer.from(source(name).files[0]!.content));

async function compile(at: TestWorker, name: string, user = "tenant/acme/user/ann"): Promise<string> {
  const client = await at.client(user);
  return (await client.compile(await at.job(source(name)), NEVER)).outcome;
}

const EVE = "tenant/other/user/eve";
const ALL: Omit<PruneAsk, "tenants" | "others"> = {
  command: "prune",
  policy: null,
  askedBy: "ann (uid 1000)",
  reason: null,
  dryRun: false,
};
/** All of a tenant's rows. */
const allOf = (tenant: string): PruneAsk => ({
  ...ALL,
  tenants: { [tenant]: { ageMs: 0, bytes: null } },
  others: null,
});

async function prune(stateFolder: string, ask: PruneAsk) {
  return (await askRetention(stateFolder, ask, ON)) as PruneReport & { readonly by: string };
}

const HOLD: HoldAsk = {
  name: "case-7",
  askedBy: "ann",
  reason: "a dispute",
  tenant: null,
  principal: null,
  image: null,
  build: null,
  hash: null,
  sinceMs: null,
  untilMs: null,
};

async function kept(stateFolder: string, tenant: string): Promise<string[]> {
  const folder = join(stateFolder, "store", tenant, "kept");
  const names = await readdir(folder, { recursive: true });
  return names.flatMap((name) => (name.length > 60 ? [`sha256:${name.slice(-64)}`] : [])).sort();
}

/** As if nobody had used the store for a day. */
async function age(stateFolder: string): Promise<void> {
  const old = Date.now() / 1000 - 86_400;
  for (const name of await readdir(join(stateFolder, "store"), { recursive: true }))
    if (name.length > 64) await utimes(join(stateFolder, "store", name), old, old);
}

async function verifies(stateFolder: string): Promise<void> {
  const verdict = await verifyLog(await evidenceOfFolder(join(stateFolder, "audit"), { keys: [] }));
  assert.deepEqual(verdict.problems, []);
}

async function compiled(t: TestContext): Promise<TestWorker> {
  const at = await TestWorker.start(t);
  assert.deepEqual(
    [await compile(at, "a"), await compile(at, "a"), await compile(at, "b")],
    ["compiled", "hit", "compiled"],
  );
  assert.equal(await compile(at, "a", EVE), "compiled");
  return at;
}

test("a row says for good which age was asked for", () => {
  const [day, second] = [86_400_000, 1000];
  const told = [400 * day, day, 36 * 3600 * second, 90 * 60 * second, second, 0].map(ageText);
  assert.deepEqual(told, ["400 days", "1 day", "36 hours", "90 minutes", "1 second", "0 seconds"]);
});

describe("a worker's log", () => {
  test("loses a tenant's rows and the sources that only they needed; others keep theirs", async (t) => {
    const at = await compiled(t);
    const folder = state(at);
    const others = await kept(folder, "other");
    assert.ok((await kept(folder, "acme")).includes(blobOf("b")));
    // A file that two sources have is sent and kept once for each tenant.
    const shared = sha256(Buffer.from(SHARED.content));
    assert.equal((await kept(folder, "acme")).filter((name) => name === shared).length, 1);
    assert.equal(at.sent.filter((name) => name === shared).length, 2);
    const [{ digest: goes }, , , { digest: stays }] = (await at.jobRows()) as [Row, Row, Row, Row];
    const [client, eve] = [await at.client(), await at.client(EVE)];
    assert.equal((await client.inspect(goes)).kind, "row");
    const dry = await prune(folder, { ...allOf("acme"), dryRun: true });
    assert.deepEqual([dry.by, dry.tenants[0]?.tenant, (dry.tenants[0]?.rows ?? 0) >= 3], ["worker", "acme", true]);
    assert.equal((await at.jobRows()).length, 4);

    const { tenants } = await prune(folder, allOf("acme"));
    assert.deepEqual(
      tenants.map(({ tenant, sources }) => [tenant, sources?.blobs]),
      [["acme", 0]],
    );
    assert.ok((tenants[0]?.sources?.recent ?? 0) >= 5, "used too lately to go while jobs run");
    assert.deepEqual(
      (await at.jobRows()).map(({ row }) => row.tenant),
      ["other"],
    );
    // The index goes on with what is left, wherever that stands now.
    await assert.rejects(client.inspect(goes), { code: "hash.unknown", message: /; \d+ rows were pruned/ });
    await assert.rejects(eve.inspect(goes), { code: "hash.unknown", message: /nothing is known of sha256:[0-9a-f]+$/ });
    assert.equal((await eve.inspect(stays)).kind, "row");
    await age(folder);
    const second = await prune(folder, allOf("acme"));
    assert.ok((second.tenants[0]?.sources?.blobs ?? 0) >= 5);
    assert.deepEqual(await kept(folder, "acme"), []);
    assert.deepEqual(await kept(folder, "other"), others);
    await verifies(folder);

    // What is still in the cache is no answer without its source: a row would name what is not here.
    await at.stop();
    const again = await TestWorker.start(t, {}, {}, at.folder);
    assert.equal(await compile(again, "a", EVE), "hit");
    assert.equal(await compile(again, "a"), "compiled");
    assert.equal(await compile(again, "a"), "hit");
    assert.ok((await kept(folder, "acme")).includes(blobOf("a")));
    await again.stop();
    await verifies(folder);
  });

  test("keeps what a row that stays needs: a shared file, a VM's own rows", async (t) => {
    const at = await compiled(t);
    const folder = state(at);
    const rows = await at.jobRows();
    const [first] = rows;
    await askRetention(folder, { command: "hold-add", ...HOLD, hash: first!.digest }, ON);
    await age(folder);
    const { tenants } = await prune(folder, allOf("acme"));
    assert.deepEqual(
      tenants.map(({ held }) => held),
      [1],
    );
    const left = await kept(folder, "acme");
    assert.ok(left.includes(blobOf("a")) && left.includes(sha256(Buffer.from(SHARED.content))));
    assert.ok(!left.includes(blobOf("b")));
    const vms = (await at.rows()).filter(({ envelope, row }) => envelope.kind === "vm" && row.vm === first!.row.vm);
    assert.ok(vms.length > 0);
    await at.stop();
  });

  test("is pruned in its folder while no worker runs, at once, and the next worker goes on with it", async (t) => {
    const at = await compiled(t);
    const folder = state(at);
    await at.stop();
    const [{ digest: goes }, , , { digest: stays }] = (await at.jobRows()) as [Row, Row, Row, Row];
    const { by, tenants } = await prune(folder, allOf("acme"));
    assert.equal(by, "folder");
    assert.ok((tenants[0]?.sources?.blobs ?? 0) >= 5);
    assert.deepEqual(await kept(folder, "acme"), []);
    await verifies(folder);
    assert.equal((await inspectState(folder, stays)).kind, "row");
    await assert.rejects(inspectState(folder, goes), { code: "hash.unknown", message: /rows were pruned/ });
    const again = await TestWorker.start(t, {}, {}, at.folder);
    assert.equal(await compile(again, "b"), "compiled");
    assert.equal(await compile(again, "a", EVE), "hit");
    await again.stop();
    await verifies(folder);
  });

  test("whose pruning was cut off by a failing disk is pruned by the next start, its sources too", async (t) => {
    const at = await compiled(t);
    const folder = state(at);
    await at.stop();
    const signer = (await readLogSigner(folder))!;
    const audit = join(folder, "audit");
    const log = await AuditLog.open({ folder: audit, worker: "w1", ...ON, signer });
    const store = await DiskStore.open({ root: join(folder, "store"), ...ON });
    const write: typeof PRUNE_DISK.write = async (path, bytes) =>
      path.endsWith(".log") ? Promise.reject(new Error("EIO")) : PRUNE_DISK.write(path, bytes);
    const options = { log, folder: audit, stateFolder: folder, worker: "w1", store, ...ON, graceMs: 0 };
    const retention = new LogRetention({ ...options, disk: { ...PRUNE_DISK, write } });
    const rules = { tenants: new Map([["acme", { ageMs: 0, bytes: null }]]), others: null };
    const how = { cause: "operator", policy: null, askedBy: "ann", reason: null, dryRun: false } as const;
    await assert.rejects(retention.prune({ rules, ...how }), /EIO/);
    await retention.close();
    await log.close();
    assert.equal((await at.jobRows()).length, 4);
    await verifies(folder);
    await age(folder);
    const again = await TestWorker.start(t, {}, {}, at.folder);
    // It is answered when the worker is done with that.
    await askRetention(folder, { command: "hold-list" }, ON);
    assert.deepEqual(
      (await again.jobRows()).map(({ row }) => row.tenant),
      ["other"],
    );
    assert.deepEqual(await kept(folder, "acme"), []);
    await again.stop();
    await verifies(folder);
  });

  test("holds are said by rows, have one name each, and end when they are told to", async (t) => {
    const at = await compiled(t);
    const folder = state(at);
    const holds = async () => {
      const answer = await askRetention(folder, { command: "hold-list" }, ON);
      return "holds" in answer ? answer.holds.map(({ name, tenant }) => [name, tenant]) : [];
    };
    await askRetention(folder, { command: "hold-add", ...HOLD, tenant: "acme" }, ON);
    await assert.rejects(askRetention(folder, { command: "hold-add", ...HOLD }, ON), { message: /in force already/ });
    assert.deepEqual(await holds(), [["case-7", "acme"]]);
    const bad = (change: Partial<HoldAsk>, message: RegExp) =>
      assert.rejects(askRetention(folder, { command: "hold-add", ...HOLD, name: "x", ...change }, ON), { message });
    await bad({ name: "a b" }, /hold's name/);
    await bad({ image: "latest" }, /image/);
    await bad({ tenant: "A/B" }, /tenant/);
    await bad({ sinceMs: -1 }, /since/);
    await bad({ sinceMs: 2, untilMs: 1 }, /holds nothing/);
    assert.equal((await prune(folder, allOf("acme"))).tenants[0]?.rows ?? 0, 0);
    assert.equal((await at.jobRows()).length, 4);
    await at.stop();
    assert.deepEqual(await holds(), [["case-7", "acme"]]);
    await askRetention(folder, { command: "hold-remove", name: "case-7", askedBy: "ann", reason: "settled" }, ON);
    assert.deepEqual(await holds(), []);
    await assert.rejects(
      askRetention(folder, { command: "hold-remove", name: "case-7", askedBy: "ann", reason: "settled" }, ON),
      { message: /no hold case-7/ },
    );
    assert.equal((await prune(folder, allOf("acme"))).tenants[0]?.sources !== null, true);
    assert.equal((await at.jobRows()).length, 1);
  });

  test("is read and never changed by a list of holds or a dry run, also where it is damaged or has no key", async (t) => {
    const at = await compiled(t);
    const folder = state(at);
    await askRetention(folder, { command: "hold-add", ...HOLD }, ON);
    await at.stop();
    const dry = { ...allOf("acme"), dryRun: true };
    const list = { command: "hold-list" } as const;
    const seen = async () => {
      const names = (await readdir(folder, { recursive: true, withFileTypes: true })).filter((one) => one.isFile());
      const paths = names.map((one) => join(one.parentPath, one.name)).sort();
      return Promise.all(paths.map(async (path) => [path, sha256(await readFile(path))]));
    };
    const reads = async (ask: RetentionAsk, problem: RegExp | null) => {
      const before = await seen();
      if (problem === null) await askRetention(folder, ask, ON);
      else await assert.rejects(askRetention(folder, ask, ON), { code: "audit.corrupt", message: problem });
      assert.deepEqual(await seen(), before);
    };
    for (const ask of [list, dry]) await reads(ask, null);
    const key = join(folder, "log-key");
    await rename(key, `${key}.aside`);
    for (const ask of [list, dry]) await reads(ask, null);
    const answer = await askRetention(folder, list, ON);
    assert.equal("holds" in answer && answer.holds.length, 1, "and the hold is in force in a copy, too");
    const before = await seen();
    const add = askRetention(folder, { command: "hold-add", ...HOLD, name: "case-8" }, ON);
    await assert.rejects(add, { code: "argument.invalid", message: /has no key of the log/ });
    assert.deepEqual(await seen(), before, "a row that nobody signs is not written");
    await rename(`${key}.aside`, key);
    const segment = join(folder, "audit/0000000000000001.log");
    const rows = await readFile(segment);
    await writeFile(segment, rows.subarray(0, -9));
    for (const ask of [list, dry]) await reads(ask, /not what was signed: .*\d+ rows/);
    await writeFile(segment, Buffer.concat([rows.subarray(0, 300), Buffer.from("#"), rows.subarray(301)]));
    for (const ask of [list, dry]) await reads(ask, /damaged/);
    await writeFile(segment, rows);
    await rm(join(folder, "audit/checkpoint"));
    for (const ask of [list, dry]) await reads(ask, /checkpoint/);
  });

  test("of somebody who has no key of it is not pruned", async (t) => {
    const at = await compiled(t);
    await at.stop();
    await rm(join(state(at), "log-key"));
    await assert.rejects(prune(state(at), allOf("acme")), { code: "argument.invalid", message: /has no key/ });
    assert.equal((await at.jobRows()).length, 4);
  });
});

describe("a log without a worker", () => {
  const HOW = { cause: "operator", policy: null, askedBy: "ann", reason: null, dryRun: false } as const;
  const NOBODY = { principal: "spiffe://x.example/tenant/t/user/u", policy: null, tier: null, build: null } as const;
  const denied = { kind: "denied", startMs: 0, endMs: 0, ...NOBODY, code: "x.y", actionKey: null } as const;

  async function opened(t: TestContext) {
    const stateFolder = await mkdtemp(join(tmpdir(), "hpcc-retention-"));
    t.after(() => rm(stateFolder, { recursive: true }));
    await makeLogKey(stateFolder, "x.example/worker/w1");
    const signer = (await readLogSigner(stateFolder))!;
    const folder = join(stateFolder, "audit");
    const log = await AuditLog.open({ folder, worker: "w1", ...ON, signer });
    const store = await DiskStore.open({ root: join(stateFolder, "store"), ...ON });
    const retention = new LogRetention({ log, folder, stateFolder, worker: "w1", store, ...ON, graceMs: 0 });
    return { stateFolder, log, store, retention };
  }

  test("whose key was replaced is pruned with the key that it is signed with, until its next start", async (t) => {
    const { stateFolder, log, retention } = await opened(t);
    await log.append({ ...emptyRow("w1"), tenant: "acme" }, denied);
    await makeLogKey(stateFolder, "x.example/worker/w1");
    const rules = { tenants: new Map([["acme", { ageMs: 0, bytes: null }]]), others: null };
    const { tenants } = await retention.prune({ rules, ...HOW });
    assert.equal(tenants[0]?.rows, 1);
    await log.close();
    await verifies(stateFolder);
  });

  test("is pruned whatever bytes a client has called a source", async (t) => {
    const { stateFolder, log, store, retention } = await opened(t);
    const acme = parseTenantId("acme");
    const { digest } = await store.tenant(acme).blobs.putBytes(Buffer.from("int x;\n"), "kept", 100);
    await log.append({ ...emptyRow("w1"), tenant: "acme", sourceDigest: digest }, denied);
    await log.append({ ...emptyRow("w1"), tenant: "beta" }, denied);
    const limits = { ageMs: null, bytes: 1_000_000 };
    const rules = new Map([["beta", { ageMs: 0, bytes: null }]]);
    const { tenants } = await retention.prune({ rules: { tenants: rules, others: limits }, ...HOW });
    assert.deepEqual(
      tenants.map(({ tenant, rows, sources }) => [tenant, rows, sources?.blobs]),
      [
        ["acme", 0, 0],
        ["beta", 1, 0],
      ],
    );
    assert.deepEqual(await kept(stateFolder, "acme"), [digest]);
    await retention.prune({ rules: { tenants: new Map(), others: { ageMs: 0, bytes: null } }, ...HOW });
    assert.deepEqual(await kept(stateFolder, "acme"), []);
    await log.close();
    await verifies(stateFolder);
  });
});

describe("what a policy asks for", () => {
  const POLICY = `schema = 1
version = 3
unlisted = "refuse"
[tenants.acme]
retention = { days = 30, automatic = true }
[tenants.beta]
retention = { days = 30 }
`;

  test("is done by the worker once a day, of those tenants whose policy says so, and named in the row", async (t) => {
    const stateFolder = await mkdtemp(join(tmpdir(), "hpcc-retention-"));
    t.after(() => rm(stateFolder, { recursive: true }));
    const clock = new ManualClock();
    await makeLogKey(stateFolder, "x.example/worker/w1");
    const signer = (await readLogSigner(stateFolder))!;
    const folder = join(stateFolder, "audit");
    const log = await AuditLog.open({ folder, worker: "w1", clock, logger: SILENT_LOGGER, signer });
    const store = await DiskStore.open({ root: join(stateFolder, "store"), clock, logger: SILENT_LOGGER });
    const times = { startMs: clock.wallMs(), endMs: clock.wallMs() };
    const job = { principal: "spiffe://x.example/tenant/t/user/u", policy: null, tier: null, build: null };
    for (const tenant of ["acme", "beta"])
      await log.append(
        { ...emptyRow("w1"), tenant },
        { kind: "denied", ...times, ...job, code: "x.y", actionKey: null },
      );
    const policy = parsePolicy(Buffer.from(POLICY), "policy.toml");
    let done = Promise.withResolvers<void>();
    const logger = { ...SILENT_LOGGER, info: (event: string) => event === "audit.log.pruned" && done.resolve() };
    const options = { log, folder, stateFolder, worker: "w1", store, clock, policy: () => policy };
    const retention = openRetention({ ...options, logger });
    const rows = async () => {
      const all = [];
      for await (const { record } of readLog(folder)) all.push(record);
      return all;
    };
    const tenantsOf = async () =>
      (await rows()).filter(({ envelope }) => envelope.kind === "denied").map(({ row }) => row.tenant);
    clock.advance(FIRST_RUN_MS);
    await retention.handler(async () => ({}))({ command: "hold-list" });
    assert.deepEqual(await tenantsOf(), ["acme", "beta"]);
    done = Promise.withResolvers();
    for (let day = 0; day < 31; day++) {
      clock.advance(RUN_EVERY_MS);
      await retention.handler(async () => ({}))({ command: "hold-list" });
      await new Promise((resolve) => setImmediate(resolve));
    }
    await done.promise;
    assert.deepEqual(await tenantsOf(), ["beta"]);
    const said = (await rows()).find(({ envelope }) => envelope.kind === "prune")?.envelope;
    assert.ok(said?.kind === "prune" && said.event === "rows");
    assert.deepEqual(
      [said.cause, said.policy, said.askedBy, said.reason],
      ["policy", policy.digest, "the worker", "older than 30 days"],
    );
    await retention.close();
    await log.close();
    await verifies(stateFolder);
  });
});

describe("the sweep of a store", () => {
  test("leaves what is used while it goes: it is there, or plainly not", async (t) => {
    const root = await mkdtemp(join(tmpdir(), "hpcc-sweep-"));
    t.after(() => rm(root, { recursive: true }));
    const clock = new ManualClock(Date.now());
    const acme = parseTenantId("acme");
    const store = await DiskStore.open({ root, clock, logger: SILENT_LOGGER });
    const { blobs } = store.tenant(acme);
    const refs = await Promise.all(
      Array.from({ length: 40 }, async (_, at) => blobs.putBytes(Buffer.from(`blob ${at}`), "kept", 100)),
    );
    for (const name of await readdir(root, { recursive: true }))
      if (name.length > 64) await utimes(join(root, name), 1, 1);
    const sweep = store.kept(acme).sweepKept({ isNeeded: () => false, usedBeforeMs: clock.wallMs() - HOUR });
    const asked = await Promise.all(refs.map(async ({ digest }) => blobs.frameSize(digest, "kept")));
    const { blobs: removed } = await sweep;
    let there = 0;
    for (const [at, { digest }] of refs.entries()) {
      const found = await blobs.get(digest);
      if (found.kind === "hit") {
        there++;
        await found.frame.close();
      }
      // Who was told that it is there finds it.
      if (asked[at] !== null) assert.equal(found.kind, "hit", String(at));
    }
    assert.equal(removed + there, 40);
    await store.settled();
    assert.equal((await stat(root)).isDirectory(), true);
  });
});
