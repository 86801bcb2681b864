//! The spec directory of a command, read and resolved once or repeatedly.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};

use super::args::{Global, Up};
use super::{Failure, session};
use crate::control::ReadSpecs;
use crate::control::event::Reading;
use crate::control::execute::outputs::{OutputMap, OutputStore};
use crate::control::local_state::LocalState;
use crate::control::programs::Workers;
use crate::control::specs::mounts;
use crate::control::specs::sources::{self, ProgramFileAccess, Reader, Sources, SpecInput};
use crate::control::specs::watcher::Watcher;
use crate::control::state_directory::StateDirectory;
use crate::desired::outputs::Outputs;
use crate::desired::resolve::{ResolveContext, group_name, network_name, resolve};
use crate::desired::{Desired, Mode, Network, Scope, order, secrets};
use crate::render::{self, Style};
use crate::spec::locate::closest;
use crate::spec::model::Build;
use crate::spec::secrets::Secrets;
use crate::spec::{self, Diagnostic, Profiles, Specs};

mod origin;

pub(super) use origin::{ComposeFiles, Disk, Origin};

/// A spec directory and the desired state of its specs.
pub(super) struct Project {
    /// The directory, absolute.
    pub directory: PathBuf,
    /// Desired state.
    pub desired: Desired,
    /// Whether the specs are valid; if not, no service is desired and only the group is known.
    pub readable: bool,
    /// Outputs of hooks and jobs; empty until [`Project::load_outputs`].
    pub context: OutputStore,
    /// Evaluate programs and call their functions.
    pub workers: Workers,
    /// Where its specs are.
    pub origin: Origin,
    /// What the user should know about the specs.
    pub notes: Vec<Diagnostic>,
    /// What the user should know once.
    tips: Vec<Diagnostic>,
    adopted: Arc<Adopted>,
    resolve: Resolve,
}

/// What `up --adopt` takes over, once it is known.
#[derive(Default)]
struct Adopted {
    /// Directories; empty until [`Project::load_outputs`].
    directories: OnceLock<BTreeSet<String>>,
    /// Ids of containers and networks of docker compose.
    compose: OnceLock<BTreeSet<String>>,
}

/// Resolves the specs, as they were read, with these outputs.
type Resolve = Arc<dyn Fn(&OutputMap) -> Result<Desired, Vec<Diagnostic>> + Send + Sync>;

/// The specs of a watching controller after the initial load; see [`crate::control::WatchOptions`].
pub(super) struct Follow {
    /// Reads the specs again, on another thread.
    pub read: ReadSpecs,
    /// A message whenever the specs may have changed, and one at the start.
    pub changes: mpsc::Receiver<()>,
}

