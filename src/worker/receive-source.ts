// Gets a job's source: asks the client for the blobs that are not here, and for those that its principal never sent, and keeps them and the
// manifest, hashed.
import type { BlobRef } from "../core/action/result-manifest.ts";
import { filesOf, SOURCE_MANIFEST_BYTES_MAX, type SourceManifest } from "../core/action/source-manifest.ts";
import type { Digest } from "../core/digest/digest.ts";
import type { Principal } from "../core/identity/spiffe.ts";
import type { BlobStore } from "../store/blob-store.ts";
import type { Possessions } from "./possessions.ts";

export type JobProgress = "receiving" | "queued" | "running";

/** What a job can ask of its client. */
export interface JobClient {
  /** Asks for blobs; yields the frame of each, in their order, each to be read to its end. Called once at most. */
  receive(blobs: readonly BlobRef[]): AsyncIterable<AsyncIterable<Uint8Array>>;
  progress(state: JobProgress): void;
}

export interface ReceivedSource {
  readonly principal: Principal;
  readonly encodedSource: Uint8Array;
  readonly source: SourceManifest;
}

/** A blob up to this size is collected first, so that many can be written and synced at once. */
const COLLECTED_BYTES_MAX = 128 * 1024;
const WRITES_AT_ONCE_MAX = 16;

/** What came from the client, uncompressed. */
export interface ReceivedBlobs {
  readonly blobs: number;
  readonly bytes: number;
}

/** Resolves when all of the source is durable. UNTRUSTED: the client; a blob that is not what its digest names throws. */
export async function receiveSource(
  job: ReceivedSource,
  blobs: BlobStore,
  { client, possessions }: { readonly client: JobClient; readonly possessions: Possessions },
): Promise<ReceivedBlobs> {
  const missing = await missingBlobs(job, blobs, possessions);
  const writes = new Writes();
  const keepManifest = async () => void (await blobs.putBytes(job.encodedSource, "kept", SOURCE_MANIFEST_BYTES_MAX));
  try {
    await writes.add(keepManifest());
    if (missing.length === 0) return { blobs: 0, bytes: 0 };
    client.progress("receiving");
    let index = 0;
    for await (const frame of client.receive(missing)) {
      const ref = missing[index++]!;
      if (ref.size > COLLECTED_BYTES_MAX) await blobs.putFrame(ref, frame, "kept");
      else await writes.add(blobs.putFrame(ref, await collect(frame), "kept"));
    }
  } finally {
    await writes.done();
  }
  writes.throwIfFailed();
  for (const { digest } of missing) possessions.add(job.principal, digest);
  return { blobs: missing.length, bytes: missing.reduce((sum, { size }) => sum + size, 0) };
}

async function missingBlobs(
  { source, principal }: ReceivedSource,
  blobs: BlobStore,
  possessions: Possessions,
): Promise<BlobRef[]> {
  const refs = new Map<Digest, BlobRef>();
  for (const { digest, size } of filesOf(source)) if (size > 0) refs.set(digest, { digest, size });
  const all = [...refs.values()];
  const sizes = await Promise.all(all.map(async ({ digest }) => blobs.frameSize(digest, "kept")));
  return all.filter(({ digest }, at) => sizes[at] === null || !possessions.has(principal, digest));
}

async function collect(frame: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const part of frame) parts.push(part);
  return parts.length === 1 ? parts[0]! : Buffer.concat(parts);
}

/** Writes that run side by side, a bounded number of them. */
class Writes {
  readonly #running = new Set<Promise<void>>();
  #failure: { readonly reason: unknown } | null = null;

  /** Adds a write; waits while too many run, and throws what an earlier one threw. */
  async add(write: Promise<void>): Promise<void> {
    const settled = write
      .catch((reason: unknown) => {
        this.#failure ??= { reason };
      })
      .finally(() => this.#running.delete(settled));
    this.#running.add(settled);
    while (this.#running.size >= WRITES_AT_ONCE_MAX) await Promise.race(this.#running);
    this.throwIfFailed();
  }

  async done(): Promise<void> {
    await Promise.all(this.#running);
  }

  throwIfFailed(): void {
    if (this.#failure !== null) throw this.#failure.reason;
  }
}
