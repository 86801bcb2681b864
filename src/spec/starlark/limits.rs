//! Limits on steps, memory and time of programs, and on the size of computed values.
//!
//! The Starlark library counts loop iterations and calls, and invokes the [`Meter`] once per thousand of them. Operations
//! that can create a large value in one step check its size here first; `guard` rewrites programs to that end.

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

/// Maximum number of loop iterations and calls: of all programs of a spec directory together, and of each function call.
pub(super) const MAX_STEPS: u64 = 1_000_000;
/// Maximum memory for the values of one file in bytes.
pub(super) const MAX_MEMORY: usize = 64 << 20;
/// Maximum depth of the call stack.
pub(super) const MAX_CALLS: usize = 100;
/// Maximum length of a computed string in bytes.
const MAX_TEXT: usize = 1 << 20;
/// Maximum length of a computed list.
const MAX_ITEMS: usize = 100_000;
/// Maximum nesting of values in module variables.
const MAX_DEPTH: usize = 10_000;
/// Maximum number of digits of a product.
const MAX_DIGITS: usize = 1000;
/// Number of steps between two checks by the library.
const CHECK_INTERVAL: u64 = 1000;

/// Returns the rows of the table of limits in the reference.
pub(super) fn table() -> [(&'static str, String); 6] {
    [
        (
            "steps (loop iterations and calls), for all programs together and for each function call",
            MAX_STEPS.to_string(),
        ),
        ("memory for the values of a file", format!("{} MiB", MAX_MEMORY >> 20)),
        ("call depth", MAX_CALLS.to_string()),
        ("length of a computed string", format!("{} MiB", MAX_TEXT >> 20)),
        ("elements of a computed list", MAX_ITEMS.to_string()),
        ("time for all programs together; function calls have their own `timeout`", "10 s".to_owned()),
    ]
}

/// Resource usage of a program, compared with the limits.
pub(super) struct Meter<'a> {
    steps: Cell<u64>,
    /// Number of upcoming checks not to count: the library also checks after each call that a built-in function makes.
    skipped_checks: Cell<u64>,
    expired: &'a (dyn Fn() -> bool + Sync),
    exceeded: Cell<Option<Limit>>,
}

/// A limit on a program as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    Steps,
    Memory,
    Time,
}

impl Limit {
    /// Returns the error message and hint.
    pub fn to_diagnostic(self) -> Invalid {
        match self {
            Limit::Steps => Invalid::new(format!("the program takes more than {MAX_STEPS} steps"))
                .hint("loop iterations and calls are steps; check for an endless loop"),
            Limit::Memory => Invalid::new(format!("the program uses more than {} MiB of memory", MAX_MEMORY >> 20))
                .hint("check for a list or string that grows without bound"),
            Limit::Time => Invalid::new("the program timed out"),
        }
    }
}

impl<'a> Meter<'a> {
    pub fn new(expired: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Self { steps: Cell::new(0), skipped_checks: Cell::new(0), expired, exceeded: Cell::new(None) }
    }

    /// Returns the exceeded limit, if any.
    pub fn exceeded(&self) -> Option<Limit> {
        self.exceeded.get()
    }

