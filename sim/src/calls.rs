//! The calls of [`Engine`], each with the time that it takes.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, sleep_until};

use super::state::{Presence, SimContainer, SimExit, Subscriber, World, no_container};
use super::{Latency, Script, Sim};
use drillmaster::engine::{
    BuildProgress, BuildRequest, ContainerExit, Engine, EngineError, EngineEvent, EngineFuture, EngineInfo,
    EngineStream, Exec, LogLine, LogOptions, Mutation, PullProgress, Result,
};
use drillmaster::observed::{Container, ImageFacts, Observed, State};

/// What a stopped process has unless the caller says otherwise.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it takes to learn that no engine listens.
const REFUSED: Duration = Duration::from_millis(1);

/// A call under way.
struct Visit {
    /// How long it takes to get there, and as long again to get back.
    half: Duration,
    epoch: u64,
}

impl Sim {
    /// Makes a call, up to the moment at which the engine takes it up.
    async fn arrive(&self, line: String, latency: impl FnOnce(&Latency) -> Duration) -> Result<Visit> {
        let visit = {
            let mut world = self.lock();
            world.calls.push(line);
            Visit { half: latency(&world.latency) / 2, epoch: world.epoch }
        };
        self.pass(&visit, visit.half).await?;
        Ok(visit)
    }

    /// The way back.
    async fn leave(&self, visit: &Visit) -> Result<()> {
        self.pass(visit, visit.half).await
    }

