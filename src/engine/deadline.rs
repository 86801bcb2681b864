//! Deadlines of engine calls: with a hung engine, a call fails instead of blocking its caller.
//!
//! Only limits the wait: no retries, no messages.

use std::future::Future;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::layer::{Call, Layer};
use super::{
    BuildProgress, BuildRequest, Engine, EngineError, EngineFuture, EngineStream, Mutation, PullProgress, Result, short,
};

/// Time limits of calls. The defaults are far above what a busy engine needs: they are for an engine that never
/// responds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Reads, and the subscription to events: 30 s.
    pub read: Duration,
    /// Mutations of containers: 60 s.
    pub change: Duration,
    /// Mutations of networks and volumes: 30 s.
    pub network: Duration,
    /// In addition to a container's stop timeout: 30 s.
    pub stop_margin: Duration,
    /// Stop timeout assumed if the caller sets none: 10 s, the engine's default.
    pub stop: Duration,
    /// In addition to the caller's timeout of an exec: 30 s.
    pub exec_margin: Duration,
    /// Between two progress messages of a pull: 120 s.
    pub pull_silence: Duration,
    /// Between two progress messages of a build: 30 min. A compiling step may be silent for long.
    pub build_silence: Duration,
    /// Between two lines of existing output: 30 s. Followed output has no limit.
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
            exec_margin: Duration::from_secs(30),
            pull_silence: Duration::from_secs(120),
            build_silence: Duration::from_secs(1800),
            log_silence: Duration::from_secs(30),
        }
    }
}

impl Limits {
    fn of_call(&self, call: Call<'_>) -> Duration {
        match call {
            Call::Apply(mutation) => self.of_mutation(mutation),
            Call::Exec(_, exec) => exec.limit.saturating_add(self.exec_margin),
            Call::Read(..) => self.change,
            Call::CreateVolume(_) => self.network,
            _ => self.read,
        }
    }

    fn of_mutation(&self, mutation: &Mutation) -> Duration {
        match mutation {
            Mutation::Stop { timeout, .. } => timeout.unwrap_or(self.stop) + self.stop_margin,
            Mutation::CreateNetwork { .. }
            | Mutation::RemoveNetwork(_)
            | Mutation::Connect { .. }
            | Mutation::Disconnect { .. }
            | Mutation::RemoveVolume(_) => self.network,
            Mutation::Create(_)
            | Mutation::RemoveImage(_)
            | Mutation::Start(_)
            | Mutation::FirstStart { .. }
            | Mutation::Unpause(_)
            | Mutation::Signal { .. }
            | Mutation::Rename { .. }
            | Mutation::Update { .. }
            | Mutation::Remove { .. } => self.change,
        }
    }
}

/// Waits for a call, at most for `limit`.
pub async fn within<T>(
    limit: Duration,
    attempted: impl FnOnce() -> String,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    match timeout(limit, call).await {
        Ok(result) => result,
        Err(_) => Err(EngineError::TimedOut { attempted: attempted(), limit }),
    }
}

/// An engine whose calls have deadlines.
#[derive(Debug)]
pub struct Bounded<E> {
    engine: E,
    limits: Limits,
}

impl<E: Engine> Bounded<E> {
    /// Wraps an engine.
    pub fn new(engine: E, limits: Limits) -> Self {
        Bounded { engine, limits }
    }

    /// The wrapped engine.
    pub fn engine(&self) -> &E {
        &self.engine
    }
}

/// Waits for a call without a deadline, as long as it shows progress within `limit`.
async fn while_alive(
    limit: Duration,
    alive: &Notify,
    attempted: impl FnOnce() -> String,
    mut call: EngineFuture<'_, ()>,
) -> Result<()> {
    loop {
        tokio::select! {
            // Cancel-safe: the next iteration polls the call again; only its end leaves the loop.
            result = &mut call => return result,
            // Cancel-safe: `Notify` keeps a notification that is not seen now.
            life = timeout(limit, alive.notified()) => {
                if life.is_err() {
                    return Err(EngineError::TimedOut { attempted: attempted(), limit });
                }
            }
        }
    }
}

impl<E: Engine> Layer for Bounded<E> {
    fn inner(&self) -> &dyn Engine {
        &self.engine
    }

    fn call<'a, T: Send + 'static>(&'a self, call: Call<'a>, result: EngineFuture<'a, T>) -> EngineFuture<'a, T> {
        match call {
            Call::Apply(_) => tracing::debug!("asking the engine to {}", call.describe()),
            Call::List => tracing::debug!("asking the engine what it has"),
            Call::Inspect(id) => tracing::trace!("asking the engine about container {}", short(id)),
            _ => {}
        }
        Box::pin(within(self.limits.of_call(call), move || call.describe(), result))
    }

    fn stream<'a, T: Send + 'static>(
        &'a self,
        call: Call<'a>,
        open: impl FnOnce() -> EngineStream<'a, T> + Send + 'a,
    ) -> EngineStream<'a, T> {
        match call {
            Call::Logs(_, options) if options.follow => open(),
            Call::Logs(..) => bounded(open(), self.limits.log_silence, call.describe(), usize::MAX),
            // Only the subscription has a deadline; events may never arrive.
            _ => bounded(open(), self.limits.read, call.describe(), 1),
        }
    }

