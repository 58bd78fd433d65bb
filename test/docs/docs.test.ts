// What the documents say of the repository is true: relative links lead somewhere, files that are named in code spans are there,
// each decision is in the index, and no number was given twice.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";

const ROOT = join(import.meta.dirname, "../..");
const DOCUMENTS_MIN = 40;
const LINKS_MIN = 40;
const NAMED_FILES_MIN = 60;

/** Every document of the checkout, those that are not committed yet included. */
function documents(): string[] {
  const listed = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard", "*.md"], { cwd: ROOT });
  return listed
    .toString("utf8")
    .split("\n")
    .filter((path) => path !== "" && existsSync(join(ROOT, path)));
}

const read = (path: string) => readFileSync(join(ROOT, path), "utf8");

/** Text without fenced blocks, whose brackets are no links. */
function prose(path: string): string {
  return read(path).replace(/^```.*?^```/gms, "");
}

/** The anchor that a heading gets. */
function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, "")
    .replaceAll(" ", "-");
}

describe("documents", () => {
  test("relative links lead to files and headings that are there", () => {
    const paths = documents();
    assert.ok(paths.length >= DOCUMENTS_MIN, `${paths.length} documents`);
    const broken: string[] = [];
    let links = 0;
    for (const path of paths)
      for (const [, target = ""] of prose(path).matchAll(/\]\(([^)\s]+)\)/g)) {
        if (/^[a-z]+:/.test(target)) continue;
        links += 1;
        const [file = "", anchor] = target.split("#");
        const found = file === "" ? path : join(dirname(path), file);
        if (!existsSync(join(ROOT, found))) broken.push(`${path}: ${target}`);
        else if (anchor !== undefined) {
          const anchors = [...prose(found).matchAll(/^#+ (.*)$/gm)].map((match) => anchorOf(match[1]!));
          if (!anchors.includes(anchor)) broken.push(`${path}: ${target}, no such heading`);
        }
      }
    assert.deepEqual(broken, []);
    assert.ok(links >= LINKS_MIN, `${links} links`);
  });

  test("files that are named in code spans are there", () => {
    const missing: string[] = [];
    let named = 0;
    for (const path of documents())
      for (const [, name = ""] of prose(path).matchAll(
        /`((?:src|test|native|scripts|proto|docs|bench)\/[A-Za-z0-9_./-]+)`/g,
      )) {
        named += 1;
        if (!existsSync(join(ROOT, name))) missing.push(`${path}: ${name}`);
      }
    assert.deepEqual(missing, []);
    assert.ok(named >= NAMED_FILES_MIN, `${named} files named`);
  });

  test("each decision has a number of its own and a line in the index with its title", () => {
    const decisions = readdirSync(join(ROOT, "docs/adr")).filter((name) => /^\d{4}-.*\.md$/.test(name));
    assert.ok(decisions.length >= 20, `${decisions.length} decisions`);
    const numbers = decisions.map((name) => name.slice(0, 4));
    assert.deepEqual(
      numbers.filter((number, index) => numbers.indexOf(number) !== index),
      [],
      "numbers given twice",
    );
    const expected = decisions.sort().map((name) => {
      const [, number, title] = /^# (\d{4}): (.*)$/m.exec(read(join("docs/adr", name))) ?? [];
      assert.equal(number, name.slice(0, 4), `${name} begins with its number`);
      return `* [${number}](${name}) ${title}`;
    });
    const listed = read("docs/adr/README.md")
      .split("\n")
      .filter((line) => line.startsWith("* "));
    assert.deepEqual(listed, expected);
  });

  test("builds that do not trust each other have users of their own wherever certificates for them are issued", () => {
    const users = documents().flatMap((path) =>
      [...read(path).matchAll(/--user (ci[a-z0-9-]*)/g)].map((match) => match[1]!),
    );
    assert.equal(new Set(users).size, users.length, `one user for two kinds of build: ${users.join(", ")}`);
    assert.ok(users.includes("ci-release") && users.includes("ci-pull-request"), users.join(", "));
    const guides = ["client.md", "ca.md", "worker.md"].map((name) => read(join("docs/operations", name)));
    for (const guide of [...guides, read("docs/threat-model.md")]) assert.match(guide, /pull request/);
  });
});
