//! Reaches the daemon, starting it if needed: one start at a time, no start soon after a failed one.

use crate::connection::{ConnectError, Connection, connect};
use crate::environment::{Environment, join};
use crate::fault::Fault;
use crate::signals::{self, Notice, Signals};
use crate::sys::{self, StringTable};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// For how long after a failed start nobody tries again.
const FAILURE_MEMORY: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// A waiter believes a lock's old time only after this: whoever took the lock sets it a moment later.
const STALE_LOCK_PATIENCE: Duration = Duration::from_millis(250);
const LOG_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// The descriptor under which a daemon holds its lock.
const LOCK_DESCRIPTOR: libc::c_int = 3;
/// Variables that a daemon takes from whoever starts it; everything else is of that call alone.
const DAEMON_VARIABLES: [&str; 8] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "NODE_EXTRA_CA_CERTS",
];
const DAEMON_VARIABLE_PREFIXES: [&str; 3] = ["XDG_", "HPCC_", "SSL_CERT_"];
const DAEMON_VARIABLE_SUFFIXES: [&str; 2] = ["_proxy", "_PROXY"];

/// How a daemon's allocator is set up, so that it gives memory back after a build (docs/adr/0171-idle-memory.md). src/cli/daemon-control.ts has the
/// same.
const ALLOCATOR: [(&str, &[u8]); 3] = [
    ("MALLOC_ARENA_MAX", b"2"),
    ("MALLOC_TRIM_THRESHOLD_", b"65536"),
    ("MALLOC_MMAP_THRESHOLD_", b"32768"),
];

/// Limits that a caller sets for one build, and that a daemon which serves others would keep: raised as far as may be.
const CALLERS_LIMITS: [libc::__rlimit_resource_t; 5] = [
    libc::RLIMIT_NOFILE,
    libc::RLIMIT_FSIZE,
    libc::RLIMIT_CPU,
    libc::RLIMIT_AS,
    libc::RLIMIT_DATA,
];
/// A daemon whose files may not grow to this size could keep nothing for anybody: none is started.
const FILE_BYTES_LEAST: u64 = 1024 * 1024 * 1024;

pub struct Places {
    pub runtime: Vec<u8>,
    pub state: Vec<u8>,
    pub socket: Vec<u8>,
    lock: Vec<u8>,
    stamp: Vec<u8>,
}

impl Places {
    pub fn of(environment: &Environment) -> Places {
        let runtime = environment.runtime_folder();
        Places {
            state: environment.state_folder(),
            socket: join(&runtime, b"daemon.sock"),
            lock: join(&runtime, b"daemon.lock"),
            stamp: join(&runtime, b"daemon.failed"),
            runtime,
        }
    }

    /// Remembers that the daemon cannot be had.
    pub fn remember_failure(&self) {
        if let Ok(file) = sys::open(
            &self.stamp,
            libc::O_WRONLY | libc::O_CREAT | libc::O_NOFOLLOW,
            0o600,
        ) {
            let _ = sys::touch(file.as_fd());
        }
    }

    /// Whether a daemon could not be had a short while ago, and none has opened its socket since.
    fn failed_recently(&self) -> bool {
        let Ok(stamp) = sys::lstat(&self.stamp) else {
            return false;
        };
        let is_recent = age(stamp.modified).is_some_and(|age| age < FAILURE_MEMORY);
        is_recent && !sys::lstat(&self.socket).is_ok_and(|socket| socket.modified > stamp.modified)
    }
}

/// How long ago a file's time is; none when it lies in the future.
fn age(modified: i64) -> Option<Duration> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    now.checked_sub(Duration::from_nanos(u64::try_from(modified).ok()?))
}

/// The runtime folder must be a real folder, ours alone: anybody else could put a socket there.
fn check_runtime_folder(path: &[u8]) -> Result<(), Fault> {
    let io_fault = |error: io::Error| Fault::io("runtime-folder", path, &error);
    let stat = match sys::lstat(path) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            sys::make_folders(path).map_err(io_fault)?;
            sys::lstat(path).map_err(io_fault)?
        }
        result => result.map_err(io_fault)?,
    };
    if !stat.is_folder() || stat.uid != sys::effective_user() || stat.mode & 0o077 != 0 {
        return Err(Fault::io(
            "runtime-folder",
            path,
            &io::Error::from_raw_os_error(libc::EPERM),
        ));
    }
    Ok(())
}

