// Real images of this machine's gcc and clang: the same digest twice, and programs that run in nothing but the image.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmod, lstat, mkdir, mkdtemp, readdir, readFile, readlink, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { ascii } from "../../base/byte-string.ts";
import { HpccError } from "../../base/errors.ts";
import { imageTree } from "../flatten.ts";
import { ImageStore } from "../image-store.ts";
import { ImageToolchain } from "../toolchain.ts";
import type { BuildReport } from "./build-image.ts";

const PLAIN_UID = 65534;
const HELLO = '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n';
const VECTOR =
  "#include <vector>\n#include <iostream>\nint main() { std::vector<int> v{1, 2}; std::cout << v.size() << '\\n'; }\n";

let folder: string;
let project: string;
let store: ImageStore;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "hpcc-image-"));
  await chmod(folder, 0o755);
  project = join(folder, "project");
  await mkdir(project);
  await writeFile(join(project, "hello.c"), HELLO);
  await writeFile(join(project, "vector.cc"), VECTOR);
  store = new ImageStore(join(folder, "images"));
});
after(() => rm(folder, { recursive: true, force: true }));

/** Runs a program with the image as the only file system. */
function inImage(rootfs: string, ...argv: string[]): string {
  const mounts = ["--ro-bind", rootfs, "/", "--bind", project, "/hpcc/project", "--tmpfs", "/tmp", "--proc", "/proc"];
  const dev = ["--tmpfs", "/dev", "--dev-bind", "/dev/null", "/dev/null"];
  const rest = ["--unshare-pid", "--clearenv", "--setenv", "PATH", "/usr/bin", "--setenv", "LC_ALL", "C.UTF-8"];
  const run = spawnSync("bwrap", [...mounts, ...dev, ...rest, "--chdir", "/hpcc/project", "--", ...argv], {
    encoding: "utf8",
  });
  assert.equal(run.status, 0, `${argv.join(" ")}: ${run.stderr}`);
  return run.stdout;
}

