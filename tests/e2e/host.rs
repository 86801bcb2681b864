//! Engine selection: by option, environment or docker context, over a unix socket or TCP.

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

/// Starts a TCP forwarder for the engine's socket and returns its address. Runs until the test binary exits.
fn forwarder() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(engine)) = (client, UnixStream::connect(engine::socket())) else { continue };
            let (from_client, to_client) = (client.try_clone().unwrap(), client);
            let (from_engine, to_engine) = (engine.try_clone().unwrap(), engine);
            thread::spawn(move || copy_requests(from_client, to_engine));
            thread::spawn(move || copy_responses(from_engine, to_client));
        }
    });
    format!("tcp://{address}")
}

/// Copies bytes from the client to the engine.
fn copy_requests(mut from: TcpStream, mut to: UnixStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

/// Copies bytes from the engine to the client.
fn copy_responses(mut from: UnixStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
}

/// Runs a command with these environment variables instead of `DOCKER_HOST`.
#[track_caller]
fn run_with(project: &Project, arguments: &[&str], variables: &[(&str, &str)]) -> Run {
    let mut command = project.command(arguments);
    command.env_remove("DOCKER_HOST").envs(variables.iter().copied());
    process::run(command, Duration::from_secs(60))
}

/// Creates a docker context.
fn context(config: &Path, name: &str, host: &str) {
    let hash: String = Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let directory = config.join("contexts/meta").join(hash);
    std::fs::create_dir_all(&directory).unwrap();
    let meta =
        json!({ "Name": name, "Metadata": {}, "Endpoints": { "docker": { "Host": host, "SkipTLSVerify": false } } });
    std::fs::write(directory.join("meta.json"), meta.to_string()).unwrap();
}

#[test]
fn commands_work_over_tcp() {
    let mut project = Project::new("overtcp");
    project.set_host(&forwarder());
    let api = script("api", "httpd -p 80; echo hello; sleep infinity", "ping: {exec: [test, -d, /tmp]}");
    project.write("all.yaml", &(api + &sleeper("web", "dependencies: [api]")));
    project.up();
    project.assert_settled(&["api", "web"]);
    project.run(&["logs", "api"]).exits(0).stdout_contains("api | hello");
    project.write("all.yaml", &(sleeper("api", "") + &sleeper("web", "dependencies: [api]")));
    project.up().stdout_contains("(1 replaced)");
    project.run(&["down"]).exits(0);
    assert!(project.containers().is_empty());
}

#[test]
fn tcp_engine_pings_published_ports() {
    let mut project = Project::new("tcpping");
    project.set_host(&forwarder());
    let port = crate::support::project::free_port();
    let ports = format!("ports: ['{port}:80']\nping: {{tcp: 80, timeout: 20s}}");
    let http =
        script("http", "sleep 0.5; httpd -f -p 81 -h /etc", "ping: {http: {port: 81, path: /passwd}, timeout: 2s}");
    project.write("all.yaml", &(script("api", "sleep 0.5; httpd -f -p 80", &ports) + &http));
    let run = project.run(&["up"]);
    // An engine on TCP may run on another host, where unpublished ports may be unreachable. The error suggests a fix.
    if run.code == Some(0) {
        project.assert_settled(&["api", "http"]);
    } else {
        let run = run.exits(1).stderr_contains("api: ready").stderr_contains("http: failed (NotReady)");
        run.stderr_contains("port 81 is not published: publish it (`ports`)");
    }
}

#[test]
fn option_environment_and_context_select_the_engine() {
    let project = Project::new("named");
    project.write("all.yaml", &sleeper("api", ""));
    let host = engine::host();
    let config = project.home.path().join("config");
    context(&config, "here", host);
    context(&config, "nowhere", NOWHERE);
    let config = config.to_str().unwrap();
    let proxy = Proxy::start(engine::socket());

    // --host takes precedence over all variables.
    let run =
        run_with(&project, &["status", "--host", &proxy.host()], &[("DOCKER_HOST", NOWHERE), ("DOCKER_CONTEXT", "x")]);
    run.exits(0);
    assert!(!proxy.take_requests().is_empty(), "the proxy received requests");
    // DOCKER_HOST takes precedence over contexts.
    run_with(&project, &["status"], &[("DOCKER_HOST", host), ("DOCKER_CONFIG", config), ("DOCKER_CONTEXT", "nowhere")])
        .exits(0);
    // DOCKER_CONTEXT takes precedence over the current context.
    let use_context = |name: &str| {
        std::fs::write(Path::new(config).join("config.json"), json!({ "currentContext": name }).to_string()).unwrap();
    };
    use_context("nowhere");
    run_with(&project, &["status"], &[("DOCKER_CONFIG", config), ("DOCKER_CONTEXT", "here")]).exits(0);
    run_with(&project, &["status"], &[("DOCKER_CONFIG", config)]).exits(3).stderr_contains("/nowhere/docker.sock");
    run_with(&project, &["status"], &[("DOCKER_CONFIG", config), ("DOCKER_HOST", "")]).exits(3);
    use_context("here");
    run_with(&project, &["status"], &[("DOCKER_CONFIG", config)]).exits(0);
    run_with(&project, &["status"], &[("DOCKER_CONFIG", config), ("DOCKER_CONTEXT", "nowhere")]).exits(3);
    // An error names the missing context.
    let run = run_with(&project, &["status"], &[("DOCKER_CONFIG", config), ("DOCKER_CONTEXT", "elsewhere")]).exits(2);
    run.stderr_contains("DOCKER_CONTEXT").stderr_contains("elsewhere").stderr_contains("docker context ls");
    use_context("gone");
    run_with(&project, &["status"], &[("DOCKER_CONFIG", config)])
        .exits(2)
        .stderr_contains("gone")
        .stderr_contains("config.json");
    std::fs::write(Path::new(config).join("config.json"), "{").unwrap();
    run_with(&project, &["status"], &[("DOCKER_CONFIG", config)]).exits(2).stderr_contains("config.json");
}

#[test]
fn docker_cli_contexts_are_respected() {
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
    run_with(&project, &["status"], &[("DOCKER_CONFIG", config.to_str().unwrap())]).exits(0);
}

#[test]
fn up_survives_a_broken_connection() {
    let mut project = Project::new("cut");
    let proxy = Proxy::start(engine::socket());
    project.set_host(&proxy.host());
    let slow = script("api", "sleep 3; touch /tmp/ready; sleep infinity", "ping: {exec: [test, -f, /tmp/ready]}");
    project.write("all.yaml", &(slow + &sleeper("web", "dependencies: [api]")));
    let mut running = project.spawn(&["up"]);
    running.wait_for_stderr("api: waiting for readiness probe");
    proxy.drop_connections();
    running.wait_for_exit(Duration::from_secs(60)).exits(0);
    project.assert_settled(&["api", "web"]);
}
