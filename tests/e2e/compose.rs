//! Compose files in place of a spec directory.

use serde_json::{Value, json};

use crate::support::engine::{self, Capability, text};
use crate::support::project::{BUSYBOX, Project};
use crate::support::watcher::{Watcher, instances};

/// A directory with a compose file, whose project has the name of the group.
fn project(purpose: &str, compose: &str) -> Project {
    let project = Project::new(purpose);
    std::fs::remove_dir_all(project.specs()).unwrap();
    write(&project, "compose.yaml", &format!("name: {}\n{compose}", project.group));
    project
}

fn write(project: &Project, file: &str, text: &str) {
    std::fs::write(project.home.path().join(file), text.replace("IMAGE", BUSYBOX)).unwrap();
}

/// An object that is removed when the test ends.
struct Removed(String);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = engine::try_request("DELETE", &self.0, None);
    }
}

/// Creates a container as docker compose does, of a service of the project, and starts it.
fn compose_container(project: &Project, service: &str, body: Value) -> (String, Removed) {
    let name = format!("{}-{service}-1", project.group);
    let mut body = body;
    body["Image"] = BUSYBOX.into();
    body["Labels"]["com.docker.compose.project"] = project.group.as_str().into();
    body["Labels"]["com.docker.compose.service"] = service.into();
    engine::request("POST", &format!("/containers/create?name={name}"), Some(&body));
    engine::container_action(&name, "start");
    (name.clone(), Removed(format!("/containers/{name}?force=true")))
}

/// A site with a database, a one-shot, a service of a profile, two networks, a config and variables.
const STACK: &str = "
services:
  web:
    image: IMAGE
    container_name: ${COMPOSE_PROJECT_NAME}-www
    command: sleep infinity
    stop_signal: KILL
    env_file: web.env
    environment:
      - MODE=${MODE:-plain}
      - PATH_OF=$$HOME
    depends_on:
      db: {condition: service_healthy}
      seed: {condition: service_completed_successfully}
    networks: [default, back]
    configs: [{source: motd, target: /etc/motd}]
    volumes: ['./made/by/engine:/made']
  db:
    image: IMAGE
    command: [sleep, infinity]
    stop_signal: KILL
    healthcheck: {test: 'test -d /data', interval: 200ms, start_period: 5s}
    volumes: ['Data:/data']
    networks: [back]
  seed:
    image: IMAGE
    command: touch /data/seeded
    volumes: ['Data:/data']
    networks: [back]
  debugger:
    image: IMAGE
    command: sleep infinity
    stop_signal: KILL
    profiles: [debug]
networks:
  back: {internal: true}
volumes:
  Data:
configs:
  motd: {content: 'welcome to ${MODE:-plain}'}
";

fn names(project: &Project) -> Vec<String> {
    project.names()
}

