//! The agent, PID 1 of a microVM: it carries out compiles that a worker sends over one vsock stream, each in a fresh
//! sandbox. It knows nothing of tenants, keys or stores. See docs/specs/agent.md.
//!
//! The process has one thread and must keep it that way: a sandbox starts as a fork of it that allocates.

pub mod boot;
pub mod cgroup;
pub mod cmdline;
pub mod execution;
pub mod fatal;
pub mod limits;
pub mod listener;
pub mod outputs;
pub mod path;
pub mod reaper;
pub mod request;
pub mod sandbox;
pub mod server;
pub mod session;
pub mod stdio;
pub mod sys;

/// Generated from proto/hpcc/agent/v1/agent.proto.
#[allow(clippy::all)]
pub mod proto {
    tonic::include_proto!("hpcc.agent.v1");
}
