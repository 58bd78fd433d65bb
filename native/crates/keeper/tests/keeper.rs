//! A whole keeper, with a stand-in for Firecracker that does what it is told, hostile things above all.
#![cfg(feature = "test-harness")]
#![allow(clippy::unwrap_used, clippy::expect_used)]
mod support;

use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use support::{Keeper, MEMORY_BYTES, Site, Vm, digest_of, install, looks};

/// Has a VMM write a snapshot of a memory of which three pieces are not zeros.
fn write_snapshot(vm: &Vm) {
    vm.order("write /state.new the-state");
    vm.order("fill /memory.new 3145728");
    vm.order(&format!("extend /memory.new {MEMORY_BYTES}"));
}

fn take(keeper: &mut Keeper<'_>, vm: &Vm) -> Result<serde_json::Value, String> {
    keeper.ask(
        "snapshot",
        json!({ "vm": vm.name, "binding": digest_of(b"binding") }),
    )
}

fn restored(keeper: &mut Keeper<'_>, snapshot: &str, binding: &[u8]) -> Result<Vm, String> {
    let mut spec = keeper.spec("again", "");
    spec["snapshot"] = json!(snapshot);
    spec["binding"] = json!(digest_of(binding));
    keeper.start_with(spec)
}

#[test]
fn says_what_it_runs_and_that_nobody_vouches_for_it() {
    let mut site = Site::new();
    let program = digest_of(&fs::read(site.path("firecracker")).unwrap());
    let mut keeper = site.start();
    let hello = keeper.ask("hello", json!({ "version": 1 })).unwrap();
    assert_eq!(
        hello["vmm"],
        json!({ "version": "1.16.1", "sha256": program, "known_release": false })
    );
    assert!(!hello["host"]["cpu_model"].as_str().unwrap().is_empty());
    assert!(
        keeper
            .ask("hello", json!({ "version": 2 }))
            .unwrap_err()
            .starts_with("argument")
    );
    assert_eq!(keeper.finish().code(), Some(0));
    site.options.extend(["--known-release".into(), program]);
    let mut keeper = site.start();
    let again = keeper.ask("hello", json!({ "version": 1 })).unwrap();
    assert_eq!(
        (
            &again["vmm"]["known_release"],
            &again["jailer"]["known_release"]
        ),
        (&json!(true), &json!(true))
    );
    assert_ne!(hello["keeper"], again["keeper"]);
}

#[test]
fn a_machine_has_a_jail_an_empty_network_and_no_needless_device() {
    let site = Site::new();
    let mut keeper = site.start();
    let vm = keeper.start("vm-1", "").unwrap();
    assert!(vm.uid >= site.uids.0 && vm.uid <= site.uids.1);
    assert_eq!(vm.order("who"), format!("{0} {0}", vm.uid));
    assert_eq!(vm.order("network"), "lo");
    assert_eq!(vm.order("devices"), "");
    assert_eq!(
        vm.order("list /"),
        "dev,firecracker,firecracker.pid,initramfs,rootfs,run,vmlinux"
    );
    assert_eq!(
        vm.order("list /run"),
        "",
        "the API's socket is the worker's alone"
    );
    let pid = keeper.machines()[0];
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let limit = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line[26..].split_whitespace().next().unwrap().to_string()
    };
    assert_eq!(
        (limit("Max file size"), limit("Max core file size")),
        ("67108864".into(), "1".into())
    );
    for (path, mode) in [(&vm.api, 0o660), (&vm.console, 0o640)] {
        let metadata = fs::metadata(path).unwrap();
        assert_eq!(
            (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777),
            (0, support::WORKER_UID, mode)
        );
    }
    let other = keeper.start("vm-2", "").unwrap();
    assert_ne!(vm.uid, other.uid);
    assert!(keeper.start("vm-1", "").unwrap_err().starts_with("exists"));
    keeper.ask("destroy", vm.with()).unwrap();
    keeper.ask("destroy", vm.with()).unwrap();
    assert_eq!(
        keeper.event(),
        json!({ "event": "exited", "vm": "vm-1", "status": "was killed by signal 9" })
    );
    assert!(!vm.api.parent().unwrap().exists());
    assert_eq!(other.order("who"), format!("{0} {0}", other.uid));
    keeper.finish();
}

