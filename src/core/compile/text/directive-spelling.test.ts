import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { byteStringOfText } from "../../../base/byte-string.ts";
import { readDirective, sameTokens } from "./directive-spelling.ts";

describe("readDirective", () => {
  const rows: readonly [string, string | null, string][] = [
    ["#define A 1\nnext", "#define A 1", "#define A 1"],
    ["  # define A /* c */ 1 // d\nnext", "  # define A   1 ", "  # define A /* c */ 1 // d"],
    ["#define A \\\n  1\nnext", "#define A   1", "#define A \\\n  1"],
    ["#define A \\  \n  1\nnext", "#define A   1", "#define A \\  \n  1"],
    ["#define A /* x\ny */ 1\nnext", "#define A   1", "#define A /* x\ny */ 1"],
    ['#define A "/*" \'"\' x\n', '#define A "/*" \'"\' x', '#define A "/*" \'"\' x'],
    ["#define A // x \\\n still\nnext", "#define A ", "#define A // x \\\n still"],
    ["/* c */ #define A 1", "  #define A 1", "/* c */ #define A 1"],
    ["#de\\\nfine A", "#define A", "#de\\\nfine A"],
    ["int x; #define", null, ""],
    ["#define A /* never closed", null, ""],
    ["", null, ""],
  ];
  for (const [text, spelled, covered] of rows)
    it(JSON.stringify(text), () => {
      const read = readDirective(text, 0);
      assert.equal(read?.spelled ?? null, spelled);
      if (read !== null) assert.equal(text.slice(0, read.end), covered);
    });
});

describe("sameTokens", () => {
  const same: readonly [string, string][] = [
    ["# define  F( a , b )   a+b", "#define F(a,b) a+b"],
    ["#define F(a)  # a   a##b", "#define F(a) #a a ##b"],
    ["#define E   ", "#define E "],
    ["#pragma\tGCC   diagnostic push\r", "#pragma GCC diagnostic push"],
    [byteStringOfText("#define Ü(ж) 1"), "#define \\U000000dc(\\u0436) 1"],
  ];
  for (const [a, b] of same) it(`${a} is ${b}`, () => assert.equal(sameTokens(a, b), true));
  const other: readonly [string, string][] = [
    ["#define A 1", "#define A 2"],
    ["#define A b c", "#define A bc"],
    ['#define A "b  c"', '#define A "b c"'],
    ["#define A ' '", "#define A '  '"],
    ["#define A", "#undef A"],
    ["#define A \\Uffffffff", "#define A \\Ufffffffe"],
  ];
  for (const [a, b] of other) it(`${a} is not ${b}`, () => assert.equal(sameTokens(a, b), false));
});
