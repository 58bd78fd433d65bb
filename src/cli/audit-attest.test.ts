// Attestations of rows: what they say, that another implementation reads them, and that none passes that was altered or made up.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { makeAttestKey, publicKeyText, readAttestKey, readAttestPublicKey } from "../audit/attest/attest-key-file.ts";
import { checkAttestation } from "../audit/attest/check-attestation.ts";
import { type DsseEnvelope, type DsseSigner, STATEMENT_TYPE, signEnvelope } from "../audit/attest/dsse.ts";
import { AuditLog } from "../audit/audit-log.ts";
import { encodeFlags } from "../audit/flags.ts";
import { readOrMakeLogSigner } from "../audit/log-key-file.ts";
import { type AuditRow, emptyRow } from "../audit/row.ts";
import type { BodyOfKind } from "../audit/rows/bodies.ts";
import type { ByteString } from "../base/byte-string.ts";
import { ManualClock } from "../base/clock.ts";
import { SILENT_LOGGER } from "../base/log.ts";
import { encodeResultManifest, resultDigest } from "../core/action/result-manifest.ts";
import { type Digest, sha256 } from "../core/digest/digest.ts";
import type { BuildId } from "../core/identity/build-id.ts";
import { parseVerifier } from "../core/note/signed-note.ts";
import { type Attestation, type AttestOptions, attestBuild, attestRows } from "./audit-attest.ts";
import { checkBundle, isGood, printBundleCheck } from "./audit-check-attestation.ts";
import { logKey } from "./log-key.ts";

const ORIGIN = "build.example.com/worker/w1";
const ANN = "spiffe://build.example.com/tenant/acme/user/ann";
const EVE = "spiffe://build.example.com/tenant/acme/user/eve";
const BUILD = 'app "7" <b>' as BuildId;
const digestOf = (text: string) => sha256(Buffer.from(text));
const GO = join(import.meta.dirname, "../../.cache/attest-go");
const skip = existsSync(GO) ? false : ".cache/attest-go was not built, as there is no Go";

const manifests = new Map<Digest, Uint8Array>();

function manifestOf(objects: readonly string[]): Digest {
  const blob = (text: string) => ({ digest: digestOf(text), size: text.length });
  const outputs = objects.map((text, index) => ({
    index,
    kind: index === 0 ? ("object" as const) : ("dwo" as const),
    executable: false,
    ...blob(text),
  }));
  const encoded = encodeResultManifest({ exitCode: 0, outputs, stdout: blob(""), stderr: blob("") });
  const digest = resultDigest(encoded);
  manifests.set(digest, encoded);
  return digest;
}

function rowOf(object: string | null, exit = 0): AuditRow {
  const argv = ["/usr/bin/gcc", "-c", '-DX="\u00e9"', "/hpcc/project/a.c"] as ByteString[];
  return {
    ...emptyRow("w1"),
    imageDigest: digestOf("image"),
    sourceDigest: digestOf(`source of ${object}`),
    flags: encodeFlags({ cwd: "/hpcc/project" as ByteString, environment: ["LC_ALL=C" as ByteString], argv }),
    outputDigest: object === null ? null : digestOf(object),
    tenant: "acme",
    vm: "vm-1",
    durationUs: 5,
    exit,
  };
}

function compileOf(objects: readonly string[], principal = ANN): BodyOfKind<"compile"> {
  const output = (path: string, kind: "object" | "dwo") => ({ path, kind, required: true });
  return {
    kind: "compile",
    startMs: Date.UTC(2027, 0, 2),
    endMs: Date.UTC(2027, 0, 2, 0, 0, 1),
    principal,
    policy: digestOf("policy"),
    tier: "protected",
    isolation: "firecracker",
    life: "session",
    actionKey: digestOf(`key of ${objects.join()}`),
    resultDigest: manifestOf(objects),
    compileUs: 3,
    versions: { agent: "0.1.0", hpcc: "0.1.0" },
    scope: "tenant",
    outputs: [output("/hpcc/out/object.o", "object"), output("/hpcc/out/object.dwo", "dwo")],
    terminalColumns: 80,
    determinism: "strict",
    build: BUILD,
  };
}

