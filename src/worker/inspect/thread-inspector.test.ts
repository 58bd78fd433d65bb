// Questions to the thread: bounded, each with a deadline, and a thread that is gone is begun again.
import assert from "node:assert/strict";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { AuditLog } from "../../audit/audit-log.ts";
import { emptyRow } from "../../audit/row.ts";
import { ManualClock } from "../../base/clock.ts";
import type { HpccError } from "../../base/errors.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { parseTenantId } from "../../core/identity/spiffe.ts";
import { stateFolders } from "../state-folders.ts";
import { ThreadInspector } from "./thread-inspector.ts";

const ACME = parseTenantId("acme");
const UNKNOWN = "0".repeat(64);

async function opened(t: TestContext) {
  const state = await mkdtemp(join(tmpdir(), "hpcc-inspect-"));
  const folders = stateFolders(state);
  const clock = new ManualClock();
  const log = await AuditLog.open({ folder: folders.audit, worker: "w1", clock, logger: SILENT_LOGGER });
  const append = async (version: number) =>
    log.append(
      { ...emptyRow("w1"), durationUs: version },
      { kind: "policy", event: "in-force", startMs: 0, endMs: 0, digest: null, version },
    );
  const warned: string[] = [];
  const logger = { ...SILENT_LOGGER, error: (event: string) => void warned.push(event) };
  const inspector = new ThreadInspector({ folders, durable: () => log.sequence, clock, logger });
  t.after(async () => {
    await inspector.close();
    await log.close();
    await rm(state, { recursive: true });
  });
  return { folders, clock, log, append, inspector, warned };
}

const codeOf = (error: unknown) => (error as HpccError).code;

test("rows are found as soon as they are durable, and are in the index on disk when the worker has ended", async (t) => {
  const { folders, append, inspector, log } = await opened(t);
  for (let version = 1; version <= 3; version++) {
    const { digest, line } = await append(version);
    assert.deepEqual((await inspector.find(digest, null)).rows, [line]);
    await assert.rejects(inspector.find(digest, ACME), { code: "hash.unknown" });
  }
  await assert.rejects(inspector.find("x", ACME), { code: "argument.invalid" });
  await inspector.close();
  assert.deepEqual((await readdir(join(folders.audit, "index"))).filter((name) => name.endsWith(".run")).length, 1);
  await assert.rejects(inspector.find(UNKNOWN, null), { code: "peer.unavailable" });
  assert.equal(log.failure, null);
});

test("of many questions at once some are refused: of all, and of one tenant sooner", async (t) => {
  const { inspector } = await opened(t);
  const ask = async (tenant: string) => inspector.find(UNKNOWN, parseTenantId(tenant)).then(() => "found", codeOf);
  const own = await Promise.all(Array.from({ length: 40 }, () => ask("acme")));
  assert.deepEqual([own.filter((code) => code === "hash.unknown").length, own.at(-1)], [32, "limit.exceeded"]);
  const all = await Promise.all(Array.from({ length: 300 }, (_, at) => ask(`t${at % 20}`)));
  assert.deepEqual([all.filter((code) => code === "hash.unknown").length, all.at(-1)], [256, "limit.exceeded"]);
});

test("a question that is not answered in time ends, and later ones are answered", async (t) => {
  const { inspector, clock, append } = await opened(t);
  const late = [1, 2].map(async () => inspector.find(UNKNOWN, ACME).catch(codeOf));
  clock.advance(10_000);
  assert.deepEqual(await Promise.all(late), ["peer.deadline", "peer.deadline"]);
  const { digest, line } = await append(1);
  assert.deepEqual((await inspector.find(digest, null)).rows, [line]);
});

test("where the index cannot be written questions fail, and rows do not", async (t) => {
  const { inspector, append, folders } = await opened(t);
  await rm(folders.audit, { recursive: true });
  await assert.rejects(inspector.find(UNKNOWN, ACME), (error) => ["hash.unknown", "audit.io"].includes(codeOf(error)));
  assert.equal((await append(1)).sequence, 1);
});
