//! Folders that only root can change, opening beneath a folder without following links, and removing trees that others made.
use std::ffi::CStr;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Stat, Uid, chownat, fchmod, fstat, fstatfs, mkdirat,
    openat, openat2, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

use crate::fault::{Doing, IoFault};

const TMPFS: i64 = 0x0102_1994;
const RAMFS: i64 = 0x8584_58f6;

#[derive(Debug)]
pub enum Error {
    Io(IoFault),
    NotAbsolute(PathBuf),
    /// Somebody other than root can change it.
    Untrusted(PathBuf),
    /// Its files are memory.
    InMemory(PathBuf),
    NotOneFileSystem(PathBuf, PathBuf),
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io(fault) => fault.fmt(formatter),
            Error::NotAbsolute(path) => {
                write!(formatter, "{}: give an absolute path without \"..\"", path.display())
            }
            Error::Untrusted(path) => write!(
                formatter,
                "{}: must be root's and writable by nobody else, like every folder above it",
                path.display()
            ),
            Error::InMemory(path) => write!(
                formatter,
                "{}: is on a tmpfs, where a snapshot would take the memory that it is to free; name a folder on a disk",
                path.display()
            ),
            Error::NotOneFileSystem(one, other) => write!(
                formatter,
                "{} and {} are on different file systems; snapshots are hard links, so put both on one",
                one.display(),
                other.display()
            ),
        }
    }
}

impl std::error::Error for Error {}

impl From<IoFault> for Error {
    fn from(fault: IoFault) -> Error {
        Error::Io(fault)
    }
}

/// A folder that is root's, in folders that are root's.
#[derive(Debug)]
pub struct Folder {
    pub fd: OwnedFd,
    pub path: PathBuf,
}

impl Folder {
    /// Opens a folder and makes its last parts when they are missing. Each part is opened in turn without following links,
    /// and must be root's alone; a sticky folder such as /tmp is passed through.
    pub fn open(path: &Path, mode: u32) -> Result<Folder, Error> {
        if !path.is_absolute() {
            return Err(Error::NotAbsolute(path.into()));
        }
        let mut so_far = PathBuf::from("/");
        let mut fd = open_folder(CWD, "/").doing(|| "open /".into())?;
        let parts: Vec<_> = path.components().skip(1).collect();
        for (index, part) in parts.iter().enumerate() {
            let Component::Normal(name) = part else {
                return Err(Error::NotAbsolute(path.into()));
            };
            so_far.push(name);
            let last = index + 1 == parts.len();
            let next = match open_folder(fd.as_fd(), *name) {
                Err(Errno::NOENT) => {
                    mkdirat(&fd, *name, Mode::from_raw_mode(if last { mode } else { 0o755 }))
                        .doing(|| format!("make {}", so_far.display()))?;
                    open_folder(fd.as_fd(), *name)
                }
                other => other,
            };
            fd = next.doing(|| format!("open {} as a folder", so_far.display()))?;
            let stat = fstat(&fd).doing(|| format!("examine {}", so_far.display()))?;
            let sticky = stat.st_mode & 0o1000 != 0 && !last;
            if stat.st_uid != 0 || (stat.st_mode & 0o022 != 0 && !sticky) {
                return Err(Error::Untrusted(so_far));
            }
        }
        fchmod(&fd, Mode::from_raw_mode(mode)).doing(|| format!("set the mode of {}", so_far.display()))?;
        Ok(Folder { fd, path: so_far })
    }

    /// Opens a folder in it, made when it is missing; root's, with a mode and a group.
    pub fn child(&self, name: &str, mode: u32, gid: u32) -> Result<Folder, Error> {
        let path = self.path.join(name);
        match mkdirat(&self.fd, name, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => Err(errno).doing(|| format!("make {}", path.display()))?,
        }
        let fd = beneath(self.fd.as_fd(), name, OFlags::RDONLY | OFlags::DIRECTORY)
            .doing(|| format!("open {} as a folder", path.display()))?;
        own(fd.as_fd(), 0, gid, mode).doing(|| format!("own {}", path.display()))?;
        Ok(Folder { fd, path })
    }

