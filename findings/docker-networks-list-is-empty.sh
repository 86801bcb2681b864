#!/usr/bin/env bash
# Usage: findings/docker-networks-list-is-empty.sh
#
# Assumption: the list of networks and the inspection of a network agree on its containers.
# Behaviour: the list has the field Containers, always empty; only the inspection fills it,
# and only with running containers. Podman fills both.
# (Debian: docker.io 28.5.2)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine docker-overlay2 28.5.2

docker network create shop >/dev/null
docker run --detach --name running --network shop busybox sleep 1000 >/dev/null
docker create --name created --network shop busybox sleep 1000 >/dev/null
{
    echo "list: $(api GET /networks | jq -c '.[] | select(.Name == "shop") | .Containers')"
    echo "inspection: $(api GET /networks/shop | jq -c '.Containers | map(.Name)')"
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
list: {}
inspection: ["running"]
EXPECTED
