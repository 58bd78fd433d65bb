//! Children of a RUN: prepared before the fork, started, watched by their pid, ended with their descendants.

use crate::namespace::Namespace;
use crate::signals::Signals;
use crate::sys::{self, StringTable};
use hpcc_frames::{Outcome, Run, RunFailure, Stream, Usage};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

const DESCENDANTS_MAX: usize = 4096;
/// What it may take until all descendants have stopped: one that the machine gives no time is not waited for longer.
const STOP_TIME_MAX: Duration = Duration::from_millis(500);
/// Read of a terminal at once.
const TERMINAL_BYTES: usize = 16 * 1024;
const CAPTURE_MODE: libc::mode_t = 0o600;

/// A program that runs as our child.
pub struct Child {
    pid: libc::pid_t,
    started: Instant,
    failure_pipe: OwnedFd,
    terminal: Option<Terminal>,
}

/// A terminal that the child speaks to. Its program's end stays open here, so that it does not hang up before the child has ended.
struct Terminal {
    keeper: OwnedFd,
    _program: OwnedFd,
    capture: OwnedFd,
    failure: Option<io::Error>,
}

struct Prepared {
    program: CString,
    argv: StringTable,
    environment: StringTable,
    folder: CString,
    namespace: Option<Namespace>,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    terminal: Option<Terminal>,
}

fn failed(failure: RunFailure, error: &io::Error) -> Outcome {
    let errno = u32::try_from(error.raw_os_error().unwrap_or(0)).unwrap_or(0);
    Outcome::Failed { failure, errno }
}

fn open_stream(stream: &Stream) -> io::Result<Option<OwnedFd>> {
    match stream {
        Stream::Inherit => Ok(None),
        Stream::Discard => sys::open(b"/dev/null", libc::O_WRONLY, 0).map(Some),
        Stream::File(path) | Stream::Terminal(path) => sys::open(
            path,
            libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW,
            CAPTURE_MODE,
        )
        .map(Some),
    }
}

/// Standard error, and the terminal that it is.
fn open_stderr(stream: &Stream) -> io::Result<(Option<OwnedFd>, Option<Terminal>)> {
    let opened = open_stream(stream)?;
    let (Stream::Terminal(_), Some(capture)) = (stream, &opened) else {
        return Ok((opened, None));
    };
    let (keeper, program) = sys::open_terminal()?;
    let terminal = Terminal {
        keeper,
        _program: program.try_clone()?,
        capture: capture.try_clone()?,
        failure: None,
    };
    Ok((Some(program), Some(terminal)))
}

impl Terminal {
    /// Takes what was said so far.
    fn drain(&mut self) {
        let mut buffer = [0; TERMINAL_BYTES];
        loop {
            match sys::read(self.keeper.as_fd(), &mut buffer) {
                Ok(0) => return,
                Ok(count) if self.failure.is_none() => {
                    self.failure = sys::write_all(self.capture.as_fd(), &buffer[..count]).err();
                }
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(_) => return,
            }
        }
    }
}

fn prepare(run: &Run) -> Result<Prepared, Outcome> {
    let spawn_failure = |error: io::Error| failed(RunFailure::Spawn, &error);
    let capture_failure = |error: io::Error| failed(RunFailure::Capture, &error);
    let namespace = run.namespace.as_ref().map(Namespace::open).transpose();
    let (stderr, terminal) = open_stderr(&run.stderr).map_err(capture_failure)?;
    Ok(Prepared {
        program: sys::c_string(&run.program).map_err(spawn_failure)?,
        argv: StringTable::new(&run.argv).map_err(spawn_failure)?,
        environment: StringTable::new(&run.environment).map_err(spawn_failure)?,
        folder: sys::c_string(&run.cwd).map_err(spawn_failure)?,
        namespace: namespace.map_err(|error| failed(RunFailure::Namespace, &error))?,
        stdin: if run.stdin_null {
            Some(sys::open(b"/dev/null", libc::O_RDONLY, 0).map_err(capture_failure)?)
        } else {
            None
        },
        stdout: open_stream(&run.stdout).map_err(capture_failure)?,
        stderr,
        terminal,
    })
}

