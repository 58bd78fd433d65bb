// Calls with which compiler caches have gone wrong: each is a command line, the files that it reads, and what is prepared before it.
import type { Scenario } from "../support/differential.ts";

type Files = Scenario["files"];
export type More = Omit<Partial<Scenario>, "name" | "argv" | "files"> & {
  /** The reason of a local compile; absent for a remote one. */
  readonly expect?: string;
  readonly only?: "gcc" | "clang";
  /** A script after which the call is made again. */
  readonly mutate?: string;
};
export type Row = readonly [name: string, argv: string | readonly string[], files?: Files, more?: More];

export const SIMPLE = { "a.c": "int f(int x){return x+1;}\n" };
const FAILS = { "a.c": "int a=H;\n" };
const VECTORS = {
  "a.c":
    "#ifdef __AVX2__\n#include <immintrin.h>\n#endif\nvoid f(float *a, int n) { while (n--) a[n] = a[n] * a[n] + a[n]; }\n",
};
const PROFILED = {
  "p.c":
    "int f(int x) { int s = 0; for (int i = 0; i < x; i++) s += i % 3 ? 1 : 2; return s; }\nint main(int c, char **v) { return f(c * 1000) & 1 & !v; }\n",
};
/** Runs what is instrumented; its profile is called after the folder and the object. */
const PROFILE =
  "gcc -O2 -frandom-seed=1 -fprofile-generate=prof -c p.c && gcc -fprofile-generate p.o -o p && { ./p || :; } && rm p p.o";
const HEADED = {
  "a.c": '#include "inc/q.h"\nint f(int x) { int u; puts("f"); return h(x) * K + Q; }\n',
  "inc/p.h":
    "#ifndef P_H\n#define P_H\n#include <stdio.h>\n#ifndef K\n#define K 3\n#endif\nstatic inline int h(int x) { return x * K; }\n#endif\n",
  "inc/q.h": "#define Q 1\n",
};
/** Made once: GCC writes no two alike. */
const headOf = (name: string, more = "") =>
  `[ -f ../${name} ] || gcc -O1 -g -Wall -x c-header inc/p.h -o ../${name}${more}; cp ../${name} inc/p.h.gch`;
const HEAD = headOf("p.gch");
const USING = "-c a.c -O1 -g -Wall -include inc/p.h";
const WARNS = {
  "a.c": '#include "h.h"\nint f(int a){int u; return a;}\n',
  "h.h": "static int g(int x){int q;return 0;}\n",
};
const NAMES = {
  "a.c": '#include "h h.h"\n#include <stdio.h>\n#include "d$/x#y.h"\nint main(){return printf("%d",H+X);}\n',
  "h h.h": "#define H 1\n",
  "d$/x#y.h": "#define X 3\n",
};
const PLACES = { "src/a.c": "const char*f=__FILE__;int z;\n" };
export const SEARCH = {
  "a.c": '#include <k.h>\n#include "l.h"\n#if __has_include("opt.h")\n#include "opt.h"\n#endif\nint a=K+L;\n',
  "y/k.h": "#define K 1\n",
  "l.h": "#define L 1\n",
  "x/other.h": "",
};
const SEARCHING = "-c a.c -o a.o -MD -Ix -Iy -Iz -g -gdwarf-4";
export const K_MACRO = { "a.c": "#ifdef K\nint a=K;\n#else\nint a=0;\n#endif\n" };
const both = (what: string) => `echo old > a.o; echo old > a.d; ${what}`;

