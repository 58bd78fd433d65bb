// A small certificate authority for small sites and the demo: one root that signs leaf certificates whose only name is a
// SPIFFE URI. Knows no files. ECDSA P-256, as every FIPS-validated library verifies it.
// The ASN.1 package wires itself up through decorators, which need this first.
// oxlint-disable-next-line import/no-unassigned-import
import "reflect-metadata";
import { createPrivateKey, type KeyObject, randomBytes, webcrypto } from "node:crypto";
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  cryptoProvider,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  Extension,
  type JsonGeneralName,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from "@peculiar/x509";
import { HpccError } from "../base/errors.ts";
import { type Identity, parseTrustDomain, spiffeId, type TrustDomain } from "../core/identity/spiffe.ts";

cryptoProvider.set(webcrypto);

const KEY_ALGORITHM = { name: "ECDSA", namedCurve: "P-256" } as const;
const SIGNATURE_ALGORITHM = { name: "ECDSA", hash: "SHA-256" } as const;
const SERIAL_NUMBER_BYTES = 16;
const DAY_MS = 86_400_000;
/** Certificates begin a little before they are made, for clocks that are behind. */
const CLOCK_SKEW_MS = 300_000;
const NAME_CONSTRAINTS_OID = "2.5.29.30";

/** Lifetime of the CA's own certificate. */
export const CA_DAYS = 3650;
/** Longest lifetime of an issued certificate. */
export const ISSUED_DAYS_MAX = 398;
/** Lifetimes when none is asked for: short, as nothing is revoked. */
export const ISSUED_DAYS = { user: 7, worker: 30, scheduler: 30 } as const;

/** A certificate and its private key, PEM (PKCS #8). */
export interface PemPair {
  readonly certificate: string;
  readonly key: string;
}

export interface IssueOptions {
  readonly days?: number;
  /** DNS names to put beside the URI, for tools that insist on them; hpcc ignores them. */
  readonly dnsNames?: readonly string[];
  /** IP addresses to put beside the URI. */
  readonly addresses?: readonly string[];
  readonly nowMs: number;
}

/** Makes a root for a trust domain. Its name constraint makes verifiers refuse URIs of any other domain. */
export async function createAuthority(trustDomain: TrustDomain, nowMs: number): Promise<PemPair> {
  const keys = await webcrypto.subtle.generateKey(KEY_ALGORITHM, true, ["sign", "verify"]);
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: [{ O: ["hpcc"] }, { CN: [`hpcc CA of ${trustDomain}`.slice(0, 64)] }],
    notBefore: new Date(nowMs - CLOCK_SKEW_MS),
    notAfter: new Date(nowMs + CA_DAYS * DAY_MS),
    signingAlgorithm: SIGNATURE_ALGORITHM,
    keys,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      new Extension(NAME_CONSTRAINTS_OID, true, permittedUriHost(trustDomain)),
      new SubjectAlternativeNameExtension([{ type: "url", value: `spiffe://${trustDomain}` }]),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certificate: `${certificate.toString("pem")}\n`, key: await privateKeyPem(keys.privateKey) };
}

