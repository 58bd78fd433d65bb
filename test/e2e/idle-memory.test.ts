// What the daemon has resident when a build is over and nobody calls: started by a launcher, as it is for a user.
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { HPCC, runCommand } from "../support/farm.ts";

const RESIDENT_KIB_MAX = 80 * 1024;
/** It gives memory back ten seconds after the last call. */
const WAIT_MS_MAX = 90_000;
const POLL_MS = 200;
const SETTLED_MS = 100;
const FILES = 6;
const HEADERS = ["algorithm", "functional", "iostream", "map", "regex", "string"];

const folder = realpathSync(mkdtempSync(join(tmpdir(), "hpcc-idle-")));
const env = {
  PATH: process.env["PATH"],
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

async function ask<T>(...words: readonly string[]): Promise<T> {
  const ran = await runCommand([HPCC, ...words, "--json"], { env });
  assert.equal(ran.code, 0, ran.stderr);
  return JSON.parse(ran.stdout) as T;
}

test("an idle daemon has at most 80 MiB resident after a build", async (t) => {
  const source = join(folder, "source");
  mkdirSync(source);
  const includes = HEADERS.map((name) => `#include <${name}>\n`).join("");
  for (let at = 0; at < FILES; at += 1)
    writeFileSync(join(source, `${at}.cpp`), `${includes}int f${at}() { return ${at}; }\n`);
  // What was written just before its compile might have changed meanwhile, and is not kept.
  await setTimeout(SETTLED_MS);
  for (let at = 0; at < FILES; at += 1) {
    const ran = await runCommand([HPCC, "g++", "-c", `${at}.cpp`], { env, cwd: source, timeoutMs: 300_000 });
    assert.equal(ran.code, 0, ran.stderr);
  }
  const { outcomes, reasons } = await ask<Record<"outcomes" | "reasons", Record<string, number>>>("stats");
  assert.equal(outcomes["local_compiled"], FILES, JSON.stringify(reasons));
  const { pid } = await ask<{ pid: number }>("daemon", "status");
  const resident = () => Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]);
  const before = resident();
  const endMs = Date.now() + WAIT_MS_MAX;
  while (resident() > RESIDENT_KIB_MAX && Date.now() < endMs) await setTimeout(POLL_MS);
  t.diagnostic(`${before} KiB after the build, ${resident()} KiB idle`);
  assert.ok(resident() <= RESIDENT_KIB_MAX, `${resident()} KiB`);
});
