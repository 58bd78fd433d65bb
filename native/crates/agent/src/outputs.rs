//! Declared outputs of an ended execution. Every process of its sandbox is dead, so nothing changes under the agent.
// UNTRUSTED: the tenant's program made these files.
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

/// A regular file that was declared.
#[derive(Debug)]
pub struct Output {
    file: File,
    pub size: u64,
    pub executable: bool,
}

impl Output {
    /// Opens a declared output beneath `root`; None when there is no regular file, or only one behind a link.
    pub fn open(root: &OwnedFd, path: &[u8]) -> io::Result<Option<Output>> {
        let flags =
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_MAGICLINKS
            | ResolveFlags::NO_XDEV;
        let file = match rustix::fs::openat2(root.as_fd(), path, flags, Mode::empty(), resolve) {
            Ok(file) => file,
            Err(error)
                if error == rustix::io::Errno::MFILE || error == rustix::io::Errno::NOMEM =>
            {
                return Err(error.into());
            }
            Err(_absent) => return Ok(None),
        };
        let status = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        let executable = status.st_mode & 0o100 != 0;
        Ok(Some(Output {
            file: File::from(file),
            size: u64::try_from(status.st_size).unwrap_or(0),
            executable,
        }))
    }

    /// Reads exactly `size` bytes at an offset.
    pub fn read(&self, offset: u64, size: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; size];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }
}

/// True when the file system of an execution has no room left.
pub fn file_system_full(root: &OwnedFd) -> bool {
    rustix::fs::fstatvfs(root).is_ok_and(|status| status.f_bavail == 0 || status.f_favail == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn only_regular_files_that_no_link_hides_are_outputs() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("d")).unwrap();
        std::fs::write(at("d/plain"), b"12345").unwrap();
        std::fs::write(at("program"), b"x").unwrap();
        std::fs::set_permissions(at("program"), std::fs::Permissions::from_mode(0o700)).unwrap();
        symlink("d/plain", at("link")).unwrap();
        symlink("/etc/hostname", at("out")).unwrap();
        symlink("d", at("folder-link")).unwrap();
        symlink("/proc/self/fd/0", at("magic")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        let root = OwnedFd::from(File::open(folder.path()).unwrap());

        let plain = Output::open(&root, b"d/plain").unwrap().unwrap();
        assert_eq!((plain.size, plain.executable), (5, false));
        assert_eq!(plain.read(1, 3).unwrap(), b"234");
        assert!(plain.read(1, 5).is_err());
        assert!(Output::open(&root, b"program").unwrap().unwrap().executable);
        for name in [
            "absent",
            "d",
            "d/absent",
            "d/plain/x",
            "link",
            "out",
            "folder-link/plain",
            "magic",
            "fifo",
            "socket",
            "../x",
        ] {
            assert!(
                Output::open(&root, name.as_bytes()).unwrap().is_none(),
                "{name}"
            );
        }
    }
}
