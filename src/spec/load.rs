//! Entry point of spec loading: runs all stages and returns either the specs or all diagnostics.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::compose::{self, translate::Translated};
use super::document::{self, Document, Documents};
use super::env_file::{self, EnvFile};
use super::interpolate::{MISSING, OutputUse, Variables};
use super::locate::{Diagnostic, Location, SourceText};
use super::model::{FileField, FileSource, Service};
use super::node::{Node, Value};
use super::secrets::{Redactor, Secrets};
use super::starlark::Programs;
use super::value::{FileName, quoted};
use super::{Content, Input, Loaded, MAX_FILE_SIZE, SourceFile, Specs, Tree, TreeError, check, seccomp, yaml};

/// Maximum number of errors reported per file.
const MAX_ERRORS: usize = 100;

/// Loads and validates specs.
///
/// Returns all errors, ordered by file and position; errors without a location come first.
pub fn load(input: &Input<'_>) -> Result<Specs, Vec<Diagnostic>> {
    let (mut diagnostics, mut missing) = (Vec::new(), Vec::new());
    if input.files.is_empty() {
        return Err(vec![no_specs(input.dir, "`*.yaml`, `*.yml` or `*.star` file")]);
    }
    let dotenv = read_dotenv(input, &mut missing);
    let Input { environment, context, lenient, .. } = *input;
    let variables = Variables { environment, dotenv: &dotenv.values, context, lenient };

    let mut files: Vec<&SourceFile> = input.files.iter().collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let mut documents = Documents::default();
    let mut programs = BTreeMap::new();
    for file in files {
        let Some(text) = open(input, file, &mut documents, &mut diagnostics) else { continue };
        match file.path.ends_with(".star") {
            true => drop(programs.insert(file.path.clone(), text)),
            false => read_file(&text, &file.path, variables, &mut documents, &mut diagnostics),
        }
    }
    let (reads, printed, functions) = evaluate_programs(input, &programs, variables, &mut documents, &mut diagnostics);
    if documents.count == 0 && diagnostics.is_empty() {
        diagnostics.push(no_specs(input.dir, "document"));
    }
    let dotenv_values: Vec<&String> = dotenv.variables.iter().filter_map(|name| variables.value(name)).collect();
    documents.secrets.add_all(dotenv_values);
    finish(input, variables, Gathered { documents, diagnostics, missing, reads, env_files: BTreeMap::new() })
        .map(|specs| Specs { printed, functions, ..specs })
}

/// Loads a project of compose files, translated into documents. Nothing is substituted again. `input` has neither files
/// nor `.env`.
///
/// Returns all errors, ordered by file and position.
pub fn load_compose(input: &Input<'_>, project: &compose::Project) -> Result<Specs, Vec<Diagnostic>> {
    let translated = compose::translate::translate(project);
    let (mut documents, mut diagnostics) = (Documents::default(), translated.errors().cloned().collect());
    for Translated { root: document, .. } in translated.documents {
        let secrets = compose::translate::secret_fields(project, &document);
        document::read_translated(document, &project.text, secrets, &mut documents, &mut diagnostics);
    }
    documents.variables.extend(project.variables.iter().cloned());
    documents.secrets.add_all(project.variables.iter().filter_map(|name| project.environment.get(name)));
    let env_files =
        translated.services.into_iter().filter_map(|(name, key)| Some((name, project.env_files.get(&key)?.clone())));
    let env_files = env_files.collect();
    let dotenv = BTreeMap::new();
    let variables =
        Variables { environment: &project.file_variables(), dotenv: &dotenv, context: input.context, lenient: false };
    let (missing, reads) = (project.missing.clone(), BTreeSet::new());
    finish(input, variables, Gathered { documents, diagnostics, missing, reads, env_files }).map(|specs| Specs {
        project: Some(project.name.clone()),
        notes: [project.notes.clone(), translated.notes].concat(),
        tips: translated.tips,
        ..specs
    })
}

