//! Commands of pings and hooks: runs one to its end, on the host or in a container, tells its output as it comes, and
//! leaves nothing of it behind. What is run, and what its end means, is for others to say.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::outputs::OUTPUT;
use crate::engine::lines::Lines;
use crate::engine::{Engine, Exec, LogLine};

/// What commands are told about where they belong.
pub(super) const GROUP: &str = "DRILLMASTER_GROUP";
pub(super) const SERVICE: &str = "DRILLMASTER_SERVICE";
pub(super) const REPLICA: &str = "DRILLMASTER_REPLICA";
pub(super) const CONTAINER: &str = "DRILLMASTER_CONTAINER";
pub(super) const CONTAINER_NAME: &str = "DRILLMASTER_CONTAINER_NAME";
pub(super) const EVENT: &str = "DRILLMASTER_EVENT";
const OWN: [&str; 7] = [GROUP, SERVICE, REPLICA, CONTAINER, CONTAINER_NAME, EVENT, OUTPUT];

/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// What was written before the end has so long to come. Children that were left behind may hold the pipes for ever.
const DRAIN_DELAY: Duration = Duration::from_millis(500);
/// How long it may take to end a command in a container.
const KILL_GRACE: Duration = Duration::from_secs(10);
/// How much is read at once.
const PIECE: usize = 32 * 1024;

/// A command to run.
#[derive(Debug, Clone)]
pub struct Command<'a> {
    /// Program and arguments; at least the program.
    pub words: &'a [String],
    /// Where.
    pub place: ExecTarget<'a>,
    /// Variables, beside those that the place has.
    pub variables: BTreeMap<String, String>,
    /// How long it may take.
    pub limit: Duration,
}

/// Where a command runs.
#[derive(Debug, Clone, Copy)]
pub enum ExecTarget<'a> {
    /// On the host, started in this directory.
    Host(&'a Path),
    /// In the container of this id.
    Container(&'a str),
}

/// Why a command or a function did not succeed. Displayed, the reason stands in front of the last lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The reason, in a sentence: `./greet.sh exited with 3`.
    pub why: String,
    /// The last lines that it wrote, at most ten.
    pub output: Vec<String>,
}

impl Failed {
    /// Tells the lines, as what a command writes is told.
    pub(super) fn told_to(self, heard: &mut dyn FnMut(LogLine)) -> Failed {
        self.output.iter().for_each(|line| heard(LogLine { stderr: true, text: line.clone() }));
        self
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.output.as_slice() {
            [] => f.write_str(&self.why),
            [line] => write!(f, "{}: {line}", self.why),
            lines => write!(f, "{}:\n{}", self.why, lines.join("\n")),
        }
    }
}

/// Why something was not waited for any longer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Aborted {
    /// Its time was over.
    TimedOut,
    /// The run was interrupted.
    Interrupted,
}

/// Runs a command until it ends, its time is over or the run is interrupted; then it is killed with its children. One
/// on the host is killed as well when the call is dropped; one in a container goes on then.
///
/// # Errors
///
/// Why it did not succeed, for people, without its output: `./greet.sh exited with 3`.
pub async fn run(
    engine: &dyn Engine,
    command: &Command<'_>,
    interrupted: &CancellationToken,
    heard: &mut (dyn FnMut(LogLine) + Send),
) -> Result<(), String> {
    match command.place {
        ExecTarget::Host(directory) => on_host(command, directory, interrupted, heard).await,
        ExecTarget::Container(id) => in_container(engine, command, id, interrupted, heard).await,
    }
}

/// Waits for something as long as it may take; the error says why no longer. What is given up is dropped.
pub(super) async fn run_until_aborted<T>(
    limit: Duration,
    interrupted: &CancellationToken,
    done: impl Future<Output = T>,
) -> Result<T, Aborted> {
    tokio::select! {
        // In this order, so that output without end does not keep the others from their turn.
        biased;
        // cancel-safe because it is decided either way
        () = interrupted.cancelled() => Err(Aborted::Interrupted),
        // cancel-safe for the same reason
        () = sleep(limit) => Err(Aborted::TimedOut),
        // cancel-safe for the same reason
        result = done => Ok(result),
    }
}

fn was_cut(command: &Command<'_>, cut: Aborted, killed: &str) -> String {
    let program = &command.words[0];
    match cut {
        Aborted::TimedOut => format!("{program} did not end within {} s {killed}", command.limit.as_secs_f64()),
        Aborted::Interrupted => format!("{program} was interrupted {killed}"),
    }
}

async fn on_host(
    command: &Command<'_>,
    directory: &Path,
    interrupted: &CancellationToken,
    heard: &mut (dyn FnMut(LogLine) + Send),
) -> Result<(), String> {
    let program = &command.words[0];
    let mut process = tokio::process::Command::new(program);
    // We may run in a hook ourselves; what that was told is not about this one.
    for name in OWN {
        process.env_remove(name);
    }
    let mut child = process
        .args(&command.words[1..])
        .current_dir(directory)
        .envs(&command.variables)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| unstartable(program, directory, &error))?;
    // Its children are in its process group: whatever is left of them goes with it.
    let group = ProcessGroup(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    let mut output = Output::of(&mut child);
    let ended = run_until_aborted(command.limit, interrupted, output.until_exit(&mut child, heard)).await;
    if ended.is_err() {
        group.signal(Signal::TERM);
        let _ = timeout(GRACE, output.until_exit(&mut child, heard)).await;
        group.signal(Signal::KILL);
    }
    let _ = timeout(DRAIN_DELAY, output.until_closed(heard)).await;
    drop(group);
    output.lines.rest().into_iter().for_each(heard);
    match ended {
        Ok(Ok(status)) => verdict(program, status),
        Ok(Err(error)) => Err(format!("{program}: {}", io_message(&error))),
        Err(cut) => {
            // Until it is gone; one that hangs in the kernel is not waited for.
            let _ = timeout(GRACE, child.wait()).await;
            Err(was_cut(command, cut, "and was killed"))
        }
    }
}

