//! Evaluation of `*.star` files to the same located trees that the YAML reader produces.
//!
//! Each file is evaluated once, even if several files load it. Programs access files only through [`FileAccess`].
//! `nesting` checks them before evaluation, `limits` during evaluation; what these do not catch ends the process, so
//! `control::programs` evaluates in a process of its own. This module does not know the fields of specs: the arguments of
//! `service(...)` become a tree, which is validated like a tree from YAML.

mod builtins;
mod convert;
mod function;
mod limits;
mod nesting;
mod output_keys;
mod program;
mod python;
mod reference;
mod resource;
mod spans;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use starlark::any::ProvidesStaticType;
use starlark::codemap::FileSpanRef;
use starlark::environment::{FrozenModule, Globals, Module};
use starlark::eval::{BeforeStmtFunc, Evaluator, FileLoader};
use starlark::syntax::{AstModule, Dialect};
use starlark::values::{OwnedFrozenValue, Value};

pub use function::{CallContext, CallResult, Function, Host, HttpTarget, Ran, Response};
pub use program::{
    Document, Evaluated, FileAnswer, FileQuery, FunctionName, Interpreter, NoPrograms, Place, ProgramError, Programs,
    Snapshot,
};
pub use reference::reference;

use limits::Meter;
use output_keys::Definitions;
use spans::Calls;

use super::FileAccess;
use super::interpolate::Variables;
use super::locate::{Diagnostic, Location, SourceText, closest};
use super::value::{Invalid, quoted};

/// Maximum size of all generated specs in bytes.
const MAX_OUTPUT: usize = 64 << 20;
/// Maximum nesting of `load` statements.
const MAX_LOADS: usize = 50;
/// Maximum number of lines printed during evaluation; further ones are dropped.
const MAX_LINES: usize = 1000;
/// Maximum length of a printed line in characters; longer ones are truncated.
const MAX_LINE: usize = 2000;
/// Number of frames of a call stack that are shown, from either end.
const MAX_FRAMES: usize = 4;

/// Recorder of the statement that is being evaluated, so that it is known if the evaluation does not end by itself.
pub trait Trace {
    /// Called before each statement, with the index of its file in [`Programs::texts`].
    fn statement(&self, file: usize, span: Range<usize>);
}

/// Modules of evaluated programs, ready for calls of their functions.
pub struct Session {
    /// Functions by index; `None` if the module of the function failed.
    functions: Vec<Option<OwnedFrozenValue>>,
    files: Arc<Files>,
}

/// Returns the language dialect: Starlark with type annotations, top-level statements and f-strings, as in Python.
pub(super) fn dialect() -> Dialect {
    Dialect { enable_f_strings: true, ..Dialect::Extended }
}

/// Evaluates programs. Requires a large stack: calls and values may be deeply nested.
pub fn evaluate(programs: &Programs, file_access: &dyn FileAccess, trace: &dyn Trace) -> (Evaluated, Session) {
    let none = BTreeMap::new();
    let evaluation = Evaluation {
        programs,
        file_access,
        trace,
        variables: Variables { environment: &programs.variables, dotenv: &none, context: &none, lenient: false },
        globals: builtins::globals(),
        meter: Meter::default(),
        files: RefCell::default(),
        calls: RefCell::default(),
        definitions: RefCell::default(),
        next_base: Cell::new(0),
        modules: RefCell::default(),
        loading: RefCell::default(),
        remaining: Cell::new(MAX_OUTPUT),
        digest: RefCell::default(),
        found: RefCell::default(),
    };
    for path in programs.texts.keys() {
        // Errors are already recorded.
        let _ = evaluation.module(path);
    }
    evaluation.finish()
}

/// An opened file.
#[derive(Debug, Clone)]
struct File {
    text: Arc<SourceText>,
    /// Index in [`Programs::texts`].
    index: usize,
    /// Parameter names of the functions that the file defines.
    parameters: BTreeMap<String, Vec<String>>,
}

impl File {
    /// Returns the source location of a span.
    fn location(&self, span: Range<usize>) -> Location {
        Location::new(&self.text, span)
    }
}

/// Opened files by path.
type Files = BTreeMap<String, Arc<File>>;

