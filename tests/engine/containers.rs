//! Connections, list calls, and mutations of containers and networks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use drillmaster::capabilities::{EngineKind, EngineLocation, LimitSupport};
use drillmaster::desired::{Config, Inherited, Seconds, Volume, VolumeSource};
use drillmaster::engine::docker::Docker;
use drillmaster::engine::{ContainerSpec, Engine, EngineError, Mutation};
use drillmaster::identity::GROUP;
use drillmaster::observed::State;
use drillmaster::spec::model::{ExtraHost, HostPort, Port, Protocol, Resources, RestartPolicy, Ulimit};
use drillmaster::spec::value::ByteSize;

use crate::fixture::*;
use crate::support::engine::{self, Capability};
use crate::support::proxy::Proxy;
use crate::support::test_group::{docker, socket};

#[tokio::test]
async fn connecting_takes_one_request() {
    let proxy = Proxy::start(&socket());
    let engine = Docker::connect(&engine_config(proxy.socket())).await.unwrap();
    let about = engine.about().await.unwrap();
    let requests = proxy.take_requests();
    assert_eq!(requests.iter().map(|request| request.endpoint()).collect::<Vec<_>>(), ["GET /info"]);
    engine.inspect("no-such-container").await.unwrap();
    let path = proxy.take_requests().remove(0).path;
    assert!(path.starts_with(&format!("/v{}/", about.capabilities.api)), "requests use the negotiated version: {path}");
    assert!(about.capabilities.version.starts_with(|c: char| c.is_ascii_digit()), "{about:?}");
    assert!(!about.id.is_empty());
    // The tests may run in a container themselves, and the engine without root.
    let location = about.capabilities.location;
    let near = [EngineLocation::Here, EngineLocation::Outside, EngineLocation::Forwarded];
    assert!(near.contains(&location), "{location:?}");
}

#[tokio::test]
async fn list_takes_three_requests_plus_one_for_volumes() {
    let proxy = Proxy::start(&socket());
    let engine = Docker::connect(&engine_config(proxy.socket())).await.unwrap();
    // Asked once.
    engine.about().await.unwrap();
    proxy.take_requests();
    let endpoints = || proxy.take_requests().iter().map(|request| request.endpoint()).collect::<BTreeSet<_>>();
    let observed = engine.list("no-such-group", false).await.unwrap();
    assert_eq!(endpoints(), ["GET /containers/json", "GET /networks", "GET /images/json"].map(str::to_owned).into());
    assert!(observed.images.contains_key(IMAGE), "{:?}", observed.images);
    let id = &observed.images[IMAGE];
    assert_eq!(observed.images[id], *id);
    engine.list("no-such-group", true).await.unwrap();
    assert_eq!(proxy.take_requests().len(), 4);
}

#[tokio::test]
async fn connections_are_reused() {
    let proxy = Proxy::start(&socket());
    let engine = Docker::connect(&engine_config(proxy.socket())).await.unwrap();
    for _ in 0..20 {
        assert_eq!(engine.inspect("no-such-container").await, Ok(None));
    }
    assert!(proxy.connections() <= 3, "{} connections", proxy.connections());
    // After an engine restart, idle connections are dead; the next call must not fail.
    proxy.drop_connections();
    assert_eq!(engine.inspect("no-such-container").await, Ok(None));
}

#[tokio::test]
async fn connect_error_gives_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("docker.sock");
    let reason = async |path: &std::path::Path| match Docker::connect(&engine_config(path)).await {
        Err(EngineError::Unreachable { reason, .. }) => reason,
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("connected"),
    };
    assert_eq!(reason(&path).await, "no such socket");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert_eq!(reason(&path).await, "connection refused (the socket is there, but no engine listens)");
}

