// The audit log against the bars of docs/performance.md: durable rows a second, verification, a hash among many rows, the event loop of a
// worker that is asked, memory, and what the log adds to a hit. HPCC_BENCH_ROWS are written and verified; HPCC_BENCH_INDEX_ROWS are in the
// index, of which all but these were never written: entries of random hashes in runs as merging leaves them. With HPCC_BENCH_WRITTEN_ROWS
// a log of so many rows is really written, indexed, asked, proven and verified instead; ten million take some 15 GB and half an hour or more.
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { monitorEventLoopDelay, performance } from "node:perf_hooks";
import { AuditLog } from "../src/audit/audit-log.ts";
import { AuditIndex } from "../src/audit/index/audit-index.ts";
import { ENTRY_BYTES, tenantTag, writeEntry } from "../src/audit/index/entry.ts";
import { readIndexState, writeIndexState } from "../src/audit/index/index-state.ts";
import { type RunName, RunWriter } from "../src/audit/index/run.ts";
import { LOG_DISK, type LogDisk } from "../src/audit/log-disk.ts";
import { proveRow } from "../src/audit/prove-row.ts";
import { verifyLog } from "../src/audit/verify/verify-log.ts";
import { evidenceOfFolder } from "../src/audit/verify-folder.ts";
import { SILENT_LOGGER } from "../src/base/log.ts";
import { SYSTEM_CLOCK } from "../src/base/system/clock.ts";
import { type Digest, sha256 } from "../src/core/digest/digest.ts";
import { parseTenantId } from "../src/core/identity/spiffe.ts";
import { noteSigner } from "../src/core/note/signed-note.ts";
import { ThreadInspector } from "../src/worker/inspect/thread-inspector.ts";
import { stateFolders } from "../src/worker/state-folders.ts";
import { TestWorker } from "../test/support/test-worker.ts";

const ROWS = Number(process.env["HPCC_BENCH_ROWS"] ?? 50_000);
const WRITTEN_ROWS = Number(process.env["HPCC_BENCH_WRITTEN_ROWS"] ?? 0);
const INDEX_ROWS = Number(process.env["HPCC_BENCH_INDEX_ROWS"] ?? 1_000_000);
/** Rows that wait at a time, as of a worker with many clients. */
const AT_ONCE = 256;
const QUESTIONS = 1000;
const HITS = 300;
/** As in the index. */
const TABLE_ENTRIES = 65_536;
const FAN_IN = 4;
const NAMES_PER_ROW = 5;
const MIB = 1024 * 1024;
const ACME = parseTenantId("acme");

const digestOf = (text: string) => sha256(Buffer.from(text));
const [POLICY, IMAGE, POPULAR] = [digestOf("policy"), digestOf("image"), digestOf("popular")];
const FLAGS = JSON.stringify(
  (
    "env -i -C /hpcc/project/build LC_ALL=C PATH=/usr/bin:/bin /usr/bin/g++ -O2 -g -Wall -DNDEBUG -DLEVELDB_PLATFORM_POSIX=1 " +
    "-I/hpcc/project/include -I/hpcc/project/. -std=c++17 -ffile-prefix-map=/hpcc/project=. -frandom-seed=0123456789abcdef " +
    "-Werror=date-time -c /hpcc/project/db/version_set.cc -o /hpcc/out/object.o"
  ).split(" "),
);

/** One compile and three hits of its result, in turn; each tenth row has the same object. */
function rowOf(at: number): Parameters<AuditLog["append"]> {
  const job = at - (at % 4);
  const columns = {
    imageDigest: IMAGE,
    sourceDigest: digestOf(`source ${job}`),
    flags: FLAGS,
    outputDigest: at % 10 === 0 ? POPULAR : digestOf(`object ${job}`),
    tenant: ACME,
    worker: "w1",
    vm: `vm-${job}`,
    durationUs: 900_000 + at,
    exit: 0,
  };
  const base = {
    startMs: 1_800_000_000_000 + at,
    endMs: 1_800_000_000_900 + at,
    policy: POLICY,
    tier: null,
    build: null,
    principal: "spiffe://build.example.com/tenant/acme/user/ann",
    isolation: "firecracker",
    life: "clean",
    actionKey: digestOf(`key ${job}`),
    resultDigest: digestOf(`result ${job}`),
    compileUs: 800_000,
    scope: "tenant",
    outputs: [],
    terminalColumns: null,
    determinism: "default",
  } as const;
  if (job === at) return [columns, { kind: "compile", ...base, versions: { agent: "0.1.0", kernel: "6.1.0" } }];
  const compiledRow = digestOf(`row ${job}`);
  return [
    columns,
    { kind: "hit", ...base, outcome: "hit", keyTier: null, from: null, compiledRow, confirmedBy: null, madeFor: null },
  ];
}

