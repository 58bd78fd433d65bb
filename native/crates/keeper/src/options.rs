//! The command line.
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::user::{self, Claim, User};

/// Below it are a machine's sockets, whose paths must fit an address of 107 bytes.
const BASE_BYTES_MAX: usize = 40;
const GIB: u64 = 1 << 30;

pub const USAGE: &str = "\
usage: hpcc-keeper OPTIONS -- PROGRAM [ARGUMENT...]

Runs PROGRAM, an hpcc worker, as a plain user and keeps the jails of its microVMs for it. Started as root.

  --user NAME|UID:GID      who PROGRAM runs as
  --firecracker PATH       the VMM, 1.16.1 or newer
  --jailer PATH            its jailer, of the same release
  --uids FIRST-LAST        uids and gids for machines, reserved for hpcc
  --base DIR               jails and sockets; root's, at most 40 bytes long [/var/lib/hpcc-keeper]
  --snapshots DIR          snapshots; on the file system of --base, not a tmpfs [BASE/snapshots]
  --cgroup PATH            an empty group of cgroup v2; made when it is missing [hpcc below the cgroup2 mount]
  --quota-bytes N          most that snapshots may take, also those being written or held by machines [32 GiB]
  --files-bytes N          most that kernels and root file systems may take [32 GiB]
  --io-max LINE            a line for each machine's io.max, such as \"8:0 wbps=104857600\"
  --lock-dir DIR           locks of uids, common to all keepers of this host [/run/hpcc-keeper/uids]
  --known-release DIGEST   sha256:... of a Firecracker or jailer whose origin you have checked; may be repeated
  --version
";

