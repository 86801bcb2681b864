//! `up --watch` beside a test: what it tells as it tells it, and what it does to whom. It ends with the test.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::engine::text;
use super::process::{Run, Running};
use super::project::Project;

/// How long what a watch mends may take: far more than it needs, for machines that are busy.
const MENDED: Duration = Duration::from_secs(60);

/// One run of a container: another start is another life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// Full id.
    pub id: String,
    /// When it was started, as the engine says it.
    pub started: String,
}

impl Life {
    /// Of a container that was inspected.
    pub fn of(container: &Value) -> Life {
        Life { id: text(&container["Id"]), started: text(&container["State"]["StartedAt"]) }
    }
}

/// The lives of a group's containers, by service; one that is not under its own name is under that one.
pub fn lives(project: &Project) -> BTreeMap<String, Life> {
    let names = project.names();
    names.into_iter().map(|name| (name.clone(), Life::of(&project.inspect(&name)))).collect()
}

/// A watching controller.
pub struct Watcher {
    running: Option<Running>,
}

impl Watcher {
    /// Begins to watch.
    pub fn begin(project: &Project) -> Watcher {
        Watcher { running: Some(project.spawn(&["up", "--watch", "--output", "json"])) }
    }

    /// Begins to watch, and returns when everything is settled for the first time.
    #[track_caller]
    pub fn start(project: &Project) -> Watcher {
        let mut watcher = Watcher::begin(project);
        watcher.until("everything to be settled", |line| line["event"] == "watching");
        watcher
    }

    fn running(&mut self) -> &mut Running {
        self.running.as_mut().unwrap()
    }

    /// Every line that was told so far.
    pub fn told(&self) -> Vec<Value> {
        let stdout = self.running.as_ref().unwrap().stdout();
        // The last line may not be whole yet.
        let whole = stdout.rfind('\n').map_or("", |end| &stdout[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect()
    }

    /// What was told after the first so many lines, as people read it.
    pub fn messages(&self, since: usize) -> Vec<String> {
        self.told().iter().skip(since).map(|line| text(&line["message"])).collect()
    }

    /// How many lines that are so were told so far.
    pub fn count(&self, is: impl Fn(&Value) -> bool) -> usize {
        self.told().iter().filter(|line| is(line)).count()
    }

    /// Waits until a line that is so was told, also long ago.
    #[track_caller]
    pub fn until(&mut self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        self.until_after(0, what, is)
    }

    /// Waits for such a line after the first so many.
    #[track_caller]
    pub fn until_after(&mut self, since: usize, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        self.waits(what, |watcher| watcher.told().into_iter().skip(since).find(|line| is(line)))
    }

    /// Waits for anything; fails where the watcher has ended, and says what it told.
    #[track_caller]
    pub fn waits<T>(&mut self, what: &str, mut look: impl FnMut(&Watcher) -> Option<T>) -> T {
        let start = std::time::Instant::now();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            let over = !self.running().is_running();
            let stderr = self.running().stderr();
            assert!(!over, "the watcher ended while a test waits for {what}: {:#?}\n{stderr}", self.messages(0));
            let late = start.elapsed() > MENDED;
            assert!(!late, "waited in vain for {what}; it told {:#?}\n{stderr}", self.messages(0));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until nothing differs any longer.
    #[track_caller]
    pub fn agrees(&mut self, project: &Project) {
        let mut last = Vec::new();
        self.waits("agreement", |_| {
            last = project.differences();
            let up = project.containers().iter().all(|container| container.state == "running");
            (last.is_empty() && up).then_some(())
        });
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.running.as_ref().unwrap().id()
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: Signal) {
        self.running().signal(signal);
    }

    /// Waits until it says this on standard error.
    #[track_caller]
    pub fn until_says(&mut self, text: &str) {
        self.running().until_says(text);
    }

    /// Waits for its end.
    #[track_caller]
    pub fn ends(mut self) -> Run {
        self.running.take().unwrap().ends(MENDED)
    }

    /// Ends it as a person does, with Ctrl-C: containers stay.
    #[track_caller]
    pub fn interrupt(mut self) -> Run {
        self.signal(Signal::INT);
        self.ends()
    }
}

impl Drop for Watcher {
    /// With the step under way, so that nothing is created after the test has removed its group; by force where that
    /// takes too long.
    fn drop(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        running.signal(Signal::INT);
        let limit = std::time::Instant::now() + Duration::from_secs(10);
        while running.is_running() && std::time::Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
