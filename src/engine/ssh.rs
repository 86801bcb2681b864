//! Connections to the engine of another host through the system's `ssh`, which knows hosts, keys and agents.
//!
//! One ssh forwards the engine's socket; a connection costs a round trip, and no new login. Where that is not possible
//! (forwarding is forbidden, or the socket is elsewhere), each connection is an ssh that runs `docker system dial-stdio`,
//! as for the Docker CLI.

use std::fmt;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, ReadBuf,
};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::io_message;
use super::target::DEFAULT_SOCKET;

/// Options of every ssh. It never asks for anything: a watch has nobody to answer. It ends if the other side is gone.
const OPTIONS: [&str; 7] = [
    "BatchMode=yes",
    "ConnectTimeout=15",
    "ServerAliveInterval=10",
    "LogLevel=ERROR",
    "RemoteCommand=none",
    "PermitLocalCommand=no",
    // Forwardings in ~/.ssh/config may be in use by another ssh.
    "ExitOnForwardFailure=no",
];
/// Printed by the other side when the login has succeeded; startup files of its shell may print before.
const READY: &str = "drillmaster is connected";
/// Time limit for the forwarded engine to answer after the login.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for reading ~/.ssh/config.
const CONFIG_TIMEOUT: Duration = Duration::from_secs(2);
/// The largest part of ssh's output that is read.
const MOST: u64 = 64 * 1024;

/// `ssh://[user@]host[:port][/path/to/docker.sock]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshHost {
    user: Option<String>,
    host: String,
    port: Option<u16>,
    socket: Option<String>,
}

impl fmt::Display for SshHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ssh://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        match self.host.contains(':') {
            true => write!(f, "[{}]", self.host)?,
            false => f.write_str(&self.host)?,
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(self.socket.as_deref().unwrap_or_default())
    }
}

impl SshHost {
    /// Parses the part after `ssh://`. The path goes through a remote shell, so it may have plain characters only.
    pub fn parse(text: &str) -> Option<SshHost> {
        let (authority, socket) = match text.split_once('/') {
            None | Some((_, "")) => (text.trim_end_matches('/'), None),
            Some((authority, path)) => (authority, Some(format!("/{path}"))),
        };
        let (user, address) = match authority.rsplit_once('@') {
            Some((user, address)) => (Some(user.to_owned()), address),
            None => (None, authority),
        };
        let (host, port) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, rest)) => (host, Some(rest.strip_prefix(':')?)),
            None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map(str::parse).transpose().ok()?;
        // Not an option of ssh.
        let is_word = |word: &str| !word.is_empty() && !word.starts_with('-') && !word.contains(char::is_whitespace);
        let is_plain = |path: &str| path.chars().all(|char| char.is_alphanumeric() || "/._-+@".contains(char));
        let is_valid = is_word(host)
            && user.as_deref().is_none_or(|user| is_word(user) && !user.contains([':', '@']))
            && socket.as_deref().is_none_or(is_plain);
        is_valid.then(|| SshHost { user, host: host.to_owned(), port, socket })
    }

    /// The host as ~/.ssh/config names it, else the one in the address.
    pub(super) async fn hostname(&self) -> String {
        self.configured("hostname").await.unwrap_or_else(|| self.host.clone())
    }

    /// The value of an option in ~/.ssh/config.
    async fn configured(&self, option: &str) -> Option<String> {
        let mut ssh = Command::new("ssh");
        ssh.arg("-G");
        self.address(&mut ssh);
        ssh.stdin(Stdio::null()).kill_on_drop(true);
        let output = timeout(CONFIG_TIMEOUT, ssh.output()).await.ok()?.ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let found = text.lines().find_map(|line| line.strip_prefix(option)?.strip_prefix(' '));
        found.map(str::to_owned)
    }

    fn address(&self, ssh: &mut Command) {
        if let Some(user) = &self.user {
            ssh.args(["-l", user]);
        }
        if let Some(port) = self.port {
            ssh.arg("-p").arg(port.to_string());
        }
        ssh.arg("--").arg(&self.host);
    }

    /// Starts ssh with a command for the other side.
    fn start(&self, options: &[String], command: &[&str]) -> io::Result<Ssh> {
        let mut ssh = Command::new("ssh");
        ssh.args(["-T", "-a", "-x"]);
        OPTIONS.iter().for_each(|option| {
            ssh.args(["-o", option]);
        });
        ssh.args(options);
        self.address(&mut ssh);
        ssh.args(command).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C in the terminal is drillmaster's.
        ssh.process_group(0).kill_on_drop(true);
        let mut child = ssh.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::Error::other("no program ssh; install the OpenSSH client"),
            _ => io::Error::other(format!("cannot run ssh: {}", io_message(&error))),
        })?;
        match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
            (Some(stdin), Some(stdout), Some(stderr)) => {
                Ok(Ssh { stdin: Some(stdin), stdout, errors: tokio::spawn(errors(stderr)), child, has_read: false })
            }
            _ => Err(io::Error::other("cannot run ssh: no pipes")),
        }
    }
}

