// The calls with which compiler caches have gone wrong, with an image bound and no worker asked: as a miss, as a hit, and as the image's own
// compiler makes them. All leave the same files, words and exit code, or hpcc says that it keeps nothing.
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import {
  DEPENDENCIES,
  MAPS,
  MUTATIONS,
  ONE_STEP,
  OUTPUTS,
  type Row,
  SIMPLE,
  TEXTS,
  WORDS,
} from "../corpus/pitfall-rows.ts";
import { Differential } from "../support/differential.ts";
import { HPCC, IMAGE_FOLDER, runCommand } from "../support/farm.ts";
import { QuickFarm } from "../support/quick-farm.ts";

const GROUPS: Readonly<Record<string, readonly Row[]>> = {
  outputs: OUTPUTS,
  "dependency files": DEPENDENCIES,
  "words and surroundings": WORDS,
  texts: TEXTS,
  "one step": ONE_STEP,
  "prefix maps of the caller": MAPS,
  "inputs that change between two calls": MUTATIONS,
};
/** Rows of which nothing is kept, at most: a table that all leave as they are shows nothing. */
const LEFT_SHARE_MAX = 0.4;

describe("pitfalls in an image, without a worker", () => {
  let farm: QuickFarm;
  let differential: Differential;
  /** The same project as a checkout at another place. */
  let elsewhere: Differential;
  const outcomes: string[] = [];

  before(async () => {
    const env = { PATH: process.env["PATH"], HOME: IMAGE_FOLDER, HPCC_IMAGE_DIR: IMAGE_FOLDER };
    const compilers = ["--compiler", "gcc", "--compiler", "clang"];
    const argv = [HPCC, "image", "build", "--from-host", "--tag", "e2e-both", "--quiet", ...compilers];
    const built = await runCommand(argv, { env });
    assert.equal(built.code, 0, built.stderr);
    const image = built.stdout.trim();
    farm = await QuickFarm.start({ imageFolder: IMAGE_FOLDER, images: [image], remote: false, local: true });
    // At its own path, so that the plain side has no flag of hpcc's.
    differential = new Differential(farm, image, "project", "own");
    elsewhere = new Differential(farm, image, "elsewhere/moved", "own");
  });
  after(async () => {
    await farm?.close();
    const left = outcomes.filter((outcome) => outcome !== "local_compiled");
    assert.ok(
      left.length <= outcomes.length * LEFT_SHARE_MAX,
      `${left.length} of ${outcomes.length}: ${left.join(", ")}`,
    );
  });

  for (const [group, rows] of Object.entries(GROUPS))
    for (const [name, words, files = SIMPLE, more = {}] of rows)
      for (const compiler of ["gcc", "clang"] as const) {
        if (more.only !== undefined && more.only !== compiler) continue;
        const called = typeof words === "string" ? words.split(" ") : words;
        // GCC draws a number for these, and makes no two alike.
        const own = /-flto|coverage/.test(called.join(" ")) ? [...called, "-frandom-seed=1"] : called;
        const scenario = { ...more, name: `${compiler} ${name}`, argv: [compiler, ...own], files };
        it(`${group}: ${scenario.name}`, async () => {
          const compared = await differential.compare(scenario);
          assert.deepEqual(compared.what, []);
          const [first, second] = compared.outcomes;
          outcomes.push(first);
          if (first === "local_compiled") assert.equal(second, "local_hit");
          else assert.match(first, /^local: [a-z_]+$/);
          assert.deepEqual((await elsewhere.compareMoved(scenario, compared)).what, []);
          if (more.mutate === undefined) return;
          assert.deepEqual((await differential.compareAfter(scenario, more.mutate)).what, []);
        });
      }
});
