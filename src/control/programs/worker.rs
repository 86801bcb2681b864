//! The worker: a process of drillmaster that evaluates programs and calls their functions.
//!
//! Standard input is the socket to its parent; when the parent closes it or dies, the worker ends, whatever it does.
//! Standard output is a file in memory that always has the statement that is executed.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};
use serde::de::DeserializeOwned;

use super::wire::{self, FromWorker, HostRequest, MAX_MESSAGE, MAX_REQUEST, ToWorker};
use crate::engine::lines::truncate;
use crate::spec::starlark::{
    Evaluated, FileAnswer, FileQuery, Host, HttpTarget, ProgramError, Ran, Response, Trace, evaluate,
};
use crate::spec::{Diagnostic, FileAccess};

/// The argument that makes drillmaster a worker.
pub const ARGUMENT: &str = "__programs";
/// Maximum address space of a worker in bytes, with its stack and the program itself.
pub const MAX_MEMORY: u64 = 1 << 30;
/// Stack size in bytes: calls and values may be nested, and evaluator and destructors are recursive. Only the used part
/// takes memory.
const STACK: usize = 256 << 20;
/// Maximum length of a printed line in bytes; longer ones are truncated.
const MAX_LINE: usize = 64 << 10;

/// Serves the parent until it closes the connection.
///
/// # Errors
///
/// If the process was not started by drillmaster.
pub fn serve() -> io::Result<()> {
    let limit = |resource, bytes| setrlimit(resource, Rlimit { current: Some(bytes), maximum: Some(bytes) });
    limit(Resource::As, MAX_MEMORY)?;
    limit(Resource::Core, 0)?;
    let mut socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let statement = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let (messages, inbox) = sync_channel(1);
    let parent = Parent { socket: RefCell::new(socket.try_clone()?), inbox };
    let work = move || {
        if catch_unwind(AssertUnwindSafe(|| parent.serve(&StatementFile(statement)))).is_err() {
            // The parent reads what the panic printed.
            std::process::abort();
        }
    };
    std::thread::Builder::new().name("programs".into()).stack_size(STACK).spawn(work)?;
    // Until the parent closes the connection.
    while let Ok(message) = wire::read::<ToWorker>(&mut socket) {
        if messages.send(message).is_err() {
            break;
        }
    }
    Ok(())
}

/// Runs `work` on a thread with the stack of a worker and waits for it.
///
/// # Errors
///
/// If the thread cannot be spawned.
pub fn with_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|threads| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(threads, work)?;
        Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// The file that has the statement that is executed.
struct StatementFile(File);

/// Encodes a statement: file index, start and end.
fn encode_statement(file: usize, span: Range<usize>) -> [u8; 24] {
    let mut bytes = [0; 24];
    for (chunk, number) in bytes.chunks_exact_mut(8).zip([file, span.start, span.end]) {
        chunk.copy_from_slice(&(number as u64).to_le_bytes());
    }
    bytes
}

/// Decodes a statement; see [`encode_statement`].
pub(super) fn decode_statement(bytes: [u8; 24]) -> (usize, Range<usize>) {
    let mut numbers = bytes.chunks_exact(8).map(|chunk| {
        let number = chunk.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        usize::try_from(number).unwrap_or(0)
    });
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next()..next())
}

impl Trace for StatementFile {
    fn statement(&self, file: usize, span: Range<usize>) {
        // Without it, only the location of an error is missing.
        let _ = self.0.write_all_at(&encode_statement(file, span), 0);
    }
}

/// The parent as programs and functions see it.
struct Parent {
    socket: RefCell<UnixStream>,
    inbox: Receiver<ToWorker>,
}

