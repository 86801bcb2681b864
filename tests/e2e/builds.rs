//! Image builds. An image is built only if its sources have changed; if the build fails, the current container keeps
//! running.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::exec::Terminal;
use crate::support::engine::{self, BUILT_BY, Capability};
use crate::support::process::{self, Run};
use crate::support::project::{Project, sleeper};
use crate::support::watcher::{Watcher, instances};
use crate::support::{WAIT_TIMEOUT, wait_for};

const LIMIT: Duration = Duration::from_secs(90);

/// Returns the spec of a service with `build`, given in YAML.
fn service(name: &str, build: &str) -> String {
    format!("---\nname: {name}\nbuild: {build}\nstop_signal: KILL\n")
}

/// Writes a file in the home directory of the project.
fn write(project: &Project, path: &str, text: &str) {
    project.write(&format!("../{path}"), text);
}

/// Returns a Dockerfile that copies its context to /srv and sleeps. The label is unique, so that no layer is cached.
fn dockerfile(project: &Project, steps: &str) -> String {
    let group = &project.group;
    format!(
        "FROM drillmaster/busybox:1\nLABEL {BUILT_BY}={group}\nCOPY . /srv/\n{steps}\nCMD [\"sleep\", \"infinity\"]\n"
    )
}

/// Creates a project with `api`, built from `api/`, and `web`, built from `web/`; each context has a file `main`.
fn shop(purpose: &str) -> Project {
    let project = Project::new(purpose);
    for name in ["api", "web"] {
        write(&project, &format!("{name}/Dockerfile"), &dockerfile(&project, ""));
        write(&project, &format!("{name}/main"), "one");
    }
    project.write("all.yaml", &(service("api", "../api") + &service("web", "{context: ../web}")));
    project
}

/// Runs `up` with the classic builder ("0") or BuildKit ("1").
fn up_with_builder(project: &Project, buildkit: &str) -> Run {
    let mut command = project.command(&["up"]);
    command.env("DOCKER_BUILDKIT", buildkit);
    process::run(command, LIMIT)
}

fn is_building(line: &Value) -> bool {
    line["event"] == "building"
}

fn is_event(line: &Value, event: &str, service: &str) -> bool {
    line["event"] == event && line["service"] == service
}

#[test]
fn unchanged_sources_are_not_built_again() {
    let project = shop("built");
    let run = project
        .up()
        .stderr_contains("build | ")
        .stderr_contains(": built")
        .stdout_contains("2 services ready (2 created)");
    run.stderr_contains("web: ready");
    assert_eq!(project.exec("api", &["cat", "/srv/main"]), "one");
    assert_eq!(engine::built_images(&project.group).len(), 2);
    project.assert_settled(&["api", "web"]);
    let before = instances(&project);
    // Neither a new modification time nor the replacement of a container triggers a build.
    write(&project, "api/main", "one");
    project.up().output_lacks("building").stdout_contains("nothing to do");
    project.run(&["reload", "api"]).exits(0).output_lacks("building");
    let after = instances(&project);
    assert!(before["api"] != after["api"] && before["web"] == after["web"]);

    write(&project, "api/main", "two");
    assert_eq!(project.differences(), ["api replace build"]);
    let plan = project.run(&["diff"]).exits(1).stdout;
    assert!(plan.contains(": build ") && plan.contains("# sources changed: main"), "{plan}");
    assert_eq!(project.status("api")["reason"], "Outdated");
    project.run(&["reload", "api"]).exits(0).stderr_contains("building");
    assert_eq!(project.exec("api", &["cat", "/srv/main"]), "two");
    assert_eq!(instances(&project)["web"], before["web"]);
    assert_eq!(engine::built_images(&project.group).len(), 3);
}

