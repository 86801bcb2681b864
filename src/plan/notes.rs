//! Notes: what the plan leaves alone, and what may surprise.

use std::collections::BTreeSet;

use super::Planner;
use super::images::wanted_image;
use super::networks::ignored_by_podman;
use crate::capabilities::{EngineKind, HealthChecks};
use crate::desired::Service;
use crate::identity::Identity;
use crate::observed::{Container, ImageFacts, Network};
use crate::spec::model::{Healthcheck, OnChange, RestartPolicy};

impl<'a> Planner<'a> {
    pub(super) fn notes(&mut self) {
        if !self.desired.services.is_empty() {
            self.note_shared_names();
            self.note_start_intervals();
            self.note_health_checks();
            self.note_empty_health_checks();
            self.note_ignored_limits();
            self.note_signals();
            self.note_ignored_by_podman();
        }
        self.note_lookalikes();
    }

    /// Containers that have the group's labels from their image are not managed: `docker commit` copies the labels of a
    /// container to an image.
    fn note_lookalikes(&mut self) {
        let note = |container: &Container| {
            let service = container.inherited.as_ref().map(|identity| identity.service.as_str()).unwrap_or_default();
            format!(
                "container {} has the labels of {service} from its image {}; drillmaster does not manage it",
                container.name, container.image
            )
        };
        self.plan.notes.extend(self.observed.lookalikes(&self.desired.group).map(note));
    }

    /// Network aliases that a service of another group has too: the engine resolves them to either container.
    fn note_shared_names(&mut self) {
        let group = &self.desired.group;
        for container in self.observed.containers.values().filter(|container| container.is_up()) {
            let Some(other) = container.identity.as_ref().filter(|identity| identity.group != *group) else { continue };
            let is_there =
                |network: &&&Network| container.networks.iter().any(|attachment| attachment.network_id == network.id);
            for network in self.networks.values().filter(is_there) {
                let names = names_of(other, &network.name);
                for service in self.desired.in_scope() {
                    let Some(endpoint) = service.config.network.endpoint(&network.name) else { continue };
                    let shared = service.network_names(group, endpoint).into_iter().filter(|name| names.contains(name));
                    self.plan.notes.extend(shared.map(|name| {
                        format!(
                            "warning: on network {}, `{name}` is {} of group {group} and {} of group {}, and resolves to \
                             either; use `{}.{group}` and `{}.{}`, or another network",
                            network.name,
                            service.service,
                            other.service,
                            other.group,
                            service.service,
                            other.service,
                            other.group,
                        )
                    }));
                }
            }
        }
    }

