// Roots and proofs of RFC 6962, section 2.1, written as that section defines them: a tree of n leaves is one of k leaves beside one
// of n - k, where k is the largest power of two below n. Pure.
import { HpccError } from "../../base/errors.ts";
import { EMPTY_ROOT, HASH_BYTES, nodeHash } from "./hashes.ts";

/** The root over the 2^level leaves from index * 2^level on. */
export type HashAt = (level: number, index: number) => Uint8Array;

/** More than any log will have; a path has at most as many hashes. */
const LEVELS_MAX = 53;

/** The largest power of two below n, for n > 1. */
function split(n: number): number {
  let k = 1;
  while (k * 2 < n) k *= 2;
  return k;
}

/** Root over the leaves from `from` up to `to`; as all ranges of the proofs below, this one begins at a multiple of its size. */
function rangeRoot(from: number, to: number, hashAt: HashAt): Uint8Array {
  const n = to - from;
  const level = Math.log2(n);
  if (Number.isInteger(level)) return hashAt(level, from / n);
  const k = split(n);
  return nodeHash(rangeRoot(from, from + k, hashAt), rangeRoot(from + k, to, hashAt));
}

export function rootOf(size: number, hashAt: HashAt): Uint8Array {
  return size === 0 ? EMPTY_ROOT : rangeRoot(0, size, hashAt);
}

/** Path of a leaf to the root, from its sibling upwards. */
export function inclusionProof(index: number, size: number, hashAt: HashAt): Uint8Array[] {
  if (!(index >= 0 && index < size)) throw new HpccError("argument.invalid", `a tree of ${size} has no leaf ${index}`);
  const path = (from: number, to: number): Uint8Array[] => {
    if (to - from === 1) return [];
    const middle = from + split(to - from);
    return index < middle
      ? [...path(from, middle), rangeRoot(middle, to, hashAt)]
      : [...path(middle, to), rangeRoot(from, middle, hashAt)];
  };
  return path(0, size);
}

/** Proof that a tree of `size` begins with the leaves of the tree of `oldSize`. */
export function consistencyProof(oldSize: number, size: number, hashAt: HashAt): Uint8Array[] {
  if (!(oldSize >= 0 && oldSize <= size))
    throw new HpccError("argument.invalid", `a tree of ${size} was never ${oldSize}`);
  if (oldSize === 0) return [];
  const proof = (from: number, to: number, known: boolean): Uint8Array[] => {
    if (oldSize === to) return known ? [] : [rangeRoot(from, to, hashAt)];
    const middle = from + split(to - from);
    return oldSize <= middle
      ? [...proof(from, middle, known), rangeRoot(middle, to, hashAt)]
      : [...proof(middle, to, false), rangeRoot(from, middle, hashAt)];
  };
  return proof(0, size, true);
}

/** The root that a leaf and its path lead to; null for a path of another length. UNTRUSTED: the path, index and size. */
export function rootOfInclusion(
  leaf: Uint8Array,
  { index, size }: { readonly index: number; readonly size: number },
  path: readonly Uint8Array[],
): Uint8Array | null {
  if (!(index >= 0 && index < size) || !goodHashes(path)) return null;
  const rest = [...path];
  const up = (at: number, n: number): Uint8Array | null => {
    if (n === 1) return leaf;
    const sibling = rest.pop();
    if (sibling === undefined) return null;
    const k = split(n);
    const own = at < k ? up(at, k) : up(at - k, n - k);
    if (own === null) return null;
    return at < k ? nodeHash(own, sibling) : nodeHash(sibling, own);
  };
  const root = up(index, size);
  return rest.length === 0 ? root : null;
}

export interface TreeHead {
  readonly size: number;
  readonly root: Uint8Array;
}

/** Whether a proof shows that the newer tree begins with the older one's leaves. UNTRUSTED: all of it. */
export function isConsistent(older: TreeHead, newer: TreeHead, proof: readonly Uint8Array[]): boolean {
  if (older.size > newer.size || !goodHashes(proof)) return false;
  if (older.size === 0) return proof.length === 0 && equal(older.root, EMPTY_ROOT);
  const rest = [...proof];
  const up = (m: number, n: number, known: boolean): [Uint8Array, Uint8Array] | null => {
    if (m === n) {
      const hash = known ? older.root : rest.pop();
      return hash === undefined ? null : [hash, hash];
    }
    const beside = rest.pop();
    if (beside === undefined) return null;
    const k = split(n);
    const both = m <= k ? up(m, k, known) : up(m - k, n - k, false);
    if (both === null) return null;
    return m <= k ? [both[0], nodeHash(both[1], beside)] : [nodeHash(beside, both[0]), nodeHash(beside, both[1])];
  };
  const roots = up(older.size, newer.size, true);
  return roots !== null && rest.length === 0 && equal(roots[0], older.root) && equal(roots[1], newer.root);
}

export function equal(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

function goodHashes(hashes: readonly Uint8Array[]): boolean {
  return hashes.length <= LEVELS_MAX && hashes.every((hash) => hash.length === HASH_BYTES);
}
