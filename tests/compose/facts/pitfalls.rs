//! The pitfalls, the runners-up, and forms of values.

use super::{CASE, Case};

pub const CASES: &[Case] = &[
    // The pitfalls.
    Case {
        name: "pitfall 1: the volume is called by the name of the directory",
        files: &[(
            "My.Shop/compose.yaml",
            "services: {db: {image: x, volumes: [\"pg:/d\", \"data:/e\", \"named:/f\", \"ours:/g\"]}}\nvolumes: {pg: , data: {}, named: {name: n}, ours: {external: true}}",
        )],
        arguments: &["-f", "My.Shop/compose.yaml"],
        yields: &[
            ("volumes.pg.name", r#""myshop_pg""#),
            ("volumes.data.name", r#""myshop_data""#),
            ("volumes.named.name", r#""n""#),
            ("volumes.ours", r#"{"name": "ours", "external": true}"#),
        ],
        ..CASE
    },
    Case {
        name: "pitfall 2: a missing host directory is created, also by the long form",
        files: &[(
            "compose.yaml",
            "services: {a: {image: x, volumes: [\"./state:/s\", {type: bind, source: ./t, target: /t, bind: {propagation: rslave}}]}}",
        )],
        yields: &[
            ("services.a.volumes.0.bind.create_host_path", "true"),
            ("services.a.volumes.1.bind.create_host_path", "true"),
        ],
        ..CASE
    },
    Case {
        name: "pitfall 4: a dollar in a command",
        files: &[("compose.yaml", "services: {a: {image: x, command: \"sh -c 'kill $$!'\"}}")],
        yields: &[("services.a.command", r#"["sh", "-c", "kill $!"]"#)],
        ..CASE
    },
    Case {
        name: "pitfall 5: an empty entrypoint is not left out",
        files: &[(
            "compose.yaml",
            "services:\n  a: {image: x, entrypoint: [], command: [sh]}\n  b: {image: x, entrypoint: \"\"}\n  c: {image: x, entrypoint: }",
        )],
        yields: &[("services.a.entrypoint", "[]"), ("services.b.entrypoint", "[]"), ("services.c.entrypoint", "null")],
        ..CASE
    },
    Case {
        name: "pitfall 6: a variable that is only in .env is passed through",
        files: &[
            (".env", "TOKEN=x\n"),
            ("compose.yaml", "services: {a: {image: x, environment: [TOKEN, HTTP_PROXY]}}"),
        ],
        yields: &[("services.a.environment", r#"{"TOKEN": "x", "HTTP_PROXY": null}"#)],
        ..CASE
    },
    Case {
        name: "pitfall 7: forms of references",
        files: &[(
            "compose.yaml",
            "services: {a: {image: x, environment: {URL: \"${BASE:-http://h/{id}}\", MODE: \"${DEBUG:+verbose}\", A: \"${A:-x}\"}}}",
        )],
        yields: &[("services.a.environment", r#"{"URL": "http://h/{id}", "MODE": "", "A": "x"}"#)],
        ..CASE
    },
    Case {
        name: "pitfall 8: forms of env files",
        files: &[
            ("e.env", "A=1\nB=${A}/x\nKEY = v\nPEM=\"line1\nline2\"\n"),
            ("compose.yaml", "services: {a: {image: x, env_file: [e.env, {path: none, required: false}]}}"),
        ],
        yields: &[("services.a.environment", r#"{"A": "1", "B": "1/x", "KEY": "v", "PEM": "line1\nline2"}"#)],
        ..CASE
    },
    Case {
        name: "pitfall 9: both ports are published",
        files: &[
            ("compose.yaml", "services: {a: {image: x, ports: [\"80:80\"]}}"),
            ("compose.override.yaml", "services: {a: {ports: [\"8080:80\", \"80:80\"]}}"),
        ],
        yields: &[("services.a.ports.0.published", r#""80""#), ("services.a.ports.1.published", r#""8080""#)],
        ..CASE
    },
    Case {
        name: "pitfall 10: paths of an include",
        files: &[
            ("db/db.env", "E=1\n"),
            ("db/compose.yaml", "services: {db: {image: x, env_file: ./db.env, volumes: [\"./data:/d\"]}}"),
            ("compose.yaml", "include: [db/compose.yaml]\nservices: {a: {image: x}}"),
        ],
        yields: &[("services.db.environment", r#"{"E": "1"}"#), ("services.db.volumes.0.source", r#""./db/data""#)],
        ..CASE
    },
    Case {
        name: "pitfall 12: an external network does not refuse the rest",
        files: &[(
            "compose.yaml",
            "services: {a: {image: x, networks: [proxy, own], security_opt: [label:disable]}}\nnetworks: {proxy: {external: true}, own: {internal: true}, old: {external: {name: o}}}",
        )],
        yields: &[
            ("networks.proxy", r#"{"name": "proxy", "external": true}"#),
            ("networks.own", r#"{"name": "shop_own", "internal": true}"#),
            ("services.a.security_opt", r#"["label:disable"]"#),
        ],
        ..CASE
    },
    Case {
        name: "pitfall 13: a health check that only tunes that of the image",
        files: &[(
            "compose.yaml",
            "services: {a: {image: x, healthcheck: {interval: 60s}}, b: {image: x, healthcheck: {test: [CMD, y]}}, c: {image: x, healthcheck: {test: \"curl x\"}}}",
        )],
        yields: &[
            ("services.a.healthcheck", r#"{"interval": "1m0s"}"#),
            ("services.b.healthcheck.test", r#"["CMD", "y"]"#),
            ("services.c.healthcheck.test", r#"["CMD-SHELL", "curl x"]"#),
        ],
        ..CASE
    },
    Case {
        name: "pitfall 13: a test begins with CMD, CMD-SHELL or NONE",
        files: &[("compose.yaml", "services: {a: {image: x, healthcheck: {test: [curl, x]}}}")],
        fails: "a test begins with `CMD`, `CMD-SHELL` or `NONE`",
        ..CASE
    },
    // The runners-up.
    Case {
        name: "runner-up: links, network_mode and volumes_from are dependencies",
        files: &[(
            "compose.yaml",
            "services:\n  a: {image: x, links: [\"b:db\"], volumes_from: [\"c:ro\", \"container:z\"], ipc: \"service:d\"}\n  \
                  b: {image: x, network_mode: \"service:c\"}\n  c: {image: x}\n  d: {image: x}",
        )],
        yields: &[
            ("services.a.depends_on.b", r#"{"condition": "service_started", "restart": true, "required": true}"#),
            ("services.a.depends_on.c", r#"{"condition": "service_started", "required": true}"#),
            ("services.a.depends_on.d.restart", "true"),
            ("services.b.depends_on.c.restart", "true"),
            ("services.b.networks", "null"),
        ],
        ..CASE
    },
    Case {
        name: "runner-up: only a service without networks is on the default one",
        files: &[(
            "compose.yaml",
            "services: {a: {image: x}, b: {image: x, networks: [n]}, c: {image: x, networks: {}}, d: {image: x, network_mode: host}}\nnetworks: {n: , default: {name: own}}",
        )],
        yields: &[
            ("services.a.networks", r#"{"default": null}"#),
            ("services.b.networks", r#"{"n": null}"#),
            ("services.c.networks", r#"{"default": null}"#),
            ("services.d.networks", "null"),
            ("networks.default.name", r#""own""#),
        ],
        ..CASE
    },
    Case {
        name: "runner-up: network_mode excludes networks",
        files: &[("compose.yaml", "services: {a: {image: x, network_mode: host, networks: [n]}}\nnetworks: {n: }")],
        fails: "`network_mode` and `networks` exclude each other",
        ..CASE
    },
    Case {
        name: "runner-up: ranges of ports",
        files: &[(
            "compose.yaml",
            "services: {a: {image: x, ports: [\"3000-3005\", \"8000-9000:80\", \":90:90\", \"[::1]:91:91/udp\", 92]}}",
        )],
        yields: &[
            ("services.a.ports.5.target", "3005"),
            ("services.a.ports.6.published", r#""8000-9000""#),
            ("services.a.ports.7.published", r#""90""#),
            ("services.a.ports.8.host_ip", r#""::1""#),
            ("services.a.ports.9", r#"{"mode": "ingress", "target": 92, "protocol": "tcp"}"#),
        ],
        ..CASE
    },
    Case {
        name: "runner-up: ranges of different lengths",
        files: &[("compose.yaml", "services: {a: {image: x, ports: [\"1-2:1-3\"]}}")],
        fails: "the ranges 1-2 and 1-3 have different lengths",
        ..CASE
    },
    Case {
        name: "runner-up: localhost is no address",
        files: &[("compose.yaml", "services: {a: {image: x, ports: [\"localhost:80:80\"]}}")],
        fails: "`localhost` is not an IP address",
        ..CASE
    },
    Case {
        name: "runner-up: !reset in a list does nothing to earlier files",
        files: &[
            ("compose.yaml", "services: {a: {image: x, cap_add: [A, B]}}"),
            ("compose.override.yaml", "services: {a: {cap_add: [!reset A, C]}}"),
        ],
        yields: &[("services.a.cap_add", r#"["A", "B", "C"]"#)],
        ..CASE
    },
    Case {
        name: "runner-up: configs and secrets",
        files: &[(
            "compose.yaml",
            "services: {a: {image: x, configs: [c, {source: d, target: /d, mode: 0440, uid: \"1\"}], secrets: [s, {source: t, mode: \"0400\"}]}}\n\
              configs: {c: {content: \"$X-$$Y\"}, d: {file: ./d}}\nsecrets: {s: {environment: X}, t: {file: t, name: u}}",
        )],
        environment: &[("X", "v")],
        yields: &[
            ("services.a.configs", r#"[{"source": "c"}, {"source": "d", "target": "/d", "mode": "0440", "uid": "1"}]"#),
            (
                "services.a.secrets",
                r#"[{"source": "s", "target": "/run/secrets/s"}, {"source": "t", "target": "/run/secrets/t", "mode": "0400"}]"#,
            ),
            ("configs.c", r#"{"name": "shop_c", "content": "v-$Y"}"#),
            ("configs.d.file", r#""./d""#),
            ("secrets.s", r#"{"name": "shop_s", "environment": "X"}"#),
            ("secrets.t", r#"{"name": "u", "file": "./t"}"#),
        ],
        ..CASE
    },
    Case {
        name: "runner-up: external with a name",
        files: &[(
            "compose.yaml",
            "services: {a: {image: x, networks: [n], volumes: [\"vol:/v\"]}}\nnetworks: {n: {external: {name: o}}}\nvolumes: {vol: {external: true, name: p}}",
        )],
        yields: &[
            ("networks.n", r#"{"name": "o", "external": true}"#),
            ("volumes.vol", r#"{"name": "p", "external": true}"#),
        ],
        ..CASE
    },
    Case {
        name: "runner-up: a dependency on an inactive service",
        files: &[("compose.yaml", "services: {a: {image: x, depends_on: [b]}, b: {image: x, profiles: [p]}}")],
        fails: "service `b` is not active",
        ..CASE
    },
    Case {
        name: "runner-up: a dependency on an inactive service that is not required",
        files: &[(
            "compose.yaml",
            "services: {a: {image: x, depends_on: {b: {condition: service_started, required: false}}}, b: {image: x, profiles: [p]}}",
        )],
        yields: &[("services.b", "null"), ("services.a.image", r#""x""#)],
        ..CASE
    },
    Case {
        name: "runner-up: all profiles",
        files: &[("compose.yaml", "services: {a: {image: x, profiles: [p]}, b: {image: x, profiles: [q]}}")],
        arguments: &["--profile", "*"],
        yields: &[("services.a.image", r#""x""#), ("services.b.profiles", r#"["q"]"#)],
        ..CASE
    },
    Case {
        name: "anchors, merge keys and tags",
        files: &[(
            "compose.yaml",
            "x-a: &a {image: x, environment: &e {A: 1}}\nx-b: &b {user: u}\nservices:\n  a: {<<: [*a, *b], environment: {<<: *e, B: 2}}\n  b: *a\n",
        )],
        yields: &[
            ("services.a.user", r#""u""#),
            ("services.a.environment", r#"{"A": "1", "B": "2"}"#),
            ("services.b.image", r#""x""#),
        ],
        ..CASE
    },
    Case {
        name: "brackets that are not indented",
        files: &[(
            "compose.yaml",
            "services:\n  a:\n    image: x\n    command: [\n      \"é\",\n    b\n    ]\n    environment: {\n  A: b\n    }\n  c: {image: y}\n",
        )],
        yields: &[
            ("services.a.command", r#"["é", "b"]"#),
            ("services.a.environment", r#"{"A": "b"}"#),
            ("services.c.image", r#""y""#),
        ],
        ..CASE
    },
    Case {
        name: "hosts, options, devices and sizes",
        files: &[(
            "compose.yaml",
            "services: {a: {image: x, extra_hosts: [\"b=1.2.3.4\", \"c:::1\", \"d=[::2]\"], gpus: all, shm_size: 64mb, mem_limit: 1g, \
                  expose: [80, \"81\"], group_add: [1, g], sysctls: [a.b=1], stop_grace_period: 1d, cpus: 0.5, storage_opt: {size: 1G}, \
                  blkio_config: {weight: 3, device_read_bps: [{path: /dev/a, rate: 1m}]}, logging: {options: {max-file: 3}}}, \
                  b: {image: x, extra_hosts: {z: [1.1.1.1, 2.2.2.2], y: host-gateway}}}",
        )],
        yields: &[
            ("services.a.extra_hosts", r#"["b=1.2.3.4", "c=::1", "d=::2"]"#),
            ("services.b.extra_hosts", r#"["y=host-gateway", "z=1.1.1.1", "z=2.2.2.2"]"#),
            ("services.a.gpus", r#"[{"count": -1}]"#),
            ("services.a.shm_size", r#""67108864""#),
            ("services.a.expose", r#"["80", "81"]"#),
            ("services.a.stop_grace_period", r#""24h0m0s""#),
            ("services.a.logging.options", r#"{"max-file": "3"}"#),
        ],
        ..CASE
    },
    Case {
        name: "build",
        files: &[(
            "compose.yaml",
            "services:\n  a: {build: }\n  b: {build: {context: https://x.invalid/r.git, args: [A, B=1, H], target: t, tags: [a], platforms: [linux/amd64], ssh: [default], \
                  additional_contexts: [n=./d, m=docker-image://i], extra_hosts: [\"a:1.1.1.1\"], shm_size: 1m, no_cache: \"true\", secrets: [s]}}\nsecrets: {s: {file: s}}",
        )],
        environment: &[("H", "h")],
        fails: "expected text or a map, found nothing",
        ..CASE
    },
    Case {
        name: "build in its long form",
        files: &[(
            "compose.yaml",
            "services:\n  b: {build: {context: https://x.invalid/r.git, args: [A, B=1, H], target: t, tags: [a], platforms: [linux/amd64], \
                  additional_contexts: [n=./d, m=docker-image://i], extra_hosts: [\"a:1.1.1.1\"], shm_size: 1m, no_cache: \"true\", secrets: [s]}}\nsecrets: {s: {file: s}}",
        )],
        environment: &[("H", "h")],
        yields: &[
            ("services.b.build.args", r#"{"B": "1", "H": "h"}"#),
            ("services.b.build.context", r#""https://x.invalid/r.git""#),
            ("services.b.build.additional_contexts", r#"{"n": "./d", "m": "docker-image://i"}"#),
            ("services.b.build.secrets", r#"[{"source": "s"}]"#),
        ],
        ..CASE
    },
    Case {
        name: "address pools of networks are merged by subnet",
        files: &[
            (
                "compose.yaml",
                "services: {a: {image: x}}\nnetworks: {default: {ipam: {config: [{subnet: 10.0.0.0/24}]}, labels: [a=b]}}",
            ),
            (
                "compose.override.yaml",
                "networks: {default: {ipam: {config: [{subnet: 10.0.0.0/24, gateway: 10.0.0.1}, {subnet: 10.1.0.0/24}]}, labels: {c: d}}}",
            ),
        ],
        yields: &[
            (
                "networks.default.ipam.config",
                r#"[{"subnet": "10.0.0.0/24", "gateway": "10.0.0.1"}, {"subnet": "10.1.0.0/24"}]"#,
            ),
            ("networks.default.labels", r#"{"a": "b", "c": "d"}"#),
        ],
        ..CASE
    },
];
