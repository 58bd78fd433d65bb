// Envelopes that are made here, each with one thing wrong; those of the program itself are in test/golden/notation.
// oxlint-disable-next-line import/no-unassigned-import
import "reflect-metadata";
import assert from "node:assert/strict";
import { KeyObject, sign, webcrypto, X509Certificate } from "node:crypto";
import { test } from "node:test";
import {
  BasicConstraintsExtension,
  cryptoProvider,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  type Extension,
  KeyUsageFlags,
  KeyUsagesExtension,
  X509CertificateGenerator,
} from "@peculiar/x509";
import { parseTrustedCertificates, parseTrustedName } from "./certificate-chain.ts";
import { notationFault } from "./notation.ts";

cryptoProvider.set(webcrypto);
const NOW = Date.parse("2026-06-01T00:00:00Z");
const DIGEST = `sha256:${"a1".repeat(32)}`;
const P256 = { name: "ECDSA", namedCurve: "P-256" };
const FROM = new Date("2026-01-01T00:00:00Z");
const TO = new Date("2027-01-01T00:00:00Z");
const LEAF_USAGE = new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true);

type Keys = webcrypto.CryptoKeyPair;
const newKeys = () => webcrypto.subtle.generateKey(P256, true, ["sign", "verify"]);

async function certificate(
  subject: string,
  keys: Keys,
  by: { readonly name: string; readonly keys: Keys },
  change: { readonly extensions?: Extension[]; readonly notAfter?: Date } = {},
): Promise<X509Certificate> {
  const made = await X509CertificateGenerator.create({
    subject,
    issuer: by.name,
    notBefore: FROM,
    notAfter: change.notAfter ?? TO,
    publicKey: keys.publicKey,
    signingKey: by.keys.privateKey,
    signingAlgorithm: { name: "ECDSA", hash: "SHA-256" },
    extensions: change.extensions ?? [LEAF_USAGE],
  });
  return new X509Certificate(Buffer.from(made.rawData));
}

const caExtensions = (pathLength?: number, usage = KeyUsageFlags.keyCertSign) => [
  new BasicConstraintsExtension(true, pathLength, true),
  new KeyUsagesExtension(usage, true),
];
const CA = "O=Team, CN=CA";
const LEAF = "C=US, O=Team, CN=builder";
const caKeys = await newKeys();
const leafKeys = await newKeys();
const ca = { name: CA, keys: caKeys };
const root = await certificate(CA, caKeys, ca, { extensions: caExtensions() });
const leaf = await certificate(LEAF, leafKeys, ca);
const BY = { path: "ca.pem", roots: [root], identities: [] };

interface Envelope {
  readonly head?: object;
  readonly digest?: string;
  readonly chain?: readonly X509Certificate[];
  readonly keys?: Keys;
  readonly alter?: (jws: { payload: string; protected: string; signature: string }) => void;
}

function envelope({ head = {}, digest = DIGEST, chain = [leaf, root], keys = leafKeys, alter }: Envelope = {}): Buffer {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const payload = part({ targetArtifact: { mediaType: "application/json", digest, size: 1 } });
  const attributes = part({
    alg: "ES256",
    cty: "application/vnd.cncf.notary.payload.v1+json",
    crit: ["io.cncf.notary.signingScheme"],
    "io.cncf.notary.signingScheme": "notary.x509",
    "io.cncf.notary.signingTime": "2026-05-01T00:00:00Z",
    ...head,
  });
  const key = KeyObject.from(keys.privateKey);
  const signature = sign("sha256", Buffer.from(`${attributes}.${payload}`), { key, dsaEncoding: "ieee-p1363" });
  const jws = { payload, protected: attributes, signature: signature.toString("base64url") };
  alter?.(jws);
  return Buffer.from(JSON.stringify({ ...jws, header: { x5c: chain.map(({ raw }) => raw.toString("base64")) } }));
}

