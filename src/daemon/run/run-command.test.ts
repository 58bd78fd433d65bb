import assert from "node:assert/strict";
import { test } from "node:test";
import { ascii } from "../../base/byte-string.ts";
import { runEnvironment } from "./run-command.ts";

test("a command's environment: the caller's, but for PATH and what is for launchers; the image's where he says nothing", () => {
  const project = {
    run: {
      namespace: () => assert.fail(),
      folders: ["/opt/cc/bin", "/usr/bin"].map(ascii),
      environment: ["JAVA_HOME=/opt/java", "LANG=C"].map(ascii),
      word: () => assert.fail(),
    },
  };
  const own = [
    "PATH=/home/u/bin",
    "HOME=/home/u",
    "LANG=de_DE.UTF-8",
    "HPCC_WRAPPED=1:2",
    "HPCC_STATE_DIR=/s",
    "ODD",
    "PATHS=1",
  ];
  assert.deepEqual(runEnvironment({ environment: own.map(ascii) }, project), [
    "HOME=/home/u",
    "LANG=de_DE.UTF-8",
    "HPCC_STATE_DIR=/s",
    "ODD",
    "PATHS=1",
    "JAVA_HOME=/opt/java",
    "PATH=/opt/cc/bin:/usr/bin:/hpcc/bin",
  ]);
});
