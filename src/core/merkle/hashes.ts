// The hashes of an RFC 6962 tree: a leaf can never be taken for a node. Pure.
import { hash } from "node:crypto";

/** Bytes of a hash. */
export const HASH_BYTES = 32;

const LEAF = 0;
const NODE = 1;

// Millions are made in a row: what is hashed is put together in one place, and a digest comes fastest as hex.
const leaf = new Uint8Array(1 + 64 * 1024);
const node = new Uint8Array(1 + 2 * HASH_BYTES);
leaf[0] = LEAF;
node[0] = NODE;

/** The hash of a leaf in hex. */
export function leafHex(entry: Uint8Array): string {
  if (entry.length >= leaf.length) return hash("sha256", Buffer.concat([Uint8Array.of(LEAF), entry]), "hex");
  leaf.set(entry, 1);
  return hash("sha256", leaf.subarray(0, 1 + entry.length), "hex");
}

export function leafHash(entry: Uint8Array): Buffer {
  return Buffer.from(leafHex(entry), "hex");
}

export function nodeHash(left: Uint8Array, right: Uint8Array): Buffer {
  if (left.length !== HASH_BYTES || right.length !== HASH_BYTES) throw new Error("bug: a node is of two hashes");
  node.set(left, 1);
  node.set(right, 1 + HASH_BYTES);
  return Buffer.from(hash("sha256", node, "hex"), "hex");
}

/** Root of a tree without leaves. */
export const EMPTY_ROOT: Buffer = hash("sha256", "", "buffer");
