//! Drift and failures during a watch: each is corrected without side effects on other containers.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::engine::{self, Capability, text};
use crate::support::events::Events;
use crate::support::project::{Project, script, sleeper};
use crate::support::watcher::{Instance, Watcher, instances};
use crate::support::{WAIT_TIMEOUT, wait_for};

/// An external change or crash of a service's container.
struct Drift {
    service: &'static str,
    apply: fn(&Project, &str),
    /// Returns true if the drift is corrected, given the container and its instance before.
    is_corrected: fn(&Project, &Value, &Instance) -> bool,
    /// Extent to which the container survives the correction.
    survives: Survives,
    /// Text in a message of the watch.
    cause: &'static str,
}

#[derive(PartialEq)]
enum Survives {
    Instance,
    Container,
    Nothing,
}

fn is_running(container: &Value) -> bool {
    container["State"]["Running"] == true && container["State"]["Paused"] == false
}

fn was_restarted(_: &Project, container: &Value, before: &Instance) -> bool {
    is_running(container) && Instance::of(container) != *before
}

fn network(project: &Project) -> String {
    engine::networks(&project.group).remove(0)
}

fn disconnect(project: &Project, service: &str) {
    let body = json!({ "Container": project.name(service), "Force": true });
    engine::request("POST", &format!("/networks/{}/disconnect", network(project)), Some(&body));
}

fn is_attached(project: &Project, container: &Value) -> bool {
    let networks = &container["NetworkSettings"]["Networks"];
    networks.get(&project.group).is_some_and(|network| !text(&network["IPAddress"]).is_empty())
}

const MEGABYTE: u64 = 1024 * 1024;

const DRIFTS: [Drift; 9] = [
    Drift {
        service: "killed",
        apply: |project, name| engine::container_action(&project.name(name), "kill"),
        is_corrected: was_restarted,
        survives: Survives::Container,
        cause: "exited with code 137",
    },
    Drift {
        service: "stopped",
        apply: |project, name| engine::container_action(&project.name(name), "stop"),
        is_corrected: was_restarted,
        survives: Survives::Container,
        cause: "exited with",
    },
    Drift {
        service: "paused",
        apply: |project, name| engine::container_action(&project.name(name), "pause"),
        is_corrected: |_, container, _| is_running(container),
        survives: Survives::Instance,
        cause: "paused",
    },
    Drift {
        service: "removed",
        apply: |project, name| {
            engine::request("DELETE", &format!("/containers/{}?force=true", project.name(name)), None);
        },
        is_corrected: was_restarted,
        survives: Survives::Nothing,
        cause: "",
    },
    Drift {
        service: "renamed",
        apply: |project, name| {
            engine::container_action(&project.name(name), &format!("rename?name={}-aside", project.group))
        },
        is_corrected: |_, container, _| is_running(container),
        survives: Survives::Instance,
        cause: "-aside",
    },
    Drift {
        service: "offline",
        apply: disconnect,
        is_corrected: |project, container, _| is_attached(project, container),
        survives: Survives::Instance,
        cause: "network",
    },
    Drift {
        service: "limited",
        apply: |project, name| {
            let body = json!({ "Memory": 48 * MEGABYTE, "MemorySwap": 96 * MEGABYTE, "NanoCpus": 250_000_000 });
            engine::request("POST", &format!("/containers/{}/update", project.name(name)), Some(&body));
        },
        is_corrected: |_, container, _| {
            let limits = &container["HostConfig"];
            limits["Memory"] == 32 * MEGABYTE && limits["NanoCpus"] == 500_000_000
        },
        survives: Survives::Instance,
        cause: "resources",
    },
    Drift {
        service: "crashed",
        apply: |project, name| {
            project.exec(name, &["touch", "/tmp/crash"]);
        },
        is_corrected: was_restarted,
        survives: Survives::Container,
        cause: "exited with code 7",
    },
    Drift {
        service: "starved",
        apply: |project, name| {
            project.exec(name, &["touch", "/tmp/eat"]);
        },
        is_corrected: was_restarted,
        survives: Survives::Container,
        cause: "",
    },
];

