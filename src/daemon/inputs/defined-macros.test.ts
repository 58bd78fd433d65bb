import assert from "node:assert/strict";
import { test } from "node:test";
import { ascii } from "../../base/byte-string.ts";
import { parseGnu } from "../../core/compile/grammar/gnu-parse.ts";
import { listsSources, namesSource } from "./defined-macros.ts";

function lists(words: string): boolean {
  const parsed = parseGnu(`gcc ${words} -c a.c`.split(/ +/).map(ascii), {
    family: "gcc",
    readResponseFile: () => null,
  });
  assert.ok(parsed.kind === "compile", words);
  return listsSources(parsed.invocation);
}

test("a listing shows lines of sources where it is asked for them, or for nothing", () => {
  for (const words of ["-Wa,-a", "-Wa,-a=l", "-Wa,-ahl", "-Wa,-adhln=l", "-Wa,-W,-ah", "-Xassembler -a=l"])
    assert.ok(lists(words), words);
  for (const words of ["", "-Wa,-al", "-Wa,-aln=h", "-Wa,-W", "-Xassembler -als=ah"]) assert.ok(!lists(words), words);
});

test("directives that name a source are told from members of that name", () => {
  for (const text of ['.file "x"', '\t.file\t1 "x"', '".file " N', '".file\\t1"', ".stabs a", '.linefile 1 "x"'])
    assert.ok(namesSource(Buffer.from(text)), text);
  for (const text of ["", "x.file = 1;", "a.files", ".filename = 1", "x.stable"])
    assert.ok(!namesSource(Buffer.from(text)), text);
});
