import assert from "node:assert/strict";
import { test } from "node:test";
import { ascii } from "../../../base/byte-string.ts";
import { partArguments } from "./injected.ts";

test("what was added is told from the caller's own words", () => {
  const argv =
    "/usr/bin/gcc -c -fpreprocessed -fdirectives-only -O2 -Wall -Werror=date-time -ffile-prefix-map=/hpcc/project=. " +
    "-gno-record-gcc-switches -frandom-seed=77135bb0e686636b -x c /hpcc/tmp/text -o /hpcc/out/object";
  const { own, injected } = partArguments(argv.split(" ").map(ascii), "text");
  assert.equal(own.join(" "), "/usr/bin/gcc -c -O2 -Wall /hpcc/tmp/text -o /hpcc/out/object");
  assert.equal(
    injected.join(" "),
    "-fpreprocessed -fdirectives-only -Werror=date-time -ffile-prefix-map=/hpcc/project=. -gno-record-gcc-switches " +
      "-frandom-seed=77135bb0e686636b -x c",
  );
  assert.deepEqual(partArguments([], null), { own: [], injected: [] });
});

test("a caller's own language before the source is the caller's", () => {
  const argv = "/usr/bin/gcc -Werror=date-time -c -x c main.x -o /hpcc/out/object".split(" ").map(ascii);
  assert.deepEqual(partArguments(argv, "files").injected, ["-Werror=date-time"]);
  assert.deepEqual(partArguments(argv, "text").injected, ["-Werror=date-time", "-x", "c"]);
});
