// Counts by names, and the newest of many, in bounded memory: what a report of any log takes is known beforehand. Pure.

/** Names that are told apart; what comes after them is counted together. */
const GROUPS_MAX = 10_000;
const NAMES_MAX = 100;

/** A part of a longer list. */
export interface Some<T> {
  readonly items: readonly T[];
  /** How many there are that are not shown. */
  readonly more: number;
}

/** Distinct names, up to a number. */
export class Names {
  readonly #names = new Set<string>();
  #isMore = false;

  add(name: string | null): void {
    if (name === null || this.#names.has(name)) return;
    if (this.#names.size < NAMES_MAX) this.#names.add(name);
    else this.#isMore = true;
  }

  toJSON(): unknown {
    return { names: this.all, more: this.#isMore };
  }

  get all(): readonly string[] {
    return [...this.#names].sort();
  }

  /** "3", or "more than 100". */
  get count(): string {
    return this.#isMore ? `more than ${NAMES_MAX}` : String(this.#names.size);
  }
}

/** Something for each group of names. */
export class Groups<T> {
  readonly #groups = new Map<string, T>();
  readonly #make: (names: readonly string[]) => T;
  #rest: T | null = null;

  constructor(make: (names: readonly string[]) => T) {
    this.#make = make;
  }

  of(names: readonly string[]): T {
    const key = JSON.stringify(names);
    const known = this.#groups.get(key);
    if (known !== undefined) return known;
    if (this.#groups.size >= GROUPS_MAX) return (this.#rest ??= this.#make(names.map(() => "all others")));
    const made = this.#make(names);
    this.#groups.set(key, made);
    return made;
  }

  /** Those that the order puts first. */
  first(count: number, order: (a: T, b: T) => number): Some<T> {
    const all = [...this.#groups.values()].toSorted(order);
    if (this.#rest !== null) all.push(this.#rest);
    return { items: all.slice(0, count), more: Math.max(0, all.length - count) };
  }
}

/** The last so many that came. */
export class Newest<T> {
  readonly #countMax: number;
  #kept: T[] = [];
  #count = 0;

  constructor(countMax: number) {
    this.#countMax = countMax;
  }

  add(item: T): void {
    this.#count += 1;
    this.#kept.push(item);
    if (this.#kept.length >= 2 * this.#countMax + 16) this.#kept = this.#kept.slice(-this.#countMax);
  }

  /** The newest first. */
  get some(): Some<T> {
    const items = this.#kept.slice(-this.#countMax).reverse();
    return { items, more: this.#count - items.length };
  }
}
