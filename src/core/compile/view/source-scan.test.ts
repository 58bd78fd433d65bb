import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { type SourceKind, type SourceScan, scanSource, scanTogether } from "./source-scan.ts";

/** What a scan found: names and the flags that are set. */
function found(text: string, kind: SourceKind = "c") {
  const scan = scanSource(Buffer.from(text, "latin1"), kind);
  return {
    includes: scan.includes.map(({ name, quoted }) => (quoted ? `"${name}"` : `<${name}>`)),
    tests: scan.tests.map(({ name, quoted }) => (quoted ? `"${name}"` : `<${name}>`)),
    embeds: [...scan.embeds],
    reads: scan.assemblerReads.map(({ directive, name }) => `${directive} ${name}`),
    definitions: [...scan.definitions],
    flags: (Object.keys(scan) as (keyof SourceScan)[]).filter((key) => scan[key] === true && key !== "pastes"),
  };
}

const RAW = '/*\n#include "x.h"\n';

test("an include is found however it is spelled", () => {
  for (const text of [
    '#include "x.h"',
    '  #\tinclude"x.h" // text',
    '#/**/include "x.h"',
    '/* a */ /* b */ # /* c */ include /* d */ "x.h" /* e',
    '/* a\n b */ #include "x.h"',
    '#/*\n*/include/*\n*/"x.h"',
    '#inc\\\nlude "x.h"',
    '#inc\\ \t\nlude "x.h"',
    '#inc\\\r\nlude \\\r\n"x\\\n.h"\r\n',
    '\\\n#include "x.h"',
    '/\\\n* a *\\\n/ #include "x.h"',
    '??=include "x.h"',
    '// a ??/\nb\n#include "x.h"',
    '// a ??/\n#include "x.h"',
    '#in??/\nclude "x.h"',
    '%:include "x.h"',
    '#include_next "x.h"',
    '#import "x.h"',
    '#\0include\0"x.h"',
    '\xef\xbb\xbf#include "x.h"',
    '// a\r#include "x.h"',
    '#if 0\ndon\'t\n#include "x.h"\n#endif',
    '#if 0\n"no end\n#include "x.h"\n#endif',
    '#error don\'t /*\n#include "x.h"',
    '#warning see /*\n#include "x.h"',
    'int a = 1\'000; /* b\n#include "x.h"\n*/',
    'int a = 0xA\'B; // /*\n#include "x.h"\n',
    '#include <a/*b.h>\n#include "x.h"',
    '#include <a//b.h>\n#include "x.h"',
    'int a = 4 //* b */ 2\n;\n#include "x.h"',
    '// don\'t /*\n#include "x.h"',
    '"/*" \'"\' "/*\n#include "x.h"',
    "'\\'' /* */ '/*'\n#include \"x.h\"",
    `R"(${RAW})"`,
    `u8R"d(${RAW})d"`,
    `R"d(${RAW})" )d"`,
    `R"(/*)"\n#include "x.h"`,
    `R"x( " )x" /* ' */\n#include "x.h"`,
    `LR"(a\n)"; /* b\n*/ #include "x.h"`,
    `R"toolongadelimiterforraw(\n#include "x.h"`,
    `${"/**/".repeat(40)} #include "x.h"`,
  ])
    assert.ok(found(text).includes.includes('"x.h"'), JSON.stringify(text));
});

test("an include that no compiler can see is not told", () => {
  for (const text of [
    '/*\n#include "x.h"\n*/',
    '// #include "x.h"',
    '"\\\n#include "',
    'int a; /* don\'t\n#include "x.h"\n*/',
    'f("a", \'b\'); /*\n#include "x.h"\n*/',
    '#include <y.h> /*\n#include "x.h"\n*/',
    '# include_nothing "x.h"',
    'a # include "x.h"',
  ])
    assert.ok(!found(text).includes.includes('"x.h"'), JSON.stringify(text));
});

test("operands of operators, embeds and definitions are told apart", () => {
  const scan = found(
    [
      "#ifdef __has_include",
      '#if defined ( __has_include ) && __has_include /**/ ( /**/ <a/b.h> ) || __has_include_next("c.h")',
      '#if __has_embed("d.bin" limit(3))',
      '#embed "e.bin" prefix(1)',
      "#embed </f.bin>",
      '#define X <g.h> "h.h" a < <i.h>',
      "#define Y /* a",
      '*/ "j.h"',
    ].join("\n"),
  );
  assert.deepEqual(scan.tests, ["<a/b.h>", '"c.h"', '"d.bin"']);
  assert.deepEqual(scan.embeds, ["e.bin", "/f.bin"]);
  for (const name of ["g.h", "h.h", "i.h", "j.h"]) assert.ok(scan.definitions.includes(name as never), name);
  assert.deepEqual(scan.flags, []);
});

