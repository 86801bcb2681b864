//! Decoder for one document: substitutes variables, selects the kind and explains errors with hints for that kind.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::Source;
use super::decode::{DecodeError, ErrorKind, decode};
use super::interpolate::{Found, OutputUse, Variables, interpolate};
use super::locate::{Diagnostic, Location, SourceText, closest};
use super::model::{Group, JobDocument, Service};
use super::node::{Node, Value};
use super::secrets::{SecretFields, Secrets};
use super::spellings;
use super::value::{Name, quoted};

/// A decoded document with its node tree. Invalid values are removed from both.
pub struct Document<T> {
    pub file: Arc<SourceText>,
    pub source: Source,
    pub root: Node,
    pub spec: T,
    /// True if the name is valid; otherwise `spec` has a placeholder name.
    pub named: bool,
    /// Uses of outputs.
    pub uses: Vec<OutputUse>,
    pub secrets: SecretFields,
    /// Texts as they are written, by path, of the fields with references.
    pub templates: BTreeMap<String, String>,
}

/// What the front end knows of the fields of a document.
#[derive(Default)]
struct Origins {
    uses: Vec<OutputUse>,
    secrets: SecretFields,
    templates: BTreeMap<String, String>,
}

impl<T> Document<T> {
    /// Returns the location of a span in the document's file.
    pub fn location(&self, span: &Range<usize>) -> Location {
        Location::new(&self.file, span.clone())
    }

    /// Converts the spec.
    fn map<U>(self, convert: impl FnOnce(T) -> U) -> Document<U> {
        let Self { file, source, root, spec, named, uses, secrets, templates } = self;
        Document { file, source, root, spec: convert(spec), named, uses, secrets, templates }
    }

    /// Returns the location of a field's value, or of the document if the field is missing.
    pub fn location_of(&self, field: &str) -> Location {
        self.location(&self.root.get(field).map_or_else(|| document_span(&self.root), |node| node.span.clone()))
    }
}

/// All documents of a spec directory.
#[derive(Default)]
pub struct Documents {
    /// `kind: Service` and `kind: Job`.
    pub services: Vec<Document<Service>>,
    /// `kind: Group`.
    pub groups: Vec<Document<Group>>,
    /// Names of documents that could not be decoded. Dependencies on them are not reported as unknown.
    pub other_names: BTreeSet<String>,
    /// True if there may be documents with unknown names: because of an invalid name or a syntax error.
    pub incomplete: bool,
    /// Names of all variables that are referred to, set or not.
    pub variables: BTreeSet<String>,
    /// Values that were inserted into fields.
    pub secrets: Secrets,
    /// Variables that are not set, where that is no error.
    pub missing: Vec<Diagnostic>,
    /// Number of documents, including invalid ones.
    pub count: usize,
}

const KINDS: [&str; 3] = ["Service", "Job", "Group"];
const KINDS_HINT: &str = "write `Service` (or leave `kind` out), `Job` or `Group`";

/// Fields of Compose and `docker run`, with hints to the equivalent.
const COMPOSE_FIELDS: [(&str, &str); 31] = [
    ("args", "the field is called `command`"),
    ("cmd", "the field is called `command`"),
    ("container_name", "the container is called `<group>-<name>`"),
    ("cpu_period", "write `resources: {cpu_period: 100ms}`"),
    ("cpu_quota", "write `resources: {cpu_quota: 50ms}`"),
    ("cpu_rt_period", "write `resources: {cpu_rt_period: 1s}`"),
    ("cpu_rt_runtime", "write `resources: {cpu_rt_runtime: 950ms}`"),
    ("cpu_shares", "write `resources: {cpu_shares: 512}`"),
    ("cpus", "write `resources: {cpus: 0.5}`"),
    ("cpuset", "write `resources: {cpuset: \"0-3\"}`"),
    ("depends_on", "the field is called `dependencies`"),
    ("deploy", "write `replicas: 2` and `resources: {memory: 256m, cpus: 0.5}`"),
    ("environment", "the field is called `env`"),
    ("extends", "write `<<: *anchor`, or a program (`*.star`)"),
    ("host_ip", "the field is called `address`"),
    ("links", "services reach each other by name; further names are `aliases`"),
    ("mem_limit", "write `resources: {memory: 256m}`"),
    ("mem_reservation", "write `resources: {memory_reservation: 128m}`"),
    ("memory", "write `resources: {memory: 256m}`"),
    ("memswap_limit", "write `resources: {memory_swap: 512m}`"),
    ("log_driver", "write `logging: {driver: local}`"),
    ("log_opt", "write `logging: {options: {max-size: 10m}}`"),
    ("pids_limit", "write `resources: {pids: 100}`"),
    ("published", "the field is called `host`"),
    ("pull_policy", "the field is called `pull`"),
    ("readonly", "the field is called `read_only`"),
    ("scale", "the field is called `replicas`"),
    ("services", "each service is a document of its own, separated by `---`"),
    ("stop_grace_period", "the field is called `stop_timeout`"),
    ("version", "specs have no version"),
    ("workdir", "the field is called `working_dir`"),
];