    /// Removes a thing of it, whatever it is, with all that is in it.
    pub fn remove(&self, name: &str) -> Result<(), IoFault> {
        remove_tree(self.fd.as_fd(), name).doing(|| format!("remove {}", self.path.join(name).display()))
    }

    /// Refuses file systems whose files are memory.
    pub fn refuse_memory(&self) -> Result<(), Error> {
        let stat = fstatfs(&self.fd).doing(|| format!("examine the file system of {}", self.path.display()))?;
        #[allow(clippy::unnecessary_cast)]
        let kind = stat.f_type as i64;
        if kind == TMPFS || kind == RAMFS {
            return Err(Error::InMemory(self.path.clone()));
        }
        Ok(())
    }

    /// Refuses two folders between which no hard link can be.
    pub fn refuse_other_file_system(&self, other: &Folder) -> Result<(), Error> {
        let here = fstat(&self.fd).doing(|| format!("examine {}", self.path.display()))?;
        let there = fstat(&other.fd).doing(|| format!("examine {}", other.path.display()))?;
        if here.st_dev != there.st_dev {
            return Err(Error::NotOneFileSystem(self.path.clone(), other.path.clone()));
        }
        Ok(())
    }
}

fn open_folder<P: rustix::path::Arg>(parent: BorrowedFd<'_>, name: P) -> rustix::io::Result<OwnedFd> {
    openat(
        parent,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// Opens beneath a folder: no link is followed, no mount point crossed, nothing outside reached. UNTRUSTED: who can write there.
pub fn beneath<P: rustix::path::Arg>(folder: BorrowedFd<'_>, path: P, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    openat2(
        folder,
        path,
        flags | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV,
    )
}

/// Gives an opened folder or file an owner and a mode.
fn own(fd: BorrowedFd<'_>, uid: u32, gid: u32, mode: u32) -> rustix::io::Result<()> {
    rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    fchmod(fd, Mode::from_raw_mode(mode))
}

/// Gives the thing behind an O_PATH descriptor an owner and a mode: that thing, whatever its name leads to by now.
pub fn own_held(fd: BorrowedFd<'_>, uid: u32, gid: u32, mode: u32) -> rustix::io::Result<()> {
    use std::os::fd::AsRawFd;
    chownat(fd, "", Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::EMPTY_PATH)?;
    // The link in /proc leads to the very file. (fchmodat2 would do, from Linux 6.6 on.)
    rustix::fs::chmod(format!("/proc/self/fd/{}", fd.as_raw_fd()), Mode::from_raw_mode(mode))
}

/// What kind of thing a stat tells of.
pub fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Removes a name and, when it is a folder, all that is in it. Follows no link and enters no mount. UNTRUSTED: who made the tree
pub fn remove_tree(parent: BorrowedFd<'_>, name: &str) -> rustix::io::Result<()> {
    match beneath(parent, name, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(folder) => empty(folder.as_fd())?,
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => return unlinkat(parent, name, AtFlags::empty()),
        Err(errno) => return Err(errno),
    }
    unlinkat(parent, name, AtFlags::REMOVEDIR)
}

/// Empties a folder. Folders within folders are moved up to it first, so that neither depth nor a path's length is a limit.
fn empty(top: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let mut moved = 0u64;
    loop {
        let mut seen = false;
        each(top, |name, is_folder| {
            seen = true;
            if !is_folder {
                return unlinkat(top, name, AtFlags::empty());
            }
            let folder = beneath(top, name, OFlags::RDONLY | OFlags::DIRECTORY)?;
            each(folder.as_fd(), |inner, inner_is_folder| {
                if !inner_is_folder {
                    return unlinkat(&folder, inner, AtFlags::empty());
                }
                loop {
                    moved += 1;
                    let aside = format!("removed.{moved}");
                    match renameat_with(&folder, inner, top, aside, RenameFlags::NOREPLACE) {
                        Err(Errno::EXIST) => {}
                        other => return other,
                    }
                }
            })?;
            unlinkat(top, name, AtFlags::REMOVEDIR)
        })?;
        if !seen {
            return Ok(());
        }
    }
}

/// Calls for each name in a folder, saying whether it is a folder itself. Names that are gone by then are passed over.
fn each(folder: BorrowedFd<'_>, mut act: impl FnMut(&CStr, bool) -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let is_folder = match entry.file_type() {
            FileType::Unknown => match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => kind(&stat) == FileType::Directory,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno),
            },
            kind => kind == FileType::Directory,
        };
        match act(name, is_folder) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn root_only() -> bool {
        rustix::process::geteuid().is_root()
    }

    #[test]
    fn removing_a_tree_follows_no_link() {
        let outside = tempfile::tempdir().unwrap();
        let kept = outside.path().join("kept");
        fs::write(&kept, "kept").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        fs::create_dir_all(tree.join("a/b/c")).unwrap();
        symlink(outside.path(), tree.join("to-folder")).unwrap();
        symlink(&kept, tree.join("a/b/to-file")).unwrap();
        fs::hard_link(&kept, tree.join("a/b/c/same")).unwrap();
        rustix::fs::mkfifoat(CWD, tree.join("a/fifo"), Mode::from_raw_mode(0o600)).unwrap();
        let parent = openat(CWD, folder.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        remove_tree(parent.as_fd(), "tree").unwrap();
        assert!(!tree.exists());
        assert_eq!(fs::read_to_string(&kept).unwrap(), "kept");
        remove_tree(parent.as_fd(), "tree").unwrap();
        symlink(outside.path(), &tree).unwrap();
        remove_tree(parent.as_fd(), "tree").unwrap();
        assert!(kept.exists());
    }

    #[test]
    fn a_tree_deeper_than_any_path_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let parent = openat(CWD, folder.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let name = "n".repeat(200);
        let mut deep = parent.try_clone().unwrap();
        for _ in 0..200 {
            mkdirat(&deep, &name, Mode::from_raw_mode(0o700)).unwrap();
            deep = open_folder(deep.as_fd(), &name).unwrap();
        }
        remove_tree(parent.as_fd(), &name).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn nothing_is_opened_through_a_link_or_outside() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("jail")).unwrap();
        fs::write(folder.path().join("secret"), "s").unwrap();
        symlink("../secret", folder.path().join("jail/file")).unwrap();
        symlink("..", folder.path().join("jail/dir")).unwrap();
        let jail = openat(CWD, folder.path().join("jail"), OFlags::RDONLY, Mode::empty()).unwrap();
        for path in ["file", "dir/secret", "../secret", "/etc/passwd"] {
            assert!(beneath(jail.as_fd(), path, OFlags::RDONLY).is_err(), "{path}");
        }
        // The link itself can be held, as what it is.
        let link = beneath(jail.as_fd(), "file", OFlags::PATH).unwrap();
        assert_eq!(kind(&fstat(link).unwrap()), FileType::Symlink);
    }

    #[test]
    fn a_folder_that_others_can_change_is_refused() {
        if !root_only() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let open = folder.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(Folder::open(&open.join("base"), 0o700), Err(Error::Untrusted(_))));
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Folder::open(&open.join("base"), 0o700).is_ok());
        symlink(&open, folder.path().join("link")).unwrap();
        assert!(matches!(Folder::open(&folder.path().join("link/base"), 0o700), Err(Error::Io(_))));
        assert!(matches!(Folder::open(Path::new("relative"), 0o700), Err(Error::NotAbsolute(_))));
        std::os::unix::fs::chown(&open, Some(4000), None).unwrap();
        assert!(matches!(Folder::open(&open.join("base"), 0o700), Err(Error::Untrusted(_))));
    }

    #[test]
    fn a_folder_in_memory_is_refused() {
        let folder = Folder {
            fd: openat(CWD, "/dev/shm", OFlags::RDONLY, Mode::empty()).unwrap(),
            path: "/dev/shm".into(),
        };
        assert!(matches!(folder.refuse_memory(), Err(Error::InMemory(_))));
    }
}
