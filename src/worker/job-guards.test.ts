// What a job may not do, and what of it is kept: limits of sources and outputs, the VM that it may have, the blobs that rows need.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { type TestFile, TestWorker } from "../../test/support/test-worker.ts";
import { byteStringOfText } from "../base/byte-string.ts";
import { encodeSourceManifest, SOURCE_MANIFEST_BYTES_MAX, sourceManifest } from "../core/action/source-manifest.ts";
import { type Digest, digestHex, sha256 } from "../core/digest/digest.ts";
import { parseTrustDomain } from "../core/identity/spiffe.ts";
import { DEADLINE_MS_MAX } from "../wire/worker/limits.ts";
import { stateFolders } from "./state-folders.ts";

const NEVER = { signal: new AbortController().signal };
const EXECUTION = { wallMs: 60_000, memoryBytes: 2 ** 30, pids: 64, outputBytes: 4_096, stdioBytes: 4_096 };
const LIMITS = { blobBytesMax: 200_000, sourceBytesMax: 300_000, execution: EXECUTION };
const CAT = ["/bin/sh", "-c", "cat /hpcc/project/* > /hpcc/out/object.o"];
const file = (name: string, content: TestFile["content"]): TestFile => ({ path: `/hpcc/project/${name}`, content });

function stored(at: TestWorker, area: "kept" | "cache", digest: Digest): boolean {
  const hex = digestHex(digest);
  return existsSync(join(stateFolders(join(at.folder, "state")).store, "acme", area, hex.slice(0, 2), hex));
}

describe("a job beyond a limit", () => {
  for (const [what, files] of [
    ["a file that is too large", [file("a", randomBytes(200_001))]],
    ["files that are too large together", [1, 2, 3].map((at) => file(`${at}`, randomBytes(150_000)))],
  ] as const)
    test(`of its source is refused before anything is asked for: ${what}`, async (t) => {
      const at = await TestWorker.start(t, { limits: LIMITS });
      const client = await at.client();
      await assert.rejects(client.compile(await at.job({ files, argv: CAT }), NEVER), { code: "limit.exceeded" });
      assert.deepEqual([at.sent, at.pool.executions], [[], 0]);
      assert.equal((await at.jobRows())[0]?.envelope.kind, "denied");
    });

  test("of the source's manifest or of time is refused, and so is one that lies about a size", async (t) => {
    const at = await TestWorker.start(t, { limits: LIMITS });
    const client = await at.client();
    const good = await at.job({ files: [file("a", "int a;\n")], argv: CAT });
    const digest = sha256(Buffer.from("int a;\n"));
    const entry = (name: string, size: number) =>
      ({ kind: "file", path: byteStringOfText(`/hpcc/project/${name}`), mode: 0o644, digest, size }) as const;
    const twoSizes = encodeSourceManifest(sourceManifest("files", [entry("a", 7), entry("b", 8)]));
    for (const [job, code] of [
      [{ ...good, manifest: Buffer.alloc(SOURCE_MANIFEST_BYTES_MAX + 1) }, "limit.exceeded"],
      [{ ...good, manifest: twoSizes }, "argument.invalid"],
      [{ ...good, deadlineMs: DEADLINE_MS_MAX + 1 }, "argument.invalid"],
    ] as const)
      await assert.rejects(client.compile(job, NEVER), { code });
    assert.deepEqual([at.sent, at.pool.executions], [[], 0]);
  });
  test("of its row is kept within it: long flags and the longest names of outputs still leave a row", async (t) => {
    const at = await TestWorker.start(t);
    const client = await at.client();
    const good = await at.job({
      files: [file("a", "int a;\n")],
      argv: ["/bin/sh", "-c", `: ${"y".repeat(40_000)}; exit 3`],
    });
    const output = (name: string) =>
      ({ path: byteStringOfText(`/hpcc/out/${name}`), kind: "dump", required: false }) as const;
    const named = (length: number) =>
      ["\u0001", "\u0002"].map((letter) => output(`${letter.repeat(200)}/`.repeat(length) + letter));
    const job = (length: number) => ({ ...good, action: { ...good.action, outputs: named(length) } });
    assert.equal((await client.compile(job(15), NEVER)).exitCode, 3);
    await assert.rejects(client.compile(job(16), NEVER), { code: "argument.invalid" });
    const rows = await at.jobRows();
    assert.deepEqual(
      rows.map(({ envelope, row }) => [envelope.kind, row.flags?.startsWith("sha256:")]),
      [
        ["compile", true],
        ["denied", undefined],
      ],
    );
    assert.ok(at.worker.stats().jobs.unrecorded === 0);
  });

  for (const [what, script] of [
    ["an output", "head -c 5000 /dev/zero > /hpcc/out/object.o"],
    ["stdout", "touch /hpcc/out/object.o; head -c 5000 /dev/zero"],
    ["stderr", "touch /hpcc/out/object.o; head -c 5000 /dev/zero >&2"],
  ])
    test(`of ${what} fails, whatever the guest let through`, async (t) => {
      const at = await TestWorker.start(t, { limits: LIMITS });
      const client = await at.client();
      const job = await at.job({ files: [file("a", "x")], argv: ["/bin/sh", "-c", script!] });
      await assert.rejects(client.compile(job, NEVER), { code: "limit.exceeded" });
      assert.equal((await at.jobRows())[0]?.envelope.kind, "failed");
    });
});

