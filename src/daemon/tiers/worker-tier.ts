// The tier that compiles on a worker: sends the job, checks what comes back, makes the launcher's files of it. UNTRUSTED: the worker's result.
import { mkdir, open, readFile } from "node:fs/promises";
import { type ByteString, byteStringOf, byteStringOfText, bytesOf, displayText } from "../../base/byte-string.ts";
import { HpccError } from "../../base/errors.ts";
import { repositoryOfImage } from "../../config/project-image.ts";
import { grammarOf } from "../../core/compile/grammar/gnu-grammar.ts";
import { mapDiagnostics } from "../../core/compile/view/diagnostics.ts";
import { failureOf } from "../../core/compile/view/failure.ts";
import { DEVICE_CODE } from "../../core/objects/device-code.ts";
import type { OutputFile, OutputsMessage } from "../../wire/launcher/messages.ts";
import type { Builds } from "../call/builds.ts";
import type { LongWork } from "../call/long-work.ts";
import { hostDependencies } from "../call/read-call.ts";
import type { PreparedJob } from "../call/remote-job.ts";
import { type Bypass, bypass, next, type Stage } from "../call/stage.ts";
import type { Project } from "../project.ts";
import type { RemoteJob, RemoteProgress, RemoteResult, RemoteWorker } from "../remote/remote-job.ts";
import { removalsOf } from "./failed-output.ts";
import type { Tier, TierCall, TierEnd } from "./tier.ts";

/** Outputs up to this size travel in the answer's frame, larger ones as files. */
const INLINE_BYTES_MAX = 256 * 1024;
const CHUNK_BYTES = 1024 * 1024;
/** An emulated microVM boots in less. */
const QUEUED_MS = 15_000;
const QUEUED = "waiting for a microVM: the worker boots one, or all are taken";
/** What no delivered file may hold where checkouts share results: a path of the view. */
const VIEW_PATH = Buffer.from("/hpcc/");

export class WorkerTier implements Tier {
  readonly name = "worker";
  readonly #worker: RemoteWorker;
  readonly #builds: Pick<Builds, "of">;
  readonly #longWork: Pick<LongWork, "begin">;

  constructor(worker: RemoteWorker, builds: Pick<Builds, "of">, longWork: Pick<LongWork, "begin">) {
    this.#longWork = longWork;
    this.#worker = worker;
    this.#builds = builds;
  }

  async answer({ prepared, job, record }: TierCall): Promise<TierEnd> {
    const { call, project, folder, place } = prepared;
    const outputFolder = `${displayText(folder)}/out-${place.paths}`;
    await mkdir(outputFolder, { mode: 0o700 });
    const { build, warning } = this.#builds.of(call.message);
    let ended = () => {};
    let isOver = false;
    const onProgress = (progress: RemoteProgress) => {
      // What a worker had said when the job was given up still comes.
      if (isOver) return;
      ended();
      ended = progress === "queued" ? this.#longWork.begin(QUEUED, QUEUED_MS) : () => {};
    };
    const compiling = this.#worker.compile(
      {
        action: job.action,
        manifest: job.source.manifest,
        openBlob: (digest) => job.source.openBlob(digest),
        image: imageSource(project),
        isolationMin: project.config.isolationMin,
        deadlineMs: project.config.deadlineMs,
        outputFolder,
        build,
      },
      { signal: call.signal, onSent: () => record.sent(), onProgress },
    );
    const result = await compiling.finally(() => {
      isOver = true;
      ended();
    });
    record.moved(result.traffic, result.outcome === "compiled" ? result.compileUs : null);
    if (place.paths === "shared") {
      if (await anyHolds(result, VIEW_PATH)) return { kind: "own-paths" };
      if (await anyHolds(result, DEVICE_CODE)) {
        // It names the view unseen, and holds the maps. At its own path no two results would be alike.
        record.paths = "own";
        return bypass("guest_paths_in_output", prepared.request.invocation.output);
      }
    }
    const refused = refusalOf(result, prepared) ?? precompiledRefusal(result, job);
    if (refused !== null) return refused;
    const outputs = await outputsOf(result, { prepared, job });
    if (outputs.kind === "bypass") return outputs;
    const removals = result.exitCode === 0 ? [] : removalsOf(prepared, byteStringOf(result.stderr));
    if (removals === null) return bypass("compile_failed", prepared.request.invocation.output);
    const warned = warning !== null && call.message.terminal.stderr ? warn(outputs.value, warning) : outputs.value;
    const end = { outcome: `remote_${result.outcome}`, reason: null, detail: null } as const;
    const answer = removals.length === 0 ? warned : { ...warned, removals };
    return { kind: "answer", answer, end };
  }
}

/** Where a worker may fetch the image. A build that may compile nowhere else waits for that; others go on meanwhile. */
function imageSource({ config, imageContents: contents }: Project): NonNullable<RemoteJob["image"]> {
  const { image, fallback, deadlineMs } = config;
  return { repository: repositoryOfImage(image) ?? "", waitMs: fallback === "none" ? deadlineMs : 0, contents };
}

