//! Types of pings, liveness and Docker health checks.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::starlark::Function;
use crate::spec::value::{HeaderName, HeaderValue, Pattern, Period, Words};

/// Readiness check, repeated every `interval` until it succeeds.
#[derive(Debug, Clone, PartialEq)]
pub struct Ping {
    /// The check.
    pub check: Check,
    /// Time between two attempts. Defaults to 100 ms.
    pub interval: Duration,
    /// Time after which the service fails. Defaults to 300 s.
    pub timeout: Duration,
}

/// The check of a ping.
#[derive(Debug, Clone, PartialEq)]
pub enum Check {
    /// `tcp: 5432`: this port of the container accepts a connection.
    Tcp(u16),
    /// `http: {port: 80, path: /healthz}`: a GET returns 2xx or 3xx, or `status` if set.
    Http(HttpCheck),
    /// `exec: [pg_isready]`: a command in the container exits with 0.
    Exec(Words),
    /// `run: [./check.sh]`: a command on the host, started in the spec directory, exits with 0.
    Run(Words),
    /// `log: "ready to accept"`: a line of the container's output since its start matches this regular expression.
    Log(Pattern),
    /// Function of a program that returns `True`.
    Function(Function),
}

/// An HTTP check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HttpCheck {
    /// Port in the container.
    pub port: u16,
    /// Path and query.
    pub path: String,
    /// The expected status. Defaults to any 2xx or 3xx.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Scheme::is_http")]
    pub scheme: Scheme,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<HeaderName, HeaderValue>,
}

/// Protocol of an HTTP check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    #[default]
    #[serde(alias = "HTTP")]
    Http,
    #[serde(alias = "HTTPS")]
    Https,
}

impl Scheme {
    /// Returns the port that is used without one.
    pub fn default_port(self) -> u16 {
        if self == Self::Http { 80 } else { 443 }
    }

    fn is_http(&self) -> bool {
        *self == Self::Http
    }
}

impl std::fmt::Display for Scheme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_http() { "http" } else { "https" })
    }
}

/// Liveness of a running service: its ping is repeated while watching.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// Time between two pings. Defaults to 10 s.
    #[serde(default)]
    pub interval: Option<Period>,
    /// Consecutive failures until the service is unhealthy. Defaults to 3.
    #[serde(default)]
    pub retries: Option<u32>,
    /// What happens when the service is unhealthy. Defaults to `restart`.
    #[serde(default)]
    pub action: HealthAction,
}

/// What happens to an unhealthy service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthAction {
    /// The container is restarted.
    #[default]
    Restart,
    /// The container is replaced.
    Replace,
    /// The failure is only reported.
    Ignore,
}

/// Docker health check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Healthcheck {
    /// Command: a list is executed directly, a string by the container's shell. Without one, the times apply to the image's
    /// health check.
    #[serde(default)]
    pub test: Option<HealthcheckTest>,
    /// Time between two checks. Docker's default is 30 s.
    #[serde(default)]
    pub interval: Option<Period>,
    /// Timeout of a check. Docker's default is 30 s.
    #[serde(default)]
    pub timeout: Option<Period>,
    /// Consecutive failures until the container is unhealthy. Docker's default is 3.
    #[serde(default)]
    pub retries: Option<u32>,
    /// Time after the start during which failures do not count.
    #[serde(default)]
    pub start_period: Option<Period>,
    /// Time between two checks during `start_period`. Docker's default is 5 s. Engines before Docker 25.0 ignore it, with a
    /// warning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_interval: Option<Period>,
    /// Disable the image's health check.
    #[serde(default)]
    pub disable: bool,
}

impl Healthcheck {
    /// Returns true if it enables a health check, false if it disables it; `None`: it only tunes that of the image.
    pub fn enables(&self) -> Option<bool> {
        if self.disable { Some(false) } else { self.test.as_ref().map(|_| true) }
    }

    /// Returns true if it says nothing.
    pub fn is_empty(&self) -> bool {
        let Self { test, interval, timeout, retries, start_period, start_interval, disable } = self;
        let times = [interval, timeout, start_period, start_interval];
        test.is_none() && !disable && retries.is_none() && times.iter().all(|time| time.is_none())
    }
}

/// Command of a health check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthcheckTest {
    /// Executed by the container's shell.
    Shell(String),
    /// Executed directly.
    Exec(Vec<String>),
}
