//! What a project keeps beside its values: templates, places, files.

use drillmaster::spec::compose::Project;
use drillmaster::spec::node::{Node, Style, Value};

use crate::facts::{CASE, Case, in_memory};

fn load(case: Case) -> Project {
    match in_memory(&case).project {
        Some(Ok(project)) => project,
        Some(Err(errors)) => panic!("{}", errors[0]),
        None => panic!("no file"),
    }
}

fn at<'a>(project: &'a Project, path: &str) -> &'a Node {
    path.split('.').fold(&project.root, |node, key| match &node.value {
        Value::Seq(items) => &items[key.parse::<usize>().unwrap()],
        _ => node.get(key).unwrap_or_else(|| panic!("{key} of {path}")),
    })
}

/// The template of a node, its value and its place.
fn show(project: &Project, path: &str) -> String {
    let node = at(project, path);
    let place = project.location(&node.span);
    let template = project.template(&node.span).unwrap_or("-");
    let (text, file) = (node.text().unwrap_or("…"), place.file.path());
    format!("{text} from {template} at {file}:{}:{}", place.line(), place.column())
}

#[test]
fn the_text_before_substitution_is_kept() {
    let project = load(Case {
        files: &[
            (".env", "TAG=1\nDIR=./d\nPASSWORD=secret\nPORT=80\nN=2\n"),
            (
                "compose.yaml",
                "services:\n  a:\n    image: x:${TAG:-2}\n    volumes:\n      - \"${DIR}:/d:ro\"\n    ports: [\"$PORT:80\"]\n    environment:\n      - PASSWORD=${PASSWORD}\n      \
                 - 'Q=a${TAG}'\n      - TAG\n      - PLAIN=a=b\n    scale: ${N}\n",
            ),
            (
                "compose.override.yaml",
                "services:\n  a:\n    environment: {OTHER: \"$TAG-$$\"}\n    command: run ${TAG}\n",
            ),
        ],
        ..CASE
    });
    let shown: Vec<String> = [
        "services.a.image",
        "services.a.volumes.0",
        "services.a.volumes.0.source",
        "services.a.ports.0.published",
        "services.a.environment.PASSWORD",
        "services.a.environment.Q",
        "services.a.environment.TAG",
        "services.a.environment.PLAIN",
        "services.a.environment.OTHER",
        "services.a.scale",
        "services.a.command.1",
        "services.a.networks",
    ]
    .map(|path| show(&project, path))
    .to_vec();
    assert_eq!(
        shown,
        [
            "x:1 from x:${TAG:-2} at compose.yaml:3:12",
            "… from ${DIR}:/d:ro at compose.yaml:5:9",
            "/p/shop/d from ${DIR}:/d:ro at compose.yaml:5:9",
            "80 from $PORT:80 at compose.yaml:6:13",
            "secret from ${PASSWORD} at compose.yaml:8:18",
            "a1 from a${TAG} at compose.yaml:9:12",
            "1 from ${TAG} at compose.yaml:10:9",
            "a=b from - at compose.yaml:11:15",
            "1-$ from $TAG-$$ at compose.override.yaml:3:26",
            "2 from ${N} at compose.yaml:12:12",
            "1 from run ${TAG} at compose.override.yaml:4:14",
            "… from - at compose.yaml:2:3",
        ]
    );
    let Value::Scalar(image) = &at(&project, "services.a.image").value else { panic!("no scalar") };
    assert_eq!(image.style, Style::Substituted);
    let variables: Vec<&str> = project.variables.iter().map(String::as_str).collect();
    assert_eq!(variables, ["DIR", "N", "PASSWORD", "PORT", "TAG"]);
}

#[test]
fn everything_that_is_read_or_looked_for_is_known() {
    let loaded = in_memory(&Case {
        files: &[
            (
                "compose.yaml",
                "include: [db.yaml]\nservices: {a: {extends: {file: base.yaml, service: b}, env_file: [e.env, {path: n.env, required: false}]}}",
            ),
            ("db.yaml", "services: {db: {image: x}}"),
            ("base.yaml", "services: {b: {image: x}}"),
            ("e.env", ""),
        ],
        ..CASE
    });
    assert!(loaded.project.unwrap().is_ok());
    let reads: Vec<&str> = loaded.reads.iter().filter_map(|path| path.strip_prefix("/p/shop/")).collect();
    for wanted in ["compose.yaml", "compose.override.yml", ".env", "db.yaml", "base.yaml", "e.env", "n.env"] {
        assert!(reads.contains(&wanted), "{wanted} is not in {reads:?}");
    }
}

#[test]
fn without_files_there_is_no_project() {
    assert!(in_memory(&Case { files: &[("other.txt", "")], ..CASE }).project.is_none());
}

#[test]
fn inactive_services_stay_in_the_tree() {
    let project =
        load(Case { files: &[("compose.yaml", "services: {a: {image: x}, b: {image: y, profiles: [p]}}")], ..CASE });
    assert!(project.inactive.contains("b") && !project.inactive.contains("a"));
    assert_eq!(at(&project, "services.b.image").text(), Some("y"));
    assert_eq!(project.active_services().map(|(name, _)| name).collect::<Vec<_>>(), ["a"]);
}

#[test]
fn contents_of_secrets_are_beside_the_tree() {
    let project = load(Case {
        files: &[
            (".env", "X=of the project\n"),
            ("db/.env", "Y=of the include\n"),
            ("db/compose.yaml", "secrets: {t: {environment: Y}}"),
            (
                "compose.yaml",
                "include: [db/compose.yaml]\nservices: {a: {image: x}}\nsecrets: {s: {environment: X}, u: {environment: NOT_SET}}",
            ),
        ],
        ..CASE
    });
    let contents: Vec<(&str, &str)> =
        project.contents.iter().map(|((_, name), text)| (name.as_str(), text.as_str())).collect();
    assert_eq!(contents, [("s", "of the project"), ("t", "of the include")]);
}

#[test]
fn numbers_in_the_tree_are_those_of_yaml_1_2() {
    let project = load(Case {
        files: &[(
            "compose.yaml",
            "services: {a: {image: x, pids_limit: 0x10, cpu_shares: 1_000, healthcheck: {retries: 010}}}",
        )],
        ..CASE
    });
    assert_eq!(at(&project, "services.a.pids_limit").text(), Some("16"));
    assert_eq!(at(&project, "services.a.cpu_shares").text(), Some("1000"));
    assert_eq!(at(&project, "services.a.healthcheck.retries").text(), Some("8"));
}
