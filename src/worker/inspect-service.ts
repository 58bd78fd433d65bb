// The Inspect RPC: what the audit log and the store know of a hash, within the caller's tenant.
import { create } from "@bufbuild/protobuf";
import { encodeEnvelope } from "../audit/envelope.ts";
import { InspectIndex } from "../audit/inspect-index.ts";
import type { Digest } from "../core/digest/digest.ts";
import { parseTenantId, type TenantId } from "../core/identity/spiffe.ts";
import { type InspectRequest, type InspectResponse, InspectResponseSchema } from "../gen/hpcc/worker/v1/worker_pb.js";
import type { TenantStore } from "../store/action-cache.ts";
import { readBlob } from "../store/read-blob.ts";

/** Largest manifest that is read back. */
const MANIFEST_BYTES_MAX = 1024 * 1024;

export interface InspectService {
  /** Throws `hash.unknown` for what the tenant has not. */
  find(tenant: TenantId, request: InspectRequest): Promise<InspectResponse>;
  close(): void;
}

export interface InspectServiceOptions {
  /** The audit log's. */
  readonly folder: string;
  readonly store: (tenant: TenantId) => TenantStore;
}

export function inspectService({ folder, store }: InspectServiceOptions): InspectService {
  const read = async (tenant: string, digest: Digest) =>
    tenant === "-" ? null : readBlob(store(parseTenantId(tenant)).blobs, digest, MANIFEST_BYTES_MAX);
  let index: InspectIndex | null = null;
  return {
    async find(tenant, { hash }) {
      index ??= new InspectIndex(folder, read);
      const { kind, digest, records } = await index.find(hash, tenant);
      const source = common(records.map((record) => record.row.sourceDigest));
      const result = common(records.map((record) => record.envelope.resultDigest));
      return create(InspectResponseSchema, {
        kind,
        digest,
        rows: records.map((record) => record.line),
        envelopes: records.map((record) => encodeEnvelope(record.envelope)),
        sourceManifest: (source && (await read(tenant, source))) ?? new Uint8Array(),
        resultManifest: (result && (await read(tenant, result))) ?? new Uint8Array(),
      });
    },
    close: () => index?.close(),
  };
}

/** The one digest that all rows share; null when they do not. */
function common(digests: readonly (Digest | null)[]): Digest | null {
  const [first] = digests;
  return first !== undefined && digests.every((digest) => digest === first) ? first : null;
}
