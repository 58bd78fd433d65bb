//! Limits and numbers of the protocol; src/wire/launcher/limits.ts holds the same ones.

/// Version of messages.
pub const PROTOCOL_VERSION: u32 = 3;
/// Version of plan files.
pub const PLAN_VERSION: u32 = 2;
/// A frame's type byte and fields together.
pub const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Items of one list.
pub const LIST_ITEMS_MAX: usize = 262_144;
/// One argument or environment entry.
pub const ITEM_BYTES_MAX: usize = 131_071;
/// argv or environment as coded.
pub const LIST_BYTES_MAX: usize = 8 * 1024 * 1024;
/// A path without its final zero.
pub const PATH_BYTES_MAX: usize = 4095;
/// Text for people or for a log.
pub const TEXT_BYTES_MAX: usize = 4096;
/// Output files of one compile.
pub const OUTPUT_FILES_MAX: usize = 256;
/// JSON of a control request or its reply.
pub const JSON_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Compilers of one plan.
pub const PLAN_COMPILERS_MAX: usize = 1024;
/// Version of replay records and of what names them.
pub const REPLAY_VERSION: u32 = 1;
/// A replay record's file.
pub const REPLAY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Stamps, absent names or places of one replay record.
pub const REPLAY_NAMES_MAX: usize = 65_536;
