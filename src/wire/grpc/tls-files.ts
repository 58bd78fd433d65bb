// Reads a side's credentials from the files that its configuration names, and says what is wrong with them.
import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { HpccError } from "../../base/errors.ts";
import { type Digest } from "../../core/digest/digest.ts";
import { type Identity } from "../../core/identity/spiffe.ts";
import { certificateDigest, identityOfSubjectAltName, type TlsMaterial } from "./tls.ts";

export interface TlsFiles {
  readonly certificate: string;
  readonly key: string;
  readonly ca: string;
}

/** Credentials that were checked, and what their certificate says. */
export interface OwnCredentials {
  readonly tls: TlsMaterial;
  readonly identity: Identity;
  readonly expiresMs: number;
  /** Digest of the CA certificate that issued the own one. */
  readonly caDigest: Digest;
}

/** Reads and checks the three files. */
export function readTlsFiles(files: TlsFiles, nowMs: number): OwnCredentials {
  const tls = { certificate: read(files.certificate), key: read(files.key), ca: read(files.ca) };
  if ((statSync(files.key).mode & 0o077) !== 0)
    throw new HpccError("identity.invalid", `${files.key} can be read by others`, {
      hint: `chmod 600 ${files.key}`,
    });
  return inspectTls(tls, nowMs, files);
}

/** Checks that certificate, key and CA belong together and are valid now; `names` are for the messages. */
export function inspectTls(tls: TlsMaterial, nowMs: number, names: TlsFiles): OwnCredentials {
  const certificate = parse(names.certificate, () => new X509Certificate(tls.certificate));
  const key = parse(names.key, () => createPrivateKey(tls.key));
  if (!certificate.checkPrivateKey(key))
    throw new HpccError("identity.invalid", `${names.key} is not the key of ${names.certificate}`);
  const issuer = certificatesOf(tls.ca, names.ca).find(
    (ca) => certificate.checkIssued(ca) && certificate.verify(ca.publicKey),
  );
  if (!issuer) throw new HpccError("identity.invalid", `${names.certificate} was not issued by a CA of ${names.ca}`);
  const expiresMs = Math.min(Date.parse(certificate.validTo), Date.parse(issuer.validTo));
  if (nowMs >= expiresMs)
    throw new HpccError("identity.invalid", `${names.certificate} expired on ${new Date(expiresMs).toISOString()}`, {
      hint: "Issue a new one with `hpcc ca issue --out DIR`, and put its files in the place of the old ones.",
    });
  if (nowMs < Date.parse(certificate.validFrom))
    throw new HpccError("identity.invalid", `${names.certificate} is not valid yet; check the clock`);
  const identity = identityOfSubjectAltName(certificate.subjectAltName);
  return { tls, identity, expiresMs, caDigest: certificateDigest(issuer.raw) };
}

const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/** The certificates of a PEM file. */
export function certificatesOf(pem: Buffer, name: string): X509Certificate[] {
  const blocks = pem.toString("latin1").match(PEM_CERTIFICATE) ?? [];
  return blocks.map((block) => parse(name, () => new X509Certificate(block)));
}

function read(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new HpccError("identity.invalid", `cannot read ${path}: ${(error as Error).message}`, { cause: error });
  }
}

function parse<T>(name: string, make: () => T): T {
  try {
    return make();
  } catch (error) {
    throw new HpccError("identity.invalid", `${name} cannot be read: ${(error as Error).message}`, { cause: error });
  }
}
