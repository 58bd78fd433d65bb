// The index against a plain reading of the whole log, however it was cut into runs, lost, damaged, or left by a killed process.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { appendFile, cp, mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import type { ByteString } from "../../base/byte-string.ts";
import { ManualClock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { encodeResultManifest } from "../../core/action/result-manifest.ts";
import { encodeSourceManifest, sourceManifest } from "../../core/action/source-manifest.ts";
import { type Digest, digestHex, sha256 } from "../../core/digest/digest.ts";
import { AuditLog } from "../audit-log.ts";
import { LOG_DISK } from "../log-disk.ts";
import { readLog } from "../read-log.ts";
import type { AuditRecord } from "../segment.ts";
import { AuditIndex, type AuditIndexOptions } from "./audit-index.ts";
import type { Finding } from "./look-up.ts";
import { manifestsOf, namesOf } from "./record-hashes.ts";

const UNSYNCED = { ...LOG_DISK, sync: async () => undefined };
const EMPTY = sha256(new Uint8Array());

/** Hashes of which many begin alike: with 8 and 23 equal digits, of the 24 that the index has. */
const POOL = ["0", "1", "2", "3", "4"].flatMap((digit) =>
  ["a".repeat(8), "b".repeat(23)].map(
    (start) => `sha256:${start}${digit}${digestHex(sha256(Buffer.from(digit))).slice(start.length + 1)}` as Digest,
  ),
);
const BLOBS = Array.from({ length: 12 }, (_, at) => sha256(Buffer.from(`blob ${at}`)));

const SOURCES = [[0, 1], [1, 2, 3], [4], [5, 6, 7, 8]].map((blobs) =>
  encodeSourceManifest(
    sourceManifest(
      "files",
      blobs.map((at) => ({
        kind: "file",
        path: `/hpcc/project/${at}.c` as ByteString,
        mode: 0o644,
        digest: BLOBS[at]!,
        size: 1,
      })),
    ),
  ),
);
const RESULTS = [8, 9, 10].map((at) =>
  encodeResultManifest({
    exitCode: 0,
    outputs: [{ index: 0, kind: "object", digest: BLOBS[at]!, size: 1, executable: false }],
    stdout: { digest: EMPTY, size: 0 },
    stderr: { digest: BLOBS[11]!, size: 1 },
  }),
);
const MANIFESTS = new Map([...SOURCES, ...RESULTS].map((bytes) => [sha256(bytes), bytes]));
const readManifest = async (tenant: string, digest: Digest) =>
  tenant === "nobody" ? null : (MANIFESTS.get(digest) ?? null);

interface RowSpec {
  readonly kind: "compile" | "hit" | "confirm" | "denied" | "policy";
  readonly tenant: string;
  readonly key: Digest;
  readonly source: Digest;
  readonly results: readonly [Digest, Digest];
  readonly output: Digest | null;
  readonly flags: Digest;
}

const digest = fc.constantFrom(...POOL);
const spec: fc.Arbitrary<RowSpec> = fc.record(
  {
    kind: fc.constantFrom("compile", "hit", "hit", "confirm", "denied", "policy"),
    tenant: fc.constantFrom("acme", "other", "nobody"),
    key: digest,
    source: fc.constantFrom(...SOURCES.map((bytes) => sha256(bytes)), ...POOL.slice(0, 3)),
    results: fc.tuple(
      ...[0, 1].map(() => fc.constantFrom(...RESULTS.map((bytes) => sha256(bytes)), ...POOL.slice(3, 5))),
    ) as fc.Arbitrary<[Digest, Digest]>,
    output: fc.option(digest, { nil: null }),
    flags: fc.constantFrom(...POOL.slice(0, 4)),
  },
  { noNullPrototype: true },
);

function rowOf(spec: RowSpec, number: number): Parameters<AuditLog["append"]> {
  const { kind, tenant, key, source, results, output, flags } = spec;
  const columns = {
    imageDigest: EMPTY,
    sourceDigest: source,
    flags,
    outputDigest: output,
    tenant,
    worker: "w1",
    vm: "vm-1",
    durationUs: number,
    exit: 0,
  };
  const times = { startMs: number, endMs: number };
  const job = { principal: `spiffe://x.example/tenant/${tenant}/user/ann`, policy: null, tier: null, build: null };
  const result = {
    isolation: "firecracker",
    life: "clean",
    actionKey: key,
    resultDigest: results[0],
    compileUs: 1,
  } as const;
  const action = { outputs: [], terminalColumns: null, determinism: "default" } as const;
  const all = { ...times, ...job, ...result, ...action };
  switch (kind) {
    case "compile":
      return [columns, { kind, ...all, versions: {}, scope: null }];
    case "hit":
      return [
        columns,
        {
          kind,
          ...all,
          outcome: "hit",
          scope: null,
          keyTier: null,
          from: null,
          compiledRow: null,
          confirmedBy: null,
          madeFor: null,
        },
      ];
    case "confirm":
      return [
        columns,
        {
          kind,
          ...all,
          outcome: "different",
          versions: {},
          firstVm: "vm-2",
          firstResultDigest: results[1],
          firstRow: null,
        },
      ];
    case "denied":
      return [
        { ...columns, outputDigest: null, exit: null },
        { kind, ...times, ...job, code: "x", actionKey: key },
      ];
    case "policy": {
      const none = { imageDigest: null, sourceDigest: null, flags: null, outputDigest: null, vm: null, exit: null };
      return [
        { ...columns, ...none, tenant: "-" },
        { kind, event: "in-force", ...times, digest: null, version: 1 },
      ];
    }
  }
}

async function openLog(folder: string): Promise<AuditLog> {
  const options = { folder, worker: "w1", clock: new ManualClock(), logger: SILENT_LOGGER, disk: UNSYNCED };
  return AuditLog.open({ ...options, segmentBytesMax: 20_000 });
}

async function append(folder: string, specs: readonly RowSpec[], from = 0): Promise<void> {
  const log = await openLog(folder);
  for (let done = 0; done < specs.length; done += 20)
    await Promise.all(
      specs.slice(done, done + 20).map(async (spec, at) => log.append(...rowOf(spec, from + done + at))),
    );
  await log.close();
}

const events: string[] = [];

async function openIndex(folder: string, change: Partial<AuditIndexOptions> = {}): Promise<AuditIndex> {
  events.length = 0;
  return AuditIndex.open({
    folder,
    readManifest,
    keep: true,
    tableEntries: 40,
    warn: (event, error) => void events.push(`${event} ${String(error)}`),
    ...change,
  });
}

async function scan(folder: string): Promise<AuditRecord[]> {
  const records: AuditRecord[] = [];
  for await (const { record } of readLog(folder)) records.unshift(record);
  return records;
}

const named = new Map<AuditRecord, ReturnType<typeof namesOf>>();

function names(record: AuditRecord): ReturnType<typeof namesOf> {
  const known = named.get(record) ?? namesOf(record);
  named.set(record, known);
  return known;
}

/** What a plain reading finds, or the code of its error. */
async function scanned(records: readonly AuditRecord[], prefix: string, tenant: string | null): Promise<unknown> {
  const seen = records.filter(({ row }) => tenant === null || row.tenant === tenant);
  const fits = (digest: Digest) => digestHex(digest).startsWith(prefix);
  const fitting = seen.flatMap((record) => names(record).filter(({ digest }) => fits(digest)));
  if (new Set(fitting.map(({ digest }) => digest)).size > 1) return "argument.invalid";
  for (const kind of ["row", "action", "source", "result", "blob"] as const) {
    const found = seen.filter((record) => names(record).some((name) => name.kind === kind && fits(name.digest)));
    const of = fitting.find((name) => name.kind === kind);
    if (of !== undefined) return told({ kind, digest: of.digest, records: found.slice(0, 100) });
  }
  const held = new Set<Digest>();
  const holding: AuditRecord[] = [];
  for (const record of seen) {
    const blobs: Digest[] = [];
    for (const { kind, digest } of manifestsOf(record)) {
      const bytes = await readManifest(record.row.tenant, digest);
      const at = [...SOURCES, ...RESULTS].findIndex((manifest) => bytes !== null && manifest === bytes);
      if (at < 0 || (kind === "source") !== at < SOURCES.length) continue;
      blobs.push(
        ...BLOBS.filter((blob) => Buffer.from(bytes!).includes(digestBytes(blob))),
        ...(at < SOURCES.length ? [] : [EMPTY]),
      );
    }
    const own = blobs.filter(fits);
    for (const blob of own) held.add(blob);
    if (own.length > 0) holding.push(record);
  }
  if (held.size > 1) return "argument.invalid";
  if (held.size === 0) return "hash.unknown";
  return told({ kind: "blob", digest: [...held][0]!, records: holding.slice(0, 100) });
}

function digestBytes(digest: Digest): Buffer {
  return Buffer.from(digestHex(digest), "hex");
}

function told({ kind, digest, records }: Finding): unknown {
  return { kind, digest, rows: records.map(({ envelope }) => envelope.sequence) };
}

async function found(index: AuditIndex, prefix: string, tenant: string | null): Promise<unknown> {
  try {
    return told(await index.find(prefix, tenant));
  } catch (error) {
    if (error instanceof HpccError) return error.code;
    throw error;
  }
}

/** All that might be asked of a log. */
function questionsOf(records: readonly AuditRecord[]): string[] {
  const digests = [
    ...POOL,
    ...BLOBS,
    EMPTY,
    ...MANIFESTS.keys(),
    ...records.slice(0, 5).map(({ digest }) => digest),
    sha256(Buffer.from("unheard of")),
  ];
  return digests.flatMap((digest) => [8, 24, 64].map((length) => digestHex(digest).slice(0, length)));
}

let turn = 0;

/** Every eighth question, other ones each time. */
async function agrees(index: AuditIndex, folder: string): Promise<void> {
  const records = await scan(folder);
  const questions = [...new Set(questionsOf(records))].flatMap((prefix) =>
    ["acme", "other", "nobody", "stranger", null].map((tenant) => ({ prefix, tenant })),
  );
  for (const [at, { prefix, tenant }] of questions.entries())
    if (at % 8 === turn % 8)
      assert.deepEqual(
        await found(index, prefix, tenant),
        await scanned(records, prefix, tenant),
        `${prefix} of ${tenant}`,
      );
  turn++;
}

async function inFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const root = await mkdtemp(join(tmpdir(), "hpcc-index-test-"));
  try {
    await run(join(root, "audit"));
  } finally {
    await rm(root, { recursive: true });
  }
}

