//! The engine under test, and a group of its own on it.

use std::collections::BTreeMap;
use std::time::Duration;

use drillmaster::desired::Config;
use drillmaster::engine::deadline::{Bounded, Limits};
use drillmaster::engine::docker::Docker;
use drillmaster::engine::target::{Endpoint, EngineConfig};
use drillmaster::engine::{ContainerSpec, Engine, EngineError, EngineEvent, Exec, LogLine, LogOptions, Mutation};
use drillmaster::observed::State;
use futures_util::StreamExt;

use crate::support::ground::{Ground, socket};

pub const IMAGE: &str = "drillmaster/busybox:1";

pub fn target(socket: impl Into<std::path::PathBuf>) -> EngineConfig {
    EngineConfig { endpoint: Endpoint::Unix(socket.into()), config_dir: None, buildkit: None }
}

/// A group with an engine and a network.
pub struct Field {
    pub ground: Ground,
    pub engine: Bounded<Docker>,
    pub network: String,
}

impl Field {
    pub async fn new(purpose: &str) -> Field {
        let ground = Ground::new(purpose);
        let engine = Bounded::new(Docker::connect(&target(socket())).await.unwrap(), Limits::default());
        let create = Mutation::CreateNetwork { name: ground.group.clone(), labels: ground.labels() };
        let network = engine.apply(&create).await.unwrap().unwrap();
        Field { ground, engine, network }
    }

    /// A container that runs this script.
    pub fn blueprint(&self, name: &str, script: &str) -> ContainerSpec {
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

    pub fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.ground.group)
    }

    pub async fn create(&self, blueprint: ContainerSpec) -> String {
        self.engine.apply(&Mutation::Create(Box::new(blueprint))).await.unwrap().unwrap()
    }

    pub async fn run(&self, blueprint: ContainerSpec) -> String {
        let id = self.create(blueprint).await;
        self.done(Mutation::Start(id.clone())).await;
        id
    }

    pub async fn done(&self, deed: Mutation) {
        assert_eq!(self.engine.apply(&deed).await.unwrap(), None);
    }

    pub async fn fails(&self, deed: Mutation) -> EngineError {
        self.engine.apply(&deed).await.unwrap_err()
    }

    pub async fn state(&self, id: &str) -> State {
        self.engine.inspect(id).await.unwrap().unwrap().state
    }

    pub async fn ended(&self, id: &str) -> State {
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

    pub async fn lines(&self, id: &str, options: LogOptions) -> Vec<LogLine> {
        self.engine.logs(id, options).map(Result::unwrap).collect().await
    }
}

/// Runs a command in a container: its exit code and its output.
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
