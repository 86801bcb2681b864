//! Fields that are handed on to the engine: read back by inspection, and what a change of them does.

use serde_json::{Value, json};

use crate::support::engine::{self, Capability};
use crate::support::project::{BUSYBOX, Project, script, sleeper};
use crate::support::watcher::Watcher;
use crate::support::{WAIT_TIMEOUT, wait_for};

/// A field with two values, and the place and the form of each in an inspection.
type Row = (&'static str, [(&'static str, &'static str); 2], &'static str, [fn() -> Value; 2]);

const ROWS: &[Row] = &[
    ("tty", [("tty", "true"), ("tty", "false")], "/Config/Tty", [|| json!(true), || json!(false)]),
    (
        "stdin_open",
        [("stdin_open", "true"), ("stdin_open", "false")],
        "/Config/OpenStdin",
        [|| json!(true), || json!(false)],
    ),
    (
        "security_opt",
        [("security_opt", "[no-new-privileges]"), ("security_opt", "[seccomp=unconfined]")],
        "/HostConfig/SecurityOpt",
        [|| json!(["no-new-privileges"]), || json!(["seccomp=unconfined"])],
    ),
    (
        "sysctls",
        [("sysctls", "{net.core.somaxconn: 1000}"), ("sysctls", "[net.core.somaxconn=1001]")],
        "/HostConfig/Sysctls",
        [|| json!({"net.core.somaxconn": "1000"}), || json!({"net.core.somaxconn": "1001"})],
    ),
    (
        "devices",
        [("devices", "[/dev/null:/dev/nothing]"), ("devices", "[/dev/null:/dev/nothing:r]")],
        "/HostConfig/Devices/0/CgroupPermissions",
        [|| json!("rwm"), || json!("r")],
    ),
    (
        "device_cgroup_rules",
        [("device_cgroup_rules", "[\"c 188:* rmw\"]"), ("device_cgroup_rules", "[\"c 189:* r\"]")],
        "/HostConfig/DeviceCgroupRules",
        [|| json!(["c 188:* rmw"]), || json!(["c 189:* r"])],
    ),
    (
        "group_add",
        [("group_add", "[44]"), ("group_add", "[45, 44]")],
        "/HostConfig/GroupAdd",
        [|| json!(["44"]), || json!(["44", "45"])],
    ),
    (
        "dns",
        [("dns", "192.0.2.53"), ("dns", "[192.0.2.53, 192.0.2.54]")],
        "/HostConfig/Dns",
        [|| json!(["192.0.2.53"]), || json!(["192.0.2.53", "192.0.2.54"])],
    ),
    (
        "dns_search",
        [("dns_search", "example.org"), ("dns_search", "example.net")],
        "/HostConfig/DnsSearch/0",
        [|| json!("example.org"), || json!("example.net")],
    ),
    (
        "dns_opt",
        [("dns_opt", "\"ndots:2\""), ("dns_opt", "[\"ndots:3\"]")],
        "/HostConfig/DnsOptions/0",
        [|| json!("ndots:2"), || json!("ndots:3")],
    ),
    (
        "userns_mode",
        [("userns_mode", "host"), ("x-none", "1")],
        "/HostConfig/UsernsMode",
        [|| json!("host"), || json!("")],
    ),
    (
        "cgroup",
        [("cgroup", "private"), ("cgroup", "host")],
        "/HostConfig/CgroupnsMode",
        [|| json!("private"), || json!("host")],
    ),
    (
        "runtime",
        [("runtime", "runc"), ("runtime", "io.containerd.runc.v2")],
        "/HostConfig/Runtime",
        [|| json!("runc"), || json!("io.containerd.runc.v2")],
    ),
    (
        "logging",
        [("logging", "{driver: local, options: {max-file: 2}}"), ("logging", "{driver: json-file}")],
        "/HostConfig/LogConfig/Type",
        [|| json!("local"), || json!("json-file")],
    ),
    (
        "domainname",
        [("domainname", "example.org"), ("domainname", "example.net")],
        "/Config/Domainname",
        [|| json!("example.org"), || json!("example.net")],
    ),
    (
        "expose",
        [("expose", "\"53/udp\""), ("expose", "[3000-3001]")],
        "/Config/ExposedPorts",
        [|| json!({"53/udp": {}}), || json!({"3000/tcp": {}, "3001/tcp": {}})],
    ),
    (
        "oom_score_adj",
        [("oom_score_adj", "100"), ("oom_score_adj", "200")],
        "/HostConfig/OomScoreAdj",
        [|| json!(100), || json!(200)],
    ),
];

