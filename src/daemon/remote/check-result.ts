// A worker's answer, checked before any of its bytes are taken.
import { HpccError } from "../../base/errors.ts";
import {
  type BlobRef,
  encodeResultManifest,
  type ResultOutput,
  resultDigest,
} from "../../core/action/result-manifest.ts";
import { sourceDigest } from "../../core/action/source-manifest.ts";
import { type Digest, isDigest, sha256 } from "../../core/digest/digest.ts";
import { isolationAtLeast } from "../../core/isolation.ts";
import { leafHash } from "../../core/merkle/hashes.ts";
import { equal, rootOfInclusion } from "../../core/merkle/proof.ts";
import { decodeProof, readCheckpoint } from "../../core/note/checkpoint.ts";
import { type JobResult, Outcome, type ResultBlob, ResultBlobKind } from "../../gen/hpcc/worker/v1/worker_pb.js";
import { isolationOfNumber, lifeOfNumber } from "../../wire/worker/action-codec.ts";
import { AUDIT_ROW_LENGTH_MAX, RECEIPT_LENGTH_MAX } from "../../wire/worker/limits.ts";
import type { RemoteJob, RemoteReceipt, RemoteResult } from "./remote-job.ts";

export type ResultHead = Omit<RemoteResult, "outputs" | "stdout" | "stderr" | "traffic">;

/** A blob of a result, in the order in which it is sent. */
export type CheckedBlob = BlobRef &
  ({ readonly kind: "output"; readonly output: ResultOutput } | { readonly kind: "stdout" | "stderr" });

export interface CheckedResult {
  readonly head: ResultHead;
  readonly blobs: readonly CheckedBlob[];
}

export const OUTPUT_BYTES_MAX = 4 * 1024 * 1024 * 1024;
export const STDIO_BYTES_MAX = 64 * 1024 * 1024;
const EXIT_CODE_MAX = 255;
const AUDIT_ROW_COLUMNS = 9;
const EMPTY = sha256(new Uint8Array());

const OUTCOMES: Partial<Record<Outcome, RemoteResult["outcome"]>> = {
  [Outcome.COMPILED]: "compiled",
  [Outcome.HIT]: "hit",
  [Outcome.JOINED]: "joined",
};

/**
 * Throws `peer.protocol` for an answer that does not fit the job or itself. `logName` is what the worker's log is called, by its
 * certificate. UNTRUSTED: the worker.
 */
export function checkResult(message: JobResult, job: RemoteJob, logName: string | null): CheckedResult {
  const blobs = message.blobs.map((blob) => checkBlob(blob, job));
  const outcome = OUTCOMES[message.outcome];
  const life = lifeOfNumber(message.life);
  const isolation = isolationOfNumber(message.isolation);
  const { exitCode, auditRow } = message;
  require(outcome !== undefined, "says no outcome");
  require(life !== undefined, "says no life of its VM");
  require(exitCode <= EXIT_CODE_MAX, "gives an exit code above 255");
  require(isolationAtLeast(isolation, job.isolationMin), "compiled under a weaker isolation than was asked for");
  require(auditRow.length > 0 && auditRow.length <= AUDIT_ROW_LENGTH_MAX, "gives no audit row");
  require(sha256(Buffer.from(auditRow)) === message.rowDigest, "gives another row's digest");
  checkRow(message, blobs, job);
  checkManifest(message, blobs, job);
  return {
    head: {
      outcome,
      exitCode,
      resultDigest: message.resultDigest as Digest,
      auditRow,
      rowDigest: message.rowDigest as Digest,
      receipt: receiptOf(message, logName),
      isolation,
      compileUs: Number(message.compileUs),
      life,
    },
    blobs,
  };
}

/**
 * The receipt as it is kept; null where the worker gives none. That it leads from its row to the root which it names is checked here;
 * whether the log's key has signed that root is for whoever has the key.
 */
