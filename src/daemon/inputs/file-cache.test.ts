import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  linkSync,
  mkdtempSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { byteStringOfText } from "../../base/byte-string.ts";
import { SYSTEM_CLOCK } from "../../base/system/clock.ts";
import { FileCache } from "./file-cache.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "hpcc-files-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** A clock on which every file has long settled, or none. */
const SETTLED = { wallMs: () => Date.now() + 60_000 };
const AT_ONCE = { wallMs: () => Date.now() };
const path = (name: string) => byteStringOfText(join(folder, name));
const write = (name: string, text: string) => writeFileSync(join(folder, name), text);

test("an unchanged file gives the same bytes object, a changed one its new content", () => {
  const cache = new FileCache(100, SETTLED);
  write("a", "one");
  const first = cache.read(path("a"));
  assert.equal(cache.read(path("a")), first);
  // As long as before, and as old.
  write("a", "two");
  utimesSync(join(folder, "a"), new Date(0), new Date(0));
  assert.equal(cache.read(path("a"))?.toString(), "two");
});

test("a file that has just changed is read again", () => {
  const cache = new FileCache(100, AT_ONCE);
  write("a", "one");
  assert.notEqual(cache.read(path("a")), cache.read(path("a")));
});

test("the oldest give way to what is read, by bytes", () => {
  const cache = new FileCache(10, SETTLED);
  for (const name of ["a", "b", "c"]) write(name, "1234");
  const [a, b] = [cache.read(path("a")), cache.read(path("b"))];
  // Read again, so it is newer than b.
  assert.equal(cache.read(path("a")), a);
  cache.read(path("c"));
  assert.equal(cache.read(path("a")), a);
  assert.notEqual(cache.read(path("b")), b);
  write("large", "x".repeat(11));
  assert.notEqual(cache.read(path("large")), cache.read(path("large")));
});

test("what else is told of a file", () => {
  const cache = new FileCache(100, SETTLED);
  write("a", "x");
  linkSync(join(folder, "a"), join(folder, "b"));
  utimesSync(join(folder, "a"), 1_000_000.75, 1_000_000.75);
  const [a, b] = ["a", "b"].map((name) => cache.readFile(path(name)));
  assert.equal(a?.identity, b?.identity);
  assert.equal(a?.hardLinks, 2);
  assert.equal(a?.modifiedS, 1_000_000);
  // The change of its time is a change, too.
  assert.ok(Math.abs((a?.changedMs ?? 0) - Date.now()) < 60_000);
});

test("what is no regular file, or larger than is sent, is not read", () => {
  const cache = new FileCache(100, SETTLED);
  execFileSync("mkfifo", [join(folder, "fifo")]);
  write("huge", "");
  truncateSync(join(folder, "huge"), 32 * 1024 * 1024 + 1);
  for (const name of ["fifo", "huge", ".", "missing"]) assert.equal(cache.read(path(name)), null, name);
});

/** Long enough after its last change for a cache to keep it. */
async function settled(file: string): Promise<void> {
  while (Date.now() - statSync(file).ctimeMs <= 80) await new Promise((resolve) => void setTimeout(resolve, 10));
}

test("a file that changes while it is read has the times of after the reading, and is not kept", async () => {
  const torn = join(folder, "torn.h");
  writeFileSync(torn, "old old ");
  await settled(torn);
  let writes = 0;
  const half = (descriptor: number) => {
    const start = Buffer.alloc(4);
    readSync(descriptor, start, 0, 4, null);
    if (writes++ === 0) writeFileSync(torn, "new new ");
    return Buffer.concat([start, readFileSync(descriptor)]);
  };
  const files = new FileCache(1 << 20, SYSTEM_CLOCK, half);
  const startedMs = Date.now() - 10;
  const read = files.readFile(byteStringOfText(torn));
  assert.equal(String(read?.bytes), "old new ");
  assert.ok(read !== null && read.changedMs >= startedMs, "what was torn looks old");
  await settled(torn);
  assert.equal(String(files.read(byteStringOfText(torn))), "new new ");
});
