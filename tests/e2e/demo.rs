//! The demo: data of a real database and application survives replacement and `down`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::engine;
use crate::support::process;
use crate::support::project::{Project, free_port, repository};

#[test]
fn todos_survive_replacement_and_down() {
    let project = Project::new("demo");
    let (database, web) = (free_port(), free_port());
    for file in std::fs::read_dir(repository("specs")).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name == "group.yaml" {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        // Unchanged except for paths, and for ports and image names that a running demo may use.
        let demo = format!("build: {}/", repository("demo").display());
        let text =
            text.replace("build: ../demo/", &demo).replace("image: todo-app", &format!("image: {}", project.group));
        let text = text.replace("5433:5432", &format!("{database}:5432")).replace("8080:8080", &format!("{web}:8080"));
        project.write(name, &text);
    }
    // Two of the three services are built from the same directory.
    project.run(&["diff"]).exits(1).stdout_contains("env.USER_ID: known after apply");
    // On a new machine, the build has to download packages.
    let run = process::run(project.command(&["up"]), Duration::from_secs(600)).exits(0);
    let run = run
        .stdout_contains("2 services ready, 1 job succeeded (3 created)")
        .stderr_contains("appdb: post_start | (hidden)");
    run.stderr_contains("appdb: ready").stderr_contains("migrate: succeeded").stderr_contains("todo: ready");
    let status = project.status("todo");
    assert_eq!(status["ports"], json!([format!("127.0.0.1:{web}->8080/tcp")]));
    assert_eq!(call(web, "GET", "/todos", ""), json!([]));
    let milk = call(web, "POST", "/todos", r#"{"title": "Buy milk"}"#);
    assert_eq!(milk["title"], "Buy milk");
    assert_eq!(call(web, "GET", "/todos", ""), json!([milk]));

    // Change one value of one service.
    let appdb = project.id("appdb");
    let with_title = |arguments: &[&str]| {
        let mut command = project.command(arguments);
        command.env("TODO_TITLE", "Groceries");
        process::run(command, Duration::from_secs(60))
    };
    let run = with_title(&["diff"]).exits(1);
    let run = run
        .stdout_contains("todo: replace (todo.yaml:13)")
        .stdout_contains("env.TITLE: changed")
        .output_lacks("Groceries");
    run.output_lacks("appdb: ").output_lacks("migrate: ");
    with_title(&["up"]).exits(0).stdout_contains("(1 replaced)");
    assert_eq!(project.id("appdb"), appdb);
    with_title(&["diff"]).exits(0);
    assert!(body(web, "GET", "/", "").contains("<h1>Groceries</h1>"));
    assert_eq!(call(web, "GET", "/todos", ""), json!([milk]));

    project.run(&["down"]).exits(0);
    assert!(project.containers().is_empty());
    project.up();
    assert_eq!(call(web, "GET", "/todos", ""), json!([milk]));
    project.run(&["down", "--volumes", "--images"]).exits(0);
    assert!(engine::volumes(&project.group).is_empty());
}

/// Sends a request and returns the JSON body.
fn call(port: u16, method: &str, path: &str, body: &str) -> Value {
    serde_json::from_str(&self::body(port, method, path, body)).unwrap()
}

/// Sends a request and returns the response body.
fn body(port: u16, method: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200 ") || head.contains(" 201 "), "{method} {path}: {response}");
    body.to_owned()
}