impl Project {
    /// Reads the specs and prepares to read them again when they change. Errors of the initial load are returned here;
    /// later ones are [`Reading::Invalid`]. Must be called in a tokio runtime.
    ///
    /// The scope is that of the selected services. Later readings keep the selection: a new service is in scope only if
    /// it is selected; a service that was in scope and is removed from the specs stays in scope, so that its containers
    /// are removed.
    ///
    /// `notify` receives a message, on any thread, if changes can only be detected by polling.
    pub fn follow(
        global: &Global,
        up: &Up,
        notify: impl Fn(String) + Send + Sync + 'static,
    ) -> Result<(Project, Follow), Failure> {
        let (names, exclude) = (up.selection.services.clone(), up.selection.exclude.clone());
        let load = if up.prune_all { Project::load_or_empty } else { Project::load };
        let mut project = load(global, &names)?;
        project.desired.scope = project.with_dependencies(&names, &exclude)?;

        let notify = Arc::new(notify);
        let note = notify.clone();
        let (watcher, changes) = Watcher::start(move |text| notify(text));
        let context = project.context.clone();
        let reload = Reload {
            context: context.clone(),
            workers: project.workers.clone(),
            group: global.group.clone(),
            profiles: profiles(global, &up.selection.services),
            origin: project.origin.clone(),
            may_empty: up.prune_all,
            local: has_local_engine(global),
            names: names.into_iter().collect(),
            exclude: exclude.into_iter().collect(),
            source: project.desired.source.clone(),
            adopted: project.adopted.clone(),
            scope: Mutex::new(project.desired.scope.clone()),
            noted: Mutex::new(messages(&project.notes)),
            note: Box::new(move |text| note(text)),
        };
        // Not canonicalized: if the path is a link, its target may change.
        let (path, layout) = (reload.origin.unresolved_directory()?, reload.origin.layout());
        let parse = Box::new(move |input: SpecInput<'_>| reload.reading(input));
        let reader = Arc::new(Reader::new(path, layout, watcher, context, parse));
        let current = Arc::new(SingleTask::default());
        let read: ReadSpecs = Arc::new(move || {
            let (reader, current) = (reader.clone(), current.clone());
            Box::pin(async move {
                let spawn = || tokio::task::spawn_blocking(move || reader.read());
                let result = current.join(READ_TIMEOUT, spawn).await;
                match result.map(|joined| joined.map_err(JoinError::try_into_panic)) {
                    Some(Ok(reading)) => reading,
                    Some(Err(Ok(panic))) => std::panic::resume_unwind(panic),
                    // The runtime is shutting down.
                    Some(Err(Err(_))) => std::future::pending().await,
                    None => Reading::Invalid(vec![read_timed_out()]),
                }
            })
        });
        Ok((project, Follow { read, changes }))
    }

    /// Reads the specs. The named services exist, whatever their profiles.
    pub fn load(global: &Global, names: &[String]) -> Result<Project, Failure> {
        Project::read(global, Origin::select(global)?, profiles(global, names), false).map(|(project, _)| project)
    }

    /// Reads the specs for a command that needs no values: what is missing is a warning.
    pub fn load_without_values(global: &Global, profiles: Profiles, style: Style) -> Result<Project, Failure> {
        let (project, missing) = Project::read(global, Origin::select(global)?, profiles, true)?;
        if !missing.is_empty() {
            style.warnings(&missing);
            style.note("continuing without these values; hooks that need them are skipped");
        }
        Ok(project)
    }

    /// Reads the specs; also returns them as they are written. The named services exist, whatever their profiles.
    /// `lenient`: what is missing is in the specs.
    pub fn with_specs(global: &Global, names: &[String], lenient: bool) -> Result<(Project, Specs), Failure> {
        let origin = Origin::select(global)?;
        let (directory, workers) = (origin.directory()?, Workers::default());
        let (sources, profiles) = (origin.layout().read(&directory), profiles(global, names));
        let specs = parse_directory(&origin, &directory, &sources, &profiles, &OutputMap::new(), &workers, lenient)
            .map_err(Failure::Specs)?;
        let mut desired = desired(group(global)?, &directory, &specs);
        if !lenient {
            desired.look_at_files(&mounts::look).map_err(Failure::Specs)?;
        }
        let (notes, tips) = (specs.notes.clone(), specs.tips.clone());
        Ok((Project { notes, tips, ..Project::fixed(desired, origin, directory, true) }, specs))
    }

    /// Reads the specs; `lenient`: also returns what is missing.
    fn read(
        global: &Global,
        origin: Origin,
        profiles: Profiles,
        lenient: bool,
    ) -> Result<(Project, Vec<Diagnostic>), Failure> {
        let (directory, group) = (origin.directory()?, group(global)?.map(str::to_owned));
        let (sources, workers) = (origin.layout().read(&directory), Workers::default());
        let local = has_local_engine(global);
        let (root, evaluating, from) = (directory.clone(), workers.clone(), origin.clone());
        let resolve = move |context: &OutputMap| {
            let specs = parse_directory(&from, &root, &sources, &profiles, context, &evaluating, lenient)?;
            let mut desired = desired(group.as_deref(), &root, &specs);
            let looked = if local { desired.look_at_files(&mounts::look) } else { Ok(()) };
            match looked {
                Err(errors) if !lenient => Err(errors),
                _ => Ok((desired, specs.missing, specs.notes, specs.tips)),
            }
        };
        let (desired, missing, notes, tips) = resolve(&OutputMap::new()).map_err(Failure::Specs)?;
        let resolve: Resolve = Arc::new(move |context| resolve(context).map(|(desired, ..)| desired));
        let project = Project { notes, tips, workers, resolve, ..Project::fixed(desired, origin, directory, true) };
        Ok((project, missing))
    }

    /// Reads specs without the values that are missing; also returns what is.
    pub fn read_leniently(
        global: &Global,
        origin: Origin,
        profiles: Profiles,
    ) -> Result<(Project, Vec<Diagnostic>), Failure> {
        Project::read(global, origin, profiles, true)
    }

    /// A project without services.
    pub fn nothing(group: Option<&str>, origin: Origin, directory: PathBuf, readable: bool) -> Project {
        Project::fixed(nothing(group, &directory), origin, directory, readable)
    }

    /// A project whose desired state does not depend on outputs.
    fn fixed(desired: Desired, origin: Origin, directory: PathBuf, readable: bool) -> Project {
        let resolve = desired.clone();
        let resolve: Resolve = Arc::new(move |_| Ok(resolve.clone()));
        let (context, workers, adopted, notes, tips) = Default::default();
        Project { desired, origin, directory, readable, context, workers, notes, tips, adopted, resolve }
    }

    /// Prints what the user should know about the specs.
    pub fn print_notes(&self, style: Style) {
        for note in &self.notes {
            style.located_note(note);
        }
    }

    /// Prints what the user should know once.
    pub fn print_tips(&self, style: Style) {
        self.tips.iter().for_each(|tip| style.located_note(tip));
    }

    /// As [`Project::print_tips`], without what was printed before for this group.
    pub fn print_new_tips(&self, state_directory: &StateDirectory, style: Style) {
        let state = LocalState::new(state_directory.clone());
        for tip in self.tips.iter().filter(|tip| state.is_first(&tip.message)) {
            style.located_note(tip);
        }
    }

    /// Reads the outputs of earlier runs and resolves the specs with them. If the specs are invalid with them, the
    /// desired state stays unchanged.
    pub fn load_outputs(&mut self, state_directory: &StateDirectory, style: Style) -> Result<(), Vec<Diagnostic>> {
        if let Err(error) = self.context.open(state_directory) {
            style.eprintln(format!("cannot read the outputs of earlier runs: {error}"));
        }
        self.hide_new_outputs();
        let adoption = LocalState::new(state_directory.clone()).adoption();
        let _ = self.adopted.directories.set(if adoption.by == self.desired.source {
            adoption.from
        } else {
            BTreeSet::new()
        });
        self.desired = with_adopted((self.resolve)(&self.context.values())?, &self.adopted);
        Ok(())
    }

    /// Removes these containers and networks of docker compose first.
    pub fn take_over(&self, ids: BTreeSet<String>) {
        let _ = self.adopted.compose.set(ids);
    }

    /// Returns true if something of docker compose is removed first.
    pub fn takes_over(&self) -> bool {
        self.adopted.compose.get().is_some_and(|ids| !ids.is_empty())
    }

    /// Hides outputs that were set since the last call.
    pub fn hide_new_outputs(&self) {
        if let Some(values) = self.context.take_new() {
            let mut secrets = Secrets::default();
            secrets.add_all(values.values());
            render::hide(&secrets);
        }
    }

    /// As [`Project::load_outputs`], but only prints errors.
    pub fn try_load_outputs(&mut self, state_directory: &StateDirectory, style: Style) {
        if let Err(errors) = self.load_outputs(state_directory, style) {
            style.diagnostics(&errors);
        }
    }

    /// Resolves the specs, as they were read, with the current outputs on each call; `apply` adapts the desired state to
    /// the command.
    pub fn read_again(&self, apply: impl Fn(Desired) -> Desired + Send + Sync + 'static) -> ReadSpecs {
        let (context, resolve, adopted) = (self.context.clone(), self.resolve.clone(), self.adopted.clone());
        Arc::new(move || {
            let reading = match resolve(&context.values()) {
                Ok(desired) => Reading::Valid(Box::new(apply(with_adopted(desired, &adopted)))),
                Err(errors) => Reading::Invalid(errors),
            };
            Box::pin(std::future::ready(reading))
        })
    }

    /// Reads the specs for a command that needs no values. If they are invalid, prints the errors and continues without
    /// services, if the group is known: a group can be inspected and removed without its specs.
    pub async fn load_leniently(global: &Global, profiles: Profiles, style: Style) -> Result<Project, Failure> {
        let errors = match Project::load_without_values(global, profiles, style) {
            Err(Failure::Specs(errors)) => errors,
            result => return result,
        };
        let origin = Origin::select(global)?;
        let directory = origin.directory()?;
        let name = match group(global)? {
            Some(name) => Some(name.to_owned()),
            // The wrong directory, perhaps.
            None if origin.is_empty(&origin.layout().read(&directory)) => None,
            None => owned_group(global, &directory).await,
        };
        let Some(name) = name else { return Err(Failure::Specs(errors)) };
        style.warnings(&errors);
        style
            .note(format!("continuing without the specs, with what the engine has of group {name}; hooks are skipped"));
        Ok(Project::nothing(Some(&name), origin, directory, false))
    }

    /// Reads the specs. A directory that does not exist or has no spec file has no services. For `up --prune-all` only.
    pub fn load_or_empty(global: &Global, names: &[String]) -> Result<Project, Failure> {
        let origin = Origin::select(global)?;
        let directory = origin.directory()?;
        if origin.is_empty(&origin.layout().read(&directory)) {
            return Ok(Project::nothing(group(global)?, origin, directory, true));
        }
        Project::load(global, names)
    }

    /// Checks that the specs define these services.
    pub fn known(&self, names: &[String]) -> Result<BTreeSet<String>, Failure> {
        for name in names.iter().filter(|_| self.readable) {
            let known = self.desired.names();
            // A service that is not active may be excluded.
            if !known.contains(&name[..]) && !self.desired.inactive.contains_key(name) {
                let hint = match self.desired.services.get(&name[..]) {
                    Some(replica) => format!("; it is a replica of `{}`", replica.service),
                    None => closest(name, known).map(|known| format!("; did you mean `{known}`?")).unwrap_or_default(),
                };
                return Err(Failure::Usage(format!("no service `{name}` in the specs{hint}")));
            }
        }
        Ok(names.iter().cloned().collect())
    }

    /// The scope of `up` and `start`: the named services and their dependencies, or all services; without the excluded
    /// ones, on which no other service may depend.
    pub fn with_dependencies(&self, names: &[String], exclude: &[String]) -> Result<Scope, Failure> {
        let (names, exclude) = (self.known(names)?, self.known(exclude)?);
        scope(&self.desired, &names, &exclude).map_err(Failure::Usage)
    }

    /// The scope of `down` and `stop`: the named services, or all; without the excluded ones, which may not depend on a
    /// service in scope.
    pub fn with_dependents(&self, verb: &str, names: &[String], exclude: &[String]) -> Result<Scope, Failure> {
        let (names, exclude) = (self.known(names)?, self.known(exclude)?);
        let scope = match (names.is_empty(), exclude.is_empty()) {
            (true, true) => return Ok(Scope::All),
            (true, false) => Scope::AllBut(exclude),
            (false, _) => Scope::Only(names.difference(&exclude).cloned().collect()),
        };
        let needs = self.desired.needs();
        match order::first_need(&needs, |name| !scope.contains(name), |name| scope.contains(name)) {
            Some((dependent, dependency)) => Err(Failure::Usage(format!(
                "`{dependency}` cannot be {verb}: `{dependent}` depends on it and is not selected; {}",
                match names.is_empty() {
                    true => format!("add `--exclude {dependency}`"),
                    false => format!("name `{dependent}` too"),
                }
            ))),
            None => Ok(scope),
        }
    }
}

/// The scope of `up` among the desired services, or an error message.
fn scope(desired: &Desired, names: &BTreeSet<String>, exclude: &BTreeSet<String>) -> Result<Scope, String> {
    let needs = desired.needs();
    let scope = match (names.is_empty(), exclude.is_empty()) {
        (true, true) => return Ok(Scope::All),
        (true, false) => Scope::AllBut(exclude.clone()),
        (false, _) => {
            let all = order::with_dependencies(names, &desired.needs_with_outputs());
            Scope::Only(all.iter().filter(|name| !exclude.contains(*name) || names.contains(*name)).cloned().collect())
        }
    };
    if let Some(name) = names.intersection(exclude).next() {
        return Err(format!("`{name}` is both selected and excluded"));
    }
    match order::first_need(&needs, |name| scope.contains(name), |name| exclude.contains(name)) {
        Some((dependent, dependency)) => {
            Err(format!("`{dependency}` cannot be excluded: `{dependent}` depends on it; exclude `{dependent}` too"))
        }
        None => Ok(scope),
    }
}

/// Time limit of one read. Programs have their own; build contexts may be large or lie on a slow file system.
const READ_TIMEOUT: Duration = Duration::from_secs(120);

fn read_timed_out() -> Diagnostic {
    let message = format!("timed out after {} s reading the specs", READ_TIMEOUT.as_secs());
    let hint = "the spec directory or a build context may lie on a file system that does not answer";
    Diagnostic::new(message).hint(hint.to_owned())
}

/// At most one slow task on another thread.
struct SingleTask<T>(tokio::sync::Mutex<Option<JoinHandle<T>>>);

impl<T> Default for SingleTask<T> {
    fn default() -> Self {
        Self(tokio::sync::Mutex::new(None))
    }
}

impl<T> SingleTask<T> {
    /// Waits for the running task, or spawns one. If it takes longer than `limit`, returns `None` and keeps it running.
    async fn join(&self, limit: Duration, spawn: impl FnOnce() -> JoinHandle<T>) -> Option<Result<T, JoinError>> {
        let mut slot = self.0.lock().await;
        let joined = tokio::time::timeout(limit, slot.get_or_insert_with(spawn)).await.ok()?;
        *slot = None;
        Some(joined)
    }
}

/// Reads the specs after the initial load.
struct Reload {
    context: OutputStore,
    workers: Workers,
    group: Option<String>,
    /// The active profiles of the start.
    profiles: Profiles,
    origin: Origin,
    may_empty: bool,
    /// The engine runs on this machine, and so are the sources of bind mounts.
    local: bool,
    names: BTreeSet<String>,
    exclude: BTreeSet<String>,
    /// Owner of the group, from the initial load; unchanged even if the path is a link whose target changes.
    source: String,
    adopted: Arc<Adopted>,
    /// The scope of the last valid read.
    scope: Mutex<Scope>,
    /// The messages of the notes of the last valid read.
    noted: Mutex<BTreeSet<String>>,
    /// Prints a note.
    note: Box<dyn Fn(String) + Send + Sync>,
}

impl Reload {
    fn reading(&self, input: SpecInput<'_>) -> Reading {
        self.valid(input).map_or_else(Reading::Invalid, |desired| Reading::Valid(Box::new(desired)))
    }

