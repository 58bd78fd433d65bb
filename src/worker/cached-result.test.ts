// What is an answer to a look-up and what is not: the entry's isolation and life, and that all its blobs are there as it says.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { encodeResultManifest, type ResultManifest } from "../core/action/result-manifest.ts";
import { sha256 } from "../core/digest/digest.ts";
import { ISOLATIONS, isolationAtLeast } from "../core/isolation.ts";
import { LIVES } from "../core/life.ts";
import { memoryStore } from "../store/memory/memory-store.ts";
import { lookUp, openResult, putUnlessOutranked } from "./cached-result.ts";

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
  for (const isolation of ISOLATIONS)
    for (const isolationMin of ISOLATIONS)
      test(`of ${isolation} ${isolationAtLeast(isolation, isolationMin) ? "answers" : "is no answer to"} a job that asks for ${isolationMin}`, async () => {
        const { store, manifest } = await stored();
        const result = encodeResultManifest(manifest);
        await store.actions.put(KEY, { ...MADE, result, isolation, life: "clean" });
        const found = await lookUp(KEY, { isolationMin, life: "session" }, store);
        assert.equal(found !== null, isolationAtLeast(isolation, isolationMin));
        assert.equal(found?.result.recorded.origin.isolation ?? isolation, isolation);
        await found?.result.close();
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
        await answer?.result.close();
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

test("a warm result that a clean VM has confirmed counts as clean, and says who confirmed it", async () => {
  const { store, manifest } = await stored();
  const action = {
    ...MADE,
    result: encodeResultManifest(manifest),
    isolation: "firecracker",
    life: "session",
  } as const;
  const wanted = { isolationMin: "firecracker", life: "clean" } as const;
  await store.actions.put(KEY, action);
  assert.equal(await lookUp(KEY, wanted, store), null);
  const confirmed = { ...action, confirmedBy: "vm-2", row: KEY };
  assert.equal(await putUnlessOutranked(store, KEY, confirmed), true);
  const found = await lookUp(KEY, wanted, store);
  assert.deepEqual(found?.provenance, { from: "w1", compiledRow: KEY, confirmedBy: "vm-2" });
  await found?.result.close();
  assert.equal(await putUnlessOutranked(store, KEY, action), false, "the unconfirmed one does not take its place");
});

describe("a result that is put where another is", () => {
  for (const isolation of ISOLATIONS)
    for (const life of LIVES)
      for (const newIsolation of ISOLATIONS)
        for (const newLife of LIVES)
          test(`${newIsolation} ${newLife} over ${isolation} ${life}: no job loses an answer to a worse one`, async () => {
            const { store, manifest } = await stored();
            const result = encodeResultManifest(manifest);
            await store.actions.put(KEY, { ...MADE, result, isolation, life });
            const put = await putUnlessOutranked(store, KEY, {
              ...MADE,
              result,
              isolation: newIsolation,
              life: newLife,
              vm: "vm-2",
            });
            const better = isolationAtLeast(isolation, newIsolation) && (life === "clean" || newLife === "session");
            const same = isolationAtLeast(newIsolation, isolation) && life === newLife;
            assert.equal(put, !better || same);
            const found = await store.actions.get(KEY);
            assert.equal(found.kind === "hit" && found.action.vm, put ? "vm-2" : "vm-1");
          });

  test("takes its place when the better one is an answer no more", async () => {
    const { store, manifest } = await stored();
    const gone = { ...manifest, stderr: { digest: sha256(Buffer.from("gone")), size: 4 } };
    const strong = { ...MADE, isolation: "firecracker", life: "clean" } as const;
    await store.actions.put(KEY, { ...strong, result: encodeResultManifest(gone) });
    const weak = { ...MADE, isolation: "qemu-tcg", life: "session", vm: "vm-2" } as const;
    assert.equal(await putUnlessOutranked(store, KEY, { ...weak, result: encodeResultManifest(manifest) }), true);
  });
});
