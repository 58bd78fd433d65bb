// What the audit log and the store know of a hash: for the Inspect RPC within the caller's tenant, and offline for whoever
// may read a worker's state folder.
import { encodeEnvelope } from "../../audit/envelope.ts";
import { AuditIndex } from "../../audit/index/audit-index.ts";
import type { HashKind } from "../../audit/index/look-up.ts";
import { prunedRowsOf } from "../../audit/prune/gone.ts";
import { readLog } from "../../audit/read-log.ts";
import { resultDigestsOf } from "../../audit/rows/bodies.ts";
import { HpccError } from "../../base/errors.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { SYSTEM_CLOCK } from "../../base/system/clock.ts";
import { SOURCE_MANIFEST_BYTES_MAX } from "../../core/action/source-manifest.ts";
import type { Digest } from "../../core/digest/digest.ts";
import { parseTenantId, type TenantId } from "../../core/identity/spiffe.ts";
import type { TenantStore } from "../../store/action-cache.ts";
import { DiskStore } from "../../store/disk/disk-store.ts";
import { readBlob } from "../../store/read-blob.ts";
import { alarmDifferences } from "../alarm-differences.ts";
import { checkStateFolder, stateFolders } from "../state-folders.ts";

export interface Inspection {
  readonly kind: HashKind;
  readonly digest: Digest;
  /** Lines of the audit rows that name it, newest first, at most 100. */
  readonly rows: string[];
  /** Their envelopes, JSON. */
  readonly envelopes: string[];
  /** Of the one source and result that all rows share; empty when they do not, or when it is not there. */
  readonly sourceManifest: Uint8Array;
  readonly resultManifest: Uint8Array;
}

/** Who answers questions. */
export interface Finds {
  /** Throws `hash.unknown` for what the tenant (null: any tenant) has not, `argument.invalid` for a prefix of several. */
  find(hash: string, tenant: TenantId | null): Promise<Inspection>;
}

export interface InspectorOptions {
  readonly auditFolder: string;
  readonly store: (tenant: TenantId) => TenantStore;
  /** Whether it writes the index of the log, as one process alone may. */
  readonly keep: boolean;
  readonly warn?: (event: string, error: unknown) => void;
}

/** Largest manifest that is read back. */
const MANIFEST_BYTES_MAX = SOURCE_MANIFEST_BYTES_MAX;

export class Inspector implements Finds {
  readonly #options: InspectorOptions;
  #index: Promise<AuditIndex> | null = null;

  constructor(options: InspectorOptions) {
    this.#options = options;
  }

  /** Takes new rows into the index, up to the one of this number; gives how far it is. */
  async catchUp(sequenceMax: number): Promise<number> {
    const index = await this.#open();
    await index.catchUp(sequenceMax);
    return index.sequence;
  }

  /** How far the index is. */
  async sequence(): Promise<number> {
    return (await this.#open()).sequence;
  }

  /** No row after the one of that number is looked at. */
  async find(hash: string, tenant: TenantId | null, sequenceMax?: number): Promise<Inspection> {
    const index = await this.#open();
    const { kind, digest, records } = await index.find(hash, tenant, sequenceMax).catch(async (error: unknown) => {
      throw await this.#orGone(error, tenant);
    });
    const owner = records[0]?.row.tenant ?? "-";
    const source = common(records.map((record) => record.row.sourceDigest));
    const result = common(records.map((record) => resultDigestsOf(record.envelope)[0] ?? null));
    return {
      kind,
      digest,
      rows: records.map((record) => record.line),
      envelopes: records.map((record) => encodeEnvelope(record.envelope)),
      sourceManifest: (source && (await this.#manifest(owner, source))) ?? new Uint8Array(),
      resultManifest: (result && (await this.#manifest(owner, result))) ?? new Uint8Array(),
    };
  }

  /** What is not known may have been. */
  async #orGone(error: unknown, tenant: TenantId | null): Promise<unknown> {
    if (!(error instanceof HpccError) || error.code !== "hash.unknown") return error;
    const rows = await prunedRowsOf(this.#options.auditFolder, tenant);
    return rows === 0 ? error : new HpccError("hash.unknown", `${error.message}; ${rows} rows were pruned`);
  }

  /** Rows were removed: the index is made again. */
  async forget(): Promise<void> {
    await (await this.#open()).forget();
  }

  async close(): Promise<void> {
    await (await this.#index?.catch(() => null))?.close();
  }

  async #open(): Promise<AuditIndex> {
    const { auditFolder, keep, warn = () => undefined } = this.#options;
    this.#index ??= AuditIndex.open({
      folder: auditFolder,
      readManifest: async (tenant, digest) => this.#manifest(tenant, digest),
      keep,
      warn,
    }).catch((error: unknown) => {
      this.#index = null;
      throw error;
    });
    return this.#index;
  }

  async #manifest(tenant: string, digest: Digest): Promise<Uint8Array | null> {
    if (tenant === "-") return null;
    return readBlob(this.#options.store(parseTenantId(tenant)).blobs, digest, MANIFEST_BYTES_MAX);
  }
}

/** A worker's state folder, opened to be read; the worker may run. All tenants. */
export interface OpenState {
  readonly inspector: Inspector;
  /** A blob's bytes; null when it is not there, or larger than `sizeMax`. */
  blob(tenant: string, digest: Digest, sizeMax: number): Promise<Uint8Array | null>;
  /** Lines of all rows and their envelopes, oldest first. Throws `audit.corrupt` where the chain breaks. */
  rows(): AsyncIterable<{ readonly line: string; readonly envelope: string }>;
  close(): Promise<void>;
}

/** Throws `argument.invalid` for a folder that is no worker's. */
export async function openState(stateFolder: string): Promise<OpenState> {
  await checkStateFolder(stateFolder);
  const folders = stateFolders(stateFolder);
  const disk = await DiskStore.open({ root: folders.store, clock: SYSTEM_CLOCK, logger: SILENT_LOGGER });
  const inspector = new Inspector({ auditFolder: folders.audit, store: disk.tenant.bind(disk), keep: false });
  return {
    inspector,
    blob: async (tenant, digest, sizeMax) => readBlob(disk.tenant(parseTenantId(tenant)).blobs, digest, sizeMax),
    async *rows() {
      for await (const { record } of readLog(folders.audit))
        yield { line: record.line, envelope: encodeEnvelope(record.envelope) };
    },
    close: async () => inspector.close(),
  };
}

export interface InspectionOfState extends Inspection {
  /** Where the two results of an alarm differ; none without one. */
  readonly differences: readonly string[];
}

/** What a worker's state folder knows of a hash. */
export async function inspectState(stateFolder: string, hash: string): Promise<InspectionOfState> {
  const state = await openState(stateFolder);
  try {
    const inspection = await state.inspector.find(hash, null);
    return {
      ...inspection,
      differences: await alarmDifferences(inspection.rows, inspection.envelopes, state.blob.bind(state)),
    };
  } finally {
    await state.close();
  }
}

/** The one digest that all rows share; null when they do not. */
function common(digests: readonly (Digest | null)[]): Digest | null {
  const [first] = digests;
  return first !== undefined && digests.every((digest) => digest === first) ? first : null;
}
