import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  string as anyString,
  array,
  assert as assertProperty,
  constantFrom,
  integer,
  oneof,
  property,
  tuple,
} from "fast-check";
import { CompilerFolder, FAMILIES } from "../../../../test/support/real-compiler.ts";
import { ascii, type ByteString } from "../../../base/byte-string.ts";
import { BYPASS_REASONS, type BypassReason } from "../bypass-reasons.ts";
import { GNU_OPTIONS } from "./gnu-options.ts";
import { parseGnu } from "./gnu-parse.ts";
import type { CompilerFamily, GnuInvocation, ParseResult } from "./invocation.ts";
import { expandResponseFiles } from "./response-file.ts";

function familyOf(program: string): CompilerFamily {
  return program.includes("clang") ? "clang" : "gcc";
}

/** Parses words; the first names the program, whose family follows. */
function parseWords(words: readonly string[]): ParseResult {
  return parseGnu(words.map(ascii), { family: familyOf(words[0] ?? "gcc"), readResponseFile: () => null });
}

function parse(line: string): ParseResult {
  return parseWords(line.split(" "));
}

function invocationOf(line: string): GnuInvocation {
  const result = parse(line);
  assert.ok(result.kind === "compile", `${line}: ${JSON.stringify(result)}`);
  return result.invocation;
}

describe("command lines that real builds write", () => {
  const lines = [
    // GNU make's implicit rule, automake, libtool, CMake, Meson, lua, the Linux kernel.
    "cc -c -o foo.o foo.c",
    "gcc -DHAVE_CONFIG_H -I. -I.. -g -O2 -MT x.o -MD -MP -MF .deps/x.Tpo -c -o x.o x.c",
    'gcc -DPACKAGE_NAME="x" -I. -g -O2 -MT a.lo -MD -MP -MF .deps/a.Tpo -c a.c  -fPIC -DPIC -o .libs/a.o',
    "/usr/bin/cc -Dx_EXPORTS -I/p/inc -isystem /usr/include/z -O3 -DNDEBUG -fPIC -std=gnu11 -MD -MT CMakeFiles/x.dir/a.c.o -MF CMakeFiles/x.dir/a.c.o.d -o CMakeFiles/x.dir/a.c.o -c /p/a.c",
    "c++ -Ilib/x.p -fdiagnostics-color=always -D_FILE_OFFSET_BITS=64 -Wall -Winvalid-pch -std=c++17 -O0 -g -fPIC -MD -MQ lib/a.cpp.o -MF lib/a.cpp.o.d -o lib/a.cpp.o -c ../a.cpp",
    "gcc -std=gnu99 -O2 -Wall -Wextra -DLUA_COMPAT_5_3 -DLUA_USE_LINUX -c -o lapi.o lapi.c",
    "gcc -Wp,-MMD,kernel/.fork.o.d -nostdinc -I./arch/x86/include -I./include -include ./include/linux/compiler-version.h -D__KERNEL__ -fmacro-prefix-map=./= -Werror -std=gnu11 -fshort-wchar -funsigned-char -fno-common -fno-PIE -fno-strict-aliasing -mno-sse -m64 -falign-jumps=1 -mno-80387 -mpreferred-stack-boundary=3 -mskip-rax-setup -mtune=generic -mcmodel=kernel -Wa,-mx86-used-note=no -fcf-protection=branch -fno-asynchronous-unwind-tables -mindirect-branch=thunk-extern -fno-jump-tables -O2 --param=allow-store-data-races=0 -fstack-protector-strong -ftrivial-auto-var-init=zero -fno-stack-clash-protection -pg -mrecord-mcount -mfentry -DCC_USING_FENTRY -fno-inline-functions-called-once -Wframe-larger-than=2048 -Wno-frame-address -fstrict-flex-arrays=3 -fconserve-stack -DKBUILD_MODFILE=kernel/fork -D__KBUILD_MODNAME=kmod_fork -c -o kernel/fork.o kernel/fork.c",
    "clang -Wp,-MMD,a/.b.o.d -nostdinc --target=x86_64-linux-gnu -fintegrated-as -Werror=unknown-warning-option -mllvm -asan-mapping-offset=0xdffffc0000000000 -Qunused-arguments -fno-integrated-as -gdwarf-5 -c -o a/b.o a/b.c",
    "gcc -pipe -O2 -fomit-frame-pointer -march=x86-64-v3 -mtune=haswell -flto=auto -ffat-lto-objects -specs-is-not-here".replace(
      " -specs-is-not-here",
      "",
    ) + " -fstack-clash-protection -D_FORTIFY_SOURCE=3 -Wp,-D_GLIBCXX_ASSERTIONS -c x.c",
    "g++ -std=c++20 -fcoroutines -fconcepts -fvisibility=hidden -fvisibility-inlines-hidden -ftemplate-depth=1024 -fsanitize=address,undefined -fno-sanitize-recover=all -c x.cc",
    "gcc -c -x c -std=c99 - -x none".replace("- -x none", "weird.name -x none"),
    "gcc -S -masm=intel -fverbose-asm-not".replace(" -fverbose-asm-not", "") + " x.c",
    "arm-none-eabi-gcc -mcpu=cortex-m4 -mthumb -mfpu=fpv4-sp-d16 -mfloat-abi=hard -march=armv8.2-a+crypto -c x.c",
  ];
  for (const line of lines) it(line.slice(0, 100), () => void invocationOf(line.replaceAll("  ", " ")));
});

