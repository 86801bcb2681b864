//! An engine behind a bad connection: calls that fail before they are carried out or lose their reply afterwards, calls
//! that hang, events that are dropped, a client that is killed at its n-th call. For tests.
//!
//! Which call meets which fate follows from a seed and the number of the call alone, so a failing run can be repeated.
//! It changes no answer: what it lets through is what the engine behind it said.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use drillmaster::engine::layer::{Call, Layer};
use drillmaster::engine::{Engine, EngineError, EngineFuture, EngineStream, Mutation, Result};

/// What goes wrong, and how often: each rate is a number of calls out of a thousand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    /// What the fates of calls are drawn from.
    pub seed: u64,
    /// The connection breaks before the call is carried out.
    pub broken: u32,
    /// The call is carried out and its reply is lost.
    pub lost: u32,
    /// The call hangs, and is or is not carried out.
    pub hung: u32,
    /// The engine refuses for no reason.
    pub refused: u32,
    /// An event is dropped.
    pub dropped: u32,
    /// The stream of events ends after an event.
    pub cut: u32,
    /// For how long a call that hangs is waited for, then it fails as [`EngineError::TimedOut`]: the bound that a
    /// caller keeps.
    pub limit: Duration,
    /// Only calls of these verbs fail (`list`, `create`, …, as [`verb`] says); empty: all.
    pub verbs: Vec<&'static str>,
    /// How many calls may fail at most; what goes wrong for ever cannot be waited for.
    pub at_most: u64,
}

impl Default for Faults {
    /// None.
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

/// At which call a client is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// This call and every later one never return; the first is 1.
    pub at: u64,
    /// Whether that call still reaches the engine.
    pub carried_out: bool,
}

/// An engine whose calls meet [`Faults`].
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

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Fine,
    Broken,
    Lost,
    Hung { carried_out: bool },
    Refused,
}

impl Faulty {
    /// Puts an engine behind faults.
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

    /// An engine without faults whose client is killed at a call.
    pub fn stopping(engine: Arc<dyn Engine>, stop: Stop) -> Faulty {
        Faulty { stop: Some(stop), ..Faulty::new(engine, Faults::default()) }
    }

    /// From now on nothing goes wrong any longer.
    pub fn heal(&self) {
        self.healed.store(true, Ordering::Relaxed);
    }

    /// From now on things go wrong again, as far as the faults say.
    pub fn relapse(&self) {
        self.healed.store(false, Ordering::Relaxed);
    }

    /// Waits until the call has come at which the client is to be killed: the moment to drop it.
    pub async fn stopped(&self) {
        self.stopped.notified().await;
    }

    /// How many calls came so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// What went wrong so far, a line for each call: `12 start: its reply was lost`.
    pub fn journal(&self) -> Vec<String> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fate(&self, number: u64, verb: &'static str) -> Fate {
        let faults = &self.faults;
        if self.healed.load(Ordering::Relaxed) || !(faults.verbs.is_empty() || faults.verbs.contains(&verb)) {
            return Fate::Fine;
        }
        if self.failed.load(Ordering::Relaxed) >= faults.at_most {
            return Fate::Fine;
        }
        let drawn = random(faults.seed, number);
        let mut point = u32::try_from(drawn % 1000).unwrap_or(0);
        let fates = [
            (faults.broken, Fate::Broken),
            (faults.lost, Fate::Lost),
            (faults.hung, Fate::Hung { carried_out: drawn & (1 << 40) != 0 }),
            (faults.refused, Fate::Refused),
        ];
        for (rate, fate) in fates {
            if point < rate {
                self.failed.fetch_add(1, Ordering::Relaxed);
                let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
                journal.push(format!("{number} {verb}: {fate:?}"));
                return fate;
            }
            point -= rate;
        }
        Fate::Fine
    }

    /// Makes a call, or lets it meet its fate.
    async fn attempt<T: Send + 'static>(&self, verb: &'static str, call: EngineFuture<'_, T>) -> Result<T> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(stop) = self.stop.filter(|stop| number >= stop.at) {
            if number == stop.at && stop.carried_out {
                // A call that is polled once has been sent; the engine carries it out by itself.
                let mut call = call;
                let _ = std::future::poll_fn(|context| std::task::Poll::Ready(call.poll_unpin(context))).await;
            }
            self.stopped.notify_one();
            return std::future::pending().await;
        }
        let reset =
            || EngineError::Unreachable { endpoint: "the simulation".into(), reason: "connection reset".into() };
        match self.fate(number, verb) {
            Fate::Fine => call.await,
            Fate::Broken => Err(reset()),
            Fate::Lost => {
                let _ = call.await;
                Err(reset())
            }
            Fate::Refused => {
                Err(EngineError::Refused { attempted: verb.to_owned(), message: "for no reason".to_owned() })
            }
            Fate::Hung { carried_out } => {
                let limit = self.faults.limit;
                if carried_out {
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

/// The word for a mutation, by which faults are limited.
pub fn verb(mutation: &Mutation) -> &'static str {
    match mutation {
        Mutation::Create(_) => "create",
        Mutation::Start(_) => "start",
        Mutation::Stop { .. } => "stop",
        Mutation::Unpause(_) => "unpause",
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

/// The `n`-th number that a seed gives (splitmix64).
pub fn random(seed: u64, n: u64) -> u64 {
    let mut x = seed.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// The word for a call, by which faults are limited.
fn verb_of(call: Call<'_>) -> &'static str {
    match call {
        Call::About => "about",
        Call::List => "list",
        Call::Inspect(_) => "inspect",
        Call::Image(_) => "image",
        Call::Apply(mutation) => verb(mutation),
        Call::Pull(_) => "pull",
        Call::Read(..) => "read",
        Call::Build(_) => "build",
        Call::Exec(..) => "exec",
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
            // The subscription is a call itself, and had its chance.
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
