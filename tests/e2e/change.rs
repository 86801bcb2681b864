//! Spec changes: `diff` lists exactly the changed fields, and `up` replaces exactly the affected containers.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::engine::{self, Capability, text};
use crate::support::project::{Project, free_port, sleeper};

/// Returns the container ids of services, by service name.
fn ids(project: &Project, services: &[&str]) -> BTreeMap<String, String> {
    services.iter().map(|service| ((*service).to_owned(), project.id(service))).collect()
}

#[test]
fn each_changed_field_replaces_exactly_its_container() {
    let project = Project::new("field");
    let services = ["port", "env", "command", "mount", "other"];
    let (before, after) = (free_port(), free_port());
    let write = |port: u16, value: &str, command: &str, path: &str| {
        let specs = [
            sleeper("port", &format!("ports: ['{port}:80']")),
            sleeper("env", &format!("env: {{LOG_LEVEL: {value}, SAME: same}}")),
            // Written out, because `sleeper` already sets `command`.
            format!(
                "---\nname: command\nimage: drillmaster/busybox:1\ncommand: {command}\nstop_signal: KILL\n\
                 dependencies: [other]\n"
            ),
            sleeper("mount", &format!("volumes: ['data:{path}']")),
            sleeper("other", ""),
        ];
        project.write("all.yaml", &specs.concat());
    };
    write(before, "info", "[sleep, '1000']", "/data");
    project.up();
    let mut known = ids(&project, &services);
    let mut change = |service: &str, field: &str, values: Option<(Value, Value)>| {
        let changes = project.diff();
        assert_eq!(changes.len(), 1, "{changes:#?}");
        let change = &changes[0];
        assert_eq!((&change["service"], &change["action"]), (&json!(service), &json!("replace")));
        let causes = change["causes"].as_array().unwrap();
        assert_eq!(causes.len(), 1, "{causes:#?}");
        assert_eq!(causes[0]["field"], field);
        if let Some((old, new)) = values {
            assert_eq!((&causes[0]["old"], &causes[0]["new"]), (&old, &new));
        }
        project.run(&["up"]).exits(0).stdout_contains("5 services ready (1 replaced)");
        let now = ids(&project, &services);
        for (name, id) in &now {
            assert_eq!(known[name] == *id, name != service, "{name}: only {service} is replaced");
        }
        known = now;
        project.assert_settled(&services);
    };
    write(before, "debug", "[sleep, '1000']", "/data");
    change("env", "env.LOG_LEVEL", Some((json!("(hidden)"), json!("(hidden)"))));
    write(after, "debug", "[sleep, '1000']", "/data");
    change("port", "ports", None);
    write(after, "debug", "[sleep, '2000']", "/data");
    change("command", "command", Some((json!(["sleep", "1000"]), json!(["sleep", "2000"]))));
    write(after, "debug", "[sleep, '2000']", "/srv");
    change("mount", "volumes", None);
    assert_eq!(
        text(&project.inspect("port")["HostConfig"]["PortBindings"]["80/tcp"][0]["HostPort"]),
        after.to_string()
    );
    assert_eq!(text(&project.inspect("port")["HostConfig"]["PortBindings"]["80/tcp"][0]["HostIp"]), "127.0.0.1");
    assert_eq!(project.exec("env", &["sh", "-c", "echo $LOG_LEVEL $SAME"]), "debug same\n");
}

