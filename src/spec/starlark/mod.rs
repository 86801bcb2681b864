//! Specs as programs: evaluates `*.star` files to the same located trees that YAML gives.
//!
//! Every file is evaluated once, also one that others load. What a program can see of the world goes through [`Input`];
//! how much it may do is in `limits`, what is checked before it runs in `guard`. Nothing in here knows the fields of a
//! spec: the arguments of `service(...)` become a tree, and what reads trees says what is wrong with them.

mod builtins;
mod convert;
mod function;
mod guard;
mod limits;
mod reference;
mod resource;
mod written;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use starlark::any::ProvidesStaticType;
use starlark::environment::{FrozenModule, Globals, Module};
use starlark::eval::{Evaluator, FileLoader};
use starlark::syntax::{AstModule, Dialect};
use starlark::values::Value;

pub use function::{CallContext, CallResult, Function, Host, HttpTarget, Ran, Response};
pub use reference::reference;

use guard::Prepared;
use limits::Meter;
use written::Calls;

use super::Input;
use super::interpolate::Variables;
use super::locate::{Diagnostic, Location, SourceText, closest};
use super::node::Node;
use super::value::{Invalid, quoted};

/// How much all specs of the programs may take, in bytes.
const MAX_OUTPUT: usize = 64 << 20;
/// How deep files may load each other.
const MAX_LOADS: usize = 50;
/// How many lines `print` may give.
const MAX_LINES: usize = 1000;
/// How long one may be.
const MAX_LINE: usize = 2000;
/// How many calls that led to an error are shown, from either end.
const FRAMES: usize = 4;

/// What the programs of a spec directory gave.
pub(super) struct Evaluated {
    /// The documents, in the order in which they were made.
    pub documents: Vec<Program>,
    /// The text in which the places of all of them are.
    pub text: Arc<SourceText>,
    /// The functions that stand in them, by their numbers.
    pub functions: Vec<Function>,
    /// What is wrong.
    pub diagnostics: Vec<Diagnostic>,
    /// Further files and directories that were read.
    pub reads: BTreeSet<String>,
    /// Variables that were asked for.
    pub variables: BTreeSet<String>,
    /// What was printed, each line with its place in front.
    pub printed: Vec<String>,
}

/// A document as a program made it.
pub(super) struct Program {
    /// Its tree.
    pub root: Node,
    /// The file in which it was made, relative to the spec directory.
    pub path: String,
    /// The calls that led there.
    pub frames: Vec<(Location, String)>,
}

/// The language: Starlark, with what people who know Python expect of it.
pub(super) fn dialect() -> Dialect {
    Dialect { enable_f_strings: true, ..Dialect::Extended }
}

/// Evaluates the programs among the spec files, given by their paths.
pub(super) fn evaluate(
    input: &Input<'_>,
    variables: Variables<'_>,
    texts: &BTreeMap<String, Arc<SourceText>>,
) -> Evaluated {
    let expired = || input.reach.expired();
    let evaluation = Evaluation {
        input,
        variables,
        texts,
        globals: builtins::globals(),
        meter: Meter::new(&expired),
        files: RefCell::default(),
        calls: RefCell::default(),
        next_base: Cell::new(0),
        modules: RefCell::default(),
        loading: RefCell::default(),
        room: Cell::new(MAX_OUTPUT),
        digest: RefCell::default(),
        found: RefCell::default(),
    };
    for path in texts.keys() {
        // Errors are reported where they are found.
        let _ = evaluation.module(path);
    }
    evaluation.end()
}

/// A file that was opened: what its places mean.
#[derive(Debug, Clone)]
struct File {
    text: Arc<SourceText>,
    prepared: Prepared,
    /// What the functions that it defines call their parameters.
    parameters: BTreeMap<String, Vec<String>>,
}

impl File {
    fn place(&self, span: Range<usize>) -> Location {
        Location::new(&self.text, self.prepared.written(span))
    }
}

/// The files that were opened, by path.
type Files = BTreeMap<String, Arc<File>>;

/// All programs of a directory while they are evaluated.
struct Evaluation<'a> {
    input: &'a Input<'a>,
    variables: Variables<'a>,
    texts: &'a BTreeMap<String, Arc<SourceText>>,
    globals: Globals,
    meter: Meter<'a>,
    files: RefCell<Files>,
    /// Of each opened file: where it begins among all places, and its calls.
    calls: RefCell<HashMap<String, (usize, Calls)>>,
    next_base: Cell<usize>,
    /// `None`: it could not be evaluated, which has been told.
    modules: RefCell<HashMap<String, Option<FrozenModule>>>,
    /// The files that are being evaluated, each loaded by the one before.
    loading: RefCell<Vec<String>>,
    /// How much the specs may still take.
    room: Cell<usize>,
    /// Over everything that decides what the programs give.
    digest: RefCell<Sha256>,
    found: RefCell<Found>,
}

