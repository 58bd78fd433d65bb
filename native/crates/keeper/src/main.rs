//! `hpcc-keeper`: the small root process beside a worker. It alone runs Firecracker's jailer, cgroups and mounts, through a closed
//! set of requests (docs/specs/keeper.md). It reads no byte of a guest, has no network, and everything that it made is gone when
//! it, or the worker, is.
mod cgroup;
mod digest;
mod fault;
mod files;
mod folder;
mod guard;
mod host;
mod jail;
mod log;
mod machines;
mod message;
mod netns;
mod options;
mod place;
mod programs;
mod releases;
mod service;
mod snapshots;
mod sys;
mod uids;
mod user;

use std::io::Write;

const USAGE_ERROR: i32 = 2;

fn main() {
    sys::close_inherited();
    // Takes descriptor 3, so that nothing that matters in a child of a fork has it when the worker's socket is put there.
    let _reserved = std::fs::File::open("/dev/null");
    std::process::exit(match options::parse(std::env::args_os().skip(1)) {
        Ok(Some(options)) => match guard::run(&options) {
            Ok(code) => code,
            Err(error) => complain(&error, 1),
        },
        Ok(None) => say(options::USAGE),
        Err(options::Error::Version) => say(&format!("{}\n", options::Error::Version)),
        Err(error) => complain(&error, USAGE_ERROR),
    });
}

fn say(text: &str) -> i32 {
    let _ = std::io::stdout().write_all(text.as_bytes());
    0
}

fn complain(error: &dyn std::error::Error, code: i32) -> i32 {
    let _ = writeln!(std::io::stderr(), "hpcc-keeper: {error}");
    code
}
