// Two processes that compile, one that edits, one that evicts and one that kills the daemon, all at random: each object must hold a version of the
// header that stood there during its call, no call may fail, and nothing may be left over. HPCC_TEST_CHAOS_SECONDS sets for how long.
import assert from "node:assert/strict";
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { HPCC, runCommand } from "../support/farm.ts";
import { Dice } from "../support/random-project.ts";

const SWEEP_MS_MAX = 10_000;
const SECONDS = Number(process.env["HPCC_TEST_CHAOS_SECONDS"] ?? "15");
const SEED = Number(process.env["HPCC_TEST_SEED"] ?? "20261128");
const WIDTH = 8;

const folder = realpathSync(mkdtempSync(join(tmpdir(), "hpcc-chaos-")));
const project = join(folder, "project");
const home = join(folder, "home");
const env = {
  PATH: "/usr/bin:/bin",
  HOME: home,
  LC_ALL: "C.UTF-8",
  HPCC_RUNTIME_DIR: join(home, "run"),
  HPCC_STATE_DIR: join(home, "state"),
  HPCC_CACHE_DIR: join(home, "cache"),
};

after(async () => {
  await runCommand([HPCC, "daemon", "stop"], { env });
  rmSync(folder, { recursive: true, force: true });
});

/** The newest version that was begun to be written, and the newest that was written for sure. */
let begun = 0;
let written = 0;

const header = join(project, "version.h");
const textOf = (version: number) => `#define VERSION "version-${String(version).padStart(WIDTH, "0")}"\n`;

/** In place with the same size, or by a new file. */
function edit(dice: Dice): void {
  // Now and then an older one comes back: what was compiled before is the answer again.
  begun = written = dice.chance(30) && written > 3 ? written : written + 1;
  if (dice.chance(50)) {
    const file = openSync(header, "r+");
    writeSync(file, textOf(begun), 0);
    closeSync(file);
  } else {
    writeFileSync(join(project, "new.tmp"), textOf(begun));
    renameSync(join(project, "new.tmp"), header);
  }
}

async function until(deadlineMs: number, turn: () => Promise<void>): Promise<void> {
  while (performance.now() < deadlineMs) await turn();
}

const pause = (ms: number) => new Promise<void>((resolve) => void setTimeout(resolve, ms));

function removeSome(dice: Dice): void {
  const files = readdirSync(env.HPCC_CACHE_DIR, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
  for (let left = dice.below(6); left > 0 && files.length > 0; left -= 1) rmSync(dice.of(files), { force: true });
}

interface Compiled {
  calls: number;
  readonly wrong: string[];
}

/** Compiles again and again; one output is the other process's, too. */
async function compile(name: string, dice: Dice, into: Compiled): Promise<void> {
  const output = dice.chance(15) ? "shared.o" : `${name}.o`;
  const source = dice.of(["a.c", "b.c"]);
  const from = written;
  const ran = await runCommand([HPCC, "gcc", "-c", "-g", "-MD", "-O1", source, "-o", output], { env, cwd: project });
  const upTo = begun;
  into.calls += 1;
  if (ran.code !== 0 || ran.stderr !== "") into.wrong.push(`exit code ${ran.code}: ${ran.stderr}`);
  else if (output !== "shared.o") {
    const object = readFileSync(join(project, output), "latin1");
    const version = Number(/version-(\d{8})/.exec(object)?.[1] ?? Number.NaN);
    if (!(version >= from && version <= upTo)) into.wrong.push(`version ${version}, from ${from} to ${upTo}`);
    if (!object.includes(`source-${source}`)) into.wrong.push(`not the object of ${source}`);
  }
}

test(`${SECONDS} seconds of compiling, editing, evicting and killing leave right objects`, async (t) => {
  for (const path of [project, home]) mkdirSync(path);
  writeFileSync(header, textOf(0));
  for (const name of ["a.c", "b.c"])
    writeFileSync(
      join(project, name),
      `#include "version.h"\nconst char *version = VERSION;\nconst char *source = "source-${name}";\n`,
    );
  const compiled: Compiled = { calls: 0, wrong: [] };
  await runCommand([HPCC, "gcc", "-c", "a.c", "-o", "first.o"], { env, cwd: project });
  const deadlineMs = performance.now() + SECONDS * 1000;
  const dice = (n: number) => new Dice(SEED + n);
  const [one, two, editor, evictor, killer] = [1, 2, 3, 4, 5].map(dice) as [Dice, Dice, Dice, Dice, Dice];
  let kills = 0;
  await Promise.all([
    until(deadlineMs, () => compile("one", one, compiled)),
    until(deadlineMs, () => compile("two", two, compiled)),
    until(deadlineMs, async () => {
      edit(editor);
      await pause(editor.below(400));
    }),
    until(deadlineMs, async () => {
      if (evictor.chance(10)) await runCommand([HPCC, "clean"], { env });
      else removeSome(evictor);
      await pause(evictor.below(700));
    }),
    until(deadlineMs, async () => {
      await pause(killer.below(3000));
      const status = await runCommand([HPCC, "daemon", "status", "--json"], { env });
      if (status.code !== 0) return;
      const { pid } = JSON.parse(status.stdout) as { pid: number };
      process.kill(pid, "SIGKILL");
      kills += 1;
    }),
  ]);
  t.diagnostic(`${compiled.calls} calls, ${written} edits, ${kills} kills`);
  assert.deepEqual(compiled.wrong, []);
  assert.ok(compiled.calls > 0 && kills > 0);
  const expected = ["a.c", "b.c", "first.o", "one.d", "one.o", "shared.d", "shared.o", "two.d", "two.o", "version.h"];
  assert.deepEqual(
    readdirSync(project).filter((name) => !expected.includes(name)),
    [],
    "left in the project",
  );
  // The next daemon sweeps what the killed ones left.
  await runCommand([HPCC, "gcc", "-c", "a.c", "-o", "first.o"], { env, cwd: project });
  // A call's folder goes just after its answer.
  const left = () => readdirSync(join(env.HPCC_RUNTIME_DIR, "calls"));
  for (const endMs = performance.now() + SWEEP_MS_MAX; left().length > 0 && performance.now() < endMs; )
    await pause(50);
  assert.deepEqual(left(), [], "left of calls");
});
