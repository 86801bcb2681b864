//! Engine outages during a watch: killed, stopped or suspended. The watch recovers without user action.
//!
//! Uses a private engine, because the test kills it. Starting an engine requires root.

use std::process::{Command, ExitStatus};
use std::time::Duration;

use jiff::Timestamp;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::engine::text;
use crate::support::process;
use crate::support::project::{Project, repository, script};
use crate::support::proxy::Proxy;
use crate::support::watcher::Watcher;

/// Time limit of the engine script. A starting engine first stops leftover containers, which takes up to ten seconds.
const LIMIT: Duration = Duration::from_secs(60);

/// A private engine; removed with all its data when dropped.
struct PrivateEngine {
    directory: tempfile::TempDir,
    /// The directory is a file system of its own, in memory.
    in_memory: bool,
}

impl PrivateEngine {
    fn start() -> PrivateEngine {
        PrivateEngine::start_in(PrivateEngine::directory(), false)
    }

    /// Starts an engine with a small disk.
    fn start_in_memory() -> PrivateEngine {
        let directory = PrivateEngine::directory();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=200m", "tmpfs"]).arg(directory.path());
        process::run(mount, LIMIT).exits(0);
        PrivateEngine::start_in(directory, true)
    }

    fn directory() -> tempfile::TempDir {
        // Not in /tmp, which may be in memory. Socket paths must be short.
        tempfile::Builder::new().prefix("own").tempdir_in("/var/tmp").unwrap()
    }

    fn start_in(directory: tempfile::TempDir, in_memory: bool) -> PrivateEngine {
        let engine = PrivateEngine { directory, in_memory };
        engine.script("start");
        let image = engine.directory.path().join("image.tar");
        let image = image.to_str().unwrap();
        let mut save = Command::new("docker");
        save.args(["save", "-o", image, "drillmaster/busybox:1"]).env("DOCKER_HOST", crate::support::engine::host());
        process::run(save, LIMIT).exits(0);
        engine.docker(&["load", "-q", "-i", image]).exits(0);
        engine
    }

    fn root(&self) -> String {
        self.directory.path().join("e").display().to_string()
    }

    fn socket(&self) -> String {
        format!("{}/docker.sock", self.root())
    }

    fn host(&self) -> String {
        format!("unix://{}", self.socket())
    }

    /// Runs `dev/engine-own.sh` with a verb: `start`, `stop`, `kill`.
    #[track_caller]
    fn script(&self, verb: &str) {
        let mut command = Command::new(repository("dev/engine-own.sh"));
        command.arg(verb).arg(self.root());
        process::run(command, LIMIT).exits(0);
    }

    fn docker(&self, arguments: &[&str]) -> process::Run {
        let mut command = Command::new("docker");
        command.args(arguments).env("DOCKER_HOST", self.host()).env_remove("DOCKER_CONTEXT");
        process::run(command, LIMIT)
    }

    fn signal(&self, signal: Signal) {
        let pid = std::fs::read_to_string(format!("{}/dockerd.pid", self.root())).unwrap();
        kill_process(Pid::from_raw(pid.trim().parse().unwrap()).unwrap(), signal).unwrap();
    }

    #[track_caller]
    fn inspect(&self, project: &Project, service: &str) -> Value {
        self.docker(&["inspect", &project.name(service)]).exits(0).json()[0].clone()
    }

    /// Returns the start time of a service's container.
    fn started(&self, project: &Project, service: &str) -> Timestamp {
        let container = self.inspect(project, service);
        assert_eq!(container["State"]["Running"], true, "{service} runs");
        text(&container["State"]["StartedAt"]).parse().unwrap()
    }
}

