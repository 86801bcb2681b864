//! The spec directory of this call, read and resolved; once, or again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};

use super::Failure;
use super::args::{Global, Up};
use crate::control::ReadSpecs;
use crate::control::event::Reading;
use crate::control::execute::outputs::{OutputMap, OutputStore};
use crate::control::execute::stack;
use crate::control::specs::sources::{self, ProgramReach, Reader, Sources, SpecInput};
use crate::control::specs::watcher::Watcher;
use crate::desired::outputs::Outputs;
use crate::desired::resolve::{ResolveContext, group_name, network_name, resolve};
use crate::desired::{Desired, Mode, Scope, order};
use crate::render::{Style, diagnostics};
use crate::spec::model::Build;
use crate::spec::{self, Diagnostic, Reach, Specs, Tree, TreeError};

/// A spec directory and what it says.
pub(super) struct Project {
    /// The directory, absolute.
    pub directory: PathBuf,
    /// What should exist.
    pub desired: Desired,
    /// Whether the specs could be read; where not, nothing is desired, and only the group is known.
    pub readable: bool,
    /// Outputs of hooks and jobs; none until [`Project::load_outputs`].
    pub context: OutputStore,
    resolve: Resolve,
}

/// The specs as they were read, resolved with outputs.
type Resolve = Arc<dyn Fn(&OutputMap) -> Result<Desired, Vec<Diagnostic>> + Send + Sync>;

/// The specs of a watching controller after the first reading, as [`crate::control::WatchOptions`] takes them.
pub(super) struct Follow {
    /// Reads them again, on a thread of its own.
    pub read: ReadSpecs,
    /// Each message says that they may have changed; the first one comes at once.
    pub changes: mpsc::Receiver<()>,
}

impl Project {
    /// Reads the specs, and prepares to read them again whenever they may have changed. Here every error is an end;
    /// later readings give it as what is wrong with the specs. Needs a tokio runtime.
    ///
    /// `desired` touches what is selected. Later readings keep to the selection: a service that is new is touched only
    /// if the selection takes it in; one that was touched and is no longer in the specs still is, so that it can go.
    ///
    /// `tell` is given a sentence for people where changes can only be found by polling; on whatever thread.
    pub fn follow(
        global: &Global,
        up: &Up,
        tell: impl Fn(String) + Send + Sync + 'static,
    ) -> Result<(Project, Follow), Failure> {
        let mut project = if up.prune_all { Project::load_or_empty(global)? } else { Project::load(global)? };
        let (names, exclude) = (up.selection.services.clone(), up.selection.exclude.clone());
        project.desired.scope = project.with_dependencies(&names, &exclude)?;

        let (watcher, changes) = Watcher::start(tell);
        let context = project.context.clone();
        let again = Reload {
            context: context.clone(),
            group: global.group.clone(),
            shown: global.specs.display().to_string(),
            may_empty: up.prune_all,
            names: names.into_iter().collect(),
            exclude: exclude.into_iter().collect(),
            source: project.desired.source.clone(),
            scope: Mutex::new(project.desired.scope.clone()),
        };
        // Not the directory that it leads to today: where it is a link, another one may be linked tomorrow.
        let path = named(&global.specs)?;
        let reader = Arc::new(Reader::new(path, watcher, context, Box::new(move |input| again.reading(input))));
        let under_way = Arc::new(UnderWay::default());
        let read: ReadSpecs = Arc::new(move || {
            let (reader, under_way) = (reader.clone(), under_way.clone());
            Box::pin(async move {
                let begin = || tokio::task::spawn_blocking(move || reader.read());
                match under_way
                    .within(LONGEST_READING, begin)
                    .await
                    .map(|ended| ended.map_err(JoinError::try_into_panic))
                {
                    Some(Ok(reading)) => reading,
                    Some(Err(Ok(panic))) => std::panic::resume_unwind(panic),
                    // The process ends, and nobody waits for it.
                    Some(Err(Err(_))) => std::future::pending().await,
                    None => Reading::Invalid(vec![endless()]),
                }
            })
        });
        Ok((project, Follow { read, changes }))
    }