/// Fields that only services have, with hints for jobs.
const SERVICE_ONLY_FIELDS: [(&str, &str); 12] = [
    ("exited", JOB_EVENTS_HINT),
    ("health", "jobs have no health check: they run to completion"),
    ("healthcheck", "jobs have no health check: they run to completion"),
    ("ping", "a job succeeds when it exits with code 0"),
    ("post_start", JOB_EVENTS_HINT),
    ("post_stop", JOB_EVENTS_HINT),
    ("pre_stop", JOB_EVENTS_HINT),
    ("ready", JOB_EVENTS_HINT),
    ("ready_timeout", "a job succeeds when it exits with code 0"),
    ("replicas", "a job runs once"),
    ("restart", "write `retries: 3` to try again after a failure"),
    ("update", "not supported for jobs: their containers are replaced at once"),
];

/// Fields that only jobs have, with hints for services.
const JOB_ONLY_FIELDS: [(&str, &str); 4] =
    [("capture", CAPTURE_HINT), ("rerun", JOB_ONLY_HINT), ("retries", JOB_ONLY_HINT), ("succeeded", JOB_ONLY_HINT)];

const JOB_ONLY_HINT: &str = "only jobs have this field: a container that runs to completion is a `kind: Job`";
const CAPTURE_HINT: &str = "only hooks and jobs have this field: `post_start: {exec: [...], capture: key}`";
const JOB_EVENTS_HINT: &str = "a job runs to completion; write `on: {succeeded: ..., failed: ...}`";

const NO_CONTAINER_HINT: &str = "there may be no running container at that point; write `run` or `http`";

/// Returns the span for errors about the whole document: its name, otherwise its first key.
fn document_span(root: &Node) -> Range<usize> {
    let name = root.get("name").filter(|name| name.value != Value::Placeholder).map(|name| name.span.clone());
    name.or_else(|| root.entries().next().map(|entry| entry.key.span.clone())).unwrap_or_else(|| root.span.clone())
}

/// Decodes one document into `documents` and reports its errors to `diagnostics`.
pub fn read(
    mut root: Node,
    file: &Arc<SourceText>,
    path: &str,
    variables: Variables<'_>,
    documents: &mut Documents,
    diagnostics: &mut Vec<Diagnostic>,
) {
    documents.count += 1;
    let at = |span: Range<usize>, message: String| Diagnostic::at(Location::new(file, span), message);
    let Value::Map(entries) = &mut root.value else {
        documents.incomplete = true;
        let error = at(root.span.clone(), "expected a map of fields such as `name: web`".into());
        diagnostics.push(error.hint("write `key: value` lines; documents are separated by `---`".to_owned()));
        return;
    };
    // `x-` keys hold anchors and are otherwise ignored, as in Compose.
    entries.retain(|entry| !entry.key.text.starts_with("x-"));
    if let Some(error) = spellings::compose_file(&root) {
        documents.incomplete = true;
        diagnostics.push(at(error.span, error.message).hint(error.hint));
        return;
    }
    let mut found = Found::default();
    let unsupported = spellings::replace(&mut root, path.ends_with(".star"), variables);
    for error in unsupported.into_iter().chain(interpolate(&mut root, file.text(), variables, &mut found)) {
        diagnostics.push(at(error.span, error.message).hint(error.hint));
    }
    let missing = found.missing.into_iter().map(|error| at(error.span, error.message).hint(error.hint));
    documents.missing.extend(missing);
    documents.variables.append(&mut found.variables);
    documents.secrets.extend(&found.secrets);
    let origins = Origins { uses: found.outputs, secrets: found.fields, templates: found.templates };
    migrate_old_spellings(&mut root);
    decode_kind(root, file, path, origins, documents, diagnostics);
}

