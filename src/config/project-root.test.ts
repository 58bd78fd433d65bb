import assert from "node:assert/strict";
import { test } from "node:test";
import { byteStringOfText } from "../base/byte-string.ts";
import { findProjectRoot } from "./project-root.ts";

function find(folder: string, ...there: string[]): string | null {
  return findProjectRoot(byteStringOfText(folder), (path) => there.includes(path));
}

test("a configuration file wins over a nearer repository, and nearer files over farther ones", () => {
  assert.equal(find("/a/b/c", "/a/hpcc.toml", "/a/b/.git"), "/a");
  assert.equal(find("/a/b/c", "/a/hpcc.toml", "/a/b/hpcc.toml"), "/a/b");
  assert.equal(find("/a/b/c", "/a/.git", "/a/b/.svn"), "/a/b");
  assert.equal(find("/a/b/c", "/a/b/c/.hg"), "/a/b/c");
  assert.equal(find("/a/b/", "/a/b/.git"), "/a/b");
});

test("without a marker there is no project, and the root folder is never one", () => {
  assert.equal(find("/a/b"), null);
  assert.equal(find("/a", "/.git", "/hpcc.toml"), null);
  assert.equal(find("/", "/.git"), null);
});
