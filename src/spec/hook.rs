//! Hook types of specs and their parsing. `plan` and the controller decide when hooks run.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess};

use super::model::{Check, Service};
use super::secrets::HIDDEN;
use super::short::{both_forms, http_status, nothing_to_run, read_shaped};
use super::starlark::Function;
use super::value::{
    HeaderName, HeaderValue, HttpUrl, Invalid, OneOrMany, OutputKey, Period, Shape, Text, Words, quoted, shaped,
};

/// Hooks for lifecycle events of a service. Hooks of `exited`, `stopped` and `failed` cannot use `exec`: the container
/// may not be running.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct On {
    /// The service became ready.
    #[serde(default)]
    pub ready: OneOrMany<Hook>,
    /// The container exited by itself.
    #[serde(default)]
    pub exited: OneOrMany<HostHook>,
    /// The service became unhealthy.
    #[serde(default)]
    pub unhealthy: OneOrMany<Hook>,
    /// The container was restarted.
    #[serde(default)]
    pub restarted: OneOrMany<Hook>,
    /// The container was replaced.
    #[serde(default)]
    pub replaced: OneOrMany<Hook>,
    /// The container was stopped for good.
    #[serde(default)]
    pub stopped: OneOrMany<HostHook>,
    /// The service failed.
    #[serde(default)]
    pub failed: OneOrMany<HostHook>,
    /// The job succeeded.
    #[serde(skip)]
    pub succeeded: OneOrMany<HostHook>,
}

/// Hooks that run when a job has exited.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobOn {
    /// The job exited with code 0.
    #[serde(default)]
    pub succeeded: OneOrMany<HostHook>,
    /// The job failed and has no retries left.
    #[serde(default)]
    pub failed: OneOrMany<HostHook>,
}

/// Hooks that run when a command has finished.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupOn {
    /// `up` has finished: every service is ready or has failed.
    #[serde(default)]
    pub up: OneOrMany<HostHook>,
    /// `down` has finished.
    #[serde(default)]
    pub down: OneOrMany<HostHook>,
    /// `reload` has finished: the services are ready again.
    #[serde(default)]
    pub reload: OneOrMany<HostHook>,
}

impl Service {
    /// Returns the functions used as ping and hooks.
    pub(super) fn functions_mut(&mut self) -> impl Iterator<Item = &mut Function> {
        let On { ready, exited, unhealthy, restarted, replaced, stopped, failed, succeeded } = &mut self.on;
        let hooks = [&mut self.post_start, &mut self.pre_stop, ready, unhealthy, restarted, replaced];
        let host = [&mut self.container.pre_start, &mut self.post_stop, exited, stopped, failed, succeeded];
        let hooks = hooks.into_iter().flat_map(|hooks| &mut hooks.0);
        let ping = self.ping.as_mut().and_then(|ping| match &mut ping.check {
            Check::Function(function) => Some(function),
            _ => None,
        });
        hooks.filter_map(Hook::function_mut).chain(host.into_iter().flat_map(host_functions_mut)).chain(ping)
    }
}

impl GroupOn {
    /// Returns all hooks of the group.
    pub fn hooks(&self) -> impl Iterator<Item = &Hook> {
        self.up.iter().chain(self.down.iter()).chain(self.reload.iter()).map(HostHook::get)
    }

    /// Returns the functions used as hooks.
    pub(super) fn functions_mut(&mut self) -> impl Iterator<Item = &mut Function> {
        [&mut self.up, &mut self.down, &mut self.reload].into_iter().flat_map(host_functions_mut)
    }
}

fn host_functions_mut(hooks: &mut OneOrMany<HostHook>) -> impl Iterator<Item = &mut Function> {
    hooks.0.iter_mut().filter_map(|hook| hook.0.function_mut())
}

impl Hook {
    fn function_mut(&mut self) -> Option<&mut Function> {
        match &mut self.action {
            HookAction::Function(function) => Some(function),
            _ => None,
        }
    }
}

