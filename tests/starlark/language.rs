//! Language features of programs, and errors.

use crate::programs::*;

/// The demo stack.
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
fn yaml_and_starlark_load_the_same_stack() {
    assert_same(DEMO_IN_YAML, DEMO);
    let (yaml, star) = (desired(&[("app.yaml", DEMO_IN_YAML)]), desired(&[("app.star", DEMO)]));
    for (name, service) in &yaml.services {
        assert_eq!(service.fingerprint, star.services[name].fingerprint, "{name}");
    }
    assert_eq!(yaml.services["todo"].location, "app.yaml:11");
    assert_eq!(star.services["todo"].location, "app.star:12");
}

/// An example of each field of every kind.
const FIELDS: &str = r#"{
    "name": "a", "image": "shop/api:1", "command": ["serve", "--port", 80], "entrypoint": "/entry 'two words'",
    "user": 1000, "working_dir": "/srv", "env": {"LOG": "info", "PORT": 80, "ON": true, "RATIO": 0.5, "PROXY": null},
    "env_file": "common.env", "ports": ["8080:80", 9000, {"container": 443, "host": 8443}],
    "volumes": ["data:/data", {"type": "bind", "source": "./x", "target": "/x", "create": true}], "tmpfs": ["/shm"], "configs": ["app.conf"], "secrets": [{"source": "token", "target": "t"}], "profiles": [],
    "dependencies": ["other", {"name": "more", "condition": "started", "restart": true, "required": false}],
    "ping": {"http": {"port": 80, "path": "/healthz", "scheme": "https", "headers": {"Host": "shop"}, "status": 204}, "interval": "1s", "timeout": "60s"},
    "health": {"interval": "10s", "retries": 3, "action": "replace"}, "healthcheck": {"test": ["CMD", "x"], "retries": 3},
    "ready_timeout": "2m",
    "pre_start": {"run": ["./a.sh"], "timeout": "30s"}, "post_start": [{"exec": "b"}, {"http": "http://localhost:9"}],
    "pre_stop": {"exec": ["c"]}, "post_stop": {"run": "d"}, "stop_signal": "int", "stop_timeout": "1m30s",
    "restart": "on-failure:5", "resources": {"memory": "256m", "cpus": 0.5, "pids": 100}, "labels": {"tier": "web"},
    "hostname": "a.local", "aliases": ["b"], "networks": {"default": {"aliases": ["c"]}}, "network_mode": "host",
    "pid": "service:other", "ipc": "shareable", "extra_hosts": ["db:10.0.0.5"], "cap_add": ["NET_ADMIN"],
    "cap_drop": ["ALL"], "privileged": true, "read_only": true, "init": true, "shm_size": "64m",
    "ulimits": {"nofile": {"soft": 10, "hard": -1}}, "pull": "always", "retries": 3, "rerun": "always",
    "network": "shop-net", "subnet": "10.1.0.0/24", "build": {"context": "./src", "args": {"A": "b"}}, "capture": "key",
    "update": {"order": "start-first", "min_ready": "2s"}, "replicas": 2, "on": {"failed": {"run": ["./e.sh"]}},
    "annotations": {"org.example.trace": "on"}, "tty": true, "stdin_open": true,
    "security_opt": ["no-new-privileges", "seccomp=unconfined"], "sysctls": {"net.core.somaxconn": 1024},
    "devices": ["/dev/fuse", {"source": "/dev/a", "permissions": "r"}], "device_cgroup_rules": ["c 188:* rmw"],
    "gpus": [{"driver": "nvidia", "count": 1, "options": {"a": "b"}}], "group_add": ["video", 44], "dns": "10.0.0.53",
    "dns_search": ["example.org"], "dns_opt": ["ndots:2"], "uts": "host", "userns_mode": "host", "cgroup": "private",
    "cgroup_parent": "/apps", "runtime": "runsc", "platform": "linux/arm64",
    "logging": {"driver": "local", "options": {"max-size": "10m"}}, "domainname": "example.org",
    "mac_address": "02:42:ac:11:00:02", "expose": ["80", "53/udp"], "storage_opt": {"size": "10g"}, "mem_swappiness": 10,
    "oom_kill_disable": true, "oom_score_adj": -500,
    "blkio_config": {"weight": 300, "device_read_bps": [{"path": "/dev/a", "rate": "1m"}]}
}"#;

