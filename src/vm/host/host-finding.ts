// What is said of one thing of a host.

/** `warn`: weaker than it could be. `fail`: something that hpcc promises does not hold. `unknown`: this host does not say. */
export type HostStatus = "ok" | "warn" | "fail" | "unknown";

export interface HostFinding {
  readonly name: string;
  readonly status: HostStatus;
  /** What was found, one line. */
  readonly found: string;
  /** What to do, one line; null for nothing. */
  readonly advice: string | null;
}

export const HOST_GUIDE = "docs/operations/worker.md";
