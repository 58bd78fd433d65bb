// docs/operations/policy.md: its example is a policy without warnings, and its commands do what it says.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Command } from "commander";
import { addPolicy } from "../../src/cli/policy-command.ts";

const PAGE = readFileSync(join(import.meta.dirname, "../../docs/operations/policy.md"), "utf8");
const blocks = (language: string) =>
  [...PAGE.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\``, "gms"))].map((match) => match[1]!);

describe("the page about policies", () => {
  let folder = "";
  const example = blocks("toml")[0]!;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "hpcc-docs-policy-"));
    writeFileSync(join(folder, "hpcc-policy.toml"), example);
    writeFileSync(
      join(folder, "new-policy.toml"),
      example.replace("version = 1 ", "version = 2 ").replace("jobs = 32", "jobs = 16"),
    );
  });
  after(() => rmSync(folder, { recursive: true }));

  /** Runs one line of the page in the folder of its files. */
  async function run(line: string): Promise<{ out: string; code: number }> {
    let [out, code] = ["", 0];
    const program = new Command("hpcc").exitOverride();
    const words = line.split(" ").map((word) => (word.endsWith(".toml") ? join(folder, word) : word));
    addPolicy(program, { out: (text) => (out += text), error: (text) => (out += text) }, (given) => {
      code = given;
    });
    assert.equal(words.shift(), "hpcc");
    await program.parseAsync(words, { from: "user" });
    return { out, code };
  }

  test("has commands that run", async () => {
    const lines = blocks("sh")
      .flatMap((block) => block.trim().split("\n"))
      .filter((line) => line.startsWith("hpcc policy"));
    assert.equal(lines.length, 3);
    const [whole, one, changes] = await Promise.all(lines.map(run));
    assert.deepEqual([whole!.code, one!.code, changes!.code], [0, 0, 0]);
    assert.equal(whole!.out.match(/^acme, tier /gm)?.length, 4);
    assert.doesNotMatch(whole!.out, /warning/);
    assert.match(one!.out, /^acme, tier protected$/m);
    assert.match(one!.out, /served_by +protected, release/);
    assert.doesNotMatch(one!.out, /tier laptop/);
    assert.match(changes!.out, /acme, tier pull-request: tier.jobs: 32 -> 16/);
  });
});
