// One Firecracker machine: a jail, its API, a console, a session. Whatever ends one of them ends all and leaves nothing behind,
// but where the machine is frozen: then its state is a snapshot of the keeper's.
import { HpccError } from "../../base/errors.ts";
import type { Digest } from "../../core/digest/digest.ts";
import { scrubGuest } from "../agent/scrub.ts";
import type { OpenSession } from "../agent/session.ts";
import type { KeptSnapshot } from "../keeper/keeper.ts";
import type { Machine, MachineEnd, MachineOrigin, MachineVersions, ParkedMachine } from "../runtime.ts";
import { parkedBinding } from "./binding.ts";
import {
  type CompleteParts,
  dialAgent,
  dismantle,
  type FirecrackerContext,
  letGo,
  type MachineStart,
  sessionOptions,
} from "./parts.ts";

/** A session that ended by itself waits so long for the VMM's exit, which says more. */
const LAST_WORDS_MS = 200;

export interface FirecrackerMachineOptions {
  readonly context: FirecrackerContext;
  readonly start: MachineStart;
  readonly versions: MachineVersions;
  readonly bootMs: number;
  readonly parts: CompleteParts;
  /** Makes a parked machine of its snapshot. */
  readonly parked: (kept: KeptSnapshot, binding: Digest) => ParkedMachine;
}

type State =
  | { readonly t: "running" }
  /** The VMM stands still and its state is taken; its end is expected. */
  | { readonly t: "freezing"; readonly giveUp: AbortController }
  | { readonly t: "ending"; readonly end: MachineEnd }
  | { readonly t: "ended"; readonly end: MachineEnd };

export class FirecrackerMachine implements Machine {
  readonly id: string;
  readonly isolation = "firecracker";
  readonly versions: MachineVersions;
  readonly origin: MachineOrigin;
  readonly bootMs: number;
  readonly ended: Promise<MachineEnd>;
  readonly #options: FirecrackerMachineOptions;
  readonly #parts: CompleteParts;
  #state: State = { t: "running" };
  /** While it runs, the session's end is the scrub's. */
  #scrubbing = false;
  /** How the session ended by itself, which is why the machine ends. */
  #sessionEnd: MachineEnd | null = null;
  #resolveEnded!: (end: MachineEnd) => void;

