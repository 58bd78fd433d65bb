// Signatures of the Notary Project in JWS envelopes, as `notation sign` makes them. Pure. UNTRUSTED: registry. Formats: its specifications of
// signatures, of JWS envelopes, and of trust stores and policies. What is not looked at: whether certificates were revoked, as that asks
// hosts, and time stamps of third parties, so a signature ends with the certificates of its signer.
import { constants, type KeyObject, verify, type X509Certificate } from "node:crypto";
import { type ChainLink, certificateNames, chainFault, readChain, type TrustedName } from "./certificate-chain.ts";
import { anotherImage, type Fault, type Json, objectOf, parseJson, quoted, type Wanted } from "./fault.ts";

export interface NotationSigner {
  readonly path: string;
  /** Certificates of which the chain of a signer must have one. */
  readonly roots: readonly X509Certificate[];
  /** Whose signatures count of those that the roots vouch for; empty for all. */
  readonly identities: readonly TrustedName[];
}

const ATTRIBUTE = "io.cncf.notary.";
const SCHEME = `${ATTRIBUTE}signingScheme`;
const EXPIRY = `${ATTRIBUTE}expiry`;
const SIGNING_TIME = `${ATTRIBUTE}signingTime`;
const PAYLOAD_TYPE = "application/vnd.cncf.notary.payload.v1+json";
/** Others must be understood by a plug-in, or by nobody. */
const UNDERSTOOD: ReadonlySet<string> = new Set([SCHEME, EXPIRY]);
/** An RFC 3339 time, which Date.parse reads. */
const TIME = /^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:[Zz]|[+-]\d{2}:\d{2})$/;
const BASE64URL = /^[A-Za-z0-9_-]+$/;

/** By key: the one algorithm that may be used with it, and how that is verified. */
const ALGORITHMS: Readonly<Record<string, { readonly alg: string; readonly hash: string; readonly isRsa: boolean }>> = {
  "rsa 2048": { alg: "PS256", hash: "sha256", isRsa: true },
  "rsa 3072": { alg: "PS384", hash: "sha384", isRsa: true },
  "rsa 4096": { alg: "PS512", hash: "sha512", isRsa: true },
  "ec prime256v1": { alg: "ES256", hash: "sha256", isRsa: false },
  "ec secp384r1": { alg: "ES384", hash: "sha384", isRsa: false },
  "ec secp521r1": { alg: "ES512", hash: "sha512", isRsa: false },
};

/** Why a signature does not count; null when it does. */
export function notationFault(envelope: Buffer, by: NotationSigner, wanted: Wanted): Fault | null {
  const read = readEnvelope(envelope);
  if (typeof read === "string") return malformed(read);
  const { head, payload, leaf } = read;
  if (!isSignedBy(read, leaf.publicKey)) return { kind: "key", words: "has a Notation signature that was altered" };
  return (
    chainFault(read.chain, by, wanted.nowMs) ??
    headFault(head, wanted.nowMs) ??
    identityFault(leaf, by) ??
    targetFault(payload, wanted)
  );
}

function malformed(why: string): Fault {
  return { kind: "malformed", words: `has a Notation signature that cannot be used: ${why}` };
}

interface Envelope {
  readonly head: Json;
  readonly payload: Buffer;
  readonly chain: readonly ChainLink[];
  readonly leaf: X509Certificate;
  /** What is signed. */
  readonly signedText: string;
  readonly signature: Buffer;
  readonly algorithm: { readonly hash: string; readonly isRsa: boolean };
}

/** Its parts; a text says what is wrong with them. */
function readEnvelope(bytes: Buffer): Envelope | string {
  const jws = objectOf(parseJson(bytes));
  const { payload, protected: head, signature } = jws;
  if (!isBase64Url(payload) || !isBase64Url(head) || !isBase64Url(signature))
    return "it is no JWS, and COSE is not read: sign with --signature-format jws";
  const fields = parseJson(Buffer.from(head, "base64url"));
  if (typeof fields !== "object" || fields === null) return "its protected header is no JSON";
  const chain = readChain(objectOf(jws["header"])["x5c"]);
  if (typeof chain === "string") return chain;
  const leaf = chain[0]!.certificate;
  const algorithm = ALGORITHMS[keyName(leaf.publicKey)];
  const { alg } = objectOf(fields);
  if (algorithm === undefined || algorithm.alg !== alg)
    return `its algorithm ${quoted(alg)} is not the one for the signer's key (${keyName(leaf.publicKey)})`;
  return {
    head: objectOf(fields),
    payload: Buffer.from(payload, "base64url"),
    chain,
    leaf,
    signedText: `${head}.${payload}`,
    signature: Buffer.from(signature, "base64url"),
    algorithm,
  };
}

function isBase64Url(value: unknown): value is string {
  return typeof value === "string" && BASE64URL.test(value);
}

function keyName(key: KeyObject): string {
  const details = key.asymmetricKeyDetails;
  return `${key.asymmetricKeyType} ${details?.namedCurve ?? details?.modulusLength}`;
}

function isSignedBy({ signedText, signature, algorithm: { hash, isRsa } }: Envelope, key: KeyObject): boolean {
  const how = isRsa
    ? { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST }
    : { key, dsaEncoding: "ieee-p1363" as const };
  try {
    return verify(hash, Buffer.from(signedText), how, signature);
  } catch {
    return false;
  }
}

/** What is wrong with the attributes that were signed. */
function headFault(head: Json, nowMs: number): Fault | null {
  const { cty, crit } = head;
  if (cty !== PAYLOAD_TYPE) return malformed(`it is of ${quoted(cty)}, not of an image`);
  if (!Array.isArray(crit)) return malformed("it does not say what of it is critical");
  for (const name of crit as unknown[]) {
    if (typeof name !== "string" || !Object.hasOwn(head, name)) return malformed("it calls critical what it lacks");
    if (!UNDERSTOOD.has(name)) return malformed(`it demands ${quoted(name)}, which hpcc does not know`);
  }
  if (head[SCHEME] !== "notary.x509" || !crit.includes(SCHEME))
    return malformed(`its signing scheme is ${quoted(head[SCHEME])}, not "notary.x509"`);
  if (timeOf(head[SIGNING_TIME]) === null) return malformed("it has no time");
  const { [EXPIRY]: expiry } = head;
  if (expiry === undefined) return null;
  const expiryMs = timeOf(expiry);
  if (expiryMs === null || !crit.includes(EXPIRY)) return malformed("its expiry is not a critical time");
  return nowMs < expiryMs
    ? null
    : { kind: "expired", words: `has a signature that expired on ${new Date(expiryMs).toISOString()}` };
}

function timeOf(value: unknown): number | null {
  if (typeof value !== "string" || !TIME.test(value)) return null;
  const ms = Date.parse(value);
  return Number.isNaN(ms) ? null : ms;
}

function identityFault(leaf: X509Certificate, { identities, path }: NotationSigner): Fault | null {
  const names = certificateNames(leaf);
  const isNamed = identities.some((wanted) => wanted.every((part) => names.includes(part)));
  if (identities.length === 0 || isNamed) return null;
  return {
    kind: "identity",
    words: `is signed by ${quoted(names.join(", "))}, who has a certificate of ${path} and is none of the rule's identities`,
  };
}

function targetFault(payload: Buffer, wanted: Wanted): Fault | null {
  const { digest } = objectOf(objectOf(parseJson(payload))["targetArtifact"]);
  if (typeof digest !== "string") return malformed("it does not say of which image it is");
  return wanted.signed.has(digest) ? null : anotherImage(quoted(digest).slice(1, -1));
}
