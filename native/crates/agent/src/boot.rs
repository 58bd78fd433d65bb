//! From nothing to an agent that can listen: mounts, kernel modules, settings, the toolchain.
use std::ffi::{CStr, CString};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::time::{ClockId, Timespec};

use crate::cgroup::Groups;
use crate::clearing::Ground;
use crate::cmdline::{self, Cmdline};
use crate::limits::DEVICE_DEADLINE;
use crate::sandbox::{Entry, EntryKind, Host, layout};
use crate::sys;

/// A step of the boot that failed.
#[derive(Debug)]
pub struct BootError(pub String);

fn failed<E: std::fmt::Display>(what: impl std::fmt::Display) -> impl FnOnce(E) -> BootError {
    move |error| BootError(format!("{what}: {error}"))
}

/// What a boot gives: all that sandboxes share, and the state to which each clearing comes back.
#[derive(Debug)]
pub struct Booted {
    pub host: Host,
    pub ground: Ground,
}

/// Entropy and clock, which the worker sets at the start of each stream: after a restore they are an older VM's.
#[derive(Debug)]
pub enum Clockwork {
    Guest,
    /// Outside a VM they are somebody else's.
    #[cfg(feature = "test-harness")]
    Untouched,
}

impl Clockwork {
    pub fn apply(&self, entropy: &[u8; 32], wall_time_ns: i64) -> io::Result<()> {
        match self {
            Clockwork::Guest => {
                let path = format!("{}/random", layout::DEV);
                let random = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
                sys::add_entropy(random.as_fd(), entropy)?;
                let (tv_sec, tv_nsec) =
                    (wall_time_ns / 1_000_000_000, wall_time_ns % 1_000_000_000);
                Ok(rustix::time::clock_settime(
                    ClockId::Realtime,
                    Timespec { tv_sec, tv_nsec },
                )?)
            }
            #[cfg(feature = "test-harness")]
            Clockwork::Untouched => Ok(()),
        }
    }

    /// Steps the clock; gives the time after it, in nanoseconds since 1970.
    pub fn step(&self, by_ns: i64) -> io::Result<i64> {
        match self {
            Clockwork::Guest if by_ns != 0 => sys::step_clock(by_ns)?,
            _ => (),
        }
        let now = rustix::time::clock_gettime(ClockId::Realtime);
        Ok(now.tv_sec * 1_000_000_000 + now.tv_nsec)
    }
}

/// Where the agent's own root is put together, before it becomes the root.
const NEW_ROOT: &str = "/agent-root";
/// Modules to load, one path a line, in the initramfs.
const MODULES_LIST: &str = "/modules.list";
/// What the initramfs holds beside the mount points; removed once used.
const INITRAMFS_NAMES: [&str; 8] = [
    "/init",
    "/lib",
    "/modules.list",
    "/bin",
    "/sbin",
    "/usr",
    "/etc",
    "/root",
];

/// Kernel settings of a guest. The kernel may lack some.
const SETTINGS: [(&str, &str); 20] = [
    ("kernel/panic", "-1"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/dmesg_restrict", "1"),
    ("kernel/kptr_restrict", "2"),
    ("kernel/perf_event_paranoid", "3"),
    ("kernel/unprivileged_bpf_disabled", "1"),
    ("kernel/io_uring_disabled", "2"),
    ("kernel/kexec_load_disabled", "1"),
    ("kernel/modules_disabled", "1"),
    ("kernel/sysrq", "0"),
    ("kernel/core_pattern", "\n"),
    ("kernel/yama/ptrace_scope", "3"),
    ("kernel/keys/maxkeys", "1"),
    ("kernel/printk", "3 4 1 3"),
    ("fs/suid_dumpable", "0"),
    ("fs/protected_symlinks", "1"),
    ("fs/protected_hardlinks", "1"),
    ("user/max_user_namespaces", "0"),
    ("vm/unprivileged_userfaultfd", "0"),
    ("vm/swappiness", "0"),
];

/// Boots a guest, whose first process this is.
pub fn guest() -> Result<(Booted, Cmdline), BootError> {
    let private = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    new_root(Path::new(NEW_ROOT))?;
    let at = |path: &str| format!("{NEW_ROOT}{path}");
    mount("proc", at(layout::PROC), "proc", private, c"")?;
    mount(
        "devtmpfs",
        at(layout::DEV),
        "devtmpfs",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        c"mode=0755",
    )?;
    open_console(&at(layout::DEV));
    mount_pts(&at(layout::DEV))?;
    mount("cgroup2", at(layout::CGROUP), "cgroup2", private, c"")?;
    sandbox_devices(&at(layout::SANDBOX_DEV))?;
    let line =
        fs::read_to_string(at("/proc/cmdline")).map_err(failed("reading the command line"))?;
    let cmdline = cmdline::parse(&line).map_err(BootError)?;
    load_modules()?;
    if let Some(device) = &cmdline.rootfs {
        mount_device(&at(device), &at(layout::TOOLCHAIN))?;
    }
    enter_moved_root()?;
    apply_settings();
    let _ = fs::write(format!("{}/self/oom_score_adj", layout::PROC), "-1000");
    let _ = rustix::process::setpriority_process(None, -20);
    let host = host(layout::CGROUP)?;
    seal_root("/")?;
    let ground = Ground::of_guest().map_err(failed("looking at what the boot has made"))?;
    Ok((Booted { host, ground }, cmdline))
}

/// Nothing is written to the agent's own root after the boot, by whomever.
fn seal_root(path: &str) -> Result<(), BootError> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::RDONLY;
    rustix::mount::mount_remount(path, flags, c"").map_err(failed("sealing the root"))
}

