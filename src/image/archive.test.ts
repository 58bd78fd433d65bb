import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { type RawEntry, rawTar, writeLayout } from "../../test/support/oci-layout.ts";
import { HpccError } from "../base/errors.ts";
import { importArchive } from "./archive.ts";

describe("archives of images", () => {
  let folder = "";
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "hpcc-archive-"));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const layer = rawTar([{ name: "usr/bin/gcc", content: "compiler".repeat(1000), mode: 0o755 }]);
  const hex = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");
  const oci = () => join(folder, "oci");

  function write(entries: readonly RawEntry[], pack: (bytes: Buffer) => Buffer = (bytes) => bytes): string {
    const path = join(folder, "image.tar");
    writeFileSync(path, pack(rawTar(entries)));
    return path;
  }

  /** What `docker save` wrote before it wrote layouts. */
  function saved(change: Record<string, unknown> = {}, content = layer): RawEntry[] {
    const config = JSON.stringify({
      architecture: process.arch === "x64" ? "amd64" : process.arch,
      os: "linux",
      rootfs: { type: "layers", diff_ids: [`sha256:${hex(layer)}`, `sha256:${hex(layer)}`] },
    });
    const list = [
      { Config: "config.json", RepoTags: ["team/gcc:12"], Layers: ["a/layer.tar", "b/layer.tar"], ...change },
    ];
    return [
      { name: "config.json", content: config },
      { name: "a/", flag: "5" },
      { name: "a/layer.tar", content },
      { name: "b/layer.tar", flag: "2", link: "../a/layer.tar" },
      { name: "manifest.json", content: JSON.stringify(list) },
    ];
  }

  test("a saved image is taken, the same whether it is compressed or not", async () => {
    const digests = new Set<string>();
    for (const pack of [
      (bytes: Buffer) => bytes,
      (bytes: Buffer) => gzipSync(bytes),
      (bytes: Buffer) => zstdCompressSync(bytes),
    ]) {
      const report = await importArchive(write(saved(), pack), oci());
      digests.add(report.digest);
      assert.equal(report.savedName, "team/gcc:12");
      assert.deepEqual(readdirSync(oci()), [report.digest.slice(7)]);
    }
    assert.equal(digests.size, 1);
  });

  test("one that is here in pieces is made whole", async () => {
    const { digest, layoutFolder } = await importArchive(write(saved()), oci());
    const blob = join(layoutFolder, "blobs/sha256", hex(layer));
    for (const harm of [
      () => rmSync(blob),
      () => writeFileSync(blob, "other"),
      () => rmSync(join(layoutFolder, "index.json")),
    ]) {
      harm();
      assert.equal((await importArchive(write(saved()), oci())).digest, digest);
      assert.ok(readFileSync(blob).equals(layer));
      assert.deepEqual(readdirSync(oci()), [digest.slice(7)], "nothing else is left");
    }
  });

  test("a layout keeps its digest", async () => {
    const layout = join(folder, "layout");
    const digest = await writeLayout(layout, { layers: [{ tar: layer, compression: "gzip" }] });
    const blobs = readdirSync(join(layout, "blobs/sha256")).map((name) => `blobs/sha256/${name}`);
    const entries = ["index.json", "oci-layout", ...blobs].map((name) => ({
      name,
      content: readFileSync(join(layout, name)),
    }));
    assert.equal((await importArchive(write(entries), oci())).digest, digest);
    const changed = entries.map((entry, at) => (at === 2 ? { ...entry, content: "other" } : entry));
    await assert.rejects(importArchive(write(changed), oci()), /holds other content for/);
  });

  test("of a name that comes twice the last member counts, and no other is touched", async () => {
    const { digest } = await importArchive(write(saved()), oci());
    rmSync(oci(), { recursive: true });
    const twice = [{ name: "config.json", content: "older" }, ...saved()];
    assert.equal((await importArchive(write(twice), oci())).digest, digest);
  });

  test("an interrupted import's folder is gone after a day", async () => {
    const old = join(oci(), ".import-000000000000");
    mkdirSync(old, { recursive: true });
    utimesSync(old, 1, 1);
    const { digest } = await importArchive(write(saved()), oci());
    assert.deepEqual(readdirSync(oci()), [digest.slice(7)]);
  });

  test("what is no image of one is refused, and leaves nothing", async () => {
    const rows: [Buffer | readonly RawEntry[], RegExp][] = [
      [Buffer.from("no archive at all"), /tar archive/],
      [[{ name: "x", content: "y" }], /lacks "manifest\.json"/],
      [saved({ Layers: ["a/layer.tar", "../../etc/passwd"] }), /lacks "\.\.\/\.\.\/etc\/passwd"/],
      [saved({ Config: "/etc/passwd" }), /lacks "\/etc\/passwd"/],
      [saved({ Layers: "x" }), /list of images that is none/],
      [saved({ Layers: ["a/layer.tar"] }), /differ in their number of layers/],
      [saved({}, rawTar([{ name: "other" }])), /does not unpack to/],
      [saved({}, gzipSync(rawTar([{ name: "../x", content: "y" }]))), /layer entry "\.\.\/x" has "\.\."/],
      [[{ name: "manifest.json", content: "[{},{}]" }], /none of one image/],
    ];
    for (const [content, message] of rows) {
      const path = Buffer.isBuffer(content) ? join(folder, "image.tar") : write(content);
      if (Buffer.isBuffer(content)) writeFileSync(path, content);
      await assert.rejects(importArchive(path, oci()), (error) => {
        assert.ok(error instanceof HpccError, String(error));
        assert.match(error.message, message);
        return true;
      });
      assert.deepEqual(readdirSync(oci()), []);
    }
    await assert.rejects(importArchive(join(folder, "absent"), oci()), /absent cannot be read/);
  });

  test("an archive that is cut or damaged in its compression is refused by name", async () => {
    for (const compress of [gzipSync, zstdCompressSync]) {
      const whole = compress(rawTar([{ name: "a", content: randomBytes(50_000) }]));
      const damaged = Buffer.from(whole);
      damaged.fill(0xff, 2000, 2100);
      for (const bytes of [whole.subarray(0, 1000), damaged]) {
        const path = join(folder, "damaged.tar");
        writeFileSync(path, bytes);
        await assert.rejects(importArchive(path, oci()), { code: "image.invalid" });
      }
    }
    assert.deepEqual(readdirSync(oci()), []);
  });
});
