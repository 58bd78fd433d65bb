// Gives a client what its own jobs were made of and what they left, by row and digest, so that it can run them again. Another principal's
// rows are unknown to it, in its own tenant too: sources are shown to who sent them.
import { create } from "@bufbuild/protobuf";
import { decodeEnvelope } from "../audit/envelope.ts";
import { decodeRow } from "../audit/row.ts";
import { HpccError } from "../base/errors.ts";
import { decodeResultManifest } from "../core/action/result-manifest.ts";
import { decodeSourceManifest, filesOf, SOURCE_MANIFEST_BYTES_MAX } from "../core/action/source-manifest.ts";
import { type Digest, parseDigest } from "../core/digest/digest.ts";
import { type Principal, spiffeId } from "../core/identity/spiffe.ts";
import { type FetchRequest, type FetchResponse, FetchResponseSchema } from "../gen/hpcc/worker/v1/worker_pb.js";
import type { TenantStore } from "../store/action-cache.ts";
import { readBlob } from "../store/read-blob.ts";
import { CHUNK_BYTES_MAX } from "../wire/worker/limits.ts";
import type { Finds } from "./inspect/inspection.ts";

export interface FetchOptions {
  readonly inspector: Finds;
  readonly store: TenantStore;
}

/** Throws `hash.unknown` for a row that is not the caller's, or a digest that its row does not name. UNTRUSTED: the request. */
export async function* fetchBlob(
  request: FetchRequest,
  principal: Principal,
  { inspector, store }: FetchOptions,
): AsyncGenerator<FetchResponse, void, undefined> {
  const digest = parseDigest(request.digest, "the blob's digest");
  const row = parseDigest(request.rowDigest, "the row's digest");
  const { kind, rows, envelopes } = await inspector.find(row, principal.tenant);
  const line = rows[0];
  const unknown = () => new HpccError("hash.unknown", `no row ${row} of yours names ${digest}`);
  if (kind !== "row" || line === undefined) throw unknown();
  const envelope = decodeEnvelope(envelopes[0] ?? "");
  if ((envelope.kind !== "compile" && envelope.kind !== "hit") || envelope.principal !== spiffeId(principal))
    throw unknown();
  const { sourceDigest, flags } = decodeRow(line);
  const roots = [sourceDigest, flags, envelope.resultDigest];
  if (!roots.includes(digest) && !(await membersOf(store, sourceDigest, envelope.resultDigest)).has(digest))
    throw unknown();
  yield* frameOf(store, digest);
}

/** Digests of the blobs of both manifests, as far as these are there. */
async function membersOf(store: TenantStore, source: Digest | null, result: Digest): Promise<ReadonlySet<Digest>> {
  const members = new Set<Digest>();
  const read = async (digest: Digest) => readBlob(store.blobs, digest, SOURCE_MANIFEST_BYTES_MAX);
  const sourceBytes = source === null ? null : await read(source);
  if (sourceBytes !== null) for (const { digest } of filesOf(decodeSourceManifest(sourceBytes))) members.add(digest);
  const resultBytes = await read(result);
  if (resultBytes !== null) {
    const { outputs, stdout, stderr } = decodeResultManifest(resultBytes);
    for (const { digest } of [...outputs, stdout, stderr]) members.add(digest);
  }
  return members;
}

async function* frameOf({ blobs }: TenantStore, digest: Digest): AsyncGenerator<FetchResponse, void, undefined> {
  const found = await blobs.get(digest);
  if (found.kind === "miss") return;
  const { frame } = found;
  try {
    for await (const part of frame.chunks())
      for (let at = 0; at < part.length; at += CHUNK_BYTES_MAX)
        yield create(FetchResponseSchema, { size: BigInt(frame.size), data: part.subarray(at, at + CHUNK_BYTES_MAX) });
  } finally {
    await frame.close();
  }
}
