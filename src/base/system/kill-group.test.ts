import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { killGroup } from "./kill-group.ts";

test("what a child has started ends with it, and its streams are let go", async () => {
  const child = spawn("sh", ["-c", "sleep 600 & echo $!; wait"], { detached: true, stdio: ["ignore", "pipe", "pipe"] });
  const [said] = (await once(child.stdout, "data")) as [Buffer];
  const closed = once(child, "close");
  killGroup(child);
  await closed;
  assert.equal(child.signalCode, "SIGKILL");
  const left = () => {
    try {
      return /^State:\t[^Z]/m.test(readFileSync(`/proc/${Number(said)}/status`, "utf8"));
    } catch {
      return false;
    }
  };
  for (let round = 0; left() && round < 1_000; round++) await new Promise((resolve) => void setTimeout(resolve, 5));
  assert.ok(!left());
  killGroup(child);
});
