//! Module dependencies: scans `use` lines and every path that begins with `crate::` for dependencies that are not
//! allowed.

#![allow(clippy::unwrap_used)] // a panic fails the test

use std::fs;
use std::path::{Path, PathBuf};

/// Top-level modules with the modules each may depend on.
const MODULES: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("identity", &[]),
    ("lease", &["identity"]),
    ("spec", &["types"]),
    ("capabilities", &["spec"]),
    ("desired", &["types", "spec", "capabilities", "identity"]),
    ("observed", &["types", "spec", "capabilities", "identity"]),
    ("plan", &["types", "spec", "capabilities", "identity", "desired", "observed"]),
    ("status", &["types", "spec", "capabilities", "identity", "desired", "observed", "plan"]),
    ("engine", &["types", "spec", "capabilities", "identity", "desired", "observed"]),
    ("export", &["spec", "identity", "desired"]),
    (
        "control",
        &["types", "spec", "capabilities", "identity", "lease", "desired", "observed", "plan", "status", "engine"],
    ),
    (
        "render",
        &[
            "types",
            "spec",
            "capabilities",
            "identity",
            "lease",
            "desired",
            "observed",
            "plan",
            "status",
            "engine",
            "control",
            "export",
        ],
    ),
    (
        "cli",
        &[
            "types",
            "spec",
            "capabilities",
            "identity",
            "lease",
            "desired",
            "observed",
            "plan",
            "status",
            "engine",
            "control",
            "export",
            "render",
        ],
    ),
];

/// Modules without clock, files, environment, randomness or engine, and the paths that would introduce them.
const PURE: &[&str] =
    &["types", "identity", "lease", "spec", "capabilities", "desired", "observed", "plan", "status", "export"];
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

/// Paths not allowed in the controller's state machine: it is synchronous, and time comes with its events.
const NOT_IN_RECONCILE: &[&str] =
    &["control::execute", "control::ipc", "super::execute", "super::ipc", "tokio", "std::fs", "Instant", "SystemTime"];

/// The only directories that may use bollard.
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

fn module_of(path: &str) -> &str {
    path.split('/').next().unwrap().trim_end_matches(".rs")
}

/// Returns the code of a file without comments and tests; tests may use every module.
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
fn modules_depend_only_on_allowed_modules() {
    let mut wrong = Vec::new();
    for (path, code) in all() {
        let module = module_of(&path);
        if ["main", "lib"].contains(&module) {
            continue;
        }
        let (_, allowed) =
            MODULES.iter().find(|(name, _)| *name == module).unwrap_or_else(|| panic!("unknown module: {path}"));
        for (other, _) in MODULES {
            let path_prefix = format!("crate::{other}");
            let used = code
                .match_indices(&path_prefix)
                .any(|(at, _)| !code[at + path_prefix.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_'));
            if *other != module && used && !allowed.contains(other) {
                wrong.push(format!("{path} uses {path_prefix}"));
            }
        }
    }
    assert!(wrong.is_empty(), "forbidden dependencies:\n{}", wrong.join("\n"));
}

#[test]
fn uses_in_braces_are_rejected() {
    // The test above only finds `crate::module`, not `use crate::{a, b}`.
    let wrong: Vec<String> =
        all().into_iter().filter(|(_, code)| code.contains("crate::{")).map(|(path, _)| path).collect();
    let wrong: Vec<String> = wrong.into_iter().filter(|path| module_of(path) != "cli").collect();
    assert!(wrong.is_empty(), "use one `use crate::module` per line in {}", wrong.join(", "));
}

#[test]
fn pure_modules_are_pure() {
    let mut wrong = Vec::new();
    for (path, code) in all() {
        if PURE.contains(&module_of(&path)) {
            wrong.extend(IMPURE.iter().filter(|word| code.contains(**word)).map(|word| format!("{path} uses {word}")));
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
        let used = NOT_IN_RECONCILE.iter().filter(|word| code.contains(**word));
        wrong.extend(used.map(|word| format!("{path} uses {word}")));
    }
    assert!(wrong.is_empty(), "not pure:\n{}", wrong.join("\n"));
}

#[test]
fn only_engine_modules_use_bollard() {
    let wrong: Vec<String> = all()
        .into_iter()
        .filter(|(path, code)| code.contains("bollard::") && !BOLLARD.iter().any(|folder| path.starts_with(folder)))
        .map(|(path, _)| path)
        .collect();
    assert!(wrong.is_empty(), "bollard used in: {}", wrong.join(", "));
}

#[test]
fn only_render_prints() {
    let wrong: Vec<String> = all()
        .into_iter()
        // The functions in render/mod.rs print safe text.
        .filter(|(path, code)| {
            // The standard output of a worker is a file for its parent.
            !["render/mod.rs", "control/programs/worker.rs"].contains(&path.as_str())
                && ["println!", "eprintln!", "print!(", "io::stdout", "io::stderr"].iter().any(|p| code.contains(p))
        })
        .map(|(path, _)| path)
        .collect();
    assert!(wrong.is_empty(), "printing in: {}", wrong.join(", "));
}

/// The lint cannot be set to `forbid`: derives of a library allow unsafe code.
#[test]
fn no_unsafe_code() {
    let written = |code: &str| {
        ["unsafe {", "unsafe fn", "unsafe impl", "unsafe trait", "unsafe extern"].iter().any(|word| code.contains(word))
    };
    let wrong: Vec<String> = all().into_iter().filter(|(_, code)| written(code)).map(|(path, _)| path).collect();
    assert!(wrong.is_empty(), "unsafe code in: {}", wrong.join(", "));
}
