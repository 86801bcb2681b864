//! A program under test, with a deadline: one that hangs is killed and fails its test, instead of blocking all of them.

use std::fmt;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How a program ended and what it said.
#[derive(Debug, Clone)]
pub struct Run {
    /// As it was typed.
    pub typed: String,
    /// Exit code; `None`: a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Run { typed, code, stdout, stderr, took } = self;
        let how = code.map_or("was killed".into(), |code| format!("exited with code {code}"));
        write!(f, "`{typed}` {how} after {:.1} s\n--- stdout\n{stdout}--- stderr\n{stderr}---", took.as_secs_f32())
    }
}

impl Run {
    /// Fails unless it exited with this code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Run {
        assert!(self.code == Some(code), "expected exit code {code}: {self}");
        self
    }

    /// Fails unless its standard output has this text.
    #[track_caller]
    pub fn prints(self, text: &str) -> Run {
        assert!(self.stdout.contains(text), "expected {text:?} on stdout: {self}");
        self
    }

    /// Fails unless its standard error has this text.
    #[track_caller]
    pub fn says(self, text: &str) -> Run {
        assert!(self.stderr.contains(text), "expected {text:?} on stderr: {self}");
        self
    }

    /// Fails where it said this text anywhere.
    #[track_caller]
    pub fn never_says(self, text: &str) -> Run {
        assert!(!self.stderr.contains(text) && !self.stdout.contains(text), "did not expect {text:?}: {self}");
        self
    }

    /// Its standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON on stdout ({error}): {self}"))
    }
}

/// A program that runs beside the test; killed when dropped.
pub struct Running {
    typed: String,
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

    /// All of it: the pipe has ended.
    fn finish(&mut self) -> String {
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        self.text()
    }
}

/// Begins a program. Its standard input is empty; its output is collected unless the command says where it goes.
pub fn spawn(mut command: Command) -> Running {
    let typed = typed(&command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot run `{typed}`: {error}"));
    let (stdout, stderr) = (Reader::new(child.stdout.take()), Reader::new(child.stderr.take()));
    Running { typed, child, start: Instant::now(), stdout, stderr }
}

/// Runs a program to its end.
#[track_caller]
pub fn run(command: Command, limit: Duration) -> Run {
    spawn(command).ends(limit)
}

fn typed(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program()).file_name().unwrap_or_default();
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

impl Running {
    /// What it has said on standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// What it has printed on standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Waits until it says this on standard error.
    #[track_caller]
    pub fn until_says(&mut self, text: &str) {
        super::wait_for(&format!("`{}` to say {text:?}", self.typed), super::SOON, || {
            let over = self.child.try_wait().unwrap();
            let said = self.stderr().contains(text);
            assert!(
                said || over.is_none() || self.stderr.finish().contains(text),
                "`{}` ended without saying {text:?}: {}",
                self.typed,
                self.stderr()
            );
            self.stderr().contains(text).then_some(())
        });
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        // It may be gone already.
        let _ = kill_process(pid, signal);
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end; fails when that takes longer from now.
    #[track_caller]
    pub fn ends(mut self, limit: Duration) -> Run {
        let asked = Instant::now();
        let end = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break Some(status);
            }
            if asked.elapsed() > limit {
                break None;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let took = self.start.elapsed();
        if end.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        let run = Run {
            typed: self.typed.clone(),
            code: end.and_then(|status| status.code()),
            stdout: self.stdout.finish(),
            stderr: self.stderr.finish(),
            took,
        };
        assert!(end.is_some(), "did not end within {} s: {run}", limit.as_secs());
        run
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
