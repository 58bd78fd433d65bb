//! System calls for which rustix has no safe function. All unsafe code of the agent is in this folder.
pub mod objects;
pub mod vsock;

use std::ffi::{CStr, CString};
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use tokio::io::unix::AsyncFd;

/// Which side of a fork this is.
pub enum Forked {
    Child,
    Parent(i32),
}

/// libc's constant is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Forks, with the namespaces of `flags`, into `cgroup` if there is one. The child gets a copy of everything and must
/// leave by `exit` or exec.
pub fn fork(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    let mut args = libc::clone_args {
        flags,
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM this is a fork; the process has one thread, so no lock is held by a thread that the child lacks.
    let pid = check(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut args,
            size_of::<libc::clone_args>(),
        )
    })?;
    Ok(if pid == 0 {
        Forked::Child
    } else {
        Forked::Parent(pid as i32)
    })
}

/// Gives this process an IPC namespace of its own.
#[cfg(feature = "test-harness")]
pub fn own_ipc_namespace() -> io::Result<()> {
    // SAFETY: numbers only; no descriptor table is split.
    check(unsafe { libc::unshare(libc::CLONE_NEWIPC) }.into()).map(drop)
}

/// Ends this process without running anything of its parent's copy.
pub fn exit(code: i32) -> ! {
    // SAFETY: _exit takes no pointers and does not return.
    unsafe { libc::_exit(code) }
}

/// Kills every process but this one, which must be the first of its pid namespace: outside one it would be the machine's.
/// No fork can slip through, however many there are.
pub fn kill_all_others() {
    assert_eq!(std::process::id(), 1, "only PID 1 may kill all processes");
    // SAFETY: numbers only. Fails when there is no other process.
    unsafe { libc::kill(-1, libc::SIGKILL) };
}

/// Makes `fds[i]` descriptor `i`, for all i, and closes every other one; those from `cloexec_from` on close at exec.
pub fn keep_only_fds(fds: &[RawFd], cloexec_from: usize) -> io::Result<()> {
    let mut high = Vec::with_capacity(fds.len());
    for &fd in fds {
        // SAFETY: descriptor numbers only.
        high.push(check(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 64) }.into())? as RawFd);
    }
    for (at, &fd) in high.iter().enumerate() {
        let flags = if at >= cloexec_from {
            libc::O_CLOEXEC
        } else {
            0
        };
        // SAFETY: descriptor numbers only; the child owns its whole table and uses no owned descriptor of its parent afterwards.
        check(unsafe { libc::dup3(fd, at as RawFd, flags) }.into())?;
    }
    // SAFETY: as above.
    check(unsafe { libc::syscall(libc::SYS_close_range, fds.len(), u32::MAX, 0) })?;
    Ok(())
}

/// Borrows a descriptor that `keep_only_fds` has placed.
pub fn placed_fd(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: used only after keep_only_fds, for numbers that it has placed and that nothing closes.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Takes a descriptor that `keep_only_fds` has placed, to close it.
pub fn take_placed_fd(fd: RawFd) -> OwnedFd {
    // SAFETY: used only after keep_only_fds, once for a number that it has placed.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Blocks SIGCHLD and gives a descriptor that is readable when one is pending.
pub fn child_signal_fd() -> io::Result<OwnedFd> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set; the other calls read it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD);
        check(libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut()).into())?;
        let fd =
            check(libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK).into())?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// Registers a descriptor with the runtime.
pub fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd always gives the same open descriptor.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

/// Gives every signal its default action and unblocks all, as a program expects at its start.
pub fn reset_signals() {
    // The C library's own call refuses the two signals that it uses itself.
    let default_action = [0u64; 4];
    for signal in 1..=64 {
        // SAFETY: all zeros is the kernel's struct sigaction for the default action with an empty mask of eight bytes.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default_action.as_ptr(),
                0,
                8,
            )
        };
    }
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set before it is read.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), ptr::null_mut());
    }
}