function receiptOf({ auditRow, receipt }: JobResult, from: string | null): RemoteReceipt | null {
  if (receipt === undefined) return null;
  const { envelope, proof } = receipt;
  require(envelope.length + proof.length <= RECEIPT_LENGTH_MAX, "gives too long a receipt");
  require(/^[ -~]+$/.test(envelope), "gives a receipt without its envelope");
  const leaf = leafHash(Buffer.from(`${auditRow}\n${envelope}\n`, "latin1"));
  require(provesLeaf(proof, leaf), "gives a receipt that does not prove its row");
  return { leaf: `sha256:${leaf.toString("hex")}` as Digest, proof, from };
}

function provesLeaf(text: string, leaf: Uint8Array): boolean {
  try {
    const { index, path, checkpoint } = decodeProof(text);
    const { size, root } = readCheckpoint(checkpoint);
    const reached = rootOfInclusion(leaf, { index, size }, path);
    return reached !== null && equal(reached, root);
  } catch (error) {
    if (error instanceof HpccError) return false;
    throw error;
  }
}

/** The row is what a worker can be held to later: it must be about this job, and about the object that came. */
function checkRow({ auditRow, exitCode }: JobResult, blobs: readonly CheckedBlob[], job: RemoteJob): void {
  const columns = auditRow.split("\t");
  const [image, source, , output] = columns;
  const object = blobs.find((blob) => blob.kind === "output" && blob.output.kind === "object");
  require(columns.length === AUDIT_ROW_COLUMNS, "gives a row that is none");
  require(image === job.action.imageDigest && source === sourceDigest(job.manifest), "gives the row of another job");
  require(output === (object?.digest ?? "-") && columns.at(-1) === String(exitCode), "gives the row of another result");
}

/** The result's digest vouches for all that was said of its blobs. */
function checkManifest({ exitCode, resultDigest: claimed }: JobResult, blobs: CheckedBlob[], job: RemoteJob): void {
  const outputs = blobs.flatMap((blob) => (blob.kind === "output" ? [blob.output] : []));
  const [stdout, stderr, ...rest] = blobs.slice(outputs.length);
  require(stdout?.kind === "stdout" && stderr?.kind === "stderr" && rest.length === 0, "orders its blobs wrongly");
  require(outputs.every(({ index }, at) => index > (outputs[at - 1]?.index ?? -1)), "gives outputs out of order");
  const given = new Set(outputs.map(({ index }) => index));
  const complete = job.action.outputs.every(({ required }, index) => !required || given.has(index));
  require(exitCode !== 0 || complete, "leaves out an output that must be there");
  const encoded = encodeResultManifest({ exitCode, outputs, stdout, stderr });
  require(resultDigest(encoded) === claimed, "gives another result's digest");
}

function checkBlob(
  { kind, outputIndex, digest, size, frameSize, executable }: ResultBlob,
  job: RemoteJob,
): CheckedBlob {
  const ref = { digest: digest as Digest, size: Number(size) };
  require(isDigest(digest), "names a blob without a digest");
  require(frameSize === 0n ? size === 0n && digest === EMPTY : size > 0n, "gives sizes that do not fit");
  const sizeMax = kind === ResultBlobKind.OUTPUT ? OUTPUT_BYTES_MAX : STDIO_BYTES_MAX;
  if (ref.size > sizeMax) throw new HpccError("limit.exceeded", `the worker's result is larger than ${sizeMax} bytes`);
  switch (kind) {
    case ResultBlobKind.OUTPUT: {
      const declared = job.action.outputs[outputIndex];
      require(declared !== undefined, "gives an output that was not declared");
      return { kind: "output", ...ref, output: { index: outputIndex, kind: declared.kind, executable, ...ref } };
    }
    case ResultBlobKind.STDOUT:
      return { kind: "stdout", ...ref };
    case ResultBlobKind.STDERR:
      return { kind: "stderr", ...ref };
    case ResultBlobKind.UNSPECIFIED:
      break;
  }
  throw new HpccError("peer.protocol", "the worker gives a blob of no known kind");
}

function require(condition: boolean, problem: string): asserts condition {
  if (!condition) throw new HpccError("peer.protocol", `the worker ${problem}`);
}
