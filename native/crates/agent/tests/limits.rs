//! Executions that take too much: each ends in a clear error, and the next one works.
#![cfg(feature = "test-harness")]
#![allow(clippy::unwrap_used, clippy::expect_used)]
mod support;

use std::time::{Duration, Instant};

use hpcc_agent::proto::ExecutionErrorCode as Code;
use support::{Harness, Job};

fn compile() -> Job {
    let job = Job::new(&["/usr/bin/gcc", "-c", "a.c", "-o", "/hpcc/out/a.o"])
        .input("/hpcc/project/a.c", b"int x;\n");
    job.output("/hpcc/out/a.o")
}

#[tokio::test(flavor = "current_thread")]
async fn a_program_that_does_not_end_is_ended() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    let start = Instant::now();
    let outcome = session
        .run(Job::probe(&["spin"]).limit(|l| l.wall_ms = 300))
        .await;
    assert_eq!(outcome.error(), Code::TimeLimit);
    assert!(start.elapsed() >= Duration::from_millis(300));
    session.run(compile()).await.ok();
}

#[tokio::test(flavor = "current_thread")]
async fn output_is_limited() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    let chatter = session
        .run(Job::probe(&["chatter"]).limit(|l| l.stdio_bytes = 100_000))
        .await;
    assert_eq!(chatter.error(), Code::OutputLimit);
    let chatter = Job::probe(&["terminal", "200000"])
        .limit(|l| l.stdio_bytes = 100_000)
        .edit(|e| e.terminal_columns = 80);
    assert_eq!(session.run(chatter).await.error(), Code::OutputLimit);
    let file = Job::probe(&["grow", "/hpcc/out/x", "3000000000"])
        .output("/hpcc/out/x")
        .limit(|l| l.output_bytes = 8 << 20);
    assert_eq!(session.run(file).await.error(), Code::OutputLimit);
    // One file within the limit, two beyond it.
    let two = Job::new(&["/usr/bin/cp", "/hpcc/out/a", "/hpcc/out/b"])
        .input("/hpcc/out/a", &[b'x'; 700])
        .output("/hpcc/out/a")
        .output("/hpcc/out/b")
        .limit(|l| l.output_bytes = 1000);
    assert_eq!(session.run(two).await.error(), Code::OutputLimit);
    let giant = Job::new(&["/usr/bin/gcc", "-c", "a.c", "-o", "/hpcc/out/a.o"])
        .input("/hpcc/project/a.c", b"char a[3000000000] = {1};\n")
        .output("/hpcc/out/a.o")
        .limit(|l| l.memory_bytes = 256 << 20);
    let giant = session.run(giant).await;
    assert!(
        !matches!(giant, support::Outcome::Exited { ref exited, .. } if exited.exit_code == 0 && exited.signal == 0)
    );
    session.run(compile()).await.ok();
}

#[tokio::test(flavor = "current_thread")]
async fn a_full_file_system_is_an_output_limit() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    let job = Job::probe(&["grow", "/tmp/x", "3000000000"]).limit(|l| {
        l.memory_bytes = 32 << 20;
        l.output_bytes = 1 << 32;
    });
    // With a memory controller the kernel's killer may come first.
    let code = session.run(job).await.error();
    assert!(
        code == Code::OutputLimit || harness.limits_memory && code == Code::MemoryLimit,
        "{code:?}"
    );
    session.run(compile()).await.ok();
}

#[tokio::test(flavor = "current_thread")]
async fn memory_is_limited() {
    let harness = Harness::start();
    if !harness.limits_memory {
        support::skipped(
            "memory_is_limited",
            "no memory controller for control groups of version 2",
        );
        return;
    }
    let mut session = harness.session().await;
    let outcome = session
        .run(Job::probe(&["eat", "1000000000"]).limit(|l| l.memory_bytes = 64 << 20))
        .await;
    assert_eq!(outcome.error(), Code::MemoryLimit);
    session.run(compile()).await.ok();
}

#[tokio::test(flavor = "current_thread")]
async fn processes_are_limited() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    let bomb = session
        .run(Job::probe(&["forks"]).limit(|l| (l.wall_ms, l.pids) = (500, 20)))
        .await;
    assert_eq!(bomb.error(), Code::TimeLimit);
    let outcome = session
        .run(Job::probe(&["fork-fail"]).limit(|l| l.pids = 20))
        .await;
    if harness.limits_pids {
        assert_eq!(outcome.error(), Code::PidsLimit);
    } else {
        support::skipped(
            "part of processes_are_limited",
            "no pids controller for control groups of version 2",
        );
        assert_eq!(outcome.exited().exit_code, 3);
    }
    session.run(compile()).await.ok();
}