describe("roles and values", () => {
  const rows: readonly (readonly [string, string, string])[] = [
    ["-I inc", "preprocess -I=inc directory", ""],
    ["-Iinc", "preprocess -I=inc directory", ""],
    ["-isystem/usr/x", "preprocess -isystem=/usr/x directory", ""],
    ["-iquote .", "preprocess -iquote=. directory", ""],
    ["-idirafter z", "preprocess -idirafter=z directory", ""],
    ["--sysroot=/s", "preprocess --sysroot==/s directory", ""],
    ["--sysroot /s", "preprocess --sysroot=/s directory", ""],
    ["-isysroot /s", "preprocess -isysroot=/s directory", ""],
    ["-include stdio.h", "preprocess -include=stdio.h include", ""],
    ["-imacros m.h", "preprocess -imacros=m.h include", ""],
    ['-DDATADIR="/usr/share"', 'preprocess -D=DATADIR="/usr/share" text', ""],
    ["-D X=1", "preprocess -D=X=1 text", ""],
    ["-UX", "preprocess -U=X text", ""],
    ["-ffile-prefix-map=/a=b", "both -ffile-prefix-map==/a=b prefix_map", ""],
    ["-fmacro-prefix-map=./=", "both -fmacro-prefix-map==./= prefix_map", ""],
    ["--param max-inline=3", "both --param=max-inline=3 text", ""],
    ["-O2", "both -O2=null text", ""],
    ["-unknown-f".replace("-unknown-f", "-fnever-heard-of=3"), "both -fnever-heard-of=3=null text", ""],
    ["-Wa,--noexecstack,-mrelax-relocations=no", "compile -Wa,=--noexecstack,-mrelax-relocations=no text", ""],
    ["-Xassembler --noexecstack", "compile -Xassembler=--noexecstack text", ""],
    ["-Wp,-D_X,-UY", "preprocess -Wp,=-D_X,-UY text", ""],
    ["-Xpreprocessor -DX", "preprocess -Xpreprocessor=-DX text", ""],
    ["-Wl,-z,now", "unused -Wl,=-z,now text", "compile -Wl,=-z,now text"],
    ["-lm", "unused -l=m text", "compile -l=m text"],
    ["-L/x", "unused -L=/x text", "compile -L=/x directory"],
    ["-rdynamic", "unused -rdynamic=null text", "compile -rdynamic=null text"],
    ["-static", "both -static=null text", "compile -static=null text"],
    ["-frandom-seed=1", "both -frandom-seed==1 text", ""],
    ["-nostdinc", "preprocess -nostdinc=null text", ""],
    ["-pthread", "both -pthread=null text", ""],
  ];
  for (const [words, gcc, clang] of rows) {
    for (const family of FAMILIES) {
      it(`${family} ${words}`, () => {
        const [argument] = invocationOf(`${family} ${words} -c a.c`).arguments;
        assert.ok(argument !== undefined);
        const { role, option, value, valueKind, isPath } = argument;
        const expected = family === "clang" && clang !== "" ? clang : gcc;
        assert.equal(`${role} ${option}=${value} ${valueKind}`, expected);
        assert.equal(isPath, ["directory", "file", "include"].includes(valueKind));
        assert.equal(argument.words.join(" "), words);
      });
    }
  }
});

