//! YAML parser: source text to node trees.
//!
//! Rejects syntax errors, duplicate keys, excessive alias expansion and excessive nesting. Independent of the spec types.

mod positions;
mod syntax;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use super::node::{Entry, Key, MAX_DEPTH, Node, Scalar, Style, Value};
use super::value::quoted;
use positions::{Positions, indent};
use syntax::syntax_error;

/// Maximum number of values per file, with aliases expanded.
pub const MAX_NODES: usize = 100_000;

/// Maximum bytes of text per file, with aliases expanded.
pub const MAX_TEXT: usize = 8 * 1024 * 1024;

/// Number of errors after which parsing of a file stops.
const MAX_ERRORS: usize = 200;

/// Maximum number of restarts after syntax errors. Each one scans the rest of the file again.
const MAX_RESTARTS: usize = 20;

/// YAML error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YamlError {
    /// Byte range in the file.
    pub span: Range<usize>,
    pub message: String,
    /// Short text next to the underline of the span; may be empty.
    pub label: &'static str,
    /// Secondary span with its label.
    pub related: Option<(Range<usize>, &'static str)>,
    /// How to fix the error.
    pub hint: Option<String>,
}

impl YamlError {
    fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), label: "", related: None, hint: None }
    }

    fn hint(self, hint: &str) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// Parses a file into its non-empty documents and all errors.
///
/// After a syntax error, parsing resumes at the next document start (`---`).
pub fn parse(text: &str) -> (Vec<Node>, Vec<YamlError>) {
    let builder = parse_with(Builder::new(text));
    (builder.documents, builder.errors)
}

/// Parses a compose file, in which values can have the tags `!reset` and `!override`. A value with `!reset` is
/// [`Value::Pruned`]; the spans of those with `!override` are returned.
pub fn parse_compose(text: &str) -> (Vec<Node>, Vec<YamlError>, HashSet<Range<usize>>) {
    let builder = parse_with(Builder { merge_tags: true, ..Builder::new(text) });
    (builder.documents, builder.errors, builder.overrides)
}

fn parse_with(mut builder: Builder<'_>) -> Builder<'_> {
    let text = builder.text;
    let mut from = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    // Each iteration reaches the end of the file or continues at a later document.
    for _ in 0..=MAX_RESTARTS {
        let next = builder.run(from).and_then(|failed_at| next_document(text, failed_at.max(from)));
        match next.filter(|_| !builder.exhausted) {
            Some(next) => from = next,
            None => break,
        }
    }
    builder
}

/// Returns the offset of the next document start (`---`) after `after`.
fn next_document(text: &str, after: usize) -> Option<usize> {
    let rest = text.get(after..)?;
    rest.match_indices("\n---").map(|(at, _)| after + at + 1).find(|start| {
        text.get(start + 3..).is_none_or(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
    })
}

/// How a run of the parser ended.
enum Stopped {
    AtEnd,
    /// At an error.
    Failed(usize),
    /// At a line in brackets that is not indented enough, which readers of compose files accept.
    BadIndentation(usize),
}

/// Maximum number of lines to which indentation is added; each costs another run.
const MAX_INDENTED: usize = 100;

/// An anchored node with the cost of expanding an alias to it.
struct Anchored {
    node: Node,
    nodes: usize,
    bytes: usize,
    height: usize,
}

/// Tag of a value in a compose file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MergeTag {
    /// `!reset`: removes the value of earlier files.
    Reset,
    /// `!override`: replaces the value of earlier files.
    Override,
}

/// A collection being parsed.
struct Open {
    value: OpenValue,
    tag: Option<MergeTag>,
    start: usize,
    end: usize,
    anchor: usize,
    /// Nesting depth below the collection.
    height: usize,
    /// Totals at its start; the difference at its end is the cost of an alias to it.
    nodes_before: usize,
    bytes_before: usize,
}

enum OpenValue {
    Seq(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        /// Entries from merge keys (`<<`).
        merged: Vec<Entry>,
        /// Spans of the explicit keys, to detect duplicates.
        keys: HashMap<String, Range<usize>>,
        /// Key whose value comes next.
        key: Option<PendingKey>,
        /// A second document begins here without `---`: its entries are ignored.
        second: bool,
    },
}

/// Key of an entry whose value comes next.
enum PendingKey {
    Key(Key),
    /// Merge key (`<<`) with its span.
    Merge(Range<usize>),
    /// Invalid key; the error is recorded and the value discarded.
    Ignored,
}

struct Builder<'t> {
    text: &'t str,
    documents: Vec<Node>,
    errors: Vec<YamlError>,
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    nodes: usize,
    bytes: usize,
    /// A limit was exceeded; the rest of the file is not parsed.
    exhausted: bool,
    /// Whether `!reset` and `!override` are known.
    merge_tags: bool,
    /// Spans of the values with `!override`.
    overrides: HashSet<Range<usize>>,
}

