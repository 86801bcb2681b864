//! HTTP requests of hooks and probes: one request on one connection. The caller decides what the status means.

use std::error::Error;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::header::{HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode};
use tokio::net::TcpStream;

use crate::control::error::HttpError;
use crate::engine::io_message;

/// Sends a request and returns the status and the body. With a `max_body` of 0 the body is not read.
///
/// # Errors
///
/// If the connection fails, or the body is larger than `max_body`, in bytes.
pub async fn exchange(
    stream: TcpStream,
    mut request: Request<Full<Bytes>>,
    max_body: usize,
) -> Result<(StatusCode, Bytes), HttpError> {
    request.headers_mut().entry(USER_AGENT).or_insert(HeaderValue::from_static("drillmaster"));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.map_err(http_error)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(http_error)?;
        let status = response.status();
        if max_body == 0 {
            return Ok((status, Bytes::new()));
        }
        match Limited::new(response.into_body(), max_body).collect().await {
            Ok(body) => Ok((status, body.to_bytes())),
            Err(error) if error.is::<LengthLimitError>() => Err(HttpError::TooLarge { limit: max_body }),
            Err(error) => Err(match error.downcast::<hyper::Error>() {
                Ok(error) => http_error(*error),
                Err(error) => HttpError::Failed(error.to_string()),
            }),
        }
    };
    tokio::pin!(exchange);
    // The connection is only driven until the response is read.
    tokio::select! {
        // cancel-safe because the exchange is given up as a whole
        response = &mut exchange => response,
        // cancel-safe for the same reason
        // A server that closes right after its response ends the connection before the response is read.
        _ = connection => exchange.await,
    }
}

fn http_error(error: hyper::Error) -> HttpError {
    if error.is_canceled() || error.is_incomplete_message() {
        return HttpError::Closed;
    }
    // The cause: hyper's own text is only that there was a connection error.
    HttpError::Failed(match error.source().and_then(|cause| cause.downcast_ref()) {
        Some(cause) => io_message(cause),
        None => error.to_string(),
    })
}
