#!/usr/bin/env bash
# Usage: findings/podman-network-of-stopped.sh
#
# Assumption: only running containers keep a network in use, as with Docker.
# Behaviour: Podman refuses to remove the network of a stopped or created container, with
# status 500.
# (Debian: podman 5.8.6)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine podman 5.8.6

docker network create shop >/dev/null
docker create --name app --network shop busybox true >/dev/null
{
    echo "with a container that was never started: $(code DELETE /networks/shop)"
    api DELETE /networks/shop | jq -r .cause
    docker rm app >/dev/null
    echo "without it: $(code DELETE /networks/shop)"
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
with a container that was never started: 500
network is being used
without it: 204
EXPECTED
