import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { byteStringOfText } from "../base/byte-string.ts";
import { SILENT_LOGGER } from "../base/log.ts";
import { SYSTEM_CLOCK } from "../base/system/clock.ts";
import { type Digest, sha256 } from "../core/digest/digest.ts";
import { DiskLocalStore } from "../store/local/disk-local-store.ts";
import { clean, printCleaned } from "./clean.ts";

test("what was freed is said in a line", () => {
  assert.equal(
    printCleaned({ records: 1, files: 3, bytes: 3_000_000, leftBytes: 5 * 1024 ** 3 }),
    "freed 2.9 MiB (1 record and 3 files); 5.0 GiB left\n",
  );
  assert.equal(
    printCleaned({ records: 0, files: 0, bytes: 0, leftBytes: 0 }),
    "freed 0 B (0 records and 0 files); nothing left\n",
  );
});

const replay = {
  lastReplays: async () => new Map<Digest, number>(),
  removeReplays: async () => assert.fail("a part goes, and the records of the rest stay"),
};

test("a project may be named through links, also when it is gone", async () => {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), "hpcc-clean-")));
  try {
    const [root, link, cache] = ["project", "link", "cache"].map((name) => join(folder, name)) as [
      string,
      string,
      string,
    ];
    mkdirSync(root);
    symlinkSync(root, link);
    const store = new DiskLocalStore({ root: cache, sizeBytesMax: 1e9, clock: SYSTEM_CLOCK, logger: SILENT_LOGGER });
    const key = sha256(Buffer.from("key"));
    const write = () => store.writeRecord(key, Buffer.from("r"), byteStringOfText(root), []);
    const removed = async (project: string) =>
      (await clean({ directories: { cache }, replay, clock: SYSTEM_CLOCK }, { project })).records;
    await write();
    assert.equal(await removed(join(folder, "other")), 0);
    assert.equal(await removed(link), 1);
    await write();
    rmSync(root, { recursive: true });
    assert.equal(await removed(root), 1);
    assert.equal(await store.readRecord(key), null);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
