// A runtime that is real but trivial: its machines hold executions until the test ends them, and boots, parkings, restores and
// destructions too where the test says so. It knows what it holds of memory and disk, and what ran in which machine.
import { ascii } from "../../src/base/byte-string.ts";
import { HpccError } from "../../src/base/errors.ts";
import type { ExecutionRequest, ExecutionResult, ReceivedBytes } from "../../src/vm/execution.ts";
import type {
  BootSpec,
  Machine,
  MachineEnd,
  MachineOrigin,
  ParkedMachine,
  Parking,
  Runtime,
} from "../../src/vm/runtime.ts";

const EMPTY: ReceivedBytes = {
  sizeBytes: 0,
  async *chunks() {},
  bytes: () => Promise.resolve(new Uint8Array()),
};
const RESULT: ExecutionResult = {
  exit: { kind: "code", code: 0 },
  stdout: EMPTY,
  stderr: EMPTY,
  outputs: [],
  wallUs: 1,
  cpuUs: 1,
  memoryPeakBytes: 1,
  [Symbol.asyncDispose]: () => Promise.resolve(),
};
const VERSIONS = {
  vmm: "none",
  kernelDigest: "",
  initramfsDigest: "",
  agentDigest: "",
  kernelRelease: "",
  agentVersion: "",
};

/** A request whose last argument tells the test whose it is. */
export function heldRequest(label: string): ExecutionRequest {
  return {
    argv: [ascii("/usr/bin/cc"), ascii(label)],
    environment: [],
    cwd: ascii("/"),
    inputs: [],
    links: [],
    folders: [],
    outputs: [],
    limits: { wallMs: 1, memoryBytes: 1, pids: 1, outputBytes: 1, stdioBytes: 1 },
    terminalColumns: 0,
  };
}

export type HeldKind = "boot" | "park" | "restore" | "destroy";

/** What waits for the test. */
export interface HeldOperation {
  readonly kind: HeldKind;
  readonly finish: () => void;
  readonly fail: (error: Error) => void;
}

interface HeldExecution {
  readonly finish: () => void;
  readonly fail: (error: Error) => void;
}

export class HeldRuntime implements Runtime {
  readonly isolation = "namespace";
  readonly parking: Parking;
  /** All that ever ran, in the order of their start; a restored one is there again. */
  readonly machines: HeldMachine[] = [];
  readonly parked: HeldParked[] = [];
  /** Kinds of operations that wait in `pending` until the test ends them. */
  readonly hold = new Set<HeldKind>();
  readonly pending: HeldOperation[] = [];
  /** Errors of the operations to come, by kind. */
  readonly failures = new Map<HeldKind, Error>();
  /** What a state takes on disk. */
  stateBytes = 2 ** 28;
  origin: MachineOrigin = "boot";
  /** Boots and restores under way. */
  readonly starting = new Set<BootSpec>();
  #boots = 0;

  constructor(parking: Parking = "snapshot") {
    this.parking = parking;
  }

  async boot(spec: BootSpec, signal: AbortSignal): Promise<Machine> {
    const id = `vm-${this.#boots++}`;
    return this.start(id, spec, this.origin, "boot", signal);
  }

  async start(id: string, spec: BootSpec, origin: MachineOrigin, kind: HeldKind, signal: AbortSignal) {
    // One object per start, also where two have one spec.
    const own = { ...spec };
    this.starting.add(own);
    try {
      await this.step(kind, signal);
      const machine = new HeldMachine(this, id, spec, origin);
      this.machines.push(machine);
      return machine;
    } finally {
      this.starting.delete(own);
    }
  }

  get alive(): readonly HeldMachine[] {
    return this.machines.filter((machine) => machine.alive);
  }

  /** Those that take room: alive, or not yet gone. */
  get present(): readonly HeldMachine[] {
    return this.machines.filter((machine) => !machine.gone);
  }

  get standing(): readonly HeldParked[] {
    return this.parked.filter((parked) => parked.kept);
  }

  get memoryBytes(): number {
    const specs = [...this.present.map(({ spec }) => spec), ...this.starting];
    const standing = this.parking === "stopped" ? this.standing.filter(({ restoring }) => !restoring) : [];
    return [...specs, ...standing.map(({ spec }) => spec)].reduce((sum, { memoryBytes }) => sum + memoryBytes, 0);
  }

  get vcpus(): number {
    return [...this.present.map(({ spec }) => spec), ...this.starting].reduce((sum, { vcpus }) => sum + vcpus, 0);
  }

  get diskBytes(): number {
    return this.standing.reduce((sum, { diskBytes }) => sum + diskBytes, 0);
  }

  /** Ends well what waits for the test now. */
  finishPending(): void {
    for (const operation of this.pending.splice(0)) operation.finish();
  }

  /** Waits for the test where it holds this kind, and fails where it says so. */
  async step(kind: HeldKind, signal: AbortSignal | null): Promise<void> {
    const failure = this.failures.get(kind);
    if (failure) throw failure;
    if (this.hold.has(kind)) await this.#held(kind, signal);
    else await Promise.resolve();
    signal?.throwIfAborted();
  }

