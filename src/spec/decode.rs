//! Decoder from node trees to typed values. Reports all errors, not only the first.
//!
//! serde stops at the first error. The decoder therefore removes the invalid value from the tree and decodes the rest
//! again until no error is left. Independent of YAML and of the spec types.

use std::fmt;
use std::ops::Range;

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, VariantAccess, Visitor,
};

use super::locate::closest;
use super::node::{Entry, Key, Node, Resolved, Scalar, Style, Value};
use super::secrets::{hide_quoted, is_public};
use super::value::{FUNCTION, VERBATIM, VERBATIM_OR_NULL, quoted};

/// Maximum number of errors recorded per document.
const MAX_ERRORS: usize = 100;

/// Error in a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    pub kind: ErrorKind,
    /// Byte range in the file.
    pub span: Range<usize>,
    /// Keys of the enclosing maps, from the root. For an error about an entry, the last one is its own key.
    pub keys: Vec<String>,
    /// How to fix the error.
    pub hint: Option<String>,
}

/// Kind of a decoding error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorKind {
    /// Any other error, as a message.
    Message(String),
    /// Unknown field, with the known fields of the map.
    UnknownField(String, &'static [&'static str]),
    MissingField(&'static str),
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(message) => f.write_str(message),
            Self::UnknownField(field, _) => write!(f, "unknown field {}", quoted(field)),
            Self::MissingField(field) => write!(f, "missing field `{field}`"),
        }
    }
}

/// Result of decoding a document.
pub struct Decoded<T> {
    /// Value without its invalid parts; `None` if the root could not be decoded.
    pub value: Option<T>,
    pub errors: Vec<DecodeError>,
}

/// Decodes a tree. Replaces invalid values in it with [`Value::Pruned`] and missing fields with
/// [`Value::Placeholder`].
pub fn decode<T: DeserializeOwned>(root: &mut Node) -> Decoded<T> {
    let mut errors = Vec::new();
    // Terminates: each iteration removes a value or fills in a missing field.
    loop {
        let error = match T::deserialize(NodeDeserializer { node: root, field: None }) {
            Ok(value) => return Decoded { value: Some(value), errors },
            Err(error) => *error.0,
        };
        let recovered = recover(root, &error, &mut errors);
        if !recovered || errors.len() >= MAX_ERRORS {
            return Decoded { value: None, errors };
        }
    }
}

/// Records an error and removes its cause from the tree. Returns false if that is not possible.
fn recover(root: &mut Node, error: &Details, errors: &mut Vec<DecodeError>) -> bool {
    let mut path = error.path.clone();
    path.reverse();
    let span = error.span.clone().unwrap_or_else(|| root.span.clone());
    let mut keys = error.keys.clone();
    keys.reverse();
    let mut decode_error = DecodeError { kind: error.kind.clone(), span, keys, hint: error.hint.clone() };
    let Some(node) = root.at_mut(&path) else {
        errors.push(decode_error);
        return false;
    };
    if !decode_error.keys.first().is_some_and(|field| is_public(field)) {
        hide_substituted(node, &mut decode_error);
    }
    if matches!(&node.value, Value::Scalar(scalar) if scalar.style == Style::Pending) {
        // The substitute text of an unknown output does not have to fit the field.
        node.value = Value::Placeholder;
        return true;
    }
    if node.value == Value::Placeholder {
        // The type of the missing field rejects placeholders, so remove the enclosing map. The missing field has been
        // reported.
        path.pop();
        return !path.is_empty() && root.at_mut(&path).map(|map| map.value = Value::Pruned).is_some();
    }
    if let (ErrorKind::MissingField(field), Value::Map(entries)) = (&error.kind, &mut node.value) {
        let placeholder = |span: &Range<usize>| Node { span: span.clone(), value: Value::Placeholder };
        match entries.iter_mut().find(|entry| entry.key.text == *field) {
            // The field is present, but its value was pruned.
            Some(entry) => entry.value = placeholder(&entry.key.span),
            None => {
                // A misspelt field has already been reported as unknown.
                let misspelt =
                    |entry: &Entry| entry.value.value == Value::Pruned && closest(&entry.key.text, [*field]).is_some();
                if !entries.iter().any(misspelt) {
                    errors.push(decode_error);
                }
                let key = Key { span: node.span.clone(), text: (*field).to_owned() };
                entries.push(Entry { value: placeholder(&key.span), key });
            }
        }
        return true;
    }
    // An error about the whole map can be a consequence of its pruned or missing entries, which have been reported.
    let reported = |entry: &Entry| matches!(entry.value.value, Value::Pruned | Value::Placeholder);
    let incomplete = matches!(&node.value, Value::Map(entries) if entries.iter().any(reported));
    if !(incomplete && decode_error.span == node.span) {
        errors.push(decode_error);
    }
    node.value = Value::Pruned;
    !path.is_empty()
}

