// What a registry has of an image's signatures: cosign's under a tag that is made of the image's digest, Notation's and Sigstore's bundles as
// artifacts that refer to the image. UNTRUSTED: registry. None of it is believed here; core/image/trust.ts judges it. Formats: cosign's
// specification of signatures, and OCI's of referrers.
import { HpccError } from "../../base/errors.ts";
import { type Digest, digestHex, isDigest } from "../../core/digest/digest.ts";
import type { ImageName } from "../../core/image/image-name.ts";
import { type KeptSignature, PAYLOAD_BYTES_MAX, SIGNATURES_MAX } from "../../core/image/trust.ts";
import type { Descriptor } from "../blob.ts";
import { DOCUMENT_BYTES_MAX } from "../image-limits.ts";
import { MEDIA_TYPES, type RootDocument } from "../layout.ts";
import { readSmall } from "./dialer.ts";
import { fetchDocument, fetchRoot } from "./fetch.ts";
import type { FoundImage } from "./pull.ts";
import type { RegistrySession } from "./session.ts";

const COSIGN = "application/vnd.dev.cosign.simplesigning.v1+json";
const ANNOTATION = "dev.cosignproject.cosign/signature";
const JWS = "application/jose+json";
/** Is judged, to be refused by its name. */
const COSE = "application/cose";
const NOTATION = "application/vnd.cncf.notary.signature";
const BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json";
/** By what an artifact is, the form in which its one layer is kept. */
const ARTIFACTS: ReadonlyMap<unknown, { readonly kind: "notation" | "bundle"; readonly layers: readonly unknown[] }> =
  new Map([
    [NOTATION, { kind: "notation", layers: [JWS, COSE] }],
    [BUNDLE, { kind: "bundle", layers: [BUNDLE] }],
  ]);
/** Answers to one question for referrers. */
const PAGES_MAX = 8;
const NEXT_PAGE = /^<([^<>]{1,2000})>; *rel="?next"?$/;

type Json = Readonly<Record<string, unknown>>;

/** The signatures of an image or index; none where there are none. */
export async function fetchSignatures(session: RegistrySession, digest: Digest): Promise<KeptSignature[]> {
  return [...(await cosignSignatures(session, digest)), ...(await referringSignatures(session, digest))];
}

/**
 * The index of which a signature may count: the one that led to the image, else the one that its tag names now, which must name the image, as
 * a lock pins images and not what led to them.
 */
export async function signedIndex(
  { index, manifest, session }: FoundImage,
  { tag, digest }: ImageName,
): Promise<RootDocument | null> {
  if (index !== null || tag === null || digest === null) return index;
  try {
    const named = await fetchRoot(session, tag);
    return named.digest === manifest.digest ? null : named;
  } catch (error) {
    if (error instanceof HpccError && error.code === "image.missing") return null;
    throw error;
  }
}

async function cosignSignatures(session: RegistrySession, digest: Digest): Promise<KeptSignature[]> {
  const bytes = await underTag(session, `sha256-${digestHex(digest)}.sig`);
  const found: KeptSignature[] = [];
  for (const { mediaType, digest: blob, size, annotations } of listIn(bytes, "layers")) {
    const signature = objectOf(annotations)[ANNOTATION];
    const named = smallBlob({ mediaType, digest: blob, size });
    if (mediaType !== COSIGN || typeof signature !== "string" || named === null) continue;
    const payload = await fetchDocument(session, "blobs", named);
    found.push({ kind: "cosign", payload, signature: Buffer.from(signature, "base64") });
  }
  return found;
}

async function referringSignatures(session: RegistrySession, digest: Digest): Promise<KeptSignature[]> {
  const found: KeptSignature[] = [];
  const referrers = (await referrersOf(session, digest)).filter(({ artifactType }) => ARTIFACTS.has(artifactType));
  for (const { artifactType, ...referrer } of referrers.slice(0, SIGNATURES_MAX)) {
    const { kind, layers } = ARTIFACTS.get(artifactType)!;
    const named = smallBlob(referrer, DOCUMENT_BYTES_MAX);
    if (named === null) continue;
    const manifest = await fetchDocument(session, "manifests", named);
    // What is listed for an image must say itself that it is for it.
    if (objectOf(objectOf(parseJson(manifest))["subject"])["digest"] !== digest) continue;
    const [only, ...more] = listIn(manifest, "layers");
    const envelope = only === undefined || more.length > 0 ? null : smallBlob(only);
    if (envelope === null || !layers.includes(envelope.mediaType)) continue;
    found.push({ kind, payload: await fetchDocument(session, "blobs", envelope) });
  }
  return found;
}

/** Descriptors of what refers to an image: as the registry says, or where it does not know, as those who pushed it wrote under a tag. */
async function referrersOf(session: RegistrySession, digest: Digest): Promise<Json[]> {
  const { dialer } = session;
  const found: Json[] = [];
  let next: URL | null = await session.url(`referrers/${digest}`);
  for (let page = 0; next !== null && page < PAGES_MAX; page += 1) {
    const answer = await session.ask(next, {
      method: "GET",
      headers: { accept: MEDIA_TYPES.index },
      deadlineMs: dialer.timing.documentMs,
    });
    const [type = ""] = (answer.headers["content-type"] ?? "").split(";");
    if (answer.status === 401 || answer.status === 403) throw await session.refusal(answer, `what refers to ${digest}`);
    if (answer.status !== 200 || type.trim() !== MEDIA_TYPES.index) {
      answer.body.destroy();
      return listIn(await underTag(session, `sha256-${digestHex(digest)}`), "manifests");
    }
    found.push(...listIn(await readSmall(dialer, answer, DOCUMENT_BYTES_MAX), "manifests"));
    next = nextPage(next, answer.headers["link"]);
  }
  return found;
}

/** A further page, of the same registry alone. */
function nextPage(page: URL, link: string | string[] | undefined): URL | null {
  const [, target] = NEXT_PAGE.exec(typeof link === "string" ? link : "") ?? [];
  const next = target === undefined || !URL.canParse(target, page.href) ? null : new URL(target, page);
  return next?.origin === page.origin ? next : null;
}

/** The document that a tag names; null when there is none. */
async function underTag(session: RegistrySession, tag: string): Promise<Uint8Array | null> {
  try {
    return (await fetchRoot(session, tag)).bytes;
  } catch (error) {
    if (error instanceof HpccError && error.code === "image.missing") return null;
    throw error;
  }
}

/** A blob that is small enough to be a signature, or null. */
function smallBlob({ mediaType, digest, size }: Json, sizeBytesMax = PAYLOAD_BYTES_MAX): Descriptor | null {
  if (typeof mediaType !== "string" || typeof digest !== "string" || !isDigest(digest)) return null;
  return typeof size === "number" && size <= sizeBytesMax ? { mediaType, digest, sizeBytes: size } : null;
}

function listIn(bytes: Uint8Array | null, field: "layers" | "manifests"): Json[] {
  if (bytes === null) return [];
  const list = objectOf(parseJson(bytes))[field];
  return Array.isArray(list) ? list.slice(0, SIGNATURES_MAX * PAGES_MAX).map(objectOf) : [];
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes).toString("utf8"));
  } catch (cause) {
    throw new HpccError("image.invalid", "a list of signatures is no JSON", { cause });
  }
}

function objectOf(value: unknown): Json {
  return typeof value === "object" && value !== null ? (value as Json) : {};
}
