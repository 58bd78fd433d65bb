// One QEMU machine: two processes, a folder, a session. Whatever ends one of them ends all, and leaves nothing behind.
import type { Clock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { Isolation } from "../../core/isolation.ts";
import type { OpenSession } from "../agent/session.ts";
import type { Child } from "../child.ts";
import type { Machine, MachineEnd, MachineVersions } from "../runtime.ts";
import type { VmFolder } from "../vm-folder.ts";

/** A session that ended by itself waits so long for QEMU's exit, which says more. */
const LAST_WORDS_MS = 200;

/** What a machine is made of, filled while it boots; ended in one place. */
export interface Parts {
  readonly folder: VmFolder;
  readonly children: Child[];
  session: OpenSession | null;
}

export interface QemuMachineOptions {
  readonly id: string;
  readonly isolation: Isolation;
  readonly versions: MachineVersions;
  readonly bootMs: number;
  readonly parts: Parts & { readonly session: OpenSession };
  readonly clock: Clock;
  readonly logger: Logger;
}

type State =
  | { readonly t: "running" }
  | { readonly t: "ending"; readonly end: MachineEnd }
  | { readonly t: "ended"; readonly end: MachineEnd };

/** Kills, waits and removes. Gives the last lines of what the processes wrote. */
export async function dismantle(parts: Parts): Promise<string> {
  parts.session?.close();
  for (const child of parts.children) child.kill();
  await Promise.all(parts.children.map((child) => child.ended));
  await parts.folder.remove();
  return parts.children
    .map((child) => child.log.tail())
    .filter((tail) => tail !== "")
    .join("\n");
}

export class QemuMachine implements Machine {
  readonly id: string;
  readonly isolation: Isolation;
  readonly versions: MachineVersions;
  readonly bootMs: number;
  readonly session: OpenSession;
  readonly ended: Promise<MachineEnd>;
  readonly #options: QemuMachineOptions;
  #state: State = { t: "running" };
  /** How the session ended by itself, which is why the machine ends. */
  #sessionEnd: MachineEnd | null = null;
  #resolveEnded!: (end: MachineEnd) => void;

  constructor(options: QemuMachineOptions) {
    this.#options = options;
    this.id = options.id;
    this.isolation = options.isolation;
    this.versions = options.versions;
    this.bootMs = options.bootMs;
    this.session = options.parts.session;
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
    for (const child of options.parts.children)
      void child.ended.then((how) => this.#end({ t: "lost", detail: `process ${child.pid} of the microVM ${how}` }));
    void this.session.ended.then((end) => this.#sessionEnded(end));
  }

  get alive(): boolean {
    return this.#state.t === "running" && this.session.alive;
  }

  /** Ends the machine because its guest misbehaved outside the session. */
  breach(detail: string): void {
    this.#end({ t: "breach", detail });
  }

  async destroy(): Promise<void> {
    this.#end(this.#sessionEnd ?? { t: "destroyed" });
    await this.ended;
  }

  async #sessionEnded(end: Awaited<OpenSession["ended"]>): Promise<void> {
    if (end.t === "closed") return;
    this.#sessionEnd = end;
    if (end.t === "lost")
      await Promise.race([
        ...this.#options.parts.children.map((child) => child.ended),
        new Promise<void>((resolve) => {
          this.#options.clock.after(LAST_WORDS_MS, resolve);
        }),
      ]);
    this.#end(end);
  }

  #end(end: MachineEnd): void {
    if (this.#state.t !== "running") return;
    this.#state = { t: "ending", end };
    const { parts, logger } = this.#options;
    dismantle(parts)
      .then(
        (tail) => {
          if (end.t !== "destroyed") logger.warn("vm.ended", { vm: this.id, end: end.t, detail: end.detail, tail });
        },
        (cause: unknown) => {
          const error = cause instanceof HpccError ? cause : String(cause);
          logger.error("vm.leaked", { vm: this.id, folder: parts.folder.path, error: String(error) });
        },
      )
      .then(() => {
        this.#state = { t: "ended", end };
        this.#resolveEnded(end);
      })
      .catch(() => undefined);
  }
}
