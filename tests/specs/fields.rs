//! Spec fields and their forms.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use drillmaster::spec::model::{self};

use crate::loading::*;

pub const ALL_FIELDS: &str = r#"# yaml-language-server: $schema=../schema/spec.json
kind: Service
name: api
image: shop/api
build: {context: ./api, dockerfile: Dockerfile.dev, target: release, args: {VERSION: 1.10}, labels: {tier: web}}
command: [serve, --port, 80, --version, 1.10]
entrypoint: "/entry 'two words'"
user: 1000
working_dir: /srv
env: {LOG: info, PORT: 8080, RATIO: 1.10, ON: yes, FLAG: true, EMPTY: "", LEVEL: "${LEVEL:-debug}", PROXY: null}
env_file: common.env
ports: ["8080:80", 9000, "0.0.0.0:53:53/udp", {container: 443, host: 8443, address: "::1"}, "*:5000-5001:6000-6001", "7000-7010:70", {container: 8000-8001, address: all}]
volumes: ["data:/data", "./conf:/conf:ro", /cache, {type: bind, source: ./x, target: /x, read_only: true}, {source: ./y, target: /y, on_change: {signal: hup}}, {source: ./z, target: /z, create: true, selinux: shared, propagation: rslave}, {source: w, target: /w, nocopy: true, subpath: a/b}, {source: ./v, target: /v, recursive: disabled}, {type: tmpfs, target: /t, size: 1m, mode: 0700}, {type: image, source: shop/conf, target: /i}]
tmpfs: [/shm, "/tmp:size=64m"]
configs: [app.conf]
secrets: [{source: token, target: api/token}]
profiles: []
dependencies: [appdb, {name: cache, condition: started, restart: true}, {name: none, required: false}]
ping: {http: {port: 80, path: /healthz, scheme: https, headers: {Host: shop}, status: 204}, interval: 100ms, timeout: 60s}
health: {interval: 10s, retries: 3, action: replace}
ready_timeout: 2m
healthcheck: {test: [CMD, curl, localhost], interval: 5s, retries: 3, start_interval: 1s}
pre_start: {run: [./make-certs.sh], timeout: 30s}
post_start:
- exec: create-user ann
  capture: user_id
- http: {url: "http://localhost:8080/warm?up=1", method: POST, headers: {X-Who: ann, n: 1}, body: 5, status: 204}
pre_stop: {exec: [drain]}
post_stop: [{http: "http://localhost:9/gone"}]
on: {exited: {run: ./tell-me.sh}, unhealthy: [{exec: [dump]}, {run: [./tell-me.sh]}], ready: [], failed: }
stop_signal: int
stop_timeout: 1m30s
restart: on-failure:5
resources: {memory: 256m, cpus: 0.5, pids: 100, memory_reservation: 128m, memory_swap: -1, cpu_shares: 512, cpuset: "0-1", cpuset_mems: 0, cpu_rt_period: 1s, cpu_rt_runtime: 950000}
labels: {tier: web, "1": 2}
hostname: api.local
aliases: [www]
networks: {default: {priority: 5}, back: {aliases: [inner], ipv4_address: 10.5.0.77, link_local_ips: [169.254.1.1], driver_opts: {a: b}, gw_priority: 1, interface_name: eth5}}
pid: service:appdb
ipc: shareable
extra_hosts: ["host.docker.internal:host-gateway", {name: db, address: 10.0.0.5}]
cap_add: [cap_net_admin]
cap_drop: [ALL]
privileged: false
read_only: true
init: true
shm_size: 64m
ulimits: {nofile: 1024, nproc: {soft: 10, hard: -1}}
pull: missing
update: {order: auto, min_ready: 2s, on_failure: keep}
replicas: 1
annotations: {org.example.trace: on}
tty: true
stdin_open: true
security_opt: ["no-new-privileges:true", seccomp=profile.json, "label=type:x", systempaths=unconfined]
sysctls: {net.core.somaxconn: 1024}
devices: [/dev/fuse, "/dev/a:/dev/b:r", {source: /dev/c, permissions: rw}, vendor.com/class=one]
device_cgroup_rules: ["c 188:* rmw"]
gpus: [{driver: nvidia, count: 1, capabilities: [gpu, utility], options: {a: 1}}, {device_ids: ["0"]}]
group_add: [video, 44]
dns: 10.0.0.53
dns_search: [example.org]
dns_opt: ["ndots:2"]
uts: host
userns_mode: host
cgroup: private
cgroup_parent: /apps
runtime: runsc
platform: linux/x86_64
logging: {driver: local, options: {max-size: 10m, max-file: 3}}
domainname: example.org
mac_address: "02:42:AC:11:00:02"
expose: [80, "53/udp", "3000-3010"]
storage_opt: {size: 10g}
mem_swappiness: 10
oom_kill_disable: true
oom_score_adj: -500
blkio_config: {weight: 300, weight_device: [{path: /dev/sda, weight: 400}], device_read_bps: [{path: /dev/sda, rate: 12m}], device_write_iops: [{path: /dev/sda, rate: 30}]}
---
name: sidecar
image: shop/api
network_mode: service:appdb
"#;

