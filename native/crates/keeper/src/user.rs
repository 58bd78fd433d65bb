//! Users and groups as the files in /etc say: the keeper is static and asks no name service.
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: String,
    /// Supplementary groups, its own included.
    pub groups: Vec<u32>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    Unreadable(PathBuf),
    Unknown(String),
    Root(String),
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unreadable(file) => write!(formatter, "cannot read {}", file.display()),
            Error::Unknown(name) => write!(
                formatter,
                "--user {name}: /etc/passwd has no such user; name one of it, or give UID:GID"
            ),
            Error::Root(name) => write!(formatter, "--user {name}: the worker must not be root"),
        }
    }
}

impl std::error::Error for Error {}

/// Finds a user by name or by `UID:GID`.
pub fn find(text: &str) -> Result<User, Error> {
    let passwd =
        fs::read_to_string("/etc/passwd").map_err(|_| Error::Unreadable("/etc/passwd".into()))?;
    let group = fs::read_to_string("/etc/group").unwrap_or_default();
    let user = from_numbers(text)
        .or_else(|| from_files(text, &passwd, &group))
        .ok_or_else(|| Error::Unknown(text.into()))?;
    if user.uid == 0 || user.gid == 0 || user.groups.contains(&0) {
        return Err(Error::Root(text.into()));
    }
    Ok(user)
}

fn from_numbers(text: &str) -> Option<User> {
    let (uid, gid) = text.split_once(':')?;
    let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
    Some(User {
        name: text.into(),
        uid,
        gid,
        home: "/".into(),
        groups: vec![gid],
    })
}

fn from_files(name: &str, passwd: &str, group: &str) -> Option<User> {
    let fields: Vec<&str> = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.first() == Some(&name) && fields.len() >= 6)?;
    let gid = fields.get(3)?.parse().ok()?;
    let mut groups = vec![gid];
    for line in group.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let member = fields
            .get(3)
            .is_some_and(|members| members.split(',').any(|member| member == name));
        if let (true, Some(Ok(other))) = (member, fields.get(2).map(|number| number.parse()))
            && !groups.contains(&other)
        {
            groups.push(other);
        }
    }
    Some(User {
        name: name.into(),
        uid: fields.get(2)?.parse().ok()?,
        gid,
        home: (*fields.get(5)?).into(),
        groups,
    })
}

/// An entry of a file that gives ids of a range to somebody.
#[derive(Debug, PartialEq, Eq)]
pub struct Claim {
    pub file: PathBuf,
    /// Who has the ids.
    pub entry: String,
    pub first: u64,
    pub last: u64,
}

impl fmt::Display for Claim {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Claim {
            file,
            entry,
            first,
            last,
        } = self;
        write!(formatter, "{} gives {entry} the id", file.display())?;
        if first == last {
            write!(formatter, " {first}")
        } else {
            write!(formatter, "s {first}-{last}")
        }
    }
}

/// The first entry that has ids of a range, of the files of a folder, /etc: users, groups, and ranges for user namespaces. A
/// machine's gid has the number of its uid, so the files of both are asked. One that is not there claims nothing.
pub fn first_claim(etc: &Path, first: u32, last: u32) -> Result<Option<Claim>, Error> {
    type Ids = fn(&[&str]) -> Vec<(u64, u64)>;
    let files: [(&str, Ids); 4] = [
        ("passwd", |fields| {
            let ids = [number(fields, 2), number(fields, 3)];
            ids.into_iter().flatten().map(|id| (id, id)).collect()
        }),
        ("group", |fields| {
            number(fields, 2).map(|id| (id, id)).into_iter().collect()
        }),
        ("subuid", range_of),
        ("subgid", range_of),
    ];
    let overlaps = |ids: &(u64, u64)| ids.0 <= u64::from(last) && ids.1 >= u64::from(first);
    for (name, ids) in files {
        let file = etc.join(name);
        let bytes = match fs::read(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.map_err(|_| Error::Unreadable(file.clone()))?,
        };
        for line in String::from_utf8_lossy(&bytes).lines() {
            let fields: Vec<&str> = line.split(':').map(str::trim).collect();
            if let Some((first, last)) = ids(&fields).into_iter().find(overlaps) {
                let entry = (*fields.first().unwrap_or(&"")).to_string();
                return Ok(Some(Claim {
                    file,
                    entry,
                    first,
                    last,
                }));
            }
        }
    }
    Ok(None)
}

