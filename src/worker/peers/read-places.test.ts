import assert from "node:assert/strict";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { SILENT_LOGGER } from "../../base/log.ts";
import { ReadPlaces } from "./read-places.ts";

async function folderOf(context: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "hpcc-places-"));
  context.after(() => rm(folder, { recursive: true }));
  return folder;
}

test("what was read is known after a restart, and nothing is left half written", async (context) => {
  const folder = await folderOf(context);
  const places = await ReadPlaces.open(join(folder, "peers"), SILENT_LOGGER);
  assert.deepEqual(places.of("w1"), 0);
  places.note("w1", 7);
  const saving = places.save();
  places.note("w1", 8);
  places.note("w2", 1);
  await Promise.all([saving, places.save()]);
  const again = await ReadPlaces.open(join(folder, "peers"), SILENT_LOGGER);
  assert.deepEqual([again.of("w1"), again.of("w2")], [8, 1]);
  assert.deepEqual(await readdir(join(folder, "peers")), ["revocations-read.json"]);
});

test("a damaged file is begun anew, and what is no place is left out", async (context) => {
  const folder = await folderOf(context);
  for (const text of [
    "",
    "{",
    "[]",
    "null",
    '{"w1": null}',
    '{"w1": {"list": 1, "sequence": 1}}',
    '{"w1": {"list": "a", "sequence": -1}}',
  ]) {
    await writeFile(join(folder, "revocations-read.json"), text);
    assert.deepEqual((await ReadPlaces.open(folder, SILENT_LOGGER)).of("w1"), 0, text);
  }
});
