// Results of workers that launchers replay: what the replay rests on is held as with a local compile.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { stats } from "../../src/cli/stats.ts";
import { HPCC, IMAGE_FOLDER, runCommand } from "../support/farm.ts";
import { QuickFarm } from "../support/quick-farm.ts";

/** Until one of them is replayed: the record is written some time after the answer. */
const CALLS_MAX = 50;
const RECORDED_MS = 100;

let farm: QuickFarm;
let root: string;

before(async () => {
  const env = { PATH: process.env["PATH"], HOME: IMAGE_FOLDER, HPCC_IMAGE_DIR: IMAGE_FOLDER };
  const built = await runCommand([HPCC, "image", "build", "--from-host", "--tag", "e2e", "--quiet"], { env });
  assert.equal(built.code, 0, built.stderr);
  const image = built.stdout.trim();
  farm = await QuickFarm.start({ imageFolder: IMAGE_FOLDER, images: [image], local: true });
  root = join(farm.folder, "project");
  mkdirSync(join(root, "inc"), { recursive: true });
  writeFileSync(join(root, "hpcc.toml"), `image = "${image}"\n`);
  writeFileSync(join(root, "a.c"), "#if __has_include(<late.h>)\n#include <late.h>\n#endif\nint a;\n");
});

after(async () => {
  await farm?.close();
});

const ARGV = ["gcc", "-Iinc", "-Wmissing-include-dirs", "-c", "a.c", "-o", "a.o"];

/** What a call did, beside its words and its object. */
async function outcome(): Promise<string> {
  const all = (await stats(farm.directories, true))["outcomes"] as Record<string, number>;
  return Object.keys(all)
    .filter((name) => all[name]! > 0)
    .join();
}

async function compile(argv: readonly string[] = ARGV) {
  const ran = await runCommand([HPCC, ...argv], { cwd: root, env: farm.env });
  return { code: ran.code, stderr: ran.stderr, outcome: await outcome(), object: readFileSync(join(root, "a.o")) };
}

/** Calls until the launcher answers alone; gives the outcomes before. */
async function replayed(argv: readonly string[] = ARGV): Promise<string[]> {
  const seen: string[] = [];
  while (seen.at(-1) !== "replayed" && seen.length < CALLS_MAX) {
    const ran = await compile(argv);
    assert.deepEqual([ran.code, ran.stderr], [0, ""]);
    seen.push(ran.outcome);
    await setTimeout(RECORDED_MS);
  }
  assert.equal(seen.at(-1), "replayed", seen.join(" "));
  return seen;
}

async function plain() {
  const ran = await runCommand(ARGV, { cwd: root });
  return { code: ran.code, stderr: ran.stderr };
}

test("a worker's result is replayed until a file that was sought in vain appears", async () => {
  assert.equal((await replayed())[0], "remote_compiled");
  writeFileSync(join(root, "inc/late.h"), "int late;\n");
  const ran = await compile();
  assert.deepEqual([ran.code, ran.outcome], [0, "remote_compiled"]);
  assert.ok(ran.object.includes("late"));
  rmSync(join(root, "inc/late.h"));
  await replayed();
});

test("a folder of the include path that vanishes is missed, where a warning asks for it", async () => {
  await replayed();
  rmSync(join(root, "inc"), { recursive: true });
  const expected = await plain();
  assert.match(expected.stderr, /inc: No such file or directory/);
  const { code, stderr, outcome: came } = await compile();
  assert.deepEqual({ code, stderr }, expected);
  assert.equal(came, "remote_compiled");
});

test("a folder of the include path that appears is seen, also when the launcher had said that it is missing", async () => {
  for (let calls = 0; calls < CALLS_MAX && (await compile()).outcome !== "replayed"; calls++)
    await setTimeout(RECORDED_MS);
  assert.equal((await compile()).outcome, "replayed");
  mkdirSync(join(root, "inc"));
  const { code, stderr } = await compile();
  assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
});

/** Compiles that a change of the project makes other ones. */
const CHANGES: Readonly<
  Record<
    string,
    {
      files: Readonly<Record<string, string>>;
      words?: readonly string[];
      link: readonly [string, string];
      change: () => void;
    }
  >
> = {
  "a header appears beside the link by which another one is included": {
    files: {
      "linked/x.c": '#include "links/k.h"\nint MARK;\n',
      "linked/real/k.h": '#if __has_include("opt.h")\n#define MARK second\n#else\n#define MARK first\n#endif\n',
      "linked/links/other.h": "",
    },
    link: ["../real/k.h", "linked/links/k.h"],
    change: () => writeFileSync(join(root, "linked/links/opt.h"), ""),
  },
  "a folder that was searched under two names is two": {
    files: {
      "twice/x.c": "#include <k.h>\nint MARK;\n",
      "twice/a/k.h": "#include_next <k.h>\n",
      "twice/b/k.h": "#define MARK second\n",
      "twice/c/k.h": "#define MARK first\n",
    },
    words: ["-Itwice/a", "-Itwice/link", "-Itwice/c"],
    link: ["a", "twice/link"],
    change: () => {
      rmSync(join(root, "twice/link"));
      symlinkSync("b", join(root, "twice/link"));
    },
  },
};

for (const [what, { files, words = [], link, change }] of Object.entries(CHANGES))
  test(`${what}, and the launcher leaves the worker's result`, async () => {
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(dirname(join(root, name)), { recursive: true });
      writeFileSync(join(root, name), text);
    }
    symlinkSync(link[0], join(root, link[1]));
    const argv = ["gcc", ...words, "-c", `${dirname(Object.keys(files)[0]!)}/x.c`, "-o", "a.o"];
    await setTimeout(RECORDED_MS);
    await replayed(argv);
    assert.ok((await compile(argv)).object.includes("first"));
    change();
    const ran = await compile(argv);
    assert.deepEqual([ran.code, ran.outcome], [0, "remote_compiled"]);
    assert.ok(ran.object.includes("second"));
  });
