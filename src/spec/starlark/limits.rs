//! How much a program may do, and what grows within that.
//!
//! The language library counts turns of loops and calls, and asks every thousand of them whether to go on; what makes
//! large values at once asks here before it does (see `guard`).

use std::cell::Cell;
use std::collections::HashSet;

use starlark::environment::{GlobalsBuilder, Module};
use starlark::eval::{Arguments, Evaluator};
use starlark::starlark_module;
use starlark::values::dict::DictRef;
use starlark::values::list::ListRef;
use starlark::values::structs::StructRef;
use starlark::values::tuple::TupleRef;
use starlark::values::{Heap, Value};

use super::guard;
use crate::spec::value::Invalid;

/// How many turns of loops and calls all programs of a spec directory may take together, and one call of a function.
pub(super) const MAX_STEPS: u64 = 1_000_000;
/// How much memory the values of one file may take, in bytes.
pub(super) const MAX_MEMORY: usize = 64 << 20;
/// How deep calls may be nested.
pub(super) const MAX_CALLS: usize = 100;
/// The longest text that is made of others, in bytes.
const MAX_TEXT: usize = 1 << 20;
/// The longest list.
const MAX_ITEMS: usize = 100_000;
/// How deep a value may be nested that a file keeps.
const MAX_DEPTH: usize = 10_000;
/// How many digits a number that is multiplied may have.
const MAX_DIGITS: usize = 1000;
/// How many steps lie between two questions of the library.
const STRIDE: u64 = 1000;

/// What there may be at most, for people.
pub(super) fn table() -> [(&'static str, String); 6] {
    [
        ("steps (turns of loops and calls) of all programs, and of each call of a function", MAX_STEPS.to_string()),
        ("memory of the values of a file", format!("{} MiB", MAX_MEMORY >> 20)),
        ("calls within calls", MAX_CALLS.to_string()),
        ("a text that is made of others", format!("{} MiB", MAX_TEXT >> 20)),
        ("elements of a list that is made of others", MAX_ITEMS.to_string()),
        ("time of all programs; a function has its `timeout`", "10 s".to_owned()),
    ]
}

/// What a program has used, and whether that is too much.
pub(super) struct Meter<'a> {
    steps: Cell<u64>,
    /// Questions to come that stand for no steps: the library also asks after each call from here.
    free: Cell<u64>,
    expired: &'a (dyn Fn() -> bool + Sync),
    exceeded: Cell<Option<Limit>>,
}

/// What a program may not have more of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    Steps,
    Memory,
    Time,
}

impl Limit {
    /// In people's words, with what to do.
    pub fn to_diagnostic(self) -> Invalid {
        match self {
            Limit::Steps => Invalid::new(format!("the program takes more than {MAX_STEPS} steps"))
                .hint("a turn of a loop is a step, and a call is one; is there a loop without end?"),
            Limit::Memory => Invalid::new(format!("the program uses more than {} MiB of memory", MAX_MEMORY >> 20))
                .hint("does a list or a text grow without end?"),
            Limit::Time => Invalid::new("the program takes too long"),
        }
    }
}

impl<'a> Meter<'a> {
    pub fn new(expired: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Self { steps: Cell::new(0), free: Cell::new(0), expired, exceeded: Cell::new(None) }
    }

    /// What stopped the program, if that did.
    pub fn exceeded(&self) -> Option<Limit> {
        self.exceeded.get()
    }

    /// Asked every so many steps; true to stop. Only once: what the library asks after the end would hide where it
    /// was stopped.
    pub fn stops(&self, heap: Heap<'_>) -> bool {
        if self.exceeded.get().is_some() {
            return false;
        }
        match self.free.get() {
            0 => self.steps.set(self.steps.get() + STRIDE),
            free => self.free.set(free - 1),
        }
        let limit = if self.steps.get() > MAX_STEPS {
            Some(Limit::Steps)
        } else if heap.allocated_bytes() > MAX_MEMORY {
            Some(Limit::Memory)
        } else if (self.expired)() {
            Some(Limit::Time)
        } else {
            None
        };
        self.exceeded.set(limit);
        limit.is_some()
    }

