//! A separate spec directory and group for each test, with the program under test. Everything is removed when dropped.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tempfile::TempDir;

use super::engine::{self, Container};
use super::process::{self, Run, Running};

/// Default time limit of a command.
const LIMIT: Duration = Duration::from_secs(90);

/// The image used by most services.
pub const BUSYBOX: &str = "drillmaster/busybox:1";

/// A spec directory and the group that it defines.
pub struct Project {
    /// Unique group name.
    pub group: String,
    /// Home directory: contains the spec directory `specs` and the state directory `state`.
    pub home: TempDir,
    host: String,
    tags: Vec<String>,
}

impl Project {
    /// Creates a project whose group has no services.
    pub fn new(purpose: &str) -> Project {
        let host = engine::host().to_owned();
        let group = format!("e2e-{purpose}-{:08x}", random_u64() as u32);
        let project = Project { group, home: tempfile::tempdir().unwrap(), host, tags: Vec::new() };
        project.write("group.yaml", &format!("kind: Group\nname: {}\n", project.group));
        project
    }

    /// Returns the spec directory.
    pub fn specs(&self) -> PathBuf {
        self.home.path().join("specs")
    }

    /// Returns the state directory of the group.
    pub fn state_directory(&self) -> PathBuf {
        let engine = std::fs::read_dir(self.home.path().join("state/drillmaster")).unwrap().next().unwrap().unwrap();
        engine.path().join(&self.group)
    }

