//! Images that are built: when their sources have changed and only then, and with the old container serving for as long
//! as that fails.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::engine::{self, BUILT_BY};
use crate::support::process::{self, Run};
use crate::support::project::{Project, sleeper};
use crate::support::watcher::{Watcher, lives};
use crate::support::{SOON, wait_for};

const LIMIT: Duration = Duration::from_secs(90);

/// A service that is built from a directory beside the specs; how, in YAML.
fn service(name: &str, build: &str) -> String {
    format!("---\nname: {name}\nbuild: {build}\nstop_signal: KILL\n")
}

/// Writes a file beside the specs.
fn write(project: &Project, path: &str, text: &str) {
    project.write(&format!("../{path}"), text);
}

/// A Dockerfile of this test alone, so that nothing of it is in a cache: it copies its context to /srv, and sleeps.
fn dockerfile(project: &Project, steps: &str) -> String {
    let group = &project.group;
    format!(
        "FROM drillmaster/busybox:1\nLABEL {BUILT_BY}={group}\nCOPY . /srv/\n{steps}\nCMD [\"sleep\", \"infinity\"]\n"
    )
}

/// A group with `api`, built from `api/` with a file `main`, and `web`, built from `web/`.
fn shop(purpose: &str) -> Project {
    let project = Project::new(purpose);
    for name in ["api", "web"] {
        write(&project, &format!("{name}/Dockerfile"), &dockerfile(&project, ""));
        write(&project, &format!("{name}/main"), "one");
    }
    project.write("all.yaml", &(service("api", "../api") + &service("web", "{context: ../web}")));
    project
}

/// `up` by one of the builders.
fn up_by(project: &Project, buildkit: &str) -> Run {
    let mut command = project.command(&["up"]);
    command.env("DOCKER_BUILDKIT", buildkit);
    process::run(command, LIMIT)
}

fn is_building(line: &Value) -> bool {
    line["event"] == "building"
}

fn is(line: &Value, event: &str, service: &str) -> bool {
    line["event"] == event && line["service"] == service
}

#[test]
fn unchanged_sources_are_not_built_again() {
    let project = shop("built");
    let run = project.up().says("build | ").says(": built").prints("2 services ready (2 created)");
    run.says("web: ready");
    assert_eq!(project.exec("api", &["cat", "/srv/main"]), "one");
    assert_eq!(engine::built(&project.group).len(), 2);
    project.is_settled(&["api", "web"]);
    let before = lives(&project);
    // Neither times nor a container that has to be made anew build anything.
    write(&project, "api/main", "one");
    project.up().never_says("building").prints("nothing to do");
    project.run(&["reload", "api"]).exits(0).never_says("building");
    let after = lives(&project);
    assert!(before["api"] != after["api"] && before["web"] == after["web"]);

    write(&project, "api/main", "two");
    assert_eq!(project.differences(), ["api replace build"]);
    let plan = project.run(&["diff"]).exits(1).stdout;
    assert!(plan.contains(": build ") && plan.contains("# build sources changed"), "{plan}");
    assert_eq!(project.status("api")["reason"], "Outdated");
    project.run(&["reload", "api"]).exits(0).says("building");
    assert_eq!(project.exec("api", &["cat", "/srv/main"]), "two");
    assert_eq!(lives(&project)["web"], before["web"]);
    assert_eq!(engine::built(&project.group).len(), 3);
}

#[test]
fn watch_builds_only_changed_sources() {
    let project = shop("saved");
    let mut watch = Watcher::start(&project);
    let before = lives(&project);
    let said = watch.told().len();
    write(&project, "web/main", "one");
    write(&project, "api/main", "two");
    watch.until_after(said, "api to be ready", |line| is(line, "ready", "api"));
    assert_eq!(project.exec("api", &["cat", "/srv/main"]), "two");
    let after = lives(&project);
    assert!(before["api"] != after["api"] && before["web"] == after["web"], "{:#?}", watch.messages(said));
    watch.agrees(&project);
    let lines: Vec<Value> = watch.told().into_iter().skip(said).collect();
    assert_eq!(lines.iter().filter(|line| is_building(line)).count(), 1, "{:#?}", watch.messages(said));
    let differs = lines.iter().find(|line| line["event"] == "reconciling").unwrap();
    assert_eq!(differs["message"], "api: replacing: its sources changed");
    let said_by_build = |line: &Value| is(line, "output", "api") && line["hook"] == "build";
    assert!(lines.iter().any(said_by_build), "{:#?}", watch.messages(said));
    // A directory that is new is followed too.
    let said = watch.told().len();
    write(&project, "web/new/file", "two");
    watch.until_after(said, "web to be ready", |line| is(line, "ready", "web"));
    assert_eq!(project.exec("web", &["cat", "/srv/new/file"]), "two");
    assert_eq!(lives(&project)["api"], after["api"]);
    watch.interrupt();
}