    /// One question of the library comes that stands for no steps.
    pub fn for_free(&self) {
        self.free.set(self.free.get() + 1);
    }
}

/// How long a value is when it is written out; `None`: longer than a text may be. What is shared counts as often as it
/// is written.
fn length_of(value: Value<'_>) -> Option<usize> {
    let mut length = 0_usize;
    let mut open = vec![value];
    while let Some(value) = open.pop() {
        length += 2;
        if let Some(text) = value.unpack_str() {
            length += text.len();
        } else if let Some(list) = ListRef::from_value(value) {
            open.extend(list.iter());
        } else if let Some(tuple) = TupleRef::from_value(value) {
            open.extend(tuple.iter());
        } else if let Some(dict) = DictRef::from_value(value) {
            open.extend(dict.iter().flat_map(|(key, value)| [key, value]));
        } else if let Some(fields) = StructRef::from_value(value) {
            open.extend(fields.iter().map(|(_, value)| value));
        } else {
            length += 8;
        }
        if length > MAX_TEXT || open.len() > MAX_TEXT {
            return None;
        }
    }
    Some(length)
}

fn too_long() -> anyhow::Error {
    anyhow::Error::new(Invalid::new(format!("this makes a text of more than {} MiB", MAX_TEXT >> 20)))
}

fn too_many() -> anyhow::Error {
    anyhow::Error::new(Invalid::new(format!("this makes a list of more than {MAX_ITEMS} elements")))
}

fn text_within(length: Option<usize>) -> anyhow::Result<()> {
    if length.is_some_and(|length| length <= MAX_TEXT) { Ok(()) } else { Err(too_long()) }
}

/// Checks what the values take by now.
fn within_memory(eval: &Evaluator<'_, '_, '_>) -> anyhow::Result<()> {
    if eval.heap().allocated_bytes() <= MAX_MEMORY {
        return Ok(());
    }
    // Else what the library asks at the end would hide where this was.
    super::running(eval)?.meter.exceeded.set(Some(Limit::Memory));
    Err(anyhow::Error::new(Limit::Memory.to_diagnostic()))
}

/// Checks that a value can be written out.
pub(super) fn may_be_written<'v>(value: Value<'v>, eval: &Evaluator<'v, '_, '_>) -> anyhow::Result<()> {
    within_memory(eval)?;
    text_within(length_of(value))
}

/// Checks that what a module holds can be kept: that is recursive. Functions are not looked into; each takes so much
/// memory that there cannot be too many.
pub(super) fn may_be_kept(module: &Module<'_>) -> Result<(), Invalid> {
    let names: Vec<_> = module.names().collect();
    let mut open: Vec<(Value<'_>, usize)> =
        names.iter().rev().filter_map(|name| Some((module.get(name.as_str())?, 0))).collect();
    let mut seen = HashSet::new();
    while let Some((value, depth)) = open.pop() {
        if depth > MAX_DEPTH {
            return Err(Invalid::new(format!("the program holds a value that is nested more than {MAX_DEPTH} deep")));
        }
        let inner: Vec<Value<'_>> = if let Some(list) = ListRef::from_value(value) {
            list.iter().collect()
        } else if let Some(tuple) = TupleRef::from_value(value) {
            tuple.iter().collect()
        } else if let Some(dict) = DictRef::from_value(value) {
            dict.iter().flat_map(|(key, value)| [key, value]).collect()
        } else if let Some(fields) = StructRef::from_value(value) {
            fields.iter().map(|(_, value)| value).collect()
        } else {
            continue;
        };
        if seen.insert(value.identity()) {
            open.extend(inner.into_iter().rev().map(|inner| (inner, depth + 1)));
        }
    }
    Ok(())
}

