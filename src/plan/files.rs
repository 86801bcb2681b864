//! Mounted files: which of them changed since a container mounted them, and what follows.

use jiff::Timestamp;

use super::Planner;
use super::cause::Cause;
use super::diff::Comparison;
use super::memory::MountedVersions;
use super::step::{Action, ContainerRef, Subject, Verb};
use super::{Memory, cause};
use crate::desired::files::{FileState, MountedFile};
use crate::desired::{Mode, Service};
use crate::observed::{Container, State};
use crate::spec::model::OnChange;

/// The mounted files of a service that changed since its container mounted them or was told about them. `known`: the
/// versions that it mounted then. Without details of the container none.
pub fn changed<'a>(
    service: &'a Service,
    container: &Container,
    known: Option<&MountedVersions>,
) -> Vec<(&'a MountedFile, &'a FileState)> {
    let started_at = container.details.as_ref().map(|details| details.started_at.as_str()).unwrap_or_default();
    if started_at.is_empty() {
        return Vec::new();
    }
    let files = service.files.iter().filter_map(|file| Some((file, file.state.as_ref()?)));
    files.filter(|(file, state)| is_changed(file, state, started_at, known)).collect()
}

fn is_changed(file: &MountedFile, state: &FileState, started_at: &str, known: Option<&MountedVersions>) -> bool {
    let version = known.and_then(|known| known.files.get(&file.target));
    let same_start = known.is_some_and(|known| known.started_at.is_empty() || known.started_at == started_at);
    match version {
        Some(version) if !version.differs(&state.version) => false,
        Some(_) if same_start => true,
        // The mount or its `on_change` is new.
        None if same_start => false,
        // Started by someone else: what it mounted is not known, only when.
        _ if file.by_content => started_at.parse::<Timestamp>().is_ok_and(|started| state.modified > started),
        _ => false,
    }
}

/// Versions that a container which was just inspected has mounted at its last start by a step; `None`: already known.
pub fn learn_start(container: &Container, memory: &mut Memory) -> Option<MountedVersions> {
    let started_at = &container.details.as_ref()?.started_at;
    let mounted = memory.containers.get_mut(&container.id)?.mounted.as_mut()?;
    if !mounted.started_at.is_empty() || started_at.is_empty() {
        return None;
    }
    mounted.started_at.clone_from(started_at);
    Some(mounted.clone())
}

impl<'a> Planner<'a> {
    /// As [`Planner::compare`], with the changes of mounted files.
    pub(super) fn compare_with_files(&self, service: &'a Service, container: &'a Container) -> Comparison {
        let mut comparison = self.compare(service, container);
        let running = container.state == State::Running;
        // A container that does not run mounts the file when it starts.
        let matters = |on_change: &OnChange| running || *on_change == OnChange::Replace;
        let concerns = service.files.iter().any(|file| matters(&file.on_change));
        if !concerns || self.desired.mode == Mode::StartOnly {
            return comparison;
        }
        // When a step has started it, the engine's time of that is known after an inspection.
        let inspected = self.memory.life(&container.id).is_some_and(|life| life.inspected_at.is_some());
        comparison.unclear |= match &container.details {
            None => true,
            Some(details) => {
                details.started_at.is_empty() && !inspected && self.memory.started_at(&container.id).is_some()
            }
        };
        let known = self.memory.containers.get(&container.id).and_then(|memory| memory.mounted.as_ref());
        for (file, state) in changed(service, container, known) {
            if !matters(&file.on_change) {
                continue;
            }
            let cause = Cause::MountedFile { source: file.written.clone(), target: file.target.clone() };
            let version = known.and_then(|known| known.files.get(&file.target));
            match &file.on_change {
                OnChange::Replace => comparison.replace.push(cause),
                // The container still has the file that was replaced.
                OnChange::Signal(_) if version.is_none_or(|version| version.inode != state.version.inode) => {
                    comparison.restart.push(cause);
                }
                OnChange::Signal(signal) => comparison.signals.entry(signal.clone()).or_default().push(cause),
                OnChange::Restart => comparison.restart.push(cause),
                OnChange::Ignore => {}
            }
        }
        comparison
    }

    /// Restarts or signals a running container whose mounted files changed. Returns false if there is nothing to do.
    pub(super) fn follow_files(
        &mut self,
        service: &'a Service,
        current: &'a Container,
        comparison: &Comparison,
    ) -> bool {
        let subject = Subject::of(service);
        if !comparison.restart.is_empty() {
            self.change(subject, Action::Restart, comparison.restart.clone());
            if self.dependents_rest(service) {
                self.stop(&service.name, current, &cause::fields(&comparison.restart));
            }
            return true;
        }
        let Some((signal, causes)) = comparison.signals.first_key_value() else { return false };
        self.change(subject.clone(), Action::Update, causes.clone());
        let verb = Verb::Signal { container: ContainerRef::of(current), signal: signal.clone() };
        self.step(subject, verb, cause::fields(causes));
        true
    }
}