function hitOf(objects: readonly string[]): BodyOfKind<"hit"> {
  const { versions: _, ...body } = compileOf(objects);
  const hit = {
    outcome: "hit",
    keyTier: "release",
    from: "w2",
    compiledRow: digestOf("its row"),
    confirmedBy: "vm-9",
    madeFor: null,
  } as const;
  return { ...body, kind: "hit", ...hit };
}

let folder = "";
let state = "";
let signer: DsseSigner;
let options: AttestOptions;
let notes: string[] = [];

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "hpcc-attest-"));
  state = join(folder, "state");
  const logSigner = await readOrMakeLogSigner(state, ORIGIN);
  const parts = { worker: "w1", clock: new ManualClock(), logger: SILENT_LOGGER, signer: logSigner };
  const log = await AuditLog.open({ folder: join(state, "audit"), ...parts });
  const { actionKey, versions: _v, compileUs: _c, ...job } = compileOf(["x"]);
  await log.append(rowOf("one"), compileOf(["one", "one.dwo"]));
  await log.append(rowOf("two"), hitOf(["two"]));
  await log.append(rowOf(null, 1), compileOf([]));
  const { startMs, endMs, principal, policy, tier, build } = job;
  const denied = {
    kind: "denied",
    startMs,
    endMs,
    principal,
    policy,
    tier,
    code: "image.forbidden",
    actionKey,
    build,
  } as const;
  await log.append({ ...emptyRow("w1"), tenant: "acme" }, denied);
  await log.append(rowOf("other"), { ...compileOf(["other"], EVE), build: "shared" as BuildId });
  await log.append(rowOf("other"), { ...compileOf(["other"]), build: "shared" as BuildId });
  // The same object again, by a hit: the compile is what is told of it.
  await log.append(rowOf("one"), { ...hitOf(["one"]), build: null });
  await log.close();
  signer = await makeAttestKey(join(folder, "attest.key"));
  await writeFile(join(folder, "attest.pub"), publicKeyText(signer));
  const openBlobs = async () => ({
    blob: async (_: string, digest: Digest) => manifests.get(digest) ?? null,
    close() {},
  });
  options = { logs: [state], signer, openBlobs, note: (text) => void notes.push(text) };
});
after(async () => rm(folder, { recursive: true }));

const keys = async () => ({ attestation: [signer.publicKey], log: [parseVerifier(await logKey(state, null))] });
interface Payload {
  readonly subject: unknown;
  readonly predicate: {
    readonly buildDefinition: {
      readonly externalParameters: { readonly command: { readonly argv: string[] }; build: string; principal: string };
      readonly internalParameters: Readonly<Record<string, string>>;
      readonly resolvedDependencies: unknown;
    };
    readonly runDetails: { builder: unknown; metadata: unknown; byproducts: readonly { name: string }[] };
  };
}

const payloadOf = ({ envelope }: Attestation) =>
  JSON.parse(Buffer.from(envelope.payload, "base64").toString()) as Payload;

