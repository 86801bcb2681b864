//! Tests of reading a project.

use std::fs;
use std::os::unix::fs::symlink;

use clap::Parser;

use super::super::args::{Cli, Command};
use super::*;
use crate::desired::VolumeSource;

/// The project of `up --watch`.
fn follow(home: &Path, arguments: &[&str]) -> Result<(Project, Follow), Failure> {
    let specs = home.join("specs");
    let line = ["drillmaster", "up", "--watch", "--specs", specs.to_str().unwrap()];
    let cli = Cli::try_parse_from(line.iter().chain(arguments)).unwrap();
    let Command::Up(up) = &cli.command else { unreachable!() };
    Project::follow(&cli.global, up, |_| {})
}

/// Writes services with their dependencies: `a: b c`.
fn write(home: &Path, services: &[&str]) {
    let document = |service: &&str| {
        let (name, needs) = service.split_once(':').unwrap_or((service, ""));
        let needs = needs.split_whitespace().collect::<Vec<_>>().join(", ");
        format!("---\nname: {name}\nimage: busybox\ndependencies: [{needs}]\nvolumes: [\"./conf:/conf\"]\n")
    };
    fs::create_dir_all(home.join("specs")).unwrap();
    fs::write(home.join("specs/app.yaml"), services.iter().map(document).collect::<String>()).unwrap();
}

async fn valid(follow: &Follow) -> Desired {
    match (follow.read)().await {
        Reading::Valid(desired) => *desired,
        Reading::Invalid(errors) => panic!("{errors:#?}"),
    }
}

async fn errors(follow: &Follow) -> Vec<String> {
    match (follow.read)().await {
        Reading::Valid(desired) => panic!("{desired:#?}"),
        Reading::Invalid(errors) => errors.into_iter().map(|error| error.message).collect(),
    }
}

fn only(names: &[&str]) -> Scope {
    Scope::Only(names.iter().map(|name| (*name).to_owned()).collect())
}

#[tokio::test]
async fn unchanged_specs_are_read_the_same_again() {
    let home = tempfile::tempdir().unwrap();
    write(home.path(), &["a: b", "b"]);
    let (project, mut follow) = follow(home.path(), &[]).unwrap();
    assert_eq!(follow.changes.recv().await, Some(()), "a message at the start");
    assert_eq!(valid(&follow).await, project.desired);
    assert_eq!(valid(&follow).await, project.desired);
}

#[tokio::test]
async fn selection_is_kept_when_specs_change() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    write(home, &["a: b", "b", "c"]);
    let (project, follow) = follow(home, &["a"]).unwrap();
    assert_eq!(project.desired.scope, only(&["a", "b"]));
    write(home, &["a: b", "b", "c", "d"]);
    assert_eq!(valid(&follow).await.scope, only(&["a", "b"]), "a new service is not selected");
    write(home, &["a: b c", "b", "c", "d"]);
    assert_eq!(valid(&follow).await.scope, only(&["a", "b", "c"]), "a new dependency is added");
    write(home, &["a: b", "b", "d"]);
    assert_eq!(valid(&follow).await.scope, only(&["a", "b", "c"]), "a removed service stays in scope");
    write(home, &["a", "b", "c", "d"]);
    assert_eq!(valid(&follow).await.scope, only(&["a"]), "a service no longer needed leaves the scope");
    write(home, &["d"]);
    let desired = valid(&follow).await;
    assert_eq!((desired.scope, desired.services.len()), (only(&["a"]), 1));
}

#[tokio::test]
async fn excluded_services_stay_excluded() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    write(home, &["a", "b"]);
    let (_, follow) = follow(home, &["--exclude", "b"]).unwrap();
    write(home, &["a", "c"]);
    assert_eq!(valid(&follow).await.scope, Scope::AllBut(["b".to_owned()].into()));
    write(home, &["a: b", "b"]);
    assert_eq!(errors(&follow).await, ["`b` cannot be excluded: `a` depends on it; exclude `a` too"]);
}

