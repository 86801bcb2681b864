//! HTTP requests of hooks and probes: one request on one connection. The caller decides what the status means.

use std::error::Error;
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::tls;
use crate::control::error::HttpError;
use crate::engine::io_message;
use crate::engine::lines::truncate;
use crate::spec::value::HttpUrl;

/// Time limit and maximum size of the beginning of a body.
const START_TIMEOUT: Duration = Duration::from_secs(1);
const START_SIZE: usize = 4096;
/// Length at which the explanation of a failure is truncated, in bytes.
const MAX_LINE: usize = 200;

/// How much of a response is read.
#[derive(Debug, Clone, Copy)]
pub enum Body {
    Nothing,
    /// What [`explanation`] needs.
    Start,
    /// Everything; an error if it is larger, in bytes.
    All {
        max: usize,
    },
}

/// Sends a request and returns the status and as much of the body as `body` says for this status.
///
/// # Errors
///
/// If the connection fails, or the body is too large.
pub async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    mut request: Request<Full<Bytes>>,
    body: impl FnOnce(StatusCode) -> Body,
) -> Result<(StatusCode, Bytes), HttpError> {
    request.headers_mut().entry(USER_AGENT).or_insert(HeaderValue::from_static("drillmaster"));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.map_err(http_error)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(http_error)?;
        let status = response.status();
        match body(status) {
            Body::Nothing => Ok((status, Bytes::new())),
            Body::Start => Ok((status, start(response.into_body()).await)),
            Body::All { max } => match Limited::new(response.into_body(), max).collect().await {
                Ok(body) => Ok((status, body.to_bytes())),
                Err(error) if error.is::<LengthLimitError>() => Err(HttpError::TooLarge { limit: max }),
                Err(error) => Err(match error.downcast::<hyper::Error>() {
                    Ok(error) => http_error(*error),
                    Err(error) => HttpError::Failed(error.to_string()),
                }),
            },
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

/// Connects to the host of a URL, whose certificate must be valid, and sends a request as [`exchange`] does.
///
/// # Errors
///
/// As those of [`exchange`].
pub async fn exchange_at(
    url: &HttpUrl,
    request: Request<Full<Bytes>>,
    body: impl FnOnce(StatusCode) -> Body,
) -> Result<(StatusCode, Bytes), HttpError> {
    let stream = TcpStream::connect(url.address()).await;
    let stream = stream.map_err(|error| HttpError::Failed(io_message(&error)))?;
    match url.is_secure() {
        true => exchange(tls::start(stream, url.address().0, tls::Verify::Certificate).await?, request, body).await,
        false => exchange(stream, request, body).await,
    }
}

/// Reads the beginning of a body, as far as it comes.
async fn start(mut body: Incoming) -> Bytes {
    let mut read = Vec::new();
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            read.extend_from_slice(frame.data_ref().map(Bytes::as_ref).unwrap_or_default());
            if read.len() >= START_SIZE {
                break;
            }
        }
    };
    // What was read until then is kept.
    let _ = timeout(START_TIMEOUT, reading).await;
    read.truncate(START_SIZE);
    read.into()
}

/// Returns what a body says about a failed request: its first line, or the title of a page.
pub fn explanation(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let title = text.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>")).map(|(title, _)| title);
    let lines = title.unwrap_or(&text).lines().map(str::trim);
    let mut line = lines.into_iter().find(|line| !line.is_empty()).unwrap_or_default().to_owned();
    truncate(&mut line, MAX_LINE);
    line
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
