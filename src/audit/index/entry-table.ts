// The newest entries of the index, in memory and in no order, until they become a run.
import { ENTRY_BYTES, type Range, type SortedEntries } from "./entry.ts";

const START_ENTRIES = 4096;
const WORD_BYTES = 4;
/** A tenant and the 8 digits that each hash in question has at least. */
const WHOLE_WORDS = 3;

export class EntryTable {
  #bytes = Buffer.alloc(START_ENTRIES * ENTRY_BYTES);
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** Gives room for an entry, and where in `bytes` it is. */
  next(): { readonly bytes: Buffer; readonly at: number } {
    if (this.#count * ENTRY_BYTES === this.#bytes.length) {
      const larger = Buffer.alloc(2 * this.#bytes.length);
      this.#bytes.copy(larger);
      this.#bytes = larger;
    }
    return { bytes: this.#bytes, at: this.#count++ * ENTRY_BYTES };
  }

  /** All entries, sorted. */
  sorted(): SortedEntries {
    return new SortedList(
      this.#bytes,
      sortedPlaces(
        this.#bytes,
        Array.from({ length: this.#count }, (_, at) => at),
      ),
    );
  }

  /**
   * The entries of a range, sorted; all of it begins with one tenant and 8 digits. The tenant is looked at before the hash, so that other
   * tenants' entries cost the same whatever is asked for.
   */
  within({ from, to }: Range): SortedEntries {
    const bytes = this.#bytes;
    const words = new Uint32Array(bytes.buffer, bytes.byteOffset, (this.#count * ENTRY_BYTES) / WORD_BYTES);
    const wanted = new Uint32Array(new Uint8Array(from).buffer, 0, WHOLE_WORDS);
    const found: number[] = [];
    for (let at = 0, word = 0; at < this.#count; at++, word += ENTRY_BYTES / WORD_BYTES) {
      if (words[word] !== wanted[0] || words[word + 1] !== wanted[1] || words[word + 2] !== wanted[2]) continue;
      const start = at * ENTRY_BYTES;
      if (bytes.compare(from, 0, ENTRY_BYTES, start, start + ENTRY_BYTES) < 0) continue;
      if (bytes.compare(to, 0, ENTRY_BYTES, start, start + ENTRY_BYTES) <= 0) found.push(at);
    }
    return new SortedList(bytes, sortedPlaces(bytes, found));
  }

  clear(): void {
    this.#bytes = Buffer.alloc(START_ENTRIES * ENTRY_BYTES);
    this.#count = 0;
  }
}

function sortedPlaces(bytes: Buffer, places: number[]): number[] {
  return places.sort((a, b) => {
    const [atA, atB] = [a * ENTRY_BYTES, b * ENTRY_BYTES];
    return bytes.compare(bytes, atB, atB + ENTRY_BYTES, atA, atA + ENTRY_BYTES);
  });
}

class SortedList implements SortedEntries {
  readonly #bytes: Buffer;
  readonly #places: readonly number[];

  constructor(bytes: Buffer, places: readonly number[]) {
    this.#bytes = bytes;
    this.#places = places;
  }

  get count(): number {
    return this.#places.length;
  }

  at(index: number): Buffer {
    const start = this.#places[index]! * ENTRY_BYTES;
    return this.#bytes.subarray(start, start + ENTRY_BYTES);
  }

  seek(key: Uint8Array): number {
    let [low, high] = [0, this.count];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.at(middle).compare(key) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
