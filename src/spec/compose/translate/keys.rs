//! What becomes of each key of a service.

use super::super::super::node::Node;
use super::{Document, Translator};

/// Translates a key.
type Translate = for<'a> fn(&mut Translator<'a>, &'a Node, &mut Document<'a>);

/// What becomes of a key.
pub(super) enum Rule {
    /// The field of the same name, with the same value.
    Same,
    /// The same, unless the value is empty.
    NotEmpty,
    /// The same, as a size; zero is not set.
    Size,
    By(Translate),
    /// It means nothing here, for this reason.
    Dropped(&'static str),
    /// It cannot be translated: reason and hint.
    Refused(&'static str, &'static str),
    /// Translated together with other keys, or before.
    Elsewhere,
}

use Rule::{By, Dropped, Elsewhere, NotEmpty, Refused, Same, Size};

const MODELS: &str = "cannot be translated: it needs Docker Model Runner";
const WINDOWS: &str = "it is for containers of Windows";

/// The keys in alphabetical order.
const RULES: &[(&str, Rule)] = &[
    ("annotations", NotEmpty),
    ("attach", Dropped("`up` shows no output of containers; `logs` does")),
    ("blkio_config", By(|translator, value, document| translator.blkio(value, document))),
    ("build", Elsewhere),
    ("cap_add", NotEmpty),
    ("cap_drop", NotEmpty),
    ("cgroup", NotEmpty),
    ("cgroup_parent", NotEmpty),
    ("command", Same),
    ("configs", By(|translator, value, document| translator.configs(value, document))),
    ("container_name", Elsewhere),
    ("cpu_count", Dropped(WINDOWS)),
    ("cpu_percent", Dropped(WINDOWS)),
    ("cpu_period", Elsewhere),
    ("cpu_quota", Elsewhere),
    ("cpu_rt_period", Elsewhere),
    ("cpu_rt_runtime", Elsewhere),
    ("cpu_shares", Elsewhere),
    ("cpus", Elsewhere),
    ("cpuset", Elsewhere),
    ("credential_spec", Dropped(WINDOWS)),
    ("depends_on", By(|translator, value, document| translator.dependencies(value, document))),
    ("deploy", By(|translator, value, document| translator.deploy(value, document))),
    ("develop", Dropped("`up --watch` rebuilds an image when a file of its context changes")),
    ("device_cgroup_rules", NotEmpty),
    ("devices", By(|translator, value, document| translator.devices(value, document))),
    ("dns", NotEmpty),
    ("dns_opt", NotEmpty),
    ("dns_search", NotEmpty),
    ("domainname", NotEmpty),
    ("entrypoint", Same),
    ("env_file", Elsewhere),
    ("environment", Elsewhere),
    ("expose", NotEmpty),
    ("extends", Elsewhere),
    (
        "external_links",
        Refused(
            "cannot be translated: links to containers outside of the project are not supported",
            "put both on one `external` network",
        ),
    ),
    ("extra_hosts", NotEmpty),
    ("gpus", Elsewhere),
    ("group_add", NotEmpty),
    ("healthcheck", By(|translator, value, document| translator.healthcheck(value, document))),
    ("hostname", NotEmpty),
    ("image", Elsewhere),
    ("init", Same),
    ("ipc", By(|translator, value, document| translator.ipc(value, document))),
    ("isolation", Dropped(WINDOWS)),
    ("label_file", Elsewhere),
    ("labels", Elsewhere),
    ("links", Elsewhere),
    ("logging", By(|translator, value, document| translator.logging(value, document))),
    ("mac_address", NotEmpty),
    ("mem_limit", Elsewhere),
    ("mem_reservation", Elsewhere),
    ("mem_swappiness", By(|translator, value, document| translator.swappiness(value, document))),
    ("memswap_limit", Elsewhere),
    ("models", Refused(MODELS, "remove it, or run the model as a service")),
    ("network_mode", By(|translator, value, document| translator.network_mode(value, document))),
    ("networks", By(|translator, value, document| translator.service_networks(value, document))),
    ("oom_kill_disable", Same),
    ("oom_score_adj", Same),
    ("pid", By(|translator, value, document| translator.pid(value, document))),
    ("pids_limit", Elsewhere),
    ("platform", NotEmpty),
    ("ports", By(|translator, value, document| translator.ports(value, document))),
    ("post_start", By(|translator, value, document| translator.post_start(value, document))),
    (
        "pre_start",
        Refused(
            "cannot be translated: it runs containers of their own before this one",
            "make each a service that this one `depends_on`, with `condition: service_completed_successfully`",
        ),
    ),
    ("pre_stop", By(|translator, value, document| translator.pre_stop(value, document))),
    ("privileged", Same),
    ("profiles", NotEmpty),
    ("provider", Refused("cannot be translated: it is run by a plugin of docker compose", "remove the service")),
    ("pull_policy", Elsewhere),
    ("pull_refresh_after", Dropped("write `pull_policy: every_<duration>`")),
    ("read_only", Same),
    ("restart", Elsewhere),
    ("runtime", NotEmpty),
    ("scale", By(|translator, value, document| translator.scale(value, document))),
    ("secrets", By(|translator, value, document| translator.secrets(value, document))),
    ("security_opt", NotEmpty),
    ("shm_size", Size),
    ("stdin_open", Same),
    ("stop_grace_period", By(|translator, value, document| translator.stop_timeout(value, document))),
    ("stop_signal", NotEmpty),
    ("storage_opt", NotEmpty),
    ("sysctls", NotEmpty),
    ("tmpfs", NotEmpty),
    ("tty", Same),
    ("ulimits", By(|translator, value, document| translator.ulimits(value, document))),
    ("use_api_socket", By(|translator, value, document| translator.api_socket(value, document))),
    ("user", NotEmpty),
    ("userns_mode", NotEmpty),
    ("uts", NotEmpty),
    ("volumes", Elsewhere),
    ("volumes_from", Elsewhere),
    ("working_dir", NotEmpty),
];

/// Returns the rule of a key; `None` for extensions.
pub(super) fn rule(key: &str) -> Option<&'static Rule> {
    let at = RULES.binary_search_by_key(&key, |(known, _)| known).ok()?;
    RULES.get(at).map(|(_, rule)| rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_sorted() {
        assert!(RULES.is_sorted_by_key(|(key, _)| key));
    }
}