#[test]
fn stack_comes_up_as_it_is() {
    if engine::lacks(Capability::Files) {
        return;
    }
    let project = project("compose", STACK);
    write(&project, ".env", "MODE=fancy\n");
    write(&project, "web.env", "GREETING=hello ${MODE}\n");
    let volume = format!("{}_Data", project.group);
    let _volume = Removed(format!("/volumes/{volume}"));

    project.run(&["validate"]).exits(0).stdout_contains("2 services, 1 job, no errors");
    project.up();
    assert_eq!(names(&project), ["db", "seed", "web"]);
    assert_eq!(project.differences(), ["seed replace rerun"], "a one-shot runs in every `up`, as under docker compose");
    assert_eq!(project.exec("db", &["ls", "/data"]).trim(), "seeded", "the one-shot has filled the volume");
    assert_eq!(project.exec("web", &["cat", "/etc/motd"]), "welcome to fancy");
    let environment = project.exec("web", &["env"]);
    for line in ["MODE=fancy", "GREETING=hello fancy", "PATH_OF=$HOME"] {
        assert!(environment.lines().any(|found| found == line), "{line}: {environment}");
    }
    assert!(project.home.path().join("made/by/engine").is_dir(), "a missing directory is created");

    let web = project.inspect("web");
    let networks = web["NetworkSettings"]["Networks"].as_object().unwrap();
    let expected = ["back", "default"].map(|network| format!("{}_{network}", project.group));
    assert_eq!(networks.keys().cloned().collect::<Vec<_>>(), expected);
    let aliases = networks[&expected[0]]["Aliases"].to_string();
    assert!(aliases.contains(&format!("{}-www", project.group)), "{aliases}");
    let source = text(&web["Config"]["Labels"]["drillmaster.source"]);
    assert_eq!(source, project.home.path().canonicalize().unwrap().to_str().unwrap());

    project.run(&["up", "--profile", "debug"]).exits(0);
    assert_eq!(names(&project), ["db", "debugger", "seed", "web"]);
    let mut command = project.command(&["diff"]);
    command.env("COMPOSE_PROFILES", "debug");
    crate::support::process::run(command, std::time::Duration::from_secs(60)).exits(1).output_lacks("debugger");
    for arguments in [["status"].as_slice(), &["render"], &["graph"], &["logs", "db"], &["exec", "db", "true"]] {
        project.run(arguments).exits(0);
    }
    project.run(&["render"]).exits(0).output_lacks("fancy");
    project.run(&["down"]).exits(0);
    assert!(names(&project).is_empty() && engine::networks(&project.group).is_empty());
    assert!(engine::try_get(&format!("/volumes/{volume}")).is_some(), "`down` keeps the volume");
}

#[test]
fn watch_replaces_what_an_override_changes() {
    let services = "services:\n  a: {image: IMAGE, command: sleep infinity, stop_signal: KILL}\n  \
                    b: {image: IMAGE, command: sleep infinity, stop_signal: KILL, env_file: [{path: b.env, required: false}]}\n";
    let project = project("compose-watch", services);
    write(&project, "compose.override.yaml", "services: {a: {environment: {V: 1}}}\n");
    let mut watcher = Watcher::start(&project);
    let before = instances(&project);

    write(&project, "compose.override.yaml", "services: {a: {environment: {V: 2}}}\n");
    watcher.wait_for("the change of the override", |_| {
        engine::exec(&project.name("a"), &["env"]).is_ok_and(|env| env.contains("V=2")).then_some(())
    });
    watcher.wait_until_settled(&project);
    let after = instances(&project);
    assert!(before["a"] != after["a"] && before["b"] == after["b"], "{before:?} {after:?}");

    // A file that did not exist.
    write(&project, "b.env", "V=3\n");
    watcher.wait_for("the new env file", |_| {
        engine::exec(&project.name("b"), &["env"]).is_ok_and(|env| env.contains("V=3")).then_some(())
    });
    watcher.wait_until_settled(&project);
    assert_eq!(instances(&project)["a"], after["a"]);

    // An invalid file changes nothing, and is reported with its place.
    write(&project, "compose.override.yaml", "services: {a: {environment: {V: 2}, volumes: [x:/y]}}\n");
    let line = watcher.wait_for_line("the error", |line| line["event"] == "specs-invalid");
    assert!(line.to_string().contains("compose.override.yaml"), "{line}");
    write(&project, "compose.override.yaml", "services: {a: {environment: {V: 2}}}\n");
    watcher.wait_until_settled(&project);
    assert_eq!(instances(&project)["a"], after["a"]);
    watcher.interrupt();
    project.run(&["down"]).exits(0);
}

