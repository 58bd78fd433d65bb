//! Sockets of the family that reaches the host. Nothing but PID 1 opens one, and a sandbox's filter refuses them.
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::check;

const SOCKADDR_BYTES: libc::socklen_t = size_of::<libc::sockaddr_vm>() as libc::socklen_t;

/// Listens on a port, without blocking; at most `backlog` connections wait to be accepted.
pub fn listen(port: u32, backlog: i32) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: numbers only.
    let fd = check(unsafe { libc::socket(libc::AF_VSOCK, flags, 0) }.into())?;
    // SAFETY: a new descriptor that nothing else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
    let address = libc::sockaddr_vm {
        svm_family: libc::AF_VSOCK as libc::sa_family_t,
        svm_reserved1: 0,
        svm_port: port,
        svm_cid: libc::VMADDR_CID_ANY,
        svm_zero: [0; 4],
    };
    let bound = {
        let address = (&raw const address).cast();
        // SAFETY: the kernel reads a sockaddr_vm of the size given.
        unsafe { libc::bind(socket.as_raw_fd(), address, SOCKADDR_BYTES) }
    };
    check(bound.into())?;
    // SAFETY: numbers only.
    check(unsafe { libc::listen(socket.as_raw_fd(), backlog) }.into())?;
    Ok(socket)
}

/// Accepts a connection, which does not block either; gives it with its peer's context id.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, u32)> {
    let mut peer = libc::sockaddr_vm {
        svm_family: 0,
        svm_reserved1: 0,
        svm_port: 0,
        svm_cid: libc::VMADDR_CID_ANY,
        svm_zero: [0; 4],
    };
    let mut length = SOCKADDR_BYTES;
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let accepted = {
        let (address, length) = ((&raw mut peer).cast(), &raw mut length);
        // SAFETY: the kernel writes at most `length` bytes into `peer`, whose size that is.
        unsafe { libc::accept4(listener.as_raw_fd(), address, length, flags) }
    };
    let fd = check(accepted.into())?;
    // SAFETY: a new descriptor that nothing else owns.
    Ok((unsafe { OwnedFd::from_raw_fd(fd as RawFd) }, peer.svm_cid))
}
