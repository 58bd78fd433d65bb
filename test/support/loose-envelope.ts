// An envelope as tests look at it: every field of every kind, null where its kind has none, and what a person is told of it.
import { type AuditEnvelope, decodeEnvelope } from "../../src/audit/envelope.ts";
import { type AuditKind, noteOf } from "../../src/audit/rows/bodies.ts";
import type { AuditRecord } from "../../src/audit/segment.ts";
import type { Digest } from "../../src/core/digest/digest.ts";
import type { Isolation } from "../../src/core/isolation.ts";
import type { Life } from "../../src/core/life.ts";

const NONE = {
  principal: null as string | null,
  policy: null as Digest | null,
  tier: null as string | null,
  build: null as string | null,
  scope: null as "tenant" | "principal" | null,
  keyTier: null as string | null,
  madeFor: null as string | null,
  from: null as string | null,
  confirmedBy: null as string | null,
  compiledRow: null as Digest | null,
  isolation: null as Isolation | null,
  life: null as Life | null,
  actionKey: null as Digest | null,
  resultDigest: null as Digest | null,
  compileUs: null as number | null,
  user: null as string | null,
  versions: {} as Readonly<Record<string, string>>,
};

export type LooseEnvelope = typeof NONE & {
  readonly sequence: number;
  readonly previous: Digest;
  readonly kind: AuditKind;
  readonly note: string;
  readonly startMs: number;
  readonly endMs: number;
};

export interface LooseRecord extends Omit<AuditRecord, "envelope"> {
  readonly envelope: LooseEnvelope;
}

export function looseEnvelope(envelope: AuditEnvelope): LooseEnvelope {
  return { ...NONE, note: noteOf(envelope), ...envelope };
}

export function looseRecord(record: AuditRecord): LooseRecord {
  return { ...record, envelope: looseEnvelope(record.envelope) };
}

/** Of an envelope's line. */
export function readLoose(line: string): LooseEnvelope {
  return looseEnvelope(decodeEnvelope(line));
}