    /// Reads the specs; every error is an end.
    pub fn load(global: &Global) -> Result<Project, Failure> {
        let directory = absolute(&global.specs)?;
        Project::read(global, group(global)?, directory).map_err(Failure::Specs)
    }

    /// Reads the specs, for who wants to look at them as they are written as well.
    pub fn with_specs(global: &Global) -> Result<(Project, Specs), Failure> {
        let (directory, shown) = (absolute(&global.specs)?, global.specs.display().to_string());
        let read = |path: &str| sources::read_file(&directory, path);
        let tree = |build: &Build| sources::read_tree(&directory, build);
        let (sources, reach) = (sources::read(&directory), ProgramReach::new(&directory));
        let specs = parse(&shown, &sources, &OutputMap::new(), &read, &tree, &reach).map_err(Failure::Specs)?;
        let desired = desired(group(global)?, &directory, &specs);
        Ok((Project::fixed(desired, directory, true), specs))
    }

    fn read(global: &Global, group: Option<&str>, directory: PathBuf) -> Result<Project, Vec<Diagnostic>> {
        let (shown, group) = (global.specs.display().to_string(), group.map(str::to_owned));
        let (sources, root) = (sources::read(&directory), directory.clone());
        let resolve = move |context: &OutputMap| {
            let read = |path: &str| sources::read_file(&root, path);
            let tree = |build: &Build| sources::read_tree(&root, build);
            let specs = parse(&shown, &sources, context, &read, &tree, &ProgramReach::new(&root))?;
            Ok(desired(group.as_deref(), &root, &specs))
        };
        let desired = resolve(&OutputMap::new())?;
        Ok(Project { desired, directory, readable: true, context: OutputStore::default(), resolve: Arc::new(resolve) })
    }

    /// Nothing is desired.
    fn nothing(group: Option<&str>, directory: PathBuf, readable: bool) -> Project {
        Project::fixed(nothing(group, &directory), directory, readable)
    }

    /// This is desired, whatever is given.
    fn fixed(desired: Desired, directory: PathBuf, readable: bool) -> Project {
        let resolve = desired.clone();
        let resolve: Resolve = Arc::new(move |_| Ok(resolve.clone()));
        Project { desired, directory, readable, context: OutputStore::default(), resolve }
    }

    /// Learns which outputs are known, and what is desired with them. Where the specs are invalid with them, what is
    /// desired stays as it was.
    pub fn load_outputs(&mut self, state_directory: &Path, style: Style) -> Result<(), Vec<Diagnostic>> {
        if let Err(error) = self.context.open(state_directory) {
            style.complain(&format!("the outputs of earlier runs cannot be read: {error}"));
        }
        self.desired = (self.resolve)(&self.context.values())?;
        Ok(())
    }

    /// As [`Project::load_outputs`], for commands that go on with what they have.
    pub fn try_load_outputs(&mut self, state_directory: &Path, style: Style) {
        if let Err(errors) = self.load_outputs(state_directory, style) {
            style.complain(&diagnostics::render(&errors, style.color_err));
        }
    }

    /// Resolves the specs, as they were read, again whenever outputs have changed; `shape` makes of them what a command
    /// wants.
    pub fn read_again(&self, shape: impl Fn(Desired) -> Desired + Send + Sync + 'static) -> ReadSpecs {
        let (context, resolve) = (self.context.clone(), self.resolve.clone());
        Arc::new(move || {
            let reading = match resolve(&context.values()) {
                Ok(desired) => Reading::Valid(Box::new(shape(desired))),
                Err(errors) => Reading::Invalid(errors),
            };
            Box::pin(std::future::ready(reading))
        })
    }

    /// Reads the specs where that is possible. A group that is named with `--group` can be looked at and taken down
    /// without them.
    pub fn load_leniently(global: &Global, style: Style) -> Result<Project, Failure> {
        let directory = absolute(&global.specs)?;
        match Project::read(global, group(global)?, directory.clone()) {
            Ok(project) => Ok(project),
            Err(errors) if global.group.is_some() => {
                style.complain(&diagnostics::render(&errors, style.color_err));
                style.complain("going on with what the engine says of the group");
                Ok(Project::nothing(group(global)?, directory, false))
            }
            Err(errors) => Err(Failure::Specs(errors)),
        }
    }