/// Returns the spec of a drift's service. `limited` and `starved` have limits; `crashed` and `starved` exit when a file is
/// created.
fn spec(drift: &Drift) -> String {
    let on = |file: &str, then: &str| format!("while [ ! -e {file} ]; do sleep 0.05; done; rm {file}; {then}");
    match drift.service {
        "limited" => sleeper("limited", "resources: {memory: 32m, cpus: 0.5}"),
        "crashed" => script("crashed", &on("/tmp/crash", "exit 7"), ""),
        "starved" => script("starved", &on("/tmp/eat", "exec tail /dev/zero"), "resources: {memory: 16m}"),
        name => sleeper(name, ""),
    }
}

#[test]
fn each_drift_is_corrected_and_nothing_else_touched() {
    let project = Project::new("hands");
    let needs_limits = |drift: &Drift| ["limited", "starved"].contains(&drift.service);
    let limits = !engine::lacks(Capability::Limits);
    let drifts: Vec<Drift> = DRIFTS.into_iter().filter(|drift| limits || !needs_limits(drift)).collect();
    let services: Vec<&str> = drifts.iter().map(|drift| drift.service).collect();
    project.write("all.yaml", &drifts.iter().map(spec).collect::<String>());
    let mut watcher = Watcher::start(&project);
    let first = watcher.lines().len();
    for Drift { service, apply, is_corrected, survives, cause } in drifts {
        let (before, offset) = (instances(&project), watcher.lines().len());
        apply(&project, service);
        let path = format!("/containers/{}/json", project.name(service));
        let now = watcher.wait_for(&format!("the correction of {service}"), |_| {
            engine::try_get(&path).filter(|container| is_corrected(&project, container, &before[service]))
        });
        watcher.wait_for_line_after(offset, &format!("{service} to be ready"), |line| {
            line["event"] == "ready" && line["service"] == service
        });
        watcher.wait_until_settled(&project);
        let now = Instance::of(&now);
        match survives {
            Survives::Instance => assert_eq!(now, before[service], "{service}"),
            Survives::Container => assert_eq!(now.id, before[service].id, "{service}"),
            Survives::Nothing => assert_ne!(now.id, before[service].id, "{service}"),
        }
        let mut after = instances(&project);
        after.insert(service.to_owned(), before[service].clone());
        assert_eq!(after, before, "{service}: other containers are untouched");
        let lines = watcher.lines().split_off(offset);
        assert!(
            lines.iter().all(|line| line["service"] == service),
            "{service}: lines of this service only: {lines:#?}"
        );
        assert!(lines.iter().any(|line| text(&line["message"]).contains(cause)), "{service}: {cause:?} in {lines:#?}");
        assert!(lines.len() <= 3, "{service}: at most 3 lines: {lines:#?}");
    }
    if limits {
        let starved = project.status("starved");
        assert_eq!(starved["last_exit"]["code"], 137, "{starved:#}");
    }

    // Remove the network of all containers.
    let before = instances(&project);
    let network = network(&project);
    // Suspend the watch, which would reconnect the first container before the last is disconnected.
    watcher.signal(Signal::STOP);
    for service in &services {
        disconnect(&project, service);
    }
    engine::request("DELETE", &format!("/networks/{network}"), None);
    watcher.signal(Signal::CONT);
    watcher.wait_for("a new network", |_| {
        let services = services.iter().all(|service| is_attached(&project, &project.inspect(service)));
        (services && engine::networks(&project.group).len() == 1).then_some(())
    });
    watcher.wait_until_settled(&project);
    assert_eq!(instances(&project), before, "connected to a new network, not restarted");
    project.exec("crashed", &["nslookup", "stopped"]);
    project.assert_settled(&services);
    let run = watcher.interrupt().exits(130);
    assert_eq!(run.stdout.lines().skip(first).filter(|line| line.contains("NonConvergent")).count(), 0, "{run}");
}

