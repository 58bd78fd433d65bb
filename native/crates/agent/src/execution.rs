//! One execution from its request to its last output byte.
use std::future::pending;
use std::sync::Mutex;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::Status;
use tonic::codegen::Bytes;

use crate::cgroup::Usage;
use crate::outputs::{self, Output};
use crate::proto::session_response::Message;
use crate::proto::{
    ExecutionError, ExecutionErrorCode as Code, Exited, OutputChunk, OutputState, SessionResponse,
};
use crate::request::{Job, JobLimits};
use crate::sandbox::record::{Blame, Fault, RECORD_BYTES, Record};
use crate::sandbox::{Host, Sandbox};
use crate::stdio::Filled;
use crate::{fatal, limits};

/// Where an execution's messages go.
pub type Responses = mpsc::Sender<Result<SessionResponse, Status>>;

/// Why an execution has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub code: Code,
    pub message: String,
}

impl Failure {
    pub fn new(code: Code, message: impl Into<String>) -> Failure {
        Failure {
            code,
            message: message.into(),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    credit: u64,
    stop: Option<Stop>,
}

/// An order to end an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// Tell the worker why.
    Fail(Failure),
    /// There is nobody to tell.
    Silent,
}

/// What the session tells a running execution beside its inputs: never waits, so a full queue delays no cancel.
#[derive(Debug, Default)]
pub struct Orders {
    state: Mutex<State>,
    changed: Notify,
}

impl Orders {
    pub fn new() -> Orders {
        let orders = Orders::default();
        orders.add_credit(limits::INITIAL_CREDIT_BYTES.into());
        orders
    }

    /// Ends the execution; the first order counts, but for silence, which always does.
    pub fn stop(&self, stop: Stop) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.stop.is_none() || stop == Stop::Silent {
            state.stop = Some(stop);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Allows more output.
    pub fn add_credit(&self, bytes: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.credit = state
            .credit
            .saturating_add(bytes)
            .min(limits::CREDIT_BYTES_MAX);
        drop(state);
        self.changed.notify_waiters();
    }

    async fn wait<T>(&self, mut check: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(found) =
                check(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
            {
                return found;
            }
            changed.await;
        }
    }

    async fn stopped(&self) -> Stop {
        self.wait(|state| state.stop.clone()).await
    }

    /// Takes between one byte and `wanted` of credit.
    async fn take_credit(&self, wanted: usize) -> usize {
        self.wait(|state| {
            let granted = state.credit.min(wanted as u64);
            state.credit -= granted;
            (granted > 0).then_some(granted as usize)
        })
        .await
    }
}

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

/// An execution whose processes are gone and whose outputs wait to be sent.
struct Finished {
    exited: Exited,
    stdio: [Bytes; 2],
    outputs: Vec<Option<Output>>,
    /// Keeps the captured bytes in the budget.
    _sandbox: Sandbox,
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
    let mut watch = Watch {
        feed: Feed {
            queue: inputs,
            current: Bytes::new(),
            remaining: job.frame_bytes(),
        },
        story: Story::default(),
        wall: Duration::from_millis(job.limits.wall_ms.into()),
    };
    let stop = watch.until_end(&mut sandbox, orders).await;
    drop(watch.feed);
    let usage = end_all(&mut sandbox).await;
    if let Some(stop) = stop {
        return Err(stop);
    }
    let drained = drain(&mut sandbox, &mut watch.story).await;
    finish(sandbox, &job, watch.story, usage, drained).map_err(Stop::Fail)
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

/// What the first process of a sandbox has told.
#[derive(Debug, Default)]
struct Story {
    started: bool,
    fault: Option<Fault>,
    /// Wait status, wall time, peak memory.
    ended: Option<(i32, u64, u64)>,
}

impl Story {
    fn hear(&mut self, record: Record) {
        match record {
            Record::Started => self.started = true,
            Record::Failed(fault) => self.fault = self.fault.or(Some(fault)),
            Record::Ended {
                status,
                wall_us,
                peak_bytes,
            } => self.ended = Some((status, wall_us, peak_bytes)),
        }
    }

