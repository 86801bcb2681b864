//! `ls` and `prune`: all groups of the engine.

use std::collections::BTreeSet;
use std::fs;
use std::io::IsTerminal;
use std::path::PathBuf;

use super::args::{Global, Prune};
use super::project::{Origin, Project};
use super::{Exit, Failure, run, session};
use crate::control::ipc::lock::remove_directory;
use crate::control::local_state::{Adoption, LocalState, gives_way, is_gone};
use crate::desired::Desired;
use crate::engine::Engine;
use crate::observed::Observed;
use crate::plan::step::Subject;
use crate::plan::takeover::Takeover;
use crate::render::groups::{self, Group, Home};
use crate::render::{Style, title};

pub(super) async fn ls(global: &Global, style: Style) -> Result<Exit, Failure> {
    let engine = session::connect(global).await?;
    let groups = list(engine.as_ref(), session::is_local(global)?).await?;
    match style.json {
        true => style.result_json(&groups::to_json(&groups)),
        false => drop(style.result(&groups::table(&groups))),
    }
    Ok(Exit::Ok)
}

async fn list(engine: &dyn Engine, is_local: bool) -> Result<Vec<Group>, Failure> {
    let observed = engine.list("", false).await?;
    let info = engine.about().await?;
    let home = |source: String| {
        let state = match fs::metadata(&source) {
            _ if !is_local => Home::Unknown,
            Ok(_) => Home::Exists,
            _ if is_gone(&source) => Home::Gone,
            // For example, another user's directory.
            Err(_) => Home::Unknown,
        };
        (source, state)
    };
    let group = |(name, summary): (&str, crate::observed::GroupSummary)| {
        let adoption = session::state_directory(&info, name).map(|directory| LocalState::new(directory).adoption());
        let adoption = adoption.unwrap_or_default();
        let owners: BTreeSet<String> = summary.sources.iter().map(|source| adoption.owner(source).clone()).collect();
        Group {
            name: name.to_owned(),
            directories: owners.into_iter().map(home).collect(),
            containers: summary.containers,
            running: summary.running,
            networks: summary.networks.into_iter().collect(),
        }
    };
    Ok(observed.groups().into_iter().map(group).collect())
}

pub(super) async fn prune(global: &Global, prune: &Prune, style: Style) -> Result<Exit, Failure> {
    if !session::is_local(global)? {
        let message = "cannot prune: the engine is not on this machine, so its directories are not known";
        return Err(Failure::Usage(format!(
            "{message}; use `drillmaster down --group NAME` on the machine of the specs"
        )));
    }
    let engine = session::connect(global).await?;
    let mut groups = list(engine.as_ref(), true).await?;
    let is_selected = |name: &String| prune.groups.is_empty() || prune.groups.contains(name);
    let mut states = session::state_directories(&engine.about().await?)?;
    states.retain(|name, _| is_selected(name));
    // Local state of groups that have nothing on the engine.
    let unused: Vec<String> =
        states.keys().filter(|name| groups.iter().all(|group| group.name != **name)).cloned().collect();
    for name in &prune.groups {
        let problem = match groups.iter().find(|group| group.name == *name) {
            None if unused.contains(name) => continue,
            None => "it has no containers and no networks on this engine",
            Some(group) if !group.is_gone() => "its directory exists; run `drillmaster down` there",
            Some(_) => continue,
        };
        return Err(Failure::Usage(format!("cannot prune group {name}: {problem}")));
    }
    groups.retain(|group| group.is_gone() && is_selected(&group.name));
    let mut volumes = Vec::new();
    for group in groups.iter().filter(|_| prune.volumes) {
        let observed = engine.list(&group.name, true).await?;
        volumes.extend(observed.volumes_of(&group.name).map(|volume| volume.name.clone()));
    }
    if groups.is_empty() && unused.is_empty() {
        style.note("no group whose directory is gone");
    } else if !confirm(&groups, &volumes, &unused, prune, style)? {
        return Ok(Exit::Failed);
    }
    let (mut exit, mut gone) = (Exit::Ok, unused);
    for group in &groups {
        let Some((source, _)) = group.directories.first() else { continue };
        let directory = PathBuf::from(source);
        let origin = Origin::Directory(directory.clone(), None);
        let project = Project::nothing(Some(&group.name), origin, directory, false);
        match run::remove_group(global, project, prune, style).await {
            Ok(Exit::Ok) => gone.push(group.name.clone()),
            Ok(Exit::Interrupted) => return Ok(Exit::Interrupted),
            Ok(_) => exit = Exit::Failed,
            Err(Failure::Held { message, .. }) => {
                style.error(message);
                exit = Exit::Failed;
            }
            Err(failure) => return Err(failure),
        }
    }
    for (name, directory) in gone.iter().filter_map(|name| states.get_key_value(name)) {
        if let Err(error) = remove_directory(directory).await {
            style.error(format!("cannot remove the local state of group {name}: {error}"));
            exit = Exit::Failed;
        }
    }
    if style.json {
        style.result_json(&groups::to_json(&groups));
    }
    Ok(exit)
}

