import assert from "node:assert/strict";
import { describe, it } from "node:test";
import * as fc from "fast-check";
import { ascii, type ByteString, bytesOf } from "../../../base/byte-string.ts";
import type { CompilerFamily } from "../grammar/invocation.ts";
import { type Rebuilt, rebuildTranslationUnit, TEXT_PATH } from "./rebuild.ts";

const CWD = ascii("/hpcc/project");
const PREAMBLE =
  '# 0 "main.c"\n# 0 "<built-in>"\n#define __STDC_VERSION__ 201710L\n# 0 "<command-line>"\n# 1 "main.c"\n';

function rebuild(text: string, files: Readonly<Record<string, string>>, family: CompilerFamily = "gcc"): Rebuilt {
  return rebuildTranslationUnit({
    family,
    language: "c",
    text: bytesOf(text as ByteString),
    cwd: CWD,
    source: ascii("main.c"),
    readFile: (path) => {
      const found = files[path.replace("/hpcc/project/", "")];
      return found === undefined ? null : bytesOf(found as ByteString);
    },
  });
}

function ready(rebuilt: Rebuilt): { text: string; quotes: Record<string, string>; folders: readonly string[] } {
  assert.equal(rebuilt.kind, "ready", JSON.stringify(rebuilt));
  if (rebuilt.kind !== "ready") throw new Error("unreachable");
  const latin1 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");
  return {
    text: latin1(rebuilt.main.bytes),
    quotes: Object.fromEntries(rebuilt.quotes.map(({ path, bytes }) => [path, latin1(bytes)])),
    folders: rebuilt.folders,
  };
}

function refusal(rebuilt: Rebuilt): string {
  return rebuilt.kind === "refused" ? `${rebuilt.reason}: ${rebuilt.detail}` : "ready";
}

