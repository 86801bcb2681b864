//! Connections to the engine: kept alive and reused, one request at a time on each.
//!
//! The transport below bollard, which by itself opens a connection for every request and does not report when a stream
//! has started. Handles HTTP and the endpoint; knows nothing of containers.

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

use super::ssh::Tunnel;
use super::target::Endpoint;

/// Number of idle connections kept; further ones are closed after use.
const KEPT: usize = 16;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Cannot connect.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The connection was lost, or the response is not HTTP.
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

/// The body of a request, of the type that bollard uses but does not export.
pub type Body = Either<Full<Bytes>, StreamBody<Stream>>;

/// A body sent in chunks.
pub type Stream = Pin<Box<dyn futures_util::Stream<Item = io::Result<Frame<Bytes>>> + Send>>;

/// All connections to one engine.
pub struct Wire {
    endpoint: Endpoint,
    tunnel: Tunnel,
    idle: Mutex<Vec<SendRequest<Body>>>,
    api: OnceLock<String>,
}

impl Wire {
    /// Opens no connection: the first request does.
    pub fn new(endpoint: Endpoint) -> Arc<Self> {
        Arc::new(Wire { endpoint, tunnel: Tunnel::default(), idle: Mutex::default(), api: OnceLock::new() })
    }

    /// Sends this API version with every request from now on. bollard leaves it out, so that a newer engine may respond
    /// with an unsupported API version.
    pub fn speak(&self, api: String) {
        // An already negotiated version is kept.
        let _ = self.api.set(api);
    }

    /// Sends a request and waits for the head of its response.
    pub async fn send(self: Arc<Self>, request: Request<Body>) -> Result<Response<Incoming>, WireError> {
        let mut request = self.addressed(request);
        while let Some(sender) = self.take() {
            let again = repeatable(&request);
            match (self.clone().send_on(sender, request).await, again) {
                (Ok(Sent::Response(response)), _) => return Ok(response),
                // The engine had closed the connection; nothing was sent, so the request can be repeated.
                (Ok(Sent::Not(unsent)), _) => request = unsent,
                // Closed while sending. Other idle connections are as old, and repeating a read is harmless.
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

    /// Returns a connection to the pool once its response was read; never if it was upgraded.
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

    /// The most recently used connection: older ones are more likely closed.
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
            Endpoint::Tls(address, tls) => handshake(tls.connect(address).await?).await,
            Endpoint::Ssh(host) => handshake(self.tunnel.connect(host).await?).await,
        }
    }

    /// Prepares a request for a connection: path and query only, with the API version, and a host header.
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
            Endpoint::Unix(_) | Endpoint::Ssh(_) => "docker",
            Endpoint::Tcp(address) | Endpoint::Tls(address, _) => address,
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

/// A copy of the request, if it only reads.
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
    // Ends with the connection; the pending request reports the error.
    tokio::spawn(connection.with_upgrades());
    Ok(sender)
}

/// bollard encodes credentials in standard base64; the engine expects the URL-safe alphabet and silently ignores
/// credentials that contain `+` or `/`.
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
