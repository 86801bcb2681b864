//! How far a service is, what it waits for, and when that is too long. Part of the planner.

use std::time::Duration;

use super::step::{Awaited, Probe, Reason, Target, Wait};
use super::{DEFAULT_READY_TIMEOUT, PROBATION, Planner};
use crate::desired::{Dependency, Service};
use crate::identity::container_name;
use crate::observed::{Container, Health, State};
use crate::spec::model::Condition;

/// How often the engine may restart a service that nothing tells to be ready before it has run for a moment.
const RESTARTS: u64 = 3;

/// How far a service has come, as its dependents see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// Its container runs and is ready.
    Ready,
    /// Its container runs.
    Started,
    /// Not running, or not the container that it should be; with what is going on.
    Pending(&'static str),
    /// Not running, because it waits for this service.
    WaitsFor(String),
    /// It has failed.
    Failed,
    /// Its replacement has failed, and the container that it had serves again.
    Serves,
}

impl<'a> Planner<'a> {
    /// Whether a running container is ready; asks for its ping and waits where it is not.
    pub(super) fn readiness(&mut self, service: &Service, container: &Container) -> Standing {
        let limit = service.ping.as_ref().map_or(DEFAULT_READY_TIMEOUT, |ping| ping.timeout);
        let answered = service.ping.is_none() || self.memory.answered.contains(&container.id);
        let healthy = matches!(container.health, Health::None | Health::Healthy);
        if answered && healthy {
            return self.probation(service, container);
        }
        let what = match (&service.ping, answered) {
            (Some(ping), false) => format!("its ping ({}) to answer", ping.check),
            _ if container.health == Health::Unhealthy => "the engine to call it healthy (now: unhealthy)".to_owned(),
            _ => "the engine to call it healthy".to_owned(),
        };
        let since = self.memory.awaited.get(&container.id).copied().unwrap_or(self.now);
        if self.now >= since + limit {
            let message = format!("it waited {} for {what}", seconds(limit));
            self.fail(&service.name, Reason::NotReady, message, Some(Target::of(container)));
            return Standing::Failed;
        }
        if let (Some(ping), false) = (&service.ping, answered) {
            let probe = Probe {
                service: service.name.clone(),
                container: Target::of(container),
                address: container.networks.iter().find_map(|attachment| attachment.address),
                ping: ping.clone(),
            };
            self.plan.probes.push(probe);
        }
        let awaited = Awaited { container: container.id.clone(), limit };
        self.wait(service, format!("waits for {what}"), Some(awaited));
        Standing::Started
    }

    /// Nothing tells that it is ready but that it runs: then it has to run for a moment.
    fn probation(&mut self, service: &Service, container: &Container) -> Standing {
        let told = service.ping.is_some() || container.health != Health::None;
        let since = self.memory.started.get(&container.id);
        match since.filter(|since| !told && self.now < **since + PROBATION) {
            None => Standing::Ready,
            Some(_) => {
                let awaited = Awaited { container: container.id.clone(), limit: PROBATION };
                let reason = "has just been started".to_owned();
                self.plan.waits.push(Wait {
                    service: service.name.clone(),
                    reason,
                    awaited: Some(awaited),
                    quiet: true,
                });
                Standing::Started
            }
        }
    }

    /// The engine is at work on the container (it restarts or removes it): it is left to it, for as long as a service
    /// may take to get ready.
    pub(super) fn await_engine(&mut self, service: &Service, container: &Container, doing: &'static str) -> Standing {
        let restarts = container.details.as_ref().map_or(0, |details| details.restarts);
        let told = service.ping.is_some() || container.health != Health::None;
        if !told && restarts >= RESTARTS && self.memory.started.contains_key(&container.id) {
            let message = format!("the engine has restarted it {restarts} times, and it never ran for {PROBATION:?}");
            self.fail(&service.name, Reason::Exited, message, Some(Target::of(container)));
            return Standing::Failed;
        }
        let limit = service.ping.as_ref().map_or(DEFAULT_READY_TIMEOUT, |ping| ping.timeout);
        let since = self.memory.awaited.get(&container.id).copied().unwrap_or(self.now);
        if self.now >= since + limit {
            let message = format!("for {} its container {doing} by the engine", seconds(limit));
            self.fail(&service.name, Reason::NotReady, message, Some(Target::of(container)));
            return Standing::Failed;
        }
        let awaited = Awaited { container: container.id.clone(), limit };
        self.wait(service, format!("{doing} by the engine"), Some(awaited));
        Standing::Pending(doing)
    }

    pub(super) fn fail_exited(&mut self, service: &Service, container: &Container) {
        let serves = container.name == container_name(&self.desired.group, &service.name);
        let when = if serves { "soon after it was started" } else { "before it was ready" };
        let how = match container.state {
            State::Exited { code: Some(code) } => format!("it exited with {code} {when}"),
            _ => format!("it ended {when}"),
        };
        self.fail(&service.name, Reason::Exited, how, Some(Target::of(container)));
    }

    /// Whether everything that the service needs is as far as it must be; else waits, naming for whom. A container that
    /// exists was made for what serves now, also where its replacement has failed; a new one was not.
    pub(super) fn dependencies(&mut self, service: &'a Service, exists: bool) -> Result<(), Standing> {
        let missing = service.dependencies.iter().find_map(|dependency| {
            let standing = self.standings.get(dependency.name.as_str());
            let serves = exists && standing == Some(&Standing::Serves);
            self.unmet(dependency, standing).filter(|_| !serves).map(|why| (dependency, why))
        });
        let Some((dependency, why)) = missing else {
            return Ok(());
        };
        self.wait(service, format!("waits for {}, which {why}", dependency.name), None);
        Err(Standing::WaitsFor(dependency.name.clone()))
    }

    fn unmet(&self, dependency: &Dependency, standing: Option<&Standing>) -> Option<String> {
        let why = match (standing, dependency.condition) {
            (Some(Standing::Ready), _) | (Some(Standing::Started), Condition::Started) => return None,
            (Some(Standing::Started), Condition::Ready) => "is not ready yet",
            (Some(Standing::Pending(what)), _) => what,
            (Some(Standing::WaitsFor(other)), _) => return Some(format!("waits for {other}")),
            (Some(Standing::Failed), _) => "has failed",
            (Some(Standing::Serves), _) => "could not be replaced",
            (None, _) => "is not known",
        };
        Some(why.to_owned())
    }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}
