//! Loads the specs of a directory, or reports all errors in them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::document::{self, Document, Documents};
use super::env_file;
use super::interpolate::Variables;
use super::locate::{Diagnostic, Location, SourceText};
use super::model::Service;
use super::node::{Node, Value};
use super::value::quoted;
use super::{Content, Input, Loaded, MAX_FILE_SIZE, SourceFile, Specs, Tree, TreeError, check, starlark, yaml};

/// Errors reported per file.
const MAX_ERRORS: usize = 100;

/// Loads and validates specs.
///
/// Returns all errors, ordered by file and position; errors without a location come first.
pub fn load(input: &Input<'_>) -> Result<Specs, Vec<Diagnostic>> {
    let mut diagnostics = Vec::new();
    if input.files.is_empty() {
        return Err(vec![no_specs(input.dir, "`*.yaml`, `*.yml` or `*.star` file")]);
    }
    let dotenv = input.dotenv.map(|file| dotenv(input, file, &mut diagnostics)).unwrap_or_default();
    let variables = Variables { environment: input.environment, dotenv: &dotenv, context: input.context };

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
    let (mut reads, printed, functions) = run(input, &programs, variables, &mut documents, &mut diagnostics);
    if documents.count == 0 && diagnostics.is_empty() {
        diagnostics.push(no_specs(input.dir, "document"));
    }
    check::check(&documents, &mut diagnostics);

    let mut env_files = EnvFiles { input, known: HashMap::new() };
    let contents: Vec<_> = documents.services.iter().map(|service| env_files.read(service, &mut diagnostics)).collect();
    let trees: Vec<_> = documents.services.iter().map(|service| tree(input, service, &mut diagnostics)).collect();
    if !diagnostics.is_empty() {
        return Err(ordered(diagnostics));
    }
    reads.extend(env_files.known.into_keys());
    Ok(Specs { printed, functions, ..assemble(documents, contents, trees, reads) })
}

fn assemble(
    documents: Documents,
    contents: Vec<Vec<BTreeMap<String, String>>>,
    trees: Vec<Option<Tree>>,
    reads: BTreeSet<String>,
) -> Specs {
    let group = documents.groups.into_iter().next();
    let group = group.map(|Document { spec, source, uses, root, .. }| Loaded {
        spec,
        source,
        env_files: Vec::new(),
        uses,
        tree: None,
        root,
    });
    let services = documents.services.into_iter().zip(contents).zip(trees);
    let mut services: Vec<Loaded<Service>> = services
        .map(|((document, env_files), tree)| {
            let Document { spec, source, uses, root, .. } = document;
            Loaded { spec, source, env_files, uses, tree, root }
        })
        .collect();
    services.sort_by(|a, b| a.spec.container.name.cmp(&b.spec.container.name));
    Specs { group, services, reads, variables: documents.variables, printed: Vec::new(), functions: Vec::new() }
}

/// Returns the error for a missing spec directory.
pub fn no_directory(dir: &str) -> Diagnostic {
    Diagnostic::new(format!("there is no directory {}", quoted(dir)))
        .hint("write specs into it, or name another one with `--specs`".to_owned())
}

fn no_specs(dir: &str, what: &str) -> Diagnostic {
    Diagnostic::new(format!("no {what} found in {}", quoted(dir)))
        .hint("write a spec with `name:` and `image:` in a file such as `web.yaml`".to_owned())
}

/// A path of the spec directory as people see it.
fn shown(dir: &str, path: &str) -> String {
    match (dir.trim_end_matches('/'), path.starts_with('/')) {
        (_, true) => path.to_owned(),
        ("", _) if dir.starts_with('/') => format!("/{path}"),
        ("" | ".", _) => path.to_owned(),
        (dir, _) => format!("{dir}/{path}"),
    }
}

