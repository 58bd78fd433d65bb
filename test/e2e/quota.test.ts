// A user whose disk quota is used up (EDQUOT): builds go on, nothing half-written stays, and results are kept again when there is room.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type CallStats, CHECKOUT, HPCC, runCommand } from "../support/farm.ts";

const folder = realpathSync(mkdtempSync(join(tmpdir(), "hpcc-quota-")));
const [source, cache, flag, shim] = ["source", "home/cache", "used-up", "quota.so"].map((name) => join(folder, name));
const env = {
  PATH: process.env["PATH"],
  HOME: folder,
  LC_ALL: "C.UTF-8",
  HPCC_RUNTIME_DIR: join(folder, "run"),
  HPCC_STATE_DIR: join(folder, "home/state"),
  HPCC_CACHE_DIR: cache,
};

before(async () => {
  mkdirSync(source!);
  execFileSync("cc", [
    "-shared",
    "-fPIC",
    "-O1",
    "-Wall",
    "-Werror",
    "-o",
    shim!,
    join(CHECKOUT, "test/support/quota.c"),
  ]);
  const quota = { LD_PRELOAD: shim, QUOTA_FLAG: flag, QUOTA_FOLDER: join(folder, "home") };
  const started = await runCommand([HPCC, "daemon", "start"], { env: { ...env, ...quota } });
  assert.equal(started.code, 0, started.stderr);
});

after(async () => {
  await runCommand([HPCC, "daemon", "stop"], { env });
  rmSync(folder, { recursive: true, force: true });
});

async function outcomes(): Promise<Record<string, number>> {
  const ran = await runCommand([HPCC, "stats", "--json", "--zero"], { env });
  assert.equal(ran.code, 0, ran.stderr);
  const counted = (JSON.parse(ran.stdout) as CallStats).outcomes;
  return Object.fromEntries(Object.entries(counted).filter(([, count]) => count > 0));
}

/** Compiles plainly and through hpcc, which must make no difference. */
async function compile(name: string): Promise<void> {
  const ends = [];
  for (const launcher of [[], [HPCC]]) {
    rmSync(join(source!, `${name}.o`), { force: true });
    const argv = [...launcher, "gcc", "-Wall", "-c", `${name}.c`];
    const { code, stdout, stderr } = await runCommand(argv, { env, cwd: source! });
    ends.push({ code, stdout, stderr, object: readFileSync(join(source!, `${name}.o`)).toString("hex") });
  }
  assert.deepEqual(ends[1], ends[0]);
}

const kept = () => readdirSync(cache!, { recursive: true, encoding: "utf8" }).sort();

test("a quota that is used up costs a build nothing but its hits", async () => {
  for (const name of ["a", "b"]) writeFileSync(join(source!, `${name}.c`), `static int unused;\nint ${name};\n`);
  await compile("a");
  assert.deepEqual(await outcomes(), { local_compiled: 1 });
  const before = kept();
  assert.ok(before.length > 0);
  writeFileSync(flag!, "");
  await compile("b");
  await compile("b");
  assert.deepEqual(await outcomes(), { host: 2 });
  assert.deepEqual(kept(), before);
  // What is there is answered nevertheless.
  await compile("a");
  assert.match(Object.keys(await outcomes()).join(), /^(?:local_hit|replayed)$/);
  rmSync(flag!);
  await compile("b");
  assert.deepEqual(await outcomes(), { local_compiled: 1 });
  assert.ok(kept().length > before.length);
});
