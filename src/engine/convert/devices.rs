//! Devices, security options and logging, in the form of the API.

use std::collections::HashMap;

use bollard::models::{
    DeviceMapping, DeviceRequest as EngineRequest, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig,
    ResourcesBlkioWeightDevice, ThrottleDevice,
};

use super::create::{some, some_map};
use crate::desired::{Config, SecurityOption};
use crate::spec::model::{BlkioConfig, CgroupNamespace, Device, DeviceCount, DeviceRequest, HostNamespace, Logging};
use crate::spec::value::Text;

/// The driver of devices that the engine looks up in CDI specifications.
const CDI: &str = "cdi";

/// What the option `systempaths=unconfined` stands for: it is none of the engine's.
const UNCONFINED_PATHS: &str = "systempaths=unconfined";

/// Adds devices, security options, resolver, namespaces, logging and kernel settings to a request.
pub(super) fn add(host: &mut HostConfig, config: &Config) {
    let text = |namespace: Option<HostNamespace>| namespace.map(|HostNamespace::Host| "host".to_owned());
    host.annotations = some_map(&config.annotations);
    host.devices = some(config.devices.iter().filter_map(device).collect());
    host.device_cgroup_rules = some(config.device_cgroup_rules.clone());
    host.device_requests = some(device_requests(config));
    host.group_add = some(config.group_add.clone());
    host.sysctls = some_map(&config.sysctls);
    host.dns = some(config.dns.clone());
    host.dns_search = some(config.dns_search.clone());
    host.dns_options = some(config.dns_opt.clone());
    host.uts_mode = text(config.uts);
    host.userns_mode = text(config.userns_mode);
    host.cgroupns_mode = config.cgroup.map(|cgroup| match cgroup {
        CgroupNamespace::Host => HostConfigCgroupnsModeEnum::HOST,
        CgroupNamespace::Private => HostConfigCgroupnsModeEnum::PRIVATE,
    });
    host.cgroup_parent = config.cgroup_parent.clone();
    host.runtime = config.runtime.clone();
    host.log_config = config.logging.as_ref().map(log_config);
    host.storage_opt = some_map(&config.storage_opt);
    host.memory_swappiness = config.mem_swappiness.map(i64::from);
    host.oom_kill_disable = config.oom_kill_disable.then_some(true);
    host.oom_score_adj = config.oom_score_adj.map(i64::from);
    add_security(host, config);
    if let Some(blkio) = &config.blkio_config {
        add_blkio(host, blkio);
    }
}

fn add_security(host: &mut HostConfig, config: &Config) {
    let (mut options, mut unconfined) = (Vec::new(), false);
    for option in &config.security_opt {
        match option {
            SecurityOption::Text(text) if text == UNCONFINED_PATHS => unconfined = true,
            SecurityOption::Text(text) => options.push(text.clone()),
            SecurityOption::Seccomp(profile) => options.push(format!("seccomp={profile}")),
        }
    }
    host.security_opt = some(options);
    if unconfined {
        (host.masked_paths, host.readonly_paths) = (Some(Vec::new()), Some(Vec::new()));
    }
}

fn device(device: &Device) -> Option<DeviceMapping> {
    let Device::Node { source, target, permissions } = device else { return None };
    Some(DeviceMapping {
        path_on_host: Some(source.clone()),
        path_in_container: Some(target.clone()),
        cgroup_permissions: Some(permissions.clone()),
    })
}

fn device_requests(config: &Config) -> Vec<EngineRequest> {
    let name = |device: &Device| match device {
        Device::Cdi(name) => Some(name.clone()),
        Device::Node { .. } => None,
    };
    let names: Vec<String> = config.devices.iter().filter_map(name).collect();
    let cdi = (!names.is_empty()).then(|| EngineRequest {
        driver: Some(CDI.to_owned()),
        device_ids: Some(names),
        ..Default::default()
    });
    config.gpus.iter().map(device_request).chain(cdi).collect()
}

fn device_request(request: &DeviceRequest) -> EngineRequest {
    let texts = |texts: &[Text]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
    EngineRequest {
        driver: request.driver.as_ref().map(ToString::to_string),
        count: request.count.map(|count| match count {
            DeviceCount::All => -1,
            DeviceCount::Number(number) => i64::from(number),
        }),
        device_ids: some(texts(&request.device_ids)),
        // A list of alternatives, each of which is a list of what is needed.
        capabilities: some(texts(&request.capabilities)).map(|all| vec![all]),
        options: options(request.options.iter()),
    }
}