#[derive(Debug)]
pub struct Options {
    pub user: User,
    pub firecracker: PathBuf,
    pub jailer: PathBuf,
    pub uids: (u32, u32),
    pub base: PathBuf,
    pub snapshots: PathBuf,
    pub cgroup: Option<PathBuf>,
    pub quota_bytes: u64,
    pub files_bytes: u64,
    pub io_max: Option<String>,
    pub lock_dir: PathBuf,
    pub known_releases: Vec<Digest>,
    pub program: Vec<OsString>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    Version,
    Unknown(String),
    NoValue(String),
    Missing(&'static str),
    Bad(&'static str, String, &'static str),
    BaseTooLong(PathBuf),
    UidOfWorker(String),
    UidOfSomebody(String, Claim),
    User(user::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Version => write!(formatter, "hpcc-keeper {}", env!("CARGO_PKG_VERSION")),
            Error::Unknown(name) => {
                write!(formatter, "{name} is no option; see hpcc-keeper --help")
            }
            Error::NoValue(name) => write!(formatter, "{name} wants a value"),
            Error::Missing(name) => write!(formatter, "{name} is missing; see hpcc-keeper --help"),
            Error::Bad(name, value, why) => write!(formatter, "{name} {value}: {why}"),
            Error::BaseTooLong(path) => write!(
                formatter,
                "--base {}: is over {BASE_BYTES_MAX} bytes long, so paths of sockets would not fit",
                path.display()
            ),
            Error::UidOfWorker(range) => write!(
                formatter,
                "--uids {range}: --user, or a group of it, is in the range; reserve one that nobody has"
            ),
            Error::UidOfSomebody(range, claim) => write!(
                formatter,
                "--uids {range}: {claim}; reserve a range that nobody has"
            ),
            Error::User(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for Error {}

/// Reads the arguments, without the program's own name. None where help was asked for.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Option<Options>, Error> {
    let mut arguments = arguments.into_iter();
    let mut values = std::collections::HashMap::<String, String>::new();
    let mut known_releases = Vec::new();
    let names = [
        "--user",
        "--firecracker",
        "--jailer",
        "--uids",
        "--base",
        "--snapshots",
        "--cgroup",
        "--quota-bytes",
        "--files-bytes",
        "--io-max",
        "--lock-dir",
        "--known-release",
    ];
    while let Some(argument) = arguments.next() {
        let text = argument.to_string_lossy().into_owned();
        match text.as_str() {
            "--" => break,
            "--help" => return Ok(None),
            "--version" => return Err(Error::Version),
            _ => {}
        }
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name.to_string(), Some(value.to_string())),
            None => (text, None),
        };
        if !names.contains(&name.as_str()) {
            return Err(Error::Unknown(name));
        }
        let value = match value {
            Some(value) => value,
            None => arguments
                .next()
                .and_then(|value| value.into_string().ok())
                .ok_or_else(|| Error::NoValue(name.clone()))?,
        };
        if name == "--known-release" {
            let digest = Digest::parse(&value);
            known_releases.push(digest.ok_or(Error::Bad(
                "--known-release",
                value,
                "is not sha256: and 64 hex digits",
            ))?);
        } else {
            values.insert(name, value);
        }
    }
    let program: Vec<OsString> = arguments.collect();
    if program.is_empty() {
        return Err(Error::Missing("-- PROGRAM"));
    }
    let mut take = |name: &'static str| values.remove(name);
    let base = PathBuf::from(take("--base").unwrap_or_else(|| "/var/lib/hpcc-keeper".into()));
    if base.as_os_str().len() > BASE_BYTES_MAX {
        return Err(Error::BaseTooLong(base));
    }
    let user = user::find(&take("--user").ok_or(Error::Missing("--user"))?).map_err(Error::User)?;
    let uids = parse_uids(
        take("--uids").ok_or(Error::Missing("--uids"))?,
        &user,
        Path::new("/etc"),
    )?;
    Ok(Some(Options {
        user,
        uids,
        firecracker: take("--firecracker")
            .ok_or(Error::Missing("--firecracker"))?
            .into(),
        jailer: take("--jailer").ok_or(Error::Missing("--jailer"))?.into(),
        snapshots: take("--snapshots").map_or_else(|| base.join("snapshots"), PathBuf::from),
        base,
        cgroup: take("--cgroup").map(PathBuf::from),
        quota_bytes: parse_bytes("--quota-bytes", take("--quota-bytes"))?,
        files_bytes: parse_bytes("--files-bytes", take("--files-bytes"))?,
        io_max: take("--io-max"),
        lock_dir: take("--lock-dir")
            .unwrap_or_else(|| "/run/hpcc-keeper/uids".into())
            .into(),
        known_releases,
        program,
    }))
}

fn parse_bytes(name: &'static str, value: Option<String>) -> Result<u64, Error> {
    match value {
        None => Ok(32 * GIB),
        Some(text) => text
            .parse()
            .map_err(|_| Error::Bad(name, text, "is not a number of bytes")),
    }
}

fn parse_uids(text: String, user: &User, etc: &Path) -> Result<(u32, u32), Error> {
    let bounds = text
        .split_once('-')
        .and_then(|(first, last)| Some((first.parse::<u32>().ok()?, last.parse::<u32>().ok()?)));
    let Some((first, last)) = bounds else {
        return Err(Error::Bad("--uids", text, "is not FIRST-LAST"));
    };
    if first < 1000 || last < first || last - first >= 65_536 {
        return Err(Error::Bad(
            "--uids",
            text,
            "must be a range of at most 65536 uids from 1000 on",
        ));
    }
    // 65534 is nobody, 65535 and the last one mean "no uid" to some calls.
    if (first..=last).contains(&65_534) || (first..=last).contains(&65_535) || last == u32::MAX {
        return Err(Error::Bad(
            "--uids",
            text,
            "must not hold 65534, 65535 or 4294967295",
        ));
    }
    let held = |id: u32| (first..=last).contains(&id);
    if held(user.uid) || user.groups.iter().any(|gid| held(*gid)) {
        return Err(Error::UidOfWorker(text));
    }
    match user::first_claim(etc, first, last).map_err(Error::User)? {
        Some(claim) => Err(Error::UidOfSomebody(text, claim)),
        None => Ok((first, last)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        "--user 4000:4000 --firecracker /f --jailer /j --uids 500000-500009 -- worker --flag";

    fn read(text: &str) -> Result<Option<Options>, Error> {
        parse(text.split(' ').map(OsString::from))
    }

    #[test]
    fn options_are_read_with_their_defaults() {
        let options = read(GOOD).unwrap().unwrap();
        assert_eq!(options.uids, (500_000, 500_009));
        assert_eq!(
            options.snapshots,
            PathBuf::from("/var/lib/hpcc-keeper/snapshots")
        );
        assert_eq!(options.program, ["worker", "--flag"]);
        let options = read(&format!("--base=/b --quota-bytes 7 {GOOD}"))
            .unwrap()
            .unwrap();
        assert_eq!(
            (options.snapshots, options.quota_bytes),
            (PathBuf::from("/b/snapshots"), 7)
        );
        assert!(read("--help").unwrap().is_none());
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let uids = |range: &str| {
            read(&GOOD.replace("500000-500009", range))
                .unwrap_err()
                .to_string()
        };
        for range in [
            "5",
            "9-5",
            "0-10",
            "60000-65535",
            "70000-200000",
            "3999-4000",
            "4294967290-4294967295",
            "a-b",
        ] {
            assert!(
                uids(range).starts_with("--uids"),
                "{range}: {}",
                uids(range)
            );
        }
        let refused = |text: &str| read(text).unwrap_err().to_string();
        assert!(refused(&GOOD.replace("4000:4000", "root")).contains("must not be root"));
        assert!(refused(&format!("--enable-pci {GOOD}")).contains("--enable-pci is no option"));
        assert!(refused(&format!("--base /{} {GOOD}", "b".repeat(40))).contains("40 bytes"));
        assert!(refused(&format!("--known-release sha256:1 {GOOD}")).contains("hex digits"));
        assert!(refused("--user 4000:4000").contains("PROGRAM"));
        assert!(refused("--user").contains("wants a value"));
    }

    #[test]
    fn a_range_of_somebodys_ids_is_refused_by_option_file_and_entry() {
        let etc = tempfile::tempdir().unwrap();
        std::fs::write(etc.path().join("subgid"), "ann:500005:1\n").unwrap();
        let user = user::find("4000:4000").unwrap();
        let parse = |range: &str| parse_uids(range.into(), &user, etc.path());
        let said = parse("500000-500009").unwrap_err().to_string();
        let file = etc.path().join("subgid").display().to_string();
        for part in ["--uids 500000-500009", &file, "ann", "500005"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert_eq!(parse("500006-500009"), Ok((500_006, 500_009)));
    }
}
