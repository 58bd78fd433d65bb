//! The life of each machine: made, run, taken as a snapshot or destroyed, and cleared away by exactly one thread.
use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, mkfifoat};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, pidfd_open, pidfd_send_signal, setrlimit, setsid,
};
use serde::Serialize;

use crate::cgroup::{self, KeeperGroup, Limits, MachineGroup};
use crate::digest::Digest;
use crate::fault::{Code, Doing, Fault};
use crate::files::FileStore;
use crate::folder::{Folder, beneath, own_held};
use crate::jail::{self, API, Jail, VSOCK};
use crate::message::{Name, Start};
use crate::netns::{self, EmptyNetwork};
use crate::programs::Programs;
use crate::snapshots::{Kept, SnapshotStore};
use crate::uids::{self, LockedUid, UidRange};
use crate::{log, sys};

const START_DEADLINE: Duration = Duration::from_secs(30);
const API_POLL: Duration = Duration::from_millis(2);
const CLEAR_DEADLINE: Duration = Duration::from_secs(5);
/// Pause before another attempt to clear a machine away.
const CLEAR_RETRY: Duration = Duration::from_secs(1);
const DESTROY_DEADLINE: Duration = Duration::from_secs(15);
const MEMORY_BYTES: std::ops::RangeInclusive<u64> = 16 << 20..=1 << 40;
const VCPUS_MAX: u64 = 32;
const CPU_QUOTA_US_MIN: u64 = 1_000;
const CPU_QUOTA_US_MAX: u64 = 100_000 * 1024;
const FILE_BYTES: std::ops::RangeInclusive<u64> = 1 << 16..=1 << 41;
const OPEN_FILES_MAX: u32 = 1024;
const COMPLAINT_BYTES_MAX: usize = 600;

impl From<cgroup::Error> for Fault {
    fn from(error: cgroup::Error) -> Fault {
        match error {
            cgroup::Error::Io(fault) => fault.into(),
            error => Fault::new(Code::Io, error.to_string()),
        }
    }
}

impl From<uids::Error> for Fault {
    fn from(error: uids::Error) -> Fault {
        match error {
            uids::Error::Io(fault) => fault.into(),
            error => Fault::new(Code::NoUid, error.to_string()),
        }
    }
}

impl From<netns::Error> for Fault {
    fn from(error: netns::Error) -> Fault {
        Fault::new(Code::Io, error.to_string())
    }
}

impl From<crate::folder::Error> for Fault {
    fn from(error: crate::folder::Error) -> Fault {
        match error {
            crate::folder::Error::Io(fault) => fault.into(),
            error => Fault::new(Code::Io, error.to_string()),
        }
    }
}

/// What machines are made with.
pub struct Means {
    pub keeper: String,
    /// Parent of the jailer's jails, for its --chroot-base-dir.
    pub chroots: Folder,
    /// Where the jailer puts the jails of this VMM.
    pub jails: Folder,
    /// What the worker may reach: a folder per machine.
    pub run: Folder,
    pub group: KeeperGroup,
    pub uids: UidRange,
    pub files: FileStore,
    pub snapshots: SnapshotStore,
    pub programs: Programs,
    pub worker_gid: u32,
}

#[derive(Debug, Serialize)]
pub struct Started {
    pub uid: u32,
    pub api: String,
    pub console: String,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Phase {
    Starting,
    Running,
    /// Killed, so that its snapshot can be taken; who takes it clears it away.
    Taking,
}

pub struct Machine {
    name: Name,
    /// Never used for another.
    id: String,
    memory_bytes: u64,
    /// It is to go, as soon as it can.
    condemned: AtomicBool,
    parts: Mutex<Parts>,
}

struct Parts {
    phase: Phase,
    uid: Option<LockedUid>,
    group: Option<Arc<MachineGroup>>,
    jail: Option<Arc<Jail>>,
    run: Option<Arc<Folder>>,
    /// The jailer, then the VMM: until a thread watches it, or until it has been reaped.
    process: Option<Process>,
    /// The snapshot whose files its jail may have.
    made_from: Option<String>,
    /// Keeps the console's pipe open for the VMM when nobody reads it. It is not read here.
    console: Option<OwnedFd>,
    /// How the VMM ended.
    status: Option<String>,
}

impl Machine {
    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts
            .lock()
            .unwrap_or_else(|poison| poison.into_inner())
    }

