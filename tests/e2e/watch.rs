//! What happens to containers under a watch is put right, and nothing else is touched.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::engine::{self, text};
use crate::support::events::Events;
use crate::support::project::{Project, script, sleeper};
use crate::support::watcher::{Life, Watcher, lives};

/// Something that a person, or a program, does to the container of a service.
struct Hand {
    service: &'static str,
    does: fn(&Project, &str),
    /// Whether the container is again what it should be, seen beside the life it had.
    mended: fn(&Project, &Value, &Life) -> bool,
    /// What is left of the container: its life, itself, or nothing.
    stays: Stays,
    /// What the watcher says of it.
    cause: &'static str,
}

#[derive(PartialEq)]
enum Stays {
    Life,
    Container,
    Nothing,
}

fn runs(container: &Value) -> bool {
    container["State"]["Running"] == true && container["State"]["Paused"] == false
}

fn was_restarted(_: &Project, container: &Value, before: &Life) -> bool {
    runs(container) && Life::of(container) != *before
}

fn network(project: &Project) -> String {
    engine::networks(&project.group).remove(0)
}

fn disconnect(project: &Project, service: &str) {
    let body = json!({ "Container": project.name(service), "Force": true });
    engine::must("POST", &format!("/networks/{}/disconnect", network(project)), Some(&body));
}

fn is_attached(project: &Project, container: &Value) -> bool {
    let networks = &container["NetworkSettings"]["Networks"];
    networks.get(&project.group).is_some_and(|network| !text(&network["IPAddress"]).is_empty())
}

const MEGABYTE: u64 = 1024 * 1024;

const HANDS: [Hand; 9] = [
    Hand {
        service: "killed",
        does: |project, name| engine::act(&project.name(name), "kill"),
        mended: was_restarted,
        stays: Stays::Container,
        cause: "exited with code 137",
    },
    Hand {
        service: "stopped",
        does: |project, name| engine::act(&project.name(name), "stop"),
        mended: was_restarted,
        stays: Stays::Container,
        cause: "exited with",
    },
    Hand {
        service: "paused",
        does: |project, name| engine::act(&project.name(name), "pause"),
        mended: |_, container, _| runs(container),
        stays: Stays::Life,
        cause: "paused",
    },
    Hand {
        service: "removed",
        does: |project, name| {
            engine::must("DELETE", &format!("/containers/{}?force=true", project.name(name)), None);
        },
        mended: was_restarted,
        stays: Stays::Nothing,
        cause: "",
    },
    Hand {
        service: "renamed",
        does: |project, name| engine::act(&project.name(name), &format!("rename?name={}-aside", project.group)),
        mended: |_, container, _| runs(container),
        stays: Stays::Life,
        cause: "-aside",
    },
    Hand {
        service: "offline",
        does: disconnect,
        mended: |project, container, _| is_attached(project, container),
        stays: Stays::Life,
        cause: "network",
    },
    Hand {
        service: "limited",
        does: |project, name| {
            let body = json!({ "Memory": 48 * MEGABYTE, "MemorySwap": 96 * MEGABYTE, "NanoCpus": 250_000_000 });
            engine::must("POST", &format!("/containers/{}/update", project.name(name)), Some(&body));
        },
        mended: |_, container, _| {
            let limits = &container["HostConfig"];
            limits["Memory"] == 32 * MEGABYTE && limits["NanoCpus"] == 500_000_000
        },
        stays: Stays::Life,
        cause: "resources",
    },
    Hand {
        service: "crashed",
        does: |project, name| {
            project.exec(name, &["touch", "/tmp/crash"]);
        },
        mended: was_restarted,
        stays: Stays::Container,
        cause: "exited with code 7",
    },
    Hand {
        service: "starved",
        does: |project, name| {
            project.exec(name, &["touch", "/tmp/eat"]);
        },
        mended: was_restarted,
        stays: Stays::Container,
        cause: "",
    },
];

/// A service for each hand; `limited` and `starved` have limits, `crashed` and `starved` end from inside when asked to.
fn spec(hand: &Hand) -> String {
    let on = |file: &str, then: &str| format!("while [ ! -e {file} ]; do sleep 0.05; done; rm {file}; {then}");
    match hand.service {
        "limited" => sleeper("limited", "resources: {memory: 32m, cpus: 0.5}"),
        "crashed" => script("crashed", &on("/tmp/crash", "exit 7"), ""),
        "starved" => script("starved", &on("/tmp/eat", "exec tail /dev/zero"), "resources: {memory: 16m}"),
        name => sleeper(name, ""),
    }
}

