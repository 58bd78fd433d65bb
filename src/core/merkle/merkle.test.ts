// Roots, proofs and tiles, against the definitions of RFC 6962 written down again without any thought of speed.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { EMPTY_ROOT, leafHash } from "./hashes.ts";
import { consistencyProof, type HashAt, inclusionProof, isConsistent, rootOf, rootOfInclusion } from "./proof.ts";
import { edgeTiles, type TileBytes, TileTree, tilePath } from "./tile-tree.ts";

const hash = (...parts: Uint8Array[]) => createHash("sha256").update(Buffer.concat(parts)).digest();
const entry = (i: number) => Buffer.from(`entry ${i}`);
const leaves = (n: number) => Array.from({ length: n }, (_, i) => leafHash(entry(i)));

/** MTH of RFC 6962, section 2.1. */
function mth(entries: readonly Buffer[]): Buffer {
  if (entries.length === 0) return hash();
  if (entries.length === 1) return hash(Buffer.of(0), entries[0]!);
  const k = 2 ** Math.floor(Math.log2(entries.length - 1));
  return hash(Buffer.of(1), mth(entries.slice(0, k)), mth(entries.slice(k)));
}

const entries = (n: number) => Array.from({ length: n }, (_, i) => entry(i));
const hashAt: HashAt = (level, index) =>
  mth(Array.from({ length: 2 ** level }, (_, i) => entry(index * 2 ** level + i)));
const hex = (bytes: Uint8Array | null) => bytes && Buffer.from(bytes).toString("hex");

test("vectors of RFC 6962 as other logs publish them", () => {
  assert.equal(hex(EMPTY_ROOT), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  assert.equal(hex(leafHash(new Uint8Array())), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
  assert.equal(
    hex(leafHash(Buffer.from("L123456"))),
    "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56",
  );
});

test("every leaf of every tree up to 40 is proven, by no other path, leaf, index or size", () => {
  for (let size = 1; size <= 40; size++) {
    const root = mth(entries(size));
    assert.equal(hex(rootOf(size, hashAt)), hex(root));
    for (let index = 0; index < size; index++) {
      const path = inclusionProof(index, size, hashAt);
      const leaf = leafHash(entry(index));
      const at = { index, size };
      assert.equal(hex(rootOfInclusion(leaf, at, path)), hex(root));
      assert.notEqual(hex(rootOfInclusion(leafHash(entry(index + 1)), at, path)), hex(root));
      for (const wrong of [index - 1, index + 1])
        assert.notEqual(hex(rootOfInclusion(leaf, { index: wrong, size }, path)), hex(root), `${index} as ${wrong}`);
      assert.equal(rootOfInclusion(leaf, at, [...path, leaf]), null);
      assert.equal(rootOfInclusion(leaf, { index: size, size }, path), null);
      if (path.length === 0) continue;
      assert.equal(rootOfInclusion(leaf, at, path.slice(1)), null);
      const bent = path.map((node) => Buffer.from(node));
      bent[index % path.length]![0]! ^= 1;
      assert.notEqual(hex(rootOfInclusion(leaf, at, bent)), hex(root));
    }
  }
});

test("every two trees up to 24 are consistent, and with no other proof or root", () => {
  for (let size = 1; size <= 24; size++)
    for (let old = 0; old <= size; old++) {
      const older = { size: old, root: mth(entries(old)) };
      const newer = { size, root: mth(entries(size)) };
      const proof = consistencyProof(old, size, hashAt);
      assert.ok(isConsistent(older, newer, proof), `${old} in ${size}`);
      const other = Buffer.from(older.root);
      other[0]! ^= 1;
      assert.ok(!isConsistent({ size: old, root: other }, newer, proof));
      if (old > 0) assert.ok(!isConsistent(older, { size, root: other }, proof));
      assert.ok(!isConsistent(older, newer, [...proof, other]));
      if (old < size) assert.ok(!isConsistent(newer, older, proof));
      if (proof.length > 0) assert.ok(!isConsistent(older, newer, proof.slice(1)));
    }
});

test("any text is no proof", () => {
  const bytes = fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 60 });
  fc.assert(
    fc.property(bytes, fc.nat(100), fc.nat(100), (path, index, size) => {
      const root = mth(entries(size));
      assert.notEqual(hex(rootOfInclusion(leafHash(Buffer.from("other")), { index, size }, path)), hex(root));
    }),
  );
});

describe("tiles", () => {
  test("are where tlog-tiles has them", () => {
    assert.equal(tilePath({ level: 0, index: 1234067, width: 256 }), "tile/0/x001/x234/067");
    assert.equal(tilePath({ level: 2, index: 0, width: 7 }), "tile/2/000.p/7");
    assert.equal(tilePath({ level: "entries", index: 1000, width: 256 }), "tile/entries/x001/000");
    const shown = edgeTiles(70_000).map(({ level, index, width }) => `${level} ${index} ${width}`);
    assert.deepEqual(shown, ["0 273 112", "1 1 17", "2 0 1"]);
    assert.deepEqual(edgeTiles(256), [{ level: 1, index: 0, width: 1 }]);
  });

  test("grow with the tree, restore it at any size, and give the same roots and proofs as the definition", () => {
    const all = leaves(700);
    const sizes = [1, 2, 3, 255, 256, 257, 511, 512, 513, 700];
    const written = new Map<string, Buffer>();
    const keep = (tiles: readonly TileBytes[]) => {
      for (const tile of tiles) written.set(tilePath(tile), Buffer.from(tile.bytes));
    };
    const tree = new TileTree();
    for (const [i, leaf] of all.entries()) {
      tree.append(leaf);
      if (!sizes.includes(i + 1)) continue;
      const root = hex(mth(entries(i + 1)));
      assert.equal(hex(tree.root()), root, `size ${i + 1}`);
      const taken = sizes[sizes.indexOf(i + 1) - 1] ?? 0;
      const known = [i, i - 1, i - 180].filter((index) => index >= taken - (taken % 256));
      for (const index of known)
        assert.equal(hex(rootOfInclusion(all[index]!, { index, size: i + 1 }, tree.inclusion(index))), root);
      keep(tree.takeFull());
      keep(tree.edge());
    }
    for (const size of sizes) {
      const again = TileTree.restore(size, (tile) => written.get(tilePath(tile))!);
      for (const leaf of all.slice(size)) again.append(leaf);
      assert.equal(again.size, 700);
      assert.equal(hex(again.root()), hex(tree.root()), `from ${size}`);
    }
    assert.deepEqual(written.get("tile/0/001"), Buffer.concat(all.slice(256, 512)));
    assert.throws(() => TileTree.restore(3, () => new Uint8Array(95)), { code: "audit.corrupt" });
  });
});
