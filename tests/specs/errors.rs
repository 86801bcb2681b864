//! Spec errors and their locations.

use std::collections::BTreeMap;
use std::fmt::Write;

use drillmaster::render::diagnostics;
use drillmaster::spec::starlark::NoPrograms;
use drillmaster::spec::{Content, Input, MAX_FILE_SIZE, SourceFile, TreeError, load, no_directory};

use crate::loading::*;

/// Invalid directories, each with a name. The snapshot contains their errors.
const WRONG: &[(&str, &[(&str, &str)])] = &[
    ("YAML: a quote left open", &[("a.yaml", "name: a\nimage: \"b\ncommand: c\n")]),
    ("YAML: a bracket left open", &[("a.yaml", "name: a\nimage: b\ncommand: [c, d\nports: []\n")]),
    ("YAML: a tab", &[("a.yaml", "name: a\nimage: b\nenv:\n\tA: b\n")]),
    ("YAML: a colon in a value", &[("a.yaml", "name: a\nimage: b\nhostname: a: b\n")]),
    ("YAML: an unknown alias", &[("a.yaml", "name: a\nimage: *b\n")]),
    (
        "YAML: the documents after a syntax error are still read",
        &[("a.yaml", "name: a\nimage: @\n---\nname: b\n---\nname: [c\n---\nname: d\nimage: B\n")],
    ),
    ("YAML: a tag", &[("a.yaml", "name: a\nimage: !include b\n")]),
    ("YAML: no map", &[("a.yaml", "- name: a\n")]),
    ("duplicate key", &[("a.yaml", "name: a\nimage: b\nenv:\n  A: 1\n  B: 2\n  A: 3\n")]),
    ("unknown field", &[("a.yaml", "name: a\nimgae: b\nports: [{container: 80, hst: 1}]\nping: {tpc: 80}\n")]),
    (
        "two services without a separator",
        &[
            (
                "a.yaml",
                "name: a\nimage: b\nenv: {A: b}\n\nname: c\nimage: d\nenv: {A: c}\nports: [x]\n---\nname: e\nimage: F\n",
            ),
            ("b.yaml", "image: b\nname: f\nimage: c\nname: g\n"),
        ],
    ),
    (
        "limits, logging and devices that have no effect",
        &[(
            "a.yaml",
            concat!(
                "name: a\nimage: b\nresources: {memory: 64m, memory_reservation: 65m, memory_swap: 63m, cpu_shares: 1, ",
                "cpus: 1, cpu_quota: 50ms}\noom_score_adj: 1001\nmem_swappiness: 101\n",
                "blkio_config: {weight: 9, weight_device: [{path: /dev/a, weight: 10}, {path: /dev/b, weight: 1001}]}\n",
                "gpus: [all, {count: 1, device_ids: [x]}]\n---\n",
                "name: c\nimage: b\nresources: {memory_reservation: 1m, memory_swap: 64m, cpu_period: 999, cpu_quota: 1}\n",
                "logging: {driver: gelf, options: {cache-disabled: true}}\nping: {log: ready}\n---\n",
                "kind: Job\nname: d\nimage: b\nlogging: {driver: none}\ncapture: key\n",
            ),
        )],
    ),
    (
        "values of fields that are handed on",
        &[(
            "a.yaml",
            concat!(
                "name: a\nimage: b\ntty: on\nsecurity_opt: [no-new-privilege, seccomp, 'seccomp={', systempaths=x]\n",
                "sysctls: [a]\ndevices: [fuse, '/dev/a:/dev/b:x', {target: /dev/c}]\ndevice_cgroup_rules: [c]\n",
                "gpus: some\ngroup_add: [{}]\ndns: localhost\nuts: private\ncgroup: none\nplatform: arm64\n",
                "logging: json-file\nmac_address: 1\nexpose: ['80:80', 3-1]\noom_kill_disable: 1\n",
                "resources: {cpuset: 3-1, memory_swap: -2, cpu_period: 1}\nblkio_config: {device_read_bps: [{path: /dev/a}]}\n",
            ),
        )],
    ),
    (
        "seccomp profiles",
        &[
            (
                "a.yaml",
                "name: a\nimage: b\nsecurity_opt: [seccomp=missing.json, seccomp=list.json, seccomp=broken.json]\n",
            ),
            ("list.json", "[]"),
            ("broken.json", "{\n  \"defaultAction\": SCMP_ACT_ALLOW\n}"),
        ],
    ),
    (
        "one image for two platforms, one MAC address for two containers",
        &[(
            "a.yaml",
            concat!(
                "name: a\nimage: b\nplatform: linux/amd64\nreplicas: 2\nmac_address: '02:42:ac:11:00:02'\n---\n",
                "name: c\nimage: docker.io/library/b:latest\nplatform: linux/arm64\nmac_address: '02:42:ac:11:00:03'\n",
                "update: {order: start-first}\n",
            ),
        )],
    ),
    (
        "volumes of the group",
        &[(
            "a.yaml",
            concat!(
                "kind: Group\nvolumes:\n  a: {external: true, driver: nfs, labels: {b: c}}\n  b: {name: x}\n  c: {name: x}\n",
                "  d: {name: /x}\n  e: {labels: {drillmaster.group: x}}\n  F: {}\n  g: {drivr: local}\n  h:\n---\n",
                "name: a\nimage: b\n",
            ),
        )],
    ),
    (
        "networks of the group",
        &[(
            "a.yaml",
            concat!(
                "kind: Group\nnetwork: shop\nsubnet: 10.1.0.0/24\nnetworks:\n",
                "  default: {name: x, ipam: {config: [{subnet: 10.2.0.0/24}]}}\n  a: {external: true, internal: true}\n",
                "  b: {name: host}\n  host: {external: true}\n  c: {name: x}\n  d: {labels: {drillmaster.group: x}}\n",
                "  e: {ipam: {config: [{subnet: 10.1.0.1/24, gateway: x}]}}\n---\nname: a\nimage: b\n",
            ),
        )],
    ),
    (
        "networks of services",
        &[(
            "a.yaml",
            concat!(
                "kind: Group\nnetworks: {back: , own: {ipam: {config: [{subnet: 10.1.0.0/24}]}}}\n---\n",
                "name: a\nimage: b\nnetworks: [default, bak, other]\n---\n",
                "name: b\nimage: b\nnetworks: {back: {ipv4_address: 10.1.0.5}, own: {ipv4_address: 10.1.0.300}}\n---\n",
                "name: c\nimage: b\nreplicas: 2\nnetworks: {own: {ipv4_address: 10.1.0.5}}\n---\n",
                "name: d\nimage: b\nupdate: {order: start-first}\nnetworks: {own: {ipv4_address: 10.1.0.6}}\n",
            ),
        )],
    ),
    (
        "shared namespaces",
        &[(
            "a.yaml",
            concat!(
                "name: a\nimage: b\nnetwork_mode: hots\n---\n",
                "name: b\nimage: b\nnetwork_mode: host\nnetworks: [default]\naliases: [x]\nports: [\"80:80\"]\n",
                "update: {order: start-first}\n---\n",
                "name: c\nimage: b\nnetwork_mode: none\nports: [\"81:80\"]\nping: {tcp: 80}\n---\n",
                "name: d\nimage: b\nnetwork_mode: service:e\nports: [\"82:80\"]\nhostname: x\nextra_hosts: [\"a:10.0.0.1\"]\n---\n",
                "name: e\nimage: b\npid: service:d\n---\n",
                "name: f\nimage: b\nipc: service:g\npid: service:h\nnetwork_mode: service:i\n---\n",
                "name: g\nimage: b\nreplicas: 2\n---\nkind: Job\nname: h\nimage: b\nnetwork_mode: service:h\n---\n",
                "name: j\nimage: b\nipc: service:e\n---\nname: k\nimage: b\nprofiles: [dev]\n---\n",
                "name: l\nimage: b\nnetwork_mode: service:k\ndns: 10.0.0.53\nexpose: [80]\nmac_address: '02:42:ac:11:00:02'\n---\n",
                "name: m\nimage: b\nnetwork_mode: host\nmac_address: '02:42:ac:11:00:02'\n",
            ),
        )],
    ),
    ("field of compose", &[("a.yaml", "name: a\nimage: b\ndepends_on: [c]\nenvironment: {A: b}\nscale: 2\n")]),
    (
        "compose file",
        &[
            (
                "a.yaml",
                concat!(
                    "version: '3'\nservices:\n  web:\n    image: ${NOT_SET}\n    depends_on: [db]\n",
                    "  db:\n    image: postgres\nvolumes:\n  data:\n",
                ),
            ),
            ("b.yaml", "name: b\nimage: x\ndependencies: [db]\n"),
        ],
    ),
    (
        "spellings of compose without an equivalent",
        &[(
            "a.yaml",
            concat!(
                "name: a\nimage: b\nreplicas: 1\ndeploy:\n  replicas: 2\n  mode: global\n  restart_policy: {condition: any}\n",
                "  resources:\n    limits: {cpus: x, memory: 1g}\n    reservations: {memory: 1g}\n---\n",
                "name: c\nimage: b\ndeploy: 2\nenv: [A=1, {B: c}]\n---\n",
                "name: d\nimage: b\nenv: [\"A B=1\", \"=x\", \"${X}=1\"]\n---\n",
                "name: e\nimage: b\nenv: [\"A B=1\", \"=x\"]\ndependencies: {a: {condition: service_well, required: false}, nope: {}}\n",
            ),
        )],
    ),
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
        "fields that require a single container",
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
                "name: a\nimage: b\non:\n  ready:\n  - http: ftp://example.com/\n  - http: localhost:80\n  - http: {url: 'http://a b/'}\n",
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
                "---\nname: d\nimage: b\nping: {exec: []}\n---\nname: e\nimage: b\nping: {http: {path: x, status: 1, scheme: ftp}}\n",
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
                "---\nname: h\nimage: b\non: {exited: {http: \"\\tlocalhost:9\"}}\n",
                "---\nname: b\nimage: b\npull: {evry: 1h}\n---\nname: c\nimage: b\npull: {every: 1}\n---\nname: d\nimage: b\npull: {every: 0s}\n",
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
    ("dotenv", &[("a.yaml", "name: a\nimage: x\n"), (".env", "A = 1\nB C = 1\nD=\"x\n ${A}${NO}\"\n")]),
    (
        "variables",
        &[
            (
                "a.yaml",
                concat!(
                    "name: a\nimage: ${IMAGE}\nhostname: \"x-${HOSTNAM}\"\nuser: ${U:?no user}\nworking_dir: ${A\n",
                    "command: >\n  first\n  and ${SECOND}\nenv: {A: \"${context.user}\", B: '${}'}\n",
                ),
            ),
            ("env:HOSTNAME", "h"),
        ],
    ),
    (
        "unavailable outputs",
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
        "invalid outputs",
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
fn every_error_is_reported_with_its_location() {
    let mut out = String::new();
    for (name, files) in WRONG {
        let errors = load_dir(files).expect_err(name);
        let _ = write!(out, "=== {name}\n\n{}\n", rendered(&errors));
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
        dotenv: &[],
        environment: &BTreeMap::new(),
        lenient: false,
        profiles: &Default::default(),
        context: &BTreeMap::new(),
        read: &|_| Err("not reached".into()),
        interpreter: &NoPrograms,
        tree: &|_| Err(TreeError::Context("not reached".into())),
    };
    let more = load(&input).unwrap_err();
    let none = no_directory("specs");
    insta::assert_snapshot!("no_text", [rendered(&errors), rendered(&more), rendered(&[none])].join("\n"));
}

#[test]
fn errors_are_available_as_json() {
    let errors = load_dir(&[("a.yaml", "name: a\nimgae: é\n"), ("b.yaml", "name: a\nimage: b\n")]).unwrap_err();
    let errors = [errors, vec![no_directory("x")]].concat();
    insta::assert_snapshot!("json", serde_json::to_string_pretty(&diagnostics::to_json(&errors)).unwrap());
}

#[test]
fn color_is_optional() {
    let errors = load_dir(&[("a.yaml", "name: A\nimage: b\n")]).unwrap_err();
    assert!(!diagnostics::render(&errors, false).contains('\x1b'));
    assert!(diagnostics::render(&errors, true).contains("\x1b["));
    assert_eq!(diagnostics::render(&[], true), "");
}

#[test]
fn file_contents_are_escaped_for_the_terminal() {
    let long = format!(
        "name: a\nimage: b\nhostname: \"{}\\e[31m\" # \u{1b}[2J\u{9b}31m\u{202e}\nno: \u{1b}[2J\n",
        "x".repeat(10_000)
    );
    let errors = load_dir(&[("a.yaml", &long)]).unwrap_err();
    let text = rendered(&errors);
    assert!(text.len() < 3000, "{}", text.len());
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    assert!(!text.contains('\u{202e}'));
    let errors = load_dir(&[("a.yaml", &format!("name: a\n\"k\\e[2J{}\": 1\n", "y".repeat(5000)))]).unwrap_err();
    assert!(rendered(&errors).lines().all(|line| line.chars().count() < 300), "{}", rendered(&errors));
}

#[test]
fn at_most_a_hundred_errors_are_reported_per_file() {
    let text: String = (0..500).map(|n| format!("name: a{n}\nimage: B\n---\n")).collect();
    let errors = load_dir(&[("a.yaml", &text)]).unwrap_err();
    assert_eq!(errors.len(), 101);
    assert_eq!(errors[100].message, "400 more errors in `specs/a.yaml`");
    let text: String = (0..500).map(|n| format!("field{n}: x\n")).collect();
    assert_eq!(load_dir(&[("a.yaml", &text)]).unwrap_err().len(), 100);
}
