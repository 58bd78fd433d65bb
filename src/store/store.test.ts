// One contract for every backend, then what only the disk can get wrong.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { readdirSync, statSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { zstdCompressSync } from "node:zlib";
import { watchSyncs } from "../../test/support/watched-syncs.ts";
import { ManualClock } from "../base/clock.ts";
import { SILENT_LOGGER } from "../base/log.ts";
import { FieldWriter } from "../core/action/fields.ts";
import { type Digest, digestHex, sha256 } from "../core/digest/digest.ts";
import { parseTenantId } from "../core/identity/spiffe.ts";
import type { Revocation } from "../core/revocation.ts";
import type { CachedAction, TenantStore } from "./action-cache.ts";
import type { BlobStore } from "./blob-store.ts";
import { DiskFiles, type WriteAt, writeAt } from "./disk/disk-files.ts";
import type { NotedRevocation, Swept } from "./disk/disk-revocations.ts";
import { DiskStore } from "./disk/disk-store.ts";
import { RevocationList } from "./disk/revocation-list.ts";
import { memoryStore } from "./memory/memory-store.ts";
import { inflate } from "./zstd-codec.ts";

const TENANT = parseTenantId("acme");
const SIZE_MAX = 16 * 1024 * 1024;

async function withFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "hpcc-store-"));
  try {
    await run(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function openDisk(root: string, options: { write?: WriteAt; cacheBytesMax?: number; clock?: ManualClock } = {}) {
  return DiskStore.open({ root, clock: new ManualClock(), logger: SILENT_LOGGER, ...options });
}

/** Runs with a tenant's store and a wait for what it does on its own. */
type Backend = (run: (store: TenantStore, settled: () => Promise<void>) => Promise<void>) => Promise<void>;

const BACKENDS: Record<string, Backend> = {
  memory: async (run) => run(memoryStore(), () => Promise.resolve()),
  disk: async (run) =>
    withFolder(async (folder) => {
      const store = await openDisk(folder);
      const settled = () => store.settled();
      try {
        await run(store.tenant(TENANT), settled);
      } finally {
        // Also where the test fails, or what is still written hides why.
        await settled();
      }
    }),
};

function refOf(bytes: Uint8Array) {
  return { digest: sha256(bytes), size: bytes.length };
}

async function* cut(bytes: Uint8Array, step: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += step) yield bytes.subarray(at, at + step);
}

async function read(blobs: BlobStore, digest: Digest): Promise<Uint8Array | null> {
  const found = await blobs.get(digest);
  if (found.kind === "miss") return null;
  const parts: Uint8Array[] = [];
  for await (const chunk of found.frame.chunks()) parts.push(chunk);
  await found.frame.close();
  const frame = Buffer.concat(parts);
  assert.equal(frame.length, found.frame.frameSize);
  return inflate(frame, found.frame.size);
}

const text = Buffer.from("int main(void) { return 0; }\n".repeat(400));
const noise = randomBytes(700_000);
const NOW = new ManualClock().wallMs();
const cached: CachedAction = {
  result: Buffer.from("result"),
  isolation: "qemu-tcg",
  life: "clean",
  compileUs: 1234,
  vm: "vm-1",
  worker: "w1",
  principal: "spiffe://example.com/tenant/acme/user/ann",
  image: sha256(Buffer.from("image")),
  row: null,
  madeMs: 1000,
  confirmedBy: null,
  statement: null,
};
const BREACH = { cause: "breach", askedBy: null } as const;
const OPERATOR = { cause: "operator", askedBy: "root" } as const;
const PEER = { cause: "peer", askedBy: "w2" } as const;
const vm = (value: string): Revocation => ({ kind: "vm", value, atMs: 2000 });

for (const [name, backend] of Object.entries(BACKENDS))
  describe(`the ${name} store keeps the contract`, () => {
    for (const [what, bytes] of Object.entries({ "small text": text, "large noise": noise })) {
      test(`${what}: put as a frame, at once and in pieces, and read back`, async () =>
        backend(async ({ blobs }) => {
          const frame = zstdCompressSync(bytes);
          const ref = refOf(bytes);
          assert.deepEqual(await blobs.get(ref.digest), { kind: "miss" });
          await blobs.putFrame(ref, frame, "cache");
          assert.notEqual(await blobs.frameSize(ref.digest, "cache"), null);
          assert.equal(await blobs.frameSize(ref.digest, "kept"), null);
          await blobs.putFrame(ref, cut(frame, 1000), "kept");
          assert.notEqual(await blobs.frameSize(ref.digest, "kept"), null);
          assert.deepEqual(await read(blobs, ref.digest), bytes);
        }));

      test(`${what}: put as bytes`, async () =>
        backend(async ({ blobs }) => {
          const ref = await blobs.putBytes(cut(bytes, 5000), "kept", SIZE_MAX);
          assert.deepEqual(ref, refOf(bytes));
          assert.deepEqual(await blobs.putBytes(bytes, "cache", SIZE_MAX), ref);
          assert.deepEqual(await read(blobs, ref.digest), bytes);
          assert.notEqual(await blobs.frameSize(ref.digest, "kept"), null);
        }));

      test(`${what}: frames that lie are refused and leave nothing`, async () =>
        backend(async ({ blobs }) => {
          const ref = refOf(bytes);
          const frame = zstdCompressSync(bytes);
          const longer = zstdCompressSync(Buffer.concat([bytes, bytes]));
          const hostile: [Uint8Array, string][] = [
            [Buffer.from("rubbish"), "no frame"],
            [new Uint8Array(), "nothing"],
            [frame.subarray(0, frame.length - 1), "cut short"],
            [Buffer.concat([frame, frame]), "two frames"],
            [Buffer.concat([frame, Buffer.from([0])]), "a byte too many"],
            [zstdCompressSync(bytes.subarray(1)), "less content"],
            [longer, "more content"],
            [zstdCompressSync(Buffer.from(bytes).fill(1)), "other content"],
          ];
          for (const [bad, why] of hostile)
            for (const source of [bad, cut(bad, 700)])
              await assert.rejects(blobs.putFrame(ref, source, "kept"), { code: "argument.invalid" }, why);
          assert.deepEqual(await blobs.get(ref.digest), { kind: "miss" });
        }));
    }

    test("a frame that inflates without end is refused", async () =>
      backend(async ({ blobs }) => {
        const bomb = zstdCompressSync(Buffer.alloc(64 * 1024 * 1024));
        const ref = { digest: sha256(new Uint8Array()), size: 300_000 };
        await assert.rejects(blobs.putFrame(ref, bomb, "kept"), { code: "argument.invalid" });
      }));

    test("a source that throws leaves nothing, and its error arrives", async () =>
      backend(async ({ blobs }) => {
        const failing = async function* () {
          yield zstdCompressSync(noise).subarray(0, 100_000);
          throw new TypeError("the sender has gone");
        };
        await assert.rejects(blobs.putFrame(refOf(noise), failing(), "kept"), /the sender has gone/);
        await assert.rejects(blobs.putBytes(failing(), "kept", SIZE_MAX), /the sender has gone/);
        assert.deepEqual(await blobs.get(refOf(noise).digest), { kind: "miss" });
      }));

    test("bytes above the limit are refused", async () =>
      backend(async ({ blobs }) => {
        await assert.rejects(blobs.putBytes(noise, "cache", 1000), { code: "limit.exceeded" });
        await assert.rejects(blobs.putBytes(cut(noise, 900), "cache", 1000), { code: "limit.exceeded" });
      }));

    test("a cached action is read back, with all that is known of who made it", async () =>
      backend(async ({ actions }) => {
        const key = sha256(Buffer.from("key"));
        assert.deepEqual(await actions.get(key), { kind: "miss" });
        const more = { row: sha256(text), confirmedBy: "vm-2", statement: Buffer.from("signed") };
        for (const action of [cached, { ...cached, ...more }, { ...cached, confirmedBy: "vm-2" }]) {
          await actions.put(key, action);
          const found = await actions.get(key);
          assert.ok(found.kind === "hit");
          const { result, statement } = found.action;
          const plain = { result: Buffer.from(result), statement: statement && Buffer.from(statement) };
          assert.deepEqual({ ...found.action, ...plain }, action);
        }
      }));

    test("what a revoked VM made is not found, nor kept afterwards; what others made is", async () =>
      backend(async ({ actions }, settled) => {
        const [bad, good, late] = ["bad", "good", "late"].map((name) => sha256(Buffer.from(name)));
        await actions.put(bad!, cached);
        await actions.put(good!, { ...cached, vm: "vm-2" });
        const revoking = actions.revoke(vm("vm-1"), BREACH);
        assert.equal((await actions.get(bad!)).kind, "miss", "at once");
        await revoking;
        await actions.put(late!, cached);
        assert.deepEqual(await Promise.all([bad, good, late].map(async (key) => (await actions.get(key!)).kind)), [
          "miss",
          "hit",
          "miss",
        ]);
        assert.equal(await actions.revoked(late!, cached), true);
        assert.equal(await actions.revoked(late!, { ...cached, vm: "vm-2" }), false);
        // A sweep that is looking at the entry takes it aside for that long.
        await settled();
        await actions.put(bad!, { ...cached, vm: "vm-3" });
        assert.equal((await actions.get(bad!)).kind, "hit", "another VM's takes its place");
      }));

    test("what a revoked VM confirmed is not found either, whenever it was made", async () =>
      backend(async ({ actions }) => {
        const key = sha256(Buffer.from("key"));
        for (const madeMs of [1, 5000]) {
          await actions.put(key, { ...cached, madeMs, confirmedBy: "vm-2" });
          await actions.revoke(vm("vm-2"), BREACH);
          assert.equal((await actions.get(key)).kind, "miss");
        }
      }));

    const keyOf = (name: string) => sha256(Buffer.from(name));
    for (const [kind, value] of [
      ["image", cached.image],
      ["principal", cached.principal],
      ["key", keyOf("1000")],
    ] as const)
      test(`a revoked ${kind}: what had begun to be made until then, and nothing of others or later`, async () =>
        backend(async ({ actions }) => {
          const other = {
            ...cached,
            image: keyOf("other image"),
            principal: "spiffe://example.com/tenant/acme/user/bob",
          };
          const found = async (name: string) => (await actions.get(keyOf(name))).kind;
          await actions.put(keyOf("1000"), cached);
          await actions.put(keyOf("other"), other);
          await actions.revoke({ kind, value, atMs: 2000 }, OPERATOR);
          assert.deepEqual([await found("1000"), await found("other")], ["miss", "hit"]);
          await actions.put(keyOf("1000"), { ...cached, madeMs: 2000 });
          assert.equal(await found("1000"), "miss", "it was on its way");
          await actions.put(keyOf("1000"), { ...cached, madeMs: await actions.stamp(1500) });
          assert.equal(await found("1000"), "hit", "it is made anew, also when the clock was set back");
          await actions.revoke({ kind, value, atMs: 1000 }, PEER);
          assert.equal(await found("1000"), "hit");
          await actions.revoke({ kind, value, atMs: 2 * NOW }, OPERATOR);
          assert.equal(await found("1000"), "miss");
        }));
  });

describe("the disk store takes back what is revoked", () => {
  const key = (name: string) => sha256(Buffer.from(name));
  const marked = async (folder: string, revocation: Revocation) =>
    new RevocationList({
      files: new DiskFiles(join(folder, TENANT)),
      worker: null,
      damaged: () => assert.fail("it is whole"),
      durable: () => undefined,
      nowMs: () => 0,
    }).add({ ...revocation, by: BREACH, heardMs: 0, sequence: 1 });

  test("in all of the tenant's entries and no other's, and remembers it", async () =>
    withFolder(async (folder) => {
      const told: string[] = [];
      const takenBack = ({ tenant, mark, entries }: Swept) => void told.push(`${tenant} ${mark.value} ${entries}`);
      const store = await DiskStore.open({ root: folder, clock: new ManualClock(), logger: SILENT_LOGGER, takenBack });
      const other = parseTenantId("other");
      for (let at = 0; at < 300; at += 1)
        await store.tenant(TENANT).actions.put(key(`${at}`), { ...cached, vm: `vm-${at % 3}` });
      await store.tenant(other).actions.put(key("0"), { ...cached, vm: "vm-0" });
      await Promise.all(["vm-0", "vm-1"].map(async (name) => store.tenant(TENANT).actions.revoke(vm(name), BREACH)));
      await store.settled();
      assert.deepEqual(told.sort(), ["acme vm-0 100", "acme vm-1 100"]);
      const left = await readdir(join(folder, TENANT, "actions"), { recursive: true });
      assert.equal(left.filter((name) => name.includes("/")).length, 100);
      assert.equal((await store.tenant(other).actions.get(key("0"))).kind, "hit");
      const next = (await openDisk(folder)).tenant(TENANT).actions;
      await next.put(key("0"), { ...cached, vm: "vm-0" });
      assert.equal((await next.get(key("0"))).kind, "miss", "a peer may have kept it");
    }));

  test("also when it was killed between the mark and the sweep", async () =>
    withFolder(async (folder) => {
      const { actions } = (await openDisk(folder)).tenant(TENANT);
      await actions.put(key("a"), cached);
      await actions.put(key("b"), { ...cached, vm: "vm-2" });
      // What the kill left: the mark, and every entry.
      await marked(folder, vm("vm-1"));
      const told: string[] = [];
      const takenBack = ({ mark, entries }: Swept) => void told.push(`${mark.value} ${mark.by.cause} ${entries}`);
      const reopen = () => DiskStore.open({ root: folder, clock: new ManualClock(), logger: SILENT_LOGGER, takenBack });
      const next = await reopen();
      assert.equal((await next.tenant(TENANT).actions.get(key("a"))).kind, "miss");
      await next.settled();
      assert.equal((await next.tenant(TENANT).actions.get(key("b"))).kind, "hit");
      const third = await reopen();
      await third.revocations.open();
      await third.settled();
      assert.deepEqual(told, ["vm-1 breach 1"], "and is done with it once");
      assert.deepEqual(await readdir(join(folder, TENANT, "actions", digestHex(key("a")).slice(0, 2))), []);
    }));

  test("and nothing that comes into the cache after the sweep", async () =>
    withFolder(async (folder) => {
      let hold = Promise.resolve();
      const entryWritten = Promise.withResolvers<void>();
      const write: WriteAt = async (handle, bytes, position) => {
        await writeAt(handle, bytes, position);
        const held = hold;
        hold = Promise.resolve();
        entryWritten.resolve();
        await held;
      };
      const store = await openDisk(folder, { write });
      const { actions } = store.tenant(TENANT);
      const { promise, resolve } = Promise.withResolvers<void>();
      hold = promise;
      const putting = actions.put(key("a"), cached);
      await entryWritten.promise;
      await actions.revoke(vm("vm-1"), BREACH);
      await store.settled();
      resolve();
      await putting;
      assert.deepEqual(await readdir(join(folder, TENANT, "actions", digestHex(key("a")).slice(0, 2))), []);
    }));

  test("for as long as it runs when the mark cannot be written", async () =>
    withFolder(async (folder) => {
      let full = false;
      const write: WriteAt = async (handle, bytes, position) => {
        if (full) throw Object.assign(new Error("no space left on device"), { code: "ENOSPC", errno: -28 });
        await writeAt(handle, bytes, position);
      };
      const store = await openDisk(folder, { write });
      const { actions } = store.tenant(TENANT);
      await actions.put(key("a"), cached);
      full = true;
      await assert.rejects(actions.revoke(vm("vm-1"), BREACH), { code: "store.io" });
      assert.equal((await actions.get(key("a"))).kind, "miss");
      await store.settled();
    }));

  test("and answers nothing at all while it cannot read what is revoked", async () =>
    withFolder(async (folder) => {
      await (await openDisk(folder)).tenant(TENANT).actions.put(key("a"), cached);
      await mkdir(join(folder, TENANT, "revocations"));
      const { actions } = (await openDisk(folder)).tenant(TENANT);
      await assert.rejects(actions.get(key("a")), { code: "store.io" });
      await rm(join(folder, TENANT, "revocations"), { recursive: true });
      assert.equal((await actions.get(key("a"))).kind, "hit");
    }));

  for (const [how, goOn] of [
    ["asked again", async ({ store }) => store.tenant(TENANT).actions.revoke(vm("vm-1"), BREACH)],
    ["tried again later", async ({ clock }) => clock.advance(60_000)],
  ] as readonly [string, (at: { store: DiskStore; clock: ManualClock }) => Promise<void>][])
    test(`and tells of it once when it could not be written down and is ${how}`, async () =>
      withFolder(async (folder) => {
        const told: string[] = [];
        const clock = new ManualClock();
        const revoked = ({ mark }: NotedRevocation) => void told.push(mark.value);
        const store = await DiskStore.open({ root: folder, clock, logger: SILENT_LOGGER, revoked });
        const { actions } = store.tenant(TENANT);
        await actions.put(key("a"), cached);
        const stands = join(folder, TENANT, "revocations");
        await actions.get(key("a"));
        await mkdir(join(stands, "in the way"), { recursive: true });
        await assert.rejects(actions.revoke(vm("vm-1"), BREACH), { code: "store.io" });
        await store.settled();
        assert.deepEqual([told, (await actions.get(key("a"))).kind], [[], "miss"]);
        await rm(stands, { recursive: true });
        await goOn({ store, clock });
        await store.settled();
        assert.deepEqual(told, ["vm-1"]);
        const next = await openDisk(folder);
        assert.equal(await next.tenant(TENANT).actions.revoked(key("a"), cached), true);
      }));

  test("and everything that is older when a byte of the list has changed", async () =>
    withFolder(async (folder) => {
      const path = join(folder, TENANT, "revocations");
      const first = await openDisk(folder);
      await first.tenant(TENANT).actions.revoke(vm("vm-1"), BREACH);
      await first.settled();
      const good = await readFile(path);
      for (const at of good.keys()) {
        await writeFile(path, Buffer.from(good).fill(good[at]! ^ 1, at, at + 1));
        const store = await openDisk(folder);
        const clock = new ManualClock();
        assert.equal(await store.tenant(TENANT).actions.revoked(key("a"), { ...cached, madeMs: clock.wallMs() }), true);
        assert.equal(
          await store.tenant(TENANT).actions.revoked(key("a"), { ...cached, madeMs: clock.wallMs() + 1 }),
          false,
        );
        assert.equal(store.counters.quarantined, 1);
        const again = await openDisk(folder);
        assert.equal(await again.tenant(TENANT).actions.revoked(key("a"), { ...cached, vm: "vm-3" }), true);
        assert.equal(again.counters.quarantined, 0);
      }
    }));

  test("of all tenants, those too that come later", async () =>
    withFolder(async (folder) => {
      const swept: string[] = [];
      const takenBack = ({ tenant, mark, entries }: Swept) => void swept.push(`${tenant} ${mark.kind} ${entries}`);
      const store = await DiskStore.open({ root: folder, clock: new ManualClock(), logger: SILENT_LOGGER, takenBack });
      const later = parseTenantId("later");
      await store.tenant(TENANT).actions.put(key("a"), cached);
      await store.revocations.revoke({ kind: "image", value: cached.image, atMs: 5000 }, OPERATOR, null);
      await store.settled();
      assert.deepEqual(swept, ["null image 1"]);
      for (const opened of [store, await openDisk(folder)]) {
        assert.equal(await opened.tenant(later).actions.revoked(key("b"), cached), true);
        assert.equal(await opened.tenant(later).actions.revoked(key("b"), { ...cached, madeMs: NOW + 1 }), false);
      }
    }));

  test("of one tenant, though another's results cannot be removed", async () =>
    withFolder(async (folder) => {
      const swept: string[] = [];
      let failed = 0;
      const told = {
        takenBack: ({ tenant, entries }: Swept) => void swept.push(`${tenant} ${entries}`),
        sweepFailed: () => void failed++,
      };
      const store = await DiskStore.open({ root: folder, clock: new ManualClock(), logger: SILENT_LOGGER, ...told });
      const other = parseTenantId("other");
      await mkdir(join(folder, TENANT));
      await writeFile(join(folder, TENANT, "actions"), "no folder");
      await store.tenant(TENANT).actions.revoke(vm("vm-1"), BREACH);
      await store.tenant(other).actions.put(key("a"), cached);
      await store.tenant(other).actions.revoke(vm("vm-1"), BREACH);
      await store.settled();
      assert.deepEqual(swept, ["other 1"]);
      assert.ok(failed > 0);
    }));

  test("and what is dated ahead, since a peer's clock is, and be it of the same thing", async () =>
    withFolder(async (folder) => {
      const clock = new ManualClock();
      const store = await openDisk(folder, { clock });
      const { actions } = store.tenant(TENANT);
      const image: Revocation = { kind: "image", value: cached.image, atMs: clock.wallMs() + 300_000 };
      await store.revocations.revoke(image, PEER, null);
      for (const tenant of [TENANT, null]) {
        const last = { ...cached, madeMs: await actions.stamp(clock.wallMs()) };
        assert.equal(await actions.revoked(key("a"), last), false);
        assert.notEqual(await store.revocations.revoke({ ...image, atMs: clock.wallMs() }, OPERATOR, tenant), null);
        assert.equal(await actions.revoked(key("a"), last), true);
      }
      await store.settled();
    }));

  test("and tells of each in order, also after a restart with the clock set back", async () =>
    withFolder(async (folder) => {
      const store = await openDisk(folder, { clock: new ManualClock(9000) });
      await store.tenant(TENANT).actions.revoke(vm("vm-1"), BREACH);
      await store.revocations.revoke(vm("vm-2"), OPERATOR, null);
      const next = await openDisk(folder, { clock: new ManualClock(5) });
      await next.revocations.open();
      await next.tenant(parseTenantId("other")).actions.revoke(vm("vm-3"), BREACH);
      const noted = await next.revocations.since(0);
      assert.deepEqual(
        noted.map(({ tenant, mark }) => [tenant, mark.value, `${mark.by.cause} ${mark.by.askedBy}`]),
        [
          ["acme", "vm-1", "breach null"],
          [null, "vm-2", "operator root"],
          ["other", "vm-3", "breach null"],
        ],
      );
      await Promise.all([store.settled(), next.settled()]);
      const rest = await next.revocations.since(noted[1]!.mark.sequence);
      assert.deepEqual(rest, noted.slice(2));
    }));
});

describe("what is kept is on the disk when it is said to be", () => {
  /** What is synced in the tenant's folder while something runs, with random parts of names told as what they are. */
  async function syncsDuring(run: (store: DiskStore, synced: readonly string[]) => Promise<void>): Promise<string[]> {
    const synced: string[] = [];
    await withFolder(async (folder) => {
      const root = join(folder, TENANT);
      const nameOf = (ino: number): string => {
        const names = [".", ...readdirSync(root, { recursive: true, encoding: "utf8" })];
        const name = names.find((path) => statSync(join(root, path)).ino === ino) ?? "unknown";
        return name.replace(/^tmp\/[0-9a-f]{24}$/, "tmp/NEW").replace(/\/[0-9a-f]{2}$/, "/FAN");
      };
      const store = await openDisk(folder);
      await watchSyncs(
        ({ ino }) => void synced.push(nameOf(ino)),
        () => run(store, synced),
      );
    });
    return synced;
  }
  const put = (retention: "kept" | "cache", size: number) =>
    syncsDuring(async (store) => {
      await store.tenant(TENANT).blobs.putBytes(cut(randomBytes(size), 65_536), retention, SIZE_MAX);
    });

  test("a kept blob before it has its name, and then every folder that is new", async () => {
    const [file, ...folders] = await put("kept", 100);
    assert.equal(file, "tmp/NEW");
    assert.deepEqual(folders.sort(), [".", "kept", "kept/FAN"]);
  });

  test("a large one piece by piece", async () => {
    const synced = await put("kept", 13 * 1024 * 1024);
    assert.ok(synced.filter((name) => name === "tmp/NEW").length >= 3, synced.join());
  });

  test("a result is not: losing it costs a compile", async () => {
    assert.deepEqual(await put("cache", 100), []);
  });

  test("what is revoked before it is said to be, and then the removal of the entries before the sweep is over", async () => {
    const synced = await syncsDuring(async (store, told) => {
      const { actions } = store.tenant(TENANT);
      await actions.put(sha256(Buffer.from("a")), cached);
      await actions.revoke(vm("vm-1"), BREACH);
      assert.deepEqual(told.slice(0, 2), ["tmp/NEW", "."]);
      await store.settled();
    });
    assert.deepEqual(synced.slice(2), ["actions/FAN", "tmp/NEW", "."]);
  });
});

describe("the disk store", () => {
  const entryPath = (root: string, area: string, digest: Digest) =>
    join(root, TENANT, area, digestHex(digest).slice(0, 2), digestHex(digest));

  test("keeps its entries when it is opened again, apart for each tenant", async () =>
    withFolder(async (folder) => {
      const ref = await (await openDisk(folder)).tenant(TENANT).blobs.putBytes(text, "kept", SIZE_MAX);
      const again = await openDisk(folder);
      assert.deepEqual(await read(again.tenant(TENANT).blobs, ref.digest), text);
      assert.deepEqual(await again.tenant(parseTenantId("other")).blobs.get(ref.digest), { kind: "miss" });
    }));

  test("removes what a killed process left, and nothing that is being written", async () =>
    withFolder(async (folder) => {
      const files = new DiskFiles(folder);
      await mkdir(join(folder, "tmp"));
      const name = "0f".repeat(12);
      const made = join(folder, "tmp", name);
      await writeFile(made, "");
      // As one that was given its time of change already, and not yet its name.
      await files.touch(made, Date.now() - 10 * 3_600_000);
      await files.removeLeftovers(Date.now() + 3_500_000);
      assert.deepEqual(await readdir(join(folder, "tmp")), [name]);
      await files.removeLeftovers(Date.now() + 3_601_000);
      assert.deepEqual(await readdir(join(folder, "tmp")), []);
    }));

  test("lets no other user of the machine read anything", async () =>
    withFolder(async (folder) => {
      const before = process.umask(0);
      try {
        const disk = await openDisk(join(folder, "store"));
        const { blobs, actions } = disk.tenant(TENANT);
        await blobs.putBytes(text, "kept", SIZE_MAX);
        const ref = await blobs.putBytes(noise, "cache", SIZE_MAX);
        await actions.put(ref.digest, cached);
        await truncate(entryPath(join(folder, "store"), "cache", ref.digest), 9);
        assert.equal((await blobs.get(ref.digest)).kind, "miss");
        const names = readdirSync(folder, { recursive: true, encoding: "utf8" });
        assert.ok(names.length > 8);
        for (const name of names) assert.equal(statSync(join(folder, name)).mode & 0o077, 0, name);
      } finally {
        process.umask(before);
      }
    }));

  test("sets any damaged entry aside, counts it, and misses", async () => {
    for (const bytes of [text, noise])
      await withFolder(async (folder) => {
        const disk = await openDisk(folder);
        const { blobs } = disk.tenant(TENANT);
        const ref = refOf(bytes);
        const path = entryPath(folder, "kept", ref.digest);
        let expected = 0;
        const damages: ((path: string) => Promise<void>)[] = [
          async (path) => truncate(path, 20),
          async (path) => truncate(path, 0),
          async (path) => truncate(path, 100),
          ...[0, 9, 17, 30, 57, 90].map((offset) => async (path: string) => {
            const content = await readFile(path);
            content[offset]! ^= 1;
            await writeFile(path, content);
          }),
        ];
        for (const damage of damages) {
          await blobs.putBytes(bytes, "kept", SIZE_MAX);
          await damage(path);
          assert.deepEqual(await blobs.get(ref.digest), { kind: "miss" });
          assert.equal(await blobs.frameSize(ref.digest, "kept"), null);
          assert.equal(disk.counters.quarantined, ++expected);
        }
        assert.equal((await readdir(join(folder, TENANT, "quarantine"))).length, damages.length);
      });
  });

  test("sets a damaged or misplaced action aside", async () =>
    withFolder(async (folder) => {
      const disk = await openDisk(folder);
      const { actions } = disk.tenant(TENANT);
      const [key, other] = [sha256(Buffer.from("key")), sha256(Buffer.from("other"))];
      await actions.put(key, cached);
      await actions.put(other, cached);
      await writeFile(entryPath(folder, "actions", other), await readFile(entryPath(folder, "actions", key)));
      await truncate(entryPath(folder, "actions", key), 50);
      assert.deepEqual(await actions.get(key), { kind: "miss" });
      assert.deepEqual(await actions.get(other), { kind: "miss" });
      assert.equal(disk.counters.quarantined, 2);
    }));

  test("sets an action aside of which any byte has changed, or that says more than it should", async () =>
    withFolder(async (folder) => {
      const disk = await openDisk(folder);
      const { actions } = disk.tenant(TENANT);
      const key = sha256(Buffer.from("key"));
      await actions.put(key, cached);
      const path = entryPath(folder, "actions", key);
      const good = await readFile(path);
      const body = good.subarray(0, -32);
      const longer = Buffer.concat([body, new FieldWriter().u32(9, 1).finish()]);
      const damaged = [...good.keys()].map((at) => Buffer.from(good).fill(good[at]! ^ 1, at, at + 1));
      const all = [...damaged, Buffer.concat([longer, createHash("sha256").update(longer).digest()])];
      for (const bytes of all) {
        await writeFile(path, bytes);
        assert.deepEqual(await actions.get(key), { kind: "miss" });
      }
      assert.equal(disk.counters.quarantined, all.length);
    }));

  test("misses what older versions kept, which does not say who made it, and leaves it alone", async () =>
    withFolder(async (folder) => {
      const disk = await openDisk(folder);
      const { actions } = disk.tenant(TENANT);
      const key = sha256(Buffer.from("key"));
      await actions.put(key, cached);
      const entry = (schema: string): Buffer => {
        const fields = new FieldWriter().ascii(1, schema).digest(2, key).bytes(3, cached.result).u32(4, 2);
        const body = fields.u64(5, cached.compileUs).ascii(6, cached.vm).finish();
        return Buffer.concat([body, createHash("sha256").update(body).digest()]);
      };
      for (const [schema, quarantined] of [
        ["hpcc.cached.v1", 0],
        ["hpcc.cached.v2", 0],
        ["hpcc.cached.v4", 1],
      ] as const) {
        await writeFile(entryPath(folder, "actions", key), entry(schema));
        assert.deepEqual(await actions.get(key), { kind: "miss" });
        assert.equal(disk.counters.quarantined, quarantined);
      }
      await actions.put(key, cached);
      assert.equal((await actions.get(key)).kind, "hit");
    }));

  test("a full disk fails the put, leaves no file, and serves what is there", async () =>
    withFolder(async (folder) => {
      let freeBytes = 100_000;
      const write: WriteAt = async (handle, bytes, position) => {
        freeBytes -= bytes.length;
        if (freeBytes < 0) throw Object.assign(new Error("no space left on device"), { code: "ENOSPC", errno: -28 });
        await writeAt(handle, bytes, position);
      };
      const { blobs, actions } = (await openDisk(folder, { write })).tenant(TENANT);
      const ref = await blobs.putBytes(text, "kept", SIZE_MAX);
      await assert.rejects(blobs.putBytes(noise, "kept", SIZE_MAX), { code: "store.io", details: { errno: "ENOSPC" } });
      await assert.rejects(blobs.putFrame(refOf(noise), cut(zstdCompressSync(noise), 9999), "kept"), {
        code: "store.io",
      });
      await assert.rejects(actions.put(ref.digest, cached), { code: "store.io" });
      assert.deepEqual(await readdir(join(folder, TENANT, "tmp")), []);
      assert.deepEqual(await read(blobs, ref.digest), text);
    }));

  test("evicts the least recently used of what may be lost, and nothing that is kept", async () =>
    withFolder(async (folder) => {
      const clock = new ManualClock(Date.now());
      const disk = await openDisk(folder, { cacheBytesMax: 500_000, clock });
      const { blobs } = disk.tenant(TENANT);
      const kept = await blobs.putBytes(randomBytes(600_000), "kept", SIZE_MAX);
      const refs = [];
      for (let i = 0; i < 8; i++) {
        refs.push(await blobs.putBytes(randomBytes(100_000), "cache", SIZE_MAX));
        clock.advance(3_600_000);
        if (i >= 1) await read(blobs, refs[0]!.digest);
        await disk.settled();
      }
      assert.ok(disk.counters.evicted >= 3);
      assert.notEqual(await blobs.frameSize(kept.digest, "kept"), null);
      assert.notEqual(await blobs.frameSize(refs[0]!.digest, "cache"), null);
      assert.equal(await blobs.frameSize(refs[1]!.digest, "cache"), null);
    }));
});