#[tokio::test]
async fn slow_task_is_not_spawned_twice() {
    let task = SingleTask::default();
    let (release, released) = std::sync::mpsc::channel();
    let short = Duration::from_millis(10);
    let joined = task.join(short, || tokio::task::spawn_blocking(move || released.recv().unwrap())).await;
    assert!(joined.is_none());
    assert!(task.join(short, || unreachable!("the first task is still running")).await.is_none());
    release.send(1).unwrap();
    let long = Duration::from_secs(60);
    assert_eq!(task.join(long, || unreachable!("the first task is still running")).await.unwrap().unwrap(), 1);
    assert_eq!(task.join(long, || tokio::spawn(async { 2 })).await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn initial_load_returns_errors() {
    let home = tempfile::tempdir().unwrap();
    assert!(matches!(follow(home.path(), &[]), Err(Failure::Specs(_))));
    write(home.path(), &["a"]);
    assert!(matches!(follow(home.path(), &["b"]), Err(Failure::Usage(_))));
    assert!(matches!(follow(home.path(), &["--group", "no group"]), Err(Failure::Usage(_))));
}

#[tokio::test]
async fn missing_specs_are_an_error_without_prune_all() {
    let home = tempfile::tempdir().unwrap();
    write(home.path(), &["a"]);
    let (project, strict) = follow(home.path(), &[]).unwrap();
    let (_, lenient) = follow(home.path(), &["--prune-all"]).unwrap();
    fs::remove_file(home.path().join("specs/app.yaml")).unwrap();
    assert!(errors(&strict).await[0].starts_with("no `*.yaml`, `*.yml` or `*.star` file found"));
    assert_eq!(valid(&lenient).await.services.len(), 0);
    fs::remove_dir(home.path().join("specs")).unwrap();
    assert!(errors(&strict).await[0].ends_with("not found"));
    assert_eq!(valid(&lenient).await.services.len(), 0);
    assert_eq!(valid(&lenient).await.group, project.desired.group);
    write(home.path(), &["a"]);
    assert_eq!(valid(&strict).await, project.desired);
    assert_eq!(valid(&lenient).await, project.desired);
}

#[tokio::test]
async fn corrected_env_file_is_read_again() {
    let home = tempfile::tempdir().unwrap();
    write(home.path(), &["a"]);
    let (_, follow) = follow(home.path(), &[]).unwrap();
    fs::write(home.path().join("specs/b.yaml"), "name: b\nimage: busybox\nenv_file: ../b.env\n").unwrap();
    assert_eq!(errors(&follow).await.len(), 1);
    fs::write(home.path().join("b.env"), "no sense").unwrap();
    assert!(errors(&follow).await[0].starts_with("expected `KEY=value`"));
    fs::write(home.path().join("b.env"), "A=1").unwrap();
    assert_eq!(valid(&follow).await.services["b"].env["A"].as_deref(), Some("1"));
}

#[tokio::test]
async fn env_files_of_the_command_line_replace_dotenv() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    fs::create_dir(home.join("specs")).unwrap();
    fs::write(home.join("specs/a.yaml"), "name: a\nimage: busybox\nenv: {A: '${A:-}', B: '${B:-}'}\n").unwrap();
    fs::write(home.join("specs/.env"), "B=inside\n").unwrap();
    fs::write(home.join(".env"), "A=beside\nB=beside\n").unwrap();
    let values = |desired: &Desired| {
        let env = &desired.services["a"].env;
        (env["A"].clone().unwrap_or_default(), env["B"].clone().unwrap_or_default())
    };
    let (_, follow_defaults) = follow(home, &[]).unwrap();
    assert_eq!(values(&valid(&follow_defaults).await), ("beside".into(), "inside".into()));

    let (one, two) = (home.join("one.env"), home.join("two.env"));
    let options = ["--env-file", one.to_str().unwrap(), "--env-file", two.to_str().unwrap()];
    fs::write(&one, "A=1\nB=1\n").unwrap();
    assert!(matches!(follow(home, &options), Err(Failure::Specs(errors)) if errors[0].to_string().contains("two.env")));
    fs::write(&two, "B=$A-2\n").unwrap();
    let (project, mut follow_options) = follow(home, &options).unwrap();
    assert_eq!(values(&project.desired), ("1".into(), "1-2".into()));
    assert_eq!(follow_options.changes.recv().await, Some(()), "a message at the start");
    assert_eq!(values(&valid(&follow_options).await), ("1".into(), "1-2".into()));
    fs::write(&two, "B=3\n").unwrap();
    let changed = tokio::time::timeout(Duration::from_secs(30), follow_options.changes.recv()).await;
    assert_eq!(changed, Ok(Some(())), "the files are watched");
    assert_eq!(values(&valid(&follow_options).await), ("1".into(), "3".into()));

    let (project, _) = follow(home, &["--env-file", "/dev/null"]).unwrap();
    assert_eq!(values(&project.desired), (String::new(), String::new()));
}

#[tokio::test]
async fn owner_is_kept_when_a_link_changes() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path().canonicalize().unwrap();
    write(&home, &["a"]);
    fs::rename(home.join("specs"), home.join("one")).unwrap();
    symlink("one", home.join("specs")).unwrap();
    let (project, follow) = follow(&home, &[]).unwrap();
    fs::create_dir(home.join("two")).unwrap();
    fs::copy(home.join("one/app.yaml"), home.join("two/app.yaml")).unwrap();
    fs::remove_file(home.join("specs")).unwrap();
    symlink("two", home.join("specs")).unwrap();
    let desired = valid(&follow).await;
    assert_eq!(desired.source, project.desired.source);
    let conf = home.join("two/conf").to_str().unwrap().to_owned();
    assert_eq!(desired.services["a"].config.volumes[0].source, VolumeSource::Bind(conf));
}
