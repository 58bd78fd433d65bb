// Talks CONTROL/REPLY to the daemon over the launchers' socket, and starts one. What a reply means is up to the command.
import { spawn } from "node:child_process";
import { mkdirSync, openSync, readdirSync, readlinkSync, realpathSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { HpccError } from "../base/errors.ts";
import { type Directories, daemonLock, daemonSocket } from "../config/directories.ts";
import { isTable } from "../config/value.ts";
import { decodeMessage } from "../wire/launcher/decode.ts";
import { encodeMessage } from "../wire/launcher/encode.ts";
import { FrameReader } from "../wire/launcher/frame-reader.ts";
import { PROTOCOL_VERSION } from "../wire/launcher/limits.ts";

/** What a daemon can be asked; the answer is an object of its own, or `{ok: false, message}`. */
export type ControlRequest =
  | { readonly command: "status" }
  | { readonly command: "stop" }
  /** Writes down what is known of calls, for who is about to read the history. */
  | { readonly command: "flush" }
  | { readonly command: "stats"; readonly zero: boolean };

/** How a daemon's allocator is set up, so that it gives memory back after a build; the launcher's start.rs has the same. */
const ALLOCATOR = { MALLOC_ARENA_MAX: "2", MALLOC_TRIM_THRESHOLD_: "65536", MALLOC_MMAP_THRESHOLD_: "32768" };

const REPLY_WAIT_MS = 5_000;
const POLL_MS_MAX = 10_000;
const POLL_INTERVAL_MS = 20;

/** What a command says that needs a daemon and finds none. */
export function noDaemon(message: string): HpccError {
  return new HpccError("peer.unavailable", message, {
    hint: "The next compile starts one, and so does `hpcc daemon start`; if none comes up, `hpcc doctor` tells why.",
  });
}

/** Asks the daemon; null when none runs. UNTRUSTED: the daemon, an object is all that is promised. */
export async function askDaemon(
  directories: Pick<Directories, "runtime">,
  request: ControlRequest,
): Promise<Record<string, unknown> | null> {
  const { promise, resolve, reject } = Promise.withResolvers<Record<string, unknown> | null>();
  const socket = connect(daemonSocket(directories));
  const reader = new FrameReader();
  const deadline = globalThis.setTimeout(() => reject(silent(directories)), REPLY_WAIT_MS);
  socket.on("connect", () => {
    socket.write(encodeMessage({ type: "control", protocolVersion: PROTOCOL_VERSION, request }));
  });
  socket.on("data", (bytes) => {
    try {
      for (const frame of reader.push(bytes)) {
        const message = decodeMessage(frame);
        if (message.type === "wait") continue;
        if (message.type === "refuse")
          throw new HpccError("peer.protocol", `the daemon is of another version: ${message.reason}`);
        if (message.type !== "reply" || !isTable(message.reply))
          throw new HpccError("peer.protocol", "not a reply of a daemon");
        if (message.reply["ok"] === false)
          throw new HpccError("peer.protocol", `the daemon refused: ${String(message.reply["message"])}`);
        resolve(message.reply);
      }
    } catch (error) {
      reject(error);
    }
  });
  socket.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT" || error.code === "ECONNREFUSED") resolve(null);
    else reject(new HpccError("peer.unavailable", `the daemon's socket: ${error.message}`, { cause: error }));
  });
  socket.on("close", () =>
    reject(new HpccError("peer.protocol", "the daemon closed the connection without an answer")),
  );
  try {
    return await promise;
  } finally {
    clearTimeout(deadline);
    socket.destroy();
  }
}

function silent(directories: Pick<Directories, "runtime">): HpccError {
  const pid = daemonProcess(directories);
  const [who, end] = pid === null ? ["", "it"] : [`, process ${pid},`, `it with \`kill -9 ${pid}\``];
  return new HpccError("peer.deadline", `the daemon${who} did not answer within ${REPLY_WAIT_MS / 1000} s`, {
    hint: `If it goes on so, end ${end}: compiles go on without, and the next one starts another.`,
  });
}

/** The process that holds the daemon's lock, as far as this user may see; null when none does. */
function daemonProcess(directories: Pick<Directories, "runtime">): number | null {
  try {
    const lock = realpathSync(daemonLock(directories));
    const pid = readdirSync("/proc").find((name) => /^[0-9]+$/.test(name) && linkAt(`/proc/${name}/fd/3`) === lock);
    return pid === undefined ? null : Number(pid);
  } catch {
    return null;
  }
}

