//! `exec` and `graph`.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::project::{BUSYBOX, Project, sleeper};

#[test]
fn a_command_in_a_container_is_as_if_it_ran_here() {
    let project = Project::new("exec");
    let job = format!("---\nkind: Job\nname: job\nimage: {BUSYBOX}\ncommand: [\"true\"]\n");
    project.write("all.yaml", &(sleeper("api", "") + &sleeper("worker", "replicas: 2") + &job));
    project.run(&["exec", "api", "--", "true"]).exits(1).says("cannot run a command in api: it has no container");
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
    project.run(&["exec", "worker", "--replica", "3", "--", "true"]).exits(1).says("it has no container");
    project.run(&["exec", "apo", "--", "true"]).exits(2).says("did you mean `api`?");
    project.run(&["exec", "job", "--", "true"]).exits(1).says("it is exited (0)");
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

#[test]
fn a_terminal_is_handed_on() {
    let project = Project::new("exectty");
    project.write("all.yaml", &sleeper("api", ""));
    project.up();
    let inner = project.command(&[
        "exec",
        "api",
        "--",
        "sh",
        "-c",
        "tty; until stty size 2>/dev/null; do sleep 0.1; done; exit 5",
    ]);
    // util-linux' `script` gives it a terminal.
    let line = std::iter::once(inner.get_program()).chain(inner.get_args());
    let quoted: Vec<String> = line.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    let mut outer = Command::new("script");
    outer.args(["-qec", &format!("stty rows 33 cols 77; {}", quoted.join(" ")), "/dev/null"]);
    outer.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir(project.home.path());
    let output = outer.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("/dev/pts/") && text.contains("33 77"), "{text}");
    assert_eq!(output.status.code(), Some(5), "{text}");
}

#[test]
fn the_graph_is_drawn_and_told() {
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
