//! Outputs: values produced by hooks and jobs reach their consumers; a changed output replaces its consumers.

use rustix::process::Signal;

use crate::support::engine;
use crate::support::events::Events;
use crate::support::project::{BUSYBOX, Project, sleeper};
use crate::support::watcher::Watcher;
use crate::support::{WAIT_TIMEOUT, wait_for};

/// Returns the specs: `db` sets `user_id`, `migrate` sets `version` and `rows`, `api` uses all three, `web` none.
fn specs(user: &str) -> String {
    let migrate = "echo version=3 >> $DRILLMASTER_OUTPUT; echo so many rows; echo and an error >&2";
    [
        sleeper(
            "db",
            &format!("env: {{SEED: \"{user}\"}}\npost_start: {{exec: [sh, -c, 'echo $SEED'], capture: user_id}}"),
        ),
        format!("---\nkind: Job\nname: migrate\nimage: {BUSYBOX}\ncommand: [sh, -c, '{migrate}']\ncapture: rows\n"),
        sleeper(
            "api",
            "env: {USER_ID: \"${context.user_id}\", VERSION: \"v${context.version}\", ROWS: \"${context.rows}\"}",
        ),
        sleeper("web", "dependencies: [api]"),
    ]
    .concat()
}

/// Returns the environment of a service's container.
fn env(project: &Project, service: &str) -> Vec<String> {
    let env = project.inspect(service)["Config"]["Env"].as_array().unwrap().clone();
    env.iter().map(engine::text).collect()
}

#[test]
fn changed_output_replaces_only_its_consumers() {
    let project = Project::new("outputs");
    project.write("all.yaml", &specs("7"));
    let diff = project.run(&["diff"]).exits(1).stdout_contains("env.USER_ID: known after apply");
    diff.stdout_contains("migrate: collect outputs of");
    let events = Events::subscribe(&project.group);
    project.up();
    let [db, migrate, api] = ["db", "migrate", "api"].map(|service| project.name(service));
    events.assert_order(("rename", &db), ("create", &format!("{api}.new")));
    events.assert_order(("rename", &migrate), ("create", &format!("{api}.new")));
    for variable in ["USER_ID=7", "VERSION=v3", "ROWS=so many rows"] {
        assert!(env(&project, "api").contains(&variable.to_owned()), "{:?}", env(&project, "api"));
    }
    project.up().stdout_contains("nothing to do");
    assert_eq!(project.differences(), Vec::<String>::new());

    let before = ["migrate", "web", "api", "db"].map(|service| project.id(service));
    project.write("all.yaml", &specs("8"));
    project.up();
    let after = ["migrate", "web", "api", "db"].map(|service| project.id(service));
    assert_eq!(before[..2], after[..2], "services without a changed output are kept");
    assert!(before[2] != after[2] && before[3] != after[3]);
    assert!(env(&project, "api").contains(&"USER_ID=8".to_owned()));
    // A new container with the same output does not affect its consumers.
    project.run(&["reload", "db"]).exits(0);
    assert_eq!((project.id("api"), project.id("web")), (after[2].clone(), after[1].clone()));
    assert_ne!(project.id("db"), after[3]);

    project.run(&["down"]).exits(0);
    project.run(&["diff"]).exits(1).stdout_contains("env.USER_ID: known after apply");
}

#[test]
fn watch_uses_outputs_set_while_it_runs() {
    let project = Project::new("outwatch");
    project.write("all.yaml", &specs("7"));
    let _watcher = Watcher::start(&project);
    let before = ["web", "api"].map(|service| project.id(service));
    project.write("all.yaml", &specs("8"));
    wait_for("api with the new user", WAIT_TIMEOUT, || {
        let found = engine::try_get(&format!("/containers/{}/json", project.name("api")))?;
        let env = found["Config"]["Env"].as_array()?.clone();
        (found["Id"] != before[1] && env.contains(&"USER_ID=8".into())).then_some(())
    });
    wait_for("all services to be ready", WAIT_TIMEOUT, || project.is_ready().then_some(()));
    assert_eq!(project.id("web"), before[0]);
    assert_eq!(project.differences(), Vec::<String>::new());
}

#[test]
fn output_survives_a_run_killed_in_its_hook() {
    let project = Project::new("outkill");
    let hook = "echo begun > ../begun; test -e ../again || sleep 100; echo token=t1 > $DRILLMASTER_OUTPUT";
    let specs = sleeper("db", &format!("post_start: {{run: [sh, -c, '{hook}']}}"))
        + &sleeper("api", "dependencies: [db]\nenv: {TOKEN: \"${context.token}\"}");
    project.write("all.yaml", &specs);
    let run = project.spawn(&["up"]);
    wait_for("the hook to start", WAIT_TIMEOUT, || project.home.path().join("begun").exists().then_some(()));
    run.signal(Signal::KILL);
    run.wait_for_exit(WAIT_TIMEOUT);
    project.write("../again", "");
    project.up();
    assert!(env(&project, "api").contains(&"TOKEN=t1".to_owned()));
}

