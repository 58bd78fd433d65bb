// Images that a project's calls bring to this machine by themselves, and those that they must not.
import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { HostileRegistry } from "../../test/support/hostile-registry.ts";
import { rawTar, writeLayout } from "../../test/support/oci-layout.ts";
import { ascii, byteStringOfText } from "../base/byte-string.ts";
import { ManualClock } from "../base/clock.ts";
import { SILENT_LOGGER } from "../base/log.ts";
import { resolveDirectories } from "../config/directories.ts";
import { parseImageName } from "../core/image/image-name.ts";
import { ociPlatform } from "../core/image/platform.ts";
import { ImageStore } from "../image/image-store.ts";
import { NamespaceKeeper } from "../vm/namespace/namespace-keeper.ts";
import { LongWork } from "./call/long-work.ts";
import { ImagePulls } from "./image-pulls.ts";
import { ProjectRegistry } from "./project-registry.ts";

async function machine(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), "hpcc-pulls-"));
  const registry = await HostileRegistry.start();
  const layout = join(folder, "made");
  const digest = await writeLayout(layout, {
    layers: [{ tar: rawTar([{ name: "usr/bin/gcc", content: "x".repeat(10_000), mode: 0o755 }]) }],
  });
  registry.serveLayout(layout, "12");
  const repository = `${registry.host}/team/toolchain`;
  const clock = new ManualClock();
  const images = new ImageStore(join(folder, "images"));
  const pulls = new ImagePulls({ images, env: { HOME: folder }, clock, logger: SILENT_LOGGER });
  const name = parseImageName(`${repository}:12`);
  const namespaces = new NamespaceKeeper({ logger: SILENT_LOGGER });
  t.after(async () => {
    await namespaces.close();
    await pulls.close();
    await registry[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  });
  return { folder, registry, digest, repository, clock, images, pulls, name, namespaces };
}

test("calls that want one image share one pull, and find it unpacked", async (t) => {
  const { pulls, name, digest, registry, images } = await machine(t);
  const wanted = { name, digest, trust: [], bytesMax: 2 ** 30 };
  const running = Array.from({ length: 20 }, () => pulls.pull(wanted));
  assert.deepEqual(pulls.list(), [{ image: digest, progress: running[0]!.progress() }]);
  assert.match(running[0]!.progress(), /^127\.0\.0\.1:\d+\/team\/toolchain:12, asking its registry$/);
  await Promise.all(running.map(({ done }) => done));
  assert.deepEqual(pulls.list(), []);
  assert.equal(registry.asked.filter((line) => line.includes("/blobs/")).length, 2);
  assert.ok(existsSync(join(await images.rootfs(digest), "usr/bin/gcc")));
});

test("what failed is told to each call for a while, and then tried again", async (t) => {
  const { pulls, name, digest, registry, clock } = await machine(t);
  const wanted = { name, digest, trust: [], bytesMax: 2 ** 30 };
  registry.trick = (_request, response) => {
    response.writeHead(404).end();
    return true;
  };
  await assert.rejects(pulls.pull(wanted).done, { code: "image.missing" });
  const asked = registry.asked.length;
  assert.throws(() => pulls.pull(wanted), { code: "image.missing" });
  assert.equal(registry.asked.length, asked);
  registry.trick = () => false;
  clock.advance(30_001);
  await pulls.pull(wanted).done;
});

test("what failed, or hangs, at one repository is no other one's fault, and failures are forgotten in the end", async (t) => {
  const { pulls, name, digest, registry } = await machine(t);
  const wanted = { name, digest, trust: [], bytesMax: 2 ** 30 };
  registry.trick = (request, response) => {
    if (request.url?.includes("/gone/") === true) response.writeHead(404).end();
    return /\/(?:gone|slow)\//.test(request.url ?? "");
  };
  const at = (path: string) => ({ ...wanted, name: { ...name, repository: path } });
  pulls.pull(at("slow/gcc")).done.catch(() => undefined);
  await assert.rejects(pulls.pull(at("gone/gcc")).done, { code: "image.missing" });
  assert.throws(() => pulls.pull(at("gone/gcc")), { code: "image.missing" });
  for (let n = 0; n < 256; n += 1) await assert.rejects(pulls.pull(at(`gone/gcc${n}`)).done, { code: "image.missing" });
  await assert.rejects(pulls.pull(at("gone/gcc")).done, { code: "image.missing" }, "asked for anew");
  await pulls.pull(wanted).done;
});

