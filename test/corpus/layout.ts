// Snippets about how text stands in its file, which some warnings depend on, and about outputs of other kinds: debug information, machine
// formats, assembler, files besides the object.
import type { Row } from "./rows.ts";

const utf8 = (text: string): string => Buffer.from(text).toString("latin1");
const TWO = { "main.c": '#include "h.h"\nint f(int a) { char c = a; return c + H; }\n', "h.h": "#define H 3\n" };

const LAYOUT: readonly Row[] = [
  {
    folder: "guarded-indentation",
    files: {
      "main.c":
        "#define CALL g()\nint g(void);\nint f(int a) {\n  for (;a;)\n    CALL;\n    CALL;\n\n  while (a)\n    a--;\n    return a; }\n",
    },
  },
  {
    folder: "indentation-by-tabs",
    files: {
      "main.c":
        "int g(void);\nint f(int a) {\n\tif (a)\n\t\tg();\n\t\tg();\n        if (a)\n\t  g();\n\t  return a;\n}\n",
    },
    flags: "-ftabstop=4",
  },
  {
    folder: "indentation-in-header",
    files: {
      "main.c": '#include "h.h"\nint x = 3.5f;\n',
      "h.h": "int g(void);\nstatic int f(int a) {\n  if (a)\n    g();\n    return g();\n}\n",
    },
  },
  {
    folder: "body-after-line-end",
    files: {
      "main.c": "int f(int a) {\n  if (a)\n    ;\n  while (a);\n  { a--; }\n  for (;a;);\n    a--;\n  return a;\n}\n",
    },
  },
  {
    folder: "comments-in-lines",
    files: { "main.c": 'int/* a\n b */x/**/=/*\n*/"y"; // end \\\n   goes on\nint z = 3.5f;\n' },
    flags: "-Wcomment",
  },
  {
    folder: "mixed-line-ends",
    files: { "main.c": 'int a = 3.5f;\r\n#define M(x) \\\r\n  x ""\nint b = M(1);\rint c = "z";\n' },
  },
  { folder: "trailing-backslash", files: { "main.c": "int a = 3.5f; \\ \nint b; \\" } },
  { folder: "very-wide-line", files: { "main.c": `int a = ${"1 + ".repeat(300)}"x";\n` } },
  {
    folder: "bidirectional-names",
    files: { "main.c": utf8('int a = "x\u202e"; /* \u2066 */\nint \\u202ab;\n') },
    flags: "-Wbidi-chars=any",
    clang: null,
  },
  {
    folder: "wide-characters",
    files: {
      "main.c": utf8(
        '#include <wchar.h>\nwchar_t *w = L"\u00e4\u{1f600}";\nint x = u8"\u00e9";\nchar c = \'\u00e4\';\n',
      ),
    },
  },
  {
    folder: "utf8-mark-in-header",
    files: { "main.c": '#include "b.h"\nint x = B "";\n', "b.h": "\u00ef\u00bb\u00bf#define B 1\r\n" },
  },
  {
    folder: "nul-in-header",
    files: { "main.c": '#include "n.h"\nint x = N "";\n', "n.h": "#define N 1\0\nint n\0;\n" },
  },
  { folder: "nul-in-string", files: { "main.c": 'const char s[] = "a\0b";\nint x = sizeof(s) "";\n' } },
  {
    folder: "invalid-utf8",
    files: { "main.c": 'const char *s = "\xc3\x28\xff";\n// \xe2\x28\xa1\nint x = 3.5f;\n' },
    gcc: null,
  },
  {
    folder: "raw-string-lines",
    files: { "main.cc": 'const char *s = R"x(a\n#define N 1\n\\\n"b" ??/ )x";\nint x = 3.5f;\n' },
  },
  {
    folder: "digraph-directives",
    files: {
      "main.c": '%:define A 1\n%:include "h.h"\nint a<:3:> = <% A, "x" %>;\n',
      "h.h": "%:pragma once\nint h;\n",
    },
  },
  {
    folder: "trigraph-lines",
    files: { "main.c": '??=define A 1 ??/\n + 2\nint a??(3??) = { A, "x" };\n' },
    flags: "-std=c11",
  },
  {
    folder: "line-zero",
    files: { "main.c": '#line 0 "z.c"\nint a = 3.5f;\n#line 2147483647\nint b = 3.5f;\n' },
    flags: "-pedantic",
  },
  {
    folder: "line-names-header",
    files: {
      "main.c": '#line 2 "h.h"\nint a = 3.5f;\n# 7 "h.h" 3\nchar f(int b) { return b; }\n',
      "h.h": "int one;\nint two_is_quoted;\n",
    },
  },
  {
    folder: "many-errors",
    files: { "main.c": Array.from({ length: 40 }, (_, i) => `int e${i} = nothing${i};\n`).join("") },
  },
];

