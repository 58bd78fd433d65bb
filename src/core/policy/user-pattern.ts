// Patterns of user names, as trust tiers name their users: a name in which each "*" stands for any run of characters, or none.
import { HpccError } from "../../base/errors.ts";

declare const patternBrand: unique symbol;
export type UserPattern = string & { readonly [patternBrand]: true };

const PATTERN = /^[a-z0-9_.*-]{1,63}$/;
const ANY = "*";

/** UNTRUSTED: whoever wrote the policy. */
export function parseUserPattern(text: string): UserPattern {
  if (!PATTERN.test(text))
    throw new HpccError("argument.invalid", "a pattern of users is 1 to 63 of a-z, 0-9, '.', '_', '-' and '*'");
  return text.replaceAll(/\*+/g, ANY) as UserPattern;
}

/** Whether a name fits. Takes at most the product of both lengths, whatever the pattern is. */
export function matchesUser(pattern: UserPattern, name: string): boolean {
  let [at, inName] = [0, 0];
  let [lastAny, retryFrom] = [-1, 0];
  while (inName < name.length) {
    if (pattern[at] === ANY) {
      lastAny = at++;
      retryFrom = inName;
    } else if (pattern[at] === name[inName]) {
      at++;
      inName++;
    } else if (lastAny >= 0) {
      at = lastAny + 1;
      inName = ++retryFrom;
    } else return false;
  }
  while (pattern[at] === ANY) at++;
  return at === pattern.length;
}

/** Whether every name that fits `inner` fits `outer` too. */
export function coversUsers(outer: UserPattern, inner: UserPattern): boolean {
  // A "*" of the inner one reads as a character that nothing but a "*" of the outer one stands for.
  return matchesUser(outer, inner.replaceAll(ANY, "\0"));
}

/** A name that fits both; null when there is none. */
export function commonUser(a: UserPattern, b: UserPattern): string | null {
  // From the ends back: what the rests of both from (i, j) on have in common, the shortest there is.
  const width = b.length + 1;
  const found: (string | null)[] = Array.from({ length: (a.length + 1) * width }, () => null);
  const at = (i: number, j: number) => (i > a.length || j > b.length ? null : (found[i * width + j] ?? null));
  for (let i = a.length; i >= 0; i--)
    for (let j = b.length; j >= 0; j--) {
      if (i === a.length && j === b.length) found[i * width + j] = "";
      else found[i * width + j] = shortest(ways(a[i], b[j], (di, dj) => at(i + di, j + dj)));
    }
  return at(0, 0);
}

/** How a common name may go on where one pattern shows `x` and the other `y`. */
function ways(x: string | undefined, y: string | undefined, rest: (di: number, dj: number) => string | null) {
  const taken = (char: string | undefined, name: string | null) =>
    char === undefined || name === null ? null : char + name;
  if (x === ANY && y === ANY) return [rest(1, 0), rest(0, 1)];
  if (x === ANY) return [rest(1, 0), taken(y, rest(0, 1))];
  if (y === ANY) return [rest(0, 1), taken(x, rest(1, 0))];
  return [x === y ? taken(x, rest(1, 1)) : null];
}

function shortest(names: readonly (string | null)[]): string | null {
  let best: string | null = null;
  for (const name of names) if (name !== null && (best === null || name.length < best.length)) best = name;
  return best;
}
