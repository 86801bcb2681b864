//! What becomes of each field of services and jobs.

use serde_yaml::Value as Yaml;

use super::output::yaml;
use super::service::Writer;
use crate::spec::model::ContainerFields;

/// What becomes of a field.
pub(super) enum Rule {
    /// This key, with the same value.
    Key(&'static str, fn(&ContainerFields) -> Yaml),
    /// This key, with a map whose values are text.
    Map(&'static str, fn(&ContainerFields) -> Yaml),
    By(fn(&mut Writer<'_>)),
    /// A compose file cannot say it, for this reason.
    Unsaid(&'static str),
    /// Written together with another field.
    Elsewhere,
}

use Rule::{By, Elsewhere, Key, Map, Unsaid};

/// The fields of services and jobs, in the order in which they are written.
pub(super) const FIELDS: &[(&str, Rule)] = &[
    ("name", By(|writer| writer.container_name())),
    ("image", Key("image", |it| yaml(&it.image))),
    ("build", By(|writer| writer.build())),
    ("pull", By(|writer| writer.pull())),
    ("platform", Key("platform", |it| yaml(&it.platform))),
    ("profiles", Key("profiles", |it| yaml(&it.profiles))),
    ("hostname", By(|writer| writer.hostname())),
    ("domainname", Key("domainname", |it| yaml(&it.domainname))),
    ("entrypoint", By(|writer| writer.words("entrypoint"))),
    ("command", By(|writer| writer.words("command"))),
    ("user", Key("user", |it| yaml(&it.user))),
    ("working_dir", Key("working_dir", |it| yaml(&it.working_dir))),
    ("env_file", By(|writer| writer.env_files())),
    ("env", By(|writer| writer.environment())),
    ("ports", By(|writer| writer.ports())),
    ("expose", Key("expose", |it| yaml(&it.expose))),
    ("volumes", By(|writer| writer.mounts())),
    ("tmpfs", Key("tmpfs", |it| yaml(&it.tmpfs))),
    ("configs", By(|writer| writer.files("configs"))),
    ("secrets", By(|writer| writer.files("secrets"))),
    ("networks", By(|writer| writer.networks())),
    ("aliases", Elsewhere), // of each network
    ("network_mode", Key("network_mode", |it| yaml(&it.network_mode))),
    ("mac_address", Key("mac_address", |it| yaml(&it.mac_address))),
    ("extra_hosts", Key("extra_hosts", |it| yaml(&it.extra_hosts))),
    ("dns", Key("dns", |it| yaml(&it.dns))),
    ("dns_search", Key("dns_search", |it| yaml(&it.dns_search))),
    ("dns_opt", Key("dns_opt", |it| yaml(&it.dns_opt))),
    ("dependencies", By(|writer| writer.dependencies())),
    ("ping", By(|writer| writer.ping())),
    ("ready_timeout", Unsaid("docker compose does not wait for a time of its own")),
    ("healthcheck", By(|writer| writer.healthcheck())),
    ("health", Unsaid("docker compose does nothing about unhealthy containers")),
    ("pre_start", Unsaid(HOOKS)),
    ("post_start", By(|writer| writer.post_start())),
    ("pre_stop", By(|writer| writer.pre_stop())),
    ("post_stop", Unsaid(HOOKS)),
    ("on", Unsaid(HOOKS)),
    ("capture", Unsaid("docker compose has no outputs")),
    ("rerun", By(|writer| writer.rerun())),
    ("retries", Elsewhere), // restart
    ("restart", By(|writer| writer.restart())),
    ("stop_signal", Key("stop_signal", |it| yaml(&it.stop_signal))),
    ("stop_timeout", Key("stop_grace_period", |it| yaml(it.stop_timeout))),
    ("replicas", By(|writer| writer.deploy())),
    ("update", By(|writer| writer.update())),
    ("init", Key("init", |it| it.init.into())),
    ("tty", Key("tty", |it| it.tty.into())),
    ("stdin_open", Key("stdin_open", |it| it.stdin_open.into())),
    ("privileged", Key("privileged", |it| it.privileged.into())),
    ("read_only", Key("read_only", |it| it.read_only.into())),
    ("cap_add", Key("cap_add", |it| yaml(&it.cap_add))),
    ("cap_drop", Key("cap_drop", |it| yaml(&it.cap_drop))),
    ("security_opt", By(|writer| writer.security_options())),
    ("group_add", Key("group_add", |it| yaml(&it.group_add))),
    ("pid", Key("pid", |it| yaml(&it.pid))),
    ("ipc", Key("ipc", |it| yaml(&it.ipc))),
    ("uts", Key("uts", |it| yaml(it.uts))),
    ("userns_mode", Key("userns_mode", |it| yaml(it.userns_mode))),
    ("cgroup", Key("cgroup", |it| yaml(it.cgroup))),
    ("cgroup_parent", Key("cgroup_parent", |it| yaml(&it.cgroup_parent))),
    ("runtime", Key("runtime", |it| yaml(&it.runtime))),
    ("devices", Key("devices", |it| yaml(&it.devices))),
    ("device_cgroup_rules", Key("device_cgroup_rules", |it| yaml(&it.device_cgroup_rules))),
    ("gpus", By(|writer| writer.gpus())),
    ("sysctls", Map("sysctls", |it| yaml(&it.sysctls))),
    ("ulimits", Key("ulimits", |it| yaml(&it.ulimits))),
    ("shm_size", Key("shm_size", |it| yaml(it.shm_size))),
    ("storage_opt", Map("storage_opt", |it| yaml(&it.storage_opt))),
    ("resources", By(|writer| writer.resources())),
    ("mem_swappiness", Key("mem_swappiness", |it| yaml(it.mem_swappiness))),
    ("oom_kill_disable", Key("oom_kill_disable", |it| it.oom_kill_disable.into())),
    ("oom_score_adj", Key("oom_score_adj", |it| yaml(it.oom_score_adj))),
    ("blkio_config", Key("blkio_config", |it| yaml(&it.blkio_config))),
    ("logging", Key("logging", |it| yaml(&it.logging))),
    ("annotations", Map("annotations", |it| yaml(&it.annotations))),
    ("labels", Map("labels", |it| yaml(&it.labels))),
];

pub(super) const HOOKS: &str = "docker compose has no such hooks";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::spec::schema;

    #[test]
    fn every_field_has_a_rule() {
        let known: BTreeSet<String> = FIELDS.iter().map(|(field, _)| (*field).to_owned()).collect();
        assert_eq!(known.len(), FIELDS.len(), "a field has two rules");
        let schema = schema();
        let kinds = ["Service", "Job"].into_iter();
        let fields = kinds.flat_map(|kind| schema["$defs"][kind]["properties"].as_object().unwrap().keys());
        assert_eq!(known, fields.filter(|field| *field != "kind").cloned().collect::<BTreeSet<String>>());
    }
}
