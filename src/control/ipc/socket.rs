//! How other processes talk to a watching controller: a unix socket beside the lock, for the same user only.
//!
//! Turns what comes in into [`Request`]s and reports into lines. Nobody at the other end can hold up the controller:
//! each step of a conversation has a limit. Decides nothing and words nothing.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::wire::{Hello, WireRequest, WireResponse};
use crate::control::event::{Report, Request};

/// How long a client may take to ask, and to read each line of the answer.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest question, in bytes.
const LONGEST_QUESTION: u64 = 256 * 1024;
/// How many may talk at once; more of them wait.
const CLIENTS: u32 = 64;
/// Pause after a connection could not be accepted: there may be no descriptors for the moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);
/// How long the end of a watch waits until everybody has read that it ends.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);
/// The longest path of a socket (`sun_path` holds 108 bytes with the NUL on Linux, 104 elsewhere).
const LONGEST_PATH: usize = 103;

/// Makes of a report what clients are told; nothing: nothing.
pub type Wording = Arc<dyn Fn(&Report) -> Option<Value> + Send + Sync>;

/// The listening end. The socket is removed when it is dropped.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    tasks: JoinSet<()>,
    ends: Arc<Semaphore>,
}

impl Server {
    /// Listens in this directory, which nobody else may look into. Whoever holds the lock may do so: a socket that is
    /// there already is of somebody who has gone. Must be called within a runtime.
    ///
    /// # Errors
    ///
    /// When the socket cannot be made.
    pub fn start(
        directory: &Path,
        hello: Hello,
        requests: mpsc::Sender<Request>,
        wording: Wording,
    ) -> io::Result<Server> {
        // Made under another name, so that under its own it is never open to more than it should be.
        let new = directory.join("socket.new");
        remove(&new)?;
        let listener = UnixListener::bind(reachable(directory, "socket.new")?.path())?;
        fs::set_permissions(&new, Permissions::from_mode(0o600))?;
        let path = directory.join("socket");
        fs::rename(&new, &path)?;
        let ends = Arc::new(Semaphore::new(CLIENTS as usize));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, hello, requests, wording, ends.clone()));
        Ok(Server { path, tasks, ends })
    }

    /// Lets those who talk read to the end, but not for long, and listens no longer.
    pub async fn close(mut self) {
        // One end is kept for whoever comes next; when all others are free, everybody has read to the end. Who has not
        // by then has had its chance.
        let _ = timeout(SHUTDOWN_GRACE, self.ends.acquire_many(CLIENTS - 1)).await;
        self.tasks.shutdown().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // What stays is replaced by the next one.
        let _ = remove(&self.path);
    }
}

async fn accept(
    listener: UnixListener,
    hello: Hello,
    requests: mpsc::Sender<Request>,
    wording: Wording,
    ends: Arc<Semaphore>,
) {
    // Dropped with this task, and the conversations with it.
    let mut conversations = JoinSet::new();
    loop {
        let Ok(end) = ends.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (hello, requests, wording) = (hello.clone(), requests.clone(), wording.clone());
                conversations.spawn(async move {
                    if let Err(error) = converse(stream, hello, &requests, &wording).await {
                        tracing::debug!(%error, "a client went away");
                    }
                    drop(end);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while conversations.try_join_next().is_some() {}
    }
}

/// One question and its answer.
async fn converse(
    stream: UnixStream,
    hello: Hello,
    requests: &mpsc::Sender<Request>,
    wording: &Wording,
) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    say(&mut write, &WireResponse::Hello(hello)).await?;
    let mut read = BufReader::new(read.take(LONGEST_QUESTION));
    let mut line = String::new();
    let length = within(READ_TIMEOUT, read.read_line(&mut line)).await?;
    if length == 0 {
        return Ok(());
    }
    let question: WireRequest = match serde_json::from_str(&line) {
        Ok(question) => question,
        Err(error) => {
            let why = format!("this version of drillmaster does not understand the question: {error}");
            return say(&mut write, &WireResponse::Unsupported { why }).await;
        }
    };
    let (reply, mut reports) = mpsc::unbounded_channel();
    if requests.send(Request { kind: question.into(), reply }).await.is_err() {
        return Ok(());
    }
    let mut read = read.into_inner().into_inner();
    loop {
        tokio::select! {
            // cancel-safe because a message that was not received stays in the channel
            report = reports.recv() => {
                let Some(report) = report else { return Ok(()) };
                let answer = match report {
                    Report::Status(live) => WireResponse::Status(*live),
                    Report::Settled(outcome) => WireResponse::Settled(Box::new((*outcome).into())),
                    Report::Stopping(why) => WireResponse::Stopping { why },
                    report => match wording(&report) {
                        Some(event) => WireResponse::Event { event },
                        None => continue,
                    },
                };
                say(&mut write, &answer).await?;
            }
            // cancel-safe because what it reads is thrown away
            () = gone(&mut read) => return Ok(()),
        }
    }
}

/// Returns when the other end has closed, whatever it says before.
async fn gone(read: &mut OwnedReadHalf) {
    let mut rest = [0; 1024];
    while let Ok(1..) = read.read(&mut rest).await {}
}

async fn say(write: &mut OwnedWriteHalf, answer: &impl serde::Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    within(READ_TIMEOUT, write.write_all(&line)).await
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(ErrorKind::TimedOut.into()),
    }
}

