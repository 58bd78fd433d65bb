// Why a signature of an image does not count, and what it is held against. Pure.

/** From what is worth telling least to most. */
export const FAULTS = ["malformed", "key", "expired", "identity", "digest", "repository"] as const;

export interface Fault {
  readonly kind: (typeof FAULTS)[number];
  /** Of the image, "is signed in a form that is not understood". */
  readonly words: string;
}

export interface Wanted {
  /** Of the image, and of the index that names it. */
  readonly signed: ReadonlySet<string>;
  /** The bytes of these, as far as they are here. */
  readonly documents: readonly Buffer[];
  readonly repository: string;
  readonly nowMs: number;
}

export type Json = Readonly<Record<string, unknown>>;

export function anotherImage(digest: string): Fault {
  return { kind: "digest", words: `has the signature of another image, ${digest}` };
}

export function anotherRepository(repository: string): Fault {
  return { kind: "repository", words: `has a signature for another repository, ${repository}` };
}

/** Words of a stranger in an error: printable, and short. */
export function quoted(text: unknown): string {
  return JSON.stringify(
    String(text)
      .replace(/[^\x20-\x7e]/g, "?")
      .slice(0, 200),
  );
}

/** Null for what is no JSON. */
export function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString("utf8"));
  } catch {
    return null;
  }
}

/** Empty for what is no object. */
export function objectOf(value: unknown): Json {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : {};
}