/// What has been gathered.
#[derive(Default)]
struct Found {
    documents: Vec<Program>,
    functions: Vec<Pending>,
    diagnostics: Vec<Diagnostic>,
    reads: BTreeSet<String>,
    variables: BTreeSet<String>,
    printed: Vec<String>,
}

/// A function that stands in a document, in a module that is still being evaluated.
struct Pending {
    /// The file that is being evaluated.
    path: String,
    /// Name of the variable there that holds it.
    variable: String,
    name: String,
    place: String,
}

/// What built-in functions find beside their arguments.
#[derive(Clone, Copy, ProvidesStaticType)]
struct Running<'a> {
    meter: &'a Meter<'a>,
    /// While files are evaluated.
    evaluation: Option<&'a Evaluation<'a>>,
    /// While a function is called.
    host: Option<&'a dyn Host>,
}

/// What the evaluator was given.
fn running<'a>(eval: &Evaluator<'_, 'a, '_>) -> anyhow::Result<&'a Running<'a>> {
    let extra = eval.extra.and_then(|extra| extra.downcast_ref::<Running<'_>>());
    extra.ok_or_else(|| anyhow::anyhow!("nothing is evaluated"))
}

/// The next question of the library stands for no steps.
fn for_free(eval: &Evaluator<'_, '_, '_>) {
    if let Ok(running) = running(eval) {
        running.meter.for_free();
    }
}

/// What could not be loaded has been told.
#[derive(Debug, thiserror::Error)]
#[error("it could not be loaded")]
struct Announced;

impl FileLoader for Evaluation<'_> {
    fn load(&self, path: &str) -> starlark::Result<FrozenModule> {
        let path = inside(path).map_err(starlark::Error::new_native)?;
        let loading = self.loading.borrow();
        if let Some(at) = loading.iter().position(|loading| *loading == path) {
            let cycle: Vec<&str> = loading[at..].iter().map(String::as_str).chain([path.as_str()]).collect();
            return Err(starlark::Error::new_native(Invalid::new(format!("load cycle: {}", cycle.join(" -> ")))));
        }
        if loading.len() > MAX_LOADS {
            let message = format!("files load each other more than {} deep", MAX_LOADS);
            return Err(starlark::Error::new_native(Invalid::new(message)));
        }
        drop(loading);
        if !self.texts.contains_key(&path) {
            let known = self.input.files.iter().map(|file| file.path.as_str());
            let invalid = match path.ends_with(".star") {
                // It is there, but cannot be read.
                true if known.clone().any(|known| known == path) => return Err(starlark::Error::new_native(Announced)),
                true => {
                    let message = format!("there is no file {} in the spec directory", quoted(&path));
                    let near = closest(&path, known.filter(|path| path.ends_with(".star")));
                    let hint = near.map(|near| format!("did you mean `{near}`?"));
                    Invalid { message, hint }
                }
                false => Invalid::new(format!("{} is not a `*.star` file", quoted(&path)))
                    .hint("`read_file` reads other files, and `json.decode` understands JSON"),
            };
            return Err(starlark::Error::new_native(invalid));
        }
        self.module(&path).ok_or_else(|| starlark::Error::new_native(Announced))
    }
}

/// A path within the spec directory, in its one form.
fn inside(path: &str) -> Result<String, Invalid> {
    let outside = || {
        Invalid::new(format!("{} is outside of the spec directory", quoted(path)))
            .hint("paths are relative to the spec directory, and stay in it")
    };
    if path.starts_with('/') {
        return Err(outside());
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(outside()),
            part => parts.push(part),
        }
    }
    if parts.is_empty() || path.contains('\0') {
        return Err(Invalid::new(format!("{} names no file", quoted(path))));
    }
    Ok(parts.join("/"))
}

