// What happened to the VMs of a pool; the worker writes each as an audit row of kind `vm`.
import type { Isolation } from "../core/isolation.ts";
import type { PoolKey } from "./pool-key.ts";
import type { BootSpec, MachineVersions } from "./runtime.ts";

/** A VM as results and rows name it. */
export interface VmIdentity {
  readonly id: string;
  readonly isolation: Isolation;
  readonly versions: MachineVersions;
}

/**
 * Why a VM was destroyed: idle for too long, evicted for another key, the pool closed, its process ended, or its guest
 * broke the contract.
 */
export type DestroyReason = "idle" | "evicted" | "closed" | "lost" | "breach";

export type VmEvent =
  | {
      readonly t: "booted";
      readonly vm: VmIdentity;
      readonly key: PoolKey;
      readonly spec: BootSpec;
      readonly bootMs: number;
    }
  | { readonly t: "boot-failed"; readonly key: PoolKey; readonly spec: BootSpec; readonly error: Error }
  | {
      readonly t: "destroyed";
      readonly vm: VmIdentity;
      readonly key: PoolKey;
      readonly reason: DestroyReason;
      readonly detail: string;
      /** Executions that ended in it, whatever their result. */
      readonly executions: number;
      readonly lifeMs: number;
    };
