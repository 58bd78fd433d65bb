import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { withLock } from "./folder-lock.ts";
import { ownProcess } from "./process-identity.ts";

const LONG_AGO = new Date(Date.now() - 3_600_000);

/** A lock file that somebody left, and whether it is taken over. */
async function takesOver(text: string, old = false): Promise<boolean> {
  const folder = mkdtempSync(join(tmpdir(), "hpcc-lock-"));
  const path = join(folder, "a.lock");
  writeFileSync(path, text);
  if (old) utimesSync(path, LONG_AGO, LONG_AGO);
  const taken = withLock(path, async () => readFileSync(path, "utf8") === ownProcess());
  const turns = new Promise<null>((resolve) => setTimeout(() => resolve(null), 300));
  const first = await Promise.race([taken, turns]);
  rmSync(path, { force: true });
  assert.equal(await taken, true);
  assert.equal(existsSync(path), false);
  rmSync(folder, { recursive: true });
  return first !== null;
}

test("a lock of a process that is gone is taken over, also when a later one has its number", async () => {
  const [namespace, pid] = ownProcess().split("-");
  assert.equal(await takesOver(`${namespace}-${pid}-1`), true, "its number is ours now");
  assert.equal(await takesOver(`${namespace}-4194999-1`), true);
  assert.equal(await takesOver(String(process.pid)), true, "as earlier releases wrote it");
  assert.equal(await takesOver("", true), true, "its maker ended before it wrote its name");
  assert.equal(await takesOver("1-1-1", true), true, "of a container, long ago");
});

test("one of a process that lives, or may live, is waited for", async () => {
  assert.equal(await takesOver(ownProcess()), false);
  assert.equal(await takesOver(""), false);
  assert.equal(await takesOver("1-1-1"), false);
});