  constructor(options: FirecrackerMachineOptions) {
    this.#options = options;
    this.#parts = options.parts;
    this.id = options.start.id;
    this.versions = options.versions;
    this.origin = options.start.origin;
    this.bootMs = options.bootMs;
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
    void this.#parts.jail.ended.then((how) => {
      if (this.#state.t === "running") this.#end({ t: "lost", detail: `Firecracker ended: ${how}` });
    });
    this.#watch(this.#parts.session);
  }

  get session(): OpenSession {
    return this.#parts.session;
  }

  get alive(): boolean {
    return this.#state.t === "running" && (this.#scrubbing || this.#parts.session.alive);
  }

  /** Ends the machine because its guest misbehaved outside the session. */
  breach(detail: string): void {
    this.#fail({ t: "breach", detail });
  }

  async scrub(signal: AbortSignal): Promise<void> {
    if (!this.alive || this.#scrubbing) throw this.#goneError();
    const { context } = this.#options;
    const { door } = this.#parts;
    this.#scrubbing = true;
    try {
      const redial = (during: AbortSignal) => dialAgent(context, door, during);
      const session = await scrubGuest(this.#parts.session, redial, sessionOptions(context), signal);
      this.#parts.session = session;
      this.#scrubbing = false;
      if (this.#state.t !== "running") session.close();
      else this.#watch(session);
    } catch (error) {
      const breach = error instanceof HpccError && error.code === "vm.breach";
      const detail = error instanceof Error ? error.message : String(error);
      this.#fail(signal.aborted ? { t: "destroyed" } : { t: breach ? "breach" : "lost", detail });
      await this.ended;
      throw error;
    }
    if (this.#state.t !== "running") {
      await this.ended;
      throw this.#goneError();
    }
  }

  async park(signal: AbortSignal): Promise<ParkedMachine> {
    await this.scrub(signal);
    const binding = parkedBinding(this.#options.start.binding, this.id);
    const kept = await this.freeze(binding, signal);
    return this.#options.parked(kept, binding);
  }

  /**
   * Stops the machine, which has been scrubbed, and has the keeper take its state. `ended` settles with `parked`. Throws `vm.lost` when it
   * cannot be kept, or the signal's reason; nothing of it is left then.
   */
  async freeze(binding: Digest, signal: AbortSignal): Promise<KeptSnapshot> {
    if (!this.alive || this.#scrubbing) throw this.#goneError();
    const { api, jail, session, console } = this.#parts;
    const giveUp = new AbortController();
    this.#state = { t: "freezing", giveUp };
    const during = AbortSignal.any([signal, giveUp.signal]);
    try {
      // Without room nothing is written.
      await jail.reserve();
      session.close();
      await api.pause(during);
      await api.createSnapshot(this.#options.start.binding.memoryBytes, during);
      const kept = await jail.snapshot(binding, during);
      letGo(this.#parts);
      console.close();
      this.#state = { t: "ended", end: { t: "parked" } };
      this.#resolveEnded({ t: "parked" });
      return kept;
    } catch (cause) {
      const given: unknown = giveUp.signal.reason;
      const breach = cause instanceof HpccError && cause.code === "vm.breach";
      const detail = `its state was not kept: ${cause instanceof Error ? cause.message : String(cause)}`;
      const end: MachineEnd = given instanceof GivenUp ? given.end : { t: breach ? "breach" : "lost", detail };
      this.#end(signal.aborted ? { t: "destroyed" } : end);
      await this.ended;
      signal.throwIfAborted();
      throw new HpccError(end.t === "breach" ? "vm.breach" : "vm.lost", detail, { cause });
    }
  }

  async destroy(): Promise<void> {
    this.#fail(this.#sessionEnd ?? { t: "destroyed" });
    await this.ended;
  }

  #watch(session: OpenSession): void {
    void session.ended.then((end) => this.#sessionEnded(session, end));
  }

  async #sessionEnded(session: OpenSession, end: Awaited<OpenSession["ended"]>): Promise<void> {
    if (end.t === "closed" || this.#scrubbing || session !== this.#parts.session) return;
    this.#sessionEnd = end;
    if (end.t === "lost")
      await Promise.race([
        this.#parts.jail.ended,
        new Promise<void>((resolve) => {
          this.#options.context.clock.after(LAST_WORDS_MS, resolve);
        }),
      ]);
    this.#fail(end);
  }

  /** Ends the machine, in whatever state it is. */
  #fail(end: MachineEnd): void {
    if (this.#state.t === "freezing") this.#state.giveUp.abort(new GivenUp(end));
    else this.#end(end);
  }

  #goneError(): HpccError {
    const state = this.#state;
    const end = state.t === "ending" || state.t === "ended" ? state.end : this.#sessionEnd;
    const detail = end !== null && "detail" in end ? end.detail : "the microVM is gone";
    return new HpccError(end?.t === "breach" ? "vm.breach" : "vm.lost", detail);
  }

  #end(end: MachineEnd): void {
    if (this.#state.t === "ending" || this.#state.t === "ended") return;
    this.#state = { t: "ending", end };
    const { logger } = this.#options.context;
    dismantle(this.#parts, logger)
      .then((tail) => {
        if (end.t === "lost" || end.t === "breach")
          logger.warn("vm.ended", { vm: this.id, end: end.t, detail: end.detail, tail });
        this.#state = { t: "ended", end };
        this.#resolveEnded(end);
      })
      .catch(() => undefined);
  }
}

/** Why a freeze was given up. */
class GivenUp extends Error {
  readonly end: MachineEnd;

  constructor(end: MachineEnd) {
    super(`the microVM was ${end.t}`);
    this.end = end;
  }
}
