//! Generates the agent's contract from `proto/` without a protoc binary.
use std::error::Error;

const PROTO_ROOT: &str = "../../../proto";
const AGENT_PROTO: &str = "hpcc/agent/v1/agent.proto";

/// Fields that share the buffer they came in. Not the entropy, whose buffer is erased after use.
const BYTES: [&str; 7] = [
    ".hpcc.agent.v1.Start.nonce",
    ".hpcc.agent.v1.Ready",
    ".hpcc.agent.v1.Execute",
    ".hpcc.agent.v1.InputFile",
    ".hpcc.agent.v1.InputLink",
    ".hpcc.agent.v1.InputChunk",
    ".hpcc.agent.v1.OutputChunk",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={PROTO_ROOT}/{AGENT_PROTO}");
    let descriptors = protox::compile([AGENT_PROTO], [PROTO_ROOT])?;
    let builder = tonic_prost_build::configure();
    BYTES
        .iter()
        .fold(builder, |builder, path| builder.bytes(path))
        .build_transport(false)
        .compile_fds(descriptors)?;
    Ok(())
}
