//! Writes a compile's files as the compiler would have: caller's umask, links and read-only files met as the named
//! compiler meets them, all files or none.

use crate::caller::Caller;
use crate::fallback;
use crate::fault::{Fault, display};
use crate::sys;
use hpcc_frames::{Content, Manner, OutputFile};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{SystemTime, UNIX_EPOCH};

const COPY_BYTES: usize = 128 * 1024;
const TEMPORARY_ATTEMPTS: u32 = 16;
/// Up to here reading and writing is faster than asking the file system for more.
const SMALL_BYTES_MAX: u64 = 64 * 1024;

/// Where an output's bytes are.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    Inline(&'a [u8]),
    /// A file by its path, which need not exist yet when it is looked at.
    Path(&'a [u8]),
    /// An open file, at its start, of so many bytes.
    Open(&'a OwnedFd, u64),
}

pub struct Output<'a> {
    /// As the caller spelled it.
    pub destination: &'a [u8],
    pub source: Source<'a>,
    pub executable: bool,
    pub manner: Manner,
}

impl<'a> From<&'a OutputFile> for Output<'a> {
    fn from(file: &'a OutputFile) -> Self {
        Output {
            destination: &file.destination,
            source: match &file.content {
                Content::Inline(bytes) => Source::Inline(bytes),
                Content::File(path) => Source::Path(path),
            },
            executable: file.executable,
            manner: file.manner,
        }
    }
}

/// How a destination is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// A temporary file in its folder, renamed over it.
    Rename,
    /// Opened where it is, links followed, and truncated.
    InPlace,
}

/// Files in the making; dropping it removes the temporaries that are left.
#[derive(Default)]
struct Temporaries {
    /// Temporary path and destination.
    pending: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Drop for Temporaries {
    fn drop(&mut self) {
        for (temporary, _) in &self.pending {
            let _ = sys::unlink(temporary);
        }
    }
}

fn fault_of(destination: &[u8]) -> impl Fn(io::Error) -> Fault + '_ {
    move |error| Fault::io("write", destination, &error)
}

/// Writes all files, or none under their names, and removes what a failing compile removes; of two the later one is never the older. `interrupted` is asked between files; `before_waiting` is called before
/// anything that may wait for somebody else (a fifo).
pub fn write_files(
    files: &[Output],
    removals: &[Vec<u8>],
    interrupted: impl Fn() -> Option<i32>,
    before_waiting: impl Fn(),
) -> Result<Option<i32>, Fault> {
    let mut temporaries = Temporaries::default();
    let mut in_place = Vec::new();
    for file in files {
        if let Some(signal) = interrupted() {
            return Ok(Some(signal));
        }
        let way = way_to(file.destination, file.manner).map_err(fault_of(file.destination))?;
        let renamed = way == Way::Rename && make_temporary(file, &mut temporaries)?;
        if !renamed {
            if let Source::Path(path) = file.source {
                open_source(path)?;
            }
            in_place.push(file);
        }
    }
    while let Some((temporary, destination)) = temporaries.pending.last() {
        sys::replace(temporary, destination).map_err(fault_of(destination))?;
        temporaries.pending.pop();
    }
    if !in_place.is_empty() {
        before_waiting();
    }
    for file in &in_place {
        write_in_place(file)?;
    }
    if !in_place.is_empty() {
        make_newest(files, &in_place);
    }
    for path in removals {
        remove(path).map_err(fault_of(path))?;
    }
    Ok(None)
}

