// Statements as they travel and are kept: the statement, its signature by the key of the maker's TLS certificate, and that
// certificate (docs/specs/peer-protocol.md). Who has one can hand it on: it proves itself to whoever knows the CA.
import { constants, createPrivateKey, type KeyObject, sign, verify, X509Certificate } from "node:crypto";
import { HpccError } from "../../base/errors.ts";
import { FieldReader, FieldWriter } from "../../core/action/fields.ts";
import { type Digest, sha256 } from "../../core/digest/digest.ts";
import { type Identity, spiffeId, type TrustDomain } from "../../core/identity/spiffe.ts";
import { decodeStatement, encodeStatement, type Statement, type WorkerIdentity } from "../../core/sharing/statement.ts";
import { identityOfSubjectAltName } from "../grpc/tls.ts";
import { certificatesOf, type OwnCredentials } from "../grpc/tls-files.ts";

/** Largest signed statement. */
export const SIGNED_STATEMENT_BYTES_MAX = 16 * 1024;
/** An older result is compiled again rather than taken from a peer: it bounds what an old key that leaked is good for. */
export const STATEMENT_AGE_MS_MAX = 30 * 86_400_000;
/** How far a maker's clock may be ahead. */
const CLOCK_SKEW_MS = 300_000;
/** Certificates whose verdict is remembered. */
const CERTIFICATES_REMEMBERED_MAX = 512;
const RSA_BITS_MIN = 2048;

/** Signs what a worker states about its own compiles. */
export class StatementSigner {
  readonly worker: WorkerIdentity;
  readonly #key: KeyObject;
  readonly #certificate: Uint8Array;

