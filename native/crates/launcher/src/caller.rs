//! The compile call as it came: what is sent to the daemon, and what the real compiler gets when anything fails.

use crate::environment::Environment;
use crate::fault::{Fault, display};
use crate::invocation::FileId;
use crate::signals::Signals;
use crate::sys;
use hpcc_frames::{Call, Errand};
use std::os::fd::BorrowedFd;

pub struct Caller {
    pub argv: Vec<Vec<u8>>,
    pub environment: Environment,
    pub own: Option<FileId>,
    pub signals: Signals,
    pub errand: Errand,
}

impl Caller {
    /// The compiler as the caller named it.
    pub fn name(&self) -> &[u8] {
        self.argv.first().map_or(b"cc", Vec::as_slice)
    }

    /// Which of the standard descriptors are terminals, and the width of standard error's.
    pub fn terminal(&self) -> (u8, Option<u32>) {
        let terminal = (0..3).map(|fd| u8::from(sys::is_terminal(fd)) << fd).sum();
        let is_shown = terminal & 4 != 0;
        (
            terminal,
            is_shown.then(|| sys::terminal_columns(2)).flatten(),
        )
    }

    /// The CALL message.
    pub fn message(&self) -> Result<Call, Fault> {
        let namespace = sys::stat(b"/proc/self/ns/mnt")
            .map_err(|error| Fault::io("no-proc", b"/proc/self/ns/mnt", &error))?;
        let cwd = sys::current_folder().map_err(|error| Fault::io("no-cwd", b"getcwd", &error))?;
        if cwd.first() != Some(&b'/') {
            return Err(Fault::new(
                "no-cwd",
                "the current folder cannot be reached from the root",
            ));
        }
        let host = match self.errand {
            Errand::Compile => {
                crate::invocation::find_host_compiler(self.name(), &self.environment, self.own).ok()
            }
            Errand::Command | Errand::Inside => None,
        };
        let (terminal, columns) = self.terminal();
        Ok(Call {
            launcher_version: env!("CARGO_PKG_VERSION").to_owned(),
            mount_namespace_dev: namespace.dev,
            mount_namespace_ino: namespace.ino,
            argv: self.argv.clone(),
            cwd,
            environment: self.environment.entries.clone(),
            umask: sys::current_umask(),
            terminal,
            columns,
            pid: sys::process_id(),
            host_compiler: host.map(|compiler| compiler.path),
            errand: self.errand,
        })
    }
}

/// One line on stderr.
pub fn warn(text: &str) {
    let line = format!("hpcc: {}\n", display(text.as_bytes()));
    // SAFETY: descriptor 2 stays open as long as the process: it is held from the start.
    let _ = sys::write_all(unsafe { BorrowedFd::borrow_raw(2) }, line.as_bytes());
}
