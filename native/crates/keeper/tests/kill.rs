//! Whoever of guard, keeper, worker and VMM is killed, in whatever state: nothing is left within five seconds.
#![cfg(feature = "test-harness")]
#![allow(clippy::unwrap_used, clippy::expect_used)]
mod support;

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;
use support::{Freezer, GONE, Keeper, MEMORY_BYTES, Site, digest_of, kill, said};

const KILL: i32 = 9;
const STOP: i32 = 19;

type Bring = fn(&mut Keeper<'_>);

const STATES: [(&str, Bring); 4] = [
    ("idle", |_| {}),
    ("while a machine starts", |keeper| {
        let spec = keeper.spec("vm-1", "spawn\nsleep 20000");
        keeper.send("start", spec);
        wait_for(|| keeper.machines().len() == 2);
    }),
    ("while machines run", |keeper| {
        for vm in ["vm-1", "vm-2"] {
            let vm = keeper.start(vm, "bind /v.sock").unwrap();
            vm.order("spawn");
            keeper
                .ask("expose", json!({ "vm": vm.name, "socket": "vsock" }))
                .unwrap();
        }
    }),
    ("while a snapshot is taken", |keeper| {
        let mut spec = keeper.spec("vm-1", "");
        spec["file_bytes_max"] = json!(1u64 << 31);
        let vm = keeper.start_with(spec).unwrap();
        vm.order("write /state.new s");
        // Not zeros: reading it takes a while.
        vm.order("fill /memory.new 1073741824");
        keeper.send(
            "snapshot",
            json!({ "vm": "vm-1", "binding": digest_of(b"b") }),
        );
        let kept = keeper.site.path("base/snapshots/kept");
        wait_for(|| fs::read_dir(&kept).is_ok_and(|mut names| names.next().is_some()));
    }),
];

fn wait_for(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "it never came about");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// No process of these is left, and nothing else either, in time.
fn check_gone(keeper: &Keeper<'_>, pids: &[u32], what: &str) {
    let deadline = Instant::now() + GONE;
    let left = || {
        let mut left = keeper.site.left();
        left.extend(
            pids.iter()
                .filter(|pid| alive(**pid))
                .map(|pid| format!("process {pid}")),
        );
        left
    };
    while !left().is_empty() {
        assert!(Instant::now() < deadline, "{what}: left: {:#?}", left());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| !rest.starts_with(" Z"))
}

fn matrix(victim: &str, pick: impl Fn(&Keeper<'_>) -> u32) {
    let site = Site::new();
    for (state, bring) in STATES {
        let mut keeper = site.start();
        bring(&mut keeper);
        let pids = [keeper.guard(), keeper.keeper(), keeper.worker()];
        kill(pick(&keeper), KILL);
        check_gone(&keeper, &pids, &format!("{victim} killed, {state}"));
        keeper.wait();
        // And a new one starts there as if nothing had been.
        site.start().finish();
    }
}

#[test]
fn a_killed_worker_leaves_nothing() {
    matrix("worker", |keeper| keeper.worker());
}

#[test]
fn a_killed_keeper_leaves_nothing() {
    matrix("keeper", |keeper| keeper.keeper());
}

#[test]
fn a_killed_guard_leaves_nothing() {
    matrix("guard", |keeper| keeper.guard());
}

#[test]
fn a_keeper_that_hangs_leaves_nothing_once_the_worker_is_killed() {
    let site = Site::new();
    for (state, bring) in STATES {
        let mut keeper = site.start();
        bring(&mut keeper);
        let pids = [keeper.guard(), keeper.keeper(), keeper.worker()];
        kill(keeper.keeper(), STOP);
        kill(keeper.worker(), KILL);
        check_gone(
            &keeper,
            &pids,
            &format!("keeper stopped, worker killed, {state}"),
        );
    }
}

#[test]
fn a_killed_vmm_leaves_nothing_and_harms_no_other() {
    let site = Site::new();
    let mut keeper = site.start();
    let other = keeper.start("other", "").unwrap();
    let others = keeper.machines();
    let vms = |keeper: &Keeper<'_>| -> Vec<u32> {
        keeper
            .machines()
            .into_iter()
            .filter(|pid| !others.contains(pid))
            .collect()
    };
    // While it starts.
    let spec = keeper.spec("vm-1", "sleep 20000");
    let start = keeper.send("start", spec);
    wait_for(|| !vms(&keeper).is_empty());
    std::thread::sleep(Duration::from_millis(200));
    kill(vms(&keeper)[0], KILL);
    let refused = keeper.answer(start).unwrap_err();
    assert!(
        refused.starts_with("start-failed") && refused.contains("signal 9"),
        "{refused}"
    );
    // While it runs, with children that outlive it.
    let vm = keeper.start("vm-1", "").unwrap();
    let pid = vms(&keeper)[0];
    vm.order("spawn");
    kill(pid, KILL);
    assert_eq!(keeper.event()["vm"], "vm-1");
    assert!(vms(&keeper).is_empty());
    assert!(!vm.api.parent().unwrap().exists());
    // Before its snapshot is taken.
    let vm = keeper.start("vm-1", "").unwrap();
    vm.order("write /state.new s");
    vm.order("write /memory.new m");
    kill(vms(&keeper)[0], KILL);
    keeper.event();
    let taken = keeper.ask(
        "snapshot",
        json!({ "vm": "vm-1", "binding": digest_of(b"b") }),
    );
    assert!(taken.unwrap_err().starts_with("not-found"));
    assert_eq!(other.order("network"), "lo");
    keeper.finish();
}

#[test]
fn leftovers_of_a_crash_of_all_are_removed_at_the_next_start() {
    let site = Site::new();
    for (state, bring) in STATES {
        let mut keeper = site.start();
        bring(&mut keeper);
        let (guard, proper) = (keeper.guard(), keeper.keeper());
        // Stopped first, so that neither can clear away after the other.
        kill(guard, STOP);
        kill(proper, STOP);
        kill(proper, KILL);
        kill(guard, KILL);
        keeper.wait();
        wait_for(|| !alive(proper));
        if state != "idle" {
            assert!(!site.left().is_empty(), "{state}");
        }
        site.start().finish();
    }
    assert!(site.left().is_empty());
}

#[test]
fn the_end_of_the_worker_is_the_end_of_the_keeper_with_its_code() {
    let site = Site::new();
    let mut keeper = site.start();
    keeper.start("vm-1", "").unwrap();
    kill(keeper.guard(), 15);
    // The stand-in has no handler: the signal was passed on.
    assert_eq!(keeper.wait().code(), Some(128 + 15));
    site.wait_nothing_left();
}

#[test]
fn a_machine_that_cannot_be_killed_is_told_of_and_cleared_away_once_it_can() {
    let site = Site::new();
    let Some(freezer) = Freezer::new() else {
        return;
    };
    let mut keeper = site.start();
    let vm = keeper.start("vm-1", "").unwrap();
    vm.order("write /state.new s");
    vm.order("fill /memory.new 67108864");
    let spec = keeper.spec("vm-2", "sleep 20000");
    let start = keeper.send("start", spec);
    wait_for(|| {
        let uids =
            |pid: &u32| fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let machines = keeper.machines();
        machines.len() == 2 && machines.iter().all(|pid| !uids(pid).contains("Uid:\t0"))
    });
    let stuck = keeper.machines();
    freezer.freeze(&stuck);
    let begun = Instant::now();
    let with = json!({ "vm": "vm-1", "binding": digest_of(b"b") });
    let snapshot = keeper.send("snapshot", with);
    let destroy = keeper.send("destroy", json!({ "vm": "vm-2" }));
    for (request, code) in [(snapshot, "io"), (start, "vm-gone"), (destroy, "io")] {
        let told = keeper.answer(request).unwrap_err();
        let named = stuck
            .iter()
            .any(|pid| told.contains(&format!("{pid} (firecracker, ")));
        assert!(told.starts_with(code) && named, "{told}");
        assert!(told.contains("is not gone yet"), "{told}");
    }
    assert!(begun.elapsed() < Duration::from_secs(18));
    assert!(keeper.start("vm-1", "").unwrap_err().starts_with("exists"));
    assert!(keeper.events.is_empty(), "{:?}", keeper.events);
    freezer.thaw();
    assert_eq!(
        keeper.event(),
        json!({ "event": "exited", "vm": "vm-1", "status": "failed snapshot" })
    );
    wait_for(|| keeper.left().is_empty());
    keeper.start("vm-1", "").unwrap();
    keeper.start("vm-2", "").unwrap();
    keeper.finish();
}

#[test]
fn a_keeper_that_cannot_be_killed_does_not_hold_up_the_guard() {
    let site = Site::new();
    let Some(freezer) = Freezer::new() else {
        return;
    };
    let mut keeper = site.start();
    keeper.start("vm-1", "").unwrap().order("spawn");
    let machines = keeper.machines();
    let stuck = keeper.keeper();
    freezer.freeze(&[stuck]);
    kill(keeper.worker(), KILL);
    keeper.wait();
    assert!(!machines.iter().any(|pid| alive(*pid)), "machines are gone");
    freezer.thaw();
    wait_for(|| !alive(stuck));
    // Not before: it holds the other end.
    let said = said(&mut keeper.child);
    assert!(
        said.contains("guard.process.left") && said.contains(&stuck.to_string()),
        "{said}"
    );
    site.start().finish();
}

/// Nothing of any machine is left in time, though the keeper lives, and it goes on.
fn check_cleared(keeper: &mut Keeper<'_>, begun: Instant, what: &str) {
    while !keeper.left().is_empty() {
        assert!(begun.elapsed() < GONE, "{what}: left: {:#?}", keeper.left());
        std::thread::sleep(Duration::from_millis(5));
    }
    keeper.events.clear();
}

fn park(keeper: &mut Keeper<'_>) -> Result<serde_json::Value, String> {
    let with = json!({ "vm": "vm-1", "binding": digest_of(b"b") });
    keeper.ask("snapshot", with)
}

#[test]
fn a_vmm_that_cannot_write_its_snapshot_leaves_nothing() {
    let site = Site::new();
    site.mount_base(48);
    let mut keeper = site.start();
    let short = format!("sparse /memory.new {}", MEMORY_BYTES - 1);
    let whole = format!("sparse /memory.new {MEMORY_BYTES}");
    let cases: [(&str, &[&str], Option<&str>); 4] = [
        ("an error", &[], Some("write /no/state.new s")),
        ("a short memory", &["write /state.new s", &short], None),
        ("no state", &[&whole], None),
        (
            "a full disk",
            &["write /state.new s"],
            Some("fill /rest 67108864"),
        ),
    ];
    for (what, orders, fails) in cases {
        for asked in ["snapshot", "destroy"] {
            let vm = keeper.start("vm-1", "").unwrap();
            orders.iter().for_each(|order| drop(vm.order(order)));
            if let Some(order) = fails {
                assert!(
                    std::panic::catch_unwind(|| vm.order(order)).is_err(),
                    "{what}"
                );
            }
            let begun = Instant::now();
            if asked == "snapshot" {
                let told = park(&mut keeper).unwrap_err();
                assert!(told.starts_with("jail-hostile"), "{what}: {told}");
            } else {
                keeper.ask("destroy", vm.with()).unwrap();
            }
            check_cleared(&mut keeper, begun, what);
        }
    }
    keeper.finish();
}

#[test]
fn a_vmm_that_is_killed_while_it_writes_its_snapshot_leaves_nothing() {
    let site = Site::new();
    let mut keeper = site.start();
    for by in ["the kernel", "the keeper"] {
        let mut spec = keeper.spec("vm-1", "");
        spec["memory_bytes"] = json!(1u64 << 30);
        spec["file_bytes_max"] = json!(1u64 << 31);
        let vm = keeper.start_with(spec).unwrap();
        vm.order("write /state.new s");
        let mut api = std::os::unix::net::UnixStream::connect(&vm.api).unwrap();
        std::io::Write::write_all(&mut api, b"fill /memory.new 1073741824\n").unwrap();
        let jails = site.path("base/jails/firecracker");
        wait_for(|| {
            let jails = fs::read_dir(&jails).unwrap().flatten();
            let mut files = jails.map(|jail| fs::metadata(jail.path().join("root/memory.new")));
            files.any(|file| file.is_ok_and(|file| file.len() > 0))
        });
        let begun = Instant::now();
        if by == "the kernel" {
            // As when its group is out of memory.
            kill(keeper.machines()[0], KILL);
            assert_eq!(keeper.event()["status"], "was killed by signal 9");
        }
        let told = park(&mut keeper).unwrap_err();
        let code = if by == "the kernel" {
            "not-found"
        } else {
            "jail-hostile"
        };
        assert!(told.starts_with(code), "killed by {by}: {told}");
        check_cleared(&mut keeper, begun, by);
    }
    keeper.finish();
}

#[test]
fn a_disk_that_fails_while_a_snapshot_is_taken_leaves_nothing() {
    let site = Site::new();
    site.mount_base(96);
    let mut keeper = site.start();
    let vm = keeper.start("vm-1", "").unwrap();
    vm.order("write /state.new s");
    vm.order(&format!("fill /memory.new {MEMORY_BYTES}"));
    let jails = fs::read_dir(site.path("base/jails/firecracker")).unwrap();
    let jail = jails.flatten().next().unwrap().path();
    let memory = fs::File::open(jail.join("root/memory.new")).unwrap();
    site.cut_disk_at(&memory, &jail.join("root/memory.new"));
    drop(memory);
    let begun = Instant::now();
    let told = park(&mut keeper).unwrap_err();
    assert!(
        told.starts_with("io") && told.contains("os error 5"),
        "{told}"
    );
    check_cleared(&mut keeper, begun, "a disk that fails");
    keeper.finish();
}