/// Fields that Podman refuses (the driver `local`; the rules, without root), and those that it does not show as written.
const REFUSED_BY_PODMAN: [&str; 2] = ["logging", "device_cgroup_rules"];
const NOT_SHOWN_BY_PODMAN: [&str; 5] = ["devices", "domainname", "runtime", "sysctls", "userns_mode"];

fn rows() -> impl Iterator<Item = &'static Row> {
    let podman = engine::is_podman();
    ROWS.iter().filter(move |(field, ..)| !podman || !REFUSED_BY_PODMAN.contains(field))
}

/// Writes a service for each row, with the first or the second value of its field.
fn write_rows(project: &Project, value: usize) {
    let service = |(field, values, ..): &Row| {
        let (key, text) = values[value];
        sleeper(&service_of(field), &format!("{key}: {text}"))
    };
    project.write("rows.yaml", &(rows().map(service).collect::<String>() + &sleeper("other", "")));
}

fn service_of(field: &str) -> String {
    field.replace('_', "-")
}

/// Asserts that the engine has the first or the second value of each field.
#[track_caller]
fn assert_rows(project: &Project, value: usize) {
    let shown = |row: &&Row| !engine::is_podman() || !NOT_SHOWN_BY_PODMAN.contains(&row.0);
    let differs = |(field, _, pointer, expected): &Row| {
        let found = project.inspect(&service_of(field)).pointer(pointer).cloned().unwrap_or_default();
        (found != expected[value]()).then_some((*field, found))
    };
    let differences: Vec<_> = rows().filter(shown).filter_map(differs).collect();
    assert_eq!(differences, []);
}

#[test]
fn fields_reach_the_engine_and_a_change_replaces_their_container() {
    let project = Project::new("fields");
    write_rows(&project, 0);
    project.up();
    assert_rows(&project, 0);
    assert_eq!(project.differences(), Vec::<String>::new());
    let ids: Vec<String> = rows().map(|(field, ..)| project.id(&service_of(field))).collect();
    let other = project.id("other");

    write_rows(&project, 1);
    for line in project.differences() {
        let (service, action, field) = {
            let mut words = line.splitn(3, ' ');
            (words.next().unwrap_or_default(), words.next().unwrap_or_default(), words.next().unwrap_or_default())
        };
        assert!(action == "replace" && field.starts_with(&service.replace('-', "_")), "{line}");
    }
    project.run(&["up"]).exits(0).stdout_contains(&format!("{} replaced", rows().count()));
    assert_rows(&project, 1);
    assert_eq!(project.differences(), Vec::<String>::new());
    for ((field, ..), id) in rows().zip(ids) {
        assert_ne!(project.id(&service_of(field)), id, "{field}");
    }
    assert_eq!(project.id("other"), other);
}

#[test]
fn block_devices_are_throttled() {
    if engine::lacks(Capability::Limits) {
        return;
    }
    let partitions = std::fs::read_to_string("/proc/partitions").unwrap();
    let is_disk = |name: &&str| std::path::Path::new("/sys/block").join(name).exists();
    let mut names = partitions.lines().filter_map(|line| line.split_whitespace().nth(3));
    let disk = names.find(is_disk).expect("the host has a disk");
    let project = Project::new("blkio");
    let write = |rate: &str| {
        let blkio = format!(
            "blkio_config: {{device_read_bps: [{{path: /dev/{disk}, rate: {rate}}}], device_write_iops: [{{path: /dev/{disk}, rate: 100}}]}}"
        );
        project.write("all.yaml", &sleeper("api", &blkio));
    };
    write("1m");
    project.up();
    let host = project.inspect("api")["HostConfig"].clone();
    let path = format!("/dev/{disk}");
    assert_eq!(host["BlkioDeviceReadBps"], json!([{"Path": path, "Rate": 1 << 20}]));
    assert_eq!(host["BlkioDeviceWriteIOps"], json!([{"Path": path, "Rate": 100}]));
    assert_eq!(project.differences(), Vec::<String>::new());
    write("2m");
    let differences = project.differences();
    assert!(matches!(&differences[..], [one] if one.starts_with("api replace blkio_config")), "{differences:?}");
}

