// What rpm, pacman and apk print, as they print it; the real rpm and pacman are asked in test/e2e/package-managers.test.ts.
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { apkPackages, parseApkBlocks, parseApkList } from "./apk.ts";
import { dependencyClosure, rootPackages } from "./dependency-closure.ts";
import { packageManagerOf } from "./find-host-packages.ts";
import type { RunTool } from "./host-packages.ts";
import { parsePacmanFiles, parsePacmanPackages } from "./pacman.ts";
import { parseRpmFiles, parseRpmPackages, rpmPackages } from "./rpm.ts";

test("rpm: epochs, architectures, capabilities; conditions and rpm's own are left out", () => {
  const text =
    "gcc\tx86_64\t0:14.2.1-3.fc41\tcpp|libmpc.so.3()(64bit)|rpmlib(CompressedFileNames)|(annobin if redhat-rpm-config)|cpp|\tgcc|gcc(x86-64)|\n" +
    "gpg-pubkey\t(none)\t0:1-2\t(none)|\t(none)|\n" +
    "perl\tnoarch\t4:5.40-1\t\t(none)|\n";
  assert.deepEqual(parseRpmPackages(text), [
    {
      name: "gcc",
      architecture: "x86_64",
      version: "14.2.1-3.fc41",
      depends: [["cpp"], ["libmpc.so.3()(64bit)"]],
      provides: ["gcc", "gcc(x86-64)"],
    },
    { name: "perl", architecture: "noarch", version: "4:5.40-1", depends: [], provides: [] },
  ]);
  const hex = "a".repeat(64);
  assert.deepEqual(parseRpmFiles(`\t/usr/lib/gcc\n${hex}\t/usr/bin/gcc\n\n(none)\n`), [
    { path: "/usr/lib/gcc", digest: null },
    { path: "/usr/bin/gcc", digest: { algorithm: "sha256", hex } },
  ]);
  for (const [compiler, partners] of [
    ["gcc", ["gcc-c++"]],
    ["gcc14", ["gcc14-c++"]],
    ["gcc-toolset-14-gcc", ["gcc-toolset-14-gcc-c++"]],
    ["clang", []],
  ] as const)
    assert.deepEqual(rpmPackages().partners(compiler), partners);
});

test("pacman: fields by name, versions of what is needed left out, folders without their slash", () => {
  const text = `Name            : gcc
Version         : 14.2.1+r134+gab884fffe3fc-1
Description     : The GNU Compiler Collection - C and C++ frontends
Architecture    : x86_64
URL             : https://gcc.gnu.org
Provides        : gcc-multilib
Depends On      : gcc-libs=14.2.1+r134+gab884fffe3fc-1  binutils>=2.28  libmpc.so=3-64
Optional Deps   : lib32-gcc-libs: for generating code for 32-bit ABI

Name            : binutils
Version         : 2.43-1
Architecture    : x86_64
Provides        : None
Depends On      : None
`;
  assert.deepEqual(parsePacmanPackages(text), [
    {
      name: "gcc",
      architecture: "x86_64",
      version: "14.2.1+r134+gab884fffe3fc-1",
      depends: [["gcc-libs"], ["binutils"], ["libmpc.so"]],
      provides: ["gcc-multilib"],
    },
    { name: "binutils", architecture: "x86_64", version: "2.43-1", depends: [], provides: [] },
  ]);
  const files = "gcc /usr/\ngcc /usr/bin/\ngcc /usr/bin/with space\ngcc-libs /usr/lib/x\n";
  assert.deepEqual(parsePacmanFiles(files, "gcc"), ["/usr", "/usr/bin", "/usr/bin/with space"]);
});

