// One compiler call of a user through hpcc, with what became of it: the caller's result, the files it left, the daemon's counts.
import { existsSync, readFileSync, rmSync } from "node:fs";
import { type ByteString, bytesOf } from "../../src/base/byte-string.ts";
import { askDaemon } from "../../src/cli/daemon-control.ts";
import { type CallStats, HPCC, type User } from "./farm.ts";
import { shellWord } from "./one-step.ts";

export interface CallOptions {
  /** Absolute; bytes as latin1, like all words and paths here. The shell goes there, so PWD keeps its links. */
  readonly cwd: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Absolute paths of files that the call may make: read, then removed. */
  readonly makes?: readonly string[];
  /** A command put before the launcher. */
  readonly prefix?: readonly string[];
}

export interface CallResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly stats: CallStats;
  /** Outcomes that were counted: `remote_compiled`, `local: outside_view` ... */
  readonly outcome: string;
  readonly files: ReadonlyMap<string, Buffer | null>;
}

/** The daemon's counts since the last zeroing, without a process of their own. */
async function counts(user: User, zero: boolean): Promise<CallStats> {
  const ask = () => askDaemon({ runtime: user.env["HPCC_RUNTIME_DIR"]! }, { command: "stats", zero });
  let reply = await ask();
  if (reply === null) {
    await user.hpcc(["daemon", "start"]);
    reply = await ask();
  }
  if (reply === null) throw new Error("no daemon runs");
  return reply as unknown as CallStats;
}

/** Calls a compiler through hpcc, alone: the counts are this call's. */
export async function compileCall(user: User, argv: readonly string[], options: CallOptions): Promise<CallResult> {
  await counts(user, true);
  const words = [...(options.prefix ?? []), HPCC, ...argv].map(shellWord).join(" ");
  const script = `cd ${shellWord(options.cwd)} && exec ${words}`;
  const { code, stdout, stderr } = await user.run(["/bin/sh", "-c", script], { env: { ...options.env } });
  const stats = await counts(user, false);
  return { code, stdout, stderr, stats, outcome: outcomeOf(stats), files: takeFiles(options.makes ?? []) };
}

/** Reads and removes files; null for one that is not there. */
export function takeFiles(paths: readonly string[]): Map<string, Buffer | null> {
  return new Map(
    paths.map((path) => {
      const bytes = bytesOf(path as ByteString);
      const content = existsSync(bytes) ? readFileSync(bytes) : null;
      rmSync(bytes, { force: true });
      return [path, content];
    }),
  );
}

function outcomeOf({ outcomes, reasons, launcher_fallbacks: fallbacks }: CallStats): string {
  const counted = Object.entries(outcomes).filter(([, count]) => count > 0);
  const names = counted.map(([name, count]) => (count === 1 ? name : `${count} ${name}`));
  const why = [...Object.keys(reasons), ...Object.keys(fallbacks).map((reason) => `launcher ${reason}`)];
  return [names.join(", "), ...(why.length === 0 ? [] : [why.join(", ")])].join(": ");
}
