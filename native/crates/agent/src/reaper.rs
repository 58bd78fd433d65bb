//! The only place of a session process that waits for children: two waits would race for them.
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use rustix::process::WaitOptions;
use tokio::sync::oneshot;

use crate::sys;

/// Children that somebody waits for.
#[derive(Debug, Default)]
pub struct Reaper {
    waiting: Mutex<BTreeMap<i32, oneshot::Sender<()>>>,
}

impl Reaper {
    /// Gives word when the child has ended. To be called before the caller's next await, so that the end cannot come first.
    pub fn register(&self, pid: i32) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(pid, sender);
        receiver
    }

    /// Waits for children for ever. `signals` is of `sys::child_signal_fd`.
    pub async fn run(&self, signals: OwnedFd) -> io::Error {
        let signals = match sys::watch(signals) {
            Ok(signals) => signals,
            Err(error) => return error,
        };
        loop {
            self.reap_all();
            let mut guard = match signals.readable().await {
                Ok(guard) => guard,
                Err(error) => return error,
            };
            let mut pending = [0; 128];
            let _ = guard.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut pending)?));
        }
    }

    fn reap_all(&self) {
        while let Ok(Some((pid, _))) = rustix::process::wait(WaitOptions::NOHANG) {
            let waiting = self
                .waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&pid.as_raw_nonzero().get());
            if let Some(sender) = waiting {
                let _ = sender.send(());
            }
        }
    }
}
