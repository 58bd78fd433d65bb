// `hpcc audit attest`: rows of logs as signed statements, one envelope a line, as in-toto's bundles are.

import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { type DsseEnvelope, type DsseSigner, STATEMENT_TYPE, signEnvelope } from "../audit/attest/dsse.ts";
import { encodeStatement, type Statement, statementOf, unattestable } from "../audit/attest/statement.ts";
import { findRow, parseRowName, type RowName } from "../audit/find-row.ts";
import { openProver, type Prover } from "../audit/prove-row.ts";
import { readLog } from "../audit/read-log.ts";
import { Revocations } from "../audit/revoked-rows.ts";
import type { AuditRecord } from "../audit/segment.ts";
import { logFolder } from "../audit/verify-folder.ts";
import { HpccError } from "../base/errors.ts";
import { type Digest, digestHex } from "../core/digest/digest.ts";
import { printable } from "./output.ts";

/** Reads what a worker's store keeps of its rows; null where the folder has no store. */
export interface KeptBlobs {
  blob(tenant: string, digest: Digest, sizeMax: number): Promise<Uint8Array | null>;
  close(): void;
}

export interface AttestOptions {
  /** Folders of logs, or workers' state folders. */
  readonly logs: readonly string[];
  readonly signer: DsseSigner;
  readonly openBlobs: (folder: string) => Promise<KeptBlobs | null>;
  /** Is told of rows that get no statement. */
  readonly note: (text: string) => void;
}

export interface Attestation {
  readonly log: string;
  readonly row: number;
  readonly kind: string;
  readonly subject: Statement["subject"];
  readonly envelope: DsseEnvelope;
}

const MANIFEST_BYTES_MAX = 1024 * 1024;
/** Of a row by its own name. */
const RANK_MAX = 3;
const FILE_BYTES_MAX = 16 * 1024 * 1024 * 1024;
const PRINCIPALS_SHOWN = 5;

/** A log that is open to be attested. */
interface OpenLog {
  readonly folder: string;
  readonly prover: Prover;
  readonly blobs: KeptBlobs | null;
}

type WithLogs<T> = (logs: readonly OpenLog[], revocations: Revocations) => Promise<T>;

async function withLogs<T>(options: AttestOptions, run: WithLogs<T>): Promise<T> {
  const logs: OpenLog[] = [];
  try {
    for (const named of options.logs) {
      const folder = await logFolder(named);
      const blobs = folder === named ? null : await options.openBlobs(named);
      logs.push({ folder, prover: await openProver(folder), blobs });
    }
    return await run(logs, await Revocations.of(logs.map(({ folder }) => folder)));
  } finally {
    for (const { blobs, prover } of logs) {
      blobs?.close();
      await prover[Symbol.asyncDispose]();
    }
  }
}

/** The rows that a log has signed. */
async function* signedRows({ folder, prover }: OpenLog): AsyncGenerator<AuditRecord> {
  for await (const { record } of readLog(folder)) {
    if (record.envelope.sequence > prover.size) return;
    yield record;
  }
}

async function attest(log: OpenLog, record: AuditRecord, signer: DsseSigner): Promise<Attestation> {
  const { envelope, row } = record;
  const kept =
    "resultDigest" in envelope ? await log.blobs?.blob(row.tenant, envelope.resultDigest, MANIFEST_BYTES_MAX) : null;
  const statement = statementOf({ record, proof: await log.prover.proofOf(record), manifest: kept ?? null });
  return {
    log: log.folder,
    row: envelope.sequence,
    kind: envelope.kind,
    subject: statement.subject,
    envelope: signEnvelope(encodeStatement(statement), STATEMENT_TYPE, signer),
  };
}

/** What a word may name: a row by its number, or anything by a digest or the start of it. */
interface Wanted extends RowName {
  readonly word: string;
}

interface Match {
  readonly log: OpenLog;
  readonly record: AuditRecord;
}

/** Attests the rows that words name: numbers, hashes, files. Throws `hash.unknown` for a word that names none. */
export async function attestRows(words: readonly string[], options: AttestOptions): Promise<Attestation[]> {
  const wanted: Wanted[] = [];
  for (const word of words) wanted.push(await parseWord(word));
  if (options.logs.length > 1 && wanted.some(({ prefix }) => prefix === null))
    throw new HpccError("argument.invalid", "a row's number says nothing in several logs; name it by its digest");
  return withLogs(options, async (logs, revocations) => {
    const best = new Map<Wanted, Match & { readonly rank: number }>();
    const refused = new Map<Wanted, HpccError>();
    const take = (one: Wanted, match: Match, rank: number) => {
      if (rank === 0 || rank < (best.get(one)?.rank ?? 0)) return;
      const problem = revocations.reasonOf(match.record);
      if (problem === null) best.set(one, { ...match, rank });
      else refused.set(one, revokedRow(match.record, problem));
    };
    const sought: Wanted[] = [];
    for (const one of wanted) {
      const numbered = await rowOfNumber(one, logs);
      if (numbered === null) sought.push(one);
      else take(one, numbered, RANK_MAX);
    }
    for (const log of sought.length === 0 ? [] : logs)
      for await (const record of signedRows(log))
        for (const one of sought) take(one, { log, record }, rankOf(one, record));
    const done: Attestation[] = [];
    for (const one of wanted) {
      const found = best.get(one);
      if (found === undefined)
        throw (
          refused.get(one) ??
          new HpccError("hash.unknown", `no signed row with a result is about ${printable(one.word)}`)
        );
      done.push(await attest(found.log, found.record, options.signer));
    }
    return done;
  });
}