    fn condemn(&self) {
        self.condemned.store(true, Ordering::SeqCst);
        if let Some(group) = &self.parts().group {
            group.kill();
        }
    }

    /// What is told of one that has been killed and is still there.
    fn not_gone(&self, why: &str) -> Fault {
        Fault::new(Code::Io, format!("{} is not gone yet: {why}", self.name.0))
    }

    fn processes(&self) -> String {
        let group = self.parts().group.clone();
        group.map_or("it has no process".into(), |group| group.processes())
    }

    fn check_wanted(&self) -> Result<(), Fault> {
        if self.condemned.load(Ordering::SeqCst) {
            return Err(Fault::new(Code::VmGone, "it was destroyed"));
        }
        Ok(())
    }
}

#[derive(Default)]
struct Table {
    living: HashMap<Name, Arc<Machine>>,
    sequence: u64,
}

/// Told the name of a machine and how it ended.
pub type OnExit = Box<dyn Fn(&str, &str) + Send + Sync>;

pub struct Machines {
    means: Means,
    table: Mutex<Table>,
    /// Told whenever one leaves the table.
    left: Condvar,
    closing: AtomicBool,
    /// Told of each that is gone.
    on_exit: OnExit,
}

impl Machines {
    pub fn new(means: Means, on_exit: OnExit) -> Arc<Machines> {
        Arc::new(Machines {
            means,
            table: Mutex::new(Table::default()),
            left: Condvar::new(),
            closing: AtomicBool::new(false),
            on_exit,
        })
    }

    /// Takes back what `enter` did, when `start` cannot be called.
    pub fn leave(self: &Arc<Self>, machine: &Arc<Machine>) {
        let _ = self.clear(machine, None);
    }

    pub fn means(&self) -> &Means {
        &self.means
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table
            .lock()
            .unwrap_or_else(|poison| poison.into_inner())
    }

    /// Puts a machine into the table, so that it can be destroyed from here on. Who does so must call `start` with it.
    pub fn enter(&self, start: &Start) -> Result<Arc<Machine>, Fault> {
        check_start(start)?;
        let name = &start.vm;
        let mut table = self.table();
        if self.closing.load(Ordering::SeqCst) {
            return Err(Fault::new(Code::VmGone, "the keeper is ending"));
        }
        if table.living.contains_key(name) {
            return Err(Fault::new(Code::Exists, format!("{} lives", name.0)));
        }
        table.sequence += 1;
        let machine = Arc::new(Machine {
            name: name.clone(),
            id: format!("{}-{}", self.means.keeper, table.sequence),
            memory_bytes: start.memory_bytes,
            condemned: AtomicBool::new(false),
            parts: Mutex::new(Parts {
                phase: Phase::Starting,
                uid: None,
                group: None,
                jail: None,
                run: None,
                process: None,
                made_from: None,
                console: None,
                status: None,
            }),
        });
        table.living.insert(name.clone(), machine.clone());
        Ok(machine)
    }

    fn find(&self, name: &Name) -> Result<Arc<Machine>, Fault> {
        let found = self.table().living.get(name).cloned();
        found.ok_or_else(|| Fault::new(Code::NotFound, format!("{} does not live", name.0)))
    }

