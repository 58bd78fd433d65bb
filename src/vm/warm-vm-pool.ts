// The pool: for a key of the `session` life as many VMs as its share of the places fills, the last of which is parked when it is
// idle and restored on demand; and for the `clean` life one VM for each job, with spares started ahead of the next. A place that
// becomes free goes to whoever runs least; vm-needs.ts says who gets another VM, and when nothing is free eviction.ts who leaves.
import type { Clock, Timer } from "../base/clock.ts";
import { HpccError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { chooseVictims, type Demand } from "./eviction.ts";
import type { ExecuteOptions, ExecutionRequest } from "./execution.ts";
import { compareByParty, fairShares, PartyCounts } from "./fair-share.ts";
import { mayPark, overQuota } from "./parked-vms.ts";
import { PlaceTime } from "./place-time.ts";
import type { PooledExecution, VmEventSink, VmPool, VmPoolLimits } from "./pool.ts";
import type { PoolKey } from "./pool-key.ts";
import { fits, minus, type Room, roomHeld, roomOfLimits, sumOf } from "./pool-room.ts";
import { identityOf, PooledVm, type PooledVmDeps } from "./pooled-vm.ts";
import type { BootSpec, Machine, Runtime } from "./runtime.ts";
import { SpareDemand } from "./spare-demand.ts";
import { type VmNeed, vmNeeds } from "./vm-needs.ts";
import { type WaitingLine, WaitQueue } from "./wait-queue.ts";

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

/** A key whose further VM did not boot gets no more of them for so long; the ones that it has go on. */
const GROW_AGAIN_MS = 10_000;

export class WarmVmPool implements VmPool {
  readonly #options: WarmVmPoolOptions;
  readonly #vmDeps: PooledVmDeps;
  readonly #vms = new Set<PooledVm>();
  /** Executions in VMs now. */
  readonly #running = new PartyCounts();
  /** Until when keys do not grow, by their text. */
  readonly #notGrowing = new Map<string, number>();
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
      this.#running.add(key, -1);
      vm.end();
      this.#serve();
    }
  }

  retire(id: string): void {
    for (const vm of this.#vms) if (vm.id === id) vm.destroy("revoked");
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
      this.#queue.join(key, waiting, signal, () => reject(cancelledError()));
      this.#serve();
    });
  }

  /** Serves who can be served, and makes room for who cannot. To be called after every change. */
  #serve(): void {
    if (this.#closed) return;
    this.#placeTime.advance(this.#options.clock.monotonicMs());
    this.#handOutPlaces();
    const lacking = this.#startWhatIsNeeded();
    this.#makeRoom(lacking);
    if (lacking.length === 0) this.#startSpares();
    this.#placeTime.hold([...this.#vms].filter((vm) => vm.holdsPlace).map((vm) => vm.key.tenant));
  }

  /** Begins executions while there are places, each for whoever runs least among those who have a VM for it. */
  #handOutPlaces(): void {
    while (this.#running.total < this.#options.limits.placesMax) {
      let next: { readonly line: WaitingLine<Waiting>; readonly vm: PooledVm } | null = null;
      for (const line of this.#queue.lines) {
        const vm = this.#vmFor(line.key);
        if (vm !== null && (next === null || this.#compareRunning(line.key, next.line.key) < 0)) next = { line, vm };
      }
      if (next === null) return;
      const { line, vm } = next;
      const { rootfs, serve } = this.#queue.take(line.key);
      if (line.key.trust === "clean") this.#spares.note(line.key, rootfs, this.#options.clock.monotonicMs());
      this.#running.add(line.key, 1);
      serve({ vm, machine: vm.begin(line.key) });
    }
  }

  #compareRunning(a: PoolKey, b: PoolKey): number {
    return (
      compareByParty(a, b, (party) => this.#running.of(party)) ||
      compareByParty(a, b, (party) => this.#queue.servedAt(party))
    );
  }

  /** A VM that can take an execution of the key now: the fullest, so that others become idle. */
  #vmFor(key: PoolKey): PooledVm | null {
    const { executionsPerVmMax } = this.#options.limits;
    let fullest: PooledVm | null = null;
    for (const vm of this.#vms)
      if (vm.servesKey(key) && vm.usable && vm.executions < executionsPerVmMax)
        if (fullest === null || vm.executions > fullest.executions) fullest = vm;
    return fullest;
  }

  /** Starts the VMs that are needed, as far as there is room for them; gives what lacks room. */
  #startWhatIsNeeded(): Demand[] {
    const vms = [...this.#vms];
    const held = new PartyCounts();
    for (const vm of vms) if (vm.countsForOwner) held.add(vm.key, 1);
    const lacking: Demand[] = [];
    const needs = this.#needs();
    while (needs.length > 0) {
      const need = needs.reduce((least, other) => (this.#compareHeld(other.key, least.key, held) < 0 ? other : least));
      const parked = vms.find((vm) => vm.state.t === "parked" && vm.servesKey(need.key));
      const room = parked?.roomToRestore ?? this.#roomOfOne();
      held.add(need.key, 1);
      need.count -= 1;
      if (need.count === 0) needs.splice(needs.indexOf(need), 1);
      if (!fits(room, this.#free())) lacking.push({ key: need.key, room, grows: need.grows });
      else if (parked === undefined) this.#boot(need.key, need.rootfs);
      else parked.restore();
    }
    return lacking;
  }

  #needs(): VmNeed[] {
    const { limits, clock } = this.#options;
    const lines = this.#queue.lines.map(({ key, length, first }) => ({ key, length, rootfs: first.rootfs }));
    if (lines.length === 0) return [];
    const nowMs = clock.monotonicMs();
    const shares = fairShares(this.#claims(), limits.placesMax);
    return vmNeeds(lines, [...this.#vms], {
      executionsPerVmMax: limits.executionsPerVmMax,
      running: (key) => this.#running.of(key.text),
      share: (key) => shares.get(key.text) ?? 0,
      mayGrow: (key) => (this.#notGrowing.get(key.text) ?? 0) <= nowMs,
    });
  }

  #claims() {
    const claims = new Map<string, { readonly key: PoolKey; wanted: number }>();
    const claim = (key: PoolKey, wanted: number): void => {
      const before = claims.get(key.text)?.wanted ?? 0;
      claims.set(key.text, { key, wanted: before + wanted });
    };
    for (const { key, length } of this.#queue.lines) claim(key, length);
    for (const key of this.#running.keys) claim(key, this.#running.of(key.text));
    return [...claims.values()];
  }

  /** Who has fewer VMs comes first; of tenants with as many, the one that has had least of them lately. */
  #compareHeld(a: PoolKey, b: PoolKey, held: PartyCounts): number {
    return (
      compareByParty(a, b, (party) => held.of(party)) ||
      this.#placeTime.usedMs(a.tenant) - this.#placeTime.usedMs(b.tenant) ||
      compareByParty(a, b, (party) => this.#queue.servedAt(party))
    );
  }

  /** Starts clean VMs for jobs to come, where nobody who waits needs the room. */
  #startSpares(): void {
    const { clock, limits } = this.#options;
    for (const { key, rootfs } of this.#spares.wanted(clock.monotonicMs())) {
      const alike = (other: PoolKey): boolean => other.trust === "clean" && other.spareText === key.spareText;
      const ready = [...this.#vms].filter(
        (vm) => alike(vm.key) && (vm.state.t === "booting" || vm.state.t === "warm"),
      ).length;
      let spares = ready;
      for (const line of this.#queue.lines) if (alike(line.key)) spares -= line.length;
      // Whoever waits for no more than a place gets what is ready, before there is a spare again.
      if (spares < 0) continue;
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
  }

  #changed(): void {
    this.#keepQuota(0);
    this.#serve();
  }

  /** Of a key's VMs the last is parked: the others come back with the work. */
  #idle(vm: PooledVm): void {
    const { runtime, limits } = this.#options;
    const last = !this.#others(vm).some((other) => other.state.t !== "destroying");
    if (!last || vm.key.trust === "clean" || !vm.usable || !mayPark(this.#scrubbing, runtime.parking, limits)) {
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

  /** Other VMs of its key. */
  #others(vm: PooledVm): PooledVm[] {
    return [...this.#vms].filter((other) => other !== vm && other.key.text === vm.key.text);
  }

  #gone(vm: PooledVm, bootError: HpccError | null): void {
    this.#vms.delete(vm);
    if (bootError !== null) this.#bootFailed(vm, bootError);
    if (this.#vms.size === 0) this.#emptied?.();
    this.#serve();
  }

  /**
   * A boot has failed. The only VM of a session was all its waiters', and they fail; a further one is done without for a time. A clean
   * VM was for one alone, the first for whom no other boots now. Those behind him have their own still to come.
   */
  #bootFailed(vm: PooledVm, error: HpccError): void {
    const { key } = vm;
    if (key.trust === "session") {
      const nowMs = this.#options.clock.monotonicMs();
      for (const [text, untilMs] of this.#notGrowing) if (untilMs <= nowMs) this.#notGrowing.delete(text);
      if (this.#others(vm).length > 0) this.#notGrowing.set(key.text, nowMs + GROW_AGAIN_MS);
      else for (const waiting of this.#queue.takeAll((other) => other.text === key.text)) waiting.fail(error);
      return;
    }
    this.#spares.settle(key);
    const alike = (other: PoolKey): boolean => other.trust === "clean" && other.spareText === key.spareText;
    let booting = [...this.#vms].filter((other) => alike(other.key) && other.state.t === "booting").length;
    const bereft = (other: PoolKey): boolean => alike(other) && booting-- === 0;
    for (const waiting of this.#queue.takeAll(bereft)) waiting.fail(error);
  }
}

function closedError(): HpccError {
  return new HpccError("vm.lost", "the worker is shutting down");
}

function cancelledError(): HpccError {
  return new HpccError("job.cancelled", "the compile was cancelled while it waited for a VM");
}
