//! System calls as functions that return `io::Result`. The only module, with `signals` and `spawn`, that speaks C.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Turns -1 into the error of errno.
pub fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn check_size(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Bytes to a C string; EINVAL when they hold a zero byte.
pub fn c_string(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// Opens with O_CLOEXEC added.
pub fn open(path: &[u8], flags: libc::c_int, mode: libc::mode_t) -> io::Result<OwnedFd> {
    open_at(libc::AT_FDCWD, path, flags, mode)
}

/// Opens relative to a folder with O_CLOEXEC added.
pub fn open_at(
    folder: RawFd,
    path: &[u8],
    flags: libc::c_int,
    mode: libc::mode_t,
) -> io::Result<OwnedFd> {
    let path = c_string(path)?;
    // SAFETY: `path` is a C string that lives over the call.
    let fd = check(unsafe { libc::openat(folder, path.as_ptr(), flags | libc::O_CLOEXEC, mode) })?;
    // SAFETY: the kernel just gave us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What stat tells and the launcher asks.
#[derive(Debug, Clone, Copy)]
pub struct Stat {
    pub dev: u64,
    pub ino: u64,
    pub mode: u32,
    pub uid: u32,
    pub size: u64,
    /// Nanoseconds since the epoch.
    pub modified: i64,
    /// Of anything, its name and mode included; nanoseconds since the epoch.
    pub changed: i64,
}

impl Stat {
    fn of(stat: &libc::stat) -> Stat {
        Stat {
            dev: stat.st_dev,
            ino: stat.st_ino,
            mode: stat.st_mode,
            uid: stat.st_uid,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
            changed: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    pub fn kind(&self) -> u32 {
        self.mode & libc::S_IFMT
    }

    pub fn is_regular(&self) -> bool {
        self.kind() == libc::S_IFREG
    }

    pub fn is_folder(&self) -> bool {
        self.kind() == libc::S_IFDIR
    }
}

fn nanoseconds(seconds: i64, rest: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

fn stat_at(folder: RawFd, path: &CStr, flags: libc::c_int) -> io::Result<Stat> {
    // SAFETY: all zeroes is a valid `stat`.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers live over the call.
    check(unsafe { libc::fstatat(folder, path.as_ptr(), &raw mut stat, flags) })?;
    Ok(Stat::of(&stat))
}

/// Follows links.
pub fn stat(path: &[u8]) -> io::Result<Stat> {
    stat_at(libc::AT_FDCWD, &c_string(path)?, 0)
}

/// Does not follow a link at the end.
pub fn lstat(path: &[u8]) -> io::Result<Stat> {
    stat_at(libc::AT_FDCWD, &c_string(path)?, libc::AT_SYMLINK_NOFOLLOW)
}

fn c_str(terminated: &[u8]) -> io::Result<&CStr> {
    CStr::from_bytes_with_nul(terminated).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// stat of a path that ends with its zero byte.
pub fn stat_terminated(path: &[u8], flags: libc::c_int) -> io::Result<Stat> {
    stat_at(libc::AT_FDCWD, c_str(path)?, flags)
}

/// Opens a path that ends with its zero byte, with O_CLOEXEC added.
pub fn open_terminated(path: &[u8], flags: libc::c_int) -> io::Result<OwnedFd> {
    let path = c_str(path)?;
    // SAFETY: `path` is a C string that lives over the call.
    let fd = check(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) })?;
    // SAFETY: the kernel just gave us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub fn fstat(fd: BorrowedFd) -> io::Result<Stat> {
    stat_at(fd.as_raw_fd(), c"", libc::AT_EMPTY_PATH)
}

/// Whether the effective user may do `mode` (R_OK, W_OK, X_OK).
pub fn may_access(path: &[u8], mode: libc::c_int) -> bool {
    let Ok(path) = c_string(path) else {
        return false;
    };
    // SAFETY: `path` is a C string that lives over the call.
    unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), mode, libc::AT_EACCESS) == 0 }
}

pub fn unlink(path: &[u8]) -> io::Result<()> {
    let path = c_string(path)?;
    // SAFETY: `path` is a C string that lives over the call.
    check(unsafe { libc::unlink(path.as_ptr()) }).map(drop)
}

pub fn rename(from: &[u8], to: &[u8]) -> io::Result<()> {
    let (from, to) = (c_string(from)?, c_string(to)?);
    // SAFETY: both are C strings that live over the call.
    check(unsafe { libc::rename(from.as_ptr(), to.as_ptr()) }).map(drop)
}

/// Replaces what is at `to`, atomically. Where the file system can, the two change places and what was there is removed then: a
/// rename over a file would make ext4 write the new one out at once.
pub fn replace(from: &[u8], to: &[u8]) -> io::Result<()> {
    let (from_path, to_path) = (c_string(from)?, c_string(to)?);
    let (from_path, to_path) = (from_path.as_ptr(), to_path.as_ptr());
    let here = libc::AT_FDCWD;
    // SAFETY: both are C strings that live over the call.
    let exchange =
        || unsafe { libc::renameat2(here, from_path, here, to_path, libc::RENAME_EXCHANGE) };
    if check(exchange()).is_err() {
        return rename(from, to);
    }
    // A folder that came to be there meanwhile goes back to its place.
    unlink(from).inspect_err(|_| {
        exchange();
    })
}

pub fn make_folder(path: &[u8], mode: libc::mode_t) -> io::Result<()> {
    let path = c_string(path)?;
    // SAFETY: `path` is a C string that lives over the call.
    check(unsafe { libc::mkdir(path.as_ptr(), mode) }).map(drop)
}

/// Makes a folder and its parents with mode 0700; a folder that exists is left alone.
pub fn make_folders(path: &[u8]) -> io::Result<()> {
    match make_folder(path, 0o700) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            let parent = parent_of(path);
            if parent == path {
                return Err(error);
            }
            make_folders(parent)?;
            make_folder(path, 0o700)
        }
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        result => result,
    }
}

