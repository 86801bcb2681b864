//! Texts as a person would write them: with their variables, in the units of the compose file, and with relative paths.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;

use super::super::super::node::{Key, Node, Style, Value};
use super::super::super::paths::{clean, join, parent, relative};
use super::super::super::value::{ByteSize, Period, quoted};
use super::super::template::{Part, Reference, expand_leniently, names, parse};
use super::super::{Problem, Project};
use super::variables::{Variable, escape, rewrite, split};

/// A variable that only compose sets.
const PROJECT_NAME: &str = "COMPOSE_PROJECT_NAME";

/// Writes the texts of a project.
pub(super) struct Texts<'a> {
    pub project: &'a Project,
    /// Directory of the specs, absolute.
    into: &'a str,
    /// Variables that were written since the beginning of the document.
    kept: BTreeSet<String>,
    pub notes: Vec<Problem>,
    noted: HashSet<String>,
}

/// A text in the syntax of specs.
fn written(span: &Range<usize>, text: impl Into<String>) -> Node {
    Node::scalar(span.clone(), text, Style::Pending)
}

impl<'a> Texts<'a> {
    pub fn new(project: &'a Project, into: &'a str) -> Texts<'a> {
        Texts { project, into, kept: BTreeSet::new(), notes: Vec::new(), noted: HashSet::new() }
    }

    /// Returns a scalar with its variables.
    pub fn scalar(&mut self, node: &Node) -> Node {
        let Some(text) = node.text().filter(|_| !node.is_null()) else { return node.clone() };
        let is_plain = matches!(&node.value, Value::Scalar(scalar) if scalar.style == Style::Plain);
        let is_substituted = matches!(&node.value, Value::Scalar(scalar) if scalar.style == Style::Substituted);
        match self.project.template(&node.span) {
            Some(template) => match self.with_variables(template, text) {
                Some(kept) => written(&node.span, kept),
                None if is_substituted => self.uncertain(node, template),
                None if is_plain => node.clone(),
                None => written(&node.span, escape(text)),
            },
            None if is_plain => node.clone(),
            None => {
                let as_written = self.source(&node.span).trim_matches(['"', '\'']);
                let text = if is_same_quantity(as_written, text) { as_written } else { text };
                written(&node.span, escape(text))
            }
        }
    }

    /// Returns the template of a text, or the part of it that the text comes from.
    fn with_variables(&mut self, template: &str, text: &str) -> Option<String> {
        let own = template.split_once('=').map(|(_, value)| value);
        let mut candidates = std::iter::once(template).chain(own);
        let found = candidates.find(|it| self.value(it).is_some_and(|value| is_same(&value, text)));
        if let Some(found) = found {
            return Some(self.rewritten(found));
        }
        // `host:address` is `host=address` here, and a variable of a hook has its name before it.
        if let [host, address @ ..] = split(template, ':').as_slice() {
            let pair = format!("{host}={}", address.join(":"));
            if self.value(&pair).as_deref() == Some(text) {
                return Some(self.rewritten(&pair));
            }
        }
        let value = self.value(template).filter(|value| !value.is_empty())?;
        let prefix = text.strip_suffix(&value).filter(|prefix| prefix.ends_with('='))?;
        Some(escape(prefix) + &self.rewritten(template))
    }

    /// Returns the template of a text that does not follow from it. Its value is not written: it may be secret.
    fn uncertain(&mut self, node: &Node, template: &str) -> Node {
        let message = format!("{} may have another value than in the compose file", quoted(template));
        let hint = "compare the two; variables of included projects belong into `.env` beside the specs";
        self.note(&node.span, message, Some(hint));
        written(&node.span, self.rewritten(template))
    }

    /// Notes that a key has variables in it, of which only the values can be written.
    pub fn check_key(&mut self, key: &Key) {
        let template = self.project.template(&key.span).and_then(|pair| pair.split_once('='));
        if let Some((template, _)) = template.filter(|(template, _)| template.contains('$') && *template != key.text) {
            let message = format!("the key {} is written with the present values of its variables", quoted(template));
            self.note(&key.span, message, None);
        }
    }

    /// Returns true if a text is the value of this variable, and nothing else.
    pub fn is_reference(&self, node: &Node, variable: &str) -> bool {
        self.project.template(&node.span).is_some_and(|template| template == format!("${{{variable}}}"))
    }

    /// Notes that a variable of a container, which is passed through, is not set.
    pub fn note_unset(&mut self, key: &Key) {
        let message = format!("the variable {} is not set, and stays so in the container", quoted(&key.text));
        self.note(&key.span, message, Some("give it a value in `env` when it has one"));
    }

    /// Returns an image without its tag, as it is named when it is built.
    pub fn repository(&mut self, node: &Node) -> Node {
        let Some(template) = self.project.template(&node.span) else { return self.scalar(node) };
        let text = node.text().unwrap_or_default();
        self.kept.extend(self.variables(template));
        let parts = split(template, ':');
        let without_tag = parts.split_last().map(|(_, name)| name.join(":")).unwrap_or_default();
        let found = [template, &without_tag].into_iter().find(|it| self.value(it).as_deref() == Some(text));
        match found {
            Some(template) => written(&node.span, self.rewritten(template)),
            None => {
                let message =
                    format!("{} has a tag, which built images have not: its value is written", quoted(template));
                self.note(&node.span, message, None);
                written(&node.span, escape(text))
            }
        }
    }

    /// Returns a directory for the engine: with its variables if they make its path absolute.
    pub fn directory(&mut self, node: &Node) -> Node {
        let text = node.text().unwrap_or_default();
        match self.project.template(&node.span) {
            Some(template) if self.value(template).as_deref() != Some(text) => {
                let message = format!("the directory {} is written with its present path", quoted(template));
                self.note(&node.span, message, Some("the engine takes absolute paths only"));
                written(&node.span, escape(text))
            }
            _ => self.scalar(node),
        }
    }

    /// Returns a path of the host, relative to the specs if it was relative to the project.
    pub fn path(&mut self, node: &Node) -> Node {
        let template = self.project.template(&node.span).map(str::to_owned);
        self.path_of(node, template.as_deref())
    }

    /// Returns a path that a template, or a part of one, stands for.
    pub fn path_of(&mut self, node: &Node, template: Option<&str>) -> Node {
        let Some(path) = node.text() else { return node.clone() };
        if let Some(template) = template
            && let Some(value) = self.value(template)
            && let Some(text) = self.templated_path(node, template, &value, path)
        {
            return written(&node.span, text);
        }
        let source = self.source(&node.span).trim_start_matches(['"', '\'']);
        let home = self.project.environment.get("HOME").map(|home| home.trim_end_matches('/'));
        let below_home = home.and_then(|home| path.strip_prefix(home)).filter(|rest| rest.starts_with('/'));
        let text = match below_home.filter(|_| source.starts_with('~')) {
            Some(rest) => format!("~{rest}"),
            None if source.starts_with('/') || !path.starts_with('/') => path.to_owned(),
            None => self.relative(path),
        };
        written(&node.span, escape(&text))
    }

    /// Returns the template of a path, relative to the specs. `value` is what it stands for, `path` the whole path.
    fn templated_path(&mut self, node: &Node, template: &str, value: &str, path: &str) -> Option<String> {
        if value.starts_with(['/', '~']) {
            let is_home = value.starts_with('~') && path.ends_with(value.trim_start_matches('~'));
            return (is_home || clean(value) == path).then(|| self.rewritten(template));
        }
        let of_file = self.file_of(&node.span);
        let directories = [self.project.directory.as_str(), parent(&of_file)];
        let from = directories.into_iter().find(|directory| join(directory, value) == path)?;
        let base = relative(self.into, from);
        if template.starts_with('$') {
            let message = format!("paths in {} start at {base}, the directory of the compose file", quoted(template));
            self.note(&node.span, message, Some("remove the prefix if they become absolute"));
        }
        Some(format!("{}/{}", escape(&base), self.rewritten(template.trim_start_matches("./"))))
    }

    /// Returns an absolute path relative to the specs.
    pub fn relative(&self, path: &str) -> String {
        relative(self.into, path)
    }

    /// Says something about the texts, once, at the first place.
    fn note(&mut self, span: &Range<usize>, message: String, hint: Option<&str>) {
        if self.noted.insert(message.clone()) {
            self.notes.push(Problem { hint: hint.map(str::to_owned), ..Problem::new(span, message) });
        }
    }

    fn variables(&self, template: &str) -> Vec<String> {
        parse(template).map(|parts| names(&parts).into_iter().map(str::to_owned).collect()).unwrap_or_default()
    }

    /// Notes the variables of a service that were not written: what became of their values is.
    pub fn note_lost(&mut self, service: &Node) {
        let mut lost = BTreeMap::new();
        self.collect_lost(service, &mut lost);
        self.kept.clear();
        for (variable, span) in lost {
            let message =
                format!("the variable {} is not in the specs: they have what its value means", quoted(&variable));
            self.note(&span, message, None);
        }
    }

    fn collect_lost(&self, node: &Node, lost: &mut BTreeMap<String, Range<usize>>) {
        if let Some(template) = self.project.template(&node.span) {
            let variables = self.variables(template).into_iter();
            for name in variables.filter(|name| name != PROJECT_NAME && !self.kept.contains(name)) {
                lost.entry(name).or_insert_with(|| node.span.clone());
            }
        }
        match &node.value {
            Value::Map(entries) => entries.iter().for_each(|entry| self.collect_lost(&entry.value, lost)),
            Value::Seq(items) => items.iter().for_each(|item| self.collect_lost(item, lost)),
            _ => {}
        }
    }

    /// Returns the value of a template.
    pub fn value(&self, template: &str) -> Option<String> {
        let environment = &self.project.environment;
        expand_leniently(template, &|name| environment.get(name).cloned()).ok().map(|expanded| expanded.text)
    }

    /// Returns a template in the syntax of specs.
    pub fn rewritten(&mut self, template: &str) -> String {
        let Ok(parts) = parse(template) else { return escape(template) };
        self.kept.extend(names(&parts).into_iter().map(str::to_owned));
        let Project { name: project, environment, .. } = self.project;
        let variable = |name: &str| match name {
            PROJECT_NAME => Variable::Fixed(project),
            name if environment.contains_key(name) => Variable::Set,
            _ => Variable::Unset,
        };
        rewrite(&parts, &variable)
    }

    /// Returns a template that is one reference, with another default; `None`: it is more than that.
    pub fn with_default(&mut self, template: &str, default: &str) -> Option<String> {
        match parse(template).ok()?.as_slice() {
            [Part::Reference(Reference { name, .. })] => {
                self.kept.insert((*name).to_owned());
                Some(format!("${{{name}:-{default}}}"))
            }
            _ => None,
        }
    }

    /// Returns the text of a span in the compose file.
    pub fn source(&self, span: &Range<usize>) -> &'a str {
        self.project.source(span)
    }

    fn file_of(&self, span: &Range<usize>) -> String {
        let path = self.project.location(span).file.path().to_owned();
        join(&self.project.directory, &path)
    }
}

/// Returns true if a value is the same as the text that was made of it.
fn is_same(value: &str, text: &str) -> bool {
    let number = |text: &str| text.parse::<f64>().ok();
    value == text || is_same_quantity(value, text) || number(value).is_some_and(|value| number(text) == Some(value))
}

/// Returns true for two spellings of a size or a duration, of which the second one is ours.
fn is_same_quantity(value: &str, text: &str) -> bool {
    let size = |text: &str| text.parse::<ByteSize>().ok();
    let period = |text: &str| text.parse::<Period>().ok();
    let is_size = text.ends_with('b') && size(text).is_some_and(|bytes| size(value) == Some(bytes));
    is_size || period(text).is_some_and(|time| period(value) == Some(time))
}
