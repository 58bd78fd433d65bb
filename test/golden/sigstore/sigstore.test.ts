// Sigstore bundles that sigstore's own client made: a good one lets an image come and run, without a network but the registry's, and each
// other one has an error of its own.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { test } from "node:test";
import { HostileRegistry } from "../../support/hostile-registry.ts";
import {
  bytes,
  MANIFEST_TYPE,
  type Referrers,
  readGolden,
  SIGNED_IMAGE,
  serveReferrers,
  serveSignedImage,
  teamHome,
} from "../../support/signed-image.ts";

type Name =
  | "good"
  | "message"
  | "intern"
  | "stranger"
  | "expired"
  | "provenance"
  | "otherImage"
  | "otherRepository"
  | "key";

interface Bundle {
  readonly dsseEnvelope: { readonly payload: string; readonly signatures: readonly { readonly sig: string }[] };
  readonly messageSignature: { readonly signature: string };
}

const { roots, key, bundles } = readGolden("sigstore") as {
  readonly roots: Readonly<Record<"team" | "stranger", unknown>>;
  readonly key: string;
  readonly bundles: Readonly<Record<Name, Bundle>>;
};
const FILES = {
  "root.json": JSON.stringify(roots.team),
  "team.pub": key,
};
const BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json";
const ROOT = 'sigstore = "root.json"\nissuer = "https://login.example.com"';
const TEAM = `${ROOT}\nidentities = ["https://ci.example.com/team/*"]`;
const BUILD = `${ROOT}\nidentities = ["https://ci.example.com/team/build@main"]`;

/** As cosign keeps a bundle in a registry. */
function referrers(bundle: unknown): Referrers {
  const blobs: Record<string, string> = {};
  const kept = (text: string) => {
    const digest = `sha256:${createHash("sha256").update(text).digest("hex")}`;
    blobs[digest] = Buffer.from(text).toString("base64");
    return { digest, size: Buffer.byteLength(text) };
  };
  const text = JSON.stringify({
    schemaVersion: 2,
    mediaType: MANIFEST_TYPE,
    artifactType: BUNDLE_TYPE,
    config: { mediaType: "application/vnd.oci.empty.v1+json", ...kept("{}") },
    layers: [{ mediaType: BUNDLE_TYPE, ...kept(JSON.stringify(bundle)) }],
    subject: { mediaType: MANIFEST_TYPE, digest: SIGNED_IMAGE.digest, size: 1 },
  });
  const digest = `sha256:${createHash("sha256").update(text).digest("hex")}`;
  const index = {
    manifests: [{ mediaType: MANIFEST_TYPE, digest, size: Buffer.byteLength(text), artifactType: BUNDLE_TYPE }],
  };
  return {
    index: Buffer.from(JSON.stringify(index)).toString("base64"),
    manifests: { [digest]: Buffer.from(text).toString("base64") },
    blobs,
  };
}

/** A bundle with one byte of what was signed, or of the signature, changed. */
function altered(bundle: Bundle, what: "payload" | "signature"): unknown {
  const changed = structuredClone(bundle) as unknown as {
    dsseEnvelope: { payload: string; signatures: { sig: string }[] };
  };
  const { dsseEnvelope } = changed;
  const flip = (base64: string) => {
    const all = bytes(base64);
    all[all.length - 2]! ^= 1;
    return all.toString("base64");
  };
  if (what === "payload") dsseEnvelope.payload = flip(dsseEnvelope.payload);
  else dsseEnvelope.signatures[0]!.sig = flip(dsseEnvelope.signatures[0]!.sig);
  return changed;
}

/** Without what a log says of it. */
function unlogged(bundle: Bundle): unknown {
  const changed = structuredClone(bundle) as unknown as { verificationMaterial: { tlogEntries: unknown[] } };
  changed.verificationMaterial.tlogEntries = [];
  return changed;
}

type Case = readonly [what: string, bundle: unknown, rule: string, refusal: RegExp | null];

const CASES: readonly Case[] = [
  ["a good one", bundles.good, BUILD, null],
  ["one by somebody whose name begins so", bundles.good, TEAM, null],
  ["one of the manifest's bytes", bundles.message, BUILD, null],
  [
    "one by somebody else",
    bundles.intern,
    TEAM,
    /signed by "https:\/\/ci\.example\.com\/intern\/build@main".* not the rule's/,
  ],
  [
    "one whose signer another provider knows",
    bundles.good,
    TEAM.replace("login.example.com", "login.example.org"),
    /as "https:\/\/login\.example\.com" says, .* not the rule's/,
  ],
  ["one of another Sigstore", bundles.stranger, BUILD, /a Sigstore bundle for which .*root\.json does not vouch/],
  [
    "one made after its certificate ended",
    bundles.expired,
    BUILD,
    /a certificate that did not hold when it was signed/,
  ],
  ["one that is in no log", unlogged(bundles.good), BUILD, /does not vouch: expected 1 tlog entries, got 0/],
  ["one with an altered payload", altered(bundles.good, "payload"), BUILD, /has a Sigstore bundle that was altered/],
  ["one with an altered signature", altered(bundles.good, "signature"), BUILD, /has a Sigstore bundle/],
  [
    "a statement of provenance",
    bundles.provenance,
    BUILD,
    /it states "https:\/\/slsa\.dev.* not that the image is signed/,
  ],
  ["one of another image", bundles.otherImage, BUILD, /has the signature of another image, sha256:dddd/],
  ["one for another repository", bundles.otherRepository, BUILD, /for another repository, .*\/other\/toolchain/],
  ["one by a key, where a root is asked for", bundles.key, BUILD, /a Sigstore bundle without a certificate/],
  ["none", null, BUILD, /of registry\.example\.com\/team\/toolchain has no Sigstore bundle/],
  ["one by the key", bundles.key, 'key = "team.pub"', null],
  ["one by the key, altered", altered(bundles.key, "payload"), 'key = "team.pub"', /is not by the key .*team\.pub/],
  [
    "one with a certificate, where a key is asked for",
    bundles.good,
    'key = "team.pub"',
    /is not by the key .*team\.pub/,
  ],
  ["what is no bundle", { mediaType: BUNDLE_TYPE }, BUILD, /a Sigstore bundle that cannot be used: it lacks/],
];

for (const [what, bundle, rule, refusal] of CASES)
  test(`${what} is ${refusal === null ? "taken" : "refused"}`, async () => {
    await using registry = await HostileRegistry.start();
    serveSignedImage(registry);
    if (bundle !== null) serveReferrers(registry, referrers(bundle), true);
    using team = teamHome(registry, rule, FILES);
    const { code, error } = await team.pull();
    if (refusal === null) {
      assert.equal(code, 0, error);
      assert.equal(team.bound().kind, "allowed");
      return;
    }
    assert.match(error, refusal);
    assert.match(error, /\[image\.untrusted\]/);
    assert.deepEqual(existsSync(team.home.oci) ? readdirSync(team.home.oci) : [], []);
    assert.equal(team.bound().kind, "forbidden");
  });
