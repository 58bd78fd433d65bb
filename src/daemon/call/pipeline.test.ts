import assert from "node:assert/strict";
import { test } from "node:test";
import { HostProject, type HostProjectOptions } from "../../../test/support/host-project.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { Semaphore } from "../../base/semaphore.ts";
import { SYSTEM_CLOCK } from "../../base/system/clock.ts";
import { CallCounts } from "../control/call-counts.ts";
import { HeaderHints } from "../inputs/header-hints.ts";
import type { RemoteWorkers } from "../remote/remote-job.ts";
import { answerCompileCall, type PipelineParts } from "./pipeline.ts";
import { Remembered } from "./remembered.ts";

function partsOf({ caches }: HostProject, worker: RemoteWorkers | null = null): PipelineParts {
  return {
    ...caches,
    worker,
    counts: new CallCounts(),
    headers: new HeaderHints({ logger: SILENT_LOGGER }),
    slots: new Semaphore(1),
    textBytes: new Semaphore(1),
    ownPaths: new Remembered(10),
    prefixMaps: new Remembered(10),
    nativeWords: new Remembered(10),
    refusedSources: new Remembered(10),
    clock: SYSTEM_CLOCK,
    logger: SILENT_LOGGER,
  };
}

async function localArgv(argv: string, options: HostProjectOptions = {}): Promise<string> {
  using made = new HostProject(options);
  made.write({ "a.c": "int f;\n", "a.i": "int f;\n" });
  const { project, compiler } = made;
  const answer = await answerCompileCall(made.call(argv.split(" ")), project, compiler, partsOf(made));
  assert.equal(answer.type, "exec");
  if (answer.type !== "exec") return "";
  return (answer.argv ?? []).join(" ").replaceAll(made.base, "@");
}

test("a local compile has the flags of the place where a worker would have compiled the call", async () => {
  const shared = "/usr/bin/gcc -ffile-prefix-map=@/p=. -gno-record-gcc-switches";
  assert.equal(await localArgv("gcc -c a.c"), `${shared} -c a.c`);
  assert.equal(await localArgv("gcc -c a.c --coverage"), "/usr/bin/gcc -c a.c --coverage");
  assert.equal(await localArgv("gcc -c a.i"), "/usr/bin/gcc -c a.i");
  assert.equal(await localArgv("gcc -c a.c -flto"), "/usr/bin/gcc -c a.c -flto");
  assert.equal(await localArgv("gcc -c a.c", { config: { paths: "own" } }), "/usr/bin/gcc -c a.c");
  assert.equal(
    await localArgv("gcc -c a.c --coverage", { config: { sourceForm: "text" } }),
    `${shared} -c a.c --coverage`,
  );
});

test("a call whose outputs were seen to hold paths is compiled here without maps from then on", async () => {
  using made = new HostProject();
  made.write({ "a.c": "int f;\n" });
  const { project, compiler } = made;
  const call = made.call(["gcc", "-c", "a.c"]);
  const parts = partsOf(made);
  parts.ownPaths.set(JSON.stringify([project.imageDigest, project.root, call.message.cwd, call.message.argv]), true);
  const answer = await answerCompileCall(call, project, compiler, parts);
  assert.deepEqual(answer.type === "exec" && answer.argv, ["/usr/bin/gcc", "-c", "a.c"]);
});

test("without a worker nothing is listed", async () => {
  using made = new HostProject();
  made.write({ "a.c": "int f;\n" });
  const { project, compiler } = made;
  const unreachable: RemoteWorkers = {
    available: async () => false,
    compile: () => assert.fail("there is no worker"),
  };
  for (const worker of [null, unreachable]) {
    const call = made.call(["gcc", "-c", "a.c"]);
    const parts = partsOf(made, worker);
    const answer = await answerCompileCall(call, project, compiler, parts);
    assert.equal(answer.type, "exec");
    assert.deepEqual(
      call.ran.map(([, word]) => word),
      ["-ffile-prefix-map=/none=."],
      "what a compiler takes is asked",
    );
    assert.deepEqual(parts.counts.snapshot().reasons, { remote_unavailable: 1 });
  }
});

test("a call that may not be compiled here is refused with its reason", async () => {
  using made = new HostProject({ config: { fallback: "none" } });
  const { project, compiler } = made;
  const parts = partsOf(made);
  const answer = await answerCompileCall(made.call(["gcc", "-c", "a.c"]), project, compiler, parts);
  assert.equal(answer.type, "outputs");
  assert.equal(answer.type === "outputs" && answer.exitCode, 1);
  const query = await answerCompileCall(made.call(["gcc", "--version"]), project, compiler, parts);
  assert.deepEqual(query.type === "exec" && query.argv, ["/usr/bin/gcc", "--version"]);
  const { refused, local } = parts.counts.snapshot().outcomes;
  assert.deepEqual({ refused, local }, { refused: 1, local: 1 });
});
