// What a registry has of an image's signatures: cosign's, under a tag that is made of the image's digest. UNTRUSTED: registry. None of it is
// believed here; core/image/trust.ts judges it. Format: cosign's specification of signatures.
import { HpccError } from "../../base/errors.ts";
import { type Digest, digestHex, isDigest } from "../../core/digest/digest.ts";
import { PAYLOAD_BYTES_MAX, SIGNATURES_MAX, type SignedPayload } from "../../core/image/trust.ts";
import { fetchDocument, fetchRoot } from "./fetch.ts";
import type { RegistrySession } from "./session.ts";

const PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json";
const ANNOTATION = "dev.cosignproject.cosign/signature";

type Json = Readonly<Record<string, unknown>>;

/** The signatures of an image or index; none where there are none. */
export async function fetchSignatures(session: RegistrySession, digest: Digest): Promise<SignedPayload[]> {
  let bytes: Uint8Array;
  try {
    ({ bytes } = await fetchRoot(session, `sha256-${digestHex(digest)}.sig`));
  } catch (error) {
    if (error instanceof HpccError && error.code === "image.missing") return [];
    throw error;
  }
  const found: SignedPayload[] = [];
  for (const layer of layersOf(bytes).slice(0, SIGNATURES_MAX)) {
    const { mediaType, digest: blob, size, annotations } = layer;
    const signature = objectOf(annotations)[ANNOTATION];
    if (mediaType !== PAYLOAD || typeof signature !== "string") continue;
    if (typeof blob !== "string" || !isDigest(blob) || typeof size !== "number" || size > PAYLOAD_BYTES_MAX) continue;
    const payload = await fetchDocument(session, "blobs", { mediaType, digest: blob, sizeBytes: size });
    found.push({ payload, signature: Buffer.from(signature, "base64") });
  }
  return found;
}

function layersOf(bytes: Uint8Array): Json[] {
  try {
    const { layers } = objectOf(JSON.parse(Buffer.from(bytes).toString("utf8")));
    return Array.isArray(layers) ? layers.map(objectOf) : [];
  } catch (cause) {
    throw new HpccError("image.invalid", "a list of signatures is no JSON", { cause });
  }
}

function objectOf(value: unknown): Json {
  return typeof value === "object" && value !== null ? (value as Json) : {};
}
