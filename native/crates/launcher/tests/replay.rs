//! Replay records as an enemy or a dying disk would leave them: the launcher ends in the compiler, soon, and writes nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use hpcc_frames::*;
use sha2::{Digest as _, Sha256};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);
const KEPT: &str = "kept";
const COMPILED: &str = "compiled";

/// A folder with a compiler that is a script, an input, a kept file, and a place for the call's record.
struct Place {
    folder: PathBuf,
    name: [u8; DIGEST_BYTES],
}

static PLACES: AtomicU32 = AtomicU32::new(0);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Kept to the end of the test's process, as records borrow it.
fn terminated(path: &Path) -> &'static [u8] {
    [path.as_os_str().as_bytes(), b"\0"].concat().leak()
}

fn stamp_of(path: &Path) -> Stamp {
    let stat = fs::symlink_metadata(path).unwrap();
    Stamp {
        dev: stat.dev(),
        ino: stat.ino(),
        size: stat.size(),
        modified: stat.mtime() * 1_000_000_000 + stat.mtime_nsec(),
        changed: stat.ctime() * 1_000_000_000 + stat.ctime_nsec(),
        mode: stat.mode(),
    }
}

fn own_umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Umask:"))
        .unwrap();
    u32::from_str_radix(line.trim(), 8).unwrap()
}

fn own_groups() -> Vec<u32> {
    let mut groups = vec![0; 65_536];
    // SAFETY: the buffer is as long as said.
    let count = unsafe { libc::getgroups(65_536, groups.as_mut_ptr()) };
    groups.truncate(usize::try_from(count).unwrap());
    // SAFETY: no pointers.
    groups.push(unsafe { libc::getegid() });
    groups
}

