// `hpcc explain` and `hpcc stats --why` over real builds: a daemon that launchers start, a header that 300 files read, and each thing that makes
// a compiler run again. The daemon is restarted or gone where that must make no difference.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { HPCC, IMAGE_FOLDER, runCommand } from "../support/farm.ts";
import { QuickFarm } from "../support/quick-farm.ts";

const FILES = 300;
/** Until one of them is replayed. */
const CALLS_MAX = 50;
/** What was changed just now could change again and look the same: results of it are not kept. */
const SETTLED_MS = 30;

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

describe("why it was compiled again", () => {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), "hpcc-why-")));
  const root = join(folder, "project");
  const environment = {
    PATH: "/usr/bin:/bin",
    HOME: folder,
    LANG: "C.UTF-8",
    HPCC,
    HPCC_RUNTIME_DIR: join(folder, "run"),
    HPCC_STATE_DIR: join(folder, "state"),
    HPCC_CACHE_DIR: join(folder, "cache"),
  };

  async function sh(script: string): Promise<Ended> {
    const child = spawn("sh", ["-ec", script], { cwd: root, env: environment, stdio: ["ignore", "pipe", "pipe"] });
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (bytes) => (stdout += bytes));
    child.stderr.on("data", (bytes) => (stderr += bytes));
    const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
    return { code, stdout, stderr };
  }

  /** Changes files, and waits until the file system's clock has moved on. */
  async function edit(script: string): Promise<void> {
    assert.equal((await sh(script)).code, 0, script);
    const probe = join(folder, "probe");
    const time = () => {
      writeFileSync(probe, "x");
      return statSync(probe).ctimeMs;
    };
    for (const start = time(); time() < start + SETTLED_MS; ) await new Promise(setImmediate);
  }

  async function compile(command: string): Promise<void> {
    const { code, stderr } = await sh(command);
    assert.equal(code, 0, `${command}: ${stderr}`);
  }

  async function explained(file: string): Promise<string[]> {
    const { code, stdout, stderr } = await sh(`"$HPCC" explain ${file} --json`);
    assert.equal(code, 0, stderr);
    const found = JSON.parse(stdout) as { causes: { text: string }[] };
    return found.causes.map(({ text }) => text);
  }

  before(async () => {
    mkdirSync(join(root, ".git"), { recursive: true });
    for (const name of ["src", "include", "include/first"]) mkdirSync(join(root, name));
    writeFileSync(join(root, "include/config.h"), "#define VALUE 1\n");
    writeFileSync(join(root, "include/app.h"), '#include "config.h"\n');
    for (let index = 0; index < FILES; index += 1)
      writeFileSync(join(root, `src/f${index}.c`), `#include "app.h"\nint f${index}(void) { return VALUE; }\n`);
    await edit("true");
  });
  after(async () => {
    await sh('"$HPCC" daemon stop');
    rmSync(folder, { recursive: true, force: true });
  });

  const BUILD = `seq 0 ${FILES - 1} | xargs -P2 -I@ "$HPCC" gcc -O1 -Iinclude -c src/f@.c -o f@.o`;

  test("a header's edit explains the whole build, by its name and the way to it", async () => {
    await compile(BUILD);
    const first = await sh('"$HPCC" explain --last-build');
    assert.match(first.stdout, new RegExp(`^ {2}${FILES} of ${FILES}: first time`, "m"));
    await edit('echo "#define VALUE 2" > include/config.h; echo "int more;" >> src/f1.c');
    await compile(BUILD);
    const { stdout, code } = await sh('"$HPCC" explain --last-build');
    assert.equal(code, 0);
    assert.match(stdout, new RegExp(`^last build: ${FILES} calls `));
    assert.match(stdout, new RegExp(`^ {2}${FILES} of ${FILES}: include/config\\.h changed$`, "m"));
    assert.match(stdout, /^ +such as src\/f\d+\.c includes include\/app\.h includes include\/config\.h$/m);
    assert.deepEqual(await explained("src/f1.c"), ["src/f1.c changed", "include/config.h changed"]);
    assert.deepEqual(await explained("f2.o"), ["include/config.h changed"]);
  });

  test("each kind of cause, with the daemon restarted before each call and gone when it is asked", async () => {
    const words = "-O1 -Iinclude/first -Iinclude -c src/f0.c -o one.o";
    const gcc = `"$HPCC" gcc ${words}`;
    const flags = `"$HPCC" gcc -DNEW ${words.replace("-O1", "-O2")}`;
    for (const [what, change, command, expected] of [
      ["first", "true", gcc, ["first time: no earlier call for this output is known"]],
      ["flags", "true", flags, ["flag added: -DNEW", "flag changed: -O1 -> -O2"]],
      [
        "flags back, which is a hit and changes nothing of the last compile",
        "true",
        gcc,
        ["flag added: -DNEW", "flag changed: -O1 -> -O2"],
      ],
      ["evicted", '"$HPCC" clean > clean.log', gcc, ["evicted: the result was kept AGO, and is gone"]],
      [
        "a header in front",
        'echo "#define VALUE 3" > include/first/app.h',
        gcc,
        [
          "include/first/app.h is there now, and was not",
          "include/app.h is no longer read",
          "include/config.h is no longer read",
        ],
      ],
      ["a variable", "true", `CPATH=include ${gcc}`, ["variable CPATH is set now: include"]],
      ["a date", 'echo "char d[] = __DATE__;" >> src/f0.c', gcc, ["not kept: date_time_macro", "src/f0.c changed"]],
      ["a failure", 'echo "wrong" >> src/f0.c', `${gcc} 2> words || true`, ["not kept: compile_failed"]],
    ] as const) {
      await edit(change);
      await compile(command);
      await compile('"$HPCC" daemon stop');
      const causes = (await explained("one.o")).map((text) => text.replace(/ [\d.]+ s ago/, " AGO"));
      // What is known of a call that could not be kept depends on how far it came; a hit may be a replay that nobody knows any more.
      const isOpen = what === "a date" || what === "a failure" || what === "evicted";
      const told = isOpen ? causes.slice(0, expected.length) : causes;
      if (what === "a date") assert.ok(told[0] === expected[0], `${what}: ${causes.join("; ")}`);
      else assert.deepEqual(told.toSorted(), [...expected].toSorted(), what);
    }
  });

  test("another folder and another compiler", async () => {
    await compile(
      '"$HPCC" gcc -Iinclude -c src/f5.c -o "$PWD/five.o"; cd src; "$HPCC" gcc -I../include -c f5.c -o ../five.o',
    );
    const folders = await explained("five.o");
    assert.ok(folders.includes("working folder changed: . -> src"), folders.join());
    assert.ok(folders.includes("flag added: -I../include"), folders.join());
    await compile('cd src; "$HPCC" clang -I../include -c f5.c -o ../five.o');
    assert.match((await explained("five.o")).join(), /^compiler changed: \/usr\/bin\/clang, .* of its files more/);
  });

  test("a call that a launcher answered alone is the last call, and changes nothing of why it was compiled", async () => {
    await edit("true");
    const command = '"$HPCC" gcc -DREPLAYED -Iinclude -c src/f6.c -o six.o';
    let found = { last_call: { outcome: "" }, last_compile: { outcome: "" } };
    // The record is written some time after the answer.
    for (let times = 0; times < CALLS_MAX && found.last_call.outcome !== "replayed"; times += 1) {
      await compile(command);
      found = JSON.parse((await sh('"$HPCC" explain six.o --json')).stdout);
    }
    assert.equal(found.last_call.outcome, "replayed");
    assert.equal(found.last_compile.outcome, "local_compiled");
    assert.deepEqual(await explained("six.o"), ["first time: no earlier call for this output is known"]);
    const { stdout } = await sh('"$HPCC" stats --project .');
    assert.match(stdout, /^ {2}replayed by the launcher +[1-9]/m);
  });

  test("stats say why calls were not kept, and what to do", async () => {
    await compile('"$HPCC" gcc -Iinclude -c src/f7.c -o seven.o; "$HPCC" gcc -E -Iinclude src/f7.c > seven.i');
    const { stdout } = await sh('"$HPCC" stats --why --project .');
    assert.match(stdout, /^project +\/.*\/project$/m);
    assert.match(stdout, /^ {2}called_for_preprocessing: 1\n.*\n(?: {6}such as .*\n)* {6}-> Nothing to do/m);
    assert.match(stdout, /^ {2}date_time_macro: 1\n(?: {6}.*\n)* {6}-> Keep the date in one small source/m);
    assert.match((await sh('"$HPCC" stats')).stdout, /^local store +[\d.]+ [KM]iB of 5\.0 GiB +\d+ results/m);
  });
});