#[test]
fn data_of_docker_compose_is_there_and_its_containers_are_in_the_way() {
    let service = "services:\n  db: {image: IMAGE, command: sleep infinity, stop_signal: KILL, volumes: ['data:/d']}\nvolumes: {data: }\n";
    let project = project("compose-taken", service);
    let volume = format!("{}_data", project.group);
    let labels = json!({"com.docker.compose.project": project.group, "com.docker.compose.volume": "data"});
    engine::request("POST", "/volumes/create", Some(&json!({"Name": volume, "Labels": labels})));
    let _volume = Removed(format!("/volumes/{volume}"));
    let mounts = json!([{"Type": "volume", "Source": volume, "Target": "/d"}]);
    let (name, container) = compose_container(
        &project,
        "old",
        json!({"Cmd": ["sh", "-c", "echo kept > /d/row; exec sleep infinity"], "HostConfig": {"Mounts": mounts}}),
    );
    let run = project.run(&["up"]).exits(1);
    let run = run.stderr_contains(&format!("docker compose runs this project: {name}"));
    run.stderr_contains(&format!("`docker compose -p {} down`", project.group));
    assert!(project.containers().is_empty(), "nothing is touched");

    drop(container);
    project.up();
    assert_eq!(project.exec("db", &["cat", "/d/row"]).trim(), "kept");
    assert_eq!(project.differences(), [""; 0]);
    project.run(&["down", "--volumes"]).exits(0);
    let found = engine::try_get(&format!("/volumes/{volume}")).unwrap();
    assert_eq!(found["Labels"], labels, "a volume of docker compose is never removed or labelled");
}

#[test]
fn adopt_replaces_containers_of_docker_compose_and_keeps_the_data() {
    let service = "{image: IMAGE, command: sleep infinity, stop_signal: KILL";
    let compose = format!(
        "services:\n  db: {service}, volumes: ['data:/d']}}\n  api: {service}, depends_on: [db], ports: ['127.0.0.1:PORT:80']}}\n\
         volumes: {{data: }}\n"
    );
    let port = crate::support::project::free_port();
    let project = project("compose-adopt", &compose.replace("PORT", &port.to_string()));
    let (volume, network) = (format!("{}_data", project.group), format!("{}_default", project.group));
    engine::request("POST", "/volumes/create", Some(&json!({"Name": volume})));
    let _volume = Removed(format!("/volumes/{volume}"));
    let labels = json!({"com.docker.compose.project": project.group, "com.docker.compose.network": "default"});
    engine::request("POST", "/networks/create", Some(&json!({"Name": network, "Labels": labels})));
    let _network = Removed(format!("/networks/{network}"));
    let host = json!({
        "NetworkMode": network,
        "Mounts": [{"Type": "volume", "Source": volume, "Target": "/d"}],
        "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": port.to_string()}]},
    });
    let with_data = json!({"Cmd": ["sh", "-c", "echo kept > /d/row; exec sleep infinity"], "StopSignal": "KILL"});
    let mut db = with_data.clone();
    db["HostConfig"] = json!({"NetworkMode": network, "Mounts": host["Mounts"]});
    let depends = json!({"com.docker.compose.depends_on": "db:service_started:false"});
    let sleep = json!({"Cmd": ["sleep", "infinity"], "StopSignal": "KILL", "HostConfig": host, "Labels": depends});
    let once = json!({"Cmd": ["true"], "Labels": {"com.docker.compose.oneoff": "True"}});
    let (db, _db) = compose_container(&project, "db", db);
    let (api, _api) = compose_container(&project, "api", sleep);
    let (once, _once) = compose_container(&project, "seed-run", once);

    let run = project.run(&["up", "--adopt"]).exits(2).stderr_contains("confirm with --yes");
    for name in [&db, &api, &once, &network] {
        assert!(run.stderr.contains(name), "what it removes is named: {run}");
    }
    let diff = project.run(&["diff", "--adopt"]).exits(1);
    let diff = diff.stdout_contains(&format!("container {api}: remove (")).stdout_contains("# of docker compose");
    let stop = |name: &str| diff.stdout.find(&format!("container {name}: stop"));
    assert!(stop(&api).unwrap() < stop(&db).unwrap(), "dependents first: {diff}");
    assert!(engine::try_get(&format!("/containers/{db}/json")).is_some() && project.containers().is_empty());

    project.run(&["up", "--adopt", "--yes"]).exits(0).stderr_contains("volumes and their data stay");
    for name in [&db, &api, &once] {
        assert!(engine::try_get(&format!("/containers/{name}/json")).is_none(), "{name} is removed");
    }
    assert_eq!(project.exec("db", &["cat", "/d/row"]).trim(), "kept");
    assert_eq!(engine::networks(&project.group).len(), 1, "the network is ours now");
    assert_eq!(project.differences(), [""; 0]);
    project.run(&["up", "--adopt"]).exits(0).stderr_contains("nothing to adopt");
    project.run(&["down", "--volumes"]).exits(0);
    assert!(engine::try_get(&format!("/volumes/{volume}")).is_some(), "the volume is not ours");
}

