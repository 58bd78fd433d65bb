import assert from "node:assert/strict";
import { generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { test } from "node:test";
import { HpccError } from "../../base/errors.ts";
import { type Digest, sha256 } from "../digest/digest.ts";
import {
  decodeEvidence,
  encodeEvidence,
  judgeEvidence,
  type KeptSignature,
  parseSigner,
  ruleFor,
  type TrustEvidence,
} from "./trust.ts";

const pair = () => generateKeyPairSync("ec", { namedCurve: "P-256" });
const signer = pair();
const digest = `sha256:${"a1".repeat(32)}` as Digest;
const repository = "registry.example.com/team/toolchain";
const by = { signer: { by: "key", key: signer.publicKey, path: "team.pub" }, nowMs: 0 } as const;
const keyRule = (path: string) => ({ repository, by: "key", path, identities: [], issuer: null }) as const;

function payload(change: { digest?: string; reference?: string; type?: string } = {}): Buffer {
  return Buffer.from(
    JSON.stringify({
      critical: {
        identity: { "docker-reference": change.reference ?? repository },
        image: { "docker-manifest-digest": change.digest ?? digest },
        type: change.type ?? "cosign container image signature",
      },
      optional: null,
    }),
  );
}

function signed(bytes: Buffer, key: KeyObject = signer.privateKey, index: Buffer | null = null): TrustEvidence {
  return {
    manifest: null,
    index,
    signatures: [{ kind: "cosign", payload: bytes, signature: sign("sha256", bytes, key) }],
  };
}

const reasonOf = (evidence: TrustEvidence) => {
  try {
    judgeEvidence(evidence, { digest, repository }, by);
    return null;
  } catch (error) {
    assert.ok(error instanceof HpccError && error.code === "image.untrusted");
    return error.details["reason"];
  }
};

test("a signature of this image for this repository by this key counts, kept in a file or not", () => {
  assert.equal(reasonOf(signed(payload())), null);
  assert.equal(reasonOf(decodeEvidence(encodeEvidence(signed(payload())))), null);
  assert.equal(reasonOf(signed(payload({ reference: `${repository}:12` }))), null);
});

test("each other one has a reason of its own", () => {
  const [good] = signed(payload()).signatures;
  assert.ok(good?.kind === "cosign");
  const of = (signature: KeptSignature) => ({ manifest: null, index: null, signatures: [signature] });
  const flipped = Buffer.from(good.signature);
  flipped[flipped.length - 1]! ^= 1;
  const altered = Buffer.from(good.payload.toString().replace("null", "true"));
  const rows: [TrustEvidence, string][] = [
    [{ manifest: null, index: null, signatures: [] }, "unsigned"],
    [signed(payload(), pair().privateKey), "key"],
    [of({ ...good, signature: flipped }), "key"],
    [of({ ...good, payload: altered }), "key"],
    [of({ ...good, signature: Buffer.alloc(0) }), "key"],
    [signed(payload({ digest: `sha256:${"b2".repeat(32)}` })), "digest"],
    [signed(payload({ reference: "registry.example.com/other/toolchain" })), "repository"],
    [signed(payload({ type: "atomic container signature" })), "malformed"],
    [signed(Buffer.from("{}")), "malformed"],
    [signed(Buffer.alloc(70_000, 32)), "malformed"],
    [decodeEvidence("no json"), "unsigned"],
    [decodeEvidence('{"signatures":[null,7,{"payload":1}]}'), "key"],
  ];
  for (const [evidence, reason] of rows) assert.equal(reasonOf(evidence), reason);
});

test("one good signature among others counts", () => {
  const { signatures } = signed(payload());
  const others = signed(payload(), pair().privateKey).signatures;
  assert.equal(reasonOf({ manifest: null, index: null, signatures: [...others, ...signatures] }), null);
});

test("a signed index counts for the images that it names, and for no other", () => {
  const index = (named: string) => Buffer.from(JSON.stringify({ manifests: [{ digest: named }] }));
  const of = (bytes: Buffer) => signed(payload({ digest: sha256(bytes) }), signer.privateKey, bytes);
  assert.equal(reasonOf(of(index(digest))), null);
  assert.equal(reasonOf(of(index(`sha256:${"c3".repeat(32)}`))), "digest");
  // The signature is of another index than the one that names the image.
  assert.equal(reasonOf({ ...of(index("x")), index: index(digest) }), "digest");
});

test("the nearest rule holds for a repository, and names are no prefixes", () => {
  const rules = ["r.example.com/*", "r.example.com/team/*", "r.example.com/team/gcc"].map((repository) => ({
    ...keyRule(repository),
    repository,
  }));
  assert.equal(ruleFor(rules, "r.example.com/team/gcc")?.path, "r.example.com/team/gcc");
  assert.equal(ruleFor(rules, "r.example.com/team/clang")?.path, "r.example.com/team/*");
  assert.equal(ruleFor(rules, "r.example.com/teams")?.path, "r.example.com/*");
  assert.equal(ruleFor(rules, "r.example.com.evil.com/team/gcc"), null);
  const short = ["r.example.com/*", "r.example.com/t"].map((named) => ({ ...keyRule(named), repository: named }));
  assert.equal(ruleFor(short, "r.example.com/t")?.path, "r.example.com/t", "as long as the one that it is below");
  assert.equal(ruleFor([{ ...keyRule(""), repository: "r.example.com/team" }], "r.example.com/team2"), null);
});

test("keys that cannot verify are refused", () => {
  const pem = (key: KeyObject) => key.export({ type: "spki", format: "pem" }).toString();
  assert.equal(parseSigner(keyRule("k"), pem(signer.publicKey)).by, "key");
  const wrong = [
    "",
    signer.privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
    pem(generateKeyPairSync("ed25519").publicKey),
    pem(generateKeyPairSync("ec", { namedCurve: "P-384" }).publicKey),
  ];
  for (const text of wrong)
    assert.throws(
      () => parseSigner(keyRule("k"), text),
      (error) => error instanceof HpccError && error.code === "config.invalid",
    );
});

test("files that can vouch for nobody are refused, each by what it should hold", () => {
  const rule = (by: "notation" | "sigstore", identities: string[] = []) =>
    ({ ...keyRule("f"), by, identities, issuer: "https://i" }) as const;
  const refused = (hint: RegExp) => (error: unknown) =>
    error instanceof HpccError && error.code === "config.invalid" && hint.test(error.message);
  assert.throws(() => parseSigner(rule("notation"), "no pem"), refused(/^f is no PEM file with certificates of CAs/));
  for (const text of ["no json", "{}", '{"tlogs":[]}', '{"certificateAuthorities":[{}]}'])
    assert.throws(() => parseSigner(rule("sigstore"), text), refused(/^f is no trusted root of Sigstore/));
});