impl<'t> Builder<'t> {
    fn new(text: &'t str) -> Self {
        Self {
            text,
            documents: Vec::new(),
            errors: Vec::new(),
            open: Vec::new(),
            anchors: HashMap::new(),
            nodes: 0,
            bytes: 0,
            exhausted: false,
            merge_tags: false,
            overrides: HashSet::new(),
        }
    }

    /// Parses from a byte offset to the end. Returns the offset of an error that the parser cannot recover from.
    fn run(&mut self, from: usize) -> Option<usize> {
        let before = (self.documents.len(), self.errors.len(), self.nodes, self.bytes);
        let mut indented = BTreeSet::new();
        loop {
            match self.run_indented(from, &indented) {
                Stopped::BadIndentation(at) if indented.len() < MAX_INDENTED && indented.insert(at) => {
                    self.documents.truncate(before.0);
                    self.errors.truncate(before.1);
                    (self.nodes, self.bytes) = (before.2, before.3);
                }
                Stopped::BadIndentation(at) | Stopped::Failed(at) => return Some(at),
                Stopped::AtEnd => return None,
            }
        }
    }

    /// Parses from a byte offset to the end, with more indentation before the characters at the given offsets.
    fn run_indented(&mut self, from: usize, indented: &BTreeSet<usize>) -> Stopped {
        let Some(rest) = self.text.get(from..) else { return Stopped::AtEnd };
        let positions = Positions::new(self.text, from, indented);
        let rest = indent(rest, from, indented);
        self.open.clear();
        self.anchors.clear();
        // Pull events one by one: the parser's own tree builder is recursive.
        for event in Parser::new_from_str(&rest) {
            let result = match event {
                Ok((event, span)) => self.event(event, positions.range(&span)),
                Err(error) => {
                    let at = positions.byte(error.marker());
                    self.errors.push(syntax_error(self.text, &error, at));
                    // Only text in brackets can have too little of it.
                    let is_indentation = error.info().starts_with("invalid indentation");
                    return if is_indentation && self.merge_tags {
                        Stopped::BadIndentation(at)
                    } else {
                        Stopped::Failed(at)
                    };
                }
            };
            if let Err(error) = result {
                let at = error.span.start;
                self.errors.push(*error);
                return Stopped::Failed(at);
            }
            if self.errors.len() >= MAX_ERRORS {
                break;
            }
        }
        Stopped::AtEnd
    }