impl Evaluation<'_> {
    /// The module of a file, which is evaluated if it has not been; `None`: it cannot be, which has been told.
    fn module(&self, path: &str) -> Option<FrozenModule> {
        if let Some(known) = self.modules.borrow().get(path) {
            return known.clone();
        }
        self.loading.borrow_mut().push(path.to_owned());
        let module = match catch_unwind(AssertUnwindSafe(|| self.evaluate(path))) {
            Ok(Ok(module)) => Some(module),
            Ok(Err(diagnostic)) => {
                self.found.borrow_mut().diagnostics.extend(diagnostic);
                None
            }
            // A bug of the library must not end the one who watches.
            Err(_) => {
                let place = self.texts.get(path).map(|text| Location::new(text, 0..0));
                let message = "the program cannot be evaluated: the interpreter has failed".to_owned();
                let diagnostic = Diagnostic { place, ..Diagnostic::new(message) };
                self.found.borrow_mut().diagnostics.push(diagnostic);
                None
            }
        };
        self.loading.borrow_mut().pop();
        self.modules.borrow_mut().insert(path.to_owned(), module.clone());
        module
    }

    /// The error is `None` where it has been told.
    fn evaluate(&self, path: &str) -> Result<FrozenModule, Option<Diagnostic>> {
        let Some(text) = self.texts.get(path) else { return Err(None) };
        self.takes(&["file", path, text.text()]);
        let base = self.next_base.get();
        self.next_base.set(base + text.text().len() + 1);
        let prepared = guard::prepare(text.text(), &dialect())
            .map_err(|refused| Diagnostic::at(Location::new(text, refused.span), refused.message).hint(refused.hint))?;
        let mut file = File { text: text.clone(), prepared, parameters: BTreeMap::new() };
        self.files.borrow_mut().insert(path.to_owned(), Arc::new(file.clone()));
        self.calls.borrow_mut().insert(path.to_owned(), (base, Calls::new()));
        let explain = |error: starlark::Error| match error.kind() {
            starlark::ErrorKind::Native(error) if error.is::<Announced>() => None,
            _ => Some(explain(&error, &self.files.borrow(), Some(text), &self.meter)),
        };
        let mut program = AstModule::parse(path, file.prepared.source.clone(), &dialect()).map_err(explain)?;
        let calls = written::calls(program.statement(), &file.prepared, base);
        file.parameters = written::parameters(program.statement());
        self.files.borrow_mut().insert(path.to_owned(), Arc::new(file));
        self.calls.borrow_mut().insert(path.to_owned(), (base, calls));
        let operators = guard::OPERATORS.map(|operator| (operator.to_owned(), operator.to_owned()));
        program.replace_binary_operators(&operators.into());
        Module::with_temp_heap(|module| {
            let heap = module.heap();
            let running = Running { meter: &self.meter, evaluation: Some(self), host: None };
            let printer = Printer(self);
            {
                let mut eval = Evaluator::new(&module);
                // Collecting is recursive, and what there may be is bounded.
                eval.disable_gc();
                eval.set_loader(self);
                eval.set_print_handler(&printer);
                eval.set_check_cancelled(Box::new(move || self.meter.stops(heap)));
                eval.set_max_callstack_size(limits::MAX_CALLS).map_err(starlark::Error::new_other).map_err(explain)?;
                eval.extra = Some(&running);
                eval.eval_module(program, &self.globals).map_err(explain)?;
            }
            if let Err(invalid) = limits::may_be_kept(&module) {
                return Err(Some(Diagnostic::at(Location::new(text, 0..0), invalid.message).hint(invalid.hint)));
            }
            module.freeze().map_err(|error| {
                Some(Diagnostic::at(Location::new(text, 0..0), format!("the program cannot be kept: {error:?}")))
            })
        })
    }

    /// Something decides what the programs give.
    fn takes(&self, parts: &[&str]) {
        let mut digest = self.digest.borrow_mut();
        for part in parts {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part.as_bytes());
        }
    }

    /// The file that is being evaluated.
    fn current(&self) -> String {
        self.loading.borrow().last().cloned().unwrap_or_default()
    }

    fn end(self) -> Evaluated {
        let found = self.found.into_inner();
        let files = Arc::new(self.files.into_inner());
        let modules = self.modules.into_inner();
        let digest = format!("{:x}", HexDigest(self.digest.into_inner()));
        let live = |(index, pending): (usize, Pending)| {
            let module = modules.get(&pending.path).and_then(Option::as_ref);
            let value = module.and_then(|module| module.get_option(&pending.variable).ok().flatten());
            Function::new(index, (pending.name, pending.place), digest.clone(), value, files.clone())
        };
        let functions: Vec<Function> = found.functions.into_iter().enumerate().map(live).collect();
        let calls = self.calls.into_inner();
        let mut parts: Vec<(usize, Arc<SourceText>)> =
            calls.into_iter().filter_map(|(path, (base, _))| Some((base, self.texts.get(&path)?.clone()))).collect();
        parts.sort_by_key(|(base, _)| *base);
        Evaluated {
            documents: found.documents,
            text: SourceText::of(parts),
            functions,
            diagnostics: found.diagnostics,
            reads: found.reads,
            variables: found.variables,
            printed: found.printed,
        }
    }
}

struct HexDigest(Sha256);

