// One QEMU machine that stands still: its processes are stopped, its memory is kept, nobody is connected to it.
import { HpccError } from "../../base/errors.ts";
import type { OpenSession } from "../agent/session.ts";
import type { Machine, MachineEnd, ParkedMachine } from "../runtime.ts";
import type { Hull } from "./hull.ts";

export class QemuParkedMachine implements ParkedMachine {
  readonly id: string;
  readonly parking = "stopped";
  /** All of it stays in memory. */
  readonly diskBytes = 0;
  readonly ended: Promise<MachineEnd>;
  readonly #hull: Hull;
  readonly #makeMachine: (session: OpenSession, bootMs: number) => Machine;
  /** Aborts a restore when the machine ends. */
  readonly #over = new AbortController();
  #state: "parked" | "restoring" | "ending" | "ended" = "parked";
  #resolveEnded!: (end: MachineEnd) => void;

  constructor(hull: Hull, makeMachine: (session: OpenSession, bootMs: number) => Machine) {
    this.#hull = hull;
    this.#makeMachine = makeMachine;
    this.id = hull.id;
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
    void hull.lost.then((detail) => this.#end({ t: "lost", detail }));
    void hull.misbehaved.then((detail) => this.#end({ t: "breach", detail }));
  }

  async restore(signal: AbortSignal): Promise<Machine> {
    if (this.#state !== "parked") throw new HpccError("vm.boot", "the parked microVM is gone");
    this.#state = "restoring";
    const { clock, bootDeadlineMs } = this.#hull.context;
    const startedMs = clock.monotonicMs();
    const deadline = new AbortController();
    const timer = clock.after(bootDeadlineMs, () =>
      deadline.abort(new HpccError("vm.breach", `its agent did not answer within ${bootDeadlineMs} ms`)),
    );
    const during = AbortSignal.any([signal, deadline.signal, this.#over.signal]);
    try {
      during.throwIfAborted();
      this.#hull.resume();
      const session = await this.#hull.openSession(during);
      during.throwIfAborted();
      this.#state = "ended";
      this.#resolveEnded({ t: "parked" });
      return this.#makeMachine(session, clock.monotonicMs() - startedMs);
    } catch (cause) {
      const detail = cause instanceof Error ? cause.message : String(cause);
      const breach = cause instanceof HpccError && cause.code === "vm.breach";
      this.#end(signal.aborted ? { t: "destroyed" } : { t: breach ? "breach" : "lost", detail });
      await this.ended;
      if (signal.aborted) throw signal.reason;
      throw new HpccError("vm.boot", `a parked microVM could not be restored: ${detail}`, { cause });
    } finally {
      timer.cancel();
    }
  }

  async destroy(): Promise<void> {
    this.#end({ t: "destroyed" });
    await this.ended;
  }

  #end(end: MachineEnd): void {
    if (this.#state === "ending" || this.#state === "ended") return;
    this.#state = "ending";
    this.#over.abort(
      new HpccError("vm.lost", end.t === "destroyed" ? "the microVM was destroyed" : "the microVM ended"),
    );
    const { logger } = this.#hull.context;
    this.#hull
      .dismantle()
      .then((tail) => {
        if (end.t === "lost" || end.t === "breach")
          logger.warn("vm.ended", { vm: this.id, end: end.t, detail: end.detail, tail, parked: true });
        this.#state = "ended";
        this.#resolveEnded(end);
      })
      .catch(() => undefined);
  }
}