#[test]
fn each_hand_is_put_right_and_nothing_else_is_touched() {
    let project = Project::new("hands");
    let services = HANDS.map(|hand| hand.service);
    project.write("all.yaml", &HANDS.iter().map(spec).collect::<String>());
    let mut watcher = Watcher::start(&project);
    let begin = watcher.told().len();
    for Hand { service, does, mended, stays, cause } in HANDS {
        let (before, told) = (lives(&project), watcher.told().len());
        does(&project, service);
        let path = format!("/containers/{}/json", project.name(service));
        let now = watcher.waits(&format!("{service} to be mended"), |_| {
            engine::look(&path).filter(|container| mended(&project, container, &before[service]))
        });
        watcher.until_after(told, &format!("{service} to be called ready"), |line| {
            line["event"] == "ready" && line["service"] == service
        });
        watcher.agrees(&project);
        let now = Life::of(&now);
        match stays {
            Stays::Life => assert_eq!(now, before[service], "{service}"),
            Stays::Container => assert_eq!(now.id, before[service].id, "{service}"),
            Stays::Nothing => assert_ne!(now.id, before[service].id, "{service}"),
        }
        let mut after = lives(&project);
        after.insert(service.to_owned(), before[service].clone());
        assert_eq!(after, before, "{service}: the others are left alone");
        let lines = watcher.told().split_off(told);
        assert!(lines.iter().all(|line| line["service"] == service), "{service}: about it alone: {lines:#?}");
        assert!(lines.iter().any(|line| text(&line["message"]).contains(cause)), "{service}: {cause:?} in {lines:#?}");
        assert!(lines.len() <= 3, "{service}: not more than there is to say: {lines:#?}");
    }
    let starved = project.status("starved");
    assert_eq!(starved["last_exit"]["code"], 137, "{starved:#}");

    // The network of all of them.
    let before = lives(&project);
    let network = network(&project);
    // While the watcher is held: it would attach the first again before the last is off.
    watcher.signal(Signal::STOP);
    for service in services {
        disconnect(&project, service);
    }
    engine::must("DELETE", &format!("/networks/{network}"), None);
    watcher.signal(Signal::CONT);
    watcher.waits("another network", |_| {
        let services = services.iter().all(|service| is_attached(&project, &project.inspect(service)));
        (services && engine::networks(&project.group).len() == 1).then_some(())
    });
    watcher.agrees(&project);
    assert_eq!(lives(&project), before, "attached to a new network, not started anew");
    project.exec("crashed", &["nslookup", "stopped"]);
    project.is_settled(&services);
    let run = watcher.interrupt().exits(130);
    assert_eq!(run.stdout.lines().skip(begin).filter(|line| line.contains("NonConvergent")).count(), 0, "{run}");
}

#[test]
fn dependents_go_on_unless_they_asked_to_be_restarted() {
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
    let hands: [(&str, &dyn Fn()); 3] = [
        ("killed", &|| engine::act(&project.name("db"), "kill")),
        ("removed", &|| _ = engine::must("DELETE", &format!("/containers/{}?force=true", project.name("db")), None)),
        ("replaced", &|| write("two")),
    ];
    for (what, hand) in hands {
        let before = lives(&project);
        let events = Events::of(&project.group);
        hand();
        for service in ["db", "asked", "chained"] {
            watcher.waits(&format!("{service} to be started again after db was {what}"), |_| {
                let now = engine::look(&format!("/containers/{}/json", project.name(service)))?;
                was_restarted(&project, &now, &before[service]).then_some(())
            });
        }
        watcher.agrees(&project);
        let after = lives(&project);
        assert_eq!(after["other"], before["other"], "{what}: it did not ask");
        assert_eq!(after["asked"].id, before["asked"].id, "{what}: started anew, not replaced");
        assert_eq!(after["chained"].id, before["chained"].id, "{what}: started anew, not replaced");
        assert_eq!(after["db"].id == before["db"].id, what == "killed", "{what}");
        let (db, asked, chained) = (project.name("db"), project.name("asked"), project.name("chained"));
        events.in_order(("die", &chained), ("start", &asked));
        events.in_order(("start", &asked), ("start", &chained));
        match what {
            "killed" => {
                events.in_order(("die", &asked), ("start", &db));
                events.in_order(("start", &db), ("start", &asked));
            }
            _ => events.in_order(("rename", &db), ("start", &asked)),
        }
        for name in [&db, &asked, &chained] {
            let starts = events.seen().into_iter().filter(|event| {
                event.action == "start" && (event.name == *name || event.name == format!("{name}.new"))
            });
            assert_eq!(starts.count(), 1, "{what}: {name} is started once: {:#?}", events.seen());
        }
    }
    watcher.interrupt().exits(130);
    project.is_settled(&["db", "asked", "chained", "other"]);
}

