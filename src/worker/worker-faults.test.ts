// What breaks around a worker: disks, stores, its own death. A client gets a right object or an error, never a wrong object,
// and each object that it got has its row.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { TestWorker } from "../../test/support/test-worker.ts";
import { LOG_DISK } from "../audit/log-disk.ts";
import { readLog } from "../audit/read-log.ts";
import { type Digest, digestHex } from "../core/digest/digest.ts";
import { type WriteAt, writeAt } from "../store/disk/disk-files.ts";
import { stateFolders } from "./state-folders.ts";

const NEVER = { signal: new AbortController().signal };
const HELLO = { path: "/hpcc/project/hello.c", content: "int answer(void) { return 42; }\n" };

function noSpace(): Error {
  return Object.assign(new Error("no space left on device"), { code: "ENOSPC", errno: -28 });
}

async function storeFiles(at: TestWorker, area: string): Promise<string[]> {
  const folder = join(at.folder, "state/store/acme", area);
  const names = await readdir(folder, { recursive: true, withFileTypes: true });
  return names.filter((name) => name.isFile()).map((name) => join(name.parentPath, name.name));
}

async function damage(path: string): Promise<void> {
  const bytes = await readFile(path);
  bytes[bytes.length - 1]! ^= 0xff;
  await writeFile(path, bytes);
}

describe("a damaged store", () => {
  for (const area of ["cache", "actions"])
    test(`misses what is damaged in ${area}, sets it aside, and compiles again`, async (t) => {
      const at = await TestWorker.start(t);
      const client = await at.client();
      const first = await client.compile(await at.job({ files: [HELLO] }), NEVER);
      for (const file of await storeFiles(at, area)) await damage(file);
      const second = await client.compile(await at.job({ files: [HELLO] }), NEVER);
      assert.equal(second.outcome, "compiled");
      assert.deepEqual(await readFile(second.outputs[0]!.file), await readFile(first.outputs[0]!.file));
      assert.equal(at.worker.stats().store.quarantined, 1);
      assert.equal((await client.compile(await at.job({ files: [HELLO] }), NEVER)).outcome, "hit");
    });

  test("that lost a source says so, and asks for it the next time", async (t) => {
    const at = await TestWorker.start(t);
    const client = await at.client();
    const argv = ["/bin/sh", "-c", "exit 3"];
    await client.compile(await at.job({ files: [HELLO], argv }), NEVER);
    for (const file of await storeFiles(at, "kept")) await damage(file);
    await assert.rejects(client.compile(await at.job({ files: [HELLO], argv }), NEVER), { code: "store.corrupt" });
    assert.equal((await client.compile(await at.job({ files: [HELLO], argv }), NEVER)).exitCode, 3);
    assert.equal(at.sent.length, 2);
  });
});

