import assert from "node:assert/strict";
import { test } from "node:test";
import { HostProject } from "../../../test/support/host-project.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { Semaphore } from "../../base/semaphore.ts";
import { SYSTEM_CLOCK } from "../../base/system/clock.ts";
import { CallCounts } from "../control/call-counts.ts";
import { HeaderHints } from "../inputs/header-hints.ts";
import type { RemoteJob, RemoteWorkers } from "../remote/remote-job.ts";
import { Builds } from "./builds.ts";
import { LongWork } from "./long-work.ts";
import { answerCompileCall, type PipelineParts } from "./pipeline.ts";
import { takesPrefixMaps } from "./prefix-map-support.ts";
import { Remembered } from "./remembered.ts";

/** A compiler as GCC 7 and Clang 9 are. */
const OLD = `#!/bin/sh
for word do
  case $word in -ffile-prefix-map=*) echo "gcc: error: unrecognized command line option '$word'" >&2; exit 1 ;; esac
done
exec /usr/bin/gcc "$@"
`;
const CLOCK = { ...SYSTEM_CLOCK, wallMs: () => Date.now() + 60_000 };

function partsOf({ caches }: HostProject, worker: RemoteWorkers | null): PipelineParts {
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
    builds: new Builds({ logger: SILENT_LOGGER }),
    longWork: new LongWork(SYSTEM_CLOCK),
    observers: [],
    store: null,
    local: null,
    clock: CLOCK,
    logger: SILENT_LOGGER,
  };
}

test("a compiler that takes no prefix map is asked once, and gets none here", async () => {
  using made = new HostProject({ script: OLD });
  made.write({ "a.c": "int f;\n" });
  const { project, compiler } = made;
  const parts = partsOf(made, null);
  for (const [words, runs] of [
    [["--version"], 0],
    [["-c", "a.c"], 1],
    [["-c", "a.c", "-fplugin=x"], 0],
    [["-E", "a.c"], 0],
  ] as const) {
    const call = made.call(["gcc", ...words]);
    const answer = await answerCompileCall(call, project, compiler, parts);
    assert.deepEqual(answer.type === "exec" && answer.argv, [compiler.path, ...words]);
    assert.equal(call.ran.length, runs, words.join(" "));
  }
  assert.deepEqual(made.withoutMaps, [compiler.path]);
});

test("and a guest compiles its calls with the project at its own path, without one", async () => {
  const jobs: RemoteJob[] = [];
  const worker: RemoteWorkers = {
    available: async () => true,
    async compile(job) {
      jobs.push(job);
      throw new Error("this one makes nothing");
    },
  };
  for (const script of [OLD, OLD.replace("-ffile-prefix-map=*", "none")]) {
    using made = new HostProject({ script });
    made.write({ "a.s": ".text\n" });
    const { project, compiler } = made;
    await answerCompileCall(made.call(["gcc", "-c", "a.s"]), project, compiler, partsOf(made, worker));
    const { argv, cwd } = jobs.pop()!.action;
    const maps = argv.filter((word) => word.startsWith("-ffile-prefix-map="));
    assert.deepEqual([maps.length, cwd], script === OLD ? [0, made.root] : [1, "/hpcc/project"]);
  }
  using made = new HostProject({ script: OLD, config: { sourceForm: "text" } });
  made.write({ "a.c": "int f;\n" });
  const parts = partsOf(made, worker);
  const answer = await answerCompileCall(made.call(["gcc", "-c", "a.c"]), made.project, made.compiler, parts);
  assert.deepEqual(answer.type === "exec" && answer.argv, [made.compiler.path, "-c", "a.c"]);
  assert.deepEqual(parts.counts.snapshot().reasons, { unsupported_compiler_option: 1 });
});

test("a compiler that cannot be asked is asked again", async () => {
  using made = new HostProject({ script: OLD });
  const { project, compiler } = made;
  const call = made.call(["gcc", "-c", "a.c"]);
  const known = new Remembered<boolean>(10);
  const killed = {
    ...call,
    run: async (request: Parameters<typeof call.run>[0]) =>
      ({ ...(await call.run(request)), outcome: { kind: "signaled", signal: 9 } }) as const,
  };
  assert.equal(await takesPrefixMaps({ call: killed, project, compiler }, known), true);
  assert.equal(await takesPrefixMaps({ call, project, compiler }, known), false);
});
