// Between two homes by way of a real registry with TLS and passwords.
import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { ImageHome } from "../../test/support/image-home.ts";
import { GO_REGISTRY_MISSING, ImageRegistry, startGoRegistry } from "../../test/support/image-registry.ts";
import { type RawLayout, rawTar } from "../../test/support/oci-layout.ts";
import { type Digest, digestHex } from "../core/digest/digest.ts";
import { ProgressLine } from "./image-transfer.ts";

const DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json";

const image = (content: string, docker = false): RawLayout => ({
  docker,
  editManifest: (manifest) => ({ ...manifest, ...(docker && { mediaType: DOCKER_MANIFEST }) }),
  layers: [
    { tar: rawTar([{ name: "usr/bin/gcc", content: content.repeat(10_000), mode: 0o755 }]), compression: "gzip" },
    { tar: rawTar([{ name: "usr/include/x.h", content }]) },
  ],
});

describe("a registry with TLS and passwords", () => {
  let registry: ImageRegistry;
  before(async () => {
    registry = await ImageRegistry.start({ passwords: true });
  });
  after(() => registry[Symbol.asyncDispose]());

  function home(options: { readonly logIn?: boolean; readonly trust?: boolean } = {}): ImageHome {
    const made = new ImageHome();
    if (options.trust !== false) registry.trustIn(made.folder);
    if (options.logIn !== false) registry.logIn(made.folder);
    return made;
  }

  for (const docker of [false, true])
    test(`what one home pushes another one pulls, with the same digest (${docker ? "Docker" : "OCI"})`, async () => {
      using ann = home();
      using bob = home();
      const name = `${registry.host}/team/${docker ? "docker" : "oci"}`;
      const digest = await ann.layout(image("a", docker));
      const pushed = await ann.hpcc("image", "push", `${name}:12`, "--image", digest.slice(0, 20));
      assert.equal(pushed.code, 0, pushed.error);
      assert.match(pushed.out, new RegExp(`^image {4}${digest}\nname {5}${name}:12@${digest}\n`));
      assert.match((await ann.hpcc("image", "push", `${name}:12@${digest}`)).out, /all of it was there/);
      const pulled = await bob.hpcc("image", "pull", `${name}:12`);
      assert.equal(pulled.code, 0, pulled.error);
      assert.match(pulled.out, new RegExp(`^image {4}${digest}\n`));
      assert.equal((await bob.hpcc("image", "pull", "--quiet", `${name}@${digest}`)).out, `${digest}\n`);
      for (const file of ["blobs/sha256", "."].flatMap((folder) =>
        readdirSync(join(ann.oci, digestHex(digest), folder)).map((entry) => join(folder, entry)),
      ))
        if (!/^(?:index\.json|blobs)$/.test(file))
          assert.deepEqual(
            readFileSync(join(bob.oci, digestHex(digest), file)),
            readFileSync(join(ann.oci, digestHex(digest), file)),
          );
      assert.match((await bob.hpcc("image", "ls")).out, new RegExp(`^${name}:12 +${digest}`, "m"));
      assert.match((await bob.hpcc("image", "show", `${name}:12`)).out, new RegExp(`^digest +${digest}$`, "m"));
    });

  test("a tag that moved leads to the new image, and the old one stays without it", async () => {
    using ann = home();
    using bob = home();
    const name = `${registry.host}/team/moving:1`;
    const [first, second] = [await ann.layout(image("first")), await ann.layout(image("second"))];
    await ann.hpcc("image", "push", name, "--image", first);
    await bob.hpcc("image", "pull", name);
    await ann.hpcc("image", "push", name, "--image", second);
    assert.equal((await bob.hpcc("image", "pull", "-q", name)).out, `${second}\n`);
    const list = (await bob.hpcc("image", "ls")).out;
    assert.match(list, new RegExp(`^- +${first}`, "m"));
    assert.match(list, new RegExp(`^${name} +${second}`, "m"));
  });

  test("no login, an expired one, an unknown CA and an absent image each have their own error", async () => {
    const name = `${registry.host}/team/absent:1`;
    using stranger = home({ logIn: false });
    assert.match(
      (await stranger.hpcc("image", "pull", name)).error,
      /wants credentials, and there are none for it \[registry\.denied\]\n +Log in with `docker login localhost/,
    );
    using late = home();
    registry.logIn(late.folder, "old password");
    assert.match(
      (await late.hpcc("image", "pull", name)).error,
      /refuses the credentials for team\/absent; they may have expired \[registry\.denied\]/,
    );
    using wary = home({ trust: false });
    assert.match(
      (await wary.hpcc("image", "pull", name)).error,
      /the certificate of localhost:\d+ is not trusted: .*\[registry\.protocol\]\n +Put the CA's certificate into ~\/\.config\/containers\/certs\.d\/localhost/,
    );
    using ann = home();
    const absent = await ann.hpcc("image", "pull", name);
    assert.equal(absent.code, 1);
    assert.match(absent.error, /answers the manifest 1 with 404 .*\[image\.missing\]/);
    assert.match((await ann.hpcc("image", "push", name)).error, /there is no image "localhost:.*\[image\.missing\]/);
  });

  test("a blob that was changed on the registry's disk is refused, and nothing of it is left", async () => {
    using ann = home();
    using bob = home();
    const name = `${registry.host}/team/damaged:1`;
    const digest = await ann.layout(image("damaged"));
    await ann.hpcc("image", "push", name, "--image", digest);
    const manifest = readFileSync(join(ann.oci, digestHex(digest), "blobs/sha256", digestHex(digest)), "utf8");
    const { layers } = JSON.parse(manifest) as { layers: { digest: Digest }[] };
    const hex = digestHex(layers[0]!.digest);
    const stored = join(registry.blobFolder, hex.slice(0, 2), hex, "data");
    const bytes = readFileSync(stored);
    bytes[bytes.length - 1]! ^= 1;
    writeFileSync(stored, bytes);
    const damaged = await bob.hpcc("image", "pull", name);
    assert.match(damaged.error, /sent other content for sha256:.*\[image\.invalid\]/);
    assert.deepEqual(readdirSync(bob.oci), []);
  });
});

test("another implementation of registries keeps an image as it is", { skip: GO_REGISTRY_MISSING }, async () => {
  await using registry = await startGoRegistry();
  using ann = new ImageHome();
  using bob = new ImageHome();
  const name = `${registry.host}/team/toolchain:12`;
  const digest = await ann.layout(image("other"));
  const pushed = await ann.hpcc("image", "push", name, "--image", digest);
  assert.equal(pushed.code, 0, pushed.error);
  assert.equal((await bob.hpcc("image", "pull", "--quiet", name)).out, `${digest}\n`);
  const absent = await bob.hpcc("image", "pull", `${registry.host}/team/toolchain:13`);
  assert.match(absent.error, /answers the manifest 13 with 404 .*\[image\.missing\]/);
});

test("progress is one line of a terminal, and nothing elsewhere", () => {
  for (const isTerminal of [true, false]) {
    let said = "";
    const output = { out: () => {}, error: (text: string) => (said += text) };
    using line = new ProgressLine(output, false, isTerminal);
    line.show({ doneBytes: 1024 * 1024, totalBytes: 4 * 1024 * 1024 });
    line.show({ doneBytes: 1024 * 1024 + 1, totalBytes: 4 * 1024 * 1024 });
    line.end();
    assert.equal(said, isTerminal ? "\r\u001b[K1.0 MiB of 4.0 MiB\r\u001b[K" : "");
  }
});