    fn valid(&self, input: SpecInput<'_>) -> Result<Desired, Vec<Diagnostic>> {
        let group = self.group.as_deref();
        let mut desired = if self.may_empty && self.origin.is_empty(input.sources) {
            nothing(group, input.directory)
        } else {
            let values = self.context.values();
            let specs = parse(&self.origin, &input, &self.profiles, &values, &self.workers, false)?;
            self.print_new_notes(&specs.notes);
            desired(group, input.directory, &specs)
        };
        if self.local {
            desired.look_at_files(input.look)?;
        }
        let mut last = self.scope.lock().unwrap_or_else(PoisonError::into_inner);
        let scope = scope(&desired, &self.names, &self.exclude).map_err(|error| vec![Diagnostic::new(error)])?;
        *last = include_removed(scope, &last, &desired);
        let desired = Desired { scope: last.clone(), source: self.source.clone(), ..desired };
        Ok(with_adopted(desired, &self.adopted))
    }
}

impl Reload {
    /// Prints the notes that the last read did not have.
    fn print_new_notes(&self, notes: &[Diagnostic]) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        for note in notes.iter().filter(|note| !noted.contains(&note.message)) {
            (self.note)(render::diagnostics::line(note));
        }
        *noted = messages(notes);
    }
}

fn messages(notes: &[Diagnostic]) -> BTreeSet<String> {
    notes.iter().map(|note| note.message.clone()).collect()
}

