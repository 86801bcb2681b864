//! Socket of a controller: a Unix socket beside the lock, for the same user only.
//!
//! Turns each line that arrives into a [`Request`] and the reports of its answer into lines. A client cannot block the
//! controller: every read and write has a time limit.

use std::borrow::Cow;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};

use super::wire::{Hello, Settled, WireRequest, WireResponse};
use crate::control::event::{Report, Request};

/// Reports that a client has not read yet, with lines of up to 8 KiB. More are omitted, except the last one.
pub const MAX_PENDING_REPORTS: usize = 256;
/// How long a client may take to send its request, and to read each line of the answer.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Size limit of a request, in bytes.
const MAX_REQUEST: usize = 256 * 1024;
/// How many clients are served at once; others wait for [`BUSY_TIMEOUT`].
const MAX_CLIENTS: u32 = 64;
/// How long a client waits to be served. Shorter than clients wait for the hello.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause after a connection could not be accepted: the process may be out of file descriptors.
const ACCEPT_DELAY: Duration = Duration::from_millis(500);
/// How long a closing server waits for clients to read the rest of their answers.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);
/// Maximum length of a socket path (`sun_path` holds 108 bytes with the NUL on Linux, 104 elsewhere).
const MAX_PATH: usize = 103;

/// How reports are shown to clients.
#[derive(Clone)]
pub struct Presentation {
    /// Converts a report into the JSON event that clients receive; `None` if they receive nothing.
    pub event: fn(&Report) -> Option<Value>,
    /// Hides secret values in a text.
    pub hide: fn(&str) -> Cow<'_, str>,
}

/// Lines of JSON over a stream.
type Lines = Framed<UnixStream, LinesCodec>;

/// The listening end. Dropping it removes the socket.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    tasks: JoinSet<()>,
    permits: Arc<Semaphore>,
}

impl Server {
    /// Listens in a private directory. The caller must hold the lock of the group: an existing socket belongs to a
    /// controller that has gone, and is replaced. Must be called within a runtime.
    ///
    /// # Errors
    ///
    /// If the socket cannot be created.
    pub fn start(
        directory: &Path,
        hello: Hello,
        requests: mpsc::Sender<Request>,
        presentation: Presentation,
    ) -> io::Result<Server> {
        // Created under another name, so that the final one never has wider permissions.
        let new = directory.join("socket.new");
        remove(&new)?;
        let listener = UnixListener::bind(SocketPath::new(directory, "socket.new")?.path())?;
        fs::set_permissions(&new, Permissions::from_mode(0o600))?;
        let path = directory.join("socket");
        fs::rename(&new, &path)?;
        let permits = Arc::new(Semaphore::new(MAX_CLIENTS as usize));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Conversation { hello, requests, presentation }, permits.clone()));
        Ok(Server { path, tasks, permits })
    }

    /// Stops listening once clients have read their answers, at the latest after `SHUTDOWN_GRACE`.
    pub async fn close(mut self) {
        let _ = timeout(SHUTDOWN_GRACE, self.permits.acquire_many(MAX_CLIENTS)).await;
        self.tasks.shutdown().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A socket that remains is replaced by the next controller.
        let _ = remove(&self.path);
    }
}

async fn accept(listener: UnixListener, conversation: Conversation, permits: Arc<Semaphore>) {
    // Dropped with this task, and the conversations with it.
    let mut conversations = JoinSet::new();
    let mut limit = BUSY_TIMEOUT;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => match timeout(limit, permits.clone().acquire_owned()).await {
                Ok(Ok(permit)) => {
                    limit = BUSY_TIMEOUT;
                    conversations.spawn(conversation.clone().serve(stream, permit));
                }
                Ok(Err(_closed)) => return,
                Err(_) => {
                    // Those that arrived meanwhile have waited as well.
                    limit = Duration::ZERO;
                    refuse(stream).await;
                }
            },
            Err(error) => {
                tracing::debug!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_DELAY).await;
            }
        }
        while conversations.try_join_next().is_some() {}
    }
}

