// Connects a worker to the keeper that started it.
import { Socket } from "node:net";
import type { Clock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { Digest } from "../../core/digest/digest.ts";
import {
  KEEPER_PROTOCOL_VERSION,
  readExited,
  readHello,
  readPath,
  readSnapshot,
  readStarted,
  refused,
} from "./answers.ts";
import { KeeperChannel, KeeperRefusal } from "./channel.ts";
import type { AdmittedFile, Jail, JailSpec, Keeper, KeeperHello, KeptSnapshot } from "./keeper.ts";

export interface KeeperOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** For each answer. The keeper itself gives up starting a VMM after 30 s; an admitted file or a snapshot may be of many GiB. */
  readonly deadlineMs: number;
}

/**
 * Takes the keeper's end of the connection that a worker was started with: an open descriptor, a Unix stream socket. Throws
 * `peer.protocol` or `vm.lost` when no keeper of this version answers.
 */
export async function connectKeeper(fd: number, options: KeeperOptions): Promise<Keeper> {
  let socket: Socket;
  try {
    socket = new Socket({ fd, readable: true, writable: true });
  } catch (cause) {
    throw new HpccError(
      "tool.missing",
      `descriptor ${fd} is no connection to a keeper; start the worker by hpcc-keeper`,
      {
        cause,
      },
    );
  }
  return keeperOver(socket, options);
}

/** Speaks with a keeper over a connection that is there already. */
export function keeperOver(socket: Socket, options: KeeperOptions): Promise<Keeper> {
  return KeptMachines.connect(socket, options);
}

class KeptMachines implements Keeper {
  readonly hello: KeeperHello;
  readonly ended: Promise<string>;
  readonly #channel: KeeperChannel;
  readonly #options: KeeperOptions;
  readonly #jails: Map<string, KeptJail>;

  private constructor(
    hello: KeeperHello,
    channel: KeeperChannel,
    options: KeeperOptions,
    jails: Map<string, KeptJail>,
  ) {
    this.hello = hello;
    this.#channel = channel;
    this.#options = options;
    this.#jails = jails;
    this.ended = channel.ended.then((why) => {
      for (const jail of jails.values()) jail.onEnd(why);
      jails.clear();
      return why;
    });
  }

  static async connect(socket: Socket, options: KeeperOptions): Promise<Keeper> {
    const jails = new Map<string, KeptJail>();
    const onEvent = (event: Readonly<Record<string, unknown>>): void => {
      const exited = readExited(event);
      if (exited === null) {
        options.logger.warn("keeper.event.unknown", {});
        return;
      }
      const jail = jails.get(exited.vm);
      jails.delete(exited.vm);
      jail?.onEnd(exited.status);
    };
    const channel = new KeeperChannel(socket, { clock: options.clock, onEvent });
    try {
      const answer = await channel.ask("hello", { version: KEEPER_PROTOCOL_VERSION }, options.deadlineMs);
      const hello = readHello(answer);
      for (const [name, program] of Object.entries({ firecracker: hello.vmm, jailer: hello.jailer }))
        if (!program.knownRelease)
          options.logger.warn("keeper.program.unknown", {
            program: name,
            digest: program.digest,
            why: "unknown build: its seccomp filters cannot be vouched for",
          });
      return new KeptMachines(hello, channel, options, jails);
    } catch (error) {
      channel.close("no hello");
      throw refused(error, "peer.protocol");
    }
  }

  async admit(file: AdmittedFile): Promise<void> {
    const fields = { kind: file.kind, path: file.path, sha256: file.digest, bytes_max: file.bytesMax };
    await this.#ask("admit", fields, "vm.boot");
  }