#[test]
fn watch_builds_only_changed_sources() {
    let project = shop("saved");
    let mut watch = Watcher::start(&project);
    let before = instances(&project);
    let offset = watch.lines().len();
    write(&project, "web/main", "one");
    write(&project, "api/main", "two");
    watch.wait_for_line_after(offset, "api to be ready", |line| is_event(line, "ready", "api"));
    assert_eq!(project.exec("api", &["cat", "/srv/main"]), "two");
    let after = instances(&project);
    assert!(before["api"] != after["api"] && before["web"] == after["web"], "{:#?}", watch.messages(offset));
    watch.wait_until_settled(&project);
    let lines: Vec<Value> = watch.lines().into_iter().skip(offset).collect();
    assert_eq!(lines.iter().filter(|line| is_building(line)).count(), 1, "{:#?}", watch.messages(offset));
    let change = lines.iter().find(|line| line["event"] == "reconciling").unwrap();
    assert_eq!(change["message"], "api: replacing: sources changed: main");
    let is_build_output = |line: &Value| is_event(line, "output", "api") && line["hook"] == "build";
    assert!(lines.iter().any(is_build_output), "{:#?}", watch.messages(offset));
    // New directories are watched too.
    let offset = watch.lines().len();
    write(&project, "web/new/file", "two");
    watch.wait_for_line_after(offset, "web to be ready", |line| is_event(line, "ready", "web"));
    assert_eq!(project.exec("web", &["cat", "/srv/new/file"]), "two");
    assert_eq!(instances(&project)["api"], after["api"]);
    watch.interrupt();
}

#[test]
fn service_that_writes_into_its_sources_is_not_rebuilt_for_ever() {
    if engine::lacks(Capability::Files) {
        return;
    }
    let project = Project::new("ownsources");
    let text = dockerfile(&project, "").replace("\"sleep\", \"infinity\"", "\"sh\", \"/srv/run\"");
    write(&project, "api/Dockerfile", &text);
    write(&project, "api/run", "date +%s%N >> /data/log; exec sleep infinity");
    write(&project, "api/data/log", "first");
    project.write("all.yaml", &(service("api", "../api") + "volumes: [\"../api/data:/data\"]\n"));
    let mut watch = Watcher::spawn(&project);
    let is_stopped = |line: &Value| is_event(line, "failed", "api") && line["reason"] == "RebuildLoop";
    let stopped = watch.wait_for_line("the rebuilds to stop", is_stopped);
    let message = engine::text(&stopped["message"]);
    assert!(message.contains("data/log (") && message.contains(".dockerignore"), "{message}");
    watch.wait_for_line("the watch to settle", |line| line["event"] == "watching");
    assert_eq!(watch.count(is_building), 3, "the first build and two rebuilds");
    // The remedy that the message names.
    let offset = watch.lines().len();
    write(&project, "api/.dockerignore", "data");
    watch.wait_for_line_after(offset, "api to be ready", |line| is_event(line, "ready", "api"));
    watch.wait_until_settled(&project);
    assert_eq!(watch.count(is_building), 4);
    let change = watch.lines().into_iter().skip(offset).find(|line| line["event"] == "reconciling").unwrap();
    let message = engine::text(&change["message"]);
    assert_eq!(message, "api: replacing: sources changed: .dockerignore, data/log");
    watch.interrupt();
}

#[test]
fn build_builds_without_touching_containers() {
    let project = shop("buildonly");
    project.run(&["build", "api"]).exits(0).stderr_contains("build | ").stdout_contains(": 1 image built\n");
    assert_eq!(engine::built_images(&project.group).len(), 1);
    project.run(&["build"]).exits(0).stdout_contains(": 1 image built, 1 up to date");
    project.run(&["build"]).exits(0).stdout_contains(": 0 images built, 2 up to date");
    assert_eq!(project.names(), [""; 0]);
    project.up().output_lacks("building");
    let before = instances(&project);
    write(&project, "api/Dockerfile", &dockerfile(&project, "RUN echo no rule && exit 7"));
    write(&project, "web/main", "two");
    let run = project.run(&["build", "--output", "json"]).exits(1).stderr_contains("api: failed (BuildFailed)");
    let result: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&result["outcome"], &result["failures"][0]["service"]), (&"failed".into(), &"api".into()));
    let built = |change: &&Value| change["kind"] == "Image" && change["action"] == "build";
    assert_eq!(result["changes"].as_array().unwrap().iter().filter(built).count(), 2, "{result:#}");
    assert_eq!(instances(&project), before);
    assert_eq!(engine::built_images(&project.group).len(), 3);
    let mut watch = Watcher::spawn(&project);
    watch.wait_for_line("the watch to settle", |line| line["event"] == "watching");
    project.run(&["build"]).exits(4).stderr_contains("builds images whose sources change itself");
    watch.interrupt();
}

