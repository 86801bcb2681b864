//! `up --watch` as a background process of a test, with its JSON lines. Stopped when dropped.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::engine::text;
use super::process::{Run, Running};
use super::project::Project;

/// Timeout for reconciling a change. Generous, because test machines are often busy.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);

/// One run of a container. Each start of the container is a new instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Full id.
    pub id: String,
    /// Start time as reported by the engine.
    pub started: String,
}

impl Instance {
    /// Returns the instance of an inspected container.
    pub fn of(container: &Value) -> Instance {
        Instance { id: text(&container["Id"]), started: text(&container["State"]["StartedAt"]) }
    }
}

/// Returns the instances of a group's containers by container name, without the group prefix.
pub fn instances(project: &Project) -> BTreeMap<String, Instance> {
    let names = project.names();
    names.into_iter().map(|name| (name.clone(), Instance::of(&project.inspect(&name)))).collect()
}

/// A running `up --watch`.
pub struct Watcher {
    running: Option<Running>,
}

impl Watcher {
    /// Starts the watch.
    pub fn spawn(project: &Project) -> Watcher {
        Watcher { running: Some(project.spawn(&["up", "--watch", "--output", "json"])) }
    }

    /// Starts the watch and waits until the group is reconciled for the first time.
    #[track_caller]
    pub fn start(project: &Project) -> Watcher {
        let mut watcher = Watcher::spawn(project);
        watcher.wait_for_line("the watch to settle", |line| line["event"] == "watching");
        watcher
    }

    fn running(&mut self) -> &mut Running {
        self.running.as_mut().unwrap()
    }

    /// Returns all JSON lines so far.
    pub fn lines(&self) -> Vec<Value> {
        let stdout = self.running.as_ref().unwrap().stdout();
        // The last line may be incomplete.
        let complete = stdout.rfind('\n').map_or("", |end| &stdout[..end]);
        complete
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("invalid JSON: {line}")))
            .collect()
    }

    /// Returns the messages of all lines after the first `since`.
    pub fn messages(&self, since: usize) -> Vec<String> {
        self.lines().iter().skip(since).map(|line| text(&line["message"])).collect()
    }

    /// Counts the matching lines so far.
    pub fn count(&self, matches: impl Fn(&Value) -> bool) -> usize {
        self.lines().iter().filter(|line| matches(line)).count()
    }

    /// Waits for a matching line and returns it. Earlier lines count too.
    #[track_caller]
    pub fn wait_for_line(&mut self, what: &str, matches: impl Fn(&Value) -> bool) -> Value {
        self.wait_for_line_after(0, what, matches)
    }

    /// Waits for a matching line after the first `since` lines.
    #[track_caller]
    pub fn wait_for_line_after(&mut self, since: usize, what: &str, matches: impl Fn(&Value) -> bool) -> Value {
        self.wait_for(what, |watcher| watcher.lines().into_iter().skip(since).find(|line| matches(line)))
    }

    /// Polls `check` until it returns a value. Panics with the messages so far if the watch exits or the timeout expires.
    #[track_caller]
    pub fn wait_for<T>(&mut self, what: &str, mut check: impl FnMut(&Watcher) -> Option<T>) -> T {
        let start = std::time::Instant::now();
        loop {
            if let Some(found) = check(self) {
                return found;
            }
            let exited = !self.running().is_running();
            let stderr = self.running().stderr();
            assert!(!exited, "the watch exited while waiting for {what}: {:#?}\n{stderr}", self.messages(0));
            let late = start.elapsed() > SETTLE_TIMEOUT;
            assert!(!late, "timed out waiting for {what}: {:#?}\n{stderr}", self.messages(0));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until `diff` is empty and all containers run.
    #[track_caller]
    pub fn wait_until_settled(&mut self, project: &Project) {
        self.wait_for("an empty diff", |_| {
            let differences = project.differences();
            let all_running = project.containers().iter().all(|container| container.state == "running");
            (differences.is_empty() && all_running).then_some(())
        });
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.running.as_ref().unwrap().id()
    }

    /// Sends a signal to the process.
    pub fn signal(&mut self, signal: Signal) {
        self.running().signal(signal);
    }

    /// Waits until stderr contains a text.
    #[track_caller]
    pub fn wait_for_stderr(&mut self, text: &str) {
        self.running().wait_for_stderr(text);
    }

    /// Waits for the exit.
    #[track_caller]
    pub fn wait_for_exit(mut self) -> Run {
        self.running.take().unwrap().wait_for_exit(SETTLE_TIMEOUT)
    }

    /// Stops the watch with SIGINT, like Ctrl-C; containers keep running.
    #[track_caller]
    pub fn interrupt(mut self) -> Run {
        self.signal(Signal::INT);
        self.wait_for_exit()
    }
}

impl Drop for Watcher {
    /// Stops the watch after its current step, so that it creates nothing after the test has removed the group. Kills the
    /// process if that takes too long.
    fn drop(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        running.signal(Signal::INT);
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while running.is_running() && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
