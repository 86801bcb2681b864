//! Comparison with docker compose, key by key. Run by `dev/compose-compare.sh`.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::config;
use crate::disk::load_from_disk;

/// Differences that are meant: patterns in which `*` stands for any text, with the reason.
const EXPLAINED: &[(&str, &str)] = &[
    // They did before that version too, but it was not printed.
    (
        "*bind.create_host_path: true instead of nothing",
        "long forms create missing directories since compose-go 2.10.1",
    ),
    (
        "*bind: {\"create_host_path\":true} instead of nothing",
        "long forms create missing directories since compose-go 2.10.1",
    ),
];

/// A stack: its directory, and its files relative to it.
pub struct Stack {
    pub directory: PathBuf,
    pub files: Vec<String>,
}

impl Stack {
    /// A directory, or files separated by commas, of which the first is in the directory of the project.
    pub fn parse(argument: &str) -> Stack {
        if Path::new(argument).is_dir() {
            return Stack { directory: argument.into(), files: Vec::new() };
        }
        let files: Vec<String> = argument.split(',').map(|file| absolute(file).to_str().unwrap().to_owned()).collect();
        Stack { directory: Path::new(&files[0]).parent().unwrap().to_owned(), files }
    }
}

pub fn absolute(path: &str) -> PathBuf {
    std::path::absolute(path).unwrap()
}

/// What docker compose makes of a stack, or its error.
pub fn docker_compose_with(
    binary: &str,
    directory: &Path,
    arguments: &[&str],
    variables: &BTreeMap<String, String>,
) -> Result<Value, String> {
    let mut command = Command::new(binary);
    command.current_dir(directory).env_clear().envs(environment()).envs(variables);
    let output = command.args(arguments).args(["config", "--format", "json"]).output().unwrap();
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let errors: Vec<&str> = errors.lines().filter(|line| !line.starts_with("time=")).collect();
        return Err(errors.join("\n"));
    }
    // It doubles every `$`.
    let text = String::from_utf8(output.stdout).unwrap().replace("$$", "$");
    Ok(serde_json::from_str(&text).unwrap())
}

fn docker_compose(binary: &str, directory: &Path, files: &[String]) -> Result<Value, String> {
    let arguments: Vec<&str> = files.iter().flat_map(|file| ["-f", file]).collect();
    docker_compose_with(binary, directory, &arguments, &BTreeMap::new())
}

/// The few variables that both sides see.
pub fn environment() -> BTreeMap<String, String> {
    let pairs = [("HOME", "/home/ann"), ("PATH", "/usr/bin:/bin")];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Removes what is not compared: extensions.
pub fn without_extensions(mut value: Value) -> Value {
    value.as_object_mut().unwrap().retain(|key, _| !key.starts_with("x-"));
    value
}

/// Returns true if a difference is meant.
pub fn is_explained(difference: &str) -> bool {
    explanation(EXPLAINED, difference).is_some()
}

/// Returns the reason of a difference that is meant.
pub fn explanation(explained: &[(&str, &'static str)], difference: &str) -> Option<&'static str> {
    explained.iter().find(|(pattern, _)| matches(pattern, difference)).map(|(_, reason)| *reason)
}

/// Returns true if a text has the form of a pattern, in which `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| matches(rest, &text[at..]))
        }),
    }
}

#[test]
#[ignore = "dev/compose-compare.sh runs it"]
fn compare() {
    let binary = env::var("DRILLMASTER_COMPOSE").unwrap();
    let stacks = env::var("DRILLMASTER_STACKS").unwrap();
    let mut explained: BTreeMap<&str, usize> = BTreeMap::new();
    let mut unexplained = 0;
    for argument in stacks.split_whitespace() {
        let Stack { directory, files } = Stack::parse(argument);
        let directory = absolute(directory.to_str().unwrap());
        let theirs = docker_compose(&binary, &directory, &files);
        let ours = load_from_disk(&directory, &files, &environment()).project.unwrap();
        let found = match (ours, theirs) {
            (Err(errors), Err(error)) => {
                println!("both refuse it: {}, and {}", errors[0], error.trim());
                Vec::new()
            }
            (Err(errors), Ok(_)) => errors.iter().map(|error| format!("refused here only: {error}")).collect(),
            (Ok(_), Err(error)) => vec![format!("refused by docker compose only: {}", error.trim())],
            (Ok(project), Ok(theirs)) => {
                let mut found = Vec::new();
                let theirs = config::pruned(without_extensions(theirs), "");
                config::differences(&config::print(&project), &theirs, "", &mut found);
                found
            }
        };
        let mut left = Vec::new();
        for difference in found {
            match explanation(EXPLAINED, &difference) {
                Some(reason) => *explained.entry(reason).or_default() += 1,
                None => left.push(difference),
            }
        }
        println!("{argument}: {} differences", left.len());
        left.iter().for_each(|difference| println!("    {difference}"));
        unexplained += left.len();
    }
    for (reason, count) in explained {
        println!("explained, {count} times: {reason}");
    }
    assert_eq!(unexplained, 0, "unexplained differences");
}
