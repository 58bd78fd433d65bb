// Runs the job of a row again and compares what it left with what the row says. Pure but for its ports.
import type { ByteString } from "../base/byte-string.ts";
import { HpccError } from "../base/errors.ts";
import type { Action } from "../core/action/action.ts";
import type { ResultManifest } from "../core/action/result-manifest.ts";
import { type Digest, sha256 } from "../core/digest/digest.ts";
import { differInDrawnNames } from "./drawn-names.ts";
import { collectJob, type Evidence, type JobEvidence, kept, type ReproducibleJob } from "./evidence.ts";

/** What an execution left. */
export interface RunResult {
  /** 0 to 255; 128 plus the signal's number. */
  readonly exitCode: number;
  /** One for each of the action's outputs, null where there was no regular file. */
  readonly outputs: readonly ({ readonly executable: boolean; readonly bytes: Uint8Array } | null)[];
  readonly stdout: Uint8Array;
  /** Null where this runner has no terminal to give, and the job had one. */
  readonly stderr: Uint8Array | null;
  /** Where it ran, for the report: "worker w2, VM vm-7, firecracker, clean". */
  readonly where: string;
}

export interface RunnableJob {
  readonly action: Action;
  readonly encodedSource: Uint8Array;
  readonly source: ReproducibleJob["source"];
  /** The uncompressed bytes of a file of the source. */
  readonly open: (digest: Digest, size: number) => Promise<Uint8Array>;
}

/** Runs a job in a place that has run nothing else. */
export interface Runner {
  run(job: RunnableJob, of: JobEvidence, signal: AbortSignal): Promise<RunResult>;
}

export interface Difference {
  /** "exit code", "stdout", "stderr", or the output's path. */
  readonly what: string;
  readonly expected: string;
  readonly found: string;
  /** The bytes, where they are at hand: of the row's result, and of this run. */
  readonly expectedBytes: Uint8Array | null;
  readonly foundBytes: Uint8Array | null;
}

/** `unchecked` says what was not compared, and why. A row is `gone` that cannot be made again: what it needs is not kept, or not here. */
export type Reproduction = { readonly row: JobEvidence } & (
  | { readonly verdict: "equal"; readonly where: string; readonly unchecked: readonly string[] }
  | { readonly verdict: "different"; readonly where: string; readonly differences: readonly Difference[] }
  | { readonly verdict: "gone"; readonly problem: string }
);

/** An output that is fetched to show where it differs. */
const SHOWN_BYTES_MAX = 256 * 1024 * 1024;
/** What makes a row one that cannot be made again; everything else is an error of this command. */
const GONE: ReadonlySet<string> = new Set(["evidence.gone", "image.missing"]);

/** Throws HpccError when the command cannot say; a row whose source or image is gone is a verdict. */
export async function reproduce(
  evidence: Evidence,
  row: JobEvidence,
  { runner, signal }: { readonly runner: Runner; readonly signal: AbortSignal },
): Promise<Reproduction> {
  try {
    const job = await collectJob(evidence, row);
    const { action, encodedSource, source } = job;
    const open = async (digest: Digest, size: number) => kept(evidence, row, digest, size);
    const result = await runner.run({ action, encodedSource, source, open }, row, signal);
    const found = await compare(evidence, job, result);
    const differences = found.filter((difference) => !isDrawn(difference));
    if (differences.length > 0) return { row, verdict: "different", where: result.where, differences };
    const unchecked = [
      ...(result.stderr === null ? ["stderr: it was a terminal"] : []),
      ...(found.length > 0 ? ["names of temporary files in stderr: the compiler draws them"] : []),
    ];
    return { row, verdict: "equal", where: result.where, unchecked };
  } catch (error) {
    if (!(error instanceof HpccError) || !GONE.has(error.code)) throw error;
    return { row, verdict: "gone", problem: error.message };
  }
}

/** Whether words differ only in what a compiler draws anew in each run. */
function isDrawn({ what, expectedBytes, foundBytes }: Difference): boolean {
  return (
    what === "stderr" && expectedBytes !== null && foundBytes !== null && differInDrawnNames(expectedBytes, foundBytes)
  );
}

async function compare(evidence: Evidence, job: ReproducibleJob, found: RunResult): Promise<Difference[]> {
  const { expected } = job;
  const differences: Difference[] = [];
  if (expected.exitCode !== found.exitCode)
    differences.push({
      what: "exit code",
      expected: String(expected.exitCode),
      found: String(found.exitCode),
      expectedBytes: null,
      foundBytes: null,
    });
  const parts: [string, Digest | null, Uint8Array | null][] = [
    ...job.action.outputs.map(({ path }, index): [string, Digest | null, Uint8Array | null] => [
      shown(path),
      outputOf(expected, index),
      found.outputs[index]?.bytes ?? null,
    ]),
    ["stdout", expected.stdout.digest, found.stdout],
  ];
  if (found.stderr !== null) parts.push(["stderr", expected.stderr.digest, found.stderr]);
  for (const [what, digest, bytes] of parts) {
    const other = bytes === null ? null : sha256(bytes);
    if (digest === other) continue;
    const expectedBytes = digest === null ? null : await originalOf(evidence, job.evidence, digest);
    differences.push({
      what,
      expected: digest ?? "no file",
      found: other ?? "no file",
      expectedBytes,
      foundBytes: bytes,
    });
  }
  return differences;
}

/** The row's own output, to show where it differs; it may be evicted. */
async function originalOf(evidence: Evidence, row: JobEvidence, digest: Digest): Promise<Uint8Array | null> {
  const bytes = await evidence.blob(row, digest, SHOWN_BYTES_MAX);
  return bytes !== null && sha256(bytes) === digest ? bytes : null;
}

function outputOf({ outputs }: ResultManifest, index: number): Digest | null {
  return outputs.find((output) => output.index === index)?.digest ?? null;
}

function shown(path: ByteString): string {
  return Buffer.from(path, "latin1").toString("utf8");
}