/// State of a running evaluation.
struct Evaluation<'a> {
    programs: &'a Programs,
    file_access: &'a dyn FileAccess,
    trace: &'a dyn Trace,
    variables: Variables<'a>,
    globals: Globals,
    meter: Meter,
    files: RefCell<Files>,
    /// Opened files by path: offset in the joined source text, and calls.
    calls: RefCell<HashMap<String, (usize, Calls)>>,
    /// Functions of all files, as written.
    definitions: RefCell<Definitions>,
    next_base: Cell<usize>,
    /// Evaluated modules by path; `None` after an error, which is already recorded.
    modules: RefCell<HashMap<String, Option<FrozenModule>>>,
    /// Stack of files under evaluation, each loaded by the previous one.
    loading: RefCell<Vec<String>>,
    /// Remaining bytes for generated specs.
    remaining: Cell<usize>,
    /// Hash of all inputs of the programs.
    digest: RefCell<Sha256>,
    found: RefCell<Found>,
}

/// Results gathered so far.
#[derive(Default)]
struct Found {
    documents: Vec<Document>,
    functions: Vec<Pending>,
    diagnostics: Vec<Diagnostic>,
    reads: BTreeSet<String>,
    variables: BTreeSet<String>,
    printed: Vec<String>,
}

/// A function used in a document whose module is not frozen yet.
struct Pending {
    /// File under evaluation.
    path: String,
    /// Module variable that holds the function.
    variable: String,
    name: FunctionName,
}

/// State available to built-in functions through the evaluator.
#[derive(Clone, Copy, ProvidesStaticType)]
struct Running<'a> {
    /// Set while files are evaluated.
    evaluation: Option<&'a Evaluation<'a>>,
    /// Set while a hook or ping is called.
    host: Option<&'a dyn Host>,
}

/// Returns the state stored in the evaluator.
fn running<'a>(eval: &Evaluator<'_, 'a, '_>) -> anyhow::Result<&'a Running<'a>> {
    let extra = eval.extra.and_then(|extra| extra.downcast_ref::<Running<'_>>());
    extra.ok_or_else(|| anyhow::anyhow!("no evaluation is running"))
}

/// Marker error: the module could not be loaded, which is already reported.
#[derive(Debug, thiserror::Error)]
#[error("module could not be loaded")]
struct AlreadyReported;

impl FileLoader for Evaluation<'_> {
    fn load(&self, path: &str) -> starlark::Result<FrozenModule> {
        let path = spec_path(path).map_err(starlark::Error::new_native)?;
        let loading = self.loading.borrow();
        if let Some(at) = loading.iter().position(|loading| *loading == path) {
            let cycle: Vec<&str> = loading[at..].iter().map(String::as_str).chain([path.as_str()]).collect();
            return Err(starlark::Error::new_native(Invalid::new(format!("load cycle: {}", cycle.join(" -> ")))));
        }
        if loading.len() > MAX_LOADS {
            let message = format!("`load` statements are nested more than {MAX_LOADS} levels deep");
            return Err(starlark::Error::new_native(Invalid::new(message)));
        }
        drop(loading);
        if !self.programs.texts.contains_key(&path) {
            let known = self.programs.files.iter().map(String::as_str);
            let invalid = match path.ends_with(".star") {
                // The file exists but could not be read.
                true if known.clone().any(|known| known == path) => {
                    return Err(starlark::Error::new_native(AlreadyReported));
                }
                true => {
                    let message = format!("file {} not found in the spec directory", quoted(&path));
                    let near = closest(&path, known.filter(|path| path.ends_with(".star")));
                    let hint = near.map(|near| format!("did you mean `{near}`?"));
                    Invalid { message, hint }
                }
                false => Invalid::new(format!("{} is not a `*.star` file", quoted(&path)))
                    .hint("use `read_file` for other files and `json.decode` for JSON"),
            };
            return Err(starlark::Error::new_native(invalid));
        }
        self.module(&path).ok_or_else(|| starlark::Error::new_native(AlreadyReported))
    }
}

/// Normalizes a path relative to the spec directory. Rejects paths outside it.
fn spec_path(path: &str) -> Result<String, Invalid> {
    let outside = || {
        Invalid::new(format!("{} is outside the spec directory", quoted(path)))
            .hint("use a path relative to the spec directory, without `..`")
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
        return Err(Invalid::new(format!("{} is not a valid path", quoted(path))));
    }
    Ok(parts.join("/"))
}