/// What a front end has read.
struct Gathered {
    documents: Documents,
    diagnostics: Vec<Diagnostic>,
    missing: Vec<Diagnostic>,
    /// Paths that were read.
    reads: BTreeSet<String>,
    /// Variables from env files that have been read already, by service.
    env_files: BTreeMap<String, BTreeMap<String, String>>,
}

/// Checks the documents and reads the files that they name.
fn finish(input: &Input<'_>, variables: Variables<'_>, gathered: Gathered) -> Result<Specs, Vec<Diagnostic>> {
    let Gathered { mut documents, mut diagnostics, mut missing, mut reads, env_files: known } = gathered;
    let profiles = input.profiles.with_those_of(documents.services.iter().map(|document| &document.spec));
    check::check(&documents, &profiles, input.lenient, &mut diagnostics);
    let (active, inactive) =
        documents.services.into_iter().partition(|document: &Document<Service>| profiles.activate(&document.spec));
    documents.services = active;
    let environment = file_variables(&mut documents, variables, &mut missing);

    let mut env_files = EnvFiles { input, variables: variables.all(), known: HashMap::new() };
    let mut read = Vec::new();
    for service in &mut documents.services {
        let mut env_files = env_files.read(service, &mut missing);
        if env_files.len() < service.spec.container.env_file.len() {
            service.uses.push(unknown("env_file"));
        }
        env_files.extend(known.get(service.spec.container.name.as_str()).cloned());
        let before = missing.len();
        let tree = inspect_build(input, service, &mut missing);
        if missing.len() > before {
            service.uses.push(unknown("build"));
        }
        let before = missing.len();
        let seccomp = seccomp::profiles(service, |path, used| open_profile(input, path, used), &mut missing);
        if missing.len() > before {
            service.uses.push(unknown("security_opt"));
        }
        reads.extend(seccomp.keys().cloned());
        read.push(ReadFiles { env_files, tree, seccomp });
    }
    missing.append(&mut documents.missing);
    if !input.lenient {
        diagnostics.append(&mut missing);
    }
    documents
        .secrets
        .add_all(read.iter().flat_map(|read| &read.env_files).flat_map(BTreeMap::values).chain(input.context.values()));
    let inserted = env_files.known.values().flatten().flat_map(|file| &file.variables);
    documents.secrets.add_all(inserted.filter_map(|name| variables.value(name)));
    if !diagnostics.is_empty() {
        hide_values(&mut diagnostics, &documents.secrets);
        return Err(sort_and_limit(diagnostics));
    }
    reads.extend(env_files.known.into_keys());
    hide_values(&mut missing, &documents.secrets);
    let missing = sort_and_limit(missing);
    Ok(Specs { missing, environment, ..assemble(documents, read, inactive, reads) })
}

/// Values of the variables that the configs and secrets of active services name; they are secret.
fn file_variables(
    documents: &mut Documents,
    variables: Variables<'_>,
    missing: &mut Vec<Diagnostic>,
) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    let Some(group) = documents.groups.first() else { return values };
    for field in FileField::ALL {
        let uses = documents.services.iter().flat_map(|service| field.uses(&service.spec.container));
        let used: BTreeSet<&FileName> = uses.map(|used| &used.source).collect();
        for (name, source) in field.defined(&group.spec).iter().filter(|(name, _)| used.contains(name)) {
            let FileSource::Environment(variable) = source else { continue };
            documents.variables.insert(variable.to_string());
            let node = group.root.get(field.name()).and_then(|field| field.get(name.as_str())?.get("environment"));
            match variables.value(variable.as_str()) {
                Some(value) => drop(values.insert(variable.to_string(), value.clone())),
                None => missing.push(
                    Diagnostic::at(
                        group.location(node.map_or(&group.root.span, |node| &node.span)),
                        format!("the variable {} is not set", quoted(variable.as_str())),
                    )
                    .hint("set it in the environment or in `.env`".to_owned()),
                ),
            }
        }
    }
    documents.secrets.add_all(values.values());
    values
}

