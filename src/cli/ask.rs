//! Asks the watching controller that has the group.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tokio::time::timeout;

use super::Failure;
use crate::control::event::Outcome;
use crate::control::ipc::socket::Client;
use crate::control::ipc::wire::{WireRequest, WireResponse};
use crate::desired::Desired;
use crate::identity::service_of_instance;
use crate::plan::step::Subject;
use crate::render::Style;
use crate::status::ControllerStatus;

/// How long `status` waits for what a watching controller knows: it can do without.
const LIVE: Duration = Duration::from_secs(2);

/// Fails where the controller watches another spec directory.
pub(super) fn is_of(client: &Client, desired: &Desired) -> Result<(), Failure> {
    let hello = &client.hello;
    if hello.source == desired.source {
        return Ok(());
    }
    Err(Failure::Held {
        message: format!(
            "pid {} (drillmaster up --watch) watches the group {} from another spec directory, {}",
            hello.pid, desired.group, hello.source
        ),
        remedy: Some(format!("name it with --specs {}, or choose another --group", hello.source)),
    })
}

/// What is said where a command would be undone by the controller.
pub(super) fn refused(client: &Client, group: &str, command: &str, instead: &str) -> Failure {
    Failure::Held {
        message: format!(
            "`{command}` is of no use while pid {} (drillmaster up --watch) watches the group {group}",
            client.hello.pid
        ),
        remedy: Some(instead.to_owned()),
    }
}

/// Asks the controller to end, and waits until it does.
pub(super) async fn end(
    mut client: Client,
    command: &str,
    limit: Option<Duration>,
    style: Style,
) -> Result<(), Failure> {
    let pid = client.hello.pid;
    style.note(&format!("asking pid {pid} (drillmaster up --watch) to end"));
    let by = format!("drillmaster {command} (pid {})", std::process::id());
    let ending = async {
        // One that has gone meanwhile has ended too.
        if client.send(&WireRequest::Shutdown { by }).await.is_ok() {
            while let Ok(Some(answer)) = client.receive().await {
                match answer {
                    WireResponse::Stopping { .. } => break,
                    WireResponse::Unsupported { why } => return Err(sorry(pid, &why)),
                    _ => {}
                }
            }
        }
        Ok(())
    };
    match within(limit, ending).await {
        Some(result) => result,
        None => Err(Failure::Held {
            message: format!("pid {pid} (drillmaster up --watch) has not ended in the time given with --timeout"),
            remedy: None,
        }),
    }
}

/// Asks for work, shows what is told, and gives the result, as far as these services are concerned.
pub(super) async fn work(
    mut client: Client,
    question: &WireRequest,
    desired: &Desired,
    limit: Option<Duration>,
    style: Style,
) -> Result<Outcome, Failure> {
    let pid = client.hello.pid;
    style.note(&format!("asking pid {pid} (drillmaster up --watch)"));
    let settled = async {
        let ended = || format!("pid {pid} (drillmaster up --watch) ended before it was done; run this again");
        client.send(question).await.with_context(ended)?;
        loop {
            match client.receive().await.with_context(ended)? {
                Some(WireResponse::Event { event }) => show(&event, style),
                Some(WireResponse::Settled(settled)) => return Ok(Outcome::from(*settled)),
                Some(WireResponse::Unsupported { why }) => return Err(sorry(pid, &why)),
                Some(WireResponse::Stopping { .. }) | None => return Err(Failure::Other(anyhow::anyhow!(ended()))),
                Some(WireResponse::Hello(_) | WireResponse::Status(_) | WireResponse::Unknown) => {}
            }
        }
    };
    match within(limit, settled).await {
        Some(outcome) => Ok(of_these(outcome?, desired)),
        None => Ok(Outcome { timed_out: true, ..Outcome::default() }),
    }
}

/// What a watching controller of this state directory knows, where there is one that answers.
pub(super) async fn live(directory: &Path) -> Option<ControllerStatus> {
    let asked = async {
        let mut client = Client::connect(directory, LIVE).await.ok()?;
        client.send(&WireRequest::Status).await.ok()?;
        loop {
            match client.receive().await.ok()?? {
                WireResponse::Status(live) => return Some(live),
                WireResponse::Unsupported { .. } => return None,
                _ => {}
            }
        }
    };
    timeout(LIVE, asked).await.ok().flatten()
}

fn show(event: &Value, style: Style) {
    let Some(message) = event["message"].as_str() else { return };
    let mut text = message.to_owned();
    for line in event["output"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        text += &format!("\n  | {}", crate::render::progress::printable(line));
    }
    // A failure is shown also when quiet.
    if event["event"] == "failed" { style.complain(&text) } else { style.note(&text) }
}

fn of_these(mut outcome: Outcome, desired: &Desired) -> Outcome {
    let scope = &desired.scope;
    let concerns = |name: &str| scope.contains(desired.spec_of(name).map_or(name, |spec| &spec.service));
    outcome.changes.retain(|change| match &change.subject {
        Subject::Service(name) => scope.contains(service_of_instance(name, change.replica)),
        _ => true,
    });
    outcome.failed.retain(|name, _| concerns(name));
    outcome.waits.retain(|wait| concerns(&wait.service));
    outcome.ready.retain(|name| concerns(name));
    outcome
}

fn sorry(pid: u32, why: &str) -> Failure {
    Failure::Held {
        message: format!("pid {pid} (drillmaster up --watch) does not understand: {why}"),
        remedy: Some("it is of another version; end it with Ctrl-C there, and start it again".into()),
    }
}

async fn within<T>(limit: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
    match limit {
        Some(limit) => timeout(limit, work).await.ok(),
        None => Some(work.await),
    }
}
