// Every operation on the files of a log, its key, its tiles and a client's receipts fails once, in each way. Afterwards: each row that
// somebody was told of is there once and its receipt holds, the log is what was signed, and each torn end is kept and named by one row.
import assert from "node:assert/strict";
import { existsSync, readdirSync, readlinkSync } from "node:fs";
import { cp, type FileHandle, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { makeOldLog, runAuditSession, type Told } from "../../test/support/audit-session.ts";
import { checkSession } from "../../test/support/checked-session.ts";
import { type FileOperation, type Interfere, withFaultyFiles } from "../../test/support/faulty-files.ts";
import { HpccError } from "../base/errors.ts";

/** All that a session does, at least; fewer means that it is not seen. */
const OPERATIONS_MIN = 60;

let root = "";
let oldLog = "";
before(async () => {
  // In memory where it can be: each operation has a session of its own, with all its syncs.
  root = await mkdtemp(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "hpcc-faults-"));
  oldLog = join(root, "old");
  await makeOldLog(oldLog);
});
after(async () => rm(root, { recursive: true, force: true }));

type Way = { readonly code: "EIO" | "ENOSPC"; readonly done: "nothing" | "half" | "all" };

const KINDS = [
  "mkdir",
  "open",
  "write ",
  "writeFile",
  "appendFile",
  "datasync",
  "sync",
  "rename log-key",
  "rename checkpoint",
  "rename key",
  "rename current.jsonl",
  "rename 0000",
  "truncate",
  "rm",
];

const WAYS = [
  { code: "EIO", done: "nothing" },
  { code: "ENOSPC", done: "half" },
  { code: "EIO", done: "all" },
] as const;

const interfering =
  (nth: number, { code, done }: Way): Interfere =>
  async (operation, { all: whole, half }) => {
    if (operation.nth !== nth) return whole();
    if (done === "half") await half();
    const left = done === "all" ? await whole() : null;
    // Whoever is told that a file could not be opened has nothing to close.
    if (operation.what.startsWith("open ")) await (left as FileHandle | null)?.close();
    throw Object.assign(new Error(`${code}: made by the test, ${operation.what}`), { code });
  };

/** What this process has open below a folder. */
function openBelow(folder: string): string[] {
  const targets = readdirSync("/proc/self/fd").map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return "";
    }
  });
  return targets.filter((target) => target.startsWith(folder));
}

const never = (error: unknown) => assert.fail(String(error));
const onlyIo = (error: unknown) => {
  if (!(error instanceof HpccError && error.code === "audit.io")) throw error;
};

for (const name of ["a new log", "an old log"] as const)
  describe(name, () => {
    const all: FileOperation[] = [];

    async function fresh(): Promise<string> {
      const folder = await mkdtemp(join(root, "log-"));
      if (name === "an old log") await cp(oldLog, folder, { recursive: true });
      return folder;
    }

    test("does all of its operations when none fails", async () => {
      const folder = await fresh();
      const told: Told[] = [];
      const see: Interfere = async (operation, { all: whole }) => {
        all.push(operation);
        return whole();
      };
      const tell = (one: Told) => void told.push(one);
      await withFaultyFiles(folder, see, async () => runAuditSession({ folder, tell, refused: never }));
      assert.equal(told.length, name === "a new log" ? 4 : 8);
      await checkSession(folder, told, "nothing");
      for (const kind of KINDS)
        assert.ok(
          all.some(({ what }) => what.startsWith(kind)),
          kind,
        );
      const files = ["log-key", "checkpoint.new", "key.new", "current.jsonl", ".log", ".torn-", "tile/0"];
      for (const file of files)
        assert.ok(
          all.some(({ path }) => path.includes(file)),
          file,
        );
      assert.ok(all.length >= OPERATIONS_MIN, `${all.length} operations`);
    });

    for (const way of WAYS)
      test(`each operation fails once with ${way.code}, when ${way.done} of it is done`, async () => {
        for (const { nth, what, divisible } of all) {
          if (way.done === "half" && !divisible) continue;
          const folder = await fresh();
          const told: Told[] = [];
          const tell = (one: Told) => void told.push(one);
          const run = async () => runAuditSession({ folder, tell, refused: onlyIo });
          await withFaultyFiles(folder, interfering(nth, way), run);
          assert.deepEqual(openBelow(folder), [], `${nth} ${what}: all files are closed`);
          await checkSession(folder, told, `${nth} ${what}`);
          await rm(folder, { recursive: true });
        }
      });
  });
