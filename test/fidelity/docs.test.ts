import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { corpusCases } from "../corpus/cases.ts";

const page = readFileSync(new URL("../../docs/fidelity.md", import.meta.url), "utf8");
const isDifferent = (text: string): boolean => text === "listed" || text === "object";
const folders = (name: string): string => name.split(" ")[0] ?? "";

describe("docs/fidelity.md", () => {
  const quoted = new Set([...page.matchAll(/`([^`\n]+)`/g)].map((match) => match[1]!));
  const named = new Set([...quoted].map(folders));

  it("names every case that is not equal, and the reason", () => {
    const unequal = corpusCases().filter(({ text }) => text !== "equal");
    assert.ok(unequal.length >= 60, `only ${unequal.length}`);
    for (const entry of unequal) {
      if (!entry.variant) assert.ok(named.has(folders(entry.name)), entry.name);
      if (!isDifferent(entry.text)) assert.ok(quoted.has(entry.text), entry.text);
    }
  });

  it("lists as different exactly the cases that are", () => {
    const section = /## Compiled remotely, and different\n(.*?)\n## /s.exec(page)?.[1] ?? "";
    const rows = [...section.matchAll(/\| `([a-z0-9-]+)` \|$/gm)].map((match) => match[1]!);
    const listed = corpusCases().filter(({ text }) => isDifferent(text));
    assert.ok(listed.length > 0);
    assert.deepEqual(rows.sort(), [...new Set(listed.map(({ name }) => folders(name)))].sort());
  });
});
