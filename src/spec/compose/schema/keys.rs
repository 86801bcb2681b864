//! The keys of compose files, by section.

use super::Schema::{Any, Between, Closed, Either, Fields, List, Map, Named, Scalar, Text, Unique, Word};
use super::{Field, Schema, Type};

const TEXT: Schema = Scalar(&[Type::Text]);
const BOOL: Schema = Scalar(&[Type::Bool]);
const NULL: Schema = Scalar(&[Type::Null]);
/// True or false, also from a variable.
const FLAG: Schema = Scalar(&[Type::Bool, Type::Text]);
/// A whole number, also from a variable.
const INT: Schema = Scalar(&[Type::Int, Type::Text]);
/// A number, also from a variable.
const NUMBER: Schema = Scalar(&[Type::Number, Type::Text]);
const TEXTS: Schema = List(&TEXT);
const NAMES: Schema = Unique(&TEXT);
const TEXT_OR_NAMES: Schema = Either(&[TEXT, NAMES]);
const NUMBERS: Schema = Unique(&NUMBER);
const OPTIONS: Schema = Map(&NUMBER);
/// `key: value` or `key=value`.
const PAIRS: Schema = Either(&[Map(&Scalar(&[Type::Text, Type::Number, Type::Bool, Type::Null])), NAMES]);
const COMMAND: Schema = Either(&[NULL, TEXT, TEXTS]);
const HOSTS: Schema = Either(&[Map(&Either(&[TEXT, TEXTS])), NAMES]);

const fn map(known: &'static [Field]) -> Schema {
    Fields { known, required: &[] }
}

const fn map_with(required: &'static [&'static str], known: &'static [Field]) -> Schema {
    Fields { known, required }
}

const fn closed(required: &'static [&'static str], known: &'static [Field]) -> Schema {
    Closed { known, required }
}

pub(super) const ROOT: Schema = map(&[
    ("version", TEXT),
    ("name", TEXT),
    ("include", List(&INCLUDE)),
    ("services", Named(&SERVICE)),
    ("models", Named(&MODEL)),
    ("networks", Named(&NETWORK)),
    ("volumes", Named(&VOLUME)),
    ("secrets", Named(&SECRET)),
    ("configs", Named(&CONFIG)),
]);

const INCLUDE: Schema =
    Either(&[TEXT, closed(&[], &[("path", TEXT_OR_NAMES), ("env_file", TEXT_OR_NAMES), ("project_directory", TEXT)])]);

