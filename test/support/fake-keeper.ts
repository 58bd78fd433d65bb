// A keeper whose jails are folders of a test: Firecracker's API is a fake on a real socket, the guest's agent is the fake agent. It
// holds to the keeper's contract: a snapshot is given only to who names its binding, and whatever ends, nothing is left.
import { execFileSync } from "node:child_process";
import {
  closeSync,
  constants,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HpccError } from "../../src/base/errors.ts";
import { type Digest, sha256 } from "../../src/core/digest/digest.ts";
import { AGENT_LISTENS } from "../../src/vm/agent/limits.ts";
import type { AdmittedFile, Jail, JailSpec, Keeper, KeeperHello, KeptSnapshot } from "../../src/vm/keeper/keeper.ts";
import { type Behaviour, FakeAgent } from "./fake-agent.ts";
import { type FakeCall, FakeFirecracker } from "./fake-firecracker.ts";

const digest = (text: string): Digest => sha256(Buffer.from(text));

export const FAKE_HELLO: KeeperHello = {
  keeper: "fake",
  vmm: { version: "1.16.1", digest: digest("vmm"), knownRelease: true },
  jailer: { version: "1.16.1", digest: digest("jailer"), knownRelease: true },
  host: { cpuModel: "a processor", microcode: "0x1", kernel: "6.18" },
};

export interface FakeKeeperOptions {
  /** What the guest of a jail does, in each of its streams. */
  readonly guest: (spec: JailSpec) => Behaviour;
  /** Makes calls of Firecracker's API fail: gives a fault's message, or null. */
  readonly fault?: (call: FakeCall, spec: JailSpec) => string | null;
  /** Connections that each guest closes at once before it serves one. */
  readonly refusals?: number;
  readonly extraConfig?: Readonly<Record<string, unknown>>;
  readonly hello?: KeeperHello;
}

export class FakeKeeper implements Keeper, Disposable {
  readonly hello: KeeperHello;
  readonly ended: Promise<string>;
  readonly admitted: AdmittedFile[] = [];
  /** Every jail that was started, in order. */
  readonly jails: FakeJail[] = [];
  readonly snapshots = new Map<string, Digest>();
  /** Set it to make the next taking of a snapshot fail with this. */
  snapshotError: HpccError | null = null;
  /** Set it to make every reservation fail with this. */
  reserveError: HpccError | null = null;
  readonly #options: FakeKeeperOptions;
  readonly #folder = mkdtempSync(join(tmpdir(), "hpcc-fk-"));
  readonly #end = Promise.withResolvers<string>();
  #snapshotCount = 0;

  constructor(options: FakeKeeperOptions) {
    this.#options = options;
    this.hello = options.hello ?? FAKE_HELLO;
    this.ended = this.#end.promise;
  }

  /** Jails that live. */
  get live(): readonly FakeJail[] {
    return this.jails.filter((jail) => jail.lives);
  }

  async admit(file: AdmittedFile): Promise<void> {
    this.admitted.push(file);
  }