impl Drop for PrivateEngine {
    fn drop(&mut self) {
        let script = repository("dev/engine-own.sh");
        let removed = Command::new(script).arg("remove").arg(self.root()).output();
        if !removed.as_ref().is_ok_and(|output| output.status.success()) {
            eprintln!("cannot remove the engine in {}: {removed:?}", self.root());
        }
        if self.in_memory {
            let unmounted = Command::new("umount").arg(self.directory.path()).status();
            if !unmounted.as_ref().is_ok_and(ExitStatus::success) {
                eprintln!("cannot unmount {}: {unmounted:?}", self.directory.path().display());
            }
        }
    }
}

const SERVICES: [(&str, &str); 5] =
    [("db", ""), ("api", "db"), ("cache", "db"), ("web", "api, cache"), ("edge", "web")];

/// Delay from start to readiness.
const READY_DELAY: Duration = Duration::from_millis(300);

/// Writes the specs. `value` is in the environment of `edge`, which has no dependents.
fn write(project: &Project, value: &str) {
    let specs = SERVICES.map(|(name, dependencies)| {
        let value = if name == "edge" { value } else { "same" };
        let more = format!(
            "env: {{A: {value}}}\ndependencies: [{dependencies}]\ntmpfs: /life\nping: {{exec: [test, -e, /life/ready]}}"
        );
        script(name, "sleep 0.3; touch /life/ready; sleep infinity", &more)
    });
    project.write("all.yaml", &specs.concat());
}

/// Asserts that all services were started after `since`, each after its dependencies were ready.
#[track_caller]
fn assert_started_in_order(engine: &PrivateEngine, project: &Project, since: Timestamp) {
    for (service, dependencies) in SERVICES {
        let started = engine.started(project, service);
        assert!(started > since, "{service} was restarted");
        for dependency in dependencies.split(", ").filter(|name| !name.is_empty()) {
            let ready = engine.started(project, dependency) + READY_DELAY;
            assert!(started >= ready, "{service} was started at {started:?}, {dependency} was ready at {ready:?}");
        }
    }
}

/// Returns the container ids of all services.
fn ids(engine: &PrivateEngine, project: &Project) -> [String; 5] {
    SERVICES.map(|(service, _)| text(&engine.inspect(project, service)["Id"]))
}

/// Returns the CPU time used by a process.
fn cpu_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<u64> =
        stat.rsplit(") ").next().unwrap().split(' ').map(|field| field.parse().unwrap_or(0)).collect();
    // The unit is 10 ms on Linux.
    Duration::from_millis((fields[11] + fields[12]) * 10)
}

/// Waits until the engine agrees with the specs that have this value.
#[track_caller]
fn wait_for_agreement(engine: &PrivateEngine, project: &Project, watcher: &mut Watcher, value: &str) {
    watcher.wait_for(&format!("an empty diff with the value {value}"), |_| {
        let name = project.name("edge");
        let edited = engine.docker(&["exec", &name, "sh", "-c", "echo $A"]).stdout.trim() == value;
        (edited && project.is_ready() && project.differences().is_empty()).then_some(())
    });
}