/// The folder part of a path: "." when it has none.
pub fn parent_of(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|&byte| byte == b'/') {
        None => b".",
        Some(0) => b"/",
        Some(at) => &path[..at],
    }
}

/// The last part of a path.
pub fn base_name(path: &[u8]) -> &[u8] {
    path.iter()
        .rposition(|&byte| byte == b'/')
        .map_or(path, |at| &path[at + 1..])
}

/// Gives this process mounts of its own, a copy of those that it sees: as root, else as its own user in a user namespace. The
/// process must have one thread.
pub fn copy_mounts() -> io::Result<()> {
    // SAFETY: no pointers.
    let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
    // SAFETY: no pointers.
    if check(unsafe { libc::unshare(libc::CLONE_NEWNS) }).is_err() {
        // SAFETY: no pointers.
        check(unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) })?;
        std::fs::write("/proc/self/setgroups", "deny")?;
        std::fs::write("/proc/self/uid_map", format!("{user} {user} 1\n"))?;
        std::fs::write("/proc/self/gid_map", format!("{group} {group} 1\n"))?;
    }
    mount(None, c"/", libc::MS_REC | libc::MS_PRIVATE)
}

/// Shows a file at the place of another one.
pub fn bind(file: &[u8], place: &[u8]) -> io::Result<()> {
    mount(Some(&c_string(file)?), &c_string(place)?, libc::MS_BIND)
}

fn mount(source: Option<&CStr>, target: &CStr, flags: libc::c_ulong) -> io::Result<()> {
    let null = std::ptr::null();
    let source = source.map_or(null, CStr::as_ptr);
    // SAFETY: the paths are C strings that live over the call; null pointers mean nothing here.
    check(unsafe { libc::mount(source, target.as_ptr(), null, flags, null.cast()) }).map(drop)
}

