//! Programs under test with a deadline. A hanging program is killed and fails its test instead of blocking the suite.

use std::fmt;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Exit code and output of a completed program.
#[derive(Debug, Clone)]
pub struct Run {
    /// The command line.
    pub command_line: String,
    /// Exit code; `None` if killed by a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Duration of the run.
    pub took: Duration,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Run { command_line, code, stdout, stderr, took } = self;
        let how = code.map_or("was killed".into(), |code| format!("exited with code {code}"));
        write!(
            f,
            "`{command_line}` {how} after {:.1} s\n--- stdout\n{stdout}--- stderr\n{stderr}---",
            took.as_secs_f32()
        )
    }
}

impl Run {
    /// Asserts the exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Run {
        assert!(self.code == Some(code), "expected exit code {code}: {self}");
        self
    }

    /// Asserts that stdout contains a text.
    #[track_caller]
    pub fn stdout_contains(self, text: &str) -> Run {
        assert!(self.stdout.contains(text), "expected {text:?} on stdout: {self}");
        self
    }

    /// Asserts that stderr contains a text.
    #[track_caller]
    pub fn stderr_contains(self, text: &str) -> Run {
        assert!(self.stderr.contains(text), "expected {text:?} on stderr: {self}");
        self
    }

    /// Asserts that neither stdout nor stderr contains a text.
    #[track_caller]
    pub fn output_lacks(self, text: &str) -> Run {
        assert!(
            !self.stderr.contains(text) && !self.stdout.contains(text),
            "unexpected {text:?} in the output: {self}"
        );
        self
    }

    /// Parses stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("invalid JSON on stdout ({error}): {self}"))
    }
}

/// A program that runs concurrently with the test; killed when dropped.
pub struct Running {
    command_line: String,
    child: Child,
    start: Instant,
    stdout: Reader,
    stderr: Reader,
}

struct Reader {
    text: Arc<Mutex<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    fn new(pipe: Option<impl Read + Send + 'static>) -> Reader {
        let text = Arc::new(Mutex::new(Vec::new()));
        let sink = text.clone();
        let thread = pipe.map(|mut pipe| {
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(length @ 1..) = pipe.read(&mut buffer) {
                    sink.lock().unwrap().extend_from_slice(&buffer[..length]);
                }
            })
        });
        Reader { text, thread }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap()).into_owned()
    }

    /// Waits for the end of the pipe and returns the whole text.
    fn finish(&mut self) -> String {
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        self.text()
    }
}

/// Starts a program with empty stdin, and collects stdout and stderr.
pub fn spawn(mut command: Command) -> Running {
    let command_line = command_line(&command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot run `{command_line}`: {error}"));
    let (stdout, stderr) = (Reader::new(child.stdout.take()), Reader::new(child.stderr.take()));
    Running { command_line, child, start: Instant::now(), stdout, stderr }
}

/// Runs a program until it exits. Panics if that takes longer than the limit.
#[track_caller]
pub fn run(command: Command, limit: Duration) -> Run {
    spawn(command).wait_for_exit(limit)
}

fn command_line(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program()).file_name().unwrap_or_default();
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

impl Running {
    /// Returns stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Returns stdout so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Waits until stderr contains a text. Panics if the program exits without writing it.
    #[track_caller]
    pub fn wait_for_stderr(&mut self, text: &str) {
        super::wait_for(&format!("{text:?} on stderr of `{}`", self.command_line), super::WAIT_TIMEOUT, || {
            let exited = self.child.try_wait().unwrap().is_some();
            let found = self.stderr().contains(text);
            assert!(
                found || !exited || self.stderr.finish().contains(text),
                "`{}` exited without {text:?} on stderr: {}",
                self.command_line,
                self.stderr()
            );
            self.stderr().contains(text).then_some(())
        });
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        // The process may have exited already.
        let _ = kill_process(pid, signal);
    }

    /// Returns true until the process has exited.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the exit. Panics if that takes longer than `limit` from now.
    #[track_caller]
    pub fn wait_for_exit(mut self, limit: Duration) -> Run {
        let called = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break Some(status);
            }
            if called.elapsed() > limit {
                break None;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let took = self.start.elapsed();
        if status.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        let run = Run {
            command_line: self.command_line.clone(),
            code: status.and_then(|status| status.code()),
            stdout: self.stdout.finish(),
            stderr: self.stderr.finish(),
            took,
        };
        assert!(status.is_some(), "did not exit within {} s: {run}", limit.as_secs());
        run
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
