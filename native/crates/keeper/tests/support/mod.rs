//! A whole keeper with a stand-in for jailer, VMM and worker, and ways to look at what it leaves on the host.
#![allow(dead_code)]
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Memory of a machine.
pub const MEMORY_BYTES: u64 = 16 << 20;
pub const WORKER_UID: u32 = 48_000;
/// What must be gone is gone within this.
pub const GONE: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(60);
static RANGES: AtomicU32 = AtomicU32::new(0);

pub fn digest_of(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}

/// Folders and programs of a keeper; more than one keeper may run in it, one after the other.
pub struct Site {
    pub folder: tempfile::TempDir,
    pub uids: (u32, u32),
    pub user: String,
    pub options: Vec<String>,
}

impl Site {
    pub fn new() -> Site {
        assert!(rustix::process::geteuid().is_root(), "a keeper needs root");
        let folder = tempfile::Builder::new()
            .prefix("k")
            .tempdir_in("/var/tmp")
            .unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for role in ["jailer", "firecracker", "worker"] {
            let path = folder.path().join(role);
            install(Path::new(env!("CARGO_BIN_EXE_stand-in")), &path);
        }
        let home = folder.path().join("home");
        fs::create_dir(&home).unwrap();
        chown(&home, Some(WORKER_UID), Some(WORKER_UID)).unwrap();
        let range = RANGES.fetch_add(1, Ordering::Relaxed);
        let first = 700_000 + (std::process::id() % 1000) * 100 + range * 4;
        Site {
            folder,
            uids: (first, first + 3),
            user: format!("{WORKER_UID}:{WORKER_UID}"),
            options: Vec::new(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts the base folder on a small disk of its own.
    pub fn mount_base(&self, mebibytes: u64) {
        let (image, base) = (self.path("disk"), self.path("base"));
        fs::File::create(&image)
            .unwrap()
            .set_len(mebibytes << 20)
            .unwrap();
        fs::create_dir(&base).unwrap();
        run(Command::new("mkfs.ext4")
            .args(["-q", "-m", "0"])
            .arg(&image));
        run(Command::new("mount")
            .args(["-o", "loop"])
            .args([&image, &base]));
    }

    /// Ends the disk of the base folder where a file's data begin, so that reading them is an error of the disk.
    pub fn cut_disk_at(&self, file: &fs::File, path: &Path) {
        file.sync_all().unwrap();
        run(Command::new("sync").arg("-f").arg(self.path("base")));
        let map = Command::new("filefrag")
            .args(["-v", "-b4096"])
            .arg(path)
            .output()
            .unwrap();
        let map = String::from_utf8(map.stdout).unwrap();
        let first = map
            .lines()
            .filter_map(|line| {
                line.split(':')
                    .nth(2)?
                    .trim()
                    .split("..")
                    .next()?
                    .parse::<u64>()
                    .ok()
            })
            .min()
            .expect("an extent");
        let disk = fs::File::options()
            .write(true)
            .open(self.path("disk"))
            .unwrap();
        disk.sync_all().unwrap();
        disk.set_len(first * 4096).unwrap();
        rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }

    pub fn cgroup(&self) -> PathBuf {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let mount = mounts
            .lines()
            .find(|line| line.split(' ').nth(2) == Some("cgroup2"))
            .expect("a cgroup2 mount");
        Path::new(mount.split(' ').nth(1).unwrap()).join(format!("hpcc-tests-{}", self.uids.0))
    }

    pub fn command(&self) -> Command {
        let (first, last) = self.uids;
        let mut command = Command::new(env!("CARGO_BIN_EXE_hpcc-keeper"));
        command
            .args(["--user", &self.user, "--uids", &format!("{first}-{last}")])
            .arg("--firecracker")
            .arg(self.path("firecracker"))
            .arg("--jailer")
            .arg(self.path("jailer"))
            .arg("--base")
            .arg(self.path("base"))
            .arg("--cgroup")
            .arg(self.cgroup())
            .arg("--lock-dir")
            .arg(self.path("locks"))
            .args(&self.options)
            .arg("--")
            .arg(self.path("worker"))
            .arg(self.path("home/worker.sock"))
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    pub fn start(&self) -> Keeper<'_> {
        self.start_by(self.command())
    }

    pub fn start_by(&self, mut command: Command) -> Keeper<'_> {
        for name in ["home/worker.sock", "home/worker.sock.keyring"] {
            let _ = fs::remove_file(self.path(name));
        }
        let mut child = command.spawn().unwrap();
        let deadline = Instant::now() + PATIENCE;
        let stream = loop {
            match UnixStream::connect(self.path("home/worker.sock")) {
                Ok(stream) => break stream,
                Err(_) if child.try_wait().unwrap().is_some() => {
                    panic!("keeper ended: {}", said(&mut child))
                }
                Err(error) => assert!(Instant::now() < deadline, "no worker: {error}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Keeper {
            site: self,
            child,
            reader: BufReader::new(stream.try_clone().unwrap()),
            stream: Some(stream),
            sequence: 0,
            events: Vec::new(),
        }
    }

    /// Everything of a keeper that is still on the host.
    pub fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(status) = fs::read_to_string(entry.path().join("status")) else {
                continue;
            };
            let uid: u32 = field(&status, "Uid:").parse().unwrap_or(0);
            if (uid >= self.uids.0 && uid <= self.uids.1) && field(&status, "State:") != "Z" {
                left.push(format!(
                    "process {} of uid {uid}",
                    entry.file_name().to_string_lossy()
                ));
            }
        }
        for entry in fs::read_dir(self.cgroup()).into_iter().flatten().flatten() {
            if entry.file_type().unwrap().is_dir() {
                left.push(format!("cgroup {}", entry.path().display()));
            }
        }
        for (folder, kept) in [
            ("base", vec!["lock", "snapshots", "lost+found"]),
            ("base/snapshots", vec!["lock"]),
        ] {
            for entry in fs::read_dir(self.path(folder))
                .into_iter()
                .flatten()
                .flatten()
            {
                if !kept.contains(&entry.file_name().to_str().unwrap()) {
                    left.push(format!("file {}", entry.path().display()));
                }
            }
        }
        for entry in fs::read_dir(self.path("locks"))
            .into_iter()
            .flatten()
            .flatten()
        {
            if entry.metadata().unwrap().len() > 0 {
                left.push(format!("uid {}", entry.file_name().to_string_lossy()));
            }
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let own = self.folder.path().display().to_string();
        let disk = format!(" {own}/base ");
        left.extend(
            mounts
                .lines()
                .filter(|line| line.contains(&own) && !line.contains(&disk))
                .map(|line| format!("mount {line}")),
        );
        left
    }

    pub fn wait_nothing_left(&self) {
        let deadline = Instant::now() + GONE;
        while !self.left().is_empty() {
            assert!(Instant::now() < deadline, "left: {:#?}", self.left());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if self.path("disk").exists() {
            let _ = Command::new("umount").arg(self.path("base")).status();
        }
        let _ = fs::remove_dir(self.cgroup());
    }
}

/// Copies a program. Another process writes it: what a fork of another test's thread holds open cannot be executed meanwhile.
pub fn install(program: &Path, path: &Path) {
    run(Command::new("install")
        .args(["-m", "0755"])
        .args([program, path]));
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status
        .lines()
        .find(|line| line.starts_with(name))
        .unwrap_or("");
    line[name.len().min(line.len())..]
        .split_whitespace()
        .next()
        .unwrap_or("")
}

pub fn said(child: &mut Child) -> String {
    let mut text = String::new();
    if let Some(stderr) = &mut child.stderr {
        let _ = stderr.read_to_string(&mut text);
    }
    text
}

/// A keeper that runs, seen from its worker.
pub struct Keeper<'a> {
    pub site: &'a Site,
    pub child: Child,
    reader: BufReader<UnixStream>,
    stream: Option<UnixStream>,
    sequence: u64,
    pub events: Vec<Value>,
}

impl Keeper<'_> {
    pub fn send(&mut self, request: &str, with: Value) -> u64 {
        self.sequence += 1;
        let line = json!({ "id": self.sequence, "request": request, "with": with });
        self.send_line(&line.to_string());
        self.sequence
    }

    pub fn send_line(&mut self, line: &str) {
        let _ = self
            .stream
            .as_mut()
            .unwrap()
            .write_all(format!("{line}\n").as_bytes());
    }

    /// The next line; None at the end.
    pub fn read(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).unwrap()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no answer: {error}"),
        }
    }

