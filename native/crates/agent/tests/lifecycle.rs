//! PID 1 and its session processes: one connection at a time, and nothing of it left when it has ended, however that was.
#![cfg(feature = "test-harness")]
#![allow(clippy::unwrap_used, clippy::expect_used)]
mod support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use hpcc_agent::proto::ScrubReport;
use hpcc_agent::proto::session_request::Message as Request;
use support::{Harness, Job, Session, bytes};

fn compile() -> Job {
    Job::new(&["/usr/bin/gcc", "-c", "a.c", "-o", "/hpcc/out/a.o"])
        .input("/hpcc/project/a.c", b"int x;\n")
        .output("/hpcc/out/a.o")
}

fn assert_clear(session: &Session, sequence: u64) {
    let report = session.ready.last_scrub.unwrap();
    let left = (report.processes_left, report.mounts_left, report.ipc_left);
    assert_eq!(left, (0, 0, 0), "{report:?}");
    assert!(
        report.duration_us > 0 && report.duration_us < 20_000_000,
        "{report:?}"
    );
    assert_eq!(report.sequence, sequence);
}

/// Sequence number of the last clearing; a guest has had others before.
fn sequence(session: &Session) -> u64 {
    session
        .ready
        .last_scrub
        .map_or(0, |ScrubReport { sequence, .. }| sequence)
}

#[tokio::test(flavor = "current_thread")]
async fn a_scrub_ends_the_stream_and_the_next_tells_what_was_left() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    if !harness.is_guest() {
        assert_eq!(session.ready.last_scrub, None, "nothing was cleared yet");
    }
    let first = sequence(&session);
    for round in 1..=5 {
        session.run(compile()).await.ok();
        session.scrub().await.unwrap();
        session = harness.session().await;
        assert_clear(&session, first + round);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_scrub_ends_what_runs() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    let first = sequence(&session);
    session
        .run(Job::probe(&["plant", "hpcc-scrub-me"]))
        .await
        .ok();
    for action in [
        &["spin"][..],
        &["chatter"],
        &["forks"],
        &["named", "hpcc-scrubbed"],
    ] {
        session
            .begin(Job::probe(action).limit(|limits| limits.stdio_bytes = 64 << 20))
            .await;
    }
    // One that waits for input, and one whose result waits for credit.
    let mut waiting = Job::probe(&["exit", "0"]).input("/hpcc/x", b"x");
    waiting.frames.clear();
    session.begin(waiting).await;
    session.generous = false;
    let large = Job::probe(&["grow", "/hpcc/out/x", "4194304"]).output("/hpcc/out/x");
    session.begin(large).await;
    session
        .responses
        .message()
        .await
        .unwrap()
        .expect("its exit");
    // Chunks that were sent before the agent knew of the scrub may come, then the end.
    session.send(Request::Scrub(Default::default())).await;
    while session.responses.message().await.unwrap().is_some() {}
    let mut session = harness.session().await;
    assert_clear(&session, first + 1);
    if !harness.is_guest() {
        assert_eq!(support::processes_named("hpcc-scrubbed"), 0);
        assert_eq!(support::processes_named("hpcc-scrub-me"), 0);
    }
    session.run(compile()).await.ok();
}

#[tokio::test(flavor = "current_thread")]
async fn a_session_process_that_dies_is_cleared_away() {
    let harness = Harness::start();
    if harness.is_guest() {
        return support::skipped(
            "a_session_process_that_dies_is_cleared_away",
            "the guest's processes cannot be reached",
        );
    }
    let mut session = harness.session().await;
    for (round, signal) in (1..).zip([libc::SIGKILL, libc::SIGABRT, libc::SIGFPE, libc::SIGTERM]) {
        let name = format!("hpcc-orphan-{round}");
        session.begin(Job::probe(&["named", &name])).await;
        session.begin(Job::probe(&["plant", "hpcc-left"])).await;
        let deadline = Instant::now() + Duration::from_secs(20);
        while support::processes_named(&name) == 0 {
            assert!(Instant::now() < deadline);
            tokio::task::yield_now().await;
        }
        let pid = harness.session_pid().unwrap();
        let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
        rustix::process::kill_process(
            pid,
            rustix::process::Signal::from_named_raw(signal).unwrap(),
        )
        .unwrap();
        session = harness.session().await;
        assert_clear(&session, round);
        assert_eq!(support::processes_named(&name), 0);
        assert_eq!(support::processes_named("hpcc-left"), 0);
        session.run(compile()).await.ok();
    }
    let told = harness.console();
    assert_eq!(
        told.iter()
            .filter(|line| line.contains("the session process ended with signal"))
            .count(),
        4,
        "{told:?}"
    );
}

