//! Stands between one guest and the worker: speaks HTTP/2 to the guest's agent and plain length-prefixed messages to the
//! worker, so that no byte of a guest meets HTTP/2 where tenants' keys and sources are. It has three descriptors and may do
//! nothing but read and write them: whoever takes it over has this guest's stream, which he had before, and no more.
//!
//! Descriptor 0: requests of the worker in gRPC's own framing (a flag, four bytes of length, the message); its end ends
//! this process. Descriptor 1: responses, framed likewise, then one last frame with flag 0x80 that says how it ended.
//! Descriptor 3: the bytes of the dialled connection.
mod confine;
mod relay;

use std::os::fd::{FromRawFd, RawFd};
use std::os::unix::net::UnixStream as StdStream;
use std::process::exit;

use tokio::net::UnixStream;

/// Where the worker has placed the guest's connection.
const GUEST_FD: RawFd = 3;

fn main() {
    // SAFETY: numbers only; nothing in this process has opened a descriptor yet.
    unsafe { libc::close_range(GUEST_FD as u32 + 1, u32::MAX, 0) };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = runtime.and_then(|runtime| {
        runtime.block_on(async {
            let [requests, responses, guest] = [take(0)?, take(1)?, take(GUEST_FD)?];
            confine::confine()?;
            relay::run(requests, responses, guest).await
        })
    });
    // The worker sees the end of descriptor 1, with or without a last frame. Nothing is written elsewhere.
    exit(i32::from(outcome.is_err()))
}

/// Takes a socket that the worker has placed.
fn take(fd: RawFd) -> std::io::Result<UnixStream> {
    // SAFETY: called once for each of the numbers that the worker fills; a number that is not open fails in the next call.
    let socket = unsafe { StdStream::from_raw_fd(fd) };
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}
