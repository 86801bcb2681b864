//! The engine goes away under a watch, in the ways in which engines do, and everything comes back without a word typed.
//!
//! On an engine of its own, which nobody minds being killed; to start one takes root.

use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::engine::text;
use crate::support::process;
use crate::support::project::{Project, repository, script};
use crate::support::proxy::Proxy;
use crate::support::watcher::Watcher;

/// How long the script may take: an engine that starts ends what the last one left running, ten seconds at worst.
const LIMIT: Duration = Duration::from_secs(60);

/// An engine of this test's own; it and all it has are removed when dropped.
struct Own {
    directory: tempfile::TempDir,
}

impl Own {
    fn start() -> Own {
        // Not in /tmp: what is there may be in memory, and paths of sockets must be short.
        let own = Own { directory: tempfile::Builder::new().prefix("own").tempdir_in("/var/tmp").unwrap() };
        own.script("start");
        let image = own.directory.path().join("image.tar");
        let image = image.to_str().unwrap();
        let mut save = Command::new("docker");
        save.args(["save", "-o", image, "drillmaster/busybox:1"]).env("DOCKER_HOST", crate::support::engine::host());
        process::run(save, LIMIT).exits(0);
        own.docker(&["load", "-q", "-i", image]).exits(0);
        own
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

    /// `start`, `stop`, `kill`: see there.
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

    /// When a service was started.
    fn started(&self, project: &Project, service: &str) -> Timestamp {
        let container = self.inspect(project, service);
        assert_eq!(container["State"]["Running"], true, "{service} runs");
        text(&container["State"]["StartedAt"]).parse().unwrap()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let script = repository("dev/engine-own.sh");
        let removed = Command::new(script).arg("remove").arg(self.root()).output();
        if !removed.as_ref().is_ok_and(|output| output.status.success()) {
            eprintln!("left behind: an engine in {}: {removed:?}", self.root());
        }
    }
}

const SERVICES: [(&str, &str); 5] =
    [("db", ""), ("api", "db"), ("cache", "db"), ("web", "api, cache"), ("edge", "web")];

/// Ready 300 ms after its start, each time.
const GETS_READY: Duration = Duration::from_millis(300);

/// `value` is in the environment of `edge`, which nobody needs.
fn write(project: &Project, value: &str) {
    let specs = SERVICES.map(|(name, needs)| {
        let value = if name == "edge" { value } else { "same" };
        let more = format!(
            "env: {{A: {value}}}\ndependencies: [{needs}]\ntmpfs: /life\nping: {{exec: [test, -e, /life/ready]}}"
        );
        script(name, "sleep 0.3; touch /life/ready; sleep infinity", &more)
    });
    project.write("all.yaml", &specs.concat());
}

/// All five were started after `since`, each when those it needs were ready.
#[track_caller]
fn came_up_in_order(own: &Own, project: &Project, since: Timestamp) {
    for (service, needs) in SERVICES {
        let started = own.started(project, service);
        assert!(started > since, "{service} was started again");
        for needed in needs.split(", ").filter(|needed| !needed.is_empty()) {
            let ready = own.started(project, needed) + GETS_READY;
            assert!(started >= ready, "{service} was started at {started:?}, {needed} was ready at {ready:?}");
        }
    }
}

fn ids(own: &Own, project: &Project) -> [String; 5] {
    SERVICES.map(|(service, _)| text(&own.inspect(project, service)["Id"]))
}

/// Processor time that a process has used.
fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<u64> =
        stat.rsplit(") ").next().unwrap().split(' ').map(|field| field.parse().unwrap_or(0)).collect();
    // In hundredths of a second on every Linux.
    Duration::from_millis((fields[11] + fields[12]) * 10)
}

#[test]
fn killed_stopped_or_held_it_comes_back_and_everything_with_it() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not tested: to start an engine of its own takes root");
        return;
    }
    let own = Own::start();
    let mut project = Project::new("outage");
    project.through(&own.host());
    write(&project, "one");
    let mut watcher = Watcher::start(&project);
    came_up_in_order(&own, &project, Timestamp::UNIX_EPOCH);
    let before = ids(&own, &project);

    for how in ["kill", "stop"] {
        let (since, told) = (Timestamp::now(), watcher.told().len());
        own.script(how);
        watcher
            .until_after(told, &format!("the engine to be missed after {how}"), |line| line["event"] == "engine-lost");
        own.script("start");
        watcher.until_after(told, "the engine to be found again", |line| line["event"] == "engine-reconnected");
        watcher.waits(&format!("all five to be ready after {how}"), |_| project.is_ready().then_some(()));
        came_up_in_order(&own, &project, since);
        let lines = watcher.told().split_off(told);
        // One that is told to stop ends its containers before it goes, and those have only just been started.
        if how == "kill" {
            let failed = lines.iter().find(|line| line["event"] == "failed");
            assert!(failed.is_none(), "that the engine ended is nobody's failure: {:#?}", watcher.messages(told));
        }
        for event in ["engine-lost", "engine-reconnected"] {
            let times = lines.iter().filter(|line| line["event"] == event).count();
            assert_eq!(times, 1, "{how}: {event}: {:#?}", watcher.messages(told));
        }
    }
    assert_eq!(ids(&own, &project), before, "started again, not replaced");
    watcher.interrupt().exits(130);

    // Held, with a proxy that counts what it is asked meanwhile.
    let proxy = Proxy::start(std::path::Path::new(&own.socket()));
    project.through(&proxy.host());
    let mut watcher = Watcher::start(&project);
    let pid = Pid::from_raw(i32::try_from(own.inspect(&project, "cache")["State"]["Pid"].as_i64().unwrap()).unwrap());
    proxy.take();
    let (busy, told) = (processor_time(watcher.pid()), watcher.told().len());
    own.signal(Signal::STOP);
    // Both sides change while nobody can do anything about it.
    write(&project, "two");
    kill_process(pid.unwrap(), Signal::KILL).unwrap();
    std::thread::sleep(Duration::from_secs(30));
    let asked = proxy.take();
    let busy = processor_time(watcher.pid()).saturating_sub(busy);
    println!("held for 30 s: {} requests, {busy:?} of processor time, told {:#?}", asked.len(), watcher.messages(told));
    assert!(asked.len() < 60, "a busy loop: {asked:#?}");
    assert!(busy < Duration::from_secs(2), "a busy loop: {busy:?}");
    own.signal(Signal::CONT);
    watcher.waits("agreement", |_| {
        let edited = own.docker(&["exec", &project.name("edge"), "sh", "-c", "echo $A"]).stdout == "two\n";
        (edited && project.is_ready() && project.differences().is_empty()).then_some(())
    });
    let after = ids(&own, &project);
    assert_eq!(after[..4], before[..4], "not replaced");
    assert_ne!(after[4], before[4], "its spec was changed");
    watcher.interrupt().exits(130);
    project.run(&["down", "--volumes"]).exits(0);
}