pub fn change_folder(path: &[u8]) -> io::Result<()> {
    let path = c_string(path)?;
    // SAFETY: `path` is a C string that lives over the call.
    check(unsafe { libc::chdir(path.as_ptr()) }).map(drop)
}

/// Goes back to a folder that was opened before; if it cannot, the program that follows will say so itself.
pub fn return_to(folder: &OwnedFd) {
    // SAFETY: no pointers.
    unsafe { libc::fchdir(folder.as_raw_fd()) };
}

/// What getcwd gives.
pub fn current_folder() -> io::Result<Vec<u8>> {
    let mut buffer = vec![0u8; 4096];
    // SAFETY: the buffer is as long as said.
    let result = unsafe { libc::getcwd(buffer.as_mut_ptr().cast(), buffer.len()) };
    if result.is_null() {
        return Err(io::Error::last_os_error());
    }
    let length = buffer
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(buffer.len());
    buffer.truncate(length);
    Ok(buffer)
}

pub fn read(fd: BorrowedFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is as long as said.
    check_size(unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) })
}

/// The whole of a regular file of at most `max` bytes.
pub fn read_file(path: &[u8], max: u64) -> io::Result<Vec<u8>> {
    let file = open(path, libc::O_RDONLY | libc::O_NONBLOCK, 0)?;
    let stat = fstat(file.as_fd())?;
    if !stat.is_regular() || stat.size > max {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    read_exactly(file.as_fd(), stat.size)
}

/// As many bytes as said, or an error.
pub fn read_exactly(file: BorrowedFd, size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    let mut filled = 0;
    while filled < bytes.len() {
        match read(file, &mut bytes[filled..])? {
            0 => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
            count => filled += count,
        }
    }
    Ok(bytes)
}

pub fn write(fd: BorrowedFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the slice is as long as said.
    check_size(unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) })
}

/// Sends on a socket; a peer that is gone is an error, not a signal.
pub fn send(fd: BorrowedFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the slice is as long as said.
    check_size(unsafe {
        libc::send(
            fd.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_NOSIGNAL,
        )
    })
}

/// Writes all of it, also to a descriptor that somebody made non-blocking.
pub fn write_all(fd: BorrowedFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match write(fd, bytes) {
            Ok(0) => return Err(io::Error::from_raw_os_error(libc::EIO)),
            Ok(count) => bytes = &bytes[count..],
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::EAGAIN) => {
                    poll(&mut [poll_entry(fd.as_raw_fd(), libc::POLLOUT)], None)?;
                }
                _ => return Err(error),
            },
        }
    }
    Ok(())
}

pub fn poll_entry(fd: RawFd, events: libc::c_short) -> libc::pollfd {
    libc::pollfd {
        fd,
        events,
        revents: 0,
    }
}

