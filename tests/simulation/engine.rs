//! Behaviour of the simulated engine that no controller test covers directly.

use std::time::Duration;

use drillmaster::desired::Join;
use drillmaster::engine::deadline::{Bounded, Limits};
use drillmaster::engine::{ContainerEvent, Engine, EngineError, EngineEvent, Mutation};
use drillmaster::observed::State;
use drillmaster::plan::effect;
use drillmaster::spec::model::RestartPolicy;
use drillmaster_sim::{Image, Sim};
use futures_util::StreamExt;
use tokio::time::timeout;

use crate::builders::{GROUP, desired, service};

/// Creates and starts a container of the service `name`, with the labels that the controller sets.
async fn run(sim: &Sim, name: &str, restart: RestartPolicy) -> String {
    let wanted = desired([service(name).restart(restart)]);
    let reference = format!("{name}:1");
    sim.add_image(&reference, Image::new(name));
    let definition = &wanted.services[name];
    let labels = effect::identity(&wanted, definition, "", false).to_labels();
    let network = sim.create_network(&format!("net-{name}"), &drillmaster::identity::group_labels(GROUP, ""));
    let spec = drillmaster::engine::ContainerSpec {
        name: format!("shop-{name}"),
        labels,
        volume_labels: Default::default(),
        config: definition.config.clone(),
        env: Default::default(),
        joins: vec![Join { network, name: format!("net-{name}"), names: Vec::new(), endpoint: Default::default() }],
        targets: Default::default(),
        volumes: Default::default(),
        hostname: name.into(),
        inherited: Vec::new(),
    };
    let id = sim.apply(&Mutation::Create(Box::new(spec))).await.unwrap().unwrap();
    sim.apply(&Mutation::Start(id.clone())).await.unwrap();
    id
}

fn state(sim: &Sim, id: &str) -> State {
    sim.snapshot().containers[id].state
}

#[tokio::test(start_paused = true)]
async fn engine_stop_fails_calls_in_flight() {
    let sim = Sim::new();
    let plain = run(&sim, "plain", RestartPolicy::No).await;
    let policy = run(&sim, "policy", RestartPolicy::UnlessStopped).await;
    let mut events = sim.events(GROUP);
    assert_eq!(events.next().await, Some(Ok(EngineEvent::Subscribed)));
    let user = sim.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(2)).await;
        user.shut_down(true);
    });
    let lost = sim.list(GROUP, false).await;
    assert!(matches!(lost, Err(EngineError::Unreachable { .. })), "{lost:?}");
    assert_eq!(events.next().await, None, "event streams end");
    assert!(sim.about().await.is_err() && sim.events(GROUP).next().await.unwrap().is_err());
    sim.start_up();
    assert!(sim.about().await.is_ok());
    assert_eq!(state(&sim, &plain), State::Exited { code: Some(255) });
    assert_eq!(state(&sim, &policy), State::Running, "restarted by its policy");
    assert_eq!(sim.recent_exits(GROUP, Duration::from_secs(600)).await, Ok(Vec::new()), "recorded exits are lost");
    sim.shut_down(false);
    sim.start_up();
    assert_eq!(state(&sim, &policy), State::Running);
}

#[tokio::test(start_paused = true)]
async fn hung_engine_executes_pending_requests_later() {
    let sim = Sim::new();
    let id = run(&sim, "db", RestartPolicy::No).await;
    let mut events = sim.events(GROUP);
    assert_eq!(events.next().await, Some(Ok(EngineEvent::Subscribed)));
    sim.hang();
    let bounded = Bounded::new(sim.clone(), Limits::default());
    let stop = Mutation::Stop { id: id.clone(), timeout: None };
    assert!(matches!(bounded.apply(&stop).await, Err(EngineError::TimedOut { .. })));
    assert!(timeout(Duration::from_secs(600), events.next()).await.is_err(), "no events while hanging");
    assert_eq!(state(&sim, &id), State::Running);
    sim.resume();
    sim.until_recorded("died shop-db (0)").await;
    let mut seen = Vec::new();
    while seen.last() != Some(&ContainerEvent::Died { code: Some(0) }) {
        if let Some(Ok(EngineEvent::Container { what, .. })) = events.next().await {
            seen.push(what);
        }
    }
    assert_eq!(seen, [ContainerEvent::Killed, ContainerEvent::Died { code: Some(0) }]);
}

#[tokio::test(start_paused = true)]
async fn exits_are_recorded_with_their_cause() {
    let sim = Sim::new();
    let id = run(&sim, "db", RestartPolicy::No).await;
    let start = Mutation::Start(id.clone());
    sim.kill("shop-db", 3);
    sim.apply(&start).await.unwrap();
    sim.docker_kill("shop-db");
    sim.apply(&start).await.unwrap();
    sim.docker_stop("shop-db");
    let seen = |ended: Vec<drillmaster::engine::ContainerExit>| -> Vec<(Option<i64>, bool)> {
        ended.into_iter().map(|end| (end.code, end.asked)).collect()
    };
    let ended = sim.recent_exits(GROUP, Duration::from_secs(600)).await.unwrap();
    assert_eq!(seen(ended), [(Some(3), false), (Some(137), true), (Some(0), true)]);
    tokio::time::sleep(Duration::from_secs(601)).await;
    assert_eq!(sim.recent_exits(GROUP, Duration::from_secs(600)).await, Ok(Vec::new()));
    assert_eq!(sim.recent_exits("other", Duration::from_secs(6000)).await, Ok(Vec::new()));
}