impl std::fmt::LowerHex for HexDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.clone().finalize().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Takes what a file prints while it is evaluated.
struct Printer<'e, 'a>(&'e Evaluation<'a>);

impl starlark::PrintHandler for Printer<'_, '_> {
    fn println(&self, text: &str) -> starlark::Result<()> {
        let mut found = self.0.found.borrow_mut();
        if found.printed.len() < MAX_LINES {
            let text: String = text.chars().take(MAX_LINE).collect();
            found.printed.push(format!("{}: {text}", self.0.current()));
        }
        Ok(())
    }
}

/// An error of the library in words for people, with its place and the calls that led there.
fn explain(error: &starlark::Error, files: &Files, current: Option<&Arc<SourceText>>, meter: &Meter<'_>) -> Diagnostic {
    let place = |span: &starlark::codemap::FileSpan| {
        let file = files.get(span.filename())?;
        Some(file.place(span.span.begin().get() as usize..span.span.end().get() as usize))
    };
    let Invalid { message, hint } = match (meter.exceeded(), error.kind()) {
        (Some(limit), _) => limit.to_diagnostic(),
        (None, starlark::ErrorKind::StackOverflow(_)) => {
            Invalid::new(format!("calls are nested more than {} deep", limits::MAX_CALLS))
                .hint("is there a recursion without end?")
        }
        (None, kind) => {
            let text = kind.to_string();
            wrong_argument(&text, files).unwrap_or_else(|| {
                let (message, hint) = match text.split_once('\n') {
                    Some((message, hint)) => (message, Some(hint.trim().replace('\n', " "))),
                    None => (text.as_str(), None),
                };
                Invalid { message: in_lower_case(message), hint }
            })
        }
    };
    let mut frames: Vec<(Location, String)> = Vec::new();
    for frame in &error.call_stack().frames {
        let Some(place) = frame.location.as_ref().and_then(place) else { continue };
        let name = frame.name.trim_start_matches('_');
        frames.push((place, format!("in the call of {}", quoted(name))));
    }
    let here = error.span().and_then(place).or_else(|| frames.last().map(|(place, _)| place.clone()));
    let place = here.or_else(|| current.map(|text| Location::new(text, 0..0)));
    frames.retain(|(frame, _)| Some(frame) != place.as_ref());
    Diagnostic { place, related: shortened(frames), ..Diagnostic::new(message).hint(hint) }
}

/// The error of an argument that a function does not have, where the message is one, with what was probably meant.
fn wrong_argument(message: &str, files: &Files) -> Option<Invalid> {
    let rest = message.strip_prefix("Found `")?;
    let (argument, rest) = rest.split_once("` extra named parameter(s)")?;
    let function = rest.trim().strip_prefix("for call to ").unwrap_or_default().trim_matches('`');
    let function = function.rsplit('.').next().unwrap_or(function);
    let defined = files.values().filter_map(|file| file.parameters.get(function));
    let built_in = builtins::PARAMETERS.iter().filter(|(name, _)| *name == function);
    let known: Vec<&str> =
        defined.flatten().map(String::as_str).chain(built_in.flat_map(|(_, names)| names.iter().copied())).collect();
    let hint = argument.split("` `").find_map(|argument| closest(argument, known.iter().copied()));
    let message = format!("{} has no argument {}", quoted(function), quoted(argument));
    Some(Invalid { message, hint: hint.map(|close| format!("did you mean `{close}`?")) })
}

/// The innermost calls first, and of very many only the first and the last.
fn shortened(mut frames: Vec<(Location, String)>) -> Vec<(Location, String)> {
    frames.reverse();
    if frames.len() > 2 * FRAMES {
        frames.drain(FRAMES..frames.len() - FRAMES);
    }
    frames.dedup();
    frames
}

/// A message as ours are: without a capital in front.
fn in_lower_case(message: &str) -> String {
    let message = message.trim_start_matches("Parse error: ").trim_start_matches("fail: ").trim_end_matches('.');
    let message = message.strip_prefix("fail:").unwrap_or(message);
    let mut characters = message.chars();
    match (characters.next(), characters.clone().next()) {
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            first.to_lowercase().chain(characters).collect()
        }
        _ => message.to_owned(),
    }
}

/// Where a built-in function was called, as a place of the rewritten text.
fn called_at(eval: &Evaluator<'_, '_, '_>) -> Option<(String, Range<usize>)> {
    let span = eval.call_stack_top_location()?;
    Some((span.filename().to_owned(), span.span.begin().get() as usize..span.span.end().get() as usize))
}

/// A value of a program that is to be kept, under a name that no program can contain.
fn keep<'v>(eval: &Evaluator<'v, '_, '_>, variable: &str, value: Value<'v>) {
    eval.module().set(variable, value);
}
