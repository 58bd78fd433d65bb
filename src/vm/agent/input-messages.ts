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

/** The Execute message of a request; a request that no guest would take is refused here. */
export function makeExecute(executionId: bigint, request: ExecutionRequest): Execute {
  if (request.inputs.length > INPUTS_MAX) throw new HpccError("limit.exceeded", `more than ${INPUTS_MAX} input files`);
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

/**
 * Gives the messages; `lastMade` is called just before the one after which the guest may begin. A frame that is not as
 * long as declared throws `store.corrupt`.
 */
export async function* inputMessages(
  execute: Execute,
  inputs: readonly ExecutionInput[],
  lastMade: () => void,
): AsyncGenerator<SessionRequest> {
  let bytesLeft = inputs.reduce((sum, input) => sum + input.frameSizeBytes, 0);
  if (bytesLeft === 0) lastMade();
  yield create(SessionRequestSchema, { message: { case: "execute", value: execute } });
  for (const [index, input] of inputs.entries()) {
    if (input.frameSizeBytes === 0) continue;
    let frameLeft = input.frameSizeBytes;
    for await (const bytes of input.openFrame()) {
      if (bytes.length > frameLeft) throw wrongLength(index, input);
      for (let offset = 0; offset < bytes.length; offset += CHUNK_BYTES_MAX) {
        const data = bytes.subarray(offset, offset + CHUNK_BYTES_MAX);
        frameLeft -= data.length;
        bytesLeft -= data.length;
        if (bytesLeft === 0) lastMade();
        yield create(SessionRequestSchema, {
          message: {
            case: "input",
            value: create(InputChunkSchema, {
              executionId: execute.executionId,
              inputIndex: index,
              data: data.slice(),
            }),
          },
        });
      }
      if (frameLeft === 0) break;
    }
    if (frameLeft > 0) throw wrongLength(index, input);
  }
}

function wrongLength(index: number, input: ExecutionInput): HpccError {
  return new HpccError("store.corrupt", `the frame of input ${index} is not ${input.frameSizeBytes} bytes long`);
}
