// One compile: inputs from the store into the guest, outputs from the guest into the store.
// Digests of what a guest made are taken here, on the host.
import type { Clock } from "../base/clock.ts";
import { HpccError } from "../base/errors.ts";
import { VERSION } from "../base/version.ts";
import type { Action } from "../core/action/action.ts";
import {
  type BlobRef,
  encodeResultManifest,
  type ResultManifest,
  type ResultOutput,
  resultDigest,
} from "../core/action/result-manifest.ts";
import { filesOf, type SourceFile, type SourceManifest } from "../core/action/source-manifest.ts";
import { type Digest, sha256 } from "../core/digest/digest.ts";
import { type Principal, spiffeId } from "../core/identity/spiffe.ts";
import type { Life } from "../core/life.ts";
import type { TenantStore } from "../store/action-cache.ts";
import type { BlobStore } from "../store/blob-store.ts";
import type {
  ExecutionInput,
  ExecutionLimits,
  ExecutionProgress,
  ExecutionResult,
  ReceivedBytes,
} from "../vm/execution.ts";
import type { VmPool } from "../vm/pool.ts";
import type { PoolKey } from "../vm/pool-key.ts";
import type { VmIdentity } from "../vm/vm-event.ts";
import type { RecordedResult } from "./rows/job-rows.ts";
import { versionsForRows } from "./rows/vm-rows.ts";

export interface ActionToExecute {
  readonly action: Action;
  readonly source: SourceManifest;
  /** Who pays. */
  readonly principal: Principal;
  readonly poolKey: PoolKey;
  readonly store: TenantStore;
  readonly signal: AbortSignal;
}

export interface ExecuteOn {
  readonly rootfs: string;
  readonly limits: ExecutionLimits;
  readonly pool: VmPool;
  readonly worker: string;
  readonly clock: Clock;
  readonly onProgress: (progress: ExecutionProgress) => void;
}

export interface Executed {
  readonly recorded: RecordedResult;
  /** Time of all processors. */
  readonly cpuUs: number;
}

/** An output up to this size is read into memory at once. */
const IN_MEMORY_BYTES_MAX = 1024 * 1024;
const EMPTY: BlobRef = { digest: sha256(new Uint8Array()), size: 0 };

export async function executeAction(job: ActionToExecute, on: ExecuteOn): Promise<Executed> {
  const { action, source, poolKey, store, signal } = job;
  const { rootfs, limits, pool, worker, clock, onProgress } = on;
  const madeMs = await store.actions.stamp(clock.wallMs());
  const request = {
    argv: action.argv,
    environment: action.environment,
    cwd: action.cwd,
    inputs: await inputsOf(source, store.blobs),
    links: source.entries.filter((entry) => entry.kind === "link"),
    folders: source.entries.filter((entry) => entry.kind === "folder").map(({ path }) => path),
    outputs: action.outputs.map((output) => output.path),
    limits,
    terminalColumns: action.terminalColumns ?? 0,
  };
  const { vm, life, result } = await pool.execute(poolKey, rootfs, request, { signal, onProgress });
  let manifest: ResultManifest;
  try {
    manifest = await keepResult(action, result, limits, store.blobs);
  } finally {
    await result[Symbol.asyncDispose]();
  }
  const encoded = encodeResultManifest(manifest);
  await store.blobs.putBytes(encoded, "kept", encoded.length);
  const made = { worker, principal: spiffeId(job.principal), image: action.imageDigest, madeMs, confirmedBy: null };
  const origin = { ...made, ...originOf(vm, life, result) };
  return { recorded: { manifest, resultDigest: resultDigest(encoded), origin }, cpuUs: result.cpuUs };
}

function originOf(vm: VmIdentity, life: Life, result: ExecutionResult) {
  return {
    vm: vm.id,
    isolation: vm.isolation,
    life,
    compileUs: result.wallUs,
    versions: { ...versionsForRows(vm), hpcc: VERSION },
  };
}

async function inputsOf(source: SourceManifest, blobs: BlobStore): Promise<ExecutionInput[]> {
  return Promise.all(
    filesOf(source).map(async (entry) => ({
      path: entry.path,
      executable: entry.mode === 0o755,
      sizeBytes: entry.size,
      frameSizeBytes: entry.size === 0 ? 0 : await frameSizeOf(entry, blobs),
      openFrame: () => openFrame(entry, blobs),
    })),
  );
}

async function frameSizeOf(entry: SourceFile, blobs: BlobStore): Promise<number> {
  return (await blobs.frameSize(entry.digest, "kept")) ?? lost(entry.digest);
}

async function* openFrame(entry: SourceFile, blobs: BlobStore): AsyncGenerator<Uint8Array, void, undefined> {
  const found = await blobs.get(entry.digest);
  if (found.kind === "miss" || found.frame.size !== entry.size) return lost(entry.digest);
  try {
    yield* found.frame.chunks();
  } finally {
    await found.frame.close();
  }
}

function lost(digest: Digest): never {
  throw new HpccError("store.corrupt", `the blob ${digest} of a source is not there any more`);
}

async function keepResult(
  action: Action,
  result: ExecutionResult,
  limits: ExecutionLimits,
  blobs: BlobStore,
): Promise<ResultManifest> {
  const { exit } = result;
  const exitCode = exit.kind === "code" ? exit.code : 128 + exit.signal;
  const outputs: ResultOutput[] = [];
  for (const [index, { kind, required }] of action.outputs.entries()) {
    const output = result.outputs[index] ?? null;
    if (output === null && required && exitCode === 0)
      throw new HpccError("job.failed", "the compiler said that all is well and left no object");
    if (output === null) continue;
    const ref = await keep(output.content, blobs, limits.outputBytes);
    outputs.push({ index, kind, executable: output.executable, ...ref });
  }
  const stdout = await keep(result.stdout, blobs, limits.stdioBytes);
  const stderr = await keep(result.stderr, blobs, limits.stdioBytes);
  return { exitCode, outputs, stdout, stderr };
}

async function keep(content: ReceivedBytes, blobs: BlobStore, sizeMax: number): Promise<BlobRef> {
  if (content.sizeBytes === 0) return EMPTY;
  const bytes = content.sizeBytes <= IN_MEMORY_BYTES_MAX ? await content.bytes() : content.chunks();
  return blobs.putBytes(bytes, "cache", sizeMax);
}