    pub fn answer(&mut self, id: u64) -> Result<Value, String> {
        let early = self
            .events
            .iter()
            .position(|message| message["id"] == json!(id));
        let message = match early {
            Some(at) => self.events.remove(at),
            None => loop {
                let message = self.read().expect("an answer");
                if message["id"] == json!(id) {
                    break message;
                }
                self.events.push(message);
            },
        };
        match message.get("ok") {
            Some(ok) => Ok(ok.clone()),
            None => {
                let error = &message["error"];
                Err(format!(
                    "{}: {}",
                    error["code"].as_str().unwrap(),
                    error["message"]
                ))
            }
        }
    }

    pub fn ask(&mut self, request: &str, with: Value) -> Result<Value, String> {
        let id = self.send(request, with);
        self.answer(id)
    }

    pub fn event(&mut self) -> Value {
        if self.events.is_empty() {
            self.read().expect("an event")
        } else {
            self.events.remove(0)
        }
    }

    /// Admits a file with the given bytes; gives its digest.
    pub fn admit(&mut self, bytes: &[u8]) -> String {
        let path = self.site.path("admitted");
        fs::write(&path, bytes).unwrap();
        let digest = digest_of(bytes);
        let with =
            json!({ "kind": "kernel", "path": path, "sha256": digest, "bytes_max": 1 << 20 });
        self.ask("admit", with).unwrap();
        digest
    }

