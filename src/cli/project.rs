//! The spec directory of this call, read and resolved.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::Failure;
use super::args::Global;
use crate::control::sources;
use crate::desired::resolve::{Surroundings, group_name, network_name, resolve};
use crate::desired::{Aim, Desired, Scope, order};
use crate::render::{Style, diagnostics};
use crate::spec::{self, Diagnostic, Specs};

/// A spec directory and what it says.
pub(super) struct Project {
    /// The directory, absolute.
    pub directory: PathBuf,
    /// What should exist.
    pub desired: Desired,
    /// Whether the specs could be read; where not, nothing is desired, and only the group is known.
    pub readable: bool,
}

impl Project {
    /// Reads the specs; every error is an end.
    pub fn load(global: &Global) -> Result<Project, Failure> {
        let directory = absolute(&global.specs)?;
        let specs = load(global, &directory).map_err(Failure::Specs)?;
        Ok(Project { desired: desired(global, &directory, &specs)?, directory, readable: true })
    }

    /// Reads the specs where that is possible. A group that is named with `--group` can be looked at and taken down
    /// without them.
    pub fn load_leniently(global: &Global, style: Style) -> Result<Project, Failure> {
        let directory = absolute(&global.specs)?;
        match load(global, &directory) {
            Ok(specs) => Ok(Project { desired: desired(global, &directory, &specs)?, directory, readable: true }),
            Err(errors) if global.group.is_some() => {
                style.complain(&diagnostics::render(&errors, style.color_err));
                style.complain("going on with what the engine says of the group, since --group names it");
                Ok(Project { desired: nothing(global, &directory)?, directory, readable: false })
            }
            Err(errors) => Err(Failure::Specs(errors)),
        }
    }

    /// Reads the specs; a directory that is gone, or has no spec file, desires nothing. For `up --prune-all` only.
    pub fn load_or_empty(global: &Global) -> Result<Project, Failure> {
        let directory = absolute(&global.specs)?;
        let empty = match sources::read(&directory) {
            Ok(sources) => sources.files.is_empty(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if empty {
            return Ok(Project { desired: nothing(global, &directory)?, directory, readable: true });
        }
        Project::load(global)
    }

    /// Checks that these services are in the specs.
    pub fn known(&self, names: &[String]) -> Result<BTreeSet<String>, Failure> {
        for name in names.iter().filter(|_| self.readable) {
            if !self.desired.services.contains_key(name) {
                let nearest = self
                    .desired
                    .services
                    .keys()
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
        let needs = self.desired.needs();
        let scope = match (names.is_empty(), exclude.is_empty()) {
            (true, true) => return Ok(Scope::All),
            (true, false) => Scope::AllBut(exclude.clone()),
            (false, _) => {
                let all = order::with_dependencies(&names, &needs);
                Scope::Only(
                    all.iter().filter(|name| !exclude.contains(*name) || names.contains(*name)).cloned().collect(),
                )
            }
        };
        if let Some(name) = names.intersection(&exclude).next() {
            return Err(Failure::Usage(format!("`{name}` is both asked for and excluded")));
        }
        match order::first_need(&needs, |name| scope.contains(name), |name| exclude.contains(name)) {
            Some((who, what)) => {
                Err(Failure::Usage(format!("`{what}` cannot be excluded: `{who}` needs it; exclude `{who}` too")))
            }
            None => Ok(scope),
        }
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

    /// What `down` and `stop` desire: the group, and none of its services.
    pub fn without_services(&self, scope: Scope, aim: Aim) -> Desired {
        Desired { services: BTreeMap::new(), scope, aim, ..self.desired.clone() }
    }
}

/// Reads and checks the specs.
pub(super) fn load(global: &Global, directory: &Path) -> Result<Specs, Vec<Diagnostic>> {
    let shown = global.specs.display().to_string();
    let sources = match sources::read(directory) {
        Ok(sources) => sources,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(vec![spec::no_directory(&shown)]),
        Err(error) => {
            let message = format!("the directory `{shown}` cannot be read: {error}");
            return Err(vec![Diagnostic::new(message)]);
        }
    };
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    spec::load(&spec::Input {
        dir: &shown,
        files: &sources.files,
        dotenv: sources.dotenv.as_ref(),
        environment: &environment,
        read: &|path| sources::read_further(directory, path),
    })
}

fn desired(global: &Global, directory: &Path, specs: &Specs) -> Result<Desired, Failure> {
    let home = std::env::var("HOME").ok();
    let path = directory.to_string_lossy();
    let surroundings = Surroundings { group: group(global)?, directory: &path, home: home.as_deref() };
    Ok(resolve(specs, surroundings))
}

fn nothing(global: &Global, directory: &Path) -> Result<Desired, Failure> {
    let path = directory.to_string_lossy();
    let surroundings = Surroundings { group: group(global)?, directory: &path, home: None };
    let group = group_name(None, surroundings);
    Ok(Desired {
        network: network_name(&group),
        group,
        source: path.into_owned(),
        services: BTreeMap::new(),
        scope: Scope::All,
        aim: Aim::Agree { purge_volumes: false },
    })
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
    path.canonicalize()
        .or_else(|_| std::path::absolute(path))
        .map_err(|error| Failure::Usage(format!("--specs {}: {error}", path.display())))
}