#[test]
fn only_dependents_with_restart_are_restarted() {
    let project = Project::new("needed");
    let db = |value: &str| {
        let ping = "ping: {exec: [test, -e, /tmp/ready]}";
        script("db", "sleep 0.3; touch /tmp/ready; sleep infinity", &format!("env: {{A: {value}}}\n{ping}"))
    };
    let others = sleeper("asked", "dependencies: [{name: db, restart: true}]")
        + &sleeper("chained", "dependencies: [{name: asked, restart: true}]")
        + &sleeper("other", "dependencies: [db]");
    let write = |value: &str| project.write("all.yaml", &(db(value) + &others));
    write("one");
    let mut watcher = Watcher::start(&project);
    let changes: [(&str, &dyn Fn()); 3] = [
        ("killed", &|| engine::container_action(&project.name("db"), "kill")),
        ("removed", &|| _ = engine::request("DELETE", &format!("/containers/{}?force=true", project.name("db")), None)),
        ("replaced", &|| write("two")),
    ];
    for (what, change) in changes {
        let before = instances(&project);
        let events = Events::subscribe(&project.group);
        change();
        for service in ["db", "asked", "chained"] {
            watcher.wait_for(&format!("{service} to restart after db was {what}"), |_| {
                let now = engine::try_get(&format!("/containers/{}/json", project.name(service)))?;
                was_restarted(&project, &now, &before[service]).then_some(())
            });
        }
        watcher.wait_until_settled(&project);
        let after = instances(&project);
        assert_eq!(after["other"], before["other"], "{what}: no `restart: true`, no restart");
        assert_eq!(after["asked"].id, before["asked"].id, "{what}: restarted, not replaced");
        assert_eq!(after["chained"].id, before["chained"].id, "{what}: restarted, not replaced");
        assert_eq!(after["db"].id == before["db"].id, what == "killed", "{what}");
        let (db, asked, chained) = (project.name("db"), project.name("asked"), project.name("chained"));
        events.assert_order(("die", &chained), ("start", &asked));
        events.assert_order(("start", &asked), ("start", &chained));
        match what {
            "killed" => {
                events.assert_order(("die", &asked), ("start", &db));
                events.assert_order(("start", &db), ("start", &asked));
            }
            _ => events.assert_order(("rename", &db), ("start", &asked)),
        }
        for name in [&db, &asked, &chained] {
            let starts = events.seen().into_iter().filter(|event| {
                event.action == "start" && (event.name == *name || event.name == format!("{name}.new"))
            });
            assert_eq!(starts.count(), 1, "{what}: {name} is started once: {:#?}", events.seen());
        }
    }
    watcher.interrupt().exits(130);
    project.assert_settled(&["db", "asked", "chained", "other"]);
}

/// Returns the spec of a service whose ping can be broken from outside while the container keeps running.
fn breakable(name: &str, ping: &str, then: &str) -> String {
    let serve = "mkdir -p /tmp/www; echo ok > /tmp/www/ok; httpd -p 80 -h /tmp/www; sleep infinity";
    script(name, serve, &format!("ping: {ping}\nhealth: {{interval: 300ms, retries: 2, action: {then}}}"))
}