/// Tells a client that too many others are being served.
async fn refuse(stream: UnixStream) {
    let mut lines = Framed::new(stream, LinesCodec::new());
    if let Err(error) = send(&mut lines, &WireResponse::Busy).await {
        tracing::debug!(%error, "client disconnected");
    }
}

/// One request and its answer.
#[derive(Clone)]
struct Conversation {
    hello: Hello,
    requests: mpsc::Sender<Request>,
    presentation: Presentation,
}

impl Conversation {
    async fn serve(self, stream: UnixStream, _permit: OwnedSemaphorePermit) {
        let mut lines = Framed::new(stream, LinesCodec::new_with_max_length(MAX_REQUEST));
        if let Err(error) = self.converse(&mut lines).await {
            tracing::debug!(%error, "client disconnected");
        }
    }

    async fn converse(self, lines: &mut Lines) -> io::Result<()> {
        send(lines, &WireResponse::Hello(self.hello.clone())).await?;
        let request = match within(READ_TIMEOUT, async { Ok(lines.next().await) }).await? {
            None => return Ok(()),
            Some(Ok(line)) => serde_json::from_str::<WireRequest>(&line).map_err(|error| error.to_string()),
            Some(Err(LinesCodecError::Io(error))) => return Err(error),
            Some(Err(error)) => Err(error.to_string()),
        };
        let request = match request {
            Ok(request) if self.hello.is_watching() || matches!(request, WireRequest::Shutdown { .. }) => request,
            Ok(_) => {
                let why = format!("it is not watching, but running `drillmaster {}`", self.hello.command);
                return send(lines, &WireResponse::Unsupported { why }).await;
            }
            Err(error) => {
                let why = format!("unsupported request: {error}; use the same drillmaster version as the controller");
                return send(lines, &WireResponse::Unsupported { why }).await;
            }
        };
        let (reply, mut reports) = mpsc::channel(MAX_PENDING_REPORTS);
        if self.requests.send(Request { kind: request.into(), reply }).await.is_err() {
            return Ok(());
        }
        loop {
            tokio::select! {
                // cancel-safe because a message that was not received stays in the channel
                report = reports.recv() => {
                    let Some(report) = report else { return Ok(()) };
                    if let Some(response) = response(report, &self.presentation) {
                        send(lines, &response).await?;
                    }
                }
                // cancel-safe because further lines are discarded
                () = closed(lines) => return Ok(()),
            }
        }
    }
}

fn response(report: Report, Presentation { event, hide }: &Presentation) -> Option<WireResponse> {
    Some(match report {
        Report::Status(mut status) => {
            status.for_each_text(&mut |text| hide_in_place(text, hide));
            WireResponse::Status(*status)
        }
        Report::Settled(outcome) => {
            let mut settled = Settled::from(*outcome);
            settled.for_each_text(&mut |text| hide_in_place(text, hide));
            WireResponse::Settled(Box::new(settled))
        }
        Report::Stopping(why) => WireResponse::Stopping { why },
        report => WireResponse::Event { event: event(&report)? },
    })
}

fn hide_in_place(text: &mut String, hide: &fn(&str) -> Cow<'_, str>) {
    if let Cow::Owned(shown) = hide(text) {
        *text = shown;
    }
}

/// Discards lines until the other end has closed.
async fn closed(lines: &mut Lines) {
    while let Some(Ok(_)) = lines.next().await {}
}

async fn send(lines: &mut Lines, message: &impl serde::Serialize) -> io::Result<()> {
    let line = serde_json::to_string(message)?;
    within(READ_TIMEOUT, async { lines.send(line).await.map_err(io_error) }).await
}

fn io_error(error: LinesCodecError) -> io::Error {
    match error {
        LinesCodecError::Io(error) => error,
        error => io::Error::new(ErrorKind::InvalidData, error),
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(ErrorKind::TimedOut.into()),
    }
}

/// The end that connects to a controller.
#[derive(Debug)]
pub struct Client {
    /// First message of the controller.
    pub hello: Hello,
    lines: Lines,
}

