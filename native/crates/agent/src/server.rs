//! The gRPC service on the one connection of a session process.
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use crate::connection::Connection;
use crate::limits;
use crate::proto::agent_service_server::{AgentService, AgentServiceServer};
use crate::proto::{SessionRequest, SessionResponse};
use crate::session::{self, Agent};

/// The right to open the stream of this connection.
struct Permit {
    opened: oneshot::Sender<()>,
    ended: oneshot::Sender<()>,
}

struct Service {
    agent: Arc<Agent>,
    permit: Mutex<Option<Permit>>,
}

#[tonic::async_trait]
impl AgentService for Service {
    type SessionStream = ReceiverStream<Result<SessionResponse, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let permit = self
            .permit
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(Permit { opened, ended }) = permit else {
            return Err(Status::resource_exhausted("a connection has one session"));
        };
        let _ = opened.send(());
        let (out, responses) = mpsc::channel(limits::OUTPUT_QUEUE_MESSAGES);
        let session = session::run(self.agent.clone(), request.into_inner(), out);
        tokio::spawn(async move {
            session.await;
            drop(ended);
        });
        Ok(Response::new(ReceiverStream::new(responses)))
    }
}

/// Serves a connection until its session has ended and said so, or it is gone, or no session begins.
pub async fn serve(agent: Agent, connection: OwnedFd) -> Result<(), tonic::transport::Error> {
    let (connection, gone) = match Connection::new(connection) {
        Ok(connection) => connection,
        Err(error) => crate::fatal::die(format_args!("watching the connection: {error}")),
    };
    let (opened, is_opened) = oneshot::channel();
    let (ended, is_ended) = oneshot::channel();
    let service = Service {
        agent: Arc::new(agent),
        permit: Mutex::new(Some(Permit { opened, ended })),
    };
    let service =
        AgentServiceServer::new(service).max_decoding_message_size(limits::MESSAGE_BYTES_MAX);
    let (stop, stopped) = oneshot::channel::<()>();
    // After the one connection, none and no end: at an end the server would stop.
    let incoming =
        tokio_stream::once(std::io::Result::Ok(connection)).chain(tokio_stream::pending());
    let serving = Server::builder()
        .accept_http1(false)
        .max_concurrent_streams(limits::STREAMS_MAX)
        .initial_stream_window_size(limits::WINDOW_BYTES)
        .initial_connection_window_size(limits::WINDOW_BYTES)
        .http2_max_header_list_size(limits::HEADER_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(limits::STREAMS_MAX as usize))
        .http2_keepalive_interval(Some(limits::KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(limits::KEEPALIVE_TIMEOUT))
        .serve_with_incoming_shutdown(service, incoming, async {
            let _ = stopped.await;
        });
    tokio::pin!(serving);
    let session = async {
        if let Ok(Ok(())) = timeout(limits::START_DEADLINE, is_opened).await {
            let _ = is_ended.await;
        }
    };
    tokio::select! {
        served = &mut serving => return served,
        () = session => {}
        _ = gone => return Ok(()),
    }
    drop(stop);
    timeout(limits::FAREWELL_DEADLINE, serving)
        .await
        .unwrap_or(Ok(()))
}
