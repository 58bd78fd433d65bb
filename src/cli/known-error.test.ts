import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { HpccError } from "../base/errors.ts";
import { knownError } from "./known-error.ts";

test("what the system says of a path is an error with a way out, and no bug", (t) => {
  const folder = mkdtempSync(join(tmpdir(), "hpcc-known-error-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "a, b");
  writeFileSync(file, "");
  const thrown = (run: () => void) => {
    try {
      run();
    } catch (error) {
      return error;
    }
    return assert.fail();
  };
  const known = knownError(thrown(() => mkdirSync(join(file, "x"))));
  assert.ok(known instanceof HpccError);
  assert.deepEqual([known.code, known.message], ["store.io", `${file}/x: not a directory (mkdir, ENOTDIR)`]);
  assert.match(known.hint, /permissions .* disk/);
  const own = new HpccError("argument.invalid", "x");
  const bug = new TypeError("x");
  assert.deepEqual([knownError(own), knownError(bug), knownError("x")], [own, bug, "x"]);
});
