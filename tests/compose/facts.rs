//! Facts about compose files that are easily remembered wrongly, as a table. `dev/compose-compare.sh` runs the same
//! table against docker compose.

mod of_files;
mod pitfalls;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use drillmaster::spec::compose::{Files, Loaded, Request, load};
use serde_json::Value;

use crate::compare::{docker_compose_with, environment};
use crate::config;
use crate::disk::{Disk, Memory};

/// Files, and what they mean.
#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    /// Files relative to the directory of the project.
    pub files: &'static [(&'static str, &'static str)],
    pub environment: &'static [(&'static str, &'static str)],
    /// Arguments of docker compose: `-f`, `--profile`, `--env-file`, `-p`, `--project-directory`.
    pub arguments: &'static [&'static str],
    /// Paths in the result with their values, as JSON; `.` stands for the directory of the project.
    pub yields: &'static [(&'static str, &'static str)],
    /// Part of the first error instead.
    pub fails: &'static str,
    /// Why docker compose 2.40.3 differs.
    pub differs: &'static str,
}

pub const CASE: Case =
    Case { name: "", files: &[], environment: &[], arguments: &[], yields: &[], fails: "", differs: "" };

/// Directory of the project in memory.
pub const DIRECTORY: &str = "/p/shop";

pub fn load_case(case: &Case, access: &dyn Files, directory: &str) -> Loaded {
    let mut variables = environment();
    variables.extend(case.environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    let argument = |option: &str| -> Vec<String> {
        let pairs = case.arguments.windows(2).filter(|pair| pair[0] == option);
        pairs.map(|pair| pair[1].to_owned()).collect()
    };
    load(&Request {
        files: &argument("-f"),
        env_files: &argument("--env-file"),
        profiles: &argument("--profile"),
        services: &[],
        name: argument("-p").first().map(String::as_str),
        directory: argument("--project-directory").first().map(String::as_str),
        working_directory: directory,
        home: Some("/home/ann"),
        environment: &variables,
        lenient: false,
        access,
    })
}

/// Reads the project of a directory.
pub fn load_from(access: &dyn Files, directory: &str) -> Loaded {
    load_case(&CASE, access, directory)
}

/// Reads files in memory, by their paths relative to the directory of the project.
pub fn load_files(files: &BTreeMap<String, String>) -> Loaded {
    load_from(&memory(files.iter().map(|(path, text)| (path.as_str(), text.as_str()))), DIRECTORY)
}

pub fn memory<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> Memory {
    let absolute = |path: &str| match path.strip_prefix("../") {
        Some(path) => format!("/p/{path}"),
        None => format!("{DIRECTORY}/{path}"),
    };
    Memory(files.map(|(path, text)| (absolute(path), text.to_owned())).collect())
}

pub fn in_memory(case: &Case) -> Loaded {
    load_case(case, &memory(case.files.iter().copied()), DIRECTORY)
}

/// Writes files to the disk, and returns the directory of the project.
pub fn write_files(root: &Path, files: &BTreeMap<String, String>) -> PathBuf {
    let directory = root.canonicalize().unwrap().join("shop");
    fs::create_dir(&directory).unwrap();
    for (path, text) in files {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    directory
}

fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, |value, key| match value {
        Value::Array(items) => &items[key.parse::<usize>().unwrap()],
        value => &value[key],
    })
}

fn check(case: &Case) -> Result<(), String> {
    match in_memory(case).project.ok_or("no compose file found")? {
        Err(errors) if case.fails.is_empty() => Err(format!("fails: {}", errors[0])),
        Err(errors) if !errors[0].to_string().contains(case.fails) => Err(format!("other error: {}", errors[0])),
        Err(_) => Ok(()),
        Ok(_) if !case.fails.is_empty() => Err("does not fail".to_owned()),
        Ok(project) => {
            let text = config::print(&project).to_string().replace(DIRECTORY, ".");
            let printed: Value = serde_json::from_str(&text).unwrap();
            for (path, expected) in case.yields {
                let found = at(&printed, path);
                let expected: Value = serde_json::from_str(expected).unwrap_or_else(|_| panic!("{expected}"));
                if *found != expected {
                    return Err(format!("{path} is {found}, not {expected}"));
                }
            }
            Ok(())
        }
    }
}

#[test]
fn facts() {
    let wrong: Vec<String> =
        CASES.iter().filter_map(|case| Some(format!("{}: {}", case.name, check(case).err()?))).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for case in CASES.iter() {
        assert!(!case.yields.is_empty() || !case.fails.is_empty(), "{} expects nothing", case.name);
    }
}

/// Every fact that is about the 15 facts, the runners-up or the pitfalls has a case.
#[test]
fn every_fact_has_a_case() {
    let named = |start: String| CASES.iter().any(|case| case.name.starts_with(&start));
    for fact in 1..=15 {
        assert!(named(format!("fact {fact}:")), "fact {fact}");
    }
    // 3 and 11 are about what runs, not about what is read.
    for pitfall in (1..=13).filter(|pitfall| ![3, 11].contains(pitfall)) {
        assert!(named(format!("pitfall {pitfall}:")), "pitfall {pitfall}");
    }
}

/// Runs docker compose on each case.
#[test]
#[ignore = "dev/compose-compare.sh runs it"]
fn facts_agree_with_docker_compose() {
    let binary = std::env::var("DRILLMASTER_COMPOSE").unwrap();
    let mut wrong = Vec::new();
    let mut explained = 0;
    for case in CASES.iter() {
        let root = tempfile::tempdir().unwrap();
        let files = case.files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        let directory = write_files(root.path(), &files);
        let variables: BTreeMap<String, String> =
            case.environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let theirs = docker_compose_with(&binary, &directory, case.arguments, &variables);
        let ours = load_case(case, &Disk, directory.to_str().unwrap()).project.unwrap();
        let differences = match (ours, theirs) {
            (Err(_), Err(_)) => Vec::new(),
            (Err(errors), Ok(_)) => vec![format!("refused here only: {}", errors[0])],
            (Ok(_), Err(error)) => vec![format!("refused there only: {}", error.trim())],
            (Ok(project), Ok(theirs)) => {
                let mut found = Vec::new();
                let theirs = config::pruned(crate::compare::without_extensions(theirs), "");
                config::differences(&config::print(&project), &theirs, "", &mut found);
                found.retain(|it| !crate::compare::is_explained(it));
                found
            }
        };
        match (differences.is_empty(), case.differs.is_empty()) {
            (true, true) => {}
            (false, false) => {
                explained += 1;
                println!("{}: {} ({})", case.name, differences.join("; "), case.differs);
            }
            (false, true) => wrong.push(format!("{}: {}", case.name, differences.join("; "))),
            (true, false) => wrong.push(format!("{}: does not differ", case.name)),
        }
    }
    println!("{} facts, {explained} of them with an explained difference", CASES.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// All cases.
pub static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| [of_files::CASES, pitfalls::CASES].concat());
