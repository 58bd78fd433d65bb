// Random steps on random projects: after each, one call through hpcc and one plain compile by the image's compiler must come to the same
// object, words, exit code and dependency file; also when the step is made while the call runs. HPCC_TEST_STEPS sets how many, and
// HPCC_TEST_SEED the first seed; a failure prints its seed and the shortest list of steps that was found to show it.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { HPCC, IMAGE_FOLDER, runCommand } from "../support/farm.ts";
import { QuickFarm } from "../support/quick-farm.ts";
import { Dice, FIRST_SETTINGS, RandomProject, type Settings, type Step } from "../support/random-project.ts";
import { type Paths, StepRunner, settingsAfter } from "../support/step-runner.ts";

const STEPS = Number(process.env["HPCC_TEST_STEPS"] ?? "150");
const SEED = Number(process.env["HPCC_TEST_SEED"] ?? "20261128");
const STEPS_PER_PROJECT = 25;
/** A project whose calls all fail shows little: after so many the next one is drawn. */
const LOCAL_IN_A_ROW = 2;
const REPLAYS_MAX = 60;
/** A step in so many is made while the call runs. */
const DURING_PERCENT = 15;
const DURING_DELAY_MS_MAX = 250;

let farm: QuickFarm;
let image: string;

before(async () => {
  const env = { PATH: process.env["PATH"], HOME: IMAGE_FOLDER, HPCC_IMAGE_DIR: IMAGE_FOLDER };
  const compilers = ["--compiler", "gcc", "--compiler", "clang"];
  const argv = [HPCC, "image", "build", "--from-host", "--tag", "e2e-both", "--quiet", ...compilers];
  const built = await runCommand(argv, { env });
  assert.equal(built.code, 0, built.stderr);
  image = built.stdout.trim();
  farm = await QuickFarm.start({ imageFolder: IMAGE_FOLDER, images: [image] });
});

after(async () => {
  await farm?.close();
});

class Outcomes {
  readonly counts = new Map<string, number>();

  add(outcome: string): void {
    this.counts.set(outcome, (this.counts.get(outcome) ?? 0) + 1);
  }

  of(pattern: RegExp): number {
    return [...this.counts].reduce((sum, [outcome, count]) => (pattern.test(outcome) ? sum + count : sum), 0);
  }
}

interface ProjectEnd {
  readonly made: number;
  /** Null when nothing differed. */
  readonly failure: string | null;
}

/** One project and its steps, until they are done or nothing goes to the worker any more. */
async function runProject(seed: number, count: number, outcomes: Outcomes): Promise<ProjectEnd> {
  const dice = new Dice(seed);
  const project = new RandomProject(dice);
  const paths: Paths = dice.chance(50) ? "own" : "shared";
  const runner = new StepRunner(farm, image, { name: `p${seed}`, paths });
  const first = project.first();
  runner.script(first);
  const steps: Step[] = [];
  for (let local = 0; steps.length < count && local < LOCAL_IN_A_ROW; ) {
    const settings = settingsAfter(FIRST_SETTINGS, steps);
    const during = dice.chance(DURING_PERCENT);
    const step: Step = during ? { kind: "script", script: project.atOnce() } : project.step(settings);
    const delayMs = dice.below(DURING_DELAY_MS_MAX);
    if (step.kind === "script" && !during) runner.script(step.script);
    steps.push(step);
    const end = await (during && step.kind === "script"
      ? runner.compareDuring(settings, step.script, delayMs)
      : runner.compare(settingsAfter(FIRST_SETTINGS, steps)));
    outcomes.add(end.outcome);
    local = end.outcome.startsWith("local") ? local + 1 : 0;
    if (end.what.length === 0) continue;
    const shortest = during ? steps : await shortened(steps, { first, paths, name: `p${seed}` });
    const failure = report({ seed, paths, first, steps: shortest, during, delayMs }, end.what);
    return { made: steps.length, failure };
  }
  return { made: steps.length, failure: null };
}

interface Replay {
  readonly first: string;
  readonly paths: Paths;
  readonly name: string;
}

/** Leaves out steps as long as the last call still differs. */
async function shortened(steps: readonly Step[], replay: Replay): Promise<readonly Step[]> {
  let replays = 0;
  const differs = async (kept: readonly Step[]) => {
    const runner = new StepRunner(farm, image, { name: `${replay.name}-${replays++}`, paths: replay.paths });
    runner.script(replay.first);
    for (const step of kept) if (step.kind === "script") runner.script(step.script);
    return (await runner.compare(settingsAfter(FIRST_SETTINGS, kept))).what.length > 0;
  };
  if (!(await differs(steps))) return steps;
  let kept = steps;
  for (let size = Math.ceil(steps.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2))
    for (let at = 0; at < kept.length; ) {
      if (replays === REPLAYS_MAX) return kept;
      const without = [...kept.slice(0, at), ...kept.slice(at + size)];
      if (await differs(without)) kept = without;
      else at += size;
    }
  return kept;
}

interface Report extends Omit<Replay, "name"> {
  readonly seed: number;
  readonly steps: readonly Step[];
  readonly during: boolean;
  readonly delayMs: number;
}

function report({ seed, paths, first, steps, during, delayMs }: Report, what: readonly string[]): string {
  const settings: Settings = settingsAfter(FIRST_SETTINGS, steps);
  return [
    `seed ${seed}, paths ${paths}${during ? `, the last step ${delayMs} ms into the call` : ""}`,
    `call: ${JSON.stringify(settings)}`,
    "project:",
    first,
    "steps:",
    ...steps.map((step) => (step.kind === "script" ? step.script : `# ${JSON.stringify(step.change)}`)),
    "differs:",
    ...what,
  ].join("\n");
}

test(`${STEPS} random steps leave what plain compiles leave`, async (t) => {
  const outcomes = new Outcomes();
  const failures: string[] = [];
  let made = 0;
  for (let seed = SEED; made < STEPS; seed++) {
    const count = Math.min(STEPS_PER_PROJECT, STEPS - made);
    const end = await runProject(seed, count, outcomes);
    if (end.failure !== null) failures.push(end.failure);
    made += end.made;
  }
  for (const [outcome, count] of outcomes.counts) t.diagnostic(`${count} ${outcome}`);
  assert.deepEqual(failures, []);
  const remote = outcomes.of(/^remote_/);
  assert.ok(remote >= STEPS * 0.8, `only ${remote} of ${STEPS} calls went to the worker`);
  assert.ok(outcomes.of(/^remote_compiled/) > 0 && outcomes.of(/^remote_hit/) > 0);
});