/// How many elements a list or tuple has.
fn items(value: Value<'_>) -> Option<usize> {
    ListRef::from_value(value).map(|list| list.len()).or_else(|| TupleRef::from_value(value).map(TupleRef::len))
}

/// Checks what `+` would make.
fn may_add<'v>(a: Value<'v>, b: Value<'v>, eval: &Evaluator<'v, '_, '_>) -> anyhow::Result<()> {
    within_memory(eval)?;
    if let (Some(a), Some(b)) = (a.unpack_str(), b.unpack_str()) {
        text_within(Some(a.len() + b.len()))?;
    } else if let (Some(a), Some(b)) = (items(a), items(b))
        && a + b > MAX_ITEMS
    {
        return Err(too_many());
    }
    Ok(())
}

/// Checks what `*` would make.
fn may_multiply<'v>(a: Value<'v>, b: Value<'v>, eval: &Evaluator<'v, '_, '_>) -> anyhow::Result<()> {
    within_memory(eval)?;
    for (value, count) in [(a, b), (b, a)] {
        let times = |length: usize| match count.unpack_i32() {
            Some(count) => Some(length.saturating_mul(usize::try_from(count).unwrap_or(0))),
            None if count.get_type() == "int" => Some(usize::MAX).filter(|_| length > 0),
            None => None,
        };
        if let Some(text) = value.unpack_str() {
            text_within(Some(times(text.len()).unwrap_or(0)))?;
        } else if items(value).and_then(times).is_some_and(|items| items > MAX_ITEMS) {
            return Err(too_many());
        } else if value.get_type() == "int"
            && count.get_type() == "int"
            && value.unpack_i32().is_none()
            && digits(value) + digits(count) > MAX_DIGITS
        {
            return Err(anyhow::Error::new(Invalid::new(format!(
                "this makes a number of more than {MAX_DIGITS} digits"
            ))));
        }
    }
    Ok(())
}

/// About how many digits a whole number has.
fn digits(number: Value<'_>) -> usize {
    if number.unpack_i32().is_some() { 10 } else { number.to_str().len() }
}

/// Whether a shift to the left stays a number of a sensible size.
fn may_shift(a: Value<'_>, b: Value<'_>) -> anyhow::Result<()> {
    let small = a.unpack_i32().is_some() && b.unpack_i32().is_none_or(|bits| bits <= 64);
    let numbers = a.get_type() == "int" && b.get_type() == "int";
    if numbers && !small {
        Err(anyhow::Error::new(Invalid::new("this makes a number of more than 64 bits")))
    } else {
        Ok(())
    }
}

/// The longest that a template can become with these arguments, each of which it may name as often as it has braces.
fn formatted<'v>(template: &str, arguments: impl Iterator<Item = Value<'v>>) -> Option<usize> {
    let longest = arguments.map(length_of).try_fold(0, |longest, length| Some(length?.max(longest)))?;
    template.matches('{').count().checked_mul(longest)?.checked_add(template.len())
}

/// The length of a text in which `old` is replaced.
fn replaced(text: &str, old: &str, new: &str) -> usize {
    let count = if old.is_empty() { text.chars().count() + 1 } else { text.matches(old).count() };
    text.len().saturating_add(count.saturating_mul(new.len()))
}

