//! Events and health checks.

use std::time::Duration;

use drillmaster::engine::docker::Docker;
use drillmaster::engine::{ContainerEvent, Engine, EngineEvent, Mutation};
use drillmaster::identity::SERVICE;
use drillmaster::observed::{Health, State};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use crate::field::*;
use crate::support::ground::{docker, socket};
use crate::support::proxy::Proxy;

#[tokio::test]
async fn nothing_is_missed_once_subscribed() {
    let field = Field::new("gap").await;
    for round in 0..20 {
        let mut events = field.engine.events(&field.ground.group);
        assert_eq!(events.next().await, Some(Ok(EngineEvent::Subscribed)));
        let id = field.create(field.blueprint(&format!("a{round}"), "true")).await;
        let what = ContainerEvent::Created;
        let created = EngineEvent::Container { id, what };
        let found = async { while events.next().await.unwrap().unwrap() != created {} };
        tokio::time::timeout(Duration::from_secs(10), found).await.unwrap();
    }
}

#[tokio::test]
async fn a_subscription_ends_with_its_engine() {
    let proxy = Proxy::start(&socket());
    let engine = Docker::connect(&target(proxy.socket())).await.unwrap();
    let mut events = engine.events("nobody");
    assert_eq!(events.next().await, Some(Ok(EngineEvent::Subscribed)));
    proxy.cut();
    let end = tokio::time::timeout(Duration::from_secs(10), async { while let Some(Ok(_)) = events.next().await {} });
    end.await.unwrap();
}

#[tokio::test]
async fn events_are_hints_about_the_group() {
    let field = Field::new("events").await;
    let mut events = field.engine.events(&field.ground.group);
    assert_eq!(events.next().await, Some(Ok(EngineEvent::Subscribed)));
    let id = field.run(field.blueprint("a", "sleep 1; exit 7")).await;
    exec(&field.engine, &id, &["true"]).await.unwrap();
    field.ended(&id).await;
    field.done(Mutation::Remove { id: id.clone(), volumes: false }).await;

    let happened = of_container(&mut events, &id).await;
    let died = ContainerEvent::Died { code: Some(7) };
    assert_eq!(happened, [ContainerEvent::Created, ContainerEvent::Started, died, ContainerEvent::Destroyed]);
}

#[tokio::test]
async fn external_changes_are_events_and_exits_are_listed() {
    let field = Field::new("hands").await;
    let mut events = field.engine.events(&field.ground.group);
    assert_eq!(events.next().await, Some(Ok(EngineEvent::Subscribed)));
    let mut blueprint = field.blueprint("a", "trap '' HUP; trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done");
    blueprint.labels.insert(SERVICE.into(), "a".into());
    let mut crashing = field.blueprint("b", "sleep 1; exit 7");
    crashing.labels.insert(SERVICE.into(), "b".into());
    let id = field.run(blueprint).await;
    let crashed = field.run(crashing).await;
    let nameless = field.run(field.blueprint("c", "exit 3")).await;
    let renamed = field.name("other");
    for hand in [
        &["kill", "--signal", "HUP", &id][..],
        &["pause", &id],
        &["unpause", &id],
        &["rename", &id, &renamed],
        &["update", "--pids-limit", "50", &id],
        &["stop", &id],
        &["start", &id],
        &["kill", &id],
    ] {
        docker(hand).unwrap();
    }
    field.ended(&id).await;
    assert_eq!(field.ended(&crashed).await, State::Exited { code: Some(7) });
    assert_eq!(field.ended(&nameless).await, State::Exited { code: Some(3) });
    field.done(Mutation::Remove { id: id.clone(), volumes: false }).await;

    let mut seen = Vec::new();
    while seen.last() != Some(&ContainerEvent::Destroyed) {
        let event = tokio::time::timeout(Duration::from_secs(30), events.next()).await.unwrap();
        if let EngineEvent::Container { id: of, what } = event.unwrap().unwrap() {
            seen.extend((of == id).then_some(what));
        }
    }
    // Pause, unpause, rename, update: each is a change. So is the word that it was stopped, before or after the word that
    // it died of it.
    let (killed, changed) = (ContainerEvent::Killed, ContainerEvent::Changed);
    let died = |code| ContainerEvent::Died { code: Some(code) };
    let stopped = seen.iter().rposition(|what| *what == changed).unwrap();
    assert!((7..=8).contains(&stopped), "{seen:?}");
    seen.remove(stopped);
    let expected = [
        [ContainerEvent::Created, ContainerEvent::Started].as_slice(),
        &[changed.clone(), changed.clone(), changed.clone(), changed],
        &[killed.clone(), died(0), ContainerEvent::Started, killed, died(137), ContainerEvent::Destroyed],
    ];
    assert_eq!(seen, expected.concat());

    let ended = field.engine.recent_exits(&field.ground.group, Duration::from_secs(600)).await.unwrap();
    assert!(ended.iter().all(|end| end.ago < Duration::from_secs(120)), "{ended:?}");
    assert!(ended.is_sorted_by_key(|end| std::cmp::Reverse(end.ago)), "{ended:?}");
    let mut told: Vec<_> = ended.iter().map(|end| (end.service.as_str(), end.code, end.asked)).collect();
    told.sort_unstable();
    assert_eq!(told, [("a", Some(0), true), ("a", Some(137), true), ("b", Some(7), false)]);
    assert_eq!(field.engine.recent_exits(&field.ground.group, Duration::ZERO).await.unwrap(), []);
    assert_eq!(field.engine.recent_exits("nobody", Duration::from_secs(600)).await.unwrap(), []);
}

