// Signatures that cosign's own packages made: a good one lets an image come and run, and each other one has an error of its own.
import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { test } from "node:test";
import { HostileRegistry } from "../../support/hostile-registry.ts";
import { bytes, readGolden, SIGNED_IMAGE, serveSignedImage, teamHome } from "../../support/signed-image.ts";

interface Signed {
  readonly mediaType: string;
  readonly manifest: string;
  readonly blobs: Readonly<Record<string, string>>;
}

interface Vectors {
  readonly keys: Readonly<Record<string, string>>;
  readonly signatures: Readonly<Record<"good" | "anotherKey" | "anotherRepository", Signed>>;
}

const { keys, signatures } = readGolden("cosign") as Vectors;

/** The signature with one byte changed. */
function altered(signed: Signed): Signed {
  const manifest = JSON.parse(bytes(signed.manifest).toString("utf8")) as {
    layers: { annotations: Record<string, string> }[];
  };
  const [layer] = manifest.layers;
  const signature = bytes(layer!.annotations["dev.cosignproject.cosign/signature"]!);
  signature[signature.length - 1]! ^= 1;
  layer!.annotations["dev.cosignproject.cosign/signature"] = signature.toString("base64");
  return { ...signed, manifest: Buffer.from(JSON.stringify(manifest)).toString("base64") };
}

const CASES: readonly [string, Signed | null, RegExp | null][] = [
  ["a good signature", signatures.good, null],
  ["an altered signature", altered(signatures.good), /has a signature that is not by the key .*team\.pub: .*altered/],
  [
    "another key's signature",
    signatures.anotherKey,
    /has a signature that is not by the key .*team\.pub: it was made with another key/,
  ],
  [
    "a signature for another repository",
    signatures.anotherRepository,
    /has a signature for another repository, registry\.example\.com\/other\/toolchain/,
  ],
  ["no signature", null, /of registry\.example\.com\/team\/toolchain is not signed/],
];

for (const [what, signed, refusal] of CASES)
  test(`${what} ${refusal === null ? "lets the image come and run" : "is refused, and nothing comes"}`, async () => {
    await using registry = await HostileRegistry.start();
    serveSignedImage(registry);
    if (signed !== null) {
      for (const blob of Object.values(signed.blobs)) registry.serveBlob(bytes(blob));
      registry.serveManifest(`sha256-${SIGNED_IMAGE.digest.slice(7)}.sig`, bytes(signed.manifest), signed.mediaType);
    }
    using team = teamHome(registry, 'key = "team.pub"', { "team.pub": keys["team"]! });
    const { bound, home } = team;
    assert.equal(bound().kind, "forbidden");
    const { code, error, out } = await team.pull();
    if (refusal === null) {
      assert.equal(code, 0, error);
      assert.match(out, new RegExp(`^image {4}${SIGNED_IMAGE.digest}$`, "m"));
      assert.match(out, /^signed {3}by .*team\.pub$/m);
      assert.equal(bound().kind, "allowed");
      return;
    }
    assert.match(error, refusal);
    assert.match(error, /\[image\.untrusted\]/);
    assert.deepEqual(existsSync(home.oci) ? readdirSync(home.oci) : [], []);
    assert.equal(bound().kind, "forbidden");
    const payloads = Object.keys(signed?.blobs ?? {});
    const asked = registry.asked.filter((line) => line.includes("/blobs/"));
    assert.ok(
      asked.every((line) => payloads.some((digest) => line.includes(digest))),
      "no layer was asked for",
    );
  });
