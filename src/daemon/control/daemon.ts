// The daemon: one per user. Answers launchers' calls and the commands' questions, keeps namespaces and the streams to workers. Runs
// no compiler itself. UNTRUSTED: any process of this user may connect.
import { mkdirSync, readFileSync, readlinkSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { type ByteString, byteStringOfText } from "../../base/byte-string.ts";
import { type Clock, pause } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { Semaphore } from "../../base/semaphore.ts";
import { releaseMemory } from "../../base/system/release-memory.ts";
import type { ClientConfig } from "../../config/client.ts";
import { type Directories, type Environment, replayFolder } from "../../config/directories.ts";
import type { BypassReason } from "../../core/compile/bypass-reasons.ts";
import { grammarOf } from "../../core/compile/grammar/gnu-grammar.ts";
import type { CompilerFamily, GnuInvocation } from "../../core/compile/grammar/invocation.ts";
import { ImageStore } from "../../image/image-store.ts";
import { DiskLocalStore } from "../../store/local/disk-local-store.ts";
import { NamespaceKeeper } from "../../vm/namespace/namespace-keeper.ts";
import type { CallMessage } from "../../wire/launcher/messages.ts";
import type { CallObserver } from "../call/answered-call.ts";
import { Builds } from "../call/builds.ts";
import { describedCall } from "../call/described-call.ts";
import { LongWork } from "../call/long-work.ts";
import { answerCompileCall, type PipelineParts } from "../call/pipeline.ts";
import { takesPrefixMapsUnentered } from "../call/prefix-map-support.ts";
import { Remembered } from "../call/remembered.ts";
import type { Bypass } from "../call/stage.ts";
import { KeptListings } from "../files-form/kept-listings.ts";
import { StrippedUse } from "../files-form/stripped-use.ts";
import { ImagePulls } from "../image-pulls.ts";
import { FileCache } from "../inputs/file-cache.ts";
import { FolderNamesCache } from "../inputs/folder-names.ts";
import { HeaderHints } from "../inputs/header-hints.ts";
import { ImageHeaders } from "../inputs/image-headers.ts";
import { ImageScans } from "../inputs/image-scans.ts";
import { FolderIdentities } from "../inputs/steady-places.ts";
import { LocalUse } from "../local-use/local-use.ts";
import type { Project } from "../project.ts";
import { ProjectRegistry, type ProjectState, type RunNamespace } from "../project-registry.ts";
import { ReceiptKeeper } from "../remote/receipt-keeper.ts";
import type { RemoteCompiler } from "../remote/remote-compiler.ts";
import type { Remotes } from "../remote/remotes.ts";
import { Replays } from "../replay/replays.ts";
import { insideCall } from "../run/inside-call.ts";
import { commandAnswer } from "../run/run-command.ts";
import {
  forbiddenAnswer,
  hostAnswer,
  ownProgram,
  programAnswer,
  quoted,
  refusalAnswer,
  sandboxAnswer,
} from "../tiers/local-answer.ts";
import { CallCounts } from "./call-counts.ts";
import { type CallAnswer, type LauncherCall, serveLauncher } from "./launcher-connection.ts";
import { type LauncherSocket, listenForLaunchers, prepareRuntimeFolder, tellEnd } from "./socket.ts";

export interface DaemonOptions {
  /** The configuration outside of any project. */
  readonly config: ClientConfig;
  readonly directories: Directories;
  readonly logger: Logger;
  readonly clock: Clock;
  /** Version of hpcc, for workers. */
  readonly version: string;
  /** The file of the program that the daemon runs from; a release of another one makes replay records void. */
  readonly program?: string;
  /** Where logins and the like of registries are found; by default nowhere. */
  readonly env?: Environment;
  /** Told of each answered call. */
  readonly observers?: readonly CallObserver[];
}

export interface RunningDaemon {
  /** Settles when the daemon was told to stop or had nothing to do for `daemonIdleMs`; then call `close`. */
  readonly ended: Promise<"stopped" | "idle" | "unreachable">;
  close(): Promise<void>;
}

const FILE_CACHE_BYTES = 24 * 1024 * 1024;
const LISTINGS_BYTES = 8 * 1024 * 1024;
const REMEMBERED_MAX = 10_000;
/** Preprocessed text that calls hold at the same time. */
const TEXT_BYTES_AT_ONCE_MAX = 512 * 1024 * 1024;
/** What replay records may take beside the local store, of its limit. */
const REPLAY_SHARE = 0.2;
/** How often the images of commands are held anew. */
const HOLD_AGAIN_MS = 60 * 60_000;
/** After so long without a call memory is given back; a build's calls come closer together. */
const REST_MS = 10_000;
const FALLBACK_LOG_BYTES_MAX = 1024 * 1024;

/** Starts the daemon. Throws `argument.invalid` when one runs already, `config.invalid` for an unsafe runtime folder. */
export async function startDaemon(options: DaemonOptions): Promise<RunningDaemon> {
  prepareRuntimeFolder(options.directories.runtime, process.getuid?.() ?? 0);
  const ready = Promise.withResolvers<Daemon>();
  // Whoever calls before the daemon stands waits in the socket.
  const socket = await listenForLaunchers(options.directories, (launcher) => {
    void ready.promise.then((daemon) =>
      serveLauncher(launcher, {
        call: (call) => daemon.answer(call),
        done: (message) => daemon.done(message?.result.kind === "fell-back" ? message.result.reason : null),
        control: (request) => daemon.control(request),
        doing: () => daemon.longWork.tell(),
        fault: (error) => daemon.fault(error),
      }),
    );
  });
  // Only now is it sure that no other daemon lives here, whose files this one would take away.
  let daemon: Daemon;
  try {
    daemon = new Daemon(options, socket);
  } catch (error) {
    socket.close();
    throw error;
  }
  ready.resolve(daemon);
  options.logger.info("daemon.started", { pid: process.pid, runtime: options.directories.runtime });
  return {
    ended: daemon.ended,
    async close() {
      const isReached = socket.isOurs();
      if (isReached) tellEnd(options.directories, options.clock.wallMs());
      socket.close();
      await daemon.close(isReached);
    },
  };
}

/** Compiles that a call asks for, which a worker could do; none for any other call. */
function compilesOf({ argv }: CallMessage, family: CompilerFamily): readonly GnuInvocation[] {
  const parsed = grammarOf({ family }).parse(argv, () => null);
  if (parsed.kind === "several") return parsed.invocations;
  return parsed.kind === "compile" ? [parsed.invocation] : [];
}

/** A caller in a chroot sees other files under the same names. */
function hasWholeRoot({ pid }: CallMessage): boolean {
  try {
    return readlinkSync(`/proc/${pid}/root`) === "/";
  } catch {
    return false;
  }
}

class Daemon {
  readonly longWork: LongWork;
  readonly #options: DaemonOptions;
  readonly #socket: LauncherSocket;
  readonly #namespaces: NamespaceKeeper;
  readonly #store: ImageStore;
  readonly #pulls: ImagePulls;
  readonly #projects: ProjectRegistry;
  readonly #files: FileCache;
  readonly #names: FolderNamesCache;
  readonly #images = new ImageScans();
  readonly #imageHeaders = new ImageHeaders();
  readonly #folders: FolderIdentities;
  readonly #ownPaths = new Remembered<true>(REMEMBERED_MAX);
  readonly #prefixMaps = new Remembered<boolean>(REMEMBERED_MAX);
  readonly #nativeWords = new Remembered<ByteString>(REMEMBERED_MAX);
  readonly #refusedSources = new Remembered<Bypass>(REMEMBERED_MAX);
  readonly #counts = new CallCounts();
  readonly #builds: Builds;
  readonly #headers: HeaderHints;
  readonly #listings: KeptListings;
  readonly #strippedUse = new StrippedUse();
  #remotes: Promise<Remotes> | null = null;
  readonly #receipts: ReceiptKeeper;
  readonly #slots: Semaphore;
  readonly #observers: readonly CallObserver[];
  /** Null when local results are not kept. */
  readonly #local: {
    readonly store: DiskLocalStore;
    readonly use: LocalUse;
    readonly replays: Replays | null;
  } | null;
  readonly #textBytes = new Semaphore(TEXT_BYTES_AT_ONCE_MAX);
  readonly #mountNamespace = statSync("/proc/self/ns/mnt", { bigint: true });
  readonly #startedMs: number;
  #countedSinceMs: number;
  readonly #ended = Promise.withResolvers<"stopped" | "idle" | "unreachable">();
  #busy = 0;
  #restTimer: { cancel(): void } | null = null;
  #idleTimer: { cancel(): void } | null = null;
  #holdTimer: { cancel(): void } | null = null;

  constructor(options: DaemonOptions, socket: LauncherSocket) {
    const { directories, logger } = options;
    this.#options = options;
    this.#socket = socket;
    this.#files = new FileCache(FILE_CACHE_BYTES, options.clock);
    this.#names = new FolderNamesCache(options.clock);
    this.#folders = new FolderIdentities(options.clock);
    this.#slots = new Semaphore(options.config.jobsMax);
    this.#headers = new HeaderHints({ logger });
    this.#builds = new Builds({ logger });
    this.#receipts = new ReceiptKeeper({ folder: directories.state, logger });
    this.#startedMs = options.clock.wallMs();
    this.#countedSinceMs = this.#startedMs;
    this.#namespaces = new NamespaceKeeper({ logger });
    this.longWork = new LongWork(options.clock);
    this.#store = new ImageStore(directories.images);
    const images = this.#store;
    this.#pulls = new ImagePulls({ images, env: options.env ?? {}, clock: options.clock, logger });
    this.#projects = new ProjectRegistry({
      directories,
      images,
      pulls: this.#pulls,
      namespaces: this.#namespaces,
      longWork: this.longWork,
      logger,
    });
    // What an earlier daemon left of its calls is nobody's.
    rmSync(join(directories.runtime, "calls"), { recursive: true, force: true });
    this.#observers = options.observers ?? [];
    this.#local = this.#localUse();
    this.#listings = new KeptListings(LISTINGS_BYTES, this.#local && { store: this.#local.store, logger });
    // Made now, so that a runtime folder that fills up later costs a local compile and not the project's binding.
    mkdirSync(join(directories.runtime, "calls"), { recursive: true, mode: 0o700 });
    this.#rest();
    this.#holdRuns();
  }

  get ended(): Promise<"stopped" | "idle" | "unreachable"> {
    return this.#ended.promise;
  }

  async answer(call: LauncherCall): Promise<CallAnswer> {
    this.#work();
    try {
      return await this.#answer(call);
    } finally {
      this.#rest();
    }
  }

  async #answer(asked: LauncherCall): Promise<CallAnswer> {
    const run = this.#runNamespace(asked.message);
    if (asked.message.errand === "command") return this.#command(asked, run);
    const state = await this.#projectOf(asked, run);
    const call = asked.message.errand === "inside" ? insideCall(asked, state, run) : asked;
    if (call === null) return this.#ownOfNamespace(asked.message, state);
    const { message } = call;
    if (state.kind === "unbound") {
      if (this.#local === null) return this.#host(message, "no_image", null);
      return this.#sameMounts(message) ? this.#local.use.answer(call) : this.#host(message, "mount_namespace", null);
    }
    if (state.kind === "unusable") {
      const reason = state.coming === undefined ? "image_unusable" : "image_fetching";
      if (state.fallback === "host") return this.#host(message, reason, `${state.message}; the host's compiler runs`);
      this.#leave(message, "refused", reason);
      return refusalAnswer(state.message);
    }
    const { project } = state;
    const name = message.argv[0]!;
    const own = project.compilerAt(name) === null ? ownProgram(message, project) : null;
    if (own !== null) return this.#program(message, project, own, "own_program");
    const compiler = project.compiler(name);
    if (compiler === null) {
      const program = project.program(name);
      if (program !== null) return this.#program(message, project, program, "unknown_driver");
      const missing = `${quoted(name)} is not in the project's image ${project.imageDigest}`;
      if (project.config.fallback === "host")
        return this.#host(message, "compiler_not_in_image", `${missing}; the host's runs`);
      this.#leave(message, "refused", "compiler_not_in_image");
      return { ...refusalAnswer(missing), exitCode: 127 };
    }
    if (!this.#sameMounts(message)) {
      const compiles = compilesOf(message, compiler.family);
      if (project.config.fallback === "none" && compiles.length > 0) {
        this.#leave(message, "refused", "mount_namespace");
        return forbiddenAnswer("mount_namespace", null);
      }
      this.#leave(message, "local", "mount_namespace");
      const maps = await takesPrefixMapsUnentered({ project, compiler }, this.#prefixMaps);
      const paths = compiles.some(({ ownPaths }) => ownPaths) || !maps ? "own" : project.config.paths;
      return sandboxAnswer(message, { project, compiler, paths });
    }
    return answerCompileCall(call, project, compiler, this.#parts(await this.#remote(project)));
  }

  /** The call's project; waits for an image that is on its way, unless the host's compiler may stand in for it. */
  async #projectOf({ message, signal }: LauncherCall, run: RunNamespace | null): Promise<ProjectState> {
    const state = await this.#projects.find(message, run);
    if (state.kind !== "unusable" || state.coming === undefined || state.fallback === "host") return state;
    const { pull, waitMs } = state.coming;
    const over = new AbortController();
    const late = pause(this.#options.clock, waitMs, AbortSignal.any([signal, over.signal]));
    await Promise.race([pull.done, late]).catch(() => undefined);
    over.abort();
    return this.#projects.find(message, run);
  }

  /** `hpcc run`. */
  async #command(call: LauncherCall, run: RunNamespace | null): Promise<CallAnswer> {
    return commandAnswer(call.message, run, (within) => this.#projectOf(call, within));
  }

  /** Becomes the compiler that the caller's namespace has of that name, whatever the project's is by now. */
  #ownOfNamespace(message: CallMessage, state: ProjectState): CallAnswer {
    const isForbidden = state.kind === "bound" && state.project.config.fallback === "none";
    if (isForbidden && compilesOf(message, "gcc").length > 0) {
      this.#leave(message, "refused", "mount_namespace");
      return forbiddenAnswer("mount_namespace", null);
    }
    this.#leave(message, "local", "mount_namespace");
    return hostAnswer(null);
  }

  async #program(
    message: CallMessage,
    project: Project,
    path: ByteString,
    reason: "own_program" | "unknown_driver",
  ): Promise<CallAnswer> {
    if (project.config.fallback === "none" && compilesOf(message, "gcc").length > 0) {
      this.#leave(message, "refused", reason);
      return forbiddenAnswer(reason, path);
    }
    this.#leave(message, "local", reason);
    const sameMounts = this.#sameMounts(message);
    return programAnswer(message, project, { path, ofImage: reason === "unknown_driver", sameMounts });
  }

  #host(message: CallMessage, reason: BypassReason, warning: string | null): CallAnswer {
    this.#leave(message, "host", reason);
    return hostAnswer(warning);
  }

  /** Counts a call that no part of the daemon takes, and has the history know why. */
  #leave(message: CallMessage, outcome: "host" | "local" | "refused", reason: BypassReason): void {
    this.#counts.count(outcome, reason);
    const call = { message, project: null, startedMs: this.#options.clock.wallMs(), durationMs: 0 };
    const left = describedCall(call, { outcome, reason, detail: null });
    for (const observer of this.#observers) observer.answered(left);
  }

  #localUse() {
    const { config, directories, clock, logger } = this.#options;
    if (!config.local.enabled) return null;
    const store = new DiskLocalStore({
      root: directories.cache,
      sizeBytesMax: config.local.sizeBytesMax,
      clock,
      logger,
    });
    const replays = config.local.replay ? this.#replays(store) : null;
    const use = new LocalUse({
      store,
      names: this.#names,
      folders: this.#folders,
      counts: this.#counts,
      headers: this.#headers,
      observers: this.#toldBy(replays),
      callFolder: byteStringOfText(join(directories.runtime, "calls")),
      clock,
      logger,
    });
    return { store, use, replays };
  }

  #toldBy(replays: Replays | null): readonly CallObserver[] {
    return replays === null ? this.#observers : [...this.#observers, replays.observer];
  }

  #replays(store: DiskLocalStore): Replays {
    const { config, directories, clock, logger, program } = this.#options;
    return new Replays({
      folder: replayFolder(directories.state),
      store,
      names: this.#names,
      clock,
      logger,
      configurationFiles: [directories.userConfig, directories.systemConfig],
      program: program ?? null,
      bytesMax: config.local.sizeBytesMax * REPLAY_SHARE,
      replayed: (hits, uses) => {
        this.#counts.countMany("replayed", hits);
        for (const observer of this.#observers) observer.replayed?.(uses);
      },
    });
  }

  /** Whether the caller sees what the daemon sees, but for what all calls of a project take from its image. */
  #sameMounts(message: CallMessage): boolean {
    const { dev, ino } = this.#mountNamespace;
    const { mountNamespace } = message;
    const isOwn = mountNamespace.ino === ino && mountNamespace.dev === dev;
    return isOwn ? hasWholeRoot(message) : this.#runNamespace(message) !== null;
  }

  /** The namespace of `hpcc run` that a call comes from. */
  #runNamespace(message: CallMessage): RunNamespace | null {
    const { dev, ino } = message.mountNamespace;
    const known = dev === this.#mountNamespace.dev ? this.#projects.runNamespace(ino) : null;
    return known !== null && hasWholeRoot(message) ? known : null;
  }

  #parts(worker: RemoteCompiler | null): PipelineParts {
    const { clock, logger } = this.#options;
    return {
      worker,
      files: this.#files,
      names: this.#names,
      images: this.#images,
      imageHeaders: this.#imageHeaders,
      folders: this.#folders,
      ownPaths: this.#ownPaths,
      prefixMaps: this.#prefixMaps,
      nativeWords: this.#nativeWords,
      refusedSources: this.#refusedSources,
      textBytes: this.#textBytes,
      builds: this.#builds,
      longWork: this.longWork,
      counts: this.#counts,
      headers: this.#headers,
      listings: this.#listings,
      strippedUse: this.#strippedUse,
      slots: this.#slots,
      clock,
      logger,
      observers: this.#toldBy(this.#local?.replays ?? null),
      store: this.#local?.store ?? null,
      local: this.#local?.use ?? null,
    };
  }

  /** The way to workers for a project's image; null when none is configured. Whoever has no workers does without its code. */
  async #remote(project: Project): Promise<RemoteCompiler | null> {
    const { remote, identity, schedulers } = project.config;
    if (!remote || identity === null || schedulers.length === 0) return null;
    const { clock, logger, version } = this.#options;
    this.#remotes ??= import("../remote/remotes.ts").then(
      ({ Remotes }) => new Remotes({ receipts: this.#receipts, clock, logger, version }),
    );
    return (await this.#remotes).of(project, identity);
  }

  /** What a launcher made of its answer: a fall-back of its own is in its log, and here for the operator's. */
  done(fellBack: string | null): void {
    if (fellBack !== null) this.#options.logger.warn("launcher.fell_back", { reason: fellBack });
  }

  fault(error: unknown): void {
    if (error instanceof HpccError && error.code === "job.cancelled") return;
    const { logger } = this.#options;
    const message = error instanceof Error ? error.message : String(error);
    logger.warn("connection.failed", { code: error instanceof HpccError ? error.code : "bug", message });
  }

  /** Answers a sub-command. UNTRUSTED: any process of this user. */
  async control(request: unknown): Promise<unknown> {
    const command = typeof request === "object" && request !== null && "command" in request ? request.command : null;
    switch (command) {
      case "stats": {
        await this.#local?.replays?.refresh();
        const stats = {
          ...this.#counts.snapshot(),
          since_ms: this.#countedSinceMs,
          launcher_fallbacks: this.#launcherFallbacks(),
          headers_missing: this.#headers.list(),
          images_coming: this.#pulls.list(),
        };
        if ((request as { zero?: unknown }).zero === true) {
          this.#counts.zero();
          this.#countedSinceMs = this.#options.clock.wallMs();
          rmSync(this.#fallbackLog, { force: true });
        }
        return stats;
      }
      case "status":
        return {
          pid: process.pid,
          version: this.#options.version,
          started_ms: this.#startedMs,
          calls_active: this.#busy,
          resident_bytes: process.memoryUsage.rss(),
        };
      case "flush":
        await this.#local?.replays?.refresh();
        for (const observer of this.#observers) observer.flush?.();
        return { ok: true };
      case "stop":
        this.#ended.resolve("stopped");
        return { ok: true };
      default:
        return { ok: false, message: "this daemon does not know that command" };
    }
  }

  get #fallbackLog(): string {
    return join(this.#options.directories.state, "fallbacks.log");
  }

  /** How often launchers fell back by themselves, by reason, as their log tells. */
  #launcherFallbacks(): Record<string, number> {
    const counts: Record<string, number> = {};
    let text = "";
    try {
      text = readFileSync(this.#fallbackLog, "latin1").slice(0, FALLBACK_LOG_BYTES_MAX);
    } catch {
      // There is no log before the first fall-back.
    }
    for (const line of text.split("\n")) {
      const reason = line.split("\t")[1];
      if (reason !== undefined && /^[a-z0-9_-]{1,64}$/.test(reason)) counts[reason] = (counts[reason] ?? 0) + 1;
    }
    return counts;
  }

  #work(): void {
    this.#busy += 1;
    this.#idleTimer?.cancel();
    this.#idleTimer = null;
    this.#restTimer?.cancel();
    this.#restTimer = null;
  }

  #rest(): void {
    this.#busy = Math.max(0, this.#busy - 1);
    const { daemonIdleMs } = this.#options.config;
    if (this.#busy > 0) return;
    this.#restTimer = this.#options.clock.after(REST_MS, () => {
      // Who removed the runtime folder has left this daemon to nobody.
      if (!this.#socket.isOurs() && this.#namespaces.runsInUse().length === 0) this.#ended.resolve("unreachable");
      releaseMemory();
    });
    if (daemonIdleMs === 0) return;
    this.#idleTimer = this.#options.clock.after(daemonIdleMs, () => this.#endUnlessInUse());
  }

  /** A shell of `hpcc run` could not start another one. */
  #endUnlessInUse(): void {
    this.#idleTimer = null;
    if (this.#namespaces.runsInUse().length > 0) this.#rest();
    else this.#ended.resolve("idle");
  }

  /** An image that a command is in stays, however long that does nothing. */
  #holdRuns(): void {
    for (const { image } of this.#namespaces.runsInUse()) void this.#store.renew(image);
    this.#holdTimer = this.#options.clock.after(HOLD_AGAIN_MS, () => this.#holdRuns());
  }

  /** `isReached` unless the runtime folder is another daemon's by now. */
  async close(isReached: boolean): Promise<void> {
    this.#idleTimer?.cancel();
    this.#restTimer?.cancel();
    this.#holdTimer?.cancel();
    await this.#pulls.close();
    await this.#local?.replays?.close();
    await this.#local?.store.close();
    await (await this.#remotes)?.close();
    await this.#receipts.settled();
    await this.#namespaces.close();
    if (isReached) rmSync(join(this.#options.directories.runtime, "calls"), { recursive: true, force: true });
  }
}
