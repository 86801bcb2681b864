//! Built-in functions of programs.

use std::collections::{BTreeMap, BTreeSet};

use starlark::collections::SmallMap;
use starlark::environment::{Globals, GlobalsBuilder, LibraryExtension};
use starlark::eval::Evaluator;
use starlark::starlark_module;
use starlark::values::dict::AllocDict;
use starlark::values::none::NoneType;
use starlark::values::{Heap, Value};

use super::convert::Converter;
use super::resource::Resource;
use super::{Document, Evaluation, FunctionName, Pending, call_span, keep, running, spec_path};
use crate::spec::node::{Entry, Key, Node, Style, Value as NodeValue};
use crate::spec::value::{Invalid, quoted};

/// Builds the global environment: the language's own names and the built-in functions.
pub(super) fn globals() -> Globals {
    use LibraryExtension::{Filter, Map, Print, SetType, StructType};
    let mut builder = GlobalsBuilder::extended_by(&[StructType, SetType, Map, Filter, Print]);
    kinds(&mut builder);
    helpers(&mut builder);
    inputs(&mut builder);
    builder.namespace("json", json);
    builder.build()
}

fn native_error(invalid: Invalid) -> starlark::Error {
    starlark::Error::new_native(invalid)
}

/// Returns the running evaluation. Fails in hooks and pings, which run after it has ended.
fn evaluation<'a>(eval: &Evaluator<'_, 'a, '_>, name: &str) -> starlark::Result<&'a Evaluation<'a>> {
    running(eval)?.evaluation.ok_or_else(|| {
        let message = format!("`{name}` is not available in hooks and pings");
        native_error(Invalid::new(message).hint("call it outside the function and use the result inside"))
    })
}

/// Fields that accept functions, directly or nested.
const FUNCTION_FIELDS: [&str; 6] = ["ping", "pre_start", "post_start", "pre_stop", "post_stop", "on"];

/// Adds a document with the arguments of a call as fields.
fn add_document<'v>(
    kind: &str,
    function: &str,
    fields: &SmallMap<String, Value<'v>>,
    eval: &mut Evaluator<'v, '_, '_>,
) -> starlark::Result<Resource> {
    let evaluation = evaluation(eval, function)?;
    let (path, at) = call_span(eval).unwrap_or_default();
    let (here, call) = {
        let calls = evaluation.calls.borrow();
        let (base, calls) = calls.get(&path).map_or((0, None), |(base, calls)| (*base, Some(calls)));
        let key = (at.start as u32, at.end as u32);
        let call = calls.and_then(|calls| calls.get(&key)).cloned();
        (base + at.start..base + at.end, call)
    };
    let mut remaining = evaluation.remaining.get();
    let mut entries = vec![Entry {
        key: Key { span: here.clone(), text: "kind".into() },
        value: Node::scalar(here.clone(), kind, Style::Text),
    }];
    for (index, (name, value)) in fields.iter().enumerate() {
        let source = call.as_ref().and_then(|call| call.entry(name, index));
        let mut function = |value| register_function(evaluation, value, eval);
        let mut converter = Converter { heap: value_heap(eval), remaining: &mut remaining, function: &mut function };
        let value = converter.tree(*value, source.map(|entry| entry.value.as_ref()), &here, 0);
        let mut value = value
            .map_err(|invalid| Invalid { message: format!("`{name}`: {}", invalid.message), ..invalid })
            .map_err(native_error)?;
        if FUNCTION_FIELDS.contains(&name.as_str()) {
            wrap_functions(&mut value);
        }
        let span = source.map_or(&here, |entry| &entry.key_span).clone();
        entries.push(Entry { key: Key { span, text: name.clone() }, value });
    }
    evaluation.remaining.set(remaining);
    let root = Node { span: here, value: NodeValue::Map(entries) };
    let frames = {
        let mut frames = eval.call_stack().into_frames();
        // The last frame is this call itself.
        frames.pop();
        let files = evaluation.files.borrow();
        let location = |frame: starlark::codemap::FileSpan| {
            let span = frame.span.begin().get() as usize..frame.span.end().get() as usize;
            files.get(frame.filename()).map(|file| file.location(span))
        };
        let frame = |frame: starlark_syntax::frame::Frame| {
            Some((frame.location.and_then(location)?, format!("in the call to {}", quoted(&frame.name))))
        };
        let frames = super::shortened(frames.into_iter().filter_map(frame).collect());
        frames.into_iter().map(|(location, label)| (location.into(), label)).collect()
    };
    evaluation.found.borrow_mut().documents.push(Document { root, path, frames });
    let text = |field: &str| fields.get(field).and_then(|value| value.unpack_str()).unwrap_or_default().to_owned();
    Ok(Resource { kind: kind.to_owned(), name: text("name"), image: text("image") })
}

