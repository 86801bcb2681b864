//! Fault injection between a client and an engine, for tests: requests that are lost before or after execution, calls that
//! hang, dropped events, and a client that is killed at its n-th call.
//!
//! The outcome of a call depends only on the seed and the number of the call, so a failing run can be reproduced.
//! Responses are never modified.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use drillmaster::engine::layer::{Call, Layer};
use drillmaster::engine::{Engine, EngineError, EngineFuture, EngineStream, Mutation, Result};

/// Types of faults with their rates per thousand calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    /// Seed of the random decisions.
    pub seed: u64,
    /// The connection breaks before the call is executed.
    pub broken: u32,
    /// The call is executed and its response is lost.
    pub lost: u32,
    /// The call hangs; it may or may not be executed.
    pub hung: u32,
    /// The engine refuses the call.
    pub refused: u32,
    /// An event is dropped.
    pub dropped: u32,
    /// The event stream ends after an event.
    pub cut: u32,
    /// Time after which a hanging call fails with [`EngineError::TimedOut`], like the client's own deadline.
    pub limit: Duration,
    /// Verbs of the calls that may fail (`list`, `create`, …; see [`verb`]). Empty for all.
    pub verbs: Vec<&'static str>,
    /// Maximum number of calls that fail, so that a test can wait for success.
    pub at_most: u64,
}

impl Default for Faults {
    /// No faults.
    fn default() -> Faults {
        Faults {
            seed: 0,
            broken: 0,
            lost: 0,
            hung: 0,
            refused: 0,
            dropped: 0,
            cut: 0,
            limit: Duration::from_secs(30),
            verbs: Vec::new(),
            at_most: u64::MAX,
        }
    }
}

/// The call at which the client is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// Number of the call, from 1. This call and all later ones never return.
    pub at: u64,
    /// True if the engine still executes that call.
    pub executed: bool,
}

/// An engine with injected [`Faults`].
pub struct Faulty {
    engine: Arc<dyn Engine>,
    faults: Faults,
    stop: Option<Stop>,
    calls: AtomicU64,
    failed: AtomicU64,
    healed: AtomicBool,
    stopped: Notify,
    journal: Mutex<Vec<String>>,
}

/// Outcome of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Success,
    Broken,
    Lost,
    Hung { executed: bool },
    Refused,
}

impl Faulty {
    /// Wraps an engine.
    pub fn new(engine: Arc<dyn Engine>, faults: Faults) -> Faulty {
        Faulty {
            engine,
            faults,
            stop: None,
            calls: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            healed: AtomicBool::new(false),
            stopped: Notify::new(),
            journal: Mutex::new(Vec::new()),
        }
    }

    /// Wraps an engine without faults; the client is killed at the given call.
    pub fn stopping(engine: Arc<dyn Engine>, stop: Stop) -> Faulty {
        Faulty { stop: Some(stop), ..Faulty::new(engine, Faults::default()) }
    }

    /// Disables all faults.
    pub fn disable(&self) {
        self.healed.store(true, Ordering::Relaxed);
    }

    /// Enables the faults again after [`Faulty::disable`].
    pub fn enable(&self) {
        self.healed.store(false, Ordering::Relaxed);
    }

    /// Waits for the call at which the client is killed. The test then drops the client.
    pub async fn stopped(&self) {
        self.stopped.notified().await;
    }

    /// Returns the number of calls so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Returns the injected faults, one line per call: `12 start: Lost`.
    pub fn journal(&self) -> Vec<String> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn outcome(&self, number: u64, verb: &'static str) -> Outcome {
        let faults = &self.faults;
        if self.healed.load(Ordering::Relaxed) || !(faults.verbs.is_empty() || faults.verbs.contains(&verb)) {
            return Outcome::Success;
        }
        if self.failed.load(Ordering::Relaxed) >= faults.at_most {
            return Outcome::Success;
        }
        let drawn = random(faults.seed, number);
        let mut point = u32::try_from(drawn % 1000).unwrap_or(0);
        let outcomes = [
            (faults.broken, Outcome::Broken),
            (faults.lost, Outcome::Lost),
            (faults.hung, Outcome::Hung { executed: drawn & (1 << 40) != 0 }),
            (faults.refused, Outcome::Refused),
        ];
        for (rate, outcome) in outcomes {
            if point < rate {
                self.failed.fetch_add(1, Ordering::Relaxed);
                let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
                journal.push(format!("{number} {verb}: {outcome:?}"));
                return outcome;
            }
            point -= rate;
        }
        Outcome::Success
    }

