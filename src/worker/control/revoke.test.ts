// `hpcc worker revoke`: by the running worker's control socket, or on the folder of one that does not run.
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { TEST_IMAGE, TestWorker } from "../../../test/support/test-worker.ts";
import { ManualClock } from "../../base/clock.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { SYSTEM_CLOCK } from "../../base/system/clock.ts";
import { askControl, ControlServer } from "./control-socket.ts";
import { type RevokeRequest, revokeResults } from "./revoke-request.ts";

const NEVER = { signal: new AbortController().signal };
const ON = { clock: SYSTEM_CLOCK, logger: SILENT_LOGGER };
const source = (name: string) => ({ files: [{ path: `/hpcc/project/${name}.c`, content: `int ${name};\n` }] });
const ANN = "spiffe://test.example/tenant/acme/user/ann";
const ASKED = { tenant: null, askedBy: "root (uid 0)" } as const;
const state = (at: TestWorker) => join(at.folder, "state");

async function compile(at: TestWorker, name: string, user?: string): Promise<string> {
  const client = await at.client(user);
  return (await client.compile(await at.job(source(name)), NEVER)).outcome;
}

async function compiled(t: TestContext) {
  const at = await TestWorker.start(t);
  for (const name of ["a", "a", "b"]) await compile(at, name);
  await compile(at, "a", "tenant/acme/user/bob");
  await compile(at, "a", "tenant/other/user/eve");
  const rows = await at.jobRows();
  const principal = rows[0]!.envelope.principal!;
  return { at, rows, principal, key: rows[0]!.envelope.actionKey!, vm: rows[0]!.row.vm! };
}

test("each kind takes back what it names and nothing else, tells who had been served, and leaves a row", async (t) => {
  const { at, rows, principal, key, vm } = await compiled(t);
  const tries: [Partial<RevokeRequest>, number, number][] = [
    [{ kind: "key", value: key }, 1, 2],
    [{ kind: "key", value: key }, 0, 2],
    [{ kind: "principal", value: principal }, 1, 3],
    [{ kind: "image", value: TEST_IMAGE, tenant: "other" }, 1, 1],
    [{ kind: "image", value: TEST_IMAGE }, 1, 5],
    [{ kind: "vm", value: vm }, 0, 3],
  ];
  for (const [request, entries, served] of tries) {
    const report = await revokeResults(state(at), { ...ASKED, ...request } as RevokeRequest, ON);
    assert.deepEqual([report.by, report.entries, report.served.total], ["worker", entries, served], request.kind);
  }
  const { served } = await revokeResults(state(at), { ...ASKED, kind: "key", value: key }, ON);
  assert.deepEqual(
    served.rows.map(({ row, kind, principal: who }) => [row, kind, who]),
    rows.slice(0, 2).map(({ digest, envelope }) => [digest, envelope.kind, principal]),
  );
  assert.deepEqual(at.pool.retired, [vm]);
  for (const user of ["ann", "bob"]) assert.equal(await compile(at, "a", `tenant/acme/user/${user}`), "compiled");
  await at.stop();
  const notes = (await at.rows()).map(({ envelope }) => envelope.note);
  assert.ok(notes.includes(`results taken back: 1 of image ${TEST_IMAGE} (operator)`), notes.join("\n"));
});

test("without a worker the command works on the folder itself, and the worker that starts later knows", async (t) => {
  const { at, key } = await compiled(t);
  await at.stop();
  const report = await revokeResults(state(at), { ...ASKED, kind: "key", value: key }, ON);
  assert.deepEqual([report.by, report.entries, report.served.total], ["folder", 1, 2]);
  const again = await TestWorker.start(t, {}, {}, at.folder);
  assert.equal(await compile(again, "a"), "compiled");
  assert.equal(await compile(again, "b"), "hit");
  await again.stop();
  const rows = (await again.rows()).filter(({ envelope }) => envelope.kind === "revoke");
  assert.deepEqual(
    rows.map(({ row, envelope }) => [row.worker, envelope.note]),
    [["w1", `results taken back: 1 of key ${key} (operator)`]],
  );
});

test("what cannot be revoked is said clearly", async (t) => {
  const at = await TestWorker.start(t);
  const folder = await mkdtemp(join(tmpdir(), "hpcc-state-"));
  t.after(() => rm(folder, { recursive: true }));
  const ask = (request: Partial<RevokeRequest>, where = state(at)) =>
    revokeResults(where, { ...ASKED, kind: "vm", value: "vm-1", ...request }, ON);
  await assert.rejects(ask({}, folder), { code: "argument.invalid", message: /no state folder of a worker/ });
  await assert.rejects(ask({}, join(folder, "none")), { code: "argument.invalid", message: /no folder/ });
  await assert.rejects(ask({ kind: "image", value: "latest" }), {
    code: "argument.invalid",
    message: /sha256: and 64/,
  });
  await assert.rejects(ask({ kind: "principal", value: ANN, tenant: "other" }), {
    message: /tenant acme, not of other/,
  });
  await assert.rejects(askControl(state(at), { command: "stop" }), { message: /knows revoke, prune/ });
  await assert.rejects(TestWorker.start(t, {}, {}, at.folder), { message: /another process uses the state folder/ });
});

test("the socket is the worker's user's alone, and neither rubbish nor silence holds it", async (t) => {
  const stateFolder = join(await mkdtemp(join(tmpdir(), "hpcc-control-")), "s".repeat(100));
  await mkdir(stateFolder);
  t.after(() => rm(stateFolder, { recursive: true, force: true }));
  // What a killed worker left.
  await writeFile(join(stateFolder, "control.sock"), "");
  const clock = new ManualClock();
  const handle = async (request: unknown) => ({ request });
  const control = await ControlServer.listen({ stateFolder, handle, clock, logger: SILENT_LOGGER });
  t.after(() => control.close());
  assert.equal((await stat(join(stateFolder, "control.sock"))).mode & 0o777, 0o600);
  assert.deepEqual(await askControl(stateFolder, { a: 1 }), { request: { a: 1 } });
  await assert.rejects(askControl(stateFolder, { a: "x".repeat(100_000) }), { code: /peer/ });
  await control.close();
  assert.equal(await askControl(stateFolder, { a: 1 }), null);
});
