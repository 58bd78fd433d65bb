// What travels with an audit row: when, for whom, how, under which isolation, and the hash of the record before
// (docs/specs/audit-log.md). One JSON line with its keys in one order. Pure.
import { HpccError } from "../base/errors.ts";
import { type Digest, isDigest } from "../core/digest/digest.ts";
import { ISOLATIONS, type Isolation } from "../core/isolation.ts";

/**
 * `compile`: compiled for this job. `hit`: found in the cache, or (note "joined") compiled for an equal job at the same
 * time. `denied`: refused before anything ran. `failed`: ended without a result. `vm`: a VM's life. `host`: what
 * the machine was when the worker started. `log`: the log itself.
 */
export const AUDIT_KINDS = ["compile", "hit", "denied", "failed", "vm", "host", "log"] as const;
export type AuditKind = (typeof AUDIT_KINDS)[number];

/** Everything of an envelope that the caller of the log knows. */
export interface EnvelopeBody {
  readonly kind: AuditKind;
  /** "joined", the error's code, what happened to a VM; "" for nothing to say. */
  readonly note: string;
  /** SPIFFE id of the client; null for rows about no job. */
  readonly principal: string | null;
  /** Milliseconds since 1970 UTC. */
  readonly startMs: number;
  readonly endMs: number;
  readonly isolation: Isolation | null;
  /** Whether the VM had run something else since its golden restore. */
  readonly life: "clean" | "warm" | null;
  readonly actionKey: Digest | null;
  readonly resultDigest: Digest | null;
  /** Time in the compiler, of the first compile for a hit, in microseconds. */
  readonly compileUs: number | null;
  /** Names and versions or digests: VMM, kernel, agent. */
  readonly versions: Readonly<Record<string, string>>;
}

export interface AuditEnvelope extends EnvelopeBody {
  /** Number of the record in its log, from 1. */
  readonly sequence: number;
  /** SHA-256 of the record before; 64 zeros for the first. */
  readonly previous: Digest;
}

export const FIRST_PREVIOUS = `sha256:${"0".repeat(64)}` as Digest;

/** One line of printable ASCII, without line end. */
export function encodeEnvelope(envelope: AuditEnvelope): string {
  const ordered = {
    sequence: envelope.sequence,
    kind: envelope.kind,
    note: envelope.note,
    principal: envelope.principal,
    start: new Date(envelope.startMs).toISOString(),
    end: new Date(envelope.endMs).toISOString(),
    isolation: envelope.isolation,
    life: envelope.life,
    action_key: envelope.actionKey,
    result_digest: envelope.resultDigest,
    compile_us: envelope.compileUs,
    versions: Object.fromEntries(Object.entries(envelope.versions).sort(([a], [b]) => (a < b ? -1 : 1))),
    previous: envelope.previous,
  };
  return JSON.stringify(ordered).replace(/[^ -~]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** Throws `audit.corrupt` for anything that `encodeEnvelope` does not write. UNTRUSTED: a log, a worker. */
export function decodeEnvelope(line: string): AuditEnvelope {
  const read = new EnvelopeReader(line);
  const envelope: AuditEnvelope = {
    sequence: read.number("sequence"),
    kind: read.oneOf("kind", AUDIT_KINDS),
    note: read.text("note"),
    principal: read.optional("principal", (key) => read.text(key)),
    startMs: read.time("start"),
    endMs: read.time("end"),
    isolation: read.optional("isolation", (key) => read.oneOf(key, ISOLATIONS)),
    life: read.optional("life", (key) => read.oneOf(key, ["clean", "warm"] as const)),
    actionKey: read.optional("action_key", (key) => read.digest(key)),
    resultDigest: read.optional("result_digest", (key) => read.digest(key)),
    compileUs: read.optional("compile_us", (key) => read.number(key)),
    versions: read.texts("versions"),
    previous: read.digest("previous"),
  };
  if (encodeEnvelope(envelope) !== line) throw corrupt("is not in its canonical form");
  return envelope;
}

class EnvelopeReader {
  readonly #fields: Readonly<Record<string, unknown>>;

  constructor(line: string) {
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch {
      throw corrupt("is no JSON");
    }
    if (typeof value !== "object" || value === null || Array.isArray(value)) throw corrupt("is no JSON object");
    this.#fields = value as Record<string, unknown>;
  }

  optional<T>(key: string, read: (key: string) => T): T | null {
    return this.#fields[key] === null ? null : read(key);
  }

  text(key: string): string {
    const value = this.#fields[key];
    if (typeof value !== "string") throw corrupt(`has no text ${key}`);
    return value;
  }

  texts(key: string): Record<string, string> {
    const value = this.#fields[key];
    if (typeof value !== "object" || value === null || !Object.values(value).every((text) => typeof text === "string"))
      throw corrupt(`has no texts ${key}`);
    return { ...(value as Record<string, string>) };
  }

  number(key: string): number {
    const value = this.#fields[key];
    if (!Number.isSafeInteger(value) || (value as number) < 0) throw corrupt(`has no number ${key}`);
    return value as number;
  }

  time(key: string): number {
    const ms = Date.parse(this.text(key));
    if (!Number.isFinite(ms)) throw corrupt(`has no time ${key}`);
    return ms;
  }

  digest(key: string): Digest {
    const text = this.text(key);
    if (!isDigest(text)) throw corrupt(`has no digest ${key}`);
    return text;
  }

  oneOf<T extends string>(key: string, values: readonly T[]): T {
    const value = values.find((candidate) => candidate === this.#fields[key]);
    if (value === undefined) throw corrupt(`has no known ${key}`);
    return value;
  }
}

function corrupt(problem: string): HpccError {
  return new HpccError("audit.corrupt", `an audit envelope ${problem}`);
}
