// Several processes keep, read and evict in one store at once, and are killed in the middle of it.
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { globSync, readFileSync, statSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { test } from "node:test";
import { ManualClock } from "../../base/clock.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { digestHex, sha256 } from "../../core/digest/digest.ts";
import { DiskLocalStore } from "./disk-local-store.ts";

const PROGRAM = new URL("../../../test/support/local-store-process.ts", import.meta.url).pathname;
const SIZE_BYTES_MAX = 1_000_000;
const PROCESSES = 3;
const KILLS = 6;
const ROUNDS_AFTER = 3;

function start(cache: string, seed: number): ChildProcess {
  return spawn(process.execPath, [PROGRAM, cache, String(SIZE_BYTES_MAX), String(seed)], {
    stdio: ["pipe", "pipe", "inherit"],
  });
}

async function rounds(child: ChildProcess, count: number): Promise<void> {
  for (let seen = 0; seen < count; ) {
    const [chunk] = (await Promise.race([
      once(child.stdout!, "data"),
      once(child, "exit").then(([code]) => assert.fail(`a process ended with ${code}`)),
    ])) as [Buffer];
    seen += chunk.toString().split("\n").length - 1;
  }
}

test("processes that write, read, evict and are killed at any moment see whole files alone", async () => {
  const folder = await mkdtemp(join(tmpdir(), "hpcc-local-many-"));
  const cache = join(folder, "cache");
  const running = new Set<ChildProcess>();
  try {
    for (let i = 0; i < PROCESSES; i++) running.add(start(cache, i));
    for (let kill = 0; kill < KILLS; kill++) {
      const [victim] = running;
      await rounds(victim!, 1);
      victim!.kill("SIGKILL");
      running.delete(victim!);
      running.add(start(cache, 100 + kill));
    }
    for (const child of running) {
      await rounds(child, ROUNDS_AFTER);
      child.stdin!.end();
      const [code] = (await once(child, "exit")) as [number];
      running.delete(child);
      assert.equal(code, 0);
    }
    await checkStore(cache);
  } finally {
    for (const child of running) child.kill("SIGKILL");
    await rm(folder, { recursive: true });
  }
});

async function checkStore(cache: string): Promise<void> {
  const kept = globSync(join(cache, "v1/files/*/*"));
  assert.ok(kept.length > 10, "the test kept something");
  for (const path of kept) assert.equal(digestHex(sha256(readFileSync(path))), basename(path));
  const clock = new ManualClock(Date.now() + 2 * 86_400_000);
  const store = new DiskLocalStore({ root: cache, sizeBytesMax: SIZE_BYTES_MAX, clock, logger: SILENT_LOGGER });
  for (const path of globSync(join(cache, "v1/records/*/*")))
    assert.notEqual(await store.readRecord(`sha256:${basename(path)}` as ReturnType<typeof sha256>), null, path);
  await store.settled();
  assert.equal(store.counters.damaged, 0);
  assert.deepEqual(globSync(join(cache, "v1/tmp/*")), [], "what killed processes left is swept");
  const total = globSync(join(cache, "v1/{files,records}/*/*")).reduce((sum, path) => sum + statSync(path).size, 0);
  assert.ok(total <= SIZE_BYTES_MAX, `${total} bytes`);
}
