//! Functions of programs that run as hooks and pings.
//!
//! A [`Function`] names a function and the programs that define it; a [`Session`] calls it. The [`Host`] performs its
//! actions; steps and memory are limited as for programs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use allocative::Allocative;
use serde::{Deserialize, Deserializer, Serialize};
use starlark::any::ProvidesStaticType;
use starlark::environment::{Methods, MethodsBuilder, MethodsStatic, Module};
use starlark::eval::{BeforeStmtFunc, Evaluator};
use starlark::values::list::ListRef;
use starlark::values::none::{NoneOr, NoneType};
use starlark::values::structs::AllocStruct;
use starlark::values::{Heap, NoSerialize, StarlarkValue, Value, starlark_value};
use starlark::{starlark_module, starlark_simple_value};

use super::limits::Meter;
use super::{
    FunctionName, ProgramError, Running, Session, Snapshot, Trace, before_statement, explain, limits, running,
};
use crate::spec::locate::Diagnostic;
use crate::spec::value::{FUNCTION, HttpUrl, Invalid, Period, Words, quoted};

/// A function defined by a program.
#[derive(Clone)]
pub struct Function {
    /// Index among the functions of its evaluation.
    index: usize,
    name: FunctionName,
    /// Hash of all inputs of the evaluation. Functions are equal if their digest and index are equal.
    digest: String,
    /// The evaluation that defines it. Empty after deserialization, until the index is resolved.
    snapshot: Arc<Snapshot>,
}

/// Context of a call: service, event, container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CallContext {
    /// Name of the group.
    pub group: String,
    /// Name of the service; empty for hooks of the group.
    pub service: String,
    /// Replica number; `None` without `replicas`.
    pub replica: Option<u32>,
    /// Hook point, lifecycle event or `ping`: `post_start`, `exited`, `up`.
    pub event: String,
    /// Id of the container; empty without one.
    pub container: String,
    /// Name of the container; empty without one.
    pub container_name: String,
    /// Further environment variables that command hooks receive.
    pub variables: BTreeMap<String, String>,
    /// Known outputs of the group.
    pub context: BTreeMap<String, String>,
}

/// Result of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// Lines of output.
    pub output: Vec<String>,
    /// Error message if the command failed: `./check.sh exited with 3`.
    pub failed: Option<String>,
    /// `None`: it did not exit, or was killed by a signal.
    pub exit_code: Option<i64>,
}

/// Response to an HTTP request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Body, possibly truncated.
    pub body: String,
}

/// Target of an HTTP request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HttpTarget {
    /// A URL, requested from the host.
    Url(HttpUrl),
    /// A port of the container and a path.
    Container(u16, String),
}

/// Actions available to functions. Calls block until the given limit or the host's own deadline. Errors are messages for
/// the user.
pub trait Host {
    /// Runs a command in the container.
    fn exec(&self, command: &[String], limit: Option<Duration>) -> Result<Ran, String>;
    /// Runs a command on the host, in the spec directory.
    fn run(&self, command: &[String], limit: Option<Duration>) -> Result<Ran, String>;
    /// Sends a GET request.
    fn get(&self, target: &HttpTarget, limit: Option<Duration>) -> Result<Response, String>;
    /// Returns true if a port of the container accepts a connection.
    fn tcp(&self, port: u16) -> Result<bool, String>;
    /// Returns the last lines of the container's output.
    fn logs(&self, lines: u32) -> Result<Vec<String>, String>;
    /// Waits for the given time.
    fn sleep(&self, time: Duration) -> Result<(), String>;
    /// Reports a line printed by the function.
    fn say(&self, line: &str);
}

/// Result of a function call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallResult {
    /// Returned boolean, or the type name of any other returned value.
    pub returned: Result<bool, String>,
    /// Outputs that the function set, in order.
    pub outputs: Vec<(String, String)>,
}

impl Function {
    pub(super) fn new(index: usize, name: FunctionName, digest: String, snapshot: Arc<Snapshot>) -> Self {
        Self { index, name, digest, snapshot }
    }

