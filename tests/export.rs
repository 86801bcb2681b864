//! Export of specs to a compose file. Snapshots are in tests/snapshots; INSTA_UPDATE=always rewrites them.

#![allow(clippy::unwrap_used)] // a panic fails the test

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use drillmaster::control::programs::Workers;
use drillmaster::control::specs::sources::{self, ProgramFileAccess};
use drillmaster::desired::resolve::{ResolveContext, resolve};
use drillmaster::desired::{Config, Dependency, Desired, Kind, Placement, Service, Update, VolumeSource};
use drillmaster::export::compose::{Compose, Request, export};
use drillmaster::identity;
use drillmaster::render::diagnostics;
use drillmaster::render::export::{compose_json, compose_yaml};
use drillmaster::spec::build::Dockerfile;
use drillmaster::spec::compose::{self, FileKind, Files};
use drillmaster::spec::model::{Build, Check, Condition, NetworkMode, RestartPolicy};
use drillmaster::spec::starlark::NoPrograms;
use drillmaster::spec::{Diagnostic, Input, Profiles, Specs, Tree, load, load_compose};
use insta::assert_snapshot;

type Variables = BTreeMap<String, String>;

fn variables(variables: &[(&str, &str)]) -> Variables {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Build contexts that exist, whatever they are.
fn tree(build: &Build) -> Tree {
    let context = build.context.trim_end_matches('/').rsplit('/').next().unwrap().to_owned();
    Tree {
        dockerfile: Dockerfile::File(format!("{context}/Dockerfile")),
        context,
        digest: "00ff".into(),
        files: Default::default(),
    }
}

fn messages(errors: Vec<Diagnostic>) -> String {
    diagnostics::render(&errors, false)
}

/// The content of a file, an empty one of its format if there is none.
fn content_of(directory: &Path, path: &str) -> Vec<u8> {
    let missing = if path.ends_with(".json") { "{}" } else { "" };
    sources::read_file(directory, path).unwrap_or_else(|_| missing.into())
}

/// Reads a spec directory. Files that do not exist are empty.
fn read(directory: &Path, environment: &Variables, profiles: &Profiles) -> Result<Specs, String> {
    let sources = sources::read(directory, None).unwrap();
    let (workers, access) = (Workers::new(env!("CARGO_BIN_EXE_drillmaster").into()), ProgramFileAccess(directory));
    let interpreter = workers.interpreter(&access);
    let input = Input {
        dir: "specs",
        files: &sources.files,
        dotenv: &sources.dotenv,
        environment,
        lenient: false,
        profiles,
        context: &BTreeMap::new(),
        read: &|path| Ok(content_of(directory, path)),
        tree: &|build| Ok(tree(build)),
        interpreter: &interpreter,
    };
    load(&input).map_err(messages)
}

fn context(directory: &Path) -> ResolveContext<'_> {
    ResolveContext { group: None, directory: directory.to_str().unwrap(), home: Some("/home/ann") }
}

/// Exports specs to a file beside their directory.
fn exported(specs: &Specs, directory: &Path, services: &[&str]) -> Compose {
    let services: Vec<String> = services.iter().map(|name| (*name).to_owned()).collect();
    let into = directory.parent().unwrap().to_str().unwrap();
    export(&Request { specs, services: &services, context: context(directory), into, env_files: &[] })
}

/// Writes specs to a directory `shop/specs` that is removed with the test.
fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().canonicalize().unwrap().join("shop/specs");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("app.yaml"), text).unwrap();
    (home, directory)
}

/// The file for specs, and what it cannot say.
#[track_caller]
fn file_of(text: &str, environment: &[(&str, &str)]) -> String {
    let (_home, directory) = written(text);
    let specs = read(&directory, &variables(environment), &Profiles::default()).unwrap();
    let compose = exported(&specs, &directory, &[]);
    let notes = compose.notes.iter().map(|note| {
        let location = note.location.as_ref().unwrap();
        format!("{}:{}:{}: {}\n", location.file.path(), location.line(), location.column(), note.message)
    });
    format!("{}---\n{}", compose_yaml(&compose), notes.collect::<String>())
}

