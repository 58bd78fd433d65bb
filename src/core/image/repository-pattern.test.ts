import assert from "node:assert/strict";
import { test } from "node:test";
import { matchesRepository, parseRepositoryPattern, patternsOf } from "./repository-pattern.ts";

test("a pattern is for one repository, or for all below a place", () => {
  const cases: readonly [string, string, boolean][] = [
    ["registry.example.com/team/gcc", "registry.example.com/team/gcc", true],
    ["registry.example.com/team/gcc", "registry.example.com/team/gcc2", false],
    ["registry.example.com/team/*", "registry.example.com/team/gcc", true],
    ["registry.example.com/team/*", "registry.example.com/team/a/b", true],
    ["registry.example.com/team/*", "registry.example.com/teams/gcc", false],
    ["registry.example.com/team/*", "registry.example.com/team", false],
    ["registry.example.com/*", "registry.example.com.evil.example/x", false],
  ];
  for (const [pattern, repository, expected] of cases)
    assert.equal(matchesRepository(parseRepositoryPattern(pattern), repository), expected, `${pattern} ${repository}`);
});

test("names of Docker Hub's come out in full, as names of images do; what names no repository is refused", () => {
  for (const [written, full] of [
    ["docker.io/gcc", "docker.io/library/gcc"],
    ["library/gcc", "docker.io/library/gcc"],
    ["index.docker.io/team/*", "docker.io/team/*"],
    ["team/*", "docker.io/team/*"],
    ["docker.io/*", "docker.io/*"],
    ["localhost:5000/*", "localhost:5000/*"],
  ] as const)
    assert.equal(parseRepositoryPattern(written), full);
  for (const text of ["gcc", "registry.example.com/team/gcc:12", "registry.example.com/Team/gcc", "*", "/*"])
    assert.throws(() => parseRepositoryPattern(text), /names no repositories/, text);
});

test("the patterns of a repository are those that match it, and no others", () => {
  const repository = "registry.example.com:5000/a/b/c";
  const patterns = patternsOf(repository);
  assert.deepEqual(patterns, [
    repository,
    "registry.example.com:5000/a/b/*",
    "registry.example.com:5000/a/*",
    "registry.example.com:5000/*",
  ]);
  for (const pattern of patterns) assert.ok(matchesRepository(parseRepositoryPattern(pattern), repository));
});

test("what names a whole registry, or nothing, is no pattern", () => {
  for (const text of ["", "*", "registry.example.com", "a b/c", "/x", "registry.example.com/*/x", "x/../y/*y"])
    assert.throws(() => parseRepositoryPattern(text), { code: "argument.invalid" }, text);
});
