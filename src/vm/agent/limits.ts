// What a guest may do to its host: sizes, counts and silences. A guest that goes beyond is destroyed.

/** Where the agent listens. */
export const AGENT_PORT = 1024;
/** What the agent writes to the console when it listens. */
export const AGENT_LISTENS = "hpcc-agent: listening";
/** Version of proto/hpcc/agent/v1. */
export const PROTOCOL_VERSION = 4;
export const CHUNK_BYTES_MAX = 128 * 1024;
/** One message: a chunk and its envelope, or an Exited with the states of its outputs. */
export const MESSAGE_BYTES_MAX = CHUNK_BYTES_MAX + 16 * 1024;
/** One Execute message: its arguments, environment, names and links. */
export const EXECUTE_BYTES_MAX = 6 * 1024 * 1024;
/** What a guest may send of an execution before it is given credit. */
export const CREDIT_BYTES_MAX = 16 * 1024 * 1024;
/** A stream of N bytes may come in so many chunks at most: CHUNKS_FREE + N / CHUNK_BYTES_MEAN_MIN. */
export const CHUNKS_FREE = 16;
export const CHUNK_BYTES_MEAN_MIN = 1024;
/** Longest version text or kernel release, and message of an error. */
export const TEXT_LENGTH_MAX = 256;
/** How far off a guest's clock may be once its session is open, where a message and its answer take less than twice that. */
export const CLOCK_OFF_MS_MAX = 5;
/** Readings of a clock until one came back in time; the quickest counts. */
export const CLOCK_READINGS_MAX = 16;
export const OUTPUTS_MAX = 256;
/** Input files, links and folders together. */
export const INPUTS_MAX = 16_384;

/** Silences, by argument: emulation on a busy machine is slow, tests are fast. */
export interface AgentDeadlines {
  /** The guest takes no more input. */
  readonly inputStallMs: number;
  /** Beyond an execution's own wall-clock limit, no answer. */
  readonly exitGraceMs: number;
  /** An execution has exited and its outputs do not come. */
  readonly outputStallMs: number;
  /** A cancel is not acknowledged. */
  readonly cancelMs: number;
  /** From the order to scrub to the answer on a new stream. */
  readonly scrubMs: number;
}

export const DEFAULT_AGENT_DEADLINES: AgentDeadlines = {
  inputStallMs: 20_000,
  exitGraceMs: 20_000,
  outputStallMs: 20_000,
  cancelMs: 2_000,
  scrubMs: 60_000,
};
