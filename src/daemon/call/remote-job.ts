// What a source form makes of a call: a job for a worker, and what of its result becomes which file.
import type { ByteString } from "../../base/byte-string.ts";
import type { Action, OutputKind } from "../../core/action/action.ts";
import type { OutputManner } from "../../wire/launcher/messages.ts";
import type { AnsweredCall } from "./answered-call.ts";
import type { SourceFiles } from "./source-files.ts";

/** What becomes of an output, by its index in `Action.outputs`. */
export interface Delivery {
  readonly kind: OutputKind;
  /** As the caller spells it. */
  readonly destination: ByteString;
  readonly manner: OutputManner;
}

export interface PreparedJob {
  readonly action: Action;
  readonly source: SourceFiles;
  readonly deliveries: readonly Delivery[];
  /** Whether the compile may take a precompiled header; then the output behind those of `deliveries` is the dependency file. */
  readonly precompiled: boolean;
  /** The dependency file of a one-step compile, with the paths of the view; null when the call asks for none, or the guest writes it. */
  readonly dependencyText: ByteString | null;
  /** Whether no compiler was asked which files the call reads, as that was known from an earlier call. */
  readonly keptList: boolean;
  /** What of the host the job depends on; null where the source form does not tell. */
  readonly evidence: (() => Pick<AnsweredCall, "inputs" | "absent" | "searched">) | null;
}
