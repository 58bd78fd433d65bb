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

use self::orders::{Failure, Orders};
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
    let failure = match execute(&host, job, serial, inputs, &orders).await {
        Ok(finished) => tokio::select! {
            failure = orders.stopped() => failure,
            sent = send_result(id, finished, &orders, &out) => match sent {
                Ok(()) | Err(Unsent::NobodyReads) => return,
                Err(Unsent::Failed(failure)) => failure,
            },
        },
        Err(failure) => failure,
    };
    let error = ExecutionError {
        execution_id: id,
        code: failure.code.into(),
        message: failure.message,
    };
    let _ = send(&out, Message::Error(error)).await;
}

/// Why a result was not sent whole.
enum Unsent {
    NobodyReads,
    Failed(Failure),
}

async fn send(out: &Responses, message: Message) -> Result<(), Unsent> {
    let response = SessionResponse {
        message: Some(message),
    };
    out.send(Ok(response))
        .await
        .map_err(|_| Unsent::NobodyReads)
}

async fn execute(
    host: &Host,
    job: Job,
    serial: u64,
    inputs: mpsc::Receiver<Bytes>,
    orders: &Orders,
) -> Result<Finished, Failure> {
    let mut sandbox = Sandbox::spawn(host, &job, serial)
        .map_err(|error| Failure::new(Code::Sandbox, format!("making the sandbox: {error}")))?;
    let mut watch = Watch::new(&job, inputs);
    let stop = watch.until_end(&mut sandbox, orders).await;
    watch.close_inputs();
    let usage = end_all(&mut sandbox).await;
    if let Some(stop) = stop {
        return Err(stop);
    }
    let drained = watch::drain(&mut sandbox, &mut watch.story).await;
    verdict::finish(sandbox, &job, watch.story, usage, drained)
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

/// Sends a result.
async fn send_result(
    id: u64,
    finished: Finished,
    orders: &Orders,
    out: &Responses,
) -> Result<(), Unsent> {
    let Finished {
        exited,
        stdio,
        outputs,
        _sandbox,
    } = finished;
    send(out, Message::Exited(exited)).await?;
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
            send(out, Message::Output(chunk)).await?;
        }
    }
    for (stream_index, output) in (2..).zip(outputs) {
        let Some(output) = output else { continue };
        let mut offset = 0;
        while offset < output.size {
            let wanted = (output.size - offset).min(limits::CHUNK_BYTES_MAX as u64) as usize;
            let size = orders.take_credit(wanted).await;
            let data = output.read(offset, size).map_err(|error| {
                let message = format!("reading an output: {error}");
                Unsent::Failed(Failure::new(Code::Sandbox, message))
            })?;
            offset += size as u64;
            let chunk = OutputChunk {
                execution_id: id,
                stream_index,
                data: data.into(),
            };
            send(out, Message::Output(chunk)).await?;
        }
    }
    Ok(())
}