    /// Returns true if the library must stop the program. Called every [`CHECK_INTERVAL`] steps. Returns true only once: a
    /// further stop, in the library's last check, would replace the location of the first.
    pub fn should_stop(&self, heap: Heap<'_>) -> bool {
        if self.exceeded.get().is_some() {
            return false;
        }
        match self.skipped_checks.get() {
            0 => self.steps.set(self.steps.get() + CHECK_INTERVAL),
            skipped => self.skipped_checks.set(skipped - 1),
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

    /// Excludes the next check by the library from the step count.
    pub fn skip_next_check(&self) {
        self.skipped_checks.set(self.skipped_checks.get() + 1);
    }
}

/// Returns the approximate length of a value printed as text; `None` if it exceeds the maximum. Shared values count as
/// often as they are printed.
fn printed_length(value: Value<'_>) -> Option<usize> {
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
    anyhow::Error::new(Invalid::new(format!("the result is a string of more than {} MiB", MAX_TEXT >> 20)))
}

fn too_many() -> anyhow::Error {
    anyhow::Error::new(Invalid::new(format!("the result is a list of more than {MAX_ITEMS} elements")))
}

fn check_length(length: Option<usize>) -> anyhow::Result<()> {
    if length.is_some_and(|length| length <= MAX_TEXT) { Ok(()) } else { Err(too_long()) }
}

/// Fails if the values exceed the memory limit.
fn check_memory(eval: &Evaluator<'_, '_, '_>) -> anyhow::Result<()> {
    if eval.heap().allocated_bytes() <= MAX_MEMORY {
        return Ok(());
    }
    // Recorded, so that the library's last check does not report the limit at another location.
    super::running(eval)?.meter.exceeded.set(Some(Limit::Memory));
    Err(anyhow::Error::new(Limit::Memory.to_diagnostic()))
}

/// Fails if the value printed as text would be too long.
pub(super) fn check_printable<'v>(value: Value<'v>, eval: &Evaluator<'v, '_, '_>) -> anyhow::Result<()> {
    check_memory(eval)?;
    check_length(printed_length(value))
}

/// Fails if a variable of the module is nested too deeply to be frozen: freezing is recursive. Functions are not
/// inspected: the memory limit bounds their number, and thus their nesting.
pub(super) fn check_freezable(module: &Module<'_>) -> Result<(), Invalid> {
    let names: Vec<_> = module.names().collect();
    let mut open: Vec<(Value<'_>, usize)> =
        names.iter().rev().filter_map(|name| Some((module.get(name.as_str())?, 0))).collect();
    let mut seen = HashSet::new();
    while let Some((value, depth)) = open.pop() {
        if depth > MAX_DEPTH {
            return Err(Invalid::new(format!("a value is nested more than {MAX_DEPTH} levels deep")));
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

/// Returns the number of elements of a list or tuple.
fn item_count(value: Value<'_>) -> Option<usize> {
    ListRef::from_value(value).map(|list| list.len()).or_else(|| TupleRef::from_value(value).map(TupleRef::len))
}

/// Fails if the result of `+` would be too large.
fn check_add<'v>(a: Value<'v>, b: Value<'v>, eval: &Evaluator<'v, '_, '_>) -> anyhow::Result<()> {
    check_memory(eval)?;
    if let (Some(a), Some(b)) = (a.unpack_str(), b.unpack_str()) {
        check_length(Some(a.len() + b.len()))?;
    } else if let (Some(a), Some(b)) = (item_count(a), item_count(b))
        && a + b > MAX_ITEMS
    {
        return Err(too_many());
    }
    Ok(())
}

/// Fails if the result of `*` would be too large.
fn check_multiply<'v>(a: Value<'v>, b: Value<'v>, eval: &Evaluator<'v, '_, '_>) -> anyhow::Result<()> {
    check_memory(eval)?;
    for (value, count) in [(a, b), (b, a)] {
        let times = |length: usize| match count.unpack_i32() {
            Some(count) => Some(length.saturating_mul(usize::try_from(count).unwrap_or(0))),
            None if count.get_type() == "int" => Some(usize::MAX).filter(|_| length > 0),
            None => None,
        };
        if let Some(text) = value.unpack_str() {
            check_length(Some(times(text.len()).unwrap_or(0)))?;
        } else if item_count(value).and_then(times).is_some_and(|items| items > MAX_ITEMS) {
            return Err(too_many());
        } else if value.get_type() == "int"
            && count.get_type() == "int"
            && value.unpack_i32().is_none()
            && digits(value) + digits(count) > MAX_DIGITS
        {
            return Err(anyhow::Error::new(Invalid::new(format!(
                "the result is a number of more than {MAX_DIGITS} digits"
            ))));
        }
    }
    Ok(())
}

/// Returns the approximate number of digits of an integer.
fn digits(number: Value<'_>) -> usize {
    if number.unpack_i32().is_some() { 10 } else { number.to_str().len() }
}

/// Fails if the operands of `<<` are too large.
fn check_shift(a: Value<'_>, b: Value<'_>) -> anyhow::Result<()> {
    let small = a.unpack_i32().is_some() && b.unpack_i32().is_none_or(|bits| bits <= 64);
    let numbers = a.get_type() == "int" && b.get_type() == "int";
    if numbers && !small {
        Err(anyhow::Error::new(Invalid::new("`<<` is limited to 32-bit numbers and shifts of at most 64 bits")))
    } else {
        Ok(())
    }
}

/// Returns the maximum length of a formatted template: each pair of braces may insert the longest argument.
fn formatted_length<'v>(template: &str, arguments: impl Iterator<Item = Value<'v>>) -> Option<usize> {
    let longest = arguments.map(printed_length).try_fold(0, |longest, length| Some(length?.max(longest)))?;
    template.matches('{').count().checked_mul(longest)?.checked_add(template.len())
}

/// Returns the length of a string in which all occurrences of `old` are replaced.
fn replaced_length(text: &str, old: &str, new: &str) -> usize {
    let count = if old.is_empty() { text.chars().count() + 1 } else { text.matches(old).count() };
    text.len().saturating_add(count.saturating_mul(new.len()))
}

/// Calls a method of the first argument with the remaining arguments. Strings are checked first.
fn checked_method<'v>(
    name: &str,
    arguments: &Arguments<'v, '_>,
    eval: &mut Evaluator<'v, '_, '_>,
    check: impl FnOnce(&str, &[Value<'v>]) -> anyhow::Result<()>,
) -> starlark::Result<Value<'v>> {
    let heap = eval.heap();
    let positional: Vec<Value<'v>> = arguments.positions(heap)?.collect();
    let named = arguments.names_map()?;
    let Some((this, positional)) = positional.split_first() else {
        return Err(starlark::Error::new_other(anyhow::anyhow!("`{name}` must be called on a value")));
    };
    if let Some(text) = this.unpack_str() {
        check_memory(eval)?;
        let all: Vec<Value<'v>> = positional.iter().copied().chain(named.values().copied()).collect();
        check(text, &all)?;
    }
    let method = this.get_attr_error(name, heap)?;
    let named: Vec<(&str, Value<'v>)> = named.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    super::skip_next_check(eval);
    eval.eval_function(method, positional, &named)
}

/// Functions that rewritten programs call; see `guard`.
#[starlark_module]
fn guarded(builder: &mut GlobalsBuilder) {
    fn __join<'v>(args: &Arguments<'v, '_>, eval: &mut Evaluator<'v, '_, '_>) -> starlark::Result<Value<'v>> {
        checked_method("join", args, eval, |separator, parts| {
            let Some(parts) = parts.first() else { return Ok(()) };
            let count = item_count(*parts).unwrap_or(0);
            check_length(
                printed_length(*parts).and_then(|length| separator.len().checked_mul(count)?.checked_add(length)),
            )
        })
    }

    fn __replace<'v>(args: &Arguments<'v, '_>, eval: &mut Evaluator<'v, '_, '_>) -> starlark::Result<Value<'v>> {
        checked_method("replace", args, eval, |text, arguments| match arguments {
            [old, new, ..] => {
                let texts = old.unpack_str().zip(new.unpack_str());
                check_length(Some(texts.map_or(0, |(old, new)| replaced_length(text, old, new))))
            }
            _ => Ok(()),
        })
    }

    fn __format<'v>(args: &Arguments<'v, '_>, eval: &mut Evaluator<'v, '_, '_>) -> starlark::Result<Value<'v>> {
        checked_method("format", args, eval, |text, arguments| {
            check_length(formatted_length(text, arguments.iter().copied()))
        })
    }

    fn __add_assign<'v>(
        #[starlark(require = pos)] value: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        check_memory(eval)?;
        check_length(Some(value.unpack_str().map_or(0, str::len)))?;
        if item_count(value).is_some_and(|items| items > MAX_ITEMS) { Err(too_many()) } else { Ok(value) }
    }

    fn __check_memory<'v>(
        #[starlark(require = pos)] value: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        check_memory(eval).map(|()| value)
    }

    fn __check_text<'v>(
        #[starlark(require = pos)] value: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        check_memory(eval)?;
        check_length(printed_length(value)).map(|()| value)
    }
}

/// Replacements of operators. Registered under the operator itself, a name that programs cannot use.
#[starlark_module]
fn operators(builder: &mut GlobalsBuilder) {
    fn add<'v>(
        #[starlark(require = pos)] a: Value<'v>,
        #[starlark(require = pos)] b: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        check_add(a, b, eval)?;
        a.add(b, eval.heap())
    }

    fn multiply<'v>(
        #[starlark(require = pos)] a: Value<'v>,
        #[starlark(require = pos)] b: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        check_multiply(a, b, eval)?;
        a.mul(b, eval.heap())
    }

    fn percent<'v>(
        #[starlark(require = pos)] a: Value<'v>,
        #[starlark(require = pos)] b: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        if let Some(text) = a.unpack_str() {
            check_memory(eval)?;
            check_length(printed_length(b).and_then(|length| length.checked_add(text.len())))?;
        }
        a.percent(b, eval.heap())
    }

    fn shift<'v>(
        #[starlark(require = pos)] a: Value<'v>,
        #[starlark(require = pos)] b: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        check_shift(a, b)?;
        a.left_shift(b, eval.heap())
    }
}

/// Adds the functions that rewritten programs call.
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
