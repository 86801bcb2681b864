//! Networks: what must exist, what differs, and on which of them a container is, with which names.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::cause::Cause;
use super::requirements::needs_api;
use super::step::{Action, ContainerRef, Query, Subject, Verb};
use super::{DRAIN_PERIOD, Planner};
use crate::capabilities::{ApiVersion, EngineKind};
use crate::desired::{self, BRIDGE, Desired, Endpoint, HookPoint, Join, Service};
use crate::identity::Identity;
use crate::observed::{Container, Network, Observed, State};

/// First API version with networks without IPv4: Docker 28.0.
const ENABLE_IPV4: ApiVersion = ApiVersion(1, 48);

impl<'a> Planner<'a> {
    /// Networks that services in scope are on: missing ones that are external, and those that differ from the specs, which
    /// cannot be changed.
    pub(super) fn network_problems(&self) -> Vec<String> {
        let endpoints = self.desired.in_scope().flat_map(|it| it.config.network.endpoints());
        let used: BTreeSet<&str> = endpoints.map(|(name, _)| name).collect();
        let networks = || used.iter().filter_map(|name| Some((*name, self.desired.networks.get(*name)?)));
        let problems = networks().filter_map(|(name, wanted)| self.problem(name, wanted));
        problems.chain(networks().filter_map(|(name, wanted)| self.too_new(name, wanted))).collect()
    }

    /// What the engine's API is too old for: it would be ignored.
    fn too_new(&self, name: &str, wanted: &desired::Network) -> Option<String> {
        wanted.enable_ipv4?;
        needs_api(&format!("`enable_ipv4` of the network {name}"), &wanted.location, ENABLE_IPV4, self.observed)
    }

    /// Why a network cannot be used as the specs say.
    fn problem(&self, name: &str, wanted: &desired::Network) -> Option<String> {
        let found = self.networks.get(name);
        if wanted.external {
            let place = &wanted.location;
            let missing = || {
                format!(
                    "external network {name} does not exist ({place}); create it with `docker network create {name}`"
                )
            };
            return found.is_none().then(missing);
        }
        let found = found?;
        let is_ours = self.is_ours(found);
        let (has, wants) = difference(wanted, found, is_ours, self.observed.capabilities.kind)?;
        let remedy = match is_ours {
            true => "run `drillmaster down` first".to_owned(),
            false if name == self.desired.network => {
                "drillmaster does not manage it, so change `subnet` or `network`".to_owned()
            }
            false => format!("drillmaster does not manage it, so change its entry ({})", wanted.location),
        };
        Some(format!("the network {name} has {has}, the specs say {wants}; {remedy}"))
    }

    /// Plans the creation of the missing networks of a service, and waits for them. Returns true while one is missing.
    pub(super) fn create_networks(&mut self, service: &'a Service) -> bool {
        let endpoints = service.config.network.endpoints();
        let missing: Vec<&str> =
            endpoints.into_iter().map(|(name, _)| name).filter(|name| !self.networks.contains_key(name)).collect();
        for name in &missing {
            self.create_network(service, name);
        }
        !missing.is_empty()
    }

    fn create_network(&mut self, service: &Service, name: &str) {
        self.step_once(Subject::Network(name.to_owned()), Verb::CreateNetwork, "missing");
        self.wait_quietly(service, format!("waiting for the network {name}"), None);
    }

    /// How a new container joins its networks. `named`: with its aliases. Engines before API 1.44 take only one network at the
    /// creation; the others follow before the start.
    pub(super) fn joins(&self, service: &'a Service, named: bool) -> Vec<Join> {
        let joins = service.config.network.endpoints().into_iter().filter_map(|(name, endpoint)| {
            let network = self.networks.get(name)?;
            Some(self.join(service, network, endpoint, named))
        });
        let most = if self.observed.capabilities.joins_several_networks() { usize::MAX } else { 1 };
        joins.take(most).collect()
    }

    fn join(&self, service: &Service, network: &Network, endpoint: &Endpoint, named: bool) -> Join {
        let mut names = if named { service.network_names(&self.desired.group, endpoint) } else { Vec::new() };
        if named && let Some(project) = &self.desired.project {
            // Its container under docker compose, of which the engine knows the name.
            names.push(format!("{project}-{}-{}", service.service, service.replica.unwrap_or(1)));
        }
        let mut endpoint = endpoint.clone();
        // The address of the container is that on its first network.
        if let Some(address) = &service.config.mac_address
            && service.config.network.endpoints().first().is_some_and(|(first, _)| *first == network.name)
        {
            endpoint.mac_address.get_or_insert_with(|| address.clone());
        }
        Join { network: network.id.clone(), name: network.name.clone(), names, endpoint }
    }

