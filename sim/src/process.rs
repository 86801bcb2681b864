//! What programs do while their containers run, and how they end.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::Sim;
use drillmaster::engine::{ContainerEvent, LogLine};
use drillmaster::observed::{Health, State};

/// Something that a program does in its time.
#[derive(Debug)]
pub(crate) enum Doing {
    Writes(String),
    Turns(Health),
    Exits(i64),
}

impl Sim {
    /// Lets the program of a container that was just started do what it does, each thing in its time.
    pub(crate) fn live(&self, id: &str) {
        let (life, start, plan) = {
            let world = self.lock();
            let Some(container) = world.containers.get(id) else { return };
            let behaviour = &container.image.behaviour;
            let mut plan: Vec<(Duration, Doing)> = Vec::new();
            plan.extend(behaviour.output.iter().map(|(at, line)| (*at, Doing::Writes(line.clone()))));
            if container.checks_health() {
                plan.extend(behaviour.healthy.map(|at| (at, Doing::Turns(Health::Healthy))));
                plan.extend(behaviour.unhealthy.map(|at| (at, Doing::Turns(Health::Unhealthy))));
            }
            let exits = behaviour.exits.filter(|_| container.lives <= behaviour.exits_in);
            let exits =
                exits.map(|(after, code)| (after, if container.lives <= behaviour.fails_in { 1 } else { code }));
            plan.extend(exits.map(|(at, code)| (at, Doing::Exits(code))));
            plan.sort_by_key(|(at, _)| *at);
            (container.lives, Instant::now(), plan)
        };
        if plan.is_empty() {
            return;
        }
        let (sim, id) = (self.clone(), id.to_owned());
        tokio::spawn(async move {
            for (at, doing) in plan {
                sleep_until(start + at).await;
                if !sim.act(&id, Some(life), doing) {
                    return;
                }
            }
        });
    }

    /// A program does something, unless its life is over.
    pub(crate) fn act(&self, id: &str, life: Option<u64>, doing: Doing) -> bool {
        let alive = self.lock().containers.get(id).is_some_and(|container| {
            life.is_none_or(|life| container.lives == life) && matches!(container.state, State::Running | State::Paused)
        });
        if !alive {
            return false;
        }
        match doing {
            Doing::Exits(code) => self.end(id, code, false),
            Doing::Writes(line) => self.change(|world| {
                let now = world.seconds();
                if let Some(container) = world.containers.get_mut(id) {
                    container.output.push((now, LogLine { stderr: false, text: line }));
                }
            }),
            Doing::Turns(health) => self.change(|world| {
                if let Some(container) = world.containers.get_mut(id) {
                    container.health = health;
                    let happened = format!("{} is now {health:?}", container.name);
                    world.history.push(happened.to_lowercase());
                }
                world.emit_event(id, ContainerEvent::Health(health));
            }),
        }
        true
    }

    /// The process of a container ends. Where that was not asked for, the engine's restart policy has its say.
    pub(crate) fn end(&self, id: &str, code: i64, asked_for: bool) {
        let again = self.change(|world| world.end(id, code, asked_for));
        let Some((life, pause)) = again else { return };
        let (sim, id) = (self.clone(), id.to_owned());
        tokio::spawn(async move {
            sleep(pause).await;
            sim.present().await;
            let started = sim.change(|world| {
                let waits = world
                    .containers
                    .get(&id)
                    .is_some_and(|container| container.lives == life && container.state == State::Restarting);
                waits && world.start(&id).is_ok()
            });
            if started {
                sim.live(&id);
            }
        });
    }

    /// A container goes, with its anonymous volumes where `volumes`.
    pub(crate) fn take_away(&self, id: &str, volumes: bool) {
        self.change(|world| {
            world.emit_event(id, ContainerEvent::Destroyed);
            let Some(container) = world.containers.remove(id) else { return };
            world.history.push(format!("removed {}", container.name));
            if volumes {
                for mount in container.mounts.iter().filter(|mount| mount.anonymous) {
                    if let Some(name) = &mount.point.volume {
                        // In use elsewhere, it stays: so does the engine.
                        let _ = world.remove_volume(name);
                    }
                }
            }
        });
    }
}
