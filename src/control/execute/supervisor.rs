//! Supervisor of a command on the host: a process of drillmaster between the controller and the command, which leaves no
//! process of the command behind.
//!
//! It is a subreaper (`prctl(2)`): a process whose parent has exited becomes its child, even if it has left the process
//! group (`setsid`, daemons). So it knows the processes of its command, and no others.
//!
//! Its stdin is a socket to the controller. It sends one message of five bytes: the command has exited, or
//! could not be started. Each byte that it receives means SIGTERM to the process group. When the other end is closed,
//! also because the controller has died, it kills everything that is left and exits.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, kill_process_group, set_child_subreaper, wait};
use rustix::stdio::{dup2_stderr, dup2_stdout};

/// First argument of the supervisor; the words of the command follow.
pub const SUPERVISE: &str = "__supervise";
/// How long to try to kill processes: one may hang in the kernel or belong to another user.
const KILL_LIMIT: Duration = Duration::from_secs(1);
/// Pause between two attempts.
const KILL_INTERVAL: Duration = Duration::from_millis(1);
/// Size of a [`Message`] in bytes.
pub(super) const MESSAGE_SIZE: usize = 5;

/// What became of the command.
#[derive(Debug)]
pub(super) enum Message {
    Exited(ExitStatus),
    NotStarted(io::Error),
}

impl Message {
    fn encode(&self) -> [u8; MESSAGE_SIZE] {
        let (tag, number) = match self {
            Message::Exited(status) => (0, status.into_raw()),
            Message::NotStarted(error) => (1, error.raw_os_error().unwrap_or_default()),
        };
        let [a, b, c, d] = number.to_ne_bytes();
        [tag, a, b, c, d]
    }

    pub(super) fn decode([tag, a, b, c, d]: [u8; MESSAGE_SIZE]) -> Message {
        let number = i32::from_ne_bytes([a, b, c, d]);
        match tag {
            0 => Message::Exited(ExitStatus::from_raw(number)),
            _ => Message::NotStarted(io::Error::from_raw_os_error(number)),
        }
    }
}

/// Runs as the supervisor of a command: its program and arguments.
pub fn supervise(words: impl Iterator<Item = OsString>) -> ExitCode {
    match run(words) {
        Ok(()) => ExitCode::SUCCESS,
        // The controller notices that there is no message.
        Err(_) => ExitCode::FAILURE,
    }
}

fn run(mut words: impl Iterator<Item = OsString>) -> io::Result<()> {
    let program = words.next().ok_or(io::ErrorKind::InvalidInput)?;
    let mut requests = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut messages = requests.try_clone()?;
    set_child_subreaper(Some(getpid()))?;
    let started = Command::new(program).args(words).stdin(Stdio::null()).process_group(0).spawn();
    // Only the command and its children hold the pipes, so that they are closed when those have exited.
    let null = OpenOptions::new().write(true).open("/dev/null")?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    let mut child = match started {
        Ok(child) => child,
        Err(error) => return messages.write_all(&Message::NotStarted(error).encode()),
    };
    let group = Pid::from_child(&child);
    thread::spawn(move || {
        // If it cannot be waited for or reported, it was killed below, or the controller has died.
        if let Ok(status) = child.wait() {
            let _ = messages.write_all(&Message::Exited(status).encode());
        }
    });
    while let Ok(1..) = requests.read(&mut [0]) {
        // It may have exited already.
        let _ = kill_process_group(group, Signal::TERM);
    }
    kill_children();
    Ok(())
}

/// Kills the children until there are none: the children of a killed process become children of this one.
fn kill_children() {
    let start = Instant::now();
    loop {
        match wait(WaitOptions::NOHANG) {
            Err(Errno::CHILD) => return,
            Ok(None) if start.elapsed() < KILL_LIMIT => {
                for child in children() {
                    let _ = kill_process(child, Signal::KILL);
                }
                thread::sleep(KILL_INTERVAL);
            }
            Ok(None) => return,
            Ok(Some(_)) | Err(_) => {}
        }
    }
}

/// The children of this process, with zombies. Their ids stay valid until they are waited for.
fn children() -> Vec<Pid> {
    let parent = getpid().as_raw_nonzero().to_string();
    let is_child = |process: &fs::DirEntry| {
        let stat = fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        // `pid (name) state parent …`; the name may contain anything.
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)) == Some(&parent)
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter(|process| process.file_name().as_encoded_bytes()[0].is_ascii_digit())
        .filter(is_child)
        .filter_map(|process| Pid::from_raw(process.file_name().to_str()?.parse().ok()?))
        .collect()
}
