// A folder in which the built launcher runs beside a scripted daemon on a real socket: own runtime and state folders, own
// PATH with compilers that are shell scripts, callable as root and as a plain user.
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assertBuilt } from "../../scripts/build-stamps.ts";
import { ascii, type ByteString } from "../../src/base/byte-string.ts";
import { decodeMessage, type OtherVersionMessage } from "../../src/wire/launcher/decode.ts";
import { encodeMessage } from "../../src/wire/launcher/encode.ts";
import { FrameReader } from "../../src/wire/launcher/frame-reader.ts";
import type {
  CallMessage,
  DaemonMessage,
  ExecMessage,
  Message,
  OutputFile,
  OutputsMessage,
  RunMessage,
} from "../../src/wire/launcher/messages.ts";

const LAUNCHER = join(import.meta.dirname, "../../native/target/x86_64-unknown-linux-gnu/release/hpcc");
/** Debian's nobody. */
export const PLAIN_UID = 65_534;
export const IS_ROOT = process.getuid?.() === 0;

/** The daemon's end of one connection. */
export class Peer {
  readonly socket: Socket;
  readonly #reader = new FrameReader();
  readonly #received: (Message | OtherVersionMessage)[] = [];
  #wake: (() => void) | null = null;
  #ended = false;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (chunk: Buffer) => {
      for (const frame of this.#reader.push(chunk)) this.#received.push(decodeMessage(frame));
      this.#wake?.();
    });
    const end = () => {
      this.#ended = true;
      this.#wake?.();
    };
    socket.on("end", end).on("close", end).on("error", end);
  }

  /** The next message; null when the launcher has ended the connection. */
  async next(): Promise<Message | OtherVersionMessage | null> {
    for (;;) {
      const message = this.#received.shift();
      if (message !== undefined) return message;
      if (this.#ended) return null;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  async call(): Promise<CallMessage> {
    const message = await this.next();
    if (message?.type !== "call") throw new Error(`expected a call, got ${message?.type}`);
    return message;
  }

  send(message: DaemonMessage): void {
    this.socket.write(encodeMessage(message));
  }

  async run(message: RunMessage) {
    this.send(message);
    const answer = await this.next();
    if (answer?.type !== "ran") throw new Error(`expected ran, got ${answer?.type}`);
    return answer;
  }

  /** Waits for the launcher's end of the connection. */
  async ended(): Promise<void> {
    while ((await this.next()) !== null);
  }
}

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly environment?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Runs as nobody. */
  readonly plain?: boolean;
  /** Shell text put before the command: umask, ulimit, trap. */
  readonly before?: string;
  readonly stdin?: "pipe" | "ignore";
}

export class LauncherFolder {
  readonly path = mkdtempSync(join(tmpdir(), "hpcc-launcher-"));
  readonly runtime = join(this.path, "runtime");
  readonly state = join(this.path, "state");
  readonly bin = join(this.path, "bin");
  readonly launcher = join(this.path, "libexec/hpcc");
  readonly work = join(this.path, "work");
  /** What every conversation of the launcher said, in order, after its script returned. */
  readonly said: (Message | OtherVersionMessage)[] = [];
  #server: Server | null = null;
  readonly #failures: unknown[] = [];
  readonly #conversations: Promise<void>[] = [];

  constructor() {
    if (!existsSync(LAUNCHER)) throw new Error(`${LAUNCHER} is missing: run scripts/build-native.sh`);
    assertBuilt(join(import.meta.dirname, "../.."), ["native"]);
    chmodSync(this.path, 0o755);
    for (const folder of [this.bin, this.work, join(this.path, "libexec")]) mkdirSync(folder);
    for (const folder of [this.runtime, this.state]) mkdirSync(folder, { mode: 0o700 });
    copyFileSync(LAUNCHER, this.launcher);
    this.compiler("gcc", "echo real >&2; echo real > real.out");
  }

  /** Hands everything to nobody, for calls as a plain user. */
  givePlain(): void {
    for (const folder of [this.runtime, this.state, this.work]) chownSync(folder, PLAIN_UID, PLAIN_UID);
  }

