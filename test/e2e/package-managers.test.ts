// Images of hosts whose packages are rpm's or pacman's: the real programs say what is installed, what it depends on and which files are
// whose, over databases that they made themselves of small packages.
import assert from "node:assert/strict";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { imageTree } from "../../src/image/flatten.ts";
import { buildImageFromHost } from "../../src/image/host/build-image.ts";
import { packageManagerOf } from "../../src/image/host/find-host-packages.ts";
import type { HostPackages } from "../../src/image/host/host-packages.ts";
import { pacmanPackages } from "../../src/image/host/pacman.ts";
import { rpmPackages } from "../../src/image/host/rpm.ts";
import { openImage } from "../../src/image/layout.ts";
import { PackagedHost, type SmallPackage } from "../support/packagers.ts";

const SKIP = process.arch === "x64" ? false : "the programs are there for x86-64 only";

interface Kind {
  readonly system: string;
  readonly manager: "rpm" | "pacman";
  readonly packages: (run: PackagedHost["ask"]) => HostPackages;
  readonly install: (host: PackagedHost, packages: readonly SmallPackage[]) => void;
  /** How a package says that it needs the library. */
  readonly library: string;
  readonly cxx: string;
}

const KINDS: readonly Kind[] = [
  {
    system: 'ID="rocky"\nID_LIKE="rhel centos fedora"\n',
    manager: "rpm",
    packages: rpmPackages,
    install: (host, packages) => host.installRpms(packages),
    library: "libmpc.so.3()(64bit)",
    cxx: "gcc-c++",
  },
  {
    system: "ID=arch\n",
    manager: "pacman",
    packages: pacmanPackages,
    install: (host, packages) => host.installPacmans(packages),
    library: "libmpc.so",
    cxx: "gcc-libs",
  },
];

for (const { system, manager, packages, install, library, cxx } of KINDS)
  test(`${manager}: packages, what they depend on, their files, and whose a file is`, { skip: SKIP }, async () => {
    using host = new PackagedHost();
    mkdirSync(join(host.root, "etc"), { recursive: true });
    mkdirSync(join(host.root, "usr/bin"), { recursive: true });
    writeFileSync(join(host.root, "etc/os-release"), system);
    symlinkSync("usr/bin", join(host.root, "bin"));
    install(host, [
      {
        name: "gcc",
        version: "14.2.1-3",
        depends: [library, cxx, "binutils >= 2.39".replaceAll(" ", manager === "pacman" ? "" : " ")],
        files: {
          "usr/bin/gcc": "driver",
          "usr/lib/gcc/14/cc1": "cc1",
          "usr/bin/cc": "-> gcc",
          "usr/share/man/man1/gcc.1": "x",
        },
      },
      { name: cxx, version: "14.2.1-3", depends: ["gcc"], files: { "usr/lib/gcc/14/cc1plus": "cc1plus" } },
      {
        name: "libmpc",
        version: "1.3.1-1",
        depends: [],
        provides: [manager === "pacman" ? `${library}=3-64` : library],
        files: { "usr/lib/libmpc.so.3": "mpc" },
      },
      {
        name: "binutils",
        version: "2.43-1",
        depends: ["bash"],
        files: { "usr/bin/as": "as", "usr/bin/ld": "-> /etc/alternatives/ld" },
      },
      { name: "bash", version: "5.2-1", depends: [], files: { "usr/bin/bash": "bash", "usr/bin/sh": "-> bash" } },
      { name: "unneeded", version: "1-1", depends: ["gcc"], files: { "usr/bin/unneeded": "x" } },
    ]);
    mkdirSync(join(host.root, "etc/alternatives"));
    symlinkSync("/usr/bin/ld.bfd", join(host.root, "etc/alternatives/ld"));
    assert.equal(packageManagerOf(host.root), manager);
    const source = { manager: packages(host.ask), root: host.root };
    const build = () =>
      buildImageFromHost(join(host.folder, "oci"), { compilers: ["gcc"], packages: [], tag: null }, source);
    const report = await build();
    assert.deepEqual(
      report.packages.map(({ name, version }) => `${name} ${version}`),
      ["bash 5.2-1", "binutils 2.43-1", "gcc 14.2.1-3", `${cxx} 14.2.1-3`, "libmpc 1.3.1-1"].sort(),
    );
    assert.deepEqual([report.missing, report.changed, report.refused], [[], [], []]);
    const tree = (await imageTree(await openImage(report.layoutFolder))).map(({ path, type, link }) =>
      type === "directory" ? "" : `${path}${type === "symlink" ? ` -> ${link}` : ""}`,
    );
    assert.deepEqual(tree.filter((entry) => entry !== "").sort(), [
      "bin -> usr/bin",
      "etc/alternatives/ld -> /usr/bin/ld.bfd",
      "etc/group",
      "etc/passwd",
      "usr/bin/as",
      "usr/bin/bash",
      "usr/bin/cc -> gcc",
      "usr/bin/gcc",
      "usr/bin/ld -> /etc/alternatives/ld",
      "usr/bin/sh -> bash",
      "usr/lib/gcc/14/cc1",
      "usr/lib/gcc/14/cc1plus",
      "usr/lib/libmpc.so.3",
    ]);
    assert.equal((await build()).digest, report.digest);
    assert.equal(await source.manager.ownerOf("/usr/lib/gcc/14/cc1plus"), cxx);
    assert.equal(await source.manager.ownerOf("/etc/os-release"), null);
    await assert.rejects(
      buildImageFromHost(join(host.folder, "oci"), { compilers: ["clang"], packages: [], tag: null }, source),
      new RegExp(`package clang is not installed here \\(${manager === "rpm" ? "dnf install" : "pacman -S"} clang\\)`),
    );
    if (manager !== "rpm") return;
    writeFileSync(join(host.root, "usr/bin/gcc"), "other!");
    assert.deepEqual((await build()).changed, ["/usr/bin/gcc"]);
  });