#[tokio::test]
async fn every_container_mutation_is_idempotent() {
    let fixture = Fixture::new("life").await;
    let id = fixture.create(fixture.spec("a.new", sleeper())).await;
    assert_eq!(fixture.state(&id).await, State::Created);

    fixture.apply(Mutation::Start(id.clone())).await;
    fixture.apply(Mutation::Start(id.clone())).await;
    assert_eq!(fixture.state(&id).await, State::Running);

    for _ in 0..2 {
        fixture.apply(Mutation::Rename { id: id.clone(), name: fixture.name("a") }).await;
    }
    docker(&["pause", &id]).unwrap();
    assert_eq!(fixture.state(&id).await, State::Paused);
    for _ in 0..2 {
        fixture.apply(Mutation::Unpause(id.clone())).await;
    }

    let observed = fixture.engine.list(&fixture.group.name, false).await.unwrap();
    let listed = &observed.containers[id.as_str()];
    assert_eq!((listed.name.as_str(), listed.state), (fixture.name("a").as_str(), State::Running));
    assert_eq!(listed.service_of(&fixture.group.name), Some(""));
    assert_eq!(listed.networks[0].network_id, fixture.network);
    assert!(listed.networks[0].address.is_some());
    assert_eq!(observed.networks[&fixture.network].group.as_deref(), Some(fixture.group.name.as_str()));

    for _ in 0..2 {
        fixture.apply(Mutation::Stop { id: id.clone(), timeout: Some(Duration::from_secs(10)) }).await;
    }
    assert_eq!(fixture.state(&id).await, State::Exited { code: Some(0) });

    for _ in 0..2 {
        fixture.apply(Mutation::Remove { id: id.clone(), volumes: true }).await;
        fixture.apply(Mutation::RemoveNetwork(fixture.network.clone())).await;
        fixture.apply(Mutation::RemoveVolume(fixture.name("no-such-volume"))).await;
        fixture.apply(Mutation::RemoveImage("drillmaster/no-such-image:1".into())).await;
    }
    assert_eq!(fixture.engine.inspect(&id).await, Ok(None));
}

#[tokio::test]
async fn errors_are_distinguished() {
    let fixture = Fixture::new("errors").await;
    let gone = "0".repeat(64);
    let missing = fixture.apply_err(Mutation::Start(gone.clone())).await;
    assert!(matches!(missing, EngineError::NotFound { .. }), "{missing:?}");
    assert!(missing.to_string().starts_with("cannot start container 000000000000: "), "{missing}");

    let id = fixture.run(fixture.spec("a", sleeper())).await;
    let taken = fixture.apply_err(Mutation::Create(Box::new(fixture.spec("a", "true")))).await;
    assert!(matches!(taken, EngineError::Conflict { .. }), "{taken:?}");

    let mut unknown = fixture.spec("b", "true");
    unknown.config.image = "drillmaster/no-such-image:1".into();
    let unknown = fixture.apply_err(Mutation::Create(Box::new(unknown))).await;
    assert!(matches!(unknown, EngineError::NotFound { .. }), "{unknown:?}");

    // Podman creates the directory.
    if fixture.engine.about().await.unwrap().capabilities.kind == EngineKind::Docker {
        let mut unbound = fixture.spec("b", "true");
        let source = VolumeSource::Bind("/no/such/directory".into());
        unbound.config.volumes =
            vec![Volume { source, target: "/data".into(), read_only: false, options: Default::default() }];
        let unbound = fixture.apply_err(Mutation::Create(Box::new(unbound))).await;
        assert!(unbound.to_string().contains("/no/such/directory"), "{unbound}");
    }

    let busy = fixture.apply_err(Mutation::RemoveNetwork(fixture.network.clone())).await;
    assert!(matches!(busy, EngineError::ActiveEndpoints { .. }), "{busy:?}");
    fixture.apply(Mutation::Remove { id, volumes: false }).await;
}

#[tokio::test]
async fn taken_port_fails_with_the_engines_message() {
    let fixture = Fixture::new("ports").await;
    let port = |host| Port { address: Some([127, 0, 0, 1].into()), host, container: 80, protocol: Protocol::Tcp };
    let mut first = fixture.spec("a", sleeper());
    first.config.ports = vec![port(HostPort::Free)];
    let first = fixture.run(first).await;
    let listed =
        fixture.engine.list(&fixture.group.name, false).await.unwrap().containers[first.as_str()].ports.clone();
    assert_eq!(listed, fixture.engine.inspect(&first).await.unwrap().unwrap().ports);
    assert_eq!(listed.len(), 1);

    let mut second = fixture.spec("b", sleeper());
    second.config.ports = vec![port(HostPort::Fixed(listed[0].host))];
    let second = fixture.create(second).await;
    let error = fixture.apply_err(Mutation::Start(second)).await;
    let reasons = ["port is already allocated", "address already in use"];
    assert!(reasons.iter().any(|reason| error.to_string().contains(reason)), "{error}");
}

/// The limits of a container in the words of its spec: Podman reports a limit of CPU time in both forms.
fn effective(present: &Resources, wanted: &Resources) -> Resources {
    LimitSupport::default().effective(present, wanted)
}