/// An action with a timeout.
#[derive(Debug, Clone, PartialEq)]
pub struct Hook {
    pub action: HookAction,
    /// Timeout. Defaults to 60 s.
    pub timeout: Duration,
    /// Key of the output that is set to the command's stdout, or to the body of the response.
    pub capture: Option<OutputKey>,
    /// A variable or an output was inserted into it, so it is not shown.
    pub secret: bool,
}

/// A hook that runs on the host: its action is never `exec`.
#[derive(Debug, Clone, PartialEq)]
pub struct HostHook(Hook);

impl HostHook {
    /// Returns the hook.
    pub fn get(&self) -> &Hook {
        &self.0
    }
}

/// Action of a hook.
#[derive(Debug, Clone, PartialEq)]
pub enum HookAction {
    /// `exec: [create-user, ann]`: a command in the container.
    Exec(Words),
    /// `run: [./greet.sh]`: a command on the host, started in the spec directory.
    Run(Words),
    /// `http: {url: "http://localhost:9/alert", method: POST}`: a request from the host.
    Http(HttpRequest),
    /// A function of a program.
    Function(Function),
}

/// An HTTP request.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpRequest {
    pub url: HttpUrl,
    /// Defaults to GET.
    pub method: Method,
    pub headers: BTreeMap<HeaderName, HeaderValue>,
    pub body: Option<Text>,
    /// Expected status. Defaults to any 2xx.
    pub status: Option<u16>,
}

/// Method of an HTTP request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

const HOOK_TIMEOUT: Duration = Duration::from_secs(60);

const ACTIONS_HINT: &str = "write one of `exec`, `run` and `http`";
const HOST_ACTIONS_HINT: &str = "write one of `run` and `http`";

/// Declares the long form of a hook, with additional fields first.
macro_rules! long_hook {
    ($(#[$doc:meta])* $name:ident { $($own:tt)* }) => {
        $(#[$doc])*
        #[derive(Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        struct $name {
            $($own)*
            /// Command on the host, started in the spec directory.
            #[serde(default)]
            run: Option<Words>,
            /// HTTP request from the host; a URL alone is a GET.
            #[serde(default)]
            http: Option<HttpRequest>,
            /// A function of a program.
            #[serde(default)]
            #[schemars(skip)]
            function: Option<Function>,
            /// Timeout. Defaults to 60 s.
            #[serde(default)]
            timeout: Option<Period>,
            /// Key of an output that is set to the command's stdout, or to the body of the response. Other fields use it as
            /// `${context.key}`.
            #[serde(default)]
            capture: Option<OutputKey>,
        }
    };
}

long_hook! {
    /// A hook: exactly one of `exec`, `run` and `http`.
    LongHook {
        /// Command in the container.
        #[serde(default)]
        exec: Option<Words>,
    }
}

long_hook! {
    /// A hook on the host: exactly one of `run` and `http`.
    LongHostHook {}
}

impl LongHook {
    fn hook(self, actions_hint: &str) -> Result<Hook, Invalid> {
        let command = |name, words: Option<Words>| match words {
            Some(words) if words.is_empty() => Err(nothing_to_run(name)),
            words => Ok(words),
        };
        let actions = [
            command("exec", self.exec)?.map(|words| ("exec", HookAction::Exec(words))),
            command("run", self.run)?.map(|words| ("run", HookAction::Run(words))),
            self.http.map(|request| ("http", HookAction::Http(request))),
            self.function.map(|function| ("function", HookAction::Function(function))),
        ];
        let mut actions: Vec<_> = actions.into_iter().flatten().collect();
        let names: Vec<String> = actions.iter().map(|(name, _)| format!("`{name}`")).collect();
        let action = match (actions.pop(), actions.is_empty()) {
            (Some((_, action)), true) => action,
            (None, _) => return Err(Invalid::new("the hook has no action").hint(actions_hint)),
            _ => {
                let invalid = Invalid::new(format!("a hook has exactly one action, found {}", names.join(" and ")));
                return Err(invalid.hint("write a list of hooks; they run one after the other"));
            }
        };
        match self.timeout.map_or(HOOK_TIMEOUT, Period::get) {
            Duration::ZERO => Err(Invalid::new("the timeout of a hook must be more than 0")),
            timeout => Ok(Hook { action, timeout, capture: self.capture, secret: false }),
        }
    }
}

fn not_a_hook(text: &str, hint: &str) -> Invalid {
    Invalid::new(format!("expected a hook such as `{{run: [./greet.sh]}}`, found {}", quoted(text))).hint(hint)
}

impl<'de> Shape<'de> for Hook {
    const EXPECTED: &'static str = "a hook such as `{run: [./greet.sh]}`";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        Err(not_a_hook(text, ACTIONS_HINT))
    }

    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        let long = LongHook::deserialize(MapAccessDeserializer::new(map))?;
        long.hook(ACTIONS_HINT).map_err(de::Error::custom)
    }
}