/// The use of a missing file in a field.
fn unknown(field: &str) -> OutputUse {
    let (field, key) = (field.to_owned(), format!("{MISSING}{field}"));
    OutputUse { field, key, known: false, span: 0..0, text: String::new() }
}

/// Files that a service refers to, as they were read.
#[derive(Default)]
struct ReadFiles {
    env_files: Vec<BTreeMap<String, String>>,
    tree: Option<Tree>,
    seccomp: BTreeMap<String, String>,
}

fn assemble(
    documents: Documents,
    read: Vec<ReadFiles>,
    inactive: Vec<Document<Service>>,
    reads: BTreeSet<String>,
) -> Specs {
    let group = documents.groups.into_iter().next();
    let group = group.map(|Document { spec, source, uses, file, root, secrets, templates, .. }| Loaded {
        spec,
        source,
        env_files: Vec::new(),
        uses,
        tree: None,
        seccomp: BTreeMap::new(),
        file,
        root,
        secrets,
        templates,
    });
    let loaded = |(document, read): (Document<Service>, ReadFiles)| {
        let Document { spec, source, uses, file, root, secrets, templates, .. } = document;
        let ReadFiles { env_files, tree, seccomp } = read;
        Loaded { spec, source, env_files, uses, tree, seccomp, file, root, secrets, templates }
    };
    let mut services: Vec<_> = documents.services.into_iter().zip(read).map(loaded).collect();
    let mut inactive: Vec<_> = inactive.into_iter().map(|document| loaded((document, ReadFiles::default()))).collect();
    for services in [&mut services, &mut inactive] {
        services.sort_by(|a, b| a.spec.container.name.cmp(&b.spec.container.name));
    }
    let (variables, secrets) = (documents.variables, documents.secrets);
    let (printed, functions, missing, environment, project, notes, tips) = Default::default();
    Specs {
        group,
        services,
        inactive,
        environment,
        reads,
        variables,
        printed,
        functions,
        secrets,
        missing,
        project,
        notes,
        tips,
    }
}

/// Hides secret values in the messages about invalid specs.
pub(super) fn hide_values(diagnostics: &mut [Diagnostic], secrets: &Secrets) {
    let redactor = Redactor::new(secrets);
    for diagnostic in diagnostics {
        let Diagnostic { message, label, related, hint, .. } = diagnostic;
        let labels = related.iter_mut().map(|(_, label)| label);
        [message, label].into_iter().chain(hint).chain(labels).for_each(|text| redactor.redact_in_place(text));
    }
}

/// Returns the error for a missing spec directory.
pub fn no_directory(dir: &str) -> Diagnostic {
    Diagnostic::new(format!("directory {} not found", quoted(dir)))
        .hint("create it and add specs, or select another directory with `--specs`".to_owned())
}

fn no_specs(dir: &str, what: &str) -> Diagnostic {
    Diagnostic::new(format!("no {what} found in {}", quoted(dir)))
        .hint("add a spec with `name:` and `image:` in a file such as `web.yaml`".to_owned())
}

/// Returns the displayed form of a path that is relative to the spec directory.
fn display_path(dir: &str, path: &str) -> String {
    match (dir.trim_end_matches('/'), path.starts_with('/')) {
        (_, true) => path.to_owned(),
        ("", _) if dir.starts_with('/') => format!("/{path}"),
        ("" | ".", _) => path.to_owned(),
        (dir, _) => format!("{dir}/{path}"),
    }
}