#[test]
fn broken_dockerfile_keeps_old_container_until_fixed() {
    let project = shop("broken");
    let mut watch = Watcher::start(&project);
    let before = instances(&project);
    let offset = watch.lines().len();
    write(&project, "api/Dockerfile", &dockerfile(&project, "RUN echo no rule to make it && exit 7"));
    let failed = watch.wait_for_line_after(offset, "api to fail", |line| is_event(line, "failed", "api"));
    assert_eq!(failed["reason"], "BuildFailed");
    let message = engine::text(&failed["message"]);
    assert!(
        message.contains("`RUN echo no rule to make it && exit 7` failed") && message.contains("code: 7"),
        "{message}"
    );
    assert_eq!(failed["output"], serde_json::json!(["no rule to make it"]));
    // This Dockerfile cannot be parsed.
    let offset = watch.lines().len();
    write(&project, "api/Dockerfile", "FORM drillmaster/busybox:1\n");
    let failed = watch.wait_for_line_after(offset, "api to fail again", |line| is_event(line, "failed", "api"));
    // Podman does not quote it.
    let message = engine::text(&failed["message"]);
    assert!(message.contains("FORM") || message.contains("requires a FROM instruction"), "{failed:#}");
    // Without a Dockerfile, the specs are invalid.
    fs::remove_file(project.home.path().join("api/Dockerfile")).unwrap();
    watch.wait_for_line_after(offset, "the specs to be invalid", |line| line["event"] == "specs-invalid");
    assert_eq!(instances(&project), before, "the container keeps running");
    write(&project, "api/Dockerfile", &dockerfile(&project, "RUN echo rule > /rule"));
    watch.wait_for_line_after(offset, "api to be ready", |line| is_event(line, "ready", "api"));
    assert_eq!(project.exec("api", &["cat", "/rule"]), "rule\n");
    assert_eq!(instances(&project)["web"], before["web"]);
    watch.wait_until_settled(&project);
}

#[test]
fn failed_build_fails_its_service_and_reload_retries() {
    let project = shop("failed");
    project.up();
    let before = instances(&project);
    write(&project, "api/Dockerfile", &dockerfile(&project, "RUN nonsense"));
    write(&project, "web/main", "two");
    let run = project
        .run(&["up"])
        .exits(1)
        .stderr_contains("api: failed (BuildFailed)")
        .stderr_contains("`RUN nonsense` failed");
    run.stderr_contains("nonsense: not found");
    let after = instances(&project);
    assert!(after["api"] == before["api"] && after["web"] != before["web"]);
    let mut watch = Watcher::spawn(&project);
    let is_api_failure = |line: &Value| is_event(line, "failed", "api");
    watch.wait_for_line("api to fail", is_api_failure);
    watch.wait_for_line("the watch to settle", |line| line["event"] == "watching");
    project.run(&["reload", "api"]).exits(1).stderr_contains("BuildFailed");
    assert_eq!(watch.count(is_api_failure), 2);
    assert_eq!(watch.count(is_building), 2);
    assert_eq!(instances(&project)["api"], before["api"]);
}

/// Returns true if a process or container still has this mark in its command. Covers both builders: build steps of
/// BuildKit are processes without a listed container.
fn is_building_step(mark: &str) -> bool {
    let runs = fs::read_dir("/proc").unwrap().flatten().any(|process| {
        let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(mark)
    });
    let containers = engine::request("GET", "/containers/json?all=true", None);
    runs || containers.as_array().unwrap().iter().any(|found| engine::text(&found["Command"]).contains(mark))
}

/// Starts a build and waits until its long step runs. The returned mark is part of the step's command.
fn start_long_build(purpose: &str) -> (Project, process::Running, String) {
    let project = Project::new(purpose);
    let mark = format!("mark-{}", project.group);
    write(&project, "api/Dockerfile", &dockerfile(&project, &format!("RUN echo {mark} && sleep 5 && true")));
    project.write("all.yaml", &service("api", "../api"));
    let mut up = project.spawn(&["up"]);
    up.wait_for_stderr(&format!("build | {mark}"));
    assert!(is_building_step(&mark));
    (project, up, mark)
}

