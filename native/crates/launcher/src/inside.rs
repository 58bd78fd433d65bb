//! The namespace of `hpcc run` (docs/images.md): the launcher stands in the place of the image's compilers, and these are kept
//! below REAL, each under its own path.

use crate::environment::{Environment, join};
use crate::invocation::FileId;
use crate::sys;
use std::io;

const REAL: &[u8] = b"/hpcc/real";
const MOUNTS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Whether this process is in such a namespace.
pub fn is_inside() -> bool {
    sys::lstat(REAL).is_ok()
}

/// The path by which a compiler was called: a name alone is the first launcher of that name on PATH.
pub fn called_path(name: &[u8], environment: &Environment, own: Option<FileId>) -> Vec<u8> {
    if name.first() == Some(&b'/') {
        return name.to_vec();
    }
    if name.contains(&b'/') {
        return sys::current_folder().map_or_else(|_| name.to_vec(), |folder| join(&folder, name));
    }
    environment
        .get("PATH")
        .unwrap_or_default()
        .split(|&byte| byte == b':')
        .map(|folder| join(folder, name))
        .find(|path| own.is_some() && FileId::of(path) == own)
        .unwrap_or_else(|| name.to_vec())
}

/// Moves this process into a copy of the namespace in which the compilers are the image's own. Needs no daemon and none of its files.
pub fn reveal() -> io::Result<()> {
    let mounts = std::fs::read("/proc/self/mountinfo")?;
    if mounts.len() > MOUNTS_BYTES_MAX {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    }
    sys::copy_mounts()?;
    for kept in kept_files(&mounts) {
        let place = kept.get(REAL.len()..).unwrap_or_default();
        sys::bind(&kept, place)?;
    }
    Ok(())
}

/// The mount points below REAL.
fn kept_files(mounts: &[u8]) -> Vec<Vec<u8>> {
    let prefix = [REAL, b"/"].concat();
    mounts
        .split(|&byte| byte == b'\n')
        .filter_map(|line| line.split(|&byte| byte == b' ').nth(4))
        .map(unescaped)
        .filter(|path| path.starts_with(&prefix))
        .collect()
}

/// A word of mountinfo, in which blanks and backslashes are `\` and three octal digits.
fn unescaped(word: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|_| first == b'\\');
        let code = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(Ok(byte)) = code.map(|code| u8::from_str_radix(code, 8)) {
            bytes.push(byte);
            rest = tail.get(3..).unwrap_or_default();
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_compilers_are_read_from_the_list_of_mounts() {
        let mounts = b"1 2 8:1 / / ro - ext4 /dev/sda ro\n\
            3 1 8:1 /r/usr/bin/gcc-12 /hpcc/real/usr/bin/gcc-12 ro - ext4 /dev/sda ro\n\
            4 1 8:1 /l /usr/bin/gcc-12 ro - ext4 /dev/sda ro\n\
            5 1 8:1 /x /hpcc/real/opt/a\\040b\\134/cc ro - ext4 /dev/sda ro\n\
            6 1 8:1 /x /hpcc/realm/cc ro - ext4 /dev/sda ro\n\nodd\n";
        let expected: [&[u8]; 2] = [b"/hpcc/real/usr/bin/gcc-12", b"/hpcc/real/opt/a b\\/cc"];
        assert_eq!(kept_files(mounts), expected);
        assert_eq!(unescaped(b"\\04"), b"\\04");
        assert_eq!(unescaped(b"\\999a"), b"\\999a");
    }

    #[test]
    fn a_path_by_which_a_compiler_was_called_stays_one() {
        let environment = Environment {
            entries: vec![b"PATH=/nowhere:/proc/self".to_vec()],
        };
        let own = FileId::of(b"/proc/self/exe");
        let called = |name: &[u8]| called_path(name, &environment, own);
        assert_eq!(called(b"/usr/bin/gcc"), b"/usr/bin/gcc");
        assert_eq!(called(b"exe"), b"/proc/self/exe");
        assert_eq!(called(b"gcc"), b"gcc");
        assert!(called(b"./gcc").ends_with(b"/./gcc"));
    }
}
