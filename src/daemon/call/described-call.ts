// What observers are told of a call: what is known of it, and that nothing is known of the rest. Pure.
import type { ByteString } from "../../base/byte-string.ts";
import type { CallMessage } from "../../wire/launcher/messages.ts";
import type { AnsweredCall } from "./answered-call.ts";

export interface CallTime {
  readonly message: CallMessage;
  readonly project: ByteString | null;
  readonly startedMs: number;
  readonly durationMs: number;
}

export function describedCall(
  { message, project, startedMs, durationMs }: CallTime,
  known: Pick<AnsweredCall, "outcome" | "reason" | "detail"> & Partial<AnsweredCall>,
): AnsweredCall {
  return {
    compiler: null,
    source: null,
    output: null,
    words: [],
    environment: new Map(),
    callDigest: null,
    inputs: [],
    absent: [],
    searched: [],
    configuration: [],
    result: null,
    ...known,
    message,
    project,
    startedMs,
    durationMs,
  };
}