const BYPASSES: Readonly<Partial<Record<BypassReason, readonly string[]>>> = {
  called_for_link: [
    "gcc a.c",
    "gcc a.c b.c -o x",
    "gcc a.o -lm",
    "gcc -g3 a.c -o a",
    "clang a.c -Wl,-z,now",
    "gcc -shared -o x.so x.o",
  ],
  called_for_preprocessing: ["gcc -E a.c", "gcc -M a.c", "gcc -MM -c a.c", "clang -E -dM -", "gcc -c -g3 -E a.c"],
  compiler_query: [
    "gcc -v",
    "gcc --version",
    "gcc -dumpversion",
    "gcc -dumpmachine",
    "gcc -print-search-dirs",
    "gcc -### -c a.c",
    "clang -print-resource-dir",
    "gcc --help=warnings",
    "gcc -c -v a.c",
    "clang --print-targets",
    "gcc -print-file-name=x -fplugin=y",
  ],
  compiler_report: ["gcc -c -ftime-report a.c", "gcc -c -Q a.c", "gcc -H -c a.c"],
  multiple_source_files: ["gcc -c a.c b.c -MD -MF x", "gcc -c a.c a.c", "gcc -c a.c x.o", "gcc -c a.c @missing"],
  no_input_file: ["gcc", "gcc -c", "gcc -c a.o", "gcc -c a.ipp", "gcc -c noext", "gcc -c .c"],
  output_to_stdout: ["gcc -c a.c -o -", "gcc -c a.c -o /dev/stdout", "gcc -c a.c -MD -MF -", "gcc -S -o- a.c"],
  bad_output_file: [
    "gcc -c a.c -MD -MF a.su -fstack-usage",
    "gcc -c a.c -Wa,-a=./a.o",
    "gcc -c a.c -Wa,-a=a.c",
    "gcc -c a.c -o /dev/null",
    "gcc -c a.c -MD -MF /dev/null",
    "gcc -c a.c -o dir/",
    "gcc -c a.c -o ..",
    "gcc -c a.c -o ./a.c",
    "gcc -x c a.d -c -MD",
    "gcc -c a.c -MD -MF a.o",
    "gcc -c a.c -o /proc/self/fd/3",
  ],
  standard_input: ["gcc -c -x c -", "gcc -xc -c - -o a.o", "gcc -Werror -m64 -c -x c /dev/null -o t.o"],
  syntax_only: ["gcc -fsyntax-only a.c", "clang -fsyntax-only -c a.c"],
  unsupported_source_language: [
    "gcc -c a.m",
    "gcc -c a.f90",
    "gcc -x f95 -c a.c",
    "gcc -c a.go",
    "clang -c a.cu",
    "clang -x cuda -c a.c",
    "gcc -x nonsense -c a.c",
    "clang -c a.ll",
  ],
  could_not_use_precompiled_header: [
    "gcc -c a.h",
    "g++ a.hpp -c",
    "gcc -x c-header -c a.h",
    "clang -include-pch x.pch -c a.c",
    "clang -c a.c -fpch-preprocess",
  ],
  could_not_use_modules: [
    "g++ -fmodules-ts -c a.cc",
    "clang++ -c a.cppm",
    "clang -fmodules -c a.c",
    "clang++ -fmodule-file=x -c a.cc",
    "g++ -x c++-user-header-unit -c vector",
  ],
  profile_guided: ["gcc -c -fprofile-use a.c", "clang -c -fprofile-use a.c", "gcc -c -fauto-profile a.c"],
  side_outputs: [
    "gcc -c -fdump-tree-all a.c",
    "gcc -c -fdump-tree-all=x a.c",
    "gcc -c -fdump-tree-optimized a.c",
    "gcc -c -fdump-tree-optimized-graph=x a.c",
    "gcc -c -fdump-rtl-expand-slim-graph-lineno=x a.c",
    "gcc -c -fdump-tree-optimized=stderr a.c",
    "gcc -c -fdump-tree-optimized= a.c",
    "gcc -c -fdump-passes=x a.c",
    "clang -c -fdump-tree-optimized=x a.c",
    "gcc -c -da a.c",
    "gcc -c -fopt-info-vec=x a.c",
    "gcc -c -aux-info x a.c",
    "clang -c -MJ x a.c",
    "gcc -c -fdiagnostics-generate-patch a.c",
    "clang -c -fsave-optimization-record a.c",
    "clang -c --serialize-diagnostics x a.c",
    "clang -c -ftime-trace=x a.c",
    "gcc -c -save-temps=x a.c",
    "gcc -c -Wa,-a=/x a.c",
    "gcc -c -Wa,-a=../x a.c",
    "gcc -c -Wa,-aghls=x a.c",
    "g++ -c -fvtable-verify=std -fvtv-counts a.cc",
    "g++ -c -fvtable-verify=std -fvtv-debug a.cc",
  ],
  diagnostics_format: ["gcc -c -fdiagnostics-format=sarif-file a.c"],
  preprocessing_control: [
    "gcc -c -fdirectives-only a.c",
    "gcc -c -fpreprocessed a.c",
    "clang -frewrite-includes -c a.c",
  ],
  recorded_switches: [
    "clang -g -gcodeview --target=x86_64-w64-windows-gnu -c a.c",
    "gcc -c -frecord-gcc-switches a.c",
    "gcc -c -grecord-gcc-switches a.c",
    "gcc -S -fverbose-asm a.c",
    "clang -grecord-command-line -c a.c",
  ],
  bad_compiler_arguments: [
    "clang -c a.s -MD",
    "clang -c a.i -MMD -MF x",
    "clang -c a.ii -Wp,-MD,x",
    "gcc -c a.c -MF x",
    "gcc -c a.c -o",
    "gcc -c a.c -I",
    "gcc -c a.c -MD -MG",
    "gcc -c a.c -MD -MMD",
    "gcc -c a.c -x c++",
    "gcc -c a.c -MT x",
    "gcc -MD -o x -o y -c a.c",
    "gcc -c -- a.c",
    "gcc -c -Wp,-MD,x -MF y a.c",
    "gcc -c a.c -Xassembler",
  ],
  unsupported_compiler_option: [
    "gcc -c -fplugin=x.so a.c",
    "gcc -c -specs=x a.c",
    "gcc -c -Bdir a.c",
    "gcc -B dir -c a.c",
    "gcc -wrapper gdb,--args -c a.c",
    "g++ -c -fplugin-arg-x=y a.cc",
    "clang -Xclang -load -c a.c",
    "clang --config x -c a.c",
    "clang -fms-compatibility -c a.c",
    "clang --target=x86_64-pc-windows-msvc -c a.c",
    "clang -target i686-win32 -c a.c",
    "clang --driver-mode=cl -c a.c",
    "clang -ivfsoverlay x -c a.c",
    "gcc -arch x86_64 -c a.c",
    "clang -fpass-plugin=x -c a.c",
    "gcc -c --frobnicate a.c",
    "gcc -c -yy a.c",
    "gcc -c -fnew-list=x/y a.c",
    "gcc -c -fnew-list=list.txt a.c",
    "gcc -c -I- a.c",
    "gcc -c -I=/usr/x a.c",
    "gcc -c -Wp,-P a.c",
    "gcc -c -Wp,-MD,x,-DY a.c",
    "gcc -c -Wa,-Iinc a.c",
    "gcc -c -Wa,-o,x a.c",
    "gcc -c -Wa,@x a.c",
    "gcc -c -Wa,--defsym,x=1 a.c",
    "clang -c -mllvm -print-after-all a.c",
    "clang -working-directory x -c a.c",
    "clang -c -Wp,-MD,x,-MP a.c",
    "gcc -c -no-integrated-cpp a.c",
    "gcc -iprefix x -c a.c",
    "clang -object-file-name=x -c a.c",
    "clang -undefined x -c a.c",
  ],
};

