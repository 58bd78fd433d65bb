// One question to the index: which records a hash, or the start of one, stands for. What the index names is held against the records, so
// that a wrong entry costs an answer and never makes one.
import { HpccError } from "../../base/errors.ts";
import { type Digest, digestHex } from "../../core/digest/digest.ts";
import { listSegments, RecordReader } from "../read-log.ts";
import { type AuditRecord, segmentSequence } from "../segment.ts";
import {
  type Entry,
  type EntryKind,
  hashOf,
  kindOf,
  rangeOf,
  rangeOfPrefix,
  readEntry,
  startOfGroup,
  tenantTag,
} from "./entry.ts";
import { type Manifest, manifestsOf, type Named, namesOf, type ReadManifest, readBlobs } from "./record-hashes.ts";
import { IndexDamaged } from "./run-format.ts";
import type { RunSet } from "./run-set.ts";
import { groupsOf, newestOf } from "./sorted-search.ts";

/** What a hash turned out to be, by the order in which it is looked for. */
export const HASH_KINDS = ["row", "action", "source", "result", "blob"] as const;
export type HashKind = (typeof HASH_KINDS)[number];

export interface Finding {
  readonly kind: HashKind;
  readonly digest: Digest;
  /** Newest first, at most 100; of a blob in sources or results, those of the newest 100 of these. */
  readonly records: readonly AuditRecord[];
}

export interface LookUpPlace {
  readonly set: RunSet;
  /** The log's. */
  readonly folder: string;
  readonly readManifest: ReadManifest;
}

const RECORDS_MAX = 100;
/** Different hashes and kinds of one tenant that are looked at, to say whether a prefix is of several. */
const GROUPS_MAX = 20;
const PREFIX_DIGITS_MIN = 8;
const PREFIX = /^(?:sha256:)?([0-9a-f]{8,64})$/;

/** Parses what a person gives as a hash: "sha256:" may be left out, and all but the first 8 digits. UNTRUSTED: anybody. */
export function parseHashPrefix(text: string): string {
  const match = PREFIX.exec(text);
  if (match === null)
    throw new HpccError("argument.invalid", `a hash is at least ${PREFIX_DIGITS_MIN} lower-case hex digits`);
  return match[1]!;
}

/** Null for nothing. Throws `argument.invalid` for a prefix of several, `IndexDamaged` where a record is not where the index says. */
export async function lookUp(place: LookUpPlace, prefix: string, tenant: string | null): Promise<Finding | null> {
  const tags = tenant === null ? place.set.tags : [tenantTag(tenant)];
  const groups = tags.flatMap((tag) => {
    const range = rangeOfPrefix(tag, prefix);
    return groupsOf(place.set.lists(range), range, GROUPS_MAX);
  });
  const asked = { ...place, prefix, tenant };
  return (await findNamed(asked, groups)) ?? (await findMembers(asked, groups));
}

interface AskedEntries {
  readonly prefix: string;
  readonly kind: EntryKind;
  readonly tenant: string | null;
}

/** All entries of a kind whose hash begins with the digits, in the order of the log, one for each record; null for more than `countMax`. */
export function entriesOf(set: RunSet, { prefix, kind, tenant }: AskedEntries, countMax: number): Entry[] | null {
  const found = new Map<number, Entry>();
  let seen = 0;
  for (const tag of tenant === null ? set.tags : [tenantTag(tenant)]) {
    const range = rangeOfPrefix(tag, prefix);
    for (const list of set.lists(range))
      for (let index = list.seek(range.from); index < list.count; index++) {
        const bytes = list.at(index);
        if (bytes.compare(range.to) > 0) break;
        if (++seen > countMax) return null;
        if (kindOf(bytes) === kind) found.set(readEntry(bytes).sequence, readEntry(bytes));
      }
  }
  return [...found.values()].sort((a, b) => a.sequence - b.sequence);
}

interface Asked extends LookUpPlace {
  readonly prefix: string;
  readonly tenant: string | null;
}

