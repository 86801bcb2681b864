//! Commands that need no values continue without variables and env files, and without valid specs.

use crate::support::project::{Project, script, sleeper};

/// A project whose services need a variable and an env file, brought up with both.
fn project(purpose: &str) -> Project {
    let project = Project::new(purpose);
    let hooks = "env_file: secret.env\n\
                 pre_stop: {run: [sh, -c, 'echo told >> told']}\n\
                 post_stop: {run: [sh, -c, 'echo ${TOKEN} >> told']}";
    let api = script("api", "echo hello; sleep infinity", "env: {TOKEN: \"${TOKEN:?}\"}\ndependencies: [db]");
    project.write("all.yaml", &(sleeper("db", hooks) + &api));
    project.write("secret.env", "PASSWORD=abc\n");
    project.write(".env", "TOKEN=one\n");
    project.up();
    project.remove(".env");
    project.remove("secret.env");
    project
}

#[test]
fn commands_without_need_for_values_only_warn() {
    let project = project("missing");
    for strict in ["up", "diff", "validate", "render"] {
        let run = project.run(&[strict]).exits(2).stderr_contains("the variable `TOKEN` is not set");
        run.stderr_contains("secret.env");
    }
    // Of each of the two uses.
    let warning = "warning: the variable `TOKEN` is not set\n";
    let warned = |arguments: &[&str]| {
        let run = project.run(arguments).exits(0);
        assert_eq!(run.stderr.matches(warning).count(), 2, "{run}");
        run.stderr_contains("warning: cannot read the env file `specs/secret.env`").stderr_contains("all.yaml:")
    };
    let run = warned(&["status"]);
    assert_eq!(run.stdout.matches("Ready").count(), 2, "{run}");
    run.output_lacks("Outdated").output_lacks("outdated");
    warned(&["logs"]).stdout_contains("api | hello");
    warned(&["exec", "api", "--", "sh", "-c", "echo $TOKEN"]).stdout_contains("one");
    warned(&["stop", "api"]);
    assert_eq!(project.status("api")["phase"], "Exited");
    let before = project.containers().len();
    warned(&["start"]);
    assert_eq!((project.containers().len(), &project.status("api")["phase"]), (before, &"Ready".into()));
    let run = warned(&["down"]);
    let run = run.stderr_contains("db: post_stop hook skipped: the variable `TOKEN` is not set");
    assert!(project.containers().is_empty(), "{run}");
    let told = std::fs::read_to_string(project.specs().join("told")).unwrap();
    assert_eq!(told, "told\n", "the hook that needs no value has run, the other one was skipped: {run}");
}

#[test]
fn broken_specs_do_not_keep_a_group_from_being_inspected_and_removed() {
    let project = project("broken");
    project.write("all.yaml", "name: api\nimage: [\n");
    project.run(&["start"]).exits(2).stderr_contains("all.yaml:");
    for (arguments, expected) in [
        (&["status"][..], "api"),
        (&["logs"], "api | hello"),
        (&["exec", "api", "--", "echo", "done"], "done"),
        (&["stop"], "2 stopped"),
        (&["down"], "2 removed"),
    ] {
        let run = project.run(arguments).exits(0).stdout_contains(expected);
        let run = run.stderr_contains("warning: ").stderr_contains("all.yaml:");
        run.stderr_contains(&format!(
            "continuing without the specs, with what the engine has of group {}",
            project.group
        ));
    }
    assert!(project.containers().is_empty());
    // The name of the group is known from its containers only.
    project.run(&["down"]).exits(2).stderr_contains("--group NAME");
    project.run(&["down", "--group", &project.group]).exits(0);
}