/// Calls the method that was written, with the arguments that come after the first.
fn method<'v>(
    name: &str,
    arguments: &Arguments<'v, '_>,
    eval: &mut Evaluator<'v, '_, '_>,
    check: impl FnOnce(&str, &[Value<'v>]) -> anyhow::Result<()>,
) -> starlark::Result<Value<'v>> {
    let heap = eval.heap();
    let positional: Vec<Value<'v>> = arguments.positions(heap)?.collect();
    let named = arguments.names_map()?;
    let Some((this, positional)) = positional.split_first() else {
        return Err(starlark::Error::new_other(anyhow::anyhow!("`{name}` without anything before it")));
    };
    if let Some(text) = this.unpack_str() {
        within_memory(eval)?;
        let all: Vec<Value<'v>> = positional.iter().copied().chain(named.values().copied()).collect();
        check(text, &all)?;
    }
    let method = this.get_attr_error(name, heap)?;
    let named: Vec<(&str, Value<'v>)> = named.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    super::for_free(eval);
    eval.eval_function(method, positional, &named)
}

/// What the rewritten program calls.
#[starlark_module]
fn guarded(builder: &mut GlobalsBuilder) {
    fn __join<'v>(args: &Arguments<'v, '_>, eval: &mut Evaluator<'v, '_, '_>) -> starlark::Result<Value<'v>> {
        method("join", args, eval, |separator, parts| {
            let Some(parts) = parts.first() else { return Ok(()) };
            let count = items(*parts).unwrap_or(0);
            text_within(length_of(*parts).and_then(|length| separator.len().checked_mul(count)?.checked_add(length)))
        })
    }

    fn __replace<'v>(args: &Arguments<'v, '_>, eval: &mut Evaluator<'v, '_, '_>) -> starlark::Result<Value<'v>> {
        method("replace", args, eval, |text, arguments| match arguments {
            [old, new, ..] => {
                let texts = old.unpack_str().zip(new.unpack_str());
                text_within(Some(texts.map_or(0, |(old, new)| replaced(text, old, new))))
            }
            _ => Ok(()),
        })
    }

    fn __format<'v>(args: &Arguments<'v, '_>, eval: &mut Evaluator<'v, '_, '_>) -> starlark::Result<Value<'v>> {
        method("format", args, eval, |text, arguments| text_within(formatted(text, arguments.iter().copied())))
    }

    fn __more<'v>(
        #[starlark(require = pos)] value: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        within_memory(eval)?;
        text_within(Some(value.unpack_str().map_or(0, str::len)))?;
        if items(value).is_some_and(|items| items > MAX_ITEMS) { Err(too_many()) } else { Ok(value) }
    }

    fn __kept<'v>(
        #[starlark(require = pos)] value: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        within_memory(eval).map(|()| value)
    }

    fn __shown<'v>(
        #[starlark(require = pos)] value: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        within_memory(eval)?;
        text_within(length_of(value)).map(|()| value)
    }
}

/// Operators, each under its own name, which is no valid name.
#[starlark_module]
fn operators(builder: &mut GlobalsBuilder) {
    fn add<'v>(
        #[starlark(require = pos)] a: Value<'v>,
        #[starlark(require = pos)] b: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        may_add(a, b, eval)?;
        a.add(b, eval.heap())
    }

    fn multiply<'v>(
        #[starlark(require = pos)] a: Value<'v>,
        #[starlark(require = pos)] b: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        may_multiply(a, b, eval)?;
        a.mul(b, eval.heap())
    }

    fn percent<'v>(
        #[starlark(require = pos)] a: Value<'v>,
        #[starlark(require = pos)] b: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        if let Some(text) = a.unpack_str() {
            within_memory(eval)?;
            text_within(length_of(b).and_then(|length| length.checked_add(text.len())))?;
        }
        a.percent(b, eval.heap())
    }

    fn shift<'v>(
        #[starlark(require = pos)] a: Value<'v>,
        #[starlark(require = pos)] b: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        may_shift(a, b)?;
        a.left_shift(b, eval.heap())
    }
}

/// Adds what the rewritten program calls.
pub(super) fn add(builder: &mut GlobalsBuilder) {
    guarded(builder);
    let named = GlobalsBuilder::new().with(operators).build();
    let function = |name: &str| named.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
    builder.frozen_heap().add_reference(named.heap());
    for (operator, name) in guard::OPERATORS.iter().zip(["add", "multiply", "percent", "shift"]) {
        if let Some(function) = function(name) {
            builder.set(operator, function);
        }
    }
}