impl Evaluation<'_> {
    /// Returns the module of a file, evaluating the file on first use; `None` after an error, which is already recorded.
    fn module(&self, path: &str) -> Option<FrozenModule> {
        if let Some(known) = self.modules.borrow().get(path) {
            return known.clone();
        }
        self.loading.borrow_mut().push(path.to_owned());
        let evaluated = self.evaluate(path);
        let module = evaluated.map_err(|diagnostic| self.found.borrow_mut().diagnostics.extend(diagnostic)).ok();
        self.loading.borrow_mut().pop();
        self.modules.borrow_mut().insert(path.to_owned(), module.clone());
        module
    }

    /// Evaluates a file. The error is `None` if it is already recorded.
    fn evaluate(&self, path: &str) -> Result<FrozenModule, Option<Diagnostic>> {
        let Some((index, text)) = self.text(path) else { return Err(None) };
        self.trace.statement(index, 0..0);
        self.add_to_digest(&["file", path, text.text()]);
        let base = self.next_base.get();
        self.next_base.set(base + text.text().len() + 1);
        nesting::check(text.text(), &dialect())
            .map_err(|error| Diagnostic::at(Location::new(text, error.span), error.message).hint(error.hint))?;
        let mut file = File { text: text.clone(), index, parameters: BTreeMap::new() };
        self.files.borrow_mut().insert(path.to_owned(), Arc::new(file.clone()));
        self.calls.borrow_mut().insert(path.to_owned(), (base, Calls::new()));
        let explain = |error: starlark::Error| match error.kind() {
            starlark::ErrorKind::Native(error) if error.is::<AlreadyReported>() => None,
            _ => Some(explain(&error, &self.files.borrow(), Some(text), &self.meter)),
        };
        let program = AstModule::parse(path, text.text().to_owned(), &dialect()).map_err(explain)?;
        let calls = spans::calls(program.statement(), base);
        file.parameters = spans::parameters(program.statement());
        output_keys::collect(program.statement(), &mut self.definitions.borrow_mut());
        self.files.borrow_mut().insert(path.to_owned(), Arc::new(file));
        self.calls.borrow_mut().insert(path.to_owned(), (base, calls));
        Module::with_temp_heap(|module| {
            let heap = module.heap();
            let running = Running { evaluation: Some(self), host: None };
            let printer = Printer(self);
            let index = |path: &str| self.files.borrow().get(path).map(|file| file.index);
            let before = before_statement(self.trace, &index);
            {
                let mut eval = Evaluator::new(&module);
                // Garbage collection is recursive, and memory is limited anyway.
                eval.disable_gc();
                eval.set_loader(self);
                eval.set_print_handler(&printer);
                eval.before_stmt_for_dap(BeforeStmtFunc::Fn(&before));
                eval.set_check_cancelled(Box::new(move || self.meter.should_stop(heap)));
                eval.set_max_callstack_size(limits::MAX_CALLS).map_err(starlark::Error::new_other).map_err(explain)?;
                eval.extra = Some(&running);
                eval.eval_module(program, &self.globals).map_err(explain)?;
            }
            module.freeze().map_err(|error| {
                Some(Diagnostic::at(Location::new(text, 0..0), format!("cannot freeze the module: {error:?}")))
            })
        })
    }

    /// Returns the index and text of a program.
    fn text(&self, path: &str) -> Option<(usize, &Arc<SourceText>)> {
        let mut texts = self.programs.texts.iter().enumerate();
        texts.find(|(_, (known, _))| *known == path).map(|(index, (_, text))| (index, text))
    }

    /// Adds an input of the programs to the hash.
    fn add_to_digest(&self, parts: &[&str]) {
        let mut digest = self.digest.borrow_mut();
        for part in parts {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part.as_bytes());
        }
    }

    /// Returns the file under evaluation.
    fn current(&self) -> String {
        self.loading.borrow().last().cloned().unwrap_or_default()
    }

    fn finish(self) -> (Evaluated, Session) {
        let found = self.found.into_inner();
        let modules = self.modules.into_inner();
        let live = |pending: &Pending| {
            let module = modules.get(&pending.path).and_then(Option::as_ref);
            module.and_then(|module| module.get_option(&pending.variable).ok().flatten())
        };
        let session =
            Session { functions: found.functions.iter().map(live).collect(), files: Arc::new(self.files.into_inner()) };
        let definitions = self.definitions.into_inner();
        let named =
            |name: FunctionName| FunctionName { outputs: output_keys::keys_of(&name.name, &definitions), ..name };
        let mut offsets: Vec<(usize, String)> =
            self.calls.into_inner().into_iter().map(|(path, (base, _))| (base, path)).collect();
        offsets.sort();
        let evaluated = Evaluated {
            documents: found.documents,
            offsets,
            functions: found.functions.into_iter().map(|pending| named(pending.name)).collect(),
            digest: format!("{:x}", HexDigest(self.digest.into_inner())),
            errors: found.diagnostics.into_iter().map(ProgramError::from).collect(),
            reads: found.reads,
            variables: found.variables,
            printed: found.printed,
        };
        (evaluated, session)
    }
}

