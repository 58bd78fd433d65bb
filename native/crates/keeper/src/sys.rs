//! System calls for which rustix has no safe function. All unsafe code of the keeper is here.
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use crate::user::User;

const WAIT_POLL: Duration = Duration::from_millis(2);

/// Which side of a fork this is.
pub enum Forked {
    Child,
    Parent(rustix::process::Pid),
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Forks. Only while the process has one thread.
pub fn fork() -> io::Result<Forked> {
    // SAFETY: the process has one thread, so no lock is held by a thread that the child lacks.
    let pid = check(unsafe { libc::fork() })?;
    Ok(match rustix::process::Pid::from_raw(pid) {
        None => Forked::Child,
        Some(pid) => Forked::Parent(pid),
    })
}

/// Waits for the end of a child that has been killed; none when it has not come by the deadline: a process may be stuck in the
/// kernel for ever.
pub fn wait_until(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < deadline => std::thread::sleep(WAIT_POLL),
            Ok(status) => return status,
            Err(_) => return None,
        }
    }
}

/// Closes every descriptor but the standard three; only before anything has been opened.
pub fn close_inherited() {
    // SAFETY: nothing of this process owns a descriptor above 2 yet.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
}

/// Blocks the signals and gives a descriptor on which they arrive. Threads made later block them, too.
pub fn signals(numbers: &[libc::c_int]) -> io::Result<OwnedFd> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set before the others read it; the descriptor is new and owned by nobody else.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for number in numbers {
            libc::sigaddset(set.as_mut_ptr(), *number);
        }
        let failed = libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
        if failed != 0 {
            return Err(io::Error::from_raw_os_error(failed));
        }
        let fd = check(libc::signalfd(
            -1,
            set.as_ptr(),
            libc::SFD_CLOEXEC | libc::SFD_NONBLOCK,
        ))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// The next signal that waits on a descriptor of `signals`.
pub fn next_signal(fd: BorrowedFd<'_>) -> Option<i32> {
    let mut bytes = [0u8; size_of::<libc::signalfd_siginfo>()];
    let read = rustix::io::read(fd, &mut bytes).ok()?;
    // The number is the first field.
    let number = bytes.get(..4)?.try_into().ok()?;
    (read == bytes.len()).then(|| i32::from_ne_bytes(number))
}

/// Gives this thread, and no other, a user's rights over files. There is no way back: the thread must end. Its user for
/// signals stays root, so that the user cannot signal it.
pub fn take_file_rights(user: &User) -> io::Result<()> {
    let groups: Vec<rustix::process::Gid> = user
        .groups
        .iter()
        .map(|gid| rustix::process::Gid::from_raw(*gid))
        .collect();
    rustix::thread::set_thread_groups(&groups)?;
    // SAFETY: these calls change the credentials of this thread and take no pointers. They tell success by a second call only.
    let done = unsafe {
        libc::setfsgid(user.gid);
        libc::setfsuid(user.uid);
        libc::setfsgid(libc::gid_t::MAX) as u32 == user.gid
            && libc::setfsuid(libc::uid_t::MAX) as u32 == user.uid
    };
    if !done {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    // The file user took only the capabilities over files; /proc looks at others when a file of it is opened.
    let none = rustix::thread::CapabilitySet::empty();
    rustix::thread::set_capabilities(
        None,
        rustix::thread::CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        },
    )?;
    Ok(())
}

/// Puts this thread, and no other, into a network namespace of its own.
pub fn unshare_network() -> rustix::io::Result<()> {
    // SAFETY: a network namespace is no part of what threads of a process must share.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }
}

/// Runs `hook` in the child of a command, between fork and exec, with no signal blocked.
pub fn before_exec<F>(command: &mut Command, mut hook: F)
where
    F: FnMut() -> io::Result<()> + Send + Sync + 'static,
{
    let hook = move || {
        let mut none = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises the set before the other reads it.
        unsafe {
            libc::sigemptyset(none.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
        }
        hook()
    };
    // SAFETY: the hooks of this crate make system calls only: they neither allocate nor take locks.
    unsafe { command.pre_exec(hook) };
}

/// Gives up root for ever, in the child of a fork. Makes system calls only.
pub fn become_user(uid: u32, gid: u32, groups: &[libc::gid_t]) -> io::Result<()> {
    // SAFETY: the pointer and length are of one slice. The child has one thread, so libc's broadcast to others does nothing.
    unsafe {
        check(libc::setgroups(groups.len(), groups.as_ptr()))?;
        check(libc::setresgid(gid, gid, gid))?;
        check(libc::setresuid(uid, uid, uid))?;
    }
    rustix::thread::set_no_new_privs(true)?;
    Ok(())
}

/// Puts this process into a new, empty session keyring, so that it no longer possesses the keys of the session that started it.
/// In the child of a fork, as the user whose keyring it is to be. A kernel or sandbox without keyrings has none to leave.
pub fn leave_session_keyring() -> io::Result<()> {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    let no_name = std::ptr::null::<libc::c_char>();
    // SAFETY: this operation takes a name or, for a keyring without one, a null pointer.
    let joined = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, no_name) };
    match io::Error::last_os_error() {
        _ if joined >= 0 => Ok(()),
        error if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => Ok(()),
        error => Err(error),
    }
}

/// Makes a descriptor number 3 and lets it pass exec, in the child of a fork.
pub fn pass_as_three(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: in the child of a fork nothing owns descriptor 3 but what is about to be replaced.
    unsafe {
        if fd.as_raw_fd() == 3 {
            check(libc::fcntl(3, libc::F_SETFD, 0))?;
        } else {
            check(libc::dup2(fd.as_raw_fd(), 3))?;
        }
    }
    Ok(())
}