    /// Attaches a container to its networks with its aliases. Returns true while a step is needed.
    pub(super) fn ensure_networks(&mut self, service: &'a Service, container: &'a Container) -> bool {
        self.attach(service, container, true)
    }

    /// Attaches a container to its networks. Returns true while a step is needed. `named`: with its aliases, even if they were
    /// deferred. Aliases of an endpoint cannot be changed, so it is created again; the engine almost always assigns the same
    /// address.
    pub(super) fn attach(&mut self, service: &'a Service, container: &'a Container, named: bool) -> bool {
        if self.is_drift_ignored(&service.name, "network") {
            return false;
        }
        let places = self.places(service, container);
        places.iter().any(|(name, endpoint)| self.attach_to(service, container, (name, endpoint), named))
            || self.leave_surplus_network(service, container, &places)
    }

    /// The networks that a container should be on: those of the spec that it was created from, as far as the group still has
    /// them. With an earlier spec it runs where it is not replaced: after `start`, or if its replacement failed.
    fn places(&self, service: &'a Service, container: &Container) -> Vec<(&'a str, Endpoint)> {
        let is_current = container.identity.as_ref().is_none_or(|it| it.spec_hash == service.fingerprint.spec_hash);
        let names = if is_current { Vec::new() } else { networks_of(container) };
        let known: Option<Vec<&'a str>> =
            names.iter().map(|name| self.desired.networks.get_key_value(name).map(|(name, _)| name.as_str())).collect();
        match known.filter(|known| !known.is_empty()) {
            None => {
                let endpoints = service.config.network.endpoints().into_iter();
                endpoints.map(|(name, endpoint)| (name, endpoint.clone())).collect()
            }
            Some(known) => {
                let settings = |name: &str| service.config.network.endpoint(name).cloned().unwrap_or_default();
                known.into_iter().map(|name| (name, settings(name))).collect()
            }
        }
    }

    fn attach_to(
        &mut self,
        service: &'a Service,
        container: &'a Container,
        (name, endpoint): (&str, &Endpoint),
        named: bool,
    ) -> bool {
        let Some(network) = self.networks.get(name).copied() else {
            self.network_change(service, container, None, name);
            self.create_network(service, name);
            return true;
        };
        if let Some(attachment) = container.networks.iter().find(|attachment| attachment.network_id == network.id) {
            let cause = if named && aliases_deferred(container) {
                match self.is_found(service, container, network) {
                    None => return true,
                    Some(true) => None,
                    Some(false) => Some(format!("network alias {} not set", service.service)),
                }
            } else {
                None
            };
            let has_other =
                |wanted: &std::net::Ipv4Addr| attachment.address.is_some_and(|it| it.is_ipv4() && it != *wanted);
            let moved = endpoint.ipv4_address.filter(has_other).map(|address| format!("address is not {address}"));
            let Some(cause) = cause.or(moved) else { return false };
            self.network_change(service, container, Some(&network.id), name);
            self.step(Subject::of(service), disconnect(container, network), cause);
            return true;
        }
        let stale = container.networks.iter().find(|attachment| attachment.network == network.name);
        self.network_change(service, container, stale.map(|attachment| attachment.network_id.as_str()), name);
        let verb = match stale {
            // A network that is gone can be left only by its name, which works for a stopped container.
            Some(stale) => {
                let known = self.observed.networks.contains_key(&stale.network_id);
                let id = if known { &stale.network_id } else { &stale.network };
                Verb::Disconnect {
                    container: ContainerRef::of(container),
                    network: id.clone(),
                    name: stale.network.clone(),
                }
            }
            None => {
                let named = named || !aliases_deferred(container);
                let join = self.join(service, network, endpoint, named);
                Verb::Connect { container: ContainerRef::of(container), join }
            }
        };
        self.step(Subject::of(service), verb, format!("not attached to network {}", network.name));
        true
    }

    /// Whether the service name resolves to the container; `None` until it is inspected.
    fn is_found(&mut self, service: &Service, container: &Container, network: &Network) -> Option<bool> {
        let Some(details) = &container.details else {
            self.plan.queries.insert(Query::Container(container.id.clone()));
            return None;
        };
        Some(details.names.get(&network.id).is_some_and(|names| names.contains(&service.service)))
    }

