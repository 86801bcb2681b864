//! `include`: other projects in this one.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::node::{Entry, Node, Value};
use super::super::value::quoted;
use super::loader::{Context, Loader, Outcome};
use super::reset::{self, Resets};
use super::values::text;
use super::{FileKind, merge, paths};

/// Sections that an include brings in.
const SECTIONS: [&str; 6] = ["services", "volumes", "networks", "secrets", "configs", "models"];

/// An entry of `include`.
struct Include<'a> {
    span: Range<usize>,
    /// Its first file, and files that are merged onto it.
    files: Vec<&'a Node>,
    directory: Option<&'a Node>,
    env_files: Vec<&'a Node>,
}

impl<'a> Include<'a> {
    fn new(node: &'a Node) -> Include<'a> {
        let list = |key: &str| node.get(key).into_iter().flat_map(Node::items).collect();
        match &node.value {
            Value::Map(_) => Include {
                span: node.span.clone(),
                files: list("path"),
                directory: node.get("project_directory"),
                env_files: list("env_file"),
            },
            _ => Include { span: node.span.clone(), files: vec![node], directory: None, env_files: Vec::new() },
        }
    }
}

impl Loader<'_> {
    /// Brings in what a document includes; its own definitions are merged onto those of the same name.
    pub fn include(
        &mut self,
        document: &mut Node,
        resets: &Resets,
        context: &mut Context,
        included: &[String],
    ) -> Outcome<()> {
        let Value::Map(entries) = &mut document.value else { return Ok(()) };
        let Some(at) = entries.iter().position(|entry| entry.key.text == "include") else { return Ok(()) };
        let include = entries.remove(at).value;
        if include.is_null() {
            return Ok(());
        }
        let Value::Seq(items) = &include.value else {
            return self.refuse(&include.span, "`include` must be a list".to_owned());
        };
        for item in items {
            let imported = self.included(&Include::new(item), context, included)?;
            for section in SECTIONS {
                self.import(document, &imported, section, resets)?;
            }
        }
        Ok(())
    }

    /// Reads an included project.
    fn included(&mut self, include: &Include<'_>, context: &Context, included: &[String]) -> Outcome<Node> {
        let mut files = Vec::new();
        for node in &include.files {
            let Some(path) = text(node) else {
                return self.refuse(&node.span, "expected the path of a compose file".to_owned());
            };
            if paths::is_remote(path) {
                return self.refuse(&node.span, format!("{} is not on this machine", quoted(path)));
            }
            let path = paths::join(&context.directory, &paths::expand_home(path, self.request.home));
            // Reported at the place that names it.
            self.open(&path, Some(&node.span))?;
            files.push(path);
        }
        let Some(first) = files.first() else {
            return self.refuse(&include.span, "`include` has no `path`".to_owned());
        };
        if included.contains(first) {
            return self.refuse(&include.span, format!("`{}` includes itself", self.shown(first)));
        }
        let directory = match include.directory.and_then(text).filter(|directory| !directory.is_empty()) {
            Some(directory) => {
                let directory = paths::join(&context.directory, directory);
                match self.request.access.kind(&directory) {
                    FileKind::Directory => directory,
                    _ => paths::parent(&directory).to_owned(),
                }
            }
            None => paths::parent(first).to_owned(),
        };
        let env_files = self.include_env_files(include, &directory, context)?;
        let mut environment = context.environment.clone();
        for (name, value) in self.read_dotenv(&env_files, &environment)? {
            environment.entry(name).or_insert(value);
        }
        self.model(&files, &mut Context::new(directory, environment), included)
    }

    fn include_env_files(&mut self, include: &Include<'_>, directory: &str, context: &Context) -> Outcome<Vec<String>> {
        let mut env_files = Vec::new();
        for node in &include.env_files {
            let path = paths::join(&context.directory, text(node).unwrap_or_default());
            self.reads.insert(path.clone());
            match self.request.access.kind(&path) {
                // What a project names to have no env file.
                _ if path == "/dev/null" => {}
                FileKind::File => env_files.push(path),
                _ => return self.refuse(&node.span, format!("env file `{}` not found", self.shown(&path))),
            }
        }
        if include.env_files.is_empty() {
            let path = paths::join(directory, ".env");
            self.reads.insert(path.clone());
            env_files.extend((self.request.access.kind(&path) == FileKind::File).then_some(path));
        }
        Ok(env_files)
    }

    fn import(&mut self, document: &mut Node, imported: &Node, section: &str, resets: &Resets) -> Outcome<()> {
        let Some(from) = imported.get(section) else { return Ok(()) };
        if document.get(section).is_none_or(Node::is_null) {
            super::loader::set(document, section, Node { span: from.span.clone(), value: Value::Map(Vec::new()) });
        }
        let Some(Node { value: Value::Map(to), .. }) = document.get_mut(section) else { return Ok(()) };
        let mut problems = Vec::new();
        let known: BTreeMap<String, usize> =
            to.iter().enumerate().map(|(at, entry)| (entry.key.text.clone(), at)).collect();
        for Entry { key, value } in from.entries() {
            let Some(own) = known.get(&key.text).and_then(|at| to.get_mut(*at)) else {
                to.push(Entry { key: key.clone(), value: value.clone() });
                continue;
            };
            let mut base = value.clone();
            reset::apply_to(&mut base, section, &key.text, resets);
            own.value = merge::merge_at(base, own.value.clone(), &[section, "*"], &mut problems);
        }
        self.report(problems)
    }
}
