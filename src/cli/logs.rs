//! `logs`: the output of services, each line prefixed with its service; merged by time, or followed.

use std::collections::{BTreeSet, VecDeque};
use std::time::SystemTime;

use futures_util::{StreamExt, stream};
use jiff::Timestamp;

use super::args::{Global, Logs};
use super::follow::Follower;
use super::project::Project;
use super::{Exit, Failure, session};
use crate::desired::Desired;
use crate::engine::lines::split_timestamp;
use crate::engine::{Engine, EngineError, EngineStream, LogLine, LogOptions};
use crate::observed::Observed;
use crate::render::{Style, json};
use crate::spec::Profiles;
use crate::types::ContainerId;

pub(super) async fn logs(global: &Global, logs: &Logs, style: Style) -> Result<Exit, Failure> {
    let project = Project::load_leniently(global, Profiles::all(), style).await?;
    let services = project.known(&logs.services)?;
    let engine = session::connect(global).await?;
    let now = Timestamp::try_from(SystemTime::now()).unwrap_or_default();
    let window = Window {
        tail: logs.tail.0,
        since: logs.since.map(|since| since.before(now)),
        until: logs.until.map(|until| until.before(now)),
    };
    let selection = Selection { desired: &project.desired, services };
    let mut printer = Printer { style, timestamps: logs.timestamps, width: 0 };
    if logs.follow {
        Follower::new(engine, selection, window, printer).follow().await?;
        return Ok(Exit::Ok);
    }
    let observed = engine.list(&project.desired.group, false).await?;
    let sources = selection.sources(&observed);
    selection.report_missing(&sources, style);
    printer.widen(&sources);
    merge(engine.as_ref(), &sources, window, |source, line| printer.line(source, line), style).await;
    Ok(Exit::Ok)
}

/// Which containers are shown.
pub(super) struct Selection<'a> {
    pub desired: &'a Desired,
    /// Names of services; empty: all.
    pub services: BTreeSet<String>,
}

impl Selection<'_> {
    /// The selected containers by name: a service's current container and candidate, its replicas, and jobs.
    pub fn sources(&self, observed: &Observed) -> Vec<Source> {
        let mut sources: Vec<Source> = observed
            .of_group(&self.desired.group)
            .filter_map(|container| {
                let identity = container.identity.as_ref()?;
                let is_selected = self.services.is_empty() || self.services.contains(&identity.service);
                let name = self.desired.instance_of(identity).filter(|_| is_selected)?.into_owned();
                let (service, replica) = (identity.service.clone(), identity.replica);
                Some(Source { id: container.id.clone(), name, service, replica, created: container.created })
            })
            .collect();
        sources.sort_by(|a, b| (&a.name, a.created).cmp(&(&b.name, b.created)));
        sources
    }

    /// Names the selected services without a container.
    pub fn report_missing(&self, sources: &[Source], style: Style) {
        for service in self.services.iter().filter(|name| sources.iter().all(|source| source.service != **name)) {
            style.eprintln(format!("{service}: no container"));
        }
        if sources.is_empty() && self.services.is_empty() {
            style.note(format!("{}: no containers", self.desired.group));
        }
    }
}

/// A container whose output is shown.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub id: ContainerId,
    /// Name of the service, with the replica number if there is one.
    pub name: String,
    pub service: String,
    pub replica: Option<u32>,
    /// Seconds since 1970.
    pub created: i64,
}

/// Which part of the output is shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// Number of lines from the end of each container; `None`: all.
    pub tail: Option<u32>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

impl Window {
    /// The request to the engine, whose times have whole seconds.
    pub fn options(self) -> LogOptions {
        let since = self.since.map_or(0, Timestamp::as_second).max(0);
        LogOptions { tail: self.tail, since, timestamps: true, ..LogOptions::default() }
    }
}

/// A line and the time at which the container wrote it.
pub(super) struct Stamped {
    pub time: Timestamp,
    pub line: LogLine,
}

/// Prints lines and marks.
pub(super) struct Printer {
    pub style: Style,
    pub timestamps: bool,
    pub width: usize,
}

