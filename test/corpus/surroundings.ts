// Snippets about where text comes from: pragmas and macros in headers of the project and of the system's kind, forced headers, odd
// directives, other drivers.
import type { Row } from "./rows.ts";

const SIMD = {
  "main.c": "#include <simd.h>\nint f(void) { return WIDE; }\nint w = 3.5f;\n",
  "image/simd.h": '#pragma GCC target("avx2")\n#ifdef __AVX2__\n#define WIDE 2\n#else\n#define WIDE 1\n#endif\n',
};
const stringised = (pragma: string, macro: string) =>
  `#define P(x) _Pragma(#x)\nP(${pragma})\n#ifdef ${macro}\nint f(void) { return 2; }\n#else\nint f(void) { return 1; }\n#endif\nint w = 3.5f;\n`;
const TWO = { "main.c": '#include "h.h"\nint f(int a) { char c = a; return c + H; }\n', "h.h": "#define H 3\n" };

const PRAGMAS: readonly Row[] = [
  { folder: "stringised-target", files: { "main.c": stringised('GCC target("avx2")', "__AVX2__") } },
  { folder: "stringised-optimize", files: { "main.c": stringised('GCC optimize("O0")', "__OPTIMIZE__") } },
  {
    folder: "stringised-ignored",
    files: {
      "main.c":
        '#define DO(x) _Pragma(#x)\nDO(GCC diagnostic push)\nDO(GCC diagnostic ignored "-Wconversion")\nchar f(int a) { return a; }\nDO(GCC diagnostic pop)\nchar g(int a) { return a; }\n',
    },
  },
  { folder: "target-in-system-header", files: SIMD, flags: "-isystem image" },
  { folder: "target-in-project-header", files: SIMD, flags: "-Iimage" },
  {
    folder: "optimize-in-header",
    files: {
      "main.c": '#include "o.h"\n#ifdef __OPTIMIZE__\nint x = 3.5f;\n#else\nint y = 3.5f;\n#endif\n',
      "o.h": '#pragma GCC optimize("O0")\n',
    },
  },
  {
    folder: "push-options",
    files: {
      "main.c":
        '#pragma GCC push_options\n#pragma GCC target("avx2")\n#include "w.h"\n#pragma GCC pop_options\n#ifdef __AVX2__\nint wide;\n#endif\nint x = 3.5f;\n',
      "w.h": "#ifdef __AVX2__\ntypedef int w __attribute__((vector_size(32)));\nw v;\n#endif\n",
    },
  },
  {
    folder: "vector-intrinsics",
    files: {
      "main.c":
        '#include <immintrin.h>\n__attribute__((target("avx2"))) __m256i f(__m256i a) { return _mm256_add_epi8(a, a); }\nint x = 3.5f;\n',
    },
  },
  {
    folder: "diagnostic-in-header",
    files: {
      "main.c": '#include "d.h"\nchar f(int a) { return a; }\nint g(int u) { return 1; }\n',
      "d.h": '#pragma GCC diagnostic error "-Wconversion"\n#pragma GCC diagnostic ignored "-Wunused-parameter"\n',
    },
  },
  {
    folder: "diagnostic-in-system-header",
    files: {
      "main.c": "#include <d.h>\nchar f(int a) { return a; }\n",
      "image/d.h": '#pragma GCC diagnostic error "-Wconversion"\n#pragma GCC system_header\n',
    },
    flags: "-isystem image",
  },
  {
    folder: "pack-and-visibility",
    files: {
      "main.c":
        "#pragma pack(push, 1)\nstruct s { char c; int i; };\n#pragma GCC visibility push(hidden)\nint h;\n#pragma GCC visibility pop\n#pragma pack(pop)\n#pragma weak w\nextern int w;\nint x = 3.5f;\n",
    },
  },
  {
    folder: "unroll-and-ivdep",
    files: {
      "main.c":
        "void f(int *p, int n) {\n#pragma GCC unroll 4\n  for (int i = 0; i < n; i++) p[i] = i;\n#pragma GCC ivdep\n  for (int i = 0; i < n; i++) p[i] += i;\n#pragma unroll 2\n  while (n--) p++;\n}\n",
    },
  },
  {
    folder: "push-macro-in-header",
    files: {
      "main.c": '#define M 1\n#include "p.h"\nint a = M;\n#pragma pop_macro("M")\nint b = M;\nchar *c = M;\n',
      "p.h": '#pragma push_macro("M")\n#undef M\n#define M 2\n',
    },
  },
  {
    folder: "assume-nonnull",
    files: {
      "main.c":
        '#pragma clang assume_nonnull begin\nint *f(int *p);\n#pragma clang assume_nonnull end\n#pragma clang diagnostic push\n#pragma clang diagnostic ignored "-Wconversion"\nchar g(int a) { f(0); return a; }\n#pragma clang diagnostic pop\n',
    },
  },
  {
    folder: "message-in-header",
    files: {
      "main.c": '#include "m.h"\nint x;\n',
      "m.h": '#pragma message "in a header"\n#pragma GCC warning "too"\n',
    },
  },
  {
    folder: "openmp-loops",
    files: {
      "main.c":
        "#include <omp.h>\nvoid f(int *p, int n) {\n#pragma omp parallel for schedule(static)\n  for (int i = 0; i < n; i++) p[i] = omp_get_thread_num();\n#pragma omp nothing_such\n}\nint x = 3.5f;\n",
    },
    flags: "-fopenmp",
    clang: null,
  },
];

