//! Connections to the engine: kept open and used again, one request at a time on each.
//!
//! The bytes below bollard, which opens a connection for every request and cannot tell when a stream has begun. Knows
//! HTTP and where the engine listens; knows nothing of containers.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use http_body_util::{Either, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::target::Endpoint;

/// Connections that wait for their next request; more than these are closed after use.
const KEPT: usize = 16;

/// Why a request brought no response.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// There is no connection.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The connection was lost, or what came was not HTTP.
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

/// The body of a request: all of bollard's have this type, to which it gives no name outside.
pub type Body = Either<Full<Bytes>, StreamBody<Stream>>;

/// A body that is sent piece by piece.
pub type Stream = Pin<Box<dyn futures_util::Stream<Item = io::Result<Frame<Bytes>>> + Send>>;

/// All connections to one engine.
pub struct Wire {
    endpoint: Endpoint,
    idle: Mutex<Vec<SendRequest<Body>>>,
    api: OnceLock<String>,
}

impl Wire {
    /// No connection yet: the first request opens one.
    pub fn new(endpoint: Endpoint) -> Arc<Self> {
        Arc::new(Wire { endpoint, idle: Mutex::default(), api: OnceLock::new() })
    }

    /// Sends this API version with every request from now on. bollard leaves it out, so that a newer engine may respond
    /// with an unsupported API version.
    pub fn speak(&self, api: String) {
        // A version that was already agreed on stays.
        let _ = self.api.set(api);
    }

    /// Sends a request and waits for the head of its response.
    pub async fn send(self: Arc<Self>, request: Request<Body>) -> Result<Response<Incoming>, WireError> {
        let mut request = self.addressed(request);
        while let Some(sender) = self.take() {
            let again = repeatable(&request);
            match (self.clone().send_on(sender, request).await, again) {
                (Ok(Sent::Response(response)), _) => return Ok(response),
                // The engine had closed it meanwhile; nothing was sent, so nothing is done twice.
                (Ok(Sent::Not(unsent)), _) => request = unsent,
                // It was closed at this very moment. The others are as old, and reading twice does no harm.
                (Err(_), Some(again)) => {
                    self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
                    request = again;
                }
                (Err(error), None) => return Err(error),
            }
        }
        let sender = self.open().await?;
        match self.clone().send_on(sender, request).await? {
            Sent::Response(response) => Ok(response),
            Sent::Not(_) => Err(io::Error::from(io::ErrorKind::ConnectionReset).into()),
        }
    }

    async fn send_on(
        self: Arc<Self>,
        mut sender: SendRequest<Body>,
        request: Request<Body>,
    ) -> Result<Sent, WireError> {
        match sender.try_send_request(request).await {
            Ok(response) => {
                self.keep(sender);
                Ok(Sent::Response(response))
            }
            Err(mut failed) => match failed.take_message() {
                Some(unsent) => Ok(Sent::Not(unsent)),
                None => Err(failed.into_error().into()),
            },
        }
    }

    /// Puts a connection back once its response was read; never, where it became a stream of its own.
    fn keep(self: Arc<Self>, mut sender: SendRequest<Body>) {
        tokio::spawn(async move {
            if sender.ready().await.is_ok() {
                let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                if idle.len() < KEPT {
                    idle.push(sender);
                }
            }
        });
    }

    /// The connection that was used last, for the others may have been closed.
    fn take(&self) -> Option<SendRequest<Body>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(SendRequest::is_ready);
        idle.pop()
    }

    async fn open(&self) -> Result<SendRequest<Body>, WireError> {
        match &self.endpoint {
            Endpoint::Unix(path) => handshake(UnixStream::connect(path).await?).await,
            Endpoint::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                handshake(stream).await
            }
        }
    }

    /// Makes a request fit for a connection: only path and query, with the version of the API, and a host.
    fn addressed(&self, mut request: Request<Body>) -> Request<Body> {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let path = match self.api.get() {
            Some(api) => format!("/v{api}{path}"),
            None => path.to_owned(),
        };
        if let Ok(uri) = Uri::try_from(path) {
            *request.uri_mut() = uri;
        }
        let host = match &self.endpoint {
            Endpoint::Unix(_) => "docker",
            Endpoint::Tcp(address) => address,
        };
        if let Ok(host) = HeaderValue::from_str(host) {
            request.headers_mut().insert(HOST, host);
        }
        url_safe(&mut request);
        request
    }
}

enum Sent {
    Response(Response<Incoming>),
    Not(Request<Body>),
}

/// The same request again, where it only reads.
fn repeatable(request: &Request<Body>) -> Option<Request<Body>> {
    (request.method() == Method::GET).then(|| {
        let mut again = Request::new(Either::Left(Full::default()));
        *again.uri_mut() = request.uri().clone();
        *again.headers_mut() = request.headers().clone();
        again
    })
}

async fn handshake<S>(stream: S) -> Result<SendRequest<Body>, WireError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the connection; the request under way reports the error.
    tokio::spawn(connection.with_upgrades());
    Ok(sender)
}

/// bollard encodes credentials in standard base64, the engine reads the URL-safe kind and silently takes none where
/// it meets a `+` or `/`.
fn url_safe(request: &mut Request<Body>) {
    const AUTH: HeaderName = HeaderName::from_static("x-registry-auth");
    let safe = request
        .headers()
        .get(&AUTH)
        .and_then(|value| value.to_str().ok())
        .map(|value| value.replace('+', "-").replace('/', "_"));
    if let Some(Ok(value)) = safe.map(HeaderValue::try_from) {
        request.headers_mut().insert(AUTH, value);
    }
}
