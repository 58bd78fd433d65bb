// Lua, call by call through a whole hpcc: every object, dependency file and warning is the image's own compiler's, the second
// build comes from the cache alone, and each job has its row. Local compiles are refused, so nothing can hide.
import assert from "node:assert/strict";
import { cpSync, globSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { injectedFlags } from "../../src/core/compile/text/two-step.ts";
import { type CallStats, CHECKOUT, Farm, type RunningWorker, runCommand, type User } from "../support/farm.ts";
import { type JobRow, jobRows, rowOfObject, seedOf } from "../support/job-rows.ts";
import { OneStep } from "../support/one-step.ts";
import { CallRecorder, type RecordedCall } from "../support/recorded-calls.ts";

const PACKAGE = "lua5.4";
const SOURCES = join(CHECKOUT, ".cache/sources");
const WARNINGS = "-g -Wall -Wextra -Wconversion -MD";
const PLAIN_OBJECTS = ["lapi.o", "lctype.o", "ldump.o", "linit.o", "lmem.o", "lopcodes.o", "lua.o", "lzio.o"];

let farm: Farm;
let worker: RunningWorker;
let user: User;
let imageDigest: string;
let project: string;
let recorder: CallRecorder;
/** What the first build made, by path. */
const firstBuild = new Map<string, Buffer>();
const firstCalls = new Map<string, RecordedCall>();

before(async () => {
  const fetched = await runCommand([join(CHECKOUT, "scripts/fetch-debian-source.sh"), PACKAGE, SOURCES]);
  assert.equal(fetched.code, 0, fetched.stderr);
  farm = new Farm();
  await farm.init();
  const image = await farm.image("e2e");
  imageDigest = image.digest;
  await farm.startScheduler();
  worker = await farm.startWorker("w", { layouts: [image.layout] });
  user = await farm.addUser("alice", { images: [imageDigest], fallback: "none" });
  project = join(user.folder, "lua");
  cpSync(join(SOURCES, PACKAGE), project, { recursive: true });
  writeFileSync(join(project, "hpcc.toml"), `image = "${imageDigest}"\n`);
  recorder = new CallRecorder(farm.folder);
});

after(async () => {
  await farm?.close();
});

function makeArgv(flags: string, targets: readonly string[]): string[] {
  const compiler = `CC=${recorder.program} gcc -std=gnu99`;
  return ["make", "-C", join(project, "src"), "-j2", compiler, `MYCFLAGS=${flags}`, ...targets];
}

async function build(flags: string, targets: readonly string[], prefix: readonly string[] = []): Promise<CallStats> {
  await user.stats(true);
  const made = await user.run([...prefix, ...makeArgv(flags, targets)]);
  assert.equal(made.code, 0, made.stderr + made.stdout);
  return user.stats();
}

function removeBuilt(): void {
  for (const name of globSync("src/*.{o,d,a}", { cwd: project })) rmSync(join(project, name));
  for (const name of ["lua", "luac"]) rmSync(join(project, "src", name), { force: true });
}

/** Every call went to the worker, but for links and questions. */
function assertNoFallback(stats: CallStats): void {
  const expected = new Set(["called_for_link", "compiler_query"]);
  assert.deepEqual(
    Object.keys(stats.reasons).filter((reason) => !expected.has(reason)),
    [],
  );
  const { host, refused, cancelled, local } = stats.outcomes;
  assert.deepEqual({ host, refused, cancelled }, { host: 0, refused: 0, cancelled: 0 });
  assert.equal(local, (stats.reasons["called_for_link"] ?? 0) + (stats.reasons["compiler_query"] ?? 0));
  assert.deepEqual(stats.launcher_fallbacks, {});
}

/** Holds what a build made against a one-step compile of each recorded call. */
function assertAsInOneStep(calls: ReadonlyMap<string, RecordedCall>, rows: readonly JobRow[]): void {
  const reference = join(farm.folder, "reference");
  rmSync(reference, { recursive: true, force: true });
  cpSync(join(SOURCES, PACKAGE), reference, { recursive: true });
  using oneStep = new OneStep(imageDigest, { "/hpcc/project": reference });
  for (const call of calls.values()) {
    const row = rowOfObject(rows, readFileSync(join(project, "src", call.object)));
    const argv = [...call.argv, ...injectedFlags("gcc"), `-frandom-seed=${seedOf(row)}`];
    const ran = oneStep.run(argv, { cwd: "/hpcc/project/src" });
    assert.equal(ran.code, 0, ran.stderr);
    assert.equal(call.stderr, ran.stderr, `stderr of ${call.object}`);
    const files = [call.object, ...(call.argv.includes("-MD") ? [call.object.replace(/o$/, "d")] : [])];
    for (const file of files) {
      const ours = readFileSync(join(project, "src", file));
      assert.ok(ours.equals(readFileSync(join(reference, "src", file))), `${file} is the one-step compile's`);
    }
  }
}

test("every object, dependency file and warning is that of a one-step compile, with -g and warnings", async () => {
  const stats = await build(WARNINGS, ["generic"]);
  assertNoFallback(stats);
  const calls = recorder.take();
  const sources = globSync("src/*.c", { cwd: project });
  assert.ok(sources.length >= 30, `${sources.length} sources`);
  assert.equal(calls.size, sources.length);
  assert.equal(stats.outcomes["remote_compiled"], sources.length);
  const rows = await jobRows(worker);
  assert.equal(
    rows.length,
    stats.jobs_sent,
    JSON.stringify(rows.map(({ kind, note, durationUs }) => [kind, note, durationUs])),
  );
  assert.equal(stats.jobs_sent, sources.length);
  const warned = [...calls.values()].filter(({ stderr }) => stderr.includes("[-Wconversion]"));
  assert.ok(warned.length >= 10, `${warned.length} calls warn`);
  assertAsInOneStep(calls, rows);
  for (const [object, call] of calls) firstCalls.set(object, call);
  for (const name of globSync("src/*.{o,d}", { cwd: project })) firstBuild.set(name, readFileSync(join(project, name)));
  assert.equal(firstBuild.size, 2 * sources.length);
});

test("a null build with make starts no compiler", async () => {
  const stats = await build(WARNINGS, ["generic"]);
  assert.equal(stats.calls, 0);
});

test("the warm build has only hits, warns again, and runs no compiler but for a list", async () => {
  removeBuilt();
  const trace = join(farm.folder, "execs");
  const strace = ["strace", "-f", "-qq", "-e", "trace=execve", "-e", "signal=none", "-o", trace];
  const rowsBefore = (await jobRows(worker)).length;
  const stats = await build(WARNINGS, ["generic"], strace);
  assertNoFallback(stats);
  assert.equal(stats.outcomes["remote_hit"], firstCalls.size);
  assert.equal(stats.outcomes["remote_compiled"], 0);
  assert.equal(stats.source_bytes, 0, "a hit moves no source");
  assert.equal((await jobRows(worker)).length - rowsBefore, stats.jobs_sent);
  for (const [object, { stderr }] of recorder.take()) assert.equal(stderr, firstCalls.get(object)?.stderr, object);
  for (const [name, bytes] of firstBuild) assert.ok(readFileSync(join(project, name)).equals(bytes), name);
  const execs = readFileSync(trace, "latin1")
    .split("\n")
    .filter((line) => line.endsWith(" = 0") || line.endsWith("<unfinished ...>"));
  const of = (program: string) => execs.filter((line) => new RegExp(`execve\\("[^"]*/${program}", `).test(line));
  assert.equal(of("cc1").length, firstCalls.size, "one preprocessor a call");
  assert.deepEqual(
    of("cc1").filter((line) => !/cc1", \["[^"]*"(?:\.{3})?, "-E",/.test(line)),
    [],
  );
  assert.deepEqual(of("as"), []);
});

test("the makefile's own flags give the one-step compile's objects", async () => {
  removeBuilt();
  const rowsBefore = (await jobRows(worker)).length;
  const stats = await build("", PLAIN_OBJECTS);
  assertNoFallback(stats);
  assert.equal(stats.outcomes["remote_compiled"], PLAIN_OBJECTS.length);
  const calls = recorder.take();
  assert.equal(calls.size, PLAIN_OBJECTS.length);
  assertAsInOneStep(calls, (await jobRows(worker)).slice(rowsBefore));
});
