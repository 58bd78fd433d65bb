// Whether an image is signed as the user's policy asks. UNTRUSTED: registry, and whoever can write what was kept of one. Pure, but for
// loading the code of the larger formats.
import { createPublicKey, type KeyObject } from "node:crypto";
import { HpccError } from "../../base/errors.ts";
import { loadWhenNeeded } from "../../base/system/load-when-needed.ts";
import { type Digest, digestHex, sha256 } from "../digest/digest.ts";
import { matchesRepository } from "./repository-pattern.ts";
import { cosignFault } from "./signatures/cosign.ts";
import { FAULTS, type Fault, objectOf, parseJson, type Wanted } from "./signatures/fault.ts";
import type { NotationSigner } from "./signatures/notation.ts";
import type { SigstoreSigner } from "./signatures/sigstore.ts";

/** Images of these repositories are trusted when they are signed by these people. */
export interface TrustRule {
  /** "registry.example.com/team/toolchain", or "registry.example.com/team/*" for all below. */
  readonly repository: string;
  /** How they sign: with a key, as cosign does; with certificates, as Notation does; or with those of a Sigstore of one's own. */
  readonly by: "key" | "notation" | "sigstore";
  /** Path of the file that says who they are: a public key in PEM, certificates in PEM, or a trusted root in JSON. */
  readonly path: string;
  /** Which of those that the certificates or the root vouch for; empty for all. */
  readonly identities: readonly string[];
  /** Of a Sigstore rule: who must have said that the identities are theirs. */
  readonly issuer: string | null;
}

/** A rule whose file was read. */
export type TrustedSigner =
  | { readonly by: "key"; readonly key: KeyObject; readonly path: string }
  | ({ readonly by: "notation" } & NotationSigner)
  | ({ readonly by: "sigstore" } & SigstoreSigner);

export type KeptSignature =
  | { readonly kind: "cosign"; readonly payload: Buffer; readonly signature: Buffer }
  /** A Notation envelope in JWS, or a Sigstore bundle. */
  | { readonly kind: "notation" | "bundle"; readonly payload: Buffer };

/** What a registry has to say for an image. */
export interface TrustEvidence {
  /** The image's own manifest. */
  readonly manifest: Buffer | null;
  /** The index that leads to the image, as an index is what is signed of an image for several machines. */
  readonly index: Buffer | null;
  readonly signatures: readonly KeptSignature[];
}

export const SIGNATURES_MAX = 64;
export const PAYLOAD_BYTES_MAX = 64 * 1024;

/** What does without these formats starts without their libraries. */
function formats(): typeof import("./signatures/formats.ts") {
  const found = loadWhenNeeded(import.meta.url, "./signatures/formats.ts", "../signature-formats.mjs");
  return found as typeof import("./signatures/formats.ts");
}

/** The rule for a repository: the one that names it, else the longest one that it is below. */
export function ruleFor(rules: readonly TrustRule[], repository: string): TrustRule | null {
  const matching = rules.filter(({ repository: named }) => matchesRepository(named, repository));
  const exact = matching.find(({ repository: named }) => named === repository);
  return exact ?? matching.sort((a, b) => b.repository.length - a.repository.length)[0] ?? null;
}

/** Rules that are chosen for no image out of these repositories: for other ones, or behind another rule for the same one. */
export function unusedRules(rules: readonly TrustRule[], repositories: readonly string[]): TrustRule[] {
  return rules.filter(({ repository }, at) => {
    const overlaps = (named: string) => matchesRepository(named, repository) || matchesRepository(repository, named);
    return !repositories.some(overlaps) || rules.slice(0, at).some((earlier) => earlier.repository === repository);
  });
}

/** A rule with the text of its file. Throws `config.invalid` for a file that can vouch for nobody. */
export function parseSigner({ by, path, identities, issuer }: TrustRule, text: string): TrustedSigner {
  switch (by) {
    case "key":
      return { by, key: parseKey(text, path), path };
    case "notation": {
      const { parseTrustedCertificates, parseTrustedName } = formats();
      const roots = parseTrustedCertificates(text);
      if (roots === null)
        throw new HpccError("config.invalid", `${path} is no PEM file with certificates of CAs for signatures`, {
          hint: "It holds what `notation certificate add` takes: the CA's certificate, or one that signed itself.",
        });
      const names = identities.map((identity) => {
        const name = parseTrustedName(identity);
        if (name !== null) return name;
        throw new HpccError(
          "config.invalid",
          `images.trust: ${JSON.stringify(identity)} is no subject of a certificate`,
          {
            hint: 'Write it as Notation does: "x509.subject: C=US, ST=WA, O=Example".',
          },
        );
      });
      return { by, roots, identities: names, path };
    }
    case "sigstore": {
      const root = formats().parseTrustedRoot(text);
      if (root === null)
        throw new HpccError("config.invalid", `${path} is no trusted root of Sigstore with a certificate authority`, {
          hint: "`cosign trusted-root create` makes one.",
        });
      return { by, root, identities, issuer: issuer ?? "", path };
    }
  }
}

