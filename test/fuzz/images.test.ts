// Everything that is read from an image or a registry, fed with drawn inputs: none hangs, none crashes, none leaves a byte outside of the
// store. HPCC_TEST_INPUTS says how many, HPCC_TEST_SEED which; a failure names seed and index, and HPCC_TEST_INPUT runs one alone.
import assert from "node:assert/strict";
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import type { ImageWork, ImageWorkSaid } from "./image-worker.ts";

const SEED = Number(process.env["HPCC_TEST_SEED"] ?? 20261125) | 0;
const ONE = process.env["HPCC_TEST_INPUT"];
const INPUTS = Number(process.env["HPCC_TEST_INPUTS"] ?? 2_000);
/** The store and all around it are looked at after so many. */
const BATCH = 10_000;
/** None takes a tenth of it; one that takes all of it hangs. */
const HANG_MS = 60_000;

/** What is in a folder: names, types, modes, content, times. */
function picture(folder: string): string {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .map((name) => {
      const path = join(folder, name);
      const found = lstatSync(path);
      return `${path} ${found.mode} ${found.mtimeMs} ${found.isFile() ? readFileSync(path, "latin1") : ""}`;
    })
    .sort()
    .join("\n");
}

async function batch(work: Omit<ImageWork, "at">): Promise<ImageWorkSaid> {
  const at = new SharedArrayBuffer(4);
  const seen = new Int32Array(at);
  const worker = new Worker(new URL("./image-worker.ts", import.meta.url), { workerData: { ...work, at } });
  let last = -1;
  const hung = Promise.withResolvers<ImageWorkSaid>();
  const watch = setInterval(() => {
    const now = Atomics.load(seen, 0);
    if (now === last) hung.resolve({ t: "failed", index: now, why: `it took more than ${HANG_MS} ms` });
    last = now;
  }, HANG_MS);
  const said = new Promise<ImageWorkSaid>((resolve) => {
    const failed = (why: string) => resolve({ t: "failed", index: Atomics.load(seen, 0), why });
    worker.on("message", resolve);
    worker.on("error", (error: Error) => failed(error.stack ?? error.message));
    worker.on("exit", (code) => failed(`the thread ended with ${code}`));
  });
  try {
    return await Promise.race([said, hung.promise]);
  } finally {
    clearInterval(watch);
    await worker.terminate();
  }
}

test(`${ONE === undefined ? `${INPUTS} inputs` : `input ${ONE}`} of registries, archives and layers do no harm`, async (t) => {
  const root = mkdtempSync(join(tmpdir(), "hpcc-fuzz-images-"));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  const around = join(root, "around");
  mkdirSync(join(around, "folder"), { recursive: true });
  writeFileSync(join(around, "canary"), "untouched");
  symlinkSync("canary", join(around, "link"));
  const before = picture(around);
  const outside = join(around, "canary");
  const folder = join(root, "inputs");
  const kinds: Record<string, number> = {};
  const [first, end] = ONE === undefined ? [0, INPUTS] : [Number(ONE), Number(ONE) + 1];
  for (let from = first; from < end; from += BATCH) {
    const said = await batch({ seed: SEED, from, to: Math.min(end, from + BATCH), folder, outside });
    if (said.t === "failed") assert.fail(`HPCC_TEST_SEED=${SEED} HPCC_TEST_INPUT=${said.index}: ${said.why}`);
    for (const [kind, count] of Object.entries(said.kinds)) kinds[kind] = (kinds[kind] ?? 0) + count;
    assert.equal(picture(around), before, "something outside of the store changed");
    assert.deepEqual(readdirSync(root).sort(), ["around", "inputs"]);
    assert.deepEqual(readdirSync(join(folder, "scratch")), []);
    assert.deepEqual(
      readdirSync(join(folder, "store"), { recursive: true }).filter((name) => name !== "oci" && name !== "locks"),
      [],
      "left in the store",
    );
  }
  t.diagnostic(`seed ${SEED}: ${JSON.stringify(kinds)}`);
  assert.ok(ONE !== undefined || Object.keys(kinds).length === 7 || INPUTS < 2_000, "each kind was drawn");
});