impl Place {
    fn new() -> Place {
        let number = PLACES.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir()
            .canonicalize()
            .unwrap()
            .join(format!("hpcc-replay-{}-{number}", std::process::id()));
        for name in ["bin", "work", "state", "run"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        for name in ["state", "run"] {
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o700)).unwrap();
        }
        fs::write(
            folder.join("bin/cc"),
            format!("#!/bin/sh\nprintf {COMPILED} > out.o\n"),
        )
        .unwrap();
        fs::set_permissions(folder.join("bin/cc"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(folder.join("in"), "input").unwrap();
        fs::write(folder.join("kept"), KEPT).unwrap();
        let mut place = Place {
            folder,
            name: [0; DIGEST_BYTES],
        };
        let namespace = fs::metadata("/proc/self/ns/mnt").unwrap();
        let environment: Vec<Vec<u8>> = place
            .environment()
            .iter()
            .map(|(name, value)| format!("{name}={value}").into_bytes())
            .collect();
        let bytes = encode_replay_name(&ReplayCall {
            launcher_version: env!("CARGO_PKG_VERSION"),
            argv: &[b"cc".to_vec(), b"-c".to_vec()],
            cwd: place.work().as_os_str().as_bytes(),
            environment: &environment,
            umask: own_umask(),
            terminal: 0,
            columns: None,
            // SAFETY: no pointers.
            user: unsafe { libc::geteuid() },
            groups: &own_groups(),
            mount_namespace_dev: namespace.dev(),
            mount_namespace_ino: namespace.ino(),
            pwd: Pwd::None,
        });
        place.name = Sha256::digest(bytes.unwrap()).into();
        place
    }

    fn work(&self) -> PathBuf {
        self.folder.join("work")
    }

    fn environment(&self) -> [(&'static str, String); 4] {
        let path = |name: &str| self.folder.join(name).to_str().unwrap().to_owned();
        [
            ("PATH", format!("{}:/usr/bin:/bin", path("bin"))),
            ("HPCC_STATE_DIR", path("state")),
            ("HPCC_RUNTIME_DIR", path("run")),
            ("HPCC_LIB_DIR", path("nothing")),
        ]
    }

    fn record_path(&self) -> PathBuf {
        let hex: String = self.name.iter().map(|byte| format!("{byte:02x}")).collect();
        self.folder.join("state/replay").join(&hex[..2]).join(hex)
    }

    /// The bytes of a record that holds; `change` may make it one that does not.
    fn record(&self, change: impl FnOnce(&mut ReplayRecord<'static>)) -> Vec<u8> {
        let (input, kept) = (
            terminated(&self.folder.join("in")),
            terminated(&self.folder.join("kept")),
        );
        let absent = terminated(&self.folder.join("absent"));
        let work = terminated(&self.work());
        let stat = fs::metadata(self.work()).unwrap();
        let mut record = ReplayRecord {
            name: self.name,
            recorded_ms: 1,
            stamps: vec![StampedPath {
                stamp: stamp_of(&self.folder.join("in")),
                path: input,
            }],
            absent: vec![absent],
            places: vec![hpcc_frames::Place {
                dev: stat.dev(),
                ino: stat.ino(),
                path: work,
            }],
            outputs: vec![ReplayOutput {
                destination: b"out.o".to_vec(),
                kept: StampedPath {
                    stamp: stamp_of(&self.folder.join("kept")),
                    path: kept,
                },
                executable: false,
                manner: Manner::Assembler,
                digest: [7; DIGEST_BYTES],
            }],
            stdout: b"said",
            stderr: b"",
            project: None,
            source: b"/a.c".to_vec(),
            output: b"/out.o".to_vec(),
            call: None,
        };
        change(&mut record);
        encode_replay_record(&record).unwrap()
    }

    fn write(&self, bytes: &[u8]) {
        let path = self.record_path();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// What stands in out.o after the call. It ends well and in time, whatever it does.
    fn call(&self) -> String {
        let _ = fs::remove_file(self.work().join("out.o"));
        let mut child = Command::new(env!("CARGO_BIN_EXE_hpcc"))
            .args(["cc", "-c"])
            .env_clear()
            .envs(self.environment())
            .current_dir(self.work())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > PATIENCE {
                child.kill().unwrap();
                panic!("the launcher hangs");
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        assert!(status.success(), "{status}");
        fs::read_to_string(self.work().join("out.o")).unwrap()
    }
}

/// With the checksum of what it has become.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.len() - 4;
    let checksum = crc32fast::hash(&bytes[..end]).to_le_bytes();
    bytes[end..].copy_from_slice(&checksum);
    bytes
}

#[test]
fn a_record_that_holds_is_replayed() {
    let place = Place::new();
    place.write(&place.record(|_| {}));
    assert_eq!(place.call(), KEPT);
    assert_eq!(place.call(), KEPT);
    let log = fs::read_to_string(place.folder.join("state/replay/hits.log")).unwrap();
    assert_eq!(log.lines().count(), 2);
    fs::write(place.folder.join("in"), "other").unwrap();
    assert_eq!(place.call(), COMPILED);
}

#[test]
fn records_that_are_cut_or_flipped_anywhere_are_none() {
    let place = Place::new();
    let bytes = place.record(|_| {});
    for at in (0..bytes.len()).step_by(7) {
        place.write(&bytes[..at]);
        assert_eq!(place.call(), COMPILED, "cut at {at}");
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        place.write(&flipped);
        assert_eq!(place.call(), COMPILED, "flipped at {at}");
    }
    place.write(&[bytes.clone(), vec![0; 5]].concat());
    assert_eq!(place.call(), COMPILED);
    place.write(&bytes);
    assert_eq!(place.call(), KEPT, "and the whole one is one");
}

#[test]
fn any_bytes_behind_a_right_checksum_end_in_a_replay_or_in_the_compiler() {
    let place = Place::new();
    let bytes = place.record(|_| {});
    // The destination stays: these tests write nowhere else.
    let destination = bytes.windows(5).position(|part| part == b"out.o").unwrap();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut compiled = 0;
    for _ in 0..200 {
        let mut altered = bytes.clone();
        for _ in 0..=random % 3 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let at = usize::try_from(random % (altered.len() as u64 - 4)).unwrap();
            if !(destination..destination + 5).contains(&at) {
                altered[at] = u8::try_from(random >> 32 & 0xff).unwrap();
            }
        }
        place.write(&sealed(altered));
        compiled += u32::from(place.call() == COMPILED);
    }
    assert!(
        compiled > 100,
        "most such changes are seen: {compiled} of 200"
    );
}

#[test]
fn records_that_say_something_else_do_not_hold() {
    let place = Place::new();
    let nothing = terminated(&place.folder.join("nothing"));
    let input = terminated(&place.folder.join("in"));
    let dangling = place.folder.join("dangling");
    symlink("/nonexistent", &dangling).unwrap();
    let dangling = terminated(&dangling);
    type Change = Box<dyn Fn(&mut ReplayRecord<'static>)>;
    let changes: Vec<(&str, Change)> = vec![
        (
            "another call's",
            Box::new(move |record| record.name[0] ^= 1),
        ),
        (
            "another time",
            Box::new(move |record| record.stamps[0].stamp.changed += 1),
        ),
        (
            "another mode",
            Box::new(move |record| record.stamps[0].stamp.mode ^= 1),
        ),
        (
            "a link that is a file",
            Box::new(move |record| {
                record.stamps[0].stamp.mode = libc::S_IFLNK | 0o777;
            }),
        ),
        (
            "a file that is gone",
            Box::new(move |record| record.stamps[0].path = nothing),
        ),
        (
            "a name that is there",
            Box::new(move |record| record.absent.push(input)),
        ),
        (
            "a link to nothing",
            Box::new(move |record| record.absent.push(dangling)),
        ),
        (
            "another folder",
            Box::new(move |record| record.places[0].ino += 1),
        ),
        (
            "no folder",
            Box::new(move |record| record.places[0].path = nothing),
        ),
        (
            "a kept file that is gone",
            Box::new(move |record| record.outputs[0].kept.path = nothing),
        ),
        (
            "another kept file",
            Box::new(move |record| record.outputs[0].kept.path = input),
        ),
        (
            "a kept file that is a device",
            Box::new(move |record| record.outputs[0].kept.path = b"/dev/zero\0"),
        ),
    ];
    for (what, change) in &changes {
        place.write(&place.record(|record| change(record)));
        assert_eq!(place.call(), COMPILED, "{what}");
    }
    place.write(&place.record(|record| record.absent = vec![nothing; REPLAY_NAMES_MAX]));
    assert_eq!(place.call(), KEPT, "as many names as there may be");
}

#[test]
fn kept_files_records_and_logs_of_other_kinds_neither_hang_nor_are_believed() {
    let place = Place::new();
    let bytes = place.record(|_| {});
    let kept = place.folder.join("kept");
    let fifo = |path: &Path| {
        let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
        // SAFETY: the path is a C string.
        assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    };
    place.write(&bytes);
    fs::rename(&kept, place.folder.join("moved")).unwrap();
    symlink("moved", &kept).unwrap();
    assert_eq!(place.call(), COMPILED, "a link to the very file");
    fs::remove_file(&kept).unwrap();
    fifo(&kept);
    assert_eq!(place.call(), COMPILED, "a fifo");
    fs::remove_file(&kept).unwrap();
    fs::create_dir(&kept).unwrap();
    assert_eq!(place.call(), COMPILED, "a folder");
    fs::remove_dir(&kept).unwrap();
    fs::write(&kept, "kep").unwrap();
    assert_eq!(place.call(), COMPILED, "another size");
    place.write(&place.record(|_| {}));

    let log = place.folder.join("state/replay/hits.log");
    for make in [
        &fifo as &dyn Fn(&Path),
        &|path: &Path| fs::create_dir(path).unwrap(),
        &|path: &Path| symlink("/dev/full", path).unwrap(),
    ] {
        make(&log);
        assert_eq!(
            place.call(),
            "kep",
            "a log that cannot be written costs nothing"
        );
        let _ = fs::remove_file(&log).or_else(|_| fs::remove_dir(&log));
    }
    fs::File::create(&log)
        .unwrap()
        .set_len(4 * 1024 * 1024 + 1)
        .unwrap();
    assert_eq!(place.call(), COMPILED, "a log that is to be read first");
    fs::remove_file(&log).unwrap();

    let record = place.record_path();
    fs::set_permissions(&record, fs::Permissions::from_mode(0o620)).unwrap();
    assert_eq!(place.call(), COMPILED, "others could have written it");
    fs::remove_file(&record).unwrap();
    fifo(&record);
    assert_eq!(place.call(), COMPILED, "a record that is a fifo");
    fs::remove_file(&record).unwrap();
    fs::create_dir(&record).unwrap();
    assert_eq!(place.call(), COMPILED, "a record that is a folder");
    fs::remove_dir(&record).unwrap();
    place.write(&vec![0; REPLAY_BYTES_MAX + 1]);
    assert_eq!(place.call(), COMPILED, "a record that is too large");
    place.write(&u32::MAX.to_le_bytes());
    assert_eq!(place.call(), COMPILED, "a record that claims to be");
}

#[test]
fn what_cannot_be_written_is_left_to_the_compiler() {
    let place = Place::new();
    // Where a folder is, nothing of the compile is written; the compiler's own word is the last.
    place.write(&place.record(|record| record.outputs[0].destination = b"out.o/x".to_vec()));
    assert_eq!(place.call(), COMPILED);
    let leftovers: Vec<_> = fs::read_dir(place.work()).unwrap().collect();
    assert_eq!(leftovers.len(), 1);
}
