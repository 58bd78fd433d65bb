// Signatures that cosign's own packages made: a good one lets an image come and run, and each other one has an error of its own.
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { byteStringOfText } from "../../../src/base/byte-string.ts";
import { loadClientConfig } from "../../../src/config/client.ts";
import { ociPlatform } from "../../../src/core/image/platform.ts";
import { HostileRegistry } from "../../support/hostile-registry.ts";
import { ImageHome } from "../../support/image-home.ts";

interface Signed {
  readonly mediaType: string;
  readonly manifest: string;
  readonly blobs: Readonly<Record<string, string>>;
}

interface Vectors {
  readonly image: { readonly digest: string; readonly documents: Readonly<Record<string, string>> };
  readonly keys: Readonly<Record<string, string>>;
  readonly signatures: Readonly<Record<"good" | "anotherKey" | "anotherRepository", Signed>>;
}

const { image, keys, signatures } = JSON.parse(
  readFileSync(join(import.meta.dirname, "signatures.json"), "utf8"),
) as Vectors;
const REPOSITORY = "registry.example.com/team/toolchain";
const MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json";
const bytes = (base64: string) => Buffer.from(base64, "base64");

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

/** A home that trusts the team's key, and a project that pins the image. */
function teamHome(registry: HostileRegistry): { readonly home: ImageHome; readonly project: string } {
  const home = new ImageHome();
  const containers = join(home.folder, ".config/containers");
  mkdirSync(containers, { recursive: true });
  writeFileSync(
    join(containers, "registries.conf"),
    `[[registry]]\nprefix = "registry.example.com"\nlocation = "${registry.host}"\ninsecure = true\n`,
  );
  writeFileSync(join(home.folder, "team.pub"), keys["team"]!);
  writeFileSync(home.env.HPCC_CONFIG, `[[images.trust]]\nrepository = "${REPOSITORY}"\nkey = "team.pub"\n`);
  const project = join(home.folder, "project");
  mkdirSync(project);
  writeFileSync(join(project, "hpcc.toml"), `image = "${REPOSITORY}:12"\n`);
  writeFileSync(
    join(project, "hpcc.lock"),
    `version = 1\n[[image]]\nname = "${REPOSITORY}:12"\n[image.platforms]\n"${ociPlatform()}" = "${image.digest}"\n`,
  );
  return { home, project };
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
    for (const document of Object.values(image.documents)) registry.serveBlob(bytes(document));
    registry.serveManifest("12", bytes(image.documents[image.digest]!), MANIFEST_TYPE);
    if (signed !== null) {
      for (const blob of Object.values(signed.blobs)) registry.serveBlob(bytes(blob));
      registry.serveManifest(`sha256-${image.digest.slice(7)}.sig`, bytes(signed.manifest), signed.mediaType);
    }
    const { home, project } = teamHome(registry);
    using _home = home;
    const bound = () => loadClientConfig({ env: home.env, projectRoot: byteStringOfText(project) }).config.image;
    assert.equal(bound().kind, "forbidden");
    const { code, error, out } = await home.hpcc("image", "pull", `${REPOSITORY}:12`);
    if (refusal === null) {
      assert.equal(code, 0, error);
      assert.match(out, new RegExp(`^image {4}${image.digest}$`, "m"));
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
