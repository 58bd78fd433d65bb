// Revocations of a running worker: asked, told by a peer, told on; the row that each leaves, and who had been served.
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { TEST_IMAGE, TestWorker } from "../../test/support/test-worker.ts";
import { readLog } from "../audit/read-log.ts";
import type { BodyOfKind } from "../audit/rows/bodies.ts";
import { parseTenantId } from "../core/identity/spiffe.ts";
import { CLOCK_SKEW_MS_MAX } from "../core/revocation.ts";
import type { ToldRevocation } from "./revocations.ts";
import { stateFolders } from "./state-folders.ts";

const NEVER = { signal: new AbortController().signal };
const source = (name: string) => ({ files: [{ path: `/hpcc/project/${name}.c`, content: `int ${name};\n` }] });
const ACME = parseTenantId("acme");

async function compile(at: TestWorker, name: string, user?: string): Promise<string> {
  const client = await at.client(user);
  return (await client.compile(await at.job(source(name)), NEVER)).outcome;
}

async function revokeRows(at: TestWorker) {
  const rows: BodyOfKind<"revoke">[] = [];
  for await (const { record } of readLog(stateFolders(join(at.folder, "state")).audit))
    if (record.envelope.kind === "revoke") rows.push(record.envelope);
  return rows;
}

test("what another worker told is revoked here, bounded in time, with a row that names it, once", async (t) => {
  const at = await TestWorker.start(t);
  assert.equal(await compile(at, "a"), "compiled");
  assert.equal(await compile(at, "a"), "hit");
  const { revocations } = at.worker;
  const told = { tenant: ACME, revocation: { kind: "image", value: TEST_IMAGE, atMs: Date.now() + 1e9 } } as const;
  assert.equal(await revocations.apply(told, "w2"), true);
  assert.equal(await revocations.apply({ ...told, revocation: { ...told.revocation, atMs: 5 } }, "w2"), false);
  assert.equal(await compile(at, "a"), "compiled", "it is made anew, however far ahead the other clock is");
  assert.equal(await compile(at, "a"), "hit");
  await at.stop();
  const [row, ...more] = await revokeRows(at);
  assert.equal(more.length, 0);
  assert.deepEqual([row?.what, row?.cause, row?.askedBy, row?.entries], ["image", "peer", "w2", 1]);
  assert.ok(row!.upToMs! <= Date.now() + CLOCK_SKEW_MS_MAX);
});

test("what a peer tells is checked", async (t) => {
  const { revocations } = (await TestWorker.start(t)).worker;
  for (const revocation of [
    { kind: "image", value: "latest", atMs: 1 },
    { kind: "vm", value: "../vm", atMs: 1 },
    { kind: "key", value: TEST_IMAGE, atMs: Number.NaN },
    { kind: "principal", value: "spiffe://test.example/worker/w1", atMs: -1 },
  ] as const)
    await assert.rejects(revocations.apply({ tenant: null, revocation }, "w2"), { code: "argument.invalid" });
});

test("who follows the feed hears of all after a sequence, and of each as it comes, also from a worker that starts again", async (t) => {
  const at = await TestWorker.start(t);
  const vm = (value: string) => ({ tenant: ACME, revocation: { kind: "vm", value, atMs: 1 } }) as const;
  await at.worker.revocations.apply(vm("vm-1"), "w2");
  const stop = new AbortController();
  const heard: ToldRevocation[] = [];
  const feed = at.worker.revocations.since(0, stop.signal)[Symbol.asyncIterator]();
  heard.push((await feed.next()).value);
  const next = feed.next();
  await at.worker.revocations.apply(vm("vm-2"), "w2");
  heard.push((await next).value);
  stop.abort();
  assert.equal((await feed.next()).done, true);
  assert.deepEqual(
    heard.map(({ tenant, revocation }) => [tenant, revocation.value]),
    [
      ["acme", "vm-1"],
      ["acme", "vm-2"],
    ],
  );
  await at.stop();
  const again = await TestWorker.start(t, {}, {}, at.folder);
  const rest = again.worker.revocations.since(heard[0]!.sequence, NEVER.signal)[Symbol.asyncIterator]();
  assert.deepEqual((await rest.next()).value, heard[1]);
  await rest.return?.();
});