  #held(kind: HeldKind, signal: AbortSignal | null): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const leave = (): void => {
      const index = this.pending.indexOf(operation);
      if (index >= 0) this.pending.splice(index, 1);
    };
    const operation: HeldOperation = {
      kind,
      finish: () => {
        leave();
        resolve();
      },
      fail: (error) => {
        leave();
        reject(error);
      },
    };
    this.pending.push(operation);
    signal?.addEventListener("abort", () => operation.fail(signal.reason as Error), { once: true });
    return promise;
  }
}

export class HeldMachine implements Machine {
  readonly isolation = "namespace";
  readonly versions = VERSIONS;
  readonly bootMs = 1;
  readonly id: string;
  readonly spec: BootSpec;
  readonly origin: MachineOrigin;
  readonly ended: Promise<MachineEnd>;
  alive = true;
  gone = false;
  /** Labels of what ran in it, in order. */
  readonly ran: string[] = [];
  /** In the order in which they began. */
  readonly running: HeldExecution[] = [];
  readonly #runtime: HeldRuntime;
  readonly #dying = new AbortController();
  #end!: (end: MachineEnd) => void;

  constructor(runtime: HeldRuntime, id: string, spec: BootSpec, origin: MachineOrigin) {
    this.#runtime = runtime;
    this.id = id;
    this.spec = spec;
    this.origin = origin;
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  readonly session = {
    execute: (request: ExecutionRequest, { signal }: { signal: AbortSignal }): Promise<ExecutionResult> =>
      new Promise((resolve, reject) => {
        if (!this.alive) throw new HpccError("vm.lost", "it is not there");
        this.ran.push(String(request.argv.at(-1)));
        const leave = (): void => void this.running.splice(this.running.indexOf(run), 1);
        const run: HeldExecution = {
          finish: () => {
            leave();
            resolve(RESULT);
          },
          fail: (error) => {
            leave();
            reject(error);
          },
        };
        this.running.push(run);
        signal.addEventListener("abort", () => {
          if (this.running.includes(run)) run.fail(new HpccError("job.cancelled", "cancelled"));
        });
      }),
  };

  finishAll(): void {
    while (this.running[0]) this.running[0].finish();
  }

  async scrub(): Promise<void> {}

  async park(signal: AbortSignal): Promise<ParkedMachine> {
    if (this.running.length > 0) throw new Error("bug: it is parked while something runs in it");
    try {
      await this.#runtime.step("park", AbortSignal.any([signal, this.#dying.signal]));
      if (!this.alive) throw new HpccError("vm.lost", "it is not there");
    } catch (error) {
      const breach = error instanceof HpccError && error.code === "vm.breach";
      this.die({ t: breach ? "breach" : "lost", detail: (error as Error).message });
      throw error;
    }
    this.alive = false;
    this.gone = true;
    const parked = new HeldParked(this.#runtime, this);
    this.#runtime.parked.push(parked);
    this.#end({ t: "parked" });
    return parked;
  }

  /** It ends by itself. */
  die(end: MachineEnd): void {
    this.#stop(end.t === "breach" ? "vm.breach" : "vm.lost");
    this.gone = true;
    this.#end(end);
  }

  async destroy(): Promise<void> {
    if (this.alive) {
      this.#stop("vm.lost");
      void this.#runtime.step("destroy", null).then(() => {
        this.gone = true;
        this.#end({ t: "destroyed" });
      });
    }
    await this.ended;
  }

  #stop(code: "vm.breach" | "vm.lost"): void {
    this.alive = false;
    this.#dying.abort(new HpccError("vm.lost", "gone"));
    while (this.running[0]) this.running[0].fail(new HpccError(code, "gone"));
  }
}

export class HeldParked implements ParkedMachine {
  readonly id: string;
  readonly spec: BootSpec;
  readonly parking: Parking;
  readonly diskBytes: number;
  readonly ended: Promise<MachineEnd>;
  kept = true;
  restoring = false;
  readonly #runtime: HeldRuntime;
  #end!: (end: MachineEnd) => void;

  constructor(runtime: HeldRuntime, machine: HeldMachine) {
    this.#runtime = runtime;
    this.id = machine.id;
    this.spec = machine.spec;
    this.parking = runtime.parking;
    this.diskBytes = runtime.parking === "snapshot" ? runtime.stateBytes : 0;
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  async restore(signal: AbortSignal): Promise<Machine> {
    if (!this.kept || this.restoring) throw new Error("bug: it is restored again, or after it was destroyed");
    this.restoring = true;
    try {
      const machine = await this.#runtime.start(this.id, this.spec, "parked", "restore", signal);
      this.#leave({ t: "parked" });
      return machine;
    } catch (cause) {
      const breach = cause instanceof HpccError && cause.code === "vm.breach";
      this.#leave({ t: breach ? "breach" : "lost", detail: (cause as Error).message });
      throw new HpccError("vm.boot", "it does not come back", { cause });
    }
  }

  /** It ends by itself. */
  lose(detail: string): void {
    this.#leave({ t: "lost", detail });
  }

  async destroy(): Promise<void> {
    if (this.kept && !this.restoring) this.#leave({ t: "destroyed" });
    await this.ended;
  }

  #leave(end: MachineEnd): void {
    this.kept = false;
    this.#end(end);
  }
}