    /// Time passes for a call; where the engine went away meanwhile it is lost, where it hangs it takes longer.
    async fn pass(&self, visit: &Visit, time: Duration) -> Result<()> {
        let gone = || self.lock().presence == Presence::Away || self.lock().epoch != visit.epoch;
        // A connection that is refused is refused soon.
        sleep(if gone() { REFUSED } else { time }).await;
        let mut changes = self.changes.subscribe();
        loop {
            if gone() {
                let reason = "no engine listens".to_owned();
                return Err(EngineError::Unreachable { endpoint: "the simulation".into(), reason });
            }
            // The sender lives as long as this handle.
            if self.lock().presence == Presence::Answers || changes.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    /// Waits until the engine is neither away nor hangs.
    pub(crate) async fn present(&self) {
        let mut changes = self.changes.subscribe();
        while self.lock().presence != Presence::Answers && changes.changed().await.is_ok() {}
    }

    /// Waits until the engine stops.
    async fn lost(&self, visit: &Visit) {
        let mut changes = self.changes.subscribe();
        while self.lock().epoch == visit.epoch && changes.changed().await.is_ok() {}
    }

    fn name_of(&self, id: &str) -> String {
        self.lock().name_of(id)
    }

    async fn carry_out(&self, mutation: Mutation) -> Result<Option<String>> {
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
            Mutation::Stop { id, timeout } => self.stop(&id, timeout).await.map(|()| None),
            Mutation::Unpause(id) => {
                let line = format!("unpause {}", self.name_of(&id));
                self.timed(line, |latency| latency.other, |world| world.unpause(&id)).await.map(|()| None)
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
                let visit = self.arrive(format!("remove {name}{how}"), |latency| latency.remove).await?;
                // What is gone already is what was wanted, here and elsewhere.
                self.signal(&id);
                self.end(&id, 137, true);
                self.take_away(&id, volumes);
                self.leave(&visit).await?;
                Ok(None)
            }
            Mutation::CreateNetwork { name, labels } => {
                let line = format!("create network {name}");
                let create = |world: &mut World| Ok(world.create_network(&name, &labels));
                self.timed(line, |latency| latency.network, create).await.map(Some)
            }
            Mutation::RemoveNetwork(id) => {
                let line = format!("remove network {}", self.lock().network_name(&id));
                let remove = |world: &mut World| world.remove_network(&id, "remove the network");
                self.timed(line, |latency| latency.network, remove).await.map(|()| None)
            }
            Mutation::Connect { network, container, aliases } => {
                let line = format!("connect {} to {}", self.name_of(&container), self.lock().network_name(&network));
                let connect = |world: &mut World| world.connect(&network, &container, &aliases);
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
        let visit = self.arrive(line, latency).await?;
        let result = self.change(change);
        self.leave(&visit).await?;
        result
    }

    async fn start(&self, id: &str) -> Result<()> {
        let slow = self.lock().containers.get(id).map_or(Duration::ZERO, |c| c.image.behaviour.slow_start);
        let visit = self.arrive(format!("start {}", self.name_of(id)), |latency| latency.start).await?;
        self.pass(&visit, slow).await?;
        let begun = self.change(|world| world.start(id))?;
        if begun {
            self.live(id);
        }
        self.leave(&visit).await
    }

    async fn stop(&self, id: &str, timeout: Option<Duration>) -> Result<()> {
        let visit = self.arrive(format!("stop {}", self.name_of(id)), |latency| latency.stop).await?;
        let takes = match self.lock().containers.get(id) {
            None => return Err(no_container("stop the container", id)),
            Some(container) => container.image.behaviour.stops,
        };
        let limit = timeout.unwrap_or(STOP_TIMEOUT);
        self.signal(id);
        self.pass(&visit, takes.min(limit)).await?;
        self.end(id, if takes > limit { 137 } else { 0 }, true);
        self.leave(&visit).await?;
        // The reply comes when the engine has written down that it ended, and from then on lists are right.
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
            let visit = self.arrive("about".into(), |latency| latency.other).await?;
            self.leave(&visit).await?;
            Ok(EngineInfo {
                id: "simulated".into(),
                version: "20.10.24".into(),
                api: "1.41".into(),
                reaches_containers: true,
            })
        })
    }

    fn list<'a>(&'a self, group: &'a str, volumes: bool) -> EngineFuture<'a, Observed> {
        Box::pin(async move {
            let visit = self.arrive("list".into(), |latency| latency.list).await?;
            let observed = self.lock().view(Some(group), volumes, true);
            self.leave(&visit).await?;
            Ok(observed)
        })
    }

    fn inspect<'a>(&'a self, id: &'a str) -> EngineFuture<'a, Option<Container>> {
        Box::pin(async move {
            let visit = self.arrive(format!("inspect {}", self.name_of(id)), |latency| latency.inspect).await?;
            // An inspection waits for what a list would not show yet.
            let stale_until = self.lock().containers.get(id).and_then(|container| container.stale_until);
            if let Some(until) = stale_until {
                sleep_until(until).await;
            }
            let found = {
                let world = self.lock();
                world.containers.get(id).map(|container| world.view_of(container))
            };
            self.leave(&visit).await?;
            Ok(found)
        })
    }

    fn image<'a>(&'a self, reference: &'a str) -> EngineFuture<'a, Option<ImageFacts>> {
        Box::pin(async move {
            let visit = self.arrive(format!("image {reference}"), |latency| latency.inspect).await?;
            let found = {
                let world = self.lock();
                let by_id = || world.images.values().find(|image| image.id == reference);
                world.images.get(reference).or_else(by_id).map(|image| image.facts.clone())
            };
            self.leave(&visit).await?;
            Ok(found)
        })
    }

    fn apply<'a>(&'a self, mutation: &'a Mutation) -> EngineFuture<'a, Option<String>> {
        let (sim, mutation) = (self.clone(), mutation.clone());
        Box::pin(async move {
            // What was sent is carried out, whether or not the sender lives to see the reply.
            let sent = tokio::spawn(async move { sim.carry_out(mutation).await });
            sent.await.unwrap_or_else(|error| {
                Err(EngineError::Refused { attempted: "carry that out".into(), message: error.to_string() })
            })
        })
    }

    fn pull<'a>(&'a self, image: &'a str, progress: &'a (dyn Fn(PullProgress) + Send + Sync)) -> EngineFuture<'a, ()> {
        Box::pin(async move {
            let visit = self.arrive(format!("pull {image}"), |latency| latency.pull).await?;
            progress(PullProgress { done: 0, total: 1, bytes: 0 });
            let pulled = self.change(|world| {
                let found = world.registry.get(image).cloned();
                found.map(|found| world.images.insert(image.to_owned(), found)).is_some()
            });
            self.leave(&visit).await?;
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
            let visit = self.arrive(format!("read {path} in {}", self.name_of(id)), |latency| latency.other).await?;
            let found = {
                let world = self.lock();
                let Some(container) = world.containers.get(id) else {
                    return Err(no_container(&format!("read {path} in the container"), id));
                };
                let gives = &container.image.behaviour.gives;
                let recent_exits = matches!(container.state, State::Exited { .. });
                (recent_exits && !gives.is_empty()).then(|| gives.clone().into_bytes())
            };
            self.leave(&visit).await?;
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
            let visit = self.arrive(format!("build {image}"), |latency| latency.build).await?;
            progress(BuildProgress::Line("Step 1/1 : FROM scratch".into()));
            let built = self.change(|world| world.build(request));
            self.leave(&visit).await?;
            built.map_err(|message| EngineError::Refused { attempted: format!("build {image}"), message })
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
            let visit = self.arrive(format!("exec {} {command}", self.name_of(id)), |latency| latency.other).await?;
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
                self.lost(&visit).await;
            }
            self.leave(&visit).await?;
            let (code, output) = match &script {
                // Its end is the engine's.
                Script::Hangs => std::future::pending().await,
                Script::Ends(code, output) => (*code, output.as_str()),
                Script::Answers(after) if ran >= *after => (0, ""),
                Script::AnswersUntil(end) if ran < *end => (0, ""),
                Script::AnswersUntil(_) => (1, "not any longer"),
                Script::Answers(_) => (1, "not yet"),
            };
            output.lines().for_each(|line| heard(LogLine { stderr: false, text: line.to_owned() }));
            Ok(code)
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
            let visit = self.arrive("ended".into(), |latency| latency.other).await?;
            let lately = |recent_exits: &&SimExit| recent_exits.group == group && recent_exits.at.elapsed() <= span;
            let end = |recent_exits: &SimExit| ContainerExit {
                service: recent_exits.service.clone(),
                replica: recent_exits.replica,
                ago: recent_exits.at.elapsed(),
                code: Some(recent_exits.code),
                asked: recent_exits.asked,
            };
            let recent_exits = self.lock().exits.iter().filter(lately).map(end).collect();
            self.leave(&visit).await?;
            Ok(recent_exits)
        })
    }

    fn events<'a>(&'a self, group: &'a str) -> EngineStream<'a, EngineEvent> {
        let opened = async move {
            match self.subscribe(group).await {
                Ok(inbox) => {
                    stream::unfold(inbox, |mut inbox| async move { inbox.recv().await.map(|event| (event, inbox)) })
                        .boxed()
                }
                Err(error) => stream::iter([Err(error)]).boxed(),
            }
        };
        stream::once(opened).flatten().boxed()
    }
}

impl Sim {
    async fn subscribe(&self, group: &str) -> Result<mpsc::UnboundedReceiver<Result<EngineEvent>>> {
        let visit = self.arrive("events".into(), |latency| latency.other).await?;
        let (hints, inbox) = mpsc::unbounded_channel();
        // The other end is in hand.
        let _ = hints.send(Ok(EngineEvent::Subscribed));
        self.lock().subscribers.push(Subscriber { group: group.to_owned(), hints });
        self.leave(&visit).await?;
        Ok(inbox)
    }

    async fn open_log(&self, id: &str, options: LogOptions) -> Result<Reading> {
        let visit = self.arrive(format!("logs {}", self.name_of(id)), |latency| latency.other).await?;
        self.leave(&visit).await?;
        let (sim, id, changes) = (self.clone(), id.to_owned(), self.changes.subscribe());
        Ok(Reading { sim, id, options, next: None, changes, epoch: visit.epoch })
    }
}

/// A reader of a container's output.
struct Reading {
    sim: Sim,
    id: String,
    options: LogOptions,
    /// Index of the next line; `None`: not begun.
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
                    // Reported once; a further read gets the end.
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
