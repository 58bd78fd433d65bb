// What is known of one call, gathered while it goes through the pipeline and closed by its one exit. Statistics and logs are made of it.
import { type ByteString, displayText } from "../../base/byte-string.ts";
import type { Logger } from "../../base/log.ts";
import type { BypassReason } from "../../core/compile/bypass-reasons.ts";
import type { Digest } from "../../core/digest/digest.ts";
import type { CallCounts, CallOutcome } from "../control/call-counts.ts";
import type { ProjectPlace } from "../project.ts";
import type { Traffic } from "../remote/remote-job.ts";
import type { KnownOfCall } from "./told-call.ts";

export type TierName = "worker" | "local";

export interface CallEnd {
  readonly outcome: CallOutcome;
  /** Why the call was compiled locally, or refused; null for what a worker answered. */
  readonly reason: BypassReason | null;
  /** What the reason was about. */
  readonly detail: ByteString | null;
}

/** What a source form sent. */
export interface SentSource {
  readonly form: "files" | "text";
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly keptList: boolean;
}

export class CallRecord {
  readonly startedMs: number;
  source: SentSource | null = null;
  tier: TierName | null = null;
  /** Where the project stands for this call, on a worker and here alike; null while that is not known. */
  paths: ProjectPlace["paths"] | null = null;
  /** For observers. */
  known: KnownOfCall = {};
  #ended = false;
  readonly #counts: CallCounts;
  readonly #logger: Logger;

  constructor(parts: { readonly counts: CallCounts; readonly logger: Logger; readonly startedMs: number }) {
    this.#counts = parts.counts;
    this.#logger = parts.logger;
    this.startedMs = parts.startedMs;
  }

  /** A job went to a worker; each has an audit row. */
  sent(): void {
    this.#counts.add("jobs_sent", 1);
  }

  /** What a job moved, and how long its compiler ran in a guest; null when it did not run for this job. */
  moved(traffic: Traffic, compileUs: number | null): void {
    this.#counts.add("source_bytes", traffic.sentBytes);
    this.#counts.add("source_wire_bytes", traffic.sentFrameBytes);
    this.#counts.add("result_bytes", traffic.receivedBytes);
    this.#counts.add("result_wire_bytes", traffic.receivedFrameBytes);
    if (compileUs !== null) this.#counts.add("compile_us", compileUs);
  }

  /** The one exit. */
  end({ outcome, reason, detail }: CallEnd, nowMs: number): void {
    if (this.#ended) throw new Error("bug: a call ends once");
    this.#ended = true;
    this.#counts.count(outcome, reason);
    if (this.source !== null && this.paths !== null) this.#counts.countForm(this.source.form, this.paths);
    if (this.source?.keptList === true) this.#counts.add("lists_kept", 1);
    this.#logger.debug("call.ended", {
      outcome,
      reason: reason ?? undefined,
      detail: detail === null ? undefined : displayText(detail),
      tier: this.tier ?? undefined,
      source_form: this.source?.form,
      paths: this.paths ?? undefined,
      source_digest: this.source?.digest,
      source_bytes: this.source?.sizeBytes,
      kept_list: this.source?.keptList,
      duration_ms: Math.round(nowMs - this.startedMs),
    });
  }
}
