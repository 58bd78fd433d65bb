// The log on disk: what was acknowledged is there, what is damaged is found.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { appendFile, copyFile, mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { type SyncedFile, watchSyncs } from "../../test/support/watched-syncs.ts";
import { ManualClock } from "../base/clock.ts";
import { SILENT_LOGGER } from "../base/log.ts";
import { type Digest, sha256 } from "../core/digest/digest.ts";
import { noteSigner } from "../core/note/signed-note.ts";
import { AuditLog, type AuditLogOptions } from "./audit-log.ts";
import { type AuditEnvelope, encodeEnvelope, FIRST_PREVIOUS } from "./envelope.ts";
import { type Command, decodeFlags } from "./flags.ts";
import { LOG_DISK, type LogDisk } from "./log-disk.ts";
import { readLog } from "./read-log.ts";
import { type AuditRow, encodeRow } from "./row.ts";
import { type EnvelopeBody, noteOf, SHAPES } from "./rows/bodies.ts";
import { type AuditRecord, encodeRecord } from "./segment.ts";

const D = sha256(new Uint8Array());

function rowOf(durationUs: number): AuditRow {
  const flags = '["env","-i","-C","/a","/bin/cc"]';
  return {
    imageDigest: D,
    sourceDigest: D,
    flags,
    outputDigest: D,
    tenant: "acme",
    worker: "w1",
    vm: "vm-1",
    durationUs,
    exit: 0,
  };
}

const BODY: EnvelopeBody = {
  kind: "compile",
  principal: "spiffe://x/tenant/acme/user/ann",
  policy: null,
  tier: null,
  startMs: 0,
  endMs: 1,
  isolation: "qemu-tcg",
  life: "session",
  actionKey: D,
  resultDigest: D,
  compileUs: 3,
  versions: {},
  scope: "principal",
  outputs: [],
  terminalColumns: null,
  determinism: "default",
  build: null,
};

