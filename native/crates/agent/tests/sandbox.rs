//! The agent outside a VM: real compiles, and programs that try what they must not.
#![cfg(feature = "test-harness")]
#![allow(clippy::unwrap_used, clippy::expect_used)]
mod support;

use hpcc_agent::proto::ExecutionErrorCode as Code;
use support::{Harness, Job};

const SOURCE: &[u8] = b"#include \"part.h\"\nint main(void) { return PART; }\n";

fn compile() -> Job {
    Job::new(&["/usr/bin/gcc", "-O2", "-g", "-c", "a.c", "-o", "/hpcc/out/a.o"])
        .input("/hpcc/project/a.c", SOURCE)
        .input("/hpcc/project/part.h", b"#define PART 3\n")
        .output("/hpcc/out/a.o")
}

#[tokio::test(flavor = "current_thread")]
async fn compiles_with_a_real_gcc() {
    let harness = Harness::start();
    let mut session = harness.session().await;
    assert_eq!(session.ready.nonce, [7; 32].as_slice());
    assert_eq!(session.ready.protocol_version, 1);
    let first = session.run(compile()).await.ok();
    assert_eq!(&first.stream(2)[..4], b"\x7fELF");
    assert!(first.exited().outputs[0].present && !first.exited().outputs[0].executable);
    assert!(first.exited().wall_us > 0 && first.exited().cpu_us > 0 && first.exited().memory_peak_bytes > 0);
    let second = session.run(compile()).await.ok();
    assert_eq!(first.stream(2), second.stream(2));
    let failing = session.run(compile().edit(|e| e.argv.push(support::bytes("-DPART=x")))).await;
    assert_eq!(failing.exited().exit_code, 0, "{}", failing.stderr());
    assert!(failing.stderr().contains("\"PART\" redefined"), "{}", failing.stderr());
}
