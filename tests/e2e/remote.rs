//! Engines over TLS and ssh, against servers of the test in front of the engine's socket.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process, test_kill_process};
use tokio::net::{TcpListener, UnixStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::support::process::{self, Run};
use crate::support::project::{Project, free_port, script, sleeper};
use crate::support::{WAIT_TIMEOUT, engine, wait_for};

/// Certificates of an authority, of a server named `localhost`, and of a client; valid until 2126.
const CA: &str = include_str!("tls/ca.pem");
const SERVER: &str = include_str!("tls/server.pem");
const SERVER_KEY: &str = include_str!("tls/server-key.pem");
const CLIENT: &str = include_str!("tls/cert.pem");
const CLIENT_KEY: &str = include_str!("tls/key.pem");
/// A certificate of somebody else.
const OTHER_CA: &str = include_str!("../hooks/tls/certificate.pem");

/// Starts a TLS server that requires a client certificate, in front of the engine's socket. Returns its port. Runs until
/// the test binary exits.
fn tls_server() -> u16 {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(CA.as_bytes()).unwrap()).unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let certificate = vec![CertificateDer::from_pem_slice(SERVER.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(SERVER_KEY.as_bytes()).unwrap();
    let config = builder.with_client_cert_verifier(clients).with_single_cert(certificate, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    listener.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // A client may reject the certificate.
                    let Ok(mut client) = acceptor.accept(client).await else { return };
                    let mut engine = UnixStream::connect(engine::socket()).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut engine).await;
                });
            }
        });
    });
    port
}

/// Creates a directory with files.
fn directory(project: &Project, name: &str, files: &[(&str, &str)]) -> String {
    let directory = project.home.path().join(name);
    std::fs::create_dir_all(&directory).unwrap();
    for (file, text) in files {
        std::fs::write(directory.join(file), text).unwrap();
    }
    directory.to_str().unwrap().to_owned()
}

fn run_with(project: &Project, arguments: &[&str], variables: &[(&str, &str)]) -> Run {
    let mut command = project.command(arguments);
    command.env_remove("DOCKER_HOST").envs(variables.iter().copied());
    process::run(command, Duration::from_secs(60))
}

const ALL_FILES: [(&str, &str); 3] = [("ca.pem", CA), ("cert.pem", CLIENT), ("key.pem", CLIENT_KEY)];

/// Brings up a group, replaces a service, looks at it and removes it, with these settings.
fn assert_commands_work(project: &Project, command: &dyn Fn(&[&str]) -> Command) {
    let run = |arguments: &[&str]| process::run(command(arguments), Duration::from_secs(60));
    let api = script("api", "httpd -p 80; echo hello; sleep infinity", "ping: {tcp: 80, timeout: 20s}");
    project.write("all.yaml", &(api + &sleeper("web", "dependencies: [api]")));
    run(&["up"]).exits(0).stderr_contains("web: ready");
    run(&["diff"]).exits(0);
    run(&["logs", "api"]).exits(0).stdout_contains("api | hello");
    run(&["exec", "api", "--", "sh", "-c", "echo out; exit 3"]).exits(3).stdout_contains("out");
    // The end of the input reaches the command.
    run(&["exec", "-T", "api", "--", "sh", "-c", "cat; echo end"]).exits(0).stdout_contains("end");
    run(&["prune"]).exits(2).stderr_contains("not on this machine");
    run(&["down"]).exits(0).stdout_contains("2 removed");
    assert!(project.containers().is_empty());
}

