// Finds audit records by any hash that they, their source or their result name. An index that is made from the log and can
// be made again: it catches up before each question, so that appending rows costs nothing.
import { DatabaseSync, type SQLInputValue } from "node:sqlite";
import { HpccError } from "../base/errors.ts";
import { decodeResultManifest } from "../core/action/result-manifest.ts";
import { decodeSourceManifest, filesOf } from "../core/action/source-manifest.ts";
import { type Digest, digestHex, isDigest } from "../core/digest/digest.ts";
import { CHAIN_START, type PlacedRecord, readLog, readRecord } from "./read-log.ts";
import { actionKeyOf, resultDigestsOf } from "./rows/bodies.ts";
import type { AuditRecord, ChainState } from "./segment.ts";

/** What a hash turned out to be, by the order in which it is looked for. */
export const HASH_KINDS = ["row", "action", "source", "result", "blob"] as const;
export type HashKind = (typeof HASH_KINDS)[number];

export interface Finding {
  readonly kind: HashKind;
  readonly digest: Digest;
  /** Newest first, at most 100. */
  readonly records: readonly AuditRecord[];
}

/** Reads the uncompressed bytes of a tenant's manifest; null when it is not there. */
export type ReadManifest = (tenant: string, digest: Digest) => Promise<Uint8Array | null>;

const RECORDS_MAX = 100;
const PREFIX_DIGITS_MIN = 8;
const PREFIX = /^(?:sha256:)?([0-9a-f]{8,64})$/;

/** A tenant's names come first in the keys: how many rows another tenant has of a hash must not show in the time of an answer. */
const SCHEMA = `
  CREATE TABLE IF NOT EXISTS records (sequence INTEGER PRIMARY KEY, segment TEXT NOT NULL, offset INTEGER NOT NULL);
  CREATE TABLE IF NOT EXISTS names (
    hash TEXT NOT NULL, tenant TEXT NOT NULL, kind INTEGER NOT NULL, sequence INTEGER NOT NULL,
    PRIMARY KEY (tenant, hash, kind, sequence)
  ) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS names_of_all ON names (hash, kind, sequence);
  CREATE TABLE IF NOT EXISTS members (
    hash TEXT NOT NULL, tenant TEXT NOT NULL, manifest TEXT NOT NULL,
    PRIMARY KEY (tenant, hash, manifest)
  ) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS members_of_all ON members (hash);
`;

/** Parses what a person gives as a hash: "sha256:" may be left out, and all but the first 8 digits. UNTRUSTED: anybody. */
export function parseHashPrefix(text: string): string {
  const match = PREFIX.exec(text);
  if (match === null)
    throw new HpccError("argument.invalid", `a hash is at least ${PREFIX_DIGITS_MIN} lower-case hex digits`);
  return match[1]!;
}

export class InspectIndex {
  readonly #folder: string;
  readonly #database: DatabaseSync;
  readonly #readManifest: ReadManifest;
  #chain: ChainState = CHAIN_START;
  readonly #indexedManifests = new Set<string>();
  #catchingUp: Promise<void> = Promise.resolve();

  /** An index of the log in `folder`, in memory. */
  constructor(folder: string, readManifest: ReadManifest) {
    this.#folder = folder;
    this.#readManifest = readManifest;
    this.#database = new DatabaseSync(":memory:");
    this.#database.exec(SCHEMA);
  }

  close(): void {
    this.#database.close();
  }

  /**
   * What a hash is, within a tenant (null: all). Throws `hash.unknown` for nothing, `argument.invalid` for a prefix of
   * several.
   */
  async find(text: string, tenant: string | null): Promise<Finding> {
    const prefix = parseHashPrefix(text);
    const next = this.#catchingUp.then(async () => this.#catchUp());
    this.#catchingUp = next.catch(() => {});
    await next;
    const { kind, hash, sequences } = this.#named(prefix, tenant) ?? this.#member(prefix, tenant) ?? unknown(text);
    const records: AuditRecord[] = [];
    for (const sequence of sequences) {
      const record = await this.#record(sequence);
      if (record !== null) records.push(record);
    }
    return { kind, digest: `sha256:${hash}` as Digest, records };
  }

