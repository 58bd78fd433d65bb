// mTLS for gRPC: TLS 1.3 only, both sides show a certificate of the CA, and who a peer is stands in the one SPIFFE URI
// of its certificate, never in its DNS name.
import { createSecureContext, type PeerCertificate } from "node:tls";
import { ChannelCredentials, ServerCredentials } from "@grpc/grpc-js";
import { HpccError } from "../../base/errors.ts";
import { type Digest, sha256 } from "../../core/digest/digest.ts";
import { type Identity, parseSpiffeId, spiffeId } from "../../core/identity/spiffe.ts";

/** One side's credentials, PEM. */
export interface TlsMaterial {
  /** Own certificate first, then intermediates. */
  readonly certificate: Buffer;
  readonly key: Buffer;
  /** The CA certificates that vouch for peers. */
  readonly ca: Buffer;
}

const TLS_VERSION = "TLSv1.3";
const SUBJECT_ALT_NAME_LENGTH_MAX = 4096;

/** The identity in a subjectAltName as Node prints it. UNTRUSTED: the peer's certificate, though its CA signed it. */
export function identityOfSubjectAltName(subjectAltName: string | undefined): Identity {
  // Node quotes a value that holds a separator; no name of ours needs that.
  if (!subjectAltName || subjectAltName.length > SUBJECT_ALT_NAME_LENGTH_MAX || subjectAltName.includes('"'))
    throw new HpccError("identity.invalid", "the certificate has no usable subject alternative name");
  const uris = subjectAltName.split(", ").filter((name) => name.startsWith("URI:"));
  if (uris.length !== 1) throw new HpccError("identity.invalid", "the certificate must hold exactly one URI");
  return parseSpiffeId(uris[0]!.slice("URI:".length));
}

/** Server side: peers without a certificate of the CA do not get past the handshake. */
export class MutualTlsServerCredentials extends ServerCredentials {
  constructor(material: TlsMaterial) {
    super({ requestCert: true, rejectUnauthorized: true, minVersion: TLS_VERSION }, contextOptions(material));
  }

  /** Uses other credentials for connections from now on. */
  update(material: TlsMaterial): void {
    this.updateSecureContextOptions(contextOptions(material));
  }

  override _equals(other: ServerCredentials): boolean {
    return this === other;
  }
}

function contextOptions({ certificate, key, ca }: TlsMaterial) {
  return { cert: certificate, key, ca, minVersion: TLS_VERSION } as const;
}

/** Client side: `accept` decides on the server's identity once the chain is proven; a false ends the handshake. */
export function clientCredentials(material: TlsMaterial, accept: (server: Identity) => boolean): ChannelCredentials {
  return ChannelCredentials.createFromSecureContext(createSecureContext(contextOptions(material)), {
    checkServerIdentity: (_host: string, certificate: PeerCertificate) => {
      try {
        const server = identityOfSubjectAltName(certificate.subjectaltname);
        if (accept(server)) return undefined;
        return new HpccError("identity.forbidden", `${spiffeId(server)} is not the server that was asked for`);
      } catch (error) {
        return error as Error;
      }
    },
    rejectUnauthorized: true,
  });
}

/** Who showed this certificate, which TLS has verified. */
export function identityOfPeer(certificate: PeerCertificate | undefined): Identity {
  if (certificate === undefined) throw new HpccError("identity.invalid", "the peer shows no verified certificate");
  return identityOfSubjectAltName(certificate.subjectaltname);
}

/** SHA-256 of a certificate's DER, as TlsTrust.ca_digest states it. */
export function certificateDigest(der: Uint8Array): Digest {
  return sha256(der);
}
