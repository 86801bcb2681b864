//! Tasks: runs each command of [`crate::control::reconcile`] concurrently and sends its result back as an event.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::context::ExecContext;
use super::executor::{Executor, MAX_PENDING_LINES};
use super::probe::{probe_once, probe_until_ready};
use super::translate::{hook_calls, translate};
use crate::control::ReadSpecs;
use crate::control::error::StepError;
use crate::control::event::{Command, Event, HookEvent};
use crate::control::local_state::LocalState;
use crate::desired::Desired;
use crate::engine::lines::split_timestamp;
use crate::engine::{Engine, EngineError, LogOptions};
use crate::observed::{Container, Observed, State};
use crate::plan::Memory;
use crate::plan::backoff::BACKOFF_RESET_AFTER;
use crate::plan::step::{ContainerRef, Failure, Probe, Reason, Step, Verb};
use crate::types::ContainerId;

/// How many of the last lines of a failed container are reported.
const LOG_TAIL: u32 = 10;
/// How long to wait for them.
const LOG_TIMEOUT: Duration = Duration::from_secs(5);
/// A program can print before the engine notes its start: on a busy machine, some tenths of a second. A container is
/// started again by a step after a second at the earliest, but by the engine after 100 ms.
const START_MARGIN: SignedDuration = SignedDuration::from_millis(500);
const RESTART_MARGIN: SignedDuration = SignedDuration::from_millis(50);

/// All running tasks. Dropping it ends them.
pub(in crate::control) struct Tasks {
    executor: Executor,
    local_state: LocalState,
    /// Reads the specs, in a run that does so more than once.
    read: Option<ReadSpecs>,
    set: JoinSet<()>,
    probes: HashMap<ContainerId, CancellationToken>,
    /// Ends every hook.
    hooks: CancellationToken,
    /// By image.
    builds: HashMap<String, CancellationToken>,
    subscription: CancellationToken,
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.subscription.cancel();
    }
}

impl Tasks {
    pub fn new(
        engine: Arc<dyn Engine>,
        events: UnboundedSender<Event>,
        context: ExecContext,
        local_state: LocalState,
        read: Option<ReadSpecs>,
    ) -> Tasks {
        // Files that remain do no harm.
        let _ = context.outputs.remove_temporary_files();
        Tasks {
            executor: Executor {
                engine,
                context,
                events,
                outputs_matter: read.is_some(),
                lines: Arc::new(Semaphore::new(MAX_PENDING_LINES)),
            },
            local_state,
            read,
            set: JoinSet::new(),
            probes: HashMap::new(),
            hooks: CancellationToken::new(),
            builds: HashMap::new(),
            subscription: CancellationToken::new(),
        }
    }

    /// What earlier runs recorded.
    pub fn memory(&self) -> Memory {
        self.local_state.memory()
    }

    /// Waits for the next task to end; `None` if there is none. Cancel-safe.
    pub async fn join_next(&mut self) -> Option<Result<(), JoinError>> {
        self.set.join_next().await
    }

    /// Begins a command. The desired and the observed state are those with which it was decided.
    pub fn begin(&mut self, command: Command, desired: &Desired, observed: Option<&Observed>) {
        let engine = self.executor.engine.clone();
        match command {
            Command::Subscribe => self.subscribe(desired.group.clone()),
            Command::List => {
                let (group, volumes) = (desired.group.clone(), desired.needs_volumes());
                self.spawn(async move { Event::Listed(engine.list(&group, volumes).await) });
            }
            Command::Inspect(id) => self.spawn(async move {
                let container = engine.inspect(&id).await.map(|container| container.map(Box::new));
                Event::Inspected(id, container)
            }),
            Command::Image(id) => self.spawn(async move {
                let facts = engine.image(&id).await;
                Event::Image(id, facts)
            }),
            Command::RunStep(step) => self.run_step(step, desired, observed),
            Command::EndBuild(image) => cancel(&mut self.builds, &image),
            Command::RunHooks(event) => self.run_hooks(event, desired),
            Command::EndHooks => self.hooks.cancel(),
            Command::Probe(probe) => self.probe(probe),
            Command::EndProbe(id) => cancel(&mut self.probes, &id),
            Command::ProbeLiveness(probe) => {
                let context = self.executor.context.clone();
                self.spawn(async move {
                    let result = probe_once(engine.as_ref(), &probe, &context).await;
                    Event::LivenessProbed(probe.container.id, result.map_err(|error| error.to_string()))
                });
            }
            Command::RecentExits => {
                let group = desired.group.clone();
                self.spawn(async move { Event::RecentExits(engine.recent_exits(&group, BACKOFF_RESET_AFTER).await) });
            }
            Command::ReadSpecs => {
                if let Some(read) = self.read.clone() {
                    self.spawn(async move { Event::SpecsRead(read().await) });
                }
            }
            Command::RecordMounted(id, mounted) => {
                let exists = |id: &ContainerId| observed.is_none_or(|observed| observed.containers.contains_key(id));
                if let Err(error) = self.local_state.record_mounted(&id, mounted, exists) {
                    tracing::warn!(%error, "cannot record the mounted files of a container");
                }
            }
            Command::Diagnose(failure) => self.spawn(diagnose(engine, failure)),
            Command::ReadExit(service, container) => self.spawn(async move {
                let found = inspect(engine.as_ref(), &container.id).await;
                let output = last_output(engine.as_ref(), &container.id, found.as_ref()).await;
                Event::ExitRead(service, output.unwrap_or_default())
            }),
            // The loop replies itself.
            Command::Reply(..) => {}
        }
    }

