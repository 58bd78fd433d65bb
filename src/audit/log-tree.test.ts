// The signed tree of a log: what is published verifies, what was signed holds, and what is lost is made again.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { crc32 } from "node:zlib";
import { ManualClock } from "../base/clock.ts";
import { type Logger, SILENT_LOGGER } from "../base/log.ts";
import { exportTiles } from "../cli/audit-check.ts";
import { digestHex } from "../core/digest/digest.ts";
import { equal } from "../core/merkle/proof.ts";
import { checkProof, decodeProof, openCheckpoint } from "../core/note/checkpoint.ts";
import { type NoteSigner, noteSigner } from "../core/note/signed-note.ts";
import { type AppendedRow, AuditLog, type AuditLogOptions } from "./audit-log.ts";
import { TREE_DISK } from "./log-tree.ts";
import { proveRow } from "./prove-row.ts";
import { partsOf, readLog } from "./read-log.ts";
import { emptyRow } from "./row.ts";
import type { EnvelopeBody } from "./rows/bodies.ts";
import type { AuditRecord } from "./segment.ts";

const SIGNER = noteSigner("x.example/worker/w1", Buffer.alloc(32, 1));
const OTHER = noteSigner("x.example/worker/w1", Buffer.alloc(32, 2));
const BODY: EnvelopeBody = { kind: "policy", event: "in-force", startMs: 0, endMs: 0, digest: null, version: 1 };