const faultOf = (bytes: Buffer, nowMs = NOW, by: Parameters<typeof notationFault>[1] = BY) =>
  notationFault(bytes, by, { signed: new Set([DIGEST]), documents: [], repository: "r.example.com/a", nowMs });

const EXPIRY = { "io.cncf.notary.expiry": "2026-05-31T00:00:00+00:00" };
const CRITICAL = ["io.cncf.notary.signingScheme", "io.cncf.notary.expiry"];

test("a good envelope counts until its expiry, or the end of a certificate", () => {
  assert.equal(faultOf(envelope()), null);
  const expiring = envelope({ head: { crit: CRITICAL, ...EXPIRY } });
  assert.equal(faultOf(expiring, Date.parse("2026-05-30T23:59:59Z")), null);
  assert.deepEqual(faultOf(expiring), {
    kind: "expired",
    words: "has a signature that expired on 2026-05-31T00:00:00.000Z",
  });
  assert.equal(faultOf(envelope(), TO.getTime() + 1000)?.kind, "expired");
  assert.equal(faultOf(envelope(), FROM.getTime() - 1000)?.kind, "expired");
});

test("what is signed of an envelope must be what is known, and whole", () => {
  const rows: [Envelope, RegExp][] = [
    [
      { head: { crit: ["io.cncf.notary.signingScheme", "com.example.x"], "com.example.x": 1 } },
      /demands "com\.example\.x"/,
    ],
    [{ head: { crit: ["io.cncf.notary.signingScheme", "b64"] } }, /calls critical what it lacks/],
    [{ head: { crit: [] } }, /its signing scheme/],
    [{ head: { crit: undefined } }, /does not say what of it is critical/],
    [
      { head: { "io.cncf.notary.signingScheme": "notary.x509.signingAuthority" } },
      /its signing scheme is "notary\.x509\.sign/,
    ],
    [{ head: EXPIRY }, /its expiry is not a critical time/],
    [{ head: { crit: CRITICAL, "io.cncf.notary.expiry": "soon" } }, /its expiry is not a critical time/],
    [{ head: { "io.cncf.notary.signingTime": undefined } }, /it has no time/],
    [{ head: { cty: "text/plain" } }, /it is of "text\/plain"/],
    [{ head: { alg: "none" } }, /its algorithm "none" is not the one/],
    [{ head: { alg: "ES512" } }, /its algorithm "ES512" is not the one/],
    [{ alter: (jws) => (jws.signature = "") }, /it is no JWS/],
    [{ alter: (jws) => (jws.protected = "AA") }, /its protected header is no JSON/],
    [{ chain: [] }, /does not have one to 8 certificates/],
  ];
  for (const [made, words] of rows) {
    const fault = faultOf(envelope(made));
    assert.match(fault?.words ?? "taken", words);
    assert.equal(fault?.kind, "malformed");
  }
  for (const bytes of [
    "",
    "[]",
    '{"payload":1}',
    '{"payload":"AA","protected":"e30","signature":"AA","header":{"x5c":["AA"]}}',
  ])
    assert.equal(faultOf(Buffer.from(bytes))?.kind, "malformed");
});

test("what was altered is not the signer's, and what is of another image is said so", () => {
  const other = envelope({ digest: `sha256:${"b2".repeat(32)}` });
  assert.deepEqual(faultOf(other), {
    kind: "digest",
    words: `has the signature of another image, sha256:${"b2".repeat(32)}`,
  });
  const swap = (jws: { payload: string }) => (jws.payload = JSON.parse(other.toString()).payload as string);
  for (const alter of [swap, (jws: { signature: string }) => (jws.signature = "AAAA")])
    assert.equal(faultOf(envelope({ alter }))?.words, "has a Notation signature that was altered");
});