test("a user of another trust domain is no client, whatever the CA signed", async (t) => {
  const at = await TestWorker.start(t, { trustDomain: parseTrustDomain("elsewhere.example") });
  await assert.rejects(at.client(), { code: "identity.forbidden" });
});

test("a source that lies about the size of a blob which is here already fails", async (t) => {
  const at = await TestWorker.start(t);
  const client = await at.client();
  const good = await at.job({ files: [file("a", "int a;\n")], argv: CAT });
  await client.compile(good, NEVER);
  const entry = {
    kind: "file",
    path: byteStringOfText("/hpcc/project/a"),
    mode: 0o644,
    digest: sha256(Buffer.from("int a;\n")),
  } as const;
  const manifest = encodeSourceManifest(sourceManifest("files", [{ ...entry, size: 8 }]));
  await assert.rejects(client.compile({ ...good, manifest }, NEVER), { code: "store.corrupt" });
});

test("a job runs in a VM of its own tenant, user and image", async (t) => {
  const at = await TestWorker.start(t);
  for (const who of ["tenant/acme/user/ann", "tenant/acme/user/bob", "tenant/other/user/ann"]) {
    const job = await at.job({ files: [file("a", "x")], argv: CAT });
    await (await at.client(who)).compile(job, NEVER);
    const key = at.pool.keys.at(-1)!;
    assert.equal(`tenant/${key.tenant}/user/${key.user}`, who);
    assert.equal(key.image, job.action.imageDigest);
  }
});

test("what a row needs is kept: source, its manifest and the result's; what can be made again is not", async (t) => {
  const at = await TestWorker.start(t);
  const client = await at.client();
  const [small, large] = [randomBytes(1_000), randomBytes(400_000)];
  const job = await at.job({ files: [file("a", small), file("b", large)], argv: CAT });
  const result = await client.compile(job, NEVER);
  const object = Buffer.concat([small, large]);
  assert.deepEqual(await readFile(result.outputs[0]!.file), object);
  for (const bytes of [small, large, job.manifest]) assert.ok(stored(at, "kept", sha256(bytes)));
  assert.ok(stored(at, "kept", result.resultDigest));
  assert.deepEqual([stored(at, "kept", sha256(object)), stored(at, "cache", sha256(object))], [false, true]);
  // As a source the same bytes are needed for longer, and are asked for although they are in the cache.
  await client.compile(await at.job({ files: [file("c", object)], argv: CAT }), NEVER);
  assert.ok(at.sent.includes(sha256(object)));
  assert.ok(stored(at, "kept", sha256(object)));
});
