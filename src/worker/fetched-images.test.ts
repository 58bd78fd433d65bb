// A worker that fetches what jobs name: once, for whoever may, and from nowhere that its operator does not list.
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync, utimesSync } from "node:fs";
import type { ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { HostileRegistry } from "../../test/support/hostile-registry.ts";
import { rawTar, writeLayout } from "../../test/support/oci-layout.ts";
import { TestWorker } from "../../test/support/test-worker.ts";
import { ManualClock } from "../base/clock.ts";
import { HpccError } from "../base/errors.ts";
import { SILENT_LOGGER } from "../base/log.ts";
import { type Digest, sha256 } from "../core/digest/digest.ts";
import type { FetchRules } from "../core/image/fetch-rules.ts";
import { parseRepositoryPattern } from "../core/image/repository-pattern.ts";
import type { TrustRule } from "../core/image/trust.ts";
import { ImageStore, type Judge } from "../image/image-store.ts";
import type { VmEvent } from "../vm/vm-event.ts";
import { FetchedImages } from "./fetched-images.ts";
import { LayoutImages } from "./images.ts";

const HELLO = { path: "/hpcc/project/hello.c", content: "int answer(void) { return 42; }\n" };
const NEVER = { signal: new AbortController().signal };

async function site(t: TestContext, rules: Partial<Pick<FetchRules, "allowed">> = {}, judge: Judge = () => undefined) {
  const folder = mkdtempSync(join(tmpdir(), "hpcc-fetched-"));
  const registry = await HostileRegistry.start();
  const layout = join(folder, "made");
  const digest = await writeLayout(layout, {
    layers: [{ tar: rawTar([{ name: "usr/bin/gcc", content: "x".repeat(100_000), mode: 0o755 }]) }],
  });
  registry.serveLayout(layout, "12");
  const repository = `${registry.host}/team/toolchain`;
  const clock = new ManualClock();
  const arrived: Digest[] = [];
  const trust: TrustRule[] = [];
  const limits = { bytesMax: 2 ** 30, keepMs: 86_400_000 };
  const images = new FetchedImages({
    images: new LayoutImages(join(folder, "images")),
    store: new ImageStore(join(folder, "images")),
    rules: {
      allowed: [digest],
      trust,
      ...rules,
      repositories: [repository, `${registry.host}/made-up/*`].map(parseRepositoryPattern),
    },
    judge: () => judge,
    env: { HOME: folder },
    limits,
    deadlineMs: 30_000,
    changed: (one) => arrived.push(one),
    clock,
    logger: SILENT_LOGGER,
  });
  t.after(async () => {
    await images.close();
    await registry[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  });
  const blobs = () => registry.asked.filter((line) => line.includes("/blobs/")).length;
  const wanted = { tenant: "acme", digest, repository, isListed: false };
  return { folder, registry, digest, repository, wanted, clock, arrived, images, trust, limits, blobs };
}

const fails = (code: string) => (error: unknown) => error instanceof HpccError && error.code === code;

/** The registry answers nothing before it is let go on. */
function hold(registry: HostileRegistry): () => void {
  const held: (() => void)[] = [];
  let open = false;
  registry.trick = (request, response: ServerResponse) => {
    if (open) return false;
    held.push(() => {
      // Asked again from the start.
      response.writeHead(503).end();
    });
    request.on("error", () => undefined);
    return true;
  };
  return () => {
    open = true;
    for (const one of held) one();
  };
}

test("jobs of several tenants wait for one fetch, and then all of them run", async (t) => {
  const at = await site(t);
  const worker = await TestWorker.start(t, {}, { images: at.images });
  const letGo = hold(at.registry);
  const image = { repository: at.repository, waitMs: 60_000 };
  const clients = await Promise.all(["acme/user/ann", "other/user/bob"].map((who) => worker.client(`tenant/${who}`)));
  const jobs = clients.flatMap((client) =>
    [1, 2, 3].map(async (n) => {
      const files = [{ ...HELLO, content: `int answer(void) { return ${n}; }\n` }];
      return client.compile({ ...(await worker.job({ files, image: at.digest })), image }, NEVER);
    }),
  );
  letGo();
  for (const { exitCode } of await Promise.all(jobs)) assert.equal(exitCode, 0);
  assert.equal(at.blobs(), 2, "the layer and the configuration, once each");
  assert.deepEqual([at.arrived, at.images.digests], [[at.digest], [at.digest]]);
});

test("a job that does not wait is told that the image is on its way, and a later one runs", async (t) => {
  const at = await site(t);
  const worker = await TestWorker.start(t, {}, { images: at.images });
  const client = await worker.client();
  const image = { repository: at.repository, waitMs: 0 };
  const job = { ...(await worker.job({ files: [HELLO], image: at.digest })), image };
  const letGo = hold(at.registry);
  await assert.rejects(client.compile(job, NEVER), fails("image.fetching"));
  assert.equal((await worker.jobRows()).at(-1)!.envelope["note"], "image.fetching");
  letGo();
  await at.images.fetch(at.wanted);
  assert.equal((await client.compile(job, NEVER)).exitCode, 0);
});

test("a hint that the operator does not list, and an image that nobody vouches for, ask no registry", async (t) => {
  const at = await site(t, { allowed: [] });
  const worker = await TestWorker.start(t, {}, { images: at.images });
  const client = await worker.client();
  const named = async (repository: string) => ({
    ...(await worker.job({ files: [HELLO], image: at.digest })),
    image: { repository, waitMs: 60_000 },
  });
  await assert.rejects(client.compile(await named(at.repository), NEVER), fails("image.forbidden"));
  await assert.rejects(client.compile(await named(`${at.registry.host}/other/gcc`), NEVER), fails("image.missing"));
  await assert.rejects(client.compile(await named("169.254.169.254/a/b"), NEVER), fails("image.missing"));
  await assert.rejects(client.compile(await named(""), NEVER), fails("image.forbidden"));
  assert.deepEqual(at.registry.asked, []);
});

test("a signature is judged before a layer comes, and what it refuses is not asked for again at once", async (t) => {
  let refused = 0;
  let isRefused = true;
  const at = await site(t, { allowed: [] }, () => {
    if (!isRefused) return;
    refused += 1;
    throw new HpccError("image.untrusted", "not signed");
  });
  at.trust.push({ repository: at.repository, by: "key", path: "team.pub", identities: [], issuer: null });
  await assert.rejects(at.images.fetch(at.wanted), fails("image.untrusted"));
  assert.throws(() => at.images.fetch(at.wanted), fails("image.untrusted"));
  assert.deepEqual([refused, at.blobs()], [1, 0]);
  assert.deepEqual(at.images.digests, []);
  isRefused = false;
  at.clock.advance(60_001);
  await at.images.fetch(at.wanted);
  assert.deepEqual(at.images.digests, [at.digest]);
});

test("what was fetched before is offered again without its registry, where it needs no signature", async (t) => {
  const at = await site(t);
  await at.images.fetch(at.wanted);
  const again = await site(t, { allowed: [at.digest] });
  const images = new FetchedImages({
    images: new LayoutImages(join(at.folder, "images")),
    store: new ImageStore(join(at.folder, "images")),
    rules: { repositories: [parseRepositoryPattern("127.0.0.1:1/gone/gcc")], allowed: [at.digest], trust: [] },
    judge: () => () => undefined,
    env: { HOME: at.folder },
    limits: { bytesMax: 2 ** 30, keepMs: 0 },
    deadlineMs: 30_000,
    changed: () => undefined,
    clock: again.clock,
    logger: SILENT_LOGGER,
  });
  await images.fetchListed();
  assert.deepEqual(images.digests, [at.digest]);
  await images.close();
});

test("a worker that ends leaves a fetch that the next one goes on with, and no more are begun", async (t) => {
  const at = await site(t);
  hold(at.registry);
  const coming = at.images.fetch(at.wanted);
  coming.catch(() => undefined);
  await at.images.close();
  await assert.rejects(coming);
  assert.equal(existsSync(join(at.folder, "images/oci")), false);
  assert.deepEqual(at.arrived, []);
});

/** A day passes for an image that nobody uses. */
function unused(at: { readonly folder: string }, digest: Digest): void {
  const past = new Date(Date.now() - 2 * 86_400_000);
  utimesSync(join(at.folder, "images/uses", `${digest.slice(7)}.json`), past, past);
}

test("an image makes room for another one, but not while a VM of it lives", async (t) => {
  const at = await site(t);
  const other = join(at.folder, "other");
  const content = "y".repeat(100_000);
  const second = await writeLayout(other, {
    layers: [{ tar: rawTar([{ name: "usr/bin/gcc", content, mode: 0o755 }]) }],
  });
  at.registry.serveLayout(other, "13");
  at.limits.bytesMax = 450_000;
  await at.images.fetch(at.wanted);
  const wanted = { ...at.wanted, digest: second, isListed: true };
  await at.images.vmEvent(vm("booted", at.digest));
  unused(at, at.digest);
  await assert.rejects(at.images.fetch(wanted), fails("limit.exceeded"));
  await at.images.vmEvent(vm("destroyed", at.digest));
  unused(at, at.digest);
  at.clock.advance(60_001);
  await at.images.fetch(wanted);
  assert.deepEqual(at.images.digests, [second]);
  assert.deepEqual(at.arrived, [at.digest, at.digest, second], "come, gone, and the other one come");
});

function vm(t: "booted" | "destroyed", image: Digest): VmEvent {
  return { t, vm: { id: "vm-1" }, owner: { image } } as VmEvent;
}

test("an image that a person took away is offered no longer once a job finds it gone", async (t) => {
  const at = await site(t);
  await at.images.fetch(at.wanted);
  rmSync(join(at.folder, "images/oci"), { recursive: true });
  await assert.rejects(at.images.rootfs(at.digest), fails("image.fetching"));
  assert.deepEqual(at.images.digests, []);
  await at.images.fetch(at.wanted);
  assert.deepEqual(at.images.digests, [at.digest]);
});

test("of a long list every image is fetched ahead of need, whatever becomes of those before it", async (t) => {
  const absent = Array.from({ length: 20 }, (_, index) => sha256(Buffer.from(`absent ${index}`)));
  const allowed = [...absent];
  const at = await site(t, { allowed });
  allowed.push(at.digest);
  await at.images.fetchListed();
  assert.deepEqual(at.images.digests, [at.digest]);
});

test("a tenant who says that images are where nothing comes from holds up nobody else, not for the same image either", async (t) => {
  const at = await site(t);
  const held: ServerResponse[] = [];
  at.registry.trick = (request, response) => {
    if (request.url?.includes("/made-up/") !== true) return false;
    held.push(response);
    return true;
  };
  const madeUp = (n: number) => ({ ...at.wanted, tenant: "evil", repository: `${at.registry.host}/made-up/${n}` });
  const coming = Array.from({ length: 9 }, (_, n) => at.images.fetch(madeUp(n)));
  for (const one of coming) one.catch(() => undefined);
  assert.throws(() => at.images.fetch(madeUp(9)), fails("image.fetching"));
  await at.images.fetch(at.wanted);
  assert.deepEqual(at.images.digests, [at.digest]);
  assert.equal(held.length, 1, "of his, one was asked for");
});

test("what failed at one repository is asked for at another one", async (t) => {
  const at = await site(t);
  at.registry.trick = (request, response) => {
    const isMadeUp = request.url?.includes("/made-up/") === true;
    if (isMadeUp) response.writeHead(404).end();
    return isMadeUp;
  };
  const elsewhere = { ...at.wanted, repository: `${at.registry.host}/made-up/gcc` };
  await assert.rejects(at.images.fetch(elsewhere), fails("image.missing"));
  assert.throws(() => at.images.fetch(elsewhere), fails("image.missing"));
  await at.images.fetch(at.wanted);
  assert.deepEqual(at.images.digests, [at.digest]);
});