    /// Reads the specs; a directory that is gone, or has no spec file, desires nothing. For `up --prune-all` only.
    pub fn load_or_empty(global: &Global) -> Result<Project, Failure> {
        let directory = absolute(&global.specs)?;
        if is_empty(&sources::read(&directory)) {
            return Ok(Project::nothing(group(global)?, directory, true));
        }
        Project::load(global)
    }

    /// Checks that these services are in the specs.
    pub fn known(&self, names: &[String]) -> Result<BTreeSet<String>, Failure> {
        for name in names.iter().filter(|_| self.readable) {
            let known = self.desired.names();
            if !known.contains(&name[..]) {
                let nearest = known
                    .into_iter()
                    .map(|known| (strsim::damerau_levenshtein(name, known), known))
                    .filter(|(distance, known)| *distance <= 1 + known.len() / 4)
                    .min();
                let hint = nearest.map(|(_, known)| format!("; did you mean `{known}`?")).unwrap_or_default();
                return Err(Failure::Usage(format!("there is no service `{name}` in the specs{hint}")));
            }
        }
        Ok(names.iter().cloned().collect())
    }

    /// The services of `up` and `start`: those that are named with what they need, or all; without the excluded ones,
    /// which nobody else may need.
    pub fn with_dependencies(&self, names: &[String], exclude: &[String]) -> Result<Scope, Failure> {
        let (names, exclude) = (self.known(names)?, self.known(exclude)?);
        scope(&self.desired, &names, &exclude).map_err(Failure::Usage)
    }

    /// The services of `down` and `stop`: those that are named, or all; without the excluded ones, which may not need
    /// any of them.
    pub fn with_dependents(&self, verb: &str, names: &[String], exclude: &[String]) -> Result<Scope, Failure> {
        let (names, exclude) = (self.known(names)?, self.known(exclude)?);
        let scope = match (names.is_empty(), exclude.is_empty()) {
            (true, true) => return Ok(Scope::All),
            (true, false) => Scope::AllBut(exclude),
            (false, _) => Scope::Only(names.difference(&exclude).cloned().collect()),
        };
        let needs = self.desired.needs();
        match order::first_need(&needs, |name| !scope.contains(name), |name| scope.contains(name)) {
            Some((who, what)) => Err(Failure::Usage(format!(
                "`{what}` cannot be {verb}: `{who}` needs it and was left out; take `{who}` along, or leave `{what}` out"
            ))),
            None => Ok(scope),
        }
    }
}

/// What `up` takes in of the services that there are, or why it cannot.
fn scope(desired: &Desired, names: &BTreeSet<String>, exclude: &BTreeSet<String>) -> Result<Scope, String> {
    let needs = desired.needs();
    let scope = match (names.is_empty(), exclude.is_empty()) {
        (true, true) => return Ok(Scope::All),
        (true, false) => Scope::AllBut(exclude.clone()),
        (false, _) => {
            let all = order::with_dependencies(names, &needs);
            Scope::Only(all.iter().filter(|name| !exclude.contains(*name) || names.contains(*name)).cloned().collect())
        }
    };
    if let Some(name) = names.intersection(exclude).next() {
        return Err(format!("`{name}` is both asked for and excluded"));
    }
    match order::first_need(&needs, |name| scope.contains(name), |name| exclude.contains(name)) {
        Some((who, what)) => Err(format!("`{what}` cannot be excluded: `{who}` needs it; exclude `{who}` too")),
        None => Ok(scope),
    }
}

/// How long a reading is waited for. Programs are bounded, but not whatever the interpreter does at once; and a directory
/// that is built from may be large.
const LONGEST_READING: Duration = Duration::from_secs(120);

fn endless() -> Diagnostic {
    let message = format!("the specs were not read within {} s", LONGEST_READING.as_secs());
    let hint = "does a program compare values that hold each other many times? Once it is mended, start the watch anew";
    Diagnostic::new(message).hint(hint.to_owned())
}

/// What takes long on another thread, one at a time.
struct UnderWay<T>(tokio::sync::Mutex<Option<JoinHandle<T>>>);