#[test]
fn a_file_that_machines_share_is_never_given_away() {
    let site = Site::new();
    let mut keeper = site.start();
    let vm = keeper.start("vm-1", "").unwrap();
    let kept = site.path("base/files").join(&digest_of(b"kernel")[7..]);
    let before = looks(&kept);
    assert_eq!((before.0, before.2 & 0o7777), (0, 0o444));
    assert!(std::panic::catch_unwind(|| vm.order("write /vmlinux changed")).is_err());
    keeper.ask("destroy", vm.with()).unwrap();
    let after = looks(&kept);
    assert_eq!((after.0, after.2, after.5), (before.0, before.2, before.5));
    assert_eq!(after.3, 1, "no link is left");
}

#[test]
fn the_vsock_socket_is_dialled_by_the_worker_alone_and_sealed() {
    let site = Site::new();
    let mut keeper = site.start();
    let vm = keeper.start("vm-1", "").unwrap();
    assert!(
        keeper
            .ask("expose", json!({ "vm": "vm-1", "socket": "vsock" }))
            .unwrap_err()
            .starts_with("not-found")
    );
    vm.order("bind /v.sock");
    let exposed = keeper
        .ask("expose", json!({ "vm": "vm-1", "socket": "vsock" }))
        .unwrap();
    let path = exposed["path"].as_str().unwrap();
    let mut greeting = [0u8; 6];
    UnixStream::connect(path)
        .unwrap()
        .read_exact(&mut greeting)
        .unwrap();
    assert_eq!(&greeting, b"guest\n");
    assert!(!vm.order("list /").contains("v.sock"));
    let by_another = Command::new("setpriv")
        .args([
            "--reuid=47999",
            "--regid=47999",
            "--clear-groups",
            "test",
            "-e",
            path,
        ])
        .status()
        .unwrap();
    assert!(!by_another.success());
    keeper.ask("seal", vm.with()).unwrap();
    assert!(UnixStream::connect(path).is_err());
    keeper.finish();
}

#[test]
fn a_jail_whose_vmm_swapped_its_vsock_socket_gets_nothing() {
    let site = Site::new();
    let outside = site.path("home/outside.sock");
    let listener = std::os::unix::net::UnixListener::bind(&outside).unwrap();
    listener.set_nonblocking(true).unwrap();
    let before = looks(&outside);
    let mut keeper = site.start();
    let target = outside.display();
    for (index, orders) in [
        vec![format!("symlink {target} /v.sock")],
        vec!["bind /other".into(), "symlink other /v.sock".into()],
        vec!["bind /other".into(), "link /other /v.sock".into()],
        vec!["mkdir /v.sock".into()],
        vec!["mkfifo /v.sock".into()],
        vec!["write /v.sock text".into()],
        vec!["link /dev/kvm /v.sock".into()],
        vec!["move /vmlinux /v.sock".into()],
    ]
    .into_iter()
    .enumerate()
    {
        let vm = keeper.start(&format!("vm-{index}"), "").unwrap();
        for order in &orders {
            if order.contains("/dev/kvm") {
                continue;
            }
            vm.order(order);
        }
        let exposed = keeper.ask("expose", json!({ "vm": vm.name, "socket": "vsock" }));
        let expected = if orders[0].contains("/dev/kvm") {
            "not-found"
        } else {
            "jail-hostile"
        };
        assert!(
            exposed.clone().unwrap_err().starts_with(expected),
            "{orders:?}: {exposed:?}"
        );
        assert!(!vm.api.with_file_name("vsock").exists());
        keeper.ask("destroy", vm.with()).unwrap();
    }
    assert_eq!(looks(&outside), before);
    assert!(listener.accept().is_err(), "somebody dialled it");
    keeper.finish();
}

