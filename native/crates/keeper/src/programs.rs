//! Firecracker and its jailer: copied to a folder of root's before they are looked at, so that what was checked is what runs.
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::digest::{Digest, Hasher};
use crate::fault::{Doing, IoFault};
use crate::folder::Folder;
use crate::releases;
use crate::sys;

/// The first release whose vsock device survives a restore and whose jailer follows no link.
pub const VERSION_MIN: Version = Version(1, 16, 1);
const PROGRAM_BYTES_MAX: u64 = 256 * 1024 * 1024;
const VERSION_DEADLINE: Duration = Duration::from_secs(10);
/// How long one that was killed may take to end.
const KILL_DEADLINE: Duration = Duration::from_secs(2);
const VERSION_BYTES_MAX: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl Version {
    /// Reads the first line of `firecracker --version`, such as "Firecracker v1.16.1". What follows a dash is dropped:
    /// "1.17.0-dev" is what leads to 1.17.0, so it counts as older than that.
    pub fn parse(output: &str) -> Option<Version> {
        let word = output
            .lines()
            .next()?
            .split_whitespace()
            .find_map(|word| word.strip_prefix('v'))?;
        let (numbers, suffix) = word
            .split_once('-')
            .map_or((word, None), |(numbers, suffix)| (numbers, Some(suffix)));
        let mut parts = numbers.split('.').map(|part| part.parse::<u32>().ok());
        let (major, minor, patch) = (parts.next()??, parts.next()??, parts.next()??);
        if parts.next().is_some() {
            return None;
        }
        match (suffix, patch) {
            (None, _) => Some(Version(major, minor, patch)),
            (Some(_), 0) => Some(Version(major, minor.checked_sub(1)?, u32::MAX)),
            (Some(_), patch) => Some(Version(major, minor, patch - 1)),
        }
    }
}

