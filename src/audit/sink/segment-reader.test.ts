// All rows come once and in order, wherever a reader begins, and while rows are added and retention replaces segments.
import assert from "node:assert/strict";
import { mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import * as fc from "fast-check";
import { growLog } from "../../../test/support/generated-log.ts";
import { leafHex } from "../../core/merkle/hashes.ts";
import { noteSigner } from "../../core/note/signed-note.ts";
import { encodePruned } from "../pruned-frame.ts";
import { listSegments } from "../read-log.ts";
import { readFrame, segmentSequence } from "../segment.ts";
import { SegmentReader } from "./segment-reader.ts";

const ROWS = 150;
let folder = "";
let segments: string[] = [];
const whole = new Map<string, Buffer>();
let leaves: string[] = [];

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "hpcc-reader-"));
  const signer = noteSigner("x.example/worker/w1", Buffer.alloc(32, 1));
  await growLog({ folder, signer, rows: ROWS - 1, seed: 1 });
  segments = await listSegments(folder);
  assert.ok(segments.length > 1);
  for (const name of segments) whole.set(name, await readFile(join(folder, name)));
  leaves = await leavesOf(new SegmentReader(folder, 1));
  assert.deepEqual([leaves.length, new Set(leaves).size], [ROWS, ROWS]);
});
after(async () => rm(folder, { recursive: true }));

async function leavesOf(reader: SegmentReader, count = Number.POSITIVE_INFINITY): Promise<string[]> {
  const found: string[] = [];
  while (found.length < count) {
    const part = await reader.next();
    if (part === null) break;
    if (part.t === "record") found.push(leafHex(part.payload));
    else found.push(...part.leaves.map((leaf) => leaf.toString("hex")));
  }
  return found;
}

/** The segment with the hashes of every row of which `isGone` says so. */
function pruned(name: string, isGone: (row: number) => boolean): Buffer {
  const bytes = whole.get(name)!;
  const out: Buffer[] = [];
  let run: Buffer[] = [];
  let row = segmentSequence(name)!;
  const flush = () => {
    if (run.length > 0) out.push(encodePruned({ size: ROWS, tenant: "acme" }, row - run.length, run));
    run = [];
  };
  for (let offset = 0; offset < bytes.length; row++) {
    const { payload, end } = readFrame(bytes, offset)!;
    if (isGone(row)) run.push(Buffer.from(leafHex(payload), "hex"));
    else {
      flush();
      out.push(bytes.subarray(offset, end));
    }
    offset = end;
  }
  flush();
  return Buffer.concat(out);
}

async function replace(name: string, bytes: Uint8Array): Promise<void> {
  await writeFile(join(folder, "new"), bytes);
  await rename(join(folder, "new"), join(folder, name));
}

test("a reader gives each row once, also where retention replaces segments under it", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: ROWS + 1 }),
      fc.nat(ROWS),
      fc.array(fc.boolean(), { minLength: ROWS, maxLength: ROWS }),
      async (first, count, gone) => {
        for (const [name, bytes] of whole) await replace(name, bytes);
        const reader = new SegmentReader(folder, first);
        const before = await leavesOf(reader, count);
        for (const name of segments)
          await replace(
            name,
            pruned(name, (row) => gone[row - 1]!),
          );
        const after = [...(await leavesOf(reader.copy())), ...(await leavesOf(new SegmentReader(folder, ROWS + 1)))];
        assert.deepEqual([...before, ...after], leaves.slice(first - 1));
      },
    ),
    { numRuns: 40 },
  );
});

test("a torn end is waited for, and a damaged segment before the last one is told", async () => {
  for (const [name, bytes] of whole) await replace(name, bytes);
  const last = segments.at(-1)!;
  const bytes = whole.get(last)!;
  await writeFile(join(folder, last), bytes.subarray(0, bytes.length - 5));
  const reader = new SegmentReader(folder, 1);
  assert.equal((await leavesOf(reader)).length, ROWS - 1);
  assert.equal(await reader.next(), null);
  await writeFile(join(folder, last), bytes);
  assert.deepEqual(await leavesOf(reader.copy()), leaves.slice(-1));
  const bent = Buffer.from(whole.get(segments[0]!)!);
  bent[bent.length >> 1]! ^= 1;
  await writeFile(join(folder, segments[0]!), bent);
  await assert.rejects(leavesOf(new SegmentReader(folder, 1)), { code: "audit.corrupt" });
  await rm(join(folder, segments[0]!));
  await assert.rejects(leavesOf(new SegmentReader(folder, 1)), { code: "audit.corrupt" });
});
