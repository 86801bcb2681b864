//! Specs as programs: the same as in YAML, with errors at their places, and within bounds.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use drillmaster::control::execute::stack::with_large_stack;
use drillmaster::desired::resolve::{ResolveContext, resolve};
use drillmaster::desired::{Desired, Service};
use drillmaster::render::diagnostics;
use drillmaster::spec::model;
use drillmaster::spec::starlark::{CallContext, CallResult, Function, Host, HttpTarget, Ran, Response};
use drillmaster::spec::{Content, Diagnostic, Input, Reach, SourceFile, Specs, Tree, load};

/// A spec directory in memory: `*.star` and `*.yaml` are specs, `env:NAME` sets a variable, all others can be read.
#[derive(Default)]
struct Directory {
    files: BTreeMap<String, String>,
    /// What was asked for.
    asked: Mutex<Vec<String>>,
}

impl Directory {
    fn of(files: &[(&str, &str)]) -> Directory {
        let files = files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect();
        Directory { files, ..Directory::default() }
    }

    fn load(&self) -> Result<Specs, Vec<Diagnostic>> {
        let is_spec = |path: &str| path.ends_with(".star") || path.ends_with(".yaml");
        let file = |(path, text): (&String, &String)| SourceFile {
            path: path.clone(),
            content: Content::Bytes(text.clone().into_bytes()),
        };
        let files: Vec<SourceFile> = self.files.iter().filter(|(path, _)| is_spec(path)).map(file).collect();
        let variable = |(path, text): (&String, &String)| Some((path.strip_prefix("env:")?.to_owned(), text.clone()));
        let environment = self.files.iter().filter_map(variable).collect();
        let read = |path: &str| self.read(path);
        let (environment, context) = (&environment, &BTreeMap::new());
        let tree = |build: &model::Build| {
            let context = build.context.clone();
            Ok(Tree { dockerfile: format!("{context}/Dockerfile"), context, digest: "00ff".into() })
        };
        let input = Input {
            dir: "specs",
            files: &files,
            dotenv: None,
            environment,
            context,
            read: &read,
            tree: &tree,
            reach: self,
        };
        with_large_stack(|| load(&input)).unwrap()
    }
}

impl Reach for Directory {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        self.asked.lock().unwrap().push(path.to_owned());
        let found = self.files.get(path).map(|text| text.clone().into_bytes());
        found.ok_or_else(|| "there is no such file".to_owned())
    }

    fn list(&self, path: &str) -> Result<Vec<(String, bool)>, String> {
        self.asked.lock().unwrap().push(format!("{path}/"));
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let inside = self.files.keys().filter_map(|file| file.strip_prefix(&prefix));
        let names = inside.map(|rest| match rest.split_once('/') {
            Some((directory, _)) => (directory.to_owned(), true),
            None => (rest.to_owned(), false),
        });
        Ok(names.collect::<std::collections::BTreeSet<_>>().into_iter().collect())
    }

    fn expired(&self) -> bool {
        false
    }
}

fn told(errors: &[Diagnostic]) -> String {
    diagnostics::render(errors, false)
}

#[track_caller]
fn specs(files: &[(&str, &str)]) -> Specs {
    Directory::of(files).load().unwrap_or_else(|errors| panic!("{}", told(&errors)))
}

#[track_caller]
fn errors(files: &[(&str, &str)]) -> String {
    match Directory::of(files).load() {
        Ok(specs) => panic!("no error: {specs:#?}"),
        Err(errors) => told(&errors),
    }
}

