// Finds audit records by any hash that they, their source or their result name. The index is made from the log and can be made again: it is
// never believed, since what it finds is held against the record, and it is thrown away when it is damaged, of another form or of another log.
import { join } from "node:path";
import { HpccError } from "../../base/errors.ts";
import type { PlacedRecord } from "../read-log.ts";
import type { AuditRecord } from "../segment.ts";
import { type Entry, type EntryKind, rangeOf, startOfGroup, tenantTag } from "./entry.ts";
import type { BuiltPosition, LogPosition, SegmentSpan } from "./index-state.ts";
import { LogFollower } from "./log-follower.ts";
import { entriesOf, type Finding, lookUp, parseHashPrefix } from "./look-up.ts";
import { type Manifest, manifestsOf, namesOf, type ReadManifest, readBlobs } from "./record-hashes.ts";
import { IndexDamaged } from "./run-format.ts";
import { RunSet } from "./run-set.ts";

export interface AuditIndexOptions {
  /** The log's folder; the index is a folder in it. */
  readonly folder: string;
  readonly readManifest: ReadManifest;
  /** Whether this process writes the index, as one process alone may; others read it, and write nothing there. */
  readonly keep: boolean;
  /** Is told when and why the index is made again, and of what cannot be written. */
  readonly warn: (event: "audit.index.rebuilt" | "audit.index.failed", error: unknown) => void;
  /** Entries that are held in memory. */
  readonly tableEntries?: number;
}

const FIND_TRIES = 3;
/** Below the log's folder. */
export const INDEX_FOLDER = "index";

export class AuditIndex {
  readonly #options: AuditIndexOptions;
  #set: RunSet;
  #follower: LogFollower;
  /** After the last record that was taken. */
  #position: LogPosition;
  /** Of all records that were taken, by segment. */
  #spans = new Map<string, SegmentSpan>();
  /** Manifests of rows in memory, whose blobs are there too. */
  #indexed = new Set<string>();
  /** Made again because the log did not go on where the index ended; a second time says that the log itself is bad. */
  #doubted = false;
  readonly #tags = new Map<string, Buffer>();
  #working: Promise<void> = Promise.resolve();

  private constructor(options: AuditIndexOptions, set: RunSet, follower: LogFollower) {
    this.#options = options;
    this.#set = set;
    this.#follower = follower;
    this.#position = set.built;
    this.#spans = spansOf(set);
  }

  /** The index of a log as it was left, or an empty one. */
  static async open(options: AuditIndexOptions): Promise<AuditIndex> {
    let set: RunSet | null = null;
    try {
      set = RunSet.open(setOptions(options));
      return new AuditIndex(options, set, await LogFollower.open(options.folder, set.built));
    } catch (error) {
      if (!(error instanceof IndexDamaged)) throw error;
      await set?.close();
      options.warn("audit.index.rebuilt", error);
      set = RunSet.create(setOptions(options));
      return new AuditIndex(options, set, await LogFollower.open(options.folder, set.built));
    }
  }

  /** Number of the last record that is in it. */
  get sequence(): number {
    return this.#position.sequence;
  }

  /** Where it ends. */
  get position(): LogPosition {
    return this.#position;
  }

  /** When the records of each segment ended, but for those that come after `position`. */
  get spans(): ReadonlyMap<string, SegmentSpan> {
    return this.#spans;
  }

  /** All records that name a hash with these first digits as one of a kind, in order; null where there are more than `countMax` of them. */
  entries(prefix: string, kind: EntryKind, tenant: string | null, countMax: number): Entry[] | null {
    return entriesOf(this.#set, { prefix, kind, tenant }, countMax);
  }

  /** Takes the log's records that are new, up to the one of this number. */
  async catchUp(sequenceMax: number = Number.POSITIVE_INFINITY): Promise<void> {
    await this.#alone(async () => {
      const set = this.#set;
      try {
        await this.#catchUp(sequenceMax);
      } catch (error) {
        if (!this.#isOfIndex(error)) throw error;
        await this.#startAgain(set, error, sequenceMax);
      }
    });
  }

