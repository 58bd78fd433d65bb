import assert from "node:assert/strict";
import { readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { HostProject, type HostProjectOptions } from "../../../test/support/host-project.ts";
import { byteStringOfText } from "../../base/byte-string.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { SYSTEM_CLOCK } from "../../base/system/clock.ts";
import { DiskLocalStore } from "../../store/local/disk-local-store.ts";
import { CallCounts } from "../control/call-counts.ts";
import { HeaderHints } from "../inputs/header-hints.ts";
import { LocalUse } from "./local-use.ts";

const FILES = { "src/a.c": '#include "h.h"\n#include <stddef.h>\nint a = H;\n', "inc/h.h": "#define H 1\n" };
/** Longer than a tick of the file system's clock. */
const TICKS_MS = 30;

class ImageUser implements Disposable {
  readonly made: HostProject;
  readonly use: LocalUse;

  constructor(store: DiskLocalStore, options: HostProjectOptions = {}) {
    this.made = new HostProject(options);
    this.made.write(FILES);
    const { names, folders } = this.made.caches;
    this.use = new LocalUse({
      store,
      names,
      folders,
      headers: new HeaderHints({ logger: SILENT_LOGGER }),
      counts: new CallCounts(),
      observers: [],
      callFolder: byteStringOfText(join(this.made.base, "calls")),
      clock: SYSTEM_CLOCK,
      logger: SILENT_LOGGER,
    });
  }

  /** What becomes of a call, what it leaves, and how many programs ran for it. */
  async compile(words: string, environment: readonly string[] = []) {
    const { made } = this;
    const path = "PATH=/usr/bin:/bin";
    for (const start = Date.now(); Date.now() < start + TICKS_MS; ) await new Promise(setImmediate);
    rmSync(join(made.root, "src/a.o"), { force: true });
    const call = made.call(["gcc", ...words.split(" ")], [path, ...environment], "src");
    const { project, compiler } = made;
    const end = await this.use.answerInImage(call, { project, compiler, paths: project.config.paths });
    await call.finish();
    if (end.kind === "bypass") return { outcome: end.reason, object: null, ran: call.ran.length, known: end.known };
    const [file] = end.answer.files;
    const object =
      file?.content.kind === "file" ? readFileSync(file.content.path) : readFileSync(join(made.root, "src/a.o"));
    return { outcome: end.known.outcome, object, ran: call.ran.length, known: end.known };
  }

  [Symbol.dispose](): void {
    this.made[Symbol.dispose]();
  }
}

function storeOf(made: HostProject): DiskLocalStore {
  const root = join(made.base, "store");
  return new DiskLocalStore({ root, sizeBytesMax: 1024 ** 3, clock: SYSTEM_CLOCK, logger: SILENT_LOGGER });
}

test("without a worker an image's compiler fills the local store, and hits run nothing", async () => {
  using place = new HostProject();
  using user = new ImageUser(storeOf(place));
  const miss = await user.compile("-g -MMD -I../inc -c a.c");
  const hit = await user.compile("-g -MMD -I../inc -c a.c");
  assert.deepEqual([miss.outcome, hit.outcome, hit.ran], ["local_compiled", "local_hit", 0]);
  assert.deepEqual(
    hit.known.result?.outputs.map(({ destination }) => destination),
    ["a.d", "a.o"],
  );
  // The image's own files never change, so they are none of its inputs.
  assert.deepEqual(
    miss.known.inputs?.map(({ path }) => path),
    [join(user.made.root, "src/a.c"), `${user.made.root}/src/../inc/h.h`],
  );
  assert.equal(miss.known.compiler?.image, user.made.project.imageDigest);
  writeFileSync(join(user.made.root, "inc/h.h"), "#define H 2\n");
  utimesSync(join(user.made.root, "inc/h.h"), 1, 1);
  assert.equal((await user.compile("-g -MMD -I../inc -c a.c")).outcome, "local_compiled");
});

test("with shared paths checkouts share debug information, with own paths they do not", async () => {
  for (const [paths, outcome] of [
    ["shared", "local_hit"],
    ["own", "local_compiled"],
  ] as const) {
    using place = new HostProject();
    const store = storeOf(place);
    using one = new ImageUser(store, { config: { paths } });
    using other = new ImageUser(store, { config: { paths } });
    const first = await one.compile("-g -I../inc -c a.c");
    const second = await other.compile("-g -I../inc -c a.c");
    assert.deepEqual([first.outcome, second.outcome], ["local_compiled", outcome]);
    assert.equal(first.object?.includes(one.made.root), paths === "own");
    // Compressed, nobody sees what it names.
    assert.equal((await other.compile("-g -gz -I../inc -c a.c")).outcome, "local_compiled");
    assert.equal((await one.compile("-g -gz -I../inc -c a.c")).outcome, "local_compiled");
  }
});

test("the image, the policy and the folder below the root are in the key; a loader's variables are left to the launcher", async () => {
  using place = new HostProject();
  const store = storeOf(place);
  using plain = new ImageUser(store);
  using pinned = new ImageUser(store, { config: { determinism: "pin" } });
  assert.equal((await plain.compile("-I../inc -c a.c")).outcome, "local_compiled");
  assert.equal((await pinned.compile("-I../inc -c a.c")).outcome, "local_compiled");
  assert.equal((await pinned.compile("-I../inc -c a.c")).outcome, "local_hit");
  const preloaded = await plain.compile("-I../inc -c a.c", ["LD_PRELOAD=/x.so"]);
  assert.deepEqual([preloaded.outcome, preloaded.ran], ["unsupported_environment_variable", 0]);
});
