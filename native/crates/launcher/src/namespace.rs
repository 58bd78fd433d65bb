//! Kept namespaces: opened by their holder's pid, compared by inode, entered user namespace first.

use crate::sys;
use hpcc_frames::NamespaceRef;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// An opened namespace, verified to be the expected one: the holder may end now, the descriptors stay.
pub struct Namespace {
    /// Owns the mount namespace, and so must be entered before it; none where it is the launcher's own.
    owner: Option<OwnedFd>,
    /// The holder's own where it is a further one: bubblewrap's `--dev` leaves its mount namespace to a user namespace
    /// above the program's.
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
        let own = sys::stat(b"/proc/self/ns/user")?.ino;
        let (owner, user) = match reference.user_ino {
            None => (None, None),
            Some(expected) => {
                let user = sys::open_at(holder.as_raw_fd(), b"ns/user", libc::O_RDONLY, 0)?;
                if ino_of(&user)? != expected {
                    return Err(stale());
                }
                let owner = owning_user_namespace(&mount)?;
                let owner_ino = ino_of(&owner)?;
                // Entering the user namespace that one is in is refused by the kernel, and needless.
                let owner = (owner_ino != own).then_some(owner);
                let user = (expected != own && expected != owner_ino).then_some(user);
                (owner, user)
            }
        };
        let root = sys::open_at(
            holder.as_raw_fd(),
            b"root",
            libc::O_PATH | libc::O_DIRECTORY,
            0,
        )?;
        Ok(Namespace {
            owner,
            user,
            mount,
            root,
        })
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

    /// Whether there is something at a path of the namespace. Where that cannot be known there is nothing.
    pub fn has(&self, path: &[u8]) -> bool {
        matches!(self.open_inside(path), Ok(Some(_)))
    }

    /// Opens a path of the namespace, absolute links included; none where the kernel is too old for it.
    fn open_inside(&self, path: &[u8]) -> io::Result<Option<OwnedFd>> {
        let path = sys::c_string(path)?;
        match open_in_root(self.root.as_fd(), &path) {
            Ok(fd) => Ok(Some(fd)),
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Moves this process in. The process must have one thread; its folder is the namespace's root afterwards.
    pub fn enter(&self) -> io::Result<()> {
        if let Some(owner) = &self.owner {
            set_namespace(owner, libc::CLONE_NEWUSER)?;
        }
        set_namespace(&self.mount, libc::CLONE_NEWNS)?;
        if let Some(user) = &self.user {
            set_namespace(user, libc::CLONE_NEWUSER)?;
        }
        Ok(())
    }
}

fn set_namespace(namespace: &OwnedFd, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: no pointers.
    sys::check(unsafe { libc::setns(namespace.as_raw_fd(), kind) }).map(drop)
}

/// `NS_GET_USERNS` of linux/nsfs.h.
const NS_GET_USERNS: libc::Ioctl = 0xb701;

fn owning_user_namespace(namespace: &OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: the request has no argument and returns a descriptor.
    let fd = sys::check(unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS) })?;
    // SAFETY: the kernel just gave us this descriptor; it is opened with O_CLOEXEC.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opens a path below a root folder, in which all links lead within it.
pub fn open_in_root(root: BorrowedFd, path: &std::ffi::CStr) -> io::Result<OwnedFd> {
    // SAFETY: all zeroes is a valid `open_how`.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (libc::O_PATH | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_IN_ROOT;
    // SAFETY: both pointers live over the call, and the size is that of `how`.
    let result = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            root.as_raw_fd(),
            path.as_ptr(),
            &raw const how,
            size_of::<libc::open_how>(),
        )
    };
    let fd = sys::check(i32::try_from(result).unwrap_or(-1))?;
    // SAFETY: the kernel just gave us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
