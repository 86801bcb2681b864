//! The demo: a real database and a real application keep their rows.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::engine;
use crate::support::process;
use crate::support::project::{Project, port, repository};

#[test]
fn todos_outlive_a_change_and_a_day_off() {
    let project = Project::new("demo");
    let (database, web) = (port(), port());
    for file in std::fs::read_dir(repository("specs")).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name == "group.yaml" {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        // As it is, but for where it lies, and for ports and images, which the demo itself may have.
        let demo = format!("build: {}/", repository("demo").display());
        let text =
            text.replace("build: ../demo/", &demo).replace("image: todo-app", &format!("image: {}", project.group));
        let text = text.replace("5433:5432", &format!("{database}:5432")).replace("8080:8080", &format!("{web}:8080"));
        project.write(name, &text);
    }
    // Two of the three are built from one directory.
    project.run(&["diff"]).exits(1).prints("env.USER_ID: known after apply");
    // On a new machine its packages have to be fetched.
    let run = process::run(project.command(&["up"]), Duration::from_secs(600)).exits(0);
    let run = run.prints("2 services ready, 1 job succeeded (3 created)").says("appdb: post_start | 1");
    run.says("appdb: ready").says("migrate: succeeded").says("todo: ready");
    let status = project.status("todo");
    assert_eq!(status["ports"], json!([format!("127.0.0.1:{web}->8080/tcp")]));
    assert_eq!(call(web, "GET", "/todos", ""), json!([]));
    let milk = call(web, "POST", "/todos", r#"{"title": "Buy milk"}"#);
    assert_eq!(milk["title"], "Buy milk");
    assert_eq!(call(web, "GET", "/todos", ""), json!([milk]));

    // One value of one service.
    let appdb = project.id("appdb");
    let titled = |arguments: &[&str]| {
        let mut command = project.command(arguments);
        command.env("TODO_TITLE", "Groceries");
        process::run(command, Duration::from_secs(60))
    };
    let run = titled(&["diff"]).exits(1);
    let run = run.prints("todo: replace (todo.yaml:13)").prints("env.TITLE: changed").never_says("Groceries");
    run.never_says("appdb: ").never_says("migrate: ");
    titled(&["up"]).exits(0).prints("(1 replaced)");
    assert_eq!(project.id("appdb"), appdb);
    titled(&["diff"]).exits(0);
    assert!(body(web, "GET", "/", "").contains("<h1>Groceries</h1>"));
    assert_eq!(call(web, "GET", "/todos", ""), json!([milk]));

    project.run(&["down"]).exits(0);
    assert!(project.containers().is_empty());
    project.up();
    assert_eq!(call(web, "GET", "/todos", ""), json!([milk]));
    project.run(&["down", "--volumes", "--images"]).exits(0);
    assert!(engine::volumes(&project.group).is_empty());
}

fn call(port: u16, method: &str, path: &str, body: &str) -> Value {
    serde_json::from_str(&self::body(port, method, path, body)).unwrap()
}

fn body(port: u16, method: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200 ") || head.contains(" 201 "), "{method} {path}: {answer}");
    body.to_owned()
}
