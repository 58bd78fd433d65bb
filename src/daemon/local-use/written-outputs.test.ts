import assert from "node:assert/strict";
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ascii, byteStringOfText } from "../../base/byte-string.ts";
import { parseGnu } from "../../core/compile/grammar/gnu-parse.ts";
import { OutputsBefore, possibleOutputs } from "./written-outputs.ts";

function inFolder(
  argv: string,
  check: (at: (name: string) => string, before: (startedMs: number) => OutputsBefore) => void,
) {
  const root = mkdtempSync(join(tmpdir(), "hpcc-written-"));
  const parsed = parseGnu(argv.split(" ").map(ascii), { family: "gcc", readResponseFile: () => null });
  if (parsed.kind !== "compile") throw new Error(parsed.kind);
  const outputs = possibleOutputs({ invocation: parsed.invocation, cwd: byteStringOfText(root) });
  try {
    check(
      (name) => join(root, name),
      (startedMs) => new OutputsBefore(outputs, startedMs),
    );
  } finally {
    rmSync(root, { recursive: true });
  }
}

const LATER_MS = 60_000;

test("what was written is told, in the order in which it is given again", () => {
  inFolder("gcc -MD -fstack-usage -c a.c", (at, before) => {
    writeFileSync(at("a.su"), "old");
    const outputs = before(Date.now() + LATER_MS);
    writeFileSync(at("a.o"), "o");
    writeFileSync(at("a.d"), "d");
    const written = outputs.written();
    assert.ok(Array.isArray(written));
    assert.deepEqual(
      written.map(({ destination, manner }) => [destination, manner]),
      [
        ["a.d", "text"],
        ["a.o", "assembler"],
      ],
    );
  });
});

test("what may have been written within one tick, is missing or is no plain file, is told of nothing", () => {
  const reason = (written: ReturnType<OutputsBefore["written"]>) => ("reason" in written ? written.reason : null);
  inFolder("gcc -fstack-usage -c a.c", (at, before) => {
    assert.equal(reason(before(Date.now()).written()), "bad_output_file");
    writeFileSync(at("a.su"), "just now");
    const soon = before(Date.now());
    writeFileSync(at("a.o"), "o");
    assert.equal(reason(soon.written()), "overlapping_outputs");
    assert.equal(reason(before(Date.now() + LATER_MS).written()), "overlapping_outputs");
    rmSync(at("a.o"));
    const linked = before(Date.now() + LATER_MS);
    symlinkSync("a.su", at("a.o"));
    assert.equal(reason(linked.written()), "bad_output_file");
  });
});