#[test]
fn unresponsive_service_is_restarted_replaced_or_shown() {
    if engine::lacks(Capability::Addresses) {
        return;
    }
    let project = Project::new("health");
    // Healthy again after a restart: the command creates the file tested by the image's health check.
    let checked = "---\nname: checked\nimage: drillmaster/healthcheck:1\n\
                   command: [sh, -c, 'touch /tmp/healthy; sleep infinity']\nstop_signal: KILL\nhealth: {action: restart}\n";
    let runs_checks = !engine::lacks(Capability::HealthChecks);
    let (checked, dependency) = if runs_checks { (checked, ", checked") } else { ("", "") };
    let specs = [
        breakable("tcp", "{tcp: 80}", "restart"),
        breakable("http", "{http: {path: /ok}}", "replace"),
        breakable("exec", "{exec: [test, -e, /tmp/www/ok]}", "ignore"),
        breakable("well", "{http: {path: /ok}}", "replace"),
        sleeper("web", &format!("dependencies: [tcp, http, exec{dependency}]")),
        checked.to_owned(),
    ];
    project.write("all.yaml", &specs.concat());
    let mut watcher = Watcher::start(&project);
    let (before, offset) = (instances(&project), watcher.lines().len());
    project.exec("tcp", &["killall", "httpd"]);
    project.exec("http", &["rm", "/tmp/www/ok"]);
    project.exec("exec", &["rm", "/tmp/www/ok"]);
    if runs_checks {
        project.exec("checked", &["rm", "/tmp/healthy"]);
    }
    let broken = ["tcp", "http", "checked"].into_iter().filter(|service| runs_checks || *service != "checked");
    for service in broken.clone() {
        watcher.wait_for_line_after(offset, &format!("{service} to be reported unhealthy"), |line| {
            line["service"] == service && line["reason"] == "Unhealthy"
        });
        watcher.wait_for_line_after(offset, &format!("{service} to be ready again"), |line| {
            line["event"] == "ready" && line["service"] == service
        });
    }
    watcher.wait_for_line_after(offset, "exec to be reported unhealthy", |line| {
        line["event"] == "unhealthy" && line["service"] == "exec"
    });
    assert_eq!(project.status("exec")["phase"], "Unhealthy");
    project.exec("exec", &["sh", "-c", "echo ok > /tmp/www/ok"]);
    watcher.wait_for_line_after(offset, "exec to be healthy again", |line| {
        line["event"] == "healthy" && line["service"] == "exec"
    });
    watcher.wait_until_settled(&project);
    let after = instances(&project);
    for service in ["exec", "well", "web"] {
        assert_eq!(after[service], before[service], "{service} is untouched: {:#?}", watcher.messages(offset));
    }
    for service in broken.clone().filter(|service| *service != "http") {
        assert_eq!(after[service].id, before[service].id, "{service} is restarted");
        assert_ne!(after[service].started, before[service].started, "{service} is restarted");
    }
    assert_ne!(after["http"].id, before["http"].id, "http is replaced");
    for service in broken {
        let is_unhealthy = |line: &Value| line["service"] == service && line["reason"] == "Unhealthy";
        assert_eq!(watcher.count(is_unhealthy), 1, "{service}: {:#?}", watcher.messages(offset));
    }
    watcher.interrupt().exits(130);
    let settled = ["tcp", "http", "exec", "well", "web", "checked"];
    project.assert_settled(if runs_checks { &settled } else { &settled[..5] });
}

