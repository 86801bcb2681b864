//! Connecting, lists, containers and networks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use drillmaster::desired::{Config, Inherited, Seconds, Volume, VolumeSource};
use drillmaster::engine::docker::Docker;
use drillmaster::engine::{ContainerSpec, Engine, EngineError, Mutation};
use drillmaster::identity::GROUP;
use drillmaster::observed::State;
use drillmaster::spec::model::{ExtraHost, Port, Protocol, Resources, RestartPolicy, Ulimit};
use drillmaster::spec::value::ByteSize;

use crate::field::*;
use crate::support::ground::{docker, socket};
use crate::support::proxy::Proxy;

#[tokio::test]
async fn connecting_and_reading_info_takes_two_requests() {
    let proxy = Proxy::start(&socket());
    let engine = Docker::connect(&target(proxy.socket())).await.unwrap();
    let about = engine.about().await.unwrap();
    let asked = proxy.take();
    assert_eq!(asked.iter().map(|asked| asked.brief()).collect::<Vec<_>>(), ["GET /version", "GET /info"]);
    assert_eq!(asked[1].path, format!("/v{}/info", about.api), "the agreed version stands in every request");
    assert!(about.version.starts_with(|c: char| c.is_ascii_digit()), "{about:?}");
    assert!(!about.id.is_empty());
    assert!(about.reaches_containers);
}

#[tokio::test]
async fn a_list_takes_three_requests_and_one_more_for_volumes() {
    let proxy = Proxy::start(&socket());
    let engine = Docker::connect(&target(proxy.socket())).await.unwrap();
    proxy.take();
    let brief = || proxy.take().iter().map(|asked| asked.brief()).collect::<BTreeSet<_>>();
    let observed = engine.list("nobody", false).await.unwrap();
    assert_eq!(brief(), ["GET /containers/json", "GET /networks", "GET /images/json"].map(str::to_owned).into());
    assert!(observed.images.contains_key(IMAGE), "{:?}", observed.images);
    let id = &observed.images[IMAGE];
    assert_eq!(observed.images[id], *id);
    engine.list("nobody", true).await.unwrap();
    assert_eq!(proxy.take().len(), 4);
}

#[tokio::test]
async fn connections_are_used_again() {
    let proxy = Proxy::start(&socket());
    let engine = Docker::connect(&target(proxy.socket())).await.unwrap();
    for _ in 0..20 {
        assert_eq!(engine.inspect("no-such-container").await, Ok(None));
    }
    assert!(proxy.connections() <= 3, "{} connections", proxy.connections());
    // The engine was restarted: what is idle is dead, and the next call does not notice.
    proxy.cut();
    assert_eq!(engine.inspect("no-such-container").await, Ok(None));
}

#[tokio::test]
async fn where_no_engine_answers_the_reason_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("docker.sock");
    let said = async |path: &std::path::Path| match Docker::connect(&target(path)).await {
        Err(EngineError::Unreachable { reason, .. }) => reason,
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("connected"),
    };
    assert_eq!(said(&path).await, "no such socket");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert_eq!(said(&path).await, "connection refused (the socket is there, but no engine listens)");
}

