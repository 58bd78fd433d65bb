//! One execution from its request to its last output byte.
pub mod orders;
mod verdict;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tonic::Status;
use tonic::codegen::Bytes;

use self::orders::{Failure, Orders, Stop};
use self::verdict::Finished;
use self::watch::Watch;
use crate::cgroup::Usage;
use crate::proto::session_response::Message;
use crate::proto::{ExecutionError, ExecutionErrorCode as Code, OutputChunk, SessionResponse};
use crate::request::Job;
use crate::sandbox::{Host, Sandbox};
use crate::{fatal, limits};

/// Where an execution's messages go.
pub type Responses = mpsc::Sender<Result<SessionResponse, Status>>;

/// Carries out a job and sends what becomes of it. When it returns, nothing of the execution is left.
pub async fn run(
    host: Arc<Host>,
    job: Job,
    serial: u64,
    inputs: mpsc::Receiver<Bytes>,
    orders: Arc<Orders>,
    out: Responses,
) {
    let id = job.id;
    let stop = match execute(&host, job, serial, inputs, &orders).await {
        Ok(finished) => tokio::select! {
            stop = orders.stopped() => stop,
            stop = send_result(id, finished, &orders, &out) => match stop {
                None => return,
                Some(stop) => stop,
            },
        },
        Err(stop) => stop,
    };
    if let Stop::Fail(Failure { code, message }) = stop {
        let error = ExecutionError {
            execution_id: id,
            code: code.into(),
            message,
        };
        tokio::select! {
            _ = orders.wait(|state| (state.stop == Some(Stop::Silent)).then_some(())) => {}
            _ = send(&out, Message::Error(error)) => {}
        }
    }
}

async fn send(out: &Responses, message: Message) -> bool {
    out.send(Ok(SessionResponse {
        message: Some(message),
    }))
    .await
    .is_ok()
}

async fn execute(
    host: &Host,
    job: Job,
    serial: u64,
    inputs: mpsc::Receiver<Bytes>,
    orders: &Orders,
) -> Result<Finished, Stop> {
    let mut sandbox = Sandbox::spawn(host, &job, serial).map_err(|error| {
        Stop::Fail(Failure::new(
            Code::Sandbox,
            format!("making the sandbox: {error}"),
        ))
    })?;
    let mut watch = Watch::new(&job, inputs);
    let stop = watch.until_end(&mut sandbox, orders).await;
    watch.close_inputs();
    let usage = end_all(&mut sandbox).await;
    if let Some(stop) = stop {
        return Err(stop);
    }
    let drained = watch::drain(&mut sandbox, &mut watch.story).await;
    verdict::finish(sandbox, &job, watch.story, usage, drained).map_err(Stop::Fail)
}

/// Kills what is left and waits until nothing is; then the group goes.
async fn end_all(sandbox: &mut Sandbox) -> Usage {
    let deadline = Instant::now() + limits::KILL_DEADLINE;
    if let Err(error) = sandbox.group.kill() {
        fatal::die(format_args!("an execution cannot be killed: {error}"));
    }
    if !sandbox.has_ended
        && tokio::time::timeout_at(deadline, &mut sandbox.ended)
            .await
            .is_err()
    {
        fatal::die("an execution does not end");
    }
    sandbox.has_ended = true;
    while sandbox.group.populated().unwrap_or(false) {
        if Instant::now() > deadline {
            fatal::die("an execution leaves processes behind");
        }
        sleep(Duration::from_millis(1)).await;
    }
    let usage = sandbox.group.usage();
    while let Err(error) = sandbox.group.remove() {
        if Instant::now() > deadline {
            fatal::die(format_args!("a control group stays: {error}"));
        }
        sleep(Duration::from_millis(1)).await;
    }
    usage
}

/// Sends a result; gives a reason when it cannot be sent whole.
async fn send_result(
    id: u64,
    finished: Finished,
    orders: &Orders,
    out: &Responses,
) -> Option<Stop> {
    let Finished {
        exited,
        stdio,
        outputs,
        _sandbox,
    } = finished;
    if !send(out, Message::Exited(exited)).await {
        return Some(Stop::Silent);
    }
    for (stream_index, mut bytes) in (0..).zip(stdio) {
        while !bytes.is_empty() {
            let size = orders
                .take_credit(bytes.len().min(limits::CHUNK_BYTES_MAX))
                .await;
            let chunk = OutputChunk {
                execution_id: id,
                stream_index,
                data: bytes.split_to(size),
            };
            if !send(out, Message::Output(chunk)).await {
                return Some(Stop::Silent);
            }
        }
    }
    for (stream_index, output) in (2..).zip(outputs) {
        let Some(output) = output else { continue };
        let mut offset = 0;
        while offset < output.size {
            let wanted = (output.size - offset).min(limits::CHUNK_BYTES_MAX as u64) as usize;
            let size = orders.take_credit(wanted).await;
            let data = match output.read(offset, size) {
                Ok(data) => data.into(),
                Err(error) => {
                    let message = format!("reading an output: {error}");
                    return Some(Stop::Fail(Failure::new(Code::Sandbox, message)));
                }
            };
            offset += size as u64;
            if !send(
                out,
                Message::Output(OutputChunk {
                    execution_id: id,
                    stream_index,
                    data,
                }),
            )
            .await
            {
                return Some(Stop::Silent);
            }
        }
    }
    None
}