    /// Hears what the pipe holds now; false when nothing more can come.
    fn hear_all(&mut self, sandbox: &Sandbox) -> bool {
        let mut bytes = [0; RECORD_BYTES];
        loop {
            match sandbox.control.try_read(&mut bytes) {
                Ok(RECORD_BYTES) => Record::decode(&bytes)
                    .into_iter()
                    .for_each(|record| self.hear(record)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return true,
                _ => return false,
            }
        }
    }
}

/// Moves input bytes from the session to the sandbox.
struct Feed {
    queue: mpsc::Receiver<Bytes>,
    current: Bytes,
    remaining: u64,
}

impl Feed {
    /// Moves some; never returns when nothing is to be moved. Safe to drop at any point.
    async fn step(&mut self, sandbox_input: &mut Option<tokio::net::unix::pipe::Sender>) {
        let Some(pipe) = sandbox_input else {
            return pending().await;
        };
        if self.remaining == 0 {
            *sandbox_input = None;
            return;
        }
        if self.current.is_empty() {
            match self.queue.recv().await {
                Some(bytes) => self.current = bytes,
                // The session is going; its order to stop comes next.
                None => return pending().await,
            }
        }
        if pipe.writable().await.is_err() {
            return self.discard();
        }
        match pipe.try_write(&self.current) {
            Ok(count) => {
                let _ = self.current.split_to(count);
                self.remaining = self.remaining.saturating_sub(count as u64);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            // The sandbox has failed and says why itself; the rest is taken and forgotten.
            Err(_) => self.discard(),
        }
    }

    fn discard(&mut self) {
        self.remaining = self.remaining.saturating_sub(self.current.len() as u64);
        self.current = Bytes::new();
    }
}

struct Watch {
    feed: Feed,
    story: Story,
    wall: Duration,
}

impl Watch {
    /// Serves the sandbox until its first process has ended, or gives the reason to kill it.
    async fn until_end(&mut self, sandbox: &mut Sandbox, orders: &Orders) -> Option<Stop> {
        let mut deadline: Option<(Instant, Failure)> = None;
        let mut listening = true;
        loop {
            // A program that never stops writing must not keep the reaper and the stream from their turn.
            tokio::task::yield_now().await;
            if deadline.is_none() && sandbox.input.is_none() {
                let failure = Failure::new(Code::Sandbox, "the sandbox was not ready in time");
                deadline = Some((Instant::now() + limits::SETUP_DEADLINE, failure));
            }
            tokio::select! {
                biased;
                stop = orders.stopped() => return Some(stop),
                _ = &mut sandbox.ended => {
                    sandbox.has_ended = true;
                    return None;
                }
                () = wait_until(deadline.as_ref()) => return deadline.map(|(_, failure)| Stop::Fail(failure)),
                filled = sandbox.stdout.fill() => if let Some(stop) = overflow("stdout", filled) { return Some(stop); },
                filled = sandbox.stderr.fill() => if let Some(stop) = overflow("stderr", filled) { return Some(stop); },
                _ = sandbox.control.readable(), if listening => {
                    let running = self.story.started;
                    listening = self.story.hear_all(sandbox);
                    if self.story.started && !running {
                        let failure = Failure::new(Code::TimeLimit, "the wall-clock limit passed");
                        deadline = Some((Instant::now() + self.wall, failure));
                    }
                }
                () = self.feed.step(&mut sandbox.input) => {}
            }
        }
    }
}

async fn wait_until(deadline: Option<&(Instant, Failure)>) {
    match deadline {
        Some((at, _)) => sleep_until(*at).await,
        None => pending().await,
    }
}

fn overflow(stream: &str, filled: std::io::Result<Filled>) -> Option<Stop> {
    let failure = match filled {
        Ok(Filled::More | Filled::Ended) => return None,
        Ok(Filled::Full) => Failure::new(Code::OutputLimit, format!("{stream} passed its limit")),
        Err(error) => Failure::new(Code::Sandbox, format!("reading {stream}: {error}")),
    };
    Some(Stop::Fail(failure))
}

async fn drain(sandbox: &mut Sandbox, story: &mut Story) -> Result<(), Failure> {
    let _ = story.hear_all(sandbox);
    for (name, capture) in [
        ("stdout", &mut sandbox.stdout),
        ("stderr", &mut sandbox.stderr),
    ] {
        let filled = timeout(limits::DRAIN_DEADLINE, capture.drain()).await;
        let filled = filled.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        if let Some(Stop::Fail(failure)) = overflow(name, filled) {
            return Err(failure);
        }
    }
    Ok(())
}

/// What the end of the first process means.
fn finish(
    mut sandbox: Sandbox,
    job: &Job,
    story: Story,
    usage: Usage,
    drained: Result<(), Failure>,
) -> Result<Finished, Failure> {
    if usage.oom_kills > 0 {
        return Err(Failure::new(
            Code::MemoryLimit,
            "the memory limit was reached",
        ));
    }
    if let Some(fault) = story.fault {
        return Err(failure_of(fault));
    }
    let Some((status, wall_us, peak_bytes)) = story.ended else {
        return Err(Failure::new(
            Code::Sandbox,
            "the sandbox's first process died",
        ));
    };
    drained?;
    let (exit_code, signal) = outcome(status);
    if (exit_code, signal) != (0, 0)
        && let Some(failure) = limit_behind(&sandbox, signal, &usage)
    {
        return Err(failure);
    }
    let outputs = open_outputs(&sandbox, job)?;
    let stdio = [
        sandbox.stdout.take_bytes().into(),
        sandbox.stderr.take_bytes().into(),
    ];
    let exited = Exited {
        execution_id: job.id,
        exit_code,
        signal,
        wall_us,
        cpu_us: usage.cpu_us,
        memory_peak_bytes: if usage.memory_peak_bytes > 0 {
            usage.memory_peak_bytes
        } else {
            peak_bytes
        },
        stdout_size: Bytes::len(&stdio[0]) as u64,
        stderr_size: Bytes::len(&stdio[1]) as u64,
        outputs: outputs.iter().map(output_state).collect(),
    };
    Ok(Finished {
        exited,
        stdio,
        outputs,
        _sandbox: sandbox,
    })
}

fn failure_of(fault: Fault) -> Failure {
    let code = match fault.blame {
        Blame::Sandbox => Code::Sandbox,
        Blame::Request => Code::Invalid,
        Blame::Program => Code::NoProgram,
        Blame::Memory => Code::MemoryLimit,
    };
    let reason = match fault.errno {
        0 => "its bytes are not the declared ones".to_owned(),
        errno => std::io::Error::from_raw_os_error(errno).to_string(),
    };
    Failure::new(code, format!("{}: {reason}", fault.step.words()))
}

/// Exit code and signal of a wait status.
fn outcome(status: i32) -> (u32, u32) {
    let signal = (status & 0x7f) as u32;
    if signal == 0 {
        ((status >> 8 & 0xff) as u32, 0)
    } else {
        (0, signal)
    }
}

/// The limit that made a program fail, where that can be known.
fn limit_behind(sandbox: &Sandbox, signal: u32, usage: &Usage) -> Option<Failure> {
    if signal == Signal::XFSZ.as_raw() as u32 {
        return Some(Failure::new(
            Code::OutputLimit,
            "a file passed the output limit",
        ));
    }
    if usage.refused_forks > 0 {
        return Some(Failure::new(
            Code::PidsLimit,
            "the limit of processes was reached",
        ));
    }
    if outputs::file_system_full(&sandbox.root) {
        return Some(Failure::new(
            Code::OutputLimit,
            "its files filled the memory limit",
        ));
    }
    None
}

fn open_outputs(sandbox: &Sandbox, job: &Job) -> Result<Vec<Option<Output>>, Failure> {
    let JobLimits { output_bytes, .. } = job.limits;
    let mut total: u64 = 0;
    let mut opened = Vec::with_capacity(job.outputs.len());
    for path in &job.outputs {
        let output = Output::open(&sandbox.root, path)
            .map_err(|error| Failure::new(Code::Sandbox, format!("opening an output: {error}")))?;
        total = total.saturating_add(output.as_ref().map_or(0, |output| output.size));
        opened.push(output);
    }
    if total > output_bytes {
        return Err(Failure::new(
            Code::OutputLimit,
            "the outputs together passed the output limit",
        ));
    }
    Ok(opened)
}

fn output_state(output: &Option<Output>) -> OutputState {
    match output {
        Some(output) => OutputState {
            present: true,
            size: output.size,
            executable: output.executable,
        },
        None => OutputState::default(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_statuses_are_read() {
        assert_eq!(outcome(0), (0, 0));
        assert_eq!(outcome(3 << 8), (3, 0));
        assert_eq!(outcome(255 << 8), (255, 0));
        assert_eq!(outcome(libc::SIGSEGV | 0x80), (0, libc::SIGSEGV as u32));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn credit_is_taken_as_far_as_it_reaches() {
        let orders = Orders::new();
        let initial = limits::INITIAL_CREDIT_BYTES as usize;
        assert_eq!(orders.take_credit(initial - 1).await, initial - 1);
        assert_eq!(orders.take_credit(100).await, 1);
        let (taken, ()) = tokio::join!(orders.take_credit(100), async { orders.add_credit(7) });
        assert_eq!(taken, 7);
        orders.add_credit(u64::MAX);
        orders.add_credit(u64::MAX);
        assert_eq!(orders.take_credit(100).await, 100);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_first_order_to_stop_counts_but_silence_wins() {
        let orders = Orders::new();
        let first = Stop::Fail(Failure::new(Code::Cancelled, "a"));
        orders.stop(first.clone());
        orders.stop(Stop::Fail(Failure::new(Code::Invalid, "b")));
        assert_eq!(orders.stopped().await, first);
        orders.stop(Stop::Silent);
        assert_eq!(orders.stopped().await, Stop::Silent);
    }
}
