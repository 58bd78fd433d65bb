// What was compiled is found again by any of its hashes, by its tenant alone, and offline.
import assert from "node:assert/strict";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { TestWorker } from "../../../test/support/test-worker.ts";
import { decodeResultManifest } from "../../core/action/result-manifest.ts";
import { decodeSourceManifest, sourceDigest } from "../../core/action/source-manifest.ts";
import { digestHex, sha256 } from "../../core/digest/digest.ts";
import { inspectState, openState } from "./inspection.ts";

const NEVER = { signal: new AbortController().signal };
const HELLO = { path: "/hpcc/project/hello.c", content: "#warning hi\nint answer(void) { return 42; }\n" };
const OTHER = { path: "/hpcc/project/other.c", content: "int other;\n" };

test("a row, its key, source, result and blobs are found by any prefix, within the tenant", async (t) => {
  const at = await TestWorker.start(t);
  const client = await at.client();
  const job = await at.job({ files: [HELLO] });
  const compiled = await client.compile(job, NEVER);
  await client.compile(await at.job({ files: [HELLO] }), NEVER);
  await client.compile(await at.job({ files: [OTHER] }), NEVER);
  const [compile, hit] = await at.jobRows();
  const key = compile!.envelope.actionKey!;

  const row = await client.inspect(compiled.rowDigest);
  assert.deepEqual([row.kind, row.rows], ["row", [compiled.auditRow]]);
  assert.deepEqual(Buffer.from(row.sourceManifest), Buffer.from(job.manifest));
  const result = decodeResultManifest(row.resultManifest);
  assert.equal(result.outputs[0]!.digest, compiled.outputs[0]!.digest);

  const both = [hit!.line, compile!.line];
  const cases: [string, string][] = [
    [key, "action"],
    [sourceDigest(job.manifest), "source"],
    [compiled.resultDigest, "result"],
    [compiled.outputs[0]!.digest, "blob"],
    [result.stderr.digest, "blob"],
    [sha256(Buffer.from(HELLO.content)), "blob"],
  ];
  for (const [digest, kind] of cases)
    for (const hash of [digest, digestHex(digest as never), digestHex(digest as never).slice(0, 12)]) {
      const found = await client.inspect(hash);
      assert.deepEqual([found.kind, found.digest, found.rows], [kind, digest, both], `${kind} ${hash}`);
      assert.equal(decodeSourceManifest(found.sourceManifest).entries[0]!.path, HELLO.path);
    }

  await client.compile(await at.job({ files: [OTHER] }), NEVER);
  const offline = await inspectState(join(at.folder, "state"), digestHex(key).slice(0, 10));
  assert.deepEqual([offline.kind, offline.rows], ["action", both]);
  assert.equal(JSON.parse(offline.envelopes[0]!).kind, "hit");

  const stranger = await at.client("tenant/other/user/ann");
  for (const [digest] of cases) await assert.rejects(stranger.inspect(digest), { code: "hash.unknown" });
  await assert.rejects(client.inspect("0".repeat(64)), { code: "hash.unknown" });
  for (const bad of ["", "abc", "xyz", "sha256:", `${key}0`, "ABCDEF012345"])
    await assert.rejects(client.inspect(bad), { code: "argument.invalid" }, bad);
});

test("a folder that is no worker's state is refused, and stays as it is", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "hpcc-inspect-"));
  t.after(() => rm(folder, { recursive: true }));
  for (const state of [folder, join(folder, "nowhere")]) {
    await assert.rejects(inspectState(state, "12345678"), { code: "argument.invalid", message: /no state folder/ });
    await assert.rejects(openState(state), { code: "argument.invalid", message: /no state folder/ });
  }
  assert.deepEqual(await readdir(folder), []);
});

test("where two tenants have the same source and result, each finds his own rows alone", async (t) => {
  const at = await TestWorker.start(t);
  const clients = [await at.client("tenant/acme/user/ann"), await at.client("tenant/other/user/ann")];
  const job = await at.job({ files: [HELLO] });
  const results = [];
  for (const client of clients)
    results.push(
      await client.compile({ ...job, outputFolder: (await at.job({ files: [HELLO] })).outputFolder }, NEVER),
    );
  const [acme, other] = results;
  assert.equal(acme!.resultDigest, other!.resultDigest);
  const shared = [
    sourceDigest(job.manifest),
    acme!.resultDigest,
    acme!.outputs[0]!.digest,
    sha256(Buffer.from(HELLO.content)),
  ];
  for (const [index, client] of clients.entries())
    for (const digest of shared)
      assert.deepEqual((await client.inspect(digest)).rows, [results[index]!.auditRow], digest);
});
