//! The commands `exec` and `graph`.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::json;

use crate::support::project::{BUSYBOX, Project, sleeper};
use crate::support::{WAIT_TIMEOUT, wait_for};

#[test]
fn exec_passes_stdio_and_exit_code_through() {
    let project = Project::new("exec");
    let job = format!("---\nkind: Job\nname: job\nimage: {BUSYBOX}\ncommand: [\"true\"]\n");
    project.write("all.yaml", &(sleeper("api", "") + &sleeper("worker", "replicas: 2") + &job));
    project
        .run(&["exec", "api", "--", "true"])
        .exits(1)
        .stderr_contains("cannot execute a command in api: no container");
    project.up();
    let run = project.run(&["exec", "api", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]).exits(7);
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("out\n", "err\n"));
    let hostname = |arguments: &[&str]| {
        let command = ["exec"].iter().chain(arguments).chain(&["--", "hostname"]).copied().collect::<Vec<_>>();
        project.run(&command).exits(0).stdout
    };
    assert_eq!(hostname(&["api"]), "api\n");
    assert_eq!(
        (hostname(&["worker"]), hostname(&["worker", "--replica", "2"])),
        ("worker-1\n".into(), "worker-2\n".into())
    );
    project.run(&["exec", "worker", "--replica", "3", "--", "true"]).exits(1).stderr_contains("it has no replica 3");
    project.run(&["exec", "apo", "--", "true"]).exits(2).stderr_contains("did you mean `api`?");
    project.run(&["exec", "job", "--", "true"]).exits(1).stderr_contains("container is exited (0)");
    // The exit code depends on the engine version.
    let run = project.run(&["exec", "api", "--", "nothing-like-it"]);
    assert!(matches!(run.code, Some(126 | 127)), "{run}");

    // Piped stdin is copied to its end, byte for byte.
    let bytes: Vec<u8> = (0..300_000_u32).map(|number| (number * 31) as u8).collect();
    let mut cat = project.command(&["exec", "api", "--", "cat"]);
    let mut cat = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, sent) = (cat.stdin.take().unwrap(), bytes.clone());
    let writer = std::thread::spawn(move || input.write_all(&sent).unwrap());
    let output = cat.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success() && output.stdout == bytes, "{} bytes", output.stdout.len());
}

/// The master side of a pseudo-terminal in which a program runs.
pub(super) struct Terminal {
    master: File,
    output: String,
}

impl Terminal {
    /// Runs a program in a pseudo-terminal of this size.
    pub(super) fn run(mut command: Command, rows: u16, columns: u16) -> (Terminal, Child) {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap();
        let slave = File::options().read(true).write(true).open(path.to_str().unwrap()).unwrap();
        tcsetwinsize(&slave, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let (input, output) = (slave.try_clone().unwrap(), slave.try_clone().unwrap());
        let child = command.stdin(input).stdout(output).stderr(slave).spawn().unwrap();
        (Terminal { master: File::from(master), output: String::new() }, child)
    }

    /// Writes keystrokes.
    fn send_keys(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for a text in the output after the previous match. Returns the output in between, with the text.
    #[track_caller]
    pub(super) fn wait_for_output(&mut self, text: &str) -> String {
        let deadline = Instant::now() + WAIT_TIMEOUT;
        while !self.output.contains(text) {
            assert!(Instant::now() < deadline, "timed out waiting for {text:?}: {:?}", self.output);
            let mut waiting = [PollFd::new(&self.master, PollFlags::IN)];
            let pause = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            if poll(&mut waiting, Some(&pause)).unwrap() > 0 {
                let mut piece = [0; 4096];
                // Reading fails once the other side of the terminal is closed.
                let length = self.master.read(&mut piece).unwrap_or(0);
                self.output += &String::from_utf8_lossy(&piece[..length]);
            }
        }
        let at = self.output.find(text).unwrap() + text.len();
        self.output.drain(..at).collect()
    }
}

#[test]
fn exec_passes_the_terminal_through() {
    let project = Project::new("exectty");
    project.write("all.yaml", &sleeper("api", ""));
    project.up();
    let command = project.command(&["exec", "api", "--", "sh", "-c", "PS1='> ' exec sh -i"]);
    let (mut terminal, mut child) = Terminal::run(command, 33, 77);
    terminal.wait_for_output("> ");
    // The terminal size is set asynchronously.
    terminal.send_keys("tty; until stty size 2>/dev/null; do sleep 0.1; done\r");
    terminal.wait_for_output("/dev/pts/");
    terminal.wait_for_output("33 77");
    terminal.wait_for_output("> ");
    // Ctrl-C reaches the program in the container. The program itself prints `begun`, because a shell that is about to
    // start a program may lose the signal.
    terminal.send_keys("sh -c 'echo begun; exec sleep 1000'\r");
    terminal.wait_for_output("begun\r\n");
    terminal.send_keys("\x03");
    terminal.wait_for_output("> ");
    terminal.send_keys("exit 9\r");
    let status = wait_for("exec to exit", WAIT_TIMEOUT, || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(9));
    // The terminal mode is restored: input is echoed.
    terminal.send_keys("seen");
    terminal.wait_for_output("seen");
}

#[test]
fn graph_prints_dot_and_json() {
    let project = Project::new("graph");
    let job = format!("---\nkind: Job\nname: migrate\nimage: {BUSYBOX}\ndependencies: [db]\n");
    let api = sleeper("api", "replicas: 2\ndependencies: [migrate, {name: db, condition: started, restart: true}]");
    project.write("all.yaml", &(sleeper("db", "") + &job + &api));
    let dot = project.run(&["graph"]).exits(0).stdout.replace(&project.group, "GROUP");
    let expected = "digraph \"GROUP\" {\n  \"api\" [shape=box]\n  \"db\" [shape=box]\n  \"migrate\" [shape=ellipse]\n  \
                    \"api\" -> \"migrate\"\n  \"api\" -> \"db\" [label=\"started, restart\"]\n  \"migrate\" -> \"db\"\n}\n";
    assert_eq!(dot, expected);
    let graph = project.run(&["graph", "--output", "json"]).exits(0).json();
    assert_eq!(graph["group"], project.group);
    let api = json!({ "name": "api", "kind": "Service", "dependencies": [
        { "name": "migrate", "condition": "succeeded", "restart": false },
        { "name": "db", "condition": "started", "restart": true },
    ] });
    assert_eq!(graph["services"][0], api);
}