fn number(fields: &[&str], at: usize) -> Option<u64> {
    fields.get(at)?.parse().ok()
}

/// Of a line `NAME:FIRST:COUNT`.
fn range_of(fields: &[&str]) -> Vec<(u64, u64)> {
    match (number(fields, 1), number(fields, 2)) {
        (Some(first), Some(count @ 1..)) => vec![(first, first.saturating_add(count - 1))],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0::/root:/bin/sh\nhpcc:x:990:991::/var/lib/hpcc:/bin/false\nbad:x:1\n";
    const GROUP: &str = "kvm:x:36:other,hpcc\nhpcc:x:991:\nbroken\nnone:x:x:hpcc\n";

    #[test]
    fn a_user_is_found_with_all_its_groups() {
        let user = from_files("hpcc", PASSWD, GROUP).unwrap();
        assert_eq!((user.uid, user.gid, user.groups), (990, 991, vec![991, 36]));
        assert_eq!(from_files("bad", PASSWD, GROUP), None);
        assert_eq!(from_files("nobody-here", PASSWD, GROUP), None);
    }

    #[test]
    fn root_is_refused_by_name_and_by_number() {
        assert_eq!(find("root"), Err(Error::Root("root".into())));
        assert_eq!(find("0:5"), Err(Error::Root("0:5".into())));
        assert_eq!(find("5:0"), Err(Error::Root("5:0".into())));
        assert_eq!(find("4000:4001").unwrap().groups, vec![4001]);
        assert_eq!(find("x:y"), Err(Error::Unknown("x:y".into())));
    }

    #[test]
    fn ids_of_users_groups_and_user_namespaces_are_somebodys() {
        let etc = tempfile::tempdir().unwrap();
        let claim = |first, last| {
            let claim = first_claim(etc.path(), first, last).unwrap()?;
            let path = etc.path().display().to_string();
            Some(claim.to_string().replace(&path, "/etc"))
        };
        assert_eq!(claim(1000, 60_000), None, "no file is no claim");
        let write = |name: &str, text: &[u8]| fs::write(etc.path().join(name), text).unwrap();
        write(
            "passwd",
            b"root:x:0:0::/:/bin/sh\nann:x:2000:2500:\xff:/:/bin/sh\n",
        );
        write("group", b"broken\nusers:x:3000:ann\n");
        write(
            "subuid",
            b"# range:s\nann:100000:65536\nnone:500:0\n1000:x:1\n",
        );
        write(
            "subgid",
            b"ann:300000:10\nall:400000:18446744073709551615\n",
        );
        for (first, last, said) in [
            (1999, 2000, "/etc/passwd gives ann the id 2000"),
            (2500, 2501, "/etc/passwd gives ann the id 2500"),
            (3000, 3000, "/etc/group gives users the id 3000"),
            (
                99_000,
                100_000,
                "/etc/subuid gives ann the ids 100000-165535",
            ),
            (
                165_535,
                170_000,
                "/etc/subuid gives ann the ids 100000-165535",
            ),
            (
                120_000,
                120_001,
                "/etc/subuid gives ann the ids 100000-165535",
            ),
            (
                300_009,
                300_009,
                "/etc/subgid gives ann the ids 300000-300009",
            ),
        ] {
            assert_eq!(claim(first, last).as_deref(), Some(said), "{first}-{last}");
        }
        assert!(
            claim(4_000_000, 4_000_001)
                .unwrap()
                .contains("subgid gives all")
        );
        for (first, last) in [
            (2001, 2499),
            (3001, 99_999),
            (165_536, 299_999),
            (300_010, 399_999),
        ] {
            assert_eq!(claim(first, last), None, "{first}-{last}");
        }
        fs::remove_file(etc.path().join("subuid")).unwrap();
        fs::create_dir(etc.path().join("subuid")).unwrap();
        assert!(matches!(
            first_claim(etc.path(), 5000, 5001),
            Err(Error::Unreadable(_))
        ));
    }
}
