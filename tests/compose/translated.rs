//! The documents that a project is translated into.

use drillmaster::spec::Diagnostic;
use drillmaster::spec::compose::Project;
use drillmaster::spec::compose::translate::{Translation, secret_fields, translate};
use drillmaster::spec::node::{Node, Resolved, Value as Tree};
use serde_json::{Value, json};

use crate::facts::{CASE, Case, in_memory};

fn json_of(node: &Node) -> Value {
    match &node.value {
        Tree::Scalar(scalar) => match scalar.resolve() {
            Resolved::Null => Value::Null,
            Resolved::Bool(flag) => flag.into(),
            Resolved::Int(number) => i64::try_from(number).unwrap().into(),
            Resolved::Float(number) => number.into(),
            Resolved::Text(text) => text.into(),
        },
        Tree::Seq(items) => items.iter().map(json_of).collect(),
        Tree::Map(entries) => entries
            .iter()
            .map(|entry| (entry.key.text.clone(), json_of(&entry.value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        _ => Value::Null,
    }
}

fn line(diagnostic: &Diagnostic) -> String {
    let place = diagnostic.location.as_ref().unwrap();
    format!("{}:{} {}", place.line(), place.column(), diagnostic.message)
}

fn project(files: &'static [(&'static str, &'static str)], arguments: &'static [&'static str]) -> Project {
    match in_memory(&Case { files, arguments, ..CASE }).project {
        Some(Ok(project)) => project,
        Some(Err(errors)) => panic!("{}", errors[0]),
        None => panic!("no file"),
    }
}

/// The documents by their names, and what was said.
fn documents(translation: &Translation) -> (Value, Vec<String>, Vec<String>) {
    let named = translation.documents.iter().map(|document| {
        let name = document.root.get("name").and_then(Node::text).unwrap().to_owned();
        let mut fields = json_of(&document.root);
        fields.as_object_mut().unwrap().remove("name");
        (name, fields)
    });
    let lines = |all: &[Diagnostic]| all.iter().map(line).collect::<Vec<_>>();
    let notes = [lines(&translation.notes), lines(&translation.tips)].concat();
    (named.collect::<serde_json::Map<_, _>>().into(), translation.errors().map(line).collect(), notes)
}

/// Translates services; returns the documents, what cannot be translated and what was noted.
fn translated(text: &'static str) -> (Value, Vec<String>, Vec<String>) {
    let files: &'static [(&str, &str)] = Box::leak(Box::new([("compose.yaml", text)]));
    documents(&translate(&project(files, &[])))
}

/// The document `a` of a service with these fields, without image and name.
fn fields(fields: &'static str) -> (Value, Vec<String>, Vec<String>) {
    let text: &'static str = Box::leak(format!("services:\n  a: {{image: x, {fields}}}\n").into_boxed_str());
    let (mut documents, errors, notes) = translated(text);
    let mut document = documents["a"].take();
    let map = document.as_object_mut().unwrap();
    map.remove("image");
    (document, errors, notes)
}

/// Fields of a service with the fields of the document.
pub const FIELDS: &[(&str, &str)] = &[
    // Of the same name.
    (
        "user: '1', working_dir: /w, hostname: h, init: true, tty: true, stdin_open: true",
        r#"{"user": "1", "working_dir": "/w", "hostname": "h", "init": true, "tty": true, "stdin_open": true}"#,
    ),
    (
        "privileged: true, read_only: 'yes', cap_add: [NET_ADMIN], cap_drop: [ALL]",
        r#"{"privileged": true, "read_only": true, "cap_add": ["NET_ADMIN"], "cap_drop": ["ALL"]}"#,
    ),
    (
        "security_opt: [label=disable], sysctls: [net.core.somaxconn=1], dns: 1.1.1.1",
        r#"{"security_opt": ["label=disable"], "sysctls": {"net.core.somaxconn": "1"}, "dns": ["1.1.1.1"]}"#,
    ),
    (
        "extra_hosts: {h: 1.2.3.4}, expose: [80], group_add: [1000]",
        r#"{"extra_hosts": ["h=1.2.3.4"], "expose": ["80"], "group_add": ["1000"]}"#,
    ),
    (
        "ulimits: {nofile: {soft: '1', hard: 2}, nproc: 3}, stop_signal: INT",
        r#"{"ulimits": {"nofile": {"soft": 1, "hard": 2}, "nproc": 3}, "stop_signal": "INT"}"#,
    ),
    (
        "logging: {driver: local, options: {max-file: 3}}, tmpfs: /t",
        r#"{"logging": {"driver": "local", "options": {"max-file": "3"}}, "tmpfs": ["/t"]}"#,
    ),
    ("cap_add: [], hostname: '', platform: '', dns: []", "{}"),
    // Commands: an empty one clears that of the image.
    ("entrypoint: [], command: 'a  \"b c\"'", r#"{"entrypoint": [], "command": ["a", "b c"]}"#),
    ("entrypoint: '', command: null", r#"{"entrypoint": []}"#),
    // Sizes, durations, resources.
    ("shm_size: 1gb, stop_grace_period: 1m30.9s", r#"{"shm_size": "1073741824b", "stop_timeout": "90s"}"#),
    (
        "mem_limit: 64m, mem_swappiness: 10, memswap_limit: -1, cpus: 0.5, pids_limit: 0, cpu_shares: 7",
        r#"{"mem_swappiness": "10", "resources": {"memory": "67108864b", "memory_swap": "-1", "cpus": 0.5, "cpu_shares": 7}}"#,
    ),
    (
        "deploy: {resources: {limits: {memory: 1m, cpus: '2', pids: 5}, reservations: {memory: 1k}}}",
        r#"{"resources": {"memory": "1048576b", "cpus": 2, "pids": 5, "memory_reservation": "1024b"}}"#,
    ),
    (
        "deploy: {resources: {reservations: {devices: [{capabilities: [gpu], count: 1, driver: nvidia}]}}}",
        r#"{"gpus": [{"capabilities": ["gpu"], "count": 1, "driver": "nvidia"}]}"#,
    ),
    ("gpus: all", r#"{"gpus": [{"count": "all"}]}"#),
    (
        "devices: ['/dev/a:/dev/b:r', 'vendor.com/class=name']",
        r#"{"devices": [{"source": "/dev/a", "target": "/dev/b", "permissions": "r"}, "vendor.com/class=name"]}"#,
    ),
    (
        "blkio_config: {weight: 300, device_read_bps: [{path: /dev/a, rate: 1k}], device_read_iops: [{path: /dev/a, rate: 5}]}",
        r#"{"blkio_config": {"weight": 300, "device_read_bps": [{"path": "/dev/a", "rate": "1024b"}], "device_read_iops": [{"path": "/dev/a", "rate": 5}]}}"#,
    ),
    // Restart: a policy of `deploy` wins, and means no restart without a condition.
    ("restart: unless-stopped", r#"{"restart": "unless-stopped"}"#),
    ("restart: 'no'", "{}"),
    ("restart: always, deploy: {restart_policy: {}}", "{}"),
    ("restart: always, deploy: {restart_policy: {max_attempts: 3}}", "{}"),
    ("deploy: {restart_policy: {condition: on-failure, max_attempts: 3}}", r#"{"restart": "on-failure:3"}"#),
    ("deploy: {restart_policy: {condition: any}}", r#"{"restart": "always"}"#),
    (
        "deploy: {replicas: 3, update_config: {order: start-first}}",
        r#"{"replicas": 3, "update": {"order": "start-first"}}"#,
    ),
    ("scale: 1, deploy: {mode: replicated}", "{}"),
    // Health checks.
    (
        "healthcheck: {test: curl x, interval: 1.5s, retries: 3, start_period: 1m}",
        r#"{"healthcheck": {"test": "curl x", "interval": "1500ms", "start_period": "60s", "retries": 3}}"#,
    ),
    ("healthcheck: {test: [CMD-SHELL, a, b]}", r#"{"healthcheck": {"test": "a"}}"#),
    ("healthcheck: {test: [CMD, a, b]}", r#"{"healthcheck": {"test": ["CMD", "a", "b"]}}"#),
    ("healthcheck: {test: [NONE]}", r#"{"healthcheck": {"disable": true}}"#),
    ("healthcheck: {disable: true}", r#"{"healthcheck": {"disable": true}}"#),
    ("healthcheck: {disable: false}", "{}"),
    ("healthcheck: {interval: 60s}", r#"{"healthcheck": {"interval": "60s"}}"#),
    // Ports: compose listens on all addresses.
    (
        "ports: ['8080:80', '127.0.0.1:53:53/udp', '90']",
        r#"{"ports": [{"container": 80, "host": "8080", "address": "all"}, {"container": 53, "host": "53", "address": "127.0.0.1", "protocol": "udp"}, {"container": 90, "address": "all"}]}"#,
    ),
    ("ports: ['8000-8010:80']", r#"{"ports": [{"container": 80, "host": "8000-8010", "address": "all"}]}"#),
    ("network_mode: bridge", r#"{"network_mode": "bridge"}"#),
    ("container_name: shop-a", r#"{"aliases": ["shop-a"]}"#),
    ("container_name: shop-a, network_mode: none", r#"{"network_mode": "none"}"#),
    // When to pull.
    ("pull_policy: always", r#"{"pull": "always"}"#),
    ("pull_policy: if_not_present", "{}"),
    ("pull_policy: daily", r#"{"pull": {"every": "86400s"}}"#),
    ("pull_policy: every_12h", r#"{"pull": {"every": "43200s"}}"#),
    // Mounts: compose creates missing directories.
    (
        "volumes: ['./d:/d:ro,z', '/anonymous']",
        r#"{"volumes": [{"target": "/d", "type": "bind", "source": "/p/shop/d", "create": true, "selinux": "shared", "read_only": true}, {"target": "/anonymous"}]}"#,
    ),
    (
        "volumes: [{type: bind, source: ./d, target: /d, bind: {create_host_path: false, propagation: rslave}}]",
        r#"{"volumes": [{"target": "/d", "type": "bind", "source": "/p/shop/d", "propagation": "rslave"}]}"#,
    ),
    (
        "volumes: [{type: tmpfs, target: /t, tmpfs: {size: 1m, mode: 01777}}]",
        r#"{"volumes": [{"target": "/t", "type": "tmpfs", "size": "1048576b", "mode": "01777"}]}"#,
    ),
    // Environment: null removes a variable of the image.
    ("environment: {A: 022, B: , C: ''}", r#"{"env": {"A": "18", "B": null, "C": ""}}"#),
    // Hooks.
    ("post_start: [{command: [a, b], environment: [K=v]}]", r#"{"post_start": [{"exec": ["env", "K=v", "a", "b"]}]}"#),
    ("pre_stop: [{command: a b}]", r#"{"pre_stop": [{"exec": ["a", "b"]}]}"#),
    // Own fields.
    (
        "environment: {A: '1'}, x-drillmaster: {ping: {tcp: 80}, env: {B: '2'}}",
        r#"{"env": {"A": "1", "B": "2"}, "ping": {"tcp": 80}}"#,
    ),
    ("x-drillmaster: {kind: Job}, healthcheck: {test: x}", r#"{"kind": "Job", "rerun": "always"}"#),
    (
        "build: {context: ., dockerfile_inline: FROM x}",
        r#"{"build": {"context": "/p/shop", "dockerfile_inline": "FROM x"}}"#,
    ),
];

#[test]
fn fields_of_services() {
    for (written, expected) in FIELDS {
        let (found, errors, _) = fields(written);
        let expected: Value = serde_json::from_str(expected).unwrap();
        assert_eq!((&found, errors.as_slice()), (&expected, [].as_slice()), "{written}\n{found}");
    }
}

/// Fields that are noted, with what is said.
const NOTED: &[(&str, &str)] = &[
    ("attach: false", "2:25 `attach` has no effect: `up` shows no output of containers; `logs` does"),
    ("deploy: {mode: global}", "2:32 `mode` of `deploy` has no effect: it is for a cluster"),
    ("deploy: {placement: {constraints: [a]}}", "2:37 `placement` of `deploy` has no effect: it is for a cluster"),
    (
        "network_mode: host, ports: ['80:80']",
        "2:44 `ports` have no effect with `network_mode: host`: docker compose ignores them too",
    ),
    (
        "build: {context: ., cache_from: [y]}, pull_policy: always",
        "2:49 `cache_from` of `build` is left out: the image is built without it",
    ),
    ("ports: ['80']", "2:25 ports without an address listen on all addresses of the machine, as under docker compose"),
];

#[test]
fn what_means_nothing_is_noted_with_its_place() {
    for (written, expected) in NOTED {
        let (_, errors, notes) = fields(written);
        assert_eq!(errors, [""; 0]);
        assert!(notes.iter().any(|note| note == expected), "{written}: {notes:#?}");
    }
    let (_, _, notes) = fields("ports: ['80', '81']");
    assert_eq!(notes.len(), 1, "the note about addresses is made once");
}

/// Fields that cannot be translated, with what is said.
const REFUSED: &[(&str, &str)] = &[
    ("use_api_socket: true", "2:33 `use_api_socket` cannot be translated: it passes on credentials too"),
    (
        "external_links: [y]",
        "2:33 `external_links` cannot be translated: links to containers outside of the project are not supported",
    ),
    ("network_mode: other", "2:31 the name of a network as `network_mode` cannot be translated"),
    ("pre_stop: [{command: a, user: root}]", "2:47 `user` of a hook cannot be translated"),
    ("volumes_from: ['container:y']", "2:32 `volumes_from` a container outside of the project cannot be translated"),
];

#[test]
fn what_cannot_be_translated_is_an_error_with_its_place() {
    for (written, expected) in REFUSED {
        let (_, errors, _) = fields(written);
        assert_eq!(errors, [*expected], "{written}");
    }
}

#[test]
fn services_that_others_wait_for_are_jobs() {
    let (found, errors, notes) = translated(
        "services:\n  web:\n    image: x\n    depends_on:\n      seed: {condition: service_completed_successfully}\n      \
         db: {condition: service_healthy, restart: true}\n      opt: {condition: service_started, required: false}\n  \
         seed: {image: x, restart: on-failure:2, healthcheck: {test: x}}\n  db: {image: x}\n  opt: {image: x}\n",
    );
    assert_eq!(errors, [""; 0]);
    assert_eq!(
        found["web"]["dependencies"],
        json!([
            {"name": "seed", "condition": "succeeded"},
            {"name": "db", "condition": "ready", "restart": true},
            {"name": "opt", "condition": "started", "required": false},
        ])
    );
    assert_eq!(found["seed"], json!({"kind": "Job", "rerun": "always", "retries": 2, "image": "x"}));
    assert_eq!(notes, ["8:56 `healthcheck` has no effect: others wait until it has succeeded, so it is a job"]);
}

#[test]
fn names_on_the_engine_are_those_of_compose() {
    let (found, errors, _) = translated(
        "name: myshop\nservices:\n  Key.Cloak:\n    image: x\n    container_name: kc\n    volumes: ['Data:/d', 'ext:/e']\n  \
         web:\n    image: x\n    links: ['Key.Cloak:sso']\n    networks: {default: , back: {aliases: [w], ipv4_address: 10.1.0.2}}\n\
         volumes:\n  Data: {driver: local}\n  ext: {external: true}\n  unused:\n\
         networks:\n  back: {internal: true, driver: bridge, ipam: {config: [{subnet: 10.1.0.0/24}]}}\n",
    );
    assert_eq!(errors, [""; 0]);
    assert_eq!(
        found["myshop"],
        json!({
            "kind": "Group",
            "networks": {
                "back": {
                    "name": "myshop_back", "internal": true, "driver": "bridge",
                    "ipam": {"config": [{"subnet": "10.1.0.0/24"}]},
                },
                "default": {"name": "myshop_default"},
            },
            "volumes": {"data": {"name": "myshop_Data"}, "ext": {"name": "ext", "external": true}},
        })
    );
    let keycloak = &found["key-cloak"];
    assert_eq!(keycloak["aliases"], json!(["Key.Cloak", "kc", "sso"]));
    assert_eq!(keycloak["volumes"][0], json!({"target": "/d", "type": "volume", "source": "data"}));
    assert_eq!(keycloak.get("networks"), None, "it is on the default network only");
    let web = &found["web"];
    assert_eq!(web["networks"], json!({"default": {}, "back": {"aliases": ["w"], "ipv4_address": "10.1.0.2"}}));
    assert_eq!(web["dependencies"], json!([{"name": "key-cloak", "condition": "started", "restart": true}]));
}

#[test]
fn images_that_are_built_have_no_tag_and_one_build() {
    let (found, errors, _) = translated(
        "services:\n  a:\n    image: shop/app:latest\n    build: {context: ./app, args: [V=1], dockerfile: Dockerfile}\n  \
         b: {image: shop/app:latest}\n",
    );
    assert_eq!(errors, [""; 0]);
    let build = json!({"context": "/p/shop/app", "args": {"V": "1"}});
    for name in ["a", "b"] {
        assert_eq!((&found[name]["image"], &found[name]["build"]), (&json!("shop/app"), &build), "{name}");
    }
}

#[test]
fn configs_and_secrets() {
    let (found, errors, notes) = translated(
        "services:\n  a:\n    image: x\n    secrets: [token, {source: pass, target: p, mode: 0400}]\n    configs: [conf]\n\
         secrets:\n  token: {environment: TOKEN}\n  pass: {file: ./pass}\n  unused: {external: true}\n\
         configs:\n  conf: {content: 'a=1'}\n",
    );
    assert_eq!(errors, [""; 0]);
    assert_eq!(notes, ["4:54 `mode` has no effect: the file is mounted as it is, as under docker compose"]);
    let group = &found["shop"];
    assert_eq!(group["secrets"], json!({"token": {"environment": "TOKEN"}, "pass": {"file": "/p/shop/pass"}}));
    assert_eq!(group["configs"], json!({"conf": {"content": "a=1"}}));
    assert_eq!(found["a"]["secrets"][1], json!({"source": "pass", "target": "p"}));

    let (_, errors, _) = translated("services:\n  a: {image: x, secrets: [s]}\nsecrets:\n  s: {external: true}\n");
    assert_eq!(errors, ["2:27 `s` is external: only Docker Swarm has such secrets"]);
}

#[test]
fn volumes_of_other_services() {
    let (found, errors, _) = translated(
        "services:\n  a: {image: x, volumes: ['data:/d', './e:/e']}\n  b: {image: x, volumes: ['other:/d'], volumes_from: ['a:ro']}\n\
         volumes: {data: , other: }\n",
    );
    assert_eq!(errors, [""; 0]);
    let expected = json!([
        {"target": "/d", "type": "volume", "source": "other"},
        {"target": "/e", "type": "bind", "source": "/p/shop/e", "create": true, "read_only": true},
    ]);
    assert_eq!(found["b"]["volumes"], expected);
}

#[test]
fn services_that_are_not_active_do_no_harm() {
    let (found, errors, notes) =
        translated("services:\n  a: {image: x}\n  b: {image: x, profiles: [p], use_api_socket: true, attach: false}\n");
    assert_eq!((errors.len(), notes.len()), (0, 0));
    assert_eq!(found["b"], json!({"image": "unknown", "profiles": ["p"]}));
}

#[test]
fn inserted_variables_are_secret() {
    let project = project(
        &[
            (".env", "PASSWORD=hunter22\nTAG=1\n"),
            (
                "compose.yaml",
                "services:\n  a:\n    image: x:$TAG\n    command: run ${PASSWORD:-x} $$HOME\n    environment: [PASSWORD]\n",
            ),
        ],
        &[],
    );
    let translation = translate(&project);
    let document = &translation.documents[1].root;
    let secrets: Vec<(String, String)> = secret_fields(&project, document).into_iter().collect();
    // The words of a text have its variables together.
    let expected = [("command", "run ${PASSWORD:-x} $$HOME"), ("env.PASSWORD", "${PASSWORD}")];
    assert_eq!(secrets, expected.map(|(path, text)| (path.to_owned(), text.to_owned())));
    assert_eq!(json_of(document)["command"], json!(["run", "hunter22", "$HOME"]));
}

#[test]
fn extensions_of_nested_maps_are_left_out() {
    for text in [
        "networks: {default: {x-n: 1, aliases: [b]}}",
        "ulimits: {nofile: {soft: 1, hard: 2, x-u: 1}}",
        "devices: [{source: /dev/null, target: /dev/null, permissions: rw, x-d: 1}]",
        "gpus: [{count: 1, x-g: 1}]",
        "healthcheck: {test: [CMD, a], x-h: 1}",
        "ports: [{target: 80, published: 8080, host_ip: 127.0.0.1, x-p: 1}]",
        "volumes: [{type: tmpfs, target: /t, x-v: 1, tmpfs: {x-t: 1}}]",
        "logging: {driver: none, x-l: 1}",
    ] {
        let (document, errors, notes) = fields(text);
        assert!(!document.to_string().contains("\"x-"), "{document}");
        assert!(errors.is_empty() && notes.is_empty(), "{text}: {errors:?} {notes:?}");
    }
    let (document, ..) = fields("environment: {x-e: v}, labels: {x-l: v}");
    assert_eq!(document, json!({"env": {"x-e": "v"}, "labels": {"x-l": "v"}}), "these are the user's keys");
}

#[test]
fn ports_of_inactive_services_do_not_hide_the_note_of_others() {
    let (_, _, notes) = translated(
        "services:\n  a: {image: x, ports: ['80'], profiles: [p]}\n  b: {image: x, ports: ['81']}\n  c: {image: x, ports: ['82']}\n",
    );
    assert_eq!(
        notes,
        ["3:25 ports without an address listen on all addresses of the machine, as under docker compose"]
    );
}
