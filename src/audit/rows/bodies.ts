// The kinds of audit rows and the fields of each: what its envelope says beside the nine columns, and which columns it has
// (docs/specs/audit-log.md). Pure. A field is added at the end of its kind; a kind's name is never used for another thing.

import { DETERMINISM_POLICIES, OUTPUT_KINDS } from "../../core/action/action.ts";
import type { Digest } from "../../core/digest/digest.ts";
import { ISOLATIONS } from "../../core/isolation.ts";
import { LIVES } from "../../core/life.ts";
import {
  buildId,
  count,
  digest,
  flag,
  list,
  object,
  oneOf,
  optional,
  type Shape,
  text,
  texts,
  time,
  type Values,
} from "./field.ts";

const TIMES = { startMs: time, endMs: time } as const;

/** Of a job: who asked, and under which policy. */
const JOB = { principal: text, policy: optional(digest), tier: optional(text) } as const;
/** Of a result: what made it. For a hit: what made it then. */
const RESULT = {
  isolation: oneOf(ISOLATIONS),
  life: oneOf(LIVES),
  actionKey: digest,
  resultDigest: digest,
  compileUs: count,
} as const;
/** What a command does not say of its job: with it and the columns the job can be run again, and its key made again. */
const ACTION = {
  /** In the order in which the result names them; paths are bytes. */
  outputs: list(object({ path: text, kind: oneOf(OUTPUT_KINDS.names), required: flag } as const)),
  /** Width of the terminal that stderr was; left out for none. */
  terminalColumns: optional(count),
  determinism: oneOf(DETERMINISM_POLICIES.names),
} as const;
/** Whose key a result was put under, or was found under. */
const SCOPE = { scope: optional(oneOf(["tenant", "principal"])) } as const;
/** What the client calls the build that the job belongs to; left out where it named none. */
const BUILD = { build: optional(buildId) } as const;
const ENDED = { code: text, actionKey: optional(digest) } as const;

/** A VM that is there. */
const VM = { isolation: oneOf(ISOLATIONS), life: oneOf(LIVES), user: optional(text), versions: texts } as const;

const FINDING = object({ name: text, status: oneOf(["ok", "warn", "fail", "unknown"]), found: text } as const);

/** Each kind's fields; a kind of several events has one entry for each, named "kind event". */
export const SHAPES = {
  /** The compiler ran for this job, also when it failed. */
  compile: { ...TIMES, ...JOB, ...RESULT, versions: texts, ...SCOPE, ...ACTION, ...BUILD },
  /** Answered without a compile of its own: from the cache, or by the compile of an equal job at the same time. */
  hit: {
    ...TIMES,
    ...JOB,
    outcome: oneOf(["hit", "joined"]),
    ...RESULT,
    ...SCOPE,
    /** The worker whose statement it was. */
    from: optional(text),
    /** Digest of the row of the compile. */
    compiledRow: optional(digest),
    /** The VM of the second, equal compile. */
    confirmedBy: optional(text),
    ...ACTION,
    ...BUILD,
    /** The trust tier that the key is of: the principal's own or one above it; left out for none. */
    keyTier: optional(text),
    /** SPIFFE id of whoever had it compiled; left out where that is the principal. */
    madeFor: optional(text),
  },
  /** Refused before anything ran. */
  denied: { ...TIMES, ...JOB, ...ENDED, ...BUILD },
  /** Ended without a result. */
  failed: { ...TIMES, ...JOB, ...ENDED, ...BUILD },
  "vm booted": { ...TIMES, origin: oneOf(["kernel", "golden"]), ...VM },
  "vm boot-failed": { ...TIMES, code: text, life: oneOf(LIVES), user: optional(text) },
  "vm parked": { ...TIMES, parking: oneOf(["snapshot", "memory"]), diskBytes: count, ...VM },
  "vm restored": { ...TIMES, ...VM },
  "vm destroyed": { ...TIMES, reason: text, executions: count, ...VM },
  /** A result of a warm VM was compiled a second time in a clean one, which the row's columns are about. */
  confirm: {
    ...TIMES,
    ...JOB,
    outcome: oneOf(["equal", "different"]),
    ...RESULT,
    versions: texts,
    firstVm: text,
    firstResultDigest: digest,
    firstRow: optional(digest),
    ...ACTION,
    ...BUILD,
  },
  /** Results were taken out of look-up, for good. */
  revoke: {
    ...TIMES,
    what: oneOf(["vm", "image", "principal", "key"]),
    value: text,
    /** What was made up to then; left out where it is for ever. */
    upToMs: optional(time),
    cause: oneOf(["breach", "confirmation", "operator", "peer"]),
    askedBy: optional(text),
    entries: count,
    /** Jobs that had been answered with one of them; left out where nobody looked. */
    served: optional(count),
    /** Digests of their rows, the newest, as many as fit. */
    servedRows: list(digest),
  },
  /** A policy file came into force; without one, digest and version are left out. */
  "policy in-force": { ...TIMES, digest: optional(digest), version: optional(count) },
  "policy refused": { ...TIMES, digest: optional(digest), version: optional(count), problem: text },
  /** What the worker's machine was when the worker started. */
  host: { ...TIMES, isolation: oneOf(ISOLATIONS), parts: texts, findings: list(FINDING) },
  /** What a crash had left at the log's end was set aside. */
  "log torn": { ...TIMES, bytes: count, file: text },
  /** From this row on the log's checkpoints are signed with this key. */
  "log key": { ...TIMES, key: text, before: optional(text) },
  /** Rows of a tenant were removed; their hashes stay. Written before anything goes. */
  "prune rows": {
    ...TIMES,
    cause: oneOf(["operator", "policy"]),
    askedBy: text,
    reason: text,
    policy: optional(digest),
    /** Rows that the log had when it was decided. */
    size: count,
    first: count,
    last: count,
    rows: count,
    bytes: count,
    /** Root over the numbers and hashes of what was removed (pruned-stub.ts). */
    removed: digest,
    /** Digest of the signed stub. */
    stub: digest,
  },
  /** Blobs of a tenant were removed that no row needs any more. */
  "prune sources": { ...TIMES, blobs: count, bytes: count },
  /** What it names is not removed, as long as it is in force; columns tenant and image belong to what it names. */
  "hold added": {
    ...TIMES,
    name: text,
    askedBy: text,
    reason: text,
    principal: optional(text),
    build: optional(text),
    hash: optional(digest),
    sinceMs: optional(time),
    untilMs: optional(time),
  },
  "hold removed": { ...TIMES, name: text, askedBy: text, reason: text },
} as const satisfies Record<string, Shape>;