#[test]
fn a_jail_that_is_hostile_while_it_starts_gets_nothing() {
    let site = Site::new();
    let outside = site.path("home/outside.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&outside).unwrap();
    let before = looks(&outside);
    let mut keeper = site.start();
    let target = outside.display();
    for orders in [
        format!("symlink {target} /run/api.sock\napi /elsewhere"),
        "bind /other\nlink /other /run/api.sock\napi /elsewhere".into(),
        "move /dev/net /dev/old\nsymlink / /dev/net".into(),
        "remove /dev/net/tun\nmkdir /dev/net/tun".into(),
        "move /run /old\nsymlink /old /run\napi /old/api.sock".into(),
    ] {
        let started = keeper.start("vm-1", &orders).map(|vm| vm.uid);
        let code = started.clone().unwrap_err();
        assert!(
            code.starts_with("jail-hostile") || code.starts_with("io"),
            "{orders}: {started:?}"
        );
        assert!(keeper.machines().is_empty());
    }
    assert_eq!(looks(&outside), before);
    assert!(keeper.start("vm-1", "").is_ok(), "its name is free again");
    keeper.finish();
}

#[test]
fn a_vmm_that_does_not_come_up_is_told_with_its_own_words() {
    let site = Site::new();
    let mut keeper = site.start();
    let failed = keeper
        .start("vm-1", "say no-kvm-here\nexit 9")
        .map(|vm| vm.uid)
        .unwrap_err();
    assert!(
        failed.starts_with("start-failed")
            && failed.contains("code 9")
            && failed.contains("no-kvm-here"),
        "{failed}"
    );
    let missing = keeper.ask(
        "start",
        json!({
            "vm": "vm-1", "memory_bytes": 64 << 20, "vcpus": 1, "cpu_quota_us": null, "snapshot": null, "binding": null,
            "files": { "kernel": digest_of(b"never"), "initramfs": digest_of(b"never"), "rootfs": null }, "file_bytes_max": 1 << 20,
        }),
    );
    assert!(missing.unwrap_err().starts_with("file-missing"));
    let mut spec = keeper.spec("vm-1", "");
    spec["vcpus"] = json!(33);
    assert!(
        keeper
            .ask("start", spec)
            .unwrap_err()
            .starts_with("argument")
    );
    keeper.finish();
}

#[test]
fn a_machine_that_ends_by_itself_is_told_and_cleared_away() {
    let site = Site::new();
    let mut keeper = site.start();
    let vm = keeper.start("vm-1", "").unwrap();
    vm.order("spawn");
    assert_eq!(keeper.machines().len(), 2);
    let _ = UnixStream::connect(&vm.api)
        .map(|mut stream| std::io::Write::write_all(&mut stream, b"exit 3\n"));
    assert_eq!(
        keeper.event(),
        json!({ "event": "exited", "vm": "vm-1", "status": "exited with code 3" })
    );
    assert!(keeper.machines().is_empty(), "its descendants went, too");
    assert!(
        keeper
            .ask("seal", vm.with())
            .unwrap_err()
            .starts_with("not-found")
    );
    assert!(keeper.start("vm-1", "").is_ok());
    keeper.finish();
}

#[test]
fn a_snapshot_is_taken_proven_and_restored() {
    let site = Site::new();
    let mut keeper = site.start();
    let vm = keeper.start("vm-1", "").unwrap();
    write_snapshot(&vm);
    vm.order("sparse /other 99999");
    let taken = take(&mut keeper, &vm).unwrap();
    assert_eq!(
        (&taken["state_bytes"], &taken["memory_bytes"]),
        (&json!(9), &json!(MEMORY_BYTES))
    );
    assert_eq!(keeper.event()["status"], "snapshot");
    assert!(keeper.machines().is_empty());
    let snapshot = taken["snapshot"].as_str().unwrap();
    let bytes = |text: String| -> Vec<u8> {
        (0..32)
            .map(|at| u8::from_str_radix(&text[7 + at * 2..9 + at * 2], 16).unwrap())
            .collect()
    };
    let piece = |byte: u8| bytes(digest_of(&vec![byte; 1 << 20]));
    let pieces = [piece(7).repeat(3), piece(0).repeat(13)].concat();
    let memory = bytes(digest_of(&pieces));
    let whole = [
        b"hpcc snapshot 1\n".as_slice(),
        &bytes(digest_of(b"the-state")),
        &memory,
    ]
    .concat();
    assert_eq!(
        taken["digest"],
        json!(digest_of(&whole)),
        "as docs/specs/keeper.md says"
    );
    let folder = site.path("base/snapshots/kept").join(snapshot);
    for name in ["state", "memory"] {
        let metadata = fs::metadata(folder.join(name)).unwrap();
        assert_eq!(
            (metadata.uid(), metadata.mode() & 0o7777, metadata.nlink()),
            (0, 0o444, 1)
        );
    }
    let again = restored(&mut keeper, snapshot, b"binding").unwrap();
    assert_eq!(again.order("read /state"), "the-state");
    assert!(std::panic::catch_unwind(|| again.order("write /state changed")).is_err());
    write_snapshot(&again);
    let second = take(&mut keeper, &again).unwrap();
    assert_ne!(second["snapshot"], taken["snapshot"]);
    keeper.ask("drop", json!({ "snapshot": snapshot })).unwrap();
    keeper.ask("drop", json!({ "snapshot": snapshot })).unwrap();
    assert!(!folder.exists());
    keeper.finish();
}

#[test]
fn a_snapshot_that_differs_is_dropped_and_not_restored() {
    let site = Site::new();
    let mut keeper = site.start();
    type Change = fn(&std::path::Path);
    let changes: [(&str, Change); 7] = [
        ("binding", |_| {}),
        ("bytes of the state", |folder| {
            let state = folder.join("state");
            let times = fs::metadata(&state).unwrap().modified().unwrap();
            fs::set_permissions(&state, fs::Permissions::from_mode(0o600)).unwrap();
            fs::write(&state, "THE-STATE").unwrap();
            fs::File::open(&state).unwrap().set_modified(times).unwrap();
            fs::set_permissions(&state, fs::Permissions::from_mode(0o444)).unwrap();
        }),
        ("time of the memory", |folder| {
            fs::File::open(folder.join("memory"))
                .unwrap()
                .set_modified(std::time::SystemTime::UNIX_EPOCH)
                .unwrap();
        }),
        ("another memory", |folder| {
            fs::copy(folder.join("memory"), folder.join("copy")).unwrap();
            fs::rename(folder.join("copy"), folder.join("memory")).unwrap();
        }),
        ("owner of the memory", |folder| {
            std::os::unix::fs::chown(folder.join("memory"), Some(4000), None).unwrap();
        }),
        ("a record of another binding", |folder| {
            let text = fs::read_to_string(folder.join("record")).unwrap();
            let changed = text.replace(&digest_of(b"binding"), &digest_of(b"other"));
            fs::set_permissions(folder.join("record"), fs::Permissions::from_mode(0o600)).unwrap();
            fs::write(folder.join("record"), changed).unwrap();
        }),
        ("no record", |folder| {
            fs::remove_file(folder.join("record")).unwrap()
        }),
    ];
    for (what, change) in changes {
        let vm = keeper.start("vm-1", "").unwrap();
        write_snapshot(&vm);
        let taken = take(&mut keeper, &vm).unwrap();
        let snapshot = taken["snapshot"].as_str().unwrap();
        let folder = site.path("base/snapshots/kept").join(snapshot);
        change(&folder);
        let binding: &[u8] = if what.contains("binding") {
            b"other"
        } else {
            b"binding"
        };
        let refused = restored(&mut keeper, snapshot, binding).map(|vm| vm.uid);
        assert!(
            refused.clone().unwrap_err().starts_with("snapshot-bad"),
            "{what}: {refused:?}"
        );
        assert!(!folder.exists(), "{what}");
        let again = restored(&mut keeper, snapshot, b"binding").map(|vm| vm.uid);
        assert!(again.unwrap_err().starts_with("snapshot-bad"), "{what}");
    }
    keeper.finish();
}

#[test]
fn a_jail_whose_vmm_swapped_its_snapshot_files_gets_nothing_read_or_written() {
    let site = Site::new();
    let secret = site.path("home/secret");
    fs::write(&secret, "secret").unwrap();
    let before = looks(&secret);
    let kept = || {
        fs::read_dir(site.path("base/snapshots/kept"))
            .unwrap()
            .count()
    };
    let mut keeper = site.start();
    let target = secret.display();
    for orders in [
        vec!["write /state.new s".to_string()],
        vec![
            "write /state.new s".into(),
            format!("symlink {target} /memory.new"),
        ],
        vec![
            "fill /memory.new 1048576".into(),
            format!("symlink {target} /state.new"),
        ],
        vec![
            "write /state.new s".into(),
            "symlink /initramfs /memory.new".into(),
        ],
        vec![
            "write /state.new s".into(),
            "move /vmlinux /memory.new".into(),
        ],
        vec![
            "write /state.new s".into(),
            "link /state.new /memory.new".into(),
        ],
        vec![
            "write /state.new s".into(),
            "write /a b".into(),
            "link /a /memory.new".into(),
        ],
        vec!["write /state.new s".into(), "mkfifo /memory.new".into()],
        vec!["write /state.new s".into(), "mkdir /memory.new/deep".into()],
        vec!["write /state.new s".into(), "bind /memory.new".into()],
        vec![
            "sparse /state.new 67108864".into(),
            "mkfifo /memory.new".into(),
        ],
    ] {
        let vm = keeper.start("vm-1", "").unwrap();
        for order in &orders {
            vm.order(order);
        }
        let taken = take(&mut keeper, &vm);
        assert!(
            taken.clone().unwrap_err().starts_with("jail-hostile"),
            "{orders:?}: {taken:?}"
        );
        assert_eq!(kept(), 0, "{orders:?}");
        assert!(keeper.machines().is_empty());
    }
    assert_eq!(looks(&secret), before);
    keeper.finish();
}

#[test]
fn snapshots_keep_to_their_quota() {
    let mut site = Site::new();
    site.options
        .extend(["--quota-bytes".into(), (20u64 << 20).to_string()]);
    let mut keeper = site.start();
    let vm = keeper.start("vm-1", "").unwrap();
    write_snapshot(&vm);
    let first = take(&mut keeper, &vm).unwrap();
    let vm = keeper.start("vm-2", "").unwrap();
    write_snapshot(&vm);
    assert!(take(&mut keeper, &vm).unwrap_err().starts_with("quota"));
    keeper
        .ask("drop", json!({ "snapshot": first["snapshot"] }))
        .unwrap();
    let vm = keeper.start("vm-3", "").unwrap();
    // A hole as large as the limit of files: its size counts, whatever it takes.
    vm.order("write /state.new s");
    vm.order("sparse /memory.new 67108864");
    assert!(take(&mut keeper, &vm).unwrap_err().starts_with("quota"));
    let vm = keeper.start("vm-4", "").unwrap();
    write_snapshot(&vm);
    assert!(take(&mut keeper, &vm).is_ok());
    keeper.finish();
}

#[test]
fn room_for_a_snapshot_is_reserved_before_it_is_written() {
    let mut site = Site::new();
    // Twice the memory of a machine and 8 MiB for its state.
    site.options.extend([
        "--quota-bytes".into(),
        ((2u64 * (16 + 8)) << 20).to_string(),
    ]);
    let mut keeper = site.start();
    let vms: Vec<Vm> = (0..4)
        .map(|index| keeper.start(&format!("vm-{index}"), "").unwrap())
        .collect();
    for vm in [&vms[0], &vms[1], &vms[0]] {
        keeper.ask("reserve", vm.with()).unwrap();
    }
    let refused = keeper.ask("reserve", vms[2].with()).unwrap_err();
    assert!(refused.starts_with("quota"), "{refused}");
    assert!(!vms[2].order("list /").contains(".new"));
    // Given back by a machine that ends,
    keeper.ask("destroy", vms[1].with()).unwrap();
    keeper.ask("reserve", vms[2].with()).unwrap();
    assert!(keeper.ask("reserve", vms[3].with()).is_err());
    // by a snapshot that fails,
    assert!(take(&mut keeper, &vms[2]).is_err());
    keeper.ask("reserve", vms[3].with()).unwrap();
    // and, but for its real size, by one that is kept.
    write_snapshot(&vms[0]);
    take(&mut keeper, &vms[0]).unwrap();
    let again = keeper.start("again", "").unwrap();
    let refused = keeper.ask("reserve", again.with()).unwrap_err();
    assert!(refused.starts_with("quota"), "{refused}");
    assert!(
        keeper
            .ask("reserve", json!({ "vm": "vm-0" }))
            .unwrap_err()
            .starts_with("not-found")
    );
    keeper.finish();
}

#[test]
fn files_that_a_restored_machine_has_count_until_it_is_gone() {
    let mut site = Site::new();
    site.options
        .extend(["--quota-bytes".into(), (39u64 << 20).to_string()]);
    let mut keeper = site.start();
    let vm = keeper.start("vm-1", "").unwrap();
    write_snapshot(&vm);
    let taken = take(&mut keeper, &vm).unwrap();
    let snapshot = taken["snapshot"].as_str().unwrap();
    let again = restored(&mut keeper, snapshot, b"binding").unwrap();
    keeper.ask("drop", json!({ "snapshot": snapshot })).unwrap();
    let other = keeper.start("other", "").unwrap();
    let refused = keeper.ask("reserve", other.with()).unwrap_err();
    assert!(refused.starts_with("quota"), "{refused}");
    keeper.ask("destroy", again.with()).unwrap();
    keeper.ask("reserve", other.with()).unwrap();
    keeper.finish();
}

#[test]
fn a_full_disk_while_a_snapshot_is_taken_leaves_nothing() {
    let site = Site::new();
    site.mount_base(96);
    let mut keeper = site.start();
    let vm = keeper.start("vm-1", "").unwrap();
    write_snapshot(&vm);
    let filler = site.path("base/lost+found/filler");
    let mut file = fs::File::create(&filler).unwrap();
    for piece in [1 << 20, 4096, 1] {
        while std::io::Write::write_all(&mut file, &vec![1u8; piece]).is_ok() {}
    }
    assert!(take(&mut keeper, &vm).unwrap_err().starts_with("no-space"));
    assert_eq!(keeper.event()["status"], "failed snapshot");
    assert_eq!(
        fs::read_dir(site.path("base/snapshots/kept"))
            .unwrap()
            .count(),
        0
    );
    assert!(keeper.machines().is_empty());
    fs::remove_file(&filler).unwrap();
    assert!(keeper.start("vm-2", "").is_ok());
    keeper.finish();
}

#[test]
fn a_console_that_nobody_reads_stops_nothing() {
    let site = Site::new();
    let mut keeper = site.start();
    let vm = keeper.start("vm-1", "").unwrap();
    vm.order("flood");
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(vm.order("network"), "lo");
    let mut words = [0u8; 16];
    fs::File::open(&vm.console)
        .unwrap()
        .read_exact(&mut words)
        .unwrap();
    assert_eq!(&words, &[b'x'; 16]);
    keeper.ask("destroy", vm.with()).unwrap();
    keeper.finish();
}

#[test]
fn a_start_can_be_given_up() {
    let site = Site::new();
    let mut keeper = site.start();
    let spec = keeper.spec("vm-1", "sleep 20000");
    let started = Instant::now();
    let start = keeper.send("start", spec);
    let destroy = keeper.send("destroy", json!({ "vm": "vm-1" }));
    assert!(keeper.answer(start).unwrap_err().starts_with("vm-gone"));
    keeper.answer(destroy).unwrap();
    assert!(started.elapsed() < Duration::from_secs(15));
    assert!(keeper.machines().is_empty());
    keeper.finish();
}

#[test]
fn what_is_no_request_ends_everything() {
    let site = Site::new();
    let long = "x".repeat(70_000);
    for line in [
        "{}",
        "not json",
        "{\"id\":1,\"request\":\"exec\",\"with\":{\"argv\":[\"/bin/sh\"]}}",
        "{\"id\":1,\"request\":\"seal\",\"with\":{\"vm\":\"../../etc\"}}",
        "{\"id\":1,\"request\":\"seal\",\"with\":{\"vm\":\"vm-1\",\"socket\":\"/etc\"}}",
        &long,
    ] {
        let mut keeper = site.start();
        let vm = keeper.start("vm-1", "").unwrap();
        vm.order("spawn");
        keeper.send_line(line);
        while keeper.read().is_some() {}
        site.wait_nothing_left();
        keeper.wait();
    }
    let mut keeper = site.start();
    for _ in 0..200 {
        let mut spec = json!({ "vm": "vm-1", "socket": "vsock" });
        spec["vm"] = json!("vm-1");
        keeper.send("destroy", json!({ "vm": "vm-1" }));
        keeper.send("expose", spec);
    }
    keeper.finish();
}

#[test]
fn one_folder_has_one_keeper() {
    let site = Site::new();
    let keeper = site.start();
    let second = site.command().output().unwrap();
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("another keeper uses it"));
    keeper.finish();
}

