// Sender and receiver together, over a connection that takes chunks when a random schedule says so.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { ManualClock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import { BlobReceiver, type ExpectedBlob } from "./blob-receiver.ts";
import { FairSender, type OutgoingChunk } from "./fair-sender.ts";
import { BLOB_IDLE_TIMEOUT_MS, CHUNK_BYTES_MAX, INITIAL_CREDIT_BYTES, QUEUED_BYTES_MAX } from "./limits.ts";

const NEVER = new AbortController().signal;

/** A connection that holds chunks until `deliver`. */
class HeldConnection {
  readonly held: { readonly chunk: OutgoingChunk; readonly flushed: () => void }[] = [];
  heldBytesMax = 0;

  readonly send = (chunk: OutgoingChunk, flushed: () => void): void => {
    this.held.push({ chunk, flushed });
    this.heldBytesMax = Math.max(
      this.heldBytesMax,
      this.held.reduce((sum, { chunk }) => sum + chunk.data.length, 0),
    );
  };

  deliver(): OutgoingChunk | null {
    const first = this.held.shift();
    first?.flushed();
    return first?.chunk ?? null;
  }
}

async function turnsOfTheLoop(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

function bytesOfSize(size: number, seed: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, i) => (i * 31 + seed) & 0xff);
}

describe("blobs of many jobs on one stream", () => {
  test("all arrive whole, within credit and queue, for any sizes, cuts and credit", async () => {
    const blobSizes = fc.array(fc.integer({ min: 1, max: 400_000 }), { minLength: 1, maxLength: 3 });
    const jobs = fc.array(blobSizes, { minLength: 1, maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(jobs, fc.integer({ min: 1000, max: 300_000 }), fc.nat(5), async (jobs, credit, laziness) => {
        const connection = new HeldConnection();
        const sender = new FairSender({ send: connection.send, initialCreditBytes: credit });
        const received = new Map<bigint, Promise<Uint8Array[]>>();
        const receivers = new Map<bigint, BlobReceiver>();
        const sendings = jobs.map(async (sizes, job) => {
          const id = BigInt(job);
          const blobs = sizes.map((size, index) => ({ index, bytes: bytesOfSize(size, job + index) }));
          const expected = blobs.map(({ index, bytes }): ExpectedBlob => ({ index, frameSizeMax: bytes.length }));
          const grant = (bytes: number) => sender.addCredit(id, bytes);
          const receiver = new BlobReceiver({ blobs: expected, creditBytes: credit, grant, clock: new ManualClock() });
          receivers.set(id, receiver);
          received.set(id, readAll(receiver, expected.length, laziness));
          const outgoing = blobs.map(({ index, bytes }) => ({ index, open: () => cut(bytes, 90_000) }));
          await sender.sendBlobs(id, outgoing, NEVER);
        });
        const done = Promise.all(sendings).then(() => "done" as const);
        for (;;) {
          const chunk = connection.deliver();
          if (chunk !== null) receivers.get(chunk.jobId)!.push(chunk);
          const state = await Promise.race([done, turnsOfTheLoop()]);
          if (state === "done" && connection.held.length === 0) break;
        }
        for (const [id, blobs] of received)
          assert.deepEqual(
            (await blobs).map((bytes) => Buffer.from(bytes)),
            jobs[Number(id)]!.map((size, index) => Buffer.from(bytesOfSize(size, Number(id) + index))),
          );
        assert.ok(connection.heldBytesMax <= QUEUED_BYTES_MAX + jobs.length * CHUNK_BYTES_MAX);
      }),
      { numRuns: 30 },
    );
  });

  test("a small job does not wait for a large one", async () => {
    const connection = new HeldConnection();
    const sender = new FairSender({ send: connection.send, initialCreditBytes: (100 * 1024 * 1024) / 2 });
    const large = sender.sendBlobs(1n, [{ index: 0, open: () => Buffer.alloc(40 * 1024 * 1024) }], NEVER);
    await turnsOfTheLoop();
    const small = sender.sendBlobs(2n, [{ index: 0, open: () => Buffer.from("small") }], NEVER);
    await turnsOfTheLoop();
    let delivered = 0;
    while (connection.deliver()?.jobId !== 2n) {
      delivered++;
      await turnsOfTheLoop();
    }
    assert.ok(delivered <= QUEUED_BYTES_MAX / CHUNK_BYTES_MAX + 1, `${delivered} chunks came first`);
    await small;
    sender.close(new HpccError("peer.unavailable", "over"));
    await assert.rejects(large, { code: "peer.unavailable" });
  });

  test("jobs take turns chunk by chunk", async () => {
    const connection = new HeldConnection();
    const sender = new FairSender({ send: connection.send, initialCreditBytes: INITIAL_CREDIT_BYTES * 8 });
    const jobs = [1n, 2n, 3n].map((id) =>
      sender.sendBlobs(id, [{ index: 0, open: () => Buffer.alloc(CHUNK_BYTES_MAX * 8) }], NEVER),
    );
    const order: bigint[] = [];
    while (order.length < 24) {
      await turnsOfTheLoop();
      const chunk = connection.deliver();
      if (chunk !== null) order.push(chunk.jobId);
    }
    await Promise.all(jobs);
    for (let at = 3; at + 3 <= 21; at++)
      assert.equal(new Set(order.slice(at, at + 3)).size, 3, `at ${at}: ${order.join()}`);
  });

  test("a cancelled job leaves its turn to others", async () => {
    const connection = new HeldConnection();
    const sender = new FairSender({ send: connection.send, initialCreditBytes: INITIAL_CREDIT_BYTES });
    const cancel = new AbortController();
    const blob = { index: 0, open: () => Buffer.alloc(INITIAL_CREDIT_BYTES) };
    const first = sender.sendBlobs(1n, [blob], NEVER);
    const second = sender.sendBlobs(2n, [blob], cancel.signal);
    const third = sender.sendBlobs(3n, [blob], NEVER);
    await turnsOfTheLoop();
    cancel.abort(new HpccError("job.cancelled", "given up"));
    await assert.rejects(second, { code: "job.cancelled" });
    const done = Promise.all([first, third]).then(() => true);
    while (!(await Promise.race([done, turnsOfTheLoop()]))) connection.deliver();
  });

  test("a sender without credit waits for it, and an absurd one is refused", async () => {
    const connection = new HeldConnection();
    const sender = new FairSender({ send: connection.send, initialCreditBytes: 1000 });
    const sending = sender.sendBlobs(1n, [{ index: 0, open: () => Buffer.alloc(1200) }], NEVER);
    await turnsOfTheLoop();
    assert.deepEqual(
      connection.held.map(({ chunk }) => chunk.data.length),
      [500, 500],
    );
    assert.throws(() => sender.addCredit(1n, 2 ** 31), { code: "peer.protocol" });
    sender.addCredit(9n, 1000);
    sender.addCredit(1n, 200);
    await sending;
    assert.deepEqual(connection.held.map(({ chunk }) => [chunk.data.length, chunk.last]).at(-1), [200, true]);
  });
});

describe("a receiver holds its sender to the contract", () => {
  const receiver = (clock = new ManualClock()) =>
    new BlobReceiver({
      blobs: [
        { index: 3, frameSizeMax: 1000 },
        { index: 5, frameSizeMax: 200_000 },
      ],
      creditBytes: 2000,
      grant: () => {},
      clock,
    });
  const chunk = (blobIndex: number, size: number, last = false) => ({ blobIndex, data: Buffer.alloc(size), last });

  for (const [what, chunks] of Object.entries({
    "another blob": [chunk(0, 10)],
    "a blob before its turn": [chunk(5, 10)],
    "a blob after its last chunk": [chunk(3, 10, true), chunk(3, 10)],
    "an empty chunk": [chunk(3, 0)],
    "a blob above its size": [chunk(3, 600), chunk(3, 600)],
    "more than its credit": [chunk(3, 1000, true), chunk(5, 1001)],
    "a chunk above 128 KiB": [chunk(3, 1, true), chunk(5, CHUNK_BYTES_MAX + 1)],
    "more than is due": [chunk(3, 1, true), chunk(5, 1, true), chunk(5, 1)],
  }))
    test(`refuses ${what}`, () => {
      const target = receiver();
      for (const good of chunks.slice(0, -1)) target.push(good);
      assert.throws(() => target.push(chunks.at(-1)!), { code: "peer.protocol" });
    });

  test("gives up on a silent sender", async () => {
    const clock = new ManualClock();
    const reading = receiver(clock).next().next();
    clock.advance(BLOB_IDLE_TIMEOUT_MS);
    await assert.rejects(reading, { code: "peer.deadline" });
    assert.equal(clock.pendingTimers, 0);
  });

  test("passes on why the job ended", async () => {
    const target = receiver();
    const reading = target.next().next();
    target.fail(new HpccError("job.cancelled", "given up"));
    await assert.rejects(reading, { code: "job.cancelled" });
  });
});

async function readAll(receiver: BlobReceiver, count: number, laziness: number): Promise<Uint8Array[]> {
  const blobs: Uint8Array[] = [];
  for (let i = 0; i < count; i++) {
    const parts: Uint8Array[] = [];
    for await (const part of receiver.next()) {
      parts.push(part);
      for (let turn = 0; turn < laziness; turn++) await turnsOfTheLoop();
    }
    blobs.push(Buffer.concat(parts));
  }
  return blobs;
}

function* cut(bytes: Uint8Array, step: number): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += step) yield bytes.subarray(at, at + step);
}
