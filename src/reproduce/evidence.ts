// What a row leaves to run its job again: the row, its envelope, and blobs by digest. The port of whoever holds them: a worker that is
// asked, or its state folder. UNTRUSTED: both; everything is checked against the digests of the row.
import { type AuditEnvelope, decodeEnvelope } from "../audit/envelope.ts";
import { decodeFlags } from "../audit/flags.ts";
import { type AuditRow, decodeRow, rowDigest } from "../audit/row.ts";
import { HpccError } from "../base/errors.ts";
import { type Action, checkAction } from "../core/action/action.ts";
import { deriveActionKey } from "../core/action/action-key.ts";
import { decodeResultManifest, type ResultManifest } from "../core/action/result-manifest.ts";
import {
  decodeSourceManifest,
  SOURCE_MANIFEST_BYTES_MAX,
  type SourceManifest,
} from "../core/action/source-manifest.ts";
import { type Digest, isDigest, sha256 } from "../core/digest/digest.ts";
import { parseSpiffeId, parseTenantId } from "../core/identity/spiffe.ts";

/** The envelope of a row that an execution or a hit left. */
export type JobEnvelope = Extract<AuditEnvelope, { readonly kind: "compile" | "hit" }>;

/** A row of a job that has a result. */
export interface JobEvidence {
  readonly line: string;
  readonly row: AuditRow;
  readonly digest: Digest;
  readonly envelope: JobEnvelope;
}

export interface Evidence {
  /** Lines of rows and envelopes that name a hash, newest first. Throws `hash.unknown` when there is none. */
  find(hash: string): Promise<{ readonly rows: readonly string[]; readonly envelopes: readonly string[] }>;
  /** The bytes of a blob that the row names; null when it is not there any more, or larger than `sizeMax` bytes. */
  blob(row: JobEvidence, digest: Digest, sizeMax: number): Promise<Uint8Array | null>;
}

/** All that a job was made of. */
export interface ReproducibleJob {
  readonly evidence: JobEvidence;
  readonly action: Action;
  readonly encodedSource: Uint8Array;
  readonly source: SourceManifest;
  readonly expected: ResultManifest;
}

const FLAGS_BYTES_MAX = 8 * 1024 * 1024;
const RESULT_MANIFEST_BYTES_MAX = 1024 * 1024;

/** The newest row of a job with a result that names the hash. */
export async function findJob(evidence: Evidence, hash: string): Promise<JobEvidence> {
  const { rows, envelopes } = await evidence.find(hash);
  for (const [at, line] of rows.entries()) {
    const found = jobEvidence(line, envelopes[at] ?? "");
    if (found !== null) return found;
  }
  throw new HpccError("hash.unknown", `no row of a job with a result names ${hash}`, {
    hint: "Name a row, an object or a key of a compile or hit; `hpcc inspect` shows what the hash stands for.",
  });
}

/** Null for a row about anything but a result. */
export function jobEvidence(line: string, envelopeLine: string): JobEvidence | null {
  const envelope = decodeEnvelope(envelopeLine);
  if (envelope.kind !== "compile" && envelope.kind !== "hit") return null;
  return { line, row: decodeRow(line), digest: rowDigest(line), envelope };
}

/** Collects what a row names. Throws `evidence.gone` for what is not kept any more, `audit.corrupt` for what is not what the row says. */
export async function collectJob(evidence: Evidence, found: JobEvidence): Promise<ReproducibleJob> {
  const { row, envelope } = found;
  const { imageDigest, sourceDigest, flags } = row;
  if (imageDigest === null || sourceDigest === null || flags === null) throw corrupt("lacks image, source or flags");
  const text = isDigest(flags)
    ? Buffer.from(await kept(evidence, found, flags, FLAGS_BYTES_MAX)).toString("latin1")
    : flags;
  const { outputs, terminalColumns, determinism } = envelope;
  const action = checkAction({
    imageDigest,
    ...decodeFlags(text),
    outputs: outputs as Action["outputs"],
    terminalColumns,
    determinism,
  });
  checkKey(action, found, sourceDigest);
  const encodedSource = await kept(evidence, found, sourceDigest, SOURCE_MANIFEST_BYTES_MAX);
  const result = await kept(evidence, found, envelope.resultDigest, RESULT_MANIFEST_BYTES_MAX);
  return {
    evidence: found,
    action,
    encodedSource,
    source: decodeSourceManifest(encodedSource),
    expected: decodeResultManifest(result),
  };
}

/** A blob that the row needs, checked against its digest. */
export async function kept(evidence: Evidence, row: JobEvidence, digest: Digest, sizeMax: number): Promise<Uint8Array> {
  const bytes = await evidence.blob(row, digest, sizeMax);
  if (bytes === null) throw new HpccError("evidence.gone", `${digest} is not kept any more`);
  if (sha256(bytes) !== digest) throw corrupt(`names ${digest}, and other bytes came`);
  return bytes;
}

/** The row's key is the key of what the row says. */
function checkKey(action: Action, { row, envelope }: JobEvidence, sourceDigest: Digest): void {
  const principal = parseSpiffeId(envelope.principal);
  if (principal.kind !== "user" || principal.tenant !== row.tenant)
    throw corrupt("names a principal of another tenant");
  const tenant = parseTenantId(row.tenant);
  // A hit may have been under the key of a tier above the principal's.
  const tier = envelope.kind === "hit" && envelope.scope !== null ? envelope.keyTier : envelope.tier;
  const scopes = [
    { tenant, tier, principal: envelope.principal },
    { tenant, tier, principal: null },
  ];
  const keys = scopes.map((scope) => deriveActionKey({ action, sourceDigest, scope }));
  if (!keys.includes(envelope.actionKey)) throw corrupt("has a key that is not that of its image, source and command");
}

function corrupt(problem: string): HpccError {
  return new HpccError("audit.corrupt", `the row ${problem}`);
}