    fn pull_image<'a>(
        &'a self,
        image: &'a str,
        platform: Option<&'a str>,
        progress: &'a (dyn Fn(PullProgress) + Send + Sync),
    ) -> EngineFuture<'a, ()> {
        Box::pin(async move {
            let alive = Notify::new();
            let on_progress = |update: PullProgress| {
                alive.notify_one();
                progress(update);
            };
            let call = self.engine.pull(image, platform, &on_progress);
            while_alive(self.limits.pull_silence, &alive, || Call::Pull(image).describe(), call).await
        })
    }

    fn build_image<'a>(
        &'a self,
        request: &'a BuildRequest,
        progress: &'a (dyn Fn(BuildProgress) + Send + Sync),
    ) -> EngineFuture<'a, ()> {
        tracing::debug!("asking the engine to build {}", request.image);
        Box::pin(async move {
            let alive = Notify::new();
            let on_progress = |update: BuildProgress| {
                alive.notify_one();
                progress(update);
            };
            let call = self.engine.build(request, &on_progress);
            while_alive(self.limits.build_silence, &alive, || Call::Build(request).describe(), call).await
        })
    }
}

/// Bounds the wait for each of the first `count` items; after a missed deadline the stream ends.
fn bounded<'a, T: Send + 'a>(
    items: EngineStream<'a, T>,
    limit: Duration,
    attempted: String,
    count: usize,
) -> EngineStream<'a, T> {
    let next = move |(mut items, seen): (EngineStream<'a, T>, usize)| {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future;

    use super::super::{ContainerExit, EngineEvent, EngineInfo, Exec, LabeledVolume, LogLine, LogOptions, Processes};
    use super::*;
    use crate::desired::Build;
    use crate::observed::{Container, ImageFacts, Observed};
    use crate::spec::Tree;

    /// An engine that stops responding after this number of calls.
    struct Hung(usize);

    impl Engine for Hung {
        fn about(&self) -> EngineFuture<'_, EngineInfo> {
            Box::pin(future::pending())
        }

        fn list<'a>(&'a self, _: &'a str, _: bool) -> EngineFuture<'a, Observed> {
            Box::pin(future::pending())
        }

        fn inspect<'a>(&'a self, _: &'a str) -> EngineFuture<'a, Option<Container>> {
            Box::pin(future::pending())
        }

        fn image<'a>(&'a self, _: &'a str) -> EngineFuture<'a, Option<ImageFacts>> {
            Box::pin(future::pending())
        }

        fn apply<'a>(&'a self, _: &'a Mutation) -> EngineFuture<'a, Option<String>> {
            Box::pin(future::pending())
        }

        fn volumes<'a>(&'a self, _: &'a str, _: &'a str) -> EngineFuture<'a, Vec<LabeledVolume>> {
            Box::pin(future::pending())
        }

        fn create_volume<'a>(
            &'a self,
            _: &'a str,
            _: &'a BTreeMap<String, String>,
        ) -> EngineFuture<'a, BTreeMap<String, String>> {
            Box::pin(future::pending())
        }

        fn pull<'a>(
            &'a self,
            _: &'a str,
            _: Option<&'a str>,
            progress: &'a (dyn Fn(PullProgress) + Send + Sync),
        ) -> EngineFuture<'a, ()> {
            Box::pin(async move {
                for done in 0..self.0 {
                    tokio::time::sleep(Duration::from_secs(100)).await;
                    progress(PullProgress { done, total: 9, bytes: 0 });
                }
                future::pending().await
            })
        }

        fn read<'a>(&'a self, _: &'a str, _: &'a str, _: usize) -> EngineFuture<'a, Option<Vec<u8>>> {
            Box::pin(future::pending())
        }

        fn build<'a>(
            &'a self,
            _: &'a BuildRequest,
            progress: &'a (dyn Fn(BuildProgress) + Send + Sync),
        ) -> EngineFuture<'a, ()> {
            Box::pin(async move {
                for _ in 0..self.0 {
                    tokio::time::sleep(Duration::from_secs(1000)).await;
                    progress(BuildProgress::Alive);
                }
                future::pending().await
            })
        }

        fn exec<'a>(
            &'a self,
            _: &'a str,
            _: &'a Exec,
            _: &'a mut (dyn FnMut(LogLine) + Send),
        ) -> EngineFuture<'a, i64> {
            Box::pin(future::pending())
        }

        fn top<'a>(&'a self, _: &'a str) -> EngineFuture<'a, Processes> {
            Box::pin(future::pending())
        }

        fn logs<'a>(&'a self, _: &'a str, _: LogOptions) -> EngineStream<'a, LogLine> {
            let line = LogLine { stderr: false, text: "line".into() };
            stream::iter(vec![Ok(line); self.0]).chain(stream::pending()).boxed()
        }

        fn recent_exits<'a>(&'a self, _: &'a str, _: Duration) -> EngineFuture<'a, Vec<ContainerExit>> {
            Box::pin(future::pending())
        }

        fn events<'a>(&'a self, _: &'a str) -> EngineStream<'a, EngineEvent> {
            stream::iter(vec![Ok(EngineEvent::Subscribed); self.0]).chain(stream::pending()).boxed()
        }
    }

    fn hung(answers: usize) -> Bounded<Hung> {
        Bounded::new(Hung(answers), Limits::default())
    }

    fn limit<T: std::fmt::Debug>(result: Result<T>) -> u64 {
        match result {
            Err(EngineError::TimedOut { limit, .. }) => limit.as_secs(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_call_has_a_deadline() {
        let engine = hung(0);
        assert_eq!(limit(engine.about().await), 30);
        assert_eq!(limit(engine.list("shop", true).await), 30);
        assert_eq!(limit(engine.inspect("a").await), 30);
        assert_eq!(limit(engine.image("a").await), 30);
        assert_eq!(limit(engine.volumes("a", "b").await), 30);
        assert_eq!(limit(engine.create_volume("a", &BTreeMap::new()).await), 30);
        assert_eq!(limit(engine.recent_exits("shop", Duration::from_secs(600)).await), 30);
        let exec = Exec { command: Vec::new(), env: BTreeMap::new(), limit: Duration::from_secs(600) };
        assert_eq!(limit(engine.exec("a", &exec, &mut drop).await), 630);
        assert_eq!(limit(engine.apply(&Mutation::Start("a".into())).await), 60);
        assert_eq!(limit(engine.apply(&Mutation::RemoveNetwork("a".into())).await), 30);
        let stop = |timeout: Option<u64>| Mutation::Stop { id: "a".into(), timeout: timeout.map(Duration::from_secs) };
        assert_eq!(limit(engine.apply(&stop(Some(100))).await), 130);
        assert_eq!(limit(engine.apply(&stop(None)).await), 40);
        let error = engine.apply(&Mutation::Start("a".into())).await.unwrap_err().to_string();
        assert_eq!(error, "the engine did not answer within 60 s while asked to start container a");
    }

    #[tokio::test(start_paused = true)]
    async fn long_pull_needs_progress() {
        let heard = AtomicUsize::new(0);
        let count = |_| {
            heard.fetch_add(1, Ordering::Relaxed);
        };
        let begin = tokio::time::Instant::now();
        assert_eq!(limit(hung(5).pull("debian", None, &count).await), 120);
        assert_eq!((heard.into_inner(), begin.elapsed().as_secs()), (5, 620));
    }

    #[tokio::test(start_paused = true)]
    async fn build_may_be_silent_for_longer_than_a_pull() {
        let tree = Tree {
            context: String::new(),
            dockerfile: Default::default(),
            digest: String::new(),
            files: Default::default(),
        };
        let build = Build { tree, target: None, args: BTreeMap::new(), labels: BTreeMap::new(), platform: None };
        let request = BuildRequest { image: "api:1".into(), build, labels: BTreeMap::new() };
        let begin = tokio::time::Instant::now();
        let error = hung(3).build(&request, &|_| {}).await.unwrap_err().to_string();
        assert_eq!(error, "the engine did not answer within 1800 s while asked to build api:1");
        assert_eq!(begin.elapsed().as_secs(), 3 * 1000 + 1800);
    }

    #[tokio::test(start_paused = true)]
    async fn streams_time_out_only_while_output_is_due() {
        let silent =
            async |mut items: EngineStream<'_, EngineEvent>| timeout(Duration::from_secs(3_600), items.next()).await;
        let unsubscribed = hung(0);
        assert_eq!(limit(unsubscribed.events("shop").next().await.unwrap()), 30);
        let subscribed = hung(1);
        let mut events = subscribed.events("shop");
        assert_eq!(events.next().await, Some(Ok(EngineEvent::Subscribed)));
        assert!(silent(events).await.is_err(), "event streams may be silent indefinitely");

        let lines: Vec<_> = hung(2).logs("a", LogOptions::default()).map(|line| line.is_ok()).collect().await;
        assert_eq!(lines, [true, true, false], "the stream ends after the error");
        let follow = LogOptions { follow: true, ..Default::default() };
        let quiet = hung(0);
        let mut followed = quiet.logs("a", follow);
        assert!(timeout(Duration::from_secs(3_600), followed.next()).await.is_err());
    }
}