    /// Returns the index among the functions of its evaluation.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Returns the name in the program.
    pub fn name(&self) -> &str {
        &self.name.name
    }

    /// Returns the location of the call that uses the function: `app.star:12`.
    pub fn location(&self) -> &str {
        &self.name.location
    }

    /// Returns the keys of outputs that it may set, as far as its text shows them.
    pub fn outputs(&self) -> &BTreeSet<String> {
        &self.name.outputs
    }

    /// Returns the hash of all inputs of its evaluation.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Returns the inputs of its evaluation.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }
}

impl Session {
    /// Calls a function, given by index. Requires a large stack: calls and values may be deeply nested.
    ///
    /// # Errors
    ///
    /// If the function fails, with its place and the call stack.
    pub fn call(
        &self,
        index: usize,
        context: &CallContext,
        host: &dyn Host,
        trace: &dyn Trace,
    ) -> Result<CallResult, ProgramError> {
        let Some(function) = self.functions.get(index).and_then(Option::as_ref) else {
            return Err(Diagnostic::new("function not found in the programs").into());
        };
        let meter = Meter::default();
        let outputs = Outputs(Arc::new(Mutex::new(OutputState { values: context.context.clone(), set: Vec::new() })));
        let returned = Module::with_temp_heap(|module| {
            let heap = module.heap();
            let running = Running { evaluation: None, host: Some(host) };
            let printer = Printer(host);
            let index = |path: &str| self.files.get(path).map(|file| file.index);
            let before = before_statement(trace, &index);
            let mut eval = Evaluator::new(&module);
            eval.disable_gc();
            eval.set_print_handler(&printer);
            eval.before_stmt_for_dap(BeforeStmtFunc::Fn(&before));
            eval.set_check_cancelled(Box::new(|| meter.should_stop(heap)));
            eval.set_max_callstack_size(limits::MAX_CALLS).map_err(starlark::Error::new_other)?;
            eval.extra = Some(&running);
            let function = heap.access_owned_frozen_value(function);
            let argument = heap.alloc(Context { call: context.clone(), outputs: outputs.clone() });
            let value = eval.eval_function(function, &[argument], &[])?;
            Ok::<_, starlark::Error>(value.unpack_bool().ok_or_else(|| value.get_type().to_owned()))
        });
        let returned = returned.map_err(|error| {
            let is_defect = meter.exceeded().is_none() && is_defect(&error);
            ProgramError { is_defect, ..explain(&error, &self.files, None, &meter).into() }
        })?;
        let outputs = std::mem::take(&mut outputs.state().set);
        Ok(CallResult { returned, outputs })
    }
}

/// Returns true if the program is wrong whatever the function finds: a wrong attribute, operation or argument. An index
/// that is out of range or a missing key may depend on what a service has answered so far, and so may `None`.
fn is_defect(error: &starlark::Error) -> bool {
    match error.kind() {
        starlark::ErrorKind::Function(_) | starlark::ErrorKind::Scope(_) => true,
        starlark::ErrorKind::Value(error) => {
            let text = error.to_string();
            (text.contains("has no attribute") || text.starts_with("Operation `")) && !text.contains("NoneType")
        }
        _ => false,
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        (self.index, &self.digest) == (other.index, &other.digest)
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Function({self})")
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name.name, self.name.location)
    }
}

impl<'de> Deserialize<'de> for Function {
    /// Reads the index only, which occurs only in trees of programs. The rest is filled in later.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IndexVisitor;
        impl serde::de::Visitor<'_> for IndexVisitor {
            type Value = usize;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a function of a `*.star` file")
            }
            fn visit_u128<E: serde::de::Error>(self, number: u128) -> Result<usize, E> {
                usize::try_from(number).map_err(E::custom)
            }
        }
        let index = deserializer.deserialize_newtype_struct(FUNCTION, IndexVisitor)?;
        let name = FunctionName::default();
        Ok(Self { index, name, digest: String::new(), snapshot: Arc::default() })
    }
}

