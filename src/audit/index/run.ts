// One run of the index on disk: writes sorted entries once, and looks for them.
import { randomBytes } from "node:crypto";
import { closeSync, fdatasync, fstatSync, openSync, readSync, unlinkSync, writeSync } from "node:fs";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { promisify } from "node:util";
import { openPlainFileSync } from "../plain-file.ts";
import { ENTRY_BYTES, type SortedEntries } from "./entry.ts";
import {
  BLOCK_BYTES,
  BLOCK_ENTRIES,
  IndexDamaged,
  levelsOf,
  openBlock,
  RUN_ID_BYTES,
  type RunShape,
  runBytes,
  sealBlock,
} from "./run-format.ts";

/** A run as the state names it. */
export interface RunName extends RunShape {
  readonly name: string;
  /** How often its entries were merged. */
  readonly level: number;
}

/** Blocks that are written together. */
const WRITE_BLOCKS = 64;
/** Blocks whose first entries are read at once. */
const PART_BLOCKS = 2048;

export class RunWriter {
  readonly #path: string;
  readonly #name: string;
  readonly #id = randomBytes(RUN_ID_BYTES);
  readonly #fd: number;
  readonly #buffer = Buffer.alloc(WRITE_BLOCKS * BLOCK_BYTES);
  #blocks = 0;
  #written = 0;
  #inBlock = 0;
  #entries = 0;

  constructor(folder: string) {
    this.#name = `${this.#id.toString("hex")}.run`;
    this.#path = join(folder, this.#name);
    this.#fd = openSync(this.#path, "wx+", 0o600);
  }

  /** Takes the next entry; they come in order. */
  add(entry: Uint8Array): void {
    this.#put(entry);
    this.#entries++;
  }

  /** Writes what is above the entries, and makes all of it durable. Gives way between its parts. */
  async finish(level: number): Promise<RunName> {
    if (this.#inBlock > 0) this.#endBlock();
    const first = Buffer.alloc(ENTRY_BYTES);
    let from = 0;
    for (const blocks of levelsOf(this.#entries).slice(0, -1)) {
      this.#flush();
      for (let number = from; number < from + blocks; number++) {
        readSync(this.#fd, first, 0, ENTRY_BYTES, number * BLOCK_BYTES);
        this.#put(first);
        if (number % PART_BLOCKS === 0) await setImmediate();
      }
      if (this.#inBlock > 0) this.#endBlock();
      from += blocks;
    }
    this.#flush();
    await promisify(fdatasync)(this.#fd);
    return { name: this.#name, id: this.#id, entries: this.#entries, level };
  }

  close(): void {
    closeSync(this.#fd);
  }

  remove(): void {
    unlinkSync(this.#path);
  }

  #put(entry: Uint8Array): void {
    this.#buffer.set(entry, (this.#blocks - this.#written) * BLOCK_BYTES + this.#inBlock * ENTRY_BYTES);
    if (++this.#inBlock === BLOCK_ENTRIES) this.#endBlock();
  }

  #endBlock(): void {
    const at = (this.#blocks - this.#written) * BLOCK_BYTES;
    const block = this.#buffer.subarray(at, at + BLOCK_BYTES);
    sealBlock(block, this.#id, { number: this.#blocks, count: this.#inBlock });
    this.#blocks++;
    this.#inBlock = 0;
    if (this.#blocks - this.#written === WRITE_BLOCKS) this.#flush();
  }

  /** Writes whole blocks. */
  #flush(): void {
    const bytes = (this.#blocks - this.#written) * BLOCK_BYTES;
    for (let done = 0; done < bytes; )
      done += writeSync(this.#fd, this.#buffer, done, bytes - done, this.#written * BLOCK_BYTES + done);
    this.#written = this.#blocks;
  }
}

export class Run implements SortedEntries {
  readonly shape: RunName;
  readonly #fd: number;
  /** Where each level begins, in blocks, from the entries upwards. */
  readonly #starts: readonly number[];
  readonly #block = Buffer.alloc(BLOCK_BYTES);
  #loaded = -1;
  #inBlock = 0;

  /** Throws `IndexDamaged` for one that is not as long as it must be. */
  constructor(folder: string, shape: RunName) {
    this.shape = shape;
    try {
      this.#fd = openPlainFileSync(join(folder, shape.name));
    } catch (error) {
      throw new IndexDamaged(`the run ${shape.name} cannot be opened`, error);
    }
    const starts: number[] = [];
    for (let start = 0, level = 0, levels = levelsOf(shape.entries); level < levels.length; level++) {
      starts.push(start);
      start += levels[level]!;
    }
    this.#starts = starts;
    if (fstatSync(this.#fd).size !== runBytes(shape.entries)) {
      closeSync(this.#fd);
      throw new IndexDamaged(`the run ${shape.name} has another size`);
    }
  }

  get count(): number {
    return this.shape.entries;
  }

  close(): void {
    closeSync(this.#fd);
  }

  seek(key: Uint8Array): number {
    if (this.count === 0) return 0;
    let block = 0;
    for (let level = this.#starts.length - 1; level > 0; level--) {
      this.#load(this.#starts[level]! + block);
      // The last one that begins below the key: the first entry that is not below it is in there, or follows at once.
      block = block * BLOCK_ENTRIES + Math.max(0, this.#below(key) - 1);
    }
    this.#load(block);
    return block * BLOCK_ENTRIES + this.#below(key);
  }

  at(index: number): Buffer {
    this.#load(Math.floor(index / BLOCK_ENTRIES));
    const within = index % BLOCK_ENTRIES;
    if (within >= this.#inBlock) throw new IndexDamaged("a block has fewer entries than it must have");
    return this.#block.subarray(within * ENTRY_BYTES, (within + 1) * ENTRY_BYTES);
  }

  /** How many entries of the block that is loaded are below the key. */
  #below(key: Uint8Array): number {
    let [low, high] = [0, this.#inBlock];
    while (low < high) {
      const middle = (low + high) >> 1;
      const at = middle * ENTRY_BYTES;
      if (this.#block.compare(key, 0, ENTRY_BYTES, at, at + ENTRY_BYTES) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #load(number: number): void {
    if (number === this.#loaded) return;
    this.#loaded = -1;
    let read = 0;
    try {
      read = readSync(this.#fd, this.#block, 0, BLOCK_BYTES, number * BLOCK_BYTES);
    } catch (error) {
      throw new IndexDamaged(`block ${number} of ${this.shape.name} cannot be read`, error);
    }
    this.#inBlock = openBlock(this.#block.subarray(0, read), this.shape.id, number);
    this.#loaded = number;
  }
}