function revokedRow({ envelope }: AuditRecord, problem: string): HpccError {
  return new HpccError("argument.invalid", `row ${envelope.sequence} ${problem}`, {
    hint: "No statement vouches for it. Compile it again, and attest the row of that.",
  });
}

/** UNTRUSTED: the caller. */
async function parseWord(word: string): Promise<Wanted> {
  const found = await stat(word).catch(() => null);
  if (found?.isFile() === true) {
    if (found.size > FILE_BYTES_MAX) throw new HpccError("limit.exceeded", `${printable(word)} is too large`);
    return { word, sequence: null, prefix: digestHex(await digestOfFile(word)) };
  }
  const name = parseRowName(word);
  if (name === null)
    throw new HpccError(
      "argument.invalid",
      `${printable(word)} is no file, no row's number, and no 8 or more hex digits of a hash`,
    );
  return { word, ...name };
}

/** Throws `argument.invalid` for what is no file. */
export async function digestOfFile(path: string): Promise<Digest> {
  const hash = createHash("sha256");
  try {
    for await (const part of createReadStream(path)) hash.update(part as Buffer);
  } catch (error) {
    throw new HpccError("argument.invalid", `${printable(path)} cannot be read`, { cause: error });
  }
  return `sha256:${hash.digest("hex")}` as Digest;
}

/** The row whose number it is, where there is one log and that has so many rows. */
async function rowOfNumber({ word, sequence }: Wanted, logs: readonly OpenLog[]): Promise<Match | null> {
  const [log] = logs;
  if (log === undefined || logs.length > 1 || sequence === null || sequence > log.prover.size) return null;
  return { log, record: await findRow(log.folder, word, log.prover.size) };
}

/** How well a row fits; 0 for not at all. A row by its own name, then the compile of an object, then a hit. */
function rankOf({ prefix }: Wanted, record: AuditRecord): number {
  const { row, envelope, digest } = record;
  const is = (value: Digest | null) => value !== null && prefix !== null && digestHex(value).startsWith(prefix);
  if (is(digest)) return RANK_MAX;
  if (envelope.kind !== "compile" && envelope.kind !== "hit") return 0;
  const { actionKey, resultDigest } = envelope;
  if (unattestable(record) !== null || ![row.outputDigest, row.sourceDigest, actionKey, resultDigest].some(is))
    return 0;
  return envelope.kind === "compile" ? 2 : 1;
}

/** Attests all rows of a build that have a result, in the order of the logs. */
export async function attestBuild(
  of: BuildOf,
  options: AttestOptions,
  take: (attestation: Attestation) => Promise<void> | void,
): Promise<number> {
  return withLogs(options, async (logs, revocations) => {
    const reasonOf = (record: AuditRecord) => withoutStatement(record) ?? revocations.reasonOf(record);
    const principals = new Set<string>();
    const without = new Map<string, number>();
    for (const log of logs)
      for await (const record of signedRows(log)) {
        const job = jobOf(record, of);
        if (job === null) continue;
        principals.add(job.principal);
        const problem = reasonOf(record);
        if (problem !== null) without.set(problem, (without.get(problem) ?? 0) + 1);
      }
    checkOnePrincipal(of.build, principals);
    for (const [problem, count] of without)
      options.note(`rows of the build without a statement, ${count}: each ${problem}\n`);
    let done = 0;
    for (const log of logs)
      for await (const record of signedRows(log)) {
        if (jobOf(record, of) === null || reasonOf(record) !== null) continue;
        await take(await attest(log, record, options.signer));
        done++;
      }
    return done;
  });
}

interface BuildOf {
  readonly build: string;
  /** Null for any client. */
  readonly principal: string | null;
}

/** The envelope of a job of the build; null for any other row. */
function jobOf({ envelope }: AuditRecord, { build, principal }: BuildOf) {
  const { kind } = envelope;
  if (kind !== "compile" && kind !== "hit" && kind !== "denied" && kind !== "failed") return null;
  return envelope.build === build && (principal ?? envelope.principal) === envelope.principal ? envelope : null;
}

function withoutStatement(record: AuditRecord): string | null {
  return unattestable(record) ?? (record.row.outputDigest === null ? "is about a compile that left no object" : null);
}

/** A build's name is its client's word: another client may use the same one, and its rows must not slip in. */
function checkOnePrincipal(build: string, principals: ReadonlySet<string>): void {
  if (principals.size === 0)
    throw new HpccError("hash.unknown", `no signed row belongs to a build ${JSON.stringify(printable(build))}`);
  if (principals.size === 1) return;
  const shown = [...principals].slice(0, PRINCIPALS_SHOWN).map((principal) => printable(principal));
  const more = principals.size > shown.length ? `, and ${principals.size - shown.length} more` : "";
  throw new HpccError(
    "argument.invalid",
    `${principals.size} clients have called a build so: ${shown.join(", ")}${more}; name one with --principal`,
  );
}
