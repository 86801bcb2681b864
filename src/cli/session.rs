//! A call that talks to an engine: connected, locked, interruptible.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::args::Global;
use super::{Ended, Failure};
use crate::control::lock::{self, Lock};
use crate::engine::deadline::{Bounded, Limits};
use crate::engine::docker::Docker;
use crate::engine::target::target;
use crate::engine::{About, Engine};
use crate::render::Style;

/// Connects to the engine that is meant.
pub(super) async fn connect(global: &Global) -> Result<Arc<dyn Engine>, Failure> {
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let target = target(global.host.as_deref(), &environment).map_err(|error| Failure::Usage(error.to_string()))?;
    let limits = Limits::default();
    let docker = Docker::connect(&target).await?;
    Ok(Arc::new(Bounded::new(docker, limits)))
}

/// Where the lock and the notes of a group lie.
pub(super) fn state_directory(about: &About, group: &str) -> PathBuf {
    let path = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let (state, home) = (path("XDG_STATE_HOME"), path("HOME"));
    lock::state_directory(state.as_deref(), home.as_deref(), &about.id, group)
}

/// Takes the right to change the group; waits where another one-shot command has it, at most for this long.
pub(super) async fn acquire(
    about: &About,
    group: &str,
    command: &str,
    timeout: Option<Duration>,
    style: Style,
) -> Result<Lock, Failure> {
    let directory = state_directory(about, group);
    let holder = RefCell::new(String::new());
    let waiting = |who: &str| {
        style.note(&format!("waiting for {who}, which holds the group {group}"));
        who.clone_into(&mut holder.borrow_mut());
    };
    let lock = lock::acquire(&directory, command, waiting);
    let lock = match timeout {
        Some(timeout) => match tokio::time::timeout(timeout, lock).await {
            Ok(lock) => lock,
            Err(_) => return Err(Failure::Held { group: group.to_owned(), holder: holder.take() }),
        },
        None => lock.await,
    };
    lock.map_err(|error| {
        let message = format!("cannot take the lock in {}", directory.display());
        Failure::Other(anyhow::Error::new(error).context(message))
    })
}

/// Interrupts by Ctrl-C, or by SIGTERM: the first is passed on, the second ends the process at once.
pub(super) fn interrupts(style: Style) -> Result<mpsc::Receiver<()>, Failure> {
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
            style.note("\ninterrupted: ending with the step under way (again: leave at once)");
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
) -> Result<Result<T, Ended>, Failure> {
    tokio::select! {
        // cancel-safe because nothing has been changed yet: what is given up is a wait
        result = work => result.map(Ok),
        // cancel-safe because a message that was not received stays in the channel
        Some(()) = interrupts.recv() => Ok(Err(Ended::Interrupted)),
    }
}

/// Where pings are made from.
pub(super) fn surroundings(about: &About, group: &str, directory: &Path) -> crate::control::probe::Surroundings {
    crate::control::probe::Surroundings {
        group: group.to_owned(),
        directory: directory.to_owned(),
        reaches_containers: about.reaches_containers,
    }
}
