//! Fixture: a connected engine and a separate group with a network.

use std::collections::BTreeMap;
use std::time::Duration;

use drillmaster::desired::{Config, Join};
use drillmaster::engine::deadline::{Bounded, Limits};
use drillmaster::engine::docker::Docker;
use drillmaster::engine::target::{Endpoint, EngineConfig};
use drillmaster::engine::{ContainerSpec, Engine, EngineError, EngineEvent, Exec, LogLine, LogOptions, Mutation};
use drillmaster::observed::State;
use futures_util::StreamExt;

use crate::support::test_group::{TestGroup, socket};

pub const IMAGE: &str = "drillmaster/busybox:1";

pub fn engine_config(socket: impl Into<std::path::PathBuf>) -> EngineConfig {
    EngineConfig { endpoint: Endpoint::Unix(socket.into()), origin: String::new(), config_dir: None, buildkit: None }
}

/// A connected engine and a group with a network.
pub struct Fixture {
    pub group: TestGroup,
    pub engine: Bounded<Docker>,
    pub network: String,
}

impl Fixture {
    pub async fn new(purpose: &str) -> Fixture {
        let group = TestGroup::new(purpose);
        let engine = Bounded::new(Docker::connect(&engine_config(socket())).await.unwrap(), Limits::default());
        let create =
            Mutation::CreateNetwork { name: group.name.clone(), labels: group.labels(), network: Box::default() };
        let network = engine.apply(&create).await.unwrap().unwrap();
        Fixture { group, engine, network }
    }

    /// Returns the spec of a container that runs a shell script.
    pub fn spec(&self, name: &str, script: &str) -> ContainerSpec {
        ContainerSpec {
            name: self.name(name),
            labels: self.group.labels(),
            volume_labels: self.group.labels(),
            volumes: Default::default(),
            config: Config {
                image: IMAGE.into(),
                network: self.group.name.clone().into(),
                command: Some(["sh", "-c", script].map(str::to_owned).to_vec()),
                ..Default::default()
            },
            env: BTreeMap::new(),
            joins: vec![self.join(&self.network, name)],
            targets: BTreeMap::new(),
            hostname: name.into(),
            inherited: Vec::new(),
        }
    }

    /// How a container joins a network of the group's name under an alias.
    pub fn join(&self, network: &str, alias: &str) -> Join {
        let (network, name) = (network.to_owned(), self.group.name.clone());
        Join { network, name, names: vec![alias.to_owned()], endpoint: Default::default() }
    }

    pub fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.group.name)
    }

    pub async fn create(&self, spec: ContainerSpec) -> String {
        self.engine.apply(&Mutation::Create(Box::new(spec))).await.unwrap().unwrap()
    }

    pub async fn run(&self, spec: ContainerSpec) -> String {
        let id = self.create(spec).await;
        self.apply(Mutation::Start(id.clone())).await;
        id
    }

    pub async fn apply(&self, mutation: Mutation) {
        assert_eq!(self.engine.apply(&mutation).await.unwrap(), None);
    }

    pub async fn apply_err(&self, mutation: Mutation) -> EngineError {
        self.engine.apply(&mutation).await.unwrap_err()
    }

    pub async fn state(&self, id: &str) -> State {
        self.engine.inspect(id).await.unwrap().unwrap().state
    }

    pub async fn wait_for_exit(&self, id: &str) -> State {
        let mut events = self.engine.events(&self.group.name);
        assert_eq!(events.next().await, Some(Ok(EngineEvent::Subscribed)));
        loop {
            let state = self.state(id).await;
            if matches!(state, State::Exited { .. }) {
                return state;
            }
            tokio::time::timeout(Duration::from_secs(30), events.next()).await.unwrap();
        }
    }

    pub async fn lines(&self, id: &str, options: LogOptions) -> Vec<LogLine> {
        self.engine.logs(id, options).map(Result::unwrap).collect().await
    }
}

/// Runs a command in a container and returns its exit code and output.
pub async fn exec(engine: &dyn Engine, id: &str, words: &[&str]) -> Result<(i64, Vec<LogLine>), EngineError> {
    let command = words.iter().map(|&word| word.to_owned()).collect();
    let exec = Exec { command, env: BTreeMap::new(), limit: Duration::from_secs(30) };
    let mut lines = Vec::new();
    let code = engine.exec(id, &exec, &mut |line| lines.push(line)).await?;
    Ok((code, lines))
}

pub fn sleeper() -> &'static str {
    "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done"
}