impl Parent {
    fn serve(&self, trace: &dyn Trace) {
        let Ok(ToWorker::Evaluate(programs)) = self.inbox.recv() else { return };
        let (evaluated, session) = evaluate(&programs, self, trace);
        if !self.send(&FromWorker::Evaluated(Box::new(evaluated)), MAX_MESSAGE) {
            let errors = vec![too_large("the generated specs are", MAX_MESSAGE)];
            self.send(&FromWorker::Evaluated(Box::new(Evaluated { errors, ..Evaluated::default() })), MAX_MESSAGE);
        }
        while let Ok(ToWorker::Call { index, context }) = self.inbox.recv() {
            if !self.send(&FromWorker::Returned(session.call(index, &context, self, trace)), MAX_REQUEST) {
                self.send(&FromWorker::Returned(Err(too_large("the outputs are", MAX_REQUEST))), MAX_REQUEST);
            }
        }
    }

    /// Sends a message; false if it is larger than `maximum` bytes. A parent that cannot be reached kills this process.
    fn send(&self, message: &FromWorker, maximum: usize) -> bool {
        let Ok(bytes) = wire::encode(message, maximum) else { return false };
        let _ = wire::write(&mut *self.socket.borrow_mut(), &bytes);
        true
    }

    fn query(&self, query: FileQuery) -> Result<FileAnswer, String> {
        self.send(&FromWorker::Query(query), MAX_REQUEST);
        match self.inbox.recv() {
            Ok(ToWorker::Answer(answer)) => answer,
            _ => Err("the connection to drillmaster is lost".into()),
        }
    }

    fn request<T: DeserializeOwned>(&self, request: HostRequest) -> Result<T, String> {
        if !self.send(&FromWorker::Request(request), MAX_REQUEST) {
            return Err(too_large("the arguments are", MAX_REQUEST).message);
        }
        match self.inbox.recv() {
            Ok(ToWorker::Reply(reply)) => serde_json::from_value(reply?).map_err(|error| error.to_string()),
            _ => Err("the connection to drillmaster is lost".into()),
        }
    }
}

fn too_large(what: &str, maximum: usize) -> ProgramError {
    ProgramError::from(Diagnostic::new(format!("{what} larger than {} MiB", maximum >> 20)))
}

impl FileAccess for Parent {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        match self.query(FileQuery::Read(path.to_owned()))? {
            FileAnswer::Text(text) => Ok(text.into_bytes()),
            FileAnswer::Names(_) => Err("it is a directory".into()),
        }
    }

    fn list(&self, path: &str) -> Result<Vec<(String, bool)>, String> {
        match self.query(FileQuery::List(path.to_owned()))? {
            FileAnswer::Names(names) => Ok(names),
            FileAnswer::Text(_) => Err("it is a file".into()),
        }
    }
}

impl Host for Parent {
    fn exec(&self, command: &[String], limit: Option<Duration>) -> Result<Ran, String> {
        self.request(HostRequest::Exec(command.to_vec(), limit))
    }

    fn run(&self, command: &[String], limit: Option<Duration>) -> Result<Ran, String> {
        self.request(HostRequest::Run(command.to_vec(), limit))
    }

    fn get(&self, target: &HttpTarget, limit: Option<Duration>) -> Result<Response, String> {
        self.request(HostRequest::Get(target.clone(), limit))
    }

    fn tcp(&self, port: u16) -> Result<bool, String> {
        self.request(HostRequest::Tcp(port))
    }

    fn logs(&self, lines: u32) -> Result<Vec<String>, String> {
        self.request(HostRequest::Logs(lines))
    }

    fn sleep(&self, time: Duration) -> Result<(), String> {
        self.request(HostRequest::Sleep(time))
    }

    fn say(&self, line: &str) {
        let mut line = line.to_owned();
        truncate(&mut line, MAX_LINE);
        self.send(&FromWorker::Print(line), MAX_REQUEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_decoded_as_they_were_encoded() {
        for (file, span) in [(0, 0..0), (3, 70_000..70_010), (1 << 20, 1..(1 << 40))] {
            assert_eq!(decode_statement(encode_statement(file, span.clone())), (file, span));
        }
    }
}