describe("a full disk", () => {
  test("of the store fails jobs with store.io, serves hits, and works again once there is space", async (t) => {
    let full = false;
    const write: WriteAt = async (handle, bytes, position) => {
      if (full) throw noSpace();
      await writeAt(handle, bytes, position);
    };
    const at = await TestWorker.start(t, {}, { faults: { write } });
    const client = await at.client();
    await client.compile(await at.job({ files: [HELLO] }), NEVER);
    full = true;
    assert.equal((await client.compile(await at.job({ files: [HELLO] }), NEVER)).outcome, "hit");
    const other = await at.job({ files: [{ path: "/hpcc/project/o.c", content: "int other;\n" }] });
    for (let i = 0; i < 3; i++) await assert.rejects(client.compile(other, NEVER), { code: "store.io" });
    full = false;
    assert.equal((await client.compile(other, NEVER)).outcome, "compiled");
    const notes = (await at.jobRows()).map(({ envelope }) => envelope.note);
    assert.deepEqual(notes, ["", "", "store.io", "store.io", "store.io", ""]);
  });

  test("at any moment of a compile gives the right object or an error", async (t) => {
    let writesLeft = Number.POSITIVE_INFINITY;
    const write: WriteAt = async (handle, bytes, position) => {
      if (writesLeft-- <= 0) throw noSpace();
      await writeAt(handle, bytes, position);
    };
    const at = await TestWorker.start(t, {}, { faults: { write } });
    const client = await at.client();
    let compiled = 0;
    for (let moment = 0; moment < 14; moment++) {
      const job = await at.job({ files: [{ path: "/hpcc/project/m.c", content: `int m${moment};\n` }] });
      writesLeft = moment;
      try {
        const { outputs } = await client.compile(job, NEVER);
        assert.ok((await readFile(outputs[0]!.file)).includes(`m${moment}`));
        compiled++;
      } catch (error) {
        assert.equal((error as { code?: string }).code, "store.io");
      }
    }
    assert.ok(compiled >= 1 && compiled < 14);
    assert.equal((await at.jobRows()).length, 14);
  });

  test("of the audit log answers audit.io and nothing else, until there is space", async (t) => {
    let full = false;
    const log: typeof LOG_DISK = {
      ...LOG_DISK,
      async write(handle, bytes, position) {
        if (full) throw noSpace();
        await LOG_DISK.write(handle, bytes, position);
      },
    };
    const at = await TestWorker.start(t, {}, { faults: { log } });
    const client = await at.client();
    await client.compile(await at.job({ files: [HELLO] }), NEVER);
    full = true;
    const hit = await at.job({ files: [HELLO] });
    await assert.rejects(client.compile(hit, NEVER), { code: "audit.io" });
    const other = async () => at.job({ files: [{ path: "/hpcc/project/o.c", content: "int other;\n" }] });
    await assert.rejects(client.compile(await other(), NEVER), { code: "audit.io" });
    assert.equal(at.worker.stats().jobs.unrecorded, 2);
    full = false;
    assert.equal((await client.compile(await other(), NEVER)).outcome, "compiled", "nothing is kept that has no row");
    assert.equal((await client.compile(await other(), NEVER)).outcome, "hit");
  });

  test("a failed sync ends the worker's answers", async (t) => {
    let broken = false;
    const log: typeof LOG_DISK = {
      ...LOG_DISK,
      async sync(handle) {
        if (broken) throw Object.assign(new Error("i/o error"), { code: "EIO" });
        await LOG_DISK.sync(handle);
      },
    };
    const at = await TestWorker.start(t, {}, { faults: { log } });
    const client = await at.client();
    await client.compile(await at.job({ files: [HELLO] }), NEVER);
    broken = true;
    await assert.rejects(client.compile(await at.job({ files: [HELLO] }), NEVER), { code: "audit.io" });
    broken = false;
    await assert.rejects(client.compile(await at.job({ files: [HELLO] }), NEVER), { code: "audit.io" });
  });
});

test("a worker killed at any moment has a row for each object that a client got", { timeout: 60_000 }, async () => {
  const folder = await mkdtemp(join(tmpdir(), "hpcc-killed-"));
  try {
    await mkdir(join(folder, "state"));
    const program = `
      import { TestWorker } from ${JSON.stringify(join(import.meta.dirname, "../../test/support/test-worker.ts"))};
      const at = await TestWorker.start({ after: () => {} }, {}, {}, process.argv[1]);
      const client = await at.client();
      const argv = ["/bin/sh", "-c", "cp /hpcc/project/a.c /hpcc/out/object.o"];
      const signal = new AbortController().signal;
      await Promise.all([0, 1, 2, 3].map(async (lane) => {
        for (let i = 0; ; i++) {
          const content = process.pid + " " + lane + " " + (i >> 1);
          const job = await at.job({ files: [{ path: "/hpcc/project/a.c", content }], argv });
          const { rowDigest } = await client.compile(job, { signal });
          process.stdout.write(rowDigest + "\\n");
        }
      }));
    `;
    const told: string[] = [];
    for (let round = 0; round < 2; round++) {
      const argv = ["--input-type=module-typescript", "-e", program, folder];
      const child = spawn(process.execPath, argv, { stdio: ["ignore", "pipe", "inherit"] });
      let heard = "";
      child.stdout.on("data", (part: Buffer) => {
        heard += part.toString();
        if (heard.length > 72 * 20) child.kill("SIGKILL");
      });
      await once(child, "close");
      told.push(...heard.split("\n").slice(0, -1));
      for (const name of await readdir(folder))
        if (name.startsWith("job-")) await rm(join(folder, name), { recursive: true });
    }
    const rows = new Set<Digest>();
    for await (const { record } of readLog(stateFolders(join(folder, "state")).audit)) rows.add(record.digest);
    assert.ok(told.length >= 40);
    for (const digest of told) assert.ok(rows.has(digest as Digest), `${digestHex(digest as Digest)} has no row`);
  } finally {
    await rm(folder, { recursive: true });
  }
});
