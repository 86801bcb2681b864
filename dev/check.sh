#!/usr/bin/env bash
# Usage: dev/check.sh
#
# Runs all checks and tests. With another ENGINE than the system's, only the tests that need
# an engine.
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
"${inside[@]}" dev/images.sh

if [[ $ENGINE != system ]]; then
    run cargo test --locked --no-run --test engine --test e2e
    skip=()
    # Its builds install packages, and an engine in a network of its own has no way out.
    [[ ${#inside[@]} == 0 ]] || skip=(--skip demo::todos_survive_replacement_and_down)
    run "${inside[@]}" cargo test --locked --offline --no-fail-fast --test engine --test e2e -- "${skip[@]}"
    exit
fi

run cargo fmt --all --check
run cargo clippy --locked --workspace --all-targets -- -D warnings
RUSTDOCFLAGS='-D warnings' run cargo doc --locked --no-deps --document-private-items --lib
need_shellcheck
run shellcheck -x .ci/run dev/*.sh demo/*/*.sh examples/*/*.sh examples/*/*/*.sh findings/*.sh
need_cargo_deny
# Advisories are skipped: their database may be unreachable.
run cargo deny --locked check --hide-inclusion-graph licenses bans sources

# Building takes minutes: build first, then check that the engine still responds.
run cargo test --locked --no-run
use_engine
run cargo test --locked
