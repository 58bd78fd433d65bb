// The pool: one VM per key of the `session` life, parked when idle and restored on demand; and for the `clean` life one VM for
// each job, with spares started ahead of the next. The tenant that has had least of the places comes first; when nothing is free,
// eviction.ts says who leaves.
import type { Clock, Timer } from "../base/clock.ts";
import { HpccError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { chooseVictims, type Demand } from "./eviction.ts";
import type { ExecuteOptions, ExecutionRequest } from "./execution.ts";
import { mayPark, overQuota } from "./parked-vms.ts";
import { PlaceTime } from "./place-time.ts";
import type { PooledExecution, VmEventSink, VmPool, VmPoolLimits } from "./pool.ts";
import type { PoolKey } from "./pool-key.ts";
import { fits, minus, type Room, roomHeld, roomOfLimits, sumOf } from "./pool-room.ts";
import { identityOf, PooledVm, type PooledVmDeps } from "./pooled-vm.ts";
import type { BootSpec, Machine, Runtime } from "./runtime.ts";
import { SpareDemand } from "./spare-demand.ts";
import { type Service, WaitQueue } from "./wait-queue.ts";

export interface WarmVmPoolOptions {
  readonly runtime: Runtime;
  readonly limits: VmPoolLimits;
  readonly events: VmEventSink;
  readonly clock: Clock;
  readonly logger: Logger;
}

interface Waiting {
  readonly key: PoolKey;
  readonly rootfs: string;
  readonly serve: (lease: Lease) => void;
  readonly fail: (error: Error) => void;
}

interface Lease {
  readonly vm: PooledVm;
  readonly machine: Machine;
}

/** One round of serving: who lacks room, and which clean VMs that boot are spoken for. */
interface Round {
  readonly lacking: Map<Waiting | string, Demand>;
  readonly expecting: Map<string, Set<Waiting>>;
}

export class WarmVmPool implements VmPool {
  readonly #options: WarmVmPoolOptions;
  readonly #vmDeps: PooledVmDeps;
  readonly #vms = new Set<PooledVm>();
  /** Those of the `session` life, by the text of their key. */
  readonly #sessions = new Map<string, PooledVm>();
  readonly #queue: WaitQueue<Waiting>;
  readonly #spares: SpareDemand;
  readonly #placeTime: PlaceTime;
  #roomTimer: Timer | null = null;
  #closed = false;
  #closing: Promise<void> | null = null;
  #emptied: (() => void) | null = null;

  constructor(options: WarmVmPoolOptions) {
    const { limits, runtime, events, clock, logger } = options;
    this.#options = options;
    this.#vmDeps = { runtime, events, times: limits, clock, logger };
    if (!fits(this.#roomOfOne(), roomOfLimits(limits)))
      throw new HpccError("config.invalid", "the memory or the processors for VMs do not hold one of them");
    this.#queue = new WaitQueue(limits.queuePerTenantMax);
    this.#spares = new SpareDemand(limits.idleMs);
    this.#placeTime = new PlaceTime(clock.monotonicMs());
  }

  async execute(
    key: PoolKey,
    rootfs: string,
    request: ExecutionRequest,
    options: ExecuteOptions,
  ): Promise<PooledExecution> {
    const { vm, machine } = await this.#acquire(key, rootfs, options.signal);
    try {
      const result = await machine.session.execute(request, options);
      return { vm: identityOf(machine), life: key.trust, result };
    } catch (error) {
      if (!(error instanceof HpccError)) throw error;
      if (error.code === "vm.breach") vm.destroy("breach");
      if (error.code === "vm.lost") vm.destroy("lost");
      throw new HpccError(error.code, error.message, { cause: error, details: { ...error.details, vm: machine.id } });
    } finally {
      vm.end();
      this.#serve();
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#closed = true;
    this.#roomTimer?.cancel();
    for (const waiting of this.#queue.takeAll(() => true)) waiting.fail(closedError());
    for (const vm of this.#vms) vm.destroy("closed");
    if (this.#vms.size > 0)
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
    this.#placeTime.advance(this.#options.clock.monotonicMs());
    const round: Round = { lacking: new Map(), expecting: new Map() };
    this.#queue.serve(
      (waiting) => (waiting.key.trust === "clean" ? this.#tryClean(waiting, round) : this.#trySession(waiting, round)),
      (tenant) => this.#placeTime.usedMs(tenant),
    );
    this.#makeRoom([...round.lacking.values()]);
    if (round.lacking.size === 0) this.#startSpares(round);
    this.#placeTime.hold([...this.#vms].filter((vm) => vm.holdsPlace).map((vm) => vm.key.tenant));
  }

  #trySession(waiting: Waiting, { lacking }: Round): Service {
    const { key, rootfs } = waiting;
    const vm = this.#sessions.get(key.text);
    if (vm === undefined || vm.state.t === "parked") {
      const room = vm?.roomToRestore ?? this.#roomOfOne();
      if (!fits(room, this.#free())) {
        lacking.set(key.text, { tenant: key.tenant, room });
        return "not";
      }
      if (vm === undefined) this.#boot(key, rootfs);
      else vm.restore();
      return "begun";
    }
    const { state } = vm;
    const full = state.t === "busy" && state.executions >= this.#options.limits.executionsPerVmMax;
    if (!vm.usable || full) return "not";
    waiting.serve({ vm, machine: vm.begin(key) });
    return "served";
  }

  #tryClean(waiting: Waiting, { lacking, expecting }: Round): Service {
    const { key, rootfs } = waiting;
    const alike = [...this.#vms].filter((vm) => vm.key.trust === "clean" && vm.key.spareText === key.spareText);
    const ready = alike.find((vm) => vm.usable);
    if (ready) {
      this.#spares.note(key, rootfs, this.#options.clock.monotonicMs());
      expecting.get(key.spareText)?.delete(waiting);
      waiting.serve({ vm: ready, machine: ready.begin(key) });
      return "served";
    }
    const expected = expecting.get(key.spareText) ?? new Set();
    expecting.set(key.spareText, expected);
    if (expected.has(waiting)) return "not";
    if (expected.size < alike.filter((vm) => vm.state.t === "booting").length) {
      expected.add(waiting);
      return "not";
    }
    const room = this.#roomOfOne();
    if (!fits(room, this.#free())) {
      lacking.set(waiting, { tenant: key.tenant, room });
      return "not";
    }
    this.#boot(key, rootfs);
    expected.add(waiting);
    return "begun";
  }

  /** Starts clean VMs for jobs to come, where nobody who waits needs the room. */
  #startSpares({ expecting }: Round): void {
    const { clock, limits } = this.#options;
    for (const { key, rootfs } of this.#spares.wanted(clock.monotonicMs())) {
      const ready = [...this.#vms].filter(
        ({ key: other, state }) =>
          other.trust === "clean" && other.spareText === key.spareText && (state.t === "booting" || state.t === "warm"),
      );
      let spares = ready.length - (expecting.get(key.spareText)?.size ?? 0);
      while (spares < limits.sparesMax && fits(this.#roomOfOne(), this.#free())) {
        this.#boot(key, rootfs);
        spares += 1;
      }
      if (spares >= limits.sparesMax) this.#spares.settle(key);
    }
  }

  /** Sees to it that room becomes free for each demand, now or when a VM's tenure ends. */
  #makeRoom(demands: readonly Demand[]): void {
    const { clock, limits } = this.#options;
    this.#roomTimer?.cancel();
    if (demands.length === 0) return;
    const nowMs = clock.monotonicMs();
    const view = { vms: [...this.#vms], tenureMs: limits.tenureMs, nowMs };
    const { victims, nextMs } = chooseVictims(demands, this.#free(), view);
    for (const victim of victims)
      if (victim.state.t === "busy") victim.drain("evicted");
      else victim.destroy("evicted");
    if (nextMs < Number.POSITIVE_INFINITY) this.#roomTimer = clock.after(nextMs - nowMs, () => this.#serve());
  }

  #free(): Room {
    return minus(roomOfLimits(this.#options.limits), sumOf([...this.#vms].map((vm) => vm.room)));
  }

  #roomOfOne(): Room {
    const { vmMemoryBytes: memoryBytes, vmVcpus: vcpus } = this.#options.limits;
    return roomHeld("all", { rootfs: "", memoryBytes, vcpus, goldenOwner: null });
  }

  #boot(key: PoolKey, rootfs: string): void {
    const { vmMemoryBytes: memoryBytes, vmVcpus: vcpus } = this.#options.limits;
    const goldenOwner = key.golden === "own" ? key.tenant : null;
    const spec: BootSpec = { rootfs, memoryBytes, vcpus, goldenOwner };
    const vm = new PooledVm(key, spec, this.#vmDeps, {
      changed: () => this.#changed(),
      idle: (idle) => this.#idle(idle),
      gone: (gone, bootError) => this.#gone(gone, bootError),
    });
    this.#vms.add(vm);
    if (key.trust === "session") this.#sessions.set(key.text, vm);
  }

  #changed(): void {
    this.#keepQuota(0);
    this.#serve();
  }

  #idle(vm: PooledVm): void {
    const { runtime, limits } = this.#options;
    if (vm.key.trust === "clean" || !vm.usable || !mayPark(this.#scrubbing, runtime.parking, limits)) {
      vm.destroy("idle");
      return;
    }
    this.#keepQuota(1);
    vm.park();
  }

  /** Destroys parked VMs until `more` can be parked within the quota. */
  #keepQuota(more: number): void {
    const { runtime, limits } = this.#options;
    for (const vm of overQuota(this.#vms, this.#scrubbing + more, runtime.parking, limits)) vm.destroy("quota");
  }

  get #scrubbing(): number {
    return [...this.#vms].filter(({ state }) => state.t === "scrubbing").length;
  }

  #gone(vm: PooledVm, bootError: HpccError | null): void {
    this.#vms.delete(vm);
    if (this.#sessions.get(vm.key.text) === vm) this.#sessions.delete(vm.key.text);
    if (bootError !== null) this.#failWaiting(vm.key, bootError);
    if (this.#vms.size === 0) this.#emptied?.();
    this.#serve();
  }

  /**
   * A boot has failed: who waited for it fails, too. A session is all its waiters'; a clean VM was for one alone, the first for whom
   * no other boots now. Those behind him have their own still to come.
   */
  #failWaiting(key: PoolKey, error: HpccError): void {
    if (key.trust === "session") {
      for (const waiting of this.#queue.takeAll((other) => other.key.text === key.text)) waiting.fail(error);
      return;
    }
    this.#spares.settle(key);
    const alike = (other: PoolKey): boolean => other.trust === "clean" && other.spareText === key.spareText;
    let booting = [...this.#vms].filter((vm) => alike(vm.key) && vm.state.t === "booting").length;
    const bereft = (other: Waiting): boolean => alike(other.key) && booting-- === 0;
    for (const waiting of this.#queue.takeAll(bereft)) waiting.fail(error);
  }
}

function closedError(): HpccError {
  return new HpccError("vm.lost", "the worker is shutting down");
}

function cancelledError(): HpccError {
  return new HpccError("job.cancelled", "the compile was cancelled while it waited for a VM");
}