test("any log, asked while it grows and over restarts, is answered as a plain reading of it answers", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(spec, { maxLength: 60 }), { maxLength: 4 }),
      fc.integer({ min: 1, max: 200 }),
      async (parts, tableEntries) =>
        inFolder(async (folder) => {
          let count = 0;
          await append(folder, []);
          let index = await openIndex(folder, { tableEntries });
          try {
            for (const [at, part] of parts.entries()) {
              await append(folder, part, count);
              count += part.length;
              if (at % 2 === 0) continue;
              await agrees(index, folder);
              await index.close();
              index = await openIndex(folder, { tableEntries });
            }
            await agrees(index, folder);
            assert.deepEqual(events, []);
          } finally {
            await index.close();
          }
        }),
    ),
    { numRuns: 6, endOnFailure: true },
  );
});

const SOME = fc.sample(spec, { numRuns: 80, seed: 4 });
const HOME = "index";

/** A log of 300 rows and its index, closed. */
async function indexed(folder: string): Promise<void> {
  await append(folder, SOME);
  const index = await openIndex(folder);
  await index.catchUp();
  await index.settled();
  await index.close();
}

async function filesOf(folder: string): Promise<string[]> {
  return (await readdir(join(folder, HOME))).sort();
}

describe("an index", () => {
  test("that is whole is used again without a reading of the log, and holds few runs", async () =>
    inFolder(async (folder) => {
      await indexed(folder);
      const files = await filesOf(folder);
      assert.ok(files.length > 2 && files.length < 12, files.join());
      const index = await openIndex(folder);
      assert.equal(index.sequence, SOME.length);
      await agrees(index, folder);
      await index.close();
      assert.deepEqual([events, await filesOf(folder)], [[], files]);
    }));

  test("that is lost is made again", async () =>
    inFolder(async (folder) => {
      await indexed(folder);
      await rm(join(folder, HOME), { recursive: true });
      const index = await openIndex(folder);
      assert.equal(index.sequence, 0);
      await agrees(index, folder);
      await index.close();
    }));

  const damages: Record<string, (path: string) => Promise<void>> = {
    "has a changed byte": async (path) => {
      const bytes = await readFile(path);
      for (let at = 7; at < bytes.length; at += 1000) bytes[at]! ^= 1 << (at % 8);
      await writeFile(path, bytes);
    },
    "has random bytes": async (path) => writeFile(path, randomBytes((await readFile(path)).length)),
    "is cut off": async (path) => truncate(path, Math.floor((await readFile(path)).length / 2)),
    "is too long": async (path) => appendFile(path, randomBytes(4096)),
    "is empty": async (path) => truncate(path, 0),
    "is gone": async (path) => rm(path),
  };
  for (const [what, damage] of Object.entries(damages))
    test(`of which a file ${what} is made again, and answers no question wrongly`, async () =>
      inFolder(async (folder) => {
        await indexed(folder);
        const files = await filesOf(folder);
        for (const name of [files[0]!, "state"]) {
          const copy = `${folder}-${name}`;
          await cp(folder, copy, { recursive: true });
          await damage(join(copy, HOME, name));
          const index = await openIndex(copy);
          await agrees(index, copy);
          await index.close();
          if (name !== "state" || what !== "is gone") assert.match(events.join(), /audit.index.rebuilt/, name);
        }
      }));

  test("whose damage a merge finds is made again", async () =>
    inFolder(async (folder) => {
      await append(folder, SOME.slice(0, 30));
      const first = await openIndex(folder);
      await first.catchUp();
      await first.close();
      const [run] = (await filesOf(folder)).filter((name) => name.endsWith(".run"));
      await damages["has a changed byte"]!(join(folder, HOME, run!));
      await append(folder, SOME.slice(30), 30);
      const index = await openIndex(folder);
      await index.catchUp();
      await index.settled();
      await agrees(index, folder);
      await index.close();
      assert.match(events.join(), /audit.index.rebuilt.*damaged/);
    }));

  test("of another version, or of another log, is made again", async () =>
    inFolder(async (folder) => {
      await indexed(folder);
      const other = `${folder}-other`;
      await append(other, SOME.toReversed());
      await cp(join(folder, HOME), join(other, HOME), { recursive: true });
      const index = await openIndex(other);
      await agrees(index, other);
      await index.close();
      assert.match(events.join(), /another log/);
      const state = join(folder, HOME, "state");
      const [body = ""] = (await readFile(state, "latin1")).split("\n");
      const foreign = body.replace('"form":2', '"form":3');
      assert.notEqual(foreign, body);
      await writeFile(state, `${foreign}\n${digestHex(sha256(Buffer.from(foreign)))}\n`);
      const again = await openIndex(folder);
      await agrees(again, folder);
      await again.close();
      assert.match(events.join(), /another form/);
    }));

  test("of a log whose segments were written anew is made again", async () =>
    inFolder(async (folder) => {
      await indexed(folder);
      const index = await openIndex(folder);
      const [segment] = (await readdir(folder)).filter((name) => name.endsWith(".log")).sort();
      const bytes = await readFile(join(folder, segment!));
      // The first row goes, so that all others of the segment stand elsewhere.
      await writeFile(join(folder, segment!), Buffer.concat([Buffer.from("x"), bytes]));
      await assert.rejects(index.find(digestHex((await lastRow(folder, bytes)).digest), null), {
        code: "audit.corrupt",
      });
      assert.match(events.join(), /not where it was/);
      await writeFile(join(folder, segment!), bytes);
      await agrees(index, folder);
      await index.close();
    }));

  test("that is thrown away while it is asked answers from the one that is made then", async () =>
    inFolder(async (folder) => {
      await append(folder, SOME);
      let forget: (() => Promise<void>) | null = null;
      const index = await openIndex(folder, {
        readManifest: async (tenant, digest) => {
          const now = forget;
          forget = null;
          await now?.();
          return readManifest(tenant, digest);
        },
      });
      const records = await scan(folder);
      for (const blob of BLOBS) {
        await index.catchUp();
        forget = async () => index.forget();
        assert.deepEqual(await found(index, blob, null), await scanned(records, digestHex(blob), null));
      }
      await index.close();
    }));

  test("is written while rows are, by one process, and read by others that write nothing", async () =>
    inFolder(async (folder) => {
      const log = await openLog(folder);
      const writer = await openIndex(folder);
      const reader = await openIndex(folder, { keep: false });
      const files = async () =>
        Promise.all((await filesOf(folder)).map(async (name) => readFile(join(folder, HOME, name))));
      let last = (await log.append(...rowOf(SOME[0]!, 0))).digest;
      for (let at = 1; at < SOME.length; at += 7) {
        const group = SOME.slice(at, at + 7).map(async (spec, more) => log.append(...rowOf(spec, at + more)));
        for (const index of [writer, reader]) assert.equal((await index.find(last, null)).digest, last);
        last = (await Promise.all(group)).at(-1)!.digest;
      }
      await writer.settled();
      const before = await files();
      await agrees(reader, folder);
      assert.deepEqual(await files(), before);
      await writer.close();
      // What the writer took away meanwhile, the reader still has open.
      await agrees(reader, folder);
      const late = await openIndex(folder, { keep: false });
      assert.equal(late.sequence, SOME.length);
      await late.close();
      await reader.close();
      await log.close();
    }));

  test("takes no row that is not durable yet", async () =>
    inFolder(async (folder) => {
      await append(folder, SOME.slice(0, 20));
      const index = await openIndex(folder);
      const records = await scan(folder);
      await assert.rejects(index.find(records[0]!.digest, null, 10), { code: "hash.unknown" });
      assert.equal(index.sequence, 10);
      assert.equal((await index.find(records[0]!.digest, null)).digest, records[0]!.digest);
      await index.close();
    }));

  test("tells hashes apart that are equal as far as it has them", async () =>
    inFolder(async (folder) => {
      const [one, two] = ["1", "2"].map((digit) => `sha256:${"d".repeat(30)}${digit.repeat(34)}` as Digest) as [
        Digest,
        Digest,
      ];
      const row = { ...SOME[0]!, kind: "compile", tenant: "acme", output: null } as const;
      await append(folder, [
        { ...row, key: one },
        { ...row, key: two },
      ]);
      const index = await openIndex(folder);
      assert.deepEqual(await found(index, one, "acme"), { kind: "action", digest: one, rows: [1] });
      assert.deepEqual(await found(index, two, "acme"), { kind: "action", digest: two, rows: [2] });
      assert.equal(await found(index, "d".repeat(30), "acme"), "argument.invalid");
      assert.equal(await found(index, `${"d".repeat(30)}3`, "acme"), "hash.unknown");
      await index.close();
    }));

  test("that was being written when its process was killed goes on from what was durable", async () =>
    inFolder(async (folder) => {
      await append(folder, SOME);
      const manifests = `${folder}-manifests`;
      await writeFile(
        manifests,
        JSON.stringify([...MANIFESTS].map(([digest, bytes]) => [digest, Buffer.from(bytes).toString("hex")])),
      );
      const program = `
        import { readFileSync } from "node:fs";
        const known = new Map(JSON.parse(readFileSync(process.argv[2], "utf8")));
        const readManifest = async (tenant, digest) => tenant !== "nobody" && known.has(digest) ? Buffer.from(known.get(digest), "hex") : null;
        import { AuditIndex } from ${JSON.stringify(join(import.meta.dirname, "audit-index.ts"))};
        const index = await AuditIndex.open({ folder: process.argv[1], readManifest, keep: true, tableEntries: 5, warn: console.log });
        for (let up = 1; up <= ${SOME.length}; up++) {
          await index.catchUp(up);
          process.stdout.write(".");
        }
        await index.close();
      `;
      const argv = ["--input-type=module-typescript", "-e", program, folder, manifests];
      for (const dots of [5, 25, 60]) {
        await rm(join(folder, HOME), { recursive: true, force: true });
        const child = spawn(process.execPath, argv, { stdio: ["ignore", "pipe", "inherit"] });
        let heard = "";
        child.stdout.on("data", (part: Buffer) => {
          heard += part.toString();
          if (heard.length >= dots) child.kill("SIGKILL");
        });
        await once(child, "close");
        assert.match(heard, /^\.+$/, "it was never made again");
        const index = await openIndex(folder, { keep: false });
        await agrees(index, folder);
        await index.close();
        assert.deepEqual(events, []);
      }
    }));
});

async function lastRow(folder: string, segment: Buffer): Promise<AuditRecord> {
  const whole = `${folder}-one`;
  await cp(folder, whole, { recursive: true });
  await rm(join(whole, HOME), { recursive: true });
  for (const name of await readdir(whole)) await rm(join(whole, name), { recursive: true });
  await writeFile(join(whole, "0000000000000001.log"), segment);
  return (await scan(whole))[0]!;
}
