//! The keeper's subtree of cgroup v2: one group per machine, with limits, killed and removed as a whole.
use std::fmt;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::fault::{Doing, IoFault};

/// Controllers without which a machine has no limits.
const NEEDED: [&str; 3] = ["memory", "pids", "cpu"];
const PERIOD_US: u64 = 100_000;
/// Memory of the VMM itself, of the kernel's tables for the guest, and of page cache while it writes a snapshot.
const VMM_MEMORY_BYTES: u64 = 96 * 1024 * 1024;
/// Threads of the VMM beside one per processor: its own, the API's, KVM's workers.
const VMM_THREADS: u64 = 16;
/// Processes that are named when they do not end.
const NAMED_MAX: usize = 8;

#[derive(Debug)]
pub enum Error {
    Io(IoFault),
    NoCgroup2,
    Elsewhere(PathBuf, PathBuf),
    NoControllers(PathBuf, String),
    Busy(PathBuf),
    NoKill(PathBuf),
    /// Processes that do not end, named.
    Stuck(PathBuf, String),
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io(fault) => fault.fmt(formatter),
            Error::NoCgroup2 => write!(
                formatter,
                "no cgroup2 file system is mounted; boot with cgroup v2"
            ),
            Error::Elsewhere(path, mount) => write!(
                formatter,
                "--cgroup {}: must lie below {}, the first cgroup2 mount of /proc/mounts",
                path.display(),
                mount.display()
            ),
            Error::NoControllers(path, missing) => write!(
                formatter,
                "{}: the controllers{missing} are not available there; delegate them to it, or boot without cgroup v1",
                path.display()
            ),
            Error::Busy(path) => write!(
                formatter,
                "{}: processes live in it, so it can have no limited groups below; name an empty one (systemd: DelegateSubgroup=)",
                path.display()
            ),
            Error::NoKill(path) => {
                write!(
                    formatter,
                    "{}: has no cgroup.kill; Linux 5.14 or newer is needed",
                    path.display()
                )
            }
            Error::Stuck(path, processes) => write!(
                formatter,
                "{}: what is in it does not end: {processes}",
                path.display()
            ),
        }
    }
}

impl std::error::Error for Error {}

impl From<IoFault> for Error {
    fn from(fault: IoFault) -> Error {
        Error::Io(fault)
    }
}

/// The group below which every machine of one keeper is.
#[derive(Debug)]
pub struct KeeperGroup {
    pub path: PathBuf,
    /// Path below the mount, as the jailer wants it.
    relative: PathBuf,
    controllers: Vec<String>,
    io_max: Option<String>,
}

pub struct Limits {
    pub memory_bytes: u64,
    pub vcpus: u64,
    pub cpu_quota_us: Option<u64>,
}

/// Name of a keeper's group.
pub fn group_name(keeper: &str) -> String {
    format!("hpcc-{keeper}")
}

/// The first cgroup2 mount: the one that the jailer takes.
pub fn mount_point() -> Result<PathBuf, Error> {
    let mounts = fs::read_to_string("/proc/mounts").doing(|| "read /proc/mounts".into())?;
    mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&"cgroup2"))
        .and_then(|fields| fields.get(1).map(PathBuf::from))
        .ok_or(Error::NoCgroup2)
}

fn available(group: &Path) -> Result<Vec<String>, IoFault> {
    let path = group.join("cgroup.controllers");
    let text = fs::read_to_string(&path).doing(|| format!("read {}", path.display()))?;
    Ok(text.split_whitespace().map(String::from).collect())
}

fn write(group: &Path, file: &str, value: &str) -> Result<(), IoFault> {
    let path = group.join(file);
    fs::write(&path, value).doing(|| format!("write {value:?} to {}", path.display()))
}

