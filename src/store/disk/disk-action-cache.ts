// The action cache of one tenant on disk. An entry (docs/specs/store.md) is never synced, since losing one costs a compile; what
// is revoked is.
import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { type Digest, digestHex, isDigest } from "../../core/digest/digest.ts";
import type { Made, Revocation, RevokedBy } from "../../core/revocation.ts";
import type { ActionCache, ActionLookup, CachedAction } from "../action-cache.ts";
import { decodeCachedAction, encodeCachedAction } from "./cached-action-codec.ts";
import type { StoreObserver } from "./disk-blob-store.ts";
import { type DiskFiles, isMissing, storeError } from "./disk-files.ts";
import type { RevocationMark } from "./revocation-list.ts";

const AREA = "actions";
/** Removed together, when a sweep has found that many. */
const REMOVED_AT_ONCE = 1000;

/** What is revoked of one tenant's results. */
export interface TenantRevocations {
  covering(key: Digest, made: Made): Promise<RevocationMark | "horizon" | null>;
  stamp(nowMs: number): Promise<number>;
  revoke(revocation: Revocation, by: RevokedBy): Promise<void>;
}

export class DiskActionCache implements ActionCache {
  readonly #files: DiskFiles;
  readonly #observer: StoreObserver;
  readonly #revocations: TenantRevocations;

  constructor(files: DiskFiles, observer: StoreObserver, revocations: TenantRevocations) {
    this.#files = files;
    this.#observer = observer;
    this.#revocations = revocations;
  }

  async get(key: Digest): Promise<ActionLookup> {
    const path = this.#files.path(AREA, digestHex(key));
    try {
      const decoded = decodeCachedAction(key, await readFile(path));
      if (decoded.t === "older") return { kind: "miss" };
      if (decoded.t === "action") {
        const { action } = decoded;
        return (await this.revoked(key, action)) ? { kind: "miss" } : { kind: "hit", action };
      }
      await this.#files.quarantine(path, digestHex(key));
      this.#observer.quarantined("action", key, decoded.problem);
      return { kind: "miss" };
    } catch (error) {
      if (isMissing(error)) return { kind: "miss" };
      throw storeError(error, `cannot read the cached action ${key}`);
    }
  }

  async put(key: Digest, action: CachedAction): Promise<void> {
    if (await this.revoked(key, action)) return;
    const entry = encodeCachedAction(key, action);
    try {
      await this.#files.create(false, async (file) => {
        await file.append(entry);
        return this.#files.path(AREA, digestHex(key));
      });
    } catch (error) {
      throw storeError(error, `cannot keep the cached action ${key}`);
    }
    this.#observer.cacheGrew(entry.length);
    // Asked again: it may have been revoked, and swept, while its result was written.
    if (await this.revoked(key, action)) await this.#files.removeDurably([this.#files.path(AREA, digestHex(key))]);
  }

  revoke(revocation: Revocation, by: RevokedBy): Promise<void> {
    return this.#revocations.revoke(revocation, by);
  }

  async revoked(key: Digest, made: Made): Promise<boolean> {
    return (await this.#revocations.covering(key, made)) !== null;
  }

  stamp(nowMs: number): Promise<number> {
    return this.#revocations.stamp(nowMs);
  }

  /** Removes all that is revoked; tells each removed entry's key and what revokes it. What it tells is durable when it resolves. */
  async sweep(removed: (key: Digest, mark: RevocationMark | "horizon") => void): Promise<void> {
    let paths: string[] = [];
    // Looked at once more where nobody can replace it: a fresh result may have taken an entry's place.
    const isRevoked = async (aside: string, path: string) => {
      const found = await this.#revokedAt(aside, path);
      if (found !== null) removed(found.key, found.mark);
      return found !== null;
    };
    for await (const path of this.#files.paths(AREA)) {
      if ((await this.#revokedAt(path, path)) !== null) paths.push(path);
      if (paths.length < REMOVED_AT_ONCE) continue;
      await this.#files.removeUnwanted(paths, isRevoked);
      paths = [];
    }
    await this.#files.removeUnwanted(paths, isRevoked);
  }

  /** `path` is the entry's place, which names its key; it is read at `at`. */
  async #revokedAt(at: string, path: string) {
    const key = `sha256:${basename(path)}`;
    const action = isDigest(key) ? await actionAt(at, key) : null;
    if (!isDigest(key) || action === null) return null;
    const mark = await this.#revocations.covering(key, action);
    return mark === null ? null : { key, mark };
  }
}

/** Null for one that is gone, damaged or older, which answers nobody. */
async function actionAt(path: string, key: Digest): Promise<CachedAction | null> {
  try {
    const decoded = decodeCachedAction(key, await readFile(path));
    return decoded.t === "action" ? decoded.action : null;
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}
