//! Readiness and liveness: how far a service is, what it waits for, and when that takes too long.

use std::net::IpAddr;
use std::time::Duration;

use super::memory::Liveness;
use super::step::{Awaited, ContainerRef, Probe, Query, Reason, Wait};
use super::{DEFAULT_READY_TIMEOUT, MIN_UPTIME, Planner};
use crate::desired::{Dependency, Service, has_secret_ping};
use crate::identity::container_name;
use crate::observed::{Container, Health, State};
use crate::spec::model::{Condition, HealthAction, Ping};
use crate::spec::secrets::HIDDEN;
use crate::types::ContainerId;

/// Restarts by the engine after which a service without ping and health check has failed.
const RESTARTS: u64 = 3;

/// Time between two liveness probes, unless `health` sets it.
const LIVENESS_INTERVAL: Duration = Duration::from_secs(10);
/// Consecutive failures until a service is unhealthy, unless `health` sets them.
const LIVENESS_RETRIES: u32 = 3;

/// State of a service as its dependents see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DependencyState {
    /// Running and ready.
    Ready,
    /// Running.
    Started,
    /// Not running, or not the right container; with what is being done.
    Pending(&'static str),
    /// Not running: waits for this service.
    WaitsFor(String),
    /// A job that has succeeded.
    Succeeded,
    Failed,
    /// The replacement failed and the previous container serves.
    RolledBack,
}

impl<'a> Planner<'a> {
    /// Since when the readiness of a container is awaited.
    fn waiting_since(&self, container: &Container) -> Duration {
        self.memory.containers.get(&container.id).and_then(|memory| memory.waiting_since).unwrap_or(self.now)
    }