  #named(prefix: string, tenant: string | null) {
    const [from, to] = range(prefix);
    const { where, values } = within("names", tenant);
    const matches = this.#query(
      `SELECT DISTINCT hash, kind FROM names WHERE ${where} hash >= ? AND hash < ? ORDER BY kind LIMIT 20`,
      [...values, from, to],
    );
    const first = matches[0];
    if (first === undefined) return null;
    onlyOne(
      matches.map((match) => String(match["hash"])),
      prefix,
    );
    const hash = String(first["hash"]);
    const kind = HASH_KINDS[Number(first["kind"])]!;
    const sequences = this.#query(
      `SELECT DISTINCT sequence FROM names WHERE ${where} hash = ? AND kind = ? ORDER BY sequence DESC LIMIT ?`,
      [...values, hash, Number(first["kind"]), RECORDS_MAX],
    );
    return { kind, hash, sequences: sequences.map((row) => Number(row["sequence"])) };
  }

  /** Rows whose source or result has a blob. */
  #member(prefix: string, tenant: string | null) {
    const [from, to] = range(prefix);
    const { where, values } = within("members", tenant);
    const rows = this.#query(
      `SELECT DISTINCT members.hash AS hash, names.sequence AS sequence FROM members
       JOIN names ON names.hash = members.manifest AND names.tenant = members.tenant
       WHERE ${where} members.hash >= ? AND members.hash < ?
       ORDER BY names.sequence DESC LIMIT ?`,
      [...values, from, to, RECORDS_MAX],
    );
    const first = rows[0];
    if (first === undefined) return null;
    onlyOne(
      rows.map((row) => String(row["hash"])),
      prefix,
    );
    const sequences = rows.map((row) => Number(row["sequence"]));
    return { kind: "blob" as const, hash: String(first["hash"]), sequences };
  }

  async #record(sequence: number): Promise<AuditRecord | null> {
    const place = this.#query("SELECT segment, offset FROM records WHERE sequence = ?", [sequence])[0];
    if (place === undefined) return null;
    return readRecord(this.#folder, { segment: String(place["segment"]), offset: Number(place["offset"]) });
  }

  async #catchUp(): Promise<void> {
    for await (const placed of readLog(this.#folder, this.#chain)) {
      this.#add(placed);
      const { row, envelope, leaf } = placed.record;
      await this.#addMembers(row.tenant, row.sourceDigest, sourceBlobs);
      for (const result of resultDigestsOf(envelope)) await this.#addMembers(row.tenant, result, resultBlobs);
      this.#chain = { sequence: envelope.sequence, leaf };
    }
  }

  #add({ record, segment, offset }: PlacedRecord): void {
    const { row, digest, envelope } = record;
    const { sequence } = envelope;
    this.#query("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", [sequence, segment, offset]);
    const flagsBlob = row.flags !== null && isDigest(row.flags) ? row.flags : null;
    const names: [HashKind, Digest | null][] = [
      ["row", digest],
      ["action", actionKeyOf(envelope)],
      ["source", row.sourceDigest],
      ...resultDigestsOf(envelope).map((result): [HashKind, Digest] => ["result", result]),
      ["blob", row.outputDigest],
      ["blob", flagsBlob],
    ];
    for (const [kind, name] of names)
      if (name !== null)
        this.#query("INSERT OR IGNORE INTO names VALUES (?, ?, ?, ?)", [
          digestHex(name),
          row.tenant,
          HASH_KINDS.indexOf(kind),
          sequence,
        ]);
  }

  async #addMembers(tenant: string, manifest: Digest | null, blobsOf: (bytes: Uint8Array) => Digest[]): Promise<void> {
    if (manifest === null || this.#indexedManifests.has(`${tenant} ${manifest}`)) return;
    const bytes = await this.#readManifest(tenant, manifest);
    if (bytes === null) return;
    this.#indexedManifests.add(`${tenant} ${manifest}`);
    for (const blob of new Set(blobsOf(bytes)))
      this.#query("INSERT OR IGNORE INTO members VALUES (?, ?, ?)", [digestHex(blob), tenant, digestHex(manifest)]);
  }

  #query(sql: string, values: SQLInputValue[]): Record<string, unknown>[] {
    return this.#database.prepare(sql).all(...values);
  }
}

function sourceBlobs(bytes: Uint8Array): Digest[] {
  return filesOf(decodeSourceManifest(bytes)).map((file) => file.digest);
}

function resultBlobs(bytes: Uint8Array): Digest[] {
  const { outputs, stdout, stderr } = decodeResultManifest(bytes);
  return [...outputs, stdout, stderr].map((blob) => blob.digest);
}

function within(
  table: "names" | "members",
  tenant: string | null,
): { readonly where: string; readonly values: string[] } {
  return tenant === null ? { where: "", values: [] } : { where: `${table}.tenant = ? AND`, values: [tenant] };
}

/** "g" comes after all hex digits. */
function range(prefix: string): [string, string] {
  return [prefix, `${prefix}g`];
}

function onlyOne(hashes: readonly string[], prefix: string): void {
  if (new Set(hashes).size > 1)
    throw new HpccError("argument.invalid", `several hashes begin with ${prefix}; give more of its digits`);
}

function unknown(text: string): never {
  throw new HpccError("hash.unknown", `nothing is known of ${text}`);
}
