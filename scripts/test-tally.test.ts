import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import {
  addUp,
  cargoTally,
  closingLines,
  failedTests,
  gateTally,
  judged,
  listedTally,
  NOTHING,
  nodeTally,
} from "./test-tally.ts";

const ROOT = join(import.meta.dirname, "..");

/** Runs node's own test runner on files of these contents. */
function runNode(t: TestContext, files: Readonly<Record<string, string>>, skipAll?: string) {
  const folder = mkdtempSync(join(tmpdir(), "hpcc-tally-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const paths = Object.entries(files).map(([name, content]) => {
    writeFileSync(
      join(folder, name),
      `import assert from "node:assert/strict";\nimport { after, before, describe, it, test } from "node:test";\n${content}`,
    );
    return join(folder, name);
  });
  const hook = skipAll === undefined ? [] : [`--import=${join(ROOT, "test/support/skip-all.ts")}`];
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const run = spawnSync(process.execPath, ["--test", "--test-reporter=spec", ...hook, ...paths], {
    encoding: "utf8",
    env: { ...env, NO_COLOR: "1", ...(skipAll !== undefined && { HPCC_TEST_SKIP_ALL: skipAll }) },
  });
  return { tally: nodeTally(run.stdout), code: run.status, output: run.stdout + run.stderr };
}

describe("node's test runner", () => {
  test("what passed, failed and did not run, with the reasons", (t) => {
    const { tally, code, output } = runNode(t, {
      "a.test.mjs": `
        test("passes", () => {});
        test("fails", () => { assert.deepEqual(["what it says"], []); });
        test("needs more", { skip: "needs root" }, () => {});
        test("finds out", (t) => t.skip("needs root"));
        test.skip("for no reason", () => {});
      `,
    });
    const reasons = { "needs root": 2, "no reason given": 1 };
    assert.deepEqual(tally, { passed: 1, failed: 1, skipped: 3, reasons });
    const [failed = "", ...others] = failedTests(output);
    assert.match(failed, /a\.test\.mjs: fails: .*what it says/);
    assert.doesNotMatch(failed, /\n| at /);
    assert.deepEqual(others, []);
    assert.equal(code, 1);
  });

  test("a suite that is skipped as a whole hides its tests, which is a failure", (t) => {
    const { tally, code } = runNode(t, {
      "a.test.mjs": `
        test("passes", () => {});
        describe("hidden", { skip: "needs root" }, () => { it("a", () => {}); it("b", () => {}); });
      `,
    });
    assert.equal(code, 0, "the runner itself says nothing");
    assert.equal(tally.failed, 1);
  });

  test("a group that does not run counts with all its tests, those of its skipped suites too", (t) => {
    const why = "in the lab alone";
    const { tally, code, output } = runNode(
      t,
      {
        "a.test.mjs": `
          before(() => { throw new Error("a hook ran"); });
          for (const each of [1, 2, 3]) test(\`\${each}\`, { timeout: 5 }, () => { throw new Error("a test ran"); });
          test("skipped anyway", { skip: "needs root" }, () => {});
        `,
        "b.test.mjs": `
          describe("hidden", { skip: "needs root" }, () => {
            after(() => { throw new Error("a hook ran"); });
            it("a", () => {});
            it.skip("b", () => {});
            describe("deeper", () => void it("c", async () => { throw new Error("a test ran"); }));
          });
        `,
      },
      why,
    );
    assert.deepEqual(listedTally(tally, code), { passed: 0, failed: 0, skipped: 7, reasons: { [why]: 7 } }, output);
  });

  test("a file that cannot be loaded is a failure, also where its tests are only counted", (t) => {
    const { tally, code } = runNode(t, { "a.test.mjs": `import "./absent.mjs";` }, "why not");
    assert.ok(listedTally(tally, code).failed >= 1);
  });

  test("a list without a test, or with one that ran, is a failure", () => {
    assert.equal(listedTally(NOTHING, 0).failed, 1);
    assert.equal(listedTally({ ...NOTHING, passed: 2, skipped: 1 }, 0).failed, 2);
    assert.equal(listedTally({ ...NOTHING, skipped: 1 }, 1).failed, 1);
  });
});

describe("cargo's test runner", () => {
  const OUTPUT = `
running 5 tests
.....
successes:

---- twice stdout ----
SKIPPED twice: no user with a home
SKIPPED twice: no user without a home

---- words stdout ----
it says SKIPPED in mid-line

---- once stdout ----
{"event":"keeper.started"}
SKIPPED once: no freezer

successes:
    once
    twice
    words

test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s

running 4 tests
.Fi.
successes:

---- again stdout ----
SKIPPED once: no freezer

successes:
    again

failures:

---- broken stdout ----
SKIPPED a part of it: no freezer
thread 'broken' panicked

failures:
    broken

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s
`;

  test("a test that says it was skipped counts once, as skipped and not as passed", () => {
    const { reasons, ...figures } = cargoTally(OUTPUT);
    assert.deepEqual(figures, { passed: 4, failed: 1, skipped: 4 });
    assert.deepEqual(reasons, {
      "twice: no user with a home": 1,
      "once: no freezer": 2,
      "ignored in the source": 1,
    });
  });

  test("tests that failed are named", () => assert.deepEqual(failedTests(OUTPUT), ["broken"]));

  test("every test is in exactly one of the figures", () => {
    const { passed, failed, skipped } = cargoTally(OUTPUT);
    assert.equal(passed + failed + skipped, 5 + 4);
  });
});

describe("the closing lines", () => {
  test("end with the figures alone; before them each reason has its number", () => {
    const rust = { passed: 4, failed: 0, skipped: 1, reasons: { "no freezer": 1 } };
    const lab = { passed: 0, failed: 0, skipped: 12, reasons: { "in the lab alone": 12 } };
    const gates = gateTally("ok   format (1.0 s)\n11 gates passed, 0 failed\n");
    assert.deepEqual(closingLines(addUp([gates, rust, lab])), [
      "did not run: 12 tests: in the lab alone",
      "did not run: 1 test: no freezer",
      "15 passed, 0 failed, 13 skipped",
    ]);
  });

  test("the same reason of several groups is one line", () => {
    const each = { passed: 0, failed: 0, skipped: 2, reasons: { "needs root": 2 } };
    assert.deepEqual(closingLines(addUp([each, each])), [
      "did not run: 4 tests: needs root",
      "0 passed, 0 failed, 4 skipped",
    ]);
  });
});

describe("a run", () => {
  test("that ended badly without a failure, or ran no test, has failed", () => {
    assert.equal(judged({ ...NOTHING, passed: 3 }, 1).failed, 1);
    assert.equal(judged({ ...NOTHING, passed: 3 }, null).failed, 1);
    assert.equal(judged(NOTHING, 0).failed, 1);
    assert.equal(judged({ ...NOTHING, passed: 3, failed: 2 }, 1).failed, 2);
    assert.equal(judged({ ...NOTHING, passed: 3 }, 0).failed, 0);
    assert.equal(judged({ ...NOTHING, skipped: 3 }, 0).failed, 1);
  });
});
