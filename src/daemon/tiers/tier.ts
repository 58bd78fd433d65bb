// Who may answer a call. A tier answers, hands the call on, or says why the call must be compiled here.
import type { CallEnd, CallRecord, TierName } from "../call/call-record.ts";
import type { PreparedCall } from "../call/prepared-call.ts";
import type { PreparedJob } from "../call/remote-job.ts";
import type { Bypass } from "../call/stage.ts";
import type { CallAnswer } from "../control/launcher-connection.ts";

export interface TierCall {
  readonly prepared: PreparedCall;
  readonly job: PreparedJob;
  readonly record: CallRecord;
}

export type TierEnd =
  | { readonly kind: "answer"; readonly answer: CallAnswer; readonly end: CallEnd }
  /** An output holds paths of the view: the call is to be made again with the project at its own path. */
  | { readonly kind: "own-paths" }
  | Bypass;

export interface Tier {
  readonly name: TierName;
  answer(call: TierCall): Promise<TierEnd>;
}
