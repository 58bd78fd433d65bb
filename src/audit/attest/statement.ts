// What a row says, as an in-toto statement with a SLSA provenance (docs/specs/provenance.md): made of the record, its proof and what the
// record names, so that whoever has these makes the same bytes again. Pure.
import { HpccError } from "../../base/errors.ts";
import { decodeResultManifest, type ResultManifest, resultDigest } from "../../core/action/result-manifest.ts";
import { type Digest, digestHex, isDigest, sha256 } from "../../core/digest/digest.ts";
import { checkProof, decodeProof, readCheckpoint } from "../../core/note/checkpoint.ts";
import type { NoteVerifier } from "../../core/note/signed-note.ts";
import { encodeEnvelope } from "../envelope.ts";
import { decodeFlags } from "../flags.ts";
import type { BodyOfKind } from "../rows/bodies.ts";
import { type AuditRecord, encodeRecord } from "../segment.ts";

export const BUILD_TYPE = "https://hpcc.dev/specs/provenance/v1";
const IN_TOTO_STATEMENT = "https://in-toto.io/Statement/v1";
const SLSA_PROVENANCE = "https://slsa.dev/provenance/v1";

/** What a statement is made of. */
export interface Attested {
  readonly record: AuditRecord;
  /** C2SP's tlog-proof of the record. */
  readonly proof: string;
  /** The encoded result manifest, which names all outputs; null where nobody has it: then the object alone is named. */
  readonly manifest: Uint8Array | null;
}

/** A row of a job that left something. */
export type AttestableBody = BodyOfKind<"compile" | "hit">;

/** Why a row has no statement; null for one that has. */
export function unattestable({ row, envelope }: AuditRecord): string | null {
  if (envelope.kind !== "compile" && envelope.kind !== "hit")
    return `is of kind ${envelope.kind}, about no job's result`;
  if (row.exit !== 0) return `is about a compile that failed, with exit code ${row.exit}`;
  return null;
}

interface Descriptor {
  readonly name: string;
  readonly digest?: { readonly sha256: string };
  readonly content?: string;
  readonly mediaType?: string;
}

export interface Statement {
  readonly subject: readonly { readonly name: string; readonly digest: { readonly sha256: string } }[];
  readonly predicate: { readonly runDetails: { readonly byproducts: readonly Descriptor[] } };
}

/** Throws `argument.invalid` for a row that has no statement, `audit.corrupt` for a manifest that is not the row's. */
export function statementOf(attested: Attested): Statement {
  const { record, proof } = attested;
  const problem = unattestable(record);
  if (problem !== null) throw new HpccError("argument.invalid", `row ${record.envelope.sequence} ${problem}`);
  const body = record.envelope as AuditRecord["envelope"] & AttestableBody;
  const { origin } = readCheckpoint(decodeProof(proof).checkpoint);
  const subject = subjectsOf(attested, body);
  if (subject.length === 0)
    throw new HpccError("argument.invalid", `row ${body.sequence} is about a compile that left no file`);
  const statement = {
    _type: IN_TOTO_STATEMENT,
    subject,
    predicateType: SLSA_PROVENANCE,
    predicate: {
      buildDefinition: {
        buildType: BUILD_TYPE,
        externalParameters: externalParameters(record, body),
        internalParameters: internalParameters(record, body),
        resolvedDependencies: dependenciesOf(record),
      },
      runDetails: {
        builder: builderOf(origin, body),
        metadata: metadataOf(origin, body),
        byproducts: byproductsOf(attested, body),
      },
    },
  };
  return statement;
}

export function encodeStatement(statement: Statement): Buffer {
  return Buffer.from(JSON.stringify(statement));
}

/** A statement's subjects: the outputs of the result, in its order, by their paths in the guest. */
function subjectsOf({ record, manifest }: Attested, body: AttestableBody): Statement["subject"] {
  const nameOf = (index: number) => body.outputs[index]?.path ?? `output ${index}`;
  const subject = (name: string, digest: Digest) => ({ name, digest: { sha256: digestHex(digest) } });
  const { outputDigest } = record.row;
  if (manifest === null) {
    if (outputDigest === null) return [];
    return [subject(nameOf(body.outputs.findIndex(({ kind }) => kind === "object")), outputDigest)];
  }
  const { outputs } = manifestOf(manifest, body);
  return outputs.map(({ index, digest }) => subject(nameOf(index), digest));
}

