import assert from "node:assert/strict";
import { test } from "node:test";
import { ascii } from "../../base/byte-string.ts";
import { linkedLibraries } from "./linked-libraries.ts";

test("libraries that a link names, and its folders", () => {
  const of = (...words: string[]) => linkedLibraries(["gcc", ...words].map(ascii));
  assert.deepEqual(of("a.o", "-Lown", "-L", "/opt/x", "-lz", "-l", "m", "-lz", "-o", "a"), {
    names: ["z", "m"],
    folders: ["own", "/opt/x"],
  });
  for (const none of [
    ["a.o", "-o", "a"],
    ["-c", "a.c", "-lz"],
    ["a.o", "-l:libz.a"],
    ["a.o", "-l../z"],
    ["a.o", "-l*"],
    ["a.o", "-lz", "--sysroot=/x"],
    ["a.o", "-lz", "-Wl,-L/x"],
    ["a.o", "-l"],
    ["@words"],
  ])
    assert.equal(of(...none), null, none.join(" "));
});