async function findNamed(asked: Asked, groups: readonly Buffer[]): Promise<Finding | null> {
  const names = groups.filter((group) => kindOf(group) !== "member");
  onlyOne(names.map(hashOf), asked.prefix);
  for (const kind of HASH_KINDS) {
    const entries = newest(
      asked.set,
      names.filter((group) => kindOf(group) === kind),
    );
    const digests = new Set<string>();
    const records = (await readRecords(asked, entries)).filter((record) => {
      const named = isSeen(record, asked) ? namedAs(record, kind, asked.prefix) : [];
      for (const digest of named) digests.add(digest);
      return named.length > 0;
    });
    const digest = onlyOne([...digests], asked.prefix);
    if (digest !== null) return { kind, digest: digest as Digest, records };
  }
  return null;
}

/** Records whose source or result holds a blob. */
async function findMembers(asked: Asked, groups: readonly Buffer[]): Promise<Finding | null> {
  const members = groups.filter((group) => kindOf(group) === "member");
  onlyOne(members.map(hashOf), asked.prefix);
  const digests = new Set<string>();
  const holding = new Map<string, Manifest & { readonly tenant: string }>();
  const looked = new Set<string>();
  for (const record of await readRecords(asked, newest(asked.set, members))) {
    const { tenant } = record.row;
    for (const manifest of isSeen(record, asked) ? manifestsOf(record) : []) {
      const key = `${tenant} ${manifest.kind} ${manifest.digest}`;
      if (looked.has(key)) continue;
      looked.add(key);
      const blobs = await readBlobs(asked.readManifest, tenant, manifest);
      const held = [...(blobs ?? [])].filter((blob) => digestHex(blob).startsWith(asked.prefix));
      for (const digest of held) digests.add(digest);
      if (held.length > 0) holding.set(key, { ...manifest, tenant });
    }
  }
  const digest = onlyOne([...digests], asked.prefix);
  if (digest === null) return null;
  const starts = [...holding.values()].map(({ tenant, digest, kind }) => startOfGroup(tenantTag(tenant), digest, kind));
  const records = (await readRecords(asked, newest(asked.set, starts))).filter((record) =>
    manifestsOf(record).some(({ kind, digest }) => holding.has(`${record.row.tenant} ${kind} ${digest}`)),
  );
  return { kind: "blob", digest: digest as Digest, records };
}

function isSeen({ row }: AuditRecord, { tenant }: Asked): boolean {
  return tenant === null || row.tenant === tenant;
}

function namedAs(record: AuditRecord, kind: Named["kind"], prefix: string): Digest[] {
  const named = namesOf(record).filter((name) => name.kind === kind && digestHex(name.digest).startsWith(prefix));
  return named.map(({ digest }) => digest);
}

/** The newest entries of some groups, one for each record. */
function newest(set: RunSet, groups: readonly Buffer[]): Entry[] {
  const found = groups.flatMap((group) => newestOf(set.lists(rangeOf(group)), group, RECORDS_MAX));
  const entries = new Map(found.map((bytes) => [readEntry(bytes).sequence, readEntry(bytes)]));
  return [...entries.values()].sort((a, b) => b.sequence - a.sequence).slice(0, RECORDS_MAX);
}

async function readRecords({ folder }: LookUpPlace, entries: readonly Entry[]): Promise<AuditRecord[]> {
  if (entries.length === 0) return [];
  const segments = await listSegments(folder);
  using reader = new RecordReader(folder);
  return entries.map(({ sequence, offset }) => {
    const segment = segments.findLast((name) => segmentSequence(name)! <= sequence);
    const record = segment === undefined ? null : reader.read({ segment, offset });
    if (record?.envelope.sequence !== sequence) throw new IndexDamaged(`record ${sequence} is not where it was`);
    return record;
  });
}

/** Null for none. */
function onlyOne(hashes: readonly string[], prefix: string): string | null {
  const [first = null, ...others] = new Set(hashes);
  if (others.length > 0)
    throw new HpccError("argument.invalid", `several hashes begin with ${prefix}; give more of its digits`);
  return first;
}
