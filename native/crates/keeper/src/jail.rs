//! The folder of one machine, in which its VMM is root of nothing but may write: whatever is found there is hostile. It is
//! opened beneath the jail without following links, held by descriptor, and checked for type, owner and number of links.
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, linkat, mkdirat, unlinkat};
use rustix::io::Errno;

use crate::fault::{Code, Doing, Fault, IoFault};
use crate::folder::{Folder, beneath, kind, own_held};

/// Name of the API socket below the jail.
pub const API: &str = "run/api.sock";
pub const VSOCK: &str = "v.sock";
pub const NEW_STATE: &str = "state.new";
pub const NEW_MEMORY: &str = "memory.new";
/// Devices that the jailer makes and no machine of ours needs.
const UNWANTED_DEVICES: [(&str, &str); 2] = [("dev/net", "tun"), ("dev", "userfaultfd")];

#[derive(Debug)]
pub enum Error {
    Io(IoFault),
    /// It is not there (yet).
    Missing(String),
    /// It is not what it should be.
    Hostile(String, &'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io(fault) => fault.fmt(formatter),
            Error::Missing(name) => write!(formatter, "the jail has no {name}"),
            Error::Hostile(name, why) => write!(formatter, "{name} in the jail {why}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<IoFault> for Error {
    fn from(fault: IoFault) -> Error {
        Error::Io(fault)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        match error {
            Error::Io(fault) => fault.into(),
            Error::Missing(_) => Fault::new(Code::NotFound, error.to_string()),
            Error::Hostile(..) => Fault::new(Code::JailHostile, error.to_string()),
        }
    }
}

/// A thing of a jail that has been checked.
pub struct Held {
    /// An O_PATH descriptor.
    pub fd: OwnedFd,
    pub stat: Stat,
}

#[derive(Debug)]
pub struct Jail {
    root: OwnedFd,
    /// Of the machine, its group's too.
    uid: u32,
}

impl Jail {
    /// Makes `ID/root` in the folder where the jailer expects its jails. `ID` was never used before.
    pub fn make(jails: &Folder, id: &str, uid: u32) -> Result<Jail, Error> {
        let made = || -> rustix::io::Result<OwnedFd> {
            mkdirat(&jails.fd, id, Mode::from_raw_mode(0o700))?;
            let parent = beneath(jails.fd.as_fd(), id, OFlags::RDONLY | OFlags::DIRECTORY)?;
            mkdirat(&parent, "root", Mode::from_raw_mode(0o700))?;
            beneath(parent.as_fd(), "root", OFlags::RDONLY | OFlags::DIRECTORY)
        };
        let root = made().doing(|| format!("make the jail {id}"))?;
        Ok(Jail { root, uid })
    }

    /// Links a file of root's in. It stays root's.
    pub fn link_in(&self, file: BorrowedFd<'_>, name: &str) -> Result<(), IoFault> {
        linkat(file, "", &self.root, name, AtFlags::EMPTY_PATH).doing(|| format!("link {name} into a jail"))
    }

    /// A socket that the machine made.
    pub fn socket(&self, name: &str) -> Result<Held, Error> {
        self.hold(name, FileType::Socket, "is not a socket")
    }

    /// A regular file that the machine wrote.
    pub fn file(&self, name: &str) -> Result<Held, Error> {
        self.hold(name, FileType::RegularFile, "is not a regular file")
    }

    fn hold(&self, name: &str, wanted: FileType, why_not: &'static str) -> Result<Held, Error> {
        let fd = match beneath(self.root.as_fd(), name, OFlags::PATH) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Err(Error::Missing(name.into())),
            Err(Errno::LOOP | Errno::XDEV | Errno::NOTDIR) => {
                return Err(Error::Hostile(name.into(), "leads through a link or out of it"));
            }
            Err(errno) => Err(errno).doing(|| format!("open {name} in a jail"))?,
        };
        let stat = fstat(&fd).doing(|| format!("examine {name} in a jail"))?;
        if kind(&stat) != wanted {
            return Err(Error::Hostile(name.into(), why_not));
        }
        if stat.st_uid != self.uid {
            return Err(Error::Hostile(name.into(), "is another user's"));
        }
        if stat.st_nlink != 1 {
            return Err(Error::Hostile(name.into(), "has other names"));
        }
        Ok(Held { fd, stat })
    }

    /// Reads a held file: the very one, since nothing runs in the jail any more.
    pub fn open_held(&self, held: &Held, name: &str) -> Result<OwnedFd, Error> {
        let fd = beneath(self.root.as_fd(), name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
            .doing(|| format!("read {name} in a jail"))?;
        let stat = fstat(&fd).doing(|| format!("examine {name} in a jail"))?;
        if (stat.st_dev, stat.st_ino) != (held.stat.st_dev, held.stat.st_ino) {
            return Err(Error::Hostile(name.into(), "was swapped"));
        }
        Ok(fd)
    }

    /// Gives a held socket to the worker under a name of the keeper's, and takes its name in the jail away.
    pub fn hand_out(&self, held: &Held, name: &str, to: &Folder, to_name: &str, gid: u32) -> Result<(), Error> {
        own_held(held.fd.as_fd(), 0, gid, 0o660).doing(|| format!("own {name}"))?;
        linkat(&held.fd, "", &to.fd, to_name, AtFlags::EMPTY_PATH).doing(|| format!("link {name}"))?;
        self.unlink(name)
    }

    /// Removes a name that is no folder, if it is there.
    pub fn unlink(&self, name: &str) -> Result<(), Error> {
        let (folder, name) = name.rsplit_once('/').unwrap_or((".", name));
        let folder = match beneath(self.root.as_fd(), folder, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(folder) => folder,
            Err(Errno::NOENT) => return Ok(()),
            Err(Errno::LOOP | Errno::XDEV | Errno::NOTDIR) => {
                return Err(Error::Hostile(folder.into(), "is not a folder"));
            }
            Err(errno) => Err(errno).doing(|| format!("open {folder} in a jail"))?,
        };
        match unlinkat(&folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Ok(Err(errno).doing(|| format!("unlink {name} in a jail"))?),
        }
    }

    /// Takes away the devices that the jailer made without need.
    pub fn drop_devices(&self) -> Result<(), Error> {
        UNWANTED_DEVICES
            .iter()
            .try_for_each(|(folder, name)| self.unlink(&format!("{folder}/{name}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, chown, symlink};
    use std::os::unix::net::UnixListener;
    use std::path::{Path, PathBuf};

    const UID: u32 = 4000;

    struct Place {
        folder: tempfile::TempDir,
        jails: Folder,
        jail: Jail,
    }

    fn place() -> Option<Place> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let jails = Folder::open(&folder.path().join("jails"), 0o700).unwrap();
        let jail = Jail::make(&jails, "k-1", UID).unwrap();
        Some(Place { folder, jails, jail })
    }

    impl Place {
        fn root(&self) -> PathBuf {
            self.jails.path.join("k-1/root")
        }

        fn out(&self) -> Folder {
            Folder::open(&self.folder.path().join("out"), 0o700).unwrap()
        }
    }

    fn hostile<T>(result: Result<T, Error>) -> bool {
        matches!(result, Err(Error::Hostile(..)))
    }

    fn bind(path: &Path, uid: u32) -> UnixListener {
        let listener = UnixListener::bind(path).unwrap();
        chown(path, Some(uid), Some(uid)).unwrap();
        listener
    }

    #[test]
    fn a_jail_of_a_used_name_is_not_made_again() {
        let Some(place) = place() else { return };
        assert!(Jail::make(&place.jails, "k-1", UID).is_err());
    }

    #[test]
    fn a_socket_is_handed_out_and_leaves_the_jail() {
        let Some(place) = place() else { return };
        let _listener = bind(&place.root().join(VSOCK), UID);
        let held = place.jail.socket(VSOCK).unwrap();
        let out = place.out();
        place.jail.hand_out(&held, VSOCK, &out, "vsock", 4321).unwrap();
        let given = fs::metadata(out.path.join("vsock")).unwrap();
        assert_eq!((given.uid(), given.gid(), given.mode() & 0o7777), (0, 4321, 0o660));
        assert!(!place.root().join(VSOCK).exists());
        std::os::unix::net::UnixStream::connect(out.path.join("vsock")).unwrap();
    }

    #[test]
    fn what_is_not_the_machines_own_socket_is_refused() {
        let Some(place) = place() else { return };
        let outside = place.folder.path().join("outside.sock");
        let _listener = bind(&outside, 0);
        let at = place.root().join(VSOCK);
        assert!(matches!(place.jail.socket(VSOCK), Err(Error::Missing(_))));
        symlink(&outside, &at).unwrap();
        assert!(hostile(place.jail.socket(VSOCK)));
        fs::remove_file(&at).unwrap();
        fs::hard_link(&outside, &at).unwrap();
        assert!(hostile(place.jail.socket(VSOCK)));
        chown(&outside, Some(UID), None).unwrap();
        assert!(hostile(place.jail.socket(VSOCK)), "one socket with two names");
        fs::remove_file(&at).unwrap();
        fs::create_dir(&at).unwrap();
        assert!(hostile(place.jail.socket(VSOCK)));
        fs::remove_dir(&at).unwrap();
        fs::write(&at, "").unwrap();
        chown(&at, Some(UID), None).unwrap();
        assert!(hostile(place.jail.socket(VSOCK)));
        assert_eq!(fs::metadata(&outside).unwrap().mode() & 0o7777, 0o755);
    }

    #[test]
    fn devices_are_removed_beneath_the_jail_only() {
        let Some(place) = place() else { return };
        let outside = place.folder.path().join("net");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("tun"), "kept").unwrap();
        fs::create_dir(place.root().join("dev")).unwrap();
        place.jail.drop_devices().unwrap();
        symlink(&outside, place.root().join("dev/net")).unwrap();
        assert!(hostile(place.jail.drop_devices()));
        assert!(outside.join("tun").exists());
        fs::remove_file(place.root().join("dev/net")).unwrap();
        fs::create_dir(place.root().join("dev/net")).unwrap();
        fs::write(place.root().join("dev/net/tun"), "").unwrap();
        fs::write(place.root().join("dev/userfaultfd"), "").unwrap();
        place.jail.drop_devices().unwrap();
        assert!(!place.root().join("dev/net/tun").exists());
        assert!(!place.root().join("dev/userfaultfd").exists());
    }

    #[test]
    fn a_linked_file_stays_roots() {
        let Some(place) = place() else { return };
        let file = place.folder.path().join("vmlinux");
        fs::write(&file, "kernel").unwrap();
        let fd = fs::File::open(&file).unwrap();
        place.jail.link_in(fd.as_fd(), "vmlinux").unwrap();
        let linked = fs::metadata(place.root().join("vmlinux")).unwrap();
        assert_eq!((linked.uid(), linked.nlink()), (0, 2));
        assert!(hostile(place.jail.file("vmlinux")), "root's file taken for the machine's");
    }
}
