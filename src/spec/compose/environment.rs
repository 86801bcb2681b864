//! Env files and label files of services.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::super::locate::SourceText;
use super::super::node::{Node, Resolved, Value};
use super::loader::{Context, Loader, Outcome};
use super::values::text;
use super::{FileKind, Problem};

/// Variables or labels by service.
type OfServices = BTreeMap<String, BTreeMap<String, String>>;

impl Loader<'_> {
    /// Reads the env files and label files of the active services.
    pub fn read_env_files(
        &mut self,
        root: &Node,
        inactive: &BTreeSet<String>,
        context: &Context,
    ) -> Outcome<(OfServices, OfServices)> {
        let (mut variables, mut labels) = (OfServices::new(), OfServices::new());
        for service in root.get("services").into_iter().flat_map(Node::entries) {
            let name = &service.key.text;
            if inactive.contains(name) {
                continue;
            }
            let files = self.env_files_of(&service.value, context)?;
            if !files.is_empty() {
                variables.insert(name.clone(), files);
            }
            let mut own = BTreeMap::new();
            for file in service.value.get("label_file").into_iter().flat_map(Node::items) {
                if let Some(text) = self.open_env_file(file, true)? {
                    own = self.parse_env_file(&text, &BTreeMap::new(), own)?;
                }
            }
            if !own.is_empty() {
                labels.insert(name.clone(), own);
            }
        }
        Ok((variables, labels))
    }

    /// Reads the env files of a service. Their values can refer to the variables of the project, then to the
    /// environment of the service, then to earlier lines.
    fn env_files_of(&mut self, service: &Node, context: &Context) -> Outcome<BTreeMap<String, String>> {
        let mut values = BTreeMap::new();
        let mut known: Option<BTreeMap<String, String>> = None;
        for file in service.get("env_file").into_iter().flat_map(Node::items) {
            let Some(path) = file.get("path") else { continue };
            let is_required = file.get("required").is_none_or(|required| !is_false(required));
            let Some(content) = self.open_env_file(path, is_required)? else { continue };
            let known = known.get_or_insert_with(|| {
                let own = service.get("environment").into_iter().flat_map(Node::entries);
                let own = own.filter(|entry| !entry.value.is_null());
                let own = own.filter_map(|entry| Some((entry.key.text.clone(), entry.value.text()?.to_owned())));
                let mut known: BTreeMap<String, String> = own.collect();
                known.extend(context.environment.clone());
                known
            });
            values = match file.get("format").map(|format| (text(format).unwrap_or_default(), &format.span)) {
                Some(("raw", span)) => self.parse_raw(&content, span, known, values)?,
                None | Some(("" | ".env", _)) => self.parse_env_file(&content, known, values)?,
                Some((_, span)) => {
                    return self.refuse(span, "unknown format of an env file: expected `raw`".to_owned());
                }
            };
        }
        Ok(values)
    }

    /// Returns the text of an env file; `None` if it is missing and not required.
    fn open_env_file(&mut self, node: &Node, is_required: bool) -> Outcome<Option<Arc<SourceText>>> {
        let path = text(node).unwrap_or_default().to_owned();
        self.reads.insert(path.clone());
        let is_missing = self.request.access.kind(&path) == FileKind::Missing;
        if is_missing && is_required && self.request.lenient {
            let problem = Problem::new(&node.span, format!("file `{}` not found", self.shown(&path)));
            let diagnostic = self.diagnostic(problem);
            self.missing.push(diagnostic);
        }
        if is_missing && (!is_required || self.request.lenient) {
            return Ok(None);
        }
        self.open(&path, Some(&node.span)).map(Some)
    }

    /// Parses an env file as `docker run --env-file` does: everything after `=` is the value.
    fn parse_raw(
        &mut self,
        content: &SourceText,
        span: &Range<usize>,
        known: &BTreeMap<String, String>,
        mut values: BTreeMap<String, String>,
    ) -> Outcome<BTreeMap<String, String>> {
        for (index, line) in content.text().trim_start_matches('\u{feff}').lines().enumerate() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, value) = match line.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (line.trim(), known.get(line.trim()).cloned()),
            };
            if name.is_empty() || name.contains([' ', '\t']) {
                let message = format!("{}:{}: invalid name of a variable", content.path(), index + 1);
                self.report(vec![Problem::new(span, message)])?;
            }
            values.extend(value.map(|value| (name.to_owned(), value)));
        }
        Ok(values)
    }
}

fn is_false(node: &Node) -> bool {
    match &node.value {
        Value::Scalar(scalar) => scalar.resolve() == Resolved::Bool(false) || scalar.text == "false",
        _ => false,
    }
}