/// Lists what will be removed, and asks for confirmation unless `--yes` is given.
fn confirm(
    groups: &[Group],
    volumes: &[String],
    unused: &[String],
    prune: &Prune,
    style: Style,
) -> Result<bool, Failure> {
    style.eprintln("this removes:");
    for group in groups {
        style.eprintln(format!("  {}", group.describe()));
    }
    for volume in volumes {
        style.eprintln(format!("  {} and its data", title(&Subject::Volume(volume.clone()))));
    }
    if !unused.is_empty() {
        style.eprintln(format!("  the local state of groups that have nothing on this engine: {}", unused.join(", ")));
    }
    if prune.yes { Ok(true) } else { ask(style) }
}

/// Asks on the terminal whether to remove what was listed.
fn ask(style: Style) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage("cannot ask for confirmation without a terminal; confirm with --yes".to_owned()));
    }
    style.prompt("remove them? [y/N] ");
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .map_err(|error| anyhow::Error::new(error).context("cannot read the answer"))?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// `up --adopt`: from now on, what carries the labels of directories that give way to this one belongs to it. Containers
/// keep running and keep their labels, which no engine can change. What docker compose has for the project is removed
/// first. Returns false if the user does not want that.
pub(super) async fn adopt(global: &Global, project: &Project, yes: bool, style: Style) -> Result<bool, Failure> {
    let (group, by) = (&project.desired.group, &project.desired.source);
    let refuse = |why: String| Failure::Usage(format!("cannot adopt group {group}: {why}"));
    let engine = session::connect(global).await?;
    let state = LocalState::new(session::state_directory(&engine.about().await?, group)?);
    let previous = state.adoption();
    let observed = engine.list(group, true).await?;
    let takeover = Takeover::of_project(&project.desired, &observed);
    let sources = other_directories(&project.desired, &observed);
    let owners: BTreeSet<&String> =
        sources.iter().map(|source| previous.owner(source)).filter(|owner| *owner != by).collect();
    if !owners.is_empty() && !session::is_local(global)? {
        return Err(refuse("the engine is not on this machine, so the other directory may exist elsewhere".to_owned()));
    }
    if let Some(owner) = owners.iter().find(|owner| !gives_way(owner, by)) {
        return Err(refuse(format!(
            "it belongs to {owner}, which exists; run `drillmaster down` there, or use another --group"
        )));
    }
    if !takeover.is_empty() {
        if !confirm_takeover(&takeover, yes, style)? {
            return Ok(false);
        }
        project.take_over(takeover.ids());
    }
    if !owners.is_empty() {
        let from = sources.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let why = if owners.iter().all(|owner| is_gone(owner)) { ", which no longer exists" } else { "" };
        style.note(format!("adopting group {group} from {from}{why}"));
    } else if takeover.is_empty() {
        let compose = if project.desired.compose_project().is_some() { " and of docker compose" } else { "" };
        style.note(format!("nothing to adopt: group {group} has nothing of another directory{compose}"));
    }
    let adoption = Adoption { by: by.clone(), from: sources };
    state
        .record_adoption(&adoption)
        .map_err(|error| anyhow::Error::new(error).context("cannot record the adoption"))?;
    Ok(true)
}

/// The other directories that what the group has is labelled with.
pub(super) fn other_directories(desired: &Desired, observed: &Observed) -> BTreeSet<String> {
    let group = &desired.group;
    let mut sources = observed.groups().remove(&group[..]).unwrap_or_default().sources;
    sources.extend(observed.volumes_of(group).filter_map(|volume| volume.source.clone()));
    let built = observed.built.values().filter(|built| built.group == *group);
    sources.extend(built.filter_map(|built| built.source.clone()));
    sources.remove(&desired.source);
    sources
}

/// Lists what of docker compose will be removed, and asks for confirmation unless `--yes` is given.
fn confirm_takeover(takeover: &Takeover<'_>, yes: bool, style: Style) -> Result<bool, Failure> {
    style.eprintln("this stops and removes what docker compose has for the project:");
    for container in &takeover.containers {
        style.eprintln(format!("  container {} ({}, {})", container.name, container.image, container.state));
    }
    for network in &takeover.networks {
        style.eprintln(format!("  network {}", network.name));
    }
    style.eprintln("volumes and their data stay");
    for left in takeover.left_behind() {
        style.eprintln(format!("  but new containers do not mount the anonymous volumes of {left}"));
    }
    if yes { Ok(true) } else { ask(style) }
}