impl<T> Default for UnderWay<T> {
    fn default() -> Self {
        Self(tokio::sync::Mutex::new(None))
    }
}

impl<T> UnderWay<T> {
    /// Begins it, unless it still goes on, and waits for its end as long as it may take; `None`: longer.
    async fn within(&self, limit: Duration, begin: impl FnOnce() -> JoinHandle<T>) -> Option<Result<T, JoinError>> {
        let mut slot = self.0.lock().await;
        let ended = tokio::time::timeout(limit, slot.get_or_insert_with(begin)).await.ok()?;
        *slot = None;
        Some(ended)
    }
}

/// What a reading after the first needs to know.
struct Reload {
    context: OutputStore,
    group: Option<String>,
    /// The spec directory, as people see it.
    shown: String,
    may_empty: bool,
    names: BTreeSet<String>,
    exclude: BTreeSet<String>,
    /// What the first reading said who owns the group. It stays so, even where a link leads elsewhere by now.
    source: String,
    /// Of the last valid reading.
    scope: Mutex<Scope>,
}

impl Reload {
    fn reading(&self, input: SpecInput<'_>) -> Reading {
        self.valid(input).map_or_else(Reading::Invalid, |desired| Reading::Valid(Box::new(desired)))
    }

    fn valid(&self, input: SpecInput<'_>) -> Result<Desired, Vec<Diagnostic>> {
        let group = self.group.as_deref();
        let desired = if self.may_empty && is_empty(input.sources) {
            nothing(group, input.directory)
        } else {
            let values = self.context.values();
            let specs = parse(&self.shown, input.sources, &values, input.read, input.tree, input.reach)?;
            desired(group, input.directory, &specs)
        };
        let mut last = self.scope.lock().unwrap_or_else(PoisonError::into_inner);
        let scope = scope(&desired, &self.names, &self.exclude).map_err(|error| vec![Diagnostic::new(error)])?;
        *last = include_removed(scope, &last, &desired);
        Ok(Desired { scope: last.clone(), source: self.source.clone(), ..desired })
    }
}

/// A scope together with what the last one had that is no longer in the specs: its containers are to go.
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

/// Checks what was read of a directory that people see under this name.
fn parse(
    shown: &str,
    sources: &io::Result<Sources>,
    context: &OutputMap,
    read: &(dyn Fn(&str) -> Result<Vec<u8>, String> + Sync),
    tree: &(dyn Fn(&Build) -> Result<Tree, TreeError> + Sync),
    reach: &dyn Reach,
) -> Result<Specs, Vec<Diagnostic>> {
    let sources = match sources {
        Ok(sources) => sources,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(vec![spec::no_directory(shown)]),
        Err(error) => {
            let message = format!("the directory `{shown}` cannot be read: {error}");
            return Err(vec![Diagnostic::new(message)]);
        }
    };
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let dotenv = sources.dotenv.as_ref();
    let (files, environment) = (&sources.files, &environment);
    let input = spec::Input { dir: shown, files, dotenv, environment, context, read, tree, reach };
    let specs = stack::with_large_stack(|| spec::load(&input));
    specs
        .unwrap_or_else(|error| Err(vec![Diagnostic::new(format!("there is no thread to read the specs on: {error}"))]))
}

