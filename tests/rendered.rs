//! Specs printed by `render` are equivalent to their sources.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use drillmaster::control::programs::Workers;
use drillmaster::control::specs::sources::{self, ProgramFileAccess};
use drillmaster::desired::resolve::{ResolveContext, resolve};
use drillmaster::desired::{Desired, Service};
use drillmaster::render::{diagnostics, specs};
use drillmaster::spec::build::Dockerfile;
use drillmaster::spec::model::{Build, Check, HookAction};
use drillmaster::spec::{Input, Specs, Tree, load};

#[track_caller]
fn read(directory: &Path, environment: &[(&str, &str)]) -> Specs {
    let sources = sources::read(directory, None).unwrap();
    let environment: BTreeMap<String, String> =
        environment.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let tree = |build: &Build| {
        let context = build.context.clone();
        Ok(Tree {
            dockerfile: Dockerfile::File(format!("{context}/Dockerfile")),
            context,
            digest: "00ff".into(),
            files: Default::default(),
        })
    };
    let (workers, access) = (Workers::new(env!("CARGO_BIN_EXE_drillmaster").into()), ProgramFileAccess(directory));
    let interpreter = workers.interpreter(&access);
    let input = Input {
        dir: "specs",
        files: &sources.files,
        dotenv: &sources.dotenv,
        environment: &environment,
        lenient: false,
        profiles: &Default::default(),
        context: &BTreeMap::new(),
        read: &|path| sources::read_file(directory, path),
        tree: &tree,
        interpreter: &interpreter,
    };
    load(&input).unwrap_or_else(|errors| panic!("{}", diagnostics::render(&errors, false)))
}

fn desired(specs: &Specs) -> Desired {
    resolve(specs, ResolveContext { group: None, directory: "/srv/shop/specs", home: Some("/home/ann") })
}

/// Returns everything except source locations, and where variables were inserted.
fn content(mut desired: Desired) -> (String, String, String, Vec<Service>) {
    let hooks = desired.services.values_mut().flat_map(|service| service.hooks.values_mut());
    hooks.chain(desired.on.values_mut()).flatten().for_each(|hook| hook.secret = false);
    let without_places = |mut service: Service| {
        service.requirements.iter_mut().for_each(|requirement| requirement.place.clear());
        Service { location: String::new(), secret: [].into(), ..service }
    };
    let services = desired.services.into_values().map(without_places).collect();
    (desired.group, desired.network, format!("{:?}", desired.on), services)
}

/// Checks that specs and their rendered form load to the same state. Returns the rendered form.
#[track_caller]
fn assert_equivalent(directory: &Path, environment: &[(&str, &str)]) -> String {
    let first = read(directory, environment);
    let yaml = specs::yaml(&first, &[], true);
    let again = tempfile::tempdir().unwrap();
    fs::write(again.path().join("all.yaml"), &yaml).unwrap();
    for further in first.reads.iter().filter(|path| directory.join(path).is_file()) {
        let to = again.path().join(further);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(directory.join(further), to).unwrap();
    }
    let second = read(again.path(), &[]);
    assert_eq!(content(desired(&first)), content(desired(&second)), "{yaml}");
    assert_eq!(specs::yaml(&second, &[], true).lines().count(), yaml.lines().count());
    yaml
}

#[track_caller]
fn files(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (path, text) in files {
        fs::write(directory.path().join(path), text).unwrap();
    }
    directory
}

/// Returns true if the specs contain functions, which YAML does not support.
fn has_functions(specs: &Specs) -> bool {
    let desired = desired(specs);
    desired.services.values().any(|service| {
        let ping = service.ping.as_ref().is_some_and(|ping| matches!(ping.check, Check::Function(_)));
        ping || service.hooks.values().flatten().any(|hook| matches!(hook.action, HookAction::Function(_)))
    })
}

#[test]
fn rendered_examples_load_to_the_same_specs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let examples = fs::read_dir(root.join("examples")).unwrap().map(|entry| entry.unwrap().path());
    let mut directories: Vec<PathBuf> = examples.filter(|path| path.is_dir()).collect();
    directories.push(root.join("specs"));
    let mut count = 0;
    for directory in directories {
        // An example may contain other files.
        let specs = Some(directory.join("specs")).filter(|specs| specs.is_dir()).unwrap_or(directory);
        let environment = [("HOME", "/home/ann"), ("GREETING", "hello")];
        if !has_functions(&read(&specs, &environment)) {
            assert_equivalent(&specs, &environment);
            count += 1;
        }
    }
    assert!(count >= 6, "{count}");
}

