//! Upgrades: containers of an earlier version are not replaced.
//!
//! `fixtures/labels-0.1.json` contains the labels that commit 7b6c199 wrote for the examples.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use drillmaster::desired::Desired;
use drillmaster::desired::resolve::{ResolveContext, resolve};
use drillmaster::identity::{Identity, SPEC};
use drillmaster::observed::{Container, Health, Observed, State};
use drillmaster::plan::diff::{Comparison, compare};
use drillmaster::render::diagnostics;
use drillmaster::spec::starlark::NoPrograms;
use drillmaster::spec::{Content, Input, SourceFile, TreeError, load};
use serde_json::{Map, Value};

const LABELS: &str = include_str!("fixtures/labels-0.1.json");

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

/// Reads specs as if they were in `directory`.
fn read(texts: &[(String, Vec<u8>)], home: &Path, directory: &str, group: &str) -> Desired {
    let file = |(path, bytes): &(String, Vec<u8>)| SourceFile {
        path: path.clone(),
        content: Content::Bytes(bytes.as_slice().into()),
    };
    let files: Vec<SourceFile> = texts.iter().map(file).collect();
    let specs = load(&Input {
        dir: "specs",
        files: &files,
        dotenv: &[],
        environment: &BTreeMap::new(),
        lenient: false,
        profiles: &Default::default(),
        context: &BTreeMap::new(),
        read: &|path: &str| fs::read(home.join(path)).map_err(|error| error.to_string()),
        tree: &|_| Err(TreeError::Context("no build in this test".into())),
        interpreter: &NoPrograms,
    });
    let specs = specs.unwrap_or_else(|errors| panic!("{}", diagnostics::render(&errors, false)));
    resolve(&specs, ResolveContext { group: Some(group), directory, home: None })
}

fn read_example(name: &str) -> Desired {
    let home = example(name);
    let yaml = |path: PathBuf| path.extension().is_some_and(|extension| extension == "yaml").then_some(path);
    let paths = fs::read_dir(&home).unwrap().filter_map(|entry| yaml(entry.unwrap().path()));
    let texts: Vec<(String, Vec<u8>)> =
        paths.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap())).collect();
    read(&texts, &home, &format!("/srv/examples/{name}"), &format!("upg-{name}"))
}

/// Returns the identity in labels, with the spec as compact JSON as on the engine.
fn identity(labels: &Map<String, Value>) -> Identity {
    let text = |(key, value): (&String, &Value)| match value {
        Value::String(text) => (key.clone(), text.clone()),
        value => (key.clone(), value.to_string()),
    };
    let labels: HashMap<String, String> = labels.iter().map(text).collect();
    assert!(labels[SPEC].starts_with('{'), "{labels:?}");
    Identity::from_labels(&labels).unwrap()
}

fn container(identity: Identity) -> Container {
    Container {
        id: "id".into(),
        name: "name".into(),
        image: String::new(),
        identity: Some(identity),
        inherited: None,
        compose: None,
        image_id: String::new(),
        state: State::Running,
        health: Health::None,
        network_mode: String::new(),
        networks: Vec::new(),
        ports: Vec::new(),
        mounts: Vec::new(),
        created: 0,
        details: None,
    }
}

#[test]
fn containers_of_an_earlier_version_match_their_specs() {
    let examples: BTreeMap<String, Vec<Map<String, Value>>> = serde_json::from_str(LABELS).unwrap();
    let mut compared = 0;
    for (name, containers) in examples {
        let desired = read_example(&name);
        // Services of fields that came later are not recorded.
        assert!(containers.len() <= desired.services.len(), "{name}");
        for labels in containers {
            let identity = identity(&labels);
            let service = desired.instance_of(&identity).unwrap();
            let service = &desired.services[&*service];
            let hashes = (&service.fingerprint.spec_hash, &service.fingerprint.env_hash, &service.fingerprint.applied);
            assert_eq!(hashes, (&identity.spec_hash, &identity.env_hash, &identity.spec), "{name}: {}", service.name);
            let container = container(identity.clone());
            let found = compare(service, &container, &identity, &Observed::default(), false);
            assert_eq!(found, Comparison::default(), "{name}: {}", service.name);
            compared += 1;
        }
    }
    assert!(compared >= 20, "{compared}");
}

#[test]
fn former_spellings_load_to_the_same_spec() {
    let spec = |health: &str, order: &str| {
        let text = format!("name: a\nimage: x\nping: {{tcp: 80}}\nhealth: {health}\nupdate: {{order: {order}}}\n");
        read(&[("app.yaml".to_owned(), text.into_bytes())], Path::new("/"), "/srv/shop/specs", "shop").services
    };
    let now = spec("{interval: 5s, retries: 2, action: replace}", "auto");
    assert_eq!(spec("{every: 5s, failures: 2, then: replace}", "recreate"), now);
    assert_ne!(spec("{every: 5s, failures: 3, then: replace}", "recreate"), now);
}

#[test]
fn former_and_current_spelling_together_are_an_error() {
    let files = [SourceFile {
        path: "app.yaml".into(),
        content: Content::Bytes(b"name: a\nimage: x\nping: {tcp: 80}\nhealth: {every: 1s, interval: 2s}\n"[..].into()),
    }];
    let errors = load(&Input {
        dir: "specs",
        files: &files,
        dotenv: &[],
        environment: &BTreeMap::new(),
        lenient: false,
        profiles: &Default::default(),
        context: &BTreeMap::new(),
        read: &|_: &str| Err("no such file".into()),
        tree: &|_| Err(TreeError::Context("no build in this test".into())),
        interpreter: &NoPrograms,
    });
    let text = diagnostics::render(&errors.unwrap_err(), false);
    assert!(text.contains("interval") && text.contains("app.yaml:4"), "{text}");
}
