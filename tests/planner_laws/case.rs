//! Random desired and observed states that shrink well.

use std::collections::BTreeSet;
use std::time::Duration;

use drillmaster::capabilities::ApiVersion;
use drillmaster::desired::{Desired, Mode, Scope, Service};
use drillmaster::identity::{candidate_name, container_name, instance_name};
use drillmaster::observed::{Attachment, Container, Details, Health, ImageFacts, Observed, PublishedPort, State};
use drillmaster::plan::effect;
use drillmaster::spec::model::{Condition, Protocol};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::builders::*;

pub const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// A service.
#[derive(Debug, Clone)]
pub struct Draft {
    pub version: u8,
    /// Bit set of dependencies among the preceding services.
    pub needs: u8,
    pub restart: bool,
    pub started: bool,
    pub ping: bool,
    pub port: Option<u16>,
    pub volume: bool,
    pub replicas: Option<u32>,
    pub start_first: bool,
    pub min_ready: bool,
    pub keep: bool,
    pub place: Place,
}

/// Where a service is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Place {
    Default,
    /// On two networks.
    Two,
    /// On the other network only.
    Other,
    Host,
}

/// A second network of the group.
pub const BACK: &str = "shop_back";

/// An existing container of the group.
#[derive(Debug, Clone)]
pub struct Remnant {
    pub service: usize,
    /// Name: 0 of its service, 1 with `.new`, 2 and 3 unknown, 4 of the next service.
    pub slot: u8,
    pub version: u8,
    /// Bit set of dependencies; labels may contain combinations that are invalid in specs.
    pub needs: u8,
    pub state: u8,
    pub network: u8,
    pub port: Option<u16>,
    pub strange_hash: bool,
    pub replica: Option<u32>,
    /// True or false if DNS names are assigned once ready: whether they are assigned already.
    pub late: Option<bool>,
    pub place: Place,
}

#[derive(Debug, Clone)]
pub struct Case {
    pub wanted: Vec<Option<Draft>>,
    pub remnants: Vec<Remnant>,
    /// Bit set: a foreign container with the name of a service, one with a port, an unrelated one.
    pub foreign: u8,
    /// Bit set: the group's network, a second one of that name, a foreign one of that name, an outdated one of the
    /// group.
    pub networks: u8,
    pub scope: Option<u8>,
    pub mode: u8,
    pub order: u64,
    /// The engine is older than API 1.44: containers are created on one network.
    pub old_engine: bool,
}

pub fn draft() -> impl Strategy<Value = Draft> {
    (
        0..3_u8,
        any::<u8>(),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
        any::<bool>(),
        option::of(0..4_u16),
        any::<bool>(),
        option::weighted(0.3, 0..4_u32),
        (prop::bool::weighted(0.4), prop::bool::weighted(0.3), any::<bool>(), place()),
    )
        .prop_map(|(version, needs, restart, started, ping, port, volume, replicas, update)| Draft {
            replicas,
            start_first: update.0,
            min_ready: update.1,
            keep: update.2,
            place: update.3,
            version,
            needs,
            restart,
            started,
            ping,
            port,
            volume,
        })
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![6 => Just(Place::Default), 2 => Just(Place::Two), 1 => Just(Place::Other), 1 => Just(Place::Host)]
}

pub fn remnant() -> impl Strategy<Value = Remnant> {
    let slot = prop_oneof![6 => Just(0_u8), 3 => Just(1_u8), 1 => Just(2_u8), 1 => Just(3_u8), 1 => Just(4_u8)];
    let state = prop_oneof![6 => Just(0_u8), 10 => 1..8_u8];
    let network = prop_oneof![6 => Just(0_u8), 4 => 1..5_u8];
    (0..NAMES.len(), slot, 0..3_u8, any::<u8>(), state, network, option::of(0..4_u16), remnant_details()).prop_map(
        |(service, slot, version, needs, state, network, port, (strange_hash, replica, late, place))| Remnant {
            service,
            slot,
            version,
            needs,
            state,
            network,
            port,
            strange_hash,
            replica,
            late,
            place,
        },
    )
}

pub fn remnant_details() -> impl Strategy<Value = (bool, Option<u32>, Option<bool>, Place)> {
    (prop::bool::weighted(0.1), option::weighted(0.3, 1..4_u32), option::weighted(0.4, any::<bool>()), place())
}