#[test]
fn value_types_are_preserved() {
    let yaml = r##"
name: a
image: "x:${TAG}"
user: ${NUMBER}
command: ["${NUMBER}", 80, "80", yes, "no", ~, "", " x ", "a: b", "- c", "#d", "$$HOME ${WORD} $$$$", "é\n\t\"", 'it''s']
env: {NUMBER: "${NUMBER}", WORD: "${WORD}", EMPTY: "${EMPTY}", TRUE: true, "A.B": 1.10, HEX: 0x1F, OCTAL: 010, EXP: 1e3, SMALL: 1.0e-5, YES: True, LONG: "${WORD}${NUMBER}"}
ports: ["${NUMBER}:80", "${NUMBER}"]
resources: {cpus: "${FRACTION}", pids: "${NUMBER}", memory: "${NUMBER}m"}
privileged: "${TRUTH}"
stop_timeout: "${EMPTY}"
labels: {"1": 2, "a b": "c:", on: off, "x.y/z": ""}
ping: {http: {port: "${NUMBER}", path: "/${WORD}"}}
post_start:
- {exec: [a], timeout: 5s}
- http: {url: "http://h/x", headers: {A: "1"}, body: "{\"a\": [1]}"}
---
name: "${NUMBER}"
image: x
env: {USER_ID: "${context.user} of ${WORD} $$", N: "${context.n}"}
resources: {cpus: "${context.cpus}", pids: 0x10}
dependencies: [{name: a, condition: started}]
---
kind: Job
name: j
image: x
command: |
  run  this
  and that
capture: user
---
kind: Job
name: k
image: x
pre_start: {run: [a], capture: n}
resources: {cpus: 1.50}
"##;
    let yaml = yaml.replace("~, ", "");
    let directory = files(&[("app.yaml", &yaml)]);
    let environment =
        [("TAG", "1.0"), ("NUMBER", "8080"), ("WORD", "word"), ("EMPTY", ""), ("FRACTION", "0.5"), ("TRUTH", "true")];
    assert_equivalent(directory.path(), &environment);
}

#[test]
fn programs_are_rendered_as_their_specs() {
    let program = r#"
def ready(ctx):
    return True

group(name="shop", network="shop-net", on={"up": [run(["./greet.sh"])]})
for n in range(2):
    service(
        name="shard-%d" % n,
        image="shop/shard:1",
        command=["serve", "--shard", n, "$HOME"],
        env={"PASSWORD": "hunter2", "USER": context("user")},
        ports=[] if n else ["8080:80", {"container": 81, "host": 8081}],
        ping=ready if n else tcp(80, timeout="60s"),
        post_start=[exec(["sh", "-c", "echo one of the very long commands that do not fit into a line of eighty characters"]), {"function": ready}],
    )
job(name="seed", image="shop/seed:1", retries=3, capture="user")
"#;
    let directory = files(&[("app.star", program)]);
    let found = read(directory.path(), &[]);
    let hidden = specs::yaml(&found, &[], false);
    let named = specs::yaml(&found, &["seed".to_owned()], true);
    let json = serde_json::to_string_pretty(&specs::to_json(&found, &["shard-0".to_owned()], false)).unwrap();
    assert!(!hidden.contains("hunter2") && specs::yaml(&found, &[], true).contains("hunter2"));
    insta::assert_snapshot!("program", format!("{hidden}=== seed\n{named}=== JSON\n{json}"));
}

/// The demo as a program.
const DEMO: &str = r#"
USER, PASSWORD, DB = "dbuser", "dbpwd", "appdb"

group(name="todo")

appdb = service(
    name="appdb",
    build="../demo/appdb",
    env={"POSTGRES_USER": USER, "POSTGRES_PASSWORD": PASSWORD, "POSTGRES_DB": DB},
    ports=["5433:5432"],
    volumes=["appdb-data:/var/lib/postgresql/data"],
    ping=tcp(5432),
    post_start=exec(["sh", "/usr/local/bin/first-user.sh", "ann"], capture="user_id"),
)

app = {"image": "todo-app", "build": "../demo/todo"}
uri = "postgresql://%s:%s@%s/%s" % (USER, PASSWORD, appdb.address(5432), DB)
migrate = job(
    name="migrate",
    command=["python3", "/usr/local/bin/todo.py", "migrate"],
    env={"DB_URI": uri},
    dependencies=[appdb],
    **app
)
service(
    name="todo",
    env={"DB_URI": uri, "USER_ID": context("user_id"), "TITLE": env("TODO_TITLE", "Things to do")},
    ports=["8080:8080"],
    dependencies=[migrate],
    ping=http("/healthz", port=8080),
    **app
)
"#;

#[test]
fn demo_is_the_same_in_both_formats() {
    let yaml = desired(&read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("specs"), &[]));
    let directory = files(&[("app.star", DEMO)]);
    let star = desired(&read(directory.path(), &[]));
    for (name, service) in &yaml.services {
        assert_eq!(service.fingerprint, star.services[name].fingerprint, "{name}");
    }
    assert_eq!(content(yaml), content(star));
    assert_equivalent(directory.path(), &[]);
}