const SHOP: &str = r#"
kind: Group
name: shop
networks:
  back: {internal: true, enable_ipv6: false, ipam: {config: [{subnet: 10.1.0.0/24}]}}
  proxy: {external: true, name: the-proxy}
  unused: {}
volumes:
  pg: {name: shop_pg, driver_opts: {device: "${DEVICE}"}}
  media: {external: true}
configs:
  motd: {content: "hello ${NAME:-nobody}, $5\n"}
  conf: {file: ./app.conf}
secrets:
  token: {environment: TOKEN}
on: {up: {run: [./greet.sh, "${NAME}"]}}
---
name: db
image: "postgres:${PG:-17}"
env: {PASSWORD: "${PASSWORD}", PLAIN: "$HOME $$5 022", OFF: "off", ZERO: 022, GONE: null}
env_file: [db.env, "./${STAGE:-dev}.env"]
volumes: ["pg:/data", "media:/media:ro", "v:/v", "./init:/init:ro,z", {type: bind, source: ../made, target: /made, create: true}]
ping: {exec: [pg_isready, -U, "${NAME}"], interval: 10s, timeout: 60s}
health: {retries: 5}
networks: {back: {aliases: [pg], ipv4_address: 10.1.0.5}}
aliases: [database]
stop_timeout: 1m30s
---
kind: Job
name: migrate
build: {context: ./app, target: migrate, args: {VERSION: "${VERSION:-1}"}}
dependencies: [db]
retries: 3
networks: [back]
---
kind: Job
name: report
image: busybox
dependencies: [migrate]
rerun: always
capture: total
---
name: api
build: ./app
image: shop/api
command: serve --port ${PORT:-80} --cost $5
dependencies: [migrate, {name: db, restart: true}, {name: cache, condition: started, required: false}]
env: {TOTAL: "${context.total}", LEVEL: info}
ports: ["${PORT:-8080}:80", "*:9090:90/udp", {container: 70, host: "${ADMIN:-7070}", address: all}, "1000"]
networks: [default, back, proxy]
healthcheck: {test: [CMD, curl, "localhost:${PORT:-80}"], interval: 5s}
ping: {http: {port: 80, headers: {Authorization: "Bearer ${TOKEN}"}}}
configs: [motd, {source: conf, target: etc/app.conf}]
secrets: [{source: token, uid: 5, mode: "0400"}]
post_start: {exec: [warm-up]}
pre_stop: [{exec: [drain]}, {exec: "say ${NAME}"}]
restart: unless-stopped
security_opt: [no-new-privileges, "seccomp=./seccomp.json"]
resources: {memory: 256m, memory_swap: -1, cpus: "${CPUS:-0.5}", cpuset_mems: "0"}
labels: {com.example.a: "${NAME}", b: "1"}
---
name: worker
image: busybox
replicas: 3
update: {order: start-first, min_ready: 2s}
dependencies: [api]
post_start: {exec: [warm-up]}
---
name: cache
image: redis:7
profiles: [fast]
network_mode: service:db
gpus: 1
pull: {every: 12h}
tmpfs: /t:size=1m
"#;

const SHOP_VARIABLES: &[(&str, &str)] =
    &[("PASSWORD", "s3cr3t-word"), ("TOKEN", "t0ken-value"), ("NAME", "annabell"), ("DEVICE", "/dev/other")];

#[test]
fn file_says_what_it_cannot_say() {
    assert_snapshot!("shop", file_of(SHOP, SHOP_VARIABLES));
}