#[test]
fn commands_work_over_tls() {
    let project = Project::new("overtls");
    let files = directory(&project, "files", &ALL_FILES);
    let host = format!("tcp://localhost:{}", tls_server());
    assert_commands_work(&project, &|arguments| {
        let mut command = project.command(arguments);
        command.envs([("DOCKER_HOST", host.as_str()), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", &files)]);
        command
    });
}

#[test]
fn contexts_have_their_own_tls_files() {
    let project = Project::new("tlscontext");
    project.write("all.yaml", &sleeper("api", ""));
    let files = directory(&project, "files", &ALL_FILES);
    let config = directory(&project, "config", &[]);
    let port = tls_server();
    let create = |name: &str, settings: &str| {
        let mut docker = Command::new("docker");
        docker.args(["context", "create", name, "--docker", settings]).env("DOCKER_CONFIG", &config);
        docker.env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT");
        process::run(docker, Duration::from_secs(20)).exits(0);
    };
    let client = format!("ca={files}/ca.pem,cert={files}/cert.pem,key={files}/key.pem");
    create("secure", &format!("host=tcp://localhost:{port},{client}"));
    create("misnamed", &format!("host=tcp://127.0.0.1:{port},{client}"));
    create("lax", &format!("host=tcp://127.0.0.1:{port},{client},skip-tls-verify=true"));
    let status = |name: &str| run_with(&project, &["status"], &[("DOCKER_CONFIG", &config), ("DOCKER_CONTEXT", name)]);
    status("secure").exits(0);
    let run = status("misnamed").exits(3).stderr_contains("the engine's certificate is not for 127.0.0.1, but for");
    run.stderr_contains("localhost, engine.test").stderr_contains("docker context");
    status("lax").exits(0);
}

#[test]
fn tls_errors_name_their_file() {
    let project = Project::new("tlserrors");
    project.write("all.yaml", &sleeper("api", ""));
    let host = format!("tcp://localhost:{}", tls_server());
    let status = |variable: (&str, &str), files: &str| {
        run_with(&project, &["status"], &[("DOCKER_HOST", &host), variable, ("DOCKER_CERT_PATH", files)])
    };
    let verify = ("DOCKER_TLS_VERIFY", "1");
    let client = [("cert.pem", CLIENT), ("key.pem", CLIENT_KEY)];

    let other = directory(&project, "other", &[("ca.pem", OTHER_CA), client[0], client[1]]);
    let run = status(verify, &other).exits(3).stderr_contains("is not signed by an authority in");
    run.stderr_contains("other/ca.pem").stderr_contains("DOCKER_CERT_PATH").output_lacks("systemctl");
    let ca_only = directory(&project, "ca", &[("ca.pem", CA)]);
    status(verify, &ca_only).exits(3).stderr_contains("the engine requires a client certificate");
    let no_ca = directory(&project, "noca", &client);
    status(verify, &no_ca).exits(2).stderr_contains("noca/ca.pem").stderr_contains("DOCKER_CERT_PATH");
    // Without verification, no authority is needed.
    status(("DOCKER_TLS", "1"), &no_ca).exits(0);
    let swapped = directory(&project, "swapped", &[("ca.pem", CA), ("cert.pem", CLIENT), ("key.pem", SERVER_KEY)]);
    status(verify, &swapped).exits(3).stderr_contains("swapped/key.pem is not the key of");
    let half = directory(&project, "half", &[("ca.pem", CA), ("cert.pem", CLIENT)]);
    status(verify, &half).exits(3).stderr_contains("half/key.pem: no such file");
    let empty = directory(&project, "empty", &[("ca.pem", "")]);
    status(verify, &empty).exits(3).stderr_contains("empty/ca.pem: no certificate in it");
    // A server without TLS.
    let plain = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = format!("tcp://{}", plain.local_addr().unwrap());
    thread::spawn(move || {
        use std::io::Write;
        for client in plain.incoming() {
            let _ = client.unwrap().write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        }
    });
    let run = run_with(&project, &["status"], &[("DOCKER_HOST", &address), verify, ("DOCKER_CERT_PATH", &ca_only)]);
    run.exits(3).stderr_contains("does not use TLS");
}

/// An ssh server with a key of its own, and a configuration of its client with the hosts `lab`, `restricted` (whose key
/// may not forward), `stranger` (whose key is not authorized) and `unknown` (whose host key is not known).
struct Sshd {
    directory: tempfile::TempDir,
    child: Child,
}

impl Sshd {
    /// Starts Debian's sshd, which `dev/images.sh` installs.
    fn start() -> Sshd {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let at = |name: &str| path.join(name);
        for name in ["host", "lab", "restricted", "stranger"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(at(name));
            process::run(keygen, Duration::from_secs(10)).exits(0);
        }
        let public = |name: &str| std::fs::read_to_string(at(&format!("{name}.pub"))).unwrap();
        std::fs::write(at("authorized"), format!("{}no-port-forwarding {}", public("lab"), public("restricted")))
            .unwrap();
        let (port, root) = (free_port(), path.display());
        let is_root = geteuid().is_root();
        if is_root {
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        // With PAM, root may log in without a password in /etc/shadow; only root may use it.
        let pam = if is_root { "yes" } else { "no" };
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {root}/host\nAuthorizedKeysFile {root}/authorized\n\
             PidFile none\nUsePAM {pam}\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nStrictModes no\n\
             PrintMotd no\nPermitRootLogin prohibit-password\n"
        );
        std::fs::write(at("sshd_config"), config).unwrap();
        let known = format!("[127.0.0.1]:{port} {}", public("host"));
        std::fs::write(at("known"), known).unwrap();
        let mut config = String::new();
        for (name, key, known) in [
            ("lab", "lab", "known"),
            ("restricted", "restricted", "known"),
            ("stranger", "stranger", "known"),
            ("unknown", "lab", "nowhere"),
        ] {
            writeln!(
                config,
                "Host {name}\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {root}/{key}\n  IdentitiesOnly yes\n  \
                 UserKnownHostsFile {root}/{known}\n  GlobalKnownHostsFile /dev/null"
            )
            .unwrap();
        }
        std::fs::write(at("config"), config).unwrap();
        // The client ignores HOME.
        std::fs::create_dir(at("bin")).unwrap();
        let client = at("bin/ssh");
        std::fs::write(&client, format!("#!/bin/sh\nexec /usr/bin/ssh -F {root}/config \"$@\"\n")).unwrap();
        std::fs::set_permissions(&client, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::create_dir(at("tmp")).unwrap();
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(at("sshd_config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sshd is missing; run dev/images.sh");
        wait_for("sshd", WAIT_TIMEOUT, || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        Sshd { directory, child }
    }

    /// Returns a command that reaches the engine through this server.
    fn command(&self, project: &Project, host: &str, arguments: &[&str]) -> Command {
        let mut command = project.command(arguments);
        let path = format!("{}:{}", self.directory.path().join("bin").display(), std::env::var("PATH").unwrap());
        command.env("DOCKER_HOST", host).env("PATH", path).env("TMPDIR", self.temporary());
        command
    }

    /// Returns the directory for temporary files of commands.
    fn temporary(&self) -> PathBuf {
        self.directory.path().join("tmp")
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the pid of the ssh that a process has started.
fn ssh_of(parent: u32) -> Option<Pid> {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    let is_ssh = |pid: &&str| {
        let name = std::fs::read_to_string(Path::new("/proc").join(pid).join("comm")).unwrap_or_default();
        name.trim() == "ssh"
    };
    Pid::from_raw(children.split_whitespace().find(is_ssh)?.parse().ok()?)
}

#[test]
fn commands_work_over_ssh() {
    let (project, sshd) = (Project::new("overssh"), Sshd::start());
    let host = format!("ssh://lab{}", engine::socket().display());
    assert_commands_work(&project, &|arguments| sshd.command(&project, &host, arguments));
    assert_eq!(std::fs::read_dir(sshd.temporary()).unwrap().count(), 0, "no socket is left");
}

#[test]
fn ssh_without_forwarding_runs_dial_stdio() {
    let (project, sshd) = (Project::new("dialstdio"), Sshd::start());
    project.write("all.yaml", &sleeper("api", ""));
    let host = format!("ssh://restricted{}", engine::socket().display());
    let run = |arguments: &[&str]| process::run(sshd.command(&project, &host, arguments), Duration::from_secs(60));
    run(&["up"]).exits(0).stderr_contains("api: ready");
    // The end of the input reaches the command.
    run(&["exec", "-T", "api", "--", "sh", "-c", "cat; echo end"]).exits(0).stdout_contains("end");
    run(&["down"]).exits(0).stdout_contains("1 removed");
}

#[test]
fn ssh_errors_are_shown() {
    let (project, sshd) = (Project::new("ssherrors"), Sshd::start());
    project.write("all.yaml", &sleeper("api", ""));
    let status = |host: &str| process::run(sshd.command(&project, host, &["status"]), Duration::from_secs(60)).exits(3);
    status("ssh://stranger").stderr_contains("ssh://stranger: ").stderr_contains("Permission denied (publickey)");
    status("ssh://unknown").stderr_contains("Host key verification failed").stderr_contains("accept");
    status("ssh://127.0.0.1:1").stderr_contains("Connection refused").output_lacks("systemctl");
    status("ssh://lab/nowhere/docker.sock").stderr_contains("/nowhere/docker.sock: connect: no such file or directory");
    let mut without = project.command(&["status", "--host", "ssh://lab"]);
    without.env("PATH", "/nowhere");
    process::run(without, Duration::from_secs(60)).exits(3).stderr_contains("no program ssh; install");
}

#[test]
fn watch_reconnects_over_ssh_and_leaves_none_behind() {
    let (project, sshd) = (Project::new("sshwatch"), Sshd::start());
    project.write("all.yaml", &sleeper("api", ""));
    let host = format!("ssh://lab{}", engine::socket().display());
    let mut watch = process::spawn(sshd.command(&project, &host, &["up", "--watch"]));
    watch.wait_for_stderr("watching 1 service");
    let first = ssh_of(watch.id()).unwrap();
    kill_process(first, Signal::KILL).unwrap();
    let second = wait_for("another ssh", WAIT_TIMEOUT, || ssh_of(watch.id()).filter(|pid| *pid != first));
    project.write("all.yaml", &(sleeper("api", "") + &sleeper("web", "")));
    watch.wait_for_stderr("web: ready");
    // ssh ends by itself when its parent is gone.
    watch.signal(Signal::KILL);
    watch.wait_for_exit(Duration::from_secs(10));
    wait_for("the end of ssh", WAIT_TIMEOUT, || test_kill_process(second).is_err().then_some(()));
}
