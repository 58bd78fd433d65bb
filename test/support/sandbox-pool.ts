// A pool whose "VMs" are bubblewrap sandboxes of the unpacked image: the same files at the same paths as in a guest, at the speed of
// a local process. It isolates nothing that matters; it shows what a compile comes to.
import { spawn } from "node:child_process";
import { constants, mkdtempSync, rmSync } from "node:fs";
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
import { promisify } from "node:util";
import { zstdDecompress } from "node:zlib";
import { ascii, type ByteString, byteStringOfText, bytesOf } from "../../src/base/byte-string.ts";
import { HpccError } from "../../src/base/errors.ts";
import { killGroup } from "../../src/base/system/kill-group.ts";
import { resolveInImage } from "../../src/image/image-path.ts";
import type { ExecuteOptions, ExecutionRequest, ExecutionResult, ReceivedBytes } from "../../src/vm/execution.ts";
import type { PooledExecution, VmEventSink, VmPool } from "../../src/vm/pool.ts";
import type { PoolKey } from "../../src/vm/pool-key.ts";
import type { VmIdentity } from "../../src/vm/vm-event.ts";
import { shellWord } from "./one-step.ts";
import { compileProbe } from "./vm-toolchain.ts";

const inflate = promisify<Uint8Array, Buffer>(zstdDecompress);
/** Top-level names that the view makes anew. */
const MADE_ANEW = new Set(["dev", "hpcc", "proc", "run", "sys", "tmp"]);
/** Folders that a guest always has. */
const VIEW_FOLDERS = ["/hpcc/project", "/hpcc/out", "/hpcc/tmp"].map(ascii);

/** bubblewrap's arguments for a root with the image's entries alone, but those of the names `hidden`. */
export async function imageMounts(rootfs: string, hidden: ReadonlySet<string> = new Set()): Promise<string[]> {
  const entries = (await readdir(rootfs, { withFileTypes: true })).filter(
    ({ name }) => !MADE_ANEW.has(name) && !hidden.has(name),
  );
  const mounts = await Promise.all(
    entries.map(async (entry) => {
      const path = join(rootfs, entry.name);
      return entry.isSymbolicLink()
        ? ["--symlink", await readlink(path), `/${entry.name}`]
        : ["--ro-bind", path, `/${entry.name}`];
    }),
  );
  return [
    ..."--unshare-all --die-with-parent --tmpfs /".split(" "),
    ...mounts.flat(),
    ..."--dev /dev --proc /proc --dir /tmp".split(" "),
  ];
}

export class SandboxPool implements VmPool {
  /** What ran, in order. */
  readonly executed: ExecutionRequest[] = [];
  readonly #events: VmEventSink;
  readonly #vms = new Map<string, Promise<VmIdentity>>();

  constructor(events: VmEventSink) {
    this.#events = events;
  }

  async execute(
    key: PoolKey,
    rootfs: string,
    request: ExecutionRequest,
    { signal }: ExecuteOptions,
  ): Promise<PooledExecution> {
    // A clean one runs nothing else.
    const slot = key.trust === "clean" ? `clean ${this.#vms.size}` : key.text;
    let vm = this.#vms.get(slot);
    if (vm === undefined) {
      vm = this.#boot(key, rootfs, `vm-${this.#vms.size + 1}`);
      this.#vms.set(slot, vm);
    }
    const booted = await vm;
    this.executed.push(request);
    return { vm: booted, life: key.trust, result: await runInSandbox(rootfs, request, signal) };
  }

  retire(): void {}

  async close(): Promise<void> {}

  async [Symbol.asyncDispose](): Promise<void> {}

  async #boot(key: PoolKey, rootfs: string, id: string): Promise<VmIdentity> {
    const versions = {
      vmm: "sandbox",
      kernelDigest: "-",
      initramfsDigest: "-",
      agentDigest: "-",
      kernelRelease: "local",
      agentVersion: "0.0.0",
    };
    const vm: VmIdentity = { id, isolation: "qemu-tcg", versions };
    await this.#events({
      t: "booted",
      vm,
      owner: key,
      spec: { rootfs, memoryBytes: 1, vcpus: 1, goldenOwner: null },
      origin: "boot",
      bootMs: 1,
    });
    return vm;
  }
}

