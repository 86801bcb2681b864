//! The loop: events in, commands out, until the run is over.
//!
//! What happens is decided in [`core`], which is synchronous; here its commands become tasks and their results events.
//! Nothing in here knows what a spec is or prints anything.

pub mod act;
pub mod command;
pub mod context;
pub mod core;
pub mod depth;
pub mod event;
pub mod functions;
pub mod hooks;
pub mod http;
pub mod intake;
pub mod lock;
pub mod notes;
pub mod probe;
pub mod reach;
pub mod socket;
pub mod sources;
pub mod watch;
pub mod wire;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::context::{Context, Given};
use self::core::{Core, Course};
use self::event::{Ask, Command, Event, Limits, Outcome, Reading, Report, Request, Ticket};
use self::notes::Notes;
use self::reach::Surroundings;
use crate::desired::Desired;
use crate::engine::{BuildProgress, Engine, EngineError, LogLine, LogOptions};
use crate::observed::Observed;
use crate::plan::step::{Failure, Look, Reason, Verb};
use crate::plan::{self, Memory};

/// What the output of a build is told as, where that of a hook is told by the hook's name.
const BUILD: &str = "build";
/// How many lines of a failed container's output are kept.
const TAIL: u32 = 10;
/// How long they may take to come.
const TAIL_DEADLINE: Duration = Duration::from_secs(5);

/// What a run is given beside the engine and the desired state.
#[derive(Clone)]
pub struct Setting {
    /// How it may go.
    pub limits: Limits,
    /// Where pings are made from.
    pub surroundings: Surroundings,
    /// What earlier runs noted.
    pub notes: Notes,
    /// Outputs of hooks and jobs.
    pub context: Context,
    /// For a run that ends: reads the specs once more when outputs have changed. `None`: nothing is made of outputs. A
    /// watch reads them as it does otherwise.
    pub read: Option<Read>,
    /// Services to replace although they match.
    pub reload: BTreeSet<String>,
}

/// A way to read the specs, again and again.
pub type Read = Arc<dyn Fn() -> BoxFuture<'static, Reading> + Send + Sync>;

/// What a run is given that goes on until somebody ends it.
pub struct Watch {
    /// Reads the specs. Must not hold up the loop for long: what takes time runs on another thread.
    pub read: Read,
    /// Each message says that something in the specs may have changed.
    pub changes: mpsc::Receiver<()>,
    /// What other processes ask for.
    pub requests: mpsc::Receiver<Request>,
    /// The specs may come to name no service, and then everything is removed.
    pub may_empty: bool,
}

/// Runs until the engine agrees, or cannot be made to. `interrupts` ends it at the next step; containers stay as they
/// are, and the next run continues.
pub async fn run(
    engine: Arc<dyn Engine>,
    desired: Desired,
    setting: Setting,
    interrupts: mpsc::Receiver<()>,
    report: impl FnMut(Report),
) -> Outcome {
    drive(engine, desired, setting, None, interrupts, report).await
}

/// Runs until somebody ends it, and keeps the engine in agreement with the specs. Containers stay as they are.
pub async fn watch(
    engine: Arc<dyn Engine>,
    desired: Desired,
    setting: Setting,
    watch: Watch,
    interrupts: mpsc::Receiver<()>,
    report: impl FnMut(Report),
) -> Outcome {
    drive(engine, desired, setting, Some(watch), interrupts, report).await
}

