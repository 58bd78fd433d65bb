// Whether the server at an address is the worker that a scheduler named. The scheduler says which one to take; that it is one, and this
// one, its certificate must prove.
import { type Identity, sameTrustDomain, spiffeId } from "../../core/identity/spiffe.ts";
import type { WorkerChoice } from "../../wire/scheduler/mapping.ts";

/** What a client takes as the server for `chosen`, once the server's chain is proven. */
export function isChosenWorker({ identity: chosen }: WorkerChoice, client: Identity): (server: Identity) => boolean {
  return (server) => sameTrustDomain(server, client) && spiffeId(server) === spiffeId(chosen);
}
