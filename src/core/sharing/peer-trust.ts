// Whom a worker believes: whose signed statements it takes for results.
import type { IdentityName } from "../identity/spiffe.ts";

/** `site`: every worker of the trust domain; `none`: nobody but itself; else those of these names. */
export type PeerTrust = "site" | "none" | ReadonlySet<IdentityName>;

export function believes(trust: PeerTrust, worker: string): boolean {
  if (trust === "site") return true;
  return trust !== "none" && (trust as ReadonlySet<string>).has(worker);
}
