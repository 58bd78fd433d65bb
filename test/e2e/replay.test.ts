// A warm build by make through the installed programs: the system calls of all its processes tell that no compiler was started and the daemon was
// left alone, and its files are those of a plain build. After an edit, exactly what depends on it is compiled.
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { HPCC, runCommand, until } from "../support/farm.ts";

const FILES = 12;
/** Rounds after which every file is older than its call. */
const ROUNDS_MAX = 5;

const folder = realpathSync(mkdtempSync(join(tmpdir(), "hpcc-replay-")));
const work = join(folder, "work");
const records = join(folder, "state/replay");
const env = {
  PATH: "/usr/bin:/bin",
  HOME: folder,
  LC_ALL: "C.UTF-8",
  HPCC_RUNTIME_DIR: join(folder, "run"),
  HPCC_STATE_DIR: join(folder, "state"),
  HPCC_CACHE_DIR: join(folder, "cache"),
};

after(async () => {
  await runCommand([HPCC, "daemon", "stop"], { env });
  rmSync(folder, { recursive: true, force: true });
});

async function make(...argv: readonly string[]): Promise<void> {
  const ran = await runCommand([...argv, "make", "-j2", "-s", `CC=${HPCC} gcc`], { cwd: work, env });
  assert.equal(ran.code, 0, ran.stdout + ran.stderr);
  assert.equal(ran.stderr, "");
}

async function rebuild(...argv: readonly string[]): Promise<void> {
  assert.equal((await runCommand(["make", "-s", "clean"], { cwd: work, env })).code, 0);
  await make(...argv);
}

function built(): Record<string, string> {
  const names = readdirSync(work).filter((name) => /\.[od]$/.test(name));
  return Object.fromEntries(names.sort().map((name) => [name, readFileSync(join(work, name), "base64")]));
}

function recorded(): number {
  try {
    return readdirSync(records, { recursive: true }).filter((name) => /[0-9a-f]{64}$/.test(String(name))).length;
  } catch {
    return 0;
  }
}

async function stats(): Promise<Record<string, number>> {
  const { stdout } = await runCommand([HPCC, "stats", "--json"], { env });
  return (JSON.parse(stdout) as { outcomes: Record<string, number> }).outcomes;
}

interface Traced {
  /** Programs that were started, by their last part. */
  readonly programs: readonly string[];
  readonly connected: number;
}

async function traced(build: (...argv: string[]) => Promise<void>): Promise<Traced> {
  // A file for each process: lines of several at once would be cut.
  const traces = mkdtempSync(join(folder, "traces-"));
  await build("strace", "-ff", "-qq", "-e", "trace=execve,connect", "-o", join(traces, "t"));
  const lines = readdirSync(traces).flatMap((name) => readFileSync(join(traces, name), "latin1").split("\n"));
  const programs = lines.flatMap((line) => /execve\("(?:[^"]*\/)?([^"/]+)".*= 0$/.exec(line)?.[1] ?? []);
  return { programs, connected: lines.filter((line) => line.includes("connect(")).length };
}

function times(programs: readonly string[], name: string): number {
  return programs.filter((program) => program === name).length;
}

test("a warm build starts no compiler and leaves the daemon alone, and an edit compiles what depends on it", async () => {
  mkdirSync(work);
  writeFileSync(join(work, "all.h"), "#define ALL 1\n");
  writeFileSync(join(work, "some.h"), "#define SOME 2\n");
  const objects = Array.from({ length: FILES }, (_, index) => `f${index}.o`);
  for (let index = 0; index < FILES; index++) {
    const some = index % 3 === 0 ? '#include "some.h"\nint s = SOME;\n' : "";
    writeFileSync(join(work, `f${index}.c`), `#include <stdio.h>\n#include "all.h"\n${some}int f${index} = ALL;\n`);
  }
  writeFileSync(
    join(work, "Makefile"),
    `all: ${objects.join(" ")}\n%.o: %.c\n\t$(CC) -O1 -MMD -c $< -o $@\n-include *.d\nclean:\n\trm -f *.o *.d\n`,
  );
  assert.equal((await runCommand(["make", "-s", "CC=gcc"], { cwd: work, env })).code, 0);
  const plain = built();
  assert.equal(Object.keys(plain).length, 2 * FILES);

  await rebuild();
  for (let round = 0; recorded() < FILES && round < ROUNDS_MAX; round++) {
    await rebuild();
    await until("records are written", async () => (await stats())["replayed"] !== undefined);
  }
  await until("all calls are recorded", () => recorded() === FILES);
  await rebuild();

  const warm = await traced(rebuild);
  assert.equal(times(warm.programs, "hpcc"), FILES);
  for (const name of ["cc1", "as", "gcc", "node"]) assert.equal(times(warm.programs, name), 0, name);
  assert.equal(warm.connected, 0);
  assert.deepEqual(built(), plain);

  await runCommand([HPCC, "daemon", "stop"], { env });
  const alone = await traced(rebuild);
  assert.deepEqual([times(alone.programs, "hpcc"), times(alone.programs, "node"), alone.connected], [FILES, 0, 0]);
  assert.deepEqual(built(), plain);

  writeFileSync(join(work, "some.h"), "#define SOME 3\n");
  // A daemon that is started by a traced program would be traced to its own end.
  await runCommand([HPCC, "gcc", "--version"], { env });
  const edited = await traced(make);
  assert.equal(times(edited.programs, "hpcc"), FILES / 3);
  assert.ok(times(edited.programs, "cc1") >= FILES / 3);
  const after = built();
  for (const name of Object.keys(plain))
    assert.equal(after[name] === plain[name], !/^f(?:0|3|6|9)\.o$/.test(name), name);
  // A daemon counts what was replayed before it was started, too.
  const { replayed = 0, local_compiled = 0 } = await stats();
  assert.ok(replayed >= FILES, String(replayed));
  assert.equal(local_compiled, FILES / 3);
});
