//! Commands of hooks and probes: runs one on the host or in a container, passes on its output line by line, and leaves no
//! process behind. The caller decides what its result means.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::context::{ExecContext, NOT_INHERITED};
use super::supervisor::{MESSAGE_SIZE, Message, SUPERVISE};
use crate::control::error::CommandError;
use crate::engine::lines::Lines;
use crate::engine::{Engine, Exec, LogLine, io_message};

/// Time between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// How long to read output after the command has exited. Children that it left behind may hold the pipes open forever.
const DRAIN_DELAY: Duration = Duration::from_millis(500);
/// How long killing a command in a container may take.
const KILL_GRACE: Duration = Duration::from_secs(10);
/// How many bytes are read at once.
const CHUNK_SIZE: usize = 32 * 1024;

/// A command to run.
#[derive(Debug, Clone)]
pub struct Command<'a> {
    /// Program and arguments; never empty.
    pub words: &'a [String],
    pub target: ExecTarget<'a>,
    /// Environment variables besides those of the target.
    pub variables: BTreeMap<String, String>,
    /// Time limit.
    pub limit: Duration,
}

/// Where a command runs.
#[derive(Debug, Clone, Copy)]
pub enum ExecTarget<'a> {
    /// The host, in the spec directory.
    Host(&'a ExecContext),
    /// The container with this id.
    Container(&'a str),
}

/// Reason why work was aborted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Aborted {
    TimedOut,
    Interrupted,
}

/// Runs a command to its end. On timeout or interrupt it is killed with its children. Dropping the future also kills a
/// command on the host; one in a container continues. On the host, no process that it started is left.
///
/// # Errors
///
/// The reason why the command failed, without its output.
pub async fn run(
    engine: &dyn Engine,
    command: &Command<'_>,
    interrupted: &CancellationToken,
    on_line: &mut (dyn FnMut(LogLine) + Send),
) -> Result<(), CommandError> {
    match command.target {
        ExecTarget::Host(context) => run_on_host(command, context, interrupted, on_line).await,
        ExecTarget::Container(id) => run_in_container(engine, command, id, interrupted, on_line).await,
    }
}

/// Awaits `work` until the timeout or the interrupt. Aborted work is dropped.
pub(super) async fn run_until_aborted<T>(
    limit: Duration,
    interrupted: &CancellationToken,
    work: impl Future<Output = T>,
) -> Result<T, Aborted> {
    tokio::select! {
        // In this order, so that endless output does not delay the others.
        biased;
        // cancel-safe because the outcome is decided either way
        () = interrupted.cancelled() => Err(Aborted::Interrupted),
        // cancel-safe for the same reason
        () = sleep(limit) => Err(Aborted::TimedOut),
        // cancel-safe for the same reason
        result = work => Ok(result),
    }
}

fn aborted(command: &Command<'_>, aborted: Aborted, killed: bool) -> CommandError {
    let program = command.words[0].clone();
    match aborted {
        Aborted::TimedOut => CommandError::TimedOut { program, limit: command.limit, killed },
        Aborted::Interrupted => CommandError::Interrupted { program, killed },
    }
}

async fn run_on_host(
    command: &Command<'_>,
    context: &ExecContext,
    interrupted: &CancellationToken,
    on_line: &mut (dyn FnMut(LogLine) + Send),
) -> Result<(), CommandError> {
    let program = &command.words[0];
    let wait_error = |error| CommandError::Wait { program: program.clone(), reason: io_message(&error) };
    let (mut child, control) = start(command, context).map_err(|error| CommandError::Start {
        program: program.clone(),
        reason: format!("cannot start its supervisor in {}: {}", context.directory.display(), io_message(&error)),
    })?;
    let mut output = Output::new(&mut child);
    let result = run_until_aborted(command.limit, interrupted, output.read_until_exit(&control, on_line)).await;
    if result.is_err() {
        // A full socket is impossible, and a closed one means that there is no process to signal.
        let _ = control.try_write(&[0]);
        let _ = timeout(GRACE, output.read_until_exit(&control, on_line)).await;
    } else {
        let _ = timeout(DRAIN_DELAY, output.read_until_closed(on_line)).await;
    }
    // The supervisor kills what is left and exits. A process may hang in the kernel.
    drop(control);
    let _ = timeout(DRAIN_DELAY, output.read_until_closed(on_line)).await;
    output.lines.rest().into_iter().for_each(on_line);
    let _ = timeout(GRACE, child.wait()).await;
    match result {
        Ok(Ok(Message::Exited(status))) => check_status(program, status),
        Ok(Ok(Message::NotStarted(error))) => Err(start_error(program, &context.directory, &error)),
        Ok(Err(error)) => Err(wait_error(error)),
        Err(reason) => Err(aborted(command, reason, true)),
    }
}

/// Starts the supervisor of a command. When the stream is closed, the supervisor kills every process of the command.
fn start(command: &Command<'_>, context: &ExecContext) -> io::Result<(Child, UnixStream)> {
    let (control, stdin) = UnixStream::pair()?;
    let stdin = stdin.into_std()?;
    stdin.set_nonblocking(false)?;
    let mut process = tokio::process::Command::new(&context.executable);
    for name in NOT_INHERITED {
        process.env_remove(name);
    }
    let child = process
        .arg0("drillmaster")
        .arg(SUPERVISE)
        .args(command.words)
        .current_dir(&context.directory)
        .envs(&command.variables)
        .stdin(OwnedFd::from(stdin))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    Ok((child, control))
}

