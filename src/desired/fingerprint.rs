//! Fingerprints of containers, and the effect of each field's change.
//!
//! Pure and stable: upgrading drillmaster must not replace containers. Hashes carry a version; if it is unknown, the
//! canonical JSON is compared instead.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{Config, Dependency, Env, Kind, Service};

/// Version of the computed hashes.
pub const VERSION: &str = "v1:";

/// Effect of a field's change on an existing container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Identifies the service.
    Identity,
    /// None: used by drillmaster only.
    Nothing,
    /// Updated on the running container.
    Update,
    /// Replaces the container.
    Replace,
    /// Replaces the container; part of the env hash.
    Environment,
}

/// Every field of a Service and a Job, and what a change of it means for an existing container.
pub const FIELDS: &[(&str, Change)] = &[
    ("kind", Change::Replace),
    ("name", Change::Identity),
    ("image", Change::Replace),
    ("command", Change::Replace),
    ("entrypoint", Change::Replace),
    ("user", Change::Replace),
    ("working_dir", Change::Replace),
    ("env", Change::Environment),
    ("env_file", Change::Environment),
    ("ports", Change::Replace),
    ("volumes", Change::Replace),
    ("tmpfs", Change::Replace),
    ("configs", Change::Replace),
    ("secrets", Change::Replace),
    ("profiles", Change::Nothing),
    ("dependencies", Change::Nothing),
    ("ping", Change::Nothing),
    ("health", Change::Nothing),
    ("healthcheck", Change::Replace),
    ("ready_timeout", Change::Nothing),
    ("stop_signal", Change::Replace),
    ("stop_timeout", Change::Replace),
    ("restart", Change::Update),
    ("resources", Change::Update),
    ("labels", Change::Replace),
    ("hostname", Change::Replace),
    ("aliases", Change::Replace),
    ("networks", Change::Replace),
    ("network_mode", Change::Replace),
    ("pid", Change::Replace),
    ("ipc", Change::Replace),
    ("extra_hosts", Change::Replace),
    ("cap_add", Change::Replace),
    ("cap_drop", Change::Replace),
    ("privileged", Change::Replace),
    ("read_only", Change::Replace),
    ("init", Change::Replace),
    ("shm_size", Change::Replace),
    ("ulimits", Change::Replace),
    ("pull", Change::Nothing),
    ("update", Change::Nothing),
    ("replicas", Change::Nothing),
    ("pre_start", Change::Nothing),
    ("post_start", Change::Nothing),
    ("pre_stop", Change::Nothing),
    ("post_stop", Change::Nothing),
    ("on", Change::Nothing),
    ("retries", Change::Nothing),
    ("rerun", Change::Nothing),
    ("capture", Change::Nothing),
    ("annotations", Change::Replace),
    ("tty", Change::Replace),
    ("stdin_open", Change::Replace),
    ("security_opt", Change::Replace),
    ("sysctls", Change::Replace),
    ("devices", Change::Replace),
    ("device_cgroup_rules", Change::Replace),
    ("gpus", Change::Replace),
    ("group_add", Change::Replace),
    ("dns", Change::Replace),
    ("dns_search", Change::Replace),
    ("dns_opt", Change::Replace),
    ("uts", Change::Replace),
    ("userns_mode", Change::Replace),
    ("cgroup", Change::Replace),
    ("cgroup_parent", Change::Replace),
    ("runtime", Change::Replace),
    ("platform", Change::Replace),
    ("logging", Change::Replace),
    ("domainname", Change::Replace),
    ("mac_address", Change::Replace),
    ("expose", Change::Replace),
    ("storage_opt", Change::Replace),
    ("mem_swappiness", Change::Replace),
    ("oom_kill_disable", Change::Replace),
    ("oom_score_adj", Change::Replace),
    // The engine can change the weight alone, but some kernels have none, which the engine does not tell.
    ("blkio_config", Change::Replace),
    // Of the group, yet part of every container.
    ("network", Change::Replace),
    // By the tag of the image, which is a hash of everything that is built from.
    ("build", Change::Replace),
];

/// What a change of this field means; a field that no version knows means nothing.
pub fn change_of(field: &str) -> Change {
    FIELDS.iter().find(|(name, _)| *name == field).map_or(Change::Nothing, |(_, change)| *change)
}

/// Fingerprint of a service's container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fingerprint {
    /// Over the sorted resolved environment.
    pub env_hash: String,
    /// Over every other field that cannot be changed on a running container.
    pub spec_hash: String,
    /// Canonical JSON of the spec: every field that is not at its default, of the environment only the names.
    pub applied: String,
}

impl Fingerprint {
    /// Takes it.
    pub fn of(kind: Kind, config: &Config, env: &Env, dependencies: &[Dependency]) -> Fingerprint {
        let mut applied = canonical(kind, config);
        let hashed: Map<String, Value> = applied
            .iter()
            .filter(|(field, _)| change_of(field) == Change::Replace)
            .map(|(field, value)| (field.clone(), value.clone()))
            .collect();
        if !env.is_empty() {
            applied.insert("env".into(), env.keys().map(|key| Value::from(key.as_str())).collect());
        }
        if !dependencies.is_empty() {
            applied.insert("dependencies".into(), to_value(&dependencies));
        }
        Fingerprint {
            env_hash: hash(&to_value(env)),
            spec_hash: hash(&Value::Object(hashed)),
            applied: Value::Object(applied).to_string(),
        }
    }

