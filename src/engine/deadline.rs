//! Deadlines: an engine that hangs makes one call fail, never the caller.
//!
//! Decides how long to wait and nothing else: no retries, no words for people.

use std::future::Future;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::{About, Deed, Engine, EngineError, ExecOutcome, Hint, LogLine, LogOptions, PullProgress, Result};
use crate::observed::{Container, ImageFacts, Observed};

/// How long the engine may take. The defaults are far beyond what a busy engine needs: they are there for one that
/// never answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For reads, and for the subscription to events: 30 s.
    pub read: Duration,
    /// For everything that changes a container: 60 s.
    pub change: Duration,
    /// For everything that changes a network or a volume: 30 s.
    pub network: Duration,
    /// Beyond the time that a container has to stop: 30 s.
    pub stop_margin: Duration,
    /// What a container has to stop where the caller does not say: 10 s, the engine's default.
    pub stop: Duration,
    /// For a command in a container, whose caller has a better limit: 10 min.
    pub exec: Duration,
    /// Between two signs of life of a pull: 120 s.
    pub pull_silence: Duration,
    /// Between two lines of output that is already there: 30 s. Output that is followed may be silent for ever.
    pub log_silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            read: Duration::from_secs(30),
            change: Duration::from_secs(60),
            network: Duration::from_secs(30),
            stop_margin: Duration::from_secs(30),
            stop: Duration::from_secs(10),
            exec: Duration::from_secs(600),
            pull_silence: Duration::from_secs(120),
            log_silence: Duration::from_secs(30),
        }
    }
}

impl Limits {
    fn of(&self, deed: &Deed) -> Duration {
        match deed {
            Deed::Stop { timeout, .. } => timeout.unwrap_or(self.stop) + self.stop_margin,
            Deed::CreateNetwork { .. }
            | Deed::RemoveNetwork(_)
            | Deed::Connect { .. }
            | Deed::Disconnect { .. }
            | Deed::RemoveVolume(_) => self.network,
            Deed::Create(_)
            | Deed::Start(_)
            | Deed::Unpause(_)
            | Deed::Rename { .. }
            | Deed::Update { .. }
            | Deed::Remove { .. } => self.change,
        }
    }
}

/// Waits for a call, but not longer than this.
pub async fn within<T>(
    limit: Duration,
    attempted: impl FnOnce() -> String,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    match timeout(limit, call).await {
        Ok(result) => result,
        Err(_) => Err(EngineError::TimedOut {
            attempted: attempted(),
            limit,
        }),
    }
}

/// An engine whose every call has a deadline.
#[derive(Debug)]
pub struct Bounded<E> {
    engine: E,
    limits: Limits,
}

impl<E: Engine> Bounded<E> {
    /// Bounds an engine.
    pub fn new(engine: E, limits: Limits) -> Self {
        Bounded { engine, limits }
    }

    /// The engine itself.
    pub fn inner(&self) -> &E {
        &self.engine
    }

    async fn pull_while_it_lives(&self, image: &str, progress: &(dyn Fn(PullProgress) + Send + Sync)) -> Result<()> {
        let limit = self.limits.pull_silence;
        let alive = Notify::new();
        let heard = |news: PullProgress| {
            alive.notify_one();
            progress(news);
        };
        let pull = self.engine.pull(image, &heard);
        tokio::pin!(pull);
        loop {
            tokio::select! {
                // Cancel-safe because the pull is polled on by the next turn; only its end leaves the loop.
                result = &mut pull => return result,
                // Cancel-safe because a sign of life that is not seen now is kept by `Notify`.
                life = timeout(limit, alive.notified()) => {
                    if life.is_err() {
                        return Err(EngineError::TimedOut { attempted: format!("pull {image}"), limit });
                    }
                }
            }
        }
    }
}

impl<E: Engine> Engine for Bounded<E> {
    fn about(&self) -> BoxFuture<'_, Result<About>> {
        Box::pin(within(
            self.limits.read,
            || "say what it is".into(),
            self.engine.about(),
        ))
    }

    fn list<'a>(&'a self, group: &'a str, volumes: bool) -> BoxFuture<'a, Result<Observed>> {
        Box::pin(within(
            self.limits.read,
            || "list what it has".into(),
            self.engine.list(group, volumes),
        ))
    }

    fn inspect<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Container>>> {
        let attempted = || format!("inspect container {}", super::short(id));
        Box::pin(within(self.limits.read, attempted, self.engine.inspect(id)))
    }

    fn image<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<Option<ImageFacts>>> {
        Box::pin(within(
            self.limits.read,
            move || format!("inspect image {reference}"),
            self.engine.image(reference),
        ))
    }

    fn perform<'a>(&'a self, deed: &'a Deed) -> BoxFuture<'a, Result<Option<String>>> {
        Box::pin(within(
            self.limits.of(deed),
            || deed.describe(),
            self.engine.perform(deed),
        ))
    }

    fn pull<'a>(
        &'a self,
        image: &'a str,
        progress: &'a (dyn Fn(PullProgress) + Send + Sync),
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.pull_while_it_lives(image, progress))
    }

    fn exec<'a>(&'a self, id: &'a str, command: &'a [String]) -> BoxFuture<'a, Result<ExecOutcome>> {
        let attempted = || format!("run a command in container {}", super::short(id));
        Box::pin(within(self.limits.exec, attempted, self.engine.exec(id, command)))
    }

    fn logs<'a>(&'a self, id: &'a str, options: LogOptions) -> BoxStream<'a, Result<LogLine>> {
        let lines = self.engine.logs(id, options);
        if options.follow {
            return lines;
        }
        let attempted = format!("give the output of container {}", super::short(id));
        bounded(lines, self.limits.log_silence, attempted, usize::MAX)
    }

    fn events<'a>(&'a self, group: &'a str) -> BoxStream<'a, Result<Hint>> {
        bounded(self.engine.events(group), self.limits.read, "report events".into(), 1)
    }
}

/// Bounds the wait for each of the first `count` items; after a missed deadline the stream ends.
fn bounded<'a, T: Send + 'a>(
    items: BoxStream<'a, Result<T>>,
    limit: Duration,
    attempted: String,
    count: usize,
) -> BoxStream<'a, Result<T>> {
    let next = move |(mut items, seen): (BoxStream<'a, Result<T>>, usize)| {
        let attempted = attempted.clone();
        async move {
            if seen >= count {
                return items.next().await.map(|item| (item, (items, seen)));
            }
            match timeout(limit, items.next()).await {
                Ok(item) => item.map(|item| (item, (items, seen + 1))),
                Err(_) => {
                    let missed = Err(EngineError::TimedOut { attempted, limit });
                    Some((missed, (stream::empty().boxed(), count)))
                }
            }
        }
    };
    stream::unfold((items, 0), next).boxed()
}