function linkAt(path: string): string | null {
  try {
    return readlinkSync(path);
  } catch {
    return null;
  }
}

/** How a daemon is started: the Node binary and the bundle that run now. */
export interface DaemonProgram {
  readonly node: string;
  readonly bundle: string;
}

/** Starts a daemon unless one runs; true when it was started now. Holds the lock that launchers hold. */
export async function startDaemonProcess(directories: Directories, program: DaemonProgram): Promise<boolean> {
  if ((await askDaemon(directories, { command: "status" })) !== null) return false;
  mkdirSync(directories.runtime, { recursive: true, mode: 0o700 });
  mkdirSync(directories.state, { recursive: true, mode: 0o700 });
  const log = openSync(join(directories.state, "daemon.log"), "a", 0o600);
  const daemon = [program.node, program.bundle, "daemon", "--foreground"];
  // A daemon that is about to end has the lock for a moment.
  const lock = ["--timeout", String(POLL_MS_MAX / 1000), "--no-fork", daemonLock(directories)];
  const child = spawn("flock", [...lock, ...daemon], {
    cwd: "/",
    detached: true,
    stdio: ["ignore", log, log],
    env: { ...process.env, ...ALLOCATOR, HPCC_RUNTIME_DIR: directories.runtime, HPCC_STATE_DIR: directories.state },
  });
  const failed = Promise.withResolvers<HpccError>();
  child.on("error", (error) => failed.resolve(new HpccError("tool.missing", `cannot run flock: ${error.message}`)));
  child.on("exit", (code) =>
    failed.resolve(
      new HpccError("peer.unavailable", `the daemon ended with exit code ${code}`, { hint: seeLog(directories) }),
    ),
  );
  child.unref();
  const ended = new AbortController();
  const failure = await Promise.race([failed.promise, answersSoon(directories, ended.signal)]);
  ended.abort();
  if (failure) throw failure;
  // A call may have started another one meanwhile.
  const isOurs = (await askDaemon(directories, { command: "status" }))?.["pid"] === child.pid;
  if (!isOurs) child.kill();
  return isOurs;
}

/** Whether nobody holds the lock under which a daemon lives. */
async function isFree(directories: Directories): Promise<boolean> {
  const child = spawn("flock", ["--nonblock", daemonLock(directories), "true"], { stdio: "ignore" });
  const { promise, resolve } = Promise.withResolvers<boolean>();
  child.on("error", () => resolve(true));
  child.on("exit", (code) => resolve(code === 0));
  return promise;
}

function seeLog({ state }: Directories): string {
  return `Its log says why: ${state}/daemon.log; \`hpcc doctor\` looks for the cause, too.`;
}

/** Resolves to null once a daemon answers. */
async function answersSoon(directories: Directories, signal: AbortSignal): Promise<HpccError | null> {
  const answers = async () => (await askDaemon(directories, { command: "status" }).catch(() => null)) !== null;
  if (await poll(answers, signal)) return null;
  return new HpccError("peer.deadline", `no daemon answered within ${POLL_MS_MAX / 1000} s`, {
    hint: seeLog(directories),
  });
}

/** Asks again and again until the answer is true; false when it never was, or the signal was aborted. */
async function poll(question: () => Promise<boolean>, signal: AbortSignal): Promise<boolean> {
  for (const endMs = performance.now() + POLL_MS_MAX; performance.now() < endMs && !signal.aborted; ) {
    if (await question()) return true;
    await setTimeout(POLL_INTERVAL_MS, undefined, { signal }).catch(() => {});
  }
  return false;
}

/** Stops the daemon; false when none runs. Resolves when it has ended, so that the next one need not wait for it. */
export async function stopDaemon(directories: Directories): Promise<boolean> {
  if ((await askDaemon(directories, { command: "stop" })) === null) return false;
  const gone = async () =>
    (await askDaemon(directories, { command: "status" }).catch(() => null)) === null && (await isFree(directories));
  if (await poll(gone, new AbortController().signal)) return true;
  throw new HpccError("peer.deadline", "the daemon said that it ends, and did not");
}
