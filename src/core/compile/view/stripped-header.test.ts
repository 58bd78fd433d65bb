import assert from "node:assert/strict";
import { describe, it, test } from "node:test";
import * as fc from "fast-check";
import { directiveLines } from "./directive-lines.ts";
import { strippedHeader } from "./stripped-header.ts";

const strip = (text: string) => strippedHeader(Buffer.from(text, "latin1"), "m")?.toString("latin1") ?? null;

describe("a stripped header", () => {
  const rows: readonly [name: string, text: string, is: string | null][] = [
    [
      "keeps directives on their lines",
      "int a;\n# if 1 // b\n\nint c; /*\n*/\n#endif\n",
      "\n# if 1 // b\n\n\n\n#endif\n/*m*/\n",
    ],
    [
      "keeps continued lines as they stand",
      "#define A \\\n  1 \\ \n\nint \\\n  a;\n#b\n",
      "#define A \\\n  1 \\ \n\n\n\n#b\n/*m*/\n",
    ],
    ["keeps the comment before a directive", "/* a */ #b\n", "/* a */ #b\n/*m*/\n"],
    ["ends the last line", "int a;\n#b", "\n#b\n/*m*/\n"],
    ["is whole: nothing", "", null],
    ["is whole: a directive that a comment leaves open", "#a /*\n*/\n", null],
    ["is whole: a directive behind a comment's end", "/*\n*/ #a\n", null],
    ["is whole: a raw string", 'R"(\n#a\n)"\n', null],
    ["is whole: a carriage return", "int a;\r\n", null],
    ["is whole: a NUL", "int a\0;\n", null],
    ["is whole: the end of a file's text elsewhere", "int a;\x1a\n", null],
    ["is whole: trigraphs of any kind", "int a ??' b;\n", null],
    ["is whole: a last line that goes on", "#define A \\", null],
    ["is whole: the same behind blanks and an end", "#define A \\ \n", null],
    ["is whole: a comment that is none in C90", "int a; // b /* c\n#d\n", null],
    ["is whole: an import", "int a;\n  import b;\n", null],
    ["is whole: an export of an import", "export import b;\n", null],
    ["is whole: a module", "module;\n", null],
    ["is stripped of longer words", "importer a;\n#b\n", "\n#b\n/*m*/\n"],
  ];
  for (const [name, text, is] of rows) it(name, () => assert.equal(strip(text), is));
});

test("a stripped header has the directives of the header, on as many lines, and its mark", () => {
  const piece = fc.constantFrom(
    "int a;",
    "/*",
    "*/",
    "#if A",
    "# define B \\",
    "\\",
    '"',
    "'",
    "//",
    " ",
    "%:c",
    "\t",
    "1'0",
    "x",
  );
  fc.assert(
    fc.property(fc.array(fc.tuple(piece, fc.constantFrom("\n", " ", "\\\n")), { maxLength: 30 }), (pieces) => {
      const text = pieces.flat().join("");
      const stripped = strip(text);
      if (stripped === null) return;
      const lines = (one: string) => directiveLines(Buffer.from(one, "latin1"), { lineComments: true });
      assert.deepEqual(lines(stripped), lines(text));
      const end = text.endsWith("\n") ? "" : "\n";
      assert.equal(stripped.split("\n").length, `${text}${end}`.split("\n").length + 1);
      assert.ok(stripped.endsWith("\n/*m*/\n") || stripped === "/*m*/\n");
    }),
    { numRuns: 2000 },
  );
});
