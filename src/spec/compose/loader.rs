//! The stages in their order, and what they share.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use super::super::load::hide_values;
use super::super::locate::{Diagnostic, Location, SourceText};
use super::super::node::{Key, Node, Style, Value};
use super::super::secrets::Secrets;
use super::super::yaml;
use super::files::Selection;
use super::reset::{self, Resets};
use super::sources::Sources;
use super::values::{Kind, plain, text};
use super::{
    FileKind, Problem, Project, Request, Templates, canonical, consistency, interpolate, merge, names, normalize,
    paths, schema, typed, unique,
};

/// Maximum number of files that are read, with repetitions.
const MAX_LOADS: usize = 1000;

/// Maximum bytes of a file.
const MAX_FILE_SIZE: usize = super::super::MAX_FILE_SIZE as usize;

/// Maximum number of errors and of notes that are reported.
const MAX_ERRORS: usize = 100;

/// Reading has failed; the errors are in the loader.
#[derive(Debug)]
pub(super) struct Failed;

pub(super) type Outcome<T> = Result<T, Failed>;

/// State of reading a project.
pub(super) struct Loader<'a> {
    pub request: &'a Request<'a>,
    pub sources: Sources,
    /// Paths that the result depends on.
    pub reads: BTreeSet<String>,
    pub templates: Templates,
    variables: BTreeSet<String>,
    /// Values of variables, which messages do not show.
    secrets: Secrets,
    errors: Vec<Diagnostic>,
    notes: Vec<Diagnostic>,
    /// What is missing, where that is no error.
    pub missing: Vec<Diagnostic>,
    /// Variables that are not set, with the place of their first use.
    unset: BTreeMap<String, Range<usize>>,
    /// Env files of the project and of includes.
    pub dotenv: Vec<Arc<SourceText>>,
    /// Contents of secrets and configs that are variables, by section and name.
    contents: BTreeMap<(&'static str, String), String>,
    loads: usize,
}

/// What relative paths and variables refer to: the project, or an include.
pub(super) struct Context {
    pub directory: String,
    pub environment: BTreeMap<String, String>,
    /// Files that services extend, read once.
    pub extended: HashMap<String, Rc<Extended>>,
}

impl Context {
    pub fn new(directory: String, environment: BTreeMap<String, String>) -> Context {
        Context { directory, environment, extended: HashMap::new() }
    }
}

/// A file that services extend.
pub(super) struct Extended {
    pub root: Node,
    pub resets: Resets,
}

/// A document of a file.
pub(super) struct Document {
    pub root: Node,
    pub resets: Resets,
}