/** Lines that preprocessed text cannot stand for, and files can. */
const TEXT_REFUSALS: Readonly<Partial<Record<BypassReason, readonly string[]>>> = {
  compiler_report: ["clang -c -Rpass=inline a.c"],
  native_architecture: ["gcc -c -march=native a.c", "clang -c -mtune=native a.c", "gcc -mcpu=native -c a.c"],
  assembler_source: [
    "gcc -c a.s",
    "gcc -c a.S",
    "gcc -c a.sx",
    "gcc -c -x assembler-with-cpp a.c",
    "gcc -xassembler -c a",
  ],
  preprocessed_source: ["gcc -c a.i", "g++ -c a.ii", "gcc -c -x cpp-output a.c"],
  extra_input_file: [
    "clang -c a.c -fsanitize-blacklist=x",
    "clang -c a.c -fsanitize-ignorelist=x",
    "clang -c -fxray-always-instrument=x a.c",
  ],
  profile_guided: [
    "clang -c -fprofile-instr-use=x a.c",
    "gcc -c -fprofile-generate a.c",
    "clang -c -fcoverage-mapping a.c",
  ],
  side_outputs: [
    "gcc -c -save-temps a.c",
    "gcc -c -save-temps=obj a.c",
    "gcc -c -gsplit-dwarf a.c",
    "gcc -c --coverage a.c",
    "gcc -c -ftest-coverage a.c",
    "gcc -c -fprofile-arcs a.c",
    "gcc -c -fstack-usage a.c",
    "gcc -c -fcallgraph-info=su a.c",
    "clang -c -ftime-trace a.c",
    "gcc -c -Wa,-a=x.lst a.c",
    "gcc -c -Wa,-adhln a.c",
    "gcc -c -Wa,--noexecstack,-al=x a.c",
    "gcc -Xassembler -a=x -c a.c",
  ],
  diagnostics_format: ["gcc -c -fdiagnostics-format=json a.c"],
  macro_debug_info: ["gcc -c -g3 a.c", "gcc -c -ggdb3 a.c", "gcc -g3 -g1 -c a.c", "clang -fdebug-macro -c a.c"],
  traditional_preprocessing: ["gcc -c -traditional-cpp a.c"],
  unused_macros_warning: ["gcc -c -Wunused-macros a.c"],
  preprocessing_control: ["gcc -c -P a.c", "gcc -CC -c a.c"],
  unsupported_source_encoding: ["gcc -c -finput-charset=latin1 a.c"],
};

