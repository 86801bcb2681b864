//! The processes of containers: the table of `top`, and JSON.

use serde_json::{Map, Value, json};

use super::{Text, json, table};
use crate::engine::Processes;

/// A running container with its processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    pub service: String,
    /// Number of the replica, for services with replicas.
    pub replica: Option<u32>,
    /// Name of the container.
    pub container: String,
    pub processes: Processes,
}

/// The table of `top`: a row for each process, with the columns of `ps`.
pub fn table(containers: &[Running]) -> Text {
    let Some(first) = containers.first() else { return Text::default() };
    let header = std::iter::once("CONTAINER".to_owned()).chain(first.processes.titles.clone()).collect();
    let rows =
        containers.iter().flat_map(|running| {
            running.processes.rows.iter().map(|row| {
                std::iter::once(running.container.clone()).chain(row.iter().cloned()).collect::<Vec<String>>()
            })
        });
    table::of_columns(header, rows.collect(), |_, _| None)
}

/// The JSON of `top`: each process with the columns of `ps` as fields.
pub fn to_json(group: &str, containers: &[Running]) -> Value {
    let container = |running: &Running| {
        let process = |row: &Vec<String>| -> Value {
            let fields = running.processes.titles.iter().zip(row);
            fields.map(|(title, cell)| (title.clone(), Value::from(cell.as_str()))).collect::<Map<_, _>>().into()
        };
        let value = json!({
            "service": running.service,
            "container": running.container,
            "processes": running.processes.rows.iter().map(process).collect::<Vec<_>>(),
        });
        json::with_replica(value, running.replica)
    };
    json!({ "group": group, "containers": containers.iter().map(container).collect::<Vec<_>>() })
}
