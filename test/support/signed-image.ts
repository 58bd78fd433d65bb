// The small image of test/golden/cosign, which real programs signed, served with what stands beside it; and a home that trusts whom a test says.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { byteStringOfText } from "../../src/base/byte-string.ts";
import { loadClientConfig } from "../../src/config/client.ts";
import type { ProjectImage } from "../../src/config/project-image.ts";
import { ociPlatform } from "../../src/core/image/platform.ts";
import type { HostileRegistry } from "./hostile-registry.ts";
import { ImageHome } from "./image-home.ts";

const GOLDEN = join(import.meta.dirname, "../golden");
export const REPOSITORY = "registry.example.com/team/toolchain";
export const MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json";
export const INDEX_TYPE = "application/vnd.oci.image.index.v1+json";

/** A golden file with signatures of the image. */
export function readGolden(name: string): unknown {
  return JSON.parse(readFileSync(join(GOLDEN, name, "signatures.json"), "utf8"));
}

export const { image: SIGNED_IMAGE } = readGolden("cosign") as {
  readonly image: { readonly digest: string; readonly documents: Readonly<Record<string, string>> };
};

export const bytes = (base64: string) => Buffer.from(base64, "base64");

/** Artifacts that refer to the image, as base64: manifests and blobs by digest, and the index that lists them. */
export interface Referrers {
  readonly index: string;
  readonly manifests: Readonly<Record<string, string>>;
  readonly blobs: Readonly<Record<string, string>>;
}

/** Serves the image as the tag 12. */
export function serveSignedImage(registry: HostileRegistry): void {
  for (const document of Object.values(SIGNED_IMAGE.documents)) registry.serveBlob(bytes(document));
  registry.serveManifest("12", bytes(SIGNED_IMAGE.documents[SIGNED_IMAGE.digest]!), MANIFEST_TYPE);
}

/** Serves what refers to the image: by the referrers API, or else under the tag that stands in for it. */
export function serveReferrers(
  registry: HostileRegistry,
  { index, manifests, blobs }: Referrers,
  byApi: boolean,
): void {
  for (const blob of Object.values(blobs)) registry.serveBlob(bytes(blob));
  for (const [digest, manifest] of Object.entries(manifests))
    registry.serveManifest(digest, bytes(manifest), MANIFEST_TYPE);
  if (byApi) registry.serveReferrers(SIGNED_IMAGE.digest, bytes(index));
  else registry.serveManifest(SIGNED_IMAGE.digest.replace(":", "-"), bytes(index), INDEX_TYPE);
}

export interface TeamHome extends Disposable {
  readonly home: ImageHome;
  readonly bound: () => ProjectImage;
  readonly pull: () => ReturnType<ImageHome["hpcc"]>;
}

/** A home with a rule for the image's repository, the files that it names, and a project that pins the image. */
export function teamHome(registry: HostileRegistry, rule: string, files: Readonly<Record<string, string>>): TeamHome {
  const home = new ImageHome();
  const containers = join(home.folder, ".config/containers");
  mkdirSync(containers, { recursive: true });
  writeFileSync(
    join(containers, "registries.conf"),
    `[[registry]]\nprefix = "registry.example.com"\nlocation = "${registry.host}"\ninsecure = true\n`,
  );
  for (const [name, text] of Object.entries(files)) writeFileSync(join(home.folder, name), text);
  writeFileSync(home.env.HPCC_CONFIG, `[[images.trust]]\nrepository = "${REPOSITORY}"\n${rule}\n`);
  const project = join(home.folder, "project");
  mkdirSync(project);
  writeFileSync(join(project, "hpcc.toml"), `image = "${REPOSITORY}:12"\n`);
  writeFileSync(
    join(project, "hpcc.lock"),
    `version = 1\n[[image]]\nname = "${REPOSITORY}:12"\n[image.platforms]\n"${ociPlatform()}" = "${SIGNED_IMAGE.digest}"\n`,
  );
  return {
    home,
    bound: () => loadClientConfig({ env: home.env, projectRoot: byteStringOfText(project) }).config.image,
    pull: () => home.hpcc("image", "pull", `${REPOSITORY}:12`),
    [Symbol.dispose]: () => home[Symbol.dispose](),
  };
}
