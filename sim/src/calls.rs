//! Implementation of [`Engine`] with simulated latency.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::state::{Presence, SimContainer, SimExit, Subscriber, World, no_container};
use super::{Latency, Script, Sim};
use drillmaster::engine::{
    BuildProgress, BuildRequest, ContainerExit, Engine, EngineError, EngineEvent, EngineFuture, EngineInfo,
    EngineStream, Exec, LabeledVolume, LogLine, LogOptions, Mutation, Processes, PullProgress, Result,
};
use drillmaster::observed::{Container, ImageFacts, Observed, State};

/// Default time between the stop signal and SIGKILL.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Time until a connection is refused while the engine is down.
const REFUSED: Duration = Duration::from_millis(1);

/// A call in flight.
struct InFlight {
    /// Latency of the request, and again of the response.
    half: Duration,
    /// Engine epoch at the time of the call.
    epoch: u64,
}

impl Sim {
    /// Records a call and waits until the engine receives it.
    async fn begin(&self, line: String, latency: impl FnOnce(&Latency) -> Duration) -> Result<InFlight> {
        let call = {
            let mut world = self.lock();
            world.calls.push(line);
            InFlight { half: latency(&world.latency) / 2, epoch: world.epoch }
        };
        self.elapse(&call, call.half).await?;
        Ok(call)
    }

    /// Waits until the response arrives.
    async fn finish(&self, call: &InFlight) -> Result<()> {
        self.elapse(call, call.half).await
    }