/// Reason why no controller can be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is no watching controller, or it is just starting or stopping.
    #[error("no controller is listening")]
    NotListening,
    /// The controller is stopped (`SIGSTOP`) or hangs.
    #[error("the controller timed out")]
    TimedOut,
    #[error("the controller is busy with {MAX_CLIENTS} other clients")]
    Busy,
    #[error("{0}")]
    Failed(#[from] io::Error),
}

impl Client {
    /// Connects to the controller of a directory and waits for its hello.
    ///
    /// # Errors
    ///
    /// If it does not come within the limit.
    pub async fn connect(directory: &Path, limit: Duration) -> Result<Client, ConnectError> {
        let connect = async {
            let stream = UnixStream::connect(SocketPath::new(directory, "socket")?.path()).await?;
            // An answer of the controller may have any length.
            let mut lines = Framed::new(stream, LinesCodec::new());
            match receive(&mut lines).await? {
                Some(WireResponse::Hello(hello)) => Ok(Client { hello, lines }),
                Some(WireResponse::Busy) => Err(ErrorKind::ResourceBusy.into()),
                Some(_) => Err(io::Error::other("not the socket of a drillmaster controller")),
                None => Err(ErrorKind::ConnectionReset.into()),
            }
        };
        within(limit, connect).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                ConnectError::NotListening
            }
            ErrorKind::TimedOut | ErrorKind::WouldBlock => ConnectError::TimedOut,
            ErrorKind::ResourceBusy => ConnectError::Busy,
            _ => ConnectError::Failed(error),
        })
    }

    /// Sends a request.
    ///
    /// # Errors
    ///
    /// If the controller has gone.
    pub async fn send(&mut self, request: &WireRequest) -> io::Result<()> {
        send(&mut self.lines, request).await
    }

    /// Receives the next line of the answer; `None` at its end.
    ///
    /// # Errors
    ///
    /// If the connection breaks, or the line is not a response.
    pub async fn receive(&mut self) -> io::Result<Option<WireResponse>> {
        receive(&mut self.lines).await
    }
}

async fn receive(lines: &mut Lines) -> io::Result<Option<WireResponse>> {
    match lines.next().await {
        Some(line) => Ok(Some(serde_json::from_str(&line.map_err(io_error)?)?)),
        None => Ok(None),
    }
}

/// Path of a socket that is short enough to bind or connect to.
struct SocketPath {
    path: PathBuf,
    /// Open while a short path through `/proc/self/fd` is in use.
    _directory: Option<File>,
}