fn with_adopted(desired: Desired, adopted: &Adopted) -> Desired {
    let [adopted, takeover] =
        [&adopted.directories, &adopted.compose].map(|ids| ids.get().cloned().unwrap_or_default());
    Desired { adopted, takeover, ..desired }
}

/// Adds to a scope the services of the previous one that are no longer in the specs, so that their containers are
/// removed.
fn include_removed(scope: Scope, last: &Scope, desired: &Desired) -> Scope {
    match (scope, last) {
        (Scope::Only(mut names), Scope::Only(last)) => {
            let known = desired.names();
            names.extend(last.iter().filter(|name| !known.contains(&name[..])).cloned());
            Scope::Only(names)
        }
        (scope, _) => scope,
    }
}

/// Parses and validates a directory; see [`parse`].
fn parse_directory(
    origin: &Origin,
    directory: &Path,
    sources: &io::Result<Sources>,
    profiles: &Profiles,
    context: &OutputMap,
    workers: &Workers,
    lenient: bool,
) -> Result<Specs, Vec<Diagnostic>> {
    let read = |path: &str| sources::read_file(directory, path);
    let tree = |build: &Build| sources::read_tree(directory, build);
    let file_access = ProgramFileAccess(directory);
    let (file_access, look) = (&file_access, &mounts::look);
    let kind = |path: &str| sources::kind(Path::new(path));
    let input = SpecInput { directory, sources, read: &read, kind: &kind, tree: &tree, file_access, look };
    parse(origin, &input, profiles, context, workers, lenient)
}

