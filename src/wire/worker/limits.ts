// Limits of the worker's contract that both ends keep (docs/specs/worker-protocol.md).

export const PROTOCOL_VERSION = 2;
/** Largest payload of one chunk. */
export const CHUNK_BYTES_MAX = 128 * 1024;
/** Chunk payload that a side may send on a job before it gets credit. */
export const INITIAL_CREDIT_BYTES = 512 * 1024;
/** Largest credit that a peer may announce or hand out at once. */
export const CREDIT_BYTES_MAX = 64 * 1024 * 1024;
/** Chunk payload that waits in the connection; what comes after it waits in the sender, where others can pass. */
export const QUEUED_BYTES_MAX = 256 * 1024;
/** Longest wait for the other side's hello. */
export const HELLO_TIMEOUT_MS = 10_000;
/** Longest silence while a blob is on its way. */
export const BLOB_IDLE_TIMEOUT_MS = 30_000;
/** A worker gives a sign of life for a running job at least this often. */
export const PROGRESS_INTERVAL_MS = 5_000;
/** A client leaves a job of which it has heard nothing for this time. */
export const JOB_SILENCE_MS_MAX = 20_000;
/** Longest deadline of a job. */
export const DEADLINE_MS_MAX = 3_600_000;
/** Largest code of an error, text of an error, and audit row that a client takes. */
export const ERROR_MESSAGE_LENGTH_MAX = 1024;
export const AUDIT_ROW_LENGTH_MAX = 64 * 1024;
export const RECEIPT_LENGTH_MAX = 64 * 1024;