/// A connection to the daemon that runs, or to one that is started now.
pub fn reach(
    places: &Places,
    environment: &Environment,
    signals: &Signals,
) -> Result<Connection, Fault> {
    check_runtime_folder(&places.runtime)?;
    if places.failed_recently() {
        return Err(failed_lately());
    }
    let timeout = environment.daemon_timeout();
    if let Some(connection) = try_connect(places, timeout, signals)? {
        return Ok(connection);
    }
    if crate::inside::is_inside() {
        // One that is started here would take the image's files for the machine's.
        return Err(Fault::new(
            "daemon-missing",
            "it has ended; the next call outside of `hpcc run` starts another one",
        ));
    }
    let program = Program::find(environment)?;
    if sys::hard_limit(libc::RLIMIT_FSIZE).is_some_and(|bytes| bytes < FILE_BYTES_LEAST) {
        return Err(Fault::new(
            "file-size-limit",
            "a daemon that is started under this limit (ulimit -f) could keep nothing",
        ));
    }
    let lock = open_lock(places)?;
    let begun = Instant::now();
    loop {
        if sys::try_lock(lock.as_fd())
            .map_err(|error| Fault::io("daemon-lock", &places.lock, &error))?
        {
            return start(places, &program, &lock, environment, signals);
        }
        if let Some(connection) = try_connect(places, timeout, signals)? {
            return Ok(connection);
        }
        let overdue = sys::fstat(lock.as_fd())
            .ok()
            .and_then(|stat| age(stat.modified))
            .is_some_and(|age| age > timeout);
        if begun.elapsed() > timeout || overdue && begun.elapsed() > STALE_LOCK_PATIENCE {
            places.remember_failure();
            return Err(Fault::new(
                "daemon-start",
                "another call's daemon did not come up",
            ));
        }
        pause(signals);
    }
}

/// None when nobody listens. A daemon with a full backlog gets as long as one that is silent.
fn try_connect(
    places: &Places,
    timeout: Duration,
    signals: &Signals,
) -> Result<Option<Connection>, Fault> {
    let deadline = Instant::now() + timeout;
    loop {
        match connect(&places.socket, timeout) {
            Ok(connection) => return Ok(Some(connection)),
            Err(ConnectError::NobodyListens) => return Ok(None),
            Err(ConnectError::Fault(fault)) => return Err(fault),
            Err(ConnectError::Busy) if Instant::now() >= deadline => {
                return Err(Fault::new("silence", "the daemon accepts no call"));
            }
            Err(ConnectError::Busy) => pause(signals),
        }
    }
}

fn failed_lately() -> Fault {
    Fault::new(
        "daemon-failed-recently",
        "none could be had a short while ago, and none is tried yet; `hpcc daemon start` tells why",
    )
}

fn open_lock(places: &Places) -> Result<OwnedFd, Fault> {
    sys::open(
        &places.lock,
        libc::O_RDWR | libc::O_CREAT | libc::O_NOFOLLOW,
        0o600,
    )
    .map_err(|error| Fault::io("daemon-lock", &places.lock, &error))
}

fn pause(signals: &Signals) {
    let mut entries = [sys::poll_entry(signals.raw_descriptor(), libc::POLLIN)];
    let _ = sys::poll(&mut entries, Some(POLL_INTERVAL));
    if let Some(Notice::End(signal)) = signals.next() {
        signals.die_of(signal);
    }
}

