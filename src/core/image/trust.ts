// Whether an image is signed as the user's policy asks: cosign's signatures with a key, "simple signing" payloads. UNTRUSTED: registry, and
// whoever can write what was kept of one. Pure. Format: cosign's specification of signatures.
import { createPublicKey, type KeyObject, verify } from "node:crypto";
import { HpccError } from "../../base/errors.ts";
import { type Digest, digestHex, isDigest, sha256 } from "../digest/digest.ts";
import { parseImageName, repositoryOf } from "./image-name.ts";
import { matchesRepository } from "./repository-pattern.ts";

/** Images of these repositories are trusted when they are signed with this key. */
export interface TrustRule {
  /** "registry.example.com/team/toolchain", or "registry.example.com/team/*" for all below. */
  readonly repository: string;
  /** Path of a PEM file with the public key. */
  readonly key: string;
}

export interface SignedPayload {
  readonly payload: Buffer;
  readonly signature: Buffer;
}

/** What a registry has to say for an image. */
export interface TrustEvidence {
  /** The index that leads to the image, as an index is what is signed of an image for several machines. */
  readonly index: Buffer | null;
  readonly signatures: readonly SignedPayload[];
}

export const SIGNATURES_MAX = 64;
export const PAYLOAD_BYTES_MAX = 64 * 1024;
const SIGNATURE_BYTES_MAX = 1024;

/** The rule for a repository: the one that names it, else the longest one that it is below. */
export function ruleFor(rules: readonly TrustRule[], repository: string): TrustRule | null {
  const matching = rules.filter(({ repository: named }) => matchesRepository(named, repository));
  const exact = matching.find(({ repository: named }) => named === repository);
  return exact ?? matching.sort((a, b) => b.repository.length - a.repository.length)[0] ?? null;
}

/** Reads a rule's public key: ECDSA on the curve P-256, as `cosign generate-key-pair` makes them. */
export function parseTrustKey(pem: string, path: string): KeyObject {
  let key: KeyObject | null = null;
  try {
    key = createPublicKey(pem);
  } catch {
    // Said below.
  }
  const isPublic = pem.includes("-----BEGIN PUBLIC KEY-----");
  if (
    key === null ||
    !isPublic ||
    key.asymmetricKeyType !== "ec" ||
    key.asymmetricKeyDetails?.namedCurve !== "prime256v1"
  )
    throw new HpccError(
      "config.invalid",
      `${path} is no public key for signatures: a PEM file with an ECDSA key on P-256`,
      {
        hint: "`cosign generate-key-pair` makes one, cosign.pub.",
      },
    );
  return key;
}

/** Why a signature does not count, from what is worth telling least to most. */
const FAULTS = ["malformed", "key", "digest", "repository"] as const;
type Fault = { readonly kind: (typeof FAULTS)[number]; readonly found: string };

/** Throws `image.untrusted` unless one signature is by the key, for this image and this repository. */
export function judgeEvidence(
  evidence: TrustEvidence,
  image: { readonly digest: Digest; readonly repository: string },
  by: { readonly key: KeyObject; readonly path: string },
): void {
  const { digest, repository } = image;
  const signed = new Set<string>([digest]);
  if (evidence.index !== null && indexNames(evidence.index, digest)) signed.add(sha256(evidence.index));
  let worst: Fault | null = null;
  for (const signature of evidence.signatures.slice(0, SIGNATURES_MAX)) {
    const fault = faultOf(signature, { signed, repository, key: by.key });
    if (fault === null) return;
    if (worst === null || FAULTS.indexOf(fault.kind) > FAULTS.indexOf(worst.kind)) worst = fault;
  }
  throw untrusted(image, by.path, worst);
}

function faultOf(
  { payload, signature }: SignedPayload,
  wanted: { readonly signed: ReadonlySet<string>; readonly repository: string; readonly key: KeyObject },
): Fault | null {
  if (payload.length > PAYLOAD_BYTES_MAX || signature.length > SIGNATURE_BYTES_MAX)
    return { kind: "malformed", found: "" };
  let isBySigner = false;
  try {
    isBySigner = verify("sha256", payload, wanted.key, signature);
  } catch {
    // Bytes that are no signature are none by this key.
  }
  // Nothing of a payload is looked at before it is known to be the signer's.
  if (!isBySigner) return { kind: "key", found: "" };
  const said = parsePayload(payload);
  if (said === null) return { kind: "malformed", found: "" };
  if (!wanted.signed.has(said.digest)) return { kind: "digest", found: said.digest };
  if (said.repository !== wanted.repository) return { kind: "repository", found: said.repository };
  return null;
}

function untrusted(image: { digest: Digest; repository: string }, path: string, worst: Fault | null): HpccError {
  const words = {
    malformed: "is signed in a form that is not understood",
    key: `has a signature that is not by the key ${path}: it was made with another key, or altered`,
    digest: `has the signature of another image, ${worst?.found}`,
    repository: `has a signature for another repository, ${worst?.found}`,
  };
  const what = worst === null ? "is not signed" : words[worst.kind];
  return new HpccError("image.untrusted", `image ${image.digest} of ${image.repository} ${what}`, {
    details: { reason: worst?.kind ?? "unsigned" },
  });
}

type Json = Readonly<Record<string, unknown>>;

function parsePayload(bytes: Buffer): { readonly digest: Digest; readonly repository: string } | null {
  const critical = objectOf(objectOf(parseJson(bytes))["critical"]);
  const digest = objectOf(critical["image"])["docker-manifest-digest"];
  const reference = objectOf(critical["identity"])["docker-reference"];
  if (critical["type"] !== "cosign container image signature") return null;
  if (typeof digest !== "string" || !isDigest(digest) || typeof reference !== "string") return null;
  try {
    return { digest, repository: repositoryOf(parseImageName(reference)) };
  } catch {
    return null;
  }
}

/** Whether an index names an image itself. */
function indexNames(index: Buffer, digest: Digest): boolean {
  const manifests = objectOf(parseJson(index))["manifests"];
  return Array.isArray(manifests) && manifests.some((entry) => objectOf(entry)["digest"] === digest);
}

function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString("utf8"));
  } catch {
    return null;
  }
}

function objectOf(value: unknown): Json {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : {};
}

/** Where signatures of an image are kept, below the folder of images. */
export function evidenceFile(digest: Digest): string {
  return `signatures/${digestHex(digest)}.json`;
}

/** As a file keeps it. */
export function encodeEvidence({ index, signatures }: TrustEvidence): string {
  return JSON.stringify({
    version: 1,
    index: index?.toString("base64") ?? null,
    signatures: signatures.map(({ payload, signature }) => ({
      payload: payload.toString("base64"),
      signature: signature.toString("base64"),
    })),
  });
}

/** UNTRUSTED: whoever can write the file; none of it counts without a signature. */
export function decodeEvidence(text: string): TrustEvidence {
  const file = objectOf(parseJson(Buffer.from(text)));
  const list = Array.isArray(file["signatures"]) ? file["signatures"].slice(0, SIGNATURES_MAX) : [];
  const bytes = (value: unknown) => Buffer.from(typeof value === "string" ? value : "", "base64");
  return {
    index: typeof file["index"] === "string" ? bytes(file["index"]) : null,
    signatures: list
      .map(objectOf)
      .map(({ payload, signature }) => ({ payload: bytes(payload), signature: bytes(signature) })),
  };
}
