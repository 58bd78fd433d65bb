// Starts the processes of a machine with as few rights as they can work with, watches them, and ends them with the worker:
// the kernel kills them when it dies.
import { type ChildProcess, spawn } from "node:child_process";
import type { Readable } from "node:stream";
import { HpccError } from "../base/errors.ts";
import { ProcessLog } from "./process-log.ts";

export interface ChildOptions {
  readonly program: string;
  readonly argv: readonly string[];
  /** Its working directory: its only folder. */
  readonly folder: string;
  /** User and group to become; null to stay, which is all that a worker without root can do. */
  readonly uid: number | null;
  /** A group that it gets besides; null for none. */
  readonly extraGroup: number | null;
  /** Open files that it gets as descriptors 3, 4, ... */
  readonly files: readonly number[];
  /** Called after each piece of output. */
  readonly onOutput?: (log: ProcessLog) => void;
}

export interface Child {
  readonly pid: number;
  /** What it wrote to stdout and stderr. */
  readonly log: ProcessLog;
  /** Says how it ended; settles once, never rejects. */
  readonly ended: Promise<string>;
  /** Kills it, stopped or not; harmless when it has ended. */
  kill(): void;
  /** Has the kernel give it no processor until `resume`; harmless when it has ended. */
  stop(): void;
  resume(): void;
}

/** Starts a process; throws `tool.missing` when the program is not there. */
export async function startChild(options: ChildOptions): Promise<Child> {
  const { uid } = options;
  const groups = options.extraGroup === null ? "--clear-groups" : `--groups=${options.extraGroup}`;
  const rights =
    uid === null ? [] : [`--reuid=${uid}`, `--regid=${uid}`, groups, "--bounding-set=-all", "--inh-caps=-all"];
  const argv = [
    "--core=0",
    "--",
    "setpriv",
    "--pdeathsig=KILL",
    "--no-new-privs",
    ...rights,
    "--",
    options.program,
    ...options.argv,
  ];
  // A process group of its own: the terminal's Ctrl-C is for the worker, which then ends its machines in order.
  const process_ = spawn("prlimit", argv, {
    cwd: options.folder,
    stdio: ["ignore", "pipe", "pipe", ...options.files],
    detached: true,
    env: { PATH: process.env["PATH"] ?? "/usr/bin:/bin", LC_ALL: "C" },
  });
  await started(process_);
  const log = new ProcessLog();
  const read = (stream: Readable | null): void => {
    stream?.on("data", (bytes: Buffer) => {
      log.add(bytes);
      options.onOutput?.(log);
    });
  };
  read(process_.stdout);
  read(process_.stderr);
  const ended = new Promise<string>((resolve) => {
    process_.on("exit", (code, signal) => resolve(signal ? `was killed by ${signal}` : `exited with code ${code}`));
  });
  const send = (signal: NodeJS.Signals) => (): void => {
    process_.kill(signal);
  };
  return {
    pid: process_.pid ?? 0,
    log,
    ended,
    kill: send("SIGKILL"),
    stop: send("SIGSTOP"),
    resume: send("SIGCONT"),
  };
}

function started(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    child.once("spawn", resolve);
    child.once("error", (cause) =>
      reject(
        new HpccError("tool.missing", "prlimit and setpriv (package util-linux) are needed to run a VM", { cause }),
      ),
    );
  });
}
