//! The adapter on a real engine: what it asks, what it understands, what it says when something goes wrong.

// The lint of clippy.toml does not see that helpers of tests are tests.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use drillmaster::control::execute::command::{self, Command, ExecTarget};
use drillmaster::control::execute::context::ExecContext;
use drillmaster::control::execute::hooks::{self, HookCall};
use drillmaster::control::execute::outputs::OutputMap;
use drillmaster::desired::{Config, Inherited, Seconds, Volume, VolumeSource};
use drillmaster::engine::deadline::{Bounded, Limits};
use drillmaster::engine::docker::Docker;
use drillmaster::engine::target::{Endpoint, EngineConfig};
use drillmaster::engine::{
    ContainerEvent, ContainerSpec, Engine, EngineError, EngineEvent, Exec, LogLine, LogOptions, Mutation,
};
use drillmaster::identity::{GROUP, SERVICE};
use drillmaster::observed::{Health, State};
use drillmaster::plan::step::ContainerRef as Container;
use drillmaster::spec::model::{ExtraHost, Port, Protocol, Resources, RestartPolicy, Ulimit};
use drillmaster::spec::value::ByteSize;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio_util::sync::CancellationToken;

use support::ground::{Ground, docker, socket};
use support::proxy::Proxy;
use support::{SOON, wait_for};

const IMAGE: &str = "drillmaster/busybox:1";

fn target(socket: impl Into<std::path::PathBuf>) -> EngineConfig {
    EngineConfig { endpoint: Endpoint::Unix(socket.into()), config_dir: None, buildkit: None }
}

/// A group with an engine and a network.
struct Field {
    ground: Ground,
    engine: Bounded<Docker>,
    network: String,
}

impl Field {
    async fn new(purpose: &str) -> Field {
        let ground = Ground::new(purpose);
        let engine = Bounded::new(Docker::connect(&target(socket())).await.unwrap(), Limits::default());
        let create = Mutation::CreateNetwork { name: ground.group.clone(), labels: ground.labels() };
        let network = engine.apply(&create).await.unwrap().unwrap();
        Field { ground, engine, network }
    }

    /// A container that runs this script.
    fn blueprint(&self, name: &str, script: &str) -> ContainerSpec {
        ContainerSpec {
            name: self.name(name),
            labels: self.ground.labels(),
            volume_labels: self.ground.labels(),
            config: Config {
                image: IMAGE.into(),
                network: self.ground.group.clone(),
                command: Some(["sh", "-c", script].map(str::to_owned).to_vec()),
                ..Default::default()
            },
            env: BTreeMap::new(),
            network: self.network.clone(),
            aliases: vec![name.into()],
            hostname: name.into(),
            inherited: Vec::new(),
        }
    }

    fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.ground.group)
    }

    async fn create(&self, blueprint: ContainerSpec) -> String {
        self.engine.apply(&Mutation::Create(Box::new(blueprint))).await.unwrap().unwrap()
    }

    async fn run(&self, blueprint: ContainerSpec) -> String {
        let id = self.create(blueprint).await;
        self.done(Mutation::Start(id.clone())).await;
        id
    }

    async fn done(&self, deed: Mutation) {
        assert_eq!(self.engine.apply(&deed).await.unwrap(), None);
    }

    async fn fails(&self, deed: Mutation) -> EngineError {
        self.engine.apply(&deed).await.unwrap_err()
    }

    async fn state(&self, id: &str) -> State {
        self.engine.inspect(id).await.unwrap().unwrap().state
    }

    async fn ended(&self, id: &str) -> State {
        let mut events = self.engine.events(&self.ground.group);
        assert_eq!(events.next().await, Some(Ok(EngineEvent::Subscribed)));
        loop {
            let state = self.state(id).await;
            if matches!(state, State::Exited { .. }) {
                return state;
            }
            tokio::time::timeout(Duration::from_secs(30), events.next()).await.unwrap();
        }
    }

    async fn lines(&self, id: &str, options: LogOptions) -> Vec<LogLine> {
        self.engine.logs(id, options).map(Result::unwrap).collect().await
    }
}

