//! Errors and notes of compose files, with their places.

use std::fmt::Write;

use drillmaster::render::diagnostics;

use crate::facts::{CASE, Case, in_memory};

/// Invalid projects. The snapshot contains their errors.
const WRONG: &[Case] = &[
    Case {
        name: "unknown keys",
        files: &[(
            "compose.yaml",
            "servces:\n  a: {image: x}\nservices:\n  web:\n    imge: x\n    image: x\n    enviroment: {A: b}\n    deploy: {resource: {}}\n    \
             ports: [{target: 80, publish: 81}]\n    x-mine: 1\n    healthcheck: {x-mine: 1, startperiod: 1s}\n    env_file: [{path: a, x-mine: 1}]\n",
        )],
        ..CASE
    },
    Case {
        name: "wrong types",
        files: &[(
            "compose.yaml",
            "services:\n  web:\n    image: 80\n    command: {a: b}\n    user: 1000\n    ports: 80\n    depends_on: db\n    volumes:\n      - type: bnd\n        \
             source: a\n    cgroup: hst\n    environment: [A, 1, A=2]\n    privileged: 1\n    oom_score_adj: 2000\n    cap_add: {A: b}\n    security_opt: [a, b, a]\n",
        )],
        ..CASE
    },
    Case {
        name: "missing keys",
        files: &[(
            "compose.yaml",
            "services:\n  web:\n    image: x\n    volumes: [{source: a, target: /a}]\n    ulimits: {nofile: {soft: 1}}\n    extends: {file: a}\n",
        )],
        ..CASE
    },
    Case {
        name: "undefined things",
        files: &[(
            "compose.yaml",
            "services:\n  web:\n    image: x\n    depends_on: [databse]\n    networks: [front]\n    volumes: [\"dta:/d\"]\n    secrets: [s]\n    configs: [c]\n    \
             models: [m]\n  database:\n    build: {context: ., secrets: [s], additional_contexts: [a=service:web]}\nvolumes: {data: }\n",
        )],
        ..CASE
    },
    Case {
        name: "what excludes each other",
        files: &[(
            "compose.yaml",
            "services:\n  web:\n    image: x\n    container_name: same\n    scale: 2\n    deploy: {replicas: 3, resources: {limits: {memory: 1g, cpus: 1}}}\n    mem_limit: 2g\n    \
             cpus: 2\n  api:\n    container_name: same\n    tmpfs: [/d]\n    volumes: [./d:/d]\n    image: x\n  none: {}\n",
        )],
        ..CASE
    },
    Case {
        name: "resources that exclude each other",
        files: &[(
            "compose.yaml",
            "services: {a: {image: x, gpus: [{count: 1, device_ids: [a]}], ports: [{target: 1, host_ip: localhost}]}}\nvolumes:\n  data: {external: true, driver: local}\n\
             secrets:\n  s: {file: a, environment: A}\n  t: {}\nconfigs:\n  c: {}\n",
        )],
        ..CASE
    },
    Case {
        name: "services that wait for each other",
        files: &[(
            "compose.yaml",
            "services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, links: [c]}\n  c: {image: x, network_mode: \"service:a\"}\n  d: {image: x, depends_on: [a]}\n",
        )],
        ..CASE
    },
    Case {
        name: "values",
        files: &[(
            "compose.yaml",
            "services:\n  web:\n    image: x\n    mem_limit: 1x\n    stop_grace_period: \"10\"\n    healthcheck: {interval: 1y}\n    extra_hosts: [a, b=1.1.1.1]\n    \
             environment: [\"A =1\"]\n    command: \"a 'b\"\n    secrets: [{source: s, mode: rw}]\n    attach: maybe\n    deploy: {resources: {limits: {cpus: much}}}\n",
        )],
        ..CASE
    },
    Case {
        name: "short forms",
        files: &[(
            "compose.yaml",
            "services:\n  web:\n    image: x\n    ports: [\"80:\", \"a:80\", \"80/icmp\", \"1-3:1-2\", \"localhost:1:1\"]\n    volumes: [\"a::b\", \"/a:/b:ro:x\"]\n    \
             devices: [\"a:b:c:d\"]\n    build: {ssh: [key]}\n    depends_on: {db: }\n",
        )],
        ..CASE
    },
    Case {
        name: "variables",
        files: &[(
            "compose.yaml",
            "services:\n  web:\n    image: \"a: ${IMAGE:?which image}\"\n    command: echo ${1} \"${OPEN\"\n    init: \"${NOT_SET}\"\n    scale: \"${SCALE:-two}\"\n",
        )],
        ..CASE
    },
    Case {
        name: "values that cannot be merged",
        files: &[
            ("compose.yaml", "services: {a: {image: x, ports: [\"80\"], develop: {watch: []}}}\n"),
            ("compose.override.yaml", "services:\n  a:\n    ports: {a: b}\n    develop: {watch: {a: b}}\n"),
        ],
        ..CASE
    },
    Case { name: "YAML", files: &[("compose.yaml", "services:\n  a:\n    image: \"x\n    image: y\n")], ..CASE },
    Case {
        name: "duplicate keys, tags and keys that are no text",
        files: &[("compose.yaml", "services:\n  a:\n    image: x\n    image: y\n    user: !secret z\n")],
        ..CASE
    },
    Case {
        name: "keys that are no text",
        files: &[(
            "compose.yaml",
            "services:\n  a: {image: x, environment: {1: a, true: b, yes: c}}\n  22: {image: x}\n",
        )],
        ..CASE
    },
    Case { name: "no map", files: &[("compose.yaml", "- a\n")], ..CASE },
    Case { name: "empty", files: &[("compose.yaml", "# nothing\n")], ..CASE },
    Case {
        name: "files that are not there",
        files: &[(
            "compose.yaml",
            "include: [db/compose.yaml]\nservices: {a: {extends: {file: base.yaml, service: a}}}\n",
        )],
        ..CASE
    },
    Case {
        name: "an extended file without the service",
        files: &[
            ("compose.yaml", "services: {a: {extends: {file: base.yaml, service: b}}}\n"),
            ("base.yaml", "services: {c: {image: x}}\n"),
        ],
        ..CASE
    },
    Case {
        name: "an error in an included file",
        files: &[("compose.yaml", "include: [db/compose.yaml]\n"), ("db/compose.yaml", "services:\n  db: {imge: x}\n")],
        ..CASE
    },
    Case {
        name: "files elsewhere",
        files: &[("compose.yaml", "include: [\"oci://x.invalid/y\"]\nservices: {a: {image: x}}\n")],
        ..CASE
    },
    Case {
        name: "env files",
        files: &[
            ("compose.yaml", "services: {a: {image: x, env_file: e.env}}\n"),
            ("e.env", "A=1\nB=\"open\nC=${1}\n"),
        ],
        ..CASE
    },
    Case {
        name: ".env",
        files: &[("compose.yaml", "services: {a: {image: x}}\n"), (".env", "what is this\n=x\n")],
        ..CASE
    },
    Case {
        name: "COMPOSE_FILE of .env",
        files: &[
            ("compose.yaml", "services: {a: {image: x}}\n"),
            (".env", "# COMPOSE_FILE=a\nexport COMPOSE_FILE=b.yaml\n"),
        ],
        ..CASE
    },
    Case {
        name: "COMPOSE_PROJECT_NAME of .env",
        files: &[("compose.yaml", "services: {a: {image: x}}\n"), (".env", "A=b\nCOMPOSE_PROJECT_NAME=My Shop\n")],
        ..CASE
    },
    Case {
        name: "a name of which nothing is left",
        files: &[("compose.yaml", "name: \"...\"\nservices: {a: {image: x}}\n")],
        ..CASE
    },
    Case {
        name: "an inactive dependency",
        files: &[("compose.yaml", "services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, profiles: [p, q]}\n")],
        ..CASE
    },
];

