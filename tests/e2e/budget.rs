//! How often the engine is asked, counted by a proxy on its socket.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use crate::support::engine;
use crate::support::process;
use crate::support::project::Project;
use crate::support::proxy::{Asked, Proxy};

/// How many services: what is promised of 100 holds for any number, and fewer save time. The whole hundred:
/// `DRILLMASTER_MANY=100`.
fn many() -> usize {
    std::env::var("DRILLMASTER_MANY").ok().and_then(|many| many.parse().ok()).unwrap_or(40)
}

fn counted(asked: &[Asked]) -> String {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for asked in asked {
        let path = asked.brief();
        let kind: Vec<&str> = path.split('/').map(|part| if part.len() > 40 { "<id>" } else { part }).collect();
        *kinds.entry(kind.join("/")).or_default() += 1;
    }
    kinds.iter().fold(String::new(), |mut text, (kind, count)| {
        let _ = writeln!(text, "{count:5} {kind}");
        text
    })
}

#[test]
fn many_services_ask_little_of_the_engine() {
    let limit = Duration::from_secs(300);
    let mut project = Project::new("budget");
    let count = many();
    let services: Vec<String> = (0..count)
        .map(|number| {
            // A few depend on others, and each has an environment, as in life.
            let needs = if number % 10 == 9 { format!("dependencies: [s{:03}]", number - 9) } else { String::new() };
            let more = format!("env: {{NUMBER: '{number}'}}\n{needs}");
            crate::support::project::sleeper(&format!("s{number:03}"), &more)
        })
        .collect();
    project.write("all.yaml", &services.concat());
    let proxy = Proxy::start(engine::socket());
    project.through(&proxy.host());

    let cold = process::run(project.command(&["up", "-q"]), limit).exits(0);
    let asked = proxy.take();
    println!("cold, {:.1} s:\n{}", cold.took.as_secs_f32(), counted(&asked));
    assert!(asked.len() <= 3 * count + 25, "a cold start: {} for {count}\n{}", asked.len(), counted(&asked));
    cold.prints(&format!("{count} services ready ({count} created)"));

    for command in ["up", "diff"] {
        let run = process::run(project.command(&[command]), limit).exits(0);
        let asked = proxy.take();
        println!("{command}, {:.1} s:\n{}", run.took.as_secs_f32(), counted(&asked));
        assert!(asked.len() <= 5, "{command}: {}\n{}", asked.len(), counted(&asked));
    }

    let down = process::run(project.command(&["down", "-q"]), limit).exits(0);
    let asked = proxy.take();
    println!("down, {:.1} s:\n{}", down.took.as_secs_f32(), counted(&asked));
    assert!(asked.len() <= 3 * count + 25, "down: {}\n{}", asked.len(), counted(&asked));
    assert!(project.containers().is_empty());
}
