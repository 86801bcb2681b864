//! External changes: actions of a user with `docker`, and of the engine itself.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

use tokio::time::Instant;

use super::process::ProgramAction;
use super::state::{Presence, SimContainer};
use super::{Image, Sim};
use drillmaster::desired::Config;
use drillmaster::engine::ContainerEvent;
use drillmaster::observed::{Health, State};
use drillmaster::spec::model::{Resources, RestartPolicy};

impl Sim {
    /// Ends the process of a container unexpectedly, like an out-of-memory kill or a crash.
    pub fn kill(&self, name: &str, code: i64) {
        if let Some(id) = self.id_of(name) {
            self.end(&id, code, false);
        }
    }

    /// `docker stop`; the program exits immediately.
    pub fn docker_stop(&self, name: &str) {
        self.end_externally(name, 0);
    }

    /// `docker kill`.
    pub fn docker_kill(&self, name: &str) {
        self.end_externally(name, 137);
    }

    fn end_externally(&self, name: &str, code: i64) {
        if let Some(id) = self.id_of(name) {
            self.signal(&id);
            self.end(&id, code, true);
        }
    }

    /// `docker restart`; the program exits immediately.
    pub fn docker_restart(&self, name: &str) {
        let Some(id) = self.id_of(name) else { return };
        self.change(|world| {
            if world.personality.is_podman() {
                // Its `restart` event comes first.
                world.emit_event(&id, ContainerEvent::Changed);
            }
        });
        self.end_externally(name, 0);
        // If the start fails, the container stays stopped.
        if self.change(|world| world.start(&id).unwrap_or_default()) {
            self.run_program(&id);
        }
    }

    /// `docker update`.
    pub fn docker_update(&self, name: &str, resources: Resources, restart: RestartPolicy) {
        if let Some(id) = self.id_of(name) {
            // Cannot fail: the container exists.
            let _ = self.change(|world| world.update(&id, resources, restart));
        }
    }

    /// `docker pause`.
    pub fn pause(&self, name: &str) {
        self.freeze(name, State::Running, State::Paused);
    }

    /// `docker unpause`.
    pub fn unpause(&self, name: &str) {
        self.freeze(name, State::Paused, State::Running);
    }

    fn freeze(&self, name: &str, from: State, to: State) {
        self.alter(name, &format!("{name} is now {to}"), |container| {
            if container.state == from {
                container.state = to;
            }
        });
    }

    /// `docker rename`. Returns false if the name is taken.
    pub fn rename(&self, name: &str, to: &str) -> bool {
        self.id_of(name).is_some_and(|id| self.change(|world| world.rename(&id, to)).is_ok())
    }

    /// `docker network disconnect`, from every network.
    pub fn disconnect(&self, name: &str) {
        let Some(id) = self.id_of(name) else { return };
        self.change(|world| {
            let networks = world.containers.get(&id).map(|container| container.networks.clone()).unwrap_or_default();
            for network in networks.keys() {
                // Fails if the container runs and the network has been removed.
                let _ = world.disconnect(network, &id);
            }
        });
    }

    /// `docker rm --force`.
    pub fn remove(&self, name: &str) {
        if let Some(id) = self.id_of(name) {
            self.signal(&id);
            self.end(&id, 137, true);
            self.remove_container(&id, false);
        }
    }

    /// Marks a container as dead, as the engine does after a failed removal.
    pub fn mark_dead(&self, name: &str) {
        if let Some(id) = self.id_of(name) {
            self.end(&id, 137, true);
            self.alter(name, &format!("{name} is now dead"), |container| container.state = State::Dead);
        }
    }

    /// `docker run`: a running container without drillmaster's labels, with these host ports on 127.0.0.1. Returns its
    /// id.
    pub fn create_foreign(&self, name: &str, host_ports: &[u16]) -> String {
        let id = self.change(|world| {
            let id = world.fresh_id();
            let port = |host: &u16| drillmaster::spec::model::Port {
                address: Some(Ipv4Addr::LOCALHOST.into()),
                host: drillmaster::spec::model::HostPort::Fixed(*host),
                container: *host,
                protocol: drillmaster::spec::model::Protocol::Tcp,
            };
            let ports = host_ports.iter().map(port).collect();
            let config = Config { image: "thirdparty/app:1".into(), ports, ..Config::default() };
            let container = SimContainer {
                id: id.clone(),
                name: name.to_owned(),
                labels: HashMap::new(),
                env: BTreeMap::new(),
                files: BTreeMap::new(),
                image: Image::new("foreign"),
                state: State::Running,
                health: Health::None,
                networks: BTreeMap::new(),
                names: BTreeMap::new(),
                addresses: BTreeMap::new(),
                targets: BTreeMap::new(),
                hostname: String::new(),
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
                revives: false,
                config,
            };
            world.containers.insert(id.clone(), container);
            id
        });
        self.alter(name, &format!("externally created {name}"), |_| {});
        id
    }

    /// `docker commit`: creates an image with the labels of a container. Its program runs until stopped.
    pub fn docker_commit(&self, name: &str, image: &str) {
        self.change(|world| {
            let labels = world.containers.values().find(|container| container.name == name).map(|it| it.labels.clone());
            let labels = labels.into_iter().flatten().collect();
            world.images.insert(image.to_owned(), Image { labels, ..Image::new(image) });
        });
    }

