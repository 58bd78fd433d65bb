// The contract of the local store, then what a disk, other processes and whoever else writes there can do to it.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import {
  chmodSync,
  existsSync,
  globSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { SmallDisk } from "../../../test/support/full-disk.ts";
import { ascii, byteStringOf, byteStringOfText, bytesOf } from "../../base/byte-string.ts";
import { ManualClock } from "../../base/clock.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { digestHex, sha256 } from "../../core/digest/digest.ts";
import { DiskLocalStore } from "./disk-local-store.ts";

const GIBIBYTE = 1024 ** 3;
const HOUR_MS = 3_600_000;
const KEY = sha256(Buffer.from("a key"));
const PROJECT = byteStringOfText("/home/ann/projekt-ä");

interface Bench {
  readonly folder: string;
  readonly cache: string;
  /** What this version of the layout has of it. */
  readonly root: string;
  readonly clock: ManualClock;
  readonly open: (sizeBytesMax?: number) => DiskLocalStore;
}

async function onDisk(run: (bench: Bench) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "hpcc-local-"));
  const cache = join(folder, "cache");
  const clock = new ManualClock(Date.now());
  const open = (sizeBytesMax = GIBIBYTE) =>
    new DiskLocalStore({ root: cache, sizeBytesMax, clock, logger: SILENT_LOGGER });
  try {
    await run({ folder, cache, root: join(cache, "v1"), clock, open });
  } finally {
    await rm(folder, { recursive: true });
  }
}

const everything = (root: string) =>
  globSync("**/*", { cwd: root }).filter((name) => statSync(join(root, name)).isFile());
const leftovers = (root: string) => everything(root).filter((name) => name.startsWith("tmp/"));
const textOf = (path: Parameters<typeof bytesOf>[0]) => readFileSync(bytesOf(path)).toString();

describe("a kept file", () => {
  test("has the bytes of its source, is the user's alone, and is found by each process", () =>
    onDisk(async ({ folder, root, open }) => {
      const source = join(folder, "a.o");
      for (const [size, mode] of [
        [0, 0o600],
        [10, 0o444],
        [100_000, 0o755],
        [9_000_000, 0o600],
      ] as const) {
        const bytes = randomBytes(size);
        writeFileSync(source, bytes);
        chmodSync(source, mode);
        const kept = await open().keepFile(byteStringOfText(source));
        assert.deepEqual([kept.digest, kept.sizeBytes], [sha256(bytes), size]);
        assert.ok(readFileSync(bytesOf(kept.path)).equals(bytes));
        assert.equal(statSync(bytesOf(kept.path)).mode & 0o777, 0o600);
        assert.deepEqual(await open().find(kept.digest), kept);
        rmSync(source);
      }
      assert.equal(statSync(root).mode & 0o777, 0o700);
      assert.deepEqual(leftovers(root), []);
    }));

  test("is one file however it came, and its path need not be UTF-8", () =>
    onDisk(async ({ folder, root, open }) => {
      const store = open();
      const source = Buffer.concat([Buffer.from(folder), Buffer.from([0x2f, 0xff, 0xfe])]);
      writeFileSync(source, "the same");
      const first = await store.keepFile(byteStringOf(source));
      const inode = statSync(bytesOf(first.path)).ino;
      assert.deepEqual(await store.keepBytes(Buffer.from("the same")), first);
      assert.deepEqual(await store.keepFile(byteStringOf(source)), first);
      assert.equal(statSync(bytesOf(first.path)).ino, inode);
      assert.equal(everything(root).filter((name) => name.startsWith("files/")).length, 1);
    }));

  test("must be a regular file that is there and not too large", () =>
    onDisk(async ({ folder, root, open }) => {
      const store = open(1_000_000);
      await assert.rejects(store.keepFile(byteStringOfText(join(folder, "none"))), { code: "store.io" });
      await assert.rejects(store.keepFile(byteStringOfText(folder)), { code: "store.io" });
      await assert.rejects(store.keepBytes(randomBytes(600_000)), { code: "limit.exceeded" });
      await store.settled();
      assert.deepEqual(leftovers(root), []);
    }));

  test("that was not touched is found without being read", () =>
    onDisk(async ({ open }) => {
      const store = open();
      const { digest, path } = await store.keepBytes(Buffer.from("read me not"));
      await store.writeRecord(KEY, Buffer.from("r"), null, [digest]);
      const other = open();
      assert.notEqual(await other.readRecord(KEY), null);
      const atime = () => statSync(bytesOf(path), { bigint: true }).atimeNs;
      const before = atime();
      for (const process of [store, other]) assert.notEqual(await process.find(digest), null);
      assert.equal(atime(), before);
      // Whoever knows nothing of it reads it once.
      assert.notEqual(await open().find(digest), null);
      assert.notEqual(atime(), before);
    }));
});

