// What an image's root holds: the same text from the layers and from the unpacked folder, and every change to that has a name.
import assert from "node:assert/strict";
import {
  chmodSync,
  lstatSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { rawTar, writeLayout } from "../../test/support/oci-layout.ts";
import { type OciImage, openImage } from "./layout.ts";
import { contentsDigest, readRootContents } from "./root-contents.ts";
import { checkRootfs, ensureRootfs } from "./rootfs.ts";
import { ensureSquashfs } from "./squashfs.ts";

describe("what an image's root holds", () => {
  let folder = "";
  let image: OciImage;
  let root = "";
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "hpcc-contents-"));
    const layout = join(folder, "layout");
    const lower = rawTar([
      { name: "usr/", flag: "5", mode: 0o755 },
      { name: "usr/bin/gcc", content: "compiler", mode: 0o4755 },
      { name: "usr/bin/cc", flag: "1", link: "usr/bin/gcc" },
      { name: "usr/gone", content: "x" },
      { name: Buffer.from('usr/\xff \n"name', "latin1"), content: "odd" },
      { name: "etc/shadow", content: "secret", mode: 0 },
      { name: "tmp/", flag: "5", mode: 0o1777 },
    ]);
    const upper = rawTar([
      { name: "usr/.wh.gone" },
      { name: "usr/lib", flag: "2", link: "../lib" },
      { name: "usr/empty", content: "" },
    ]);
    await writeLayout(layout, {
      layers: [
        { tar: lower, compression: "gzip" },
        { tar: upper, compression: "zstd" },
      ],
    });
    image = await openImage(layout);
    root = await ensureRootfs(image, folder);
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  test("the layers and the unpacked folder tell the same", async () => {
    const { contents } = await ensureSquashfs(image, folder);
    assert.equal(contentsDigest(await readRootContents(root)), contents);
    assert.equal(await checkRootfs(image, folder), contents);
    assert.equal(await checkRootfs(image, folder), contents, "by the stamp of before");
    assert.equal(await checkRootfs(image, folder, true), contents);
  });

  const gcc = () => join(root, "usr/bin/gcc");
  const shadow = (path: string) => new RegExp(`is not what it was: ${path} differs, below `);
  for (const [what, path, change, back] of [
    [
      "a file whose size and time are as they were",
      "usr/bin/cc",
      () => {
        const { mtime } = lstatSync(gcc());
        writeFileSync(gcc(), "trojan!!");
        utimesSync(gcc(), mtime, mtime);
      },
      () => writeFileSync(gcc(), "compiler"),
    ],
    ["a mode", "usr/bin/cc", () => chmodSync(gcc(), 0o700), () => chmodSync(gcc(), 0o755)],
    [
      "a link",
      "usr/lib",
      () => {
        unlinkSync(join(root, "usr/lib"));
        symlinkSync("/lib", join(root, "usr/lib"));
      },
      () => {
        unlinkSync(join(root, "usr/lib"));
        symlinkSync("../lib", join(root, "usr/lib"));
      },
    ],
    [
      "a file more",
      "usr/more",
      () => writeFileSync(join(root, "usr/more"), ""),
      () => unlinkSync(join(root, "usr/more")),
    ],
    [
      "a file less",
      "usr/empty",
      () => unlinkSync(join(root, "usr/empty")),
      () => writeFileSync(join(root, "usr/empty"), "", { mode: 0o644 }),
    ],
  ] as const)
    test(`${what} is found out, and named; without it all is well again`, async () => {
      change();
      await assert.rejects(checkRootfs(image, folder), { code: "image.altered", message: shadow(path) });
      back();
      await checkRootfs(image, folder);
    });

  test("a packed root that lost its list, or has another, is made again", async () => {
    const { contents, path } = await ensureSquashfs(image, folder);
    writeFileSync(`${path}.contents`, "other");
    assert.equal((await ensureSquashfs(image, folder)).contents, contents);
    assert.equal(contentsDigest(readFileSync(`${path}.contents`, "latin1")), contents);
  });
});
