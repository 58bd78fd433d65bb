//! The first process of a sandbox: builds what the program sees, starts it, waits for it. Runs in a fork of the agent,
//! as root of the guest until the program starts, when it gives up everything but waiting.
use std::collections::HashSet;
use std::io;
use std::os::fd::RawFd;
use std::time::Instant;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags};
use rustix::process::{Gid, Resource, Rlimit, Signal, Uid, WaitOptions};

use super::record::{Fault, Record, Step};
use super::{EntryKind, Host, inputs, layout, seccomp, tenant};
use crate::fatal::{self, Role};
use crate::limits::OPEN_FILES_MAX;
use crate::path;
use crate::request::Job;
use crate::sys::{self, Forked};

/// The agent's descriptors that go into the sandbox.
pub struct Fds {
    pub null: RawFd,
    pub stdout: RawFd,
    pub stderr: RawFd,
    pub control: RawFd,
    pub input: RawFd,
    pub root: RawFd,
}

/// Descriptors as `sys::keep_only_fds` places them, after stdin, stdout and stderr.
const CONTROL_FD: RawFd = 3;
const INPUT_FD: RawFd = 4;
const ROOT_FD: RawFd = 5;

/// Uid of the first process once the program runs; no sandbox's own.
const INIT_UID: u32 = 999_999;
/// Mode of every folder that is made.
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o755);
/// Preference of the kernel when the guest's memory runs out; the agent's is -1000.
const OOM_SCORE: &str = "500";

/// Runs the sandbox to its end.
pub fn run(host: &Host, job: &Job, uid: u32, fds: &Fds) -> ! {
    fatal::set_role(Role::Sandbox);
    sys::reset_signals();
    let placed = [
        fds.null,
        fds.stdout,
        fds.stderr,
        fds.control,
        fds.input,
        fds.root,
    ];
    if sys::keep_only_fds(&placed, CONTROL_FD as usize).is_err() {
        sys::exit(1);
    }
    match prepare(host, job, uid).and_then(|()| start(host, job, uid)) {
        Ok(ended) => tell(&ended),
        Err(fault) => tell(&Record::Failed(fault)),
    }
    sys::exit(0)
}

/// Sends a record to the agent. If that fails, the agent is gone, and so is this process.
fn tell(record: &Record) {
    let _ = rustix::io::write(sys::placed_fd(CONTROL_FD), &record.encode());
}

fn prepare(host: &Host, job: &Job, uid: u32) -> Result<(), Fault> {
    prepare_process().map_err(Fault::at(Step::Process))?;
    build_root(host, job)?;
    rustix::system::sethostname(b"hpcc").map_err(Fault::at(Step::Names))?;
    rustix::system::setdomainname(b"(none)").map_err(Fault::at(Step::Names))?;

    let at_folders = Fault::at::<io::Error>(Step::Folders);
    let top_names: HashSet<&[u8]> = job
        .places()
        .map(|place| path::top_name(place.path))
        .collect();
    for name in top_names {
        make_owned_folder(name, uid).map_err(&at_folders)?;
    }
    for fd in [1, 2] {
        // So that the program can open its own /dev/stdout.
        rustix::fs::fchown(
            sys::placed_fd(fd),
            Some(Uid::from_raw(uid)),
            Some(Gid::from_raw(uid)),
        )
        .map_err(Fault::at(Step::Folders))?;
    }
    sys::set_file_ids(uid).map_err(&at_folders)?;
    inputs::lay_out(job, sys::take_placed_fd(INPUT_FD))?;
    sys::set_file_ids(0).map_err(&at_folders)
}

fn prepare_process() -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    std::fs::write(format!("{}/self/oom_score_adj", layout::PROC), OOM_SCORE)?;
    rustix::process::setpriority_process(None, 0)?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    Ok(())
}

/// Mounts everything below the sandbox's own tmpfs and makes that the root; nothing of the agent's stays in sight.
fn build_root(host: &Host, job: &Job) -> Result<(), Fault> {
    let at_root = Fault::at::<Errno>(Step::Root);
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).map_err(&at_root)?;
    let from_fd = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(
        sys::placed_fd(ROOT_FD),
        "",
        rustix::fs::CWD,
        layout::SANDBOX,
        from_fd,
    )
    .map_err(&at_root)?;
    drop(sys::take_placed_fd(ROOT_FD));
    rustix::process::chdir(layout::SANDBOX).map_err(&at_root)?;

    mount_toolchain(host, job).map_err(Fault::at(Step::Toolchain))?;
    mount_devices().map_err(Fault::at(Step::Devices))?;
    mount_proc().map_err(Fault::at(Step::Proc))?;

    let at_pivot = Fault::at::<Errno>(Step::Pivot);
    rustix::process::pivot_root(".", ".").map_err(&at_pivot)?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(&at_pivot)?;
    rustix::process::chdir("/").map_err(&at_pivot)
}

