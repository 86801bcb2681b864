//! Which engine is talked to: by socket or TCP, named by option, environment or context.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::support::engine;
use crate::support::process::{self, Run};
use crate::support::project::{Project, script, sleeper};
use crate::support::proxy::Proxy;

const NOWHERE: &str = "unix:///nowhere/docker.sock";

/// Listens on a TCP port for the engine's socket; gives its address. Ends with the test program.
fn forwarder() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(engine)) = (client, UnixStream::connect(engine::socket())) else { continue };
            let (from_client, to_client) = (client.try_clone().unwrap(), client);
            let (from_engine, to_engine) = (engine.try_clone().unwrap(), engine);
            thread::spawn(move || up(from_client, to_engine));
            thread::spawn(move || down(from_engine, to_client));
        }
    });
    format!("tcp://{address}")
}

fn up(mut from: TcpStream, mut to: UnixStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

fn down(mut from: UnixStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
}

/// Runs a command with these variables in place of the engine's address.
#[track_caller]
fn with(project: &Project, arguments: &[&str], variables: &[(&str, &str)]) -> Run {
    let mut command = project.command(arguments);
    command.env_remove("DOCKER_HOST").envs(variables.iter().copied());
    process::run(command, Duration::from_secs(60))
}

/// Writes a context of the docker command.
fn context(config: &Path, name: &str, host: &str) {
    let hash: String = Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let directory = config.join("contexts/meta").join(hash);
    std::fs::create_dir_all(&directory).unwrap();
    let meta =
        json!({ "Name": name, "Metadata": {}, "Endpoints": { "docker": { "Host": host, "SkipTLSVerify": false } } });
    std::fs::write(directory.join("meta.json"), meta.to_string()).unwrap();
}

#[test]
fn everything_works_over_tcp() {
    let mut project = Project::new("overtcp");
    project.through(&forwarder());
    let api = script("api", "httpd -p 80; echo hello; sleep infinity", "ping: {exec: [test, -d, /tmp]}");
    project.write("all.yaml", &(api + &sleeper("web", "dependencies: [api]")));
    project.up();
    project.is_settled(&["api", "web"]);
    project.run(&["logs", "api"]).exits(0).prints("api | hello");
    project.write("all.yaml", &(sleeper("api", "") + &sleeper("web", "dependencies: [api]")));
    project.up().prints("(1 replaced)");
    project.run(&["down"]).exits(0);
    assert!(project.containers().is_empty());
}

#[test]
fn over_tcp_a_port_is_pinged_where_it_is_published() {
    let mut project = Project::new("tcpping");
    project.through(&forwarder());
    let port = crate::support::project::port();
    let ports = format!("ports: ['{port}:80']\nping: {{tcp: 80, timeout: 20s}}");
    let http =
        script("http", "sleep 0.5; httpd -f -p 81 -h /etc", "ping: {http: {port: 81, path: /passwd}, timeout: 2s}");
    project.write("all.yaml", &(script("api", "sleep 0.5; httpd -f -p 80", &ports) + &http));
    let run = project.run(&["up"]);
    // The engine listens on TCP, so where it runs is not known; what is not published may be out of reach, and is told.
    if run.code == Some(0) {
        project.is_settled(&["api", "http"]);
    } else {
        let run = run.exits(1).says("api: ready").says("http: failed (NotReady)");
        run.says("add 81 to `ports`");
    }
}

#[test]
fn the_engine_is_found_where_it_is_named() {
    let project = Project::new("named");
    project.write("all.yaml", &sleeper("api", ""));
    let host = engine::host();
    let config = project.home.path().join("config");
    context(&config, "here", host);
    context(&config, "nowhere", NOWHERE);
    let config = config.to_str().unwrap();
    let proxy = Proxy::start(engine::socket());

    // --host beats everything.
    let run =
        with(&project, &["status", "--host", &proxy.host()], &[("DOCKER_HOST", NOWHERE), ("DOCKER_CONTEXT", "x")]);
    run.exits(0);
    assert!(!proxy.take().is_empty(), "the proxy was asked");
    // DOCKER_HOST beats contexts.
    with(&project, &["status"], &[("DOCKER_HOST", host), ("DOCKER_CONFIG", config), ("DOCKER_CONTEXT", "nowhere")])
        .exits(0);
    // DOCKER_CONTEXT beats the current one.
    let current = |name: &str| {
        std::fs::write(Path::new(config).join("config.json"), json!({ "currentContext": name }).to_string()).unwrap();
    };
    current("nowhere");
    with(&project, &["status"], &[("DOCKER_CONFIG", config), ("DOCKER_CONTEXT", "here")]).exits(0);
    with(&project, &["status"], &[("DOCKER_CONFIG", config)]).exits(3).says("/nowhere/docker.sock");
    with(&project, &["status"], &[("DOCKER_CONFIG", config), ("DOCKER_HOST", "")]).exits(3);
    current("here");
    with(&project, &["status"], &[("DOCKER_CONFIG", config)]).exits(0);
    with(&project, &["status"], &[("DOCKER_CONFIG", config), ("DOCKER_CONTEXT", "nowhere")]).exits(3);
    // One that does not exist is named.
    let run = with(&project, &["status"], &[("DOCKER_CONFIG", config), ("DOCKER_CONTEXT", "elsewhere")]).exits(2);
    run.says("DOCKER_CONTEXT").says("elsewhere").says("docker context ls");
    current("gone");
    with(&project, &["status"], &[("DOCKER_CONFIG", config)]).exits(2).says("gone").says("config.json");
    std::fs::write(Path::new(config).join("config.json"), "{").unwrap();
    with(&project, &["status"], &[("DOCKER_CONFIG", config)]).exits(2).says("config.json");
}

#[test]
fn the_docker_command_agrees_about_contexts() {
    let project = Project::new("dockerctx");
    project.write("all.yaml", &sleeper("api", ""));
    let config = project.home.path().join("config");
    let docker = |arguments: &[&str]| {
        let mut docker = std::process::Command::new("docker");
        docker.args(arguments).env("DOCKER_CONFIG", &config).env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT");
        process::run(docker, Duration::from_secs(20)).exits(0)
    };
    docker(&["context", "create", "mine", "--docker", &format!("host={}", engine::host())]);
    docker(&["context", "use", "mine"]);
    with(&project, &["status"], &[("DOCKER_CONFIG", config.to_str().unwrap())]).exits(0);
}

#[test]
fn a_connection_that_breaks_is_survived() {
    let mut project = Project::new("cut");
    let proxy = Proxy::start(engine::socket());
    project.through(&proxy.host());
    let slow = script("api", "sleep 3; touch /tmp/ready; sleep infinity", "ping: {exec: [test, -f, /tmp/ready]}");
    project.write("all.yaml", &(slow + &sleeper("web", "dependencies: [api]")));
    let mut running = project.spawn(&["up"]);
    running.until_says("api: waiting for readiness probe");
    proxy.cut();
    running.ends(Duration::from_secs(60)).exits(0);
    project.is_settled(&["api", "web"]);
}