    /// Returns true if the current container is drained; otherwise removes its aliases after its `pre_stop` hooks. It stays
    /// attached, for clients that resolved its name before.
    pub(super) fn is_drained(&mut self, service: &Service, container: &'a Container, cause: &str) -> bool {
        if container.state != State::Running {
            return true;
        }
        if !self.hooks_are_done(service, HookPoint::PreStop, Some(container), cause) {
            return false;
        }
        let is_late = aliases_deferred(container);
        let mut is_nameless = false;
        for name in networks_of(container) {
            let Some(network) = self.networks.get(name.as_str()).copied() else { continue };
            let attached = container.networks.iter().any(|attachment| attachment.network_id == network.id);
            let verb = match (attached, is_late) {
                (true, true) => match self.is_found(service, container, network) {
                    None => return false,
                    Some(false) => {
                        is_nameless = true;
                        continue;
                    }
                    Some(true) => disconnect(container, network),
                },
                (true, false) => disconnect(container, network),
                (false, true) => {
                    let endpoint = service.config.network.endpoint(&name).cloned().unwrap_or_default();
                    let join = self.join(service, network, &endpoint, false);
                    Verb::Connect { container: ContainerRef::of(container), join }
                }
                // Its host name would still resolve.
                (false, false) => continue,
            };
            self.step(Subject::of(service), verb, cause);
            return false;
        }
        !is_nameless || self.has_lasted(service, container, DRAIN_PERIOD, "is being drained")
    }

