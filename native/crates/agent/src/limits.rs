//! Every bound of the agent. The worker's own limits are lower; these keep a faulty worker from felling the guest.
use std::time::Duration;

/// Version of the contract in proto/hpcc/agent/v1/agent.proto.
pub const PROTOCOL_VERSION: u32 = 4;
/// Largest chunk of an input or output.
pub const CHUNK_BYTES_MAX: usize = 128 * 1024;
/// Output that is sent for an execution before the worker grants more.
pub const INITIAL_CREDIT_BYTES: u32 = 1024 * 1024;
/// Credit that an execution may hold.
pub const CREDIT_BYTES_MAX: u64 = 1 << 40;
/// Largest message that is decoded: an Execute with a long command line and many names.
pub const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Executions at once, those included whose outputs are still being sent.
pub const EXECUTIONS_MAX: usize = 64;
/// Arguments and environment together, each string counted with its NUL; below the kernel's limit for an 8 MiB stack.
pub const EXEC_STRINGS_BYTES_MAX: usize = 2 * 1024 * 1024 - 4096;
/// One argument or environment entry; the kernel's MAX_ARG_STRLEN.
pub const EXEC_STRING_BYTES_MAX: usize = 128 * 1024 - 1;
/// Input files, links and folders of an execution together.
pub const INPUTS_MAX: usize = 16_384;
/// Uncompressed inputs of an execution.
pub const INPUT_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Output files of an execution.
pub const OUTPUTS_MAX: usize = 256;
/// Longest path and longest target of a link; the kernel's PATH_MAX with its NUL.
pub const PATH_BYTES_MAX: usize = 4095;
/// Longest name in a path.
pub const NAME_BYTES_MAX: usize = 255;
/// Limits that a worker may set.
pub const MEMORY_BYTES_MAX: u64 = 1 << 40;
/// Least memory of an execution: less does not hold the sandbox itself.
pub const MEMORY_BYTES_MIN: u64 = 4 * 1024 * 1024;
/// Processes of an execution.
pub const PIDS_MAX: u32 = 32_768;
/// stdout or stderr of an execution.
pub const STDIO_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// stdout and stderr of all executions, held in the agent's memory.
pub const STDIO_BYTES_TOTAL_MAX: u64 = 256 * 1024 * 1024;
/// Wall-clock limit of an execution.
pub const WALL_MS_MAX: u32 = 24 * 60 * 60 * 1000;
/// Width of a terminal.
pub const TERMINAL_COLUMNS_MAX: u32 = 10_000;
/// Inodes of a sandbox's file system beside its inputs, links and folders.
pub const SANDBOX_INODES: u64 = 16_384;
/// Open files of a process.
pub const OPEN_FILES_MAX: u64 = 1024;
/// Connections that wait to be accepted; all but the one that carries the session are closed at once.
pub const BACKLOG: i32 = 8;
/// gRPC streams of a connection.
pub const STREAMS_MAX: u32 = 4;
/// HTTP/2 header list.
pub const HEADER_BYTES_MAX: u32 = 16 * 1024;
/// HTTP/2 receive window of a stream and of a connection.
pub const WINDOW_BYTES: u32 = 1024 * 1024;
/// Messages of an execution's input that wait for its sandbox.
pub const INPUT_QUEUE_MESSAGES: usize = 8;
/// Messages that wait for the worker to read.
pub const OUTPUT_QUEUE_MESSAGES: usize = 2;
/// A worker that answers no ping for this long is gone.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Wait for the answer to a ping.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// From a connection to its stream, and from the opening of a stream to its start message.
pub const START_DEADLINE: Duration = Duration::from_secs(10);
/// From the last input byte to the start of the program.
pub const SETUP_DEADLINE: Duration = Duration::from_secs(60);
/// From the kill of an execution to the end of its last process. A guest that misses it is beyond repair.
pub const KILL_DEADLINE: Duration = Duration::from_secs(20);
/// From the end of a session to the end of its connection, for its last words.
pub const FAREWELL_DEADLINE: Duration = Duration::from_secs(1);
/// From the end of a session process to the end of the last process of the guest, and again to the end of what they held.
/// What is left then is reported.
pub const CLEARING_DEADLINE: Duration = Duration::from_secs(8);
/// From the end of all processes to the end of their output.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(10);
/// Wait for the toolchain's block device at boot.
pub const DEVICE_DEADLINE: Duration = Duration::from_secs(10);