  /** A compiler on PATH that is a shell script. */
  compiler(name: string, script: string): void {
    writeFileSync(join(this.bin, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  }

  link(name: string): string {
    const folder = join(this.path, "links");
    mkdirSync(folder, { recursive: true });
    symlinkSync(this.launcher, join(folder, name));
    return folder;
  }

  /** Serves each call with the script; a script that throws fails `end`. */
  async serve(script: (peer: Peer) => Promise<void>, options: { readonly plain?: boolean } = {}): Promise<void> {
    this.#server = createServer({ allowHalfOpen: false }, (socket) => {
      const peer = new Peer(socket);
      const conversation = script(peer)
        .catch((error: unknown) => {
          this.#failures.push(error);
          socket.destroy();
        })
        .then(async () => {
          for (let message = await peer.next(); message !== null; message = await peer.next()) this.said.push(message);
        })
        .finally(() => socket.destroy());
      this.#conversations.push(conversation);
    });
    // A socket's owner, to its clients, is who called listen.
    if (options.plain === true && IS_ROOT) process.seteuid?.(PLAIN_UID);
    this.#server.listen(join(this.runtime, "daemon.sock"));
    if (options.plain === true && IS_ROOT) process.seteuid?.(0);
    await once(this.#server, "listening");
    if (IS_ROOT) chmodSync(join(this.runtime, "daemon.sock"), 0o777);
  }

  /** No daemon listens any more. */
  stop(): void {
    this.#server?.close();
    this.#server = null;
  }

  environment(extra: Readonly<Record<string, string>> = {}): Record<string, string> {
    return {
      PATH: `${this.bin}:/usr/bin:/bin`,
      HOME: this.path,
      HPCC_RUNTIME_DIR: this.runtime,
      HPCC_STATE_DIR: this.state,
      HPCC_LIB_DIR: join(this.path, "lib"),
      ...extra,
    };
  }

  /** Starts `sh -c script`, in which `$HPCC` is the launcher. The script may hold any byte. */
  start(script: ByteString | string, options: RunOptions = {}): ChildProcessWithoutNullStreams {
    const file = join(this.path, `call-${Math.random().toString(36).slice(2)}.sh`);
    writeFileSync(file, `${options.before ?? ""}\n${script}\n`, "latin1");
    chmodSync(file, 0o644);
    const plain = ["setpriv", `--reuid=${PLAIN_UID}`, `--regid=${PLAIN_UID}`, "--clear-groups", "--"];
    const [program, ...argv] = [...(options.plain === true && IS_ROOT ? plain : []), "/bin/sh", file];
    const child = spawn(program, argv, {
      cwd: options.cwd ?? this.work,
      env: this.environment({ HPCC: this.launcher, ...options.environment }),
      stdio: "pipe",
    });
    if (options.stdin !== "pipe") child.stdin.end();
    return child;
  }

  async run(script: ByteString | string, options: RunOptions = {}): Promise<Ended> {
    return ended(this.start(script, options));
  }

  /** The names in fallbacks.log. */
  fallbacks(): string[] {
    const log = join(this.state, "fallbacks.log");
    if (!existsSync(log)) return [];
    return readFileSync(log, "latin1")
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => line.split("\t")[1]!);
  }

  /** Waits until every conversation is over; rethrows what a script threw. */
  async settle(): Promise<void> {
    await Promise.all(this.#conversations);
    if (this.#failures.length > 0) throw this.#failures[0];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server?.close();
    rmSync(this.path, { recursive: true, force: true });
    await this.settle();
  }
}

export async function ended(child: ChildProcessWithoutNullStreams): Promise<Ended> {
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
  const [code, signal] = (await once(child, "close")) as [number | null, NodeJS.Signals | null];
  return {
    code,
    signal,
    stdout: Buffer.concat(stdout).toString("latin1"),
    stderr: Buffer.concat(stderr).toString("latin1"),
  };
}

/** A RUN of a program on the host with everything inherited. */
export function hostRun(argv: readonly string[], more: Partial<RunMessage> = {}): RunMessage {
  return {
    type: "run",
    id: 1,
    program: ascii(argv[0]!),
    argv: argv.map(ascii),
    environment: [ascii("PATH=/usr/bin:/bin")],
    cwd: ascii("/"),
    namespace: null,
    stdin: "null",
    stdout: { kind: "inherit" },
    stderr: { kind: "inherit" },
    timeLimitMs: null,
    ...more,
  };
}

/** OUTPUTS with these files and nothing else. */
export function outputsOf(files: readonly OutputFile[], more: Partial<OutputsMessage> = {}): OutputsMessage {
  return { type: "outputs", exitCode: 0, stdout: null, stderr: null, files, ...more };
}

export function inlineFile(destination: string, text: string, more: Partial<OutputFile> = {}): OutputFile {
  return {
    destination: ascii(destination),
    content: { kind: "inline", bytes: Buffer.from(text, "latin1") },
    executable: false,
    manner: "assembler",
    ...more,
  };
}

/** EXEC of the host's own compiler as called. */
export const HOST_EXEC: ExecMessage = {
  type: "exec",
  namespace: null,
  program: { kind: "host" },
  argv: null,
  environment: null,
  cwd: null,
  warning: null,
};
