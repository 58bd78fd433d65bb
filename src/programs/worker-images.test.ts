import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { SILENT_LOGGER } from "../base/log.ts";
import type { WorkerConfig } from "../config/worker.ts";
import { openWorkerImages } from "./worker-images.ts";

test("rules of images.trust that serve nothing are told, and a key that is used must be there", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "hpcc-worker-images-"));
  t.after(async () => rm(folder, { recursive: true }));
  const unused: unknown[] = [];
  const logger = {
    ...SILENT_LOGGER,
    warn: (event: string, fields?: object) => void unused.push({ event, ...fields }),
  };
  const open = async (repositories: readonly string[], rules: readonly (readonly [string, string])[]) => {
    unused.length = 0;
    const trust = rules.map(
      ([repository, path]) => ({ repository, by: "key", path, identities: [], issuer: null }) as const,
    );
    const imageFetch = { repositories, allowed: [], trust, deadlineMs: 1000, bytesMax: 1 };
    const config = { imageLayouts: [], imageDir: folder, imageFetch } as unknown as WorkerConfig;
    await (await openWorkerImages({}, config, logger)).close();
  };
  const told = (repository: string, path: string) => ({ event: "worker.images.rule_unused", repository, path });

  await open([], [["r.example/team/gcc", "/none.pub"]]);
  assert.deepEqual(unused, [told("r.example/team/gcc", "/none.pub")]);
  await assert.rejects(open(["r.example/team/*"], [["r.example/team/gcc", "/none.pub"]]), {
    code: "config.invalid",
    message: "images.trust names /none.pub, which cannot be read",
  });
  assert.deepEqual(unused, []);
  const key = "/key.pub";
  const rules = [
    ["r.example/*", key],
    ["r.example/team/gcc", key],
    ["r.example/team", key],
    ["r.example/*", "/second.pub"],
    ["q.example/*", key],
  ] as const;
  await assert.rejects(open(["r.example/team/*"], rules), { code: "config.invalid" });
  assert.deepEqual(unused, [told("r.example/team", key), told("r.example/*", "/second.pub"), told("q.example/*", key)]);
});
