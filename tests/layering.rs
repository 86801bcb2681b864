//! The rooms and the arrows between them: reads the `use` lines (and every path that begins with `crate::`) and fails
//! on an arrow that should not be there.

#![allow(clippy::unwrap_used)] // a test that cannot read its input fails

use std::fs;
use std::path::{Path, PathBuf};

/// Each room with the rooms that it may know.
const ROOMS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("identity", &[]),
    ("spec", &["types"]),
    ("desired", &["types", "spec", "identity"]),
    ("observed", &["types", "spec", "identity"]),
    ("plan", &["types", "spec", "identity", "desired", "observed"]),
    ("status", &["types", "spec", "identity", "desired", "observed", "plan"]),
    ("engine", &["types", "spec", "identity", "desired", "observed"]),
    ("control", &["types", "spec", "identity", "desired", "observed", "plan", "status", "engine"]),
    ("render", &["types", "spec", "identity", "desired", "observed", "plan", "status", "engine", "control"]),
    ("cli", &["types", "spec", "identity", "desired", "observed", "plan", "status", "engine", "control", "render"]),
];

/// Rooms without a clock, files, an environment, chance or an engine, and what would bring one in.
const PURE: &[&str] = &["types", "identity", "spec", "desired", "observed", "plan", "status"];
const IMPURE: &[&str] = &[
    "tokio",
    "bollard",
    "hyper",
    "std::fs",
    "std::env",
    "std::net::Tcp",
    "std::process",
    "std::thread",
    "SystemTime::now",
    "Instant::now",
    "println!",
    "eprintln!",
];

/// What the state machine of the controller must not name: it is synchronous, and its time comes in with the events.
const NOT_IN_RECONCILE: &[&str] =
    &["control::execute", "control::ipc", "super::execute", "super::ipc", "tokio", "std::fs", "Instant", "SystemTime"];

/// The only folders that may name bollard.
const BOLLARD: &[&str] = &["engine/docker/", "engine/convert/"];

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn room_of(path: &str) -> &str {
    path.split('/').next().unwrap().trim_end_matches(".rs")
}

/// The code of a file: without comments, and without its tests, which may reach anywhere.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn all() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    sources(&root)
        .into_iter()
        .map(|path| (path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(), code(&path)))
        .filter(|(path, _)| !path.ends_with("tests.rs"))
        .collect()
}

#[test]
fn rooms_know_only_what_they_may() {
    let mut wrong = Vec::new();
    for (path, code) in all() {
        let room = room_of(&path);
        if ["main", "lib"].contains(&room) {
            continue;
        }
        let (_, may) = ROOMS.iter().find(|(name, _)| *name == room).unwrap_or_else(|| panic!("unknown room: {path}"));
        for (other, _) in ROOMS {
            let arrow = format!("crate::{other}");
            let named = code
                .match_indices(&arrow)
                .any(|(at, _)| !code[at + arrow.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_'));
            if *other != room && named && !may.contains(other) {
                wrong.push(format!("{path} names {arrow}"));
            }
        }
    }
    assert!(wrong.is_empty(), "wrong arrows:\n{}", wrong.join("\n"));
}

#[test]
fn uses_in_braces_are_not_overlooked() {
    // The test above looks for `crate::room`; `use crate::{a, b}` would slip through.
    let wrong: Vec<String> =
        all().into_iter().filter(|(_, code)| code.contains("crate::{")).map(|(path, _)| path).collect();
    let wrong: Vec<String> = wrong.into_iter().filter(|path| room_of(path) != "cli").collect();
    assert!(wrong.is_empty(), "write one `use crate::room` a line in {}", wrong.join(", "));
}

#[test]
fn pure_rooms_are_pure() {
    let mut wrong = Vec::new();
    for (path, code) in all() {
        if PURE.contains(&room_of(&path)) {
            wrong.extend(IMPURE.iter().filter(|word| code.contains(**word)).map(|word| format!("{path} names {word}")));
        }
    }
    assert!(wrong.is_empty(), "not pure:\n{}", wrong.join("\n"));
}

#[test]
fn reconcile_is_pure() {
    let reconcile: Vec<_> = all().into_iter().filter(|(path, _)| path.starts_with("control/reconcile/")).collect();
    assert!(!reconcile.is_empty());
    let mut wrong = Vec::new();
    for (path, code) in reconcile {
        let named = NOT_IN_RECONCILE.iter().filter(|word| code.contains(**word));
        wrong.extend(named.map(|word| format!("{path} names {word}")));
    }
    assert!(wrong.is_empty(), "not pure:\n{}", wrong.join("\n"));
}

#[test]
fn bollard_stays_in_its_corner() {
    let wrong: Vec<String> = all()
        .into_iter()
        .filter(|(path, code)| code.contains("bollard::") && !BOLLARD.iter().any(|folder| path.starts_with(folder)))
        .map(|(path, _)| path)
        .collect();
    assert!(wrong.is_empty(), "these name bollard: {}", wrong.join(", "));
}

#[test]
fn only_render_prints() {
    let wrong: Vec<String> = all()
        .into_iter()
        .filter(|(path, code)| {
            room_of(path) != "render"
                && ["println!", "eprintln!", "io::stdout", "print!("].iter().any(|p| code.contains(p))
        })
        .map(|(path, _)| path)
        .collect();
    assert!(wrong.is_empty(), "these print: {}", wrong.join(", "));
}

/// The lint cannot forbid it: derives of a library write some.
#[test]
fn no_unsafe_code() {
    let written = |code: &str| {
        ["unsafe {", "unsafe fn", "unsafe impl", "unsafe trait", "unsafe extern"].iter().any(|word| code.contains(word))
    };
    let wrong: Vec<String> = all().into_iter().filter(|(_, code)| written(code)).map(|(path, _)| path).collect();
    assert!(wrong.is_empty(), "these write unsafe code: {}", wrong.join(", "));
}
