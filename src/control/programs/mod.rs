//! Evaluation of Starlark programs in processes of their own.
//!
//! A program can run forever or exhaust memory within a single operation of the interpreter, which cannot be interrupted.
//! So drillmaster starts itself as a [`worker`], which limits its own memory and is killed at a deadline. The statement
//! that it executed then is known, because it is written to a file in memory.
//!
//! A worker that has evaluated programs waits for calls of their functions, one at a time. If there is none for a call,
//! another worker evaluates the same programs with the same inputs.

mod process;
pub(super) mod wire;
pub mod worker;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub(super) use process::{Messages, NoAnswer, Process};

use crate::engine::io_message;
use crate::spec::starlark::{
    Evaluated, FileAnswer, FileQuery, Function, Interpreter, ProgramError, Programs, Snapshot,
};
use crate::spec::{Diagnostic, FileAccess};

/// How long the programs of a spec directory may take, unless set otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of workers that wait for calls.
const MAX_IDLE: usize = 4;
/// This program, also if its file was replaced since it was started (proc(5)).
pub const SELF: &str = "/proc/self/exe";

/// Processes that evaluate programs and call their functions.
#[derive(Debug, Clone)]
pub struct Workers {
    /// The `drillmaster` program.
    program: Arc<Path>,
    timeout: Duration,
    /// Workers that wait for calls, each with the hash of the inputs of its evaluation; the last used one is last.
    idle: Arc<Mutex<Vec<(String, Process)>>>,
}

impl Default for Workers {
    fn default() -> Self {
        Self::new(SELF.into())
    }
}

impl Workers {
    /// Workers that run this `drillmaster` program.
    pub fn new(program: PathBuf) -> Self {
        Self { program: program.into(), timeout: TIMEOUT, idle: Arc::default() }
    }

    /// Sets how long the programs of a spec directory may take.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// An interpreter of programs that read these files.
    pub fn interpreter<'a>(&'a self, files: &'a dyn FileAccess) -> impl Interpreter + 'a {
        WorkerInterpreter { workers: self, files }
    }

    /// Returns a worker that can call this function. Blocks while the programs are evaluated.
    ///
    /// # Errors
    ///
    /// If the worker cannot be started or does not evaluate the programs in time.
    pub(super) fn take(&self, function: &Function) -> Result<Process, ProgramError> {
        if let Some(worker) = self.take_idle(function.digest()) {
            return Ok(worker);
        }
        let snapshot = function.snapshot();
        let answer = |query: &FileQuery| {
            let known = snapshot.answers.get(query).cloned();
            known.unwrap_or_else(|| Err("not read when the specs were loaded".to_owned()))
        };
        self.evaluate(&snapshot.programs, answer).map(|(worker, _)| worker)
    }

    fn take_idle(&self, digest: &str) -> Option<Process> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let at = idle.iter().rposition(|(known, _)| known == digest)?;
        Some(idle.remove(at).1)
    }

    /// Keeps a worker for further calls.
    pub(super) fn put_back(&self, digest: &str, worker: Process) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push((digest.to_owned(), worker));
        if idle.len() > MAX_IDLE {
            idle.remove(0);
        }
    }

    /// Evaluates programs in a new worker.
    fn evaluate(
        &self,
        programs: &Programs,
        answer: impl FnMut(&FileQuery) -> Result<FileAnswer, String>,
    ) -> Result<(Process, Evaluated), ProgramError> {
        let mut worker = Process::start(&self.program).map_err(|error| cannot_start(&error))?;
        match worker.evaluate(programs, answer, Instant::now() + self.timeout) {
            Ok(evaluated) => Ok((worker, evaluated)),
            Err(no_answer) => Err(worker.end(no_answer, programs, self.timeout)),
        }
    }
}

fn cannot_start(error: &io::Error) -> ProgramError {
    ProgramError::from(Diagnostic::new(format!(
        "cannot start the process that evaluates programs: {}",
        io_message(error)
    )))
}

struct WorkerInterpreter<'a> {
    workers: &'a Workers,
    files: &'a dyn FileAccess,
}

impl Interpreter for WorkerInterpreter<'_> {
    fn evaluate(&self, programs: Programs) -> (Snapshot, Evaluated) {
        let mut answers = BTreeMap::new();
        let result = self.workers.evaluate(&programs, |query| {
            let answer = query.answer(self.files);
            answers.insert(query.clone(), answer.clone());
            answer
        });
        let evaluated = match result {
            Ok((worker, evaluated)) => {
                if evaluated.errors.is_empty() && !evaluated.functions.is_empty() {
                    self.workers.put_back(&evaluated.digest, worker);
                }
                evaluated
            }
            Err(error) => Evaluated { errors: vec![error], ..Evaluated::default() },
        };
        (Snapshot { programs, answers }, evaluated)
    }
}