/// What a process writes to its two streams.
struct Output {
    pieces: BoxStream<'static, (bool, Vec<u8>)>,
    lines: Lines,
}

impl Output {
    fn of(child: &mut Child) -> Output {
        let out = child.stdout.take().map(|pipe| pieces(false, pipe));
        let err = child.stderr.take().map(|pipe| pieces(true, pipe));
        let [out, err] = [out, err].map(|pieces| pieces.unwrap_or_else(|| stream::empty().boxed()));
        Output { pieces: stream::select(out, err).boxed(), lines: Lines::default() }
    }

    async fn until_exit(
        &mut self,
        child: &mut Child,
        heard: &mut (dyn FnMut(LogLine) + Send),
    ) -> io::Result<ExitStatus> {
        loop {
            tokio::select! {
                // cancel-safe because a piece that did not come stays in the pipe
                Some((stderr, piece)) = self.pieces.next() => {
                    self.lines.take(stderr, &piece).into_iter().for_each(&mut *heard);
                }
                // cancel-safe because it can be waited for again
                status = child.wait() => return status,
            }
        }
    }

    async fn until_closed(&mut self, heard: &mut (dyn FnMut(LogLine) + Send)) {
        while let Some((stderr, piece)) = self.pieces.next().await {
            self.lines.take(stderr, &piece).into_iter().for_each(&mut *heard);
        }
    }
}

fn pieces(stderr: bool, pipe: impl AsyncRead + Send + Unpin + 'static) -> BoxStream<'static, (bool, Vec<u8>)> {
    let read = move |mut pipe| async move {
        let mut piece = vec![0; PIECE];
        // A pipe that cannot be read is at its end.
        let length = AsyncReadExt::read(&mut pipe, &mut piece).await.unwrap_or(0);
        piece.truncate(length);
        (length > 0).then_some(((stderr, piece), pipe))
    };
    stream::unfold(pipe, read).boxed()
}

/// Kills a process group when it is dropped.
struct ProcessGroup(Option<Pid>);

impl ProcessGroup {
    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.0 {
            // It may be gone already, which is what is wanted.
            let _ = kill_process_group(leader, signal);
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

fn verdict(program: &str, status: ExitStatus) -> Result<(), String> {
    match (status.code(), status.signal()) {
        (Some(code), _) => exited(program, i64::from(code)),
        (None, Some(signal)) => Err(format!("{program} was killed by signal {signal}")),
        (None, None) => Err(format!("{program} ended without an exit code")),
    }
}

fn exited(program: &str, code: i64) -> Result<(), String> {
    if code == 0 { Ok(()) } else { Err(format!("{program} exited with {code}")) }
}

fn unstartable(program: &str, directory: &Path, error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => " (is it executable?)".to_owned(),
        io::ErrorKind::NotFound if directory.join(program).is_file() => {
            " (the file is there: does the interpreter in its first line exist?)".to_owned()
        }
        io::ErrorKind::NotFound if program.contains('/') => format!(" (looked for from {})", directory.display()),
        io::ErrorKind::NotFound => " (not in the PATH; a program of the spec directory is written with ./)".to_owned(),
        _ => String::new(),
    };
    format!("cannot run {program}: {}{hint}", io_message(error))
}

/// `connection refused`, not `Connection refused (os error 111)`.
pub(super) fn io_message(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut characters = text.chars();
    characters.next().map(|first| first.to_lowercase().chain(characters).collect()).unwrap_or_default()
}

/// The variable by which a command in a container and its children are known there.
const MARK: &str = "DRILLMASTER_CALL";

/// Kills every process with a mark (`$0`) in its environment, again until there is none: one may have forked meanwhile.
/// Needs no more than `sh` and `cat`; `grep` is not the same everywhere where text holds NULs.
const END: &str = r#"
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

async fn in_container(
    engine: &dyn Engine,
    command: &Command<'_>,
    id: &str,
    interrupted: &CancellationToken,
    heard: &mut (dyn FnMut(LogLine) + Send),
) -> Result<(), String> {
    let mark = mark();
    let mut env = command.variables.clone();
    env.insert(MARK.to_owned(), mark.clone());
    let exec = Exec { command: command.words.to_vec(), env, limit: command.limit };
    match run_until_aborted(command.limit, interrupted, engine.exec(id, &exec, heard)).await {
        Ok(Ok(code)) => exited(&command.words[0], code),
        Ok(Err(error)) => Err(error.to_string()),
        Err(cut) if end(engine, id, &mark).await => Err(was_cut(command, cut, "and was killed")),
        Err(cut) => Err(was_cut(command, cut, "and could not be killed: it may go on in its container")),
    }
}

/// Kills a command in a container, with its children. No call of the engine does that, so a shell in there has to;
/// false where there is none.
async fn end(engine: &dyn Engine, id: &str, mark: &str) -> bool {
    let command = ["sh".into(), "-c".into(), END.into(), format!("{MARK}={mark}")].into();
    let exec = Exec { command, env: BTreeMap::new(), limit: KILL_GRACE };
    matches!(timeout(KILL_GRACE, engine.exec(id, &exec, &mut drop)).await, Ok(Ok(0)))
}

/// A value that nothing else has, and that is not the beginning of another.
pub(super) fn mark() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("{:x}-{now:x}-{}.", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}
