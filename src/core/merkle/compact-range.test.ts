import assert from "node:assert/strict";
import { test } from "node:test";
import { CompactRange } from "./compact-range.ts";
import { HASH_BYTES, leafHash } from "./hashes.ts";
import { TileTree } from "./tile-tree.ts";

test("it gives the root of every size, also after it was kept and restored", () => {
  const tree = new TileTree();
  let range = CompactRange.empty();
  assert.deepEqual(range.root(), tree.root());
  for (let size = 1; size <= 300; size++) {
    const leaf = leafHash(Buffer.from(`entry ${size}`));
    tree.append(leaf);
    range.append(leaf);
    assert.deepEqual(Buffer.from(range.root()), Buffer.from(tree.root()), `size ${size}`);
    range = CompactRange.restore(range.size, range.bytes());
    assert.equal(range.size, size);
  }
});

test("bytes of another size are refused", () => {
  const bytes = (hashes: number) => new Uint8Array(hashes * HASH_BYTES);
  for (const [size, hashes] of [
    [0, 0],
    [1, 1],
    [7, 3],
    [8, 1],
    [2 ** 52 + 1, 2],
  ] as const) {
    assert.equal(CompactRange.restore(size, bytes(hashes)).size, size);
    for (const wrong of [bytes(hashes + 1), bytes(hashes).subarray(1), Buffer.alloc(hashes * HASH_BYTES + 1)])
      if (wrong.length !== hashes * HASH_BYTES)
        assert.throws(() => CompactRange.restore(size, wrong), { code: "audit.corrupt" });
  }
  for (const size of [-1, 1.5, Number.NaN])
    assert.throws(() => CompactRange.restore(size, bytes(1)), { code: "audit.corrupt" });
});
