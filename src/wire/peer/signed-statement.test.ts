// Statements: golden vectors, one encoding per value, and nothing believed that its maker has not signed as a worker of the site.
import assert from "node:assert/strict";
import { createPrivateKey, generateKeyPairSync, sign } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { TEST_TRUST_DOMAIN, TestAuthority, testIdentity } from "../../../test/support/certificates.ts";
import { HpccError } from "../../base/errors.ts";
import { createAuthority, issueCertificate } from "../../cli/ca-authority.ts";
import { FieldReader, FieldWriter } from "../../core/action/fields.ts";
import { sha256 } from "../../core/digest/digest.ts";
import { parseSpiffeId, parseTenantId, spiffeId } from "../../core/identity/spiffe.ts";
import { decodeStatement, encodeStatement, type Statement, type WorkerIdentity } from "../../core/sharing/statement.ts";
import type { TlsMaterial } from "../grpc/tls.ts";
import { inspectTls } from "../grpc/tls-files.ts";
import { STATEMENT_AGE_MS_MAX, StatementSigner, StatementVerifier } from "./signed-statement.ts";

const DAY_MS = 86_400_000;
const NAMES = { certificate: "c", key: "k", ca: "a" };
const digest = (text: string) => sha256(Buffer.from(text));

function worker(name: string): WorkerIdentity {
  const identity = testIdentity(`worker/${name}`);
  assert.ok(identity.kind === "worker");
  return identity;
}

function statement(changes: Partial<Statement> = {}): Statement {
  return {
    tenant: parseTenantId("acme"),
    tier: null,
    key: digest("key"),
    result: digest("result"),
    isolation: "firecracker",
    life: "clean",
    confirmedBy: null,
    image: digest("image"),
    vm: "vm-1",
    worker: worker("w1"),
    principal: spiffeId(testIdentity("tenant/acme/user/ann")),
    row: digest("row"),
    madeMs: Date.now(),
    compileUs: 1000,
    ...changes,
  };
}

function signer(tls: TlsMaterial): StatementSigner {
  return new StatementSigner(inspectTls(tls, Date.now(), NAMES));
}

/** Signed by whoever holds `tls`, whatever it says. */
function forge(encoded: Uint8Array, tls: TlsMaterial, certificate: Uint8Array): Uint8Array {
  const signature = sign("sha256", encoded, { key: createPrivateKey(tls.key), dsaEncoding: "ieee-p1363" });
  return new FieldWriter().bytes(1, encoded).bytes(2, signature).bytes(3, certificate).finish();
}

function parts(signed: Uint8Array): [Uint8Array, Uint8Array, Uint8Array] {
  const fields = new FieldReader(signed, "it");
  return [fields.bytes(1), fields.bytes(2), fields.bytes(3)];
}

function refuses(code: string) {
  return (error: unknown) => error instanceof HpccError && error.code === code;
}

test("the vectors of docs/specs/peer-protocol.md hold", () => {
  const file = join(import.meta.dirname, "../../../test/golden/peer/vectors.json");
  const { ca, statements } = JSON.parse(readFileSync(file, "utf8")) as {
    ca: string;
    statements: { statement: Statement & { worker: string }; encoded: string; signed: string }[];
  };
  const verifier = new StatementVerifier(Buffer.from(ca), TEST_TRUST_DOMAIN);
  assert.equal(statements.length, 2);
  for (const row of statements) {
    const identity = parseSpiffeId(row.statement.worker);
    assert.ok(identity.kind === "worker");
    const said: Statement = { ...row.statement, worker: identity };
    assert.equal(Buffer.from(encodeStatement(said)).toString("hex"), row.encoded);
    assert.deepEqual(verifier.verify(Buffer.from(row.signed, "hex"), said.madeMs), said);
  }
});

test("a statement has one encoding, and the decoder takes no other", () => {
  fc.assert(
    fc.property(fc.nat(500), fc.integer({ min: 0, max: 255 }), (at, byte) => {
      const bytes = Buffer.from(encodeStatement(statement({ tier: "release", confirmedBy: "vm-2", madeMs: 1 })));
      if (at < bytes.length) bytes[at] = byte;
      else bytes.subarray(0, bytes.length - 1);
      let decoded: Statement;
      try {
        decoded = decodeStatement(bytes);
      } catch (error) {
        assert.ok(error instanceof HpccError);
        return;
      }
      assert.deepEqual(Buffer.from(encodeStatement(decoded)), bytes);
    }),
  );
});

test("names in a statement are parsed, and its principal is a user of its tenant", () => {
  const spoiled: Partial<Record<keyof Statement, unknown>>[] = [
    { tenant: "../acme" },
    { tier: "A tier" },
    { vm: "vm\t1" },
    { vm: "" },
    { vm: "v".repeat(121) },
    { confirmedBy: "vm\n2" },
    { principal: spiffeId(testIdentity("tenant/other/user/ann")) },
    { principal: spiffeId(testIdentity("worker/w1")) },
    { principal: "spiffe://else.example/tenant/acme/user/ann" },
    { worker: testIdentity("tenant/acme/user/ann") },
  ];
  for (const changes of spoiled)
    assert.throws(
      () => decodeStatement(encodeStatement({ ...statement(), ...changes } as Statement)),
      (error) => error instanceof HpccError,
      JSON.stringify(changes),
    );
});