fn value_heap<'v>(eval: &Evaluator<'v, '_, '_>) -> Heap<'v> {
    eval.heap()
}

/// Registers a function of a program and returns its index; `None` for built-in functions.
fn register_function<'v>(evaluation: &Evaluation<'_>, value: Value<'v>, eval: &Evaluator<'v, '_, '_>) -> Option<usize> {
    value.parameters_spec()?;
    let name = value.function_name().unwrap_or("lambda").to_owned();
    let location = call_span(eval).and_then(|(path, at)| {
        let files = evaluation.files.borrow();
        let location = files.get(&path)?.location(at);
        Some(format!("{path}:{}", location.line()))
    });
    let path = evaluation.current();
    let mut found = evaluation.found.borrow_mut();
    let index = found.functions.len();
    let variable = format!("function {index}");
    keep(eval, &variable, value);
    let name = FunctionName { name, location: location.unwrap_or_default(), ..FunctionName::default() };
    found.functions.push(Pending { path, variable, name });
    Some(index)
}

/// Expands functions used as hooks or pings: `post_start=greet` means `post_start={"function": greet}`.
fn wrap_functions(node: &mut Node) {
    match &mut node.value {
        NodeValue::Function(_) => {
            let function = std::mem::replace(&mut node.value, NodeValue::Pruned);
            let key = Key { span: node.span.clone(), text: "function".into() };
            let value = Node { span: node.span.clone(), value: function };
            node.value = NodeValue::Map(vec![Entry { key, value }]);
        }
        NodeValue::Seq(items) => items.iter_mut().for_each(wrap_functions),
        NodeValue::Map(entries) => {
            entries
                .iter_mut()
                .filter(|entry| entry.key.text != "function")
                .for_each(|entry| wrap_functions(&mut entry.value));
        }
        _ => {}
    }
}

/// Functions that define services, jobs and the group.
#[starlark_module]
pub(super) fn kinds(builder: &mut GlobalsBuilder) {
    /// Defines a service: a container that is kept running. Takes the fields of `kind: Service` as keyword arguments and
    /// returns a value for use in other calls, for example as a dependency.
    fn service<'v>(
        #[starlark(kwargs)] fields: SmallMap<String, Value<'v>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Resource> {
        add_document("Service", "service", &fields, eval)
    }

    /// Defines a job: a container that runs to completion. Takes the fields of `kind: Job` as keyword arguments and returns
    /// a value for use in other calls, for example as a dependency.
    fn job<'v>(
        #[starlark(kwargs)] fields: SmallMap<String, Value<'v>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Resource> {
        add_document("Job", "job", &fields, eval)
    }

    /// Defines the group's name, network and hooks. Takes the fields of `kind: Group` as keyword arguments. May be called
    /// at most once.
    fn group<'v>(
        #[starlark(kwargs)] fields: SmallMap<String, Value<'v>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        add_document("Group", "group", &fields, eval).map(|_| NoneType)
    }
}

/// Returns a dictionary of one check or action and its options.
fn with_options<'v>(name: &str, value: Value<'v>, options: SmallMap<String, Value<'v>>, heap: Heap<'v>) -> Value<'v> {
    let entries = std::iter::once((name.to_owned(), value)).chain(options);
    heap.alloc(AllocDict(entries.collect::<Vec<_>>()))
}

/// Options of `http` that belong to the ping or hook, not to the request.
const HTTP_OUTER_OPTIONS: [&str; 3] = ["interval", "timeout", "capture"];