#[test]
fn services_recover_from_every_engine_outage() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipping: starting a private engine requires root");
        return;
    }
    let engine = PrivateEngine::start();
    let mut project = Project::new("outage");
    project.set_host(&engine.host());
    write(&project, "one");
    let mut watcher = Watcher::start(&project);
    assert_started_in_order(&engine, &project, Timestamp::UNIX_EPOCH);
    let before = ids(&engine, &project);

    for verb in ["kill", "stop"] {
        let (since, offset) = (Timestamp::now(), watcher.lines().len());
        engine.script(verb);
        watcher.wait_for_line_after(offset, &format!("the loss of the engine after {verb}"), |line| {
            line["event"] == "engine-lost"
        });
        engine.script("start");
        watcher
            .wait_for_line_after(offset, "the reconnect to the engine", |line| line["event"] == "engine-reconnected");
        watcher.wait_for(&format!("all services to be ready after {verb}"), |_| project.is_ready().then_some(()));
        assert_started_in_order(&engine, &project, since);
        let lines = watcher.lines().split_off(offset);
        // A stopping engine stops its containers, and recently started ones then count as failed.
        if verb == "kill" {
            let failed = lines.iter().find(|line| line["event"] == "failed");
            assert!(failed.is_none(), "a killed engine is not a service failure: {:#?}", watcher.messages(offset));
        }
        let times = |event: &str| lines.iter().filter(|line| line["event"] == event).count();
        let (lost, reconnected) = (times("engine-lost"), times("engine-reconnected"));
        // A stopping engine may answer once more before it ends.
        let is_told_once = lost == 1 || verb == "stop";
        assert!(lost == reconnected && is_told_once, "{verb}: {:#?}", watcher.messages(offset));
    }
    assert_eq!(ids(&engine, &project), before, "restarted, not replaced");
    watcher.interrupt().exits(130);

    // Suspend the engine, with a proxy that counts requests.
    let proxy = Proxy::start(std::path::Path::new(&engine.socket()));
    project.set_host(&proxy.host());
    let mut watcher = Watcher::start(&project);
    let pid =
        Pid::from_raw(i32::try_from(engine.inspect(&project, "cache")["State"]["Pid"].as_i64().unwrap()).unwrap());
    proxy.take_requests();
    let (busy, offset) = (cpu_time(watcher.pid()), watcher.lines().len());
    engine.signal(Signal::STOP);
    // Specs and containers change during the outage.
    write(&project, "two");
    kill_process(pid.unwrap(), Signal::KILL).unwrap();
    std::thread::sleep(Duration::from_secs(30));
    let requests = proxy.take_requests();
    let busy = cpu_time(watcher.pid()).saturating_sub(busy);
    println!("suspended for 30 s: {} requests, {busy:?} of CPU time, {:#?}", requests.len(), watcher.messages(offset));
    assert!(requests.len() < 60, "busy loop: {requests:#?}");
    assert!(busy < Duration::from_secs(2), "busy loop: {busy:?}");
    engine.signal(Signal::CONT);
    wait_for_agreement(&engine, &project, &mut watcher, "two");
    let after = ids(&engine, &project);
    assert_eq!(after[..4], before[..4], "not replaced");
    assert_ne!(after[4], before[4], "its spec has changed");
    watcher.interrupt().exits(130);
    project.run(&["down", "--volumes"]).exits(0);
}

#[test]
fn replacement_continues_after_faults_of_the_engine() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipping: starting a private engine requires root");
        return;
    }
    let engine = PrivateEngine::start_in_memory();
    let mut project = Project::new("disk");
    project.set_host(&engine.host());
    write(&project, "one");
    let mut watcher = Watcher::start(&project);
    let before = ids(&engine, &project);

    // The disk is full, and free again.
    let fill = engine.directory.path().join("fill");
    let full = std::io::copy(&mut std::io::repeat(0), &mut std::fs::File::create(&fill).unwrap());
    assert_eq!(full.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    let offset = watcher.lines().len();
    write(&project, "two");
    let failed = watcher.wait_for_line_after(offset, "the replacement to fail", |line| line["event"] == "failed");
    assert!(failed.to_string().contains("no space left on device"), "{failed}");
    assert_eq!(ids(&engine, &project), before, "the current container stays");
    std::fs::remove_file(fill).unwrap();
    wait_for_agreement(&engine, &project, &mut watcher, "two");

    // The engine is killed while it creates the new container.
    let offset = watcher.lines().len();
    write(&project, "three");
    watcher.wait_for_line_after(offset, "the replacement to begin", |line| {
        line["event"] == "reconciling" && line["service"] == "edge"
    });
    engine.script("kill");
    engine.script("start");
    wait_for_agreement(&engine, &project, &mut watcher, "three");
    assert_eq!(ids(&engine, &project)[..4], before[..4], "not replaced");
    watcher.interrupt().exits(130);
    project.run(&["down", "--volumes"]).exits(0);
}