const SERVICE: Schema = map(&[
    ("annotations", PAIRS),
    ("attach", FLAG),
    ("blkio_config", BLKIO),
    ("build", Either(&[TEXT, BUILD])),
    ("cap_add", NAMES),
    ("cap_drop", NAMES),
    ("cgroup", Word(&["host", "private"])),
    ("cgroup_parent", TEXT),
    ("command", COMMAND),
    ("configs", FILE_MOUNTS),
    ("container_name", Text(is_container_name, "a name of at least two letters or digits")),
    ("cpu_count", Between(0, i64::MAX)),
    ("cpu_percent", Between(0, 100)),
    ("cpu_period", NUMBER),
    ("cpu_quota", NUMBER),
    ("cpu_rt_period", NUMBER),
    ("cpu_rt_runtime", NUMBER),
    ("cpu_shares", NUMBER),
    ("cpus", NUMBER),
    ("cpuset", TEXT),
    ("credential_spec", map(&[("config", TEXT), ("file", TEXT), ("registry", TEXT)])),
    ("depends_on", Either(&[NAMES, Named(&DEPENDENCY)])),
    ("deploy", Either(&[NULL, DEPLOY])),
    ("develop", Either(&[NULL, map(&[("watch", List(&WATCH))])])),
    ("device_cgroup_rules", NAMES),
    ("devices", List(&Either(&[TEXT, DEVICE]))),
    ("dns", TEXT_OR_NAMES),
    ("dns_opt", NAMES),
    ("dns_search", TEXT_OR_NAMES),
    ("domainname", TEXT),
    ("entrypoint", COMMAND),
    ("env_file", Either(&[TEXT, List(&Either(&[TEXT, ENV_FILE]))])),
    ("environment", PAIRS),
    ("expose", NUMBERS),
    ("extends", Either(&[TEXT, closed(&["service"], &[("service", TEXT), ("file", TEXT)])])),
    ("external_links", NAMES),
    ("extra_hosts", HOSTS),
    ("gpus", Either(&[Word(&["all"]), List(&GPU)])),
    ("group_add", NUMBERS),
    ("healthcheck", HEALTHCHECK),
    ("hostname", TEXT),
    ("image", TEXT),
    ("init", FLAG),
    ("ipc", TEXT),
    ("isolation", TEXT),
    ("label_file", Either(&[TEXT, TEXTS])),
    ("labels", PAIRS),
    ("links", NAMES),
    ("logging", map(&[("driver", TEXT), ("options", Map(&Scalar(&[Type::Text, Type::Number, Type::Null])))])),
    ("mac_address", TEXT),
    ("mem_limit", NUMBER),
    ("mem_reservation", INT),
    ("mem_swappiness", INT),
    ("memswap_limit", NUMBER),
    ("models", Either(&[NAMES, Named(&Either(&[NULL, map(&[("endpoint_var", TEXT), ("model_var", TEXT)])]))])),
    ("network_mode", TEXT),
    ("networks", Either(&[NAMES, Named(&Either(&[NULL, SERVICE_NETWORK]))])),
    ("oom_kill_disable", FLAG),
    ("oom_score_adj", Between(-1000, 1000)),
    ("pid", Scalar(&[Type::Text, Type::Null])),
    ("pids_limit", NUMBER),
    ("platform", TEXT),
    ("ports", Unique(&Either(&[NUMBER, PORT]))),
    ("post_start", List(&HOOK)),
    ("pre_start", List(&PRE_START_HOOK)),
    ("pre_stop", List(&HOOK)),
    ("privileged", FLAG),
    ("profiles", NAMES),
    ("provider", map_with(&["type"], &[("type", TEXT), ("options", Map(&Any))])),
    (
        "pull_policy",
        Text(is_pull_policy, "`always`, `missing`, `never`, `build`, `daily`, `weekly` or `every_<duration>`"),
    ),
    ("pull_refresh_after", TEXT),
    ("read_only", FLAG),
    ("restart", TEXT),
    ("runtime", TEXT),
    ("scale", INT),
    ("secrets", FILE_MOUNTS),
    ("security_opt", NAMES),
    ("shm_size", NUMBER),
    ("stdin_open", FLAG),
    ("stop_grace_period", TEXT),
    ("stop_signal", TEXT),
    ("storage_opt", Map(&Any)),
    ("sysctls", PAIRS),
    ("tmpfs", TEXT_OR_NAMES),
    ("tty", FLAG),
    ("ulimits", ULIMITS),
    ("use_api_socket", BOOL),
    ("user", TEXT),
    ("userns_mode", TEXT),
    ("uts", TEXT),
    ("volumes", Unique(&Either(&[TEXT, SERVICE_VOLUME]))),
    ("volumes_from", NAMES),
    ("working_dir", TEXT),
]);

/// Two characters of a name anywhere in the text are enough.
fn is_container_name(text: &str) -> bool {
    let is_first = |b: u8| b.is_ascii_alphanumeric();
    text.as_bytes().windows(2).any(|pair| is_first(pair[0]) && (is_first(pair[1]) || b"_.-".contains(&pair[1])))
}

/// One of the words anywhere in the text is enough.
fn is_pull_policy(text: &str) -> bool {
    let words = ["always", "never", "build", "if_not_present", "missing", "refresh", "daily", "weekly"];
    let every = text.split("every_").skip(1).any(|rest| {
        let unit = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        unit.len() < rest.len() && unit.starts_with(['w', 'd', 'h', 'm', 's'])
    });
    every || words.iter().any(|word| text.contains(word))
}

