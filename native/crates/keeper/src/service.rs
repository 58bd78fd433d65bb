//! The keeper's side of its one connection: requests of the worker, each carried out in a thread of its own.
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use serde::Serialize;

use crate::fault::{Code, Fault};
use crate::host::Host;
use crate::log;
use crate::machines::{Machines, Means};
use crate::message::{self, LINE_BYTES_MAX, PROTOCOL_VERSION, What};
use crate::programs::Program;

const REQUESTS_MAX: usize = 64;
const WRITE_DEADLINE: Duration = Duration::from_secs(5);
/// All that is to go must be gone in five seconds; the guard needs some of them.
const END_DEADLINE: Duration = Duration::from_millis(2000);

/// Lines to the worker. When they cannot be written in time the connection is closed, and everything ends.
struct Outbox(Mutex<UnixStream>);

impl Outbox {
    fn send(&self, line: &[u8]) {
        let mut stream = self.0.lock().unwrap_or_else(|poison| poison.into_inner());
        if stream.write_all(line).is_err() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

#[derive(Serialize)]
struct ProgramAnswer<'a> {
    version: &'a str,
    sha256: String,
    known_release: bool,
}

impl<'a> ProgramAnswer<'a> {
    fn of(program: &'a Program) -> ProgramAnswer<'a> {
        ProgramAnswer {
            version: &program.version_text,
            sha256: program.digest.to_string(),
            known_release: program.known_release,
        }
    }
}

/// Why a keeper came to its end.
pub struct Ending {
    pub why: &'static str,
    /// As its worker or its guard wanted it.
    pub orderly: bool,
}

impl Ending {
    fn wanted(why: &'static str) -> Ending {
        Ending { why, orderly: true }
    }

    fn broken(why: &'static str) -> Ending {
        Ending {
            why,
            orderly: false,
        }
    }
}

/// Serves the worker until it or the guard is gone, or it sends what is no request; then ends every machine.
pub fn serve(
    connection: UnixStream,
    lifeline: &OwnedFd,
    means: Means,
    host: &Host,
) -> io::Result<Ending> {
    connection.set_write_timeout(Some(WRITE_DEADLINE))?;
    let outbox = Arc::new(Outbox(Mutex::new(connection.try_clone()?)));
    let events = outbox.clone();
    let machines = Machines::new(
        means,
        Box::new(move |vm, status| events.send(&message::exited(vm, status))),
    );
    let session = Session {
        machines: machines.clone(),
        outbox,
        running: Arc::new(AtomicUsize::new(0)),
        host: host.clone(),
    };
    let why = session.read_all(connection.try_clone()?, lifeline);
    let _ = connection.shutdown(std::net::Shutdown::Both);
    let deadline = Instant::now() + END_DEADLINE;
    machines.end_all(deadline);
    while session.running.load(Ordering::SeqCst) > 0 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
    Ok(why)
}

struct Session {
    machines: Arc<Machines>,
    outbox: Arc<Outbox>,
    running: Arc<AtomicUsize>,
    host: Host,
}

/// Counts a request as running as long as it lives.
struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Session {
    /// Reads lines until the end, which it names.
    fn read_all(&self, mut connection: UnixStream, lifeline: &OwnedFd) -> Ending {
        let mut waiting: Vec<u8> = Vec::new();
        let mut piece = vec![0u8; 16 * 1024];
        loop {
            let mut watched = [
                PollFd::from_borrowed_fd(connection.as_fd(), PollFlags::IN),
                PollFd::new(lifeline, PollFlags::IN),
            ];
            match poll(&mut watched, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Ending::broken("poll failed"),
            }
            let [from_worker, from_guard] = watched.map(|fd| !fd.revents().is_empty());
            if from_guard {
                return Ending::wanted("the guard is gone, or the worker");
            }
            if !from_worker {
                continue;
            }
            let read = match connection.read(&mut piece) {
                Ok(0) => return Ending::wanted("the worker closed its connection"),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Ending::broken("the worker's connection broke"),
            };
            waiting.extend_from_slice(piece.get(..read).unwrap_or_default());
            while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = waiting.drain(..=end).collect();
                let body = line.get(..end).unwrap_or_default();
                if body.len() > LINE_BYTES_MAX {
                    return Ending::broken("the worker sent a line that is too long");
                }
                let Some(request) = message::parse(body) else {
                    return Ending::broken("the worker sent what is no request");
                };
                if !self.begin(request) {
                    return Ending::broken("the worker sent more requests than may run at a time");
                }
            }
            if waiting.len() > LINE_BYTES_MAX {
                return Ending::broken("the worker sent a line that is too long");
            }
        }
    }

