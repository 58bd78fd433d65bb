import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { CompilerFolder, FAMILIES } from "../../../../test/support/real-compiler.ts";
import { byteStringOfText } from "../../../base/byte-string.ts";
import { inputKindOf, isCxxDriver } from "./gnu-names.ts";
import { parseGnu } from "./gnu-parse.ts";

const noResponseFiles = { readResponseFile: () => null };

/** Source names and the arguments besides; `-x c` is given when the suffix says nothing. */
const SOURCES = ["foo.c", "sub/foo.c", "foo.c.c", "./.c", "sub/.x.c", "a b.c", "x$y#z.c", "d.x/foo.cc", "\u00fc.c"];
const NAMELESS = ["foo", "foo.", ".hidden", "sub/x.y", "a.b.c.e"];
const OUTPUTS = [
  "-c",
  "-S",
  "-c -MD",
  "-S -MMD",
  "-c -MD -o out.o",
  "-c -MD -oout.o",
  "-c -MD -o out",
  "-c -MD -o out.",
  "-c -MD -o .o",
  "-c -MD -o out.a.b",
  "-c -MD -o d.x/out",
  "-c -MD -o d.x/.out",
  "-c -MD -o d.x/out.o",
  "-c -MD -o ./out.o",
  "-S -MD -o q.s",
  "-c -MD -MF dep -o q.o",
  "-c -MD -MF a -MF d.x/b",
  "-c -Wp,-MD,w.d -o sub/q.o",
  "-c -Wp,-MMD,w.d",
  "-c -o first.o -o second.o",
];

describe("output names", () => {
  for (const family of FAMILIES) {
    for (const [source, given] of [...SOURCES.map((name) => [name, ""]), ...NAMELESS.map((name) => [name, "-x c"])]) {
      it(`${family}: ${source} as the driver names its outputs`, () => {
        for (const output of source === "sub/foo.c" ? OUTPUTS : OUTPUTS.slice(0, 4)) {
          using folder = new CompilerFolder({ [String(source)]: "int x;\n", "d.x/k": "", "sub/k": "" });
          const args = [...`${given} ${output}`.trim().split(" "), String(source)];
          const before = new Set(folder.files());
          const run = folder.run(family, args);
          assert.equal(run.status, 0, `${args.join(" ")}: ${run.stderr}`);
          const made = folder.files().filter((name) => !before.has(name));
          const parsed = parseGnu([family, ...args].map(byteStringOfText), { family, ...noResponseFiles });
          assert.equal(parsed.kind, "compile", args.join(" "));
          if (parsed.kind !== "compile") continue;
          const { output: object, dependencies } = parsed.invocation;
          const named = [object, ...(dependencies === null ? [] : [dependencies.file])];
          const expected = named.map((name) => Buffer.from(name, "latin1").toString().replace(/^\.\//, "")).sort();
          assert.deepEqual(made, expected, args.join(" "));
        }
      });
    }
  }
});

const SUFFIXES =
  "c i ii cc cp cxx cpp c++ C CPP CC CXX C++ s S sx h H hh hp hxx hpp HPP h++ tcc m mm M mi mii ipp inl inc cppm ccm ixx f f90 F go d adb rs o a so txt c~ Cc".split(
    " ",
  );

describe("languages of suffixes", () => {
  for (const family of FAMILIES) {
    for (const cxx of [false, true]) {
      const program = { gcc: ["gcc", "g++"], clang: ["clang", "clang++"] }[family][cxx ? 1 : 0] as string;
      it(`${program}: each suffix as the driver takes it`, () => {
        let seen = 0;
        for (const suffix of SUFFIXES) {
          using folder = new CompilerFolder({ [`t.${suffix}`]: "" });
          const { stderr } = folder.run(program, ["-###", "-c", "-v", `t.${suffix}`]);
          const kind = inputKindOf(family, cxx, byteStringOfText(`t.${suffix}`));
          const compiles = stderr.split("\n").filter((line) => /\/cc1|"-cc1(?:as)?"|^ (?:\S*\/)?as /.test(line));
          const unused = /linker.{0,3} input.* unused/.test(stderr);
          if (kind.kind === "linker") assert.ok(unused || compiles.length === 0, `${suffix}: ${stderr}`);
          if (kind.kind !== "source") continue;
          seen++;
          const first = compiles[0] ?? "";
          const actual =
            family === "clang" ? /"-x" "([^"]+)"/.exec(first)?.[1] : gccLanguage(first, /-fpreprocessed/.test(first));
          const expected = family === "clang" && kind.language === "assembler" ? undefined : kind.language;
          if (expected !== undefined) assert.equal(actual, expected, `${suffix}: ${first}`);
        }
        assert.ok(seen >= 12, `only ${seen} source suffixes`);
      });
    }
  }
});

function gccLanguage(line: string, preprocessed: boolean): string {
  if (/^ ?as |\/as /.test(line) && !/\/cc1/.test(line)) return "assembler";
  if (/-lang-asm|-E.*\.(?:S|sx)/.test(line)) return "assembler-with-cpp";
  if (/\/cc1plus/.test(line)) return preprocessed ? "c++-cpp-output" : "c++";
  return preprocessed ? "cpp-output" : "c";
}

describe("isCxxDriver", () => {
  for (const name of ["g++", "/usr/bin/c++", "clang++-14", "x86_64-linux-gnu-g++-12", "arm-none-eabi-c++"])
    it(`${name} is one`, () => assert.ok(isCxxDriver(byteStringOfText(name))));
  for (const name of ["gcc", "cc", "clang", "g++/gcc", "cpp", "g++.sh", "clang-cl", "x86_64-linux-gnu-gcc-12"])
    it(`${name} is none`, () => assert.ok(!isCxxDriver(byteStringOfText(name))));
});