impl KeeperGroup {
    /// Makes the group `hpcc-KEEPER` below `parent`, which is made when it is missing.
    pub fn make(parent: &Path, keeper: &str, io_max: Option<String>) -> Result<KeeperGroup, Error> {
        let mount = mount_point()?;
        let Ok(below) = parent.strip_prefix(&mount) else {
            return Err(Error::Elsewhere(parent.into(), mount));
        };
        if below
            .components()
            .any(|part| !matches!(part, std::path::Component::Normal(_)))
        {
            return Err(Error::Elsewhere(parent.into(), mount));
        }
        let wanted: Vec<&str> = NEEDED
            .into_iter()
            .chain(io_max.is_some().then_some("io"))
            .collect();
        if !parent.exists() {
            fs::create_dir(parent).doing(|| format!("make {}", parent.display()))?;
            if let Some(above) = parent.parent() {
                // What is still missing then is told below.
                let _ = enable(above, &wanted);
            }
        }
        let controllers = enable(parent, &wanted)?;
        let missing: String = wanted
            .iter()
            .filter(|name| !controllers.iter().any(|other| other == *name))
            .map(|name| format!(" {name}"))
            .collect();
        if !missing.is_empty() && !cfg!(feature = "test-harness") {
            return Err(Error::NoControllers(parent.into(), missing));
        }
        let name = group_name(keeper);
        let path = parent.join(&name);
        fs::create_dir(&path).doing(|| format!("make {}", path.display()))?;
        if !path.join("cgroup.kill").exists() {
            let _ = fs::remove_dir(&path);
            return Err(Error::NoKill(path));
        }
        enable(&path, &wanted)?;
        Ok(KeeperGroup {
            relative: below.join(name),
            path,
            controllers,
            io_max,
        })
    }

    /// Makes the group of one machine, with its limits.
    pub fn machine(&self, jail: &str, limits: &Limits) -> Result<MachineGroup, Error> {
        let path = self.path.join(jail);
        fs::create_dir(&path).doing(|| format!("make {}", path.display()))?;
        let group = MachineGroup {
            relative: self.relative.join(jail),
            path,
        };
        match self.limit(&group.path, limits) {
            Ok(()) => Ok(group),
            Err(fault) => {
                let _ = fs::remove_dir(&group.path);
                Err(fault.into())
            }
        }
    }

    fn limit(&self, group: &Path, limits: &Limits) -> Result<(), IoFault> {
        let has = |name: &str| self.controllers.iter().any(|other| other == name);
        if has("memory") {
            let bytes = limits.memory_bytes + limits.memory_bytes / 64 + VMM_MEMORY_BYTES;
            write(group, "memory.max", &bytes.to_string())?;
            // The file is missing where the kernel cannot swap.
            if group.join("memory.swap.max").exists() {
                write(group, "memory.swap.max", "0")?;
            }
            write(group, "memory.oom.group", "1")?;
        }
        if has("pids") {
            write(group, "pids.max", &(limits.vcpus + VMM_THREADS).to_string())?;
        }
        if has("cpu") {
            // One processor more than the guest has, for the VMM's own work.
            let quota = limits
                .cpu_quota_us
                .unwrap_or((limits.vcpus + 1) * PERIOD_US);
            write(group, "cpu.max", &format!("{quota} {PERIOD_US}"))?;
        }
        if let (true, Some(line)) = (has("io"), &self.io_max) {
            write(group, "io.max", line)?;
        }
        Ok(())
    }
}

/// Enables the controllers that are there for the groups below; gives those.
fn enable(group: &Path, wanted: &[&str]) -> Result<Vec<String>, Error> {
    let available = available(group)?;
    for name in wanted
        .iter()
        .filter(|name| available.iter().any(|other| other == *name))
    {
        match fs::write(group.join("cgroup.subtree_control"), format!("+{name}")) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                return Err(Error::Busy(group.into()));
            }
            other => other.doing(|| format!("enable {name} in {}", group.display()))?,
        }
    }
    Ok(available)
}

