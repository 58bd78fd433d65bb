//! A hit without the daemon (docs/specs/replay.md): the record of an earlier call with the same words, in which nothing that
//! it depends on has changed since. Any difference and any doubt is the daemon's business.
//! UNTRUSTED: records, until their owner, their checksum and their name are seen; a checkout's files always.

use crate::caller::Caller;
use crate::digest::{Digest, hex, sha256};
use crate::environment::{Environment, join};
use crate::fault::{Fault, display};
use crate::outputs::{self, Output, Source};
use crate::sys;
use hpcc_frames::{
    Pwd, REPLAY_BYTES_MAX, ReplayCall, ReplayOutput, ReplayRecord, Stamp, StampedPath,
    decode_replay_record, encode_replay_name, fault_name,
};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Over this, the daemon is asked, which reads the log and starts another one.
const HIT_LOG_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Why nothing was replayed.
pub enum End {
    /// There is no record, or it does not hold.
    AskDaemon(Why),
    /// Outputs may have been touched: the real compiler writes them again.
    Fault(Fault),
}

pub struct Why {
    name: &'static str,
    detail: String,
}

fn why(name: &'static str, detail: &[u8]) -> End {
    End::AskDaemon(Why {
        name,
        detail: display(detail.strip_suffix(b"\0").unwrap_or(detail)),
    })
}

/// Answers the call from its record and ends; returns when it cannot.
pub fn replay(caller: &Caller) -> End {
    let begun = Instant::now();
    match try_replay(caller, begun) {
        Ok(never) => match never {},
        Err(End::AskDaemon(why)) => {
            if why.name != "no-record" && caller.environment.flag("HPCC_VERBOSE") {
                crate::caller::warn(&format!("no replay: {}: {}", why.name, why.detail));
            }
            End::AskDaemon(why)
        }
        Err(fault) => fault,
    }
}

enum Never {}

fn try_replay(caller: &Caller, begun: Instant) -> Result<Never, End> {
    if is_off(&caller.environment) {
        return Err(why("no-record", b"switched off"));
    }
    let name = name_of(caller)?;
    let folder = join(&caller.environment.state_folder(), b"replay");
    let file = read_record(&folder, &name)?;
    let record =
        decode_replay_record(&file).map_err(|fault| why("record", fault_name(fault).as_bytes()))?;
    if record.name != name {
        return Err(why("record", b"of another call"));
    }
    if !record.stdout.is_empty() && !record.stderr.is_empty() && outputs::streams_are_one() {
        return Err(why("one-stream", b"the order of its words is not known"));
    }
    compare(&record)?;
    let sources = record
        .outputs
        .iter()
        .map(open_kept)
        .collect::<Result<Vec<_>, _>>()?;
    let log = open_log(&folder)?;
    Err(write(caller, &record, &sources, || {
        log_hit(&log, &name, begun)
    }))
}

/// Switched off, or told to make results anew.
fn is_off(environment: &Environment) -> bool {
    matches!(environment.get("HPCC_REPLAY"), Some(b"0" | b"false"))
        || environment.flag("HPCC_RECACHE")
}

fn name_of(caller: &Caller) -> Result<Digest, End> {
    let doubt = |_| why("no-record", b"nameless");
    let namespace = sys::stat(b"/proc/self/ns/mnt").map_err(doubt)?;
    let cwd = sys::current_folder().map_err(doubt)?;
    let (terminal, columns) = caller.terminal();
    let bytes = encode_replay_name(&ReplayCall {
        launcher_version: env!("CARGO_PKG_VERSION"),
        argv: &caller.argv,
        cwd: &cwd,
        environment: &caller.environment.entries,
        umask: sys::current_umask(),
        terminal,
        columns,
        user: sys::effective_user(),
        groups: &sys::groups().map_err(doubt)?,
        mount_namespace_dev: namespace.dev,
        mount_namespace_ino: namespace.ino,
        pwd: pwd(&caller.environment, &cwd),
    });
    let bytes = bytes.map_err(|fault| why("no-record", fault_name(fault).as_bytes()))?;
    if cwd.first() != Some(&b'/') {
        return Err(why("no-record", b"the current folder cannot be reached"));
    }
    Ok(sha256(&bytes))
}

/// Whether compilers take PWD for the working folder's name.
fn pwd(environment: &Environment, cwd: &[u8]) -> Pwd {
    let identity = |path| sys::stat(path).map(|stat| (stat.dev, stat.ino)).ok();
    match environment.get("PWD") {
        Some(path) if path == cwd => Pwd::Leads,
        Some(path) if path.first() == Some(&b'/') => match identity(path) {
            Some(folder) if Some(folder) == identity(b".") => Pwd::Leads,
            _ => Pwd::Misleads,
        },
        _ => Pwd::None,
    }
}

