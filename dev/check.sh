#!/usr/bin/env bash
# Usage: dev/check.sh
#
# Every check and test. ENGINE=next runs them on a current engine of its own.
set -euo pipefail
# shellcheck source=dev/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

run() {
    say "+ $*"
    "$@"
}

need_rust
use_engine
dev/images.sh

run cargo fmt --check
run cargo clippy --locked --all-targets -- -D warnings
RUSTDOCFLAGS='-D warnings' run cargo doc --locked --no-deps --document-private-items --lib
# Where they are installed.
if command -v shellcheck >/dev/null; then run shellcheck -x dev/*.sh demo/*/*.sh .ci/run; fi
if command -v cargo-deny >/dev/null; then run cargo deny --locked check licenses bans sources; fi

# Building takes minutes: build first, then see that the engine is still well.
run cargo test --locked --no-run
use_engine
run cargo test --locked
