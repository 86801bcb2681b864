//! Starlark specs: resulting services, functions as pings and hooks, and watching of all files read.

use std::time::Duration;

use crate::support::process;
use crate::support::project::{BUSYBOX, Project, free_port};
use crate::support::watcher::{Watcher, instances};

/// Returns the Starlark call for a sleeping service.
fn sleeper(name: &str, more: &str) -> String {
    format!("service(name={name:?}, image={BUSYBOX:?}, command=[\"sleep\", \"infinity\"], init=True, {more})\n")
}

#[test]
fn yaml_and_starlark_create_the_same_containers() {
    let project = Project::new("forms");
    let yaml = format!(
        "name: db\nimage: {BUSYBOX}\ncommand: [sleep, infinity]\ninit: true\nenv: {{A: \"1\"}}\nping: {{exec: [\"true\"]}}\n---\n\
         name: api\nimage: {BUSYBOX}\ncommand: [sleep, infinity]\ninit: true\ndependencies: [db]\nvolumes: [\"data:/data\"]\n"
    );
    project.write("app.yaml", &yaml);
    project.up().stdout_contains("2 services ready (2 created)");
    let before = instances(&project);
    project.remove("app.yaml");
    let db = sleeper("db", "env={\"A\": 1}, ping=exec([\"true\"])");
    project.write("app.star", &format!("db = {db}{}", sleeper("api", "dependencies=[db], volumes=[\"data:/data\"]")));
    assert_eq!(project.differences(), Vec::<String>::new());
    project.up().stdout_contains("2 services ready").output_lacks("replac");
    assert_eq!(instances(&project), before);
    // And back to YAML with the output of `render`.
    let rendered = project.run(&["render", "--show-values"]).exits(0);
    project.remove("app.star");
    project.remove("group.yaml");
    project.write("all.yaml", &rendered.stdout);
    assert_eq!(project.differences(), Vec::<String>::new());
    let hidden = project.run(&["render", "db"]).exits(0).stdout_contains("A: (hidden)");
    assert!(!hidden.stdout.contains("name: api"), "{hidden}");
}

/// Covers ping and hook functions with exec, http, tcp, run and outputs.
#[test]
fn functions_serve_as_pings_and_hooks() {
    let project = Project::new("functions");
    let published = free_port();
    let program = format!(
        r#"
NAME = env("OWNER", "ann")

def ready(ctx):
    tries = ctx.exec(["sh", "-c", "echo x >> /tmp/tries; wc -l < /tmp/tries"]).output.strip()
    print("try", tries)
    return int(tries) >= 4 and ctx.tcp(80)

def create_user(ctx):
    if ctx.event != "post_start" or ctx.service != "db":
        fail("called for", ctx.service, ctx.event)
    page = ctx.http_get("/", port=80)
    host = ctx.run(["sh", "-c", "echo from the host for $DRILLMASTER_SERVICE"])
    ctx.context["user_id"] = "%s-%s" % (page.body.strip(), ctx.container_name)
    print(host.output)

db = service(
    name="db",
    image={BUSYBOX:?},
    command=["sh", "-c", "mkdir /www; echo page of $OWNER > /www/index.html; exec httpd -f -p 80 -h /www"],
    init=True,
    env={{"OWNER": NAME}},
    ports=["{published}:80"],
    ping=ready,
    post_start=create_user,
)
service(name="by-value", image={BUSYBOX:?}, command=["sleep", "infinity"], init=True, env={{"USER_ID": context("user_id"), "URL": db.url(80)}}, dependencies=[db])
service(name="by-name", image={BUSYBOX:?}, command=["sleep", "infinity"], init=True, dependencies=["db"])
"#
    );
    project.write("app.star", &program);
    let mut command = project.command(&["up", "-v"]);
    command.env("OWNER", "bob");
    let run = process::run(command, Duration::from_secs(90)).exits(0).stdout_contains("3 services ready (3 created)");
    let run =
        run.stderr_contains("db: waiting for readiness probe").stderr_contains("db: post_start | from the host for db");
    run.stderr_contains("by-value: ready").stderr_contains("by-name: ready");
    let env = project.exec("by-value", &["env"]);
    let expected = format!("USER_ID=page of bob-{}.new\n", project.name("db"));
    assert!(env.contains(&expected) && env.contains("URL=http://db:80\n"), "{env}");
    assert_eq!(project.exec("db", &["wc", "-l", "/tmp/tries"]), "4 /tmp/tries\n");

    // A changed function replaces nothing.
    project.write("app.star", &program.replace(">= 4", ">= 5"));
    let mut command = project.command(&["diff"]);
    command.env("OWNER", "bob");
    process::run(command, Duration::from_secs(30)).exits(0);
}