    /// Waits for the given time, and longer while the engine hangs. Fails if the engine stops meanwhile.
    async fn elapse(&self, call: &InFlight, time: Duration) -> Result<()> {
        let gone = || self.lock().presence == Presence::Away || self.lock().epoch != call.epoch;
        // A refused connection fails fast.
        sleep(if gone() { REFUSED } else { time }).await;
        let mut changes = self.changes.subscribe();
        loop {
            if gone() {
                let reason = "no engine listens".to_owned();
                return Err(EngineError::Unreachable { endpoint: "the simulation".into(), reason });
            }
            // `changed` cannot fail: this handle keeps the sender alive.
            if self.lock().presence == Presence::Answers || changes.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    /// Waits until the engine answers.
    pub(crate) async fn until_available(&self) {
        let mut changes = self.changes.subscribe();
        while self.lock().presence != Presence::Answers && changes.changed().await.is_ok() {}
    }

    /// Waits until the engine stops.
    async fn until_stopped(&self, call: &InFlight) {
        let mut changes = self.changes.subscribe();
        while self.lock().epoch == call.epoch && changes.changed().await.is_ok() {}
    }

    fn name_of(&self, id: &str) -> String {
        self.lock().name_of(id)
    }

    async fn apply_mutation(&self, mutation: Mutation) -> Result<Option<String>> {
        {
            let mut world = self.lock();
            world.under_way += 1;
            world.most_under_way = world.most_under_way.max(world.under_way);
        }
        let result = self.mutate(mutation).await;
        self.lock().under_way -= 1;
        result
    }

    async fn mutate(&self, mutation: Mutation) -> Result<Option<String>> {
        match mutation {
            Mutation::Create(spec) => {
                let line = format!("create {}", spec.name);
                let create = |world: &mut World| world.create(&spec);
                self.timed(line, |latency| latency.create, create).await.map(Some)
            }
            Mutation::Start(id) => self.start(&id).await.map(|()| None),
            Mutation::FirstStart { id, files } => {
                let line = format!("copy files to {}", self.name_of(&id));
                self.timed(line, |latency| latency.other, |world| world.copy_files(&id, &files)).await?;
                self.start(&id).await.map(|()| None)
            }
            Mutation::Stop { id, timeout } => self.stop(&id, timeout).await.map(|()| None),
            Mutation::Unpause(id) => {
                let line = format!("unpause {}", self.name_of(&id));
                self.timed(line, |latency| latency.other, |world| world.unpause(&id)).await.map(|()| None)
            }
            Mutation::Signal { id, signal } => {
                let line = format!("signal {} ({signal})", self.name_of(&id));
                self.timed(line, |latency| latency.other, |world| world.signal(&id)).await.map(|()| None)
            }
            Mutation::Rename { id, name } => {
                let line = format!("rename {} to {name}", self.name_of(&id));
                self.timed(line, |latency| latency.other, |world| world.rename(&id, &name)).await.map(|()| None)
            }
            Mutation::Update { id, resources, restart } => {
                let line = format!("update {}", self.name_of(&id));
                let update = |world: &mut World| world.update(&id, resources, restart);
                self.timed(line, |latency| latency.other, update).await.map(|()| None)
            }
            Mutation::Remove { id, volumes } => {
                let name = self.name_of(&id);
                let force = self.lock().containers.get(&id).is_some_and(SimContainer::is_up);
                let how = if force { " by force" } else { "" };
                let call = self.begin(format!("remove {name}{how}"), |latency| latency.remove).await?;
                // Removing a missing container succeeds, as for networks and volumes.
                self.signal(&id);
                self.end(&id, 137, true);
                self.remove_container(&id, volumes);
                self.finish(&call).await?;
                Ok(None)
            }
            Mutation::CreateNetwork { name, labels, network } => {
                let line = format!("create network {name}");
                let create = |world: &mut World| world.create_network(&name, &labels, &network);
                self.timed(line, |latency| latency.network, create).await.map(Some)
            }
            Mutation::RemoveNetwork(id) => {
                let line = format!("remove network {}", self.lock().network_name(&id));
                let remove = |world: &mut World| world.remove_network(&id, "remove the network");
                self.timed(line, |latency| latency.network, remove).await.map(|()| None)
            }
            Mutation::Connect { container, join } => {
                let to = self.lock().network_name(&join.network);
                let line = format!("connect {} to {to}", self.name_of(&container));
                let connect = |world: &mut World| world.connect(&join, &container);
                self.timed(line, |latency| latency.network, connect).await.map(|()| None)
            }
            Mutation::Disconnect { network, container } => {
                let from = self.lock().network_name(&network);
                let line = format!("disconnect {} from {from}", self.name_of(&container));
                let disconnect = |world: &mut World| world.disconnect(&network, &container);
                self.timed(line, |latency| latency.network, disconnect).await.map(|()| None)
            }
            Mutation::RemoveImage(reference) => {
                let line = format!("remove image {reference}");
                self.timed(line, |latency| latency.other, |world| world.remove_image(&reference)).await.map(|()| None)
            }
            Mutation::RemoveVolume(name) => {
                let line = format!("remove volume {name}");
                self.timed(line, |latency| latency.other, |world| world.remove_volume(&name)).await.map(|()| None)
            }
        }
    }

    async fn timed<T>(
        &self,
        line: String,
        latency: impl FnOnce(&Latency) -> Duration,
        change: impl FnOnce(&mut World) -> Result<T>,
    ) -> Result<T> {
        let call = self.begin(line, latency).await?;
        let result = self.change(change);
        self.finish(&call).await?;
        result
    }

    async fn start(&self, id: &str) -> Result<()> {
        let slow = self.lock().containers.get(id).map_or(Duration::ZERO, |c| c.image.behaviour.slow_start);
        let call = self.begin(format!("start {}", self.name_of(id)), |latency| latency.start).await?;
        self.elapse(&call, slow).await?;
        let begun = self.change(|world| world.start(id))?;
        if begun {
            self.run_program(id);
        }
        self.finish(&call).await
    }

    async fn stop(&self, id: &str, timeout: Option<Duration>) -> Result<()> {
        let call = self.begin(format!("stop {}", self.name_of(id)), |latency| latency.stop).await?;
        let takes = match self.lock().containers.get(id) {
            None => return Err(no_container("stop the container", id)),
            Some(container) => container.image.behaviour.stops,
        };
        let limit = timeout.unwrap_or(STOP_TIMEOUT);
        self.signal(id);
        self.elapse(&call, takes.min(limit)).await?;
        self.end(id, if takes > limit { 137 } else { 0 }, true);
        self.finish(&call).await?;
        // The engine responds once it has recorded the exit; lists are up to date from then on.
        let stale_until = self.lock().containers.get(id).and_then(|container| container.stale_until);
        if let Some(until) = stale_until {
            sleep_until(until).await;
        }
        Ok(())
    }
}

impl Engine for Sim {
    fn about(&self) -> EngineFuture<'_, EngineInfo> {
        Box::pin(async move {
            let call = self.begin("about".into(), |latency| latency.other).await?;
            self.finish(&call).await?;
            let capabilities = self.lock().personality.capabilities();
            Ok(EngineInfo { id: "simulated".into(), capabilities, warnings: Vec::new() })
        })
    }

    fn list<'a>(&'a self, group: &'a str, volumes: bool) -> EngineFuture<'a, Observed> {
        Box::pin(async move {
            let call = self.begin("list".into(), |latency| latency.list).await?;
            let observed = self.lock().view(Some(group), volumes, true);
            self.finish(&call).await?;
            Ok(observed)
        })
    }

    fn inspect<'a>(&'a self, id: &'a str) -> EngineFuture<'a, Option<Container>> {
        Box::pin(async move {
            let call = self.begin(format!("inspect {}", self.name_of(id)), |latency| latency.inspect).await?;
            // Inspections are never stale: they wait until the exit is recorded.
            let stale_until = self.lock().containers.get(id).and_then(|container| container.stale_until);
            if let Some(until) = stale_until {
                sleep_until(until).await;
            }
            let found = {
                let world = self.lock();
                world.containers.get(id).map(|container| world.view_of(container))
            };
            self.finish(&call).await?;
            Ok(found)
        })
    }

    fn image<'a>(&'a self, reference: &'a str) -> EngineFuture<'a, Option<ImageFacts>> {
        Box::pin(async move {
            let call = self.begin(format!("image {reference}"), |latency| latency.inspect).await?;
            let found = {
                let world = self.lock();
                let by_id = || world.images.values().find(|image| image.id == reference);
                world.images.get(reference).or_else(by_id).map(|image| image.facts.clone())
            };
            self.finish(&call).await?;
            Ok(found)
        })
    }

    fn apply<'a>(&'a self, mutation: &'a Mutation) -> EngineFuture<'a, Option<String>> {
        let (sim, mutation) = (self.clone(), mutation.clone());
        Box::pin(async move {
            // The engine executes the request even if the client does not wait for the response.
            let sent = tokio::spawn(async move { sim.apply_mutation(mutation).await });
            sent.await.unwrap_or_else(|error| {
                Err(EngineError::Refused { attempted: "apply the mutation".into(), message: error.to_string() })
            })
        })
    }

    fn volumes<'a>(&'a self, label: &'a str, value: &'a str) -> EngineFuture<'a, Vec<LabeledVolume>> {
        Box::pin(async move {
            let call = self.begin("volumes".into(), |latency| latency.list).await?;
            let found = self.lock().labeled_volumes(label, value);
            self.finish(&call).await?;
            Ok(found)
        })
    }

    fn create_volume<'a>(
        &'a self,
        name: &'a str,
        labels: &'a BTreeMap<String, String>,
    ) -> EngineFuture<'a, BTreeMap<String, String>> {
        let (sim, name, labels) = (self.clone(), name.to_owned(), labels.clone());
        Box::pin(async move {
            let line = format!("create volume {name}");
            let create = move |world: &mut World| world.create_volume(&name, &labels);
            // The engine executes the request even if the client does not wait for the response.
            let sent = tokio::spawn(async move { sim.timed(line, |latency| latency.other, create).await });
            sent.await.unwrap_or_else(|error| {
                Err(EngineError::Refused { attempted: "create the volume".into(), message: error.to_string() })
            })
        })
    }

    fn pull<'a>(
        &'a self,
        image: &'a str,
        _: Option<&'a str>,
        progress: &'a (dyn Fn(PullProgress) + Send + Sync),
    ) -> EngineFuture<'a, ()> {
        Box::pin(async move {
            let call = self.begin(format!("pull {image}"), |latency| latency.pull).await?;
            progress(PullProgress { done: 0, total: 1, bytes: 0 });
            let pulled = self.change(|world| {
                let found = world.registry.get(image).cloned();
                found.map(|found| world.images.insert(image.to_owned(), found)).is_some()
            });
            self.finish(&call).await?;
            if !pulled {
                let message = format!("pull access denied for {image}, repository does not exist");
                return Err(EngineError::NotFound { attempted: format!("pull the image {image}"), message });
            }
            progress(PullProgress { done: 1, total: 1, bytes: 1 << 20 });
            Ok(())
        })
    }

    fn read<'a>(&'a self, id: &'a str, path: &'a str, _: usize) -> EngineFuture<'a, Option<Vec<u8>>> {
        Box::pin(async move {
            let call = self.begin(format!("read {path} in {}", self.name_of(id)), |latency| latency.other).await?;
            let found = {
                let world = self.lock();
                let Some(container) = world.containers.get(id) else {
                    return Err(no_container(&format!("read {path} in the container"), id));
                };
                let content = &container.image.behaviour.output_file;
                let exited = matches!(container.state, State::Exited { .. });
                (exited && !content.is_empty()).then(|| content.clone().into_bytes())
            };
            self.finish(&call).await?;
            Ok(found)
        })
    }

    fn build<'a>(
        &'a self,
        request: &'a BuildRequest,
        progress: &'a (dyn Fn(BuildProgress) + Send + Sync),
    ) -> EngineFuture<'a, ()> {
        Box::pin(async move {
            let image = &request.image;
            let call = self.begin(format!("build {image}"), |latency| latency.build).await?;
            progress(BuildProgress::Step("Step 1/1 : FROM scratch".into()));
            let built = self.change(|world| world.build(request));
            self.finish(&call).await?;
            built
        })
    }

    fn exec<'a>(
        &'a self,
        id: &'a str,
        exec: &'a Exec,
        heard: &'a mut (dyn FnMut(LogLine) + Send),
    ) -> EngineFuture<'a, i64> {
        Box::pin(async move {
            let command = exec.command.join(" ");
            let call = self.begin(format!("exec {} {command}", self.name_of(id)), |latency| latency.other).await?;
            let attempted = format!("execute {command} in the container");
            let (script, ran) = {
                let world = self.lock();
                let Some(container) = world.containers.get(id) else { return Err(no_container(&attempted, id)) };
                if container.state != State::Running {
                    let message = format!("Container {id} is not running");
                    return Err(EngineError::Conflict { attempted, message });
                }
                let ran = container.started.map_or(Duration::ZERO, |started| started.elapsed());
                (container.image.behaviour.script(exec.command.first()).clone(), ran)
            };
            if script == Script::Hangs {
                self.until_stopped(&call).await;
            }
            self.finish(&call).await?;
            let (code, output) = match &script {
                // Ends only when the engine stops.
                Script::Hangs => std::future::pending().await,
                Script::Exits(code, output) => (*code, output.as_str()),
                Script::SucceedsAfter(after) if ran >= *after => (0, ""),
                Script::SucceedsUntil(end) if ran < *end => (0, ""),
                Script::SucceedsUntil(_) => (1, "not any longer"),
                Script::SucceedsAfter(_) => (1, "not yet"),
            };
            output.lines().for_each(|line| heard(LogLine { stderr: false, text: line.to_owned() }));
            Ok(code)
        })
    }

    fn top<'a>(&'a self, id: &'a str) -> EngineFuture<'a, Processes> {
        Box::pin(async move {
            let name = self.name_of(id);
            let call = self.begin(format!("top {name}"), |latency| latency.inspect).await?;
            let is_up = self.lock().containers.get(id).is_some_and(SimContainer::is_up);
            self.finish(&call).await?;
            if !is_up {
                let attempted = format!("list the processes of {name}");
                return Err(EngineError::Conflict { attempted, message: format!("Container {id} is not running") });
            }
            Ok(Processes { titles: vec!["PID".into(), "CMD".into()], rows: vec![vec!["1".into(), name]] })
        })
    }

    fn logs<'a>(&'a self, id: &'a str, options: LogOptions) -> EngineStream<'a, LogLine> {
        let opened =
            async move {
                match self.open_log(id, options).await {
                    Ok(reading) => stream::unfold(reading, |mut reading| async move {
                        reading.line().await.map(|line| (line, reading))
                    })
                    .boxed(),
                    Err(error) => stream::iter([Err(error)]).boxed(),
                }
            };
        stream::once(opened).flatten().boxed()
    }

    fn recent_exits<'a>(&'a self, group: &'a str, span: Duration) -> EngineFuture<'a, Vec<ContainerExit>> {
        Box::pin(async move {
            let call = self.begin("ended".into(), |latency| latency.other).await?;
            let is_recent = |exit: &&SimExit| exit.group == group && exit.at.elapsed() <= span;
            let convert = |exit: &SimExit, asked: bool| ContainerExit {
                id: exit.id.clone(),
                service: exit.service.clone(),
                replica: exit.replica,
                ago: exit.at.elapsed(),
                code: Some(exit.code),
                asked,
            };
            let recent_exits = {
                let world = self.lock();
                let asked =
                    |exit: &SimExit| if world.personality.is_podman() { world.may_be_asked(exit) } else { exit.asked };
                world.exits.iter().filter(is_recent).map(|exit| convert(exit, asked(exit))).collect()
            };
            self.finish(&call).await?;
            Ok(recent_exits)
        })
    }

    fn events<'a>(&'a self, group: &'a str) -> EngineStream<'a, EngineEvent> {
        let opened = async move {
            match self.subscribe(group).await {
                Ok(inbox) => {
                    let next = |mut inbox: Inbox| async move {
                        let (arrival, event) = inbox.recv().await?;
                        sleep_until(arrival).await;
                        Some((event, inbox))
                    };
                    stream::unfold(inbox, next).boxed()
                }
                Err(error) => stream::iter([Err(error)]).boxed(),
            }
        };
        stream::once(opened).flatten().boxed()
    }
}