impl Printer {
    /// Makes room for the names of these containers.
    pub fn widen(&mut self, sources: &[Source]) {
        self.width = sources.iter().map(|source| source.name.len()).max().unwrap_or_default().max(self.width);
    }

    /// Prints a line. Returns false if stdout is closed.
    pub fn line(&self, source: &Source, Stamped { time, line }: &Stamped) -> bool {
        let text = split_timestamp(&line.text).1;
        if self.style.json {
            let value = serde_json::json!({
                "service": source.service, "stderr": line.stderr, "line": text, "time": format!("{time:.9}"), "container": source.id,
            });
            return self.style.log_json(&json::with_replica(value, source.replica));
        }
        let name = self.name(source);
        if self.timestamps { self.style.log(&name, &format!("{time:.9} {text}")) } else { self.style.log(&name, text) }
    }

    /// Prints what happened to a container between its lines. Returns false if stdout is closed.
    pub fn mark(&self, source: &Source, event: &str, message: &str) -> bool {
        if self.style.json {
            let value = serde_json::json!({
                "service": source.service, "event": event, "message": message, "container": source.id,
            });
            return self.style.log_json(&json::with_replica(value, source.replica));
        }
        self.style.log(&self.name(source), &format!("--- {message} ---"))
    }

    fn name(&self, source: &Source) -> String {
        format!("{:width$}", source.name, width = self.width)
    }
}

/// Shows the output of the containers until now, sorted by time. At any moment it holds one line of each container.
/// Returns false if `show` did.
pub(super) async fn merge(
    engine: &dyn Engine,
    sources: &[Source],
    window: Window,
    mut show: impl FnMut(&Source, &Stamped) -> bool,
    style: Style,
) -> bool {
    let mut heads: Vec<(usize, Stamped, Lines<'_>)> = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        let mut lines = Lines::open(engine, &source.id, window).await;
        if let Some(first) = lines.next(source, style).await {
            heads.push((index, first, lines));
        }
    }
    while let Some(earliest) = (0..heads.len()).min_by_key(|head| heads[*head].1.time) {
        let (index, stamped, lines) = &mut heads[earliest];
        let source = &sources[*index];
        if !show(source, stamped) {
            return false;
        }
        match lines.next(source, style).await {
            Some(next) => *stamped = next,
            None => drop(heads.remove(earliest)),
        }
    }
    true
}

/// The lines of one container within a window.
struct Lines<'a> {
    lines: EngineStream<'a, LogLine>,
    window: Window,
    last: Timestamp,
}

impl<'a> Lines<'a> {
    async fn open(engine: &'a dyn Engine, id: &'a str, window: Window) -> Lines<'a> {
        let (options, last) = (window.options(), Timestamp::MIN);
        let (Some(_), Some(tail)) = (window.until, window.tail) else {
            return Lines { lines: engine.logs(id, options), window, last };
        };
        // The engine counts from the end of the output, not from `until`.
        let mut all = Lines {
            lines: engine.logs(id, LogOptions { tail: None, ..options }),
            window: Window { tail: None, ..window },
            last,
        };
        let mut kept: VecDeque<Result<LogLine, EngineError>> = VecDeque::new();
        while let Some(line) = all.read().await {
            kept.push_back(line.map(|stamped| stamped.line));
            if kept.len() > tail as usize {
                kept.pop_front();
            }
        }
        Lines { lines: stream::iter(kept).boxed(), window, last }
    }

    async fn read(&mut self) -> Option<Result<Stamped, EngineError>> {
        loop {
            let line = match self.lines.next().await? {
                Ok(line) => line,
                Err(error) => return Some(Err(error)),
            };
            let time = split_timestamp(&line.text).0.unwrap_or(self.last);
            self.last = time;
            if self.window.until.is_some_and(|until| time > until) {
                return None;
            }
            if self.window.since.is_none_or(|since| time >= since) {
                return Some(Ok(Stamped { time, line }));
            }
        }
    }

    /// The next line; an error is printed and ends the lines.
    async fn next(&mut self, source: &Source, style: Style) -> Option<Stamped> {
        match self.read().await? {
            Ok(stamped) => Some(stamped),
            Err(error) => {
                style.eprintln(format!("{}: {error}", source.name));
                None
            }
        }
    }
}
