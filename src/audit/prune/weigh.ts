// What a tenant's rows weigh on the disk: their own bytes, and what they need of the store, each blob once, counted to the newest row that
// needs it. So the rows from any one on weigh the sum of their counts.
import { type Digest, digestHex, isDigest } from "../../core/digest/digest.ts";
import { resultDigestsOf } from "../rows/bodies.ts";
import type { AuditRecord } from "../segment.ts";

/** What a row names in the store. */
export type NeededKind = "source" | "result" | "flags";

export interface WeighedBlob {
  readonly digest: Digest;
  /** On the disk. */
  readonly bytes: number;
}

/** A blob that a tenant's row names and those that it names itself, as far as they are kept. */
export type Weigh = (tenant: string, digest: Digest, kind: NeededKind) => Promise<readonly WeighedBlob[]>;

/** What a row needs of the store. */
export function neededBy({ row, envelope }: AuditRecord): (readonly [Digest, NeededKind])[] {
  const { sourceDigest, flags } = row;
  return [
    ...(sourceDigest === null ? [] : [[sourceDigest, "source"] as const]),
    ...resultDigestsOf(envelope).map((digest) => [digest, "result"] as const),
    ...(flags !== null && isDigest(flags) ? [[flags, "flags"] as const] : []),
  ];
}

export class TenantWeights {
  readonly #sequences: number[] = [];
  readonly #bytes: number[] = [];
  /** The newest row that names each. */
  readonly #named = new Map<Digest, { at: number; readonly kind: NeededKind }>();

  take(record: AuditRecord, bytes: number): void {
    const at = this.#sequences.length;
    this.#sequences.push(record.envelope.sequence);
    this.#bytes.push(bytes);
    for (const [digest, kind] of neededBy(record)) {
      const known = this.#named.get(digest);
      if (known === undefined) this.#named.set(digest, { at, kind });
      else known.at = at;
    }
  }

  /** The oldest row from which on all fit into so many bytes. */
  async oldestThatFits(
    bytesMax: number,
    weigh: (digest: Digest, kind: NeededKind) => Promise<readonly WeighedBlob[]>,
  ): Promise<number> {
    const counted = new Set<string>();
    // Newest first: a blob counts where it was needed last.
    for (const [digest, { at, kind }] of [...this.#named].sort(([, a], [, b]) => b.at - a.at))
      for (const blob of await weigh(digest, kind)) {
        const hex = digestHex(blob.digest);
        if (counted.has(hex)) continue;
        counted.add(hex);
        this.#bytes[at]! += blob.bytes;
      }
    let total = 0;
    for (let at = this.#sequences.length - 1; at >= 0; at--) {
      total += this.#bytes[at]!;
      if (total > bytesMax) return this.#sequences[at]! + 1;
    }
    return 0;
  }
}