#[tokio::test]
async fn every_container_spec_field_reaches_the_engine() {
    if engine::lacks(Capability::Limits) {
        return;
    }
    let fixture = Fixture::new("fields").await;
    let directory = tempfile::tempdir().unwrap();
    let bind = directory.path().to_str().unwrap().to_owned();
    let volume = |source, target: &str, read_only| Volume {
        source,
        target: target.into(),
        read_only,
        options: Default::default(),
    };
    let mut spec = fixture.spec("a", sleeper());
    spec.env = BTreeMap::from([("LEVEL".into(), Some("a=b c".into())), ("EMPTY".into(), Some(String::new()))]);
    spec.config = Config {
        user: Some("1000:1000".into()),
        working_dir: Some("/tmp".into()),
        volumes: vec![
            volume(VolumeSource::Named(fixture.name("data")), "/data", false),
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
            ..Resources::default()
        },
        extra_hosts: vec![ExtraHost { name: "gateway".into(), address: "host-gateway".into() }],
        cap_drop: vec!["NET_RAW".into()],
        init: true,
        shm_size: Some(8 << 20),
        // Not `nofile`: what runs the command in the container raises that one for itself, and now and then for the command.
        ulimits: BTreeMap::from([("stack".into(), Ulimit { soft: 1 << 20, hard: 2 << 20 })]),
        ..spec.config
    };
    let resources = spec.config.resources.clone();
    let id = fixture.run(spec).await;

    let container = fixture.engine.inspect(&id).await.unwrap().unwrap();
    let details = container.details.clone().unwrap();
    assert_eq!(details.env["LEVEL"], "a=b c");
    assert_eq!(details.env["EMPTY"], "");
    assert_eq!(effective(&details.resources, &resources), resources);
    assert_eq!(details.restart, RestartPolicy::OnFailure(5));
    assert!(!details.started_at.is_empty());
    assert_eq!(details.finished_at, "");
    let mounts: BTreeMap<_, _> = container.mounts.iter().map(|mount| (mount.target.as_str(), mount)).collect();
    assert_eq!(mounts["/data"].volume.as_deref(), Some(fixture.name("data").as_str()));
    assert_eq!((mounts["/bind"].bind.as_deref(), mounts["/bind"].writable), (Some(bind.as_str()), false));
    let anonymous = mounts["/anonymous"].volume.clone().unwrap();

    let observed = fixture.engine.list(&fixture.group.name, true).await.unwrap();
    let listed = &observed.containers[id.as_str()];
    assert_eq!(
        listed.mounts.iter().map(|m| &m.target).collect::<Vec<_>>(),
        container.mounts.iter().map(|m| &m.target).collect::<Vec<_>>()
    );
    assert_eq!((listed.created, listed.networks.clone()), (container.created, container.networks));
    let owned: BTreeSet<&String> = observed.volumes_of(&fixture.group.name).map(|volume| &volume.name).collect();
    assert_eq!(owned, BTreeSet::from([&fixture.name("data"), &anonymous]), "both have the labels of the group");

    let script = "id -u; pwd; ulimit -s; ulimit -Hs; hostname; grep -c gateway /etc/hosts; df -k /memory /dev/shm | tail -n 2 | awk '{print $2}'";
    let (_, lines) = exec(&fixture.engine, &id, &["sh", "-c", script]).await.unwrap();
    let lines: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(lines, ["1000", "/tmp", "1024", "2048", "a", "1", "1024", "8192"]);

    // The replacement inherits the anonymous volume, and also volumes missing from its spec.
    let mut replacement = fixture.spec("b", sleeper());
    replacement.config.volumes = vec![volume(VolumeSource::Anonymous, "/anonymous", false)];
    replacement.inherited = vec![
        Inherited { volume: anonymous.clone(), target: "/anonymous".into() },
        Inherited { volume: fixture.name("data"), target: "/of-the-image".into() },
    ];
    let replacement = fixture.create(replacement).await;
    let mounts = fixture.engine.inspect(&replacement).await.unwrap().unwrap().mounts;
    let volumes: Vec<_> = mounts.iter().map(|mount| (mount.target.as_str(), mount.volume.clone().unwrap())).collect();
    assert_eq!(volumes, [("/anonymous", anonymous), ("/of-the-image", fixture.name("data"))]);
}

#[tokio::test]
async fn limits_are_updated_on_a_running_container() {
    if engine::lacks(Capability::Limits) {
        return;
    }
    let fixture = Fixture::new("limits").await;
    let id = fixture.run(fixture.spec("a", sleeper())).await;
    let memory = |mib: u64| Some(ByteSize::new(mib << 20));
    let steps = [
        Resources { memory: memory(32), cpus: Some("0.5".parse().unwrap()), pids: Some(20), ..Resources::default() },
        Resources { memory: memory(256), cpus: Some("0.25".parse().unwrap()), pids: None, ..Resources::default() },
        Resources { memory: memory(16), cpus: Some("1".parse().unwrap()), pids: Some(30), ..Resources::default() },
    ];
    for resources in steps {
        fixture
            .apply(Mutation::Update {
                id: id.clone(),
                resources: resources.clone(),
                restart: RestartPolicy::UnlessStopped,
            })
            .await;
        let details = fixture.engine.inspect(&id).await.unwrap().unwrap().details.unwrap();
        let found = effective(&details.resources, &resources);
        assert_eq!((found, details.restart), (resources, RestartPolicy::UnlessStopped));
    }
}

