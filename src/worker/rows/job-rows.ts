// The rows of jobs and of second compiles, one function for each event; each gives the row and its envelope for
// `AuditLog.append`.
import { type AuditRow, emptyRow } from "../../audit/row.ts";
import type { BodyOfKind } from "../../audit/rows/bodies.ts";
import type { Action } from "../../core/action/action.ts";
import { objectOf, type ResultManifest } from "../../core/action/result-manifest.ts";
import type { Digest } from "../../core/digest/digest.ts";
import type { BuildId } from "../../core/identity/build-id.ts";
import type { Isolation } from "../../core/isolation.ts";
import type { Life } from "../../core/life.ts";
import type { Made } from "../../core/revocation.ts";

/** Which VM made a result, for whom, when, and on what. */
export interface Origin extends Made {
  readonly image: Digest;
  readonly vm: string;
  readonly isolation: Isolation;
  readonly life: Life;
  readonly compileUs: number;
  readonly versions: Readonly<Record<string, string>>;
}

export interface RecordedResult {
  readonly manifest: ResultManifest;
  readonly resultDigest: Digest;
  readonly origin: Origin;
}

/** What is known of a job when its row is written. */
export interface JobFacts {
  readonly worker: string;
  readonly tenant: string;
  /** SPIFFE id of the client. */
  readonly principal: string;
  /** Digest of the policy file in force; null without one. */
  readonly policy: Digest | null;
  readonly tier: string | null;
  /** Null where what the client sent was none. */
  readonly action: Action | null;
  readonly sourceDigest: Digest | null;
  /** The command, or the digest of a blob with it. */
  readonly flags: string | Digest | null;
  readonly actionKey: Digest | null;
  /** What the client calls the build; null where it named none. */
  readonly build: BuildId | null;
  readonly startMs: number;
  readonly endMs: number;
  readonly durationUs: number;
}

/** Whose key a result was put under, or was found under; null for nobody's. */
export type Scope = "tenant" | "principal" | null;

/** How a job ended. */
export type JobEnd =
  | { readonly kind: "compile"; readonly result: RecordedResult; readonly scope: Scope }
  | {
      readonly kind: "hit";
      readonly outcome: "hit" | "joined";
      readonly result: RecordedResult;
      readonly scope: Scope;
      /** The trust tier of the key that it was found under. */
      readonly keyTier: string | null;
      /** The worker whose statement it was. */
      readonly from: string | null;
      /** Digest of the row of the compile, where it is known. */
      readonly compiledRow: Digest | null;
      /** The VM of the second, equal compile. */
      readonly confirmedBy: string | null;
    }
  | { readonly kind: "denied" | "failed"; readonly code: string; readonly vm: string | null };

/** A result of a warm VM that was compiled a second time in a clean one. */
export interface SecondCompile {
  readonly outcome: "equal" | "different";
  readonly second: RecordedResult;
  readonly first: { readonly vm: string; readonly resultDigest: Digest; readonly row: Digest | null };
}

type JobRow = [AuditRow, BodyOfKind<"compile" | "hit" | "denied" | "failed">];

export function jobRow(job: JobFacts, end: JobEnd): JobRow {
  switch (end.kind) {
    case "compile": {
      const { versions } = end.result.origin;
      return [
        rowOf(job, end.result),
        { ...resultBody(job, end.result), kind: end.kind, versions, scope: end.scope, ...actionBody(job) },
      ];
    }
    case "hit": {
      const { kind, outcome, scope, keyTier, from, compiledRow, confirmedBy } = end;
      const { principal } = end.result.origin;
      const madeFor = principal === job.principal ? null : principal;
      const own = { kind, outcome, scope, keyTier, from, compiledRow, confirmedBy, madeFor };
      return [rowOf(job, end.result), { ...resultBody(job, end.result), ...own, ...actionBody(job) }];
    }
    case "denied":
    case "failed": {
      const { kind, code, vm } = end;
      return [
        { ...rowOf(job, null), vm },
        { ...jobBody(job), kind, code, actionKey: job.actionKey },
      ];
    }
  }
}

/** The row of a second compile; its columns are about the second one. */
export function confirmRow(job: JobFacts, compile: SecondCompile): [AuditRow, BodyOfKind<"confirm">] {
  const { outcome, second, first } = compile;
  return [
    rowOf(job, second),
    {
      ...resultBody(job, second),
      kind: "confirm",
      outcome,
      versions: second.origin.versions,
      firstVm: first.vm,
      firstResultDigest: first.resultDigest,
      firstRow: first.row,
      ...actionBody(job),
    },
  ];
}

function rowOf(job: JobFacts, result: RecordedResult | null): AuditRow {
  const { worker, tenant, action, sourceDigest, flags, durationUs } = job;
  const imageDigest = action?.imageDigest ?? null;
  const made = result && {
    outputDigest: objectOf(result.manifest)?.digest ?? null,
    vm: result.origin.vm,
    exit: result.manifest.exitCode,
  };
  return { ...emptyRow(worker), tenant, imageDigest, sourceDigest, flags, durationUs, ...made };
}

function jobBody({ startMs, endMs, principal, policy, tier, build }: JobFacts) {
  return { startMs, endMs, principal, policy, tier, build };
}

function resultBody(job: JobFacts, { resultDigest, origin }: RecordedResult) {
  const { isolation, life, compileUs } = origin;
  if (job.actionKey === null) throw new Error("bug: a result without a key");
  return { ...jobBody(job), isolation, life, actionKey: job.actionKey, resultDigest, compileUs };
}

function actionBody({ action }: JobFacts) {
  if (action === null) throw new Error("bug: a result without an action");
  const { outputs, terminalColumns, determinism } = action;
  return { outputs, terminalColumns, determinism };
}
