//! A spec directory and a group of its own for each test, with the program under test; everything removed afterwards,
//! whatever happens.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tempfile::TempDir;

use super::engine::{self, Container};
use super::process::{self, Run, Running};

/// How long a command may take unless a test says otherwise.
const LIMIT: Duration = Duration::from_secs(90);

/// The image of most services.
pub const BUSYBOX: &str = "drillmaster/busybox:1";

/// Specs and a group.
pub struct Project {
    /// Name of the group; no other test has the same.
    pub group: String,
    /// Holds the spec directory `specs`, and the state.
    pub home: TempDir,
    host: String,
    tags: Vec<String>,
}

impl Project {
    /// A group without services.
    pub fn new(purpose: &str) -> Project {
        let host = engine::host().to_owned();
        let group = format!("e2e-{purpose}-{:08x}", random() as u32);
        let project = Project { group, home: tempfile::tempdir().unwrap(), host, tags: Vec::new() };
        project.write("group.yaml", &format!("kind: Group\nname: {}\n", project.group));
        project
    }

    /// The spec directory.
    pub fn specs(&self) -> PathBuf {
        self.home.path().join("specs")
    }

    /// Writes a file of the spec directory.
    pub fn write(&self, file: &str, text: &str) {
        let path = self.specs().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Removes a file of the spec directory.
    pub fn remove(&self, file: &str) {
        std::fs::remove_file(self.specs().join(file)).unwrap();
    }

    /// Uses another way to the engine from here on.
    pub fn through(&mut self, host: &str) {
        host.clone_into(&mut self.host);
    }

    /// The program under test with these arguments, in the directory that holds `specs`.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_drillmaster"));
        command
            .args(arguments)
            .current_dir(self.home.path())
            .env("XDG_STATE_HOME", self.home.path().join("state"))
            .env("HOME", self.home.path())
            .env("DOCKER_HOST", &self.host);
        for name in ["DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_TLS_VERIFY", "NO_COLOR", "RUST_BACKTRACE"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs the program.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Run {
        process::run(self.command(arguments), LIMIT)
    }

    /// Begins the program, to do something meanwhile.
    pub fn spawn(&self, arguments: &[&str]) -> Running {
        process::spawn(self.command(arguments))
    }

    /// `up`, which has to succeed.
    #[track_caller]
    pub fn up(&self) -> Run {
        self.run(&["up"]).exits(0)
    }

    /// `diff --output json`: its changes. Fails where the exit code does not fit them.
    #[track_caller]
    pub fn diff(&self) -> Vec<Value> {
        let run = self.run(&["diff", "--output", "json"]);
        let result = run.json();
        let changes = result["changes"].as_array().unwrap_or_else(|| panic!("no changes: {run}")).clone();
        let trouble = result.get("failures").is_some();
        run.exits(if trouble { 2 } else { i32::from(!changes.is_empty()) });
        changes
    }

    /// What differs, one line for each: `api replace env.A, image`.
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

    /// `status --output json`: what it says of a service.
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

    /// Whether `status` calls every service ready.
    pub fn is_ready(&self) -> bool {
        let run = self.run(&["status", "--output", "json"]);
        // It cannot report while the engine is away.
        run.code == Some(0) && run.json()["services"].as_array().unwrap().iter().all(|found| found["ready"] == true)
    }

    /// `<group>-<service>`.
    pub fn name(&self, service: &str) -> String {
        format!("{}-{service}", self.group)
    }

    /// What the engine says of a service's container.
    #[track_caller]
    pub fn inspect(&self, service: &str) -> Value {
        engine::inspect(&self.name(service))
    }

    /// The id of a service's container.
    #[track_caller]
    pub fn id(&self, service: &str) -> String {
        engine::text(&self.inspect(service)["Id"])
    }

    /// The containers of the group, by name.
    pub fn containers(&self) -> Vec<Container> {
        engine::containers(&self.group)
    }

    /// Names of the containers of the group.
    pub fn names(&self) -> Vec<String> {
        let prefix = format!("{}-", self.group);
        let containers = self.containers();
        containers.iter().map(|c| c.name.strip_prefix(&prefix).unwrap_or(&c.name).to_owned()).collect()
    }

    /// Runs a command in a service's container.
    #[track_caller]
    pub fn exec(&self, service: &str, command: &[&str]) -> String {
        engine::exec(&self.name(service), command).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Fails unless exactly these services run, each in one container under its name, on one network, and nothing
    /// differs.
    #[track_caller]
    pub fn is_settled(&self, services: &[&str]) {
        let containers = self.containers();
        let mut wanted: Vec<String> = services.iter().map(|service| self.name(service)).collect();
        wanted.sort();
        let names: Vec<&str> = containers.iter().map(|container| container.name.as_str()).collect();
        assert_eq!(names, wanted, "one container for each service, under its name");
        assert!(containers.iter().all(|container| container.state == "running"), "all run: {containers:#?}");
        assert_eq!(engine::networks(&self.group).len(), 1, "one network");
        assert_eq!(self.differences(), Vec::<String>::new(), "nothing differs");
    }

    /// Another name for an image, as long as the project lives.
    pub fn tag(&mut self, image: &str) -> String {
        let repository = format!("drillmaster/{}", self.group);
        self.retag(image);
        self.tags.push(format!("{repository}:1"));
        format!("{repository}:1")
    }

    /// Lets that name mean this image.
    pub fn retag(&self, image: &str) {
        let repository = format!("drillmaster/{}", self.group);
        engine::must("POST", &format!("/images/{image}/tag?repo={repository}&tag=1"), None);
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        engine::purge(&self.group);
        for tag in &self.tags {
            let _ = engine::ask("DELETE", &format!("/images/{tag}"), None);
        }
    }
}

/// A service that sleeps, with further lines of its document: `sleeper("api", "env: {A: b}")`. It ends at once when
/// asked to.
pub fn sleeper(name: &str, more: &str) -> String {
    format!("---\nname: {name}\nimage: {BUSYBOX}\ncommand: [sleep, infinity]\nstop_signal: KILL\n{more}\n")
}

/// A service that runs a shell script, with further lines of its document.
pub fn script(name: &str, script: &str, more: &str) -> String {
    let script = serde_json::json!(script);
    format!("---\nname: {name}\nimage: {BUSYBOX}\ncommand: [sh, -c, {script}]\nstop_signal: KILL\n{more}\n")
}

/// A host port that is free now, and that nobody else is given by the system.
pub fn port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let offset = (std::process::id() * 37 + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        let port = 20_000 + u16::try_from(offset).unwrap();
        if std::net::TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

/// A random number: for names that nobody else has.
pub fn random() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut seed = time.as_nanos() as u64 ^ (u64::from(std::process::id()) << 40);
    seed = seed.wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    mix(seed)
}

/// The next of a row of numbers that look random, the same for the same seed (splitmix64).
pub fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