/// The asking end.
#[derive(Debug)]
pub struct Client {
    /// Who listens.
    pub hello: Hello,
    lines: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
}

/// Why nobody can be talked to.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody listens: there is no watching controller, or it is just beginning or ending.
    #[error("nobody listens")]
    NotListening,
    /// Somebody listens and does not answer in time: it is stopped, or hangs.
    #[error("it does not answer")]
    TimedOut,
    /// Anything else.
    #[error("{0}")]
    Failed(#[from] io::Error),
}

impl Client {
    /// Connects to the controller of this directory, and waits for its first word, at most so long.
    ///
    /// # Errors
    ///
    /// Where that does not come.
    pub async fn connect(directory: &Path, limit: Duration) -> Result<Client, ConnectError> {
        let hello = async {
            let (read, write) = UnixStream::connect(reachable(directory, "socket")?.path()).await?.into_split();
            let mut lines = BufReader::new(read).lines();
            match answer(&mut lines).await? {
                Some(WireResponse::Hello(hello)) => Ok(Client { hello, lines, write }),
                Some(_) => Err(io::Error::other("it does not speak as a watching drillmaster does")),
                None => Err(ErrorKind::ConnectionReset.into()),
            }
        };
        match within(limit, hello).await {
            Ok(client) => Ok(client),
            Err(error) => Err(match error.kind() {
                ErrorKind::NotFound
                | ErrorKind::ConnectionRefused
                | ErrorKind::ConnectionReset
                | ErrorKind::BrokenPipe => ConnectError::NotListening,
                ErrorKind::TimedOut | ErrorKind::WouldBlock => ConnectError::TimedOut,
                _ => ConnectError::Failed(error),
            }),
        }
    }

    /// Asks.
    ///
    /// # Errors
    ///
    /// When the controller has gone.
    pub async fn ask(&mut self, question: &WireRequest) -> io::Result<()> {
        say(&mut self.write, question).await
    }

    /// The next line of the answer; `None`: that was all.
    ///
    /// # Errors
    ///
    /// When the connection breaks, or what comes is no answer.
    pub async fn next(&mut self) -> io::Result<Option<WireResponse>> {
        answer(&mut self.lines).await
    }
}

async fn answer(lines: &mut Lines<BufReader<OwnedReadHalf>>) -> io::Result<Option<WireResponse>> {
    match lines.next_line().await? {
        Some(line) => Ok(Some(serde_json::from_str(&line)?)),
        None => Ok(None),
    }
}

/// A way to a file that is short enough for a socket.
struct Way {
    path: PathBuf,
    /// What the path leads through.
    _directory: Option<File>,
}

impl Way {
    fn path(&self) -> &Path {
        &self.path
    }
}

