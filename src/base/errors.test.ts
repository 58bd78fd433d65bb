import assert from "node:assert/strict";
import { test } from "node:test";
import { ERROR_TRAITS } from "./errors.ts";

test("hints that stand for many faults name nothing that only some of them have", () => {
  // `hpcc config show` reads no policy, no witness's file and no key, and not the file that is wrong; keys and witnesses are no workers.
  assert.doesNotMatch(ERROR_TRAITS["config.invalid"].hint, /config show/);
  assert.doesNotMatch(ERROR_TRAITS["audit.io"].hint, /worker/);
});
