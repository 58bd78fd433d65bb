// Sigstore bundles, judged without a network: against a trusted root of the user's own, or a public key. Pure. UNTRUSTED: registry. The
// libraries verify certificates, time stamps, logs and signatures; what was signed, and by whom, is compared here.
import type { KeyObject } from "node:crypto";
import { type Bundle, bundleFromJSON, ValidationError } from "@sigstore/bundle";
import { TrustedRoot } from "@sigstore/protobuf-specs";
import {
  type SignedEntity,
  type Signer,
  type TrustMaterial,
  toSignedEntity,
  toTrustMaterial,
  VerificationError,
  Verifier,
} from "@sigstore/verify";
import { sha256 } from "../../digest/digest.ts";
import { parseImageName, repositoryOf } from "../image-name.ts";
import { notByKey } from "./cosign.ts";
import { anotherImage, anotherRepository, type Fault, objectOf, parseJson, quoted, type Wanted } from "./fault.ts";

export interface SigstoreSigner {
  readonly path: string;
  readonly root: TrustMaterial;
  /** Subjects of certificates that count: "ann@example.com", or the start of some with a "*" behind it. */
  readonly identities: readonly string[];
  /** Who said that these are theirs: the address of the OpenID Connect provider. */
  readonly issuer: string;
}

const STATEMENT_TYPE = "application/vnd.in-toto+json";
const STATEMENTS: ReadonlySet<unknown> = new Set([
  "https://in-toto.io/Statement/v1",
  "https://in-toto.io/Statement/v0.1",
]);
/** What cosign says of an image that it signs. Other statements say other things: what it was built of, what is wrong with it. */
const SIGN_PREDICATE = "https://sigstore.dev/cosign/sign/v1";
const NOTHING = { certificateAuthorities: [], timestampAuthorities: [], tlogs: [], ctlogs: [] };

/** Reads a trusted root, as `cosign trusted-root create` makes it; null for what is none. */
export function parseTrustedRoot(text: string): TrustMaterial | null {
  try {
    const root = toTrustMaterial(TrustedRoot.fromJSON(JSON.parse(text)));
    return root.certificateAuthorities.length === 0 ? null : root;
  } catch {
    return null;
  }
}

/** Why a bundle does not count for a rule with a trusted root; null when it does. */
export function sigstoreFault(bytes: Buffer, by: SigstoreSigner, wanted: Wanted): Fault | null {
  const { root, path } = by;
  // What the root lists is demanded: logs that are there to be looked at, and a time at which the certificate held.
  const verifier = new Verifier(root, {
    ctlogThreshold: Math.min(root.ctlogs.length, 1),
    tlogThreshold: Math.min(root.tlogs.length, 1),
    timestampThreshold: 1,
  });
  return bundleFault(bytes, wanted, (entity) => {
    if (entity.key.$case !== "certificate")
      return { kind: "key", words: "has a Sigstore bundle without a certificate" };
    const signer = verified(verifier, entity, path);
    return "words" in signer ? signer : identityFault(signer, by);
  });
}

/** Why a bundle does not count for a rule with a public key; null when it does. What logs say of it is not asked for. */
export function keyedBundleFault(
  bytes: Buffer,
  { key, path }: { readonly key: KeyObject; readonly path: string },
  wanted: Wanted,
): Fault | null {
  const root = { ...NOTHING, publicKey: () => ({ publicKey: key, validFor: () => true }) };
  const verifier = new Verifier(root, { ctlogThreshold: 0, tlogThreshold: 0, timestampThreshold: 0 });
  return bundleFault(bytes, wanted, (entity) => {
    if (entity.key.$case !== "public-key") return notByKey(path);
    const signer = verified(verifier, { ...entity, tlogEntries: [], timestamps: [] }, path);
    return "words" in signer ? notByKey(path) : null;
  });
}

function malformed(why: string): Fault {
  return { kind: "malformed", words: `has a Sigstore bundle that cannot be used: ${why}` };
}