#[test]
fn what_cannot_work_is_refused_before_a_worker_runs() {
    let site = Site::new();
    let refused = |change: &dyn Fn(&mut Command)| {
        let mut command = site.command();
        change(&mut command);
        let output = command.output().unwrap();
        assert!(!output.status.success());
        assert!(!site.path("home/worker.sock").exists());
        assert!(site.left().is_empty(), "{:?}", site.left());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let again = |old: &str, new: &str| {
        let (old, new) = (old.to_string(), new.to_string());
        move |command: &mut Command| {
            let arguments: Vec<_> = command
                .get_args()
                .map(|argument| argument.to_os_string())
                .collect();
            let mut changed = Command::new(command.get_program());
            for argument in arguments {
                changed.arg(if argument == old.as_str() {
                    new.clone().into()
                } else {
                    argument
                });
            }
            *command = changed;
        }
    };
    let base = site.path("base").display().to_string();
    assert!(refused(&again(&base, "/dev/shm/hpcc-keeper-test")).contains("tmpfs"));
    fs::remove_dir_all("/dev/shm/hpcc-keeper-test").unwrap();
    let firecracker = site.path("firecracker").display().to_string();
    assert!(refused(&again(&firecracker, "/etc/hostname")).contains("does not tell a version"));
    let old = site.path("old/firecracker");
    fs::create_dir(site.path("old")).unwrap();
    let script = |text: &str| {
        fs::write(site.path("script"), text).unwrap();
        install(&site.path("script"), &old);
    };
    script("#!/bin/sh\necho Firecracker v1.16.0\n");
    assert!(refused(&again(&firecracker, old.to_str().unwrap())).contains("1.16.1 or newer"));
    script("#!/bin/sh\necho Firecracker v1.17.0\n");
    assert!(refused(&again(&firecracker, old.to_str().unwrap())).contains("one release"));
    script("#!/bin/sh\nsleep 60\n");
    assert!(
        refused(&again(&firecracker, old.to_str().unwrap())).contains("does not tell a version")
    );
    fs::set_permissions(&old, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(refused(&again(&firecracker, old.to_str().unwrap())).contains("nobody else can write"));
    let worker = site.path("worker").display().to_string();
    assert!(refused(&again(&worker, "/no/such/worker")).contains("cannot run /no/such/worker"));
}

/// What a process holds beyond its standard three and has a name of its own.
fn descriptors(pid: u32) -> Vec<String> {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().unwrap() > 2)
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .map(|target| target.to_string_lossy().into_owned())
        .filter(|target| !target.starts_with("anon_inode:") && target != "/dev/null")
        .collect()
}

#[test]
fn the_worker_is_a_plain_user_that_cannot_come_back() {
    let site = Site::new();
    // What the keeper's caller forgot to close.
    let (_reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::empty()).unwrap();
    let inherited = fs::read_link(format!("/proc/self/fd/{}", writer.as_raw_fd())).unwrap();
    let inherited = inherited.to_string_lossy().into_owned();
    let keeper = site.start();
    let status = fs::read_to_string(format!("/proc/{}/status", keeper.worker())).unwrap();
    let line = |name: &str| {
        status
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap()
            .to_string()
    };
    let ids = format!("{0}\t{0}\t{0}\t{0}", support::WORKER_UID);
    assert_eq!(
        (line("Uid:"), line("Gid:")),
        (format!("Uid:\t{ids}"), format!("Gid:\t{ids}"))
    );
    assert_eq!(
        line("Groups:").trim_end(),
        format!("Groups:\t{}", support::WORKER_UID)
    );
    assert_eq!(
        (line("CapEff:"), line("NoNewPrivs:")),
        ("CapEff:\t0000000000000000".into(), "NoNewPrivs:\t1".into())
    );
    let shared = || {
        let theirs = descriptors(keeper.worker());
        let others = [descriptors(keeper.keeper()), descriptors(keeper.guard())].concat();
        theirs
            .into_iter()
            .filter(|target| others.contains(target) || *target == inherited)
            .collect::<Vec<_>>()
    };
    // The worker may be quicker than the two others, which close its end of the socket after its start.
    let deadline = Instant::now() + Duration::from_secs(20);
    while !shared().is_empty() {
        assert!(Instant::now() < deadline, "{:?}", shared());
        std::thread::sleep(Duration::from_millis(5));
    }
    for path in ["base/jails", "base/files", "base/snapshots", "locks"] {
        let seen = Command::new("setpriv")
            .args(["--reuid=48000", "--regid=48000", "--clear-groups", "ls"])
            .arg(site.path(path))
            .output()
            .unwrap();
        assert!(!seen.status.success(), "{path}");
    }
    keeper.finish();
}

/// Number of this process's session keyring, which the keeper inherits; negative when the kernel has no keyrings.
fn own_keyring() -> i64 {
    const GET_KEYRING_ID: libc::c_long = 0;
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    const SESSION: libc::c_long = -3;
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: the operations take numbers and no name.
    unsafe {
        // Else the first thing that starts from here may get one by itself.
        libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, none);
        libc::syscall(libc::SYS_keyctl, GET_KEYRING_ID, SESSION, 0)
    }
}

