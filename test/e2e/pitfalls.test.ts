// What has gone wrong in compiler caches: each call is made through hpcc, as a miss and as a hit, and by the image's own compiler, and
// must leave the same files, words and exit code. The worker's guests are sandboxes here: this is about the client, not the VM.
import assert from "node:assert/strict";
import { mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import {
  DEPENDENCIES,
  K_MACRO,
  MAPS,
  type More,
  MUTATIONS,
  ONE_STEP,
  OUTPUTS,
  type Row,
  SEARCH,
  SIMPLE,
  TEXTS,
  WORDS,
} from "../corpus/pitfall-rows.ts";
import { Differential, outcomeOf, quickStats } from "../support/differential.ts";
import { HPCC, IMAGE_FOLDER, runCommand } from "../support/farm.ts";
import { QuickFarm } from "../support/quick-farm.ts";

/** Of results that a checkout at another place may share, at least. */
const MOVED_HITS_SHARE_MIN = 0.8;

let farm: QuickFarm;
let differential: Differential;
/** The same project as a checkout at another place. */
let elsewhere: Differential;
/** Outcomes there of calls that a worker had compiled. */
const moves: string[] = [];
let image: string;

before(async () => {
  const env = { PATH: process.env["PATH"], HOME: IMAGE_FOLDER, HPCC_IMAGE_DIR: IMAGE_FOLDER };
  const compilers = ["--compiler", "gcc", "--compiler", "clang"];
  const argv = [HPCC, "image", "build", "--from-host", "--tag", "e2e-both", "--quiet", ...compilers];
  const built = await runCommand(argv, { env });
  assert.equal(built.code, 0, built.stderr);
  image = built.stdout.trim();
  farm = await QuickFarm.start({ imageFolder: IMAGE_FOLDER, images: [image] });
  differential = new Differential(farm, image, "project");
  elsewhere = new Differential(farm, image, "elsewhere/moved");
});

after(async () => {
  await farm?.close();
  const hits = moves.filter((outcome) => outcome === "remote_hit");
  assert.ok(
    hits.length >= moves.length * MOVED_HITS_SHARE_MIN,
    `${hits.length} of ${moves.length}: ${moves.join(", ")}`,
  );
});

function expectedOutcome({ expect, mutate }: More): RegExp {
  if (expect !== undefined) return new RegExp(`^local: ${expect}$`);
  return mutate === undefined ? /^remote_compiled/ : /^remote_/;
}

function run(title: string, rows: readonly Row[]): void {
  describe(title, () => {
    for (const [name, words, files = SIMPLE, more = {}] of rows)
      for (const compiler of ["gcc", "clang"] as const) {
        if (more.only !== undefined && more.only !== compiler) continue;
        const own = typeof words === "string" ? words.split(" ") : words;
        const scenario = { ...more, name: `${compiler} ${name}`, argv: [compiler, ...own], files };
        test(scenario.name, async () => {
          const { mutate } = more;
          const compared = await (mutate === undefined
            ? differential.compare(scenario)
            : differential.compareAfter(scenario, mutate));
          assert.deepEqual(compared.what, []);
          assert.match(compared.outcomes[0], expectedOutcome(more));
          if (mutate !== undefined) return;
          const moved = await elsewhere.compareMoved(scenario, compared);
          assert.deepEqual(moved.what, []);
          if (compared.outcomes[1] === "remote_hit") moves.push(moved.outcome);
        });
      }
  });
}

run("outputs", OUTPUTS);
run("dependency files", DEPENDENCIES);
run("words and surroundings", WORDS);
run("texts", TEXTS);
run("one step", ONE_STEP);
run("prefix maps of the caller", MAPS);
run("inputs that change between two calls", MUTATIONS);

test("a project that is another folder now is compiled from that one", async () => {
  const name = "replaced";
  const root = join(farm.folder, name);
  for (const compiler of ["gcc", "clang"]) {
    rmSync(root, { recursive: true, force: true });
    const first = new Differential(farm, image, name);
    const scenario = { name: `${compiler} old`, argv: [compiler, "-c", "a.c", "-Iinc"], files: SEARCH };
    const include = { ...SEARCH, "inc/k.h": "#define K 1\n" };
    await first.compare({ ...scenario, files: include });
    renameSync(root, `${root}-${compiler}`);
    const second = new Differential(farm, image, name);
    const changed = { ...include, "inc/k.h": "#define K 2\n", "opt.h": "int opt;\n" };
    const compared = await second.compare({ ...scenario, name: `${compiler} new`, files: changed });
    assert.deepEqual(compared.what, []);
    assert.equal(compared.outcomes[0], "remote_compiled");
  }
});

test("a compiler named by a path of the caller's own is that program, not the image's of its name", async () => {
  const wrapper = '#!/bin/sh\nexec /usr/bin/gcc -DK=3 "$@"\n';
  const files = { ...K_MACRO, "tools/gcc": wrapper };
  const scenario = { name: "own program", argv: ["./tools/gcc", "-c", "a.c"], files, prepare: "chmod +x tools/gcc" };
  const compared = await differential.compare(scenario);
  assert.deepEqual(compared.outcomes, ["local: own_program", "local: own_program"]);
  assert.deepEqual(compared.what, []);
});

test("a fifo of the project holds nobody up", async () => {
  const root = join(farm.folder, "fifo");
  mkdirSync(root);
  writeFileSync(join(root, "hpcc.toml"), `image = "${image}"\n`);
  writeFileSync(join(root, "a.c"), "int a;\n");
  await runCommand(["mkfifo", join(root, "args")]);
  const env = { ...farm.env };
  const waiting = new AbortController();
  const blocked = runCommand([HPCC, "clang", "@args"], { cwd: root, env, signal: waiting.signal });
  const other = await runCommand([HPCC, "gcc", "-c", "a.c"], { cwd: root, env, timeoutMs: 60_000 });
  assert.equal(other.code, 0, other.stderr);
  waiting.abort();
  await blocked;
});

test("under the policy strict a date fails the compile, wherever it runs", async () => {
  const root = join(farm.folder, "strict");
  mkdirSync(root);
  writeFileSync(join(root, "hpcc.toml"), `image = "${image}"\n`);
  writeFileSync(join(root, "a.c"), "const char*d=__DATE__;\n");
  for (const compiler of ["gcc", "clang"]) {
    const call = (policy: string) =>
      runCommand([HPCC, compiler, "-c", "a.c"], { cwd: root, env: { ...farm.env, HPCC_DETERMINISM: policy } });
    const strict = await call("strict");
    assert.equal(strict.code, 1);
    assert.match(strict.stderr, /-W(?:error=|error,-W)date-time/);
    assert.equal((await call("default")).code, 0);
  }
});

test("in the text form no spelling of a date is compiled in a guest, not even under -w", async () => {
  const root = join(farm.folder, "dated");
  mkdirSync(root);
  writeFileSync(join(root, "hpcc.toml"), `image = "${image}"\n`);
  const spliced = "const char *t = __TI\\\nME__;\n";
  const pasted =
    "#define J(a, b) a##b\n#define K(a, b) J(a, b)\nconst char *t = K(K(_, _TI), K(M, E__));\nint f(void);\n";
  for (const [text, words] of [
    [spliced, []],
    [pasted, []],
    ["const char *t = K(U, ME__);\n", ["-DJ(a,b)=a##b", "-DK(a,b)=J(a,b)", "-DU=__TI"]],
  ] as const)
    for (const compiler of ["gcc", "clang"]) {
      writeFileSync(join(root, "a.c"), text);
      await quickStats(farm);
      const argv = [HPCC, compiler, "-w", ...words, "-c", "a.c"];
      const ended = await runCommand(argv, { cwd: root, env: { ...farm.env, HPCC_SOURCE_FORM: "text" } });
      assert.deepEqual([ended.code, ended.stderr], [0, ""]);
      assert.equal(outcomeOf(await quickStats(farm)), "local: date_time_macro", `${compiler} ${text}`);
    }
});
