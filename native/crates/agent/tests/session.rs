//! The stream: who may open it, how executions share it, how it ends.
#![cfg(feature = "test-harness")]
#![allow(clippy::unwrap_used, clippy::expect_used)]
mod support;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hpcc_agent::proto::session_request::Message as Request;
use hpcc_agent::proto::session_response::Message as Response;
use hpcc_agent::proto::{Clock, ExecutionErrorCode as Code, InputChunk, SessionRequest, Start};
use support::{Harness, Job, Outcome, Session, bytes, start};
use tonic::Code as Grpc;

fn compile(value: usize) -> Job {
    let source =
        format!("int answer(void) {{ return {value}; }}\nchar filler[200000] = {{{value}}};\n");
    Job::new(&["/usr/bin/gcc", "-c", "a.c", "-o", "/hpcc/out/a.o"])
        .input("/hpcc/project/a.c", source.as_bytes())
        .output("/hpcc/out/a.o")
}

#[tokio::test(flavor = "current_thread")]
async fn eight_at_once_are_not_mixed_up() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    let mut alone = HashMap::new();
    for value in 0..8 {
        alone.insert(
            value,
            session.run(compile(value)).await.ok().stream(2).to_vec(),
        );
    }
    let mut ids = HashMap::new();
    for value in 0..24 {
        ids.insert(session.begin(compile(value % 8)).await, value % 8);
    }
    while !ids.is_empty() {
        let (id, outcome) = session.next_outcome().await;
        let value = ids.remove(&id).unwrap();
        assert!(outcome.ok().stream(2) == alone[&value]);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn too_many_at_once_are_refused() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    let mut ids = Vec::new();
    // They wait for an input that does not come.
    for _ in 0..64 {
        let mut job = Job::probe(&["exit", "0"]).input("/hpcc/x", b"x");
        job.frames.clear();
        ids.push(session.begin(job).await);
    }
    assert_eq!(
        session.run(Job::probe(&["exit", "0"])).await.error(),
        Code::Sandbox
    );
    for id in &ids {
        session.cancel(*id).await;
    }
    for _ in &ids {
        assert_eq!(session.next_outcome().await.1.error(), Code::Cancelled);
    }
    session.run(compile(0)).await.ok();
}

#[tokio::test(flavor = "current_thread")]
async fn a_cancelled_execution_ends_at_once() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    let id = session.begin(Job::probe(&["spin"])).await;
    let other = session.begin(compile(1)).await;
    let (ended, outcome) = session.next_outcome().await;
    assert_eq!(ended, other);
    outcome.ok();
    let cancelled = Instant::now();
    session.cancel(id).await;
    session.cancel(12345).await;
    let (ended, outcome) = session.next_outcome().await;
    assert_eq!((ended, outcome.error()), (id, Code::Cancelled));
    assert!(cancelled.elapsed() < Duration::from_secs(8));
    session.cancel(id).await;
    session.run(compile(1)).await.ok();
}

#[tokio::test(flavor = "current_thread")]
async fn outputs_wait_for_credit_and_others_pass() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    session.generous = false;
    let large = Job::probe(&["grow", "/hpcc/out/x", "4194304"]).output("/hpcc/out/x");
    let id = session.begin(large).await;
    // 1 MiB comes unasked, then the execution waits while others go on.
    for value in 0..3 {
        let other = session.begin(compile(value)).await;
        let (ended, outcome) = session.next_outcome().await;
        assert_eq!(ended, other);
        outcome.ok();
    }
    session.credit(id, 3 << 20).await;
    let (ended, outcome) = session.next_outcome().await;
    assert_eq!((ended, outcome.ok().stream(2).len()), (id, 4 << 20));

    let id = session
        .begin(Job::probe(&["grow", "/hpcc/out/x", "4194304"]).output("/hpcc/out/x"))
        .await;
    let other = session.begin(compile(0)).await;
    assert_eq!(session.next_outcome().await.0, other);
    session.cancel(id).await;
    let (ended, outcome) = session.next_outcome().await;
    assert_eq!((ended, outcome.error()), (id, Code::Cancelled));
}

#[tokio::test(flavor = "current_thread")]
async fn only_one_session_lives() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    let second_stream = Session::open(&mut session.client.clone())
        .await
        .err()
        .unwrap();
    assert_eq!(second_stream.code(), Grpc::ResourceExhausted);
    for _ in 0..20 {
        let asked = Instant::now();
        let status = harness.try_session_with(start()).await.err().unwrap();
        assert!(support::is_closed(&status), "{status}");
        assert!(asked.elapsed() < Duration::from_secs(8));
    }
    session.run(compile(0)).await.ok();
    drop(session);
    harness.session().await.run(compile(0)).await.ok();
}

