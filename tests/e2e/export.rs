//! `export compose`: a compose file for the same volumes.

use crate::support::project::{Project, sleeper};

#[test]
fn exported_compose_file_works_on_the_same_data() {
    let project = Project::new("export");
    let db = sleeper("db", "volumes: ['data:/data']\nping: {exec: [test, -d, /data]}\nenv: {NAME: '${NAME}'}\n");
    let api = sleeper("api", "dependencies: [db]\nvolumes: ['./conf:/conf:ro']\npost_stop: {run: ['true']}\n");
    project.write("app.yaml", &(db + &api));
    project.write("conf/file", "from the specs");
    std::fs::write(project.home.path().join(".env"), "NAME=canary-value\n").unwrap();
    project.up();
    project.exec("db", &["sh", "-c", "echo precious > /data/row"]);

    let note = "specs/app.yaml:17:1: `post_stop` of api cannot be said in a compose file";
    let printed = project.run(&["export", "compose"]).exits(1).stderr_contains(note).output_lacks("canary");
    printed.stdout_contains("NAME: ${NAME}").stdout_contains("source: ./specs/conf");
    project.run(&["export", "compose", "db"]).exits(0).output_lacks("api");
    let into = ["export", "compose", "--into", "compose.yaml"];
    project.run(&into).exits(1).stderr_contains("wrote compose.yaml");
    project.run(&into).exits(2).stderr_contains("the file exists; --force overwrites it");
    let forced = project.run(&[&into[..], &["--force", "--output", "json"]].concat()).exits(1);
    let result = forced.json();
    assert_eq!(result["file"], "compose.yaml");
    assert_eq!(result["compose"]["volumes"]["data"]["name"], project.name("data"));
    assert_eq!(result["notes"].as_array().unwrap().len(), 1, "{result}");
    let inside = project.run(&["export", "compose", "--into", "specs/compose.yaml"]).exits(2);
    inside.stderr_contains("it would be read as a spec there");
    project.run(&["export", "compose", "nothing"]).exits(2).stderr_contains("no service `nothing`");
    project.run(&["-f", "compose.yaml", "export", "compose"]).exits(2).stderr_contains("are compose files already");

    // Read as it is, in place of docker compose.
    project.run(&["down"]).exits(0);
    project.run(&["-f", "compose.yaml", "up"]).exits(0);
    assert_eq!(project.exec("db", &["cat", "/data/row"]), "precious\n");
    assert_eq!(project.exec("api", &["cat", "/conf/file"]), "from the specs");
    assert!(project.exec("db", &["env"]).contains("NAME=canary-value"));
    project.run(&["-f", "compose.yaml", "down"]).exits(0);

    project.up();
    assert_eq!(project.exec("db", &["cat", "/data/row"]), "precious\n");
    project.run(&["down", "--volumes"]).exits(0);
}
