//! The agent's program: PID 1 of a guest. With the feature `test-harness` it also runs outside, for tests.
use std::process::exit;

use hpcc_agent::boot::{Booted, Clockwork};
use hpcc_agent::listener::Listener;
use hpcc_agent::{boot, fatal, pid1};

fn main() {
    #[cfg(feature = "test-harness")]
    if std::env::args_os().len() > 1 {
        return harness();
    }
    if std::process::id() != 1 {
        fatal::say("this program is the first process of a virtual machine");
        exit(64);
    }
    fatal::set_role(fatal::Role::Guest);
    let (Booted { host, ground }, cmdline) = match boot::guest() {
        Ok(booted) => booted,
        Err(error) => fatal::die(error.0),
    };
    if !host.groups.memory || !host.groups.pids {
        fatal::die("the kernel cannot limit memory and processes");
    }
    let listener = Listener::vsock(cmdline.port)
        .unwrap_or_else(|error| fatal::die(format_args!("listening: {error}")));
    pid1::run(listener, host, Clockwork::Guest, ground)
}

/// `hpcc-agent <socket> <toolchain> <control group>`, in mount and pid namespaces of its own.
#[cfg(feature = "test-harness")]
fn harness() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [socket, toolchain, group] = arguments.as_slice() else {
        fatal::say("usage: hpcc-agent SOCKET TOOLCHAIN CONTROL-GROUP");
        exit(64);
    };
    let listener = std::os::unix::net::UnixListener::bind(socket)
        .and_then(Listener::unix)
        .unwrap_or_else(|error| fatal::die(error));
    let Booted { host, ground } = match boot::harness::build(std::path::Path::new(toolchain), group)
    {
        Ok(booted) => booted,
        Err(error) => fatal::die(error.0),
    };
    fatal::say(format_args!(
        "memory={} pids={}",
        host.groups.memory, host.groups.pids
    ));
    pid1::run(listener, host, Clockwork::Untouched, ground)
}
