//! The loop: events in, commands out, until the run is over.
//!
//! [`Core`] decides, synchronously; its commands become [`Tasks`] and their results events.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::event::{Command, Event, Outcome, Report, Request, RequestId, RequestKind};
use super::execute::tasks::Tasks;
use super::reconcile::{Core, RunMode};
use super::{Setting, Watch};
use crate::desired::Desired;
use crate::engine::Engine;
use crate::plan::Memory;

pub(super) async fn drive(
    engine: Arc<dyn Engine>,
    desired: Desired,
    setting: Setting,
    watch: Option<Watch>,
    mut interrupts: mpsc::Receiver<()>,
    mut report: impl FnMut(Report),
) -> Outcome {
    let start = Instant::now();
    let (events, mut inbox) = mpsc::unbounded_channel();
    let course = match &watch {
        None => RunMode::Once,
        Some(watch) => RunMode::Watch { may_empty: watch.may_empty },
    };
    let (read, mut changes, mut requests) = match watch {
        None => (setting.read, None, None),
        Some(watch) => (Some(watch.read), Some(watch.changes), Some(watch.requests)),
    };
    let mut tasks = Tasks::new(engine, events, setting.surroundings, setting.notes, setting.context, read);
    let memory = Memory::new(tasks.updated());
    let mut core = Core::new(desired, setting.limits, course, memory, setting.reload);
    let mut clients = Subscribers::default();
    let mut event = Event::Begin;
    loop {
        let reaction = core.handle(event, start.elapsed());
        for news in reaction.reports {
            clients.tell(&news);
            report(news);
        }
        for command in reaction.commands {
            match command {
                Command::Reply(ticket, last) => clients.reaction(ticket, *last),
                // What is begun after the end would be cut off.
                _ if reaction.over => {}
                command => tasks.begin(command, &core),
            }
        }
        if reaction.over {
            break;
        }
        let wake = reaction.wake.map(|at| start + at);
        event = loop {
            tokio::select! {
                // In this order, so that a run can be repeated: what it does depends on what happens alone.
                biased;
                // cancel-safe because a message that was not received stays in the channel
                Some(()) = interrupts.recv() => break Event::Interrupt,
                // cancel-safe for the same reason
                Some(event) = inbox.recv() => break event,
                // cancel-safe for the same reason
                Some(()) = received(&mut changes) => break Event::SpecsChanged,
                // cancel-safe for the same reason
                Some(request) = received(&mut requests) => {
                    let Request { ask, reply } = request;
                    break Event::Request(clients.enter(&ask, reply), ask);
                }
                // cancel-safe because the time is computed anew for the next turn
                () = sleep_until(wake) => break Event::Tick,
                // cancel-safe because a task that was not joined stays in the set
                Some(ended) = tasks.join_next() => {
                    // A task that ended has sent its event. One that panicked never will, and to wait for it would be
                    // to hang: the bug is passed on.
                    if let Err(error) = ended && let Ok(panic) = error.try_into_panic() {
                        std::panic::resume_unwind(panic);
                    }
                }
            }
        };
    }
    core.into_outcome()
}

/// The next message; never one where there is no channel, or no longer one.
async fn received<T>(channel: &mut Option<mpsc::Receiver<T>>) -> Option<T> {
    let message = match channel {
        Some(open) => open.recv().await,
        None => std::future::pending().await,
    };
    if message.is_none() {
        *channel = None;
    }
    message
}

/// Processes that asked for something and wait for the answer.
#[derive(Debug, Default)]
struct Subscribers {
    last: RequestId,
    waiting: BTreeMap<RequestId, Subscriber>,
}

#[derive(Debug)]
struct Subscriber {
    reply: mpsc::UnboundedSender<Report>,
    /// Told everything that happens until then.
    follows: bool,
}

impl Subscribers {
    fn enter(&mut self, ask: &RequestKind, reply: mpsc::UnboundedSender<Report>) -> RequestId {
        self.last += 1;
        let follows = matches!(ask, RequestKind::Reconcile | RequestKind::Reload(_));
        self.waiting.insert(self.last, Subscriber { reply, follows });
        self.last
    }

    /// One that has gone is not told anything any longer.
    fn tell(&mut self, news: &Report) {
        self.waiting.retain(|_, client| !client.follows || client.reply.send(news.clone()).is_ok());
    }

    fn reaction(&mut self, ticket: RequestId, last: Report) {
        if let Some(client) = self.waiting.remove(&ticket) {
            // It may have gone meanwhile.
            let _ = client.reply.send(last);
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