impl<'de> Shape<'de> for HostHook {
    const EXPECTED: &'static str = "a hook such as `{run: [./greet.sh]}`";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        Err(not_a_hook(text, HOST_ACTIONS_HINT))
    }

    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        let LongHostHook { run, http, function, timeout, capture } =
            LongHostHook::deserialize(MapAccessDeserializer::new(map))?;
        let long = LongHook { exec: None, run, http, function, timeout, capture };
        long.hook(HOST_ACTIONS_HINT).map(Self).map_err(de::Error::custom)
    }
}

/// Long form of an HTTP request.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LongHttpRequest {
    /// URL.
    url: HttpUrl,
    /// Method. Defaults to GET.
    #[serde(default)]
    method: Method,
    /// Headers.
    #[serde(default)]
    headers: BTreeMap<HeaderName, HeaderValue>,
    /// Body.
    #[serde(default)]
    body: Option<Text>,
    /// Expected status. Defaults to any 2xx.
    #[serde(default, deserialize_with = "http_status")]
    #[schemars(range(min = 100, max = 599))]
    status: Option<u16>,
}

impl<'de> Shape<'de> for HttpRequest {
    const EXPECTED: &'static str = "a request such as `{url: \"http://localhost:9/alert\", method: POST}`";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        let url = text.parse()?;
        Ok(Self { url, method: Method::Get, headers: BTreeMap::new(), body: None, status: None })
    }

    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        let LongHttpRequest { url, method, headers, body, status } =
            LongHttpRequest::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Self { url, method, headers, body, status })
    }
}

read_shaped! { Hook HostHook HttpRequest }

both_forms!(
    HttpRequest,
    LongHttpRequest,
    "An HTTP request: its URL alone for a GET, or with method, headers, body and expected status.",
    ["http://localhost:8080/warm-up", {"url": "http://localhost:9/alert", "method": "POST"}],
    [{"type": "string", "pattern": "^https?://[^/\\s]"}]
);

/// Adds to the schema of a hook that it has exactly one of these actions.
fn one_action(mut schema: Schema, actions: &[&str]) -> Schema {
    let one: Vec<_> = actions.iter().map(|action| serde_json::json!({"required": [action]})).collect();
    schema.insert("oneOf".into(), one.into());
    schema.insert("examples".into(), serde_json::json!([{"run": ["./greet.sh"], "timeout": "30s"}]));
    schema
}

impl JsonSchema for Hook {
    fn schema_name() -> Cow<'static, str> {
        "Hook".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        one_action(LongHook::json_schema(generator), &["exec", "run", "http"])
    }
}

impl JsonSchema for HostHook {
    fn schema_name() -> Cow<'static, str> {
        "HostHook".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        one_action(LongHostHook::json_schema(generator), &["run", "http"])
    }
}

impl fmt::Display for HookAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exec(words) => write!(f, "exec {words}"),
            Self::Run(words) => write!(f, "run {words}"),
            Self::Http(request) => write!(f, "http {} {}", request.method, request.url),
            Self::Function(function) => write!(f, "function {function}"),
        }
    }
}

impl fmt::Display for Hook {
    /// What it does, without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.action {
            action if !self.secret => action.fmt(f),
            HookAction::Exec(_) => write!(f, "exec {HIDDEN}"),
            HookAction::Run(_) => write!(f, "run {HIDDEN}"),
            HookAction::Http(request) => write!(f, "http {} {HIDDEN}", request.method),
            action @ HookAction::Function(_) => action.fmt(f),
        }
    }
}

impl Method {
    /// Returns the method as sent in the request.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