    fn event(&mut self, event: Event<'_>, span: Range<usize>) -> Result<(), Box<YamlError>> {
        match event {
            Event::DocumentStart(_) => {
                // Anchors are valid in their document only; the parser keeps them.
                self.anchors.clear();
                Ok(())
            }
            Event::Alias(anchor) => self.alias(anchor, span),
            Event::Scalar(text, style, anchor, tag) => {
                let span = self.trimmed(span, &text, style);
                let (merge_tag, tag) = self.merge_tag(tag.as_deref());
                let style = scalar_style(style, tag, &span)?;
                self.count(1, text.len(), &span)?;
                let cost = (1, text.len());
                let node = self.tagged(Node::scalar(span, text, style), merge_tag);
                self.value(node, anchor, 0, cost)
            }
            Event::SequenceStart(anchor, tag) => {
                let (merge_tag, tag) = self.merge_tag(tag.as_deref());
                check_tag(tag, "seq", &span)?;
                self.push(OpenValue::Seq(Vec::new()), merge_tag, anchor, span)
            }
            Event::MappingStart(anchor, tag) => {
                let (merge_tag, tag) = self.merge_tag(tag.as_deref());
                check_tag(tag, "map", &span)?;
                let (entries, merged, keys) = Default::default();
                let map = OpenValue::Map { entries, merged, keys, key: None, second: false };
                self.push(map, merge_tag, anchor, span)
            }
            Event::SequenceEnd | Event::MappingEnd => self.pop(span),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    /// Separates the tags of compose files from all others.
    fn merge_tag<'a>(&self, tag: Option<&'a Tag>) -> (Option<MergeTag>, Option<&'a Tag>) {
        match tag {
            Some(tag) if self.merge_tags && tag.handle == "!" => match tag.suffix.as_str() {
                "reset" => (Some(MergeTag::Reset), None),
                "override" => (Some(MergeTag::Override), None),
                _ => (None, Some(tag)),
            },
            tag => (None, tag),
        }
    }

    fn tagged(&mut self, node: Node, tag: Option<MergeTag>) -> Node {
        match tag {
            Some(MergeTag::Reset) => return Node { value: Value::Pruned, ..node },
            Some(MergeTag::Override) => drop(self.overrides.insert(node.span.clone())),
            None => {}
        }
        node
    }

    /// Removes trailing white space and comments that the parser includes in the span of a scalar.
    fn trimmed(&self, span: Range<usize>, text: &str, style: ScalarStyle) -> Range<usize> {
        if text.is_empty() && style == ScalarStyle::Plain {
            return span.start..span.start; // the parser reports the span of a neighbour
        }
        let source = self.text.get(span.clone()).unwrap_or_default();
        let end = match style {
            ScalarStyle::SingleQuoted => quoted_end(source, '\''),
            ScalarStyle::DoubleQuoted => quoted_end(source, '"'),
            _ => None,
        };
        span.start..span.start + end.unwrap_or(source.trim_end().len())
    }

    /// Adds to the totals and fails if a limit is exceeded.
    fn count(&mut self, nodes: usize, bytes: usize, span: &Range<usize>) -> Result<(), Box<YamlError>> {
        self.nodes = self.nodes.saturating_add(nodes);
        self.bytes = self.bytes.saturating_add(bytes);
        let limit = if self.nodes > MAX_NODES {
            "100,000 values"
        } else if self.bytes > MAX_TEXT {
            "8 MiB of text"
        } else {
            return Ok(());
        };
        self.exhausted = true;
        Err(Box::new(
            YamlError::new(span.clone(), format!("the file contains more than {limit}, with aliases expanded"))
                .hint("split the file, or use fewer aliases of aliases"),
        ))
    }

    fn too_deep(&mut self, span: Range<usize>) -> Box<YamlError> {
        self.exhausted = true;
        Box::new(YamlError::new(span, format!("nested more than {MAX_DEPTH} levels deep")))
    }

    fn push(
        &mut self,
        value: OpenValue,
        tag: Option<MergeTag>,
        anchor: usize,
        span: Range<usize>,
    ) -> Result<(), Box<YamlError>> {
        if self.open.len() >= MAX_DEPTH {
            return Err(self.too_deep(span));
        }
        let (nodes_before, bytes_before) = (self.nodes, self.bytes);
        self.count(1, 0, &span)?;
        let (start, end) = (span.start, span.end);
        self.open.push(Open { value, tag, start, end, anchor, height: 0, nodes_before, bytes_before });
        Ok(())
    }

    fn pop(&mut self, span: Range<usize>) -> Result<(), Box<YamlError>> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        // The end event of a flow collection is its closing bracket, possibly with white space after it. The end event
        // of a block collection is the start of the next token.
        let bracket = self.text.get(span.clone()).is_some_and(|end| end.starts_with([']', '}']));
        let end = if bracket { span.start + 1 } else { open.end };
        let value = match open.value {
            OpenValue::Seq(items) => Value::Seq(items),
            OpenValue::Map { mut entries, merged, .. } => {
                add_missing(&mut entries, merged);
                Value::Map(entries)
            }
        };
        let cost = (self.nodes - open.nodes_before, self.bytes - open.bytes_before);
        let node = self.tagged(Node { span: open.start..end, value }, open.tag);
        self.value(node, open.anchor, open.height + 1, cost)
    }

    fn alias(&mut self, anchor: usize, span: Range<usize>) -> Result<(), Box<YamlError>> {
        let Some(Anchored { nodes, bytes, height, .. }) = self.anchors.get(&anchor) else {
            // Anchors of earlier documents and anchors whose value contains this alias are undefined, too.
            let message = format!("undefined alias {}", self.source(&span));
            return Err(Box::new(
                YamlError::new(span, message)
                    .hint("an anchor (`&name`) can be used in the same document, after the anchored value"),
            ));
        };
        let (nodes, bytes, height) = (*nodes, *bytes, *height);
        self.count(nodes, bytes, &span)?;
        if self.open.len() + height > MAX_DEPTH {
            return Err(self.too_deep(span));
        }
        match self.anchors.get(&anchor).map(|anchored| anchored.node.clone()) {
            Some(node) => self.value(node, 0, height, (nodes, bytes)),
            None => Ok(()),
        }
    }