/// The messages of a program that is wrong, each with its place.
#[track_caller]
fn messages(program: &str) -> Vec<String> {
    let errors = Directory::of(&[("app.star", program)]).load().err().unwrap_or_default();
    errors.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn desired(files: &[(&str, &str)]) -> Desired {
    resolve(&specs(files), ResolveContext { group: Some("shop"), directory: "/srv/shop/specs", home: None })
}

/// But for where it is written.
fn without_place(service: &Service) -> Service {
    Service { place: String::new(), ..service.clone() }
}

#[track_caller]
fn same(yaml: &str, star: &str) {
    let (yaml, star) = (desired(&[("app.yaml", yaml)]), desired(&[("app.star", star)]));
    let services = |desired: &Desired| -> Vec<Service> { desired.services.values().map(without_place).collect() };
    assert_eq!(services(&yaml), services(&star));
    assert_eq!((yaml.group, yaml.network, yaml.on), (star.group, star.network, star.on));
}

// --- the same as in YAML ---------------------------------------------------------------------------------------------

/// The stack of the demo.
const DEMO: &str = r#"
group(name="demo")

appdb = service(
    name="appdb",
    image="drillmaster/demo-appdb",
    env={"POSTGRES_PASSWORD": env("TODO_PASSWORD", "todo")},
    volumes=["data:/var/lib/postgresql/data"],
    ping=tcp(5432),
)
service(
    name="todo",
    image="drillmaster/demo-todo",
    env={"DATABASE_HOST": appdb.name, "DATABASE_PASSWORD": env("TODO_PASSWORD", "todo"), "PORT": 8080},
    ports=["8080:8080"],
    dependencies=[appdb],
    ping=http("/healthz", port=8080, timeout="30s"),
)
"#;

const DEMO_IN_YAML: &str = r#"
kind: Group
name: demo
---
name: appdb
image: drillmaster/demo-appdb
env: {POSTGRES_PASSWORD: "${TODO_PASSWORD:-todo}"}
volumes: ["data:/var/lib/postgresql/data"]
ping: {tcp: 5432}
---
name: todo
image: drillmaster/demo-todo
env: {DATABASE_HOST: appdb, DATABASE_PASSWORD: "${TODO_PASSWORD:-todo}", PORT: 8080}
ports: ["8080:8080"]
dependencies: [appdb]
ping: {http: {port: 8080, path: /healthz}, timeout: 30s}
"#;

#[test]
fn a_stack_is_the_same_in_either_form() {
    same(DEMO_IN_YAML, DEMO);
    let (yaml, star) = (desired(&[("app.yaml", DEMO_IN_YAML)]), desired(&[("app.star", DEMO)]));
    for (name, service) in &yaml.services {
        assert_eq!(service.fingerprint, star.services[name].fingerprint, "{name}");
    }
    assert_eq!(yaml.services["todo"].place, "app.yaml:11");
    assert_eq!(star.services["todo"].place, "app.star:12");
}

/// An example of each field of every kind.
const FIELDS: &str = r#"{
    "name": "a", "image": "shop/api:1", "command": ["serve", "--port", 80], "entrypoint": "/entry 'two words'",
    "user": 1000, "working_dir": "/srv", "env": {"LOG": "info", "PORT": 80, "ON": true, "RATIO": 0.5},
    "env_file": "common.env", "ports": ["8080:80", 9000, {"container": 443, "host": 8443}],
    "volumes": ["data:/data", {"type": "bind", "source": "./x", "target": "/x"}], "tmpfs": ["/run"],
    "dependencies": ["other", {"name": "more", "condition": "started", "restart": true}],
    "ping": {"http": {"port": 80, "path": "/healthz", "status": 204}, "interval": "1s", "timeout": "60s"},
    "health": {"interval": "10s", "retries": 3, "action": "replace"}, "healthcheck": {"test": ["CMD", "x"], "retries": 3},
    "pre_start": {"run": ["./a.sh"], "timeout": "30s"}, "post_start": [{"exec": "b"}, {"http": "http://localhost:9"}],
    "pre_stop": {"exec": ["c"]}, "post_stop": {"run": "d"}, "stop_signal": "int", "stop_timeout": "1m30s",
    "restart": "on-failure:5", "resources": {"memory": "256m", "cpus": 0.5, "pids": 100}, "labels": {"tier": "web"},
    "hostname": "a.local", "aliases": ["b"], "extra_hosts": ["db:10.0.0.5"], "cap_add": ["NET_ADMIN"],
    "cap_drop": ["ALL"], "privileged": true, "read_only": true, "init": true, "shm_size": "64m",
    "ulimits": {"nofile": {"soft": 10, "hard": -1}}, "pull": "always", "retries": 3, "rerun": "always",
    "network": "shop-net", "build": {"context": "./src", "args": {"A": "b"}}, "capture": "key",
    "update": {"order": "start-first", "min_ready": "2s"}, "replicas": 2, "on": {"failed": {"run": ["./e.sh"]}}
}"#;

