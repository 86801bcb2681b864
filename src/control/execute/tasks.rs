//! Commands of the controller as tasks; each sends its result back as an event.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::connect::ExecContext;
use super::outputs::{self, OutputMap, OutputStore};
use super::{executor, hooks, probe};
use crate::control::Read;
use crate::control::event::{Command, Event};
use crate::control::local_state::Notes;
use crate::control::reconcile::Core;
use crate::engine::{BuildProgress, Engine, EngineError, LogLine, LogOptions};
use crate::plan;
use crate::plan::step::{Failure, Reason, Verb};
use crate::types::ContainerId;

/// What the output of a build is told as, where that of a hook is told by the hook's name.
const BUILD: &str = "build";
/// How many lines of a failed container's output are kept.
const TAIL: u32 = 10;
/// How long they may take to come.
const TAIL_DEADLINE: Duration = Duration::from_secs(5);

/// What is under way. Dropping it ends everything.
pub(in crate::control) struct Tasks {
    engine: Arc<dyn Engine>,
    events: mpsc::UnboundedSender<Event>,
    surroundings: ExecContext,
    notes: Notes,
    context: OutputStore,
    /// How the specs are read, where that happens more than once.
    read: Option<Read>,
    set: JoinSet<()>,
    probes: HashMap<ContainerId, CancellationToken>,
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
    context: OutputStore,
    /// Somebody may be made of them.
    events: Option<mpsc::UnboundedSender<Event>>,
}

impl Outputs {
    /// Keeps outputs, and has the specs read again where that changes any. To be called before what gave them is told to
    /// be done, so that nobody is made of an older one.
    fn take(&self, given: OutputMap) -> Result<(), String> {
        match (self.context.keep(given), &self.events) {
            (Ok(true), Some(events)) => {
                // A receiver that is gone means that the run is over.
                let _ = events.send(Event::OutputsChanged);
                Ok(())
            }
            (Ok(_), _) => Ok(()),
            (Err(error), _) => Err(format!("its outputs cannot be kept: {error}")),
        }
    }
}

impl Tasks {
    pub fn new(
        engine: Arc<dyn Engine>,
        events: mpsc::UnboundedSender<Event>,
        surroundings: ExecContext,
        notes: Notes,
        context: OutputStore,
        read: Option<Read>,
    ) -> Tasks {
        // What stays is in nobody's way.
        let _ = context.tidy();
        Tasks {
            engine,
            events,
            surroundings: ExecContext { context: context.clone(), ..surroundings },
            notes,
            context,
            read,
            set: JoinSet::new(),
            probes: HashMap::new(),
            hooks: CancellationToken::new(),
            builds: HashMap::new(),
            subscription: CancellationToken::new(),
        }
    }

    /// Ids of containers that were updated in place, also by earlier runs.
    pub fn updated(&self) -> std::collections::BTreeSet<ContainerId> {
        self.notes.updated()
    }

    /// The next task that has ended; `None`: there is none. Cancel-safe.
    pub async fn join_next(&mut self) -> Option<Result<(), tokio::task::JoinError>> {
        self.set.join_next().await
    }

    fn outputs(&self) -> Outputs {
        Outputs { context: self.context.clone(), events: self.read.as_ref().map(|_| self.events.clone()) }
    }

