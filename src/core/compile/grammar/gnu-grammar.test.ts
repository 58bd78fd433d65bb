import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ascii } from "../../../base/byte-string.ts";
import { grammarOf } from "./gnu-grammar.ts";

const SOURCES = join(import.meta.dirname, "../../..");
/** Rooms that are a grammar's own. */
const OWN = /^core\/compile\//;
const FAMILY = /family\s*[=!]==\s*"|[=!]==\s*"(?:gcc|clang)"/;
const BEHIND = /grammar\/gnu-(?!grammar\.ts)[a-z-]+\.ts/;

test("no room but the grammar's asks for a compiler's family, or goes past the port", () => {
  const files = globSync("**/*.ts", { cwd: SOURCES }).filter((file) => !OWN.test(file) && !file.endsWith(".test.ts"));
  assert.ok(files.length > 250, `${files.length} files`);
  const lines = files.flatMap((file) =>
    readFileSync(join(SOURCES, file), "utf8")
      .split("\n")
      .flatMap((line) => (FAMILY.test(line) || BEHIND.test(line) ? [`${file}: ${line.trim()}`] : [])),
  );
  assert.deepEqual(lines, []);
});

test("outputs are written in the manner of what writes them", () => {
  const manner = (family: "gcc" | "clang", produce: "object" | "assembler", kind: "object" | "gcno") =>
    grammarOf({ family }).manner({ produce }, kind);
  assert.equal(manner("gcc", "object", "object"), "assembler");
  assert.equal(manner("gcc", "assembler", "object"), "text");
  assert.equal(manner("gcc", "object", "gcno"), "text");
  for (const kind of ["object", "gcno"] as const) assert.equal(manner("clang", "object", kind), "clang");
});

test("local compiles record no maps", () => {
  const maps = [ascii("-ffile-prefix-map=/p=.")];
  assert.deepEqual(grammarOf({ family: "gcc" }).localInjected(maps), [...maps, "-gno-record-gcc-switches"]);
  assert.deepEqual(grammarOf({ family: "clang" }).localInjected(maps), maps);
});
