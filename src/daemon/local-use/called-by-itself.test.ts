import assert from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { answeredCall } from "../../../test/support/call-shapes.ts";
import { ascii } from "../../base/byte-string.ts";
import type { LauncherCall } from "../control/launcher-connection.ts";
import { calledByItself } from "./called-by-itself.ts";

test("a compiler behind something else of its name on PATH is called by its path", () => {
  const folder = mkdtempSync(join(tmpdir(), "hpcc-called-"));
  for (const name of ["links", "bin", "plain", "same"]) mkdirSync(join(folder, name));
  const real = join(folder, "bin/gcc");
  writeFileSync(real, "");
  chmodSync(real, 0o755);
  writeFileSync(join(folder, "launcher"), "");
  chmodSync(join(folder, "launcher"), 0o755);
  symlinkSync(join(folder, "launcher"), join(folder, "links/gcc"));
  symlinkSync(real, join(folder, "same/gcc"));
  // No program, so nobody finds it.
  writeFileSync(join(folder, "plain/gcc"), "");
  const called = (name: string, path: readonly string[], hostCompiler: string | null = real) => {
    const { message } = answeredCall();
    const PATH = path.map((entry) => (entry.startsWith("./") ? entry : join(folder, entry))).join(":");
    const call: LauncherCall = {
      signal: new AbortController().signal,
      run: () => Promise.reject(new Error("nothing is run")),
      whenDone: () => undefined,
      message: {
        ...message,
        cwd: ascii(folder),
        argv: [ascii(name), ascii("-c")],
        environment: [ascii(`PATH=${PATH}`)],
        hostCompiler: hostCompiler === null ? null : ascii(hostCompiler),
      },
    };
    const [word, ...rest] = calledByItself(call).message.argv;
    assert.deepEqual(rest, ["-c"]);
    assert.equal(calledByItself(call) === call, word === name);
    return word;
  };
  try {
    assert.equal(called("gcc", ["bin"]), "gcc");
    assert.equal(called("gcc", ["none", "plain", "bin", "links"]), "gcc");
    assert.equal(called("gcc", ["same", "bin"]), "gcc");
    assert.equal(called("gcc", ["links", "bin"]), real);
    assert.equal(called("gcc", ["./links", "bin"]), real);
    assert.equal(called(real, ["links", "bin"]), real);
    assert.equal(called("gcc", ["links"], null), "gcc");
  } finally {
    rmSync(folder, { recursive: true });
  }
});
