// One kept namespace: a bubblewrap process that made it and waits, before it would run anything, for a pipe of ours. The
// kernel closes the pipe when the daemon ends, however it ends, and the holder goes with it. Nothing of the image runs.
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync, readlinkSync } from "node:fs";
import type { Readable, Writable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { type ByteString, bytesOf } from "../../base/byte-string.ts";
import { HpccError } from "../../base/errors.ts";
import { killGroup } from "../../base/system/kill-group.ts";
import { PROJECT_ROOT } from "../../core/compile/view/view.ts";

const START_MS_MAX = 10_000;
const POLL_MS = 1;
const WORDS_MAX = 2000;
const INFO_BYTES_MAX = 64 * 1024;

/** A namespace that a launcher can enter. */
export interface HeldNamespace {
  /** Process in the namespace; /proc/<pid>/ns/ has the files for setns. */
  readonly pid: number;
  /** Of /proc/<pid>/ns/mnt: tells that the process number was not taken by another process. */
  readonly mountNamespaceInode: number;
  /** Of /proc/<pid>/ns/user, to be entered first; null when it is the caller's own. */
  readonly userNamespaceInode: number | null;
}

export interface Holder extends HeldNamespace {
  /** Settles when the namespace is no longer kept. */
  readonly ended: Promise<void>;
  /** Ends it; processes that entered it stay as they are. */
  close(): Promise<void>;
}

/** Makes a namespace from bubblewrap arguments and keeps it. `command` is bubblewrap, or ends with it. */
export async function startHolder(
  command: readonly [string, ...string[]],
  plan: readonly ByteString[],
): Promise<Holder> {
  const [program, ...words] = command;
  const child = spawn(
    program,
    [...words, "--die-with-parent", "--args", "3", "--info-fd", "4", "--block-fd", "5", "--", "/hpcc/holder"],
    {
      stdio: ["ignore", "ignore", "pipe", "pipe", "pipe", "pipe"],
      cwd: "/",
      env: {},
      detached: true,
    },
  );
  const started = new Pipes(child);
  started.sendArguments(plan);
  try {
    const pid = await started.pid();
    await started.untilReady(pid);
    const namespaces = { mount: namespaceInode(pid, "mnt"), user: namespaceInode(pid, "user") };
    started.detach();
    return {
      pid,
      mountNamespaceInode: namespaces.mount,
      userNamespaceInode: namespaces.user === namespaceInode("self", "user") ? null : namespaces.user,
      ended: started.ended,
      close: () => started.close(),
    };
  } catch (error) {
    await started.close();
    throw started.explain(error);
  }
}

/** Number of a process's namespace. */
export function namespaceInode(pid: number | "self", kind: "mnt" | "user"): number {
  const found = /\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/ns/${kind}`));
  return Number(found?.[1]);
}

class Pipes {
  readonly ended: Promise<void>;
  readonly #child: ChildProcess;
  readonly #info: Promise<string>;
  #words = "";
  #startError: NodeJS.ErrnoException | null = null;
  #hasEnded = false;

  constructor(child: ChildProcess) {
    this.#child = child;
    for (const stream of child.stdio) stream?.on("error", () => {});
    child.stderr?.on("data", (chunk: Buffer) => {
      if (this.#words.length < WORDS_MAX) this.#words += chunk.toString("utf8");
    });
    this.#info = readAll(child.stdio[4] as Readable);
    this.ended = new Promise((settle) => {
      const end = () => {
        this.#hasEnded = true;
        settle();
      };
      child.once("exit", end);
      child.once("error", (error) => {
        this.#startError = error;
        end();
      });
    });
  }

  sendArguments(plan: readonly ByteString[]): void {
    (this.#child.stdio[3] as Writable).end(Buffer.concat(plan.flatMap((word) => [bytesOf(word), Buffer.from([0])])));
  }

  /** Number of the process in the namespace, as bubblewrap tells it. */
  async pid(): Promise<number> {
    const info = await Promise.race([this.#info, delay(START_MS_MAX, "", { ref: false })]);
    const pid = /"child-pid":\s*(\d+)/.exec(info)?.[1];
    if (pid === undefined) throw new HpccError("namespace.unavailable", "bubblewrap made no namespace");
    return Number(pid);
  }

  /** Waits until the new root is in place: bubblewrap tells its child's number before it mounts anything. */
  async untilReady(pid: number): Promise<void> {
    for (let waitedMs = 0; waitedMs < START_MS_MAX; waitedMs += POLL_MS) {
      if (this.#hasEnded) break;
      if (isReady(mountPoints(pid))) return;
      await delay(POLL_MS);
    }
    throw new HpccError("namespace.unavailable", "bubblewrap did not finish the namespace");
  }

  /** Lets the daemon's event loop end while the namespace is kept. */
  detach(): void {
    this.#child.unref();
    for (const stream of this.#child.stdio) (stream as { unref?: () => void } | null)?.unref?.();
  }

  async close(): Promise<void> {
    killGroup(this.#child);
    this.#child.ref();
    await this.ended;
  }

  explain(error: unknown): unknown {
    if (this.#startError?.code === "ENOENT") {
      const isEntering = this.#child.spawnfile.endsWith("nsenter");
      const what = isEntering
        ? "nsenter is not installed (package util-linux)"
        : "bwrap is not installed (package bubblewrap)";
      return new HpccError("tool.missing", what, { cause: error });
    }
    if (!(error instanceof HpccError))
      return new HpccError("namespace.unavailable", "the namespace cannot be entered", { cause: error });
    const words = this.#words.trim();
    return words === ""
      ? error
      : new HpccError("namespace.unavailable", `${error.message}: ${words}`, { cause: error });
  }
}

async function readAll(stream: Readable): Promise<string> {
  let text = "";
  try {
    for await (const chunk of stream) {
      text += String(chunk);
      if (text.length > INFO_BYTES_MAX) break;
    }
  } catch {
    // Closed under us: what was read decides.
  }
  return text;
}

function mountPoints(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/mountinfo`, "latin1")
      .split("\n")
      .map((line) => line.split(" ", 5)[4] ?? "");
  } catch {
    return [];
  }
}

/** One root alone, and the project in it: the old root is gone. */
function isReady(points: readonly string[]): boolean {
  return points.includes(PROJECT_ROOT) && points.filter((point) => point === "/").length === 1;
}
