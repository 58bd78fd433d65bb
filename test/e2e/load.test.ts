// A hundred files at -j16: no result is lost, doubled or mixed up, and neither daemon nor worker grows without bound. Then the
// same build again, of hits alone.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { injectedFlags } from "../../src/core/compile/text/two-step.ts";
import { type CallStats, Farm, HPCC, type RunningWorker, type User } from "../support/farm.ts";
import { jobRows } from "../support/job-rows.ts";
import { OneStep } from "../support/one-step.ts";
import { residentBytes } from "../support/processes.ts";

const FILES = 100;
const JOBS = 16;
const FLAGS = "-O1";
const MIB = 1024 * 1024;
const RESIDENT_BYTES_MAX = 400 * MIB;
const SAMPLE_MS = 200;

let farm: Farm;
let worker: RunningWorker;
let image: { digest: string; layout: string };
let user: User;
let root: string;

before(async () => {
  farm = new Farm();
  await farm.init();
  image = await farm.image("e2e");
  await farm.startScheduler();
  worker = await farm.startWorker("w", { layouts: [image.layout] });
  user = await farm.addUser("alice", { images: [image.digest], fallback: "none" });
  root = join(user.folder, "hundred");
  mkdirSync(root);
  writeFileSync(join(root, "hpcc.toml"), `image = "${image.digest}"\n`);
  writeFileSync(join(root, "common.h"), `#include <stddef.h>\nstruct mark { const char *text; size_t number; };\n`);
  for (let i = 0; i < FILES; i++) writeFileSync(join(root, `f${i}.c`), sourceOf(i));
  const objects = Array.from({ length: FILES }, (_, i) => `f${i}.o`).join(" ");
  writeFileSync(join(root, "Makefile"), `all: ${objects}\n%.o: %.c\n\t@$(CC) ${FLAGS} -MD -c -o $@ $<\n`);
});

after(async () => {
  await farm?.close();
});

function markOf(i: number): string {
  return `the mark of file ${i}.`;
}

function sourceOf(i: number): string {
  return `#include "common.h"\nconst struct mark mark_${i} = {"${markOf(i)}", ${i}};\nint f${i}(int x) { return x * ${i} + 1; }\n`;
}

interface Peaks {
  daemon: number;
  worker: number;
}

async function build(): Promise<{ stats: CallStats; seconds: number; peaks: Peaks }> {
  await user.stats(true);
  const daemon = await user.daemonPid();
  const peaks: Peaks = { daemon: 0, worker: 0 };
  const sample = () => {
    peaks.daemon = Math.max(peaks.daemon, residentBytes(daemon));
    peaks.worker = Math.max(peaks.worker, residentBytes(worker.service.pid));
  };
  const timer = setInterval(sample, SAMPLE_MS);
  try {
    const made = await user.run(["make", "-C", root, `-j${JOBS}`, `CC=${HPCC} gcc`]);
    assert.equal(made.code, 0, made.stderr + made.stdout);
    sample();
    assert.equal(await user.daemonPid(), daemon);
    return { stats: await user.stats(), seconds: made.seconds, peaks };
  } finally {
    clearInterval(timer);
  }
}

function assertBounded(what: string, seconds: number, peaks: Peaks): void {
  const mib = (bytes: number) => `${(bytes / MIB).toFixed(0)} MiB`;
  console.log(
    `${what} -j${JOBS}, ${FILES} files: ${seconds.toFixed(1)} s, daemon ${mib(peaks.daemon)}, worker ${mib(peaks.worker)}`,
  );
  for (const bytes of Object.values(peaks)) assert.ok(bytes > 0 && bytes < RESIDENT_BYTES_MAX, mib(bytes));
}

function objects(): Buffer[] {
  return Array.from({ length: FILES }, (_, i) => readFileSync(join(root, `f${i}.o`)));
}

test("a cold build of a hundred files: each object and dependency file is its own source's, and has one row", async () => {
  const { stats, seconds, peaks } = await build();
  const { outcomes, reasons, jobs_sent, launcher_fallbacks } = stats;
  assert.deepEqual(
    { compiled: outcomes["remote_compiled"], reasons, jobs_sent, launcher_fallbacks },
    {
      compiled: FILES,
      reasons: {},
      jobs_sent: FILES,
      launcher_fallbacks: {},
    },
  );
  const rows = await jobRows(worker);
  assert.equal(rows.length, FILES);
  assert.equal(new Set(rows.map((row) => row.sourceDigest)).size, FILES);
  assert.equal(new Set(rows.map((row) => row.outputDigest)).size, FILES);
  for (const [i, object] of objects().entries()) {
    assert.ok(object.includes(`${markOf(i)}\0`), `f${i}.o holds its own mark`);
  }
  assertReference();
  assertBounded("cold", seconds, peaks);
});

/** Every object is what the image's own compiler makes in one step. */
function assertReference(): void {
  const folder = join(user.folder, "reference");
  mkdirSync(folder);
  writeFileSync(join(folder, "common.h"), readFileSync(join(root, "common.h")));
  for (let i = 0; i < FILES; i++) writeFileSync(join(folder, `f${i}.c`), sourceOf(i));
  using oneStep = new OneStep(image.digest, { "/hpcc/project": folder });
  const flags = [FLAGS, ...injectedFlags("gcc")].join(" ");
  const script = `for f in *.c; do gcc ${flags} -MD -c $f || exit 1; done`;
  const ran = oneStep.run(["/bin/sh", "-c", script], { cwd: "/hpcc/project" });
  assert.equal(ran.code, 0, ran.stderr);
  for (const [i, object] of objects().entries()) {
    assert.ok(object.equals(readFileSync(join(folder, `f${i}.o`))), `f${i}.o is the one-step compile's`);
    const dependencies = readFileSync(join(root, `f${i}.d`), "latin1");
    assert.equal(dependencies, readFileSync(join(folder, `f${i}.d`), "latin1"));
  }
}

test("a warm build is of hits alone, and gives the same objects", async () => {
  const cold = objects();
  for (let i = 0; i < FILES; i++) for (const suffix of ["o", "d"]) rmSync(join(root, `f${i}.${suffix}`));
  const { stats, seconds, peaks } = await build();
  assert.equal(stats.outcomes["remote_hit"], FILES);
  assert.deepEqual([stats.calls, stats.jobs_sent, stats.source_bytes], [FILES, FILES, 0]);
  for (const [i, object] of objects().entries()) assert.ok(object.equals(cold[i]!), `f${i}.o`);
  const rows = (await jobRows(worker)).slice(FILES);
  assert.deepEqual(
    rows.map(({ kind }) => kind),
    Array.from({ length: FILES }, () => "hit"),
  );
  assertBounded("warm", seconds, peaks);
});
