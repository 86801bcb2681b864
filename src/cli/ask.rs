//! Requests to the controller that holds the group.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tokio::time::timeout;

use super::Failure;
use super::session::within;
use crate::control::event::Outcome;
use crate::control::ipc::socket::Client;
use crate::control::ipc::wire::{WireRequest, WireResponse};
use crate::control::state_directory::StateDirectory;
use crate::desired::Desired;
use crate::identity::service_of_instance;
use crate::plan::step::Subject;
use crate::render::progress::output;
use crate::render::{Style, Text};
use crate::status::ControllerStatus;

/// How long `status` waits for a watching controller: its answer is optional.
const LIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Checks that the controller has the same spec directory.
pub(super) fn check_source(client: &Client, desired: &Desired) -> Result<(), Failure> {
    let hello = &client.hello;
    if hello.source == desired.source {
        return Ok(());
    }
    let verb = if hello.is_watching() { "watching" } else { "changing" };
    Err(Failure::Held {
        message: format!("{hello} is {verb} group {} with another spec directory, {}", desired.group, hello.source),
        remedy: Some(format!("use --specs {}, or another --group", hello.source)),
    })
}

/// The error of a command whose effect the controller would undo.
pub(super) fn refused(client: &Client, group: &str, command: &str, instead: &str) -> Failure {
    Failure::Held {
        message: format!(
            "cannot run `{command}`: pid {} (drillmaster up --watch) is watching group {group}",
            client.hello.pid
        ),
        remedy: Some(instead.to_owned()),
    }
}

/// Stops the controller and waits for its exit.
pub(super) async fn shut_down(
    mut client: Client,
    command: &str,
    limit: Option<Duration>,
    style: Style,
) -> Result<(), Failure> {
    let holder = client.hello.clone();
    style.note(format!("stopping {holder}"));
    let by = format!("drillmaster {command} (pid {})", std::process::id());
    let stopping = async {
        // If the request cannot be sent, the controller has exited already.
        if client.send(&WireRequest::Shutdown { by }).await.is_ok() {
            while let Ok(Some(response)) = client.receive().await {
                match response {
                    WireResponse::Stopping { .. } => break,
                    WireResponse::Unsupported { why } => return Err(unsupported(holder.pid, &why)),
                    _ => {}
                }
            }
        }
        Ok(())
    };
    match within(limit, stopping).await {
        Some(result) => result,
        None => Err(Failure::Held { message: format!("timed out waiting for {holder} to stop"), remedy: None }),
    }
}

/// Sends a request, prints the controller's events, and returns the outcome for the services in scope.
pub(super) async fn request(
    mut client: Client,
    request: &WireRequest,
    desired: &Desired,
    limit: Option<Duration>,
    style: Style,
) -> Result<Outcome, Failure> {
    let pid = client.hello.pid;
    style.note(format!("delegating to pid {pid} (drillmaster up --watch)"));
    let settled = async {
        let stopped =
            || format!("pid {pid} (drillmaster up --watch) stopped before the request completed; re-run to continue");
        client.send(request).await.with_context(stopped)?;
        loop {
            match client.receive().await.with_context(stopped)? {
                Some(WireResponse::Event { event }) => show(&event, style),
                Some(WireResponse::Settled(settled)) => return Ok(Outcome::from(*settled)),
                Some(WireResponse::Unsupported { why }) => return Err(unsupported(pid, &why)),
                Some(WireResponse::Stopping { .. }) | None => return Err(Failure::Other(anyhow::anyhow!(stopped()))),
                Some(WireResponse::Hello(_) | WireResponse::Busy | WireResponse::Status(_) | WireResponse::Unknown) => {
                }
            }
        }
    };
    match within(limit, settled).await {
        Some(outcome) => Ok(in_scope(outcome?, desired)),
        None => Ok(Outcome { timed_out: true, ..Outcome::default() }),
    }
}

/// The status of the controller of this state directory; `None` if there is none or it does not respond.
pub(super) async fn live(directory: &StateDirectory) -> Option<ControllerStatus> {
    let request = async {
        let mut client = Client::connect(directory.path(), LIVE_TIMEOUT).await.ok()?;
        client.send(&WireRequest::Status).await.ok()?;
        loop {
            match client.receive().await.ok()?? {
                WireResponse::Status(live) => return Some(live),
                WireResponse::Unsupported { .. } => return None,
                _ => {}
            }
        }
    };
    timeout(LIVE_TIMEOUT, request).await.ok().flatten()
}

fn show(event: &Value, style: Style) {
    let Some(message) = event["message"].as_str() else { return };
    let lines = event["output"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let text = Text::from(message) + output(lines);
    // Failures are printed even with --quiet.
    if event["event"] == "failed" { style.eprintln(text) } else { style.note(text) }
}

fn in_scope(mut outcome: Outcome, desired: &Desired) -> Outcome {
    let scope = &desired.scope;
    let contains = |name: &str| scope.contains(desired.spec_of(name).map_or(name, |spec| &spec.service));
    outcome.changes.retain(|change| match &change.subject {
        Subject::Service(name) => scope.contains(service_of_instance(name, change.replica)),
        _ => true,
    });
    outcome.failed.retain(|name, _| contains(name));
    outcome.waits.retain(|wait| contains(&wait.service));
    outcome.ready.retain(|name| contains(name));
    outcome
}

fn unsupported(pid: u32, why: &str) -> Failure {
    Failure::Held {
        message: format!("pid {pid} (drillmaster up --watch) rejected the request: {why}"),
        remedy: Some("it may run another version of drillmaster; stop it with Ctrl-C and start it again".into()),
    }
}
