// The pool of warm VMs: one per pool key, within a capacity.
import type { ExecuteOptions, ExecutionRequest, ExecutionResult } from "./execution.ts";
import type { PoolKey } from "./pool-key.ts";
import type { VmEvent, VmIdentity } from "./vm-event.ts";

export interface VmPoolLimits {
  /** VMs at a time, booting ones included. */
  readonly vmsMax: number;
  /** Memory of all VMs together. */
  readonly memoryBytesMax: number;
  /** Memory and processors of each VM. */
  readonly vmMemoryBytes: number;
  readonly vmVcpus: number;
  /** Executions at a time in one VM. */
  readonly executionsPerVmMax: number;
  /** Executions that wait, per tenant. */
  readonly queuePerTenantMax: number;
  /** A VM that has run nothing for so long is destroyed. */
  readonly idleMs: number;
  /** A busy VM keeps its place for so long when another key waits for it. */
  readonly tenureMs: number;
}

export interface PooledExecution {
  readonly vm: VmIdentity;
  readonly result: ExecutionResult;
}

export interface VmPool extends AsyncDisposable {
  /**
   * Runs an execution in the VM of `key`, booted from `rootfs` if there is none. Errors are those of
   * `AgentSession.execute`, with details.vm when a VM ran it; `vm.boot`; `limit.exceeded` when the tenant's queue is full;
   * `job.cancelled` when the signal aborts while it waits.
   */
  execute(key: PoolKey, rootfs: string, request: ExecutionRequest, options: ExecuteOptions): Promise<PooledExecution>;
  /** Destroys all VMs; what waits or runs fails. */
  close(): Promise<void>;
}

/** Awaited before a booted VM runs anything: when it rejects, the VM is destroyed. */
export type VmEventSink = (event: VmEvent) => Promise<void>;