fn host(group: &str) -> Result<Host, BootError> {
    Ok(Host {
        groups: Groups::open(group).map_err(failed("opening the control group"))?,
        toolchain: list_toolchain().map_err(failed("reading the toolchain"))?,
        reaper: Default::default(),
        stdio_budget: Default::default(),
    })
}

fn new_root(path: &Path) -> Result<(), BootError> {
    rustix::mount::mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .map_err(failed("making mounts private"))?;
    fs::create_dir_all(path).map_err(failed("making the root's mount point"))?;
    mount(
        "tmpfs",
        path,
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        c"size=1m,mode=0755",
    )?;
    let folders = [
        layout::PROC,
        layout::DEV,
        layout::CGROUP,
        layout::TOOLCHAIN,
        layout::SANDBOX,
        layout::SANDBOX_DEV,
    ];
    for folder in folders {
        let folder = path.join(folder.trim_start_matches('/'));
        fs::create_dir(&folder).map_err(failed(folder.display()))?;
    }
    Ok(())
}

fn mount(
    source: &str,
    target: impl AsRef<Path>,
    kind: &str,
    flags: MountFlags,
    data: &CStr,
) -> Result<(), BootError> {
    let target = target.as_ref();
    rustix::mount::mount(source, target, kind, flags, Some(data)).map_err(failed(format_args!(
        "mounting {kind} on {}",
        target.display()
    )))
}

/// Terminals of executions; their names are in no sandbox.
fn mount_pts(dev: &str) -> Result<(), BootError> {
    let target = format!("{dev}/pts");
    fs::create_dir_all(&target).map_err(failed("making /dev/pts"))?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount(
        "devpts",
        target,
        "devpts",
        flags,
        c"newinstance,ptmxmode=0600,mode=0600",
    )
}

/// The kernel opens the console for its first process only if the initramfs has the device. Without it the first
/// descriptors would become something else's.
fn open_console(dev: &str) {
    for _ in 0..3 {
        let console = rustix::fs::open(
            format!("{dev}/console"),
            OFlags::RDWR | OFlags::NOCTTY,
            Mode::empty(),
        )
        .or_else(|_| rustix::fs::open(format!("{dev}/null"), OFlags::RDWR, Mode::empty()));
        match console {
            Ok(fd) if std::os::fd::AsRawFd::as_raw_fd(&fd) < 3 => std::mem::forget(fd),
            _ => return,
        }
    }
}

/// The /dev that every sandbox sees, read-only.
fn sandbox_devices(folder: &str) -> Result<(), BootError> {
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("tmpfs", folder, "tmpfs", flags, c"size=64k,mode=0755")?;
    for (name, minor) in [
        ("null", 3),
        ("zero", 5),
        ("full", 7),
        ("random", 8),
        ("urandom", 9),
    ] {
        let path = format!("{folder}/{name}");
        let made = rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o666),
            rustix::fs::makedev(1, minor),
        );
        made.and_then(|()| rustix::fs::chmod(&path, Mode::from_raw_mode(0o666)))
            .map_err(failed(path))?;
    }
    for (name, target) in [
        ("fd", ""),
        ("stdin", "/0"),
        ("stdout", "/1"),
        ("stderr", "/2"),
    ] {
        std::os::unix::fs::symlink(format!("/proc/self/fd{target}"), format!("{folder}/{name}"))
            .map_err(failed(name))?;
    }
    rustix::mount::mount_remount(folder, flags | MountFlags::RDONLY, c"")
        .map_err(failed("sealing the devices"))
}

fn load_modules() -> Result<(), BootError> {
    let list = match fs::read_to_string(MODULES_LIST) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        list => list.map_err(failed(MODULES_LIST))?,
    };
    for path in list
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let file = fs::File::open(path).map_err(failed(path))?;
        match rustix::system::finit_module(file, c"", 0) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(BootError(format!("loading {path}: {error}"))),
        }
    }
    Ok(())
}

