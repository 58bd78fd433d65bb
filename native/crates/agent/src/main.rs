//! The agent's program: PID 1 of a guest. With the feature `test-harness` it also runs outside, for tests.
use std::process::exit;

use hpcc_agent::boot::Clockwork;
use hpcc_agent::listener::Listener;
use hpcc_agent::sandbox::Host;
use hpcc_agent::session::Agent;
use hpcc_agent::{boot, fatal, server, sys};

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
    let (host, cmdline) = match boot::guest() {
        Ok(booted) => booted,
        Err(error) => fatal::die(error.0),
    };
    if !host.groups.memory || !host.groups.pids {
        fatal::die("the kernel cannot limit memory and processes");
    }
    run(host, Clockwork::Guest, || Listener::vsock(cmdline.port));
}

fn run(host: Host, clockwork: Clockwork, listen: impl FnOnce() -> std::io::Result<Listener>) -> ! {
    let signals = sys::child_signal_fd().unwrap_or_else(|error| fatal::die(error));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.unwrap_or_else(|error| fatal::die(error));
    let agent = Agent::new(host, clockwork);
    let host = agent.host.clone();
    runtime.block_on(async {
        let connections = match listen() {
            Ok(listener) => listener.connections(),
            Err(error) => fatal::die(format_args!("listening: {error}")),
        };
        fatal::say("listening");
        tokio::select! {
            error = host.reaper.run(signals) => fatal::die(format_args!("waiting for children: {error}")),
            served = server::serve(agent, connections) => match served {
                Ok(()) => fatal::die("the listener ended"),
                Err(error) => fatal::die(format_args!("serving: {error}")),
            },
        }
    })
}

/// `hpcc-agent <socket> <toolchain> <control group>`.
#[cfg(feature = "test-harness")]
fn harness() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [socket, toolchain, group] = arguments.as_slice() else {
        fatal::say("usage: hpcc-agent SOCKET TOOLCHAIN CONTROL-GROUP");
        exit(64);
    };
    let socket =
        std::os::unix::net::UnixListener::bind(socket).unwrap_or_else(|error| fatal::die(error));
    let host = match boot::harness::build(std::path::Path::new(toolchain), group) {
        Ok(host) => host,
        Err(error) => fatal::die(error.0),
    };
    fatal::say(format_args!(
        "memory={} pids={}",
        host.groups.memory, host.groups.pids
    ));
    run(host, Clockwork::Untouched, || {
        socket.set_nonblocking(true)?;
        Ok(Listener::Unix(tokio::net::UnixListener::from_std(socket)?))
    });
}
