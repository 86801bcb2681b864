//! Set-up of a command that talks to the engine: connection, lock of the group, interrupts.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use backon::{ConstantBuilder, Retryable as _};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::args::Global;
use super::{Exit, Failure};
use crate::control::ipc::lock::{self, Attempt, Holder, Lock, WATCH};
use crate::control::ipc::socket::{Client, ConnectError};
use crate::control::lease::{self, HeldLease, LeaseMonitor};
use crate::control::state_directory::StateDirectory;
use crate::engine::deadline::{Bounded, Limits};
use crate::engine::docker::Docker;
use crate::engine::target::{Endpoint, EngineConfig, target};
use crate::engine::{Engine, EngineInfo, io_message};
use crate::lease::{EXPIRES_AFTER, Lease};
use crate::render::{LineBreak, Style, Text};

/// Events within this time lead to one list: they come in bursts, and the first list after an exit may be stale.
pub(super) const EVENT_DEBOUNCE: Duration = Duration::from_millis(100);
/// Delay before a lost engine is contacted again.
pub(super) const RECONNECT_DELAY: Duration = Duration::from_secs(1);

/// Connects to the engine that `--host`, DOCKER_HOST or the docker context names; every call has a deadline.
pub(super) async fn connect(global: &Global) -> Result<Arc<dyn Engine>, Failure> {
    Ok(Arc::new(Bounded::new(docker(global).await?, Limits::default())))
}

/// The environment of this process, as far as it is valid Unicode.
pub(super) fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Returns true if the engine is reached through a socket of this machine.
pub(super) fn is_local(global: &Global) -> Result<bool, Failure> {
    Ok(matches!(engine_config(global)?.endpoint, Endpoint::Unix(_)))
}

/// The engine that `--host`, DOCKER_HOST or the docker context names.
pub(super) fn engine_config(global: &Global) -> Result<EngineConfig, Failure> {
    target(global.host.as_deref(), &environment()).map_err(|error| Failure::Usage(error.to_string()))
}

/// Connects to the engine without deadlines, for calls that only [`Docker`] has.
pub(super) async fn docker(global: &Global) -> Result<Docker, Failure> {
    Ok(Docker::connect(&engine_config(global)?).await?)
}

/// The state directory of a group.
pub(super) fn state_directory(info: &EngineInfo, group: &str) -> Result<StateDirectory, Failure> {
    let (xdg_state_home, home) = homes();
    Ok(StateDirectory::locate(xdg_state_home, home, &info.id, group).map_err(anyhow::Error::new)?)
}

/// The state directories of all groups of the engine, by group.
pub(super) fn state_directories(info: &EngineInfo) -> Result<BTreeMap<String, StateDirectory>, Failure> {
    let (xdg_state_home, home) = homes();
    Ok(StateDirectory::locate_all(xdg_state_home, home, &info.id).map_err(anyhow::Error::new)?)
}

/// XDG_STATE_HOME and the home directory: HOME, otherwise that of the user database.
fn homes() -> (Option<PathBuf>, Option<PathBuf>) {
    (std::env::var_os("XDG_STATE_HOME").map(PathBuf::from), std::env::home_dir())
}

/// The exclusive right to change a group.
pub(super) enum GroupLock {
    /// Held by this process until it is released.
    Acquired(Claim),
    /// Held by a watching controller, which accepts requests, or by a one-shot command that ends for this one.
    HeldByWatcher(Client),
}

/// The lock of the group, and its lease on the engine.
pub(super) struct Claim {
    lease: HeldLease,
    _lock: Lock,
}

impl Claim {
    /// The lease as a run sees it.
    pub(super) fn monitor(&self) -> LeaseMonitor {
        self.lease.monitor()
    }

    /// Releases the lease, then the lock: a process of this user that waits for the lock finds no lease.
    pub(super) async fn release(self) {
        self.lease.release().await;
    }
}

/// How long a controller may take to send its first line.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Delay between attempts to reach a lock holder that does not listen: it is just starting or stopping.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// Why one attempt to take the lock failed.
enum AttemptError {
    /// The controller that holds the lock does not respond.
    Unresponsive(Holder, ConnectError),
    Other(Failure),
}

