//! The process that was started: parent of the keeper, which serves, and of the worker. It outlives both and clears away after
//! them; should it be killed itself, the kernel kills the worker, and the keeper clears away.
use std::ffi::{CString, OsStr};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, Resource, Rlimit, Signal, WaitOptions, getpid, getppid,
    getrlimit, pidfd_open, pidfd_send_signal, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit, waitpid,
};

use crate::cgroup::{self, KeeperGroup};
use crate::digest::hex;
use crate::fault::{Doing, IoFault};
use crate::files::FileStore;
use crate::host::Host;
use crate::machines::Means;
use crate::netns::{self, EmptyNetwork};
use crate::options::Options;
use crate::place::{self, Place};
use crate::programs::{self, Sources};
use crate::snapshots::{self, SnapshotStore};
use crate::sys::{self, Forked};
use crate::user::User;
use crate::{log, service};

/// What the keeper gets to clear away before the guard does it.
const KEEPER_DEADLINE: Duration = Duration::from_millis(2500);
/// What the worker gets to end once there is no keeper.
const WORKER_DEADLINE: Duration = Duration::from_secs(5);
/// What one that was killed gets to end: it may be stuck in the kernel for ever.
const KILL_DEADLINE: Duration = Duration::from_secs(1);
const FORWARDED: [i32; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];
/// Of the environment: what says how to speak, where programs and roots of trust are, and how to tell systemd.
const PASSED_ON: [&str; 9] = [
    "PATH",
    "LANG",
    "TZ",
    "NOTIFY_SOCKET",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "CREDENTIALS_DIRECTORY",
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_FILE",
];
const PASSED_ON_PREFIXES: [&str; 2] = ["LC_", "HPCC_"];
/// Exit code when it was not the worker that ended first.
const KEEPER_LOST: i32 = 70;

