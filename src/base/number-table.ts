// Names and the numbers that stand for them wherever they are encoded and hashed. The numbers are written out, so that the
// order of a list can never change a digest.

export class NumberTable<T extends string, N extends number = number> {
  readonly names: readonly T[];
  readonly #numbers: Readonly<Record<T, N>>;
  readonly #nameByNumber: ReadonlyMap<number, T>;

  constructor(numbers: Readonly<Record<T, N>>) {
    this.names = Object.keys(numbers) as T[];
    this.#numbers = numbers;
    this.#nameByNumber = new Map(this.names.map((name) => [numbers[name], name]));
  }

  numberOf(name: T): N {
    return this.#numbers[name];
  }

  /** Undefined for a number that stands for nothing. */
  nameOf(number: number): T | undefined {
    return this.#nameByNumber.get(number);
  }
}
