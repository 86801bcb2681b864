//! The keys of compose files and the types of their values, by the compose specification.
//!
//! Checked on merged documents, in which short forms and long forms can both occur.

mod keys;

use super::super::locate::closest;
use super::super::node::{Entry, Node, Value};
use super::super::value::quoted;
use super::Problem;
use super::values::{Kind, kind};

/// What a value may be.
#[derive(Clone, Copy)]
enum Schema {
    Any,
    /// A scalar of one of the types.
    Scalar(&'static [Type]),
    /// One of the words.
    Word(&'static [&'static str]),
    /// A text with a property, which the second text names.
    Text(fn(&str) -> bool, &'static str),
    /// A whole number in a range, or text.
    Between(i64, i64),
    List(&'static Schema),
    /// A list without repetitions.
    Unique(&'static Schema),
    /// A map with known keys, of which some are required, and `x-` keys.
    Fields {
        known: &'static [Field],
        required: &'static [&'static str],
    },
    /// The same without `x-` keys.
    Closed {
        known: &'static [Field],
        required: &'static [&'static str],
    },
    /// A map with names as keys.
    Named(&'static Schema),
    /// A map with any keys.
    Map(&'static Schema),
    /// One of several, by the shape of the value.
    Either(&'static [Schema]),
}

type Field = (&'static str, Schema);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Text,
    Bool,
    Int,
    Number,
    Null,
}

/// Checks merged documents.
pub(super) fn check(root: &Node) -> Vec<Problem> {
    let mut problems = Vec::new();
    check_value(root, keys::ROOT, &mut problems);
    problems
}

fn check_value(node: &Node, schema: Schema, problems: &mut Vec<Problem>) {
    if !fits(node, schema) {
        problems.push(Problem::new(&node.span, format!("expected {}, found {}", expected(schema), found(node))));
        return;
    }
    match (schema, &node.value) {
        (Schema::Word(words), _) => check_word(node, words, problems),
        (Schema::Text(is_valid, what), _) if node.text().is_some_and(|text| !is_valid(text)) => {
            problems.push(Problem::new(&node.span, format!("expected {what}, found {}", found(node))));
        }
        (Schema::Between(low, high), _) => {
            if let Kind::Int(value) = kind(node)
                && !(i128::from(low)..=i128::from(high)).contains(&value)
            {
                problems.push(Problem::new(&node.span, format!("expected a number from {low} to {high}")));
            }
        }
        (Schema::List(item), Value::Seq(items)) => items.iter().for_each(|it| check_value(it, *item, problems)),
        (Schema::Unique(item), Value::Seq(items)) => {
            items.iter().for_each(|it| check_value(it, *item, problems));
            check_unique(items, problems);
        }
        (Schema::Fields { known, required }, Value::Map(entries)) => {
            check_fields(node, entries, (known, required), true, problems);
        }
        (Schema::Closed { known, required }, Value::Map(entries)) => {
            check_fields(node, entries, (known, required), false, problems);
        }
        (Schema::Named(item), Value::Map(entries)) => {
            for Entry { key, value } in entries {
                if !is_name(&key.text) {
                    let problem = Problem::new(&key.span, format!("invalid name {}", quoted(&key.text)));
                    problems.push(problem.hint("use letters, digits, `.`, `_` and `-`"));
                }
                check_value(value, *item, problems);
            }
        }
        (Schema::Map(item), Value::Map(entries)) => {
            entries.iter().for_each(|entry| check_value(&entry.value, *item, problems));
        }
        (Schema::Either(schemas), _) => {
            if let Some(schema) = schemas.iter().find(|schema| fits(node, **schema)) {
                check_value(node, *schema, problems);
            }
        }
        _ => {}
    }
}

/// Returns true if a value has the shape of a schema.
fn fits(node: &Node, schema: Schema) -> bool {
    let kind = kind(node);
    match schema {
        Schema::Any => true,
        Schema::Scalar(types) => types.iter().any(|one| is_of(kind, *one)),
        Schema::Word(_) | Schema::Text(..) => is_of(kind, Type::Text),
        Schema::Between(..) => is_of(kind, Type::Int) || is_of(kind, Type::Text),
        Schema::List(_) | Schema::Unique(_) => kind == Kind::List,
        Schema::Fields { .. } | Schema::Closed { .. } | Schema::Named(_) | Schema::Map(_) => kind == Kind::Map,
        Schema::Either(schemas) => schemas.iter().any(|schema| fits(node, *schema)),
    }
}

fn is_of(kind: Kind<'_>, wanted: Type) -> bool {
    match (kind, wanted) {
        (Kind::Float(value), Type::Int) => value.fract() == 0.0,
        (Kind::Text(_), Type::Text)
        | (Kind::Bool(_), Type::Bool)
        | (Kind::Int(_), Type::Int | Type::Number)
        | (Kind::Float(_), Type::Number)
        | (Kind::Null, Type::Null) => true,
        _ => false,
    }
}

fn check_fields(
    node: &Node,
    entries: &[Entry],
    (known, required): (&[Field], &[&str]),
    extensions: bool,
    problems: &mut Vec<Problem>,
) {
    for Entry { key, value } in entries {
        match known.iter().find(|(name, _)| *name == key.text) {
            Some((_, schema)) => check_value(value, *schema, problems),
            None if extensions && key.text.starts_with("x-") => {}
            None => {
                let problem = Problem::new(&key.span, format!("unknown key {}", quoted(&key.text)));
                let similar = closest(&key.text, known.iter().map(|(name, _)| *name));
                problems.push(match similar {
                    Some(similar) => problem.hint(format!("did you mean `{similar}`?")),
                    None if extensions => problem.hint("a key of your own begins with `x-`"),
                    None => problem,
                });
            }
        }
    }
    for name in required {
        if entries.iter().all(|entry| entry.key.text != *name) {
            problems.push(Problem::new(&node.span, format!("the key `{name}` is missing")));
        }
    }
}

fn check_word(node: &Node, words: &[&str], problems: &mut Vec<Problem>) {
    let Some(text) = node.text().filter(|text| !words.contains(text)) else { return };
    let problem = Problem::new(&node.span, format!("expected {}, found {}", one_of(words), quoted(text)));
    problems.push(match closest(text, words.iter().copied()) {
        Some(similar) => problem.hint(format!("did you mean `{similar}`?")),
        None => problem,
    });
}

/// Reports scalars that occur twice, and equal maps.
fn check_unique(items: &[Node], problems: &mut Vec<Problem>) {
    let mut known = std::collections::HashMap::new();
    for item in items {
        let text = match (kind(item), super::values::printed(item)) {
            (Kind::Text(_), Some(text)) => format!("text {text}"),
            (_, Some(text)) => format!("plain {text}"),
            (_, None) => continue,
        };
        if let Some(first) = known.insert(text, &item.span) {
            let problem = Problem::new(&item.span, format!("{} is in the list twice", found(item)));
            problems.push(problem.related(first, "first here"));
        }
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        words => words.join(""),
    }
}

fn expected(schema: Schema) -> String {
    match schema {
        Schema::Any => "a value".to_owned(),
        Schema::Scalar(types) => {
            let names: Vec<&str> = types.iter().map(|one| name_of(*one)).collect();
            join(names.iter().map(|name| (*name).to_owned()).collect())
        }
        Schema::Word(words) => one_of(words),
        Schema::Text(_, what) => what.to_owned(),
        Schema::Between(..) => "a whole number".to_owned(),
        Schema::List(_) | Schema::Unique(_) => "a list".to_owned(),
        Schema::Fields { .. } | Schema::Closed { .. } | Schema::Named(_) | Schema::Map(_) => "a map".to_owned(),
        Schema::Either(schemas) => join(schemas.iter().map(|schema| expected(*schema)).collect()),
    }
}

fn name_of(one: Type) -> &'static str {
    match one {
        Type::Text => "text",
        Type::Bool => "true or false",
        Type::Int => "a whole number",
        Type::Number => "a number",
        Type::Null => "nothing",
    }
}

fn join(mut names: Vec<String>) -> String {
    names.dedup();
    match names.pop() {
        Some(last) if !names.is_empty() => format!("{} or {last}", names.join(", ")),
        last => last.unwrap_or_default(),
    }
}

fn found(node: &Node) -> String {
    match kind(node) {
        Kind::Null => "nothing".to_owned(),
        Kind::Bool(value) => format!("`{value}`"),
        Kind::Int(_) | Kind::Float(_) => format!("the number {}", quoted(node.text().unwrap_or_default())),
        Kind::Date => format!("the date {}", quoted(node.text().unwrap_or_default())),
        Kind::Text("") => "an empty text".to_owned(),
        Kind::Text(text) => quoted(text),
        Kind::List => "a list".to_owned(),
        Kind::Map => "a map".to_owned(),
    }
}
