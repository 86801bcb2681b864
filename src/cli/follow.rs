//! `logs --follow`: one stream of the group, over all containers that it has and gets, until Ctrl-C.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::StreamExt;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::logs::{Printer, Selection, Source, Stamped, Window, merge};
use super::session::{EVENT_DEBOUNCE, RECONNECT_DELAY};
use crate::engine::lines::split_timestamp;
use crate::engine::{ContainerEvent, Engine, EngineError, EngineEvent, EngineStream, LogLine, LogOptions, short};
use crate::observed::State;
use crate::types::ContainerId;

/// Lines that may be queued for printing, over all containers.
const QUEUE: usize = 64;

/// What the reader of a container sends.
enum Message {
    Line(ContainerId, LogLine),
    Ended(ContainerId, Option<EngineError>),
}

/// A container that is followed, or was until it exited.
struct Followed {
    source: Source,
    /// Times of the last lines shown on stdout and stderr: the engine resumes at a whole second.
    last: [Option<Timestamp>; 2],
    /// A reader is running.
    is_read: bool,
    /// The output cannot be read; not tried again until the container starts again.
    has_failed: bool,
    /// It has exited, and that was shown.
    has_ended: bool,
}

impl Followed {
    /// Returns true unless the line was shown before.
    fn is_new(&mut self, time: Timestamp, stderr: bool) -> bool {
        let last = &mut self.last[usize::from(stderr)];
        let is_new = last.is_none_or(|last| time > last);
        if is_new {
            *last = Some(time);
        }
        is_new
    }

    fn resume(&self, window: Window) -> LogOptions {
        match self.last.iter().flatten().max() {
            Some(last) => LogOptions { tail: None, since: last.as_second().max(0), ..window.options() },
            None => window.options(),
        }
    }
}

/// Follows the output of the selected services.
pub(super) struct Follower<'a> {
    engine: Arc<dyn Engine>,
    selection: Selection<'a>,
    window: Window,
    printer: Printer,
    containers: BTreeMap<ContainerId, Followed>,
    /// Names of services and replicas that have been shown.
    names: BTreeSet<String>,
    sender: mpsc::Sender<Message>,
    receiver: mpsc::Receiver<Message>,
}

impl<'a> Follower<'a> {
    pub fn new(engine: Arc<dyn Engine>, selection: Selection<'a>, window: Window, printer: Printer) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (containers, names) = (BTreeMap::new(), BTreeSet::new());
        Follower { engine, selection, window, printer, containers, names, sender, receiver }
    }

    /// Shows what there is, sorted by time, then what comes, until stdout is closed. If the engine becomes unreachable,
    /// reconnects.
    pub async fn follow(mut self) -> Result<(), EngineError> {
        let engine = self.engine.clone();
        let mut is_connected = false;
        loop {
            let mut events = engine.events(&self.selection.desired.group);
            let error = match events.next().await {
                Some(Ok(_)) => {
                    let shown = if is_connected { self.refresh().await } else { self.begin().await };
                    is_connected = true;
                    match shown {
                        Ok(true) => match self.run(events).await {
                            Ok(()) => return Ok(()),
                            Err(error) => error,
                        },
                        Ok(false) => return Ok(()),
                        Err(error) => Some(error),
                    }
                }
                Some(Err(error)) => Some(error),
                None => None,
            };
            if let Some(error) = error {
                if !is_connected {
                    return Err(error);
                }
                self.printer.style.note(format!("engine unreachable: {error}; retrying"));
            }
            self.reconnect().await;
        }
    }

    /// Waits until the engine answers.
    async fn reconnect(&mut self) {
        loop {
            sleep(RECONNECT_DELAY).await;
            if self.engine.list(&self.selection.desired.group, false).await.is_ok() {
                break;
            }
        }
        for followed in self.containers.values_mut() {
            followed.has_failed = false;
        }
    }

    /// Shows the output so far, then begins to follow.
    async fn begin(&mut self) -> Result<bool, EngineError> {
        let observed = self.engine.list(&self.selection.desired.group, false).await?;
        let sources = self.selection.sources(&observed);
        self.selection.report_missing(&sources, self.printer.style);
        self.printer.widen(&sources);
        for source in &sources {
            self.add(source.clone());
        }
        let (containers, printer) = (&mut self.containers, &self.printer);
        let show = |source: &Source, stamped: &Stamped| {
            if let Some(followed) = containers.get_mut(&source.id) {
                followed.is_new(stamped.time, stamped.line.stderr);
            }
            printer.line(source, stamped)
        };
        if self.window.tail != Some(0)
            && !merge(self.engine.as_ref(), &sources, self.window, show, self.printer.style).await
        {
            return Ok(false);
        }
        for source in sources {
            self.read(&source.id);
        }
        // Containers that are created from now on are shown from their first line.
        self.window = Window { tail: None, ..self.window };
        Ok(true)
    }

