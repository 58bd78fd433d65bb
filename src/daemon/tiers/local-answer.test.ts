import assert from "node:assert/strict";
import { test } from "node:test";
import { ascii } from "../../base/byte-string.ts";
import { PROJECT_ROOT, type View } from "../../core/compile/view/view.ts";
import { localInjectedFlags } from "./local-answer.ts";

const view: View = {
  roots: [
    { host: ascii("/home/u/p"), guest: PROJECT_ROOT },
    { host: ascii("/build"), guest: ascii("/hpcc/roots/build") },
  ],
};
const MAPS = ["-ffile-prefix-map=/home/u/p=.", "-ffile-prefix-map=/build=/hpcc/roots/build"];

test("local compiles get the debug paths of the view, and the refusal of dates only under strict", () => {
  assert.deepEqual(localInjectedFlags({ view, paths: "shared", determinism: "default" }, "clang"), MAPS);
  assert.deepEqual(localInjectedFlags({ view, paths: "shared", determinism: "pin" }, "gcc"), [
    ...MAPS,
    "-gno-record-gcc-switches",
  ]);
  assert.deepEqual(localInjectedFlags({ view, paths: "shared", determinism: "strict" }, "clang"), [
    ...MAPS,
    "-Werror=date-time",
  ]);
});