/** A project of that user's, with a lock. */
function project(at: Awaited<ReturnType<typeof machine>>, config: string, pinned = at.repository) {
  const { folder, images, pulls, digest, namespaces } = at;
  const root = join(folder, "project");
  mkdirSync(root, { recursive: true });
  writeFileSync(join(root, "hpcc.toml"), `image = "${pinned}:12"\n`);
  writeFileSync(
    join(root, "hpcc.lock"),
    `version = 1\n[[image]]\nname = "${pinned}:12"\n[image.platforms]\n"${ociPlatform()}" = "${digest}"\n`,
  );
  const userConfig = join(folder, "config.toml");
  writeFileSync(userConfig, config);
  const env = { HOME: folder, HPCC_RUNTIME_DIR: join(folder, "run"), HPCC_IMAGE_DIR: images.folder };
  const directories = { ...resolveDirectories(env, process.getuid!()), userConfig };
  const registry = new ProjectRegistry({
    directories,
    images,
    pulls,
    namespaces,
    longWork: new LongWork(new ManualClock()),
    logger: SILENT_LOGGER,
  });
  const environment = Object.entries(env).map(([variable, value]) => ascii(`${variable}=${value}`));
  const call = { argv: [ascii("gcc")], cwd: byteStringOfText(root), environment };
  return (isInside = false) =>
    registry.find(call, isInside ? { root: byteStringOfText(realpathSync(root)), imageDigest: digest } : null);
}

test("an image that the user allowed is brought from a repository that he named", async (t) => {
  const at = await machine(t);
  const allowed = `images.allowed = ["${at.digest}"]\nimages.repositories = ["${at.registry.host}/team/*"]\n`;
  const state = await project(at, allowed)();
  assert.ok(state.kind === "unusable" && state.coming !== undefined);
  assert.match(state.message, /^image sha256:\w+ is not on this machine yet: 127\.0\.0\.1:\d+\/team\/toolchain:12, /);
  await state.coming.pull.done;
  assert.ok(await at.images.isHere(at.digest));
});

for (const [what, config] of [
  ["a repository that the user did not name", (at: { digest: string }) => `images.allowed = ["${at.digest}"]\n`],
  [
    "pulling that is turned off",
    (at: { digest: string; registry: HostileRegistry }) =>
      `images.pull = false\nimages.allowed = ["${at.digest}"]\nimages.repositories = ["${at.registry.host}/team/*"]\n`,
  ],
  [
    "an image that nobody allowed",
    (at: { registry: HostileRegistry }) => `images.repositories = ["${at.registry.host}/team/*"]\n`,
  ],
] as const)
  test(`no host is asked for ${what}`, async (t) => {
    const at = await machine(t);
    const state = await project(at, config(at))();
    assert.ok(state.kind === "unusable" && state.coming === undefined);
    assert.deepEqual([at.registry.asked, at.pulls.list()], [[], []]);
  });

test("a signature that is missing comes with the image, and one that is not there is an error", async (t) => {
  const at = await machine(t);
  const { publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  writeFileSync(join(at.folder, "team.pub"), publicKey.export({ type: "spki", format: "pem" }));
  const find = project(at, `[[images.trust]]\nrepository = "${at.repository}"\nkey = "team.pub"\n`);
  const state = await find();
  assert.ok(state.kind === "unusable" && state.coming !== undefined);
  await assert.rejects(state.coming.pull.done, { code: "image.untrusted" });
  assert.equal(await at.images.isHere(at.digest), false);
  const told = await find();
  assert.ok(told.kind === "unusable" && told.coming === undefined);
  assert.match(told.message, /cannot be pulled: image sha256:\w+ of .* is not signed/);
});

test("calls of a command in the image hold it and look at it, as calls from outside do", async (t) => {
  const at = await machine(t);
  const allowed = `images.allowed = ["${at.digest}"]\nimages.repositories = ["${at.registry.host}/team/*"]\n`;
  const find = project(at, allowed);
  const state = await find();
  assert.ok(state.kind === "unusable" && state.coming !== undefined);
  await state.coming.pull.done;
  const renewed = t.mock.method(at.images, "renew");
  const inside = await find(true);
  assert.ok(inside.kind === "bound", JSON.stringify(inside));
  assert.deepEqual(
    renewed.mock.calls.map(({ arguments: [digest] }) => digest),
    [at.digest],
  );
});
