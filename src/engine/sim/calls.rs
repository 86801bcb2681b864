//! The calls of [`Engine`], each with the time that it takes.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, sleep_until};

use super::super::{
    About, Deed, End, Engine, EngineError, ExecOutcome, Hint, LogLine, LogOptions, PullProgress, Result,
};
use super::world::{Made, Subscriber, World, no_container};
use super::{Latency, Script, Sim};
use crate::observed::{Container, ImageFacts, Observed, State};

/// What a stopped process has unless the caller says otherwise.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

impl Sim {
    /// Notes a call, and says how long it takes to get there and as long again to get back.
    fn call(&self, line: String, latency: impl FnOnce(&Latency) -> Duration) -> Duration {
        let mut world = self.lock();
        world.calls.push(line);
        latency(&world.latency) / 2
    }

    fn name_of(&self, id: &str) -> String {
        self.lock().name_of(id)
    }

    async fn carry_out(&self, deed: Deed) -> Result<Option<String>> {
        {
            let mut world = self.lock();
            world.under_way += 1;
            world.most_under_way = world.most_under_way.max(world.under_way);
        }
        let result = self.mutate(deed).await;
        self.lock().under_way -= 1;
        result
    }

    async fn mutate(&self, deed: Deed) -> Result<Option<String>> {
        match deed {
            Deed::Create(blueprint) => {
                let half = self.call(format!("create {}", blueprint.name), |latency| latency.create);
                self.timed(half, |world| world.create(&blueprint)).await.map(Some)
            }
            Deed::Start(id) => self.start(&id).await.map(|()| None),
            Deed::Stop { id, timeout } => self.stop(&id, timeout).await.map(|()| None),
            Deed::Unpause(id) => {
                let half = self.call(format!("unpause {}", self.name_of(&id)), |latency| latency.other);
                self.timed(half, |world| world.unpause(&id)).await.map(|()| None)
            }
            Deed::Rename { id, name } => {
                let half = self.call(format!("rename {} to {name}", self.name_of(&id)), |latency| latency.other);
                self.timed(half, |world| world.rename(&id, &name)).await.map(|()| None)
            }
            Deed::Update { id, resources, restart } => {
                let half = self.call(format!("update {}", self.name_of(&id)), |latency| latency.other);
                self.timed(half, |world| world.update(&id, resources, restart)).await.map(|()| None)
            }
            Deed::Remove { id, volumes } => {
                let name = self.name_of(&id);
                let force = self.lock().containers.get(&id).is_some_and(Made::is_up);
                let how = if force { " by force" } else { "" };
                let half = self.call(format!("remove {name}{how}"), |latency| latency.remove);
                sleep(half).await;
                if !self.lock().containers.contains_key(&id) {
                    return Err(no_container("remove the container", &id));
                }
                self.end(&id, 137, true);
                self.take_away(&id, volumes);
                sleep(half).await;
                Ok(None)
            }
            Deed::CreateNetwork { name, labels } => {
                let half = self.call(format!("create network {name}"), |latency| latency.network);
                self.timed(half, |world| Ok(world.create_network(&name, &labels))).await.map(Some)
            }
            Deed::RemoveNetwork(id) => {
                let name = self.lock().network_name(&id);
                let half = self.call(format!("remove network {name}"), |latency| latency.network);
                self.timed(half, |world| world.remove_network(&id, "remove the network")).await.map(|()| None)
            }
            Deed::Connect { network, container, .. } => {
                let line = format!("connect {} to {}", self.name_of(&container), self.lock().network_name(&network));
                let half = self.call(line, |latency| latency.network);
                self.timed(half, |world| world.connect(&network, &container)).await.map(|()| None)
            }
            Deed::Disconnect { network, container } => {
                let from = self.lock().network_name(&network);
                let line = format!("disconnect {} from {from}", self.name_of(&container));
                let half = self.call(line, |latency| latency.network);
                self.timed(half, |world| world.disconnect(&network, &container)).await.map(|()| None)
            }
            Deed::RemoveVolume(name) => {
                let half = self.call(format!("remove volume {name}"), |latency| latency.other);
                self.timed(half, |world| world.remove_volume(&name)).await.map(|()| None)
            }
        }
    }

