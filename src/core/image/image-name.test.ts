import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { HpccError } from "../../base/errors.ts";
import { formatImageName, parseImageName, repositoryOf } from "./image-name.ts";

const DIGEST = `sha256:${"0a".repeat(32)}`;

test("names are read as Docker reads them", () => {
  const rows = {
    gcc: "docker.io/library/gcc:latest",
    "gcc:12": "docker.io/library/gcc:12",
    "team/gcc:12": "docker.io/team/gcc:12",
    "index.docker.io/library/gcc": "docker.io/library/gcc:latest",
    "localhost/gcc": "localhost/gcc:latest",
    "localhost:5000/a/b__c.d-e:1": "localhost:5000/a/b__c.d-e:1",
    "[::1]:5000/gcc": "[::1]:5000/gcc:latest",
    [`registry.example.com/team/gcc@${DIGEST}`]: `registry.example.com/team/gcc@${DIGEST}`,
    [`registry.example.com/team/gcc:12@${DIGEST}`]: `registry.example.com/team/gcc:12@${DIGEST}`,
  };
  for (const [text, full] of Object.entries(rows)) assert.equal(formatImageName(parseImageName(text)), full);
  assert.equal(repositoryOf(parseImageName("registry.example.com/team/gcc:12")), "registry.example.com/team/gcc");
});

test("what is no name is refused", () => {
  const wrong = [
    "",
    "/",
    "a//b",
    "Upper/case",
    "-x",
    "a:",
    "a:b:c/d",
    "example.com/",
    "example.com/../etc",
    "exa mple.com/x",
    "evil.com:99999999/x",
    "a@sha256:12",
    `a@${DIGEST}@${DIGEST}`,
    "https://example.com/x",
    "example.com/x?y",
    "a\n",
    `example.com/${"a".repeat(300)}`,
  ];
  for (const text of wrong)
    assert.throws(
      () => parseImageName(text),
      (error) => error instanceof HpccError && error.code === "argument.invalid",
      text,
    );
});

test("a name that is written is read as the same, and any text is a name or refused", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary-ascii", maxLength: 80 }), (text) => {
      try {
        const name = parseImageName(text);
        assert.deepEqual(parseImageName(formatImageName(name)), name);
      } catch (error) {
        assert.ok(error instanceof HpccError && error.code === "argument.invalid");
      }
    }),
  );
});
