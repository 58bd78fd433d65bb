//! Lets connections in: only the host's, and only a few.
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_vsock::{VMADDR_CID_ANY, VMADDR_CID_HOST, VsockAddr, VsockListener, VsockStream};
use tonic::transport::server::Connected;

use crate::limits;

/// Pause after a failed accept: the cause, want of memory or descriptors, is not gone at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where the agent listens.
pub enum Listener {
    Vsock(VsockListener),
    #[cfg(feature = "test-harness")]
    Unix(tokio::net::UnixListener),
}

impl Listener {
    /// Listens on a vsock port.
    pub fn vsock(port: u32) -> io::Result<Listener> {
        Ok(Listener::Vsock(VsockListener::bind(VsockAddr::new(
            VMADDR_CID_ANY,
            port,
        ))?))
    }

    async fn accept(&self) -> io::Result<Option<Io>> {
        match self {
            Listener::Vsock(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((peer.cid() == VMADDR_CID_HOST).then_some(Io::Vsock(stream)))
            }
            #[cfg(feature = "test-harness")]
            Listener::Unix(listener) => Ok(Some(Io::Unix(listener.accept().await?.0))),
        }
    }

    /// Accepts for ever; connections beyond the limit and of other peers than the host are closed.
    pub fn connections(self) -> ReceiverStream<io::Result<Connection>> {
        let (sender, receiver) = mpsc::channel(1);
        let places = Arc::new(Semaphore::new(limits::CONNECTIONS_MAX));
        tokio::spawn(async move {
            loop {
                match self.accept().await {
                    Ok(Some(io)) => {
                        let Ok(place) = places.clone().try_acquire_owned() else {
                            continue;
                        };
                        if sender
                            .send(Ok(Connection { io, _place: place }))
                            .await
                            .is_err()
                        {
                            return;
                        }
                    }
                    Ok(None) => {}
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                }
            }
        });
        ReceiverStream::new(receiver)
    }
}

enum Io {
    Vsock(VsockStream),
    #[cfg(feature = "test-harness")]
    Unix(tokio::net::UnixStream),
}

/// A connection that holds one of the few places.
pub struct Connection {
    io: Io,
    _place: OwnedSemaphorePermit,
}

macro_rules! each_io {
    ($self:expr, $stream:ident => $call:expr) => {
        match &mut $self.get_mut().io {
            Io::Vsock($stream) => $call,
            #[cfg(feature = "test-harness")]
            Io::Unix($stream) => $call,
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each_io!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        each_io!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_io!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_io!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}
