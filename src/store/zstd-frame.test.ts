import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { createZstdCompress, zstdCompressSync } from "node:zlib";
import * as fc from "fast-check";
import { FrameWalker, frameSizeMax } from "./zstd-frame.ts";

const sizes = [0, 1, 100, 255, 256, 300, 65_535, 65_536, 131_072, 200_000, 3_000_000];
const frames = sizes.flatMap((size) => [Buffer.alloc(size, 65), randomBytes(size)]).map((bytes) => ({ bytes }));

test("a frame ends where the compressor ended it, however it is cut", () => {
  for (const { bytes } of frames) {
    const frame = zstdCompressSync(bytes);
    assert.ok(frame.length <= frameSizeMax(bytes.length));
    for (const step of frame.length > 50_000 ? [50_001] : [1, 3, 7, 1000]) {
      const walker = new FrameWalker();
      for (let at = 0; at < frame.length; at += step) {
        assert.equal(walker.done, false);
        walker.pushAll(frame.subarray(at, at + step));
      }
      assert.equal(walker.done, true);
      assert.throws(() => walker.pushAll(Buffer.from([0])), { code: "argument.invalid" });
    }
  }
});

test("a second frame is not part of the first", async () => {
  const first = zstdCompressSync(Buffer.from("hello"));
  const both = Buffer.concat([first, zstdCompressSync(Buffer.from("world"))]);
  assert.equal(new FrameWalker().push(both), first.length);
  assert.throws(() => new FrameWalker().pushAll(both), { code: "argument.invalid" });
});

test("the streaming compressor's output can be cut to one frame", async () => {
  const stream = createZstdCompress();
  const parts: Buffer[] = [];
  stream.on("data", (part: Buffer) => parts.push(part));
  const ended = new Promise((resolve) => stream.on("end", resolve));
  for (let i = 0; i < 3; i++) stream.write(randomBytes(100_000));
  stream.end();
  await ended;
  const walker = new FrameWalker();
  const length = walker.push(Buffer.concat(parts));
  assert.ok(walker.done && length >= 300_000);
});

test("hostile headers are refused", () => {
  const header = (descriptor: number, ...rest: number[]) => Buffer.from([0x28, 0xb5, 0x2f, 0xfd, descriptor, ...rest]);
  const refused = [
    Buffer.from("not zstd at all"),
    Buffer.from([0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]), // skippable frame
    header(0x01, 0, 7), // dictionary
    header(0x08, 0), // reserved bit
    header(0x00, 0xff), // window of terabytes
    header(0xe0, 0, 0, 0, 0, 0, 0, 0, 1), // single segment of an exabyte
    header(0x00, 0x58, 0x07, 0, 0), // reserved block type
    header(0x00, 0x58, 0x04, 0xff, 0xff), // block of two megabytes
  ];
  for (const bytes of refused) assert.throws(() => new FrameWalker().push(bytes), { code: "argument.invalid" });
});

test("any bytes are walked or refused, never more", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), fc.boolean(), (bytes, withMagic) => {
      const input = withMagic ? Buffer.concat([Buffer.from([0x28, 0xb5, 0x2f, 0xfd]), bytes]) : bytes;
      try {
        const taken = new FrameWalker().push(input);
        assert.ok(taken <= input.length);
      } catch (error) {
        assert.equal((error as { code?: string }).code, "argument.invalid");
      }
    }),
    { numRuns: 2000 },
  );
});