#[test]
fn diff_json_matches_documentation() {
    let project = Project::new("diffjson");
    project.write("app/api.yaml", &format!("# First a comment.\n{}", sleeper("api", "env: {A: one}")));
    let run = project.run(&["diff", "--output", "json"]).exits(1);
    let name = project.name("api");
    assert_eq!(
        run.json(),
        json!({
            "group": project.group,
            "changes": [{
                "service": "api", "kind": "Service", "action": "create",
                "causes": [{ "field": "container", "old": null, "new": name }],
                "source": "app/api.yaml:3",
            }],
        })
    );
    assert!(project.containers().is_empty(), "diff changes nothing");
    assert!(engine::networks(&project.group).is_empty(), "diff changes nothing");

    project.up();
    let run = project.run(&["diff", "--output", "json"]).exits(0);
    assert_eq!(run.json(), json!({ "group": project.group, "changes": [] }));

    project.write("app/api.yaml", &sleeper("api", "env: {B: two}"));
    let run = project.run(&["diff", "--output", "json", "--show-values"]).exits(1);
    assert_eq!(
        run.json()["changes"],
        json!([{
            "service": "api", "kind": "Service", "action": "replace",
            "causes": [
                { "field": "env.A", "old": "one", "new": null },
                { "field": "env.B", "old": null, "new": "two" },
            ],
            "source": "app/api.yaml:2",
        }])
    );

    // An orphan.
    project.remove("app/api.yaml");
    project.write("web.yaml", &sleeper("web", ""));
    let changes = project.diff();
    assert_eq!(changes.len(), 2, "{changes:#?}");
    let removed = changes.iter().find(|change| change["service"] == "api").unwrap();
    assert_eq!((&removed["kind"], &removed["action"]), (&json!("Service"), &json!("remove")));
    assert_eq!(removed["causes"], json!([]));
    assert!(removed["source"].is_string(), "{removed:#}");
}

#[test]
fn status_json_matches_documentation() {
    let project = Project::new("statusjson");
    let port = free_port();
    project.write("all.yaml", &(sleeper("api", &format!("ports: ['{port}:80']")) + &sleeper("later", "")));
    project.run(&["up", "api"]).exits(0);
    let run = project.run(&["status", "--output", "json"]).exits(0);
    let status = run.json();
    assert_eq!(status["group"], project.group);
    let services = status["services"].as_array().unwrap();
    assert_eq!(services.len(), 2, "{status:#}");
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    for service in services {
        let mut expected =
            vec!["name", "kind", "phase", "ready", "container", "restarts", "reason", "message", "ports"];
        expected.extend(["since", "last_exit", "next_try"]);
        expected.sort_unstable();
        assert_eq!(keys(service), expected);
    }
    let api = &services[0];
    let expected =
        [("name", json!("api")), ("kind", json!("Service")), ("phase", json!("Ready")), ("ready", json!(true))];
    for (key, value) in expected {
        assert_eq!(api[key], value, "{api:#}");
    }
    let container = json!({ "id": project.id("api"), "name": project.name("api"), "image": "drillmaster/busybox:1" });
    assert_eq!(api["container"], container);
    assert_eq!(api["restarts"], 0);
    assert_eq!((&api["reason"], &api["message"]), (&Value::Null, &Value::Null));
    assert_eq!(api["ports"], json!([format!("127.0.0.1:{port}->80/tcp")]));
    text(&api["since"]).parse::<jiff::Timestamp>().unwrap();
    let later = &services[1];
    assert_eq!(
        (&later["phase"], &later["ready"], &later["container"]),
        (&json!("Pending"), &json!(false), &Value::Null)
    );
    assert_eq!((&later["ports"], &later["since"]), (&json!([]), &Value::Null));
}

#[test]
fn env_values_are_shown_only_with_show_values() {
    let project = Project::new("secret");
    let spec = |value: &str| sleeper("api", &format!("env: {{PASSWORD: {value}, GONE_{value}: geheim}}"));
    project.write("api.yaml", &spec("sesame1"));
    project.up().output_lacks("sesame1").output_lacks("geheim");
    project.write("api.yaml", &spec("sesame2"));
    for output in ["text", "json"] {
        let run = project.run(&["diff", "--output", output]).exits(1);
        let run =
            run.stdout_contains("env.PASSWORD").stdout_contains("env.GONE_sesame1").stdout_contains("env.GONE_sesame2");
        assert!(!run.stdout.contains("geheim"), "{run}");
        assert!(!run.stdout.replace("GONE_sesame", "").contains("sesame"), "{run}");
        let run = project.run(&["diff", "--show-values", "--output", output]).exits(1);
        run.stdout_contains("geheim").stdout_contains("sesame1").stdout_contains("sesame2");
    }
    let run = project.run(&["diff"]).exits(1);
    run.stdout_contains("env.PASSWORD: changed")
        .stdout_contains("env.GONE_sesame1: removed")
        .stdout_contains("env.GONE_sesame2: added");
    project.run(&["up", "-v"]).exits(0).output_lacks("geheim");
    project.run(&["status"]).exits(0).output_lacks("geheim");
}