/// Sets the ids with which files are made. Neither call reports failure; the second query does.
pub fn set_file_ids(id: u32) -> io::Result<()> {
    // SAFETY: numbers only. With -1 both calls change nothing and return the current value.
    let set = unsafe {
        libc::setfsgid(id);
        libc::setfsuid(id);
        (
            libc::setfsgid(u32::MAX) as u32,
            libc::setfsuid(u32::MAX) as u32,
        )
    };
    if set == (id, id) {
        Ok(())
    } else {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

/// Empties the capability bounding set.
pub fn drop_bounding_set() -> io::Result<()> {
    for capability in 0..64 {
        // SAFETY: numbers only.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        match check(result.into()) {
            Ok(_) => {}
            // One past the last capability that this kernel knows.
            Err(error) if capability > 0 && error.raw_os_error() == Some(libc::EINVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Applies a seccomp filter to this thread; no_new_privs must be set.
pub fn set_seccomp_filter(filter: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies the program, which lives through the call, and writes nothing.
    check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        )
    })?;
    Ok(())
}

/// Replaces this process by a program; returns only on failure.
pub fn exec(program: &CStr, argv: &[CString], environment: &[CString]) -> io::Error {
    fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
        strings
            .iter()
            .map(|string| string.as_ptr())
            .chain([ptr::null()])
            .collect()
    }
    let (argv, environment) = (pointers(argv), pointers(environment));
    // SAFETY: both arrays end in null and outlive the call, as do their strings.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Largest resident set of the children that this process has waited for, in bytes.
pub fn children_peak_bytes() -> u64 {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: getrusage fills the zeroed structure, which is valid as it is.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr());
        usage.assume_init()
    };
    u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024
}

/// Makes a mount and all below it read-only and without set-user-id programs and devices.
pub fn seal_mount_tree(path: &CStr) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the kernel reads the path and the structure, whose size is given.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    })?;
    Ok(())
}

const RNDADDENTROPY: libc::c_ulong = 0x4008_5203;
const RNDRESEEDCRNG: libc::c_ulong = 0x5207;

/// Mixes 32 bytes into the kernel's generator, counted as entropy, and has every processor's generator drawn anew.
pub fn add_entropy(random: BorrowedFd<'_>, entropy: &[u8; 32]) -> io::Result<()> {
    #[repr(C)]
    struct PoolInfo {
        entropy_bits: libc::c_int,
        size: libc::c_int,
        data: [u8; 32],
    }
    let mut info = PoolInfo {
        entropy_bits: 256,
        size: 32,
        data: *entropy,
    };
    // SAFETY: the kernel reads a rand_pool_info with 32 bytes of data, which is what PoolInfo is.
    let added =
        check(unsafe { libc::ioctl(random.as_raw_fd(), RNDADDENTROPY, &raw const info) }.into());
    erase(&mut info.data);
    added?;
    // SAFETY: takes no argument.
    check(unsafe { libc::ioctl(random.as_raw_fd(), RNDRESEEDCRNG) }.into())?;
    Ok(())
}

/// Adds to the wall clock, in nanoseconds, at once and without a reading in between.
pub fn step_clock(by_ns: i64) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid timex, which has numbers only.
    let mut change: libc::timex = unsafe { std::mem::zeroed() };
    change.modes = libc::ADJ_SETOFFSET | libc::ADJ_NANO;
    change.time.tv_sec = by_ns.div_euclid(1_000_000_000);
    change.time.tv_usec = by_ns.rem_euclid(1_000_000_000);
    // SAFETY: the kernel reads and writes one timex.
    check(unsafe { libc::clock_adjtime(libc::CLOCK_REALTIME, &raw mut change) }.into())?;
    Ok(())
}

/// Overwrites bytes that must not stay, in a way that no compiler leaves out.
pub fn erase(bytes: &mut [u8]) {
    for byte in bytes {
        // SAFETY: a valid, aligned, exclusive reference.
        unsafe { ptr::write_volatile(byte, 0) };
    }
}