#[derive(Debug)]
pub enum Error {
    NotRoot,
    Io(IoFault),
    Place(place::Error),
    Programs(programs::Error),
    Cgroup(cgroup::Error),
    Network(netns::Error),
    Snapshots(snapshots::Error),
    Folder(crate::folder::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotRoot => write!(
                formatter,
                "must be started as root; it gives root up for the worker itself"
            ),
            Error::Io(error) => error.fmt(formatter),
            Error::Place(error) => error.fmt(formatter),
            Error::Programs(error) => error.fmt(formatter),
            Error::Cgroup(error) => error.fmt(formatter),
            Error::Network(error) => error.fmt(formatter),
            Error::Snapshots(error) => error.fmt(formatter),
            Error::Folder(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for Error {}

macro_rules! from {
    ($($variant:ident($error:ty)),*) => {$(
        impl From<$error> for Error {
            fn from(error: $error) -> Error {
                Error::$variant(error)
            }
        }
    )*};
}

from!(
    Io(IoFault),
    Place(place::Error),
    Programs(programs::Error),
    Cgroup(cgroup::Error),
    Network(netns::Error),
    Snapshots(snapshots::Error),
    Folder(crate::folder::Error)
);

/// Runs keeper and worker until both are gone and nothing is left; gives the exit code.
pub fn run(options: &Options) -> Result<i32, Error> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    // Nothing of this process, its key above all, is to be in a core file or in a debugger's reach.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).doing(|| "hide from debuggers".into())?;
    let no_core = Rlimit {
        current: Some(1),
        maximum: Some(1),
    };
    setrlimit(Resource::Core, no_core).doing(|| "forbid core files".into())?;
    // Each machine holds a handful of files.
    let maximum = getrlimit(Resource::Nofile).maximum;
    let files = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, files).doing(|| "raise the number of open files".into())?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let signals = sys::signals(&FORWARDED).doing(|| "take signals".into())?;
    let place = Place::open(options)?;
    place.sweep()?;
    let outcome = start(options, &place).and_then(|running| watch(running, &signals, &place));
    place.sweep()?;
    outcome
}

struct Running {
    keeper: Pid,
    keeper_fd: OwnedFd,
    worker: Child,
    worker_fd: OwnedFd,
    /// The keeper ends when this closes.
    lifeline: OwnedFd,
}

fn start(options: &Options, place: &Place) -> Result<Running, Error> {
    let (means, host) = prepare(options, place)?;
    let pair = || {
        socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
    };
    let (keepers, workers) = pair().doing(|| "make a socket".into())?;
    let (lifeline, other_end) = pair().doing(|| "make a socket".into())?;
    let keeper = match sys::fork().doing(|| "fork".into())? {
        Forked::Child => {
            drop(workers);
            drop(lifeline);
            std::process::exit(keep(keepers, &other_end, means, &host, place));
        }
        Forked::Parent(pid) => pid,
    };
    drop(means);
    drop(keepers);
    drop(other_end);
    let keeper_fd = pidfd_open(keeper, PidfdFlags::empty()).doing(|| "hold the keeper".into())?;
    match start_worker(options, workers) {
        Ok((worker, worker_fd)) => Ok(Running {
            keeper,
            keeper_fd,
            worker,
            worker_fd,
            lifeline,
        }),
        Err(error) => {
            end_keeper(keeper, &keeper_fd, lifeline);
            Err(error)
        }
    }
}

/// All that can be wrong with a host is found here, before a worker runs.
fn prepare(options: &Options, place: &Place) -> Result<(Means, Host), Error> {
    let base = place.base();
    let uids = place.uid_range()?;
    let bin = base.child("bin", 0o711, 0)?;
    let programs = programs::install(
        &bin,
        &Sources {
            firecracker: &options.firecracker,
            jailer: &options.jailer,
            known_releases: &options.known_releases,
            uid: options.uids.0,
        },
    )?;
    EmptyNetwork::make()?;
    let keeper = new_name()?;
    let parent = match &options.cgroup {
        Some(path) => path.clone(),
        None => cgroup::mount_point()?.join("hpcc"),
    };
    place.record(&parent.join(cgroup::group_name(&keeper)))?;
    let group = KeeperGroup::make(&parent, &keeper, options.io_max.clone())?;
    let chroots = base.child("jails", 0o700, 0)?;
    let jails = chroots.child("firecracker", 0o700, 0)?;
    let files = FileStore::new(
        base.child("files", 0o700, 0)?,
        options.user.clone(),
        options.files_bytes,
    );
    let snapshots = SnapshotStore::new(place.snapshots()?, options.quota_bytes)?;
    let means = Means {
        run: base.child("run", 0o711, 0)?,
        worker_gid: options.user.gid,
        keeper,
        chroots,
        jails,
        group,
        uids,
        files,
        snapshots,
        programs,
    };
    Ok((means, Host::read()))
}

/// A name that no other keeper has or will have.
fn new_name() -> Result<String, Error> {
    let mut bytes = [0u8; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .doing(|| "get random bytes".into())?;
    Ok(hex(&bytes))
}

/// The keeper's whole life.
fn keep(connection: OwnedFd, lifeline: &OwnedFd, means: Means, host: &Host, place: &Place) -> i32 {
    log::info("keeper.started", &[("keeper", &means.keeper)]);
    let served = service::serve(UnixStream::from(connection), lifeline, means, host);
    let orderly = match &served {
        Ok(ending) => {
            log::info("keeper.ended", &[("why", ending.why)]);
            ending.orderly
        }
        Err(error) => {
            log::warn("keeper.ended", &[("why", &error.to_string())]);
            false
        }
    };
    // The guard does this again. Should it be gone, nobody else will.
    if let Err(error) = place.sweep() {
        log::warn("keeper.left", &[("why", &error.to_string())]);
        return 1;
    }
    i32::from(!orderly)
}

/// Starts the worker: as a plain user, with little of what root's session has.
fn start_worker(options: &Options, socket: OwnedFd) -> Result<(Child, OwnedFd), Error> {
    let User {
        name,
        uid,
        gid,
        home,
        groups,
    } = options.user.clone();
    let mut arguments = options.program.iter();
    let program = arguments.next().cloned().unwrap_or_default();
    let guard = getpid();
    let folder = CString::new(home.as_str()).unwrap_or_default();
    let mut command = Command::new(program_path(&program)?);
    command
        .args(arguments)
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| is_passed_on(name)))
        .env("HPCC_KEEPER_FD", "3")
        .env("HOME", home)
        .env("USER", &name)
        .env("LOGNAME", &name);
    sys::before_exec(&mut command, move || {
        // No terminal of root's: its Ctrl-C reaches the worker through the guard alone, and nothing is typed into it.
        rustix::process::setsid()?;
        sys::pass_as_three(socket.as_fd())?;
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        sys::become_user(uid, gid, &groups)?;
        sys::leave_session_keyring()?;
        // With the rights of the worker, so that it is nowhere where it could not go.
        rustix::process::chdir(&folder).or_else(|_| rustix::process::chdir(c"/"))?;
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The guard may have died before.
        if getppid() != Some(guard) {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    });
    let worker = command
        .spawn()
        .doing(|| format!("run {}", program.to_string_lossy()))?;
    let fd = pidfd_open(Pid::from_child(&worker), PidfdFlags::empty())
        .doing(|| "hold the worker".into())?;
    Ok((worker, fd))
}

/// A path relative to the folder that the keeper was started in, which is not the worker's; a bare name is looked for along PATH.
fn program_path(program: &OsStr) -> Result<PathBuf, Error> {
    if !program.as_bytes().contains(&b'/') {
        return Ok(program.into());
    }
    Ok(std::path::absolute(program).doing(|| format!("find {}", program.to_string_lossy()))?)
}

/// Whether a variable of the keeper's environment is the worker's, too.
fn is_passed_on(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    PASSED_ON.iter().any(|passed| passed.as_bytes() == bytes)
        || PASSED_ON_PREFIXES
            .iter()
            .any(|prefix| bytes.starts_with(prefix.as_bytes()))
}

fn watch(mut running: Running, signals: &OwnedFd, place: &Place) -> Result<i32, Error> {
    loop {
        let mut watched = [
            PollFd::new(&running.worker_fd, PollFlags::IN),
            PollFd::new(&running.keeper_fd, PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
        ];
        match poll(&mut watched, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => Err(errno).doing(|| "wait".into())?,
        }
        let [worker, keeper, signal] = watched.map(|fd| !fd.revents().is_empty());
        if signal {
            forward(signals, &running.worker_fd);
        }
        if worker {
            let status = running
                .worker
                .wait()
                .doing(|| "wait for the worker".into())?;
            end_keeper(running.keeper, &running.keeper_fd, running.lifeline);
            return Ok(exit_code(status));
        }
        if keeper {
            let status = waitpid(Some(running.keeper), WaitOptions::empty());
            let orderly =
                matches!(status, Ok(Some((_, status))) if status.exit_status() == Some(0));
            if !orderly {
                log::warn("keeper.lost", &[]);
                let _ = pidfd_send_signal(&running.worker_fd, Signal::TERM);
            }
            // Machines first: a worker may take its time. What is left is told by the sweep that follows.
            let _ = place.sweep();
            let code = end_worker(running.worker, &running.worker_fd, signals);
            return Ok(if orderly || code != 0 {
                code
            } else {
                KEEPER_LOST
            });
        }
    }
}

fn forward(signals: &OwnedFd, to: &OwnedFd) {
    while let Some(number) = sys::next_signal(signals.as_fd()) {
        if let Some(signal) = Signal::from_named_raw(number) {
            let _ = pidfd_send_signal(to, signal);
        }
    }
}

/// Lets the keeper end every machine, and ends it when it does not come to an end itself.
fn end_keeper(pid: Pid, fd: &OwnedFd, lifeline: OwnedFd) {
    drop(lifeline);
    if !ended_within(fd, KEEPER_DEADLINE) {
        log::warn("keeper.killed", &[]);
        let _ = pidfd_send_signal(fd, Signal::KILL);
        if !ended_within(fd, KILL_DEADLINE) {
            warn_left("keeper", pid);
            return;
        }
    }
    let _ = waitpid(Some(pid), WaitOptions::empty());
}

/// Without a keeper a worker has nothing to run on: it may end by itself for a while, then it is told to, then it is killed.
fn end_worker(mut worker: Child, fd: &OwnedFd, signals: &OwnedFd) -> i32 {
    for signal in [Signal::TERM, Signal::KILL] {
        let deadline = Instant::now() + WORKER_DEADLINE;
        while !ended_within(fd, Duration::from_millis(200)) && Instant::now() < deadline {
            forward(signals, fd);
        }
        if ended_within(fd, Duration::ZERO) {
            break;
        }
        let _ = pidfd_send_signal(fd, signal);
    }
    if !ended_within(fd, KILL_DEADLINE) {
        warn_left("worker", Pid::from_child(&worker));
        return KEEPER_LOST;
    }
    worker.wait().map_or(KEEPER_LOST, exit_code)
}

/// Tells of a process that does not end though it was killed. Nobody waits for it.
fn warn_left(who: &str, pid: Pid) {
    let pid = pid.as_raw_nonzero().to_string();
    log::warn("guard.process.left", &[("who", who), ("pid", &pid)]);
}

fn ended_within(fd: &OwnedFd, time: Duration) -> bool {
    let timeout = Timespec::try_from(time).unwrap_or_default();
    matches!(
        poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)),
        Ok(1..)
    )
}

fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
