//! Context of commands, functions and probes: where they run and what they find in their environment.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::outputs::{OUTPUT, OutputMap, OutputStore};
use super::routes::Routes;
use crate::control::programs::Workers;
use crate::spec::starlark::CallContext;

const GROUP: &str = "DRILLMASTER_GROUP";
const SERVICE: &str = "DRILLMASTER_SERVICE";
const REPLICA: &str = "DRILLMASTER_REPLICA";
const CONTAINER: &str = "DRILLMASTER_CONTAINER";
const CONTAINER_NAME: &str = "DRILLMASTER_CONTAINER_NAME";
const EVENT: &str = "DRILLMASTER_EVENT";

/// Variables that commands on the host never inherit: drillmaster may itself run in a hook.
pub(super) const NOT_INHERITED: [&str; 7] = [GROUP, SERVICE, REPLICA, CONTAINER, CONTAINER_NAME, EVENT, OUTPUT];

/// Where hooks and probes run.
#[derive(Debug, Clone)]
pub struct ExecContext {
    /// Name of the group.
    pub group: String,
    /// The spec directory: working directory of commands on the host.
    pub directory: PathBuf,
    /// The executable of drillmaster, which supervises commands on the host.
    pub executable: PathBuf,
    /// How ports of containers are reached.
    pub routes: Routes,
    /// Outputs of the group.
    pub outputs: OutputStore,
    /// Call Starlark functions.
    pub workers: Workers,
}

/// What a command finds in its environment, and a function in `ctx`.
#[derive(Debug, Clone, Default)]
pub struct HookEnv {
    pub group: String,
    pub service: Option<String>,
    pub replica: Option<u32>,
    /// Id of the container.
    pub container: Option<String>,
    pub container_name: Option<String>,
    pub event: Option<String>,
    /// Further variables, which do not override those above.
    pub variables: BTreeMap<String, String>,
}

impl HookEnv {
    /// Environment variables of commands.
    pub fn variables(&self) -> BTreeMap<String, String> {
        let replica = self.replica.map(|number| number.to_string());
        let own = [
            (GROUP, Some(&self.group)),
            (SERVICE, self.service.as_ref()),
            (REPLICA, replica.as_ref()),
            (CONTAINER, self.container.as_ref()),
            (CONTAINER_NAME, self.container_name.as_ref()),
            (EVENT, self.event.as_ref()),
        ];
        let own = own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.clone())));
        self.variables.clone().into_iter().chain(own).collect()
    }

    /// The `ctx` of a function that can read these outputs.
    pub(super) fn call_context(self, outputs: OutputMap) -> CallContext {
        CallContext {
            group: self.group,
            service: self.service.unwrap_or_default(),
            replica: self.replica,
            event: self.event.unwrap_or_default(),
            container: self.container.unwrap_or_default(),
            container_name: self.container_name.unwrap_or_default(),
            variables: self.variables,
            context: outputs,
        }
    }
}
