// A team's image by way of a real registry: pushed from one home, pulled in two others and by a worker, it is the same image, so that what
// the worker compiled for one user answers another one's calls.
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { Farm, type User } from "../support/farm.ts";
import { ImageRegistry } from "../support/image-registry.ts";
import { jobRows } from "../support/job-rows.ts";

const TEST_MS = 300_000;

test("who pulls a team's image shares results with whoever else pulled it, and the worker fetches it itself", {
  timeout: TEST_MS,
}, async () => {
  await using registry = await ImageRegistry.start({ passwords: true });
  const farm = new Farm();
  try {
    await farm.init();
    const { digest } = await farm.image("e2e");
    const name = `${registry.host}/team/toolchain:12`;
    await farm.startScheduler();
    const imageFolder = join(farm.folder, "worker-images");
    for (const home of [farm.folder, imageFolder]) mkdirSync(home, { recursive: true });
    const knowRegistry = (home: string) => {
      registry.trustIn(home);
      registry.logIn(home);
    };
    knowRegistry(farm.folder);
    const worker = await farm.startWorker("w", {
      layouts: [],
      repositories: [`${registry.host}/team/*`],
      imageFolder,
      policy: `[tenants.acme]\nimages = ["${digest}"]\nsharing = "clean"\n`,
    });

    const maker = await farm.addUser("maker", { images: [digest] });
    knowRegistry(maker.folder);
    const pushed = await maker.hpcc(["image", "push", name, "--image", digest]);
    assert.equal(pushed.code, 0, pushed.stderr);

    let lock: Buffer | null = null;
    const build = async (user: User, folder: string) => {
      const project = join(user.folder, folder);
      mkdirSync(project, { recursive: true });
      writeFileSync(join(project, "hpcc.toml"), `image = "${name}"\n`);
      writeFileSync(join(project, "a.c"), `#include <stdio.h>\nint a(void) { return puts("team's image"); }\n`);
      if (lock !== null) writeFileSync(join(project, "hpcc.lock"), lock);
      const images = join(user.folder, "images");
      user.env["HPCC_IMAGE_DIR"] = images;
      knowRegistry(user.folder);
      for (const words of [...(lock === null ? [["image", "update"]] : []), ["image", "pull"]]) {
        const ran = await user.hpcc(words, { cwd: project });
        assert.equal(ran.code, 0, ran.stderr);
      }
      lock = readFileSync(join(project, "hpcc.lock"));
      assert.ok(lock.includes(`"${digest}"`));
      assert.ok(existsSync(join(images, "oci", digest.slice("sha256:".length))), "the same digest");
      const compiled = await user.hpcc(["gcc", "-O2", "-c", "a.c", "-o", "a.o"], { cwd: project });
      assert.equal(compiled.code, 0, compiled.stderr);
      const { outcomes, reasons } = await user.stats();
      const happened = Object.keys(outcomes).filter((outcome) => outcomes[outcome] !== 0);
      return { happened, reasons, object: readFileSync(join(project, "a.o")) };
    };
    const first = await build(await farm.addUser("alice", { images: [digest], fallback: "none" }), "one");
    assert.deepEqual([first.happened, first.reasons], [["remote_compiled"], {}]);
    const second = await build(await farm.addUser("bob", { images: [digest], fallback: "none" }), "at/another path");
    assert.deepEqual([second.happened, second.reasons], [["remote_hit"], {}]);
    assert.ok(second.object.equals(first.object));
    const rows = (await jobRows(worker)).map(({ kind, imageDigest }) => [kind, imageDigest]);
    assert.deepEqual(rows, [
      ["compile", digest],
      ["hit", digest],
    ]);
    assert.ok(existsSync(join(imageFolder, "oci", digest.slice("sha256:".length))), "the worker fetched it");
  } finally {
    await farm.close();
  }
});
