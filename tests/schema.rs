//! The schema that editors use is the one that this version understands.

#![allow(clippy::unwrap_used)] // a test that cannot read its input fails

use std::fs;
use std::path::Path;

use serde_json::Value;

const FILE: &str = "schema/drillmaster.schema.json";

#[test]
fn the_file_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let written: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert!(
        written == drillmaster::spec::schema(),
        "{FILE} is not what the specs' types say; write it anew: cargo run -- schema > {FILE}"
    );
}

/// Spec directories in the repository name it in their first line, by a path that leads to it.
#[test]
fn specs_and_examples_lead_editors_to_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut directories = vec![root.join("specs"), root.join("examples")];
    let mut seen = 0;
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yaml") {
                let text = fs::read_to_string(&path).unwrap();
                let schema = text.lines().next().and_then(|line| line.strip_prefix("# yaml-language-server: $schema="));
                let schema = schema.unwrap_or_else(|| panic!("{} names no schema", path.display()));
                let target = path.parent().unwrap().join(schema);
                assert!(target.exists(), "{} names {schema}, which is not there", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen >= 6);
}
