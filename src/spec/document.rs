//! Decoding of one document into the type of its kind, with errors that refer to the kind's fields.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::Source;
use super::decode::{DecodeError, ErrorKind, decode};
use super::interpolate::{OutputUse, Variables, interpolate};
use super::locate::{Diagnostic, Location, SourceText, closest};
use super::model::{Group, JobDocument, Service};
use super::node::{Node, Value};
use super::value::{Name, quoted};

/// A document with its source tree. Invalid values are removed from both.
pub struct Document<T> {
    /// The file that holds it.
    pub file: Arc<SourceText>,
    /// Where it stands.
    pub source: Source,
    /// Its tree.
    pub root: Node,
    /// What it says.
    pub spec: T,
    /// Whether its name is known; where not, `spec` holds some other.
    pub named: bool,
    /// Outputs that it refers to.
    pub uses: Vec<OutputUse>,
}

impl<T> Document<T> {
    /// A place in the document's file.
    pub fn place(&self, span: &Range<usize>) -> Location {
        Location::new(&self.file, span.clone())
    }

    /// The same document with its content seen in another way.
    fn map<U>(self, see: impl FnOnce(T) -> U) -> Document<U> {
        let Self { file, source, root, spec, named, uses } = self;
        Document { file, source, root, spec: see(spec), named, uses }
    }

    /// The place of a field's value, else of the document's name, else of its beginning.
    pub fn place_of(&self, field: &str) -> Location {
        self.place(&self.root.get(field).map_or_else(|| home(&self.root), |node| node.span.clone()))
    }
}

/// All documents of a spec directory.
#[derive(Default)]
pub struct Documents {
    /// `kind: Service` and `kind: Job`.
    pub services: Vec<Document<Service>>,
    /// `kind: Group`.
    pub groups: Vec<Document<Group>>,
    /// Names of documents that could not be read as a service but are there.
    pub other_names: BTreeSet<String>,
    /// Something may be there whose name is not known: a document without a valid name, or a file with bad syntax.
    pub incomplete: bool,
    /// Variables that were named.
    pub variables: BTreeSet<String>,
    /// How many documents there were, good or bad.
    pub count: usize,
}

/// Names of the kinds.
const KINDS: [&str; 3] = ["Service", "Job", "Group"];
const KINDS_HINT: &str = "write `Service` (or leave `kind` out), `Job` or `Group`";

/// Names of Compose and `docker run` fields, with the equivalent here.
const FOREIGN: [(&str, &str); 22] = [
    ("args", "the field is called `command`"),
    ("cmd", "the field is called `command`"),
    ("container_name", "the container is called `<group>-<name>`"),
    ("cpus", "write `resources: {cpus: 0.5}`"),
    ("depends_on", "the field is called `dependencies`"),
    ("deploy", "limits are written `resources: {memory: 256m, cpus: 0.5}`"),
    ("environment", "the field is called `env`"),
    ("expose", "every port can be reached from the group's network; `ports` publishes on the host"),
    ("host_ip", "the field is called `address`"),
    ("links", "services reach each other by name; further names are `aliases`"),
    ("mem_limit", "write `resources: {memory: 256m}`"),
    ("memory", "write `resources: {memory: 256m}`"),
    ("network_mode", "every service is on the network of the group"),
    ("networks", "every service is on the network of the group; a `kind: Group` document names it"),
    ("pids_limit", "write `resources: {pids: 100}`"),
    ("published", "the field is called `host`"),
    ("pull_policy", "the field is called `pull`"),
    ("readonly", "the field is called `read_only`"),
    ("services", "each service is a document of its own, separated by `---`"),
    ("stop_grace_period", "the field is called `stop_timeout`"),
    ("version", "specs have no version"),
    ("workdir", "the field is called `working_dir`"),
];

/// Fields of services that jobs do not have, with the alternative.
const NOT_OF_A_JOB: [(&str, &str); 11] = [
    ("exited", ENDS),
    ("health", "jobs have no health check: they run to completion"),
    ("healthcheck", "jobs have no health check: they run to completion"),
    ("ping", "a job succeeds when it exits with code 0"),
    ("post_start", ENDS),
    ("post_stop", ENDS),
    ("pre_stop", ENDS),
    ("ready", ENDS),
    ("replicas", "a job runs once"),
    ("restart", "write `retries: 3` to try again after a failure"),
    ("update", "not supported for jobs: their containers are replaced at once"),
];

/// Fields of jobs that services do not have.
const NOT_OF_A_SERVICE: [(&str, &str); 4] =
    [("capture", HOOKS), ("rerun", JOBS), ("retries", JOBS), ("succeeded", JOBS)];

const JOBS: &str = "only jobs have this field: a container that runs to completion is a `kind: Job`";
const HOOKS: &str = "only hooks and jobs have this field: `post_start: {exec: [...], capture: key}`";
const ENDS: &str = "a job runs to completion; write `on: {succeeded: ..., failed: ...}`";

