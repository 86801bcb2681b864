//! From a value of a program to a tree in which everything knows its place.
//!
//! A value that is written out in the call stands where it is written; any other stands where the call does.

use std::ops::Range;

use starlark::values::dict::DictRef;
use starlark::values::list::ListRef;
use starlark::values::structs::StructRef;
use starlark::values::tuple::TupleRef;
use starlark::values::{Heap, Value};

use super::resource::Resource;
use super::written::Written;
use crate::spec::node::{Entry, Key, MAX_DEPTH, Node, Style, Value as Said};
use crate::spec::value::{Invalid, quoted};

/// Makes trees of values.
pub(super) struct Converter<'c, 'v> {
    pub heap: Heap<'v>,
    /// How much may still come, in bytes.
    pub room: &'c mut usize,
    /// Takes a function that stands as a value, and gives the number by which it is known.
    pub function: &'c mut dyn FnMut(Value<'v>) -> Option<usize>,
}

/// What the tree takes beside its texts.
const NODE: usize = 64;

impl<'v> Converter<'_, 'v> {
    /// The tree of a value that is written like this, else stands here.
    pub fn tree(
        &mut self,
        value: Value<'v>,
        written: Option<&Written>,
        here: &Range<usize>,
        depth: usize,
    ) -> Result<Node, Invalid> {
        let span = written.map_or(here, |written| &written.span).clone();
        if depth > MAX_DEPTH {
            return Err(Invalid::new(format!("a value that is nested more than {MAX_DEPTH} deep")));
        }
        let plain = |text: String| Node::scalar(span.clone(), text, Style::Plain);
        let node = if value.is_none() {
            plain("null".into())
        } else if let Some(truth) = value.unpack_bool() {
            plain(truth.to_string())
        } else if let Some(text) = value.unpack_str() {
            Node::scalar(span, escaped(text), Style::Text)
        } else if let Some(resource) = Resource::from_value(value) {
            Node::scalar(span, resource.name.as_str(), Style::Text)
        } else if let Some(list) = ListRef::from_value(value) {
            self.list(list.iter(), list.len(), written, span, depth)?
        } else if let Some(tuple) = TupleRef::from_value(value) {
            self.list(tuple.iter(), tuple.len(), written, span, depth)?
        } else if let Some(dict) = DictRef::from_value(value) {
            let entries: Vec<_> = dict.iter().collect();
            self.map(entries.into_iter(), written, span, depth)?
        } else if let Some(fields) = StructRef::from_value(value) {
            self.map(fields.iter().map(|(name, value)| (name.to_value(), value)), written, span, depth)?
        } else {
            match value.get_type() {
                "int" | "float" => plain(value.to_str()),
                "set" | "range" => {
                    let items: Vec<Value<'v>> =
                        value.iterate(self.heap).map_err(|error| Invalid::new(error.to_string()))?.collect();
                    let count = items.len();
                    self.list(items.into_iter(), count, None, span, depth)?
                }
                "function" => match (self.function)(value) {
                    Some(index) => Node { span, value: Said::Function(index) },
                    None => return Err(Invalid::new("a built-in function cannot stand here").hint("write a `def`")),
                },
                kind => return Err(Invalid::new(format!("a value of type {} cannot stand here", quoted(kind)))),
            }
        };
        self.takes(NODE + node.text().map_or(0, str::len))?;
        Ok(node)
    }

    fn takes(&mut self, bytes: usize) -> Result<(), Invalid> {
        match self.room.checked_sub(bytes) {
            Some(room) => *self.room = room,
            None => return Err(Invalid::new("the program makes more specs than are read: tens of MiB")),
        }
        Ok(())
    }

    fn list(
        &mut self,
        items: impl Iterator<Item = Value<'v>>,
        count: usize,
        written: Option<&Written>,
        span: Range<usize>,
        depth: usize,
    ) -> Result<Node, Invalid> {
        let item = |(index, item)| {
            let written = written.and_then(|written| written.item(index, count));
            self.tree(item, written, &span, depth + 1)
        };
        let items = items.enumerate().map(item).collect::<Result<_, _>>()?;
        Ok(Node { span, value: Said::Seq(items) })
    }

    fn map(
        &mut self,
        entries: impl Iterator<Item = (Value<'v>, Value<'v>)>,
        written: Option<&Written>,
        span: Range<usize>,
        depth: usize,
    ) -> Result<Node, Invalid> {
        let entry = |(index, (key, value)): (usize, (Value<'v>, Value<'v>))| {
            let text = match key.unpack_str() {
                Some(text) => text.to_owned(),
                None if key.get_type() == "int" => key.to_str(),
                None => {
                    let found = quoted(&key.to_string_for_type_error());
                    return Err(Invalid::new(format!("a key is a text, found {found}")));
                }
            };
            self.takes(text.len())?;
            let entry = written.and_then(|written| written.entry(&text, index));
            let key_span = entry.map_or(&span, |entry| &entry.key_span).clone();
            // What a helper such as `http` makes of its arguments has more levels than the call.
            let inner = entry.map(|entry| entry.value.as_ref()).or(written);
            let value = self.tree(value, inner, &span, depth + 1)?;
            Ok(Entry { key: Key { span: key_span, text }, value })
        };
        let entries = entries.enumerate().map(entry).collect::<Result<_, _>>()?;
        Ok(Node { span, value: Said::Map(entries) })
    }
}

/// What begins a reference to an output.
const CONTEXT: &str = "${context.";

/// A text in which `$` is an ordinary character, but for references to outputs, as what reads references wants it.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        out.push_str(if from.starts_with(CONTEXT) { "$" } else { "$$" });
        rest = &from[1..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn a_dollar_is_a_dollar() {
        for (text, expected) in [
            ("plain", "plain"),
            ("$A ${B} $$", "$$A $${B} $$$$"),
            ("a${context.key}b$", "a${context.key}b$$"),
            ("${contextual}", "$${contextual}"),
        ] {
            assert_eq!(escaped(text), expected);
        }
    }
}