describe("bypasses", () => {
  for (const [reason, lines] of Object.entries(BYPASSES)) {
    it(reason, () => {
      for (const line of lines) {
        const result = parse(line);
        assert.equal(result.kind === "bypass" ? result.reason : JSON.stringify(result), reason, line);
      }
    });
  }

  for (const [reason, lines] of Object.entries(TEXT_REFUSALS)) {
    it(`of the text form: ${reason}`, () => {
      for (const line of lines) assert.equal(invocationOf(line).textRefusal?.reason, reason, line);
    });
  }

  it("several sources are a call for each, where no option names a file for all", () => {
    const result = parse("gcc -MD -c a.c -x c++ -Ii b.cc sub/d.cc");
    assert.ok(result.kind === "several", JSON.stringify(result));
    const shown = result.invocations.map((one) => [one.source, one.output, one.language, one.dependencies?.file]);
    assert.deepEqual(shown, [
      ["a.c", "a.o", "c", "a.d"],
      ["b.cc", "b.o", "c++", "b.d"],
      ["sub/d.cc", "d.o", "c++", "d.d"],
    ]);
    for (const line of [
      "gcc -c a.c sub/a.c",
      "gcc -c a.c b.c -Wa,-a=l",
      "gcc -c a.c b.c -MT x -MD",
      "gcc -c a.c b.c -Wp,-MD,x",
    ])
      assert.equal(parse(line).kind, "bypass", line);
  });

  it("module mappers, which run programs", () => {
    const result = parseWords(["g++", "-c", "-fmodule-mapper=|touch x", "a.cc"]);
    assert.equal(result.kind === "bypass" && result.reason, "could_not_use_modules");
  });
});

