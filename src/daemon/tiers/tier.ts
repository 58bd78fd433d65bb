// Who may answer a call. A tier answers, hands the call on, or says why the call must be compiled here.

import type { OutputsMessage } from "../../wire/launcher/messages.ts";
import type { CallEnd, CallRecord, TierName } from "../call/call-record.ts";
import type { PreparedCall } from "../call/prepared-call.ts";
import type { PreparedJob } from "../call/remote-job.ts";
import type { Bypass } from "../call/stage.ts";

export interface TierCall {
  readonly prepared: PreparedCall;
  readonly job: PreparedJob;
  readonly record: CallRecord;
}

export interface Answered {
  readonly kind: "answer";
  readonly answer: OutputsMessage;
  readonly end: CallEnd;
}

export type TierEnd =
  | Answered
  /** An output holds paths of the view: the call is to be made again with the project at its own path. */
  | { readonly kind: "own-paths" }
  | Bypass;

export interface Tier {
  readonly name: TierName;
  answer(call: TierCall): Promise<TierEnd>;
}