describe("a statement", () => {
  test("of a compile says who made which files of what, and where it is in the log", async () => {
    const [attestation] = await attestRows(["2"], options);
    const { subject, predicate, ...head } = payloadOf(attestation!);
    assert.deepEqual(head, {
      _type: "https://in-toto.io/Statement/v1",
      predicateType: "https://slsa.dev/provenance/v1",
    });
    const hex = (text: string) => ({ sha256: digestOf(text).slice(7) });
    assert.deepEqual(subject, [
      { name: "/hpcc/out/object.o", digest: hex("one") },
      { name: "/hpcc/out/object.dwo", digest: hex("one.dwo") },
    ]);
    const { buildDefinition, runDetails } = predicate;
    assert.equal(buildDefinition.externalParameters.command.argv[2], '-DX="\u00e9"');
    assert.equal(buildDefinition.externalParameters.build, BUILD);
    assert.equal(buildDefinition.externalParameters.principal, ANN);
    assert.equal(buildDefinition.internalParameters["isolation"], "firecracker");
    assert.deepEqual(buildDefinition.resolvedDependencies, [
      { name: "image", digest: hex("image") },
      { name: "source", digest: hex("source of one") },
    ]);
    assert.deepEqual(runDetails.builder, { id: `spiffe://${ORIGIN}`, version: { agent: "0.1.0", hpcc: "0.1.0" } });
    const times = { startedOn: "2027-01-02T00:00:00.000Z", finishedOn: "2027-01-02T00:00:01.000Z" };
    assert.deepEqual(runDetails.metadata, { invocationId: `${ORIGIN}#2`, ...times });
    assert.deepEqual(
      runDetails.byproducts.map(({ name }) => name),
      ["record", "proof", "result"],
    );
  });

  test("of a hit names the worker that compiled, and no times, which it does not know", async () => {
    const { predicate } = payloadOf((await attestRows(["3"], options))[0]!);
    assert.deepEqual(predicate.runDetails.builder, { id: "spiffe://build.example.com/worker/w2" });
    assert.deepEqual(predicate.runDetails.metadata, { invocationId: `${ORIGIN}#3` });
    assert.equal(predicate.buildDefinition.internalParameters["outcome"], "hit");
  });

  test("without the store names the object alone", async () => {
    const [attestation] = await attestRows(["2"], { ...options, logs: [join(state, "audit")] });
    assert.deepEqual(attestation!.subject, [
      { name: "/hpcc/out/object.o", digest: { sha256: digestOf("one").slice(7) } },
    ]);
    assert.equal(checkAttestation(JSON.stringify(attestation!.envelope), await keys()).manifest, null);
  });

  test("is not made with a manifest that is another one's", async () => {
    const openBlobs = async () => ({ blob: async () => Buffer.from("other"), close() {} });
    await assert.rejects(attestRows(["2"], { ...options, openBlobs }), { code: "audit.corrupt" });
  });
});

describe("rows are found", () => {
  test("by a file, by any hash and by their number; the compile of an object before its hits", async () => {
    const file = join(folder, "one.o");
    await writeFile(file, "one");
    const words = [file, digestOf("one").slice(7, 20), digestOf("source of one"), digestOf("key of one,one.dwo"), "2"];
    for (const { row, kind } of await attestRows(words, options)) assert.deepEqual([row, kind], [2, "compile"]);
  });

  test("but for those whose result was revoked, which are named", async (t) => {
    const own = await mkdtemp(join(tmpdir(), "hpcc-attest-revoked-"));
    t.after(() => rm(own, { recursive: true }));
    const parts = { worker: "w1", clock: new ManualClock(), logger: SILENT_LOGGER };
    const log = await AuditLog.open({
      folder: join(own, "audit"),
      ...parts,
      signer: await readOrMakeLogSigner(own, ORIGIN),
    });
    const byAnn = { cause: "operator", askedBy: "ann", entries: 1, served: null, servedRows: [] } as const;
    const revoke = (what: "vm" | "principal", value: string, upToMs: number | null) =>
      log.append(emptyRow("w1"), { kind: "revoke", startMs: 0, endMs: 0, what, value, upToMs, ...byAnn });
    const inVm = (object: string, vm: string) => ({ ...rowOf(object), vm });
    const build = "revoked" as BuildId;
    await log.append(inVm("one", "vm-1"), { ...compileOf(["one"]), build });
    await log.append(inVm("two", "vm-2"), { ...compileOf(["two"]), build });
    // Eve's, which another worker compiled.
    await log.append(inVm("three", "vm-3"), { ...hitOf(["three"]), madeFor: EVE });
    await log.append(inVm("three", "vm-3"), { ...hitOf(["three"]), build, madeFor: EVE });
    await revoke("vm", "vm-1", null);
    await revoke("principal", EVE, Date.UTC(2027, 0, 3));
    await log.append(inVm("three", "vm-4"), { ...compileOf(["three"]), build });
    await log.close();
    const at = { ...options, logs: [own] };
    const refused = (message: RegExp) => ({ code: "argument.invalid", message });
    const ofVm = refused(/^row 2 is about a result that was revoked: row 6 of w1, .* of vm vm-1 \(operator\)$/);
    await assert.rejects(attestRows(["2"], at), ofVm);
    await assert.rejects(attestRows([digestOf("one")], at), ofVm);
    await assert.rejects(attestRows(["5"], at), refused(/^row 5 .* was revoked: row 7 of w1/));
    const attested = await attestRows(["3", digestOf("three")], at);
    assert.deepEqual(
      attested.map(({ row }) => row),
      [3, 8],
      "what was compiled again is found",
    );
    notes.length = 0;
    const rows: number[] = [];
    await attestBuild({ build, principal: null }, at, ({ row }) => void rows.push(row));
    assert.deepEqual(rows, [3, 8]);
    assert.equal(notes.filter((note) => note.includes("was revoked")).length, 2);
  });

  test("or it is said that there is none", async () => {
    for (const [word, code] of [
      [digestOf("nothing"), "hash.unknown"],
      ["99", "hash.unknown"],
      ["nothing.o", "argument.invalid"],
      ["4", "argument.invalid"],
      ["5", "argument.invalid"],
      ["1", "argument.invalid"],
    ] as const)
      await assert.rejects(attestRows([word], options), { code }, word);
    await assert.rejects(attestRows(["2"], { ...options, logs: [state, state] }), { code: "argument.invalid" });
  });
});

