//! The caller's environment and the settings read from it. Bytes as they are: entries without `=` included.

use crate::sys;
use std::ffi::CStr;
use std::time::Duration;

unsafe extern "C" {
    static environ: *const *const libc::c_char;
}

/// How long the daemon may say nothing, and how long it may take to start.
const DAEMON_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
const DAEMON_TIMEOUT_MS_MAX: u64 = 600_000;
const PASSWD_BYTES_MAX: u64 = 1024 * 1024;

pub struct Environment {
    pub entries: Vec<Vec<u8>>,
}

impl Environment {
    /// The process's own.
    pub fn own() -> Environment {
        let mut entries = Vec::with_capacity(64);
        // SAFETY: `environ` is a table of C strings that ends with a null pointer, and nothing here changes it.
        unsafe {
            let mut entry = environ;
            while !entry.is_null() && !(*entry).is_null() {
                entries.push(CStr::from_ptr(*entry).to_bytes().to_vec());
                entry = entry.add(1);
            }
        }
        Environment { entries }
    }

    /// A variable's value, also if empty.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.entries
            .iter()
            .find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    }

    fn absolute(&self, name: &str) -> Option<&[u8]> {
        self.get(name).filter(|value| value.first() == Some(&b'/'))
    }

    /// Set, and neither empty nor `0`.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|value| !value.is_empty() && value != b"0")
    }

    /// A variable that names a folder of the user's own, or one that he may make. Anybody else's is not used: a `sudo make` with
    /// the caller's environment would leave folders in his home that he cannot write to.
    fn own_folder(&self, name: &str) -> Option<&[u8]> {
        self.absolute(name).filter(|folder| is_own_place(folder))
    }

    /// The user's home: HOME where it is his own, else what the machine's list of users says.
    pub fn home(&self) -> Option<Vec<u8>> {
        let home = self.absolute("HOME").map(<[u8]>::to_vec);
        home.filter(|home| is_own(home))
            .or_else(|| listed_home().filter(|home| is_own(home)))
    }

    /// The folder of the daemon's socket, and whether its parents may be made too.
    pub fn runtime_folder(&self) -> Vec<u8> {
        if let Some(folder) = self.absolute("HPCC_RUNTIME_DIR") {
            return folder.to_vec();
        }
        if let Some(folder) = self.own_folder("XDG_RUNTIME_DIR") {
            return join(folder, b"hpcc");
        }
        format!("/tmp/hpcc-{}", sys::effective_user()).into_bytes()
    }

    /// The folder of plans and logs.
    pub fn state_folder(&self) -> Vec<u8> {
        if let Some(folder) = self.absolute("HPCC_STATE_DIR") {
            return folder.to_vec();
        }
        if let Some(folder) = self.own_folder("XDG_STATE_HOME") {
            return join(folder, b"hpcc");
        }
        match self.home() {
            Some(home) => join(&home, b".local/state/hpcc"),
            None => join(&self.runtime_folder(), b"state"),
        }
    }

    /// The folder of node and hpcc.mjs.
    pub fn library_folder(&self) -> Option<Vec<u8>> {
        if let Some(folder) = self.absolute("HPCC_LIB_DIR") {
            return Some(folder.to_vec());
        }
        let own = std::fs::read_link("/proc/self/exe").ok()?;
        let bytes = std::os::unix::ffi::OsStrExt::as_bytes(own.as_os_str());
        Some(join(sys::parent_of(sys::parent_of(bytes)), b"lib/hpcc"))
    }

    pub fn daemon_timeout(&self) -> Duration {
        self.get("HPCC_DAEMON_TIMEOUT_MS")
            .and_then(|value| std::str::from_utf8(value).ok()?.parse::<u64>().ok())
            .filter(|&ms| (1..=DAEMON_TIMEOUT_MS_MAX).contains(&ms))
            .map_or(DAEMON_TIMEOUT_DEFAULT, Duration::from_millis)
    }

    /// The same entries with one variable set.
    pub fn with(&self, name: &str, value: &[u8]) -> Vec<Vec<u8>> {
        let mut entries = self.without(name).entries;
        entries.push([name.as_bytes(), b"=", value].concat());
        entries
    }

    /// The same entries without one variable.
    pub fn without(&self, name: &str) -> Environment {
        let prefix = [name.as_bytes(), b"="].concat();
        let is_other = |entry: &&Vec<u8>| !entry.starts_with(&prefix);
        Environment {
            entries: self.entries.iter().filter(is_other).cloned().collect(),
        }
    }
}

fn is_own(folder: &[u8]) -> bool {
    sys::stat(folder).is_ok_and(|stat| stat.is_folder() && stat.uid == sys::effective_user())
}

/// Whether a folder is the user's own, or the nearest one above it that is there is.
fn is_own_place(folder: &[u8]) -> bool {
    let mut at = folder;
    loop {
        match sys::stat(at) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) && at != b"/" => {
                at = sys::parent_of(at);
            }
            _ => return is_own(at),
        }
    }
}

/// The home folder of the effective user in `/etc/passwd`.
fn listed_home() -> Option<Vec<u8>> {
    let list = sys::read_file(b"/etc/passwd", PASSWD_BYTES_MAX).ok()?;
    home_in(&list, sys::effective_user())
}

fn home_in(list: &[u8], user: u32) -> Option<Vec<u8>> {
    let user = user.to_string().into_bytes();
    list.split(|&byte| byte == b'\n').find_map(|line| {
        let fields: Vec<_> = line.split(|&byte| byte == b':').collect();
        let home = fields.get(5)?;
        (fields.get(2)? == &user && home.first() == Some(&b'/')).then(|| home.to_vec())
    })
}

/// `folder/name`
pub fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    [folder, b"/", name].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_found_by_the_number_of_its_user() {
        let list = b"root:x:0:0:root:/root:/bin/sh\nann:x:7:7::/home/ann:\nodd:x:8\nbad:x:9:9::relative:/x\n";
        for (user, home) in [
            (0, Some("/root")),
            (7, Some("/home/ann")),
            (8, None),
            (9, None),
            (10, None),
        ] {
            let expected = home.map(|home| home.as_bytes().to_vec());
            assert_eq!(home_in(list, user), expected, "{user}");
        }
    }
}