describe("languages and dependency requests", () => {
  const languages: readonly (readonly [string, string])[] = [
    ["gcc -c a.c", "c"],
    ["g++ -c a.c", "c++"],
    ["gcc -c a.C", "c++"],
    ["gcc -c a.cp", "c++"],
    ["gcc -xc++ -c a.c", "c++"],
    ["gcc -x c++ -x c -c a.cc", "c"],
    ["gcc -x c++ -x none -c a.c", "c"],
    ["gcc --language=c++ -c a.c", "c++"],
    ["g++ -x c -c a.cc", "c"],
    ["clang -c -- -a.c", "c"],
  ];
  for (const [line, language] of languages) it(line, () => assert.equal(invocationOf(line).language, language));

  const requests: readonly (readonly [string, string])[] = [
    ["gcc -MD -c a.c", "MD a.d [Q a.o]"],
    ["gcc -MMD -MP -o b/c.o -c a.c", "MMD b/c.d [Q b/c.o] phony"],
    ["gcc -MD -MFx -MTa -MQ b -c a.c", "MD x [T a,Q b]"],
    ["gcc -Wp,-MD,x.d -o b/c.o -c d/a.c", "MD x.d [Q a.o]"],
    ["clang -Wp,-MD,x.d -o b/c.o -c d/a.c", "MD x.d [Q b/c.o]"],
    ["gcc -Wp,-MMD,x.d,-MT,t,-MP -c a.c", "MMD x.d [T t] phony"],
    ["gcc -Xpreprocessor -MD -Xpreprocessor x.d -c a.c", "MD x.d [Q a.o]"],
    ["gcc -Xpreprocessor -MMD -Xpreprocessor x.d -Xpreprocessor -MT -Xpreprocessor t -c a.c", "MMD x.d [T t]"],
    ["gcc -MD -Wp,-MT,t -c a.c", "MD a.d [T t]"],
    ["gcc -MD -Wp,-MF,y -c a.c", "MD y [Q a.o]"],
    ["gcc -S -MD a.c", "MD a.d [Q a.o]"],
    ["gcc -S -MD a.c -o x.s", "MD x.d [Q x.s]"],
  ];
  for (const [line, expected] of requests) {
    it(line, () => {
      const request = invocationOf(line).dependencies;
      assert.ok(request !== null);
      const targets = request.targets.map(({ text, quoted }) => `${quoted ? "Q" : "T"} ${text}`).join();
      assert.equal(`${request.kind} ${request.file} [${targets}]${request.phony ? " phony" : ""}`, expected);
    });
  }
});

