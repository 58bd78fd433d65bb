// The port of the action cache of one tenant: from action key to result. A miss is a value; a cache that fails throws
// `store.io`.
import type { Digest } from "../core/digest/digest.ts";
import type { Isolation } from "../core/isolation.ts";
import type { Life } from "../core/life.ts";
import type { BlobStore } from "./blob-store.ts";

export interface CachedAction {
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
}

export type ActionLookup = { readonly kind: "hit"; readonly action: CachedAction } | { readonly kind: "miss" };

export interface ActionCache {
  get(key: Digest): Promise<ActionLookup>;
  /** A result of a VM that was revoked is not kept. */
  put(key: Digest, action: CachedAction): Promise<void>;
  /** Takes back all that a VM made: nothing of it is found from this call on, also after a crash once it has resolved. */
  revoke(vm: string): Promise<void>;
  revoked(vm: string): Promise<boolean>;
}

/** All that a tenant has; one tenant's stores cannot reach another's. */
export interface TenantStore {
  readonly blobs: BlobStore;
  readonly actions: ActionCache;
}
