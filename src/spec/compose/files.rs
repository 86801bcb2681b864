//! Which files: `-f`, `COMPOSE_FILE` or the usual names, and the env files in which `COMPOSE_FILE` may stand.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::env_file;
use super::super::locate::{Diagnostic, Location, SourceText};
use super::loader::{Failed, Loader, Outcome};
use super::{FileKind, paths};

/// Names of compose files, in order of preference.
pub const FILE_NAMES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];

/// Names of the file that is merged onto the compose file, whatever that is called; in order of preference.
pub const OVERRIDE_NAMES: [&str; 4] =
    ["compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml"];

/// What is to be read.
pub(super) struct Selection {
    /// Absolute paths, in order.
    pub files: Vec<String>,
    /// Directory of the project.
    pub directory: String,
    pub environment: BTreeMap<String, String>,
    /// Active profiles.
    pub profiles: Vec<String>,
}

impl Loader<'_> {
    /// Selects the files. `None` if there are none.
    pub fn select(&mut self) -> Outcome<Option<Selection>> {
        let request = self.request;
        let mut environment = request.environment.clone();
        environment.entry("PWD".to_owned()).or_insert_with(|| request.working_directory.to_owned());
        let mut files: Vec<String> = request.files.iter().map(|file| self.absolute(file)).collect();
        // The first `.env` may name the files; the second is beside them.
        let directory = self.directory(&files);
        self.add_dotenv(&directory, &mut environment)?;
        if files.is_empty() {
            files = self.files_of_variable(&environment)?;
        }
        if files.is_empty() {
            files = self.find(&directory);
        }
        if files.is_empty() {
            return Ok(None);
        }
        let directory = self.directory(&files);
        self.add_dotenv(&directory, &mut environment)?;
        let profiles = match request.profiles {
            [] => {
                let variable = environment.get("COMPOSE_PROFILES").map(String::as_str).unwrap_or_default();
                variable.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
            }
            profiles => profiles.to_vec(),
        };
        Ok(Some(Selection { files, directory, environment, profiles }))
    }

    fn absolute(&self, path: &str) -> String {
        paths::join(self.request.working_directory, path)
    }

    /// Returns the directory of the project as far as it is known without `COMPOSE_FILE`.
    pub fn default_directory(&self) -> String {
        let files: Vec<String> = self.request.files.iter().map(|file| self.absolute(file)).collect();
        self.directory(&files)
    }

    /// Returns the directory of the project, given its files.
    fn directory(&self, files: &[String]) -> String {
        match (self.request.directory, files.first()) {
            (Some(directory), _) => self.absolute(directory),
            (None, Some(first)) => paths::parent(first).to_owned(),
            (None, None) => paths::clean(self.request.working_directory),
        }
    }

    /// Returns the files of `COMPOSE_FILE`.
    fn files_of_variable(&mut self, environment: &BTreeMap<String, String>) -> Outcome<Vec<String>> {
        let Some(variable) = environment.get("COMPOSE_FILE") else { return Ok(Vec::new()) };
        let separator = environment.get("COMPOSE_PATH_SEPARATOR").filter(|separator| !separator.is_empty());
        let separator = separator.map_or(":", String::as_str);
        let files: Vec<String> = variable.split(separator).map(|file| self.absolute(file)).collect();
        for file in &files {
            self.reads.insert(file.clone());
            if self.request.access.kind(file) != FileKind::File {
                let message = format!("file `{}` of `COMPOSE_FILE` not found", self.shown(file));
                let location = self.place_of("COMPOSE_FILE");
                return self.fail(Diagnostic { location, ..Diagnostic::new(message) });
            }
        }
        Ok(files)
    }

    /// Searches a directory and those above it for the usual names.
    fn find(&mut self, directory: &str) -> Vec<String> {
        let mut directory = directory.to_owned();
        loop {
            let found = self.existing(&directory, &FILE_NAMES);
            if let Some(first) = found.first() {
                self.note_others(&found);
                let overrides = self.existing(&directory, &OVERRIDE_NAMES);
                self.note_others(&overrides);
                return [first].into_iter().chain(overrides.first()).cloned().collect();
            }
            let parent = paths::parent(&directory).to_owned();
            if parent == directory {
                return Vec::new();
            }
            directory = parent;
        }
    }

    fn existing(&mut self, directory: &str, names: &[&str]) -> Vec<String> {
        let candidates: Vec<String> = names.iter().map(|name| paths::join(directory, name)).collect();
        self.reads.extend(candidates.iter().cloned());
        let exists = |path: &String| self.request.access.kind(path) != FileKind::Missing;
        candidates.into_iter().filter(exists).collect()
    }

    fn note_others(&mut self, found: &[String]) {
        let [used, others @ ..] = found else { return };
        if let [other, ..] = others {
            let (used, other) = (self.shown(used), self.shown(other));
            let note = Diagnostic::new(format!("`{used}` is used, not `{other}` beside it"));
            self.note_diagnostic(note.hint("remove one of the two, or name the files with `-f`".to_owned()));
        }
    }

    /// Adds the variables of the env files to those of the process, which take precedence.
    fn add_dotenv(&mut self, directory: &str, environment: &mut BTreeMap<String, String>) -> Outcome<()> {
        let files = self.dotenv_files(directory)?;
        for (name, value) in self.read_dotenv(&files, environment)? {
            environment.entry(name).or_insert(value);
        }
        Ok(())
    }

    fn dotenv_files(&mut self, directory: &str) -> Outcome<Vec<String>> {
        let request = self.request;
        if !request.env_files.is_empty() {
            return Ok(request.env_files.iter().map(|file| self.home_or_absolute(file)).collect());
        }
        if let Some(files) = request.environment.get("COMPOSE_ENV_FILES").filter(|files| !files.is_empty()) {
            return Ok(files.split(',').map(|file| self.home_or_absolute(file)).collect());
        }
        match request.environment.get("COMPOSE_DISABLE_ENV_FILE").map(String::as_str) {
            None | Some("0" | "f" | "F" | "false" | "False" | "FALSE") => {}
            Some("1" | "t" | "T" | "true" | "True" | "TRUE") => return Ok(Vec::new()),
            Some(_) => return self.fail(Diagnostic::new("`COMPOSE_DISABLE_ENV_FILE` must be `true` or `false`")),
        }
        let path = paths::join(directory, ".env");
        self.reads.insert(path.clone());
        Ok(Some(path).filter(|path| request.access.kind(path) == FileKind::File).into_iter().collect())
    }

    fn home_or_absolute(&self, path: &str) -> String {
        self.absolute(&paths::expand_home(path, self.request.home))
    }

    /// Reads env files. Their values can refer to the environment and to earlier lines.
    pub fn read_dotenv(
        &mut self,
        files: &[String],
        environment: &BTreeMap<String, String>,
    ) -> Outcome<BTreeMap<String, String>> {
        let mut values = BTreeMap::new();
        for file in files {
            let text = self.open(file, None)?;
            values = self.parse_env_file(&text, environment, values)?;
            self.dotenv.push(text);
        }
        Ok(values)
    }

    /// Returns where an env file sets a variable, if not the process does.
    pub fn place_of(&self, name: &str) -> Option<Location> {
        let texts = self.dotenv.iter().filter(|_| !self.request.environment.contains_key(name));
        let find = |text: &Arc<SourceText>| {
            let mut starts = text.text().match_indices(name).map(|(at, _)| at);
            let is_set = |at: &usize| {
                let line = text.text()[..*at].rsplit('\n').next().unwrap_or_default();
                matches!(line.trim(), "" | "export")
            };
            starts
                .find(is_set)
                .map(|at| Location::new(&SourceText::hidden(text.path(), text.text()), at..at + name.len()))
        };
        texts.filter_map(find).next()
    }

    /// Parses an env file after others.
    pub fn parse_env_file(
        &mut self,
        text: &SourceText,
        environment: &BTreeMap<String, String>,
        earlier: BTreeMap<String, String>,
    ) -> Outcome<BTreeMap<String, String>> {
        let hidden = SourceText::hidden(text.path(), text.text());
        match env_file::parse_compose(text.text(), environment, earlier) {
            Ok(parsed) => {
                for (name, span) in parsed.unset {
                    let message = format!("the variable `{name}` is not set; its value is empty");
                    let note = Diagnostic::at(Location::new(&hidden, span), message);
                    self.note_diagnostic(note.hint(format!("set it, or write `${{{name}:-}}`")));
                }
                Ok(parsed.values)
            }
            Err(errors) => {
                for error in errors {
                    let diagnostic = Diagnostic::at(Location::new(&hidden, error.span), error.message).hint(error.hint);
                    let _: Outcome<()> = self.fail(diagnostic);
                }
                Err(Failed)
            }
        }
    }
}
