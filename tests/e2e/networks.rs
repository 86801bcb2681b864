//! Several networks, external ones, fixed addresses, and the network of the host or of another service.

use serde_json::{Value, json};

use crate::support::engine;
use crate::support::project::{Project, free_port, script, sleeper};

/// An address range of the tests that no other one uses, by the process.
fn range() -> String {
    let number = std::process::id();
    format!("10.{}.{}", 192 + number % 32, number / 32 % 256)
}

/// A network outside of every group; removed when dropped.
struct Outside(String);

impl Outside {
    fn new(name: &str) -> Outside {
        engine::request("POST", "/networks/create", Some(&json!({"Name": name, "CheckDuplicate": true})));
        Outside(name.to_owned())
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = engine::try_request("DELETE", &format!("/networks/{}", self.0), None);
    }
}

fn group(project: &Project, rest: &str) {
    project.write("group.yaml", &format!("kind: Group\nname: {}\n{rest}", project.group));
}

fn networks_of(container: &str) -> Vec<String> {
    let networks = engine::inspect(container)["NetworkSettings"]["Networks"].clone();
    let mut names: Vec<String> = networks.as_object().unwrap().keys().cloned().collect();
    names.sort();
    names
}

fn resolves(container: &str, name: &str) -> bool {
    engine::exec(container, &["nslookup", name]).is_ok()
}

#[test]
fn services_reach_each_other_only_on_their_networks() {
    let project = Project::new("nets");
    let (name, range) = (project.group.clone(), range());
    group(
        &project,
        &format!(
            "networks:\n  back:\n    internal: true\n    labels: {{team: drills}}\n    ipam: {{config: [{{subnet: {range}.0/24, \
             gateway: {range}.1}}]}}\n    driver_opts: {{com.docker.network.bridge.enable_icc: \"true\"}}\n"
        ),
    );
    let api = format!("networks: {{default: , back: {{aliases: [inner], ipv4_address: {range}.77}}}}");
    project.write(
        "all.yaml",
        &(sleeper("api", &api) + &sleeper("db", "networks: [back]") + &sleeper("web", "aliases: [front]")),
    );
    let run = project.up();
    let [api, db, web] = ["api", "db", "web"].map(|service| format!("{name}-{service}"));
    let back = format!("{name}_back");
    assert_eq!(networks_of(&api), [name.clone(), back.clone()]);
    assert_eq!(networks_of(&db), std::slice::from_ref(&back));
    assert_eq!(engine::inspect(&api)["NetworkSettings"]["Networks"][&back]["IPAddress"], format!("{range}.77"));
    let network = engine::request("GET", &format!("/networks/{back}"), None);
    assert_eq!((&network["Internal"], &network["Labels"]["team"]), (&json!(true), &json!("drills")));
    let option = "com.docker.network.bridge.enable_icc";
    match engine::is_podman() {
        true => {
            drop(run.stderr_contains(&format!("warning: Podman ignores the driver option {option} of network {back}")))
        }
        false => assert_eq!(network["Options"][option], "true"),
    }
    assert!(resolves(&db, "api") && resolves(&db, "inner") && !resolves(&db, "web") && !resolves(&db, "front"));
    assert!(resolves(&web, "api") && !resolves(&web, "inner") && !resolves(&web, "db"));
    project.up().stdout_contains("nothing to do");

    // Drift, then a replacement that keeps the address.
    let body = json!({"Container": api, "Force": true});
    engine::request("POST", &format!("/networks/{back}/disconnect"), Some(&body));
    project.run(&["diff"]).exits(1).stdout_contains("network");
    project.up();
    assert_eq!(networks_of(&api), [name.clone(), back.clone()]);
    assert_eq!(engine::inspect(&api)["NetworkSettings"]["Networks"][&back]["IPAddress"], format!("{range}.77"));
    let api_spec =
        format!("env: {{A: b}}\nnetworks: {{default: , back: {{aliases: [inner], ipv4_address: {range}.77}}}}");
    project.write(
        "all.yaml",
        &(sleeper("api", &api_spec) + &sleeper("db", "networks: [back]") + &sleeper("web", "aliases: [front]")),
    );
    project.up();
    assert_eq!(engine::inspect(&api)["NetworkSettings"]["Networks"][&back]["IPAddress"], format!("{range}.77"));

    group(&project, &format!("networks: {{back: {{ipam: {{config: [{{subnet: {range}.0/24}}]}}}}}}\n"));
    let run = project.run(&["up"]).exits(1);
    run.stderr_contains(&format!(
        "the network {back} has `internal` true, the specs say false; run `drillmaster down` first"
    ));
    project.run(&["down"]).exits(0);
    assert_eq!(engine::networks(&name), [""; 0]);
}

#[test]
fn external_network_must_exist_and_stays() {
    let project = Project::new("netext");
    let name = format!("{}-outside", project.group);
    group(&project, &format!("networks:\n  proxy:\n    external: true\n    name: {name}\n"));
    project.write("web.yaml", &sleeper("web", "networks: [default, proxy]"));
    let run = project
        .run(&["up"])
        .exits(1)
        .stderr_contains(&format!("external network {name} does not exist (specs/group.yaml:4:3)"));
    run.stderr_contains(&format!("docker network create {name}"));
    assert!(project.containers().is_empty() && engine::networks(&project.group).is_empty());
    let _outside = Outside::new(&name);
    project.up();
    assert_eq!(networks_of(&format!("{}-web", project.group)), [project.group.clone(), name.clone()]);
    project.run(&["down"]).exits(0);
    let left: Value = engine::request("GET", &format!("/networks/{name}"), None);
    assert_eq!(left["Labels"], json!({}), "it was changed");
}