#[test]
fn build_output_folds_on_a_terminal() {
    let project = Project::new("folds");
    project.write("all.yaml", &service("api", "../api"));
    let command = |step: &str| {
        write(&project, "api/Dockerfile", &dockerfile(&project, step));
        let mut command = project.command(&["up"]);
        command.env("DOCKER_BUILDKIT", "0");
        command
    };
    let on_terminal = |step: &str, end: &str| {
        let (mut terminal, mut child) = Terminal::run(command(step), 33, 200);
        let output = terminal.wait_for_output(end);
        wait_for("the end of the command", WAIT_TIMEOUT, || child.try_wait().unwrap());
        output
    };
    let output = on_terminal("RUN echo one of many", "1 service ready");
    assert!(output.contains("api: build | Step 4/") && !output.contains("build | one of many"), "{output}");
    let output = on_terminal("RUN echo one of many; exit 3", "1 failed");
    assert!(output.contains("api: build | Step 4/") && output.contains("api: build | one of many"), "{output}");
    let run = process::run(command("RUN echo two of many"), LIMIT).exits(0);
    run.stderr_contains("api: build | Step 4/").stderr_contains("api: build | two of many");
}

#[test]
fn crash_during_build_leaves_no_containers() {
    let (project, up, mark) = start_long_build("killbuild");
    up.signal(Signal::KILL);
    drop(up);
    wait_for("the build to end", WAIT_TIMEOUT, || (!is_building_step(&mark)).then_some(()));
    assert_eq!(engine::built_images(&project.group), [""; 0]);
    project.up().stderr_contains(": built").stdout_contains("1 service ready");
    project.assert_settled(&["api"]);
}

#[test]
fn interrupt_cancels_the_build() {
    let (project, up, mark) = start_long_build("intbuild");
    up.signal(Signal::INT);
    let run = up.wait_for_exit(Duration::from_secs(4)).exits(130);
    run.output_lacks("failed");
    wait_for("the build to end", WAIT_TIMEOUT, || (!is_building_step(&mark)).then_some(()));
    assert_eq!(project.names(), [""; 0]);
    assert_eq!(engine::built_images(&project.group), [""; 0]);
    // The layers of the completed steps stay as the engine's cache; they belong to the image once it is built.
    project.up().stderr_contains(": built");
    project.run(&["down", "--images"]).exits(0);
    assert_eq!(engine::built_images(&project.group), [""; 0]);
}

/// Creates a project with a two-stage Dockerfile outside of the context, and a context with ignored files.
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
    // A sparse file of 1 TiB: sending it with the context would not finish.
    fs::File::create(project.home.path().join("api/big/hole")).unwrap().set_len(1 << 40).unwrap();
    let build =
        "{context: ../api, dockerfile: ../docker/api, target: first, args: {WORD: \"two words\"}, labels: {a: b}}";
    project.write("all.yaml", &service("api", build));
    project
}

/// Asserts the results that both builders must have in common.
#[track_caller]
fn assert_build_options(project: &Project) {
    assert_eq!(project.exec("api", &["cat", "/word"]), "two words\n");
    let labels = &project.inspect("api")["Config"]["Labels"];
    let own = labels["dev.drillmaster.build.group"].as_str();
    assert_eq!((labels["a"].as_str(), own), (Some("b"), Some(&*project.group)));
    project.assert_settled(&["api"]);
}

#[test]
fn build_options_and_dockerignore_are_respected() {
    let project = options("options");
    up_with_builder(&project, "0").exits(0);
    assert_build_options(&project);
    let files = project.exec("api", &["ls", "-A", "/srv"]);
    // The Dockerfile is not part of the context.
    assert_eq!(files.split_whitespace().collect::<Vec<_>>(), [".dockerignore", "keep.log", "main", "run.sh"]);
    // Each change of an option or of the Dockerfile builds a new image.
    let image = || engine::short_name(&engine::text(&project.inspect("api")["Config"]["Image"]));
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
    project.up().stderr_contains("building");
    assert_ne!(image(), before);
}

#[test]
fn buildkit_builds_the_same_image() {
    if engine::lacks(Capability::BuildKit) {
        return;
    }
    let project = options("buildkit");
    up_with_builder(&project, "1")
        .exits(0)
        .stderr_contains("api: build | [first 1/3] FROM")
        .stderr_contains("api: build | [first 2/3] RUN");
    assert_build_options(&project);
    let files = project.exec("api", &["ls", "-A", "/srv"]);
    assert!(files.contains("keep.log") && !files.contains("a.log") && !files.contains("big"), "{files}");
    up_with_builder(&project, "1").exits(0).stdout_contains("nothing to do");
    let before = instances(&project);
    write(&project, "docker/api", "FROM drillmaster/busybox:1 AS first\nRUN echo no rule; exit 7\n");
    let run = up_with_builder(&project, "1").exits(1).stderr_contains("api: failed (BuildFailed)");
    run.stderr_contains("step 2/2 `RUN echo no rule; exit 7` failed")
        .stderr_contains("exit code: 7\n")
        .stderr_contains("  last lines of its build:\n  | no rule\n");
    assert_eq!(instances(&project), before);
}

