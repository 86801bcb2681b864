#!/usr/bin/env bash
# Usage: findings/podman-engine-id.sh
#
# Assumption: the ID in `/info` identifies an engine; clients store state by it.
# Behaviour: Podman makes a new one for each request.
# (Debian: podman 5.8.6)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine podman 5.8.6

[[ $(api GET /info | jq -r .ID) == "$(api GET /info | jq -r .ID)" ]] && same=yes || same=no
echo "two requests, the same ID: $same" | tee "$dir/actual.txt"
expect <<'EXPECTED'
two requests, the same ID: no
EXPECTED