    /// A machine that runs, its jail and the folder that its worker sees.
    fn running(&self, name: &Name) -> Result<(Arc<Jail>, Arc<Folder>), Fault> {
        let machine = self.find(name)?;
        let parts = machine.parts();
        match (&parts.phase, &parts.jail, &parts.run) {
            (Phase::Running, Some(jail), Some(run)) => Ok((jail.clone(), run.clone())),
            _ => Err(Fault::new(
                Code::NotFound,
                format!("{} does not run", name.0),
            )),
        }
    }

    /// Makes a jail and starts the VMM in it.
    pub fn start(
        self: &Arc<Self>,
        machine: &Arc<Machine>,
        start: &Start,
    ) -> Result<Started, Fault> {
        let outcome = self.build(machine, start).and_then(|started| {
            let (machines, watched) = (self.clone(), machine.clone());
            machine.parts().phase = Phase::Running;
            let watcher = thread::Builder::new().stack_size(128 * 1024);
            match watcher.spawn(move || machines.watch(&watched)) {
                Ok(_) => Ok(started),
                Err(_) => Err(Fault::new(Code::Io, "no thread")),
            }
        });
        outcome.map_err(|fault| match self.clear(machine, None) {
            Ok(()) => fault,
            Err(left) => fault.and(&left),
        })
    }

    fn build(&self, machine: &Machine, start: &Start) -> Result<Started, Fault> {
        let means = &self.means;
        let uid = means.uids.take()?;
        let number = uid.uid;
        machine.parts().uid = Some(uid);
        let limits = Limits {
            memory_bytes: start.memory_bytes,
            vcpus: start.vcpus,
            cpu_quota_us: start.cpu_quota_us,
        };
        let group = Arc::new(means.group.machine(&machine.id, &limits)?);
        machine.parts().group = Some(group.clone());
        let jail = Arc::new(Jail::make(&means.jails, &machine.id, number)?);
        machine.parts().jail = Some(jail.clone());
        self.furnish(machine, &jail, start)?;
        let run = Arc::new(means.run.child(&machine.name.0, 0o750, means.worker_gid)?);
        machine.parts().run = Some(run.clone());
        let (reader, writer) = make_console(&run, means.worker_gid)?;
        let complaint = reader.try_clone().doing(|| "open a console".into())?;
        machine.parts().console = Some(reader);
        machine.check_wanted()?;
        let network = EmptyNetwork::make()?;
        let mut process = self.spawn(
            machine,
            &group,
            number,
            &network,
            writer,
            start.file_bytes_max,
        )?;
        let ready = self.wait_ready(machine, &jail, &group, &run, &mut process);
        if ready.is_err() {
            group.kill();
            process.ended_within(CLEAR_DEADLINE);
        }
        machine.parts().process = Some(process);
        match ready {
            Ok(()) => Ok(Started {
                uid: number,
                api: shown(&run, "api"),
                console: shown(&run, "console"),
            }),
            Err(mut fault) => {
                if fault.code == Code::StartFailed {
                    // No guest has run yet: these are the words of jailer and VMM.
                    fault.message = format!("{}: {}", fault.message, read_complaint(complaint));
                }
                Err(fault)
            }
        }
    }

    /// Links in what the machine is made from.
    fn furnish(&self, machine: &Machine, jail: &Jail, start: &Start) -> Result<(), Fault> {
        let files = &start.files;
        for (digest, name) in [
            (Some(&files.kernel), "vmlinux"),
            (Some(&files.initramfs), "initramfs"),
            (files.rootfs.as_ref(), "rootfs"),
        ] {
            if let Some(digest) = digest {
                jail.link_in(self.means.files.open(digest)?.as_fd(), name)?;
            }
        }
        if let (Some(snapshot), Some(binding)) = (&start.snapshot, &start.binding) {
            let snapshots = &self.means.snapshots;
            snapshots.hold(&snapshot.0)?;
            machine.parts().made_from = Some(snapshot.0.clone());
            let proven = snapshots.prove(&snapshot.0, binding)?;
            jail.link_in(proven.state.as_fd(), "state")?;
            jail.link_in(proven.memory.as_fd(), "memory")?;
        }
        Ok(())
    }