async function withFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "hpcc-audit-"));
  try {
    await run(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function open(folder: string, options: Partial<AuditLogOptions> = {}): Promise<AuditLog> {
  return AuditLog.open({ folder, worker: "w1", clock: new ManualClock(), logger: SILENT_LOGGER, ...options });
}

async function append(folder: string, from: number, to: number, options: Partial<AuditLogOptions> = {}): Promise<void> {
  const log = await open(folder, options);
  for (let i = from; i < to; i++) await log.append(rowOf(i), BODY);
  await log.close();
}

async function records(folder: string): Promise<AuditRecord[]> {
  const all: AuditRecord[] = [];
  for await (const { record } of readLog(folder)) all.push(record);
  return all;
}

async function durations(folder: string): Promise<number[]> {
  return (await records(folder)).map(({ row }) => row.durationUs);
}

const range = (to: number) => Array.from({ length: to }, (_, i) => i);

interface Vector {
  readonly row: AuditRow;
  readonly envelope: AuditEnvelope;
  readonly rowDigest: string;
  readonly leaf: string;
}

test("golden vector: a log with a row of each kind is read and written byte by byte", async () =>
  withFolder(async (folder) => {
    const vectors = join(import.meta.dirname, "../../test/golden/audit");
    const expected = JSON.parse(await readFile(join(vectors, "records.json"), "utf8")) as {
      readonly command: Command;
      readonly records: readonly Vector[];
      readonly lastReceipt: string;
    };
    const read = await records(vectors);
    assert.deepEqual(
      read.map(({ row, envelope, digest, leaf }) => ({ row, envelope, rowDigest: digest, leaf })),
      expected.records,
    );
    assert.deepEqual(decodeFlags(String(read[2]!.row.flags)), expected.command);
    const names = read.map(({ envelope }) =>
      "event" in envelope ? `${envelope.kind} ${envelope.event}` : envelope.kind,
    );
    assert.deepEqual(new Set(names), new Set(Object.keys(SHAPES)));
    const log = await open(folder, { signer: noteSigner("build.example.com/worker/w1", Buffer.alloc(32, 1)) });
    const rows = await Promise.all(read.slice(1).map(async ({ row, envelope }) => log.append(row, envelope)));
    await log.close();
    assert.equal(rows.at(-1)?.receipt?.proof, expected.lastReceipt);
    const files = ["0000000000000001.log", "key", "checkpoint", `tile/0/000.p/${read.length}`];
    for (const name of files) assert.deepEqual(await readFile(join(folder, name)), await readFile(join(vectors, name)));
  }));

test("a row has the columns of its kind and no others", async () =>
  withFolder(async (folder) => {
    const log = await open(folder);
    const host = {
      kind: "host" as const,
      startMs: 0,
      endMs: 0,
      isolation: "firecracker" as const,
      parts: {},
      findings: [],
    };
    await assert.rejects(log.append(rowOf(0), host), { message: /kind host has imageDigest/ });
    await assert.rejects(log.append({ ...rowOf(0), vm: null }, BODY), { message: /kind compile lacks vm/ });
    await log.close();
    const { frame } = encodeRecord(
      encodeRow(rowOf(0)),
      encodeEnvelope({ ...host, sequence: 1, previous: FIRST_PREVIOUS }),
      1,
    );
    await writeFile(join(folder, "0000000000000001.log"), frame);
    await assert.rejects(records(folder), { code: "audit.corrupt" });
  }));

test("a log of the form before does not open, and the error says what to do", async () =>
  withFolder(async (folder) => {
    const envelope =
      '{"sequence":1,"kind":"log","note":"x","principal":null,"start":"1970-01-01T00:00:00.000Z","end":"1970-01-01T00:00:00.000Z",' +
      `"isolation":null,"life":null,"action_key":null,"result_digest":null,"compile_us":null,"versions":{},"previous":"${FIRST_PREVIOUS}"}`;
    const row = ["-", "-", "-", "-", "-", "w1", "-", "0", "-"].join("\t");
    await writeFile(join(folder, "0000000000000001.log"), encodeRecord(row, envelope, 1).frame);
    for (const use of [open, records])
      await assert.rejects(use(folder), { code: "audit.corrupt", message: /older version/, hint: /aside/ });
  }));

describe("the audit log", () => {
  test("gives back what was appended, in order, in a chain, over restarts and segments", async () =>
    withFolder(async (folder) => {
      await append(folder, 0, 5, { segmentBytesMax: 2000 });
      await append(folder, 5, 12, { segmentBytesMax: 2000 });
      const all = await records(folder);
      assert.deepEqual(
        all.map(({ row }) => row.durationUs),
        range(12),
      );
      assert.deepEqual(
        all.map(({ envelope }) => envelope.sequence),
        range(12).map((i) => i + 1),
      );
      for (const [i, record] of all.entries()) if (i > 0) assert.equal(record.envelope.previous, all[i - 1]!.leaf);
      assert.ok((await readdir(folder)).length >= 3);
    }));

  test("syncs once for all rows that wait", async () =>
    withFolder(async (folder) => {
      let syncs = 0;
      const disk = { ...LOG_DISK, sync: async (handle: never) => ((syncs += 1), LOG_DISK.sync(handle)) };
      const log = await open(folder, { disk });
      const rows = await Promise.all(range(500).map(async (i) => log.append(rowOf(i), BODY)));
      assert.deepEqual(
        rows.map(({ sequence }) => sequence),
        range(500).map((i) => i + 1),
      );
      assert.ok(syncs <= 3, `${syncs} syncs`);
      await log.close();
      assert.equal((await records(folder)).length, 500);
    }));

  test("tells nobody of a row before the segment that holds it is synced, and its folder before that", async () =>
    withFolder(async (folder) => {
      const synced: SyncedFile[] = [];
      const inode = async (name: string) => (await stat(join(folder, name))).ino;
      const seen = async (from: number) => {
        const own = await inode(".");
        const names = await readdir(folder);
        const files = new Map(await Promise.all(names.map(async (name) => [await inode(name), name] as const)));
        return synced.slice(from).map(({ ino }) => (ino === own ? "folder" : (files.get(ino) ?? "another")));
      };
      await watchSyncs(
        (file) => void synced.push(file),
        async () => {
          const log = await open(folder, { segmentBytesMax: 1 });
          assert.deepEqual(await seen(0), ["folder"]);
          await log.append(rowOf(0), BODY);
          assert.deepEqual(await seen(1), ["0000000000000001.log"]);
          await log.append(rowOf(1), BODY);
          assert.deepEqual(await seen(2), ["folder", "0000000000000002.log"]);
          await log.close();
          const before = synced.length;
          await (await open(folder)).close();
          assert.deepEqual(await seen(before), ["0000000000000002.log", "folder"], "what was there before is, too");
        },
      );
    }));

  test("lets no other user of the machine read it", async () =>
    withFolder(async (folder) => {
      const before = process.umask(0);
      try {
        const log = join(folder, "log");
        await append(log, 0, 3, { segmentBytesMax: 1 });
        await appendFile(join(log, "0000000000000003.log"), "torn");
        await append(log, 3, 4);
        const names = [".", ...(await readdir(log))];
        assert.equal(names.length, 1 + 3 + 1, names.join());
        for (const name of names) assert.equal((await stat(join(log, name))).mode & 0o077, 0, name);
      } finally {
        process.umask(before);
      }
    }));

  test("sets a torn end aside, wherever it is torn, and says so", async () =>
    withFolder(async (folder) => {
      await append(folder, 0, 3);
      const name = (await readdir(folder))[0]!;
      const whole = await readFile(join(folder, name));
      await append(folder, 3, 4);
      const longer = await readFile(join(folder, name));
      const cuts = [1, 5, 40, 41, 100, longer.length - whole.length - 1].map((bytes) => whole.length + bytes);
      for (const cut of cuts) {
        await writeFile(join(folder, name), longer.subarray(0, cut));
        await append(folder, 9, 10);
        const all = await records(folder);
        assert.deepEqual(
          all.map(({ envelope }) => envelope.kind),
          ["compile", "compile", "compile", "log", "compile"],
        );
        assert.match(noteOf(all[3]!.envelope), new RegExp(`torn end of ${cut - whole.length} bytes`));
        const aside = (await readdir(folder)).filter((file) => file.includes(".torn-"));
        assert.equal(aside.length, 1);
        assert.deepEqual(await readFile(join(folder, aside[0]!)), longer.subarray(whole.length, cut));
        await rm(join(folder, aside[0]!));
      }
    }));

  test("a torn end that was set aside is recorded, also by a worker that starts after one which ended before it had", async () =>
    withFolder(async (folder) => {
      await append(folder, 0, 3);
      const path = join(folder, (await readdir(folder))[0]!);
      const full: LogDisk = {
        ...LOG_DISK,
        write: async () => {
          throw new Error("no space");
        },
      };
      for (const torn of ["%hpcc 0000", "%hpcc 00000001"]) {
        await appendFile(path, torn);
        await assert.rejects(open(folder, { disk: full }), { code: "audit.io" });
      }
      await append(folder, 9, 10);
      await append(folder, 10, 11);
      const all = await records(folder);
      const said = all.filter(({ envelope }) => envelope.kind === "log").map(({ envelope }) => noteOf(envelope));
      assert.deepEqual(said, ["torn end of 10 bytes set aside", "torn end of 14 bytes set aside"]);
      const aside = (await readdir(folder)).filter((file) => file.includes(".torn-")).sort();
      assert.equal((await readFile(join(folder, aside[1]!))).length, 14);
    }));

  test("a tear within a group that was never acknowledged is torn too, also with whole rows after it", async () =>
    withFolder(async (folder) => {
      await append(folder, 0, 2);
      const log = await open(folder);
      await Promise.all([2, 3, 4].map(async (i) => log.append(rowOf(i), BODY)));
      await log.close();
      const path = join(folder, (await readdir(folder))[0]!);
      const bytes = await readFile(path);
      const third = bytes.indexOf("\t2\t0\n");
      assert.ok(third > 0);
      bytes.fill(0, third, third + 3);
      await writeFile(path, bytes);
      await append(folder, 9, 10);
      assert.deepEqual(
        (await records(folder)).map(({ envelope }) => envelope.kind),
        ["compile", "compile", "log", "compile"],
      );
    }));

  test("damage to what was synced is corruption, and the log does not open", async () =>
    withFolder(async (folder) => {
      await append(folder, 0, 6);
      const path = join(folder, (await readdir(folder))[0]!);
      const good = await readFile(path);
      for (const place of [2, 50, good.indexOf("\t1\t0\n") + 1, good.indexOf("\t4\t0\n") + 1, good.indexOf("qemu")]) {
        const bad = Buffer.from(good);
        bad[place]! ^= 1;
        await writeFile(path, bad);
        await assert.rejects(open(folder), { code: "audit.corrupt" }, `byte ${place}`);
      }
      await writeFile(path, good);
      await append(folder, 6, 7);
    }));

  test("a dropped, doubled or swapped record breaks the chain", async () =>
    withFolder(async (folder) => {
      await append(folder, 0, 4);
      const path = join(folder, (await readdir(folder))[0]!);
      const good = (await readFile(path)).toString("latin1");
      const parts = good.split(/(?=%hpcc )/);
      assert.equal(parts.length, 4);
      const [a, b, c, d] = parts as [string, string, string, string];
      for (const bad of [
        [a, c, d],
        [a, b, b, c, d],
        [b, a, c, d],
        [b, c, d],
      ]) {
        await writeFile(path, Buffer.from(bad.join(""), "latin1"));
        await assert.rejects(records(folder), { code: "audit.corrupt" });
        await assert.rejects(open(folder), { code: "audit.corrupt" });
      }
    }));

  test("a record must name the one before by its number and by its digest", async () =>
    withFolder(async (folder) => {
      const write = async (sequence: number, previous: Digest) => {
        const envelope = (place: { sequence: number; previous: Digest }) => encodeEnvelope({ ...BODY, ...place });
        const first = encodeRecord(encodeRow(rowOf(0)), envelope({ sequence: 1, previous: FIRST_PREVIOUS }), 1);
        const second = encodeRecord(encodeRow(rowOf(1)), envelope({ sequence, previous }), sequence);
        await writeFile(join(folder, "0000000000000001.log"), Buffer.concat([first.frame, second.frame]));
        return first.leaf;
      };
      const right = await write(2, D);
      await assert.rejects(records(folder), { code: "audit.corrupt" }, "another record's digest");
      for (const sequence of [1, 3]) {
        await write(sequence, right);
        await assert.rejects(records(folder), { code: "audit.corrupt" }, `number ${sequence}`);
      }
      await write(2, right);
      assert.deepEqual(await durations(folder), [0, 1]);
    }));

  test("a missing or damaged segment in the middle is found", async () =>
    withFolder(async (folder) => {
      await append(folder, 0, 12, { segmentBytesMax: 2000 });
      const names = (await readdir(folder)).sort();
      const kept = await mkdtemp(join(folder, "kept-"));
      await copyFile(join(folder, names[1]!), join(kept, "copy"));
      await rm(join(folder, names[1]!));
      await assert.rejects(records(folder), { code: "audit.corrupt" });
      await copyFile(join(kept, "copy"), join(folder, names[1]!));
      await truncate(join(folder, names[1]!), 500);
      await assert.rejects(records(folder), { code: "audit.corrupt" });
    }));

  test("damage before a segment that is still empty is corruption, and not the end", async () =>
    withFolder(async (folder) => {
      await append(folder, 0, 3);
      await writeFile(join(folder, "0000000000000004.log"), "");
      await append(folder, 3, 3);
      const path = join(folder, "0000000000000001.log");
      const bytes = await readFile(path);
      bytes[bytes.length - 2]! ^= 1;
      await writeFile(path, bytes);
      await assert.rejects(open(folder), { code: "audit.corrupt" });
    }));

  test("a reader meets a half-written end as the end", async () =>
    withFolder(async (folder) => {
      await append(folder, 0, 2);
      await appendFile(join(folder, (await readdir(folder))[0]!), "%hpcc 000001");
      assert.deepEqual(await durations(folder), [0, 1]);
    }));

  test("a full disk refuses rows, and takes them again when there is space", async () =>
    withFolder(async (folder) => {
      let full = false;
      const disk: typeof LOG_DISK = {
        ...LOG_DISK,
        async write(handle, bytes, position) {
          if (!full) return LOG_DISK.write(handle, bytes, position);
          await LOG_DISK.write(handle, bytes.subarray(0, 100), position);
          throw Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
        },
      };
      const log = await open(folder, { disk });
      await log.append(rowOf(0), BODY);
      full = true;
      for (let i = 0; i < 3; i++) await assert.rejects(log.append(rowOf(77), BODY), { code: "audit.io" });
      full = false;
      await log.append(rowOf(1), BODY);
      await log.close();
      assert.deepEqual(await durations(folder), [0, 1]);
    }));

  test("after a failed sync nothing is taken any more", async () =>
    withFolder(async (folder) => {
      let broken = false;
      const disk: typeof LOG_DISK = {
        ...LOG_DISK,
        async sync(handle) {
          if (broken) throw Object.assign(new Error("i/o error"), { code: "EIO" });
          await LOG_DISK.sync(handle);
        },
      };
      const log = await open(folder, { disk });
      await log.append(rowOf(0), BODY);
      broken = true;
      await assert.rejects(log.append(rowOf(1), BODY), { code: "audit.io" });
      broken = false;
      await assert.rejects(log.append(rowOf(2), BODY), { code: "audit.io" });
      assert.equal(log.failure?.code, "audit.io");
      await log.close();
    }));

  test("what a killed process was told is there", async () =>
    withFolder(async (folder) => {
      const program = `
        import { AuditLog } from ${JSON.stringify(join(import.meta.dirname, "audit-log.ts"))};
        import { SYSTEM_CLOCK } from ${JSON.stringify(join(import.meta.dirname, "../base/system/clock.ts"))};
        import { SILENT_LOGGER } from ${JSON.stringify(join(import.meta.dirname, "../base/log.ts"))};
        const log = await AuditLog.open({ folder: process.argv[1], worker: "w1", clock: SYSTEM_CLOCK, logger: SILENT_LOGGER });
        const [row, body] = JSON.parse(process.argv[2]);
        for (let i = 0; ; i++) log.append({ ...row, durationUs: i }, body).then(() => process.stdout.write(i + "\\n")),
          i % 7 === 6 && (await new Promise((resolve) => setImmediate(resolve)));
      `;
      const argv = ["--input-type=module-typescript", "-e", program, folder, JSON.stringify([rowOf(0), BODY])];
      let acknowledged = 0;
      for (let round = 0; round < 3; round++) {
        const child = spawn(process.execPath, argv, { stdio: ["ignore", "pipe", "inherit"] });
        let heard = "";
        child.stdout.on("data", (part: Buffer) => {
          heard += part.toString();
          if (heard.length > 2000) child.kill("SIGKILL");
        });
        await once(child, "close");
        acknowledged += heard.split("\n").length - 1;
      }
      await append(folder, 0, 1);
      const rows = (await records(folder)).filter(({ envelope }) => envelope.kind === "compile");
      assert.ok(acknowledged > 100 && rows.length - 1 >= acknowledged, `${rows.length - 1} of ${acknowledged}`);
    }));
});