#[tokio::test]
async fn a_container_lives_and_every_deed_can_be_repeated() {
    let field = Field::new("life").await;
    let id = field.create(field.blueprint("a.new", sleeper())).await;
    assert_eq!(field.state(&id).await, State::Created);

    field.done(Mutation::Start(id.clone())).await;
    field.done(Mutation::Start(id.clone())).await;
    assert_eq!(field.state(&id).await, State::Running);

    for _ in 0..2 {
        field.done(Mutation::Rename { id: id.clone(), name: field.name("a") }).await;
    }
    docker(&["pause", &id]).unwrap();
    assert_eq!(field.state(&id).await, State::Paused);
    for _ in 0..2 {
        field.done(Mutation::Unpause(id.clone())).await;
    }

    let observed = field.engine.list(&field.ground.group, false).await.unwrap();
    let listed = &observed.containers[id.as_str()];
    assert_eq!((listed.name.as_str(), listed.state), (field.name("a").as_str(), State::Running));
    assert_eq!(listed.service_of(&field.ground.group), Some(""));
    assert_eq!(listed.networks[0].network_id, field.network);
    assert!(listed.networks[0].address.is_some());
    assert_eq!(observed.networks[&field.network].group.as_deref(), Some(field.ground.group.as_str()));

    for _ in 0..2 {
        field.done(Mutation::Stop { id: id.clone(), timeout: Some(Duration::from_secs(10)) }).await;
    }
    assert_eq!(field.state(&id).await, State::Exited { code: Some(0) });

    for _ in 0..2 {
        field.done(Mutation::Remove { id: id.clone(), volumes: true }).await;
        field.done(Mutation::RemoveNetwork(field.network.clone())).await;
        field.done(Mutation::RemoveVolume(field.name("no-such-volume"))).await;
        field.done(Mutation::RemoveImage("drillmaster/no-such-image:1".into())).await;
    }
    assert_eq!(field.engine.inspect(&id).await, Ok(None));
}

