#!/usr/bin/env bash
# Usage: findings/yaml-writer-quotes.sh
#
# Assumption: a YAML writer quotes every string that a common YAML reader would parse as
# another type.
# Behaviour: yaml_serde, the continuation of serde_yaml, quotes strings that YAML 1.2
# would parse differently. PyYAML implements YAML 1.1, so strings such as a port mapping
# `22:22` become booleans, numbers or dates.
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
yaml_serde = "=0.10.7"
END
cat >src/main.rs <<'END'
fn main() {
    let strings = ["no", "on", "22:22", "8080:80", "1_000", "2026-11-27", "012"];
    print!("{}", yaml_serde::to_string(&strings).expect("strings can be written"));
}
END
CARGO_TARGET_DIR=$dir/target cargo run --quiet >written.yaml
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check PyYAML==6.0.2
venv/bin/python - >read.txt <<'END'
import yaml
for value in yaml.safe_load(open("written.yaml")):
    print(repr(value))
END

echo "yaml_serde 0.10.7 writes the strings, PyYAML 6.0.2 reads them:"
paste written.yaml read.txt | tee actual.txt
diff actual.txt - <<'END'
- no	False
- on	True
- 22:22	1342
- 8080:80	'8080:80'
- 1_000	1000
- 2026-11-27	datetime.date(2026, 11, 27)
- '012'	'012'
END
