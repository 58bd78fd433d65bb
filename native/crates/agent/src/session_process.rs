//! The process that owns a session's connection and carries its executions. It is a fork of PID 1, so a fault in it, its
//! transport or its contract ends it alone.
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use crate::boot::Clockwork;
use crate::fatal::{self, Role};
use crate::proto::ScrubReport;
use crate::sandbox::{Host, layout};
use crate::session::Agent;
use crate::{server, sys};

/// What PID 1 hands down.
pub struct Inheritance {
    pub connection: OwnedFd,
    pub host: Host,
    pub clockwork: Clockwork,
    /// What the last clearing found; None before the first.
    pub last_scrub: Option<ScrubReport>,
}

/// Where the connection is placed, after stdin, stdout and stderr.
const CONNECTION_FD: RawFd = 3;
/// The last process that the kernel kills for want of memory. Were it never killed, a guest in which it alone is left would
/// have to panic.
const OOM_SCORE: &str = "-999";

/// Serves the connection to its end. Whatever the process still has then is PID 1's to clear away.
pub fn run(inheritance: Inheritance) -> ! {
    fatal::set_role(Role::Session);
    let placed = [0, 1, 2, inheritance.connection.as_raw_fd()];
    if let Err(error) = sys::keep_only_fds(&placed, CONNECTION_FD as usize) {
        fatal::die(format_args!("placing descriptors: {error}"));
    }
    // The number is another file's now, or nobody's.
    std::mem::forget(inheritance.connection);
    let connection = sys::take_placed_fd(CONNECTION_FD);
    let _ = fs::write(format!("{}/self/oom_score_adj", layout::PROC), OOM_SCORE);

    let agent = Agent::new(
        inheritance.host,
        inheritance.clockwork,
        inheritance.last_scrub,
    );
    let signals = sys::child_signal_fd().unwrap_or_else(|error| fatal::die(error));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.unwrap_or_else(|error| fatal::die(error));
    let host = Arc::clone(&agent.host);
    runtime.block_on(async {
        tokio::select! {
            error = host.reaper.run(signals) => fatal::die(format_args!("waiting for children: {error}")),
            served = server::serve(agent, connection) => {
                if let Err(error) = served {
                    fatal::die(format_args!("serving: {error}"));
                }
            }
        }
    });
    sys::exit(0)
}
