import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { ascii } from "../base/byte-string.ts";
import { loadClientConfig } from "../config/client.ts";
import { PROJECT_ROOT } from "../core/compile/view/view.ts";
import { ImageToolchain } from "../image/toolchain.ts";
import { plannedCompilers } from "./planned-compilers.ts";

test("a plan gives prefix maps to all but compilers whose names say that they take none", () => {
  const rootfs = mkdtempSync(join(tmpdir(), "hpcc-planned-"));
  try {
    for (const path of [
      "usr/bin/x86_64-linux-gnu-gcc-7",
      "usr/bin/gcc-12",
      "usr/bin/gcc-4.8.5",
      "usr/bin/g++",
      "usr/lib/llvm-9/bin/clang",
    ]) {
      mkdirSync(dirname(join(rootfs, path)), { recursive: true });
      writeFileSync(join(rootfs, path), "\x7fELF", { mode: 0o755 });
    }
    symlinkSync("../lib/llvm-9/bin/clang", join(rootfs, "usr/bin/clang-9"));
    mkdirSync(join(rootfs, "opt/llvm-19/bin"), { recursive: true });
    writeFileSync(join(rootfs, "opt/llvm-19/bin/clang"), "\x7fELF", { mode: 0o755 });
    const directories = { runtime: "/x", state: "/x", cache: "/x", images: "/x", userConfig: "/x", systemConfig: "/x" };
    const { config } = loadClientConfig({ env: {}, projectRoot: null, directories });
    const view = { roots: [{ host: ascii("/home/p"), guest: PROJECT_ROOT }] };
    const planned = plannedCompilers(config, new ImageToolchain(rootfs), view);
    assert.deepEqual(
      planned.map(({ name, arguments: words }) => [name, words.includes(ascii("-ffile-prefix-map=/home/p=."))]),
      [
        ["clang-9", false],
        ["g++", true],
        ["gcc-12", true],
        ["gcc-4.8.5", false],
        ["x86_64-linux-gnu-gcc-7", false],
        ["clang", true],
      ],
    );
  } finally {
    rmSync(rootfs, { recursive: true });
  }
});
