// Which blobs each principal has shown to have, by sending them. Within a tenant a digest is no secret, since rows and manifests name it; so a
// job that names a blob that its principal never sent must send it, though the worker has it from somebody else. In memory and bounded: what
// is forgotten is sent once more.
import type { Digest } from "../core/digest/digest.ts";
import { type Principal, spiffeId } from "../core/identity/spiffe.ts";

/** Of all principals together. */
const POSSESSIONS_MAX = 262_144;

export class Possessions {
  readonly #max: number;
  /** Oldest use first. */
  readonly #shown = new Set<string>();

  constructor(max = POSSESSIONS_MAX) {
    this.#max = max;
  }

  /** Whether the principal has sent the blob. */
  has(principal: Principal, digest: Digest): boolean {
    const entry = entryOf(principal, digest);
    if (!this.#shown.delete(entry)) return false;
    this.#shown.add(entry);
    return true;
  }

  /** The principal has sent the blob, and its bytes were those of the digest. */
  add(principal: Principal, digest: Digest): void {
    this.#shown.add(entryOf(principal, digest));
    for (const oldest of this.#shown) {
      if (this.#shown.size <= this.#max) break;
      this.#shown.delete(oldest);
    }
  }
}

function entryOf(principal: Principal, digest: Digest): string {
  return `${spiffeId(principal)} ${digest}`;
}
