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
import type { CachedAction, TenantStore } from "../store/action-cache.ts";
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

/** What is known of a result that was not compiled for this job. */
export interface Provenance {
  /** The worker that made it; null for this one. */
  readonly from: string | null;
  /** Digest of the row of its compile, where it is known. */
  readonly compiledRow: Digest | null;
  /** The VM of a second, equal compile. */
  readonly confirmedBy: string | null;
}

export const OWN: Provenance = { from: null, compiledRow: null, confirmedBy: null };

/** What an entry must be at least, to be an answer. */
export interface WantedResult {
  readonly isolationMin: Isolation;
  readonly life: Life;
}

export interface FoundResult {
  readonly result: OpenResult;
  readonly provenance: Provenance;
}

/** Looks a key up; null for a miss, also when the entry is of a weaker isolation or life, or its blobs are gone. */
export async function lookUp(key: Digest, wanted: WantedResult, store: TenantStore): Promise<FoundResult | null> {
  const found = await store.actions.get(key);
  if (found.kind === "miss") return null;
  const { action } = found;
  if (!isolationAtLeast(action.isolation, wanted.isolationMin) || !lifeSuffices(worthOf(action), wanted.life))
    return null;
  const result = await openAction(action, store.blobs);
  const { worker, row, confirmedBy } = action;
  return result && { result, provenance: { from: worker, compiledRow: row, confirmedBy } };
}

/**
 * Keeps a result, unless a better one is kept that still is an answer: better isolated or of a better life, and in neither worse.
 * Of two that each have the advantage the newer stays, since it was made for want of it. False when it is not kept.
 */
export async function putUnlessOutranked(store: TenantStore, key: Digest, action: CachedAction): Promise<boolean> {
  const found = await store.actions.get(key);
  if (found.kind === "hit" && outranks(found.action, action)) {
    const better = await openAction(found.action, store.blobs);
    await better?.close();
    if (better !== null) return false;
  }
  await store.actions.put(key, action);
  return true;
}

/** The life that a result counts as: a warm VM's is as good as a clean one's once a clean VM has given the same. */
function worthOf({ life, confirmedBy }: CachedAction): Life {
  return confirmedBy === null ? life : "clean";
}

function outranks(a: CachedAction, b: CachedAction): boolean {
  const atLeast = (one: CachedAction, other: CachedAction) =>
    isolationAtLeast(one.isolation, other.isolation) && lifeSuffices(worthOf(one), worthOf(other));
  return atLeast(a, b) && !atLeast(b, a);
}

export async function openAction(action: CachedAction, blobs: BlobStore): Promise<OpenResult | null> {
  const { result, row: _, statement: __, ...made } = action;
  const origin = { ...made, versions: {} };
  return openResult({ manifest: decodeResultManifest(result), resultDigest: resultDigest(result), origin }, blobs);
}

function* partsOf(manifest: ResultManifest): Generator<Omit<ResultPart, "frame">> {
  for (const { index, executable, digest, size } of manifest.outputs)
    yield { kind: "output", outputIndex: index, executable, digest, size };
  for (const kind of ["stdout", "stderr"] as const)
    yield { kind, outputIndex: 0, executable: false, digest: manifest[kind].digest, size: manifest[kind].size };
}