/** Texts, and the flags that each must raise; none means that no flag may be raised. */
const FLAGS: readonly (readonly [text: string, ...flags: (keyof SourceScan)[]])[] = [
  ["#include X", "computedInclude"],
  ["#include", "computedInclude"],
  ["#include <x.h", "computedInclude"],
  ["#if __has_include(X)", "computedTest"],
  ["#define H(x) __has_include(x)"],
  ["#define H(x) __has_include(y)", "computedTest"],
  ["#define H(x) __has_include(x) && 1", "computedTest"],
  ["#define H __has_include", "computedTest"],
  ["#define H(x) __has_##x\n#if H(include)", "computedTest"],
  ["#define H(x) struct __has_##x"],
  ['state->has_include = _("gettext names it so");'],
  ["C(_, C(_, has_include))(<x.h>)", "computedTest"],
  ["#define C(a, b) a##b\nC(__DATE_, _(x))", "dates"],
  ["#embed X", "computedEmbed"],
  ["a = __DATE__;", "dates"],
  ["a = __TI\\\nME__;", "dates"],
  ["a = __TIMESTAMP__;", "dates", "timestamp"],
  ["#define D __##DATE__", "dates"],
  ["a = CAT(__DA, TE__);", "dates"],
  ["#define C(a, b) a##b\nC(_, C(_, TIM)) C(E, __)", "dates"],
  ["/* __DATE__ */ \"__TIME__\" '__TIMESTAMP__' // __DATE__"],
  ["/* __DATE__\n * __TIME__ */ int a__DATE__, __DATE__b;"],
  ['a = 1\'0 "__DATE__"', "dates"],
  ["don't __DATE__", "dates"],
  ["a //* b */ __TIME__", "dates"],
  ['R"(\n__TIME__)"', "dates"],
  ['#pragma GCC target("avx2")', "macroPragma"],
  ["# /**/ pragma /**/ GCC\\\n push_options", "macroPragma"],
  ["#pragma GCC pop_options", "macroPragma"],
  ["#pragma GCC reset_options", "macroPragma"],
  ['#pragma GCC /*\n*/ optimize("O0")', "macroPragma", "pragmaDependency"],
  ['_Pragma("GCC optimize(\\"O0\\")")', "macroPragma"],
  ['_Pragma /**/ (\n L"GCC target(\\"avx2\\")"\n)', "macroPragma"],
  ["#define P(x) _Pragma(#x)", "macroPragma"],
  ["#define P _Pragma", "macroPragma"],
  ['_Pragma(R"(GCC target("avx2"))")', "macroPragma"],
  ['_Pragma("GCC diagnostic push") _Pragma("once")'],
  ["#pragma GCC diagnostic push\n#pragma once\n#pragma target_audience"],
  ['#pragma GCC dependency "x"', "pragmaDependency"],
  ['_Pragma("GCC dependency \\"x\\"")', "pragmaDependency"],
  ["#pragma clang module import X", "pragmaDependency"],
  ['#pragma GCC pch_preprocess "x"', "pragmaDependency"],
  ["import a.b;", "modules"],
  ["import <vector>;", "modules"],
  ["export module a;", "modules"],
  ["module;\n", "modules"],
  ["int x; import :a;", "modules"],
  ["import = module; import(x); f(import a)"],
  ["struct { int a; } module;", "modules"],
  ['asm(".incbin " NAME);', "computedAssemblerRead"],
  ['asm(".\\\\a \\"x\\"");', "computedAssemblerRead"],
  ['const char *path = DIR "lua" ".\\\\?.lua;" ".\\\\?\\\\init.lua";'],
  ['asm(".in" "cb" REST);', "computedAssemblerRead"],
  ['#define A ".inc"\n#define B "bin \\"x\\""', "computedAssemblerRead"],
  ['#define A ".inc" B', "computedAssemblerRead"],
  ['A(".in", "cb", "in \\"x\\"");', "computedAssemblerRead"],
  ['A(".", "inc", "l", "ude \\"x\\"");', "computedAssemblerRead"],
  ['A(".in", "c b", "in x", "cbi");'],
  ['A(".", "in", "c", "b", "in x");'],
  ["#define A(x) S(.inc##bin x)", "computedAssemblerRead"],
  ['f(x.include("a")); y.in = strcmp(z, ".inc") + open("a.inc");'],
  ["int incremental = p->inc; q.inc = x.in;"],
];

test("flags are raised where something may depend on more, and by nothing else", () => {
  for (const [text, ...flags] of FLAGS) {
    const raised = found(text).flags;
    if (flags.length === 0) assert.deepEqual(raised, [], text);
    else for (const flag of flags) assert.ok(raised.includes(flag), `${flag} of ${text}`);
  }
});