#[tokio::test(flavor = "current_thread")]
async fn a_dropped_stream_ends_its_executions() {
    let harness = Harness::start();
    if harness.is_guest() {
        support::skipped(
            "a_dropped_stream_ends_its_executions",
            "the guest's processes cannot be seen",
        );
        return;
    }
    for half_close in [false, true] {
        let mut session = harness.session().await;
        let name = if half_close {
            "hpcc-left-b"
        } else {
            "hpcc-left-a"
        };
        session.begin(Job::probe(&["named", name])).await;
        session.begin(Job::probe(&["spin"])).await;
        wait_for_processes(name, 1).await;
        if half_close {
            session.close();
            assert!(session.responses.message().await.unwrap().is_none());
        }
        drop(session);
        harness.session().await.run(compile(0)).await.ok();
        assert_eq!(support::processes_named(name), 0);
    }
}

async fn wait_for_processes(name: &str, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while support::processes_named(name) != count {
        assert!(Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_broken_start_ends_the_stream() {
    let harness = Harness::start();
    let with = |edit: fn(&mut Start)| {
        let mut start = Start {
            protocol_version: 4,
            nonce: bytes([1; 32]),
            entropy: vec![2; 32],
            wall_time_ns: support::wall_time_ns(),
        };
        edit(&mut start);
        SessionRequest {
            message: Some(Request::Start(start)),
        }
    };
    let firsts = [
        (
            with(|start| start.protocol_version = 1),
            Grpc::FailedPrecondition,
        ),
        (
            with(|start| start.nonce = bytes([1; 31])),
            Grpc::InvalidArgument,
        ),
        (with(|start| start.entropy = vec![]), Grpc::InvalidArgument),
        (with(|start| start.wall_time_ns = -1), Grpc::InvalidArgument),
        (SessionRequest { message: None }, Grpc::FailedPrecondition),
        (
            SessionRequest {
                message: Some(Request::Cancel(Default::default())),
            },
            Grpc::FailedPrecondition,
        ),
    ];
    for (first, code) in firsts {
        let status = harness.session_with(first.clone()).await.err().unwrap();
        assert_eq!(status.code(), code, "{first:?}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn messages_out_of_contract_end_the_stream() {
    let harness = Harness::start();
    let twice = |id| Request::Execute(Job::probe(&["spin"]).edit(|e| e.execution_id = id).execute);
    let rows = [
        vec![start()],
        vec![SessionRequest { message: None }],
        [twice(9), twice(9)].map(wrap).to_vec(),
        [twice(9), Request::Clock(Clock { step_ns: 0 })]
            .map(wrap)
            .to_vec(),
    ];
    for row in rows {
        let mut session = harness.session().await;
        for request in row {
            session.send_raw(request).await;
        }
        let status = loop {
            match session.responses.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("ended without a status"),
                Err(status) => break status,
            }
        };
        assert_eq!(status.code(), Grpc::InvalidArgument);
    }
    harness.session().await.run(compile(0)).await.ok();
}

#[tokio::test(flavor = "current_thread")]
async fn the_clock_is_read_and_stepped_before_the_first_execution() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    let mut read = async |step_ns| {
        session.send(Request::Clock(Clock { step_ns })).await;
        match session.responses.message().await.unwrap().unwrap().message {
            Some(Response::Clock(reading)) => reading.wall_time_ns,
            other => panic!("not a reading: {other:?}"),
        }
    };
    let first = read(0).await;
    assert!((first - support::wall_time_ns()).abs() < 5_000_000_000);
    const HOUR: i64 = 3_600_000_000_000;
    for step in [-HOUR, HOUR] {
        let stepped = read(step).await - first;
        // Outside a VM the clock is somebody else's, and stands.
        let expected = if harness.is_guest() && step < 0 {
            step
        } else {
            0
        };
        assert!((stepped - expected).abs() < 5_000_000_000, "{stepped}");
    }
    assert!(matches!(
        session.run(compile(0)).await,
        Outcome::Exited { .. }
    ));
}

fn wrap(message: Request) -> SessionRequest {
    SessionRequest {
        message: Some(message),
    }
}

#[tokio::test(flavor = "current_thread")]
async fn input_chunks_out_of_order_end_their_execution_alone() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    for (input_index, size) in [(1, 1), (0, 100_000), (0, 0), (7, 1)] {
        let mut job = Job::probe(&["exit", "0"])
            .input("/hpcc/a", b"aaaa")
            .input("/hpcc/b", b"bbbb");
        job.frames.clear();
        let execution_id = session.begin(job).await;
        session
            .send(Request::Input(InputChunk {
                execution_id,
                input_index,
                data: bytes(vec![0; size]),
            }))
            .await;
        let (ended, outcome) = session.next_outcome().await;
        assert_eq!((ended, outcome.error()), (execution_id, Code::Invalid));
    }
    let stray = InputChunk {
        execution_id: 999,
        input_index: 0,
        data: bytes([1]),
    };
    session.send(Request::Input(stray)).await;
    assert!(matches!(
        session.run(compile(0)).await,
        Outcome::Exited { .. }
    ));
}
