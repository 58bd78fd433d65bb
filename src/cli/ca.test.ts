import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import tls from "node:tls";
import { makeLogKey } from "../audit/log-key-file.ts";
import { HpccError } from "../base/errors.ts";
import { type Identity, parseSpiffeId, parseTrustDomain } from "../core/identity/spiffe.ts";
import { initAuthority, issueIdentity, readAuthority } from "./ca.ts";
import { createAuthority, issueCertificate } from "./ca-authority.ts";

const DOMAIN = parseTrustDomain("build.example");
const NOW_MS = Date.now();
const worker = parseSpiffeId("spiffe://build.example/worker/w1");
const scheduler = parseSpiffeId("spiffe://build.example/scheduler/s1");
const user = parseSpiffeId("spiffe://build.example/tenant/acme/user/ann");

function fails(code: string): (error: unknown) => boolean {
  return (error) => error instanceof HpccError && error.code === code;
}

describe("hpcc ca", () => {
  let directory = "";
  before(async () => {
    directory = mkdtempSync(join(tmpdir(), "hpcc-ca-"));
    await initAuthority(join(directory, "ca"), DOMAIN, NOW_MS);
  });
  after(() => rmSync(directory, { recursive: true, force: true }));

  const ca = () => join(directory, "ca");

  test("keys are 0600, their folder 0700, and nothing temporary stays", () => {
    assert.equal(statSync(join(ca(), "ca.key")).mode & 0o777, 0o600);
    assert.equal(statSync(ca()).mode & 0o777, 0o700);
    assert.deepEqual(readdirSync(directory), ["ca"]);
  });

  test("a file where a folder should be is an argument's fault, and stays", async () => {
    const file = join(directory, "ca/ca.crt");
    const before = readFileSync(file);
    const names = readdirSync(directory, { recursive: true });
    for (const place of [file, join(file, "x"), join(file, "x/y")]) {
      await assert.rejects(initAuthority(place, DOMAIN, NOW_MS), fails("argument.invalid"));
      await assert.rejects(makeLogKey(place, "x.example/w1"), fails("argument.invalid"));
    }
    assert.deepEqual([readFileSync(file), readdirSync(directory, { recursive: true })], [before, names]);
  });

  test("openssl verifies what was issued, for its purposes alone", async () => {
    const rows = [
      [worker, ["sslserver", "sslclient"], []],
      [scheduler, ["sslserver"], ["sslclient"]],
      [user, ["sslclient"], ["sslserver"]],
    ] as const;
    for (const [identity, allowed, refused] of rows) {
      const issued = await issueIdentity(ca(), identity, { nowMs: NOW_MS, dnsNames: ["w1.build.example"] });
      assert.equal(statSync(issued.key).mode & 0o777, 0o600);
      const verify = (purpose: string) =>
        spawnSync("openssl", ["verify", "-x509_strict", "-purpose", purpose, "-CAfile", issued.ca, issued.certificate]);
      for (const purpose of allowed) assert.equal(verify(purpose).status, 0, verify(purpose).stderr.toString());
      for (const purpose of refused) assert.notEqual(verify(purpose).status, 0, purpose);
      const text = execFileSync("openssl", ["x509", "-noout", "-text", "-in", issued.certificate], {
        encoding: "utf8",
      });
      assert.match(text, /URI:spiffe:\/\/build\.example\//);
      assert.match(text, /ecdsa-with-SHA256/);
      assert.equal(new X509Certificate(readFileSync(issued.certificate)).ca, false);
    }
  });

  test("an existing folder is never overwritten", async () => {
    const before = readFileSync(join(ca(), "ca.key"), "utf8");
    await assert.rejects(initAuthority(ca(), DOMAIN, NOW_MS), fails("argument.invalid"));
    assert.equal(readFileSync(join(ca(), "ca.key"), "utf8"), before);
    const out = join(directory, "out");
    await issueIdentity(ca(), worker, { nowMs: NOW_MS, out });
    await assert.rejects(issueIdentity(ca(), worker, { nowMs: NOW_MS, out }), fails("argument.invalid"));
  });

  test("a folder that cannot be written is told from one that is there", async () => {
    const refused = async (folder: string, code: string, message: RegExp) => {
      await assert.rejects(initAuthority(folder, DOMAIN, NOW_MS), { code, message });
    };
    await refused(ca(), "argument.invalid", /\/ca is there already/);
    await refused("", "argument.invalid", /^the folder to write has an empty name$/);
    await refused(join(ca(), "ca.crt", "x", "y"), "argument.invalid", /\/ca\.crt\/x is no folder to put .*\/y into$/);
    await assert.rejects(issueIdentity(ca(), worker, { nowMs: NOW_MS, out: "" }), fails("argument.invalid"));
  });

  test("what is wrong with a CA is mended by no certificate, and no hint says so", async () => {
    const authority = await readAuthority(ca());
    const issue = (identity: Identity, nowMs: number) => issueCertificate(authority, identity, { nowMs });
    const empty = mkdtempSync(join(directory, "empty-"));
    const faults: readonly [() => unknown, RegExp][] = [
      [async () => readAuthority(empty), /`hpcc ca init FOLDER` makes one/],
      [async () => issue(user, NOW_MS + 3649 * 86_400_000), /fewer --days, or make a new CA/],
      [async () => issue(parseSpiffeId("spiffe://other.example/worker/w1"), NOW_MS), /with --dir/],
      [async () => issueCertificate({ ...authority, key: "" }, user, { nowMs: NOW_MS }), /or make a new CA/],
      [async () => parseTrustDomain("A"), /Correct the trust domain/],
      [async () => parseSpiffeId("bogus"), /spiffe:\/\/DOMAIN\/tenant\/NAME\/user\/NAME/],
      [async () => parseSpiffeId("spiffe://a/worker/B"), /Correct the name/],
    ];
    for (const [run, hint] of faults)
      await assert.rejects(run as () => Promise<unknown>, { code: "identity.invalid", hint });
  });

  test("a CA key that others can read is refused", async () => {
    const other = join(directory, "loose");
    await initAuthority(other, DOMAIN, NOW_MS);
    chmodSync(join(other, "ca.key"), 0o640);
    await assert.rejects(readAuthority(other), fails("identity.invalid"));
  });

  test("days are limited, and no certificate outlives the CA or leaves its trust domain", async () => {
    const authority = await readAuthority(ca());
    const issue = (identity: Identity, days: number, nowMs = NOW_MS) =>
      issueCertificate(authority, identity, { days, nowMs });
    for (const days of [0, -1, 1.5, 399, Number.NaN])
      await assert.rejects(issue(user, days), fails("argument.invalid"));
    await assert.rejects(issue(user, 30, NOW_MS + 3640 * 86_400_000), fails("identity.invalid"));
    const stranger = parseSpiffeId("spiffe://other.example/worker/w1");
    await assert.rejects(issue(stranger, 1), fails("identity.invalid"));
    const { certificate } = await issueCertificate(authority, user, { nowMs: NOW_MS });
    const lifeMs = Date.parse(new X509Certificate(certificate).validTo) - NOW_MS;
    assert.ok(lifeMs <= 7 * 86_400_000);
  });

  test("serial numbers are random and of full length", async () => {
    const authority = await readAuthority(ca());
    const serials = new Set<string>();
    for (let i = 0; i < 4; i += 1) {
      const { certificate } = await issueCertificate(authority, user, { nowMs: NOW_MS });
      serials.add(new X509Certificate(certificate).serialNumber);
    }
    assert.equal(serials.size, 4);
    for (const serial of serials) assert.equal(serial.length, 32);
  });

  test("the name constraint makes openssl refuse a foreign trust domain that the CA's key signed", async () => {
    const authority = await readAuthority(ca());
    const foreign = await createAuthority(parseTrustDomain("other.example"), NOW_MS);
    // The CA's own code refuses; what a thief of the key would sign is made with openssl.
    const folder = mkdtempSync(join(directory, "thief-"));
    const file = (name: string) => join(folder, name);
    const run = (...args: string[]) => execFileSync("openssl", args, { stdio: "pipe" });
    run(
      "req",
      "-new",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
      "-nodes",
      "-keyout",
      file("k"),
      "-out",
      file("r"),
      "-subj",
      "/CN=x",
      "-addext",
      "subjectAltName=URI:spiffe://other.example/worker/w1",
    );
    run(
      "x509",
      "-req",
      "-in",
      file("r"),
      "-CA",
      join(ca(), "ca.crt"),
      "-CAkey",
      join(ca(), "ca.key"),
      "-copy_extensions",
      "copy",
      "-out",
      file("c"),
      "-days",
      "1",
    );
    const verified = spawnSync("openssl", ["verify", "-CAfile", join(ca(), "ca.crt"), file("c")], { encoding: "utf8" });
    assert.notEqual(verified.status, 0);
    assert.match(verified.stderr, /permitted subtree violation/);
    assert.notEqual(foreign.certificate, authority.certificate);
  });

  test("Node's TLS accepts both sides of one CA and refuses a stranger's", async () => {
    const authority = await readAuthority(ca());
    const server = await issueCertificate(authority, worker, { nowMs: NOW_MS });
    const client = await issueCertificate(authority, user, { nowMs: NOW_MS });
    const foreignCa = await createAuthority(DOMAIN, NOW_MS);
    const foreign = await issueCertificate(foreignCa, user, { nowMs: NOW_MS });
    const listener = tls.createServer(
      {
        cert: server.certificate,
        key: server.key,
        ca: authority.certificate,
        requestCert: true,
        minVersion: "TLSv1.3",
      },
      (socket) => socket.end(socket.getPeerCertificate().subjectaltname ?? ""),
    );
    listener.listen(0, "127.0.0.1");
    await once(listener, "listening");
    const { port } = listener.address() as { port: number };
    const ask = async (pair: { certificate: string; key: string }) => {
      const socket = tls.connect({
        port,
        host: "127.0.0.1",
        cert: pair.certificate,
        key: pair.key,
        ca: authority.certificate,
        checkServerIdentity: () => undefined,
      });
      let answer = "";
      for await (const chunk of socket.setEncoding("utf8")) answer += String(chunk);
      return answer;
    };
    try {
      assert.equal(await ask(client), "URI:spiffe://build.example/tenant/acme/user/ann");
      // With TLS 1.3 a client learns of its refusal only after the handshake: an alert, or an early end.
      assert.equal(await ask(foreign).catch(() => ""), "");
    } finally {
      listener.close();
    }
  });
});
