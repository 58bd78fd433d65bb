// The bytes of the history's items. Lists of numbers are ascending and stored as differences, so that the 400 headers of a call take about as many bytes.
// UNTRUSTED: the database's file, which may be damaged: what does not decode is `store.corrupt`.
import { createHash } from "node:crypto";
import { HpccError } from "../../base/errors.ts";
import type { Digest } from "../../core/digest/digest.ts";

/** What an item is; part of its digest, so that no two kinds meet. */
export const ITEM_KINDS = { path: 1, file: 2, list: 3, json: 4 } as const;
export type ItemKind = keyof typeof ITEM_KINDS;

const KEY_BYTES = 16;
const DIGEST_BYTES = 32;
const NUMBER_BYTES_MAX = 7;

/** By what an item is found again. */
export function itemKey(kind: ItemKind, bytes: Uint8Array): Uint8Array {
  const hash = createHash("sha256").update(Uint8Array.of(ITEM_KINDS[kind])).update(bytes).digest();
  return Uint8Array.prototype.slice.call(hash, 0, KEY_BYTES);
}

/** Sorts the numbers, each once. */
export function encodeList(numbers: readonly number[]): Uint8Array {
  const sorted = Float64Array.from(numbers).sort();
  const bytes: number[] = [];
  let before = 0;
  for (const [at, number] of sorted.entries()) {
    if (at > 0 && number === sorted[at - 1]) continue;
    let rest = number - before;
    before = number;
    for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
    bytes.push(rest);
  }
  return Uint8Array.from(bytes);
}

export function decodeList(bytes: Uint8Array): number[] {
  const numbers: number[] = [];
  let before = 0;
  for (let at = 0; at < bytes.length; ) {
    let difference = 0;
    for (let count = 0, factor = 1; ; count += 1, factor *= 128) {
      const byte = bytes[at];
      if (byte === undefined || count === NUMBER_BYTES_MAX) throw damaged("a list");
      at += 1;
      difference += (byte & 127) * factor;
      if (byte < 128) break;
    }
    before += difference;
    if (!Number.isSafeInteger(before)) throw damaged("a list");
    numbers.push(before);
  }
  return numbers;
}

/** A file is its digest and its path's number. */
export function encodeFile(pathItem: number, digest: Digest): Uint8Array {
  return Buffer.concat([digestBytes(digest), encodeList([pathItem])]);
}

export function decodeFile(bytes: Uint8Array): { readonly pathItem: number; readonly digest: Digest } {
  const [pathItem, ...more] = decodeList(bytes.subarray(DIGEST_BYTES));
  if (pathItem === undefined || more.length > 0) throw damaged("a file");
  return { pathItem, digest: digestOfBytes(bytes.subarray(0, DIGEST_BYTES)) };
}

export function digestBytes(digest: Digest): Uint8Array {
  return Buffer.from(digest.slice("sha256:".length), "hex");
}

export function digestOfBytes(bytes: Uint8Array): Digest {
  if (bytes.length !== DIGEST_BYTES) throw damaged("a digest");
  return `sha256:${Buffer.from(bytes).toString("hex")}` as Digest;
}

export function damaged(what: string): HpccError {
  return new HpccError("store.corrupt", `the history is damaged: ${what} cannot be read`);
}