const BYTES = Buffer.from("int main(void) { return 0; }\n".repeat(200));

/** What befalls a kept file, within one tick of the clock where times are not given back. */
const DAMAGES: Record<string, (path: string) => void> = {
  "cut short": (path) => truncateSync(path, 100),
  emptied: (path) => truncateSync(path, 0),
  "written over, its size kept": (path) => writeFileSync(path, Buffer.alloc(BYTES.length, 120)),
  "longer by a byte": (path) => writeFileSync(path, "\n", { flag: "a" }),
  "written over, its size and times kept": (path) => {
    const { atime, mtime } = statSync(path);
    writeFileSync(path, Buffer.alloc(BYTES.length, 120));
    utimesSync(path, atime, mtime);
  },
  "replaced by another, its size and times kept": (path) => {
    const { atime, mtime } = statSync(path);
    writeFileSync(`${path}.new`, Buffer.alloc(BYTES.length, 120));
    utimesSync(`${path}.new`, atime, mtime);
    renameSync(`${path}.new`, path);
  },
  "replaced by a folder": (path) => {
    rmSync(path);
    mkdirSync(path);
    writeFileSync(join(path, "inside"), "");
  },
  "replaced by a link to another file": (path) => {
    renameSync(path, `${path}.elsewhere`);
    symlinkSync(`${path}.elsewhere`, path);
  },
};

describe("a kept file that was", () => {
  for (const [what, damage] of Object.entries(DAMAGES))
    test(`${what} is removed, missed and kept anew`, () =>
      onDisk(async ({ open }) => {
        const store = open();
        const { digest, path } = await store.keepBytes(BYTES);
        await store.writeRecord(KEY, Buffer.from("r"), null, [digest]);
        const file = bytesOf(path).toString();
        const reader = open();
        const stranger = open();
        await reader.readRecord(KEY);
        for (const finder of [store, reader, stranger]) {
          // Times can be given back; that of the change itself cannot, once the clock has ticked.
          if (what.endsWith("times kept")) await ticked(file);
          damage(file);
          assert.equal(await finder.find(digest), null, what);
          assert.equal(finder.counters.damaged, 1);
          assert.ok(!existsSync(file));
          await finder.keepBytes(BYTES);
          assert.ok(readFileSync(file).equals(BYTES));
          assert.notEqual(await store.find(digest), null);
        }
      }));

  test("given other times alone is kept", () =>
    onDisk(async ({ open }) => {
      const { digest, path } = await open().keepBytes(BYTES);
      utimesSync(bytesOf(path), 1, 1);
      const store = open();
      assert.notEqual(await store.find(digest), null);
      assert.equal(store.counters.damaged, 0);
      assert.ok(readFileSync(bytesOf(path)).equals(BYTES));
    }));
});

