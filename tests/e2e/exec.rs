//! `exec` and `graph`.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::json;

use crate::support::project::{BUSYBOX, Project, sleeper};
use crate::support::{SOON, wait_for};

#[test]
fn a_command_in_a_container_is_as_if_it_ran_here() {
    let project = Project::new("exec");
    let job = format!("---\nkind: Job\nname: job\nimage: {BUSYBOX}\ncommand: [\"true\"]\n");
    project.write("all.yaml", &(sleeper("api", "") + &sleeper("worker", "replicas: 2") + &job));
    project.run(&["exec", "api", "--", "true"]).exits(1).says("cannot execute a command in api: no container");
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
    project.run(&["exec", "worker", "--replica", "3", "--", "true"]).exits(1).says("no container");
    project.run(&["exec", "apo", "--", "true"]).exits(2).says("did you mean `api`?");
    project.run(&["exec", "job", "--", "true"]).exits(1).says("container is exited (0)");
    // Engines differ in which of the two they give.
    let run = project.run(&["exec", "api", "--", "nothing-like-it"]);
    assert!(matches!(run.code, Some(126 | 127)), "{run}");

    // What is piped in is read to its end, and comes out as it was, byte for byte.
    let bytes: Vec<u8> = (0..300_000_u32).map(|number| (number * 31) as u8).collect();
    let mut cat = project.command(&["exec", "api", "--", "cat"]);
    let mut cat = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, given) = (cat.stdin.take().unwrap(), bytes.clone());
    let writer = std::thread::spawn(move || input.write_all(&given).unwrap());
    let output = cat.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success() && output.stdout == bytes, "{} bytes", output.stdout.len());
}

/// A terminal with the program at its other end.
struct Terminal {
    master: File,
    said: String,
}

impl Terminal {
    /// Runs a program on a terminal of this size.
    fn run(mut command: Command, rows: u16, columns: u16) -> (Terminal, Child) {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap();
        let slave = File::options().read(true).write(true).open(path.to_str().unwrap()).unwrap();
        tcsetwinsize(&slave, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let (input, output) = (slave.try_clone().unwrap(), slave.try_clone().unwrap());
        let child = command.stdin(input).stdout(output).stderr(slave).spawn().unwrap();
        (Terminal { master: File::from(master), said: String::new() }, child)
    }

    fn types(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until this was said since it was last waited for something.
    #[track_caller]
    fn says(&mut self, text: &str) {
        let deadline = Instant::now() + SOON;
        while !self.said.contains(text) {
            assert!(Instant::now() < deadline, "waited for {text:?} in vain: {:?}", self.said);
            let mut waiting = [PollFd::new(&self.master, PollFlags::IN)];
            let pause = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            if poll(&mut waiting, Some(&pause)).unwrap() > 0 {
                let mut piece = [0; 4096];
                // At the end, a terminal whose other side is closed cannot be read.
                let length = self.master.read(&mut piece).unwrap_or(0);
                self.said += &String::from_utf8_lossy(&piece[..length]);
            }
        }
        let at = self.said.find(text).unwrap() + text.len();
        self.said.drain(..at);
    }
}

#[test]
fn a_terminal_is_handed_on() {
    let project = Project::new("exectty");
    project.write("all.yaml", &sleeper("api", ""));
    project.up();
    let command = project.command(&["exec", "api", "--", "sh", "-c", "PS1='> ' exec sh -i"]);
    let (mut terminal, mut child) = Terminal::run(command, 33, 77);
    terminal.says("> ");
    // It may take a moment until it is told its size.
    terminal.types("tty; until stty size 2>/dev/null; do sleep 0.1; done\r");
    terminal.says("/dev/pts/");
    terminal.says("33 77");
    terminal.says("> ");
    // Ctrl-C is for the program in there. What says `begun` is that program: a shell that is just about to start one
    // may lose the signal.
    terminal.types("sh -c 'echo begun; exec sleep 1000'\r");
    terminal.says("begun\r\n");
    terminal.types("\x03");
    terminal.says("> ");
    terminal.types("exit 9\r");
    let ended = wait_for("the end", SOON, || child.try_wait().unwrap());
    assert_eq!(ended.code(), Some(9));
    // The terminal is as it was: it echoes what is typed.
    terminal.types("seen");
    terminal.says("seen");
}

#[test]
fn graph_is_printed() {
    let project = Project::new("graph");
    let job = format!("---\nkind: Job\nname: migrate\nimage: {BUSYBOX}\ndependencies: [db]\n");
    let api = sleeper("api", "replicas: 2\ndependencies: [migrate, {name: db, condition: started, restart: true}]");
    project.write("all.yaml", &(sleeper("db", "") + &job + &api));
    let drawn = project.run(&["graph"]).exits(0).stdout.replace(&project.group, "GROUP");
    let expected = "digraph \"GROUP\" {\n  \"api\" [shape=box]\n  \"db\" [shape=box]\n  \"migrate\" [shape=ellipse]\n  \
                    \"api\" -> \"migrate\"\n  \"api\" -> \"db\" [label=\"started, restart\"]\n  \"migrate\" -> \"db\"\n}\n";
    assert_eq!(drawn, expected);
    let told = project.run(&["graph", "--output", "json"]).exits(0).json();
    assert_eq!(told["group"], project.group);
    let api = json!({ "name": "api", "kind": "Service", "dependencies": [
        { "name": "migrate", "condition": "succeeded", "restart": false },
        { "name": "db", "condition": "started", "restart": true },
    ] });
    assert_eq!(told["services"][0], api);
}
