//! What a program can call.

use std::collections::BTreeMap;

use starlark::collections::SmallMap;
use starlark::environment::{Globals, GlobalsBuilder, LibraryExtension};
use starlark::eval::{Arguments, Evaluator};
use starlark::starlark_module;
use starlark::values::dict::AllocDict;
use starlark::values::none::NoneType;
use starlark::values::range::Range;
use starlark::values::{Heap, Value};

use super::convert::Converter;
use super::resource::Resource;
use super::{Evaluation, Pending, Program, called_at, inside, keep, limits, running};
use crate::spec::node::{Entry, Key, Node, Style, Value as Said};
use crate::spec::value::{Invalid, quoted};

/// Everything there is by name.
pub(super) fn globals() -> Globals {
    use LibraryExtension::{Filter, Map, Print, SetType, StructType};
    let mut builder = GlobalsBuilder::extended_by(&[StructType, SetType, Map, Filter, Print]);
    kinds(&mut builder);
    helpers(&mut builder);
    world(&mut builder);
    bounded(&mut builder);
    builder.namespace("json", json);
    limits::add(&mut builder);
    builder.build()
}

fn refused(invalid: Invalid) -> starlark::Error {
    starlark::Error::new_native(invalid)
}

/// The evaluation of files; a function that is called later has none.
fn evaluation<'a>(eval: &Evaluator<'_, 'a, '_>, name: &str) -> starlark::Result<&'a Evaluation<'a>> {
    running(eval)?.evaluation.ok_or_else(|| {
        let message = format!("`{name}` can be called while specs are read, and not when something happens");
        refused(Invalid::new(message).hint("call it outside of the function, and use what it gave in there"))
    })
}

/// Fields in which functions may stand, as they are or within `on`.
const HOOKS: [&str; 6] = ["ping", "pre_start", "post_start", "pre_stop", "post_stop", "on"];

/// Makes a document of the arguments of a call.
fn make<'v>(
    kind: &str,
    function: &str,
    fields: &SmallMap<String, Value<'v>>,
    eval: &mut Evaluator<'v, '_, '_>,
) -> starlark::Result<Resource> {
    let evaluation = evaluation(eval, function)?;
    let (path, at) = called_at(eval).unwrap_or_default();
    let (here, call) = {
        let calls = evaluation.calls.borrow();
        let files = evaluation.files.borrow();
        let (base, calls) = calls.get(&path).map_or((0, None), |(base, calls)| (*base, Some(calls)));
        let written = files.get(&path).map_or(0..0, |file| file.prepared.written(at.clone()));
        let key = (at.start as u32, at.end as u32);
        let call = calls.and_then(|calls| calls.get(&key)).cloned();
        (base + written.start..base + written.end, call)
    };
    let mut room = evaluation.room.get();
    let mut entries = vec![Entry {
        key: Key { span: here.clone(), text: "kind".into() },
        value: Node::scalar(here.clone(), kind, Style::Text),
    }];
    for (index, (name, value)) in fields.iter().enumerate() {
        let written = call.as_ref().and_then(|call| call.entry(name, index));
        let mut function = |value| known(evaluation, value, eval);
        let mut converter = Converter { heap: value_heap(eval), room: &mut room, function: &mut function };
        let value = converter.tree(*value, written.map(|entry| entry.value.as_ref()), &here, 0);
        let mut value = value
            .map_err(|invalid| Invalid { message: format!("`{name}`: {}", invalid.message), ..invalid })
            .map_err(refused)?;
        if HOOKS.contains(&name.as_str()) {
            as_hooks(&mut value);
        }
        let span = written.map_or(&here, |entry| &entry.key_span).clone();
        entries.push(Entry { key: Key { span, text: name.clone() }, value });
    }
    evaluation.room.set(room);
    let root = Node { span: here, value: Said::Map(entries) };
    let frames = {
        let mut frames = eval.call_stack().into_frames();
        // The last is this call itself.
        frames.pop();
        let files = evaluation.files.borrow();
        let place = |frame: starlark::codemap::FileSpan| {
            let span = frame.span.begin().get() as usize..frame.span.end().get() as usize;
            files.get(frame.filename()).map(|file| file.place(span))
        };
        let frame = |frame: starlark_syntax::frame::Frame| {
            Some((frame.location.and_then(place)?, format!("in the call of {}", quoted(&frame.name))))
        };
        super::shortened(frames.into_iter().filter_map(frame).collect())
    };
    evaluation.found.borrow_mut().documents.push(Program { root, path, frames });
    let text = |field: &str| fields.get(field).and_then(|value| value.unpack_str()).unwrap_or_default().to_owned();
    Ok(Resource { kind: kind.to_owned(), name: text("name"), image: text("image") })
}