const BUILD: Schema = map(&[
    ("additional_contexts", PAIRS),
    ("args", PAIRS),
    ("cache_from", TEXTS),
    ("cache_to", TEXTS),
    ("context", TEXT),
    ("dockerfile", TEXT),
    ("dockerfile_inline", TEXT),
    ("entitlements", TEXTS),
    ("extra_hosts", HOSTS),
    ("isolation", TEXT),
    ("labels", PAIRS),
    ("network", TEXT),
    ("no_cache", FLAG),
    ("no_cache_filter", TEXT_OR_NAMES),
    ("platforms", TEXTS),
    ("privileged", FLAG),
    ("provenance", FLAG),
    ("pull", FLAG),
    ("sbom", FLAG),
    ("secrets", FILE_MOUNTS),
    ("shm_size", INT),
    ("ssh", PAIRS),
    ("tags", TEXTS),
    ("target", TEXT),
    ("ulimits", ULIMITS),
]);

const ULIMITS: Schema = Map(&Either(&[INT, map_with(&["soft", "hard"], &[("soft", INT), ("hard", INT)])]));

const LIMIT: Schema = closed(&[], &[("path", TEXT), ("rate", INT)]);
const BLKIO: Schema = closed(
    &[],
    &[
        ("device_read_bps", List(&LIMIT)),
        ("device_read_iops", List(&LIMIT)),
        ("device_write_bps", List(&LIMIT)),
        ("device_write_iops", List(&LIMIT)),
        ("weight", INT),
        ("weight_device", List(&closed(&[], &[("path", TEXT), ("weight", INT)]))),
    ],
);

const FILE_MOUNTS: Schema =
    List(&Either(&[TEXT, map(&[("source", TEXT), ("target", TEXT), ("uid", TEXT), ("gid", TEXT), ("mode", NUMBER)])]));

const DEPENDENCY: Schema = map_with(
    &["condition"],
    &[
        ("restart", FLAG),
        ("required", FLAG),
        ("condition", Word(&["service_started", "service_healthy", "service_completed_successfully"])),
    ],
);

const UPDATE: Schema = map(&[
    ("parallelism", INT),
    ("delay", TEXT),
    ("failure_action", TEXT),
    ("monitor", TEXT),
    ("max_failure_ratio", NUMBER),
    ("order", Word(&["start-first", "stop-first"])),
]);

const DEPLOY: Schema = map(&[
    ("mode", TEXT),
    ("endpoint_mode", TEXT),
    ("replicas", INT),
    ("labels", PAIRS),
    ("rollback_config", UPDATE),
    ("update_config", UPDATE),
    ("resources", map(&[("limits", LIMITS), ("reservations", RESERVATIONS)])),
    ("restart_policy", map(&[("condition", TEXT), ("delay", TEXT), ("max_attempts", INT), ("window", TEXT)])),
    ("placement", PLACEMENT),
]);

const LIMITS: Schema = map(&[("cpus", NUMBER), ("memory", TEXT), ("pids", INT)]);

const RESERVATIONS: Schema = map(&[
    ("cpus", NUMBER),
    ("memory", TEXT),
    ("generic_resources", List(&map(&[("discrete_resource_spec", map(&[("kind", TEXT), ("value", NUMBER)]))]))),
    ("devices", List(&map_with(&["capabilities"], DEVICE_REQUEST))),
]);

const PLACEMENT: Schema =
    map(&[("constraints", TEXTS), ("preferences", List(&map(&[("spread", TEXT)]))), ("max_replicas_per_node", INT)]);

const DEVICE_REQUEST: &[Field] =
    &[("capabilities", NAMES), ("count", INT), ("device_ids", NAMES), ("driver", TEXT), ("options", PAIRS)];

const GPU: Schema = map(DEVICE_REQUEST);

const WATCH: Schema = map_with(
    &["path", "action"],
    &[
        ("ignore", TEXT_OR_NAMES),
        ("include", TEXT_OR_NAMES),
        ("path", TEXT),
        ("action", Word(&["rebuild", "sync", "restart", "sync+restart", "sync+exec"])),
        ("target", TEXT),
        ("exec", HOOK),
        ("initial_sync", BOOL),
    ],
);

const DEVICE: Schema = map_with(&["source"], &[("source", TEXT), ("target", TEXT), ("permissions", TEXT)]);

const ENV_FILE: Schema = closed(&["path"], &[("path", TEXT), ("format", TEXT), ("required", FLAG)]);

