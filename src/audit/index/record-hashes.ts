// Which hashes a record names, and which blobs its source and result hold. Pure.
import { HpccError } from "../../base/errors.ts";
import { decodeResultManifest } from "../../core/action/result-manifest.ts";
import { decodeSourceManifest, filesOf } from "../../core/action/source-manifest.ts";
import { type Digest, isDigest } from "../../core/digest/digest.ts";
import { actionKeyOf, resultDigestsOf } from "../rows/bodies.ts";
import type { AuditRecord } from "../segment.ts";
import type { EntryKind } from "./entry.ts";

/** Reads the uncompressed bytes of a tenant's manifest; null when it is not there. */
export type ReadManifest = (tenant: string, digest: Digest) => Promise<Uint8Array | null>;

export interface Named {
  readonly kind: Exclude<EntryKind, "member">;
  readonly digest: Digest;
}

export interface Manifest {
  readonly kind: "source" | "result";
  readonly digest: Digest;
}

/** Each once. */
export function namesOf({ row, digest, envelope }: AuditRecord): Named[] {
  const flags = row.flags !== null && isDigest(row.flags) ? row.flags : null;
  const all: [Named["kind"], Digest | null][] = [
    ["row", digest],
    ["action", actionKeyOf(envelope)],
    ["source", row.sourceDigest],
    ...resultDigestsOf(envelope).map((result): [Named["kind"], Digest] => ["result", result]),
    ["blob", row.outputDigest],
    ["blob", flags],
  ];
  const named = all.flatMap(([kind, name]) => (name === null ? [] : [{ kind, digest: name }]));
  return named.filter(
    ({ kind, digest: own }, at) => !named.slice(0, at).some((b) => b.kind === kind && b.digest === own),
  );
}

export function manifestsOf(record: AuditRecord): Manifest[] {
  return namesOf(record).filter((named): named is Manifest => named.kind === "source" || named.kind === "result");
}

/** The blobs of a manifest, each once; null for one that cannot be read. UNTRUSTED: a store. */
export async function readBlobs(read: ReadManifest, tenant: string, manifest: Manifest): Promise<Set<Digest> | null> {
  try {
    const bytes = await read(tenant, manifest.digest);
    return bytes === null ? null : blobsOf(manifest, bytes);
  } catch (error) {
    if (error instanceof HpccError) return null;
    throw error;
  }
}

function blobsOf({ kind }: Manifest, bytes: Uint8Array): Set<Digest> {
  if (kind === "source") return new Set(filesOf(decodeSourceManifest(bytes)).map(({ digest }) => digest));
  const { outputs, stdout, stderr } = decodeResultManifest(bytes);
  return new Set([...outputs, stdout, stderr].map(({ digest }) => digest));
}
