import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { BYPASS_REASONS } from "./bypass-reasons.ts";

describe("docs/bypass-reasons.md", () => {
  it("has one row for each reason of the closed list, in its order, with its explanation", () => {
    const text = readFileSync(new URL("../../../docs/bypass-reasons.md", import.meta.url), "utf8");
    const rows = [...text.matchAll(/^\| `([a-z_]+)` \| (.*) \|$/gm)].map((match) => [match[1], match[2]]);
    assert.ok(rows.length >= 40, `only ${rows.length} rows`);
    assert.deepEqual(rows, Object.entries(BYPASS_REASONS));
  });
});

describe("the closed list", () => {
  it("holds no reason that nothing gives", () => {
    const source = new URL("../../", import.meta.url);
    const names = readdirSync(source, { recursive: true, encoding: "utf8" }).filter(
      (name) => /^(?:core|daemon)\/.*\.ts$/.test(name) && !/\.test\.ts$|bypass-reasons/.test(name),
    );
    assert.ok(names.length >= 60, `only ${names.length} files`);
    const text = names.map((name) => readFileSync(new URL(name, source), "utf8")).join("\n");
    assert.deepEqual(
      Object.keys(BYPASS_REASONS).filter((reason) => !text.includes(`"${reason}"`)),
      [],
    );
  });
});
