// Limits and numbers of the launcher protocol, as docs/specs/launcher-protocol.md states them. The Rust crate
// `hpcc-frames` holds the same ones.

/** Version of messages; a peer with another one is refused. */
export const PROTOCOL_VERSION = 3;
/** Version of plan files; the launcher takes one of another version for none. */
export const PLAN_VERSION = 2;

/** A frame's type byte and fields together. */
export const FRAME_BYTES_MAX = 64 * 1024 * 1024;
/** Items of one list: argv, environment, files. */
export const LIST_ITEMS_MAX = 262_144;
/** One argument or environment entry; Linux allows 128 KiB with the final zero. */
export const ITEM_BYTES_MAX = 131_071;
/** argv or environment as coded, lengths included; execve's own bound is 6 MiB for both. */
export const LIST_BYTES_MAX = 8 * 1024 * 1024;
/** A path without its final zero. */
export const PATH_BYTES_MAX = 4095;
/** Text for people or for a log: versions, reasons, warnings. */
export const TEXT_BYTES_MAX = 4096;
/** Output files of one compile. */
export const OUTPUT_FILES_MAX = 256;
/** JSON of a control request or its reply. */
export const JSON_BYTES_MAX = 16 * 1024 * 1024;
/** Compilers of one plan. */
export const PLAN_COMPILERS_MAX = 1024;
/** Version of replay records and of what names them. */
export const REPLAY_VERSION = 1;
/** A replay record's file. */
export const REPLAY_BYTES_MAX = 8 * 1024 * 1024;
/** Stamps, absent names or places of one replay record. */
export const REPLAY_NAMES_MAX = 65_536;

/** How often the daemon says WAIT while a call has no answer. */
export const WAIT_INTERVAL_MS = 1_000;
