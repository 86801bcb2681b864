//! Whole directories: what is read of them, and what is told when it is wrong.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::{Duration, Instant};

use drillmaster::render::diagnostics;
use drillmaster::spec::model::{self, Service};
use drillmaster::spec::{
    Content, Diagnostic, Input, MAX_FILE_SIZE, Nowhere, SourceFile, Specs, Tree, TreeError, env_file, load,
    no_directory, schema,
};
use proptest::prelude::*;
use serde_json::Value;

/// Loads files given by path: `*.yaml` are specs, `env:NAME` sets a variable, `output:KEY` an output, all others can be read as env files.
fn load_bytes(files: &[(&str, &[u8])]) -> Result<Specs, Vec<Diagnostic>> {
    let file = |path: &str, bytes: &[u8]| SourceFile { path: path.into(), content: Content::Bytes(bytes.into()) };
    let specs: Vec<SourceFile> =
        files.iter().filter(|(path, _)| path.ends_with(".yaml")).map(|(path, bytes)| file(path, bytes)).collect();
    let environment: BTreeMap<String, String> = files
        .iter()
        .filter_map(|(path, bytes)| {
            Some((path.strip_prefix("env:")?.to_owned(), String::from_utf8_lossy(bytes).into_owned()))
        })
        .collect();
    let dotenv = files.iter().find(|(path, _)| *path == ".env").map(|(path, bytes)| file(path, bytes));
    let read = |wanted: &str| {
        let found = files.iter().find(|(path, _)| *path == wanted);
        found.map(|(_, bytes)| bytes.to_vec()).ok_or_else(|| "no such file".to_owned())
    };
    let outputs = files.iter().filter_map(|(path, bytes)| {
        Some((path.strip_prefix("output:")?.to_owned(), String::from_utf8_lossy(bytes).into_owned()))
    });
    let context = outputs.collect();
    // Directories to build from are those that hold a file.
    let tree = |build: &model::Build| {
        let holds = |path: &str| files.iter().any(|(file, _)| file.starts_with(path));
        let dockerfile = format!("{}/{}", build.context, build.dockerfile.as_deref().unwrap_or("Dockerfile"));
        match (holds(&format!("{}/", build.context)), holds(&dockerfile)) {
            (true, true) => Ok(Tree { context: build.context.clone(), dockerfile, digest: "00ff".into() }),
            (true, false) => Err(TreeError::Dockerfile("there is no such file".into())),
            (false, _) => Err(TreeError::Context("there is no such directory".into())),
        }
    };
    load(&Input {
        dir: "specs",
        files: &specs,
        dotenv: dotenv.as_ref(),
        environment: &environment,
        context: &context,
        read: &read,
        tree: &tree,
        reach: &Nowhere,
    })
}

fn load_dir(files: &[(&str, &str)]) -> Result<Specs, Vec<Diagnostic>> {
    load_bytes(&files.iter().map(|(path, text)| (*path, text.as_bytes())).collect::<Vec<_>>())
}

fn told(errors: &[Diagnostic]) -> String {
    diagnostics::render(errors, false)
}

fn one(text: &str) -> Service {
    match load_dir(&[("app.yaml", text)]) {
        Ok(specs) => specs.services.into_iter().next().unwrap().spec,
        Err(errors) => panic!("{}", told(&errors)),
    }
}

fn messages(text: &str) -> Vec<String> {
    let errors = load_dir(&[("app.yaml", text)]).err().unwrap_or_default();
    errors.into_iter().map(|error| error.message).collect()
}

const ALL_FIELDS: &str = r#"# yaml-language-server: $schema=../schema/spec.json
kind: Service
name: api
image: shop/api
build: {context: ./api, dockerfile: Dockerfile.dev, target: release, args: {VERSION: 1.10}, labels: {tier: web}}
command: [serve, --port, 80, --version, 1.10]
entrypoint: "/entry 'two words'"
user: 1000
working_dir: /srv
env: {LOG: info, PORT: 8080, RATIO: 1.10, ON: yes, FLAG: true, EMPTY: "", LEVEL: "${LEVEL:-debug}"}
env_file: common.env
ports: ["8080:80", 9000, "0.0.0.0:53:53/udp", {container: 443, host: 8443, address: "::1"}]
volumes: ["data:/data", "./conf:/conf:ro", /cache, {type: bind, source: ./x, target: /x, read_only: true}]
tmpfs: [/run, "/tmp:size=64m"]
dependencies: [appdb, {name: cache, condition: started, restart: true}]
ping: {http: {port: 80, path: /healthz, status: 204}, interval: 100ms, timeout: 60s}
health: {interval: 10s, retries: 3, action: replace}
healthcheck: {test: [CMD, curl, localhost], interval: 5s, retries: 3}
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
resources: {memory: 256m, cpus: 0.5, pids: 100}
labels: {tier: web, "1": 2}
hostname: api.local
aliases: [www]
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
"#;