/// Its pings are answered until somebody breaks it; it runs on.
fn breakable(name: &str, ping: &str, then: &str) -> String {
    let serve = "mkdir -p /tmp/www; echo ok > /tmp/www/ok; httpd -p 80 -h /tmp/www; sleep infinity";
    script(name, serve, &format!("ping: {ping}\nhealth: {{interval: 300ms, retries: 2, action: {then}}}"))
}

#[test]
fn unresponsive_service_is_restarted_replaced_or_shown() {
    let project = Project::new("health");
    // Serves again after a start; the engine's own check looks for a file that is there from the start.
    let checked = "---\nname: checked\nimage: drillmaster/healthcheck:1\n\
                   command: [sh, -c, 'touch /tmp/healthy; sleep infinity']\nstop_signal: KILL\nhealth: {action: restart}\n";
    let specs = [
        breakable("tcp", "{tcp: 80}", "restart"),
        breakable("http", "{http: {path: /ok}}", "replace"),
        breakable("exec", "{exec: [test, -e, /tmp/www/ok]}", "ignore"),
        breakable("well", "{http: {path: /ok}}", "replace"),
        sleeper("web", "dependencies: [tcp, http, exec, checked]"),
        checked.to_owned(),
    ];
    project.write("all.yaml", &specs.concat());
    let mut watcher = Watcher::start(&project);
    let (before, told) = (lives(&project), watcher.told().len());
    project.exec("tcp", &["killall", "httpd"]);
    project.exec("http", &["rm", "/tmp/www/ok"]);
    project.exec("exec", &["rm", "/tmp/www/ok"]);
    project.exec("checked", &["rm", "/tmp/healthy"]);
    for service in ["tcp", "http", "checked"] {
        watcher.until_after(told, &format!("{service} to be found out"), |line| {
            line["service"] == service && line["reason"] == "Unhealthy"
        });
        watcher.until_after(told, &format!("{service} to be ready again"), |line| {
            line["event"] == "ready" && line["service"] == service
        });
    }
    watcher.until_after(told, "exec to be found out", |line| line["event"] == "unhealthy" && line["service"] == "exec");
    assert_eq!(project.status("exec")["phase"], "Unhealthy");
    project.exec("exec", &["sh", "-c", "echo ok > /tmp/www/ok"]);
    watcher.until_after(told, "exec to be well", |line| line["event"] == "healthy" && line["service"] == "exec");
    watcher.agrees(&project);
    let after = lives(&project);
    for service in ["exec", "well", "web"] {
        assert_eq!(after[service], before[service], "{service} is left alone: {:#?}", watcher.messages(told));
    }
    for service in ["tcp", "checked"] {
        assert_eq!(after[service].id, before[service].id, "{service} is restarted");
        assert_ne!(after[service].started, before[service].started, "{service} is restarted");
    }
    assert_ne!(after["http"].id, before["http"].id, "it is replaced");
    for service in ["tcp", "http", "checked"] {
        let found_out = |line: &Value| line["service"] == service && line["reason"] == "Unhealthy";
        assert_eq!(watcher.count(found_out), 1, "{service}: {:#?}", watcher.messages(told));
    }
    watcher.interrupt().exits(130);
    project.is_settled(&["tcp", "http", "exec", "well", "web", "checked"]);
}