/// Returns true if the sources of bind mounts are on this machine. Which engine is used need not be known here: some
/// commands use none, and the others report it when they connect.
fn has_local_engine(global: &Global) -> bool {
    session::is_local(global).unwrap_or(false)
}

/// Parses and validates specs with the environment of this process.
fn parse(
    origin: &Origin,
    input: &SpecInput<'_>,
    profiles: &Profiles,
    context: &OutputMap,
    workers: &Workers,
    lenient: bool,
) -> Result<Specs, Vec<Diagnostic>> {
    let (display_path, read) = (origin.display(), input);
    let sources = input.sources.as_ref().map_err(|error| vec![origin::unreadable(&display_path, error)])?;
    let environment = session::environment();
    let directory = input.directory.to_string_lossy();
    let input = spec::Input {
        dir: &display_path,
        files: &sources.files,
        dotenv: &sources.dotenv,
        environment: &environment,
        lenient,
        profiles,
        context,
        read: input.read,
        tree: input.tree,
        interpreter: &workers.interpreter(input.file_access),
    };
    match origin {
        Origin::Directory(..) => spec::load(&input),
        Origin::Compose(files) => files.parse(read, profiles, lenient, |project, profiles| {
            spec::load_compose(&spec::Input { dir: &directory, profiles, ..input }, project)
        }),
    }
}