    /// Shows lines and events. Returns an error if the events end.
    async fn run(&mut self, mut events: EngineStream<'_, EngineEvent>) -> Result<(), Option<EngineError>> {
        let mut refresh_at: Option<Instant> = None;
        loop {
            let is_open = tokio::select! {
                biased;
                // cancel-safe because a message that was not received stays in the channel
                Some(message) = self.receiver.recv() => match message {
                    Message::Line(id, line) => self.show(&id, line),
                    Message::Ended(id, error) => {
                        self.ended(&id, error);
                        refresh_at.get_or_insert_with(|| Instant::now() + EVENT_DEBOUNCE);
                        true
                    }
                },
                // cancel-safe because an event that was not received stays in the stream
                event = events.next() => match event {
                    Some(Ok(EngineEvent::Container { id, what })) => {
                        if let (Some(followed), ContainerEvent::Started) = (self.containers.get_mut(id.as_str()), what) {
                            followed.has_failed = false;
                        }
                        refresh_at.get_or_insert_with(|| Instant::now() + EVENT_DEBOUNCE);
                        true
                    }
                    Some(Ok(_)) => true,
                    Some(Err(error)) => return Err(Some(error)),
                    None => return Err(None),
                },
                // cancel-safe because each wait starts a new timer for the same moment
                () = sleep_until(refresh_at.unwrap_or_else(Instant::now)), if refresh_at.is_some() => {
                    refresh_at = None;
                    self.refresh().await.map_err(Some)?
                }
            };
            if !is_open {
                return Ok(());
            }
        }
    }

    fn show(&mut self, id: &ContainerId, line: LogLine) -> bool {
        let Some(followed) = self.containers.get_mut(id) else { return true };
        let latest = followed.last.iter().flatten().max().copied();
        let time = split_timestamp(&line.text).0.or(latest).unwrap_or_default();
        if self.window.since.is_some_and(|since| time < since) || !followed.is_new(time, line.stderr) {
            return true;
        }
        self.printer.line(&followed.source, &Stamped { time, line })
    }

    fn ended(&mut self, id: &ContainerId, error: Option<EngineError>) {
        let Some(followed) = self.containers.get_mut(id) else { return };
        followed.is_read = false;
        match error {
            None | Some(EngineError::NotFound { .. }) => {}
            Some(EngineError::Unreachable { .. }) => followed.has_failed = true,
            Some(error) => {
                followed.has_failed = true;
                self.printer.style.eprintln(format!("{}: {error}", followed.source.name));
            }
        }
    }

    /// Lists the containers: shows which have exited or are gone, and follows new and restarted ones. Returns false if
    /// stdout is closed.
    async fn refresh(&mut self) -> Result<bool, EngineError> {
        let observed = self.engine.list(&self.selection.desired.group, false).await?;
        let sources = self.selection.sources(&observed);
        let mut is_open = true;
        let present: BTreeSet<&ContainerId> = sources.iter().map(|source| &source.id).collect();
        let is_gone = |(id, followed): &(&ContainerId, &Followed)| !followed.is_read && !present.contains(id);
        let gone: Vec<ContainerId> = self.containers.iter().filter(is_gone).map(|(id, _)| id.clone()).collect();
        for followed in gone.iter().filter_map(|id| self.containers.remove(id)) {
            if !followed.has_ended {
                is_open &= self.printer.mark(&followed.source, "removed", "container removed");
            }
        }
        self.printer.widen(&sources);
        for source in sources {
            let Some(followed) = self.containers.get(&source.id) else {
                is_open &= self.announce(&source);
                let id = source.id.clone();
                self.add(source);
                self.read(&id);
                continue;
            };
            if !followed.is_read {
                is_open &= self.check(&source).await?;
            }
        }
        Ok(is_open)
    }

    /// Shows that a followed container has exited, or follows it again if it runs.
    async fn check(&mut self, source: &Source) -> Result<bool, EngineError> {
        // A list may be stale after an exit; an inspection is not.
        let Some(container) = self.engine.inspect(&source.id).await? else { return Ok(true) };
        let is_up = container.is_up();
        let Some(followed) = self.containers.get_mut(&source.id) else { return Ok(true) };
        match (is_up, followed.has_failed) {
            (true, false) => {
                let is_open = self.printer.mark(source, "restarted", "container restarted");
                followed.has_ended = false;
                self.read(&source.id);
                Ok(is_open)
            }
            (false, _) if !followed.has_ended => {
                followed.has_ended = true;
                match container.state {
                    State::Exited { .. } => {
                        Ok(self.printer.mark(source, "exited", &format!("container {}", container.state)))
                    }
                    State::Removing | State::Dead => Ok(self.printer.mark(source, "removed", "container removed")),
                    // It has not run yet.
                    _ => {
                        followed.has_ended = false;
                        Ok(true)
                    }
                }
            }
            _ => Ok(true),
        }
    }

    /// Marks a further container of a service whose output was shown before.
    fn announce(&self, source: &Source) -> bool {
        let text = format!("new container {}", short(&source.id));
        !self.names.contains(&source.name) || self.printer.mark(source, "new-container", &text)
    }

    fn add(&mut self, source: Source) {
        self.names.insert(source.name.clone());
        let followed =
            Followed { source: source.clone(), last: [None; 2], is_read: false, has_failed: false, has_ended: false };
        self.containers.insert(source.id, followed);
    }

    /// Reads the output of a container in a task of its own, from the last line shown.
    fn read(&mut self, id: &ContainerId) {
        let Some(followed) = self.containers.get_mut(id) else { return };
        followed.is_read = true;
        let options = LogOptions { follow: true, ..followed.resume(self.window) };
        let (engine, sender, id) = (self.engine.clone(), self.sender.clone(), id.clone());
        tokio::spawn(async move {
            let mut error = None;
            let mut lines = engine.logs(&id, options);
            while let Some(line) = lines.next().await {
                match line {
                    Ok(line) => {
                        // The command has ended.
                        if sender.send(Message::Line(id.clone(), line)).await.is_err() {
                            return;
                        }
                    }
                    Err(failure) => error = Some(failure),
                }
            }
            // The receiver is gone if the command has ended.
            let _ = sender.send(Message::Ended(id.clone(), error)).await;
        });
    }
}
