// A pool whose "VMs" are processes of this machine: the guest's /hpcc is a temporary folder, and arguments are rewritten to
// it. It isolates nothing; it shows what a worker does with executions that really run.
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { zstdDecompress } from "node:zlib";
import type { ByteString } from "../../src/base/byte-string.ts";
import { HpccError } from "../../src/base/errors.ts";
import type {
  ExecuteOptions,
  ExecutionInput,
  ExecutionRequest,
  ExecutionResult,
  ReceivedBytes,
} from "../../src/vm/execution.ts";
import type { PooledExecution, VmEventSink, VmPool } from "../../src/vm/pool.ts";
import type { PoolKey } from "../../src/vm/pool-key.ts";
import type { VmIdentity } from "../../src/vm/vm-event.ts";

const inflate = promisify<Uint8Array, Buffer>(zstdDecompress);

function receivedBytes(bytes: Uint8Array): ReceivedBytes {
  return {
    sizeBytes: bytes.length,
    async *chunks() {
      for (let at = 0; at < bytes.length; at += 100_000) yield bytes.subarray(at, at + 100_000);
    },
    bytes: async () => bytes,
  };
}

export class LocalPool implements VmPool {
  /** Executions that began, and those that were cancelled. */
  executions = 0;
  cancelled = 0;
  /** Set it to hold executions until it resolves. */
  gate: Promise<void> = Promise.resolve();
  /** Set it to make each execution fail. */
  failure: HpccError | null = null;
  /** Of all executions, in order. */
  readonly keys: PoolKey[] = [];
  readonly #events: VmEventSink;
  /** VMs that were to be destroyed. */
  readonly retired: string[] = [];
  readonly #vms = new Map<string, { readonly vm: string; readonly booted: Promise<VmIdentity> }>();
  #booted = 0;

  constructor(events: VmEventSink) {
    this.#events = events;
  }

  async execute(
    key: PoolKey,
    rootfs: string,
    request: ExecutionRequest,
    { signal, onProgress }: ExecuteOptions,
  ): Promise<PooledExecution> {
    const vm = await this.#vm(key, rootfs);
    this.executions++;
    this.keys.push(key);
    onProgress?.({ t: "sent", inputBytes: 0 });
    const aborted = new Promise<never>((_, reject) => {
      signal.addEventListener("abort", () => {
        this.cancelled++;
        reject(new HpccError("job.cancelled", "the execution was cancelled"));
      });
    });
    aborted.catch(() => {});
    await Promise.race([this.gate, aborted]);
    if (this.failure !== null) throw this.failure;
    return { vm, life: key.trust, result: await Promise.race([run(request, signal), aborted]) };
  }

  retire(id: string): void {
    this.retired.push(id);
    for (const [slot, { vm }] of this.#vms) if (vm === id) this.#vms.delete(slot);
  }

  async close(): Promise<void> {}

  async [Symbol.asyncDispose](): Promise<void> {}

  async #vm(key: PoolKey, rootfs: string): Promise<VmIdentity> {
    const slot = key.trust === "clean" ? `clean ${this.#booted}` : key.text;
    const known = this.#vms.get(slot);
    if (known !== undefined) return known.booted;
    const vm = `vm-${++this.#booted}`;
    const booted = this.#boot(key, rootfs, vm);
    this.#vms.set(slot, { vm, booted });
    return booted;
  }

  async #boot(key: PoolKey, rootfs: string, id: string): Promise<VmIdentity> {
    const versions = {
      vmm: "local process",
      kernelDigest: "-",
      initramfsDigest: "-",
      agentDigest: "-",
      kernelRelease: "local",
      agentVersion: "0.0.0",
    };
    const vm: VmIdentity = { id, isolation: "qemu-tcg", versions };
    const spec = { rootfs, memoryBytes: 1, vcpus: 1, goldenOwner: null };
    await this.#events({ t: "booted", vm, owner: key, spec, origin: "boot", bootMs: 1 });
    return vm;
  }
}

async function run(request: ExecutionRequest, signal: AbortSignal): Promise<ExecutionResult> {
  const root = await mkdtemp(join(tmpdir(), "hpcc-guest-"));
  try {
    const local = (path: ByteString) => path.replaceAll("/hpcc/", `${root}/`);
    for (const input of request.inputs) await place(input, local(input.path));
    for (const output of request.outputs) await mkdir(dirname(local(output)), { recursive: true });
    for (const folder of [request.cwd, ...request.folders]) await mkdir(local(folder), { recursive: true });
    for (const { path, target } of request.links) {
      await mkdir(dirname(local(path)), { recursive: true });
      await symlink(local(target), local(path));
    }
    const [program, ...rest] = request.argv.map(local);
    const child = spawn(program!, rest, { cwd: local(request.cwd), signal, stdio: ["ignore", "pipe", "pipe"] });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout.on("data", (part: Buffer) => stdout.push(part));
    child.stderr.on("data", (part: Buffer) => stderr.push(part));
    const [code, name] = await new Promise<[number | null, string | null]>((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (exit, signalName) => resolve([exit, signalName]));
    });
    return {
      exit: code === null ? { kind: "signal", signal: name === "SIGKILL" ? 9 : 15 } : { kind: "code", code },
      stdout: receivedBytes(Buffer.concat(stdout)),
      stderr: receivedBytes(
        Buffer.from(Buffer.concat(stderr).toString("latin1").replaceAll(`${root}/`, "/hpcc/"), "latin1"),
      ),
      outputs: await Promise.all(request.outputs.map(async (output) => readOutput(local(output)))),
      wallUs: 1000,
      cpuUs: 1000,
      memoryPeakBytes: 1,
      async [Symbol.asyncDispose]() {},
    };
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

async function place(input: ExecutionInput, path: string): Promise<void> {
  const parts: Uint8Array[] = [];
  if (input.sizeBytes > 0) for await (const part of input.openFrame()) parts.push(part);
  const frame = Buffer.concat(parts);
  if (frame.length !== input.frameSizeBytes) throw new Error("bug: a frame has another size than was said");
  const content = frame.length === 0 ? frame : await inflate(frame);
  if (content.length !== input.sizeBytes) throw new Error("bug: a file has another size than was said");
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, content, { mode: input.executable ? 0o755 : 0o644 });
}

async function readOutput(path: string) {
  try {
    const content = await readFile(path);
    return { executable: ((await stat(path)).mode & 0o100) !== 0, content: receivedBytes(content) };
  } catch {
    return null;
  }
}
