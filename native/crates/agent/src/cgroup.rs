//! Control groups, version 2: one for each execution, all below one that can be killed at once.
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::request::JobLimits;

/// The group under which executions get theirs.
#[derive(Debug)]
pub struct Groups {
    path: PathBuf,
    /// Whether the kernel limits memory; always in a guest.
    pub memory: bool,
    /// Whether the kernel limits processes; always in a guest.
    pub pids: bool,
}

/// The group of all executions, below the one that the agent was given.
const EXECUTIONS: &str = "executions";

impl Groups {
    /// Takes the group at `path` and turns on the controllers that it has.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Groups> {
        let own = path.into();
        let path = own.join(EXECUTIONS);
        let available = fs::read_to_string(own.join("cgroup.controllers"))?;
        fs::create_dir(&path)?;
        let enable = |name: &str| {
            available
                .split_ascii_whitespace()
                .any(|controller| controller == name)
                && [&own, &path].into_iter().all(|group| {
                    fs::write(group.join("cgroup.subtree_control"), format!("+{name}")).is_ok()
                })
        };
        let (memory, pids) = (enable("memory"), enable("pids"));
        Ok(Groups { path, memory, pids })
    }

    /// Kills every process of every execution, without a race.
    pub fn kill_all(&self) -> io::Result<()> {
        fs::write(self.path.join("cgroup.kill"), "1")
    }

    /// Removes the groups of executions that a session has left; false when one stays.
    pub fn remove_all(&self) -> bool {
        let Ok(folder) = fs::read_dir(&self.path) else {
            return false;
        };
        let groups = folder.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        groups
            .filter(|path| path.is_dir())
            .all(|path| fs::remove_dir(path).is_ok())
    }

    /// Makes a group with the limits of an execution.
    pub fn create(&self, name: &str, limits: &JobLimits) -> io::Result<Group> {
        let path = self.path.join(name);
        fs::create_dir(&path)?;
        let dir = rustix::fs::open(
            &path,
            OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let group = Group { path, dir };
        if self.memory {
            group.write("memory.max", &limits.memory_bytes.to_string())?;
            group.write("memory.oom.group", "1")?;
            // Absent from kernels without swap.
            match group.write("memory.swap.max", "0") {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.pids {
            // One more for the sandbox's own first process.
            group.write("pids.max", &(u64::from(limits.pids) + 1).to_string())?;
        }
        Ok(group)
    }
}

/// What an execution has used.
#[derive(Debug, Default, Clone, Copy)]
pub struct Usage {
    pub cpu_us: u64,
    pub memory_peak_bytes: u64,
    /// Processes that the kernel killed for want of memory.
    pub oom_kills: u64,
    /// Forks that the limit refused.
    pub refused_forks: u64,
}

/// The group of one execution. Dropping it kills what is in it and tries to remove it.
#[derive(Debug)]
pub struct Group {
    path: PathBuf,
    dir: OwnedFd,
}

impl Group {
    /// The group's folder, for a fork into it.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Kills every process in the group, at once and without a race.
    pub fn kill(&self) -> io::Result<()> {
        self.write("cgroup.kill", "1")
    }

    /// True when a process is left.
    pub fn populated(&self) -> io::Result<bool> {
        Ok(value_of(&self.read("cgroup.events")?, "populated") != Some(0))
    }

    /// What has been used so far.
    pub fn usage(&self) -> Usage {
        let keyed = |file: &str, key: &str| {
            self.read(file)
                .ok()
                .and_then(|text| value_of(&text, key))
                .unwrap_or(0)
        };
        Usage {
            cpu_us: keyed("cpu.stat", "usage_usec"),
            memory_peak_bytes: self
                .read("memory.peak")
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(0),
            oom_kills: keyed("memory.events", "oom_kill"),
            refused_forks: keyed("pids.events", "max"),
        }
    }

    /// Removes the empty group.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_dir(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn path(&self, file: &str) -> PathBuf {
        Path::join(&self.path, file)
    }

    fn read(&self, file: &str) -> io::Result<String> {
        fs::read_to_string(self.path(file))
    }

    fn write(&self, file: &str, value: &str) -> io::Result<()> {
        fs::write(self.path(file), value)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.kill();
        let _ = self.remove();
    }
}

fn value_of(text: &str, key: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::value_of;

    #[test]
    fn reads_flat_keyed_files() {
        let text = "low 0\noom 3\noom_kill 2\n";
        assert_eq!(value_of(text, "oom"), Some(3));
        assert_eq!(value_of(text, "oom_kill"), Some(2));
        assert_eq!(value_of(text, "max"), None);
        assert_eq!(value_of("oom x", "oom"), None);
    }
}