  async start(spec: JailSpec, signal: AbortSignal): Promise<Jail> {
    signal.throwIfAborted();
    const { vm } = spec;
    if (this.#jails.has(vm)) throw new HpccError("argument.invalid", `the machine ${vm} lives already`);
    const jail = new KeptJail(vm, this.#channel, this.#options);
    this.#jails.set(vm, jail);
    // The keeper ends a start when it is told to destroy what it starts.
    const abort = (): void => {
      jail
        .destroy()
        .catch((error: unknown) => this.#options.logger.warn("keeper.destroy.failed", { vm, error: String(error) }));
    };
    signal.addEventListener("abort", abort, { once: true });
    try {
      const answer = await this.#ask(
        "start",
        {
          vm,
          memory_bytes: spec.memoryBytes,
          vcpus: spec.vcpus,
          cpu_quota_us: null,
          files: { kernel: spec.kernel, initramfs: spec.initramfs, rootfs: spec.rootfs },
          snapshot: spec.snapshot?.id ?? null,
          binding: spec.snapshot?.binding ?? null,
          file_bytes_max: spec.fileBytesMax,
        },
        "vm.boot",
      );
      jail.started(readStarted(answer));
    } catch (error) {
      if (this.#jails.get(vm) === jail) this.#jails.delete(vm);
      jail.onEnd("did not start");
      signal.throwIfAborted();
      throw error;
    } finally {
      signal.removeEventListener("abort", abort);
    }
    if (signal.aborted) {
      await jail.destroy();
      signal.throwIfAborted();
    }
    return jail;
  }

  async dropSnapshot(id: string): Promise<void> {
    await this.#ask("drop", { snapshot: id }, "store.io");
  }

  close(): void {
    this.#channel.close("the worker closed it");
  }

  async #ask(
    request: string,
    fields: Readonly<Record<string, unknown>>,
    code: "vm.boot" | "store.io",
  ): Promise<Readonly<Record<string, unknown>>> {
    try {
      return await this.#channel.ask(request, fields, this.#options.deadlineMs);
    } catch (error) {
      throw refused(error, code);
    }
  }
}

class KeptJail implements Jail {
  readonly vm: string;
  readonly ended: Promise<string>;
  /** Called when nothing of it is left. */
  readonly onEnd: (status: string) => void;
  readonly #channel: KeeperChannel;
  readonly #options: KeeperOptions;
  #place = { uid: 0, api: "", console: "" };
  #gone = false;

  constructor(vm: string, channel: KeeperChannel, options: KeeperOptions) {
    this.vm = vm;
    this.#channel = channel;
    this.#options = options;
    const { promise, resolve } = Promise.withResolvers<string>();
    this.ended = promise;
    this.onEnd = (status) => {
      this.#gone = true;
      resolve(status);
    };
  }

  get uid(): number {
    return this.#place.uid;
  }

  get apiSocket(): string {
    return this.#place.api;
  }

  get consolePipe(): string {
    return this.#place.console;
  }

  started(place: { readonly uid: number; readonly api: string; readonly console: string }): void {
    this.#place = place;
  }

  async exposeVsock(): Promise<string> {
    return readPath(await this.#ask("expose", { vm: this.vm, socket: "vsock" }));
  }

  async sealVsock(): Promise<void> {
    await this.#ask("seal", { vm: this.vm });
  }

  async reserve(): Promise<void> {
    await this.#ask("reserve", { vm: this.vm });
  }

  async snapshot(binding: Digest, signal: AbortSignal): Promise<KeptSnapshot> {
    signal.throwIfAborted();
    const kept = readSnapshot(await this.#ask("snapshot", { vm: this.vm, binding }));
    if (signal.aborted) {
      await this.#ask("drop", { snapshot: kept.id });
      signal.throwIfAborted();
    }
    return kept;
  }

  async destroy(): Promise<void> {
    // A name may be used again: by then it is another machine's.
    if (this.#gone) return;
    try {
      await this.#channel.ask("destroy", { vm: this.vm }, this.#options.deadlineMs);
    } catch (error) {
      // With the keeper, every jail is gone.
      if (error instanceof KeeperRefusal) throw refused(error, "vm.lost");
    }
  }

  async #ask(request: string, fields: Readonly<Record<string, unknown>>): Promise<Readonly<Record<string, unknown>>> {
    try {
      return await this.#channel.ask(request, fields, this.#options.deadlineMs);
    } catch (error) {
      throw refused(error, "vm.lost");
    }
  }
}
