// All entries of the index: the newest in memory, the others in runs on disk. What is in memory becomes a run when it is large enough, and
// runs of one size become one in the background, so that there are few of them. One process writes an index; others only read it, and
// put what they add into a folder of their own that goes with them.
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { HpccError } from "../../base/errors.ts";
import type { Digest } from "../../core/digest/digest.ts";
import { type Entry, type Range, rangeOf, type SortedEntries, tagOf, writeEntry } from "./entry.ts";
import { EntryTable } from "./entry-table.ts";
import { type BuiltPosition, readIndexState, STATE_FILE, writeIndexState } from "./index-state.ts";
import { LOG_START } from "./log-follower.ts";
import { Run, RunWriter } from "./run.ts";
import { IndexDamaged } from "./run-format.ts";
import { firstOf, merged } from "./sorted-search.ts";

/** Entries in memory that become a run. */
const TABLE_ENTRIES = 65_536;
/** Runs of one level that become one of the next. */
const FAN_IN = 4;
/** Entries that are merged before others have their turn. */
const PART_ENTRIES = 8192;
const OPEN_TRIES = 3;
/** Above so many runs the log waits for the merging. */
const RUNS_MAX = 64;

const NOTHING_BUILT: BuiltPosition = { ...LOG_START, spans: [] };

export interface RunSetOptions {
  /** The index's folder. */
  readonly home: string;
  /** Whether this process writes it. */
  readonly keep: boolean;
  readonly tableEntries?: number;
  /** Is told why a merge failed; it is tried again. */
  readonly mergeFailed: (error: unknown) => void;
}

export class RunSet {
  readonly #options: RunSetOptions;
  /** Where new runs go. */
  readonly #folder: string;
  readonly #table = new EntryTable();
  readonly #tags = new Map<string, Buffer>();
  #runs: Run[];
  #built: BuiltPosition;
  #merging: Promise<void> | null = null;
  #closed = false;
  #damage: IndexDamaged | null = null;

