//! The files that machines are made from: copies of root's that nobody can change, named by their digests.
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use rustix::fs::{
    CWD, FileType, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, fchmod, fstat, fstatfs,
    ioctl_ficlone, openat, openat2, renameat,
};
use rustix::io::Errno;

use crate::digest::{Digest, Hasher};
use crate::fault::{Code, Doing, Fault, IoFault};
use crate::folder::{Folder, beneath, kind};
use crate::sys;
use crate::user::User;

#[derive(Debug)]
pub enum Error {
    Io(IoFault),
    NotOpened(String, Errno),
    NotAFile(String),
    TooLarge(String, u64),
    Different(String, Digest),
    Missing(Digest),
    Thread,
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io(fault) => fault.fmt(formatter),
            Error::NotOpened(path, errno) => {
                write!(formatter, "the worker's user cannot open {path}: {errno}")
            }
            Error::NotAFile(path) => write!(formatter, "{path} is not a regular file"),
            Error::TooLarge(path, bytes_max) => {
                write!(formatter, "{path} is over {bytes_max} bytes")
            }
            Error::Different(path, digest) => {
                write!(formatter, "{path} is {digest}, not what was asked for")
            }
            Error::Missing(digest) => write!(
                formatter,
                "{digest} has not been admitted, or was dropped for want of space"
            ),
            Error::Thread => write!(formatter, "no thread"),
        }
    }
}

impl std::error::Error for Error {}

impl From<IoFault> for Error {
    fn from(fault: IoFault) -> Error {
        Error::Io(fault)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        let code = match error {
            Error::Io(fault) => return fault.into(),
            Error::NotOpened(..) | Error::NotAFile(_) => Code::Argument,
            Error::TooLarge(..) => Code::TooLarge,
            Error::Different(..) => Code::DigestMismatch,
            Error::Missing(_) => Code::FileMissing,
            Error::Thread => Code::Io,
        };
        Fault::new(code, error.to_string())
    }
}

struct Entry {
    bytes: u64,
    used: u64,
}

/// Drops the files that were used least recently once it is over its size; machines keep the links that they have.
pub struct FileStore {
    folder: Folder,
    user: User,
    bytes_max: u64,
    entries: Mutex<HashMap<Digest, Entry>>,
    /// Held by who admits.
    admitting: Mutex<()>,
    clock: AtomicU64,
}

impl FileStore {
    /// A store in an empty folder.
    pub fn new(folder: Folder, user: User, bytes_max: u64) -> FileStore {
        FileStore {
            folder,
            user,
            bytes_max,
            entries: Mutex::new(HashMap::new()),
            admitting: Mutex::new(()),
            clock: AtomicU64::new(0),
        }
    }

    /// Takes a copy of a file that the worker's user can read, unless it is here. One at a time; never more bytes than the store holds.
    pub fn admit(&self, path: &str, digest: Digest, bytes_max: u64) -> Result<(), Error> {
        let _one = self
            .admitting
            .lock()
            .unwrap_or_else(|poison| poison.into_inner());
        if self.touch(&digest) {
            return Ok(());
        }
        let bytes_max = bytes_max.min(self.bytes_max);
        let mut source = File::from(self.open_as_worker(path)?);
        let temporary = format!("new.{}", self.tick());
        let taken = self.take(&mut source, path, &temporary, digest, bytes_max);
        if taken.is_err() {
            let _ = self.folder.remove(&temporary);
        }
        let bytes = taken?;
        renameat(
            &self.folder.fd,
            &temporary,
            &self.folder.fd,
            digest.file_name(),
        )
        .doing(|| format!("keep {path}"))?;
        let mut entries = self
            .entries
            .lock()
            .unwrap_or_else(|poison| poison.into_inner());
        entries.insert(
            digest,
            Entry {
                bytes,
                used: self.tick(),
            },
        );
        while entries.len() > 1
            && entries.values().map(|entry| entry.bytes).sum::<u64>() > self.bytes_max
        {
            let Some(oldest) = entries
                .iter()
                .min_by_key(|(_, entry)| entry.used)
                .map(|(digest, _)| *digest)
            else {
                break;
            };
            self.folder.remove(&oldest.file_name())?;
            entries.remove(&oldest);
        }
        Ok(())
    }

