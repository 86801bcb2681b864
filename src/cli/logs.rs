//! `logs`: what services print, each line with its service in front.

use futures_util::StreamExt;
use futures_util::stream::select_all;

use super::args::{Global, Logs};
use super::project::Project;
use super::{Ended, Failure, session};
use crate::engine::LogOptions;
use crate::render::Style;
use crate::render::progress::printable;

pub(super) async fn logs(global: &Global, logs: &Logs, style: Style) -> Result<Ended, Failure> {
    let project = Project::load_leniently(global, style)?;
    let wanted = project.known(&logs.services)?;
    let engine = session::connect(global).await?;
    let group = project.desired.group.as_str();
    let observed = engine.list(group, false).await?;
    let containers: Vec<(&str, &str)> = observed
        .of_group(group)
        .filter_map(|container| Some((container.service_of(group)?, container.id.as_str())))
        .filter(|(service, _)| wanted.is_empty() || wanted.contains(*service))
        .collect();
    for service in wanted.iter().filter(|service| containers.iter().all(|(name, _)| name != service)) {
        style.complain(&format!("{service}: it has no container"));
    }
    if containers.is_empty() && wanted.is_empty() {
        style.note(&format!("{group}: no service has a container"));
    }
    let width = containers.iter().map(|(service, _)| service.len()).max().unwrap_or_default();
    let options = LogOptions { tail: logs.tail, follow: logs.follow, ..LogOptions::default() };
    let streams = containers.into_iter().map(|(service, id)| engine.logs(id, options).map(move |line| (service, line)));
    let mut lines = select_all(streams);
    while let Some((service, line)) = lines.next().await {
        let read = match line {
            Ok(line) if style.json => {
                let value = serde_json::json!({ "service": service, "stderr": line.stderr, "line": line.text });
                style.result(&format!("{value}\n"))
            }
            Ok(line) => style.result(&format!("{service:width$} | {}\n", printable(&line.text))),
            Err(error) => {
                style.complain(&format!("{service}: {error}"));
                true
            }
        };
        if !read {
            break;
        }
    }
    Ok(Ended::Well)
}
