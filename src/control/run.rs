//! Event loop: passes events to [`Core`] and its commands to [`Tasks`], until the run is over.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::event::{Command, Event, Outcome, Report, Request, RequestId, RequestKind};
use super::execute::tasks::Tasks;
use super::lease::LeaseMonitor;
use super::reconcile::{Core, RunMode};
use super::{RunOptions, WatchOptions};
use crate::desired::Desired;
use crate::engine::Engine;

/// When a run ends.
pub(super) enum Mode {
    /// Once everything is settled, or on request.
    Once { requests: mpsc::Receiver<Request> },
    /// On request only.
    Watch(WatchOptions),
}

pub(super) async fn drive(
    engine: Arc<dyn Engine>,
    desired: Desired,
    options: RunOptions,
    mode: Mode,
    mut interrupts: mpsc::Receiver<()>,
    mut report: impl FnMut(Report),
) -> Outcome {
    let start = Instant::now();
    let (events, mut inbox) = mpsc::unbounded_channel();
    let (mode, read, mut changes, mut requests) = match mode {
        Mode::Once { requests } => (RunMode::Once, options.read, None, Some(requests)),
        Mode::Watch(WatchOptions { read, changes, requests, may_empty }) => {
            (RunMode::Watch { may_empty }, Some(read), Some(changes), Some(requests))
        }
    };
    let mut lease = options.lease;
    let mut tasks = Tasks::new(engine, events, options.context, options.local_state, read);
    let memory = tasks.memory();
    let mut core = Core::new(desired, options.limits, mode, memory, options.reload);
    let mut subscribers = Subscribers::default();
    let mut event = Event::Begin;
    loop {
        let mut later = check_lease(&mut lease, &mut event).await;
        let reaction = core.handle(event, start.elapsed());
        for news in reaction.reports {
            subscribers.send(&news);
            report(news);
        }
        let (desired, observed) = core.view();
        for command in reaction.commands {
            match command {
                Command::Reply(id, last) => subscribers.reply(id, *last),
                // A task that begins now would be cut off.
                _ if reaction.over => {}
                command => tasks.begin(command, desired, observed),
            }
        }
        if reaction.over {
            break;
        }
        let wake = reaction.wake.map(|at| start + at);
        event = loop {
            if let Some(event) = later.take() {
                break event;
            }
            tokio::select! {
                // In this order, so that a run is reproducible: it depends on the events alone.
                biased;
                // cancel-safe because a message that was not received stays in the channel
                Some(()) = interrupts.recv() => break Event::Interrupt,
                // cancel-safe, as it says
                event = lease_changed(&mut lease) => break event,
                // cancel-safe because a message that was not received stays in the channel
                Some(event) = inbox.recv() => break event,
                // cancel-safe for the same reason
                Some(()) = receive(&mut changes) => break Event::SpecsChanged,
                // cancel-safe for the same reason
                Some(request) = receive(&mut requests) => {
                    let Request { kind, reply } = request;
                    break Event::Request(subscribers.add(&kind, reply), kind);
                }
                // cancel-safe because the time is computed again for the next turn
                () = sleep_until(wake) => break Event::Tick,
                // cancel-safe because a task that was not joined stays in the set
                Some(ended) = tasks.join_next() => {
                    // A task that ended has sent its event. One that panicked never will, and waiting for its event would
                    // hang: pass the panic on.
                    if let Err(error) = ended && let Ok(panic) = error.try_into_panic() {
                        std::panic::resume_unwind(panic);
                    }
                }
            }
        };
    }
    core.into_outcome()
}

/// The next message of an optional channel. Never returns if there is no channel; removes a closed one.
async fn receive<T>(channel: &mut Option<mpsc::Receiver<T>>) -> Option<T> {
    let message = match channel {
        Some(open) => open.recv().await,
        None => std::future::pending().await,
    };
    if message.is_none() {
        *channel = None;
    }
    message
}

/// Checks the lease before an event is handled. What has happened to it comes first; returns the event for later then.
async fn check_lease(lease: &mut Option<LeaseMonitor>, event: &mut Event) -> Option<Event> {
    let news = lease.as_mut()?.check().await?;
    Some(std::mem::replace(event, news))
}

/// What happens to the lease. Never returns if there is none.
async fn lease_changed(lease: &mut Option<LeaseMonitor>) -> Event {
    match lease {
        Some(lease) => lease.changed().await,
        None => std::future::pending().await,
    }
}

/// Processes whose requests are not answered yet.
#[derive(Debug, Default)]
struct Subscribers {
    last_id: RequestId,
    waiting: BTreeMap<RequestId, Subscriber>,
}

#[derive(Debug)]
struct Subscriber {
    reply: mpsc::Sender<Report>,
    /// Reserved for the last report. `None`: the client has disconnected.
    last: Option<mpsc::OwnedPermit<Report>>,
    /// Receives every report until its request is answered.
    follows: bool,
    /// Reports that were omitted because the client reads too slowly.
    omitted: usize,
}

impl Subscriber {
    /// Sends a report, unless the client has too many to read. Returns false if it has disconnected.
    fn send(&mut self, report: &Report) -> bool {
        if self.omitted > 0 && self.reply.capacity() > 1 {
            let note = Report::Note(format!("… {} messages omitted", std::mem::take(&mut self.omitted)));
            let _ = self.reply.try_send(note);
        }
        match self.reply.try_send(report.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.omitted += 1;
                true
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }
}

impl Subscribers {
    fn add(&mut self, kind: &RequestKind, reply: mpsc::Sender<Report>) -> RequestId {
        self.last_id += 1;
        let follows = matches!(kind, RequestKind::Reconcile | RequestKind::Reload(_));
        let last = reply.clone().try_reserve_owned().ok();
        self.waiting.insert(self.last_id, Subscriber { reply, last, follows, omitted: 0 });
        self.last_id
    }

    /// Sends a report to those that follow, and forgets those that have disconnected.
    fn send(&mut self, report: &Report) {
        self.waiting.retain(|_, subscriber| !subscriber.follows || subscriber.send(report));
    }

    /// Answers a request with its last report.
    fn reply(&mut self, id: RequestId, last: Report) {
        if let Some(permit) = self.waiting.remove(&id).and_then(|subscriber| subscriber.last) {
            permit.send(last);
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
