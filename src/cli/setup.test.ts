import assert from "node:assert/strict";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { byteStringOfText } from "../base/byte-string.ts";
import { HpccError } from "../base/errors.ts";
import type { Digest } from "../core/digest/digest.ts";
import type { ImageStore } from "../image/image-store.ts";
import { init, printInit } from "./init.ts";
import { printSetup, setup } from "./setup.ts";

let folder = "";
const started = process.cwd();
beforeEach(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), "hpcc-setup-")));
});
afterEach(() => {
  process.chdir(started);
  rmSync(folder, { recursive: true });
});

const program = (...parts: string[]) => {
  const path = join(folder, ...parts);
  mkdirSync(join(path, ".."), { recursive: true });
  writeFileSync(path, "#!/bin/sh\n");
  chmodSync(path, 0o755);
  return path;
};

describe("setup", () => {
  beforeEach(() => mkdirSync(join(folder, "home")));
  const run = (path: readonly string[], dir: string | null = null, uid = process.getuid!()) =>
    setup({
      uid,
      env: { HOME: join(folder, "home"), PATH: path.map((entry) => join(folder, entry)).join(":") },
      bundle: join(folder, "opt/lib/hpcc/hpcc.mjs"),
      folder: dir,
    });

  test("makes a link for each compiler on PATH, and nothing for what only looks like one", () => {
    const launcher = program("opt/bin/hpcc");
    for (const name of [
      "gcc",
      "g++",
      "cc",
      "gcc-12",
      "x86_64-linux-gnu-gcc",
      "clang++-14.0.6",
      "c99-gcc",
      "gcc-ar",
      "ccache",
      "ld",
    ])
      program("usr", name);
    program("more", "clang");
    const links = join(folder, "home/.local/share/hpcc/bin");
    const made = run(["usr", "none", "more"]);
    const names = ["cc", "clang", "clang++-14.0.6", "g++", "gcc", "gcc-12", "x86_64-linux-gnu-gcc"];
    assert.deepEqual(made, { launcher, folder: links, links: names, first_on_path: false });
    for (const name of names) assert.equal(readlinkSync(join(links, name)), launcher);
    assert.deepEqual(run(["home/.local/share/hpcc/bin", "usr", "more"]), { ...made, first_on_path: true });
    assert.equal(run(["usr", "home/.local/share/hpcc/bin", "more"]).first_on_path, false);
    for (const line of [
      `export PATH=${links}:"$PATH"`,
      `-DCMAKE_C_COMPILER_LAUNCHER=${launcher}`,
      `c = ['${launcher}', 'gcc']`,
      `CC="${launcher} gcc"`,
    ])
      assert.ok(printSetup(made).includes(line), line);
  });

  test("renews links of another hpcc, and replaces nothing else", () => {
    const launcher = program("opt/bin/hpcc");
    program("usr/gcc");
    program("usr/g++");
    const links = join(folder, "links");
    mkdirSync(links);
    symlinkSync("/old/bin/hpcc", join(links, "gcc"));
    assert.equal(run(["usr"], links).links.length, 2);
    assert.equal(readlinkSync(join(links, "gcc")), launcher);
    rmSync(join(links, "g++"));
    writeFileSync(join(links, "g++"), "mine");
    assert.throws(() => run(["usr"], links), { code: "argument.invalid" });
    assert.equal(readFileSync(join(links, "g++"), "utf8"), "mine");
    rmSync(join(links, "gcc"));
    assert.throws(() => run(["usr"], links), { code: "argument.invalid" });
    assert.deepEqual(readdirSync(links), ["g++"], "none is made where one cannot be");
  });

  test("leaves another user's home alone", () => {
    program("opt/bin/hpcc");
    program("usr/gcc");
    assert.throws(() => run(["usr"], null, 54_321), { code: "config.invalid", message: /no home folder of yours/ });
    assert.deepEqual(readdirSync(join(folder, "home")), []);
  });

  test("says what is missing", () => {
    assert.throws(() => run(["usr"]), { code: "tool.missing" });
    program("opt/bin/hpcc");
    assert.throws(() => run(["usr"]), { code: "tool.missing" });
  });
});

describe("init", () => {
  const digest = `sha256:${"a".repeat(64)}` as Digest;
  const other = `sha256:${"b".repeat(64)}` as Digest;
  const images = async () => {
    const list = [{ digest, tag: "tools", compilers: ["gcc-12 12.2"], sizeBytes: 1 }];
    const show = async (name: string) => {
      if (name === "other") return { digest: other };
      if (name === "tools") return { digest };
      throw new HpccError("image.missing", `no image ${name}`);
    };
    return { list: async () => list, show } as unknown as ImageStore;
  };
  const userConfig = () => join(folder, "config.toml");
  const run = (image: string | null) =>
    init({
      env: { HOME: folder, HPCC_CONFIG: userConfig() },
      folder: byteStringOfText(join(folder, "p/src")),
      image,
      images,
    });
  beforeEach(() => {
    mkdirSync(join(folder, "p/src"), { recursive: true });
    mkdirSync(join(folder, "p/.git"));
    writeFileSync(userConfig(), "");
    process.chdir(join(folder, "p/src"));
  });

  test("without an image nothing is written, and the images that there are are named", async () => {
    const report = await run(null);
    assert.deepEqual([report.file, report.image, report.root], [null, null, join(folder, "p")]);
    assert.match(printInit(report, "config"), /^No file is needed for .*\/p: [^]*hpcc init --image tools +# gcc-12/);
  });

  test("with one the project's root gets a file, and a user who has not allowed it is told how", async () => {
    const file = join(folder, "p/hpcc.toml");
    const report = await run("tools");
    assert.deepEqual([report.file, report.allowed], [file, false]);
    assert.match(readFileSync(file, "utf8"), new RegExp(`^image = "${digest}"$`, "m"));
    assert.match(
      printInit(report, userConfig()),
      new RegExp(`config\\.toml\\n[^]*images\\.allowed = \\["${digest}"\\]`),
    );
    writeFileSync(userConfig(), `images.allowed = ["${digest}"]\n`);
    const again = await run("tools");
    assert.deepEqual([again.file, again.allowed], [null, true]);
    assert.match(printInit(again, userConfig()), /is bound to .* already\.\n$/);
    assert.equal((await run(null)).image, digest);
    await assert.rejects(run("other"), { code: "argument.invalid" });
    await assert.rejects(run("none"), { code: "image.missing" });
  });
});
