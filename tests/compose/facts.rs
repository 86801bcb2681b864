//! Facts about compose files that are easily remembered wrongly, as a table. `dev/compose-compare.sh` runs the same table
//! against docker compose.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use drillmaster::spec::compose::{Files, Loaded, Request, load};
use serde_json::Value;

use crate::compare::{docker_compose_with, environment};
use crate::config;
use crate::disk::{Disk, Memory};

/// Files, and what they mean.
#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    /// Files relative to the directory of the project.
    pub files: &'static [(&'static str, &'static str)],
    pub environment: &'static [(&'static str, &'static str)],
    /// Arguments of docker compose: `-f`, `--profile`, `--env-file`, `-p`, `--project-directory`.
    pub arguments: &'static [&'static str],
    /// Paths in the result with their values, as JSON; `.` stands for the directory of the project.
    pub yields: &'static [(&'static str, &'static str)],
    /// Part of the first error instead.
    pub fails: &'static str,
    /// Why docker compose 2.40.3 differs.
    pub differs: &'static str,
}

pub const CASE: Case =
    Case { name: "", files: &[], environment: &[], arguments: &[], yields: &[], fails: "", differs: "" };

/// Directory of the project in memory.
const DIRECTORY: &str = "/p/shop";

fn load_case(case: &Case, access: &dyn Files, directory: &str) -> Loaded {
    let mut variables = environment();
    variables.extend(case.environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    let argument = |option: &str| -> Vec<String> {
        let pairs = case.arguments.windows(2).filter(|pair| pair[0] == option);
        pairs.map(|pair| pair[1].to_owned()).collect()
    };
    load(&Request {
        files: &argument("-f"),
        env_files: &argument("--env-file"),
        profiles: &argument("--profile"),
        services: &[],
        name: argument("-p").first().map(String::as_str),
        directory: argument("--project-directory").first().map(String::as_str),
        working_directory: directory,
        home: Some("/home/ann"),
        environment: &variables,
        access,
    })
}

/// Reads the project of a directory.
pub fn load_from(access: &dyn Files, directory: &str) -> Loaded {
    load_case(&CASE, access, directory)
}

/// Reads files in memory, by their paths relative to the directory of the project.
pub fn load_files(files: &BTreeMap<String, String>) -> Loaded {
    load_from(&memory(files.iter().map(|(path, text)| (path.as_str(), text.as_str()))), DIRECTORY)
}

fn memory<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> Memory {
    let absolute = |path: &str| match path.strip_prefix("../") {
        Some(path) => format!("/p/{path}"),
        None => format!("{DIRECTORY}/{path}"),
    };
    Memory(files.map(|(path, text)| (absolute(path), text.to_owned())).collect())
}

pub fn in_memory(case: &Case) -> Loaded {
    load_case(case, &memory(case.files.iter().copied()), DIRECTORY)
}

/// Writes files to the disk, and returns the directory of the project.
pub fn write_files(root: &Path, files: &BTreeMap<String, String>) -> PathBuf {
    let directory = root.canonicalize().unwrap().join("shop");
    fs::create_dir(&directory).unwrap();
    for (path, text) in files {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    directory
}

fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, |value, key| match value {
        Value::Array(items) => &items[key.parse::<usize>().unwrap()],
        value => &value[key],
    })
}

fn check(case: &Case) -> Result<(), String> {
    match in_memory(case).project.ok_or("no compose file found")? {
        Err(errors) if case.fails.is_empty() => Err(format!("fails: {}", errors[0])),
        Err(errors) if !errors[0].to_string().contains(case.fails) => Err(format!("other error: {}", errors[0])),
        Err(_) => Ok(()),
        Ok(_) if !case.fails.is_empty() => Err("does not fail".to_owned()),
        Ok(project) => {
            let text = config::print(&project).to_string().replace(DIRECTORY, ".");
            let printed: Value = serde_json::from_str(&text).unwrap();
            for (path, expected) in case.yields {
                let found = at(&printed, path);
                let expected: Value = serde_json::from_str(expected).unwrap_or_else(|_| panic!("{expected}"));
                if *found != expected {
                    return Err(format!("{path} is {found}, not {expected}"));
                }
            }
            Ok(())
        }
    }
}

#[test]
fn facts() {
    let wrong: Vec<String> =
        CASES.iter().filter_map(|case| Some(format!("{}: {}", case.name, check(case).err()?))).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for case in CASES {
        assert!(!case.yields.is_empty() || !case.fails.is_empty(), "{} expects nothing", case.name);
    }
}

/// Every fact that is about the 15 facts, the runners-up or the pitfalls has a case.
#[test]
fn every_fact_has_a_case() {
    let named = |start: String| CASES.iter().any(|case| case.name.starts_with(&start));
    for fact in 1..=15 {
        assert!(named(format!("fact {fact}:")), "fact {fact}");
    }
    // 3 and 11 are about what runs, not about what is read.
    for pitfall in (1..=13).filter(|pitfall| ![3, 11].contains(pitfall)) {
        assert!(named(format!("pitfall {pitfall}:")), "pitfall {pitfall}");
    }
}

/// Runs docker compose on each case.
#[test]
#[ignore = "dev/compose-compare.sh runs it"]
fn facts_agree_with_docker_compose() {
    let binary = std::env::var("DRILLMASTER_COMPOSE").unwrap();
    let mut wrong = Vec::new();
    let mut explained = 0;
    for case in CASES {
        let root = tempfile::tempdir().unwrap();
        let files = case.files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        let directory = write_files(root.path(), &files);
        let variables: BTreeMap<String, String> =
            case.environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let theirs = docker_compose_with(&binary, &directory, case.arguments, &variables);
        let ours = load_case(case, &Disk, directory.to_str().unwrap()).project.unwrap();
        let differences = match (ours, theirs) {
            (Err(_), Err(_)) => Vec::new(),
            (Err(errors), Ok(_)) => vec![format!("refused here only: {}", errors[0])],
            (Ok(_), Err(error)) => vec![format!("refused there only: {}", error.trim())],
            (Ok(project), Ok(theirs)) => {
                let mut found = Vec::new();
                let theirs = config::pruned(crate::compare::without_extensions(theirs), "");
                config::differences(&config::print(&project), &theirs, "", &mut found);
                found.retain(|it| !crate::compare::is_explained(it));
                found
            }
        };
        match (differences.is_empty(), case.differs.is_empty()) {
            (true, true) => {}
            (false, false) => {
                explained += 1;
                println!("{}: {} ({})", case.name, differences.join("; "), case.differs);
            }
            (false, true) => wrong.push(format!("{}: {}", case.name, differences.join("; "))),
            (true, false) => wrong.push(format!("{}: does not differ", case.name)),
        }
    }
    println!("{} facts, {explained} of them with an explained difference", CASES.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

pub const CASES: &[Case] = &[
    // The 15 facts.
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