    async fn timed<T>(&self, half: Duration, change: impl FnOnce(&mut World) -> Result<T>) -> Result<T> {
        sleep(half).await;
        let result = self.change(change);
        sleep(half).await;
        result
    }

    async fn start(&self, id: &str) -> Result<()> {
        let half = self.call(format!("start {}", self.name_of(id)), |latency| latency.start);
        let slow = self.lock().containers.get(id).map_or(Duration::ZERO, |c| c.image.behaviour.slow_start);
        sleep(half + slow).await;
        let begun = self.change(|world| world.start(id))?;
        if begun {
            self.live(id);
        }
        sleep(half).await;
        Ok(())
    }

    async fn stop(&self, id: &str, timeout: Option<Duration>) -> Result<()> {
        let half = self.call(format!("stop {}", self.name_of(id)), |latency| latency.stop);
        sleep(half).await;
        let takes = match self.lock().containers.get(id) {
            None => return Err(no_container("stop the container", id)),
            Some(container) => container.image.behaviour.stops,
        };
        let limit = timeout.unwrap_or(STOP_TIMEOUT);
        sleep(takes.min(limit)).await;
        self.end(id, if takes > limit { 137 } else { 0 }, true);
        sleep(half).await;
        // The reply comes when the engine has written down that it ended, and from then on lists are right.
        let stale_until = self.lock().containers.get(id).and_then(|container| container.stale_until);
        if let Some(until) = stale_until {
            sleep_until(until).await;
        }
        Ok(())
    }
}

