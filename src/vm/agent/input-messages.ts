// The messages that begin an execution: Execute, then the zstd frames of its inputs in chunks, one file after the other.
import { create, toBinary } from "@bufbuild/protobuf";
import { bytesOf } from "../../base/byte-string.ts";
import { HpccError } from "../../base/errors.ts";
import {
  type Execute,
  ExecuteSchema,
  InputChunkSchema,
  type SessionRequest,
  SessionRequestSchema,
} from "../../gen/hpcc/agent/v1/agent_pb.js";
import type { ExecutionInput, ExecutionRequest } from "../execution.ts";
import { CHUNK_BYTES_MAX, EXECUTE_BYTES_MAX, INPUTS_MAX, OUTPUTS_MAX } from "./limits.ts";
import type { SourceMessage } from "./outbox.ts";

/** The Execute message of a request; a request that no guest would take is refused here. */
export function makeExecute(executionId: bigint, request: ExecutionRequest): Execute {
  if (request.inputs.length + request.links.length + request.folders.length > INPUTS_MAX)
    throw new HpccError("limit.exceeded", `more than ${INPUTS_MAX} input files, links and folders`);
  if (request.outputs.length > OUTPUTS_MAX) throw new HpccError("limit.exceeded", `more than ${OUTPUTS_MAX} outputs`);
  const { limits } = request;
  const execute = create(ExecuteSchema, {
    executionId,
    argv: request.argv.map(bytesOf),
    environment: request.environment.map(bytesOf),
    cwd: bytesOf(request.cwd),
    inputs: request.inputs.map((input) => ({
      path: bytesOf(input.path),
      mode: input.executable ? 0o755 : 0o644,
      size: BigInt(input.sizeBytes),
      frameSize: BigInt(input.frameSizeBytes),
    })),
    links: request.links.map((link) => ({ path: bytesOf(link.path), target: bytesOf(link.target) })),
    folders: request.folders.map(bytesOf),
    outputs: request.outputs.map(bytesOf),
    limits: {
      wallMs: limits.wallMs,
      memoryBytes: BigInt(limits.memoryBytes),
      pids: limits.pids,
      outputBytes: BigInt(limits.outputBytes),
      stdioBytes: BigInt(limits.stdioBytes),
    },
    terminalColumns: request.terminalColumns,
  });
  if (toBinary(ExecuteSchema, execute).length > EXECUTE_BYTES_MAX)
    throw new HpccError("limit.exceeded", `arguments, environment and names take more than ${EXECUTE_BYTES_MAX} bytes`);
  return execute;
}

/** Gives the messages. A frame that is not as long as declared throws `store.corrupt`. */
export async function* inputMessages(
  execute: Execute,
  inputs: readonly ExecutionInput[],
): AsyncGenerator<SourceMessage> {
  let bytesLeft = inputs.reduce((sum, input) => sum + input.frameSizeBytes, 0);
  yield sourceMessage({ case: "execute", value: execute }, bytesLeft === 0);
  for (const [inputIndex, input] of inputs.entries()) {
    if (input.frameSizeBytes === 0) continue;
    let frameLeft = input.frameSizeBytes;
    for await (const bytes of input.openFrame()) {
      if (bytes.length > frameLeft) throw wrongLength(inputIndex, input);
      for (let offset = 0; offset < bytes.length; offset += CHUNK_BYTES_MAX) {
        const data = bytes.slice(offset, offset + CHUNK_BYTES_MAX);
        frameLeft -= data.length;
        bytesLeft -= data.length;
        const { executionId } = execute;
        const value = create(InputChunkSchema, { executionId, inputIndex, data });
        yield sourceMessage({ case: "input", value }, bytesLeft === 0);
      }
      if (frameLeft === 0) break;
    }
    if (frameLeft > 0) throw wrongLength(inputIndex, input);
  }
}

function sourceMessage(message: SessionRequest["message"], last: boolean): SourceMessage {
  return { message: create(SessionRequestSchema, { message }), last };
}

function wrongLength(index: number, input: ExecutionInput): HpccError {
  return new HpccError("store.corrupt", `the frame of input ${index} is not ${input.frameSizeBytes} bytes long`);
}