/// Receives the message of a supervisor.
async fn receive(control: &UnixStream) -> io::Result<Message> {
    let mut message = [0; MESSAGE_SIZE];
    loop {
        control.readable().await?;
        match control.try_read(&mut message) {
            Ok(MESSAGE_SIZE) => return Ok(Message::decode(message)),
            Ok(_) => return Err(io::Error::other("its supervisor was killed")),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Output of a process on stdout and stderr.
struct Output {
    chunks: BoxStream<'static, (bool, Vec<u8>)>,
    lines: Lines,
}

impl Output {
    fn new(child: &mut Child) -> Output {
        let stdout = child.stdout.take().map(|pipe| chunks(false, pipe));
        let stderr = child.stderr.take().map(|pipe| chunks(true, pipe));
        let [stdout, stderr] = [stdout, stderr].map(|chunks| chunks.unwrap_or_else(|| stream::empty().boxed()));
        Output { chunks: stream::select(stdout, stderr).boxed(), lines: Lines::default() }
    }

    async fn read_until_exit(
        &mut self,
        control: &UnixStream,
        on_line: &mut (dyn FnMut(LogLine) + Send),
    ) -> io::Result<Message> {
        loop {
            tokio::select! {
                // cancel-safe because a chunk that was not received stays in the pipe
                Some((stderr, chunk)) = self.chunks.next() => {
                    self.lines.take(stderr, &chunk).into_iter().for_each(&mut *on_line);
                }
                // cancel-safe because the message is read at once or stays in the socket
                message = receive(control) => return message,
            }
        }
    }

    async fn read_until_closed(&mut self, on_line: &mut (dyn FnMut(LogLine) + Send)) {
        while let Some((stderr, chunk)) = self.chunks.next().await {
            self.lines.take(stderr, &chunk).into_iter().for_each(&mut *on_line);
        }
    }
}

fn chunks(stderr: bool, pipe: impl AsyncRead + Send + Unpin + 'static) -> BoxStream<'static, (bool, Vec<u8>)> {
    let read = move |mut pipe| async move {
        let mut chunk = vec![0; CHUNK_SIZE];
        // A read error counts as the end of the pipe.
        let length = AsyncReadExt::read(&mut pipe, &mut chunk).await.unwrap_or(0);
        chunk.truncate(length);
        (length > 0).then_some(((stderr, chunk), pipe))
    };
    stream::unfold(pipe, read).boxed()
}

fn check_status(program: &str, status: ExitStatus) -> Result<(), CommandError> {
    match (status.code(), status.signal()) {
        (Some(code), _) => check_code(program, i64::from(code)),
        (None, Some(signal)) => Err(CommandError::Signalled { program: program.to_owned(), signal }),
        (None, None) => Err(CommandError::NoExitCode { program: program.to_owned() }),
    }
}

fn check_code(program: &str, code: i64) -> Result<(), CommandError> {
    if code == 0 { Ok(()) } else { Err(CommandError::Exited { program: program.to_owned(), code }) }
}

fn start_error(program: &str, directory: &Path, error: &io::Error) -> CommandError {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => " (is it executable?)".to_owned(),
        io::ErrorKind::NotFound if directory.join(program).is_file() => {
            " (the file exists; check the interpreter in its first line)".to_owned()
        }
        io::ErrorKind::NotFound if program.contains('/') => format!(" (relative to {})", directory.display()),
        io::ErrorKind::NotFound => " (not in PATH; for a program in the spec directory, write ./)".to_owned(),
        _ => String::new(),
    };
    CommandError::Start { program: program.to_owned(), reason: format!("{}{hint}", io_message(error)) }
}

/// Environment variable that identifies a command in a container, and its children.
const CALL_ID: &str = "DRILLMASTER_CALL";

/// Kills every process that has `$0` in its environment, repeatedly until there is none: a process may fork meanwhile.
/// Needs only `sh` and `cat`; implementations of `grep` differ in how they treat text with NULs.
const KILL_SCRIPT: &str = r#"
for round in 1 2 3 4 5 6 7 8 9 10; do
    found=
    for process in /proc/[0-9]*; do
        case "$(cat "$process/environ" 2>/dev/null)" in
        *"$0"*) kill -KILL "${process#/proc/}" 2>/dev/null && found=1 ;;
        esac
    done
    test "$found" || exit 0
done
exit 1
"#;

async fn run_in_container(
    engine: &dyn Engine,
    command: &Command<'_>,
    id: &str,
    interrupted: &CancellationToken,
    on_line: &mut (dyn FnMut(LogLine) + Send),
) -> Result<(), CommandError> {
    let call_id = unique_id();
    let mut env = command.variables.clone();
    env.insert(CALL_ID.to_owned(), call_id.clone());
    let exec = Exec { command: command.words.to_vec(), env, limit: command.limit };
    match run_until_aborted(command.limit, interrupted, engine.exec(id, &exec, on_line)).await {
        Ok(result) => check_code(&command.words[0], result?),
        Err(reason) => Err(aborted(command, reason, kill_in_container(engine, id, &call_id).await)),
    }
}

/// Kills a command in a container with its children, and returns true if that succeeded. The engine has no call for
/// that, so a shell in the container is needed.
async fn kill_in_container(engine: &dyn Engine, id: &str, call_id: &str) -> bool {
    let command = ["sh".into(), "-c".into(), KILL_SCRIPT.into(), format!("{CALL_ID}={call_id}")].into();
    let exec = Exec { command, env: BTreeMap::new(), limit: KILL_GRACE };
    matches!(timeout(KILL_GRACE, engine.exec(id, &exec, &mut drop)).await, Ok(Ok(0)))
}

/// A string that is unique on this host and not a prefix of another.
pub(super) fn unique_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("{:x}-{now:x}-{}.", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}
