import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ManualClock } from "../../base/clock.ts";
import type { LogFields, Logger } from "../../base/log.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { sha256 } from "../../core/digest/digest.ts";
import { GoldenShelf } from "./golden-shelf.ts";

const A = sha256(Buffer.from("a"));
const B = sha256(Buffer.from("b"));
const C = sha256(Buffer.from("c"));

function setUp(limits = { goldensMax: 2, maxAgeMs: 10_000, restoresMax: 3 }, dropsLate = false) {
  const clock = new ManualClock();
  const dropped: string[] = [];
  const events: string[] = [];
  const logger: Logger = {
    ...SILENT_LOGGER,
    info: (event: string, _fields?: LogFields) => events.push(event),
    warn: (event: string, _fields?: LogFields) => events.push(event),
  };
  const shelf = new GoldenShelf({
    limits,
    clock,
    logger,
    drop: async (snapshot) => {
      if (dropsLate) await new Promise((resolve) => setImmediate(resolve));
      dropped.push(snapshot);
    },
  });
  return { shelf, clock, dropped, events };
}

describe("the shelf of golden snapshots", () => {
  it("makes one golden per binding however many ask at once", async () => {
    const { shelf, dropped } = setUp();
    let made = 0;
    const gate = Promise.withResolvers<void>();
    const make = async () => {
      made += 1;
      await gate.promise;
      return "golden-a";
    };
    const asked = [shelf.ensure(A, make), shelf.ensure(A, make), shelf.ensure(A, make)];
    assert.equal(shelf.take(A), null, "nobody waits for it who does not want to");
    gate.resolve();
    await Promise.all(asked);
    await shelf.ensure(A, make);
    assert.equal(made, 1);
    assert.equal(shelf.take(A)?.snapshot, "golden-a");
    assert.equal(shelf.take(B), null, "another binding has none");
    assert.deepEqual(dropped, []);
  });

  it("makes goldens of different bindings one after the other", async () => {
    const { shelf } = setUp();
    let running = 0;
    let most = 0;
    const make = (name: string) => async () => {
      running += 1;
      most = Math.max(most, running);
      await Promise.resolve();
      running -= 1;
      return name;
    };
    await Promise.all([shelf.ensure(A, make("a")), shelf.ensure(B, make("b"))]);
    assert.equal(most, 1);
    assert.equal(shelf.size, 2);
  });

  it("replaces a golden that is old or has been restored often", async () => {
    const { shelf, clock, dropped, events } = setUp();
    await shelf.ensure(A, async () => "first");
    for (let restore = 0; restore < 3; restore += 1) shelf.take(A)?.release();
    assert.equal(shelf.has(A), false);
    assert.equal(shelf.take(A), null);
    assert.deepEqual(dropped, ["first"]);
    await shelf.ensure(A, async () => "second");
    clock.advance(9_999);
    shelf.take(A)?.release();
    clock.advance(1);
    assert.equal(shelf.take(A), null);
    assert.deepEqual(dropped, ["first", "second"]);
    assert.deepEqual(events, ["vm.golden.made", "vm.golden.rotated", "vm.golden.made", "vm.golden.rotated"]);
  });

  it("does not use a golden again whose restore failed, and drops it when no restore of it runs", async () => {
    const { shelf, dropped } = setUp();
    await shelf.ensure(A, async () => "bad");
    const [first, second] = [shelf.take(A), shelf.take(A)];
    first?.failed();
    first?.failed();
    assert.equal(shelf.take(A), null);
    assert.deepEqual(dropped, [], "the other restore still reads it");
    second?.release();
    assert.deepEqual(dropped, ["bad"]);
  });

  it("keeps a successor when a restore of the former fails late", async () => {
    const { shelf, dropped } = setUp();
    await shelf.ensure(A, async () => "first");
    const late = shelf.take(A);
    shelf.take(A)?.failed();
    await shelf.ensure(A, async () => "second");
    late?.failed();
    assert.deepEqual(dropped, ["first"]);
    assert.equal(shelf.take(A)?.snapshot, "second");
  });

  it("drops the golden that was used least recently when there are too many", async () => {
    const { shelf, dropped } = setUp();
    await shelf.ensure(A, async () => "a");
    await shelf.ensure(B, async () => "b");
    shelf.take(A)?.release();
    await shelf.ensure(C, async () => "c");
    assert.deepEqual(dropped, ["b"]);
    assert.equal(shelf.size, 2);
  });

  it("makes none where there may be none", async () => {
    const { shelf } = setUp({ goldensMax: 0, maxAgeMs: 10_000, restoresMax: 3 });
    await shelf.ensure(A, async () => assert.fail("none may be made"));
    assert.equal(shelf.take(A), null);
  });

  it("waits longer after each failure before it tries again", async () => {
    const { shelf, clock, events } = setUp();
    let tries = 0;
    const fail = async (): Promise<string> => {
      tries += 1;
      throw new Error("no space");
    };
    await shelf.ensure(A, fail);
    await shelf.ensure(A, fail);
    assert.equal(tries, 1);
    clock.advance(30_000);
    await shelf.ensure(A, fail);
    clock.advance(30_000);
    await shelf.ensure(A, fail);
    assert.equal(tries, 2);
    clock.advance(30_000);
    await shelf.ensure(A, async () => "at last");
    assert.equal(shelf.take(A)?.snapshot, "at last");
    assert.deepEqual(events, ["vm.golden.failed", "vm.golden.failed", "vm.golden.made"]);
  });

  it("gives up and has dropped everything when it is closed", async () => {
    const { shelf, dropped } = setUp(undefined, true);
    await shelf.ensure(A, async () => "a");
    const making = shelf.ensure(
      B,
      (signal) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener("abort", () => reject(signal.reason as Error));
        }),
    );
    const waiting = shelf.ensure(C, async () => assert.fail("closed before its turn"));
    await shelf.close();
    await Promise.all([making, waiting]);
    assert.deepEqual(dropped, ["a"]);
    await shelf.ensure(A, async () => assert.fail("closed"));
    assert.equal(shelf.size, 0);
  });

  it("drops a golden that was made while it closed", async () => {
    const { shelf, dropped } = setUp(undefined, true);
    const begun = Promise.withResolvers<void>();
    const gate = Promise.withResolvers<void>();
    const making = shelf.ensure(A, async () => {
      begun.resolve();
      await gate.promise;
      return "late";
    });
    await begun.promise;
    const closing = shelf.close();
    gate.resolve();
    await Promise.all([making, closing]);
    assert.deepEqual(dropped, ["late"]);
  });
});