#[test]
fn failing_function_fails_only_its_service() {
    let project = Project::new("wrong");
    let functions = r#"
def never(ctx):
    print("not yet")
    return False

def endless(ctx):
    for a in range(1000000):
        for b in range(1000000):
            pass

def helper(n):
    n = n + 1
    return n

def broken(ctx):
    helper("a")

def slow(ctx):
    ctx.exec(["sleep", "60"])
"#;
    let mut program = functions.to_owned();
    program.push_str(&sleeper("never", "ping=call(never, timeout=\"2s\")"));
    program.push_str(&sleeper("endless", "post_start=endless"));
    program.push_str(&sleeper("broken", "post_start=broken"));
    program.push_str(&sleeper("slow", "post_start=call(slow, timeout=\"1s\")"));
    program.push_str(&sleeper("fine", "post_start=lambda ctx: ctx.exec([\"touch\", \"/tmp/done\"])"));
    project.write("app.star", &program);
    let run = project.run(&["up"]).exits(1);
    let run = run
        .stderr_contains("never returned False: not yet")
        .stderr_contains("the program takes more than 1000000 steps");
    let run = run.stderr_contains("specs/app.star:12:9: operation `+` not supported for types `string` and `int`");
    let run = run.stderr_contains("broken: post_start | n = n + 1\n");
    let run = run.stderr_contains("broken: post_start | specs/app.star:16:5: in the call to `helper`");
    run.stderr_contains("slow timed out after 1 s").stderr_contains("fine: ready");
    assert_eq!(project.exec("fine", &["ls", "/tmp/done"]), "/tmp/done\n");
}

#[test]
fn function_ping_shows_its_errors_and_fails_at_once_if_it_is_wrong() {
    let project = Project::new("wrongping");
    let functions = r#"
def wrong(ctx):
    return ctx.exec(["true"]).okk

def later(ctx):
    if not ctx.exec(["test", "-e", "/tmp/go"], check=False).exit_code == 0:
        fail("no file yet")
    return True
"#;
    project.write("app.star", &format!("{functions}{}", sleeper("wrong", "ping=wrong")));
    let run =
        project.run(&["up"]).exits(1).stderr_contains("wrong: failed (NotReady): readiness probe (function wrong");
    let run =
        run.stderr_contains("cannot succeed (specs/app.star:3:12: object of type `struct` has no attribute `okk`");
    assert!(run.took < std::time::Duration::from_secs(30), "{run}");
    project.write("app.star", &format!("{functions}{}", sleeper("later", "ping=later")));
    let mut up = project.spawn(&["up", "--prune-all"]);
    up.wait_for_stderr(" (specs/app.star:7:9: no file yet)");
    project.exec("later.new", &["touch", "/tmp/go"]);
    up.wait_for_exit(std::time::Duration::from_secs(60)).exits(0);
}