/// Takes the lock and the lease of the group, or connects to the watching controller that holds the lock. While another
/// one-shot command holds one of them, waits for it, at most for `timeout`.
pub(super) async fn acquire(
    engine: &Arc<dyn Engine>,
    directory: &StateDirectory,
    group: &str,
    command: &str,
    timeout: Option<Duration>,
    style: Style,
) -> Result<GroupLock, Failure> {
    let start = Instant::now();
    let lock = match acquire_lock(directory, group, command, timeout, style).await? {
        Ok(lock) => lock,
        Err(client) => return Ok(GroupLock::HeldByWatcher(client)),
    };
    let remaining = timeout.map(|timeout| timeout.saturating_sub(start.elapsed()));
    let lease = acquire_lease(engine, group, command, remaining, style).await?;
    Ok(GroupLock::Acquired(Claim { lease, _lock: lock }))
}

/// Takes the lease of the group on the engine, which keeps controllers of other users and hosts away.
async fn acquire_lease(
    engine: &Arc<dyn Engine>,
    group: &str,
    command: &str,
    timeout: Option<Duration>,
    style: Style,
) -> Result<HeldLease, Failure> {
    let last = RefCell::new(None);
    let should_wait = |lease: &Lease| {
        // A watch does not end by itself. If it has not renewed its lease for long, the lease may end.
        if lease.is_of_watch() && lease.is_recent() {
            return false;
        }
        let holder = Some(lease.to_string());
        if *last.borrow() != holder {
            style.note(format!("waiting for {lease} to release group {group}"));
            *last.borrow_mut() = holder;
        }
        true
    };
    let holder = lease::holder(command, command == WATCH);
    match within(timeout, lease::acquire(engine.clone(), group, holder, should_wait)).await {
        Some(Ok(lease::Attempt::Acquired(lease, error))) => {
            if let Some(error) = error {
                style.eprintln(format!(
                    "warning: no lease of group {group}: {error}; nothing keeps controllers of other users away"
                ));
            }
            Ok(lease)
        }
        Some(Ok(lease::Attempt::Held(lease))) => Err(Failure::Held {
            message: format!("group {group} is held by {lease}"),
            remedy: Some(
                "only one controller may change a group: run the command as that user, or stop that controller first"
                    .into(),
            ),
        }),
        Some(Err(error)) => Err(Failure::Engine(error)),
        None => Err(match last.take() {
            Some(holder) => Failure::Held {
                message: format!("timed out waiting for the lease of group {group}, held by {holder}"),
                remedy: None,
            },
            None => {
                Failure::Other(anyhow::anyhow!("timed out (--timeout) before the engine answered; re-run to continue"))
            }
        }),
    }
}

/// The error of a run whose group another controller has taken over.
pub(super) fn lost(lease: &Lease, group: &str) -> Failure {
    Failure::Held {
        message: format!("stopped: {lease} has taken over group {group}"),
        remedy: Some(format!(
            "this process did not renew its lease for {} s, for example because it was suspended; containers keep running",
            EXPIRES_AFTER.as_secs()
        )),
    }
}

