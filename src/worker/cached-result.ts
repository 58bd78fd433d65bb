// Results as they are sent: from a result manifest to open frames, all of them or none.
import {
  type BlobRef,
  decodeResultManifest,
  type ResultManifest,
  resultDigest,
} from "../core/action/result-manifest.ts";
import type { Digest } from "../core/digest/digest.ts";
import { type Isolation, isolationAtLeast } from "../core/isolation.ts";
import { type Life, lifeSuffices } from "../core/life.ts";
import type { TenantStore } from "../store/action-cache.ts";
import type { BlobStore, StoredFrame } from "../store/blob-store.ts";
import type { RecordedResult } from "./rows/job-rows.ts";

export interface ResultPart extends BlobRef {
  readonly kind: "output" | "stdout" | "stderr";
  readonly outputIndex: number;
  readonly executable: boolean;
  /** Null when it is empty. */
  readonly frame: StoredFrame | null;
}

/** A result with all its frames open; close it. */
export interface OpenResult {
  readonly recorded: RecordedResult;
  readonly parts: readonly ResultPart[];
  close(): Promise<void>;
}

/** Opens all blobs of a result; null when any is missing. */
export async function openResult(recorded: RecordedResult, blobs: BlobStore): Promise<OpenResult | null> {
  const frames: StoredFrame[] = [];
  const close = async () => void (await Promise.all(frames.map(async (frame) => frame.close())));
  try {
    const parts: ResultPart[] = [];
    for (const part of partsOf(recorded.manifest)) {
      if (part.size === 0) {
        parts.push({ ...part, frame: null });
        continue;
      }
      const found = await blobs.get(part.digest);
      if (found.kind === "hit") frames.push(found.frame);
      if (found.kind === "miss" || found.frame.size !== part.size) {
        await close();
        return null;
      }
      parts.push({ ...part, frame: found.frame });
    }
    return { recorded, parts, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** What an entry must be at least, to be an answer. */
export interface WantedResult {
  readonly isolationMin: Isolation;
  readonly life: Life;
}

/** Looks a key up; null for a miss, also when the entry is of a weaker isolation or life, or its blobs are gone. */
export async function lookUp(key: Digest, wanted: WantedResult, store: TenantStore): Promise<OpenResult | null> {
  const found = await store.actions.get(key);
  if (found.kind === "miss") return null;
  const { action } = found;
  const { result, isolation, life, compileUs } = action;
  if (!isolationAtLeast(isolation, wanted.isolationMin) || !lifeSuffices(life, wanted.life)) return null;
  const manifest = decodeResultManifest(result);
  const { vm, worker, principal, image, madeMs, confirmedBy } = action;
  const origin = { vm, worker, principal, image, madeMs, confirmedBy, isolation, life, compileUs, versions: {} };
  return openResult({ manifest, resultDigest: resultDigest(result), origin }, store.blobs);
}

function* partsOf(manifest: ResultManifest): Generator<Omit<ResultPart, "frame">> {
  for (const { index, executable, digest, size } of manifest.outputs)
    yield { kind: "output", outputIndex: index, executable, digest, size };
  for (const kind of ["stdout", "stderr"] as const)
    yield { kind, outputIndex: 0, executable: false, digest: manifest[kind].digest, size: manifest[kind].size };
}