/// Shorthands for values of fields.
#[starlark_module]
pub(super) fn helpers(builder: &mut GlobalsBuilder) {
    /// Ping: succeeds when the port of the container accepts a connection. `tcp(5432, interval="1s", timeout="60s")`
    fn tcp<'v>(
        #[starlark(require = pos)] port: Value<'v>,
        #[starlark(kwargs)] options: SmallMap<String, Value<'v>>,
        heap: Heap<'v>,
    ) -> anyhow::Result<Value<'v>> {
        Ok(with_options("tcp", port, options, heap))
    }

    /// Ping, given a path: `http("/healthz", port=8080, status=204, timeout="60s")`. Hook, given a URL:
    /// `http("http://localhost:9/alert", method="POST", body="...")`.
    fn http<'v>(
        #[starlark(require = pos)] target: &str,
        #[starlark(kwargs)] options: SmallMap<String, Value<'v>>,
        heap: Heap<'v>,
    ) -> anyhow::Result<Value<'v>> {
        let name = if target.contains("://") { "url" } else { "path" };
        let (outer, inner): (Vec<_>, Vec<_>) =
            options.into_iter().partition(|(name, _)| HTTP_OUTER_OPTIONS.contains(&name.as_str()));
        let request = with_options(name, heap.alloc(target), inner.into_iter().collect(), heap);
        Ok(with_options("http", request, outer.into_iter().collect(), heap))
    }

    /// Ping or hook: runs a command in the container. `exec(["pg_isready"], timeout="60s")`
    fn exec<'v>(
        #[starlark(require = pos)] command: Value<'v>,
        #[starlark(kwargs)] options: SmallMap<String, Value<'v>>,
        heap: Heap<'v>,
    ) -> anyhow::Result<Value<'v>> {
        Ok(with_options("exec", command, options, heap))
    }

    /// Ping or hook: runs a command on the host, in the spec directory. `run(["./check.sh"], timeout="60s")`
    fn run<'v>(
        #[starlark(require = pos)] command: Value<'v>,
        #[starlark(kwargs)] options: SmallMap<String, Value<'v>>,
        heap: Heap<'v>,
    ) -> anyhow::Result<Value<'v>> {
        Ok(with_options("run", command, options, heap))
    }

    /// Ping: succeeds when a line of the container's output matches the regular expression. `log("ready to accept")`
    fn log<'v>(
        #[starlark(require = pos)] pattern: Value<'v>,
        #[starlark(kwargs)] options: SmallMap<String, Value<'v>>,
        heap: Heap<'v>,
    ) -> anyhow::Result<Value<'v>> {
        Ok(with_options("log", pattern, options, heap))
    }

    /// Ping or hook: calls the function with a `ctx` argument. Use it to set options; without options, write only the
    /// function. `call(ready, interval="1s", timeout="60s")`
    fn call<'v>(
        #[starlark(require = pos)] function: Value<'v>,
        #[starlark(kwargs)] options: SmallMap<String, Value<'v>>,
        heap: Heap<'v>,
    ) -> anyhow::Result<Value<'v>> {
        Ok(with_options("function", function, options, heap))
    }

    /// Dependency with options: `depends(appdb, condition="started", restart=True)`. Without options, write only the
    /// service.
    fn depends<'v>(
        #[starlark(require = pos)] on: Value<'v>,
        #[starlark(kwargs)] options: SmallMap<String, Value<'v>>,
        heap: Heap<'v>,
    ) -> anyhow::Result<Value<'v>> {
        Ok(with_options("name", on, options, heap))
    }

    /// Returns a reference to an output, which is replaced by its value once that is known:
    /// `env={"USER_ID": context("user_id")}`.
    fn context(#[starlark(require = pos)] key: &str) -> anyhow::Result<String> {
        Ok(format!("${{context.{key}}}"))
    }
}

/// Access to environment variables and files.
#[starlark_module]
pub(super) fn inputs(builder: &mut GlobalsBuilder) {
    /// Returns the value of a variable from the environment or `.env`. If it is not set, returns the default, or fails
    /// without one. `env("LEVEL", "info")`
    fn env<'v>(
        #[starlark(require = pos)] name: &str,
        default: Option<Value<'v>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let evaluation = evaluation(eval, "env")?;
        evaluation.found.borrow_mut().variables.insert(name.to_owned());
        let variables = evaluation.variables;
        match (variables.get(name), default) {
            (Some(value), _) => {
                evaluation.add_to_digest(&["variable", name, value]);
                Ok(eval.heap().alloc(value))
            }
            (None, default) => {
                evaluation.add_to_digest(&["no variable", name]);
                default.ok_or_else(|| {
                    let hint = match variables.closest(name) {
                        Some(close) => format!("did you mean `{close}`?"),
                        None => {
                            format!("set it in the environment or in `.env`, or pass a default: `env({name:?}, \"…\")`")
                        }
                    };
                    native_error(Invalid::new(format!("variable {} is not set", quoted(name))).hint(hint))
                })
            }
        }
    }

    /// Returns the content of a file in the spec directory.
    fn read_file<'v>(
        #[starlark(require = pos)] path: &str,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<String> {
        let evaluation = evaluation(eval, "read_file")?;
        let path = spec_path(path).map_err(native_error)?;
        evaluation.found.borrow_mut().reads.insert(path.clone());
        let failed = |why: String| native_error(Invalid::new(format!("cannot read file {}: {why}", quoted(&path))));
        let bytes = evaluation.file_access.read(&path).map_err(failed)?;
        let text = String::from_utf8(bytes).map_err(|_| failed("not valid UTF-8".into()))?;
        evaluation.add_to_digest(&["read", &path, &text]);
        Ok(text)
    }

    /// Returns the sorted paths of the files in the spec directory that match a pattern: `glob("conf/*.json")`. `*` matches
    /// any characters except `/`, `?` one character, `**` any number of directories. A name that begins with a dot matches
    /// only a part of the pattern that begins with a dot.
    fn glob<'v>(
        #[starlark(require = pos)] pattern: &str,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Vec<String>> {
        let evaluation = evaluation(eval, "glob")?;
        let pattern = spec_path(pattern).map_err(native_error)?;
        let parts: Vec<&str> = pattern.split('/').collect();
        let mut listings = Listings { evaluation, known: BTreeMap::new(), searched: BTreeSet::new() };
        let mut found = Vec::new();
        search(&mut listings, "", &parts, 0, &mut found).map_err(native_error)?;
        found.sort();
        found.dedup();
        let all: Vec<&str> = found.iter().map(String::as_str).collect();
        evaluation.add_to_digest(&["glob", &pattern, &all.join("\0")]);
        Ok(found)
    }
}

