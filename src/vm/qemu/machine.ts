// One QEMU machine that runs: its hull and the stream that lives now. Whatever ends one of them ends all, and leaves nothing behind,
// but for a park, which hands the hull on.
import { assert, HpccError } from "../../base/errors.ts";
import type { Isolation } from "../../core/isolation.ts";
import { scrubGuest } from "../agent/scrub.ts";
import type { OpenSession } from "../agent/session.ts";
import type { Machine, MachineEnd, MachineOrigin, MachineVersions, ParkedMachine } from "../runtime.ts";
import type { Hull } from "./hull.ts";
import { QemuParkedMachine } from "./parked-machine.ts";

/** A session that ended by itself waits so long for QEMU's exit, which says more. */
const LAST_WORDS_MS = 200;

/** `clearing`: it has no stream to execute on, because it is scrubbed or parked. */
type State =
  | { readonly t: "running" }
  | { readonly t: "clearing" }
  | { readonly t: "ending"; readonly end: MachineEnd }
  | { readonly t: "ended"; readonly end: MachineEnd };

export interface QemuMachineStart {
  readonly origin: MachineOrigin;
  readonly bootMs: number;
}

export class QemuMachine implements Machine {
  readonly id: string;
  readonly isolation: Isolation;
  readonly versions: MachineVersions;
  readonly origin: MachineOrigin;
  readonly bootMs: number;
  readonly ended: Promise<MachineEnd>;
  readonly #hull: Hull;
  /** Aborts what waits for the guest when the machine ends. */
  readonly #over = new AbortController();
  #session: OpenSession;
  #state: State = { t: "running" };
  /** How the session ended by itself, which is why the machine ends. */
  #sessionEnd: MachineEnd | null = null;
  #resolveEnded!: (end: MachineEnd) => void;

  constructor(hull: Hull, session: OpenSession, { origin, bootMs }: QemuMachineStart) {
    assert(hull.versions !== null, "a machine whose agent has not answered");
    this.#hull = hull;
    this.#session = session;
    this.id = hull.id;
    this.isolation = hull.context.accelerator === "kvm" ? "qemu-kvm" : "qemu-tcg";
    this.versions = hull.versions;
    this.origin = origin;
    this.bootMs = bootMs;
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
    void hull.lost.then((detail) => this.#end({ t: "lost", detail }));
    void hull.misbehaved.then((detail) => this.#end({ t: "breach", detail }));
    this.#watch(session);
  }

  get session(): OpenSession {
    return this.#session;
  }

  get alive(): boolean {
    return this.#state.t === "clearing" || (this.#state.t === "running" && this.#session.alive);
  }

  async scrub(signal: AbortSignal): Promise<void> {
    await this.#clear(signal);
    if (this.#state.t !== "clearing") throw await this.#goneOnceEnded();
    this.#state = { t: "running" };
    this.#watch(this.#session);
  }

  async park(signal: AbortSignal): Promise<ParkedMachine> {
    await this.#clear(signal);
    if (this.#state.t !== "clearing") throw await this.#goneOnceEnded();
    // The new stream has carried no byte of a tenant.
    this.#session.close();
    this.#hull.stop();
    const parked = new QemuParkedMachine(
      this.#hull,
      (session, bootMs) => new QemuMachine(this.#hull, session, { origin: "parked", bootMs }),
    );
    const end: MachineEnd = { t: "parked" };
    this.#state = { t: "ended", end };
    this.#resolveEnded(end);
    return parked;
  }

  async destroy(): Promise<void> {
    this.#end(this.#sessionEnd ?? { t: "destroyed" });
    await this.ended;
  }

  /**
   * Scrubs the guest; a failure ends the machine. It stays `clearing`, so that nothing is executed before the caller has
   * decided, in the same turn, how it goes on.
   */
  async #clear(signal: AbortSignal): Promise<void> {
    if (!this.alive || this.#state.t !== "running") throw this.#gone();
    const during = AbortSignal.any([signal, this.#over.signal]);
    this.#state = { t: "clearing" };
    try {
      this.#session = await scrubGuest(
        this.#session,
        (redial) => this.#hull.dial(redial),
        this.#hull.sessionOptions,
        during,
      );
      during.throwIfAborted();
    } catch (cause) {
      this.#end(signal.aborted ? { t: "destroyed" } : endBy(cause));
      await this.ended;
      throw signal.aborted ? signal.reason : this.#gone();
    }
  }

  async #goneOnceEnded(): Promise<HpccError> {
    await this.ended;
    return this.#gone();
  }

  /** Why it takes no orders. */
  #gone(): HpccError {
    const end = "end" in this.#state ? this.#state.end : this.#sessionEnd;
    switch (end?.t) {
      case "breach":
        return new HpccError("vm.breach", `the guest broke its contract: ${end.detail}`);
      case "lost":
        return new HpccError("vm.lost", end.detail);
      case "parked":
        return new HpccError("vm.lost", "the microVM is parked");
      case "destroyed":
        return new HpccError("vm.lost", "the microVM was destroyed");
      case undefined:
        return new HpccError("vm.lost", "the microVM is being scrubbed or parked");
    }
  }

  #watch(session: OpenSession): void {
    void session.ended.then((end) => this.#sessionEnded(session, end));
  }

  async #sessionEnded(session: OpenSession, end: Awaited<OpenSession["ended"]>): Promise<void> {
    if (session !== this.#session || end.t === "closed" || this.#state.t === "clearing") return;
    this.#sessionEnd = end;
    if (end.t === "lost")
      await Promise.race([
        this.#hull.lost,
        new Promise<void>((resolve) => {
          this.#hull.context.clock.after(LAST_WORDS_MS, resolve);
        }),
      ]);
    this.#end(end);
  }

  #end(end: MachineEnd): void {
    if (this.#state.t === "ending" || this.#state.t === "ended") return;
    this.#state = { t: "ending", end };
    this.#over.abort(this.#gone());
    const { logger } = this.#hull.context;
    this.#session.close();
    this.#hull
      .dismantle()
      .then((tail) => {
        if (end.t === "lost" || end.t === "breach")
          logger.warn("vm.ended", { vm: this.id, end: end.t, detail: end.detail, tail });
        this.#state = { t: "ended", end };
        this.#resolveEnded(end);
      })
      .catch(() => undefined);
  }
}

/** How a machine ends whose scrub or stop failed so. A guest that does not do what it is told has broken the contract. */
function endBy(cause: unknown): MachineEnd {
  const said = cause instanceof Error ? cause.message : String(cause);
  const detail = said.replace(/^the guest broke its contract: /, "");
  return { t: cause instanceof HpccError && cause.code === "vm.lost" ? "lost" : "breach", detail };
}