#[tokio::test(flavor = "current_thread")]
async fn pid_1_has_one_thread_and_no_byte_of_a_job() {
    let harness = Harness::start();
    let Some(pid1) = harness.pid1() else {
        return support::skipped(
            "pid_1_has_one_thread_and_no_byte_of_a_job",
            "the guest's memory cannot be read",
        );
    };
    let canary = b"hpcc-canary-7c1f09d3e2";
    let name = String::from_utf8(canary.to_vec()).unwrap();
    let mut session = harness.session().await;
    let job = compile()
        .input(format!("/hpcc/project/{name}.h"), canary)
        .edit(|e| {
            e.argv.push(bytes(format!("-D{name}")));
            e.environment.push(bytes(format!("A={name}")));
        });
    session.run(job).await;
    let failing = compile().edit(|e| e.argv.push(bytes(format!("-include{name}"))));
    assert!(session.run(failing).await.stderr().contains(&name));
    let session_pid = harness.session_pid().unwrap();
    assert!(
        memory_of(session_pid)
            .windows(canary.len())
            .any(|bytes| bytes == canary),
        "the search finds nothing anywhere"
    );
    for _ in 0..2 {
        assert_eq!(
            fs::read_dir(format!("/proc/{pid1}/task")).unwrap().count(),
            1
        );
        assert!(
            !memory_of(pid1)
                .windows(canary.len())
                .any(|bytes| bytes == canary)
        );
        session.scrub().await.unwrap();
        session = harness.session().await;
    }
}

/// All memory of a process that is its own.
fn memory_of(pid: u32) -> Vec<u8> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut all = Vec::new();
    for line in maps
        .lines()
        .filter(|line| line.split(' ').nth(1).unwrap().starts_with("rw"))
    {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let (from, to) = (
            u64::from_str_radix(from, 16).unwrap(),
            u64::from_str_radix(to, 16).unwrap(),
        );
        let mut part = vec![0; (to - from) as usize];
        memory.read_exact_at(&mut part, from).unwrap();
        all.append(&mut part);
    }
    assert!(all.len() > 100_000);
    all
}

#[tokio::test(flavor = "current_thread")]
async fn a_guest_out_of_memory_and_processes_goes_on() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    let mut hungry = Job::probe(&["eat", "68719476736"]).limit(|limits| limits.wall_ms = 120_000);
    let own_limit = 64 << 20;
    if harness.is_guest() {
        // More than the guest has: the kernel must choose whom to kill.
        hungry = hungry.limit(|limits| limits.memory_bytes = 1 << 40);
    } else if harness.limits_memory {
        hungry = hungry.limit(|limits| limits.memory_bytes = own_limit);
    } else {
        return support::skipped(
            "a_guest_out_of_memory_and_processes_goes_on",
            "no memory controller",
        );
    }
    for _ in 0..3 {
        let outcome = session
            .run(Job {
                execute: hungry.execute.clone(),
                frames: Vec::new(),
            })
            .await;
        assert_eq!(
            outcome.error(),
            hpcc_agent::proto::ExecutionErrorCode::MemoryLimit
        );
        let bomb = Job::probe(&["forks"]).limit(|limits| limits.wall_ms = 2_000);
        session.run(bomb).await.error();
        session.run(compile()).await.ok();
    }
    session.scrub().await.unwrap();
    let mut session = harness.session().await;
    session.run(compile()).await.ok();
}

#[test]
fn a_connection_that_opens_no_stream_does_not_hold_the_agent() {
    let harness = Harness::start();
    let mut silent = harness.dial();
    silent
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let dialled = Instant::now();
    let mut heard = Vec::new();
    // Its settings, and after ten seconds the end.
    std::io::Read::read_to_end(&mut silent, &mut heard).unwrap();
    assert!(dialled.elapsed() < Duration::from_secs(20));
    assert!(!heard.is_empty());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        harness.session().await.run(compile()).await.ok();
    });
}