    /// Returns true if both describe the same container.
    pub fn same_container(&self, other: &Fingerprint) -> bool {
        self.env_hash == other.env_hash && self.spec_hash == other.spec_hash
    }
}

/// Hash of what decides whether a service becomes ready: its container, ping and health check.
pub fn revision(service: &Service) -> String {
    let Fingerprint { env_hash, spec_hash, .. } = &service.fingerprint;
    sha256(format!("{env_hash} {spec_hash} {:?} {:?}", service.ping, service.ready_timeout).as_bytes())
}

/// The container's fields as a JSON object with sorted keys, defaults left out. A Service is what there is by default.
pub fn canonical(kind: Kind, config: &Config) -> Map<String, Value> {
    let mut fields = match to_value(config) {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    if kind != Kind::Service {
        fields.insert("kind".into(), kind.word().into());
    }
    fields
}

/// Our own types have string keys and finite numbers, so they always have a JSON form.
fn to_value<T: serde::Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

fn hash(value: &Value) -> String {
    format!("{VERSION}{}", sha256(value.to_string().as_bytes()))
}

/// The SHA-256 of some bytes, in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::desired::CopiedFile;
    use crate::spec::model::{Condition, HostPort, Port, Protocol, Resources, RestartPolicy};

    fn config() -> Config {
        let address = std::net::Ipv4Addr::LOCALHOST.into();
        Config {
            image: "shop/api:1".into(),
            command: Some(vec!["serve".into(), "--port".into(), "80".into()]),
            ports: vec![Port {
                address: Some(address),
                host: HostPort::Fixed(8080),
                container: 80,
                protocol: Protocol::Tcp,
            }],
            network: "shop".into(),
            ..Config::default()
        }
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }

    fn env(pairs: &[(&str, &str)]) -> Env {
        map(pairs).into_iter().map(|(key, value)| (key, Some(value))).collect()
    }

    /// Existing containers have these hashes: changing them replaces every container at the next upgrade, so it needs a
    /// new version of the hashes.
    #[test]
    fn hashes_of_version_1_are_stable() {
        let dependency = Dependency { name: "appdb".into(), condition: Condition::Ready, restart: false };
        let fingerprint =
            Fingerprint::of(Kind::Service, &config(), &env(&[("LOG", "info"), ("A", "1")]), &[dependency]);
        assert_eq!(
            fingerprint.applied,
            r#"{"command":["serve","--port","80"],"dependencies":[{"condition":"ready","name":"appdb","restart":false}],"env":["A","LOG"],"image":"shop/api:1","network":"shop","ports":["127.0.0.1:8080:80/tcp"]}"#
        );
        assert_eq!(fingerprint.spec_hash, "v1:582eb3d14f63b6bc7a0642b5909401c786a3ec6e1fe1bc45bd6e8baec1e45391");
        assert_eq!(fingerprint.env_hash, "v1:d5df8e62dfdd3dc1b093a532d29f0f8593f03540bb747659e3357940ae7dfab1");
    }

    #[test]
    fn updatable_and_irrelevant_fields_are_not_hashed() {
        let before = Fingerprint::of(Kind::Service, &config(), &env(&[]), &[]);
        let resources = Resources { pids: Some(100), ..Resources::default() };
        let after = Config { restart: RestartPolicy::Always, resources, ..config() };
        let dependency = Dependency { name: "appdb".into(), condition: Condition::Started, restart: true };
        let after = Fingerprint::of(Kind::Service, &after, &env(&[]), &[dependency]);
        assert!(before.same_container(&after));
        assert_ne!(before.applied, after.applied);
    }

    #[test]
    fn kind_replaces_but_job_policies_do_not() {
        use crate::spec::model::{Job, Rerun};
        let of = |kind| Fingerprint::of(kind, &config(), &env(&[]), &[]);
        let job = of(Kind::Job(Job::default()));
        assert_ne!(of(Kind::Service).spec_hash, job.spec_hash);
        assert!(job.applied.contains(r#""kind":"Job""#));
        assert_eq!(job, of(Kind::Job(Job { retries: 3, rerun: Rerun::Always })));
        // Existing containers of jobs have this hash.
        assert_eq!(job.spec_hash, "v1:bf6e7aafa83b6a4451224d0762348dde134eb2858aef0d928c9165c266f24642");
    }

    #[test]
    fn env_values_are_hashed_but_not_stored() {
        let before = Fingerprint::of(Kind::Service, &config(), &env(&[("PASSWORD", "hunter2")]), &[]);
        let after = Fingerprint::of(Kind::Service, &config(), &env(&[("PASSWORD", "hunter3")]), &[]);
        assert_ne!(before.env_hash, after.env_hash);
        assert_eq!(before.spec_hash, after.spec_hash);
        assert!(!before.applied.contains("hunter2"));
    }

    #[test]
    fn unset_variable_is_not_an_empty_one() {
        let of = |env: &Env| Fingerprint::of(Kind::Service, &config(), env, &[]);
        let (none, empty) = (of(&env(&[])), of(&env(&[("A", "")])));
        let unset = of(&Env::from([("A".into(), None)]));
        assert!(unset.env_hash != none.env_hash && unset.env_hash != empty.env_hash);
        assert_eq!(unset.applied, empty.applied);
    }

    /// Each new spec field needs an entry with the effect of a change.
    #[test]
    fn every_field_of_service_and_container_is_listed() {
        let listed: BTreeSet<&str> = FIELDS.iter().map(|(field, _)| *field).collect();
        assert_eq!(listed.len(), FIELDS.len(), "a field is listed twice");
        let service = schemars::schema_for!(crate::spec::model::ServiceDocument);
        let job = schemars::schema_for!(crate::spec::model::JobDocument);
        for schema in [service, job] {
            let properties = schema.get("properties").and_then(Value::as_object).unwrap();
            for field in properties.keys() {
                assert!(listed.contains(field.as_str()), "`{field}` of the spec is not listed");
            }
        }
        // Every field is set, so that none is omitted from the JSON.
        let Value::Object(fields) = to_value(&full()) else { panic!("a container is an object") };
        for field in fields.keys() {
            let change = change_of(field);
            assert!(
                matches!(change, Change::Replace | Change::Update),
                "`{field}` of a container is listed as {change:?}, so a change would not be noticed"
            );
        }
        assert!(fields.len() >= 50, "set every field of the container in this test");
    }

    fn copied(path: &str) -> BTreeMap<String, CopiedFile> {
        let content = "hunter2".to_owned();
        BTreeMap::from([(path.to_owned(), CopiedFile { content, uid: 0, gid: 0, mode: 0o444 })])
    }

    #[test]
    fn content_of_files_is_hashed_but_not_stored() {
        let of = |config: &Config| Fingerprint::of(Kind::Service, config, &env(&[]), &[]);
        let (one, mut other) = (full(), full());
        other.secrets.get_mut("/s").unwrap().content = "hunter3".into();
        assert_ne!(of(&one).spec_hash, of(&other).spec_hash);
        assert!(!of(&one).applied.contains("hunter2") && !format!("{one:?}").contains("hunter2"));
    }

    fn full() -> Config {
        use crate::desired::SecurityOption;
        use crate::spec::model::{
            BlkioConfig, CgroupNamespace, DeviceRequest, ExtraHost, Healthcheck, HostNamespace, Logging, Ulimit,
        };
        let some = || Some("x".to_owned());
        Config {
            entrypoint: Some(vec!["x".into()]),
            user: some(),
            working_dir: some(),
            volumes: vec![super::super::Volume {
                source: super::super::VolumeSource::Anonymous,
                target: "/x".into(),
                read_only: false,
                options: Default::default(),
            }],
            tmpfs: map(&[("/t", "")]),
            configs: copied("/c"),
            secrets: copied("/s"),
            healthcheck: Some(Healthcheck {
                test: None,
                interval: None,
                timeout: None,
                retries: None,
                start_period: None,
                start_interval: None,
                disable: true,
            }),
            stop_signal: some(),
            stop_timeout: Some(super::super::Seconds(1)),
            restart: RestartPolicy::Always,
            resources: Resources { pids: Some(1), ..Resources::default() },
            labels: map(&[("a", "b")]),
            hostname: some(),
            aliases: vec!["x".into()],
            pid: "host".parse().ok(),
            ipc: "host".parse().ok(),
            extra_hosts: vec![ExtraHost { name: "x".into(), address: "192.0.2.1".into() }],
            cap_add: vec!["X".into()],
            cap_drop: vec!["X".into()],
            privileged: true,
            read_only: true,
            init: true,
            shm_size: Some(1),
            ulimits: [("nofile".to_owned(), Ulimit { soft: 1, hard: 1 })].into(),
            annotations: map(&[("a", "b")]),
            tty: true,
            stdin_open: true,
            security_opt: vec![SecurityOption::Seccomp("{}".into())],
            sysctls: map(&[("a", "b")]),
            devices: vec!["/dev/a".parse().unwrap()],
            device_cgroup_rules: vec!["x".into()],
            gpus: vec![DeviceRequest::default()],
            group_add: vec!["x".into()],
            dns: vec!["x".into()],
            dns_search: vec!["x".into()],
            dns_opt: vec!["x".into()],
            uts: Some(HostNamespace::Host),
            userns_mode: Some(HostNamespace::Host),
            cgroup: Some(CgroupNamespace::Private),
            cgroup_parent: some(),
            runtime: some(),
            platform: some(),
            logging: Some(Logging::default()),
            domainname: some(),
            mac_address: some(),
            expose: vec!["80".parse().unwrap()],
            storage_opt: map(&[("a", "b")]),
            mem_swappiness: Some(0),
            oom_kill_disable: true,
            oom_score_adj: Some(1),
            blkio_config: Some(BlkioConfig::default()),
            ..config()
        }
    }
}
