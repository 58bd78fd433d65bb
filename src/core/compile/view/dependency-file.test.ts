import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { string as anyString, array, assert as assertProperty, constantFrom, property } from "fast-check";
import { CompilerFolder, FAMILIES } from "../../../../test/support/real-compiler.ts";
import { ascii, type ByteString, byteStringOfText } from "../../../base/byte-string.ts";
import { parseGnu } from "../grammar/gnu-parse.ts";
import type { CompilerFamily, DependencyRequest, GnuInvocation } from "../grammar/invocation.ts";
import { preprocessArgv } from "../text/two-step.ts";
import {
  dependencyName,
  quoteForMake,
  readDependencies,
  rewriteDependencies,
  writeDependencies,
} from "./dependency-file.ts";
import type { View } from "./view.ts";

function parse(family: CompilerFamily, args: readonly string[]): GnuInvocation {
  const result = parseGnu([family, ...args].map(byteStringOfText), { family, readResponseFile: () => null });
  assert.equal(result.kind, "compile", `${args.join(" ")}: ${JSON.stringify(result)}`);
  assert.ok(result.kind === "compile");
  return result.invocation;
}

/** Header names whose lengths walk over the compilers' line ends, and hostile ones. */
const HEADERS = [
  "a.h",
  "with space.h",
  "two  spaces.h",
  "dollar$x.h",
  "hash#x.h",
  "colon:x.h",
  "tab\tx.h",
  "back\\slash.h",
  "back\\ space.h",
  "back\\\\ space2.h",
  "back\\#hash.h",
  "quote'x.h",
  "percent%x.h",
  "star*x.h",
  "-dash.h",
  "b\u00fc\u00fc.h",
  ...[5, 20, 33, 34, 35, 36, 37, 50, 65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 90].map(
    (n) => `${"x".repeat(n)}.h`,
  ),
];

const FORMS = [
  "-MD",
  "-MMD",
  "-MD -MP",
  "-MMD -MP -MF deps",
  "-MD -MT all",
  "-MD -MT all -MQ b$c -MT d -MQ e",
  "-MD -MQ x#y -MQ z",
  "-MD -MT ./lead -MQ .//lead2",
  "-MD -o ./build/out.o",
  "-MD -o long/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.o",
  "-MD -MT aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa -MT bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb -MT ccccccccccc",
  "-MD -MQ aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa -MQ bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb -MQ cc",
  "-MD -MT t:u -MT v",
  "-Wp,-MD,deps",
  "-Wp,-MMD,sub/deps -o build/x.o",
];
const SOURCE = HEADERS.map((name) => `#include "inc/${name}"\n`).join("");

function makeFolder(): CompilerFolder {
  const folder = new CompilerFolder({ "src/m.c": SOURCE.replaceAll('"inc/', '"../inc/'), "build/k": "", "long/k": "" });
  folder.write("sub/k", "");
  folder.write("m.c", SOURCE);
  for (const name of HEADERS) folder.write(`inc/${name}`, "");
  return folder;
}

describe("dependency files of the real compilers", () => {
  for (const family of FAMILIES) {
    for (const form of FORMS) {
      it(`${family} ${form}: the first step's file is the one-step compile's, and is written again byte for byte`, () => {
        using folder = makeFolder();
        for (const source of ["m.c", "./src/m.c", `${folder.path}/m.c`]) {
          const args = ["-c", ...form.split(" "), source];
          const invocation = parse(family, args);
          const request = invocation.dependencies;
          assert.ok(request !== null);
          const run = folder.run(family, args);
          assert.equal(run.status, 0, run.stderr);
          const oneStep = folder.read(request.file) as ByteString;
          const step = preprocessArgv(invocation, {
            compiler: ascii(family),
            output: ascii("out.i"),
            dependencyFile: ascii("first-step.d"),
            injected: [],
          });
          const first = folder.run(
            family,
            step.slice(1).map((word) => Buffer.from(word, "latin1").toString()),
          );
          assert.equal(first.status, 0, first.stderr);
          assert.equal(folder.read("first-step.d"), oneStep);
          const read = readDependencies(oneStep, request, family);
          assert.ok(read !== null);
          assert.ok(read.names.length >= HEADERS.length);
          assert.equal(writeDependencies(request, family, read), oneStep);
        }
      });
    }

    it(`${family}: every name is read as it was spelled`, () => {
      using folder = makeFolder();
      const args = ["-c", "-MD", "-MP", "m.c"];
      assert.equal(folder.run(family, args).status, 0);
      const { dependencies } = parse(family, args);
      assert.ok(dependencies !== null);
      const read = readDependencies(folder.read("m.d") as ByteString, dependencies, family);
      // Clang 14 writes backslashes as slashes: those cannot be read back.
      const plain = HEADERS.filter((name) => family === "gcc" || !name.includes("\\"));
      const names = plain.map((name) => byteStringOfText(`inc/${name}`));
      const known = new Set<string>(names);
      assert.deepEqual(
        read?.names.filter((name) => known.has(name)),
        names,
      );
      assert.deepEqual(
        read?.phony.filter((name) => known.has(name)),
        names,
      );
    });

    it(`${family}: a rewritten file is what the compiler writes for the other folder`, () => {
      using folder = makeFolder();
      using elsewhere = makeFolder();
      for (const phony of [[], ["-MP"]]) {
        const args = (path: string): string[] => ["-c", "-MD", ...phony, "-MF", "dep", "-o", "m.o", `${path}/src/m.c`];
        assert.equal(folder.run(family, args(folder.path)).status, 0);
        assert.equal(elsewhere.run(family, args(elsewhere.path)).status, 0);
        const request = parse(family, args(folder.path)).dependencies;
        assert.ok(request !== null);
        const other = `${elsewhere.path}-longer`;
        const map = (to: string, from: string) => (name: ByteString) =>
          (name.startsWith(`${from}/`) ? to + name.slice(from.length) : name) as ByteString;
        const text = folder.read("dep") as ByteString;
        assert.equal(
          rewriteDependencies(text, request, family, map(elsewhere.path, folder.path)),
          elsewhere.read("dep"),
        );
        const longer = rewriteDependencies(text, request, family, map(other, folder.path));
        assert.ok(longer !== null);
        assert.equal(rewriteDependencies(longer, request, family, map(folder.path, other)), text);
      }
    });
  }
});