/// Decodes a document that was translated from a compose file: its variables have been substituted.
pub fn read_translated(
    root: Node,
    file: &Arc<SourceText>,
    secrets: SecretFields,
    documents: &mut Documents,
    diagnostics: &mut Vec<Diagnostic>,
) {
    documents.count += 1;
    let start = start_offset(&root);
    let path = Location::new(file, start..start).file.path().to_owned();
    decode_kind(root, file, &path, Origins { secrets, ..Origins::default() }, documents, diagnostics);
}

fn decode_kind(
    mut root: Node,
    file: &Arc<SourceText>,
    path: &str,
    Origins { uses, secrets, templates }: Origins,
    documents: &mut Documents,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let start = start_offset(&root);
    let source = Source { file: path.to_owned(), line: Location::new(file, start..start).line() };
    match take_kind(&mut root) {
        Ok(Kind::Service) => {
            let document = typed(root, file, source, "service", documents, diagnostics);
            documents.services.extend(document.map(|document| Document { uses, secrets, templates, ..document }));
        }
        Ok(Kind::Job) => {
            let document = typed::<JobDocument>(root, file, source, "job", documents, diagnostics);
            let document = document.map(|document| document.map(Service::from));
            documents.services.extend(document.map(|document| Document { uses, secrets, templates, ..document }));
        }
        Ok(Kind::Group) => {
            let document = typed(root, file, source, "group", documents, diagnostics);
            documents.groups.extend(document.map(|document| Document { uses, secrets, templates, ..document }));
        }
        Err((span, message, hint)) => {
            documents.remember_name(&root);
            diagnostics.push(Diagnostic::at(Location::new(file, span), message).hint(hint));
        }
    }
}

/// Old and current names of `health` fields; the old ones are still accepted.
const OLD_HEALTH_FIELDS: [(&str, &str); 3] = [("every", "interval"), ("failures", "retries"), ("then", "action")];

/// Replaces spellings from before 1.0, so that no other code has to know them: fields of `health`, and
/// `update: {order: recreate}`, which is now `auto`.
fn migrate_old_spellings(root: &mut Node) {
    if let Some(Value::Map(entries)) = root.get_mut("health").map(|health| &mut health.value) {
        for entry in entries {
            if let Some((_, new)) = OLD_HEALTH_FIELDS.iter().find(|(old, _)| *old == entry.key.text) {
                (*new).clone_into(&mut entry.key.text);
            }
        }
    }
    let order = root.get_mut("update").and_then(|update| update.get_mut("order"));
    if let Some(Value::Scalar(order)) = order.map(|order| &mut order.value)
        && order.text == "recreate"
    {
        "auto".clone_into(&mut order.text);
    }
}

/// Returns the offset of the name, otherwise of the first key.
fn start_offset(root: &Node) -> usize {
    let name = root.entry("name").or_else(|| root.entries().next());
    name.map_or(root.span.start, |entry| entry.key.span.start)
}

enum Kind {
    Service,
    Job,
    Group,
}

type KindError = (Range<usize>, String, Option<String>);

