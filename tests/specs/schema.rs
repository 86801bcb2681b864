//! The JSON Schema names and describes the fields.

use std::collections::BTreeSet;

use drillmaster::spec::schema;
use serde_json::Value;

use crate::fields::{ALL_FIELDS, ALL_FIELDS_OF_A_JOB};

/// Fields of the Service kind that this version supports.
const SERVICE_FIELDS: [&str; 40] = [
    "name",
    "image",
    "build",
    "command",
    "entrypoint",
    "user",
    "working_dir",
    "env",
    "env_file",
    "ports",
    "volumes",
    "tmpfs",
    "dependencies",
    "ping",
    "health",
    "healthcheck",
    "pre_start",
    "post_start",
    "pre_stop",
    "post_stop",
    "on",
    "stop_signal",
    "stop_timeout",
    "restart",
    "resources",
    "labels",
    "hostname",
    "aliases",
    "extra_hosts",
    "cap_add",
    "cap_drop",
    "privileged",
    "read_only",
    "init",
    "shm_size",
    "ulimits",
    "pull",
    "update",
    "replicas",
    "kind",
];

/// Fields of the Job kind that a Service has not, and the other way round.
const ONLY_OF_A_JOB: [&str; 3] = ["retries", "rerun", "capture"];
const NOT_OF_A_JOB: [&str; 9] =
    ["ping", "health", "healthcheck", "post_start", "pre_stop", "post_stop", "restart", "update", "replicas"];

#[test]
fn the_schema_has_every_field_described() {
    let schema = schema();
    let properties = |kind: &str| schema["$defs"][kind]["properties"].as_object().unwrap().clone();
    let of_a_job = SERVICE_FIELDS.into_iter().filter(|field| !NOT_OF_A_JOB.contains(field)).chain(ONLY_OF_A_JOB);
    for (kind, expected, example) in
        [("Service", BTreeSet::from(SERVICE_FIELDS), ALL_FIELDS), ("Job", of_a_job.collect(), ALL_FIELDS_OF_A_JOB)]
    {
        let properties = properties(kind);
        assert_eq!(properties.keys().map(String::as_str).collect::<BTreeSet<_>>(), expected);
        for (field, property) in properties {
            assert!(property["description"].is_string(), "{field}");
            assert!(
                format!("\n{example}").contains(&format!("\n{field}:")),
                "{field} is not in the test of all fields"
            );
        }
    }
    // What both kinds have is the same in both, but for the words of a few descriptions.
    let (service, job) = (properties("Service"), properties("Job"));
    for (field, of_service) in service.iter().filter(|(field, _)| !["kind", "on"].contains(&field.as_str())) {
        let without_words = |property: &Value| {
            let mut property = property.clone();
            property["description"].take();
            property
        };
        if let Some(of_job) = job.get(field) {
            assert_eq!(without_words(of_service), without_words(of_job), "{field}");
        }
    }
    for kind in ["Service", "Job", "Group"] {
        assert_eq!(schema["$defs"][kind]["additionalProperties"], Value::Bool(false), "{kind}");
    }
    assert_eq!(schema["$defs"]["Service"]["required"], serde_json::json!(["name"]));
    assert_eq!(schema["$defs"]["Job"]["required"], serde_json::json!(["name", "kind"]));
    assert_eq!(schema["$defs"]["Group"]["required"], serde_json::json!(["kind"]));
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert!(!schema.to_string().contains("\"$id\""));
    // Every reference leads somewhere.
    let text = schema.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(schema.pointer(reference).is_some(), "{reference}");
    }
}