#[test]
fn crash_loop_backs_off_until_a_new_spec() {
    let project = Project::new("loop");
    let write = |then: &str| {
        let api =
            script("api", &format!("while [ -e /conf/well ]; do sleep 0.05; done; {then}"), "volumes: ['./:/conf']");
        project.write("all.yaml", &(api + &sleeper("other", "") + &sleeper("web", "dependencies: [api]")));
    };
    project.write("well", "");
    write("exit 4");
    let mut watcher = Watcher::start(&project);
    let before = instances(&project);
    let events = Events::subscribe(&project.group);
    project.remove("well");
    let third = watcher.wait_for_line("the third crash", |line| line["service"] == "api" && line["count"] == 3);
    assert_eq!(third["reason"], "Exited", "{third:#}");
    assert!(text(&third["message"]).contains("exited with code 4"), "{third:#}");
    let status = project.status("api");
    assert_eq!(status["last_exit"]["code"], 4, "{status:#}");
    assert_eq!((&status["ready"], status["restarts"].as_u64() >= Some(2)), (&json!(false), true), "{status:#}");
    assert!(status["next_try"].is_string(), "{status:#}");

    // Each backoff delay is twice the previous one, measured by the engine's clock.
    let name = project.name("api");
    let seen = wait_for("the event of the third crash", WAIT_TIMEOUT, || {
        let seen: Vec<_> = events.seen().into_iter().filter(|event| event.name == name).collect();
        (seen.iter().filter(|event| event.action == "die").count() >= 3).then_some(seen)
    });
    let delays: Vec<i64> = seen
        .windows(2)
        .filter(|pair| pair[0].action == "die" && pair[1].action == "start")
        .map(|pair| (pair[1].time - pair[0].time) / 1_000_000)
        .collect();
    assert!(delays.len() >= 2 && delays[0] >= 950 && delays[1] >= 1950, "{delays:?} ms: {seen:#?}");

    // The backoff history survives the controller.
    watcher.interrupt().exits(130);
    let mut watcher = Watcher::spawn(&project);
    let next = watcher.wait_for_line("another crash", |line| line["service"] == "api" && line["event"] == "failed");
    assert!(next["count"].as_u64() >= Some(4), "the count continues: {next:#}");

    let offset = watcher.lines().len();
    write("sleep infinity");
    watcher.wait_for_line_after(offset, "api with the new spec", |line| {
        line["event"] == "ready" && line["service"] == "api"
    });
    watcher.wait_until_settled(&project);
    let after = instances(&project);
    assert_ne!(after["api"].id, before["api"].id);
    for service in ["other", "web"] {
        assert_eq!(after[service], before[service], "{service} is untouched");
    }
    assert_eq!(project.status("api")["phase"], "Ready");
    watcher.interrupt().exits(130);
}

#[test]
fn ctrl_c_stops_the_watch_and_keeps_containers() {
    let project = Project::new("leave");
    project.write("all.yaml", &(sleeper("api", "") + &sleeper("web", "dependencies: [api]")));
    for signal in [Signal::INT, Signal::TERM] {
        let mut watcher = Watcher::start(&project);
        let before = instances(&project);
        watcher.signal(signal);
        let run = watcher.wait_for_exit().exits(130);
        let last: Value = serde_json::from_str(run.stdout.lines().last().unwrap()).unwrap();
        assert_eq!(last["event"], "watch-stopped", "{run}");
        assert_eq!(instances(&project), before, "{run}");
        project.assert_settled(&["api", "web"]);
    }
}

#[test]
fn second_ctrl_c_exits_and_the_next_watch_resumes() {
    let project = Project::new("leave2");
    // The container takes 40 s to stop.
    let slow = |value: &str| {
        let spec = script("api", "trap '' TERM; while :; do sleep 0.1; done", &format!("env: {{A: {value}}}"));
        spec.replace("stop_signal: KILL", "stop_timeout: 40s")
    };
    project.write("all.yaml", &slow("one"));
    let mut watcher = Watcher::start(&project);
    let events = Events::subscribe(&project.group);
    project.write("all.yaml", &slow("two"));
    if engine::is_podman() {
        // No event tells of a stop.
        wait_for("api to be stopping", WAIT_TIMEOUT, || {
            let path = format!("/containers/json?all=true&{}", engine::group_filter(&project.group));
            let listed = engine::request("GET", &path, None);
            // Podman 6 only tells in words.
            let is_stopping = |found: &Value| found["State"] == "stopping" || found["Status"] == "Stopping";
            listed.as_array().into_iter().flatten().any(is_stopping).then_some(())
        });
    } else {
        events.position("kill", &project.name("api"));
    }
    watcher.signal(Signal::INT);
    watcher.wait_for_stderr("press Ctrl-C again");
    watcher.signal(Signal::INT);
    let run = watcher.wait_for_exit().exits(130);
    assert!(run.took.as_secs() < 35, "the run does not wait for the step: {run}");
    let containers = project.containers();
    assert_eq!(project.names(), ["api", "api.new"], "the old container still exists");
    engine::request("DELETE", &format!("/containers/{}?force=true", containers[0].id), None);
    let watcher = Watcher::start(&project);
    assert_eq!(project.id("api"), containers[1].id, "the candidate is kept");
    project.assert_settled(&["api"]);
    watcher.interrupt().exits(130);
}
