//! The agent, PID 1 of a microVM, and the session process that it forks for each connection, which carries out compiles
//! that a worker sends over one vsock stream, each in a fresh sandbox. It knows nothing of tenants, keys or stores. See
//! docs/specs/agent.md.
//!
//! Both processes have one thread and must keep it that way: session process and sandbox start as forks that allocate.

pub mod boot;
pub mod cgroup;
pub mod clearing;
pub mod cmdline;
pub mod connection;
pub mod execution;
pub mod fatal;
pub mod limits;
pub mod listener;
pub mod outputs;
pub mod path;
pub mod pid1;
pub mod reaper;
pub mod request;
pub mod sandbox;
pub mod server;
pub mod session;
pub mod session_process;
pub mod stdio;
pub mod sys;
pub mod tree;

/// Generated from proto/hpcc/agent/v1/agent.proto.
#[allow(clippy::all)]
pub mod proto {
    tonic::include_proto!("hpcc.agent.v1");
}