const NO_CONTAINER: &str = "there may be no running container at that point; write `run` or `http`";

/// Returns the location for errors about the whole document: its name, otherwise its first key.
fn home(root: &Node) -> Range<usize> {
    let name = root.get("name").filter(|name| name.value != Value::Poison).map(|name| name.span.clone());
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
    // A home for anchors, as in compose files.
    entries.retain(|entry| !entry.key.text.starts_with("x-"));
    let mut uses = Vec::new();
    for error in interpolate(&mut root, file.text(), variables, &mut documents.variables, &mut uses) {
        diagnostics.push(at(error.span, error.message).hint(error.hint));
    }
    replace_former_spellings(&mut root);
    let line = line_of(&root);
    let source = Source { file: path.to_owned(), line: Location::new(file, line..line).line() };
    match take_kind(&mut root) {
        Ok(Kind::Service) => {
            let document = typed(root, file, source, "service", documents, diagnostics);
            documents.services.extend(document.map(|document| Document { uses, ..document }));
        }
        Ok(Kind::Job) => {
            let document = typed::<JobDocument>(root, file, source, "job", documents, diagnostics);
            let document = document.map(|document| document.map(Service::from));
            documents.services.extend(document.map(|document| Document { uses, ..document }));
        }
        Ok(Kind::Group) => {
            let document = typed(root, file, source, "group", documents, diagnostics);
            documents.groups.extend(document.map(|document| Document { uses, ..document }));
        }
        Err((span, message, hint)) => {
            documents.remember_name(&root);
            diagnostics.push(at(span, message).hint(hint));
        }
    }
}

/// Fields of `health` that had another name before 1.0, and still may.
const FORMER_HEALTH_FIELDS: [(&str, &str); 3] = [("every", "interval"), ("failures", "retries"), ("then", "action")];

/// Replaces spellings from before 1.0, so that nothing behind this knows them: fields of `health`, and
/// `update: {order: recreate}`, which is `auto`.
fn replace_former_spellings(root: &mut Node) {
    if let Some(Value::Map(entries)) = root.get_mut("health").map(|health| &mut health.value) {
        for entry in entries {
            if let Some((_, now)) = FORMER_HEALTH_FIELDS.iter().find(|(former, _)| *former == entry.key.text) {
                (*now).clone_into(&mut entry.key.text);
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

fn line_of(root: &Node) -> usize {
    let name = root.entry("name").or_else(|| root.entries().next());
    name.map_or(root.span.start, |entry| entry.key.span.start)
}

enum Kind {
    Service,
    Job,
    Group,
}

type KindError = (Range<usize>, String, Option<String>);

/// Removes `kind` from the fields. Defaults to a service.
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
        // A reference in it could not be replaced; that has been reported.
        None if kind.value == Value::Pruned => Ok(Kind::Service),
        _ => Err((span, "expected a kind".into(), Some(KINDS_HINT.into()))),
    }
}

impl Documents {
    /// The name of a document that is not a service we could read: others may depend on it all the same.
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
    diagnostics.extend(decoded.faults.into_iter().map(|fault| explain(fault, &root, file, noun)));
    let named = root.get("name").is_none_or(|name| name.value != Value::Poison);
    if decoded.value.is_none() || !named {
        documents.remember_name(&root);
    }
    decoded.value.map(|spec| Document { file: Arc::clone(file), source, root, spec, named, uses: Vec::new() })
}

/// A fault in words that know the fields of the kind.
fn explain(fault: DecodeError, root: &Node, file: &Arc<SourceText>, noun: &str) -> Diagnostic {
    let DecodeError { what, span, keys, hint } = fault;
    let message = what.to_string();
    let at = |span: Range<usize>, message: String| Diagnostic::at(Location::new(file, span), message);
    match what {
        ErrorKind::Message(_) => at(span, message).hint(hint),
        ErrorKind::UnknownField(field, known) => {
            let among = |list: &[(&str, &str)]| {
                list.iter().find(|(word, _)| *word == field).map(|(_, hint)| (*hint).to_owned())
            };
            // What is written elsewhere fits the top of a document and a port.
            let fits = keys.len() == 1 || known.contains(&"container");
            let foreign = among(&FOREIGN).filter(|_| fits);
            let other_kind = match noun {
                "service" if keys.len() <= 2 => among(&NOT_OF_A_SERVICE),
                "job" if keys.len() <= 2 => among(&NOT_OF_A_JOB),
                _ => None,
            };
            // A hook where no container runs.
            let nowhere = (field == "exec" && known.contains(&"run")).then(|| NO_CONTAINER.to_owned());
            let hint = foreign.or(other_kind).or(nowhere).or(hint);
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
            at(home(root), message).label(label)
        }
        ErrorKind::MissingField(_) => at(span, message),
    }
}

fn list(words: &[&str]) -> String {
    // Only programs have functions, and they write them otherwise.
    let words = words.iter().filter(|word| **word != "function");
    words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