const state = mkdtempSync(join(tmpdir(), "hpcc-bench-audit-"));
const folders = stateFolders(state);
const missed: string[] = [];

function report(what: string, value: string, good: boolean | null = null): void {
  if (good === false) missed.push(what);
  console.log(`${what}: ${value}${good === false ? "  MISSED" : ""}`);
}

const perSecond = (count: number, ms: number) => Math.round((count / ms) * 1000);
const ms = (value: number) => `${value.toFixed(2)} ms`;

function summary(times: readonly number[]): string {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share: number) => ms(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!);
  return `median ${at(0.5)}, p99 ${at(0.99)}, most ${at(1)}`;
}

async function openLog(): Promise<AuditLog> {
  const signer = noteSigner("build.example.com/worker/w1", Buffer.alloc(32, 1));
  return AuditLog.open({ folder: folders.audit, worker: "w1", clock: SYSTEM_CLOCK, logger: SILENT_LOGGER, signer });
}

/** Rows a second, and for each second of this thread's processor time. */
async function write(log: AuditLog, from: number, to: number): Promise<{ rate: number; ofProcessor: number }> {
  let next = from;
  const cpu = process.threadCpuUsage();
  const startMs = performance.now();
  const caller = async () => {
    while (next < to) await log.append(...rowOf(next++));
  };
  await Promise.all(Array.from({ length: AT_ONCE }, caller));
  const { user, system } = process.threadCpuUsage(cpu);
  return {
    rate: perSecond(to - from, performance.now() - startMs),
    ofProcessor: perSecond(to - from, (user + system) / 1000),
  };
}

function inspectorOf(log: { readonly sequence: number }): ThreadInspector {
  return new ThreadInspector({ folders, durable: () => log.sequence, clock: SYSTEM_CLOCK, logger: SILENT_LOGGER });
}

/** Half of the rows without an index, half while a thread keeps one and is asked all the time. */
async function benchWriting(): Promise<void> {
  const log = await openLog();
  const half = ROWS / 2;
  const alone = await write(log, 0, half);
  report(
    "durable rows a second",
    `${alone.rate}, ${AT_ONCE} at a time; ${alone.ofProcessor} for each second of a processor`,
    alone.rate >= 5000,
  );
  const inspector = inspectorOf(log);
  const deadlineMs = performance.now() + 600_000;
  const known = async () => inspector.find(POPULAR, ACME).catch(() => null);
  while ((await known()) === null && performance.now() < deadlineMs);
  const delay = monitorEventLoopDelay({ resolution: 1 });
  const now = { isWriting: true, asked: 0 };
  const asking = (async () => {
    for (; now.isWriting; now.asked++) await known();
  })();
  delay.enable();
  const together = await write(log, half, ROWS);
  delay.disable();
  now.isWriting = false;
  await asking;
  report(
    "the same while the index is written and asked",
    `${together.rate}, ${now.asked} questions; ${together.ofProcessor} for each second of a processor`,
    together.rate >= 5000,
  );
  report("event loop while rows are written and asked for", `p99 ${ms(delay.percentile(99) / 1e6)}`);
  await inspector.close();
  await log.close();
}

async function benchVerify(): Promise<void> {
  const cpu = process.cpuUsage();
  const startMs = performance.now();
  const { rows, problems } = await verifyLog(await evidenceOfFolder(folders.audit, { keys: [] }));
  if (problems.length > 0) throw new Error(JSON.stringify(problems));
  const { user, system } = process.cpuUsage(cpu);
  const rate = perSecond(rows, (user + system) / 1000);
  const passed = perSecond(rows, performance.now() - startMs);
  report("verify", `${rate} rows for each second of a processor, ${passed} a second passed`, rate >= 100_000);
}

/** Runs of random hashes, of the sizes that merging leaves. */
async function fill(entries: number): Promise<void> {
  const home = join(folders.audit, "index");
  const found = readIndexState(home);
  if (found === null) throw new Error("there is no index");
  const runs: RunName[] = [...found.runs];
  let [left, level] = [Math.floor(entries / TABLE_ENTRIES), 0];
  for (; left > 0; level++, left = Math.floor(left / FAN_IN))
    for (let run = left % FAN_IN; run > 0; run--)
      runs.push(await writeRun(home, TABLE_ENTRIES * FAN_IN ** level, level));
  writeIndexState(home, { built: found.built, runs });
}

