// Stripped headers of this machine, taken for an image: made once, whole, and for both compilers the same lists of files as the headers
// themselves. `HPCC_ALL_HEADERS=1` compares every header alone, which takes minutes.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  appendFileSync,
  globSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, describe, it, test } from "node:test";
import { ascii } from "../base/byte-string.ts";
import { sha256 } from "../core/digest/digest.ts";
import { ensureStrippedHeaders } from "./stripped-headers.ts";

const folder = mkdtempSync(join(tmpdir(), "hpcc-headers-"));
const image = sha256(Buffer.from("an image"));
after(() => rmSync(folder, { recursive: true, force: true }));

/** An image's unpacked root, and the folder of images. */
function root(name: string, files: Readonly<Record<string, string>>): { rootfs: string; imageFolder: string } {
  const rootfs = join(folder, name, "rootfs");
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(rootfs, path)), { recursive: true });
    writeFileSync(join(rootfs, path), text);
  }
  return { rootfs, imageFolder: join(folder, name, "images") };
}

test("headers are stripped once, with their links, times and modes, wherever compilers look", async () => {
  const at = root("one", {
    "usr/include/a.h": "int a;\n#define A\n",
    "usr/include/sub/raw.h": 'R"(x)"\n',
    "usr/local/include/b.h": "int b;\n",
    "usr/lib/gcc/t/12/include/c.h": "int c;\n",
    "usr/lib/gcc/t/12/cc1": "int no;\n",
    "usr/lib/llvm-14/lib/clang/14/include/d.h": "int d;\n",
    "usr/lib/e.h": "int no;\n",
  });
  symlinkSync("../a.h", join(at.rootfs, "usr/include/sub/link.h"));
  linkSync(join(at.rootfs, "usr/include/a.h"), join(at.rootfs, "usr/include/same.h"));
  utimesSync(join(at.rootfs, "usr/include/a.h"), 1000, 2000);
  mkdirSync(join(at.rootfs, "opt"));
  symlinkSync("/usr/include", join(at.rootfs, "usr/lib/llvm-14/include"));
  const made = (await ensureStrippedHeaders(image, at))!;
  assert.deepEqual(
    made.folders,
    ["/usr/include", "/usr/lib/gcc/t/12/include", "/usr/lib/llvm-14/lib/clang/14/include", "/usr/local/include"].map(
      ascii,
    ),
  );
  const text = (path: string) => readFileSync(join(made.root, path), "latin1");
  assert.match(text("usr/include/a.h"), /^\n#define A\n\/\*[0-9a-f]{64}\*\/\n$/);
  assert.equal(text("usr/include/sub/raw.h"), 'R"(x)"\n');
  for (const path of ["usr/local/include/b.h", "usr/lib/gcc/t/12/include/c.h"])
    assert.match(text(path), /^\n\/\*[0-9a-f]{64}\*\/\n$/);
  assert.equal(readlinkSync(join(made.root, "usr/include/sub/link.h")), "../a.h");
  const [a, same] = ["a.h", "same.h"].map((name) => statSync(join(made.root, "usr/include", name)));
  assert.deepEqual([a!.ino, a!.mtimeMs, a!.mode & 0o777], [same!.ino, 2_000_000, 0o644]);
  assert.deepEqual(readdirSync(join(made.root, "usr/lib")).sort(), ["gcc", "llvm-14"]);
  assert.deepEqual(await ensureStrippedHeaders(image, at), made);
});

test("headers that were altered since are made anew, and those without a stamp are none", async () => {
  const at = root("two", { "usr/include/a.h": "#define A\n" });
  const made = (await ensureStrippedHeaders(image, at))!;
  const header = join(made.root, "usr/include/a.h");
  const before = readFileSync(header, "latin1");
  appendFileSync(header, "#define B\n");
  const again = (await ensureStrippedHeaders(image, at))!;
  assert.equal(readFileSync(header, "latin1"), before);
  assert.notEqual(again.stamp, made.stamp);
  rmSync(`${made.root}.stamp`);
  rmSync(header);
  assert.notEqual(await ensureStrippedHeaders(image, at), null);
  assert.equal(readFileSync(header, "latin1"), before);
});

test("an image without headers, or with what is no file among them, has none stripped", async () => {
  assert.equal(await ensureStrippedHeaders(image, root("three", { "usr/bin/x": "" })), null);
  const at = root("four", { "usr/include/a.h": "" });
  spawnSync("mkfifo", [join(at.rootfs, "usr/include/fifo")]);
  assert.ok(lstatSync(join(at.rootfs, "usr/include/fifo")).isFIFO());
  assert.equal(await ensureStrippedHeaders(image, at), null);
  assert.deepEqual(readdirSync(join(at.imageFolder, "headers")), []);
});

describe("lists by this machine's headers and by the same ones stripped", async () => {
  const made = (await ensureStrippedHeaders(sha256(Buffer.from("this machine")), {
    rootfs: "/",
    imageFolder: join(folder, "host"),
  }))!;
  const shown = made.folders.flatMap((path) => ["--ro-bind", made.root + path, path]);
  const headers = made.folders.flatMap((path) =>
    globSync(`${path}/**`, { withFileTypes: true }).flatMap((entry) =>
      entry.isFile() ? [join(entry.parentPath, entry.name)] : [],
    ),
  );
  const all = process.env["HPCC_ALL_HEADERS"] === "1";
  const chosen = headers.sort().filter((_, index) => all || index % 397 === 0);
  const standard = headers
    .map((path) => /^\/usr\/include\/c\+\+\/[0-9.]+\/([a-z_]+)$/.exec(path)?.[1])
    .filter((name) => name !== undefined);
  const everything = join(folder, "everything.cc");
  writeFileSync(everything, standard.map((name) => `#include <${name}>\n`).join(""));

  /** For each file its list, or the word that there is none, in one run of a shell. */
  const lists = (command: string, files: readonly string[], stripped: boolean): string[] => {
    const script = `for file; do ${command} -M "$file" 2>/dev/null || echo none; echo ----; done`;
    const words = ["--dev-bind", "/", "/", ...(stripped ? shown : []), "--", "sh", "-c", script, "sh", ...files];
    const ran = spawnSync("bwrap", words, { encoding: "latin1", maxBuffer: 1024 * 1024 * 1024 });
    assert.equal(ran.status, 0, ran.stderr);
    return ran.stdout.split("----\n").slice(0, -1);
  };

  for (const command of ["gcc -x c", "g++ -x c++", "clang -x c", "clang++ -x c++ -std=c++20"])
    it(command, () => {
      assert.ok(headers.length > 500 && chosen.length > 5 && standard.length > 50, `${headers.length}`);
      const files = [...chosen, everything];
      const [whole, stripped] = [false, true].map((by) => lists(command, files, by));
      assert.equal(whole!.length, files.length);
      let listed = 0;
      for (const [index, list] of whole!.entries()) {
        // What the headers as they are do not preprocess fails when it is compiled, whatever its list is.
        if (list.endsWith("none\n")) continue;
        listed += 1;
        assert.equal(stripped![index], list, files[index]);
      }
      assert.ok(listed > files.length / 3, `${listed} of ${files.length} can be listed`);
    });
});