fn value_heap<'v>(eval: &Evaluator<'v, '_, '_>) -> Heap<'v> {
    eval.heap()
}

/// Takes note of a function that was written; `None` for a built-in one.
fn known<'v>(evaluation: &Evaluation<'_>, value: Value<'v>, eval: &Evaluator<'v, '_, '_>) -> Option<usize> {
    value.parameters_spec()?;
    let name = value.function_name().unwrap_or("lambda").to_owned();
    let place = called_at(eval).and_then(|(path, at)| {
        let files = evaluation.files.borrow();
        let place = files.get(&path)?.place(at);
        Some(format!("{path}:{}", place.line()))
    });
    let path = evaluation.current();
    let mut found = evaluation.found.borrow_mut();
    let index = found.functions.len();
    let variable = format!("function {index}");
    keep(eval, &variable, value);
    found.functions.push(Pending { path, variable, name, place: place.unwrap_or_default() });
    Some(index)
}

/// A function where a hook or a ping may be is one: `post_start=greet` says `post_start={"function": greet}`.
fn as_hooks(node: &mut Node) {
    match &mut node.value {
        Said::Function(_) => {
            let function = std::mem::replace(&mut node.value, Said::Pruned);
            let key = Key { span: node.span.clone(), text: "function".into() };
            let value = Node { span: node.span.clone(), value: function };
            node.value = Said::Map(vec![Entry { key, value }]);
        }
        Said::Seq(items) => items.iter_mut().for_each(as_hooks),
        Said::Map(entries) => {
            entries
                .iter_mut()
                .filter(|entry| entry.key.text != "function")
                .for_each(|entry| as_hooks(&mut entry.value));
        }
        _ => {}
    }
}

/// The kinds.
#[starlark_module]
pub(super) fn kinds(builder: &mut GlobalsBuilder) {
    /// A container that should be running. Takes the fields of `kind: Service` by name, and gives a value that others can
    /// depend on.
    fn service<'v>(
        #[starlark(kwargs)] fields: SmallMap<String, Value<'v>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Resource> {
        make("Service", "service", &fields, eval)
    }

    /// A container that runs to its end once. Takes the fields of `kind: Job` by name, and gives a value that others can
    /// depend on.
    fn job<'v>(
        #[starlark(kwargs)] fields: SmallMap<String, Value<'v>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Resource> {
        make("Job", "job", &fields, eval)
    }

    /// What holds for the whole directory. Takes the fields of `kind: Group` by name; at most once.
    fn group<'v>(
        #[starlark(kwargs)] fields: SmallMap<String, Value<'v>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        make("Group", "group", &fields, eval).map(|_| NoneType)
    }
}

/// A dictionary of one check or action, and what stands beside it.
fn with<'v>(name: &str, value: Value<'v>, options: SmallMap<String, Value<'v>>, heap: Heap<'v>) -> Value<'v> {
    let entries = std::iter::once((name.to_owned(), value)).chain(options);
    heap.alloc(AllocDict(entries.collect::<Vec<_>>()))
}

/// Options that stand beside `http` and not in it.
const BESIDE: [&str; 3] = ["interval", "timeout", "capture"];

