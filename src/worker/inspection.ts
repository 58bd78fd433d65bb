// What the audit log and the store know of a hash: for the Inspect RPC within the caller's tenant, and offline for whoever
// may read a worker's state folder.
import { encodeEnvelope } from "../audit/envelope.ts";
import { type HashKind, InspectIndex } from "../audit/inspect-index.ts";
import { readLog } from "../audit/read-log.ts";
import { resultDigestsOf } from "../audit/rows/bodies.ts";
import { SILENT_LOGGER } from "../base/log.ts";
import { SYSTEM_CLOCK } from "../base/system/clock.ts";
import { SOURCE_MANIFEST_BYTES_MAX } from "../core/action/source-manifest.ts";
import type { Digest } from "../core/digest/digest.ts";
import { parseTenantId, type TenantId } from "../core/identity/spiffe.ts";
import type { TenantStore } from "../store/action-cache.ts";
import { DiskStore } from "../store/disk/disk-store.ts";
import { readBlob } from "../store/read-blob.ts";
import { alarmDifferences } from "./alarm-differences.ts";
import { stateFolders } from "./state-folders.ts";

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

export interface InspectorOptions {
  readonly auditFolder: string;
  readonly store: (tenant: TenantId) => TenantStore;
}

/** Largest manifest that is read back. */
const MANIFEST_BYTES_MAX = SOURCE_MANIFEST_BYTES_MAX;

export class Inspector {
  readonly #options: InspectorOptions;
  #index: InspectIndex | null = null;

  constructor(options: InspectorOptions) {
    this.#options = options;
  }

  /** Throws `hash.unknown` for what the tenant (null: any tenant) has not, `argument.invalid` for a prefix of several. */
  async find(hash: string, tenant: TenantId | null): Promise<Inspection> {
    this.#index ??= new InspectIndex(this.#options.auditFolder, async (of, digest) => this.#manifest(of, digest));
    const { kind, digest, records } = await this.#index.find(hash, tenant);
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

  /** Rows were removed: the index is made again when somebody asks. */
  forget(): void {
    this.#index?.close();
    this.#index = null;
  }

  close(): void {
    this.#index?.close();
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
  close(): void;
}

export async function openState(stateFolder: string): Promise<OpenState> {
  const folders = stateFolders(stateFolder);
  const disk = await DiskStore.open({ root: folders.store, clock: SYSTEM_CLOCK, logger: SILENT_LOGGER });
  const inspector = new Inspector({ auditFolder: folders.audit, store: (tenant) => disk.tenant(tenant) });
  return {
    inspector,
    blob: async (tenant, digest, sizeMax) => readBlob(disk.tenant(parseTenantId(tenant)).blobs, digest, sizeMax),
    async *rows() {
      for await (const { record } of readLog(folders.audit))
        yield { line: record.line, envelope: encodeEnvelope(record.envelope) };
    },
    close: () => inspector.close(),
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
    state.close();
  }
}

/** The one digest that all rows share; null when they do not. */
function common(digests: readonly (Digest | null)[]): Digest | null {
  const [first] = digests;
  return first !== undefined && digests.every((digest) => digest === first) ? first : null;
}
