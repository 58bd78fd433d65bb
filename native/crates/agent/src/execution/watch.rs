//! A running sandbox, from its making to the end of its first process.
use std::future::pending;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::codegen::Bytes;

use super::orders::{Failure, Orders};
use crate::limits;
use crate::proto::ExecutionErrorCode as Code;
use crate::request::Job;
use crate::sandbox::Sandbox;
use crate::sandbox::record::{Fault, RECORD_BYTES, Record};
use crate::stdio::Filled;

/// What the first process of a sandbox has told.
#[derive(Debug, Default)]
pub struct Story {
    pub started: bool,
    pub fault: Option<Fault>,
    /// Wait status, wall time, peak memory.
    pub ended: Option<(i32, u64, u64)>,
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

    /// Hears what an ended sandbox has left. Reads the pipe itself: the runtime may not have been told yet that there is
    /// something in it, when the end became known by the end of another sandbox.
    fn hear_rest(&mut self, sandbox: &Sandbox) {
        let mut bytes = [0; RECORD_BYTES];
        loop {
            match rustix::io::read(&sandbox.control, &mut bytes) {
                Ok(RECORD_BYTES) => Record::decode(&bytes)
                    .into_iter()
                    .for_each(|record| self.hear(record)),
                Err(rustix::io::Errno::INTR) => {}
                _ => return,
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

/// Serves a running sandbox: inputs in, stdout and stderr out, records, deadlines.
pub struct Watch {
    feed: Feed,
    pub story: Story,
    wall: Duration,
}

impl Watch {
    /// A watch over a job whose input frames come from `queue`.
    pub fn new(job: &Job, queue: mpsc::Receiver<Bytes>) -> Watch {
        Watch {
            feed: Feed {
                queue,
                current: Bytes::new(),
                remaining: job.frame_bytes(),
            },
            story: Story::default(),
            wall: Duration::from_millis(job.limits.wall_ms.into()),
        }
    }

    /// Refuses further input, so that a session with some to give does not wait for an execution that ends.
    pub fn close_inputs(&mut self) {
        self.feed.queue.close();
    }

    /// Serves the sandbox until its first process has ended, or gives the reason to kill it.
    pub async fn until_end(&mut self, sandbox: &mut Sandbox, orders: &Orders) -> Option<Failure> {
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
                () = wait_until(deadline.as_ref()) => return deadline.map(|(_, failure)| failure),
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

fn overflow(stream: &str, filled: std::io::Result<Filled>) -> Option<Failure> {
    let failure = match filled {
        Ok(Filled::More | Filled::Ended) => return None,
        Ok(Filled::Full) => Failure::new(Code::OutputLimit, format!("{stream} passed its limit")),
        Err(error) => Failure::new(Code::Sandbox, format!("reading {stream}: {error}")),
    };
    Some(failure)
}

/// Takes what an ended sandbox has left in its pipes.
pub async fn drain(sandbox: &mut Sandbox, story: &mut Story) -> Result<(), Failure> {
    story.hear_rest(sandbox);
    for (name, capture) in [
        ("stdout", &mut sandbox.stdout),
        ("stderr", &mut sandbox.stderr),
    ] {
        let filled = timeout(limits::DRAIN_DEADLINE, capture.drain()).await;
        let filled = filled.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        if let Some(failure) = overflow(name, filled) {
            return Err(failure);
        }
    }
    Ok(())
}
