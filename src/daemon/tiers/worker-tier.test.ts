import assert from "node:assert/strict";
import { linkSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { HostProject, type HostProjectOptions } from "../../../test/support/host-project.ts";
import { ManualClock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { SYSTEM_CLOCK } from "../../base/system/clock.ts";
import { type Digest, sha256 } from "../../core/digest/digest.ts";
import { Builds, type CallBuild } from "../call/builds.ts";
import { CallRecord } from "../call/call-record.ts";
import { LongWork } from "../call/long-work.ts";
import { CallCounts } from "../control/call-counts.ts";
import { prepareFiles } from "../files-form/prepare-files.ts";
import { HeaderHints } from "../inputs/header-hints.ts";
import type { RemoteOptions, RemoteResult, RemoteWorker } from "../remote/remote-job.ts";
import type { TierEnd } from "./tier.ts";
import { WorkerTier } from "./worker-tier.ts";

interface Answer {
  readonly exitCode?: number;
  /** The object's content; null for none. */
  readonly object?: Buffer | null;
  readonly stderr?: string;
}

/** Gives one answer to every job. */
function answering({ exitCode = 0, object = Buffer.from("object"), stderr = "" }: Answer): RemoteWorker {
  return {
    async compile({ outputFolder }, { onSent }): Promise<RemoteResult> {
      onSent?.();
      const file = join(outputFolder, "0");
      if (object !== null) writeFileSync(file, object);
      const digest: Digest = sha256(object ?? Buffer.alloc(0));
      const output = { index: 0, kind: "object", executable: false, digest, size: object?.length ?? 0, file } as const;
      return {
        outcome: "compiled",
        exitCode,
        outputs: object === null ? [] : [output],
        stdout: Buffer.alloc(0),
        stderr: Buffer.from(stderr),
        resultDigest: digest,
        auditRow: "",
        rowDigest: digest,
        receipt: null,
        isolation: "qemu-tcg",
        compileUs: 1,
        life: "clean",
        traffic: { sentBytes: 1, sentFrameBytes: 1, receivedBytes: 1, receivedFrameBytes: 1 },
      };
    },
  };
}

interface Asked extends HostProjectOptions {
  readonly argv?: string;
  readonly paths?: "own" | "shared";
  /** Files that stand in the project besides the source. */
  readonly files?: Readonly<Record<string, string>>;
  readonly environment?: readonly string[];
  /** Whether stderr is a terminal. */
  readonly shown?: boolean;
  readonly builds?: Pick<Builds, "of">;
  readonly longWork?: LongWork;
  /** Lays out what is no plain file. */
  readonly lay?: (root: string) => void;
}

function end(answer: Answer, asked: Asked = {}): Promise<TierEnd> {
  return endWith(answering(answer), asked);
}

const BUILDS = new Builds({ logger: SILENT_LOGGER });

async function endWith(worker: RemoteWorker, asked: Asked = {}): Promise<TierEnd> {
  const {
    argv = "-c a.s",
    paths = "shared",
    files = {},
    lay,
    environment,
    shown = false,
    builds = BUILDS,
    longWork = new LongWork(SYSTEM_CLOCK),
    ...options
  } = asked;
  using made = new HostProject(options);
  // Assembler is not listed, so that no compiler runs for it.
  made.write({ "a.s": ".text\n", "a.c": "int x;\n", ...files });
  lay?.(made.root);
  const call = made.call([made.compiler.family, ...argv.split(" ")], environment);
  const terminal = { ...call.message.terminal, stderr: shown };
  const prepared = made.prepare({ ...call, message: { ...call.message, terminal } }, paths);
  assert.ok(prepared.kind === "next");
  // The clock is ahead, so that all files are older than the call.
  const clock = { ...SYSTEM_CLOCK, wallMs: () => Date.now() + 60_000 };
  const headers = new HeaderHints({ logger: SILENT_LOGGER });
  const job = await prepareFiles(prepared.value, { ...made.caches, headers, clock });
  assert.ok(job.kind === "next", JSON.stringify(job));
  const record = new CallRecord({ counts: new CallCounts(), logger: SILENT_LOGGER, startedMs: 0 });
  return await new WorkerTier(worker, builds, longWork).answer({
    prepared: prepared.value,
    job: job.value,
    record,
  });
}

const MIB = 1024 * 1024;

/** Zeros with the view's name in them. */
function holding(at: number, length = 4 * MIB): Buffer {
  const bytes = Buffer.alloc(length);
  bytes.write("/hpcc/", at);
  return bytes;
}

test("a path of the view is found wherever it stands in an output", async () => {
  for (const at of [0, 100, MIB - 6, MIB - 5, MIB - 3, MIB - 1, MIB, 2 * MIB - 4, 3 * MIB - 1, 4 * MIB - 6])
    assert.equal((await end({ object: holding(at) })).kind, "own-paths", `at ${at}`);
  for (const small of ["/hpcc/", "x/hpcc/y"])
    assert.equal((await end({ object: Buffer.from(small) })).kind, "own-paths");
  for (const harmless of ["", "/hpcc", "hpcc/", "/hpc/c/", "/hpcc2/"])
    assert.equal((await end({ object: Buffer.from(harmless) })).kind, "answer", harmless);
  // Cut off, it is none.
  assert.equal((await end({ object: holding(4 * MIB - 5) })).kind, "answer");
});

test("code for another device is left to the compiler: what it names cannot be seen", async () => {
  const object = Buffer.from("\0.gnu.offload_lto_.opts\0");
  const left = await end({ object });
  assert.deepEqual([left.kind, left.kind === "bypass" && left.reason], ["bypass", "guest_paths_in_output"]);
  assert.equal((await end({ object }, { paths: "own" })).kind, "answer");
});

test("with the project at its own path outputs may hold what they like", async () => {
  assert.equal((await end({ object: Buffer.from("/hpcc/project") }, { paths: "own" })).kind, "answer");
});

test("an output goes where the caller names it, large ones as files", async () => {
  for (const [size, kind] of [
    [256 * 1024, "inline"],
    [256 * 1024 + 1, "file"],
  ] as const) {
    const ended = await end({ object: Buffer.alloc(size) }, { argv: "-c a.s -o x.o" });
    assert.ok(ended.kind === "answer" && ended.answer.type === "outputs");
    const [object, ...more] = ended.answer.files;
    assert.deepEqual(
      [object?.destination, object?.content.kind, object?.manner, more.length],
      ["x.o", kind, "assembler", 0],
    );
    assert.deepEqual(ended.end, { outcome: "remote_compiled", reason: null, detail: null });
  }
});

test("an ordinary failure is the answer, with the caller's names and without outputs", async () => {
  const words = "/hpcc/project/a.s:1:1: error: no\n";
  // Whatever the worker gives along with it.
  const ended = await end({ exitCode: 1, object: Buffer.from("object"), stderr: words });
  assert.ok(ended.kind === "answer" && ended.answer.type === "outputs");
  const { exitCode, stderr, files } = ended.answer;
  assert.deepEqual([exitCode, files.length], [1, 0]);
  assert.ok(stderr?.kind === "inline");
  const said = Buffer.from(stderr.bytes).toString();
  assert.match(said, /\/p\/a\.s:1:1: error: no\n$/);
  assert.doesNotMatch(said, /hpcc\/project/);
});

test("of other failures the local compiler has the last word", async () => {
  const reason = async (answer: Answer, asked: Asked = {}) => {
    const ended = await end({ object: null, ...answer }, asked);
    return ended.kind === "bypass" ? ended.reason : ended.kind;
  };
  assert.equal(await reason({ exitCode: 139 }), "compile_failed");
  assert.equal(
    await reason({ exitCode: 1, stderr: "a.c:1: fatal error: x.h: No such file or directory\n" }),
    "compile_failed",
  );
  for (const sourceForm of ["files", "text"] as const) {
    const dated = { exitCode: 1, stderr: "SOURCE_DATE_EPOCH must expand to a number\n" };
    assert.equal(await reason(dated, { config: { sourceForm, fallback: "none" } }), "date_time_macro");
  }
  // Without a place in a source it is not known how far the compiler came.
  const old = { files: { "a.o": "old", "x.s": "old" } };
  assert.equal(await reason({ exitCode: 1 }, { ...old, family: "clang" }), "compile_failed");
  assert.equal(await reason({ exitCode: 1 }, { ...old, paths: "own", argv: "-S a.c -o x.s" }), "compile_failed");
  assert.equal(await reason({ exitCode: 1 }, old), "answer");
  assert.equal(await reason({ exitCode: 1 }, { family: "clang" }), "answer");
  // Some side outputs are left, and some removed.
  const kept = { paths: "own", argv: "-c a.c -save-temps" } as const;
  assert.equal(await reason({ exitCode: 1, stderr: "a.c:1:1: error: no\n" }, kept), "compile_failed");
});

test("a failing compile removes the output that the compiler would remove, where that is a plain file", async () => {
  const failing: Answer = { exitCode: 1, object: null, stderr: "a.c:1:1: error: no\n" };
  const removed = async (asked: Asked) => {
    const ended = await end(failing, { paths: "own", ...asked });
    return ended.kind === "answer" ? ended.answer.removals : ended.kind;
  };
  const files = { "out/a.o": "old" };
  const pipe = "-pipe -c a.c -o out/a.o";
  assert.deepEqual(await removed({ files, argv: pipe }), ["out/a.o"]);
  assert.deepEqual(await removed({ files, argv: "-S a.c -o out/a.o" }), ["out/a.o"]);
  assert.deepEqual(await removed({ files, family: "clang", argv: "-c a.s -o out/a.o" }), ["out/a.o"]);
  assert.equal(await removed({ files, argv: "-c a.c -o out/a.o" }), undefined);
  assert.equal(await removed({ argv: pipe, files: { "out/b.o": "" } }), undefined, "nothing is there");
  assert.equal(await removed({ argv: pipe }), "bypass", "nor its folder");
  for (const lay of [
    (path: string) => symlinkSync("b", path),
    (path: string) => linkSync(join(dirname(path), "b"), path),
    (path: string) => mkdirSync(path),
  ])
    assert.equal(
      await removed({ argv: "-pipe -c a.c -o x.o", files: { b: "" }, lay: (root) => lay(join(root, "x.o")) }),
      "bypass",
    );
});

test("an output that nobody asked for is a fault", async () => {
  const worker = answering({});
  const stray: RemoteWorker = {
    async compile(job, options) {
      const result = await worker.compile(job, options);
      return { ...result, outputs: result.outputs.map((output) => ({ ...output, index: 7 })) };
    },
  };
  await assert.rejects(endWith(stray), { code: "job.failed" });
});

test("a job bears the build's name, and what is wrong with the caller's is told on a terminal alone", async () => {
  const jobs: (string | null | undefined)[] = [];
  const worker: RemoteWorker = {
    compile: async (job, options) => {
      jobs.push(job.build);
      return answering({ stderr: "a.s: Warning: x\n" }).compile(job, options);
    },
  };
  for (const [given, shown, expected] of [
    ["build 7", true, "a.s: Warning: x\n"],
    ["a\tb", false, "a.s: Warning: x\n"],
    ["a\tb", true, /^hpcc: HPCC_BUILD_ID is not printable ASCII .*\na\.s: Warning: x\n$/],
  ] as const) {
    const own = new Builds({ logger: SILENT_LOGGER });
    const of = (call: Parameters<Builds["of"]>[0]): CallBuild => own.of({ ...call, pid: 0 });
    const ended = await endWith(worker, { environment: [`HPCC_BUILD_ID=${given}`], shown, builds: { of } });
    assert.ok(ended.kind === "answer" && ended.answer.type === "outputs" && ended.answer.stderr?.kind === "inline");
    const said = Buffer.from(ended.answer.stderr.bytes).toString();
    if (typeof expected === "string") assert.equal(said, expected);
    else assert.match(said, expected);
  }
  assert.deepEqual(jobs, ["build 7", null, null]);
});

test("what a worker still says of a job that was given up is nothing that callers wait for", async () => {
  const clock = new ManualClock();
  const longWork = new LongWork(clock);
  const told: RemoteOptions["onProgress"][] = [];
  const worker: RemoteWorker = {
    async compile(_job, { onProgress }) {
      told.push(onProgress);
      onProgress?.("receiving");
      throw new HpccError("job.cancelled", "the compile was given up");
    },
  };
  await assert.rejects(endWith(worker, { longWork }), { code: "job.cancelled" });
  assert.equal(told.length, 1);
  told[0]?.("queued");
  clock.advance(60_000);
  assert.equal(longWork.tell(), null);
});