/// Short ways to write parts of a field.
#[starlark_module]
pub(super) fn helpers(builder: &mut GlobalsBuilder) {
    /// A ping: a connection to this port of the container is accepted. `tcp(5432, interval="1s", timeout="60s")`
    fn tcp<'v>(
        #[starlark(require = pos)] port: Value<'v>,
        #[starlark(kwargs)] options: SmallMap<String, Value<'v>>,
        heap: Heap<'v>,
    ) -> anyhow::Result<Value<'v>> {
        Ok(with("tcp", port, options, heap))
    }

    /// With a path a ping: `http("/healthz", port=8080, status=204, timeout="60s")`. With a URL a hook:
    /// `http("http://localhost:9/alert", method="POST", body="...")`.
    fn http<'v>(
        #[starlark(require = pos)] target: &str,
        #[starlark(kwargs)] options: SmallMap<String, Value<'v>>,
        heap: Heap<'v>,
    ) -> anyhow::Result<Value<'v>> {
        let name = if target.contains("://") { "url" } else { "path" };
        let (beside, within): (Vec<_>, Vec<_>) =
            options.into_iter().partition(|(name, _)| BESIDE.contains(&name.as_str()));
        let inner = with(name, heap.alloc(target), within.into_iter().collect(), heap);
        Ok(with("http", inner, beside.into_iter().collect(), heap))
    }

    /// A ping or a hook: a command in the container. `exec(["pg_isready"], timeout="60s")`
    fn exec<'v>(
        #[starlark(require = pos)] command: Value<'v>,
        #[starlark(kwargs)] options: SmallMap<String, Value<'v>>,
        heap: Heap<'v>,
    ) -> anyhow::Result<Value<'v>> {
        Ok(with("exec", command, options, heap))
    }

    /// A ping or a hook: a command on the host, in the spec directory. `run(["./check.sh"], timeout="60s")`
    fn run<'v>(
        #[starlark(require = pos)] command: Value<'v>,
        #[starlark(kwargs)] options: SmallMap<String, Value<'v>>,
        heap: Heap<'v>,
    ) -> anyhow::Result<Value<'v>> {
        Ok(with("run", command, options, heap))
    }

    /// A ping: a line of the container's output matches this pattern. `log("ready to accept")`
    fn log<'v>(
        #[starlark(require = pos)] pattern: Value<'v>,
        #[starlark(kwargs)] options: SmallMap<String, Value<'v>>,
        heap: Heap<'v>,
    ) -> anyhow::Result<Value<'v>> {
        Ok(with("log", pattern, options, heap))
    }

    /// A ping or a hook: this function, which is called with one argument. A function alone says the same; this is for
    /// what stands beside it. `call(ready, interval="1s", timeout="60s")`
    fn call<'v>(
        #[starlark(require = pos)] function: Value<'v>,
        #[starlark(kwargs)] options: SmallMap<String, Value<'v>>,
        heap: Heap<'v>,
    ) -> anyhow::Result<Value<'v>> {
        Ok(with("function", function, options, heap))
    }

    /// A dependency with conditions: `depends(appdb, condition="started", restart=True)`. The service alone says the same
    /// as `depends(appdb)`.
    fn depends<'v>(
        #[starlark(require = pos)] on: Value<'v>,
        #[starlark(kwargs)] options: SmallMap<String, Value<'v>>,
        heap: Heap<'v>,
    ) -> anyhow::Result<Value<'v>> {
        Ok(with("name", on, options, heap))
    }

    /// The text that stands for an output until it is known: `env={"USER_ID": context("user_id")}`.
    fn context(#[starlark(require = pos)] key: &str) -> anyhow::Result<String> {
        Ok(format!("${{context.{key}}}"))
    }
}

/// What a program can see of the world.
#[starlark_module]
pub(super) fn world(builder: &mut GlobalsBuilder) {
    /// The value of a variable of the environment or of `.env`; the default where it is not set, and an error where there
    /// is no default. `env("LEVEL", "info")`
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
                evaluation.takes(&["variable", name, value]);
                Ok(eval.heap().alloc(value))
            }
            (None, default) => {
                evaluation.takes(&["no variable", name]);
                default.ok_or_else(|| {
                    let hint = match variables.closest(name) {
                        Some(close) => format!("did you mean `{close}`?"),
                        None => format!(
                            "set it in the environment or in `.env`, or write a default: `env({name:?}, \"…\")`"
                        ),
                    };
                    refused(Invalid::new(format!("the variable {} is not set", quoted(name))).hint(hint))
                })
            }
        }
    }

    /// The text of a file in the spec directory.
    fn read_file<'v>(
        #[starlark(require = pos)] path: &str,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<String> {
        let evaluation = evaluation(eval, "read_file")?;
        let path = inside(path).map_err(refused)?;
        evaluation.found.borrow_mut().reads.insert(path.clone());
        let cannot = |why: String| refused(Invalid::new(format!("the file {} cannot be read: {why}", quoted(&path))));
        let bytes = evaluation.input.reach.read(&path).map_err(cannot)?;
        let text = String::from_utf8(bytes).map_err(|_| cannot("it is not UTF-8".into()))?;
        evaluation.takes(&["read", &path, &text]);
        Ok(text)
    }

    /// The files of the spec directory whose paths match a pattern, sorted: `glob("conf/*.json")`. `*` is any text without
    /// `/`, `?` one character, `**` any directories. Names that begin with a dot only match where the pattern has it.
    fn glob<'v>(
        #[starlark(require = pos)] pattern: &str,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Vec<String>> {
        let evaluation = evaluation(eval, "glob")?;
        let pattern = inside(pattern).map_err(refused)?;
        let parts: Vec<&str> = pattern.split('/').collect();
        let mut listings = Listings { evaluation, known: BTreeMap::new() };
        let mut found = Vec::new();
        search(&mut listings, "", &parts, 0, &mut found).map_err(refused)?;
        found.sort();
        found.dedup();
        let all: Vec<&str> = found.iter().map(String::as_str).collect();
        evaluation.takes(&["glob", &pattern, &all.join("\0")]);
        Ok(found)
    }
}

