//! Snapshots: two files that a VMM wrote, taken out of its jail, and a record that says what they were, sealed with a key that
//! lives in this process alone. What differs from its record is dropped, and so is what an earlier keeper left.
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use hmac::{Hmac, Mac};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, fchmod, fchown, fstat, linkat, mkdirat, openat,
};
use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::digest::{Digest, Hasher, hex, parse_hex};
use crate::fault::{Code, Doing, Fault, IoFault};
use crate::folder::{Folder, beneath, kind};
use crate::jail::{self, Jail, NEW_MEMORY, NEW_STATE};

/// The memory's digest is one over the digests of pieces of this size, so that several processors make it.
const PIECE_BYTES: u64 = 1024 * 1024;
const HASHING_THREADS_MAX: usize = 8;
/// A state file describes processors and devices; Firecracker's are some 100 KiB.
const STATE_BYTES_MAX: u64 = 64 * 1024 * 1024;
const RECORD_BYTES_MAX: u64 = 4096;
/// Reserved for a state file that is yet to be written.
const STATE_BYTES_EXPECTED: u64 = 8 * 1024 * 1024;
const SEAL: &[u8] = b"hpcc keeper snapshot 1\n";

#[derive(Debug)]
pub enum Error {
    Io(IoFault),
    Jail(jail::Error),
    Quota { bytes: u64, quota: u64 },
    StateTooLarge(u64),
    MemoryTooShort(u64, u64),
    Unknown(String),
    Bad(String, &'static str),
    GivenUp,
    Thread,
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io(fault) => fault.fmt(formatter),
            Error::Jail(error) => error.fmt(formatter),
            Error::Quota { bytes, quota } => {
                write!(
                    formatter,
                    "with this snapshot they would take {bytes} bytes, over --quota-bytes {quota}"
                )
            }
            Error::StateTooLarge(bytes) => write!(
                formatter,
                "a state file of {bytes} bytes is none that a VMM writes"
            ),
            Error::MemoryTooShort(bytes, memory_bytes) => write!(
                formatter,
                "a memory file of {bytes} bytes is not all of a memory of {memory_bytes}"
            ),
            Error::Unknown(id) => write!(formatter, "there is no snapshot {id}"),
            Error::Bad(id, why) => write!(formatter, "snapshot {id} {why}; it was dropped"),
            Error::GivenUp => write!(formatter, "it was given up"),
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

impl From<jail::Error> for Error {
    fn from(error: jail::Error) -> Error {
        Error::Jail(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        let code = match error {
            Error::Io(fault) => return fault.into(),
            // The VMM was to have written them.
            Error::Jail(jail::Error::Missing(_)) => Code::JailHostile,
            Error::Jail(error) => return error.into(),
            Error::Quota { .. } => Code::Quota,
            Error::StateTooLarge(_) | Error::MemoryTooShort(..) => Code::JailHostile,
            Error::Unknown(_) | Error::Bad(..) => Code::SnapshotBad,
            Error::GivenUp => Code::VmGone,
            Error::Thread => Code::Io,
        };
        Fault::new(code, error.to_string())
    }
}

/// What a file was when it was taken.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRecord {
    bytes: u64,
    digest: Digest,
    device: u64,
    inode: u64,
    modified_s: i64,
    modified_ns: i64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    id: String,
    binding: Digest,
    state: FileRecord,
    memory: FileRecord,
}

#[derive(Debug, Serialize)]
pub struct Kept {
    pub snapshot: String,
    pub state_bytes: u64,
    pub memory_bytes: u64,
    pub digest: Digest,
}

/// The files of a snapshot that has proven to be what it was.
pub struct Proven {
    pub state: OwnedFd,
    pub memory: OwnedFd,
}

pub struct SnapshotStore {
    folder: Folder,
    quota_bytes: u64,
    /// As long as a block of SHA-256, so that HMAC takes it as it is.
    key: [u8; 64],
    ledger: Mutex<Ledger>,
}

/// All that counts against the quota.
#[derive(Default)]
struct Ledger {
    /// What a machine may be writing, by the name that its snapshot will have.
    reserved: HashMap<String, u64>,
    snapshots: HashMap<String, Counted>,
}

struct Counted {
    bytes: u64,
    /// It has no name any more: nobody can start from it.
    dropped: bool,
    /// Machines that have its files in their jails. As long as there are any, the disk has them, too.
    holders: u32,
}

impl Ledger {
    /// Reserves so many bytes under a name, in place of what it had reserved, unless that is more.
    fn reserve(&mut self, id: &str, bytes: u64, quota: u64) -> Result<(), Error> {
        let before = self.reserved.get(id).copied().unwrap_or(0);
        if bytes <= before {
            return Ok(());
        }
        let counted = self.snapshots.values().map(|snapshot| snapshot.bytes);
        let total = self
            .reserved
            .values()
            .copied()
            .chain(counted)
            .fold(bytes - before, u64::saturating_add);
        if total > quota {
            return Err(Error::Quota {
                bytes: total,
                quota,
            });
        }
        self.reserved.insert(id.into(), bytes);
        Ok(())
    }

    /// One that can be started from.
    fn named(&mut self, id: &str) -> Option<&mut Counted> {
        self.snapshots
            .get_mut(id)
            .filter(|snapshot| !snapshot.dropped)
    }

    fn forget_unused(&mut self, id: &str) {
        let unused = |snapshot: &Counted| snapshot.dropped && snapshot.holders == 0;
        if self.snapshots.get(id).is_some_and(unused) {
            self.snapshots.remove(id);
        }
    }
}

impl SnapshotStore {
    /// A store in an empty folder, with a key of its own.
    pub fn new(folder: Folder, quota_bytes: u64) -> Result<SnapshotStore, Error> {
        let mut key = [0u8; 64];
        File::open("/dev/urandom")
            .and_then(|mut random| random.read_exact(&mut key))
            .doing(|| "read /dev/urandom".into())?;
        Ok(SnapshotStore {
            folder,
            quota_bytes,
            key,
            ledger: Mutex::new(Ledger::default()),
        })
    }

    /// Sets aside what a machine of so much memory will write, before it is told to. Once is enough.
    pub fn reserve(&self, id: &str, memory_bytes: u64) -> Result<(), Error> {
        let bytes = memory_bytes.saturating_add(STATE_BYTES_EXPECTED);
        self.locked().reserve(id, bytes, self.quota_bytes)
    }

    /// Gives back what was set aside for a machine, once nothing of it is on the disk.
    pub fn give_back(&self, id: &str) {
        self.locked().reserved.remove(id);
    }

    /// Counts a machine as one that has a snapshot's files, whatever becomes of the snapshot, until it lets go.
    pub fn hold(&self, id: &str) -> Result<(), Error> {
        match self.locked().named(id) {
            Some(snapshot) => {
                snapshot.holders += 1;
                Ok(())
            }
            None => Err(Error::Unknown(id.into())),
        }
    }

    pub fn let_go(&self, id: &str) {
        let mut ledger = self.locked();
        if let Some(snapshot) = ledger.snapshots.get_mut(id) {
            snapshot.holders = snapshot.holders.saturating_sub(1);
        }
        ledger.forget_unused(id);
    }

    /// Takes what the VMM of a jail wrote. No process of the jail is left. What fails, or is `given_up`, leaves nothing here; what
    /// was reserved for it stays so until it is given back, as the jail may still have the files.
    pub fn take(
        &self,
        jail: &Jail,
        id: &str,
        guest_bytes: u64,
        binding: Digest,
        given_up: &AtomicBool,
    ) -> Result<Kept, Error> {
        let state = jail.file(NEW_STATE)?;
        let memory = jail.file(NEW_MEMORY)?;
        let (state_bytes, memory_bytes) = (state.stat.st_size as u64, memory.stat.st_size as u64);
        if state_bytes > STATE_BYTES_MAX {
            return Err(Error::StateTooLarge(state_bytes));
        }
        // A VMM that could not write all of it, or was killed meanwhile.
        if memory_bytes < guest_bytes {
            return Err(Error::MemoryTooShort(memory_bytes, guest_bytes));
        }
        let bytes = state_bytes.saturating_add(memory_bytes);
        self.locked().reserve(id, bytes, self.quota_bytes)?;
        let taken = self.take_files(jail, id, binding, [&state, &memory], given_up);
        let unfinished = taken.is_err();
        let left = unfinished && !self.discard(id);
        if !unfinished || left {
            let counted = Counted {
                bytes,
                dropped: false,
                holders: 0,
            };
            let mut ledger = self.locked();
            ledger.reserved.remove(id);
            ledger.snapshots.insert(id.into(), counted);
        }
        let digest = taken?;
        Ok(Kept {
            snapshot: id.into(),
            state_bytes,
            memory_bytes,
            digest,
        })
    }

    fn take_files(
        &self,
        jail: &Jail,
        id: &str,
        binding: Digest,
        [state, memory]: [&jail::Held; 2],
        given_up: &AtomicBool,
    ) -> Result<Digest, Error> {
        mkdirat(&self.folder.fd, id, Mode::from_raw_mode(0o700))
            .doing(|| format!("make snapshot {id}"))?;
        let folder = beneath(
            self.folder.fd.as_fd(),
            id,
            OFlags::RDONLY | OFlags::DIRECTORY,
        )
        .doing(|| format!("make snapshot {id}"))?;
        let mut records = Vec::new();
        for (held, from, to, pieces) in [
            (state, NEW_STATE, "state", false),
            (memory, NEW_MEMORY, "memory", true),
        ] {
            let file = File::from(jail.open_held(held, from)?);
            fchown(&file, Some(Uid::ROOT), Some(Gid::ROOT)).doing(|| format!("own {from}"))?;
            fchmod(&file, Mode::from_raw_mode(0o444)).doing(|| format!("own {from}"))?;
            linkat(&held.fd, "", &folder, to, AtFlags::EMPTY_PATH)
                .doing(|| format!("keep {from}"))?;
            jail.unlink(from)?;
            let digest = if pieces {
                digest_in_pieces(&file, given_up)?
            } else {
                digest_of(&file)?
            };
            let stat = fstat(&file).doing(|| format!("examine {from}"))?;
            records.push(FileRecord::of(&stat, digest));
        }
        let (Some(memory), Some(state)) = (records.pop(), records.pop()) else {
            return Err(Error::Thread);
        };
        let mut hasher = Hasher::new();
        hasher.update(b"hpcc snapshot 1\n");
        hasher.update(&state.digest.0);
        hasher.update(&memory.digest.0);
        let digest = hasher.finish();
        let record = Record {
            id: id.into(),
            binding,
            state,
            memory,
        };
        let body =
            serde_json::to_vec(&record).map_err(|_| Error::Bad(id.into(), "has no record"))?;
        let mut text = hex(&self.seal(&body).finalize().into_bytes()).into_bytes();
        text.push(b'\n');
        text.extend_from_slice(&body);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&folder, "record", flags, Mode::from_raw_mode(0o400))
            .doing(|| format!("record {id}"))?;
        File::from(file)
            .write_all_at(&text, 0)
            .doing(|| format!("record {id}"))?;
        Ok(digest)
    }

    /// The files of a snapshot, if nothing about them differs. One that differs is dropped; one that cannot be looked at just now
    /// stays. The state is read again, byte for byte. Of the memory, which is mapped and not read, size, owner, mode, times and
    /// identity must be those of its record.
    pub fn prove(&self, id: &str, binding: &Digest) -> Result<Proven, Error> {
        if self.locked().named(id).is_none() {
            return Err(Error::Unknown(id.into()));
        }
        let proven = self.check(id, binding);
        if let Err(error @ Error::Bad(..)) = &proven {
            crate::log::warn(
                "keeper.snapshot.dropped",
                &[("snapshot", id), ("why", &error.to_string())],
            );
            self.drop_snapshot(id)?;
        }
        proven
    }

    fn check(&self, id: &str, binding: &Digest) -> Result<Proven, Error> {
        let bad = |why| Error::Bad(id.into(), why);
        let folder = open_kept(
            self.folder.fd.as_fd(),
            id,
            OFlags::RDONLY | OFlags::DIRECTORY,
        )?
        .ok_or(bad("is not there"))?;
        let mut text = Vec::new();
        let record =
            open_kept(folder.as_fd(), "record", OFlags::RDONLY)?.ok_or(bad("has no record"))?;
        File::from(record)
            .take(RECORD_BYTES_MAX)
            .read_to_end(&mut text)
            .doing(|| format!("read the record of {id}"))?;
        let body = text.get(65..).ok_or(bad("has no whole record"))?;
        let seal = text
            .get(..64)
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(parse_hex)
            .ok_or(bad("has no seal"))?;
        self.seal(body)
            .verify_slice(&seal)
            .map_err(|_| bad("has a record that this keeper did not make"))?;
        let record: Record =
            serde_json::from_slice(body).map_err(|_| bad("has a record that says nothing"))?;
        if record.id != id {
            return Err(bad("has the record of another"));
        }
        if record.binding != *binding {
            return Err(bad("was made from something else"));
        }
        let state =
            open_recorded(&folder, "state", &record.state)?.ok_or(bad("has another state file"))?;
        let memory = open_recorded(&folder, "memory", &record.memory)?
            .ok_or(bad("has another memory file"))?;
        let state_file = File::from(state);
        if digest_of(&state_file)? != record.state.digest {
            return Err(bad("has a state file with other bytes"));
        }
        Ok(Proven {
            state: state_file.into(),
            memory,
        })
    }

    /// Removes a snapshot; nothing happens when it is not there. Machines that were made from it go on with its files, which
    /// count until they are gone.
    pub fn drop_snapshot(&self, id: &str) -> Result<(), IoFault> {
        let mut ledger = self.locked();
        // Names that were never given out are not looked for on the disk.
        if let Some(snapshot) = ledger.named(id) {
            self.folder.remove(id)?;
            snapshot.dropped = true;
        }
        ledger.forget_unused(id);
        Ok(())
    }

    /// Removes what there is of a snapshot that was not finished; false when some of it is left.
    fn discard(&self, id: &str) -> bool {
        let removed = self.folder.remove(id);
        if let Err(fault) = &removed {
            crate::log::warn(
                "keeper.snapshot.left",
                &[("snapshot", id), ("why", &fault.to_string())],
            );
        }
        removed.is_ok()
    }

    fn seal(&self, body: &[u8]) -> Hmac<Sha256> {
        let mut seal = Hmac::<Sha256>::new(&self.key.into());
        seal.update(SEAL);
        seal.update(body);
        seal
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger
            .lock()
            .unwrap_or_else(|poison| poison.into_inner())
    }
}

impl FileRecord {
    fn of(stat: &Stat, digest: Digest) -> FileRecord {
        #[allow(clippy::unnecessary_cast)]
        FileRecord {
            bytes: stat.st_size as u64,
            digest,
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            modified_s: stat.st_mtime as i64,
            modified_ns: stat.st_mtime_nsec as i64,
        }
    }
}

/// Opens a file or folder of a snapshot; none when it is not there, or is something else. What the kernel cannot do just now, for
/// want of descriptors or memory or because of the disk, says nothing about the snapshot.
fn open_kept(
    folder: BorrowedFd<'_>,
    name: &str,
    flags: OFlags,
) -> Result<Option<OwnedFd>, IoFault> {
    match beneath(folder, name, flags) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => Ok(None),
        other => other
            .map(Some)
            .doing(|| format!("open {name} of a snapshot")),
    }
}