#[derive(Debug)]
pub enum Error {
    Io(IoFault),
    NotTrusted(PathBuf),
    TooLarge(PathBuf),
    NoVersion(PathBuf, String),
    TooOld(PathBuf, Version),
    Different(Version, Version),
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io(fault) => fault.fmt(formatter),
            Error::NotTrusted(path) => {
                write!(
                    formatter,
                    "{}: must be a regular file of root's that nobody else can write",
                    path.display()
                )
            }
            Error::TooLarge(path) => write!(
                formatter,
                "{}: is over {PROGRAM_BYTES_MAX} bytes",
                path.display()
            ),
            Error::NoVersion(path, detail) => {
                write!(
                    formatter,
                    "{} --version does not tell a version: {detail}",
                    path.display()
                )
            }
            Error::TooOld(path, version) => write!(
                formatter,
                "{} is version {version}; {VERSION_MIN} or newer is needed, older ones lose vsock after a restore",
                path.display()
            ),
            Error::Different(vmm, jailer) => {
                write!(
                    formatter,
                    "Firecracker is version {vmm} and its jailer {jailer}; use those of one release"
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
pub struct Program {
    /// Of the copy that runs.
    pub path: PathBuf,
    /// As it calls itself.
    pub version_text: String,
    pub version: Version,
    pub digest: Digest,
    pub known_release: bool,
}

#[derive(Debug)]
pub struct Programs {
    pub vmm: Program,
    pub jailer: Program,
}

pub struct Sources<'a> {
    pub firecracker: &'a Path,
    pub jailer: &'a Path,
    pub known_releases: &'a [Digest],
    /// Who asks them for their version: a uid without rights.
    pub uid: u32,
}

/// Copies both to `folder` and checks them.
pub fn install(folder: &Folder, sources: &Sources<'_>) -> Result<Programs, Error> {
    let vmm = copy(folder, "firecracker", sources.firecracker, sources)?;
    let jailer = copy(folder, "jailer", sources.jailer, sources)?;
    if vmm.version < VERSION_MIN {
        return Err(Error::TooOld(sources.firecracker.into(), vmm.version));
    }
    if vmm.version != jailer.version {
        return Err(Error::Different(vmm.version, jailer.version));
    }
    Ok(Programs { vmm, jailer })
}

fn copy(
    folder: &Folder,
    name: &str,
    source: &Path,
    sources: &Sources<'_>,
) -> Result<Program, Error> {
    let shown = || source.display();
    let mut file = File::open(source).doing(|| format!("open {}", shown()))?;
    let metadata = file.metadata().doing(|| format!("examine {}", shown()))?;
    if !metadata.is_file() || metadata.uid() != 0 || metadata.mode() & 0o022 != 0 {
        return Err(Error::NotTrusted(source.into()));
    }
    let path = folder.path.join(name);
    folder.remove(name)?;
    let mut copied = File::create_new(&path).doing(|| format!("make {}", path.display()))?;
    let mut hasher = Hasher::new();
    let bytes = hasher
        .copy(&mut file, &mut copied, PROGRAM_BYTES_MAX)
        .doing(|| format!("copy {}", shown()))?;
    if bytes > PROGRAM_BYTES_MAX {
        return Err(Error::TooLarge(source.into()));
    }
    copied
        .set_permissions(std::fs::Permissions::from_mode(0o555))
        .doing(|| format!("set the mode of {}", path.display()))?;
    drop(copied);
    let digest = hasher.finish();
    let version_text = ask_version(&path, sources.uid)?;
    let version = Version::parse(&version_text)
        .ok_or_else(|| Error::NoVersion(source.into(), version_text.chars().take(80).collect()))?;
    Ok(Program {
        path,
        version,
        version_text: version.to_string(),
        known_release: sources.known_releases.contains(&digest)
            || releases::is_known(name, &digest),
        digest,
    })
}

/// Runs it with `--version`, without rights and with a deadline.
fn ask_version(path: &Path, uid: u32) -> Result<String, Error> {
    let mut command = Command::new(path);
    command
        .arg("--version")
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command.process_group(0);
    sys::before_exec(&mut command, move || sys::become_user(uid, uid, &[]));
    let mut child = command
        .spawn()
        .doing(|| format!("run {}", path.display()))?;
    let deadline = Instant::now() + VERSION_DEADLINE;
    let mut output = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        let mut piece = [0u8; 1024];
        while output.len() < VERSION_BYTES_MAX {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).unwrap_or_default();
            let ready = poll(&mut [PollFd::new(&stdout, PollFlags::IN)], Some(&timeout));
            if left.is_zero() || !matches!(ready, Ok(1..)) {
                break;
            }
            match stdout.read(&mut piece) {
                Ok(read) if read > 0 => {
                    output.extend_from_slice(piece.get(..read).unwrap_or_default())
                }
                _ => break,
            }
        }
    }
    // Not reaped yet, so the group is still its own.
    let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
    if sys::wait_until(&mut child, Instant::now() + KILL_DEADLINE).is_none() {
        return Err(Error::NoVersion(path.into(), "it does not end".into()));
    }
    Ok(String::from_utf8_lossy(&output).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_ordered() {
        let parse = |text: &str| Version::parse(text);
        assert_eq!(
            parse("Firecracker v1.16.1\n\nSupported snapshot"),
            Some(Version(1, 16, 1))
        );
        assert_eq!(
            parse("Jailer v1.17.0-dev\n"),
            Some(Version(1, 16, u32::MAX))
        );
        assert!(parse("Firecracker v1.16.1-dev") < Some(VERSION_MIN));
        assert!(parse("Firecracker v1.16.10") > Some(VERSION_MIN));
        assert!(parse("Firecracker v0.99.99") < Some(VERSION_MIN));
        for text in [
            "",
            "Firecracker",
            "Firecracker v1.16",
            "Firecracker v1.x.1",
            "v1.2.3.4",
            "v1.99999999999.1",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