#[test]
fn equivalent_spec_forms_change_nothing() {
    let project = Project::new("form");
    let port = free_port();
    let first = format!(
        "name: api\nimage: drillmaster/busybox:1\ncommand: [sleep, infinity]\nstop_signal: KILL\nenv: {{A: one, B: '2'}}\n\
         ports: ['{port}:80']\nvolumes: ['data:/data', '/cache']\nlabels: {{x: y, z: '1'}}\ntmpfs: /scratch\n"
    );
    project.write("api.yaml", &first);
    project.write("web.yaml", &sleeper("web", "dependencies: [api]"));
    project.up();
    let before = ids(&project, &["api", "web"]);
    project.remove("api.yaml");
    project.remove("web.yaml");
    let second = format!(
        "# An equivalent spec.\n---\nkind: Service\nlabels:\n  z: 1\n  x: \"y\"\ntmpfs: [/scratch]\nvolumes:\n- /cache\n\
         - {{type: volume, source: data, target: /data}}\nports: [{{container: 80, host: {port}}}]\nenv:\n  B: 2 # a number\n  \
         A: \"one\"\nstop_signal: SIGKILL\ncommand: sleep infinity\nimage: docker.io/drillmaster/busybox:1\nname: \"api\"\n"
    );
    let web = sleeper("web", "dependencies: [{name: api, condition: ready}]\nrestart: 'no'\nping: {exec: ['true']}");
    project.write("deep/down/here.yml", &(web + &second));
    assert_eq!(project.differences(), Vec::<String>::new());
    project.run(&["diff"]).exits(0).stderr_contains("no differences");
    project.up().stdout_contains("2 services ready (nothing to do)");
    assert_eq!(ids(&project, &["api", "web"]), before);
}

#[test]
fn variables_and_env_files_are_compared_by_value() {
    let project = Project::new("variables");
    project.write("api.yaml", &sleeper("api", "env: {A: '${LEVEL:-info}'}\nenv_file: [one.env]"));
    project.write("one.env", "FROM_FILE=1\n");
    project.up();
    project.write(".env", "LEVEL=info\n");
    project.write("one.env", "# No change.\nFROM_FILE='1'\n");
    assert_eq!(project.differences(), Vec::<String>::new());
    project.write("one.env", "FROM_FILE=2\n");
    project.write(".env", "LEVEL=debug\n");
    assert_eq!(project.differences(), ["api replace env.A, env.FROM_FILE"]);
    // The process environment takes precedence over .env.
    let mut command = project.command(&["up"]);
    command.env("LEVEL", "trace");
    crate::support::process::run(command, std::time::Duration::from_secs(60)).exits(0);
    assert_eq!(project.exec("api", &["sh", "-c", "echo $A $FROM_FILE"]), "trace 2\n");
}

#[test]
fn environment_that_only_looks_changed_replaces_nothing() {
    let project = Project::new("looks");
    let long = "x".repeat(100 * 1024);
    let api = |fields: &str| sleeper("api", fields);
    project.write("api.yaml", &api(&format!("env: {{A: '1', B: two words, C: 'a$$b', LONG: {long}}}")));
    project.up();
    let id = project.id("api");
    let same = |fields: &str| {
        project.write("api.yaml", &api(fields));
        assert_eq!(project.differences(), Vec::<String>::new(), "{}", fields.replace(&long, "…"));
    };
    // Order, quotes, another form, and moved to an env file.
    same(&format!("env: {{LONG: '{long}', C: \"a$$b\", B: 'two words', A: 1}}"));
    same(&format!("env: [C=a$$b, A=1, B=two words, LONG={long}]"));
    project.write("some.env", "B='two words'\nA=1\n# A comment.\nC='a$b'\n");
    same(&format!("env: {{LONG: {long}}}\nenv_file: [some.env]"));
    same(&format!("env: {{LONG: {long}, A: 1}}\nenv_file: [some.env]"));
    project.up().stdout_contains("nothing to do");
    assert_eq!(project.id("api"), id);
    assert_eq!(
        project.exec("api", &["sh", "-c", "echo \"$A $B $C ${#LONG}\""]),
        format!("1 two words a$b {}\n", long.len())
    );
    project.write("some.env", "B='two words'\nA=1\nC='a$c'\n");
    assert_eq!(project.differences(), ["api replace env.C"]);
}

