// What is an answer to a look-up and what is not: the entry's isolation and life, and that all its blobs are there as it says.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { encodeResultManifest, type ResultManifest } from "../core/action/result-manifest.ts";
import { sha256 } from "../core/digest/digest.ts";
import { ISOLATIONS } from "../core/isolation.ts";
import { LIVES } from "../core/life.ts";
import { memoryStore } from "../store/memory/memory-store.ts";
import { lookUp, openResult } from "./cached-result.ts";

const KEY = sha256(Buffer.from("key"));
const OBJECT = Buffer.from("object");
const EMPTY = { digest: sha256(new Uint8Array()), size: 0 };

const MADE = {
  compileUs: 1,
  vm: "vm-1",
  worker: "w1",
  principal: "spiffe://example.com/tenant/acme/user/ann",
  image: sha256(Buffer.from("image")),
  row: null,
  madeMs: 1,
  confirmedBy: null,
  statement: null,
};

async function stored(changes: Partial<ResultManifest> = {}) {
  const store = memoryStore();
  const ref = await store.blobs.putBytes(OBJECT, "cache", OBJECT.length);
  const manifest: ResultManifest = {
    exitCode: 0,
    outputs: [{ index: 0, kind: "object", executable: false, ...ref }],
    stdout: EMPTY,
    stderr: EMPTY,
    ...changes,
  };
  return { store, manifest };
}

describe("a cached result", () => {
  for (const [made, isolation] of ISOLATIONS.entries())
    for (const [wanted, isolationMin] of ISOLATIONS.entries())
      test(`of ${isolation} ${made >= wanted ? "answers" : "is no answer to"} a job that asks for ${isolationMin}`, async () => {
        const { store, manifest } = await stored();
        const result = encodeResultManifest(manifest);
        await store.actions.put(KEY, { ...MADE, result, isolation, life: "clean" });
        const found = await lookUp(KEY, { isolationMin, life: "session" }, store);
        assert.equal(found !== null, made >= wanted);
        assert.equal(found?.recorded.origin.isolation ?? isolation, isolation);
        await found?.close();
      });

  test("of a session is no answer to who wants clean ones; the other way round it is", async () => {
    const { store, manifest } = await stored();
    const result = encodeResultManifest(manifest);
    const found: string[] = [];
    for (const life of LIVES)
      for (const wanted of LIVES) {
        await store.actions.put(KEY, { ...MADE, result, isolation: "firecracker", life });
        const answer = await lookUp(KEY, { isolationMin: "firecracker", life: wanted }, store);
        if (answer !== null) found.push(`${life} for ${wanted}`);
        await answer?.close();
      }
    assert.deepEqual(found, ["session for session", "clean for session", "clean for clean"]);
  });

  test("is none when a blob is gone, or is not as large as it says", async () => {
    const { store, manifest } = await stored();
    const [output] = manifest.outputs;
    const missing = { digest: sha256(Buffer.from("gone")), size: 4 };
    const origin = { ...MADE, isolation: "firecracker", life: "clean", versions: {} } as const;
    for (const changed of [
      { ...manifest, outputs: [{ ...output!, ...missing }] },
      { ...manifest, stderr: missing },
      { ...manifest, outputs: [{ ...output!, size: OBJECT.length + 1 }] },
    ])
      assert.equal(await openResult({ manifest: changed, resultDigest: KEY, origin }, store.blobs), null);
    const whole = await openResult({ manifest, resultDigest: KEY, origin }, store.blobs);
    assert.equal(whole?.parts.length, 3);
    await whole?.close();
  });
});
