// One question to a peer for one result: the first message says whether it has it, and chunks follow. Knows no store and
// believes nothing; it holds the peer to order and sizes.
import { create } from "@bufbuild/protobuf";
import { HpccError } from "../../base/errors.ts";
import type { BlobRef, ResultManifest } from "../../core/action/result-manifest.ts";
import type { Digest } from "../../core/digest/digest.ts";
import type { TenantId } from "../../core/identity/spiffe.ts";
import { FetchRequestSchema, type FetchResponse, type Found, PeerService } from "../../gen/hpcc/peer/v1/peer_pb.js";
import type { RpcClient } from "../grpc/client.ts";
import { CHUNK_BYTES_MAX } from "../worker/limits.ts";
import { HOLDERS_MAX, RESULT_MANIFEST_BYTES_MAX } from "./limits.ts";
import { SIGNED_STATEMENT_BYTES_MAX } from "./signed-statement.ts";

/** What a peer says first. */
export type PeerAnswer =
  | { readonly kind: "found"; readonly statement: Uint8Array; readonly manifest: Uint8Array; readonly frames: Frames }
  /** SPIFFE ids as the peer wrote them. */
  | { readonly kind: "not-found"; readonly holders: readonly string[] };

type Responses = AsyncGenerator<FetchResponse, void, undefined>;

/** Asks; the call goes on until `frames` are read, or until the signal is aborted. UNTRUSTED: the peer. */
export async function fetchFrom(
  client: RpcClient,
  { tenant, key }: { readonly tenant: TenantId; readonly key: Digest },
  signal: AbortSignal,
): Promise<PeerAnswer> {
  const request = create(FetchRequestSchema, { tenant, key });
  const end = new AbortController();
  const responses: Responses = client.serverStream(PeerService.method.fetch, request, {
    signal: AbortSignal.any([signal, end.signal]),
  });
  const { value, done } = await nextOf(responses);
  const message = done === true ? undefined : value.message;
  if (message?.case === "found") return foundOf(message.value, responses, end);
  await responses.return();
  if (message?.case !== "notFound") throw breach("the first message is no answer");
  const { holders } = message.value;
  if (holders.length > HOLDERS_MAX) throw breach(`more than ${HOLDERS_MAX} holders`);
  return { kind: "not-found", holders };
}

function foundOf({ statement, resultManifest }: Found, responses: Responses, end: AbortController): PeerAnswer {
  if (statement.length > SIGNED_STATEMENT_BYTES_MAX || resultManifest.length > RESULT_MANIFEST_BYTES_MAX)
    throw breach("a statement or a manifest is too large");
  return { kind: "found", statement, manifest: resultManifest, frames: new Frames(responses, end) };
}

/** The blobs of a result that are sent, in their order: none that is empty, none twice. */
export function blobsToSend({ outputs, stdout, stderr }: ResultManifest): BlobRef[] {
  const blobs = new Map<Digest, BlobRef>();
  for (const { digest, size } of [...outputs, stdout, stderr])
    if (size > 0 && !blobs.has(digest)) blobs.set(digest, { digest, size });
  return [...blobs.values()];
}

/** The frames of an answer, one after the other. */
export class Frames {
  readonly #responses: Responses;
  readonly #end: AbortController;

  constructor(responses: Responses, end: AbortController) {
    this.#responses = responses;
    this.#end = end;
  }

  /** The next frame: at once when it came in one piece, else as it comes. Read it to its end before the next one. */
  async next(sizeMax: number): Promise<Uint8Array | AsyncIterable<Uint8Array>> {
    const first = await this.#chunk(sizeMax);
    return first.last ? first.data : this.#rest(first.data, sizeMax);
  }

  /** Ends the call, also when nothing or not all was read, or a peer that is silent is being waited for. */
  async close(): Promise<void> {
    this.#end.abort();
    await this.#responses.return();
  }

  async *#rest(first: Uint8Array, sizeMax: number): AsyncGenerator<Uint8Array, void, undefined> {
    yield first;
    for (let size = first.length; ; ) {
      const { data, last } = await this.#chunk(sizeMax - size);
      size += data.length;
      yield data;
      if (last) return;
    }
  }

  async #chunk(sizeMax: number): Promise<{ readonly data: Uint8Array; readonly last: boolean }> {
    const { value, done } = await nextOf(this.#responses);
    if (done === true) throw breach("the answer ended before its last blob");
    if (value.message.case !== "chunk") throw breach("a message stands where a chunk belongs");
    const { data, last } = value.message.value;
    if (data.length < 1 || data.length > CHUNK_BYTES_MAX) throw breach(`a chunk has ${data.length} bytes`);
    if (data.length > sizeMax) throw breach("a blob is larger than its size allows");
    return { data, last };
  }
}

/** Whatever code a peer ends a call with, it is no fault found here; only that it is busy is believed. */
async function nextOf(responses: Responses): Promise<IteratorResult<FetchResponse, void>> {
  try {
    return await responses.next();
  } catch (error) {
    if (error instanceof HpccError && error.code === "limit.exceeded") throw error;
    throw new HpccError("peer.unavailable", (error as Error).message, { cause: error });
  }
}

function breach(problem: string): HpccError {
  return new HpccError("peer.protocol", problem);
}