  private constructor(options: RunSetOptions, folder: string, found: { built: BuiltPosition; runs: Run[] }) {
    this.#options = options;
    this.#folder = folder;
    this.#runs = found.runs;
    this.#built = found.built;
    for (let from = rangeOf(new Uint8Array()).from; ; ) {
      const first = firstOf(this.#runs, { from, to: rangeOf(new Uint8Array()).to });
      if (first === null) break;
      this.#know(tagOf(first));
      from = rangeOf(tagOf(first)).to;
    }
  }

  /** What is there. Throws `IndexDamaged` where it cannot be used. */
  static open(options: RunSetOptions): RunSet {
    return RunSet.#openWith(options, () => {
      const state = readIndexState(options.home);
      if (state === null) return { built: NOTHING_BUILT, runs: [] };
      const runs: Run[] = [];
      try {
        for (const shape of state.runs) runs.push(new Run(options.home, shape));
        return { built: state.built, runs };
      } catch (error) {
        for (const run of runs) run.close();
        throw error;
      }
    });
  }

  /** An empty one, in place of whatever is there. */
  static create(options: RunSetOptions): RunSet {
    return RunSet.#openWith(options, () => {
      if (options.keep) remove(options.home, STATE_FILE);
      return { built: NOTHING_BUILT, runs: [] };
    });
  }

  static #openWith(options: RunSetOptions, find: () => { built: BuiltPosition; runs: Run[] }): RunSet {
    if (!options.keep) {
      const found = again(find);
      return new RunSet(options, mkdtempSync(join(tmpdir(), "hpcc-index-")), found);
    }
    mkdirSync(options.home, { recursive: true, mode: 0o700 });
    chmodSync(options.home, 0o700);
    const found = find();
    const own = new Set([STATE_FILE, ...found.runs.map(({ shape }) => shape.name)]);
    for (const name of readdirSync(options.home)) if (!own.has(name)) remove(options.home, name);
    return new RunSet(options, options.home, found);
  }

  /** Up to where in the log the runs go; what comes after it is in memory alone. */
  get built(): BuiltPosition {
    return this.#built;
  }

  /** What a merge has found to be damaged; null for nothing. */
  get damage(): IndexDamaged | null {
    return this.#damage;
  }

  /** What each tenant's entries begin with. */
  get tags(): readonly Buffer[] {
    return [...this.#tags.values()];
  }

  /** What may hold entries of a range. It is good until the next `await`. */
  lists(range: Range): SortedEntries[] {
    return [this.#table.within(range), ...this.#runs];
  }

  /** Whether there is an entry of a range on disk. */
  has(range: Range): boolean {
    return firstOf(this.#runs, range) !== null;
  }

  add(tag: Buffer, digest: Digest, entry: Entry): void {
    this.#know(tag);
    const { bytes, at } = this.#table.next();
    writeEntry(bytes, at, tag, digest, entry);
  }

  get full(): boolean {
    return this.#table.count >= (this.#options.tableEntries ?? TABLE_ENTRIES);
  }

  /** Makes a run of what is in memory, which goes up to a position. */
  async flush(position: BuiltPosition): Promise<void> {
    if (this.#table.count === 0) return;
    if (this.#runs.length >= RUNS_MAX) await this.#merging;
    const all = this.#table.sorted();
    await this.#write("a part of the index cannot be written", 0, async (writer) => {
      for (let index = 0; index < all.count; index++) {
        writer.add(all.at(index));
        if (index % PART_ENTRIES === 0) await setImmediate();
      }
      return (run) => {
        this.#runs = [run, ...this.#runs];
        this.#table.clear();
        this.#built = position;
      };
    });
    this.#merge();
  }

  /** Ends the merging, and closes the files. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#merging;
    for (const run of this.#runs) run.close();
    this.#runs = [];
    if (!this.#options.keep) rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Resolves when no merge is under way. */
  async settled(): Promise<void> {
    while (this.#merging !== null) await this.#merging;
  }

  #know(tag: Buffer): void {
    const name = tag.toString("latin1");
    if (!this.#tags.has(name)) this.#tags.set(name, Buffer.from(tag));
  }

  #merge(): void {
    const levels = Map.groupBy(this.#runs, ({ shape }) => shape.level);
    const [level, runs] = [...levels].find(([, same]) => same.length >= FAN_IN) ?? [];
    if (this.#merging !== null || this.#closed || level === undefined || runs === undefined) return;
    this.#merging = this.#mergeRuns(runs, level + 1)
      .catch((error: unknown) => {
        if (error instanceof IndexDamaged) this.#damage = error;
        else if (!this.#closed) this.#options.mergeFailed(error);
        return false;
      })
      .then((done) => {
        this.#merging = null;
        if (done) this.#merge();
      });
  }

  async #mergeRuns(runs: readonly Run[], level: number): Promise<boolean> {
    await this.#write("runs of the index cannot be merged", level, async (writer) => {
      for (const entry of merged(runs, PART_ENTRIES)) {
        if (entry !== null) writer.add(entry);
        else await setImmediate();
        if (this.#closed) throw new HpccError("job.cancelled", "the index is being closed");
      }
      return (run) => {
        this.#runs = [...this.#runs.filter((other) => !runs.includes(other)), run];
      };
    });
    for (const run of runs) {
      run.close();
      rmSync(join(this.#folder, run.shape.name), { force: true });
    }
    return true;
  }

  /** Writes a run and what it changes; only then the state names it. */
  async #write(
    problem: string,
    level: number,
    fill: (writer: RunWriter) => Promise<(run: Run) => void>,
  ): Promise<void> {
    const writer = new RunWriter(this.#folder);
    let done = false;
    try {
      const put = await fill(writer);
      const run = new Run(this.#folder, await writer.finish(level));
      done = true;
      put(run);
      if (this.#options.keep)
        writeIndexState(this.#options.home, { built: this.#built, runs: this.#runs.map(({ shape }) => shape) });
    } catch (error) {
      if (!done) writer.remove();
      throw asWritten(problem, error);
    } finally {
      writer.close();
    }
  }
}

/** Whatever it is: also a folder, which this program has not made. */
function remove(home: string, name: string): void {
  rmSync(join(home, name), { recursive: true, force: true });
}

/** A worker may take runs away while they are being opened; its state says by then which ones are in their place. */
function again<T>(find: () => T): T {
  for (let left = OPEN_TRIES; ; left--) {
    try {
      return find();
    } catch (error) {
      if (left === 0) throw error;
    }
  }
}

function asWritten(problem: string, error: unknown): HpccError {
  return error instanceof HpccError ? error : new HpccError("audit.io", problem, { cause: error });
}