#[tokio::test]
async fn unreachable_registry_error_is_short() {
    let engine = Docker::connect(&engine_config(socket())).await.unwrap();
    let error = engine.pull("localhost:1/nothing:1", None, &|_| {}).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot pull localhost:1/nothing:1: the registry localhost:1 cannot be reached: connection refused"
    );
}

#[tokio::test]
async fn container_survives_removal_of_its_network() {
    let fixture = Fixture::new("outlives").await;
    let id = fixture.run(fixture.spec("a", sleeper())).await;
    fixture.apply(Mutation::Stop { id: id.clone(), timeout: Some(Duration::ZERO) }).await;
    let removal = Mutation::RemoveNetwork(fixture.network.clone());
    if fixture.engine.about().await.unwrap().capabilities.kind == EngineKind::Podman {
        // It keeps the networks of stopped containers.
        let kept = fixture.apply_err(removal).await;
        assert!(matches!(kept, EngineError::ActiveEndpoints { .. }), "{kept:?}");
        return fixture.apply(Mutation::Remove { id, volumes: false }).await;
    }
    fixture.apply(removal).await;
    let lost = fixture.apply_err(Mutation::Start(id.clone())).await;
    let names_it = |message: &str| message.contains(&fixture.network) || message.contains(&fixture.group.name);
    assert!(matches!(&lost, EngineError::NotFound { message, .. } if names_it(message)), "{lost:?}");

    let create = Mutation::CreateNetwork {
        name: fixture.group.name.clone(),
        labels: fixture.group.labels(),
        network: Box::default(),
    };
    let network = fixture.engine.apply(&create).await.unwrap().unwrap();
    // Disconnect by name: the id of the removed network is unknown to the engine.
    let by_id = Mutation::Disconnect { network: fixture.network.clone(), container: id.clone() };
    fixture.apply_err(by_id).await;
    for _ in 0..2 {
        fixture.apply(Mutation::Disconnect { network: fixture.group.name.clone(), container: id.clone() }).await;
    }
    let join = Box::new(fixture.join(&network, "a"));
    fixture.apply(Mutation::Connect { container: id.clone(), join }).await;
    fixture.apply(Mutation::Start(id.clone())).await;
    assert_eq!(fixture.engine.inspect(&id).await.unwrap().unwrap().networks[0].network_id, network);
}

#[tokio::test]
async fn networks_of_one_name_are_distinguished_by_id() {
    let fixture = Fixture::new("twins").await;
    // Without the duplicate check, like two concurrent clients.
    let label = format!("{GROUP}={}", fixture.group.name);
    let duplicate = create_duplicate_network(&fixture.group.name, &label);
    let Some(duplicate) = duplicate else { return };
    let again = Mutation::CreateNetwork {
        name: fixture.group.name.clone(),
        labels: fixture.group.labels(),
        network: Box::default(),
    };
    assert!(matches!(fixture.apply_err(again).await, EngineError::Conflict { .. }));

    let id =
        fixture.run(ContainerSpec { joins: vec![fixture.join(&duplicate, "a")], ..fixture.spec("a", sleeper()) }).await;
    let other = fixture.run(fixture.spec("b", sleeper())).await;
    for (container, network) in [(&id, &duplicate), (&other, &fixture.network)] {
        fixture.apply(Mutation::Stop { id: container.clone(), timeout: Some(Duration::ZERO) }).await;
        fixture.apply(Mutation::Start(container.clone())).await;
        let found = fixture.engine.inspect(container).await.unwrap().unwrap();
        assert_eq!(found.networks[0].network_id, *network);
    }
}

/// Creates a second network with the same name; returns `None` if the engine refuses.
fn create_duplicate_network(name: &str, label: &str) -> Option<String> {
    let body = serde_json::json!({"Name": name, "CheckDuplicate": false,
        "Labels": {label.split_once('=').unwrap().0: label.split_once('=').unwrap().1}})
    .to_string();
    let response = crate::support::test_group::post("/networks/create", &body);
    let (_, json) = response.split_once("\r\n\r\n").unwrap();
    let json: serde_json::Value = serde_json::from_str(json.trim()).unwrap_or_default();
    json["Id"].as_str().map(str::to_owned)
}