describe("a signed statement is believed", async () => {
  const authority = await TestAuthority.create();
  const [w1, w2, user] = await Promise.all(
    ["worker/w1", "worker/w2", "tenant/acme/user/ann"].map((path) => authority.issue(path)),
  );
  const verifier = new StatementVerifier(w1!.ca, TEST_TRUST_DOMAIN);

  test("from the worker that it names, by whoever hands it on", () => {
    const said = statement();
    assert.deepEqual(verifier.verify(signer(w1!).sign(said), Date.now()), said);
  });

  test("and no bit of it can be changed", () => {
    const signed = Buffer.from(signer(w1!).sign(statement()));
    for (let at = 0; at < signed.length; at += 1) {
      const changed = Buffer.from(signed);
      changed[at]! ^= 1 << (at % 8);
      assert.throws(() => verifier.verify(changed, Date.now()), HpccError, `byte ${at}`);
    }
    for (const cut of [signed.subarray(0, -1), signed.subarray(0, 3), Buffer.concat([signed, Buffer.from([0])])])
      assert.throws(() => verifier.verify(cut, Date.now()), HpccError);
  });

  test("not when another worker, or a user, has signed it", () => {
    const encoded = encodeStatement(statement());
    const [first, second] = [certificateOf(w1!), certificateOf(w2!)];
    const users = certificateOf(user!);
    for (const [tls, certificate] of [
      [w2!, second],
      [w2!, first],
      [user!, users],
      [user!, first],
    ] as const)
      assert.throws(() => verifier.verify(forge(encoded, tls, certificate), Date.now()), refuses("identity.invalid"));
    assert.throws(() => new StatementSigner(inspectTls(user!, Date.now(), NAMES)), refuses("identity.forbidden"));
    assert.throws(() => signer(w2!).sign(statement()), /bug/);
  });

  test("not from a worker of another CA or trust domain", async () => {
    const foreign = await TestAuthority.create();
    const other = signer(await foreign.issue("worker/w1")).sign(statement());
    assert.throws(() => verifier.verify(other, Date.now()), refuses("identity.invalid"));
    const elsewhere = new StatementVerifier(w1!.ca, "else.example" as never);
    assert.throws(() => elsewhere.verify(signer(w1!).sign(statement()), Date.now()), refuses("identity.invalid"));
  });

  test("if it was made while its maker's certificate was valid, also when that has expired since", async () => {
    const issuedMs = Date.now() - 40 * DAY_MS;
    const root = await createAuthority(TEST_TRUST_DOMAIN, issuedMs);
    const pair = await issueCertificate(root, worker("w1"), { nowMs: issuedMs, days: 20 });
    const tls = {
      certificate: Buffer.from(pair.certificate),
      key: Buffer.from(pair.key),
      ca: Buffer.from(root.certificate),
    };
    const old = new StatementSigner(inspectTls(tls, issuedMs, NAMES));
    const believes = new StatementVerifier(tls.ca, TEST_TRUST_DOMAIN);
    const inTime = old.sign(statement({ madeMs: issuedMs + 15 * DAY_MS }));
    assert.equal(believes.verify(inTime, Date.now()).madeMs, issuedMs + 15 * DAY_MS);
    for (const madeMs of [issuedMs + 21 * DAY_MS, issuedMs - DAY_MS])
      assert.throws(() => believes.verify(old.sign(statement({ madeMs })), Date.now()), refuses("identity.invalid"));
  });

  test("for a time, and not from the future", () => {
    const madeMs = Date.now();
    const signed = signer(w1!).sign(statement({ madeMs }));
    verifier.verify(signed, madeMs + STATEMENT_AGE_MS_MAX);
    assert.throws(() => verifier.verify(signed, madeMs + STATEMENT_AGE_MS_MAX + 1), refuses("identity.invalid"));
    assert.throws(() => verifier.verify(signed, madeMs - 600_000), refuses("identity.invalid"));
  });
});

/** The certificate of some credentials, by a signer that was told a lie about whose they are. */
function certificateOf(tls: TlsMaterial): Uint8Array {
  const own = { ...inspectTls(tls, Date.now(), NAMES), identity: worker("w1") };
  return parts(new StatementSigner(own).sign(statement()))[2];
}

test("keys of the kinds that CAs issue can sign, weak ones cannot", () => {
  const pem = (key: { export(options: object): string | Buffer }) =>
    Buffer.from(key.export({ format: "pem", type: "pkcs8" }));
  const weak = [
    generateKeyPairSync("rsa", { modulusLength: 1024 }),
    generateKeyPairSync("ec", { namedCurve: "secp256k1" }),
  ];
  assert.equal(weak.length, 2);
  for (const { privateKey } of weak) {
    const tls = { certificate: Buffer.from(VECTORS_CA), key: pem(privateKey), ca: Buffer.from(VECTORS_CA) };
    const own = { tls, identity: worker("w1"), expiresMs: 0, caDigest: digest("ca") };
    assert.throws(() => new StatementSigner(own), refuses("identity.invalid"));
  }
  for (const { privateKey } of [
    generateKeyPairSync("ed25519"),
    generateKeyPairSync("ec", { namedCurve: "P-384" }),
    generateKeyPairSync("rsa", { modulusLength: 2048 }),
  ]) {
    const tls = { certificate: Buffer.from(VECTORS_CA), key: pem(privateKey), ca: Buffer.from(VECTORS_CA) };
    const own = { tls, identity: worker("w1"), expiresMs: 0, caDigest: digest("ca") };
    assert.ok(new StatementSigner(own).sign(statement()).length > 0);
  }
});

const VECTORS_CA = (
  JSON.parse(readFileSync(join(import.meta.dirname, "../../../test/golden/peer/vectors.json"), "utf8")) as {
    ca: string;
  }
).ca;