/// A pipe that exec closes: what a child writes to it says why it never became the program.
fn failure_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: two descriptors are what the call fills in.
    sys::check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) })?;
    // SAFETY: the kernel just gave us both.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

impl Child {
    /// Starts the program of a RUN.
    pub fn start(run: &Run, signals: &Signals) -> Result<Child, Outcome> {
        let mut prepared = prepare(run)?;
        let (failure_pipe, failure_end) =
            failure_pipe().map_err(|error| failed(RunFailure::Spawn, &error))?;
        let parent = sys::process_id();
        let started = Instant::now();
        // SAFETY: the process has one thread, so the child may use all of its memory.
        let pid = sys::check(unsafe { libc::fork() })
            .map_err(|error| failed(RunFailure::Spawn, &error))?;
        if pid == 0 {
            let (failure, error) = become_program(&prepared, parent, signals);
            let errno = error.raw_os_error().unwrap_or(0);
            let mut record = [0u8; 5];
            record[0] = failure as u8;
            record[1..].copy_from_slice(&errno.to_ne_bytes());
            let _ = sys::write(failure_end.as_fd(), &record);
            sys::exit(127);
        }
        Ok(Child {
            pid,
            started,
            failure_pipe,
            terminal: prepared.terminal.take(),
        })
    }

    /// The terminal that the child speaks to: to be listened to, or what it says has no room.
    pub fn terminal(&self) -> Option<BorrowedFd<'_>> {
        self.terminal
            .as_ref()
            .map(|terminal| terminal.keeper.as_fd())
    }

    /// Takes what the child said to its terminal.
    pub fn listen(&mut self) {
        if let Some(terminal) = &mut self.terminal {
            terminal.drain();
        }
    }

    /// The end of the child, if it has ended. Waits for it when `block` is set.
    pub fn try_end(&mut self, block: bool) -> Option<(Outcome, Usage)> {
        let mut status = 0;
        // SAFETY: all zeroes is a valid `rusage`.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        let flags = if block { 0 } else { libc::WNOHANG };
        loop {
            // SAFETY: both pointers live over the call.
            match sys::check(unsafe {
                libc::wait4(self.pid, &raw mut status, flags, &raw mut usage)
            }) {
                Ok(0) => return None,
                Ok(_) => break,
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(error) => return Some((failed(RunFailure::Spawn, &error), self.usage(&usage))),
            }
        }
        self.listen();
        let outcome = match self
            .terminal
            .as_ref()
            .and_then(|terminal| terminal.failure.as_ref())
        {
            Some(error) => failed(RunFailure::Capture, error),
            None => self.outcome(status),
        };
        Some((outcome, self.usage(&usage)))
    }

    fn outcome(&self, status: i32) -> Outcome {
        let mut record = [0u8; 5];
        if let Ok(5) = sys::read(self.failure_pipe.as_fd(), &mut record) {
            let errno = i32::from_ne_bytes([record[1], record[2], record[3], record[4]]);
            let failure = match record[0] {
                1 => RunFailure::Namespace,
                2 => RunFailure::Program,
                3 => RunFailure::Cwd,
                4 => RunFailure::Capture,
                _ => RunFailure::Spawn,
            };
            return failed(failure, &io::Error::from_raw_os_error(errno));
        }
        if libc::WIFSIGNALED(status) {
            return Outcome::Signaled(u32::try_from(libc::WTERMSIG(status)).unwrap_or(0));
        }
        Outcome::Exited(u32::try_from(libc::WEXITSTATUS(status)).unwrap_or(0))
    }

    fn usage(&self, usage: &libc::rusage) -> Usage {
        let microseconds = |time: libc::timeval| {
            u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000
                + u64::try_from(time.tv_usec).unwrap_or(0)
        };
        Usage {
            user_us: microseconds(usage.ru_utime),
            system_us: microseconds(usage.ru_stime),
            max_rss_kib: u64::try_from(usage.ru_maxrss).unwrap_or(0),
            wall_us: u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX),
        }
    }

    /// Signals the child and everything below it: a compiler driver that is killed leaves its own children running.
    pub fn signal(&self, signal: i32) {
        let all = stop_tree(self.pid);
        for signal in [signal, libc::SIGCONT] {
            for pid in &all {
                // SAFETY: no pointers.
                unsafe { libc::kill(*pid, signal) };
            }
        }
    }

    /// Kills the child with its descendants and takes its status.
    pub fn kill(&mut self) -> Option<(Outcome, Usage)> {
        self.signal(libc::SIGKILL);
        self.try_end(true)
    }

    /// Passes a signal on, waits a little for the child's own tidying up, then kills.
    pub fn end_by(&mut self, signal: i32, grace: Duration) {
        self.signal(signal);
        let deadline = Instant::now() + grace;
        while self.try_end(false).is_none() {
            if Instant::now() >= deadline {
                self.kill();
                return;
            }
            let _ = sys::poll(&mut [], Some(Duration::from_millis(1)));
        }
    }
}

