// The first leaves of an RFC 6962 tree as few hashes: one for each full tree that they make, the largest first. Enough to take more
// leaves and to say the root. Pure.
import { HpccError } from "../../base/errors.ts";
import { EMPTY_ROOT, HASH_BYTES, nodeHash } from "./hashes.ts";

export class CompactRange {
  #size: number;
  readonly #nodes: Uint8Array[];

  private constructor(size: number, nodes: readonly Uint8Array[]) {
    this.#size = size;
    this.#nodes = [...nodes];
  }

  static empty(): CompactRange {
    return new CompactRange(0, []);
  }

  /** Throws `audit.corrupt` where so many leaves do not make so many hashes. UNTRUSTED: whoever kept it. */
  static restore(size: number, bytes: Uint8Array): CompactRange {
    const bits = Number.isSafeInteger(size) && size >= 0 ? size.toString(2).replaceAll("0", "").length : -1;
    if (bytes.length !== bits * HASH_BYTES)
      throw new HpccError("audit.corrupt", `${bytes.length} bytes are not what the first ${size} rows of a log make`);
    const nodes = Array.from({ length: bits }, (_, at) => bytes.subarray(at * HASH_BYTES, (at + 1) * HASH_BYTES));
    return new CompactRange(size, nodes);
  }

  get size(): number {
    return this.#size;
  }

  /** What `restore` takes. */
  bytes(): Buffer {
    return Buffer.concat(this.#nodes);
  }

  append(leaf: Uint8Array): void {
    let node = leaf;
    for (let rest = this.#size; rest % 2 === 1; rest = Math.floor(rest / 2)) node = nodeHash(this.#nodes.pop()!, node);
    this.#nodes.push(node);
    this.#size++;
  }

  root(): Uint8Array {
    return (
      this.#nodes.reduceRight<Uint8Array | null>(
        (right, left) => (right === null ? left : nodeHash(left, right)),
        null,
      ) ?? EMPTY_ROOT
    );
  }
}