/// Runs a command in a container: its exit code and its output.
async fn exec(engine: &dyn Engine, id: &str, words: &[&str]) -> Result<(i64, Vec<LogLine>), EngineError> {
    let command = words.iter().map(|&word| word.to_owned()).collect();
    let exec = Exec { command, env: BTreeMap::new(), limit: Duration::from_secs(30) };
    let mut lines = Vec::new();
    let code = engine.exec(id, &exec, &mut |line| lines.push(line)).await?;
    Ok((code, lines))
}

fn sleeper() -> &'static str {
    "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done"
}

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

#[tokio::test]
async fn a_command_tells_its_output_and_its_code() {
    let field = Field::new("exec").await;
    let id = field.run(field.blueprint("a", sleeper())).await;
    let proxy = Proxy::start(&socket());
    let engine = Docker::connect(&target(proxy.socket())).await.unwrap();
    proxy.take();
    let run = async |script: &str| exec(&engine, &id, &["sh", "-c", script]).await.unwrap();
    let (code, lines) = run("echo out; echo err >&2; printf 'no newline'; exit 3").await;
    assert_eq!(code, 3);
    let of = |wanted: bool| -> Vec<&str> {
        lines.iter().filter(|line| line.stderr == wanted).map(|line| line.text.as_str()).collect()
    };
    assert_eq!((of(false), of(true)), (vec!["out", "no newline"], vec!["err"]));
    let asked = proxy.take();
    assert!((3..=6).contains(&asked.len()), "{asked:?}");

    let (_, long) = run("seq 1 200000").await;
    assert_eq!((long.len(), long[199_999].text.as_str()), (200_000, "200000"));
    let (_, binary) = run("head -c 100000 /dev/urandom").await;
    assert!(!binary.is_empty());
    assert_eq!(run("exec >&- 2>&-; sleep 1; exit 4").await.0, 4, "its output ended before it did");
    let (code, lines) = run("sleep 1000 & echo done").await;
    assert_eq!((code, lines[0].text.as_str()), (0, "done"), "a child that was left behind is not waited for");
    let none = exec(&engine, &id, &["no-such-program"]).await;
    assert!(none.as_ref().map_or(true, |(code, _)| *code != 0), "{none:?}");

    let env = [("GREETING", "a b=c\nd"), ("HOSTNAME", "other")].map(|(name, value)| (name.into(), value.into()));
    let command = ["sh", "-c", "echo \"$GREETING\" $HOSTNAME"].map(str::to_owned).to_vec();
    let with_env = Exec { command, env: env.into(), limit: Duration::from_secs(30) };
    let mut heard = String::new();
    engine.exec(&id, &with_env, &mut |line| heard += &format!("{}|", line.text)).await.unwrap();
    assert_eq!(heard, "a b=c|d other|");

    field.done(Mutation::Stop { id: id.clone(), timeout: Some(Duration::from_secs(5)) }).await;
    let stopped = exec(&engine, &id, &["true"]).await.unwrap_err();
    assert!(matches!(stopped, EngineError::Conflict { .. }), "{stopped:?}");
}

#[tokio::test]
async fn command_output_is_streamed() {
    let field = Field::new("execflow").await;
    let id = field.run(field.blueprint("a", sleeper())).await;
    // It ends when somebody has reacted to its first line.
    let command = ["sh", "-c", "echo ready; until test -e /tmp/go; do sleep 0.05; done; echo gone"];
    let (first, told) = tokio::sync::oneshot::channel();
    let mut first = Some(first);
    let mut lines = Vec::new();
    let mut heard = |line: LogLine| {
        lines.push(line.text);
        first.take().map(|first| first.send(()));
    };
    let command =
        Exec { command: command.map(str::to_owned).to_vec(), env: BTreeMap::new(), limit: Duration::from_secs(30) };
    let react = async {
        told.await.unwrap();
        exec(&field.engine, &id, &["touch", "/tmp/go"]).await.unwrap();
    };
    let (code, ()) = tokio::join!(field.engine.exec(&id, &command, &mut heard), react);
    assert_eq!((code, lines), (Ok(0), vec!["ready".to_owned(), "gone".to_owned()]));
}

