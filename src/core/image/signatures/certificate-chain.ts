// Chains of X.509 certificates for signing code, by the Notary Project's rules for them. Pure. UNTRUSTED: registry, until a chain was
// found to hold a certificate that the user named.
// The ASN.1 package wires itself up through decorators, which need this first.
// oxlint-disable-next-line import/no-unassigned-import
import "reflect-metadata";
import { X509Certificate } from "node:crypto";
import {
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  X509Certificate as Fields,
  KeyUsageFlags,
  KeyUsagesExtension,
  Name,
} from "@peculiar/x509";
import { type Fault, quoted } from "./fault.ts";

export interface ChainLink {
  readonly certificate: X509Certificate;
  readonly fields: Fields;
}

/** Attributes of a subject, "O=Example", all of which must be there. */
export type TrustedName = readonly string[];

const CHAIN_MAX = 8;
const CERTIFICATE_BYTES_MAX = 16 * 1024;
const IDENTITY = "x509.subject:";
const PEM_END = "-----END CERTIFICATE-----";
const WEAK = /sha-?1|md[245]/i;
const RSA_BITS_MIN = 2048;
const OTHER_PURPOSES: ReadonlySet<string> = new Set([
  ExtendedKeyUsage.serverAuth,
  ExtendedKeyUsage.emailProtection,
  ExtendedKeyUsage.timeStamping,
  ExtendedKeyUsage.ocspSigning,
]);

/** The certificates of an envelope, the signer's first; a text says what is wrong with them. */
export function readChain(x5c: unknown): readonly ChainLink[] | string {
  if (!Array.isArray(x5c) || x5c.length === 0 || x5c.length > CHAIN_MAX)
    return `it does not have one to ${CHAIN_MAX} certificates`;
  try {
    return (x5c as unknown[]).map((text) => {
      if (typeof text !== "string" || text.length > CERTIFICATE_BYTES_MAX) throw new Error("no certificate");
      return linkOf(Buffer.from(text, "base64"));
    });
  } catch {
    return "its certificates cannot be read";
  }
}

function linkOf(der: Buffer): ChainLink {
  return { certificate: new X509Certificate(der), fields: new Fields(new Uint8Array(der)) };
}

/** Why a chain does not vouch for its first certificate now; null when it does. */
export function chainFault(
  chain: readonly ChainLink[],
  by: { readonly roots: readonly X509Certificate[]; readonly path: string },
  nowMs: number,
): Fault | null {
  const leaf = chain[0]!.certificate;
  const wrong = leafWrong(chain[0]!) ?? chain.map((link, at) => linkWrong(link, chain[at + 1], at)).find(Boolean);
  if (wrong !== undefined && wrong !== null)
    return { kind: "malformed", words: `has a Notation signature that cannot be used: ${wrong}` };
  const isRooted = chain.some(({ certificate }) => by.roots.some((root) => root.raw.equals(certificate.raw)));
  if (!isRooted)
    return {
      kind: "key",
      words: `is signed by ${subject(leaf)}, for whom no certificate in ${by.path} vouches`,
    };
  const ended = chain.find(({ certificate: { validFromDate, validToDate } }) => {
    return validFromDate.getTime() > nowMs || validToDate.getTime() < nowMs;
  });
  if (ended === undefined) return null;
  const { validFrom, validTo } = ended.certificate;
  return {
    kind: "expired",
    words: `is signed with a certificate that does not hold now: ${subject(ended.certificate)}, from ${validFrom} to ${validTo}`,
  };
}

function subject(certificate: X509Certificate): string {
  return quoted(certificateNames(certificate).join(", "));
}

function leafWrong({ certificate, fields }: ChainLink): string | null {
  const usage = fields.getExtension(KeyUsagesExtension);
  if (certificate.ca || fields.getExtension(BasicConstraintsExtension)?.ca === true)
    return "its signer's certificate is a CA's";
  if (usage === null || !usage.critical || usage.usages !== KeyUsageFlags.digitalSignature)
    return "its signer's certificate is not for signatures alone";
  const purposes = fields.getExtension(ExtendedKeyUsageExtension)?.usages.map(String);
  if (purposes === undefined) return null;
  if (!purposes.includes(ExtendedKeyUsage.codeSigning) || purposes.some((purpose) => OTHER_PURPOSES.has(purpose)))
    return "its signer's certificate is not for code";
  return null;
}

/** What is wrong with one certificate and its issuer, the next one; the last one is its own issuer. */
function linkWrong({ certificate, fields }: ChainLink, next: ChainLink | undefined, at: number): string | null {
  const issuer = (next ?? { certificate }).certificate;
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = certificate.publicKey;
  if (WEAK.test(certificate.signatureAlgorithm ?? "") || (type === "rsa" && details!.modulusLength! < RSA_BITS_MIN))
    return "one of its certificates is weak";
  if (fields.extensions.some(({ critical, type: oid }) => critical && !KNOWN.has(oid)))
    return "one of its certificates has a critical extension that is not known";
  const isIssued = certificate.issuer === issuer.subject && isSignedBy(certificate, issuer);
  if (!isIssued) return "its certificates do not follow from each other";
  if (next !== undefined && certificate.subject === certificate.issuer) return "its certificates have two ends";
  if (at === 0) return null;
  const constraints = fields.getExtension(BasicConstraintsExtension);
  const usage = fields.getExtension(KeyUsagesExtension);
  const mayIssue = usage !== null && (usage.usages & KeyUsageFlags.keyCertSign) !== 0;
  if (constraints === null || !constraints.critical || !constraints.ca || !mayIssue)
    return "one of its certificates may issue none";
  if (constraints.pathLength !== undefined && constraints.pathLength < at - 1)
    return "its chain is longer than one of its certificates allows";
  return null;
}

/** Basic constraints, key usage, its extension. */
const KNOWN: ReadonlySet<string> = new Set(["2.5.29.19", "2.5.29.15", "2.5.29.37"]);

function isSignedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  try {
    return certificate.verify(issuer.publicKey);
  } catch {
    return false;
  }
}

/** Attributes of a subject, each "O=Example". */
export function certificateNames(certificate: X509Certificate): string[] {
  return attributesOf(new Fields(new Uint8Array(certificate.raw)).subjectName);
}

function attributesOf(name: Name): string[] {
  return name
    .toJSON()
    .flatMap((part) => Object.entries(part).flatMap(([type, of]) => of.map((text) => `${type}=${text}`)));
}

/** Reads an identity of a rule, "x509.subject: C=US, ST=WA, O=Example"; null for what is none. */
export function parseTrustedName(text: string): TrustedName | null {
  if (!text.startsWith(IDENTITY)) return null;
  try {
    const names = attributesOf(new Name(text.slice(IDENTITY.length).trim()));
    return names.length === 0 ? null : names;
  } catch {
    return null;
  }
}

/** Reads the certificates that a rule names; null for a file with none, or with one that can vouch for nobody. */
export function parseTrustedCertificates(pem: string): X509Certificate[] | null {
  try {
    // What follows the last one is a comment, as all between them is for X509Certificate.
    const found = pem
      .split(PEM_END)
      .slice(0, -1)
      .map((text) => new X509Certificate(text + PEM_END));
    const isRoot = (one: X509Certificate) => one.ca || (one.subject === one.issuer && isSignedBy(one, one));
    return found.length > 0 && found.every(isRoot) ? found : null;
  } catch {
    return null;
  }
}