    /// Spawns a task whose result is an event.
    fn spawn(&mut self, work: impl Future<Output = Event> + Send + 'static) {
        let executor = self.executor.clone();
        self.set.spawn(async move { executor.send(work.await) });
    }

    /// Forwards the engine's events until the stream ends or fails. An earlier subscription ends.
    fn subscribe(&mut self, group: String) {
        self.subscription.cancel();
        self.subscription = CancellationToken::new();
        let cancelled = self.subscription.clone();
        let executor = self.executor.clone();
        let forward = async move {
            let mut stream = executor.engine.events(&group);
            while let Some(event) = stream.next().await {
                let failed = event.is_err();
                if executor.events.send(Event::Engine(event)).is_err() || failed {
                    return;
                }
            }
            executor.send(Event::EngineEventsEnded);
        };
        self.set.spawn(async move {
            let _ = cancelled.run_until_cancelled(forward).await;
        });
    }

    /// Records what an image is built from, so that a later run can name the files that have changed.
    fn record_sources(&self, step: &Step, desired: &Desired, observed: Option<&Observed>) {
        let image = step.subject.name();
        let mut builds = desired.services.values().filter(|service| service.config.image == image);
        let build = builds.find_map(|service| service.build.as_ref()).filter(|_| step.verb == Verb::Build);
        let Some((build, observed)) = build.zip(observed) else { return };
        let is_wanted = |image: &str| desired.services.values().any(|service| service.config.image == image);
        let exists = |image: &str| observed.built.contains_key(image) || is_wanted(image);
        if let Err(error) = self.local_state.record_sources(image, &build.tree.files, exists) {
            tracing::warn!(%error, "cannot record the sources of an image");
        }
    }

    fn run_step(&mut self, step: Step, desired: &Desired, observed: Option<&Observed>) {
        if let (Verb::Update { container, .. }, Some(observed)) = (&step.verb, observed) {
            let recorded = self.local_state.record_update(&container.id, |id| observed.containers.contains_key(id));
            if let Err(error) = recorded {
                tracing::warn!(%error, "cannot record the update of a container");
            }
        }
        self.record_sources(&step, desired, observed);
        let cancelled = match step.verb {
            Verb::Build => {
                self.builds.entry(step.subject.name().to_owned()).insert_entry(CancellationToken::new()).get().clone()
            }
            _ => self.hooks.clone(),
        };
        let execution = observed.ok_or(StepError::Obsolete).and_then(|observed| translate(&step, desired, observed));
        let executor = self.executor.clone();
        self.spawn(async move {
            let result = match execution {
                Ok(execution) => executor.run_step(execution, &cancelled).await,
                Err(error) => Err(error),
            };
            Event::StepDone(step, result)
        });
    }

    /// Runs all hooks of an event in their order, also after one has failed. The first error is reported.
    fn run_hooks(&mut self, event: HookEvent, desired: &Desired) {
        let (executor, cancelled) = (self.executor.clone(), self.hooks.clone());
        let calls = hook_calls(&event, desired);
        self.spawn(async move {
            let mut result = Ok(());
            for call in calls {
                let outcome = match call {
                    Ok(call) => executor.run_hook(&call, &cancelled).await,
                    Err(error) => Err(error),
                };
                result = result.and(outcome);
            }
            Event::HooksDone(event, result)
        });
    }