describe("a build", () => {
  test("is attested row by row; rows without a file are told", async () => {
    const done: Attestation[] = [];
    notes = [];
    const count = await attestBuild({ build: BUILD, principal: null }, options, (one) => void done.push(one));
    assert.deepEqual([count, done.map(({ row }) => row)], [2, [2, 3]]);
    assert.equal(notes.length, 2, notes.join(""));
    assert.match(notes.join(""), /^rows of the build without a statement, 1: each is about a compile that failed/m);
  });

  test("of a name that two clients use is refused, unless one is named", async () => {
    const done: Attestation[] = [];
    const take = (one: Attestation) => void done.push(one);
    const build = "shared";
    await assert.rejects(attestBuild({ build, principal: null }, options, take), {
      code: "argument.invalid",
      message: /^2 clients have called a build so: .*eve, .*ann; name one with --principal$/,
    });
    await attestBuild({ build, principal: ANN }, options, take);
    assert.deepEqual(
      done.map(({ row }) => row),
      [7],
    );
    await assert.rejects(attestBuild({ build: "x", principal: null }, options, take), { code: "hash.unknown" });
  });
});

async function bundleOf(name: string, envelopes: readonly DsseEnvelope[]): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, envelopes.map((envelope) => `${JSON.stringify(envelope)}\n`).join(""));
  return path;
}

/** Envelopes that must not pass, by what is wrong with them; and whether who knows nothing of hpcc can tell. */
async function badEnvelopes(): Promise<[string, DsseEnvelope, boolean][]> {
  const [{ envelope }] = (await attestRows(["2"], options)) as [Attestation];
  const text = Buffer.from(envelope.payload, "base64").toString();
  const resigned = (payload: string, type = STATEMENT_TYPE) => signEnvelope(Buffer.from(payload), type, signer);
  const stranger = await makeAttestKey(join(folder, `stranger-${Math.random()}`));
  const { payload: other } = (await attestRows(["3"], options))[0]!.envelope;
  const swap = (from: string, to: string) => {
    assert.ok(text.includes(from), from);
    return text.replace(from, to);
  };
  const reproved = JSON.parse(text) as { predicate: { runDetails: { byproducts: { content: string }[] } } };
  const proof = reproved.predicate.runDetails.byproducts[1]!;
  proof.content = Buffer.from(
    Buffer.from(proof.content, "base64").toString().replace("index 1\n", "index 2\n"),
  ).toString("base64");
  return [
    ["another key", signEnvelope(Buffer.from(text), STATEMENT_TYPE, stranger), true],
    ["an altered payload", { ...envelope, payload: Buffer.from(swap("w1", "w9")).toString("base64") }, true],
    ["another payload", { ...envelope, payload: other }, true],
    ["no signature", { ...envelope, signatures: [] }, true],
    ["another type", { ...envelope, payloadType: "text/plain" }, true],
    ["no statement", resigned("{}"), true],
    ["another builder", resigned(swap(`"id":"spiffe://${ORIGIN}"`, '"id":"spiffe://x/worker/w1"')), false],
    ["another subject", resigned(swap(digestOf("one").slice(7), digestOf("evil").slice(7))), false],
    ["another isolation", resigned(swap('"isolation":"firecracker"', '"isolation":"hyperv"')), false],
    ["a proof of another row", resigned(JSON.stringify(reproved)), false],
    ["spaces", resigned(text.replace("{", "{ ")), false],
  ];
}