const HEADERS: readonly Row[] = [
  {
    folder: "macros-in-headers",
    files: {
      "main.c": '#include "m.h"\nint f(int a) { return NARROW(a) + TWICE(a) + UNKNOWN(a); }\n',
      "m.h": '#include "n.h"\n#define NARROW(x)  \\\n  ((char) CAST(x))\n#define TWICE(x) ((x) + (x)\n',
      "n.h": "#define CAST(x) (char)  (x) / 0\n",
    },
  },
  {
    folder: "x-macros",
    files: {
      "main.c":
        '#define X(n, v) int n = v;\n#include "list.def"\n#undef X\n#define X(n, v) #n,\nconst char *s[] = {\n#include "list.def"\n};\n',
      "list.def": 'X(a, 1)\nX(b, "s")\nX(c, 3)\n',
    },
  },
  {
    folder: "header-in-function",
    files: {
      "main.c": 'int f(int a) {\n#include "body.inc"\n}\n',
      "body.inc": "  int b;\n  char c = a;\n  return c;\n",
    },
  },
  {
    folder: "nested-forced-include",
    files: {
      "main.c": "int f(int a) { char c = a; return c + J; }\n",
      "i.h": '#include "j.h"\n#include <stdio.h>\nint i = 3.5f;\n',
      "j.h": "#define J 2\nint j;\n",
    },
    flags: "-include i.h",
  },
  {
    folder: "forced-system-header",
    files: { "main.c": 'int f(void) { return printf("%s", 3); }\n' },
    flags: "-include stdio.h",
  },
  {
    folder: "two-forced-includes",
    files: { "main.c": "char c = A + B + 0x1000;\n", "a.h": "#define A 1\n", "b.h": '#define B A\n#include "a.h"\n' },
    flags: "-include a.h -imacros b.h",
  },
  { folder: "odd-directive-comment", files: { ...TWO, "main.c": '#/**/include "h.h"\nint x = H "";\n' } },
  { folder: "odd-directive-splice", files: { ...TWO, "main.c": '#inc\\\nlude "h.h"\nint x = H "";\n' } },
  {
    folder: "include-by-macro",
    files: { ...TWO, "main.c": '#define STR_(x) #x\n#define STR(x) STR_(x)\n#include STR(h.h)\nint x = H "";\n' },
  },
  {
    folder: "embedded-tests",
    files: {
      "main.c":
        '#if __has_include("h.h") && !__has_include("none.h")\n#include "h.h"\n#endif\n#if __has_attribute(cold)\nint x = H "";\n#endif\n',
      "h.h": "#define H 1\n",
    },
  },
  {
    folder: "own-assert",
    files: {
      "main.c": '#include <assert.h>\nint f(int a) { assert(a); return "x"; }\n',
      "over/assert.h": "#define assert(x) other(x)\n",
    },
    flags: "-Iover",
  },
  {
    folder: "precompiled-header",
    files: { "main.c": "#include <assert.h>\nint x;\n", "pch/assert.h.gch": "not one\n" },
    flags: "-Ipch -Winvalid-pch",
    // The compiler speaks of it.
    local: "compile_failed",
    clang: null,
  },
  {
    folder: "quote-only-path",
    files: { ...TWO, "q/h.h": '#define H ""\n', "h.h": "int own;\n#include_next <h.h>\n" },
    flags: "-iquote . -Iq",
  },
  { folder: "other-driver", files: TWO, flags: "-Werror", drivers: ["g++", "clang++"] },
  {
    folder: "other-driver-cxx",
    files: { "main.cc": "int x = 3.5f;\nint f(int u) { return 1; }\n" },
    drivers: ["gcc", "clang"],
  },
  { folder: "language-by-option", files: { "main.c": "int x = 3.5f;\nclass c { };\n" }, flags: "-x c++" },
  { folder: "dollar-in-name", files: { "main.c": "int a$b;\n" }, flags: "-std=gnu89 -pedantic-errors" },
  {
    folder: "pasted-date",
    files: { "main.c": "#define C3(a, b, c) a##b##c\nconst char *t = C3(__, DATE, __);\n" },
    flags: "-w",
    local: "date_time_macro",
    quiet: "both",
  },
  {
    folder: "time-as-a-word",
    files: { "main.c": 'const char *t = "__TIME__"; /* __DATE__ */\nint x = "__DATE__";\n' },
  },
  {
    folder: "absolute-words",
    files: { "main.c": "int f(int a) { char c = a; return c; }\n" },
    flags: "-fdiagnostics-absolute-paths",
    gcc: null,
  },
  {
    folder: "syntax-error-in-header",
    files: {
      "main.c": '#include "b.h"\nint f(void) { return g(; }\n',
      "b.h": "int g(int a { return a; }\nstruct s { int a }\n",
    },
  },
  {
    folder: "error-in-header",
    files: { "main.c": '#include "e.h"\nint x = 3.5f;\n', "e.h": '#ifndef OK\n#error "set OK"\n#endif\nint e;\n' },
  },
  { folder: "unclosed-condition", files: { "main.c": "#if 1\nint x;\n#ifdef A\n" } },
  { folder: "unclosed-brace", files: { "main.c": 'int f(void) {\n  if (1) {\n  return "";\n}\n' } },
  { folder: "bad-directive", files: { "main.c": "#nothing here\n#define\n#undef 3\n#if\n#endif\n#include\nint x;\n" } },
  {
    folder: "bad-macro-call",
    files: { "main.c": "#define M(a, b) a + b\nint x = M(1);\nint y = M(1, 2, 3);\nint z = M(1, 2;\n" },
  },
];

/** Text of a file is bytes as latin1. */
export const SURROUNDINGS: readonly Row[] = [...PRAGMAS, ...HEADERS];