#[tokio::test]
async fn a_hook_in_a_container_knows_what_it_is_about() {
    let field = Field::new("hook").await;
    let id = field.run(field.blueprint("a", sleeper())).await;
    let surroundings = ExecContext {
        group: "shop".into(),
        directory: "/".into(),
        reaches_containers: true,
        outputs: Default::default(),
    };
    let run = async |script: &str, heard: &mut (dyn FnMut(LogLine) + Send)| {
        let call = HookCall {
            service: Some("a".into()),
            replica: None,
            container: Some(Container { id: id.as_str().into(), name: "shop-a.new".into() }),
            event: "post_start".into(),
            hook: serde_json::from_value(serde_json::json!({"exec": ["sh", "-c", script]})).unwrap(),
            variables: BTreeMap::from([("MORE".into(), "1 2".into())]),
        };
        hooks::run(&field.engine, &call, &surroundings, &CancellationToken::new(), heard).await
    };
    let mut lines = Vec::new();
    let script = "env | grep -e ^DRILLMASTER_ -e ^MORE | grep -v -e _CALL= -e _OUTPUT= | sort; exit 3";
    let failed = run(script, &mut |line| lines.push(line.text)).await.unwrap_err();
    let container = format!("DRILLMASTER_CONTAINER={id}");
    let expected = [
        &container,
        "DRILLMASTER_CONTAINER_NAME=shop-a.new",
        "DRILLMASTER_EVENT=post_start",
        "DRILLMASTER_GROUP=shop",
        "DRILLMASTER_SERVICE=a",
        "MORE=1 2",
    ];
    assert_eq!(lines, expected);
    assert_eq!(failed.to_string(), "sh exited with code 3");

    let mut bytes = 0;
    let ended = run("seq 1 2000000 | head -c 10000000; echo", &mut |line| bytes += line.text.len() + 1).await;
    assert_eq!((ended, bytes), (Ok(OutputMap::new()), 10_000_001));

    let given = run("echo user=7 > $DRILLMASTER_OUTPUT; echo name=ann b >> $DRILLMASTER_OUTPUT", &mut drop).await;
    assert_eq!(given, Ok(OutputMap::from([("name".into(), "ann b".into()), ("user".into(), "7".into())])));
    let failed = run("echo user >> $DRILLMASTER_OUTPUT", &mut drop).await.unwrap_err();
    assert_eq!(failed.to_string(), "line 1 of the output file is not `key=value`", "the file is another one each time");
}

#[tokio::test]
async fn a_file_is_read_from_a_container_whether_or_not_it_runs() {
    let field = Field::new("read").await;
    let sleeper = field.run(field.blueprint("a", sleeper())).await;
    let script = "echo 0123456789 > /tmp/file; ln -s file /tmp/link";
    let ended = field.run(field.blueprint("b", script)).await;
    field.ended(&ended).await;
    let read = async |id: &str, path: &str, most: usize| {
        field.engine.read(id, path, most).await.map(|found| found.map(|bytes| String::from_utf8(bytes).unwrap()))
    };
    assert_eq!(read(&ended, "/tmp/file", 100).await, Ok(Some("0123456789\n".into())));
    assert_eq!(read(&ended, "/tmp/file", 4).await, Ok(Some("0123".into())));
    assert_eq!(read(&sleeper, "/tmp/file", 100).await, Ok(None));
    assert_eq!(read(&sleeper, "/nowhere/file", 100).await, Ok(None));
    assert!(matches!(read(&sleeper, "/tmp", 100).await, Err(EngineError::Refused { .. })));
    let none = read("no-such-container", "/tmp/file", 100).await;
    assert!(matches!(none, Err(EngineError::NotFound { .. })), "{none:?}");
}

/// What `docker top` shows of a container.
fn processes(id: &str) -> String {
    docker(&["top", id, "-o", "pid,stat,args"]).unwrap()
}

fn running(id: &str, what: &str) -> usize {
    processes(id).lines().filter(|line| line.contains(what) && !line.contains("defunct")).count()
}

