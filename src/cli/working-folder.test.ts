import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

const MAIN = join(import.meta.dirname, "../programs/main.ts");

test("commands in a folder that has been removed say so, and need not fail", () => {
  const home = mkdtempSync(join(tmpdir(), "hpcc-gone-"));
  try {
    const run = (...argv: string[]) => {
      const script = 'mkdir "$0" && cd "$0" && rmdir "$0" && exec "$@"';
      const env = { PATH: process.env["PATH"], HOME: home, HPCC_RUNTIME_DIR: join(home, "run") };
      const words = ["-c", script, join(home, "gone"), process.execPath, MAIN, ...argv];
      return spawnSync("/bin/sh", words, { env, encoding: "utf8" });
    };
    for (const argv of [
      ["explain", "--last-build"],
      ["config", "show"],
      ["stats", "--project"],
      ["clean", "--project", "."],
    ]) {
      const { status, stderr } = run(...argv);
      assert.notEqual(status, 70, stderr);
      assert.doesNotMatch(stderr, /bug/);
      assert.match(stderr, /has been removed|no call is known/, argv.join(" "));
    }
    assert.match(run("clean").stdout, /nothing left/);
    assert.match(run("stats").stderr, /no daemon runs/i);
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
});