#[test]
fn kill_between_creation_and_start_is_continued() {
    let project = Project::new("netkill");
    group(&project, "networks: {back: {}}\n");
    project.write("api.yaml", &sleeper("api", "networks: [default, back]"));
    project.up();
    let api = format!("{}-api", project.group);
    let created = engine::inspect(&api)["Id"].clone();
    // As left by a kill: created under its first name, on one network, never started.
    project.run(&["down"]).exits(0);
    let mut running = project.spawn(&["up", "-v"]);
    running.wait_for_stderr("creating");
    running.signal(rustix::process::Signal::KILL);
    drop(running);
    project.up();
    assert_ne!(engine::inspect(&api)["Id"], created);
    assert_eq!(networks_of(&api), [project.group.clone(), format!("{}_back", project.group)]);
}

#[test]
fn host_network_is_pinged_at_the_host() {
    let project = Project::new("nethost");
    let port = free_port();
    let serve = format!("mkdir -p /tmp/www; echo ok > /tmp/www/index.html; exec httpd -f -p {port} -h /tmp/www");
    let spec = |version: &str| {
        let ping = format!("ping: {{http: {port}, timeout: 30s}}");
        script("web", &serve, &format!("network_mode: host\nenv: {{VERSION: {version}}}\n{ping}"))
    };
    project.write("web.yaml", &spec("a"));
    project.up();
    let web = format!("{}-web", project.group);
    assert_eq!(networks_of(&web), ["host"]);
    assert_eq!(engine::networks(&project.group), [""; 0]);
    // The new container needs the port of the old one.
    project.write("web.yaml", &spec("b"));
    project.up();
    project.up().stdout_contains("nothing to do");
    project.write("web.yaml", &sleeper("web", "network_mode: none"));
    project.up();
    assert_eq!(networks_of(&web), ["none"]);
}

#[test]
fn service_whose_network_is_shared_is_followed_when_it_is_replaced() {
    let project = Project::new("netshare");
    let serve = "mkdir -p /tmp/www; echo ok > /tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www";
    let client =
        script("client", serve, "network_mode: service:vpn\npid: service:vpn\nping: {tcp: 8080, timeout: 30s}");
    let vpn = |version: &str| sleeper("vpn", &format!("env: {{VERSION: {version}}}"));
    project.write("all.yaml", &(client.clone() + &vpn("a") + &sleeper("other", "")));
    project.up();
    let [client_name, vpn_name, other] =
        ["client", "vpn", "other"].map(|service| format!("{}-{service}", project.group));
    let id = |name: &str| engine::inspect(name)["Id"].as_str().unwrap().to_owned();
    let mode = |field: &str| engine::inspect(&client_name)["HostConfig"][field].clone();
    assert_eq!(mode("NetworkMode"), format!("container:{}", id(&vpn_name)));
    assert_eq!(mode("PidMode"), format!("container:{}", id(&vpn_name)));
    assert!(engine::exec(&vpn_name, &["wget", "-q", "-O", "-", "http://localhost:8080/"]).is_ok());
    project.up().stdout_contains("nothing to do");

    let before = (id(&client_name), id(&other));
    project.write("all.yaml", &(client + &vpn("b") + &sleeper("other", "")));
    project.up();
    assert_ne!(id(&client_name), before.0);
    assert_eq!(id(&other), before.1);
    assert_eq!(mode("NetworkMode"), format!("container:{}", id(&vpn_name)));
    project.up().stdout_contains("nothing to do");
    project.run(&["stop"]).exits(0);
    project.run(&["start"]).exits(0);
    project.up().stdout_contains("nothing to do");
}

#[test]
fn service_is_restarted_after_the_one_whose_network_it_shares() {
    let project = Project::new("netrestart");
    let serve = "mkdir -p /tmp/www; echo ok > /tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www";
    let client = script("client", serve, "network_mode: service:vpn\nping: {tcp: 8080, timeout: 30s}");
    project.write("all.yaml", &(client + &sleeper("vpn", "")));
    project.up();
    let [client, vpn] = ["client", "vpn"].map(|service| format!("{}-{service}", project.group));
    let id = engine::inspect(&client)["Id"].clone();
    let answers = || engine::exec(&vpn, &["wget", "-q", "-O", "-", "http://localhost:8080/"]).is_ok();
    assert!(answers());
    project.up().stdout_contains("nothing to do");

    // By hand: the engine leaves the client in a namespace without interfaces.
    engine::container_action(&vpn, "restart");
    assert_eq!(project.differences(), ["client restart network_mode"]);
    assert!(!answers());
    project.up();
    assert!(answers() && engine::inspect(&client)["Id"] == id, "it is restarted, not replaced");
    project.up().stdout_contains("nothing to do");
}

#[test]
fn shared_memory_is_that_of_the_other_service() {
    let project = Project::new("netipc");
    let owner = script("owner", "echo kept > /dev/shm/note; exec sleep infinity", "ipc: shareable");
    project.write("all.yaml", &(owner + &sleeper("reader", "ipc: service:owner")));
    project.up();
    let reader = format!("{}-reader", project.group);
    assert_eq!(engine::exec(&reader, &["cat", "/dev/shm/note"]).unwrap().trim(), "kept");
}