impl SocketPath {
    fn new(directory: &Path, name: &str) -> io::Result<SocketPath> {
        let path = directory.join(name);
        if path.as_os_str().len() <= MAX_PATH {
            return Ok(SocketPath { path, _directory: None });
        }
        let opened = File::open(directory)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{name}", opened.as_raw_fd()));
        Ok(SocketPath { path, _directory: Some(opened) })
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::control::event::{Outcome, RemovalError, RequestKind};
    use crate::control::ipc::lock::WATCH;
    use crate::plan::step::{Subject, Wait};
    use crate::status::{ControllerStatus, ServiceActivity};

    fn start(directory: &Path) -> (Server, mpsc::Receiver<Request>) {
        start_for(directory, WATCH)
    }

    fn start_for(directory: &Path, command: &str) -> (Server, mpsc::Receiver<Request>) {
        let (sender, requests) = mpsc::channel(1);
        let hello = Hello { pid: 7, source: "/specs".into(), command: command.into() };
        let event = |report: &Report| match report {
            Report::Note(text) => Some(text[..].into()),
            _ => None,
        };
        let presentation = Presentation { event, hide: |text| text.replace("s3cret", "(hidden)").into() };
        (Server::start(directory, hello, sender, presentation).unwrap(), requests)
    }

    async fn connect(directory: &Path) -> Client {
        Client::connect(directory, READ_TIMEOUT).await.unwrap()
    }

    async fn write(client: &mut Client, bytes: &[u8]) {
        client.lines.get_mut().write_all(bytes).await.unwrap();
    }

    fn directory() -> TempDir {
        tempfile::tempdir().unwrap()
    }

    #[tokio::test]
    async fn client_receives_hello_events_and_response() {
        let state = directory();
        let (server, mut requests) = start(state.path());
        let mode = fs::metadata(state.path().join("socket")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut client = connect(state.path()).await;
        assert_eq!(client.hello, Hello { pid: 7, source: "/specs".into(), command: WATCH.into() });
        client.send(&WireRequest::Reconcile).await.unwrap();
        let request = requests.recv().await.unwrap();
        assert_eq!(request.kind, RequestKind::Reconcile);
        for report in [Report::Note("one".into()), Report::SpecsValid, Report::Note("two".into())] {
            request.reply.send(report).await.unwrap();
        }
        request.reply.send(Report::Status(Box::default())).await.unwrap();
        drop(request);
        let event = |event: &str| WireResponse::Event { event: event.into() };
        for expected in [event("one"), event("two"), WireResponse::Status(ControllerStatus::default())] {
            assert_eq!(client.receive().await.unwrap(), Some(expected));
        }
        assert_eq!(client.receive().await.unwrap(), None);
        server.close().await;
        assert!(matches!(Client::connect(state.path(), READ_TIMEOUT).await, Err(ConnectError::NotListening)));
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0, "the socket is removed");
    }

    #[tokio::test]
    async fn secret_values_are_hidden_from_clients() {
        let secret = || "the s3cret".to_owned();
        let wait = Wait::new("api".into(), secret(), None);
        let stuck = RemovalError { error: secret(), active_endpoints: false };
        let outcome = Outcome {
            waits: vec![wait],
            stuck: [(Subject::Network("shop".into()), stuck)].into(),
            ..Outcome::default()
        };
        let activity = ServiceActivity { message: Some(secret()), ..ServiceActivity::default() };
        let services = [("api".to_owned(), activity)].into();
        let status = ControllerStatus { services, specs: Some(secret()), engine: Some(secret()) };
        let presentation = Presentation { event: |_| None, hide: |text| text.replace("s3cret", "(hidden)").into() };
        for (report, texts) in [(Report::Status(Box::new(status)), 3), (Report::Settled(Box::new(outcome)), 2)] {
            let response = serde_json::to_string(&response(report, &presentation)).unwrap();
            assert_eq!((response.matches("the (hidden)").count(), response.contains("s3cret")), (texts, false));
        }
    }

    #[tokio::test]
    async fn long_directory_path_works() {
        let state = directory();
        let deep = state.path().join("x".repeat(120));
        fs::create_dir(&deep).unwrap();
        let (_server, _requests) = start(&deep);
        connect(&deep).await;
    }

    #[tokio::test]
    async fn stale_socket_is_replaced() {
        let state = directory();
        drop(UnixListener::bind(state.path().join("socket")).unwrap());
        assert!(matches!(Client::connect(state.path(), READ_TIMEOUT).await, Err(ConnectError::NotListening)));
        let (_server, _requests) = start(state.path());
        connect(state.path()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn connecting_to_a_hung_controller_times_out() {
        let state = directory();
        let _listener = UnixListener::bind(state.path().join("socket")).unwrap();
        assert!(matches!(Client::connect(state.path(), READ_TIMEOUT).await, Err(ConnectError::TimedOut)));
    }

    #[tokio::test]
    async fn malformed_requests_are_unsupported() {
        let state = directory();
        let (_server, _requests) = start(state.path());
        let mut client = connect(state.path()).await;
        write(&mut client, b"{\"ask\":\"dance\"}\n").await;
        assert!(
            matches!(client.receive().await.unwrap(), Some(WireResponse::Unsupported { why }) if why.contains("dance"))
        );
        let mut client = connect(state.path()).await;
        // The server may disconnect before everything is written.
        let _ = client.lines.get_mut().write_all(&vec![b'x'; 1024 * 1024]).await;
        assert!(matches!(client.receive().await, Ok(Some(WireResponse::Unsupported { .. })) | Err(_)));
    }

    #[tokio::test]
    async fn one_shot_command_can_only_be_ended() {
        let state = directory();
        let (_server, mut requests) = start_for(state.path(), "up");
        let mut client = connect(state.path()).await;
        client.send(&WireRequest::Status).await.unwrap();
        let why = "it is not watching, but running `drillmaster up`".into();
        assert_eq!(client.receive().await.unwrap(), Some(WireResponse::Unsupported { why }));
        let mut client = connect(state.path()).await;
        assert_eq!(client.hello.to_string(), "pid 7 (drillmaster up)");
        client.send(&WireRequest::Shutdown { by: "me".into() }).await.unwrap();
        assert_eq!(requests.recv().await.unwrap().kind, RequestKind::Shutdown { by: "me".into() });
        assert_eq!(client.receive().await.unwrap(), None, "answered by its end");
    }

    #[tokio::test]
    async fn requests_have_a_maximum_length() {
        let state = directory();
        let (_server, mut requests) = start(state.path());
        let request = |length: usize| {
            let text = r#"{"ask":"status"}"#;
            format!("{text}{}\n", " ".repeat(length - text.len())).into_bytes()
        };
        let mut client = connect(state.path()).await;
        write(&mut client, &request(MAX_REQUEST)).await;
        assert_eq!(requests.recv().await.unwrap().kind, RequestKind::Status);
        let mut client = connect(state.path()).await;
        write(&mut client, &request(MAX_REQUEST + 1)).await;
        let response = client.receive().await.unwrap();
        assert!(
            matches!(&response, Some(WireResponse::Unsupported { why }) if why.contains("max line length exceeded")),
            "{response:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn silent_and_stalled_clients_are_disconnected() {
        let state = directory();
        let (_server, mut requests) = start(state.path());
        let mut silent = connect(state.path()).await;
        assert_eq!(silent.receive().await.unwrap(), None, "after the timeout");
        let mut stalled = connect(state.path()).await;
        stalled.send(&WireRequest::Reconcile).await.unwrap();
        let request = requests.recv().await.unwrap();
        let text = "x".repeat(64 * 1024);
        // Far more than the socket buffers.
        for _ in 0..64 {
            let _ = request.reply.send(Report::Note(text.clone())).await;
        }
        request.reply.closed().await;
        connect(state.path()).await;
    }

    #[tokio::test]
    async fn disconnected_client_is_removed() {
        let state = directory();
        let (_server, mut requests) = start(state.path());
        let mut client = connect(state.path()).await;
        client.send(&WireRequest::Reconcile).await.unwrap();
        let request = requests.recv().await.unwrap();
        drop(client);
        request.reply.closed().await;
    }

    #[tokio::test(start_paused = true)]
    async fn client_is_told_that_the_controller_is_busy() {
        let state = directory();
        let (_server, mut requests) = start(state.path());
        let mut pending = Vec::new();
        for _ in 0..MAX_CLIENTS {
            let mut client = connect(state.path()).await;
            client.send(&WireRequest::Reconcile).await.unwrap();
            pending.push((client, requests.recv().await.unwrap()));
        }
        let connecting = (0..10).map(|_| Client::connect(state.path(), READ_TIMEOUT));
        for refused in futures_util::future::join_all(connecting).await {
            assert!(matches!(refused, Err(ConnectError::Busy)), "{refused:?}");
        }
        pending.pop();
        connect(state.path()).await;
    }

    #[tokio::test]
    async fn more_clients_than_permits_are_served() {
        let state = directory();
        let (_server, mut requests) = start(state.path());
        let answers = async {
            while let Some(request) = requests.recv().await {
                let _ = request.reply.send(Report::Status(Box::default())).await;
            }
        };
        let clients = futures_util::future::join_all((0..200).map(|_| async {
            let mut client = connect(state.path()).await;
            client.send(&WireRequest::Status).await.unwrap();
            assert_eq!(client.receive().await.unwrap(), Some(WireResponse::Status(ControllerStatus::default())));
        }));
        tokio::select! {
            _ = clients => {}
            () = answers => panic!("the server has stopped"),
        }
    }
}