/// Hides what an error quotes of values of variables and outputs.
fn hide_substituted(node: &Node, error: &mut DecodeError) {
    match &node.value {
        Value::Scalar(scalar) if scalar.style == Style::Substituted => {
            if let ErrorKind::Message(message) = &mut error.kind {
                *message = hide_quoted(message, &scalar.text);
            }
            if let Some(hint) = &mut error.hint {
                *hint = hide_quoted(hint, &scalar.text);
            }
        }
        Value::Map(entries) => entries.iter().for_each(|entry| hide_substituted(&entry.value, error)),
        Value::Seq(items) => items.iter().for_each(|item| hide_substituted(item, error)),
        _ => {}
    }
}

/// A serde error that collects its path while it propagates up the tree.
#[derive(Debug)]
struct Error(Box<Details>);

#[derive(Debug)]
struct Details {
    kind: ErrorKind,
    hint: Option<String>,
    span: Option<Range<usize>>,
    /// Entry and item indexes from the invalid node up to the root.
    path: Vec<usize>,
    keys: Vec<String>,
}

impl Error {
    fn new(kind: ErrorKind) -> Self {
        Self(Box::new(Details { kind, hint: None, span: None, path: Vec::new(), keys: Vec::new() }))
    }

    fn message(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Message(message.into()))
    }

    fn hint(mut self, hint: Option<String>) -> Self {
        self.0.hint = hint;
        self
    }

    /// Sets the span unless an inner node has set a more precise one.
    fn at(mut self, span: &Range<usize>) -> Self {
        self.0.span.get_or_insert_with(|| span.clone());
        self
    }

    fn within_entry(mut self, index: usize, key: &Key) -> Self {
        self.0.keys.push(key.text.clone());
        self.within(index)
    }

    fn within(mut self, index: usize) -> Self {
        self.0.path.push(index);
        self
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.kind.fmt(f)
    }
}

impl de::Error for Error {
    /// Takes the second line as a hint, as formatted by `Invalid`.
    fn custom<T: fmt::Display>(error: T) -> Self {
        let text = error.to_string();
        match text.split_once('\n') {
            Some((message, hint)) => Self::message(message).hint(Some(hint.replace('\n', " "))),
            None => Self::message(text),
        }
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let failure = Self::message(format!("expected {expected}, found {}", Found(&found)));
        match (found, expected.to_string().as_str()) {
            (de::Unexpected::Unit, "text") => failure.hint(Some("write \"\" for an empty value".into())),
            _ => failure,
        }
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let words: Vec<String> = expected.iter().map(|word| format!("`{word}`")).collect();
        let hint = match closest(variant, expected.iter().copied()) {
            Some(word) => format!("did you mean `{word}`?"),
            None => format!("write {}", either(&words)),
        };
        Self::message(format!("unknown value {}", quoted(variant))).hint(Some(hint))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let hint = closest(field, expected.iter().copied()).map(|word| format!("did you mean `{word}`?"));
        Self::new(ErrorKind::UnknownField(field.into(), expected)).hint(hint)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(ErrorKind::MissingField(field))
    }
}

/// Formats alternatives: "`a`, `b` or `c`".
fn either(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

/// Displays an unexpected value in YAML terms.
struct Found<'a>(&'a de::Unexpected<'a>);

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            de::Unexpected::Bool(value) => write!(f, "`{value}`"),
            de::Unexpected::Unsigned(number) => write!(f, "the number {number}"),
            de::Unexpected::Signed(number) => write!(f, "the number {number}"),
            de::Unexpected::Float(number) => write!(f, "the number {number}"),
            de::Unexpected::Str(text) => write!(f, "the text {}", quoted(text)),
            de::Unexpected::Unit | de::Unexpected::Option => f.write_str("nothing"),
            de::Unexpected::Seq => f.write_str("a list"),
            de::Unexpected::Map | de::Unexpected::StructVariant => f.write_str("a map"),
            other => write!(f, "{other}"),
        }
    }
}

