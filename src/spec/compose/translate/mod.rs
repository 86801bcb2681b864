//! Translation of a project into documents: a `Group`, and a `Service` or `Job` for each service.
//!
//! `keys` has a rule for every key of a service. The documents are decoded and checked like those of spec files, without
//! substituting variables again; each node keeps its place in the compose file.

mod group;
mod image;
mod keys;
mod limits;
mod mounts;
mod names;
mod networks;
mod nodes;
mod process;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::super::locate::Diagnostic;
use super::super::node::Style;
use super::super::node::{Entry, Key, Node, Value};
use super::super::secrets::{HIDDEN, SecretFields, is_public};
use super::values::{printed, text};
use super::{Problem, Project};
pub(super) use image::repository;
use keys::Rule;
use names::Names;
use nodes::{entry, list, map, merge_over, text_at};

/// A translated project.
pub struct Translation {
    /// The documents: the group first.
    pub documents: Vec<Translated>,
    /// Keys of compose services by the names of their documents.
    pub services: BTreeMap<String, String>,
    /// What means nothing here, or something else.
    pub notes: Vec<Diagnostic>,
    /// What the user should know once: it is as under docker compose, but may surprise.
    pub tips: Vec<Diagnostic>,
}

/// A document.
pub struct Translated {
    pub root: Node,
    /// What cannot be translated, and is not in it.
    pub left_out: Vec<Diagnostic>,
}

impl Translation {
    /// Returns what cannot be translated.
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.documents.iter().flat_map(|document| &document.left_out)
    }
}

/// Translates a project. Nothing is said about services that are not active.
pub fn translate(project: &Project) -> Translation {
    translate_services(project, false)
}

/// Translates a project with all its services, active or not.
pub fn translate_all(project: &Project) -> Translation {
    translate_services(project, true)
}

fn translate_services(project: &Project, all: bool) -> Translation {
    let mut translator = Translator::new(project);
    let services = || project.root.get("services").into_iter().flat_map(Node::entries);
    let mut documents = Vec::new();
    for service in services() {
        let (notes, tips) = (translator.notes.len(), translator.tips.len());
        let root = translator.service(service);
        let left_out = std::mem::take(&mut translator.errors);
        let is_silent = !all && project.inactive.contains(&service.key.text);
        documents.push(match is_silent {
            false => Translated { root, left_out: diagnostics(project, left_out) },
            true => {
                translator.notes.truncate(notes);
                translator.tips.truncate(tips);
                let root = if left_out.is_empty() { root } else { translator.only_name(service) };
                Translated { root, left_out: Vec::new() }
            }
        });
    }
    documents.insert(0, Translated { root: translator.group(), left_out: Vec::new() });
    let names = services().map(|entry| (translator.services.of(&entry.key.text), entry.key.text.clone()));
    let (notes, tips) = (diagnostics(project, translator.notes), diagnostics(project, translator.tips));
    Translation { documents, services: names.collect(), notes, tips }
}

/// Returns errors or notes with their places.
pub(super) fn diagnostics(project: &Project, problems: Vec<Problem>) -> Vec<Diagnostic> {
    let convert = |problem: Problem| {
        let diagnostic = Diagnostic::at(project.location(&problem.span), problem.message);
        let diagnostic = diagnostic.label(problem.label).hint(problem.hint);
        match problem.related {
            Some((span, label)) => diagnostic.related(project.location(&span), label),
            None => diagnostic,
        }
    };
    problems.into_iter().map(convert).collect()
}

/// Returns the fields of a document into which a variable was inserted, with the text to show instead.
pub fn secret_fields(project: &Project, document: &Node) -> SecretFields {
    let mut fields = SecretFields::new();
    for field in document.entries().filter(|entry| !is_public(&entry.key.text)) {
        mark(project, &field.value, &field.key.text, &mut fields);
    }
    fields
}

fn mark(project: &Project, node: &Node, path: &str, fields: &mut SecretFields) {
    match &node.value {
        Value::Scalar(scalar) if scalar.style == Style::Substituted => {
            fields.insert(path.to_owned(), project.template(&node.span).unwrap_or(HIDDEN).to_owned());
        }
        Value::Map(entries) => {
            entries.iter().for_each(|entry| mark(project, &entry.value, &format!("{path}.{}", entry.key.text), fields));
        }
        // The words of a text.
        Value::Seq(items) if !items.is_empty() && items.iter().all(|item| item.span == node.span) => {
            fields.extend(project.template(&node.span).map(|template| (path.to_owned(), template.to_owned())));
        }
        Value::Seq(items) => {
            items.iter().enumerate().for_each(|(at, item)| mark(project, item, &format!("{path}.{at}"), fields));
        }
        _ => {}
    }
}

/// Key of fields of ours, in services and at the top.
const EXTENSION: &str = "x-drillmaster";

struct Translator<'a> {
    project: &'a Project,
    services: Names,
    volumes: Names,
    networks: Names,
    /// Services that others wait for until they have succeeded.
    jobs: BTreeSet<&'a str>,
    /// Further names of services, with their places, from the links of others.
    links: BTreeMap<&'a str, Vec<Node>>,
    /// Builds by the images that they are called.
    builds: BTreeMap<String, &'a Node>,
    /// Keys of the sections that services use.
    used: BTreeSet<(&'static str, String)>,
    errors: Vec<Problem>,
    notes: Vec<Problem>,
    tips: Vec<Problem>,
}