const HEALTHCHECK: Schema = map(&[
    ("disable", FLAG),
    ("interval", TEXT),
    ("retries", NUMBER),
    ("test", Either(&[TEXT, TEXTS])),
    ("timeout", TEXT),
    ("start_period", TEXT),
    ("start_interval", TEXT),
]);

const HOOK: Schema = map_with(
    &["command"],
    &[("command", COMMAND), ("user", TEXT), ("privileged", FLAG), ("working_dir", TEXT), ("environment", PAIRS)],
);

const PRE_START_HOOK: Schema = map(&[
    ("command", COMMAND),
    ("image", TEXT),
    ("user", TEXT),
    ("privileged", FLAG),
    ("working_dir", TEXT),
    ("environment", PAIRS),
    ("per_replica", FLAG),
]);

const SERVICE_NETWORK: Schema = map(&[
    ("aliases", NAMES),
    ("interface_name", TEXT),
    ("ipv4_address", TEXT),
    ("ipv6_address", TEXT),
    ("link_local_ips", NAMES),
    ("mac_address", TEXT),
    ("driver_opts", OPTIONS),
    ("priority", Scalar(&[Type::Number])),
    ("gw_priority", Scalar(&[Type::Number])),
]);

const PORT: Schema = map(&[
    ("name", TEXT),
    ("mode", TEXT),
    ("host_ip", TEXT),
    ("target", INT),
    ("published", INT),
    ("protocol", TEXT),
    ("app_protocol", TEXT),
]);

const SERVICE_VOLUME: Schema = map_with(
    &["type"],
    &[
        ("type", Word(&["bind", "volume", "tmpfs", "cluster", "npipe", "image"])),
        ("source", TEXT),
        ("target", TEXT),
        ("read_only", FLAG),
        ("consistency", TEXT),
        ("bind", BIND),
        ("volume", map(&[("labels", PAIRS), ("nocopy", FLAG), ("subpath", TEXT)])),
        ("tmpfs", map(&[("size", Between(0, i64::MAX)), ("mode", NUMBER)])),
        ("image", map(&[("subpath", TEXT)])),
    ],
);

const BIND: Schema = map(&[
    ("propagation", TEXT),
    ("create_host_path", FLAG),
    ("recursive", Word(&["enabled", "disabled", "writable", "readonly"])),
    ("selinux", Word(&["z", "Z"])),
]);

const EXTERNAL: Schema = Either(&[FLAG, map(&[("name", TEXT)])]);

const NETWORK: Schema = Either(&[
    NULL,
    map(&[
        ("name", TEXT),
        ("driver", TEXT),
        ("driver_opts", OPTIONS),
        ("ipam", IPAM),
        ("external", EXTERNAL),
        ("internal", FLAG),
        ("enable_ipv4", FLAG),
        ("enable_ipv6", FLAG),
        ("attachable", FLAG),
        ("labels", PAIRS),
    ]),
]);

const IPAM: Schema = map(&[("driver", TEXT), ("config", List(&POOL)), ("options", Map(&TEXT))]);

const POOL: Schema = map(&[("subnet", TEXT), ("ip_range", TEXT), ("gateway", TEXT), ("aux_addresses", Map(&TEXT))]);

const VOLUME: Schema = Either(&[
    NULL,
    map(&[("name", TEXT), ("driver", TEXT), ("driver_opts", OPTIONS), ("external", EXTERNAL), ("labels", PAIRS)]),
]);

const SECRET: Schema = map(&[
    ("name", TEXT),
    ("environment", TEXT),
    ("file", TEXT),
    ("external", EXTERNAL),
    ("labels", PAIRS),
    ("driver", TEXT),
    ("driver_opts", OPTIONS),
    ("template_driver", TEXT),
]);

const CONFIG: Schema = map(&[
    ("name", TEXT),
    ("content", TEXT),
    ("environment", TEXT),
    ("file", TEXT),
    ("external", EXTERNAL),
    ("labels", PAIRS),
    ("template_driver", TEXT),
]);

const MODEL: Schema = map_with(
    &["model"],
    &[("name", TEXT), ("model", TEXT), ("context_size", Scalar(&[Type::Int])), ("runtime_flags", TEXTS)],
);