    fn source(&self, span: &Range<usize>) -> String {
        quoted(self.text.get(span.clone()).unwrap_or_default().trim_end())
    }

    /// Adds a complete node to the enclosing collection, as a key or a value, or to the documents.
    fn value(
        &mut self,
        node: Node,
        anchor: usize,
        height: usize,
        (nodes, bytes): (usize, usize),
    ) -> Result<(), Box<YamlError>> {
        if anchor != 0 {
            self.anchors.insert(anchor, Anchored { node: node.clone(), nodes, bytes, height });
        }
        let is_document = self.open.len() == 1;
        let Some(open) = self.open.last_mut() else {
            if !node.is_null() {
                self.documents.push(node);
            }
            return Ok(());
        };
        open.height = open.height.max(height);
        open.end = open.end.max(node.span.end);
        let error = match &mut open.value {
            OpenValue::Seq(items) => {
                items.push(node);
                None
            }
            OpenValue::Map { key, second: true, .. } => {
                *key = if key.is_none() { Some(PendingKey::Ignored) } else { None };
                None
            }
            OpenValue::Map { entries, merged, keys, key, second } => match key.take() {
                None => {
                    let is_start =
                        is_document && !self.merge_tags && DOCUMENT_KEYS.iter().any(|key| node.text() == Some(key));
                    let (pending, error) = pending_key(node, keys);
                    *second = is_start && error.is_some();
                    *key = Some(pending);
                    error.map(|error| if *second { error.hint(SEPARATE) } else { error })
                }
                Some(PendingKey::Key(key)) => {
                    let is_override = self.overrides.contains(&node.span);
                    let entry = entry(key, node);
                    if is_override {
                        self.overrides.insert(entry.value.span.clone());
                    }
                    entries.push(entry);
                    None
                }
                Some(PendingKey::Merge(span)) => merge(merged, node, span),
                Some(PendingKey::Ignored) => None,
            },
        };
        self.errors.extend(error);
        Ok(())
    }
}

/// Creates an entry. An omitted value gets the span of its key, so that errors can refer to it.
fn entry(key: Key, mut value: Node) -> Entry {
    if value.text() == Some("") && value.span.is_empty() {
        value.span = key.span.clone();
    }
    Entry { key, value }
}

/// Keys that no document has twice: a second one begins the next document.
const DOCUMENT_KEYS: [&str; 2] = ["name", "image"];
const SEPARATE: &str = "if another service begins here, put a line `---` between the two";

fn pending_key(node: Node, keys: &mut HashMap<String, Range<usize>>) -> (PendingKey, Option<YamlError>) {
    let Value::Scalar(Scalar { text, style }) = node.value else {
        let error = YamlError::new(node.span, "a key must be text, found a list or map")
            .hint("quote text that begins with `{` or `[`");
        return (PendingKey::Ignored, Some(error));
    };
    if style == Style::Plain && text == "<<" {
        return (PendingKey::Merge(node.span), None);
    }
    // All other keys are text: `NULL` can be the name of a variable.
    if style == Style::Plain && text.is_empty() {
        return (PendingKey::Ignored, Some(YamlError::new(node.span, "a key is missing before the `:`")));
    }
    if let Some(first) = keys.get(&text) {
        let error = YamlError {
            label: "again here",
            related: Some((first.clone(), "first here")),
            ..YamlError::new(node.span, format!("duplicate key {}", quoted(&text)))
        };
        return (PendingKey::Ignored, Some(error));
    }
    keys.insert(text.clone(), node.span.clone());
    (PendingKey::Key(Key { span: node.span, text }), None)
}

