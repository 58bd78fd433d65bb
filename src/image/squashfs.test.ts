// A packed root file system is read whole once, and again when it changed.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtempSync, openSync, readFileSync, rmSync, statSync, truncateSync, utimesSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { rawTar, writeLayout } from "../../test/support/oci-layout.ts";
import { openImage } from "./layout.ts";
import { ensureSquashfs } from "./squashfs.ts";

const MIB = 1024 ** 2;

async function packedImage(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), "hpcc-squashfs-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const layout = join(folder, "layout");
  const digest = await writeLayout(layout, {
    layers: [{ tar: rawTar([{ name: "usr/lib/filler", content: randomBytes(8 * MIB), mode: 0o644 }]) }],
  });
  const image = await openImage(layout, digest);
  return () => ensureSquashfs(image, folder);
}

/** Bytes that this process reads meanwhile. */
async function bytesRead(run: () => Promise<unknown>): Promise<number> {
  const count = () => Number(/^rchar: ([0-9]+)$/m.exec(readFileSync("/proc/self/io", "latin1"))![1]);
  const before = count();
  await run();
  return count() - before;
}

test("a file that did not change is not read again; one that did is, however it looks", async (t) => {
  const ensure = await packedImage(t);
  const made = await ensure();
  // A file that was just made may change and look the same.
  while (Date.now() - statSync(`${made.path}.json`).ctimeMs < 200) await delay(20);
  assert.ok((await bytesRead(ensure)) > 8 * MIB);
  assert.ok((await bytesRead(ensure)) < MIB);
  assert.deepEqual(await ensure(), made);

  const { atime, mtime } = statSync(made.path);
  writeSync(openSync(made.path, "r+"), Buffer.from("altered"), 0, 7, 4 * MIB);
  utimesSync(made.path, atime, mtime);
  assert.ok((await bytesRead(ensure)) > 8 * MIB);
  assert.deepEqual(await ensure(), made, "it was packed again");
  assert.notEqual(readFileSync(made.path).toString("latin1", 4 * MIB, 4 * MIB + 7), "altered");

  truncateSync(`${made.path}.contents`, 3);
  assert.deepEqual(await ensure(), made);
  rmSync(made.path);
  assert.deepEqual(await ensure(), made);
});
