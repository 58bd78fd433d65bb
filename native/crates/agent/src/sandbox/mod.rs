//! A sandbox: a process tree with its own namespaces, file system, uid and control group, made for one execution.
//!
//! The agent makes the group, the file system and the pipes, then forks `init`, the first process of the new pid
//! namespace, which builds the view of files, lays out the job's tree and starts the program. When it ends, the kernel kills
//! whatever is left in the namespace.
mod init;
mod inputs;
pub mod record;
mod seccomp;
mod tenant;

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use rustix::pipe::PipeFlags;
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Winsize};
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use crate::cgroup::{Group, Groups};
use crate::limits::SANDBOX_INODES;
use crate::reaper::Reaper;
use crate::request::Job;
use crate::stdio::{Budget, Capture};
use crate::sys::{self, Forked};

/// Where things stand in the agent's own root, which no sandbox sees.
pub mod layout {
    pub const PROC: &str = "/proc";
    pub const DEV: &str = "/dev";
    pub const CGROUP: &str = "/cgroup";
    pub const TOOLCHAIN: &str = "/toolchain";
    /// Empty folder on which each sandbox's root is mounted, in that sandbox's namespace.
    pub const SANDBOX: &str = "/sandbox";
    /// The folder that is a sandbox's /dev.
    pub const SANDBOX_DEV: &str = "/sandbox-dev";
}

/// What a top-level name of the toolchain is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    Folder,
    File,
    Link(CString),
}

/// A top-level name of the toolchain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: CString,
    pub kind: EntryKind,
}

/// What all sandboxes share.
#[derive(Debug)]
pub struct Host {
    pub groups: Groups,
    pub toolchain: Vec<Entry>,
    pub reaper: Reaper,
    pub stdio_budget: Budget,
}

/// First uid of sandboxes; each execution gets the next one.
const UID_BASE: u32 = 1_000_000;
/// Uids before one is used again; far more than executions live at once.
const UID_COUNT: u64 = 1_000_000;

/// The agent's side of a running sandbox. Dropping it kills all its processes.
pub struct Sandbox {
    pub group: Group,
    /// Root of its own tmpfs, without the toolchain.
    pub root: OwnedFd,
    /// Records of `init`.
    pub control: pipe::Receiver,
    /// Takes the frames of all inputs, one after the other.
    pub input: Option<pipe::Sender>,
    pub stdout: Capture,
    pub stderr: Capture,
    /// Word that `init`, and so every process of the pid namespace, has ended.
    pub ended: oneshot::Receiver<()>,
    /// Whether that word has come.
    pub has_ended: bool,
}

const NAMESPACES: u64 = (libc::CLONE_NEWPID
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u64;

impl Sandbox {
    /// Makes the sandbox of the agent's `serial`th execution and starts its first process.
    pub fn spawn(host: &Host, job: &Job, serial: u64) -> io::Result<Sandbox> {
        let group = host.groups.create(&format!("x{serial}"), &job.limits)?;
        let root = own_file_system(job)?;
        let (control, control_in_child) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let (input_in_child, input) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let (stdout, stdout_in_child) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, stderr_in_child) = match job.terminal_columns {
            0 => rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?,
            columns => open_terminal(columns)?,
        };
        let null = rustix::fs::open(
            format!("{}/null", layout::DEV),
            OFlags::RDWR | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let fds = init::Fds {
            null: null.as_raw_fd(),
            stdout: stdout_in_child.as_raw_fd(),
            stderr: stderr_in_child.as_raw_fd(),
            control: control_in_child.as_raw_fd(),
            input: input_in_child.as_raw_fd(),
            root: root.as_raw_fd(),
        };
        let uid = UID_BASE + (serial % UID_COUNT) as u32;
        let pid = match sys::fork(NAMESPACES, Some(group.dir()))? {
            Forked::Child => init::run(host, job, uid, &fds),
            Forked::Parent(pid) => pid,
        };
        let ended = host.reaper.register(pid);
        Ok(Sandbox {
            group,
            root,
            control: pipe::Receiver::from_owned_fd(control)?,
            input: Some(pipe::Sender::from_owned_fd(input)?),
            stdout: Capture::new(
                nonblocking(stdout)?,
                job.limits.stdio_bytes,
                host.stdio_budget.clone(),
            ),
            stderr: Capture::new(
                nonblocking(stderr)?,
                job.limits.stdio_bytes,
                host.stdio_budget.clone(),
            ),
            ended,
            has_ended: false,
        })
    }
}

/// A tmpfs that nothing mounts yet; its pages count against the group of whoever writes them.
fn own_file_system(job: &Job) -> io::Result<OwnedFd> {
    let names: usize = job
        .places()
        .map(|place| place.path.iter().filter(|&&byte| byte == b'/').count() + 1)
        .sum();
    let fs = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(fs.as_fd(), "size", job.limits.memory_bytes.to_string())?;
    rustix::mount::fsconfig_set_string(
        fs.as_fd(),
        "nr_inodes",
        (SANDBOX_INODES + names as u64).to_string(),
    )?;
    rustix::mount::fsconfig_set_string(fs.as_fd(), "mode", "0755")?;
    rustix::mount::fsconfig_create(fs.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(rustix::mount::fsmount(
        fs.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        attributes,
    )?)
}

/// A terminal that changes no byte: master for the agent, slave for the program.
fn open_terminal(columns: u16) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let multiplexer = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::open(
        format!("{}/pts/ptmx", layout::DEV),
        multiplexer,
        Mode::empty(),
    )?;
    rustix::pty::unlockpt(&master)?;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    let mut modes = rustix::termios::tcgetattr(&slave)?;
    modes.make_raw();
    rustix::termios::tcsetattr(&slave, OptionalActions::Now, &modes)?;
    let size = Winsize {
        ws_row: 24,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(&slave, size)?;
    Ok((master, slave))
}

fn nonblocking(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
    sys::watch(fd)
}
