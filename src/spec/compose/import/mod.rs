//! Specs that say what a project says, as a person would write them: a file for each service, with its variables and
//! comments.
//!
//! `translate` decides what becomes of each key; here it is only written. `variables` has the references to variables
//! in the syntax of specs, `texts` the texts of fields, `forms` their short forms, `print` the YAML, `pings` proposes
//! readiness checks.

mod comments;
mod forms;
mod pings;
mod print;
mod texts;
mod variables;

use std::collections::{BTreeMap, BTreeSet};

use super::super::locate::Diagnostic;
use super::super::node::{Entry, Node, Value};
use super::super::paths::{join, parent};
use super::translate::{Translated, diagnostics, translate, translate_all};
use super::values::text;
use super::{FileKind, Files, Problem, Project};
use comments::Comments;
use forms::{Fields, entry};
use texts::Texts;

/// Specs made of a project.
pub struct Imported {
    /// The group first.
    pub files: Vec<SpecFile>,
    /// What could not be translated, and is not in the specs.
    pub left_out: Vec<Diagnostic>,
    /// What means nothing here, or something else.
    pub notes: Vec<Diagnostic>,
}

/// A file with one document.
pub struct SpecFile {
    /// Name of the file, e.g. `web.yaml`.
    pub file: String,
    /// `Group`, `Service` or `Job`.
    pub kind: &'static str,
    /// Name of the document.
    pub name: String,
    pub text: String,
    /// A readiness check that is proposed in a comment, e.g. `ping: {tcp: 5432}`.
    pub proposal: Option<String>,
}

/// The fields that come first, in this order.
const FIRST: [&str; 15] = [
    "kind",
    "name",
    "image",
    "build",
    "platform",
    "entrypoint",
    "command",
    "env_file",
    "env",
    "ports",
    "volumes",
    "networks",
    "dependencies",
    "healthcheck",
    "restart",
];

/// Which services are imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Services {
    All,
    /// Those that are active with the profiles of the project.
    Active,
}

/// Makes specs of a project, to be written into the directory `into`, an absolute path.
pub fn import(project: &Project, into: &str, access: &dyn Files, selected: Services) -> Imported {
    let translation = match selected {
        Services::All => translate_all(project),
        Services::Active => translate(project),
    };
    let is_selected = |document: &&Translated| {
        let key = translation.services.get(name_of(&document.root));
        selected == Services::All || key.is_none_or(|key| !project.inactive.contains(key))
    };
    let documents = translation.documents.iter().filter(is_selected);
    let (groups, services): (Vec<&Translated>, Vec<&Translated>) =
        documents.partition(|document| kind_of(&document.root) == "Group");
    let mut importer = Importer {
        project,
        texts: Texts::new(project, into),
        comments: Comments::of(&project.text),
        access,
        jobs: services.iter().filter_map(|document| job_name(&document.root)).collect(),
        errors: Vec::new(),
    };
    // Comments on anchors go to the first service that uses them; the group is written last, and comes first.
    let services: Vec<SpecFile> =
        services.into_iter().map(|document| importer.service(document, &translation.services)).collect();
    let groups = groups.into_iter().map(|document| importer.group(&document.root, &services));
    let files = groups.collect::<Vec<_>>().into_iter().chain(services).collect();
    let own = diagnostics(project, importer.texts.notes);
    let mut notes = [&project.notes[..], &translation.notes, &translation.tips, &own].concat();
    if selected == Services::All && !project.profiles.is_empty() {
        let profiles = project.profiles.join(",");
        let message = format!("COMPOSE_PROFILES activates {profiles}, which specs do not do");
        notes.push(Diagnostic::new(message).hint(format!("use `--profile {profiles}`, or set DRILLMASTER_PROFILES")));
    }
    let dotenv = join(&project.directory, ".env");
    let is_read = into == project.directory || parent(into) == project.directory;
    if !is_read && access.kind(&dotenv) == FileKind::File {
        let message = format!("`.env` of {} is not read with these specs", project.directory);
        notes.push(Diagnostic::new(message).hint(format!("use `--env-file {dotenv}`")));
    }
    let left_out = translation.errors().cloned().chain(diagnostics(project, importer.errors)).collect();
    Imported { files, left_out, notes }
}

fn kind_of(document: &Node) -> &'static str {
    match document.get("kind").and_then(Node::text) {
        Some("Group") => "Group",
        Some("Job") => "Job",
        _ => "Service",
    }
}