#[test]
fn retagged_image_is_a_difference() {
    let mut project = Project::new("retag");
    let tag = project.tag("drillmaster/busybox:1");
    let other = sleeper("other", "");
    let api = format!("---\nname: api\nimage: {tag}\ncommand: [sleep, infinity]\nstop_signal: KILL\npull: never\n");
    project.write("all.yaml", &(api + &other));
    project.up();
    let before = ids(&project, &["api", "other"]);
    project.retag("drillmaster/busybox:2");
    assert_eq!(project.differences(), ["api replace image"]);
    project.up().stdout_contains("(1 replaced)");
    assert_ne!(project.id("api"), before["api"]);
    assert_eq!(project.id("other"), before["other"]);
    assert_eq!(
        project.inspect("api")["Image"],
        engine::request("GET", "/images/drillmaster/busybox:2/json", None)["Id"]
    );
    project.assert_settled(&["api", "other"]);
}

#[test]
fn restart_policy_and_limits_are_updated_in_place() {
    if engine::lacks(Capability::Limits) {
        return;
    }
    let project = Project::new("update");
    project.write("api.yaml", &sleeper("api", ""));
    project.up();
    let id = project.id("api");
    project.write("api.yaml", &sleeper("api", "restart: on-failure:3\nresources: {memory: 64m, cpus: 0.5, pids: 50}"));
    let differences = project.differences();
    assert_eq!(differences, ["api update resources.cpus, resources.memory, resources.pids, restart"]);
    project.up().stdout_contains("(1 updated)");
    assert_eq!(project.id("api"), id, "the container is not replaced");
    let limits = project.inspect("api")["HostConfig"].clone();
    assert_eq!(limits["Memory"], 64 * 1024 * 1024);
    assert_eq!(limits["NanoCpus"], 500_000_000_i64);
    assert_eq!(limits["PidsLimit"], 50);
    assert_eq!(limits["RestartPolicy"], json!({ "Name": "on-failure", "MaximumRetryCount": 3 }));
    project.assert_settled(&["api"]);

    project.write("api.yaml", &sleeper("api", "restart: unless-stopped\nresources: {memory: 32m, cpus: 1}"));
    project.up();
    assert_eq!(project.id("api"), id, "the container is not replaced");
    let limits = project.inspect("api")["HostConfig"].clone();
    assert_eq!(limits["Memory"], 32 * 1024 * 1024);
    assert_eq!(limits["NanoCpus"], 1_000_000_000_i64);
    assert!(limits["PidsLimit"].as_i64().unwrap_or(0) <= 0, "no limit: {}", limits["PidsLimit"]);
    assert_eq!(limits["RestartPolicy"]["Name"], "unless-stopped");
    project.assert_settled(&["api"]);

    // The engine cannot remove these limits from a running container, so the container is replaced.
    project.write("api.yaml", &sleeper("api", ""));
    project.up();
    let limits = project.inspect("api")["HostConfig"].clone();
    assert_eq!((&limits["Memory"], &limits["NanoCpus"]), (&json!(0), &json!(0)));
    assert_eq!(limits["RestartPolicy"]["Name"], "no");
    project.assert_settled(&["api"]);
}

/// As with `node_modules` in a volume of the image: the files of the new image are hidden.
#[test]
fn anonymous_volumes_are_renewed_on_request() {
    let mut project = Project::new("renew");
    let tag = project.tag("drillmaster/busybox:1");
    let spec = sleeper("api", "volumes: [/scratch]").replace("drillmaster/busybox:1", &tag);
    project.write("api.yaml", &spec);
    project.up();
    project.exec("api", &["touch", "/scratch/old"]);
    project.retag("drillmaster/busybox:2");
    let note = "api: the anonymous volume at /scratch moves to the new container";
    project.run(&["diff"]).exits(1).stderr_contains(note);
    project.up().stderr_contains(note);
    assert_eq!(project.exec("api", &["ls", "/scratch"]).trim(), "old");
    project.up().output_lacks(note);
    project.run(&["reload", "--renew-volumes", "api"]).exits(0);
    assert_eq!(project.exec("api", &["ls", "/scratch"]).trim(), "");
    project.assert_settled(&["api"]);
    project.run(&["down", "--volumes"]).exits(0).stderr_contains("removes 2 volumes");
}