/// A record that another user could have written is none.
fn read_record(folder: &[u8], name: &Digest) -> Result<Vec<u8>, End> {
    let digits = hex(name);
    let path = [
        folder,
        b"/",
        &digits.as_bytes()[..2],
        b"/",
        digits.as_bytes(),
    ]
    .concat();
    let read = || {
        let file = sys::open(&path, libc::O_RDONLY | libc::O_NONBLOCK, 0)?;
        let stat = sys::fstat(file.as_fd())?;
        let is_ours = stat.uid == sys::effective_user() && stat.mode & 0o022 == 0;
        if !stat.is_regular() || !is_ours || stat.size > REPLAY_BYTES_MAX as u64 {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        sys::read_exactly(file.as_fd(), stat.size)
    };
    read().map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT) => why("no-record", b""),
        _ => why("record", error.to_string().as_bytes()),
    })
}

/// Everything that the call depended on is as it was.
fn compare(record: &ReplayRecord) -> Result<(), End> {
    for stamped in &record.stamps {
        compare_stamp(stamped)?;
    }
    for place in &record.places {
        match sys::stat_terminated(place.path, 0) {
            Ok(stat) if stat.dev == place.dev && stat.ino == place.ino => {}
            _ => return Err(why("place", place.path)),
        }
    }
    for path in &record.absent {
        // Not even a link that leads to nothing.
        match sys::stat_terminated(path, libc::AT_SYMLINK_NOFOLLOW) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {}
            _ => return Err(why("appeared", path)),
        }
    }
    Ok(())
}

fn compare_stamp(stamped: &StampedPath) -> Result<(), End> {
    let is_link = stamped.stamp.mode & libc::S_IFMT == libc::S_IFLNK;
    let flags = if is_link {
        libc::AT_SYMLINK_NOFOLLOW
    } else {
        0
    };
    match sys::stat_terminated(stamped.path, flags) {
        Ok(stat) if stamp_of(&stat) == stamped.stamp => Ok(()),
        Ok(_) => Err(why("changed", stamped.path)),
        Err(_) => Err(why("gone", stamped.path)),
    }
}

fn stamp_of(stat: &sys::Stat) -> Stamp {
    Stamp {
        dev: stat.dev,
        ino: stat.ino,
        size: stat.size,
        modified: stat.modified,
        changed: stat.changed,
        mode: stat.mode,
    }
}

/// Opens a store's file and sees that it is the one of the record, so that nothing that happens to its name later matters.
fn open_kept(output: &ReplayOutput) -> Result<OwnedFd, End> {
    let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let kept = &output.kept;
    let file = sys::open_terminated(kept.path, flags).map_err(|_| why("evicted", kept.path))?;
    match sys::fstat(file.as_fd()) {
        Ok(stat) if stat.is_regular() && stamp_of(&stat) == kept.stamp => Ok(file),
        _ => Err(why("kept-changed", kept.path)),
    }
}

/// Writes as OUTPUTS does and ends the process.
fn write(caller: &Caller, record: &ReplayRecord, sources: &[OwnedFd], then: impl FnOnce()) -> End {
    let signals = &caller.signals;
    let files: Vec<_> = record
        .outputs
        .iter()
        .zip(sources)
        .map(|(output, file)| Output {
            destination: &output.destination,
            source: Source::Open(file, output.kept.stamp.size),
            executable: output.executable,
            manner: output.manner,
        })
        .collect();
    let (pending, unblock) = (|| signals.pending_end(), || signals.unblock());
    match outputs::write_files(&files, &[], pending, unblock) {
        Ok(None) => {}
        Ok(Some(signal)) => signals.die_of(signal),
        Err(fault) => return End::Fault(fault),
    }
    then();
    signals.unblock();
    for (bytes, fd) in [(record.stdout, 1), (record.stderr, 2)] {
        // SAFETY: descriptors 0 to 2 are held open from the start to the end of the process.
        let stream = unsafe { BorrowedFd::borrow_raw(fd) };
        if let Err(error) = sys::write_all(stream, bytes)
            && let Some(fault) = outputs::unsaid(&error, caller)
        {
            return End::Fault(fault);
        }
    }
    sys::exit(0)
}

/// The log of hits, which the daemon reads; none when it cannot be written, which is no reason to compile.
fn open_log(folder: &[u8]) -> Result<Option<OwnedFd>, End> {
    let flags = libc::O_WRONLY
        | libc::O_CREAT
        | libc::O_APPEND
        | libc::O_NOFOLLOW
        | libc::O_NONBLOCK
        | libc::O_NOCTTY;
    let Ok(log) = sys::open(&join(folder, b"hits.log"), flags, 0o600) else {
        return Ok(None);
    };
    match sys::fstat(log.as_fd()) {
        Ok(stat) if stat.size > HIT_LOG_BYTES_MAX => Err(why("hit-log", b"is to be read")),
        Ok(stat) if stat.is_regular() => Ok(Some(log)),
        _ => Ok(None),
    }
}

fn log_hit(log: &Option<OwnedFd>, name: &Digest, begun: Instant) {
    let Some(log) = log else { return };
    let ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_millis());
    let line = format!("{ms}\t{}\t{}\n", hex(name), begun.elapsed().as_micros());
    let _ = sys::write(log.as_fd(), line.as_bytes());
}