  async start(spec: JailSpec, signal: AbortSignal): Promise<FakeJail> {
    signal.throwIfAborted();
    if (this.live.some(({ vm }) => vm === spec.vm)) throw new HpccError("vm.boot", `${spec.vm} lives already`);
    const { snapshot } = spec;
    if (snapshot && this.snapshots.get(snapshot.id) !== snapshot.binding) {
      this.snapshots.delete(snapshot.id);
      throw new HpccError("vm.boot", "the snapshot is not what it was", { details: { keeper: "snapshot-bad" } });
    }
    const folder = join(this.#folder, `${spec.vm}.${this.jails.length}`);
    const jail = await FakeJail.start(this, spec, folder, this.#options);
    this.jails.push(jail);
    if (signal.aborted) await jail.destroy();
    signal.throwIfAborted();
    return jail;
  }

  async dropSnapshot(id: string): Promise<void> {
    this.snapshots.delete(id);
  }

  /** Ends as a keeper that was killed: all jails and snapshots are gone. */
  async die(): Promise<void> {
    await Promise.all(this.live.map((jail) => jail.destroy()));
    this.snapshots.clear();
    this.#end.resolve("it was killed");
  }

  close(): void {
    void this.die();
  }

  keep(binding: Digest): KeptSnapshot {
    const error = this.snapshotError;
    this.snapshotError = null;
    if (error) throw error;
    this.#snapshotCount += 1;
    const id = `snapshot-${this.#snapshotCount}`;
    this.snapshots.set(id, binding);
    return { id, stateBytes: 1_000, memoryBytes: 1_000_000, digest: digest(id) };
  }

  /** Names of what is left of jails. */
  leftovers(): string[] {
    return readdirSync(this.#folder);
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

export class FakeJail implements Jail {
  readonly vm: string;
  readonly uid = 4_000;
  readonly spec: JailSpec;
  readonly apiSocket: string;
  readonly consolePipe: string;
  readonly ended: Promise<string>;
  readonly agent: FakeAgent;
  readonly firecracker: FakeFirecracker;
  readonly #keeper: FakeKeeper;
  readonly #folder: string;
  /** The VMM's own hold of the pipe: as long as it lives, the pipe does not end. */
  readonly #console: number;
  readonly #end = Promise.withResolvers<string>();
  #lives = true;
  #wroteSnapshot = false;
  #reserved = false;

  private constructor(
    keeper: FakeKeeper,
    spec: JailSpec,
    folder: string,
    parts: { readonly agent: FakeAgent; readonly firecracker: FakeFirecracker },
  ) {
    this.#keeper = keeper;
    this.#folder = folder;
    this.spec = spec;
    this.vm = spec.vm;
    this.apiSocket = join(folder, "api");
    this.consolePipe = join(folder, "console");
    this.#console = openSync(this.consolePipe, constants.O_RDWR | constants.O_NONBLOCK);
    this.ended = this.#end.promise;
    this.agent = parts.agent;
    this.firecracker = parts.firecracker;
  }

  static async start(
    keeper: FakeKeeper,
    spec: JailSpec,
    folder: string,
    options: FakeKeeperOptions,
  ): Promise<FakeJail> {
    mkdirSync(folder);
    execFileSync("mkfifo", [join(folder, "console")]);
    const agent = await FakeAgent.start(options.guest(spec));
    agent.refusals = options.refusals ?? 0;
    let jail: FakeJail | null = null;
    const { fault, extraConfig } = options;
    const firecracker = await FakeFirecracker.start({
      socketPath: join(folder, "api"),
      ...(fault ? { fault: (call: FakeCall) => fault(call, spec) } : {}),
      ...(extraConfig ? { extraConfig } : {}),
      onRun: () => {
        if (spec.snapshot === null) jail?.say(`${AGENT_LISTENS}\n`);
      },
      onSnapshot: () => jail?.snapshotWritten(),
      // A load that fails ends the real process.
      onFailedLoad: () => void jail?.crash("exited with code 1"),
    });
    jail = new FakeJail(keeper, spec, folder, { agent, firecracker });
    return jail;
  }

  get lives(): boolean {
    return this.#lives;
  }

  snapshotWritten(): void {
    this.#wroteSnapshot = true;
  }

  /** Writes to the console as a guest does, no more than a pipe takes. */
  say(text: string): void {
    if (this.#lives) writeSync(this.#console, text);
  }

  /** Names under which the guest can be dialled. */
  vsockNames(): string[] {
    return [this.agent.socketPath, join(this.#folder, "vsock")].filter((path) => existsSync(path));
  }

  async exposeVsock(): Promise<string> {
    const path = join(this.#folder, "vsock");
    if (!existsSync(path)) linkSync(this.agent.socketPath, path);
    return path;
  }

  async sealVsock(): Promise<void> {
    rmSync(this.agent.socketPath, { force: true });
    rmSync(join(this.#folder, "vsock"), { force: true });
  }

  async reserve(): Promise<void> {
    if (this.#keeper.reserveError) throw this.#keeper.reserveError;
    this.#reserved = true;
  }

  async snapshot(binding: Digest, signal: AbortSignal): Promise<KeptSnapshot> {
    signal.throwIfAborted();
    await this.crash("was killed");
    if (!this.#reserved) throw new HpccError("vm.lost", "nothing was reserved");
    if (!this.#wroteSnapshot) throw new HpccError("vm.breach", "there is no snapshot");
    return this.#keeper.keep(binding);
  }

  destroy(): Promise<void> {
    return this.crash("was killed");
  }

  /** Ends its process. */
  async crash(how: string): Promise<void> {
    if (this.#lives) void this.#endBy(how);
    await this.ended;
  }

  async #endBy(how: string): Promise<void> {
    this.#lives = false;
    closeSync(this.#console);
    await this.agent[Symbol.asyncDispose]();
    await this.firecracker[Symbol.asyncDispose]();
    rmSync(this.#folder, { recursive: true, force: true });
    this.#end.resolve(how);
  }
}
