//! HTTP requests of pings and hooks: one request on one connection. What its status means is for others to say.

use std::error::Error;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::header::{HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode};
use tokio::net::TcpStream;

use super::command::io_message;

/// Sends a request, whose host is given, and waits for the status, and for the body where up to `most` bytes of it are
/// wanted: with 0, none is read.
///
/// # Errors
///
/// Why there is none, for people; also where the body is larger.
pub async fn exchange(
    stream: TcpStream,
    mut request: Request<Full<Bytes>>,
    most: usize,
) -> Result<(StatusCode, Bytes), String> {
    request.headers_mut().entry(USER_AGENT).or_insert(HeaderValue::from_static("drillmaster"));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream))
        .await
        .map_err(|error| reason(&error))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| reason(&error))?;
        let status = response.status();
        if most == 0 {
            return Ok((status, Bytes::new()));
        }
        match Limited::new(response.into_body(), most).collect().await {
            Ok(body) => Ok((status, body.to_bytes())),
            Err(error) if error.is::<LengthLimitError>() => {
                Err(format!("the answer is larger than {} KiB", most / 1024))
            }
            Err(error) => Err(error.downcast_ref().map_or_else(|| error.to_string(), reason)),
        }
    };
    tokio::pin!(answer);
    // The connection is driven only as long as it takes to see what is wanted.
    tokio::select! {
        // cancel-safe because the exchange is given up as a whole
        answer = &mut answer => answer,
        // cancel-safe for the same reason
        // Whoever closes right after the answer ends the connection before the answer is taken.
        _ = connection => answer.await,
    }
}

fn reason(error: &hyper::Error) -> String {
    if error.is_canceled() || error.is_incomplete_message() {
        return "the connection was closed without an answer".to_owned();
    }
    // hyper itself says only that the connection had an error.
    match error.source().and_then(|cause| cause.downcast_ref()) {
        Some(cause) => io_message(cause),
        None => error.to_string(),
    }
}
