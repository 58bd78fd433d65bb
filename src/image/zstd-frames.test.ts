import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { describe, test } from "node:test";
import { zstdCompressSync } from "node:zlib";
import * as fc from "fast-check";
import { unpackZstdFrames } from "./zstd-frames.ts";

const unpack = (packed: Buffer, sizes: readonly number[] = [packed.length]) =>
  buffer(Readable.from(unpackZstdFrames(Readable.from(pieces(packed, sizes)))));

/** Cut into pieces of these sizes, over and over. */
function* pieces(bytes: Buffer, sizes: readonly number[]): Generator<Buffer> {
  for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
    const size = sizes[turn % sizes.length]!;
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

function skippable(content: Buffer, kind = 0): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(0x184d2a50 + kind, 0);
  head.writeUInt32LE(content.length, 4);
  return Buffer.concat([head, content]);
}

describe("layers of several zstd frames", () => {
  test("frames, empty ones and skippable ones between them, however they arrive", () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(fc.uint8Array({ maxLength: 4000 }), fc.integer({ min: 0, max: 15 })), { maxLength: 6 }),
        fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 1, maxLength: 4 }),
        async (parts, sizes) => {
          const packed = parts.map((part) =>
            typeof part === "number" ? skippable(Buffer.alloc(part * 10, 1), part) : zstdCompressSync(part),
          );
          const plain = parts.filter((part) => typeof part !== "number");
          assert.deepEqual(await unpack(Buffer.concat(packed), sizes), Buffer.concat(plain));
        },
      ),
      { numRuns: 60 },
    ));

  test("what is cut off or no frame is an error", async () => {
    const frame = zstdCompressSync(Buffer.alloc(100_000, "text "));
    const wrong = [
      frame.subarray(0, -1),
      Buffer.concat([frame, frame.subarray(0, 10)]),
      Buffer.concat([frame, Buffer.from("trailing words")]),
      Buffer.concat([frame, Buffer.from([1, 2])]),
      skippable(Buffer.alloc(10)).subarray(0, -1),
      skippable(Buffer.alloc(10)).subarray(0, 6),
    ];
    for (const packed of wrong) await assert.rejects(unpack(packed));
  });

  test("any bytes end, in an error or not", () =>
    fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (noise) => {
        const frame = Buffer.concat([zstdCompressSync("abc"), Buffer.from(noise)]);
        await unpack(frame).catch((error: unknown) => assert.ok(error instanceof Error));
      }),
      { numRuns: 60 },
    ));
});
