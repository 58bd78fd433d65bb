//! The keeper's folders, and clearing away whatever an earlier one, or this one, has left in them and in its cgroup.
use std::fmt;
use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, fsync, openat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::cgroup;
use crate::fault::{Doing, IoFault};
use crate::folder::{self, Folder};
use crate::options::Options;
use crate::uids::{self, UidRange};

const SWEEP_DEADLINE: Duration = Duration::from_secs(5);
/// A keeper that was killed holds its locks until the last of its threads is gone.
const LOCK_DEADLINE: Duration = Duration::from_secs(2);
/// What is in the base folder beside its lock.
const CONTENTS: [&str; 4] = ["bin", "files", "jails", "run"];

#[derive(Debug)]
pub enum Error {
    Io(IoFault),
    Folder(folder::Error),
    Cgroup(cgroup::Error),
    Uids(uids::Error),
    Locked(PathBuf),
    BadRecord(PathBuf),
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io(fault) => fault.fmt(formatter),
            Error::Folder(error) => error.fmt(formatter),
            Error::Cgroup(error) => error.fmt(formatter),
            Error::Uids(error) => error.fmt(formatter),
            Error::Locked(path) => write!(
                formatter,
                "{}: another keeper uses it; give each its own --base and --snapshots",
                path.display()
            ),
            Error::BadRecord(path) => write!(
                formatter,
                "{}: does not name the cgroup of the keeper before; end its processes, then remove the file",
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

impl From<folder::Error> for Error {
    fn from(error: folder::Error) -> Error {
        Error::Folder(error)
    }
}

impl From<cgroup::Error> for Error {
    fn from(error: cgroup::Error) -> Error {
        Error::Cgroup(error)
    }
}

impl From<uids::Error> for Error {
    fn from(error: uids::Error) -> Error {
        Error::Uids(error)
    }
}

/// Names the cgroup whose processes belong to this place.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    group: PathBuf,
}

/// The folders of a keeper, locked for it.
pub struct Place {
    base: Folder,
    snapshots: Folder,
    lock_dir: PathBuf,
    uids: (u32, u32),
    /// Held as long as guard or keeper live.
    _locks: [OwnedFd; 2],
}

impl Place {
    /// Opens the folders and locks them.
    pub fn open(options: &Options) -> Result<Place, Error> {
        let base = Folder::open(&options.base, 0o711)?;
        let snapshots = Folder::open(&options.snapshots, 0o700)?;
        snapshots.refuse_memory()?;
        snapshots.refuse_other_file_system(&base)?;
        let locks = [lock(&base)?, lock(&snapshots)?];
        Ok(Place {
            base,
            snapshots,
            lock_dir: options.lock_dir.clone(),
            uids: options.uids,
            _locks: locks,
        })
    }

    pub fn base(&self) -> &Folder {
        &self.base
    }

    pub fn snapshots(&self) -> Result<Folder, Error> {
        Ok(self.base_child_of(&self.snapshots, "kept")?)
    }

    fn base_child_of(&self, parent: &Folder, name: &str) -> Result<Folder, folder::Error> {
        parent.child(name, 0o700, 0)
    }

    pub fn uid_range(&self) -> Result<UidRange, Error> {
        let locks = Folder::open(&self.lock_dir, 0o700)?;
        Ok(UidRange::new(locks, self.uids, &self.base.path))
    }

    /// Writes down whose processes belong here, before there are any.
    pub fn record(&self, group: &Path) -> Result<(), Error> {
        let path = self.base.path.join("record");
        let text = serde_json::to_string(&Record {
            group: group.into(),
        })
        .map_err(|_| Error::BadRecord(path.clone()))?;
        let temporary = self.base.path.join("record.new");
        // On the disk before its name is, and its name before a machine is: a power cut leaves no record that says nothing,
        // on which the next start would stop.
        fs::File::create(&temporary)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.sync_all()
            })
            .doing(|| format!("write {}", temporary.display()))?;
        fs::rename(&temporary, &path).doing(|| format!("write {}", path.display()))?;
        fsync(&self.base.fd).doing(|| format!("keep {}", path.display()))?;
        Ok(())
    }

    /// Ends every process that belongs here and removes all that it had, whoever left it.
    pub fn sweep(&self) -> Result<(), Error> {
        let path = self.base.path.join("record");
        // What holds tenants' memory needs no empty cgroup to be removed.
        let kept = self.snapshots.remove("kept");
        match fs::read_to_string(&path) {
            Ok(text) => {
                let record: Record =
                    serde_json::from_str(&text).map_err(|_| Error::BadRecord(path.clone()))?;
                let name = record
                    .group
                    .file_name()
                    .map(|name| name.to_string_lossy().into_owned());
                if !name.is_some_and(|name| name.starts_with("hpcc-")) {
                    return Err(Error::BadRecord(path));
                }
                cgroup::remove(&record.group, Instant::now() + SWEEP_DEADLINE)?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => Err(error).doing(|| format!("read {}", path.display()))?,
        }
        for name in CONTENTS {
            self.base.remove(name)?;
        }
        kept?;
        self.uid_range()?.release_leftovers()?;
        self.base.remove("record")?;
        Ok(())
    }
}

fn lock(folder: &Folder) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(&folder.fd, "lock", flags, Mode::from_raw_mode(0o600))
        .doing(|| format!("open {}", folder.path.join("lock").display()))?;
    let deadline = Instant::now() + LOCK_DEADLINE;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(Errno::WOULDBLOCK) => return Err(Error::Locked(folder.path.clone())),
            Err(errno) => Err(errno).doing(|| format!("lock {}", folder.path.display()))?,
        }
    }
}