    /// What starts a machine whose VMM first does what `orders` say.
    pub fn spec(&mut self, vm: &str, orders: &str) -> Value {
        let kernel = self.admit(b"kernel");
        let initramfs = self.admit(orders.as_bytes());
        json!({
            "vm": vm, "memory_bytes": MEMORY_BYTES, "vcpus": 1, "cpu_quota_us": null,
            "files": { "kernel": kernel, "initramfs": initramfs, "rootfs": kernel },
            "snapshot": null, "binding": null, "file_bytes_max": 64 << 20,
        })
    }

    pub fn start(&mut self, vm: &str, orders: &str) -> Result<Vm, String> {
        let spec = self.spec(vm, orders);
        self.start_with(spec)
    }

    pub fn start_with(&mut self, spec: Value) -> Result<Vm, String> {
        let vm = spec["vm"].as_str().unwrap().to_string();
        let started = self.ask("start", spec)?;
        Ok(Vm {
            name: vm,
            uid: started["uid"].as_u64().unwrap() as u32,
            api: started["api"].as_str().unwrap().into(),
            console: started["console"].as_str().unwrap().into(),
        })
    }

    pub fn guard(&self) -> u32 {
        self.child.id()
    }

    /// The keeper proper: the guard's child of the same program.
    pub fn keeper(&self) -> u32 {
        self.child_named("hpcc-keeper")
    }

    pub fn worker(&self) -> u32 {
        self.child_named("worker")
    }

    fn child_named(&self, name: &str) -> u32 {
        let guard = self.guard();
        let children = fs::read_to_string(format!("/proc/{guard}/task/{guard}/children")).unwrap();
        children
            .split_whitespace()
            .map(|pid| pid.parse().unwrap())
            .find(|pid| {
                fs::read_to_string(format!("/proc/{pid}/comm"))
                    .unwrap_or_default()
                    .trim()
                    == name
            })
            .unwrap_or_else(|| panic!("no {name}"))
    }

    /// Processes of a machine.
    pub fn machines(&self) -> Vec<u32> {
        let mut found = Vec::new();
        for keeper in fs::read_dir(self.site.cgroup())
            .unwrap()
            .flatten()
            .filter(|entry| entry.path().is_dir())
        {
            for machine in fs::read_dir(keeper.path())
                .unwrap()
                .flatten()
                .filter(|entry| entry.path().is_dir())
            {
                let text =
                    fs::read_to_string(machine.path().join("cgroup.procs")).unwrap_or_default();
                found.extend(text.lines().map(|pid| pid.parse::<u32>().unwrap()));
            }
        }
        found
    }