/// serde deserializer of a node.
#[derive(Clone, Copy)]
struct NodeDeserializer<'n> {
    node: &'n Node,
    /// Name of the field with this value, for error messages.
    field: Option<&'n str>,
}

type Result<T> = std::result::Result<T, Error>;

impl<'n> NodeDeserializer<'n> {
    /// Describes the value for "expected …, found …".
    fn found(&self) -> String {
        match &self.node.value {
            Value::Scalar(scalar) => match scalar.resolve() {
                Resolved::Null => "nothing".into(),
                Resolved::Bool(_) => quoted(&scalar.text),
                Resolved::Int(_) | Resolved::Float(_) => format!("the number {}", scalar.text),
                Resolved::Text(text) => format!("the text {}", quoted(text)),
            },
            Value::Seq(_) => "a list".into(),
            Value::Map(_) => "a map".into(),
            Value::Function(_) => "a function".into(),
            Value::Pruned | Value::Placeholder => "nothing".into(),
        }
    }

    fn mismatch(&self, expected: &str) -> Error {
        Error::message(format!("expected {expected}, found {}", self.found())).at(&self.node.span)
    }

    /// Returns "a list of ports" for the field `ports`, and "a list" if the name of the field is not a plural.
    fn collection_name(&self, kind: &str) -> String {
        match self
            .field
            .filter(|field| field.ends_with('s') && field.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        {
            Some(field) => format!("{kind} of {}", field.replace('_', " ")),
            None => kind.into(),
        }
    }

    fn scalar(&self) -> Option<&'n Scalar> {
        match &self.node.value {
            Value::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    fn is_poison(&self) -> bool {
        self.node.value == Value::Placeholder
    }

    /// Resolves a scalar; substituted text resolves like a plain scalar.
    fn resolved(&self) -> Option<Resolved<'n>> {
        self.scalar().map(|scalar| match scalar.style {
            Style::Substituted | Style::Pending => super::node::resolve_plain(&scalar.text),
            _ => scalar.resolve(),
        })
    }

    fn text(&self) -> Result<&'n str> {
        if self.is_poison() {
            return Ok("x");
        }
        match self.scalar() {
            Some(scalar) if matches!(scalar.style, Style::Substituted | Style::Pending) => Ok(&scalar.text),
            Some(scalar) => match scalar.resolve() {
                Resolved::Text(text) => Ok(text),
                Resolved::Null => Err(self.mismatch("text").hint(Some("write \"\" for an empty text".into()))),
                _ => Err(self.mismatch("text").hint(Some(format!("write it in quotes: \"{}\"", scalar.text)))),
            },
            None => Err(self.mismatch("text")),
        }
    }

    fn boolean(&self) -> Result<bool> {
        if self.is_poison() {
            return Ok(false);
        }
        match self.resolved() {
            Some(Resolved::Bool(value)) => Ok(value),
            Some(Resolved::Text(text)) => {
                let hint = match text.to_ascii_lowercase().as_str() {
                    "yes" | "on" | "y" => Some("write `true`".into()),
                    "no" | "off" | "n" => Some("write `false`".into()),
                    "true" | "false" => Some("write it without quotes".into()),
                    _ => None,
                };
                Err(self.mismatch("`true` or `false`").hint(hint))
            }
            _ => Err(self.mismatch("`true` or `false`")),
        }
    }

    fn integer(&self, min: i128, max: i128) -> Result<i128> {
        if self.is_poison() {
            return Ok(1);
        }
        match self.resolved() {
            Some(Resolved::Int(number)) if (min..=max).contains(&number) => Ok(number),
            Some(Resolved::Int(_)) => Err(self.mismatch(&format!("a number from {min} to {max}"))),
            Some(Resolved::Text(text)) if matches!(super::node::resolve_plain(text), Resolved::Int(_)) => {
                Err(self.mismatch("a whole number").hint(Some("write it without quotes".into())))
            }
            _ => Err(self.mismatch("a whole number")),
        }
    }