    /// An admitted file, to be linked into a jail.
    pub fn open(&self, digest: &Digest) -> Result<OwnedFd, Error> {
        if !self.touch(digest) {
            return Err(Error::Missing(*digest));
        }
        match beneath(self.folder.fd.as_fd(), digest.file_name(), OFlags::PATH) {
            Err(Errno::NOENT) => {
                self.entries
                    .lock()
                    .unwrap_or_else(|poison| poison.into_inner())
                    .remove(digest);
                Err(Error::Missing(*digest))
            }
            other => Ok(other.doing(|| format!("open {digest}"))?),
        }
    }

    fn take(
        &self,
        source: &mut File,
        path: &str,
        temporary: &str,
        digest: Digest,
        bytes_max: u64,
    ) -> Result<u64, Error> {
        let stat = fstat(&source).doing(|| format!("examine {path}"))?;
        let of_proc =
            fstatfs(&source).doing(|| format!("examine {path}"))?.f_type == PROC_SUPER_MAGIC;
        if kind(&stat) != FileType::RegularFile || of_proc {
            return Err(Error::NotAFile(path.into()));
        }
        if stat.st_size as u64 > bytes_max {
            return Err(Error::TooLarge(path.into(), bytes_max));
        }
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut copy = File::from(
            openat(
                &self.folder.fd,
                temporary,
                flags,
                Mode::from_raw_mode(0o600),
            )
            .doing(|| format!("copy {path}"))?,
        );
        let mut hasher = Hasher::new();
        // A clone shares blocks with the source and is nevertheless its own: what is hashed then is what was kept.
        let bytes = if ioctl_ficlone(&copy, &source).is_ok() {
            hasher.copy(&mut copy, &mut std::io::sink(), bytes_max)
        } else {
            hasher.copy(source, &mut copy, bytes_max)
        }
        .doing(|| format!("copy {path}"))?;
        if bytes > bytes_max {
            return Err(Error::TooLarge(path.into(), bytes_max));
        }
        let found = hasher.finish();
        if found != digest {
            return Err(Error::Different(path.into(), found));
        }
        fchmod(&copy, Mode::from_raw_mode(0o444)).doing(|| format!("copy {path}"))?;
        Ok(bytes)
    }

    /// Opens a path with the rights of the worker's user, in a thread that gives up root's.
    fn open_as_worker(&self, path: &str) -> Result<OwnedFd, Error> {
        let (user, name) = (self.user.clone(), path.to_string());
        let opened = thread::Builder::new()
            .stack_size(64 * 1024)
            .spawn(move || {
                sys::take_file_rights(&user).map_err(|_| Errno::PERM)?;
                // Not blocking: it may be a FIFO. No link of /proc, behind which are files that a name would not lead to.
                openat2(
                    CWD,
                    name,
                    OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC,
                    Mode::empty(),
                    ResolveFlags::NO_MAGICLINKS,
                )
            })
            .map_err(|_| Error::Thread)?
            .join()
            .map_err(|_| Error::Thread)?;
        opened.map_err(|errno| Error::NotOpened(path.into(), errno))
    }

