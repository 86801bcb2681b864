#!/usr/bin/env bash
# Usage: findings/podman-network-by-id.sh
#
# Assumption: the network of a running container cannot be removed, whether it is named by
# its name or by its id.
# Behaviour: Podman's Docker API looks for containers by what was asked for, and finds them
# only by the name: by its id, the network is removed. The removal of the container reports
# an error then, and removes it all the same.
# (Debian: podman 5.8.6)
set -euo pipefail
# shellcheck source=findings/engine.sh
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"
start_engine podman 5.8.6

docker network create shop >/dev/null
docker run --detach --name app --network shop busybox sleep 1000 >/dev/null
id=$(docker network inspect --format '{{.Id}}' shop)
{
    echo "by name: $(code DELETE /networks/shop)"
    echo "by id: $(code DELETE "/networks/$id")"
    echo "the container is $(state app '{{.State.Status}}'), the network: $(code GET /networks/shop)"
    echo "removal of the container: $(code DELETE '/containers/app?force=true'), then: $(code GET /containers/app/json)"
} | tee "$dir/actual.txt"
expect <<'EXPECTED'
by name: 500
by id: 204
the container is running, the network: 404
removal of the container: 500, then: 404
EXPECTED
