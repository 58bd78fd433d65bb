// Lives of VMs as policy, cache, rows and answers have them.
import assert from "node:assert/strict";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { TestWorker } from "../../test/support/test-worker.ts";
import { printInspection } from "../cli/inspect.ts";
import { fixedPolicies } from "../core/tenant-policy.ts";

const NEVER = { signal: new AbortController().signal };
const HELLO = { path: "/hpcc/project/hello.c", content: "int answer(void) { return 42; }\n" };
const OTHER = { path: "/hpcc/project/other.c", content: "int other;\n" };
const CLEAN = fixedPolicies(new Map([["acme", { life: "clean" }]]));
const EVE = "tenant/other/user/eve";

test("each tenant's jobs live as its policy says, and answers, rows and inspect say which life it was", async (t) => {
  const at = await TestWorker.start(t, {}, { policies: CLEAN });
  const [ann, eve] = [await at.client(), await at.client(EVE)];
  for (const [client, life] of [
    [ann, "clean"],
    [eve, "session"],
  ] as const) {
    const compiled = await client.compile(await at.job({ files: [HELLO] }), NEVER);
    const hit = await client.compile(await at.job({ files: [HELLO] }), NEVER);
    assert.deepEqual([compiled.outcome, compiled.life, hit.outcome, hit.life], ["compiled", life, "hit", life]);
    const printed = printInspection(await client.inspect(hit.rowDigest));
    assert.match(printed, new RegExp(`^life +${life}$`, "m"));
  }
  const rows = await at.rows();
  assert.deepEqual(
    rows.map(({ row, envelope }) => [row.tenant, envelope.kind, envelope.life]),
    [
      ["acme", "vm", "clean"],
      ["acme", "compile", "clean"],
      ["acme", "hit", "clean"],
      ["other", "vm", "session"],
      ["other", "compile", "session"],
      ["other", "hit", "session"],
    ],
  );
});

test("the pool is told whose golden snapshot a tenant's VMs may come from", async (t) => {
  const at = await TestWorker.start(t, {}, { policies: fixedPolicies(new Map([["acme", { golden: "own" }]])) });
  for (const client of [await at.client(), await at.client(EVE)])
    await client.compile(await at.job({ files: [HELLO] }), NEVER);
  assert.deepEqual(
    at.pool.keys.map(({ tenant, golden }) => `${tenant} ${golden}`),
    ["acme own", "other shared"],
  );
});

test("two clean jobs name two VMs, two of a session one", async (t) => {
  const at = await TestWorker.start(t, {}, { policies: CLEAN });
  for (const [client, vms] of [
    [await at.client(), 2],
    [await at.client(EVE), 1],
  ] as const) {
    for (const file of [HELLO, OTHER]) await client.compile(await at.job({ files: [file] }), NEVER);
    const rows = (await at.jobRows()).slice(-2);
    assert.equal(new Set(rows.map(({ row }) => row.vm)).size, vms);
  }
});

test("a session's result is no answer once the policy is clean, but a clean one is for sessions", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "hpcc-lives-"));
  const outcomes: string[] = [];
  for (const policies of [fixedPolicies(), CLEAN, CLEAN, fixedPolicies()]) {
    const at = await TestWorker.start(t, {}, { policies }, folder);
    const client = await at.client();
    const { outcome, life } = await client.compile(await at.job({ files: [HELLO] }), NEVER);
    outcomes.push(`${outcome} ${life}`);
    await at.stop();
  }
  assert.deepEqual(outcomes, ["compiled session", "compiled clean", "hit clean", "hit clean"]);
});