test("names that are pasted of parts in several texts are told by these together", () => {
  const together = (...texts: string[]) => {
    const scan = scanTogether(texts.map((text) => scanSource(Buffer.from(text), "c")));
    return (Object.keys(scan) as (keyof SourceScan)[]).filter((key) => scan[key] === true);
  };
  for (const [[...texts], ...flags] of [
    [["#define DUNDER(x) __##x##__", "char t[] = DUNDER(TIME);"], "dates"],
    [["#define DUNDER(x) __##x##__", "char t[] = DUNDER(TIMESTAMP);"], "dates", "timestamp"],
    [["#define H(x) __has_##x", '#if H(include)("opt.h")'], "computedTest"],
    [["#define J(a, b) a##b", "J(__DA, OTHER)", "J(OTHER, TE__)"], "dates"],
    [["__ int", "DATE d;"]],
    [["#define J(a, b) a##b", "D A T E", "__ x"]],
    [["#define J(a, b) a##b", '"__" /* TIME */', "int __;"]],
  ] as const)
    assert.deepEqual(together(...texts), flags, texts.join(" | "));
});

test("what the assembler reads is found in literals, in arguments of macros and in assembler text", () => {
  for (const [text, kind] of [
    ['asm(".incbin \\"a/b.bin\\"");', "c"],
    ['asm("nop\\n\\t.inc" /* a */\n "bin" // b\n " \\"a/b.bin\\", 4");', "c"],
    ['asm(R"(.incbin "a/b.bin")");', "c"],
    ['asm("\\x2eINC\\142in\\t\\"a/b.bin\\"");', "c"],
    ['S(.incbin "a/b.bin")', "c"],
    ['x: .incbin "a/b.bin"', "assembler"],
    ['# don\'t\n.INCBIN /* a */ "a/b.bin", 1, 2', "assembler"],
  ] as const) {
    const { reads, flags } = found(text, kind);
    assert.deepEqual([reads, flags], [["incbin a/b.bin"], []], text);
  }
  assert.deepEqual(found('.include "a.inc"\n', "assembler").reads, ["include a.inc"]);
  assert.deepEqual(found('asm(".include \\"a.inc\\"");').reads, ["include a.inc"]);
  for (const text of [
    '.macro m f\n.incbin "\\f"\n.endm',
    ".incbin NAME",
    '.inc\\()bin "x"',
    '.inc\\x "y"',
    '\\a\\()bin "y"',
    'm .inc, bin, "x"',
    '.macro m a\n.\\a "x"\n.endm\nm include',
    '".incbin" "x"',
    // Comments that may be none, or end where no plain reader sees it.
    '.\\a "x"\n m /* */ include',
    '.\\a "x"\n m "\n/* ", include /* */',
    '.\\a "x"\n// b \\ \n/* a\n m include */',
    ".\\a 'x\\\n/* ' include */",
    '.\\a "x"\n// b ??/\n/* a\n m include */',
    `.\\a "x"\n// b \\${" ".repeat(40)}\n/* a\n m include */`,
    '.\\a "x"\n/* a *\\\n/ m include */',
    '.\\a "x"\n/* a *??/\n/ m include */',
    '.\\a "x" /* a\n/*/ m include',
    '.\\a "x" /* a\n/* b */ m include',
    '.\\a "x"\n/* a */ m include /* b */',
    '.\\a "x"\n#define A "\n m include',
    " .mri 1\n INCLUDE x",
  ])
    assert.ok(found(text, "assembler").flags.includes("computedAssemblerRead"), text);
  const plain =
    '# include the file\n#include "a.h"\n.macro m r\n add \\r, \\r\n .\\@:\n.endm\nmov .in(%rip), %eax # including\n';
  assert.deepEqual(found('#include "a.h"\n.macro m r\n add \\r, 1\n.L\\@:\n.endm\n', "assembler").flags, []);
  assert.deepEqual(found(plain, "assembler").includes, ['"a.h"']);
  for (const text of [
    '/* Does not include -fx. */\n#define A "nop\\n\\t"\n',
    '#define A "nop\\n\\t"\n#endif /* b */ \n \t/*\n * These **include**\n * /* all.\n */\n',
    '#define A "nop\\n\\t"\n/* include */\n/** include **/\n',
  ])
    assert.deepEqual(found(text, "assembler").flags, [], text);
});

test("a result is kept as long as its bytes", () => {
  const bytes = Buffer.from('#include "x.h"');
  assert.equal(scanSource(bytes, "c"), scanSource(bytes, "c"));
  assert.notEqual(scanSource(bytes, "c"), scanSource(bytes, "assembler"));
});