const OUTPUTS: readonly Row[] = [
  { folder: "macro-debug-info", files: TWO, flags: "-g3" },
  {
    folder: "newest-debug-info",
    files: { "main.c": '#include "sub/h.h"\nint x = 3.5f;\n', "sub/h.h": "static int h(int a) { return a; }\n" },
    flags: "-gdwarf-5",
  },
  { folder: "coverage", files: TWO, flags: "--coverage -frandom-seed=c" },
  { folder: "link-time", files: TWO, flags: "-flto -frandom-seed=l" },
  { folder: "split-debug-info", files: TWO, flags: "-gsplit-dwarf" },
  {
    folder: "sanitized-shift",
    files: { "main.c": "int f(int x) { int a[3]; return x << 33 | a[4]; }\n" },
    flags: "-fsanitize=undefined,address",
  },
  { folder: "sanitized-threads", files: TWO, flags: "-fsanitize=thread" },
  { folder: "stack-usage", files: TWO, flags: "-fstack-usage" },
  { folder: "dependency-file", files: TWO, flags: "-MD -MP -MF main.d" },
  {
    folder: "failing-with-dependencies",
    files: { ...TWO, "main.c": '#include "h.h"\nint x = nothing;\n' },
    flags: "-MMD",
  },
  { folder: "kept-temporaries", files: TWO, flags: "-save-temps=obj" },
  { folder: "diagnostics-json", files: TWO, flags: "-fdiagnostics-format=json", clang: null },
  { folder: "diagnostics-msvc", files: TWO, flags: "-fdiagnostics-format=msvc", gcc: null },
  { folder: "diagnostics-plain", files: TWO, flags: "-fdiagnostics-plain-output", clang: null },
  {
    folder: "diagnostics-hotness",
    files: TWO,
    flags: "-fdiagnostics-show-category=name -fno-caret-diagnostics",
    gcc: null,
  },
  { folder: "no-macro-tracking", files: TWO, flags: "-Wunused-macros -ftrack-macro-expansion=1", clang: null },
  {
    folder: "unused-macros-here",
    files: { "main.c": '#include "h.h"\n#define HERE 1\nint x = 3.5f;\n', "h.h": "#define H 1\n" },
    flags: "-Wunused-macros",
  },
  {
    folder: "traditional",
    files: { "main.c": '#define S(x) "x"\nchar *s = S(y);\nint x = 3.5f;\n' },
    flags: "-traditional-cpp",
    clang: null,
  },
  {
    folder: "charset-latin1",
    files: { "main.c": 'const char *s = "\xe4";\nint x = "\xfc";\n' },
    flags: "-finput-charset=ISO-8859-1",
    clang: null,
  },
  {
    folder: "charset-exec",
    files: { "main.c": 'const char *s = "\u00c3\u00a4";\nint x = L"\u00c3\u00bc";\n' },
    flags: "-fexec-charset=UTF-16LE -fwide-exec-charset=UTF-32BE",
    clang: null,
  },
  {
    folder: "response-file",
    files: { ...TWO, args: '-DX="a b" -Wshadow\n@more\n', more: "-Wundef -Iinc\n" },
    flags: "@args",
  },
  {
    folder: "preprocessed",
    files: {
      "main.i": '# 1 "q.c"\nint f(void) { int u; return 1; }\n',
      "q.c": "int f(void) { int u; return 1; } // from\n",
    },
  },
  {
    folder: "assembler",
    files: {
      "main.s": '.text\n.globl f\nf:\n\tret\n.data\n.incbin "d.bin"\n.include "m.inc"\n',
      "d.bin": "abc",
      "m.inc": ".byte 1\n",
    },
    quiet: "both",
  },
  {
    folder: "assembler-with-cpp",
    files: {
      "main.S": '#include "n.h"\n.text\n.globl f\nf:\tret # don\'t\n#warning spoken\n.byte N\n',
      "n.h": "#define N 3\n",
    },
  },
  {
    folder: "assembler-macro",
    files: { "main.s": '.macro load f\n.inc\\()bin "\\f"\n.endm\n.data\nload d.bin\n', "d.bin": "abc" },
    local: "compile_failed",
    quiet: "both",
    clang: null,
  },
  {
    folder: "assembler-unknown",
    files: { "main.s": ".text\nf:\tfrobnicate\n\tret\n.data\n\t.byte 300, 1\n" },
  },
  {
    folder: "inline-assembler-late",
    files: { "main.c": 'int x = 1;\n__asm__(".if 1\\n.pushsection .data");\n' },
  },
  {
    folder: "inline-assembler",
    files: { "main.c": '__asm__(".data\\n.inc" "bin \\"d.bin\\"\\n");\nint x = 3.5f;\n', "d.bin": "xyz" },
  },
  {
    folder: "ordered-functions",
    files: { "main.c": "static int a(int c) { return c; }\nint b(int c) { return a(c); }\nint x = 3.5f;\n" },
    flags: "-ffunction-sections -fdata-sections -fno-toplevel-reorder",
    clang: null,
  },
];

/** Text of a file is bytes as latin1. */
export const LAYOUTS: readonly Row[] = [...LAYOUT, ...OUTPUTS];
