// A copy of a log in which something else stands in a file's place: whoever reads it ends, in bounded memory, and says what is wrong.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { ManualClock } from "../base/clock.ts";
import { HpccError } from "../base/errors.ts";
import { SILENT_LOGGER } from "../base/log.ts";
import { exportTiles } from "../cli/audit-check.ts";
import { makeReport } from "../cli/audit-report.ts";
import { searchLog } from "../cli/audit-search.ts";
import { signedRows } from "../cli/row-progress.ts";
import { noteSigner } from "../core/note/signed-note.ts";
import { AuditLog } from "./audit-log.ts";
import { AuditIndex } from "./index/audit-index.ts";
import { proveRow } from "./prove-row.ts";
import { emptyRow } from "./row.ts";
import { LOG_START, SignedRows } from "./sink/signed-rows.ts";
import { verifyLog } from "./verify/verify-log.ts";
import { evidenceOfFolder } from "./verify-folder.ts";

const SIGNER = noteSigner("x.example/worker/w1", Buffer.alloc(32, 1));
const BODY = { kind: "policy", event: "in-force", startMs: 0, endMs: 0, digest: null, version: 1 } as const;
const SEGMENT = "0000000000000001.log";
const STUB = "pruned/0000000000000002-acme";
const SPARSE_BYTES = 1024 ** 4;

let root = "";
let good = "";

const openLog = async (folder: string) =>
  AuditLog.open({ folder, worker: "w1", clock: new ManualClock(), logger: SILENT_LOGGER, signer: SIGNER });
const openIndex = async (folder: string) =>
  AuditIndex.open({ folder, readManifest: async () => null, keep: true, warn: () => undefined });

before(async () => {
  root = mkdtempSync(join(tmpdir(), "hpcc-plain-"));
  good = join(root, "good");
  const log = await openLog(good);
  await Promise.all(Array.from({ length: 300 }, async () => log.append(emptyRow("w1"), BODY)));
  await log.close();
  const index = await openIndex(good);
  await index.catchUp();
  await index.close();
});
after(() => rmSync(root, { recursive: true, force: true }));

const ANY = {
  tenant: null,
  principal: null,
  kind: null,
  vm: null,
  build: null,
  image: null,
  source: null,
  output: null,
};

const READERS: Readonly<Record<string, (folder: string) => Promise<unknown>>> = {
  verify: async (folder) => {
    const { problems } = await verifyLog(await evidenceOfFolder(folder, { keys: [SIGNER.verifier] }));
    if (problems.length > 0) throw new HpccError("audit.corrupt", "it says what is wrong");
  },
  search: async (folder) =>
    searchLog(folder, {
      filter: { ...ANY, sinceMs: null, untilMs: null },
      format: "tsv",
      last: null,
      more: null,
      out: () => undefined,
    }),
  "search by the index": async (folder) =>
    searchLog(folder, {
      filter: { ...ANY, source: "0123456789", sinceMs: 0, untilMs: null },
      format: "tsv",
      last: null,
      more: null,
      out: () => undefined,
    }),
  prove: async (folder) => proveRow(folder, "7"),
  tiles: async (folder) => exportTiles(folder, mkdtempSync(join(root, "tiles-"))),
  sink: async (folder) => new SignedRows(folder, LOG_START, [SIGNER.verifier]).next(),
  report: async (folder) =>
    makeReport({
      logs: [folder],
      keys: [],
      checkpoints: [],
      reproduced: null,
      filter: { tenant: null, sinceMs: null, untilMs: null },
      linesMax: 50,
      nowMs: 0,
    }),
  progress: async (folder) => {
    if ((await signedRows(folder)) === null) throw new HpccError("audit.corrupt", "it knows of no rows");
  },
  start: async (folder) => (await openLog(folder)).close(),
};

const PLACES: Readonly<Record<string, readonly string[]>> = {
  [SEGMENT]: ["verify", "search", "prove", "tiles", "sink", "start"],
  checkpoint: ["verify", "search", "prove", "tiles", "sink", "progress", "start"],
  key: ["tiles", "start"],
  "tile/0/000": [],
  [STUB]: ["verify"],
  "witnessed/0123abcd": [],
  "index/state": [],
};

const KINDS: Readonly<Record<string, (path: string) => void>> = {
  "a pipe": (path) => assert.equal(spawnSync("mkfifo", [path]).status, 0),
  "a device without end": (path) => symlinkSync("/dev/zero", path),
  "a file of holes": (path) => {
    writeFileSync(path, "");
    truncateSync(path, SPARSE_BYTES);
  },
  "a folder": (path) => mkdirSync(path),
};

describe("in the place of a file of a log", () => {
  for (const [kind, make] of Object.entries(KINDS))
    for (const [place, fail] of Object.entries(PLACES))
      test(`${kind} as ${place} ends each reader`, { timeout: 60_000 }, async () => {
        for (const [name, read] of Object.entries(READERS)) {
          const folder = mkdtempSync(join(root, "copy-"));
          cpSync(good, folder, { recursive: true });
          rmSync(join(folder, place), { force: true });
          mkdirSync(dirname(join(folder, place)), { recursive: true });
          make(join(folder, place));
          const ended = await read(folder).then(
            () => null,
            (error: unknown) => error,
          );
          assert.ok(ended === null || ended instanceof HpccError, `${name}: ${String(ended)}`);
          if (fail.includes(name)) assert.ok(ended !== null, name);
          rmSync(folder, { recursive: true });
        }
      });

  test("all places are files of a log", () => {
    const names = readdirSync(good, { recursive: true }).map(String);
    for (const place of [SEGMENT, "checkpoint", "key", "tile/0/000", "index/state"])
      assert.ok(names.includes(place), place);
    assert.ok(
      names.some((name) => name.startsWith("index/")),
      names.join(),
    );
  });
});
