import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { describe, it, test } from "node:test";
import { CompilerFolder, FAMILIES } from "../../../../test/support/real-compiler.ts";
import { type ByteString } from "../../../base/byte-string.ts";
import { type Failure, failureOf } from "./failure.ts";

const DATE = "const char *d = __DATE__;\n";
const NO_DATE = { SOURCE_DATE_EPOCH: "dates-are-not-reproducible" };

interface Row {
  readonly what: string;
  readonly words: string;
  readonly text?: string;
  readonly failure: Failure;
  readonly environment?: Record<string, string>;
  readonly only?: "gcc" | "clang";
}

const ROWS: readonly Row[] = [
  { what: "an error of the source", words: "-c a.c", text: "int f(void){ return x; }\n", failure: "ordinary" },
  { what: "#error", words: "-c a.c", text: "#error no\n", failure: "ordinary" },
  { what: "an instruction", words: "-c a.c", text: '__asm__("zork");\n', failure: "ordinary" },
  { what: "-Werror", words: "-c a.c -Wall -Werror", text: "static int f;\n", failure: "ordinary" },
  { what: "an option", words: "-c a.c -std=no", failure: "ordinary" },
  { what: "a missing header", words: "-c a.c", text: '#include "no.h"\n', failure: "fault" },
  { what: "a missing source", words: "-c no.c", failure: "fault" },
  { what: "a missing folder", words: "-c a.c -o no/a.o", failure: "fault" },
  {
    what: "a file that the assembler lacks",
    words: "-c a.c",
    text: '__asm__(".incbin \\"no\\"");\n',
    failure: "fault",
  },
  { what: "a folder as output", words: "-c a.c -o folder", failure: "fault" },
  { what: "a date in GCC", words: "-c a.c", text: DATE, failure: "date", environment: NO_DATE, only: "gcc" },
  { what: "a date in -w", words: "-w -c a.c", text: DATE, failure: "date", environment: NO_DATE, only: "gcc" },
  { what: "a date in Clang", words: "-c a.c -Werror=date-time", text: DATE, failure: "date", only: "clang" },
];

describe("failures of the real compilers", () => {
  for (const family of FAMILIES)
    for (const { what, words, text = "int f;\n", failure, environment, only } of ROWS)
      if (only === undefined || only === family)
        it(`${family}: ${what} is ${failure}`, () => {
          using folder = new CompilerFolder({ "a.c": text });
          mkdirSync(join(folder.path, "folder"));
          const { status, stderr } = folder.run(family, words.split(" "), environment);
          assert.notEqual(status, 0);
          assert.equal(failureOf(status ?? 255, stderr as ByteString), failure, stderr);
        });
});

test("whatever else than 1 a compiler exits with is a fault", () => {
  for (const code of [2, 4, 70, 127, 137, 139, 255]) assert.equal(failureOf(code, "" as ByteString), "fault");
});
