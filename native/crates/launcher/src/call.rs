//! One compile call: the conversation with the daemon, in which the daemon decides and this end acts.

use crate::become_program::{Target, become_program};
use crate::caller::{Caller, warn};
use crate::connection::{Connection, Event};
use crate::fallback::{self, HostTarget, become_host_compiler};
use crate::fault::{Fault, display};
use crate::outputs::{self, StreamSource};
use crate::spawn::Child;
use crate::start::{Places, reach};
use crate::sys;
use hpcc_frames::{Exec, Message, Outcome, Outputs, Ran, Run, RunFailure, Usage};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// What a child gets to tidy up after a signal.
const CHILD_GRACE: Duration = Duration::from_millis(500);

/// Makes the call. Returns only the fault for which the real compiler has to run.
pub fn make(caller: &Caller) -> Fault {
    let places = Places::of(&caller.environment);
    let fault = match reach(&places, &caller.environment, &caller.signals) {
        Ok(mut connection) => {
            let fault = converse(caller, &mut connection);
            connection.send_courtesy(&Message::Done {
                fell_back: Some(fault.name.to_owned()),
            });
            fault
        }
        Err(fault) => fault,
    };
    if fault.name == "silence" {
        places.remember_failure();
    }
    fault
}

fn converse(caller: &Caller, connection: &mut Connection) -> Fault {
    match try_converse(caller, connection) {
        Ok(fault) | Err(fault) => fault,
    }
}

/// Both results are faults: `Ok` says that a final message could not be followed.
fn try_converse(caller: &Caller, connection: &mut Connection) -> Result<Fault, Fault> {
    connection.send(&Message::Call(caller.message()?), &caller.signals)?;
    loop {
        let mut message = match connection.next_message(&caller.signals)? {
            Event::Message(message) => *message,
            Event::End(signal) => caller.signals.die_of(signal),
            Event::Child | Event::Heard | Event::Deadline => continue,
        };
        if let Message::Run(run) = &message {
            match follow_run(run, caller, connection)? {
                RunEnd::Ran(ran) => {
                    connection.send(&Message::Ran(ran), &caller.signals)?;
                    continue;
                }
                RunEnd::Overtaken(last) => message = last,
            }
        }
        return match message {
            Message::Wait(doing) => {
                tell(doing.as_deref());
                continue;
            }
            Message::Outputs(outputs) => Ok(follow_outputs(&outputs, caller, connection)),
            Message::Exec(exec) => Ok(follow_exec(&exec, caller)),
            Message::Refuse {
                protocol_version,
                reason,
            } => Err(Fault::new(
                "refused",
                format!("version {protocol_version}: {}", display(reason.as_bytes())),
            )),
            _ => Err(Fault::new("protocol", "a message out of place")),
        };
    }
}

enum RunEnd {
    Ran(Ran),
    /// A final message came first; the child is dead.
    Overtaken(Message),
}

fn follow_run(run: &Run, caller: &Caller, connection: &mut Connection) -> Result<RunEnd, Fault> {
    let ran = |(outcome, usage): (Outcome, Usage)| {
        RunEnd::Ran(Ran {
            id: run.id,
            outcome,
            usage,
        })
    };
    let mut child = match Child::start(run, &caller.signals) {
        Ok(child) => child,
        Err(outcome) => return Ok(ran((outcome, Usage::default()))),
    };
    let deadline = run
        .time_limit_ms
        .map(|ms| Instant::now() + Duration::from_millis(u64::from(ms)));
    loop {
        let event = connection
            .next_event(&caller.signals, deadline, child.terminal())
            .inspect_err(|_| {
                child.kill();
            })?;
        match event {
            Event::Child => {
                if let Some(end) = child.try_end(false) {
                    return Ok(ran(end));
                }
            }
            Event::Deadline => {
                let usage = child.kill().map_or_else(Usage::default, |end| end.1);
                return Ok(ran((
                    Outcome::Failed {
                        failure: RunFailure::TimeLimit,
                        errno: 0,
                    },
                    usage,
                )));
            }
            Event::End(signal) => {
                connection.close();
                child.end_by(signal, CHILD_GRACE);
                caller.signals.die_of(signal);
            }
            Event::Heard => child.listen(),
            Event::Message(message) if matches!(*message, Message::Wait(_)) => {}
            Event::Message(message) => {
                child.kill();
                return match *message {
                    Message::Outputs(_) | Message::Exec(_) | Message::Refuse { .. } => {
                        Ok(RunEnd::Overtaken(*message))
                    }
                    _ => Err(Fault::new(
                        "protocol",
                        "a message out of place during a run",
                    )),
                };
            }
        }
    }
}

/// Says what takes so long, which the daemon says to callers at terminals alone.
fn tell(doing: Option<&str>) {
    if let Some(doing) = doing
        && sys::is_terminal(2)
    {
        warn(doing);
    }
}

fn standard_descriptor(fd: i32) -> BorrowedFd<'static> {
    // SAFETY: descriptors 0 to 2 are held open from the start to the end of the process.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Ends the process with the compile's exit code, unless a file could not be written.
fn follow_outputs(outputs: &Outputs, caller: &Caller, connection: &Connection) -> Fault {
    let signals = &caller.signals;
    let streams = StreamSource::open(outputs.stdout.as_ref())
        .and_then(|stdout| Ok([stdout, StreamSource::open(outputs.stderr.as_ref())?]));
    let streams = match streams {
        Ok(streams) => streams,
        Err(fault) => return fault,
    };
    // The real compiler says it in its order; where none may run, the order is what is lost.
    if streams.iter().all(|stream| !stream.is_empty())
        && outputs::streams_are_one()
        && fallback::may_run_compiler(caller)
    {
        return Fault::new("one-stream", "the order of its words is not known");
    }
    let files: Vec<_> = outputs.files.iter().map(outputs::Output::from).collect();
    let (pending, unblock) = (|| signals.pending_end(), || signals.unblock());
    match outputs::write_files(&files, &outputs.removals, pending, unblock) {
        Ok(None) => {}
        Ok(Some(signal)) => signals.die_of(signal),
        Err(fault) => return fault,
    }
    connection.send_courtesy(&Message::Done { fell_back: None });
    signals.unblock();
    for (stream, fd) in streams.iter().zip(1..) {
        if let Err(error) = stream.write_to(standard_descriptor(fd))
            && let Some(fault) = outputs::unsaid(&error, caller)
        {
            return fault;
        }
    }
    sys::exit(i32::try_from(outputs.exit_code).unwrap_or(1))
}

/// Becomes the program; returns only what kept us from it.
fn follow_exec(exec: &Exec, caller: &Caller) -> Fault {
    let warning = exec.warning.as_deref();
    let Some(program) = &exec.program else {
        let target = HostTarget {
            argv: exec.argv.as_deref(),
            environment: exec.environment.as_deref(),
            folder: exec.cwd.as_deref(),
            warning,
        };
        return become_host_compiler(caller, &target);
    };
    let target = Target {
        program,
        argv: exec.argv.as_deref().unwrap_or(&caller.argv),
        environment: exec
            .environment
            .as_deref()
            .unwrap_or(&caller.environment.entries),
        folder: exec.cwd.as_deref(),
        namespace: exec.namespace.as_ref(),
        warning,
    };
    become_program(&target, caller)
}