#[test]
fn the_worker_gets_little_of_the_session_that_started_the_keeper() {
    let site = Site::new();
    let keyring = own_keyring();
    let passed = [
        ("LANG", "C.UTF-8"),
        ("LC_TIME", "C"),
        ("TZ", "UTC"),
        ("HPCC_LOG_LEVEL", "debug"),
        ("NOTIFY_SOCKET", "/run/no-such-socket"),
        ("INVOCATION_ID", "1"),
        ("JOURNAL_STREAM", "8:1"),
        ("CREDENTIALS_DIRECTORY", "/run/credentials/hpcc"),
        ("NODE_EXTRA_CA_CERTS", "/etc/ca.pem"),
        ("SSL_CERT_FILE", "/etc/ca.pem"),
        ("PATH", "/usr/bin:/bin"),
    ];
    let not_passed = [
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("SSH_AUTH_SOCK", "/run/agent"),
        ("NODE_OPTIONS", "--require=/root/evil.js"),
        ("LD_PRELOAD", ""),
        ("XDG_RUNTIME_DIR", "/run/user/0"),
        ("LISTEN_FDS", "1"),
    ];
    let mut command = site.command();
    command.env_clear().envs(passed).envs(not_passed);
    command.current_dir(site.path("home"));
    let keeper = site.start_by(command);
    let of_worker = |name: &str| format!("/proc/{}/{name}", keeper.worker());
    let environment = fs::read_to_string(of_worker("environ")).unwrap();
    let mut found: Vec<&str> = environment.split_terminator('\0').collect();
    found.sort_unstable();
    let user = format!("{0}:{0}", support::WORKER_UID);
    let own = [
        ("HOME", "/"),
        ("HPCC_KEEPER_FD", "3"),
        ("LOGNAME", &user),
        ("USER", &user),
    ];
    let mut expected: Vec<String> = passed
        .iter()
        .chain(&own)
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(fs::read_link(of_worker("cwd")).unwrap(), Path::new("/"));
    let theirs = fs::read_to_string(site.path("home/worker.sock.keyring")).unwrap();
    let theirs: i64 = theirs.parse().unwrap();
    assert_eq!(keyring < 0, theirs < 0);
    assert!(keyring < 0 || keyring != theirs, "it has root's keyring");
    keeper.finish();
}

#[test]
fn the_worker_starts_in_its_home_or_at_the_root() {
    let mut site = Site::new();
    fs::set_permissions(site.path("home"), fs::Permissions::from_mode(0o777)).unwrap();
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let mut seen = 0;
    for (has_home, wanted) in [(true, None), (false, Some("/"))] {
        let user = passwd
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|fields| {
                let ids_of_root = fields[2] == "0" || fields[3] == "0";
                !ids_of_root && Path::new(fields[5]).is_dir() == has_home
            });
        let Some(user) = user else {
            println!("SKIPPED no user of /etc/passwd whose home is there: {has_home}");
            continue;
        };
        site.user = user[0].into();
        let keeper = site.start();
        let cwd = fs::read_link(format!("/proc/{}/cwd", keeper.worker())).unwrap();
        let home = fs::canonicalize(wanted.unwrap_or(user[5])).unwrap();
        assert_eq!(cwd, home, "{}", user[0]);
        keeper.finish();
        seen += 1;
    }
    assert!(seen > 0);
}
