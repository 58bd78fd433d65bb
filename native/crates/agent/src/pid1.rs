//! The first process of a guest: lets one connection in at a time, forks a session process that owns it, and when that has
//! ended, however it ended, clears away all that it left. It has one thread, allocates little, and never holds a
//! byte of a connection.
use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{WaitOptions, WaitStatus};

use crate::boot::Clockwork;
use crate::clearing::{self, Ground};
use crate::fatal;
use crate::listener::Listener;
use crate::proto::ScrubReport;
use crate::sandbox::Host;
use crate::session_process::{self, Inheritance};
use crate::sys::{self, Forked};

/// Pause after a failed accept or fork: the cause, want of memory or descriptors, is not gone at once.
const PAUSE: Duration = Duration::from_millis(50);

/// What a session process has for itself, so that it dies with it.
const SESSION_NAMESPACES: u64 =
    (libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS) as u64;

/// Serves connections, one after the other, for ever.
pub fn run(listener: Listener, host: Host, clockwork: Clockwork, ground: Ground) -> ! {
    if std::process::id() != 1 {
        fatal::die("this is not the first process of a pid namespace");
    }
    let signals = sys::child_signal_fd().unwrap_or_else(|error| fatal::die(error));
    let gate = Gate { listener, signals };
    let mut last_scrub: Option<ScrubReport> = None;
    fatal::say("listening");
    loop {
        let Some(connection) = gate.accept() else {
            gate.wait(None);
            reap();
            continue;
        };
        match sys::fork(SESSION_NAMESPACES, None) {
            Ok(Forked::Child) => session_process::run(Inheritance {
                connection,
                host,
                clockwork,
                last_scrub,
            }),
            Ok(Forked::Parent(pid)) => {
                drop(connection);
                gate.wait_for(pid);
                let sequence = last_scrub.map_or(0, |report| report.sequence) + 1;
                last_scrub = Some(clearing::clear(&ground, &host.groups, &gate, sequence));
            }
            Err(error) => {
                drop(connection);
                fatal::say(format_args!("forking a session process: {error}"));
                sleep(PAUSE);
            }
        }
    }
}

/// Where connections come in and ends of children become known.
pub struct Gate {
    listener: Listener,
    signals: OwnedFd,
}

impl Gate {
    fn accept(&self) -> Option<OwnedFd> {
        self.listener.accept().unwrap_or_else(|error| {
            fatal::say(format_args!("accepting: {error}"));
            sleep(PAUSE);
            None
        })
    }

    /// Waits until something has come in or a child has ended, or for `at_most`.
    fn wait(&self, at_most: Option<Duration>) {
        let mut both = [
            PollFd::new(&self.listener, PollFlags::IN),
            PollFd::new(&self.signals, PollFlags::IN),
        ];
        let timeout = at_most.map(|time| Timespec {
            tv_sec: time.as_secs() as i64,
            tv_nsec: time.subsec_nanos().into(),
        });
        let _ = poll(&mut both, timeout.as_ref());
        let mut pending = [0; 128];
        let _ = rustix::io::read(&self.signals, &mut pending);
    }

    /// Waits likewise, and closes every connection that has come in.
    pub fn wait_refusing(&self, at_most: Option<Duration>) {
        self.wait(at_most);
        while self.accept().is_some() {}
    }

    fn wait_for(&self, pid: i32) {
        loop {
            match reap_until(pid) {
                Reaped::Wanted(status) => return tell_abnormal(status),
                Reaped::Nobody => return,
                Reaped::Others => self.wait_refusing(None),
            }
        }
    }
}

enum Reaped {
    /// The child that was asked for.
    Wanted(WaitStatus),
    /// There are children, none of which has ended.
    Others,
    /// There is no child.
    Nobody,
}

/// Reaps children until the one that is asked for is among them.
fn reap_until(wanted: i32) -> Reaped {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == wanted => {
                return Reaped::Wanted(status);
            }
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) => return Reaped::Others,
            Err(_) => return Reaped::Nobody,
        }
    }
}

/// Reaps every child that has ended; true when none is left. PID 1 inherits all orphans, so then no process is left.
pub fn reap() -> bool {
    matches!(reap_until(0), Reaped::Nobody)
}

fn tell_abnormal(status: WaitStatus) {
    if status.exit_status() != Some(0) {
        let how = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => format!("code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "an unknown status".to_owned(),
        };
        fatal::say(format_args!("the session process ended with {how}"));
    }
}