describe("gcc", () => {
  let report: BuildReport;
  let rootfs: string;

  before(async () => {
    report = await store.build({ compilers: ["gcc"], packages: ["zlib1g-dev"], tag: "tools" });
    rootfs = await store.rootfs(report.digest);
  });

  test("a second build elsewhere has the same digest", async () => {
    const other = new ImageStore(join(folder, "other"));
    const again = await other.build({ compilers: ["gcc"], packages: ["zlib1g-dev"], tag: null });
    assert.equal(again.digest, report.digest);
    const first = await store.squashfs(report.digest);
    const second = await other.squashfs(report.digest);
    assert.equal(second.digest, first.digest, "the packed root is deterministic too");
    assert.deepEqual(
      (await readdir(other.folder)).sort(),
      ["locks", "oci", "squashfs"],
      "made without unpacking anything",
    );
  });

  test("every listed file is there and as its package installed it", () => {
    assert.deepEqual([report.missing, report.refused], [[], []]);
    assert.ok(report.packages.some(({ name }) => name === "zlib1g-dev"));
    assert.ok(report.entries > 2000, String(report.entries));
  });

  test("compiles, links and runs C and C++ with nothing of the host", () => {
    inImage(rootfs, "gcc", "-c", "hello.c", "-o", "hello.o");
    inImage(rootfs, "cc", "hello.o", "-o", "hello");
    assert.equal(inImage(rootfs, "./hello"), "hello\n");
    inImage(rootfs, "g++", "-O2", "-flto", "vector.cc", "-o", "vector");
    assert.equal(inImage(rootfs, "./vector"), "2\n");
    inImage(rootfs, "c99", "-fsanitize=address", "hello.c", "-o", "asan");
    inImage(rootfs, "sh", "-c", "echo '#include <zlib.h>' | gcc -E -x c - > zlib.i");
  });

  test("messages have the quotes of C.UTF-8", () => {
    const run = inImage(rootfs, "sh", "-c", "echo 'int f(void) { return x; }' | gcc -c -x c - -o x.o 2>&1 || true");
    assert.match(run, /‘x’ undeclared/);
  });

  test("links of a merged /usr are kept", async () => {
    for (const name of ["bin", "lib", "lib64"]) assert.equal(await readlink(join(rootfs, name)), `usr/${name}`);
    assert.equal(await readlink(join(rootfs, "usr/bin/cc")), "/etc/alternatives/cc");
  });

  test("the unpacked root is what the layer says, entry by entry", async () => {
    const members = await imageTree(await store.open(report.digest));
    let seen = 0;
    for (const { path, type, mode, sizeBytes, link } of members) {
      const found = await lstat(join(rootfs, path));
      seen += 1;
      if (type === "symlink") assert.equal(await readlink(join(rootfs, path)), link, path);
      else assert.equal(found.mode & 0o7777, mode, path);
      if (type === "file") assert.equal(found.size, sizeBytes, path);
    }
    const there = spawnSync("find", [rootfs, "-mindepth", "1", "-printf", "."], { encoding: "utf8" }).stdout;
    assert.equal(there.length, seen);
    const header = await readFile(join(rootfs, "usr/include/stdio.h"));
    assert.ok(header.equals(await readFile("/usr/include/stdio.h")));
  });

  test("ls, show and names", async () => {
    assert.deepEqual(
      (await store.list()).map(({ digest, tag }) => ({ digest, tag })),
      [{ digest: report.digest, tag: "tools" }],
    );
    const shown = await store.show("tools");
    assert.ok(
      shown.compilers.some((entry) => /^gcc-\d+ \d/.test(entry)),
      shown.compilers.join(),
    );
    assert.equal(shown.rootfs, rootfs);
    assert.equal((await store.find(report.digest.slice(7, 19))).digest, report.digest);
    await assert.rejects(store.find("none"), (error) => error instanceof HpccError && error.code === "image.missing");
  });

  test("compilers of the image by the names that builds use", () => {
    const tools = new ImageToolchain(rootfs, ["PATH=/usr/bin:/bin"]);
    for (const name of ["gcc", "cc", "g++", "c++", "/usr/bin/gcc", "/bin/cc", "x86_64-linux-gnu-gcc"]) {
      const found = tools.find(ascii(name));
      if (process.arch === "x64" || !name.startsWith("x86")) assert.equal(found?.family, "gcc", name);
    }
    assert.equal(tools.find(ascii("g++"))?.path, "/usr/bin/g++");
    for (const name of ["clang", "ld", "gcc-ar", "c99", "./gcc", "nothing"])
      assert.equal(tools.find(ascii(name)), null, name);
  });

  test("a damaged squashfs is made again, and callers at once get one", async () => {
    const image = await store.open(report.digest);
    const { path, digest } = await store.squashfs(image.digest);
    const bytes = await readFile(path);
    await writeFile(path, bytes.fill(0, 5000, 6000));
    const all = await Promise.all([store.squashfs(image.digest), store.squashfs(image.digest)]);
    assert.deepEqual(
      all.map((made) => made.digest),
      [digest, digest],
    );
    assert.deepEqual((await readdir(join(store.folder, "squashfs"))).sort(), [
      `${image.digest.slice(7)}.sqfs`,
      `${image.digest.slice(7)}.sqfs.contents`,
      `${image.digest.slice(7)}.sqfs.json`,
    ]);
  });

  const skip = process.getuid?.() === 0 ? false : "needs root to become another user";
  test("a plain user unpacks it", { skip }, async () => {
    const images = join(folder, "plain");
    await mkdir(images);
    await chmod(images, 0o777);
    const module = JSON.stringify(new URL("../rootfs.ts", import.meta.url).href);
    const layout = JSON.stringify(new URL("../layout.ts", import.meta.url).href);
    const script = `
      import { ensureRootfs } from ${module};
      import { openImage } from ${layout};
      const image = await openImage(${JSON.stringify(report.layoutFolder)});
      const paths = await Promise.all([ensureRootfs(image, ${JSON.stringify(images)}), ensureRootfs(image, ${JSON.stringify(images)})]);
      console.log(paths[0]);`;
    const user = [`--reuid=${PLAIN_UID}`, `--regid=${PLAIN_UID}`, "--clear-groups"];
    const args = [...user, process.execPath, "--input-type=module-typescript", "-e", script];
    const run = spawnSync("setpriv", args, { encoding: "utf8", cwd: "/" });
    assert.equal(run.status, 0, run.stderr);
    const found = await lstat(
      join(run.stdout.trim(), "usr/bin/x86_64-linux-gnu-gcc-12").replace("x86_64-linux-gnu-gcc-12", "dash"),
    );
    assert.equal(found.uid, PLAIN_UID);
  });
});

test("clang compiles and links C and C++", async () => {
  const report = await store.build({ compilers: ["clang"], packages: [], tag: "tools" });
  const rootfs = await store.rootfs(report.digest);
  inImage(rootfs, "clang", "hello.c", "-o", "hello");
  assert.equal(inImage(rootfs, "./hello"), "hello\n");
  inImage(rootfs, "clang++", "-O2", "vector.cc", "-o", "vector");
  assert.equal(inImage(rootfs, "./vector"), "2\n");
  const tools = new ImageToolchain(rootfs);
  for (const name of ["clang", "clang++", "cc", "c++"]) assert.equal(tools.find(ascii(name))?.family, "clang", name);
  assert.equal(tools.find(ascii("gcc")), null);
  const tagged = (await store.list()).filter((image) => image.tag === "tools");
  assert.deepEqual(
    tagged.map((image) => image.digest),
    [report.digest],
    "a tag names one image",
  );
});

test("a package that is not installed is named", async () => {
  await assert.rejects(
    store.build({ compilers: ["gcc"], packages: ["no-such-package"], tag: null }),
    (error) => error instanceof HpccError && error.code === "argument.invalid" && /no-such-package/.test(error.message),
  );
});