/** Answers of an Alpine with these words. */
const APK: Readonly<Record<string, string>> = {
  "list --installed": `WARNING: opening from cache https://example.com: No such file or directory
gcc-13.2.1_git20240309-r0 x86_64 {gcc} (GPL-2.0-or-later LGPL-2.1-or-later) [installed]
g++-13.2.1_git20240309-r0 x86_64 {gcc} (GPL-2.0-or-later) [installed]
libstdc++-13.2.1_git20240309-r0 x86_64 {gcc} (GPL-2.0-or-later) [installed]
musl-1.2.5-r0 x86_64 {musl} (MIT) [installed]
musl-dev-1.2.5-r0 x86_64 {musl} (MIT) [installed]
busybox-1.36.1-r29 x86_64 {busybox} (GPL-2.0-only) [installed]
`,
  "info --depends gcc g++ libstdc++ musl musl-dev busybox": `gcc-13.2.1_git20240309-r0 depends on:
so:libc.musl-x86_64.so.1

g++-13.2.1_git20240309-r0 depends on:
libstdc++=13.2.1_git20240309-r0
gcc=13.2.1_git20240309-r0
!gcc6

libstdc++-13.2.1_git20240309-r0 depends on:
so:libc.musl-x86_64.so.1

musl-1.2.5-r0 depends on:

musl-dev-1.2.5-r0 depends on:
musl=1.2.5-r0

busybox-1.36.1-r29 depends on:
so:libc.musl-x86_64.so.1

`,
  "info --provides gcc g++ libstdc++ musl musl-dev busybox": `gcc-13.2.1_git20240309-r0 provides:
cmd:gcc=13.2.1_git20240309-r0

musl-1.2.5-r0 provides:
so:libc.musl-x86_64.so.1=1

`,
  "info --contents gcc":
    "gcc-13.2.1_git20240309-r0 contains:\nusr/bin/gcc\nusr/libexec/gcc/x86_64-alpine-linux-musl/13.2.1/cc1\n\n",
  "info --who-owns /usr/bin/gcc": "/usr/bin/gcc is owned by gcc-13.2.1_git20240309-r0\n",
  "info --who-owns /bin/sh": "/bin/sh symlink target is owned by busybox-1.36.1-r29\n",
  "--print-arch": "x86_64\n",
};

test("apk: packages by the libraries that they need, files, owners", async () => {
  const run: RunTool = async (program, args) => {
    const said = APK[args.join(" ")];
    assert.equal(program, "apk");
    return { exitCode: said === undefined ? 1 : 0, stdout: Buffer.from(said ?? ""), stderr: "" };
  };
  const apk = apkPackages(run);
  const installed = await apk.installed();
  const roots = rootPackages(installed, { compilers: ["gcc"], packages: [] }, apk);
  assert.deepEqual(roots, ["musl-dev", "busybox", "gcc", "g++"]);
  const packages = dependencyClosure(installed, roots, { ...apk, native: await apk.native() });
  assert.deepEqual(
    packages.map(({ name }) => name),
    ["busybox", "g++", "gcc", "libstdc++", "musl", "musl-dev"],
  );
  assert.deepEqual(await apk.files(installed[0]!), [
    "/usr/bin/gcc",
    "/usr/libexec/gcc/x86_64-alpine-linux-musl/13.2.1/cc1",
  ]);
  assert.equal(await apk.ownerOf("/usr/bin/gcc"), "gcc");
  assert.equal(await apk.ownerOf("/bin/sh"), "busybox");
  assert.equal(await apk.ownerOf("/nowhere"), null);
  assert.deepEqual(parseApkList("gcc [installed]\nx-1-r0 x86_64 {x} (MIT)\n"), []);
  assert.deepEqual([...parseApkBlocks("rubbish\n")], []);
});

test("the package manager of a machine: by its system, then by whose database is there", () => {
  const root = mkdtempSync(join(tmpdir(), "hpcc-managers-"));
  const put = (path: string, text = "") => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  };
  try {
    assert.equal(packageManagerOf(root), null);
    put("lib/apk/db/installed");
    assert.equal(packageManagerOf(root), "apk");
    // A Fedora with Debian's tools installed, and the other way round.
    put("var/lib/dpkg/status");
    put("var/lib/rpm/rpmdb.sqlite");
    put("usr/lib/os-release", 'ID="rocky"\nID_LIKE="rhel centos fedora"\n');
    assert.equal(packageManagerOf(root), "rpm");
    put("etc/os-release", "ID=ubuntu\nID_LIKE=debian\n");
    assert.equal(packageManagerOf(root), "dpkg");
    put("etc/os-release", "ID=alpine\n");
    assert.equal(packageManagerOf(root), "apk");
    put("etc/os-release", "ID=arch\n");
    assert.equal(packageManagerOf(root), "dpkg", "it has no database of pacman's");
  } finally {
    rmSync(root, { recursive: true });
  }
});
