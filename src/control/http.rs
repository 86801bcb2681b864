//! HTTP requests of pings and hooks: one request on one connection. What its status means is for others to say.

use std::error::Error;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode};
use tokio::net::TcpStream;

use super::command::words_of;

/// Sends a request, whose host is given, and waits for the status.
///
/// # Errors
///
/// Why there is none, for people.
pub async fn exchange(stream: TcpStream, mut request: Request<Full<Bytes>>) -> Result<StatusCode, String> {
    request.headers_mut().entry(USER_AGENT).or_insert(HeaderValue::from_static("drillmaster"));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream))
        .await
        .map_err(|error| reason(&error))?;
    let response = sender.send_request(request);
    tokio::pin!(response);
    // The connection is driven only as long as it takes to see the status.
    let response = tokio::select! {
        // cancel-safe because the exchange is given up as a whole
        response = &mut response => response,
        // cancel-safe for the same reason
        // Whoever closes right after the answer ends the connection before the answer is taken.
        _ = connection => response.await,
    };
    response.map(|response| response.status()).map_err(|error| reason(&error))
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
