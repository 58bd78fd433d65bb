// The life of a VM in the pool; one place changes it. The diagram in ARCHITECTURE.md shows the same edges, and a test
// compares the two.
import { assert } from "../base/errors.ts";
import type { DestroyReason } from "./vm-event.ts";

export type VmState =
  | { readonly t: "booting" }
  /** Runs nothing; `sinceMs` decides which VM is evicted and when it is idle for too long. */
  | { readonly t: "warm"; readonly sinceMs: number }
  | { readonly t: "busy"; readonly executions: number }
  /** Busy, takes nothing more, is destroyed for `reason` when the last execution ends. */
  | { readonly t: "draining"; readonly executions: number; readonly reason: DestroyReason }
  /** On its way to `parked`: what ran in it is cleared away and its state is kept. */
  | { readonly t: "scrubbing" }
  | { readonly t: "parked"; readonly sinceMs: number; readonly diskBytes: number }
  | { readonly t: "restoring" }
  | { readonly t: "destroying"; readonly reason: DestroyReason };

export type VmChange =
  | { readonly t: "booted"; readonly nowMs: number }
  | { readonly t: "began" }
  /** Its one execution began: it is clean. */
  | { readonly t: "began-only" }
  | { readonly t: "ended"; readonly nowMs: number }
  | { readonly t: "drain"; readonly reason: DestroyReason }
  | { readonly t: "park" }
  | { readonly t: "parked"; readonly nowMs: number; readonly diskBytes: number }
  | { readonly t: "restore" }
  | { readonly t: "restored"; readonly nowMs: number }
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
    case "began-only":
      assert(state.t === "warm", `the only execution of a VM began while ${state.t}`);
      return { t: "draining", executions: 1, reason: "one-job" };
    case "ended":
      return executionEnded(state, change.nowMs);
    case "drain":
      assert(state.t === "busy", `a VM to drain is ${state.t}`);
      return { t: "draining", executions: state.executions, reason: change.reason };
    case "park":
      assert(state.t === "warm", `a VM to park is ${state.t}`);
      return { t: "scrubbing" };
    case "parked":
      assert(state.t === "scrubbing", `a VM was parked while ${state.t}`);
      return { t: "parked", sinceMs: change.nowMs, diskBytes: change.diskBytes };
    case "restore":
      assert(state.t === "parked", `a VM to restore is ${state.t}`);
      return { t: "restoring" };
    case "restored":
      assert(state.t === "restoring", `a VM was restored while ${state.t}`);
      return { t: "warm", sinceMs: change.nowMs };
    case "destroy":
      return state.t === "destroying" ? state : { t: "destroying", reason: change.reason };
  }
  return unknown(change);
}

function executionEnded(state: VmState, nowMs: number): VmState {
  switch (state.t) {
    case "busy":
      return state.executions > 1 ? { t: "busy", executions: state.executions - 1 } : { t: "warm", sinceMs: nowMs };
    case "draining":
      return state.executions > 1
        ? { ...state, executions: state.executions - 1 }
        : { t: "destroying", reason: state.reason };
    case "destroying":
      return state;
    case "booting":
    case "warm":
    case "scrubbing":
    case "parked":
    case "restoring":
      throw new Error(`bug: an execution ended in a VM that is ${state.t}`);
  }
  return unknown(state);
}

function unknown(value: never): never {
  throw new Error(`bug: unknown state or change of a VM: ${JSON.stringify(value)}`);
}