async function writeRun(home: string, entries: number, level: number): Promise<RunName> {
  const writer = new RunWriter(home);
  const entry = Buffer.alloc(ENTRY_BYTES);
  writeEntry(entry, 0, tenantTag(ACME), digestOf("any"), { kind: "row", sequence: 1, offset: 0 });
  const [step, phase] = [2 ** 48 / entries, Math.random()];
  for (let at = 0; at < entries; at++) {
    entry.writeUIntBE(Math.floor((at + phase) * step), 8, 6);
    writer.add(entry);
    if (at % TABLE_ENTRIES === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  try {
    return await writer.finish(level);
  } finally {
    writer.close();
  }
}

/** Takes the index and the log out of the machine's memory, so that the disk is asked. */
function forgetPages(): void {
  for (const folder of [folders.audit, join(folders.audit, "index")])
    for (const name of readdirSync(folder).filter((name) => /\.(log|run)$/.test(name)))
      execFileSync("dd", [
        "if=/dev/null",
        `of=${join(folder, name)}`,
        "oflag=nocache",
        "conv=notrunc",
        "count=0",
        "status=none",
      ]);
}

function randomHash(rows = ROWS): Digest {
  const job = Math.floor((Math.random() * rows) / 4) * 4;
  return digestOf(`${["key", "source", "result"][job % 3]!} ${job}`);
}

/** Wall-clock time of each, and all threads' processor time of one in the middle. */
async function asked(what: string, count: number, ask: () => Promise<unknown>): Promise<void> {
  const cpu = process.cpuUsage();
  const times = await timed(count, ask);
  const { user, system } = process.cpuUsage(cpu);
  const of = `${((user + system) / 1000 / count).toFixed(2)} ms of a processor`;
  report(what, `${summary(times)}; ${of}`, median(times) <= 10);
}

async function timed(count: number, ask: () => Promise<unknown>): Promise<number[]> {
  const times: number[] = [];
  for (let at = 0; at < count; at++) {
    const startMs = performance.now();
    await ask();
    times.push(performance.now() - startMs);
  }
  return times;
}

async function benchLookUps(): Promise<void> {
  const fillMs = performance.now();
  await fill((INDEX_ROWS - ROWS) * NAMES_PER_ROW);
  const home = join(folders.audit, "index");
  const sizes = readdirSync(home).map((name) => statSync(join(home, name)).size);
  const bytes = sizes.reduce((sum, size) => sum + size, 0);
  report(
    `index of ${INDEX_ROWS} rows`,
    `${(bytes / MIB).toFixed(0)} MiB in ${sizes.length - 1} runs, written in ${Math.round((performance.now() - fillMs) / 1000)} s`,
  );
  const options = { folder: folders.audit, readManifest: async () => null, keep: false, warn: console.error };
  const openMs = performance.now();
  const index = await AuditIndex.open(options);
  report("opening it", ms(performance.now() - openMs));
  const ask = async (hash: string) => index.find(hash, ACME).catch((error: Error) => error);
  forgetPages();
  await asked("a hash of four rows, from the disk", 100, async () => ask(randomHash()));
  await asked("a hash of four rows", QUESTIONS, async () => ask(randomHash()));
  await asked("its first 20 digits", QUESTIONS, async () => ask(randomHash().slice(7, 27)));
  await asked("a hash of nothing", QUESTIONS, async () => ask(randomBytes(32).toString("hex")));
  await asked(`a hash of ${ROWS / 10} rows, of which it gives 100`, 100, async () => ask(POPULAR));
  await index.close();
}

function median(times: readonly number[]): number {
  return times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)]!;
}

/** As an RPC asks: the worker's event loop while the thread answers. */
async function benchEventLoop(): Promise<void> {
  const inspector = inspectorOf({ sequence: ROWS + 1 });
  await inspector.find(POPULAR, ACME);
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const idle = monitorEventLoopDelay({ resolution: 1 });
  idle.enable();
  await new Promise((resolve) => setTimeout(resolve, 5000));
  idle.disable();
  const meanwhile = monitorEventLoopDelay({ resolution: 1 });
  meanwhile.enable();
  const [utilization, cpu] = [performance.eventLoopUtilization(), process.threadCpuUsage()];
  const many = Array.from({ length: 8 }, async () => timed(QUESTIONS / 8, async () => inspector.find(POPULAR, ACME)));
  const times = (await Promise.all(many)).flat();
  const used = performance.eventLoopUtilization(utilization);
  const { user, system } = process.threadCpuUsage(cpu);
  meanwhile.disable();
  report(`${QUESTIONS} questions for 100 rows each, eight at once`, summary(times));
  report(
    "event loop meanwhile",
    `p99 ${ms(meanwhile.percentile(99) / 1e6)}, most ${ms(meanwhile.max / 1e6)}, used ${(used.utilization * 100).toFixed(0)} %, ${ms((user + system) / 1000 / QUESTIONS)} of a processor a question; without questions most ${ms(idle.max / 1e6)}`,
    meanwhile.percentile(99) / 1e6 <= 20,
  );
  await inspector.close();
}