fn host<'a>(eval: &Evaluator<'_, 'a, '_>) -> anyhow::Result<&'a dyn Host> {
    running(eval)?.host.ok_or_else(|| anyhow::anyhow!("only available in hooks and pings"))
}

struct Printer<'h>(&'h dyn Host);

impl starlark::PrintHandler for Printer<'_> {
    fn println(&self, text: &str) -> starlark::Result<()> {
        text.lines().for_each(|line| self.0.say(line));
        Ok(())
    }
}

/// The group's outputs as a value: known ones and those that the function sets.
#[derive(Debug, Clone, ProvidesStaticType, NoSerialize, Allocative)]
struct Outputs(#[allocative(skip)] Arc<Mutex<OutputState>>);

#[derive(Debug)]
struct OutputState {
    values: BTreeMap<String, String>,
    set: Vec<(String, String)>,
}

impl Outputs {
    fn state(&self) -> MutexGuard<'_, OutputState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Outputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("context")
    }
}

starlark_simple_value!(Outputs);

/// Maximum number of outputs that a call may set.
const MAX_OUTPUTS: usize = 1000;
/// Maximum size of an output in bytes.
const MAX_OUTPUT: usize = 64 * 1024;

fn key(index: Value<'_>) -> starlark::Result<&str> {
    index.unpack_str().ok_or_else(|| starlark::Error::new_native(Invalid::new("the key of an output must be a string")))
}

#[starlark_value(type = "context")]
impl<'v> StarlarkValue<'v> for Outputs {
    fn get_methods() -> Option<&'static Methods> {
        static METHODS: MethodsStatic = MethodsStatic::new("context", output_methods);
        Some(METHODS.methods())
    }

    fn at(&self, index: Value<'v>, heap: Heap<'v>) -> starlark::Result<Value<'v>> {
        let key = key(index)?;
        let state = self.state();
        let value = state.values.get(key).map(|value| heap.alloc(value.as_str()));
        value.ok_or_else(|| starlark::Error::new_native(Invalid::new(format!("output {} is not set", quoted(key)))))
    }

    fn set_at(&self, index: Value<'v>, new: Value<'v>) -> starlark::Result<()> {
        let (key, value) = (key(index)?, new.to_str());
        let mut state = self.state();
        if state.set.len() >= MAX_OUTPUTS || value.len() > MAX_OUTPUT {
            let message = format!("outputs are limited to {MAX_OUTPUTS} per call and {} KiB each", MAX_OUTPUT / 1024);
            return Err(starlark::Error::new_native(Invalid::new(message)));
        }
        state.values.insert(key.to_owned(), value.clone());
        state.set.push((key.to_owned(), value));
        Ok(())
    }

    fn is_in(&self, other: Value<'v>) -> starlark::Result<bool> {
        Ok(self.state().values.contains_key(key(other)?))
    }
}

/// Methods of `ctx.context`.
#[starlark_module]
pub(super) fn output_methods(builder: &mut MethodsBuilder) {
    /// Returns an output, or the default if it is not set.
    fn get<'v>(
        this: &Outputs,
        #[starlark(require = pos)] key: &str,
        default: Option<Value<'v>>,
        heap: Heap<'v>,
    ) -> anyhow::Result<Value<'v>> {
        let value = this.state().values.get(key).map(|value| heap.alloc(value.as_str()));
        Ok(value.or(default).unwrap_or_else(Value::new_none))
    }
}

/// The `ctx` argument of functions.
#[derive(Debug, Clone, ProvidesStaticType, NoSerialize, Allocative)]
struct Context {
    #[allocative(skip)]
    call: CallContext,
    outputs: Outputs,
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ctx({} {})", self.call.service, self.call.event)
    }
}

starlark_simple_value!(Context);

#[starlark_value(type = "ctx")]
impl<'v> StarlarkValue<'v> for Context {
    fn get_methods() -> Option<&'static Methods> {
        static METHODS: MethodsStatic = MethodsStatic::new("ctx", methods);
        Some(METHODS.methods())
    }
}

