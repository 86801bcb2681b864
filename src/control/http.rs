//! HTTP requests of pings and hooks: one request on one connection. What its status means is for others to say.

use std::error::Error;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderValue, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use tokio::net::TcpStream;

use super::command::words_of;

/// Sends a request, whose host is given, and waits for the status.
///
/// # Errors
///
/// Why there is none, for people.
pub async fn exchange(stream: TcpStream, request: Request<Full<Bytes>>) -> Result<StatusCode, String> {
    // The connection is driven only as long as it takes to see the status.
    send(stream, request, async |response| Ok(response.status())).await
}

/// The same, with the body as far as it is not longer than it may be. What of it is no UTF-8 is replaced.
///
/// # Errors
///
/// Why there is none, for people.
pub async fn fetch(
    stream: TcpStream,
    request: Request<Full<Bytes>>,
    longest: usize,
) -> Result<(StatusCode, String), String> {
    send(stream, request, async |response| {
        let status = response.status();
        let body = Limited::new(response.into_body(), longest).collect().await;
        let body = body.map_err(|_| format!("the body was cut off, or is longer than {} KiB", longest / 1024))?;
        Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
    })
    .await
}

async fn send<T>(
    stream: TcpStream,
    mut request: Request<Full<Bytes>>,
    take: impl AsyncFnOnce(Response<Incoming>) -> Result<T, String>,
) -> Result<T, String> {
    request.headers_mut().entry(USER_AGENT).or_insert(HeaderValue::from_static("drillmaster"));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream))
        .await
        .map_err(|error| reason(&error))?;
    let taken = async { take(sender.send_request(request).await.map_err(|error| reason(&error))?).await };
    tokio::pin!(taken);
    tokio::select! {
        // cancel-safe because the exchange is given up as a whole
        taken = &mut taken => taken,
        // cancel-safe for the same reason
        // Whoever closes right after the answer ends the connection before the answer is taken.
        _ = connection => taken.await,
    }
}

fn reason(error: &hyper::Error) -> String {
    if error.is_canceled() || error.is_incomplete_message() {
        return "the connection was closed without an answer".to_owned();
    }
    // hyper itself says only that the connection had an error.
    match error.source().and_then(|cause| cause.downcast_ref()) {
        Some(cause) => words_of(cause),
        None => error.to_string(),
    }
}