type ShapeName = keyof typeof SHAPES;
type BodyOf<N extends ShapeName> = (N extends `${infer K} ${infer E}`
  ? { readonly kind: K; readonly event: E }
  : { readonly kind: N }) &
  Values<(typeof SHAPES)[N]>;

/** Everything of an envelope that the caller of the log knows: one type for each kind and event. */
export type EnvelopeBody = { [N in ShapeName]: BodyOf<N> }[ShapeName];
export type AuditKind = EnvelopeBody["kind"];
export type BodyOfKind<K extends AuditKind> = Extract<EnvelopeBody, { readonly kind: K }>;

export const AUDIT_KINDS: readonly string[] = [...new Set(Object.keys(SHAPES).map((name) => name.split(" ")[0]!))];

/** Rows that a `revoke` row lists. */
export const SERVED_ROWS_MAX = 100;

/** The kinds of jobs' rows. */
export const JOB_KINDS: ReadonlySet<AuditKind> = new Set(["compile", "hit", "denied", "failed"]);

/** The action that a row is about; null for none. */
export function actionKeyOf(body: EnvelopeBody): Digest | null {
  return "actionKey" in body ? body.actionKey : null;
}

/** The results that a row is about: two for a second compile that differed. */
export function resultDigestsOf(body: EnvelopeBody): readonly Digest[] {
  if (!("resultDigest" in body)) return [];
  return body.kind === "confirm" ? [body.resultDigest, body.firstResultDigest] : [body.resultDigest];
}

/** What a person is told beside the kind; "" for nothing. */
export function noteOf(body: EnvelopeBody): string {
  switch (body.kind) {
    case "compile":
      return "";
    case "hit":
      return body.outcome === "joined" ? "joined" : body.from === null ? "" : `from ${body.from}`;
    case "denied":
    case "failed":
      return body.code;
    case "vm":
      return vmNote(body);
    case "confirm":
      return body.outcome;
    case "revoke":
      return `results taken back: ${body.entries} of ${body.what} ${body.value} (${body.cause})`;
    case "policy":
      return body.event === "refused" ? `refused: ${body.problem}` : policyNote(body.version);
    case "host":
      return hostNote(body);
    case "log":
      return body.event === "torn" ? `torn end of ${body.bytes} bytes set aside` : `signed with ${body.key}`;
    case "prune":
      return body.event === "rows"
        ? `${body.rows} rows removed, from ${body.first} to ${body.last}: ${body.reason}`
        : `${body.blobs} blobs removed that no row needs`;
    case "hold":
      return `${body.name} ${body.event === "added" ? "in force" : "removed"}: ${body.reason}`;
  }
}

function vmNote(body: BodyOfKind<"vm">): string {
  switch (body.event) {
    case "booted":
      return body.origin === "golden" ? "booted from golden" : "booted";
    case "boot-failed":
      return `boot failed: ${body.code}`;
    case "parked":
      return body.parking === "snapshot" ? `parked: ${body.diskBytes} bytes on disk` : "parked: stopped, in memory";
    case "restored":
      return "restored";
    case "destroyed":
      return `destroyed: ${body.reason} after ${body.executions} executions`;
  }
}

function policyNote(version: number | null): string {
  return version === null ? "none in force" : `version ${version} in force`;
}

/** "fail: cgroup v2; warn: SMT, swap", or "ok". */
function hostNote({ findings }: BodyOfKind<"host">): string {
  const parts = (["fail", "warn", "unknown"] as const).flatMap((status) => {
    const names = findings.filter((finding) => finding.status === status).map(({ name }) => name);
    return names.length === 0 ? [] : [`${status}: ${names.join(", ")}`];
  });
  return parts.length === 0 ? "ok" : parts.join("; ");
}
