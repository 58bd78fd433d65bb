import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import { corpusCases } from "../corpus/cases.ts";
import { runCase, verdict } from "./corpus-run.ts";
import { Sandbox } from "./sandbox.ts";

/** Of the cases that come to the same, every so many are tried, or all with HPCC_TEST_TEXT_FORM=all; the form is no default any more. */
const EVERY = process.env["HPCC_TEST_TEXT_FORM"] === "all" ? 1 : 3;
/** All but those that a client judges before there is a first step. */
const cases = corpusCases()
  .filter(({ text }) => text !== "could_not_use_precompiled_header")
  .filter(({ text }, index) => text !== "equal" || index % EVERY === 0);
/** Cases in which the text form does not come to what one step does. */
const DIFFERENT_MIN = 3;

describe("two steps come to what one step does, or to a counted reason", () => {
  const client = new Sandbox();
  const guest = new Sandbox();
  const counts = { equal: 0, different: 0, refused: 0 };
  after(() => {
    client[Symbol.dispose]();
    guest[Symbol.dispose]();
  });

  for (const entry of cases)
    it(entry.name, () => {
      const compared = runCase(entry, client, guest);
      const came = verdict(compared);
      const words =
        compared.kind === "different"
          ? `\n--- one step\n${compared.oneStep.stderr.toString()}\n--- two steps\n${compared.twoStep.stderr.toString()}`
          : compared.kind === "refused"
            ? `: ${compared.detail}`
            : "";
      assert.equal(came, entry.text, `${came}${words}`);
      const outcome = compared.kind === "equal" ? compared.outcome : compared.oneStep;
      assert.equal(outcome.stderr.length > 0, entry.speaks, "the compiler speaks");
      counts[came === "equal" ? "equal" : compared.kind === "different" ? "different" : "refused"] += 1;
    });

  it("saw enough of both compilers, and refused few", () => {
    for (const family of ["gcc", "clang"]) {
      const own = cases.filter((entry) => entry.family === family && !entry.variant);
      assert.ok(own.length >= 40, `${own.length} sources for ${family}`);
    }
    assert.ok(counts.equal >= 300 / EVERY, `${counts.equal} equal`);
    assert.ok(counts.different >= DIFFERENT_MIN, `${counts.different} different`);
    assert.equal(counts.equal + counts.different + counts.refused, cases.length);
  });
});