  /** Throws `identity.invalid` for a key that cannot sign statements. */
  constructor({ identity, tls }: OwnCredentials) {
    if (identity.kind !== "worker")
      throw new HpccError("identity.forbidden", `${spiffeId(identity)} is no worker and may state nothing`);
    this.worker = identity;
    this.#key = createPrivateKey(tls.key);
    this.#certificate = new X509Certificate(tls.certificate).raw;
    algorithmOf(this.#key);
  }

  sign(statement: Statement): Uint8Array {
    if (spiffeId(statement.worker) !== spiffeId(this.worker)) throw new Error("bug: a worker speaks for another");
    const encoded = encodeStatement(statement);
    const { hash, ...options } = algorithmOf(this.#key);
    const signature = sign(hash, encoded, { key: this.#key, ...options });
    return new FieldWriter().bytes(1, encoded).bytes(2, signature).bytes(3, this.#certificate).finish();
  }
}

/** Believes statements of workers of one trust domain whose certificates its CAs have issued. */
export class StatementVerifier {
  readonly #cas: readonly X509Certificate[];
  readonly #trustDomain: TrustDomain;
  /** By digest, the one used longest ago first. */
  readonly #makers = new Map<Digest, Maker>();

  constructor(ca: Buffer, trustDomain: TrustDomain) {
    this.#cas = certificatesOf(ca, "the CA file");
    this.#trustDomain = trustDomain;
  }

  /**
   * What the statement says, once it is proven that a worker of the trust domain has signed it while its certificate was
   * valid. Throws HpccError. UNTRUSTED: other workers, the own store.
   */
  verify(signed: Uint8Array, nowMs: number): Statement {
    const fields = new FieldReader(signed, "the signed statement");
    if (signed.length > SIGNED_STATEMENT_BYTES_MAX) fields.fail(`has more than ${SIGNED_STATEMENT_BYTES_MAX} bytes`);
    const encoded = fields.bytes(1);
    const signature = fields.bytes(2);
    const maker = this.#maker(fields.bytes(3));
    fields.end();
    const { hash, ...options } = maker.algorithm;
    if (!verify(hash, encoded, { key: maker.key, ...options }, signature))
      throw refused("its signature is not that of its certificate's key");
    const statement = decodeStatement(encoded);
    if (spiffeId(statement.worker) !== spiffeId(maker.identity))
      throw refused(`it speaks for ${spiffeId(statement.worker)} and is signed by ${spiffeId(maker.identity)}`);
    const { madeMs } = statement;
    if (madeMs < maker.fromMs || madeMs > maker.untilMs) throw refused("its maker's certificate was not valid then");
    if (madeMs > nowMs + CLOCK_SKEW_MS) throw refused("it comes from the future");
    if (madeMs < nowMs - STATEMENT_AGE_MS_MAX) throw refused("it is too old");
    return statement;
  }

  #maker(der: Uint8Array): Maker {
    const digest = sha256(der);
    const known = this.#makers.get(digest) ?? this.#inspect(der);
    this.#makers.delete(digest);
    this.#makers.set(digest, known);
    const [oldest] = this.#makers.keys();
    if (oldest !== undefined && this.#makers.size > CERTIFICATES_REMEMBERED_MAX) this.#makers.delete(oldest);
    return known;
  }

  /** As a worker's own certificate is checked at its start: a CA of the file has issued it, with none between. */
  #inspect(der: Uint8Array): Maker {
    let certificate: X509Certificate;
    try {
      certificate = new X509Certificate(der);
    } catch (error) {
      throw new HpccError("identity.invalid", "a statement's certificate cannot be read", { cause: error });
    }
    if (!Buffer.from(certificate.raw).equals(der)) throw refused("more than a certificate stands where one belongs");
    const issuer = this.#cas.find((ca) => ca.ca && certificate.checkIssued(ca) && certificate.verify(ca.publicKey));
    if (issuer === undefined || certificate.ca) throw refused("no CA of this site has issued its certificate");
    const identity = identityOfSubjectAltName(certificate.subjectAltName);
    if (identity.kind !== "worker") throw refused(`${spiffeId(identity)} is no worker`);
    if (identity.trustDomain !== this.#trustDomain) throw refused(`${spiffeId(identity)} is of another trust domain`);
    return {
      identity,
      key: certificate.publicKey,
      algorithm: algorithmOf(certificate.publicKey),
      fromMs: Math.max(Date.parse(certificate.validFrom), Date.parse(issuer.validFrom)),
      untilMs: Math.min(Date.parse(certificate.validTo), Date.parse(issuer.validTo)),
    };
  }
}

interface Maker {
  readonly identity: Identity;
  readonly key: KeyObject;
  readonly algorithm: Algorithm;
  readonly fromMs: number;
  readonly untilMs: number;
}

interface Algorithm {
  readonly hash: string | null;
  readonly dsaEncoding?: "ieee-p1363";
  readonly padding?: number;
  readonly saltLength?: number;
}

/** The one way in which a kind of key signs statements: nothing that travels can choose another. */
function algorithmOf(key: KeyObject): Algorithm {
  const { asymmetricKeyType, asymmetricKeyDetails } = key;
  const curve = asymmetricKeyDetails?.namedCurve;
  if (asymmetricKeyType === "ed25519") return { hash: null };
  if (asymmetricKeyType === "ec" && curve === "prime256v1") return { hash: "sha256", dsaEncoding: "ieee-p1363" };
  if (asymmetricKeyType === "ec" && curve === "secp384r1") return { hash: "sha384", dsaEncoding: "ieee-p1363" };
  if (asymmetricKeyType === "rsa" && (asymmetricKeyDetails?.modulusLength ?? 0) >= RSA_BITS_MIN)
    return { hash: "sha256", padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 };
  throw new HpccError("identity.invalid", `a key of kind ${asymmetricKeyType} ${curve ?? ""} cannot sign statements`, {
    hint: "Use ECDSA with P-256 or P-384, Ed25519, or RSA with 2048 bits or more.",
  });
}

function refused(why: string): HpccError {
  return new HpccError("identity.invalid", `a statement is refused: ${why}`);
}
