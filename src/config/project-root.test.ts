import assert from "node:assert/strict";
import { test } from "node:test";
import { byteStringOfText } from "../base/byte-string.ts";
import { parseDigest } from "../core/digest/digest.ts";
import { bindingProject, findProjectRoot } from "./project-root.ts";

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

test("a project is bound to the outermost one around it that takes it in and has an image", () => {
  const digest = parseDigest(`sha256:${"0".repeat(64)}`, "image");
  const bound = { kind: "allowed", digest, name: null } as const;
  const bind = (root: string, projects: Readonly<Record<string, "own" | "outer" | "no image" | "unreadable">>) =>
    bindingProject(
      byteStringOfText(root),
      (path) => Object.keys(projects).some((project) => path === `${project}/hpcc.toml`),
      (project) => {
        const what = projects[project];
        if (what === undefined || what === "unreadable") return null;
        if (what === "no image") return { nestedProjects: "outer", image: { kind: "none" } };
        return { nestedProjects: what, image: bound };
      },
    );
  assert.equal(bind("/a/b", { "/a": "outer", "/a/b": "own" }), "/a");
  assert.equal(bind("/a/b/c", { "/a": "outer", "/a/b": "own", "/a/b/c": "own" }), "/a");
  assert.equal(bind("/a/b/c", { "/a": "outer", "/a/b": "outer", "/a/b/c": "own" }), "/a");
  assert.equal(bind("/a/b/c", { "/a": "own", "/a/b": "outer", "/a/b/c": "own" }), "/a/b");
  for (const around of ["own", "no image", "unreadable"] as const)
    assert.equal(bind("/a/b", { "/a": around, "/a/b": "outer" }), "/a/b", around);
  assert.equal(bind("/a/b", { "/a": "outer" }), "/a/b", "one without a configuration of its own is not asked for here");
});
