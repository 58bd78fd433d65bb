import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { type TestContext, test } from "node:test";
import { isLocked, tryLock } from "./file-lock.ts";

function place(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "hpcc-lock-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, "a.lock");
}

/** A process of another container, whose number says nothing here, that holds the file until it is killed. */
async function holderElsewhere(path: string) {
  const source = `
    import { tryLock } from ${JSON.stringify(join(import.meta.dirname, "file-lock.ts"))};
    process.stdout.write(tryLock(${JSON.stringify(path)}) === null ? "refused" : "held");
    setInterval(() => {}, 1000);
  `;
  const node = [process.execPath, "--input-type=module", "--eval", source];
  const words = ["--user", "--map-current-user", "--pid", "--fork", "--kill-child", ...node];
  const child = spawn("unshare", words, { stdio: ["ignore", "pipe", "inherit"] });
  const [told] = await once(child.stdout, "data");
  assert.equal(String(told), "held");
  return child;
}

test("a file is held by one, and free when he lets it go", (t) => {
  const path = place(t);
  const lock = tryLock(path)!;
  assert.deepEqual([isLocked(path), tryLock(path)], [true, null]);
  assert.ok(isLocked(path), "a look at it ends nothing");
  lock.release();
  assert.equal(isLocked(path), false);
  tryLock(path)!.release();
  assert.deepEqual(readdirSync(join(path, "..")), ["a.lock"], "and nothing beside it");
});

test("a holder of another process namespace is known while it lives, and at once no more", async (t) => {
  const path = place(t);
  const child = await holderElsewhere(path);
  t.after(() => child.kill("SIGKILL"));
  assert.deepEqual([isLocked(path), tryLock(path)], [true, null]);
  child.kill("SIGKILL");
  // Its pipe ends with the process that holds the file.
  await once(child, "close");
  assert.equal(isLocked(path), false);
  tryLock(path)!.release();
});

test("a file that was taken away between its opening and its locking is not held, and what stands there is", async (t) => {
  const path = place(t);
  const child = await holderElsewhere(`${path}.next`);
  t.after(() => child.kill("SIGKILL"));
  const meanwhile = (change: () => void) => {
    t.mock.method(
      DatabaseSync.prototype,
      "exec",
      function (this: DatabaseSync, sql: string) {
        change();
        this.prepare(sql).run();
      },
      { times: 1 },
    );
  };
  meanwhile(() => rmSync(path));
  const lock = tryLock(path)!;
  assert.deepEqual([isLocked(path), tryLock(path)], [true, null], "it was opened again");
  lock.release();
  meanwhile(() => renameSync(`${path}.next`, path));
  assert.equal(tryLock(path), null, "somebody else holds what stands there");
});

test("a path at which nothing can be made is told", (t) => {
  assert.throws(() => tryLock(join(place(t), "..", "absent", "a.lock")), { code: "ENOENT" });
});

test("many processes that want a file have it one after the other", (t) => {
  const path = place(t);
  const counter = `${path}.count`;
  writeFileSync(counter, "0");
  const source = `
    import { readFileSync, writeFileSync } from "node:fs";
    import { tryLock } from ${JSON.stringify(join(import.meta.dirname, "file-lock.ts"))};
    const pause = new Int32Array(new SharedArrayBuffer(4));
    for (let i = 0; i < 50; i += 1) {
      let lock = null;
      while (lock === null) lock = tryLock(${JSON.stringify(path)}) ?? (Atomics.wait(pause, 0, 0, 1), null);
      writeFileSync(${JSON.stringify(counter)}, String(Number(readFileSync(${JSON.stringify(counter)}, "utf8")) + 1));
      lock.release();
    }
  `;
  const one = `"${process.execPath}" --input-type=module --eval "$0" & `;
  const { status } = spawnSync("sh", ["-c", `${one.repeat(4)} wait`, source], { stdio: "inherit" });
  assert.equal(status, 0);
  assert.equal(spawnSync("cat", [counter], { encoding: "utf8" }).stdout, "200");
});