#[test]
fn broken_dockerfile_keeps_old_container_until_fixed() {
    let project = shop("broken");
    let mut watch = Watcher::start(&project);
    let before = lives(&project);
    let said = watch.told().len();
    write(&project, "api/Dockerfile", &dockerfile(&project, "RUN echo no rule to make it && exit 7"));
    let failed = watch.until_after(said, "api to fail", |line| is(line, "failed", "api"));
    assert_eq!(failed["reason"], "BuildFailed");
    let message = engine::text(&failed["message"]);
    assert!(
        message.contains("`RUN echo no rule to make it && exit 7` failed") && message.contains("code: 7"),
        "{message}"
    );
    assert_eq!(failed["output"], serde_json::json!(["no rule to make it"]));
    // No step at all can be made of this one.
    let said = watch.told().len();
    write(&project, "api/Dockerfile", "FORM drillmaster/busybox:1\n");
    let failed = watch.until_after(said, "api to fail again", |line| is(line, "failed", "api"));
    assert!(engine::text(&failed["message"]).contains("FORM"), "{failed:#}");
    // And without one the specs are wrong.
    fs::remove_file(project.home.path().join("api/Dockerfile")).unwrap();
    watch.until_after(said, "the specs to be invalid", |line| line["event"] == "specs-invalid");
    assert_eq!(lives(&project), before, "it serves all the while");
    write(&project, "api/Dockerfile", &dockerfile(&project, "RUN echo rule > /rule"));
    watch.until_after(said, "api to be ready", |line| is(line, "ready", "api"));
    assert_eq!(project.exec("api", &["cat", "/rule"]), "rule\n");
    assert_eq!(lives(&project)["web"], before["web"]);
    watch.agrees(&project);
}

#[test]
fn failed_build_fails_its_service_and_reload_retries() {
    let project = shop("failed");
    project.up();
    let before = lives(&project);
    write(&project, "api/Dockerfile", &dockerfile(&project, "RUN nonsense"));
    write(&project, "web/main", "two");
    let run = project.run(&["up"]).exits(1).says("api: failed (BuildFailed)").says("`RUN nonsense` failed");
    run.says("nonsense: not found");
    let after = lives(&project);
    assert!(after["api"] == before["api"] && after["web"] != before["web"]);
    let mut watch = Watcher::begin(&project);
    let tried = |line: &Value| is(line, "failed", "api");
    watch.until("it to fail", tried);
    watch.until("the rest to be settled", |line| line["event"] == "watching");
    project.run(&["reload", "api"]).exits(1).says("BuildFailed");
    assert_eq!(watch.count(tried), 2);
    assert_eq!(watch.count(is_building), 2);
    assert_eq!(lives(&project)["api"], before["api"]);
}

/// Whether a step that has this mark in its command still runs, or has left a container. Those of BuildKit are in none
/// that is listed.
fn is_at_work(mark: &str) -> bool {
    let runs = fs::read_dir("/proc").unwrap().flatten().any(|process| {
        let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(mark)
    });
    let containers = engine::must("GET", "/containers/json?all=true", None);
    runs || containers.as_array().unwrap().iter().any(|found| engine::text(&found["Command"]).contains(mark))
}

/// A build that has begun its long step, and says so; in the command of that step is this mark.
fn begun(purpose: &str) -> (Project, process::Running, String) {
    let project = Project::new(purpose);
    let mark = format!("begun-{}", project.group);
    write(&project, "api/Dockerfile", &dockerfile(&project, &format!("RUN echo {mark} && sleep 5 && true")));
    project.write("all.yaml", &service("api", "../api"));
    let mut up = project.spawn(&["up"]);
    up.until_says(&format!("build | {mark}"));
    assert!(is_at_work(&mark));
    (project, up, mark)
}

#[test]
fn crash_during_build_leaves_no_containers() {
    let (project, up, mark) = begun("killbuild");
    up.signal(Signal::KILL);
    drop(up);
    wait_for("the build to end", SOON, || (!is_at_work(&mark)).then_some(()));
    assert_eq!(engine::built(&project.group), [""; 0]);
    project.up().says(": built").prints("1 service ready");
    project.is_settled(&["api"]);
}

#[test]
fn an_interrupt_ends_a_build() {
    let (project, up, mark) = begun("intbuild");
    up.signal(Signal::INT);
    let run = up.ends(Duration::from_secs(4)).exits(130);
    run.never_says("failed");
    wait_for("the build to end", SOON, || (!is_at_work(&mark)).then_some(()));
    assert_eq!(project.names(), [""; 0]);
}

