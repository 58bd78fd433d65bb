// Signatures in cosign's format, and the lock that pins a name: what may be pulled, and what may run.
import assert from "node:assert/strict";
import { generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { HostileRegistry } from "../../test/support/hostile-registry.ts";
import { ImageHome } from "../../test/support/image-home.ts";
import { rawTar } from "../../test/support/oci-layout.ts";
import { byteStringOfText } from "../base/byte-string.ts";
import { loadClientConfig } from "../config/client.ts";
import type { ProjectImage } from "../config/project-image.ts";
import type { Digest } from "../core/digest/digest.ts";

const CONFIG_TYPE = "application/vnd.oci.image.config.v1+json";
const MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json";
const INDEX_TYPE = "application/vnd.oci.image.index.v1+json";
const PAYLOAD_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json";

describe("signed images and locks", () => {
  const [team, stranger] = [1, 2].map(() => generateKeyPairSync("ec", { namedCurve: "P-256" }));
  let registry: HostileRegistry;
  let maker: ImageHome;
  let home: ImageHome;
  let project = "";
  let repository = "";
  const cwd = process.cwd();
  before(async () => {
    registry = await HostileRegistry.start();
    maker = new ImageHome();
    repository = `${registry.host}/team/toolchain`;
  });
  after(async () => {
    maker[Symbol.dispose]();
    await registry[Symbol.asyncDispose]();
  });
  beforeEach(() => {
    home = new ImageHome();
    project = join(home.folder, "project");
    mkdirSync(project);
    writeFileSync(join(project, "hpcc.toml"), `image = "${repository}:12"\n`);
    writeFileSync(join(home.folder, "team.pub"), team!.publicKey.export({ type: "spki", format: "pem" }));
    trust(`[[images.trust]]\nrepository = "${repository}"\nkey = "team.pub"\n`);
    process.chdir(project);
  });
  afterEach(() => {
    process.chdir(cwd);
    home[Symbol.dispose]();
  });

  const trust = (text: string) => writeFileSync(join(home.folder, "config.toml"), text);

  const bound = (): ProjectImage =>
    loadClientConfig({ env: home.env, projectRoot: byteStringOfText(project) }).config.image;

  /** A new image, served as the tag 12. */
  async function serve(content: string, packages = "gcc-12=12.2.0-14"): Promise<Digest> {
    const layers = [{ tar: rawTar([{ name: "usr/bin/gcc", content, mode: 0o755 }]) }];
    const digest = await maker.layout({ layers, labels: { "dev.hpcc.packages": packages } });
    registry.serveLayout(join(maker.oci, digest.slice(7)), "12");
    return digest;
  }

  interface Signing {
    readonly key?: KeyObject;
    readonly repository?: string;
    readonly of?: Digest;
    readonly alter?: (signature: Buffer) => Buffer;
  }

  /** What `cosign sign --key` leaves beside an image. */
  function signature(
    digest: Digest,
    { key = team!.privateKey, of = digest, alter = (same) => same, ...to }: Signing = {},
  ): void {
    const critical = {
      identity: { "docker-reference": to.repository ?? repository },
      image: { "docker-manifest-digest": of },
      type: "cosign container image signature",
    };
    const payload = Buffer.from(JSON.stringify({ critical, optional: null }));
    const made = alter(sign("sha256", payload, key));
    const config = Buffer.from("{}");
    const manifest = {
      schemaVersion: 2,
      mediaType: MANIFEST_TYPE,
      config: { mediaType: CONFIG_TYPE, digest: registry.serveBlob(config), size: config.length },
      layers: [
        {
          mediaType: PAYLOAD_TYPE,
          digest: registry.serveBlob(payload),
          size: payload.length,
          annotations: { "dev.cosignproject.cosign/signature": made.toString("base64") },
        },
      ],
    };
    registry.serveManifest(`sha256-${digest.slice(7)}.sig`, Buffer.from(JSON.stringify(manifest)), MANIFEST_TYPE);
  }

  test("unsigned, altered, by another key, for another repository, of another image: each is refused and nothing of it comes", async () => {
    const other = `sha256:${"d".repeat(64)}` as Digest;
    const flip = (bytes: Buffer) => Buffer.concat([bytes.subarray(0, -1), Buffer.from([bytes.at(-1)! ^ 1])]);
    const rows: [string, Signing | null, RegExp][] = [
      ["a", null, /is not signed/],
      ["b", { key: stranger!.privateKey }, /not by the key .*team\.pub: it was made with another key, or altered/],
      ["c", { alter: flip }, /not by the key .*team\.pub: it was made with another key, or altered/],
      [
        "d",
        { repository: `${registry.host}/other/toolchain` },
        /for another repository, 127\.0\.0\.1:\d+\/other\/toolchain/,
      ],
      ["e", { of: other }, /the signature of another image, sha256:dddd/],
    ];
    for (const [content, signing, message] of rows) {
      const digest = await serve(content);
      if (signing !== null) signature(digest, signing);
      const refused = await home.hpcc("image", "update");
      assert.equal(refused.code, 1);
      assert.match(refused.error, message);
      assert.match(refused.error, /\[image\.untrusted\]/);
      assert.ok(!existsSync(home.oci) || readdirSync(home.oci).length === 0);
      assert.ok(!existsSync(join(home.images, "signatures")) && !existsSync(join(project, "hpcc.lock")));
      assert.equal(bound().kind, "unlocked");
    }
  });

  test("a name is pinned once; the signature lets it run, and what is changed afterwards does not", async () => {
    const digest = await serve("signed");
    signature(digest);
    assert.equal(bound().kind, "unlocked");
    assert.match(
      (await home.hpcc("image", "pull")).error,
      /hpcc\.lock does not say which image .*\n +Run `hpcc image update`/,
    );
    const updated = await home.hpcc("image", "update");
    assert.equal(updated.code, 0, updated.error);
    assert.match(
      updated.out,
      new RegExp(
        `^image {4}${digest}\n[^]*^signed {3}by .*team\\.pub\n.*hpcc\\.lock says so from now on; commit it\n$`,
        "m",
      ),
    );
    assert.deepEqual([bound().kind, (bound() as { digest: Digest }).digest], ["allowed", digest]);
    assert.match((await home.hpcc("image", "update")).out, /nothing changed\n$/);

    // The rule taken out, and another key: as if it had never been signed.
    trust("");
    assert.equal(bound().kind, "forbidden");
    writeFileSync(join(home.folder, "other.pub"), stranger!.publicKey.export({ type: "spki", format: "pem" }));
    trust(`[[images.trust]]\nrepository = "${repository}"\nkey = "other.pub"\n`);
    assert.match((bound() as { why: string }).why, /not by the key .*other\.pub/);
    trust(`[[images.trust]]\nrepository = "${registry.host}/team/*"\nkey = "team.pub"\n`);
    assert.equal(bound().kind, "allowed");
    // What was kept of the signature is not believed.
    const kept = join(home.images, "signatures", `${digest.slice(7)}.json`);
    writeFileSync(kept, readFileSync(kept, "utf8").replace(/"payload":"..../, '"payload":"AAAA'));
    assert.match((bound() as { why: string }).why, /not by the key/);
    rmSync(kept);
    assert.match((bound() as { why: string }).why, /has not been pulled/);
    assert.equal((await home.hpcc("image", "pull")).code, 0);
    assert.equal(bound().kind, "allowed");
    // A checkout names another repository for the same image.
    writeFileSync(join(project, "hpcc.toml"), `image = "${registry.host}/evil/toolchain@${digest}"\n`);
    assert.equal(bound().kind, "forbidden");
  });

  test("a tag that moved changes nothing until it is asked for, and then says what", async () => {
    const first = await serve("first", "gcc-12=12.2.0-14 libc6-dev=2.36 zlib1g-dev=1.2");
    signature(first);
    await home.hpcc("image", "update");
    const second = await serve("second", "gcc-12=12.2.0-15 libc6-dev=2.36");
    signature(second);
    assert.match((await home.hpcc("image", "pull")).out, new RegExp(`^image +${first}$`, "m"));
    assert.equal((bound() as { digest: Digest }).digest, first);
    const { out } = await home.hpcc("image", "update");
    assert.match(
      out,
      new RegExp(
        `^before +${first}\nchange +gcc-12 12\\.2\\.0-14 -> 12\\.2\\.0-15\nchange +zlib1g-dev 1\\.2 -> \\(absent\\)\n`,
        "m",
      ),
    );
    assert.equal((bound() as { digest: Digest }).digest, second);
  });

  test("a signed index counts for the image that the lock pins, as long as the tag leads to it", async () => {
    const digest = await serve("of an index");
    const index = (...digests: string[]) => {
      const manifests = digests.map((one) => ({
        mediaType: MANIFEST_TYPE,
        digest: one,
        size: registry.manifest(digest).length,
        platform: { os: "linux", architecture: process.arch === "x64" ? "amd64" : process.arch },
      }));
      const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: INDEX_TYPE, manifests }));
      return registry.serveManifest("12", bytes, INDEX_TYPE) as Digest;
    };
    signature(index(digest));
    assert.equal((await home.hpcc("image", "update")).code, 0);
    const forget = () => rmSync(join(home.images, "signatures"), { recursive: true });
    forget();
    const pulled = await home.hpcc("image", "pull");
    assert.equal(pulled.code, 0, pulled.error);
    assert.deepEqual([bound().kind, (bound() as { digest: Digest }).digest], ["allowed", digest]);
    // It is of another index that the tag names now, signed or not.
    forget();
    signature(index(`sha256:${"f".repeat(64)}`));
    assert.match((await home.hpcc("image", "pull")).error, /is not signed|the signature of another image/);
  });

  test("a lock that cannot be read is an error, and one for other machines is none for this", () => {
    const lock = (text: string) => writeFileSync(join(project, "hpcc.lock"), text);
    const digest = `sha256:${"e".repeat(64)}`;
    const entry = (name: string) => `[[image]]\nname = "${name}"\n[image.platforms]\n"linux/amd64" = "${digest}"\n`;
    const joined = `${entry("debian:12")}${entry("docker.io/library/debian:12")}`;
    const texts = ['version = 1\n[[image]]\nname = "a"\n', "version = 1\nimage = 3\n"];
    for (const text of ["{", "version = 2\n", ...texts, `version = 1\n${entry("% %")}`, `version = 1\n${joined}`]) {
      lock(text);
      // `hpcc image update` alone would read it, too.
      assert.throws(bound, { code: "config.invalid", message: /hpcc\.lock/, hint: /version control.*or remove it/ });
    }
    lock(`version = 1\n[[image]]\nname = "${repository}:12"\n[image.platforms]\n"linux/vax" = "${digest}"\n`);
    assert.equal(bound().kind, "unlocked");
  });
});