/// The child's own part, after the fork. Returns only when it failed.
fn become_program(prepared: &Prepared, parent: u32, signals: &Signals) -> (RunFailure, io::Error) {
    for (stream, fd) in [
        (&prepared.stdin, 0),
        (&prepared.stdout, 1),
        (&prepared.stderr, 2),
    ] {
        if let Some(stream) = stream {
            // SAFETY: no pointers. The copy survives exec.
            if let Err(error) = sys::check(unsafe { libc::dup2(stream.as_raw_fd(), fd) }) {
                return (RunFailure::Capture, error);
            }
        }
    }
    if let Some(namespace) = &prepared.namespace
        && let Err(error) = namespace.enter()
    {
        return (RunFailure::Namespace, error);
    }
    // After setns: new credentials clear it.
    // SAFETY: no pointers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) };
    // SAFETY: no pointers.
    if u32::try_from(unsafe { libc::getppid() }).ok() != Some(parent) {
        return (RunFailure::Spawn, io::Error::from_raw_os_error(libc::ESRCH));
    }
    if let Err(error) = sys::change_folder(prepared.folder.to_bytes()) {
        return (RunFailure::Cwd, error);
    }
    signals.restore();
    (
        RunFailure::Program,
        sys::exec(&prepared.program, &prepared.argv, &prepared.environment),
    )
}

/// Stops a process and all below it, and lists them: who has stopped starts nobody, so what a listing shows after that is all
/// there is. A fork that had begun when the signal came still ends, which is why it waits.
fn stop_tree(pid: libc::pid_t) -> Vec<libc::pid_t> {
    let mut stopped = Vec::new();
    let deadline = Instant::now() + STOP_TIME_MAX;
    loop {
        let all = descendants(pid);
        let new: Vec<_> = all.iter().filter(|pid| !stopped.contains(*pid)).collect();
        if new.is_empty() || all.len() > DESCENDANTS_MAX {
            return all;
        }
        for pid in &new {
            // SAFETY: no pointers.
            unsafe { libc::kill(**pid, libc::SIGSTOP) };
        }
        while new.iter().any(|pid| runs(**pid)) && Instant::now() < deadline {
            let _ = sys::poll(&mut [], Some(Duration::from_millis(1)));
        }
        stopped.extend(new);
    }
}

/// Whether a process may still fork. One in vfork sleeps without end while its child is stopped, and starts nobody meanwhile.
fn runs(pid: libc::pid_t) -> bool {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    let name_end = stat.iter().rposition(|&byte| byte == b')');
    let state = name_end.and_then(|at| stat.get(at + 2));
    matches!(state, Some(b'R' | b'S'))
}

/// A process and all below it, from /proc; the process alone where the kernel does not list children.
fn descendants(pid: libc::pid_t) -> Vec<libc::pid_t> {
    let mut all = vec![pid];
    let mut at = 0;
    while let Some(&parent) = all.get(at) {
        at += 1;
        let Ok(children) =
            std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))
        else {
            continue;
        };
        all.extend(
            children
                .split_ascii_whitespace()
                .filter_map(|child| child.parse::<libc::pid_t>().ok()),
        );
        if all.len() > DESCENDANTS_MAX {
            break;
        }
    }
    all
}