pub fn case() -> impl Strategy<Value = Case> {
    let foreign = prop_oneof![6 => Just(0_u8), 1 => 0..8_u8];
    let networks = prop_oneof![4 => Just(1_u8), 4 => 0..32_u8];
    let mode = prop_oneof![8 => Just(0_u8), 2 => Just(1_u8), 1 => Just(2_u8), 1 => Just(3_u8)];
    let scope = prop_oneof![5 => Just(None), 2 => any::<u8>().prop_map(Some)];
    (
        vec(option::weighted(0.7, draft()), NAMES.len()),
        vec(remnant(), 0..8),
        foreign,
        networks,
        scope,
        mode,
        any::<u64>(),
        any::<bool>(),
    )
        .prop_map(|(wanted, remnants, foreign, networks, scope, mode, order, old_engine)| Case {
            old_engine,
            wanted,
            remnants,
            foreign,
            networks,
            scope,
            mode,
            order,
        })
}

pub fn written(name: &str, version: u8, port: Option<u16>) -> Build {
    let mut build = service(name).image("app:1").command(&[["one", "two", "two"][usize::from(version)]]);
    if version > 0 {
        build = build.env("VERSION", &version.to_string());
    }
    if version > 1 {
        build = build.built("two");
    }
    match port {
        Some(port) => build.port(&format!("{}:80", 8000 + port)),
        None => build,
    }
}

impl Case {
    pub fn desired(&self) -> Desired {
        let mut ports = BTreeSet::new();
        let mut services = Vec::new();
        let exists = |n: usize| self.wanted[n].is_some();
        for (n, draft) in self.wanted.iter().enumerate() {
            let Some(draft) = draft else { continue };
            // Exclude combinations that are invalid in specs.
            let start_first = draft.start_first && draft.place != Place::Host;
            let at_once = start_first || draft.replicas.is_some() || draft.place == Place::Host;
            let port = draft.port.filter(|port| !at_once && ports.insert(*port));
            let mut build = written(NAMES[n], draft.version, port);
            if let Some(number) = draft.replicas {
                build = build.replicas(number);
            }
            build = at(build, draft.place);
            if start_first {
                build = build.start_first();
            }
            if draft.min_ready {
                build = build.min_ready("600ms");
            }
            if draft.keep {
                build = build.keep();
            }
            for needed in (0..n).filter(|needed| draft.needs & (1 << needed) != 0 && exists(*needed)) {
                let condition = if draft.started { Condition::Started } else { Condition::Ready };
                build = build.needs_that(NAMES[needed], condition, draft.restart);
            }
            if draft.ping {
                build = build.ping(Duration::from_secs(30));
            }
            if draft.volume && !start_first {
                build = build.volume(NAMES[n], "/data");
            }
            services.push(build);
        }
        let mut desired = desired(if self.mode == 1 || self.mode == 2 { Vec::new() } else { services });
        desired.networks.insert(BACK.to_owned(), Default::default());
        desired.mode = match self.mode {
            2 => Mode::StopOnly,
            3 => Mode::StartOnly,
            _ => Mode::Reconcile { purge_volumes: false, purge_images: false },
        };
        if let Some(bits) = self.scope {
            let names = (0..NAMES.len()).filter(|n| bits & (1 << n) != 0).map(|n| NAMES[n].to_owned()).collect();
            desired.scope = if bits & 128 == 0 { Scope::Only(names) } else { Scope::AllBut(names) };
        }
        desired
    }

    pub fn observed(&self) -> Observed {
        let mut observed = Observed::default();
        if self.old_engine {
            observed.capabilities.api = ApiVersion(1, 41);
        }
        add_image(&mut observed, "app:1", ImageFacts::default());
        let networks = [
            ("net-1", GROUP, true),
            ("net-2", GROUP, true),
            ("net-3", GROUP, false),
            ("net-4", "old", true),
            ("net-5", BACK, true),
        ];
        for (n, (id, name, ours)) in networks.into_iter().enumerate() {
            if self.networks & (1 << n) != 0 {
                observed.networks.insert(id.into(), network(id, name, ours));
            }
        }
        let mut ports = BTreeSet::new();
        if self.foreign & 1 != 0 {
            add(&mut observed, foreign("shop-a"));
        }
        if self.foreign & 2 != 0 {
            let mut holder = foreign("holder");
            holder.ports.push(published(0));
            ports.insert(0);
            add(&mut observed, holder);
        }
        if self.foreign & 4 != 0 {
            add(&mut observed, foreign("shop-zzz.new"));
        }
        for (n, remnant) in self.remnants.iter().enumerate() {
            let container = remnant.container(n, &observed, &mut ports);
            if observed.containers.values().all(|other| other.name != container.name) {
                add(&mut observed, container);
            }
        }
        observed
    }
}