describe("response files", () => {
  it("are expanded in place, and a missing one is an input", () => {
    const files: Readonly<Record<string, string>> = { "all.rsp": "-c -o 'b c.o'\n @more ", more: '-I"d e" a\\ b.c' };
    const result = parseGnu([ascii("gcc"), ascii("@all.rsp"), ascii("-g")], {
      family: "gcc",
      readResponseFile: (path) => (files[path] === undefined ? null : Buffer.from(files[path] ?? "")),
    });
    assert.ok(result.kind === "compile", JSON.stringify(result));
    assert.equal(result.invocation.source, "a b.c");
    assert.equal(result.invocation.output, "b c.o");
    assert.deepEqual(
      result.invocation.arguments.flatMap(({ words }) => words),
      ["-c", "-o", "b c.o", "-Id e", "a b.c", "-g"],
    );
    assert.equal(invocationOf("gcc -c @missing.c").source, "@missing.c");
  });

  it("that compilers read differently are refused", () => {
    for (const text of ["'a\\b'", '"a\\b"', "a\\\nb", '""', "'open", "a\0b", "a\vb", "\xef\xbb\xbf-c", "trailing\\"]) {
      const result = parseGnu([ascii("gcc"), ascii("@f")], {
        family: "gcc",
        readResponseFile: () => Buffer.from(text, "latin1"),
      });
      assert.equal(result.kind === "bypass" && result.reason, "unsupported_response_file", JSON.stringify(text));
    }
  });

  it("that hold themselves are refused", () => {
    const result = parseGnu([ascii("gcc"), ascii("@f")], {
      family: "gcc",
      readResponseFile: () => Buffer.from("@f @f"),
    });
    assert.equal(result.kind === "bypass" && result.reason, "unsupported_response_file");
  });
});

/** Any word, near the grammar's own. */
const word = oneof(
  constantFrom(...GNU_OPTIONS.map((rule) => rule.name as string)),
  constantFrom("-Wp,-MD,x", "-Wa,--noexecstack", "-Xpreprocessor", "-Xassembler", "--", "-", "", "a.c", "@f", "-g3"),
  tuple(constantFrom(...GNU_OPTIONS.map((rule) => rule.name as string)), anyString()).map(([a, b]) => a + b),
  anyString({ unit: integer({ min: 1, max: 255 }).map((code) => String.fromCharCode(code)), maxLength: 12 }),
);

/** An option that need not be refused, with an operand where it takes the next word: most lines of these compile. */
const accepted = tuple(
  constantFrom(...GNU_OPTIONS.filter(({ bypass, role }) => bypass === null && role !== "mode")),
  constantFrom("x", "b/x", "=1", "a=b"),
).map(([{ name, form }, value]): string[] => {
  if (form === "switch") return [name];
  return form === "separate" ? [name, value] : [name + value];
});

/** The words after `gcc -c`: arbitrary ones, or accepted options around a source. */
const anyLine = oneof(
  array(word, { maxLength: 12 }),
  tuple(array(accepted, { maxLength: 4 }), array(accepted, { maxLength: 2 }), array(word, { maxLength: 1 })).map(
    ([before, after, wild]) => [...before.flat(), "a.c", ...after.flat(), ...wild],
  ),
);

describe("properties", () => {
  for (const family of FAMILIES) {
    it(`${family}: never throws; the words of all arguments are the expanded command line`, () => {
      let compiles = 0;
      assertProperty(
        property(anyLine, anyString(), (words, file) => {
          const readResponseFile = (): Uint8Array => Buffer.from(file.replaceAll("@", ""), "latin1");
          const argv = ["gcc", "-c", ...words].map(ascii);
          const result = parseGnu(argv, { family, readResponseFile });
          if (result.kind === "bypass") {
            assert.ok(Object.hasOwn(BYPASS_REASONS, result.reason));
            return;
          }
          if (result.kind === "several") {
            assert.ok(result.invocations.length > 1);
            return;
          }
          compiles++;
          const expanded = expandResponseFiles(argv.slice(1), readResponseFile);
          assert.ok(expanded.kind === "words");
          const { invocation } = result;
          assert.deepEqual(
            invocation.arguments.flatMap((argument) => argument.words),
            expanded.words,
          );
          for (const { value, words: own } of invocation.arguments)
            assert.ok(value === null || own[own.length - 1]?.endsWith(value), own.join(" "));
          assert.equal(invocation.arguments.filter(({ role }) => role === "input").length, 1);
        }),
        { numRuns: 3000 },
      );
      assert.ok(compiles > 100, `only ${compiles} compiles`);
    });
  }
});