#[test]
fn named_services_come_with_their_dependencies() {
    let (_home, directory) = written(SHOP);
    let specs = read(&directory, &variables(SHOP_VARIABLES), &Profiles::default()).unwrap();
    let value = exported(&specs, &directory, &["migrate"]).value();
    let keys = |section: &str| {
        let keys = value[section].as_mapping().unwrap().keys();
        keys.map(|key| key.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(keys("services"), ["db", "migrate"]);
    assert_eq!(keys("networks"), ["back"]);
    assert_eq!(keys("volumes"), ["media", "pg", "v"]);
    assert!(value.get("configs").is_none());
}

#[test]
fn dependents_wait_for_health_checks_that_are_in_the_file() {
    let specs = |ping: &str| {
        format!(
            "{{name: a, image: x, {ping}}}\n---\n{{name: b, image: x, dependencies: [a]}}\n---\n\
                 {{kind: Job, name: j, image: x, capture: key}}\n"
        )
    };
    for (ping, condition) in [
        ("healthcheck: {test: ok}", "service_healthy"),
        ("healthcheck: {test: ok}, ping: {tcp: 80}", "service_healthy"),
        ("healthcheck: {disable: true}", "service_started"),
        ("healthcheck: {test: 'ok ${context.key}'}", "service_started"),
        ("ping: {exec: [ok]}", "service_healthy"),
        ("ping: {exec: [ok]}, healthcheck: {disable: true}", "service_started"),
        ("ping: {exec: 'ok ${V}'}", "service_started"),
        ("ping: {exec: [ok, '${context.key}']}", "service_started"),
        ("ping: {tcp: 80}", "service_started"),
        ("init: true", "service_started"),
    ] {
        let (_home, directory) = written(&specs(ping));
        let specs = read(&directory, &variables(&[("V", "1")]), &Profiles::default()).unwrap();
        let value = exported(&specs, &directory, &[]).value();
        assert_eq!(value["services"]["b"]["depends_on"]["a"]["condition"], condition, "{ping}");
    }
}

#[test]
fn json_has_the_file_as_an_object() {
    let (_home, directory) = written("{name: a, image: x, ready_timeout: 5s}\n");
    let specs = read(&directory, &Variables::new(), &Profiles::default()).unwrap();
    assert_snapshot!(compose_json(&exported(&specs, &directory, &[]), Some("compose.yaml")));
}

/// Fields with variables at every kind of place, and values that must not be in the file.
const VARIABLES: &[(&str, &str)] = &[
    ("image: \"${V}\"", "canary"),
    (
        "image: x, build: {context: \"${V}\", dockerfile: \"${V}\", args: {A: \"${V}\"}, labels: {\"${V}\": \"${V}\"}}",
        "canary",
    ),
    ("image: x, command: [\"${V}\"], entrypoint: \"a ${V}\"", "canary"),
    ("image: x, ports: [\"${V}\"]", "54321:80"),
    ("image: x, ports: [\"${V}\"]", "54321"),
    ("image: x, ports: [\"${V}:80\"]", "54321"),
    ("image: x, ports: [{container: 80, host: \"${V}\"}]", "54321"),
    ("image: x, volumes: [\"${V}:/x\"]", "canary"),
    ("image: x, volumes: [\"${V}\"]", "canary:/x:ro"),
    ("image: x, volumes: [\"./${V}:/x\", \"/x:${V}\"]", "/canary"),
    ("image: x, volumes: [{type: tmpfs, target: \"${V}\"}]", "/canary"),
    ("image: x, volumes: [{type: tmpfs, target: /x, mode: \"${V}\"}]", "0654"),
    ("image: x, volumes: [{source: d, target: /x, subpath: \"${V}\"}]", "canary"),
    ("image: x, dependencies: [{name: b, condition: \"${V}\"}]", "started"),
    ("image: x, restart: \"${V}\"", "on-failure:54321"),
    ("image: x, update: {order: \"${V}\"}", "start-first"),
    ("image: x, update: {min_ready: \"${V}\"}", "54321s"),
    ("image: x, replicas: \"${V}\"", "543"),
    ("image: x, pull: {every: \"${V}\"}", "54321s"),
    ("image: x, resources: {memory: \"${V}\", cpuset_mems: \"${V}\", pids: \"${V}\"}", "54321000"),
    ("image: x, healthcheck: {test: \"${V}\", interval: \"${V}\", retries: \"${V}\"}", "54321"),
    ("image: x, healthcheck: {test: [CMD-SHELL, \"${V}\"], start_period: \"${V}\"}", "54321s"),
    ("image: x, ping: {exec: [\"${V}\"], interval: \"${V}\", timeout: \"${V}\"}", "54321s"),
    ("image: x, ping: {exec: \"a ${V}\"}", "canary"),
    ("image: x, ping: {tcp: \"${V}\"}, health: {retries: \"${V}\"}", "54321"),
    ("image: x, ping: {exec: a}, health: {retries: \"${V}\"}", "54321"),
    ("image: x, pre_stop: {exec: [\"${V}\"]}, post_start: {run: [\"${V}\"]}", "canary"),
    ("image: x, aliases: [\"${V}\"], hostname: \"${V}\"", "canary"),
    ("image: x, networks: {n: {aliases: [\"${V}\"], priority: \"${V}\"}}", "54321"),
    ("image: x, configs: [{source: \"${V}\"}]", "c"),
    ("image: x, configs: [{source: c, uid: \"${V}\"}]", "54321"),
    ("image: x, secrets: [{source: s, target: \"${V}\"}]", "canary"),
    ("image: x, env: {A: \"${V}\"}, labels: {a: \"${V}\"}, env_file: \"${V}\"", "canary"),
    ("image: x, profiles: [\"${V}\"], user: \"${V}\", working_dir: \"/${V}\"", "canary"),
    ("image: x, devices: [{source: \"${V}\"}]", "/dev/canary"),
    ("image: x, devices: [\"${V}\"], tmpfs: \"${V}\"", "/dev/canary"),
    ("image: x, ulimits: {nofile: {soft: \"${V}\", hard: \"${V}\"}, nproc: \"${V}\"}", "54321"),
    ("image: x, extra_hosts: [\"a:${V}\", {name: b, address: \"${V}\"}]", "1.2.3.4"),
    ("image: x, security_opt: [\"seccomp=${V}\", \"label=${V}\"]", "unconfined"),
    ("image: x, gpus: \"${V}\"", "54321"),
    ("image: x, gpus: [{count: \"${V}\"}], logging: {driver: \"${V}\", options: {a: \"${V}\"}}", "54321"),
    ("image: x, blkio_config: {weight: \"${V}\", device_read_bps: [{path: \"/${V}\", rate: \"${V}\"}]}", "543"),
    ("image: x, privileged: \"${V}\", init: \"${V}\", stop_signal: KILL", "true"),
    ("image: x, dns: \"${V}\", stop_timeout: \"${V}s\"", "10.9.8.7"),
    ("kind: Job, image: x, retries: \"${V}\"", "54321"),
    ("kind: Job, image: x, rerun: \"${V}\"", "always"),
];

#[test]
fn values_of_variables_are_not_written() {
    let mut seen = 0;
    for (fields, value) in VARIABLES {
        let text = format!(
            "{{kind: Group, networks: {{n: {{}}}}, configs: {{c: {{content: a}}}}, secrets: {{s: {{environment: S}}}}}}\n\
             ---\n{{name: a, {fields}}}\n---\n{{name: b, image: y}}\n"
        );
        let (_home, directory) = written(&text);
        let environment = variables(&[("V", value), ("S", "secret-canary")]);
        // Some values do not fit all fields.
        let Ok(specs) = read(&directory, &environment, &Profiles::all()) else { continue };
        seen += 1;
        let compose = exported(&specs, &directory, &[]);
        let yaml = compose_yaml(&compose);
        let is_word = ["true", "started", "start-first", "always", "unconfined", "c"].contains(value);
        assert!(is_word || !yaml.contains(value), "{fields}\n{yaml}");
        assert!(yaml.contains("${V}"), "{fields}\n{yaml}");
        serde_yaml_is_valid(&yaml);
    }
    assert!(seen >= VARIABLES.len() - 3, "{seen} of {}", VARIABLES.len());
}

/// Reads the file as YAML and compares it with itself.
#[track_caller]
fn serde_yaml_is_valid(yaml: &str) {
    serde_yaml::from_str::<serde_yaml::Value>(yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
}

/// The compose file in memory, everything else on the disk, or empty.
struct Overlay {
    file: String,
    text: String,
}

impl Files for Overlay {
    fn kind(&self, path: &str) -> FileKind {
        match path {
            _ if Path::new(path).is_dir() => FileKind::Directory,
            path if path.ends_with("/.env") && !Path::new(path).is_file() => FileKind::Missing,
            _ => FileKind::File,
        }
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        match path == self.file {
            true => Ok(self.text.clone().into_bytes()),
            false => Ok(fs::read(path).unwrap_or_default()),
        }
    }
}

/// Reads a compose file in a directory as specs.
#[track_caller]
fn read_compose(directory: &Path, text: &str, environment: &Variables) -> Specs {
    let path = directory.to_str().unwrap();
    let file = format!("{path}/compose.yaml");
    let access = Overlay { file: file.clone(), text: text.to_owned() };
    let loaded = compose::load(&compose::Request {
        files: &[file],
        env_files: &[],
        profiles: &["*".to_owned()],
        services: &[],
        name: None,
        directory: None,
        working_directory: path,
        home: Some("/home/ann"),
        environment,
        lenient: false,
        access: &access,
    });
    let project = loaded.project.unwrap().unwrap_or_else(|errors| panic!("{}\n{text}", messages(errors)));
    let input = Input {
        dir: path,
        files: &[],
        dotenv: &[],
        environment,
        lenient: false,
        profiles: &Profiles::all(),
        context: &BTreeMap::new(),
        read: &|path| Ok(content_of(directory, path)),
        tree: &|build| Ok(tree(build)),
        interpreter: &NoPrograms,
    };
    load_compose(&input, &project).unwrap_or_else(|errors| panic!("{}\n{text}", messages(errors)))
}

/// What a service is made of, and what starts it, as text.
fn content(service: &Service) -> String {
    let Service { name, kind, config, env, dependencies, pull, update, .. } = service;
    let config = serde_json::to_value(config).unwrap();
    format!("{name} {kind:?} {config:#} {env:#?} {dependencies:#?} {pull:?} {update:?}")
}

/// The state that the exported file describes: that of the specs without what a compose file cannot say.
fn expected(specs: &Specs, desired: &Desired, again: &Desired) -> Vec<String> {
    let healthy = |name: &str| again.services[name].config.healthcheck.is_some();
    let jobs: BTreeSet<&str> = again.services.values().filter(|it| it.is_job()).map(|it| it.service.as_str()).collect();
    let services = desired.services.values().map(|service| {
        let mut expected = service.clone();
        let Config { hostname, aliases, network, healthcheck, restart, .. } = &mut expected.config;
        // The host name is written where drillmaster sets it; replicas have numbers under compose as well.
        let own = service.hostname().to_owned();
        *hostname = hostname.take().or((!own.is_empty() && service.replica.is_none()).then_some(own));
        // Aliases are those of each network; the name of the container is one of our reader.
        if let Placement::Networks(endpoints) = network {
            for endpoint in endpoints.values_mut() {
                endpoint.aliases.append(aliases);
                endpoint.aliases.sort();
            }
            let container = identity::container_name(&desired.group, &service.service);
            *aliases = if service.replica.is_none() { vec![container] } else { Vec::new() };
        }
        // A ping becomes a health check.
        let is_command = matches!(&service.ping, Some(ping) if matches!(ping.check, Check::Exec(_)));
        if is_command && healthcheck.is_none() {
            healthcheck.clone_from(&again.services[&service.name].config.healthcheck);
            assert!(healthcheck.is_some(), "{}", service.name);
        }
        // A job is one for our reader if another service waits for it.
        match (service.kind, jobs.contains(service.service.as_str())) {
            (Kind::Job(_), true) => expected.kind = again.services[&service.name].kind,
            (Kind::Job(job), false) => {
                expected.kind = Kind::Service;
                *restart = if job.retries == 0 { RestartPolicy::No } else { RestartPolicy::OnFailure(job.retries) };
            }
            (Kind::Service, _) => {}
        }
        expected.update = Update { min_ready: None, on_failure: Default::default(), ..service.update };
        // Outputs: their users do not depend on their producers.
        let found = &again.services[&service.name];
        let loaded = specs.services.iter().find(|loaded| *loaded.spec.container.name.as_str() == *service.service);
        let unsaid = loaded.unwrap().uses.iter().filter_map(|output| output.field.strip_prefix("env."));
        unsaid.for_each(|name| drop(expected.env.remove(name)));
        expected.dependencies.retain(|dependency| found.dependencies.iter().any(|it| it.name == dependency.name));
        for dependency in &mut expected.dependencies {
            let Dependency { name, condition, .. } = dependency;
            let is_job = jobs.contains(name.as_str());
            match condition {
                Condition::Ready if is_job => *condition = Condition::Succeeded,
                Condition::Ready if !desired.services.contains_key(name.as_str()) => *condition = Condition::Started,
                Condition::Ready if !healthy(name) => *condition = Condition::Started,
                _ => {}
            }
        }
        content(&expected)
    });
    services.collect()
}

/// Exports specs and reads the file again.
#[track_caller]
fn assert_round_trip(directory: &Path, environment: &Variables) {
    let specs = read(directory, environment, &Profiles::all()).unwrap_or_else(|error| panic!("{error}"));
    let yaml = compose_yaml(&exported(&specs, directory, &[]));
    let desired = resolve(&specs, context(directory));
    let parent = directory.parent().unwrap();
    let again = resolve(&read_compose(parent, &yaml, environment), context(parent));
    let found: Vec<String> = again.services.values().map(content).collect();
    assert_eq!(expected(&specs, &desired, &again).join("\n"), found.join("\n"), "{yaml}");
    assert_eq!((&again.group, &again.network), (&desired.group, &desired.network));
    // The same volumes and networks of the engine.
    let volumes = |desired: &Desired| -> BTreeSet<String> {
        let mounts = desired.services.values().flat_map(|service| &service.config.volumes);
        let named = mounts.filter_map(|mount| match &mount.source {
            VolumeSource::Named(name) => Some(name.clone()),
            _ => None,
        });
        named.collect()
    };
    assert_eq!(volumes(&again), volumes(&desired));
    let used = |desired: &Desired| -> BTreeMap<String, drillmaster::desired::Network> {
        let used: BTreeSet<&String> = desired
            .services
            .values()
            .flat_map(|service| match &service.config.network {
                Placement::Networks(endpoints) => endpoints.keys().collect::<Vec<_>>(),
                Placement::Mode(NetworkMode::Host | _) => Vec::new(),
            })
            .collect();
        let networks = desired.networks.iter().filter(|(name, _)| used.contains(name));
        let without_place = |network: &drillmaster::desired::Network| {
            let enable_ipv6 = network.ipv6();
            drillmaster::desired::Network { location: String::new(), enable_ipv6, ..network.clone() }
        };
        networks.map(|(name, network)| (name.clone(), without_place(network))).collect()
    };
    assert_eq!(used(&again), used(&desired), "{yaml}");
}

#[test]
fn exported_examples_are_read_as_the_same_services() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let examples = fs::read_dir(root.join("examples")).unwrap().map(|entry| entry.unwrap().path());
    let mut directories: Vec<PathBuf> = examples.filter(|path| path.is_dir()).collect();
    directories.push(root.join("specs"));
    assert!(directories.len() > 10);
    for directory in directories {
        assert_round_trip(&directory, &variables(&[("HOME", "/home/ann"), ("GREETING", "hello")]));
    }
}

#[test]
fn exported_specs_of_the_book_are_read_as_the_same_services() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    let pages = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    for page in pages.chain([root.join("README.md")]).filter(|page| page.extension().is_some_and(|it| it == "md")) {
        let text = fs::read_to_string(page).unwrap();
        for block in text.split("```yaml\n").skip(1) {
            let (_home, directory) = written(block.split("```").next().unwrap());
            assert_round_trip(&directory, &variables(&[("DB_PASSWORD", "secret")]));
            seen += 1;
        }
    }
    assert!(seen >= 9, "{seen} specs");
}

#[test]
fn exported_shop_is_read_as_the_same_services() {
    let without = ["capture: total\n", "TOTAL: \"${context.total}\", ", "  cpuset_mems", ", cpuset_mems: \"0\""];
    let text = without.iter().fold(SHOP.to_owned(), |text, word| text.replace(word, ""));
    let (_home, directory) = written(&text);
    assert_round_trip(&directory, &variables(SHOP_VARIABLES));
}