#[test]
fn images_of_earlier_builds_are_removed_once_the_service_is_ready() {
    let project = shop("earlier");
    let image = || engine::short_name(&engine::text(&project.inspect("api")["Config"]["Image"]));
    project.up();
    let first = image();
    // A stopped container of another group uses the first image.
    let other = Project::new("earlieruser");
    other.write("all.yaml", &sleeper("consumer", "").replace("drillmaster/busybox:1", &first));
    other.up();
    other.run(&["stop"]).exits(0);
    let mut images = Vec::new();
    for version in ["two", "three", "four"] {
        write(&project, "api/main", version);
        project.up().output_lacks(": removed");
        images.push(image());
    }
    write(&project, "api/main", "five");
    let plan = project.run(&["diff"]).exits(1).stdout;
    let removal = format!("image {}: remove", images[0]);
    assert!(plan.contains(&removal) && plan.contains("# earlier build: the last 3 stay"), "{plan}");
    project.up().stderr_contains(&format!("image {}: removed", images[0]));
    images.push(image());
    let of_api = |image: &&String| !image.contains("-web:");
    let found = engine::built_images(&project.group);
    let mut expected = images[1..].to_vec();
    expected.push(first.clone());
    expected.sort();
    assert_eq!(found.iter().filter(of_api).collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
    // The image becomes unused.
    other.run(&["down"]).exits(0);
    project.up().stdout_contains("2 services ready (1 image removed)");
    project.assert_settled(&["api", "web"]);
    assert!(!engine::built_images(&project.group).contains(&first));
}

#[test]
fn down_removes_unused_images_only_with_images() {
    let project = shop("rmi");
    project.up();
    write(&project, "api/main", "two");
    project.up();
    let built = engine::built_images(&project.group);
    assert_eq!(built.len(), 3, "the old image still exists");
    project.run(&["down"]).exits(0);
    assert_eq!(engine::built_images(&project.group), built);
    // Existing images are not rebuilt.
    project.up().output_lacks("building");
    // A container of another group uses one of the images.
    let used = engine::short_name(&engine::text(&project.inspect("web")["Config"]["Image"]));
    let other = Project::new("rmiother");
    other.write("all.yaml", &sleeper("consumer", "").replace("drillmaster/busybox:1", &used));
    other.up();
    let run = project.run(&["down", "--images"]).exits(0).stderr_contains("removes 2 images: ");
    run.stderr_contains(": removed");
    assert_eq!(engine::built_images(&project.group), [used]);
    other.run(&["down"]).exits(0);
    project.run(&["down", "--images"]).exits(0).stderr_contains("removes 1 image: ");
    assert_eq!(engine::built_images(&project.group), [""; 0]);
}

#[test]
fn dockerfile_in_the_spec_is_built_by_both_builders() {
    let project = Project::new("inline");
    write(&project, "api/main", "one");
    let text = |steps: &str| {
        let lines: String = dockerfile(&project, steps).lines().map(|line| format!("    {line}\n")).collect();
        format!("name: api\nstop_signal: KILL\nbuild:\n  context: ../api\n  dockerfile_inline: |\n{lines}")
    };
    project.write("all.yaml", &text(""));
    up_with_builder(&project, "0").exits(0);
    assert_eq!(project.exec("api", &["cat", "/srv/main"]), "one");
    up_with_builder(&project, "0").exits(0).stdout_contains("nothing to do");
    project.write("all.yaml", &text("RUN echo two > /srv/main"));
    let changed = project.run(&["diff"]).exits(1);
    assert!(changed.stdout.contains("dockerfile_inline"), "{changed}");
    up_with_builder(&project, "1").exits(0);
    assert_eq!(project.exec("api", &["cat", "/srv/main"]).trim(), "two");
    project.run(&["down", "--images"]).exits(0);
}