/// The limits of a service as the engine has them.
fn limits(project: &Project) -> Value {
    let host = project.inspect("api")["HostConfig"].clone();
    let fields = ["MemoryReservation", "MemorySwap", "CpuShares", "CpusetCpus", "CpuPeriod", "CpuQuota"];
    fields.map(|field| host[field].clone()).to_vec().into()
}

#[test]
fn limits_are_updated_in_place_and_their_drift_is_corrected() {
    if engine::lacks(Capability::Limits) {
        return;
    }
    let project = Project::new("limits");
    let write = |limits: &str| project.write("api.yaml", &sleeper("api", &format!("resources: {limits}")));
    write(
        "{memory: 64m, memory_reservation: 32m, memory_swap: 64m, cpu_shares: 512, cpuset: 0, cpu_period: 100ms, cpu_quota: 50ms}",
    );
    project.up();
    assert_eq!(limits(&project), json!([32 << 20, 64 << 20, 512, "0", 100_000, 50_000]));
    assert_eq!(project.differences(), Vec::<String>::new());
    let id = project.id("api");

    let second = "{memory: 64m, memory_reservation: 16m, memory_swap: -1, cpu_shares: 256, cpuset: 0-1, cpu_period: 50ms, cpu_quota: 20ms}";
    write(second);
    project.run(&["up"]).exits(0).stdout_contains("1 updated");
    let expected = json!([16 << 20, -1, 256, "0-1", 50_000, 20_000]);
    assert_eq!((limits(&project), project.id("api")), (expected.clone(), id.clone()));
    assert_eq!(project.differences(), Vec::<String>::new());

    // Changed by hand.
    let change = json!({"CpuShares": 2048, "CpusetCpus": "1", "MemoryReservation": 8 << 20});
    engine::request("POST", &format!("/containers/{}/update", project.name("api")), Some(&change));
    let watcher = Watcher::start(&project);
    wait_for("the correction", WAIT_TIMEOUT, || (limits(&project) == expected).then_some(()));
    drop(watcher);
    assert_eq!((limits(&project), project.id("api")), (expected, id.clone()));

    // Swap can be limited with the memory again; other limits cannot be removed from a running container.
    write(&second.replace("memory_swap: -1, ", ""));
    project.run(&["up"]).exits(0).stdout_contains("1 updated");
    assert_eq!((&limits(&project)[1], project.id("api")), (&json!(128 << 20), id.clone()));
    write(&second.replace("memory_swap: -1, cpu_shares: 256, ", ""));
    project.run(&["up"]).exits(0).stdout_contains("1 replaced");
    assert_eq!(limits(&project)[2], 0);
    assert_ne!(project.id("api"), id);
}

#[test]
fn output_of_a_terminal_is_read_as_lines() {
    let project = Project::new("tty");
    let talk = script(
        "api",
        "tty; echo one; echo two >&2; printf tail; exec sleep infinity",
        "tty: true\nstdin_open: true\nhostname: talker\nping: {log: \"^two$\"}\npost_start: {exec: [cat, /etc/hostname], capture: host}",
    );
    let job = format!(
        "---\nkind: Job\nname: ask\nimage: {BUSYBOX}\ncommand: [sh, -c, \"test -t 0 && echo yes\"]\ntty: true\ncapture: answer\n"
    );
    let user = script("user", "exec sleep infinity", "env: {ANSWER: \"${context.answer}\", HOST: \"${context.host}\"}");
    project.write("all.yaml", &(talk + &job + &user));
    project.up();
    let logs = project.run(&["logs", "api"]).exits(0).stdout_contains("/dev/pts/0");
    let lines: Vec<&str> = logs.stdout.lines().map(|line| line.rsplit(' ').next().unwrap_or_default()).collect();
    assert!(lines.ends_with(&["one", "two"]) || lines.ends_with(&["one", "two", "tail"]), "{logs}");
    assert!(!logs.stdout.contains('\r'), "{logs}");
    project.run(&["logs", "--timestamps", "--tail", "1", "api"]).exits(0);
    project.run(&["exec", "api", "--", "echo", "hello"]).exits(0).stdout_contains("hello");
    assert_eq!(project.exec("user", &["sh", "-c", "echo $ANSWER $HOST"]).trim(), "yes talker");
    assert_eq!(project.differences(), Vec::<String>::new());

    project.write("all.yaml", &script("api", "echo why; exit 3", "tty: true"));
    let run = project.run(&["up"]).exits(1);
    assert!(run.stderr.contains("why") && !run.stderr.contains("why\r"), "{run}");
}