impl Engine for Sim {
    fn about(&self) -> BoxFuture<'_, Result<About>> {
        Box::pin(async move {
            let half = self.call("about".into(), |latency| latency.other);
            sleep(half * 2).await;
            Ok(About {
                id: "simulated".into(),
                version: "20.10.24".into(),
                api: "1.41".into(),
                reaches_containers: true,
            })
        })
    }

    fn list<'a>(&'a self, group: &'a str, volumes: bool) -> BoxFuture<'a, Result<Observed>> {
        Box::pin(async move {
            let half = self.call("list".into(), |latency| latency.list);
            sleep(half).await;
            let observed = self.lock().view(Some(group), volumes, true);
            sleep(half).await;
            Ok(observed)
        })
    }

    fn inspect<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Container>>> {
        Box::pin(async move {
            let half = self.call(format!("inspect {}", self.name_of(id)), |latency| latency.inspect);
            sleep(half).await;
            // An inspection waits for what a list would not show yet.
            let stale_until = self.lock().containers.get(id).and_then(|container| container.stale_until);
            if let Some(until) = stale_until {
                sleep_until(until).await;
            }
            let found = {
                let world = self.lock();
                world.containers.get(id).map(|container| world.view_of(container))
            };
            sleep(half).await;
            Ok(found)
        })
    }

    fn image<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<Option<ImageFacts>>> {
        Box::pin(async move {
            let half = self.call(format!("image {reference}"), |latency| latency.inspect);
            sleep(half).await;
            let found = {
                let world = self.lock();
                let by_id = || world.images.values().find(|image| image.id == reference);
                world.images.get(reference).or_else(by_id).map(|image| image.facts.clone())
            };
            sleep(half).await;
            Ok(found)
        })
    }

    fn perform<'a>(&'a self, deed: &'a Deed) -> BoxFuture<'a, Result<Option<String>>> {
        let (sim, deed) = (self.clone(), deed.clone());
        Box::pin(async move {
            // What was sent is carried out, whether or not the sender lives to see the reply.
            let sent = tokio::spawn(async move { sim.carry_out(deed).await });
            sent.await.unwrap_or_else(|error| {
                Err(EngineError::Refused { attempted: "carry that out".into(), message: error.to_string() })
            })
        })
    }

    fn pull<'a>(
        &'a self,
        image: &'a str,
        progress: &'a (dyn Fn(PullProgress) + Send + Sync),
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let half = self.call(format!("pull {image}"), |latency| latency.pull);
            progress(PullProgress { done: 0, total: 1, bytes: 0 });
            sleep(half).await;
            let pulled = self.change(|world| {
                let found = world.registry.get(image).cloned();
                found.map(|found| world.images.insert(image.to_owned(), found)).is_some()
            });
            sleep(half).await;
            if !pulled {
                let message = format!("pull access denied for {image}, repository does not exist");
                return Err(EngineError::NotFound { attempted: format!("pull the image {image}"), message });
            }
            progress(PullProgress { done: 1, total: 1, bytes: 1 << 20 });
            Ok(())
        })
    }

    fn exec<'a>(&'a self, id: &'a str, command: &'a [String]) -> BoxFuture<'a, Result<ExecOutcome>> {
        Box::pin(async move {
            let half = self.call(format!("exec {} {}", self.name_of(id), command.join(" ")), |latency| latency.other);
            sleep(half).await;
            let attempted = format!("execute {} in the container", command.join(" "));
            let (script, ran) = {
                let world = self.lock();
                let Some(container) = world.containers.get(id) else { return Err(no_container(&attempted, id)) };
                if container.state != State::Running {
                    let message = format!("Container {id} is not running");
                    return Err(EngineError::Conflict { attempted, message });
                }
                let ran = container.started.map_or(Duration::ZERO, |started| started.elapsed());
                (container.image.behaviour.exec.clone(), ran)
            };
            sleep(half).await;
            match script {
                Script::Hangs => std::future::pending().await,
                Script::Ends(code, output) => Ok(ExecOutcome { code, output }),
                Script::Answers(after) if ran >= after => Ok(ExecOutcome { code: 0, output: String::new() }),
                Script::Answers(_) => Ok(ExecOutcome { code: 1, output: "not yet".into() }),
            }
        })
    }

    fn logs<'a>(&'a self, id: &'a str, options: LogOptions) -> BoxStream<'a, Result<LogLine>> {
        let half = self.call(format!("logs {}", self.name_of(id)), |latency| latency.other);
        let state =
            Reading { sim: self.clone(), id: id.to_owned(), options, next: None, changes: self.changes.subscribe() };
        let lines =
            stream::unfold(state, |mut reading| async move { reading.line().await.map(|line| (line, reading)) });
        Box::pin(stream::once(sleep(half * 2)).flat_map(move |()| stream::empty()).chain(lines))
    }

    fn ended<'a>(&'a self, _group: &'a str, _span: Duration) -> BoxFuture<'a, Result<Vec<End>>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn events<'a>(&'a self, group: &'a str) -> BoxStream<'a, Result<Hint>> {
        let half = self.call("events".into(), |latency| latency.other);
        let (sim, group) = (self.clone(), group.to_owned());
        let subscribed = async move {
            sleep(half).await;
            let (hints, inbox) = mpsc::unbounded_channel();
            // The other end is in hand.
            let _ = hints.send(Ok(Hint::Subscribed));
            sim.lock().subscribers.push(Subscriber { group, hints });
            sleep(half).await;
            stream::unfold(inbox, |mut inbox| async move { inbox.recv().await.map(|hint| (hint, inbox)) })
        };
        Box::pin(stream::once(subscribed).flatten())
    }
}

/// Somebody reads the output of a container.
struct Reading {
    sim: Sim,
    id: String,
    options: LogOptions,
    /// Index of the next line; `None`: not begun.
    next: Option<usize>,
    changes: watch::Receiver<u64>,
}

impl Reading {
    async fn line(&mut self) -> Option<Result<LogLine>> {
        loop {
            self.changes.mark_unchanged();
            {
                let world = self.sim.lock();
                let Some(container) = world.containers.get(&self.id) else {
                    // Told once; who reads on is at the end.
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
