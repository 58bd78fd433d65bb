//! Paths of a sandbox as they come in a request: bytes, checked before anything uses them.
// UNTRUSTED: the worker, and through it the tenant.
use crate::limits::{NAME_BYTES_MAX, PATH_BYTES_MAX};

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathError {
    /// Empty, or longer than the kernel takes.
    Length,
    /// Does not start with a slash.
    Relative,
    /// Holds a NUL, an empty name, `.`, `..`, a name that is too long, or ends with a slash.
    NotNormal,
    /// Is not where a job's files or folders may be.
    Outside,
}

/// Top-level names that always are the toolchain's or the sandbox's own. Below every other one a job may have its files.
const RESERVED_NAMES: [&[u8]; 15] = [
    b"bin", b"boot", b"dev", b"etc", b"lib", b"lib32", b"lib64", b"libo32", b"libx32", b"proc",
    b"run", b"sbin", b"sys", b"usr", b"",
];

/// Checks an absolute, normalised path; `/` itself passes.
pub fn check_absolute(path: &[u8]) -> Result<(), PathError> {
    if path.is_empty() || path.len() > PATH_BYTES_MAX {
        return Err(PathError::Length);
    }
    let Some(rest) = path.strip_prefix(b"/") else {
        return Err(PathError::Relative);
    };
    if rest.is_empty() {
        return Ok(());
    }
    let normal = rest.split(|&byte| byte == b'/').all(|name| {
        !name.is_empty()
            && name != b"."
            && name != b".."
            && name.len() <= NAME_BYTES_MAX
            && !name.contains(&0)
    });
    if normal {
        Ok(())
    } else {
        Err(PathError::NotNormal)
    }
}

/// Checks the path of a job's folder and gives it relative to the root (without its first slash).
pub fn check_folder(path: &[u8]) -> Result<&[u8], PathError> {
    check_absolute(path)?;
    let relative = &path[1..];
    if RESERVED_NAMES.contains(&top_name(relative)) {
        Err(PathError::Outside)
    } else {
        Ok(relative)
    }
}

/// Checks the path of a job's file, which lies below a top-level folder, and gives it relative to the root.
pub fn check_file(path: &[u8]) -> Result<&[u8], PathError> {
    match check_folder(path) {
        Ok(relative) if !relative.contains(&b'/') => Err(PathError::Outside),
        checked => checked,
    }
}

/// The first name of a relative path.
pub fn top_name(relative: &[u8]) -> &[u8] {
    relative
        .split(|&byte| byte == b'/')
        .next()
        .unwrap_or(relative)
}

/// The folder of a relative path, empty for the root, and the name in it.
pub fn split_name(relative: &[u8]) -> (&[u8], &[u8]) {
    match relative.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&relative[..at], &relative[at + 1..]),
        None => (b"", relative),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_and_normalised_paths_pass() {
        for path in [
            &b"/"[..],
            b"/a",
            b"/a/b.c",
            b"/hpcc/project/\xff\xfe.c",
            b"/...",
            b"/a/..b",
            b"/ ",
        ] {
            assert_eq!(check_absolute(path), Ok(()), "{path:?}");
        }
    }

    #[test]
    fn hostile_paths_are_refused() {
        let long_name = [b"/".as_slice(), &[b'a'; 256]].concat();
        let long_path = b"/a".repeat(2048);
        for (path, error) in [
            (&b""[..], PathError::Length),
            (&long_path, PathError::Length),
            (b"a", PathError::Relative),
            (b"./a", PathError::Relative),
            (b"//", PathError::NotNormal),
            (b"/a/", PathError::NotNormal),
            (b"/a//b", PathError::NotNormal),
            (b"/a/./b", PathError::NotNormal),
            (b"/..", PathError::NotNormal),
            (b"/hpcc/../etc/passwd", PathError::NotNormal),
            (b"/a\0b", PathError::NotNormal),
            (&long_name, PathError::NotNormal),
        ] {
            assert_eq!(check_absolute(path), Err(error), "{path:?}");
        }
    }

    #[test]
    fn a_job_has_what_is_not_reserved() {
        for path in [
            "hpcc/x",
            "home/ann/x",
            "tmp/x",
            "var/lib/y",
            "usrx/y",
            "library/x",
        ] {
            let absolute = format!("/{path}");
            assert_eq!(check_file(absolute.as_bytes()), Ok(path.as_bytes()));
            assert_eq!(check_folder(absolute.as_bytes()), Ok(path.as_bytes()));
        }
        for name in RESERVED_NAMES {
            for below in ["", "/x", "/x/y"] {
                let path = [b"/", name, below.as_bytes()].concat();
                assert!(
                    check_file(&path).is_err() && check_folder(&path).is_err(),
                    "{path:?}"
                );
            }
        }
        assert_eq!(check_folder(b"/foo"), Ok(&b"foo"[..]));
        assert_eq!(check_file(b"/foo"), Err(PathError::Outside));
        assert_eq!(check_file(b"/hpcc/"), Err(PathError::NotNormal));
        assert_eq!(check_file(b"/"), Err(PathError::Outside));
    }

    #[test]
    fn names_are_split_off() {
        assert_eq!(split_name(b"a/b/c"), (&b"a/b"[..], &b"c"[..]));
        assert_eq!(split_name(b"a"), (&b""[..], &b"a"[..]));
        assert_eq!(top_name(b"a/b"), b"a");
        assert_eq!(top_name(b"a"), b"a");
    }
}