pub const ALL_FIELDS_OF_A_JOB: &str = r#"kind: Job
name: migrate
image: shop/api
build: ./api
command: [migrate]
entrypoint: /entry
user: 1000
working_dir: /srv
env: {LOG: info}
env_file: common.env
ports: ["8090:80"]
volumes: ["data:/data"]
tmpfs: /shm
configs: [{source: app.conf, target: /etc/app.conf}]
secrets: [token]
profiles: []
dependencies: [appdb, {name: seed, condition: succeeded}]
retries: 3
rerun: with-dependencies
capture: version
pre_start: {run: [./backup.sh]}
on: {succeeded: {run: [./tell-me.sh]}, failed: [{http: "http://localhost:9"}]}
stop_signal: int
stop_timeout: 5s
resources: {cpus: 0.5}
labels: {tier: job}
hostname: migrate.local
aliases: [m]
networks: [back]
pid: host
ipc: none
extra_hosts: ["host.docker.internal:host-gateway"]
cap_add: [CHOWN]
cap_drop: [ALL]
privileged: true
read_only: true
init: true
shm_size: 1m
ulimits: {nofile: 1024}
pull: missing
annotations: [org.example.trace=on]
tty: false
stdin_open: false
security_opt: [seccomp=unconfined]
sysctls: [net.core.somaxconn=1024]
devices: [/dev/fuse]
device_cgroup_rules: ["c 188:* rmw"]
gpus: all
group_add: [video]
dns: [10.0.0.53]
dns_search: example.org
dns_opt: "ndots:2"
uts: host
userns_mode: host
cgroup: host
cgroup_parent: /apps
runtime: runc
platform: linux/arm64/v8
logging: {driver: syslog, options: {syslog-address: "udp://192.0.2.1:514"}}
domainname: example.org
mac_address: "02:42:ac:11:00:02"
expose: "80"
storage_opt: [size=10g]
mem_swappiness: 0
oom_kill_disable: false
oom_score_adj: 1000
blkio_config: {weight: 10}
---
kind: Job
name: seed
image: shop/api:1
network_mode: none
"#;

pub const OTHERS: &str = "name: appdb\nimage: postgres\n---\nname: cache\nimage: redis\n---\nkind: Group\nname: shop\n\
                      network: shop-net\nsubnet: 10.1.0.0/24\n\
                      networks: {default: {attachable: true}, out: {external: true}, back: {name: shop_back, internal: true, driver: bridge, \
                      driver_opts: {a: b}, enable_ipv4: true, enable_ipv6: false, labels: {a: b}, ipam: {driver: default, options: {a: b}, \
                      config: [{subnet: 10.5.0.0/24, gateway: 10.5.0.1, ip_range: 10.5.0.0/25, aux_addresses: {a: 10.5.0.9}}]}}}\n\
                      volumes: {data: {driver: local, driver_opts: {type: none}, labels: {a: b}}, cache: , \
                      pg: {name: shop_pg}, out: {external: true}}\n\
                      configs: {app.conf: {file: ./app.conf}, motd: {content: hello}}\n\
                      secrets: {token: {file: /etc/token}, other: {environment: HOME}}\non: {up: {run: [./greet.sh]}, down: [], reload: {http: 'http://localhost'}}\n";

