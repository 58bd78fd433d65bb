//! What a program writes to stdout and stderr, kept in the agent's memory up to a cap.
// UNTRUSTED: the tenant's program.
use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use crate::limits::STDIO_BYTES_TOTAL_MAX;

const READ_BYTES: usize = 64 * 1024;

/// Bytes that all captures hold together.
#[derive(Debug, Default, Clone)]
pub struct Budget(Arc<AtomicU64>);

impl Budget {
    fn take(&self, bytes: u64) -> bool {
        self.0.fetch_add(bytes, Ordering::Relaxed) + bytes <= STDIO_BYTES_TOTAL_MAX
    }

    fn give_back(&self, bytes: u64) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// One of the two streams.
#[derive(Debug)]
pub struct Capture {
    source: Option<AsyncFd<OwnedFd>>,
    bytes: Vec<u8>,
    cap: u64,
    budget: Budget,
    taken: u64,
}

/// How a read went.
#[derive(Debug, PartialEq, Eq)]
pub enum Filled {
    /// There may be more.
    More,
    /// No writer is left.
    Ended,
    /// The cap is passed.
    Full,
}

impl Capture {
    pub fn new(source: AsyncFd<OwnedFd>, cap: u64, budget: Budget) -> Capture {
        Capture {
            source: Some(source),
            bytes: Vec::new(),
            cap,
            budget,
            taken: 0,
        }
    }

    /// Waits for bytes and takes some. Never returns once the stream has ended. Safe to drop at any point.
    pub async fn fill(&mut self) -> io::Result<Filled> {
        let Some(source) = &self.source else {
            return pending().await;
        };
        let mut buffer = [0; READ_BYTES];
        let count = loop {
            let mut guard = source.readable().await?;
            match guard.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut buffer)?)) {
                // A terminal whose last user has gone says EIO.
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                    break 0;
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => break result?,
                Err(_would_block) => {}
            }
        };
        if count == 0 {
            self.source = None;
            return Ok(Filled::Ended);
        }
        self.taken += count as u64;
        if !self.budget.take(count as u64) || self.taken > self.cap {
            self.source = None;
            return Ok(Filled::Full);
        }
        self.bytes.extend_from_slice(&buffer[..count]);
        Ok(Filled::More)
    }

    /// Takes all that is left, once every writer is gone.
    pub async fn drain(&mut self) -> io::Result<Filled> {
        while self.source.is_some() {
            if self.fill().await? == Filled::Full {
                return Ok(Filled::Full);
            }
        }
        Ok(Filled::Ended)
    }

    /// What has been taken; it stays counted in the budget until the capture is dropped.
    pub fn take_bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.budget.give_back(self.taken);
    }
}