    fn probe(&mut self, probe: Probe) {
        let cancelled = CancellationToken::new();
        self.probes.insert(probe.container.id.clone(), cancelled.clone());
        let executor = self.executor.clone();
        self.set.spawn(async move {
            let id = &probe.container.id;
            let on_failure = |error, permanent| {
                executor.send(Event::ProbeFailed { container: id.clone(), error, permanent });
            };
            let ready = probe_until_ready(executor.engine.as_ref(), &probe, &executor.context, on_failure);
            if cancelled.run_until_cancelled(ready).await.is_some() {
                executor.send(Event::ProbeSucceeded(id.clone()));
            }
        });
    }
}

fn cancel<K: Hash + Eq>(tokens: &mut HashMap<K, CancellationToken>, key: &K) {
    if let Some(token) = tokens.remove(key) {
        token.cancel();
    }
}

/// Adds to a failure what the engine knows about it, and fetches the last output of the container.
async fn diagnose(engine: Arc<dyn Engine>, mut failure: Failure) -> Event {
    let Some(ContainerRef { id, .. }) = failure.container.clone() else {
        return Event::Diagnosed(failure, Vec::new());
    };
    let container = inspect(engine.as_ref(), &id).await;
    if let Some(explanation) = container.as_ref().and_then(|container| explain(container, failure.reason)) {
        failure.message = format!("{}; {explanation}", failure.message);
    }
    match last_output(engine.as_ref(), &id, container.as_ref()).await {
        Ok(output) => Event::Diagnosed(failure, output),
        Err(why) => {
            failure.message = format!("{}; its output cannot be read: {why}", failure.message);
            Event::Diagnosed(failure, Vec::new())
        }
    }
}

async fn inspect(engine: &dyn Engine, id: &ContainerId) -> Option<Container> {
    engine.inspect(id).await.ok()?
}

/// What the engine knows about a failed container beyond its exit code.
fn explain(container: &Container, reason: Reason) -> Option<String> {
    let details = container.details.as_ref()?;
    match reason {
        _ if details.oom_killed && container.state != (State::Exited { code: Some(0) }) => {
            let limit = details.resources.memory.map(|memory| format!(" ({memory})")).unwrap_or_default();
            Some(match container.is_up() {
                // For example a command of a hook.
                true => format!("a process in it was OOMKilled{limit}"),
                false => format!("OOMKilled{limit}"),
            })
        }
        Reason::NotReady if !details.health_failure.is_empty() => {
            Some(format!("last health check {}", details.health_failure))
        }
        _ => None,
    }
}

/// The last lines of the container's output since its last start, as far as the engine returns them in time; the engine's
/// reason if its log driver keeps none.
async fn last_output(
    engine: &dyn Engine,
    id: &ContainerId,
    container: Option<&Container>,
) -> Result<Vec<String>, String> {
    let details = container.and_then(|container| container.details.as_ref());
    let started = details.and_then(|details| details.started_at.parse::<Timestamp>().ok());
    let is_restarted = details.is_some_and(|details| details.restarts > 0);
    let margin = if is_restarted { RESTART_MARGIN } else { START_MARGIN };
    let started = started.and_then(|started| started.checked_sub(margin).ok()).unwrap_or(Timestamp::UNIX_EPOCH);
    let since = started.as_second();
    let options = LogOptions { tail: Some(LOG_TAIL), since, timestamps: true, ..LogOptions::default() };
    let collect = async {
        let (mut lines, mut output) = (engine.logs(id, options), Vec::new());
        while let Some(line) = lines.next().await {
            match line {
                Ok(line) => {
                    let (time, text) = split_timestamp(&line.text);
                    output.extend(time.is_none_or(|time| time >= started).then(|| text.to_owned()));
                }
                Err(EngineError::Refused { message, .. } | EngineError::Invalid { message, .. })
                    if output.is_empty() =>
                {
                    return Err(message);
                }
                Err(_) => break,
            }
        }
        Ok(output)
    };
    tokio::time::timeout(LOG_TIMEOUT, collect).await.unwrap_or_else(|_| Ok(Vec::new()))
}