#[test]
fn missing_output_is_named_and_blocks_only_its_consumer() {
    let project = Project::new("outnone");
    let specs = [
        sleeper("db", "post_start: {exec: [\"true\"]}"),
        sleeper("api", "env: {USER_ID: \"${context.user_id}\"}"),
        sleeper("web", ""),
    ];
    project.write("all.yaml", &specs.concat());
    let run = project.run(&["up"]).exits(1);
    run.stderr_contains("api: pending: waiting for output `user_id` (not set yet)");
    assert_eq!(project.names(), ["db", "web"]);
    project.write("all.yaml", &specs.concat().replace("[\"true\"]}", "[echo, '9'], capture: user_id}"));
    project.run(&["up"]).exits(1).stderr_contains("waiting for output `user_id` of db, which did not set it");
    project.run(&["reload", "db"]).exits(0);
    project.up();
    assert!(env(&project, "api").contains(&"USER_ID=9".to_owned()));
    // Without a producer, the specs are invalid.
    project.write("all.yaml", &sleeper("api", "env: {USER_ID: \"${context.user_id}\"}"));
    project.run(&["validate"]).exits(2).stderr_contains("undefined output `user_id`");
}

#[test]
fn pre_start_output_is_used_by_its_own_service() {
    let project = Project::new("outown");
    let first = "test -e ../fail && exit 3; cat /proc/sys/kernel/random/uuid";
    let specs = sleeper(
        "db",
        &format!(
            "pre_start: {{run: [sh, -c, '{first}'], capture: password}}\nenv: {{PASSWORD: \"${{context.password}}\"}}"
        ),
    );
    let api = sleeper("api", "env: {DB_PASSWORD: \"${context.password}\"}");
    project.write("all.yaml", &(specs + &api));
    let password = || {
        let all = env(&project, "db");
        let password = all.iter().find_map(|variable| variable.strip_prefix("PASSWORD=")).unwrap().to_owned();
        assert!(env(&project, "api").contains(&format!("DB_PASSWORD={password}")), "{password}");
        password
    };
    project.run(&["diff"]).exits(1).stdout_contains("db: pre_start: run sh -c");
    let run = project.up();
    assert_eq!(run.stderr.matches("db: pre_start | ").count(), 1, "{run}");
    let before = password();
    assert_eq!(before.len(), 36);
    project.up().stdout_contains("nothing to do");
    // A new container produces a new value, once, and all consumers are updated.
    let run = project.run(&["reload", "db"]).exits(0);
    assert_eq!(run.stderr.matches("db: pre_start | ").count(), 1, "{run}");
    project.up();
    assert_ne!(password(), before);
    project.up().stdout_contains("nothing to do");
    // A failed producer changes nothing.
    let id = project.id("db");
    project.write("../fail", "");
    project.run(&["reload", "db"]).exits(1).stderr_contains("pre_start hook failed: sh exited with code 3");
    assert_eq!(project.id("db"), id);
    assert_eq!(project.differences(), Vec::<String>::new());
}

/// Returns a program with a service whose `post_start` function sets an output.
fn function_service(name: &str, key: &str) -> String {
    format!(
        "def set_key(ctx, key):\n    ctx.context[key] = \"42\"\n\n\
         def give(ctx):\n    {key}\n\n\
         service(name={name:?}, image=\"drillmaster/busybox:1\", command=[\"sleep\", \"infinity\"], \
         stop_signal=\"KILL\", post_start=give)\n"
    )
}

#[test]
fn service_whose_function_sets_the_output_is_selected() {
    let project = Project::new("selected");
    project.write("f.star", &function_service("f", "ctx.context[\"token\"] = \"42\""));
    project.write("g.yaml", &sleeper("g", "env: {TOKEN: '${context.token}'}"));
    project.write("other.yaml", &sleeper("other", ""));
    project.run(&["up", "g"]).exits(0).stdout_contains("2 services ready (2 created)");
    assert_eq!(project.names(), ["f", "g"]);
    // Also while the output is known.
    project.run(&["stop", "f", "g"]).exits(0);
    project.run(&["up", "g"]).exits(0).stdout_contains("2 services ready");
    project.run(&["down"]).exits(0);
    let hint = "waiting for output `token` (not set yet); f may set it and is not selected: `drillmaster up f g`";
    project.run(&["up", "g", "--exclude", "f"]).exits(1).stderr_contains(hint);
    let hint = "waiting for output `token` (not set yet); f may set it and is excluded";
    project.run(&["up", "--exclude", "f"]).exits(1).stderr_contains(hint);
}

#[test]
fn all_services_that_may_set_the_output_are_named() {
    let project = Project::new("unselected");
    project.write("f.star", &function_service("f", "set_key(ctx, \"token\")"));
    let command = "post_start: {run: [sh, -c, 'echo number=7 >> $DRILLMASTER_OUTPUT']}";
    project.write("all.yaml", &(sleeper("h", command) + &sleeper("g", "env: {TOKEN: '${context.token}'}")));
    let hint = "waiting for output `token` (not set yet); f, h may set it and are not selected: `drillmaster up f h g`";
    let run = project.run(&["up", "g"]).exits(1).stderr_contains(hint);
    assert!(run.took < std::time::Duration::from_secs(30), "{run}");
    project.run(&["up", "f", "h", "g"]).exits(0);
    project.assert_settled(&["f", "g", "h"]);
}
