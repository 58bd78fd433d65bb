// Are two kinds of questions answered in different times? The measurements come in pairs, one of each kind, and a fair coin of the
// test's own decides which of a pair is asked first. If the kind makes no difference, each pair's times are what they are and the
// coins alone decide which kind they are counted for. So the rate of false alarms is bounded by the coins, whatever the machine does
// meanwhile: noise, drift and pauses need no model.

/** Times of one pair, in any unit. */
export interface Pair {
  readonly a: number;
  readonly b: number;
}

export interface Difference {
  /** Largest distance between the two empirical distributions, as of the two-sample Kolmogorov-Smirnov test. */
  readonly distance: number;
  /** Share of the pairs in which `b` took longer, ties counted as half. */
  readonly slower: number;
  /** From here on each of them is no chance. */
  readonly distanceMax: number;
  readonly slowerMax: number;
  readonly found: boolean;
}

/** With what probability two kinds that do not differ are said to. */
export const FALSE_ALARM = 1e-6;

/**
 * Compares the kinds by both statistics, half of `alpha` for each. By Hoeffding's inequality a sum of `n` fair coins, each worth 1 or
 * -1, is beyond `t * n` with a probability of at most `2 exp(-n t² / 2)`; the distance is the largest of such sums at `2 n` places.
 */
export function difference(pairs: readonly Pair[], alpha = FALSE_ALARM): Difference {
  const n = pairs.length;
  const distance = kolmogorovSmirnov(
    pairs.map(({ a }) => a),
    pairs.map(({ b }) => b),
  );
  const slower = pairs.reduce((sum, { a, b }) => sum + (b > a ? 1 : b === a ? 0.5 : 0), 0) / n;
  const distanceMax = Math.sqrt((2 * Math.log((8 * n) / alpha)) / n);
  const slowerMax = Math.sqrt(Math.log(4 / alpha) / (2 * n));
  const found = distance > distanceMax || Math.abs(slower - 0.5) > slowerMax;
  return { distance, slower, distanceMax, slowerMax, found };
}

/** Largest difference of the two empirical distribution functions. */
function kolmogorovSmirnov(left: readonly number[], right: readonly number[]): number {
  const steps = [
    ...left.map((value) => ({ value, step: 1 / left.length })),
    ...right.map((value) => ({ value, step: -1 / right.length })),
  ].sort((one, other) => one.value - other.value);
  let sum = 0;
  let largest = 0;
  for (const [at, { value, step }] of steps.entries()) {
    sum += step;
    if (steps[at + 1]?.value !== value) largest = Math.max(largest, Math.abs(sum));
  }
  return largest;
}
