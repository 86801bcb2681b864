//! What somebody does to the engine beside drillmaster, by hand.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

use tokio::time::Instant;

use super::super::Happened;
use super::life::Doing;
use super::world::Made;
use super::{Image, Sim};
use crate::desired::Config;
use crate::observed::{Health, State};
use crate::spec::model::{Resources, RestartPolicy};

impl Sim {
    /// Ends the process of a container, as an out-of-memory kill or a crash would.
    pub fn kill(&self, name: &str, code: i64) {
        if let Some(id) = self.id_of(name) {
            self.end(&id, code, false);
        }
    }

    /// `docker pause`.
    pub fn pause(&self, name: &str) {
        self.alter(name, |container| {
            if container.state == State::Running {
                container.state = State::Paused;
            }
        });
    }

    /// `docker rename`; false where the name is taken.
    pub fn rename(&self, name: &str, to: &str) -> bool {
        if self.id_of(to).is_some() {
            return false;
        }
        self.alter(name, |container| to.clone_into(&mut container.name));
        true
    }

    /// `docker network disconnect`, from every network.
    pub fn disconnect(&self, name: &str) {
        self.alter(name, |container| container.networks.clear());
    }

    /// `docker rm --force`.
    pub fn remove(&self, name: &str) {
        if let Some(id) = self.id_of(name) {
            self.end(&id, 137, true);
            self.take_away(&id, false);
        }
    }

    /// The engine could not remove it and keeps it as dead.
    pub fn mark_dead(&self, name: &str) {
        if let Some(id) = self.id_of(name) {
            self.end(&id, 137, true);
            self.alter(name, |container| container.state = State::Dead);
        }
    }

    /// `docker run` by somebody else: running, without labels of ours, holding these host ports on 127.0.0.1. Its id.
    pub fn create_foreign(&self, name: &str, host_ports: &[u16]) -> String {
        let id = self.change(|world| {
            let id = world.fresh_id();
            let port = |host: &u16| crate::spec::model::Port {
                address: Ipv4Addr::LOCALHOST.into(),
                host: Some(*host),
                container: *host,
                protocol: crate::spec::model::Protocol::Tcp,
            };
            let ports = host_ports.iter().map(port).collect();
            let config = Config { image: "somebody/else:1".into(), ports, ..Config::default() };
            let container = Made {
                id: id.clone(),
                name: name.to_owned(),
                labels: HashMap::new(),
                env: BTreeMap::new(),
                image: Image::new("foreign"),
                state: State::Running,
                health: Health::None,
                networks: BTreeMap::new(),
                mounts: Vec::new(),
                resources: Resources::default(),
                restart: RestartPolicy::No,
                created: world.seconds(),
                started: Some(Instant::now()),
                finished: None,
                restarts: 0,
                error: String::new(),
                output: Vec::new(),
                lives: 1,
                stale_until: None,
                config,
            };
            world.containers.insert(id.clone(), container);
            id
        });
        self.alter(name, |_| {});
        id
    }

    /// `docker network create` by somebody. Its id.
    pub fn create_network(&self, name: &str, labels: &BTreeMap<String, String>) -> String {
        self.change(|world| world.create_network(name, labels))
    }

    /// `docker network rm` by somebody; false where containers use it or there is none.
    pub fn remove_network(&self, name: &str) -> bool {
        let id = self.lock().networks.values().find(|network| network.name == name).map(|network| network.id.clone());
        id.is_some_and(|id| self.change(|world| world.remove_network(&id, "remove the network")).is_ok())
    }

    /// `docker volume create` by somebody, without labels.
    pub fn create_volume(&self, name: &str) {
        self.change(|world| world.volumes.entry(name.to_owned()).or_default().clear());
    }

    /// The health check changes its verdict.
    pub fn turn(&self, name: &str, health: Health) {
        if let Some(id) = self.id_of(name) {
            self.act(&id, None, Doing::Turns(health));
        }
    }

    /// Ends every stream of events, as a broken connection would.
    pub fn cut_events(&self) {
        self.lock().subscribers.clear();
    }

    /// The engine restarts: containers without a restart policy end, networks stay, every stream of events ends.
    pub fn restart(&self) {
        self.cut_events();
        let ids: Vec<String> =
            self.lock().containers.values().filter(|c| c.is_up()).map(|container| container.id.clone()).collect();
        for id in ids {
            self.end(&id, 255, false);
        }
    }

    fn alter(&self, name: &str, change: impl FnOnce(&mut Made)) {
        let Some(id) = self.id_of(name) else { return };
        self.change(|world| {
            if let Some(container) = world.containers.get_mut(&id) {
                change(container);
            }
            world.tell(&id, Happened::Changed);
        });
    }
}
