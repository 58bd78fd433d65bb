//! The stream of one worker: applies its start message, then hands its messages to executions. When it ends, its executions
//! are dropped; PID 1 kills what is left of them.
// UNTRUSTED: the worker.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::codegen::Bytes;
use tonic::{Status, Streaming};

use crate::boot::Clockwork;
use crate::execution::orders::{Failure, Orders};
use crate::execution::{self, Responses};
use crate::proto::session_request::Message as Request;
use crate::proto::session_response::Message as Response;
use crate::proto::{
    Clock, ClockReading, Execute, ExecutionError, ExecutionErrorCode as Code, InputChunk, Ready,
    ScrubReport, SessionRequest,
};
use crate::proto::{SessionResponse, Start};
use crate::request::{self, InputCursor};
use crate::sandbox::Host;
use crate::{fatal, limits, sys};

/// What a session works with.
pub struct Agent {
    pub host: Arc<Host>,
    clockwork: Clockwork,
    last_scrub: Option<ScrubReport>,
    serial: AtomicU64,
}

impl Agent {
    pub fn new(host: Host, clockwork: Clockwork, last_scrub: Option<ScrubReport>) -> Agent {
        // No execution has a serial, and so a uid, of the session before.
        let serial = last_scrub.map_or(0, |report| report.sequence << 32);
        Agent {
            host: Arc::new(host),
            clockwork,
            last_scrub,
            serial: AtomicU64::new(serial),
        }
    }
}

/// Serves a stream to its end.
pub async fn run(agent: Arc<Agent>, requests: Streaming<SessionRequest>, out: Responses) {
    let mut session = Session {
        agent,
        out,
        executions: BTreeMap::new(),
        tasks: JoinSet::new(),
        began: false,
    };
    let end = session.serve(requests).await;
    session.tasks.shutdown().await;
    if let Err(status) = end {
        // Dropped with the connection when the worker does not read.
        let _ = timeout(limits::FAREWELL_DEADLINE, session.out.send(Err(status))).await;
    }
}

struct Session {
    agent: Arc<Agent>,
    out: Responses,
    executions: BTreeMap<u64, Execution>,
    tasks: JoinSet<u64>,
    /// An execution was asked for; the clock stands from then on.
    began: bool,
}

/// The session's side of an execution.
struct Execution {
    inputs: mpsc::Sender<Bytes>,
    cursor: InputCursor,
    orders: Arc<Orders>,
}

