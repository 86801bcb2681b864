//! Budget of engine API requests, counted by a proxy on the engine's socket.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use crate::support::engine;
use crate::support::process;
use crate::support::project::Project;
use crate::support::proxy::{Proxy, Request};

/// Number of services. The budget is specified for 100 services and holds for any number; fewer save time. Set
/// `DRILLMASTER_MANY=100` for the full number.
fn many() -> usize {
    std::env::var("DRILLMASTER_MANY").ok().and_then(|many| many.parse().ok()).unwrap_or(40)
}

/// Leaves out the requests of the lease: three for a command that changes a group, and three more every 10 s.
fn without_lease(mut requests: Vec<Request>) -> Vec<Request> {
    requests.retain(|request| !request.endpoint().contains("/volumes"));
    requests
}

/// Formats the number of requests per endpoint.
fn format_counts(requests: &[Request]) -> String {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for request in requests {
        let path = request.endpoint();
        let kind: Vec<&str> = path.split('/').map(|part| if part.len() > 40 { "<id>" } else { part }).collect();
        *kinds.entry(kind.join("/")).or_default() += 1;
    }
    kinds.iter().fold(String::new(), |mut text, (kind, count)| {
        let _ = writeln!(text, "{count:5} {kind}");
        text
    })
}

#[test]
fn api_requests_stay_within_budget() {
    let limit = Duration::from_secs(300);
    let mut project = Project::new("budget");
    let count = many();
    let services: Vec<String> = (0..count)
        .map(|number| {
            // Each has an environment and every tenth has a dependency, like in a typical group.
            let dependencies =
                if number % 10 == 9 { format!("dependencies: [s{:03}]", number - 9) } else { String::new() };
            let more = format!("env: {{NUMBER: '{number}'}}\n{dependencies}");
            crate::support::project::sleeper(&format!("s{number:03}"), &more)
        })
        .collect();
    project.write("all.yaml", &services.concat());
    let proxy = Proxy::start(engine::socket());
    project.set_host(&proxy.host());

    let cold = process::run(project.command(&["up", "-q"]), limit).exits(0);
    let requests = without_lease(proxy.take_requests());
    println!("cold, {:.1} s:\n{}", cold.took.as_secs_f32(), format_counts(&requests));
    assert!(
        requests.len() <= 3 * count + 25,
        "cold start: {} requests for {count}\n{}",
        requests.len(),
        format_counts(&requests)
    );
    cold.stdout_contains(&format!("{count} services ready ({count} created)"));

    for command in ["up", "diff"] {
        let run = process::run(project.command(&[command]), limit).exits(0);
        let requests = without_lease(proxy.take_requests());
        println!("{command}, {:.1} s:\n{}", run.took.as_secs_f32(), format_counts(&requests));
        assert!(requests.len() <= 4, "{command}: {} requests\n{}", requests.len(), format_counts(&requests));
    }

    let down = process::run(project.command(&["down", "-q"]), limit).exits(0);
    let requests = without_lease(proxy.take_requests());
    println!("down, {:.1} s:\n{}", down.took.as_secs_f32(), format_counts(&requests));
    assert!(requests.len() <= 3 * count + 25, "down: {} requests\n{}", requests.len(), format_counts(&requests));
    assert!(project.containers().is_empty());
}