/// The text of a file, or the error that there is none.
fn text_of(input: &Input<'_>, path: &str, content: &Content) -> Result<Arc<SourceText>, Diagnostic> {
    let path = shown(input.dir, path);
    let nowhere = |message: String| Diagnostic::at(Location::new(&SourceText::new(&path, ""), 0..0), message);
    let too_large = |size: u64| {
        nowhere(format!("the file is too large: {}, at most {} are read", mebibytes(size), mebibytes(MAX_FILE_SIZE)))
    };
    match content {
        Content::TooLarge(size) => Err(too_large(*size)),
        Content::Unreadable(why) => Err(nowhere(format!("cannot read the file: {why}"))),
        Content::Bytes(bytes) if bytes.len() as u64 > MAX_FILE_SIZE => Err(too_large(bytes.len() as u64)),
        Content::Bytes(bytes) => decode_utf8(&path, bytes),
    }
}

fn mebibytes(bytes: u64) -> String {
    // Rounded up, so that one byte too many is seen to be too many.
    let tenths = (u128::from(bytes) * 10).div_ceil(1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

fn decode_utf8(path: &str, bytes: &[u8]) -> Result<Arc<SourceText>, Diagnostic> {
    let error = match std::str::from_utf8(bytes) {
        Ok(text) => return Ok(SourceText::new(path, text)),
        Err(error) => error,
    };
    // What comes before the bad byte is the same in the replaced text, so the place is right.
    let at = error.valid_up_to();
    let file = SourceText::new(path, String::from_utf8_lossy(bytes));
    let byte = bytes.get(at).copied().unwrap_or_default();
    let utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    let hint = if utf16 { "it looks like UTF-16; save it as UTF-8" } else { "save the file as UTF-8" };
    let place = Location::new(&file, at..at + '\u{fffd}'.len_utf8());
    Err(Diagnostic::at(place, format!("not UTF-8: byte 0x{byte:02x}")).hint(hint.to_owned()))
}

/// The text of a spec file, unless there is none, which is then told.
fn open(
    input: &Input<'_>,
    file: &SourceFile,
    documents: &mut Documents,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Arc<SourceText>> {
    let text = text_of(input, &file.path, &file.content);
    text.map_err(|diagnostic| {
        documents.incomplete = true;
        diagnostics.push(diagnostic);
    })
    .ok()
}

/// Evaluates the programs, and reads the documents that they make. Gives what they read, what they printed and the
/// functions that stand in them.
fn run(
    input: &Input<'_>,
    programs: &BTreeMap<String, Arc<SourceText>>,
    variables: Variables<'_>,
    documents: &mut Documents,
    diagnostics: &mut Vec<Diagnostic>,
) -> (BTreeSet<String>, Vec<String>, Vec<String>) {
    if programs.is_empty() {
        return Default::default();
    }
    let evaluated = starlark::evaluate(input, variables, programs);
    documents.incomplete |= !evaluated.diagnostics.is_empty();
    documents.variables.extend(evaluated.variables);
    diagnostics.extend(evaluated.diagnostics);
    let (services, groups) = (documents.services.len(), documents.groups.len());
    for made in evaluated.documents {
        let told = diagnostics.len();
        document::read(made.root, &evaluated.text, &made.path, variables, documents, diagnostics);
        for diagnostic in diagnostics.iter_mut().skip(told) {
            diagnostic.related.extend(made.frames.iter().cloned());
        }
    }
    let services = documents.services.iter_mut().skip(services).flat_map(|service| service.spec.functions_mut());
    let groups = documents.groups.iter_mut().skip(groups).flat_map(|group| group.spec.on.functions_mut());
    for function in services.chain(groups) {
        if let Some(known) = evaluated.functions.get(function.index()) {
            *function = known.clone();
        }
    }
    let functions = evaluated.functions.iter().map(ToString::to_string).collect();
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

fn dotenv(input: &Input<'_>, file: &SourceFile, diagnostics: &mut Vec<Diagnostic>) -> BTreeMap<String, String> {
    let values = text_of(input, &file.path, &file.content).map_err(|error| vec![error]).and_then(|t| key_values(&t));
    values.unwrap_or_else(|errors| {
        diagnostics.extend(errors);
        BTreeMap::new()
    })
}

fn key_values(text: &Arc<SourceText>) -> Result<BTreeMap<String, String>, Vec<Diagnostic>> {
    env_file::parse(text.text()).map_err(|errors| {
        let diagnostic = |error: env_file::LineError| {
            Diagnostic::at(Location::new(text, error.span), error.message).hint(error.hint)
        };
        errors.into_iter().map(diagnostic).collect()
    })
}

/// Reads each `env_file` once.
struct EnvFiles<'a> {
    input: &'a Input<'a>,
    known: HashMap<String, Result<BTreeMap<String, String>, Broken>>,
}

/// Error in an `env_file`.
#[derive(Clone)]
enum Broken {
    /// It cannot be read: told at each place that names it.
    Unreadable(String),
    /// Its content is wrong, which has been told.
    Told,
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
            let place = service.place(&node.span);
            if !self.known.contains_key(path) {
                let result = self.read_one(path, &place, diagnostics);
                self.known.insert(path.clone(), result);
            }
            match self.known.get(path) {
                Some(Ok(values)) => contents.push(values.clone()),
                Some(Err(Broken::Unreadable(why))) => {
                    let path = quoted(&shown(self.input.dir, path));
                    diagnostics.push(
                        Diagnostic::at(place, format!("cannot read the env file {path}: {why}"))
                            .hint("the path is relative to the spec directory".to_owned()),
                    );
                }
                Some(Err(Broken::Told)) | None => {}
            }
        }
        contents
    }

    fn read_one(
        &self,
        path: &str,
        place: &Location,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Result<BTreeMap<String, String>, Broken> {
        let bytes = (self.input.read)(path).map_err(Broken::Unreadable)?;
        let text = text_of(self.input, path, &Content::Bytes(bytes)).map_err(|error| vec![error]);
        text.and_then(|text| key_values(&text)).map_err(|errors| {
            diagnostics.extend(errors.into_iter().map(|error| error.related(place.clone(), "the file is named here")));
            Broken::Told
        })
    }
}

/// Looks at what the image of a service is built from.
fn tree(input: &Input<'_>, service: &Document<Service>, diagnostics: &mut Vec<Diagnostic>) -> Option<Tree> {
    let build = service.spec.container.build.as_ref()?;
    // Where the context is missing, which has been told, there is another in its place.
    let made_up = |node: &&Node| node.entries().any(|entry| entry.value.value == Value::Poison);
    let node = service.root.get("build").filter(|node| !made_up(node))?;
    let place = |field: &str| service.place(node.get(field).map_or(&node.span, |node| &node.span));
    let (field, message, hint) = match (input.tree)(build) {
        Ok(tree) => return Some(tree),
        Err(TreeError::Context(why)) => {
            let shown = quoted(&shown(input.dir, &build.context));
            ("context", format!("cannot build from {shown}: {why}"), "the path is relative to the spec directory")
        }
        Err(TreeError::Dockerfile(why)) => {
            let shown = quoted(build.dockerfile.as_deref().unwrap_or("Dockerfile"));
            ("dockerfile", format!("cannot read the Dockerfile {shown}: {why}"), "the path is relative to the context")
        }
    };
    diagnostics.push(Diagnostic::at(place(field), message).hint(hint.to_owned()));
    None
}

/// By file and place, each once, and not endlessly many of one file.
fn ordered(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let key = |diagnostic: &Diagnostic| {
        let place = diagnostic.place.as_ref();
        place.map(|place| (place.file.path().to_owned(), place.span.start, place.span.end))
    };
    diagnostics.sort_by_cached_key(key);
    // What stands under an anchor is read wherever it is used.
    let mut told = HashSet::new();
    diagnostics.retain(|diagnostic| told.insert((key(diagnostic), diagnostic.message.clone())));
    let mut per_file: BTreeMap<String, usize> = BTreeMap::new();
    diagnostics.retain(|diagnostic| {
        let file = diagnostic.place.as_ref().map(|place| place.file.path().to_owned());
        let count = per_file.entry(file.unwrap_or_default()).or_default();
        *count += 1;
        *count <= MAX_ERRORS
    });
    for (file, count) in per_file.into_iter().filter(|(_, count)| *count > MAX_ERRORS) {
        diagnostics.push(Diagnostic::new(format!("{} more errors in {}", count - MAX_ERRORS, quoted(&file))));
    }
    diagnostics
}
