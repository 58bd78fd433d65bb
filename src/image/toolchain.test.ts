import assert from "node:assert/strict";
import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ascii, byteStringOfText } from "../base/byte-string.ts";
import { resolveInImage } from "./image-path.ts";
import { familyOfProgram, ImageToolchain } from "./toolchain.ts";

let rootfs: string;

before(async () => {
  rootfs = await mkdtemp(join(tmpdir(), "hpcc-toolchain-"));
  for (const folder of ["usr/bin", "usr/lib/llvm/bin", "opt/gcc/bin", "etc/alternatives"])
    await mkdir(join(rootfs, folder), { recursive: true });
  await symlink("usr/bin", join(rootfs, "bin"));
  const program = async (path: string, content: string, mode = 0o755) => {
    await writeFile(join(rootfs, path), content);
    await chmod(join(rootfs, path), mode);
  };
  await program("usr/bin/x86_64-linux-gnu-gcc-12", "\x7fELF");
  await program("usr/lib/llvm/bin/clang", "\x7fELF");
  await program("opt/gcc/bin/g++", "\x7fELF");
  await program("usr/bin/c99-gcc", "#!/bin/sh\n");
  await program("usr/bin/gcc-7", "\x7fELF", 0o644);
  await symlink("x86_64-linux-gnu-gcc-12", join(rootfs, "usr/bin/gcc"));
  await symlink("/etc/alternatives/cc", join(rootfs, "usr/bin/cc"));
  await symlink("/usr/bin/gcc", join(rootfs, "etc/alternatives/cc"));
  await symlink("../lib/llvm/bin/clang", join(rootfs, "usr/bin/clang++"));
  await symlink("../../../../../../../../bin/sh", join(rootfs, "usr/bin/gcc-9"));
  await symlink("gcc-8", join(rootfs, "usr/bin/gcc-8"));
});
after(() => rm(rootfs, { recursive: true, force: true }));

test("links lead within the image", () => {
  const root = byteStringOfText(rootfs);
  assert.equal(resolveInImage(root, ascii("/bin/cc")), "/usr/bin/x86_64-linux-gnu-gcc-12");
  assert.equal(resolveInImage(root, ascii("/usr/bin/gcc-9")), null, "the host's /bin/sh is not the image's");
  assert.equal(resolveInImage(root, ascii("/usr/bin/gcc-8")), null, "a link to itself");
  assert.equal(resolveInImage(root, ascii("/usr/bin/gcc/x")), null);
  assert.equal(resolveInImage(root, ascii("/../../usr")), "/usr");
});

test("a name as called, its path in the image and its family", () => {
  const tools = new ImageToolchain(rootfs, ["HOME=/", "PATH=/opt/gcc/bin:/usr/bin"]);
  assert.deepEqual(tools.find(ascii("cc")), {
    path: "/usr/bin/cc",
    resolved: "/usr/bin/x86_64-linux-gnu-gcc-12",
    family: "gcc",
  });
  assert.deepEqual(tools.find(ascii("clang++")), {
    path: "/usr/bin/clang++",
    resolved: "/usr/lib/llvm/bin/clang",
    family: "clang",
  });
  assert.equal(tools.find(ascii("g++"))?.path, "/opt/gcc/bin/g++");
  assert.equal(tools.find(ascii("/bin/gcc"))?.path, "/bin/gcc");
});

test("all compilers: by name on PATH or where the name is the only one, else by path", async () => {
  const program = async (path: string) => {
    await mkdir(join(rootfs, path, ".."), { recursive: true });
    await writeFile(join(rootfs, path), "\x7fELF", { mode: 0o755 });
  };
  for (const path of [
    "opt/arm/bin/arm-none-eabi-gcc",
    "opt/rh/gcc-toolset-13/root/usr/bin/gcc",
    "opt/two/bin/gcc-13",
    "usr/local/three/bin/gcc-13",
    "usr/bin/x86_64-w64-mingw32-g++-win32",
    "usr/bin/gcc-posix-ar",
  ])
    await program(path);
  const tools = new ImageToolchain(rootfs, ["PATH=/usr/bin:/bin:/nowhere"]);
  assert.deepEqual(tools.folders, ["/usr/bin", "/bin"]);
  const all = [...tools.all()].map(({ name, path }) => `${name ?? "-"} ${path}`);
  assert.deepEqual(all, [
    "cc /usr/bin/cc",
    "clang++ /usr/bin/clang++",
    "gcc /usr/bin/gcc",
    "x86_64-linux-gnu-gcc-12 /usr/bin/x86_64-linux-gnu-gcc-12",
    "x86_64-w64-mingw32-g++-win32 /usr/bin/x86_64-w64-mingw32-g++-win32",
    "arm-none-eabi-gcc /opt/arm/bin/arm-none-eabi-gcc",
    "g++ /opt/gcc/bin/g++",
    "- /opt/two/bin/gcc-13",
    "- /opt/rh/gcc-toolset-13/root/usr/bin/gcc",
    "- /usr/local/three/bin/gcc-13",
  ]);
  assert.equal(tools.find(ascii("gcc-13")), null, "nothing says which of the two is meant");
  assert.equal(tools.find(ascii("/opt/two/bin/gcc-13"))?.path, "/opt/two/bin/gcc-13");
});

test("a program of the image is one that may be executed, whatever it is", () => {
  const tools = new ImageToolchain(rootfs, ["PATH=/opt/gcc/bin:/usr/bin"]);
  assert.deepEqual(tools.folders, ["/opt/gcc/bin", "/usr/bin"]);
  for (const [name, path] of [
    ["c99-gcc", "/usr/bin/c99-gcc"],
    ["g++", "/opt/gcc/bin/g++"],
    ["cc", "/usr/bin/cc"],
    ["gcc-7", null],
    ["gcc-8", null],
    ["gcc-9", null],
    ["llvm", null],
    ["/usr/bin/cc", null],
    ["", null],
    ["g".repeat(300), null],
  ] as const)
    assert.equal(tools.program(ascii(name)), path, name);
});

test("what is no compiler of the image is none", () => {
  const tools = new ImageToolchain(rootfs, []);
  for (const name of [
    "c99-gcc",
    "gcc-7",
    "gcc-9",
    "bin/gcc",
    "",
    "ld",
    "clang",
    "gcc\0",
    "/usr/bin/gcc\0",
    "g".repeat(300),
    `/${"d/".repeat(3000)}gcc`,
  ])
    assert.equal(tools.find(ascii(name)), null, name);
});

test("a PATH of the image that cannot be followed leads to no compiler", () => {
  const tools = new ImageToolchain(rootfs, [`PATH=/\0:/${"n".repeat(300)}:/usr/bin`]);
  assert.equal(tools.find(ascii("gcc"))?.path, "/usr/bin/gcc");
});

test("families by name", () => {
  const families = Object.entries({
    gcc: "gcc",
    "g++-12": "gcc",
    "aarch64-linux-gnu-gcc-12.2": "gcc",
    "c++": "gcc",
    clang: "clang",
    "clang++-14": "clang",
    "gcc-ar-12": null,
    "x86_64-w64-mingw32-gcc-posix": "gcc",
    "x86_64-w64-mingw32-g++-win32": "gcc",
    "x86_64-w64-mingw32-gcc-12-win32": "gcc",
    "x86_64-w64-mingw32-gcc-ar-posix": null,
    "clang-tidy": null,
    "clang-cpp": null,
    cpp: null,
    mygcc: null,
  });
  for (const [name, family] of families) assert.equal(familyOfProgram(name), family, name);
});