    pub fn begin(&mut self, command: Command, core: &Core) {
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
                let purge = desired.mode.purges_volumes();
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
            Command::RunStep(step) if matches!(step.verb, Verb::Hook { .. }) => {
                let call = executor::call(&step, desired);
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
                    let _ = events.send(Event::StepDone(step, result));
                });
            }
            Command::RunStep(step) if matches!(step.verb, Verb::Collect(_)) => {
                let capture = desired.services.get(step.subject.name()).and_then(|job| job.outputs.capture.clone());
                let outputs = self.outputs();
                self.set.spawn(async move {
                    let container = step.verb.container().map(|container| container.id.as_str()).unwrap_or_default();
                    let given = outputs::of_job(engine.as_ref(), container, capture.as_deref()).await;
                    let attempted = step.to_string();
                    let result = given.and_then(|given| outputs.take(given));
                    let result = result.map(|()| None).map_err(|message| EngineError::Refused { attempted, message });
                    let _ = events.send(Event::StepDone(step, result));
                });
            }
            Command::EndHooks => self.hooks.cancel(),
            Command::RunStep(step) if step.verb == Verb::Build => {
                let request = executor::build(&step, desired);
                let cancelled = CancellationToken::new();
                self.builds.insert(step.subject.name().to_owned(), cancelled.clone());
                self.set.spawn(async move {
                    let built = match &request {
                        Some((service, request)) => {
                            let progress = |progress| {
                                if let BuildProgress::Line(line) = progress {
                                    let _ =
                                        events.send(Event::HookOutput(Some(service.clone()), BUILD.to_owned(), line));
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
                    let _ = events.send(Event::StepDone(step, result.map(|()| None)));
                });
            }
            Command::EndBuild(image) => {
                if let Some(build) = self.builds.remove(&image) {
                    build.cancel();
                }
            }
            Command::RunHooks(occurrence) => {
                let (surroundings, interrupted) = (self.surroundings.clone(), self.hooks.clone());
                let outputs = self.outputs();
                let calls = executor::calls(&occurrence, desired);
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
                    let _ = events.send(Event::HooksDone(occurrence, result));
                });
            }
            Command::RunStep(step) => {
                if let (Verb::Update { container, .. }, Some(observed)) = (&step.verb, observed) {
                    let noted = self.notes.note(&container.id, |id| observed.containers.contains_key(id));
                    if let Err(error) = noted {
                        tracing::warn!(%error, "cannot note that a container is updated");
                    }
                }
                let act = observed.and_then(|observed| executor::translate(&step, desired, observed));
                self.set.spawn(async move {
                    let result = match &act {
                        Some(act) => {
                            let image = step.subject.name().to_owned();
                            let pulling = events.clone();
                            let progress = move |progress| {
                                let _ = pulling.send(Event::Pulling(image.clone(), progress));
                            };
                            executor::perform(act, engine.as_ref(), &progress).await
                        }
                        None => {
                            let attempted = step.to_string();
                            let message = "there is no such service in the specs".to_owned();
                            Err(EngineError::NotFound { attempted, message })
                        }
                    };
                    let _ = events.send(Event::StepDone(step, result));
                });
            }
            Command::Probe(probe) => {
                let cancelled = CancellationToken::new();
                self.probes.insert(probe.container.id.clone(), cancelled.clone());
                let surroundings = self.surroundings.clone();
                self.set.spawn(async move {
                    let id = &probe.container.id;
                    let unanswered = |why| {
                        let _ = events.send(Event::ProbeFailed(id.clone(), why));
                    };
                    let tried = probe::until_answered(engine.as_ref(), &probe, &surroundings, unanswered);
                    if cancelled.run_until_cancelled(tried).await.is_some() {
                        let _ = events.send(Event::ProbeSucceeded(id.clone()));
                    }
                });
            }
            Command::EndProbe(id) => {
                if let Some(cancelled) = self.probes.remove(&id) {
                    cancelled.cancel();
                }
            }
            Command::ProbeLiveness(probe) => {
                let surroundings = self.surroundings.clone();
                self.set.spawn(async move {
                    let said = probe::once(engine.as_ref(), &probe, &surroundings).await;
                    let _ = events.send(Event::LivenessProbed(probe.container.id, said));
                });
            }
            Command::RecentExits => {
                self.set.spawn(async move {
                    let _ = events.send(Event::RecentExits(
                        engine.recent_exits(&group, plan::backoff::BACKOFF_RESET_AFTER).await,
                    ));
                });
            }
            Command::ReadSpecs => {
                let Some(read) = self.read.clone() else { return };
                self.set.spawn(async move {
                    let _ = events.send(Event::SpecsRead(read().await));
                });
            }
            // Answered by the loop itself.
            Command::Reply(..) => {}
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
    surroundings: &ExecContext,
    interrupted: &CancellationToken,
    events: &mpsc::UnboundedSender<Event>,
) -> Result<OutputMap, String> {
    let mut said = |line: LogLine| {
        let _ = events.send(Event::HookOutput(call.whose(), call.event.clone(), line.text));
    };
    // What it wrote has been told already.
    hooks::run(engine, call, surroundings, interrupted, &mut said).await.map_err(|failed| failed.why)
}

async fn subscribe(engine: Arc<dyn Engine>, group: String, events: mpsc::UnboundedSender<Event>) {
    let mut hints = engine.events(&group);
    while let Some(event) = hints.next().await {
        let failed = event.is_err();
        if events.send(Event::Engine(event)).is_err() || failed {
            return;
        }
    }
    let _ = events.send(Event::EngineEventsEnded);
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
