// A tenant's store as a worker reads it that believes some makers and not others: an entry of one that it does not believe (any more)
// is a miss, also when it was taken over in better days.

import { believes, type PeerTrust } from "../../core/sharing/peer-trust.ts";
import type { TenantStore } from "../../store/action-cache.ts";

/** `own` is this worker's name. */
export function trustedStore({ blobs, actions }: TenantStore, trust: PeerTrust, own: string): TenantStore {
  return {
    blobs,
    actions: {
      async get(key) {
        const found = await actions.get(key);
        if (found.kind === "miss") return found;
        const { worker } = found.action;
        return worker === own || believes(trust, worker) ? found : { kind: "miss" };
      },
      put: (key, action) => actions.put(key, action),
      revoke: (revocation, by) => actions.revoke(revocation, by),
      revoked: (key, made) => actions.revoked(key, made),
      stamp: (nowMs) => actions.stamp(nowMs),
    },
  };
}