/// Parses a command: a list of arguments, or a string that is split like in a shell.
fn command(value: Value<'_>) -> Result<Vec<String>, Invalid> {
    let words = match value.unpack_str() {
        Some(text) => text.parse::<Words>()?.0,
        None => {
            let list =
                ListRef::from_value(value).ok_or_else(|| Invalid::new("a command must be a string or a list"))?;
            list.iter().map(|word| word.to_str()).collect()
        }
    };
    match words.is_empty() {
        true => Err(Invalid::new("the command is empty")),
        false => Ok(words),
    }
}

/// Parses a duration: seconds, or a string such as `100ms`.
fn duration(value: Value<'_>) -> Result<Duration, Invalid> {
    if let Some(text) = value.unpack_str() {
        return text.parse::<Period>().map(Period::get);
    }
    let seconds = value.to_str().parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| {
        Invalid::new(format!("invalid duration {}", quoted(&value.to_str())))
            .hint("write seconds, or a string such as `100ms`")
    })
}

fn limit(value: NoneOr<Value<'_>>) -> Result<Option<Duration>, Invalid> {
    value.into_option().map(duration).transpose()
}

fn port(number: i32) -> Result<u16, Invalid> {
    let port = u16::try_from(number).ok().filter(|port| *port > 0);
    port.ok_or_else(|| Invalid::new(format!("`{number}` is not a port: ports go from 1 to 65535")))
}

/// Converts the result of a command to a value; with `check`, a failure is an error.
fn command_result<'v>(ran: Ran, check: bool, heap: Heap<'v>) -> Result<Value<'v>, Invalid> {
    match ran.failed {
        Some(why) if check => {
            let last_line = ran.output.iter().rev().find(|line| !line.trim().is_empty());
            Err(Invalid::new(last_line.map_or(why.clone(), |line| format!("{why}: {}", line.trim()))))
        }
        failed => {
            let fields = [
                ("ok", heap.alloc(failed.is_none())),
                ("exit_code", ran.exit_code.map_or_else(Value::new_none, |code| heap.alloc(code))),
                ("output", heap.alloc(ran.output.join("\n"))),
                ("error", failed.map_or_else(Value::new_none, |why| heap.alloc(why))),
            ];
            Ok(heap.alloc(AllocStruct(fields)))
        }
    }
}