const MIB = 1024 * 1024;
const HOSTILE = [
  "/**/",
  "/*",
  "*/",
  "#",
  "#\n",
  "# \n",
  "\\\n",
  "\\ \t",
  "??/",
  "\r",
  'R"',
  'R"(',
  'R"a(\n',
  '"',
  "'",
  "1'",
  "a'/*\n",
  "#include /*'\n",
  "#define ' /*\n",
  "#define <",
  "#define X <<>\n",
  "#include <\n",
  "__has_include(",
  "'__has_include(<",
  "__has_include/*",
  "_Pragma",
  '_Pragma("',
  "_Pragma/*",
  "'_Pragma(/**/",
  "____",
  ".incbin ",
  '.incbin "',
  ".incbin /*",
  "\\a",
  '".inc"',
  "import ",
  "; import",
  "//*",
];

/** Texts that only the search of assembler text tells apart. */
const HOSTILE_ASSEMBLER = ["\\a", ".in\\", ".incbin ", '.incbin "', ".incbin /*", "#\n", ".mri"];

/** CPU time in ms of a scan of a text of a given size. */
function scanTime(unit: string, size: number, kind: SourceKind): number {
  const text = Buffer.from(`${unit.repeat(Math.ceil(size / unit.length))} int x;\n`, "latin1");
  const started = process.cpuUsage();
  scanSource(text, kind);
  const { user, system } = process.cpuUsage(started);
  return (user + system) / 1000;
}

test("time is linear in the size, whatever the text is", () => {
  const TRIES = 4;
  const FACTOR_MAX = 12;
  const SMALLEST_MS = 5;
  const hold = (unit: string, kind: SourceKind) => {
    let small = Number.POSITIVE_INFINITY;
    let large = Number.POSITIVE_INFINITY;
    for (let run = 0; run < TRIES; run += 1) {
      small = Math.min(small, scanTime(unit, MIB / 2, kind));
      large = Math.min(large, scanTime(unit, 2 * MIB, kind));
      if (large < FACTOR_MAX * Math.max(small, SMALLEST_MS)) return;
    }
    assert.fail(`${JSON.stringify(unit)} as ${kind}: ${small} ms for half a MiB, ${large} ms for 2 MiB`);
  };
  for (const unit of HOSTILE) hold(unit, "c");
  for (const unit of HOSTILE_ASSEMBLER) hold(unit, "assembler");
});

/** Names by the simplest of means, in time that does not matter. */
function simpleNames(text: string): Set<string> {
  const joined = text.replaceAll("\r\n", "\n").replaceAll(/\\[ \t]*\n/g, "");
  let code = "";
  for (let at = 0; at < joined.length; ) {
    const quote = joined[at];
    if (joined.startsWith("/*", at)) {
      const end = joined.indexOf("*/", at + 2);
      at = end < 0 ? joined.length : end + 2;
      code += " ";
    } else if (joined.startsWith("//", at)) {
      const end = joined.indexOf("\n", at);
      at = end < 0 ? joined.length : end;
    } else if (quote === '"' || quote === "'") {
      const from = at;
      for (at += 1; at < joined.length && joined[at] !== quote && joined[at] !== "\n"; at += 1)
        if (joined[at] === "\\") at += 1;
      if (joined[at] === quote) at += 1;
      code += joined.slice(from, at);
    } else {
      code += quote;
      at += 1;
    }
  }
  const names = new Set<string>();
  for (const line of code.split("\n")) {
    const name = /^\s*#\s*(?:include|include_next|import)\s*([<"][^>"]+[>"])/.exec(line)?.[1];
    if (name !== undefined) names.add(name);
    for (const [, operand] of line.matchAll(/__has_include(?:_next)?\s*\(\s*([<"][^>"]+[>"])/g)) names.add(operand!);
  }
  return names;
}

test("on the headers of this system, no name is missed that a simple search finds", () => {
  const FILES_MAX = 3000;
  const folders = [
    "/usr/include/*.h",
    "/usr/include/c++/**/*",
    "/usr/include/linux/**/*.h",
    "/usr/include/x86_64-linux-gnu/**/*.h",
  ];
  const files = folders
    .flatMap((pattern) => globSync(pattern, { withFileTypes: true }))
    .filter((entry) => entry.isFile());
  let names = 0;
  for (const { parentPath, name } of files.slice(0, FILES_MAX)) {
    const text = readFileSync(`${parentPath}/${name}`, "latin1");
    const scan = found(text);
    const known = new Set([...scan.includes, ...scan.tests]);
    for (const expected of simpleNames(text)) {
      names += 1;
      assert.ok(known.has(expected), `${expected} of ${parentPath}/${name}`);
    }
  }
  assert.ok(names > 1000, `${names} names in ${files.length} files`);
});
