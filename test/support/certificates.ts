// A CA and certificates for tests, in memory: the real ones of `hpcc ca`.

import { createAuthority, issueCertificate, type PemPair } from "../../src/cli/ca-authority.ts";
import { type Identity, parseSpiffeId, parseTrustDomain } from "../../src/core/identity/spiffe.ts";
import type { TlsMaterial } from "../../src/wire/grpc/tls.ts";

export const TEST_TRUST_DOMAIN = parseTrustDomain("test.example");

/** The identity of a path in the tests' trust domain, such as "worker/w1" or "tenant/acme/user/ann". */
export function testIdentity(path: string): Identity {
  return parseSpiffeId(`spiffe://${TEST_TRUST_DOMAIN}/${path}`);
}

export class TestAuthority {
  readonly #authority: PemPair;

  private constructor(authority: PemPair) {
    this.#authority = authority;
  }

  static async create(): Promise<TestAuthority> {
    return new TestAuthority(await createAuthority(TEST_TRUST_DOMAIN, Date.now()));
  }

  /** The CA's certificate, PEM. */
  get certificate(): string {
    return this.#authority.certificate;
  }

  /** TLS credentials of an identity, by its path. */
  async issue(path: string): Promise<TlsMaterial> {
    const pair = await issueCertificate(this.#authority, testIdentity(path), { nowMs: Date.now() });
    return {
      certificate: Buffer.from(pair.certificate),
      key: Buffer.from(pair.key),
      ca: Buffer.from(this.#authority.certificate),
    };
  }
}
