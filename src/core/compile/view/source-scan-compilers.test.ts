// Holds the scanner against the compilers: what they read of odd texts, the scan must name.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import * as fc from "fast-check";
import { scanSource } from "./source-scan.ts";

const HEADERS = 10;
const RUNS = Number(process.env["HPCC_SCAN_RUNS"] ?? 60);

let folder = "";
before(() => {
  folder = mkdtempSync(join(tmpdir(), "hpcc-scan-"));
  for (let header = 0; header < HEADERS; header += 1) writeFileSync(join(folder, `h${header}.h`), "\n");
});
after(() => rmSync(folder, { recursive: true }));

const LANGUAGES = [
  ["gcc", "-xc", "-std=gnu17"],
  ["gcc", "-xc", "-std=c89"],
  ["gcc", "-xc", "-std=c17"],
  ["gcc", "-xc++", "-std=gnu++20"],
  ["gcc", "-xc++", "-std=c++11"],
  ["gcc", "-xassembler-with-cpp"],
  ["gcc", "-xc", "-traditional-cpp"],
  ["clang", "-xc", "-std=gnu17"],
  ["clang", "-xc", "-std=c89"],
  ["clang", "-xc++", "-std=gnu++20"],
  ["clang", "-xc++", "-std=c++11", "-trigraphs"],
  ["clang", "-xassembler-with-cpp"],
] as const;

const name = fc.nat(HEADERS - 1).map((header) => `h${header}.h`);
const hash = fc.constantFrom("#", "#", "#", "%:", "??=", "#/**/", "# /* \n */", "/**/#", "\\\n#", " \t#");
const keyword = fc.constantFrom(
  "include",
  "include",
  "inc\\\nlude",
  "include_next",
  "import",
  "inc\\ \nlude/**/",
  "in??/\nclude ",
);
const include = fc
  .tuple(hash, keyword, fc.constantFrom("", " ", "/**/", "\\\n", "/* \n */", "\t"), name, fc.boolean())
  .map(([sign, word, gap, header, quoted]) => `${sign}${word}${gap}${quoted ? `"${header}"` : `<${header}>`}`);
const computed = name.map((header) => `#define M "${header}"\n#include M`);
const tested = name.map((header) => `#if __has_include("${header}")\n#include "${header}"\n#endif`);
const oddity = fc.constantFrom(
  ...'/* */ // /**/ //* /*/ */ " \' \\ \\" don\'t \'a\' \'"\' "s" "/*" "//" R"( )" R"x( )x" u8R"( LR"x( 1\'0 0xA\'B a\'b\' u8\'a\' ( ) ?? ??/ ??= ??\' < > # ##'.split(
    " ",
  ),
  "\\\n",
  "\\ \n",
  "??/\n",
  "\r\n",
  "\r",
  "\0",
  "\n#if 0\n",
  "\n#if 1\n",
  "\n#else\n",
  "\n#endif\n",
  "\n#define X /* a",
  "\n#define Y 'b",
  "\n#include <a/*b.h>",
  "\n#include <a//b.h>",
  "\n#warning it's /*",
  "\n#warning /*",
  "\n#pragma it's /*",
  "__DATE__",
  "__TIME__",
  " int x;",
);
const end = fc.constantFrom("\n", "\n", "\n", "\n", " ", "", "\r\n");
const piece = fc.oneof(
  { weight: 4, arbitrary: fc.tuple(fc.constant("\n"), include).map((parts) => parts.join("")) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("\n"), fc.oneof(computed, tested)).map((parts) => parts.join("")) },
  { weight: 8, arbitrary: oddity },
);
const program = fc.array(fc.tuple(piece, end), { minLength: 1, maxLength: 14 }).map((pieces) => pieces.flat().join(""));

test("what GCC and Clang read of a text, the scan names, and dates that they expand, it tells", () => {
  let read = 0;
  let dated = 0;
  fc.assert(
    fc.property(program, fc.constantFrom(...LANGUAGES), (text, [compiler, ...options]) => {
      const source = join(folder, "a.c");
      writeFileSync(source, text, "latin1");
      const run = spawnSync(
        compiler,
        [...options, "-Wdate-time", "-E", "-H", `-I${folder}`, "-o", join(folder, "a.i"), source],
        {
          encoding: "latin1",
          env: { PATH: process.env["PATH"], LC_ALL: "C" },
        },
      );
      assert.equal(run.error, undefined);
      const scan = scanSource(Buffer.from(text, "latin1"), options[0] === "-xassembler-with-cpp" ? "assembler" : "c");
      const names = new Set<string>(scan.includes.map((include) => include.name));
      if (scan.computedInclude) for (const definition of scan.definitions) names.add(definition);
      for (const line of run.stderr.split("\n")) {
        const header = /^\.+ .*\/(h\d\.h)$/.exec(line)?.[1];
        if (header === undefined) continue;
        read += 1;
        assert.ok(names.has(header), `${header} by ${compiler} ${options.join(" ")}`);
      }
      if (run.stderr.includes("[-Wdate-time]")) {
        dated += 1;
        assert.ok(scan.dates, `a date by ${compiler} ${options.join(" ")}`);
      }
    }),
    { numRuns: RUNS, ...(process.env["HPCC_SCAN_SEED"] ? { seed: Number(process.env["HPCC_SCAN_SEED"]) } : {}) },
  );
  assert.ok(read > RUNS / 4 && dated > RUNS / 100, `${read} headers read, ${dated} texts with dates, in ${RUNS} runs`);
});