/// The group of one machine.
#[derive(Debug)]
pub struct MachineGroup {
    path: PathBuf,
    relative: PathBuf,
}

impl MachineGroup {
    /// For the jailer's --parent-cgroup.
    pub fn relative(&self) -> &Path {
        &self.relative
    }

    /// A descriptor; a process that writes "0" to it moves itself in.
    pub fn entrance(&self) -> Result<OwnedFd, IoFault> {
        let path = self.path.join("cgroup.procs");
        openat(CWD, &path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .doing(|| format!("open {}", path.display()))
    }

    /// Whether a process is in it.
    pub fn holds(&self, pid: rustix::process::Pid) -> bool {
        let text = fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero()))
            .unwrap_or_default();
        text.lines()
            .filter_map(|line| line.strip_prefix("0::/"))
            .any(|path| Path::new(path).ends_with(&self.relative))
    }

    pub fn kill(&self) {
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
    }

    /// Names the processes that are in it.
    pub fn processes(&self) -> String {
        processes(&self.path)
    }

    /// Kills what is in it and waits until it is empty.
    pub fn empty(&self, deadline: Instant) -> Result<(), Error> {
        empty(&self.path, deadline)
    }

    pub fn remove(&self, deadline: Instant) -> Result<(), Error> {
        remove(&self.path, deadline)
    }
}

/// Names the processes of a group, such as "12 (firecracker, D)". UNTRUSTED: they choose their own names
fn processes(group: &Path) -> String {
    let numbers = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let named: Vec<String> = numbers
        .lines()
        .take(NAMED_MAX)
        .map(|pid| {
            let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
            let stat = String::from_utf8_lossy(&stat);
            let (before, after) = stat.rsplit_once(')').unwrap_or_default();
            let name = before.split_once('(').unwrap_or_default().1;
            let name: String = name.chars().filter(char::is_ascii_graphic).collect();
            let state = after.split_whitespace().next().unwrap_or("gone");
            format!("{pid} ({name}, {state})")
        })
        .collect();
    match numbers.lines().count() {
        0 => "nothing that has a name".into(),
        count if count > NAMED_MAX => format!("{} and others, {count} in all", named.join(", ")),
        _ => named.join(", "),
    }
}

/// Kills all in a group and below it, and waits until nothing is left.
pub fn empty(group: &Path, deadline: Instant) -> Result<(), Error> {
    loop {
        match fs::write(group.join("cgroup.kill"), "1") {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.doing(|| format!("kill {}", group.display()))?,
        }
        if wait_unpopulated(
            group,
            deadline.min(Instant::now() + Duration::from_millis(500)),
        )? {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Error::Stuck(group.into(), processes(group)));
        }
    }
}

/// Removes a group and those below it, killing what enters until the end.
pub fn remove(group: &Path, deadline: Instant) -> Result<(), Error> {
    loop {
        empty(group, deadline)?;
        for entry in fs::read_dir(group).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove(&entry.path(), deadline)?;
            }
        }
        match fs::remove_dir(group) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error)
                if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline =>
            {
                // The kernel still clears the last process away, or one has entered.
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                return Err(Error::Stuck(group.into(), processes(group)));
            }
            other => other.doing(|| format!("remove {}", group.display()))?,
        }
    }
}

/// Waits for "populated 0"; false when the deadline comes first.
fn wait_unpopulated(group: &Path, deadline: Instant) -> Result<bool, Error> {
    let path = group.join("cgroup.events");
    let mut events = match fs::File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        other => other.doing(|| format!("open {}", path.display()))?,
    };
    loop {
        let mut text = String::new();
        let read = events
            .seek(SeekFrom::Start(0))
            .and_then(|_| events.read_to_string(&mut text));
        match read {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(true),
            other => other.doing(|| format!("read {}", path.display()))?,
        };
        if text.lines().any(|line| line == "populated 0") {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let timeout = Timespec::try_from(left).unwrap_or_default();
        let _ = poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&timeout));
    }
}