describe("rebuildTranslationUnit of gcc", () => {
  it("puts directives back as they were spelled, continuation lines and all", () => {
    const source = "#define  A( x ) \\\n  ((x)  +  1) // c\nint a = A(1);\n";
    const { text, quotes } = ready(
      rebuild(`${PREAMBLE}#define A(x) ((x) + 1)\n\nint a = A(1);\n`, { "main.c": source }),
    );
    assert.equal(text, PREAMBLE + source);
    assert.deepEqual(quotes, { "/hpcc/project/main.c": source });
  });

  it("lets a marker stand for the blank lines of a long directive", () => {
    const source = `#define A 1 \\\n${" + 1 \\\n".repeat(9)}\nint a;\n`;
    const { text } = ready(
      rebuild(`${PREAMBLE}#define A 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1\n# 12 "main.c"\nint a;\n`, {
        "main.c": source,
      }),
    );
    assert.equal(text, `${PREAMBLE}#define A 1 \\\n${" + 1 \\\n".repeat(9)}\n# 12 "main.c"\nint a;\n`);
  });

  it("rebuilds files from their active lines, each at its number", () => {
    const files = {
      "main.c": '#include "h.h"\nint a;\n#if 0\nint never;\n#endif\nint b;\n',
      "h.h": "// first\n#ifdef X\nint x;\n#else\nint y;\n#endif\n",
    };
    const text = `${PREAMBLE}# 1 "h.h" 1\n// first\n\n\n\nint y;\n# 2 "main.c" 2\nint a;\n\n\n\nint b;\n`;
    const { quotes } = ready(rebuild(text, files));
    assert.deepEqual(quotes, {
      "/hpcc/project/h.h": "// first\n\n\n\nint y;\n",
      "/hpcc/project/main.c": '#include "h.h"\nint a;\n\n\n\nint b;\n',
    });
  });

  it("gives the same files whatever inactive code says", () => {
    const text = `${PREAMBLE}int a;\n\n\n\nint b;\n`;
    const one = rebuild(text, { "main.c": "int a;\n#if 0\nint one;\n#endif\nint b;\n" });
    const other = rebuild(text, { "main.c": "int a;\n#if 0\nother words\n#endif\nint b;\n" });
    assert.deepEqual(ready(one), ready(other));
  });

  it("keeps inactive lines in mid-statement, which a range may span", () => {
    const source = "call(a,\n#ifdef X\n b,\n#endif\n c);\n";
    assert.deepEqual(ready(rebuild(`${PREAMBLE}call(a,\n\n\n\n c);\n`, { "main.c": source })).quotes, {
      "/hpcc/project/main.c": source,
    });
  });

  it("names folders that a name passes through", () => {
    const text = `${PREAMBLE}# 1 "sub/deep/../h.h" 1\nint h;\n# 2 "main.c" 2\n`;
    const { quotes, folders } = ready(
      rebuild(text, { "main.c": '#include "sub/deep/../h.h"\n', "sub/h.h": "int h;\n" }),
    );
    assert.deepEqual(folders, ["/hpcc/project/sub/deep"]);
    assert.deepEqual(Object.keys(quotes), ["/hpcc/project/main.c", "/hpcc/project/sub/h.h"]);
  });

  it("sends no image header, and quotes what a line directive names", () => {
    const text = `${PREAMBLE}# 1 "/usr/include/x.h" 1 3\nint x;\n# 2 "main.c" 2\n# 3 "g.y"\nint y;\n`;
    const files = { "main.c": '#include <x.h>\n#line 3 "g.y"\nint y;\n', "g.y": "%one\n%two\n%three\n%four\n" };
    assert.equal(ready(rebuild(text, files)).quotes["/hpcc/project/g.y"], "\n\n%three\n");
  });

  it("carries poison and macro stacks into the second step, and drops GCC's own undoing", () => {
    const source = '#pragma push_macro("A")\n#pragma once\n#pragma  GCC poison p\n#pragma pop_macro("A")\nint a;\n';
    const written = `       \n       \n       \n       \n# 4 "main.c"\n#undef A\nint a;\n`;
    assert.equal(
      ready(rebuild(PREAMBLE + written, { "main.c": source })).text,
      `${PREAMBLE}#pragma push_macro("A")\n       \n#pragma  GCC poison p\n#pragma pop_macro("A")\nint a;\n`,
    );
  });

  const refusals: readonly [string, string, Readonly<Record<string, string>>, RegExp][] = [
    [
      "a file that changed after it was read",
      "int a;\n",
      { "main.c": "int b;\n" },
      /^modified_input_file: .*main\.c:1:/,
    ],
    ["a file that shrank", "int a;\nint b;\n", { "main.c": "int a;\n" }, /^modified_input_file/],
    ["a file that is gone", "int a;\n", {}, /^modified_input_file/],
    ["a macro that changed", "#define A 1\n", { "main.c": "#define A 2\n" }, /^unfaithful_preprocessing/],
    ["a lost pragma", "int a;\n\n", { "main.c": 'int a;\n#pragma message "x"\n' }, /^unfaithful_preprocessing/],
    [
      "a lost pragma at the end",
      "int a;\n",
      { "main.c": 'int a;\n#pragma message "x"\n' },
      /^unfaithful_preprocessing/,
    ],
    ["markers that do not nest", '# 1 "h.h" 2\n', { "main.c": "" }, /^unfaithful_preprocessing/],
    ["an include that never ends", '# 1 "h.h" 1\nint h;\n', { "main.c": "", "h.h": "int h;\n" }, /^unfaithful/],
    ["a marker that nothing explains", '# 9 "other.c"\n', { "main.c": "x\n" }, /^unfaithful_preprocessing/],
  ];
  for (const [name, text, files, expected] of refusals)
    it(`refuses ${name}`, () => assert.match(refusal(rebuild(PREAMBLE + text, files)), expected));

  it("refuses text that names no source", () => {
    assert.match(refusal(rebuild("int a;\n", { "main.c": "int a;\n" })), /^unfaithful_preprocessing/);
  });

  it("answers any bytes", () => {
    const line = fc.constantFrom(
      "int a;",
      "",
      "       ",
      "#define A 1",
      "#undef A",
      '# 1 "h.h" 1',
      '# 2 "main.c" 2',
      '# 9 "main.c"',
      "/*",
      "*/ # 1",
      'R"(',
      "#pragma x",
      "\\",
      "(",
    );
    const lines = fc.array(line, { maxLength: 12 }).map((all) => all.join("\n"));
    fc.assert(
      fc.property(lines, lines, lines, (text, main, header) => {
        const rebuilt = rebuild(PREAMBLE + text, { "main.c": main, "h.h": header });
        if (rebuilt.kind === "ready") assert.equal(rebuilt.main.path, TEXT_PATH);
      }),
      { numRuns: 1000 },
    );
  });
});

describe("rebuildTranslationUnit of clang", () => {
  const text =
    '# 1 "main.c"\n# 1 "<built-in>" 1\n# 1 "<built-in>" 3\n# 1 "sub/../h.h" 1\nint h;\n# 2 "main.c" 2\nint a;\n';

  it("puts the text where the source stood and sends nothing else", () => {
    const rebuilt = rebuild(text, { "main.c": "x", "h.h": "int h;\n" }, "clang");
    assert.equal(rebuilt.kind, "ready");
    if (rebuilt.kind !== "ready") return;
    assert.deepEqual(rebuilt.main, { path: "/hpcc/project/main.c", bytes: bytesOf(ascii(text)) });
    assert.equal(rebuilt.mainName, "main.c");
    assert.deepEqual(rebuilt.quotes, []);
    assert.deepEqual(rebuilt.reads, ["/hpcc/project/h.h", "/hpcc/project/main.c"]);
  });

  it("refuses byte order marks and line directives", () => {
    assert.match(refusal(rebuild(text, { "h.h": "\xef\xbb\xbfint h;\n" }, "clang")), /h\.h: byte order mark/);
    assert.match(refusal(rebuild(text, { "main.c": '#line 3 "x"\n' }, "clang")), /main\.c: a line directive/);
  });
});