/// Takes the lock of the group, or connects to the watching controller that holds it. While another one-shot command
/// holds the lock, waits for it, at most for `timeout`; connects to one that ends for this command.
async fn acquire_lock(
    directory: &StateDirectory,
    group: &str,
    command: &str,
    timeout: Option<Duration>,
    style: Style,
) -> Result<Result<Lock, Client>, Failure> {
    let last_holder = RefCell::new(None);
    // A one-shot command that cannot be reached is waited for.
    let unreachable = Cell::new(false);
    let wait_for = |holder: Option<&Holder>| {
        let yields = |holder: &Holder| holder.yields_to(command) && !unreachable.get();
        if holder.is_some_and(|holder| holder.is_watching() || yields(holder)) {
            return false;
        }
        let holder = holder.map_or_else(|| "another drillmaster".to_owned(), ToString::to_string);
        style.note(format!("waiting for {holder} to release the lock on group {group}"));
        *last_holder.borrow_mut() = Some(holder);
        true
    };
    let attempt = || async {
        let attempt = lock::acquire(directory, command, wait_for).await.map_err(|error| {
            let (path, why) = (directory.path().display(), io_message(&error));
            let message = format!(
                "cannot acquire the lock in {path}: {why}; set XDG_STATE_HOME to a directory in which you can write"
            );
            AttemptError::Other(anyhow::Error::msg(message).into())
        })?;
        match attempt {
            Attempt::Acquired(lock) => Ok(Ok(lock)),
            Attempt::Held(holder) => match Client::connect(directory.path(), HELLO_TIMEOUT).await {
                Ok(client) => Ok(Err(client)),
                Err(error) => Err(AttemptError::Unresponsive(holder, error)),
            },
        }
    };
    let mut first_refusal = None;
    let can_retry = |error: &AttemptError| match error {
        AttemptError::Unresponsive(_, ConnectError::NotListening)
            if first_refusal.get_or_insert_with(Instant::now).elapsed() < HELLO_TIMEOUT =>
        {
            true
        }
        AttemptError::Unresponsive(holder, _) if !holder.is_watching() => !unreachable.replace(true),
        _ => false,
    };
    let retries = ConstantBuilder::new().with_delay(RETRY_DELAY).without_max_times();
    match within(timeout, attempt.retry(retries).when(can_retry)).await {
        Some(Ok(lock)) => Ok(lock),
        Some(Err(AttemptError::Unresponsive(holder, error))) => Err(unresponsive(group, &holder, &error)),
        Some(Err(AttemptError::Other(failure))) => Err(failure),
        None => {
            let holder = last_holder.take().unwrap_or_else(|| "another drillmaster".into());
            Err(Failure::Held {
                message: format!("timed out waiting for the lock on group {group}, held by {holder}"),
                remedy: None,
            })
        }
    }
}

fn unresponsive(group: &str, holder: &Holder, error: &ConnectError) -> Failure {
    let pid = holder.pid;
    let remedy = match error {
        ConnectError::Busy => "re-run when some of them have ended".to_owned(),
        _ => format!(
            "resume it (`kill -CONT {pid}`) or kill it (`kill -KILL {pid}`; containers keep running), then re-run"
        ),
    };
    Failure::Held {
        message: format!("{holder} is watching group {group} but cannot be reached: {error}"),
        remedy: Some(remedy),
    }
}

/// Runs `work` with an optional time limit; `None`: timed out.
pub(super) async fn within<T>(limit: Option<Duration>, work: impl IntoFuture<Output = T>) -> Option<T> {
    match limit {
        Some(limit) => timeout(limit, work.into_future()).await.ok(),
        None => Some(work.await),
    }
}

/// Listens for Ctrl-C and SIGTERM: the first one is sent to the receiver, the second one exits the process.
/// `effect` is printed at the first one and describes what it does.
pub(super) fn interrupts(effect: &'static str, style: Style) -> Result<mpsc::Receiver<()>, Failure> {
    let mut ctrl_c = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut interrupted = false;
        loop {
            tokio::select! {
                // cancel-safe because a signal that was not received stays pending
                _ = ctrl_c.recv() => {}
                // cancel-safe for the same reason
                _ = terminate.recv() => {}
            }
            if interrupted {
                std::process::exit(130);
            }
            interrupted = true;
            let note = format!("interrupted: {effect} (press Ctrl-C again to exit immediately)");
            // The terminal has printed `^C` on the current line.
            style.note(Text::from(LineBreak) + note);
            // The receiver may be gone, or may not have read the previous interrupt yet.
            let _ = sender.try_send(());
        }
    });
    Ok(receiver)
}

/// Runs `work` until an interrupt arrives.
pub(super) async fn unless_interrupted<T>(
    interrupts: &mut mpsc::Receiver<()>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<Result<T, Exit>, Failure> {
    tokio::select! {
        // cancel-safe because `work` only reads and waits; a lease that it has just taken ends with this process
        result = work => result.map(Ok),
        // cancel-safe because a message that was not received stays in the channel
        Some(()) = interrupts.recv() => Ok(Err(Exit::Interrupted)),
    }
}
