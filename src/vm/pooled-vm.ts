// One VM of the pool, from the start of its boot until nothing of it is left: its state, its timers, and what is told of it.
// Who gets it, and when it must make room, is the pool's matter.
import type { Clock, Timer } from "../base/clock.ts";
import { HpccError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { VmEventSink } from "./pool.ts";
import type { PoolKey, VmOwner } from "./pool-key.ts";
import { type Holding, holdingParked, minus, type Room, roomHeld } from "./pool-room.ts";
import type { BootSpec, Machine, MachineEnd, ParkedMachine, Runtime } from "./runtime.ts";
import type { DestroyReason, VmEvent, VmIdentity } from "./vm-event.ts";
import { transition, type VmChange, type VmState } from "./vm-state.ts";

export interface PooledVmTimes {
  readonly idleMs: number;
  readonly parkedMs: number;
  readonly sessionMs: number;
}

export interface PooledVmDeps {
  readonly runtime: Runtime;
  readonly events: VmEventSink;
  readonly times: PooledVmTimes;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** The pool, as a VM knows it. None of it is called while the VM is being told what to do. */
export interface PooledVmWatcher {
  /** It can be used, or takes less room than before. */
  changed(vm: PooledVm): void;
  /** It has been warm for too long: park or destroy it. */
  idle(vm: PooledVm): void;
  /** Nothing is left of it; `bootError` when it never could be used. */
  gone(vm: PooledVm, bootError: HpccError | null): void;
}

export class PooledVm {
  readonly spec: BootSpec;
  /** Of a clean VM the key of whoever caused it; any user of the same tenant and image may get it. */
  readonly key: PoolKey;
  readonly #deps: PooledVmDeps;
  readonly #watcher: PooledVmWatcher;
  readonly #abort = new AbortController();
  #owner: VmOwner;
  #state: VmState = { t: "booting" };
  #holding: Holding = "all";
  #machine: Machine | null = null;
  #parked: ParkedMachine | null = null;
  #identity: VmIdentity | null = null;
  #firstUsableMs = 0;
  #placeSinceMs = 0;
  #executionsEnded = 0;
  #stateTimer: Timer | null = null;
  #sessionTimer: Timer | null = null;
  #gone = false;

  /** Begins to boot it. */
  constructor(key: PoolKey, spec: BootSpec, deps: PooledVmDeps, watcher: PooledVmWatcher) {
    this.key = key;
    this.spec = spec;
    this.#deps = deps;
    this.#watcher = watcher;
    const { tenant, image, trust } = key;
    this.#owner = { tenant, image, trust, user: trust === "clean" ? null : key.user };
    void this.#boot();
  }

  /** The name of its machine, also while that is parked; null before it has one. */
  get id(): string | null {
    return this.#identity?.id ?? null;
  }

  get state(): VmState {
    return this.#state;
  }

  /** What it takes of the worker now. */
  get room(): Room {
    return roomHeld(this.#holding, this.spec);
  }

  /** What it takes beyond that when it is restored. */
  get roomToRestore(): Room {
    return minus(roomHeld("all", this.spec), this.room);
  }

  /** What it gives back when it is parked. */
  get roomByParking(): Room {
    return minus(this.room, roomHeld(holdingParked(this.#deps.runtime.parking), this.spec));
  }

  /** Whether it holds a place among those that run. */
  get holdsPlace(): boolean {
    return this.#holding === "all";
  }

  /** Since when it has its place: its tenure counts from here. */
  get placeSinceMs(): number {
    return this.#placeSinceMs;
  }

  /** Executions in it now. */
  get executions(): number {
    return this.#state.t === "busy" || this.#state.t === "draining" ? this.#state.executions : 0;
  }

  /** Whether it is there for executions of this key: a clean one for all users of its tenant and image. */
  servesKey(key: PoolKey): boolean {
    const { trust, spareText, text } = this.key;
    return trust === "clean" ? key.trust === "clean" && key.spareText === spareText : key.text === text;
  }

  /** Whether it gives its room back by itself, or is about to be parked. */
  get leaving(): boolean {
    const { t } = this.#state;
    return t === "destroying" || t === "draining" || t === "scrubbing";
  }

  /** Whether its owner has it, when VMs are compared: not one that is taken from him, but one that leaves after its only job. */
  get countsForOwner(): boolean {
    if (!this.holdsPlace) return false;
    return !this.leaving || (this.#state.t === "draining" && this.#state.reason === "one-job");
  }

  /** Whether it can run something now. */
  get usable(): boolean {
    return (this.#state.t === "warm" || this.#state.t === "busy") && this.#machine?.alive === true;
  }

  /** Begins an execution of `key`'s. A clean VM is that user's from now on, and takes nothing more. */
  begin(key: PoolKey): Machine {
    if (this.#machine === null) throw new Error(`bug: an execution began in a VM that is ${this.#state.t}`);
    if (this.key.trust === "clean") {
      this.#owner = { ...this.#owner, user: key.user };
      this.#change({ t: "began-only" });
    } else this.#change({ t: "began" });
    return this.#machine;
  }

  /** An execution has ended, whatever its result. */
  end(): void {
    this.#executionsEnded += 1;
    this.#change({ t: "ended", nowMs: this.#deps.clock.monotonicMs() });
    if (this.#state.t === "destroying") this.#kill();
  }

  /** It takes nothing more, and goes when what runs in it has ended. */
  drain(reason: DestroyReason): void {
    this.#change({ t: "drain", reason });
  }

  /** Keeps its state and gives up what it can. */
  park(): void {
    const machine = this.#machine;
    if (machine === null) throw new Error(`bug: a VM to park is ${this.#state.t}`);
    this.#change({ t: "park" });
    const startMs = this.#deps.clock.monotonicMs();
    machine.park(this.#abort.signal).then(
      (parked) => this.#parkedAs(parked, this.#deps.clock.monotonicMs() - startMs),
      (error: unknown) => this.#parkFailed(machine, asError(error)),
    );
  }

  /** Makes a parked one run again. */
  restore(): void {
    const parked = this.#parked;
    if (parked === null) throw new Error(`bug: a VM to restore is ${this.#state.t}`);
    this.#change({ t: "restore" });
    this.#parked = null;
    this.#holding = "all";
    void this.#restore(parked);
  }

  /** Ends it in any state; may be called again. */
  destroy(reason: DestroyReason): void {
    this.#change({ t: "destroy", reason });
    this.#abort.abort(new HpccError("vm.lost", `the VM is being destroyed: ${reason}`));
    this.#kill();
  }

  /** What is between two states (a boot, a restore) sees that it must end when it has come to its end. */
  #kill(): void {
    void this.#machine?.destroy();
    void this.#parked?.destroy();
  }

  async #boot(): Promise<void> {
    const { runtime, events } = this.#deps;
    const { spec } = this;
    let machine: Machine | null = null;
    try {
      machine = await runtime.boot(spec, this.#abort.signal);
      const { bootMs, origin } = machine;
      await events({ t: "booted", vm: identityOf(machine), owner: this.#owner, spec, origin, bootMs });
    } catch (error) {
      await machine?.destroy();
      this.#bootFailed(asError(error));
      return;
    }
    this.#identity = identityOf(machine);
    this.#firstUsableMs = this.#deps.clock.monotonicMs();
    this.#sessionTimer = this.#deps.clock.after(this.#deps.times.sessionMs, () => this.#expire());
    this.#adopt(machine, "booted");
  }

  #bootFailed(error: Error): void {
    if (this.#state.t !== "destroying") this.#tell({ t: "boot-failed", owner: this.#owner, spec: this.spec, error });
    this.#finish(error instanceof HpccError ? error : new HpccError("vm.boot", error.message, { cause: error }));
  }

  /** A machine runs, and its row is written. */
  #adopt(machine: Machine, how: "booted" | "restored"): void {
    this.#machine = machine;
    void machine.ended.then((end) => {
      if (end.t !== "parked") this.#ended(end);
    });
    if (this.#state.t === "destroying") {
      this.#kill();
      return;
    }
    this.#placeSinceMs = this.#deps.clock.monotonicMs();
    this.#change({ t: how, nowMs: this.#placeSinceMs });
    this.#watcher.changed(this);
  }

  #parkedAs(parked: ParkedMachine, parkMs: number): void {
    const { parking, diskBytes } = parked;
    if (this.#gone) {
      void parked.destroy();
      return;
    }
    this.#machine = null;
    this.#parked = parked;
    this.#holding = holdingParked(parking);
    if (this.#identity !== null)
      this.#tell({ t: "parked", vm: this.#identity, owner: this.#owner, parking, parkMs, diskBytes });
    void parked.ended.then((end) => {
      if (this.#parked === parked) this.#ended(end);
    });
    if (this.#state.t === "destroying") {
      this.#kill();
      return;
    }
    this.#change({ t: "parked", nowMs: this.#deps.clock.monotonicMs(), diskBytes });
    this.#watcher.changed(this);
  }

  #parkFailed(machine: Machine, error: Error): void {
    const breach = error instanceof HpccError && error.code === "vm.breach";
    this.#deps.logger.warn("vm.park.failed", { vm: machine.id, error: error.message });
    this.#change({ t: "destroy", reason: breach ? "breach" : "park-failed" });
    this.#kill();
  }

  async #restore(parked: ParkedMachine): Promise<void> {
    const { events, logger } = this.#deps;
    let machine: Machine;
    try {
      machine = await parked.restore(this.#abort.signal);
    } catch (error) {
      const { message } = asError(error);
      if (this.#state.t !== "destroying") logger.warn("vm.restore.failed", { vm: parked.id, error: message });
      this.#change({ t: "destroy", reason: "restore-failed" });
      await parked.destroy();
      const end = await parked.ended;
      this.#ended(end.t === "breach" ? end : { t: "lost", detail: message });
      return;
    }
    try {
      const restoreMs = machine.bootMs;
      await events({ t: "restored", vm: identityOf(machine), owner: this.#owner, restoreMs });
    } catch (error) {
      logger.error("vm.event.lost", { event: "restored", error: String(error) });
      this.#change({ t: "destroy", reason: "restore-failed" });
    }
    this.#identity = identityOf(machine);
    this.#adopt(machine, "restored");
  }

  /** The session is over. */
  #expire(): void {
    if (this.#state.t === "busy") this.drain("session-limit");
    else if (this.#state.t !== "draining") this.destroy("session-limit");
  }

  /** Nothing is left of the machine. */
  #ended(end: MachineEnd): void {
    if (this.#gone) return;
    this.#change({ t: "destroy", reason: this.#state.t === "scrubbing" ? "park-failed" : "lost" });
    const planned = this.#state.t === "destroying" ? this.#state.reason : "lost";
    if (this.#identity !== null)
      this.#tell({
        t: "destroyed",
        vm: this.#identity,
        owner: this.#owner,
        // A breach is more than what the pool thought of its end.
        reason: end.t === "breach" ? "breach" : planned,
        detail: end.t === "lost" || end.t === "breach" ? end.detail : "",
        executions: this.#executionsEnded,
        lifeMs: this.#deps.clock.monotonicMs() - this.#firstUsableMs,
      });
    this.#finish(null);
  }

  #finish(bootError: HpccError | null): void {
    this.#gone = true;
    this.#holding = "nothing";
    this.#stateTimer?.cancel();
    this.#sessionTimer?.cancel();
    this.#watcher.gone(this, bootError);
  }

  #change(change: VmChange): void {
    this.#state = transition(this.#state, change);
    this.#stateTimer?.cancel();
    this.#stateTimer = this.#timerOfState();
  }

  #timerOfState(): Timer | null {
    const { clock, times } = this.#deps;
    const { t } = this.#state;
    if (t === "warm") return clock.after(times.idleMs, () => this.#watcher.idle(this));
    return t === "parked" ? clock.after(times.parkedMs, () => this.destroy("idle")) : null;
  }

  #tell(event: VmEvent): void {
    const { events, logger } = this.#deps;
    events(event).catch((error: unknown) => logger.error("vm.event.lost", { event: event.t, error: String(error) }));
  }
}

export function identityOf({ id, isolation, versions }: Machine): VmIdentity {
  return { id, isolation, versions };
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