#[tokio::test]
async fn timed_out_command_is_killed_with_its_children() {
    let field = Field::new("execkill").await;
    for (name, interrupt) in [("late", false), ("interrupted", true)] {
        let mut blueprint = field.blueprint(name, sleeper());
        blueprint.config.init = true;
        let id = field.run(blueprint).await;
        let words = ["sh", "-c", "sleep 4321 & (sleep 4322; true) & trap '' TERM; echo up; sleep 4323; true"];
        let words = words.map(str::to_owned);
        let interrupted = CancellationToken::new();
        let limit = Duration::from_secs(if interrupt { 60 } else { 2 });
        let command = Command { words: &words, target: ExecTarget::Container(&id), variables: BTreeMap::new(), limit };
        let mut heard = |line: LogLine| {
            assert_eq!(line.text, "up");
            if interrupt {
                interrupted.cancel();
            }
        };
        // Another of the same name, which is nobody's business.
        exec(&field.engine, &id, &["sh", "-c", "sleep 4324 >/dev/null 2>&1 &"]).await.unwrap();
        let said = command::run(&field.engine, &command, &interrupted, &mut heard).await.unwrap_err();
        let wanted =
            if interrupt { "sh was interrupted and was killed" } else { "sh timed out after 2 s and was killed" };
        assert_eq!(said.to_string(), wanted);
        for child in ["4321", "4322", "4323"] {
            wait_for("its end", SOON, || (running(&id, child) == 0).then_some(()));
        }
        assert_eq!(running(&id, "4324"), 1, "{}", processes(&id));
    }
}

#[tokio::test]
async fn where_there_is_no_shell_a_command_is_left_to_its_container() {
    let field = Field::new("noshell").await;
    let id = field.run(field.blueprint("a", sleeper())).await;
    // Whoever needs no shell can go on without one.
    exec(&field.engine, &id, &["rm", "/bin/sh"]).await.unwrap();
    let words = ["sleep", "4321"].map(str::to_owned);
    let limit = Duration::from_secs(1);
    let command = Command { words: &words, target: ExecTarget::Container(&id), variables: BTreeMap::new(), limit };
    let said = command::run(&field.engine, &command, &CancellationToken::new(), &mut drop).await.unwrap_err();
    assert_eq!(
        said.to_string(),
        "sleep timed out after 1 s and could not be killed; it may still run in its container"
    );
    assert_eq!(running(&id, "sleep 4321"), 1);
}

#[tokio::test]
async fn output_comes_in_lines() {
    let field = Field::new("logs").await;
    let script = "echo one; echo two >&2; head -c 40000 /dev/zero | tr '\\0' x; echo; printf unfinished";
    let id = field.run(field.blueprint("a", script)).await;
    field.ended(&id).await;
    let lines = field.lines(&id, LogOptions::default()).await;
    let text = |stderr: bool| -> Vec<&str> {
        lines.iter().filter(|line| line.stderr == stderr).map(|line| line.text.as_str()).collect()
    };
    assert_eq!(text(true), ["two"]);
    assert_eq!(text(false)[0], "one");
    assert_eq!(text(false)[1].len(), 40_000);
    assert_eq!(text(false)[2..], ["unfinished"]);
    assert_eq!(field.lines(&id, LogOptions { tail: Some(1), ..Default::default() }).await.len(), 1);
    assert_eq!(field.lines(&id, LogOptions { since: 4_000_000_000, ..Default::default() }).await, []);
    let stamped = field.lines(&id, LogOptions { timestamps: true, ..Default::default() }).await;
    assert!(stamped[0].text.starts_with("20"), "{:?}", stamped[0]);

    let missing = field.engine.logs(&"0".repeat(64), LogOptions::default()).next().await;
    assert!(matches!(missing, Some(Err(EngineError::NotFound { .. }))), "{missing:?}");
}

#[tokio::test]
async fn output_is_followed_to_the_end_of_the_container() {
    let field = Field::new("follow").await;
    let id = field.create(field.blueprint("a", "for i in 1 2 3; do echo $i; sleep 0.2; done")).await;
    field.done(Mutation::Start(id.clone())).await;
    let followed = field.lines(&id, LogOptions { follow: true, ..Default::default() });
    let lines = tokio::time::timeout(Duration::from_secs(30), followed).await.unwrap();
    assert_eq!(lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["1", "2", "3"]);
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
    let answer = support::ground::post("/networks/create", &body);
    let (_, json) = answer.split_once("\r\n\r\n").unwrap();
    let json: serde_json::Value = serde_json::from_str(json.trim()).unwrap_or_default();
    json["Id"].as_str().map(str::to_owned)
}