fn reachable(directory: &Path, name: &str) -> io::Result<Way> {
    let path = directory.join(name);
    if path.as_os_str().len() <= LONGEST_PATH {
        return Ok(Way { path, _directory: None });
    }
    let opened = File::open(directory)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{name}", opened.as_raw_fd()));
    Ok(Way { path, _directory: Some(opened) })
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

    use super::*;
    use crate::control::event::RequestKind;
    use crate::status::ControllerStatus;

    fn start(directory: &Path) -> (Server, mpsc::Receiver<Request>) {
        let (sender, requests) = mpsc::channel(1);
        let hello = Hello { pid: 7, source: "/specs".into() };
        let wording: Wording = Arc::new(|report| match report {
            Report::Note(text) => Some(text[..].into()),
            _ => None,
        });
        (Server::start(directory, hello, sender, wording).unwrap(), requests)
    }

    async fn connect(directory: &Path) -> Client {
        Client::connect(directory, READ_TIMEOUT).await.unwrap()
    }

    fn directory() -> TempDir {
        tempfile::tempdir().unwrap()
    }

    #[tokio::test]
    async fn what_is_asked_is_answered() {
        let state = directory();
        let (server, mut requests) = start(state.path());
        let mode = fs::metadata(state.path().join("socket")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut client = connect(state.path()).await;
        assert_eq!(client.hello, Hello { pid: 7, source: "/specs".into() });
        client.ask(&WireRequest::Reconcile).await.unwrap();
        let request = requests.recv().await.unwrap();
        assert_eq!(request.kind, RequestKind::Reconcile);
        for report in [Report::Note("one".into()), Report::SpecsValid, Report::Note("two".into())] {
            request.reply.send(report).unwrap();
        }
        request.reply.send(Report::Status(Box::default())).unwrap();
        drop(request);
        let told = |event: &str| WireResponse::Event { event: event.into() };
        for expected in [told("one"), told("two"), WireResponse::Status(ControllerStatus::default())] {
            assert_eq!(client.next().await.unwrap(), Some(expected));
        }
        assert_eq!(client.next().await.unwrap(), None);
        server.close().await;
        assert!(matches!(Client::connect(state.path(), READ_TIMEOUT).await, Err(ConnectError::NotListening)));
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0, "the socket is removed");
    }

    #[tokio::test]
    async fn a_long_path_is_no_hindrance() {
        let state = directory();
        let deep = state.path().join("x".repeat(120));
        fs::create_dir(&deep).unwrap();
        let (_server, _requests) = start(&deep);
        connect(&deep).await;
    }

    #[tokio::test]
    async fn the_socket_of_one_that_was_killed_is_replaced() {
        let state = directory();
        drop(UnixListener::bind(state.path().join("socket")).unwrap());
        assert!(matches!(Client::connect(state.path(), READ_TIMEOUT).await, Err(ConnectError::NotListening)));
        let (_server, _requests) = start(state.path());
        connect(state.path()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_answer_is_not_waited_for() {
        let state = directory();
        let _listener = UnixListener::bind(state.path().join("socket")).unwrap();
        assert!(matches!(Client::connect(state.path(), READ_TIMEOUT).await, Err(ConnectError::TimedOut)));
    }

    #[tokio::test]
    async fn nonsense_is_answered_and_too_much_of_it_is_not_read() {
        let state = directory();
        let (_server, _requests) = start(state.path());
        let mut client = connect(state.path()).await;
        client.write.write_all(b"{\"ask\":\"dance\"}\n").await.unwrap();
        assert!(
            matches!(client.next().await.unwrap(), Some(WireResponse::Unsupported { why }) if why.contains("dance"))
        );
        let mut client = connect(state.path()).await;
        // It may hang up in the middle.
        let _ = client.write.write_all(&vec![b'x'; 1024 * 1024]).await;
        assert!(matches!(client.next().await, Ok(Some(WireResponse::Unsupported { .. })) | Err(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_says_nothing_or_reads_nothing_is_let_go() {
        let state = directory();
        let (_server, mut requests) = start(state.path());
        let mut silent = connect(state.path()).await;
        assert_eq!(silent.next().await.unwrap(), None, "after a while");
        let mut deaf = connect(state.path()).await;
        deaf.ask(&WireRequest::Reconcile).await.unwrap();
        let request = requests.recv().await.unwrap();
        let text = "x".repeat(64 * 1024);
        // Far more than the socket holds.
        for _ in 0..64 {
            let _ = request.reply.send(Report::Note(text.clone()));
        }
        request.reply.closed().await;
        connect(state.path()).await;
    }

    #[tokio::test]
    async fn whoever_goes_away_is_forgotten() {
        let state = directory();
        let (_server, mut requests) = start(state.path());
        let mut client = connect(state.path()).await;
        client.ask(&WireRequest::Reconcile).await.unwrap();
        let request = requests.recv().await.unwrap();
        drop(client);
        request.reply.closed().await;
    }

    #[tokio::test]
    async fn many_talk_at_once() {
        let state = directory();
        let (_server, mut requests) = start(state.path());
        let answers = async {
            while let Some(request) = requests.recv().await {
                let _ = request.reply.send(Report::Status(Box::default()));
            }
        };
        let clients = futures_util::future::join_all((0..200).map(|_| async {
            let mut client = connect(state.path()).await;
            client.ask(&WireRequest::Status).await.unwrap();
            assert_eq!(client.next().await.unwrap(), Some(WireResponse::Status(ControllerStatus::default())));
        }));
        tokio::select! {
            _ = clients => {}
            () = answers => panic!("the server has ended"),
        }
    }
}
