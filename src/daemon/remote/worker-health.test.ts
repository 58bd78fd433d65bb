import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "../../base/clock.ts";
import { WorkerHealth } from "./worker-health.ts";

const W = "spiffe://test.example/worker/w1 127.0.0.1:1";
const UNFIT_MS = 15_000;

function fixture(random = () => 0) {
  const clock = new ManualClock();
  const health = new WorkerHealth({ clock, random });
  /** Time until a probe may begin, in steps of 100 ms; the probe is begun. */
  const pauseMs = () => {
    const startMs = clock.monotonicMs();
    while (!health.beginProbe(W)) clock.advance(100);
    return clock.monotonicMs() - startMs;
  };
  return { clock, health, pauseMs };
}

test("a worker that answers probes and no jobs is asked ever more rarely, until it answers a job", () => {
  const { health, pauseMs } = fixture();
  const pauses = [1, 2, 3].map(() => {
    health.fellSilent(W);
    const pause = pauseMs();
    assert.equal(health.usable(W), false, "while it is probed");
    health.probed(W, true);
    assert.equal(health.usable(W), true);
    return pause;
  });
  assert.deepEqual(pauses, [500, 1_000, 2_000]);
  health.answered(W);
  health.fellSilent(W);
  assert.equal(pauseMs(), 500);
});

test("one silence that many calls learn of counts once, and one of them probes", () => {
  const { health, pauseMs } = fixture();
  for (let call = 0; call < 64; call += 1) health.fellSilent(W);
  assert.equal(pauseMs(), 500);
  health.fellSilent(W);
  assert.equal(health.beginProbe(W), false);
});

test("pauses are spread by what was injected", () => {
  const { health, pauseMs } = fixture(() => 0.999);
  health.fellSilent(W);
  assert.equal(pauseMs(), 1_000);
});

test("a worker with a fault of its own is left alone for its time, whatever its closed stream says", () => {
  const { clock, health } = fixture();
  health.isUnfit(W);
  health.fellSilent(W);
  health.answered(W);
  clock.advance(UNFIT_MS - 1);
  assert.deepEqual([health.usable(W), health.beginProbe(W)], [false, false]);
  clock.advance(1);
  assert.equal(health.usable(W), true);
});
