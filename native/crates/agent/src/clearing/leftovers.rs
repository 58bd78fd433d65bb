//! What can outlive the processes that made it, as the kernel lists it.
// UNTRUSTED: names that the session process and tenants' programs chose.
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rustix::fs::{AtFlags, Dir, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, UnmountFlags};

use crate::sandbox::layout;
use crate::sys::objects::{self, SysV};

/// What was counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Leftovers {
    pub processes: usize,
    pub mounts: usize,
    pub ipc: usize,
}

/// A count that could not be taken is not zero.
pub fn count(result: io::Result<usize>) -> usize {
    result.unwrap_or(1)
}

/// The number in the line of a table that begins with a name.
pub fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

const KERNEL_THREAD: u64 = 0x0020_0000;

/// Whether a line of /proc/PID/stat is a kernel thread's; the name in it may hold anything.
fn is_kernel_thread(stat: &str) -> bool {
    let flags = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(6)?.parse::<u64>().ok());
    flags.is_some_and(|flags| flags & KERNEL_THREAD != 0)
}

/// Processes beside this one and the kernel's.
pub fn processes() -> io::Result<usize> {
    let mut found = 0;
    for entry in fs::read_dir(layout::PROC)? {
        let name = entry?.file_name();
        let pid = name.to_str().and_then(|name| name.parse::<u32>().ok());
        let Some(pid) = pid.filter(|&pid| pid != 1) else {
            continue;
        };
        match fs::read(format!("{}/{pid}/stat", layout::PROC)) {
            Ok(stat) if is_kernel_thread(&String::from_utf8_lossy(&stat)) => {}
            // Gone since.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            _ => found += 1,
        }
    }
    Ok(found)
}

/// Every mount of this namespace: its number and where it is.
pub fn mounts() -> io::Result<BTreeSet<String>> {
    let text = fs::read(format!("{}/self/mountinfo", layout::PROC))?;
    Ok(String::from_utf8_lossy(&text)
        .lines()
        .map(|line| {
            let mut fields = line.split(' ');
            let number = fields.next().unwrap_or("");
            format!("{number} {}", fields.nth(3).unwrap_or(""))
        })
        .collect())
}

/// Unmounts what is not in the set.
pub fn unmount_all_but(kept: &BTreeSet<String>) {
    let Ok(found) = mounts() else { return };
    for mount in found.difference(kept) {
        if let Some((_, path)) = mount.split_once(' ') {
            let _ = rustix::mount::unmount(unescaped(path), UnmountFlags::DETACH);
        }
    }
}

/// A path of mountinfo, in which blanks and backslashes are three octal digits.
fn unescaped(path: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        let code = match after {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if *first == b'\\' => {
                Some((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'))
            }
            _ => None,
        };
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    OsString::from_vec(bytes).into()
}

const SYSV: [(SysV, &str); 3] = [
    (SysV::Memory, "shm"),
    (SysV::Semaphores, "sem"),
    (SysV::Messages, "msg"),
];

/// Identifiers of the System V objects of a kind in this namespace; none when the kernel has no such objects.
fn sysv(name: &str) -> io::Result<Vec<i32>> {
    match fs::read_to_string(format!("{}/sysvipc/{name}", layout::PROC)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        text => Ok(text?
            .lines()
            .skip(1)
            .filter_map(|line| line.split_ascii_whitespace().nth(1)?.parse().ok())
            .collect()),
    }
}

pub fn remove_sysv() {
    for (kind, name) in SYSV {
        for id in sysv(name).unwrap_or_default() {
            let _ = objects::remove_sysv(kind, id);
        }
    }
}

pub fn sysv_count() -> io::Result<usize> {
    SYSV.iter().map(|(_, name)| Ok(sysv(name)?.len())).sum()
}

/// Gives the folder and names of the POSIX message queues of this namespace to `each`; nothing when the kernel has no queues.
fn queues(mut each: impl FnMut(&Dir, &std::ffi::CStr)) -> io::Result<usize> {
    let fs = match rustix::mount::fsopen("mqueue", FsOpenFlags::FSOPEN_CLOEXEC) {
        Err(Errno::NODEV) => return Ok(0),
        fs => fs?,
    };
    rustix::mount::fsconfig_create(&fs)?;
    let root = rustix::mount::fsmount(
        &fs,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_NOSUID,
    )?;
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(&root, ".", flags, rustix::fs::Mode::empty())?;
    let mut folder = Dir::new(root)?;
    let mut found = 0;
    while let Some(entry) = folder.next() {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            found += 1;
            each(&folder, entry.file_name());
        }
    }
    Ok(found)
}

pub fn remove_queues() {
    let _ = queues(|folder, name| {
        if let Ok(folder) = folder.fd() {
            let _ = rustix::fs::unlinkat(folder, name, AtFlags::empty());
        }
    });
}

pub fn queues_count() -> io::Result<usize> {
    queues(|_, _| {})
}

/// Serial numbers of the keys that still work; none when the kernel has no keys.
pub fn keys() -> io::Result<BTreeSet<i32>> {
    match fs::read(format!("{}/keys", layout::PROC)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(BTreeSet::new()),
        text => Ok(String::from_utf8_lossy(&text?)
            .lines()
            .filter_map(live_key)
            .collect()),
    }
}

/// The serial number of a line of /proc/keys, unless its key is revoked, dead or invalidated.
fn live_key(line: &str) -> Option<i32> {
    let mut fields = line.split_ascii_whitespace();
    let serial = u32::from_str_radix(fields.next()?, 16).ok()?;
    let dead = fields.next()?.contains(['R', 'D', 'i']);
    (!dead).then_some(serial as i32)
}

pub fn remove_keys_but(kept: &BTreeSet<i32>) {
    for &serial in keys().unwrap_or_default().difference(kept) {
        objects::remove_key(serial);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_threads_are_told_by_their_flag_alone() {
        assert!(is_kernel_thread("2 (kthreadd) S 0 0 0 0 -1 2129984 0 0"));
        assert!(!is_kernel_thread("9 (sh) S 1 9 9 0 -1 4194304 0 0"));
        assert!(!is_kernel_thread(
            "9 (2 (kthreadd) S 0 0 0 0 -1 2129984 0 0) S 1 9 9 0 -1 4194304 0 0"
        ));
        assert!(!is_kernel_thread("rubbish"));
    }

    #[test]
    fn paths_of_mounts_are_unescaped() {
        for (text, path) in [
            ("/a", "/a"),
            ("/a\\040b\\134", "/a b\\"),
            ("/a\\04", "/a\\04"),
            ("\\999", "\\999"),
        ] {
            assert_eq!(unescaped(text), PathBuf::from(path), "{text}");
        }
    }

    #[test]
    fn keys_that_no_longer_work_are_none() {
        let line =
            |flags| format!("2b3f0a11 {flags}     1 perm 3f010000     0     0 user      x: 3");
        assert_eq!(live_key(&line("I--Q---")), Some(0x2b3f_0a11));
        assert_eq!(live_key(&line("IR-Q---")), None);
        assert_eq!(live_key(&line("I--Q--i")), None);
        assert_eq!(live_key(""), None);
    }

    #[test]
    fn fields_of_tables_are_found() {
        let text = "Shmem:             12 kB\nShmemHugePages:    7 kB\n";
        assert_eq!(field(text, "Shmem:"), Some(12));
        assert_eq!(field(text, "Swap:"), None);
    }

    #[test]
    fn this_machines_own_tables_are_understood() {
        assert!(processes().unwrap() > 0);
        assert!(mounts().unwrap().iter().any(|mount| mount.ends_with(" /")));
        sysv_count().unwrap();
    }
}
