//! Empty network namespaces: nothing in them but a loopback device that is down.
use std::fmt;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;

use rustix::fs::{CWD, Mode, OFlags, openat};

#[derive(Debug)]
pub enum Error {
    Kernel(rustix::io::Errno),
    Thread,
    NotEmpty(String),
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Kernel(errno) => write!(formatter, "cannot make a network namespace: {errno}"),
            Error::Thread => write!(formatter, "cannot make a network namespace: no thread"),
            Error::NotEmpty(device) => write!(
                formatter,
                "a new network namespace is born with the device {device}; set net.core.fb_tunnels_only_for_init_net=2"
            ),
        }
    }
}

impl std::error::Error for Error {}

/// A namespace that lives as long as this, or a process in it.
pub struct EmptyNetwork {
    fd: OwnedFd,
}

impl EmptyNetwork {
    pub fn make() -> Result<EmptyNetwork, Error> {
        let fd = thread::Builder::new()
            .stack_size(64 * 1024)
            .spawn(in_new_namespace)
            .map_err(|_| Error::Thread)?
            .join()
            .map_err(|_| Error::Thread)??;
        Ok(EmptyNetwork { fd })
    }

    /// A path that root can open as long as this lives.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.fd.as_raw_fd())
    }
}

/// Runs in a thread that ends afterwards.
fn in_new_namespace() -> Result<OwnedFd, Error> {
    crate::sys::unshare_network().map_err(Error::Kernel)?;
    let devices = fs::read_to_string("/proc/thread-self/net/dev").map_err(|error| {
        Error::Kernel(rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO))
    })?;
    // Two lines of headings.
    for line in devices.lines().skip(2) {
        let name = line.split(':').next().unwrap_or("").trim();
        if name != "lo" {
            return Err(Error::NotEmpty(name.into()));
        }
    }
    openat(
        CWD,
        "/proc/thread-self/ns/net",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(Error::Kernel)
}
