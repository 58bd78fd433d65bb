import assert from "node:assert/strict";
import { mkdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { HostProject } from "../../../test/support/host-project.ts";
import { calledName } from "./called-name.ts";
import { imageAnswer } from "./local-answer.ts";

test("a compiler here is called as the caller called it, where it takes that for itself", async () => {
  using made = new HostProject();
  const links = join(made.base, "links");
  mkdirSync(links);
  symlinkSync("/bin/true", join(links, "gcc"));
  const { project, compiler } = made;
  const name = (word: string, path: string | null) =>
    calledName(made.call([word], path === null ? [] : [`A=1`, `PATH=${path}`]).message, compiler, project);
  for (const [word, path, expected] of [
    ["gcc", "/usr/bin:/bin", "gcc"],
    ["gcc", "/none:/usr/bin", "gcc"],
    // What the compiler would find first is another program.
    ["gcc", `${links}:/usr/bin`, "/usr/bin/gcc"],
    ["gcc", "/bin:/usr/bin", "/usr/bin/gcc"],
    ["gcc", ":/usr/bin", "/usr/bin/gcc"],
    ["gcc", "links:/usr/bin", "/usr/bin/gcc"],
    ["gcc", "/none", "/usr/bin/gcc"],
    ["gcc", null, "/usr/bin/gcc"],
    ["/usr/bin/gcc", "/usr/bin", "/usr/bin/gcc"],
    ["/opt/gcc", "/usr/bin", "/usr/bin/gcc"],
  ] as const)
    assert.equal(name(word, path), expected, `${word} with ${path}`);
  const call = made.call(["gcc", "-v"], ["PATH=/usr/bin"]);
  const answer = await imageAnswer(call.message, { project, compiler, paths: "own" }, false);
  assert.deepEqual([answer.program, answer.argv], [{ kind: "path", path: "/usr/bin/gcc" }, ["gcc", "-v"]]);
});
