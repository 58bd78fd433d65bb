// Calls that a worker answers without a list of files made by the compiler, with the installed launcher: after an edit that changes no
// directive, and not after one that does. Every object is the plain compiler's.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { askDaemon } from "../../src/cli/daemon-control.ts";
import { Farm, HPCC, IMAGE_FOLDER, runCommand, until } from "../support/farm.ts";
import { QuickFarm } from "../support/quick-farm.ts";

let farm: QuickFarm;
let project: string;

before(async () => {
  const maker = new Farm();
  await maker.init();
  const { digest } = await maker.image("e2e");
  await maker.close();
  farm = await QuickFarm.start({ imageFolder: IMAGE_FOLDER, images: [digest], fallback: "none" });
  project = join(farm.folder, "project");
  mkdirSync(project);
  write("hpcc.toml", `image = "${digest}"\npaths = "own"\n`);
});

after(async () => {
  await farm?.close();
});

function write(name: string, text: string): void {
  const path = join(project, name);
  mkdirSync(join(path, ".."), { recursive: true });
  writeFileSync(path, text);
}

interface Called {
  readonly hit: boolean;
  readonly kept: boolean;
}

/** Compiles with hpcc and without, holds the two against each other, and tells what became of the call. */
async function compile(): Promise<Called> {
  // What just changed is listed anew, or waited for.
  for (const name of ["a.c", "lib/x.h"])
    await until("the file has settled", () => Date.now() - statSync(join(project, name)).ctimeMs > 60);
  await askDaemon(farm.directories, { command: "stats", zero: true });
  const argv = ["gcc", "-O1", "-c", "a.c", "-Ifirst", "-Ilib", "-MD", "-o"];
  const ours = await runCommand([HPCC, ...argv, "a.o"], { cwd: project, env: farm.env });
  assert.equal(ours.code, 0, ours.stderr);
  const mine = [readFileSync(join(project, "a.o")), readFileSync(join(project, "a.d"), "utf8")];
  for (const name of ["a.o", "a.d"]) rmSync(join(project, name));
  const plain = await runCommand([...argv, "a.o"], { cwd: project, env: farm.env });
  assert.equal(plain.code, 0, plain.stderr);
  assert.deepEqual(mine, [readFileSync(join(project, "a.o")), readFileSync(join(project, "a.d"), "utf8")]);
  const stats = (await askDaemon(farm.directories, { command: "stats", zero: false })) as {
    outcomes: Record<string, number>;
    lists_kept: number;
  };
  assert.equal(
    (stats.outcomes["remote_hit"] ?? 0) + (stats.outcomes["remote_compiled"] ?? 0),
    1,
    JSON.stringify(stats),
  );
  return { hit: stats.outcomes["remote_hit"] === 1, kept: stats.lists_kept === 1 };
}

const MADE: Called = { hit: false, kept: false };
const KEPT: Called = { hit: false, kept: true };

test("a call's list is kept while it would be the same, and its object is the plain one", async () => {
  write("a.c", '#include "x.h"\n#include <stdio.h>\nint f(void) { return X + puts("a"); }\n');
  write("lib/x.h", "#define X 1\n");
  assert.deepEqual(await compile(), MADE);
  assert.deepEqual(await compile(), { hit: true, kept: true }, "nothing changed");
  write("a.c", '#include "x.h"\n#include <stdio.h>\nint f(void) { return X + puts("b"); }\n');
  assert.deepEqual(await compile(), KEPT, "code changed");
  write("lib/x.h", "#define X 1\nstatic inline int g(void) { return 3; }\n");
  assert.deepEqual(await compile(), KEPT, "code of a header changed");
  write("lib/x.h", "#define X 2\nstatic inline int g(void) { return 3; }\n");
  assert.deepEqual(await compile(), MADE, "a directive changed");
  write("first/x.h", "#define X 3\n");
  assert.deepEqual(await compile(), MADE, "another header answers");
  rmSync(join(project, "first/x.h"));
  symlinkSync("../lib/y.h", join(project, "first/x.h"));
  write("lib/y.h", "#define X 4\n");
  assert.deepEqual(await compile(), MADE, "a link answers");
  rmSync(join(project, "first/x.h"));
  symlinkSync("../lib/z.h", join(project, "first/x.h"));
  write("lib/z.h", "#define X 5\n");
  assert.deepEqual(await compile(), MADE, "the link leads elsewhere");
  assert.deepEqual(await compile(), { hit: true, kept: true });
});