/// Attributes and methods of `ctx`.
#[starlark_module]
pub(super) fn methods(builder: &mut MethodsBuilder) {
    /// Name of the service; empty in hooks of the group.
    #[starlark(attribute)]
    fn service(this: &Context) -> anyhow::Result<String> {
        Ok(this.call.service.clone())
    }

    /// Replica number; `None` without `replicas`.
    #[starlark(attribute)]
    fn replica<'v>(this: &Context, heap: Heap<'v>) -> anyhow::Result<Value<'v>> {
        Ok(this.call.replica.map_or_else(Value::new_none, |number| heap.alloc(number)))
    }

    /// Name of the group.
    #[starlark(attribute)]
    fn group(this: &Context) -> anyhow::Result<String> {
        Ok(this.call.group.clone())
    }

    /// `ping`, the hook point or the event: `pre_start`, `exited`, `up`.
    #[starlark(attribute)]
    fn event(this: &Context) -> anyhow::Result<String> {
        Ok(this.call.event.clone())
    }

    /// Id of the container; empty without one.
    #[starlark(attribute)]
    fn container(this: &Context) -> anyhow::Result<String> {
        Ok(this.call.container.clone())
    }

    /// Name of the container; empty without one.
    #[starlark(attribute)]
    fn container_name(this: &Context) -> anyhow::Result<String> {
        Ok(this.call.container_name.clone())
    }

    /// Outputs of the group. `ctx.context["user_id"]` reads an output and fails if it is not set,
    /// `ctx.context.get("user_id", "0")` reads it with a default, `ctx.context["user_id"] = "7"` sets it,
    /// `"user_id" in ctx.context` tests for it.
    #[starlark(attribute)]
    fn context<'v>(this: &Context, heap: Heap<'v>) -> anyhow::Result<Value<'v>> {
        Ok(heap.alloc(this.outputs.clone()))
    }

    /// Further variables that a command hook would find in its environment: `ctx.variables["DRILLMASTER_EXIT_CODE"]`.
    #[starlark(attribute)]
    fn variables<'v>(this: &Context, heap: Heap<'v>) -> anyhow::Result<Value<'v>> {
        let entries = this.call.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Ok(heap.alloc(starlark::values::dict::AllocDict(entries)))
    }

    /// Runs a command in the container and returns `output`, `ok`, `exit_code` (`None` if it did not exit) and `error` (a
    /// message; `None` on success). If the command fails, the function fails, unless `check=False`.
    /// `ctx.exec(["psql", "-c", "select 1"], timeout="5s")`
    fn exec<'v>(
        this: &Context,
        #[starlark(require = pos)] cmd: Value<'v>,
        #[starlark(default = NoneOr::None)] timeout: NoneOr<Value<'v>>,
        #[starlark(default = true)] check: bool,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        let _ = this;
        let result = host(eval)?.exec(&command(cmd)?, limit(timeout)?).map_err(Invalid::new)?;
        Ok(command_result(result, check, eval.heap())?)
    }

    /// Runs a command on the host, in the spec directory. Arguments and result are those of `exec`.
    fn run<'v>(
        this: &Context,
        #[starlark(require = pos)] cmd: Value<'v>,
        #[starlark(default = NoneOr::None)] timeout: NoneOr<Value<'v>>,
        #[starlark(default = true)] check: bool,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        let _ = this;
        let result = host(eval)?.run(&command(cmd)?, limit(timeout)?).map_err(Invalid::new)?;
        Ok(command_result(result, check, eval.heap())?)
    }

    /// Sends a GET request to a URL, or to a path on a port of the container, and returns `status`, `body` and `ok` (true
    /// for 2xx and 3xx). Fails if there is no response. `ctx.http_get("/healthz", port=8080)`, `ctx.http_get("http://localhost:8080/healthz")`
    fn http_get<'v>(
        this: &Context,
        #[starlark(require = pos)] target: &str,
        #[starlark(default = 80)] port: i32,
        #[starlark(default = NoneOr::None)] timeout: NoneOr<Value<'v>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        let _ = this;
        let target = match target.starts_with('/') {
            true => HttpTarget::Container(self::port(port)?, target.to_owned()),
            false => HttpTarget::Url(target.parse()?),
        };
        let Response { status, body } = host(eval)?.get(&target, limit(timeout)?).map_err(Invalid::new)?;
        let heap = eval.heap();
        let fields = [
            ("status", heap.alloc(i32::from(status))),
            ("body", heap.alloc(body)),
            ("ok", heap.alloc((200..400).contains(&status))),
        ];
        Ok(heap.alloc(AllocStruct(fields)))
    }

    /// Returns `True` if the port of the container accepts a connection.
    fn tcp<'v>(
        this: &Context,
        #[starlark(require = pos)] port: i32,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<bool> {
        let _ = this;
        Ok(host(eval)?.tcp(self::port(port)?).map_err(Invalid::new)?)
    }

    /// Returns the last lines of the container's output as a list of strings.
    fn logs<'v>(
        this: &Context,
        #[starlark(default = 100)] tail: i32,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Vec<String>> {
        let _ = this;
        Ok(host(eval)?.logs(u32::try_from(tail).unwrap_or(0).min(10_000)).map_err(Invalid::new)?)
    }

    /// Waits for a duration: seconds, or a string such as `100ms`.
    fn sleep<'v>(
        this: &Context,
        #[starlark(require = pos)] time: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<NoneType> {
        let _ = this;
        host(eval)?.sleep(self::duration(time)?).map_err(Invalid::new)?;
        Ok(NoneType)
    }
}