impl<'a> Loader<'a> {
    pub fn new(request: &'a Request<'a>) -> Loader<'a> {
        Loader {
            request,
            sources: Sources::default(),
            reads: BTreeSet::new(),
            templates: Templates::new(),
            variables: BTreeSet::new(),
            secrets: Secrets::default(),
            errors: Vec::new(),
            notes: Vec::new(),
            missing: Vec::new(),
            unset: BTreeMap::new(),
            dotenv: Vec::new(),
            contents: BTreeMap::new(),
            loads: 0,
        }
    }

    /// Reads the project. `None` if there are no compose files.
    pub fn project(&mut self) -> Outcome<Option<Project>> {
        let Some(Selection { files, directory, mut environment, profiles }) = self.select()? else { return Ok(None) };
        let name = self.project_name(&files, &directory, &environment)?;
        environment.insert("COMPOSE_PROJECT_NAME".to_owned(), name.clone());
        let mut context = Context::new(directory, environment);
        let mut root = self.model(&files, &mut context, &[])?;
        if root.entries().next().is_none() {
            let location = self.sources.location(&root.span);
            return self.fail(Diagnostic::at(location, "the compose file is empty").hint(EMPTY.to_owned()));
        }
        let problems = typed::unify(&mut root, &self.sources, &mut self.templates);
        self.report(problems)?;
        normalize::normalize(&mut root, &name, &context, &mut self.templates);
        let inactive = consistency::inactive(&root, &profiles, self.request.services);
        self.report(consistency::check(&root, &inactive))?;
        let (env_files, label_files) = self.read_env_files(&root, &inactive, &context)?;
        let span = root.span.clone();
        set(&mut root, "name", Node::scalar(span, name.clone(), Style::Text));
        self.note_unset();
        Ok(Some(Project {
            name,
            directory: context.directory,
            files,
            root,
            text: self.sources.joined(),
            environment: context.environment,
            profiles,
            inactive,
            env_files,
            label_files,
            contents: std::mem::take(&mut self.contents),
            variables: std::mem::take(&mut self.variables),
            notes: std::mem::take(&mut self.notes),
            missing: std::mem::take(&mut self.missing),
            templates: std::mem::take(&mut self.templates),
        }))
    }

    /// Reads and merges files, and completes the result.
    pub fn model(&mut self, files: &[String], context: &mut Context, included: &[String]) -> Outcome<Node> {
        let mut root = Node { span: 0..0, value: Value::Map(Vec::new()) };
        for file in files {
            self.add_file(file, context, included, &mut root)?;
        }
        canonical::set_defaults(&mut root);
        let problems = consistency::validate(&root);
        self.report(problems)?;
        paths::resolve(&mut root, &context.directory, self.request.home);
        self.resolve_environment(&mut root, &context.environment);
        Ok(root)
    }

    /// Gives what an included project takes from its environment a value there.
    fn resolve_environment(&mut self, root: &mut Node, environment: &BTreeMap<String, String>) {
        for service in paths::children_mut(root, "services") {
            for item in paths::items_mut(&mut service.value, "environment") {
                let Some((name, value)) = text(item).and_then(|name| Some((name, environment.get(name)?))) else {
                    continue;
                };
                self.templates.insert((item.span.start, item.span.end), format!("${{{name}}}"));
                *item = Node::scalar(item.span.clone(), format!("{name}={value}"), Style::Substituted);
            }
        }
        for section in ["secrets", "configs"] {
            for entry in root.get(section).into_iter().flat_map(Node::entries) {
                let name = entry.value.get("environment").and_then(text);
                if let Some(value) = name.and_then(|name| environment.get(name)) {
                    self.contents.insert((section, entry.key.text.clone()), value.clone());
                }
            }
        }
    }

    /// Merges the documents of a file onto what came before.
    fn add_file(&mut self, path: &str, context: &mut Context, included: &[String], root: &mut Node) -> Outcome<()> {
        let included: Vec<String> = included.iter().cloned().chain([path.to_owned()]).collect();
        for Document { root: mut document, resets } in self.documents(path, None)? {
            self.interpolate(&mut document, &context.environment)?;
            self.include(&mut document, &resets, context, &included)?;
            reset::apply(root, &resets);
            self.extend_services(&mut document, &resets, path, context)?;
            let before = std::mem::replace(root, Node { span: 0..0, value: Value::Map(Vec::new()) });
            *root = self.merge(before, document)?;
            let problems = unique::enforce(root);
            self.report(problems.into_iter().chain(schema::check(root)).collect())?;
            self.drop_version(root);
            let (problems, notes) = canonical::expand(root);
            self.note(notes);
            self.report(problems)?;
            self.report(unique::enforce(root))?;
        }
        Ok(())
    }

    /// Reads a file that services extend.
    pub fn extended(&mut self, path: &str, span: &Range<usize>, context: &mut Context) -> Outcome<Rc<Extended>> {
        if let Some(known) = context.extended.get(path) {
            return Ok(Rc::clone(known));
        }
        let mut root = Node { span: span.clone(), value: Value::Map(Vec::new()) };
        let mut last = Resets::new();
        for Document { root: mut document, resets } in self.documents(path, Some(span))? {
            self.interpolate(&mut document, &context.environment)?;
            reset::apply(&mut root, &resets);
            root = self.merge(root, document)?;
            self.report(unique::enforce(&mut root))?;
            let (problems, notes) = canonical::expand(&mut root);
            self.note(notes);
            self.report(problems)?;
            self.report(unique::enforce(&mut root))?;
            last = resets;
        }
        paths::resolve(&mut root, paths::parent(path), self.request.home);
        let extended = Rc::new(Extended { root, resets: last });
        context.extended.insert(path.to_owned(), Rc::clone(&extended));
        Ok(extended)
    }

    /// Merges a document onto what came before.
    fn merge(&mut self, before: Node, document: Node) -> Outcome<Node> {
        let span = document.span.clone();
        let mut problems = Vec::new();
        let merged = merge::merge(before, document, &mut problems);
        self.report(problems)?;
        Ok(Node { span, ..merged })
    }

    /// Parses a file into its documents. `from` is what refers to it.
    pub fn documents(&mut self, path: &str, from: Option<&Range<usize>>) -> Outcome<Vec<Document>> {
        let text = self.open(path, from)?;
        let offset = self.sources.add(path, &text);
        let (roots, errors, overrides) = yaml::parse_compose(text.text());
        let failed = !errors.is_empty();
        for error in errors {
            let location = |span| Location::new(&text, span);
            let mut diagnostic =
                Diagnostic::at(location(error.span), error.message).label(error.label).hint(error.hint);
            if let Some((span, label)) = error.related {
                diagnostic = diagnostic.related(location(span), label);
            }
            self.errors.push(diagnostic);
        }
        if failed {
            return Err(Failed);
        }
        let overrides = overrides.into_iter().map(|span| span.start + offset..span.end + offset).collect();
        let mut documents = Vec::new();
        let mut problems = Vec::new();
        for mut root in roots {
            shift(&mut root, offset);
            let resets = reset::collect(&mut root, &overrides);
            match root.value {
                Value::Map(_) => check_keys(&root, &self.sources, &mut problems),
                _ => problems.push(Problem::new(&root.span, "a compose file must be a map").hint("write `services:`")),
            }
            documents.push(Document { root, resets });
        }
        self.report(problems)?;
        Ok(documents)
    }

    /// Returns the text of a file.
    pub fn open(&mut self, path: &str, from: Option<&Range<usize>>) -> Outcome<Arc<SourceText>> {
        self.loads += 1;
        self.reads.insert(path.to_owned());
        if self.loads > MAX_LOADS {
            return self.fail_at(from, path, format!("more than {MAX_LOADS} files are read"));
        }
        if let Some(text) = self.sources.get(path) {
            return Ok(text);
        }
        let shown = self.shown(path);
        match self.request.access.kind(path) {
            FileKind::Missing => return self.fail_at(from, path, format!("file `{shown}` not found")),
            FileKind::Directory => return self.fail_at(from, path, format!("`{shown}` is a directory")),
            FileKind::File => {}
        }
        let bytes = match self.request.access.read(path) {
            Ok(bytes) if bytes.len() > MAX_FILE_SIZE => {
                return self.fail_at(from, path, format!("file `{shown}` is larger than 1 MiB"));
            }
            Ok(bytes) => bytes,
            Err(why) => return self.fail_at(from, path, format!("cannot read file `{shown}`: {why}")),
        };
        match String::from_utf8(bytes) {
            Ok(text) => Ok(SourceText::new(shown, text)),
            Err(_) => self.fail_at(from, path, format!("file `{shown}` is not UTF-8")),
        }
    }

    /// Returns a path as displayed: relative to the working directory if it is in it.
    pub fn shown(&self, path: &str) -> String {
        let inside = path.strip_prefix(self.request.working_directory.trim_end_matches('/'));
        inside.and_then(|rest| rest.strip_prefix('/')).filter(|rest| !rest.is_empty()).unwrap_or(path).to_owned()
    }

    fn fail_at<T>(&mut self, from: Option<&Range<usize>>, path: &str, message: String) -> Outcome<T> {
        let location = match from {
            Some(span) => self.sources.location(span),
            None => Location::new(&SourceText::new(self.shown(path), ""), 0..0),
        };
        self.fail(Diagnostic::at(location, message))
    }

    pub fn interpolate(&mut self, root: &mut Node, environment: &BTreeMap<String, String>) -> Outcome<()> {
        let mut found = interpolate::Found::default();
        interpolate::interpolate(root, environment, &self.sources, &mut found);
        self.templates.append(&mut found.templates);
        self.secrets.add_all(found.variables.iter().filter_map(|name| environment.get(name)));
        self.variables.append(&mut found.variables);
        for (name, span) in found.unset {
            self.unset.entry(name).or_insert(span);
        }
        self.note(found.notes);
        if self.request.lenient {
            let missing: Vec<Diagnostic> = found.missing.drain(..).map(|problem| self.diagnostic(problem)).collect();
            self.missing.extend(missing);
        }
        self.report(found.errors.into_iter().chain(found.missing).collect())
    }

    fn drop_version(&mut self, root: &mut Node) {
        let Value::Map(entries) = &mut root.value else { return };
        let Some(at) = entries.iter().position(|entry| entry.key.text == "version") else { return };
        let entry = entries.remove(at);
        self.note(vec![Problem::new(&entry.key.span, "`version` is obsolete and ignored").hint("remove the line")]);
    }

    fn project_name(
        &mut self,
        files: &[String],
        directory: &str,
        environment: &BTreeMap<String, String>,
    ) -> Outcome<String> {
        let given = self.request.name.map(|name| (name, "`--project-name`"));
        let variable = environment.get("COMPOSE_PROJECT_NAME").map(|name| (name.as_str(), "`COMPOSE_PROJECT_NAME`"));
        if let Some((name, origin)) = given.or(variable).filter(|(name, _)| !name.is_empty()) {
            return match names::check(name, origin) {
                Ok(()) => Ok(name.to_owned()),
                Err((message, hint)) => {
                    let location = self.place_of("COMPOSE_PROJECT_NAME").filter(|_| given.is_none());
                    self.fail(Diagnostic { location, ..Diagnostic::new(message) }.hint(hint))
                }
            };
        }
        let mut documents = Vec::new();
        for file in files {
            documents.extend(self.documents(file, None)?.into_iter().map(|document| document.root));
        }
        let (name, location) = match names::last_name(&documents) {
            Some(node) => {
                let mut node = node.clone();
                self.interpolate(&mut node, environment)?;
                (text(&node).unwrap_or_default().to_owned(), Some(self.sources.location(&node.span)))
            }
            None => (directory.rsplit('/').next().unwrap_or_default().to_owned(), None),
        };
        let normalized = names::normalize(&name);
        if normalized.is_empty() {
            let message = format!("no name for the project can be made of `{name}`");
            let diagnostic = Diagnostic { location, ..Diagnostic::new(message) };
            return self
                .fail(diagnostic.hint("write `name:` in the compose file, with a-z, 0-9, `_` and `-`".to_owned()));
        }
        Ok(normalized)
    }

    fn note_unset(&mut self) {
        let unset = std::mem::take(&mut self.unset);
        let notes = unset.into_iter().map(|(name, span)| {
            let message = format!("the variable `{name}` is not set; its value is empty");
            Problem::new(&span, message).hint(format!("set it in `.env`, or write `${{{name}:-}}`"))
        });
        let notes = notes.collect();
        self.note(notes);
    }

    pub fn note(&mut self, notes: Vec<Problem>) {
        for note in notes {
            if self.notes.len() >= MAX_ERRORS {
                return;
            }
            let diagnostic = self.diagnostic(note);
            if !self.notes.contains(&diagnostic) {
                self.notes.push(diagnostic);
            }
        }
    }

    pub fn note_diagnostic(&mut self, note: Diagnostic) {
        self.notes.push(note);
    }

    /// Reports problems; fails if there are any.
    pub fn report(&mut self, problems: Vec<Problem>) -> Outcome<()> {
        let failed = !problems.is_empty();
        for problem in problems {
            let diagnostic = self.diagnostic(problem);
            self.errors.push(diagnostic);
        }
        if failed { Err(Failed) } else { Ok(()) }
    }

    pub fn fail<T>(&mut self, diagnostic: Diagnostic) -> Outcome<T> {
        self.errors.push(diagnostic);
        Err(Failed)
    }

    pub fn diagnostic(&self, problem: Problem) -> Diagnostic {
        let Problem { span, message, label, related, hint } = problem;
        let mut diagnostic = Diagnostic::at(self.sources.location(&span), message).label(label).hint(hint);
        if let Some((span, label)) = related {
            diagnostic = diagnostic.related(self.sources.location(&span), label);
        }
        diagnostic
    }

    /// Returns the errors, ordered by file and position.
    pub fn errors(&mut self) -> Vec<Diagnostic> {
        let mut errors = std::mem::take(&mut self.errors);
        hide_values(&mut errors, &self.secrets);
        errors.sort_by_key(|error| {
            error.location.as_ref().map(|location| (location.file.path().to_owned(), location.span.start))
        });
        errors.dedup();
        if errors.len() > MAX_ERRORS {
            let rest = errors.len() - MAX_ERRORS;
            errors.truncate(MAX_ERRORS);
            errors.push(Diagnostic::new(format!("{rest} more errors in the compose files")));
        }
        errors
    }
}

