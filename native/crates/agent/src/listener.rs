//! Where PID 1 listens. It takes connections of the host alone and never reads a byte of them.
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::limits;
use crate::sys::vsock;

/// A listening socket that does not block.
pub enum Listener {
    Vsock(OwnedFd),
    #[cfg(feature = "test-harness")]
    Unix(std::os::unix::net::UnixListener),
}

impl Listener {
    /// Listens on a vsock port.
    pub fn vsock(port: u32) -> io::Result<Listener> {
        Ok(Listener::Vsock(vsock::listen(port, limits::BACKLOG)?))
    }

    /// Listens on a Unix socket, which stands for the host.
    #[cfg(feature = "test-harness")]
    pub fn unix(socket: std::os::unix::net::UnixListener) -> io::Result<Listener> {
        socket.set_nonblocking(true)?;
        Ok(Listener::Unix(socket))
    }

    /// The next connection of the host; None when none waits. Connections of other peers are closed.
    pub fn accept(&self) -> io::Result<Option<OwnedFd>> {
        loop {
            let accepted = match self {
                Listener::Vsock(socket) => {
                    vsock::accept(socket.as_fd()).map(|(connection, peer)| {
                        (peer == libc::VMADDR_CID_HOST).then_some(connection)
                    })
                }
                #[cfg(feature = "test-harness")]
                Listener::Unix(socket) => socket.accept().and_then(|(connection, _)| {
                    connection.set_nonblocking(true)?;
                    Ok(Some(connection.into()))
                }),
            };
            match accepted {
                Ok(Some(connection)) => return Ok(Some(connection)),
                Ok(None) => {}
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(None),
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    _ => return Err(error),
                },
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Vsock(socket) => socket.as_fd(),
            #[cfg(feature = "test-harness")]
            Listener::Unix(socket) => socket.as_fd(),
        }
    }
}
