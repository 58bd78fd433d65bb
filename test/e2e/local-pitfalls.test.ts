// The calls with which compiler caches have gone wrong, without an image: plainly, as a miss, as a hit, once more in the same place (which the
// launcher may replay), and in a checkout at another place. All leave the same files, words and exit code, or hpcc says that it keeps nothing.
import assert from "node:assert/strict";
import { join } from "node:path";
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
import { LocalUser } from "../support/local-user.ts";

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

describe("pitfalls without an image", () => {
  let user: LocalUser;
  const outcomes: string[] = [];

  before(async () => {
    user = await LocalUser.start();
  });
  after(async () => {
    await user.close();
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
          user.root = join(user.folder, "checkout");
          const plain = await user.plain(scenario);
          const miss = await user.step("miss", scenario, plain);
          outcomes.push(miss.outcome);
          const hit = await user.step("hit", scenario, plain);
          // What was there before the first call is not there before the second; nor is a source that an output has replaced.
          const isKept = miss.outcome === "local_compiled";
          const again = isKept && more.prepare === undefined ? await user.again("again", scenario, plain) : hit;
          user.root = join(user.folder, "elsewhere", "moved");
          const moved = await user.step("moved", scenario, await user.plain(scenario));
          const what = [...miss.what, ...hit.what, ...again.what, ...moved.what];
          assert.deepEqual(what, []);
          if (!isKept) assert.match(miss.outcome, /^host: [a-z_]+$/);
          else assert.deepEqual([hit.outcome, /^(?:local_hit|replayed)$/.test(again.outcome)], ["local_hit", true]);
          if (more.mutate === undefined) return;
          const changed = await user.plain(scenario, more.mutate);
          await user.step("before", scenario, await user.plain(scenario));
          await user.script(more.mutate, scenario);
          assert.deepEqual((await user.again("changed", scenario, changed)).what, []);
        });
      }
});