    fn list<V: Visitor<'n>>(&self, visitor: V) -> Result<V::Value> {
        let items: &[Node] = match &self.node.value {
            Value::Seq(items) => items,
            Value::Placeholder => &[],
            _ if self.node.is_null() => &[],
            _ => return Err(self.mismatch(&self.collection_name("a list")).hint(self.list_hint())),
        };
        visitor.visit_seq(Items { items, next: 0 }).map_err(|e| e.at(&self.node.span))
    }

    fn list_hint(&self) -> Option<String> {
        let text = self.scalar()?.text.as_str();
        let simple = !text.is_empty() && text.len() <= 40 && text.chars().all(|c| c.is_ascii_graphic() && c != '"');
        simple.then(|| format!("write a list: [\"{text}\"]"))
    }

    fn map<V: Visitor<'n>>(&self, visitor: V) -> Result<V::Value> {
        let entries: &[Entry] = match &self.node.value {
            Value::Map(entries) => entries,
            Value::Placeholder => &[],
            _ if self.node.is_null() => &[],
            Value::Seq(_) => {
                let hint = "write `key: value` lines, without `- ` in front";
                return Err(self.mismatch(&self.map_name()).hint(Some(hint.into())));
            }
            _ => return Err(self.mismatch(&self.map_name())),
        };
        visitor.visit_map(Entries { entries, next: 0 }).map_err(|e| e.at(&self.node.span))
    }

    fn map_name(&self) -> String {
        match self.field {
            Some("env") => "a map of variables".into(),
            _ => self.collection_name("a map"),
        }
    }

    fn any<V: Visitor<'n>>(&self, visitor: V) -> Result<V::Value> {
        let scalar = match &self.node.value {
            Value::Scalar(scalar) => scalar,
            Value::Seq(_) => return self.list(visitor),
            Value::Map(_) => return self.map(visitor),
            Value::Function(_) => {
                return Err(de::Error::invalid_type(de::Unexpected::Other("a function"), &visitor));
            }
            Value::Pruned => return visitor.visit_unit(),
            Value::Placeholder => return visitor.visit_str("x"),
        };
        match scalar.resolve() {
            Resolved::Null => visitor.visit_unit(),
            Resolved::Bool(value) => visitor.visit_bool(value),
            Resolved::Int(number) => match (u64::try_from(number), i64::try_from(number)) {
                (Ok(number), _) => visitor.visit_u64(number),
                (_, Ok(number)) => visitor.visit_i64(number),
                _ => visitor.visit_str(&scalar.text),
            },
            Resolved::Float(number) => visitor.visit_f64(number),
            Resolved::Text(text) => visitor.visit_borrowed_str(text),
        }
    }

    /// Visits the text of a scalar, whatever it resolves to.
    fn verbatim<V: Visitor<'n>>(&self, visitor: V) -> Result<V::Value> {
        match self.scalar() {
            Some(scalar) if self.node.is_null() && scalar.style == Style::Plain => visitor.visit_unit(),
            Some(scalar) => visitor.visit_borrowed_str(&scalar.text),
            None => self.any(visitor),
        }
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ident)*) => {$(
        fn $method<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value> {
            let number = self.integer($type::MIN.into(), $type::MAX.into())?;
            match $type::try_from(number) {
                Ok(number) => visitor.$visit(number),
                Err(_) => Err(self.mismatch("a whole number")),
            }
        }
    )*};
}