#[test]
fn watch_follows_all_files_read_by_programs() {
    let project = Project::new("reads");
    project.write("lib.star", "LEVEL = \"one\"\n");
    project.write("data/level.txt", "one");
    let service =
        sleeper("lib", "env={\"LEVEL\": LEVEL}") + &sleeper("text", "env={\"LEVEL\": read_file(\"data/level.txt\")}");
    let program = format!(
        "load(\"lib.star\", \"LEVEL\")\n{service}for path in glob(\"parts/*.json\"):\n    part = json.decode(read_file(path))\n    {}",
        sleeper("x", "").replace("\"x\"", "part[\"name\"]")
    );
    project.write("app.star", &program);
    project.write("parts/one.json", "{\"name\": \"one\"}");
    let mut watcher = Watcher::start(&project);
    let before = instances(&project);
    assert_eq!(before.len(), 3);
    let ready = |watcher: &mut Watcher, since: usize, service: &str| {
        watcher.wait_for_line_after(since, &format!("{service} to be ready"), |line| {
            line["event"] == "ready" && line["service"] == service
        });
    };

    let offset = watcher.lines().len();
    project.write("lib.star", "LEVEL = \"two\"\n");
    ready(&mut watcher, offset, "lib");
    let after_lib = instances(&project);
    assert!(
        after_lib["lib"] != before["lib"] && after_lib["text"] == before["text"] && after_lib["one"] == before["one"]
    );

    let offset = watcher.lines().len();
    project.write("data/level.txt", "two");
    ready(&mut watcher, offset, "text");
    let after_text = instances(&project);
    assert!(after_text["text"] != after_lib["text"] && after_text["lib"] == after_lib["lib"]);

    let offset = watcher.lines().len();
    project.write("parts/two.json", "{\"name\": \"two\"}");
    ready(&mut watcher, offset, "two");
    assert_eq!(instances(&project)["one"], before["one"]);
    let last = instances(&project);

    // Hostile programs change nothing and are reported with their location.
    let own = std::fs::read_to_string(project.specs().join("app.star")).unwrap();
    for (name, program, message) in [
        (
            "a.star",
            "def f():\n    for a in range(1000000):\n        for b in range(1000000):\n            pass\nf()\n",
            "more than 1000000 steps",
        ),
        ("a.star", "x = \"x\" * 1000000000\n", "the program uses more than 1 GiB of memory"),
        ("a.star", "def f(n):\n    return f(n + 1)\nf(0)\n", "calls are nested more than 100 levels deep"),
        ("a.star", "load(\"a.star\", \"x\")\n", "load cycle: a.star -> a.star"),
        ("a.star", "load(\"../outside.star\", \"x\")\n", "is outside the spec directory"),
    ] {
        let offset = watcher.lines().len();
        project.write(name, program);
        let invalid = watcher.wait_for_line_after(offset, message, |line| line["event"] == "specs-invalid");
        let shown = invalid.to_string();
        assert!(shown.contains(message) && shown.contains("a.star"), "{shown}");
        assert_eq!(instances(&project), last);
        let offset = watcher.lines().len();
        project.remove(name);
        watcher.wait_for_line_after(offset, "the specs to be valid again", |line| line["event"] == "specs-valid");
    }
    let offset = watcher.lines().len();
    std::fs::write(project.home.path().join("secret.txt"), "secret").unwrap();
    std::os::unix::fs::symlink("../../secret.txt", project.specs().join("data/link.txt")).unwrap();
    project.write("a.star", "x = read_file(\"data/link.txt\")\n");
    let invalid = watcher
        .wait_for_line_after(offset, "the escaping symlink to be reported", |line| line["event"] == "specs-invalid");
    assert!(invalid.to_string().contains("the link leads out of the spec directory"), "{invalid}");
    project.remove("a.star");

    // A changed function takes effect without a replacement.
    let offset = watcher.lines().len();
    let with_hook = format!("{own}def log(ctx):\n    print(\"first\")\n{}", sleeper("late", "post_start=log"));
    project.write("app.star", &with_hook);
    ready(&mut watcher, offset, "late");
    watcher.wait_for_line_after(offset, "the output of the function", |line| {
        line["event"] == "output" && line["line"] == "first"
    });
    let before = instances(&project);
    project.write("app.star", &with_hook.replace("\"first\"", "\"second\""));
    watcher.wait_until_settled(&project);
    assert_eq!(instances(&project), before);
    drop(watcher);
    project.run(&["down"]).exits(0);
}
