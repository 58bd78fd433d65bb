// Pruning a log: what goes, what stays provable, what is left when it is cut off anywhere; and that nobody but the log's key can make rows
// go like that. Each attack is also made where its guard has nothing to go by.
import assert from "node:assert/strict";
import { cp, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { after, before, describe, test } from "node:test";
import { ManualClock } from "../../base/clock.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { type Digest, digestHex } from "../../core/digest/digest.ts";
import type { BuildId } from "../../core/identity/build-id.ts";
import { type NoteSigner, noteSigner } from "../../core/note/signed-note.ts";
import { AuditLog } from "../audit-log.ts";
import { encodeEnvelope } from "../envelope.ts";
import { LOG_DISK, type LogDisk } from "../log-disk.ts";
import { proveRow } from "../prove-row.ts";
import { decodePruned, encodePruned, pruneName } from "../pruned-frame.ts";
import { RemovedRows, readStub, signStub } from "../pruned-stub.ts";
import { decodePart, readLog } from "../read-log.ts";
import { emptyRow } from "../row.ts";
import { type AuditRecord, encodeRecord } from "../segment.ts";
import type { KeptReceipt } from "../verify/kept-words.ts";
import { verifyLog } from "../verify/verify-log.ts";
import { evidenceOfFolder } from "../verify-folder.ts";
import { prunedRowsOf } from "./gone.ts";
import { planPrune, type RuleOf } from "./plan.ts";
import { finishPrunes, type PruneParts, type PruneReason, pruneLog } from "./prune-log.ts";
import { listPrunes, PRUNE_DISK, type PruneDisk } from "./stub-files.ts";

const KEY = noteSigner("x.example/worker/w1", Buffer.alloc(32, 1));
const STRANGER = noteSigner("x.example/worker/w1", Buffer.alloc(32, 2));
const ROWS = 60;
const DAY = 86_400_000;
const SOME = `sha256:${"5".repeat(64)}` as Digest;
/** Rows are a day apart. */
const NOW = ROWS * DAY;
const TENANTS = ["acme", "beta", "gamma"];
const REASON: PruneReason = {
  cause: "operator",
  askedBy: "ann (uid 1000)",
  why: () => "older than it may be",
  policy: null,
  nowMs: NOW,
};

let root = "";
let good = "";
const receipts: KeptReceipt[] = [];

/** These tests look at what is written, not at what a power cut leaves. */
const UNSYNCED: LogDisk = { ...LOG_DISK, sync: async () => undefined };

async function openLog(folder: string, signer: NoteSigner = KEY, disk: LogDisk = UNSYNCED): Promise<AuditLog> {
  const options = { folder, worker: "w1", clock: new ManualClock(), logger: SILENT_LOGGER, signer, disk };
  return AuditLog.open({ ...options, segmentBytesMax: 4_000 });
}

async function grow(folder: string, from: number, to: number): Promise<void> {
  const log = await openLog(folder);
  for (let day = from; day < to; day++) {
    const common = { startMs: day * DAY, endMs: day * DAY, policy: null, tier: null, code: "x.y", actionKey: null };
    const build = day < 4 ? ("release-1" as BuildId) : null;
    const { digest, line, receipt } = await log.append(
      { ...emptyRow("w1"), tenant: TENANTS[day % TENANTS.length]!, durationUs: day },
      { kind: "denied", principal: `spiffe://x.example/tenant/t/user/u${day % 2}`, build, ...common },
    );
    const { leaf } = encodeRecord(line, receipt!.envelope, 1);
    receipts.push({ row: digest, leaf: Buffer.from(digestHex(leaf), "hex"), proof: receipt!.proof });
  }
  await log.close();
}

before(async () => {
  root = await mkdtemp(join(tmpdir(), "hpcc-prune-"));
  good = join(root, "good");
  await grow(good, 0, ROWS);
});
after(async () => rm(root, { recursive: true }));

async function copyOf(folder: string): Promise<string> {
  const copy = await mkdtemp(join(root, "copy-"));
  await cp(folder, copy, { recursive: true });
  return copy;
}

const acmeOnly: RuleOf = (tenant) => (tenant === "acme" ? { ageMs: 30 * DAY, bytes: null } : null);
const byAge: RuleOf = () => ({ ageMs: 30 * DAY, bytes: null });
const partsOf = (folder: string, log: AuditLog, disk: PruneDisk = PRUNE_DISK): PruneParts => ({
  folder,
  log,
  worker: "w1",
  signer: KEY,
  disk,
  signal,
  sweep: async () => undefined,
});
const weigh = async () => [];
const { signal } = new AbortController();

async function prune(folder: string, ruleOf: RuleOf, nowMs = NOW) {
  const log = await openLog(folder);
  const plan = await planPrune({ folder, size: log.sequence, nowMs, ruleOf, weigh, signal });
  await pruneLog(plan, { ...REASON, nowMs }, partsOf(folder, log));
  await log.close();
  return plan;
}

async function verdictOf(folder: string, kept: readonly KeptReceipt[] = receipts, keys = [KEY.verifier]) {
  return verifyLog(await evidenceOfFolder(folder, { keys, receipts: kept }));
}

async function records(folder: string): Promise<AuditRecord[]> {
  const all: AuditRecord[] = [];
  for await (const { record } of readLog(folder)) all.push(record);
  return all;
}

const daysOf = (all: readonly AuditRecord[]) =>
  all.filter(({ envelope }) => envelope.kind === "denied").map(({ row }) => row.durationUs);
const days = Array.from({ length: ROWS }, (_, day) => day);
const keptDays = days.filter((day) => day % 3 !== 0 || day >= 30);
/** The row of a key comes first. */
const rowOf = (day: number) => day + 2;

describe("a pruned log", () => {
  test("has the rows that stay, and is what was signed, with all receipts and proofs", async () => {
    const folder = await copyOf(good);
    const plan = await prune(folder, acmeOnly);
    assert.deepEqual(
      plan.tenants.map(({ tenant, rows, held }) => [tenant, rows, held]),
      [["acme", 10, 0]],
    );
    assert.deepEqual(daysOf(await records(folder)), keptDays);
    const { problems, pruned, prunedReceipts, rows, receipts: held } = await verdictOf(folder);
    assert.deepEqual([problems, rows, held], [[], ROWS + 2, ROWS]);
    const name = pruneName({ size: ROWS + 1, tenant: "acme" });
    const [first, last, when] = [rowOf(0), rowOf(27), new Date(NOW).toISOString()];
    const words = { by: "ann (uid 1000)", why: "older than it may be", finished: true };
    assert.deepEqual(pruned, [{ name, tenant: "acme", first, last, rows: 10, when, ...words }]);
    assert.deepEqual(
      prunedReceipts.map(({ row, stub }) => [row, stub]),
      days.filter((day) => !keptDays.includes(day)).map((day) => [rowOf(day), name]),
    );
    for (const day of [1, 29, 30, 59]) assert.equal((await proveRow(folder, String(rowOf(day)))).sequence, rowOf(day));
    assert.deepEqual((await verdictOf(folder, receipts, [])).problems, []);
  });

  test("grows, is pruned again and by others' rules, and gets its tiles back when they are lost", async () => {
    const folder = await copyOf(good);
    await prune(folder, acmeOnly);
    const kept = receipts.length;
    await grow(folder, ROWS, ROWS + 20);
    await prune(folder, byAge, NOW + 20 * DAY);
    assert.deepEqual(await prune(folder, byAge, NOW + 20 * DAY).then(({ tenants }) => tenants), []);
    await rm(join(folder, "tile"), { recursive: true });
    await grow(folder, ROWS + 20, ROWS + 21);
    const { problems, pruned } = await verdictOf(folder);
    assert.deepEqual(problems, []);
    assert.equal(
      pruned.reduce((sum, { rows }) => sum + rows, 0),
      50,
    );
    assert.deepEqual(
      daysOf(await records(folder)),
      Array.from({ length: 31 }, (_, at) => 50 + at),
    );
    receipts.splice(kept);
  });

  test("may be one run of removed rows from the first job to the last", async () => {
    const folder = await copyOf(good);
    await prune(folder, () => ({ ageMs: 0, bytes: null }), NOW + DAY);
    assert.deepEqual(daysOf(await records(folder)), []);
    assert.deepEqual((await verdictOf(folder)).problems, []);
    const sizes = await Promise.all(
      [good, folder].map(async (one) => {
        const names = (await readdir(one)).filter((name) => name.endsWith(".log"));
        return (await Promise.all(names.map(async (name) => readFile(join(one, name))))).reduce(
          (n, b) => n + b.length,
          0,
        );
      }),
    );
    assert.ok(sizes[1]! < sizes[0]! / 2, String(sizes));
  });

  test("of bytes: a tenant keeps its newest rows that fit", async () => {
    const folder = await copyOf(good);
    const all = (await records(folder)).filter(({ row }) => row.tenant === "beta");
    const size = (record: AuditRecord) => record.line.length + 43 + proofless(record).length;
    const newest = all.slice(-4);
    const bytes = newest.reduce((sum, record) => sum + size(record), 0);
    for (const [limit, left] of [
      [bytes, 4],
      [bytes - 1, 3],
      [0, 0],
      [10 ** 9, 20],
    ] as const) {
      const copy = await copyOf(folder);
      await prune(copy, (tenant) => (tenant === "beta" ? { ageMs: null, bytes: limit } : null));
      const rest = (await records(copy)).filter(({ row }) => row.tenant === "beta");
      const jobs = rest.filter(({ envelope }) => envelope.kind === "denied");
      assert.deepEqual(daysOf(jobs), daysOf(all).slice(all.length - left), `${limit}`);
    }
  });
});

function proofless({ envelope }: AuditRecord): string {
  return encodeEnvelope(envelope);
}

test("rows that come while a log is pruned are in it, and all of it is what was signed", async () => {
  const folder = await copyOf(good);
  const log = await openLog(folder);
  const plan = await planPrune({ folder, size: log.sequence, nowMs: NOW, ruleOf: byAge, weigh, signal });
  const body = { kind: "policy", event: "in-force", startMs: NOW, endMs: NOW, digest: null } as const;
  const state = { pruning: true };
  const done = pruneLog(plan, REASON, partsOf(folder, log)).finally(() => {
    state.pruning = false;
  });
  let version = 0;
  for (; state.pruning || version < 20; version++) await log.append(emptyRow("w1"), { ...body, version });
  await done;
  await log.close();
  assert.equal((await records(folder)).filter(({ envelope }) => envelope.kind === "policy").length, version);
  assert.deepEqual(daysOf(await records(folder)), days.slice(30));
  assert.deepEqual((await verdictOf(folder)).problems, []);
});

test("stubs are read while a prune is finished or given up: a file that goes meanwhile hides no other", async () => {
  const folder = await copyOf(good);
  await prune(folder, byAge);
  const stubs = await listPrunes(folder);
  // As a file is that was there when the folder was read.
  await symlink("gone", join(folder, "pruned", `${stubs[0]!.name}~rows`));
  await symlink("gone", join(folder, "pruned", pruneName({ size: 1, tenant: "acme" })));
  assert.deepEqual(await listPrunes(folder), stubs);
});

test("how much of a tenant's rows is gone is told without a look at the stubs of others", async () => {
  const folder = await copyOf(good);
  await prune(folder, byAge);
  assert.deepEqual([await prunedRowsOf(folder, "acme"), await prunedRowsOf(folder, null)], [10, 30]);
  const { name } = (await listPrunes(folder)).find((stub) => stub.name.endsWith("-beta"))!;
  await writeFile(join(folder, "pruned", name), Buffer.alloc(64 * 1024));
  assert.equal(await prunedRowsOf(folder, "acme"), 10);
  await assert.rejects(prunedRowsOf(folder, "beta"), { code: "audit.corrupt" });
});

test("a removal that is told to stop leaves the rest to the next start", async () => {
  const folder = await copyOf(good);
  const log = await openLog(folder);
  const stop = new AbortController();
  const options = { folder, size: log.sequence, nowMs: NOW, ruleOf: byAge, weigh };
  const plan = await planPrune({ ...options, signal });
  const disk: PruneDisk = {
    ...PRUNE_DISK,
    write: async (path, bytes) => {
      await PRUNE_DISK.write(path, bytes);
      if (path.endsWith(".log")) stop.abort(new Error("the worker ends"));
    },
  };
  await assert.rejects(pruneLog(plan, REASON, { ...partsOf(folder, log, disk), signal: stop.signal }), /worker ends/);
  await assert.rejects(planPrune({ ...options, signal: stop.signal }), /worker ends/);
  const between = await verdictOf(folder);
  assert.deepEqual([between.problems, between.pruned.map(({ finished }) => finished)], [[], [false, false, false]]);
  await finishPrunes(partsOf(folder, log));
  await log.close();
  const { problems, pruned } = await verdictOf(folder);
  assert.deepEqual([problems, pruned.map(({ finished }) => finished)], [[], [true, true, true]]);
});

test("the rows of a VM stay while it runs, and while a row that stays names it in any way", async () => {
  const folder = await mkdtemp(join(root, "vms-"));
  const times = (day: number) => ({ startMs: day * DAY, endMs: day * DAY });
  const log = await openLog(folder);
  const ofVm = (vm: string, day: number) =>
    [
      { ...emptyRow("w1"), tenant: "acme", vm, imageDigest: SOME },
      { kind: "vm", ...times(day), life: "clean", user: null, isolation: "qemu-tcg", versions: {} },
    ] as const;
  const boots = async (vm: string, day: number) => {
    const [row, body] = ofVm(vm, day);
    await log.append(row, { ...body, event: "booted", origin: "kernel" });
  };
  const ends = async (vm: string, day: number) => {
    const [row, body] = ofVm(vm, day);
    await log.append(row, { ...body, event: "destroyed", reason: "idle", executions: 1 });
  };
  const start = (day: number) =>
    log.append(emptyRow("w1"), { kind: "host", ...times(day), isolation: "qemu-tcg", parts: {}, findings: [] });
  await start(0);
  await boots("vm-lost-with-its-worker", 1);
  await start(2);
  for (const vm of ["vm-over", "vm-of-a-confirmation", "vm-that-runs", "vm-revoked"]) await boots(vm, 3);
  for (const vm of ["vm-over", "vm-of-a-confirmation", "vm-revoked"]) await ends(vm, 4);
  const of = { principal: "spiffe://x.example/tenant/acme/user/u", policy: null, tier: null, build: null };
  const result = { isolation: "qemu-tcg", life: "clean", actionKey: SOME, resultDigest: SOME, compileUs: 1 } as const;
  const action = { outputs: [], terminalColumns: null, determinism: "default", versions: {} } as const;
  const source = { imageDigest: SOME, sourceDigest: SOME, flags: `["gcc"]` };
  const first = { firstVm: "vm-of-a-confirmation", firstResultDigest: SOME, firstRow: null };
  await log.append(
    { ...emptyRow("w1"), ...source, tenant: "acme", vm: "vm-of-later", exit: 0, outputDigest: SOME },
    { kind: "confirm", ...times(ROWS - 1), ...of, ...result, ...action, outcome: "equal", ...first },
  );
  const taken = { upToMs: null, cause: "operator", askedBy: "ann", entries: 0, served: null, servedRows: [] } as const;
  await log.append(emptyRow("w1"), { kind: "revoke", ...times(4), what: "vm", value: "vm-revoked", ...taken });
  await log.close();
  await prune(folder, byAge);
  const left = (await records(folder)).filter(({ envelope }) => envelope.kind === "vm").map(({ row }) => row.vm);
  assert.deepEqual(left, ["vm-of-a-confirmation", "vm-that-runs", "vm-revoked", "vm-of-a-confirmation", "vm-revoked"]);
  assert.deepEqual((await verdictOf(folder, [])).problems, []);
});

describe("legal holds", () => {
  const hold = async (folder: string, change: object, event: "added" | "removed" = "added", columns: object = {}) => {
    const log = await openLog(folder);
    const common = { name: "case-7", askedBy: "ann", reason: "a dispute", startMs: NOW, endMs: NOW };
    const none = { principal: null, build: null, hash: null, sinceMs: null, untilMs: null };
    if (event === "removed") await log.append(emptyRow("w1"), { kind: "hold", event, ...common });
    else await log.append({ ...emptyRow("w1"), ...columns }, { kind: "hold", event, ...common, ...none, ...change });
    await log.close();
  };

  test("keep what they name, and nothing else, until they are removed", async () => {
    const [, , wanted] = await records(good);
    const cases: [object, object, (day: number) => boolean][] = [
      [{}, { tenant: "beta" }, (day) => day % 3 === 1],
      [{ principal: "spiffe://x.example/tenant/t/user/u1" }, {}, (day) => day % 2 === 1],
      [{ sinceMs: 5 * DAY, untilMs: 9 * DAY }, {}, (day) => day >= 5 && day < 9],
      [{ hash: wanted!.digest }, {}, (day) => rowOf(day) === wanted!.envelope.sequence],
      [{ untilMs: 9 * DAY }, { tenant: "acme" }, (day) => day % 3 === 0 && day < 9],
      [{ build: "release-1" }, {}, (day) => day < 4],
      [{ build: "release-2" }, {}, () => false],
      [{}, { imageDigest: `sha256:${"a".repeat(64)}` as Digest }, () => false],
    ];
    for (const [change, columns, held] of cases) {
      const folder = await copyOf(good);
      await hold(folder, change, "added", columns);
      const { tenants } = await prune(folder, byAge);
      const expected = days.filter((day) => day >= 30 || held(day));
      assert.deepEqual(daysOf(await records(folder)), expected, JSON.stringify([change, columns]));
      assert.equal(
        tenants.reduce((sum, one) => sum + one.held, 0),
        days.filter((day) => day < 30 && held(day)).length,
      );
      assert.deepEqual((await verdictOf(folder)).problems, []);
      await hold(folder, {}, "removed");
      await prune(folder, byAge);
      assert.deepEqual(daysOf(await records(folder)), days.slice(30));
      assert.deepEqual((await verdictOf(folder)).problems, []);
    }
  });

  test("are never pruned themselves", async () => {
    const folder = await copyOf(good);
    await hold(folder, {}, "added", { tenant: "beta" });
    await prune(folder, () => ({ ageMs: 0, bytes: null }), NOW + 100 * DAY);
    assert.equal((await records(folder)).filter(({ envelope }) => envelope.kind === "hold").length, 1);
  });
});

/** Fails at its n-th use, before or after it did its work; and from then on, as for a process that was killed. */
class CutOff implements PruneDisk {
  uses = 0;
  readonly #at: number;
  readonly #late: boolean;
  constructor(at: number, late: boolean) {
    [this.#at, this.#late] = [at, late];
  }
  async #use(run: () => Promise<void>): Promise<void> {
    const use = this.uses++;
    if (use > this.#at || (use === this.#at && !this.#late)) throw new Error("EIO");
    await run();
    if (use === this.#at) throw new Error("EIO");
  }
  makeFolder = async (path: string) => this.#use(() => PRUNE_DISK.makeFolder(path));
  write = async (path: string, bytes: Uint8Array) => this.#use(() => PRUNE_DISK.write(path, bytes));
  remove = async (path: string) => this.#use(() => PRUNE_DISK.remove(path));
  syncFolder = async (path: string) => this.#use(() => PRUNE_DISK.syncFolder(path));
}

describe("cut off", () => {
  const stateOf = async (folder: string) => daysOf(await records(folder)).length;

  test("at any use of the disk: nothing is pruned, or the next start finishes it; the log always verifies", async () => {
    const outcomes = new Set<string>();
    let uses = Number.POSITIVE_INFINITY;
    for (let at = 0; at < uses; at++)
      for (const late of [false, true]) {
        const folder = await copyOf(good);
        const disk = new CutOff(at, late);
        const log = await openLog(folder);
        const plan = await planPrune({ folder, size: log.sequence, nowMs: NOW, ruleOf: byAge, weigh, signal });
        const done = await pruneLog(plan, REASON, partsOf(folder, log, disk)).then(
          () => true,
          () => false,
        );
        await log.close();
        if (done) {
          uses = at;
          break;
        }
        const between = await verdictOf(folder);
        assert.deepEqual(between.problems, [], `${at} ${late}`);
        const again = await openLog(folder);
        await finishPrunes(partsOf(folder, again));
        await again.close();
        const left = await stateOf(folder);
        assert.ok(left === ROWS || left === 30, `${at} ${late}: ${left}`);
        outcomes.add(left === ROWS ? "nothing" : "finished");
        const { problems, pruned } = await verdictOf(folder);
        assert.deepEqual([problems, pruned.every(({ finished }) => finished)], [[], true], `${at} ${late}`);
        assert.deepEqual(
          (await readdir(join(folder, "pruned")).catch(() => [])).filter((n) => n.endsWith("~rows")),
          [],
        );
        assert.equal(pruned.length, left === ROWS ? 0 : 3);
      }
    assert.ok(uses > 12, String(uses));
    assert.deepEqual([...outcomes].sort(), ["finished", "nothing"]);
  });

  test("before the sources are removed: the next start removes them", async () => {
    const folder = await copyOf(good);
    const log = await openLog(folder);
    const plan = await planPrune({ folder, size: log.sequence, nowMs: NOW, ruleOf: byAge, weigh, signal });
    const swept: string[][] = [];
    const parts = partsOf(folder, log);
    const sweep = async () => Promise.reject(new Error("EIO"));
    await assert.rejects(pruneLog(plan, REASON, { ...parts, sweep }), /EIO/);
    assert.equal(await stateOf(folder), 30);
    assert.deepEqual((await verdictOf(folder)).problems, []);
    const again = { ...parts, sweep: async (tenants: readonly string[]) => void swept.push([...tenants]) };
    assert.deepEqual(await finishPrunes(again), TENANTS);
    assert.deepEqual([swept, await finishPrunes(again)], [[TENANTS], []]);
    await log.close();
  });

  test("by a sync that failed: nothing goes before the next start has found out what the log says", async () => {
    const folder = await copyOf(good);
    let armed = false;
    const sync: LogDisk["sync"] = async (handle) => (armed ? Promise.reject(new Error("EIO")) : LOG_DISK.sync(handle));
    const log = await openLog(folder, KEY, { ...LOG_DISK, sync });
    const plan = await planPrune({ folder, size: log.sequence, nowMs: NOW, ruleOf: byAge, weigh, signal });
    armed = true;
    await assert.rejects(pruneLog(plan, REASON, partsOf(folder, log)), { code: "audit.io" });
    armed = false;
    // The rows that say it can be read, and no power cut would leave them.
    await assert.rejects(finishPrunes(partsOf(folder, log)), { code: "audit.io" });
    assert.equal(await stateOf(folder), ROWS);
    await log.close();
  });

  test("and its row cannot be read: its stub stays, as rows may be gone already", async () => {
    const folder = await copyOf(good);
    const log = await openLog(folder);
    const plan = await planPrune({ folder, size: log.sequence, nowMs: NOW, ruleOf: byAge, weigh, signal });
    const sweep = async () => Promise.reject(new Error("EIO"));
    await assert.rejects(pruneLog(plan, REASON, { ...partsOf(folder, log), sweep }), /EIO/);
    // More segments follow the one that says it.
    for (let more = 0; more < 2; more++) {
      log.beginSegment();
      const body = { kind: "log", event: "torn", startMs: 0, endMs: 0, bytes: 1, file: "x" } as const;
      await log.append(emptyRow("w1"), body);
    }
    const [saying] = (await readdir(folder))
      .filter((name) => name.endsWith(".log"))
      .sort()
      .slice(-3);
    const bytes = await readFile(join(folder, saying!));
    await writeFile(join(folder, saying!), bytes.with(50, bytes[50]! ^ 1));
    await assert.rejects(finishPrunes(partsOf(folder, log)), { code: "audit.corrupt" });
    await writeFile(join(folder, saying!), bytes);
    assert.deepEqual(await finishPrunes(partsOf(folder, log)), TENANTS);
    await log.close();
    assert.deepEqual((await verdictOf(folder)).problems, []);
  });

  test("while the rows that say it are written: nothing is pruned", async () => {
    for (const fault of ["write", "sync"] as const) {
      const folder = await copyOf(good);
      let armed = false;
      const disk: LogDisk = {
        write: async (...all) =>
          armed && fault === "write" ? Promise.reject(new Error("ENOSPC")) : LOG_DISK.write(...all),
        sync: async (handle) => (armed && fault === "sync" ? Promise.reject(new Error("EIO")) : LOG_DISK.sync(handle)),
      };
      const log = await openLog(folder, KEY, disk);
      const plan = await planPrune({ folder, size: log.sequence, nowMs: NOW, ruleOf: byAge, weigh, signal });
      armed = true;
      await assert.rejects(pruneLog(plan, REASON, partsOf(folder, log)), { code: "audit.io" });
      armed = false;
      await log.close();
      assert.equal(await stateOf(folder), ROWS);
      assert.deepEqual((await verdictOf(folder)).problems, []);
      const again = await openLog(folder);
      await finishPrunes(partsOf(folder, again));
      await again.close();
      // After a failed sync the rows may be there or not; what they say is then done.
      assert.ok([ROWS, 30].includes(await stateOf(folder)));
      assert.deepEqual((await verdictOf(folder)).problems, []);
    }
  });
});

/** Puts removed rows in place of rows that are there, as somebody would who has the disk and no key. */
async function hide(folder: string, wanted: (record: AuditRecord) => boolean, id: { size: number; tenant: string }) {
  for (const name of (await readdir(folder)).filter((one) => one.endsWith(".log"))) {
    const bytes = await readFile(join(folder, name));
    const out: Buffer[] = [];
    for (let part = decodePart(bytes, 0), at = 0; part !== null; at = part.end, part = decodePart(bytes, at))
      if ("record" in part && wanted(part.record)) {
        const leaf = Buffer.from(digestHex(part.record.leaf), "hex");
        out.push(encodePruned(id, part.record.envelope.sequence, [leaf]));
      } else out.push(bytes.subarray(at, part.end));
    await writeFile(join(folder, name), Buffer.concat(out));
  }
}

describe("what is gone without leave is an alarm", () => {
  const id = { size: ROWS + 1, tenant: "acme" };
  const stubPath = (folder: string) => join(folder, "pruned", pruneName(id));
  const alarm = async (folder: string, row: number, problem: RegExp) => {
    const { problems } = await verdictOf(folder, []);
    assert.equal(problems[0]?.row, row, JSON.stringify(problems));
    assert.match(problems[0].problem, problem);
  };
  const pruned = async () => {
    const folder = await copyOf(good);
    await prune(folder, acmeOnly);
    return folder;
  };
  const day = (record: AuditRecord, ...wanted: number[]) =>
    record.envelope.kind === "denied" && wanted.includes(record.row.durationUs);

  test("a row without a trace is missing, also beside pruned ones", async () => {
    const folder = await pruned();
    for (const name of (await readdir(folder)).filter((one) => one.endsWith(".log"))) {
      const bytes = await readFile(join(folder, name));
      const out: Buffer[] = [];
      for (let part = decodePart(bytes, 0), at = 0; part !== null; at = part.end, part = decodePart(bytes, at))
        if (!("record" in part && day(part.record, 7))) out.push(bytes.subarray(at, part.end));
      await writeFile(join(folder, name), Buffer.concat(out));
    }
    await alarm(folder, rowOf(7), /is missing/);
  });

  test("a row's hash in its place, with no stub, is no leave", async () => {
    const folder = await copyOf(good);
    await hide(folder, (record) => day(record, 7), { size: 5, tenant: "beta" });
    await alarm(folder, rowOf(7), /no stub/);
  });

  test("a stub covers what it says, not one row more, fewer or another", async () => {
    const more = await pruned();
    await hide(more, (record) => day(record, 7), id);
    await alarm(more, rowOf(0), /these 11 rows are not the 10/);
    // One that was removed is put back, and another one goes for it.
    const other = await pruned();
    const all = await records(good);
    const back = all.find((record) => day(record, 0))!;
    for (const name of (await readdir(other)).filter((one) => one.endsWith(".log"))) {
      const bytes = await readFile(join(other, name));
      const out: Buffer[] = [];
      for (let part = decodePart(bytes, 0), at = 0; part !== null; at = part.end, part = decodePart(bytes, at))
        if ("leaves" in part && part.first === rowOf(0)) out.push(frameOf(back));
        else out.push(bytes.subarray(at, part.end));
      await writeFile(join(other, name), Buffer.concat(out));
    }
    await alarm(other, rowOf(3), /these 9 rows are not the 10/);
    await hide(other, (record) => day(record, 31), id);
    await alarm(other, rowOf(3), /these 10 rows are not the 10/);
  });

  test("a stub that is gone, changed, of a stranger's key, or of another log's words proves nothing", async () => {
    const folder = await pruned();
    const note = await readFile(stubPath(folder), "utf8");
    const stub = readStub(note);
    await rm(stubPath(folder));
    await alarm(folder, rowOf(0), /no stub/);
    await writeFile(stubPath(folder), note.replace("older than it may be", "a gift"));
    await alarm(folder, rowOf(0), /not signed with the log's key/);
    await writeFile(stubPath(folder), signStub(stub, STRANGER));
    await alarm(folder, rowOf(0), /not signed with the log's key/);
    const signed = signStub({ ...stub, why: "another reason" }, KEY);
    await writeFile(stubPath(folder), signed);
    await alarm(folder, rowOf(0), /names another stub/);
    await writeFile(stubPath(folder), "rubbish");
    assert.match(JSON.stringify((await verdictOf(folder, [])).problems), /cannot be read/);
    await writeFile(stubPath(folder), note);
    assert.deepEqual((await verdictOf(folder)).problems, []);
  });

  test("a stub of a key that was replaced proves nothing of a row that comes after it", async () => {
    const folder = await copyOf(good);
    const NEXT = noteSigner("x.example/worker/w1", Buffer.alloc(32, 3));
    await (await openLog(folder, NEXT)).close();
    // Who has the old key and the disk: what was pruned while it was the log's, and a row that nobody has signed.
    const log = await openLog(folder, NEXT);
    const plan = await planPrune({ folder, size: ROWS + 1, nowMs: NOW, ruleOf: acmeOnly, weigh, signal });
    await pruneLog(plan, REASON, { ...partsOf(folder, log), signer: KEY });
    await log.close();
    const { problems } = await verdictOf(folder, [], [KEY.verifier, NEXT.verifier]);
    assert.equal(problems[0]?.row, rowOf(0), JSON.stringify(problems));
    assert.match(problems[0].problem, /not signed with the log's key/);
  });

  test("a stub of another log's root is none, though the key has signed it", async () => {
    const folder = await copyOf(good);
    const log = await openLog(folder);
    const plan = await planPrune({ folder, size: log.sequence, nowMs: NOW, ruleOf: acmeOnly, weigh, signal });
    await pruneLog({ ...plan, root: Buffer.alloc(32, 7) }, REASON, partsOf(folder, log));
    await log.close();
    await alarm(folder, rowOf(0), /of a log that is not this one/);
  });

  test("a stub with the log's signature, and no row that says so, is none", async () => {
    const folder = await copyOf(good);
    const rows = new RemovedRows();
    const [victim] = (await records(folder)).filter((record) => day(record, 7));
    rows.add(rowOf(7), Buffer.from(digestHex(victim!.leaf), "hex"));
    const beta = { size: 20, tenant: "beta" };
    const words = { first: rowOf(7), last: rowOf(7), rows: 1, removed: rows.root(), whenMs: 0, by: "x", why: "y" };
    await prune(folder, () => null);
    await cp(join(await pruned(), "pruned"), join(folder, "pruned"), { recursive: true });
    await rm(stubPath(folder));
    await writeFile(
      join(folder, "pruned", pruneName(beta)),
      signStub({ ...beta, ...words, root: Buffer.alloc(32) }, KEY),
    );
    await hide(folder, (record) => day(record, 7), beta);
    await alarm(folder, rowOf(7), /no row of the log says so/);
  });

  test("a changed hash of a removed row is found, with and without tiles; a receipt of it still convicts a fork", async () => {
    const folder = await pruned();
    for (const name of (await readdir(folder)).filter((one) => one.endsWith(".log"))) {
      const bytes = await readFile(join(folder, name));
      const out: Buffer[] = [];
      for (let part = decodePart(bytes, 0), at = 0; part !== null; at = part.end, part = decodePart(bytes, at))
        if ("leaves" in part && part.first === rowOf(6))
          out.push(encodePruned(part.id, part.first, [Buffer.alloc(32, 9)]));
        else out.push(bytes.subarray(at, part.end));
      await writeFile(join(folder, name), Buffer.concat(out));
    }
    await alarm(folder, rowOf(6), /is not the one that was signed/);
    const evidence = await evidenceOfFolder(folder, { keys: [KEY.verifier] });
    const blind = await verifyLog({ ...evidence, leafTile: async () => null });
    assert.ok(blind.problems.length > 0);
    const whole = await pruned();
    const wrong = receipts.map((one, at) => (at === 6 ? { ...one, leaf: Buffer.alloc(32, 9) } : one));
    assert.match(JSON.stringify((await verdictOf(whole, wrong)).problems), /worth nothing|two logs/);
  });
});

function frameOf({ line, envelope }: AuditRecord): Buffer {
  return Buffer.from(encodeRecord(line, encodeEnvelope(envelope), 1).frame);
}

test("golden vector: a pruned log is made byte by byte, and is what was signed", async () => {
  const vectors = join(import.meta.dirname, "../../../test/golden/audit-pruned");
  const folder = await mkdtemp(join(root, "golden-"));
  const kept = receipts.length;
  await grow(folder, 0, 12);
  receipts.splice(kept);
  await prune(folder, acmeOnly, 38 * DAY);
  const files = async (of: string) =>
    (await readdir(of, { recursive: true, withFileTypes: true }))
      .filter((entry) => entry.isFile())
      .map(({ parentPath, name }) => relative(of, join(parentPath, name)))
      .sort();
  assert.deepEqual(await files(folder), await files(vectors));
  for (const name of await files(vectors))
    assert.deepEqual(await readFile(join(folder, name)), await readFile(join(vectors, name)), name);
  const { problems, pruned } = await verdictOf(vectors, []);
  assert.deepEqual([problems, pruned.map(({ rows }) => rows)], [[], [3]]);
});

test("frames of removed rows: any is read back, and a changed byte is none or another", () => {
  const leaves = [Buffer.alloc(32, 1), Buffer.alloc(32, 2)];
  const frame = encodePruned({ size: 7, tenant: "acme" }, 3, leaves);
  assert.deepEqual(decodePruned(frame, 0), { id: { size: 7, tenant: "acme" }, first: 3, leaves, end: frame.length });
  for (let at = 0; at < frame.length; at++) {
    const bad = Buffer.from(frame);
    bad[at]! ^= 1;
    const read = decodePruned(bad, 0);
    if (read !== null) assert.notEqual(read.first, 3, String(at));
    assert.equal(decodePruned(frame.subarray(0, at), 0), null);
  }
});
