//! `exec`: a command in the container of a service, with the terminal of whoever calls, or with its pipes.

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
use crate::engine::docker::Docker;
use crate::engine::{Attached, Engine};
use crate::identity::CANDIDATE_SUFFIX;
use crate::observed::{Container, State};
use crate::render::Style;

/// How often a terminal is told its size until it takes it: a command that has just begun has none yet.
const FITTINGS: u32 = 20;
/// And the pause between.
const FITTING: Duration = Duration::from_millis(50);

pub(super) async fn exec(global: &Global, exec: &Exec, style: Style) -> Result<Exit, Failure> {
    let project = Project::load_leniently(global, style)?;
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
    // One that serves, else one that is on its way; of replicas the first.
    let best = |container: &&&Container| (container.name.ends_with(CANDIDATE_SUFFIX), container.name.clone());
    let Some(container) = containers.iter().filter(running).min_by_key(best) else {
        let why = match containers.first() {
            Some(container) => format!("it is {}", container.state),
            None => "it has no container".to_owned(),
        };
        return Err(
            anyhow::anyhow!("cannot run a command in {}: {why}; `drillmaster up` starts it", exec.service).into()
        );
    };
    let tty = !exec.no_tty && std::io::stdin().is_terminal() && style.redraws();
    let attached = engine.attach(&container.id, &exec.command, tty).await?;
    // Given back as it was, however this ends.
    let _raw = if tty { Some(Raw::enter().context("cannot use the terminal")?) } else { None };
    let code = converse(&engine, attached, tty, style).await?;
    Ok(Exit::Code(u8::try_from(code).unwrap_or(1)))
}

/// Passes on what is typed and what is said until the command ends; gives its exit code.
async fn converse(engine: &Docker, attached: Attached, tty: bool, style: Style) -> Result<i64, Failure> {
    let Attached { exec, mut output, mut input } = attached;
    let typing = tokio::spawn(async move {
        // Whoever does not read any longer is told nothing; the end of the input is passed on.
        let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut input).await;
        let _ = input.shutdown().await;
    });
    let mut resized = signal(SignalKind::window_change()).context("cannot follow the size of the terminal")?;
    let mut tries = if tty { FITTINGS } else { 0 };
    loop {
        if tries > 0
            && let Ok(size) = tcgetwinsize(std::io::stdin())
        {
            let fits = engine.resize(&exec, size.ws_row, size.ws_col).await.is_ok();
            tries = if fits { 0 } else { tries - 1 };
        }
        tokio::select! {
            // cancel-safe because a piece that was not received stays in the stream
            piece = output.next() => match piece {
                Some(piece) => {
                    let (stderr, bytes) = piece?;
                    // Nobody reads it any longer.
                    if !style.pass_on(stderr, &bytes) {
                        break;
                    }
                }
                None => break,
            },
            // cancel-safe because a signal that was not received stays pending
            Some(()) = resized.recv(), if tty => tries = FITTINGS,
            // cancel-safe because the time is counted anew for the next turn
            () = tokio::time::sleep(FITTING), if tries > 0 => {}
        }
    }
    typing.abort();
    Ok(engine.ended_with(&exec).await?)
}

/// A terminal that passes every key on, also Ctrl-C; until this is dropped.
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
        // There is nothing to be done about one that is gone.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}