/// Mounts the toolchain's device, which may appear some time after its driver.
fn mount_device(device: &str, target: &str) -> Result<(), BootError> {
    let deadline = Instant::now() + DEVICE_DEADLINE;
    while !Path::new(device).exists() {
        if Instant::now() > deadline {
            return Err(BootError(format!("{device} does not appear")));
        }
        sleep(Duration::from_millis(1));
    }
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    mount(device, target, "squashfs", flags, c"").or_else(|first| {
        match mount(device, target, "erofs", flags, c"") {
            Ok(()) => Ok(()),
            Err(_) => Err(first),
        }
    })
}

/// Leaves the initramfs, which cannot be unmounted, empty behind.
fn enter_moved_root() -> Result<(), BootError> {
    for name in INITRAMFS_NAMES {
        let _ = fs::remove_file(name).or_else(|_| fs::remove_dir_all(name));
    }
    rustix::process::chdir(NEW_ROOT).map_err(failed("entering the root"))?;
    rustix::mount::mount_move(".", "/").map_err(failed("moving the root"))?;
    rustix::process::chroot(".").map_err(failed("entering the root"))?;
    rustix::process::chdir("/").map_err(failed("entering the root"))
}

fn apply_settings() {
    for (name, value) in SETTINGS {
        let _ = fs::write(format!("{}/sys/{name}", layout::PROC), value);
    }
}

/// Names that a sandbox makes itself, or that no sandbox has.
const RESERVED_NAMES: [&[u8]; 7] = [b"hpcc", b"tmp", b"proc", b"dev", b"sys", b".", b".."];

fn list_toolchain() -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(layout::TOOLCHAIN)? {
        let entry = entry?;
        let bytes = entry.file_name().into_vec();
        if RESERVED_NAMES.contains(&bytes.as_slice()) {
            continue;
        }
        let kind = entry.file_type()?;
        let kind = if kind.is_symlink() {
            EntryKind::Link(CString::new(
                fs::read_link(entry.path())?.into_os_string().into_vec(),
            )?)
        } else if kind.is_dir() {
            EntryKind::Folder
        } else if kind.is_file() {
            EntryKind::File
        } else {
            continue;
        };
        entries.push(Entry {
            name: CString::new(bytes)?,
            kind,
        });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// The agent outside a VM, in mount and pid namespaces that the caller has made for it.
#[cfg(feature = "test-harness")]
pub mod harness {
    use super::*;
    use rustix::mount::UnmountFlags;

    /// Builds the same root as a guest's from a folder that serves as toolchain. `group` is the name of a control
    /// group to make.
    pub fn build(toolchain: &Path, group: &str) -> Result<Booted, BootError> {
        if std::process::id() != 1 {
            return Err(BootError("no pid namespace of its own".into()));
        }
        // Clearing removes all IPC objects of its namespace: it must not be the machine's.
        sys::own_ipc_namespace().map_err(failed("making an ipc namespace"))?;
        let root = std::env::temp_dir().join(format!("hpcc-agent-root-{group}"));
        new_root(&root)?;
        let at = |path: &str| format!("{}{path}", root.display());
        let private = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("proc", at(layout::PROC), "proc", private, c"")?;
        mount("cgroup2", at(layout::CGROUP), "cgroup2", private, c"")?;
        sandbox_devices(&at(layout::SANDBOX_DEV))?;
        mount(
            "tmpfs",
            at(layout::DEV),
            "tmpfs",
            MountFlags::NOSUID | MountFlags::NOEXEC,
            c"size=64k",
        )?;
        for name in ["null", "random"] {
            let target = at(&format!("{}/{name}", layout::DEV));
            fs::write(&target, "").map_err(failed(name))?;
            rustix::mount::mount_bind(format!("/dev/{name}"), &target).map_err(failed(name))?;
        }
        mount_pts(&at(layout::DEV))?;
        rustix::mount::mount_bind_recursive(toolchain, at(layout::TOOLCHAIN))
            .map_err(failed("the toolchain"))?;
        let sealed = CString::new(at(layout::TOOLCHAIN)).map_err(failed("the toolchain"))?;
        sys::seal_mount_tree(&sealed).map_err(failed("sealing the toolchain"))?;

        rustix::process::chdir(&root).map_err(failed("entering the root"))?;
        let _ = fs::remove_dir(&root);
        rustix::process::pivot_root(".", ".").map_err(failed("entering the root"))?;
        rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(failed("leaving the host"))?;
        rustix::process::chdir("/").map_err(failed("entering the root"))?;

        let group = format!("{}/{group}", layout::CGROUP);
        fs::create_dir(&group).map_err(failed(&group))?;
        let host = host(&group)?;
        seal_root("/")?;
        let ground = Ground::of_harness().map_err(failed("looking at what the boot has made"))?;
        Ok(Booted { host, ground })
    }
}
