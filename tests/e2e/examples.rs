//! The examples do what they say.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::process::{self, Run};
use crate::support::project::{Project, repository};
use crate::support::{SOON, engine, wait_for};

/// Runs the program on an example, in a group of the test's own.
#[track_caller]
fn on(example: &str, project: &Project, arguments: &[&str]) -> Run {
    let specs = repository("examples").join(example);
    let specs = specs.to_str().unwrap();
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--specs", specs, "--group", &project.group]).collect();
    project.run(&arguments)
}

#[test]
fn jobs_run_before_dependents_and_rerun_as_configured() {
    let project = Project::new("exjobs");
    on("jobs", &project, &["validate"]).exits(0).prints("2 services, 3 jobs, no errors");
    let run = on("jobs", &project, &["up"]).exits(0).says("schema: succeeded").says("check: succeeded");
    run.says("report: succeeded").says("api: ready").prints("2 services ready, 3 jobs succeeded (5 created)");
    let schema = project.id("schema");
    let again = on("jobs", &project, &["up"]).exits(0).says("check: succeeded");
    again.never_says("schema: succeeded").never_says("report: succeeded");
    on("jobs", &project, &["run", "report"]).exits(0).prints("the store holds: version 1");
    assert_eq!(project.id("schema"), schema);
    // The engine tells when a container was created in whole seconds; what is made in the next one is younger.
    let second = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let ran = second();
    wait_for("the next second", SOON, || (second() > ran).then_some(()));
    on("jobs", &project, &["reload", "store"]).exits(0).says("report: succeeded");
    on("jobs", &project, &["down", "--volumes"]).exits(0);
    assert!(project.containers().is_empty() && engine::volumes(&project.group).is_empty());
}

#[test]
fn hooks_say_what_happens() {
    let project = Project::new("exhooks");
    let group = &project.group;
    let run = on("hooks", &project, &["up"]).exits(0);
    let run = run.says(&format!("store: pre_start | pre_start of store in {group}"));
    let run = run.says(&format!("store: post_start | post_start of store in {group}"));
    let run = run.says(&format!("api: ready | ready of api in {group}"));
    run.says(&format!("up | up of {group} has finished: api store"));
    assert_eq!(project.exec("store", &["cat", "/tmp/users"]), "ann\n");
    let run = on("hooks", &project, &["down"]).exits(0).says("store: pre_stop | ").says("store: post_stop | ");
    run.says(&format!("down | down of {group} has finished: api store"));
}

/// The same, with a variable that the specs name.
#[track_caller]
fn with(variable: (&str, &str), example: &str, project: &Project, arguments: &[&str]) -> Run {
    let specs = repository("examples").join(example);
    let arguments = arguments.iter().copied().chain(["--specs", specs.to_str().unwrap(), "--group", &project.group]);
    let mut command = project.command(&arguments.collect::<Vec<_>>());
    command.env(variable.0, variable.1);
    process::run(command, SOON)
}

#[test]
fn update_is_without_downtime_and_keeps_a_failed_candidate() {
    let project = Project::new("exupdate");
    on("update", &project, &["up"]).exits(0).prints("2 services ready");
    let old = project.id("api");
    let run =
        with(("SERVES", "0.5"), "update", &project, &["up"]).exits(1).says("did not stay ready for min_ready (2 s)");
    run.says(&format!("kept as {}", project.name("api.new")));
    assert_eq!((project.id("api"), project.names()), (old, ["api", "api.new", "client"].map(str::to_owned).to_vec()));
    with(("VERSION", "2"), "update", &project, &["up"]).exits(0).prints("1 replaced");
    assert_eq!(project.names(), ["api", "client"]);
    on("update", &project, &["logs", "client"]).exits(0).never_says("nobody is called api");
}

#[test]
fn replicas_come_and_go() {
    let project = Project::new("exreplicas");
    let run = on("replicas", &project, &["up"]).exits(0).prints("2 services ready (3 created)");
    run.says("worker-2: post_start | worker 2 is there");
    with(("WORKERS", "3"), "replicas", &project, &["up"]).exits(0).prints("(1 created)");
    on("replicas", &project, &["up"]).exits(0).prints("(1 removed)");
    with(("VERSION", "2"), "replicas", &project, &["up"]).exits(0).prints("(2 replaced)");
    assert_eq!(project.names(), ["web", "worker-1", "worker-2"]);
}