/// The group whose containers this spec directory owns; `None`: there is none, or more than one.
async fn owned_group(global: &Global, directory: &Path) -> Option<String> {
    let observed = session::connect(global).await.ok()?.list("", false).await.ok()?;
    let source = directory.to_string_lossy();
    let identities = observed.containers.values().filter_map(|container| container.identity.as_ref());
    let groups: BTreeSet<&String> =
        identities.filter(|identity| identity.source == source).map(|identity| &identity.group).collect();
    let mut groups = groups.into_iter();
    groups.next().filter(|_| groups.next().is_none()).cloned()
}

/// The profiles that the command line or the environment activates, and those of these services.
pub(super) fn profiles(global: &Global, services: &[String]) -> Profiles {
    if !global.profile.is_empty() {
        return Profiles::new(&global.profile, services);
    }
    let variable = session::environment().remove(PROFILES).unwrap_or_default();
    Profiles::new(&variable.split(',').map(str::to_owned).collect::<Vec<_>>(), services)
}

/// Environment variable with the active profiles, separated by commas.
const PROFILES: &str = "DRILLMASTER_PROFILES";

/// The files of `--env-file`, as absolute paths; `None` without the option.
pub(super) fn env_files(global: &Global) -> Result<Option<Vec<PathBuf>>, Failure> {
    let absolute = |path: &PathBuf| {
        std::path::absolute(path).map_err(|error| Failure::Usage(format!("--env-file {}: {error}", path.display())))
    };
    let files = global.env_file.iter().map(absolute).collect::<Result<Vec<_>, _>>()?;
    Ok((!files.is_empty()).then_some(files))
}