/// A Dockerfile outside of the context with two stages, and a context of which much is left out.
fn options(purpose: &str) -> Project {
    let project = Project::new(purpose);
    let group = &project.group;
    let text = format!(
        "FROM drillmaster/busybox:1 AS first\nARG WORD=nothing\nLABEL {BUILT_BY}={group}\nRUN echo $WORD > /word\nCOPY . /srv/\n\
         CMD [\"sleep\", \"infinity\"]\nFROM first\nRUN rm /word\n"
    );
    write(&project, "docker/api", &text);
    write(&project, "api/main", "one");
    write(&project, "api/run.sh", "#!/bin/sh\n");
    write(&project, "api/.dockerignore", "big\n*.log\n!keep.log\n");
    for file in ["a.log", "keep.log", "big/deep/file"] {
        write(&project, &format!("api/{file}"), "x");
    }
    // So large that to send it would be noticed: a terabyte of nothing.
    fs::File::create(project.home.path().join("api/big/hole")).unwrap().set_len(1 << 40).unwrap();
    let build =
        "{context: ../api, dockerfile: ../docker/api, target: first, args: {WORD: \"two words\"}, labels: {a: b}}";
    project.write("all.yaml", &service("api", build));
    project
}

/// What both builders must make of it.
#[track_caller]
fn has_options(project: &Project) {
    assert_eq!(project.exec("api", &["cat", "/word"]), "two words\n");
    let labels = &project.inspect("api")["Config"]["Labels"];
    let own = labels["dev.drillmaster.build.group"].as_str();
    assert_eq!((labels["a"].as_str(), own), (Some("b"), Some(&*project.group)));
    project.is_settled(&["api"]);
}

#[test]
fn build_options_and_dockerignore_are_respected() {
    let project = options("options");
    up_by(&project, "0").exits(0);
    has_options(&project);
    let files = project.exec("api", &["ls", "-A", "/srv"]);
    // Not the Dockerfile, which is no part of the context.
    assert_eq!(files.split_whitespace().collect::<Vec<_>>(), [".dockerignore", "keep.log", "main", "run.sh"]);
    // Each of them makes another image.
    let image = || engine::text(&project.inspect("api")["Config"]["Image"]);
    let before = image();
    project.write(
        "all.yaml",
        &fs::read_to_string(project.specs().join("all.yaml")).unwrap().replace("two words", "three"),
    );
    project.up();
    assert_ne!(image(), before);
    assert_eq!(project.exec("api", &["cat", "/word"]), "three\n");
    let before = image();
    let docker = project.home.path().join("docker/api");
    fs::write(&docker, fs::read_to_string(&docker).unwrap() + "# a comment\n").unwrap();
    project.up().says("building");
    assert_ne!(image(), before);
}

#[test]
fn buildkit_builds_the_same() {
    let project = options("buildkit");
    up_by(&project, "1").exits(0).says("api: build | [first 1/3] FROM").says("api: build | [first 2/3] RUN");
    has_options(&project);
    let files = project.exec("api", &["ls", "-A", "/srv"]);
    assert!(files.contains("keep.log") && !files.contains("a.log") && !files.contains("big"), "{files}");
    up_by(&project, "1").exits(0).prints("nothing to do");
    let before = lives(&project);
    write(&project, "docker/api", "FROM drillmaster/busybox:1 AS first\nRUN echo no rule; exit 7\n");
    let run = up_by(&project, "1").exits(1).says("api: failed (BuildFailed)");
    run.says("step 2/2 `RUN echo no rule; exit 7` failed")
        .says("exit code: 7\n")
        .says("  last lines of its build:\n  | no rule\n");
    assert_eq!(lives(&project), before);
}

#[test]
fn down_removes_unused_images_only_with_images() {
    let project = shop("rmi");
    project.up();
    write(&project, "api/main", "two");
    project.up();
    let built = engine::built(&project.group);
    assert_eq!(built.len(), 3, "the old one is still there");
    project.run(&["down"]).exits(0);
    assert_eq!(engine::built(&project.group), built);
    // What is there is not built again.
    project.up().never_says("building");
    // Somebody else runs one of them.
    let used = engine::text(&project.inspect("web")["Config"]["Image"]);
    let other = Project::new("rmiother");
    other.write("all.yaml", &sleeper("user", "").replace("drillmaster/busybox:1", &used));
    other.up();
    let run = project.run(&["down", "--images"]).exits(0).says("removes 2 images: ");
    run.says(": removed");
    assert_eq!(engine::built(&project.group), [used]);
    other.run(&["down"]).exits(0);
    project.run(&["down", "--images"]).exits(0).says("removes 1 image: ");
    assert_eq!(engine::built(&project.group), [""; 0]);
}
