//! Generates the agent's contract from `proto/` without a protoc binary.
use std::error::Error;

const PROTO_ROOT: &str = "../../../proto";
const AGENT_PROTO: &str = "hpcc/agent/v1/agent.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={PROTO_ROOT}/{AGENT_PROTO}");
    let descriptors = protox::compile([AGENT_PROTO], [PROTO_ROOT])?;
    tonic_prost_build::configure()
        .bytes(".hpcc.agent.v1")
        .build_transport(false)
        .compile_fds(descriptors)?;
    Ok(())
}