fn name_of(document: &Node) -> &str {
    document.get("name").and_then(Node::text).unwrap_or_default()
}

fn job_name(document: &Node) -> Option<String> {
    (kind_of(document) == "Job").then(|| name_of(document).to_owned())
}

struct Importer<'a> {
    project: &'a Project,
    texts: Texts<'a>,
    comments: Comments<'a>,
    access: &'a dyn Files,
    /// Names of the jobs.
    jobs: BTreeSet<String>,
    errors: Vec<Problem>,
}

impl Importer<'_> {
    fn group(&mut self, document: &Node, services: &[SpecFile]) -> SpecFile {
        let mut fields = Fields { texts: &mut self.texts, is_job: &|_| false, is_built: false };
        let entries: Vec<Entry> = document
            .entries()
            .map(|field| Entry { key: field.key.clone(), value: fields.section(&field.key.text, &field.value) })
            .collect();
        let head = self.comments.take_heads();
        let text = with_head(head, print::print(&entries, &mut self.comments));
        let names = std::iter::once("group".to_owned()).chain((2..).map(|number| format!("group-{number}")));
        let is_free = |name: &String| services.iter().all(|service| service.name != *name);
        let file = names.take(services.len() + 1).find(is_free).unwrap_or_default();
        let name = name_of(document).to_owned();
        SpecFile { file: format!("{file}.yaml"), kind: "Group", name, text, proposal: None }
    }

    fn service(&mut self, document: &Translated, keys: &BTreeMap<String, String>) -> SpecFile {
        let Translated { root, left_out } = document;
        let name = name_of(root).to_owned();
        let service = keys.get(&name).and_then(|key| self.project.root.get("services")?.entry(key));
        let jobs = &self.jobs;
        let is_job = |name: &str| jobs.contains(name);
        let is_built = root.get("build").is_some();
        let mut fields = Fields { texts: &mut self.texts, is_job: &is_job, is_built };
        let mut entries: Vec<Entry> = root
            .entries()
            .map(|field| Entry { key: field.key.clone(), value: fields.field(&field.key.text, &field.value) })
            .collect();
        entries.extend(service.and_then(|service| self.env_files(&service.value)));
        entries.sort_by_key(|entry| FIRST.iter().position(|first| *first == entry.key.text).unwrap_or(FIRST.len()));
        let head = left_out.iter().map(|error| format!("# left out: {}", error.message.replace('\n', " ")));
        let mut text = with_head(head.collect(), print::print(&entries, &mut self.comments));
        if let Some(service) = service {
            self.texts.note_lost(&service.value);
            let rest = self.comments.take_rest(&service.key.span);
            rest.iter().for_each(|comment| text += &format!("{comment}\n"));
        }
        let proposal = pings::proposal(root);
        if let Some(ping) = &proposal {
            text += &format!("# proposed, to wait until it answers:\n# {ping}\n");
        }
        SpecFile { file: format!("{name}.yaml"), kind: kind_of(root), name, text, proposal }
    }

    /// The env files, which are read when the specs are.
    fn env_files(&mut self, service: &Node) -> Option<Entry> {
        let files = service.get("env_file")?;
        let mut items = Vec::new();
        for file in files.items() {
            let path = file.get("path")?;
            let is_required = file.get("required").is_none_or(|required| required.text() != Some("false"));
            let is_missing = text(path).is_some_and(|path| self.access.kind(path) == FileKind::Missing);
            if !is_required && is_missing {
                let message = "the env file does not exist and is left out: specs have no optional ones";
                self.texts.notes.push(Problem::new(&path.span, message).hint("name it in `env_file` once it exists"));
                continue;
            }
            if let Some(format) = file.get("format").filter(|format| text(format) == Some("raw")) {
                let message = "`format: raw` cannot be translated: quotes and `$` in the file have their usual meaning";
                self.errors.push(Problem::new(&format.span, message));
            }
            items.push(self.texts.path(path));
        }
        let is_single = items.len() == 1;
        let value = Value::Seq(items);
        let mut files = entry(files.span.clone(), "env_file", value);
        if is_single && let Value::Seq(items) = &mut files.value.value {
            files.value = items.remove(0);
        }
        (!matches!(&files.value.value, Value::Seq(items) if items.is_empty())).then_some(files)
    }
}

fn with_head(head: Vec<String>, text: String) -> String {
    head.iter().rev().fold(text, |text, line| format!("{line}\n{text}"))
}