/** Signs a new key for an identity of the authority's trust domain. */
export async function issueCertificate(
  authority: PemPair,
  identity: Identity,
  options: IssueOptions,
): Promise<PemPair> {
  const root = new X509Certificate(authority.certificate);
  const days = options.days ?? ISSUED_DAYS[identity.kind];
  if (!Number.isInteger(days) || days < 1 || days > ISSUED_DAYS_MAX)
    throw new HpccError("argument.invalid", `--days must be a whole number from 1 to ${ISSUED_DAYS_MAX}`);
  const notAfter = new Date(options.nowMs + days * DAY_MS);
  if (notAfter > root.notAfter)
    throw new HpccError("identity.invalid", "the certificate would outlive its CA", {
      hint: "Ask for fewer --days, or make a new CA with `hpcc ca init`.",
    });
  if (trustDomainOf(authority) !== identity.trustDomain)
    throw new HpccError(
      "identity.invalid",
      `this CA is that of ${trustDomainOf(authority)}, not ${identity.trustDomain}`,
      { hint: "Name the folder of that trust domain's CA with --dir." },
    );
  const keys = await webcrypto.subtle.generateKey(KEY_ALGORITHM, true, ["sign", "verify"]);
  const certificate = await X509CertificateGenerator.create({
    serialNumber: serialNumber(),
    subject: [{ O: ["hpcc"] }, { CN: [identity.kind === "user" ? identity.user : identity.name] }],
    issuer: root.subject,
    notBefore: new Date(options.nowMs - CLOCK_SKEW_MS),
    notAfter,
    signingAlgorithm: SIGNATURE_ALGORITHM,
    publicKey: keys.publicKey,
    signingKey: await signingKey(authority),
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new ExtendedKeyUsageExtension(usagesOf(identity)),
      new SubjectAlternativeNameExtension(names(identity, options)),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
      await AuthorityKeyIdentifierExtension.create(root.publicKey),
    ],
  });
  return { certificate: `${certificate.toString("pem")}\n`, key: await privateKeyPem(keys.privateKey) };
}

const NO_CA = { hint: "Bring back what `hpcc ca init` wrote, or make a new CA with it." };

/** The trust domain that an authority's certificate names. */
export function trustDomainOf(authority: Pick<PemPair, "certificate">): TrustDomain {
  const names = new X509Certificate(authority.certificate).getExtension(SubjectAlternativeNameExtension)?.names.items;
  const uri = names?.find((name) => name.type === "url")?.value ?? "";
  if (!uri.startsWith("spiffe://"))
    throw new HpccError("identity.invalid", "not a CA certificate of `hpcc ca init`", NO_CA);
  return parseTrustDomain(uri.slice("spiffe://".length));
}

/** A user's certificate cannot serve; only a worker both serves and dials (its schedulers). */
function usagesOf(identity: Identity): ExtendedKeyUsage[] {
  switch (identity.kind) {
    case "user":
      return [ExtendedKeyUsage.clientAuth];
    case "scheduler":
      return [ExtendedKeyUsage.serverAuth];
    case "worker":
      return [ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth];
  }
}

function names(identity: Identity, { dnsNames = [], addresses = [] }: IssueOptions): JsonGeneralName[] {
  return [
    { type: "url", value: spiffeId(identity) },
    ...dnsNames.map((value) => ({ type: "dns", value }) as const),
    ...addresses.map((value) => ({ type: "ip", value }) as const),
  ];
}

function serialNumber(): string {
  const bytes = randomBytes(SERIAL_NUMBER_BYTES);
  // Positive and of full length, whatever was drawn.
  bytes[0] = (bytes[0]! & 0x7f) | 0x40;
  return bytes.toString("hex");
}

async function privateKeyPem(key: webcrypto.CryptoKey): Promise<string> {
  const der = Buffer.from(await webcrypto.subtle.exportKey("pkcs8", key));
  return createPrivateKey({ key: der, format: "der", type: "pkcs8" })
    .export({ format: "pem", type: "pkcs8" })
    .toString();
}

async function signingKey(authority: PemPair): Promise<webcrypto.CryptoKey> {
  let key: KeyObject;
  try {
    key = createPrivateKey(authority.key);
  } catch (error) {
    throw new HpccError("identity.invalid", "the CA's key cannot be read", { cause: error, ...NO_CA });
  }
  const der = key.export({ format: "der", type: "pkcs8" });
  return await webcrypto.subtle.importKey("pkcs8", der, KEY_ALGORITHM, false, ["sign"]);
}

/** DER of NameConstraints { permittedSubtrees { uniformResourceIdentifier host } } (RFC 5280, 4.2.1.10). */
function permittedUriHost(host: string): ArrayBuffer {
  const uri = der(0x86, Buffer.from(host, "ascii"));
  const bytes = der(0x30, der(0xa0, der(0x30, uri)));
  return new Uint8Array(bytes).buffer;
}

function der(tag: number, content: Buffer): Buffer {
  const { length } = content;
  const header =
    length < 0x80 ? [tag, length] : length < 0x100 ? [tag, 0x81, length] : [tag, 0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from(header), content]);
}