impl<'n> Deserializer<'n> for NodeDeserializer<'n> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value> {
        self.any(visitor).map_err(|e| e.at(&self.node.span))
    }

    fn deserialize_bool<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_bool(self.boolean()?)
    }

    integers! {
        deserialize_i8 visit_i8 i8
        deserialize_i16 visit_i16 i16
        deserialize_i32 visit_i32 i32
        deserialize_i64 visit_i64 i64
        deserialize_u8 visit_u8 u8
        deserialize_u16 visit_u16 u16
        deserialize_u32 visit_u32 u32
        deserialize_u64 visit_u64 u64
    }

    fn deserialize_f32<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value> {
        match self.resolved() {
            Some(Resolved::Float(number)) => visitor.visit_f64(number),
            Some(Resolved::Int(number)) => visitor.visit_f64(number as f64),
            _ if self.is_poison() => visitor.visit_f64(1.0),
            _ => Err(self.mismatch("a number")),
        }
    }

    fn deserialize_str<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_string<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value> {
        // An empty variable counts as an omitted field.
        let empty = |scalar: &Scalar| scalar.style == Style::Substituted && scalar.text.is_empty();
        match self.node.is_null() || self.is_poison() || self.scalar().is_some_and(empty) {
            true => visitor.visit_none(),
            false => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'n>>(self, name: &'static str, visitor: V) -> Result<V::Value> {
        let result = match name {
            // Nothing is not null: only what is written counts.
            VERBATIM_OR_NULL if self.node.is_null() && self.scalar().is_some_and(|scalar| scalar.text.is_empty()) => {
                Err(self.mismatch("text").hint(Some("write \"\" for an empty text, or null".into())))
            }
            VERBATIM | VERBATIM_OR_NULL => self.verbatim(visitor),
            FUNCTION => match self.node.value {
                Value::Function(number) => visitor.visit_u128(number as u128),
                _ => Err(self.mismatch("a function of a `*.star` file")),
            },
            _ => visitor.visit_newtype_struct(self),
        };
        result.map_err(|e| e.at(&self.node.span))
    }

    fn deserialize_seq<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value> {
        self.list(visitor)
    }

    fn deserialize_tuple<V: Visitor<'n>>(self, _: usize, visitor: V) -> Result<V::Value> {
        self.list(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'n>>(self, _: &'static str, _: usize, visitor: V) -> Result<V::Value> {
        self.list(visitor)
    }

    fn deserialize_map<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value> {
        self.map(visitor)
    }

    fn deserialize_struct<V: Visitor<'n>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.map(visitor)
    }

    fn deserialize_enum<V: Visitor<'n>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        let text = match (self.is_poison(), self.scalar()) {
            (true, _) => variants.first().copied().unwrap_or_default(),
            (false, Some(scalar)) if !self.node.is_null() => &scalar.text,
            _ => {
                let words: Vec<String> = variants.iter().map(|word| format!("`{word}`")).collect();
                return Err(self.mismatch(&either(&words)));
            }
        };
        visitor.visit_enum(UnitVariant(text)).map_err(|e| e.at(&self.node.span))
    }

    fn deserialize_ignored_any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! { <V: Visitor<'n>> i128 u128 char bytes byte_buf unit unit_struct identifier }
}

/// Items of a list.
struct Items<'n> {
    items: &'n [Node],
    next: usize,
}

impl<'n> de::SeqAccess<'n> for Items<'n> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'n>>(&mut self, seed: S) -> Result<Option<S::Value>> {
        while let Some(node) = self.items.get(self.next) {
            let index = self.next;
            self.next += 1;
            if node.value == Value::Pruned {
                continue;
            }
            // Without the name of the field: an item of `ports` is not "a list of ports".
            let reader = NodeDeserializer { node, field: None };
            return seed.deserialize(reader).map(Some).map_err(|e| e.at(&node.span).within(index));
        }
        Ok(None)
    }
}

/// Entries of a map.
struct Entries<'n> {
    entries: &'n [Entry],
    /// Index of the entry whose key is decoded next; the next value belongs to the entry before.
    next: usize,
}

impl<'n> de::MapAccess<'n> for Entries<'n> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'n>>(&mut self, seed: S) -> Result<Option<S::Value>> {
        while let Some(Entry { key, value }) = self.entries.get(self.next) {
            let index = self.next;
            self.next += 1;
            if value.value == Value::Pruned {
                continue;
            }
            return seed
                .deserialize(key.text.as_str().into_deserializer())
                .map(Some)
                .map_err(|e: Error| e.at(&key.span).within_entry(index, key));
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'n>>(&mut self, seed: S) -> Result<S::Value> {
        let index = self.next.saturating_sub(1);
        let Some(Entry { key, value }) = self.entries.get(index) else {
            return Err(Error::message("a value without a key"));
        };
        seed.deserialize(NodeDeserializer { node: value, field: Some(&key.text) })
            .map_err(|e| e.at(&value.span).within_entry(index, key))
    }
}

/// Name of an enum variant without data.
struct UnitVariant<'n>(&'n str);

impl<'n> EnumAccess<'n> for UnitVariant<'n> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'n>>(self, seed: S) -> Result<(S::Value, Self)> {
        seed.deserialize(self.0.into_deserializer()).map(|variant| (variant, self))
    }
}

impl<'n> VariantAccess<'n> for UnitVariant<'n> {
    type Error = Error;

    fn unit_variant(self) -> Result<()> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'n>>(self, seed: S) -> Result<S::Value> {
        seed.deserialize(self.0.into_deserializer())
    }

    fn tuple_variant<V: Visitor<'n>>(self, _: usize, _: V) -> Result<V::Value> {
        Err(Error::message("expected one word"))
    }

    fn struct_variant<V: Visitor<'n>>(self, _: &'static [&'static str], _: V) -> Result<V::Value> {
        Err(Error::message("expected one word"))
    }
}
