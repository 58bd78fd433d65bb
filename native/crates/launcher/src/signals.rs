//! Signals of a compile call. While the launcher works they are blocked and read from a descriptor, so nothing is cut in
//! half; before any other program runs, mask and dispositions are the caller's again.

use crate::sys;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Signals that end a compile. A caller who ignores one (nohup) keeps it ignored.
const ENDING: [libc::c_int; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

pub struct Signals {
    descriptor: OwnedFd,
    old_mask: libc::sigset_t,
    old_pipe: libc::sigaction,
    old_child: libc::sigaction,
    old_file_size: libc::sigaction,
}

/// What the descriptor told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// A child changed its state.
    Child,
    /// The call is to end of this signal.
    End(i32),
}

fn disposition(signal: libc::c_int) -> io::Result<libc::sigaction> {
    // SAFETY: all zeroes is a valid `sigaction`.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: a null new action only asks.
    sys::check(unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) })?;
    Ok(action)
}

fn set_disposition(signal: libc::c_int, action: &libc::sigaction) {
    // SAFETY: `action` lives over the call. It fails only for signals that do not exist.
    unsafe { libc::sigaction(signal, action, std::ptr::null_mut()) };
}

fn set_simple_disposition(signal: libc::c_int, handler: libc::sighandler_t) {
    // SAFETY: all zeroes is a valid `sigaction`.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    set_disposition(signal, &action);
}

impl Signals {
    /// Blocks the ending signals and SIGCHLD, ignores SIGPIPE and SIGXFSZ: a file that may not grow is an error, after which what
    /// was begun is removed.
    pub fn take() -> io::Result<Signals> {
        let old_pipe = disposition(libc::SIGPIPE)?;
        let old_child = disposition(libc::SIGCHLD)?;
        let old_file_size = disposition(libc::SIGXFSZ)?;
        // SAFETY: all zeroes is a valid set, and `sigemptyset` makes it the empty one.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        let mut old_mask: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: the set lives over the calls.
        unsafe {
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, libc::SIGCHLD);
        }
        for signal in ENDING {
            if disposition(signal)?.sa_sigaction != libc::SIG_IGN {
                // SAFETY: the set lives over the call.
                unsafe { libc::sigaddset(&raw mut set, signal) };
            }
        }
        // SAFETY: the set lives over the call.
        let fd = sys::check(unsafe {
            libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        })?;
        // SAFETY: the kernel just gave us this descriptor.
        let descriptor = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: both sets live over the call.
        sys::check(unsafe {
            libc::sigprocmask(libc::SIG_BLOCK, &raw const set, &raw mut old_mask)
        })?;
        set_simple_disposition(libc::SIGPIPE, libc::SIG_IGN);
        set_simple_disposition(libc::SIGXFSZ, libc::SIG_IGN);
        // A caller who ignores SIGCHLD would make the kernel reap our children unseen.
        set_simple_disposition(libc::SIGCHLD, libc::SIG_DFL);
        Ok(Signals {
            descriptor,
            old_mask,
            old_pipe,
            old_child,
            old_file_size,
        })
    }

    pub fn raw_descriptor(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }

    /// The next notice, if there is one. An ending signal goes before children.
    pub fn next(&self) -> Option<Notice> {
        let mut child = false;
        let mut record = [0u8; size_of::<libc::signalfd_siginfo>()];
        while let Ok(count) = sys::read(self.descriptor.as_fd(), &mut record) {
            let Some(number) = record.first_chunk::<4>().filter(|_| count == record.len()) else {
                break;
            };
            match i32::from_ne_bytes(*number) {
                libc::SIGCHLD => child = true,
                signal => return Some(Notice::End(signal)),
            }
        }
        child.then_some(Notice::Child)
    }

    /// The ending signal that has come, if one has.
    pub fn pending_end(&self) -> Option<i32> {
        match self.next() {
            Some(Notice::End(signal)) => Some(signal),
            _ => None,
        }
    }

    /// Lets the ending signals act at once: from here on nothing of ours must be undone.
    pub fn unblock(&self) {
        // SAFETY: the set lives over the call.
        unsafe {
            libc::sigprocmask(
                libc::SIG_SETMASK,
                &raw const self.old_mask,
                std::ptr::null_mut(),
            )
        };
    }

    /// Gives the caller's mask and dispositions back.
    pub fn restore(&self) {
        set_disposition(libc::SIGPIPE, &self.old_pipe);
        set_disposition(libc::SIGCHLD, &self.old_child);
        set_disposition(libc::SIGXFSZ, &self.old_file_size);
        self.unblock();
    }

    /// Ends this process by the signal, so that whoever waits for it sees just that.
    pub fn die_of(&self, signal: i32) -> ! {
        self.restore();
        // SAFETY: no pointers.
        unsafe { libc::kill(libc::getpid(), signal) };
        sys::exit(128 + signal)
    }
}

/// For a daemon: every signal at its default, none blocked.
pub fn reset_all() {
    for signal in 1..=64 {
        set_simple_disposition(signal, libc::SIG_DFL);
    }
    // SAFETY: all zeroes is a valid set, and `sigemptyset` makes it the empty one.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}
