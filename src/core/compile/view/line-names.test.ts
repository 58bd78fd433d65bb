import assert from "node:assert/strict";
import { test } from "node:test";
import type { ByteString } from "../../../base/byte-string.ts";
import { lineNames } from "./line-names.ts";

const names = (text: string) => lineNames(Buffer.from(text, "latin1")).names;
const isComputed = (text: string) => lineNames(Buffer.from(text, "latin1")).computed;

test("names of line directives are found, each once", () => {
  assert.deepEqual(names('#line 1 "y.y"\nint a;\n# 12 "dir/z.l" 1 3\n  #  line 3 "y.y"\n'), ["y.y", "dir/z.l"]);
  assert.deepEqual(names('#line 7 "a\\"b\\\\c"'), ['a"b\\c']);
  assert.deepEqual(names('#line 7\n#include "h.h"\n#define S "x"\n#line X "y"\nint c = 1; /* # */\n'), []);
  assert.deepEqual(names('#line 1 ""\n#line 1 "\n#'), []);
  for (const text of [
    '%:line 1 "y.y"',
    '%: 1 "y.y"',
    '#/**/line 1 "y.y"',
    '/* a */ #line/* */1/**/"y.y"',
    '# \\\nline 1 "y.y"',
    '??=line 1 "y.y"',
  ])
    assert.ok(names(text).includes("y.y" as ByteString) || isComputed(text), text);
});

test("a name that a macro makes is told of", () => {
  for (const text of [
    "#line 3 NAME\n",
    '#line /*\n*/ 3 "y.y"',
    "#/*\n*/line 3 NAME",
    "# line LINE\n",
    "int a;\n  #line WHERE(3) // x",
    '#line __LINE__ "y"\n',
  ])
    assert.ok(isComputed(text), text);
  for (const text of [
    '#line 3 "a.c"\n',
    "#line 3\n",
    "#line 3 /* NAME */\n",
    "#define S(x) #x /* of\nlines */\n",
    "# 3 NAME\n",
    "#define line NAME\n",
    "#linear x\n",
  ])
    assert.ok(!isComputed(text), text);
});

test("a line without an end, a megabyte of hashes, is read in time that grows with its size", () => {
  const time = (size: number) => {
    const text = Buffer.alloc(size, "#");
    let best = Number.POSITIVE_INFINITY;
    for (let round = 0; round < 5; round++) {
      const started = performance.now();
      lineNames(text);
      best = Math.min(best, performance.now() - started);
    }
    return best;
  };
  assert.ok(time(4 << 20) < 40 * (time(1 << 20) + 1));
});