#[test]
fn known_outputs_are_text_or_numbers() {
    let text = "name: a\nimage: 'x:${context.tag}'\nports: ['${context.port}:80']\nenv: {A: 'u${context.port}'}\n\
                resources: {pids: '${context.pids}'}\n---\nkind: Job\nname: b\nimage: x\n";
    let known = [("a.yaml", text), ("output:tag", "2"), ("output:port", "8080"), ("output:pids", "17")];
    let specs = load_dir(&known).unwrap_or_else(|errors| panic!("{}", rendered(&errors)));
    let spec = &specs.services[0].spec;
    assert_eq!(
        (spec.container.image.as_ref().unwrap().as_str(), spec.container.env["A"].as_deref()),
        ("x:2", Some("u8080"))
    );
    assert_eq!(
        (spec.container.ports[0].to_string().as_str(), spec.container.resources.pids),
        ("127.0.0.1:8080:80/tcp", Some(17))
    );
    assert!(specs.services[0].uses.iter().all(|found| found.known));
    // While unknown, such values are valid, and the outputs they consume are listed.
    let specs = load_dir(&[("a.yaml", text)]).unwrap_or_else(|errors| panic!("{}", rendered(&errors)));
    let uses = &specs.services[0].uses;
    let fields: Vec<(&str, &str)> = uses.iter().map(|found| (found.field.as_str(), found.key.as_str())).collect();
    assert_eq!(fields, [("image", "tag"), ("ports.0", "port"), ("env.A", "port"), ("resources.pids", "pids")]);
    assert!(uses.iter().all(|found| !found.known));
}

#[test]
fn every_field_is_read() {
    let files = [
        ("a/all.yaml", ALL_FIELDS),
        ("b.yaml", OTHERS),
        ("common.env", "A=1\n"),
        ("./api/Dockerfile.dev", "FROM x"),
        ("profile.json", "{\"defaultAction\": \"SCMP_ACT_ALLOW\"}"),
    ];
    let specs = load_dir(&files).unwrap_or_else(|errors| panic!("{}", rendered(&errors)));
    assert_eq!(
        specs.services.iter().map(|s| s.spec.container.name.as_str()).collect::<Vec<_>>(),
        ["api", "appdb", "cache", "sidecar"]
    );
    assert_eq!(specs.services[0].source.to_string(), "a/all.yaml:3");
    assert_eq!(specs.services[2].source.to_string(), "b.yaml:4");
    assert_eq!(specs.services[0].env_files, [BTreeMap::from([("A".to_owned(), "1".to_owned())])]);
    assert_eq!(specs.reads, BTreeSet::from(["common.env".to_owned(), "profile.json".to_owned()]));
    assert_eq!(specs.variables, BTreeSet::from(["LEVEL".to_owned()]));
    let group = specs.group.as_ref().map(|group| (&group.spec, &group.source));
    insta::assert_debug_snapshot!("every_field", (&specs.services[0].spec, group));
}

#[test]
fn every_field_of_a_job_is_read() {
    let files =
        [("a.yaml", ALL_FIELDS_OF_A_JOB), ("b.yaml", OTHERS), ("common.env", "A=1\n"), ("./api/Dockerfile", "FROM x")];
    let specs = load_dir(&files).unwrap_or_else(|errors| panic!("{}", rendered(&errors)));
    let names: Vec<&str> = specs.services.iter().map(|s| s.spec.container.name.as_str()).collect();
    assert_eq!(names, ["appdb", "cache", "migrate", "seed"]);
    assert_eq!(specs.services[2].source.to_string(), "a.yaml:2");
    let job = &specs.services[2];
    insta::assert_debug_snapshot!("every_field_of_a_job", (&job.spec, &job.source, &job.env_files, &job.tree));
    assert_eq!(specs.services[3].spec.kind, model::Kind::Job(model::Job::default()));
}

#[test]
fn equivalent_forms_load_to_the_same_spec() {
    let flow = one("{name: a, image: b, env: {X: '1', Y: two}, command: [x, 'y z'], ports: ['80'], stop_timeout: 90s}");
    let block = one(concat!(
        "\u{feff}# comment\r\nimage: \"b\"\r\nports:\r\n- 80\r\ncommand: x 'y z'\r\n",
        "stop_timeout: 1m30s\r\nenv:\r\n  Y: >-\r\n    two\r\n  X: 1\r\nname: a\r\n"
    ));
    assert_eq!(flow, block);
}