/// JSON as Starlark writes it.
fn literal(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Array(items) => format!("[{}]", items.iter().map(literal).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let entry = |(key, value): (&String, &Value)| format!("{key:?}: {}", literal(value));
            format!("{{{}}}", fields.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

#[test]
fn every_field_of_every_kind_can_be_written() {
    let examples: serde_json::Map<String, serde_json::Value> = serde_json::from_str(FIELDS).unwrap();
    let schema = drillmaster::spec::schema();
    let mut seen = std::collections::BTreeSet::new();
    for (kind, function) in [("Service", "service"), ("Job", "job"), ("Group", "group")] {
        let fields = schema["$defs"][kind]["properties"].as_object().unwrap();
        for field in fields.keys().filter(|field| *field != "kind") {
            let mut value = examples.get(field).unwrap_or_else(|| panic!("no example of `{field}`")).clone();
            if kind == "Group" && field == "on" {
                value = serde_json::json!({"up": {"run": ["./e.sh"]}});
            }
            let needed = if kind == "Group" { vec![] } else { vec![("name", "a"), ("image", "x")] };
            let mut document: serde_json::Map<_, _> =
                needed.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
            document.insert(field.clone(), value);
            let arguments: Vec<String> =
                document.iter().map(|(name, value)| format!("{name}={}", literal(value))).collect();
            let program = format!("{function}({})\n", arguments.join(", "));
            document.insert("kind".into(), kind.into());
            let others =
                [("other.yaml", "name: other\nimage: x\n---\nname: more\nimage: x\n"), ("common.env", "A=1\n")];
            let load = |path: &str, text: &str| {
                let files: Vec<(&str, &str)> = others.into_iter().chain([(path, text)]).collect();
                let with_env_file = Directory::of(&files);
                let specs = with_env_file.load().unwrap_or_else(|errors| panic!("{text}{}", told(&errors)));
                let group = specs.group.map(|group| group.spec);
                (group, specs.services.into_iter().map(|service| service.spec).collect::<Vec<_>>())
            };
            let yaml = load("app.yaml", &serde_json::Value::Object(document).to_string());
            assert_eq!(load("app.star", &program), yaml, "{program}");
            seen.insert(field.clone());
        }
    }
    assert_eq!(seen.len(), examples.len(), "an example of a field that is none");
}

#[test]
fn values_can_be_passed_on() {
    let program = r#"
db = service(name="db", image="x")
load_it = job(name="load-it", image="x", dependencies=[db])
api = service(
    name="api",
    image=db.image,
    env={"DB": db.address(5432), "SELF": "%s/%s" % (db, load_it.kind), "URL": db.url(80, "/v1"),
         "OTHER": f"{db.url(5432, scheme='postgres')}/x"},
    dependencies=[db, depends(load_it, condition="succeeded", restart=True)],
)
service(name="also", image="x", dependencies=[{"name": api}, db] if api != db else [])
"#;
    let yaml = r#"
{name: db, image: x}
---
{kind: Job, name: load-it, image: x, dependencies: [db]}
---
name: api
image: x
env: {DB: "db:5432", SELF: db/Job, URL: "http://db:80/v1", OTHER: "postgres://db:5432/x"}
dependencies: [db, {name: load-it, condition: succeeded, restart: true}]
---
{name: also, image: x, dependencies: [api, db]}
"#;
    same(yaml, program);
}

#[test]
fn helpers_are_short_for_what_yaml_writes() {
    let program = r#"
pings = [tcp(80, interval="1s"), http("/x", port=81, status=204, timeout="9s"), exec(["a"]), run("b c"), log("d")]
for index, ping in enumerate(pings):
    service(name="a%d" % index, image="x", ping=ping,
            post_start=[exec("e"), http("http://h/i", method="POST", body="j", timeout="2s"), run(["k"], timeout=5)] if not index else [])
"#;
    let yaml = r#"
name: a0
image: x
ping: {tcp: 80, interval: 1s}
post_start: [{exec: e}, {http: {url: "http://h/i", method: POST, body: j}, timeout: 2s}, {run: [k], timeout: 5}]
---
{name: a1, image: x, ping: {http: {path: /x, port: 81, status: 204}, timeout: 9s}}
---
{name: a2, image: x, ping: {exec: [a]}}
---
{name: a3, image: x, ping: {run: b c}}
---
{name: a4, image: x, ping: {log: d}}
"#;
    let program = program.replace("timeout=5)", "timeout=\"5s\")");
    same(&yaml.replace("timeout: 5}", "timeout: 5s}"), &program);
}

#[test]
fn a_dollar_is_a_dollar() {
    let program = "service(name='a', image='x', command=['sh', '-c', 'echo $HOME ${HOME} $$'])\n";
    let desired = desired(&[("app.star", program), ("env:HOME", "/home/ann")]);
    assert_eq!(desired.services["a"].config.command.as_deref().unwrap()[2], "echo $HOME ${HOME} $$");
}

#[test]
fn what_the_language_has() {
    let program = r#"
def shard(n: int, of: int = 3, *rest, **more) -> dict:
    """One of several."""
    return {"NAME": "-".join(["shard", str(n), repr(of)]), "LIST": "{}".format([n] * 2).replace(" ", "")}

words = struct(hello="world")
total = 0
for n in range(3):
    total += n
table = {n: v for n, v in zip(["b", "a"], (1, 2)) if v}
decoded = json.decode('{"x": [1, 2.5, null, "y"]}')
service(
    name="a",
    image="x",
    env=dict(
        shard(1),
        TOTAL=total,
        WORDS=words.hello.upper(),
        TABLE=json.encode(table),
        DECODED=json.encode(decoded),
        SORTED=",".join(sorted(table)),
        SET=str(len(set([1, 1, 2]))),
        F=f"{words.hello!r} {total}",
        FILTERED="".join(filter(lambda c: c != "o", list("foo".elems()))),
        PERCENT="%s %d %r" % ("s", 5, "r"),
    ),
)
"#;
    let env = &desired(&[("app.star", program)]).services["a"].env;
    let shown: Vec<String> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        shown.join("\n"),
        "DECODED={\"x\":[1,2.5,null,\"y\"]}\nF=\"world\" 3\nFILTERED=f\nLIST=[1,1]\nNAME=shard-1-3\nPERCENT=s 5 \"r\"\nSET=2\n\
         SORTED=a,b\nTABLE={\"b\":1,\"a\":2}\nTOTAL=3\nWORDS=WORLD"
    );
}

// --- files -----------------------------------------------------------------------------------------------------------

#[test]
fn libraries_are_evaluated_once_and_may_make_services() {
    let lib = r#"
load("sub/names.star", "PREFIX")
print("evaluated")
def postgres(name):
    return service(name=PREFIX + name, image="postgres:17", ping=tcp(5432))
service(name="always", image="x")
"#;
    let files = [
        ("a.star", "load('lib.star', 'postgres')\npostgres('a')\n"),
        ("b.star", "load('./lib.star', pg='postgres')\npg('b')\n"),
        ("lib.star", lib),
        ("sub/names.star", "PREFIX = 'db-'\n"),
        ("c.yaml", "name: c\nimage: x\ndependencies: [db-a, always]\n"),
    ];
    let specs = specs(&files);
    let services: Vec<String> =
        specs.services.iter().map(|service| format!("{} {}", service.spec.container.name, service.source)).collect();
    assert_eq!(services, ["always lib.star:6", "c c.yaml:1", "db-a lib.star:5", "db-b lib.star:5"]);
    assert_eq!(specs.printed, ["lib.star: evaluated"]);
}

#[test]
fn read_files_are_recorded() {
    let program = r#"
tables = [json.decode(read_file(path)) for path in glob("tables/*.json")]
for row in tables:
    service(name=row["name"], image="x", env={"LEVEL": env("LEVEL", "info"), "HOME": env("HOME")})
service(name="deep", image="x", labels={"found": " ".join(glob("**/x?.txt") + glob("none/*"))})
"#;
    let directory = Directory::of(&[
        ("app.star", program),
        ("tables/b.json", "{\"name\": \"b\"}"),
        ("tables/a.json", "{\"name\": \"a\"}"),
        ("tables/.hidden.json", "no"),
        ("x1.txt", ""),
        ("some/where/x2.txt", ""),
        ("some/xyz.txt", ""),
        ("env:HOME", "/home/ann"),
    ]);
    let specs = directory.load().unwrap_or_else(|errors| panic!("{}", told(&errors)));
    let names: Vec<&str> = specs.services.iter().map(|service| service.spec.container.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "deep"]);
    assert_eq!(specs.services[2].spec.container.labels["found"].as_str(), "some/where/x2.txt x1.txt");
    assert_eq!(specs.services[0].spec.container.env["HOME"].as_str(), "/home/ann");
    let variables: Vec<&str> = specs.variables.iter().map(String::as_str).collect();
    assert_eq!(variables, ["HOME", "LEVEL"]);
    for path in ["tables", "tables/a.json", "tables/b.json", "", "some", "some/where"] {
        assert!(specs.reads.contains(path), "{path:?} of {:?}", specs.reads);
    }
}

#[test]
fn a_program_without_specs_is_none() {
    assert!(errors(&[("lib.star", "def f():\n  pass\n")]).starts_with("error: there is no document in `specs`"));
}

// --- errors ----------------------------------------------------------------------------------------------------------

#[test]
fn errors_are_reported_at_their_place() {
    let lib = r#"def postgres(name):
    return service(name=name, image="x", env={"A": [1]})

def port(n):
    return n + 1

def deep(n):
    return port(n)
"#;
    let wrong = [
        ("fields", "service(nmae=\"a\", image=\"A b\", ports=[1, \"x:y\"],\n        ping=http(\"/x\", prot=5))\n"),
        ("made-in-a-library", "load(\"lib.star\", \"postgres\")\n\n[postgres(name) for name in [\"a\", \"b\"]]\n"),
        ("call-stack", "load(\"lib.star\", \"deep\")\nx = deep(\"a\")\n"),
        ("syntax", "service(name=\"a\"\n        image=\"x\")\n"),
        ("name", "x = servce(name=\"a\")\n"),
        ("argument", "x = env(\"A\", defualt=1)\n"),
        ("own-argument", "def f(level=1):\n    pass\nf(levle=1)\n"),
        ("variable", "x = env(\"LEVL\")\n"),
        ("fail", "fail(\"no shards\")\n"),
        ("function", "def f():\n    pass\nservice(name=\"a\", image=\"x\", env={\"A\": f})\n"),
        ("built-in", "service(name=\"a\", image=\"x\", ping=len)\n"),
        ("key", "service(name=\"a\", image=\"x\", env={(1, 2): \"b\"})\n"),
        (
            "dependency",
            "service(name=\"a\", image=\"x\", dependencies=[\"appd\"])\nservice(name=\"appdb\", image=\"x\")\n",
        ),
        ("twice", "for n in range(2):\n    service(name=\"a\", image=\"x\")\n"),
        ("read", "read_file(\"none.txt\")\n"),
        ("operator", "x = 2\nx *= 3\n"),
        ("joined", "x = \"-\".join([1]).upper()\n"),
        ("attribute", "x = service(name=\"a\", image=\"x\").nmae\n"),
        ("json", "x = json.decode(\"{\")\n"),
        ("large-number", "x = json.decode(\"1e999\")\n"),
        ("context", "service(name=\"a\", image=\"x\", env={\"A\": [\"b\"]},\n        post_start=[1])\n"),
    ];
    let mut all = String::new();
    for (name, program) in wrong {
        let files = [("app.star", program), ("lib.star", lib), ("env:LEVEL", "x")];
        all.push_str(&format!("--- {name}\n{}\n", errors(&files)));
    }
    insta::assert_snapshot!("starlark_wrong", all);
}

#[test]
fn loads_stay_in_the_directory_and_do_not_go_in_circles() {
    let one = |path: &str| format!("load({path:?}, \"x\")\n");
    let mut all = String::new();
    for path in ["../lib.star", "/etc/lib.star", "sub/../../lib.star", "libb.star", "data.json", ""] {
        let program = one(path);
        let files = [("app.star", program.as_str()), ("lib.star", "x = 1\n"), ("data.json", "{}")];
        all.push_str(&format!("--- {path}\n{}\n", errors(&files)));
    }
    let cycle = [("a.star", one("b.star")), ("b.star", one("c.star")), ("c.star", one("a.star"))];
    let files: Vec<(&str, &str)> = cycle.iter().map(|(path, text)| (*path, text.as_str())).collect();
    all.push_str(&format!("--- cycle\n{}\n", errors(&files)));
    for program in ["x = read_file(\"../x\")\n", "x = glob(\"/etc/*\")\n"] {
        all.push_str(&format!("--- {program}{}\n", errors(&[("app.star", program)])));
    }
    insta::assert_snapshot!("starlark_loads", all);
    let long: Vec<(String, String)> =
        (0..100).map(|n| (format!("f{n:03}.star"), one(&format!("f{:03}.star", n + 1)))).collect();
    let files: Vec<(&str, &str)> = long.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    assert!(errors(&files).contains("files load each other more than 50 deep"));
}

// --- limits ----------------------------------------------------------------------------------------------------------

#[test]
fn hostile_programs_are_errors_at_their_place() {
    const STEPS: &str = "the program takes more than 1000000 steps";
    const TEXT: &str = "this makes a text of more than 1 MiB";
    const LIST: &str = "this makes a list of more than 100000 elements";
    const DEEP: &str = "the program is nested too deep here";
    let nest = |open: &str, close: &str| format!("x = {}1{}\n", open.repeat(100_000), close.repeat(100_000));
    let mut wrong = Vec::new();
    let blocks: String = (0..700).map(|depth| format!("{}if True:\n", " ".repeat(depth))).collect();
    for (program, place, message) in [
        ("def f():\n  for a in range(1000000):\n    for b in range(1000000):\n      pass\nf()\n".into(), "3:5", STEPS),
        ("x = [b for a in range(1000000) for b in range(1000000) if not b]\n".into(), "1:59", STEPS),
        ("x = range(2000000000)\n".into(), "1:5", "a range of more than 1000000 numbers"),
        ("def f(n):\n  return f(n + 1)\nf(0)\n".into(), "2:12", "calls are nested more than 100 deep"),
        ("f = lambda g: g(g)\nf(f)\n".into(), "1:15", "calls are nested more than 100 deep"),
        ("x = \"x\" * 10000000000\n".into(), "1:5", TEXT),
        ("x = 1000000000 * \"xxxxxxxxxx\"\n".into(), "1:5", TEXT),
        ("x = \"x\"\nfor n in range(100):\n  x = x + x\n".into(), "3:7", TEXT),
        ("x = \"x\"\nfor n in range(100):\n  x += x\n".into(), "3:7", TEXT),
        ("x = \"x\"\nfor n in range(100):\n  x = \"%s%s\" % (x, x)\n".into(), "3:7", TEXT),
        ("x = \"x\"\nfor n in range(100):\n  x = \"{}{}\".format(x, x)\n".into(), "3:7", TEXT),
        ("x = \"\".join([\"x\" * 1000000] * 10000)\n".into(), "1:5", TEXT),
        ("x = (\"x\" * 1000000).replace(\"x\", \"y\" * 1000000)\n".into(), "1:5", TEXT),
        ("x = [1] * 1000000000\n".into(), "1:5", LIST),
        ("x = [1]\nfor n in range(100):\n  x = x + x\n".into(), "3:7", LIST),
        ("x = [1]\nfor n in range(100):\n  x += x\n".into(), "3:7", LIST),
        ("x = [1]\nfor n in range(100):\n  x = [x, x]\ny = str(x)\n".into(), "4:9", TEXT),
        ("x = [1]\nfor n in range(100):\n  x = [x, x]\ny = f\"{x}\"\n".into(), "4:8", TEXT),
        ("x = [1]\nfor n in range(100):\n  x = [x, x]\ny = json.encode(x)\n".into(), "4:5", TEXT),
        (
            "x = [1]\nfor n in range(60):\n  x = [x, x]\nservice(name=\"a\", image=\"x\", command=x)\n".into(),
            "4:1",
            "`command`: the program makes more specs than are read: tens of MiB",
        ),
        (
            "x = [1]\nfor n in range(100):\n  x = [x]\nservice(name=\"a\", image=\"x\", command=x)\n".into(),
            "4:1",
            "`command`: a value that is nested more than 64 deep",
        ),
        ("x = 3\nfor n in range(100):\n  x = x * x\n".into(), "3:7", "this makes a number of more than 1000 digits"),
        ("x = 1 << 100000\n".into(), "1:5", "this makes a number of more than 64 bits"),
        (
            "x = []\nfor n in range(100000):\n  x = [x]\n".into(),
            "1:1",
            "the program holds a value that is nested more than 10000 deep",
        ),
        (
            "def f():\n  x = []\n  for n in range(900000):\n    x.append(\"%s%s\" % (n, \"x\" * 1000))\nf()\n".into(),
            "4:5",
            "the program uses more than 64 MiB of memory",
        ),
        (
            "x = \"\\n\" * 1000000\nz = [x.splitlines() for n in range(1000)]\n".into(),
            "2:6",
            "the program uses more than 64 MiB of memory",
        ),
        (
            "x = range(1000000)\nz = [sorted(x) for n in range(1000)]\n".into(),
            "2:6",
            "the program uses more than 64 MiB of memory",
        ),
        (nest("(", ")"), "1:1003", DEEP),
        (nest("[", "]"), "1:1003", DEEP),
        (nest("-", ""), "1:1003", DEEP),
        (nest("not ", ""), "1:3997", DEEP),
        (nest("lambda: ", ""), "1:3997", DEEP),
        (format!("{blocks}{}pass\n", " ".repeat(700)), "252:", DEEP),
    ] {
        let messages = messages(&program);
        let expected = format!("specs/app.star:{place}");
        let as_expected =
            matches!(messages.as_slice(), [error] if error.starts_with(&expected) && error.ends_with(message));
        if !as_expected {
            wrong.push(format!("{:?}: {messages:?}, expected {expected} {message}", &program[..program.len().min(60)]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn large_programs_are_evaluated() {
    let program = "for n in range(5000):\n  service(name=\"a%d\" % n, image=\"x\", env={\"N\": n}, dependencies=[\"a%d\" % (n - 1)] if n else [])\n";
    assert_eq!(specs(&[("app.star", program)]).services.len(), 5000);
    let rows: String = (0..5000).map(|n| format!("    {{\"name\": \"a{n}\", \"port\": {n}}},\n")).collect();
    let program = format!("ROWS = [\n{rows}]\nfor row in ROWS:\n  service(name=row[\"name\"], image=\"x\")\n");
    assert_eq!(specs(&[("app.star", &program)]).services.len(), 5000);
}

// --- functions -------------------------------------------------------------------------------------------------------

/// What a function can do here: it writes down what it is asked for.
#[derive(Default)]
struct Stage {
    asked: Mutex<Vec<String>>,
    expired: std::sync::atomic::AtomicBool,
}

impl Stage {
    fn asked(&self, what: String) {
        self.asked.lock().unwrap().push(what);
    }
}

impl Host for Stage {
    fn exec(&self, command: &[String], limit: Option<Duration>) -> Result<Ran, String> {
        self.asked(format!("exec {} {limit:?}", command.join(" ")));
        let failed = (command[0] == "false").then(|| "false exited with code 1".to_owned());
        Ok(Ran { output: vec!["one".into(), "two".into()], failed })
    }

    fn run(&self, command: &[String], limit: Option<Duration>) -> Result<Ran, String> {
        self.asked(format!("run {} {limit:?}", command.join(" ")));
        Ok(Ran { output: vec!["ann".into()], failed: None })
    }

    fn get(&self, target: &HttpTarget, _: Option<Duration>) -> Result<Response, String> {
        self.asked(format!("get {target:?}"));
        Ok(Response { status: 404, body: "none".into() })
    }

    fn tcp(&self, port: u16) -> Result<bool, String> {
        Ok(port == 80)
    }

    fn logs(&self, lines: u32) -> Result<Vec<String>, String> {
        Ok(vec!["line".into(); lines as usize])
    }

    fn sleep(&self, time: Duration) -> Result<(), String> {
        self.asked(format!("sleep {time:?}"));
        Err("the run was interrupted".into())
    }

    fn say(&self, line: &str) {
        self.asked(format!("say {line}"));
    }

    fn expired(&self) -> bool {
        self.expired.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// The ping of a program's only service.
#[track_caller]
fn ping(program: &str) -> Function {
    let service = specs(&[("app.star", program)]).services.swap_remove(0).spec;
    match service.ping.unwrap().check {
        model::Check::Function(function) => function,
        other => panic!("{other:?}"),
    }
}

fn call(function: &Function, stage: &Stage) -> Result<CallResult, Diagnostic> {
    let about = CallContext {
        group: "shop".into(),
        service: "a".into(),
        event: "ping".into(),
        context: BTreeMap::from([("user".to_owned(), "ann".to_owned())]),
        ..CallContext::default()
    };
    with_large_stack(|| function.call(&about, stage)).unwrap()
}

/// How a ping with this body ends.
#[track_caller]
fn ends(body: &str, stage: &Stage) -> Result<CallResult, String> {
    let body = body.replace('\n', "\n    ");
    let program = format!("def ready(ctx):\n    {body}\nservice(name=\"a\", image=\"x\", ping=ready)\n");
    call(&ping(&program), stage).map_err(|error| error.to_string())
}

#[test]
fn functions_are_hooks_and_pings() {
    let program = r#"
load("lib.star", "answers")

def greet(ctx):
    ctx.run(["./greet.sh", ctx.service])

service(
    name="a",
    image="x",
    ping=call(answers(80), interval="1s", timeout="9s"),
    pre_start=greet,
    post_start=[greet, exec(["b"]), {"function": greet, "timeout": "2s"}],
    on={"ready": lambda ctx: None, "failed": [greet]},
)
job(name="j", image="x", on={"succeeded": greet})
group(on={"up": greet})
"#;
    let lib = "def answers(port):\n    def answers(ctx):\n        return ctx.tcp(port)\n    return answers\n";
    let desired = desired(&[("app.star", program), ("lib.star", lib)]);
    let service = &desired.services["a"];
    let ping = service.ping.as_ref().unwrap();
    assert_eq!((ping.interval, ping.timeout), (Duration::from_secs(1), Duration::from_secs(9)));
    assert_eq!(ping.check.to_string(), "function answers (app.star:7)");
    let hooks: Vec<String> = service
        .hooks
        .iter()
        .flat_map(|(point, hooks)| hooks.iter().map(move |hook| format!("{point} {} {:?}", hook.action, hook.timeout)))
        .collect();
    assert_eq!(
        hooks,
        [
            "pre_start function greet (app.star:7) 60s",
            "post_start function greet (app.star:7) 60s",
            "post_start exec b 60s",
            "post_start function greet (app.star:7) 2s",
            "ready function lambda (app.star:7) 60s",
            "failed function greet (app.star:7) 60s",
        ]
    );
    let model::Check::Function(answers) = &ping.check else { panic!() };
    assert_eq!(call(answers, &Stage::default()).unwrap().returned, Ok(true));
    let stage = Stage::default();
    for (_, hooks) in desired.services["j"].hooks.iter().chain(&service.hooks).filter(|(_, hooks)| hooks.len() == 1) {
        let model::HookAction::Function(function) = &hooks[0].action else { panic!() };
        call(function, &stage).unwrap();
    }
    assert_eq!(*stage.asked.lock().unwrap(), ["run ./greet.sh a None"; 3]);
    assert_eq!(desired.on.len(), 1);
}

#[test]
fn nothing_is_replaced_when_a_function_changes() {
    let of = |body: &str| {
        let program = format!(
            "def ready(ctx):\n    return {body}\nservice(name=\"a\", image=\"x\", ping=ready, post_start=ready)\n"
        );
        desired(&[("app.star", &program)]).services["a"].clone()
    };
    let (one, other) = (of("True"), of("False"));
    assert_eq!(one.fingerprint, other.fingerprint);
    assert_eq!(one, of("True"));
    assert_ne!(one, other, "what changed takes effect");
}

#[test]
fn functions_do_what_their_argument_can_do() {
    let stage = Stage::default();
    let body = r#"if ctx.service != "a" or ctx.group != "shop" or ctx.event != "ping" or ctx.container:
    fail("about")
out = ctx.exec(["cat", 1], timeout="2s")
if out.output != "one\ntwo" or not out.ok or out.error:
    fail("exec")
bad = ctx.exec("false", check=False)
if bad.ok or bad.error != "false exited with code 1":
    fail("exec")
got = ctx.http_get("/x", port=81)
if got.status != 404 or got.ok or got.body != "none" or ctx.http_get("http://h:1/y").ok:
    fail("get")
if ctx.context["user"] != "ann" or ctx.context.get("none", "x") != "x" or "none" in ctx.context:
    fail("context")
ctx.context["id"] = 7
ctx.context["user"] = ctx.context["id"] + "b"
print("said", len(ctx.logs(tail=3)))
return ctx.tcp(80) and not ctx.tcp(81)"#;
    let ended = ends(body, &stage).unwrap();
    assert_eq!(ended.returned, Ok(true));
    assert_eq!(ended.outputs, [("id".to_owned(), "7".to_owned()), ("user".to_owned(), "7b".to_owned())]);
    assert_eq!(
        *stage.asked.lock().unwrap(),
        [
            "exec cat 1 Some(2s)",
            "exec false None",
            "get Container(81, \"/x\")",
            "get Url(HttpUrl(\"http://h:1/y\"))",
            "say said 3",
        ]
    );
    assert_eq!(ends("pass", &stage).unwrap().returned, Err("NoneType".to_owned()));
}

#[test]
fn functions_that_fail_say_where() {
    let stage = Stage::default();
    for (body, message) in [
        ("return 1 + \"a\"", "specs/app.star:2:12: operation `+` not supported for types `int` and `string`"),
        ("ctx.exec([\"false\"])", "specs/app.star:2:5: false exited with code 1: two"),
        ("ctx.exec([])", "specs/app.star:2:5: the command is empty"),
        ("ctx.exec([\"a\"], timout=1)", "specs/app.star:2:5: `exec` has no argument `timout`"),
        ("ctx.sleep(0.5)", "specs/app.star:2:5: the run was interrupted"),
        ("ctx.sleep(\"soon\")", "specs/app.star:2:5: invalid duration `soon`"),
        ("ctx.context[\"none\"]", "specs/app.star:2:5: there is no output `none`"),
        ("ctx.http_get(\"https://x\")", "specs/app.star:2:5: `https://x`: https is not supported"),
        (
            "service(name=\"b\")",
            "specs/app.star:2:5: `service` can be called while specs are read, and not when something happens",
        ),
        ("env(\"A\")", "specs/app.star:2:5: `env` can be called while specs are read, and not when something happens"),
        (
            "for n in range(1000000):\n    for m in range(1000000):\n        pass",
            "specs/app.star:3:9: the program takes more than 1000000 steps",
        ),
        ("x = \"x\" * 1000000000", "specs/app.star:2:9: this makes a text of more than 1 MiB"),
        ("def f():\n    return f()\nf()", "specs/app.star:3:16: calls are nested more than 100 deep"),
    ] {
        let error = ends(body, &stage);
        assert!(error.as_ref().is_err_and(|error| error.starts_with(message)), "{body}: {error:?}, expected {message}");
    }
    stage.expired.store(true, std::sync::atomic::Ordering::Relaxed);
    let endless = ends("for n in range(1000000):\n    pass", &stage);
    assert_eq!(endless, Err("specs/app.star:2:5: the program takes too long".to_owned()));
    let nested = "def inner(ctx):\n    fail(\"deep\")\n\ndef ready(ctx):\n    inner(ctx)\n\nservice(name=\"a\", image=\"x\", ping=ready)\n";
    let error = call(&ping(nested), &Stage::default()).unwrap_err();
    assert_eq!(error.to_string(), "specs/app.star:2:5: deep");
    let frames: Vec<String> =
        error.related.iter().map(|(place, label)| format!("{}:{} {label}", place.line(), place.column())).collect();
    assert_eq!(frames, ["5:5 in the call of `inner`"]);
}

#[test]
fn only_programs_have_functions() {
    let errors = errors(&[("app.yaml", "name: a\nimage: x\nping: {function: ready}\npost_start: {functon: x}\n")]);
    assert!(errors.contains("expected a function of a `*.star` file, found the text `ready`"), "{errors}");
}

/// Refresh with `UPDATE_REFERENCE=1 cargo test --test starlark reference`.
#[test]
fn the_reference_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/programs-reference.md");
    let reference = drillmaster::spec::starlark::reference();
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(path, &reference).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), reference, "make it anew, as this test says");
}
