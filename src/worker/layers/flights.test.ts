// Single flight: nobody waits for nothing, nothing is made for nobody, and what is made is kept or given back exactly once.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { Flights, type Work } from "./flights.ts";

const NEVER = new AbortController().signal;
const work = (start: Work<number>["start"]): Work<number> => ({ owner: "ann", start });
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

describe("a flight", () => {
  test("is joined also after it has landed, until its first says that it is done", async () => {
    const flights = new Flights<number>(() => assert.fail("somebody waits"));
    let started = 0;
    const start = work(async () => ++started);
    const first = await flights.join("key", NEVER, start);
    assert.deepEqual([first.value, first.first, flights.ownerOf("key")], [1, true, "ann"]);
    const joined = await flights.join("key", NEVER, start);
    assert.deepEqual([joined.value, joined.first], [1, false]);
    first.done();
    assert.equal(flights.size, 0);
    assert.equal((await flights.join("key", NEVER, start)).value, 2);
  });

  test("that fails fails for all who wait, and is begun anew by the next", async () => {
    const flights = new Flights<number>(() => assert.fail("nothing was made"));
    const { promise, reject } = Promise.withResolvers<number>();
    const waiting = [0, 1].map(() =>
      flights.join(
        "key",
        NEVER,
        work(() => promise),
      ),
    );
    reject(new Error("broken"));
    for (const each of await Promise.allSettled(waiting)) assert.equal(each.status, "rejected");
    assert.equal(flights.size, 0);
    assert.equal(
      (
        await flights.join(
          "key",
          NEVER,
          work(async () => 5),
        )
      ).value,
      5,
    );
  });

  test("that nobody waits for is cancelled; what it makes nevertheless is given back", async () => {
    const back: number[] = [];
    const flights = new Flights<number>((value) => back.push(value));
    const made = Promise.withResolvers<number>();
    const leave = new AbortController();
    let cancelled: AbortSignal | null = null;
    const joined = flights.join(
      "key",
      leave.signal,
      work((signal) => {
        cancelled = signal;
        return made.promise;
      }),
    );
    leave.abort(new Error("left"));
    await assert.rejects(joined, /left/);
    assert.equal(cancelled!.aborted, true);
    assert.equal(flights.size, 0);
    made.resolve(3);
    await turn();
    assert.deepEqual(back, [3]);
  });

  test("however they come and go: each value is claimed once or given back once, and none is left", async () => {
    const steps = fc.array(fc.record({ leaves: fc.boolean(), lands: fc.boolean() }), { maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(steps, async (all) => {
        const back: number[] = [];
        const claimed: number[] = [];
        const made: { resolve: (value: number) => void; at: number }[] = [];
        const flights = new Flights<number>((value) => back.push(value));
        const running: Promise<void>[] = [];
        for (const { leaves, lands } of all) {
          const leave = new AbortController();
          running.push(
            flights
              .join(
                "key",
                leave.signal,
                work(() => {
                  const { promise, resolve } = Promise.withResolvers<number>();
                  made.push({ resolve, at: made.length });
                  return promise;
                }),
              )
              .then(({ value, first, done }) => {
                if (!first) return;
                claimed.push(value);
                done();
              })
              .catch(() => undefined),
          );
          if (lands) made.at(-1)?.resolve(made.length - 1);
          if (leaves) leave.abort(new Error("left"));
          if (lands !== leaves) await turn();
        }
        for (const { resolve, at } of made) resolve(at);
        await Promise.all(running);
        await turn();
        assert.equal(flights.size, 0);
        assert.deepEqual(
          [...back, ...claimed].sort((a, b) => a - b),
          made.map(({ at }) => at),
        );
      }),
    );
  });
});