    fn spawn(
        &self,
        machine: &Machine,
        group: &MachineGroup,
        uid: u32,
        network: &EmptyNetwork,
        console: OwnedFd,
        file_bytes_max: u64,
    ) -> Result<Process, Fault> {
        let Programs { vmm, jailer } = &self.means.programs;
        let errors = console.try_clone().doing(|| "open a console".into())?;
        let uid = uid.to_string();
        let mut command = Command::new(&jailer.path);
        command
            .args([
                "--id",
                &machine.id,
                "--uid",
                &uid,
                "--gid",
                &uid,
                "--cgroup-version",
                "2",
            ])
            .arg("--exec-file")
            .arg(&vmm.path)
            .arg("--chroot-base-dir")
            .arg(&self.means.chroots.path)
            .arg("--parent-cgroup")
            .arg(group.relative())
            .args(["--netns", &network.path()])
            .args(["--resource-limit", &format!("fsize={file_bytes_max}")])
            .args(["--resource-limit", &format!("no-file={OPEN_FILES_MAX}")])
            .args(["--", "--api-sock", &format!("/{API}")])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(console)
            .stderr(errors);
        let entrance = group.entrance()?;
        sys::before_exec(&mut command, move || {
            // From its first instruction on it is where cgroup.kill finds it. When the group is gone this fails, and it ends here.
            rustix::io::write(&entrance, b"0")?;
            setsid()?;
            rustix::thread::set_no_new_privs(true)?;
            // 1, not 0: with 0 a core handler that reads from a pipe would still be given a guest's memory.
            let no_core = Rlimit {
                current: Some(1),
                maximum: Some(1),
            };
            setrlimit(Resource::Core, no_core)?;
            Ok(())
        });
        let child = command.spawn().doing(|| "run the jailer".into())?;
        let pid = Pid::from_child(&child);
        // Not reaped yet, so the number is still this process's.
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Process { child, pidfd }),
            Err(errno) => {
                let mut child = child;
                let _ = child.kill();
                let _ = sys::wait_until(&mut child, Instant::now() + CLEAR_DEADLINE);
                Err(Err::<(), _>(errno)
                    .doing(|| "hold the jailer".into())
                    .map_or_else(Fault::from, |()| {
                        Fault::new(Code::Io, "cannot hold the jailer")
                    }))
            }
        }
    }

    /// Waits until the VMM listens, takes its socket out of the jail and what it does not need away.
    fn wait_ready(
        &self,
        machine: &Machine,
        jail: &Jail,
        group: &MachineGroup,
        run: &Folder,
        process: &mut Process,
    ) -> Result<(), Fault> {
        let deadline = Instant::now() + START_DEADLINE;
        let held = loop {
            machine.check_wanted()?;
            if process.ended_within(API_POLL) {
                let status = process.child.wait().ok();
                machine.check_wanted()?;
                return Err(Fault::new(
                    Code::StartFailed,
                    format!("jailer or VMM {}", status.map_or("ended".into(), describe)),
                ));
            }
            match jail.socket(API) {
                Ok(held) if listens(&held) => break held,
                Ok(_) | Err(jail::Error::Missing(_)) => {}
                Err(error) => return Err(error.into()),
            }
            if Instant::now() >= deadline {
                return Err(Fault::new(
                    Code::StartFailed,
                    format!("no API socket after {} s", START_DEADLINE.as_secs()),
                ));
            }
        };
        if !group.holds(Pid::from_child(&process.child)) {
            return Err(Fault::new(
                Code::StartFailed,
                "the VMM is not in its cgroup",
            ));
        }
        jail.drop_devices()?;
        jail.hand_out(&held, API, run, "api", self.means.worker_gid)?;
        Ok(())
    }

    /// Waits for the end of the VMM, however long its machine lives, and clears away unless its snapshot is being taken.
    fn watch(self: &Arc<Self>, machine: &Arc<Machine>) {
        let Some(mut process) = machine.parts().process.take() else {
            return;
        };
        let status = process.child.wait().map_or("ended".into(), describe);
        let taking = {
            let mut parts = machine.parts();
            parts.status = Some(status.clone());
            parts.phase == Phase::Taking
        };
        if !taking {
            // What is left for now is logged, and goes on being cleared away.
            let _ = self.clear(machine, Some(&status));
        }
    }

    /// Gives the worker a way to dial the vsock device, and takes its name in the jail away.
    pub fn expose_vsock(&self, name: &Name) -> Result<String, Fault> {
        let (jail, run) = self.running(name)?;
        if beneath(run.fd.as_fd(), "vsock", OFlags::PATH).is_err() {
            let held = jail.socket(VSOCK)?;
            jail.hand_out(&held, VSOCK, &run, "vsock", self.means.worker_gid)?;
        }
        Ok(shown(&run, "vsock"))
    }

    /// Takes the vsock device's socket from everybody.
    pub fn seal_vsock(&self, name: &Name) -> Result<(), Fault> {
        let (jail, run) = self.running(name)?;
        run.remove("vsock")?;
        Ok(jail.unlink(VSOCK)?)
    }

    /// Sets room aside for the snapshot that a machine is about to write.
    pub fn reserve(&self, name: &Name) -> Result<(), Fault> {
        let machine = self.find(name)?;
        // Held until it is done: who clears the machine away comes before, and it runs no more, or after, and gives back.
        let parts = machine.parts();
        if parts.phase != Phase::Running || parts.jail.is_none() {
            return Err(Fault::new(
                Code::NotFound,
                format!("{} does not run", name.0),
            ));
        }
        let snapshots = &self.means.snapshots;
        Ok(snapshots.reserve(&machine.id, machine.memory_bytes)?)
    }

    /// Kills a machine, takes the snapshot that it has written, and clears it away in any case.
    pub fn snapshot(self: &Arc<Self>, name: &Name, binding: Digest) -> Result<Kept, Fault> {
        let machine = self.find(name)?;
        let (jail, group) = {
            let mut parts = machine.parts();
            match (
                parts.phase,
                parts.status.is_some(),
                parts.jail.clone(),
                parts.group.clone(),
            ) {
                (Phase::Running, false, Some(jail), Some(group)) => {
                    parts.phase = Phase::Taking;
                    (jail, group)
                }
                _ => return Err(Fault::new(Code::VmGone, format!("{} does not run", name.0))),
            }
        };
        let taken = self.take(&machine, &jail, &group, binding);
        drop(jail);
        let status = if taken.is_ok() {
            "snapshot"
        } else {
            "failed snapshot"
        };
        match (self.clear(&machine, Some(status)), taken) {
            (Ok(()), taken) => taken,
            (Err(left), Err(fault)) => Err(fault.and(&left)),
            (Err(left), Ok(kept)) => {
                self.means.snapshots.drop_snapshot(&kept.snapshot)?;
                Err(left)
            }
        }
    }

    fn take(
        &self,
        machine: &Machine,
        jail: &Jail,
        group: &MachineGroup,
        binding: Digest,
    ) -> Result<Kept, Fault> {
        machine.check_wanted()?;
        let deadline = Instant::now() + CLEAR_DEADLINE;
        // Nothing may write any more: what is checked from here on is what is kept.
        group.empty(deadline)?;
        let kept = self.means.snapshots.take(
            jail,
            &machine.id,
            machine.memory_bytes,
            binding,
            &machine.condemned,
        )?;
        Ok(kept)
    }

    /// Kills a machine and waits until nothing of it is left.
    pub fn destroy(&self, name: &Name) -> Result<(), Fault> {
        let Ok(machine) = self.find(name) else {
            return Ok(());
        };
        machine.condemn();
        let deadline = Instant::now() + DESTROY_DEADLINE;
        let mut table = self.table();
        while table
            .living
            .get(name)
            .is_some_and(|other| Arc::ptr_eq(other, &machine))
        {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(table);
                return Err(machine.not_gone(&machine.processes()));
            }
            table = self
                .left
                .wait_timeout(table, left)
                .unwrap_or_else(|poison| poison.into_inner())
                .0;
        }
        Ok(())
    }

    /// Removes all that a machine had, and tells how it ended, if it had started. What is not gone by the deadline is told as a
    /// fault, and a thread goes on with it: a machine is said to be gone only when it is, as nobody may count on its memory before.
    fn clear(self: &Arc<Self>, machine: &Arc<Machine>, status: Option<&str>) -> Result<(), Fault> {
        {
            let mut parts = machine.parts();
            parts.console = None;
            parts.jail = None;
            parts.run = None;
        }
        let Err(fault) = self.try_clear(machine) else {
            self.forget(machine, status);
            return Ok(());
        };
        let told = machine.not_gone(&fault.message);
        self.warn_left(machine, &fault);
        let (machines, left) = (self.clone(), machine.clone());
        let status = status.map(String::from);
        let go_on = move || machines.clear_on(&left, status.as_deref());
        let thread = thread::Builder::new().stack_size(128 * 1024);
        if thread.spawn(go_on.clone()).is_err() {
            go_on();
        }
        Err(told)
    }

    /// Goes on until nothing is left, or everything ends: then guard and keeper sweep.
    fn clear_on(&self, machine: &Machine, status: Option<&str>) {
        loop {
            if self.closing.load(Ordering::SeqCst) {
                return self.strike(machine);
            }
            thread::sleep(CLEAR_RETRY);
            match self.try_clear(machine) {
                Ok(()) => return self.forget(machine, status),
                Err(fault) => self.warn_left(machine, &fault),
            }
        }
    }

    fn try_clear(&self, machine: &Machine) -> Result<(), Fault> {
        let deadline = Instant::now() + CLEAR_DEADLINE;
        let group = machine.parts().group.clone();
        if let Some(group) = group {
            group.remove(deadline)?;
        }
        let process = machine.parts().process.take();
        if let Some(mut process) = process {
            // Its group is empty, so it has ended, unless it is not where it was put.
            let _ = pidfd_send_signal(&process.pidfd, Signal::KILL);
            if sys::wait_until(&mut process.child, deadline).is_none() {
                let pid = process.child.id();
                machine.parts().process = Some(process);
                return Err(Fault::new(Code::Io, format!("process {pid} does not end")));
            }
        }
        self.means.run.remove(&machine.name.0)?;
        self.means.jails.remove(&machine.id)?;
        Ok(())
    }

    fn warn_left(&self, machine: &Machine, fault: &Fault) {
        log::warn(
            "keeper.jail.left",
            &[("jail", &machine.id), ("why", &fault.to_string())],
        );
    }

    /// Of a machine of which nothing is left: gives back what it had, and tells of its end.
    fn forget(&self, machine: &Machine, status: Option<&str>) {
        let (uid, made_from) = {
            let mut parts = machine.parts();
            (parts.uid.take(), parts.made_from.take())
        };
        if let Some(uid) = uid {
            uid.release();
        }
        if let Some(snapshot) = made_from {
            self.means.snapshots.let_go(&snapshot);
        }
        self.means.snapshots.give_back(&machine.id);
        self.strike(machine);
        if let Some(status) = status {
            (self.on_exit)(&machine.name.0, status);
        }
    }

    /// Takes it out of the table.
    fn strike(&self, machine: &Machine) {
        self.table().living.remove(&machine.name);
        self.left.notify_all();
    }

    /// Ends every machine; false when some are still being cleared away at the deadline.
    pub fn end_all(&self, deadline: Instant) -> bool {
        self.closing.store(true, Ordering::SeqCst);
        let machines: Vec<_> = self.table().living.values().cloned().collect();
        for machine in machines {
            machine.condemn();
        }
        let mut table = self.table();
        while !table.living.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            table = self
                .left
                .wait_timeout(table, left)
                .unwrap_or_else(|poison| poison.into_inner())
                .0;
        }
        true
    }
}

