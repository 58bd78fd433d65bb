// A namespace that is given up while it is made: nothing of it stays.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { startHolder } from "./holder.ts";

test("what a holder has started ends with it when it is given up before it is ready", async () => {
  const folder = mkdtempSync(join(tmpdir(), "hpcc-holder-"));
  try {
    // As bubblewrap in its first moments: a process that waits for its child, and tells no number of it.
    const script = 'sleep 600 2>&- 4>&- 5<&- & echo $! > "$0/child"; exec 4>&-; wait';
    await assert.rejects(startHolder(["sh", "-c", script, folder], []), { code: "namespace.unavailable" });
    const child = Number(readFileSync(join(folder, "child"), "utf8"));
    assert.ok(child > 1);
    const runs = () => {
      try {
        return /^State:\t[^ZX]/m.test(readFileSync(`/proc/${child}/status`, "utf8"));
      } catch {
        return false;
      }
    };
    for (let round = 0; runs() && round < 1_000; round++) await delay(5);
    const left = runs();
    if (left) process.kill(child, "SIGKILL");
    assert.ok(!left);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
