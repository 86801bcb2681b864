//! Functions that are called later: hooks and pings that a program has defined.
//!
//! A function is frozen with everything that it reaches, and can be called on any thread, as often as one likes. What it
//! can do there is up to the [`Host`]; how much is bounded as it is for programs, and for how long the host says.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use allocative::Allocative;
use serde::{Deserialize, Deserializer};
use starlark::any::ProvidesStaticType;
use starlark::environment::{Methods, MethodsBuilder, MethodsStatic, Module};
use starlark::eval::Evaluator;
use starlark::values::list::ListRef;
use starlark::values::none::{NoneOr, NoneType};
use starlark::values::structs::AllocStruct;
use starlark::values::{Heap, NoSerialize, OwnedFrozenValue, StarlarkValue, Value, starlark_value};
use starlark::{starlark_module, starlark_simple_value};

use super::limits::Meter;
use super::{Files, Running, explain, limits, running};
use crate::spec::locate::Diagnostic;
use crate::spec::value::{FUNCTION, HttpUrl, Invalid, Period, Words, quoted};

/// A function of a program.
#[derive(Clone)]
pub struct Function {
    /// Its number among those of its evaluation.
    index: usize,
    name: String,
    place: String,
    /// Of everything that decided what the programs gave: the same number of the same evaluation is the same function.
    digest: String,
    /// `None` until it is known which function this is.
    live: Option<Arc<Live>>,
}

struct Live {
    value: OwnedFrozenValue,
    files: Arc<Files>,
}

/// Context of a call: service, event, container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CallContext {
    /// The group.
    pub group: String,
    /// The service; empty for a hook of the group.
    pub service: String,
    /// Which replica of it; `None`: it has none.
    pub replica: Option<u32>,
    /// `ping`, `post_start`, `exited`, `up` ...
    pub event: String,
    /// Id of the container; empty where there is none.
    pub container: String,
    /// Its name; empty where there is none.
    pub container_name: String,
    /// What commands would find in their environment beside that.
    pub variables: BTreeMap<String, String>,
    /// The outputs of the group, as far as they are known.
    pub context: BTreeMap<String, String>,
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Its lines.
    pub output: Vec<String>,
    /// Why it did not succeed: `./check.sh exited with 3`.
    pub failed: Option<String>,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The body, as far as it is read.
    pub body: String,
}

/// The request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpTarget {
    /// A URL, from the host.
    Url(HttpUrl),
    /// A path at a port of the container.
    Container(u16, String),
}

/// What a function can do. Each call blocks, within the time that is given or that the host allows; the errors are texts
/// for people.
pub trait Host: Sync {
    /// Runs a command in the container.
    fn exec(&self, command: &[String], limit: Option<Duration>) -> Result<Ran, String>;
    /// Runs a command on the host, in the spec directory.
    fn run(&self, command: &[String], limit: Option<Duration>) -> Result<Ran, String>;
    /// Makes a GET request.
    fn get(&self, target: &HttpTarget, limit: Option<Duration>) -> Result<Response, String>;
    /// Connects to a port of the container; whether that is accepted.
    fn tcp(&self, port: u16) -> Result<bool, String>;
    /// The last lines of the container's output.
    fn logs(&self, lines: u32) -> Result<Vec<String>, String>;
    /// Waits.
    fn sleep(&self, time: Duration) -> Result<(), String>;
    /// Tells a line.
    fn say(&self, line: &str);
    /// Whether its time is over.
    fn expired(&self) -> bool;
}

/// How a function ended.
#[derive(Debug, Clone, PartialEq)]
pub struct CallResult {
    /// What it returned, where that is `True` or `False`; else what it is.
    pub returned: Result<bool, String>,
    /// Outputs that it set, in their order.
    pub outputs: Vec<(String, String)>,
}

impl Function {
    /// A function of a frozen module.
    pub(super) fn new(
        index: usize,
        (name, place): (String, String),
        digest: String,
        value: Option<OwnedFrozenValue>,
        files: Arc<Files>,
    ) -> Self {
        let live = value.map(|value| Arc::new(Live { value, files }));
        Self { index, name, place, digest, live }
    }

    /// Its number among those of its evaluation.
    pub(in crate::spec) fn index(&self) -> usize {
        self.index
    }