impl fmt::Debug for Machines {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Machines({})", self.means.keeper)
    }
}

struct Process {
    child: Child,
    pidfd: OwnedFd,
}

impl Process {
    fn ended_within(&self, time: Duration) -> bool {
        let timeout = Timespec::try_from(time).unwrap_or_default();
        matches!(
            poll(
                &mut [PollFd::new(&self.pidfd, PollFlags::IN)],
                Some(&timeout)
            ),
            Ok(1..)
        )
    }
}

fn check_start(start: &Start) -> Result<(), Fault> {
    let refuse = |what: &str| Err(Fault::new(Code::Argument, what));
    if !MEMORY_BYTES.contains(&start.memory_bytes) {
        return refuse("memory_bytes must be between 16 MiB and 1 TiB");
    }
    if !(1..=VCPUS_MAX).contains(&start.vcpus) {
        return refuse("vcpus must be between 1 and 32");
    }
    if start
        .cpu_quota_us
        .is_some_and(|quota| !(CPU_QUOTA_US_MIN..=CPU_QUOTA_US_MAX).contains(&quota))
    {
        return refuse("cpu_quota_us, of each 100000 us, must be at least 1000");
    }
    if !FILE_BYTES.contains(&start.file_bytes_max) {
        return refuse("file_bytes_max must be between 64 KiB and 2 TiB");
    }
    if start.snapshot.is_some() != start.binding.is_some() {
        return refuse("a snapshot and its binding come together");
    }
    Ok(())
}