#[test]
fn output_that_is_not_kept_is_said_to_be_missing() {
    let project = Project::new("nolog");
    project.write("all.yaml", &script("api", "echo hello; exec sleep infinity", "logging: {driver: none}"));
    project.up();
    let run = project.run(&["logs", "api"]);
    let reasons = ["driver does not support reading", "using the 'none' log driver"];
    assert!(reasons.iter().any(|reason| run.stderr.contains(reason)), "{run}");
    project.write("all.yaml", &script("api", "echo hello; exit 3", "logging: {driver: none}"));
    let run = project.run(&["up"]).exits(1);
    assert!(run.stderr.contains("exited with code 3") && run.stderr.contains("its output cannot be read"), "{run}");

    project.write("all.yaml", &script("api", "echo hello", "logging: {driver: none}\nping: {log: hello}"));
    let run = project.run(&["validate"]).exits(2);
    assert!(run.stderr.contains("a `log` ping never succeeds") && run.stderr.contains("all.yaml:"), "{run}");
}

/// A profile that allows everything but one system call.
fn profile(denied: &str) -> String {
    let rule = json!({"names": [denied], "action": "SCMP_ACT_ERRNO"});
    serde_json::to_string_pretty(&json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})).unwrap()
}

#[test]
fn seccomp_profile_is_followed_by_its_content() {
    if engine::lacks(Capability::Files) {
        return;
    }
    let project = Project::new("seccomp");
    let spec = |path: &str| sleeper("api", &format!("security_opt: [\"seccomp={path}\"]"));
    project.write("all.yaml", &spec("profiles/api.json"));
    let run = project.run(&["up"]).exits(2);
    assert!(run.stderr.contains("cannot read the seccomp profile") && run.stderr.contains("all.yaml:6:16"), "{run}");
    project.write("profiles/api.json", "{\"defaultAction\": }");
    let run = project.run(&["up"]).exits(2);
    assert!(run.stderr.contains("profiles/api.json:1:19") && run.stderr.contains("referenced here"), "{run}");

    project.write("profiles/api.json", &profile("mkdir"));
    project.up();
    assert!(engine::exec(&project.name("api"), &["mkdir", "/x"]).is_err());
    assert_eq!(project.differences(), Vec::<String>::new());
    let label = engine::text(&project.inspect("api")["Config"]["Labels"]["drillmaster.spec"]);
    assert!(label.contains("seccomp=sha256:") && !label.contains("SCMP"), "{label}");
    let id = project.id("api");

    // The same profile elsewhere, and in other words.
    project.write("other.json", &profile("mkdir").replace('\n', " "));
    project.write("all.yaml", &spec("other.json"));
    assert_eq!(project.differences(), Vec::<String>::new());

    let watcher = Watcher::start(&project);
    project.write("other.json", &profile("rmdir"));
    wait_for("the replacement", WAIT_TIMEOUT, || {
        let containers = project.containers();
        matches!(&containers[..], [one] if one.id != id && one.name == project.name("api")).then_some(())
    });
    drop(watcher);
    project.exec("api", &["mkdir", "/x"]);
    assert!(engine::exec(&project.name("api"), &["rmdir", "/x"]).is_err());
}

#[test]
fn unconfined_system_paths_are_not_masked() {
    let project = Project::new("syspaths");
    project.write("all.yaml", &sleeper("api", "security_opt: [systempaths=unconfined]"));
    project.up();
    let host = project.inspect("api")["HostConfig"].clone();
    let shown = (&host["MaskedPaths"], &host["ReadonlyPaths"], &host["SecurityOpt"]);
    match engine::is_podman() {
        true => assert_eq!(shown.2, &json!(["unmask=all"])),
        false => assert_eq!(shown, (&json!([]), &json!([]), &Value::Null)),
    }
    let masks = project.exec("api", &["sh", "-c", "grep ' /proc/' /proc/mounts || echo none"]);
    assert_eq!(masks.trim(), "none");
    assert_eq!(project.differences(), Vec::<String>::new());
}

/// The second part of the version of the engine's API.
fn engine_minor() -> u32 {
    let version = engine::text(&engine::request("GET", "/version", None)["ApiVersion"]);
    version.trim_start_matches("1.").parse().unwrap()
}