const ALL_FIELDS_OF_A_JOB: &str = r#"kind: Job
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
tmpfs: /run
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
extra_hosts: ["host.docker.internal:host-gateway"]
cap_add: [CHOWN]
cap_drop: [ALL]
privileged: true
read_only: true
init: true
shm_size: 1m
ulimits: {nofile: 1024}
pull: missing
---
kind: Job
name: seed
image: shop/api:1
"#;

const OTHERS: &str = "name: appdb\nimage: postgres\n---\nname: cache\nimage: redis\n---\nkind: Group\nname: shop\n\
                      network: shop-net\non: {up: {run: [./greet.sh]}, down: [], reload: {http: 'http://localhost'}}\n";

#[test]
fn outputs_are_text_or_numbers_once_they_are_known() {
    let text = "name: a\nimage: 'x:${context.tag}'\nports: ['${context.port}:80']\nenv: {A: 'u${context.port}'}\n\
                resources: {pids: '${context.pids}'}\n---\nkind: Job\nname: b\nimage: x\n";
    let known = [("a.yaml", text), ("output:tag", "2"), ("output:port", "8080"), ("output:pids", "17")];
    let specs = load_dir(&known).unwrap_or_else(|errors| panic!("{}", told(&errors)));
    let spec = &specs.services[0].spec;
    assert_eq!((spec.container.image.as_ref().unwrap().as_str(), spec.container.env["A"].as_str()), ("x:2", "u8080"));
    assert_eq!((spec.container.ports[0].host, spec.container.resources.pids), (Some(8080), Some(17)));
    assert!(specs.services[0].uses.iter().all(|found| found.known));
    // Before, nothing of it is wrong, and what it is made of is told.
    let specs = load_dir(&[("a.yaml", text)]).unwrap_or_else(|errors| panic!("{}", told(&errors)));
    let uses = &specs.services[0].uses;
    let fields: Vec<(&str, &str)> = uses.iter().map(|found| (found.field.as_str(), found.key.as_str())).collect();
    assert_eq!(fields, [("image", "tag"), ("ports.0", "port"), ("env.A", "port"), ("resources.pids", "pids")]);
    assert!(uses.iter().all(|found| !found.known));
}

#[test]
fn every_field_is_read() {
    let files =
        [("a/all.yaml", ALL_FIELDS), ("b.yaml", OTHERS), ("common.env", "A=1\n"), ("./api/Dockerfile.dev", "FROM x")];
    let specs = load_dir(&files).unwrap_or_else(|errors| panic!("{}", told(&errors)));
    assert_eq!(
        specs.services.iter().map(|s| s.spec.container.name.as_str()).collect::<Vec<_>>(),
        ["api", "appdb", "cache"]
    );
    assert_eq!(specs.services[0].source.to_string(), "a/all.yaml:3");
    assert_eq!(specs.services[2].source.to_string(), "b.yaml:4");
    assert_eq!(specs.services[0].env_files, [BTreeMap::from([("A".to_owned(), "1".to_owned())])]);
    assert_eq!(specs.reads, BTreeSet::from(["common.env".to_owned()]));
    assert_eq!(specs.variables, BTreeSet::from(["LEVEL".to_owned()]));
    let group = specs.group.as_ref().map(|group| (&group.spec, &group.source));
    insta::assert_debug_snapshot!("every_field", (&specs.services[0].spec, group));
}

#[test]
fn every_field_of_a_job_is_read() {
    let files =
        [("a.yaml", ALL_FIELDS_OF_A_JOB), ("b.yaml", OTHERS), ("common.env", "A=1\n"), ("./api/Dockerfile", "FROM x")];
    let specs = load_dir(&files).unwrap_or_else(|errors| panic!("{}", told(&errors)));
    let names: Vec<&str> = specs.services.iter().map(|s| s.spec.container.name.as_str()).collect();
    assert_eq!(names, ["appdb", "cache", "migrate", "seed"]);
    assert_eq!(specs.services[2].source.to_string(), "a.yaml:2");
    let job = &specs.services[2];
    insta::assert_debug_snapshot!("every_field_of_a_job", (&job.spec, &job.source, &job.env_files, &job.tree));
    assert_eq!(specs.services[3].spec.kind, model::Kind::Job(model::Job::default()));
}

