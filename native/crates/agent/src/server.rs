//! The gRPC service on whatever connections the listener lets in.
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use crate::limits;
use crate::listener::Connection;
use crate::proto::agent_service_server::{AgentService, AgentServiceServer};
use crate::proto::{SessionRequest, SessionResponse};
use crate::session::{self, Agent};

struct Service {
    agent: Arc<Agent>,
    gate: Arc<Semaphore>,
}

#[tonic::async_trait]
impl AgentService for Service {
    type SessionStream = ReceiverStream<Result<SessionResponse, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let permit = self.gate.clone().try_acquire_owned();
        let permit = permit.map_err(|_| Status::resource_exhausted("another session is open"))?;
        let (out, responses) = mpsc::channel(limits::OUTPUT_QUEUE_MESSAGES);
        tokio::spawn(session::run(
            self.agent.clone(),
            request.into_inner(),
            out,
            permit,
        ));
        Ok(Response::new(ReceiverStream::new(responses)))
    }
}

/// Serves connections until there are no more.
pub async fn serve(
    agent: Agent,
    connections: impl tokio_stream::Stream<Item = std::io::Result<Connection>>,
) -> Result<(), tonic::transport::Error> {
    let service = Service {
        agent: Arc::new(agent),
        gate: Arc::new(Semaphore::new(1)),
    };
    let service =
        AgentServiceServer::new(service).max_decoding_message_size(limits::MESSAGE_BYTES_MAX);
    Server::builder()
        .accept_http1(false)
        .max_concurrent_streams(limits::STREAMS_MAX)
        .initial_stream_window_size(limits::WINDOW_BYTES)
        .initial_connection_window_size(limits::WINDOW_BYTES)
        .http2_max_header_list_size(limits::HEADER_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(limits::STREAMS_MAX as usize))
        .http2_keepalive_interval(Some(limits::KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(limits::KEEPALIVE_TIMEOUT))
        .serve_with_incoming(service, connections)
        .await
}