    /// Facts about the image of a service, if it is present and inspected.
    fn facts(&self, service: &Service) -> Option<&'a ImageFacts> {
        self.observed.image_facts.get(wanted_image(service, self.observed)?)
    }

    /// A health check without a test tunes that of the image, if it has one.
    fn note_empty_health_checks(&mut self) {
        for service in self.desired.in_scope() {
            let check = service.config.healthcheck.as_ref().map(Healthcheck::enables);
            if check == Some(None) && self.facts(service).is_some_and(|facts| !facts.healthcheck) {
                self.plan.notes.insert(format!(
                    "warning: the `healthcheck` of {} has no `test`, and its image has no health check",
                    service.service
                ));
            }
        }
    }

    fn note_health_checks(&mut self) {
        if self.observed.capabilities.health_checks != HealthChecks::Never {
            return;
        }
        for service in self.desired.in_scope() {
            let of_image = || self.facts(service).is_some_and(|facts| facts.healthcheck);
            let own = service.config.healthcheck.as_ref().and_then(Healthcheck::enables);
            if own.unwrap_or_else(of_image) {
                let remedy = match service.ping {
                    Some(_) => "its ping alone decides when it is ready",
                    None => "add a `ping` so that dependents wait until it is ready",
                };
                let name = &service.service;
                self.plan.notes.insert(format!(
                    "warning: the engine does not run the health check of {name} (Podman needs systemd for it); {remedy}"
                ));
            }
        }
    }

    fn note_ignored_limits(&mut self) {
        for service in self.desired.in_scope() {
            let ignored = self.observed.capabilities.limits.ignored(&service.config.resources);
            if !ignored.is_empty() {
                self.plan.notes.insert(format!(
                    "warning: the engine ignores the limits of {}: its control groups do not support {}",
                    service.service,
                    ignored.join(" and ")
                ));
            }
        }
    }

    /// What Podman ignores without a word, and what can be done without.
    fn note_ignored_by_podman(&mut self) {
        if self.observed.capabilities.kind != EngineKind::Podman {
            return;
        }
        for service in self.desired.in_scope() {
            let unset = service.env.iter().find(|(_, value)| value.is_none());
            if let Some((name, _)) = unset {
                self.plan.notes.insert(format!(
                    "warning: Podman does not remove variables: {name} of {} keeps its value if its image has one",
                    service.service
                ));
            }
            if service.config.domainname.is_some() {
                self.plan.notes.insert(format!("warning: Podman ignores `domainname` of {}", service.service));
            }
        }
        for (name, network) in self.desired.networks.iter().filter(|(_, network)| !network.external) {
            for option in ignored_by_podman(network) {
                self.plan.notes.insert(format!("warning: Podman ignores the driver option {option} of network {name}"));
            }
        }
    }

    /// Engines take a signal that is sent to a container for a request to stop, which ends its restart policy until its
    /// next start. Docker knows better if the container has another stop signal, except when the engine starts.
    fn note_signals(&mut self) {
        let kind = self.observed.capabilities.kind;
        for service in self.desired.in_scope() {
            let (config, policy) = (&service.config, service.config.restart);
            let sent = service.files.iter().find_map(|file| match &file.on_change {
                OnChange::Signal(signal) => Some(signal.to_string()),
                _ => None,
            });
            let Some(signal) = sent.filter(|_| policy != RestartPolicy::No) else { continue };
            let crash = match (kind, &config.stop_signal) {
                (EngineKind::Podman, _) => Some("restart it after a crash; `up --watch` does"),
                (EngineKind::Docker, Some(own)) if *own == signal => {
                    Some("restart it after a crash; set `stop_signal` to another one")
                }
                (EngineKind::Docker, None) if self.facts(service).is_some_and(|facts| !facts.stop_signal) => {
                    Some("restart it after a crash; set `stop_signal`")
                }
                (EngineKind::Docker, _) => None,
            };
            let start = (kind == EngineKind::Docker && policy == RestartPolicy::UnlessStopped)
                .then_some("start it with the engine; write `restart: always`");
            for consequence in crash.into_iter().chain(start) {
                self.plan.notes.insert(format!(
                    "warning: {kind} takes the signal {signal} of `on_change` for a stop of {}: until its next start, \
                     `restart: {policy}` does not {consequence}",
                    service.service
                ));
            }
        }
    }

    fn note_start_intervals(&mut self) {
        if self.observed.capabilities.health_checks != HealthChecks::WithoutStartInterval {
            return;
        }
        for service in self.desired.in_scope() {
            let check = service.config.healthcheck.as_ref();
            if check.is_some_and(|check| check.start_interval.is_some() && !check.disable) {
                self.plan.notes.insert(format!(
                    "warning: the engine ignores `healthcheck.start_interval` of {}: it needs Docker 25.0 (API 1.44)",
                    service.service
                ));
            }
        }
    }
}

/// Network aliases of the service of a container on a network.
fn names_of(identity: &Identity, network: &str) -> BTreeSet<String> {
    let spec = identity.applied();
    let everywhere = spec.as_ref().and_then(|spec| spec.get("aliases")?.as_array());
    let here = spec.as_ref().and_then(|spec| spec.get("networks")?.get(network)?.get("aliases")?.as_array());
    let aliases = everywhere.into_iter().chain(here).flatten().filter_map(|alias| Some(alias.as_str()?.to_owned()));
    aliases.chain([identity.service.clone()]).collect()
}
