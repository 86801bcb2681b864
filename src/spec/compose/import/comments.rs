//! Comments of compose files, by the lines that they belong to.
//!
//! A comment belongs to the line that it stands on, or to the next line with content.

use std::ops::Range;

use super::super::super::locate::SourceText;
use super::super::super::node::{Entry, Node, Value};
use super::super::super::yaml;

/// A comment that has not been written yet.
#[derive(Debug)]
struct Comment {
    /// Text with its `#`.
    text: String,
    at: usize,
    /// The line that it belongs to, without indentation.
    target: Range<usize>,
    /// The first line of the block that the line opens.
    block: Option<Range<usize>>,
}

/// The comments of the files of a project, in their order.
pub(super) struct Comments<'t> {
    source: &'t SourceText,
    comments: Vec<Comment>,
    /// Beginnings of files up to the line after their first comment block.
    heads: Vec<Range<usize>>,
}

/// A line of a file.
struct Line<'t> {
    start: usize,
    /// Content without indentation and comment.
    content: &'t str,
    comment: Option<&'t str>,
}

impl Line<'_> {
    fn range(&self, offset: usize) -> Range<usize> {
        offset + self.start..offset + self.start + self.content.len()
    }
}

impl<'t> Comments<'t> {
    /// Finds the comments of files.
    pub fn of(source: &'t SourceText) -> Comments<'t> {
        let mut comments = Comments { source, comments: Vec::new(), heads: Vec::new() };
        for (offset, file) in source.files() {
            comments.add(offset, file.text());
        }
        comments
    }

    fn add(&mut self, offset: usize, text: &str) {
        let lines = lines(text);
        let with_content: Vec<usize> = (0..lines.len()).filter(|at| !lines[*at].content.is_empty()).collect();
        for (at, line) in lines.iter().enumerate() {
            let Some(comment) = line.comment else { continue };
            let next = with_content.partition_point(|other| *other < at);
            let Some(target) = with_content.get(next).map(|at| &lines[*at]) else { continue };
            let opens_block = target.content.ends_with(':') || target.content.contains(": &");
            let block = with_content.get(next + 1).filter(|_| opens_block).map(|at| lines[*at].range(offset));
            let at = offset + line.start + line.content.len();
            self.comments.push(Comment { text: comment.to_owned(), at, target: target.range(offset), block });
        }
        let first = with_content.first().map_or(0, |at| lines[*at].start);
        self.heads.push(offset..offset + first);
    }

    /// Takes the comments at the beginning of the files.
    pub fn take_heads(&mut self) -> Vec<String> {
        let heads = std::mem::take(&mut self.heads);
        self.take(|comment| heads.iter().any(|head| head.contains(&comment.at)))
    }

    /// Takes the comments that belong to an entry.
    pub fn take_of(&mut self, entry: &Entry) -> Vec<String> {
        let at = entry.key.span.start;
        // Of a translated entry, only the place of its value is known, which may be below its key.
        let is_key = self.source.slice(&(at..at + entry.key.text.len())) == entry.key.text;
        let is_below = !is_key && at == entry.value.span.start && is_collection(&entry.value);
        self.take(|comment| belongs(comment, at, is_below))
    }

    /// Takes the comments that belong to an item of a list.
    pub fn take_of_item(&mut self, item: &Node) -> Vec<String> {
        let at = item.span.start;
        self.take(|comment| belongs(comment, at, false))
    }

    /// Returns true if a comment belongs to something in a value.
    pub fn is_in(&self, value: &Node) -> bool {
        let has = |at: usize| self.comments.iter().any(|comment| belongs(comment, at, false));
        match &value.value {
            Value::Map(entries) => entries.iter().any(|entry| has(entry.key.span.start) || self.is_in(&entry.value)),
            Value::Seq(items) => items.iter().any(|item| has(item.span.start) || self.is_in(item)),
            _ => false,
        }
    }

    /// Takes the comments in the block of a key that no field took: those of keys that are written otherwise, and
    /// lines that are commented out.
    pub fn take_rest(&mut self, key: &Range<usize>) -> Vec<String> {
        let block = self.source.block_at(key.start);
        self.take(|comment| block.contains(&comment.at))
    }

    fn take(&mut self, is_taken: impl Fn(&Comment) -> bool) -> Vec<String> {
        let taken = self.comments.extract_if(.., |comment| is_taken(comment));
        taken.map(|comment| comment.text).collect()
    }
}

fn is_collection(node: &Node) -> bool {
    matches!(node.value, Value::Map(_) | Value::Seq(_))
}

fn belongs(comment: &Comment, at: usize, is_below: bool) -> bool {
    let is_first = |line: &Range<usize>| line.start == at || line.contains(&at) && !is_below;
    match &comment.block {
        Some(block) if is_below => block.start == at,
        _ if is_below => comment.target.contains(&at) && comment.target.start != at,
        _ => is_first(&comment.target),
    }
}

/// Splits a file into lines with their comments. A `#` in a scalar is none.
fn lines(text: &str) -> Vec<Line<'_>> {
    let (documents, ..) = yaml::parse_compose(text);
    let mut scalars: Vec<Range<usize>> = Vec::new();
    documents.iter().for_each(|document| collect(document, &mut scalars));
    scalars.sort_by_key(|span| span.start);
    let mut lines = Vec::new();
    let mut start = 0;
    for raw in text.split_inclusive('\n') {
        let line = raw.trim_end();
        let indent = line.len() - line.trim_start().len();
        let comment = line.match_indices('#').map(|(at, _)| at).find(|at| {
            let is_apart = *at == indent || line[..*at].ends_with([' ', '\t']);
            is_apart && !is_within(&scalars, start + at)
        });
        let content = line[..comment.unwrap_or(line.len())].trim();
        lines.push(Line { start: start + indent, content, comment: comment.map(|at| &line[at..]) });
        start += raw.len();
    }
    lines
}

fn is_within(scalars: &[Range<usize>], at: usize) -> bool {
    let before = scalars.partition_point(|span| span.start <= at);
    before.checked_sub(1).is_some_and(|last| scalars[last].contains(&at))
}

fn collect(node: &Node, scalars: &mut Vec<Range<usize>>) {
    match &node.value {
        Value::Map(entries) => entries.iter().for_each(|entry| {
            scalars.push(entry.key.span.clone());
            collect(&entry.value, scalars);
        }),
        Value::Seq(items) => items.iter().for_each(|item| collect(item, scalars)),
        _ => scalars.push(node.span.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_belong_to_lines() {
        let text = "# head\n\nservices:\n  # above\n  web: # beside\n    image: \"a # b\" # image\n    command: |\n      # no\n    # env\n    environment:\n      # A\n      A: 1\n      # B: 2\n";
        let source = SourceText::new("compose.yaml", text);
        let comments = Comments::of(&source);
        let found: Vec<(&str, &str)> =
            comments.comments.iter().map(|comment| (comment.text.as_str(), &text[comment.target.clone()])).collect();
        assert_eq!(
            found,
            [
                ("# head", "services:"),
                ("# above", "web:"),
                ("# beside", "web:"),
                ("# image", "image: \"a # b\""),
                ("# env", "environment:"),
                ("# A", "A: 1"),
            ]
        );
    }
}