fn at_network(id: &str, name: &str) -> Attachment {
    Attachment { network_id: id.into(), network: name.into(), address: None, prefix: None }
}

/// Places a service.
fn at(build: Build, place: Place) -> Build {
    match place {
        Place::Default => build,
        Place::Two => build.networks(&[GROUP, BACK]),
        Place::Other => build.networks(&[BACK]),
        Place::Host => build.mode("host"),
    }
}

pub fn published(port: u16) -> PublishedPort {
    let address = std::net::Ipv4Addr::LOCALHOST.into();
    PublishedPort { address, host: 8000 + port, container: 80, protocol: Protocol::Tcp }
}

impl Remnant {
    pub fn service(&self) -> Service {
        let port = self.port.filter(|_| self.place != Place::Host);
        let mut build = at(written(NAMES[self.service], self.version, port), self.place);
        for needed in (0..NAMES.len()).filter(|needed| self.needs & (1 << needed) != 0) {
            build = build.needs(NAMES[needed]);
        }
        if self.late.is_some() && self.place != Place::Host {
            build = build.start_first();
        }
        let service = build.done();
        Service { name: instance_name(&service.service, self.replica).into(), replica: self.replica, ..service }
    }

    /// Returns the details of an inspection.
    pub fn details(&self, container: &Container) -> Details {
        let names = if self.late == Some(false) { Vec::new() } else { vec![NAMES[self.service].to_owned()] };
        let names = container.networks.iter().map(|attached| (attached.network_id.clone(), names.clone())).collect();
        Details { env: drillmaster::desired::set_variables(&self.service().env), names, ..Details::default() }
    }

    pub fn container(&self, n: usize, observed: &Observed, ports: &mut BTreeSet<u16>) -> Container {
        let service = self.service();
        let name = &service.name;
        let mut identity =
            effect::identity(&nothing(), &service, "sha256:app:1", self.late.is_some() && self.place != Place::Host);
        if self.strange_hash {
            identity.spec_hash = "v0:strange".into();
        }
        let state = match self.state {
            0 => State::Running,
            1 => State::Created,
            2 => State::Exited { code: Some(0) },
            3 => State::Exited { code: Some(137) },
            4 => State::Paused,
            5 => State::Restarting,
            6 => State::Removing,
            _ => State::Dead,
        };
        let mut container = Container {
            id: format!("id-{n}").into(),
            name: match self.slot {
                0 => container_name(GROUP, name),
                1 => candidate_name(GROUP, name),
                2 | 3 => format!("astray-{n}"),
                _ => container_name(GROUP, NAMES[(self.service + 1) % NAMES.len()]),
            },
            identity: Some(identity),
            inherited: None,
            compose: None,
            image_id: String::new(),
            image: "app:1".into(),
            state,
            health: Health::None,
            network_mode: if self.place == Place::Host { "host".into() } else { String::new() },
            networks: Vec::new(),
            ports: Vec::new(),
            mounts: Vec::new(),
            created: i64::try_from(n).unwrap(),
            details: None,
        };
        let running = matches!(state, State::Running | State::Paused);
        container.networks = match self.network {
            1 => Vec::new(),
            // Only a stopped container can be attached to a removed network.
            2 if !container.is_up() => vec![at_network("net-gone", GROUP)],
            n @ (0 | 3 | 4) => {
                let id = ["net-1", "", "", "net-2", "net-4"][usize::from(n)];
                let known = observed.networks.get(id);
                known.map(|network| at_network(id, &network.name)).into_iter().collect()
            }
            _ => Vec::new(),
        };
        match self.place {
            Place::Default => {}
            Place::Host => container.networks.clear(),
            Place::Two | Place::Other => {
                let known = observed.networks.get("net-5").map(|network| at_network(&network.id, &network.name));
                if self.place == Place::Other {
                    container.networks.clear();
                }
                container.networks.extend(known.filter(|_| self.port.is_none_or(|port| port != 3)));
            }
        }
        if let Some(port) = service.config.ports.first().and(self.port).filter(|port| running && ports.insert(*port)) {
            container.ports.push(published(port));
        }
        container
    }
}