/// A top-level name that is the job's is not the toolchain's: an image may have a /var or /opt of its own.
fn mount_toolchain(host: &Host, job: &Job) -> Result<(), Errno> {
    for entry in &host.toolchain {
        let name = entry.name.as_c_str();
        if job.has_top_name(name.to_bytes()) {
            continue;
        }
        match &entry.kind {
            EntryKind::Link(target) => {
                rustix::fs::symlink(target.as_c_str(), name)?;
                continue;
            }
            EntryKind::Folder => rustix::fs::mkdir(name, FOLDER_MODE)?,
            EntryKind::File => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                drop(rustix::fs::open(name, flags, Mode::from_raw_mode(0o444))?);
            }
        }
        // The bind inherits read-only, nosuid and nodev of the toolchain's mount.
        let source = [layout::TOOLCHAIN.as_bytes(), b"/", name.to_bytes()].concat();
        rustix::mount::mount_bind(source, name)?;
    }
    Ok(())
}

fn mount_devices() -> Result<(), Errno> {
    rustix::fs::mkdir("dev", FOLDER_MODE)?;
    rustix::mount::mount_bind(layout::SANDBOX_DEV, "dev")
}

/// Only processes of the same uid, and nothing but processes: no kernel settings, no memory statistics.
fn mount_proc() -> Result<(), Errno> {
    rustix::fs::mkdir("proc", Mode::from_raw_mode(0o555))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("proc", "proc", "proc", flags, Some(c"hidepid=2,subset=pid"))
}

/// Makes a folder in the root, where the job's own ids may not write.
fn make_owned_folder(name: &[u8], uid: u32) -> io::Result<()> {
    rustix::fs::mkdir(name, FOLDER_MODE)?;
    rustix::fs::chown(name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid)))?;
    Ok(())
}

fn start(host: &Host, job: &Job, uid: u32) -> Result<Record, Fault> {
    let filter = seccomp::filter();
    set_limits(host, job).map_err(Fault::at(Step::Limits))?;
    sys::drop_bounding_set().map_err(Fault::at(Step::Privileges))?;
    rustix::thread::set_no_new_privs(true).map_err(Fault::at(Step::Privileges))?;
    let started = Instant::now();
    let program = match sys::fork(0, None).map_err(Fault::at(Step::Fork))? {
        Forked::Child => {
            let fault = tenant::become_program(job, uid, &filter);
            tell(&Record::Failed(fault));
            sys::exit(127)
        }
        Forked::Parent(pid) => pid,
    };
    for fd in 0..3 {
        drop(sys::take_placed_fd(fd));
    }
    tenant::give_up_privileges(INIT_UID).map_err(Fault::at(Step::Privileges))?;
    sys::set_seccomp_filter(&filter).map_err(Fault::at(Step::Filter))?;
    tell(&Record::Started);
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == program => {
                let wall_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
                return Ok(Record::Ended {
                    status: status.as_raw(),
                    wall_us,
                    peak_bytes: sys::children_peak_bytes(),
                });
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Fault::at(Step::Fork)(error)),
        }
    }
}

fn set_limits(host: &Host, job: &Job) -> io::Result<()> {
    // The group's limit comes first where there is one, because only it is counted.
    let processes = u64::from(job.limits.pids) + if host.groups.pids { 16 } else { 0 };
    let both = |value| Rlimit {
        current: Some(value),
        maximum: Some(value),
    };
    let limits = [
        (Resource::Fsize, both(job.limits.output_bytes)),
        (Resource::Core, both(0)),
        (Resource::Nofile, both(OPEN_FILES_MAX)),
        (Resource::Nproc, both(processes)),
        (Resource::Memlock, both(64 * 1024)),
        (Resource::Msgqueue, both(0)),
        (Resource::Sigpending, both(1024)),
        (Resource::Rtprio, both(0)),
        // Compilers raise their stack themselves.
        (
            Resource::Stack,
            Rlimit {
                current: Some(8 * 1024 * 1024),
                maximum: None,
            },
        ),
    ];
    for (resource, limit) in limits {
        rustix::process::setrlimit(resource, limit)?;
    }
    Ok(())
}