/** Resolves once a change made now would have a later time than the last one of a file. */
async function ticked(path: string): Promise<void> {
  const { ctimeNs } = statSync(path, { bigint: true });
  const probe = `${path}.probe`;
  for (;;) {
    writeFileSync(probe, "");
    if (statSync(probe, { bigint: true }).ctimeNs > ctimeNs) return rmSync(probe);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

describe("a record", () => {
  test("is read back by each process, and replaced", () =>
    onDisk(async ({ root, open }) => {
      const store = open();
      assert.equal(await store.readRecord(KEY), null);
      const { digest } = await store.keepBytes(BYTES);
      for (const body of [randomBytes(0), randomBytes(300_000), Buffer.from("short")]) {
        await store.writeRecord(KEY, body, PROJECT, [digest, digest]);
        for (const reader of [store, open()]) assert.deepEqual(Buffer.from((await reader.readRecord(KEY))!), body);
      }
      assert.equal(statSync(join(root, "records", digestHex(KEY).slice(0, 2), digestHex(KEY))).mode & 0o777, 0o600);
    }));

  test("may name a file that is gone", () =>
    onDisk(async ({ open }) => {
      const gone = sha256(Buffer.from("gone"));
      await open().writeRecord(KEY, BYTES, null, [gone]);
      const store = open();
      assert.deepEqual(Buffer.from((await store.readRecord(KEY))!), BYTES);
      assert.equal(await store.find(gone), null);
    }));

  test("with any byte changed, or cut anywhere, is removed and missed", () =>
    onDisk(async ({ root, open }) => {
      const store = open();
      const path = join(root, "records", digestHex(KEY).slice(0, 2), digestHex(KEY));
      await store.writeRecord(KEY, Buffer.from("the body"), PROJECT, [KEY]);
      const whole = readFileSync(path);
      let damaged = 0;
      for (let at = 0; at < whole.length; at++)
        for (const bytes of [whole.subarray(0, at), whole.with(at, whole[at]! ^ 1)]) {
          writeFileSync(path, bytes);
          assert.equal(await store.readRecord(KEY), null, `byte ${at}`);
          assert.ok(!existsSync(path));
          assert.equal(store.counters.damaged, ++damaged);
        }
      const other = sha256(Buffer.from("another key"));
      await store.writeRecord(other, Buffer.from("the body"), null, []);
      mkdirSync(join(path, ".."), { recursive: true });
      renameSync(join(root, "records", digestHex(other).slice(0, 2), digestHex(other)), path);
      assert.equal(await store.readRecord(KEY), null, "that of another key");
    }));
});

test("a folder that is others', or open to them, is not used", () =>
  onDisk(async ({ cache, root, open }) => {
    mkdirSync(root, { recursive: true, mode: 0o700 });
    const store = open();
    for (const folder of [cache, root]) {
      chmodSync(folder, 0o777);
      await assert.rejects(store.keepBytes(BYTES), { code: "store.io" });
      chmodSync(folder, 0o755);
    }
    assert.notEqual(await store.keepBytes(BYTES), null);
  }));

const NEEDS_ROOT = process.getuid?.() === 0 ? {} : { skip: "only root can mount a small disk" };

test("a full disk fails the write, leaves nothing behind, and passes", NEEDS_ROOT, () =>
  onDisk(async ({ folder, cache, root, open }) => {
    const source = join(folder, "source");
    writeFileSync(source, randomBytes(200_000));
    using disk = new SmallDisk(cache, { mebibytes: 2 });
    const store = open();
    const before = await store.keepBytes(BYTES);
    await store.writeRecord(KEY, Buffer.from("before"), null, [before.digest]);
    await store.settled();
    for (const fill of [() => disk.fillBytes(), () => disk.fillFiles()]) {
      fill();
      const there = everything(root);
      await assert.rejects(store.keepFile(byteStringOfText(source)), { code: "store.io" });
      await assert.rejects(store.keepBytes(randomBytes(70_000)), { code: "store.io" });
      await assert.rejects(store.writeRecord(sha256(BYTES), randomBytes(70_000), null, []), { code: "store.io" });
      assert.deepEqual(everything(root), there);
      assert.deepEqual(Buffer.from((await store.readRecord(KEY))!).toString(), "before");
      assert.equal(textOf((await store.find(before.digest))!.path), BYTES.toString());
      disk.free();
    }
    const kept = await store.keepFile(byteStringOfText(source));
    assert.deepEqual(await open().find(kept.digest), kept);
  }),
);

test("what a killed process left is swept when it is old, and not before", () =>
  onDisk(async ({ root, clock, open }) => {
    mkdirSync(join(root, "tmp"), { recursive: true, mode: 0o700 });
    const left = "0123456789abcdef01234567";
    for (const name of [left, "thesis.txt"]) writeFileSync(join(root, "tmp", name), "half a fi");
    const sweep = async () => {
      const store = open();
      await store.find(KEY);
      await store.settled(); // a count of the store writes a file of its own
    };
    await sweep();
    assert.deepEqual(leftovers(root), [`tmp/${left}`, "tmp/thesis.txt"]);
    clock.advance(2 * HOUR_MS);
    await sweep();
    assert.deepEqual(leftovers(root), ["tmp/thesis.txt"], "what the store did not make stays");
  }));

test("the least recently used goes first, and with it the files that nobody else uses", () =>
  onDisk(async ({ root, clock, open }) => {
    const store = open(1_000_000);
    const shared = await store.keepBytes(Buffer.from("shared by all"));
    const keys = [];
    for (let i = 0; i < 30; i++) {
      const key = sha256(Buffer.from(`key ${i}`));
      const own = await store.keepBytes(randomBytes(60_000));
      await store.writeRecord(key, Buffer.from("r"), null, [shared.digest, own.digest]);
      keys.push({ key, own });
      clock.advance(HOUR_MS);
      assert.notEqual(await store.readRecord(keys[0]!.key), null, "in use all the time");
      await store.settled();
    }
    assert.ok(store.counters.evictedRecords > 10, JSON.stringify(store.counters));
    const alive = [];
    for (const { key, own } of keys) {
      const record = await store.readRecord(key);
      assert.equal((await store.find(own.digest)) !== null, record !== null);
      alive.push(record !== null);
    }
    assert.equal(alive[0], true);
    assert.ok(alive.lastIndexOf(false) < alive.indexOf(true, 1), "none that was used later went before");
    assert.notEqual(await store.find(shared.digest), null);
    assert.ok(sizeOnDisk(root) <= 1_010_000, String(sizeOnDisk(root)));
  }));

function sizeOnDisk(root: string): number {
  return everything(root).reduce((sum, name) => sum + statSync(join(root, name)).size, 0);
}

test("files that no record came to use go first", () =>
  onDisk(async ({ clock, open }) => {
    const store = open(1_000_000);
    const unused = [];
    for (let i = 0; i < 5; i++) unused.push(await store.keepBytes(randomBytes(100_000)));
    clock.advance(2 * HOUR_MS);
    const used = await store.keepBytes(randomBytes(100_000));
    await store.writeRecord(KEY, Buffer.from("r"), null, [used.digest]);
    for (let i = 0; i < 5; i++) await store.keepBytes(randomBytes(100_000));
    await store.settled();
    for (const { digest } of unused) assert.equal(await store.find(digest), null);
    assert.notEqual(await store.find(used.digest), null);
  }));

describe("the estimate of the size", () => {
  test("is known without a walk by the next process, and found by one when it is lost or damaged", () =>
    onDisk(async ({ root, open }) => {
      const first = open();
      for (let i = 0; i < 20; i++) await first.keepBytes(randomBytes(5_000));
      await first.close();
      const usage = join(root, "usage");
      const walks = async () => {
        const store = open();
        await store.find(KEY);
        await store.settled();
        return store.counters.walks;
      };
      assert.equal(await walks(), 0);
      for (const damage of [
        () => rmSync(usage),
        () => writeFileSync(usage, "rubbish"),
        () => truncateSync(usage, 25),
        () => writeFileSync(usage, randomBytes(4_000)),
      ]) {
        damage();
        assert.equal(await walks(), 1);
        assert.equal(await walks(), 0);
      }
    }));

  test("is taken anew each day", () =>
    onDisk(async ({ clock, open }) => {
      const first = open();
      await first.keepBytes(BYTES);
      await first.close();
      clock.advance(25 * HOUR_MS);
      const store = open();
      await store.find(KEY);
      await store.settled();
      assert.equal(store.counters.walks, 1);
    }));

  test("makes processes evict what others wrote", () =>
    onDisk(async ({ root, open }) => {
      const [one, two] = [open(1_000_000), open(1_000_000)];
      for (let i = 0; i < 60; i++)
        for (const store of [one, two]) {
          const { digest } = await store.keepBytes(randomBytes(20_000));
          await store.writeRecord(digest, Buffer.from("r"), null, [digest]);
          await store.settled();
        }
      assert.ok(sizeOnDisk(root) <= 1_100_000, String(sizeOnDisk(root)));
    }));
});

test("a file in the place of a folder stays, and is a miss and an error of the store, no more", () =>
  onDisk(async ({ root, open }) => {
    const store = open();
    const { digest } = await store.keepBytes(BYTES);
    await store.close();
    const fan = join(root, "files", digestHex(digest).slice(0, 2));
    rmSync(fan, { recursive: true });
    writeFileSync(fan, "in the way");
    rmSync(join(root, "usage"));
    const other = open();
    assert.equal(await other.find(digest), null);
    await other.settled();
    await assert.rejects(other.keepBytes(BYTES), { code: "store.io" });
    assert.equal(readFileSync(fan, "latin1"), "in the way");
  }));

test("any order of uses is as a model of it says", () => {
  const content = fc.nat({ max: 7 });
  const step = fc.oneof(
    fc.record({ do: fc.constant("keep" as const), content, asFile: fc.boolean() }),
    fc.record({ do: fc.constant("write" as const), key: content, content, uses: fc.array(content, { maxLength: 3 }) }),
    fc.record({
      do: fc.constant("damage" as const),
      content,
      how: fc.constantFrom(...Object.keys(DAMAGES).slice(0, 4)),
    }),
    fc.record({ do: fc.constant("lose" as const), key: content }),
    fc.record({ do: fc.constant("reopen" as const) }),
  );
  return fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25 }), (steps) =>
      onDisk(async ({ folder, root, open }) => {
        const bytes = (n: number) => Buffer.from(`content ${n} `.repeat(40 * n + 20));
        const key = (n: number) => sha256(Buffer.from(`key ${n}`));
        const [files, records] = [new Set<number>(), new Map<number, number>()];
        let store = open();
        for (const now of steps) {
          if (now.do === "keep") {
            writeFileSync(join(folder, "source"), bytes(now.content));
            if (now.asFile) await store.keepFile(byteStringOfText(join(folder, "source")));
            else await store.keepBytes(bytes(now.content));
            files.add(now.content);
          } else if (now.do === "write") {
            const uses = now.uses.map((n) => sha256(bytes(n)));
            await store.writeRecord(key(now.key), bytes(now.content), now.content > 3 ? PROJECT : null, uses);
            records.set(now.key, now.content);
          } else if (now.do === "damage" && files.has(now.content)) {
            const hex = digestHex(sha256(bytes(now.content)));
            const path = join(root, "files", hex.slice(0, 2), hex);
            const was = readFileSync(path);
            DAMAGES[now.how]!(path);
            if (!readFileSync(path).equals(was)) files.delete(now.content);
          } else if (now.do === "lose") {
            const hex = digestHex(key(now.key));
            rmSync(join(root, "records", hex.slice(0, 2), hex), { force: true });
            records.delete(now.key);
          } else if (now.do === "reopen") store = open();
          for (let n = 0; n < 8; n++) {
            const record = await store.readRecord(key(n));
            const written = records.get(n);
            assert.deepEqual(
              record === null ? null : Buffer.from(record),
              written === undefined ? null : bytes(written),
            );
            const found = await store.find(sha256(bytes(n)));
            assert.equal(found !== null, files.has(n), `file ${n}`);
            if (found !== null) assert.equal(textOf(found.path), bytes(n).toString());
          }
        }
      }),
    ),
    { numRuns: 40 },
  );
});

test("the empty project is none, and names are bytes", () =>
  onDisk(async ({ open }) => {
    await open().writeRecord(KEY, BYTES, ascii(""), []);
    assert.notEqual(await open().readRecord(KEY), null);
  }));
