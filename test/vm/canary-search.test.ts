// The search for canaries finds what is there, wherever a chunk ends, and inside zstd frames; so that what it does not find is not there.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, it } from "node:test";
import { zstdCompressSync } from "node:zlib";
import { findCanaries } from "../support/canary.ts";

const CHUNK_BYTES = 4 * 2 ** 20;
const folder = mkdtempSync(join(tmpdir(), "hpcc-canary-search-"));
const canary = { name: "it", bytes: Buffer.from(randomBytes(32).toString("hex"), "latin1") };

after(() => rmSync(folder, { recursive: true }));

/** A file of zeros with pieces in it. */
function fileWith(sizeBytes: number, pieces: readonly { readonly at: number; readonly bytes: Buffer }[]) {
  const content = Buffer.alloc(sizeBytes);
  for (const { at, bytes } of pieces) content.set(bytes, at);
  const path = join(folder, randomBytes(4).toString("hex"));
  writeFileSync(path, content);
  return { name: "file", path };
}

it("finds it at both ends of a file and across the end of a chunk", async () => {
  const offsets = [0, CHUNK_BYTES - 16, 2 * CHUNK_BYTES + 5_000];
  const file = fileWith(
    2 * CHUNK_BYTES + 5_064,
    offsets.map((at) => ({ at, bytes: canary.bytes })),
  );
  const { findings, bytes } = await findCanaries([file], [canary]);
  assert.deepEqual(
    findings.map(({ offset, within }) => [offset, within]),
    offsets.map((at) => [at, "raw"]),
  );
  assert.equal(bytes, 2 * CHUNK_BYTES + 5_064);
});

it("finds it in a frame, which does not hold it as it is", async () => {
  const frame = zstdCompressSync(Buffer.concat([Buffer.from("int x;\n".repeat(300)), canary.bytes]));
  assert.equal(frame.includes(canary.bytes), false);
  const file = fileWith(2 * CHUNK_BYTES, [{ at: CHUNK_BYTES - 10, bytes: frame }]);
  const { findings, frames } = await findCanaries([file], [canary]);
  assert.deepEqual(findings, [{ canary: "it", file: "file", offset: CHUNK_BYTES - 10, within: "zstd frame" }]);
  assert.ok(frames >= 1);
});

it("looks only where it may, and says how much it saw", async () => {
  const file = fileWith(CHUNK_BYTES, [{ at: 100, bytes: canary.bytes }]);
  const ranges = [{ start: 4096, end: 8192 }];
  assert.deepEqual(await findCanaries([{ ...file, ranges }], [canary]), {
    findings: [],
    bytes: 4096,
    pagesInUse: 0,
    frames: 0,
  });
});