/// Waits for one of the entries; false when the time is over. A signal counts as nothing having happened.
pub fn poll(entries: &mut [libc::pollfd], timeout: Option<Duration>) -> io::Result<bool> {
    // Rounded up, so that a deadline is over when poll says so.
    let timeout_ms = timeout.map_or(-1, |time| {
        i32::try_from(time.as_millis() + 1).unwrap_or(i32::MAX)
    });
    // SAFETY: the entries are as many as said.
    let result = unsafe {
        libc::poll(
            entries.as_mut_ptr(),
            entries.len() as libc::nfds_t,
            timeout_ms,
        )
    };
    match check(result) {
        Ok(count) => Ok(count > 0),
        Err(error) if error.raw_os_error() == Some(libc::EINTR) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Tries to take an exclusive lock; false when somebody else holds it.
pub fn try_lock(fd: BorrowedFd) -> io::Result<bool> {
    // SAFETY: no pointers.
    match check(unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EWOULDBLOCK) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Sets a file's times to now.
pub fn touch(fd: BorrowedFd) -> io::Result<()> {
    // SAFETY: a null pointer means now.
    check(unsafe { libc::futimens(fd.as_raw_fd(), std::ptr::null()) }).map(drop)
}

/// Makes `to` a clone of `from`, sharing blocks; an error where the file system cannot.
pub fn clone_file(to: BorrowedFd, from: BorrowedFd) -> io::Result<()> {
    // SAFETY: FICLONE takes a descriptor by value.
    check(unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONE, from.as_raw_fd()) }).map(drop)
}

/// Copies up to `count` bytes inside the kernel.
pub fn copy_range(from: BorrowedFd, to: BorrowedFd, count: usize) -> io::Result<usize> {
    let null = std::ptr::null_mut();
    // SAFETY: null offsets mean the descriptors' own.
    check_size(unsafe {
        libc::copy_file_range(from.as_raw_fd(), null, to.as_raw_fd(), null, count, 0)
    })
}

/// The file mode mask, which can only be read by setting it.
pub fn current_umask() -> u32 {
    // SAFETY: no pointers; the process has one thread.
    unsafe {
        let mask = libc::umask(0o022);
        libc::umask(mask);
        mask
    }
}

pub fn is_terminal(fd: RawFd) -> bool {
    // SAFETY: no pointers.
    unsafe { libc::isatty(fd) == 1 }
}

/// Columns of the terminal behind a descriptor.
pub fn terminal_columns(fd: RawFd) -> Option<u32> {
    // SAFETY: all zeroes is a valid `winsize`.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer lives over the call.
    let result = unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &raw mut size) };
    (result == 0 && size.ws_col > 0).then_some(u32::from(size.ws_col))
}

/// A new terminal, raw and of the size of standard error's: its keeper's end, which never waits, and its program's end.
pub fn open_terminal() -> io::Result<(OwnedFd, OwnedFd)> {
    let keeper = open(
        b"/dev/ptmx",
        libc::O_RDWR | libc::O_NOCTTY | libc::O_NONBLOCK,
        0,
    )?;
    let fd = keeper.as_raw_fd();
    let unlocked: libc::c_int = 0;
    // SAFETY: the pointer lives over the call.
    check(unsafe { libc::ioctl(fd, libc::TIOCSPTLCK, &raw const unlocked) })?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: no pointers.
    let program = check(unsafe { libc::ioctl(fd, libc::TIOCGPTPEER, flags) })?;
    // SAFETY: the kernel just gave us this descriptor.
    let program = unsafe { OwnedFd::from_raw_fd(program) };
    // SAFETY: all zeroes is a valid `termios` and a valid `winsize`.
    let (mut modes, mut size): (libc::termios, libc::winsize) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    // SAFETY: the pointers live over the calls.
    unsafe {
        check(libc::tcgetattr(program.as_raw_fd(), &raw mut modes))?;
        libc::cfmakeraw(&raw mut modes);
        check(libc::tcsetattr(
            program.as_raw_fd(),
            libc::TCSANOW,
            &raw const modes,
        ))?;
        if libc::ioctl(2, libc::TIOCGWINSZ, &raw mut size) == 0 {
            check(libc::ioctl(fd, libc::TIOCSWINSZ, &raw const size))?;
        }
    }
    Ok((keeper, program))
}

pub fn effective_user() -> u32 {
    // SAFETY: no pointers.
    unsafe { libc::geteuid() }
}

fn limits(resource: libc::__rlimit_resource_t) -> io::Result<libc::rlimit> {
    // SAFETY: all zeroes is a valid `rlimit`.
    let mut limits: libc::rlimit = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer lives over the call.
    check(unsafe { libc::getrlimit(resource, &raw mut limits) })?;
    Ok(limits)
}

/// What a resource can be raised to; none for no limit, or where root may lift it.
pub fn hard_limit(resource: libc::__rlimit_resource_t) -> Option<u64> {
    if effective_user() == 0 {
        return None;
    }
    let hard = limits(resource).ok()?.rlim_max;
    (hard != libc::RLIM_INFINITY).then_some(hard)
}

