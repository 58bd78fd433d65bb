//! What one execution plants for the next, and what a session that was taken over would leave: none of it is ever found.
#![cfg(feature = "test-harness")]
#![allow(clippy::unwrap_used, clippy::expect_used)]
mod support;

use std::process::Command;

use support::{Harness, Job, Session};

/// What the program that plants is told; whatever is "ok" here must be gone for the next.
const PLANTED: &str = "shm EPERM\nsem EPERM\nmsg EPERM\nmq EPERM\nkey EPERM\nkeyring EPERM\nabstract ok\nclock EPERM\ntimeofday EPERM\n\
    time-namespace EPERM\nhostname EPERM\ndomainname EPERM\ninotify EPERM\nposix-shm ENOENT\ntmp ok\nproject ok\n\
    toolchain EROFS\nown-ptrace EPERM\n";

/// What the program that looks finds; its own pid is 2.
const FOUND: &str = "shm EPERM\nsem EPERM\nmsg EPERM\nmq EPERM\nkey EPERM\nabstract ECONNREFUSED\nposix-shm ENOENT\ntmp ENOENT\n\
    project ENOENT\ntoolchain ENOENT\nprocesses 0\nnames hpcc (none)\n";

async fn assert_nothing_is_found(session: &mut Session) {
    let seen = session.run(Job::probe(&["find"])).await.ok().stdout();
    let (found, time) = seen.split_once("time ").unwrap();
    assert_eq!(found, FOUND);
    let off = time.trim().parse::<i64>().unwrap() - support::wall_time_ns() / 1_000_000_000;
    assert!(off.abs() <= 5, "the clock is {off} s off");
}

#[tokio::test(flavor = "current_thread")]
async fn nothing_that_an_execution_leaves_is_found_by_the_next() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    for _ in 0..3 {
        let planted = session.run(Job::probe(&["leave"])).await.ok().stdout();
        assert_eq!(planted, PLANTED);
        assert_nothing_is_found(&mut session).await;
    }
    session.scrub().await.unwrap();
    assert_nothing_is_found(&mut harness.session().await).await;
}

#[tokio::test(flavor = "current_thread")]
async fn nothing_of_an_execution_that_runs_is_found_by_another() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    let held = Job::probe(&["leave", "hold"]).limit(|limits| limits.wall_ms = 60_000);
    let planter = session.begin(held).await;
    for _ in 0..20 {
        assert_nothing_is_found(&mut session).await;
    }
    session.cancel(planter).await;
    assert_eq!(session.next_outcome().await.0, planter);
    session.begin(Job::probe(&["leave", "hold"])).await;
    session.scrub().await.unwrap();
    assert_nothing_is_found(&mut harness.session().await).await;
}

/// Runs the probe as root in the namespaces of the agent's PID 1.
fn beside(pid1: u32, action: &str) -> String {
    let output = Command::new("nsenter")
        .args([
            "--target",
            &pid1.to_string(),
            "--mount",
            "--ipc",
            "--pid",
            "--",
        ])
        .args(["/toolchain/probe/probe", action])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "current_thread")]
async fn nothing_that_is_planted_beside_the_agent_stays_after_a_scrub() {
    let harness = Harness::start();
    let Some(pid1) = harness.pid1() else {
        return support::skipped(
            "nothing_that_is_planted_beside_the_agent_stays_after_a_scrub",
            "nothing gets into a guest beside its agent",
        );
    };
    let mounts = || std::fs::read_to_string(format!("/proc/{pid1}/mountinfo")).unwrap();
    let before = mounts();
    for round in 1..=3 {
        let session = harness.session().await;
        let planted = beside(pid1, "plant-beside");
        for what in [
            "shm ok",
            "sem ok",
            "msg ok",
            "mq ok",
            "mount ok",
            "mount-over ok",
        ] {
            assert!(planted.contains(&format!("{what}\n")), "{planted}");
        }
        let found = beside(pid1, "find-objects");
        assert!(
            found.starts_with("shm ok\nsem ok\nmsg ok\nmq ok\n"),
            "{found}"
        );
        assert_eq!(mounts().lines().count(), before.lines().count() + 2);
        assert_eq!(support::processes_named("hpcc-beside"), 1);

        session.scrub().await.unwrap();
        let session = harness.session().await;
        let report = session.ready.last_scrub.unwrap();
        let left = (report.processes_left, report.mounts_left, report.ipc_left);
        assert_eq!((left, report.sequence), ((0, 0, 0), 2 * round - 1));
        assert_eq!(support::processes_named("hpcc-beside"), 0);
        assert_eq!(mounts(), before);
        let found = beside(pid1, "find-objects");
        assert!(
            found.starts_with("shm ENOENT\nsem ENOENT\nmsg ENOENT\nmq ENOENT\n"),
            "{found}"
        );
        drop(session);
    }
}
