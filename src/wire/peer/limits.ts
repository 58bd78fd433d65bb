// Limits of what workers say to each other (docs/specs/peer-protocol.md).

/** Largest result manifest. */
export const RESULT_MANIFEST_BYTES_MAX = 1024 * 1024;
/** Workers that one answer may name as holders. */
export const HOLDERS_MAX = 4;
/** Statements in one announcement. */
export const STATEMENTS_MAX = 64;
/** Revocations in one message. */
export const REVOCATIONS_PER_MESSAGE_MAX = 256;