/// What ssh reports until it ends.
async fn errors(stderr: ChildStderr) -> String {
    let mut text = Vec::new();
    let mut stderr = stderr.take(MOST);
    // What was read until an error counts.
    let _ = stderr.read_to_end(&mut text).await;
    // Keeps the pipe open: ssh would not survive an error that it cannot report.
    let _ = tokio::io::copy(stderr.get_mut(), &mut tokio::io::sink()).await;
    summary(&String::from_utf8_lossy(&text))
}

/// The last lines of ssh's errors; the frames of warnings are left out.
fn summary(text: &str) -> String {
    let lines: Vec<&str> =
        text.lines().map(|line| line.trim().trim_end_matches('.')).filter(|line| !line.is_empty()).collect();
    let lines: Vec<&str> = lines.into_iter().filter(|line| !line.starts_with('@')).collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}

/// A running ssh. As a connection: to a program on the other side. Killed when dropped.
struct Ssh {
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    errors: JoinHandle<String>,
    child: Child,
    has_read: bool,
}

impl Ssh {
    /// The error of an ssh that has ended.
    async fn error(self) -> io::Error {
        let Ssh { stdin, stdout, errors, child: _child, .. } = self;
        drop((stdin, stdout));
        failed(errors.await.unwrap_or_default())
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

fn failed(message: String) -> io::Error {
    io::Error::other(if message.is_empty() { "ssh ended without an error message".into() } else { message })
}

impl AsyncRead for Ssh {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stdout).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.has_read = true;
        } else if !self.has_read {
            // No answer: ssh, or the program that it runs, reports why.
            let message = ready!(Pin::new(&mut self.errors).poll(cx)).unwrap_or_default();
            self.has_read = true;
            return Poll::Ready(Err(failed(message)));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Ssh {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stdin {
            Some(stdin) => Pin::new(stdin).poll_write(cx, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stdin {
            Some(stdin) => Pin::new(stdin).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Closes the pipe: the other side sees the end of the input, and may still send.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        self.stdin = None;
        Poll::Ready(Ok(()))
    }
}

/// A connection to an engine.
pub(super) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Connection for S {}

/// All connections to one host.
#[derive(Default)]
pub(super) struct Tunnel(Mutex<Link>);

/// How connections are made.
#[derive(Default)]
enum Link {
    #[default]
    Unknown,
    Forwarded(Box<Forward>),
    /// Each by an ssh of its own.
    Separate,
}

impl Tunnel {
    /// Opens a connection to the engine.
    pub(super) async fn connect(&self, host: &SshHost) -> io::Result<Box<dyn Connection>> {
        let mut link = self.0.lock().await;
        if let Link::Forwarded(forward) = &mut *link
            && forward.ssh.has_ended()
        {
            *link = Link::Unknown;
        }
        if matches!(*link, Link::Unknown) {
            *link = match Forward::open(host).await {
                Ok(forward) => Link::Forwarded(Box::new(forward)),
                Err(Refusal::Engine) => Link::Separate,
                // A master, which may have asked for a password, can still log in.
                Err(Refusal::Ssh(_)) if host.configured("controlpath").await.is_some_and(|path| path != "none") => {
                    Link::Separate
                }
                Err(Refusal::Ssh(error)) => return Err(error),
            };
        }
        match &*link {
            Link::Forwarded(forward) => Ok(Box::new(UnixStream::connect(&forward.socket).await?)),
            Link::Separate | Link::Unknown => {
                let mut command = vec!["docker"];
                let address = host.socket.as_deref().map(|path| format!("unix://{path}"));
                if let Some(address) = &address {
                    command.extend(["--host", address]);
                }
                command.extend(["system", "dial-stdio"]);
                Ok(Box::new(host.start(&[], &command)?))
            }
        }
    }
}

/// Why the engine's socket is not forwarded.
enum Refusal {
    /// ssh failed.
    Ssh(io::Error),
    /// There is no engine behind the forwarded socket, or no permission.
    Engine,
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        Refusal::Ssh(error)
    }
}

/// An ssh that forwards the engine's socket to one in a private directory. It ends with its standard input, also if
/// drillmaster is killed.
struct Forward {
    ssh: Ssh,
    socket: PathBuf,
    _directory: TempDir,
}

impl Forward {
    async fn open(host: &SshHost) -> Result<Forward, Refusal> {
        let mut private = tempfile::Builder::new();
        let directory = private.prefix("drillmaster-").permissions(Permissions::from_mode(0o700)).tempdir();
        let directory = directory.map_err(|error| {
            io::Error::other(format!("cannot create a directory for a socket: {}", io_message(&error)))
        })?;
        let socket = directory.path().join("docker.sock");
        let forward = format!("{}:{}", socket.display(), host.socket.as_deref().unwrap_or(DEFAULT_SOCKET));
        // A connection shared with other programs would keep the forwarding when drillmaster has ended.
        let options = ["-o", "ControlPath=none", "-L", &forward].map(str::to_owned);
        let mut ssh = host.start(&options, &["cat"])?;
        if let Some(stdin) = &mut ssh.stdin {
            // If ssh has ended, its error is read below.
            let _ = stdin.write_all(format!("{READY}\n").as_bytes()).await;
        }
        let mut lines = BufReader::new((&mut ssh.stdout).take(MOST)).lines();
        let mut is_ready = false;
        while let Ok(Some(line)) = lines.next_line().await {
            is_ready = line == READY;
            if is_ready {
                break;
            }
        }
        match is_ready {
            true if answers(&socket).await => Ok(Forward { ssh, socket, _directory: directory }),
            true => Err(Refusal::Engine),
            // ssh exits with 255 on errors of its own; otherwise it has run another command than `cat`.
            false => match ssh.child.wait().await?.code() {
                Some(255) => Err(Refusal::Ssh(ssh.error().await)),
                _ => Err(Refusal::Engine),
            },
        }
    }
}

/// Returns true if there is an engine behind the socket.
async fn answers(socket: &PathBuf) -> bool {
    let exchange = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n").await?;
        stream.read_u8().await
    };
    matches!(timeout(ANSWER_TIMEOUT, exchange).await, Ok(Ok(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed_and_displayed() {
        for text in ["lab", "ann@lab", "ann@lab:2222", "lab:22/run/user/1000/docker.sock", "ann@[fe80::1]:22", "[::1]"]
        {
            assert_eq!(SshHost::parse(text).unwrap().to_string(), format!("ssh://{text}"));
        }
        assert_eq!(SshHost::parse("lab/").unwrap().to_string(), "ssh://lab");
        for text in [
            "",
            "-oProxyCommand=x",
            "-x@lab",
            "lab:port",
            "@lab",
            "ann:pw@lab",
            "lab/a b",
            "lab/$(x)",
            "lab/a:b",
            "[::1",
        ] {
            assert_eq!(SshHost::parse(text), None, "{text}");
        }
    }

    #[test]
    fn errors_of_ssh_are_summarized() {
        let refused = "ann@lab: Permission denied (publickey).\r\n";
        assert_eq!(summary(refused), "ann@lab: Permission denied (publickey)");
        let changed = "@@@@@@@@@@@\r\n@  WARNING  @\r\n@@@@@@@@@@@\r\nsomething nasty!\r\nAdd correct host key.\r\n\
                       Offending key in known_hosts:1\r\nHost key verification failed.\r\n";
        assert_eq!(
            summary(changed),
            "Add correct host key; Offending key in known_hosts:1; Host key verification failed"
        );
        assert_eq!(summary(""), "");
    }
}
