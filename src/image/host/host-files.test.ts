import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ascii, type ByteString } from "../../base/byte-string.ts";
import { HostFiles, isSkipped } from "./host-files.ts";

let root: string;

before(async () => {
  root = await mkdtemp(join(tmpdir(), "hpcc-host-"));
  for (const folder of ["usr/lib/multi", "usr/bin", "etc/alternatives", "var/lib/dpkg/alternatives", "data"])
    await mkdir(join(root, folder), { recursive: true });
  await symlink("usr/lib", join(root, "lib"));
  await symlink("usr/bin", join(root, "bin"));
  await symlink("/data", join(root, "usr/moved"));
  await writeFile(join(root, "usr/lib/multi/libc.so.6"), "libc");
  await chmod(join(root, "usr/lib/multi/libc.so.6"), 0o4755);
  await symlink("libc.so.6", join(root, "usr/lib/multi/libc.so"));
  await writeFile(join(root, "data/header.h"), "int x;");
  await writeFile(join(root, "usr/bin/gcc"), "gcc");
  await writeFile(join(root, "var/lib/dpkg/alternatives/cc"), "auto\n/usr/bin/cc\n\n/usr/bin/gcc\n20\n\n");
  execFileSync("mkfifo", [join(root, "usr/bin/pipe")]);
});
after(() => rm(root, { recursive: true, force: true }));

const add = (...paths: string[]) => {
  const files = new HostFiles(root);
  for (const path of paths) files.add(ascii(path));
  files.addParents();
  return files;
};
const get = (files: HostFiles, path: string) => files.entries.get(ascii(path));

test("a path through a link keeps the link and puts the file at its real place", () => {
  const files = add("/lib/multi/libc.so.6", "/lib/multi/libc.so");
  assert.deepEqual(get(files, "/lib"), { t: "symlink", target: "usr/lib" });
  assert.equal(get(files, "/lib/multi/libc.so.6"), undefined);
  assert.equal(get(files, "/usr/lib/multi/libc.so.6")?.t, "file");
  assert.deepEqual(get(files, "/usr/lib/multi/libc.so"), { t: "symlink", target: "libc.so.6" });
  assert.equal(get(files, "/usr/lib")?.t, "directory", "folders that nobody listed are there");
});

test("an absolute link on the way leads within the root", () => {
  const files = add("/usr/moved/header.h");
  assert.deepEqual(get(files, "/usr/moved"), { t: "symlink", target: "/data" });
  assert.equal(get(files, "/data/header.h")?.t, "file");
});

test("set-user-id bits are dropped", () => {
  const entry = get(add("/lib/multi/libc.so.6"), "/usr/lib/multi/libc.so.6");
  assert.equal(entry?.t === "file" && entry.mode, 0o755);
});

test("what is missing or of no use in an image is reported", () => {
  const files = add("/usr/bin/absent", "/no/such/folder", "/usr/bin/pipe", "/usr/share/man/man1/gcc.1.gz");
  assert.deepEqual(files.missing, ["/usr/bin/absent", "/no/such/folder"]);
  assert.deepEqual(files.refused, ["/usr/bin/pipe"]);
});

test("documentation is skipped, copyright files are not", () => {
  assert.equal(isSkipped("/usr/share/doc/gcc/README"), true);
  assert.equal(isSkipped("/usr/share/doc/gcc/copyright"), false);
  assert.equal(isSkipped("/usr/share/locale/de/x.mo"), true);
  assert.equal(isSkipped("/usr/share/manifest"), false);
});

test("alternatives and aliases of the root folder", () => {
  const files = add("/bin/gcc");
  files.addRootAliases();
  files.addAlternatives();
  assert.deepEqual(get(files, "/usr/bin/cc"), { t: "symlink", target: "/etc/alternatives/cc" });
  assert.deepEqual(get(files, "/etc/alternatives/cc"), { t: "symlink", target: "/usr/bin/gcc" });
  assert.equal(get(files, "/lib")?.t, "symlink");
  for (const [path, there] of Object.entries({ "/bin/gcc": true, "/bin/cc": true, "/bin/ld": false, "/lib/x": false }))
    assert.equal(files.has(path as ByteString), there, path);
});
