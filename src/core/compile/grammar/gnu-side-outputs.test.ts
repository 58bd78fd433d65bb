import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { CompilerFolder, FAMILIES } from "../../../../test/support/real-compiler.ts";
import { byteStringOfText } from "../../../base/byte-string.ts";
import { parseGnu } from "./gnu-parse.ts";
import type { CompilerFamily } from "./invocation.ts";

/** Options that write files of their own names stand together. */
const OPTIONS: Readonly<Record<CompilerFamily, readonly string[]>> = {
  gcc: [
    "--coverage -fstack-usage -fcallgraph-info=su,da -g -gsplit-dwarf",
    "-fprofile-arcs -fprofile-generate -fopt-info",
    "-save-temps",
    "-save-temps=obj -MD",
    "-save-temps=cwd -flto",
    "-Wa,-aln=out/x.lst",
  ],
  clang: [
    "--coverage -fstack-usage -ftime-trace -g -gsplit-dwarf",
    "-fprofile-instr-generate -fcoverage-mapping -g -gsplit-dwarf=single",
    "-save-temps",
    "-save-temps=obj -MD",
    "-save-temps=cwd -flto",
  ],
};
const PLACES = ["", "-o x.o", "-o out/x.o", "-o out/x", "-o out/x.y.o", "-o ./out/.x", "-o .x.o", "-S"];
const SOURCES = ["-c a.c", "-c src/a.c", "-c src/a.b.cc", "-c .a.c", "-x c -c src/noname", "-c a.S -DX"];
const FILES = Object.fromEntries(
  ["a.c", "src/a.c", "src/a.b.cc", ".a.c", "src/noname"].map((name) => [name, "int f(int x){return x+1;}\n"]),
);

interface Made {
  /** Files that a call made and that the grammar has no name for. */
  readonly unnamed: readonly string[];
  /** How many it made besides object and dependency file. */
  readonly side: number;
}

function makes(family: CompilerFamily, words: readonly string[]): Made {
  using folder = new CompilerFolder({ ...FILES, "a.S": ".text\nnop\n", "out/k": "" });
  const parsed = parseGnu([family, ...words].map(byteStringOfText), { family, readResponseFile: () => null });
  if (parsed.kind === "bypass") return { unnamed: [`bypass: ${parsed.reason} ${parsed.detail}`], side: 0 };
  assert.ok(parsed.kind === "compile", "one source");
  const { output, dependencies, sideOutputs, source } = parsed.invocation;
  const main = [output, ...(dependencies === null ? [] : [dependencies.file])];
  const names = [...main, ...sideOutputs.map(({ path }) => path)];
  assert.equal(new Set(names).size, names.length, `${words.join(" ")}: a name twice in ${names.join(" ")}`);
  assert.ok(!names.includes(source), `${words.join(" ")}: the source is an output`);
  const known = new Set(names.map((name) => name.replace(/^(?:\.\/)+/, "")));
  const before = new Set(folder.files());
  const run = folder.run(family, words);
  assert.equal(run.status, 0, `${words.join(" ")}: ${run.stderr}`);
  const made = folder.files().filter((name) => !before.has(name));
  return { unnamed: made.filter((name) => !known.has(name)), side: made.length - main.length };
}

describe("side outputs", () => {
  for (const family of FAMILIES)
    for (const option of OPTIONS[family])
      it(`${family} ${option}: every file that the driver makes is a candidate`, () => {
        const wrong: string[] = [];
        let sideFiles = 0;
        for (const [index, source] of SOURCES.entries())
          for (const place of index === 1 ? PLACES : PLACES.slice(0, 3)) {
            const words = `${source.replace("-c", place === "-S" ? "-S" : "-c")} ${place === "-S" ? "" : place} ${option}`;
            const { unnamed, side } = makes(
              family,
              words.split(" ").filter((word) => word !== ""),
            );
            if (unnamed.length > 0) wrong.push(`${words}: ${unnamed.join(" ")}`);
            sideFiles += side;
          }
        assert.deepEqual(wrong, []);
        // Those of profiles are written by the program that is made.
        assert.ok(sideFiles > 0 || option.startsWith("-fprofile"), "no side output was made");
      });
});