/// What happened to a container until it was removed.
async fn of_container(
    events: &mut BoxStream<'_, drillmaster::engine::Result<EngineEvent>>,
    container: &str,
) -> Vec<ContainerEvent> {
    let mut seen = Vec::new();
    while seen.last() != Some(&ContainerEvent::Destroyed) {
        let event = tokio::time::timeout(Duration::from_secs(30), events.next()).await.unwrap();
        match event.unwrap().unwrap() {
            EngineEvent::Container { id, what } if id == container => seen.push(what),
            EngineEvent::Container { id, what } => panic!("of another container: {id} {what:?}"),
            EngineEvent::Network { .. } | EngineEvent::Subscribed => {}
        }
    }
    seen
}

#[tokio::test]
async fn a_network_that_loses_a_container_is_an_event() {
    let field = Field::new("netevents").await;
    let id = field.run(field.blueprint("a", sleeper())).await;
    let mut events = field.engine.events(&field.ground.group);
    assert_eq!(events.next().await, Some(Ok(EngineEvent::Subscribed)));
    for _ in 0..2 {
        field.done(Mutation::Disconnect { network: field.network.clone(), container: id.clone() }).await;
    }
    let wanted = EngineEvent::Network { id: field.network.clone(), container: Some(id.clone()) };
    while events.next().await.unwrap().unwrap() != wanted {}
    assert_eq!(field.engine.inspect(&id).await.unwrap().unwrap().networks, []);
    let aliases = vec!["other".to_owned()];
    field.done(Mutation::Connect { network: field.network.clone(), container: id.clone(), aliases }).await;
    let (code, lines) = exec(&field.engine, &id, &["nslookup", "other"]).await.unwrap();
    assert_eq!(code, 0, "{lines:?}");
}

#[tokio::test]
async fn the_engines_health_check_is_seen() {
    let field = Field::new("health").await;
    let image = "drillmaster/healthcheck:1";
    assert!(field.engine.image(image).await.unwrap().unwrap().healthcheck);
    assert!(!field.engine.image(IMAGE).await.unwrap().unwrap().healthcheck);
    assert_eq!(field.engine.image("drillmaster/no-such-image:1").await, Ok(None));
    assert!(!field.engine.image("drillmaster/volume:1").await.unwrap().unwrap().volumes.is_empty());

    let mut events = field.engine.events(&field.ground.group);
    assert_eq!(events.next().await, Some(Ok(EngineEvent::Subscribed)));
    let mut blueprint = field.blueprint("a", sleeper());
    blueprint.config.healthcheck = Some(healthcheck(&["test", "-f", "/tmp/ready"]));
    let id = field.run(blueprint).await;
    let health = async || {
        let observed = field.engine.list(&field.ground.group, false).await.unwrap();
        let inspected = field.engine.inspect(&id).await.unwrap().unwrap();
        assert_eq!(observed.containers[id.as_str()].health, inspected.health);
        inspected.health
    };
    assert_eq!(health().await, Health::Starting);
    exec(&field.engine, &id, &["touch", "/tmp/ready"]).await.unwrap();
    next_health(&mut events, Health::Healthy).await;
    assert_eq!(health().await, Health::Healthy);
    exec(&field.engine, &id, &["rm", "/tmp/ready"]).await.unwrap();
    next_health(&mut events, Health::Unhealthy).await;
    assert_eq!(health().await, Health::Unhealthy);
}

fn healthcheck(test: &[&str]) -> drillmaster::spec::model::Healthcheck {
    use drillmaster::spec::model::HealthcheckTest;
    drillmaster::spec::model::Healthcheck {
        test: Some(HealthcheckTest::Exec(test.iter().map(|word| (*word).to_owned()).collect())),
        interval: Some("300ms".parse().unwrap()),
        timeout: Some("5s".parse().unwrap()),
        retries: Some(2),
        start_period: Some("10s".parse().unwrap()),
        disable: false,
    }
}

async fn next_health(events: &mut BoxStream<'_, drillmaster::engine::Result<EngineEvent>>, wanted: Health) {
    loop {
        let event = tokio::time::timeout(Duration::from_secs(30), events.next()).await.unwrap();
        if matches!(event.unwrap().unwrap(), EngineEvent::Container { what: ContainerEvent::Health(health), .. } if health == wanted)
        {
            return;
        }
    }
}
