#!/usr/bin/env bash
# Usage: dev/compose-compare.sh [STACK]...
#
# Compares what drillmaster and Docker Compose read from compose files, key by key: the facts
# and the mutated files of tests/compose, and each STACK: a directory, or compose files
# separated by commas, the first in the directory of the project. Prints the differences that
# are not explained, and fails if there are any.
#
# Docker Compose is that of Debian unstable, unpacked into a temporary folder; no engine is
# needed. $COMPOSE may name a docker-compose instead.
set -euo pipefail
# shellcheck source=findings/compose.sh
source "$(dirname "${BASH_SOURCE[0]}")/../findings/compose.sh"
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

stacks=$(stacks "$@")
need_rust
install_compose
cd "$project"
DRILLMASTER_COMPOSE=$(realpath "$COMPOSE") DRILLMASTER_STACKS=$stacks \
    cargo test --test compose -- --ignored --nocapture --test-threads 1 --skip inspect::