    /// Results of the liveness probes of a container.
    fn liveness(&self, container: &Container) -> Option<&'a Liveness> {
        self.memory.life(&container.id)?.liveness.as_ref()
    }

    /// The readiness of a running container; plans a probe and waits if it is not ready.
    pub(super) fn readiness(&mut self, service: &Service, container: &Container) -> DependencyState {
        let limit = ready_timeout(service);
        let answered = service.ping.is_none() || self.memory.probe_succeeded(&container.id);
        let healthy = matches!(container.health, Health::None | Health::Healthy);
        if answered && healthy {
            return self.check_min_uptime(service, container);
        }
        let what = match (&service.ping, answered) {
            (Some(ping), false) => format!("readiness probe ({})", shown(service, ping)),
            _ if container.health == Health::Unhealthy => "the container to become healthy (now: unhealthy)".to_owned(),
            _ => "the container to become healthy".to_owned(),
        };
        let since = self.waiting_since(container);
        let is_hopeless = !answered && self.memory.life(&container.id).is_some_and(|life| life.probe_is_hopeless);
        let late = is_hopeless || self.now >= since + limit;
        let awaited = Awaited { container: container.id.clone(), limit };
        self.wait(service, format!("waiting for {what}"), Some(awaited));
        if late && !self.timeout_already_reported(service, container, since) {
            let message = match is_hopeless {
                true => format!("{what} cannot succeed"),
                false => format!("timed out after {} waiting for {what}", seconds(limit)),
            };
            self.fail(&service.name, Reason::NotReady, message, Some(ContainerRef::of(container)));
            return DependencyState::Failed;
        }
        if !late {
            self.wake(since + limit);
        }
        if let (Some(ping), false) = (&service.ping, answered) {
            self.plan.probes.push(self.probe(service, container, ping));
        }
        if late { DependencyState::Failed } else { DependencyState::Started }
    }

    /// Checks that a ready candidate has stayed ready for `min_ready`. `Some`: not yet, or it failed. A later run counts from
    /// the start again.
    pub(super) fn check_min_ready(&mut self, service: &Service, candidate: &Container) -> Option<DependencyState> {
        let period = service.update.min_ready.map_or(Duration::ZERO, Duration::from);
        if period.is_zero() {
            return None;
        }
        if let Some(why) = self.unanswered_pings(service, candidate) {
            return Some(self.fail_min_ready(service, candidate, &why));
        }
        if self.has_lasted(service, candidate, period, "must stay ready for min_ready") {
            return None;
        }
        if let Some(ping) = &service.ping {
            self.check_every(ping.interval, service, candidate, ping);
        }
        Some(DependencyState::Started)
    }

    /// Returns true if a container has been unchanged for this period, as far as this run knows.
    pub(super) fn has_lasted(&mut self, service: &Service, it: &Container, period: Duration, reason: &str) -> bool {
        self.plan.hold.insert(it.id.clone(), period);
        let until = self.memory.life(&it.id).and_then(|life| life.hold_until).unwrap_or(self.now + period);
        if self.now >= until {
            return true;
        }
        self.wake(until);
        let awaited = Some(Awaited { container: it.id.clone(), limit: period });
        self.wait_quietly(service, reason.to_owned(), awaited);
        false
    }

    /// A candidate did not stay ready for `min_ready`.
    pub(super) fn fail_min_ready(&mut self, service: &Service, candidate: &Container, why: &str) -> DependencyState {
        let period = service.update.min_ready.map_or(Duration::ZERO, Duration::from);
        let message = format!("did not stay ready for min_ready ({}): {why}", seconds(period));
        self.fail(&service.name, Reason::NotReady, message, Some(ContainerRef::of(candidate)));
        DependencyState::Failed
    }

    /// Plans a liveness probe if the last one is `every` ago.
    fn check_every(&mut self, every: Duration, service: &Service, container: &Container, ping: &Ping) {
        let due = self.liveness(container).map_or(self.now, |liveness| liveness.last + every);
        if self.now >= due {
            self.plan.checks.push(self.probe(service, container, ping));
        } else {
            self.wake(due);
        }
    }

    /// Why the container is unhealthy: too many consecutive liveness failures.
    fn unanswered_pings(&self, service: &Service, container: &Container) -> Option<String> {
        let pings = self.liveness(container)?;
        let most = service.health.as_ref().and_then(|health| health.retries).unwrap_or(LIVENESS_RETRIES).max(1);
        (pings.failures >= most).then(|| match pings.failures {
            1 => format!("liveness probe failed: {}", pings.error),
            failures => format!("liveness probe failed {failures} times: {}", pings.error),
        })
    }

    /// While watching, a first container that is late is still awaited; the timeout is reported once.
    fn timeout_already_reported(&self, service: &Service, container: &Container, since: Duration) -> bool {
        self.memory.backoff(&service.name).is_some_and(|backoff| {
            backoff.failure.reason == Reason::NotReady
                && backoff.failure.container.as_ref().is_some_and(|failed| failed.id == container.id)
                && backoff.at >= since
        })
    }

    /// Without ping and health check, a service is ready after a minimum uptime. Where others act on it, an inspection has to
    /// confirm that it still runs: a busy engine reports an exit late, also in lists, but inspections wait for it.
    fn check_min_uptime(&mut self, service: &Service, container: &Container) -> DependencyState {
        let is_probed = service.ping.is_some() || container.health != Health::None;
        let Some(since) = self.memory.started_at(&container.id).filter(|_| !is_probed) else {
            return DependencyState::Ready;
        };
        let until = since + MIN_UPTIME;
        let inspected_at = self.memory.life(&container.id).and_then(|life| life.inspected_at);
        let is_confirmed = inspected_at.is_some_and(|at| at >= until);
        if self.now < until {
            self.wake(until);
        } else if is_confirmed || !self.is_relied_on(service, container) {
            return DependencyState::Ready;
        } else {
            self.plan.queries.insert(Query::Container(container.id.clone()));
        }
        let awaited = Some(Awaited { container: container.id.clone(), limit: MIN_UPTIME });
        self.wait_quietly(service, "was started a moment ago".to_owned(), awaited);
        DependencyState::Started
    }

    /// Returns true if dependents start, or the current container is removed, when this container is ready.
    fn is_relied_on(&self, service: &Service, container: &Container) -> bool {
        let current = self.slots.get(service.name.as_str()).and_then(|slots| slots.current);
        self.dependencies.contains(service.service.as_str()) || current.is_some_and(|it| it.id != container.id)
    }

    /// Checks the liveness of a current container while watching: plans the probe that is due. Returns why it is unhealthy, if
    /// that has consequences.
    pub(super) fn check_liveness(&mut self, service: &Service, container: &Container) -> Option<String> {
        if !self.memory.watching || container.state != State::Running {
            return None;
        }
        let said = container.details.as_ref().map(|details| details.health_failure.as_str()).unwrap_or_default();
        let engine = (container.health == Health::Unhealthy).then(|| match said {
            "" => "container is unhealthy".to_owned(),
            said => format!("container is unhealthy: last health check {said}"),
        });
        let Some(health) = &service.health else {
            self.plan.unhealthy.extend(engine.map(|why| (service.name.clone(), why)));
            return None;
        };
        if let Some(ping) = service.ping.as_ref().filter(|_| self.memory.probe_succeeded(&container.id)) {
            self.check_every(health.interval.map_or(LIVENESS_INTERVAL, Duration::from), service, container, ping);
        }
        let why = self.unanswered_pings(service, container).or(engine)?;
        if health.action == HealthAction::Ignore {
            self.plan.unhealthy.insert(service.name.clone(), why);
            return None;
        }
        Some(why)
    }

    /// Returns true if the container was reported unhealthy in its present life, and is being restarted.
    pub(super) fn unhealthy_already_reported(&self, service: &Service, container: &Container) -> bool {
        let started = self.memory.started_at(&container.id).unwrap_or_default();
        self.memory.backoff(&service.name).is_some_and(|backoff| {
            backoff.failure.reason == Reason::Unhealthy
                && backoff.failure.container.as_ref().is_some_and(|failed| failed.id == container.id)
                && backoff.at >= started
        })
    }

    /// The engine is restarting or removing the container: wait, for as long as a service may take to become ready.
    pub(super) fn await_engine(
        &mut self,
        service: &Service,
        container: &Container,
        doing: &'static str,
    ) -> DependencyState {
        let restarts = container.details.as_ref().map_or(0, |details| details.restarts);
        let told = service.ping.is_some() || container.health != Health::None;
        if !told && restarts >= RESTARTS && self.memory.started_at(&container.id).is_some() {
            let message = format!("restarted {restarts} times by the engine without running for {MIN_UPTIME:?}");
            self.fail(&service.name, Reason::Exited, message, Some(ContainerRef::of(container)));
            return DependencyState::Failed;
        }
        let limit = ready_timeout(service);
        let since = self.waiting_since(container);
        if self.now >= since + limit {
            let message = format!("timed out after {}: the container {doing} by the engine", seconds(limit));
            self.fail(&service.name, Reason::NotReady, message, Some(ContainerRef::of(container)));
            return DependencyState::Failed;
        }
        self.wake(since + limit);
        let awaited = Awaited { container: container.id.clone(), limit };
        self.wait(service, format!("{doing} by the engine"), Some(awaited));
        DependencyState::Pending(doing)
    }

    pub(super) fn fail_exited(&mut self, service: &Service, container: &Container) {
        let serves = container.name == container_name(&self.desired.group, &service.name);
        let when = match (serves, self.memory.watching) {
            _ if service.is_job() => "",
            (false, _) => " before becoming ready",
            (true, false) => " shortly after it was started",
            (true, true) => "",
        };
        let how = match container.state {
            State::Exited { code: Some(0) } if !service.is_job() => {
                format!("exited with code 0{when}; if it is meant to run to completion, write `kind: Job`")
            }
            State::Exited { code: Some(code) } => format!("exited with code {code}{when}"),
            _ => format!("exited{when}"),
        };
        self.fail(&service.name, Reason::Exited, how, Some(ContainerRef::of(container)));
    }

    /// Checks that all dependencies are far enough, else waits for the first that is not. An existing container may also run
    /// with a rolled-back dependency; a new one may not.
    pub(super) fn dependencies(&mut self, service: &'a Service, exists: bool) -> Result<(), DependencyState> {
        let missing = service.dependencies.iter().find_map(|dependency| {
            self.replicas_of(&dependency.name).into_iter().find_map(|name| {
                let state = self.dependency_states.get(name);
                let serves = exists && state == Some(&DependencyState::RolledBack);
                self.unmet(dependency, state).filter(|_| !serves).map(|why| (name.to_owned(), why))
            })
        });
        let Some((name, why)) = missing else {
            return Ok(());
        };
        let blocked = self.memory.has_failed(&name) || self.blocked.contains(name.as_str());
        if blocked {
            self.blocked.insert(&service.name);
        }
        let reason = format!("waiting for {name}, which {why}");
        self.plan.waits.push(Wait { blocked, ..Wait::new(service.name.clone(), reason, None) });
        Err(DependencyState::WaitsFor(name))
    }

    /// The replicas of a dependency; none if it is scaled to 0.
    fn replicas_of<'n>(&'n self, service: &'n str) -> Vec<&'n str> {
        match self.replicas.get(service) {
            Some(replicas) => replicas.iter().map(|replica| replica.name.as_str()).collect(),
            None if self.desired.idle.contains(service) => Vec::new(),
            None => vec![service],
        }
    }

    fn unmet(&self, dependency: &Dependency, state: Option<&DependencyState>) -> Option<String> {
        let why = match (state, dependency.condition) {
            (Some(DependencyState::Ready | DependencyState::Succeeded), _)
            | (Some(DependencyState::Started), Condition::Started) => {
                return None;
            }
            (Some(DependencyState::Started), Condition::Ready) => "is not ready yet",
            (Some(DependencyState::Started), Condition::Succeeded) => "has not succeeded yet",
            (Some(DependencyState::Pending(what)), _) => what,
            (Some(DependencyState::WaitsFor(other)), _) => return Some(format!("is waiting for {other}")),
            (Some(DependencyState::Failed), _) => "has failed",
            (Some(DependencyState::RolledBack), _) => "could not be replaced",
            (None, _) => "is not known",
        };
        Some(why.to_owned())
    }
}