/// Removes a plain file; one that has gone by itself is no fault.
fn remove(path: &[u8]) -> io::Result<()> {
    let is_absent = |error: &io::Error| error.raw_os_error() == Some(libc::ENOENT);
    match sys::lstat(path) {
        Ok(stat) if !stat.is_regular() => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        Ok(_) => sys::unlink(path),
        Err(error) if is_absent(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Files that were renamed are older than those written in place after them: make would take an object for older than its
/// dependency file.
fn make_newest(files: &[Output], in_place: &[&Output]) {
    let flags = libc::O_RDONLY | libc::O_NOCTTY | libc::O_NONBLOCK | libc::O_NOFOLLOW;
    for file in files {
        if in_place.iter().any(|other| std::ptr::eq(*other, file)) {
            continue;
        }
        if let Ok(renamed) = sys::open(file.destination, flags, 0) {
            let _ = sys::touch(renamed.as_fd());
        }
    }
}

/// Decides by what is there. Errors are those that the compiler would have met.
fn way_to(destination: &[u8], manner: Manner) -> io::Result<Way> {
    let is_link = match sys::lstat(destination) {
        Ok(stat) => stat.kind() == libc::S_IFLNK,
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(Way::Rename),
        Err(error) => return Err(error),
    };
    let target = match sys::stat(destination) {
        Ok(stat) => stat,
        // A link to nothing: GNU programs make its target, clang replaces the link.
        Err(_) if manner == Manner::Clang => return Ok(Way::Rename),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(Way::InPlace),
        Err(error) => return Err(error),
    };
    // The assembler unlinks what has a size, and only files and links.
    if manner == Manner::Assembler && target.size > 0 && (is_link || target.is_regular()) {
        return Ok(Way::Rename);
    }
    if target.is_folder() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    if manner == Manner::Clang && target.is_regular() {
        let may_write = sys::may_access(destination, libc::W_OK);
        return if may_write {
            Ok(Way::Rename)
        } else {
            Err(io::Error::from_raw_os_error(libc::EACCES))
        };
    }
    Ok(Way::InPlace)
}

fn creation_mode(file: &Output) -> libc::mode_t {
    if file.executable { 0o777 } else { 0o666 }
}

/// Makes and fills a temporary file; false when the folder takes no new files but the destination may be written.
fn make_temporary(file: &Output, temporaries: &mut Temporaries) -> Result<bool, Fault> {
    let fault = fault_of(file.destination);
    let (path, temporary) = match create_temporary(file.destination, creation_mode(file)) {
        Ok(created) => created,
        Err(error) if matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM)) => {
            let exists = sys::stat(file.destination).is_ok_and(|stat| stat.is_regular());
            return if exists { Ok(false) } else { Err(fault(error)) };
        }
        Err(error) => return Err(fault(error)),
    };
    temporaries.pending.push((path, file.destination.to_vec()));
    fill(&temporary, file.source, file.destination)?;
    close(temporary).map_err(fault)?;
    Ok(true)
}

fn create_temporary(destination: &[u8], mode: libc::mode_t) -> io::Result<(Vec<u8>, OwnedFd)> {
    let folder = sys::parent_of(destination);
    let mut last = io::Error::from_raw_os_error(libc::EEXIST);
    for attempt in 0..TEMPORARY_ATTEMPTS {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_nanos());
        let name = format!("/.hpcc-{}-{now:x}-{attempt}.tmp", sys::process_id());
        let path = [folder, name.as_bytes()].concat();
        match sys::open(
            &path,
            libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW,
            mode,
        ) {
            Ok(fd) => return Ok((path, fd)),
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

fn write_in_place(file: &Output) -> Result<(), Fault> {
    let fault = fault_of(file.destination);
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC | libc::O_NOCTTY;
    let destination = sys::open(file.destination, flags, creation_mode(file)).map_err(&fault)?;
    fill(&destination, file.source, file.destination)?;
    close(destination).map_err(fault)
}

fn open_source(path: &[u8]) -> Result<(OwnedFd, u64), Fault> {
    let fault = |error: io::Error| Fault::io("source", path, &error);
    let source = sys::open(
        path,
        libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK,
        0,
    )
    .map_err(fault)?;
    let stat = sys::fstat(source.as_fd()).map_err(fault)?;
    if !stat.is_regular() {
        return Err(Fault::new(
            "source",
            format!("{}: not a regular file", display(path)),
        ));
    }
    Ok((source, stat.size))
}

fn fill(destination: &OwnedFd, source: Source, name: &[u8]) -> Result<(), Fault> {
    let copy_whole = |source: &OwnedFd, size: u64, path: &[u8]| {
        let copied = copy(source, destination, size).map_err(fault_of(name))?;
        if copied == size {
            return Ok(());
        }
        Err(Fault::new(
            "source",
            format!("{}: {copied} bytes instead of {size}", display(path)),
        ))
    };
    match source {
        Source::Inline(bytes) => sys::write_all(destination.as_fd(), bytes).map_err(fault_of(name)),
        Source::Path(path) => {
            let (source, size) = open_source(path)?;
            copy_whole(&source, size, path)
        }
        Source::Open(source, size) => copy_whole(source, size, b"the kept file"),
    }
}

/// Clones or copies; the number of bytes that the destination got.
fn copy(source: &OwnedFd, destination: &OwnedFd, size: u64) -> io::Result<u64> {
    let mut copied = 0;
    if size > SMALL_BYTES_MAX {
        if sys::clone_file(destination.as_fd(), source.as_fd()).is_ok() {
            return Ok(size);
        }
        copied = copy_in_kernel(source, destination, size)?;
    }
    // Both descriptors stand behind what was copied. One byte more than is expected tells of a file that grew.
    let rest = usize::try_from(size - copied).unwrap_or(usize::MAX);
    let mut buffer = vec![0u8; rest.saturating_add(1).min(COPY_BYTES)];
    loop {
        let count = match sys::read(source.as_fd(), &mut buffer) {
            Ok(0) => return Ok(copied),
            Ok(count) => count,
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => continue,
            Err(error) => return Err(error),
        };
        sys::write_all(destination.as_fd(), &buffer[..count])?;
        copied += count as u64;
    }
}

/// As much as the file system copies without being shown the bytes.
fn copy_in_kernel(source: &OwnedFd, destination: &OwnedFd, size: u64) -> io::Result<u64> {
    let mut copied = 0;
    while copied < size {
        let count = usize::try_from(size - copied)
            .unwrap_or(usize::MAX)
            .min(1 << 30);
        match sys::copy_range(source.as_fd(), destination.as_fd(), count) {
            // Some file systems say 0 where they mean "not like this".
            Ok(0) => break,
            Ok(count) => copied += count as u64,
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(
                    libc::EXDEV
                    | libc::EINVAL
                    | libc::ENOSYS
                    | libc::EOPNOTSUPP
                    | libc::EBADF
                    | libc::EPERM,
                ) => break,
                _ => return Err(error),
            },
        }
    }
    Ok(copied)
}

/// Closes and tells what close says: network file systems report a full disk only here.
fn close(file: OwnedFd) -> io::Result<()> {
    let fd = std::os::fd::IntoRawFd::into_raw_fd(file);
    // SAFETY: the descriptor is ours, and nothing uses it afterwards.
    match sys::check(unsafe { libc::close(fd) }) {
        Err(error) if error.raw_os_error() != Some(libc::EINTR) => Err(error),
        _ => Ok(()),
    }
}

/// Whether standard output and standard error lead to one place: what a compiler said on both cannot be put there in its order.
pub fn streams_are_one() -> bool {
    // SAFETY: descriptors 0 to 2 are held open from the start to the end of the process.
    let (stdout, stderr) = unsafe { (BorrowedFd::borrow_raw(1), BorrowedFd::borrow_raw(2)) };
    sys::is_same_file(stdout, stderr)
}

/// Why the compiler itself is to say what could not be written: some fail of it, others do not. None for a reader that has gone, of which no
/// compiler fails, and where the policy lets none run.
pub fn unsaid(error: &io::Error, caller: &Caller) -> Option<Fault> {
    let is_gone = error.raw_os_error() == Some(libc::EPIPE);
    (!is_gone && fallback::may_run_compiler(caller)).then(|| Fault::io("words", b"a stream", error))
}

/// A stream's content, at hand before anything is written: the daemon may remove its file once it has heard of the end.
pub enum StreamSource<'a> {
    Nothing,
    Inline(&'a [u8]),
    File(OwnedFd),
}

impl StreamSource<'_> {
    pub fn open(content: Option<&Content>) -> Result<StreamSource<'_>, Fault> {
        Ok(match content {
            None => StreamSource::Nothing,
            Some(Content::Inline(bytes)) => StreamSource::Inline(bytes),
            Some(Content::File(path)) => StreamSource::File(open_source(path)?.0),
        })
    }

    pub fn is_empty(&self) -> bool {
        match self {
            StreamSource::Nothing => true,
            StreamSource::Inline(bytes) => bytes.is_empty(),
            StreamSource::File(file) => sys::fstat(file.as_fd()).is_ok_and(|stat| stat.size == 0),
        }
    }

    /// Writes it to one of the caller's own descriptors, whole, also to a slow pipe.
    pub fn write_to(&self, fd: BorrowedFd) -> io::Result<()> {
        match self {
            StreamSource::Nothing => {}
            StreamSource::Inline(bytes) => sys::write_all(fd, bytes)?,
            StreamSource::File(source) => {
                let mut buffer = vec![0u8; COPY_BYTES];
                while let Ok(count @ 1..) = sys::read(source.as_fd(), &mut buffer) {
                    sys::write_all(fd, &buffer[..count])?;
                }
            }
        }
        Ok(())
    }
}
