// One of many processes that use a local store at once: keeps, writes, reads and looks for a few contents in an order of its own until its
// input ends, and says so after each round. Ends with 1 as soon as the store hands out bytes that are not those of their digest.
import assert from "node:assert/strict";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { byteStringOfText, bytesOf } from "../../src/base/byte-string.ts";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { SYSTEM_CLOCK } from "../../src/base/system/clock.ts";
import { type Digest, sha256 } from "../../src/core/digest/digest.ts";
import { DiskLocalStore } from "../../src/store/local/disk-local-store.ts";

const [cache = "", sizeBytesMax = "", seed = ""] = process.argv.slice(2);
const CONTENTS = 60;
const ROUND = 40;

let state = Number(seed);
/** A whole number below `below`. */
function random(below: number): number {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
  return Math.floor((state / 2 ** 32) * below);
}

const contentOf = (n: number) => Buffer.from(`content ${n}\n`.repeat(100 + n * 97));
const keyOf = (n: number) => sha256(Buffer.from(`key ${n}`));
const store = new DiskLocalStore({
  root: cache,
  sizeBytesMax: Number(sizeBytesMax),
  clock: SYSTEM_CLOCK,
  logger: SILENT_LOGGER,
});
const source = join(cache, "..", `source-${process.pid}`);

/** A launcher may be late: the file may be gone, or be another of the same bytes. */
function checkFile(path: Buffer, digest: Digest): void {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, "ENOENT");
    return;
  }
  assert.equal(sha256(bytes), digest, "the bytes are others");
}

async function step(): Promise<void> {
  const n = random(CONTENTS);
  const content = contentOf(n);
  const digest = sha256(content);
  const what = random(4);
  if (what === 0) {
    writeFileSync(source, content);
    const kept = await store.keepFile(byteStringOfText(source));
    assert.equal(kept.digest, digest);
    checkFile(bytesOf(kept.path), digest);
  } else if (what === 1) {
    const kept = await store.keepBytes(content);
    await store.writeRecord(keyOf(n), content.subarray(0, 50), byteStringOfText(`/src/${n % 3}`), [kept.digest]);
  } else if (what === 2) {
    const record = await store.readRecord(keyOf(n));
    if (record !== null) assert.deepEqual(Buffer.from(record), content.subarray(0, 50));
  } else {
    const found = await store.find(digest);
    if (found !== null) checkFile(bytesOf(found.path), digest);
  }
}

const ended = new AbortController();
process.stdin.on("end", () => ended.abort());
process.stdin.resume();
while (!ended.signal.aborted) {
  for (let i = 0; i < ROUND; i++) await step();
  process.stdout.write("round\n");
  await new Promise((resolve) => setImmediate(resolve));
}
assert.equal(store.counters.damaged, 0, "a file or record looked damaged");
await store.close();
rmSync(source, { force: true });
