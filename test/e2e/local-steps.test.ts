// Random steps on random projects without an image: after each, calls through hpcc must leave what the compiler itself leaves, also when the
// store, the records, the daemon or the compiler met with trouble. HPCC_TEST_STEPS sets how many, HPCC_TEST_SEED the first seed.
import assert from "node:assert/strict";
import { test } from "node:test";
import { canMount, LocalSteps, TROUBLES, type Trouble } from "../support/local-steps.ts";
import { Dice, FIRST_SETTINGS, RandomProject, type Settings } from "../support/random-project.ts";

const STEPS = Number(process.env["HPCC_TEST_STEPS"] ?? "300");
const SEED = Number(process.env["HPCC_TEST_SEED"] ?? "20261128");
const STEPS_PER_PROJECT = 40;
const TROUBLE_PERCENT = 15;
/** Scripts that run during a call. The delays end about when a compile does. */
const DURING_PERCENT = 15;
const DURING_DELAY_MS_MAX = 80;
const MOUNTS = canMount();
/** A run of so many says how far it is. */
const STEPS_TO_REPORT = 2_000;
/** Differences after which it is pointless to go on. */
const FAILURES_MAX = 5;

interface Made {
  readonly steps: number;
  readonly failure: string | null;
  readonly outcomes: Readonly<Record<string, number>>;
  readonly reasons: Readonly<Record<string, number>>;
}

/** One project's steps, until one shows a difference. */
function runProject(seed: number, count: number): Made {
  const dice = new Dice(seed);
  const project = new RandomProject(dice, { mounts: MOUNTS });
  using steps = new LocalSteps();
  steps.script(project.first());
  let settings: Settings = FIRST_SETTINGS;
  const log: string[] = [];
  let failure: string | null = null;
  const outcomes = new Map<string, number>();
  const reasons = new Map<string, number>();
  const gather = () => {
    const stats = steps.stats();
    for (const [into, from] of [
      [outcomes, stats.outcomes],
      [reasons, stats.reasons],
    ] as const)
      for (const [name, value] of Object.entries(from)) into.set(name, (into.get(name) ?? 0) + value);
  };
  let made = 0;
  for (; made < count && failure === null; made += 1) {
    if (dice.chance(TROUBLE_PERCENT)) {
      const trouble: Trouble = dice.of(TROUBLES);
      // What a daemon counted is gone with it.
      if (trouble === "kill") gather();
      steps.trouble(trouble, dice);
      log.push(`# trouble: ${trouble}`);
    }
    const step = project.step(settings);
    if (dice.chance(DURING_PERCENT)) {
      const [script, delayMs] = [project.atOnce(), dice.below(DURING_DELAY_MS_MAX)];
      steps.during(settings, script, delayMs);
      log.push(`# during a call, after ${delayMs} ms:`, script);
    }
    if (step.kind === "script") {
      steps.script(step.script);
      log.push(step.script);
    } else {
      settings = { ...settings, ...step.change };
      log.push(`# ${JSON.stringify(step.change)}`);
    }
    const what = steps.compare(settings, 1 + dice.below(3));
    if (what.length > 0)
      failure = [`seed ${seed}, call ${JSON.stringify(settings)}`, ...log, "differs:", ...what].join("\n");
  }
  gather();
  return { steps: made, failure, outcomes: Object.fromEntries(outcomes), reasons: Object.fromEntries(reasons) };
}

test(`${STEPS} random steps without an image leave what the compiler leaves`, (t) => {
  const failures: string[] = [];
  const outcomes = new Map<string, number>();
  const reasons = new Map<string, number>();
  for (let seed = SEED, made = 0; made < STEPS && failures.length < FAILURES_MAX; seed += 1) {
    const end = runProject(seed, Math.min(STEPS_PER_PROJECT, STEPS - made));
    made += end.steps;
    if (STEPS >= STEPS_TO_REPORT) process.stderr.write(`${made} of ${STEPS} steps, seed ${seed}\n`);
    if (end.failure !== null) failures.push(end.failure);
    for (const [name, value] of Object.entries(end.outcomes)) outcomes.set(name, (outcomes.get(name) ?? 0) + value);
    for (const [name, value] of Object.entries(end.reasons)) reasons.set(name, (reasons.get(name) ?? 0) + value);
  }
  t.diagnostic(JSON.stringify(Object.fromEntries(outcomes)));
  if (!MOUNTS) t.diagnostic("nothing was mounted over anything: that takes root");
  t.diagnostic(JSON.stringify(Object.fromEntries(reasons)));
  assert.deepEqual(failures, []);
  assert.ok((outcomes.get("local_hit") ?? 0) > STEPS / 10, "calls are answered out of the store");
  assert.ok((outcomes.get("replayed") ?? 0) > STEPS / 10, "launchers answer by themselves");
  assert.ok((outcomes.get("local_compiled") ?? 0) > STEPS / 10, "calls are compiled and kept");
});
