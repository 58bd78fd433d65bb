// Signatures that the program notation made: a good one lets an image come and run, and each other one has an error of its own.
import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { test } from "node:test";
import { HostileRegistry } from "../../support/hostile-registry.ts";
import {
  bytes,
  INDEX_TYPE,
  REPOSITORY,
  type Referrers,
  readGolden,
  SIGNED_IMAGE,
  serveReferrers,
  serveSignedImage,
  teamHome,
} from "../../support/signed-image.ts";

const { certificates, signatures } = readGolden("notation") as {
  readonly certificates: Readonly<Record<"team" | "stranger", string>>;
  readonly signatures: Readonly<Record<"good" | "intern" | "stranger" | "expired" | "cose", Referrers>>;
};
const RULE = 'notation = "team-ca.pem"';
const BUILDERS = `${RULE}\nidentities = ["x509.subject: O=Team, CN=builder, C=US"]`;

type Case = readonly [what: string, referrers: Referrers | null, rule: string, refusal: RegExp | null];

const CASES: readonly Case[] = [
  ["a good signature", signatures.good, BUILDERS, null],
  ["one by anybody whom the CA vouches for, with RSA", signatures.intern, RULE, null],
  [
    "one by somebody else of the CA",
    signatures.intern,
    BUILDERS,
    /signed by ".*CN=intern.*none of the rule's identities/,
  ],
  ["a stranger's with a name of the team", signatures.stranger, BUILDERS, /for whom no certificate in .*team-ca\.pem/],
  ["one that expired", signatures.expired, BUILDERS, /has a signature that expired on 2026-11-29T/],
  ["one in COSE", signatures.cose, BUILDERS, /COSE is not read: sign with --signature-format jws/],
  ["none", null, BUILDERS, /of registry\.example\.com\/team\/toolchain has no signature of Notation/],
];

for (const byApi of [false, true])
  for (const [what, referrers, rule, refusal] of CASES)
    test(`${what} ${byApi ? "by the referrers API" : "under the tag"}: ${refusal === null ? "taken" : "refused"}`, async () => {
      await using registry = await HostileRegistry.start();
      serveSignedImage(registry);
      if (referrers !== null) serveReferrers(registry, referrers, byApi);
      using team = teamHome(registry, rule, { "team-ca.pem": certificates.team });
      assert.equal(team.bound().kind, "forbidden");
      const { code, error, out } = await team.pull();
      if (refusal === null) {
        assert.equal(code, 0, error);
        assert.match(out, /^signed {3}by .*team-ca\.pem$/m);
        assert.equal(team.bound().kind, "allowed");
        return;
      }
      assert.match(error, refusal);
      assert.match(error, /\[image\.untrusted\]/);
      assert.deepEqual(existsSync(team.home.oci) ? readdirSync(team.home.oci) : [], []);
      assert.equal(team.bound().kind, "forbidden");
    });

test("what refers to another image says so itself, whatever lists it", async () => {
  await using registry = await HostileRegistry.start();
  serveSignedImage(registry);
  const [[, manifest] = ["", ""]] = Object.entries(signatures.good.manifests);
  const altered = bytes(manifest)
    .toString()
    .replace(SIGNED_IMAGE.digest, `sha256:${"0".repeat(64)}`);
  const digest = registry.serveManifest("other", Buffer.from(altered), "application/vnd.oci.image.manifest.v1+json");
  for (const blob of Object.values(signatures.good.blobs)) registry.serveBlob(bytes(blob));
  const entry = {
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    digest,
    size: altered.length,
    artifactType: "application/vnd.cncf.notary.signature",
  };
  const index = { schemaVersion: 2, mediaType: INDEX_TYPE, manifests: [entry] };
  registry.serveReferrers(SIGNED_IMAGE.digest, Buffer.from(JSON.stringify(index)));
  using team = teamHome(registry, BUILDERS, { "team-ca.pem": certificates.team });
  assert.match((await team.pull()).error, new RegExp(`of ${REPOSITORY} has no signature of Notation`));
});