/// Returns the text of a file, or the error that it cannot be read.
fn source_text(input: &Input<'_>, path: &str, content: &Content) -> Result<Arc<SourceText>, Diagnostic> {
    let path = display_path(input.dir, path);
    let error = |message: String| Diagnostic::at(Location::new(&SourceText::new(&path, ""), 0..0), message);
    let too_large = |size: u64| {
        error(format!("the file is too large: {}, the maximum is {}", mebibytes(size), mebibytes(MAX_FILE_SIZE)))
    };
    match content {
        Content::TooLarge(size) => Err(too_large(*size)),
        Content::Unreadable(why) => Err(error(format!("cannot read the file: {why}"))),
        Content::Bytes(bytes) if bytes.len() as u64 > MAX_FILE_SIZE => Err(too_large(bytes.len() as u64)),
        Content::Bytes(bytes) => decode_utf8(&path, bytes),
    }
}

fn mebibytes(bytes: u64) -> String {
    // Round up, so that a file that is one byte too large is displayed as larger than the limit.
    let tenths = (u128::from(bytes) * 10).div_ceil(1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

fn decode_utf8(path: &str, bytes: &[u8]) -> Result<Arc<SourceText>, Diagnostic> {
    let error = match std::str::from_utf8(bytes) {
        Ok(text) => return Ok(SourceText::new(path, text)),
        Err(error) => error,
    };
    // The text before the invalid byte is unchanged by the lossy conversion, so the offset is correct.
    let at = error.valid_up_to();
    let file = SourceText::new(path, String::from_utf8_lossy(bytes));
    let byte = bytes.get(at).copied().unwrap_or_default();
    let utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    let hint = if utf16 { "it looks like UTF-16; save it as UTF-8" } else { "save the file as UTF-8" };
    let location = Location::new(&file, at..at + '\u{fffd}'.len_utf8());
    Err(Diagnostic::at(location, format!("not UTF-8: byte 0x{byte:02x}")).hint(hint.to_owned()))
}

/// Returns the text of a spec file, or reports why it cannot be read.
fn open(
    input: &Input<'_>,
    file: &SourceFile,
    documents: &mut Documents,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Arc<SourceText>> {
    let text = source_text(input, &file.path, &file.content);
    text.map_err(|diagnostic| {
        documents.incomplete = true;
        diagnostics.push(diagnostic);
    })
    .ok()
}

/// Evaluates the programs and decodes their documents. Returns the paths that they read, their printed lines and the
/// names of their functions.
fn evaluate_programs(
    input: &Input<'_>,
    programs: &BTreeMap<String, Arc<SourceText>>,
    variables: Variables<'_>,
    documents: &mut Documents,
    diagnostics: &mut Vec<Diagnostic>,
) -> (BTreeSet<String>, Vec<String>, Vec<String>) {
    if programs.is_empty() {
        return Default::default();
    }
    let (snapshot, mut evaluated) = input.interpreter.evaluate(Programs {
        texts: programs.clone(),
        files: input.files.iter().map(|file| file.path.clone()).collect(),
        variables: variables.all(),
    });
    let (snapshot, errors) = (Arc::new(snapshot), std::mem::take(&mut evaluated.errors));
    let programs = &snapshot.programs;
    documents.incomplete |= !errors.is_empty();
    documents.secrets.add_all(evaluated.variables.iter().filter_map(|name| variables.value(name)));
    documents.variables.append(&mut evaluated.variables);
    diagnostics.extend(errors.into_iter().map(|error| programs.diagnostic(error)));
    let text = evaluated.joined_text(programs);
    let functions = evaluated.functions(&snapshot);
    let (services, groups) = (documents.services.len(), documents.groups.len());
    for document in evaluated.documents {
        let reported = diagnostics.len();
        document::read(document.root, &text, &document.path, variables, documents, diagnostics);
        let frames = document.frames.iter();
        let frames: Vec<_> =
            frames.filter_map(|(place, label)| Some((programs.location(place)?, label.clone()))).collect();
        for diagnostic in diagnostics.iter_mut().skip(reported) {
            diagnostic.related.extend(frames.iter().cloned());
        }
    }
    let redactor = Redactor::new(&documents.secrets);
    for document in documents.services.iter_mut().skip(services) {
        redactor.mark(&document.root, &mut document.secrets);
    }
    for document in documents.groups.iter_mut().skip(groups) {
        redactor.mark(&document.root, &mut document.secrets);
    }
    let services = documents.services.iter_mut().skip(services).flat_map(|service| service.spec.functions_mut());
    let groups = documents.groups.iter_mut().skip(groups).flat_map(|group| group.spec.on.functions_mut());
    for function in services.chain(groups) {
        if let Some(known) = functions.get(function.index()) {
            *function = known.clone();
        }
    }
    let functions = functions.iter().map(ToString::to_string).collect();
    (evaluated.reads, evaluated.printed, functions)
}

fn read_file(
    text: &Arc<SourceText>,
    path: &str,
    variables: Variables<'_>,
    documents: &mut Documents,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let (roots, errors) = yaml::parse(text.text());
    documents.incomplete |= !errors.is_empty();
    for error in errors {
        let diagnostic = Diagnostic::at(Location::new(text, error.span), error.message);
        let diagnostic = diagnostic.label(error.label).hint(error.hint);
        diagnostics.push(match error.related {
            Some((span, label)) => diagnostic.related(Location::new(text, span), label),
            None => diagnostic,
        });
    }
    for root in roots {
        document::read(root, text, path, variables, documents, diagnostics);
    }
}

/// Reads the `.env` files. Later files override earlier ones.
fn read_dotenv(input: &Input<'_>, diagnostics: &mut Vec<Diagnostic>) -> EnvFile {
    let mut found = EnvFile::default();
    for file in input.dotenv {
        let text = source_text(input, &file.path, &file.content).map_err(|error| vec![error]);
        match text.and_then(|text| parse_env_file(&text, input.environment, found.clone())) {
            Ok(file) => found = file,
            Err(errors) => diagnostics.extend(errors),
        }
    }
    found
}

fn parse_env_file(
    text: &SourceText,
    environment: &BTreeMap<String, String>,
    earlier: EnvFile,
) -> Result<EnvFile, Vec<Diagnostic>> {
    let text = SourceText::hidden(text.path(), text.text());
    env_file::parse(text.text(), environment, earlier).map_err(|errors| {
        let diagnostic = |error: env_file::LineError| {
            Diagnostic::at(Location::new(&text, error.span), error.message).hint(error.hint)
        };
        errors.into_iter().map(diagnostic).collect()
    })
}

/// Cache of env files: each one is read once.
struct EnvFiles<'a> {
    input: &'a Input<'a>,
    /// The environment and `.env`.
    variables: BTreeMap<String, String>,
    known: HashMap<String, Result<EnvFile, EnvFileError>>,
}

/// Error in an `env_file`.
#[derive(Clone)]
enum EnvFileError {
    /// Unreadable; reported at each field that refers to the file.
    Unreadable(String),
    /// Invalid content; already reported.
    Reported,
}

impl EnvFiles<'_> {
    fn read(
        &mut self,
        service: &Document<Service>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Vec<BTreeMap<String, String>> {
        let nodes = service.root.get("env_file").into_iter().flat_map(Node::items);
        let mut contents = Vec::new();
        for (path, node) in service.spec.container.env_file.iter().zip(nodes) {
            let location = service.location(&node.span);
            if !self.known.contains_key(path) {
                let result = self.read_one(path, &location, diagnostics);
                self.known.insert(path.clone(), result);
            }
            match self.known.get(path) {
                Some(Ok(file)) => contents.push(file.values.clone()),
                Some(Err(EnvFileError::Unreadable(why))) => {
                    let shown = quoted(&display_path(self.input.dir, path));
                    diagnostics.push(
                        Diagnostic::at(location, format!("cannot read the env file {shown}: {why}"))
                            .hint(relative_hint(path)),
                    );
                }
                Some(Err(EnvFileError::Reported)) | None => {}
            }
        }
        contents
    }

    fn read_one(
        &self,
        path: &str,
        location: &Location,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Result<EnvFile, EnvFileError> {
        let bytes = (self.input.read)(path).map_err(EnvFileError::Unreadable)?;
        let text = source_text(self.input, path, &Content::Bytes(bytes)).map_err(|error| vec![error]);
        text.and_then(|text| parse_env_file(&text, &self.variables, EnvFile::default())).map_err(|errors| {
            diagnostics.extend(errors.into_iter().map(|error| error.related(location.clone(), "referenced here")));
            EnvFileError::Reported
        })
    }
}

/// Inspects the build context of a service, if its image is built.
fn inspect_build(input: &Input<'_>, service: &Document<Service>, diagnostics: &mut Vec<Diagnostic>) -> Option<Tree> {
    let build = service.spec.container.build.as_ref()?;
    // A missing context has been reported and replaced by a placeholder.
    let has_placeholder = |node: &&Node| node.entries().any(|entry| entry.value.value == Value::Placeholder);
    let node = service.root.get("build").filter(|node| !has_placeholder(node))?;
    let location = |field: &str| service.location(node.get(field).map_or(&node.span, |node| &node.span));
    let in_directory = relative_hint(&build.context);
    let (field, message, hint) = match (input.tree)(build) {
        Ok(tree) => return Some(tree),
        Err(TreeError::Context(why)) => {
            let path = quoted(&display_path(input.dir, &build.context));
            ("context", format!("cannot build from {path}: {why}"), in_directory)
        }
        Err(TreeError::Dockerfile(why)) => {
            let path = quoted(build.dockerfile.file().map_or("", String::as_str));
            let hint = "the path is relative to the context".to_owned();
            ("dockerfile", format!("cannot read the Dockerfile {path}: {why}"), Some(hint))
        }
    };
    diagnostics.push(Diagnostic::at(location(field), message).hint(hint));
    None
}

/// What a path in a spec is relative to, unless it is absolute.
fn relative_hint(path: &str) -> Option<String> {
    (!path.starts_with('/')).then(|| "the path is relative to the spec directory".to_owned())
}

/// Reads a seccomp profile.
fn open_profile(input: &Input<'_>, path: &str, used: &Location) -> Result<Arc<SourceText>, Diagnostic> {
    let bytes = (input.read)(path).map_err(|why| {
        let (shown, hint) = (quoted(&display_path(input.dir, path)), relative_hint(path));
        Diagnostic::at(used.clone(), format!("cannot read the seccomp profile {shown}: {why}")).hint(hint)
    })?;
    source_text(input, path, &Content::Bytes(bytes)).map_err(|error| error.related(used.clone(), "referenced here"))
}

/// Sorts diagnostics by location, removes duplicates and limits their number per file.
fn sort_and_limit(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let key = |diagnostic: &Diagnostic| {
        let location = diagnostic.location.as_ref();
        location.map(|location| (location.file.path().to_owned(), location.span.start, location.span.end))
    };
    diagnostics.sort_by_cached_key(key);
    // An error in an anchored value recurs at each alias.
    let mut reported = HashSet::new();
    diagnostics.retain(|diagnostic| reported.insert((key(diagnostic), diagnostic.message.clone())));
    let mut per_file: BTreeMap<String, usize> = BTreeMap::new();
    diagnostics.retain(|diagnostic| {
        let file = diagnostic.location.as_ref().map(|location| location.file.path().to_owned());
        let count = per_file.entry(file.unwrap_or_default()).or_default();
        *count += 1;
        *count <= MAX_ERRORS
    });
    for (file, count) in per_file.into_iter().filter(|(_, count)| *count > MAX_ERRORS) {
        diagnostics.push(Diagnostic::new(format!("{} more errors in {}", count - MAX_ERRORS, quoted(&file))));
    }
    diagnostics
}