#[test]
fn mac_address_is_that_of_the_network_interface() {
    let project = Project::new("mac");
    let write = |address: &str| project.write("all.yaml", &sleeper("api", &format!("mac_address: \"{address}\"")));
    let shown = || project.exec("api", &["sh", "-c", "cat /sys/class/net/eth*/address"]).trim().to_owned();
    write("02:42:AC:11:07:01");
    project.up();
    assert_eq!((shown(), project.differences()), ("02:42:ac:11:07:01".to_owned(), Vec::new()));
    write("02:42:ac:11:07:02");
    assert_eq!(project.differences(), ["api replace mac_address"]);
    project.up();
    assert_eq!(shown(), "02:42:ac:11:07:02");
    let body = serde_json::json!({"Container": format!("{}-api", project.group), "Force": true});
    engine::request("POST", &format!("/networks/{}/disconnect", project.group), Some(&body));
    project.up();
    // From API 1.44 on, Docker takes the address of the endpoint, and 28.5.2 ignores it here.
    if engine::is_podman() || engine_minor() < 44 {
        assert_eq!(shown(), "02:42:ac:11:07:02");
    }
}

#[test]
fn field_that_the_engine_is_too_old_for_is_an_error_before_anything_is_created() {
    let project = Project::new("tooold");
    project.write("all.yaml", &sleeper("api", "annotations: {org.example.trace: \"on\"}"));
    let version = engine::text(&engine::request("GET", "/version", None)["ApiVersion"]);
    if engine_minor() >= 43 {
        project.up();
        assert_eq!(project.inspect("api")["HostConfig"]["Annotations"]["org.example.trace"], "on");
        return;
    }
    let run = project.run(&["up"]).exits(1);
    let expected = "`annotations` (specs/all.yaml:6:14) needs API 1.43 (Docker 24.0)";
    assert!(run.stderr.contains(expected) && run.stderr.contains(&format!("with API {version}")), "{run}");
    assert!(project.containers().is_empty());
    assert!(engine::networks(&project.group).is_empty());
}

#[test]
fn devices_that_no_driver_has_are_refused_with_the_reason() {
    let project = Project::new("gpus");
    project.write("all.yaml", &(sleeper("gpu", "gpus: all") + &sleeper("cdi", "devices: [vendor.com/class=name]")));
    let run = project.run(&["up"]).exits(1);
    if engine::is_podman() {
        let expected = "`gpus` (specs/all.yaml:6:7) needs Docker; the engine is Podman ";
        assert!(run.stderr.contains(expected) && run.stderr.contains("cdi: failed ("), "{run}");
        return;
    }
    assert!(run.stderr.contains("could not select device driver") || run.stderr.contains("CDI"), "{run}");
    let requests = |service: &str| {
        let name = format!("{}.new", project.name(service));
        let candidate = engine::try_get(&format!("/containers/{name}/json"));
        candidate.map(|found| found["HostConfig"]["DeviceRequests"].clone())
    };
    let (gpu, cdi) = (requests("gpu"), requests("cdi"));
    assert!(gpu.is_none_or(|requests| requests[0]["Capabilities"] == json!([["gpu"]]) && requests[0]["Count"] == -1));
    assert!(cdi.is_none_or(|requests| requests[0]["Driver"] == "cdi"));
}

#[test]
fn image_of_another_platform_is_not_taken() {
    let mut project = Project::new("platform");
    project.write("app/Dockerfile", &format!("FROM {BUSYBOX}\n"));
    let build = "---\nname: foreign\nbuild: ./app\nplatform: linux/arm64\n";
    project.write("all.yaml", &build.replace("./app", "app"));
    project.write("app/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    project.run(&["build"]).exits(0);
    let built = engine::built_images(&project.group).remove(0);
    assert_eq!(engine::request("GET", &format!("/images/{built}/json"), None)["Architecture"], "arm64");
    let tag = project.tag(&built);

    let service = |platform: &str| {
        format!("---\nname: api\nimage: {tag}\npull: never\ncommand: [sleep, infinity]\nplatform: {platform}\n")
    };
    project.write("all.yaml", &service("linux/x86_64"));
    let run = project.run(&["up"]).exits(1);
    assert!(run.stderr.contains("is present for linux/arm64, not for linux/amd64"), "{run}");

    project.retag(BUSYBOX);
    project.up();
    assert_eq!(project.differences(), Vec::<String>::new());
    let id = project.id("api");
    // The tag moves to the image of another platform: the container stays.
    project.retag(&built);
    assert_eq!(project.differences(), Vec::<String>::new());
    project.up();
    assert_eq!(project.id("api"), id);
    for image in engine::built_images(&project.group) {
        engine::request("DELETE", &format!("/images/{image}"), None);
    }
}