const REQUEST: DependencyRequest = {
  kind: "MD",
  file: ascii("x.d"),
  targets: [{ text: ascii("x.o"), quoted: true }],
  phony: true,
};

describe("rewriteDependencies", () => {
  it("returns a file whose names stay byte for byte, whatever its layout", () => {
    const text = ascii("x.o:   a.c\t\\\n  b.h \n\nb.h:\n");
    assert.equal(
      rewriteDependencies(text, REQUEST, "gcc", (name) => name),
      text,
    );
  });

  it("replaces names where they stand when the layout is not the compiler's", () => {
    const text = ascii("x.o :  /g/a.c \\\n      /g/b\\ c.h d.h\n\n/g/b\\ c.h:\n");
    const map = (name: ByteString): ByteString => name.replace("/g/", "/home/$u/") as ByteString;
    assert.equal(
      rewriteDependencies(text, REQUEST, "clang", map),
      "x.o :  /home/$$u/a.c \\\n      /home/$$u/b\\ c.h d.h\n\n/home/$$u/b\\ c.h:\n",
    );
  });

  it("refuses a file that cannot be understood", () => {
    for (const text of ["", "x.o", "x.o: a.c new\nline.h b.h\n", "x.o: a.c\nb.h: c\n"]) {
      assert.equal(
        rewriteDependencies(ascii(text), REQUEST, "gcc", (name) => ascii(`/z${name}`)),
        null,
        JSON.stringify(text),
      );
    }
  });

  it("is not led astray by targets that hold colons", () => {
    const request: DependencyRequest = { ...REQUEST, targets: [{ text: ascii("a: b"), quoted: false }] };
    const map = (name: ByteString): ByteString => ascii(`/z${name}`);
    assert.equal(rewriteDependencies(ascii("a: b: c.c\n"), request, "gcc", map), "a: b: /zc.c\n");
  });

  for (const family of FAMILIES) {
    it(`${family}: reads back any names that make can hold (property)`, () => {
      const name = anyString({
        unit: constantFrom("a", "/", ".", " ", "$", "#", ":", "\\", "\xff", "%", "\t"),
        minLength: 1,
      })
        // A backslash at a name's end has no form that make could read.
        .filter((text) => !text.endsWith("\\"))
        .filter((text) => !text.startsWith("./"));
      assertProperty(
        property(array(name, { minLength: 1 }), (list) => {
          const names = list.map(ascii);
          const text = writeDependencies(REQUEST, family, { names, phony: [], spaced: false });
          assert.deepEqual(readDependencies(text, REQUEST, family)?.names, names);
        }),
      );
    });
  }
});

describe("quoteForMake", () => {
  const rows: readonly (readonly [string, string])[] = [
    ["a b", "a\\ b"],
    ["a\\ b", "a\\\\\\ b"],
    ["a$b$$", "a$$b$$$$"],
    ["a#b", "a\\#b"],
    ["a\\#b", "a\\\\#b"],
    ["a\\b", "a\\b"],
  ];
  for (const [name, quoted] of rows)
    it(JSON.stringify(name), () => assert.equal(quoteForMake(ascii(name), "gcc"), quoted));
});

describe("dependencyName", () => {
  const view: View = { roots: [{ host: ascii("/home/u/p"), guest: ascii("/hpcc/project") }] };
  const names = {
    view,
    spellings: [{ guest: ascii("/hpcc/project/inc"), spelled: ascii("/home/link/inc") }],
    imageRoot: ascii("/images/1"),
    hostHas: (path: ByteString) => path === "/usr/include/stdio.h",
  };
  const rows: readonly (readonly [string, string])[] = [
    ["../a.h", "../a.h"],
    ["/hpcc/project/a.h", "/home/u/p/a.h"],
    ["/hpcc/project/inc/a.h", "/home/link/inc/a.h"],
    ["/hpcc/project/include/a.h", "/home/u/p/include/a.h"],
    ["/usr/include/stdio.h", "/usr/include/stdio.h"],
    ["/usr/include/other.h", "/images/1/usr/include/other.h"],
  ];
  for (const [name, host] of rows) it(name, () => assert.equal(dependencyName(ascii(name), names), host));
});
