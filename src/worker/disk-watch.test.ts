// A disk that fills up and is emptied: who is told when, and that a worker at the edge does not go to and fro.
import assert from "node:assert/strict";
import { tmpdir } from "node:os";
import { test } from "node:test";
import { ManualClock } from "../base/clock.ts";
import { SILENT_LOGGER } from "../base/log.ts";
import { type DiskMarks, DiskWatch, diskStatus, diskStatusOf, WATCH_MS } from "./disk-watch.ts";

const GIB = 1024 ** 3;
const AUTO: DiskMarks = { lowBytes: null, hardBytes: null };
const room = (freeBytes: number, totalBytes = 1000 * GIB) => ({ freeBytes, totalBytes });

test("marks are bounds, or shares of a small file system, and a full disk needs clearly more room to be good again", () => {
  const state = (free: number, marks = AUTO, total = 1000 * GIB, was: "ok" | "full" = "ok") =>
    diskStatus("/x", room(free, total), marks, was).state;
  assert.deepEqual([state(11 * GIB), state(9 * GIB), state(0.9 * GIB)], ["ok", "low", "full"]);
  assert.deepEqual([state(0.9 * GIB, AUTO, 8 * GIB), state(0.7 * GIB, AUTO, 8 * GIB)], ["ok", "low"]);
  assert.equal(state(0.1 * GIB, AUTO, 8 * GIB), "full");
  const set = { lowBytes: 50 * GIB, hardBytes: 5 * GIB };
  assert.deepEqual([state(51 * GIB, set), state(49 * GIB, set), state(4 * GIB, set)], ["ok", "low", "full"]);
  assert.deepEqual([state(6 * GIB, set, 1000 * GIB, "full"), state(7 * GIB, set, 1000 * GIB, "full")], ["full", "low"]);
  // A low mark below the hard one is the hard one.
  assert.equal(state(4 * GIB, { lowBytes: 1, hardBytes: 5 * GIB }), "full");
});

test("the worst folder counts, and a real one can be asked", async () => {
  const roomOf = async (folder: string) => room(folder === "/store" ? 2 * GIB : 500 * GIB);
  assert.equal((await diskStatusOf(["/audit", "/store"], AUTO, { roomOf })).folder, "/store");
  const real = await diskStatusOf([tmpdir()], AUTO);
  assert.ok(real.totalBytes > 0 && real.freeBytes <= real.totalBytes);
});

test("a change is said once, a low disk again each hour, and who sends jobs hears of full and of not full", async () => {
  const clock = new ManualClock();
  const said: string[] = [];
  const told: boolean[] = [];
  const note = (event: string) => void said.push(event.replace("worker.disk.", ""));
  const logger = { ...SILENT_LOGGER, info: note, warn: note, error: note };
  let free = 100 * GIB;
  const roomOf = async () => (free < 0 ? Promise.reject(new Error("EIO")) : room(free));
  const watch = new DiskWatch({ folders: ["/audit"], marks: AUTO, clock, logger, roomOf });
  watch.follow((full) => told.push(full));
  const look = async (bytes: number, times = 1) => {
    free = bytes;
    for (let time = 0; time < times; time++) {
      clock.advance(WATCH_MS);
      for (let turn = 0; turn < 8; turn++) await new Promise((resolve) => setImmediate(resolve));
    }
  };
  await look(100 * GIB);
  assert.deepEqual([said, told, watch.status?.state], [[], [], "ok"]);
  await look(9 * GIB, 3);
  await look(0.5 * GIB, 2);
  assert.deepEqual([said, told, watch.status?.state], [["low", "full"], [true], "full"]);
  const late: boolean[] = [];
  watch.follow((full) => late.push(full));
  await look(-1);
  await look(1.1 * GIB);
  assert.deepEqual([said.splice(0), late], [["low", "full", "unknown"], [true]]);
  await look(5 * GIB);
  await look(50 * GIB);
  assert.deepEqual(
    [said.splice(0), late],
    [
      ["low", "recovered"],
      [true, false],
    ],
  );
  await look(9 * GIB, 400);
  assert.deepEqual(said, ["low", "low"]);
  await watch.close();
});