test("a chain must lead by its own certificates to one that the user named", async () => {
  const stranger = { name: CA, keys: await newKeys() };
  const strangersRoot = await certificate(CA, stranger.keys, stranger, { extensions: caExtensions() });
  const strangers = await certificate(LEAF, leafKeys, stranger);
  assert.match(
    faultOf(envelope({ chain: [strangers, strangersRoot] }))?.words ?? "",
    /no certificate in ca\.pem vouches/,
  );
  const middle = { name: "O=Team, CN=middle", keys: await newKeys() };
  const middleBy = (extensions: Extension[]) => certificate(middle.name, middle.keys, ca, { extensions });
  const below = await certificate(LEAF, leafKeys, middle);
  assert.equal(faultOf(envelope({ chain: [below, await middleBy(caExtensions(0)), root] })), null);
  const short = await certificate(CA, caKeys, ca, { extensions: caExtensions(0) });
  const byShort = { ...BY, roots: [short] };
  const code = (...purposes: string[]) => new ExtendedKeyUsageExtension(purposes);
  const leafWith = (extensions: Extension[]) => certificate(LEAF, leafKeys, ca, { extensions });
  const rows: [readonly X509Certificate[], RegExp, typeof BY?][] = [
    [[strangers, root], /do not follow from each other/],
    [[leaf, strangersRoot], /do not follow from each other/],
    [[leaf], /do not follow from each other/],
    [[leaf, root, root], /have two ends/],
    [[below, await middleBy([LEAF_USAGE]), root], /may issue none/],
    [[below, await middleBy(caExtensions(0, KeyUsageFlags.digitalSignature)), root], /may issue none/],
    [[below, await middleBy(caExtensions()), short], /longer than one of its certificates allows/, byShort],
    [[await leafWith(caExtensions()), root], /is a CA's/],
    [[await leafWith([]), root], /not for signatures alone/],
    [
      [await leafWith([new KeyUsagesExtension(KeyUsageFlags.digitalSignature, false)]), root],
      /not for signatures alone/,
    ],
    [[await leafWith([LEAF_USAGE, code(ExtendedKeyUsage.serverAuth)]), root], /not for code/],
    [
      [await leafWith([LEAF_USAGE, code(ExtendedKeyUsage.codeSigning, ExtendedKeyUsage.timeStamping)]), root],
      /not for code/,
    ],
  ];
  for (const [chain, words, by] of rows) assert.match(faultOf(envelope({ chain }), NOW, by)?.words ?? "taken", words);
  const signing = await leafWith([LEAF_USAGE, code(ExtendedKeyUsage.codeSigning)]);
  assert.equal(faultOf(envelope({ chain: [signing, root] })), null);
  // A certificate that signed itself, which the user named.
  const own = await certificate(LEAF, leafKeys, { name: LEAF, keys: leafKeys });
  assert.equal(faultOf(envelope({ chain: [own] }), NOW, { ...BY, roots: [own] }), null);
  assert.equal(faultOf(envelope({ chain: [own] }))?.kind, "key");
});

test("an identity names attributes of a subject, in any order", () => {
  const by = (text: string) => ({ ...BY, identities: [parseTrustedName(text)!] });
  assert.equal(faultOf(envelope(), NOW, by("x509.subject: CN=builder, C=US")), null);
  assert.match(faultOf(envelope(), NOW, by("x509.subject: CN=build"))?.words ?? "", /is signed by ".*CN=builder"/);
  for (const text of ["CN=builder", "x509.subject:", "x509.subject: builder"])
    assert.equal(parseTrustedName(text), null);
});

test("a rule's file holds certificates that may vouch for others, or for themselves", async () => {
  const pem = (one: X509Certificate) => one.toString();
  assert.equal(parseTrustedCertificates(pem(root))?.length, 1);
  const own = await certificate(LEAF, leafKeys, { name: LEAF, keys: leafKeys });
  assert.equal(parseTrustedCertificates(pem(own) + pem(root))?.length, 2);
  for (const text of [
    "",
    pem(leaf),
    pem(root) + pem(leaf),
    "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
  ])
    assert.equal(parseTrustedCertificates(text), null);
});
