// What several lists of sorted entries hold together. Pure. Everything is bounded by what is asked for, not by what is there.
import { ENTRY_BYTES, groupOf, type Range, rangeOf, readEntry, type SortedEntries } from "./entry.ts";

/** The first entry of a range; null for none. */
export function firstOf(lists: readonly SortedEntries[], { from, to }: Range): Buffer | null {
  let first: Buffer | null = null;
  for (const list of lists) {
    const index = list.seek(from);
    if (index >= list.count) continue;
    const entry = list.at(index);
    if (entry.compare(to) <= 0 && (first === null || entry.compare(first) < 0)) first = Buffer.from(entry);
  }
  return first;
}

/** The first groups (one tenant, hash and kind each) of a range, as what their entries begin with. */
export function groupsOf(lists: readonly SortedEntries[], { from, to }: Range, countMax: number): Buffer[] {
  const groups: Buffer[] = [];
  let next = from;
  while (groups.length < countMax) {
    const first = firstOf(lists, { from: next, to });
    if (first === null) break;
    const group = Buffer.from(groupOf(first));
    groups.push(group);
    // No entry is as high as this one.
    next = rangeOf(group).to;
  }
  return groups;
}

/** The newest entries of a group, newest first, one for each record. */
export function newestOf(lists: readonly SortedEntries[], group: Uint8Array, countMax: number): Buffer[] {
  const { from, to } = rangeOf(group);
  const found: Buffer[] = [];
  for (const list of lists) {
    const end = list.seek(to);
    for (let index = end - 1, taken = 0; index >= 0 && taken < countMax; index--) {
      const entry = list.at(index);
      if (entry.compare(from) < 0) break;
      found.push(Buffer.from(entry));
      taken++;
    }
  }
  return oncePerRecord(found.sort((a, b) => Buffer.compare(b, a))).slice(0, countMax);
}

function oncePerRecord(entries: readonly Buffer[]): Buffer[] {
  return entries.filter((entry, at) => at === 0 || readEntry(entry).sequence !== readEntry(entries[at - 1]!).sequence);
}

/** All entries in order; ends a part of the work where it yields null. */
export function* merged(
  lists: readonly SortedEntries[],
  partEntries: number,
): Generator<Buffer | null, void, undefined> {
  const heads = lists.filter(({ count }) => count > 0).map((list) => new Head(list));
  heads.sort((a, b) => a.bytes.compare(b.bytes));
  for (let given = 1; heads.length > 0; given++) {
    const head = heads[0]!;
    yield head.bytes;
    if (given % partEntries === 0) yield null;
    if (!head.advance()) heads.shift();
    else settle(heads);
  }
}

class Head {
  readonly bytes = Buffer.alloc(ENTRY_BYTES);
  readonly #list: SortedEntries;
  #index = 0;

  constructor(list: SortedEntries) {
    this.#list = list;
    this.bytes.set(list.at(0));
  }

  advance(): boolean {
    if (++this.#index >= this.#list.count) return false;
    this.bytes.set(this.#list.at(this.#index));
    return true;
  }
}

/** Moves the first one to its place among the others, which are sorted. */
function settle(heads: Head[]): void {
  const head = heads[0]!;
  let at = 0;
  for (; at + 1 < heads.length && heads[at + 1]!.bytes.compare(head.bytes) < 0; at++) heads[at] = heads[at + 1]!;
  heads[at] = head;
}