    /// As it is called in the program.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is given to a service: `app.star:12`.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Calls it with what it can know and do.
    ///
    /// Needs a deep stack: programs may nest calls and values.
    ///
    /// # Errors
    ///
    /// What went wrong in it, with its place and the calls that led there.
    pub fn call(&self, about: &CallContext, host: &dyn Host) -> Result<CallResult, Diagnostic> {
        match catch_unwind(AssertUnwindSafe(|| self.called(about, host))) {
            Ok(ended) => ended,
            Err(_) => {
                Err(Diagnostic::new(format!("{} cannot be called: the interpreter has failed", quoted(&self.name))))
            }
        }
    }

    fn called(&self, about: &CallContext, host: &dyn Host) -> Result<CallResult, Diagnostic> {
        let Some(live) = &self.live else {
            return Err(Diagnostic::new(format!("the function {} is not there", quoted(&self.name))));
        };
        let expired = || host.expired();
        let meter = Meter::new(&expired);
        let outputs = Outputs(Arc::new(Mutex::new(Known { values: about.context.clone(), set: Vec::new() })));
        let returned = Module::with_temp_heap(|module| {
            let heap = module.heap();
            let running = Running { meter: &meter, evaluation: None, host: Some(host) };
            let printer = Printer(host);
            let mut eval = Evaluator::new(&module);
            eval.disable_gc();
            eval.set_print_handler(&printer);
            eval.set_check_cancelled(Box::new(|| meter.stops(heap)));
            eval.set_max_callstack_size(limits::MAX_CALLS).map_err(starlark::Error::new_other)?;
            eval.extra = Some(&running);
            let function = heap.access_owned_frozen_value(&live.value);
            let context = heap.alloc(Context { about: about.clone(), outputs: outputs.clone() });
            let value = eval.eval_function(function, &[context], &[])?;
            Ok::<_, starlark::Error>(value.unpack_bool().ok_or_else(|| value.get_type().to_owned()))
        });
        let returned = returned.map_err(|error| explain(&error, &live.files, None, &meter))?;
        let outputs = std::mem::take(&mut outputs.known().set);
        Ok(CallResult { returned, outputs })
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
        write!(f, "{} ({})", self.name, self.place)
    }
}

impl<'de> Deserialize<'de> for Function {
    /// Only its number, and only from a tree that a program has made. Which function that is, is filled in afterwards.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl serde::de::Visitor<'_> for Number {
            type Value = usize;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a function of a `*.star` file")
            }
            fn visit_u128<E: serde::de::Error>(self, number: u128) -> Result<usize, E> {
                usize::try_from(number).map_err(E::custom)
            }
        }
        let index = deserializer.deserialize_newtype_struct(FUNCTION, Number)?;
        Ok(Self { index, name: String::new(), place: String::new(), digest: String::new(), live: None })
    }
}

fn host<'a>(eval: &Evaluator<'_, 'a, '_>) -> anyhow::Result<&'a dyn Host> {
    running(eval)?.host.ok_or_else(|| anyhow::anyhow!("this can be done in a hook or a ping only"))
}

struct Printer<'h>(&'h dyn Host);

impl starlark::PrintHandler for Printer<'_> {
    fn println(&self, text: &str) -> starlark::Result<()> {
        text.lines().for_each(|line| self.0.say(line));
        Ok(())
    }
}

/// Outputs that are known and those that the function sets.
#[derive(Debug, Clone, ProvidesStaticType, NoSerialize, Allocative)]
struct Outputs(#[allocative(skip)] Arc<Mutex<Known>>);

#[derive(Debug)]
struct Known {
    values: BTreeMap<String, String>,
    set: Vec<(String, String)>,
}

impl Outputs {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Outputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("context")
    }
}

starlark_simple_value!(Outputs);

/// How many outputs a call may set, and how long each may be.
const MAX_OUTPUTS: usize = 1000;
const MAX_OUTPUT: usize = 64 * 1024;

fn key(index: Value<'_>) -> starlark::Result<&str> {
    index.unpack_str().ok_or_else(|| starlark::Error::new_native(Invalid::new("the key of an output is a text")))
}

