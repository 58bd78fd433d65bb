import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { deadReferences, repositoryFiles } from "./references.ts";

const files = repositoryFiles(["README.md", "docs/specs/key.md", "docs/operations/ca.md", "src/base/clock.ts"]);
const ABSENT = ["PLAN", "md"].join(".");

function found(text: string, path = "docs/operations/ca.md"): number {
  return deadReferences(path, text, files).length;
}

describe("references", () => {
  const dead: Readonly<Record<string, string>> = {
    "a document that is not there": `as ${ABSENT} section 4 says`,
    "one beside it": `see ../notes/${ABSENT}`,
    "a source that is not there": ["see src/base/cl", "ock.rs"].join(""),
    "words about a tracker": ["what the", "issue allows"].join(" "),
    "a tracker's number": ["see issue", "#12"].join(" "),
    "a plan's number": ["the row (claim", "C9)"].join(" "),
  };
  for (const [name, text] of Object.entries(dead)) test(`${name} is found`, () => assert.equal(found(text), 1, text));

  const alive: Readonly<Record<string, string>> = {
    "a path from the root": "docs/specs/key.md and src/base/clock.ts",
    "a path from its own folder": "[key](../specs/key.md#scope)",
    "a name alone": "README.md says what key.md means",
    "a web address": `https://example.com/${ABSENT}`,
    "a pattern": "every docs/*.md",
    "the command that makes certificates": "`hpcc ca issue --dir ca` issues one",
    "a sentence's end": "It is in docs/specs/key.md.",
  };
  for (const [name, text] of Object.entries(alive)) test(`${name} is none`, () => assert.equal(found(text), 0, text));

  test("each is told with its line", () => {
    const [line] = deadReferences("README.md", `\n// ${ABSENT}\n`, files);
    assert.equal(line, `README.md:2: ${ABSENT} is not in the repository`);
  });
});
