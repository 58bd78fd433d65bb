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
    /// Is not below a folder where it must be.
    Outside,
}

/// The trees in which an execution may write; also the only ones where inputs (the first) and outputs (both) lie.
pub const WRITABLE_TREES: [&[u8]; 2] = [b"/hpcc", b"/tmp"];

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

/// Checks a path strictly below one of `trees` and gives it relative to the root (without its first slash).
pub fn check_below<'path>(path: &'path [u8], trees: &[&[u8]]) -> Result<&'path [u8], PathError> {
    check_absolute(path)?;
    let inside = trees.iter().any(|tree| {
        path.strip_prefix(*tree)
            .is_some_and(|rest| rest.len() > 1 && rest[0] == b'/')
    });
    if inside {
        Ok(&path[1..])
    } else {
        Err(PathError::Outside)
    }
}

/// The folders above a relative path, outermost first, without the path itself.
pub fn parents(relative: &[u8]) -> impl Iterator<Item = &[u8]> {
    relative
        .iter()
        .enumerate()
        .filter(|&(_, &byte)| byte == b'/')
        .map(|(at, _)| &relative[..at])
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
    fn only_paths_strictly_below_a_tree_pass() {
        let trees = [b"/hpcc".as_slice()];
        assert_eq!(check_below(b"/hpcc/x", &trees), Ok(&b"hpcc/x"[..]));
        for path in [&b"/hpcc"[..], b"/hpccx", b"/hpccx/y", b"/usr/x", b"/"] {
            assert_eq!(
                check_below(path, &trees),
                Err(PathError::Outside),
                "{path:?}"
            );
        }
        assert_eq!(check_below(b"/hpcc/", &trees), Err(PathError::NotNormal));
    }

    #[test]
    fn parents_come_outermost_first() {
        assert_eq!(
            parents(b"hpcc/a/b.c").collect::<Vec<_>>(),
            [&b"hpcc"[..], b"hpcc/a"]
        );
        assert_eq!(parents(b"x").count(), 0);
    }
}