#[tokio::test]
async fn errors_are_distinguished() {
    let field = Field::new("errors").await;
    let gone = "0".repeat(64);
    let missing = field.fails(Mutation::Start(gone.clone())).await;
    assert!(matches!(missing, EngineError::NotFound { .. }), "{missing:?}");
    assert!(missing.to_string().starts_with("cannot start container 000000000000: "), "{missing}");

    let id = field.run(field.blueprint("a", sleeper())).await;
    let taken = field.fails(Mutation::Create(Box::new(field.blueprint("a", "true")))).await;
    assert!(matches!(taken, EngineError::Conflict { .. }), "{taken:?}");

    let mut unknown = field.blueprint("b", "true");
    unknown.config.image = "drillmaster/no-such-image:1".into();
    let unknown = field.fails(Mutation::Create(Box::new(unknown))).await;
    assert!(matches!(unknown, EngineError::NotFound { .. }), "{unknown:?}");

    let mut unbound = field.blueprint("b", "true");
    let source = VolumeSource::Bind("/no/such/directory".into());
    unbound.config.volumes = vec![Volume { source, target: "/data".into(), read_only: false }];
    let unbound = field.fails(Mutation::Create(Box::new(unbound))).await;
    assert!(unbound.to_string().contains("/no/such/directory"), "{unbound}");

    let busy = field.fails(Mutation::RemoveNetwork(field.network.clone())).await;
    assert!(matches!(busy, EngineError::ActiveEndpoints { .. }), "{busy:?}");
    field.done(Mutation::Remove { id, volumes: false }).await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_with_the_engines_words() {
    let field = Field::new("ports").await;
    let port = |host| Port { address: [127, 0, 0, 1].into(), host, container: 80, protocol: Protocol::Tcp };
    let mut first = field.blueprint("a", sleeper());
    first.config.ports = vec![port(None)];
    let first = field.run(first).await;
    let listed = field.engine.list(&field.ground.group, false).await.unwrap().containers[first.as_str()].ports.clone();
    assert_eq!(listed, field.engine.inspect(&first).await.unwrap().unwrap().ports);
    assert_eq!(listed.len(), 1);

    let mut second = field.blueprint("b", sleeper());
    second.config.ports = vec![port(Some(listed[0].host))];
    let second = field.create(second).await;
    let error = field.fails(Mutation::Start(second)).await;
    assert!(error.to_string().contains("port is already allocated"), "{error}");
}

#[tokio::test]
async fn everything_in_a_blueprint_reaches_the_engine() {
    let field = Field::new("fields").await;
    let directory = tempfile::tempdir().unwrap();
    let bind = directory.path().to_str().unwrap().to_owned();
    let volume = |source, target: &str, read_only| Volume { source, target: target.into(), read_only };
    let mut blueprint = field.blueprint("a", sleeper());
    blueprint.env = BTreeMap::from([("LEVEL".into(), "a=b c".into()), ("EMPTY".into(), String::new())]);
    blueprint.config = Config {
        user: Some("1000:1000".into()),
        working_dir: Some("/tmp".into()),
        volumes: vec![
            volume(VolumeSource::Named(field.name("data")), "/data", false),
            volume(VolumeSource::Bind(bind.clone()), "/bind", true),
            volume(VolumeSource::Anonymous, "/anonymous", false),
        ],
        tmpfs: BTreeMap::from([("/memory".into(), "size=1m".into())]),
        stop_signal: Some("SIGINT".into()),
        stop_timeout: Some(Seconds(3)),
        restart: RestartPolicy::OnFailure(5),
        resources: Resources {
            memory: Some(ByteSize::new(64 << 20)),
            cpus: Some("0.5".parse().unwrap()),
            pids: Some(50),
        },
        extra_hosts: vec![ExtraHost { name: "gateway".into(), address: "host-gateway".into() }],
        cap_drop: vec!["NET_RAW".into()],
        init: true,
        shm_size: Some(8 << 20),
        ulimits: BTreeMap::from([("nofile".into(), Ulimit { soft: 100, hard: 200 })]),
        ..blueprint.config
    };
    let resources = blueprint.config.resources;
    let id = field.run(blueprint).await;

    let container = field.engine.inspect(&id).await.unwrap().unwrap();
    let details = container.details.clone().unwrap();
    assert_eq!(details.env["LEVEL"], "a=b c");
    assert_eq!(details.env["EMPTY"], "");
    assert_eq!(details.resources, resources);
    assert_eq!(details.restart, RestartPolicy::OnFailure(5));
    assert!(!details.started_at.is_empty());
    assert_eq!(details.finished_at, "");
    let mounts: BTreeMap<_, _> = container.mounts.iter().map(|mount| (mount.target.as_str(), mount)).collect();
    assert_eq!(mounts["/data"].volume.as_deref(), Some(field.name("data").as_str()));
    assert_eq!((mounts["/bind"].bind.as_deref(), mounts["/bind"].writable), (Some(bind.as_str()), false));
    let anonymous = mounts["/anonymous"].volume.clone().unwrap();

    let observed = field.engine.list(&field.ground.group, true).await.unwrap();
    let listed = &observed.containers[id.as_str()];
    assert_eq!(
        listed.mounts.iter().map(|m| &m.target).collect::<Vec<_>>(),
        container.mounts.iter().map(|m| &m.target).collect::<Vec<_>>()
    );
    assert_eq!((listed.created, listed.networks.clone()), (container.created, container.networks));
    let owned: BTreeSet<&String> = observed.volumes.keys().collect();
    assert_eq!(owned, BTreeSet::from([&field.name("data"), &anonymous]), "both were created with our labels");

    let script = "id -u; pwd; ulimit -n; ulimit -Hn; hostname; grep -c gateway /etc/hosts; df -k /memory /dev/shm | tail -n 2 | awk '{print $2}'";
    let (_, lines) = exec(&field.engine, &id, &["sh", "-c", script]).await.unwrap();
    let lines: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(lines, ["1000", "/tmp", "100", "200", "a", "1", "1024", "8192"]);

    // The replacement takes the anonymous volume over, and what it does not name as well.
    let mut heir = field.blueprint("b", sleeper());
    heir.config.volumes = vec![volume(VolumeSource::Anonymous, "/anonymous", false)];
    heir.inherited = vec![
        Inherited { volume: anonymous.clone(), target: "/anonymous".into() },
        Inherited { volume: field.name("data"), target: "/of-the-image".into() },
    ];
    let heir = field.create(heir).await;
    let mounts = field.engine.inspect(&heir).await.unwrap().unwrap().mounts;
    let volumes: Vec<_> = mounts.iter().map(|mount| (mount.target.as_str(), mount.volume.clone().unwrap())).collect();
    assert_eq!(volumes, [("/anonymous", anonymous), ("/of-the-image", field.name("data"))]);
}

#[tokio::test]
async fn limits_change_on_a_running_container() {
    let field = Field::new("limits").await;
    let id = field.run(field.blueprint("a", sleeper())).await;
    let memory = |mib: u64| Some(ByteSize::new(mib << 20));
    let steps = [
        Resources { memory: memory(32), cpus: Some("0.5".parse().unwrap()), pids: Some(20) },
        Resources { memory: memory(256), cpus: Some("0.25".parse().unwrap()), pids: None },
        Resources { memory: memory(16), cpus: Some("1".parse().unwrap()), pids: Some(30) },
    ];
    for resources in steps {
        field.done(Mutation::Update { id: id.clone(), resources, restart: RestartPolicy::UnlessStopped }).await;
        let details = field.engine.inspect(&id).await.unwrap().unwrap().details.unwrap();
        assert_eq!((details.resources, details.restart), (resources, RestartPolicy::UnlessStopped));
    }
}

#[tokio::test]
async fn a_registry_that_cannot_be_reached_is_said_shortly() {
    let engine = Docker::connect(&target(socket())).await.unwrap();
    let error = engine.pull("localhost:1/nothing:1", &|_| {}).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot pull localhost:1/nothing:1: the registry localhost:1 cannot be reached: connection refused"
    );
}