impl Session {
    async fn serve(&mut self, mut requests: Streaming<SessionRequest>) -> Result<(), Status> {
        let first = timeout(limits::START_DEADLINE, requests.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no start message"))??;
        let Some(SessionRequest {
            message: Some(Request::Start(mut start)),
        }) = first
        else {
            return Err(Status::failed_precondition(
                "the first message is not start",
            ));
        };
        let ready = self.start(&start);
        sys::erase(&mut start.entropy);
        self.send(Response::Ready(ready?)).await?;
        let out = self.out.clone();
        loop {
            tokio::select! {
                () = out.closed() => return Ok(()),
                Some(ended) = self.tasks.join_next() => match ended {
                    Ok(id) => drop(self.executions.remove(&id)),
                    Err(error) => fatal::die(format_args!("a task failed: {error}")),
                },
                message = requests.message() => match message? {
                    Some(SessionRequest { message: Some(Request::Scrub(_)) }) => return Ok(()),
                    Some(SessionRequest { message: Some(message) }) => tokio::select! {
                        () = out.closed() => return Ok(()),
                        result = self.take(message) => result?,
                    },
                    Some(SessionRequest { message: None }) => return Err(Status::invalid_argument("an empty message")),
                    None => return Ok(()),
                },
            }
        }
    }

    fn start(&self, start: &Start) -> Result<Ready, Status> {
        if start.protocol_version != limits::PROTOCOL_VERSION {
            return Err(Status::failed_precondition(format!(
                "this agent speaks version {}",
                limits::PROTOCOL_VERSION
            )));
        }
        if start.nonce.len() != 32 {
            return Err(Status::invalid_argument("nonce is not 32 bytes"));
        }
        let Ok(entropy) = <&[u8; 32]>::try_from(start.entropy.as_slice()) else {
            return Err(Status::invalid_argument("entropy is not 32 bytes"));
        };
        if start.wall_time_ns < 0 {
            return Err(Status::invalid_argument("wall_time_ns is negative"));
        }
        let applied = self.agent.clockwork.apply(entropy, start.wall_time_ns);
        applied.map_err(|error| Status::internal(format!("entropy and clock: {error}")))?;
        let uptime = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Ok(Ready {
            protocol_version: limits::PROTOCOL_VERSION,
            nonce: start.nonce.clone(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel_release: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            uptime_ms: (uptime.tv_sec * 1000 + uptime.tv_nsec / 1_000_000) as u64,
            initial_credit_bytes: limits::INITIAL_CREDIT_BYTES,
            last_scrub: self.agent.last_scrub,
        })
    }

    async fn send(&self, message: Response) -> Result<(), Status> {
        let sent = self
            .out
            .send(Ok(SessionResponse {
                message: Some(message),
            }))
            .await;
        sent.map_err(|_| Status::cancelled("the worker has gone"))
    }

    async fn take(&mut self, message: Request) -> Result<(), Status> {
        match message {
            Request::Start(_) => Err(Status::invalid_argument("a second start")),
            // Taken by the caller, whom it ends.
            Request::Scrub(_) => Ok(()),
            Request::Clock(clock) => self.clock(&clock).await,
            Request::Execute(execute) => {
                self.began = true;
                self.execute(execute).await
            }
            Request::Input(chunk) => {
                self.input(chunk).await;
                Ok(())
            }
            // An id that is not known may be one that has just ended.
            Request::Cancel(cancel) => {
                if let Some(execution) = self.executions.get(&cancel.execution_id) {
                    execution
                        .orders
                        .stop(Failure::new(Code::Cancelled, "cancelled"));
                }
                Ok(())
            }
            Request::Credit(credit) => {
                if let Some(execution) = self.executions.get(&credit.execution_id) {
                    execution.orders.add_credit(credit.bytes.into());
                }
                Ok(())
            }
        }
    }

    async fn clock(&self, clock: &Clock) -> Result<(), Status> {
        if self.began {
            return Err(Status::invalid_argument("clock after an execute"));
        }
        let wall_time_ns = self.agent.clockwork.step(clock.step_ns);
        let wall_time_ns =
            wall_time_ns.map_err(|error| Status::internal(format!("clock: {error}")))?;
        self.send(Response::Clock(ClockReading { wall_time_ns }))
            .await
    }

    async fn execute(&mut self, execute: Execute) -> Result<(), Status> {
        let id = execute.execution_id;
        if self.executions.contains_key(&id) {
            return Err(Status::invalid_argument("an execution id that is in use"));
        }
        if self.executions.len() >= limits::EXECUTIONS_MAX {
            return self
                .refuse(id, Code::Sandbox, "too many executions at once")
                .await;
        }
        let job = match request::check(execute) {
            Ok(job) => job,
            Err(request::Invalid(reason)) => return self.refuse(id, Code::Invalid, &reason).await,
        };
        let (inputs, queue) = mpsc::channel(limits::INPUT_QUEUE_MESSAGES);
        let orders = Arc::new(Orders::new());
        let cursor = InputCursor::new(&job);
        self.executions.insert(
            id,
            Execution {
                inputs,
                cursor,
                orders: orders.clone(),
            },
        );
        let serial = self.agent.serial.fetch_add(1, Ordering::Relaxed);
        let (host, out) = (self.agent.host.clone(), self.out.clone());
        self.tasks.spawn(async move {
            execution::run(host, job, serial, queue, orders, out).await;
            id
        });
        Ok(())
    }

    async fn refuse(&self, id: u64, code: Code, reason: &str) -> Result<(), Status> {
        let error = ExecutionError {
            execution_id: id,
            code: code.into(),
            message: reason.to_owned(),
        };
        self.send(Response::Error(error)).await
    }

    async fn input(&mut self, chunk: InputChunk) {
        let Some(execution) = self.executions.get_mut(&chunk.execution_id) else {
            return;
        };
        match execution.cursor.accept(chunk.input_index, chunk.data.len()) {
            // A closed queue belongs to an execution that has failed and says why itself.
            Ok(()) => drop(execution.inputs.send(chunk.data).await),
            Err(request::Invalid(reason)) => {
                execution.orders.stop(Failure::new(Code::Invalid, reason));
            }
        }
    }
}