describe("hpcc's own check", () => {
  test("takes what it made, and finds the file's row", async () => {
    const all = await attestRows(["2", "3"], options);
    const bundle = await bundleOf(
      "good.jsonl",
      all.map(({ envelope }) => envelope),
    );
    for (const name of ["one", "one.dwo", "two", "evil"]) await writeFile(join(folder, name), name);
    const given = { attestKeys: [join(folder, "attest.pub")], logKeys: [await logKey(state, null)] };
    const at = (...names: string[]) => names.map((name) => join(folder, name));
    const check = await checkBundle(bundle, { ...given, files: at("one", "one.dwo", "two") });
    assert.ok(isGood(check), printBundleCheck(check));
    assert.match(printBundleCheck(check), /^2 attestations hold: .*\n.*one: row 2 of w1\n.*one\.dwo: row 2 of w1\n/);
    const evil = await checkBundle(bundle, { ...given, files: at("one", "evil") });
    assert.ok(!isGood(evil));
    assert.match(printBundleCheck(evil), /evil: NO ATTESTATION THAT HOLDS IS ABOUT IT$/m);
  });

  test("refuses whatever is not exactly what a signed row says", async () => {
    const [good] = await attestRows(["2"], options);
    const LOG = await keys();
    for (const [what, envelope] of await badEnvelopes())
      assert.throws(() => checkAttestation(JSON.stringify(envelope), LOG), { code: "audit.corrupt" }, what);
    checkAttestation(JSON.stringify(good!.envelope), LOG);
    const other = await readOrMakeLogSigner(join(folder, "other-state"), ORIGIN);
    assert.throws(() => checkAttestation(JSON.stringify(good!.envelope), { ...LOG, log: [other.verifier] }), {
      code: "audit.corrupt",
    });
    for (const bad of ["", "[]", "{}", "null", '{"payload":"","payloadType":"","signatures":[1]}', "{".repeat(100)])
      assert.throws(() => checkAttestation(bad, LOG), { code: "audit.corrupt" }, bad);
  });
});

describe("in-toto's own libraries", { skip }, () => {
  const verify = (bundle: string, key = "attest.pub") =>
    spawnSync(GO, [bundle, join(folder, key)], { encoding: "utf8" });

  test("read what a statement says", async () => {
    const all = await attestRows(["2", "3"], options);
    const { stdout, stderr, status } = verify(
      await bundleOf(
        "go.jsonl",
        all.map(({ envelope }) => envelope),
      ),
    );
    assert.equal(status, 0, stderr);
    const type = "https://hpcc.dev/specs/provenance/v1";
    const line = (object: string, name: string, worker: string) =>
      `${digestOf(object).slice(7)} /hpcc/out/${name} spiffe://build.example.com/worker/${worker} ${type}\n`;
    assert.equal(
      stdout,
      line("one", "object.o", "w1") + line("one.dwo", "object.dwo", "w1") + line("two", "object.o", "w2"),
    );
  });

  test("and refuse what was altered, or signed with another key", async () => {
    for (const [what, envelope, refused] of await badEnvelopes()) {
      const { status, stderr } = verify(await bundleOf("bad.jsonl", [envelope]));
      assert.equal(status, refused ? 1 : 0, `${what}: ${stderr}`);
    }
  });
});

test("a key is its owner's alone, and is never overwritten", async () => {
  const path = join(folder, "attest.key");
  assert.equal(publicKeyText(await readAttestKey(path)), await readFile(join(folder, "attest.pub"), "utf8"));
  await assert.rejects(makeAttestKey(path), { code: "argument.invalid" });
  await assert.rejects(readAttestPublicKey(path), { code: "config.invalid" });
  await assert.rejects(readAttestPublicKey(join(state, "log-key")), { code: "config.invalid" });
  await assert.rejects(readAttestKey(join(folder, "none")), { code: "argument.invalid" });
  await chmod(path, 0o640);
  await assert.rejects(readAttestKey(path), { code: "config.invalid", message: /can be read by others/ });
  await chmod(path, 0o600);
  await chmod(join(folder, "attest.pub"), 0o600);
  await assert.rejects(readAttestKey(join(folder, "attest.pub")), { code: "config.invalid" });
});