/// Removes `kind` from the fields and returns it. Defaults to a service.
fn take_kind(root: &mut Node) -> Result<Kind, KindError> {
    let Value::Map(entries) = &mut root.value else {
        return Ok(Kind::Service);
    };
    let Some(at) = entries.iter().position(|entry| entry.key.text == "kind") else {
        return Ok(Kind::Service);
    };
    let kind = entries.remove(at).value;
    let span = kind.span.clone();
    match kind.text() {
        Some("Service") => Ok(Kind::Service),
        Some("Job") => Ok(Kind::Job),
        Some("Group") => Ok(Kind::Group),
        Some(text) if !kind.is_null() => {
            let hint = match closest(text, KINDS) {
                Some(close) => format!("did you mean `{close}`?"),
                None => KINDS_HINT.into(),
            };
            Err((span, format!("unknown kind {}", quoted(text)), Some(hint)))
        }
        // The error of a failed variable substitution has been reported.
        None if kind.value == Value::Pruned => Ok(Kind::Service),
        _ => Err((span, "expected a kind".into(), Some(KINDS_HINT.into()))),
    }
}

impl Documents {
    /// Records the name of a document that could not be decoded, because other documents may depend on it.
    fn remember_name(&mut self, root: &Node) {
        match root.get("name").and_then(Node::text).filter(|name| name.parse::<Name>().is_ok()) {
            Some(name) => {
                self.other_names.insert(name.to_owned());
            }
            None => self.incomplete = true,
        }
    }
}

fn typed<T: DeserializeOwned>(
    mut root: Node,
    file: &Arc<SourceText>,
    source: Source,
    noun: &'static str,
    documents: &mut Documents,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Document<T>> {
    let decoded = decode::<T>(&mut root);
    diagnostics.extend(decoded.errors.into_iter().map(|error| explain(error, &root, file, noun)));
    let named = root.get("name").is_none_or(|name| name.value != Value::Placeholder);
    if decoded.value.is_none() || !named {
        documents.remember_name(&root);
    }
    decoded.value.map(|spec| Document {
        file: Arc::clone(file),
        source,
        root,
        spec,
        named,
        uses: Vec::new(),
        secrets: SecretFields::new(),
        templates: BTreeMap::new(),
    })
}

/// Converts a decoding error to a diagnostic, with hints for the kind of the document (`noun`).
fn explain(error: DecodeError, root: &Node, file: &Arc<SourceText>, noun: &str) -> Diagnostic {
    let DecodeError { kind, span, keys, hint } = error;
    let message = kind.to_string();
    let at = |span: Range<usize>, message: String| Diagnostic::at(Location::new(file, span), message);
    match kind {
        ErrorKind::Message(_) => at(span, message).hint(hint),
        ErrorKind::UnknownField(field, known) => {
            let hint_in = |hints: &[(&str, &str)]| {
                hints.iter().find(|(word, _)| *word == field).map(|(_, hint)| (*hint).to_owned())
            };
            // Compose hints apply to the fields of a document and of a port.
            let applies = keys.len() == 1 || known.contains(&"container");
            let compose = hint_in(&COMPOSE_FIELDS).filter(|_| applies);
            let other_kind = match noun {
                "service" if keys.len() <= 2 => hint_in(&JOB_ONLY_FIELDS),
                "job" if keys.len() <= 2 => hint_in(&SERVICE_ONLY_FIELDS),
                _ => None,
            };
            // `exec` in a hook that runs on the host.
            let no_container = (field == "exec" && known.contains(&"run")).then(|| NO_CONTAINER_HINT.to_owned());
            let hint = compose.or(other_kind).or(no_container).or(hint);
            let hint = hint.or_else(|| (keys.len() > 1).then(|| format!("the fields here are {}", list(known))));
            at(span, message)
                .label(if keys.len() == 1 { format!("not a field of a {noun}") } else { String::new() })
                .hint(hint)
        }
        ErrorKind::MissingField(field) if keys.is_empty() => {
            let label = match field {
                "name" => format!("this {noun} has no name"),
                _ => format!("this {noun} has no `{field}`"),
            };
            at(document_span(root), message).label(label)
        }
        ErrorKind::MissingField(_) => at(span, message),
    }
}

fn list(words: &[&str]) -> String {
    // `function` is not a field that users write: programs pass functions directly.
    let words = words.iter().filter(|word| **word != "function");
    words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