#[test]
fn the_same_said_in_another_way_is_the_same() {
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
fn fields_without_a_value_are_as_good_as_left_out() {
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
    let specs = load_dir(&files).unwrap_or_else(|errors| panic!("{}", told(&errors)));
    let service = &specs.services[0].spec;
    assert_eq!(service.container.image.as_ref().map(AsRef::as_ref), Some("nginx"));
    assert!(service.container.privileged && service.container.read_only);
    assert_eq!(service.container.ports[0].to_string(), "127.0.0.1:8080:80/tcp");
    assert_eq!(service.ping.as_ref().unwrap().timeout, Duration::from_secs(5));
    assert_eq!(service.container.hostname, None);
    assert_eq!(service.container.resources.pids, Some(8080));
    let env: Vec<_> = service.container.env.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(env, [("ALSO", ""), ("EMPTY", ""), ("NUMBER", "8080"), ("PLAIN", "$HOME"), ("PRICE", "$5")]);
}

/// Wrong directories, each with a name. What is told about them is in the snapshot.
const WRONG: &[(&str, &[(&str, &str)])] = &[
    ("YAML: a quote left open", &[("a.yaml", "name: a\nimage: \"b\ncommand: c\n")]),
    ("YAML: a bracket left open", &[("a.yaml", "name: a\nimage: b\ncommand: [c, d\nports: []\n")]),
    ("YAML: a tab", &[("a.yaml", "name: a\nimage: b\nenv:\n\tA: b\n")]),
    ("YAML: a colon in a value", &[("a.yaml", "name: a\nimage: b\nhostname: a: b\n")]),
    ("YAML: an unknown alias", &[("a.yaml", "name: a\nimage: *b\n")]),
    (
        "YAML: the documents after a syntax error are read all the same",
        &[("a.yaml", "name: a\nimage: @\n---\nname: b\n---\nname: [c\n---\nname: d\nimage: B\n")],
    ),
    ("YAML: a tag", &[("a.yaml", "name: a\nimage: !include b\n")]),
    ("YAML: no map", &[("a.yaml", "- name: a\n")]),
    ("duplicate key", &[("a.yaml", "name: a\nimage: b\nenv:\n  A: 1\n  B: 2\n  A: 3\n")]),
    ("unknown field", &[("a.yaml", "name: a\nimgae: b\nports: [{container: 80, hst: 1}]\nping: {tpc: 80}\n")]),
    ("field of compose", &[("a.yaml", "name: a\nimage: b\ndepends_on: [c]\nenvironment: {A: b}\n")]),
    (
        "builds",
        &[
            (
                "a.yaml",
                concat!(
                    "name: a\nimage: shop/a:1\nbuild: ./there\npull: always\n---\n",
                    "name: b\nbuild: ./nowhere\n---\n",
                    "name: c\nbuild: {context: ./there, dockerfile: Dockerfile.dev}\n---\n",
                    "name: d\nbuild: {context: ./there, labels: {drillmaster.group: x, dev.drillmaster.y: z}}\n---\n",
                    "name: e\nbuild: https://example.com/e.git\n---\n",
                    "name: f\nbuild: ''\n---\n",
                    "name: g\nbuild: {dockerfile: x, arg: {A: b}}\n---\n",
                    "name: h\nbuild: {context: ./there, target: '', args: [A]}\n---\n",
                    "name: i\nbuild: [./there]\n---\nkind: Job\nname: j\n---\nname: k\nbuld: ./there\n---\n",
                    "name: l\nbuild: ./nothing\nimage: B\n",
                ),
            ),
            ("./there/Dockerfile", "FROM x"),
        ],
    ),
    (
        "containers that run at once",
        &[(
            "a.yaml",
            concat!(
                "name: api\nimage: b\nreplicas: 2\nports: [\"8080:80\", \"90\"]\nvolumes: [\"data:/data\"]\n",
                "---\nname: api-1\nimage: b\n---\nname: api-3\nimage: b\n---\nname: api-01\nimage: b\n",
                "---\nname: web\nimage: b\nupdate: {order: start-first}\nports: [\"80:80\"]\n",
                "volumes: [\"data:/data\", \"./conf:/conf:ro\", \"./src:/src\", /tmp]\nhostname: www\naliases: [www]\n",
                "---\nname: many\nimage: b\nreplicas: 1001\n---\nname: none\nimage: b\nreplicas: -1\n",
                "---\nname: odd\nimage: b\nupdate: {order: rolling, min_ready: 2, on_failure: stop, delay: 1s}\n",
            ),
        )],
    ),
    (
        "field of another kind",
        &[(
            "a.yaml",
            concat!(
                "kind: Job\nname: a\nimage: b\nping: {tcp: 80}\nrestart: always\npost_start: {run: [x]}\n",
                "on: {ready: {run: [x]}, suceeded: {run: [x]}}\nupdate: {}\nhealthcheck: {disable: true}\n",
                "---\nname: c\nimage: b\nretries: 3\non: {succeeded: {run: [x]}}\n---\nkind: Group\nimage: b\non: {ready: {run: [x]}}\n",
            ),
        )],
    ),
    (
        "jobs and dependencies",
        &[(
            "a.yaml",
            concat!(
                "kind: Job\nname: a\nimage: x\ndependencies: [{name: c, condition: succeeded}, {name: j, condition: done}]\n",
                "---\nkind: job\nname: b\nimage: x\n---\nname: c\nimage: x\ndependencies: [b, f]\n",
                "---\nkind: Job\nname: d\nimage: x\n---\nname: d\nimage: x\n---\nkind: Job\nname: e\nimage: x\n",
                "---\nkind: Job\nname: e\nimage: x\n---\nkind: Job\nname: f\nimage: x\ndependencies: [c]\n",
                "---\nkind: Job\nname: g\nimage: x\nretries: -1\nrerun: sometimes\n---\nkind: Job\nname: j\nimage: x\nrerun: alway\n",
            ),
        )],
    ),
    (
        "hooks",
        &[(
            "a.yaml",
            concat!(
                "name: a\nimage: b\npre_start: {exec: [x]}\npost_start: [{run: [x], exec: [y]}, {timeout: 5s}, {run: []}, {rnu: [x]}]\n",
                "pre_stop: ./drain.sh\npost_stop: [[x]]\non: {redy: {run: [x]}, exited: {exec: [x]}, unhealthy: {run: [x], timeout: 0s}}\n",
                "---\nname: c\nimage: b\npost_start: {run: [x], capture: an-id}\non: [{run: [x]}]\n",
                "---\nkind: Group\non: {up: {exec: [x]}, start: {run: [x]}}\n",
            ),
        )],
    ),
    (
        "hooks over http",
        &[(
            "a.yaml",
            concat!(
                "name: a\nimage: b\non:\n  ready:\n  - http: https://example.com/\n  - http: localhost:80\n  - http: {url: 'http://a b/'}\n",
                "  - http: {method: POST}\n  - http: {url: 'http://a', method: post, status: 42}\n",
                "  - http: {url: 'http://a', headers: {'a b': c}}\n  - http: {url: 'http://a', headers: {a: \"b\\nc\"}}\n",
                "  - http: {url: 'http://ann:secret@a', methd: GET}\n  - http: http://a:0\n  - http: 80\n",
            ),
        )],
    ),
    (
        "unknown kind",
        &[("a.yaml", "kind: Servise\nname: a\nimage: b\n---\nkind: Pod\nname: b\n---\nkind: [x]\nname: c\n")],
    ),
    (
        "wrong types",
        &[(
            "a.yaml",
            concat!(
                "name: 5\nimage: [b]\nports: 80\nenv: [A=1]\ninit: yes\nprivileged: 1\nread_only: \"true\"\nhostname: 12\n",
                "labels: {a: [b]}\nresources: {pids: many, cpus: [1]}\nhealth: {retries: -1}\naliases: web\n",
                "cap_add: {A: b}\nping: 80\npull: [x]\ncommand: {a: b}\ntmpfs: 5\n",
            ),
        )],
    ),
    ("missing name and image", &[("a.yaml", "hostname: x\n")]),
    (
        "missing parts",
        &[(
            "a.yaml",
            "name: a\nimage: b\nports: [{host: 80}]\ndependencies: [{restart: true}]\nvolumes: [{source: a}]\nextra_hosts: [{name: x}]\n",
        )],
    ),
    ("empty values", &[("a.yaml", "name:\nimage: \"\"\nenv: {A: }\nports: [~]\n")]),
    ("empty elements", &[("a.yaml", "name: a\nimage: b\nports:\n  -\n  - 80\ncommand:\n  -\n")]),
    ("invalid names", &[("a.yaml", "name: Web\nimage: b\n---\nname: a.new\nimage: b\n---\nname: -a\nimage: b\n")]),
    (
        "invalid images",
        &[(
            "a.yaml",
            concat!(
                "name: a\nimage: Nginx\n---\nname: b\nimage: a b\n---\nname: c\nimage: 'a:b:c'\n---\nname: d\nimage: a@sha256:12\n",
                "---\nname: e\nimage: a//b\n---\nname: f\nimage: a:-x\n",
            ),
        )],
    ),
    (
        "invalid ports",
        &[(
            "a.yaml",
            concat!(
                "name: a\nimage: b\nports:\n- 8000-8010:8000-8010\n- \"80:80:80:80\"\n- web:80\n- 80/http\n- 0\n- 99999:80\n- 127.0.0.1:80\n",
                "- localhost:80:80\n- 0:80\n- ':80'\n- 80:\n- {container: 80, address: here}\n",
            ),
        )],
    ),
    (
        "invalid mounts",
        &[(
            "a.yaml",
            concat!(
                "name: a\nimage: b\nvolumes: [data, 'data:data', 'a/b:/c', 'a:/b:z', 'a:/b:ro:x', 'Data:/x', ':/x']\ntmpfs: run\n",
                "---\nname: c\nimage: b\nvolumes: [{type: bind, target: /a}, {type: volume, source: ./a, target: /b}, {target: x}]\n",
            ),
        )],
    ),
    (
        "invalid durations",
        &[("a.yaml", "name: a\nimage: b\nstop_timeout: 10\nping: {tcp: 80, interval: 1 hour, timeout: soon}\n")],
    ),
    (
        "invalid pings",
        &[(
            "a.yaml",
            concat!(
                "name: a\nimage: b\nping: {tcp: 80, log: x}\n---\nname: b\nimage: b\nping: {timeout: 1s}\n---\nname: c\nimage: b\nping: {log: '('}\n",
                "---\nname: d\nimage: b\nping: {exec: []}\n---\nname: e\nimage: b\nping: {http: {path: x, status: 1}}\n",
                "---\nname: f\nimage: b\nping: {tcp: 80, interval: 0s}\n",
            ),
        )],
    ),
    (
        "other invalid values",
        &[(
            "a.yaml",
            concat!(
                "name: a\nimage: b\nrestart: false\nstop_signal: SIGFOO\nshm_size: 5x\nresources: {memory: 1m, cpus: 0}\ncap_add: [a b]\n",
                "extra_hosts: [x, 'a:b']\nulimits: {nofile: x, nproc: {soft: 2, hard: 1}}\nenv: {'A B': x, 'A=B': x}\ncommand: \"it's\"\n",
                "labels: {drillmaster.group: x}\nhealthcheck: {interval: 1s}\npull: alway\nhealth: {action: explode}\n",
            ),
        )],
    ),
    ("duplicate service across files", &[("a.yaml", "name: web\nimage: b\n"), ("b/c.yaml", "image: c\nname: web\n")]),
    ("two groups", &[("a.yaml", "kind: Group\nname: a\n"), ("b.yaml", "kind: Group\n---\nname: b\nimage: c\n")]),
    (
        "unknown dependency",
        &[
            ("a.yaml", "name: web\nimage: b\ndependencies: [apdb, {name: nowhere}, web, appdb, appdb]\n"),
            ("b.yaml", "name: appdb\nimage: b\n"),
        ],
    ),
    (
        "dependency cycles",
        &[
            ("a.yaml", "name: a\nimage: x\ndependencies: [b]\n---\nname: b\nimage: x\ndependencies: [{name: c}, d]\n"),
            (
                "b.yaml",
                "name: c\nimage: x\ndependencies: [a]\n---\nname: d\nimage: x\ndependencies: [b, e]\n---\nname: e\nimage: x\n",
            ),
        ],
    ),
    (
        "one host port twice",
        &[
            (
                "a.yaml",
                "name: a\nimage: x\nports: ['8080:80', '127.0.0.1:8080:81', '5353:53/udp', '127.0.0.2:8080:80']\n",
            ),
            (
                "b.yaml",
                "name: b\nimage: x\nports: ['5353:53', '0.0.0.0:5353:53/udp', '[::1]:8080:80', {container: 1, host: 8080}]\n",
            ),
        ],
    ),
    (
        "one target twice",
        &[("a.yaml", "name: a\nimage: x\nvolumes: ['a:/data', './b:/data/']\ntmpfs: [/run, /data]\n")],
    ),
    (
        "env files",
        &[
            ("a.yaml", "name: a\nimage: x\nenv_file: [no.env, bad.env]\n---\nname: b\nimage: x\nenv_file: bad.env\n"),
            ("bad.env", "A=1\nwhat is this\nB='x\n"),
        ],
    ),
    ("dotenv", &[("a.yaml", "name: a\nimage: x\n"), (".env", "A = 1\n")]),
    (
        "variables",
        &[
            (
                "a.yaml",
                concat!(
                    "name: a\nimage: ${IMAGE}\nhostname: \"x-${HOSTNAM}\"\nuser: ${U:?say who}\nworking_dir: ${A\n",
                    "command: >\n  first\n  and ${SECOND}\nenv: {A: \"${context.user}\", B: '${}'}\n",
                ),
            ),
            ("env:HOSTNAME", "h"),
        ],
    ),
    (
        "outputs that cannot come",
        &[
            (
                "a.yaml",
                concat!(
                    "name: 'a${context.user_id}'\nimage: x\ndependencies: ['${context.user_id}']\n---\n",
                    "name: b\nimage: x\nenv: {A: '${context.user}', B: '${context.token}', C: '${context.known}'}\n",
                    "post_start: {http: 'http://localhost/${context.token}', capture: token}\n---\n",
                    "name: c\nimage: x\ncommand: ['${context.token}']\non: {ready: {http: 'http://c', capture: user_id}}\n",
                    "capture: x\n---\nname: d\nimage: x\npre_start: {http: 'http://d', capture: token}\n---\n",
                    "name: e\nimage: x\nenv: {A: '${context.round}'}\npost_start: {http: 'http://e', capture: trip}\n---\n",
                    "name: f\nimage: x\nenv: {A: '${context.trip}'}\npost_start: {http: 'http://f', capture: round}\n",
                ),
            ),
            ("output:known", "1"),
        ],
    ),
    (
        "outputs that are no good",
        &[
            ("a.yaml", "name: a\nimage: x\nports: ['${context.port}:80']\nresources: {pids: '${context.pids}'}\n"),
            ("output:port", "high"),
            ("output:pids", "17"),
        ],
    ),
    ("no document", &[("a.yaml", "# nothing\n---\n---\n"), ("b.yaml", "")]),
    ("no file", &[]),
];

#[test]
fn every_error_is_reported_with_its_place() {
    let mut out = String::new();
    for (name, files) in WRONG {
        let errors = load_dir(files).expect_err(name);
        let _ = write!(out, "=== {name}\n\n{}\n", told(&errors));
    }
    insta::assert_snapshot!("wrong", out);
}

#[test]
fn non_utf8_files_are_reported() {
    let wide: Vec<u8> = "name: a\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let wide = [&[0xff, 0xfe], wide.as_slice()].concat();
    let errors = load_bytes(&[("a.yaml", b"name: a\nimage: caf\xe9\n"), ("b.yaml", &wide)]).unwrap_err();
    let file = |path: &str, content: Content| SourceFile { path: path.into(), content };
    let files = [
        file("large.yaml", Content::TooLarge(50 << 20)),
        file("locked.yaml", Content::Unreadable("permission denied".into())),
        file("long.yaml", Content::Bytes(vec![b'#'; (MAX_FILE_SIZE + 1) as usize])),
    ];
    let input = Input {
        dir: "specs/",
        files: &files,
        dotenv: None,
        environment: &BTreeMap::new(),
        context: &BTreeMap::new(),
        read: &|_| Err("not reached".into()),
        reach: &Nowhere,
        tree: &|_| Err(TreeError::Context("not reached".into())),
    };
    let more = load(&input).unwrap_err();
    let none = no_directory("specs");
    insta::assert_snapshot!("no_text", [told(&errors), told(&more), told(&[none])].join("\n"));
}

#[test]
fn for_programs() {
    let errors = load_dir(&[("a.yaml", "name: a\nimgae: é\n"), ("b.yaml", "name: a\nimage: b\n")]).unwrap_err();
    let errors = [errors, vec![no_directory("x")]].concat();
    insta::assert_snapshot!("json", serde_json::to_string_pretty(&diagnostics::to_json(&errors)).unwrap());
}

#[test]
fn color_is_asked_for() {
    let errors = load_dir(&[("a.yaml", "name: A\nimage: b\n")]).unwrap_err();
    assert!(!diagnostics::render(&errors, false).contains('\x1b'));
    assert!(diagnostics::render(&errors, true).contains("\x1b["));
    assert_eq!(diagnostics::render(&[], true), "");
}

#[test]
fn nothing_in_a_file_reaches_the_terminal_as_it_is() {
    let long = format!(
        "name: a\nimage: b\nhostname: \"{}\\e[31m\" # \u{1b}[2J\u{9b}31m\u{202e}\nno: \u{1b}[2J\n",
        "x".repeat(10_000)
    );
    let errors = load_dir(&[("a.yaml", &long)]).unwrap_err();
    let text = told(&errors);
    assert!(text.len() < 3000, "{}", text.len());
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    assert!(!text.contains('\u{202e}'));
    let errors = load_dir(&[("a.yaml", &format!("name: a\n\"k\\e[2J{}\": 1\n", "y".repeat(5000)))]).unwrap_err();
    assert!(told(&errors).lines().all(|line| line.chars().count() < 300), "{}", told(&errors));
}

#[test]
fn one_file_tells_at_most_a_hundred_errors() {
    let text: String = (0..500).map(|n| format!("name: a{n}\nimage: B\n---\n")).collect();
    let errors = load_dir(&[("a.yaml", &text)]).unwrap_err();
    assert_eq!(errors.len(), 101);
    assert_eq!(errors[100].message, "400 more errors in `specs/a.yaml`");
    let text: String = (0..500).map(|n| format!("field{n}: x\n")).collect();
    assert_eq!(load_dir(&[("a.yaml", &text)]).unwrap_err().len(), 100);
}

/// What grows without bound would not end while anybody waits; how fast the rest is, benchmarks say.
fn bounded<T>(run: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = run();
    assert!(start.elapsed() < Duration::from_secs(60), "it grows without bound");
    result
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..30 {
        let _ = writeln!(bomb, "a{n}: &a{n} [{}]", vec![format!("*a{}", n - 1); 10].join(", "));
    }
    let errors = bounded(|| messages(&bomb));
    assert_eq!(errors, ["the file holds more than 100,000 values, aliases expanded"]);

    let text = format!("a: &a {}\nb: [{}]\n", "x".repeat(500_000), "*a, ".repeat(10_000));
    let errors = bounded(|| messages(&text));
    assert_eq!(errors, ["the file holds more than 8 MiB of text, aliases expanded"]);

    let mut merges = "x0: &x0 {k0: 1, l0: 1}\n".to_owned();
    for n in 1..60 {
        let _ = writeln!(merges, "x{n}: &x{n} {{<<: [*x{0}, *x{0}], k{n}: 1}}", n - 1);
    }
    bounded(|| messages(&merges));
    assert_eq!(messages("name: a\nimage: &x [*x]\n")[0], "undefined alias `*x`");
    assert_eq!(
        messages("name: &n a\nimage: b\n---\nname: *n\nimage: b\n")[0],
        "undefined alias `*n`"
    );
}

#[test]
fn nesting_without_end_is_refused() {
    let deep = "nested more than 64 levels deep";
    for text in
        ["[".repeat(100_000), "{a: ".repeat(60_000), "- ".repeat(100_000), "? ".repeat(100_000), "a: [".repeat(65)]
    {
        let errors = bounded(|| messages(&text));
        assert!(errors.iter().any(|e| e == deep || e.contains("YAML")), "{errors:?}");
    }
    let indented: String = (0..200).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    assert_eq!(messages(&indented), [deep]);
    // Aliases must not deepen it either.
    let mut text = "x0: &x0 [x]\n".to_owned();
    for n in 1..70 {
        let _ = writeln!(text, "x{n}: &x{n} [*x{}]", n - 1);
    }
    assert_eq!(messages(&text), [deep]);
    assert!(
        messages(&format!("name: a\nimage: b\ncommand: {}{}", "[".repeat(60), "]".repeat(60)))[0]
            .contains("found a list")
    );
}

#[test]
fn large_files_of_any_shape_are_read_or_refused() {
    let fill = |unit: &str| unit.repeat((MAX_FILE_SIZE as usize - 100) / unit.len());
    for text in [
        fill("a"),
        fill("[a, "),
        fill("{a: b}, "),
        fill("- a\n"),
        fill("'a' "),
        fill("\"\\x41"),
        fill("a: b\n"),
        fill("---\n"),
        fill("&a "),
        fill("${A:-"),
        fill("x\n\n\n"),
        fill("# c\n"),
        fill("é: "),
        format!("[{}]", fill("a, ")),
        format!("[{}", fill("{a: b}, ")),
        format!("name: a\nimage: b\ncommand: |\n{}", fill("  ${A}\n")),
        format!("name: a\nimage: b\nenv:\n{}", (0..80_000).map(|n| format!(" A{n}: x\n")).collect::<String>()),
        (0..20_000).map(|n| format!("name: s{n}\n@\n---\n")).collect(),
    ] {
        bounded(|| messages(&text));
    }
}

#[test]
fn five_thousand_services_load() {
    let texts: Vec<(String, String)> = (0..5000)
        .map(|n| {
            let dependency = if n == 0 { String::new() } else { format!("s{}", n - 1) };
            let port = 10_000 + n;
            let text = format!(
                "name: s{n}\nimage: shop/api:1\nports: [\"{port}:80\"]\nenv: {{A: b, N: {n}}}\ndependencies: [{dependency}]\n"
            );
            (format!("{n}.yaml"), text)
        })
        .collect();
    let files: Vec<(&str, &str)> = texts.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let specs = bounded(|| load_dir(&files));
    assert_eq!(specs.map(|specs| specs.services.len()).map_err(|errors| told(&errors)), Ok(5000));

    // A ring of all of them is one cycle, told in one line.
    let ring = [&files[1..], &[("0.yaml", "name: s0\nimage: a\ndependencies: [s4999]\n")]].concat();
    let errors = bounded(|| load_dir(&ring)).unwrap_err();
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0].message.starts_with("dependency cycle of 5000 services: s0 -> s4999 -> "),
        "{}",
        errors[0].message
    );
}

