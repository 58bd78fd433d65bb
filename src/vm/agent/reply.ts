// Checks what a guest says of one execution. Everything here is the guest's word: sizes are held against the limits that
// the execution was given, counts against what was asked. A Breach ends the VM.

import { HpccError } from "../../base/errors.ts";
import type { ExecutionError, Exited, ScrubReport } from "../../gen/hpcc/agent/v1/agent_pb.js";
import { ExecutionErrorCode } from "../../gen/hpcc/agent/v1/agent_pb.js";
import type { ExecutionExit, ExecutionRequest } from "../execution.ts";
import { CHUNK_BYTES_MEAN_MIN, CHUNKS_FREE, TEXT_LENGTH_MAX } from "./limits.ts";

/** The guest broke the contract. */
export class Breach extends Error {}

/** One stream of an execution's answer: stdout, stderr or an output that is present. */
export interface AnswerStream {
  readonly index: number;
  readonly sizeBytes: number;
  readonly chunksMax: number;
}

export interface CheckedExit {
  readonly exit: ExecutionExit;
  /** In the order in which they come; empty ones are left out, for they have no chunk. */
  readonly streams: readonly AnswerStream[];
  readonly stdoutBytes: number;
  readonly stderrBytes: number;
  /** Null for an output that is not there. */
  readonly outputs: readonly ({ readonly sizeBytes: number; readonly executable: boolean } | null)[];
  readonly wallUs: number;
  readonly cpuUs: number;
  readonly memoryPeakBytes: number;
}

const EXIT_CODE_MAX = 255;
const SIGNAL_MAX = 64;

function sizeWithin(value: bigint, max: number, what: string): number {
  if (value > BigInt(max)) throw new Breach(`${what} has ${value} bytes, over its limit of ${max}`);
  return Number(value);
}

/** A measurement that nothing depends on; cut to what a number holds exactly. */
function measure(value: bigint): number {
  return Number(value > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : value);
}

/** Checks an Exited message. UNTRUSTED: guest. */
export function checkExited(message: Exited, request: ExecutionRequest): CheckedExit {
  if (message.exitCode > EXIT_CODE_MAX || message.signal > SIGNAL_MAX || (message.signal > 0 && message.exitCode > 0))
    throw new Breach(`an exit with code ${message.exitCode} and signal ${message.signal}`);
  if (message.outputs.length !== request.outputs.length)
    throw new Breach(`${message.outputs.length} outputs where ${request.outputs.length} were declared`);
  const stdoutBytes = sizeWithin(message.stdoutSize, request.limits.stdioBytes, "stdout");
  const stderrBytes = sizeWithin(message.stderrSize, request.limits.stdioBytes, "stderr");
  let left = request.limits.outputBytes;
  const outputs = message.outputs.map((output, index) => {
    if (!output.present) {
      if (output.size > 0n) throw new Breach(`output ${index} is absent and has bytes`);
      return null;
    }
    const sizeBytes = sizeWithin(output.size, left, `output ${index}`);
    left -= sizeBytes;
    return { sizeBytes, executable: output.executable };
  });
  const sizes = [stdoutBytes, stderrBytes, ...outputs.map((output) => output?.sizeBytes ?? 0)];
  return {
    exit: message.signal > 0 ? { kind: "signal", signal: message.signal } : { kind: "code", code: message.exitCode },
    streams: sizes
      .map((sizeBytes, index) => ({
        index,
        sizeBytes,
        chunksMax: CHUNKS_FREE + Math.ceil(sizeBytes / CHUNK_BYTES_MEAN_MIN),
      }))
      .filter(({ sizeBytes }) => sizeBytes > 0),
    stdoutBytes,
    stderrBytes,
    outputs,
    wallUs: measure(message.wallUs),
    cpuUs: measure(message.cpuUs),
    memoryPeakBytes: measure(message.memoryPeakBytes),
  };
}

/** Checks what the guest says of its last clearing; gives the clearing's number, 0 when there was none. UNTRUSTED: guest. */
export function checkScrubReport(report: ScrubReport | undefined): bigint {
  if (!report) return 0n;
  const { processesLeft, mountsLeft, ipcLeft, sequence } = report;
  if (sequence === 0n) throw new Breach("a clearing without a number");
  if (processesLeft + mountsLeft + ipcLeft > 0)
    throw new Breach(`it left ${processesLeft} processes, ${mountsLeft} mounts and ${ipcLeft} IPC objects uncleared`);
  return sequence;
}

/** Text of a guest for people: bounded, one line, no control characters. UNTRUSTED: guest. */
export function guestText(text: string): string {
  return text.slice(0, TEXT_LENGTH_MAX).replace(/[^\x20-\x7e]/g, "?");
}

/** The error of an execution that the guest could not carry out. UNTRUSTED: guest. */
export function executionFailure(error: ExecutionError): HpccError {
  const said = guestText(error.message);
  const limit = (name: string, text: string): HpccError =>
    new HpccError("limit.exceeded", said === "" ? text : `${text}: ${said}`, { details: { limit: name } });
  switch (error.code) {
    case ExecutionErrorCode.TIME_LIMIT:
      return limit("wall", "the compile ran longer than its time limit");
    case ExecutionErrorCode.MEMORY_LIMIT:
      return limit("memory", "the compile needed more memory than its limit");
    case ExecutionErrorCode.OUTPUT_LIMIT:
      return limit("output", "the compile wrote more than its limit");
    case ExecutionErrorCode.PIDS_LIMIT:
      return limit("pids", "the compile needed more processes than its limit");
    case ExecutionErrorCode.CANCELLED:
      return new HpccError("job.cancelled", "the compile was cancelled");
    case ExecutionErrorCode.NO_PROGRAM:
      return new HpccError("job.failed", `the image does not hold the program: ${said}`);
    case ExecutionErrorCode.INVALID:
      return new HpccError("job.failed", `the guest refused the request: ${said}`);
    case ExecutionErrorCode.SANDBOX:
      return new HpccError("job.failed", `the guest could not make the sandbox: ${said}`);
    case ExecutionErrorCode.UNSPECIFIED:
    default:
      throw new Breach(`an error with the unknown code ${String(error.code)}`);
  }
}
