// The action cache of one tenant on disk. An entry is tagged fields and a SHA-256 of them (docs/specs/store.md); it is
// never synced, since losing one costs a compile.
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { HpccError } from "../../base/errors.ts";
import { FieldReader, FieldWriter } from "../../core/action/fields.ts";
import { type Digest, digestHex, parseDigest } from "../../core/digest/digest.ts";
import { ISOLATION_NUMBERS } from "../../core/isolation.ts";
import { LIFE_NUMBERS } from "../../core/life.ts";
import type { ActionCache, ActionLookup, CachedAction } from "../action-cache.ts";
import type { StoreObserver } from "./disk-blob-store.ts";
import { type DiskFiles, isMissing, storeError } from "./disk-files.ts";
import { RevokedVms } from "./revoked-vms.ts";

const SCHEMA = "hpcc.cached.v2";
/** Entries of this schema have no life: every VM was one of a session. */
const SCHEMA_WITHOUT_LIFE = "hpcc.cached.v1";
const CHECKSUM_BYTES = 32;
const AREA = "actions";

export class DiskActionCache implements ActionCache {
  readonly #files: DiskFiles;
  readonly #observer: StoreObserver;
  readonly #revoked: RevokedVms;

  constructor(files: DiskFiles, observer: StoreObserver) {
    this.#files = files;
    this.#observer = observer;
    this.#revoked = new RevokedVms({
      files,
      sweep: (vms) => this.#removeOf(vms),
      swept: (vm, entries) => observer.takenBack(vm, entries),
      failed: (error) => observer.sweepFailed(error),
    });
  }

  async get(key: Digest): Promise<ActionLookup> {
    const path = this.#files.path(AREA, digestHex(key));
    try {
      const action = decode(key, await readFile(path));
      if (typeof action !== "string")
        return (await this.#revoked.has(action.vm)) ? { kind: "miss" } : { kind: "hit", action };
      await this.#files.quarantine(path, digestHex(key));
      this.#observer.quarantined("action", key, action);
      return { kind: "miss" };
    } catch (error) {
      if (isMissing(error)) return { kind: "miss" };
      throw storeError(error, `cannot read the cached action ${key}`);
    }
  }

  async put(key: Digest, action: CachedAction): Promise<void> {
    const entry = encode(key, action);
    try {
      await this.#files.create(false, async (file) => {
        await file.append(entry);
        return this.#files.path(AREA, digestHex(key));
      });
    } catch (error) {
      throw storeError(error, `cannot keep the cached action ${key}`);
    }
    this.#observer.cacheGrew(entry.length);
    // Asked last: it may have been revoked, and swept, while its result was written.
    if (await this.#revoked.has(action.vm)) await this.#files.removeDurably([this.#files.path(AREA, digestHex(key))]);
  }

  revoke(vm: string): Promise<void> {
    return this.#revoked.add(vm);
  }

  revoked(vm: string): Promise<boolean> {
    return this.#revoked.has(vm);
  }

  /** Resolves when nothing is being removed. */
  settled(): Promise<void> {
    return this.#revoked.settled();
  }

  async #removeOf(vms: ReadonlySet<string>): Promise<Map<string, number>> {
    const removed = new Map<string, number>();
    const paths: string[] = [];
    for await (const path of this.#files.paths(AREA)) {
      const vm = await vmOf(path);
      if (vm === null || !vms.has(vm)) continue;
      removed.set(vm, (removed.get(vm) ?? 0) + 1);
      paths.push(path);
    }
    await this.#files.removeDurably(paths);
    return removed;
  }
}

/** The VM that an entry names; null for one that is gone or damaged, which answers nobody. */
async function vmOf(path: string): Promise<string | null> {
  try {
    const action = decode(parseDigest(`sha256:${basename(path)}`, "an entry's name"), await readFile(path));
    return typeof action === "string" ? null : action.vm;
  } catch (error) {
    if (isMissing(error) || error instanceof HpccError) return null;
    throw error;
  }
}

function checksum(bytes: Uint8Array): Buffer {
  return createHash("sha256").update(bytes).digest();
}

function encode(key: Digest, action: CachedAction): Uint8Array {
  const fields = new FieldWriter()
    .ascii(1, SCHEMA)
    .digest(2, key)
    .bytes(3, action.result)
    .u32(4, ISOLATION_NUMBERS.numberOf(action.isolation))
    .u64(5, action.compileUs)
    .ascii(6, action.vm)
    .u32(7, LIFE_NUMBERS.numberOf(action.life))
    .finish();
  return Buffer.concat([fields, checksum(fields)]);
}

/** A string tells what is wrong with the entry. */
function decode(key: Digest, entry: Buffer): CachedAction | string {
  const body = entry.subarray(0, Math.max(0, entry.length - CHECKSUM_BYTES));
  if (!checksum(body).equals(entry.subarray(body.length))) return "its checksum is wrong";
  try {
    const fields = new FieldReader(body, "the cached action");
    const schema = fields.byteString(1);
    if (schema !== SCHEMA && schema !== SCHEMA_WITHOUT_LIFE) return "its schema is another";
    if (fields.digest(2) !== key) return "it belongs to another key";
    const result = Uint8Array.from(fields.bytes(3));
    const isolation = ISOLATION_NUMBERS.nameOf(fields.u32(4));
    if (isolation === undefined) return "its isolation is unknown";
    const made = { result, isolation, compileUs: fields.u64(5), vm: String(fields.byteString(6)) };
    const life = schema === SCHEMA ? LIFE_NUMBERS.nameOf(fields.u32(7)) : "session";
    if (life === undefined) return "its life is unknown";
    fields.end();
    return { ...made, life };
  } catch (error) {
    if (error instanceof HpccError) return error.message;
    throw error;
  }
}
