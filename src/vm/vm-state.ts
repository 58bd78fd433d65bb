// The life of a VM in the pool: booting -> warm <-> busy -> destroying, and draining on the way out. One place changes it.
// Parked and restoring come with snapshots.
import { assert } from "../base/errors.ts";
import type { DestroyReason } from "./vm-event.ts";

export type VmState =
  | { readonly t: "booting" }
  /** Runs nothing; `sinceMs` decides which VM is evicted and when it is idle for too long. */
  | { readonly t: "warm"; readonly sinceMs: number }
  | { readonly t: "busy"; readonly executions: number }
  /** Busy, takes nothing more, gives its place up when the last execution ends. */
  | { readonly t: "draining"; readonly executions: number }
  | { readonly t: "destroying"; readonly reason: DestroyReason };

export type VmChange =
  | { readonly t: "booted"; readonly nowMs: number }
  | { readonly t: "began" }
  | { readonly t: "ended"; readonly nowMs: number }
  | { readonly t: "drain" }
  | { readonly t: "destroy"; readonly reason: DestroyReason };

/** The state after a change. What cannot happen in a state is a bug; a second reason to destroy changes nothing. */
export function transition(state: VmState, change: VmChange): VmState {
  switch (change.t) {
    case "booted":
      assert(state.t === "booting", `a VM booted while ${state.t}`);
      return { t: "warm", sinceMs: change.nowMs };
    case "began":
      assert(state.t === "warm" || state.t === "busy", `an execution began in a VM that is ${state.t}`);
      return { t: "busy", executions: state.t === "busy" ? state.executions + 1 : 1 };
    case "ended":
      switch (state.t) {
        case "busy":
          return state.executions > 1
            ? { t: "busy", executions: state.executions - 1 }
            : { t: "warm", sinceMs: change.nowMs };
        case "draining":
          return state.executions > 1
            ? { t: "draining", executions: state.executions - 1 }
            : { t: "destroying", reason: "evicted" };
        case "destroying":
          return state;
        case "booting":
        case "warm":
          throw new Error(`bug: an execution ended in a VM that is ${state.t}`);
      }
      break;
    case "drain":
      assert(state.t === "busy", `a VM to drain is ${state.t}`);
      return { t: "draining", executions: state.executions };
    case "destroy":
      return state.t === "destroying" ? state : { t: "destroying", reason: change.reason };
  }
  throw new Error("bug: unknown change of a VM");
}
