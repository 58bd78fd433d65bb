import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { HostProject, type HostProjectOptions } from "../../../test/support/host-project.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { Semaphore } from "../../base/semaphore.ts";
import { SYSTEM_CLOCK } from "../../base/system/clock.ts";
import { sha256 } from "../../core/digest/digest.ts";
import { DiskLocalStore } from "../../store/local/disk-local-store.ts";
import { CallCounts } from "../control/call-counts.ts";
import { HeaderHints } from "../inputs/header-hints.ts";
import type { RemoteWorkers } from "../remote/remote-job.ts";
import type { AnsweredCall } from "./answered-call.ts";
import { Builds } from "./builds.ts";
import { LongWork } from "./long-work.ts";
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
    builds: new Builds({ logger: SILENT_LOGGER }),
    longWork: new LongWork(SYSTEM_CLOCK),
    clock: SYSTEM_CLOCK,
    logger: SILENT_LOGGER,
    observers: [],
    store: null,
    local: null,
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

/** Gives any job an object of its own. */
const OBJECT = Buffer.from("an object");
const GIVING: RemoteWorkers = {
  available: async () => true,
  compile: async ({ outputFolder }, { onSent }) => {
    onSent?.();
    const file = join(outputFolder, "0");
    writeFileSync(file, OBJECT);
    const digest = sha256(OBJECT);
    return {
      outcome: "hit",
      exitCode: 0,
      outputs: [{ index: 0, kind: "object", executable: false, digest, size: OBJECT.length, file }],
      stdout: new Uint8Array(),
      stderr: Buffer.from("a.c: a word\n"),
      resultDigest: digest,
      auditRow: "",
      rowDigest: digest,
      receipt: null,
      isolation: "qemu-tcg",
      compileUs: 1,
      life: "clean",
      traffic: { sentFrameBytes: 0, sentBytes: 0, receivedFrameBytes: 0, receivedBytes: 0 },
    };
  },
};

test("observers are told what a worker's answer depends on, and where it is kept", async () => {
  using made = new HostProject({ config: { paths: "own" } });
  made.write({ "a.c": '#include "h.h"\nint f;\n', "inc/h.h": "", "none/x": "" });
  const { project, compiler } = made;
  const told: AnsweredCall[] = [];
  const store = new DiskLocalStore({
    root: join(made.base, "store"),
    sizeBytesMax: 1024 ** 3,
    clock: SYSTEM_CLOCK,
    logger: SILENT_LOGGER,
  });
  const parts = {
    ...partsOf(made, GIVING),
    observers: [{ answered: (call: AnsweredCall) => void told.push(call) }],
    store,
  };
  for (const words of ["-c a.c", "-c a.c", "-DX -c a.c"]) {
    const call = made.call(`gcc -Inone -Iinc ${words}`.split(" "));
    const answer = await answerCompileCall(call, project, compiler, parts);
    assert.equal(answer.type, "outputs");
    await call.finish();
  }
  const [first, second, third] = told;
  assert.equal(told.length, 3);
  assert.deepEqual(
    first!.inputs.map(({ path, digest }) => [path, digest]),
    ["a.c", "inc/h.h"].map((name) => [join(made.root, name), sha256(readFileSync(join(made.root, name)))]),
  );
  const absent = first!.absent.flatMap(({ folder, names }) => names.map((name) => `${folder}/${name}`));
  assert.ok(absent.includes(join(made.root, "none/h.h")) && absent.includes(join(made.root, "h.h")), absent.join(" "));
  assert.deepEqual(first!.words, ["-Inone", "-Iinc", "-c"]);
  assert.equal(first!.outcome, "remote_hit");
  assert.equal(first!.callDigest, second!.callDigest);
  assert.notEqual(first!.callDigest, third!.callDigest);
  const [kept] = first!.result!.outputs;
  assert.deepEqual([kept!.destination, readFileSync(kept!.path!)], ["a.o", OBJECT]);
  assert.equal(Buffer.from(first!.result!.stderr).toString(), "a.c: a word\n");
  await store.close();
});

test("observers are told of a call that was compiled here, and why", async () => {
  using made = new HostProject();
  const told: AnsweredCall[] = [];
  const parts = { ...partsOf(made), observers: [{ answered: (call: AnsweredCall) => void told.push(call) }] };
  await answerCompileCall(made.call(["gcc", "-c", "a.c"]), made.project, made.compiler, parts);
  const [call] = told;
  assert.deepEqual([call!.outcome, call!.reason, call!.result], ["local", "remote_unavailable", null]);
  assert.deepEqual([call!.source, call!.words], [join(made.root, "a.c"), ["-c"]]);
});
