import assert from "node:assert/strict";
import { test } from "node:test";
import { HpccError } from "../base/errors.ts";
import type { Digest } from "../core/digest/digest.ts";
import { ImageStore } from "../image/image-store.ts";
import { imageBuild, imageLs, printImageBuild, printImageDetails, printImageList } from "./image.ts";

const digest = `sha256:${"a".repeat(64)}` as Digest;
const store = new ImageStore("/nonexistent/images");

test("a build has to say where it builds from, and a tag cannot look like a digest", async () => {
  const options = { fromHost: true, compilers: [], with: [], buildTools: false, tag: null };
  const refused = (change: object) =>
    assert.rejects(
      imageBuild(store, { ...options, ...change }),
      (error) => error instanceof HpccError && error.code === "argument.invalid",
    );
  await refused({ fromHost: false });
  for (const tag of ["", "a b", "../x", "deadbeef", "-x"]) await refused({ tag });
});

test("no images yet: the list says how to make one", async () => {
  assert.match(printImageList(await imageLs(store)), /hpcc image build --from-host/);
});

const use = { bytes: 7 * 1024 * 1024, usedMs: null, pulledAs: null, pinned: false, inUse: false };

test("a table of images, without control characters of a foreign index", () => {
  const text = printImageList([
    { digest, tag: "x\u001b[31m", compilers: ["gcc-12 12.2"], sizeBytes: 3 * 1024 * 1024, use: null },
    { digest, tag: null, compilers: [], sizeBytes: 0, use: { ...use, usedMs: Date.UTC(2026, 2, 1), pinned: true } },
    { digest, tag: null, compilers: [], sizeBytes: 0, use: { ...use, inUse: true } },
  ]);
  assert.deepEqual(text.split("\n"), [
    `TAG     DIGEST${" ".repeat(67)}ON DISK  USED                COMPILERS`,
    `x?[31m  ${digest}  3.0 MiB  -                   gcc-12 12.2`,
    `-       ${digest}  7.0 MiB  2026-03-01, pinned  -`,
    `-       ${digest}  7.0 MiB  in use              -`,
    "",
  ]);
});

test("a build's findings are named, many of them shortened", () => {
  const paths = Array.from({ length: 25 }, (_, at) => `/p${at}`);
  const sizes = { entries: 1, sizeBytes: 1024 * 1024, layerBytes: 1024 * 512 };
  const text = printImageBuild({
    digest,
    layoutFolder: "/l",
    packages: [],
    ...sizes,
    missing: paths,
    changed: ["/c"],
    refused: [],
  });
  assert.match(text, /25 paths listed by a package and not on this machine:\n {2}\/p0\n/);
  assert.match(text, /\.\.\. and 5 more\n1 paths differ/);
});

test("details name what was made of an image", () => {
  const text = printImageDetails({
    digest,
    tag: "gcc",
    compilers: ["gcc 12"],
    sizeBytes: 1,
    layoutFolder: "/l",
    platform: "linux/amd64",
    system: "debian 12\u001b[31m",
    found: ["gcc", "/opt/x/bin/gcc"],
    environment: ["PATH=/usr/bin"],
    packages: ["gcc=12"],
    layers: [{ digest, diffId: digest, sizeBytes: 1 }],
    squashfs: null,
    rootfs: "/r",
  });
  assert.match(text, /^system {4}debian 12\?\[31m\n.*\ncalled {4}gcc \/opt\/x\/bin\/gcc$/m);
  assert.match(text, /squashfs {2}not made yet\nrootfs {4}\/r\nenv {7}PATH=\/usr\/bin\nlayer/);
});