/// Collects the entries of a merge key: a map, or a list of maps where earlier ones take precedence.
fn merge(merged: &mut Vec<Entry>, node: Node, key: Range<usize>) -> Option<YamlError> {
    let maps = match node.value {
        Value::Map(_) => vec![node],
        Value::Seq(items) => items,
        _ => vec![node],
    };
    let mut known: HashSet<String> = merged.iter().map(|entry| entry.key.text.clone()).collect();
    for map in maps {
        let Value::Map(entries) = map.value else {
            return Some(
                YamlError::new(key, "the value of `<<` must be a map or a list of maps").hint("write `<<: *anchor`"),
            );
        };
        merged.extend(entries.into_iter().filter(|entry| known.insert(entry.key.text.clone())));
    }
    None
}

fn add_missing(entries: &mut Vec<Entry>, more: Vec<Entry>) {
    let known: HashSet<String> = entries.iter().map(|entry| entry.key.text.clone()).collect();
    entries.extend(more.into_iter().filter(|entry| !known.contains(&entry.key.text)));
}

/// Returns the end of a quoted scalar at the start of a text; `None` if it does not begin with the quote.
fn quoted_end(source: &str, quote: char) -> Option<usize> {
    let mut chars = source.strip_prefix(quote)?.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' if quote == '"' => drop(chars.next()),
            c if c == quote => match source[1 + at + 1..].starts_with('\'') && quote == '\'' {
                true => drop(chars.next()),
                false => return Some(1 + at + 1),
            },
            _ => {}
        }
    }
    None
}

/// Returns the style of a scalar: only plain ones can be numbers, unless a core schema tag overrides it.
fn scalar_style(style: ScalarStyle, tag: Option<&Tag>, span: &Range<usize>) -> Result<Style, Box<YamlError>> {
    let written = if style == ScalarStyle::Plain { Style::Plain } else { Style::Text };
    match tag {
        None => Ok(written),
        Some(tag) if tag.is_yaml_core_schema() => match tag.suffix.as_str() {
            "str" => Ok(Style::Text),
            "int" | "float" | "bool" | "null" => Ok(Style::Plain),
            _ => Err(unsupported_tag(tag, span)),
        },
        // `! text`: the non-specific tag.
        Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => Ok(Style::Text),
        Some(tag) => Err(unsupported_tag(tag, span)),
    }
}

fn check_tag(tag: Option<&Tag>, allowed: &str, span: &Range<usize>) -> Result<(), Box<YamlError>> {
    match tag {
        Some(tag) if !(tag.is_yaml_core_schema() && tag.suffix == allowed) => Err(unsupported_tag(tag, span)),
        _ => Ok(()),
    }
}