describe("operands", () => {
  it("gcc: an option that takes the next word never leaves it to be the source", () => {
    using folder = new CompilerFolder();
    const help = folder.run("gcc", ["--help=separate", "--help=joined,separate"]).stdout;
    const also = folder.run("gcc", ["--help=joined,separate"]).stdout;
    const names = new Set([...(help + also).matchAll(/^ {2}(-[^\s<[]+)/gm)].map((match) => match[1] ?? ""));
    assert.ok(names.size > 30, `only ${names.size} options`);
    for (const name of names) {
      const result = parse(`gcc -c ${name} operand.c real.c`);
      if (result.kind !== "compile") continue;
      assert.equal(result.invocation.source, "real.c", name);
    }
  });

  it("clang: likewise, for the options that clang 14 was seen to take an operand with", () => {
    const names =
      "--analyzer-output --param -A -arcmt-migrate-report-output -b -B -ccc-gcc-name -ccc-install-dir -dependency-dot -dependency-file -dsym-dir -e -F -fdebug-compilation-dir -filelist -fmodules-user-build-path -ftrapv-handler -fxray-instruction-threshold -G -gen-cdb-fragment-path -imultilib -isystem-after -l -L -MF -MJ -module-dependency-dir -MQ -MT -rpath -stdlib++-isystem -T -Tbss -Tdata -Ttext -u -undefined -Xanalyzer -Xarch_device -Xarch_host -Xassembler -Xcuda-fatbinary -Xcuda-ptxas -Xlinker -Xopenmp-target -z --config --serialize-diagnostics -serialize-diagnostics -iframeworkwithsysroot -iprefix -ivfsoverlay -iwithprefix -iwithprefixbefore -iwithsysroot -meabi -mllvm -mthread-model -working-directory -Xclang -Xpreprocessor -cxx-isystem -D -I -idirafter -iframework -imacros -include -iquote -isysroot -isystem -o -resource-dir -U -include-pch -target -arch -aux-info -framework -x";
    for (const name of names.split(" ")) {
      const result = parse(`clang -c ${name} operand.c real.c`);
      assert.notEqual(result.kind, "several", name);
      if (result.kind === "bypass") assert.notEqual(result.reason, "multiple_source_files", name);
      if (result.kind === "compile") assert.equal(result.invocation.source, "real.c", name);
    }
  });
});

/** Both readers on the same file: gcc's words, seen through macros, must be ours. */
describe("response files as the compilers read them", () => {
  const texts = [
    "'a b' c",
    '"a b"\tc\n\nd',
    "a\\ b\\'c",
    "'it'\"'\"'s'",
    'x"y"z',
    '"\\"q\\" \\$ \\\\"',
    "a\\\\b",
    "\r\na\r\n",
  ];
  for (const family of FAMILIES) {
    for (const text of texts) {
      it(`${family}: ${JSON.stringify(text)}`, () => {
        using folder = new CompilerFolder({ f: `-fsyntax-only -Dnone ${text}`, "m.c": "" });
        const expansion = expandResponseFiles([ascii("@f")], () => Buffer.from(folder.read("f"), "latin1"));
        assert.ok(expansion.kind === "words");
        const { stderr } = folder.run(family, ["@f"]);
        const complained = [
          ...stderr.matchAll(
            /error: (?:no such file or directory: '(.*)'|(.*?)(?:: linker input file not found)?: No such file or directory)$/gm,
          ),
        ];
        const expected: readonly ByteString[] = expansion.words.slice(2);
        assert.deepEqual(
          complained.map((match) => match[1] ?? match[2]),
          expected,
          stderr,
        );
      });
    }
  }
});