impl Sim {
    async fn subscribe(&self, group: &str) -> Result<Inbox> {
        let call = self.begin("events".into(), |latency| latency.other).await?;
        let (hints, inbox) = mpsc::unbounded_channel();
        // Cannot fail: the receiver exists.
        let _ = hints.send((Instant::now(), Ok(EngineEvent::Subscribed)));
        self.lock().subscribers.push(Subscriber { group: group.to_owned(), hints });
        self.finish(&call).await?;
        Ok(inbox)
    }

    async fn open_log(&self, id: &str, options: LogOptions) -> Result<Reading> {
        let call = self.begin(format!("logs {}", self.name_of(id)), |latency| latency.other).await?;
        self.finish(&call).await?;
        let (sim, id, changes) = (self.clone(), id.to_owned(), self.changes.subscribe());
        Ok(Reading { sim, id, options, next: None, changes, epoch: call.epoch })
    }
}

/// Events with the times at which they arrive.
type Inbox = mpsc::UnboundedReceiver<(Instant, Result<EngineEvent>)>;

/// A stream of a container's output.
struct Reading {
    sim: Sim,
    id: String,
    options: LogOptions,
    /// Index of the next line; `None` before the first read.
    next: Option<usize>,
    changes: watch::Receiver<u64>,
    epoch: u64,
}

impl Reading {
    async fn line(&mut self) -> Option<Result<LogLine>> {
        loop {
            self.changes.mark_unchanged();
            {
                let world = self.sim.lock();
                if world.epoch != self.epoch {
                    return None;
                }
                let Some(container) = world.containers.get(&self.id) else {
                    // The error is returned once; the next read ends the stream.
                    let begun = self.next.replace(usize::MAX).is_some();
                    return (!begun).then(|| Err(no_container("read the output of the container", &self.id)));
                };
                let since = u64::try_from(self.options.since).unwrap_or(0);
                let next = self.next.unwrap_or_else(|| {
                    let tail = self.options.tail.map_or(usize::MAX, |tail| usize::try_from(tail).unwrap_or(usize::MAX));
                    let first = container.output.partition_point(|(at, _)| *at < since);
                    first.max(container.output.len().saturating_sub(tail))
                });
                self.next = Some(next);
                if let Some((_, line)) = container.output.get(next) {
                    self.next = Some(next + 1);
                    return Some(Ok(line.clone()));
                }
                if !self.options.follow || !container.is_up() {
                    return None;
                }
            }
            if self.changes.changed().await.is_err() {
                return None;
            }
        }
    }
}