/** Why a result is not shown, so that the local compiler has the last word; null when it is. */
function refusalOf(result: RemoteResult, { project, request }: TierCall["prepared"]): Bypass | null {
  const stderr = byteStringOf(result.stderr);
  const failure = result.exitCode === 0 ? null : failureOf(result.exitCode, stderr);
  if (failure === "date") return bypass("date_time_macro");
  if (project.config.sourceForm === "text") {
    if (result.exitCode !== 0 && project.config.fallback !== "none") return bypass("compile_failed");
    const unfaithful = grammarOf(request.mapped).text.diagnosticsRefusal(request.mapped, stderr);
    return unfaithful === null ? null : bypass(unfaithful);
  }
  return failure === "fault" ? bypass("compile_failed") : null;
}

/** Whether a compile is loaded with its precompiled header depends on where memory is free. */
function precompiledRefusal({ exitCode, stderr }: RemoteResult, { precompiled }: PreparedJob): Bypass | null {
  const words = byteStringOf(stderr);
  const spoken = exitCode !== 0 || words.includes(".gch") || words.includes("PCH");
  return precompiled && spoken ? bypass("compile_failed") : null;
}

/** The dependency file, as the list told it or the guest wrote it; null for none. */
async function dependencyTextOf({ outputs }: RemoteResult, job: PreparedJob): Promise<ByteString | null> {
  const written = outputs.find(({ index }) => index === job.deliveries.length);
  if (written === undefined || !job.precompiled) return job.dependencyText;
  if (written.size > INLINE_BYTES_MAX * 16) throw new HpccError("job.failed", "the dependency file is too large");
  return byteStringOf(await readFile(written.file));
}

async function outputsOf(
  result: RemoteResult,
  { prepared, job }: Pick<TierCall, "prepared" | "job">,
): Promise<Stage<OutputsMessage>> {
  const { request, project, place } = prepared;
  const { invocation } = request;
  // The object last: make takes it for newer than its dependency file, as the compiler leaves it.
  const files: OutputFile[] = [];
  const dependencies = await dependencyTextOf(result, job);
  if (invocation.dependencies !== null && dependencies !== null) {
    const text = hostDependencies(dependencies, project, place, request);
    if (text.kind === "bypass") return text;
    const content = { kind: "inline", bytes: bytesOf(text.value) } as const;
    files.push({ destination: invocation.dependencies.file, content, executable: false, manner: "text" });
  }
  for (const { index, file, size, executable } of result.exitCode === 0 ? result.outputs.toReversed() : []) {
    if (job.precompiled && index === job.deliveries.length) continue;
    const delivery = job.deliveries[index];
    if (delivery === undefined) throw new HpccError("job.failed", "the worker gave an output that nobody asked for");
    const content = await contentOf(file, size);
    files.push({ destination: delivery.destination, content, executable, manner: delivery.manner });
  }
  const shown = (text: ByteString) =>
    text === "" ? null : ({ kind: "inline", bytes: bytesOf(mapDiagnostics(text, request.spelled)) } as const);
  return next({
    type: "outputs",
    exitCode: result.exitCode,
    stdout: shown(byteStringOf(result.stdout)),
    stderr: shown(byteStringOf(result.stderr)),
    files,
  });
}

/** Says something before the compiler's words; to a person alone, as programs read what a compiler says. */
function warn(answer: OutputsMessage, warning: string): OutputsMessage {
  const words = answer.stderr?.kind === "inline" ? answer.stderr.bytes : Buffer.alloc(0);
  return { ...answer, stderr: { kind: "inline", bytes: Buffer.concat([Buffer.from(`hpcc: ${warning}\n`), words]) } };
}

async function contentOf(file: string, size: number): Promise<OutputFile["content"]> {
  if (size > INLINE_BYTES_MAX) return { kind: "file", path: byteStringOfText(file) };
  return { kind: "inline", bytes: await readFile(file) };
}

/** Whether one of the outputs holds certain bytes. */
async function anyHolds({ outputs }: RemoteResult, sought: Buffer): Promise<boolean> {
  for (const { file, size } of outputs) if (await holds(file, size, sought)) return true;
  return false;
}

async function holds(file: string, size: number, sought: Buffer): Promise<boolean> {
  await using handle = await open(file, "r");
  // No larger than the file: V8 collects all garbage each time that some 32 MiB of buffers were made.
  const chunkBytes = Math.max(1, Math.min(CHUNK_BYTES, size));
  const buffer = Buffer.allocUnsafe(chunkBytes + sought.length);
  // The end of each part is searched again with the next one, lest a path lie across both.
  for (let kept = 0; ; ) {
    const { bytesRead } = await handle.read(buffer, kept, chunkBytes);
    if (bytesRead === 0) return false;
    const end = kept + bytesRead;
    if (buffer.subarray(0, end).includes(sought)) return true;
    const rest = Math.min(end, sought.length - 1);
    buffer.copyWithin(0, end - rest, end);
    kept = rest;
  }
}