/// Whether there is no spec file at all, or not even the directory.
fn is_empty(sources: &io::Result<Sources>) -> bool {
    match sources {
        Ok(sources) => sources.files.is_empty(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn desired(group: Option<&str>, directory: &Path, specs: &Specs) -> Desired {
    let home = std::env::var("HOME").ok();
    resolve(specs, ResolveContext { group, directory: &directory.to_string_lossy(), home: home.as_deref() })
}

fn nothing(group: Option<&str>, directory: &Path) -> Desired {
    let path = directory.to_string_lossy();
    let group = group_name(None, ResolveContext { group, directory: &path, home: None });
    Desired {
        network: network_name(&group),
        group,
        source: path.into_owned(),
        services: BTreeMap::new(),
        idle: BTreeSet::new(),
        on: BTreeMap::new(),
        outputs: Outputs::default(),
        parting: BTreeMap::new(),
        scope: Scope::All,
        mode: Mode::Reconcile { purge_volumes: false, purge_images: false },
    }
}

fn group(global: &Global) -> Result<Option<&str>, Failure> {
    let Some(group) = global.group.as_deref() else {
        return Ok(None);
    };
    match group.parse::<spec::value::Name>() {
        Ok(_) => Ok(Some(group)),
        Err(error) => Err(Failure::Usage(format!("--group {group}: {error}"))),
    }
}

/// The absolute path; links are followed where the directory exists, so that one directory has one name.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    path.canonicalize().or_else(|_| named(path))
}

/// The absolute path, links and all.
fn named(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::Usage(format!("--specs {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use clap::Parser;

    use super::super::args::{Cli, Command};
    use super::*;
    use crate::desired::VolumeSource;

    /// What `up --watch` begins with.
    fn follow(home: &Path, arguments: &[&str]) -> Result<(Project, Follow), Failure> {
        let specs = home.join("specs");
        let line = ["drillmaster", "up", "--watch", "--specs", specs.to_str().unwrap()];
        let cli = Cli::try_parse_from(line.iter().chain(arguments)).unwrap();
        let Command::Up(up) = &cli.command else { unreachable!() };
        Project::follow(&cli.global, up, |_| {})
    }

    /// Writes services, each with what it needs: `a: b c`.
    fn write(home: &Path, services: &[&str]) {
        let document = |service: &&str| {
            let (name, needs) = service.split_once(':').unwrap_or((service, ""));
            let needs = needs.split_whitespace().collect::<Vec<_>>().join(", ");
            format!("---\nname: {name}\nimage: busybox\ndependencies: [{needs}]\nvolumes: [\"./conf:/conf\"]\n")
        };
        fs::create_dir_all(home.join("specs")).unwrap();
        fs::write(home.join("specs/app.yaml"), services.iter().map(document).collect::<String>()).unwrap();
    }

    async fn valid(follow: &Follow) -> Desired {
        match (follow.read)().await {
            Reading::Valid(desired) => *desired,
            Reading::Invalid(errors) => panic!("{errors:#?}"),
        }
    }

    async fn errors(follow: &Follow) -> Vec<String> {
        match (follow.read)().await {
            Reading::Valid(desired) => panic!("{desired:#?}"),
            Reading::Invalid(errors) => errors.into_iter().map(|error| error.message).collect(),
        }
    }

    fn only(names: &[&str]) -> Scope {
        Scope::Only(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[tokio::test]
    async fn a_reading_gives_what_the_first_gave() {
        let home = tempfile::tempdir().unwrap();
        write(home.path(), &["a: b", "b"]);
        let (project, mut follow) = follow(home.path(), &[]).unwrap();
        assert_eq!(follow.changes.recv().await, Some(()), "the first message comes at once");
        assert_eq!(valid(&follow).await, project.desired);
        assert_eq!(valid(&follow).await, project.desired);
    }

    #[tokio::test]
    async fn a_selection_holds_while_specs_change() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        write(home, &["a: b", "b", "c"]);
        let (project, follow) = follow(home, &["a"]).unwrap();
        assert_eq!(project.desired.scope, only(&["a", "b"]));
        write(home, &["a: b", "b", "c", "d"]);
        assert_eq!(valid(&follow).await.scope, only(&["a", "b"]), "a new service is not asked for");
        write(home, &["a: b c", "b", "c", "d"]);
        assert_eq!(valid(&follow).await.scope, only(&["a", "b", "c"]), "one that is needed comes along");
        write(home, &["a: b", "b", "d"]);
        assert_eq!(valid(&follow).await.scope, only(&["a", "b", "c"]), "one that is no longer there is to go");
        write(home, &["a", "b", "c", "d"]);
        assert_eq!(valid(&follow).await.scope, only(&["a"]), "one that is there and not needed is left alone");
        write(home, &["d"]);
        let desired = valid(&follow).await;
        assert_eq!((desired.scope, desired.services.len()), (only(&["a"]), 1));
    }

    #[tokio::test]
    async fn what_is_excluded_stays_so() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        write(home, &["a", "b"]);
        let (_, follow) = follow(home, &["--exclude", "b"]).unwrap();
        write(home, &["a", "c"]);
        assert_eq!(valid(&follow).await.scope, Scope::AllBut(["b".to_owned()].into()));
        write(home, &["a: b", "b"]);
        assert_eq!(errors(&follow).await, ["`b` cannot be excluded: `a` needs it; exclude `a` too"]);
    }

    #[tokio::test]
    async fn what_takes_too_long_is_not_begun_twice() {
        let under_way = UnderWay::default();
        let (release, released) = std::sync::mpsc::channel();
        let short = Duration::from_millis(10);
        let ended = under_way.within(short, || tokio::task::spawn_blocking(move || released.recv().unwrap())).await;
        assert!(ended.is_none());
        assert!(under_way.within(short, || unreachable!("it still goes on")).await.is_none());
        release.send(1).unwrap();
        let long = Duration::from_secs(60);
        assert_eq!(under_way.within(long, || unreachable!("it still goes on")).await.unwrap().unwrap(), 1);
        assert_eq!(under_way.within(long, || tokio::spawn(async { 2 })).await.unwrap().unwrap(), 2);
    }

    #[tokio::test]
    async fn at_first_every_error_is_an_end() {
        let home = tempfile::tempdir().unwrap();
        assert!(matches!(follow(home.path(), &[]), Err(Failure::Specs(_))));
        write(home.path(), &["a"]);
        assert!(matches!(follow(home.path(), &["b"]), Err(Failure::Usage(_))));
        assert!(matches!(follow(home.path(), &["--group", "no group"]), Err(Failure::Usage(_))));
    }

    #[tokio::test]
    async fn specs_that_are_gone_are_an_error_unless_that_may_be() {
        let home = tempfile::tempdir().unwrap();
        write(home.path(), &["a"]);
        let (project, careful) = follow(home.path(), &[]).unwrap();
        let (_, careless) = follow(home.path(), &["--prune-all"]).unwrap();
        fs::remove_file(home.path().join("specs/app.yaml")).unwrap();
        assert!(errors(&careful).await[0].starts_with("there is no `*.yaml`, `*.yml` or `*.star` file"));
        assert_eq!(valid(&careless).await.services.len(), 0);
        fs::remove_dir(home.path().join("specs")).unwrap();
        assert!(errors(&careful).await[0].starts_with("there is no directory"));
        assert_eq!(valid(&careless).await.services.len(), 0);
        assert_eq!(valid(&careless).await.group, project.desired.group);
        write(home.path(), &["a"]);
        assert_eq!(valid(&careful).await, project.desired);
        assert_eq!(valid(&careless).await, project.desired);
    }

    #[tokio::test]
    async fn an_env_file_that_was_wrong_is_read_again() {
        let home = tempfile::tempdir().unwrap();
        write(home.path(), &["a"]);
        let (_, follow) = follow(home.path(), &[]).unwrap();
        fs::write(home.path().join("specs/b.yaml"), "name: b\nimage: busybox\nenv_file: ../b.env\n").unwrap();
        assert_eq!(errors(&follow).await.len(), 1);
        fs::write(home.path().join("b.env"), "A").unwrap();
        assert!(errors(&follow).await[0].starts_with("expected `KEY=value`"));
        fs::write(home.path().join("b.env"), "A=1").unwrap();
        assert_eq!(valid(&follow).await.services["b"].env["A"], "1");
    }

    #[tokio::test]
    async fn the_owner_stays_where_a_link_is_swapped() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        write(&home, &["a"]);
        fs::rename(home.join("specs"), home.join("one")).unwrap();
        symlink("one", home.join("specs")).unwrap();
        let (project, follow) = follow(&home, &[]).unwrap();
        fs::create_dir(home.join("two")).unwrap();
        fs::copy(home.join("one/app.yaml"), home.join("two/app.yaml")).unwrap();
        fs::remove_file(home.join("specs")).unwrap();
        symlink("two", home.join("specs")).unwrap();
        let desired = valid(&follow).await;
        assert_eq!(desired.source, project.desired.source);
        let conf = home.join("two/conf").to_str().unwrap().to_owned();
        assert_eq!(desired.services["a"].config.volumes[0].source, VolumeSource::Bind(conf));
    }
}
