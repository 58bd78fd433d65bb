import assert from "node:assert/strict";
import { test } from "node:test";
import { ascii, type ByteString } from "../../base/byte-string.ts";
import { parseGnu } from "../../core/compile/grammar/gnu-parse.ts";
import { searchPath } from "./search-path.ts";

function searched(words: string, environment: Record<string, string> = {}): string[] {
  const parsed = parseGnu(words.split(" ").map(ascii), { family: "gcc", readResponseFile: () => null });
  if (parsed.kind !== "compile") throw new Error(parsed.kind);
  const variables = new Map(Object.entries(environment).map(([name, value]) => [name, ascii(value)] as const));
  return searchPath(parsed.invocation, variables as ReadonlyMap<string, ByteString>, [ascii("/usr/include")]).map(
    ({ path, system }) => (system ? `system ${path}` : path),
  );
}

test("folders come in the order in which compilers search them", () => {
  const words = "gcc -idirafter last -isystem sys/ -Ione -I two -iquote own -c a.c";
  assert.deepEqual(searched(words, { CPATH: "env::", C_INCLUDE_PATH: "/c", CPLUS_INCLUDE_PATH: "/cxx" }), [
    "own",
    "one",
    "two",
    "env",
    ".",
    "system sys",
    "system /c",
    "system /usr/include",
    "system last",
  ]);
});

test("a folder that is also one of the system counts as such", () => {
  assert.deepEqual(searched("g++ -I/usr/include -Ix -isystem x -c a.cc", { CPLUS_INCLUDE_PATH: "/cxx" }), [
    "system /usr/include",
    "system x",
    "system /cxx",
  ]);
});
