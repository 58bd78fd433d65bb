// Random choices of the fuzz tests: a small generator whose seed is a number, so that an input is made again from seed and index, and
// changes to bytes as they happen on wires and disks, and in the hands of people who try things.

export class Draw {
  #state: number;

  constructor(seed: number, index: number) {
    this.#state = (Math.imul(seed | 0, 0x9e3779b1) ^ Math.imul(index | 0, 0x85ebca6b)) | 0;
    for (let round = 0; round < 4; round += 1) this.next();
  }

  /** Of 32 bits. (mulberry32) */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (t ^ (t >>> 14)) >>> 0;
  }

  /** From 0 up to, not including, `end`. */
  below(end: number): number {
    return end <= 1 ? 0 : this.next() % end;
  }

  /** True once in `times`. */
  once(times: number): boolean {
    return this.below(times) === 0;
  }

  of<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }

  list<T>(lengthMax: number, make: (at: number) => T): T[] {
    return Array.from({ length: this.below(lengthMax + 1) }, (_, at) => make(at));
  }

  bytes(lengthMax: number): Buffer {
    const bytes = Buffer.alloc(this.below(lengthMax + 1));
    for (let at = 0; at < bytes.length; at += 1) bytes[at] = this.next();
    return bytes;
  }
}

const NUMBERS = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0xffffffff, 0x80000000];
const WORDS = [
  "..",
  "/",
  "\0",
  "\n",
  " ",
  "=",
  '"',
  "{",
  "}",
  "[",
  "]",
  ",",
  "0",
  "9".repeat(20),
  "-1",
  "1e999",
  "sha256:",
];

/** Bytes with some changes; more often a few than many. */
export function mutated(draw: Draw, bytes: Buffer): Buffer {
  let changed: Buffer = Buffer.from(bytes);
  for (let left = 1 + draw.below(draw.once(8) ? 30 : 4); left > 0; left -= 1) changed = mutatedOnce(draw, changed);
  return changed;
}

function mutatedOnce(draw: Draw, bytes: Buffer): Buffer {
  const at = draw.below(bytes.length + 1);
  const length = Math.min(bytes.length - at, 1 + draw.below(draw.once(4) ? 2000 : 16));
  const insert = (piece: Buffer) => Buffer.concat([bytes.subarray(0, at), piece, bytes.subarray(at)]);
  switch (draw.below(8)) {
    case 0:
      if (at < bytes.length) bytes[at]! ^= 1 << draw.below(8);
      return bytes;
    case 1:
      if (at < bytes.length) bytes[at] = draw.next();
      return bytes;
    case 2:
      return bytes.subarray(0, at);
    case 3:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
    case 4:
      return insert(Buffer.from(bytes.subarray(at, at + length)));
    case 5:
      return insert(draw.bytes(16));
    case 6:
      return insert(Buffer.from(draw.of(WORDS), "latin1"));
    default:
      if (at + 4 <= bytes.length) bytes.writeUInt32LE(draw.of(NUMBERS), at);
      return bytes;
  }
}
