//! One gRPC stream of a guest, without its HTTP/2.
// UNTRUSTED: the guest.
use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::client;
use h2::{RecvStream, SendStream};
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, Method, Request, Response, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

const SESSION: &str = "http://agent/hpcc.agent.v1.AgentService/Session";
/// Receive window of the stream and of the connection: what a guest can make this process hold.
const WINDOW_BYTES: u32 = 1024 * 1024;
const HEADER_BYTES_MAX: u32 = 16 * 1024;
/// What is read of the worker at once.
const READ_BYTES: usize = 64 * 1024;
/// Longest text of the last frame.
const TEXT_BYTES_MAX: usize = 256;
/// From the end of the connection, or of the stream, to the end of what this process still has to send.
const FAREWELL: Duration = Duration::from_secs(10);
/// Flag of the last frame.
const LAST: u8 = 0x80;

/// How a stream ended, as the last frame says it.
enum End {
    /// With a status of the agent.
    Status(String),
    /// The connection ended.
    Lost(String),
    /// The guest broke HTTP/2 or gRPC.
    Breach(String),
}

/// Carries the stream to its end.
pub async fn run(requests: UnixStream, responses: UnixStream, guest: UnixStream) -> io::Result<()> {
    let (requests, _) = requests.into_split();
    let (_, mut responses) = responses.into_split();
    let end = stream(requests, &mut responses, guest).await?;
    let (word, detail) = match end {
        End::Status(detail) => ("status", detail),
        End::Lost(detail) => ("lost", detail),
        End::Breach(detail) => ("breach", detail),
    };
    let mut text: Vec<u8> = format!("{word} {detail}")
        .bytes()
        .map(|byte| if byte.is_ascii_graphic() { byte } else { b' ' })
        .collect();
    text.truncate(TEXT_BYTES_MAX);
    let mut frame = vec![LAST];
    frame.extend((text.len() as u32).to_be_bytes());
    frame.extend(text);
    timeout(FAREWELL, responses.write_all(&frame)).await?
}

/// Fails only when the worker is gone.
async fn stream(
    requests: OwnedReadHalf,
    responses: &mut OwnedWriteHalf,
    guest: UnixStream,
) -> io::Result<End> {
    let handshake = client::Builder::new()
        .enable_push(false)
        .initial_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_concurrent_reset_streams(4)
        .handshake(guest);
    let (sender, mut connection) = match handshake.await {
        Ok(both) => both,
        Err(error) => return Ok(end_of(&error)),
    };
    let request = Request::builder()
        .version(Version::HTTP_2)
        .method(Method::POST)
        .uri(SESSION)
        .header(CONTENT_TYPE, "application/grpc+proto")
        .header(TE, "trailers")
        .body(());
    let request = request.map_err(io::Error::other)?;
    let opened = async {
        let mut sender = sender.ready().await?;
        sender.send_request(request, false)
    };
    tokio::pin!(opened);
    let opened = tokio::select! {
        opened = &mut opened => opened,
        ended = &mut connection => return Ok(ended.err().map_or_else(closed, |error| end_of(&error))),
    };
    let (response, to_guest) = match opened {
        Ok(both) => both,
        Err(error) => return Ok(end_of(&error)),
    };
    let up = pump_up(requests, to_guest);
    tokio::pin!(up);
    let response = tokio::select! {
        biased;
        response = response => response,
        end = &mut up => return end,
        ended = &mut connection => return Ok(ended.err().map_or_else(closed, |error| end_of(&error))),
    };
    let response = match response {
        Ok(response) => response,
        Err(error) => return Ok(end_of(&error)),
    };
    let down = pump_down(response, responses);
    tokio::pin!(down);
    tokio::select! {
        end = &mut down => return end,
        end = &mut up => return end,
        _ = connection => {}
    }
    // What has come before is still carried, as fast as the worker takes it; then the stream says how it ended.
    tokio::select! {
        end = timeout(FAREWELL, down) => end.unwrap_or_else(|_| Ok(closed())),
        end = up => end,
    }
}

fn closed() -> End {
    End::Lost("the connection ended".to_owned())
}

fn end_of(error: &h2::Error) -> End {
    if error.is_io() {
        End::Lost(error.to_string())
    } else {
        End::Breach(error.to_string())
    }
}

/// Carries requests as they come, until the worker ends them, who then has no more use for the stream.
async fn pump_up(mut requests: OwnedReadHalf, mut to_guest: SendStream<Bytes>) -> io::Result<End> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_BYTES);
        if requests.read_buf(&mut buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = buffer.split().freeze();
        while !bytes.is_empty() {
            to_guest.reserve_capacity(bytes.len());
            let granted = std::future::poll_fn(|cx| to_guest.poll_capacity(cx)).await;
            let granted = match granted {
                Some(Ok(granted)) => granted.min(bytes.len()),
                // The stream is over; how, its other half says.
                Some(Err(_)) | None => return std::future::pending().await,
            };
            if to_guest.send_data(bytes.split_to(granted), false).is_err() {
                return std::future::pending().await;
            }
        }
    }
}

/// Carries responses, no faster than the worker takes them, to the stream's status.
async fn pump_down(
    response: Response<RecvStream>,
    responses: &mut OwnedWriteHalf,
) -> io::Result<End> {
    if let Err(reason) = check_head(&response) {
        return Ok(End::Breach(reason));
    }
    if response.headers().contains_key("grpc-status") {
        return Ok(status_of(response.headers()));
    }
    let mut body: RecvStream = response.into_body();
    while let Some(data) = body.data().await {
        let data = match data {
            Ok(data) => data,
            Err(error) => return Ok(end_of(&error)),
        };
        responses.write_all(&data).await?;
        if let Err(error) = body.flow_control().release_capacity(data.len()) {
            return Ok(end_of(&error));
        }
    }
    Ok(match body.trailers().await {
        Ok(Some(trailers)) => status_of(&trailers),
        Ok(None) => End::Breach("a stream without a status".to_owned()),
        Err(error) => end_of(&error),
    })
}

fn check_head(response: &Response<RecvStream>) -> Result<(), String> {
    let header = |name: &str| response.headers().get(name).map(|value| value.as_bytes());
    if response.status() != 200 {
        return Err(format!("HTTP status {}", response.status().as_u16()));
    }
    if !header("content-type").is_some_and(|kind| kind.starts_with(b"application/grpc")) {
        return Err("no gRPC".to_owned());
    }
    match header("grpc-encoding") {
        None | Some(b"identity") => Ok(()),
        Some(_) => Err("a compressed stream".to_owned()),
    }
}

fn status_of(headers: &HeaderMap) -> End {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status").and_then(|code| code.parse::<u8>().ok()) {
        Some(code) => End::Status(format!("{code} {}", text("grpc-message").unwrap_or(""))),
        None => End::Breach("a stream without a status".to_owned()),
    }
}
