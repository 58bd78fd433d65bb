// What happened to the VMs of a pool; the worker writes each as an audit row of kind `vm`.
import type { Isolation } from "../core/isolation.ts";
import type { VmOwner } from "./pool-key.ts";
import type { BootSpec, MachineOrigin, MachineVersions, Parking } from "./runtime.ts";

/** A VM as results and rows name it. */
export interface VmIdentity {
  readonly id: string;
  readonly isolation: Isolation;
  readonly versions: MachineVersions;
}

/**
 * Why a VM was destroyed. `idle`: unused for too long, and not parked or parked for too long. `evicted`: another key needed
 * its room. `closed`: the pool closed. `lost`: it ended by itself. `breach`: its guest broke the contract. `session-limit`: its
 * session was over. `quota`: the parked ones took too much. `one-job`: it was clean and has run its job. `park-failed`,
 * `restore-failed`: its state could not be kept, or not be brought back.
 */
export type DestroyReason =
  | "idle"
  | "evicted"
  | "closed"
  | "lost"
  | "breach"
  | "revoked"
  | "session-limit"
  | "quota"
  | "one-job"
  | "park-failed"
  | "restore-failed";

export type VmEvent =
  | {
      readonly t: "booted";
      readonly vm: VmIdentity;
      readonly owner: VmOwner;
      readonly spec: BootSpec;
      readonly origin: MachineOrigin;
      readonly bootMs: number;
    }
  | { readonly t: "boot-failed"; readonly owner: VmOwner; readonly spec: BootSpec; readonly error: Error }
  | {
      readonly t: "parked";
      readonly vm: VmIdentity;
      readonly owner: VmOwner;
      readonly parking: Parking;
      /** From the end of its idle time until its state was kept, scrub included. */
      readonly parkMs: number;
      readonly diskBytes: number;
    }
  | { readonly t: "restored"; readonly vm: VmIdentity; readonly owner: VmOwner; readonly restoreMs: number }
  | {
      readonly t: "destroyed";
      readonly vm: VmIdentity;
      readonly owner: VmOwner;
      readonly reason: DestroyReason;
      readonly detail: string;
      /** Executions that ended in it, whatever their result. */
      readonly executions: number;
      /** Since its boot, also while it was parked. */
      readonly lifeMs: number;
    };
