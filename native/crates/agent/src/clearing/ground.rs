//! What the boot has made and every clearing must come back to.
use std::collections::BTreeSet;
use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::process::WaitOptions;

use super::leftovers::{self, Leftovers};
use crate::sandbox::layout;
use crate::sys::{self, Forked};

/// A kind of namespace: its name in the kernel's limits, its flag, and the least limit with which one can be made when
/// nothing runs, found at the boot.
#[derive(Debug)]
struct Kind {
    name: &'static str,
    flag: u64,
    limit: u32,
}

const KINDS: [(&str, libc::c_int); 6] = [
    ("pid", libc::CLONE_NEWPID),
    ("mnt", libc::CLONE_NEWNS),
    ("ipc", libc::CLONE_NEWIPC),
    ("net", libc::CLONE_NEWNET),
    ("uts", libc::CLONE_NEWUTS),
    ("cgroup", libc::CLONE_NEWCGROUP),
];

/// Namespaces of one kind that the boot itself may hold.
const BOOT_NAMESPACES_MAX: u32 = 8;

/// What only the only agent of a kernel can look at: everything that is not of this process's namespaces.
#[derive(Debug)]
struct Kernel {
    namespaces: Vec<Kind>,
    keys: BTreeSet<i32>,
    /// Pages of file systems in memory and of shared memory, in KiB.
    shared_kib: u64,
}

/// The state after the boot.
#[derive(Debug)]
pub struct Ground {
    mounts: BTreeSet<String>,
    /// None outside a VM, where the kernel is also others'.
    kernel: Option<Kernel>,
}

impl Ground {
    /// Looks at a guest at the end of its boot.
    pub fn of_guest() -> io::Result<Ground> {
        let namespaces = KINDS
            .iter()
            .map(|&(name, flag)| Kind::survey(name, flag as u64))
            .collect::<io::Result<_>>()?;
        Ok(Ground {
            mounts: leftovers::mounts()?,
            kernel: Some(Kernel {
                namespaces,
                keys: leftovers::keys()?,
                shared_kib: shared_kib()?,
            }),
        })
    }

    /// Looks at an agent outside a VM.
    #[cfg(feature = "test-harness")]
    pub fn of_harness() -> io::Result<Ground> {
        Ok(Ground {
            mounts: leftovers::mounts()?,
            kernel: None,
        })
    }

    /// Whether the kernel is this agent's alone.
    pub fn is_whole_guest(&self) -> bool {
        self.kernel.is_some()
    }

    /// Removes what outlives processes.
    pub fn remove_leftovers(&self) {
        leftovers::unmount_all_but(&self.mounts);
        leftovers::remove_sysv();
        leftovers::remove_queues();
        if let Some(kernel) = &self.kernel {
            leftovers::remove_keys_but(&kernel.keys);
        }
    }

    /// Counts what is there and should not be. What cannot be read counts as one.
    pub fn count_leftovers(&self) -> Leftovers {
        let keys = match &self.kernel {
            Some(kernel) => leftovers::count(
                leftovers::keys().map(|keys| keys.difference(&kernel.keys).count()),
            ),
            None => 0,
        };
        Leftovers {
            processes: leftovers::count(leftovers::processes()),
            mounts: leftovers::count(
                leftovers::mounts().map(|mounts| mounts.difference(&self.mounts).count()),
            ),
            ipc: leftovers::count(leftovers::sysv_count())
                + leftovers::count(leftovers::queues_count())
                + keys,
        }
    }

    /// Whether the kernel has let go of every namespace of what ran; it does so some time after the last process has ended.
    pub fn namespaces_are_gone(&self) -> bool {
        let kinds = self.kernel.iter().flat_map(|kernel| &kernel.namespaces);
        kinds.into_iter().all(|kind| {
            kind.can_be_made_within(kind.limit)
                .is_ok_and(|possible| possible)
        })
    }

    /// Whether no file system in memory and no shared memory holds a page that it did not hold after the boot.
    pub fn memory_is_back(&self) -> bool {
        self.kernel
            .as_ref()
            .is_none_or(|kernel| shared_kib().is_ok_and(|kib| kib <= kernel.shared_kib))
    }
}

impl Kind {
    fn survey(name: &'static str, flag: u64) -> io::Result<Kind> {
        let mut kind = Kind {
            name,
            flag,
            limit: 0,
        };
        while !kind.can_be_made_within(kind.limit)? {
            kind.limit += 1;
            if kind.limit > BOOT_NAMESPACES_MAX {
                return Err(io::Error::other(format!("too many {name} namespaces")));
            }
        }
        Ok(kind)
    }

    /// Whether another namespace can be made when the kernel allows so many. The limit that stood is put back.
    fn can_be_made_within(&self, limit: u32) -> io::Result<bool> {
        let path = format!("{}/sys/user/max_{}_namespaces", layout::PROC, self.name);
        let stood = fs::read_to_string(&path)?;
        fs::write(&path, limit.to_string())?;
        let made = make_and_leave(self.flag);
        fs::write(&path, stood.trim())?;
        match made {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(Errno::NOSPC.raw_os_error()) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Makes a namespace of a process that ends at once, and waits for it.
fn make_and_leave(flag: u64) -> io::Result<()> {
    match sys::fork(flag, None)? {
        Forked::Child => sys::exit(0),
        Forked::Parent(pid) => {
            let pid = rustix::process::Pid::from_raw(pid);
            while let Err(Errno::INTR) = rustix::process::waitpid(pid, WaitOptions::empty()) {}
            Ok(())
        }
    }
}

/// Pages of tmpfs and shared memory. The kernel counts them for each processor apart and sums them up when asked.
fn shared_kib() -> io::Result<u64> {
    // Absent where there is one processor, whose count is the sum.
    let _ = fs::write(format!("{}/sys/vm/stat_refresh", layout::PROC), "1");
    let text = fs::read_to_string(format!("{}/meminfo", layout::PROC))?;
    leftovers::field(&text, "Shmem:").ok_or_else(|| io::Error::other("no count of shared memory"))
}

/// Frees what the kernel keeps of names and of files that are gone, and moves what is left together. With `init_on_free=1` freed
/// memory is zeroed. Pages of the toolchain's own files stay, which is what makes the next compile a fast one: the image is read-only,
/// so they hold no byte of whoever had them read.
pub fn release_pages() {
    let _ = fs::write(format!("{}/sys/vm/drop_caches", layout::PROC), "2");
    let _ = fs::write(format!("{}/sys/vm/compact_memory", layout::PROC), "1");
}