fn open_recorded(
    folder: &OwnedFd,
    name: &str,
    record: &FileRecord,
) -> Result<Option<OwnedFd>, IoFault> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let Some(fd) = open_kept(folder.as_fd(), name, flags)? else {
        return Ok(None);
    };
    let stat = fstat(&fd).doing(|| format!("examine {name} of a snapshot"))?;
    let same = kind(&stat) == FileType::RegularFile
        && stat.st_uid == 0
        && stat.st_mode & 0o7777 == 0o444
        && FileRecord::of(&stat, record.digest) == *record;
    Ok(same.then_some(fd))
}

fn digest_of(file: &File) -> Result<Digest, IoFault> {
    let mut hasher = Hasher::new();
    let mut piece = vec![0u8; 256 * 1024];
    let mut offset = 0u64;
    loop {
        let read = match file.read_at(&mut piece, offset) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            other => other.doing(|| "read a snapshot".into())?,
        };
        if read == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(piece.get(..read).unwrap_or_default());
        offset += read as u64;
    }
}

/// SHA-256 over the SHA-256 of each piece in turn. A machine's memory is mostly zeros after a scrub: their digest is made once.
fn digest_in_pieces(file: &File, given_up: &AtomicBool) -> Result<Digest, Error> {
    let bytes = file.metadata().doing(|| "examine a snapshot".into())?.len();
    let count = bytes.div_ceil(PIECE_BYTES) as usize;
    let threads = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(HASHING_THREADS_MAX)
        .min(count.max(1));
    let zeros = vec![0u8; PIECE_BYTES as usize];
    let digest_of_zeros = {
        let mut hasher = Hasher::new();
        hasher.update(&zeros);
        hasher.finish()
    };
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, Digest)>, IoFault> {
        let mut piece = vec![0u8; PIECE_BYTES as usize];
        let mut digests = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count || given_up.load(Ordering::Relaxed) {
                return Ok(digests);
            }
            let start = index as u64 * PIECE_BYTES;
            let length = PIECE_BYTES.min(bytes - start) as usize;
            let part = piece.get_mut(..length).unwrap_or_default();
            file.read_exact_at(part, start)
                .doing(|| "read a snapshot".into())?;
            let digest = if *part == *zeros {
                digest_of_zeros
            } else {
                let mut hasher = Hasher::new();
                hasher.update(part);
                hasher.finish()
            };
            digests.push((index, digest));
        }
    };
    let parts = thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|_| {
                thread::Builder::new()
                    .spawn_scoped(scope, work)
                    .map_err(|_| Error::Thread)
            })
            .collect();
        let mut parts = Vec::with_capacity(count);
        for thread in running {
            parts.extend(thread?.join().map_err(|_| Error::Thread)??);
        }
        Ok::<_, Error>(parts)
    })?;
    let mut parts = parts;
    if parts.len() != count {
        return Err(Error::GivenUp);
    }
    parts.sort_unstable_by_key(|(index, _)| *index);
    let mut hasher = Hasher::new();
    for (_, digest) in &parts {
        hasher.update(&digest.0);
    }
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::chown;
    use std::path::Path;
    use std::process::Command;

    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    const UID: u32 = 4000;
    const MEBIBYTE: u64 = 1 << 20;

    fn store(folder: &Path, quota_bytes: u64) -> SnapshotStore {
        assert!(rustix::process::geteuid().is_root(), "snapshots need root");
        let kept = Folder::open(&folder.join("kept"), 0o700).unwrap();
        SnapshotStore::new(kept, quota_bytes).unwrap()
    }

    fn binding() -> Digest {
        Hasher::new().finish()
    }

    /// A jail whose VMM has written a snapshot.
    fn jail(folder: &Path, id: &str) -> Jail {
        let jails = Folder::open(&folder.join("jails"), 0o700).unwrap();
        let jail = Jail::make(&jails, id, UID).unwrap();
        let root = jails.path.join(id).join("root");
        for (name, bytes) in [(NEW_STATE, 9), (NEW_MEMORY, 2 * MEBIBYTE)] {
            let file = fs::File::create(root.join(name)).unwrap();
            file.set_len(bytes).unwrap();
            chown(root.join(name), Some(UID), Some(UID)).unwrap();
        }
        jail
    }

    fn keep(store: &SnapshotStore, folder: &Path, id: &str) {
        let going_on = AtomicBool::new(false);
        store
            .take(&jail(folder, id), id, 2 * MEBIBYTE, binding(), &going_on)
            .unwrap();
    }

    /// Runs one test of this program again, in a process of its own, whose limits are nobody else's.
    fn alone(test: &str) -> bool {
        const ALONE: &str = "HPCC_KEEPER_TEST_ALONE";
        if std::env::var_os(ALONE).is_some() {
            return true;
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(ALONE, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        false
    }

    #[test]
    fn a_snapshot_that_cannot_be_looked_at_just_now_stays() {
        if !alone("snapshots::tests::a_snapshot_that_cannot_be_looked_at_just_now_stays") {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path(), 8 * MEBIBYTE);
        keep(&store, folder.path(), "k-1");
        let maximum = getrlimit(Resource::Nofile).maximum;
        let mut refused = 0;
        // Each descriptor that it needs is missing once.
        for files in 0.. {
            let current = Some(files);
            setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
            match store.prove("k-1", &binding()) {
                Ok(_) => break,
                Err(Error::Io(fault)) => assert_eq!(fault.errno, Errno::MFILE),
                Err(error) => panic!("with {files} files: {error}"),
            }
            refused += 1;
        }
        assert!(refused > 3, "it was refused {refused} times");
    }

    fn over_quota(result: Result<(), Error>) -> bool {
        matches!(result, Err(Error::Quota { .. }))
    }

    #[test]
    fn what_is_reserved_counts_until_it_is_kept_or_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path(), 2 * (2 * MEBIBYTE + STATE_BYTES_EXPECTED));
        let reserve = |id: &str| store.reserve(id, 2 * MEBIBYTE);
        reserve("k-1").unwrap();
        reserve("k-1").unwrap();
        reserve("k-2").unwrap();
        assert!(over_quota(reserve("k-3")));
        store.give_back("k-2");
        reserve("k-3").unwrap();
        // Kept: the margin is free again.
        keep(&store, folder.path(), "k-1");
        store.reserve("k-4", MEBIBYTE / 2).unwrap_err();
        store.reserve("k-4", 0).unwrap_err();
        store.give_back("k-3");
        reserve("k-4").unwrap();
        let kept = 2 * MEBIBYTE + 9;
        let free = store.quota_bytes - kept - (2 * MEBIBYTE + STATE_BYTES_EXPECTED);
        let mut ledger = store.locked();
        assert!(over_quota(ledger.reserve(
            "k-5",
            free + 1,
            store.quota_bytes
        )));
        ledger.reserve("k-5", free, store.quota_bytes).unwrap();
        assert!(over_quota(ledger.reserve(
            "k-6",
            u64::MAX,
            store.quota_bytes
        )));
    }

    #[test]
    fn files_of_a_dropped_snapshot_count_as_long_as_a_machine_has_them() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path(), 2 * MEBIBYTE + STATE_BYTES_EXPECTED);
        keep(&store, folder.path(), "k-1");
        store.hold("k-1").unwrap();
        store.hold("k-1").unwrap();
        store.drop_snapshot("k-1").unwrap();
        assert!(matches!(store.hold("k-1"), Err(Error::Unknown(_))));
        assert!(over_quota(store.reserve("k-2", 2 * MEBIBYTE)));
        store.let_go("k-1");
        assert!(over_quota(store.reserve("k-2", 2 * MEBIBYTE)));
        store.let_go("k-1");
        store.reserve("k-2", 2 * MEBIBYTE).unwrap();
    }

    #[test]
    fn a_snapshot_that_is_not_there_is_bad() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path(), 8 * MEBIBYTE);
        keep(&store, folder.path(), "k-1");
        fs::remove_dir_all(folder.path().join("kept/k-1")).unwrap();
        assert!(matches!(
            store.prove("k-1", &binding()),
            Err(Error::Bad(..))
        ));
        assert!(matches!(
            store.prove("k-1", &binding()),
            Err(Error::Unknown(_))
        ));
    }
}