/// Lets this process run on every processor that the system allows it, and at the usual priority, if it may.
pub fn take_any_processor() {
    // SAFETY: all bytes of the set are plain bits; the pointer lives over the call.
    unsafe {
        let mut all: libc::cpu_set_t = std::mem::zeroed();
        std::ptr::write_bytes(&raw mut all, 0xff, 1);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const all);
        if libc::getpriority(libc::PRIO_PROCESS, 0) > 0 {
            libc::setpriority(libc::PRIO_PROCESS, 0, 0);
        }
    }
}

/// Lifts a limit: wholly for root, else to what it may be raised to.
pub fn raise_limit(resource: libc::__rlimit_resource_t) -> io::Result<()> {
    let none = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the pointer lives over the call.
    if check(unsafe { libc::setrlimit(resource, &raw const none) }).is_ok() {
        return Ok(());
    }
    let mut limits = limits(resource)?;
    limits.rlim_cur = limits.rlim_max;
    // SAFETY: the pointer lives over the call.
    check(unsafe { libc::setrlimit(resource, &raw const limits) }).map(drop)
}

/// Whether two descriptors lead to one file, pipe or terminal.
pub fn is_same_file(one: BorrowedFd, other: BorrowedFd) -> bool {
    match (fstat(one), fstat(other)) {
        (Ok(one), Ok(other)) => (one.dev, one.ino) == (other.dev, other.ino),
        _ => false,
    }
}

/// The effective group and the supplementary ones.
pub fn groups() -> io::Result<Vec<u32>> {
    // SAFETY: a size of 0 only asks for the number of groups.
    let count = check(unsafe { libc::getgroups(0, std::ptr::null_mut()) })?;
    let mut groups = vec![0; usize::try_from(count).unwrap_or(0)];
    // SAFETY: the buffer is as long as said.
    let count = check(unsafe { libc::getgroups(count, groups.as_mut_ptr()) })?;
    groups.truncate(usize::try_from(count).unwrap_or(0));
    // SAFETY: no pointers.
    groups.push(unsafe { libc::getegid() });
    Ok(groups)
}

pub fn process_id() -> u32 {
    std::process::id()
}

/// Opens /dev/null, to be closed by exec, on each of the descriptors 0 to 2 that is closed: none of the launcher's own files can land there,
/// and the compiler finds them closed as the caller left them.
pub fn hold_standard_descriptors() {
    for fd in 0..3 {
        // SAFETY: no pointers.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1 {
            // SAFETY: the path is a C string. The lowest free descriptor is `fd`, and it stays open on purpose.
            unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
        }
    }
}

/// Whether the caller left a standard descriptor closed: none that is open came here to be closed by exec.
pub fn is_left_closed(fd: RawFd) -> bool {
    // SAFETY: no pointers.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    flags == -1 || flags & libc::FD_CLOEXEC != 0
}

/// A pointer table for execve, with the strings it points into.
pub struct StringTable {
    _strings: Vec<CString>,
    pointers: Vec<*const libc::c_char>,
}

impl StringTable {
    pub fn new(items: &[Vec<u8>]) -> io::Result<StringTable> {
        let strings = items
            .iter()
            .map(|item| c_string(item))
            .collect::<io::Result<Vec<_>>>()?;
        let mut pointers: Vec<_> = strings.iter().map(|string| string.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Ok(StringTable {
            _strings: strings,
            pointers,
        })
    }
}

/// Replaces this program; returns only the error.
pub fn exec(program: &CStr, argv: &StringTable, environment: &StringTable) -> io::Error {
    // SAFETY: both tables end with a null pointer and live over the call.
    unsafe {
        libc::execve(
            program.as_ptr(),
            argv.pointers.as_ptr(),
            environment.pointers.as_ptr(),
        )
    };
    io::Error::last_os_error()
}

/// Ends the process at once.
pub fn exit(code: i32) -> ! {
    // SAFETY: no pointers; nothing of ours waits for an orderly end.
    unsafe { libc::_exit(code) }
}