/** Reads a public key: ECDSA on the curve P-256, as `cosign generate-key-pair` makes them. */
function parseKey(pem: string, path: string): KeyObject {
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

const SIGNED_HOW = {
  key: "is not signed",
  notation: "has no signature of Notation",
  sigstore: "has no Sigstore bundle",
};

/** Throws `image.untrusted` unless one signature is by the signer, for this image and, where it names one, this repository. */
export function judgeEvidence(
  evidence: TrustEvidence,
  image: { readonly digest: Digest; readonly repository: string },
  { signer, nowMs }: { readonly signer: TrustedSigner; readonly nowMs: number },
): void {
  const { digest, repository } = image;
  const index = evidence.index !== null && indexNames(evidence.index, digest) ? evidence.index : null;
  const documents = [evidence.manifest, index].filter((document) => document !== null);
  const signed = new Set<string>([digest, ...(index === null ? [] : [sha256(index)])]);
  const wanted: Wanted = { signed, documents, repository, nowMs };
  let worst: Fault | null = null;
  for (const signature of evidence.signatures.slice(0, SIGNATURES_MAX)) {
    if (!isOfKind(signature, signer)) continue;
    const fault = faultOf(signature, signer, wanted);
    if (fault === null) return;
    if (worst === null || FAULTS.indexOf(fault.kind) > FAULTS.indexOf(worst.kind)) worst = fault;
  }
  throw new HpccError(
    "image.untrusted",
    `image ${digest} of ${repository} ${worst === null ? SIGNED_HOW[signer.by] : worst.words}`,
    { details: { reason: worst?.kind ?? "unsigned" } },
  );
}

/** Whether a signature is in a form that a signer uses: bundles are made with keys, too. */
function isOfKind({ kind }: KeptSignature, { by }: TrustedSigner): boolean {
  return kind === "notation" ? by === "notation" : kind === "bundle" ? by !== "notation" : by === "key";
}

function faultOf(signature: KeptSignature, signer: TrustedSigner, wanted: Wanted): Fault | null {
  if (signature.payload.length > PAYLOAD_BYTES_MAX)
    return { kind: "malformed", words: "is signed in a form that is not understood" };
  switch (signer.by) {
    case "key":
      return signature.kind === "cosign"
        ? cosignFault(signature, signer, wanted)
        : formats().keyedBundleFault(signature.payload, signer, wanted);
    case "notation":
      return formats().notationFault(signature.payload, signer, wanted);
    case "sigstore":
      return formats().sigstoreFault(signature.payload, signer, wanted);
  }
}

/** Whether an index names an image itself. */
function indexNames(index: Buffer, digest: Digest): boolean {
  const manifests = objectOf(parseJson(index))["manifests"];
  return Array.isArray(manifests) && manifests.some((entry) => objectOf(entry)["digest"] === digest);
}

/** Where signatures of an image are kept, below the folder of images. */
export function evidenceFile(digest: Digest): string {
  return `signatures/${digestHex(digest)}.json`;
}

/** As a file keeps it. */
export function encodeEvidence({ manifest, index, signatures }: TrustEvidence): string {
  return JSON.stringify({
    version: 2,
    manifest: manifest?.toString("base64") ?? null,
    index: index?.toString("base64") ?? null,
    signatures: signatures.map(({ kind, payload, ...more }) => ({
      kind,
      payload: payload.toString("base64"),
      ...("signature" in more && { signature: more.signature.toString("base64") }),
    })),
  });
}

/** UNTRUSTED: whoever can write the file; none of it counts without a signature. */
export function decodeEvidence(text: string): TrustEvidence {
  const file = objectOf(parseJson(Buffer.from(text)));
  const list = Array.isArray(file["signatures"]) ? file["signatures"].slice(0, SIGNATURES_MAX) : [];
  const bytes = (value: unknown) => Buffer.from(typeof value === "string" ? value : "", "base64");
  const document = (value: unknown) => (typeof value === "string" ? bytes(value) : null);
  return {
    manifest: document(file["manifest"]),
    index: document(file["index"]),
    signatures: list
      .map(objectOf)
      .map(({ kind, payload, signature }) =>
        kind === "notation" || kind === "bundle"
          ? { kind, payload: bytes(payload) }
          : { kind: "cosign", payload: bytes(payload), signature: bytes(signature) },
      ),
  };
}
