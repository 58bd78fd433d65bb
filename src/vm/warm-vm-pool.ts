// The pool: one VM per key kept warm, within a capacity. When it is full, the VM that was idle longest gives its place to
// another key; when none is idle, the one that has held its place longest, beyond its tenure, takes no more work and leaves,
// unless its tenant has no more VMs than who waits.
import type { Clock, Timer } from "../base/clock.ts";
import { type ErrorCode, HpccError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { ExecuteOptions, ExecutionRequest } from "./execution.ts";
import type { PooledExecution, VmEventSink, VmPool, VmPoolLimits } from "./pool.ts";
import type { PoolKey } from "./pool-key.ts";
import type { BootSpec, Machine, MachineEnd, Runtime } from "./runtime.ts";
import type { DestroyReason, VmEvent, VmIdentity } from "./vm-event.ts";
import { transition, type VmChange, type VmState } from "./vm-state.ts";
import { WaitQueue } from "./wait-queue.ts";

export interface WarmVmPoolOptions {
  readonly runtime: Runtime;
  readonly limits: VmPoolLimits;
  readonly events: VmEventSink;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Between two compiles of one build a VM is idle for a moment; it is not taken away then. */
const IDLE_BEFORE_EVICTION_MS = 1_000;

/** A place in the pool, from the start of a boot until nothing is left of the VM. */
interface Slot {
  readonly key: PoolKey;
  readonly spec: BootSpec;
  readonly abortBoot: AbortController;
  state: VmState;
  machine: Machine | null;
  /** When it could first be used; its tenure counts from here. */
  bootedMs: number;
  executionsEnded: number;
  idleTimer: Timer | null;
}

interface Waiting {
  readonly key: PoolKey;
  readonly rootfs: string;
  readonly serve: (lease: Lease) => void;
  readonly fail: (error: Error) => void;
}

interface Lease {
  readonly slot: Slot;
  readonly machine: Machine;
}

export class WarmVmPool implements VmPool {
  readonly #options: WarmVmPoolOptions;
  readonly #vmsMax: number;
  readonly #slots = new Map<string, Slot>();
  readonly #queue: WaitQueue<Waiting>;
  #roomTimer: Timer | null = null;
  #closed = false;
  #emptied: (() => void) | null = null;

  constructor(options: WarmVmPoolOptions) {
    const { vmsMax, memoryBytesMax, vmMemoryBytes, queuePerTenantMax } = options.limits;
    this.#options = options;
    this.#vmsMax = Math.min(vmsMax, Math.floor(memoryBytesMax / vmMemoryBytes));
    if (this.#vmsMax < 1) throw new HpccError("config.invalid", "the memory for VMs does not hold one of them");
    this.#queue = new WaitQueue(queuePerTenantMax);
  }

  async execute(
    key: PoolKey,
    rootfs: string,
    request: ExecutionRequest,
    options: ExecuteOptions,
  ): Promise<PooledExecution> {
    const { slot, machine } = await this.#acquire(key, rootfs, options.signal);
    try {
      const result = await machine.session.execute(request, options);
      return { vm: identityOf(machine), result };
    } catch (error) {
      if (!(error instanceof HpccError)) throw error;
      if (error.code === "vm.breach" || error.code === "vm.lost") this.#destroy(slot, reasonOf(error.code));
      throw new HpccError(error.code, error.message, { cause: error, details: { ...error.details, vm: machine.id } });
    } finally {
      this.#release(slot);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#roomTimer?.cancel();
    for (const waiting of this.#queue.takeAll(() => true)) waiting.fail(closedError());
    for (const slot of this.#slots.values()) this.#destroy(slot, "closed");
    if (this.#slots.size > 0)
      await new Promise<void>((resolve) => {
        this.#emptied = resolve;
      });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #acquire(key: PoolKey, rootfs: string, signal: AbortSignal): Promise<Lease> {
    return new Promise((resolve, reject) => {
      if (this.#closed) throw closedError();
      if (signal.aborted) throw cancelledError();
      const waiting: Waiting = { key, rootfs, serve: resolve, fail: reject };
      this.#queue.join(key.tenant, waiting, signal, () => reject(cancelledError()));
      this.#serve();
    });
  }

  /** Serves who can be served, and makes room for who cannot. To be called after every change. */
  #serve(): void {
    if (this.#closed) return;
    const lacking = new Map<string, PoolKey>();
    this.#queue.serve((waiting) => {
      const { key } = waiting;
      const slot = this.#slots.get(key.text);
      if (!slot) {
        if (this.#slots.size < this.#vmsMax) {
          this.#boot(key, waiting.rootfs);
          return "begun";
        }
        lacking.set(key.text, key);
        return "not";
      }
      if (!slot.machine?.alive || !this.#hasRoom(slot)) return "not";
      this.#change(slot, { t: "began" });
      waiting.serve({ slot, machine: slot.machine });
      return "served";
    });
    this.#makeRoom([...lacking.values()]);
  }

  #hasRoom({ state }: Slot): boolean {
    return state.t === "warm" || (state.t === "busy" && state.executions < this.#options.limits.executionsPerVmMax);
  }

  /** Sees to it that a place becomes free for each of these keys, now or when a VM's tenure ends. */
  #makeRoom(lacking: readonly PoolKey[]): void {
    const { clock } = this.#options;
    const coming = this.#count(({ state }) => state.t === "destroying" || state.t === "draining");
    for (const key of lacking.slice(coming)) {
      const nowMs = clock.monotonicMs();
      const candidates = [...this.#slots.values()].map((slot) => ({ slot, fromMs: this.#evictableFromMs(slot, key) }));
      const due = candidates.filter(({ fromMs }) => fromMs <= nowMs).map(({ slot }) => slot);
      // Idle ones first, the one idle longest before the others; then the busy one that has been there longest.
      const [victim] = due.sort((a, b) => warmSinceMs(a) - warmSinceMs(b) || a.bootedMs - b.bootedMs);
      if (victim) {
        if (victim.state.t === "warm") this.#destroy(victim, "evicted");
        else this.#change(victim, { t: "drain" });
        continue;
      }
      const nextMs = Math.min(...candidates.map(({ fromMs }) => fromMs));
      this.#roomTimer?.cancel();
      if (nextMs < Number.POSITIVE_INFINITY) this.#roomTimer = clock.after(nextMs - nowMs, () => this.#serve());
      return;
    }
  }

  /** When a VM may be taken from its key for another one; infinity for never. */
  #evictableFromMs({ state, bootedMs, key }: Slot, wanted: PoolKey): number {
    const tenureEndMs = bootedMs + this.#options.limits.tenureMs;
    switch (state.t) {
      case "warm":
        return Math.min(state.sinceMs + IDLE_BEFORE_EVICTION_MS, tenureEndMs);
      case "busy": {
        const held = (tenant: string): number => this.#count((slot) => slot.key.tenant === tenant);
        const fair = key.tenant === wanted.tenant || held(key.tenant) > held(wanted.tenant);
        return fair ? tenureEndMs : Number.POSITIVE_INFINITY;
      }
      case "booting":
      case "draining":
      case "destroying":
        return Number.POSITIVE_INFINITY;
    }
    throw new Error("bug: unknown state of a VM");
  }

  #count(matches: (slot: Slot) => boolean): number {
    return [...this.#slots.values()].filter(matches).length;
  }

  #boot(key: PoolKey, rootfs: string): void {
    const { vmMemoryBytes, vmVcpus } = this.#options.limits;
    const slot: Slot = {
      key,
      spec: { rootfs, memoryBytes: vmMemoryBytes, vcpus: vmVcpus },
      abortBoot: new AbortController(),
      state: { t: "booting" },
      machine: null,
      bootedMs: 0,
      executionsEnded: 0,
      idleTimer: null,
    };
    this.#slots.set(key.text, slot);
    this.#bootSlot(slot).catch((error: unknown) => this.#bootFailed(slot, asError(error)));
  }

  async #bootSlot(slot: Slot): Promise<void> {
    const { runtime, events, clock } = this.#options;
    const machine = await runtime.boot(slot.spec, slot.abortBoot.signal);
    try {
      const { key, spec } = slot;
      await events({ t: "booted", vm: identityOf(machine), key, spec, bootMs: machine.bootMs });
    } catch (error) {
      await machine.destroy();
      throw error;
    }
    slot.machine = machine;
    slot.bootedMs = clock.monotonicMs();
    void machine.ended.then((end) => this.#ended(slot, machine, end));
    if (slot.state.t === "destroying") {
      await machine.destroy();
      return;
    }
    this.#change(slot, { t: "booted", nowMs: slot.bootedMs });
    this.#serve();
  }

  #bootFailed(slot: Slot, error: Error): void {
    const { key, spec } = slot;
    if (slot.state.t !== "destroying") this.#tell({ t: "boot-failed", key, spec, error });
    this.#remove(slot);
    const failure = error instanceof HpccError ? error : new HpccError("vm.boot", error.message, { cause: error });
    for (const waiting of this.#queue.takeAll((other) => other.key.text === key.text)) waiting.fail(failure);
    this.#serve();
  }

  #release(slot: Slot): void {
    slot.executionsEnded += 1;
    this.#change(slot, { t: "ended", nowMs: this.#options.clock.monotonicMs() });
    if (slot.state.t === "destroying") void slot.machine?.destroy();
    this.#serve();
  }

  #destroy(slot: Slot, reason: DestroyReason): void {
    this.#change(slot, { t: "destroy", reason });
    slot.abortBoot.abort(closedError());
    void slot.machine?.destroy();
  }

  /** Nothing is left of the machine. */
  #ended(slot: Slot, machine: Machine, end: MachineEnd): void {
    // What the machine knows of its end comes before what the pool thought of it.
    const reason: DestroyReason =
      end.t !== "destroyed" ? end.t : slot.state.t === "destroying" ? slot.state.reason : "lost";
    this.#change(slot, { t: "destroy", reason });
    this.#remove(slot);
    this.#tell({
      t: "destroyed",
      vm: identityOf(machine),
      key: slot.key,
      reason,
      detail: end.t === "destroyed" ? "" : end.detail,
      executions: slot.executionsEnded,
      lifeMs: this.#options.clock.monotonicMs() - slot.bootedMs,
    });
    this.#serve();
  }

  #remove(slot: Slot): void {
    if (this.#slots.get(slot.key.text) === slot) this.#slots.delete(slot.key.text);
    if (this.#slots.size === 0) this.#emptied?.();
  }

  #change(slot: Slot, change: VmChange): void {
    slot.state = transition(slot.state, change);
    slot.idleTimer?.cancel();
    slot.idleTimer =
      slot.state.t === "warm"
        ? this.#options.clock.after(this.#options.limits.idleMs, () => this.#destroy(slot, "idle"))
        : null;
  }

  #tell(event: VmEvent): void {
    const { events, logger } = this.#options;
    events(event).catch((error: unknown) => logger.error("vm.event.lost", { event: event.t, error: String(error) }));
  }
}

function warmSinceMs({ state }: Slot): number {
  return state.t === "warm" ? state.sinceMs : Number.MAX_SAFE_INTEGER;
}

function identityOf({ id, isolation, versions }: Machine): VmIdentity {
  return { id, isolation, versions };
}

function reasonOf(code: ErrorCode): DestroyReason {
  return code === "vm.breach" ? "breach" : "lost";
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}

function closedError(): HpccError {
  return new HpccError("vm.lost", "the worker is shutting down");
}

function cancelledError(): HpccError {
  return new HpccError("job.cancelled", "the compile was cancelled while it waited for a VM");
}
