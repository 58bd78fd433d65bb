//! What the end of a sandbox means: a result, or the limit or fault behind it.
use rustix::process::Signal;
use tonic::codegen::Bytes;

use super::orders::Failure;
use super::watch::Story;
use crate::cgroup::Usage;
use crate::outputs::{self, Output};
use crate::proto::{ExecutionErrorCode as Code, Exited, OutputState};
use crate::request::{Job, JobLimits};
use crate::sandbox::Sandbox;
use crate::sandbox::record::{Blame, Fault};

/// An execution whose processes are gone and whose outputs wait to be sent.
pub struct Finished {
    pub exited: Exited,
    pub stdio: [Bytes; 2],
    pub outputs: Vec<Option<Output>>,
    /// Keeps the captured bytes in the budget.
    pub _sandbox: Sandbox,
}

/// What the end of the first process means.
pub fn finish(
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
}