#[test]
fn anchors_and_merges_work_as_in_compose_files() {
    let text = "x-base: &base\n  restart: always\n  env: {A: a}\n  init: true\nx-more: &more {init: false, hostname: h}\n\
                name: web\nimage: i\n<<: [*base, *more]\nenv: {B: b}\n";
    let service = one(text);
    assert_eq!(service.restart, model::RestartPolicy::Always);
    assert!(service.container.init);
    assert_eq!(service.container.hostname.as_deref(), Some("h"));
    assert_eq!(service.container.env.keys().map(|key| key.as_str()).collect::<Vec<_>>(), ["B"]);
}

#[test]
fn fields_without_a_value_equal_omitted_fields() {
    let service = one("name: a\nimage: b\nports:\n  # - 80:80\nenv:\ncommand:\nresources:\nping:\ntmpfs:\nenv_file:\n");
    assert_eq!(service, one("name: a\nimage: b"));
}

#[test]
fn environment_wins_over_dotenv_and_keeps_value_kinds() {
    let text = r#"
name: web
image: ${IMAGE}
privileged: ${YES}
read_only: "${YES}"
ping: {tcp: "${PORT}", timeout: "${SECONDS}s"}
ports: ["${PORT}:80"]
env: {EMPTY: "${NOTHING:-}", ALSO: ${NOTHING-}, NUMBER: ${PORT}, PRICE: $$5, PLAIN: $HOME}
hostname: ${NOTHING:-}
resources: {pids: "${PORT}", memory: "${PORT}k"}
"#;
    let text = text.replace("ALSO: ${NOTHING-}, NUMBER: ${PORT}", "ALSO: \"${NOTHING-}\", NUMBER: \"${PORT}\"");
    let files =
        [("app.yaml", text.as_str()), (".env", "IMAGE=nginx\nPORT=1\nYES=true\nSECONDS=5\n"), ("env:PORT", "8080")];
    let specs = load_dir(&files).unwrap_or_else(|errors| panic!("{}", rendered(&errors)));
    let service = &specs.services[0].spec;
    assert_eq!(service.container.image.as_ref().map(AsRef::as_ref), Some("nginx"));
    assert!(service.container.privileged && service.container.read_only);
    assert_eq!(service.container.ports[0].to_string(), "127.0.0.1:8080:80/tcp");
    assert_eq!(service.ping.as_ref().unwrap().timeout, Duration::from_secs(5));
    assert_eq!(service.container.hostname, None);
    assert_eq!(service.container.resources.pids, Some(8080));
    let env: Vec<_> =
        service.container.env.iter().map(|(key, value)| (key.as_str(), value.as_deref().unwrap())).collect();
    assert_eq!(env, [("ALSO", ""), ("EMPTY", ""), ("NUMBER", "8080"), ("PLAIN", "$HOME"), ("PRICE", "$5")]);
}

#[test]
fn profiles_decide_which_services_exist() {
    let text = "name: a\nimage: x\ndependencies: [{name: b, required: false}, {name: gone, required: false}]\n---\n\
                name: b\nimage: x\nprofiles: [debug]\nports: ['80:80']\n---\nname: c\nimage: x\nprofiles: [prod, debug]\n\
                dependencies: [d]\nenv_file: none.env\n---\nname: d\nimage: x\nprofiles: [prod]\nports: ['80:81']\n";
    let text = text.replace("env_file: none.env\n", "");
    let load = |profiles: &[&str], services: &[&str]| {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let profiles = drillmaster::spec::Profiles::new(&owned(profiles), &owned(services));
        load_with_profiles(&[("a.yaml", text.as_str())], &profiles).map(|specs| {
            let names = |services: &[drillmaster::spec::Loaded<model::Service>]| {
                services.iter().map(|service| service.spec.container.name.to_string()).collect::<Vec<_>>().join(" ")
            };
            (names(&specs.services), names(&specs.inactive))
        })
    };
    let good = |profiles: &[&str], services: &[&str]| {
        load(profiles, services).unwrap_or_else(|errors| panic!("{}", rendered(&errors)))
    };
    assert_eq!(good(&[], &[]), ("a".into(), "b c d".into()));
    assert_eq!(good(&["prod"], &[]), ("a c d".into(), "b".into()));
    assert_eq!(good(&["prod", ""], &["a"]), ("a c d".into(), "b".into()));
    assert_eq!(good(&[], &["d"]), ("a c d".into(), "b".into()), "naming a service activates its profiles");
    let errors = rendered(&load(&["debug"], &[]).unwrap_err());
    assert!(errors.contains("`c` depends on `d`, whose profile `prod` is not active"), "{errors}");
    assert!(errors.contains("a.yaml:13:"), "{errors}");
    let errors = rendered(&load(&["*"], &[]).unwrap_err());
    assert!(errors.contains("both publish host port 80/tcp"), "{errors}");
}

