//! Comments of compose files, by the lines that they belong to.
//!
//! A comment belongs to the line that it stands on, or to the next line with content.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::super::locate::SourceText;
use super::super::super::node::{Entry, Node, Value};
use super::super::super::yaml;

/// A comment.
#[derive(Debug)]
struct Comment {
    /// Text with its `#`.
    text: String,
    at: usize,
    /// It has been written.
    taken: bool,
}

/// A line with comments.
#[derive(Debug)]
struct Target {
    /// The line, without indentation.
    line: Range<usize>,
    /// It opens a block, whose first line is indexed as well.
    opens_block: bool,
    /// Numbers of its comments.
    comments: Vec<usize>,
}

/// The comments of the files of a project.
pub(super) struct Comments<'t> {
    source: &'t SourceText,
    /// In the order of their places.
    comments: Vec<Comment>,
    /// By the beginnings of their lines.
    targets: BTreeMap<usize, Target>,
    /// Beginnings of blocks, with those of the lines that open them.
    blocks: BTreeMap<usize, usize>,
    /// Numbers of comments at the end of blocks, by the beginnings of the lines before them.
    ends: BTreeMap<usize, Vec<usize>>,
    /// Beginnings of files up to the line after their first comment block.
    heads: Vec<Range<usize>>,
}

/// A line of a file.
struct Line<'t> {
    start: usize,
    indent: usize,
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
        let (comments, targets, blocks, ends, heads) = Default::default();
        let mut comments = Comments { source, comments, targets, blocks, ends, heads };
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
            let number = self.comments.len();
            let place = offset + line.start + line.content.len();
            self.comments.push(Comment { text: comment.to_owned(), at: place, taken: false });
            let next = with_content.partition_point(|other| *other < at);
            let target = with_content.get(next).map(|at| &lines[*at]);
            // One that is indented more than the next line is the end of what is before it.
            let Some(target) = target.filter(|target| target.indent >= line.indent || line.start == target.start)
            else {
                if let Some(before) = next.checked_sub(1).and_then(|at| with_content.get(at)) {
                    self.ends.entry(lines[*before].range(offset).start).or_default().push(number);
                }
                continue;
            };
            let line_of_target = target.range(offset);
            let block = with_content.get(next + 1).map(|at| lines[*at].range(offset).start);
            let opens_block = target.content.ends_with(':') || target.content.contains(": &");
            let known = self.targets.entry(line_of_target.start).or_insert_with(|| Target {
                line: line_of_target.clone(),
                opens_block: opens_block && block.is_some(),
                comments: Vec::new(),
            });
            known.comments.push(number);
            if let Some(block) = block.filter(|_| opens_block) {
                self.blocks.insert(block, line_of_target.start);
            }
        }
        let first = with_content.first().map_or(0, |at| lines[*at].start);
        self.heads.push(offset..offset + first);
    }

    /// Takes the comments at the beginning of the files.
    pub fn take_heads(&mut self) -> Vec<String> {
        let heads = std::mem::take(&mut self.heads);
        heads.iter().flat_map(|head| self.take_within(head)).collect()
    }

    /// Takes the comments that belong to an entry.
    pub fn take_of(&mut self, entry: &Entry) -> Vec<String> {
        let at = entry.key.span.start;
        // Of a translated entry, only the place of its value is known, which may be below its key.
        let is_key = self.source.slice(&(at..at + entry.key.text.len())) == entry.key.text;
        let is_below = !is_key && at == entry.value.span.start && is_collection(&entry.value);
        self.take_at(at, is_below)
    }

    /// Takes the comments that belong to an item of a list.
    pub fn take_of_item(&mut self, item: &Node) -> Vec<String> {
        self.take_at(item.span.start, false)
    }

    /// Returns true if a comment belongs to something in a value.
    pub fn is_in(&self, value: &Node) -> bool {
        match &value.value {
            Value::Map(entries) => {
                entries.iter().any(|entry| self.has_at(entry.key.span.start) || self.is_in(&entry.value))
            }
            Value::Seq(items) => items.iter().any(|item| self.has_at(item.span.start) || self.is_in(item)),
            _ => false,
        }
    }

    /// Takes the comments in the block of a key that no field took: those of keys that are written otherwise, and
    /// lines that are commented out.
    pub fn take_rest(&mut self, key: &Range<usize>) -> Vec<String> {
        let block = self.source.block_at(key.start);
        self.take_within(&block)
    }

    /// Takes the comments at the end of a block.
    pub fn take_end_of(&mut self, value: &Node) -> Vec<String> {
        if !is_collection(value) {
            return Vec::new();
        }
        let ends = self.ends.range(value.span.start..=value.span.end);
        let numbers: Vec<usize> = ends.flat_map(|(_, numbers)| numbers).copied().collect();
        self.take_numbers(&numbers)
    }

    fn take_within(&mut self, range: &Range<usize>) -> Vec<String> {
        let start = self.comments.partition_point(|comment| comment.at < range.start);
        let within = self.comments[start..].iter_mut().take_while(|comment| comment.at < range.end);
        within.filter(|comment| !comment.taken).map(taken).collect()
    }

    fn take_at(&mut self, at: usize, is_below: bool) -> Vec<String> {
        let numbers = self.target(at, is_below).map(|target| target.comments.clone()).unwrap_or_default();
        self.take_numbers(&numbers)
    }

    fn take_numbers(&mut self, numbers: &[usize]) -> Vec<String> {
        let mut texts = Vec::new();
        for number in numbers {
            texts.extend(self.comments.get_mut(*number).filter(|comment| !comment.taken).map(taken));
        }
        texts
    }

    fn has_at(&self, at: usize) -> bool {
        let target = self.target(at, false);
        target.is_some_and(|target| target.comments.iter().any(|number| !self.comments[*number].taken))
    }

    /// The line with comments at a place; `is_below`: the one that opens the block which begins there.
    fn target(&self, at: usize, is_below: bool) -> Option<&Target> {
        if is_below && let Some(line) = self.blocks.get(&at) {
            return self.targets.get(line);
        }
        let (start, target) = self.targets.range(..=at).next_back()?;
        let is_on_it = *start == at || target.line.contains(&at);
        // On the line of its key, unless that opens a block.
        let is_own = !is_below || *start != at && !target.opens_block;
        (is_on_it && is_own).then_some(target)
    }
}

fn taken(comment: &mut Comment) -> String {
    comment.taken = true;
    comment.text.clone()
}

fn is_collection(node: &Node) -> bool {
    matches!(node.value, Value::Map(_) | Value::Seq(_))
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
        lines.push(Line { start: start + indent, indent, content, comment: comment.map(|at| &line[at..]) });
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
        let found: Vec<(&str, &str)> = comments
            .targets
            .values()
            .flat_map(|target| target.comments.iter().map(|number| (*number, &text[target.line.clone()])))
            .map(|(number, line)| (comments.comments[number].text.as_str(), line))
            .collect();
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
        let ends: Vec<&str> =
            comments.ends.values().flatten().map(|number| comments.comments[*number].text.as_str()).collect();
        assert_eq!(ends, ["# B: 2"]);
    }
}
