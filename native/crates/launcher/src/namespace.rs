//! Kept namespaces: opened by their holder's pid, compared by inode, entered user namespace first.

use crate::sys;
use hpcc_frames::NamespaceRef;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

/// An opened namespace, verified to be the expected one: the holder may end now, the descriptors stay.
pub struct Namespace {
    user: Option<OwnedFd>,
    mount: OwnedFd,
    root: OwnedFd,
}

fn stale() -> io::Error {
    io::Error::from_raw_os_error(libc::ESTALE)
}

fn ino_of(fd: &OwnedFd) -> io::Result<u64> {
    Ok(sys::fstat(fd.as_fd())?.ino)
}

impl Namespace {
    /// Opens and compares. ESTALE when the pid is another process by now.
    pub fn open(reference: &NamespaceRef) -> io::Result<Namespace> {
        let folder = format!("/proc/{}", reference.holder_pid);
        let holder = sys::open(folder.as_bytes(), libc::O_PATH | libc::O_DIRECTORY, 0)?;
        let mount = sys::open_at(holder.as_raw_fd(), b"ns/mnt", libc::O_RDONLY, 0)?;
        if ino_of(&mount)? != reference.mount_ino {
            return Err(stale());
        }
        let user = match reference.user_ino {
            None => None,
            Some(expected) => {
                let user = sys::open_at(holder.as_raw_fd(), b"ns/user", libc::O_RDONLY, 0)?;
                if ino_of(&user)? != expected {
                    return Err(stale());
                }
                // Entering the user namespace that one is in is refused by the kernel, and needless.
                let own = sys::stat(b"/proc/self/ns/user").map(|stat| stat.ino).ok();
                (own != Some(expected)).then_some(user)
            }
        };
        let root = sys::open_at(
            holder.as_raw_fd(),
            b"root",
            libc::O_PATH | libc::O_DIRECTORY,
            0,
        )?;
        Ok(Namespace { user, mount, root })
    }

    /// Whether the program and the folder are there, seen from outside: after `enter` there is no way back.
    pub fn check(&self, program: &[u8], folder: &[u8]) -> io::Result<()> {
        if let Some(file) = self.open_inside(program)? {
            let stat = sys::fstat(file.as_fd())?;
            if !stat.is_regular() || stat.mode & 0o111 == 0 {
                return Err(io::Error::from_raw_os_error(libc::EACCES));
            }
        }
        if let Some(file) = self.open_inside(folder)?
            && !sys::fstat(file.as_fd())?.is_folder()
        {
            return Err(io::Error::from_raw_os_error(libc::ENOTDIR));
        }
        Ok(())
    }

    /// Opens a path of the namespace, absolute links included; none where the kernel is too old for it.
    fn open_inside(&self, path: &[u8]) -> io::Result<Option<OwnedFd>> {
        let path = sys::c_string(path)?;
        match open_in_root(self.root.as_raw_fd(), &path) {
            Ok(fd) => Ok(Some(fd)),
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Moves this process in. The process must have one thread; its folder is the namespace's root afterwards.
    pub fn enter(&self) -> io::Result<()> {
        if let Some(user) = &self.user {
            // SAFETY: no pointers.
            sys::check(unsafe { libc::setns(user.as_raw_fd(), libc::CLONE_NEWUSER) })?;
        }
        // SAFETY: no pointers.
        sys::check(unsafe { libc::setns(self.mount.as_raw_fd(), libc::CLONE_NEWNS) }).map(drop)
    }
}

fn open_in_root(root: RawFd, path: &std::ffi::CStr) -> io::Result<OwnedFd> {
    // SAFETY: all zeroes is a valid `open_how`.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (libc::O_PATH | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_IN_ROOT;
    // SAFETY: both pointers live over the call, and the size is that of `how`.
    let result = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            root,
            path.as_ptr(),
            &raw const how,
            size_of::<libc::open_how>(),
        )
    };
    let fd = sys::check(i32::try_from(result).unwrap_or(-1))?;
    // SAFETY: the kernel just gave us this descriptor.
    Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) })
}
