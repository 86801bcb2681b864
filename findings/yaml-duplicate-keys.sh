#!/usr/bin/env bash
# Usage: findings/yaml-duplicate-keys.sh
#
# Assumption: a key that is written twice is an error, at the location of the second one.
# Behaviour: yaml_serde, the continuation of serde_yaml, reports a duplicate field of a
# struct at the start of the document, and keeps the last of two equal map keys without an
# error. serde-saphyr behaves as assumed.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

mkdir src
cat >Cargo.toml <<'END'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"

[dependencies]
serde = { version = "=1.0.229", features = ["derive"] }
serde-saphyr = "=2.2.0"
yaml_serde = "=0.10.7"
END
cat >src/main.rs <<'END'
use std::collections::BTreeMap;

#[derive(Debug, serde::Deserialize)]
#[allow(dead_code)]
struct Service {
    name: String,
    #[serde(default)]
    env: BTreeMap<String, String>,
}

fn main() {
    let field = "name: a\nenv: {}\nname: b\n";
    let map = "name: a\nenv:\n  LOG: info\n  LOG: debug\n";
    for text in [field, map] {
        match yaml_serde::from_str::<Service>(text) {
            Ok(service) => println!("yaml_serde: {service:?}"),
            Err(error) => println!("yaml_serde: {error}, {:?}", error.location().map(|at| (at.line(), at.column()))),
        }
        match serde_saphyr::from_str::<Service>(text) {
            Ok(service) => println!("serde-saphyr: {service:?}"),
            Err(error) => println!("serde-saphyr: error at {:?}", error.location().map(|at| (at.line(), at.column()))),
        }
    }
}
END

echo "yaml_serde 0.10.7 and serde-saphyr 2.2.0, a duplicate field and a duplicate key:"
CARGO_TARGET_DIR=$dir/target cargo run --quiet | tee actual.txt
diff actual.txt - <<'END'
yaml_serde: duplicate field `name`, Some((1, 1))
serde-saphyr: error at Some((3, 1))
yaml_serde: Service { name: "a", env: {"LOG": "debug"} }
serde-saphyr: error at Some((4, 3))
END