/// The document of a service under way.
struct Document<'a> {
    key: &'a Key,
    service: &'a Node,
    name: String,
    is_job: bool,
    fields: Vec<Entry>,
}

impl Document<'_> {
    fn add(&mut self, key: &str, value: Node) {
        self.fields.push(entry(key, value));
    }

    /// Adds a list unless it is empty.
    fn add_list(&mut self, key: &str, span: &Range<usize>, items: Vec<Node>) {
        if !items.is_empty() {
            self.add(key, list(span, items));
        }
    }
}

impl<'a> Translator<'a> {
    fn new(project: &'a Project) -> Translator<'a> {
        let section = |section: &str| project.root.get(section).into_iter().flat_map(Node::entries);
        let names = |key: &str| Names::new(section(key).map(|entry| entry.key.text.as_str()));
        let mut jobs: BTreeSet<&str> = BTreeSet::new();
        let mut links: BTreeMap<&str, Vec<Node>> = BTreeMap::new();
        let mut builds = BTreeMap::new();
        for Entry { value: service, .. } in section("services") {
            for dependency in service.get("depends_on").into_iter().flat_map(Node::entries) {
                let condition = dependency.value.get("condition").and_then(text);
                if condition == Some("service_completed_successfully") {
                    jobs.insert(&dependency.key.text);
                }
            }
            for link in service.get("links").into_iter().flat_map(Node::items) {
                if let Some((target, alias)) = text(link).and_then(|link| link.split_once(':'))
                    && target != alias
                {
                    links.entry(target).or_default().push(text_at(&link.span, alias));
                }
            }
            if let (Some(build), Some(image)) = (service.get("build"), service.get("image").and_then(printed)) {
                builds.insert(image, build);
            }
        }
        Translator {
            project,
            services: names("services"),
            volumes: names("volumes"),
            networks: names("networks"),
            jobs,
            links,
            builds,
            used: BTreeSet::new(),
            errors: Vec::new(),
            notes: Vec::new(),
            tips: Vec::new(),
        }
    }

    fn error(&mut self, span: &Range<usize>, message: impl Into<String>, hint: &str) {
        self.errors.push(Problem::new(span, message).hint(hint));
    }

    fn note(&mut self, span: &Range<usize>, message: impl Into<String>) {
        self.notes.push(Problem::new(span, message));
    }

    fn service(&mut self, entry: &'a Entry) -> Node {
        let Entry { key, value: service } = entry;
        let extension = service.get(EXTENSION);
        let own_kind = extension.and_then(|own| own.get("kind")).and_then(text);
        let is_job = match own_kind {
            Some(kind) => kind == "Job",
            None => self.jobs.contains(key.text.as_str()),
        };
        let mut document = Document { key, service, name: self.services.of(&key.text), is_job, fields: Vec::new() };
        if is_job {
            document.add("kind", text_at(&key.span, "Job"));
            document.add("rerun", text_at(&key.span, "always"));
        }
        document.add("name", text_at(&key.span, document.name.clone()));
        for Entry { key, value } in service.entries().filter(|entry| !entry.value.is_null()) {
            self.apply(keys::rule(&key.text), &key.text, value, &mut document);
        }
        self.image(&mut document);
        self.environment(&mut document);
        self.labels(&mut document);
        self.restart(&mut document);
        self.resources(&mut document);
        self.mounts(&mut document);
        self.aliases(&mut document);
        if let Some(Value::Map(over)) = extension.map(|own| &own.value) {
            merge_over(&mut document.fields, over);
        }
        map(&service.span, document.fields)
    }

    /// A document for a service that is not active and cannot be translated.
    fn only_name(&self, entry: &Entry) -> Node {
        let span = &entry.key.span;
        let mut fields = vec![
            nodes::entry("name", text_at(span, self.services.of(&entry.key.text))),
            nodes::entry("image", text_at(span, "unknown")),
        ];
        fields.extend(entry.value.get("profiles").map(|profiles| nodes::entry("profiles", profiles.clone())));
        map(span, fields)
    }

    fn apply(&mut self, rule: Option<&Rule>, key: &str, value: &'a Node, document: &mut Document<'a>) {
        match rule {
            Some(Rule::Same) => document.add(key, value.clone()),
            Some(Rule::NotEmpty) if nodes::is_empty(value) => {}
            Some(Rule::NotEmpty) => document.add(key, value.clone()),
            Some(Rule::Size) => document.fields.extend(limits::size(value).map(|size| entry(key, size))),
            Some(Rule::By(translate)) => translate(self, value, document),
            Some(Rule::Dropped(why)) => {
                self.note(&value.span, format!("`{key}` has no effect: {why}"));
            }
            Some(Rule::Refused(why, hint)) => self.error(&value.span, format!("`{key}` {why}"), hint),
            Some(Rule::Elsewhere) | None => {}
        }
    }
}
