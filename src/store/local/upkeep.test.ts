// What `hpcc clean` removes and `hpcc stats` counts, beside an open store.
import assert from "node:assert/strict";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { type ByteString, byteStringOfText } from "../../base/byte-string.ts";
import { ManualClock } from "../../base/clock.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { type Digest, sha256 } from "../../core/digest/digest.ts";
import { DiskLocalStore } from "./disk-local-store.ts";
import { cleanLocalStore, localStoreFigures } from "./upkeep.ts";

const DAY_MS = 86_400_000;
const GIBIBYTE = 1024 ** 3;
const ONE = byteStringOfText("/src/one");
const NESTED = byteStringOfText("/src/one/nested");
const OTHER = byteStringOfText("/src/one-more");

interface Filled {
  readonly cache: string;
  readonly clock: ManualClock;
  readonly store: DiskLocalStore;
  /** Which of the records are there, by the names that they were written under. */
  readonly left: () => Promise<string>;
  readonly shared: Digest;
}

const keyOf = (name: string) => sha256(Buffer.from(name));

/** Records a, b, c, d, a day apart, each with a file of its own and one that all share. */
async function filled(run: (bench: Filled) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "hpcc-upkeep-"));
  const cache = join(folder, "cache");
  const clock = new ManualClock(Date.now() - 10 * DAY_MS);
  const store = new DiskLocalStore({ root: cache, sizeBytesMax: GIBIBYTE, clock, logger: SILENT_LOGGER });
  try {
    const { digest: shared } = await store.keepBytes(Buffer.from("shared"));
    const projects: Record<string, ByteString | null> = { a: ONE, b: NESTED, c: OTHER, d: null };
    for (const [name, project] of Object.entries(projects)) {
      const own = await store.keepBytes(Buffer.from(name.repeat(10_000)));
      await store.writeRecord(keyOf(name), Buffer.from(name), project, [shared, own.digest]);
      clock.advance(DAY_MS);
    }
    const left = async () => {
      const names = [];
      for (const name of Object.keys(projects)) {
        const record = await store.readRecord(keyOf(name));
        const own = await store.find(sha256(Buffer.from(name.repeat(10_000))));
        assert.equal(own === null, record === null, name);
        if (record !== null) names.push(name);
      }
      return names.join("");
    };
    await run({ cache, clock, store, left, shared });
  } finally {
    await rm(folder, { recursive: true });
  }
}

test("figures count records and files, by project, shared files for each", () =>
  filled(async ({ cache, clock }) => {
    const own = 12_288;
    const figures = await localStoreFigures(cache, 7);
    assert.deepEqual(
      { ...figures, oldestUseMs: null },
      {
        bytes: 4 * (own + 4096) + 4096,
        bytesMax: 7,
        records: 4,
        files: 5,
        oldestUseMs: null,
        projects: [null, ONE, OTHER, NESTED]
          .sort((a, b) => (String(a) < String(b) ? -1 : 1))
          .map((root) => ({ root, records: 1, bytes: own + 2 * 4096 })),
      },
    );
    assert.ok(Math.abs(figures.oldestUseMs! - (clock.wallMs() - 4 * DAY_MS)) <= 1);
  }));

test("all goes when nothing is chosen", () =>
  filled(async ({ cache, clock, store, left, shared }) => {
    const before = await localStoreFigures(cache, 7);
    const cleaned = await cleanLocalStore(cache, { unusedMs: null, project: null }, clock);
    assert.deepEqual(cleaned, { records: 4, files: 5, bytes: before.bytes, leftBytes: 0 });
    assert.equal(await left(), "");
    assert.equal(await store.find(shared), null);
    await store.keepBytes(Buffer.from("shared"));
    assert.notEqual(await store.find(shared), null);
  }));

for (const [what, choice, expected] of [
  ["not used for two days", { unusedMs: 2.5 * DAY_MS, project: null }, "cd"],
  ["of one project and those below", { unusedMs: null, project: ONE }, "cd"],
  ["of a nested project", { unusedMs: null, project: NESTED }, "acd"],
  ["below the root folder", { unusedMs: null, project: byteStringOfText("/") }, "d"],
  ["of one project, that is old too", { unusedMs: 3.5 * DAY_MS, project: ONE }, "bcd"],
  ["of a project that has nothing", { unusedMs: null, project: byteStringOfText("/src/on") }, "abcd"],
] as const)
  test(`what is ${what} goes, and what others use stays`, () =>
    filled(async ({ cache, clock, left, shared, store }) => {
      const before = await localStoreFigures(cache, 7);
      const cleaned = await cleanLocalStore(cache, choice, clock);
      assert.equal(cleaned.records, 4 - expected.length);
      assert.equal(cleaned.leftBytes, before.bytes - cleaned.bytes);
      assert.equal((await localStoreFigures(cache, 7)).bytes, cleaned.leftBytes);
      assert.equal(await left(), expected);
      assert.notEqual(await store.find(shared), null);
    }));

test("what was used lately is not old", () =>
  filled(async ({ cache, clock, store, left }) => {
    await store.readRecord(keyOf("a"));
    await cleanLocalStore(cache, { unusedMs: 2.5 * DAY_MS, project: null }, clock);
    assert.equal(await left(), "acd");
  }));

test("without a store there is nothing to count or remove, and none is made", async () => {
  const cache = join(tmpdir(), "hpcc-no-such-cache");
  const figures = await localStoreFigures(cache, 7);
  assert.deepEqual([figures.bytes, figures.records, figures.projects], [0, 0, []]);
  const cleaned = await cleanLocalStore(cache, { unusedMs: null, project: null }, new ManualClock());
  assert.equal(cleaned.bytes, 0);
  assert.ok(!existsSync(cache));
});

test("what was replayed lately is not old", () =>
  filled(async ({ cache, clock, left }) => {
    const used = new Map([[keyOf("a"), clock.wallMs() - DAY_MS]]);
    await cleanLocalStore(cache, { unusedMs: 2.5 * DAY_MS, project: null, used }, clock);
    assert.equal(await left(), "acd");
  }));

test("a folder that has other things in it loses none of them", () =>
  filled(async ({ cache, clock, store }) => {
    const names = ["thesis.txt", "files/ab/thesis.txt", "v1/thesis.txt", "v1/tmp/thesis.txt", "v1/files/thesis.txt"];
    const odd = [
      "v1/records/ab/thesis.txt",
      "v1/records/ab/folder/thesis.txt",
      "v1/files/zz/thesis.txt",
      `v1/files/zz/${"a".repeat(64)}`,
    ];
    const mine = [...names, ...odd].map((name) => join(cache, name));
    for (const path of mine) {
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, "mine");
    }
    await cleanLocalStore(cache, { unusedMs: null, project: null }, clock);
    await localStoreFigures(cache, 7);
    await store.keepBytes(Buffer.from("more"));
    await store.settled();
    assert.deepEqual(
      mine.filter((path) => !existsSync(path)),
      [],
    );
    // Backups leave out what is the store's, and not what stands beside it.
    assert.deepEqual(
      [existsSync(join(cache, "CACHEDIR.TAG")), existsSync(join(cache, "v1/CACHEDIR.TAG"))],
      [false, true],
    );
  }));
