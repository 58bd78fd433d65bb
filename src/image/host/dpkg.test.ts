import assert from "node:assert/strict";
import { test } from "node:test";
import { HpccError } from "../../base/errors.ts";
import { alternativeLinks, parseAlternativeGroup } from "./alternatives.ts";
import { dependencyClosure, rootPackages } from "./dependency-closure.ts";
import { dpkgPackages, listedPaths, ownerOf, parseDependencies, parsePackages } from "./dpkg.ts";
import { packageOfFile } from "./find-host-packages.ts";

const LINES = [
  "gcc\tamd64\tii \t4:12\t, cpp (= 4:12), gcc-12 (>= 12.2.0-1~)\t",
  "gcc-12\tamd64\tii \t12.2\t, libc6:any (>= 2.36), libx | liby, debconf (>= 0.5) | debconf-2.0\t",
  "g++\tamd64\tii \t4:12\t, gcc\tc++-compiler",
  "cpp\tamd64\tii \t4:12\t, libc6\tc-preprocessor (= 1)",
  "libc6\ti386\tii \t2.36-i386\t, libgcc-s1\t",
  "libc6\tamd64\tii \t2.36\t, libgcc-s1\t",
  "libgcc-s1\tamd64\tii \t12\t, libc6\t",
  "liby\tamd64\thi \t1\t, \tlibvirtual",
  "libx\tamd64\trc \t1\t, \t",
  "debconf\tall\tii \t1\t, \t",
  "usesvirtual\tall\tii \t1\tlibvirtual, \t",
  "",
].join("\n");

const closure = (roots: string[]) =>
  dependencyClosure(parsePackages(LINES), roots, { ...dpkgPackages(), native: "amd64" });
const names = (roots: string[]) => closure(roots).map((found) => found.name);

test("dependency fields: versions, architectures and alternatives", () => {
  assert.deepEqual(parseDependencies(", a (>= 1:2~), b:any | c [amd64] <!nocheck>, , d"), [["a"], ["b", "c"], ["d"]]);
  assert.deepEqual(parseDependencies(""), []);
});

test("the closure takes installed alternatives, follows circles and skips tools of maintainer scripts", () => {
  assert.deepEqual(names(["gcc"]), ["cpp", "gcc", "gcc-12", "libc6", "libgcc-s1", "liby"]);
  assert.deepEqual(names(["usesvirtual"]), ["liby", "usesvirtual"]);
  assert.deepEqual(names(["c++-compiler"]).includes("g++"), true);
});

test("of several architectures this machine's is taken", () => {
  const [libc] = closure(["libc6"]);
  assert.equal(libc?.version, "2.36");
});

test("a package that is not installed is named", () => {
  assert.throws(
    () => names(["libx"]),
    (error) =>
      error instanceof HpccError && error.code === "argument.invalid" && /libx is not installed/.test(error.message),
  );
});

test("gcc brings g++ of the same version; names that are options are refused", () => {
  const installed = parsePackages(LINES);
  const roots = (compilers: string[], packages: string[] = []) =>
    rootPackages(installed, { compilers, packages }, dpkgPackages());
  assert.deepEqual(roots(["gcc"], ["liby"]), ["liby", "gcc", "g++"]);
  assert.deepEqual(roots(["gcc-12"]), ["gcc-12"]);
  assert.throws(() => roots(["--root=/"]), HpccError);
});

test("file lists without their remarks", () => {
  const text = "/.\n/bin\n/bin/sh\npackage diverts others to: /bin/sh.distrib\n\n";
  assert.deepEqual(listedPaths(text), ["/bin", "/bin/sh"]);
});

const GROUP = `auto
/usr/bin/cc
cc.1.gz
/usr/share/man/man1/cc.1.gz

/usr/bin/clang
10

/usr/bin/gcc
20
/usr/share/man/man1/gcc.1.gz

`;

test("alternatives: the best choice that the image has, slaves only where their target is in it", () => {
  const group = parseAlternativeGroup("cc", GROUP)!;
  assert.equal(group.choices.length, 2);
  const links = (here: string[], text = GROUP, current: string | null = null) =>
    alternativeLinks(parseAlternativeGroup("cc", text)!, current, (path) => here.includes(path));
  assert.deepEqual(links(["/usr/bin/gcc", "/usr/bin/clang"]), [
    { path: "/usr/bin/cc", target: "/etc/alternatives/cc" },
    { path: "/etc/alternatives/cc", target: "/usr/bin/gcc" },
  ]);
  assert.equal(links(["/usr/bin/clang"])[1]?.target, "/usr/bin/clang");
  assert.deepEqual(links([]), []);
  const manual = GROUP.replace("auto", "manual");
  assert.equal(links(["/usr/bin/gcc", "/usr/bin/clang"], manual, "/usr/bin/clang")[1]?.target, "/usr/bin/clang");
  assert.equal(parseAlternativeGroup("x", "rubbish"), null);
});

test("the package of a file, whatever else dpkg says of it", async () => {
  const path = "/usr/include/zlib.h";
  assert.equal(ownerOf(`zlib1g-dev:amd64: ${path}\n`, path), "zlib1g-dev");
  assert.equal(ownerOf(`a-dev, b-dev:i386: ${path}\n`, path), "a-dev");
  assert.equal(ownerOf(`diversion by x-dev from: ${path}\nx: ${path}.old\nlibx++-dev: ${path}\n`, path), "libx++-dev");
  assert.equal(ownerOf("", path), null);
  assert.equal(await packageOfFile("/usr/include/stdio.h"), "libc6-dev");
  assert.equal(await packageOfFile("/usr/include/no-such-header.h"), null);
});
