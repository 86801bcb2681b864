//! The 15 facts.

use super::{CASE, Case};

pub const CASES: &[Case] = &[
    Case {
        name: "fact 1: variables are inserted before short forms are parsed",
        files: &[
            (".env", "A=./d\nB=/d\nFLAGS=:ro\n"),
            ("compose.yaml", "services: {a: {image: \"x$UNSET\", volumes: [\"${A}:${B}${FLAGS}\"]}}"),
        ],
        yields: &[
            ("services.a.image", r#""x""#),
            (
                "services.a.volumes",
                r#"[{"type": "bind", "source": "./d", "target": "/d", "read_only": true, "bind": {"create_host_path": true}}]"#,
            ),
        ],
        ..CASE
    },
    Case {
        name: "fact 1: an x- block is substituted",
        files: &[("compose.yaml", "x-a: \"${X:?no}\"\nservices: {a: {image: x}}")],
        fails: "compose.yaml:1:7: the variable `X` is not set or empty: no",
        ..CASE
    },
    Case {
        name: "fact 1: a service of an inactive profile is substituted",
        files: &[("compose.yaml", "services: {a: {image: x}, b: {image: \"${X?}\", profiles: [p]}}")],
        fails: "the variable `X` is not set",
        ..CASE
    },
    Case {
        name: "fact 1: variables are inserted before files are merged",
        files: &[
            ("compose.yaml", "services: {a: {image: \"${X?}\"}}"),
            ("compose.override.yaml", "services: {a: {image: y}}"),
        ],
        fails: "compose.yaml:1:24: the variable `X` is not set",
        ..CASE
    },
    Case {
        name: "fact 1: text becomes a number or a boolean where one belongs",
        files: &[(
            "compose.yaml",
            "services: {a: {image: x, init: \"${T}\", read_only: \"yes\", pids_limit: \"${N}\", scale: \"2\", \
             ulimits: {nofile: \"$N\"}, healthcheck: {disable: \"$T\"}}}",
        )],
        environment: &[("T", "true"), ("N", "9")],
        yields: &[
            ("services.a.init", "true"),
            ("services.a.read_only", "true"),
            ("services.a.pids_limit", "9"),
            ("services.a.scale", "2"),
            ("services.a.ulimits.nofile", "9"),
            ("services.a.healthcheck.disable", "true"),
        ],
        ..CASE
    },
    Case {
        name: "fact 2: braces are counted, other dollars stay",
        files: &[(
            "compose.yaml",
            "services: {a: {image: x, command: [\"${X:-a/{id}}\", \"$1 $( $\", \"$$X\", \"${X:-${Y:-z}}\", \"${H:+v}\"]}}",
        )],
        environment: &[("H", "1")],
        yields: &[("services.a.command", r#"["a/{id}", "$1 $( $", "$X", "z", "v"]"#)],
        ..CASE
    },
    Case {
        name: "fact 2: empty braces in a default, before another reference",
        files: &[("compose.yaml", "services: {a: {image: \"${X:-{}}${Y}\"}}")],
        environment: &[("Y", "y")],
        yields: &[("services.a.image", r#""{}y""#)],
        differs: "compose takes the `}` of `{}` for text and does not find the end",
        ..CASE
    },
    Case {
        name: "fact 2: an unset variable in a default that is not needed",
        files: &[("compose.yaml", "services: {a: {image: \"${X:-${Y:?no}}\"}}")],
        environment: &[("X", "x")],
        yields: &[("services.a.image", r#""x""#)],
        differs: "not evaluated since compose-go 2.10.1",
        ..CASE
    },
    Case {
        name: "fact 2: a number is no name",
        files: &[("compose.yaml", "services: {a: {image: \"${1}\"}}")],
        fails: "invalid reference to a variable",
        ..CASE
    },
    Case {
        name: "fact 2: a dot is in no name",
        files: &[("compose.yaml", "services: {a: {image: \"${a.b}\"}}")],
        fails: "invalid reference to a variable",
        ..CASE
    },
    Case {
        name: "fact 3: a command ends at an operator",
        files: &[(
            "compose.yaml",
            r#"services: {a: {image: x, command: "serve --log 1 && tail -f x", entrypoint: 'sh -c "a && b" "x\ny" $$(x y)'}}"#,
        )],
        yields: &[
            ("services.a.command", r#"["serve", "--log", "1"]"#),
            ("services.a.entrypoint", r#"["sh", "-c", "a && b", "xny", "$(x y)"]"#),
        ],
        ..CASE
    },
    Case {
        name: "fact 3: a bare parenthesis is an error",
        files: &[("compose.yaml", "services:\n  a:\n    image: x\n    command: app --rule Host(a)\n")],
        fails: "compose.yaml:4:14: the command `app --rule Host(a)` cannot be split into words",
        ..CASE
    },
    Case {
        name: "fact 4: null in environment",
        files: &[
            (".env", "TOKEN=x\n"),
            ("e.env", "HTTP_PROXY=p\nTOKEN=y\nOTHER=z\n"),
            (
                "compose.yaml",
                "services:\n  a: {image: x, env_file: e.env, environment: [TOKEN, HTTP_PROXY]}\n  b: {image: x, \
                 environment: {TOKEN: , HTTP_PROXY: }}",
            ),
        ],
        yields: &[
            ("services.a.environment", r#"{"HTTP_PROXY": null, "OTHER": "z", "TOKEN": "x"}"#),
            ("services.b.environment", r#"{"HTTP_PROXY": null, "TOKEN": "x"}"#),
        ],
        ..CASE
    },
    Case {
        name: "fact 5: numbers of maps and texts of lists",
        files: &[(
            "compose.yaml",
            "services:\n  a: {image: x, environment: {A: 022, B: 1.10, C: 1_000, D: 0x1F, E: yes, F: true, G: 1e6}}\n  \
             b: {image: x, environment: [A=022, B=1.10, \"C=${X:-022}\"], labels: {a: 022, b: }}",
        )],
        yields: &[
            (
                "services.a.environment",
                r#"{"A": "18", "B": "1.1", "C": "1000", "D": "31", "E": "yes", "F": "true", "G": "1e+06"}"#,
            ),
            ("services.b.environment", r#"{"A": "022", "B": "1.10", "C": "022"}"#),
            ("services.b.labels", r#"{"a": "18", "b": ""}"#),
        ],
        ..CASE
    },
    Case {
        name: "fact 5: an unquoted date is an error",
        files: &[("compose.yaml", "services: {a: {image: x, environment: {A: 2024-01-31}}}")],
        fails: "compose.yaml:1:43: expected text, a number, true or false or nothing, found the date `2024-01-31`",
        ..CASE
    },
    Case {
        name: "fact 6: the name of the last file, with characters deleted",
        files: &[
            ("compose.yaml", "name: first\nservices: {a: {image: x}}"),
            ("compose.override.yaml", "name: My.$N\n"),
        ],
        environment: &[("N", "Shop")],
        yields: &[("name", r#""myshop""#), ("networks.default.name", r#""myshop_default""#)],
        ..CASE
    },
    Case {
        name: "fact 6: COMPOSE_PROJECT_NAME of .env wins over the file",
        files: &[(".env", "COMPOSE_PROJECT_NAME=env\n"), ("compose.yaml", "name: file\nservices: {a: {image: x}}")],
        yields: &[("name", r#""env""#)],
        ..CASE
    },
    Case {
        name: "fact 6: the argument wins over COMPOSE_PROJECT_NAME",
        files: &[("compose.yaml", "services: {a: {image: \"$COMPOSE_PROJECT_NAME\"}}")],
        environment: &[("COMPOSE_PROJECT_NAME", "env")],
        arguments: &["-p", "given"],
        yields: &[("name", r#""given""#), ("services.a.image", r#""given""#)],
        ..CASE
    },
    Case {
        name: "fact 6: bad characters of an explicit name are an error",
        files: &[("compose.yaml", "services: {a: {image: x}}")],
        environment: &[("COMPOSE_PROJECT_NAME", "My.Shop")],
        fails: "invalid project name `My.Shop` in `COMPOSE_PROJECT_NAME`",
        ..CASE
    },
    Case {
        name: "fact 6: the directory of the first file",
        files: &[("Sub.Dir/compose.yaml", "services: {a: {image: x}}"), ("b.yaml", "services: {b: {image: x}}")],
        arguments: &["-f", "Sub.Dir/compose.yaml", "-f", "b.yaml"],
        yields: &[("name", r#""subdir""#), ("services.b.image", r#""x""#)],
        ..CASE
    },
    Case {
        name: "fact 7: null keeps the base, but not of command and entrypoint",
        files: &[
            (
                "compose.yaml",
                "services: {a: {image: x, user: u, command: [c], entrypoint: [e], environment: {A: b}, healthcheck: \
                 {test: [CMD, x], interval: 1s}}}",
            ),
            ("compose.override.yaml", "services: {a: {image: , user: , command: , entrypoint: , environment: }}"),
        ],
        yields: &[
            ("services.a.image", r#""x""#),
            ("services.a.user", r#""u""#),
            ("services.a.command", "null"),
            ("services.a.entrypoint", "null"),
            ("services.a.environment", r#"{"A": "b"}"#),
        ],
        ..CASE
    },
    Case {
        name: "fact 7: null of a health check's test is an error",
        files: &[
            ("compose.yaml", "services: {a: {image: x, healthcheck: {test: [CMD, x]}}}"),
            ("compose.override.yaml", "services: {a: {healthcheck: {test: }}}"),
        ],
        fails: "expected text or a list, found nothing",
        ..CASE
    },
    Case {
        name: "fact 7: !reset removes, !override replaces",
        files: &[
            ("compose.yaml", "services: {a: {image: x, user: u, ports: [\"80:80\"], environment: {A: b, C: d}}}"),
            (
                "compose.override.yaml",
                "services: {a: {user: !reset null, ports: !override [\"81:80\"], environment: {A: !reset }}}",
            ),
        ],
        yields: &[
            ("services.a.user", "null"),
            ("services.a.ports.0.published", r#""81""#),
            ("services.a.ports", r#"[{"mode": "ingress", "target": 80, "published": "81", "protocol": "tcp"}]"#),
            ("services.a.environment", r#"{"C": "d"}"#),
        ],
        ..CASE
    },
    Case {
        name: "fact 8: what is unique by what",
        files: &[
            (
                "compose.yaml",
                "services: {a: {image: x, ports: [\"80:80\", \"81:81/udp\"], volumes: [\"data:/d\", \"./x:/x\"], tmpfs: [\"/run:size=1m\"], \
                 environment: [A=1, B=2], devices: [/dev/a], cap_add: [C], profiles: [], security_opt: [s]}}\nvolumes: {data: , extra: }",
            ),
            (
                "compose.override.yaml",
                "services: {a: {ports: [\"80:80/tcp\", \"0.0.0.0:80:80\", \"8080:80\"], volumes: [\"extra:/d:ro\"], tmpfs: /run:size=2m, \
                 environment: {A: 3}, devices: [\"/dev/b:/dev/a\"], cap_add: [C, D], security_opt: [t]}}",
            ),
        ],
        yields: &[
            ("services.a.volumes.0.source", r#""extra""#),
            ("services.a.volumes.1.target", r#""/x""#),
            ("services.a.tmpfs", r#"["/run:size=2m"]"#),
            ("services.a.environment", r#"{"A": "3", "B": "2"}"#),
            ("services.a.devices", r#"[{"source": "/dev/b", "target": "/dev/a", "permissions": "rwm"}]"#),
            ("services.a.cap_add", r#"["C", "D"]"#),
            ("services.a.security_opt", r#"["s", "t"]"#),
            ("services.a.ports.2.published", r#""8080""#),
        ],
        ..CASE
    },
    Case {
        name: "fact 8: a ulimit is replaced whole, another driver drops the options, dependencies merge",
        files: &[
            (
                "compose.yaml",
                "services: {a: {image: x, ulimits: {nofile: {soft: 1, hard: 2}}, logging: {driver: json-file, options: \
                 {max-size: 1m}}, depends_on: [b]}, b: {image: x}, c: {image: x, logging: {driver: local, options: {a: 1}}}}",
            ),
            (
                "compose.override.yaml",
                "services: {a: {ulimits: {nofile: 3}, logging: {driver: syslog}, depends_on: {b: {condition: service_healthy}, \
                 c: {condition: service_started}}}, c: {logging: {options: {b: 2}}}}",
            ),
        ],
        yields: &[
            ("services.a.ulimits", r#"{"nofile": 3}"#),
            ("services.a.logging", r#"{"driver": "syslog"}"#),
            ("services.a.depends_on.b.condition", r#""service_healthy""#),
            ("services.a.depends_on.c.condition", r#""service_started""#),
            ("services.c.logging.options", r#"{"a": "1", "b": "2"}"#),
        ],
        ..CASE
    },
    Case {
        name: "fact 8: profiles, env files and build sections are merged",
        files: &[
            ("a.env", "A=1\nB=1\n"),
            ("b.env", "B=2\n"),
            (
                "compose.yaml",
                "services: {a: {image: x, build: ./d, env_file: a.env, dns: 1.1.1.1, networks: [m]}}\nnetworks: {m: , n: }",
            ),
            (
                "compose.override.yaml",
                "services: {a: {build: {args: [X=1]}, env_file: [b.env], dns: [\"\", 2.2.2.2], networks: {n: {aliases: [y]}}}}",
            ),
        ],
        yields: &[
            ("services.a.build", r#"{"args": {"X": "1"}, "context": "./d", "dockerfile": "Dockerfile"}"#),
            ("services.a.environment", r#"{"A": "1", "B": "2"}"#),
            ("services.a.dns", r#"["1.1.1.1", "2.2.2.2"]"#),
            ("services.a.networks", r#"{"m": null, "n": {"aliases": ["y"]}}"#),
        ],
        ..CASE
    },
    Case {
        name: "fact 9: extends is resolved before override files are merged",
        files: &[
            (
                "compose.yaml",
                "services: {base: {image: x, user: u, depends_on: [db], links: [db]}, a: {extends: base, command: [c]}, db: {image: y}}",
            ),
            ("compose.override.yaml", "services: {base: {user: v}}"),
        ],
        yields: &[
            ("services.base.user", r#""v""#),
            ("services.a.user", r#""u""#),
            ("services.a.depends_on.db.condition", r#""service_started""#),
            ("services.a.links", r#"["db"]"#),
            ("services.a.command", r#"["c"]"#),
        ],
        ..CASE
    },
    Case {
        name: "fact 9: paths of an extended file are relative to it, variables are the project's",
        files: &[
            (".env", "V=project\n"),
            ("sub/.env", "V=sub\n"),
            ("sub/e.env", "E=1\n"),
            (
                "sub/base.yaml",
                "services: {b: {image: \"$V\", env_file: e.env, volumes: [\"./d:/d\", \"../u:/u\"], build: ., extends: c}, c: {user: w}}",
            ),
            ("compose.yaml", "services: {a: {extends: {file: sub/base.yaml, service: b}, volumes: [\"./x:/d\"]}}"),
        ],
        yields: &[
            ("services.a.image", r#""project""#),
            ("services.a.user", r#""w""#),
            ("services.a.environment", r#"{"E": "1"}"#),
            ("services.a.build.context", r#""./sub""#),
            ("services.a.volumes.0.source", r#""./x""#),
            ("services.a.volumes.1.source", r#""./u""#),
        ],
        ..CASE
    },
    Case {
        name: "fact 9: a service that extends itself",
        files: &[("compose.yaml", "services:\n  a: {image: x, extends: b}\n  b: {image: x, extends: a}\n")],
        fails: "extends itself",
        ..CASE
    },
    Case {
        name: "fact 9: a service that is not there",
        files: &[("compose.yaml", "services:\n  a: {image: x, extends: b}\n")],
        fails: "compose.yaml:2:26: service `b` not found in this file",
        ..CASE
    },
    Case {
        name: "fact 10: an include has its own directory and .env",
        files: &[
            (".env", "A=parent\n"),
            ("db/.env", "A=child\nB=child\n"),
            ("db/db.env", "E=1\n"),
            (
                "db/compose.yaml",
                "services: {db: {image: \"$A-$B\", env_file: ./db.env, volumes: [\"./data:/d\"], environment: [B]}}\nvolumes: {v: }",
            ),
            ("compose.yaml", "include: [db/compose.yaml]\nservices: {a: {image: x, depends_on: [db]}}"),
        ],
        yields: &[
            ("services.db.image", r#""parent-child""#),
            ("services.db.environment", r#"{"B": "child", "E": "1"}"#),
            ("services.db.volumes.0.source", r#""./db/data""#),
        ],
        ..CASE
    },
    Case {
        name: "fact 10: an include with another directory and override",
        files: &[
            ("c.env", "A=c\n"),
            ("db/compose.yaml", "services: {db: {image: \"$A\", volumes: [\"./data:/d\"]}}"),
            ("db/over.yaml", "services: {db: {user: u}}"),
            (
                "compose.yaml",
                "include:\n  - path: [db/compose.yaml, db/over.yaml]\n    project_directory: .\n    env_file: c.env\nservices: {a: {image: x}}",
            ),
        ],
        yields: &[
            ("services.db.image", r#""c""#),
            ("services.db.user", r#""u""#),
            ("services.db.volumes.0.source", r#""./data""#),
        ],
        ..CASE
    },
    Case {
        name: "fact 10: a local definition is merged over the included one",
        files: &[
            ("db.yaml", "services: {db: {image: x, user: u}}"),
            ("compose.yaml", "include: [db.yaml]\nservices: {db: {image: y}}"),
        ],
        yields: &[("services.db.image", r#""y""#), ("services.db.user", r#""u""#)],
        differs: "merged since compose-go 2.10",
        ..CASE
    },
    Case {
        name: "fact 10: a service can extend an included one",
        files: &[
            ("db.yaml", "services: {db: {image: x}}"),
            ("compose.yaml", "include: [db.yaml]\nservices: {a: {extends: db, user: u}}"),
        ],
        yields: &[("services.a.image", r#""x""#), ("services.a.user", r#""u""#)],
        differs: "includes are read before extends since compose-go 2.10.2",
        ..CASE
    },
    Case {
        name: "fact 10: an include of itself",
        files: &[("compose.yaml", "include: [compose.yaml]\nservices: {a: {image: x}}")],
        fails: "compose.yaml:1:11: `compose.yaml` includes itself",
        ..CASE
    },
    Case {
        name: "fact 11: documents of a file are merged",
        files: &[(
            "compose.yaml",
            "services: {a: {image: x, ports: [\"80:80\"]}}\n---\nservices: {a: {image: y, ports: [\"81:81\"]}, b: {image: z}}\n",
        )],
        yields: &[("services.a.image", r#""y""#), ("services.a.ports.1.target", "81"), ("services.b.image", r#""z""#)],
        ..CASE
    },
    Case {
        name: "fact 12: names of files in their order, with an override of any name",
        files: &[
            ("docker-compose.yml", "services: {a: {image: x}}"),
            ("docker-compose.yaml", "services: {a: {image: not}}"),
            ("compose.override.yml", "services: {a: {user: u}}"),
            ("docker-compose.override.yml", "services: {a: {user: not}}"),
        ],
        yields: &[("services.a.image", r#""x""#), ("services.a.user", r#""u""#)],
        ..CASE
    },
    Case {
        name: "fact 12: compose.yaml is preferred",
        files: &[
            ("docker-compose.yml", "services: {a: {image: not}}"),
            ("compose.yml", "services: {a: {image: not}}"),
            ("compose.yaml", "services: {a: {image: x}}"),
        ],
        yields: &[("services.a.image", r#""x""#)],
        ..CASE
    },
    Case {
        name: "fact 12: files are searched upwards",
        files: &[("../compose.yaml", "services: {a: {image: x, build: ./b}}"), ("other.txt", "")],
        yields: &[("services.a.image", r#""x""#)],
        ..CASE
    },
    Case {
        name: "fact 12: COMPOSE_FILE, COMPOSE_PATH_SEPARATOR and COMPOSE_PROFILES of .env",
        files: &[
            (".env", "COMPOSE_FILE=one.yaml%sub/two.yaml\nCOMPOSE_PATH_SEPARATOR=%\nCOMPOSE_PROFILES= p , q\n"),
            ("compose.yaml", "services: {a: {image: not}}"),
            ("one.yaml", "services: {a: {image: x, profiles: [q]}}"),
            ("sub/two.yaml", "services: {a: {user: u, volumes: [\"./d:/d\"]}, b: {image: x, profiles: [r]}}"),
        ],
        yields: &[
            ("services.a.image", r#""x""#),
            ("services.a.user", r#""u""#),
            ("services.a.volumes.0.source", r#""./d""#),
            ("services.b", "null"),
        ],
        ..CASE
    },
    Case {
        name: "fact 12: .env of the working directory and of the project",
        files: &[
            (".env", "COMPOSE_FILE=sub/compose.yaml\nA=first\nP=first\n"),
            ("sub/.env", "A=second\nB=second\nP=second\n"),
            ("sub/compose.yaml", "services: {a: {image: \"$A-$B-$P\"}}"),
        ],
        environment: &[("P", "process")],
        yields: &[("services.a.image", r#""first-second-process""#), ("name", r#""sub""#)],
        ..CASE
    },
    Case {
        name: "fact 12: env files of the command line, of COMPOSE_ENV_FILES, and none",
        files: &[(".env", "A=not\n"), ("a.env", "A=a\n"), ("compose.yaml", "services: {a: {image: \"${A:-none}\"}}")],
        environment: &[("COMPOSE_ENV_FILES", "not.env")],
        arguments: &["--env-file", "a.env"],
        yields: &[("services.a.image", r#""a""#)],
        ..CASE
    },
    Case {
        name: "fact 12: COMPOSE_ENV_FILES",
        files: &[(".env", "A=not\n"), ("a.env", "A=a\n"), ("compose.yaml", "services: {a: {image: \"${A:-none}\"}}")],
        environment: &[("COMPOSE_ENV_FILES", "a.env")],
        yields: &[("services.a.image", r#""a""#)],
        ..CASE
    },
    Case {
        name: "fact 12: COMPOSE_DISABLE_ENV_FILE",
        files: &[(".env", "A=not\n"), ("compose.yaml", "services: {a: {image: \"${A:-none}\"}}")],
        environment: &[("COMPOSE_DISABLE_ENV_FILE", "1")],
        yields: &[("services.a.image", r#""none""#)],
        ..CASE
    },
    Case {
        name: "fact 13: env files",
        files: &[
            (".env", "P=project\nA=project\n"),
            (
                "e.env",
                "A=1\nB=$A/${X:-x}/$OWN/$P # c\nKEY = v\nPEM=\"line1\nline2\"\nY: z\nexport E=\"a\\tb\"\nP\nC=a#b\nS='$A'\nH= # c\nU=$NO.\n",
            ),
            (
                "compose.yaml",
                "services: {a: {image: x, env_file: [e.env, {path: no.env, required: false}], environment: {OWN: o}}}",
            ),
        ],
        yields: &[(
            "services.a.environment",
            r##"{"A": "1", "B": "project/x/o/project", "KEY": "v", "PEM": "line1\nline2", "Y": "z", "E": "a\tb",
                "P": "project", "C": "a#b", "S": "$A", "OWN": "o", "H": "# c", "U": "."}"##,
        )],
        ..CASE
    },
    Case {
        name: "fact 13: a required env file that is missing",
        files: &[("compose.yaml", "services: {a: {image: x, env_file: no.env}}")],
        fails: "compose.yaml:1:36: file `no.env` not found",
        ..CASE
    },
    Case {
        name: "fact 13: the env file of an inactive service is not read",
        files: &[("compose.yaml", "services: {a: {image: x}, b: {image: x, env_file: no.env, profiles: [p]}}")],
        yields: &[("services", r#"{"a": {"image": "x", "networks": {"default": null}}}"#)],
        ..CASE
    },
    Case {
        name: "fact 13: the raw format",
        files: &[
            ("e.env", "A='$B' # c\n# d\nC=\n"),
            ("compose.yaml", "services: {a: {image: x, env_file: [{path: e.env, format: raw}]}}"),
        ],
        yields: &[("services.a.environment", r#"{"A": "'$B' # c", "C": ""}"#)],
        ..CASE
    },
    Case {
        name: "fact 14: a mount source is a path by its first character only",
        files: &[(
            "compose.yaml",
            "services: {a: {image: x, volumes: [\".data:/a\", \"~x:/b\", \"~/x:/c/../d\", \"/e:/f:z,cached,roz\", /g, \
             {type: bind, source: h, target: /h, bind: {create_host_path: false}}, {type: bind, source: ./i, target: /i}]}}",
        )],
        yields: &[
            ("services.a.volumes.0.source", r#""./.data""#),
            ("services.a.volumes.1.source", r#""/home/ann/x""#),
            ("services.a.volumes.2.source", r#""/home/ann/x""#),
            ("services.a.volumes.2.target", r#""/d""#),
            ("services.a.volumes.3.bind", r#"{"selinux": "z", "create_host_path": true}"#),
            ("services.a.volumes.4", r#"{"type": "volume", "target": "/g"}"#),
            ("services.a.volumes.5", r#"{"type": "bind", "source": "./h", "target": "/h"}"#),
            ("services.a.volumes.6.bind", r#"{"create_host_path": true}"#),
        ],
        ..CASE
    },
    Case {
        name: "fact 14: a path without ./ is a volume, which is undefined",
        files: &[("compose.yaml", "services: {a: {image: x, volumes: [\"data/sub:/d\"]}}")],
        fails: "compose.yaml:1:36: undefined volume `data/sub`",
        ..CASE
    },
    Case {
        name: "fact 15: the restart policy of deploy is kept beside restart",
        files: &[(
            "compose.yaml",
            "services: {a: {image: x, restart: always, deploy: {restart_policy: {delay: 5s}, resources: {limits: {cpus: \"0.5\", memory: 50M}}}}}",
        )],
        yields: &[
            ("services.a.restart", r#""always""#),
            (
                "services.a.deploy",
                r#"{"restart_policy": {"delay": "5s"}, "resources": {"limits": {"cpus": 0.5, "memory": "52428800"}}}"#,
            ),
        ],
        ..CASE
    },
];