/// With the lock held: looks once more, then starts and waits.
fn start(
    places: &Places,
    program: &Program,
    lock: &OwnedFd,
    environment: &Environment,
    signals: &Signals,
) -> Result<Connection, Fault> {
    let timeout = environment.daemon_timeout();
    if let Some(connection) = try_connect(places, timeout, signals)? {
        return Ok(connection);
    }
    // Whoever had the lock before may have failed meanwhile.
    if places.failed_recently() {
        return Err(failed_lately());
    }
    let _ = sys::touch(lock.as_fd());
    let fault = |what: String| {
        places.remember_failure();
        Err(Fault::new("daemon-start", what))
    };
    let daemon = match spawn_daemon(places, program, lock, environment) {
        Ok(daemon) => daemon,
        Err(error) => return fault(format!("cannot start: {error}")),
    };
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(connection) = try_connect(places, timeout, signals)? {
            let _ = sys::unlink(&places.stamp);
            return Ok(connection);
        }
        if daemon.has_ended() {
            return fault("the daemon ended; its log says why".to_owned());
        }
        if Instant::now() >= deadline {
            return fault("the daemon did not come up in time".to_owned());
        }
        pause(signals);
    }
}

/// Node and the program bundle.
pub struct Program {
    pub node: Vec<u8>,
    pub bundle: Vec<u8>,
}

impl Program {
    pub fn find(environment: &Environment) -> Result<Program, Fault> {
        let library = environment
            .library_folder()
            .ok_or_else(|| Fault::new("daemon-missing", "no /proc"))?;
        let program = Program {
            node: join(&library, b"node"),
            bundle: join(&library, b"hpcc.mjs"),
        };
        for path in [&program.node, &program.bundle] {
            sys::stat(path).map_err(|error| Fault::io("daemon-missing", path, &error))?;
        }
        Ok(program)
    }

    pub fn argv(&self, arguments: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut argv = vec![
            self.node.clone(),
            b"--disable-warning=ExperimentalWarning".to_vec(),
            self.bundle.clone(),
        ];
        argv.extend_from_slice(arguments);
        argv
    }
}

/// The process that was started, which is nobody's child of ours.
struct Daemon {
    pid: libc::pid_t,
    descriptor: Option<OwnedFd>,
}

impl Daemon {
    fn has_ended(&self) -> bool {
        match &self.descriptor {
            Some(descriptor) => {
                let mut entries = [sys::poll_entry(descriptor.as_raw_fd(), libc::POLLIN)];
                sys::poll(&mut entries, Some(Duration::ZERO)).unwrap_or(true)
                    && entries[0].revents != 0
            }
            // SAFETY: no pointers; signal 0 only asks.
            None => unsafe { libc::kill(self.pid, 0) == -1 },
        }
    }
}

fn daemon_environment(places: &Places, environment: &Environment) -> Vec<Vec<u8>> {
    let is_kept = |entry: &Vec<u8>| {
        let name = entry.split(|&byte| byte == b'=').next().unwrap_or_default();
        let Ok(name) = std::str::from_utf8(name) else {
            return false;
        };
        name != crate::invocation::WRAPPED_VARIABLE
            && (DAEMON_VARIABLES.contains(&name)
                || DAEMON_VARIABLE_PREFIXES
                    .iter()
                    .any(|prefix| name.starts_with(prefix))
                || DAEMON_VARIABLE_SUFFIXES
                    .iter()
                    .any(|suffix| name.ends_with(suffix)))
    };
    let kept = Environment {
        entries: environment
            .entries
            .iter()
            .filter(|entry| is_kept(entry))
            .cloned()
            .collect(),
    };
    let own = [
        ("HPCC_RUNTIME_DIR", places.runtime.as_slice()),
        ("HPCC_STATE_DIR", &places.state),
    ];
    own.iter()
        .chain(&ALLOCATOR)
        .fold(kept, |environment, (name, value)| Environment {
            entries: environment.with(name, value),
        })
        .entries
}

