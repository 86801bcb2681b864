//! `logs`: the output of services, each line prefixed with its service.

use std::borrow::Cow;

use futures_util::StreamExt;
use futures_util::stream::select_all;

use super::args::{Global, Logs};
use super::project::Project;
use super::{Exit, Failure, session};
use crate::engine::LogOptions;
use crate::identity::Identity;
use crate::render::{Style, json};

pub(super) async fn logs(global: &Global, logs: &Logs, style: Style) -> Result<Exit, Failure> {
    let project = Project::load_leniently(global, style)?;
    let selected = project.known(&logs.services)?;
    let engine = session::connect(global).await?;
    let group = project.desired.group.as_str();
    let observed = engine.list(group, false).await?;
    let is_selected = |identity: &&Identity| selected.is_empty() || selected.contains(&identity.service);
    let containers: Vec<(&Identity, Cow<'_, str>, &str)> = observed
        .of_group(group)
        .filter_map(|container| Some((container.identity.as_ref().filter(is_selected)?, container)))
        .filter_map(|(identity, container)| Some((identity, project.desired.instance_of(identity)?, &container.id[..])))
        .collect();
    for service in selected.iter().filter(|service| containers.iter().all(|(of, ..)| of.service != **service)) {
        style.eprintln(format!("{service}: no container"));
    }
    if containers.is_empty() && selected.is_empty() {
        style.note(format!("{group}: no containers"));
    }
    let width = containers.iter().map(|(_, name, _)| name.len()).max().unwrap_or_default();
    let options = LogOptions { tail: logs.tail.0, follow: logs.follow, ..LogOptions::default() };
    let streams =
        containers.into_iter().map(|(of, name, id)| engine.logs(id, options).map(move |line| (of, name.clone(), line)));
    let mut lines = select_all(streams);
    while let Some((of, name, line)) = lines.next().await {
        let is_open = match line {
            Ok(line) if style.json => {
                let value = serde_json::json!({ "service": of.service, "stderr": line.stderr, "line": line.text });
                let value = json::with_replica(value, of.replica);
                style.log_json(&value)
            }
            Ok(line) => style.log(&format!("{name:width$}"), &line.text),
            Err(error) => {
                style.eprintln(format!("{name}: {error}"));
                true
            }
        };
        if !is_open {
            break;
        }
    }
    Ok(Exit::Ok)
}
