//! Dependencies, health checks and hooks.

use std::time::Duration;

use serde_yaml::{Mapping, Value as Yaml};

use super::fields::HOOKS;
use super::output::{Item, Line, entry, map};
use super::service::Writer;
use super::written::Unsaid;
use crate::spec::model::{
    Check, Condition, Dependency, Health, Healthcheck, HealthcheckTest, Hook, HookAction, Kind, Ping, Service,
    shared_namespaces,
};
use crate::spec::value::Period;

/// Shortest time between two health checks that are made of a ping: they go on while the container runs.
const MIN_INTERVAL: Duration = Duration::from_secs(5);

/// Variables of hooks begin with this.
const HOOK_VARIABLE: &str = "DRILLMASTER_";

impl Writer<'_> {
    pub fn dependencies(&mut self) {
        let mut lines = Vec::new();
        let container = &self.spec.container;
        // A shared namespace implies one.
        let shared = shared_namespaces(container).map(|(_, name)| Dependency {
            name: name.clone(),
            condition: None,
            restart: true,
            required: true,
        });
        let mut dependencies = container.dependencies.clone();
        for shared in shared {
            if !dependencies.iter().any(|dependency| dependency.name == shared.name) {
                dependencies.push(shared);
            }
        }
        for dependency in &dependencies {
            let name = dependency.name.as_str();
            match self.project.services.get(name) {
                Some(target) => {
                    let is_checked = Writer::new(self.project, target).has_health_check();
                    lines.push(Line::Entry(name.to_owned(), condition(dependency, &target.spec, is_checked)));
                }
                None => lines.push(Line::Comment(format!("{name}: not part of this file"))),
            }
        }
        self.lines.extend(map("depends_on", lines));
    }

    pub fn ping(&mut self) {
        let Some(ping) = &self.spec.ping else { return };
        let has_own = self.spec.healthcheck.as_ref().is_some_and(|check| !check.is_empty());
        let reason = match &ping.check {
            Check::Exec(_) if has_own => "it has a health check as well, and docker compose has one of them",
            Check::Exec(words) => match self.check_of_ping(words, ping) {
                Ok(check) => {
                    self.lines.push(Line::Comment("the ping of the specs".to_owned()));
                    return self.lines.push(entry("healthcheck", check));
                }
                Err(unsaid) => return self.refuse("ping", unsaid),
            },
            Check::Tcp(_) | Check::Http(_) => {
                "a health check runs a command in the container; write one with a tool that the image has"
            }
            Check::Log(_) => "docker compose does not look at the output of containers",
            Check::Run(_) => "docker compose runs nothing on the host",
            Check::Function(_) => "docker compose has no functions",
        };
        self.unsaid("ping", reason);
    }

    fn check_of_ping(&self, words: &[String], ping: &Ping) -> Result<Yaml, Unsaid> {
        let mut test = vec![Yaml::from("CMD")];
        match self.written.words("ping.exec", words)? {
            Yaml::Sequence(words) => test.extend(words),
            _ => return Err(Unsaid("its command is a string with variables; write a list")),
        }
        let time = |path: &str, time: Duration| self.written.text(path, &Period::new(time).to_string());
        let fields = [
            ("test", Yaml::from(test)),
            ("interval", time("ping.interval", ping.interval.max(MIN_INTERVAL))?.into()),
            // Failures do not count until then.
            ("start_period", time("ping.timeout", ping.timeout)?.into()),
        ];
        let mut fields: Mapping = fields.into_iter().map(|(key, value)| (key.into(), value)).collect();
        if let Some(Health { retries: Some(retries), .. }) = self.spec.health {
            fields.insert("retries".into(), self.written.value("health.retries", retries)?);
        }
        Ok(fields.into())
    }

    pub fn healthcheck(&mut self) {
        let Some(check) = self.spec.healthcheck.as_ref().filter(|check| !check.is_empty()) else { return };
        let value = self.healthcheck_value(check);
        self.add("healthcheck", "healthcheck", value);
    }

    fn healthcheck_value(&self, check: &Healthcheck) -> Result<Yaml, Unsaid> {
        let Healthcheck { test, interval, timeout, retries, start_period, start_interval, disable } = check;
        if *disable {
            return Ok(Mapping::from_iter([(Yaml::from("disable"), Yaml::from(true))]).into());
        }
        let mut fields = Mapping::new();
        if let Some(test) = test {
            fields.insert("test".into(), self.test(test)?);
        }
        let times = [interval, timeout, start_period, start_interval];
        for (key, time) in ["interval", "timeout", "start_period", "start_interval"].into_iter().zip(times) {
            if let Some(time) = time {
                fields.insert(key.into(), self.written.value(&format!("healthcheck.{key}"), time)?);
            }
        }
        if let Some(retries) = retries {
            fields.insert("retries".into(), self.written.value("healthcheck.retries", retries)?);
        }
        Ok(fields.into())
    }

    fn test(&self, test: &HealthcheckTest) -> Result<Yaml, Unsaid> {
        let path = "healthcheck.test";
        let words = match test {
            HealthcheckTest::Shell(line) if self.written.node(path).is_some_and(|node| node.text().is_some()) => {
                return self.written.text(path, line).map(Yaml::from);
            }
            HealthcheckTest::Shell(line) => return self.written.text(&format!("{path}.1"), line).map(Yaml::from),
            HealthcheckTest::Exec(words) => words,
        };
        // The list may begin with `CMD`.
        let written = self.written.node(path).map_or(0, |node| node.items().count());
        let first = written.saturating_sub(words.len());
        let words = words
            .iter()
            .enumerate()
            .map(|(at, word)| self.written.text(&format!("{path}.{}", at + first), word).map(Yaml::from));
        std::iter::once(Ok("CMD".into())).chain(words).collect()
    }

    pub fn post_start(&mut self) {
        // Compose runs them at once, ours wait for the ping.
        let is_ready_at_once = self.spec.ping.is_none() && self.spec.healthcheck.is_none();
        let reason = "docker compose does not wait for the ping before it runs it";
        self.hooks("post_start", &self.spec.post_start, (!is_ready_at_once).then_some(reason));
    }

    pub fn pre_stop(&mut self) {
        self.hooks("pre_stop", &self.spec.pre_stop, None);
    }

    fn hooks(&mut self, field: &str, hooks: &[Hook], refused: Option<&'static str>) {
        if hooks.is_empty() {
            return;
        }
        let hooks: Result<Yaml, Unsaid> = hooks
            .iter()
            .enumerate()
            .map(|(at, hook)| match (&hook.action, refused) {
                (HookAction::Exec(words), None) if hook.capture.is_none() && !uses_variables(words) => {
                    let words = self.written.words(&format!("{}.exec", self.item(field, at)), words)?;
                    Ok(Yaml::from(Mapping::from_iter([(Yaml::from("command"), words)])))
                }
                (HookAction::Exec(_), Some(reason)) => Err(Unsaid(reason)),
                (HookAction::Exec(_), None) => {
                    Err(Unsaid("docker compose passes nothing to hooks, and takes no outputs"))
                }
                _ => Err(Unsaid(HOOKS)),
            })
            .collect();
        self.add(field, field, hooks);
    }
}

/// Returns true if a command uses what drillmaster passes to hooks.
fn uses_variables(words: &[String]) -> bool {
    words.iter().any(|word| word.contains(HOOK_VARIABLE))
}

/// The condition of a dependency. `is_checked`: the target has a health check in the file.
fn condition(dependency: &Dependency, target: &Service, is_checked: bool) -> Item {
    let Dependency { name: _, condition, restart, required } = dependency;
    let mut lines = Vec::new();
    let condition = match (condition, target.kind) {
        (Some(Condition::Started), _) => "service_started",
        (_, Kind::Job(_)) => "service_completed_successfully",
        (_, Kind::Service) if is_checked => "service_healthy",
        (_, Kind::Service) => {
            let waited_for = if target.ping.is_some() { "its ping" } else { "a health check of its image" };
            lines.push(Line::Comment(format!("drillmaster waits for {waited_for}")));
            "service_started"
        }
    };
    lines.push(entry("condition", condition));
    lines.extend(restart.then(|| entry("restart", true)));
    lines.extend((!required).then(|| entry("required", false)));
    Item::Map(lines)
}
