// The port of the pool of VMs: executions go to the VM of their key, within a capacity.
import type { ExecuteOptions, ExecutionRequest, ExecutionResult } from "./execution.ts";
import type { PoolKey, TrustTier } from "./pool-key.ts";
import type { VmEvent, VmIdentity } from "./vm-event.ts";

export interface VmPoolLimits {
  /** Executions at a time, in all VMs together. */
  readonly placesMax: number;
  /** VMs at a time that are not parked, booting ones included. */
  readonly vmsMax: number;
  /** Memory of all VMs together; a parked one whose state is on disk has none. */
  readonly memoryBytesMax: number;
  /** Processors of all VMs that are not parked. */
  readonly vcpusMax: number;
  /** Memory and processors of each VM. */
  readonly vmMemoryBytes: number;
  readonly vmVcpus: number;
  /** Executions at a time in one VM. */
  readonly executionsPerVmMax: number;
  /** Executions that wait, per tenant. */
  readonly queuePerTenantMax: number;
  /** A VM that has run nothing for so long is parked, or destroyed when it cannot be. */
  readonly idleMs: number;
  /** A busy VM keeps its room for so long when another key waits that has less, but not much less. */
  readonly tenureMs: number;
  /** A parked VM that nobody wanted for so long is destroyed. */
  readonly parkedMs: number;
  /** Parked VMs; 0 for none. */
  readonly parkedMax: number;
  /** What the states of parked VMs may take on disk together. */
  readonly parkedDiskBytesMax: number;
  /** A VM is destroyed so long after its first start, whatever was between. */
  readonly sessionMs: number;
  /** Clean VMs that are kept ready for a tenant and image, from the first job on. */
  readonly sparesMax: number;
}

export interface PooledExecution {
  readonly vm: VmIdentity;
  /** How the VM lived that ran it. */
  readonly life: TrustTier;
  readonly result: ExecutionResult;
}

export interface VmPool extends AsyncDisposable {
  /**
   * Runs an execution in a VM of `key`, started from `rootfs` if there is none or more may run. Errors are those of
   * `AgentSession.execute`, with details.vm when a VM ran it; `vm.boot`; `limit.exceeded` when the tenant's queue is full;
   * `job.cancelled` when the signal aborts while it waits.
   */
  execute(key: PoolKey, rootfs: string, request: ExecutionRequest, options: ExecuteOptions): Promise<PooledExecution>;
  /** Destroys a VM, if it is here: what it made is revoked, and it shall make nothing more. */
  retire(vm: string): void;
  /** Destroys all VMs, parked ones too; what waits or runs fails. */
  close(): Promise<void>;
}

/** Awaited before a booted or restored VM runs anything: when it rejects, the VM is destroyed. */
export type VmEventSink = (event: VmEvent) => Promise<void>;
