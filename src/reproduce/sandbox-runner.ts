// Runs a job in a bubblewrap sandbox of the unpacked image on this machine: its own root, user, processes and no network, the source's files
// alone at their paths. It is no microVM: whoever runs it trusts the kernel with the row's source.
import { type ChildProcess, spawn } from "node:child_process";
import { constants } from "node:fs";
import {
  type FileHandle,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readlink,
  rm,
  symlink,
  utimes,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { ascii, type ByteString, bytesOf, displayText } from "../base/byte-string.ts";
import { HpccError } from "../base/errors.ts";
import { killGroup } from "../base/system/kill-group.ts";
import type { SourceEntry } from "../core/action/source-manifest.ts";
import { type Digest } from "../core/digest/digest.ts";
import type { JobEvidence } from "./evidence.ts";
import type { RunnableJob, Runner, RunResult } from "./reproduce.ts";

/** Path of the unpacked root of an image; throws `image.missing`. */
export type RootfsOf = (image: Digest) => Promise<string>;

/** Folders that a guest always has. */
const VIEW_FOLDERS = ["/hpcc/project", "/hpcc/out", "/hpcc/tmp"].map(ascii);
/** Top-level names that the sandbox makes anew. */
const MADE_ANEW: ReadonlySet<string> = new Set(["dev", "hpcc", "proc", "run", "sys", "tmp"]);
const WALL_MS_MAX = 600_000;
const STREAM_BYTES_MAX = 16 * 1024 * 1024;
const OUTPUT_BYTES_MAX = 1024 * 1024 * 1024;
const SIGNALS: Readonly<Record<string, number>> = {
  SIGKILL: 9,
  SIGTERM: 15,
  SIGSEGV: 11,
  SIGABRT: 6,
  SIGBUS: 7,
  SIGFPE: 8,
  SIGILL: 4,
};

export class SandboxRunner implements Runner {
  readonly #rootfsOf: RootfsOf;

  constructor(rootfsOf: RootfsOf) {
    this.#rootfsOf = rootfsOf;
  }

  async run(job: RunnableJob, _of: JobEvidence, signal: AbortSignal): Promise<RunResult> {
    const { action } = job;
    const words = [...action.argv, ...action.environment, action.cwd].map(textOf);
    if (words.includes(null))
      throw new HpccError("argument.invalid", "the command has bytes that are no UTF-8, which cannot run here", {
        hint: "Leave out --here: a worker's microVM takes any bytes.",
      });
    const rootfs = await this.#rootfsOf(action.imageDigest);
    const base = await mkdtemp(join(tmpdir(), "hpcc-reproduce-"));
    try {
      await layOut(base, job);
      const givenUp = AbortSignal.any([signal, AbortSignal.timeout(WALL_MS_MAX)]);
      const sandboxed = [...(await sandbox(rootfs, base)), ...commandOf(job)];
      const child = spawn("bwrap", sandboxed, { stdio: ["ignore", "pipe", "pipe"], env: {}, detached: true });
      const { exitCode, stdout, stderr } = await ended(child, givenUp);
      const outputs = await Promise.all(action.outputs.map(({ path }) => readOutput(below(base, path))));
      return {
        exitCode,
        outputs,
        stdout,
        stderr: action.terminalColumns === null ? stderr : null,
        where: "here, in a sandbox of the image",
      };
    } finally {
      await rm(base, { recursive: true, force: true });
    }
  }
}

/** Null for bytes that are no UTF-8. */
function textOf(bytes: ByteString): string | null {
  const text = displayText(bytes);
  return Buffer.from(text, "utf8").equals(bytesOf(bytes)) ? text : null;
}

function below(base: string, path: ByteString): Buffer {
  return Buffer.concat([Buffer.from(base), bytesOf(path)]);
}

/** Writes the source's tree as a guest has it: distinct times in the order of the files; links last, so that nothing is written through one. */
async function layOut(base: string, { action, source, open: openBlob }: RunnableJob): Promise<void> {
  const folder = (path: ByteString) => mkdir(below(base, path), { recursive: true });
  const parent = (path: ByteString) => folder(dirname(path) as ByteString);
  let nth = 0;
  for (const entry of source.entries) {
    if (entry.kind !== "file") continue;
    await parent(entry.path);
    const content = entry.size === 0 ? "" : await openBlob(entry.digest, entry.size);
    await writeFile(below(base, entry.path), content, { mode: entry.mode, flag: "wx" });
    nth += 1;
    await utimes(below(base, entry.path), nth, nth);
  }
  const folders = source.entries.filter((entry) => entry.kind === "folder").map(({ path }) => path);
  for (const { path } of action.outputs) await parent(path);
  for (const path of [...VIEW_FOLDERS, ...folders, action.cwd]) await folder(path);
  for (const { path, target } of source.entries.filter(isLink)) {
    await parent(path);
    await symlink(bytesOf(target), below(base, path));
  }
}

function isLink(entry: SourceEntry): entry is Extract<SourceEntry, { kind: "link" }> {
  return entry.kind === "link";
}

/** bubblewrap's arguments: the image read-only, the job's own top-level folders over it. */
async function sandbox(rootfs: string, base: string): Promise<string[]> {
  const own = new Set(await readdir(base));
  const entries = (await readdir(rootfs, { withFileTypes: true })).filter(
    ({ name }) => !MADE_ANEW.has(name) && !own.has(name),
  );
  const image = await Promise.all(
    entries.map(async (entry) => {
      const path = join(rootfs, entry.name);
      if (entry.isSymbolicLink()) return ["--symlink", await readlink(path), `/${entry.name}`];
      return ["--ro-bind", path, `/${entry.name}`];
    }),
  );
  return [
    ..."--unshare-all --die-with-parent --new-session --clearenv --hostname hpcc --tmpfs /".split(" "),
    ...image.flat(),
    ..."--dev /dev --proc /proc".split(" "),
    // A project's own path may be below it.
    ...(own.has("tmp") ? [] : "--perms 1777 --tmpfs /tmp".split(" ")),
    ...[...own].flatMap((name) => ["--bind", `${base}/${name}`, `/${name}`]),
  ];
}

function commandOf({ action }: RunnableJob): string[] {
  const variables = action.environment.flatMap((variable) => {
    const [name = "", ...value] = displayText(variable).split("=");
    return ["--setenv", name, value.join("=")];
  });
  return [...variables, "--chdir", displayText(action.cwd), "--", ...action.argv.map(displayText)];
}

async function ended(
  child: ChildProcess,
  givenUp: AbortSignal,
): Promise<{ exitCode: number; stdout: Buffer; stderr: Buffer }> {
  const streams = [child.stdout!, child.stderr!].map((stream) => {
    const parts: Buffer[] = [];
    let bytes = 0;
    stream.on("data", (part: Buffer) => {
      bytes += part.length;
      if (bytes > STREAM_BYTES_MAX) killGroup(child);
      else parts.push(part);
    });
    return parts;
  }) as [Buffer[], Buffer[]];
  const [code, signal] = await new Promise<[number | null, string | null]>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (exit, name) => resolve([exit, name]));
    const giveUp = () => {
      killGroup(child);
      reject(givenUp.reason);
    };
    if (givenUp.aborted) giveUp();
    else givenUp.addEventListener("abort", giveUp, { once: true });
  }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT")
      throw new HpccError("tool.missing", "bwrap is not installed (package bubblewrap)", { cause: error });
    throw new HpccError("job.cancelled", "the compile was given up or took longer than ten minutes", { cause: error });
  });
  const exitCode = code ?? 128 + (SIGNALS[signal ?? ""] ?? 0);
  return { exitCode, stdout: Buffer.concat(streams[0]), stderr: Buffer.concat(streams[1]) };
}

/** Null for what is not a regular file. UNTRUSTED: what the compiler left; nothing is followed. */
async function readOutput(path: Buffer): Promise<{ executable: boolean; bytes: Uint8Array } | null> {
  let file: FileHandle;
  try {
    file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch {
    return null;
  }
  try {
    const stat = await file.stat();
    if (!stat.isFile()) return null;
    if (stat.size > OUTPUT_BYTES_MAX) throw new HpccError("limit.exceeded", `an output has ${stat.size} bytes`);
    return { executable: (stat.mode & 0o100) !== 0, bytes: await file.readFile() };
  } finally {
    await file.close();
  }
}