#[test]
fn outputs_reach_their_consumers() {
    let project = Project::new("exoutputs");
    on("outputs", &project, &["diff"]).exits(1).prints("env.USER_ID: known after apply");
    on("outputs", &project, &["up"]).exits(0).says("store: post_start | ");
    let env = project.exec("api", &["sh", "-c", "echo $USER_ID $SCHEMA"]);
    let (user, schema) = env.trim().split_once(' ').unwrap();
    assert!(user.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && schema == "v7", "{env}");
    let said = format!("store: post_stop | user {user} is gone");
    on("outputs", &project, &["down"]).exits(0).says(&said);
}

#[test]
fn images_are_built_and_gone_afterwards() {
    let project = Project::new("exbuild");
    let run = on("build", &project, &["up"]).exits(0).says("syntax: succeeded").says("greeter: build | ");
    run.says("greeter: ready");
    assert_eq!(project.exec("greeter", &["cat", "/greeting"]), "hello\n");
    assert_eq!(engine::built(&project.group).len(), 2);
    let again = on("build", &project, &["up"]).exits(0).prints("nothing to do");
    again.never_says("build | ");
    on("build", &project, &["down", "--images"]).exits(0).says("removes 2 images");
    assert_eq!(engine::built(&project.group), [""; 0]);
    // The first builder makes stages that nobody asked for.
    engine::remove_nameless(|image| image["Config"]["Cmd"].to_string().contains("serve.sh"));
}

#[test]
fn programs_make_services_of_a_table() {
    let project = Project::new("extable");
    on("starlark-table", &project, &["up"]).exits(0).prints("30 services ready (30 created)");
    assert_eq!(project.exec("mail-8", &["sh", "-c", "echo $TEAM $LEVEL"]), "mail info\n");
    on("starlark-table", &project, &["diff"]).exits(0);
    on("starlark-table", &project, &["down"]).exits(0);
}

#[test]
fn program_creates_the_requested_shards() {
    let project = Project::new("exshards");
    on("starlark-shards", &project, &["up"]).exits(0).prints("4 services ready (4 created)");
    let told = project.exec("router", &["sh", "-c", "for shard in $SHARDS; do wget -q -O - $shard; done"]);
    assert_eq!(told, "shard 0 of 3\nshard 1 of 3\nshard 2 of 3\n");
    let specs = repository("examples").join("starlark-shards");
    let arguments = ["up", "--specs", specs.to_str().unwrap(), "--group", &project.group];
    let mut command = project.command(&arguments);
    command.env("SHARDS", "2");
    // Each says how many there are, so each is another.
    process::run(command, Duration::from_secs(90)).exits(0).prints("1 removed");
    assert_eq!(project.names(), ["router", "shard-0", "shard-1"]);
    on("starlark-shards", &project, &["down"]).exits(0);
}

#[test]
fn a_function_speaks_to_a_database() {
    let project = Project::new("exping");
    let run = on("starlark-ping", &project, &["up"]).exits(0).prints("2 services ready (2 created)");
    run.says("store: post_start | created ann: 832cfe46");
    assert_eq!(project.exec("api", &["sh", "-c", "echo $USER_ID $STORE"]), "832cfe46 store:5432\n");
    on("starlark-ping", &project, &["diff"]).exits(0);
    on("starlark-ping", &project, &["down"]).exits(0);
}

#[test]
fn the_others_come_up() {
    let projects = ["diamond", "pings"].map(|example| (example, Project::new(&format!("ex{example}"))));
    std::thread::scope(|scope| {
        for (example, project) in &projects {
            scope.spawn(|| {
                on(example, project, &["up"]).exits(0).prints("4 services ready");
                on(example, project, &["diff"]).exits(0);
                on(example, project, &["down"]).exits(0);
            });
        }
    });
}
