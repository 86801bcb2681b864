//! Readiness where the networks of the engine cannot be reached: drillmaster in another network namespace.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::engine::{self, Capability};
use crate::support::process::{self, Run};
use crate::support::project::{Project, free_port, script};

/// Time limit of a command.
const LIMIT: Duration = Duration::from_secs(60);
/// Serves a page after a second.
const SERVE: &str = "sleep 1; mkdir /tmp/www; echo ok > /tmp/www/index.html; httpd -f -p 80 -h /tmp/www";

/// A network namespace; it ends with its process, and its interfaces with it.
struct Namespace {
    process: Child,
}

impl Namespace {
    /// Creates a namespace with a loopback interface.
    fn new() -> Namespace {
        let script = "ip link set lo up && echo up && exec sleep infinity";
        let mut command = Command::new("unshare");
        let mut process =
            command.args(["--net", "sh", "-c", script]).stdout(Stdio::piped()).spawn().expect("cannot run unshare");
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(process.stdout.take().unwrap()), &mut line).unwrap();
        assert_eq!(line, "up\n", "cannot create a network namespace");
        Namespace { process }
    }

    fn pid(&self) -> String {
        self.process.id().to_string()
    }

    /// Connects the namespace with the host. Returns the host's address; there is no route to anything else.
    fn connect(&self) -> String {
        let pid = self.pid();
        // Of the range for tests between networks, distinct for concurrent runs.
        let number = self.process.id() % 16384;
        let (third, fourth) = (number / 64, number % 64 * 4);
        let (host, guest) = (format!("198.18.{third}.{}", fourth + 1), format!("198.18.{third}.{}", fourth + 2));
        let name = format!("e2e{pid}");
        for arguments in [
            vec!["ip", "link", "add", &name, "type", "veth", "peer", "name", "veth0", "netns", &pid],
            vec!["ip", "address", "add", &format!("{host}/30"), "dev", &name],
            vec!["ip", "link", "set", &name, "up"],
            vec!["nsenter", "-t", &pid, "-n", "ip", "address", "add", &format!("{guest}/30"), "dev", "veth0"],
            vec!["nsenter", "-t", &pid, "-n", "ip", "link", "set", "veth0", "up"],
        ] {
            let output = Command::new(arguments[0]).args(&arguments[1..]).output().unwrap();
            assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        host
    }

    /// Runs drillmaster in the namespace until it exits.
    fn run(&self, project: &Project, arguments: &[&str]) -> Run {
        let inner = project.command(arguments);
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid(), "-n"]).arg(inner.get_program()).args(inner.get_args());
        command.current_dir(inner.get_current_dir().unwrap());
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        process::run(command, LIMIT)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn ping_through_an_unreachable_network_fails_at_once() {
    if engine::lacks(Capability::Addresses) {
        return;
    }
    let project = Project::new("unreach");
    let port = free_port();
    let specs = script("hidden", SERVE, "ping: {http: 80}")
        + &script("bare", &format!("rm /bin/cat; {SERVE}"), "ping: {tcp: 80}")
        + &script("silent", "sleep infinity", "ping: {tcp: 80, timeout: 3s}")
        + &script("own", "httpd -f -p 127.0.0.1:80", "ping: {tcp: 80, timeout: 3s}")
        + &script("tcp", SERVE, "ping: {tcp: 80}")
        + &script("local", SERVE, &format!("ports: ['{port}:80']\nping: {{http: 80}}"))
        + &script("inside", SERVE, "ping: {exec: [test, -e, /tmp/www]}");
    project.write("all.yaml", &specs);
    let run = Namespace::new().run(&project, &["up"]).exits(1);
    assert!(run.took < Duration::from_secs(30), "fails before the ping timeout: {run}");
    let run = run
        .stderr_contains("hidden: failed (NotReady): readiness probe (http 80/) cannot succeed (")
        .stderr_contains(":80: network is unreachable: the network of the container is not reachable from here, and port 80 is not published: publish it (`ports`), or use an `exec` or `log` ping)")
        .stderr_contains("local: failed (NotReady): readiness probe (http 80/) cannot succeed (")
        .stderr_contains(&format!("port 80 is published only on 127.0.0.1 of the engine's host: publish it on another address (\"0.0.0.0:{port}:80\" in `ports`)"));
    let run = run
        .stderr_contains("bare: failed (NotReady): readiness probe (tcp 80) cannot succeed (")
        .stderr_contains("(nothing in the container listens on ")
        .stderr_contains(":80, which cannot be reached from here)")
        .stderr_contains("(port 80 listens only on the loopback address of the container)");
    run.stderr_contains("inside: ready").stderr_contains("tcp: ready");
}

#[test]
fn published_port_replaces_an_unreachable_address() {
    if engine::lacks(Capability::Addresses) {
        return;
    }
    let project = Project::new("detour");
    let namespace = Namespace::new();
    let host = namespace.connect();
    let mut specs = script(
        "never",
        "sleep infinity",
        &format!("ports: ['{host}:{}:80']\nping: {{tcp: 80, timeout: 3s}}", free_port()),
    );
    for (name, ping) in [("tcp", "{tcp: 80}"), ("http", "{http: 80}")] {
        specs += &script(name, SERVE, &format!("ports: ['{host}:{}:80']\nping: {ping}", free_port()));
    }
    project.write("all.yaml", &specs);
    let run = namespace.run(&project, &["up"]).exits(1).stderr_contains("tcp: ready").stderr_contains("http: ready");
    let run =
        run.stderr_contains("never: failed (NotReady): timed out after 3 s").stderr_contains(&format!("({host}:"));
    run.stderr_contains("(published port; the container's address ");
}
