//! Uids for machines, out of a reserved range that several keepers may share. A file per uid, locked by its user as long as it
//! lives, holds the folder of the keeper that used it last and has not cleared away yet: a lock vanishes with its keeper, a
//! machine may not.
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Mutex;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, ftruncate, openat};
use rustix::io::Errno;

use crate::fault::{Doing, IoFault};
use crate::folder::Folder;
use crate::log;

const OWNER_BYTES_MAX: usize = 4096;

#[derive(Debug)]
pub enum Error {
    Io(IoFault),
    AllTaken(u32, u32),
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io(fault) => fault.fmt(formatter),
            Error::AllTaken(first, last) => {
                write!(
                    formatter,
                    "every uid of {first}-{last} is taken; give a wider range"
                )
            }
        }
    }
}

impl std::error::Error for Error {}

impl From<IoFault> for Error {
    fn from(fault: IoFault) -> Error {
        Error::Io(fault)
    }
}

#[derive(Debug)]
pub struct UidRange {
    locks: Folder,
    first: u32,
    last: u32,
    /// Written into the file of each uid in use.
    owner: String,
    /// Where the search goes on, so that a uid rests before it is used again.
    next: Mutex<u32>,
}

/// A uid, and a gid of the same number, that is nobody else's. When it is dropped without `release` it stays marked as unclean.
#[derive(Debug)]
pub struct LockedUid {
    pub uid: u32,
    file: OwnedFd,
}

impl LockedUid {
    /// Says that no process and no file of this uid is left.
    pub fn release(self) {
        let _ = ftruncate(&self.file, 0);
    }
}

impl UidRange {
    pub fn new(locks: Folder, (first, last): (u32, u32), base: &Path) -> UidRange {
        UidRange {
            locks,
            first,
            last,
            owner: base.display().to_string(),
            next: Mutex::new(first),
        }
    }

    /// How many machines there can be.
    pub fn len(&self) -> usize {
        (self.last - self.first) as usize + 1
    }

    /// Takes a uid that no keeper uses and none has left unclean.
    pub fn take(&self) -> Result<LockedUid, Error> {
        for _ in 0..self.len() {
            let uid = {
                let mut next = self
                    .next
                    .lock()
                    .unwrap_or_else(|poison| poison.into_inner());
                let uid = *next;
                *next = if uid >= self.last {
                    self.first
                } else {
                    uid + 1
                };
                uid
            };
            let Some(file) = self.lock(uid)? else {
                continue;
            };
            match owner(file.as_fd()) {
                Ok(None) => {}
                Ok(Some(_)) => continue,
                Err(errno) => {
                    // Whose it is cannot be told, so it may be somebody's.
                    warn_unreadable(uid, errno);
                    continue;
                }
            }
            rustix::io::pwrite(&file, self.owner.as_bytes(), 0)
                .doing(|| format!("mark uid {uid}"))?;
            return Ok(LockedUid { uid, file });
        }
        Err(Error::AllTaken(self.first, self.last))
    }

    /// Releases what an earlier keeper of the same folder left, once nothing of its machines is left.
    pub fn release_leftovers(&self) -> Result<(), Error> {
        let names = std::fs::read_dir(&self.locks.path)
            .doing(|| format!("list {}", self.locks.path.display()))?;
        for uid in names
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        {
            let Some(file) = self.existing(uid)? else {
                continue;
            };
            match owner(file.as_fd()) {
                Ok(Some(owner)) if owner == self.owner => LockedUid { uid, file }.release(),
                Ok(_) => {}
                Err(errno) => warn_unreadable(uid, errno),
            }
        }
        Ok(())
    }

    fn lock(&self, uid: u32) -> Result<Option<OwnedFd>, Error> {
        self.open(uid, OFlags::CREATE)
    }

    fn existing(&self, uid: u32) -> Result<Option<OwnedFd>, Error> {
        self.open(uid, OFlags::empty())
    }

    fn open(&self, uid: u32, flags: OFlags) -> Result<Option<OwnedFd>, Error> {
        let flags = flags | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match openat(
            &self.locks.fd,
            uid.to_string(),
            flags,
            Mode::from_raw_mode(0o600),
        ) {
            Err(Errno::NOENT) => return Ok(None),
            other => other.doing(|| format!("open the lock of uid {uid}"))?,
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(errno).doing(|| format!("lock uid {uid}"))?,
        }
    }
}

/// Who has left a uid unclean; none when nobody has.
fn owner(file: rustix::fd::BorrowedFd<'_>) -> Result<Option<String>, Errno> {
    let mut bytes = [0u8; OWNER_BYTES_MAX];
    let read = rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut bytes, 0))?;
    let text = bytes.get(..read).unwrap_or_default();
    Ok((!text.is_empty()).then(|| String::from_utf8_lossy(text).into_owned()))
}

fn warn_unreadable(uid: u32, errno: Errno) {
    log::warn(
        "keeper.uid.unreadable",
        &[("uid", &uid.to_string()), ("why", &errno.to_string())],
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(folder: &Path, base: &str) -> UidRange {
        let fd = openat(rustix::fs::CWD, folder, OFlags::RDONLY, Mode::empty()).unwrap();
        let locks = Folder {
            fd,
            path: folder.into(),
        };
        UidRange::new(locks, (4000, 4001), Path::new(base))
    }

    #[test]
    fn two_keepers_never_have_the_same_uid() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (range(folder.path(), "/one"), range(folder.path(), "/other"));
        let first = one.take().unwrap();
        let second = other.take().unwrap();
        assert_ne!(first.uid, second.uid);
        assert!(matches!(one.take(), Err(Error::AllTaken(4000, 4001))));
        first.release();
        assert_eq!(other.take().unwrap().uid, 4000);
    }

    #[test]
    fn an_unclean_uid_waits_for_the_keeper_that_left_it() {
        let folder = tempfile::tempdir().unwrap();
        let one = range(folder.path(), "/one");
        // Killed: locks are gone, marks are not.
        drop(one.take().unwrap());
        drop(one.take().unwrap());
        let other = range(folder.path(), "/other");
        other.release_leftovers().unwrap();
        assert!(other.take().is_err());
        let again = range(folder.path(), "/one");
        again.release_leftovers().unwrap();
        assert!(other.take().is_ok());
    }

    #[test]
    fn a_uid_whose_file_cannot_be_read_counts_as_taken() {
        let folder = tempfile::tempdir().unwrap();
        // A FIFO can be opened and locked, and not read at an offset.
        let unreadable = folder.path().join("4000");
        rustix::fs::mkfifoat(rustix::fs::CWD, &unreadable, Mode::from_raw_mode(0o600)).unwrap();
        let one = range(folder.path(), "/one");
        one.release_leftovers().unwrap();
        let taken = one.take().unwrap();
        assert_eq!(taken.uid, 4001);
        assert!(matches!(one.take(), Err(Error::AllTaken(4000, 4001))));
    }

    #[test]
    fn a_released_uid_rests_before_it_is_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let one = range(folder.path(), "/one");
        let first = one.take().unwrap();
        assert_eq!(first.uid, 4000);
        first.release();
        assert_eq!(one.take().unwrap().uid, 4001);
    }
}
