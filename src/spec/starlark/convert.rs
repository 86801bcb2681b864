//! Conversion of program values to located trees.
//!
//! A value written as a literal in the call gets the location of the literal; any other value gets the location of the
//! call.

use std::ops::Range;

use starlark::values::dict::DictRef;
use starlark::values::list::ListRef;
use starlark::values::structs::StructRef;
use starlark::values::tuple::TupleRef;
use starlark::values::{Heap, Value};

use super::MAX_OUTPUT;
use super::resource::Resource;
use super::spans::ExprSpan;
use crate::spec::node::{Entry, Key, MAX_DEPTH, Node, Style, Value as NodeValue};
use crate::spec::value::{Invalid, quoted};

/// Converter of values to trees.
pub(super) struct Converter<'c, 'v> {
    pub heap: Heap<'v>,
    /// Remaining bytes for generated specs.
    pub remaining: &'c mut usize,
    /// Registers a function and returns its index; `None` for built-in functions.
    pub function: &'c mut dyn FnMut(Value<'v>) -> Option<usize>,
}

/// Approximate size of a node in bytes, without its text.
const NODE_SIZE: usize = 64;

impl<'v> Converter<'_, 'v> {
    /// Converts a value. The location is that of `source`, if known, else `here`.
    pub fn tree(
        &mut self,
        value: Value<'v>,
        source: Option<&ExprSpan>,
        here: &Range<usize>,
        depth: usize,
    ) -> Result<Node, Invalid> {
        let span = source.map_or(here, |source| &source.span).clone();
        if depth > MAX_DEPTH {
            return Err(Invalid::new(format!("nested more than {MAX_DEPTH} levels deep")));
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
            self.list(list.iter(), list.len(), source, span, depth)?
        } else if let Some(tuple) = TupleRef::from_value(value) {
            self.list(tuple.iter(), tuple.len(), source, span, depth)?
        } else if let Some(dict) = DictRef::from_value(value) {
            let entries: Vec<_> = dict.iter().collect();
            self.map(entries.into_iter(), source, span, depth)?
        } else if let Some(fields) = StructRef::from_value(value) {
            self.map(fields.iter().map(|(name, value)| (name.to_value(), value)), source, span, depth)?
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
                    Some(index) => Node { span, value: NodeValue::Function(index) },
                    None => {
                        return Err(
                            Invalid::new("built-in functions are not supported here").hint("wrap it in a `def`")
                        );
                    }
                },
                kind => return Err(Invalid::new(format!("unsupported type {}", quoted(kind)))),
            }
        };
        self.reserve(NODE_SIZE + node.text().map_or(0, str::len))?;
        Ok(node)
    }

    /// Subtracts from the remaining bytes. Fails if none are left.
    fn reserve(&mut self, bytes: usize) -> Result<(), Invalid> {
        match self.remaining.checked_sub(bytes) {
            Some(remaining) => *self.remaining = remaining,
            None => return Err(Invalid::new(format!("the generated specs exceed {} MiB", MAX_OUTPUT >> 20))),
        }
        Ok(())
    }

    fn list(
        &mut self,
        items: impl Iterator<Item = Value<'v>>,
        count: usize,
        source: Option<&ExprSpan>,
        span: Range<usize>,
        depth: usize,
    ) -> Result<Node, Invalid> {
        let item = |(index, item)| {
            let source = source.and_then(|source| source.item(index, count));
            self.tree(item, source, &span, depth + 1)
        };
        let items = items.enumerate().map(item).collect::<Result<_, _>>()?;
        Ok(Node { span, value: NodeValue::Seq(items) })
    }

    fn map(
        &mut self,
        entries: impl Iterator<Item = (Value<'v>, Value<'v>)>,
        source: Option<&ExprSpan>,
        span: Range<usize>,
        depth: usize,
    ) -> Result<Node, Invalid> {
        let entry = |(index, (key, value)): (usize, (Value<'v>, Value<'v>))| {
            let text = match key.unpack_str() {
                Some(text) => text.to_owned(),
                None if key.get_type() == "int" => key.to_str(),
                None => {
                    let found = quoted(&key.to_string_for_type_error());
                    return Err(Invalid::new(format!("a key must be a string or an integer, found {found}")));
                }
            };
            self.reserve(text.len())?;
            let entry = source.and_then(|source| source.entry(&text, index));
            let key_span = entry.map_or(&span, |entry| &entry.key_span).clone();
            // Values of helpers such as `http` have more levels than the call in the source.
            let inner = entry.map(|entry| entry.value.as_ref()).or(source);
            let value = self.tree(value, inner, &span, depth + 1)?;
            Ok(Entry { key: Key { span: key_span, text }, value })
        };
        let entries = entries.enumerate().map(entry).collect::<Result<_, _>>()?;
        Ok(Node { span, value: NodeValue::Map(entries) })
    }
}

/// Prefix of references to outputs.
const CONTEXT: &str = "${context.";

/// Escapes `$` for interpolation, except in references to outputs.
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
    fn dollar_signs_are_escaped() {
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