function manifestOf(encoded: Uint8Array, body: AttestableBody): ResultManifest {
  if (resultDigest(encoded) !== body.resultDigest)
    throw new HpccError("audit.corrupt", "a result's manifest is not the one that its row names");
  return decodeResultManifest(encoded);
}

/** What whoever called the compiler decided. */
function externalParameters({ row }: AuditRecord, body: AttestableBody) {
  const { outputs, terminalColumns, determinism, principal, build } = body;
  return {
    command: commandOf(row.flags),
    outputs,
    ...(terminalColumns !== null && { terminalColumns }),
    determinism,
    tenant: row.tenant,
    principal,
    ...(build !== null && { build }),
  };
}

function commandOf(flags: string | null) {
  if (flags === null) return {};
  if (isDigest(flags)) return { digest: { sha256: digestHex(flags) } };
  const { cwd, environment, argv } = decodeFlags(flags);
  return { cwd, environment, argv };
}

/** What the worker decided. */
function internalParameters({ row }: AuditRecord, body: AttestableBody) {
  const { isolation, life, policy, tier, scope, actionKey } = body;
  const hit = body.kind === "hit" && {
    outcome: body.outcome,
    ...(body.keyTier !== null && { keyTier: body.keyTier }),
    ...(body.compiledRow !== null && { compiledRow: body.compiledRow }),
    ...(body.confirmedBy !== null && { confirmedBy: body.confirmedBy }),
  };
  return {
    kind: body.kind,
    ...hit,
    vm: row.vm,
    isolation,
    life,
    actionKey,
    ...(policy !== null && { policy }),
    ...(tier !== null && { tier }),
    ...(scope !== null && { scope }),
  };
}

function dependenciesOf({ row }: AuditRecord): Descriptor[] {
  const named: [string, Digest | null][] = [
    ["image", row.imageDigest],
    ["source", row.sourceDigest],
  ];
  return named.flatMap(([name, digest]) => (digest === null ? [] : [{ name, digest: { sha256: digestHex(digest) } }]));
}

/** The worker that compiled: for a hit by another worker's statement that one, in the same trust domain. */
function builderOf(origin: string, body: AttestableBody) {
  const own = `spiffe://${origin}`;
  if (body.kind === "compile") return { id: own, version: body.versions };
  return { id: body.from === null ? own : `${own.slice(0, own.lastIndexOf("/") + 1)}${body.from}` };
}

/** A hit's times are those of the answer, and say nothing of the compile. */
function metadataOf(origin: string, { kind, sequence, startMs, endMs }: AuditRecord["envelope"]) {
  const time = (ms: number) => new Date(ms).toISOString();
  const compiled = kind === "compile" && { startedOn: time(startMs), finishedOn: time(endMs) };
  return { invocationId: `${origin}#${sequence}`, ...compiled };
}

export const RECORD_NAME = "record";
export const PROOF_NAME = "proof";
export const RESULT_NAME = "result";

function byproductsOf({ record, proof, manifest }: Attested, body: AttestableBody): Descriptor[] {
  const content = (bytes: Uint8Array) => ({
    digest: { sha256: digestHex(sha256(bytes)) },
    content: Buffer.from(bytes).toString("base64"),
  });
  return [
    { name: RECORD_NAME, ...content(recordBytes(record)), mediaType: "text/plain" },
    { name: PROOF_NAME, ...content(Buffer.from(proof)), mediaType: "text/plain" },
    {
      name: RESULT_NAME,
      ...(manifest === null ? { digest: { sha256: digestHex(body.resultDigest) } } : content(manifest)),
    },
  ];
}

/** The record's two lines, as they are hashed for the log. */
function recordBytes({ line, envelope }: AuditRecord): Buffer {
  return Buffer.from(`${line}\n${encodeEnvelope(envelope)}\n`, "latin1");
}

/** Throws `audit.corrupt` unless the proof leads from the record, at its place, to a checkpoint that one of the keys has signed. */
export function checkRecord({ record, proof }: Attested, keys: readonly NoteVerifier[]): void {
  const { leaf } = encodeRecord(record.line, encodeEnvelope(record.envelope), 1);
  const decoded = decodeProof(proof);
  if (decoded.index !== record.envelope.sequence - 1)
    throw new HpccError("audit.corrupt", `the proof is of row ${decoded.index + 1}, and the record of another one`);
  checkProof(Buffer.from(digestHex(leaf), "hex"), decoded, keys);
}