describe("why it was compiled again by a worker", () => {
  let farm: QuickFarm;
  let env: Readonly<Record<string, string>>;
  let image = "";
  before(async () => {
    const imageEnv = { PATH: process.env["PATH"], HOME: IMAGE_FOLDER, HPCC_IMAGE_DIR: IMAGE_FOLDER };
    const built = await runCommand([HPCC, "image", "build", "--from-host", "--tag", "e2e", "--quiet"], {
      env: imageEnv,
    });
    assert.equal(built.code, 0, built.stderr);
    image = built.stdout.trim();
    farm = await QuickFarm.start({ imageFolder: IMAGE_FOLDER, images: [image] });
    // A daemon that the launcher starts, so that it keeps a history as an installed one does.
    env = await farm.addAccount("eve");
  });
  after(async () => {
    if (env !== undefined) await runCommand([HPCC, "daemon", "stop"], { env });
    await farm?.close();
  });

  test("first time, a header, a flag, and a date that stays here; the daemon is gone when it is asked", async () => {
    const root = join(farm.folder, "remote");
    mkdirSync(join(root, "inc"), { recursive: true });
    writeFileSync(join(root, "hpcc.toml"), `image = "${image}"\n`);
    const compile = async (flag: string, config: string, source: string) => {
      writeFileSync(join(root, "inc/config.h"), config);
      writeFileSync(join(root, "inc/app.h"), '#include "config.h"\n');
      writeFileSync(join(root, "a.c"), `#include <app.h>\n${source}`);
      const ran = await runCommand([HPCC, "gcc", flag, "-Iinc", "-c", "a.c"], { cwd: root, env });
      assert.equal(ran.code, 0, ran.stderr);
      assert.equal((await runCommand([HPCC, "daemon", "stop"], { env })).code, 0);
      const { code, stdout, stderr } = await runCommand([HPCC, "explain", "a.o", "--json"], { cwd: root, env });
      assert.equal(code, 0, stderr);
      const { last_compile, causes } = JSON.parse(stdout) as {
        last_compile: { outcome: string };
        causes: { text: string; include_chain: string[] | null }[];
      };
      return [last_compile.outcome, ...causes.map(({ text, include_chain }) => [text, include_chain?.length ?? null])];
    };
    const first = "first time: no earlier call for this output is known";
    assert.deepEqual(await compile("-O1", "int c;\n", "int a;\n"), ["remote_compiled", [first, null]]);
    const changed = await compile("-O1", "int c, d;\n", "int a;\n");
    assert.deepEqual(changed, ["remote_compiled", ["inc/config.h changed", 3]]);
    const flag = await compile("-O2", "int c, d;\n", "int a;\n");
    assert.deepEqual(flag, ["remote_compiled", ["flag changed: -O1 -> -O2", null]]);
    const [outcome, cause] = await compile("-O2", "int c, d;\n", "char a[] = __DATE__;\n");
    assert.deepEqual([outcome, cause], ["local", ["not kept: date_time_macro", null]]);
  });
});