/// Starts the daemon as nobody's child: in its own session, with none of the caller's descriptors but the lock.
fn spawn_daemon(
    places: &Places,
    program: &Program,
    lock: &OwnedFd,
    environment: &Environment,
) -> io::Result<Daemon> {
    sys::make_folders(&places.state)?;
    let log = open_log(&places.state)?;
    let null = sys::open(b"/dev/null", libc::O_RDWR, 0)?;
    let node: CString = sys::c_string(&program.node)?;
    let argv = StringTable::new(&program.argv(&[b"daemon".to_vec(), b"--foreground".to_vec()]))?;
    let entries = StringTable::new(&daemon_environment(places, environment))?;
    let mut ends = [0; 2];
    // SAFETY: two descriptors are what the call fills in.
    sys::check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: the kernel just gave us both.
    let (reader, writer) =
        unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
    // SAFETY: the process has one thread, so the child may use all of its memory.
    let middle = sys::check(unsafe { libc::fork() })?;
    if middle == 0 {
        // SAFETY: as above; setsid has no pointers.
        let pid = unsafe {
            libc::setsid();
            libc::fork()
        };
        if pid == 0 {
            become_daemon(&node, &argv, &entries, [&null, &log, lock]);
        }
        let _ = sys::write(writer.as_fd(), &pid.to_ne_bytes());
        sys::exit(0);
    }
    drop(writer);
    let mut record = [0u8; 4];
    let count = sys::read(reader.as_fd(), &mut record);
    // SAFETY: a null status is allowed.
    unsafe { libc::waitpid(middle, std::ptr::null_mut(), 0) };
    let pid = if count? == record.len() {
        i32::from_ne_bytes(record)
    } else {
        -1
    };
    if pid <= 0 {
        return Err(io::Error::from_raw_os_error(libc::EAGAIN));
    }
    // SAFETY: no pointers.
    let descriptor =
        i32::try_from(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) }).unwrap_or(-1);
    // SAFETY: the kernel just gave us this descriptor.
    let descriptor = (descriptor >= 0).then(|| unsafe { OwnedFd::from_raw_fd(descriptor) });
    Ok(Daemon { pid, descriptor })
}

fn open_log(state: &[u8]) -> io::Result<OwnedFd> {
    let path = join(state, b"daemon.log");
    if sys::lstat(&path).is_ok_and(|stat| stat.size > LOG_BYTES_MAX) {
        sys::rename(&path, &join(state, b"daemon.log.1"))?;
    }
    sys::open(
        &path,
        libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | libc::O_NOFOLLOW,
        0o600,
    )
}

fn become_daemon(
    node: &CString,
    argv: &StringTable,
    entries: &StringTable,
    [null, log, lock]: [&OwnedFd; 3],
) -> ! {
    signals::reset_all();
    for limit in CALLERS_LIMITS {
        let _ = sys::raise_limit(limit);
    }
    sys::take_any_processor();
    // SAFETY: no pointers but the path, which is a C string. The copies survive exec. `lock` may itself be descriptor 3.
    unsafe {
        libc::umask(0o077);
        libc::chdir(c"/".as_ptr());
        libc::dup2(null.as_raw_fd(), 0);
        libc::dup2(log.as_raw_fd(), 1);
        libc::dup2(log.as_raw_fd(), 2);
        if lock.as_raw_fd() == LOCK_DESCRIPTOR {
            libc::fcntl(LOCK_DESCRIPTOR, libc::F_SETFD, 0);
        } else {
            libc::dup2(lock.as_raw_fd(), LOCK_DESCRIPTOR);
        }
        close_from(LOCK_DESCRIPTOR + 1);
    }
    let _ = sys::exec(node, argv, entries);
    sys::exit(127)
}

/// Closes every descriptor from `first` on.
unsafe fn close_from(first: libc::c_int) {
    // SAFETY: no pointers; the caller means it.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) == -1 {
            for fd in first..4096 {
                libc::close(fd);
            }
        }
    }
}

/// Takes the lock for a daemon that is started by hand in this very process, and leaves it to it.
pub fn lock_for_own_daemon(environment: &Environment) -> Result<(), Fault> {
    let places = Places::of(environment);
    check_runtime_folder(&places.runtime)?;
    let lock = open_lock(&places)?;
    if !sys::try_lock(lock.as_fd())
        .map_err(|error| Fault::io("daemon-lock", &places.lock, &error))?
    {
        return Err(Fault::new("daemon-lock", "a daemon runs already"));
    }
    let _ = sys::touch(lock.as_fd());
    let _ = sys::unlink(&places.stamp);
    let fd = std::os::fd::IntoRawFd::into_raw_fd(lock);
    // SAFETY: no pointers. The descriptor stays open for the program that follows.
    unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
    Ok(())
}