async function withFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "hpcc-tree-"));
  try {
    await run(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

const openLog = async (folder: string, options: Partial<AuditLogOptions> = {}) =>
  AuditLog.open({
    folder,
    worker: "w1",
    clock: new ManualClock(),
    logger: SILENT_LOGGER,
    signer: SIGNER,
    segmentBytesMax: 20_000,
    ...options,
  });

async function append(log: AuditLog, count: number): Promise<AppendedRow[]> {
  return Promise.all(Array.from({ length: count }, async () => log.append(emptyRow("w1"), BODY)));
}

async function records(folder: string): Promise<AuditRecord[]> {
  const all: AuditRecord[] = [];
  for await (const { record } of readLog(folder)) all.push(record);
  return all;
}

const leafOf = ({ leaf }: AuditRecord) => Buffer.from(digestHex(leaf), "hex");
const checkpointOf = async (folder: string, signer: NoteSigner = SIGNER) =>
  openCheckpoint(await readFile(join(folder, "checkpoint"), "utf8"), [signer.verifier]);

/** A logger that keeps the names of events. */
function listening(): { logger: Logger; events: string[] } {
  const events: string[] = [];
  const logger: Logger = { ...SILENT_LOGGER, warn: (e) => void events.push(e), error: (e) => void events.push(e) };
  return { logger, events };
}

describe("a signed log", () => {
  test("gives each row a receipt that proves it under the log's key, over restarts and tiles", async () =>
    withFolder(async (folder) => {
      const rows: AppendedRow[] = [];
      for (const count of [1, 3, 250, 1, 300, 2]) {
        const log = await openLog(folder);
        rows.push(...(await append(log, count)), ...(await append(log, 1)));
        await log.close();
      }
      const all = await records(folder);
      assert.equal(all.length, rows.length + 1, "and the row of the key");
      for (const { sequence, receipt, line } of rows) {
        const record = all[sequence - 1]!;
        assert.equal(record.line, line);
        const proof = decodeProof(receipt!.proof);
        assert.equal(proof.index, sequence - 1);
        const { size } = checkProof(leafOf(record), proof, [SIGNER.verifier]);
        assert.ok(size >= sequence && size <= sequence + 300);
        assert.throws(() => checkProof(leafOf(all[sequence - 2]!), proof, [SIGNER.verifier]), {
          code: "audit.corrupt",
        });
      }
      assert.equal((await checkpointOf(folder)).size, all.length);
    }));

  test("publishes a checkpoint a second after a row at the latest, and its tiles before it", async () =>
    withFolder(async (folder) => {
      const clock = new ManualClock();
      const order: string[] = [];
      let done = Promise.withResolvers<void>();
      const treeDisk: typeof TREE_DISK = {
        ...TREE_DISK,
        async replace(path, bytes, durable) {
          await TREE_DISK.replace(path, bytes, durable);
          order.push(path.slice(folder.length + 1));
          if (path.endsWith("checkpoint")) done.resolve();
        },
      };
      const log = await openLog(folder, { clock, treeDisk });
      await append(log, 260);
      order.length = 0;
      done = Promise.withResolvers();
      clock.advance(1000);
      await done.promise;
      assert.deepEqual(order, ["tile/0/000", "tile/0/001.p/5", "tile/1/000.p/1", "checkpoint"]);
      assert.equal((await checkpointOf(folder)).size, 261);
      await log.close();
      const tiles = (await readdir(join(folder, "tile"), { recursive: true })).filter((name) => /\d$/.test(name));
      assert.deepEqual(tiles.sort(), ["0", "0/000", "0/001.p/5", "1", "1/000.p/1"], "old edges are removed");
    }));

  test("makes its tree again when tiles are lost or damaged, and it is the same", async () =>
    withFolder(async (folder) => {
      const log = await openLog(folder);
      await append(log, 700);
      await log.close();
      const before = await checkpointOf(folder);
      const names = ["0/000", "0/001", "0/002.p/189", "1/000.p/2"];
      const tiles = new Map<string, Buffer>();
      for (const name of names) tiles.set(name, await readFile(join(folder, "tile", name)));
      const edge = join(folder, "tile/0/002.p/189");
      const damages: [string, () => Promise<void>][] = [
        ["audit.tiles.lost", async () => rm(join(folder, "tile"), { recursive: true })],
        ["audit.tiles.lost", async () => writeFile(edge, Buffer.alloc(189 * 32))],
        ["audit.tiles.lost", async () => writeFile(edge, "")],
        ["audit.tiles.lost", async () => rm(join(folder, "tile/0/001"))],
        ["audit.tiles.lost", async () => writeFile(join(folder, "tile/0/000"), "")],
        ["audit.tiles.lost", async () => writeFile(join(folder, "tile/0/001"), Buffer.alloc(256 * 32))],
        ["audit.tiles.lost", async () => writeFile(join(folder, "tile/1/000.p/2"), Buffer.alloc(2 * 32))],
      ];
      for (const [event, damage] of damages) {
        await damage();
        const { logger, events } = listening();
        await (await openLog(folder, { logger })).close();
        assert.equal(events.join(), event);
        const after = await checkpointOf(folder);
        assert.ok(equal(after.root, before.root) && after.size === before.size);
        for (const [name, bytes] of tiles) assert.ok(bytes.equals(await readFile(join(folder, "tile", name))), name);
      }
    }));

  test("proves rows and exports tiles also while tiles are lost or damaged, and touches none of them then", async (t) =>
    withFolder(async (folder) => {
      const own = join(folder, "temporary");
      await mkdir(own);
      const before = process.env["TMPDIR"];
      process.env["TMPDIR"] = own;
      t.after(() => (before === undefined ? delete process.env["TMPDIR"] : (process.env["TMPDIR"] = before)));
      const log = await openLog(folder);
      await append(log, 700);
      await log.close();
      const all = await records(folder);
      const zeros = Buffer.alloc(256 * 32);
      const right = await readFile(join(folder, "tile/0/001"));
      for (const damage of [
        async () => writeFile(join(folder, "tile/0/001"), zeros),
        async () => rm(join(folder, "tile"), { recursive: true }),
      ]) {
        await damage();
        for (const row of [1, 300, 701]) {
          const { proof } = await proveRow(folder, String(row));
          checkProof(leafOf(all[row - 1]!), decodeProof(proof), [SIGNER.verifier]);
        }
        const out = await mkdtemp(join(folder, "../hpcc-tiles-"));
        await exportTiles(folder, out);
        assert.ok(right.equals(await readFile(join(out, "tile/0/001"))));
        await rm(out, { recursive: true });
      }
      assert.deepEqual(await readdir(join(folder, "tile")).catch(() => []), []);
      assert.deepEqual(await readdir(own), [], "nothing is left behind");
    }));

  test("keeps tiles that were signed when the rows are others: they tell which row it is", async () =>
    withFolder(async (folder) => {
      const log = await openLog(folder);
      await append(log, 300);
      await log.close();
      const segment = (await readdir(folder)).find((name) => name.endsWith(".log"))!;
      const tile = await readFile(join(folder, "tile/0/000"));
      await writeFile(join(folder, "tile/1/000.p/1"), Buffer.alloc(32));
      const text = await readFile(join(folder, segment), "latin1");
      const first = text.indexOf("%hpcc", 1);
      const altered = Buffer.from(text.slice(0, first).replace("w1", "w2"), "latin1");
      const payload = altered.subarray(41);
      altered.write(crc32(payload).toString(16).padStart(8, "0"), 15, "latin1");
      await writeFile(join(folder, segment), Buffer.concat([altered, Buffer.from(text.slice(first), "latin1")]));
      await assert.rejects(openLog(folder), { code: "audit.corrupt" });
      assert.ok(tile.equals(await readFile(join(folder, "tile/0/000"))));
    }));

  test("does not open when rows that were signed are gone or are others", async () =>
    withFolder(async (folder) => {
      const log = await openLog(folder);
      await append(log, 5);
      const checkpoint = async () => readFile(join(folder, "checkpoint"));
      await log.close();
      const [segment] = (await readdir(folder)).filter((name) => name.endsWith(".log"));
      const short = await readFile(join(folder, segment!));
      const again = await openLog(folder);
      await append(again, 3);
      await again.close();
      const long = await checkpoint();
      await writeFile(join(folder, segment!), short);
      await assert.rejects(openLog(folder), { code: "audit.corrupt", message: /ends at row 6.*signed for 9/ });
      // Another log of the same length, whose chain is whole.
      await rm(join(folder, segment!));
      const forged = await openLog(await mkdtemp(join(folder, "forged-")), { signer: OTHER });
      await append(forged, 8);
      await forged.close();
      const name = (await readdir(folder)).find((entry) => entry.startsWith("forged-"))!;
      await writeFile(join(folder, segment!), await readFile(join(folder, name, segment!)));
      await assert.rejects(openLog(folder), { code: "audit.corrupt" });
      // Also without tiles that say so.
      await rm(join(folder, "tile"), { recursive: true });
      await assert.rejects(openLog(folder), { code: "audit.corrupt", message: /first 9 rows/ });
      assert.deepEqual(await checkpoint(), long, "and what was signed stays");
    }));

  test("without its checkpoint is not signed anew when tiles or a witness's word say more rows or others", async () =>
    withFolder(async (at) => {
      const whole = join(at, "whole");
      const log = await openLog(whole, { segmentBytesMax: 1_000_000 });
      await append(log, 299);
      await log.close();
      const [segment] = (await readdir(whole)).filter((name) => name.endsWith(".log"));
      const bytes = await readFile(join(whole, segment!));
      const note = await readFile(join(whole, "checkpoint"));
      const ends = [...partsOf(bytes, segment!)].map(({ part }) => part.end);
      const other = await openLog(join(at, "other"), { worker: "w2", segmentBytesMax: 1_000_000 });
      await append(other, 299);
      await other.close();
      const rewritten = await readFile(join(at, "other", segment!));
      const cosign = async (folder: string) => {
        await mkdir(join(folder, "witnessed"));
        await writeFile(join(folder, "witnessed/0123abcd"), note);
      };
      const withoutTiles = async (folder: string) => rm(join(folder, "tile"), { recursive: true });
      const attacks: [Buffer, RegExp, (folder: string) => Promise<void>][] = [
        [bytes.subarray(0, ends[6]), /ends at row 7, and tile\/0\/000 was made for 256 rows/, async () => undefined],
        [bytes.subarray(0, ends[279]), /row 280, and tile\/0\/001.p\/44 .* 300 rows/, async () => undefined],
        [bytes.subarray(0, ends[279]! + 9), /row 280, and tile/, async () => undefined],
        [
          bytes.subarray(0, ends[6]),
          /tile\/1\/000.p\/1 .* 256/,
          async (to) => rm(join(to, "tile/0"), { recursive: true }),
        ],
        [Buffer.alloc(0), /ends at row 0/, async () => undefined],
        [rewritten, /rows are not those of tile\/0\/000/, async () => undefined],
        [
          bytes.subarray(0, ends[6]),
          /row 7, and a witness has cosigned it for 300/,
          async (to) => withoutTiles(to).then(() => cosign(to)),
        ],
        [rewritten, /first 300 rows .* cosigned/, async (to) => withoutTiles(to).then(() => cosign(to))],
      ];
      for (const [number, [rows, message, prepare]] of attacks.entries())
        for (const checkpoint of [null, "", "damaged\n"]) {
          const folder = join(at, `${number}-${checkpoint}`.trim());
          await cp(whole, folder, { recursive: true });
          await (checkpoint === null
            ? rm(join(folder, "checkpoint"))
            : writeFile(join(folder, "checkpoint"), checkpoint));
          await writeFile(join(folder, segment!), rows);
          await prepare(folder);
          const names = await readdir(folder, { recursive: true });
          await assert.rejects(openLog(folder), { code: "audit.corrupt", message, hint: /keep .*aside/ });
          assert.deepEqual(await readdir(folder, { recursive: true }), names);
          assert.deepEqual(await readFile(join(folder, segment!)), rows, "and nothing is changed");
        }
      const { logger, events } = listening();
      const folder = join(at, "cosigned");
      await mkdir(folder);
      await writeFile(join(folder, segment!), bytes);
      await cosign(folder);
      await (await openLog(folder, { logger, segmentBytesMax: 1_000_000 })).close();
      assert.deepEqual(
        events,
        ["audit.checkpoint.remade"],
        "rows that a witness's word holds are signed, and a warning says so",
      );
    }));

  test("is not signed anew where nothing that was signed says its rows, and goes on with a checkpoint that was kept", async () =>
    withFolder(async (at) => {
      const whole = join(at, "whole");
      const log = await openLog(whole);
      await append(log, 3);
      const [row] = await append(log, 1);
      await append(log, 5);
      await log.close();
      const withoutTiles = async (folder: string) => rm(join(folder, "tile"), { recursive: true });
      const damages: [string, (folder: string) => Promise<void>][] = [
        ["gone", async (folder) => rm(join(folder, "checkpoint"))],
        ["damaged", async (folder) => writeFile(join(folder, "checkpoint"), "")],
        ["all gone", async (folder) => rm(join(folder, "checkpoint")).then(async () => withoutTiles(folder))],
        [
          "cut, and all gone",
          async (folder) => {
            const segment = join(folder, "0000000000000001.log");
            const [second, third] = [...partsOf(await readFile(segment), "0000000000000001.log")].slice(1);
            assert.ok(third !== undefined);
            await writeFile(segment, (await readFile(segment)).subarray(0, second!.part.end));
            for (const name of ["checkpoint", "key"]) await rm(join(folder, name));
            await withoutTiles(folder);
          },
        ],
      ];
      for (const [name, damage] of damages) {
        const folder = join(at, name);
        await cp(whole, folder, { recursive: true });
        await damage(folder);
        const names = await readdir(folder, { recursive: true });
        for (const signer of [SIGNER, OTHER])
          await assert.rejects(
            openLog(folder, { signer }),
            { code: "audit.corrupt", message: /vouches/, hint: /each receipt ends with one/ },
            name,
          );
        assert.deepEqual(await readdir(folder, { recursive: true }), names, "and nothing is changed");
        // What the hint says: one of any age, here that of a receipt.
        await writeFile(join(folder, "checkpoint"), decodeProof(row!.receipt!.proof).checkpoint);
        if (name === "cut, and all gone") await assert.rejects(openLog(folder), { message: /row 2.*signed for 5/ });
        else await (await openLog(folder)).close();
      }
      assert.equal((await checkpointOf(join(at, "all gone"))).size, 10);
    }));

  test("takes no row before a checkpoint of it is on the disk for good, and goes on where a start ended before that", async () =>
    withFolder(async (folder) => {
      for (const fails of ["replace", "syncFolder"] as const) {
        const { logger, events } = listening();
        let failed = false;
        const treeDisk: typeof TREE_DISK = {
          ...TREE_DISK,
          async [fails](path: string, ...rest: [Uint8Array | string, boolean]) {
            if (path.endsWith("checkpoint") || path === folder) {
              failed = true;
              throw Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
            }
            await TREE_DISK[fails](path, ...rest);
          },
        };
        await assert.rejects(openLog(folder, { treeDisk, logger }), { code: "audit.io", message: /cannot be signed/ });
        assert.ok(failed, fails);
        assert.deepEqual(events, fails === "replace" ? [] : ["audit.checkpoint.remade"]);
        assert.deepEqual((await records(folder)).length, 1, "the row of the key");
      }
      const log = await openLog(folder);
      await append(log, 1);
      await log.close();
      assert.equal((await checkpointOf(folder)).size, 2);
    }));

  test("holds what an older key has signed where a start with the next one ended early", async () =>
    withFolder(async (folder) => {
      const log = await openLog(folder);
      await append(log, 4);
      await log.close();
      const checkpoint = await readFile(join(folder, "checkpoint"));
      const segment = join(folder, "0000000000000001.log");
      const rows = await readFile(segment);
      const parts = [...partsOf(rows, "0000000000000001.log")];
      await (await openLog(folder, { signer: OTHER })).close();
      // The row of the new key is there, and no checkpoint that it has signed.
      await writeFile(join(folder, "checkpoint"), checkpoint);
      const { logger, events } = listening();
      await (await openLog(folder, { signer: OTHER, logger })).close();
      assert.deepEqual(events, []);
      assert.equal((await checkpointOf(folder, OTHER)).size, 6);
      await writeFile(join(folder, "checkpoint"), checkpoint);
      // Rows that the older key has signed are gone, and the row of the next one follows.
      await writeFile(segment, rows.subarray(0, parts[3]!.part.end));
      await assert.rejects(openLog(folder, { signer: OTHER }), { message: /ends at row 4.*signed for 5/ });
    }));

  test("is left as it is when its end is cut within a row that was signed", async () =>
    withFolder(async (folder) => {
      const log = await openLog(folder);
      await append(log, 5);
      await log.close();
      const [segment] = (await readdir(folder)).filter((name) => name.endsWith(".log"));
      const cut = (await readFile(join(folder, segment!))).subarray(0, -7);
      await writeFile(join(folder, segment!), cut);
      const names = await readdir(folder);
      await assert.rejects(openLog(folder), { code: "audit.corrupt", message: /ends at row 5.*signed for 6/ });
      assert.deepEqual(await readdir(folder), names);
      assert.deepEqual(await readFile(join(folder, segment!)), cut);
    }));

  test("says its key in its first row, and a new one in a row that the new one signs", async () =>
    withFolder(async (folder) => {
      const first = await openLog(folder);
      await append(first, 1);
      await first.close();
      const second = await openLog(folder, { signer: OTHER });
      const [row] = await append(second, 1);
      await second.close();
      await (await openLog(folder, { signer: OTHER })).close();
      const bodies = (await records(folder)).map(({ envelope }) => envelope);
      const keys = bodies.filter((body) => body.kind === "log" && body.event === "key");
      assert.deepEqual(
        keys.map(({ sequence, key, before }) => ({ sequence, key, before })),
        [
          { sequence: 1, key: SIGNER.verifier.text, before: null },
          { sequence: 3, key: OTHER.verifier.text, before: SIGNER.verifier.text },
        ],
      );
      const [, , , last] = await records(folder);
      checkProof(leafOf(last!), decodeProof(row!.receipt!.proof), [OTHER.verifier]);
      assert.equal((await checkpointOf(folder, OTHER)).size, 4);
    }));

  test("answers rows also while its tiles cannot be written, says so, and writes them later", async () =>
    withFolder(async (folder) => {
      let full = false;
      const treeDisk: typeof TREE_DISK = {
        ...TREE_DISK,
        async replace(path, bytes, durable) {
          if (full) throw Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
          await TREE_DISK.replace(path, bytes, durable);
        },
      };
      const failed = Promise.withResolvers<void>();
      const { logger: listened, events } = listening();
      const logger: Logger = { ...listened, error: (event) => (listened.error(event), failed.resolve()) };
      const clock = new ManualClock();
      const log = await openLog(folder, { treeDisk, logger, clock });
      full = true;
      await append(log, 600);
      clock.advance(1000);
      await failed.promise;
      assert.ok(events.includes("audit.checkpoint.failed"));
      full = false;
      await append(log, 1);
      await log.close();
      const { size } = await checkpointOf(folder);
      assert.equal(size, 602);
      const again = await openLog(folder);
      await append(again, 1);
      await again.close();
      assert.equal((await readFile(join(folder, "tile/0/001"))).length, 256 * 32);
    }));

  test("killed at any moment opens again, and holds every receipt that was given", async () =>
    withFolder(async (folder) => {
      const at = (name: string) => JSON.stringify(join(import.meta.dirname, name));
      const program = `
        import { AuditLog } from ${at("audit-log.ts")};
        import { emptyRow } from ${at("row.ts")};
        import { noteSigner } from ${at("../core/note/signed-note.ts")};
        import { SYSTEM_CLOCK } from ${at("../base/system/clock.ts")};
        import { SILENT_LOGGER } from ${at("../base/log.ts")};
        const signer = noteSigner("x.example/worker/w1", Buffer.alloc(32, 1));
        const clock = { ...SYSTEM_CLOCK, wallMs: SYSTEM_CLOCK.wallMs, after: (ms, call) => SYSTEM_CLOCK.after(ms / 100, call) };
        const log = await AuditLog.open({ folder: process.argv[1], worker: "w1", clock, logger: SILENT_LOGGER, signer, segmentBytesMax: 50_000 });
        for (;;) {
          const rows = await Promise.all([1, 2, 3].map(() => log.append(emptyRow("w1"), ${JSON.stringify(BODY)})));
          for (const { sequence, receipt } of rows) process.stdout.write(JSON.stringify([sequence, receipt.proof]) + "\\n");
        }
      `;
      const argv = ["--input-type=module-typescript", "-e", program, folder];
      const receipts: [number, string][] = [];
      for (let round = 0; round < 4; round++) {
        const child = spawn(process.execPath, argv, { stdio: ["ignore", "pipe", "inherit"] });
        let heard = "";
        child.stdout.on("data", (part: Buffer) => {
          heard += part.toString();
          if (heard.length > 200_000 + round * 12_345) child.kill("SIGKILL");
        });
        await once(child, "close");
        for (const line of heard.split("\n").slice(0, -1)) receipts.push(JSON.parse(line) as [number, string]);
      }
      await (await openLog(folder)).close();
      const all = await records(folder);
      assert.ok(receipts.length > 500, `${receipts.length} receipts`);
      for (const [sequence, proof] of receipts)
        checkProof(leafOf(all[sequence - 1]!), decodeProof(proof), [SIGNER.verifier]);
    }));
});
