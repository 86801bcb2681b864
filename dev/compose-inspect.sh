#!/usr/bin/env bash
# Usage: dev/compose-inspect.sh STACK...
#
# Runs each STACK with Docker Compose, then with drillmaster, and compares what `docker
# inspect` says of its containers, networks and volumes, key by key. A STACK is named as for
# dev/compose-compare.sh. Prints the differences that are not explained, and fails if there
# are any.
#
# Stacks run under names of their own, `inspect-…`, with a small image in place of theirs.
# Their ports must be free. Docker Compose as for dev/compose-compare.sh.
set -euo pipefail
# shellcheck source=findings/compose.sh
source "$(dirname "${BASH_SOURCE[0]}")/../findings/compose.sh"
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

(($# > 0)) || die "no stack" "usage: dev/compose-inspect.sh STACK..."
stacks=$(stacks "$@")
need_rust
install_compose
cd "$project"
use_engine
"${inside[@]}" dev/images.sh
cargo test --no-run --test compose
DRILLMASTER_COMPOSE=$(realpath "$COMPOSE") DRILLMASTER_STACKS=$stacks \
    "${inside[@]}" cargo test --test compose -- --ignored --nocapture --exact inspect::containers_are_the_same