/// Formats JSON as Starlark.
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
fn programs_support_every_field_of_every_kind() {
    let examples: serde_json::Map<String, serde_json::Value> = serde_json::from_str(FIELDS).unwrap();
    let schema = drillmaster::spec::schema();
    let mut seen = std::collections::BTreeSet::new();
    for (kind, function) in [("Service", "service"), ("Job", "job"), ("Group", "group")] {
        let fields = schema["$defs"][kind]["properties"].as_object().unwrap();
        for field in fields.keys().filter(|field| *field != "kind") {
            let mut value = examples.get(field).unwrap_or_else(|| panic!("no example of `{field}`")).clone();
            match (kind, field.as_str()) {
                ("Group", "on") => value = serde_json::json!({"up": {"run": ["./e.sh"]}}),
                ("Group", "configs") => value = serde_json::json!({"motd": {"content": "hello"}}),
                ("Group", "secrets") => value = serde_json::json!({"token": {"environment": "HOME"}}),
                ("Group", "volumes") => value = serde_json::json!({"data": {"name": "x"}, "more": null}),
                ("Group", "networks") => value = serde_json::json!({"back": {"internal": true}, "more": null}),
                _ => {}
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
                let group = "kind: Group\nconfigs: {app.conf: {file: a}}\nsecrets: {token: {file: b}}\n";
                let group = Some(("group.yaml", group)).filter(|_| kind != "Group");
                let files: Vec<(&str, &str)> = others.into_iter().chain(group).chain([(path, text)]).collect();
                let with_env_file = Directory::of(&files);
                let specs = with_env_file.load().unwrap_or_else(|errors| panic!("{text}{}", rendered(&errors)));
                let group = specs.group.map(|group| group.spec);
                (group, specs.services.into_iter().map(|service| service.spec).collect::<Vec<_>>())
            };
            let yaml = load("app.yaml", &serde_json::Value::Object(document).to_string());
            assert_eq!(load("app.star", &program), yaml, "{program}");
            seen.insert(field.clone());
        }
    }
    assert_eq!(seen.len(), examples.len(), "example of an unknown field");
}

#[test]
fn values_can_be_passed_between_services() {
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
    assert_same(yaml, program);
}

#[test]
fn helpers_equal_their_yaml_forms() {
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
    assert_same(&yaml.replace("timeout: 5}", "timeout: 5s}"), &program);
}

#[test]
fn dollar_signs_are_not_interpolated() {
    let program = "service(name='a', image='x', command=['sh', '-c', 'echo $HOME ${HOME} $$'])\n";
    let desired = desired(&[("app.star", program), ("env:HOME", "/home/ann")]);
    assert_eq!(desired.services["a"].config.command.as_deref().unwrap()[2], "echo $HOME ${HOME} $$");
}

#[test]
fn language_features_are_supported() {
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
    let shown: Vec<String> =
        env.iter().map(|(name, value)| format!("{name}={}", value.as_deref().unwrap_or_default())).collect();
    assert_eq!(
        shown.join("\n"),
        "DECODED={\"x\":[1,2.5,null,\"y\"]}\nF=\"world\" 3\nFILTERED=f\nLIST=[1,1]\nNAME=shard-1-3\nPERCENT=s 5 \"r\"\nSET=2\n\
         SORTED=a,b\nTABLE={\"b\":1,\"a\":2}\nTOTAL=3\nWORDS=WORLD"
    );
}

// --- files -----------------------------------------------------------------------------------------------------------

#[test]
fn libraries_are_evaluated_once_and_can_add_services() {
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
    let specs = directory.load().unwrap_or_else(|errors| panic!("{}", rendered(&errors)));
    let names: Vec<&str> = specs.services.iter().map(|service| service.spec.container.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "deep"]);
    assert_eq!(specs.services[2].spec.container.labels["found"].as_str(), "some/where/x2.txt x1.txt");
    assert_eq!(specs.services[0].spec.container.env["HOME"].as_deref(), Some("/home/ann"));
    let variables: Vec<&str> = specs.variables.iter().map(String::as_str).collect();
    assert_eq!(variables, ["HOME", "LEVEL"]);
    for path in ["tables", "tables/a.json", "tables/b.json", "", "some", "some/where"] {
        assert!(specs.reads.contains(path), "{path:?} of {:?}", specs.reads);
    }
}

#[test]
fn program_without_specs_is_not_a_document() {
    assert!(errors(&[("lib.star", "def f():\n  pass\n")]).starts_with("error: no document found in `specs`"));
}

// --- errors ----------------------------------------------------------------------------------------------------------

#[test]
fn errors_are_reported_with_their_location() {
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
        ("operator", "x = 2\nx *= [] - 1\n"),
        ("joined", "x = \"-\".join([1]).upper()\n"),
        ("python-import", "import os\n"),
        ("python-while", "n = 1\nwhile n:\n    n = 0\n"),
        ("python-try", "try:\n    n = 1\nexcept:\n    pass\n"),
        ("python-is", "n = 1 is None\n"),
        ("python-open", "f = open(\"x\")\n"),
        ("python-sum", "n = sum([1, 2])\n"),
        ("python-power", "n = 2 ** 3\n"),
        ("python-nonlocal", "x = [1]\nnonlocal x\n"),
        ("name-that-is-not-near", "x = opne(1)\n"),
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
fn loads_stay_in_the_directory_and_are_acyclic() {
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
    assert!(errors(&files).contains("`load` statements are nested more than 50 levels deep"));
}

// --- limits ----------------------------------------------------------------------------------------------------------