#[starlark_value(type = "context")]
impl<'v> StarlarkValue<'v> for Outputs {
    fn get_methods() -> Option<&'static Methods> {
        static METHODS: MethodsStatic = MethodsStatic::new("context", output_methods);
        Some(METHODS.methods())
    }

    fn at(&self, index: Value<'v>, heap: Heap<'v>) -> starlark::Result<Value<'v>> {
        let key = key(index)?;
        let known = self.known();
        let value = known.values.get(key).map(|value| heap.alloc(value.as_str()));
        value.ok_or_else(|| starlark::Error::new_native(Invalid::new(format!("there is no output {}", quoted(key)))))
    }

    fn set_at(&self, index: Value<'v>, new: Value<'v>) -> starlark::Result<()> {
        let (key, value) = (key(index)?, new.to_str());
        let mut known = self.known();
        if known.set.len() >= MAX_OUTPUTS || value.len() > MAX_OUTPUT {
            let message = format!("at most {MAX_OUTPUTS} outputs of {} KiB are kept", MAX_OUTPUT / 1024);
            return Err(starlark::Error::new_native(Invalid::new(message)));
        }
        known.values.insert(key.to_owned(), value.clone());
        known.set.push((key.to_owned(), value));
        Ok(())
    }

    fn is_in(&self, other: Value<'v>) -> starlark::Result<bool> {
        Ok(self.known().values.contains_key(key(other)?))
    }
}

/// Outputs of the group: `ctx.context["user_id"]`, `ctx.context["user_id"] = "7"`, `"user_id" in ctx.context`.
#[starlark_module]
pub(super) fn output_methods(builder: &mut MethodsBuilder) {
    /// An output, or the default where it is not known.
    fn get<'v>(
        this: &Outputs,
        #[starlark(require = pos)] key: &str,
        default: Option<Value<'v>>,
        heap: Heap<'v>,
    ) -> anyhow::Result<Value<'v>> {
        let value = this.known().values.get(key).map(|value| heap.alloc(value.as_str()));
        Ok(value.or(default).unwrap_or_else(Value::new_none))
    }
}

/// The argument of a function that is called when something happens.
#[derive(Debug, Clone, ProvidesStaticType, NoSerialize, Allocative)]
struct Context {
    #[allocative(skip)]
    about: CallContext,
    outputs: Outputs,
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ctx({} {})", self.about.service, self.about.event)
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

/// A command: a list of texts, or one that is split as a shell would.
fn command(value: Value<'_>) -> Result<Vec<String>, Invalid> {
    let words = match value.unpack_str() {
        Some(text) => text.parse::<Words>()?.0,
        None => {
            let list = ListRef::from_value(value).ok_or_else(|| Invalid::new("a command is a list of texts"))?;
            list.iter().map(|word| word.to_str()).collect()
        }
    };
    match words.is_empty() {
        true => Err(Invalid::new("the command is empty")),
        false => Ok(words),
    }
}

/// A time: seconds, or a text such as `100ms`.
fn time(value: Value<'_>) -> Result<Duration, Invalid> {
    if let Some(text) = value.unpack_str() {
        return text.parse::<Period>().map(Period::get);
    }
    let seconds = value.to_str().parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| Invalid::new(format!("{} is no time; write seconds or `100ms`", quoted(&value.to_str()))))
}

fn limit(value: NoneOr<Value<'_>>) -> Result<Option<Duration>, Invalid> {
    value.into_option().map(time).transpose()
}

fn port(number: i32) -> Result<u16, Invalid> {
    u16::try_from(number).ok().filter(|port| *port > 0).ok_or_else(|| Invalid::new(format!("{number} is no port")))
}

/// What a command did, as a value; an error where it had to succeed.
fn ran<'v>(ran: Ran, check: bool, heap: Heap<'v>) -> Result<Value<'v>, Invalid> {
    match ran.failed {
        Some(why) if check => {
            let said = ran.output.iter().rev().find(|line| !line.trim().is_empty());
            Err(Invalid::new(said.map_or(why.clone(), |line| format!("{why}: {}", line.trim()))))
        }
        failed => {
            let fields = [
                ("ok", heap.alloc(failed.is_none())),
                ("output", heap.alloc(ran.output.join("\n"))),
                ("error", failed.map_or_else(Value::new_none, |why| heap.alloc(why))),
            ];
            Ok(heap.alloc(AllocStruct(fields)))
        }
    }
}