#[test]
fn services_of_profiles_that_exclude_each_other() {
    let port = crate::support::project::free_port();
    let service = |name: &str| {
        format!(
            "  {name}: {{image: IMAGE, command: sleep infinity, stop_signal: KILL, profiles: [{name}], \
             ports: ['127.0.0.1:{port}:80']}}\n"
        )
    };
    let project = project("compose-either", &format!("services:\n{}{}", service("one"), service("two")));
    project.run(&["up"]).exits(2).stderr_contains("add `--profile one`");
    project.run(&["up", "--profile", "one"]).exits(0);
    project.run(&["logs"]).exits(0).output_lacks("error");
    project.run(&["down"]).exits(0).output_lacks("error");
    assert!(names(&project).is_empty());
}

#[test]
fn files_are_named_or_found() {
    let project =
        project("compose-files", "services: {a: {image: IMAGE, command: sleep infinity, stop_signal: KILL}}\n");
    let below = project.home.path().join("below");
    std::fs::create_dir(&below).unwrap();
    write(&project, "more.yaml", "services: {b: {image: IMAGE, command: sleep infinity, stop_signal: KILL}}\n");
    let run_in = |directory: &std::path::Path, arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = project.command(arguments);
        command.current_dir(directory).envs(variables.iter().copied());
        crate::support::process::run(command, std::time::Duration::from_secs(60))
    };
    let home = project.home.path();
    run_in(&below, &["validate"], &[]).exits(0).stdout_contains("1 service, no errors");
    run_in(home, &["-f", "compose.yaml", "-f", "more.yaml", "validate"], &[]).exits(0).stdout_contains("2 services");
    run_in(home, &["-f", "compose.yaml", "validate", "-f", "more.yaml"], &[]).exits(0).stdout_contains("2 services");
    run_in(home, &["--group", "ends-with-", "validate"], &[]).exits(0).stdout_contains("ends-with-: 1 service");
    let run = run_in(project.home.path().parent().unwrap(), &["validate"], &[]).exits(2);
    run.stderr_contains("neither the directory `specs` nor a compose file").stderr_contains("`docker-compose.yaml`");
    run_in(home, &["validate", "--specs", "more.yaml", "--group", "other"], &[]).exits(0).stdout_contains("other: 1");
    run_in(home, &["validate"], &[("COMPOSE_FILE", "compose.yaml:more.yaml")]).exits(0).stdout_contains("2 services");
    run_in(home, &["validate"], &[("COMPOSE_PROJECT_NAME", "named")]).exits(0).stdout_contains("named: 1 service");
    run_in(home, &["-f", "missing.yaml", "validate"], &[]).exits(2).stderr_contains("`missing.yaml` not found");
    let run = run_in(home, &["-f", "more.yaml", "-f", "below", "validate"], &[]).exits(2);
    run.stderr_contains("name one directory, or compose files");

    // A spec directory comes first, unless it has no specs.
    project.write("notes.txt", "not a spec");
    run_in(home, &["validate"], &[]).exits(0).stdout_contains("1 service, no errors").output_lacks("own");
    project.write("own.yaml", "name: own\nimage: x\n---\nkind: Group\nname: own\n");
    run_in(home, &["validate"], &[]).exits(0).stdout_contains("own: 1 service");
}

