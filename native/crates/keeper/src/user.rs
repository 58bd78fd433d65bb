//! Users and groups as the files in /etc say: the keeper is static and asks no name service.
use std::fmt;
use std::fs;

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
    Unreadable(&'static str),
    Unknown(String),
    Root(String),
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unreadable(file) => write!(formatter, "cannot read {file}"),
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
    let passwd = fs::read_to_string("/etc/passwd").map_err(|_| Error::Unreadable("/etc/passwd"))?;
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
        let member = fields.get(3).is_some_and(|members| members.split(',').any(|member| member == name));
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

/// Whether /etc/passwd gives a uid of the range to somebody.
pub fn first_named(first: u32, last: u32) -> Option<String> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let uid: u32 = fields.get(2)?.parse().ok()?;
        (uid >= first && uid <= last).then(|| (*fields.first().unwrap_or(&"")).to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nhpcc:x:990:991::/var/lib/hpcc:/bin/false\nbad:x:1\n";
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
}
