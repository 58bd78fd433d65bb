// Digests: SHA-256 everywhere, over uncompressed bytes, written "sha256:<64 hex>", so that a name does not depend on how a blob is packed.
import { hash } from "node:crypto";
import { HpccError } from "../../base/errors.ts";

declare const digestBrand: unique symbol;

/** "sha256:" and 64 lower-case hex digits. */
export type Digest = string & { readonly [digestBrand]: true };

const PATTERN = /^sha256:[0-9a-f]{64}$/;

/** Parses a digest. UNTRUSTED: anybody. */
export function parseDigest(text: string, what: string): Digest {
  if (!PATTERN.test(text)) throw new HpccError("argument.invalid", `${what} is not "sha256:" and 64 hex digits`);
  return text as Digest;
}

export function isDigest(text: string): text is Digest {
  return PATTERN.test(text);
}

export function sha256(bytes: Uint8Array): Digest {
  return `sha256:${hash("sha256", bytes, "hex")}` as Digest;
}

/** The 64 hex digits alone, for file names. */
export function digestHex(digest: Digest): string {
  return digest.slice(7);
}