fn unsupported_tag(tag: &Tag, span: &Range<usize>) -> Box<YamlError> {
    let message = format!("unsupported tag {}", quoted(&tag.to_string()));
    Box::new(YamlError::new(span.clone(), message).hint("quote text that begins with `!`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the source text of each scalar, and checks the spans of keys.
    fn spans(text: &str) -> Vec<String> {
        fn walk(node: &Node, text: &str, out: &mut Vec<String>) {
            match &node.value {
                Value::Map(entries) => {
                    for entry in entries {
                        assert_eq!(text[entry.key.span.clone()].trim_matches(['"', '\'']), entry.key.text);
                        walk(&entry.value, text, out);
                    }
                }
                Value::Seq(items) => items.iter().for_each(|item| walk(item, text, out)),
                _ => out.push(text[node.span.clone()].to_owned()),
            }
        }
        let (documents, errors) = parse(text);
        assert_eq!(errors, []);
        let mut out = Vec::new();
        documents.iter().for_each(|node| walk(node, text, &mut out));
        out
    }

    #[test]
    fn spans_are_exact_with_crlf_and_non_ascii_text() {
        let text = "\u{feff}# ü\nname: wéb # c\n'i': \"é\\n\" \nlist:\n- a b  # x\n- 'ö'\n-\n\nflow: {k: v, l: [1, 2 ]}\nnull:\n\
                    block: |\n  é\n  ü\n\nfold: >-\n  a\n  b\nend: x\n---\n\"é\": é\n";
        let expected = ["wéb", "\"é\\n\"", "a b", "'ö'", "", "v", "1", "2", "null", "é\n  ü", "a\n  b", "x", "é"];
        assert_eq!(spans(text), expected);
        let windows = text.replace('\n', "\r\n");
        assert_eq!(spans(&windows), expected.map(|source| source.replace('\n', "\r\n")));
    }

    #[test]
    fn collection_spans_end_with_the_last_element() {
        let span = |text: &'static str| {
            let (documents, errors) = parse(text);
            assert_eq!(errors, []);
            let root = &documents[0];
            let Value::Map(entries) = &root.value else { panic!("{root:?}") };
            &text[entries[0].value.span.clone()]
        };
        assert_eq!(span("a: [1, [2]] # c\nb: c\n"), "[1, [2]]");
        assert_eq!(span("a: {b: {c: d} }\nb: c\n"), "{b: {c: d} }");
        assert_eq!(span("a:\n  b: c\n  d:\n  - e\n\n# c\nb: c\n"), "b: c\n  d:\n  - e");
        assert_eq!(span("a:\n- b: c\n- d\nb: c\n"), "b: c\n- d"); // the parser has consumed the first `- `
        assert_eq!(span("a: \"b # \\\" c\"  # d\nb: c\n"), "\"b # \\\" c\"");
        assert_eq!(span("a: 'b # '' c'  # d\nb: c\n"), "'b # '' c'");
    }

    #[test]
    fn empty_documents_are_skipped() {
        let count = |text: &str| parse(text).0.len();
        assert_eq!(count(""), 0);
        assert_eq!(count("# x\n---\n---\n# y\n...\n"), 0);
        assert_eq!(count("a: b\n---\n---\nc: d\n...\n---\ne: f"), 3);
        assert_eq!(count("~"), 0);
        assert_eq!(count("{}"), 1);
    }

    #[test]
    fn merge_prefers_own_keys_then_earlier_maps() {
        let text = "x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz:\n  <<: [*x, *y]\n  a: 3\n";
        let (documents, errors) = parse(text);
        assert_eq!(errors, []);
        let merged = documents[0].get("z").unwrap();
        let pairs: Vec<_> = merged.entries().map(|e| (e.key.text.as_str(), e.value.text().unwrap())).collect();
        assert_eq!(pairs, [("a", "3"), ("b", "1"), ("c", "2")]);
        assert_eq!(parse("a: &a b\nc:\n  <<: *a\n").1[0].message, "the value of `<<` must be a map or a list of maps");
    }

    #[test]
    fn core_schema_tags_set_the_scalar_style() {
        let (documents, _) = parse("a: !!str 80\nb: !!int \"80\"\nc: ! 80\nd: !x y\n");
        assert!(documents.is_empty());
        let (documents, _) = parse("a: !!str 80\nb: !!int \"80\"\nc: ! 80\n");
        let styles: Vec<_> = documents[0]
            .entries()
            .map(|entry| match &entry.value.value {
                Value::Scalar(scalar) => scalar.style,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(styles, [Style::Text, Style::Plain, Style::Text]);
    }

    #[test]
    fn tags_of_compose_are_kept_beside_the_tree() {
        let text = "a: !reset [b]\nc: !override\n  d: e\nf: !override\ng: [!reset h, i]\n";
        assert_eq!(parse(text).1.len(), 1);
        let (documents, errors, overrides) = parse_compose(text);
        assert_eq!(errors, []);
        let value = |key: &str| {
            let Value::Map(entries) = &documents[0].value else { panic!() };
            entries.iter().find(|entry| entry.key.text == key).unwrap().value.clone()
        };
        assert_eq!(value("a").value, Value::Pruned);
        assert!(overrides.contains(&value("c").span) && overrides.contains(&value("f").span));
        let Value::Seq(items) = value("g").value else { panic!() };
        assert_eq!((items[0].value == Value::Pruned, items[1].text()), (true, Some("i")));
        assert!(!overrides.contains(&items[1].span));
    }

    #[test]
    fn brackets_of_compose_files_need_no_indentation() {
        let text = "a:\n  é: [\n\"ö\",\nb: c,\n  ]\nd: e\n";
        assert_eq!(parse(text).1[0].message, "invalid YAML: wrong indentation");
        let (documents, errors, _) = parse_compose(text);
        assert_eq!(errors, []);
        let list = documents[0].get("a").unwrap().get("é").unwrap();
        let Value::Seq(items) = &list.value else { panic!("{list:?}") };
        assert_eq!(&text[items[0].span.clone()], "\"ö\"");
        assert_eq!(items[1].get("b").and_then(Node::text), Some("c"));
        assert_eq!(&text[documents[0].get("d").unwrap().span.clone()], "e");
        // A list that is not closed is still an error.
        assert!(!parse_compose("a:\n  b: [\nc,\nd: e\n").1.is_empty());
    }
}
