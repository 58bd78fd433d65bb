//! The stream of one worker: applies its start message, then hands its messages to executions. However it ends, it
//! returns only when nothing of its executions is left.
// UNTRUSTED: the worker.
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::codegen::Bytes;
use tonic::{Status, Streaming};

use crate::boot::Clockwork;
use crate::execution::orders::{Failure, Orders, Stop};
use crate::execution::{self, Responses};
use crate::proto::session_request::Message as Request;
use crate::proto::session_response::Message as Response;
use crate::proto::{
    Execute, ExecutionError, ExecutionErrorCode as Code, InputChunk, Ready, SessionRequest,
};
use crate::proto::{SessionResponse, Start};
use crate::request::{self, InputCursor};
use crate::sandbox::Host;
use crate::{fatal, limits};

/// What sessions share.
pub struct Agent {
    pub host: Arc<Host>,
    pub clockwork: Clockwork,
    serial: AtomicU64,
}

impl Agent {
    pub fn new(host: Host, clockwork: Clockwork) -> Agent {
        Agent {
            host: Arc::new(host),
            clockwork,
            serial: AtomicU64::new(0),
        }
    }
}

/// Serves a stream to its end; `permit` is the right to be the only one.
pub async fn run(
    agent: Arc<Agent>,
    requests: Streaming<SessionRequest>,
    out: Responses,
    permit: OwnedSemaphorePermit,
) {
    let mut session = Session {
        agent,
        out,
        executions: HashMap::new(),
        tasks: JoinSet::new(),
    };
    let end = session.serve(requests).await;
    for execution in session.executions.values() {
        execution.orders.stop(Stop::Silent);
    }
    while session.tasks.join_next().await.is_some() {}
    drop(permit);
    if let Err(status) = end {
        let _ = session.out.try_send(Err(status));
    }
}

struct Session {
    agent: Arc<Agent>,
    out: Responses,
    executions: HashMap<u64, Execution>,
    tasks: JoinSet<u64>,
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
            message: Some(Request::Start(start)),
        }) = first
        else {
            return Err(Status::failed_precondition(
                "the first message is not start",
            ));
        };
        let ready = self.start(&start)?;
        self.send(Response::Ready(ready)).await?;
        let out = self.out.clone();
        loop {
            tokio::select! {
                () = out.closed() => return Ok(()),
                Some(ended) = self.tasks.join_next() => match ended {
                    Ok(id) => drop(self.executions.remove(&id)),
                    Err(error) => fatal::die(format_args!("a task failed: {error}")),
                },
                message = requests.message() => match message? {
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
        let Ok(entropy) = <&[u8; 32]>::try_from(start.entropy.as_ref()) else {
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
            Request::Execute(execute) => self.execute(execute).await,
            Request::Input(chunk) => {
                self.input(chunk).await;
                Ok(())
            }
            // An id that is not known may be one that has just ended.
            Request::Cancel(cancel) => {
                if let Some(execution) = self.executions.get(&cancel.execution_id) {
                    execution
                        .orders
                        .stop(Stop::Fail(Failure::new(Code::Cancelled, "cancelled")));
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
                execution
                    .orders
                    .stop(Stop::Fail(Failure::new(Code::Invalid, reason)));
            }
        }
    }
}