    /// Carries a request out in a thread; false when there are too many.
    fn begin(&self, request: message::Request) -> bool {
        if self.running.fetch_add(1, Ordering::SeqCst) >= REQUESTS_MAX {
            self.running.fetch_sub(1, Ordering::SeqCst);
            return false;
        }
        let running = Running(self.running.clone());
        let (machines, outbox, host) = (
            self.machines.clone(),
            self.outbox.clone(),
            self.host.clone(),
        );
        let id = request.id;
        // Requests overtake each other, but none overtakes the name of a machine that an earlier one starts.
        let entered = match &request.what {
            What::Start(start) => match machines.enter(start) {
                Ok(machine) => Some(machine),
                Err(fault) => {
                    self.outbox.send(&message::answer::<()>(id, &Err(fault)));
                    return true;
                }
            },
            _ => None,
        };
        let starting = entered.clone();
        let started = thread::Builder::new()
            .stack_size(512 * 1024)
            .spawn(move || {
                let _running = running;
                outbox.send(&match (request.what, starting) {
                    (What::Start(start), Some(machine)) => {
                        message::answer(id, &machines.start(&machine, &start))
                    }
                    (what, _) => carry_out(&machines, &host, id, what),
                });
            });
        if started.is_err() {
            if let Some(machine) = entered {
                self.machines.leave(&machine);
            }
            self.outbox.send(&message::answer::<()>(
                id,
                &Err(Fault::new(Code::Io, "no thread")),
            ));
        }
        true
    }
}

fn carry_out(machines: &Arc<Machines>, host: &Host, id: u64, what: What) -> Vec<u8> {
    let nothing =
        |result: Result<(), Fault>| message::answer(id, &result.map(|()| serde_json::json!({})));
    match what {
        What::Hello(hello) => message::answer(id, &say_hello(machines, host, hello.version)),
        What::Admit(admit) => nothing(
            machines
                .means()
                .files
                .admit(&admit.path, admit.sha256, admit.bytes_max)
                .map_err(Fault::from),
        ),
        What::Start(_) => nothing(Err(Fault::new(Code::Argument, "it was not entered"))),
        What::Expose(expose) => message::answer(
            id,
            &machines
                .expose_vsock(&expose.vm)
                .map(|path| serde_json::json!({ "path": path })),
        ),
        What::Seal(named) => nothing(machines.seal_vsock(&named.vm)),
        What::Reserve(named) => nothing(machines.reserve(&named.vm)),
        What::Snapshot(take) => message::answer(id, &machines.snapshot(&take.vm, take.binding)),
        What::Destroy(named) => nothing(machines.destroy(&named.vm)),
        What::Drop(dropped) => nothing(
            machines
                .means()
                .snapshots
                .drop_snapshot(&dropped.snapshot.0)
                .map_err(Fault::from),
        ),
    }
}

fn say_hello(machines: &Machines, host: &Host, version: u32) -> Result<serde_json::Value, Fault> {
    if version != PROTOCOL_VERSION {
        return Err(Fault::new(
            Code::Argument,
            format!(
                "this keeper speaks version {PROTOCOL_VERSION}; install worker and keeper of one release"
            ),
        ));
    }
    let means = machines.means();
    for (name, program) in [
        ("firecracker", &means.programs.vmm),
        ("jailer", &means.programs.jailer),
    ] {
        if !program.known_release {
            log::warn(
                "keeper.program.unknown",
                &[
                    ("program", name),
                    ("sha256", &program.digest.to_string()),
                    (
                        "why",
                        "unknown build: its seccomp filters cannot be vouched for",
                    ),
                ],
            );
        }
    }
    Ok(serde_json::json!({
        "version": PROTOCOL_VERSION,
        "keeper": means.keeper,
        "vmm": ProgramAnswer::of(&means.programs.vmm),
        "jailer": ProgramAnswer::of(&means.programs.jailer),
        "host": { "cpu_model": host.cpu_model, "microcode": host.microcode, "kernel": host.kernel },
    }))
}
