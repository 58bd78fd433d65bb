// The hashes of placement. They are no secret and no proof: whoever names himself may choose his place.
import { createHash } from "node:crypto";

/** The first 32 bits of a text's SHA-256. */
export function hash32(text: string): number {
  return createHash("sha256").update(text).digest().readUInt32BE(0);
}

/** MurmurHash3's finaliser: every bit of the input moves every bit of the output. */
export function mix32(value: number): number {
  let mixed = value;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}
