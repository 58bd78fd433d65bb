// Room for images: what goes, what stays, and what crashes and other processes leave.
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { rawTar, writeLayout } from "../../test/support/oci-layout.ts";
import { type Digest, digestHex } from "../core/digest/digest.ts";
import { ImageStore } from "./image-store.ts";

const MIB = 1024 ** 2;
const DAY_MS = 86_400_000;

function emptyStore(t: TestContext): ImageStore {
  const folder = mkdtempSync(join(tmpdir(), "hpcc-evict-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return new ImageStore(folder);
}

/** An image of about a mebibyte that was used so many days ago, pulled unless `pulledAs` is null. */
async function put(store: ImageStore, name: string, daysAgo: number, pulledAs: string | null = `r.example/${name}:1`) {
  const made = join(store.folder, "oci", `made-${name}`);
  mkdirSync(made, { recursive: true });
  const content = Buffer.alloc(MIB, name);
  const digest = await writeLayout(made, {
    layers: [{ tar: rawTar([{ name: "usr/bin/gcc", content, mode: 0o755 }]) }],
  });
  renameSync(made, join(store.folder, "oci", digestHex(digest)));
  await store.leases.keepRecord(digest, { pulledAs });
  used(store, digest, daysAgo);
  return digest;
}

function used(store: ImageStore, digest: Digest, daysAgo: number): void {
  const at = new Date(Date.now() - daysAgo * DAY_MS);
  utimesSync(store.leases.recordPath(digestHex(digest)), at, at);
}

const here = (store: ImageStore) => readdirSync(join(store.folder, "oci")).map((name) => `sha256:${name}` as Digest);

test("the longest unused images go until the others fit, with all that was made of them", async (t) => {
  const store = emptyStore(t);
  const [old, older, fresh] = [await put(store, "old", 5), await put(store, "older", 9), await put(store, "fresh", 2)];
  for (const digest of [old, older]) {
    await store.rootfs(digest);
    mkdirSync(join(store.folder, "headers", `${digestHex(digest)}.1`), { recursive: true });
    writeFileSync(join(store.folder, "headers", `${digestHex(digest)}.1.stamp`), "");
    await store.leases.release(digest);
    used(store, digest, digest === old ? 5 : 9);
  }
  const [first] = await store.uses();
  assert.equal(first!.digest, older);
  assert.ok(first!.bytes > 2 * MIB, "layout and unpacked root");
  const told = await store.evict({ bytesMax: 4 * MIB, keepMs: DAY_MS }, true);
  assert.deepEqual([told.evicted.map(({ digest }) => digest), here(store).length], [[older], 3]);
  const { evicted, bytesAfter } = await store.evict({ bytesMax: 4 * MIB, keepMs: DAY_MS });
  assert.deepEqual(
    evicted.map(({ digest }) => digest),
    [older],
  );
  assert.deepEqual(here(store).sort(), [old, fresh].sort());
  assert.ok(bytesAfter <= 4 * MIB);
  assert.equal(readdirSync(join(store.folder, "headers")).filter((name) => name.endsWith(".stamp")).length, 1);
  for (const part of ["rootfs", "headers", "squashfs", "uses"])
    assert.ok(!readdirSync(join(store.folder, part)).some((name) => name.includes(digestHex(older))), part);
});

test("what is in use, pinned, made here, or used lately stays, whatever room others need", async (t) => {
  const store = emptyStore(t);
  const inUse = await put(store, "in-use", 50);
  await store.hold(inUse);
  used(store, inUse, 50);
  const pinned = await put(store, "pinned", 50);
  await store.pin(pinned, true);
  used(store, pinned, 50);
  const made = await put(store, "made", 50, null);
  const lately = await put(store, "lately", 0.5);
  const { evicted } = await store.evict({ bytesMax: 0, keepMs: DAY_MS });
  assert.deepEqual(evicted, []);
  assert.deepEqual(here(store).sort(), [inUse, pinned, made, lately].sort());
  await store.leases.release(inUse);
  await store.pin(pinned, false);
  used(store, pinned, 50);
  const now = await store.evict({ bytesMax: 0, keepMs: DAY_MS });
  assert.deepEqual(now.evicted.map(({ digest }) => digest).sort(), [inUse, pinned].sort());
});

/** A process that holds an image until it is killed. */
async function holder(store: ImageStore, digest: Digest): Promise<ChildProcess> {
  const source = `
    import { ImageStore } from ${JSON.stringify(join(import.meta.dirname, "image-store.ts"))};
    await new ImageStore(${JSON.stringify(store.folder)}).hold(${JSON.stringify(digest)});
    process.stdout.write("held");
    setInterval(() => {}, 1000);
  `;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", source], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(child.stdout, "data");
  return child;
}

test("another process that uses an image keeps it, and one that was killed keeps nothing", async (t) => {
  const store = emptyStore(t);
  const digest = await put(store, "held", 50);
  const child = await holder(store, digest);
  used(store, digest, 50);
  assert.deepEqual((await store.evict({ bytesMax: 0, keepMs: 0 })).evicted, []);
  child.kill("SIGKILL");
  await once(child, "exit");
  assert.equal((await store.evict({ bytesMax: 0, keepMs: 0 })).evicted.length, 1);
  assert.deepEqual([here(store), readdirSync(join(store.folder, "leases"))], [[], []]);
});

test("what a shell of `hpcc run` has mounted stays, also when the daemon that held it is gone", async (t) => {
  const store = emptyStore(t);
  const digest = await put(store, "mounted", 50);
  const rootfs = await store.rootfs(digest);
  await store.leases.release(digest);
  used(store, digest, 50);
  const words = ["--mount", "--map-root-user", "sh", "-c", 'mount --bind "$0/usr" /mnt && echo in && cat', rootfs];
  const shell = spawn("unshare", words, { stdio: ["pipe", "pipe", "inherit"] });
  t.after(() => shell.stdin.destroy());
  await once(shell.stdout, "data");
  assert.deepEqual((await store.evict({ bytesMax: 0, keepMs: 0 })).evicted, []);
  // Of the same image in another folder nothing is mounted.
  const other = emptyStore(t);
  assert.equal(await put(other, "mounted", 50), digest);
  await other.rootfs(digest);
  await other.leases.release(digest);
  used(other, digest, 50);
  assert.deepEqual(
    (await other.uses()).map(({ inUse }) => inUse),
    [false],
  );
  assert.equal((await other.evict({ bytesMax: 0, keepMs: 0 })).evicted.length, 1);
  shell.stdin.end();
  await once(shell, "close");
  assert.equal((await store.evict({ bytesMax: 0, keepMs: 0 })).evicted.length, 1);
});

test("several who make room at once take each image away once, and what a crash left goes with the next", async (t) => {
  const store = emptyStore(t);
  const digests = [];
  for (let at = 0; at < 6; at += 1) digests.push(await put(store, `image-${at}`, 10 + at));
  mkdirSync(join(store.folder, "rootfs/.evict-left/usr"), { recursive: true });
  writeFileSync(join(store.folder, "rootfs/.evict-left/usr/file"), "x");
  const stores = [store, new ImageStore(store.folder), new ImageStore(store.folder)];
  const reports = await Promise.all(stores.map((one) => one.evict({ bytesMax: 2 * MIB + MIB / 2, keepMs: DAY_MS })));
  const gone = reports.flatMap(({ evicted }) => evicted.map(({ digest }) => digest));
  assert.deepEqual(gone.sort(), digests.slice(2).sort());
  assert.deepEqual(here(store).sort(), digests.slice(0, 2).sort());
  assert.ok(!existsSync(join(store.folder, "rootfs/.evict-left")));
});
