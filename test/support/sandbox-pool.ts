// A pool whose "VMs" are bubblewrap sandboxes of the unpacked image: the same files at the same paths as in a guest, at the speed of
// a local process. It isolates nothing that matters; it shows what a compile comes to.
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { zstdDecompress } from "node:zlib";
import { type ByteString, bytesOf } from "../../src/base/byte-string.ts";
import { HpccError } from "../../src/base/errors.ts";
import type { ExecuteOptions, ExecutionRequest, ExecutionResult, ReceivedBytes } from "../../src/vm/execution.ts";
import type { PooledExecution, VmEventSink, VmPool } from "../../src/vm/pool.ts";
import type { PoolKey } from "../../src/vm/pool-key.ts";
import type { VmIdentity } from "../../src/vm/vm-event.ts";
import { shellWord } from "./one-step.ts";

const inflate = promisify<Uint8Array, Buffer>(zstdDecompress);
/** Top-level names that the view makes anew. */
const MADE_ANEW = new Set(["dev", "hpcc", "proc", "run", "sys", "tmp"]);

/** bubblewrap's arguments for a root with the image's entries alone. */
export async function imageMounts(rootfs: string): Promise<string[]> {
  const entries = (await readdir(rootfs, { withFileTypes: true })).filter(({ name }) => !MADE_ANEW.has(name));
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
    let vm = this.#vms.get(key.text);
    if (vm === undefined) {
      vm = this.#boot(key, rootfs, `vm-${this.#vms.size + 1}`);
      this.#vms.set(key.text, vm);
    }
    const booted = await vm;
    this.executed.push(request);
    return { vm: booted, life: key.trust, result: await run(rootfs, request, signal) };
  }

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

async function run(rootfs: string, request: ExecutionRequest, signal: AbortSignal): Promise<ExecutionResult> {
  const base = await mkdtemp(join(tmpdir(), "hpcc-guest-"));
  const local = (path: ByteString) => Buffer.concat([Buffer.from(base), bytesOf(path)]);
  const folder = (path: ByteString) => mkdir(local(dirname(path) as ByteString), { recursive: true });
  try {
    for (const { path, openFrame, frameSizeBytes } of request.inputs) {
      const parts: Uint8Array[] = [];
      if (frameSizeBytes > 0) for await (const part of openFrame()) parts.push(part);
      await folder(path);
      await writeFile(local(path), frameSizeBytes === 0 ? "" : await inflate(Buffer.concat(parts)));
      await utimes(local(path), 0, 0);
    }
    for (const output of request.outputs) await folder(output);
    await mkdir(local(request.cwd), { recursive: true });
    const mounts = [...(await imageMounts(rootfs)), "--bind", `${base}/hpcc`, "/hpcc"];
    const script = `cd ${shellWord(request.cwd)} && exec ${request.argv.map(shellWord).join(" ")}`;
    const env = Object.fromEntries(request.environment.map((entry) => entry.split(/=(.*)/s).slice(0, 2)));
    const child = spawn("bwrap", [...mounts, "--", "/bin/sh", "-c", script], {
      env,
      signal,
      stdio: ["ignore", "pipe", "pipe"],
    });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout.on("data", (part: Buffer) => stdout.push(part));
    child.stderr.on("data", (part: Buffer) => stderr.push(part));
    const [code, name] = await new Promise<[number | null, string | null]>((resolve, reject) => {
      child.on("error", (error) => reject(new HpccError("job.cancelled", error.message)));
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

async function readOutput(path: Buffer) {
  try {
    const content = await readFile(path);
    return { executable: ((await stat(path)).mode & 0o100) !== 0, content: received(content) };
  } catch {
    return null;
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
