//! The examples behave as documented.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::engine::{self, Capability};
use crate::support::process::{self, Run};
use crate::support::project::{Project, repository};
use crate::support::{WAIT_TIMEOUT, wait_for};

/// Runs the program on an example, in the group of the test.
#[track_caller]
fn run_example(example: &str, project: &Project, arguments: &[&str]) -> Run {
    let specs = repository("examples").join(example);
    let specs = specs.to_str().unwrap();
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--specs", specs, "--group", &project.group]).collect();
    project.run(&arguments)
}

#[test]
fn jobs_run_before_dependents_and_rerun_as_configured() {
    let project = Project::new("exjobs");
    run_example("jobs", &project, &["validate"]).exits(0).stdout_contains("2 services, 3 jobs, no errors");
    let run = run_example("jobs", &project, &["up"])
        .exits(0)
        .stderr_contains("schema: succeeded")
        .stderr_contains("check: succeeded");
    run.stderr_contains("report: succeeded")
        .stderr_contains("api: ready")
        .stdout_contains("2 services ready, 3 jobs succeeded (5 created)");
    let schema = project.id("schema");
    let again = run_example("jobs", &project, &["up"]).exits(0).stderr_contains("check: succeeded");
    again.output_lacks("schema: succeeded").output_lacks("report: succeeded");
    run_example("jobs", &project, &["run", "report"]).exits(0).stdout_contains("the store holds: version 1");
    assert_eq!(project.id("schema"), schema);
    // The engine reports creation times in whole seconds. Wait, so that the new container is younger.
    let second = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let previous = second();
    wait_for("the next second", WAIT_TIMEOUT, || (second() > previous).then_some(()));
    run_example("jobs", &project, &["reload", "store"]).exits(0).stderr_contains("report: succeeded");
    run_example("jobs", &project, &["down", "--volumes"]).exits(0);
    assert!(project.containers().is_empty() && engine::volumes(&project.group).is_empty());
}

#[test]
fn hooks_log_lifecycle_events() {
    let project = Project::new("exhooks");
    let group = &project.group;
    let run = run_example("hooks", &project, &["up"]).exits(0);
    let run = run.stderr_contains(&format!("store: pre_start | pre_start of store in {group}"));
    let run = run.stderr_contains(&format!("store: post_start | post_start of store in {group}"));
    let run = run.stderr_contains(&format!("api: ready | ready of api in {group}"));
    run.stderr_contains(&format!("up | up of {group} has finished: api store"));
    assert_eq!(project.exec("store", &["cat", "/tmp/users"]), "ann\n");
    let run = run_example("hooks", &project, &["down"])
        .exits(0)
        .stderr_contains("store: pre_stop | ")
        .stderr_contains("store: post_stop | ");
    run.stderr_contains(&format!("down | down of {group} has finished: api store"));
}

/// Runs the program on an example, with an environment variable that the specs use.
#[track_caller]
fn run_example_with(variable: (&str, &str), example: &str, project: &Project, arguments: &[&str]) -> Run {
    let specs = repository("examples").join(example);
    let arguments = arguments.iter().copied().chain(["--specs", specs.to_str().unwrap(), "--group", &project.group]);
    let mut command = project.command(&arguments.collect::<Vec<_>>());
    command.env(variable.0, variable.1);
    process::run(command, WAIT_TIMEOUT)
}

#[test]
fn update_is_without_downtime_and_keeps_a_failed_candidate() {
    let project = Project::new("exupdate");
    run_example("update", &project, &["up"]).exits(0).stdout_contains("2 services ready");
    let old = project.id("api");
    let run = run_example_with(("SERVES", "0.5"), "update", &project, &["up"])
        .exits(1)
        .stderr_contains("did not stay ready for min_ready (2 s)");
    run.stderr_contains(&format!("kept as {}", project.name("api.new")));
    assert_eq!((project.id("api"), project.names()), (old, ["api", "api.new", "client"].map(str::to_owned).to_vec()));
    run_example_with(("VERSION", "2"), "update", &project, &["up"]).exits(0).stdout_contains("1 replaced");
    assert_eq!(project.names(), ["api", "client"]);
    run_example("update", &project, &["logs", "client"]).exits(0).output_lacks("is called api");
}

