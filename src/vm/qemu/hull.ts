// What one QEMU machine is made of on the host: two processes and a folder. It outlives a park; whoever has it
// last dismantles it.
import { randomBytes } from "node:crypto";
import { open } from "node:fs/promises";
import type { Duplex } from "node:stream";
import { dialGuest } from "../agent/dial.ts";
import { AGENT_PORT } from "../agent/limits.ts";
import { dialSession } from "../agent/scrub.ts";
import type { OpenSession, SessionOptions } from "../agent/session.ts";
import type { Child } from "../child.ts";
import type { MachineVersions } from "../runtime.ts";
import type { VmFolder } from "../vm-folder.ts";
import { deviceSocket, VSOCK_SOCKET } from "./command-line.ts";
import type { QemuBootContext } from "./context.ts";

export class Hull {
  readonly id: string;
  readonly context: QemuBootContext;
  readonly folder: VmFolder;
  /** Filled while it is put together: the vsock device first. */
  readonly children: Child[] = [];
  /** Set once the agent has answered. */
  versions: MachineVersions | null = null;
  #dismantled: Promise<string> | null = null;
  readonly #lost = Promise.withResolvers<string>();
  readonly #flooded = Promise.withResolvers<string>();

  constructor(context: QemuBootContext, id: string, folder: VmFolder) {
    this.context = context;
    this.id = id;
    this.folder = folder;
  }

  /** Says which process ended and how; settles once at most, never rejects. */
  get lost(): Promise<string> {
    return this.#lost.promise;
  }

  /** Says what its guest did to the host outside the stream; settles once at most, never rejects. */
  get misbehaved(): Promise<string> {
    return this.#flooded.promise;
  }

  flooded(): void {
    this.#flooded.resolve("the guest floods its console");
  }

  add(child: Child): void {
    this.children.push(child);
    void child.ended.then((how) => this.#lost.resolve(`process ${child.pid} of the microVM ${how}`));
  }

  /** Takes its sockets away: from now on nobody but this hull dials, and QEMU finds no other device. */
  async seal(): Promise<void> {
    await this.folder.takePrivate(VSOCK_SOCKET);
    await this.folder.removeShared(deviceSocket(this.id));
  }

  /** Dials the guest's agent; rejects with the signal's reason when it aborts. */
  async dial(signal: AbortSignal): Promise<Duplex> {
    // Through the folder's descriptor the socket's name is short wherever the folder is: the limit is 108 bytes.
    const folder = await open(this.folder.path, "r");
    try {
      return await dialGuest({
        socketPath: `/proc/self/fd/${folder.fd}/${VSOCK_SOCKET}`,
        port: AGENT_PORT,
        clock: this.context.clock,
        signal,
      });
    } finally {
      await folder.close();
    }
  }

  /** Opens a stream, as soon as the agent has cleared away what the one before left. The signal ends it, also when a process is lost. */
  openSession(signal: AbortSignal): Promise<OpenSession> {
    return dialSession((redial) => this.dial(redial), this.sessionOptions, signal);
  }

  get sessionOptions(): SessionOptions {
    const { clock, deadlines, outputsFolder, openStream } = this.context;
    return { clock, deadlines, folder: outputsFolder, randomBytes, openStream };
  }

  /** Has the host's kernel stop the processes: not even a VMM that its guest has taken over goes on. */
  stop(): void {
    for (const child of this.children) child.stop();
  }

  resume(): void {
    for (const child of this.children) child.resume();
  }

  /** Kills, waits and removes. Gives the last lines of what the processes wrote. Never rejects: what stays is logged. */
  dismantle(): Promise<string> {
    this.#dismantled ??= this.#dismantle();
    return this.#dismantled;
  }

  async #dismantle(): Promise<string> {
    for (const child of this.children) child.kill();
    await Promise.all(this.children.map((child) => child.ended));
    try {
      await this.folder.remove();
    } catch (error) {
      this.context.logger.error("vm.leaked", { vm: this.id, folder: this.folder.path, error: String(error) });
    }
    return this.children
      .map((child) => child.log.tail())
      .filter((tail) => tail !== "")
      .join("\n");
  }
}