/// What a function can know and do.
#[starlark_module]
pub(super) fn methods(builder: &mut MethodsBuilder) {
    /// Name of the service; empty in a hook of the group.
    #[starlark(attribute)]
    fn service(this: &Context) -> anyhow::Result<String> {
        Ok(this.about.service.clone())
    }

    /// The number of the replica; `None` where the service has no replicas.
    #[starlark(attribute)]
    fn replica<'v>(this: &Context, heap: Heap<'v>) -> anyhow::Result<Value<'v>> {
        Ok(this.about.replica.map_or_else(Value::new_none, |number| heap.alloc(number)))
    }

    /// Name of the group.
    #[starlark(attribute)]
    fn group(this: &Context) -> anyhow::Result<String> {
        Ok(this.about.group.clone())
    }

    /// What happens: `ping`, `pre_start`, `post_start`, `exited`, `up` ...
    #[starlark(attribute)]
    fn event(this: &Context) -> anyhow::Result<String> {
        Ok(this.about.event.clone())
    }

    /// Id of the container; empty where there is none.
    #[starlark(attribute)]
    fn container(this: &Context) -> anyhow::Result<String> {
        Ok(this.about.container.clone())
    }

    /// Name of the container; empty where there is none.
    #[starlark(attribute)]
    fn container_name(this: &Context) -> anyhow::Result<String> {
        Ok(this.about.container_name.clone())
    }

    /// Outputs of the group: `ctx.context["user_id"]` reads one, `ctx.context["user_id"] = "7"` sets it,
    /// `ctx.context.get("user_id", "0")` has a default.
    #[starlark(attribute)]
    fn context<'v>(this: &Context, heap: Heap<'v>) -> anyhow::Result<Value<'v>> {
        Ok(heap.alloc(this.outputs.clone()))
    }

    /// What commands would find in their environment beside that, e.g. `ctx.variables["DRILLMASTER_EXIT_CODE"]`.
    #[starlark(attribute)]
    fn variables<'v>(this: &Context, heap: Heap<'v>) -> anyhow::Result<Value<'v>> {
        let entries = this.about.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Ok(heap.alloc(starlark::values::dict::AllocDict(entries)))
    }

    /// Runs a command in the container. Gives its `output`, whether it was `ok`, and what was not as its `error` (`None`
    /// otherwise). One that fails ends the function, unless `check=False`.
    /// `ctx.exec(["psql", "-c", "select 1"], timeout="5s")`
    fn exec<'v>(
        this: &Context,
        #[starlark(require = pos)] cmd: Value<'v>,
        #[starlark(default = NoneOr::None)] timeout: NoneOr<Value<'v>>,
        #[starlark(default = true)] check: bool,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        let _ = this;
        let done = host(eval)?.exec(&command(cmd)?, limit(timeout)?).map_err(Invalid::new)?;
        Ok(ran(done, check, eval.heap())?)
    }

    /// Runs a command on the host, in the spec directory; else as `exec`.
    fn run<'v>(
        this: &Context,
        #[starlark(require = pos)] cmd: Value<'v>,
        #[starlark(default = NoneOr::None)] timeout: NoneOr<Value<'v>>,
        #[starlark(default = true)] check: bool,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        let _ = this;
        let done = host(eval)?.run(&command(cmd)?, limit(timeout)?).map_err(Invalid::new)?;
        Ok(ran(done, check, eval.heap())?)
    }

    /// Asks for a URL, or for a path at a port of the container. Gives `status`, `body` and `ok` (2xx or 3xx); no answer
    /// is an error. `ctx.http_get("/healthz", port=8080)`, `ctx.http_get("http://localhost:8080/healthz")`
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

    /// Whether a connection to a port of the container is accepted.
    fn tcp<'v>(
        this: &Context,
        #[starlark(require = pos)] port: i32,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<bool> {
        let _ = this;
        Ok(host(eval)?.tcp(self::port(port)?).map_err(Invalid::new)?)
    }

    /// The last lines of the container's output, a list of texts.
    fn logs<'v>(
        this: &Context,
        #[starlark(default = 100)] tail: i32,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Vec<String>> {
        let _ = this;
        Ok(host(eval)?.logs(u32::try_from(tail).unwrap_or(0).min(10_000)).map_err(Invalid::new)?)
    }

    /// Waits: seconds, or a text such as `100ms`.
    fn sleep<'v>(
        this: &Context,
        #[starlark(require = pos)] time: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<NoneType> {
        let _ = this;
        host(eval)?.sleep(self::time(time)?).map_err(Invalid::new)?;
        Ok(NoneType)
    }
}
