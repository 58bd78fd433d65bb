// What the rows of a log need of a worker's store: sources with their files, results, long command lines; and of two results that
// differed, their outputs too, which are kept as evidence.
import { type ScanOptions, scanLog } from "../../audit/prune/scan-log.ts";
import { type NeededKind, neededBy, type WeighedBlob } from "../../audit/prune/weigh.ts";
import { HpccError } from "../../base/errors.ts";
import { decodeResultManifest } from "../../core/action/result-manifest.ts";
import { decodeSourceManifest, filesOf, SOURCE_MANIFEST_BYTES_MAX } from "../../core/action/source-manifest.ts";
import type { Digest } from "../../core/digest/digest.ts";
import { parseTenantId, type TenantId } from "../../core/identity/spiffe.ts";
import type { BlobStore } from "../../store/blob-store.ts";
import type { DiskStore } from "../../store/disk/disk-store.ts";
import { readBlob } from "../../store/read-blob.ts";

/** A blob that a row names, and those that it names itself. Throws `store.io` where it cannot be read; one that is not there names none. */
async function blobsOf(digest: Digest, kind: NeededKind | "evidence", blobs: BlobStore): Promise<Digest[]> {
  if (kind === "flags" || kind === "result") return [digest];
  const bytes = await readBlob(blobs, digest, SOURCE_MANIFEST_BYTES_MAX);
  if (bytes === null) return [digest];
  if (kind === "source") return [digest, ...filesOfSource(bytes)];
  const { outputs, stdout, stderr } = decodeResultManifest(bytes);
  return [digest, ...[...outputs, stdout, stderr].map((ref) => ref.digest)];
}

/** None of what is no manifest: a denied job's row names whatever bytes its client sent for one. UNTRUSTED: a client. */
function filesOfSource(bytes: Uint8Array): Digest[] {
  try {
    return filesOf(decodeSourceManifest(bytes)).map((file) => file.digest);
  } catch (error) {
    if (error instanceof HpccError && error.code === "argument.invalid") return [];
    throw error;
  }
}

/** What a tenant's blob weighs with those that it names, as far as they are kept. */
export async function weighKept(
  store: DiskStore,
  tenant: string,
  digest: Digest,
  kind: NeededKind,
): Promise<WeighedBlob[]> {
  const id = parseTenantId(tenant);
  const kept = store.kept(id);
  const all = await blobsOf(digest, kind, store.tenant(id).blobs);
  return Promise.all(all.map(async (blob) => ({ digest: blob, bytes: await kept.keptBytes(blob) })));
}

/** For each of the tenants, what the rows that are in the log need. */
export async function neededBlobs(
  folder: string,
  scan: ScanOptions,
  tenants: readonly TenantId[],
  store: DiskStore,
): Promise<ReadonlyMap<TenantId, ReadonlySet<Digest>>> {
  const named = new Map(tenants.map((tenant) => [tenant as string, new Map<Digest, NeededKind | "evidence">()]));
  await scanLog(folder, scan, (item) => {
    if (item.t === "pruned") return;
    const { record } = item.placed;
    const own = named.get(record.row.tenant);
    if (own === undefined) return;
    const { envelope } = record;
    const evidence = envelope.kind === "confirm" && envelope.outcome === "different";
    for (const [digest, kind] of neededBy(record)) {
      const as = evidence && kind === "result" ? "evidence" : kind;
      if (as !== "result" || !own.has(digest)) own.set(digest, as);
    }
  });
  const needed = new Map<TenantId, Set<Digest>>();
  for (const tenant of tenants) {
    const all = new Set<Digest>();
    const { blobs } = store.tenant(tenant);
    for (const [digest, kind] of named.get(tenant)!) {
      scan.signal.throwIfAborted();
      for (const blob of await blobsOf(digest, kind, blobs)) all.add(blob);
    }
    needed.set(tenant, all);
  }
  return needed;
}
