import assert from "node:assert/strict";
import { test } from "node:test";
import { scanSource } from "./source-scan.ts";
import { TestMacro } from "./test-macros.ts";

const asked = (text: string) =>
  new TestMacro("HAS").read(Buffer.from(text))?.map(({ name, quoted }) => `${quoted} ${name}`);

test("a macro that stands for __has_include is known by its definition", () => {
  assert.deepEqual(scanSource(Buffer.from("#  define HAS(x) __has_include( x )\n"), "c").testMacros, ["HAS"]);
  for (const text of [
    "#define HAS(x) __has_include(x) + 1",
    "#define HAS(x, y) __has_include(x)",
    "#define HAS __has_include",
  ]) {
    const scan = scanSource(Buffer.from(text), "c");
    assert.deepEqual([scan.testMacros, scan.computedTest], [[], true], text);
  }
});

test("uses of it tell the names that they ask for, or that these are computed", () => {
  assert.deepEqual(asked('#if HAS("a.h") && HAS( <b/c.h> )\n#elif H\\\nAS("d.h")\n'), [
    "true a.h",
    "false b/c.h",
    "true d.h",
  ]);
  assert.deepEqual(asked("#ifndef HAS\n#define HAS(x) 0\n#endif\n#if defined(HAS)\n#undef HAS\nint HASH, XHAS;\n"), []);
  for (const text of ["#if HAS(NAME)", "#define ALSO HAS", "#define ALSO(x) HAS(x)", '#if HAS("a" "b")'])
    assert.equal(asked(text), undefined, text);
});

test("a macro whose name can be pasted of words, also of several texts, has computed uses", () => {
  for (const text of ['#if CAT(HA,S)("a.h")', "#define ASK(x) H ## x\nAS", "HA/*A*/S"])
    assert.equal(asked(text), undefined, text);
  assert.deepEqual(asked("#if CAT(HA,X) && H && A"), []);
  const macro = new TestMacro("HAS");
  assert.deepEqual(macro.read(Buffer.from("#define ASK(x) H ## x")), []);
  assert.deepEqual(macro.read(Buffer.from("int other;")), []);
  assert.equal(macro.read(Buffer.from('#if ASK(AS)("a.h")')), null);
});