/// Pieces of YAML that are likely to go wrong together.
fn yaml_soup() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "name",
        "image",
        "ports",
        "env",
        "kind",
        "ping",
        "volumes",
        "Group",
        "Job",
        "on",
        "run",
        "http",
        ": ",
        ":",
        " ",
        "\n",
        "\n  ",
        "\n- ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "'",
        "\"",
        "|",
        ">",
        "&a ",
        "*a",
        "<<",
        "!t ",
        "!!str ",
        "!!int ",
        "#",
        "---\n",
        "...\n",
        "\t",
        "\r\n",
        "é",
        "\u{feff}",
        "\0",
        "${",
        "${A}",
        "${A:-",
        "}",
        "$",
        "$$",
        "? ",
        "%YAML 1.2\n",
        "80",
        "8080:80",
        "~",
        "true",
        "1e400",
        "0x",
        "-",
        "\\",
        "\u{85}",
        "\u{2028}",
        "tcp",
        "container",
        "x-",
        "null",
        ".",
        "/",
        "@",
    ]);
    prop::collection::vec(pieces, 0..60).prop_map(|pieces| pieces.concat())
}

/// A good file with some characters replaced, removed or doubled.
fn mutated() -> impl Strategy<Value = String> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0..4usize, yaml_soup()), 1..6);
    edits.prop_map(|edits| {
        let mut text: Vec<char> = format!("{ALL_FIELDS}---\n{ALL_FIELDS_OF_A_JOB}---\n{OTHERS}").chars().collect();
        for (index, kind, soup) in edits {
            let at = index.index(text.len());
            let end = (at + kind * 3).min(text.len());
            text.splice(at..end, soup.chars().take(4));
            if text.is_empty() {
                text.push('x');
            }
        }
        text.into_iter().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics_and_every_error_has_a_place(text in prop_oneof![yaml_soup(), mutated()]) {
        if let Err(errors) = load_dir(&[("a.yaml", &text), ("env:A", "x"), ("common.env", "A=1")]) {
            prop_assert!(!errors.is_empty());
            for error in &errors {
                if let Some(place) = &error.place {
                    prop_assert!(place.file.text().get(place.span.clone()).is_some());
                    prop_assert!(place.line() >= 1 && place.column() >= 1);
                }
            }
            let shown = told(&errors);
            prop_assert!(!shown.contains(|c: char| c.is_control() && c != '\n'));
            diagnostics::render(&errors, true);
            diagnostics::to_json(&errors);
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = load_bytes(&[("a.yaml", &bytes), (".env", &bytes)]).map_err(|errors| told(&errors));
        let _ = env_file::parse(&String::from_utf8_lossy(&bytes));
    }
}

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