    /// `docker run`: a running container without labels but those of its image. Returns its id.
    pub fn docker_run(&self, name: &str, image: &str) -> String {
        let id = self.create_foreign(name, &[]);
        self.change(|world| {
            let found = world.images.get(image).cloned();
            if let (Some(found), Some(container)) = (found, world.containers.get_mut(&id)) {
                container.labels = found.labels.clone().into_iter().collect();
                container.config.image = image.to_owned();
                container.image = found;
            }
            world.emit_event(&id, ContainerEvent::Created);
            world.emit_event(&id, ContainerEvent::Started);
        });
        id
    }

    /// Changes a label of a container, which no engine can.
    pub fn relabel(&self, name: &str, label: &str, value: &str) {
        self.alter(name, &format!("{name} has another label {label}"), |container| {
            container.labels.insert(label.to_owned(), value.to_owned());
        });
    }

    /// `docker network create`. Returns its id, or that of the network with this name if names are unique.
    pub fn create_network(&self, name: &str, labels: &BTreeMap<String, String>) -> String {
        self.change(|world| match world.create_network(name, labels, &Default::default()) {
            Ok(id) => id,
            Err(_) => {
                world.networks.values().find(|network| network.name == name).map(|it| it.id.clone()).unwrap_or_default()
            }
        })
    }

    /// `docker network rm`. Returns false if the network is in use or missing.
    pub fn remove_network(&self, name: &str) -> bool {
        let id = self.lock().networks.values().find(|network| network.name == name).map(|network| network.id.clone());
        id.is_some_and(|id| self.change(|world| world.remove_network(&id, "remove the network")).is_ok())
    }

    /// Disconnects every container from a network and removes it.
    pub fn remove_network_by_force(&self, name: &str) {
        self.change(|world| {
            let Some(network) = world.networks.values().find(|network| network.name == name).cloned() else { return };
            let attached = world.containers.values().filter(|c| c.networks.values().any(|id| *id == network.id));
            for id in attached.map(|container| container.id.clone()).collect::<Vec<_>>() {
                // Cannot fail: the container is attached.
                let _ = world.disconnect(&network.id, &id);
            }
            let _ = world.remove_network(&network.id, "remove the network");
        });
    }

    /// `docker volume create`, without labels.
    pub fn create_volume(&self, name: &str) {
        self.change(|world| world.volumes.entry(name.to_owned()).or_default().clear());
    }

    /// Changes the health status of a container.
    pub fn set_health(&self, name: &str, health: Health) {
        if let Some(id) = self.id_of(name) {
            self.perform(&id, None, ProgramAction::Turns(health));
        }
    }

    /// Ends all event streams, like a broken connection.
    pub fn cut_events(&self) {
        self.lock().subscribers.clear();
    }

    /// Restarts the engine: calls in flight fail, event streams end, containers exit and are started again according to
    /// their restart policy. Networks are kept.
    pub fn restart(&self) {
        self.shut_down(true);
        self.start_up();
    }

    /// Stops the engine: all calls fail, including those in flight. Recorded exits are lost. Containers exit if
    /// `containers_end`, otherwise keep running.
    pub fn shut_down(&self, containers_end: bool) {
        self.change(|world| {
            world.presence = Presence::Away;
            world.epoch += 1;
            world.subscribers.clear();
            world.held.clear();
            world.history.push("engine stopped".into());
        });
        let up: Vec<String> = self.lock().containers.values().filter(|c| c.is_up()).map(|c| c.id.clone()).collect();
        for id in up.iter().filter(|_| containers_end) {
            self.change(|world| {
                world.end(id, 255, true);
                if let Some(container) = world.containers.get_mut(id) {
                    container.revives = container.restart != RestartPolicy::No;
                }
            });
        }
        self.lock().exits.clear();
    }

    /// Starts the engine again, with the containers whose restart policy requires it.
    pub fn start_up(&self) {
        let restarted = self.change(|world| {
            world.presence = Presence::Answers;
            world.history.push("engine started".into());
            let restarts = |container: &&SimContainer| {
                !container.is_up()
                    && (container.revives || container.restart == RestartPolicy::Always && container.lives > 0)
            };
            world.containers.values().filter(restarts).map(|container| container.id.clone()).collect::<Vec<_>>()
        });
        for id in restarted {
            if self.change(|world| world.start(&id).is_ok()) {
                self.run_program(&id);
            }
        }
    }

    /// Suspends the engine like SIGSTOP: calls and events hang.
    pub fn hang(&self) {
        self.change(|world| {
            world.presence = Presence::Hangs;
            world.history.push("engine hangs".into());
        });
    }

    /// Resumes the engine like SIGCONT: pending calls and events continue.
    pub fn resume(&self) {
        self.change(|world| {
            world.presence = Presence::Answers;
            world.history.push("engine resumed".into());
            for (group, event) in std::mem::take(&mut world.held) {
                world.event(group, event);
            }
        });
    }

    /// Emits the event for a signal to a container.
    pub(crate) fn signal(&self, id: &str) {
        self.change(|world| {
            if world.containers.get(id).is_some_and(SimContainer::is_up) {
                world.emit_killed(id);
            }
        });
    }

    fn alter(&self, name: &str, happened: &str, change: impl FnOnce(&mut SimContainer)) {
        let Some(id) = self.id_of(name) else { return };
        self.change(|world| {
            if let Some(container) = world.containers.get_mut(&id) {
                change(container);
            }
            world.history.push(happened.to_owned());
            world.emit_event(&id, ContainerEvent::Changed);
        });
    }
}
