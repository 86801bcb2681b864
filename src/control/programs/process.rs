//! The process of a worker, as drillmaster sees it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::wire::{self, FromWorker, MAX_MESSAGE, ToWorker};
use super::worker::{ARGUMENT, MAX_MEMORY, decode_statement};
use crate::spec::starlark::{Evaluated, FileAnswer, FileQuery, Place, ProgramError, Programs};

/// Maximum number of bytes that are read of a worker's last words.
const MAX_LAST_WORDS: usize = 4096;

/// Frames of messages on an asynchronous connection.
pub type Messages = Framed<tokio::net::UnixStream, LengthDelimitedCodec>;

/// The process of a worker. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    socket: UnixStream,
    /// Receives the statement that is executed.
    statement: File,
    /// Receives what the runtime prints when it aborts.
    stderr: File,
}

impl Process {
    /// Starts a worker.
    ///
    /// # Errors
    ///
    /// If the program cannot be started.
    pub fn start(program: &Path) -> io::Result<Process> {
        let (socket, theirs) = UnixStream::pair()?;
        let statement = File::from(memfd_create("statement", MemfdFlags::CLOEXEC)?);
        let stderr = File::from(memfd_create("stderr", MemfdFlags::CLOEXEC)?);
        let child = Command::new(program)
            .arg0("drillmaster")
            .arg(ARGUMENT)
            // The variables that programs can read are in a message.
            .env_clear()
            .current_dir("/")
            // Not in the foreground, so that Ctrl-C does not reach it.
            .process_group(0)
            .stdin(std::os::fd::OwnedFd::from(theirs))
            .stdout(statement.try_clone()?)
            .stderr(stderr.try_clone()?)
            .spawn()?;
        Ok(Process { child, socket, statement, stderr })
    }

    /// Evaluates programs.
    ///
    /// # Errors
    ///
    /// If the worker ends or the deadline passes; [`Process::end`] then tells more.
    pub fn evaluate(
        &mut self,
        programs: &Programs,
        mut answer: impl FnMut(&FileQuery) -> Result<FileAnswer, String>,
        deadline: Instant,
    ) -> Result<Evaluated, NoAnswer> {
        let mut connection = Connection { socket: &self.socket, deadline };
        let failed = |_: io::Error| if Instant::now() < deadline { NoAnswer::Ended } else { NoAnswer::TimedOut };
        let send = |connection: &mut Connection<'_>, message: &ToWorker| {
            wire::encode(message, MAX_MESSAGE).and_then(|bytes| wire::write(connection, &bytes)).map_err(failed)
        };
        send(&mut connection, &ToWorker::Evaluate(programs.clone()))?;
        loop {
            match wire::read(&mut connection).map_err(failed)? {
                FromWorker::Query(query) => send(&mut connection, &ToWorker::Answer(answer(&query)))?,
                FromWorker::Evaluated(evaluated) => return Ok(*evaluated),
                FromWorker::Request(_) | FromWorker::Print(_) | FromWorker::Returned(_) => return Err(NoAnswer::Ended),
            }
        }
    }

    /// Returns the connection for a call of a function. Must be called in a tokio runtime.
    ///
    /// # Errors
    ///
    /// If the runtime cannot use the socket.
    pub fn messages(&self) -> io::Result<Messages> {
        let socket = self.socket.try_clone()?;
        socket.set_nonblocking(true)?;
        let codec = LengthDelimitedCodec::builder().max_frame_length(MAX_MESSAGE).new_codec();
        Ok(Framed::new(tokio::net::UnixStream::from_std(socket)?, codec))
    }

    /// Returns the statement that is executed.
    pub fn place(&self, programs: &Programs) -> Option<Place> {
        let mut bytes = [0; 24];
        self.statement.read_exact_at(&mut bytes, 0).ok()?;
        let (index, span) = decode_statement(bytes);
        Some(Place { path: programs.texts.keys().nth(index)?.clone(), span })
    }

    /// Ends the worker and returns the error of its programs.
    pub fn end(mut self, no_answer: NoAnswer, programs: &Programs, limit: Duration) -> ProgramError {
        let status = self.kill();
        let (message, hint) = match (no_answer, status) {
            (NoAnswer::TimedOut, _) => (
                format!("the program takes longer than {} s", limit.as_secs_f64()),
                Some("check for values that contain each other many times, and for large results"),
            ),
            (NoAnswer::Ended, status) => self.explain(status),
        };
        let place = self.place(programs);
        ProgramError { message, hint: hint.map(str::to_owned), place, related: Vec::new(), is_defect: false }
    }

    /// Explains why the worker ended by itself, from what the runtime printed.
    fn explain(&self, status: Option<ExitStatus>) -> (String, Option<&'static str>) {
        let mut text = [0; MAX_LAST_WORDS];
        let length = self.stderr.read_at(&mut text, 0).unwrap_or(0);
        let text = String::from_utf8_lossy(&text[..length]);
        // The last is a limit of the library on the size of a value.
        if ["memory allocation of", "out of memory", "AlignedSize must not exceed"].iter().any(|it| text.contains(it)) {
            let message = format!("the program uses more than {} GiB of memory", MAX_MEMORY >> 30);
            (message, Some("check for a list or string that grows without bound"))
        } else if text.contains("has overflowed its stack") {
            let message = "values or calls are nested too deeply".to_owned();
            (message, Some("check for a value that is put into itself again and again"))
        } else if let Some((_, panic)) = text.split_once(" panicked at ") {
            let panic = panic.lines().nth(1).unwrap_or_default();
            (format!("the Starlark interpreter panicked: {panic}"), None)
        } else {
            let status = status.map_or_else(|| "it was lost".to_owned(), |status| status.to_string());
            let line = text.lines().next().map(|line| format!(": {line}")).unwrap_or_default();
            (format!("the process that evaluates programs ended ({status}){line}"), None)
        }
    }

    fn kill(&mut self) -> Option<ExitStatus> {
        // It may have ended by itself.
        let _ = self.child.kill();
        self.child.wait().ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Why a worker did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAnswer {
    TimedOut,
    /// It ended, or sent something invalid.
    Ended,
}

/// A connection whose reads and writes end at a deadline.
struct Connection<'a> {
    socket: &'a UnixStream,
    deadline: Instant,
}

impl Connection<'_> {
    fn time_left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for Connection<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(self.time_left()?))?;
        self.socket.read(buffer)
    }
}

impl Write for Connection<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(Some(self.time_left()?))?;
        self.socket.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}
