//! A spec directory whose hooks run as real processes.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use drillmaster::control::error::HookError;
use drillmaster::control::execute::context::ExecContext;
use drillmaster::control::execute::hooks::{self, HookCall};
use drillmaster::control::execute::outputs::OutputMap;
use drillmaster::control::programs::Workers;
use drillmaster::engine::LogLine;
use drillmaster::plan::step::ContainerRef;
use drillmaster_sim::Sim;
use rustix::process::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::support::{WAIT_TIMEOUT, wait_for};

/// A spec directory and its outputs.
pub struct Stage {
    pub directory: TempDir,
    pub surroundings: ExecContext,
}

/// Workers that run the `drillmaster` of this build.
pub fn workers() -> Workers {
    Workers::new(env!("CARGO_BIN_EXE_drillmaster").into())
}

impl Stage {
    pub fn new() -> Stage {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        let surroundings = ExecContext {
            group: "shop".into(),
            directory: path,
            executable: env!("CARGO_BIN_EXE_drillmaster").into(),
            routes: Default::default(),
            outputs: Default::default(),
            workers: workers(),
        };
        Stage { directory, surroundings }
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    pub fn program(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs a hook. Returns its output lines and its result.
    pub async fn run(&self, hook: Value) -> (Vec<LogLine>, Result<OutputMap, HookError>) {
        let mut lines = Vec::new();
        let ended = self.run_with(&call(hook), &CancellationToken::new(), &mut |line| lines.push(line)).await;
        (lines, ended)
    }

    pub async fn run_with(
        &self,
        call: &HookCall,
        interrupted: &CancellationToken,
        heard: &mut (dyn FnMut(LogLine) + Send),
    ) -> Result<OutputMap, HookError> {
        hooks::run(&Sim::new(), call, &self.surroundings, interrupted, heard).await
    }

    /// Runs a shell script on the host.
    pub async fn shell(&self, script: &str) -> (Vec<LogLine>, Result<OutputMap, HookError>) {
        self.run(json!({"run": ["sh", "-c", script]})).await
    }

    /// Returns the process ids in the file `pids`, once there are this many.
    pub fn pids(&self, count: usize) -> Vec<Pid> {
        wait_for("process ids", WAIT_TIMEOUT, || {
            let text = std::fs::read_to_string(self.path("pids")).unwrap_or_default();
            let pids: Vec<Pid> = text.lines().map(|line| Pid::from_raw(line.parse().unwrap()).unwrap()).collect();
            (pids.len() == count && text.ends_with('\n')).then_some(pids)
        })
    }

    pub fn all_end(&self, count: usize) {
        for pid in self.pids(count) {
            wait_for("the end of a process", WAIT_TIMEOUT, || (!runs(pid)).then_some(()));
        }
    }
}

/// Returns true if the process exists and is not a zombie.
pub fn runs(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

pub fn call(hook: Value) -> HookCall {
    HookCall {
        service: Some("api".into()),
        replica: None,
        container: Some(ContainerRef { id: "0123".into(), name: "shop-api.new".into() }),
        event: "post_start".into(),
        hook: serde_json::from_value(hook).unwrap(),
        variables: BTreeMap::new(),
    }
}

pub fn texts(lines: &[LogLine]) -> Vec<&str> {
    lines.iter().map(|line| line.text.as_str()).collect()
}

pub fn error_message(ended: Result<OutputMap, HookError>) -> String {
    ended.unwrap_err().to_string()
}
