//! Execution of programs in running containers.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::Sim;
use drillmaster::engine::{ContainerEvent, LogLine};
use drillmaster::observed::{Health, State};

/// An action of a program at a given time.
#[derive(Debug)]
pub(crate) enum ProgramAction {
    Writes(String),
    Turns(Health),
    Exits(i64),
}

impl Sim {
    /// Runs the program of a container that has just started.
    pub(crate) fn run_program(&self, id: &str) {
        let (life, start, plan) = {
            let world = self.lock();
            let Some(container) = world.containers.get(id) else { return };
            let behaviour = &container.image.behaviour;
            let mut plan: Vec<(Duration, ProgramAction)> = Vec::new();
            plan.extend(behaviour.output.iter().map(|(at, line)| (*at, ProgramAction::Writes(line.clone()))));
            if world.personality.runs_health_checks() && container.checks_health() {
                plan.extend(behaviour.healthy.map(|at| (at, ProgramAction::Turns(Health::Healthy))));
                plan.extend(behaviour.unhealthy.map(|at| (at, ProgramAction::Turns(Health::Unhealthy))));
            }
            let exits = behaviour.exits.filter(|_| container.lives <= behaviour.exiting_starts);
            let exits =
                exits.map(|(after, code)| (after, if container.lives <= behaviour.failing_starts { 1 } else { code }));
            plan.extend(exits.map(|(at, code)| (at, ProgramAction::Exits(code))));
            plan.sort_by_key(|(at, _)| *at);
            (container.lives, Instant::now(), plan)
        };
        if plan.is_empty() {
            return;
        }
        let (sim, id) = (self.clone(), id.to_owned());
        tokio::spawn(async move {
            for (at, action) in plan {
                sleep_until(start + at).await;
                if !sim.perform(&id, Some(life), action) {
                    return;
                }
            }
        });
    }

    /// Performs an action of a program. Returns false if the container has exited or restarted since.
    pub(crate) fn perform(&self, id: &str, life: Option<u64>, action: ProgramAction) -> bool {
        let alive = self.lock().containers.get(id).is_some_and(|container| {
            life.is_none_or(|life| container.lives == life) && matches!(container.state, State::Running | State::Paused)
        });
        if !alive {
            return false;
        }
        match action {
            ProgramAction::Exits(code) => self.end(id, code, false),
            ProgramAction::Writes(line) => self.change(|world| {
                let now = world.seconds();
                if let Some(container) = world.containers.get_mut(id) {
                    container.output.push((now, LogLine { stderr: false, text: line }));
                }
            }),
            ProgramAction::Turns(health) => self.change(|world| {
                if !world.personality.runs_health_checks() {
                    return;
                }
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

    /// Ends the process of a container. The restart policy applies unless `asked_for`.
    pub(crate) fn end(&self, id: &str, code: i64, asked_for: bool) {
        let again = self.change(|world| world.end(id, code, asked_for));
        let Some((life, pause)) = again else { return };
        let (sim, id) = (self.clone(), id.to_owned());
        tokio::spawn(async move {
            sleep(pause).await;
            sim.until_available().await;
            let started = sim.change(|world| {
                let waits = world
                    .containers
                    .get(&id)
                    .is_some_and(|container| container.lives == life && container.state == State::Restarting);
                waits && world.start(&id).is_ok()
            });
            if started {
                sim.run_program(&id);
            }
        });
    }

    /// Removes a container, and its anonymous volumes if `volumes`.
    pub(crate) fn remove_container(&self, id: &str, volumes: bool) {
        self.change(|world| {
            world.emit_event(id, ContainerEvent::Destroyed);
            let Some(container) = world.containers.remove(id) else { return };
            world.history.push(format!("removed {}", container.name));
            if volumes {
                for mount in &container.mounts {
                    let name = mount.point.volume.as_ref();
                    // Podman does not care which container a volume was created for.
                    let removed = |name: &&String| match world.personality.is_podman() {
                        true => world.anonymous_volumes.contains(*name),
                        false => mount.anonymous,
                    };
                    if let Some(name) = name.filter(removed) {
                        // As on a real engine, a volume that is in use elsewhere is kept.
                        let _ = world.remove_volume(name);
                    }
                }
            }
        });
    }
}
