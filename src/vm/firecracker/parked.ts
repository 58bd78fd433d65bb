// A machine whose state is a snapshot of the keeper's: on disk, bound to this machine, used once.
import { HpccError } from "../../base/errors.ts";
import type { KeptSnapshot } from "../keeper/keeper.ts";
import type { Machine, MachineEnd, ParkedMachine } from "../runtime.ts";
import type { FirecrackerContext } from "./parts.ts";

export interface ParkedFirecrackerOptions {
  readonly context: FirecrackerContext;
  readonly id: string;
  readonly kept: KeptSnapshot;
  /** Starts the machine from its snapshot. */
  readonly restore: (signal: AbortSignal) => Promise<Machine>;
}

type State =
  | { readonly t: "parked" }
  | { readonly t: "restoring"; readonly giveUp: AbortController }
  | { readonly t: "destroying" }
  | { readonly t: "ended" };

export class ParkedFirecracker implements ParkedMachine {
  readonly id: string;
  readonly parking = "snapshot";
  readonly diskBytes: number;
  readonly ended: Promise<MachineEnd>;
  readonly #options: ParkedFirecrackerOptions;
  #state: State = { t: "parked" };
  #resolveEnded!: (end: MachineEnd) => void;

  constructor(options: ParkedFirecrackerOptions) {
    this.#options = options;
    this.id = options.id;
    this.diskBytes = options.kept.stateBytes + options.kept.memoryBytes;
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
    options.context.parked.add(this);
  }

  /** Its keeper is gone and its snapshot with it. */
  lost(detail: string): void {
    this.#end({ t: "lost", detail });
  }

  async restore(signal: AbortSignal): Promise<Machine> {
    if (this.#state.t !== "parked") throw new HpccError("vm.boot", `the parked microVM ${this.id} is gone`);
    const giveUp = new AbortController();
    this.#state = { t: "restoring", giveUp };
    try {
      const machine = await this.#options.restore(AbortSignal.any([signal, giveUp.signal]));
      await this.#drop();
      this.#end({ t: "parked" });
      return machine;
    } catch (error) {
      await this.#drop();
      const detail = error instanceof Error ? error.message : String(error);
      this.#end(giveUp.signal.aborted || signal.aborted ? { t: "destroyed" } : { t: "lost", detail });
      throw error;
    }
  }

  async destroy(): Promise<void> {
    const state = this.#state;
    if (state.t === "restoring")
      state.giveUp.abort(new HpccError("vm.boot", `the parked microVM ${this.id} was destroyed`));
    else if (state.t === "parked") {
      this.#state = { t: "destroying" };
      await this.#drop();
      this.#end({ t: "destroyed" });
    }
    await this.ended;
  }

  /** The snapshot is used once; the machine that was restored from it keeps its own hold of the memory file. */
  async #drop(): Promise<void> {
    const { keeper, logger } = this.#options.context;
    await keeper.dropSnapshot(this.#options.kept.id).catch((error: unknown) => {
      logger.warn("vm.snapshot.not_dropped", { vm: this.id, error: String(error) });
    });
  }

  #end(end: MachineEnd): void {
    if (this.#state.t === "ended") return;
    this.#state = { t: "ended" };
    this.#options.context.parked.delete(this);
    this.#resolveEnded(end);
  }
}