/// Returns true if the spec directory does not exist or has no spec file.
pub(super) fn is_missing(global: &Global) -> bool {
    let is_empty = |origin: Origin| Ok::<_, Failure>(origin.is_empty(&origin.layout().read(&origin.directory()?)));
    Origin::select(global).and_then(is_empty).unwrap_or(false)
}

/// Resolves the specs, and hides their secret values from now on.
fn desired(group: Option<&str>, directory: &Path, specs: &Specs) -> Desired {
    let home = std::env::var("HOME").ok();
    let desired =
        resolve(specs, ResolveContext { group, directory: &directory.to_string_lossy(), home: home.as_deref() });
    render::hide(&secrets(specs, &desired));
    desired
}

fn nothing(group: Option<&str>, directory: &Path) -> Desired {
    let path = directory.to_string_lossy();
    let group = group_name(None, ResolveContext { group, directory: &path, home: None });
    Desired {
        network: network_name(&group),
        networks: BTreeMap::from([(network_name(&group), Network::default())]),
        volumes: BTreeMap::new(),
        group,
        source: path.into_owned(),
        project: None,
        adopted: BTreeSet::new(),
        takeover: BTreeSet::new(),
        services: BTreeMap::new(),
        idle: BTreeSet::new(),
        on: BTreeMap::new(),
        outputs: Outputs::default(),
        inactive: BTreeMap::new(),
        retired: BTreeMap::new(),
        scope: Scope::All,
        mode: Mode::Reconcile { purge_volumes: false, purge_images: false },
    }
}

fn group(global: &Global) -> Result<Option<&str>, Failure> {
    let Some(group) = global.group.as_deref() else {
        return Ok(None);
    };
    match group.parse::<spec::value::GroupName>() {
        Ok(_) => Ok(Some(group)),
        Err(error) => Err(Failure::Usage(format!("--group {group}: {error}"))),
    }
}

/// The absolute path. Links are resolved if the directory exists, so that a directory has one name.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    path.canonicalize().or_else(|_| absolute_unresolved(path))
}

/// The absolute path, links not resolved.
fn absolute_unresolved(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::Usage(format!("--specs {}: {error}", path.display())))
}

#[cfg(test)]
mod tests;