async fn drive(
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
        None => Course::Once,
        Some(watch) => Course::Watch { may_empty: watch.may_empty },
    };
    let (read, mut changes, mut requests) = match watch {
        None => (setting.read, None, None),
        Some(watch) => (Some(watch.read), Some(watch.changes), Some(watch.requests)),
    };
    let mut tasks = Tasks {
        engine,
        events,
        surroundings: Surroundings { context: setting.context.clone(), ..setting.surroundings },
        notes: setting.notes,
        context: setting.context,
        read,
        set: JoinSet::new(),
        probes: HashMap::new(),
        hooks: CancellationToken::new(),
        builds: HashMap::new(),
        subscription: CancellationToken::new(),
    };
    // What stays is in nobody's way.
    let _ = tasks.context.tidy();
    let memory = Memory { updated: tasks.notes.updated(), ..Memory::default() };
    let mut core = Core::new(desired, setting.limits, course, memory, setting.reload);
    let mut clients = Clients::default();
    let mut event = Event::Begin;
    loop {
        let answer = core.handle(event, start.elapsed());
        for news in answer.reports {
            clients.tell(&news);
            report(news);
        }
        for command in answer.commands {
            match command {
                Command::Answer(ticket, last) => clients.answer(ticket, *last),
                // What is begun after the end would be cut off.
                _ if answer.over => {}
                command => tasks.begin(command, &core),
            }
        }
        if answer.over {
            break;
        }
        let wake = answer.wake.map(|at| start + at);
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
                    break Event::Asked(clients.enter(&ask, reply), ask);
                }
                // cancel-safe because the time is computed anew for the next turn
                () = sleep_until(wake) => break Event::Tick,
                // cancel-safe because a task that was not joined stays in the set
                Some(ended) = tasks.set.join_next() => {
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
struct Clients {
    last: Ticket,
    waiting: BTreeMap<Ticket, Client>,
}

#[derive(Debug)]
struct Client {
    reply: mpsc::UnboundedSender<Report>,
    /// Told everything that happens until then.
    follows: bool,
}

impl Clients {
    fn enter(&mut self, ask: &Ask, reply: mpsc::UnboundedSender<Report>) -> Ticket {
        self.last += 1;
        let follows = matches!(ask, Ask::Reconcile | Ask::Reload(_));
        self.waiting.insert(self.last, Client { reply, follows });
        self.last
    }

    /// One that has gone is not told anything any longer.
    fn tell(&mut self, news: &Report) {
        self.waiting.retain(|_, client| !client.follows || client.reply.send(news.clone()).is_ok());
    }

    fn answer(&mut self, ticket: Ticket, last: Report) {
        if let Some(client) = self.waiting.remove(&ticket) {
            // It may have gone meanwhile.
            let _ = client.reply.send(last);
        }
    }
}

/// Looks until a forecast needs nothing more: a list, then what it leaves open.
///
/// # Errors
///
/// Whatever the engine says.
pub async fn observe(engine: &dyn Engine, desired: &Desired, memory: &Memory) -> Result<Observed, EngineError> {
    let purge = desired.aim.purges_volumes();
    let mut observed = engine.list(&desired.group, purge).await?;
    loop {
        let looks = plan::plan(desired, &observed, memory, Duration::ZERO).looks;
        let open: Vec<&String> = looks
            .iter()
            .filter_map(|look| match look {
                Look::Container(id) => Some(id),
                // What an image brings matters when it is run, not for what differs.
                Look::Image(_) => None,
            })
            .collect();
        if open.is_empty() {
            return Ok(observed);
        }
        for id in open {
            match engine.inspect(id).await? {
                Some(container) => observed.containers.insert(id.clone(), container),
                None => observed.containers.remove(id),
            };
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// What is under way. Dropping it ends everything.
struct Tasks {
    engine: Arc<dyn Engine>,
    events: mpsc::UnboundedSender<Event>,
    surroundings: Surroundings,
    notes: Notes,
    context: Context,
    /// How the specs are read, where that happens more than once.
    read: Option<Read>,
    set: JoinSet<()>,
    probes: HashMap<String, CancellationToken>,
    /// Ends every hook.
    hooks: CancellationToken,
    /// Ends a build, by image.
    builds: HashMap<String, CancellationToken>,
    subscription: CancellationToken,
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.subscription.cancel();
    }
}

/// Where outputs go.
struct Outputs {
    context: Context,
    /// Somebody may be made of them.
    events: Option<mpsc::UnboundedSender<Event>>,
}

impl Outputs {
    /// Keeps outputs, and has the specs read again where that changes any. To be called before what gave them is told to
    /// be done, so that nobody is made of an older one.
    fn take(&self, given: Given) -> Result<(), String> {
        match (self.context.keep(given), &self.events) {
            (Ok(true), Some(events)) => {
                // A receiver that is gone means that the run is over.
                let _ = events.send(Event::Outputs);
                Ok(())
            }
            (Ok(_), _) => Ok(()),
            (Err(error), _) => Err(format!("its outputs cannot be kept: {error}")),
        }
    }
}

impl Tasks {
    fn outputs(&self) -> Outputs {
        Outputs { context: self.context.clone(), events: self.read.as_ref().map(|_| self.events.clone()) }
    }

    fn begin(&mut self, command: Command, core: &Core) {
        let (engine, events) = (self.engine.clone(), self.events.clone());
        let (desired, observed) = core.view();
        let group = desired.group.clone();
        // A receiver that is gone means that the run is over, and nobody wants the result.
        match command {
            Command::Subscribe => {
                self.subscription.cancel();
                self.subscription = CancellationToken::new();
                let cancelled = self.subscription.clone();
                self.set.spawn(async move {
                    let _ = cancelled.run_until_cancelled(subscribe(engine, group, events)).await;
                });
            }
            Command::List => {
                let purge = desired.aim.purges_volumes();
                self.set.spawn(async move {
                    let _ = events.send(Event::Listed(engine.list(&group, purge).await));
                });
            }
            Command::Inspect(id) => {
                self.set.spawn(async move {
                    let found = engine.inspect(&id).await.map(|found| found.map(Box::new));
                    let _ = events.send(Event::Inspected(id, found));
                });
            }
            Command::Image(id) => {
                self.set.spawn(async move {
                    let found = engine.image(&id).await;
                    let _ = events.send(Event::Image(id, found));
                });
            }
            Command::Carry(step) if matches!(step.verb, Verb::Hook { .. }) => {
                let call = act::call(&step, desired);
                let (surroundings, interrupted) = (self.surroundings.clone(), self.hooks.clone());
                let outputs = self.outputs();
                self.set.spawn(async move {
                    let result = match call {
                        Ok(call) => call_hook(engine.as_ref(), &call, &surroundings, &interrupted, &events).await,
                        Err(why) => Err(why),
                    };
                    let attempted = step.to_string();
                    let result = result.and_then(|given| outputs.take(given));
                    let result = result.map(|()| None).map_err(|message| EngineError::Refused { attempted, message });
                    let _ = events.send(Event::Done(step, result));
                });
            }
            Command::Carry(step) if matches!(step.verb, Verb::Collect(_)) => {
                let capture = desired.services.get(step.subject.name()).and_then(|job| job.outputs.capture.clone());
                let outputs = self.outputs();
                self.set.spawn(async move {
                    let container = step.verb.container().map(|container| container.id.as_str()).unwrap_or_default();
                    let given = context::of_job(engine.as_ref(), container, capture.as_deref()).await;
                    let attempted = step.to_string();
                    let result = given.and_then(|given| outputs.take(given));
                    let result = result.map(|()| None).map_err(|message| EngineError::Refused { attempted, message });
                    let _ = events.send(Event::Done(step, result));
                });
            }
            Command::EndHooks => self.hooks.cancel(),
            Command::Carry(step) if step.verb == Verb::Build => {
                let request = act::build(&step, desired);
                let cancelled = CancellationToken::new();
                self.builds.insert(step.subject.name().to_owned(), cancelled.clone());
                self.set.spawn(async move {
                    let built = match &request {
                        Some((service, request)) => {
                            let progress = |progress| {
                                if let BuildProgress::Line(line) = progress {
                                    let _ = events.send(Event::Said(Some(service.clone()), BUILD.to_owned(), line));
                                }
                            };
                            cancelled.run_until_cancelled(engine.build(request, &progress)).await
                        }
                        None => None,
                    };
                    let result = built.unwrap_or_else(|| {
                        let message = "the specs no longer want it".to_owned();
                        Err(EngineError::Refused { attempted: step.to_string(), message })
                    });
                    let _ = events.send(Event::Done(step, result.map(|()| None)));
                });
            }
            Command::EndBuild(image) => {
                if let Some(build) = self.builds.remove(&image) {
                    build.cancel();
                }
            }
            Command::Occur(occurrence) => {
                let (surroundings, interrupted) = (self.surroundings.clone(), self.hooks.clone());
                let outputs = self.outputs();
                let calls = act::calls(&occurrence, desired);
                self.set.spawn(async move {
                    let mut result = Ok(());
                    for call in calls {
                        let called = match call {
                            Ok(call) => call_hook(engine.as_ref(), &call, &surroundings, &interrupted, &events).await,
                            Err(why) => Err(why),
                        };
                        // One that fails does not keep the others from being told.
                        result = result.and(called.and_then(|given| outputs.take(given)));
                    }
                    let _ = events.send(Event::Occurred(occurrence, result));
                });
            }
            Command::Carry(step) => {
                if let (Verb::Update { container, .. }, Some(observed)) = (&step.verb, observed) {
                    let noted = self.notes.note(&container.id, |id| observed.containers.contains_key(id));
                    if let Err(error) = noted {
                        tracing::warn!(%error, "cannot note that a container is updated");
                    }
                }
                let act = observed.and_then(|observed| act::translate(&step, desired, observed));
                self.set.spawn(async move {
                    let result = match &act {
                        Some(act) => {
                            let image = step.subject.name().to_owned();
                            let pulling = events.clone();
                            let progress = move |progress| {
                                let _ = pulling.send(Event::Pulling(image.clone(), progress));
                            };
                            act::perform(act, engine.as_ref(), &progress).await
                        }
                        None => {
                            let attempted = step.to_string();
                            let message = "there is no such service in the specs".to_owned();
                            Err(EngineError::NotFound { attempted, message })
                        }
                    };
                    let _ = events.send(Event::Done(step, result));
                });
            }
            Command::Probe(probe) => {
                let cancelled = CancellationToken::new();
                self.probes.insert(probe.container.id.clone(), cancelled.clone());
                let surroundings = self.surroundings.clone();
                self.set.spawn(async move {
                    let id = &probe.container.id;
                    let unanswered = |why| {
                        let _ = events.send(Event::Unanswered(id.clone(), why));
                    };
                    let tried = probe::until_answered(engine.as_ref(), &probe, &surroundings, unanswered);
                    if cancelled.run_until_cancelled(tried).await.is_some() {
                        let _ = events.send(Event::Answered(id.clone()));
                    }
                });
            }
            Command::EndProbe(id) => {
                if let Some(cancelled) = self.probes.remove(&id) {
                    cancelled.cancel();
                }
            }
            Command::Check(probe) => {
                let surroundings = self.surroundings.clone();
                self.set.spawn(async move {
                    let said = probe::once(engine.as_ref(), &probe, &surroundings).await;
                    let _ = events.send(Event::Checked(probe.container.id, said));
                });
            }
            Command::Past => {
                self.set.spawn(async move {
                    let _ = events.send(Event::Past(engine.ended(&group, plan::restart::FORGOTTEN).await));
                });
            }
            Command::Read => {
                let Some(read) = self.read.clone() else { return };
                self.set.spawn(async move {
                    let _ = events.send(Event::Specs(read().await));
                });
            }
            // Answered by the loop itself.
            Command::Answer(..) => {}
            Command::Diagnose(mut failure) => {
                self.set.spawn(async move {
                    if let Some(said) = explanation(engine.as_ref(), &failure).await {
                        failure.message = format!("{}; {said}", failure.message);
                    }
                    let output = tail(engine.as_ref(), &failure).await;
                    let _ = events.send(Event::Diagnosed(failure, output));
                });
            }
        }
    }
}

/// Runs a hook, and passes on what it writes.
async fn call_hook(
    engine: &dyn Engine,
    call: &hooks::Call,
    surroundings: &Surroundings,
    interrupted: &CancellationToken,
    events: &mpsc::UnboundedSender<Event>,
) -> Result<Given, String> {
    let mut said = |line: LogLine| {
        let _ = events.send(Event::Said(call.whose(), call.event.clone(), line.text));
    };
    // What it wrote has been told already.
    hooks::run(engine, call, surroundings, interrupted, &mut said).await.map_err(|failed| failed.why)
}

async fn subscribe(engine: Arc<dyn Engine>, group: String, events: mpsc::UnboundedSender<Event>) {
    let mut hints = engine.events(&group);
    while let Some(hint) = hints.next().await {
        let failed = hint.is_err();
        if events.send(Event::Hint(hint)).is_err() || failed {
            return;
        }
    }
    let _ = events.send(Event::HintsEnded);
}

/// What the engine knows of a failed container beyond its exit code.
async fn explanation(engine: &dyn Engine, failure: &Failure) -> Option<String> {
    let container = failure.container.as_ref()?;
    let details = engine.inspect(&container.id).await.ok()??.details?;
    match failure.reason {
        _ if details.oom_killed => {
            let limit = details.resources.memory.map(|memory| format!(" ({memory})")).unwrap_or_default();
            Some(format!("it was killed for using more memory than it may{limit}"))
        }
        Reason::NotReady if !details.health_failure.is_empty() => {
            Some(format!("its last health check {}", details.health_failure))
        }
        _ => None,
    }
}

/// The last lines that a container wrote; what cannot be had is left out.
async fn tail(engine: &dyn Engine, failure: &Failure) -> Vec<String> {
    let Some(container) = &failure.container else {
        return Vec::new();
    };
    let options = LogOptions { tail: Some(TAIL), ..LogOptions::default() };
    let lines = engine.logs(&container.id, options).filter_map(|line| async { line.ok().map(|line| line.text) });
    let collected = tokio::time::timeout(TAIL_DEADLINE, lines.collect::<Vec<String>>()).await;
    collected.unwrap_or_default()
}