fn shown(run: &Folder, name: &str) -> String {
    run.path.join(name).display().to_string()
}

/// Makes the FIFO of a console: its reading end and its writing end. Neither blocks: a VMM that nobody listens to goes on, and
/// what does not fit is lost.
fn make_console(run: &Folder, gid: u32) -> Result<(OwnedFd, OwnedFd), Fault> {
    let made = || -> rustix::io::Result<(OwnedFd, OwnedFd)> {
        mkfifoat(&run.fd, "console", Mode::from_raw_mode(0o600))?;
        let fifo = beneath(run.fd.as_fd(), "console", OFlags::PATH)?;
        own_held(fifo.as_fd(), 0, gid, 0o640)?;
        let reader = beneath(run.fd.as_fd(), "console", OFlags::RDONLY | OFlags::NONBLOCK)?;
        let writer = beneath(run.fd.as_fd(), "console", OFlags::WRONLY | OFlags::NONBLOCK)?;
        Ok((reader, writer))
    };
    Ok(made().doing(|| "make a console".into())?)
}

/// Whether something accepts connections. Not a byte is sent.
fn listens(held: &jail::Held) -> bool {
    use std::os::fd::AsRawFd;
    UnixStream::connect(format!("/proc/self/fd/{}", held.fd.as_raw_fd())).is_ok()
}

fn read_complaint(reader: OwnedFd) -> String {
    let mut bytes = Vec::new();
    let _ = std::fs::File::from(reader)
        .take(COMPLAINT_BYTES_MAX as u64)
        .read_to_end(&mut bytes);
    let text: String = bytes
        .iter()
        .map(|byte| {
            if (0x20..0x7f).contains(byte) {
                char::from(*byte)
            } else {
                ' '
            }
        })
        .collect();
    if text.trim().is_empty() {
        "it said nothing".into()
    } else {
        text.trim().into()
    }
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (_, Some(signal)) => format!("was killed by signal {signal}"),
        _ => "ended".into(),
    }
}
