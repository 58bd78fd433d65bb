// Defences switched off, for controls: layers in front of a worker's own that change what the job brings with it.
import { deriveActionKey } from "../../src/core/action/action-key.ts";
import type { ResultKeys } from "../../src/core/action/result-keys.ts";
import { type Digest, sha256 } from "../../src/core/digest/digest.ts";
import { parseTenantId } from "../../src/core/identity/spiffe.ts";
import type { ActionLookup, CachedAction, TenantStore } from "../../src/store/action-cache.ts";
import type { Interceptor, Job } from "../../src/worker/layers/layer.ts";

/** One key for everybody, whatever VM the result is from. */
function oneKey({ action, encodedSource }: Pick<Job, "action" | "encodedSource">): ResultKeys {
  const scope = { tenant: parseTenantId("acme"), tier: null, principal: null };
  const key = deriveActionKey({ action, sourceDigest: sha256(encodedSource), scope });
  const only = { key, scope: "tenant", tier: null } as const;
  return { candidates: [only], shared: only, own: only };
}

/** All users of a tenant find each other's results, also those of warm VMs. */
export const sharingAll: Interceptor = (next) => ({
  run: async (job) => next.run({ ...job, keys: oneKey(job) }),
});

/** As `sharingAll`, and all tenants have one store. */
export function oneBucket(): Interceptor {
  let bucket: TenantStore | null = null;
  return (next) => ({
    run: async (job) => {
      bucket ??= job.store;
      return next.run({ ...job, keys: oneKey(job), store: bucket });
    },
  });
}

/** Keys that leave the determinism policy out. */
export const forgettingDeterminism: Interceptor = (next) => ({
  run: async (job) => next.run({ ...job, keys: oneKey({ ...job, action: { ...job.action, determinism: "default" } }) }),
});

/** Keeps its own copy of what it was given, and knows of no revocation. */
export function takingNothingBack(): Interceptor {
  const kept = new Map<Digest, CachedAction>();
  return (next) => ({
    run: async (job) => {
      const put = async (key: Digest, action: CachedAction) => void kept.set(key, action);
      const get = async (key: Digest): Promise<ActionLookup> => {
        const action = kept.get(key);
        return action === undefined ? { kind: "miss" } : { kind: "hit", action };
      };
      const stamp = async (nowMs: number) => nowMs;
      const actions = { get, put, stamp, revoke: async () => undefined, revoked: async () => false };
      return next.run({ ...job, store: { ...job.store, actions } });
    },
  });
}

/** A user's look-ups find nothing, so that what his guests say next takes the place of what is there. */
export function findingNothingFor(user: string): Interceptor {
  return (next) => ({
    run: async (job) => {
      if (job.principal.user !== user) return next.run(job);
      const { actions } = job.store;
      const get = async (): Promise<ActionLookup> => ({ kind: "miss" });
      const blind = {
        get,
        put: actions.put.bind(actions),
        stamp: actions.stamp.bind(actions),
        revoke: actions.revoke.bind(actions),
        revoked: actions.revoked.bind(actions),
      };
      return next.run({ ...job, store: { ...job.store, actions: blind } });
    },
  });
}

/** What is compiled again is looked up and kept as any other job is. */
export const keepingAgain: Interceptor = (next) => ({
  run: async (job) => next.run({ ...job, again: false }),
});