    /// Writes a file in the spec directory.
    pub fn write(&self, file: &str, text: &str) {
        let path = self.specs().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Removes a file from the spec directory.
    pub fn remove(&self, file: &str) {
        std::fs::remove_file(self.specs().join(file)).unwrap();
    }

    /// Sets the engine address for all further commands.
    pub fn set_host(&mut self, host: &str) {
        host.clone_into(&mut self.host);
    }

    /// Returns a command for the program under test, to run in the home directory.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_drillmaster"));
        command
            .args(arguments)
            .current_dir(self.home.path())
            .env("XDG_STATE_HOME", self.home.path().join("state"))
            .env("HOME", self.home.path())
            .env("DOCKER_HOST", &self.host);
        for name in ["CONTEXT", "CONFIG", "TLS", "TLS_VERIFY", "CERT_PATH"] {
            command.env_remove(format!("DOCKER_{name}"));
        }
        for name in ["NO_COLOR", "RUST_BACKTRACE"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs the program until it exits. A network that the engine does not release (moby/moby#42119) is no failure of
    /// the program, which has to report it.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Run {
        let mut run = process::run(self.command(arguments), LIMIT);
        let mut errors = run.stderr.lines().filter(|line| line.starts_with("error:"));
        let leaked = |line: &str| line.contains("could not remove network") && line.contains("active endpoints");
        if run.stderr.contains("the engine reports a stale endpoint") && errors.all(leaked) {
            run.code = Some(0);
        }
        run
    }

    /// Starts the program without waiting for its exit.
    pub fn spawn(&self, arguments: &[&str]) -> Running {
        process::spawn(self.command(arguments))
    }

    /// Runs `up` and asserts success.
    #[track_caller]
    pub fn up(&self) -> Run {
        self.run(&["up"]).exits(0)
    }

    /// Returns the changes of `diff --output json`. Asserts that the exit code matches them.
    #[track_caller]
    pub fn diff(&self) -> Vec<Value> {
        let run = self.run(&["diff", "--output", "json"]);
        let result = run.json();
        let changes = result["changes"].as_array().unwrap_or_else(|| panic!("no changes: {run}")).clone();
        let failed = result.get("failures").is_some();
        run.exits(if failed { 2 } else { i32::from(!changes.is_empty()) });
        changes
    }

    /// Returns the changes of `diff`, one line each: `api replace env.A, image`.
    #[track_caller]
    pub fn differences(&self) -> Vec<String> {
        self.diff()
            .iter()
            .map(|change| {
                let causes = change["causes"].as_array().into_iter().flatten();
                let fields: Vec<String> = causes.map(|cause| engine::text(&cause["field"])).collect();
                let words = [engine::text(&change["service"]), engine::text(&change["action"]), fields.join(", ")];
                words.join(" ").trim_end().to_owned()
            })
            .collect()
    }

    /// Returns a service's entry in `status --output json`.
    #[track_caller]
    pub fn status(&self, service: &str) -> Value {
        let run = self.run(&["status", "--output", "json"]).exits(0);
        let status = run.json();
        let services = status["services"].as_array().into_iter().flatten();
        services
            .into_iter()
            .find(|found| found["name"] == service)
            .unwrap_or_else(|| panic!("no {service}: {run}"))
            .clone()
    }

    /// Returns true if `status` reports every service as ready.
    pub fn is_ready(&self) -> bool {
        let run = self.run(&["status", "--output", "json"]);
        // `status` fails while the engine is unreachable.
        run.code == Some(0) && run.json()["services"].as_array().unwrap().iter().all(|found| found["ready"] == true)
    }

    /// Returns the container name `<group>-<service>`.
    pub fn name(&self, service: &str) -> String {
        format!("{}-{service}", self.group)
    }

    /// Inspects a service's container.
    #[track_caller]
    pub fn inspect(&self, service: &str) -> Value {
        engine::inspect(&self.name(service))
    }

    /// Returns the id of a service's container.
    #[track_caller]
    pub fn id(&self, service: &str) -> String {
        engine::text(&self.inspect(service)["Id"])
    }

    /// Lists the containers of the group, sorted by name.
    pub fn containers(&self) -> Vec<Container> {
        engine::containers(&self.group)
    }

    /// Lists the container names of the group, without the group prefix.
    pub fn names(&self) -> Vec<String> {
        let prefix = format!("{}-", self.group);
        let containers = self.containers();
        containers.iter().map(|c| c.name.strip_prefix(&prefix).unwrap_or(&c.name).to_owned()).collect()
    }

    /// Runs a command in a service's container and returns stdout. Panics if the command fails.
    #[track_caller]
    pub fn exec(&self, service: &str, command: &[&str]) -> String {
        engine::exec(&self.name(service), command).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Asserts that exactly these services run, each in one container with the service name, on one network, and that
    /// `diff` is empty.
    #[track_caller]
    pub fn assert_settled(&self, services: &[&str]) {
        let containers = self.containers();
        let mut expected: Vec<String> = services.iter().map(|service| self.name(service)).collect();
        expected.sort();
        let names: Vec<&str> = containers.iter().map(|container| container.name.as_str()).collect();
        assert_eq!(names, expected, "one container per service, with the service name");
        assert!(containers.iter().all(|container| container.state == "running"), "all containers run: {containers:#?}");
        assert_eq!(engine::networks(&self.group).len(), 1, "one network");
        assert_eq!(self.differences(), Vec::<String>::new(), "diff is empty");
    }

    /// Creates an additional tag for an image; removed with the project.
    pub fn tag(&mut self, image: &str) -> String {
        let repository = format!("drillmaster/{}", self.group);
        self.retag(image);
        self.tags.push(format!("{repository}:1"));
        format!("{repository}:1")
    }

    /// Points the additional tag to an image.
    pub fn retag(&self, image: &str) {
        let repository = format!("drillmaster/{}", self.group);
        engine::request("POST", &format!("/images/{image}/tag?repo={repository}&tag=1"), None);
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        engine::purge(&self.group);
        for tag in &self.tags {
            let _ = engine::try_request("DELETE", &format!("/images/{tag}"), None);
        }
    }
}

/// Returns the spec of a sleeping service with additional YAML lines: `sleeper("api", "env: {A: b}")`. The container
/// stops immediately.
pub fn sleeper(name: &str, more: &str) -> String {
    format!("---\nname: {name}\nimage: {BUSYBOX}\ncommand: [sleep, infinity]\nstop_signal: KILL\n{more}\n")
}

/// Returns the spec of a service that runs a shell script, with additional YAML lines.
pub fn script(name: &str, script: &str, more: &str) -> String {
    let script = serde_json::json!(script);
    format!("---\nname: {name}\nimage: {BUSYBOX}\ncommand: [sh, -c, {script}]\nstop_signal: KILL\n{more}\n")
}

/// Returns a free host port below the range of ephemeral ports.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let offset = (std::process::id() * 37 + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        let port = 20_000 + u16::try_from(offset).unwrap();
        if std::net::TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

/// Returns a random number, for unique names.
pub fn random_u64() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut seed = time.as_nanos() as u64 ^ (u64::from(std::process::id()) << 40);
    seed = seed.wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    splitmix64(seed)
}

/// Returns the next number of the pseudorandom sequence of a seed.
pub fn splitmix64(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Returns the path of a file in the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