/// Returns a callback of the library that traces statements; `index` returns the index of a file.
fn before_statement<'t>(
    trace: &'t dyn Trace,
    index: &'t dyn Fn(&str) -> Option<usize>,
) -> impl Fn(FileSpanRef<'_>, bool, &mut Evaluator<'_, '_, '_>) + 't {
    move |at, _, _| {
        if let Some(index) = index(at.file.filename()) {
            trace.statement(index, at.span.begin().get() as usize..at.span.end().get() as usize);
        }
    }
}

struct HexDigest(Sha256);

impl std::fmt::LowerHex for HexDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.clone().finalize().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Collects the output of `print` during evaluation.
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

/// Converts an error of the library to a diagnostic with its location and call stack.
fn explain(error: &starlark::Error, files: &Files, current: Option<&Arc<SourceText>>, meter: &Meter) -> Diagnostic {
    let location = |span: &starlark::codemap::FileSpan| {
        let file = files.get(span.filename())?;
        Some(file.location(span.span.begin().get() as usize..span.span.end().get() as usize))
    };
    let Invalid { message, hint } = match (meter.exceeded(), error.kind()) {
        (Some(limit), _) => limit.to_diagnostic(),
        (None, starlark::ErrorKind::StackOverflow(_)) => {
            Invalid::new(format!("calls are nested more than {} levels deep", limits::MAX_CALLS))
                .hint("check for unbounded recursion")
        }
        (None, kind) => {
            let text = kind.to_string();
            unknown_argument(&text, files).or_else(|| python::explain(&text)).unwrap_or_else(|| {
                let (message, hint) = match text.split_once('\n') {
                    Some((message, hint)) => (message, Some(hint.trim().replace('\n', " "))),
                    None => (text.as_str(), None),
                };
                Invalid { message: normalized(message), hint }
            })
        }
    };
    let mut frames: Vec<(Location, String)> = Vec::new();
    for frame in &error.call_stack().frames {
        let Some(location) = frame.location.as_ref().and_then(location) else { continue };
        let name = frame.name.trim_start_matches('_');
        frames.push((location, format!("in the call to {}", quoted(name))));
    }
    let here = error.span().and_then(location).or_else(|| frames.last().map(|(location, _)| location.clone()));
    let location = here.or_else(|| current.map(|text| Location::new(text, 0..0)));
    frames.retain(|(frame, _)| Some(frame) != location.as_ref());
    Diagnostic { location, related: shortened(frames), ..Diagnostic::new(message).hint(hint) }
}

/// Rewrites the library's message about an unknown named argument, with a suggestion. `None` for other messages.
fn unknown_argument(message: &str, files: &Files) -> Option<Invalid> {
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

/// Orders frames from the innermost call outwards. Of a long stack only both ends are kept.
fn shortened(mut frames: Vec<(Location, String)>) -> Vec<(Location, String)> {
    frames.reverse();
    if frames.len() > 2 * MAX_FRAMES {
        frames.drain(MAX_FRAMES..frames.len() - MAX_FRAMES);
    }
    frames.dedup();
    frames
}

/// Formats a message of the library like our own: no prefix, lower case, no final period.
fn normalized(message: &str) -> String {
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

/// Returns the location of the running call to a built-in function: path and span.
fn call_span(eval: &Evaluator<'_, '_, '_>) -> Option<(String, Range<usize>)> {
    let span = eval.call_stack_top_location()?;
    Some((span.filename().to_owned(), span.span.begin().get() as usize..span.span.end().get() as usize))
}

/// Stores a value in the module, under a name that programs cannot use, so that it is frozen with the module.
fn keep<'v>(eval: &Evaluator<'v, '_, '_>, variable: &str, value: Value<'v>) {
    eval.module().set(variable, value);
}