#[test]
fn a_crash_loop_is_slowed_down_shown_and_ended_by_a_new_spec() {
    let project = Project::new("loop");
    let write = |then: &str| {
        let api =
            script("api", &format!("while [ -e /conf/well ]; do sleep 0.05; done; {then}"), "volumes: ['./:/conf']");
        project.write("all.yaml", &(api + &sleeper("other", "") + &sleeper("web", "dependencies: [api]")));
    };
    project.write("well", "");
    write("exit 4");
    let mut watcher = Watcher::start(&project);
    let before = lives(&project);
    let events = Events::of(&project.group);
    project.remove("well");
    let third = watcher.until("the third crash", |line| line["service"] == "api" && line["count"] == 3);
    assert_eq!(third["reason"], "Exited", "{third:#}");
    assert!(text(&third["message"]).contains("exited with code 4"), "{third:#}");
    let status = project.status("api");
    assert_eq!(status["last_exit"]["code"], 4, "{status:#}");
    assert_eq!((&status["ready"], status["restarts"].as_u64() >= Some(2)), (&json!(false), true), "{status:#}");
    assert!(status["next_try"].is_string(), "{status:#}");

    // Each pause is twice the one before, measured by the engine's own clock.
    let name = project.name("api");
    let seen: Vec<_> = events.seen().into_iter().filter(|event| event.name == name).collect();
    let pauses: Vec<i64> = seen
        .windows(2)
        .filter(|pair| pair[0].action == "die" && pair[1].action == "start")
        .map(|pair| (pair[1].time - pair[0].time) / 1_000_000)
        .collect();
    assert!(pauses.len() >= 2 && pauses[0] >= 950 && pauses[1] >= 1950, "{pauses:?} ms: {seen:#?}");

    // The history outlives the controller.
    watcher.interrupt().exits(130);
    let mut watcher = Watcher::begin(&project);
    let next = watcher.until("another crash", |line| line["service"] == "api" && line["event"] == "failed");
    assert!(next["count"].as_u64() >= Some(4), "the loop does not begin anew: {next:#}");

    let told = watcher.told().len();
    write("sleep infinity");
    watcher.until_after(told, "the new one", |line| line["event"] == "ready" && line["service"] == "api");
    watcher.agrees(&project);
    let after = lives(&project);
    assert_ne!(after["api"].id, before["api"].id);
    for service in ["other", "web"] {
        assert_eq!(after[service], before[service], "{service} is left alone");
    }
    assert_eq!(project.status("api")["phase"], "Ready");
    watcher.interrupt().exits(130);
}

#[test]
fn ctrl_c_ends_the_watch_and_containers_stay() {
    let project = Project::new("leave");
    project.write("all.yaml", &(sleeper("api", "") + &sleeper("web", "dependencies: [api]")));
    for signal in [Signal::INT, Signal::TERM] {
        let mut watcher = Watcher::start(&project);
        let before = lives(&project);
        watcher.signal(signal);
        let run = watcher.ends().exits(130);
        let last: Value = serde_json::from_str(run.stdout.lines().last().unwrap()).unwrap();
        assert_eq!(last["event"], "watch-stopped", "{run}");
        assert_eq!(lives(&project), before, "{run}");
        project.is_settled(&["api", "web"]);
    }
}

#[test]
fn ctrl_c_twice_leaves_at_once_and_the_next_watch_goes_on() {
    let project = Project::new("leave2");
    // To stop it takes a minute.
    let deaf = |value: &str| {
        let spec = script("api", "trap '' TERM; while :; do sleep 0.1; done", &format!("env: {{A: {value}}}"));
        spec.replace("stop_signal: KILL", "stop_timeout: 60s")
    };
    project.write("all.yaml", &deaf("one"));
    let mut watcher = Watcher::start(&project);
    let events = Events::of(&project.group);
    project.write("all.yaml", &deaf("two"));
    events.position("kill", &project.name("api"));
    watcher.signal(Signal::INT);
    watcher.until_says("press Ctrl-C again");
    watcher.signal(Signal::INT);
    let run = watcher.ends().exits(130);
    assert!(run.took.as_secs() < 50, "it did not wait for the step: {run}");
    let containers = project.containers();
    assert_eq!(project.names(), ["api", "api.new"], "the old one is still there");
    engine::must("DELETE", &format!("/containers/{}?force=true", containers[0].id), None);
    let watcher = Watcher::start(&project);
    assert_eq!(project.id("api"), containers[1].id, "it went on with what was there");
    project.is_settled(&["api"]);
    watcher.interrupt().exits(130);
}
