// The port of the action cache of one tenant: from action key to result. A miss is a value; a cache that fails throws
// `store.io`.
import type { Digest } from "../core/digest/digest.ts";
import type { Isolation } from "../core/isolation.ts";
import type { Life } from "../core/life.ts";
import type { Made, Revocation, RevokedBy } from "../core/revocation.ts";
import type { BlobStore } from "./blob-store.ts";

export interface CachedAction extends Made {
  /** The result manifest's encoding. */
  readonly result: Uint8Array;
  /** Isolation under which it was compiled. */
  readonly isolation: Isolation;
  /** Life of the VM that compiled it. */
  readonly life: Life;
  /** Time in the compiler in microseconds. */
  readonly compileUs: number;
  /** The VM that compiled it, as its audit row names it. */
  readonly vm: string;
  /** The worker that compiled it: this one, or a peer. */
  readonly worker: string;
  readonly image: Digest;
  /** Digest of the line of the row of its compile; null when it is not known. */
  readonly row: Digest | null;
  /** What its maker has signed about it, for other workers; null for what nobody has stated. */
  readonly statement: Uint8Array | null;
}

export type ActionLookup = { readonly kind: "hit"; readonly action: CachedAction } | { readonly kind: "miss" };

export interface ActionCache {
  get(key: Digest): Promise<ActionLookup>;
  /** A result that is revoked is not kept. */
  put(key: Digest, action: CachedAction): Promise<void>;
  /**
   * Takes results back: nothing of them is found from this call on, also after a crash once it has resolved. `by` is for the
   * rows.
   */
  revoke(revocation: Revocation, by: RevokedBy): Promise<void>;
  /** Whether a result is revoked that is kept, or was to be kept, under this key. */
  revoked(key: Digest, made: Made): Promise<boolean>;
  /** The time to give as `madeMs` to a compile that begins now: no revocation that is here already reaches it. */
  stamp(nowMs: number): Promise<number>;
}

/** All that a tenant has; one tenant's stores cannot reach another's. */
export interface TenantStore {
  readonly blobs: BlobStore;
  readonly actions: ActionCache;
}
