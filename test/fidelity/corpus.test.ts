import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import { corpusCases } from "../corpus/cases.ts";
import { runCase, verdict } from "./corpus-run.ts";
import { Sandbox } from "./sandbox.ts";

const cases = corpusCases();

describe("two steps come to what one step does, or to a counted reason", () => {
  const client = new Sandbox();
  const guest = new Sandbox();
  const counts = { equal: 0, listed: 0, refused: 0 };
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
      assert.equal(came, entry.expected, `${came}${words}`);
      const outcome = compared.kind === "equal" ? compared.outcome : compared.oneStep;
      assert.equal(outcome.stderr.length > 0, entry.speaks, "the compiler speaks");
      counts[came === "equal" || came === "listed" ? came : "refused"] += 1;
    });

  it("saw enough of both compilers, and refused few", () => {
    for (const family of ["gcc", "clang"]) {
      const own = cases.filter((entry) => entry.family === family && !entry.variant);
      assert.ok(own.length >= 80, `${own.length} sources for ${family}`);
    }
    assert.ok(counts.equal >= 300, `${counts.equal} equal`);
    assert.equal(counts.listed, 1);
    assert.equal(counts.equal + counts.listed + counts.refused, cases.length);
  });
});