#[test]
fn replicas_scale_up_and_down() {
    let project = Project::new("exreplicas");
    let run = run_example("replicas", &project, &["up"]).exits(0).stdout_contains("2 services ready (2 created)");
    run.stderr_contains("worker-2: post_start | worker 2 is there");
    run_example_with(("WORKERS", "3"), "replicas", &project, &["up"]).exits(0).stdout_contains("(1 scaled up)");
    run_example("replicas", &project, &["up"]).exits(0).stdout_contains("(1 scaled down)");
    run_example_with(("VERSION", "2"), "replicas", &project, &["up"]).exits(0).stdout_contains("(1 replaced)");
    assert_eq!(project.names(), ["web", "worker-1", "worker-2"]);
}

#[test]
fn outputs_reach_their_consumers() {
    let project = Project::new("exoutputs");
    run_example("outputs", &project, &["diff"]).exits(1).stdout_contains("env.USER_ID: known after apply");
    run_example("outputs", &project, &["up"]).exits(0).stderr_contains("store: post_start | ");
    let env = project.exec("api", &["sh", "-c", "echo $USER_ID $SCHEMA"]);
    let (user, schema) = env.trim().split_once(' ').unwrap();
    assert!(user.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && schema == "v7", "{env}");
    // Outputs are secret.
    run_example("outputs", &project, &["down"]).exits(0).stderr_contains("store: post_stop | user (hidden) is gone");
}

#[test]
fn images_are_built_and_removed() {
    let project = Project::new("exbuild");
    let run = run_example("build", &project, &["up"])
        .exits(0)
        .stderr_contains("syntax: succeeded")
        .stderr_contains("greeter: build | ");
    run.stderr_contains("greeter: ready");
    assert_eq!(project.exec("greeter", &["cat", "/greeting"]), "hello\n");
    assert_eq!(engine::built_images(&project.group).len(), 2);
    let again = run_example("build", &project, &["up"]).exits(0).stdout_contains("nothing to do");
    again.output_lacks("build | ");
    run_example("build", &project, &["down", "--images"]).exits(0).stderr_contains("removes 2 images");
    assert_eq!(engine::built_images(&project.group), [""; 0]);
    // The classic builder also creates images for intermediate stages.
    engine::remove_dangling_images(|image| image["Config"]["Cmd"].to_string().contains("serve.sh"));
}

#[test]
fn program_creates_services_from_a_table() {
    let project = Project::new("extable");
    run_example("starlark-table", &project, &["up"]).exits(0).stdout_contains("30 services ready (30 created)");
    assert_eq!(project.exec("mail-8", &["sh", "-c", "echo $TEAM $LEVEL"]), "mail info\n");
    run_example("starlark-table", &project, &["diff"]).exits(0);
    run_example("starlark-table", &project, &["down"]).exits(0);
}

#[test]
fn program_creates_the_requested_shards() {
    if engine::lacks(Capability::Addresses) {
        return;
    }
    let project = Project::new("exshards");
    run_example("starlark-shards", &project, &["up"]).exits(0).stdout_contains("4 services ready (4 created)");
    let responses = project.exec("router", &["sh", "-c", "for shard in $SHARDS; do wget -q -O - $shard; done"]);
    assert_eq!(responses, "shard 0 of 3\nshard 1 of 3\nshard 2 of 3\n");
    let specs = repository("examples").join("starlark-shards");
    let arguments = ["up", "--specs", specs.to_str().unwrap(), "--group", &project.group];
    let mut command = project.command(&arguments);
    command.env("SHARDS", "2");
    // Each shard has the number of shards in its environment, so each is replaced.
    process::run(command, Duration::from_secs(90)).exits(0).stdout_contains("1 removed");
    assert_eq!(project.names(), ["router", "shard-0", "shard-1"]);
    run_example("starlark-shards", &project, &["down"]).exits(0);
}

#[test]
fn function_queries_a_database() {
    let project = Project::new("exping");
    let run = run_example("starlark-ping", &project, &["up"]).exits(0).stdout_contains("2 services ready (2 created)");
    // The value is hidden if the output is known when the line is shown.
    run.stderr_contains("store: post_start | created ann: ");
    assert_eq!(project.exec("api", &["sh", "-c", "echo $USER_ID $STORE"]), "832cfe46 store:5432\n");
    run_example("starlark-ping", &project, &["diff"]).exits(0);
    run_example("starlark-ping", &project, &["down"]).exits(0);
}

#[test]
fn diamond_and_pings_examples_start() {
    let projects = ["diamond", "pings"].map(|example| (example, Project::new(&format!("ex{example}"))));
    std::thread::scope(|scope| {
        for (example, project) in &projects {
            scope.spawn(|| {
                run_example(example, project, &["up"]).exits(0).stdout_contains("4 services ready");
                run_example(example, project, &["diff"]).exits(0);
                run_example(example, project, &["down"]).exits(0);
            });
        }
    });
}