const EMPTY: &str = "add services, for example `services: {web: {image: nginx}}`";

/// Sets an entry of a map.
pub(super) fn set(map: &mut Node, key: &str, value: Node) {
    if let Some(known) = map.get_mut(key) {
        *known = value;
    } else if let Value::Map(entries) = &mut map.value {
        let key = Key { span: value.span.clone(), text: key.to_owned() };
        entries.push(super::super::node::Entry { key, value });
    }
}

/// Moves the spans of a tree.
fn shift(node: &mut Node, offset: usize) {
    let moved = |span: &Range<usize>| span.start + offset..span.end + offset;
    node.span = moved(&node.span);
    match &mut node.value {
        Value::Map(entries) => {
            for entry in entries {
                entry.key.span = moved(&entry.key.span);
                shift(&mut entry.value, offset);
            }
        }
        Value::Seq(items) => items.iter_mut().for_each(|item| shift(item, offset)),
        _ => {}
    }
}

/// Reports keys that are not text: an unquoted number or boolean.
fn check_keys(node: &Node, sources: &Sources, problems: &mut Vec<Problem>) {
    match &node.value {
        Value::Map(entries) => {
            for entry in entries {
                let raw = sources.raw(&entry.key.span);
                if raw == entry.key.text && !matches!(plain(raw), Kind::Text(_)) {
                    let message = format!("the key `{raw}` is not text");
                    problems.push(Problem::new(&entry.key.span, message).hint("put it in quotes"));
                }
                check_keys(&entry.value, sources, problems);
            }
        }
        Value::Seq(items) => items.iter().for_each(|item| check_keys(item, sources, problems)),
        _ => {}
    }
}