    /// Detaches a container from a network that it should not be on: a second one of the same name, one of the group that its
    /// spec does not name, or one that is gone, with which it could not be started. Returns true while a step is needed.
    fn leave_surplus_network(
        &mut self,
        service: &Service,
        container: &Container,
        places: &[(&'a str, Endpoint)],
    ) -> bool {
        let belongs = |network: &Network| {
            let is_chosen = self.networks.get(network.name.as_str()).is_some_and(|chosen| chosen.id == network.id);
            is_chosen && places.iter().any(|(name, _)| *name == network.name)
        };
        let surplus = container.networks.iter().find_map(|attachment| {
            match self.observed.networks.get(&attachment.network_id) {
                Some(network) => (self.is_ours(network) && !belongs(network)).then_some((&network.id, &network.name)),
                // It can be left only by its name, which works for a stopped container.
                None => (!container.is_up() && !attachment.network_id.is_empty())
                    .then_some((&attachment.network, &attachment.network)),
            }
        });
        let Some((id, name)) = surplus else { return false };
        let (network, name) = (id.clone(), name.clone());
        self.network_change(service, container, Some(&network), &name);
        let cause = format!("attached to surplus network {name}");
        let verb = Verb::Disconnect { container: ContainerRef::of(container), network, name };
        self.step(Subject::of(service), verb, cause);
        true
    }

    /// Reports a network change once, for a running container only.
    fn network_change(&mut self, service: &Service, container: &Container, old: Option<&str>, wanted: &str) {
        let told = self.plan.changes.iter().any(|change| change.subject == Subject::of(service));
        if !told && container.state == State::Running {
            let cause = Cause::Network { found: old.map(str::to_owned), wanted: wanted.to_owned() };
            self.change(Subject::of(service), Action::Update, vec![cause]);
        }
    }
}

fn disconnect(container: &Container, network: &Network) -> Verb {
    let (network, name) = (network.id.clone(), network.name.clone());
    Verb::Disconnect { container: ContainerRef::of(container), network, name }
}

/// Returns true if the container gets its network aliases only once it is ready.
pub(super) fn aliases_deferred(container: &Container) -> bool {
    container.identity.as_ref().is_some_and(|identity| identity.named_when_ready)
}

/// Names of the networks that the container's own spec names.
fn networks_of(container: &Container) -> Vec<String> {
    let Some(spec) = container.identity.as_ref().and_then(Identity::applied) else { return Vec::new() };
    let single = spec.get("network").and_then(Value::as_str);
    let several = spec.get("networks").and_then(Value::as_object).into_iter().flat_map(|networks| networks.keys());
    single.map(str::to_owned).into_iter().chain(several.cloned()).collect()
}

/// The networks of the group, by name. Of several with one name (two clients created it at once), the one in use by most
/// containers, then the lowest id, so that every run chooses the same. An unmanaged network of that name is used but never
/// removed.
pub(super) fn chosen_networks<'a>(desired: &'a Desired, observed: &'a Observed) -> BTreeMap<&'a str, &'a Network> {
    let attached = |network: &Network| {
        observed.of_group(&desired.group).filter(|c| c.networks.iter().any(|a| a.network_id == network.id)).count()
    };
    let rank = |network: &Network| {
        let is_ours = network.group.as_deref() == Some(desired.group.as_str());
        (is_ours, attached(network), std::cmp::Reverse(network.id.clone()))
    };
    let mut chosen: BTreeMap<&str, &Network> = BTreeMap::new();
    for network in observed.networks.values() {
        let Some((name, _)) = desired.networks.get_key_value(&network.name) else { continue };
        let best = chosen.entry(name).or_insert(network);
        if best.id != network.id && rank(best) < rank(network) {
            *best = network;
        }
    }
    chosen
}

/// The first setting of a network that differs from the specs: what it has, and what they say. A setting that they leave out
/// differs only if the network is ours.
fn difference(wanted: &desired::Network, found: &Network, is_ours: bool, kind: EngineKind) -> Option<(String, String)> {
    let differs = |what: &str, has: &str, wants: &str| Some((format!("{what} {has}"), wants.to_owned()));
    let subnets: Vec<&str> = wanted.subnets().collect();
    if !found.subnets.is_empty() && subnets.iter().any(|subnet| found.subnets.iter().all(|it| it != subnet)) {
        return differs("the subnet", &found.subnets.join(", "), &subnets.join(", "));
    }
    let settings = &found.settings;
    let driver = wanted.driver.as_deref().or(is_ours.then_some(BRIDGE)).filter(|driver| *driver != settings.driver);
    if let Some(driver) = driver {
        return differs("the driver", &settings.driver, driver);
    }
    let flags = [
        ("`internal`", (is_ours || wanted.internal).then_some(wanted.internal), settings.internal),
        ("`attachable`", wanted.attachable.then_some(true), settings.attachable),
        ("`enable_ipv6`", wanted.enable_ipv6, settings.enable_ipv6),
        ("`enable_ipv4`", wanted.enable_ipv4, settings.enable_ipv4),
    ];
    let other = flags.into_iter().find_map(|(flag, wants, has)| Some((flag, wants.filter(|it| *it != has)?, has)));
    if let Some((flag, wants, has)) = other {
        return differs(flag, &has.to_string(), &wants.to_string());
    }
    let ipam_driver =
        wanted.ipam_driver.as_ref().filter(|driver| !["default", &settings.ipam_driver].contains(&driver.as_str()));
    if let Some(driver) = ipam_driver {
        return differs("the address driver", &settings.ipam_driver, driver);
    }
    let maps = [
        (DRIVER_OPTION, &wanted.driver_opts, &settings.options),
        ("option of the address driver", &wanted.ipam_options, &settings.ipam_options),
        ("reserved address", &wanted.aux_addresses(), &settings.aux_addresses),
        ("label", &wanted.labels, &settings.labels),
    ];
    // Podman shows none of Docker's options.
    let is_shown =
        |what: &str, key: &str| kind == EngineKind::Docker || what != DRIVER_OPTION || !key.starts_with(DOCKER_OPTIONS);
    for (what, wants, has) in maps {
        let other = wants.iter().find(|(key, value)| is_shown(what, key) && has.get(*key) != Some(*value));
        if let Some((key, value)) = other {
            let has = has.get(key).map_or("unset", String::as_str);
            return differs(&format!("the {what} {key}"), has, value);
        }
    }
    let mut gateways = wanted.ranges.iter().filter_map(|range| Some(range.gateway?.to_string()));
    if let Some(gateway) = gateways.find(|gateway| !settings.gateways.contains(gateway)) {
        return differs("the gateway", &listed(&settings.gateways), &gateway);
    }
    let mut ranges = wanted.ranges.iter().filter_map(|range| range.ip_range.as_ref());
    let range = ranges.find(|range| !settings.ip_ranges.contains(range))?;
    differs("the address range", &listed(&settings.ip_ranges), range)
}

/// What a driver option is called.
const DRIVER_OPTION: &str = "driver option";

/// What the names of Docker's options of networks begin with.
const DOCKER_OPTIONS: &str = "com.docker.network.";
/// Those that Podman knows.
const KNOWN_TO_PODMAN: [&str; 2] = ["com.docker.network.driver.mtu", "com.docker.network.bridge.name"];

/// The options of a network that Podman ignores.
pub(super) fn ignored_by_podman(network: &desired::Network) -> impl Iterator<Item = &str> {
    let options = network.driver_opts.keys().map(String::as_str);
    options.filter(|option| option.starts_with(DOCKER_OPTIONS) && !KNOWN_TO_PODMAN.contains(option))
}

fn listed(texts: &[String]) -> String {
    if texts.is_empty() { "unset".to_owned() } else { texts.join(", ") }
}
