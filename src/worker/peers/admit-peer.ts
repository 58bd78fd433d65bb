// Who may call what workers say to each other.
import { HpccError } from "../../base/errors.ts";
import { type Identity, spiffeId, type TrustDomain } from "../../core/identity/spiffe.ts";

/** The SPIFFE id of a worker of the trust domain; nobody else is a peer. */
export function admitPeer(peer: Identity, trustDomain: TrustDomain): string {
  if (peer.kind !== "worker") throw new HpccError("identity.forbidden", `a ${peer.kind} is no peer of a worker`);
  if (peer.trustDomain !== trustDomain)
    throw new HpccError("identity.forbidden", `this worker answers peers of ${trustDomain} alone`);
  return spiffeId(peer);
}