    fn touch(&self, digest: &Digest) -> bool {
        let mut entries = self
            .entries
            .lock()
            .unwrap_or_else(|poison| poison.into_inner());
        match entries.get_mut(digest) {
            Some(entry) => {
                entry.used = self.tick();
                true
            }
            None => false,
        }
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::Path;

    fn store(folder: &Path, bytes_max: u64) -> FileStore {
        assert!(
            rustix::process::geteuid().is_root(),
            "rights of other users need root"
        );
        let user = User {
            name: "4000".into(),
            uid: 4000,
            gid: 4000,
            home: "/".into(),
            groups: vec![4000],
        };
        FileStore::new(
            Folder::open(&folder.join("files"), 0o700).unwrap(),
            user,
            bytes_max,
        )
    }

    fn digest_of(bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        hasher.finish()
    }

    #[test]
    fn a_file_is_copied_read_only_and_its_digest_checked() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let store = store(folder.path(), 1 << 20);
        let path = folder.path().join("kernel");
        fs::write(&path, "kernel").unwrap();
        let path = path.to_str().unwrap();
        assert!(matches!(
            store.admit(path, digest_of(b"other"), 100),
            Err(Error::Different(..))
        ));
        assert!(matches!(
            store.admit(path, digest_of(b"kernel"), 5),
            Err(Error::TooLarge(..))
        ));
        assert!(matches!(
            store.open(&digest_of(b"kernel")),
            Err(Error::Missing(_))
        ));
        assert_eq!(
            fs::read_dir(folder.path().join("files")).unwrap().count(),
            0
        );
        store.admit(path, digest_of(b"kernel"), 100).unwrap();
        fs::write(path, "changed").unwrap();
        store.admit(path, digest_of(b"kernel"), 100).unwrap();
        let kept = fs::metadata(
            folder
                .path()
                .join("files")
                .join(digest_of(b"kernel").file_name()),
        )
        .unwrap();
        assert_eq!(
            (kept.mode() & 0o7777, kept.uid(), kept.nlink()),
            (0o444, 0, 1)
        );
    }

    #[test]
    fn a_file_that_the_worker_cannot_read_is_refused_though_root_could() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let store = store(folder.path(), 1 << 20);
        let secret = folder.path().join("secret");
        fs::write(&secret, "secret").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let link = folder.path().join("link");
        symlink(&secret, &link).unwrap();
        for path in [&secret, &link] {
            let admitted = store.admit(path.to_str().unwrap(), digest_of(b"secret"), 100);
            assert!(
                matches!(admitted, Err(Error::NotOpened(_, Errno::ACCESS))),
                "{admitted:?}"
            );
        }
        // Root's own rights are those of other threads still.
        assert!(fs::read(&secret).is_ok());
    }

    #[test]
    fn nothing_of_proc_is_taken_though_root_sees_more_of_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let store = store(folder.path(), 1 << 20);
        for path in [
            "/proc/kallsyms",
            "/proc/version",
            "/proc/1/maps",
            "/proc/1/root/etc/passwd",
            "/proc/self/cwd/Cargo.toml",
        ] {
            let admitted = store.admit(path, digest_of(b"other"), 1 << 30);
            assert!(
                matches!(
                    admitted,
                    Err(Error::NotAFile(_)
                        | Error::NotOpened(_, Errno::LOOP | Errno::ACCESS | Errno::PERM))
                ),
                "{path}: {admitted:?}"
            );
        }
    }

    #[test]
    fn what_is_no_regular_file_is_refused_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let store = store(folder.path(), 1 << 20);
        let fifo = folder.path().join("fifo");
        rustix::fs::mkfifoat(CWD, &fifo, Mode::from_raw_mode(0o644)).unwrap();
        for path in [
            fifo.to_str().unwrap(),
            folder.path().to_str().unwrap(),
            "/dev/zero",
        ] {
            let admitted = store.admit(path, digest_of(b""), 100);
            assert!(
                matches!(admitted, Err(Error::NotAFile(_))),
                "{path}: {admitted:?}"
            );
        }
    }

    #[test]
    fn a_store_over_its_size_drops_what_was_used_least_recently() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let store = store(folder.path(), 10);
        let path = folder.path().join("file");
        for text in ["aaaa", "bbbb"] {
            fs::write(&path, text).unwrap();
            store
                .admit(path.to_str().unwrap(), digest_of(text.as_bytes()), 100)
                .unwrap();
        }
        store.open(&digest_of(b"aaaa")).unwrap();
        fs::write(&path, "cccc").unwrap();
        store
            .admit(path.to_str().unwrap(), digest_of(b"cccc"), 100)
            .unwrap();
        assert!(store.open(&digest_of(b"aaaa")).is_ok());
        assert!(matches!(
            store.open(&digest_of(b"bbbb")),
            Err(Error::Missing(_))
        ));
        assert_eq!(
            fs::read_dir(folder.path().join("files")).unwrap().count(),
            2
        );
    }
}
