import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { tryLock } from "../base/system/file-lock.ts";
import { withLock } from "./folder-lock.ts";

test("makers of one thing come one after the other, and wait for whoever holds the lock", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "hpcc-lock-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, "a.lock");
  const held = tryLock(path)!;
  const done: string[] = [];
  const make = (name: string) =>
    withLock(path, async () => {
      done.push(`${name} begins`);
      await Promise.resolve();
      done.push(`${name} ends`);
    });
  const both = Promise.all([make("one"), make("two")]);
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(done, []);
  held.release();
  await both;
  assert.deepEqual(done, ["one begins", "one ends", "two begins", "two ends"]);
  await assert.rejects(
    withLock(path, () => Promise.reject(new Error("no"))),
    { message: "no" },
  );
});