#[test]
fn null_removes_a_variable() {
    let files =
        [("a.yaml", "name: a\nimage: x\nenv: {A: null, B: ~, C: , D: '${E:-}', HOME: null}\n"), ("env:HOME", "x")];
    let specs = load_dir(&files).unwrap_or_else(|errors| panic!("{}", rendered(&errors)));
    let env = &specs.services[0].spec.container.env;
    let env: Vec<_> = env.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
    assert_eq!(env, [("A", None), ("B", None), ("D", Some("")), ("HOME", None)]);
}

#[test]
fn spellings_of_compose_files_are_accepted() {
    let both = |theirs: &str, ours: &str| {
        let files = |text: &str| {
            format!("name: a\nimage: x\n{text}\n---\nname: db\nimage: x\n---\n{{kind: Job, name: job, image: x}}\n")
        };
        let load = |text: &str| {
            let text = files(text);
            let files =
                [("a.yaml", text.as_str()), (".env", "FROM_DOTENV=dotenv\n"), ("env:SHELL", "sh"), ("env:N", "5")];
            load_dir(&files).unwrap_or_else(|errors| panic!("{}", rendered(&errors)))
        };
        let (theirs, ours) = (load(theirs), load(ours));
        assert_eq!(theirs.services[0].spec, ours.services[0].spec);
        let secret = theirs.services[0].secrets.keys().cloned().collect::<Vec<_>>();
        assert_eq!(secret, ours.services[0].secrets.keys().cloned().collect::<Vec<_>>());
        assert_eq!(theirs.secrets, ours.secrets);
    };
    both(
        "env: [A=1, B=x=y, \"C=${N}\", SHELL, FROM_DOTENV, NOT_SET, D=, A=2]",
        "env: {A: 2, B: x=y, C: '${N}', SHELL: '${SHELL}', FROM_DOTENV: '${FROM_DOTENV}', D: ''}",
    );
    both("env: {SHELL: , NOT_SET: , A: 1, E: ''}", "env: {SHELL: '${SHELL}', A: 1, E: ''}");
    both("labels: [a=b, c]", "labels: {a: b, c: ''}");
    both("deploy: {replicas: 2}", "replicas: 2");
    both(
        "deploy:\n  resources:\n    limits: {cpus: '0.5', memory: 512M, pids: 9}",
        "resources: {cpus: 0.5, memory: 512m, pids: 9}",
    );
    both(
        "dependencies:\n  db: {condition: service_healthy, restart: true, required: true}\n  job: {condition: service_completed_successfully}",
        "dependencies: [{name: db, condition: ready, restart: true}, {name: job, condition: succeeded}]",
    );
    both(
        "dependencies: {db: {condition: service_started}, job: }",
        "dependencies: [{name: db, condition: started}, job]",
    );
    both("ping: {http: localhost:80/}", "ping: {http: {port: 80, path: /, headers: {host: localhost:80}}}");
    both(
        "ping: {http: \"http://localhost:81/path\"}",
        "ping: {http: {port: 81, path: /path, headers: {host: localhost:81}}}",
    );
}

#[test]
fn place_of_a_field_is_its_value_or_that_of_its_key() {
    let text = concat!(
        "name: a\nimage: x\nannotations: {a: b}\nvolumes:\n- data:/x\n- {source: more, target: /y}\n",
        "networks:\n  default:\n  back: {gw_priority: 1}\n---\n",
        "kind: Group\nnetworks:\n  back:\n    internal: true\n  front: {internal: true}\n",
    );
    let specs = load_dir(&[("a.yaml", text)]).unwrap_or_else(|errors| panic!("{}", rendered(&errors)));
    let of_service = ["annotations", "volumes.target", "volumes.other", "networks.default", "networks.gw_priority"];
    let places = of_service.map(|field| specs.services[0].place(field));
    let expected = ["3:14", "6:26", "4:1", "8:3", "9:23"].map(|place| format!("specs/a.yaml:{place}"));
    assert_eq!(places, expected);
    let places = ["networks.back", "networks.front"].map(|field| specs.group.as_ref().unwrap().place(field));
    assert_eq!(places, ["specs/a.yaml:13:3", "specs/a.yaml:15:10"]);
}