impl Planner<'_> {
    fn probe(&self, service: &Service, container: &Container, ping: &Ping) -> Probe {
        Probe {
            secret: has_secret_ping(service),
            service: service.name.clone(),
            replica: service.replica,
            container: ContainerRef::of(container),
            address: self.address(service, container),
            ping: ping.clone(),
        }
    }

    /// The address of a container, on its first network that has one; that of the container whose network it has.
    fn address(&self, service: &Service, container: &Container) -> Option<IpAddr> {
        if let Some(owner) = container.network_owner() {
            let owner = self.observed.containers.get(&ContainerId::from(owner))?;
            return owner.networks.iter().find_map(|attachment| attachment.address);
        }
        let on = |name: &str| container.networks.iter().find(|it| it.network == name && it.address.is_some());
        let first = service.config.network.endpoints().into_iter().find_map(|(name, _)| on(name));
        first.or(container.networks.iter().find(|it| it.address.is_some()))?.address
    }
}

/// Time until a service must be ready, from its first start.
fn ready_timeout(service: &Service) -> Duration {
    let default = || service.ping.as_ref().map_or(DEFAULT_READY_TIMEOUT, |ping| ping.timeout);
    service.ready_timeout.unwrap_or_else(default)
}

/// The check of a ping, without its fields if one of them is secret.
fn shown(service: &Service, ping: &Ping) -> String {
    let check = ping.check.to_string();
    match (has_secret_ping(service), check.split_once(' ')) {
        (true, Some((kind, _))) => format!("{kind} {HIDDEN}"),
        _ => check,
    }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}