function bundleFault(bytes: Buffer, wanted: Wanted, judge: (entity: SignedEntity) => Fault | null): Fault | null {
  let bundle: Bundle;
  try {
    bundle = bundleFromJSON(parseJson(bytes));
  } catch (error) {
    return malformed(error instanceof ValidationError ? `it lacks ${error.fields.join(", ")}` : "it is no bundle");
  }
  if (bundle.content.$case === "dsseEnvelope") {
    const fault = judged(bundle, undefined, judge);
    return fault ?? statementFault(bundle.content.dsseEnvelope, wanted);
  }
  // The signature is over the bytes of what it is of, which the digest leads to.
  const digest = `sha256:${Buffer.from(bundle.content.messageSignature.messageDigest.digest).toString("hex")}`;
  const signed = wanted.documents.find((document) => sha256(document) === digest);
  if (signed === undefined || !wanted.signed.has(digest)) return anotherImage(digest);
  return judged(bundle, signed, judge);
}

function judged(
  bundle: Bundle,
  artifact: Buffer | undefined,
  judge: (entity: SignedEntity) => Fault | null,
): Fault | null {
  try {
    return judge(toSignedEntity(bundle, artifact));
  } catch {
    return malformed("its parts cannot be read");
  }
}

/** Who signed, or why it does not count. */
function verified(verifier: Verifier, entity: SignedEntity, path: string): Signer | Fault {
  try {
    return verifier.verify(entity);
  } catch (error) {
    if (!(error instanceof VerificationError)) throw error;
    if (isOutOfTime(entity))
      return { kind: "expired", words: "is signed with a certificate that did not hold when it was signed" };
    const why = quoted(error.message.split("\n")[0]).slice(1, -1);
    const isAltered = error.code === "SIGNATURE_ERROR" || error.code === "TLOG_BODY_ERROR";
    const what = isAltered ? "that was altered" : `for which ${path} does not vouch`;
    return { kind: "key", words: `has a Sigstore bundle ${what}: ${why}` };
  }
}

function isOutOfTime({ key, timestamps }: SignedEntity): boolean {
  if (key.$case !== "certificate") return false;
  return timestamps.some((one) => {
    const at =
      one.$case === "timestamp-authority"
        ? one.timestamp.signingTime
        : new Date(Number(one.tlogEntry.integratedTime) * 1000);
    return !key.certificate.validForDate(at);
  });
}

function identityFault({ identity }: Signer, { identities, issuer, path }: SigstoreSigner): Fault | null {
  const name = identity?.subjectAlternativeName ?? "";
  const by = identity?.extensions?.issuer ?? "";
  const isNamed = identities.some((wanted) =>
    wanted.endsWith("*") ? name.startsWith(wanted.slice(0, -1)) : name === wanted,
  );
  if (isNamed && by === issuer) return null;
  return {
    kind: "identity",
    words: `is signed by ${quoted(name)}, as ${quoted(by)} says, for whom ${path} vouches, and who is not the rule's`,
  };
}

function statementFault(
  { payloadType, payload }: { readonly payloadType: string; readonly payload: Buffer },
  wanted: Wanted,
): Fault | null {
  const { _type: type, predicateType, subject } = objectOf(parseJson(payload));
  if (payloadType !== STATEMENT_TYPE || !STATEMENTS.has(type)) return malformed("what it signs is no statement");
  if (predicateType !== SIGN_PREDICATE)
    return malformed(`it states ${quoted(predicateType)}, which is not that the image is signed`);
  const subjects = Array.isArray(subject) ? (subject as unknown[]).map(objectOf) : [];
  const digests = subjects.map(({ digest }) => `sha256:${String(objectOf(digest)["sha256"])}`);
  const at = digests.findIndex((digest) => wanted.signed.has(digest));
  if (at === -1) return anotherImage(quoted(digests[0] ?? "none").slice(1, -1));
  // cosign names none; where one is named, it is the signer's word.
  const { name } = subjects[at]!;
  return name === undefined || name === "" || isOf(name, wanted.repository)
    ? null
    : anotherRepository(quoted(name).slice(1, -1));
}

function isOf(name: unknown, repository: string): boolean {
  try {
    return typeof name === "string" && repositoryOf(parseImageName(name)) === repository;
  } catch {
    return false;
  }
}
