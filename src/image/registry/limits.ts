// Limits and waits of talking to a registry. UNTRUSTED: registry. Tests shrink the waits.

/** Bytes of an image's layers together, as they are stored. */
export const PULL_BYTES_MAX = 16 * 1024 ** 3;
/** Largest answer that is neither a manifest nor a blob: tokens, errors. */
export const ANSWER_BYTES_MAX = 1024 * 1024;
export const REDIRECTS_MAX = 5;

export interface Timing {
  /** A transfer that moves fewer than `stallBytesMin` bytes in so long is given up, and so is an answer that does not begin. */
  readonly stallMs: number;
  readonly stallBytesMin: number;
  /** For a manifest, token or other small answer, from request to end. */
  readonly documentMs: number;
  /** Wait before the second attempt; it doubles. */
  readonly retryMs: number;
  /** Attempts without progress. */
  readonly attemptsMax: number;
}

export const TIMING: Timing = {
  stallMs: 60_000,
  stallBytesMin: 16 * 1024,
  documentMs: 60_000,
  retryMs: 500,
  attemptsMax: 4,
};