/// How deep `**` looks.
const MAX_DIRECTORIES: usize = 32;
/// How many files a pattern may find.
const MAX_FOUND: usize = 10_000;

/// Directories that were listed, each once for a pattern.
struct Listings<'e, 'a> {
    evaluation: &'e Evaluation<'a>,
    known: BTreeMap<String, Vec<(String, bool)>>,
}

impl Listings<'_, '_> {
    /// Names in a directory, and which of them are directories themselves. One that is not there has none.
    fn list(&mut self, directory: &str) -> Vec<(String, bool)> {
        if let Some(known) = self.known.get(directory) {
            return known.clone();
        }
        self.evaluation.found.borrow_mut().reads.insert(directory.to_owned());
        let names = self.evaluation.input.reach.list(directory).unwrap_or_default();
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
    if depth > MAX_DIRECTORIES {
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

/// Whether a name matches a pattern with `*` and `?`. Takes at most quadratic time.
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
            // The last star takes one more.
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

/// What the language has, within bounds.
#[starlark_module]
fn bounded(builder: &mut GlobalsBuilder) {
    /// Whole numbers: `range(stop)`, `range(start, stop)`, `range(start, stop, step)`.
    fn range<'v>(args: &Arguments<'v, '_>, heap: Heap<'v>) -> starlark::Result<Range> {
        args.no_named_args()?;
        let mut numbers = Vec::new();
        for value in args.positions(heap)? {
            let number = value.unpack_i32().ok_or_else(|| {
                refused(Invalid::new(format!(
                    "`range` takes whole numbers, found {}",
                    value.to_string_for_type_error()
                )))
            })?;
            numbers.push(number);
        }
        let (start, stop, step) = match numbers.as_slice() {
            [stop] => (0, *stop, 1),
            [start, stop] => (*start, *stop, 1),
            [start, stop, step] => (*start, *stop, *step),
            _ => return Err(refused(Invalid::new("`range` takes one to three numbers"))),
        };
        let step = std::num::NonZeroI32::new(step).ok_or_else(|| refused(Invalid::new("the step is 0")))?;
        let length = (i64::from(stop) - i64::from(start)) / i64::from(step.get());
        if length > limits::MAX_STEPS as i64 {
            let message = format!("a range of more than {} numbers", limits::MAX_STEPS);
            return Err(refused(Invalid::new(message)));
        }
        Ok(Range::new(start, stop, step))
    }
}

/// JSON.
#[starlark_module]
fn json(builder: &mut GlobalsBuilder) {
    /// A value as JSON.
    fn encode<'v>(
        #[starlark(require = pos)] value: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<String> {
        limits::may_be_written(value, eval)?;
        value.to_json()
    }

    /// The value that a JSON text stands for.
    fn decode<'v>(#[starlark(require = pos)] text: &str, heap: Heap<'v>) -> anyhow::Result<Value<'v>> {
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|error| Invalid::new(format!("this is not JSON: {error}")))?;
        if !representable(&value) {
            return Err(Invalid::new("this JSON holds a number that is too large").into());
        }
        Ok(heap.alloc(value))
    }
}

/// Whether all numbers can be held.
fn representable(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Number(number) => number.as_f64().is_some_and(f64::is_finite),
        serde_json::Value::Array(items) => items.iter().all(representable),
        serde_json::Value::Object(fields) => fields.values().all(representable),
        _ => true,
    }
}

/// Arguments that built-in functions take by name, for what was probably meant.
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