/** Runs one execution in a sandbox of the unpacked image. */
export async function runInSandbox(
  rootfs: string,
  request: ExecutionRequest,
  signal: AbortSignal,
): Promise<ExecutionResult> {
  const base = await mkdtemp(join(tmpdir(), "hpcc-guest-"));
  const local = (path: ByteString) => Buffer.concat([Buffer.from(base), bytesOf(path)]);
  try {
    await layOut(request, local);
    const names = new Set(await readdir(base));
    const own = [...names].flatMap((name) => ["--bind", `${base}/${name}`, `/${name}`]);
    const mounts = [...(await imageMounts(rootfs, names)), ...own];
    const env = Object.fromEntries(request.environment.map((entry) => entry.split(/=(.*)/s).slice(0, 2)));
    const command = resolveInImage(byteStringOfText(rootfs), ascii("/bin/sh")) === null ? withoutShell : withShell;
    if (signal.aborted) throw new HpccError("job.cancelled", "given up");
    const child = spawn("bwrap", [...mounts, ...command(request)], {
      env,
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
    });
    signal.addEventListener("abort", () => killGroup(child), { once: true });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout.on("data", (part: Buffer) => stdout.push(part));
    child.stderr.on("data", (part: Buffer) => stderr.push(part));
    const [code, name] = await new Promise<[number | null, string | null]>((resolve, reject) => {
      child.on("error", (error) => reject(new HpccError("job.cancelled", error.message)));
      signal.addEventListener("abort", () => reject(new HpccError("job.cancelled", "given up")), { once: true });
      child.on("close", (exit, signalName) => resolve([exit, signalName]));
    });
    return {
      exit: code === null ? { kind: "signal", signal: name === "SIGKILL" ? 9 : 15 } : { kind: "code", code },
      stdout: received(Buffer.concat(stdout)),
      stderr: received(Buffer.concat(stderr)),
      outputs: await Promise.all(request.outputs.map((output) => readOutput(local(output)))),
      wallUs: 1000,
      cpuUs: 1000,
      memoryPeakBytes: 1,
      async [Symbol.asyncDispose]() {},
    };
  } finally {
    await rm(base, { recursive: true, force: true });
  }
}

/** bubblewrap's last arguments for what an execution runs. The shell's own word for the folder is not the request's. */
function withShell(request: ExecutionRequest): string[] {
  const pwd = pwdOf(request);
  const place = pwd === undefined ? "unset PWD" : `export PWD=${shellWord(pwd)}`;
  const script = `cd ${shellWord(request.cwd)} && ${place} && exec ${request.argv.map(shellWord).join(" ")}`;
  return ["--", "/bin/sh", "-c", script];
}

let enter: string | null = null;

/** The same for an image that has no shell. Words must be of ASCII. */
function withoutShell(request: ExecutionRequest): string[] {
  if (enter === null) {
    const folder = mkdtempSync(join(tmpdir(), "hpcc-enter-"));
    process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
    enter = join(folder, "enter");
    compileProbe("enter", enter);
  }
  const words = ["/hpcc-enter", request.cwd, pwdOf(request) ?? "-", ...request.argv];
  return ["--ro-bind", enter, "/hpcc-enter", "--", ...words];
}

function pwdOf({ environment }: ExecutionRequest): string | undefined {
  return environment.find((entry) => entry.startsWith("PWD="))?.slice("PWD=".length);
}

/** Writes the tree of an execution: links last, so that nothing is written through one. */
async function layOut(request: ExecutionRequest, local: (path: ByteString) => Buffer): Promise<void> {
  const folder = (path: ByteString) => mkdir(local(path), { recursive: true });
  const parent = (path: ByteString) => folder(dirname(path) as ByteString);
  for (const [index, { path, executable, openFrame, frameSizeBytes }] of request.inputs.entries()) {
    const parts: Uint8Array[] = [];
    if (frameSizeBytes > 0) for await (const part of openFrame()) parts.push(part);
    await parent(path);
    const content = frameSizeBytes === 0 ? "" : await inflate(Buffer.concat(parts));
    await writeFile(local(path), content, { mode: executable ? 0o755 : 0o644 });
    await utimes(local(path), index + 1, index + 1);
  }
  for (const output of request.outputs) await parent(output);
  for (const path of [...VIEW_FOLDERS, ...request.folders, request.cwd]) await folder(path);
  for (const { path, target } of request.links) {
    await parent(path);
    await symlink(bytesOf(target), local(path));
  }
}

/** Null for what is not a regular file. */
async function readOutput(path: Buffer) {
  let file: FileHandle;
  try {
    file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch {
    return null;
  }
  try {
    const stat = await file.stat();
    if (!stat.isFile()) return null;
    return { executable: (stat.mode & 0o100) !== 0, content: received(await file.readFile()) };
  } finally {
    await file.close();
  }
}

function received(bytes: Uint8Array): ReceivedBytes {
  return {
    sizeBytes: bytes.length,
    async *chunks() {
      for (let at = 0; at < bytes.length; at += 100_000) yield bytes.subarray(at, at + 100_000);
    },
    bytes: async () => bytes,
  };
}