#[test]
fn notes_are_in_json_and_the_one_about_ports_is_told_once() {
    let port = crate::support::project::free_port();
    let service = "services:\n  a: {image: IMAGE, command: sleep infinity, stop_signal: KILL, attach: false, ports: ['PORT:80']}\n";
    let project = project("compose-notes", &service.replace("PORT", &port.to_string()));
    let about_ports = "listen on all addresses of the machine";
    let json = project.run(&["validate", "--output", "json"]).exits(0).stderr_contains(about_ports).json();
    assert_eq!(json["diagnostics"], json!([]));
    let notes = json["notes"].to_string();
    assert!(notes.contains("`attach` has no effect") && notes.contains(about_ports), "{notes}");
    assert_eq!(json["notes"][0]["line"], 3, "{notes}");
    project.run(&["diff"]).exits(1).stderr_contains("`attach` has no effect").output_lacks(about_ports);
    project.up().stderr_contains(about_ports);
    project.up().stderr_contains("`attach` has no effect").output_lacks(about_ports);

    let mut watcher = Watcher::start(&project);
    let edited = service.replace("PORT", &port.to_string()).replace("attach: false", "attach: false, cpu_count: 2");
    write(&project, "compose.yaml", &format!("name: {}\n{edited}", project.group));
    watcher.wait_for_stderr("`cpu_count` has no effect");
    watcher.interrupt();
    project.run(&["down"]).exits(0);
}

#[test]
fn errors_have_the_place_in_the_compose_file() {
    let project = project(
        "compose-errors",
        "services:\n  a:\n    image: IMAGE\n    external_links: [x]\n    x-drillmaster:\n      ping: {tcp: none}\n",
    );
    let run = project.run(&["validate"]).exits(2);
    let run = run.stderr_contains("compose.yaml:5:21").stderr_contains("`external_links` cannot be translated");
    run.stderr_contains("compose.yaml:7:19");
}

/// A project that runs from its compose file goes on with the specs that are imported from it.
#[test]
fn imported_specs_continue_with_the_containers_of_their_compose_file() {
    let project = project("imported", STACK);
    let _volume = Removed(format!("/volumes/{}_Data", project.group));
    write(&project, "web.env", "FROM_FILE=yes\n");
    write(&project, ".env", "MODE=hidden-mode\n");
    project.run(&["up"]).exits(0);
    let ids = || ["db", "web"].map(|name| instances(&project).remove(name).map(|instance| instance.id));
    let before = ids();
    project.run(&["import"]).exits(0).stdout_contains("specs/group.yaml").stdout_contains("specs/seed.yaml");
    let written = std::fs::read_to_string(project.home.path().join("specs/web.yaml")).unwrap();
    assert!(written.contains("MODE: ${MODE:-plain}") && !written.contains("hidden-mode"), "{written}");
    project.run(&["import"]).exits(2).stderr_contains("specs already has specs");
    project.run(&["diff"]).exits(2).stdout_contains("drillmaster up --adopt");
    project.run(&["up", "--adopt"]).exits(0);
    assert_eq!(ids(), before, "nothing is replaced");
    project.run(&["down", "--volumes"]).exits(0);
}

#[test]
fn import_says_what_it_leaves_out() {
    let project = project("importless", "services: {a: {image: IMAGE, use_api_socket: true}}");
    let output = project.run(&["import", "--into", "new", "--output", "json"]);
    let output = output.exits(1).stderr_contains("compose.yaml:2:62");
    let result: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(result["left_out"][0]["line"], 2);
    assert_eq!(result["files"][1]["file"], "new/a.yaml");
    write(&project, "compose.yaml", "services: {a: {image: [IMAGE]}}");
    project.run(&["import", "--into", "other"]).exits(2).stderr_contains("compose.yaml:1:23");
    assert!(!project.home.path().join("other").exists());
}

/// Messages name the directory that owns a group: `--specs` takes that of a project, too.
#[test]
fn directory_of_a_project_is_as_good_as_its_files() {
    let project = project("composedir", "services: {a: {image: IMAGE, command: sleep infinity, stop_signal: KILL}}");
    let home = project.home.path().to_str().unwrap().to_owned();
    project.run(&["up", "--specs", &home]).exits(0);
    project.run(&["diff"]).exits(0);
    let source = text(&project.inspect("a")["Config"]["Labels"]["drillmaster.source"]);
    assert_eq!(std::path::Path::new(&source), project.home.path().canonicalize().unwrap());
    let group = project.group.clone();
    project.run(&["down", "--group", &group, "--specs", &home]).exits(0).output_lacks("warning");
}