fn log_config(logging: &Logging) -> HostConfigLogConfig {
    // Without a type, the engine takes its default.
    HostConfigLogConfig {
        typ: Some(logging.driver.as_ref().map(ToString::to_string).unwrap_or_default()),
        config: options(logging.options.iter()),
    }
}

fn options<'a>(options: impl Iterator<Item = (&'a String, &'a Text)>) -> Option<HashMap<String, String>> {
    let options: HashMap<_, _> = options.map(|(name, value)| (name.clone(), value.to_string())).collect();
    (!options.is_empty()).then_some(options)
}

fn add_blkio(host: &mut HostConfig, blkio: &BlkioConfig) {
    let throttle = |path: &str, rate: u64| ThrottleDevice { path: Some(path.into()), rate: i64::try_from(rate).ok() };
    let bytes = |rates: &[crate::spec::model::ByteRate]| {
        some(rates.iter().map(|limit| throttle(&limit.path, limit.rate.bytes())).collect())
    };
    let operations = |rates: &[crate::spec::model::OperationRate]| {
        some(rates.iter().map(|limit| throttle(&limit.path, u64::from(limit.rate))).collect())
    };
    let weight = |device: &crate::spec::model::DeviceWeight| ResourcesBlkioWeightDevice {
        path: Some(device.path.clone()),
        weight: Some(usize::from(device.weight)),
    };
    host.blkio_weight = blkio.weight;
    host.blkio_weight_device = some(blkio.weight_device.iter().map(weight).collect());
    host.blkio_device_read_bps = bytes(&blkio.device_read_bps);
    host.blkio_device_write_bps = bytes(&blkio.device_write_bps);
    host.blkio_device_read_iops = operations(&blkio.device_read_iops);
    host.blkio_device_write_iops = operations(&blkio.device_write_iops);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(spec: &str) -> Config {
        use crate::desired::resolve::{ResolveContext, resolve};
        use crate::spec::{Content, Input, SourceFile, TreeError, load};

        let files = [SourceFile { path: "a.yaml".into(), content: Content::Bytes(spec.into()) }];
        let none = std::collections::BTreeMap::new();
        let input = Input {
            dir: "specs",
            files: &files,
            dotenv: &[],
            environment: &none,
            profiles: &crate::spec::Profiles::default(),
            lenient: false,
            context: &none,
            read: &|_| Err(String::new()),
            tree: &|_| Err(TreeError::Context(String::new())),
            interpreter: &crate::spec::starlark::NoPrograms,
        };
        let specs = load(&input).unwrap_or_else(|errors| panic!("{errors:?}"));
        let context = ResolveContext { group: None, directory: "/shop/specs", home: None };
        resolve(&specs, context).services["a"].config.clone()
    }

    /// The part of a request that these fields make, without what is unset.
    fn request(spec: serde_json::Value) -> serde_json::Value {
        let mut spec = spec;
        spec["name"] = "a".into();
        spec["image"] = "x".into();
        let mut host = HostConfig::default();
        add(&mut host, &config(&spec.to_string()));
        let serde_json::Value::Object(fields) = serde_json::to_value(host).unwrap() else { panic!() };
        fields.into_iter().filter(|(_, value)| !value.is_null()).collect::<serde_json::Map<_, _>>().into()
    }

    #[test]
    fn fields_are_converted() {
        let table = [
            (
                serde_json::json!({"devices": ["/dev/a", "/dev/b:/dev/c:r", "vendor.com/class=one", "vendor.com/class=two"]}),
                serde_json::json!({
                    "Devices": [
                        {"PathOnHost": "/dev/a", "PathInContainer": "/dev/a", "CgroupPermissions": "rwm"},
                        {"PathOnHost": "/dev/b", "PathInContainer": "/dev/c", "CgroupPermissions": "r"},
                    ],
                    "DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["vendor.com/class=one", "vendor.com/class=two"]}],
                }),
            ),
            (
                serde_json::json!({"gpus": "all"}),
                serde_json::json!({"DeviceRequests": [{"Count": -1, "Capabilities": [["gpu"]]}]}),
            ),
            (
                serde_json::json!({"gpus": [
                    {"driver": "nvidia", "device_ids": ["0"], "capabilities": ["gpu", "utility"], "options": {"a": 1}},
                    {"count": 2},
                ]}),
                serde_json::json!({"DeviceRequests": [
                    {"Driver": "nvidia", "DeviceIDs": ["0"], "Capabilities": [["gpu", "utility"]], "Options": {"a": "1"}},
                    {"Count": 2, "Capabilities": [["gpu"]]},
                ]}),
            ),
            (
                serde_json::json!({"security_opt": ["no-new-privileges", "systempaths=unconfined", "seccomp={\"a\": 1}"]}),
                serde_json::json!({
                    "SecurityOpt": ["no-new-privileges", "seccomp={\"a\":1}"], "MaskedPaths": [], "ReadonlyPaths": [],
                }),
            ),
            (
                serde_json::json!({"logging": {"driver": "local", "options": {"max-size": "1m"}}}),
                serde_json::json!({"LogConfig": {"Type": "local", "Config": {"max-size": "1m"}}}),
            ),
            (
                serde_json::json!({"logging": {"options": {"max-file": 2}}}),
                serde_json::json!({"LogConfig": {"Type": "", "Config": {"max-file": "2"}}}),
            ),
            (
                serde_json::json!({"uts": "host", "userns_mode": "host", "cgroup": "private", "cgroup_parent": "/p",
                    "runtime": "runsc", "sysctls": {"net.core.somaxconn": 10}, "group_add": ["video"], "dns": "10.0.0.1",
                    "dns_search": ["b", "a"], "dns_opt": ["ndots:1"], "storage_opt": {"size": "1g"},
                    "device_cgroup_rules": ["c 1:1 r"]}),
                serde_json::json!({"UTSMode": "host", "UsernsMode": "host", "CgroupnsMode": "private", "CgroupParent": "/p",
                    "Runtime": "runsc", "Sysctls": {"net.core.somaxconn": "10"}, "GroupAdd": ["video"], "Dns": ["10.0.0.1"],
                    "DnsSearch": ["b", "a"], "DnsOptions": ["ndots:1"], "StorageOpt": {"size": "1g"},
                    "DeviceCgroupRules": ["c 1:1 r"]}),
            ),
            (
                serde_json::json!({"mem_swappiness": 0, "oom_kill_disable": true, "oom_score_adj": -5, "blkio_config": {
                    "weight": 300, "weight_device": [{"path": "/dev/a", "weight": 10}],
                    "device_read_bps": [{"path": "/dev/a", "rate": "1k"}], "device_write_bps": [{"path": "/dev/a", "rate": 2}],
                    "device_read_iops": [{"path": "/dev/a", "rate": 3}], "device_write_iops": [{"path": "/dev/a", "rate": 4}]}}),
                serde_json::json!({"MemorySwappiness": 0, "OomKillDisable": true, "OomScoreAdj": -5, "BlkioWeight": 300,
                    "BlkioWeightDevice": [{"Path": "/dev/a", "Weight": 10}],
                    "BlkioDeviceReadBps": [{"Path": "/dev/a", "Rate": 1024}],
                    "BlkioDeviceWriteBps": [{"Path": "/dev/a", "Rate": 2}],
                    "BlkioDeviceReadIOps": [{"Path": "/dev/a", "Rate": 3}],
                    "BlkioDeviceWriteIOps": [{"Path": "/dev/a", "Rate": 4}]}),
            ),
            // At their defaults.
            (
                serde_json::json!({"oom_score_adj": 0, "logging": {}, "blkio_config": {}, "gpus": []}),
                serde_json::json!({}),
            ),
        ];
        for (spec, expected) in table {
            assert_eq!(without_nulls(request(spec.clone())), expected, "{spec}");
        }
    }

    fn without_nulls(value: serde_json::Value) -> serde_json::Value {
        match value {
            serde_json::Value::Object(map) => map
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key, without_nulls(value)))
                .collect(),
            serde_json::Value::Array(items) => items.into_iter().map(without_nulls).collect(),
            value => value,
        }
    }
}
