//! The JSON Schema: its fields, and the generated file for editors.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use drillmaster::spec::schema;
use serde_json::Value;

use crate::fields::{ALL_FIELDS, ALL_FIELDS_OF_A_JOB};

/// Fields of the Service kind that this version supports.
const SERVICE_FIELDS: [&str; 75] = [
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
    "configs",
    "secrets",
    "profiles",
    "dependencies",
    "ping",
    "health",
    "healthcheck",
    "ready_timeout",
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
    "networks",
    "network_mode",
    "pid",
    "ipc",
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
    "annotations",
    "tty",
    "stdin_open",
    "security_opt",
    "sysctls",
    "devices",
    "device_cgroup_rules",
    "gpus",
    "group_add",
    "dns",
    "dns_search",
    "dns_opt",
    "uts",
    "userns_mode",
    "cgroup",
    "cgroup_parent",
    "runtime",
    "platform",
    "logging",
    "domainname",
    "mac_address",
    "expose",
    "storage_opt",
    "mem_swappiness",
    "oom_kill_disable",
    "oom_score_adj",
    "blkio_config",
];

/// Fields specific to the Job kind, and fields it lacks.
const ONLY_OF_A_JOB: [&str; 3] = ["retries", "rerun", "capture"];
const NOT_OF_A_JOB: [&str; 10] = [
    "ping",
    "health",
    "healthcheck",
    "ready_timeout",
    "post_start",
    "pre_stop",
    "post_stop",
    "restart",
    "update",
    "replicas",
];

#[test]
fn schema_describes_every_field() {
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
    // Fields of both kinds are identical, except for a few descriptions.
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
    // All references have targets.
    let text = schema.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(schema.pointer(reference).is_some(), "{reference}");
    }
}

const FILE: &str = "schema/drillmaster.schema.json";

#[test]
fn schema_file_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let written: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert!(written == drillmaster::spec::schema(), "{FILE} is outdated; regenerate it: cargo run -- schema > {FILE}");
}

/// Spec directories in the repository reference the schema in their first line by a valid path.
#[test]
fn specs_and_examples_reference_the_schema() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut directories = vec![root.join("specs"), root.join("examples")];
    let mut seen = 0;
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yaml") {
                let text = fs::read_to_string(&path).unwrap();
                let schema = text.lines().next().and_then(|line| line.strip_prefix("# yaml-language-server: $schema="));
                let schema = schema.unwrap_or_else(|| panic!("{} has no schema", path.display()));
                let target = path.parent().unwrap().join(schema);
                assert!(target.exists(), "{} references {schema}, which does not exist", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen >= 6);
}
