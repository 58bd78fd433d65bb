import assert from "node:assert/strict";
import { describe, it, test } from "node:test";
import * as fc from "fast-check";
import { dependsOn, directiveLines, leavesOpen, pragmaParts } from "./directive-lines.ts";

const lines = (text: string, lineComments = true): string[] | null =>
  directiveLines(Buffer.from(text, "latin1"), { lineComments })?.map((line) => line.toString("latin1")) ?? null;

describe("directive lines", () => {
  const rows: readonly [name: string, text: string, is: readonly string[] | null][] = [
    ["none", "int x;\n", []],
    ["plain ones", "#a\nx\n # b\n\t#  c d\n", ["#a", "# b", "#  c d"]],
    ["a digraph", "%:include <x>\n", ["%:include <x>"]],
    ["after a comment on their line", "/* a */ #if X /* b */ // c\n", ["#if X /* b */ // c"]],
    ["not in a comment", "/*\n#no\n*/\n#yes\n", ["#yes"]],
    ["not in a comment that began after code", 'int x; /* "\n#no\n*/ int y; /* more\n#no\n*/\n#yes\n', ["#yes"]],
    ["after a comment in a string", 's = "/*";\n#yes\n', ["#yes"]],
    ["after a comment in an escaped string", 's = "\\"/*"; t = \'"\';\n#yes\n', ["#yes"]],
    ["after a comment in a line comment", "// x /*\n//*****\n#yes\n", ["#yes"]],
    ["joined where they are continued", "#define A \\\n  b\\\nc\nx\n", ["#define A   bc"]],
    ["not on a continued line", "int x \\\n#no\n#yes\n", ["#yes"]],
    ["not on a continued line comment", "// x \\\n#no\n#yes\n", ["#yes"]],
    ["beside apostrophes that part digits", "n = 1'000 + f('/');\n#yes\n", ["#yes"]],
    ["with carriage returns", "#a\r\nx\r\n#b\r\n", ["#a", "#b"]],
    ["without an end of line", "x\n#a", ["#a"]],
    ["doubt: a comment goes on over a directive's end", "#define X /* a\n b */ c\n", null],
    ["doubt: a directive behind the end of a comment", "/*\n*/ #a\n", null],
    ["doubt: a comment in a name", "#include <a/*b>\n", null],
    ["doubt: an open string before a comment", 's = "a /*\n#x\n', null],
    ["doubt: an apostrophe before a comment", "it's /* don't\n#x\n*/\n", null],
    ["doubt: a raw string", 's = R"(\n#no\n)";\n', null],
    ["doubt: trigraphs", "??=a\n", null],
    ["doubt: a carriage return alone", "int x;\r#a\n", null],
    ["doubt: a comment without an end", "#a\n/*\n", null],
    ["doubt: a white space of Unicode's before a directive", "\xc2\xa0#a\n", null],
    ["doubt: such a white space behind a comment's end", "/*\n*/ \xc2\xa0#a\n", null],
    ["beside other letters", "\xc3\xa4 = 1;\n#yes\n", ["#yes"]],
  ];
  for (const [name, text, is] of rows) it(name, () => assert.deepEqual(lines(text), is));

  it("where `//` may be a division, what follows it may be a comment", () => {
    assert.equal(lines("x = a //* b */ c\n;\n// /*\n#a\n", false), null);
    assert.deepEqual(lines("// x\n#a\n", false), ["#a"]);
  });
});

test("lines between directives do not matter, directives do", () => {
  const piece = fc.constantFrom("int x;", 's = "a";', "/* c */", "// c", "", "f(", "/*\n#no\n*/", "{", "a / b");
  const directive = fc.constantFrom("#if A", "#endif", "#include <x.h>", "  #define A 1", "#else");
  const between = fc.array(piece, { maxLength: 4 }).map((pieces) => pieces.map((one) => `${one}\n`).join(""));
  fc.assert(
    fc.property(fc.array(fc.tuple(between, between, directive), { maxLength: 8 }), fc.nat(), (parts, at) => {
      const one = parts.map(([first, , line]) => `${first}${line}\n`).join("");
      const other = parts.map(([, second, line]) => `${second}${line}\n`).join("");
      assert.notEqual(lines(one), null);
      assert.deepEqual(lines(one), lines(other));
      if (parts.length === 0) return;
      const without = parts.toSpliced(at % parts.length, 1);
      assert.notDeepEqual(lines(one), lines(without.map(([first, , line]) => `${first}${line}\n`).join("")));
      // A comment around a directive takes it away.
      const hidden = parts.map(([first, , line], index) =>
        index === at % parts.length ? `${first}/*\n${line}\n*/\n` : `${first}${line}\n`,
      );
      assert.notDeepEqual(lines(one), lines(hidden.join("")));
    }),
    { numRuns: 300 },
  );
});

test("any text has lines or doubts", () => {
  const pieces = fc.constantFrom(...Array.from("#/*\\\"'\n\r ax1'?%:"), "\\\n", "/*", "*/", 'R"(', "//", "#if ");
  fc.assert(
    fc.property(fc.array(pieces, { maxLength: 40 }), fc.boolean(), (parts, lineComments) => {
      const text = parts.join("");
      for (const line of lines(text, lineComments) ?? []) assert.match(line, /^(#|%:)/);
    }),
    { numRuns: 2000 },
  );
});

test("a text counts lines and uses where a condition may", () => {
  const counts = (text: string) => {
    const bytes = Buffer.from(text);
    const lines = () => directiveLines(bytes, { lineComments: true });
    return (["__LINE__", "__COUNTER__"] as const).filter((count) => dependsOn(count, bytes, lines));
  };
  assert.deepEqual(counts("int x = __LINE__;\n"), []);
  assert.deepEqual(counts("#if __LINE__ > 3\n#endif\n"), ["__LINE__"]);
  assert.deepEqual(counts("#define UNIQUE(x) x ## __COUNTER__\n"), ["__COUNTER__"]);
  assert.deepEqual(counts("#define LOG(x) log(__FILE__, __LINE__, x)\n"), []);
  assert.deepEqual(counts('s = R"()"; __LINE__\n'), ["__LINE__"]);
});

test("pragmas amid code are told, and those by which macros change", () => {
  const parts = (text: string) => pragmaParts(Buffer.from(text));
  assert.deepEqual(parts('_Pragma("GCC diagnostic push")\n'), { operator: true, moves: false });
  assert.deepEqual(parts('#pragma push_macro("X")\n#pragma once\n'), { operator: false, moves: true });
  assert.deepEqual(parts('_Pragma("once")\n'), { operator: true, moves: true });
});

test("a raw string without an end is left open", () => {
  const rows: Record<string, boolean> = {
    "int x;\n": false,
    's = R"(a\n)";\n': false,
    's = R"x(a)" )x";\n': false,
    's = R"(a\n': true,
    's = R"x(a)";\n': true,
    's = LR"(a)"; t = u8R"y(\n': true,
    's = FOR"no delimiter of that length(\n': false,
  };
  for (const [text, is] of Object.entries(rows)) assert.equal(leavesOpen(Buffer.from(text)), is, text);
  // However many there are, the time is bounded.
  assert.equal(leavesOpen(Buffer.from(`${'R"('.repeat(100_000)})"`)), true);
});
