//! What a request is refused with: a code of a closed list and a sentence.
use std::fmt;

/// Codes of `docs/specs/keeper.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The request names something that cannot be.
    Argument,
    /// A file is not in the store; admit it.
    FileMissing,
    /// A file's bytes are not those of its digest.
    DigestMismatch,
    /// A file is over the size that its request allows.
    TooLarge,
    /// No such machine, or it cannot do this now.
    NotFound,
    /// A machine of this name lives.
    Exists,
    /// Every uid of the range is taken.
    NoUid,
    /// A snapshot is not what it was when it was taken; it has been dropped.
    SnapshotBad,
    /// Something in a jail is not what a VMM puts there.
    JailHostile,
    /// The VMM ended first.
    VmGone,
    /// The jailer or the VMM did not come up.
    StartFailed,
    /// Snapshots take all that they may.
    Quota,
    /// The disk is full.
    NoSpace,
    /// The kernel refused something that the keeper needs.
    Io,
}

impl Code {
    pub fn text(self) -> &'static str {
        match self {
            Code::Argument => "argument",
            Code::FileMissing => "file-missing",
            Code::DigestMismatch => "digest-mismatch",
            Code::TooLarge => "too-large",
            Code::NotFound => "not-found",
            Code::Exists => "exists",
            Code::NoUid => "no-uid",
            Code::SnapshotBad => "snapshot-bad",
            Code::JailHostile => "jail-hostile",
            Code::VmGone => "vm-gone",
            Code::StartFailed => "start-failed",
            Code::Quota => "quota",
            Code::NoSpace => "no-space",
            Code::Io => "io",
        }
    }
}

#[derive(Debug)]
pub struct Fault {
    pub code: Code,
    pub message: String,
}

impl Fault {
    pub fn new(code: Code, message: impl Into<String>) -> Fault {
        Fault {
            code,
            message: message.into(),
        }
    }

    /// The same, and that something else has failed, too.
    pub fn and(self, other: &Fault) -> Fault {
        Fault::new(self.code, format!("{}; {}", self.message, other.message))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code.text(), self.message)
    }
}

impl std::error::Error for Fault {}

/// A system call that failed, and on what.
#[derive(Debug)]
pub struct IoFault {
    pub what: String,
    pub errno: rustix::io::Errno,
}

impl fmt::Display for IoFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cannot {}: {}", self.what, self.errno)
    }
}

impl std::error::Error for IoFault {}

impl From<IoFault> for Fault {
    fn from(fault: IoFault) -> Fault {
        let full =
            fault.errno == rustix::io::Errno::NOSPC || fault.errno == rustix::io::Errno::DQUOT;
        Fault::new(
            if full { Code::NoSpace } else { Code::Io },
            fault.to_string(),
        )
    }
}

/// Says of a failed call what it was to do.
pub trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, IoFault>;
}

impl<T> Doing<T> for Result<T, rustix::io::Errno> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, IoFault> {
        self.map_err(|errno| IoFault {
            what: what(),
            errno,
        })
    }
}

impl<T> Doing<T> for std::io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, IoFault> {
        self.map_err(|error| IoFault {
            what: what(),
            errno: error
                .raw_os_error()
                .map_or(rustix::io::Errno::IO, rustix::io::Errno::from_raw_os_error),
        })
    }
}