/// Maximum depth of directories that `**` searches.
const MAX_DIRECTORIES: usize = 32;
/// Maximum number of files that a pattern may match.
const MAX_FOUND: usize = 10_000;

/// Cache of directory listings for one pattern.
struct Listings<'e, 'a> {
    evaluation: &'e Evaluation<'a>,
    known: BTreeMap<String, Vec<(String, bool)>>,
    /// Directories that were searched, each with the number of parts of the pattern that were left: `**/**` leads to each
    /// directory on many ways.
    searched: BTreeSet<(String, usize)>,
}

impl Listings<'_, '_> {
    /// Returns the names in a directory, with true for subdirectories. Empty if the directory does not exist.
    fn list(&mut self, directory: &str) -> Vec<(String, bool)> {
        if let Some(known) = self.known.get(directory) {
            return known.clone();
        }
        self.evaluation.found.borrow_mut().reads.insert(directory.to_owned());
        let names = self.evaluation.file_access.list(directory).unwrap_or_default();
        self.known.insert(directory.to_owned(), names.clone());
        names
    }
}

/// Finds the files below a directory that match the parts of a pattern.
fn search(
    listings: &mut Listings<'_, '_>,
    directory: &str,
    parts: &[&str],
    depth: usize,
    found: &mut Vec<String>,
) -> Result<(), Invalid> {
    let Some((part, rest)) = parts.split_first() else { return Ok(()) };
    if depth > MAX_DIRECTORIES || !listings.searched.insert((directory.to_owned(), parts.len())) {
        return Ok(());
    }
    if *part == "**" {
        search(listings, directory, rest, depth, found)?;
    }
    for (name, is_directory) in listings.list(directory) {
        let path = if directory.is_empty() { name.clone() } else { format!("{directory}/{name}") };
        let hidden = name.starts_with('.') && !part.starts_with('.');
        match (*part, is_directory) {
            _ if hidden => {}
            ("**", true) => search(listings, &path, parts, depth + 1, found)?,
            ("**", false) => {}
            (part, true) if matches(part, &name) => search(listings, &path, rest, depth + 1, found)?,
            (part, false) if rest.is_empty() && matches(part, &name) => found.push(path),
            _ => {}
        }
        if found.len() > MAX_FOUND {
            return Err(Invalid::new(format!("the pattern matches more than {MAX_FOUND} files")));
        }
    }
    Ok(())
}

/// Returns true if a name matches a pattern with `*` and `?`. Runs in at most quadratic time.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut of) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while of < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, of));
                at += 1;
            }
            Some(c) if *c == '?' || *c == name[of] => {
                at += 1;
                of += 1;
            }
            // Backtrack: the last star matches one more character.
            _ => match star {
                Some((back, taken)) => {
                    star = Some((back, taken + 1));
                    at = back + 1;
                    of = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|c| *c == '*')
}

/// The `json` module.
#[starlark_module]
fn json(builder: &mut GlobalsBuilder) {
    /// Encodes a value as JSON.
    fn encode<'v>(#[starlark(require = pos)] value: Value<'v>) -> anyhow::Result<String> {
        value.to_json()
    }

    /// Decodes JSON into a value.
    fn decode<'v>(#[starlark(require = pos)] text: &str, heap: Heap<'v>) -> anyhow::Result<Value<'v>> {
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|error| Invalid::new(format!("invalid JSON: {error}")))?;
        if !representable(&value) {
            return Err(Invalid::new("the JSON contains a number that is too large").into());
        }
        Ok(heap.alloc(value))
    }
}

/// Returns true if all numbers are finite.
fn representable(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Number(number) => number.as_f64().is_some_and(f64::is_finite),
        serde_json::Value::Array(items) => items.iter().all(representable),
        serde_json::Value::Object(fields) => fields.values().all(representable),
        _ => true,
    }
}

/// Named parameters of built-in functions, for "did you mean" hints.
pub(super) const PARAMETERS: [(&str, &[&str]); 9] = [
    ("env", &["default"]),
    ("url", &["path", "scheme"]),
    ("exec", &["timeout", "check"]),
    ("run", &["timeout", "check"]),
    ("http_get", &["port", "timeout"]),
    ("logs", &["tail"]),
    ("get", &["default"]),
    ("sorted", &["key", "reverse"]),
    ("enumerate", &["start"]),
];