#[tokio::test]
async fn a_container_outlives_its_network() {
    let field = Field::new("outlives").await;
    let id = field.run(field.blueprint("a", sleeper())).await;
    field.done(Mutation::Stop { id: id.clone(), timeout: Some(Duration::ZERO) }).await;
    field.done(Mutation::RemoveNetwork(field.network.clone())).await;
    let lost = field.fails(Mutation::Start(id.clone())).await;
    assert!(matches!(&lost, EngineError::NotFound { message, .. } if message.contains(&field.network)), "{lost:?}");

    let create = Mutation::CreateNetwork { name: field.ground.group.clone(), labels: field.ground.labels() };
    let network = field.engine.apply(&create).await.unwrap().unwrap();
    // By the name: of the network that is gone nothing else is left.
    let by_id = Mutation::Disconnect { network: field.network.clone(), container: id.clone() };
    field.fails(by_id).await;
    for _ in 0..2 {
        field.done(Mutation::Disconnect { network: field.ground.group.clone(), container: id.clone() }).await;
    }
    let aliases = vec!["a".to_owned()];
    field.done(Mutation::Connect { network: network.clone(), container: id.clone(), aliases }).await;
    field.done(Mutation::Start(id.clone())).await;
    assert_eq!(field.engine.inspect(&id).await.unwrap().unwrap().networks[0].network_id, network);
}

#[tokio::test]
async fn networks_of_one_name_are_distinguished_by_id() {
    let field = Field::new("twins").await;
    // The check for duplicates is left out, as two clients at the same moment would have it.
    let label = format!("{GROUP}={}", field.ground.group);
    let twin = twin_network(&field.ground.group, &label);
    let Some(twin) = twin else { return };
    let again = Mutation::CreateNetwork { name: field.ground.group.clone(), labels: field.ground.labels() };
    assert!(matches!(field.fails(again).await, EngineError::Conflict { .. }));

    let id = field.run(ContainerSpec { network: twin.clone(), ..field.blueprint("a", sleeper()) }).await;
    let other = field.run(field.blueprint("b", sleeper())).await;
    for (container, network) in [(&id, &twin), (&other, &field.network)] {
        field.done(Mutation::Stop { id: container.clone(), timeout: Some(Duration::ZERO) }).await;
        field.done(Mutation::Start(container.clone())).await;
        let found = field.engine.inspect(container).await.unwrap().unwrap();
        assert_eq!(found.networks[0].network_id, *network);
    }
}

/// A second network of this name; `None` on engines that no longer make one.
fn twin_network(name: &str, label: &str) -> Option<String> {
    let body = serde_json::json!({"Name": name, "CheckDuplicate": false,
        "Labels": {label.split_once('=').unwrap().0: label.split_once('=').unwrap().1}})
    .to_string();
    let answer = crate::support::ground::post("/networks/create", &body);
    let (_, json) = answer.split_once("\r\n\r\n").unwrap();
    let json: serde_json::Value = serde_json::from_str(json.trim()).unwrap_or_default();
    json["Id"].as_str().map(str::to_owned)
}
