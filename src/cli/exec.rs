//! `exec`: runs a command in a service's container, attached to the caller's terminal or pipes.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::AsyncWriteExt;
use tokio::signal::unix::{SignalKind, signal};

use super::args::{Exec, Global};
use super::project::Project;
use super::{Exit, Failure, session};
use crate::desired::{Desired, Service};
use crate::engine::docker::Docker;
use crate::engine::{Attached, Engine};
use crate::identity::CANDIDATE_SUFFIX;
use crate::observed::{Container, State};
use crate::render::Style;
use crate::spec::Profiles;

/// How often the terminal size is sent until the engine accepts it: a command that has just started has no terminal yet.
const RESIZE_RETRIES: u32 = 20;
/// Delay between these attempts.
const RESIZE_DELAY: Duration = Duration::from_millis(50);

/// The error that no container of the service is running.
fn not_running(exec: &Exec, desired: &Desired, container: Option<&Container>) -> anyhow::Error {
    let service = &exec.service;
    let is_job = desired.services.get(service.as_str()).is_some_and(Service::is_job);
    let (why, remedy) = match (container, exec.replica) {
        (None, Some(number)) => {
            (format!("it has no replica {number}"), "`drillmaster status` shows its replicas".to_owned())
        }
        (Some(container), _) if is_job => {
            (format!("container is {}", container.state), format!("`drillmaster run {service}` runs the job again"))
        }
        (Some(container), _) => {
            (format!("container is {}", container.state), "run `drillmaster up` to start it".to_owned())
        }
        (None, None) => ("no container".to_owned(), "run `drillmaster up` to create it".to_owned()),
    };
    anyhow::anyhow!("cannot execute a command in {service}: {why}; {remedy}")
}

pub(super) async fn exec(global: &Global, exec: &Exec, style: Style) -> Result<Exit, Failure> {
    let project = Project::load_leniently(global, Profiles::all(), style).await?;
    project.known(std::slice::from_ref(&exec.service))?;
    let engine = session::docker(global).await?;
    let group = project.desired.group.as_str();
    let observed = engine.list(group, false).await?;
    let of_service = |container: &&Container| {
        let identity = container.identity.as_ref();
        identity.is_some_and(|identity| {
            identity.service == exec.service && exec.replica.is_none_or(|number| identity.replica == Some(number))
        })
    };
    let containers: Vec<&Container> = observed.of_group(group).filter(of_service).collect();
    let running = |container: &&&Container| container.state == State::Running;
    // The current container before a candidate, the lowest replica first.
    let preference = |container: &&&Container| (container.name.ends_with(CANDIDATE_SUFFIX), container.name.clone());
    let Some(container) = containers.iter().filter(running).min_by_key(preference) else {
        return Err(not_running(exec, &project.desired, containers.first().copied()).into());
    };
    let tty = !exec.no_tty && std::io::stdin().is_terminal() && style.redraws();
    let attached = engine.attach(&container.id, &exec.command, tty).await?;
    // Restores the terminal on every return path.
    let _raw = if tty { Some(Raw::enter().context("cannot set the terminal to raw mode")?) } else { None };
    let code = forward(&engine, attached, tty, style).await?;
    Ok(Exit::Code(u8::try_from(code).unwrap_or(1)))
}

/// Forwards input and output until the command exits; returns its exit code.
async fn forward(engine: &Docker, attached: Attached, tty: bool, style: Style) -> Result<i64, Failure> {
    let Attached { exec, mut output, mut input } = attached;
    let stdin = tokio::spawn(async move {
        // If the command stops reading, its exit code still counts; end of input is forwarded.
        let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut input).await;
        let _ = input.shutdown().await;
    });
    let mut resizes = signal(SignalKind::window_change()).context("cannot listen for changes of the terminal size")?;
    let mut retries = if tty { RESIZE_RETRIES } else { 0 };
    loop {
        if retries > 0
            && let Ok(size) = tcgetwinsize(std::io::stdin())
        {
            let resized = engine.resize(&exec, size.ws_row, size.ws_col).await.is_ok();
            retries = if resized { 0 } else { retries - 1 };
        }
        tokio::select! {
            // cancel-safe because an unread chunk stays in the stream
            chunk = output.next() => match chunk {
                Some(chunk) => {
                    let (stderr, bytes) = chunk?;
                    // The output is closed.
                    if !style.forward(stderr, &bytes) {
                        break;
                    }
                }
                None => break,
            },
            // cancel-safe because a signal that was not received stays pending
            Some(()) = resizes.recv(), if tty => retries = RESIZE_RETRIES,
            // cancel-safe because each wait starts a new timer
            () = tokio::time::sleep(RESIZE_DELAY), if retries > 0 => {}
        }
    }
    stdin.abort();
    Ok(engine.ended_with(&exec).await?)
}

/// Raw mode of the terminal, in which Ctrl-C is forwarded as well; restored on drop.
struct Raw(Termios);

impl Raw {
    fn enter() -> rustix::io::Result<Raw> {
        let before = tcgetattr(std::io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Raw(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // An error means that the terminal is gone.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}