export const OUTPUTS: readonly Row[] = [
  ["no -o", "-c a.c"],
  ["two -o", "-c a.c -o x.o -o y.o"],
  ["-S and two -o", "-S a.c -o x.s -o y.s"],
  ["umask 077", "-c a.c -MD", SIMPLE, { umask: "077" }],
  ["read-only outputs", "-c a.c -MD", SIMPLE, { prepare: both("chmod 444 a.o a.d") }],
  ["empty outputs of another mode", "-c a.c -MD", SIMPLE, { prepare: "touch a.o a.d; chmod 640 a.o a.d" }],
  ["linked outputs", "-c a.c -MD", SIMPLE, { prepare: "echo x > t.o; echo x > t.d; ln -s t.o a.o; ln -s t.d a.d" }],
  ["links to nothing", "-c a.c -MD", SIMPLE, { prepare: "ln -s t.o a.o; ln -s t.d a.d" }],
  ["hard-linked outputs", "-c a.c -MD", SIMPLE, { prepare: "echo x > t.o; echo x > t.d; ln t.o a.o; ln t.d a.d" }],
  ["a folder for an output", "-c a.c -MD", SIMPLE, { prepare: "mkdir a.o" }],
  ["no folder for an output", "-c a.c -o no/a.o -MD"],
  ["-o is the source by another name", "-c a.c -o @ROOT@/a.c", SIMPLE, { expect: "bad_output_file" }],
  ["-o is a link to the source", "-c a.c -o l.c", SIMPLE, { prepare: "ln -s a.c l.c", expect: "bad_output_file" }],
  ["-MF is -o by another name", "-c a.c -o x.o -MD -MF @ROOT@/x.o", SIMPLE, { expect: "bad_output_file" }],
  ["-MF /dev/null", "-c a.c -MD -MF /dev/null", SIMPLE, { expect: "bad_output_file" }],
  ["a large object", "-c a.c", { "a.c": "char big[2000000]={1};\n" }],
];
export const DEPENDENCIES: readonly Row[] = [
  ...["-MD", "-MMD -MP -MF x.d", "-MD -MT a$b -MQ a$b", "-MD -MQ a#b -MT x -MT y", "-Wp,-MMD,w.d -MP"].map(
    (flags): Row => [flags, `-c a.c -o out.o ${flags}`, NAMES],
  ),
  ["an odd name for the object", ["-c", "a.c", "-MD", "-o", "o o$#.o"], NAMES],
  ["absolute names from a build folder", "-c @ROOT@/a.c -MD -I@ROOT@ -o o.o", NAMES, { cwd: "build" }],
  [
    "a line end in a name",
    ["-c", "a\nb.c", "-MD"],
    { "a\nb.c": "int f;\n" },
    { expect: "unsupported_dependency_file" },
  ],
];
export const WORDS: readonly Row[] = [
  ["macros with quotes", ["-c", "a.c", '-DS="a b\\"c"', "-D", "V="], { "a.c": "const char*s=S;V" }],
  ["response files", "@args", { ...SIMPLE, args: '-c a.c\n\'-DX="a b"\' -o "o o.o" @more', more: "-O1 -MD" }],
  ["-Wp,-D", "-c a.c -Wp,-DK=3", K_MACRO],
  ["-Wp,-U", "-c a.c -DK -Wp,-UK", K_MACRO],
  ["-include by an absolute name", "-c a.c -MD -include @ROOT@/h.h", { "a.c": "int a=H;", "h.h": "#define H 1\n" }],
  ["-x c -x none", "-x c -x none -c a.c"],
  ["the seed of the caller", "-c a.c -frandom-seed=abc"],
  ["warnings in order", "-c a.c -Wall -Wextra", WARNS],
  ["-Werror", "-c a.c -Wall -Werror -MD", WARNS],
  ["colours", "-c a.c -Wall -fdiagnostics-color=always", WARNS],
  ["messages in C", "-c a.c -Wall", WARNS, { env: { LC_ALL: "C" } }],
  ["stdin", "-c -x c - -o a.o", SIMPLE, { shell: "< a.c", expect: "standard_input" }],
  ["-Wa,-g names a temporary file", "-S a.c -Wa,-g", SIMPLE, { expect: "unsupported_compiler_option" }],
  [
    "DEPENDENCIES_OUTPUT",
    "-c a.c",
    SIMPLE,
    {
      env: { DEPENDENCIES_OUTPUT: "dep.txt" },
      expect: "unsupported_environment_variable",
    },
  ],
  ["-save-temps", "-c a.c -save-temps", SIMPLE],
];
export const TEXTS: readonly Row[] = [
  [
    "a date",
    "-c a.c",
    { "a.c": "const char*d=__DATE__;\n" },
    {
      expect: "date_time_macro",
    },
  ],
  [
    "a date under the policy that pins it",
    "-c a.c",
    { "a.c": "const char*d=__DATE__;\n" },
    { env: { SOURCE_DATE_EPOCH: "86400", HPCC_DETERMINISM: "pin" }, only: "gcc" },
  ],
  [
    "a date by -D, without warnings",
    "-w -c a.c -DNOW=__TIMESTAMP__",
    { "a.c": "const char*d=NOW;\n" },
    {
      expect: "date_time_macro",
    },
  ],
  ["-DNOW=__BASE_FILE__", "-c a.c -DB=__BASE_FILE__", { "a.c": "const char*b=B;\n" }],
  ["__COUNTER__", "-c a.c", { "a.c": '#include "h.h"\nint a=__COUNTER__;', "h.h": "int z=__COUNTER__;\n" }],
  [
    "#pragma once and equal files",
    "-c a.c",
    {
      "a.c": '#include "x/o.h"\n#include "y/o.h"\nint v=sizeof(struct o);',
      "x/o.h": "#pragma once\nstruct o{int a;};\n",
      "y/o.h": "#pragma once\nstruct o{int a;};\n",
    },
    { only: "gcc" },
  ],
  [".incbin in two literals", "-c a.c", { "a.c": '__asm__(".inc" "bin \\"b\\"\\n");\n', b: "xyz" }],
  [
    "#line with a path of the host",
    "-c a.c -Wall",
    {
      "a.c": '#line 1 "@ROOT@/y.y"\nint f(void){int u;}\nconst char *p=__FILE__;\n',
      "y.y": "int f(void){int u;} // grammar\n",
    },
    { expect: "outside_view" },
  ],
  [
    "#pragma GCC target",
    "-c a.c",
    { "a.c": '#pragma GCC target("avx2")\n#ifdef __AVX2__\nint wide;\n#endif\n' },
    {
      only: "gcc",
    },
  ],
  [
    "#pragma GCC optimize, and headers of other systems and of the image in branches",
    "-c a.c -Iinc",
    {
      "a.c":
        '#pragma GCC optimize("O2")\n#ifdef _MSC_VER\n#include <intrin.h>\n#endif\n#ifdef __OPTIMIZE__\n#include <langinfo.h>\n#include "opt.h"\n#endif\nint a=CODESET+OPT;\n',
      "inc/opt.h": "#define OPT 2\n",
      "inc/nl_types.h": "#define OWN 1\n#include_next <nl_types.h>\n",
    },
    { only: "gcc" },
  ],
  [
    "a macro that stands for __has_include",
    "-c a.c -Iinc",
    {
      "a.c": '#include "has.h"\n#if HAS("inc/a.h") && HAS(<b.h>) && !HAS(<none.h>)\nint asked;\n#endif\n',
      "has.h": "#ifdef __has_include\n#define HAS(x) __has_include(x)\n#else\n#define HAS(x) 0\n#endif\n",
      "inc/a.h": "",
      "inc/b.h": "",
    },
  ],
  [
    "a source that is a link",
    "-c l/a.c -MD",
    {
      "real/a.c": '#include "h.h"\nint a=H;',
      "real/h.h": "#define H 1\n",
      "l/h.h": "#define H 2\n",
    },
    { prepare: "ln -s ../real/a.c l/a.c" },
  ],
  [
    "bytes that are not UTF-8",
    ["-c", "\xe9 a.c", "-MD", "-g", "-gdwarf-4"],
    {
      "\xe9 a.c": '#include "\xff.h"\nint a=Q;const char*f=__FILE__;',
      "\xff.h": "#define Q 1\n",
    },
  ],
];
/** What only a compile in one step keeps, and files besides object and dependency file. */
const TWO_LINES = { "a.c": "int f(int a){\n  if (a)\n    return 1;\n    return 0; }\n#define U 1\nint g(void);\n" };
const GUARDED = {
  "a.c":
    "int f(int a) { if (a == 3); return a; }\nint g(void);\nint h(int a){\n  if (a)\n    g();\n    g();\n  return a;}\n",
};
const COVERED = {
  "src/a.c": '#include "h.h"\nint f(int x){return x?h(x):1;}\n',
  "src/h.h": "static int h(int x){return x+2;}\n",
};
const ASSEMBLER = {
  "a.s": '.data\n.globl d\nd: .incbin "data.bin"\n.include "more.inc"\n',
  "more.inc": '.byte 7\n.incbin "data.bin", 1, 2\n',
  "data.bin": "abcdef",
  "b.S": '#include "n.h"\n.data\n.globl d # don\'t\nd: .byte N\n.incbin "data.bin"\n',
  "n.h": "#define N 3\n",
};
export const ONE_STEP: readonly Row[] = [
  ["-g3", "-c a.c -g3", TWO_LINES],
  ["-g with the newest DWARF", "-c src/a.c -g -O1", COVERED],
  ["-Wunused-macros", "-c a.c -Wunused-macros", TWO_LINES],
  ["-Weverything", "-c a.c -Weverything", TWO_LINES, { only: "clang" }],
  ["misleading indentation is an error", "-c a.c -Wall -Werror", GUARDED],
  ["an empty body is a warning", "-c a.c -Wextra -Wempty-body", GUARDED],
  ["-traditional-cpp", "-c a.c -traditional-cpp", { "a.c": '#define S(x) "x"\nchar*s=S(y);\n' }, { only: "gcc" }],
  ["-finput-charset", "-c a.c -finput-charset=ISO-8859-1", { "a.c": 'const char*s="\xe4";\n' }, { only: "gcc" }],
  ["-C", "-c a.c -C", TWO_LINES, { only: "gcc" }],
  ["diagnostics in JSON", "-c a.c -Wall -Wextra -fdiagnostics-format=json", WARNS, { only: "gcc" }],
  ["fix-its for machines", "-c a.c -Wall -fdiagnostics-parseable-fixits -Wextra", WARNS],
  ["absolute diagnostics", "-c a.c -Wall -fdiagnostics-absolute-paths", WARNS, { only: "clang" }],
  [
    "-include that includes",
    "-c a.c -include i.h -MMD",
    { "a.c": "int a=H;\n", "i.h": '#include "j.h"\n#include <stddef.h>\nint i;\n', "j.h": "#define H 1\n" },
  ],
  ["-imacros", "-c a.c -imacros i.h", { "a.c": "int a=H;\n", "i.h": "#define H 1\n" }],
  [
    "a pragma made of an argument",
    "-c a.c",
    {
      "a.c":
        '#define P(x) _Pragma(#x)\nP(GCC target("avx2"))\n#ifdef __AVX2__\n#include "wide.h"\n#else\nint narrow;\n#endif\n',
      "wide.h": "int wide;\n",
    },
    { only: "gcc" },
  ],
  [
    "a pragma that sets optimization",
    "-c a.c",
    { "a.c": '#pragma GCC optimize("O2")\n#ifdef __OPTIMIZE__\nint fast;\n#endif\n' },
    { only: "gcc" },
  ],
  [
    "-fopenmp",
    "-c a.c -fopenmp -O1",
    { "a.c": "void f(int*p){\n#pragma omp parallel for\nfor(int i=0;i<9;i++)p[i]=i;}\n" },
    { only: "gcc" },
  ],
  ["-flto", "-c src/a.c -flto -O1", COVERED],
  ["coverage", "-c src/a.c -o o/a.o --coverage", COVERED, { prepare: "mkdir o" }],
  ["split debug information", "-c src/a.c -o o/a.o -g -gsplit-dwarf", COVERED, { prepare: "mkdir o" }],
  ["stack usage", "-c src/a.c -fstack-usage", COVERED],
  [
    "counts of verified tables",
    "-c -x c++ a.c -fvtable-verify=std -fvtv-counts",
    { "a.c": "struct A { virtual int f(); virtual ~A(); };\nint A::f() { return 1; }\nA::~A() {}\n" },
    { expect: "side_outputs", only: "gcc" },
  ],
  [
    "CodeView, which holds the command line",
    "-c a.c -g -gcodeview --target=x86_64-w64-windows-gnu",
    SIMPLE,
    { expect: "recorded_switches", only: "clang" },
  ],
  ["a call graph", "-c src/a.c -o x.o -fcallgraph-info", COVERED, { only: "gcc" }],
  ["-save-temps=obj", "-c src/a.c -o o/b.o -save-temps=obj", COVERED, { prepare: "mkdir o" }],
  ["-S and -save-temps", "-S src/a.c -save-temps", COVERED],
  ["side outputs through a link", "-c src/a.c -o l/x.o -fstack-usage", COVERED, { prepare: "mkdir o; ln -s o l" }],
  ["a listing in a folder", "-c a.s -Wa,-aln=o/x.lst", ASSEMBLER, { prepare: "mkdir o", only: "gcc" }],
  ["-MD where nothing is preprocessed", "-c a.s -MD", ASSEMBLER, { only: "gcc" }],
  [
    "-MD where nothing is preprocessed, of which Clang speaks",
    "-c a.s -MD",
    ASSEMBLER,
    { only: "clang", expect: "bad_compiler_arguments" },
  ],
  ["a failure with -MD", "-c a.c -MD", { "a.c": '#include "h.h"\nint a=H;\n', "h.h": "" }],
  ["a failure over an object", "-c a.c", FAILS, { prepare: "echo old > a.o" }],
  ["a failure over an object, with a pipe", "-c a.c -pipe", FAILS, { prepare: "echo old > a.o" }],
  ["a failure of the assembler", "-c a.c", { "a.c": '__asm__("zork");\n' }, { prepare: "echo old > a.o" }],
  ["a failure over a text", "-S a.c", FAILS, { prepare: "echo old > a.s" }],
  ["a failure over a link", "-S a.c", FAILS, { prepare: "echo t > t; ln -s t a.s", expect: "compile_failed" }],
  ["a failure over a second name", "-S a.c", FAILS, { prepare: "echo t > t; ln t a.s", expect: "compile_failed" }],
  ["a failure without the folder", "-S a.c -o no/a.s", FAILS, { expect: "compile_failed" }],
  ["a failure with -save-temps", "-c a.c -save-temps", FAILS, { expect: "compile_failed" }],
  [
    "a failure over coverage notes",
    "-c a.c --coverage",
    FAILS,
    { prepare: "echo old > a.o; echo old > a.gcno", expect: "compile_failed" },
  ],
  ["this machine's processor", "-c a.c -O3 -march=native -mno-avx512f -MD", VECTORS],
  ["this machine's processor, tuned for", "-c a.c -O3 -g -mtune=native", VECTORS],
  [
    "dumps of single passes",
    "-c src/a.c -O1 -fdump-tree-optimized=d.txt -fdump-rtl-expand-details=o/e.txt",
    COVERED,
    { prepare: "mkdir o", only: "gcc" },
  ],
  [
    "two dumps in one file",
    "-c src/a.c -fdump-tree-gimple=d -fdump-tree-cfg=d",
    COVERED,
    { expect: "bad_output_file", only: "gcc" },
  ],
  [
    "a profile in a folder",
    "-c p.c -O2 -g -fprofile-use=prof -Wmissing-profile -MD",
    PROFILED,
    { prepare: PROFILE, only: "gcc" },
  ],
  [
    "a profile of another output",
    "-c p.c -o o.o -O2 -fprofile-use=@ROOT@/prof -Wmissing-profile",
    PROFILED,
    { prepare: PROFILE, only: "gcc" },
  ],
  [
    "a folder of profiles that is not there",
    "-c p.c -O2 -fprofile-use=none -Wmissing-profile",
    PROFILED,
    { only: "gcc" },
  ],
  [
    "a file in the place of a folder of profiles",
    "-c p.c -O2 -fprofile-use=p.c -Wmissing-profile",
    PROFILED,
    { only: "gcc" },
  ],
  ["an automatic profile of another kind", "-c p.c -O2 -fauto-profile=p.c", PROFILED, { only: "gcc" }],
  ["a precompiled header", `${USING} -MD`, HEADED, { prepare: HEAD, only: "gcc" }],
  [
    "a precompiled header that knows what it was made of",
    `${USING} -MMD -MP -MF x.d`,
    HEADED,
    { prepare: headOf("listed.gch", " -MD"), only: "gcc" },
  ],
  [
    "a precompiled header in a folder that is searched",
    "-c a.c -O1 -g -Wall -Iinc -include p.h -MD",
    HEADED,
    { prepare: HEAD, only: "gcc" },
  ],
  [
    "an absolute precompiled header",
    "-c a.c -O1 -g -Wall -include @ROOT@/inc/p.h",
    HEADED,
    { prepare: HEAD, only: "gcc" },
  ],
  [
    "a precompiled header for other options",
    "-c a.c -O2 -fPIE -DW=1 -include inc/p.h -MD",
    HEADED,
    { prepare: HEAD, only: "gcc" },
  ],
  [
    "a precompiled header of which the compiler speaks",
    "-c a.c -O0 -Winvalid-pch -include inc/p.h -MD",
    HEADED,
    { prepare: HEAD, only: "gcc", expect: "compile_failed" },
  ],
  [
    "a precompiled header in a failing call",
    `${USING} -DK=h(`,
    HEADED,
    { prepare: HEAD, only: "gcc", expect: "compile_failed" },
  ],
  ["address sanitizer", "-c src/a.c -fsanitize=address -O1", COVERED],
  [
    "undefined behaviour sanitizer",
    "-c @ROOT@/src/a.c -fsanitize=undefined -o a.o",
    { "src/a.c": "int f(int x){return x<<33;}\n" },
  ],
  [
    "a sanitizer's list",
    "-c src/a.c -fsanitize=address -fsanitize-ignorelist=l.txt",
    { ...COVERED, "l.txt": "fun:f\n" },
    { only: "clang" },
  ],
  ["an assembler source", "-c a.s", ASSEMBLER],
  ["a preprocessed assembler source", "-c b.S -MD -I.", ASSEMBLER],
  [
    "a macro that builds .incbin",
    "-c c.s",
    { "c.s": '.macro load f\n.inc\\()bin "\\f"\n.endm\n.data\nload data.bin\n', "data.bin": "abc" },
    { expect: "compile_failed", only: "gcc" },
  ],
  [
    "a preprocessed source",
    "-c p.i -Wall",
    { "p.i": '# 1 "q.c"\nint f(void){int u;}\n', "q.c": "int f(void){int u;} // from\n" },
  ],
  [
    "several sources",
    "-c src/a.c b.c -MD -O1",
    { ...COVERED, "b.c": '#include "src/h.h"\nint g(int x){int u;return h(x);}\n' },
  ],
  [
    "several sources, one of which fails",
    "-c src/a.c b.c",
    { ...COVERED, "b.c": "int g( {\n" },
    { expect: "compile_failed" },
  ],
  ["the other driver", "-c a.c -Wall", WARNS],
  [
    "#pragma once in copies",
    "-c a.c",
    {
      "a.c": '#include "x/o.h"\n#include "y/o.h"\nstruct o v;\n',
      "x/o.h": "#pragma once\nstruct o{int a;};\n",
      "y/o.h": "#pragma once\n// other\n",
    },
  ],
  [
    "a link to a header",
    "-c a.c -MD",
    { "a.c": '#include "l.h"\n#include "r.h"\nint a=R;\n', "r.h": "#pragma once\n#define R 1\nint once;\n" },
    { prepare: "ln -s r.h l.h" },
  ],
];
/** With the kinds of maps that hpcc adds: all but those in which the caller maps the whole project himself. */
export const MAPS: readonly Row[] = (
  [
    ["-fmacro-prefix-map=@ROOT@=/src", ["debug"]],
    ["-fdebug-prefix-map=@ROOT@=/src", ["macro"]],
    ["-ffile-prefix-map=@ROOT@=/src", []],
    ["-fmacro-prefix-map=@ROOT@/src=S", ["debug", "macro"]],
    ["-fdebug-prefix-map=@ROOT@/src=S", ["debug", "macro"]],
    ["-fdebug-prefix-map=src=S", ["debug", "macro"]],
  ] as const
).map(([flag, maps]): Row => [flag, `-c @ROOT@/src/a.c -o a.o -g -gdwarf-4 ${flag}`, PLACES, { maps }]);
const APPEARING = (
  [
    ["a header appears before it on the path", "echo '#define K 7' > x/k.h"],
    ["a folder of the path appears", "mkdir z; echo '#define Z' > z/k.h"],
    ["what __has_include asks for appears", "echo 'int q=2;' > opt.h"],
    [
      "another content of the same size and time",
      "touch -r y/k.h s; echo '#define K 2' > y/k.h; touch -r s y/k.h; rm s",
    ],
    ["a folder is replaced", "mv y old; mkdir y; echo '#define K 5' > y/k.h"],
    ["the source goes on", "echo 'int more;' >> a.c"],
  ] as const
).map(([name, mutate]): Row => [name, SEARCHING, SEARCH, { mutate }]);
export const MUTATIONS: readonly Row[] = [
  ...APPEARING,
  [
    "an instrumented source goes on",
    "-c a.c -O1 -fprofile-generate -frandom-seed=1",
    SIMPLE,
    { mutate: "echo 'int g(int x) { return f(x) * 2; }' >> a.c" },
  ],
  ...["sdk", "@ROOT@/sdk"].map(
    (root): Row => [
      `a system root describes itself, ${root}`,
      `-c a.c -isysroot ${root} --target=x86_64-apple-macos11`,
      { ...SIMPLE, "sdk/usr/include/h.h": "" },
      {
        mutate: `echo '{"Version":"13.0","MaximumDeploymentTarget":"13.0.99"}' > sdk/SDKSettings.json`,
        only: "clang",
      },
    ],
  ),
  [
    "a system root describes itself anew",
    "-c a.c -isysroot sdk/ --target=x86_64-apple-macos11",
    { ...SIMPLE, "sdk/SDKSettings.json": '{"Version":"12.0","MaximumDeploymentTarget":"12.0.99"}' },
    { mutate: "sed -i s/12.0/13.0/g sdk/SDKSettings.json", only: "clang" },
  ],
  ...(["a.s", "q.c"] as const).map(
    (source): Row => [
      `a listing quotes a source, ${source}`,
      `-c ${source} -o o.o -Wa,-alhn=l.lst`,
      {
        "a.s": '.file 1 "t.txt"\n.text\n.loc 1 1\nnop\n',
        "q.c": 'void f(void) { __asm__(".file 1 \\"t.txt\\"\\n.loc 1 1\\nnop"); }\n',
        "t.txt": "one\n",
      },
      { mutate: "echo two > t.txt", only: "gcc", expect: "unsupported_code_directive" },
    ],
  ),
  ["warnings move to other lines", "-c a.c -Wall -Wextra", WARNS, { mutate: "sed -i '1i // a line more' a.c h.h" }],
];