const seconds = (startMs: number) => `${((performance.now() - startMs) / 1000).toFixed(1)} s`;

/** All of it is there: written row by row, indexed as a worker does, and read from the disk. */
async function benchWritten(): Promise<void> {
  let startMs = performance.now();
  const log = await openLog();
  const { rate } = await write(log, 0, WRITTEN_ROWS);
  await log.close();
  const bytes = readdirSync(folders.audit)
    .filter((name) => name.endsWith(".log"))
    .reduce((sum, name) => sum + statSync(join(folders.audit, name)).size, 0);
  report(
    `log of ${WRITTEN_ROWS} rows`,
    `${(bytes / MIB).toFixed(0)} MiB, written in ${seconds(startMs)}; ${rate} a second`,
  );
  startMs = performance.now();
  const options = { folder: folders.audit, readManifest: async () => null, warn: console.error };
  const kept = await AuditIndex.open({ ...options, keep: true });
  await kept.catchUp();
  await kept.close();
  report("its index", `made in ${seconds(startMs)}`);
  forgetPages();
  startMs = performance.now();
  await (await openLog()).close();
  report("a worker's start with it", seconds(startMs));
  startMs = performance.now();
  const index = await AuditIndex.open({ ...options, keep: false });
  report("opening the index", seconds(startMs));
  const ask = async (hash: string) => index.find(hash, ACME).catch((error: Error) => error);
  forgetPages();
  await asked("a hash of four rows, from the disk", 100, async () => ask(randomHash(WRITTEN_ROWS)));
  await asked("a hash of four rows", QUESTIONS, async () => ask(randomHash(WRITTEN_ROWS)));
  await asked("a hash of nothing", QUESTIONS, async () => ask(randomBytes(32).toString("hex")));
  await index.close();
  const number = () => String(1 + Math.floor(Math.random() * WRITTEN_ROWS));
  report("proving a row by its number", summary(await timed(50, async () => proveRow(folders.audit, number()))));
  await benchVerify();
}

/** A disk that keeps nothing: what is left of the log is making, hashing and signing rows. */
const NO_DISK: LogDisk = { ...LOG_DISK, write: async () => undefined, sync: async () => undefined };

async function benchHits(): Promise<void> {
  const ends: (() => Promise<void>)[] = [];
  const scope = { after: (end: () => Promise<void>) => void ends.push(end) };
  const never = { signal: new AbortController().signal };
  const sides = [];
  for (const log of [LOG_DISK, NO_DISK]) {
    const at = await TestWorker.start(scope, {}, { faults: { log } });
    const client = await at.client();
    const job = await at.job({ files: [{ path: "/hpcc/project/a.c", content: "int a;\n" }] });
    await client.compile(job, never);
    const outputs = mkdtempSync(join(state, "hits-"));
    sides.push({
      times: [] as number[],
      hit: async (number: number) => {
        const outputFolder = join(outputs, String(number));
        mkdirSync(outputFolder);
        const startMs = performance.now();
        await client.compile({ ...job, outputFolder }, never);
        return performance.now() - startMs;
      },
    });
  }
  for (let at = 0; at < HITS; at++) for (const { times, hit } of sides) times.push(await hit(at));
  const [kept, unkept] = sides.map(({ times }) => median(times)) as [number, number];
  report("a hit from a worker", `${ms(kept)}; its log kept on no disk ${ms(unkept)}: ${(kept / unkept).toFixed(2)}`);
  for (const end of ends) await end();
}

console.log(`${WRITTEN_ROWS || ROWS} rows, load ${loadavg()[0]!.toFixed(1)}, Node ${process.versions.node}`);
try {
  if (WRITTEN_ROWS > 0) await benchWritten();
  else {
    await benchWriting();
    await benchVerify();
    await benchLookUps();
    await benchEventLoop();
    await benchHits();
  }
} finally {
  rmSync(state, { recursive: true });
}
report(
  "resident at the end",
  `${(process.memoryUsage().rss / MIB).toFixed(0)} MiB, most ${(process.resourceUsage().maxRSS / 1024).toFixed(0)} MiB`,
);
console.log(`load ${loadavg()[0]!.toFixed(1)}`);
if (missed.length > 0) {
  console.error(`below the bar: ${missed.join("; ")}`);
  process.exitCode = 1;
}
