import assert from "node:assert/strict";
import { test } from "node:test";
import { array, assert as check, constantFrom, property } from "fast-check";
import { ascii } from "../../base/byte-string.ts";
import { wordChanges } from "./word-changes.ts";

function changes(before: string, now: string): string[] {
  const words = (line: string) =>
    line
      .split(" ")
      .filter((word) => word !== "")
      .map(ascii);
  return wordChanges(words(before), words(now)).map((change) =>
    change.kind === "changed" ? `${change.before} -> ${change.words}` : `${change.kind} ${change.words}`,
  );
}

test("options are told as added, removed, changed or moved, with their values", () => {
  for (const [before, now, expected] of [
    ["-c -O2", "-c -O2", []],
    ["-c", "-c -O2", ["added -O2"]],
    ["-c -g -O2", "-c -O2", ["removed -g"]],
    ["-c -O0 -g", "-c -O2 -g", ["-O0 -> -O2"]],
    ["-DX=1 -DY", "-DX=2 -DY", ["-DX=1 -> -DX=2"]],
    ["-D X=1", "-DX=2", ["-D X=1 -> -DX=2"]],
    ["-DX", "-UX", ["-DX -> -UX"]],
    ["-fno-pic -Wall", "-fpic -Wall", ["-fno-pic -> -fpic"]],
    ["-std=c99", "-std=c11", ["-std=c99 -> -std=c11"]],
    ["-march=x86-64", "-march=x86-64-v3", ["-march=x86-64 -> -march=x86-64-v3"]],
    ["-I a -I b", "-I b -I a", ["moved -I a"]],
    ["-Ia -Ib", "-Ia -Ic", ["removed -Ib", "added -Ic"]],
    ["-include a.h", "-include b.h", ["removed -include a.h", "added -include b.h"]],
    ["-O2 -O2", "-O2", ["removed -O2"]],
    ["-g0 -Wall -O1", "-Wextra -O3 -g", ["-g0 -> -g", "removed -Wall", "added -Wextra", "-O1 -> -O3"]],
  ] as const)
    assert.deepEqual(changes(before, now).sort(), [...expected].sort(), `${before} | ${now}`);
});

test("equal lines have no changes, others have some, and what is added was not there", () => {
  const word = constantFrom("-O2", "-O0", "-DX", "-DX=1", "-I", "-Wall", "a", "-fpic", "-fno-pic", "-include", "=");
  const line = array(word, { maxLength: 12 });
  check(
    property(line, line, (before, now) => {
      const found = wordChanges(before.map(ascii), now.map(ascii));
      assert.equal(found.length === 0, before.join(" ") === now.join(" "));
      assert.deepEqual(wordChanges(now.map(ascii), now.map(ascii)), []);
    }),
  );
});

test("lines of many thousand words take no time to speak of", () => {
  const words = (name: string) => Array.from({ length: 20_000 }, (_, index) => ascii(`-D${name}${index}`));
  const found = wordChanges(words("a"), words("b"));
  assert.equal(found.length, 40_000);
});