    /// Executes a call, or injects a fault.
    async fn attempt<T: Send + 'static>(&self, verb: &'static str, call: EngineFuture<'_, T>) -> Result<T> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(stop) = self.stop.filter(|stop| number >= stop.at) {
            if number == stop.at && stop.executed {
                // Polling once sends the call; the engine executes it without further polling.
                let mut call = call;
                let _ = std::future::poll_fn(|context| std::task::Poll::Ready(call.poll_unpin(context))).await;
            }
            self.stopped.notify_one();
            return std::future::pending().await;
        }
        let reset =
            || EngineError::Unreachable { endpoint: "the simulation".into(), reason: "connection reset".into() };
        match self.outcome(number, verb) {
            Outcome::Success => call.await,
            Outcome::Broken => Err(reset()),
            Outcome::Lost => {
                let _ = call.await;
                Err(reset())
            }
            Outcome::Refused => {
                Err(EngineError::Refused { attempted: verb.to_owned(), message: "injected fault".to_owned() })
            }
            Outcome::Hung { executed } => {
                let limit = self.faults.limit;
                if executed {
                    let _ = timeout(limit, async {
                        let _ = call.await;
                        std::future::pending::<()>().await;
                    })
                    .await;
                } else {
                    sleep(limit).await;
                }
                Err(EngineError::TimedOut { attempted: verb.to_owned(), limit })
            }
        }
    }
}

/// Returns the verb of a mutation, as used in [`Faults::verbs`].
pub fn verb(mutation: &Mutation) -> &'static str {
    match mutation {
        Mutation::Create(_) => "create",
        Mutation::Start(_) | Mutation::FirstStart { .. } => "start",
        Mutation::Stop { .. } => "stop",
        Mutation::Unpause(_) => "unpause",
        Mutation::Signal { .. } => "signal",
        Mutation::Rename { .. } => "rename",
        Mutation::Update { .. } => "update",
        Mutation::Remove { .. } => "remove",
        Mutation::CreateNetwork { .. } => "create-network",
        Mutation::RemoveNetwork(_) => "remove-network",
        Mutation::Connect { .. } => "connect",
        Mutation::Disconnect { .. } => "disconnect",
        Mutation::RemoveVolume(_) => "remove-volume",
        Mutation::RemoveImage(_) => "remove-image",
    }
}

/// Returns the `n`-th random number of a seed (splitmix64).
pub fn random(seed: u64, n: u64) -> u64 {
    let mut x = seed.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// Returns the verb of a call, as used in [`Faults::verbs`].
fn verb_of(call: Call<'_>) -> &'static str {
    match call {
        Call::About => "about",
        Call::List => "list",
        Call::Inspect(_) => "inspect",
        Call::Image(_) => "image",
        Call::Apply(mutation) => verb(mutation),
        Call::Volumes => "volumes",
        Call::CreateVolume(_) => "create-volume",
        Call::Pull(_) => "pull",
        Call::Read(..) => "read",
        Call::Build(_) => "build",
        Call::Exec(..) => "exec",
        Call::Top(_) => "top",
        Call::Logs(..) => "logs",
        Call::RecentExits => "ended",
        Call::Events => "events",
    }
}

impl Layer for Faulty {
    fn inner(&self) -> &dyn Engine {
        self.engine.as_ref()
    }

    fn call<'a, T: Send + 'static>(&'a self, call: Call<'a>, result: EngineFuture<'a, T>) -> EngineFuture<'a, T> {
        Box::pin(self.attempt(verb_of(call), result))
    }

    fn stream<'a, T: Send + 'static>(
        &'a self,
        call: Call<'a>,
        open: impl FnOnce() -> EngineStream<'a, T> + Send + 'a,
    ) -> EngineStream<'a, T> {
        let opened = async move {
            match self.attempt(verb_of(call), Box::pin(async { Ok(()) })).await {
                Ok(()) => open(),
                Err(error) => stream::once(async { Err(error) }).boxed(),
            }
        };
        let items = stream::once(opened).flatten();
        if !matches!(call, Call::Events) {
            return items.boxed();
        }
        let mut number = self.calls() << 32;
        let mut cut = false;
        let mut is_first = true;
        let survives = move |item: Result<T>| {
            if cut {
                return std::future::ready(None);
            }
            number += 1;
            // The subscription itself is a call, with its own faults.
            let is_subscription = std::mem::take(&mut is_first) && item.is_ok();
            let spared = is_subscription || self.healed.load(Ordering::Relaxed);
            let point = random(self.faults.seed, number) % 1000;
            let dropped = !spared && point < u64::from(self.faults.dropped);
            cut = !spared && point >= 1000 - u64::from(self.faults.cut.min(1000));
            std::future::ready(Some((!dropped).then_some(item)))
        };
        let mut survives = survives;
        items.scan((), move |(), item| survives(item)).filter_map(std::future::ready).boxed()
    }
}