#[test]
fn errors_have_a_place_and_a_hint() {
    let mut all = String::new();
    for case in WRONG {
        let Some(Err(errors)) = in_memory(case).project else { panic!("{} is valid", case.name) };
        write!(all, "--- {}\n{}\n", case.name, diagnostics::render(&errors, false)).unwrap();
    }
    insta::assert_snapshot!(all);
}

#[test]
fn notes_say_what_compose_only_logs() {
    let case = Case {
        files: &[
            (
                "compose.yaml",
                "version: \"3\"\nservices:\n  a: {image: \"x:$TAG\", init: \"yes\", env_file: e.env, networks: [n]}\n  b: {image: \"y:${TAG}\"}\nnetworks: {n: {external: {name: m}}}\n",
            ),
            ("e.env", "A=$NOT_SET\n"),
            ("docker-compose.yml", "services: {}\n"),
        ],
        ..CASE
    };
    let Some(Ok(project)) = in_memory(&case).project else { panic!("invalid") };
    let notes: Vec<String> = project.notes.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(notes.join("\n"));
}

/// Values of variables are secret, also in errors.
#[test]
fn errors_do_not_show_values_of_variables() {
    for text in ["command: 'run ${PW}'", "mem_limit: '${PW}'", "healthcheck: {interval: '${PW}'}", "ports: ['${PW}']"] {
        let compose = format!("services: {{a: {{image: x, {text}}}}}\n");
        let files = [("compose.yaml", compose.as_str()), (".env", "PW=\"it's-geheim99\"\n")];
        let files = files.into_iter().map(|(path, text)| (path.to_owned(), text.to_owned())).collect();
        match crate::facts::load_files(&files).project {
            Some(Err(errors)) => {
                let shown = errors.iter().map(ToString::to_string).collect::<String>();
                assert!(!shown.contains("geheim99") && shown.contains("(hidden)"), "{text}: {shown}");
            }
            _ => panic!("{text} is read"),
        }
    }
}