  /**
   * What a hash is, within a tenant (null: all). Throws `hash.unknown` for nothing, `argument.invalid` for a prefix of
   * several.
   */
  async find(text: string, tenant: string | null, sequenceMax: number = Number.POSITIVE_INFINITY): Promise<Finding> {
    const prefix = parseHashPrefix(text);
    for (let left = FIND_TRIES; ; left--) {
      await this.catchUp(sequenceMax);
      const set = this.#set;
      const found = await this.#lookUp(prefix, tenant).catch(async (error: unknown) => {
        if (!(error instanceof IndexDamaged)) throw error;
        await this.#alone(async () => this.#startAgain(set, error, sequenceMax));
        return this.#lookUp(prefix, tenant);
      });
      // Of one that was thrown away meanwhile, a part was found at best.
      if (this.#set !== set && left > 1) continue;
      if (found === null) throw new HpccError("hash.unknown", `nothing is known of ${text}`);
      return found;
    }
  }

  /** Throws it away, as rows were removed from the log; the next call makes it again. */
  async forget(): Promise<void> {
    await this.#alone(async () => this.#reset(new HpccError("audit.io", "rows were removed from the log")));
  }

  /** Keeps what is in memory, and ends. */
  async close(): Promise<void> {
    await this.#alone(async () => {
      if (this.#options.keep)
        await this.#set.flush(this.#built()).catch((error: unknown) => this.#options.warn("audit.index.failed", error));
      await this.#follower.close();
      await this.#set.close();
    });
  }

  /** Resolves when nothing is merged. */
  async settled(): Promise<void> {
    await this.#set.settled();
  }

  async #lookUp(prefix: string, tenant: string | null): Promise<Finding | null> {
    const { folder, readManifest } = this.#options;
    return lookUp({ set: this.#set, folder, readManifest }, prefix, tenant);
  }

  async #alone(run: () => Promise<void>): Promise<void> {
    const next = this.#working.then(run);
    this.#working = next.catch(() => undefined);
    await next;
  }

  /** Whether an index that is made again may have no such error. That the log does not go on where it ended is asked once. */
  #isOfIndex(error: unknown): boolean {
    if (error instanceof IndexDamaged) return true;
    if (this.#doubted || !(error instanceof HpccError) || error.code !== "audit.corrupt") return false;
    this.#doubted = true;
    return true;
  }

  /** Makes the index again from the log, unless somebody has meanwhile. */
  async #startAgain(set: RunSet, error: unknown, sequenceMax: number): Promise<void> {
    if (this.#set === set) await this.#reset(error);
    await this.#catchUp(sequenceMax);
  }

  async #reset(error: unknown): Promise<void> {
    this.#options.warn("audit.index.rebuilt", error);
    await this.#follower.close();
    await this.#set.close();
    this.#set = RunSet.create(setOptions(this.#options));
    this.#position = this.#set.built;
    this.#spans = spansOf(this.#set);
    this.#indexed.clear();
    this.#follower = await LogFollower.open(this.#options.folder, this.#position);
  }

  async #catchUp(sequenceMax: number): Promise<void> {
    for (;;) {
      if (this.#set.damage !== null) throw this.#set.damage;
      const records = await this.#follower.next(sequenceMax);
      if (records.length === 0) return;
      for (const placed of records) {
        if (this.#set.full) await this.#flush();
        await this.#add(placed);
        const { record, segment, offset } = placed;
        this.#position = { sequence: record.envelope.sequence, leaf: record.leaf, at: { segment, offset } };
      }
    }
  }

  async #flush(): Promise<void> {
    await this.#set.flush(this.#built());
    this.#indexed.clear();
  }

  #built(): BuiltPosition {
    return { ...this.#position, spans: [...this.#spans.values()] };
  }

  async #add({ record, segment, offset }: PlacedRecord): Promise<void> {
    const { sequence, endMs } = record.envelope;
    const { fromMs, toMs } = this.#spans.get(segment) ?? { fromMs: endMs, toMs: endMs };
    this.#spans.set(segment, { segment, fromMs: Math.min(fromMs, endMs), toMs: Math.max(toMs, endMs) });
    const tag = this.#tagOf(record.row.tenant);
    for (const { kind, digest } of namesOf(record)) this.#set.add(tag, digest, { kind, sequence, offset });
    for (const manifest of manifestsOf(record)) {
      const key = `${record.row.tenant} ${manifest.digest}`;
      if (this.#indexed.has(key) || this.#isOnDisk(record, tag, manifest)) continue;
      const blobs = await readBlobs(this.#options.readManifest, record.row.tenant, manifest);
      // One that is gone is not looked for at each row that names it.
      this.#indexed.add(key);
      for (const blob of blobs ?? []) this.#set.add(tag, blob, { kind: "member", sequence, offset });
    }
  }

  #tagOf(tenant: string): Buffer {
    const tag = this.#tags.get(tenant) ?? tenantTag(tenant);
    this.#tags.set(tenant, tag);
    return tag;
  }

  /** A compile's source and result are new more often than not, and a hit's are not. */
  #isOnDisk({ envelope }: AuditRecord, tag: Buffer, { kind, digest }: Manifest): boolean {
    return envelope.kind === "hit" && this.#set.has(rangeOf(startOfGroup(tag, digest, kind)));
  }
}

function spansOf({ built }: RunSet): Map<string, SegmentSpan> {
  return new Map(built.spans.map((span) => [span.segment, span]));
}

function setOptions({ folder, keep, warn, tableEntries }: AuditIndexOptions) {
  return {
    home: join(folder, INDEX_FOLDER),
    keep,
    ...(tableEntries !== undefined && { tableEntries }),
    mergeFailed: (error: unknown) => warn("audit.index.failed", error),
  };
}
