//! A call that talks to an engine: connected, locked, interruptible.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::args::Global;
use super::{Exit, Failure};
use crate::control::ipc::lock::{self, Attempt, Holder, Lock};
use crate::control::ipc::socket::{Client, ConnectError};
use crate::engine::deadline::{Bounded, Limits};
use crate::engine::docker::Docker;
use crate::engine::target::target;
use crate::engine::{Engine, EngineInfo};
use crate::render::Style;

/// Connects to the engine that is meant.
pub(super) async fn connect(global: &Global) -> Result<Arc<dyn Engine>, Failure> {
    Ok(Arc::new(Bounded::new(docker(global).await?, Limits::default())))
}

/// Connects to it, for what only this engine can do; such calls have deadlines of their own.
pub(super) async fn docker(global: &Global) -> Result<Docker, Failure> {
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let target = target(global.host.as_deref(), &environment).map_err(|error| Failure::Usage(error.to_string()))?;
    Ok(Docker::connect(&target).await?)
}

/// Where the lock and the notes of a group lie.
pub(super) fn state_directory(about: &EngineInfo, group: &str) -> PathBuf {
    let path = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let (state, home) = (path("XDG_STATE_HOME"), path("HOME"));
    lock::state_directory(state.as_deref(), home.as_deref(), &about.id, group)
}

/// Who may change the group.
pub(super) enum GroupLock {
    /// This process, for as long as it keeps this.
    Acquired(Lock),
    /// A watching controller, which can be asked.
    HeldByWatcher(Client),
}

/// How long a watching controller may take to say its first word.
const HELLO: Duration = Duration::from_secs(5);
/// Pause before somebody who holds the lock and does not listen is spoken to again: it is just beginning or ending.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// Finds out who may change the group: takes the right where nobody has it, waits where another one-shot command has
/// it, at most for this long.
pub(super) async fn acquire(
    about: &EngineInfo,
    group: &str,
    command: &str,
    timeout: Option<Duration>,
    style: Style,
) -> Result<GroupLock, Failure> {
    let directory = state_directory(about, group);
    let last = RefCell::new(None);
    let right = async {
        let mut deaf = None;
        loop {
            let waits_for = |holder: Option<&Holder>| {
                if holder.is_some_and(Holder::is_watching) {
                    return false;
                }
                let who = holder.map_or_else(|| "another drillmaster".to_owned(), ToString::to_string);
                style.note(&format!("waiting for {who}, which holds the group {group}"));
                *last.borrow_mut() = Some(who);
                true
            };
            let attempt = lock::acquire(&directory, command, waits_for).await.map_err(|error| {
                let message = format!("cannot take the lock in {}", directory.display());
                Failure::Other(anyhow::Error::new(error).context(message))
            })?;
            let holder = match attempt {
                Attempt::Acquired(lock) => return Ok(GroupLock::Acquired(lock)),
                Attempt::Held(holder) => holder,
            };
            match Client::connect(&directory, HELLO).await {
                Ok(client) => return Ok(GroupLock::HeldByWatcher(client)),
                Err(ConnectError::NotListening) if deaf.get_or_insert_with(Instant::now).elapsed() < HELLO => {
                    tokio::time::sleep(RETRY_DELAY).await;
                }
                Err(error) => return Err(unheard(group, &holder, &error)),
            }
        }
    };
    match timeout {
        Some(timeout) => match tokio::time::timeout(timeout, right).await {
            Ok(right) => right,
            Err(_) => {
                let holder = last.take().unwrap_or_else(|| "another drillmaster".into());
                Err(Failure::Held {
                    message: format!("{holder} holds the group {group}, and the time given with --timeout is over"),
                    remedy: None,
                })
            }
        },
        None => right.await,
    }
}

fn unheard(group: &str, holder: &Holder, error: &ConnectError) -> Failure {
    let pid = holder.pid;
    Failure::Held {
        message: format!("{holder} watches the group {group}, and cannot be asked: {error}"),
        remedy: Some(format!(
            "it is stopped or hangs; let it go on (`kill -CONT {pid}`) or end it (`kill -KILL {pid}`; containers \
             stay), and run this again"
        )),
    }
}

/// Interrupts by Ctrl-C, or by SIGTERM: the first is passed on, the second ends the process at once.
/// `what` says what the first one does.
pub(super) fn interrupts(what: &'static str, style: Style) -> Result<mpsc::Receiver<()>, Failure> {
    let mut ctrl_c = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut before = false;
        loop {
            tokio::select! {
                // cancel-safe because a signal that was not received stays pending
                _ = ctrl_c.recv() => {}
                // cancel-safe for the same reason
                _ = terminate.recv() => {}
            }
            if before {
                std::process::exit(130);
            }
            before = true;
            style.note(&format!("\ninterrupted: {what} (again: leave at once)"));
            // The run may be over, or its one message may be waiting already.
            let _ = sender.try_send(());
        }
    });
    Ok(receiver)
}

/// Waits for something that an interrupt may end.
pub(super) async fn unless_interrupted<T>(
    interrupts: &mut mpsc::Receiver<()>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<Result<T, Exit>, Failure> {
    tokio::select! {
        // cancel-safe because nothing has been changed yet: what is given up is a wait
        result = work => result.map(Ok),
        // cancel-safe because a message that was not received stays in the channel
        Some(()) = interrupts.recv() => Ok(Err(Exit::Interrupted)),
    }
}