    /// Everything on the host of machines and unfinished snapshots, while the keeper lives and is to have none.
    pub fn left(&self) -> Vec<String> {
        let mut left: Vec<String> = self
            .site
            .left()
            .into_iter()
            .filter(|left| {
                left.starts_with("process") || left.starts_with("uid") || left.starts_with("mount")
            })
            .collect();
        let groups = fs::read_dir(self.site.cgroup()).unwrap().flatten();
        let keepers = groups
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.path());
        let folders = ["base/jails/firecracker", "base/run", "base/snapshots/kept"];
        for folder in keepers.chain(folders.map(|folder| self.site.path(folder))) {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() || !folder.starts_with(self.site.cgroup()) {
                    left.push(path.display().to_string());
                }
            }
        }
        left
    }

    /// The worker goes; the keeper has ended in time and left nothing.
    pub fn finish(mut self) -> ExitStatus {
        self.close();
        let status = self.wait();
        self.site.wait_nothing_left();
        status
    }

    pub fn close(&mut self) {
        if let Some(stream) = self.stream.take() {
            stream.shutdown(std::net::Shutdown::Both).unwrap();
        }
    }

    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the guard does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Keeper<'_> {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().is_ok_and(|status| status.is_none())
            && Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(5));
        }
        if std::thread::panicking() {
            eprintln!("{}", said(&mut self.child));
        }
    }
}

/// A place for processes that not even SIGKILL ends until they are let go, as one that is stuck in the kernel: a group of the
/// freezer of cgroup v1, whose frozen processes take no signal.
pub struct Freezer {
    group: PathBuf,
    mounted: Option<tempfile::TempDir>,
}

impl Freezer {
    /// None, said by name, where the kernel has no such freezer.
    pub fn new() -> Option<Freezer> {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let mount = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .find(|fields| {
                fields[2] == "cgroup" && fields[3].split(',').any(|name| name == "freezer")
            })
            .map(|fields| PathBuf::from(fields[1]));
        let mut mounted = None;
        let mount = mount.or_else(|| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().to_path_buf();
            let done = Command::new("mount")
                .args(["-t", "cgroup", "-o", "freezer", "freezer"])
                .arg(&path)
                .status()
                .unwrap()
                .success();
            mounted = done.then_some(folder);
            done.then_some(path)
        });
        let Some(mount) = mount else {
            println!("SKIPPED a process that does not end: no freezer of cgroup v1");
            return None;
        };
        let sequence = RANGES.fetch_add(1, Ordering::Relaxed);
        let group = mount.join(format!("hpcc-test-{}-{sequence}", std::process::id()));
        fs::create_dir(&group).unwrap();
        Some(Freezer { group, mounted })
    }

    pub fn freeze(&self, pids: &[u32]) {
        for pid in pids {
            fs::write(self.group.join("cgroup.procs"), pid.to_string()).unwrap();
        }
        self.turn("FROZEN");
    }

    pub fn thaw(&self) {
        self.turn("THAWED");
    }

    fn turn(&self, state: &str) {
        let file = self.group.join("freezer.state");
        fs::write(&file, state).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while fs::read_to_string(&file).unwrap().trim() != state {
            assert!(Instant::now() < deadline, "it does not get {state}");
        }
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        self.thaw();
        let deadline = Instant::now() + PATIENCE;
        while fs::remove_dir(&self.group).is_err() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        if let Some(folder) = &self.mounted {
            let _ = Command::new("umount").arg(folder.path()).status();
        }
    }
}

#[derive(Debug)]
pub struct Vm {
    pub name: String,
    pub uid: u32,
    pub api: PathBuf,
    pub console: PathBuf,
}

impl Vm {
    /// Has the VMM do something.
    pub fn order(&self, order: &str) -> String {
        let mut stream = UnixStream::connect(&self.api).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(format!("{order}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        match answer.trim_end().strip_prefix("ok") {
            Some(text) => text.trim().into(),
            None => panic!("{order}: {answer}"),
        }
    }

    pub fn with(&self) -> Value {
        json!({ "vm": self.name })
    }
}

/// What a file is, to see that nothing of it was changed.
pub fn looks(path: &Path) -> (u32, u32, u32, u64, i64, Vec<u8>) {
    let metadata = fs::symlink_metadata(path).unwrap();
    let bytes = if metadata.is_file() {
        fs::read(path).unwrap()
    } else {
        Vec::new()
    };
    (
        metadata.uid(),
        metadata.gid(),
        metadata.mode(),
        metadata.nlink(),
        metadata.mtime_nsec(),
        bytes,
    )
}

pub fn kill(pid: u32, signal: i32) {
    let _ = Command::new("kill")
        .args([format!("-{signal}"), pid.to_string()])
        .status();
}
